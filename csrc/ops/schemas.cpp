/* The ops as PyTorch sees them. Every neuron has three, with the same signatures as those of all
 * others. torch_lif::<neuron> is what users call; it is differentiable. torch_lif::<neuron>_forward
 * also returns what the backward needs (memory: op.h). torch_lif::<neuron>_backward computes from
 * it the gradients that are asked for. Lists hold one entry for each input, parameter, state or
 * option, in the order of the neuron's header. */
#include <torch/library.h>

#include "../neuron/neurons.h"
#include "autograd.h"

#define CONFIG_SCHEMA                                                                          \
  "float[] options, str surrogate, float[] surrogate_params, bool smooth, int synapses, bool " \
  "batch_first, int[] record, "                                                                \
  "str memory"
#define PUBLIC_SCHEMA \
  "(Tensor?[] inputs, Tensor?[] params, Tensor?[] state, " CONFIG_SCHEMA ") -> Tensor[]"
#define BACKWARD_SCHEMA                                                                 \
  "(Tensor?[] grads, Tensor?[] inputs, Tensor?[] params, Tensor[] kept, " CONFIG_SCHEMA \
  ", bool resumed, int[] needs) "                                                       \
  "-> Tensor[]"

#define CONFIG_PARAMETERS                                                                          \
  at::ArrayRef<double> options, c10::string_view surrogate, at::ArrayRef<double> surrogate_params, \
      bool smooth, int64_t synapses, bool batch_first, at::IntArrayRef record,                     \
      c10::string_view memory
#define CONFIG \
  Config { options, surrogate, surrogate_params, smooth, synapses, batch_first, record, memory }
#define CONFIG_ARGUMENTS                                                                     \
  config.options, config.surrogate, config.surrogate_params, config.smooth, config.synapses, \
      config.batch_first, config.record, config.memory

namespace lif {

#define ID(name) ID_##name,
enum { LIF_NEURONS(ID) NEURON_COUNT };
#define NAME(name) "torch_lif::" #name,
static const char *const op_names[] = {LIF_NEURONS(NAME)};

using PublicSignature = Tensors(const OptionalTensors &, const OptionalTensors &,
                                const OptionalTensors &, CONFIG_PARAMETERS);
using BackwardSignature = Tensors(const OptionalTensors &, const OptionalTensors &,
                                  const OptionalTensors &, at::TensorList, CONFIG_PARAMETERS, bool,
                                  at::IntArrayRef);

template <class Signature>
static std::vector<c10::TypedOperatorHandle<Signature>> find(const char *suffix) {
  std::vector<c10::TypedOperatorHandle<Signature>> ops;
  for (const char *name : op_names)
    ops.push_back(c10::Dispatcher::singleton()
                      .findSchemaOrThrow((std::string(name) + suffix).c_str(), "")
                      .typed<Signature>());
  return ops;
}

Tensors call_public(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                    const OptionalTensors &state, const Config &config) {
  static const auto ops = find<PublicSignature>("");
  return ops[index].call(inputs, params, state, CONFIG_ARGUMENTS);
}

Tensors call_forward(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                     const OptionalTensors &state, const Config &config) {
  static const auto ops = find<PublicSignature>("_forward");
  return ops[index].call(inputs, params, state, CONFIG_ARGUMENTS);
}

Tensors call_backward(int index, const OptionalTensors &grads, const OptionalTensors &inputs,
                      const OptionalTensors &params, at::TensorList kept, const Config &config,
                      bool resumed, at::IntArrayRef needs) {
  static const auto ops = find<BackwardSignature>("_backward");
  return ops[index].call(grads, inputs, params, kept, CONFIG_ARGUMENTS, resumed, needs);
}

/* The kernels of one neuron; the dispatcher wants a function for each. The device kernels switch
 * autograd off, because its keys are still on if an inner op is called by itself: PyTorch's
 * operations in the kernels would then be recorded, or would refuse to run. */
template <int index>
struct Kernels {
  static Tensors plain(const OptionalTensors &inputs, const OptionalTensors &params,
                       const OptionalTensors &state, CONFIG_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return forward(index, Readable(inputs), Readable(params), Readable(state), CONFIG, false);
  }
  static Tensors with_gradient(const OptionalTensors &inputs, const OptionalTensors &params,
                               const OptionalTensors &state, CONFIG_PARAMETERS) {
    return differentiable(index, inputs, params, state, CONFIG);
  }
  static Tensors for_backward(const OptionalTensors &inputs, const OptionalTensors &params,
                              const OptionalTensors &state, CONFIG_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return forward(index, Readable(inputs), Readable(params), Readable(state), CONFIG, true);
  }
  static Tensors gradient(const OptionalTensors &grads, const OptionalTensors &inputs,
                          const OptionalTensors &params, at::TensorList kept, CONFIG_PARAMETERS,
                          bool resumed, at::IntArrayRef needs) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return backward(index, Readable(grads), Readable(inputs), Readable(params), kept, CONFIG,
                    resumed, needs);
  }
  static Tensors gradient_once(const OptionalTensors &grads, const OptionalTensors &inputs,
                               const OptionalTensors &params, at::TensorList kept,
                               CONFIG_PARAMETERS, bool resumed, at::IntArrayRef needs) {
    return backward_once(index, grads, inputs, params, kept, CONFIG, resumed, needs);
  }
};

TORCH_LIBRARY(torch_lif, m) {
#define SCHEMAS(name)                    \
  m.def(#name PUBLIC_SCHEMA);            \
  m.def(#name "_forward" PUBLIC_SCHEMA); \
  m.def(#name "_backward" BACKWARD_SCHEMA);
  LIF_NEURONS(SCHEMAS)
}

#define DEVICE_KERNELS(name)                                   \
  m.impl(#name, &Kernels<ID_##name>::plain);                   \
  m.impl(#name "_forward", &Kernels<ID_##name>::for_backward); \
  m.impl(#name "_backward", &Kernels<ID_##name>::gradient);
// clang-format off
TORCH_LIBRARY_IMPL(torch_lif, CPU, m) { LIF_NEURONS(DEVICE_KERNELS) }
TORCH_LIBRARY_IMPL(torch_lif, CUDA, m) { LIF_NEURONS(DEVICE_KERNELS) }
TORCH_LIBRARY_IMPL(torch_lif, Meta, m) { LIF_NEURONS(DEVICE_KERNELS) }
/* For tensors of every other kind (sparse, quantized, nested; other devices): the op's checks say
 * what to do instead. */
TORCH_LIBRARY_IMPL(torch_lif, CompositeExplicitAutograd, m) { LIF_NEURONS(DEVICE_KERNELS) }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorCPU, m) { LIF_NEURONS(DEVICE_KERNELS) }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorCUDA, m) { LIF_NEURONS(DEVICE_KERNELS) }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorMeta, m) { LIF_NEURONS(DEVICE_KERNELS) }
#define PASS_ON(name) m.impl(#name "_forward", torch::CppFunction::makeFallthrough());
TORCH_LIBRARY_IMPL(torch_lif, AutogradNestedTensor, m) { LIF_NEURONS(PASS_ON) }
// clang-format on

#define AUTOGRAD_KERNELS(name)                       \
  m.impl(#name, &Kernels<ID_##name>::with_gradient); \
  m.impl(#name "_backward", &Kernels<ID_##name>::gradient_once);
TORCH_LIBRARY_IMPL(torch_lif, Autograd, m) {
  LIF_NEURONS(AUTOGRAD_KERNELS)
}

}  // namespace lif

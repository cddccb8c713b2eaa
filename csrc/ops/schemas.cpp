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

using PublicSignature = Tensors(const OptionalTensors &, const OptionalTensors &,
                                const OptionalTensors &, CONFIG_PARAMETERS);
using BackwardSignature = Tensors(const OptionalTensors &, const OptionalTensors &,
                                  const OptionalTensors &, at::TensorList, CONFIG_PARAMETERS, bool,
                                  at::IntArrayRef);

static std::string op_name(int index, const char *suffix) {
  return std::string(neuron(index).name) + suffix;
}

template <class Signature>
static std::vector<c10::TypedOperatorHandle<Signature>> find(const char *suffix) {
  std::vector<c10::TypedOperatorHandle<Signature>> ops;
  for (int index = 0; index < neuron_count(); index++)
    ops.push_back(c10::Dispatcher::singleton()
                      .findSchemaOrThrow(("torch_lif::" + op_name(index, suffix)).c_str(), "")
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

/* From neuron `index` on, to the library's dispatch key. */
template <int index = 0>
static void add_device_kernels(torch::Library &m) {
  if constexpr (index < LIF_NEURON_COUNT) {
    m.impl(op_name(index, "").c_str(), &Kernels<index>::plain);
    m.impl(op_name(index, "_forward").c_str(), &Kernels<index>::for_backward);
    m.impl(op_name(index, "_backward").c_str(), &Kernels<index>::gradient);
    add_device_kernels<index + 1>(m);
  }
}

template <int index = 0>
static void add_autograd_kernels(torch::Library &m) {
  if constexpr (index < LIF_NEURON_COUNT) {
    m.impl(op_name(index, "").c_str(), &Kernels<index>::with_gradient);
    m.impl(op_name(index, "_backward").c_str(), &Kernels<index>::gradient_once);
    add_autograd_kernels<index + 1>(m);
  }
}

TORCH_LIBRARY(torch_lif, m) {
  for (int index = 0; index < neuron_count(); index++) {
    m.def(op_name(index, PUBLIC_SCHEMA).c_str());
    m.def(op_name(index, "_forward" PUBLIC_SCHEMA).c_str());
    m.def(op_name(index, "_backward" BACKWARD_SCHEMA).c_str());
  }
}
TORCH_LIBRARY_IMPL(torch_lif, CPU, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, CUDA, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, Meta, m) { add_device_kernels(m); }
/* For tensors of every other kind (sparse, quantized, nested; other devices): the op's checks say
 * what to do instead. */
TORCH_LIBRARY_IMPL(torch_lif, CompositeExplicitAutograd, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorCPU, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorCUDA, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, NestedTensorMeta, m) { add_device_kernels(m); }
TORCH_LIBRARY_IMPL(torch_lif, AutogradNestedTensor, m) {
  for (int index = 0; index < neuron_count(); index++)
    m.impl(op_name(index, "_forward").c_str(), torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(torch_lif, Autograd, m) { add_autograd_kernels(m); }

}  // namespace lif

/* What the files of the op layer share. The ops of every neuron have the same signatures
 * (schemas.cpp). A neuron is its index in the list of neurons. The names in errors come from the
 * neuron's description. */
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/List.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "registry.h"

namespace lif {

using OptionalTensors = c10::List<std::optional<Tensor>>;
using Tensors = std::vector<Tensor>;

/* A list from the dispatcher, unpacked once, because every access to a c10::List makes a new
 * tensor. A tensor that was left out is undefined. It is passed on as an at::TensorList. */
struct Unpacked : c10::SmallVector<Tensor, LIF_MAX_PARAMS> {
  explicit Unpacked(const OptionalTensors &list) {
    for (size_t k = 0; k < list.size(); k++) push_back(list.get(k).value_or(Tensor()));
  }
};

/* A list from the dispatcher for the loops, which read memory as it is. PyTorch has tensors whose
 * memory means something else: with the negative bit (z.conj().imag) the memory holds the negatives
 * of the numbers, and a tensor of zeros may have no memory at all. */
struct Readable : Unpacked {
  explicit Readable(const OptionalTensors &list) : Unpacked(list) {
    for (Tensor &t : *this) {
      if (!t.defined()) continue;
      if (t._is_zerotensor())
        t = at::zeros_symint({}, t.options()).expand_symint(t.sym_sizes());
      else if (t.is_neg())
        t = t.resolve_neg();
    }
  }
};

/* The arguments of an op that are not tensors: views of what the caller holds. */
struct Config {
  at::ArrayRef<double> options;
  c10::string_view surrogate;
  at::ArrayRef<double> surrogate_params;
  bool smooth;
  int64_t synapses;
  bool batch_first;
  at::IntArrayRef record;  /* 0 or 1 per state */
  c10::string_view memory; /* what the forward keeps for the backward, one of the names below */
};

/* What the forward keeps for the backward has three names, everywhere: "mask", "recompute" (a state
 * every LIF_CHECKPOINT_INTERVAL steps) and, with recurrent weights alone, "save" (every state). The
 * public op takes the first two, or "": then choose_memory takes the one that needs the least
 * memory. The inner ops are told what has been chosen; with "" the forward op keeps nothing.
 *
 * Steps cannot be replayed with recurrence. A mask is enough only for some calls. Raises ValueError
 * if config.memory asks for what is not possible. */
c10::string_view choose_memory(const lif_neuron &neuron, at::TensorList params,
                               const Config &config, bool param_gradients);

/* Whether the backward reads the values of the inputs. It does not from the mask. */
inline bool reads_inputs(c10::string_view memory) { return memory != "mask"; }

/* Returns [out, last state..., records...], and then what is kept: the mask, or the kept states of
 * each state; and with recurrence the recurrent input of each step, (time, batch, currents). States
 * that the layer does not have are left out. With keep false nothing is kept. */
Tensors forward(int index, at::TensorList inputs, at::TensorList params, at::TensorList state,
                const Config &config, bool keep);

/* Gradients of the inputs, parameters and first state whose flag in `needs` is set, in this order.
 * grads are those of [out, last state..., records...]; one that is undefined is zero. kept is what
 * the forward returned behind the records. Of inputs whose values are not read only the layout
 * counts. resumed: whether initial spikes were given, so that the first step had a recurrent
 * input. */
Tensors backward(int index, at::TensorList grads, at::TensorList inputs, at::TensorList params,
                 at::TensorList kept, const Config &config, bool resumed, at::IntArrayRef needs);

}  // namespace lif

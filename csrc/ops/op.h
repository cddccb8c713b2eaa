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
  c10::string_view memory; /* what the forward keeps for the backward: "mask", "recompute", "save";
                              "": the op chooses */
};

/* `interval`, below and in the files of the op layer, says what the forward keeps for the backward.
 * 0: nothing. 1: every state. LIF_CHECKPOINT_INTERVAL: a checkpoint every so many time steps; the
 * backward computes the steps between again. MASK: the mask instead of checkpoints. */
enum : int64_t { MASK = -1 };

/* The interval that config.memory asks for or, if that is empty, the one that needs the least
 * memory. Steps cannot be replayed with recurrence, nor on CUDA with more synapses than it keeps in
 * registers. A mask is enough only for some calls. Raises ValueError if config.memory asks for what
 * is not possible. */
int64_t choose_memory(const lif_neuron &neuron, const Tensor &x, at::TensorList params,
                      const Config &config, bool param_gradients);

/* Returns [out, last state..., records...]. With an interval these follow: the checkpoints of each
 * state, or the mask, and with recurrence the recurrent input of each step, (time, batch,
 * currents). States that the layer does not have are left out. */
Tensors forward(int index, at::TensorList inputs, at::TensorList params, at::TensorList state,
                const Config &config, int64_t interval);

/* Gradients of the inputs, parameters and first state whose flag in `needs` is set, in this order.
 * grads are those of [out, last state..., records...]; one that is undefined is zero. checkpoints
 * are what the forward returned behind the records. resumed: whether initial spikes were given, so
 * that the first step had a recurrent input. */
Tensors backward(int index, at::TensorList grads, at::TensorList inputs, at::TensorList params,
                 at::TensorList checkpoints, const Config &config, int64_t interval, bool resumed,
                 at::IntArrayRef needs);

}  // namespace lif

/* What the files of the op layer share. The ops of every neuron have the same signatures (schemas.cpp); a neuron is its
 * index in the list of neurons, and the names in errors come from its description. */
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/List.h>
#include <ATen/ops/zeros.h>
#include <c10/util/SmallVector.h>

#include <vector>

#include "../neuron/args.h"

namespace lif {

using at::Tensor;
using OptionalTensors = c10::List<std::optional<Tensor>>;
using Tensors = std::vector<Tensor>;

/* A list as the dispatcher has it, unpacked once: every look into a c10::List makes a tensor anew. What was left out is undefined.
 * Passed on as an at::TensorList. */
struct Unpacked : c10::SmallVector<Tensor, LIF_MAX_PARAMS> {
  explicit Unpacked(const OptionalTensors &list) {
    for (size_t k = 0; k < list.size(); k++) push_back(list.get(k).value_or(Tensor()));
  }
};

/* The same for the loops, which read memory as it is. PyTorch has tensors that mean something else: with the negative bit
 * (z.conj().imag) the memory holds the numbers' negatives, and a tensor of zeros may have no memory at all. */
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
  at::IntArrayRef record;  /* 0 or 1 a state */
  c10::string_view memory; /* what the backward needs from the forward: "mask", "recompute", "save"; "": chosen by itself */
};

int neuron_count();
const lif_neuron &neuron(int index);
const lif_surrogate *surrogates();                          /* ended by a null name */
const lif_surrogate *find_surrogate(c10::string_view name); /* null: there is none */

/* Whether the layer has recurrent weights, and their places among the parameters and states. */
bool has_recurrence(const lif_neuron &neuron, at::TensorList params);
inline int weights_place(const lif_neuron &neuron) { return neuron.n_params - 2; }
inline int bias_place(const lif_neuron &neuron) { return neuron.n_params - 1; }
inline int spikes_place(const lif_neuron &neuron) { return neuron.n_states - 1; }

/* What the forward leaves for the backward, as one number: time steps between checkpoints (LIF_CHECKPOINT_INTERVAL: the steps
 * between are computed again; 1: every state is saved), or MASK: the mask in their place. 0: nothing. */
enum : int64_t { MASK = -1 };

/* By config.memory, or the least memory that will do. A replay is not possible with recurrence, nor on CUDA with more synapses
 * than are kept in registers; a mask is enough only for some. Refuses by ValueError what cannot be had. */
int64_t choose_memory(const lif_neuron &neuron, const Tensor &x, at::TensorList params, const Config &config, bool param_gradients);

/* [out, last state..., records...], and with an interval the checkpoints of each state, or the mask, and with recurrence its input
 * of each step, (time, batch, currents). States that the layer does not have are left out. */
Tensors forward(int index, at::TensorList inputs, at::TensorList params, at::TensorList state, const Config &config,
                int64_t interval);

/* Gradients of the inputs, parameters and first state whose flag in `needs` is set, in this order. grads are those of
 * [out, last state..., records...]; one that is undefined is zero. checkpoints: the forward's, with recurrence its input behind
 * them. resumed: whether initial spikes were given, so that the first step had a recurrent input. */
Tensors backward(int index, at::TensorList grads, at::TensorList inputs, at::TensorList params, at::TensorList checkpoints,
                 const Config &config, int64_t interval, bool resumed, at::IntArrayRef needs);

/* The states that the layer has: those with a width, and optional ones whose parameter was given. */
using Places = c10::SmallVector<int, LIF_MAX_STATES>;
Places present_states(const lif_neuron &neuron, int64_t synapses, at::TensorList params);

}  // namespace lif

/* What the files of the op layer share. The ops of every neuron have the same signatures (schemas.cpp); a neuron is its
 * index in the list of neurons, and the names in errors come from its description. */
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/List.h>

#include <string>
#include <vector>

#include "../neuron/args.h"

namespace lif {

using at::Tensor;
using OptionalTensors = c10::List<std::optional<Tensor>>;
using Tensors = std::vector<Tensor>;

/* The arguments of an op that are not tensors. */
struct Config {
  std::vector<double> options;
  std::string surrogate;
  std::vector<double> surrogate_params;
  bool smooth;
  int64_t synapses;
  bool batch_first;
  std::vector<int64_t> record; /* a flag a state */
  std::string memory;          /* what the backward needs from the forward: "mask", "recompute", "save"; "": chosen by itself */
};

const lif_neuron &neuron(int index);
const lif_surrogate *surrogates(); /* ended by a null name */

/* Whether the layer has recurrent weights, and their places among the parameters and states. */
bool has_recurrence(const lif_neuron &neuron, const OptionalTensors &params);
inline int weights_place(const lif_neuron &neuron) { return neuron.n_params - 2; }
inline int bias_place(const lif_neuron &neuron) { return neuron.n_params - 1; }
inline int spikes_place(const lif_neuron &neuron) { return neuron.n_states - 1; }

/* What the forward leaves for the backward, as one number: time steps between checkpoints (LIF_CHECKPOINT_INTERVAL: the steps
 * between are computed again; 1: every state is saved), or MASK: the mask in their place. 0: nothing. */
enum : int64_t { MASK = -1 };

/* By config.memory, or the least memory that will do. A replay is not possible with recurrence, nor on CUDA with more synapses
 * than are kept in registers; a mask is enough only for some. Refuses by ValueError what cannot be had. */
int64_t choose_memory(const lif_neuron &neuron, const Tensor &x, const OptionalTensors &params, const Config &config,
                      bool param_gradients);

/* [out, last state..., records...], and with an interval the checkpoints of each state, or the mask, and with recurrence its input
 * of each step, (time, batch, currents). States that the layer does not have are left out. */
Tensors forward(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                const Config &config, int64_t interval);

/* Gradients of the inputs, parameters and first state whose flag in `needs` is set, in this order. grads are those of
 * [out, last state..., records...]; one that is None is zero. checkpoints: the forward's, with recurrence its input behind them.
 * resumed: whether initial spikes were given, so that the first step had a recurrent input. */
Tensors backward(int index, const OptionalTensors &grads, const OptionalTensors &inputs, const OptionalTensors &params,
                 const Tensors &checkpoints, const Config &config, int64_t interval, bool resumed, at::IntArrayRef needs);

/* The states that the layer has: those with a width, and optional ones whose parameter was given. */
std::vector<int> present_states(const lif_neuron &neuron, int64_t synapses, const OptionalTensors &params);

}  // namespace lif

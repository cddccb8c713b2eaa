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
};

const lif_neuron &neuron(int index);
const lif_surrogate *surrogates(); /* ended by a null name */

/* The number of time steps between checkpoints. More synapses than the CUDA kernels keep in registers cannot be replayed
 * on chip: then every state is saved. */
int64_t checkpoint_interval(const Tensor &x, int64_t synapses);

/* [out, last state..., records...], and with an interval the checkpoints of each state. Fields of no width are left out. */
Tensors forward(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                const Config &config, int64_t interval);

/* Gradients of the inputs, parameters and first state whose flag in `needs` is set, in this order. grads are those of
 * [out, last state..., records...]; one that is None is zero. */
Tensors backward(int index, const OptionalTensors &grads, const OptionalTensors &inputs, const OptionalTensors &params,
                 const Tensors &checkpoints, const Config &config, int64_t interval, at::IntArrayRef needs);

/* The states that have a width with S synapses. */
std::vector<int> present_states(const lif_neuron &neuron, int64_t synapses);

}  // namespace lif

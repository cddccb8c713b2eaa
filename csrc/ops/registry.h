/* The neurons and surrogates that were compiled, and what follows from a neuron's description. A
 * neuron is its index in the list of csrc/neuron/neurons.h. */
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <string>

#include "../neuron/args.h"

namespace lif {

using at::Tensor;

int neuron_count();
const lif_neuron &neuron(int index);
const lif_surrogate *surrogates();                          /* ended by a null name */
const lif_surrogate *find_surrogate(c10::string_view name); /* null: there is none */
std::string surrogate_names();                              /* for errors */

/* Whether the layer has recurrent weights, and the places of weights, bias and spikes among the
 * parameters and states. */
bool has_recurrence(const lif_neuron &neuron, at::TensorList params);
inline int weights_place(const lif_neuron &neuron) { return neuron.n_params - 2; }
inline int bias_place(const lif_neuron &neuron) { return neuron.n_params - 1; }
inline int spikes_place(const lif_neuron &neuron) { return neuron.n_states - 1; }

/* The name of the parameter without which the state does not exist, or null. */
const char *needed_param(const lif_field &state);
bool is_present(const lif_neuron &neuron, int f, int64_t synapses, at::TensorList params);
/* The states that the layer has: those with a width, and optional ones whose parameter was
 * given. */
using Places = c10::SmallVector<int, LIF_MAX_STATES>;
Places present_states(const lif_neuron &neuron, int64_t synapses, at::TensorList params);

}  // namespace lif

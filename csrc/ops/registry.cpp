#include "registry.h"

#include <cstring>

#include "../neuron/neurons.h"

extern "C" const lif_surrogate lif_surrogates[];

namespace lif {

#define DECLARE(name) extern "C" const lif_neuron lif_neuron_##name;
LIF_NEURONS(DECLARE)
#define LIST(name) &lif_neuron_##name,
static const lif_neuron *const neurons[] = {LIF_NEURONS(LIST)};

int neuron_count() { return (int)(sizeof neurons / sizeof *neurons); }

const lif_neuron &neuron(int index) { return *neurons[index]; }

bool has_recurrence(const lif_neuron &neuron, at::TensorList params) {
  return neuron.recurrent && params[weights_place(neuron)].defined();
}

const char *needed_param(const lif_field &state) {
  return state.kind & LIF_OF_RECURRENCE ? "w_rec"
         : state.kind & LIF_OPTIONAL    ? state.name
                                        : nullptr;
}

bool is_present(const lif_neuron &neuron, int f, int64_t synapses, at::TensorList params) {
  const char *needed = needed_param(neuron.states[f]);
  for (int p = 0; needed && p < neuron.n_params; p++)
    if (!strcmp(neuron.params[p].name, needed)) return params[p].defined();
  return lif_width(neuron.states[f].kind, (int)synapses) > 0;
}

Places present_states(const lif_neuron &neuron, int64_t synapses, at::TensorList params) {
  Places present;
  for (int f = 0; f < neuron.n_states; f++)
    if (is_present(neuron, f, synapses, params)) present.push_back(f);
  return present;
}

const lif_surrogate *surrogates() { return lif_surrogates; }

const lif_surrogate *find_surrogate(c10::string_view name) {
  for (const lif_surrogate *s = surrogates(); s->name; s++)
    if (name == s->name) return s;
  return nullptr;
}

std::string surrogate_names() {
  std::string known;
  for (const lif_surrogate *s = surrogates(); s->name; s++)
    known += std::string(known.empty() ? "" : ", ") + s->name;
  return known;
}

}  // namespace lif

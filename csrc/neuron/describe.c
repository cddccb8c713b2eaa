/* Compiled once a neuron: its description for the op layer, as the symbol lif_neuron_<name>. */
#define LIF_REAL 32
#include "neuron.h"
#include NEURON_HEADER

#define DESCRIBE_FIELD(name, KIND) {#name, LIF_##KIND},
#define DESCRIBE_OPTION(name) #name,

const struct lif_neuron LIF_JOIN(lif_neuron_, NEURON) = {
    .name = LIF_STRING(NEURON), .spiking = NEURON_SPIKING, .max_synapses = NEURON_MAX_SYNAPSES, .n_inputs = INPUT_COUNT,
                       .n_params = PARAM_COUNT, .n_states = STATE_COUNT, .n_options = OPTION_COUNT,
                       .inputs = {NEURON_INPUTS(DESCRIBE_FIELD)}, .params = {NEURON_PARAMS(DESCRIBE_FIELD)},
                       .states = {NEURON_STATES(DESCRIBE_FIELD)}, .options = {NEURON_OPTIONS(DESCRIBE_OPTION)},
    };

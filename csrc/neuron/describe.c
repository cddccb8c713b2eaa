/* The description of one neuron for the op layer, as the symbol lif_neuron_<name>. Compiled once
 * per neuron. */
#define LIF_REAL 32
#define LIF_SYNAPSES 0
#include "neuron.h"
#include NEURON_HEADER

#define DESCRIBE_FIELD(name, KIND) {#name, LIF_##KIND},
#define DESCRIBE_OPTION(name) #name,

#if NEURON_RECURRENT
#define RECURRENT_PARAMS {"w_rec", LIF_WEIGHTS}, {"b_rec", LIF_RECURRENT},
#define RECURRENT_STATES {"spikes", LIF_RECURRENT_STATE},
#else
#define RECURRENT_PARAMS
#define RECURRENT_STATES
#endif

_Static_assert((int)INPUT_COUNT <= (int)LIF_MAX_INPUTS &&
                   (int)OPTION_COUNT <= (int)LIF_MAX_OPTIONS &&
                   PARAM_COUNT + 2 * NEURON_RECURRENT <= (int)LIF_MAX_PARAMS &&
                   STATE_COUNT + NEURON_RECURRENT <= (int)LIF_MAX_STATES,
               "args.h has too little room");

/* The recurrent input comes last and is not counted, because the caller does not pass it. */
const struct lif_neuron LIF_JOIN(lif_neuron_, NEURON) = {
    .name = LIF_STRING(NEURON), .spiking = NEURON_SPIKING, .recurrent = NEURON_RECURRENT,
                       .maskable = NEURON_MASKABLE, .keeps = NEURON_KEEPS,
                       .max_synapses = NEURON_MAX_SYNAPSES,
                       .n_inputs = INPUT_COUNT - NEURON_RECURRENT,
                       .n_params = PARAM_COUNT + 2 * NEURON_RECURRENT,
                       .n_states = STATE_COUNT + NEURON_RECURRENT, .n_options = OPTION_COUNT,
                       .inputs = {NEURON_INPUTS(DESCRIBE_FIELD)},
                       .params = {NEURON_PARAMS(DESCRIBE_FIELD) RECURRENT_PARAMS},
                       .states = {NEURON_STATES(DESCRIBE_FIELD) RECURRENT_STATES},
                       .options = {NEURON_OPTIONS(DESCRIBE_OPTION)},
    };

// clang-format off
/* What a neuron's header may rely on, and what it must say.
 *
 * A neuron says, in its own header:
 *   NEURON_SPIKING             1 if it has a spike function, hence takes a surrogate
 *   NEURON_DEFAULT_SURROGATE   the one that most will use, for which CUDA has kernels of its own; -1 for none
 *   NEURON_MAX_SYNAPSES        largest number of synapses; -1: any
 *   NEURON_RECURRENT           1 if recurrent weights may feed its output back; then its last input is FIELD(rec, RECURRENT),
 *                              which the loop computes. It is added to x, so that the adjoint of x is its adjoint too
 *   NEURON_MASKABLE            1 if one bit a step is enough for the backward, where the surrogate is a window and no parameter
 *                              needs a gradient; then it also has step_masked, which tells the bit, step_backward_masked and
 *                              usual_neuron
 *   NEURON_INPUTS, NEURON_PARAMS, NEURON_STATES, NEURON_OPTIONS: lists of its fields
 *   NEURON_KEPT                what of a step the way back needs, where no parameter needs a gradient: numbers, FIELD(name).
 *                              Of a neuron that needs none there nothing is saved
 *   NEURON_USUAL               the options and the parameters left out that kernels have as constants: OPTION_IS(name, value) and
 *                              LEFT_OUT(name)
 *   NEURON_STRUCTS             (as it stands: it makes the structs below from the lists)
 *   step                       (parameters, state, inputs) -> next state, output
 *   keep                       (parameters, state, inputs) -> what is kept of the step
 *   step_backward              its adjoint: (the same, what was kept, the spike's slope, adjoints of output and next state) ->
 *                              adjoints of state and inputs; adjoints of parameters are added to what is there. For these alone
 *                              it reads the state and x
 *   spike_point, most_spikes   if it spikes: where step_backward's slope is to be taken, (parameters, what was kept) -> membrane
 *                              potential and threshold (struct point), and the most spikes of a step
 * A translation unit holds one neuron, so the names carry no prefix. A member PER_NEURON is a number, a member
 * PER_SYNAPSE or PER_CURRENT points to one number a synapse. g and g_next may be the same struct, and so may s and next:
 * read a member of the second before writing that of the first. */
// clang-format on
#ifndef LIF_NEURON_H
#define LIF_NEURON_H

#include "real.h"
#include "args.h"
#include "spike.h"

#define PER_NEURON(name) real name;
#define OPTIONAL_PER_NEURON(name) real name;
#define PER_SYNAPSE(name) real *name;
#define PER_CURRENT(name) real *name;
#define RECURRENT(name) real *name;

#define LIF_MEMBER(name, KIND) KIND(name)
#define LIF_NUMBER(name) real name;
#define LIF_COUNT_NUMBER(name) +1
#define NEURON_KEEPS (0 NEURON_KEPT(LIF_COUNT_NUMBER))
#define LIF_INPUT_INDEX(name, KIND) INPUT_##name,
#define LIF_PARAM_INDEX(name, KIND) PARAM_##name,
#define LIF_STATE_INDEX(name, KIND) STATE_##name,
#define LIF_OPTION_INDEX(name) OPTION_##name,

#define NEURON_STRUCTS                                 \
  struct inputs {                                      \
    NEURON_INPUTS(LIF_MEMBER)                          \
  };                                                   \
  struct params {                                      \
    NEURON_PARAMS(LIF_MEMBER)                          \
    LIF_CONSTANTS                                      \
  };                                                   \
  struct states {                                      \
    NEURON_STATES(LIF_MEMBER)                          \
  };                                                   \
  struct kept {                                        \
    NEURON_KEPT(LIF_NUMBER)                            \
  };                                                   \
  enum { NEURON_INPUTS(LIF_INPUT_INDEX) INPUT_COUNT }; \
  enum { NEURON_PARAMS(LIF_PARAM_INDEX) PARAM_COUNT }; \
  enum { NEURON_STATES(LIF_STATE_INDEX) STATE_COUNT }; \
  enum { NEURON_OPTIONS(LIF_OPTION_INDEX) OPTION_COUNT };

/* 1 / threshold: the same in every step. CUDA's compiler takes the division out of the loop over time; the CPU's loop over neurons
 * is inside that, so there the loop divides once a tile. */
#ifdef __CUDACC__
#define LIF_CONSTANTS
#define PER_THRESHOLD(params) (REAL(1) / (params)->threshold)
#else
#define LIF_CONSTANTS real per_threshold;
#define PER_THRESHOLD(params) ((params)->per_threshold)
#endif

#define OPTION(options, name) ((options)->values[OPTION_##name])
#define INPUT_GIVEN(options, name) ((options)->inputs_given >> INPUT_##name & 1)
#define PARAM_GIVEN(options, name) ((options)->params_given >> PARAM_##name & 1)

/* The neuron's usual case, NEURON_USUAL(OPTION_IS, LEFT_OUT): asked of a launch `a`, and told to the compiler. */
#define IGNORE_OPTION(name, constant)
#define IS_USUAL_OPTION(name, constant) &&a->options.values[OPTION_##name] == (constant)
#define IS_LEFT_OUT(name) &&!(a->options.params_given >> PARAM_##name & 1)
#define SET_USUAL_OPTION(name, constant) o.values[OPTION_##name] = REAL(constant);
#define SET_NOT_GIVEN(name) o.params_given &= ~(1 << PARAM_##name);
#define SET_LEFT_OUT(name) p.name = REAL(-0.0); /* adding it changes nothing, so the compiler drops it */

/* For files compiled once a neuron, with -DNEURON=<name>. */
#define LIF_STRING_(token) #token
#define LIF_STRING(token) LIF_STRING_(token)
#define LIF_JOIN_(a, b) a##b
#define LIF_JOIN(a, b) LIF_JOIN_(a, b)
#define NEURON_HEADER LIF_STRING(NEURON.h)

#endif

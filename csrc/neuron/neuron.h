/* What a neuron's header may use, and what it must define. A translation unit holds one neuron with
 * one number of synapses, LIF_SYNAPSES (neurons.h).
 *
 * A neuron defines in its own header:
 *
 * NEURON_SPIKING: 1 if it has a spike function and so takes a surrogate.
 *
 * NEURON_LIBRARY_SURROGATE: the surrogate of the library that the neuron comes from. The loops are
 * compiled with it as a constant. -1 for none.
 *
 * NEURON_MAX_SYNAPSES: the largest number of synapses; -1: any.
 *
 * NEURON_RECURRENT: 1 if recurrent weights may feed its output back. Its last input is then
 * FIELD(rec, RECURRENT), which the loop computes. The neuron adds rec to x, so that rec has the
 * same adjoint as x.
 *
 * NEURON_MASKABLE: 1 if one bit per step is enough for the backward, where the surrogate is a
 * window and no parameter needs a gradient. The neuron then also defines step_masked, which tells
 * the bit, and step_backward_masked.
 *
 * NEURON_COUNTS: 1 if it counts spikes by spike_count (spike.h). It then also defines
 * counts_by_reciprocal: (options, parameters) -> whether o->reciprocal_fits may be set; and
 * exceeds_few: (parameters, state) -> whether the step before that state may have had a count that
 * o->few does not allow for.
 *
 * NEURON_INPUTS, NEURON_PARAMS, NEURON_STATES, NEURON_OPTIONS: the lists of its fields.
 *
 * NEURON_DERIVED: the numbers, each FIELD(name), that derive makes of the parameters. They are
 * further members of struct params. derive: (parameters) -> the same with these numbers; the loops
 * call it once per neuron, not once per step.
 *
 * NEURON_KEPT: the numbers of a step that the backward needs where no parameter needs a gradient,
 * each FIELD(name). If there are none, nothing is saved.
 *
 * NEURON_COMMON: its common case, that is the options and left-out parameters with which the loops
 * are also compiled as constants: OPTION_IS(name, value) and LEFT_OUT(name).
 *
 * NEURON_STRUCTS, written as it is: it makes the structs below from the lists.
 *
 * step: (parameters, state, inputs) -> next state, output.
 *
 * keep: (parameters, state, inputs) -> what is kept of the step.
 *
 * step_backward, the adjoint of step: (the same, what was kept, the spike's slope, adjoints of
 * output and next state) -> adjoints of state and inputs. It adds the adjoints of parameters to
 * what is there; only for these it reads the state and x.
 *
 * spike_point, if it spikes: (parameters, what was kept) -> the membrane potential and threshold
 * (struct point) at which the slope for step_backward is taken.
 *
 * most_spikes, if it spikes: (options) -> the largest number of spikes per step.
 *
 * The names carry no prefix, for there is one neuron. A member PER_NEURON is a number, a member
 * PER_SYNAPSE or PER_CURRENT an array of one number per synapse. S is the number of synapses to be
 * computed: it may be larger than the layer's. The synapses beyond the layer's are silent: their
 * inputs and states are -0, their parameters 0, and nobody reads what comes of them. Adding -0
 * changes nothing. g and g_next may be the same struct, and so may s and next: read a member of
 * g_next or s before you write that member of g or next. */
#ifndef LIF_NEURON_H
#define LIF_NEURON_H

#include "real.h"
#include "args.h"
#include "spike.h"

/* The members of the structs, and how many numbers each is. With LIF_MANY synapses a member refers
 * to numbers in memory, to which the loop binds it. */
#if LIF_SYNAPSES < 9 /* LIF_MANY */
#define PER_SYNAPSE(name) real name[LIF_SYNAPSES > 1 ? LIF_SYNAPSES : 1];
#elif defined(__CUDACC__)
struct per_synapse {
  real *at;
  int64_t stride; /* so that the neurons' numbers of one synapse stand side by side */

  __device__ __forceinline__ real &operator[](int k) const { return at[k * stride]; }
};
#define PER_SYNAPSE(name) per_synapse name;
#else
#define PER_SYNAPSE(name) real *name;
#endif
#define PER_CURRENT(name) PER_SYNAPSE(name)
#define RECURRENT(name) PER_SYNAPSE(name)
#define PER_NEURON(name) real name;
#define OPTIONAL_PER_NEURON(name) real name;

/* The number of synapses to be computed for a layer of S. */
LIF_ON_BOTH int computed_synapses(int S) { return LIF_SYNAPSES < LIF_MANY ? LIF_SYNAPSES : S; }

#ifdef __CUDACC__
#define LIF_EACH_SYNAPSE(k, S) _Pragma("unroll") for (int k = 0; k < (S); k++)
#elif defined(__clang__)
#define LIF_EACH_SYNAPSE(k, S) for (int k = 0; k < (S); k++)
#else /* wholly, before the loop over neurons is vectorised */
#define LIF_EACH_SYNAPSE(k, S) _Pragma("GCC unroll 8") for (int k = 0; k < (S); k++)
#endif

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
    NEURON_DERIVED(LIF_NUMBER)                         \
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

#define OPTION(options, name) ((options)->values[OPTION_##name])
#define INPUT_GIVEN(options, name) ((options)->inputs_given >> INPUT_##name & 1)
#define PARAM_GIVEN(options, name) ((options)->params_given >> PARAM_##name & 1)

/* What to pass to NEURON_COMMON(OPTION_IS, LEFT_OUT): IS_... ask whether a launch `a` is the
 * neuron's common case, SET_... tell the compiler that it is. */
#define IGNORE_OPTION(name, constant)
#define IS_COMMON_OPTION(name, constant) &&a->options.values[OPTION_##name] == (constant)
#define IS_LEFT_OUT(name) &&!(a->options.params_given >> PARAM_##name & 1)
#define SET_COMMON_OPTION(name, constant) o.values[OPTION_##name] = REAL(constant);
#define SET_NOT_GIVEN(name) o.params_given &= ~(1 << PARAM_##name);
#define SET_LEFT_OUT(name) \
  p.name = REAL(-0.0); /* adding it changes nothing, so the compiler drops it */

/* For files compiled once per neuron, with -DNEURON=<name>. */
#define LIF_STRING_(token) #token
#define LIF_STRING(token) LIF_STRING_(token)
#define LIF_JOIN_(a, b) a##b
#define LIF_JOIN(a, b) LIF_JOIN_(a, b)
#define NEURON_HEADER LIF_STRING(NEURON.h)

#endif

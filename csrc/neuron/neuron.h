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
 * NEURON_DERIVED: the list of the numbers, all PER_NEURON, that derive makes of the parameters.
 * They are further members of struct params. derive: (parameters) -> the same with these numbers;
 * the loops call it once per neuron, not once per step.
 *
 * NEURON_KEPT: the list of the numbers of a step, all PER_NEURON, that the backward needs where no
 * parameter needs a gradient. If there are none, nothing is saved.
 *
 * NEURON_STRUCTS, written as it is: it makes the structs below from the lists.
 *
 * COMMON_CASES and common_case: how many common cases it has, and a function that tells each of
 * them, from number 1 on (struct common_case). The loops are also compiled with what it says as
 * constants.
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

/* LIF_UNROLLED: a loop of constant length, wholly, before loops around it are vectorised. For
 * synapses, of which there may be any number, it is LIF_UNROLLED_SYNAPSES. */
#if defined(__CUDACC__)
#define LIF_UNROLLED _Pragma("unroll")
#define LIF_UNROLLED_SYNAPSES LIF_UNROLLED
#elif defined(__clang__)
#define LIF_UNROLLED _Pragma("clang loop unroll(full)")
#define LIF_UNROLLED_SYNAPSES
#else
#define LIF_UNROLLED _Pragma("GCC unroll 64")
#define LIF_UNROLLED_SYNAPSES _Pragma("GCC unroll 8")
#endif
#define LIF_EACH_SYNAPSE(k, S) LIF_UNROLLED_SYNAPSES for (int k = 0; k < (S); k++)

/* The type of a member of each kind, LIF_NUMBERS_<kind>. With LIF_MANY synapses a member
 * PER_SYNAPSE refers to numbers in memory, to which the loop binds it. */
#if LIF_SYNAPSES < LIF_MANY
typedef real LIF_NUMBERS_PER_NEURON;
typedef real LIF_NUMBERS_PER_SYNAPSE[LIF_SYNAPSES > 1 ? LIF_SYNAPSES : 1];
#elif defined(__CUDACC__)
struct per_synapse {
  real *at;
  int64_t stride; /* so that the neurons' numbers of one synapse stand side by side */

  __device__ __forceinline__ real &operator[](int k) const { return at[k * stride]; }
};
typedef real LIF_NUMBERS_PER_NEURON;
typedef per_synapse LIF_NUMBERS_PER_SYNAPSE;
#else /* members at equal distances (PLACE in cpu/row.h) */
typedef real LIF_NUMBERS_PER_NEURON __attribute__((aligned(sizeof(real *))));
typedef real *LIF_NUMBERS_PER_SYNAPSE;
#endif
typedef LIF_NUMBERS_PER_NEURON LIF_NUMBERS_OPTIONAL_PER_NEURON;
typedef LIF_NUMBERS_PER_SYNAPSE LIF_NUMBERS_PER_CURRENT, LIF_NUMBERS_RECURRENT;

/* The number of synapses to be computed for a layer of S. */
LIF_ON_BOTH int computed_synapses(int S) { return LIF_SYNAPSES < LIF_MANY ? LIF_SYNAPSES : S; }

#define LIF_MEMBER(name, KIND) LIF_NUMBERS_##KIND name;
#define LIF_COUNT(name, KIND) +1
#define LIF_KIND_OF(name, KIND) LIF_##KIND,
#define NEURON_KEEPS (0 NEURON_KEPT(LIF_COUNT))
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
    NEURON_DERIVED(LIF_MEMBER)                         \
  };                                                   \
  struct states {                                      \
    NEURON_STATES(LIF_MEMBER)                          \
  };                                                   \
  struct kept {                                        \
    NEURON_KEPT(LIF_MEMBER)                            \
  };                                                   \
  enum { NEURON_INPUTS(LIF_INPUT_INDEX) INPUT_COUNT }; \
  enum { NEURON_PARAMS(LIF_PARAM_INDEX) PARAM_COUNT }; \
  enum { NEURON_STATES(LIF_STATE_INDEX) STATE_COUNT }; \
  enum { NEURON_OPTIONS(LIF_OPTION_INDEX) OPTION_COUNT };

#define OPTION(options, name) ((options)->values[OPTION_##name])
#define INPUT_GIVEN(options, name) ((options)->inputs_given >> INPUT_##name & 1)
#define PARAM_GIVEN(options, name) ((options)->params_given >> PARAM_##name & 1)

/* What is known of a call that is one of the neuron's common cases. */
struct common_case {
  int left_out;                   /* a bit for each parameter that is not given */
  int known;                      /* a bit for each option whose value is known */
  double values[LIF_MAX_OPTIONS]; /* of these options */
};

/* By the neuron's header: case `number`, from 1 to COMMON_CASES. */
LIF_ON_BOTH struct common_case common_case(int number);

/* Says of a case the value of an option. */
LIF_ON_BOTH void expect(struct common_case *c, int option, double value) {
  c->known |= 1 << option;
  c->values[option] = value;
}

/* Whether a launch's options and parameters are those of case `number`. */
LIF_ON_BOTH int fits_case(const struct lif_options *o, int number) {
  const struct common_case c = common_case(number);
  for (int k = 0; k < LIF_MAX_OPTIONS; k++)
    if ((c.known >> k & 1) && o->values[k] != c.values[k]) return 0;
  return !(o->params_given & c.left_out);
}

/* Tells the compiler that they are. (What is left out of struct params the loops set to -0: adding
 * it changes nothing, so the compiler drops it.) */
LIF_FN void set_known(struct options *o, int number) {
  const struct common_case c = common_case(number);
  LIF_UNROLLED for (int k = 0; k < LIF_MAX_OPTIONS; k++) {
    if (c.known >> k & 1) o->values[k] = (real)c.values[k];
  }
  o->params_given &= ~c.left_out;
}

/* For files compiled once per neuron, with -DNEURON=<name>. */
#define LIF_STRING_(token) #token
#define LIF_STRING(token) LIF_STRING_(token)
#define LIF_JOIN_(a, b) a##b
#define LIF_JOIN(a, b) LIF_JOIN_(a, b)
#define NEURON_HEADER LIF_STRING(NEURON.h)

#endif

/* What keep makes of a step is all that its adjoint needs where no parameter has a gradient:
 * step_backward, given a state and an x that are not numbers, returns the same bits. The CUDA
 * kernels rely on it (csrc/cuda/stream_loop.h). Compiled once for each neuron (NEURON) by
 * tests/test_core.py. */
#include <stdio.h>
#include <stdlib.h>

#include "neuron.h"
#include NEURON_HEADER
#include "slope.h"

enum {
  MOST = 3, /* synapses */
  ROUNDS = 20000,
  COUNTED = ROUNDS * 3 / 4 /* rounds that must end in numbers with a slope in them, for what is no
                              number or 0 could not differ */
};

static real random_number(void) { return (real)rand() / (real)RAND_MAX * REAL(3) - REAL(1); }

/* Members are numbers, or point to one number a synapse. */
#define ALLOCATE_PER_NEURON(member)
#define ALLOCATE_OPTIONAL_PER_NEURON(member)
#define ALLOCATE_PER_SYNAPSE(member) member = calloc(MOST, sizeof(real));
#define ALLOCATE_PER_CURRENT(member) ALLOCATE_PER_SYNAPSE(member)
#define ALLOCATE_RECURRENT(member) ALLOCATE_PER_SYNAPSE(member)
#define EACH_PER_NEURON(member, STATEMENT) \
  {                                        \
    real *value = &member;                 \
    STATEMENT                              \
  }
#define EACH_OPTIONAL_PER_NEURON(member, STATEMENT) EACH_PER_NEURON(member, STATEMENT)
#define EACH_PER_SYNAPSE(member, STATEMENT) \
  for (int k = 0; k < MOST; k++) {          \
    real *value = &member[k];               \
    STATEMENT                               \
  }
#define EACH_PER_CURRENT(member, STATEMENT) EACH_PER_SYNAPSE(member, STATEMENT)
#define EACH_RECURRENT(member, STATEMENT) EACH_PER_SYNAPSE(member, STATEMENT)

#define RANDOM_INPUT(name, KIND) EACH_##KIND(in.name, *value = random_number();)
#define RANDOM_PARAM(name, KIND) EACH_##KIND(p.name, *value = random_number();)
#define RANDOM_STATE(name, KIND) EACH_##KIND(s.name, *value = random_number();)
#define RANDOM_ADJOINT(name, KIND) EACH_##KIND(g_next.name, *value = random_number();)
#define FORGET_STATE(name, KIND) EACH_##KIND(s.name, *value = NAN;)
#define FORGET_X(name, KIND) \
  if (INPUT_##name == 0) EACH_##KIND(in.name, *value = NAN;)
#define ALLOCATE_INPUT(name, KIND) ALLOCATE_##KIND(in.name) ALLOCATE_##KIND(g_in.name)
#define ALLOCATE_PARAM(name, KIND) ALLOCATE_##KIND(p.name)
#define ALLOCATE_STATE(name, KIND) \
  ALLOCATE_##KIND(s.name) ALLOCATE_##KIND(g_next.name) ALLOCATE_##KIND(g.name)
#define KEEP_ADJOINT(name, KIND) EACH_##KIND(g.name, result[count++] = *value; *value = REAL(0);)
#define KEEP_G_INPUT(name, KIND) EACH_##KIND(g_in.name, result[count++] = *value; *value = REAL(0);)

int main(void) {
  struct inputs in, g_in = {0};
  struct params p = {0}, g_p = {0};
  struct states s, g = {0}, g_next;
  NEURON_INPUTS(ALLOCATE_INPUT)
  NEURON_PARAMS(ALLOCATE_PARAM)
  NEURON_STATES(ALLOCATE_STATE)
  int failures = 0, counted = 0;
  for (int round = 0; round < ROUNDS; round++) {
    struct options o = {
        .inputs_given = rand(), .params_given = rand(), .surrogate = rand() % LIF_SURROGATE_COUNT};
    for (int k = 0; k < OPTION_COUNT; k++) o.values[k] = (real)(rand() % 3);
    for (int k = 0; k < LIF_MAX_SURROGATE_PARAMS; k++)
      o.surrogate_params[k] = o.per_surrogate_param[k] = REAL(1);
    const int S =
        NEURON_MAX_SYNAPSES < 0 ? rand() % (MOST + 1) : rand() % (NEURON_MAX_SYNAPSES + 1);
    NEURON_INPUTS(RANDOM_INPUT)
    NEURON_PARAMS(RANDOM_PARAM)
    p.per_threshold = REAL(1.25); /* not 0, which would be the slope of every window then */
    NEURON_STATES(RANDOM_STATE)
    NEURON_STATES(RANDOM_ADJOINT)
    const struct kept kept = keep(S, &o, &p, &s, &in);
    const struct slope slope = slope_of_step(&o, &p, &kept);
    const real g_out = random_number();
    real results[2][64];
    int count = 0;
    for (int forgotten = 0; forgotten < 2; forgotten++) {
      real *result = results[forgotten];
      count = 0;
      if (forgotten) {
        NEURON_STATES(FORGET_STATE)
        NEURON_INPUTS(FORGET_X)
      }
      step_backward(S, &o, &p, &kept, &s, &in, slope, g_out, &g_next, &g, &g_in, &g_p);
      NEURON_STATES(KEEP_ADJOINT)
      NEURON_INPUTS(KEEP_G_INPUT)
    }
    failures += memcmp(results[0], results[1], (size_t)count * sizeof(real)) != 0;
    const int finite = results[0][0] - results[0][0] == REAL(0);
    counted += finite && (!NEURON_SPIKING || slope.v != REAL(0));
  }
  printf("%d of %d differ, %d count\n", failures, ROUNDS, counted);
  return failures > 0 || counted < COUNTED;
}

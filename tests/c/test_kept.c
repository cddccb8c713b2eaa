/* What keep makes of a step is all that its adjoint needs where no parameter has a gradient:
 * step_backward, given a state and an x that are not numbers, returns the same bits. The CUDA
 * kernels rely on it. Compiled for each neuron (NEURON) and constant number of synapses
 * (LIF_SYNAPSES) by tests/test_core.py. */
#include <stdio.h>
#include <stdlib.h>

#include "neuron.h"
#include NEURON_HEADER
#include "defaults.h"

enum {
  ROUNDS = 20000,
  COUNTED = ROUNDS * 3 / 4 /* rounds that must end in numbers with a slope in them, for what is no
                              number or 0 could not differ */
};

static real random_number(void) { return (real)rand() / (real)RAND_MAX * REAL(3) - REAL(1); }

/* The structs are so many numbers. */
#define NUMBERS(a_struct) (sizeof(a_struct) / sizeof(real))

static void fill(void *a_struct, size_t count) {
  for (size_t k = 0; k < count; k++) ((real *)a_struct)[k] = random_number();
}

static void forget(void *a_struct, size_t count) {
  for (size_t k = 0; k < count; k++) ((real *)a_struct)[k] = NAN;
}

int main(void) {
  struct inputs in, g_in = {0};
  struct params p = {0}, g_p = {0};
  struct states s, g = {0}, g_next;
  int failures = 0, counted = 0;
  for (int round = 0; round < ROUNDS; round++) {
    struct options o = {
        .inputs_given = rand(), .params_given = rand(), .surrogate = rand() % LIF_SURROGATE_COUNT};
    for (int k = 0; k < OPTION_COUNT; k++) o.values[k] = (real)(rand() % 3);
    for (int k = 0; k < LIF_MAX_SURROGATE_PARAMS; k++)
      o.surrogate_params[k] = o.per_surrogate_param[k] = REAL(1);
    fill(&in, NUMBERS(in));
    fill(&p, NUMBERS(p));
    derive(&p);
    fill(&s, NUMBERS(s));
    fill(&g_next, NUMBERS(g_next));
    const struct kept kept = keep(LIF_SYNAPSES, &o, &p, &s, &in);
    const struct slope slope = slope_of_step(&o, &p, &kept);
    const real g_out = random_number();
    real results[2][NUMBERS(g) + NUMBERS(g_in)];
    for (int forgotten = 0; forgotten < 2; forgotten++) {
      if (forgotten) {
        forget(&s, NUMBERS(s));
        forget(&in.x, NUMBERS(in.x));
      }
      step_backward(LIF_SYNAPSES, &o, &p, &kept, &s, &in, slope, g_out, &g_next, &g, &g_in, &g_p);
      memcpy(results[forgotten], &g, sizeof g);
      memcpy(results[forgotten] + NUMBERS(g), &g_in, sizeof g_in);
    }
    failures += memcmp(results[0], results[1], sizeof results[0]) != 0;
    const int finite = results[0][0] - results[0][0] == REAL(0);
    counted += finite && (!NEURON_SPIKING || slope.v != REAL(0));
  }
  printf("%d of %d differ, %d count\n", failures, ROUNDS, counted);
  return failures > 0 || counted < COUNTED;
}

/* Membrane and exponential synapse by forward Euler, for li.h and euler_lif.h.
 *
 * rate = dt/tau is the fraction that leaks away per step. An option says what is updated first and
 * how the decay is written, because rounding differs:
 *
 *   INPUT_FIRST                 j = (i + x) + rec                        norse: this step's input
 *                               i = j + (-rate_syn) * j                  acts at once
 *   MEMBRANE_FIRST              j = i                                    hxtorch's LIF: it acts one
 *                               i = (i * (1 - rate_syn) + x) + rec       step later
 *   MEMBRANE_FIRST_INCREMENT    j = i                                    hxtorch's IAF and LI:
 *                               i = ((i + (-rate_syn) * i) + x) + rec    likewise
 *
 * The membrane: v + rate_mem * ((leak - v) + j), or without a leak v + rate_mem * j. */
#ifndef LIF_EULER_H
#define LIF_EULER_H

#include "real.h"

enum { SYNAPSE_INPUT_FIRST, SYNAPSE_MEMBRANE_FIRST, SYNAPSE_MEMBRANE_FIRST_INCREMENT };

struct synapse {
  real drive; /* j: the current that the membrane sees */
  real next;  /* i after the step */
};

LIF_FN struct synapse synapse(real form, real i, real x, real rec, real rate) {
  struct synapse s;
  s.drive = choose(form == SYNAPSE_INPUT_FIRST, (i + x) + rec, i);
  const real decayed =
      choose(form == SYNAPSE_MEMBRANE_FIRST, i * (REAL(1) - rate), s.drive + -rate * s.drive);
  s.next = choose(form == SYNAPSE_INPUT_FIRST, decayed, (decayed + x) + rec);
  return s;
}

/* Returns the adjoint of i, and in *g_x that of x and rec. g_drive and g_next are the adjoints of
 * the drive and of the next i. The adjoint of the rate is -g_next * drive. */
LIF_FN real synapse_backward(real form, real g_drive, real g_next, real rate, real *g_x) {
  const real g_i = choose(form == SYNAPSE_MEMBRANE_FIRST, g_drive + g_next * (REAL(1) - rate),
                          g_drive + (g_next - g_next * rate));
  *g_x = choose(form == SYNAPSE_INPUT_FIRST, g_i, g_next);
  return g_i;
}

/* What rate_mem multiplies. */
LIF_FN real membrane_pull(int leaky, real v, real leak, real drive) {
  return choose(leaky, (leak - v) + drive, drive);
}

#endif

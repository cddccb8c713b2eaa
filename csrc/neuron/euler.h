/* Membrane and exponential synapse by forward Euler, shared by the leaky integrator and the LIF of hxtorch and norse.
 *
 * rate = dt/tau is the fraction that leaks away a step. The synapse comes in three forms, whose rounding differs:
 *   AT_ONCE              j = (i + x) + rec;  i = j + (-rate_syn) * j                       norse: this step's input acts at once
 *   DELAYED              j = i;              i = (i * (1 - rate_syn) + x) + rec            hxtorch's LIF: a delay of one step
 *   DELAYED_INCREMENT    j = i;              i = ((i + (-rate_syn) * i) + x) + rec         hxtorch's IAF and LI
 * and the membrane
 *   v = v + rate_mem * ((leak - v) + j), or without a leak v + rate_mem * j */
#ifndef LIF_EULER_H
#define LIF_EULER_H

#include "real.h"

enum { SYNAPSE_AT_ONCE, SYNAPSE_DELAYED, SYNAPSE_DELAYED_INCREMENT };

struct synapse {
  real drive; /* j: the current that the membrane sees */
  real next;  /* i after the step */
};

LIF_FN struct synapse synapse(real form, real i, real x, real rec, real rate) {
  struct synapse s;
  s.drive = choose(form == SYNAPSE_AT_ONCE, (i + x) + rec, i);
  const real decayed = choose(form == SYNAPSE_DELAYED, i * (REAL(1) - rate), s.drive + -rate * s.drive);
  s.next = choose(form == SYNAPSE_AT_ONCE, decayed, (decayed + x) + rec);
  return s;
}

/* Adjoints of i and of x (and rec) from those of the drive and of the next i; that of the rate is -g_next * drive. */
LIF_FN real synapse_backward(real form, real g_drive, real g_next, real rate, real *g_x) {
  const real g_i = choose(form == SYNAPSE_DELAYED, g_drive + g_next * (REAL(1) - rate), g_drive + (g_next - g_next * rate));
  *g_x = choose(form == SYNAPSE_AT_ONCE, g_i, g_next);
  return g_i;
}

/* What rate_mem multiplies. */
LIF_FN real membrane_pull(int leaky, real v, real leak, real drive) { return choose(leaky, (leak - v) + drive, drive); }

#endif

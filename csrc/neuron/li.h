/* Leaky integrator with one exponential synapse: integrates its input and never spikes. Its output is v.
 *
 *   j = i + x                                    this step's input acts at once
 *   v = v + rate_mem * ((v_leak - v) + j)
 *   i = j + (-rate_syn) * j
 *
 * rate = dt/tau is the fraction that leaks away a step (forward Euler).
 * Source: norse's li_feed_forward_step, with its order of operations. */
#include "neuron.h"

#define NEURON_SPIKING 0
#define NEURON_MAX_SYNAPSES 0
#define NEURON_INPUTS(FIELD) FIELD(x, PER_NEURON)
#define NEURON_PARAMS(FIELD) FIELD(rate_mem, PER_NEURON) FIELD(rate_syn, PER_NEURON) FIELD(v_leak, OPTIONAL_PER_NEURON)
#define NEURON_STATES(FIELD) FIELD(v, PER_NEURON) FIELD(i, PER_NEURON)
#define NEURON_OPTIONS(OPTION)

NEURON_STRUCTS

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s, const struct inputs *in,
                 struct states *next) {
  (void)S, (void)o;
  const real j = s->i + in->x;
  const real v = s->v + p->rate_mem * ((p->v_leak - s->v) + j);
  next->v = v;
  next->i = j + -p->rate_syn * j;
  return v;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p, const struct states *s, const struct inputs *in,
                          real g_out, const struct states *g_next, struct states *g, struct inputs *g_in, struct params *g_p) {
  (void)S;
  const real j = s->i + in->x;
  const real g_v = g_out + g_next->v;
  const real g_drive = g_v * p->rate_mem; /* of (v_leak - v) + j */
  const real g_j = g_drive + (g_next->i - g_next->i * p->rate_syn);
  if (o->param_gradients) {
    g_p->rate_mem += g_v * ((p->v_leak - s->v) + j);
    g_p->rate_syn -= g_next->i * j;
    g_p->v_leak += g_drive;
  }
  g->v = g_v - g_drive;
  g->i = g_in->x = g_j;
}

/* Leaky integrate-and-fire with S exponential synapses a neuron; S = 0: the input goes straight to the membrane.
 *
 *   i_k = ((i_k + x_k) + rec_k) * decay_syn_k            for each synapse k: this step's input decays at once
 *   v   = ((v * decay_mem + sum_k i_k) + noise) + bias
 *   n   = [v >= threshold] * floor(v / threshold), at most max_spikes
 *   v   = v - n * threshold                              not detached
 *
 * Source: Rockpool's LIFTorch (S >= 1) and LIFNeuronTorch (S = 0), with their order of operations. */
#include "neuron.h"

#define NEURON_SPIKING 1
#define NEURON_RECURRENT 1
#define NEURON_MAX_SYNAPSES (-1)
#define NEURON_INPUTS(FIELD) FIELD(x, PER_CURRENT) FIELD(noise, OPTIONAL_PER_NEURON) FIELD(rec, RECURRENT)
#define NEURON_PARAMS(FIELD) \
  FIELD(decay_mem, PER_NEURON) FIELD(decay_syn, PER_SYNAPSE) FIELD(threshold, PER_NEURON) FIELD(bias, OPTIONAL_PER_NEURON)
#define NEURON_STATES(FIELD) FIELD(v, PER_NEURON) FIELD(i, PER_SYNAPSE)
#define NEURON_OPTIONS(OPTION) OPTION(max_spikes)

NEURON_STRUCTS

/* The membrane potential before the reset, and the synaptic currents after this step. */
LIF_FN real membrane(int S, const struct params *p, const struct states *s, const struct inputs *in, real *currents) {
  real total = in->x[0] + in->rec[0];
  for (int k = 0; k < S; k++) {
    const real current = ((s->i[k] + in->x[k]) + in->rec[k]) * p->decay_syn[k];
    total = k == 0 ? current : total + current;
    if (currents) currents[k] = current;
  }
  return ((s->v * p->decay_mem + total) + in->noise) + p->bias;
}

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s, const struct inputs *in,
                 struct states *next) {
  const real v = membrane(S, p, s, in, next->i);
  const real n = spike_count(o, v, p->threshold, OPTION(o, max_spikes));
  next->v = v - n * p->threshold;
  return n;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p, const struct states *s, const struct inputs *in,
                          real g_out, const struct states *g_next, struct states *g, struct inputs *g_in, struct params *g_p) {
  const real v = membrane(S, p, s, in, 0);
  const struct slope spike = surrogate_slope(o, v, p->threshold, OPTION(o, max_spikes));
  const real g_n = g_out - g_next->v * p->threshold;
  const real g_v = g_next->v + g_n * spike.v;
  if (o->param_gradients) {
    const real n = spike_count(o, v, p->threshold, OPTION(o, max_spikes));
    g_p->threshold += g_n * spike.threshold - g_next->v * n;
    g_p->decay_mem += g_v * s->v;
    g_p->bias += g_v;
  }
  g_in->noise = g_v;
  if (S == 0) g_in->x[0] = g_v;
  for (int k = 0; k < S; k++) {
    const real g_current = g_next->i[k] + g_v;
    if (o->param_gradients) g_p->decay_syn[k] += g_current * ((s->i[k] + in->x[k]) + in->rec[k]);
    g_in->x[k] = g->i[k] = g_current * p->decay_syn[k];
  }
  g->v = g_v * p->decay_mem;
}

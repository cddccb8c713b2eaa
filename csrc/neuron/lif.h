/* Leaky integrate-and-fire with S exponential synapses per neuron; with S = 0 the input goes
 * straight to the membrane. In each step:
 *
 *   i_k = ((i_k + x_k) + rec_k) * decay_syn_k            for each synapse k
 *   v   = ((v * decay_mem + sum_k i_k) + noise) + bias
 *   n   = [v >= threshold] * floor(v / threshold)        at most max_spikes
 *   v   = v - n * threshold                              not detached
 *
 * Source: Rockpool's LIFTorch (S >= 1) and LIFNeuronTorch (S = 0), with their order of operations.
 */
#include "neuron.h"

#define NEURON_LIBRARY_SURROGATE LIF_SURROGATE_step_pwl
#define NEURON_SPIKING 1
#define NEURON_RECURRENT 1
#define NEURON_MASKABLE 1
#define NEURON_COUNTS 1
#define NEURON_MAX_SYNAPSES (-1)
#define NEURON_INPUTS(FIELD) \
  FIELD(x, PER_CURRENT) FIELD(noise, OPTIONAL_PER_NEURON) FIELD(rec, RECURRENT)
#define NEURON_PARAMS(FIELD)   \
  FIELD(decay_mem, PER_NEURON) \
  FIELD(decay_syn, PER_SYNAPSE) FIELD(threshold, PER_NEURON) FIELD(bias, OPTIONAL_PER_NEURON)
#define NEURON_DERIVED(FIELD) FIELD(per_threshold, PER_NEURON)
#define NEURON_STATES(FIELD) FIELD(v, PER_NEURON) FIELD(i, PER_SYNAPSE)
#define NEURON_KEPT(FIELD) FIELD(v, PER_NEURON) /* membrane potential before the reset */
#define NEURON_OPTIONS(OPTION) OPTION(max_spikes)

NEURON_STRUCTS

/* 1: without a bias. 2: with or without. */
enum { COMMON_CASES = 2 };
LIF_ON_BOTH struct common_case common_case(int number) {
  struct common_case c = {0};
  if (number == 1) c.left_out = 1 << PARAM_bias;
  return c;
}

LIF_FN void derive(struct params *p) { p->per_threshold = REAL(1) / p->threshold; }

/* The membrane potential before the reset and, if `next` is not NULL, the synaptic currents after
 * this step. */
LIF_FN real membrane(int S, const struct params *p, const struct states *s, const struct inputs *in,
                     struct states *next) {
  real total = in->x[0] + in->rec[0];
  LIF_EACH_SYNAPSE(k, S) {
    const real current = ((s->i[k] + in->x[k]) + in->rec[k]) * p->decay_syn[k];
    total = k == 0 ? current : total + current;
    if (next) next->i[k] = current;
  }
  return ((s->v * p->decay_mem + total) + in->noise) + p->bias;
}

LIF_FN real step_masked(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in, struct states *next,
                        int *open) {
  const real v = membrane(S, p, s, in, next);
  const real n = spike_count(o, v, p->threshold, p->per_threshold, OPTION(o, max_spikes));
  *open = window_is_open(o, v, p->threshold);
  next->v = reset_by_subtraction(o, v, n, p->threshold);
  return n;
}

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s,
                 const struct inputs *in, struct states *next) {
  int open;
  return step_masked(S, o, p, s, in, next, &open);
}

LIF_FN int counts_by_reciprocal(const struct options *o, const struct params *p) {
  return reciprocal_fits(p->threshold, OPTION(o, max_spikes));
}

/* After the subtraction of one threshold a membrane that had two is at or above it still. That of
 * -inf had a count of NaN. */
LIF_FN int exceeds_few(const struct params *p, const struct states *s) {
  return s->v >= p->threshold || s->v == -INFINITY;
}

/* Adjoints of the membrane potential before the reset: `fired` is the part that comes through the
 * spikes, `v` the whole. */
struct adjoint {
  real fired, v;
};

LIF_FN struct adjoint adjoint(const struct params *p, real slope, real g_out, real g_next_v) {
  struct adjoint a;
  a.fired = (g_out - g_next_v * p->threshold) * slope;
  a.v = g_next_v + a.fired;
  return a;
}

/* The backward of decays and sums, which needs nothing from the forward. */
LIF_FN void propagate(int S, const struct params *p, struct adjoint a, const struct states *g_next,
                      struct states *g, struct inputs *g_in) {
  g_in->noise = a.v;
  if (S == 0) g_in->x[0] = a.v;
  LIF_EACH_SYNAPSE(k, S) g_in->x[k] = g->i[k] = (g_next->i[k] + a.v) * p->decay_syn[k];
  g->v = a.v * p->decay_mem;
}

LIF_FN void step_backward_masked(int S, const struct params *p, int open, real g_out,
                                 const struct states *g_next, struct states *g,
                                 struct inputs *g_in) {
  propagate(S, p, adjoint(p, window_slope(open, p->per_threshold), g_out, g_next->v), g_next, g,
            g_in);
}

LIF_FN real most_spikes(const struct options *o) { return OPTION(o, max_spikes); }

LIF_FN struct kept keep(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in) {
  const struct kept c = {membrane(S, p, s, in, NULL)};
  (void)o;
  return c;
}

LIF_FN struct point spike_point(const struct params *p, const struct kept *c) {
  const struct point at = {c->v, p->threshold, 1, p->per_threshold};
  return at;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p,
                          const struct kept *c, const struct states *s, const struct inputs *in,
                          struct slope spike, real g_out, const struct states *g_next,
                          struct states *g, struct inputs *g_in, struct params *g_p) {
  const struct adjoint a = adjoint(p, spike.v, g_out, g_next->v);
  if (o->param_gradients) {
    const real n = spike_count(o, c->v, p->threshold, p->per_threshold, OPTION(o, max_spikes));
    g_p->threshold += a.fired * spike.to_threshold - g_next->v * n;
    g_p->decay_mem += a.v * s->v;
    g_p->bias += a.v;
    LIF_EACH_SYNAPSE(k, S)
    g_p->decay_syn[k] += (g_next->i[k] + a.v) * ((s->i[k] + in->x[k]) + in->rec[k]);
  }
  propagate(S, p, a, g_next, g, g_in);
}

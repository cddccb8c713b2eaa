/* Current-based leaky integrate-and-fire by forward Euler: at most one spike per step, reset to a
 * value, refractory period, and measured traces of neuromorphic hardware instead of computed ones.
 * In each step:
 *
 *   j, i as in euler.h, by the option synapse_update
 *   v   = ((v + rate_mem * ((leak - v) + j)) + noise) + bias     leaky = 0: without (leak - v)
 *   v   = membrane_hw            if given: the measured value; the gradient goes to the computed v
 *   z   = [v - threshold > 0]
 *   z   = spikes_hw              if given: likewise
 *   v   = (1 - z) * v + z * reset_value
 *                                not with membrane_hw; z is detached unless reset_gradient
 * and with a refractory period of `refractory` steps
 *   m   = [r > 0]
 *   v   = (1 - m) * v + m * reset_value;   then membrane_hw again
 *   z   = (1 - m) * z;                     then spikes_hw again
 *   r   = (1 - z) * max(r - m, 0) + z * refractory               has no gradient; is not rounded
 *
 * Source: hxtorch's cuba_lif_integration, cuba_refractory_lif_integration and cuba_iaf_integration,
 * norse's lif_feed_forward_step, with their order of operations. */
#include "neuron.h"
#include "euler.h"

#define NEURON_LIBRARY_SURROGATE LIF_SURROGATE_super_spike
#define NEURON_SPIKING 1
#define NEURON_RECURRENT 1
#define NEURON_MASKABLE 0
#define NEURON_COUNTS 0
#define NEURON_MAX_SYNAPSES 0
#define NEURON_INPUTS(FIELD)            \
  FIELD(x, PER_CURRENT)                 \
  FIELD(noise, OPTIONAL_PER_NEURON)     \
  FIELD(spikes_hw, OPTIONAL_PER_NEURON) \
  FIELD(membrane_hw, OPTIONAL_PER_NEURON) FIELD(rec, RECURRENT)
#define NEURON_PARAMS(FIELD)              \
  FIELD(rate_mem, PER_NEURON)             \
  FIELD(rate_syn, PER_NEURON)             \
  FIELD(leak, OPTIONAL_PER_NEURON)        \
  FIELD(reset_value, OPTIONAL_PER_NEURON) \
  FIELD(threshold, PER_NEURON)            \
  FIELD(refractory, OPTIONAL_PER_NEURON) FIELD(bias, OPTIONAL_PER_NEURON)
#define NEURON_DERIVED(FIELD) FIELD(per_threshold, PER_NEURON)
#define NEURON_STATES(FIELD) \
  FIELD(v, PER_NEURON) FIELD(i, PER_NEURON) FIELD(refractory, OPTIONAL_PER_NEURON)
#define NEURON_KEPT(FIELD)                                            \
  /* membrane potential before the reset; whether it is refractory */ \
  FIELD(v, PER_NEURON) FIELD(mute, PER_NEURON)
#define NEURON_OPTIONS(OPTION) OPTION(synapse_update) OPTION(leaky) OPTION(reset_gradient)

NEURON_STRUCTS

/* 1: hxtorch's LIF. 2: norse's. */
enum { COMMON_CASES = 2 };
LIF_ON_BOTH struct common_case common_case(int number) {
  struct common_case c = {0};
  expect(&c, OPTION_synapse_update, number == 1 ? SYNAPSE_MEMBRANE_FIRST : SYNAPSE_INPUT_FIRST);
  expect(&c, OPTION_leaky, 1);
  expect(&c, OPTION_reset_gradient, number == 2);
  c.left_out = 1 << PARAM_bias;
  return c;
}

LIF_FN void derive(struct params *p) { p->per_threshold = REAL(1) / p->threshold; }

/* What a step makes of its input. */
struct charge {
  struct synapse syn;
  real pull; /* what rate_mem multiplies */
};

LIF_FN struct charge charge(const struct options *o, const struct params *p, const struct states *s,
                            const struct inputs *in) {
  struct charge c;
  c.syn = synapse(OPTION(o, synapse_update), s->i, in->x[0], in->rec[0], p->rate_syn);
  c.pull = membrane_pull(OPTION(o, leaky) != 0, s->v, p->leak, c.syn.drive);
  return c;
}

LIF_FN struct kept keep(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in) {
  struct kept c;
  (void)S;
  c.v = choose(INPUT_GIVEN(o, membrane_hw), in->membrane_hw,
               ((s->v + p->rate_mem * charge(o, p, s, in).pull) + in->noise) + p->bias);
  c.mute = s->refractory > REAL(0)
               ? REAL(1)
               : REAL(0); /* 0 without a refractory period, because the state is then 0 */
  return c;
}

/* Whether spikes are 0 or 1 and nothing between. */
LIF_FN int binary(const struct options *o) { return !o->smooth && !INPUT_GIVEN(o, spikes_hw); }

/* (1 - c) * a + c * b. `exact` says that c is 0 or 1. */
LIF_FN real either(int exact, real c, real a, real b) {
  return add_product(exact, REAL(1) - c, a, c * b);
}

/* Spikes before the refractory period mutes them. */
LIF_FN real fire(const struct options *o, const struct params *p, const struct kept *c,
                 const struct inputs *in) {
  return choose(INPUT_GIVEN(o, spikes_hw), in->spikes_hw,
                spike_above_threshold(o, c->v, p->threshold));
}

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s,
                 const struct inputs *in, struct states *next) {
  const real i = charge(o, p, s, in).syn.next;
  const struct kept c = keep(S, o, p, s, in);
  const real spikes = fire(o, p, &c, in);
  const real after = either(binary(o), spikes, c.v, p->reset_value);
  const real held =
      choose(PARAM_GIVEN(o, refractory), either(1, c.mute, after, p->reset_value), after);
  const real z = choose(INPUT_GIVEN(o, spikes_hw), in->spikes_hw, (REAL(1) - c.mute) * spikes);
  const real rest = s->refractory - c.mute;
  next->v = choose(INPUT_GIVEN(o, membrane_hw), in->membrane_hw, held);
  next->i = i;
  next->refractory = either(binary(o), z, rest < REAL(0) ? REAL(0) : rest, p->refractory);
  return z;
}

LIF_FN real most_spikes(const struct options *o) { return (void)o, REAL(1); }

LIF_FN struct point spike_point(const struct params *p, const struct kept *c) {
  const struct point at = {c->v, p->threshold, 1, p->per_threshold};
  return at;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p,
                          const struct kept *c, const struct states *s, const struct inputs *in,
                          struct slope spike, real g_out, const struct states *g_next,
                          struct states *g, struct inputs *g_in, struct params *g_p) {
  const real spikes = fire(o, p, c, in);
  const real g_i = g_next->i;
  const real open = REAL(1) - c->mute;
  const real g_after = g_next->v * open;
  const int measured = INPUT_GIVEN(o, membrane_hw); /* the membrane is then not reset */
  const real through_reset = choose(OPTION(o, reset_gradient) != 0 && !measured,
                                    g_after * (p->reset_value - c->v), REAL(-0.0));
  const real g_spikes = g_out * open + through_reset;
  const real g_fired = g_spikes * spike.v;
  const real g_v = choose(measured, g_after + g_fired,
                          add_product(binary(o), g_after, REAL(1) - spikes, g_fired));
  const real g_pull = g_v * p->rate_mem;
  (void)S;
  if (o->param_gradients) {
    const struct charge input = charge(o, p, s, in);
    g_p->rate_mem += g_v * input.pull;
    g_p->rate_syn -= g_i * input.syn.drive;
    g_p->leak += choose(OPTION(o, leaky) != 0, g_pull, REAL(0));
    g_p->reset_value += (g_next->v - g_after) + choose(measured, REAL(0), g_after * spikes);
    g_p->threshold += g_fired * spike.to_threshold;
    g_p->refractory = REAL(0);
    g_p->bias += g_v;
  }
  g->v = choose(OPTION(o, leaky) != 0, g_v - g_pull, g_v);
  g->i = synapse_backward(OPTION(o, synapse_update), g_pull, g_i, p->rate_syn, &g_in->x[0]);
  g->refractory = REAL(0);
  g_in->noise = g_v;
  g_in->spikes_hw = g_in->membrane_hw = REAL(0);
}

/* Adaptive leaky integrate-and-fire: each spike raises the threshold, which then decays back. With
 * one exponential synapse, or none. In each step:
 *
 *   i  = decay_syn * (i + (x + rec))              without a synapse: i = x + rec
 *   i  = (1 - decay_mem) * i                      norm_input = 1: only what the membrane receives
 *                                                 norm_input = 2: the state i too
 *   v  = ((decay_mem * v + i) + noise) + bias
 *   th = threshold + adapt_scale * a
 *   s  = [v - th >= 0]                            multi_spikes: [v > 0] * trunc(v / th),
 *                                                 at most max_spikes
 *   v  = v - s * (reset_value, or th)             reset_to_value:
 *                                                 v * [s == 0] + reset_value * [s != 0]
 *   a  = decay_adapt * a + (1 - decay_adapt) * s  zero_adaptation: then 0 where s != 0
 *   v  = max(v - min_v, 0) + min_v                if min_v is given
 *
 * threshold_gradient = 0 leaves out the surrogate's derivative with respect to the threshold. No
 * gradient flows through s in the reset to a value.
 *
 * Source: sinabs' ALIF and ALIFRecurrent, with their order of operations. Their documentation says
 * what zero_adaptation with reset_value = threshold does (after Bellec et al. 2018, "Long
 * short-term memory and learning-to-learn in networks of spiking neurons"). */
#include "neuron.h"

#define NEURON_LIBRARY_SURROGATE LIF_SURROGATE_single_exponential
#define NEURON_SPIKING 1
#define NEURON_RECURRENT 1
#define NEURON_MASKABLE 0
#define NEURON_COUNTS 0
#define NEURON_MAX_SYNAPSES 1
#define NEURON_INPUTS(FIELD) \
  FIELD(x, PER_CURRENT) FIELD(noise, OPTIONAL_PER_NEURON) FIELD(rec, RECURRENT)
#define NEURON_PARAMS(FIELD)              \
  FIELD(decay_mem, PER_NEURON)            \
  FIELD(decay_syn, PER_SYNAPSE)           \
  FIELD(decay_adapt, PER_NEURON)          \
  FIELD(adapt_scale, PER_NEURON)          \
  FIELD(threshold, PER_NEURON)            \
  FIELD(reset_value, OPTIONAL_PER_NEURON) \
  FIELD(min_v, OPTIONAL_PER_NEURON) FIELD(bias, OPTIONAL_PER_NEURON)
#define NEURON_DERIVED(FIELD)
#define NEURON_STATES(FIELD) \
  FIELD(v, PER_NEURON) FIELD(i, PER_SYNAPSE) FIELD(adaptation, PER_NEURON)
#define NEURON_KEPT(FIELD)                                          \
  /* membrane potential before the reset; the adaptive threshold */ \
  FIELD(v, PER_NEURON) FIELD(threshold, PER_NEURON)
#define NEURON_OPTIONS(OPTION) \
  OPTION(norm_input)           \
  OPTION(multi_spikes)         \
  OPTION(max_spikes) OPTION(reset_to_value) OPTION(zero_adaptation) OPTION(threshold_gradient)

NEURON_STRUCTS

/* sinabs' with norm_input and the subtractive reset. 1: SingleSpike. 2: MultiSpike. */
enum { COMMON_CASES = 2 };
LIF_ON_BOTH struct common_case common_case(int number) {
  struct common_case c = {0};
  expect(&c, OPTION_norm_input, 1);
  expect(&c, OPTION_multi_spikes, number == 2);
  expect(&c, OPTION_reset_to_value, 0);
  expect(&c, OPTION_zero_adaptation, 0);
  c.left_out = 1 << PARAM_reset_value | 1 << PARAM_min_v | 1 << PARAM_bias;
  return c;
}

LIF_FN void derive(struct params *p) { (void)p; }

/* What a step makes of its input. */
struct charge {
  real current; /* of the synapse after its decay; without a synapse, the input */
  real drive;   /* what the membrane receives */
};

LIF_FN struct charge charge(int S, const struct options *o, const struct params *p,
                            const struct states *s, const struct inputs *in) {
  struct charge c;
  const real x = in->x[0] + in->rec[0];
  c.current = S > 0 ? p->decay_syn[0] * (s->i[0] + x) : x;
  c.drive = choose(OPTION(o, norm_input) != 0, (REAL(1) - p->decay_mem) * c.current, c.current);
  return c;
}

LIF_FN struct kept keep(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in) {
  struct kept c;
  c.v = ((p->decay_mem * s->v + charge(S, o, p, s, in).drive) + in->noise) + p->bias;
  c.threshold = p->threshold + p->adapt_scale * s->adaptation;
  return c;
}

/* Whether spikes are 0 or 1 and nothing between. */
LIF_FN int binary(const struct options *o) { return !o->smooth && OPTION(o, multi_spikes) == 0; }

/* Spike and reset. */
struct firing {
  real spikes;
  real silent;     /* [spikes == 0] */
  real subtracted; /* what one spike subtracts in the subtractive reset */
  real reset;      /* membrane potential after the reset */
};

LIF_FN struct firing fire(const struct options *o, const struct params *p, const struct kept *c) {
  struct firing f;
  f.spikes = choose(OPTION(o, multi_spikes) != 0,
                    positive_spike_count(o, c->v, c->threshold, OPTION(o, max_spikes)),
                    spike_at_threshold(o, c->v, c->threshold));
  f.silent = f.spikes == REAL(0) ? REAL(1) : REAL(0);
  f.subtracted = choose(PARAM_GIVEN(o, reset_value), p->reset_value, c->threshold);
  f.reset = choose(OPTION(o, reset_to_value) != 0,
                   c->v * f.silent + p->reset_value * (REAL(1) - f.silent),
                   add_product(binary(o), -f.spikes, f.subtracted, c->v));
  return f;
}

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s,
                 const struct inputs *in, struct states *next) {
  const struct charge input = charge(S, o, p, s, in);
  const struct kept c = keep(S, o, p, s, in);
  const struct firing f = fire(o, p, &c);
  const real adapted =
      add_product(binary(o), f.spikes, REAL(1) - p->decay_adapt, p->decay_adapt * s->adaptation);
  const real zeroed = f.spikes != REAL(0) ? REAL(0) : adapted;
  const real above = f.reset - p->min_v;
  next->adaptation = choose(OPTION(o, zero_adaptation) != 0, zeroed, adapted);
  next->v = choose(PARAM_GIVEN(o, min_v), (above <= REAL(0) ? REAL(0) : above) + p->min_v, f.reset);
  if (S > 0) next->i[0] = choose(OPTION(o, norm_input) == 2, input.drive, input.current);
  return f.spikes;
}

LIF_FN real most_spikes(const struct options *o) {
  return OPTION(o, multi_spikes) != 0 ? OPTION(o, max_spikes) : REAL(1);
}

LIF_FN struct point spike_point(const struct params *p, const struct kept *c) {
  const struct point at = {c->v, c->threshold, 0, REAL(0)};
  (void)p;
  return at;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p,
                          const struct kept *c, const struct states *s, const struct inputs *in,
                          struct slope spike, real g_out, const struct states *g_next,
                          struct states *g, struct inputs *g_in, struct params *g_p) {
  const struct firing f = fire(o, p, c);
  const int to_value = OPTION(o, reset_to_value) != 0;
  const int norm = OPTION(o, norm_input) != 0, norm_state = OPTION(o, norm_input) == 2;
  const real open = f.reset - p->min_v > REAL(0) ? REAL(1) : REAL(0);
  const real free = choose(PARAM_GIVEN(o, min_v), open, REAL(1));
  const real g_reset = g_next->v * free;
  const real g_adapted =
      choose(OPTION(o, zero_adaptation) != 0, g_next->adaptation * f.silent, g_next->adaptation);

  const real g_direct = g_out + g_adapted * (REAL(1) - p->decay_adapt);
  const real g_spikes = choose(to_value, g_direct, g_direct - g_reset * f.subtracted);
  const real g_subtracted = choose(to_value, REAL(0), -g_reset * f.spikes);
  const real g_fired = g_spikes * spike.v;
  const real g_surrogate =
      choose(OPTION(o, threshold_gradient) != 0, g_fired * spike.to_threshold, REAL(0));
  const real g_both =
      choose(to_value, g_surrogate, add_product(binary(o), -g_reset, f.spikes, g_surrogate));
  const real g_threshold = choose(PARAM_GIVEN(o, reset_value), g_surrogate, g_both);
  const real g_charged = choose(to_value, g_reset * f.silent, g_reset) + g_fired;

  const real g_i = S > 0 ? g_next->i[0] : REAL(-0.0);
  const real g_drive = choose(norm_state, g_charged + g_i, g_charged);
  const real g_scaled = choose(norm, g_drive * (REAL(1) - p->decay_mem), g_drive);
  const real g_current = choose(norm_state, g_scaled, g_scaled + g_i);
  if (o->param_gradients) {
    g_p->decay_mem +=
        g_charged * s->v - choose(norm, g_drive * charge(S, o, p, s, in).current, REAL(0));
    g_p->decay_adapt += g_adapted * (s->adaptation - f.spikes);
    g_p->adapt_scale += g_threshold * s->adaptation;
    g_p->threshold += g_threshold;
    g_p->reset_value += choose(to_value, g_reset * (REAL(1) - f.silent), g_subtracted);
    g_p->min_v += g_next->v * (REAL(1) - free);
    g_p->bias += g_charged;
    if (S > 0) g_p->decay_syn[0] += g_current * (s->i[0] + (in->x[0] + in->rec[0]));
  }
  g_in->x[0] = S > 0 ? g_current * p->decay_syn[0] : g_current;
  if (S > 0) g->i[0] = g_current * p->decay_syn[0];
  g_in->noise = g_charged;
  g->v = g_charged * p->decay_mem;
  g->adaptation = g_adapted * p->decay_adapt + g_threshold * p->adapt_scale;
}

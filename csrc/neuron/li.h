/* Leaky integrator with one exponential synapse: it integrates its input and never spikes. Its
 * output is v. In each step:
 *
 *   j, i as in euler.h, by the option synapse_update
 *   v = ((v + rate_mem * ((leak - v) + j)) + noise) + bias
 *   v = membrane_hw              if given: the measured value; the gradient goes to the computed v
 *
 * Source: norse's li_feed_forward_step (INPUT_FIRST) and hxtorch's cuba_li_integration
 * (MEMBRANE_FIRST_INCREMENT), with their order of operations. */
#include "neuron.h"
#include "euler.h"

#define NEURON_LIBRARY_SURROGATE (-1)
#define NEURON_SPIKING 0
#define NEURON_RECURRENT 0
#define NEURON_MASKABLE 0
#define NEURON_COUNTS 0
#define NEURON_MAX_SYNAPSES 0
#define NEURON_INPUTS(FIELD) \
  FIELD(x, PER_NEURON) FIELD(noise, OPTIONAL_PER_NEURON) FIELD(membrane_hw, OPTIONAL_PER_NEURON)
#define NEURON_PARAMS(FIELD)  \
  FIELD(rate_mem, PER_NEURON) \
  FIELD(rate_syn, PER_NEURON) FIELD(leak, OPTIONAL_PER_NEURON) FIELD(bias, OPTIONAL_PER_NEURON)
#define NEURON_DERIVED(FIELD)
#define NEURON_STATES(FIELD) FIELD(v, PER_NEURON) FIELD(i, PER_NEURON)
#define NEURON_KEPT(FIELD)
#define NEURON_OPTIONS(OPTION) OPTION(synapse_update)

NEURON_STRUCTS

/* 1: without a bias. 2: norse's, which is also INPUT_FIRST. */
enum { COMMON_CASES = 2 };
LIF_ON_BOTH struct common_case common_case(int number) {
  struct common_case c = {0};
  if (number == 2) expect(&c, OPTION_synapse_update, SYNAPSE_INPUT_FIRST);
  c.left_out = 1 << PARAM_bias;
  return c;
}

LIF_FN void derive(struct params *p) { (void)p; }

LIF_FN real step(int S, const struct options *o, const struct params *p, const struct states *s,
                 const struct inputs *in, struct states *next) {
  const struct synapse syn = synapse(OPTION(o, synapse_update), s->i, in->x, REAL(0), p->rate_syn);
  const real v =
      ((s->v + p->rate_mem * membrane_pull(1, s->v, p->leak, syn.drive)) + in->noise) + p->bias;
  (void)S;
  next->v = choose(INPUT_GIVEN(o, membrane_hw), in->membrane_hw, v);
  next->i = syn.next;
  return next->v;
}

LIF_FN struct kept keep(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in) {
  const struct kept nothing = {};
  (void)S, (void)o, (void)p, (void)s, (void)in;
  return nothing;
}

LIF_FN void step_backward(int S, const struct options *o, const struct params *p,
                          const struct kept *c, const struct states *s, const struct inputs *in,
                          struct slope spike, real g_out, const struct states *g_next,
                          struct states *g, struct inputs *g_in, struct params *g_p) {
  const real g_v = g_out + g_next->v, g_i = g_next->i;
  const real g_pull = g_v * p->rate_mem;
  (void)S, (void)spike, (void)c;
  if (o->param_gradients) {
    const struct synapse syn =
        synapse(OPTION(o, synapse_update), s->i, in->x, REAL(0), p->rate_syn);
    g_p->rate_mem += g_v * membrane_pull(1, s->v, p->leak, syn.drive);
    g_p->rate_syn -= g_i * syn.drive;
    g_p->leak += g_pull;
    g_p->bias += g_v;
  }
  g->v = g_v - g_pull;
  g->i = synapse_backward(OPTION(o, synapse_update), g_pull, g_i, p->rate_syn, &g_in->x);
  g_in->noise = g_v;
  g_in->membrane_hw = REAL(0);
}

/* What a neuron's header need not define, because the neuron does not spike, has no mask or does
 * not count spikes: the loops call it all the same. Included after the neuron's header. */
#ifndef LIF_DEFAULTS_H
#define LIF_DEFAULTS_H

#if !NEURON_SPIKING
LIF_FN real most_spikes(const struct options *o) { return (void)o, REAL(0); }

LIF_FN struct point spike_point(const struct params *p, const struct kept *c) {
  const struct point nowhere = {REAL(0), REAL(0), 0, REAL(0)};
  (void)p, (void)c;
  return nowhere;
}
#endif

/* The slope of a neuron's spike in one step, which the loops pass to step_backward. */
LIF_FN struct slope slope_of_step(const struct options *o, const struct params *p,
                                  const struct kept *c) {
  const struct slope none = {REAL(0), REAL(0)};
  return NEURON_SPIKING ? surrogate_slope(o, spike_point(p, c), most_spikes(o)) : none;
}

#if !NEURON_MASKABLE
LIF_FN real step_masked(int S, const struct options *o, const struct params *p,
                        const struct states *s, const struct inputs *in, struct states *next,
                        int *open) {
  *open = 0;
  return step(S, o, p, s, in, next);
}
LIF_FN void step_backward_masked(int S, const struct params *p, int open, real g_out,
                                 const struct states *g_next, struct states *g,
                                 struct inputs *g_in) {
  (void)S, (void)p, (void)open, (void)g_out, (void)g_next, (void)g, (void)g_in;
}
#endif

#if !NEURON_COUNTS
LIF_FN int counts_by_reciprocal(const struct options *o, const struct params *p) {
  return (void)o, (void)p, 1;
}
LIF_FN int exceeds_few(const struct params *p, const struct states *s) {
  return (void)p, (void)s, 0;
}
#endif

#endif

/* slope_of_step: the slope of a neuron's spike in one step, which the loops pass to step_backward.
 * Included after the neuron's header. */
#ifndef LIF_SLOPE_H
#define LIF_SLOPE_H

#if NEURON_SPIKING
LIF_FN struct slope slope_of_step(const struct options *o, const struct params *p,
                                  const struct kept *c) {
  return surrogate_slope(o, spike_point(p, c), most_spikes(o));
}
#else /* a neuron without spikes: no slope, and nobody uses it */
LIF_FN real most_spikes(const struct options *o) { return (void)o, REAL(0); }

LIF_FN struct point spike_point(const struct params *p, const struct kept *c) {
  const struct point nowhere = {REAL(0), REAL(0), 0, REAL(0)};
  (void)p, (void)c;
  return nowhere;
}

LIF_FN struct slope slope_of_step(const struct options *o, const struct params *p,
                                  const struct kept *c) {
  const struct slope none = {REAL(0), REAL(0)};
  (void)o, (void)p, (void)c;
  return none;
}
#endif

#endif

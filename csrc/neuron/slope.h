/* The slope of a neuron's spike in one step: what step_backward is told. Included behind the neuron's header. */
#ifndef LIF_SLOPE_H
#define LIF_SLOPE_H

#if NEURON_SPIKING
LIF_FN struct slope slope_of_step(int S, const struct options *o, const struct params *p, const struct states *s,
                                  const struct inputs *in) {
  return surrogate_slope(o, spike_point(S, o, p, s, in), most_spikes(o));
}
#else /* there is none, and nobody asks for it */
LIF_FN real most_spikes(const struct options *o) { return (void)o, REAL(0); }

LIF_FN struct point spike_point(int S, const struct options *o, const struct params *p, const struct states *s,
                                const struct inputs *in) {
  const struct point nowhere = {REAL(0), REAL(0), 0, REAL(0)};
  (void)S, (void)o, (void)p, (void)s, (void)in;
  return nowhere;
}

LIF_FN struct slope slope_of_step(int S, const struct options *o, const struct params *p, const struct states *s,
                                  const struct inputs *in) {
  const struct slope none = {REAL(0), REAL(0)};
  (void)S, (void)o, (void)p, (void)s, (void)in;
  return none;
}
#endif

#endif

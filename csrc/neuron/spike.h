/* Spike functions: membrane potential and threshold to the number of spikes of this step. In each, `smooth` puts the
 * surrogate's antiderivative in the spike's place. Counts are products, not selects: a NaN membrane then gives a NaN count, as in
 * the eager loop. */
#ifndef LIF_SPIKE_H
#define LIF_SPIKE_H

#include "surrogate.h"

/* [v >= threshold] * floor(v / threshold), at most max_spikes: Rockpool's. */
LIF_FN real spike_count(const struct options *o, real v, real threshold, real max_spikes) {
  if (o->smooth) return surrogate_smooth(o, v, threshold, max_spikes);
  const real reached = v >= threshold ? REAL(1) : REAL(0);
#ifdef __CUDACC__
  /* Below two thresholds the count needs no division, which is slow on a GPU: v/threshold rounds to no less than 1 from the
   * threshold up and to less than 2 below two thresholds, and to a finite number here. Zero has the quotient's sign. */
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold) return v < REAL(0) ? REAL(-0.0) : reached;
#endif
  const real count = reached * real_floor(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* [v > 0] * trunc(v / threshold), at most max_spikes: sinabs' MultiSpike and MaxSpike. */
LIF_FN real positive_spike_count(const struct options *o, real v, real threshold, real max_spikes) {
  if (o->smooth) return surrogate_smooth(o, v, threshold, max_spikes);
#ifdef __CUDACC__
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold && threshold > REAL(0)) return v >= threshold ? REAL(1) : REAL(0);
#endif
  const real count = (v > REAL(0) ? REAL(1) : REAL(0)) * real_trunc(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* [v - threshold >= 0]: sinabs' SingleSpike. */
LIF_FN real spike_at_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(o, v, threshold, REAL(1));
  return v - threshold >= REAL(0) ? REAL(1) : REAL(0);
}

/* [v - threshold > 0]: hxtorch's and norse's. */
LIF_FN real spike_above_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(o, v, threshold, REAL(1));
  return v - threshold > REAL(0) ? REAL(1) : REAL(0);
}

#endif

/* Spike functions: membrane potential and threshold to the number of spikes of this step. */
#ifndef LIF_SPIKE_H
#define LIF_SPIKE_H

#include "surrogate.h"

/* Rockpool's multi-spike count, at most max_spikes. The product, not a select: it lets a NaN membrane give a NaN count,
 * as the eager loop does. */
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

#endif

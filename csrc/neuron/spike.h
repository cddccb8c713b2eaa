/* Spike functions: membrane potential and threshold to the number of spikes of this step. In each, `smooth` puts the
 * surrogate's antiderivative in the spike's place. Counts are products, not selects: a NaN membrane then gives a NaN count, as in
 * the eager loop. */
#ifndef LIF_SPIKE_H
#define LIF_SPIKE_H

#include "surrogate.h"

/* min(floor(v / threshold), max_spikes) for v >= threshold, without a division in the loop: the reciprocal is the same in every
 * step, and a remainder by fused multiply-add makes of the product the correctly rounded quotient (Markstein 1990). Holds for the
 * thresholds and max_spikes that usual() tells. On CUDA adding 2^mantissa rounded down leaves the integer; beyond it, and where the
 * quotient overflows or comes as NaN, max_spikes is less. */
LIF_FN real bounded_count(real v, real threshold, real per_threshold, real max_spikes) {
  const real product = v * per_threshold;
  const real quotient = real_fma(real_fma(-product, threshold, v), per_threshold, product);
#ifndef __CUDACC__
  const real count = real_floor(quotient);
  return count < max_spikes ? count : max_spikes;
#elif LIF_REAL == 64
  return fmin(__dadd_rd(quotient, 4503599627370496.0) - 4503599627370496.0, max_spikes);
#else
  return fminf(__fadd_rd(quotient, 8388608.0f) - 8388608.0f, max_spikes);
#endif
}

LIF_FN int usual(real threshold, real max_spikes) {
  return threshold > REAL(1e-15) && threshold < REAL(1e15) && max_spikes <= REAL(4194304.0);
}

/* [v >= threshold] * floor(v / threshold), at most max_spikes: Rockpool's. */
LIF_FN real spike_count(const struct options *o, real v, real threshold, real per_threshold, real max_spikes) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, max_spikes);
  const real reached = v >= threshold ? REAL(1) : REAL(0);
#ifndef __CUDACC__
  (void)per_threshold;
  if (o->few) return v >= threshold ? REAL(1) : v * REAL(0); /* zero with the quotient's sign; NaN of NaN and of -inf */
  if (LIF_FMA && o->usual) {
    const real some = bounded_count(v, threshold, per_threshold, max_spikes);
    return v >= threshold ? some : v * REAL(0);
  }
#else
  /* Below two thresholds the count needs no division, which is slow on a GPU: v/threshold rounds to no less than 1 from the
   * threshold up and to less than 2 below two thresholds, and to a finite number here. Zero has the quotient's sign. */
  if (o->usual) {
    const real many = bounded_count(v, threshold, per_threshold, max_spikes);
    return v >= REAL(2) * threshold ? many : v >= threshold ? REAL(1) : v * REAL(0); /* NaN of NaN and of -inf */
  }
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold) return v < REAL(0) ? REAL(-0.0) : reached;
#endif
  const real count = reached * real_floor(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* v - n * threshold, for the n of spike_count. Where counts are below two, a select of the same bits, for it waits for neither the
 * count nor a product. (Adding 0 makes 0 of -0. Of -inf the count is NaN: that the loop has to notice.) */
LIF_FN real reset_by_subtraction(const struct options *o, real v, real n, real threshold) {
#ifndef __CUDACC__
  if (o->few) return v >= threshold ? v - threshold : v + REAL(0);
#endif
  return (void)o, v - n * threshold;
}

/* [v > 0] * trunc(v / threshold), at most max_spikes: sinabs' MultiSpike and MaxSpike. */
LIF_FN real positive_spike_count(const struct options *o, real v, real threshold, real max_spikes) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, max_spikes);
#ifdef __CUDACC__
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold && threshold > REAL(0)) return v >= threshold ? REAL(1) : REAL(0);
#endif
  const real count = (v > REAL(0) ? REAL(1) : REAL(0)) * real_trunc(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* [v - threshold >= 0]: sinabs' SingleSpike. */
LIF_FN real spike_at_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, REAL(1));
  return v - threshold >= REAL(0) ? REAL(1) : REAL(0);
}

/* [v - threshold > 0]: hxtorch's and norse's. Of all floats that is [v > threshold]: the difference of two that differ is not 0. */
LIF_FN real spike_above_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, REAL(1));
  return v > threshold ? REAL(1) : REAL(0);
}

#endif

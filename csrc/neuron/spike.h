/* Spike functions: from membrane potential and threshold to the number of spikes of this step. With
 * `smooth` they return the surrogate's antiderivative instead. Counts are products, not selects, so
 * that a NaN membrane gives a NaN count, as in the eager loop. */
#ifndef LIF_SPIKE_H
#define LIF_SPIKE_H

#include "surrogate.h"

/* min(floor(v / threshold), max_spikes) for v >= threshold, without a division in the loop. The
 * reciprocal is the same in every step. A remainder by fused multiply-add turns the product into
 * the correctly rounded quotient (Markstein 1990). This holds for every threshold and max_spikes
 * that reciprocal_fits() accepts.
 *
 * On CUDA floor is an addition of 2^mantissa, rounded down, and a subtraction. Where the quotient
 * is larger than that, infinite or NaN, fmin returns max_spikes. */
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

/* Whether bounded_count is right for this threshold and max_spikes: their magnitudes keep
 * reciprocal, remainder and count exact. */
LIF_FN int reciprocal_fits(real threshold, real max_spikes) {
  return threshold > REAL(1e-15) && threshold < REAL(1e15) && max_spikes >= REAL(1) &&
         max_spikes <= REAL(4194304.0);
}

/* [v >= threshold] * floor(v / threshold), at most max_spikes, as in Rockpool. */
LIF_FN real spike_count(const struct options *o, real v, real threshold, real per_threshold,
                        real max_spikes) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, max_spikes);
  const real reached = v >= threshold ? REAL(1) : REAL(0);
#ifndef __CUDACC__
  (void)per_threshold;
  if (o->few)
    return v >= threshold ? REAL(1)
                          : v * REAL(0); /* 0 with the quotient's sign; NaN for NaN and -inf */
  if (LIF_FMA && o->reciprocal_fits) {
    const real some = bounded_count(v, threshold, per_threshold, max_spikes);
    return v >= threshold ? some : v * REAL(0);
  }
#else
  /* Below two thresholds the count needs no division, which is slow on a GPU. From the threshold up
   * v/threshold rounds to 1 or more; below two thresholds it rounds to less than 2, and here to a
   * finite number. A count of 0 has the quotient's sign. */
  if (o->reciprocal_fits) {
    const real many = bounded_count(v, threshold, per_threshold, max_spikes);
    return v >= REAL(2) * threshold ? many
           : v >= threshold         ? REAL(1)
                                    : v * REAL(0); /* NaN for NaN and -inf */
  }
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold)
    return v < REAL(0) ? REAL(-0.0) : reached;
#endif
  const real count = reached * real_floor(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* v - n * threshold, for the n of spike_count. If counts are below two it is a select with the same
 * bits, because a select waits for neither the count nor a product. (Adding 0 turns -0 into 0. For
 * -inf the count is NaN; the loop has to notice that.) */
LIF_FN real reset_by_subtraction(const struct options *o, real v, real n, real threshold) {
#ifndef __CUDACC__
  if (o->few) return v >= threshold ? v - threshold : v + REAL(0);
#endif
  return (void)o, v - n * threshold;
}

/* [v > 0] * trunc(v / threshold), at most max_spikes, as in sinabs' MultiSpike and MaxSpike. */
LIF_FN real positive_spike_count(const struct options *o, real v, real threshold, real max_spikes) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, max_spikes);
#ifdef __CUDACC__
  if (v < REAL(2) * threshold && v > REAL(-1e30) * threshold && threshold > REAL(0))
    return v >= threshold ? REAL(1) : REAL(0);
#endif
  const real count = (v > REAL(0) ? REAL(1) : REAL(0)) * real_trunc(v / threshold);
  return count > max_spikes ? max_spikes : count;
}

/* [v - threshold >= 0], as in sinabs' SingleSpike. */
LIF_FN real spike_at_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, REAL(1));
  return v - threshold >= REAL(0) ? REAL(1) : REAL(0);
}

/* [v - threshold > 0], as in hxtorch and norse. For floats this is [v > threshold], because the
 * difference of two different floats is not 0. */
LIF_FN real spike_above_threshold(const struct options *o, real v, real threshold) {
  if (o->smooth) return surrogate_smooth(*o, v, threshold, REAL(1));
  return v > threshold ? REAL(1) : REAL(0);
}

#endif

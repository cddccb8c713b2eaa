/* Surrogate gradients: what replaces the derivative of a spike with respect to the membrane
 * potential v and to the threshold.
 *
 * The rest of the project knows a surrogate only by its line in the table below (LIF_SURROGATES).
 * Its two functions stand above the table:
 *   <name>_slope   its derivative with respect to v, and the factor from that derivative to the one
 *                  with respect to the threshold
 *   <name>_smooth  an antiderivative of the slope with respect to v, which replaces the spike in
 *                  gradient checks
 * p holds the surrogate's parameters in the table's order, per their reciprocals; max_spikes is the
 * neuron's bound on spikes per step.
 *
 * A slope must be the same on every device. It need not round as the reference's does, because no
 * spike depends on it. So instead of a division by what stays the same it multiplies by a
 * reciprocal that is made once: a division takes longer than an exponential. Reciprocals of
 * magnitudes from 1e-37 to 1e37 (float64: 1e-307 to 1e307) are accurate, finite and the same
 * everywhere. Beyond, CUDA's are 0 or infinite where the CPU's need not be (real_inverse). */
#ifndef LIF_SURROGATE_H
#define LIF_SURROGATE_H

#include "options.h"

struct slope {
  real v, to_threshold; /* v: the derivative with respect to v. v * to_threshold: that with respect
                           to the threshold */
};

/* Where a slope is taken. `fixed` is a constant of the neuron: 1 if its threshold is a parameter
 * and so the same in all steps. per_threshold is then its reciprocal. If it is not fixed, the
 * surrogates that need the reciprocal compute it. */
struct point {
  real v, threshold;
  int fixed;
  real per_threshold;
};

LIF_FN real inverse_threshold(struct point at) {
  return at.fixed ? at.per_threshold : real_inverse(at.threshold);
}

/* Rockpool's StepPWL: a window open above threshold - p[0]. */
LIF_FN struct slope step_pwl_slope(struct point at, const real *p, const real *per,
                                   real max_spikes) {
  const real open = at.v >= at.threshold - p[0] ? REAL(1) : REAL(0),
             per_threshold = inverse_threshold(at);
  struct slope d;
  (void)per, (void)max_spikes;
  d.v = per_threshold * open;
  d.to_threshold = -(at.v * per_threshold);
  return d;
}

LIF_FN real step_pwl_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return v >= threshold - p[0] ? v / threshold : REAL(0);
}

/* Rockpool's PeriodicExponential: an exponential of width p[0] around every multiple of the
 * threshold. Halfway between two multiples |offset| is the same from both, so it does no harm if
 * rounding moves the count by one. */
LIF_FN real periodic_exponential_offset(struct point at, real max_spikes, real *periods) {
  const real half = at.threshold * REAL(0.5), shifted = at.v - half;
  const real count = real_floor(shifted * inverse_threshold(at));
  const real last = max_spikes - REAL(1);
  const real bounded = count > last ? last : count;
  *periods = at.v >= at.threshold ? bounded : REAL(0);
  return (shifted - *periods * at.threshold) - half;
}

LIF_FN struct slope periodic_exponential_slope(struct point at, const real *p, const real *per,
                                               real max_spikes) {
  real periods;
  const real offset = periodic_exponential_offset(at, max_spikes, &periods),
             per_threshold = inverse_threshold(at);
  struct slope d;
  (void)p;
  d.v = real_exp(-real_abs(offset) * per[0]) * per_threshold;
  d.to_threshold = -(at.v * per_threshold);
  return d;
}

/* The integral of exp(-|y|/width) from minus infinity to y. */
LIF_FN real laplace_integral(real y, real width) {
  const real tail = width * real_exp(-real_abs(y) / width);
  return y < REAL(0) ? tail : REAL(2) * width - tail;
}

LIF_FN real periodic_exponential_smooth(real v, real threshold, const real *p, real max_spikes) {
  const struct point at = {v, threshold, 0, REAL(0)};
  real periods;
  const real offset = periodic_exponential_offset(at, max_spikes, &periods);
  const real half = threshold / REAL(2);
  const real period = laplace_integral(half, p[0]) - laplace_integral(-half, p[0]);
  return (periods * period + laplace_integral(offset, p[0])) / threshold;
}

/* The surrogates below are functions of v - threshold, or were written as if they were: the
 * derivative with respect to the threshold is the negative of that with respect to v. */
LIF_FN struct slope of_difference(real by_v) {
  const struct slope d = {by_v, REAL(-1)};
  return d;
}

/* SuperSpike (Zenke & Ganguli 2018, Neural Computation 30:1514): the derivative of a fast sigmoid
 * of steepness p[0], times p[1]. */
LIF_FN struct slope super_spike_slope(struct point at, const real *p, const real *per,
                                      real max_spikes) {
  const real base = p[0] * real_abs(at.v - at.threshold) + REAL(1);
  (void)per, (void)max_spikes;
  return of_difference(p[1] * real_inverse(base * base));
}

LIF_FN real super_spike_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return p[1] * (v - threshold) / (p[0] * real_abs(v - threshold) + REAL(1));
}

/* sinabs' SingleExponential (Shrestha & Orchard 2018, SLAYER): of width p[0] times the threshold
 * and area 2 p[1]. */
LIF_FN struct slope single_exponential_slope(struct point at, const real *p, const real *per,
                                             real max_spikes) {
  const real per_width = inverse_threshold(at) * per[0];
  (void)max_spikes;
  return of_difference(p[1] * per_width * real_exp(-real_abs(at.v - at.threshold) * per_width));
}

LIF_FN real single_exponential_smooth(real v, real threshold, const real *p, real max_spikes) {
  const real width = threshold * p[0];
  (void)max_spikes;
  return p[1] / width * laplace_integral(v - threshold, width);
}

LIF_FN real normal_density(real x, real mean, real per_deviation) {
  const real z = (x - mean) * per_deviation;
  return per_deviation * REAL(0.39894228040143268) *
         real_exp(REAL(-0.5) * (z * z)); /* 1 / sqrt(2 pi) */
}

LIF_FN real normal_integral(real x, real mean, real deviation) {
  return REAL(0.5) * (REAL(1) + (real)erf((double)((x - mean) / deviation) *
                                          0.70710678118654752)); /* 1 / sqrt(2) */
}

/* A normal distribution of mean p[0] and standard deviation p[1], times p[2]. */
LIF_FN struct slope gaussian_slope(struct point at, const real *p, const real *per,
                                   real max_spikes) {
  (void)max_spikes;
  return of_difference(p[2] * normal_density(at.v - at.threshold, p[0], per[1]));
}

LIF_FN real gaussian_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return p[2] * normal_integral(v - threshold, p[0], p[1]);
}

/* MultiGaussian (Yin, Corradi & Bohte 2021, Nature Machine Intelligence 3:905) with sinabs'
 * parameters mu, sigma, h, s, scale: a positive peak between two negative ones, p[3] times as
 * wide. */
LIF_FN struct slope multi_gaussian_slope(struct point at, const real *p, const real *per,
                                         real max_spikes) {
  const real x = at.v - at.threshold, per_wide = per[3] * per[1];
  const real sides = normal_density(x, p[1], per_wide) + normal_density(x, -p[1], per_wide);
  (void)max_spikes;
  return of_difference(p[4] * ((REAL(1) + p[2]) * normal_density(x, p[0], per[1]) - p[2] * sides));
}

LIF_FN real multi_gaussian_smooth(real v, real threshold, const real *p, real max_spikes) {
  const real x = v - threshold, wide = p[3] * p[1];
  (void)max_spikes;
  return p[4] * ((REAL(1) + p[2]) * normal_integral(x, p[0], p[1]) -
                 p[2] * normal_integral(x, p[1], wide) - p[2] * normal_integral(x, -p[1], wide));
}

/* sinabs' Heaviside: 1/threshold above threshold - p[0]. */
LIF_FN struct slope heaviside_slope(struct point at, const real *p, const real *per,
                                    real max_spikes) {
  (void)per, (void)max_spikes;
  return of_difference(at.v >= at.threshold - p[0] ? inverse_threshold(at) : REAL(0));
}

LIF_FN real heaviside_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return v >= threshold - p[0] ? (v - (threshold - p[0])) / threshold : REAL(0);
}

/* sinabs' PeriodicExponential (Weidel & Sheik 2021, WaveSense): of width p[0], times p[1]. Above
 * the threshold the distance to the nearest multiple counts twice. Halfway between two multiples it
 * is the same from both. */
LIF_FN real sinabs_periodic_distance(struct point at, real *periods) {
  const real past = at.v - at.threshold;
  *periods = real_floor(at.v * inverse_threshold(at) - REAL(0.5));
  return at.v >= at.threshold ? REAL(2) * (past - *periods * at.threshold) : past;
}

LIF_FN struct slope sinabs_periodic_exponential_slope(struct point at, const real *p,
                                                      const real *per, real max_spikes) {
  real periods;
  const real distance = sinabs_periodic_distance(at, &periods);
  (void)max_spikes;
  return of_difference(p[1] * real_exp(-real_abs(distance) * per[0]));
}

LIF_FN real sinabs_periodic_exponential_smooth(real v, real threshold, const real *p,
                                               real max_spikes) {
  const struct point at = {v, threshold, 0, REAL(0)};
  real periods;
  const real integral = laplace_integral(sinabs_periodic_distance(at, &periods), p[0]);
  const real period = laplace_integral(threshold, p[0]) - laplace_integral(-threshold, p[0]);
  const real above =
      p[0] + REAL(0.5) * ((integral - p[0]) +
                          periods * period); /* p[0]: the integral up to the threshold */
  (void)max_spikes;
  return p[1] * (v >= threshold ? above : integral);
}

/* Arctangent (Fang et al. 2021, ICCV) of steepness p[0]. */
LIF_FN struct slope atan_slope(struct point at, const real *p, const real *per, real max_spikes) {
  const real x = REAL(1.5707963267948966) * p[0] * (at.v - at.threshold); /* pi / 2 */
  (void)per, (void)max_spikes;
  return of_difference(p[0] * REAL(0.5) * real_inverse(REAL(1) + x * x));
}

LIF_FN real atan_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return (real)(atan((double)(REAL(1.5707963267948966) * p[0] * (v - threshold))) *
                    0.31830988618379067 +
                0.5); /* 1 / pi */
}

/* Logistic function of steepness p[0], moved left by p[1]. */
LIF_FN struct slope sigmoid_slope(struct point at, const real *p, const real *per,
                                  real max_spikes) {
  const real e = real_exp(-real_abs(p[0] * ((at.v - at.threshold) + p[1])));
  (void)per, (void)max_spikes;
  return of_difference(p[0] * e * real_inverse((REAL(1) + e) * (REAL(1) + e)));
}

LIF_FN real sigmoid_smooth(real v, real threshold, const real *p, real max_spikes) {
  const real x = p[0] * ((v - threshold) + p[1]), e = real_exp(-real_abs(x));
  (void)max_spikes;
  return (x >= REAL(0) ? REAL(1) : e) / (REAL(1) + e);
}

/* Triangle (Esser et al. 2016, PNAS 113:11441; Bellec et al. 2018): of half width p[0] and height
 * p[1]. */
LIF_FN struct slope triangle_slope(struct point at, const real *p, const real *per,
                                   real max_spikes) {
  const real height = REAL(1) - real_abs(at.v - at.threshold) * per[0];
  (void)max_spikes;
  return of_difference(height < REAL(0) ? REAL(0) : p[1] * height); /* NaN stays NaN */
}

LIF_FN real triangle_smooth(real v, real threshold, const real *p, real max_spikes) {
  const real x = v - threshold, rest = p[0] - real_abs(x);
  const real tail = rest < REAL(0) ? REAL(0) : rest * rest / (REAL(2) * p[0]);
  (void)max_spikes;
  return p[1] * (x < REAL(0) ? tail : p[0] - tail);
}

/* Per surrogate: name, Python class, parameters with the defaults of that class, whether it is a
 * window (see lif_surrogate). */
#define LIF_SURROGATES(SURROGATE)                                                           \
  SURROGATE(step_pwl, StepPWL, "window=0.5", 1)                                             \
  SURROGATE(periodic_exponential, PeriodicExponential, "window=0.5", 0)                     \
  SURROGATE(super_spike, SuperSpike, "alpha=100 scale=1", 0)                                \
  SURROGATE(single_exponential, SingleExponential, "width=0.5 scale=1", 0)                  \
  SURROGATE(gaussian, Gaussian, "mu=0 sigma=0.5 scale=1", 0)                                \
  SURROGATE(multi_gaussian, MultiGaussian, "mu=0 sigma=0.5 h=0.15 s=6 scale=1", 0)          \
  SURROGATE(heaviside, Heaviside, "window=1", 1)                                            \
  SURROGATE(sinabs_periodic_exponential, SinabsPeriodicExponential, "width=0.5 scale=1", 0) \
  SURROGATE(atan, ATan, "alpha=2", 0)                                                       \
  SURROGATE(sigmoid, Sigmoid, "alpha=4 shift=0", 0)                                         \
  SURROGATE(triangle, Triangle, "width=1 scale=1", 0)

#define LIF_SURROGATE_ID(name, class_name, params, window) LIF_SURROGATE_##name,
enum { LIF_SURROGATES(LIF_SURROGATE_ID) LIF_SURROGATE_COUNT };
/* The default of torch_lif's own functions and modules (torch_lif/surrogate.py). The loops are
 * compiled with it as a constant. */
#define LIF_DEFAULT_SURROGATE LIF_SURROGATE_super_spike
#undef LIF_SURROGATE_ID

/* For a surrogate that is a window: whether it is open, and its derivative with respect to v. */
LIF_FN int window_is_open(const struct options *o, real v, real threshold) {
  return v >= threshold - o->surrogate_params[0];
}
LIF_FN real window_slope(int open, real per_threshold) { return open ? per_threshold : REAL(0); }

LIF_FN struct slope surrogate_slope(const struct options *o, struct point at, real max_spikes) {
  const struct slope none = {REAL(0), REAL(0)};
#define LIF_CASE(name, class_name, params, window) \
  case LIF_SURROGATE_##name:                       \
    return name##_slope(at, o->surrogate_params, o->per_surrogate_param, max_spikes);
  switch (o->surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
  return none;
}

/* Takes the options by value. If their address were passed, they would be read from memory in every
 * step. */
LIF_COLD_FN real surrogate_smooth(struct options o, real v, real threshold, real max_spikes) {
#define LIF_CASE(name, class_name, params, window) \
  case LIF_SURROGATE_##name: return name##_smooth(v, threshold, o.surrogate_params, max_spikes);
  switch (o.surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
  return REAL(0);
}

#endif

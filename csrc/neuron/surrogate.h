/* Surrogate gradients: what takes the place of the derivative of a spike by the membrane potential v and the threshold.
 *
 * One line of the table below is all the rest of the project needs to know of a surrogate; its two functions stand above:
 *   <name>_slope   its derivatives by v and by the threshold
 *   <name>_smooth  an antiderivative (by v) of the slope, which takes the spike's place in gradient checks
 * p holds the surrogate's parameters in the table's order; max_spikes is the neuron's bound on spikes a step. */
#ifndef LIF_SURROGATE_H
#define LIF_SURROGATE_H

/* struct lif_options in the precision computed in; made once a launch or row. */
struct options {
  int surrogate, smooth, param_gradients;
  real surrogate_params[LIF_MAX_SURROGATE_PARAMS];
  real values[LIF_MAX_OPTIONS];
};

LIF_FN struct options in_precision(const struct lif_options *given) {
  struct options o;
  o.surrogate = given->surrogate;
  o.smooth = given->smooth;
  o.param_gradients = given->param_gradients;
  for (int k = 0; k < LIF_MAX_SURROGATE_PARAMS; k++) o.surrogate_params[k] = (real)given->surrogate_params[k];
  for (int k = 0; k < LIF_MAX_OPTIONS; k++) o.values[k] = (real)given->values[k];
  return o;
}

struct slope {
  real v, threshold;
};

/* Rockpool's StepPWL: a window open above threshold - p[0]. */
LIF_FN struct slope step_pwl_slope(real v, real threshold, const real *p, real max_spikes) {
  const real open = v >= threshold - p[0] ? REAL(1) : REAL(0);
  struct slope d;
  (void)max_spikes;
  d.v = REAL(1) / threshold * open;
  d.threshold = -v / (threshold * threshold) * open;
  return d;
}

LIF_FN real step_pwl_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return v >= threshold - p[0] ? v / threshold : REAL(0);
}

/* Rockpool's PeriodicExponential: an exponential of width p[0] round every multiple of the threshold. */
LIF_FN real periodic_exponential_offset(real v, real threshold, real max_spikes, real *periods) {
  const real shifted = v - threshold / REAL(2);
  const real count = real_floor(shifted / threshold);
  const real last = max_spikes - REAL(1);
  const real bounded = count > last ? last : count;
  *periods = v >= threshold ? bounded : REAL(0);
  return (v >= threshold ? shifted - bounded * threshold : shifted) - threshold / REAL(2);
}

LIF_FN struct slope periodic_exponential_slope(real v, real threshold, const real *p, real max_spikes) {
  real periods;
  const real offset = periodic_exponential_offset(v, threshold, max_spikes, &periods);
  struct slope d;
  d.v = real_exp(-real_abs(offset) / p[0]) / threshold;
  d.threshold = -d.v * v / threshold;
  return d;
}

/* The integral of exp(-|y|/width) from minus infinity to y. */
LIF_FN real laplace_integral(real y, real width) {
  const real tail = width * real_exp(-real_abs(y) / width);
  return y < REAL(0) ? tail : REAL(2) * width - tail;
}

LIF_FN real periodic_exponential_smooth(real v, real threshold, const real *p, real max_spikes) {
  real periods;
  const real offset = periodic_exponential_offset(v, threshold, max_spikes, &periods);
  const real half = threshold / REAL(2);
  const real period = laplace_integral(half, p[0]) - laplace_integral(-half, p[0]);
  return (periods * period + laplace_integral(offset, p[0])) / threshold;
}

/* SuperSpike (Zenke & Ganguli 2018, Neural Computation 30:1514): a fast sigmoid's derivative, of steepness p[0]. */
LIF_FN struct slope super_spike_slope(real v, real threshold, const real *p, real max_spikes) {
  const real base = p[0] * real_abs(v - threshold) + REAL(1);
  struct slope d;
  (void)max_spikes;
  d.v = REAL(1) / (base * base);
  d.threshold = -d.v;
  return d;
}

LIF_FN real super_spike_smooth(real v, real threshold, const real *p, real max_spikes) {
  (void)max_spikes;
  return (v - threshold) / (p[0] * real_abs(v - threshold) + REAL(1));
}

/* name, Python class, parameters with their defaults */
#define LIF_SURROGATES(SURROGATE)                                    \
  SURROGATE(step_pwl, StepPWL, "window=0.5")                         \
  SURROGATE(periodic_exponential, PeriodicExponential, "window=0.5") \
  SURROGATE(super_spike, SuperSpike, "alpha=100")

#define LIF_SURROGATE_ID(name, class_name, params) LIF_SURROGATE_##name,
enum { LIF_SURROGATES(LIF_SURROGATE_ID) LIF_SURROGATE_COUNT };
#undef LIF_SURROGATE_ID

LIF_FN struct slope surrogate_slope(const struct options *o, real v, real threshold, real max_spikes) {
  const struct slope none = {REAL(0), REAL(0)};
#define LIF_CASE(name, class_name, params) \
  case LIF_SURROGATE_##name: return name##_slope(v, threshold, o->surrogate_params, max_spikes);
  switch (o->surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
  return none;
}

LIF_COLD_FN real surrogate_smooth(const struct options *o, real v, real threshold, real max_spikes) {
#define LIF_CASE(name, class_name, params) \
  case LIF_SURROGATE_##name: return name##_smooth(v, threshold, o->surrogate_params, max_spikes);
  switch (o->surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
  return REAL(0);
}

#endif

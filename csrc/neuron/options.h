/* struct options: what a neuron's equations read besides tensors. The loops make it from struct
 * lif_options, once per launch or row, in the precision of the computation. */
#ifndef LIF_OPTIONS_H
#define LIF_OPTIONS_H

#include "args.h"
#include "real.h"

struct options {
  int surrogate, smooth, param_gradients, inputs_given, params_given;
  int reciprocal_fits; /* spikes may be counted with the threshold's reciprocal (spike.h) */
#ifndef __CUDACC__
  int few; /* the equations assume spike counts below two; the loop checks afterwards whether they
              were (cpu/row.h) */
#endif
  real surrogate_params[LIF_MAX_SURROGATE_PARAMS];
  real per_surrogate_param[LIF_MAX_SURROGATE_PARAMS]; /* their reciprocals */
  real values[LIF_MAX_OPTIONS];
};

LIF_FN struct options in_precision(const struct lif_options *given) {
  struct options o;
  o.surrogate = given->surrogate;
  o.smooth = given->smooth;
  o.param_gradients = given->param_gradients;
  o.inputs_given = given->inputs_given;
  o.params_given = given->params_given;
  o.reciprocal_fits = 0;
#ifndef __CUDACC__
  o.few = 0;
#endif
  for (int k = 0; k < LIF_MAX_SURROGATE_PARAMS; k++) {
    o.surrogate_params[k] = (real)given->surrogate_params[k];
    o.per_surrogate_param[k] = REAL(1) / o.surrogate_params[k];
  }
  for (int k = 0; k < LIF_MAX_OPTIONS; k++) o.values[k] = (real)given->values[k];
  return o;
}

#endif

/* One time step for a row of neurons: the neuron's step and step_backward in a loop that the compiler vectorises.
 *
 * The options that steer the equations (surrogate, synapses, whether parameters need gradients) become compile-time
 * constants here, and only here: forward_row and backward_row choose among bodies inlined with constants. */
#ifndef LIF_ROW_H
#define LIF_ROW_H

#if defined(__clang__)
#define LIF_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LIF_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Every pointer is to the row's first neuron; values of a neuron's synapses stand side by side. */
struct row {
  int64_t count;
  int S;
  int bare;  /* nothing optional was given, and there is no recurrence */
  int usual; /* usual() holds for every neuron of the row */
  const struct lif_options *options;
  uint32_t *mask; /* or NULL; `bit` of its words is this step's */
  int bit;
  real *inputs[INPUT_COUNT];
  real *params[PARAM_COUNT];
  real *per_threshold;
  real *states[STATE_COUNT]; /* before the step */
  real *next[STATE_COUNT];   /* after it; in the backward its adjoint, and that of the state before in its place */
  real *out;                 /* in the backward its adjoint */
  real *g_inputs[INPUT_COUNT];
  real *g_params[PARAM_COUNT];
};

#define VALUE_PER_NEURON(row) (row)[n]
#define VALUE_OPTIONAL_PER_NEURON(row) (row)[n]
#define VALUE_PER_SYNAPSE(row) ((row) + n * S)
#define VALUE_PER_CURRENT(row) ((row) + n * (S > 0 ? S : 1))
#define VALUE_RECURRENT(row) VALUE_PER_CURRENT(row)
#define STORE_PER_NEURON(row, value) (row)[n] = (value);
#define STORE_OPTIONAL_PER_NEURON(row, value) (row)[n] = (value);
#define STORE_PER_SYNAPSE(row, value) /* written through the pointer */
#define STORE_PER_CURRENT(row, value)
#define STORE_RECURRENT(row, value)

/* What is only written is not loaded: reading fresh memory first would have each of its pages faulted in twice. */
#define BIND_PER_NEURON(row, member)
#define BIND_OPTIONAL_PER_NEURON(row, member)
#define BIND_PER_SYNAPSE(row, member) member = VALUE_PER_SYNAPSE(row);
#define BIND_PER_CURRENT(row, member) member = VALUE_PER_CURRENT(row);
#define BIND_RECURRENT(row, member) member = 0; /* its adjoint is that of x */

#define LOAD_INPUT(name, KIND) in.name = VALUE_##KIND(r.inputs[INPUT_##name]);
#define LOAD_PARAM(name, KIND) p.name = VALUE_##KIND(r.params[PARAM_##name]);
#define LOAD_STATE(name, KIND) s.name = VALUE_##KIND(r.states[STATE_##name]);
#define LOAD_NEXT(name, KIND) next.name = VALUE_##KIND(r.next[STATE_##name]);
#define LOAD_G_PARAM(name, KIND) g_p.name = VALUE_##KIND(r.g_params[PARAM_##name]);
#define BIND_NEXT(name, KIND) BIND_##KIND(r.next[STATE_##name], next.name)
#define BIND_G_INPUT(name, KIND) BIND_##KIND(r.g_inputs[INPUT_##name], g_in.name)
#define STORE_NEXT(name, KIND) STORE_##KIND(r.next[STATE_##name], next.name)
#define STORE_G_INPUT(name, KIND) STORE_##KIND(r.g_inputs[INPUT_##name], g_in.name)
#define STORE_G_PARAM(name, KIND) STORE_##KIND(r.g_params[PARAM_##name], g_p.name)

#if NEURON_MASKABLE
#define LOAD_CONSTANTS p.per_threshold = r.per_threshold[n];
#else
#define LOAD_CONSTANTS
#endif

/* What was left out, as constants: adding -0 changes nothing, so the compiler drops it. */
#define LEAVE_OUT_PER_NEURON(member)
#define LEAVE_OUT_PER_SYNAPSE(member)
#define LEAVE_OUT_PER_CURRENT(member)
#define LEAVE_OUT_OPTIONAL_PER_NEURON(member) member = REAL(-0.0);
#define LEAVE_OUT_RECURRENT(member) member = (real *)left_out;
#define LEAVE_OUT_INPUT(name, KIND) LEAVE_OUT_##KIND(in.name)
#define LEAVE_OUT_PARAM(name, KIND) LEAVE_OUT_##KIND(p.name)

LIF_FN void forward_body(const struct row *row, struct options o, int S, int bare, int masked) {
  const struct row r = *row;
  const real left_out[2] = {REAL(-0.0), REAL(-0.0)};
  (void)left_out;
  if (bare) {
    o.inputs_given = 1;
    o.params_given = 0;
  }
  LIF_INDEPENDENT
  for (int64_t n = 0; n < r.count; n++) {
    struct inputs in;
    struct params p;
    struct states s, next;
    NEURON_INPUTS(LOAD_INPUT)
    NEURON_PARAMS(LOAD_PARAM)
    LOAD_CONSTANTS
    NEURON_STATES(LOAD_STATE)
    NEURON_STATES(BIND_NEXT)
    if (bare) {
      NEURON_INPUTS(LEAVE_OUT_INPUT)
      NEURON_PARAMS(LEAVE_OUT_PARAM)
    }
#if NEURON_MASKABLE
    int open;
    const real out = step_masked(S, &o, &p, &s, &in, &next, &open);
    if (masked) r.mask[n] |= (uint32_t)open << r.bit;
#else
    (void)masked;
    const real out = step(S, &o, &p, &s, &in, &next);
#endif
    NEURON_STATES(STORE_NEXT)
    r.out[n] = out;
  }
}

LIF_FN void backward_body(const struct row *row, struct options o, int S) {
  const struct row r = *row;
  LIF_INDEPENDENT
  for (int64_t n = 0; n < r.count; n++) {
    struct inputs in, g_in;
    struct params p, g_p = {0};
    struct states s, next;
    NEURON_INPUTS(LOAD_INPUT)
    NEURON_PARAMS(LOAD_PARAM)
    LOAD_CONSTANTS
    NEURON_STATES(LOAD_STATE)
    NEURON_STATES(LOAD_NEXT)
    NEURON_INPUTS(BIND_G_INPUT)
    if (o.param_gradients) { NEURON_PARAMS(LOAD_G_PARAM) }
    step_backward(S, &o, &p, &s, &in, slope_of_step(S, &o, &p, &s, &in), r.out[n], &next, &next, &g_in, &g_p);
    NEURON_STATES(STORE_NEXT)
    NEURON_INPUTS(STORE_G_INPUT)
    if (o.param_gradients) { NEURON_PARAMS(STORE_G_PARAM) }
  }
}

/* The body with S constant for 0, 1 and 2 synapses. */
#define WITH_CONSTANT_SYNAPSES(BODY, ...)        \
  if (row->S == 0) {                             \
    BODY(row, o, 0, ##__VA_ARGS__);              \
    return;                                      \
  }                                              \
  if (NEURON_MAX_SYNAPSES != 0 && row->S == 1) { \
    BODY(row, o, 1, ##__VA_ARGS__);              \
    return;                                      \
  }                                              \
  if (NEURON_MAX_SYNAPSES < 0 && row->S == 2) {  \
    BODY(row, o, 2, ##__VA_ARGS__);              \
    return;                                      \
  }

static void forward_row(const struct row *row) {
  struct options o = in_precision(row->options);
  if (!o.smooth && row->usual) {
    o.smooth = 0;
    o.usual = 1;
    if (NEURON_MASKABLE && row->mask) {
      if (row->bare) { WITH_CONSTANT_SYNAPSES(forward_body, 1, 1) }
      WITH_CONSTANT_SYNAPSES(forward_body, 0, 1)
    }
    if (row->bare) { WITH_CONSTANT_SYNAPSES(forward_body, 1, 0) }
    WITH_CONSTANT_SYNAPSES(forward_body, 0, 0)
  }
  forward_body(row, o, row->S, 0, row->mask != 0);
}

#if NEURON_MASKABLE
LIF_FN void masked_backward_body(const struct row *row, struct options o, int S) {
  const struct row r = *row;
  (void)o;
  LIF_INDEPENDENT
  for (int64_t n = 0; n < r.count; n++) {
    struct inputs g_in;
    struct params p;
    struct states next;
    NEURON_PARAMS(LOAD_PARAM)
    LOAD_CONSTANTS
    NEURON_STATES(LOAD_NEXT)
    NEURON_INPUTS(BIND_G_INPUT)
    step_backward_masked(S, &p, (int)(r.mask[n] >> r.bit & 1u), r.out[n], &next, &next, &g_in);
    NEURON_STATES(STORE_NEXT)
    NEURON_INPUTS(STORE_G_INPUT)
  }
}

/* One step back, from the mask alone. */
static void masked_backward_row(const struct row *row) {
  const struct options o = in_precision(row->options);
  WITH_CONSTANT_SYNAPSES(masked_backward_body)
  masked_backward_body(row, o, row->S);
}
#endif

/* And with the choice of whether parameters have gradients constant: a condition inside the loop would be vectorised by
 * masks, which touch more memory than is written. */
#define WITH_CONSTANT_GRADIENTS           \
  if (o.param_gradients) {                \
    o.param_gradients = 1;                \
    WITH_CONSTANT_SYNAPSES(backward_body) \
  } else {                                \
    o.param_gradients = 0;                \
    WITH_CONSTANT_SYNAPSES(backward_body) \
  }

static void backward_row(const struct row *row) {
  struct options o = in_precision(row->options);
#define LIF_CASE(name, class_name, params, window) \
  case LIF_SURROGATE_##name:                       \
    o.surrogate = LIF_SURROGATE_##name;            \
    WITH_CONSTANT_GRADIENTS                        \
    break;
  if (!o.smooth && row->usual) {
    o.smooth = 0;
    o.usual = 1;
#if NEURON_SPIKING
    switch (o.surrogate) { LIF_SURROGATES(LIF_CASE) }
#else
    WITH_CONSTANT_GRADIENTS
#endif
  }
#undef LIF_CASE
  backward_body(row, o, row->S);
}

#endif

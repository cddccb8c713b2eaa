/* One time step for a row of neurons: the neuron's step and step_backward in a loop that the
 * compiler vectorises.
 *
 * The options that steer the equations (surrogate, synapses, whether parameters need gradients)
 * become compile-time constants here, and only here: forward_row and backward_row choose among
 * bodies inlined with constants. */
#ifndef LIF_ROW_H
#define LIF_ROW_H

#if defined(__clang__)
#define LIF_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define LIF_INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 8") /* wholly, before loops are vectorised */
#endif

/* Time steps that a body may take at once: what a neuron keeps stays in registers from one to the
 * next. More would make chains longer than a processor can overlap. LIF_MASK_STEPS and
 * LIF_CHECKPOINT_INTERVAL are multiples of it. */
enum { BLOCK = 4 };

/* Rows of a sequence, one for each time step. */
struct rows {
  real *at;
  int64_t step;  /* from one to the next */
  int64_t width; /* values of a neuron */
};

struct tile;

/* A row of neurons at one step or at BLOCK steps. Every pointer is to the row's first neuron;
 * values of a neuron's synapses stand side by side. */
struct row {
  int64_t count;
  int64_t group; /* neurons per group: a body computes a group, then pass_on (unless it is NULL)
                    passes on what it wrote */
  void (*pass_on)(const struct row *row, int64_t first, int64_t end);
  const struct tile
      *tile; /* for pass_on: the tile, the step, and if the group is streamed, what to where */
  int64_t t;
  struct rows from, to, ahead; /* ahead: what will be read next, to be fetched meanwhile */
  int steps;                   /* 1 or BLOCK */
  int few;    /* counts above one have not been met lately: likely they will not be */
  int wanted; /* of enum wanted; STATES of BLOCK steps alone */
  int S;
  int common; /* no input but x was given, options and parameters are the neuron's common case, and
                 there is no recurrence */
  int reciprocal_fits; /* reciprocal_fits() holds for every neuron of the row */
  const struct options *options;
  uint32_t *mask; /* or NULL; `bit` of its words is this step's */
  int bit;
  struct rows inputs[INPUT_COUNT];
  real *params[PARAM_COUNT];
  real *per_threshold;
  real *states[STATE_COUNT];      /* before the step */
  int64_t state_row[STATE_COUNT]; /* from those before one step to those before the next: in the
                                     backward */
  real *next[STATE_COUNT]; /* after it; in the backward its adjoint, and that of the state before in
                              its place */
  real *spare_states[STATE_COUNT];
  struct rows out; /* in the backward its adjoint. What is written, this or g_inputs, begins with
                      the group's first neuron */
  struct rows g_inputs[INPUT_COUNT];
  real *g_params[PARAM_COUNT];
};

#define AT(rows) ((rows).at + k * (rows).step)
#define VALUE_PER_NEURON(row, n) (row)[n]
#define VALUE_OPTIONAL_PER_NEURON(row, n) (row)[n]
#define VALUE_PER_SYNAPSE(row, n) ((row) + (n) * S)
#define VALUE_PER_CURRENT(row, n) ((row) + (n) * (S > 0 ? S : 1))
#define VALUE_RECURRENT(row, n) VALUE_PER_CURRENT(row, n)
#define STORE_PER_NEURON(row, n, value) (row)[n] = (value);
#define STORE_OPTIONAL_PER_NEURON(row, n, value) (row)[n] = (value);
#define STORE_PER_SYNAPSE(row, n, value) /* written through the pointer */
#define STORE_PER_CURRENT(row, n, value)
#define STORE_RECURRENT(row, n, value)

/* What is only written is not loaded: reading fresh memory first would have each of its pages
 * faulted in twice. */
#define BIND_PER_NEURON(row, n, member)
#define BIND_OPTIONAL_PER_NEURON(row, n, member)
#define BIND_PER_SYNAPSE(row, n, member) member = VALUE_PER_SYNAPSE(row, n);
#define BIND_PER_CURRENT(row, n, member) member = VALUE_PER_CURRENT(row, n);
#define BIND_RECURRENT(row, n, member) member = 0; /* its adjoint is that of x */

#define LOAD_INPUT(name, KIND) in.name = VALUE_##KIND(AT(r.inputs[INPUT_##name]), n);
#define LOAD_PARAM(name, KIND) p.name = VALUE_##KIND(r.params[PARAM_##name], n);
#define LOAD_STATE(name, KIND) s.name = VALUE_##KIND(r.states[STATE_##name], n);
#define LOAD_STATE_OF_STEP(name, KIND) \
  s.name = VALUE_##KIND(r.states[STATE_##name] + k * r.state_row[STATE_##name], n);
#define LOAD_ADJOINT(name, KIND) s.name = VALUE_##KIND(r.next[STATE_##name], n);
#define LOAD_NEXT(name, KIND) next.name = VALUE_##KIND(r.next[STATE_##name], n);
#define LOAD_G_PARAM(name, KIND) g_p.name = VALUE_##KIND(r.g_params[PARAM_##name], n);
#define BIND_NEXT(name, KIND) BIND_##KIND(r.next[STATE_##name], n, next.name)
#define BIND_G_INPUT(name, KIND) BIND_##KIND(AT(r.g_inputs[INPUT_##name]), n - first, g_in.name)
#define STORE_G_INPUT(name, KIND)                                    \
  if (!common || !(LIF_##KIND & LIF_OPTIONAL)) {                     \
    STORE_##KIND(AT(r.g_inputs[INPUT_##name]), n - first, g_in.name) \
  }
#define STORE_G_PARAM(name, KIND) STORE_##KIND(r.g_params[PARAM_##name], n, g_p.name)

/* Synapses' states of BLOCK steps: held in registers, since their number is then constant. */
#define HELD_PER_NEURON(name)
#define HELD_OPTIONAL_PER_NEURON(name)
#define HELD_PER_SYNAPSE(name) \
  real held_##name[2] = {0};   \
  (void)held_##name;
#define HELD(name, KIND) HELD_##KIND(name)
#define HOLD_PER_NEURON(name, member)
#define HOLD_OPTIONAL_PER_NEURON(name, member)
#define HOLD_PER_SYNAPSE(name, member)                             \
  for (int j = 0; j < S && j < 2; j++) held_##name[j] = member[j]; \
  member = held_##name;
#define HOLD_STATE(name, KIND) HOLD_##KIND(name, s.name)
#define HOLD_ADJOINT(name, KIND) HOLD_##KIND(name, next.name)
#define STORE_ADJOINT_PER_NEURON(row, name) (row)[n] = next.name;
#define STORE_ADJOINT_OPTIONAL_PER_NEURON(row, name) (row)[n] = next.name;
#define STORE_ADJOINT_PER_SYNAPSE(row, name) STORE_HELD_PER_SYNAPSE(row, name)
#define STORE_ADJOINT(name, KIND) STORE_ADJOINT_##KIND(r.next[STATE_##name], name)
#define BIND_HELD_PER_NEURON(name, member)
#define BIND_HELD_OPTIONAL_PER_NEURON(name, member)
#define BIND_HELD_PER_SYNAPSE(name, member) member = held_##name;
#define HOLD_NEXT(name, KIND) BIND_HELD_##KIND(name, next.name)
#define STORE_HELD_PER_NEURON(row, name) (row)[n] = s.name;
#define STORE_HELD_OPTIONAL_PER_NEURON(row, name) (row)[n] = s.name;
#define STORE_HELD_PER_SYNAPSE(row, name) \
  if (steps > 1)                          \
    for (int j = 0; j < S && j < 2; j++) (row)[n * S + j] = held_##name[j];
#define STORE_STATE(name, KIND) STORE_HELD_##KIND(r.next[STATE_##name], name)
#define STORE_STATE_OF_STEP(name, KIND) \
  STORE_HELD_##KIND((r.next[STATE_##name] + k * r.state_row[STATE_##name]), name)

#if NEURON_MASKABLE
#define LOAD_CONSTANTS p.per_threshold = r.per_threshold[n];
#else
#define LOAD_CONSTANTS
#endif

/* Inputs that were left out, as constants: adding -0 changes nothing, so the compiler drops it. */
#define LEAVE_OUT_PER_NEURON(member)
#define LEAVE_OUT_PER_SYNAPSE(member)
#define LEAVE_OUT_PER_CURRENT(member)
#define LEAVE_OUT_OPTIONAL_PER_NEURON(member) member = REAL(-0.0);
#define LEAVE_OUT_RECURRENT(member) member = (real *)left_out;
#define LEAVE_OUT_INPUT(name, KIND) LEAVE_OUT_##KIND(in.name)
#define SET_COMMON    \
  o.inputs_given = 1; \
  NEURON_COMMON(SET_COMMON_OPTION, SET_NOT_GIVEN)

/* What is wanted of a body that takes steps: the output, the mask too, or in place of them the
 * state after each step. */
enum wanted { OUTPUT, AND_MASK, STATES };

/* few: counts are taken to be below two. Returns whether one may not have been: the neuron is then
 * still at its threshold after the reset, or its count was NaN for a membrane of -inf. */
LIF_FN int forward_body(const struct row *row, struct options o, int S, int steps, int common,
                        int wanted, int few) {
  const struct row r = *row;
  const real left_out[2] = {REAL(-0.0), REAL(-0.0)};
  (void)left_out;
  if (common) { SET_COMMON }
  o.few = few;
  const uint32_t earlier = (1u << r.bit) - 1; /* steps of the mask's words */
  int many = 0;
  for (int64_t first = 0; first < r.count; first += r.group) {
    const int64_t end = first + r.group < r.count ? first + r.group : r.count;
    LIF_INDEPENDENT
    for (int64_t n = first; n < end; n++) {
      struct params p;
      struct states s;
      NEURON_STATES(HELD)
      NEURON_PARAMS(LOAD_PARAM)
      LOAD_CONSTANTS
      NEURON_STATES(LOAD_STATE)
      if (steps > 1) { NEURON_STATES(HOLD_STATE) }
      if (common) { NEURON_COMMON(IGNORE_OPTION, SET_LEFT_OUT) }
      uint32_t word = 0;
      real highest = REAL(0);
      (void)highest, (void)word;
      UNROLLED
      for (int k = 0; k < steps; k++) {
        struct inputs in;
        struct states next;
        NEURON_INPUTS(LOAD_INPUT)
        NEURON_STATES(BIND_NEXT)
        if (steps > 1) { NEURON_STATES(HOLD_NEXT) }
        if (common) { NEURON_INPUTS(LEAVE_OUT_INPUT) }
#if NEURON_MASKABLE
        int open;
        const real out = step_masked(S, &o, &p, &s, &in, &next, &open);
        word |= open ? 1u << k : 0;
#else
        const real out = step(S, &o, &p, &s, &in, &next);
#endif
        if (wanted != STATES) AT(r.out)[n - first] = out;
        s = next;
        if (wanted == STATES) { NEURON_STATES(STORE_STATE_OF_STEP) }
#if NEURON_MASKABLE
        if (few) highest = k == 0 || s.v > highest ? s.v : highest;
#endif
      }
      if (wanted != STATES) { NEURON_STATES(STORE_STATE) }
      if (wanted == AND_MASK) r.mask[n] = (r.mask[n] & earlier) | word << r.bit;
#if NEURON_MASKABLE
      if (few) many |= highest >= p.threshold || s.v == -INFINITY;
#endif
    }
    if (r.pass_on) r.pass_on(row, first, end);
  }
  return many;
}

LIF_FN void backward_body(const struct row *row, struct options o, int S, int steps, int common) {
  const struct row r = *row;
  const real left_out[2] = {REAL(-0.0), REAL(-0.0)};
  (void)left_out;
  if (common) { SET_COMMON }
  for (int64_t first = 0; first < r.count; first += r.group) {
    const int64_t end = first + r.group < r.count ? first + r.group : r.count;
    LIF_INDEPENDENT
    for (int64_t n = first; n < end; n++) {
      struct params p, g_p = {0};
      struct states next;
      NEURON_STATES(HELD)
      NEURON_PARAMS(LOAD_PARAM)
      LOAD_CONSTANTS
      NEURON_STATES(LOAD_NEXT)
      if (steps > 1) { NEURON_STATES(HOLD_ADJOINT) }
      if (o.param_gradients) { NEURON_PARAMS(LOAD_G_PARAM) }
      if (common) { NEURON_COMMON(IGNORE_OPTION, SET_LEFT_OUT) }
      UNROLLED
      for (int k = steps - 1; k >= 0; k--) {
        struct inputs in, g_in;
        struct states s;
        NEURON_INPUTS(LOAD_INPUT)
        NEURON_STATES(LOAD_STATE_OF_STEP)
        NEURON_INPUTS(BIND_G_INPUT)
        if (common) { NEURON_INPUTS(LEAVE_OUT_INPUT) }
        const struct kept kept = keep(S, &o, &p, &s, &in);
        step_backward(S, &o, &p, &kept, &s, &in, slope_of_step(&o, &p, &kept), AT(r.out)[n], &next,
                      &next, &g_in, &g_p);
        NEURON_INPUTS(STORE_G_INPUT)
      }
      NEURON_STATES(STORE_ADJOINT)
      if (o.param_gradients) { NEURON_PARAMS(STORE_G_PARAM) }
    }
    if (r.pass_on) r.pass_on(row, first, end);
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

/* The bodies that take BLOCK steps, [synapses][common][wanted][few]. Each is a function of its own:
 * among the other bodies the compiler runs out of registers (measured: a sixth slower). `few` is
 * known of neurons with a mask alone. */
#define FORWARD_BLOCK(S, common, wanted, few)                                           \
  static __attribute__((noinline)) int forward_block_##S##_##common##_##wanted##_##few( \
      const struct row *row, struct options o) {                                        \
    o.smooth = 0;                                                                       \
    o.reciprocal_fits = 1;                                                              \
    if ((S > NEURON_MAX_SYNAPSES && NEURON_MAX_SYNAPSES >= 0) ||                        \
        ((few || wanted == AND_MASK) && !NEURON_MASKABLE))                              \
      return 0;                                                                         \
    return forward_body(row, o, S, BLOCK, common, wanted, few);                         \
  }
#define FORWARD_BLOCKS_(S, common, wanted) \
  FORWARD_BLOCK(S, common, wanted, 0) FORWARD_BLOCK(S, common, wanted, 1)
#define FORWARD_BLOCKS(S, common)    \
  FORWARD_BLOCKS_(S, common, OUTPUT) \
  FORWARD_BLOCKS_(S, common, AND_MASK) FORWARD_BLOCKS_(S, common, STATES)
FORWARD_BLOCKS(0, 0)
FORWARD_BLOCKS(0, 1)
FORWARD_BLOCKS(1, 0)
FORWARD_BLOCKS(1, 1)
FORWARD_BLOCKS(2, 0)
FORWARD_BLOCKS(2, 1)
typedef int forward_block_function(const struct row *, struct options);
#define LIST_FORWARD_BLOCKS_(S, common, wanted) \
  {forward_block_##S##_##common##_##wanted##_0, forward_block_##S##_##common##_##wanted##_1}
#define LIST_FORWARD_BLOCKS(S, common)                                                 \
  {LIST_FORWARD_BLOCKS_(S, common, OUTPUT), LIST_FORWARD_BLOCKS_(S, common, AND_MASK), \
   LIST_FORWARD_BLOCKS_(S, common, STATES)}
static forward_block_function *const forward_blocks[3][2][3][2] = {
    {LIST_FORWARD_BLOCKS(0, 0), LIST_FORWARD_BLOCKS(0, 1)},
    {LIST_FORWARD_BLOCKS(1, 0), LIST_FORWARD_BLOCKS(1, 1)},
    {LIST_FORWARD_BLOCKS(2, 0), LIST_FORWARD_BLOCKS(2, 1)}};

/* BLOCK steps of a row where reciprocal_fits. Without multiple spikes a step takes half the time:
 * no quotient, and a chain of operations half as long. Where they turn out to be there, the steps
 * are taken again from the states before. */
static void forward_block(struct row *row, struct options o) {
  forward_block_function *const *bodies = forward_blocks[row->S][row->common][row->wanted];
  if (row->few && !bodies[1](row, o)) return;
  row->few = 0;
  bodies[0](row, o);
}

static void forward_row(struct row *row) {
  struct options o = *row->options;
  if (!o.smooth && row->reciprocal_fits) {
    o.smooth = 0;
    o.reciprocal_fits = 1;
    if (row->steps == BLOCK) {
      forward_block(row, o);
      return;
    }
    if (NEURON_MASKABLE && row->wanted == AND_MASK) {
      if (row->common) { WITH_CONSTANT_SYNAPSES(forward_body, 1, 1, AND_MASK, 0) }
      WITH_CONSTANT_SYNAPSES(forward_body, 1, 0, AND_MASK, 0)
    }
    if (row->common) { WITH_CONSTANT_SYNAPSES(forward_body, 1, 1, OUTPUT, 0) }
    WITH_CONSTANT_SYNAPSES(forward_body, 1, 0, OUTPUT, 0)
  }
  forward_body(row, o, row->S, 1, 0, row->wanted, 0);
}

#if NEURON_MASKABLE
LIF_FN void masked_backward_body(const struct row *row, struct options o, int S, int steps,
                                 int common) {
  const struct row r = *row;
  (void)o;
  for (int64_t first = 0; first < r.count; first += r.group) {
    const int64_t end = first + r.group < r.count ? first + r.group : r.count;
    LIF_INDEPENDENT
    for (int64_t n = first; n < end; n++) {
      struct params p;
      struct states s;
      NEURON_STATES(HELD)
      NEURON_PARAMS(LOAD_PARAM)
      LOAD_CONSTANTS
      NEURON_STATES(LOAD_ADJOINT)
      if (steps > 1) { NEURON_STATES(HOLD_STATE) }
      const uint32_t word = r.mask[n] >> r.bit;
      UNROLLED
      for (int k = steps - 1; k >= 0; k--) {
        struct inputs g_in;
        NEURON_INPUTS(BIND_G_INPUT)
        step_backward_masked(S, &p, (int)(word >> k & 1u), AT(r.out)[n], &s, &s, &g_in);
        NEURON_INPUTS(STORE_G_INPUT)
      }
      NEURON_STATES(STORE_STATE)
    }
    if (r.pass_on) r.pass_on(row, first, end);
  }
}

#define BACKWARD_BLOCK(S, common)                                             \
  static __attribute__((noinline)) void masked_backward_block_##S##_##common( \
      const struct row *row, struct options o) {                              \
    if (S <= NEURON_MAX_SYNAPSES || NEURON_MAX_SYNAPSES < 0)                  \
      masked_backward_body(row, o, S, BLOCK, common);                         \
  }
#define BACKWARD_BLOCKS(S) BACKWARD_BLOCK(S, 0) BACKWARD_BLOCK(S, 1)
BACKWARD_BLOCKS(0)
BACKWARD_BLOCKS(1)
BACKWARD_BLOCKS(2)
#define LIST_BACKWARD_BLOCKS(S) {masked_backward_block_##S##_0, masked_backward_block_##S##_1}
static void (*const masked_backward_blocks[3][2])(const struct row *, struct options) = {
    LIST_BACKWARD_BLOCKS(0), LIST_BACKWARD_BLOCKS(1), LIST_BACKWARD_BLOCKS(2)};

/* One step back, or BLOCK, from the mask alone. */
static void masked_backward_row(const struct row *row) {
  const struct options o = *row->options;
  if (row->steps == BLOCK) {
    masked_backward_blocks[row->S][row->common](row, o);
    return;
  }
  WITH_CONSTANT_SYNAPSES(masked_backward_body, 1, 0)
  masked_backward_body(row, o, row->S, 1, 0);
}
#endif

/* And with the choice of whether parameters have gradients constant: a condition inside the loop
 * would be vectorised by masks, which touch more memory than is written. */
#define WITH_CONSTANT_GRADIENTS(steps, common)           \
  if (o.param_gradients) {                               \
    o.param_gradients = 1;                               \
    WITH_CONSTANT_SYNAPSES(backward_body, steps, common) \
  } else {                                               \
    o.param_gradients = 0;                               \
    WITH_CONSTANT_SYNAPSES(backward_body, steps, common) \
  }
#define WITH_CONSTANT_STEPS                                \
  if (row->steps == BLOCK) {                               \
    if (row->common) { WITH_CONSTANT_GRADIENTS(BLOCK, 1) } \
    WITH_CONSTANT_GRADIENTS(BLOCK, 0)                      \
  }                                                        \
  if (row->common) { WITH_CONSTANT_GRADIENTS(1, 1) }
#define WHERE_SURROGATE_IS(name) \
  if (o.surrogate == (name)) {   \
    o.surrogate = name;          \
    WITH_CONSTANT_STEPS          \
  }

/* Whether backward_row has bodies for BLOCK steps: as on CUDA for three surrogates alone: StepPWL,
 * torch_lif's default, and that of the neuron's library. To those with an exponential it would
 * hardly matter (a twentieth), and bodies for all of them would double the time to compile. */
static int has_backward_blocks(const struct options *o) {
  return !NEURON_SPIKING || o->surrogate == LIF_SURROGATE_step_pwl ||
         o->surrogate == LIF_DEFAULT_SURROGATE || o->surrogate == NEURON_LIBRARY_SURROGATE;
}

static void backward_row(const struct row *row) {
  struct options o = *row->options;
#define LIF_CASE(name, class_name, params, window) \
  case LIF_SURROGATE_##name:                       \
    o.surrogate = LIF_SURROGATE_##name;            \
    WITH_CONSTANT_GRADIENTS(1, 0)                  \
    break;
  if (!o.smooth && row->reciprocal_fits) {
    o.smooth = 0;
    o.reciprocal_fits = 1;
#if NEURON_SPIKING
    WHERE_SURROGATE_IS(LIF_SURROGATE_step_pwl)
    WHERE_SURROGATE_IS(LIF_DEFAULT_SURROGATE)
    WHERE_SURROGATE_IS(NEURON_LIBRARY_SURROGATE)
    switch (o.surrogate) { LIF_SURROGATES(LIF_CASE) }
#else
    WITH_CONSTANT_STEPS
    WITH_CONSTANT_GRADIENTS(1, 0)
#endif
  }
#undef LIF_CASE
  backward_body(row, o, row->S, 1, 0);
}

#endif

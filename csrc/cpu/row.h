/* A neuron's step and step_backward in loops over a row of neurons, which the compiler vectorises.
 *
 * From top to bottom: struct row, what a loop works on; the tables that say what the numbers of the
 * neuron's structs are, and the functions that move the numbers between structs and rows; one
 * neuron's way through some steps, forward and backward; the variants, which are these loops
 * compiled with constants, and the choice among them.
 *
 * What steers the equations (options, surrogate, whether parameters need gradients) becomes a
 * compile-time constant here, and only here. */
#ifndef LIF_ROW_H
#define LIF_ROW_H

#include <stddef.h>

#include "storage.h"

/* No neuron depends on another. */
#if defined(__clang__)
#define LIF_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LIF_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* A struct of the neuron is an array of places, and each place has a row of its own. A place holds
 * a number; of any number of synapses (NEURON_MAJOR) a member of many numbers is one place, which
 * refers to the neuron's numbers in its row. */
enum {
  PLACE = NEURON_MAJOR ? sizeof(real *) : sizeof(real), /* bytes */
  INPUT_ROWS = sizeof(struct inputs) / PLACE,
  STATE_ROWS = sizeof(struct states) / PLACE,
  ALL_PARAM_ROWS = sizeof(struct params) / PLACE,
  PARAM_ROWS = ALL_PARAM_ROWS - (0 NEURON_DERIVED(LIF_COUNT)) /* what derive makes comes last */
};

/* The kind of each row: of the member that it belongs to. */
#define ROW_KINDS(type, name, KIND)                                                \
  [offsetof(struct type, name) /                                                   \
      PLACE...(offsetof(struct type, name) + sizeof((struct type *)0)->name - 1) / \
      PLACE] = LIF_##KIND,
#define INPUT_KINDS(name, KIND) ROW_KINDS(inputs, name, KIND)
#define PARAM_KINDS(name, KIND) ROW_KINDS(params, name, KIND)
#define STATE_KINDS(name, KIND) ROW_KINDS(states, name, KIND)
static const int8_t input_kinds[] = {NEURON_INPUTS(INPUT_KINDS)};
static const int8_t param_kinds[] = {NEURON_PARAMS(PARAM_KINDS) NEURON_DERIVED(PARAM_KINDS)};
static const int8_t state_kinds[] = {NEURON_STATES(STATE_KINDS)};

/* The fields: their kind, and the first of their rows. */
struct field {
  int kind, row;
};
#define INPUT_FIELD(name, KIND) {LIF_##KIND, offsetof(struct inputs, name) / PLACE},
#define PARAM_FIELD(name, KIND) {LIF_##KIND, offsetof(struct params, name) / PLACE},
#define STATE_FIELD(name, KIND) {LIF_##KIND, offsetof(struct states, name) / PLACE},
static const struct field input_fields[] = {NEURON_INPUTS(INPUT_FIELD)};
static const struct field param_fields[] = {NEURON_PARAMS(PARAM_FIELD)};
static const struct field state_fields[] = {NEURON_STATES(STATE_FIELD)};

struct tile;

/* What a loop works on: a row of neurons at one step or at BLOCK steps. The rows of parameters and
 * states lie `pitch` numbers apart. */
struct row {
  int64_t count, pitch;
  int S; /* synapses of the layer */
  struct options options;
  /* The loop computes `group` neurons, then calls pass_on (unless it is NULL), which passes on what
   * was written of the neurons first..end-1. */
  int64_t group;
  int reused; /* the rows that are written hold only a group, and begin with its first neuron */
  void (*pass_on)(const struct tile *tile, int64_t first, int64_t end);
  const struct tile *tile;
  struct rows inputs[INPUT_ROWS];
  real *params;
  real *states; /* before the first step; in the backward before each step, state_step apart */
  real *next;   /* after the last step, or after each step, state_step apart; in the backward the
                   adjoint of the state after the last step, and in its place that of the state
                   before the first */
  int64_t state_step;
  struct rows out; /* in the backward its adjoint */
  uint32_t *mask;
  int bit; /* of the mask's words: the first step's */
  /* backward */
  struct rows slopes[2]; /* of each step's spike: the numbers of struct slope */
  struct rows g_inputs[INPUT_ROWS];
  struct rows g_records[STATE_ROWS]; /* further adjoints of the state after each step */
  real *g_params;
};

/* Whether a row has any numbers. Without synapses, one per synapse has none. */
LIF_FN int has_numbers(int kind) { return LIF_SYNAPSES > 0 || (kind & 3) != LIF_PER_SYNAPSE; }

/* Whether a place holds its number itself. */
LIF_FN int holds_number(int kind) { return !NEURON_MAJOR || (kind & 3) == LIF_PER_NEURON; }

/* Place j of a struct: its number, or what it refers to. */
LIF_FN real *number_at(const void *members, int j) { return (real *)((char *)members + j * PLACE); }
LIF_FN real **reference_at(const void *members, int j) {
  return (real **)((char *)members + j * PLACE);
}

/* Reads neuron n's number of a row into place j of the struct `to`, or makes it refer to it. */
LIF_FN void load(void *to, int kind, int j, real *row, int64_t n, int S) {
  if (holds_number(kind))
    *number_at(to, j) = has_numbers(kind) ? row[n] : REAL(0);
  else
    *reference_at(to, j) = row + n * lif_width(kind, S);
}

/* Makes a struct that is to be written refer to what it does not hold itself. What is only written
 * is not loaded: reading fresh memory first would have each of its pages faulted in twice. */
LIF_FN void bind(void *to, int kind, int j, real *row, int64_t n, int S) {
  if (!holds_number(kind)) load(to, kind, j, row, n, S);
}

/* Writes a number that the struct itself holds. */
LIF_FN void store(const void *from, int kind, int j, real *row, int64_t n) {
  if (holds_number(kind) && has_numbers(kind)) row[n] = *number_at(from, j);
}

/* The same for all rows of a struct: `pitch` numbers apart from `row` on. */
LIF_FN void load_all(void *to, const int8_t *kinds, int count, real *row, const struct row *r,
                     int64_t n) {
  LIF_UNROLLED for (int j = 0; j < count; j++) load(to, kinds[j], j, row + j * r->pitch, n, r->S);
}

LIF_FN void bind_states(struct states *to, real *row, const struct row *r, int64_t n) {
  LIF_UNROLLED for (int j = 0; j < STATE_ROWS; j++)
      bind(to, state_kinds[j], j, row + j * r->pitch, n, r->S);
}

LIF_FN void store_all(const void *from, const int8_t *kinds, int count, real *row,
                      const struct row *r, int64_t n) {
  LIF_UNROLLED for (int j = 0; j < count; j++) store(from, kinds[j], j, row + j * r->pitch, n);
}

/* How much of a call is known at compile time: nothing; that options and left-out parameters are
 * the neuron's first common case; and that no input but x is given, no adjoint but x's and that of
 * the output, and there is no recurrence. */
enum common { ANYTHING, OPTIONS, BARE };
LIF_FN int knows_options(void) { return common_case(1).known != 0; }

/* Makes constants of the parameters that the common case leaves out: adding -0 changes nothing, so
 * the compiler drops it. */
LIF_FN void leave_out(struct params *p) {
  const struct common_case c = common_case(1);
  LIF_UNROLLED for (int f = 0; f < PARAM_COUNT; f++) {
    if (c.left_out >> f & 1) *number_at(p, param_fields[f].row) = REAL(-0.0);
  }
}

/* The inputs of step k. Those that a bare call leaves out are constants: adding -0 changes nothing,
 * so the compiler drops it. */
LIF_FN void load_inputs(struct inputs *in, const struct row *r, int64_t n, int k, int common) {
  LIF_UNROLLED for (int j = 0; j < INPUT_ROWS; j++) {
    const int kind = input_kinds[j];
    if (!NEURON_MAJOR && common == BARE && (kind & LIF_OPTIONAL))
      *number_at(in, j) = REAL(-0.0);
    else
      load(in, kind, j, r->inputs[j].at + k * r->inputs[j].step, n, r->S);
  }
}

/* The adjoint of the recurrent input is that of x, and the neuron does not write it. */
LIF_FN void bind_g_inputs(struct inputs *g_in, const struct row *r, int64_t n, int k) {
  LIF_UNROLLED for (int j = 0; j < INPUT_ROWS; j++) {
    const int kind = input_kinds[j];
    if (kind & LIF_OF_RECURRENCE) continue;
    bind(g_in, kind, j, r->g_inputs[j].at + k * r->g_inputs[j].step, n, r->S);
  }
}

LIF_FN void store_g_inputs(const struct inputs *g_in, const struct row *r, int64_t n, int k,
                           int common) {
  LIF_UNROLLED for (int j = 0; j < INPUT_ROWS; j++) {
    const int kind = input_kinds[j];
    if (kind & (common == BARE ? LIF_OF_RECURRENCE | LIF_OPTIONAL : LIF_OF_RECURRENCE)) continue;
    store(g_in, kind, j, r->g_inputs[j].at + k * r->g_inputs[j].step, n);
  }
}

/* Adds to the adjoints of the state after step k what comes from the records of that state. */
LIF_FN void add_g_records(struct states *g, const struct row *r, int64_t n, int k) {
  LIF_UNROLLED for (int j = 0; j < STATE_ROWS; j++) {
    const real *from = r->g_records[j].at + k * r->g_records[j].step;
    const int kind = state_kinds[j], width = lif_width(kind, r->S);
    if (!holds_number(kind))
      for (int i = 0; i < width; i++) (*reference_at(g, j))[i] += from[n * width + i];
    else if (has_numbers(kind))
      *number_at(g, j) += from[n];
  }
}

/* What is wanted of the steps: the output and the last state; the mask too, of a neuron that has
 * one; the state after each step too. */
enum wanted { OUTPUT, AND_MASK, STATES };

/* Takes neuron n through `steps` steps. Returns whether a count may have been above those that
 * o->few allows for. */
LIF_FN int forward_neuron(const struct row *r, const struct options *o, int64_t n, int steps,
                          int common, int wanted) {
  const int S = computed_synapses(r->S);
  struct params p;
  struct states s;
  load_all(&p, param_kinds, ALL_PARAM_ROWS, r->params, r, n);
  load_all(&s, state_kinds, STATE_ROWS, r->states, r, n);
  if (common >= OPTIONS) leave_out(&p);
  uint32_t word = 0;
  int exceeds = 0;
  LIF_UNROLLED for (int k = 0; k < steps; k++) {
    struct inputs in;
    struct states next = s;
    int open;
    load_inputs(&in, r, n, k, common);
    bind_states(&next, r->next + k * r->state_step, r, n);
    r->out.at[k * r->out.step + n] = step_masked(S, o, &p, &s, &in, &next, &open);
    word |= open ? 1u << k : 0;
    s = next;
    if (o->few) exceeds |= exceeds_few(&p, &s);
    if (wanted == STATES || k == steps - 1)
      store_all(&s, state_kinds, STATE_ROWS, r->next + (wanted == STATES ? k * r->state_step : 0),
                r, n);
  }
  if (NEURON_MASKABLE && wanted != OUTPUT) {
    const uint32_t earlier = (1u << r->bit) - 1; /* steps of the mask's word */
    r->mask[n] = (r->mask[n] & earlier) | word << r->bit;
  }
  return exceeds;
}

/* The slope of neuron n's spike in step k, from the state before it. */
LIF_FN void slope_neuron(const struct row *r, const struct options *o, int64_t n, int k) {
  struct params p;
  struct states s;
  struct inputs in;
  load_all(&p, param_kinds, ALL_PARAM_ROWS, r->params, r, n);
  load_all(&s, state_kinds, STATE_ROWS, r->states + k * r->state_step, r, n);
  load_inputs(&in, r, n, k, ANYTHING);
  const struct kept kept = keep(computed_synapses(r->S), o, &p, &s, &in);
  const struct slope slope = slope_of_step(o, &p, &kept);
  r->slopes[0].at[k * r->slopes[0].step + n] = slope.v;
  r->slopes[1].at[k * r->slopes[1].step + n] = slope.to_threshold;
}

/* Takes neuron n back through `steps` steps, from the states before them. The slopes are those of
 * o->surrogate, or at hand in rows. */
LIF_FN void backward_neuron(const struct row *r, const struct options *o, int64_t n, int steps,
                            int common, int at_hand) {
  const int S = computed_synapses(r->S);
  struct params p, g_p = {0};
  struct states g;
  load_all(&p, param_kinds, ALL_PARAM_ROWS, r->params, r, n);
  load_all(&g, state_kinds, STATE_ROWS, r->next, r, n);
  if (o->param_gradients) load_all(&g_p, param_kinds, PARAM_ROWS, r->g_params, r, n);
  if (common >= OPTIONS) leave_out(&p);
  LIF_UNROLLED for (int k = steps - 1; k >= 0; k--) {
    struct inputs in, g_in;
    struct states s;
    struct slope slope;
    load_inputs(&in, r, n, k, common);
    load_all(&s, state_kinds, STATE_ROWS, r->states + k * r->state_step, r, n);
    bind_g_inputs(&g_in, r, n, k);
    if (common != BARE) add_g_records(&g, r, n, k);
    const struct kept kept = keep(S, o, &p, &s, &in);
    if (at_hand) {
      slope.v = r->slopes[0].at[k * r->slopes[0].step + n];
      slope.to_threshold = r->slopes[1].at[k * r->slopes[1].step + n];
    } else {
      slope = slope_of_step(o, &p, &kept);
    }
    step_backward(S, o, &p, &kept, &s, &in, slope, r->out.at[k * r->out.step + n], &g, &g, &g_in,
                  &g_p);
    store_g_inputs(&g_in, r, n, k, common);
  }
  store_all(&g, state_kinds, STATE_ROWS, r->next, r, n);
  if (o->param_gradients) store_all(&g_p, param_kinds, PARAM_ROWS, r->g_params, r, n);
}

/* The same from the mask alone. */
LIF_FN void masked_backward_neuron(const struct row *r, int64_t n, int steps, int common) {
  const int S = computed_synapses(r->S);
  struct params p;
  struct states g;
  load_all(&p, param_kinds, ALL_PARAM_ROWS, r->params, r, n);
  load_all(&g, state_kinds, STATE_ROWS, r->next, r, n);
  const uint32_t word = r->mask[n] >> r->bit;
  LIF_UNROLLED for (int k = steps - 1; k >= 0; k--) {
    struct inputs g_in;
    bind_g_inputs(&g_in, r, n, k);
    if (common != BARE) add_g_records(&g, r, n, k);
    step_backward_masked(S, &p, (int)(word >> k & 1u), r->out.at[k * r->out.step + n], &g, &g,
                         &g_in);
    store_g_inputs(&g_in, r, n, k, common);
  }
  store_all(&g, state_kinds, STATE_ROWS, r->next, r, n);
}

static inline int64_t end_of_group(const struct row *r, int64_t first) {
  return r->count - first < r->group ? r->count : first + r->group;
}

/* Tells the compiler the options of the common case, and those of a usual one. */
LIF_FN struct options constant_options(struct options o, int common, int usual) {
  if (common >= OPTIONS) set_known(&o, 1);
  if (common == BARE) o.inputs_given = 1;
  if (usual) {
    o.smooth = 0;
    o.reciprocal_fits = 1;
  }
  return o;
}

/* Computes what the neuron derives from its parameters. Returns whether counts_by_reciprocal holds
 * for every neuron of the row. */
static int derive_row(const struct row *row) {
  const struct row r = *row;
  int all = 1;
  LIF_INDEPENDENT
  for (int64_t n = 0; n < r.count; n++) {
    struct params p;
    load_all(&p, param_kinds, ALL_PARAM_ROWS, r.params, &r, n);
    derive(&p);
    store_all(&p, param_kinds, ALL_PARAM_ROWS, r.params, &r, n);
    all &= counts_by_reciprocal(&r.options, &p);
  }
  return all;
}

#if NEURON_SPIKING
/* The slopes of all surrogates but those below of which there are variants, in a pass of its own: a
 * loop for each surrogate. */
LIF_FN void slope_loop(const struct row *row, int steps, int surrogate) {
  const struct row r = *row;
  struct options o = r.options;
  o.surrogate = surrogate;
  for (int k = 0; k < steps; k++) LIF_INDEPENDENT
  for (int64_t n = 0; n < r.count; n++) slope_neuron(&r, &o, n, k);
}

#define SLOPE_FUNCTION(name, class_name, params, window)                                     \
  static __attribute__((noinline)) void slopes_of_##name(const struct row *row, int steps) { \
    slope_loop(row, steps, LIF_SURROGATE_##name);                                            \
  }
LIF_SURROGATES(SLOPE_FUNCTION)
#define SLOPE_ENTRY(name, class_name, params, window) slopes_of_##name,
static void (*const slope_functions[])(const struct row *row,
                                       int steps) = {LIF_SURROGATES(SLOPE_ENTRY)};

static void make_slopes(const struct row *row, int steps) {
  slope_functions[row->options.surrogate](row, steps);
}
#else
static void make_slopes(const struct row *row, int steps) { (void)row, (void)steps; }
#endif

/* The variants. Their constants:
 *   steps      1 or BLOCK
 *   common     of enum common. Of a neuron without common options OPTIONS is not compiled
 *   usual      no smooth spikes, and counts_by_reciprocal holds for every neuron of the row
 *   wanted     of enum wanted
 *   few        as in struct options
 *   surrogate  as in struct options; or MASK: the mask is enough; or AT_HAND: slopes are made
 * before gradients  whether parameters have gradients, or ANY
 *
 * Of the variants in a list that fit a call the first is taken. The last fits every call of one
 * step. It is not vectorised, because hardly anybody waits for it.
 *
 * Each variant is a function of its own: among other loops the compiler runs out of registers
 * (measured: a sixth slower). */
enum { ANY = -2, MASK = -3, AT_HAND = -4 };

LIF_FN int forward_loop(const struct row *row, int steps, int common, int usual, int wanted,
                        int few) {
  struct row r = *row;
  struct options o = constant_options(r.options, common, usual);
  int exceeds = 0;
  if (common == OPTIONS && !knows_options()) return 0;
  o.few = few;
  for (int64_t first = 0, end; first < r.count; first = end) {
    end = end_of_group(&r, first);
    if (usual) {
      LIF_INDEPENDENT
      for (int64_t n = first; n < end; n++)
        exceeds |= forward_neuron(&r, &o, n, steps, common, wanted);
    } else {
      for (int64_t n = first; n < end; n++) forward_neuron(&r, &o, n, steps, common, wanted);
    }
    if (r.pass_on) r.pass_on(r.tile, first, end);
  }
  return exceeds;
}

LIF_FN void backward_loop(const struct row *row, int steps, int common, int usual, int surrogate,
                          int gradients) {
  struct row r = *row;
  struct options o = constant_options(r.options, common, usual);
  if (common == OPTIONS && !knows_options()) return;
  if (surrogate >= 0) o.surrogate = surrogate;
  if (gradients != ANY) o.param_gradients = gradients;
  for (int64_t first = 0, end; first < r.count; first = end) {
    end = end_of_group(&r, first);
    for (int j = 0; r.reused && j < INPUT_ROWS; j++) r.g_inputs[j].at = row->g_inputs[j].at - first;
    if (surrogate == MASK) {
      LIF_INDEPENDENT
      for (int64_t n = first; n < end; n++) masked_backward_neuron(&r, n, steps, common);
    } else if (usual) {
      LIF_INDEPENDENT
      for (int64_t n = first; n < end; n++)
        backward_neuron(&r, &o, n, steps, common, surrogate == AT_HAND);
    } else {
      for (int64_t n = first; n < end; n++) backward_neuron(&r, &o, n, steps, common, 1);
    }
    if (r.pass_on) r.pass_on(r.tile, first, end);
  }
}

/* The surrogate of the neuron's library is a constant in a bare call. A neuron that does not spike
 * has none. */
enum { LIBRARY = NEURON_SPIKING ? (int)NEURON_LIBRARY_SURROGATE : AT_HAND };

/* The lists, FORWARD(steps, common, usual, wanted, few) and BACKWARD(steps, common, usual,
 * surrogate, gradients). What follows makes of them first the functions, then their tables. */
#if NEURON_COUNTS
#define FORWARD_BLOCKS(common, wanted) \
  FORWARD(BLOCK, common, 1, wanted, 1) FORWARD(BLOCK, common, 1, wanted, 0)
#else
#define FORWARD_BLOCKS(common, wanted) FORWARD(BLOCK, common, 1, wanted, 0)
#endif
#define BACKWARD_BOTH(steps, common, surrogate) \
  BACKWARD(steps, common, 1, surrogate, 0) BACKWARD(steps, common, 1, surrogate, 1)

#if NEURON_MASKABLE
#define MASK_BLOCKS(common) FORWARD_BLOCKS(common, AND_MASK) BACKWARD(BLOCK, common, 0, MASK, 0)
#define MASK_STEP BACKWARD(1, ANYTHING, 0, MASK, 0)
#else
#define MASK_BLOCKS(common)
#define MASK_STEP
#endif
#if NEURON_SPIKING
#define LIBRARY_BLOCKS BACKWARD_BOTH(BLOCK, BARE, LIBRARY)
#else
#define LIBRARY_BLOCKS
#endif

/* With few synapses a bare call is faster than others by what it does not load and store.
 * (x86 processors without AVX2 are too old to compile it for them.) */
#if LIF_SYNAPSES <= 2 && (defined(__AVX2__) || !LIF_X86)
#define FAST_OUTPUT FORWARD_BLOCKS(BARE, OUTPUT) MASK_BLOCKS(BARE)
#define FAST_STATES \
  FORWARD_BLOCKS(BARE, STATES) FORWARD_BLOCKS(OPTIONS, STATES) FORWARD(1, BARE, 1, STATES, 0)
#define FAST_BACKWARD \
  LIBRARY_BLOCKS BACKWARD_BOTH(BLOCK, BARE, AT_HAND) BACKWARD_BOTH(BLOCK, OPTIONS, AT_HAND)
#define FAST_VARIANTS FAST_OUTPUT FAST_STATES FAST_BACKWARD
#else
#define FAST_VARIANTS
#endif
#if LIF_SYNAPSES < LIF_MANY
#define BLOCK_VARIANTS \
  MASK_BLOCKS(ANYTHING) FORWARD_BLOCKS(ANYTHING, STATES) BACKWARD_BOTH(BLOCK, ANYTHING, AT_HAND)
#else /* members in memory: nothing stays in registers from one step to the next */
#define BLOCK_VARIANTS
#endif
#define STEP_VARIANTS \
  FORWARD(1, ANYTHING, 1, STATES, 0) MASK_STEP BACKWARD_BOTH(1, ANYTHING, AT_HAND)
#define GENERAL_VARIANTS FORWARD(1, ANYTHING, 0, STATES, 0) BACKWARD(1, ANYTHING, 0, AT_HAND, ANY)
#define VARIANTS FAST_VARIANTS BLOCK_VARIANTS STEP_VARIANTS GENERAL_VARIANTS

#define FORWARD_NAME(steps, common, usual, wanted, few) \
  forward_##steps##_##common##_##usual##_##wanted##_##few
#define BACKWARD_NAME(steps, common, usual, surrogate, gradients) \
  backward_##steps##_##common##_##usual##_##surrogate##_##gradients

#define FORWARD(...)                                                                      \
  static __attribute__((noinline)) int FORWARD_NAME(__VA_ARGS__)(const struct row *row) { \
    return forward_loop(row, __VA_ARGS__);                                                \
  }
#define BACKWARD(...)                                                                       \
  static __attribute__((noinline)) void BACKWARD_NAME(__VA_ARGS__)(const struct row *row) { \
    backward_loop(row, __VA_ARGS__);                                                        \
  }
VARIANTS
#undef FORWARD
#undef BACKWARD

static const struct forward_variant {
  int steps, common, usual, wanted, few;
  int (*run)(const struct row *row); /* returns whether counts may have exceeded few */
} forward_variants[] = {
#define FORWARD(...) {__VA_ARGS__, FORWARD_NAME(__VA_ARGS__)},
#define BACKWARD(...)
    VARIANTS
#undef FORWARD
#undef BACKWARD
};

static const struct backward_variant {
  int steps, common, usual, surrogate, gradients;
  void (*run)(const struct row *row);
} backward_variants[] = {
#define FORWARD(...)
#define BACKWARD(...) {__VA_ARGS__, BACKWARD_NAME(__VA_ARGS__)},
    VARIANTS
#undef FORWARD
#undef BACKWARD
};

/* The variant for a call; NULL: none takes so many steps. */
static const struct forward_variant *find_forward(int steps, int common, int usual, int wanted,
                                                  int few) {
  for (size_t k = 0; k < sizeof forward_variants / sizeof *forward_variants; k++) {
    const struct forward_variant *v = &forward_variants[k];
    if (v->steps == steps && v->common <= common && (v->common != OPTIONS || knows_options()) &&
        v->usual <= usual && v->few <= few && v->wanted >= wanted)
      return v;
  }
  return NULL;
}

static const struct backward_variant *find_backward(int steps, int common, int usual, int surrogate,
                                                    int gradients) {
  for (size_t k = 0; k < sizeof backward_variants / sizeof *backward_variants; k++) {
    const struct backward_variant *v = &backward_variants[k];
    if (v->steps == steps && v->common <= common && (v->common != OPTIONS || knows_options()) &&
        v->usual <= usual &&
        (v->surrogate == surrogate || (v->surrogate == AT_HAND && surrogate != MASK)) &&
        (v->gradients == gradients || v->gradients == ANY))
      return v;
  }
  return NULL;
}

/* Notes for tests what a tile's variant is compiled for. */
static void note_way(int steps, int common, int masked, int backward) {
  lif_cpu_note_way((steps == BLOCK ? LIF_CPU_BLOCKS : 0) |
                       (common >= OPTIONS ? LIF_CPU_OPTIONS : 0) |
                       (common == BARE ? LIF_CPU_BARE : 0) | (masked ? LIF_CPU_MASK : 0),
                   backward);
}

/* The variants for a tile's steps forward; `block` is NULL if they are taken one by one. */
struct forward_choice {
  const struct forward_variant *single, *block, *few_block;
  int few; /* counts that few_block does not allow for have not been met lately */
};

/* Takes 1 or BLOCK steps and returns where the last state is. Without multiple spikes a step takes
 * half the time: no quotient, and a chain of operations half as long. Where they turn out to be
 * there, the steps are taken again from the states before. */
static real *run_forward(const struct row *r, struct forward_choice *c, int steps) {
  if (steps == 1) {
    c->single->run(r);
    return r->next;
  }
  if (c->few) c->few = !c->few_block->run(r);
  if (!c->few) c->block->run(r);
  return r->next + (c->block->wanted == STATES ? (steps - 1) * r->state_step : 0);
}

#endif

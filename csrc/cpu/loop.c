/* The time loop on the CPU. Compiled once for each neuron (NEURON), precision (LIF_REAL) and
 * instruction set (LIF_ISA).
 *
 * A task is a tile of neurons of one batch item: t is the outer loop and n the inner, so that
 * memory is read in bursts of a tile's row while the tile's state stays in the first-level cache.
 * With recurrence the tile is all neurons of the item, and their spikes of the step before join the
 * state. */
#include <stdlib.h>

#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "../neuron/slope.h"
#include "kernels.h"
#include "row.h"
#include "storage.h"

/* Neurons computed before their output is streamed: with more, the processor has nothing to compute
 * or to read while it writes them (measured: a tenth slower with 128, a fourth with 512). Rows that
 * share lines with their neighbours would write two lines in part for every group of them. */
enum { STREAMED_NEURONS = 32, STREAMED_UNALIGNED_NEURONS = 128 };
/* Time steps below which the batch items of a tile are tasks in a row, so that its parameters,
 * which take as long as some steps, are read once. Else the tiles of a batch item are, for they
 * share pages. */
enum { SHORT_SEQUENCE = 32 };
#define ROW_PADDING \
  16 /* reals between rows of scratch: rows a power of two apart would share cache sets */

#define FIELD_KIND(name, KIND) LIF_##KIND,
static const int input_kinds[] = {NEURON_INPUTS(FIELD_KIND)};
static const int param_kinds[] = {NEURON_PARAMS(FIELD_KIND)};
static const int state_kinds[] = {NEURON_STATES(FIELD_KIND)};

/* Whether an input is computed here; without weights it is 0, like any other that is left out. */
static int is_recurrent_input(const struct lif_args *a, int f) {
  return a->recurrence.weights && NEURON_RECURRENT && f == INPUT_COUNT - 1;
}

/* A tile and the rows of scratch it works in. */
struct tile {
  const struct lif_args *a;
  int64_t b, n; /* its batch item and first neuron */
  struct row row;
  real *zeros;
  struct rows input_buffers[INPUT_COUNT], out_buffer, g_input_buffers[INPUT_COUNT];
  real *spare;
  uint32_t *mask; /* a word for each neuron of the row */
  real *spikes,
      *rec; /* recurrence: the spikes of the step before, or their adjoint; the recurrent input */
  real *stash[STATE_COUNT]; /* states before each step of the interval that is replayed */
  int64_t stash_row[STATE_COUNT];
};

static int64_t row_length(const struct lif_args *a, int width) {
  return (int64_t)a->tile * width + ROW_PADDING;
}

/* Hands out scratch; with memory == NULL it only counts, so that size and layout cannot
 * disagree. */
static real *scratch(real *memory, int64_t *used, int64_t length) {
  real *at = memory ? memory + *used : NULL;
  *used += length;
  return at;
}

static struct rows scratch_rows(const struct lif_args *a, real *memory, int64_t *used, int width) {
  const int64_t length = row_length(a, width);
  return (struct rows){scratch(memory, used, length * BLOCK), length, width};
}

static int64_t lay_out(struct tile *tile, real *memory, int backward) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  int64_t used = 0;
  const int widest = a->S > 1 ? a->S : 1;
  tile->zeros = scratch(memory, &used, row_length(a, widest));
  tile->spare = scratch(memory, &used, row_length(a, widest));
  tile->mask = (uint32_t *)scratch(memory, &used, row_length(a, 1));
  if (a->recurrence.weights) {
    tile->spikes = scratch(memory, &used, row_length(a, 1));
    tile->rec = scratch(memory, &used, row_length(a, widest));
  }
  tile->out_buffer = scratch_rows(a, memory, &used, 1);
  for (int f = 0; f < INPUT_COUNT; f++) {
    const int width = lif_width(input_kinds[f], a->S);
    tile->input_buffers[f] = scratch_rows(a, memory, &used, width);
    if (backward) tile->g_input_buffers[f] = scratch_rows(a, memory, &used, width);
  }
  r->per_threshold = scratch(memory, &used, row_length(a, 1));
  for (int f = 0; f < PARAM_COUNT; f++) {
    const int64_t length = row_length(a, lif_width(param_kinds[f], a->S));
    r->params[f] = scratch(memory, &used, length);
    r->g_params[f] = backward ? scratch(memory, &used, length) : NULL;
  }
  for (int f = 0; f < STATE_COUNT; f++) {
    const int64_t length = row_length(a, lif_width(state_kinds[f], a->S));
    r->next[f] = scratch(memory, &used, length);
    r->spare_states[f] = scratch(memory, &used, length);
    tile->stash_row[f] = length;
    tile->stash[f] =
        backward ? scratch(memory, &used, length * (a->checkpoint_interval + 1)) : NULL;
  }
  return used;
}

/* Rows from step t on as they are in memory. */
static struct rows rows_at(const struct tile *tile, const struct lif_tensor *x, int64_t t,
                           int64_t width) {
  return (struct rows){(real *)x->data + row_offset(x, t, tile->b, tile->n), x->t, width};
}

/* Rows to read, of `steps` time steps: in place if they are contiguous there, otherwise gathered
 * into `buffer`. */
static struct rows read_rows(const struct tile *tile, const struct lif_tensor *x, int storage,
                             int64_t t, int steps, struct rows buffer) {
  const int width = (int)buffer.width;
  if (!x->data) return (struct rows){tile->zeros, 0, width};
  if (row_is_direct(x, storage, width)) return rows_at(tile, x, t, width);
  const int64_t offset = row_offset(x, t, tile->b, tile->n);
  for (int k = 0; k < steps; k++)
    gather_row(x, storage, offset + k * x->t, tile->row.count, width, buffer.at + k * buffer.step);
  return buffer;
}

static real *read_row(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t,
                      int width, real *buffer) {
  return read_rows(tile, x, storage, t, 1, (struct rows){buffer, 0, width}).at;
}

static void copy_row_in(const struct tile *tile, const struct lif_tensor *x, int64_t t, int width,
                        real *row) {
  if (x->data && x->n == 0 &&
      width == 1) { /* shared by all: gathering it for each would take as long as several steps */
    const real shared = *rows_at(tile, x, t, 1).at;
    for (int64_t n = 0; n < tile->row.count; n++) row[n] = shared;
    return;
  }
  const real *from = read_row(tile, x, LIF_NATIVE, t, width, row);
  if (from != row) memcpy(row, from, (size_t)(tile->row.count * width) * sizeof(real));
}

/* Where rows are to be written: in place if they are contiguous there, otherwise in `buffer`, for
 * write_rows to scatter. */
static struct rows rows_to_write(const struct tile *tile, const struct lif_tensor *x, int storage,
                                 int64_t t, struct rows buffer) {
  const int in_place =
      x->data && !tile->a->streaming && row_is_direct(x, storage, (int)buffer.width);
  return in_place ? rows_at(tile, x, t, buffer.width) : buffer;
}

/* Writes the neurons first..end-1; `rows` begin with the first of them. */
static void write_rows(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t,
                       int steps, struct rows rows, int64_t first, int64_t end) {
  if (!x->data) return;
  const int width = (int)rows.width;
  if (row_is_direct(x, storage, width) && rows_at(tile, x, t, width).at == rows.at) return;
  const int64_t count = end - first;
  const int streaming = tile->a->streaming && row_is_dense(x, width);
  const struct lif_tensor dense = {.data = tile->spare, .n = width, .s = 1};
  const size_t size = size_of(storage);
  for (int k = 0; k < steps; k++) {
    const real *row = rows.at + k * rows.step;
    const int64_t offset = row_offset(x, t + k, tile->b, tile->n + first);
    if (!streaming) {
      scatter_row(x, storage, offset, count, width, row);
      continue;
    }
    if (storage != LIF_NATIVE) {
      scatter_row(&dense, storage, 0, count, width, row);
      row = tile->spare;
    }
    stream((char *)x->data + offset * (int64_t)size, row, (size_t)(count * width) * size);
  }
}

static void write_row(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t,
                      int width, const real *row) {
  write_rows(tile, x, storage, t, 1, (struct rows){(real *)row, 0, width}, 0, tile->row.count);
}

/* Streams a group whose rows begin on cache lines, and fetches what it will read next: a row
 * elsewhere is nothing the processor could foresee. It is short because it runs for every group:
 * instructions between two groups keep the second's loads from starting. */
static void stream_group(const struct row *r, int64_t first, int64_t end) {
  const int64_t bytes = (end - first) * r->to.width * (int64_t)sizeof(real);
  const int64_t fetched = r->ahead.at ? (end - first) * r->ahead.width * (int64_t)sizeof(real) : 0;
  for (int k = 0; k < r->steps; k++) {
    char *to = (char *)(r->to.at + k * r->to.step + first * r->to.width);
    const char *from = (const char *)(r->from.at + k * r->from.step);
    int64_t at = 0;
    for (; at + CACHE_LINE <= bytes; at += CACHE_LINE) stream_line(to + at, from + at);
    if (at < bytes) memcpy(to + at, from + at, (size_t)(bytes - at));
  }
  for (int k = 0; fetched && k < r->steps; k++) {
    const char *next = (const char *)(r->ahead.at + k * r->ahead.step + first * r->ahead.width);
    for (int64_t at = 0; at < fetched; at += CACHE_LINE) __builtin_prefetch(next + at);
  }
}

/* Tells stream_group the way of the row's steps: of rows `from` to x, while it fetches rows of
 * `read`, from step `next` on. */
static void aim_stream(struct tile *tile, struct rows from, const struct lif_tensor *x,
                       const struct lif_tensor *read, int64_t next, int width) {
  struct row *r = &tile->row;
  if (r->pass_on != stream_group) return;
  r->from = from;
  r->to = rows_at(tile, x, r->t, from.width);
  const int there = next >= 0 && next + r->steps <= tile->a->T && read->data &&
                    row_is_direct(read, LIF_NATIVE, width);
  r->ahead = there ? rows_at(tile, read, next, width) : (struct rows){0};
}

/* Chooses how many neurons form a group (row.group), and the function that passes each finished
 * group on to x (row.pass_on): stream_group where that is possible, else `otherwise`. */
static void choose_groups(struct tile *tile, const struct lif_tensor *x, int width,
                          void (*otherwise)(const struct row *, int64_t, int64_t), int alone) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  r->pass_on = otherwise;
  r->group = r->count;
  if (!a->streaming || a->recurrence.weights || !row_is_dense(x, width)) return;
  const uintptr_t size = size_of(a->storage),
                  start = (uintptr_t)x->data + (uintptr_t)row_offset(x, 0, tile->b, tile->n) * size;
  const int aligned = (start | (uintptr_t)x->t * size) % CACHE_LINE == 0;
  r->group = aligned ? STREAMED_NEURONS : STREAMED_UNALIGNED_NEURONS;
  if (aligned && alone && x->data && a->storage == LIF_NATIVE) r->pass_on = stream_group;
}

/* The mask's words of this row, of the steps that t is among. */
static uint32_t *mask_words(const struct tile *tile, int64_t t) {
  return (uint32_t *)tile->a->mask.data +
         row_offset(&tile->a->mask, t / LIF_MASK_STEPS, tile->b, tile->n);
}

static void read_mask(struct tile *tile, int64_t t) {
  const uint32_t *from = mask_words(tile, t);
  for (int64_t n = 0; n < tile->row.count; n++) tile->mask[n] = from[n * tile->a->mask.n];
}

static void write_mask(const struct tile *tile, int64_t t) {
  uint32_t *to = mask_words(tile, t);
  if (tile->a->streaming && tile->a->mask.n == 1)
    stream(to, tile->mask, (size_t)tile->row.count * sizeof *to);
  else
    for (int64_t n = 0; n < tile->row.count; n++) to[n * tile->a->mask.n] = tile->mask[n];
}

/* The inputs of the row's steps from t on, but for the recurrent one. */
static void read_inputs(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  for (int f = 0; f < INPUT_COUNT; f++)
    if (!is_recurrent_input(a, f))
      r->inputs[f] =
          read_rows(tile, &a->inputs[f], a->storage, t, r->steps, tile->input_buffers[f]);
}

static void read_params(struct tile *tile) {
  for (int f = 0; f < PARAM_COUNT; f++)
    copy_row_in(tile, &tile->a->params[f], 0, lif_width(param_kinds[f], tile->a->S),
                tile->row.params[f]);
  tile->row.reciprocal_fits = 1;
#if NEURON_MASKABLE
  const struct options o = *tile->row.options;
  tile->row.reciprocal_fits = OPTION(&o, max_spikes) >= REAL(1);
  for (int64_t n = 0; n < tile->row.count; n++) {
    const struct params p = {.threshold = tile->row.params[PARAM_threshold][n]};
    tile->row.per_threshold[n] = REAL(1) / p.threshold;
    tile->row.reciprocal_fits &= neuron_reciprocal_fits(&o, &p);
  }
#endif
}

#if NEURON_RECURRENT
#include "recurrence.h"

/* The recurrent input of step t, and its record. */
static void recur(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  if (!rec->weights) return;
  const int64_t length = a->N * (a->S > 1 ? a->S : 1);
  if (t > 0 || rec->resumed)
    combine_rows(tile->spikes, a->N, (const real *)rec->weights, length, rec->unbounded,
                 (const real *)rec->bias, tile->rec);
  else
    memset(tile->rec, 0, (size_t)length * sizeof(real));
  tile->row.inputs[INPUT_rec].at = tile->rec;
  write_row(tile, &rec->in, LIF_NATIVE, t, a->S > 1 ? a->S : 1, tile->rec);
}

static int has_recurrence(const struct lif_args *a) { return a->recurrence.weights != NULL; }
#else
static void recur(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static int has_recurrence(const struct lif_args *a) { return (void)a, 0; }
#endif

/* The states after are written apart from those before, which are needed once more if counts turn
 * out large. */
static void swap_states(struct row *r) {
  for (int f = 0; f < STATE_COUNT; f++) {
    real *spare = r->spare_states[f];
    r->spare_states[f] = r->next[f];
    r->states[f] = r->next[f];
    r->next[f] = spare;
  }
}

/* Whether steps may be taken BLOCK at a time: there are bodies for that, and nothing happens
 * between steps. */
static int may_block(const struct lif_args *a) {
  int recorded = 0;
  for (int f = 0; f < STATE_COUNT; f++) recorded |= a->records[f].data || a->grad_records[f].data;
  return !recorded && !has_recurrence(a) && a->S <= 2 && a->checkpoint_interval % BLOCK == 0;
}

static void write_out(const struct row *r, int64_t first, int64_t end) {
  const struct lif_args *a = r->tile->a;
  write_rows(r->tile, &a->out, a->storage, r->t, r->steps, r->out, first, end);
}

static void forward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  const int can_block = may_block(a) && r->reciprocal_fits &&
                        !r->options->smooth; /* forward_row has no other body for them */
  for (int f = 0; f < STATE_COUNT; f++) {
    copy_row_in(tile, &a->first_state[f], 0, lif_width(state_kinds[f], a->S), r->next[f]);
    r->states[f] = r->next[f];
  }
  if (has_recurrence(a)) copy_row_in(tile, &a->first_state[STATE_COUNT], 0, 1, tile->spikes);
  r->few = NEURON_MASKABLE;
  r->wanted = r->mask ? AND_MASK : OUTPUT;
  choose_groups(tile, &a->out, 1, write_out, 1);
  for (int64_t t = 0; t < a->T; t += r->steps) {
    if (a->checkpoint_interval && t % a->checkpoint_interval == 0) {
      for (int f = 0; f < STATE_COUNT; f++)
        write_row(tile, &a->checkpoints[f], LIF_NATIVE, t / a->checkpoint_interval,
                  lif_width(state_kinds[f], a->S), r->next[f]);
      if (has_recurrence(a))
        write_row(tile, &a->checkpoints[STATE_COUNT], LIF_NATIVE, t, 1, tile->spikes);
    }
    r->steps = can_block && t + BLOCK <= a->T ? BLOCK : 1;
    read_inputs(tile, t);
    recur(tile, t);
    r->t = t;
    r->bit = (int)(t % LIF_MASK_STEPS);
    if (r->bit == 0) r->few = NEURON_MASKABLE;
    r->out = rows_to_write(tile, &a->out, a->storage, t, tile->out_buffer);
    aim_stream(tile, r->out, &a->out, &a->inputs[0], t + r->steps, lif_width(input_kinds[0], a->S));
    if (r->steps == BLOCK) swap_states(r);
    forward_row(r);
    memcpy(r->states, r->next, sizeof r->states);
    if (r->mask && ((t + r->steps) % LIF_MASK_STEPS == 0 || t + r->steps == a->T))
      write_mask(tile, t);
    if (has_recurrence(a)) memcpy(tile->spikes, r->out.at, (size_t)r->count * sizeof(real));
    for (int f = 0; f < STATE_COUNT; f++)
      write_row(tile, &a->records[f], a->storage, t, lif_width(state_kinds[f], a->S), r->next[f]);
  }
  for (int f = 0; f < STATE_COUNT; f++)
    write_row(tile, &a->last_state[f], LIF_NATIVE, 0, lif_width(state_kinds[f], a->S), r->next[f]);
  if (has_recurrence(a))
    write_row(tile, &a->last_state[STATE_COUNT], LIF_NATIVE, 0, 1, tile->spikes);
}

/* From the checkpoint, the states before each of `steps` steps, into the stash. */
static void replay(struct tile *tile, int64_t first, int steps, int can_block) {
  const struct lif_args *a = tile->a;
  struct row r = tile->row;
  for (int f = 0; f < STATE_COUNT; f++)
    copy_row_in(tile, &a->checkpoints[f], first / a->checkpoint_interval,
                lif_width(state_kinds[f], a->S), tile->stash[f]);
  r.out = tile->out_buffer;
  r.pass_on = NULL;
  r.group = r.count;
  r.few = NEURON_MASKABLE;
  for (int k = 0; k + 1 < steps; k += r.steps) {
    r.steps = tile->row.steps = can_block && k + BLOCK <= steps ? BLOCK : 1;
    r.wanted = r.steps == BLOCK ? STATES : OUTPUT;
    read_inputs(tile, first + k);
    memcpy(r.inputs, tile->row.inputs, sizeof r.inputs);
    for (int f = 0; f < STATE_COUNT; f++) {
      r.states[f] = tile->stash[f] + k * tile->stash_row[f];
      r.next[f] = r.states[f] + tile->stash_row[f];
      r.state_row[f] = tile->stash_row[f];
    }
    forward_row(&r);
  }
}

#if NEURON_RECURRENT
/* Adds to the adjoint of the output what comes from the next step's recurrent input, and reads the
 * recurrent input. */
static void recur_before(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  if (!a->recurrence.weights) return;
  r->inputs[INPUT_rec].at =
      read_row(tile, &a->recurrence.in, LIF_NATIVE, t, a->S > 1 ? a->S : 1, tile->rec);
  for (int64_t n = 0; n < r->count; n++) tile->out_buffer.at[n] = r->out.at[n] + tile->spikes[n];
  r->out = tile->out_buffer;
}

/* The adjoint of the recurrent input, which is that of x, and through the weights that of the
 * spikes before. */
static void recur_after(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  if (!rec->weights) return;
  const int width = a->S > 1 ? a->S : 1;
  if (t > 0 || rec->resumed) {
    const real *g = tile->row.g_inputs[0].at;
    combine_rows(g, a->N * width, (const real *)rec->weights_transposed, a->N, rec->unbounded, NULL,
                 tile->spikes);
    write_row(tile, &rec->grad_in, LIF_NATIVE, t, width, g);
  } else {
    memset(tile->spikes, 0, (size_t)a->N * sizeof(real));
    write_row(tile, &rec->grad_in, LIF_NATIVE, t, width, tile->zeros);
  }
}
#else
static void recur_before(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static void recur_after(struct tile *tile, int64_t t) { (void)tile, (void)t; }
#endif

static void write_g_inputs(const struct row *r, int64_t first, int64_t end) {
  const struct lif_args *a = r->tile->a;
  for (int f = 0; f < INPUT_COUNT; f++)
    write_rows(r->tile, &a->grad_inputs[f], a->storage, r->t, r->steps, r->g_inputs[f], first, end);
}

/* One step back: from the states in the stash at k, or from the mask, or from nothing. */
static void backward_step(struct tile *tile, int64_t t, int k) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  for (int f = 0; f < STATE_COUNT; f++) {
    const int width = lif_width(state_kinds[f], a->S);
    if (a->grad_records[f].data) {
      const real *restrict g =
          read_row(tile, &a->grad_records[f], a->storage, t, width, tile->spare);
      real *restrict sum = r->next[f];
      for (int64_t n = 0; n < r->count * width; n++) sum[n] += g[n];
    }
    if (a->checkpoint_interval) r->states[f] = tile->stash[f] + k * tile->stash_row[f];
    r->state_row[f] = a->checkpoint_interval ? tile->stash_row[f] : 0;
  }
  if (a->checkpoint_interval) read_inputs(tile, t);
  r->t = t;
  r->bit = (int)(t % LIF_MASK_STEPS);
  r->out = read_rows(tile, &a->grad_out, a->storage, t, r->steps, tile->out_buffer);
  for (int f = 0; f < INPUT_COUNT; f++)
    r->g_inputs[f] =
        rows_to_write(tile, &a->grad_inputs[f], a->storage, t, tile->g_input_buffers[f]);
  aim_stream(tile, r->g_inputs[0], &a->grad_inputs[0], &a->grad_out, t - r->steps, 1);
  recur_before(tile, t);
#if NEURON_MASKABLE
  if (r->mask)
    masked_backward_row(r);
  else
#endif
    backward_row(r);
  recur_after(tile, t);
}

static void backward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  for (int f = 0; a->options.param_gradients && f < PARAM_COUNT; f++)
    memset(r->g_params[f], 0, (size_t)(r->count * lif_width(param_kinds[f], a->S)) * sizeof(real));
  for (int f = 0; f < STATE_COUNT; f++)
    copy_row_in(tile, &a->grad_last_state[f], 0, lif_width(state_kinds[f], a->S), r->next[f]);
  if (has_recurrence(a)) copy_row_in(tile, &a->grad_last_state[STATE_COUNT], 0, 1, tile->spikes);
  const int64_t interval = a->checkpoint_interval;
  const int can_replay_blocks = may_block(a) && r->reciprocal_fits && !r->options->smooth;
  const int can_block =
      r->mask ? may_block(a) : can_replay_blocks && has_backward_blocks(r->options);
  int alone = 1;
  for (int f = 1; f < INPUT_COUNT; f++) alone &= !a->grad_inputs[f].data;
  choose_groups(tile, &a->grad_inputs[0], lif_width(input_kinds[0], a->S), write_g_inputs, alone);
  for (int f = 0; f < STATE_COUNT; f++) r->states[f] = tile->zeros;
  for (int f = 0; f < INPUT_COUNT; f++)
    r->inputs[f] = (struct rows){tile->zeros, 0, lif_width(input_kinds[f], a->S)};
  for (int64_t end = interval ? 0 : a->T; end > 0; end -= r->steps) {
    r->steps = can_block && end % BLOCK == 0 ? BLOCK : 1;
    if (r->mask && (end == a->T || end % LIF_MASK_STEPS == 0)) read_mask(tile, end - 1);
    backward_step(tile, end - r->steps, 0);
  }
  for (int64_t end = interval ? a->T : 0; end > 0;) {
    const int64_t first = (end - 1) / interval * interval;
    replay(tile, first, (int)(end - first), can_replay_blocks);
    for (int64_t t = end; t > first; t -= r->steps) {
      r->steps = can_block && (t - first) % BLOCK == 0 ? BLOCK : 1;
      backward_step(tile, t - r->steps, (int)(t - r->steps - first));
    }
    end = first;
  }
  for (int f = 0; f < STATE_COUNT; f++)
    write_row(tile, &a->grad_first_state[f], LIF_NATIVE, 0, lif_width(state_kinds[f], a->S),
              r->next[f]);
  if (has_recurrence(a))
    write_row(tile, &a->grad_first_state[STATE_COUNT], LIF_NATIVE, 0, 1, tile->spikes);
  for (int f = 0; f < PARAM_COUNT; f++)
    write_row(tile, &a->grad_params[f], LIF_NATIVE, 0, lif_width(param_kinds[f], a->S),
              r->g_params[f]);
}

/* See common in row.h. */
static int is_common(const struct lif_args *a) {
  return 1 NEURON_COMMON(IS_COMMON_OPTION, IS_LEFT_OUT) && a->options.inputs_given == 1 &&
         !a->recurrence.weights;
}

static int run_tasks(const struct lif_args *a, int64_t begin, int64_t end, int backward) {
  struct tile tile = {.a = a};
  const size_t bytes = ((size_t)lay_out(&tile, NULL, backward) * sizeof(real) + 63) / 64 * 64;
  real *memory = aligned_alloc(64, bytes);
  if (!memory) return 1;
  lay_out(&tile, memory, backward);
  memset(tile.zeros, 0, (size_t)row_length(a, a->S > 1 ? a->S : 1) * sizeof(real));
  const struct options options = in_precision(&a->options);
  tile.row.tile = &tile;
  tile.row.S = a->S;
  tile.row.common = is_common(a);
  tile.row.mask = a->mask.data ? tile.mask : NULL;
  tile.row.options = &options;
  tile.n = -1;
  const int64_t tiles = lif_tiles(a);
  for (int64_t task = begin; task < end; task++) {
    const int64_t n = (a->T < SHORT_SEQUENCE ? task / a->B : task % tiles) * a->tile;
    tile.b = a->T < SHORT_SEQUENCE ? task % a->B : task / tiles;
    if (tile.n != n) {
      tile.n = n;
      tile.row.count = a->N - n < a->tile ? a->N - n : a->tile;
      read_params(&tile);
    }
    if (backward)
      backward_tile(&tile);
    else
      forward_tile(&tile);
  }
  if (a->streaming) end_streaming();
  free(memory);
  return 0;
}

static int forward(const struct lif_args *a, int64_t begin, int64_t end) {
  return run_tasks(a, begin, end, 0);
}
static int backward(const struct lif_args *a, int64_t begin, int64_t end) {
  return run_tasks(a, begin, end, 1);
}

const struct lif_cpu_kernels LIF_CPU_KERNELS(NEURON, LIF_REAL, LIF_ISA) = {forward, backward};

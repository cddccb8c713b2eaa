/* The time loop on the CPU. Compiled once for each neuron (NEURON), precision (LIF_REAL) and instruction set (LIF_ISA).
 *
 * A task is a tile of neurons of one batch item: t is the outer loop and n the inner, so that memory is read in bursts
 * of a tile's row while the tile's state stays in the first-level cache. With recurrence the tile is all neurons of the item, and
 * their spikes of the step before join the state. */
#include <stdlib.h>

#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "../neuron/slope.h"
#include "kernels.h"
#include "row.h"
#include "storage.h"

/* Neurons computed before their output is streamed: a whole row at once would keep the processor from reading and computing
 * meanwhile (measured: a tenth slower). */
#define STREAMED_NEURONS 128
#define ROW_PADDING 16 /* reals between rows of scratch: rows a power of two apart would share cache sets */

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
  real *input_buffers[BLOCK][INPUT_COUNT], *out_buffers[BLOCK], *g_input_buffers[BLOCK][INPUT_COUNT], *spare;
  uint32_t *mask;           /* a word for each neuron of the row */
  real *spikes, *rec;       /* recurrence: the spikes of the step before, or their adjoint; the recurrent input */
  real *stash[STATE_COUNT]; /* states before each step of the interval that is replayed */
  int64_t stash_row[STATE_COUNT];
};

static int64_t row_length(const struct lif_args *a, int width) { return (int64_t)a->tile * width + ROW_PADDING; }

/* Hands out scratch; with memory == NULL it only counts, so that size and layout cannot disagree. */
static real *scratch(real *memory, int64_t *used, int64_t length) {
  real *at = memory ? memory + *used : NULL;
  *used += length;
  return at;
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
  for (int k = 0; k < BLOCK; k++) {
    tile->out_buffers[k] = scratch(memory, &used, row_length(a, 1));
    for (int f = 0; f < INPUT_COUNT; f++) {
      const int64_t length = row_length(a, lif_width(input_kinds[f], a->S));
      tile->input_buffers[k][f] = scratch(memory, &used, length);
      if (backward) tile->g_input_buffers[k][f] = scratch(memory, &used, length);
    }
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
    tile->stash[f] = backward ? scratch(memory, &used, length * a->checkpoint_interval) : NULL;
  }
  return used;
}

/* A row to read: in place if it is contiguous there, otherwise gathered into `buffer`. */
static real *read_row(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t, int width, real *buffer) {
  if (!x->data) return tile->zeros;
  const int64_t offset = row_offset(x, t, tile->b, tile->n);
  if (row_is_direct(x, storage, width)) return (real *)x->data + offset;
  gather_row(x, storage, offset, tile->row.count, width, buffer);
  return buffer;
}

static void copy_row_in(const struct tile *tile, const struct lif_tensor *x, int64_t t, int width, real *row) {
  const real *from = read_row(tile, x, LIF_NATIVE, t, width, row);
  if (from != row) memcpy(row, from, (size_t)(tile->row.count * width) * sizeof(real));
}

/* Where a row is to be written: in place if it is contiguous there, otherwise in `buffer`, for write_row to scatter. */
static real *row_to_write(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t, int width, real *buffer) {
  if (x->data && !tile->a->streaming && row_is_direct(x, storage, width))
    return (real *)x->data + row_offset(x, t, tile->b, tile->n);
  return buffer;
}

/* Writes the neurons of the row that are being taken. */
static void write_row(const struct tile *tile, const struct lif_tensor *x, int storage, int64_t t, int width, const real *row) {
  if (!x->data) return;
  const struct row *r = &tile->row;
  const int64_t count = r->end - r->first, start = row_offset(x, t, tile->b, tile->n), offset = start + r->first * x->n;
  if (row_is_direct(x, storage, width) && (real *)x->data + start == row) return;
  row += r->first * width;
  if (!tile->a->streaming || !row_is_dense(x, width)) {
    scatter_row(x, storage, offset, count, width, row);
    return;
  }
  const struct lif_tensor dense = {.data = tile->spare, .n = width, .s = 1};
  if (storage != LIF_NATIVE) scatter_row(&dense, storage, 0, count, width, row);
  const size_t size = size_of(storage);
  stream((char *)x->data + offset * (int64_t)size, storage == LIF_NATIVE ? row : tile->spare, (size_t)(count * width) * size);
}

/* Takes the next neurons of the row, from `first` on; returns whether there are any. */
static int take(const struct tile *tile, struct row *r, int64_t first) {
  const int64_t some = tile->a->streaming && !tile->a->recurrence.weights ? STREAMED_NEURONS : r->count;
  r->first = first;
  r->end = first + some < r->count ? first + some : r->count;
  return first < r->count;
}

static void take_all(struct row *r) {
  r->first = 0;
  r->end = r->count;
}

/* The mask's words of this row, of the steps that t is among. */
static uint32_t *mask_words(const struct tile *tile, int64_t t) {
  return (uint32_t *)tile->a->mask.data + row_offset(&tile->a->mask, t / LIF_MASK_STEPS, tile->b, tile->n);
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
  for (int k = 0; k < tile->row.steps; k++)
    for (int f = 0; f < INPUT_COUNT; f++)
      if (!is_recurrent_input(a, f))
        tile->row.inputs[k][f] =
            read_row(tile, &a->inputs[f], a->storage, t + k, lif_width(input_kinds[f], a->S), tile->input_buffers[k][f]);
}

static void read_params(struct tile *tile) {
  for (int f = 0; f < PARAM_COUNT; f++)
    copy_row_in(tile, &tile->a->params[f], 0, lif_width(param_kinds[f], tile->a->S), tile->row.params[f]);
  tile->row.usual = 1;
#if NEURON_MASKABLE
  const struct options o = *tile->row.options;
  tile->row.usual = OPTION(&o, max_spikes) >= REAL(1);
  for (int64_t n = 0; n < tile->row.count; n++) {
    const struct params p = {.threshold = tile->row.params[PARAM_threshold][n]};
    tile->row.per_threshold[n] = REAL(1) / p.threshold;
    tile->row.usual &= usual_neuron(&o, &p);
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
    combine_rows(tile->spikes, a->N, (const real *)rec->weights, length, (const real *)rec->bias, tile->rec);
  else
    memset(tile->rec, 0, (size_t)length * sizeof(real));
  tile->row.inputs[0][INPUT_rec] = tile->rec;
  write_row(tile, &rec->in, LIF_NATIVE, t, a->S > 1 ? a->S : 1, tile->rec);
}

static int has_recurrence(const struct lif_args *a) { return a->recurrence.weights != NULL; }
#else
static void recur(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static int has_recurrence(const struct lif_args *a) { return (void)a, 0; }
#endif

/* The states after are written apart from those before, which are needed once more if counts turn out large. */
static void swap_states(struct row *r) {
  for (int f = 0; f < STATE_COUNT; f++) {
    real *spare = r->spare_states[f];
    r->spare_states[f] = r->next[f];
    r->states[f] = r->next[f];
    r->next[f] = spare;
  }
}

/* Whether steps may be taken BLOCK at a time: the neuron has bodies for that, and nothing happens between steps. */
static int may_block(const struct lif_args *a) {
  int recorded = 0;
  for (int f = 0; f < STATE_COUNT; f++) recorded |= a->records[f].data || a->grad_records[f].data;
  return NEURON_MASKABLE && !recorded && !has_recurrence(a) && a->S <= 2 && a->checkpoint_interval % BLOCK == 0;
}

static void forward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  read_params(tile);
  const int can_block = may_block(a) && r->bare && r->usual && !r->options->smooth; /* forward_row has no other body for them */
  for (int f = 0; f < STATE_COUNT; f++) {
    copy_row_in(tile, &a->first_state[f], 0, lif_width(state_kinds[f], a->S), r->next[f]);
    r->states[f] = r->next[f];
  }
  if (has_recurrence(a)) copy_row_in(tile, &a->first_state[STATE_COUNT], 0, 1, tile->spikes);
  r->few = 1;
  for (int64_t t = 0; t < a->T; t += r->steps) {
    if (a->checkpoint_interval && t % a->checkpoint_interval == 0) {
      for (int f = 0; f < STATE_COUNT; f++)
        write_row(tile, &a->checkpoints[f], LIF_NATIVE, t / a->checkpoint_interval, lif_width(state_kinds[f], a->S), r->next[f]);
      if (has_recurrence(a)) write_row(tile, &a->checkpoints[STATE_COUNT], LIF_NATIVE, t, 1, tile->spikes);
    }
    r->steps = can_block && t + BLOCK <= a->T ? BLOCK : 1;
    read_inputs(tile, t);
    recur(tile, t);
    r->bit = (int)(t % LIF_MASK_STEPS);
    for (int k = 0; k < r->steps; k++) r->out[k] = row_to_write(tile, &a->out, a->storage, t + k, 1, tile->out_buffers[k]);
    if (r->steps == BLOCK) swap_states(r);
    for (int64_t first = 0; take(tile, r, first); first = r->end) {
      forward_row(r);
      for (int k = 0; k < r->steps; k++) write_row(tile, &a->out, a->storage, t + k, 1, r->out[k]);
    }
    take_all(r);
    memcpy(r->states, r->next, sizeof r->states);
    if (r->mask && ((t + r->steps) % LIF_MASK_STEPS == 0 || t + r->steps == a->T)) write_mask(tile, t);
    if (has_recurrence(a)) memcpy(tile->spikes, r->out[0], (size_t)r->count * sizeof(real));
    for (int f = 0; f < STATE_COUNT; f++)
      write_row(tile, &a->records[f], a->storage, t, lif_width(state_kinds[f], a->S), r->next[f]);
  }
  for (int f = 0; f < STATE_COUNT; f++)
    write_row(tile, &a->last_state[f], LIF_NATIVE, 0, lif_width(state_kinds[f], a->S), r->next[f]);
  if (has_recurrence(a)) write_row(tile, &a->last_state[STATE_COUNT], LIF_NATIVE, 0, 1, tile->spikes);
}

/* From the checkpoint, the states before each of `steps` steps, into the stash. */
static void replay(struct tile *tile, int64_t first, int steps) {
  const struct lif_args *a = tile->a;
  struct row r = tile->row;
  for (int f = 0; f < STATE_COUNT; f++)
    copy_row_in(tile, &a->checkpoints[f], first / a->checkpoint_interval, lif_width(state_kinds[f], a->S), tile->stash[f]);
  r.out[0] = tile->out_buffers[0];
  r.steps = tile->row.steps = 1;
  take_all(&r);
  for (int k = 0; k + 1 < steps; k++) {
    read_inputs(tile, first + k);
    memcpy(r.inputs[0], tile->row.inputs[0], sizeof r.inputs[0]);
    for (int f = 0; f < STATE_COUNT; f++) {
      r.states[f] = tile->stash[f] + k * tile->stash_row[f];
      r.next[f] = r.states[f] + tile->stash_row[f];
    }
    forward_row(&r);
  }
}

#if NEURON_RECURRENT
/* Adds to the adjoint of the output what comes from the next step's recurrent input, and reads the recurrent input. */
static void recur_before(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  if (!a->recurrence.weights) return;
  r->inputs[0][INPUT_rec] = read_row(tile, &a->recurrence.in, LIF_NATIVE, t, a->S > 1 ? a->S : 1, tile->rec);
  for (int64_t n = 0; n < r->count; n++) tile->out_buffers[0][n] = r->out[0][n] + tile->spikes[n];
  r->out[0] = tile->out_buffers[0];
}

/* The adjoint of the recurrent input, which is that of x, and through the weights that of the spikes before. */
static void recur_after(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  if (!rec->weights) return;
  const int width = a->S > 1 ? a->S : 1;
  if (t > 0 || rec->resumed) {
    const real *g = tile->row.g_inputs[0][0];
    combine_rows(g, a->N * width, (const real *)rec->weights_transposed, a->N, NULL, tile->spikes);
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

/* One step back: from the states in the stash at k, or from the mask. */
static void backward_step(struct tile *tile, int64_t t, int k) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  for (int f = 0; f < STATE_COUNT; f++) {
    const int width = lif_width(state_kinds[f], a->S);
    if (a->grad_records[f].data) {
      const real *restrict g = read_row(tile, &a->grad_records[f], a->storage, t, width, tile->spare);
      real *restrict sum = r->next[f];
      for (int64_t n = 0; n < r->count * width; n++) sum[n] += g[n];
    }
    if (!r->mask) r->states[f] = tile->stash[f] + k * tile->stash_row[f];
  }
  if (!r->mask) read_inputs(tile, t);
  r->bit = (int)(t % LIF_MASK_STEPS);
  for (int j = 0; j < r->steps; j++) {
    r->out[j] = read_row(tile, &a->grad_out, a->storage, t + j, 1, tile->out_buffers[j]);
    for (int f = 0; f < INPUT_COUNT; f++)
      r->g_inputs[j][f] =
          row_to_write(tile, &a->grad_inputs[f], a->storage, t + j, lif_width(input_kinds[f], a->S), tile->g_input_buffers[j][f]);
  }
  recur_before(tile, t);
  for (int64_t first = 0; take(tile, r, first); first = r->end) {
#if NEURON_MASKABLE
    if (r->mask)
      masked_backward_row(r);
    else
#endif
      backward_row(r);
    for (int j = 0; j < r->steps; j++)
      for (int f = 0; f < INPUT_COUNT; f++)
        write_row(tile, &a->grad_inputs[f], a->storage, t + j, lif_width(input_kinds[f], a->S), r->g_inputs[j][f]);
  }
  take_all(r);
  recur_after(tile, t);
}

static void backward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  read_params(tile);
  for (int f = 0; f < PARAM_COUNT; f++)
    memset(r->g_params[f], 0, (size_t)(r->count * lif_width(param_kinds[f], a->S)) * sizeof(real));
  for (int f = 0; f < STATE_COUNT; f++) copy_row_in(tile, &a->grad_last_state[f], 0, lif_width(state_kinds[f], a->S), r->next[f]);
  if (has_recurrence(a)) copy_row_in(tile, &a->grad_last_state[STATE_COUNT], 0, 1, tile->spikes);
  const int64_t interval = a->checkpoint_interval;
  const int can_block = may_block(a);
  for (int64_t end = r->mask ? a->T : 0; end > 0; end -= r->steps) {
    r->steps = can_block && end % BLOCK == 0 ? BLOCK : 1;
    if (end == a->T || end % LIF_MASK_STEPS == 0) read_mask(tile, end - 1);
    backward_step(tile, end - r->steps, 0);
  }
  for (int64_t end = r->mask ? 0 : a->T; end > 0;) {
    const int64_t first = (end - 1) / interval * interval;
    replay(tile, first, (int)(end - first));
    r->steps = 1;
    for (int64_t t = end - 1; t >= first; t--) backward_step(tile, t, (int)(t - first));
    end = first;
  }
  for (int f = 0; f < STATE_COUNT; f++)
    write_row(tile, &a->grad_first_state[f], LIF_NATIVE, 0, lif_width(state_kinds[f], a->S), r->next[f]);
  if (has_recurrence(a)) write_row(tile, &a->grad_first_state[STATE_COUNT], LIF_NATIVE, 0, 1, tile->spikes);
  for (int f = 0; f < PARAM_COUNT; f++)
    write_row(tile, &a->grad_params[f], LIF_NATIVE, 0, lif_width(param_kinds[f], a->S), r->g_params[f]);
}

#define OPTIONAL_BIT(name, KIND) | (LIF_##KIND & LIF_OPTIONAL ? 1 << PARAM_##name : 0)

/* Whether nothing optional was given. */
static int is_bare(const struct lif_args *a) {
  const int optional = 0 NEURON_PARAMS(OPTIONAL_BIT);
  return a->options.inputs_given == 1 && !(a->options.params_given & optional) && !a->recurrence.weights;
}

static int run_tasks(const struct lif_args *a, int64_t begin, int64_t end, int backward) {
  struct tile tile = {.a = a};
  const size_t bytes = ((size_t)lay_out(&tile, NULL, backward) * sizeof(real) + 63) / 64 * 64;
  real *memory = aligned_alloc(64, bytes);
  if (!memory) return 1;
  lay_out(&tile, memory, backward);
  memset(tile.zeros, 0, (size_t)row_length(a, a->S > 1 ? a->S : 1) * sizeof(real));
  const struct options options = in_precision(&a->options);
  const int64_t tiles = lif_tiles(a);
  for (int64_t task = begin; task < end; task++) {
    tile.b = task / tiles;
    tile.n = task % tiles * a->tile;
    tile.row.count = a->N - tile.n < a->tile ? a->N - tile.n : a->tile;
    tile.row.S = a->S;
    tile.row.bare = is_bare(a);
    tile.row.mask = a->mask.data ? tile.mask : NULL;
    tile.row.options = &options;
    take_all(&tile.row);
    if (backward)
      backward_tile(&tile);
    else
      forward_tile(&tile);
  }
  if (a->streaming) end_streaming();
  free(memory);
  return 0;
}

static int forward(const struct lif_args *a, int64_t begin, int64_t end) { return run_tasks(a, begin, end, 0); }
static int backward(const struct lif_args *a, int64_t begin, int64_t end) { return run_tasks(a, begin, end, 1); }

const struct lif_cpu_kernels LIF_CPU_KERNELS(NEURON, LIF_REAL, LIF_ISA) = {forward, backward};

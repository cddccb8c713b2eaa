/* The time loop on the CPU. Compiled once for each neuron (NEURON), number of synapses
 * (LIF_SYNAPSES), precision (LIF_REAL) and instruction set (LIF_ISA).
 *
 * A task is a tile of neurons of one batch item: t is the outer loop and n the inner, so that
 * memory is read in bursts of a tile's row while the tile's state stays in the first-level cache.
 * With recurrence the tile is all neurons of the item, and their spikes of the step before join the
 * state.
 *
 * In this file, from top to bottom: a tile and its scratch; the tensors that the tile reads and
 * writes; recurrence; the forward; the backward; the tasks. */
#include <stdlib.h>

#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "../neuron/defaults.h"
#include "kernels.h"
#include "row.h"

/* Neurons computed before what they wrote is streamed: with more, the processor has nothing to
 * compute or to read while it writes them (measured: a tenth slower with 128, a fourth with
 * 512). */
enum { STREAMED_NEURONS = 32 };
/* Time steps below which the batch items of a tile are tasks in a row, so that its parameters,
 * which take as long as some steps, are read once. Else the tiles of a batch item are, for they
 * share pages. */
enum { SHORT_SEQUENCE = 32 };
/* Between rows of scratch: rows a power of two apart would share cache sets. */
enum { ROW_PADDING = 16 };

/* The numbers that a neuron has in a field: those of the layer, and those of the loop, which are
 * not fewer; in rows. */
static int layer_width(const struct lif_args *a, struct field f) { return lif_width(f.kind, a->S); }
static int field_rows(struct field f) { return NEURON_MAJOR ? 1 : lif_width(f.kind, LIF_SYNAPSES); }

/* A tile and the rows of scratch it works in. */
struct tile {
  const struct lif_args *a;
  int64_t b, n; /* its batch item and first neuron */
  int64_t t;    /* first time step of the row */
  int steps;    /* 1 or BLOCK */
  int common;   /* of enum common */
  int usual;    /* see the variants in row.h */
  struct row row;
  real *zeros, *silent, *nowhere; /* rows of 0, of -0, and to write what nobody wants */
  real *states[2];                /* forward: BLOCK steps each, used in turn */
  real *stash;                    /* backward: before each step of the interval that is replayed */
  real *spare;                    /* to write states from */
  struct sequence inputs[INPUT_COUNT];
  struct sequence g_out, g_records[STATE_COUNT];
  struct rows g_out_rows;
  /* What steps write: forward the output and the records, backward the gradients of inputs. */
  struct sequence written[LIF_MAX_INPUTS + 1];
  const struct sequence *passed[LIF_MAX_INPUTS + 1]; /* those of them that write_group writes */
  int n_passed;
  struct rows record_rows[STATE_ROWS];
  const char *ahead;               /* steps that are read next, to be fetched meanwhile; or NULL */
  int64_t ahead_apart, ahead_size; /* bytes from one to the next; of a neuron */
  /* recurrence */
  real *spikes; /* of the step before, or their adjoint */
  real *sums;   /* the recurrent input, or the adjoint of the output */
};

/* Hands out scratch; with memory == NULL it only counts, so that size and layout cannot
 * disagree. */
static real *scratch(real *memory, int64_t *used, int64_t length) {
  real *at = memory ? memory + *used : NULL;
  *used += length;
  return at;
}

/* The scratch of a sequence of BLOCK steps. */
static void lay_out_sequence(struct sequence *q, real *memory, int64_t *used, int64_t pitch,
                             struct field f) {
  q->pitch = pitch;
  q->step = pitch * field_rows(f);
  q->buffer = scratch(memory, used, q->step * BLOCK);
  q->staged = scratch(memory, used, q->step * BLOCK);
}

static int64_t lay_out(struct tile *tile, real *memory, int backward) {
  const struct lif_args *a = tile->a;
  const struct field one = {LIF_PER_NEURON, 0};
  const int64_t widest = NEURON_MAJOR ? a->S : 1;
  const int64_t pitch = (lif_tile_length(a) * widest + 15) / 16 * 16 + ROW_PADDING;
  struct row *r = &tile->row;
  int64_t used = 0;
  r->pitch = pitch;
  r->state_step = pitch * STATE_ROWS;
  tile->zeros = scratch(memory, &used, r->state_step);
  tile->silent = scratch(memory, &used, pitch);
  tile->nowhere = scratch(memory, &used, pitch);
  r->mask = (uint32_t *)scratch(memory, &used, pitch);
  if (a->recurrence.weights) {
    tile->spikes = scratch(memory, &used, a->N);
    tile->sums = scratch(memory, &used, a->N * (a->S > 1 ? a->S : 1));
  }
  r->params = scratch(memory, &used, pitch * ALL_PARAM_ROWS);
  for (int f = 0; f < INPUT_COUNT; f++)
    lay_out_sequence(&tile->inputs[f], memory, &used, pitch, input_fields[f]);
  tile->spare = scratch(memory, &used, r->state_step);
  for (int k = 0; k < 2; k++) tile->states[k] = scratch(memory, &used, r->state_step * BLOCK);
  if (backward) {
    r->g_params = scratch(memory, &used, pitch * PARAM_ROWS);
    for (int k = 0; k < 2; k++)
      r->slopes[k] = (struct rows){scratch(memory, &used, pitch * BLOCK), pitch};
    tile->stash = scratch(memory, &used, r->state_step * (a->kept.steps + 1));
    lay_out_sequence(&tile->g_out, memory, &used, pitch, one);
    for (int f = 0; f < STATE_COUNT; f++)
      lay_out_sequence(&tile->g_records[f], memory, &used, pitch, state_fields[f]);
    for (int f = 0; f < INPUT_COUNT; f++)
      lay_out_sequence(&tile->written[f], memory, &used, pitch, input_fields[f]);
  } else {
    lay_out_sequence(&tile->written[0], memory, &used, pitch, one);
    for (int f = 0; f < STATE_COUNT; f++)
      lay_out_sequence(&tile->written[1 + f], memory, &used, pitch, state_fields[f]);
  }
  return used;
}

/* The part of a tensor that belongs to the tile. */
static struct lif_tensor of_tile(const struct tile *tile, struct lif_tensor x, int storage) {
  if (x.data)
    x.data = (char *)x.data +
             (ptrdiff_t)size_of(storage) * (ptrdiff_t)row_offset(&x, 0, tile->b, tile->n);
  return x;
}

/* Tells a sequence its tensor, and of which rows its numbers are. */
static void place(const struct tile *tile, struct sequence *q, const struct lif_tensor *x,
                  int storage, int width, struct rows *rows) {
  q->x = of_tile(tile, *x, storage);
  q->storage = storage;
  q->width = width;
  q->count = tile->row.count;
  q->rows = rows;
}

static void begin_inputs(struct tile *tile) {
  const struct lif_args *a = tile->a;
  for (int f = 0; f < INPUT_COUNT; f++) {
    place(tile, &tile->inputs[f], &a->inputs[f], a->storage, layer_width(a, input_fields[f]),
          &tile->row.inputs[input_fields[f].row]);
    begin_reading(&tile->inputs[f], field_rows(input_fields[f]), tile->silent);
  }
}

static void read_inputs(struct tile *tile, int64_t t, int steps) {
  for (int f = 0; f < INPUT_COUNT; f++) read_steps(&tile->inputs[f], t, steps);
}

/* Reads one row of a field. What was left out is 0, and what the layer has not is `silent`. */
static void read_field(const struct tile *tile, const struct lif_tensor *x, int64_t t,
                       struct field f, real silent, real *block) {
  const int width = layer_width(tile->a, f), rows = field_rows(f);
  const int64_t pitch = tile->row.pitch, length = tile->row.count * (NEURON_MAJOR ? width : 1);
  real *row = block + f.row * pitch;
  if (x->data) {
    const struct lif_tensor here = of_tile(tile, *x, LIF_NATIVE);
    gather_row(&here, (const real *)here.data + t * x->t, LIF_NATIVE, 0, tile->row.count, width,
               row, pitch);
  }
  for (int k = !x->data || NEURON_MAJOR ? 0 : width; k < rows && !(x->data && NEURON_MAJOR); k++)
    for (int64_t n = 0; n < length; n++) row[k * pitch + n] = k < width ? REAL(0) : silent;
}

static void write_field(const struct tile *tile, const struct lif_tensor *x, int64_t t,
                        struct field f, const real *block) {
  if (!x->data) return;
  struct rows rows = {(real *)block + f.row * tile->row.pitch, 0};
  struct sequence q = {.pitch = tile->row.pitch, .staged = tile->spare};
  place(tile, &q, x, LIF_NATIVE, layer_width(tile->a, f), &rows);
  q.as_it_is = is_in_place(&q);
  q.way = tile->a->streaming && row_is_dense(&q.x, q.width) ? STREAMED : COPIED;
  aim(&q, t);
  write_steps(&q, 1, 0, q.count);
}

static void read_states(const struct tile *tile, const struct lif_tensor *tensors, int64_t t,
                        real *block) {
  for (int f = 0; f < STATE_COUNT; f++)
    read_field(tile, &tensors[f], t, state_fields[f], REAL(-0.0), block);
}

static void write_states(const struct tile *tile, const struct lif_tensor *tensors, int64_t t,
                         const real *block) {
  for (int f = 0; f < STATE_COUNT; f++) write_field(tile, &tensors[f], t, state_fields[f], block);
}

static void read_params(struct tile *tile) {
  for (int f = 0; f < PARAM_COUNT; f++)
    read_field(tile, &tile->a->params[f], 0, param_fields[f], REAL(0), tile->row.params);
  tile->usual = derive_row(&tile->row) && !tile->row.options.smooth;
}

/* The mask's words of this row, of the steps that t is among. */
static uint32_t *mask_words(const struct tile *tile, int64_t t) {
  return (uint32_t *)tile->a->mask.data +
         row_offset(&tile->a->mask, t / LIF_MASK_STEPS, tile->b, tile->n);
}

static void read_mask(const struct tile *tile, int64_t t) {
  const uint32_t *from = mask_words(tile, t);
  for (int64_t n = 0; n < tile->row.count; n++) tile->row.mask[n] = from[n * tile->a->mask.n];
}

static void write_mask(const struct tile *tile, int64_t t) {
  uint32_t *to = mask_words(tile, t);
  const int64_t count = tile->row.count, bytes = count * (int64_t)sizeof *to;
  if (tile->a->streaming && tile->a->mask.n == 1)
    stream((char *)to, (const char *)tile->row.mask, 0, bytes, bytes);
  else
    for (int64_t n = 0; n < count; n++) to[n * tile->a->mask.n] = tile->row.mask[n];
}

/* Passes on what was written of a group, and fetches what will be read next in its place: a row
 * elsewhere is nothing the processor could foresee. It is short because it runs for every group:
 * instructions between two groups keep the second's loads from starting. */
static void write_group(const struct tile *tile, int64_t first, int64_t end) {
  const int steps = tile->steps;
  for (int k = 0; k < tile->n_passed; k++)
    if (tile->row.reused)
      stream_reused(tile->passed[k], steps, first, end);
    else
      write_steps(tile->passed[k], steps, first, end);
  const char *next = tile->ahead;
  if (!next) return;
  for (int k = 0; k < steps; k++, next += tile->ahead_apart)
    for (int64_t at = first * tile->ahead_size; at < end * tile->ahead_size; at += CACHE_LINE)
      __builtin_prefetch(next + at);
}

/* Chooses what write_group writes, and the groups of neurons after which it is called. */
static void begin_groups(struct tile *tile, int count) {
  struct row *r = &tile->row;
  int streamed = 0;
  r->reused = !tile->a->recurrence.weights;
  tile->n_passed = 0;
  for (int k = 0; k < count; k++) {
    const struct sequence *q = &tile->written[k];
    streamed |= q->way == STREAMED;
    r->reused &= q->way == ABSENT || (q->way == STREAMED && q->aligned);
    if (q->way == COPIED || q->way == STREAMED) tile->passed[tile->n_passed++] = q;
  }
  r->group = streamed && !tile->a->recurrence.weights ? STREAMED_NEURONS : r->count;
  r->reused &= streamed;
  r->pass_on = tile->n_passed ? write_group : NULL;
}

/* Lets write_group fetch the steps of `q` from t on. */
static void fetch_ahead(struct tile *tile, const struct sequence *q, int64_t t) {
  const int there = t >= 0 && t + tile->steps <= tile->a->T && q->x.data && q->x.t != 0 &&
                    row_is_dense(&q->x, q->width);
  tile->ahead = there ? step_data(q, t) : NULL;
  tile->ahead_apart = q->x.t * (int64_t)size_of(q->storage);
  tile->ahead_size = (int64_t)size_of(q->storage) * q->width;
}

/* Whether steps may be taken BLOCK at a time: nothing happens between them. */
static int may_block(const struct lif_args *a) {
  return !a->recurrence.weights && a->kept.steps % BLOCK == 0;
}

#if NEURON_RECURRENT
#include "recurrence.h"

static const struct field rec_field = {LIF_RECURRENT, offsetof(struct inputs, rec) / PLACE};

/* Lets the recurrent input's rows be those of its buffer, which the functions below fill. */
static void begin_recurrence(struct tile *tile) {
  if (!tile->a->recurrence.weights) return;
  use_buffer(&tile->inputs[INPUT_rec], NEURON_MAJOR ? 1 : layer_width(tile->a, rec_field));
}

/* The recurrent input of step t, and its record. */
static void recur(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  if (!rec->weights) return;
  const int width = layer_width(a, rec_field);
  const struct lif_tensor dense = {.n = width, .s = 1};
  real *rows = tile->inputs[INPUT_rec].buffer;
  real *sums = width == 1 || NEURON_MAJOR ? rows : tile->sums;
  if (t > 0 || rec->resumed)
    combine_rows(tile->spikes, a->N, (const real *)rec->weights, a->N * width, rec->unbounded,
                 (const real *)rec->bias, sums);
  else
    memset(sums, 0, (size_t)(a->N * width) * sizeof(real));
  if (sums != rows) gather_row(&dense, sums, LIF_NATIVE, 0, a->N, width, rows, tile->row.pitch);
  if (rec->in.data)
    scatter_row(&rec->in, (real *)rec->in.data + row_offset(&rec->in, t, tile->b, 0), LIF_NATIVE, 0,
                a->N, width, rows, tile->row.pitch);
}

/* Adds to the adjoint of the output what comes from the next step's recurrent input, and reads the
 * recurrent input. */
static void recur_before(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  struct row *r = &tile->row;
  if (!rec->weights) return;
  gather_row(&rec->in, (real *)rec->in.data + row_offset(&rec->in, t, tile->b, 0), LIF_NATIVE, 0,
             a->N, layer_width(a, rec_field), tile->inputs[INPUT_rec].buffer, r->pitch);
  for (int64_t n = 0; n < r->count; n++) tile->sums[n] = r->out.at[n] + tile->spikes[n];
  r->out.at = tile->sums;
}

/* The adjoint of the recurrent input, which is that of x, and through the weights that of the
 * spikes before. */
static void recur_after(struct tile *tile, int64_t t) {
  const struct lif_args *a = tile->a;
  const struct lif_recurrence *rec = &a->recurrence;
  if (!rec->weights) return;
  const int width = layer_width(a, rec_field);
  const struct lif_tensor dense = {.n = width, .s = 1};
  const real *g = tile->row.g_inputs[0].at, *rows = g;
  if (t > 0 || rec->resumed) {
    if (width > 1 && !NEURON_MAJOR) {
      scatter_row(&dense, tile->sums, LIF_NATIVE, 0, a->N, width, rows, tile->row.pitch);
      g = tile->sums;
    }
    combine_rows(g, a->N * width, (const real *)rec->weights_transposed, a->N, rec->unbounded, NULL,
                 tile->spikes);
  } else {
    memset(tile->spikes, 0, (size_t)a->N * sizeof(real));
    rows = tile->zeros; /* of as many rows as states, which are more than currents */
  }
  if (rec->grad_in.data)
    scatter_row(&rec->grad_in, (real *)rec->grad_in.data + row_offset(&rec->grad_in, t, tile->b, 0),
                LIF_NATIVE, 0, a->N, width, rows, tile->row.pitch);
}

/* The spikes before step t, among a launch's states. */
static void read_spikes(struct tile *tile, const struct lif_tensor *tensors) {
  const struct field spikes = {LIF_PER_NEURON, 0};
  if (tile->a->recurrence.weights)
    read_field(tile, &tensors[STATE_COUNT], 0, spikes, REAL(0), tile->spikes);
}

static void write_spikes(const struct tile *tile, const struct lif_tensor *tensors, int64_t t) {
  const struct field spikes = {LIF_PER_NEURON, 0};
  if (tile->a->recurrence.weights)
    write_field(tile, &tensors[STATE_COUNT], t, spikes, tile->spikes);
}

static void keep_spikes(struct tile *tile) {
  if (tile->a->recurrence.weights)
    memcpy(tile->spikes, tile->row.out.at, (size_t)tile->row.count * sizeof(real));
}
#else
static void begin_recurrence(struct tile *tile) { (void)tile; }
static void recur(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static void recur_before(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static void recur_after(struct tile *tile, int64_t t) { (void)tile, (void)t; }
static void read_spikes(struct tile *tile, const struct lif_tensor *x) { (void)tile, (void)x; }
static void write_spikes(const struct tile *tile, const struct lif_tensor *x, int64_t t) {
  (void)tile, (void)x, (void)t;
}
static void keep_spikes(struct tile *tile) { (void)tile; }
#endif

static struct forward_choice choose_forward(const struct tile *tile, int wanted) {
  struct forward_choice c = {.single = find_forward(1, tile->common, tile->usual, wanted, 0),
                             .few = NEURON_COUNTS};
  if (!may_block(tile->a)) return c;
  c.block = find_forward(BLOCK, tile->common, tile->usual, wanted, 0);
  c.few_block = find_forward(BLOCK, tile->common, tile->usual, wanted, 1);
  return c;
}

/* Returns whether states are recorded. */
static int begin_forward(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  begin_inputs(tile);
  begin_recurrence(tile);
  place(tile, &tile->written[0], &a->out, a->storage, 1, &r->out);
  begin_writing(&tile->written[0], 1, tile->nowhere, a->streaming);
  int recorded = 0;
  for (int f = 0; f < STATE_COUNT; f++) {
    struct sequence *q = &tile->written[1 + f];
    const struct field field = state_fields[f];
    place(tile, q, &a->records[f], a->storage, layer_width(a, field),
          &tile->record_rows[field.row]);
    begin_writing(q, field_rows(field), tile->nowhere, a->streaming);
    if (q->way == IN_PLACE) q->way = COPIED; /* from the states, which stay in scratch */
    q->aligned = 0;                          /* and are whole rows */
    recorded |= q->x.data != NULL;
  }
  begin_groups(tile, 1 + STATE_COUNT);
  return recorded;
}

static void forward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  const int recorded = begin_forward(tile);
  const int masked = NEURON_MASKABLE && a->mask.data;
  struct forward_choice choice = choose_forward(tile, recorded ? STATES
                                                      : masked ? AND_MASK
                                                               : OUTPUT);
  note_way(choice.block ? BLOCK : 1, (choice.block ? choice.block : choice.single)->common, masked,
           0);
  int parity = 0;
  real *state = tile->states[0];
  read_states(tile, a->first_state, 0, state);
  read_spikes(tile, a->first_state);
  for (int64_t t = 0; t < a->T; t += tile->steps) {
    if (a->kept.steps && t % a->kept.steps == 0) {
      write_states(tile, a->checkpoints, t / a->kept.steps, state);
      write_spikes(tile, a->checkpoints, t);
    }
    tile->t = t;
    tile->steps = choice.block && t + BLOCK <= a->T ? BLOCK : 1;
    read_inputs(tile, t, tile->steps);
    recur(tile, t);
    for (int f = 0; f < 1 + STATE_COUNT; f++) aim(&tile->written[f], t);
    fetch_ahead(tile, &tile->inputs[0], t + tile->steps);
    r->bit = (int)(t % LIF_MASK_STEPS);
    if (r->bit == 0) choice.few = NEURON_COUNTS;
    r->states = state;
    r->next = tile->states[parity ^= 1];
    for (int j = 0; recorded && j < STATE_ROWS; j++)
      tile->record_rows[j] = (struct rows){r->next + j * r->pitch, r->state_step};
    state = run_forward(r, &choice, tile->steps);
    if (masked && ((t + tile->steps) % LIF_MASK_STEPS == 0 || t + tile->steps == a->T))
      write_mask(tile, t);
    keep_spikes(tile);
  }
  write_states(tile, a->last_state, 0, state);
  write_spikes(tile, a->last_state, 0);
}

/* From the checkpoint, the states before each of `steps` steps, into the stash. */
static void replay(struct tile *tile, int64_t first, int steps) {
  const struct lif_args *a = tile->a;
  struct forward_choice choice = choose_forward(tile, STATES);
  struct row r = tile->row;
  read_states(tile, a->checkpoints, first / a->kept.steps, tile->stash);
  r.out = (struct rows){tile->nowhere, 0};
  r.pass_on = NULL;
  r.reused = 0;
  r.group = r.count;
  r.bit = 0;
  for (int k = 0, taken; k + 1 < steps; k += taken) {
    taken = choice.block && k + BLOCK <= steps ? BLOCK : 1;
    read_inputs(tile, first + k, taken);
    memcpy(r.inputs, tile->row.inputs, sizeof r.inputs);
    r.states = tile->stash + k * r.state_step;
    r.next = r.states + r.state_step;
    run_forward(&r, &choice, taken);
  }
}

/* Some steps back: from the states in the stash at k, or from the mask, or from nothing. */
static void backward_steps(struct tile *tile, const struct backward_variant *variant, int64_t t,
                           int k) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  tile->t = t;
  tile->steps = variant->steps;
  if (a->kept.steps) {
    read_inputs(tile, t, tile->steps);
    r->states = tile->stash + k * r->state_step;
  }
  read_steps(&tile->g_out, t, tile->steps);
  r->out = tile->g_out_rows;
  for (int f = 0; f < STATE_COUNT; f++) read_steps(&tile->g_records[f], t, tile->steps);
  for (int f = 0; f < INPUT_COUNT; f++) aim(&tile->written[f], t);
  fetch_ahead(tile, &tile->g_out, t - tile->steps);
  r->bit = (int)(t % LIF_MASK_STEPS);
  recur_before(tile, t);
  if (variant->surrogate == AT_HAND) make_slopes(r, tile->steps);
  variant->run(r);
  recur_after(tile, t);
}

static void begin_backward(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  begin_inputs(tile);
  begin_recurrence(tile);
  place(tile, &tile->g_out, &a->grad_out, a->storage, 1, &tile->g_out_rows);
  begin_reading(&tile->g_out, 1, tile->zeros);
  for (int f = 0; f < STATE_COUNT; f++) {
    const struct field field = state_fields[f];
    place(tile, &tile->g_records[f], &a->grad_records[f], a->storage, layer_width(a, field),
          &r->g_records[field.row]);
    begin_reading(&tile->g_records[f], field_rows(field), tile->silent);
  }
  for (int f = 0; f < INPUT_COUNT; f++) {
    struct sequence *q = &tile->written[f];
    const struct field field = input_fields[f];
    place(tile, q, &a->grad_inputs[f], a->storage, layer_width(a, field), &r->g_inputs[field.row]);
    begin_writing(q, field_rows(field), tile->nowhere, a->streaming);
    if (f == 0 && q->way == ABSENT && a->recurrence.weights) /* recur_after reads them */
      use_buffer(q, NEURON_MAJOR ? 1 : q->width);
  }
  begin_groups(tile, INPUT_COUNT);
}

static void backward_tile(struct tile *tile) {
  const struct lif_args *a = tile->a;
  struct row *r = &tile->row;
  begin_backward(tile);
  int common = tile->common;
  for (int f = 0; f < STATE_COUNT; f++)
    if (common == BARE && a->grad_records[f].data) common = OPTIONS;
  const int usual = tile->usual, gradients = a->options.param_gradients;
  const int surrogate = NEURON_MASKABLE && a->mask.data ? MASK : a->options.surrogate;
  const struct backward_variant *single = find_backward(1, common, usual, surrogate, gradients),
                                *block = may_block(a) ? find_backward(BLOCK, common, usual,
                                                                      surrogate, gradients)
                                                      : NULL;
  note_way(block ? BLOCK : 1, (block ? block : single)->common, surrogate == MASK, 1);
  if (gradients) memset(r->g_params, 0, (size_t)(r->pitch * PARAM_ROWS) * sizeof(real));
  read_states(tile, a->grad_last_state, 0, r->next);
  read_spikes(tile, a->grad_last_state);
  const int64_t interval = a->kept.steps;
  for (int64_t end = interval ? 0 : a->T; end > 0; end -= tile->steps) {
    if (surrogate == MASK && (end == a->T || end % LIF_MASK_STEPS == 0)) read_mask(tile, end - 1);
    const struct backward_variant *variant = block && end % BLOCK == 0 ? block : single;
    backward_steps(tile, variant, end - variant->steps, 0);
  }
  for (int64_t end = interval ? a->T : 0; end > 0;) {
    const int64_t first = (end - 1) / interval * interval;
    replay(tile, first, (int)(end - first));
    for (int64_t t = end; t > first; t -= tile->steps) {
      const struct backward_variant *variant = block && (t - first) % BLOCK == 0 ? block : single;
      backward_steps(tile, variant, t - variant->steps, (int)(t - variant->steps - first));
    }
    end = first;
  }
  write_states(tile, a->grad_first_state, 0, r->next);
  write_spikes(tile, a->grad_first_state, 0);
  for (int f = 0; f < PARAM_COUNT; f++)
    write_field(tile, &a->grad_params[f], 0, param_fields[f], r->g_params);
}

static enum common common_of(const struct lif_args *a) {
  if (!fits_case(&a->options, 1)) return ANYTHING;
  return a->options.inputs_given == 1 && !a->recurrence.weights ? BARE : OPTIONS;
}

static int run_tasks(const struct lif_args *a, int64_t begin, int64_t end, int backward) {
  struct tile tile = {.a = a, .n = -1};
  const size_t bytes = ((size_t)lay_out(&tile, NULL, backward) * sizeof(real) + 63) / 64 * 64;
  real *memory = aligned_alloc(64, bytes);
  if (!memory) return 1;
  lay_out(&tile, memory, backward);
  memset(tile.zeros, 0, (size_t)tile.row.state_step * sizeof(real));
  for (int64_t n = 0; n < tile.row.pitch; n++) tile.silent[n] = REAL(-0.0);
  tile.common = common_of(a);
  tile.row.S = a->S;
  tile.row.options = in_precision(&a->options);
  tile.row.tile = &tile;
  tile.row.states = tile.zeros; /* for a backward that needs no states */
  if (backward) tile.row.next = tile.states[0];
  const int64_t tiles = lif_tiles(a), length = lif_tile_length(a);
  for (int64_t task = begin; task < end; task++) {
    const int64_t n = (a->T < SHORT_SEQUENCE ? task / a->B : task % tiles) * length;
    tile.b = a->T < SHORT_SEQUENCE ? task % a->B : task / tiles;
    if (tile.n != n) {
      tile.n = n;
      tile.row.count = a->N - n < length ? a->N - n : length;
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

const struct lif_cpu_kernels LIF_CPU_KERNELS(NEURON, LIF_SYNAPSES, LIF_REAL, LIF_ISA) = {forward,
                                                                                         backward};

/* From tensors in memory (any strides, any storage type) to rows of `real`, and back.
 *
 * First conversions of 16-bit floats; then writing past the caches; then gather_row and
 * scatter_row, which copy one time step; last struct sequence, which decides once per tile how the
 * steps of a tensor become rows: in place, gathered once, or gathered in each step. */
#ifndef LIF_STORAGE_H
#define LIF_STORAGE_H

#include "../neuron/args.h"
#include "../neuron/real.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { LIF_NATIVE = LIF_REAL == 64 ? LIF_FLOAT64 : LIF_FLOAT32 };

/* Time steps that a loop may take at once: what a neuron keeps stays in registers from one to the
 * next. More would make chains longer than a processor can overlap. LIF_MASK_STEPS and
 * LIF_CHECKPOINT_INTERVAL are multiples of it. */
enum { BLOCK = 4 };

/* Conversions from and to 16-bit floats. They round to nearest even, as PyTorch does. They use no
 * branches and no denormal floats, so that the loops below vectorise and do not depend on the
 * flush-to-zero mode. */
LIF_FN float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

LIF_FN uint32_t float_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

LIF_FN float from_bfloat16(uint16_t h) { return float_from_bits((uint32_t)h << 16); }

LIF_FN uint16_t to_bfloat16(float x) {
  const uint32_t bits = float_to_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)(x != x ? 0x7fc0u : rounded);
}

LIF_FN float from_float16(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const float denormal = (float)(int32_t)magnitude * 0x1p-24f;
  const uint32_t normal =
      (magnitude << 13) + ((magnitude >= 0x7c00u ? 255u - 31u : 127u - 15u) << 23);
  const uint32_t bits = magnitude < 0x400u ? float_to_bits(denormal) : normal;
  return float_from_bits(bits | (uint32_t)(h & 0x8000u) << 16);
}

LIF_FN uint16_t to_float16(float x) {
  const uint32_t bits = float_to_bits(x), magnitude = bits & 0x7fffffffu;
  const uint32_t denormal =
      float_to_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u; /* 0.5 has an ulp of 2^-24 */
  const uint32_t normal =
      (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - ((127u - 15u) << 23)) >> 13;
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t half = magnitude >= 0x47800000u  ? huge
                        : magnitude < 0x38800000u ? denormal
                                                  : normal;
  return (uint16_t)(half | (bits >> 16 & 0x8000u));
}

static inline size_t size_of(int storage) {
  return storage == LIF_FLOAT64 ? 8 : storage == LIF_FLOAT32 ? 4 : 2;
}

static inline int64_t row_offset(const struct lif_tensor *x, int64_t t, int64_t b, int64_t n) {
  return t * x->t + b * x->b + n * x->n;
}

/* Whether the values of the neurons stand side by side. */
static inline int row_is_dense(const struct lif_tensor *x, int width) {
  return x->n == width && (width == 1 || x->s == 1);
}

enum { CACHE_LINE = 64 };

/* Writes a cache line past the caches. A line that is written whole need not be read from memory
 * first. That read is a third of the traffic of a loop that reads one sequence and writes
 * another. */
static inline void stream_line(void *to, const void *from) {
#ifdef __AVX512F__
  _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512(from));
#elif defined(__SSE2__)
  for (int k = 0; k < 4; k++)
    _mm_stream_si128((__m128i *)to + k, _mm_loadu_si128((const __m128i *)from + k));
#else
  memcpy(to, from, CACHE_LINE);
#endif
}

/* Copies the bytes first..end-1 of a row of `whole` bytes with stream_line. The row may begin
 * anywhere in a line. A line that is not complete yet waits for the call that brings its rest, so
 * `first` must be where the call before ended, and a part that is not the last has at least a line.
 * Lines that the row shares with its neighbours in memory are written normally. */
static inline void stream(char *to, const char *from, int64_t first, int64_t end, int64_t whole) {
  const int64_t phase = (int64_t)((uintptr_t)to % CACHE_LINE);
  const int64_t lines_end = ((end + phase) & -CACHE_LINE) - phase;
  int64_t at = ((first + phase) & -CACHE_LINE) - phase;
  if (at < 0) { /* the row's first line */
    at = CACHE_LINE - phase < end ? CACHE_LINE - phase : end;
    memcpy(to, from, (size_t)at);
  }
  for (; at < lines_end; at += CACHE_LINE) stream_line(to + at, from + at);
  if (end == whole && at < end) memcpy(to + at, from + at, (size_t)(end - at));
}

/* Makes sure that streamed lines are in memory before anything that the thread writes next, such as
 * the word that says that its task is done. */
static inline void end_streaming(void) {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

/* Rows of one number of every neuron: `at` is the first neuron's at the first time step, `step`
 * leads to the next time step. The numbers of the neurons stand side by side. */
struct rows {
  real *at;
  int64_t step;
};

/* In a translation unit of any number of synapses the numbers of a neuron stand side by side in one
 * row. Else each of them has a row of its own, PITCH numbers after the one before. */
enum { NEURON_MAJOR = LIF_SYNAPSES == LIF_MANY };

/* Number `at` of a tensor. Storage types have the precision of the translation unit. */
LIF_FN real load_stored(const void *data, int storage, int64_t at) {
  switch (storage) {
    case LIF_BFLOAT16: return (real)from_bfloat16(((const uint16_t *)data)[at]);
    case LIF_FLOAT16: return (real)from_float16(((const uint16_t *)data)[at]);
    default: return ((const real *)data)[at];
  }
}

LIF_FN void store_stored(void *data, int storage, int64_t at, real value) {
  switch (storage) {
    case LIF_BFLOAT16: ((uint16_t *)data)[at] = to_bfloat16((float)value); break;
    case LIF_FLOAT16: ((uint16_t *)data)[at] = to_float16((float)value); break;
    default: ((real *)data)[at] = value;
  }
}

/* A copy between `width` values of each neuron in memory and rows, in one of both directions. */
LIF_FN void copy_values(int to_memory, void *restrict data, int storage, int64_t n_stride,
                        int64_t s_stride, int64_t first, int64_t end, int width, real *restrict row,
                        int64_t pitch) {
  for (int64_t n = first; n < end; n++)
    for (int k = 0; k < width; k++) {
      real *value = row + (NEURON_MAJOR ? n * width + k : k * pitch + n);
      const int64_t at = n * n_stride + k * s_stride;
      if (to_memory)
        store_stored(data, storage, at, *value);
      else
        *value = load_stored(data, storage, at);
    }
}

/* The same where the values are dense and `width` is a constant, so that the compiler vectorises
 * it. */
LIF_FN void copy_dense(int to_memory, void *restrict data, int storage, int64_t first, int64_t end,
                       int width, real *restrict row, int64_t pitch) {
  for (int64_t n = first; n < end; n++) LIF_EACH_SYNAPSE(k, width) {
      if (to_memory)
        store_stored(data, storage, n * width + k, row[k * pitch + n]);
      else
        row[k * pitch + n] = load_stored(data, storage, n * width + k);
    }
}

/* Whether a dense row has this width, of the layers that this translation unit is for. */
LIF_FN int is_width(int constant, int width, const struct lif_tensor *x) {
  return LIF_SYNAPSES < LIF_MANY && LIF_SYNAPSES / 2 < constant && constant <= LIF_SYNAPSES &&
         width == constant && row_is_dense(x, constant);
}

/* Chooses among them. */
LIF_FN void copy_stored(int to_memory, const struct lif_tensor *x, void *data, int storage,
                        int64_t first, int64_t end, int width, real *row, int64_t pitch) {
  if (width == 1 && x->n == 1)
    copy_dense(to_memory, data, storage, first, end, 1, row, pitch);
  else if (is_width(2, width, x))
    copy_dense(to_memory, data, storage, first, end, 2, row, pitch);
  else if (is_width(3, width, x))
    copy_dense(to_memory, data, storage, first, end, 3, row, pitch);
  else if (is_width(4, width, x))
    copy_dense(to_memory, data, storage, first, end, 4, row, pitch);
  else if (is_width(5, width, x))
    copy_dense(to_memory, data, storage, first, end, 5, row, pitch);
  else if (is_width(6, width, x))
    copy_dense(to_memory, data, storage, first, end, 6, row, pitch);
  else if (is_width(7, width, x))
    copy_dense(to_memory, data, storage, first, end, 7, row, pitch);
  else if (is_width(8, width, x))
    copy_dense(to_memory, data, storage, first, end, 8, row, pitch);
  else if (LIF_SYNAPSES < 2)
    copy_values(to_memory, data, storage, x->n, 0, first, end, width > 0, row, pitch);
  else
    copy_values(to_memory, data, storage, x->n, x->s, first, end, width, row, pitch);
}

/* gather_row and scatter_row copy the neurons first..end-1 of a row that begins at `data`. */
static __attribute__((noinline)) void gather_row(const struct lif_tensor *x, const void *data,
                                                 int storage, int64_t first, int64_t end, int width,
                                                 real *row, int64_t pitch) {
  if (x->n == 0 && !NEURON_MAJOR) { /* shared by all neurons */
    for (int k = 0; k < width; k++) {
      const real shared = load_stored(data, storage, k * x->s);
      for (int64_t n = first; n < end; n++) row[k * pitch + n] = shared;
    }
    return;
  }
  if (storage == LIF_NATIVE)
    copy_stored(0, x, (void *)data, LIF_NATIVE, first, end, width, row, pitch);
  else if (LIF_REAL == 32 && storage == LIF_BFLOAT16)
    copy_stored(0, x, (void *)data, LIF_BFLOAT16, first, end, width, row, pitch);
  else if (LIF_REAL == 32)
    copy_stored(0, x, (void *)data, LIF_FLOAT16, first, end, width, row, pitch);
}

static __attribute__((noinline)) void scatter_row(const struct lif_tensor *x, void *data,
                                                  int storage, int64_t first, int64_t end,
                                                  int width, const real *row, int64_t pitch) {
  if (storage == LIF_NATIVE)
    copy_stored(1, x, data, LIF_NATIVE, first, end, width, (real *)row, pitch);
  else if (LIF_REAL == 32 && storage == LIF_BFLOAT16)
    copy_stored(1, x, data, LIF_BFLOAT16, first, end, width, (real *)row, pitch);
  else if (LIF_REAL == 32)
    copy_stored(1, x, data, LIF_FLOAT16, first, end, width, (real *)row, pitch);
}

/* Copies BLOCK steps that stand side by side in memory, one value of a neuron after the other: step
 * by step each would touch the cache lines of all neurons again. Rows are `step` apart. */
LIF_FN void copy_block(int to_memory, int64_t n_stride, void *restrict data, int storage,
                       int64_t first, int64_t end, real *restrict row, int64_t step) {
  for (int64_t n = first; n < end; n++) {
    /* The next steps' line: of so many sequences at once the processor sees none coming. */
    const char *ahead = (char *)data + n * n_stride * (int64_t)size_of(storage) + CACHE_LINE;
    if (to_memory)
      __builtin_prefetch(ahead, 1);
    else
      __builtin_prefetch(ahead, 0);
    for (int k = 0; k < BLOCK; k++) {
      if (to_memory)
        store_stored(data, storage, n * n_stride + k, row[k * step + n]);
      else
        row[k * step + n] = load_stored(data, storage, n * n_stride + k);
    }
  }
}

LIF_FN void copy_stored_block(int to_memory, const struct lif_tensor *x, void *data, int storage,
                              int64_t first, int64_t end, real *row, int64_t step) {
  if (storage == LIF_NATIVE)
    copy_block(to_memory, x->n, data, LIF_NATIVE, first, end, row, step);
  else if (LIF_REAL == 32 && storage == LIF_BFLOAT16)
    copy_block(to_memory, x->n, data, LIF_BFLOAT16, first, end, row, step);
  else if (LIF_REAL == 32)
    copy_block(to_memory, x->n, data, LIF_FLOAT16, first, end, row, step);
}

static __attribute__((noinline)) void gather_block(const struct lif_tensor *x, const void *data,
                                                   int storage, int64_t first, int64_t end,
                                                   real *row, int64_t step) {
  copy_stored_block(0, x, (void *)data, storage, first, end, row, step);
}

static __attribute__((noinline)) void scatter_block(const struct lif_tensor *x, void *data,
                                                    int storage, int64_t first, int64_t end,
                                                    const real *row, int64_t step) {
  copy_stored_block(1, x, data, storage, first, end, (real *)row, step);
}

/* How the steps of a tensor become rows, or rows its steps. */
enum way {
  ABSENT,   /* the tensor was left out */
  HELD,     /* the same in every step, so gathered once */
  IN_PLACE, /* the rows are the tensor's own memory */
  COPIED,   /* gathered, or scattered, in each step */
  STREAMED  /* written past the caches */
};

/* A tensor as the loop reads or writes it: a tile of one batch item. `rows` are the loop's, one for
 * each number of a neuron. */
struct sequence {
  struct lif_tensor x; /* data: of the tile's first neuron at step 0 */
  int storage, width;  /* values of a neuron in memory */
  enum way way;
  struct rows *rows;
  int64_t count, pitch; /* neurons; from one row of a step to the next */
  real *buffer;         /* rows for some steps, `step` apart */
  int64_t step;
  real *staged;  /* the same steps as they will be in memory, `step` apart, to be streamed from */
  char *to;      /* of the steps that are written: the first, */
  int64_t apart; /* and bytes from one to the next */
  int as_it_is;  /* rows and memory hold the same bytes in the same order */
  int aligned;   /* and all rows of memory begin on cache lines */
};

static inline char *step_data(const struct sequence *q, int64_t t) {
  return (char *)q->x.data + t * q->x.t * (int64_t)size_of(q->storage);
}

static inline int is_in_place(const struct sequence *q) {
  return q->storage == LIF_NATIVE && row_is_dense(&q->x, q->width) &&
         (NEURON_MAJOR || q->width == 1);
}

/* Whether so many steps are best copied together. */
static inline int is_time_last(const struct sequence *q, int steps) {
  return steps == BLOCK && q->width == 1 && q->x.t == 1 && q->x.n != 1;
}

/* Lets the rows from `first` on be those of the sequence's buffer. */
static inline void use_buffer(struct sequence *q, int rows) {
  for (int k = 0; k < rows; k++) q->rows[k] = (struct rows){q->buffer + k * q->pitch, q->step};
}

/* Prepares to read. `rows` is the number of rows; those of a tensor that was left out, and of
 * synapses that the layer has not, are `absent`. */
static void begin_reading(struct sequence *q, int rows, real *absent) {
  for (int k = 0; k < rows; k++) q->rows[k] = (struct rows){absent, 0};
  const int there = NEURON_MAJOR || q->width < rows ? NEURON_MAJOR ? 1 : q->width : rows;
  if (!q->x.data)
    q->way = ABSENT;
  else if (is_in_place(q)) {
    q->way = IN_PLACE;
    q->rows[0].step = q->x.t;
  } else {
    q->way = q->x.t == 0 ? HELD : COPIED;
    use_buffer(q, there);
    if (q->way == HELD) {
      for (int k = 0; k < there; k++) q->rows[k].step = 0;
      gather_row(&q->x, q->x.data, q->storage, 0, q->count, q->width, q->buffer, q->pitch);
    }
  }
}

/* Lets the rows hold the steps from t on. */
static void read_steps(struct sequence *q, int64_t t, int steps) {
  if (q->way == IN_PLACE) q->rows[0].at = (real *)step_data(q, t);
  if (q->way != COPIED) return;
  if (is_time_last(q, steps))
    gather_block(&q->x, step_data(q, t), q->storage, 0, q->count, q->buffer, q->step);
  for (int k = 0; k < steps && !is_time_last(q, steps); k++)
    gather_row(&q->x, step_data(q, t + k), q->storage, 0, q->count, q->width,
               q->buffer + k * q->step, q->pitch);
}

/* Prepares to write. Rows that nobody asked for are `nowhere`. */
static void begin_writing(struct sequence *q, int rows, real *nowhere, int streaming) {
  for (int k = 0; k < rows; k++) q->rows[k] = (struct rows){nowhere, 0};
  q->as_it_is = is_in_place(q);
  q->apart = q->x.t * (int64_t)size_of(q->storage);
  q->aligned = q->as_it_is && ((uintptr_t)q->x.data | (uintptr_t)q->apart) % CACHE_LINE == 0;
  q->way = !q->x.data                                   ? ABSENT
           : streaming && row_is_dense(&q->x, q->width) ? STREAMED
           : q->as_it_is                                ? IN_PLACE
                                                        : COPIED;
  if (q->way == IN_PLACE) q->rows[0].step = q->x.t;
  if (q->way == COPIED || q->way == STREAMED)
    use_buffer(q, NEURON_MAJOR ? 1 : q->width < rows ? q->width : rows);
}

/* Aims at the steps from t on. */
static inline void aim(struct sequence *q, int64_t t) {
  if (q->way == ABSENT) return;
  q->to = step_data(q, t);
  if (q->way == IN_PLACE) q->rows[0].at = (real *)q->to;
}

/* Streams the neurons first..end-1 of the steps aimed at from rows that begin with the first of
 * them. For sequences that are aligned. */
static inline void stream_reused(const struct sequence *q, int steps, int64_t first, int64_t end) {
  const int64_t bytes = (end - first) * q->width * (int64_t)sizeof(real);
  char *to = q->to + first * q->width * (int64_t)sizeof(real);
  const real *row = q->rows[0].at;
  for (int k = 0; k < steps; k++, to += q->apart, row += q->rows[0].step) {
    int64_t at = 0;
    for (; at + CACHE_LINE <= bytes; at += CACHE_LINE) stream_line(to + at, (const char *)row + at);
    if (at < bytes) memcpy(to + at, (const char *)row + at, (size_t)(bytes - at));
  }
}

/* Writes the neurons first..end-1 of the steps aimed at, which the rows hold. */
static inline void write_steps(const struct sequence *q, int steps, int64_t first, int64_t end) {
  const int64_t size = (int64_t)size_of(q->storage) * q->width;
  char *to = q->to;
  const real *row = q->rows[0].at;
  if (q->way == COPIED && is_time_last(q, steps)) {
    scatter_block(&q->x, to, q->storage, first, end, row, q->rows[0].step);
    return;
  }
  for (int k = 0; k < steps; k++, to += q->apart, row += q->rows[0].step) {
    const real *from = row;
    if (q->way == COPIED) {
      scatter_row(&q->x, to, q->storage, first, end, q->width, row, q->pitch);
      continue;
    }
    if (!q->as_it_is) {
      scatter_row(&q->x, q->staged + k * q->step, q->storage, first, end, q->width, row, q->pitch);
      from = q->staged + k * q->step;
    }
    stream(to, (const char *)from, first * size, end * size, q->count * size);
  }
}

#endif

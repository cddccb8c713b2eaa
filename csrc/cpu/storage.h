/* Copies rows of a sequence in memory (any strides, any storage type) to and from contiguous rows
 * of `real`. */
#ifndef LIF_STORAGE_H
#define LIF_STORAGE_H

#include "../neuron/args.h"
#include "../neuron/real.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { LIF_NATIVE = LIF_REAL == 64 ? LIF_FLOAT64 : LIF_FLOAT32 };

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

static inline int row_is_dense(const struct lif_tensor *x, int width) {
  return x->n == width && (width == 1 || x->s == 1);
}

static inline int row_is_direct(const struct lif_tensor *x, int storage, int width) {
  return storage == LIF_NATIVE && row_is_dense(x, width);
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

/* Copies with stream_line. Lines that the row shares with its neighbours are written normally. */
static inline void stream(void *to, const void *from, size_t bytes) {
  const size_t before = -(uintptr_t)to % CACHE_LINE, head = before < bytes ? before : bytes;
  const size_t lines = (bytes - head) / CACHE_LINE * CACHE_LINE, tail = bytes - head - lines;
  if (head) memcpy(to, from, head);
  for (size_t at = head; at < head + lines; at += CACHE_LINE)
    stream_line((char *)to + at, (const char *)from + at);
  if (tail) memcpy((char *)to + head + lines, (const char *)from + head + lines, tail);
}

/* Makes sure that streamed lines are in memory before anything that the thread writes next, such as
 * the word that says that its task is done. */
static inline void end_streaming(void) {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

/* FOR_ROW walks a row: `at` is the element's place in memory, `k` its place in the contiguous row.
 * The dense case is a separate loop because it vectorises. */
#define FOR_ROW(STATEMENT)                        \
  if (row_is_dense(x, width)) {                   \
    for (int64_t k = 0; k < count * width; k++) { \
      const int64_t at = k;                       \
      STATEMENT                                   \
    }                                             \
  } else {                                        \
    for (int64_t n = 0, k = 0; n < count; n++)    \
      for (int s = 0; s < width; s++, k++) {      \
        const int64_t at = n * x->n + s * x->s;   \
        STATEMENT                                 \
      }                                           \
  }

static inline void gather_row(const struct lif_tensor *x, int storage, int64_t offset,
                              int64_t count, int width, real *restrict row) {
  switch (storage) {
    case LIF_FLOAT32: {
      const float *from = (const float *)x->data + offset;
      FOR_ROW(row[k] = (real)from[at];) break;
    }
    case LIF_FLOAT64: {
      const double *from = (const double *)x->data + offset;
      FOR_ROW(row[k] = (real)from[at];) break;
    }
    case LIF_BFLOAT16: {
      const uint16_t *from = (const uint16_t *)x->data + offset;
      FOR_ROW(row[k] = from_bfloat16(from[at]);) break;
    }
    case LIF_FLOAT16: {
      const uint16_t *from = (const uint16_t *)x->data + offset;
      FOR_ROW(row[k] = from_float16(from[at]);) break;
    }
  }
}

static inline void scatter_row(const struct lif_tensor *x, int storage, int64_t offset,
                               int64_t count, int width, const real *restrict row) {
  switch (storage) {
    case LIF_FLOAT32: {
      float *to = (float *)x->data + offset;
      FOR_ROW(to[at] = (float)row[k];) break;
    }
    case LIF_FLOAT64: {
      double *to = (double *)x->data + offset;
      FOR_ROW(to[at] = (double)row[k];) break;
    }
    case LIF_BFLOAT16: {
      uint16_t *to = (uint16_t *)x->data + offset;
      FOR_ROW(to[at] = to_bfloat16((float)row[k]);) break;
    }
    case LIF_FLOAT16: {
      uint16_t *to = (uint16_t *)x->data + offset;
      FOR_ROW(to[at] = to_float16((float)row[k]);) break;
    }
  }
}

#endif

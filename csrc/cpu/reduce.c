/* Sums of the backward on the CPU: the second pass of parameter gradients (from partial sums per
 * batch item and neuron to the parameter's own shape), and the gradient of recurrent weights. */
#include <string.h>

#include "kernels.h"

enum { BLOCK = 512 };

/* sum[k] = sum over b of partials[b][first + k], for k < length, in double so that B and N cost no
 * precision. */
static void sum_batch(const void *partials, int is_double, int64_t B, int64_t between,
                      int64_t first, int64_t length, double *sum) {
  memset(sum, 0, (size_t)length * sizeof *sum);
  for (int64_t b = 0; b < B; b++) {
    if (is_double) {
      const double *from = (const double *)partials + b * between + first;
      for (int64_t k = 0; k < length; k++) sum[k] += from[k];
    } else {
      const float *from = (const float *)partials + b * between + first;
      for (int64_t k = 0; k < length; k++) sum[k] += from[k];
    }
  }
}

static int64_t place_of(int64_t n, int dims, const int64_t *sizes, const int64_t *strides) {
  int64_t place = 0;
  for (int d = dims - 1; d >= 0; d--) {
    place += n % sizes[d] * strides[d];
    n /= sizes[d];
  }
  return place;
}

void lif_reduce(const void *partials, int is_double, int64_t B, int64_t between, int64_t N, int W,
                int dims, const int64_t *sizes, const int64_t *strides, int64_t w_stride,
                double *total) {
  double sum[BLOCK];
  const int64_t row = N * W;
  for (int64_t first = 0; first < row; first += BLOCK) {
    const int64_t length = row - first < BLOCK ? row - first : BLOCK;
    sum_batch(partials, is_double, B, between, first, length, sum);
    for (int64_t k = 0; k < length; k++)
      total[place_of((first + k) / W, dims, sizes, strides) + (first + k) % W * w_stride] += sum[k];
  }
}

/* Tests the bits of the exponent, because a loop over them vectorises; one over floating-point
 * comparisons does not. */
int64_t lif_mark_unbounded(const void *matrix, int is_double, int64_t first, int64_t last,
                           int64_t length, unsigned char *unbounded) {
  int64_t found = 0;
  for (int64_t row = first; row < last; row++) {
    int any = 0;
    if (is_double) {
      const uint64_t exponent = 0x7ff0000000000000, *bits = (const uint64_t *)matrix + row * length;
      for (int64_t k = 0; k < length; k++) any |= (bits[k] & exponent) == exponent;
    } else {
      const uint32_t exponent = 0x7f800000, *bits = (const uint32_t *)matrix + row * length;
      for (int64_t k = 0; k < length; k++) any |= (bits[k] & exponent) == exponent;
    }
    unbounded[row] = (unsigned char)any;
    found += any;
  }
  return found;
}

void lif_weights_gradient(const void *spikes, const void *grad_in, const unsigned char *unbounded,
                          int is_double, int64_t steps, int64_t N, int64_t M, int64_t first,
                          int64_t last, double *sum) {
  memset(sum, 0, (size_t)((last - first) * M) * sizeof *sum);
  for (int64_t step = 0; step < steps; step++)
    for (int64_t n = first; n < last; n++) {
      double *restrict row = sum + (n - first) * M;
      if (is_double) {
        const double count = ((const double *)spikes)[step * N + n],
                     *g = (const double *)grad_in + step * M;
        if (count != 0 || (unbounded && unbounded[step]))
          for (int64_t k = 0; k < M; k++) row[k] += count * g[k];
      } else {
        const float count = ((const float *)spikes)[step * N + n],
                    *g = (const float *)grad_in + step * M;
        if (count != 0 || (unbounded && unbounded[step]))
          for (int64_t k = 0; k < M; k++) row[k] += (double)count * g[k];
      }
    }
}

/* The second pass of parameter gradients on CUDA: partial sums per batch item and neuron, summed
 * over the batch. */
#include "kernels.h"

enum { COLUMNS = 32 }; /* columns per block; a warp reads them side by side */

/* Sums each column in double, so that a large B costs no precision. The order of the batch items
 * depends only on B. ROWS warps of a block share the batch. ROWS is a constant because with
 * blockDim instead the loop is not unrolled (measured: up to three times slower). */
template <class Partial, int ROWS>
static __global__ void sum_backward_kernel(const Partial *partials, int64_t B, int64_t columns,
                                           lif_gradients gradients) {
  __shared__ double rows[ROWS][COLUMNS];
  const int64_t column = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
  double sum = 0.0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t b = threadIdx.y; b < B; b += ROWS) sum += (double)partials[b * columns + column];
  }
  rows[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int row = 1; row < ROWS; row++) sum += rows[row][threadIdx.x];
  int64_t at = column;
  int f = 0;
  while (at >= gradients.of[f].length) at -= gradients.of[f++].length;
  if (gradients.of[f].is_double)
    ((double *)gradients.of[f].data)[at] = sum;
  else
    ((float *)gradients.of[f].data)[at] = (float)sum;
}

template <int ROWS>
static void start(const void *partials, int is_double, int64_t B, int64_t columns,
                  const lif_gradients *gradients, lif_stream on) {
  const unsigned blocks = (unsigned)((columns + COLUMNS - 1) / COLUMNS);
  const dim3 threads(COLUMNS, ROWS);
  if (is_double)
    sum_backward_kernel<double, ROWS>
        <<<blocks, threads, 0, on>>>((const double *)partials, B, columns, *gradients);
  else
    sum_backward_kernel<float, ROWS>
        <<<blocks, threads, 0, on>>>((const float *)partials, B, columns, *gradients);
}

int lif_cuda_reduce(const void *partials, int is_double, int64_t B,
                    const struct lif_gradients *gradients, lif_stream stream) {
  int64_t columns = 0;
  for (int f = 0; f < gradients->count; f++) columns += gradients->of[f].length;
  if (columns == 0) return cudaSuccess;
  if (B < 256)
    start<8>(partials, is_double, B, columns, gradients, stream);
  else
    start<32>(partials, is_double, B, columns, gradients, stream);
  return cudaGetLastError();
}

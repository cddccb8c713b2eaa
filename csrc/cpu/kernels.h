/* The CPU kernels as the op layer calls them. No PyTorch here: C11 alone. */
#ifndef LIF_CPU_KERNELS_H
#define LIF_CPU_KERNELS_H

#include "../neuron/args.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Both walk the tasks begin..end-1 of lif_tasks(); tasks may run in any order, in any threads. Return 0, or 1 if
 * memory for a tile's scratch could not be had. */
struct lif_cpu_kernels {
  int (*forward)(const struct lif_args *a, int64_t begin, int64_t end);
  int (*backward)(const struct lif_args *a, int64_t begin, int64_t end);
};

#define LIF_CPU_KERNELS_(neuron, bits, isa) lif_cpu_##neuron##_##bits##_##isa
#define LIF_CPU_KERNELS(neuron, bits, isa) LIF_CPU_KERNELS_(neuron, bits, isa)

/* The kernels of neuron number `index` of LIF_NEURONS, for the instruction set in use. */
const struct lif_cpu_kernels *lif_find_cpu_kernels(int index, int is_double);

/* Instruction sets compiled in, ascending, ended by NULL; and whether this processor has one. */
const char *const *lif_isa_names(void);
int lif_isa_supported(const char *name);
/* The one in use: at first the highest supported. Setting returns 0, or 1 for one that is unknown or not supported. */
const char *lif_isa(void);
int lif_set_isa(const char *name);

/* Neurons a task takes, so that its rows stay in the first- and second-level cache and every thread has work. */
int lif_choose_tile(const struct lif_args *a, int threads);
static inline int64_t lif_tiles(const struct lif_args *a) { return (a->N + a->tile - 1) / a->tile; }
static inline int64_t lif_tasks(const struct lif_args *a) { return a->N > 0 ? a->B * lif_tiles(a) : 0; }

/* Whether outputs go past the caches to memory: those too large for the next operation to find them in a cache. Called when a->tile
 * is chosen. A sequence of so many bytes for each thread that works is too large; tests lower it. */
int lif_choose_streaming(const struct lif_args *a, int threads);
void lif_set_stream_from(int64_t bytes);

/* Adds partial sums (B, N, W), contiguous but for the `between` values from one batch item to the next, into `total`, in ascending
 * order of b then n whatever the number of threads. N is laid out over `dims` dimensions of `sizes`, row-major; an element goes to
 * total[sum index*strides + w*w_stride], so that a stride of 0 sums a dimension that was broadcast. */
void lif_reduce(const void *partials, int is_double, int64_t B, int64_t between, int64_t N, int W, int dims, const int64_t *sizes,
                const int64_t *strides, int64_t w_stride, double *total);

/* Marks those of the rows first..last-1 of a dense matrix that hold an infinity or NaN: 0 times such a row is not 0. Returns how
 * many do. */
int64_t lif_mark_unbounded(const void *matrix, int is_double, int64_t first, int64_t last, int64_t length,
                           unsigned char *unbounded);

/* The gradient of recurrent weights for neurons first..last-1: sum[n - first][k] = sum over steps of spikes[step][n] *
 * grad_in[step][k], k < M, steps in ascending order. Both are dense; a step is one time step of one batch item. `unbounded` marks
 * the rows of grad_in as lif_mark_unbounded does, or is NULL: none is. */
void lif_weights_gradient(const void *spikes, const void *grad_in, const unsigned char *unbounded, int is_double, int64_t steps,
                          int64_t N, int64_t M, int64_t first, int64_t last, double *sum);

#ifdef __cplusplus
}
#endif
#endif

/* The CPU kernels as the op layer calls them. C11 only, no PyTorch. */
#ifndef LIF_CPU_KERNELS_H
#define LIF_CPU_KERNELS_H

#include "../neuron/args.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Both run the tasks begin..end-1 of the lif_tasks() that there are. Tasks may run in any order and
 * in any thread. They return 0, or 1 if there was no memory for a tile's scratch. */
struct lif_cpu_kernels {
  int (*forward)(const struct lif_args *a, int64_t begin, int64_t end);
  int (*backward)(const struct lif_args *a, int64_t begin, int64_t end);
};

/* Which way the last tile took, for tests: bits. */
enum {
  LIF_CPU_BLOCKS = 1,  /* several steps at a time */
  LIF_CPU_OPTIONS = 2, /* the options of the neuron's common case as constants */
  LIF_CPU_BARE = 4,    /* and nothing but x was given */
  LIF_CPU_MASK = 8
};
void lif_cpu_note_way(int way, int backward);
/* Of the last tile forward or backward in this process; -1: there was none. */
int lif_cpu_last_way(int backward);

#define LIF_CPU_KERNELS_(neuron, synapses, bits, isa) lif_cpu_##neuron##_##synapses##_##bits##_##isa
#define LIF_CPU_KERNELS(neuron, synapses, bits, isa) LIF_CPU_KERNELS_(neuron, synapses, bits, isa)

/* The kernels of neuron number `index` of LIF_NEURONS for a layer of S synapses, for the
 * instruction set in use; NULL if the neuron does not take S synapses. */
const struct lif_cpu_kernels *lif_find_cpu_kernels(int index, int S, int is_double);

/* The names of the compiled instruction sets, ascending, ended by NULL; and whether this processor
 * has one. */
const char *const *lif_isa_names(void);
int lif_isa_supported(const char *name);
/* The instruction set in use: at first the highest that is supported. lif_set_isa returns 0, or 1
 * if the name is unknown or not supported. */
const char *lif_isa(void);
int lif_set_isa(const char *name);

/* The largest number of neurons per task: its rows stay in the first- and second-level cache, and
 * every thread has work. */
int lif_choose_tile(const struct lif_args *a, int threads);
static inline int64_t lif_tiles(const struct lif_args *a) { return (a->N + a->tile - 1) / a->tile; }
/* The number of neurons of all tiles but the last, so that no tile is much smaller than the others:
 * a multiple of 16, which are a cache line. */
static inline int64_t lif_tile_length(const struct lif_args *a) {
  const int64_t tiles = a->N > 0 ? lif_tiles(a) : 1;
  const int64_t even = ((a->N + tiles - 1) / tiles + 15) / 16 * 16;
  return even < a->tile ? even : a->tile;
}
static inline int64_t lif_tasks(const struct lif_args *a) {
  return a->N > 0 ? a->B * lif_tiles(a) : 0;
}

/* Whether outputs are written past the caches to memory: those so large that the next operation
 * would not find them in a cache. Called after a->tile is chosen. lif_set_stream_from sets how many
 * bytes of a sequence, per thread that works, are too large; tests lower it. */
int lif_choose_streaming(const struct lif_args *a, int threads);
void lif_set_stream_from(int64_t bytes);

/* Adds partial sums (B, N, W) into `total`, in ascending order of b then n, whatever the number of
 * threads. `partials` is contiguous, except that one batch item begins `between` values after the
 * one before. N is laid out over `dims` dimensions of `sizes`, row-major. An element goes to
 * total[sum index*strides + w*w_stride], so that a stride of 0 sums a dimension that was
 * broadcast. */
void lif_reduce(const void *partials, int is_double, int64_t B, int64_t between, int64_t N, int W,
                int dims, const int64_t *sizes, const int64_t *strides, int64_t w_stride,
                double *total);

/* Marks those of the rows first..last-1 of a dense matrix that hold an infinity or NaN, because 0
 * times such a row is not 0. Returns their number. */
int64_t lif_mark_unbounded(const void *matrix, int is_double, int64_t first, int64_t last,
                           int64_t length, unsigned char *unbounded);

/* The gradient of recurrent weights for neurons first..last-1: sum[n - first][k] = sum over steps
 * of spikes[step][n] * grad_in[step][k], k < M, steps in ascending order. A step is one time step
 * of one batch item. spikes and grad_in are dense. `unbounded` marks the rows of grad_in as
 * lif_mark_unbounded does; NULL: none is marked. */
void lif_weights_gradient(const void *spikes, const void *grad_in, const unsigned char *unbounded,
                          int is_double, int64_t steps, int64_t N, int64_t M, int64_t first,
                          int64_t last, double *sum);

#ifdef __cplusplus
}
#endif
#endif

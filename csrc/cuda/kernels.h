/* The CUDA kernels as the op layer calls them, in plain C. A launch returns a cudaError_t. */
#ifndef LIF_CUDA_KERNELS_H
#define LIF_CUDA_KERNELS_H

#include "../neuron/args.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *lif_stream;

struct lif_cuda_kernels {
  int (*forward)(const struct lif_args *a, lif_stream stream);
  int (*backward)(const struct lif_args *a, lif_stream stream);
  /* How many reals a->workspace must have room for: a neuron's values where they are not held in
   * registers. Mostly 0. */
  int64_t (*workspace)(const struct lif_args *a, int backward);
  /* Whether all steps of a recurrent layer can be one launch, and that launch. `forward` and
   * `backward` take one step of such a layer. */
  int (*recurrent_fits)(const struct lif_args *a, int backward);
  int (*recurrent)(const struct lif_args *a, lif_stream stream, int backward);
};

/* For tests: whether recurrent layers that can be one launch are; 1 at first. */
void lif_cuda_set_on_chip(int allowed);
int lif_cuda_on_chip(void);

/* Which way a launch took, for tests: bits. */
enum {
  LIF_WAY_RING = 1,   /* rows came through shared memory, not directly */
  LIF_WAY_COMMON = 2, /* the kernel of a common case of the neuron */
  LIF_WAY_PIECES = 4, /* all rows could be copied in pieces of 16 bytes */
  LIF_WAY_MASK = 8,
  LIF_WAY_STAGED = 16, /* what it wrote went through shared memory */
  LIF_WAY_ON_CHIP = 32 /* all steps of a recurrent layer in one launch */
};
void lif_cuda_note_way(int way, int backward);
/* Of the last launch forward or backward in this process; -1: there was none. */
int lif_cuda_last_way(int backward);

#define LIF_CUDA_KERNELS_(neuron, synapses, storage) lif_cuda_##neuron##_##synapses##_##storage
#define LIF_CUDA_KERNELS(neuron, synapses, storage) LIF_CUDA_KERNELS_(neuron, synapses, storage)

/* The kernels of neuron number `index` of LIF_NEURONS for a layer of S synapses, for a storage of
 * enum lif_storage; NULL if the neuron does not take S synapses. */
const struct lif_cuda_kernels *lif_find_cuda_kernels(int index, int S, int storage);

/* Where lif_cuda_reduce leaves its sums: each gradient is dense, and takes the next `length`
 * columns. */
struct lif_gradients {
  int count;
  struct {
    void *data;
    int64_t length;
    int is_double; /* else float */
  } of[LIF_MAX_PARAMS];
};

/* Sums partials, dense (B, the columns of all gradients), over B: in double, and in an order that
 * depends only on B. */
int lif_cuda_reduce(const void *partials, int is_double, int64_t B,
                    const struct lif_gradients *gradients, lif_stream stream);

#ifdef __cplusplus
}
#endif
#endif

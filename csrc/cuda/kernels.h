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
  int fields; /* a launch with S > 2 needs workspace for B * N * S * fields reals */
};

#define LIF_CUDA_KERNELS_(neuron, storage) lif_cuda_##neuron##_##storage
#define LIF_CUDA_KERNELS(neuron, storage) LIF_CUDA_KERNELS_(neuron, storage)

/* The kernels of neuron number `index` of LIF_NEURONS, for a storage of enum lif_storage. */
const struct lif_cuda_kernels *lif_find_cuda_kernels(int index, int storage);

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

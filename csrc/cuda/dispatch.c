/* The table of compiled CUDA kernels. */
#include "../neuron/neurons.h"
#include "kernels.h"

#define DECLARE(neuron)                                                                          \
  extern const struct lif_cuda_kernels LIF_CUDA_KERNELS(neuron, 0), LIF_CUDA_KERNELS(neuron, 1), \
      LIF_CUDA_KERNELS(neuron, 2), LIF_CUDA_KERNELS(neuron, 3);
LIF_NEURONS(DECLARE)

#define LIST(neuron)                                                                         \
  {&LIF_CUDA_KERNELS(neuron, 0), &LIF_CUDA_KERNELS(neuron, 1), &LIF_CUDA_KERNELS(neuron, 2), \
   &LIF_CUDA_KERNELS(neuron, 3)},
static const struct lif_cuda_kernels *const kernels[][LIF_STORAGES] = {LIF_NEURONS(LIST)};

const struct lif_cuda_kernels *lif_find_cuda_kernels(int index, int storage) {
  return kernels[index][storage];
}

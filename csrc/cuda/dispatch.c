/* The table of compiled CUDA kernels, and what tells which of their ways a launch took. */
#include "../neuron/neurons.h"
#include "kernels.h"

#define DECLARE(neuron, synapses)                                                   \
  extern const struct lif_cuda_kernels LIF_CUDA_KERNELS(neuron, synapses, 0),       \
      LIF_CUDA_KERNELS(neuron, synapses, 1), LIF_CUDA_KERNELS(neuron, synapses, 2), \
      LIF_CUDA_KERNELS(neuron, synapses, 3);
LIF_LOOPS(DECLARE)

#define LIST(neuron, synapses)                                                     \
  {&LIF_CUDA_KERNELS(neuron, synapses, 0), &LIF_CUDA_KERNELS(neuron, synapses, 1), \
   &LIF_CUDA_KERNELS(neuron, synapses, 2), &LIF_CUDA_KERNELS(neuron, synapses, 3)},
static const struct lif_cuda_kernels *const kernels[][LIF_STORAGES] = {LIF_LOOPS(LIST)};

const struct lif_cuda_kernels *lif_find_cuda_kernels(int index, int S, int storage) {
  const int loop = lif_find_loop(index, S);
  return loop < 0 ? 0 : kernels[loop][storage];
}

static int last_way[2] = {-1, -1};

void lif_cuda_note_way(int way, int backward) {
  __atomic_store_n(&last_way[backward != 0], way, __ATOMIC_RELAXED);
}

int lif_cuda_last_way(int backward) {
  return __atomic_load_n(&last_way[backward != 0], __ATOMIC_RELAXED);
}

static int on_chip = 1;

void lif_cuda_set_on_chip(int allowed) { __atomic_store_n(&on_chip, allowed, __ATOMIC_RELAXED); }

int lif_cuda_on_chip(void) { return __atomic_load_n(&on_chip, __ATOMIC_RELAXED); }

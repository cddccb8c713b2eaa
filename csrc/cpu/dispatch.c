/* What is chosen at run time on the CPU: the instruction set, and so the compiled kernels (once),
 * the neurons per task, and whether outputs are streamed. */
#include <string.h>

#include "../neuron/neurons.h"
#include "kernels.h"

#if LIF_X86
#define LIF_ISAS(ISA, ...) \
  ISA(baseline, __VA_ARGS__) ISA(avx2, __VA_ARGS__) ISA(avx512, __VA_ARGS__)
#else
#define LIF_ISAS(ISA, ...) ISA(baseline, __VA_ARGS__)
#endif

#define DECLARE_ISA(isa, neuron, synapses)                                        \
  extern const struct lif_cpu_kernels LIF_CPU_KERNELS(neuron, synapses, 32, isa), \
      LIF_CPU_KERNELS(neuron, synapses, 64, isa);
#define DECLARE(neuron, synapses) LIF_ISAS(DECLARE_ISA, neuron, synapses)
LIF_LOOPS(DECLARE)

#define LIST_ISA(isa, neuron, synapses) \
  {&LIF_CPU_KERNELS(neuron, synapses, 32, isa), &LIF_CPU_KERNELS(neuron, synapses, 64, isa)},
#define LIST(neuron, synapses) {LIF_ISAS(LIST_ISA, neuron, synapses)},
static const struct lif_cpu_kernels *const kernels[][3][2] = {LIF_LOOPS(LIST)};

#define NAME_ISA(isa, ...) #isa,
static const char *const names[] = {LIF_ISAS(NAME_ISA, 0) 0};

static int chosen = -1;

const char *const *lif_isa_names(void) { return names; }

int lif_isa_supported(const char *name) {
  if (!strcmp(name, "baseline")) return 1;
#if LIF_X86
  if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
#endif
  return 0;
}

int lif_set_isa(const char *name) {
  for (int k = 0; names[k]; k++)
    if (!strcmp(names[k], name) && lif_isa_supported(name)) {
      chosen = k;
      return 0;
    }
  return 1;
}

static int isa_index(void) {
  if (chosen < 0)
    for (int k = 0; names[k]; k++)
      if (lif_isa_supported(names[k])) chosen = k;
  return chosen;
}

const char *lif_isa(void) { return names[isa_index()]; }

const struct lif_cpu_kernels *lif_find_cpu_kernels(int index, int S, int is_double) {
  const int loop = lif_find_loop(index, S);
  return loop < 0 ? NULL : kernels[loop][isa_index()][is_double];
}

static int last_way[2] = {-1, -1};

void lif_cpu_note_way(int way, int backward) {
  __atomic_store_n(&last_way[backward != 0], way, __ATOMIC_RELAXED);
}

int lif_cpu_last_way(int backward) {
  return __atomic_load_n(&last_way[backward != 0], __ATOMIC_RELAXED);
}

int lif_choose_tile(const struct lif_args *a, int threads) {
  if (a->recurrence.weights) return (int)a->N; /* every neuron may reach every other */
  int64_t widest = 1;
  while (widest < a->S) widest *= 2; /* so that rows end where pages do */
  int64_t tile = 512 / widest;
  /* Tiles become narrower only while threads would idle. Below 64 neurons the rows are too short to
   * stream. */
  while (tile > 64 && a->B * ((a->N + tile - 1) / tile) < threads) tile /= 2;
  return (int)(tile < 16 ? 16 : tile);
}

/* Bytes of output per thread from which outputs are streamed: a core's share of the last-level
 * cache on today's processors. The input takes as much again, and both together do not fit.
 * Measured on a processor with 2 MiB of second-level cache per core and a slow third level: with 4
 * MiB of output, streaming takes two thirds of the time, forward and backward, even if the next
 * operation reads the output at once. With 2 MiB that read costs what streaming gained. */
static int64_t stream_from = 4 << 20;

void lif_set_stream_from(int64_t bytes) { stream_from = bytes; }

int lif_choose_streaming(const struct lif_args *a, int threads) {
  const int64_t bytes = a->T * a->B * a->N *
                        (int64_t)(a->storage == LIF_FLOAT64   ? 8
                                  : a->storage == LIF_FLOAT32 ? 4
                                                              : 2);
  const int64_t tasks = lif_tasks(a);
  return bytes >= stream_from * (tasks < threads ? tasks : threads);
}

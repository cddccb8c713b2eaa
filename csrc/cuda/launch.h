/* From a launch's arguments to a kernel with its constants, ring and grid. Included by loop.cu. */
#ifndef LIF_LAUNCH_H
#define LIF_LAUNCH_H

#include <cstddef>

#include "gpu.h"

enum {
  RESIDENT_NEURONS = sizeof(stored) < 4 ? 768 : 512, /* of a multiprocessor at once */
  SHORT_NEURONS = 1536,                              /* the same of sequences of a chunk or two */
  IN_FLIGHT = 84 * 1024                              /* bytes of its blocks' rings */
};

/* The common case has kernels of its own where speed is asked for most. */
enum { HAS_COMMON = LIF_SYNAPSES < 2 && LIF_STORAGE != 1 /* LIF_FLOAT64 */ };

/* The surrogates that are constants of the common case's backward. What does not spike has none. */
enum {
  LIBRARY = NEURON_LIBRARY_SURROGATE,
  DEFAULT = NEURON_SPIKING ? (int)LIF_DEFAULT_SURROGATE : LIBRARY,
  STEP_PWL = NEURON_SPIKING ? (int)LIF_SURROGATE_step_pwl : LIBRARY
};

/* Whether a launch is the common case (see COMMON in loop.cu). */
static bool is_common(const lif_args *a, bool backward) {
  if (a->options.smooth || a->options.inputs_given != 1) return false;
  for (int f = 0; f < STATE_COUNT; f++)
    if (a->records[f].data || a->grad_records[f].data) return false;
  const int surrogate = a->options.surrogate;
  const bool known = surrogate == LIBRARY || surrogate == DEFAULT || surrogate == STEP_PWL;
  if (backward && (!a->grad_out.data || (!known && a->options.param_gradients))) return false;
  return true NEURON_COMMON(IS_COMMON_OPTION, IS_LEFT_OUT);
}

/* Whether rows of a block's neurons are dense, and aligned as copies of pieces want them. */
static bool in_pieces(const lif_tensor *x, int64_t N, int width) {
  const int64_t each = PIECE / (int64_t)sizeof(stored);
  const bool interleaved = width > 1 && x->s == 1 && x->n == width;
  return (uintptr_t)x->data % PIECE == 0 && x->t % each == 0 && x->b % each == 0 && N % each == 0 &&
         (interleaved || (x->n == 1 && (width == 1 || x->s % each == 0)));
}

static void add_source(sources *to, const lif_args *a, const lif_tensor *x, int width) {
  if (!x->data || width == 0) return;
  to->of[to->count++] = {(unsigned short)((const char *)x - (const char *)a), (unsigned char)width,
                         (unsigned char)in_pieces(x, a->N, width)};
  to->values += width;
}

#define FIELD_KIND(name, KIND) LIF_##KIND,
static const int input_kinds[] = {NEURON_INPUTS(FIELD_KIND)},
                 state_kinds[] = {NEURON_STATES(FIELD_KIND)};

/* What the kernel reads step by step, in the order that its row numbers follow. */
static sources sources_of(const lif_args *a, bool backward) {
  sources found = {};
  if (backward) {
    add_source(&found, a, &a->grad_out, 1);
    for (int f = 0; f < STATE_COUNT; f++)
      add_source(&found, a, &a->grad_records[f], lif_width(state_kinds[f], a->S));
  }
  if (!backward || (!a->mask.data && (NEURON_KEEPS || a->options.param_gradients)))
    for (int f = 0; f < INPUT_COUNT; f++)
      add_source(&found, a, &a->inputs[f], lif_width(input_kinds[f], a->S));
  return found;
}

/* How a kernel's blocks share a multiprocessor. */
struct sharing {
  int resident; /* blocks at once */
  int stages;   /* of each block's ring; 0: not even one fits */
  int shared;   /* bytes of shared memory of each block */
};

/* Enough copies under way to hide the way to memory, but no more: each block reads and writes rows
 * of its own, and an H200 moves fewer bytes a second the more rows it is to serve at once (T 500, B
 * 16, N 16384: 3.75 TB/s with 12 blocks of 128 neurons on a multiprocessor, or 4 of deep rings; 3.9
 * TB/s with 4 of two stages). Blocks beyond that are kept off by shared memory that nobody uses.
 * Short sequences need more of them, to hide what goes before and after a sequence. */
static sharing share(const gpu *gpu, int64_t T, int64_t blocks, int neurons, int stage, int fixed) {
  const int64_t each = (blocks + gpu->multiprocessors - 1) / gpu->multiprocessors;
  const int most = (T <= 2 * CHUNK ? SHORT_NEURONS : RESIDENT_NEURONS) / neurons;
  for (int resident = (int)(each < most ? each : most);; resident--) {
    int room = gpu->shared_memory / resident - gpu->reserved;
    if (room > gpu->block_shared) room = gpu->block_shared;
    room -= 2 * (int)sizeof(barriers); /* they, and what aligns them */
    int stages = IN_FLIGHT / (resident * stage);
    if (stages > MOST_STAGES) stages = MOST_STAGES;
    if (stages < 2) stages = 2;
    if (resident == 1)
      while (stages && stages * stage + fixed > room) stages--;
    if (stages * stage + fixed > room && stages) continue;
    const int kept_off = gpu->shared_memory / (resident + 1), needed = stages * stage + fixed;
    return {resident, stages, needed > kept_off ? needed : kept_off < room ? kept_off : room};
  }
}

/* Bytes of shared memory: of a stage of the ring, and of the stash. */
static int stage_bytes(const lif_args *a, bool backward, int neurons, int values) {
  const int most = a->mask.data && neurons == neurons_of<NARROW> ? (int)LIF_MASK_STEPS : (int)CHUNK;
  const int steps = a->T < most ? (int)a->T : most;
  const int words = backward && a->mask.data ? (int)sizeof(unsigned) : 0;
  return neurons *
         (words + (steps > 0 ? steps : 1) * (values > 0 ? values : 1) * (int)sizeof(stored));
}

static int stashed_reals(const lif_args *a, bool backward) {
  if (!backward || a->mask.data) return 0;
  const int64_t T = a->recurrence.weights ? 1 : a->T; /* a launch per step */
  const int steps = T < CHUNK ? (int)T : (int)CHUNK;
  const int values =
      a->options.param_gradients ? stash_values<true>(a->S) : stash_values<false>(a->S);
  return steps * values;
}

static sharing share_launch(const lif_args *a, bool backward, int neurons, int values) {
  return share(this_gpu(), a->T, a->B * ((a->N + neurons - 1) / neurons), neurons,
               stage_bytes(a, backward, neurons, values),
               stashed_reals(a, backward) * neurons * (int)sizeof(real));
}

/* Whether a launch's rows come through the ring. */
static bool takes_ring(const lif_args *a, bool backward, int values) {
  const gpu *gpu = this_gpu();
  return LIF_SYNAPSES < LIF_MANY && !a->recurrence.weights && gpu && gpu->major >= 8 &&
         share_launch(a, backward, neurons_of<NARROW>, values).stages > 0;
}

template <auto kernel, bool RING, int LAYOUT>
static int start(const lif_args *a, lif_stream on, sources sources, const sharing &sharing) {
  constexpr int NEURONS = neurons_of<LAYOUT>;
  const int64_t rows = (a->N + NEURONS - 1) / NEURONS;
  if constexpr (!RING) {
    kernel<<<(unsigned)(a->B * rows), NEURONS, 0, on>>>(*a, sources);
    return (int)cudaGetLastError();
  }
  static std::atomic<bool> allowed[MOST_GPUS]; /* all the shared memory there is */
  const int device = gpu_number();
  const gpu *gpu = this_gpu();
  if (!allowed[device].load(std::memory_order_relaxed)) {
    const int most = gpu->block_shared - (int)sizeof(barriers);
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    if (error != cudaSuccess) return (int)error;
    allowed[device].store(true, std::memory_order_relaxed);
  }
  /* Of short sequences each block takes as many as leave the GPU full: what goes before a sequence
   * would take longer than the sequence. While it walks one, the next are copied. */
  const int64_t full = ((int64_t)sharing.resident * gpu->multiprocessors + rows - 1) / rows;
  const int64_t items = LAYOUT == SHORT && full < a->B ? full : a->B;
  sources.stages = sharing.stages;
  kernel<<<(unsigned)(items * rows), threads_of<LAYOUT>, (size_t)sharing.shared, on>>>(*a, sources);
  return (int)cudaGetLastError();
}

template <bool RING, int SURROGATE, bool COMMON, int LAYOUT>
static int start_backward(const lif_args *a, lif_stream on, const sources &sources,
                          const sharing &sharing) {
  if (a->options.param_gradients)
    return start<backward_kernel<RING, SURROGATE, true, COMMON, LAYOUT>, RING, LAYOUT>(
        a, on, sources, sharing);
  return start<backward_kernel<RING, SURROGATE, false, COMMON, LAYOUT>, RING, LAYOUT>(
      a, on, sources, sharing);
}

template <bool RING, bool COMMON, int LAYOUT>
static int launch(const lif_args *a, lif_stream on, const sources &sources, bool backward) {
  const sharing sharing = RING ? share_launch(a, backward, neurons_of<LAYOUT>, sources.values)
                               : (struct sharing){0, 0, 0};
#if NEURON_MASKABLE
  if (a->mask.data && backward)
    return start<masked_backward_kernel<RING, COMMON, LAYOUT>, RING, LAYOUT>(a, on, sources,
                                                                             sharing);
  if (a->mask.data)
    return start<forward_kernel<RING, true, COMMON, LAYOUT>, RING, LAYOUT>(a, on, sources, sharing);
#endif
  if (!backward)
    return start<forward_kernel<RING, false, COMMON, LAYOUT>, RING, LAYOUT>(a, on, sources,
                                                                            sharing);
  if constexpr (COMMON && LAYOUT != SHORT) {
    if (a->options.surrogate == DEFAULT)
      return start_backward<RING, DEFAULT, COMMON, LAYOUT>(a, on, sources, sharing);
    if (a->options.surrogate == STEP_PWL)
      return start_backward<RING, STEP_PWL, COMMON, LAYOUT>(a, on, sources, sharing);
  }
  if constexpr (RING || !NEURON_SPIKING)
    if (a->options.surrogate == LIBRARY)
      return start_backward<RING, LIBRARY, COMMON, LAYOUT>(a, on, sources, sharing);
  if constexpr (NEURON_SPIKING) {
    if constexpr (!COMMON || LAYOUT == SHORT)
      return start_backward<RING, ANY, COMMON, LAYOUT>(a, on, sources, sharing);
    else /* is_common: without gradients of parameters */
      return start<backward_kernel<RING, ANY, false, COMMON, LAYOUT>, RING, LAYOUT>(a, on, sources,
                                                                                    sharing);
  }
  return (int)cudaErrorInvalidValue;
}

static int launch_any(const lif_args *a, lif_stream on, bool backward) {
  if (a->B * a->N == 0) return cudaSuccess;
  const sources sources = sources_of(a, backward);
  const bool ring = takes_ring(a, backward, sources.values),
             common = HAS_COMMON && ring && is_common(a, backward);
  int pieces = 1;
  for (int k = 0; k < sources.count; k++) pieces &= sources.of[k].pieces;
  lif_cuda_note_way((ring ? LIF_WAY_RING : 0) | (common ? LIF_WAY_COMMON : 0) |
                        (ring && pieces ? LIF_WAY_PIECES : 0) | (a->mask.data ? LIF_WAY_MASK : 0),
                    backward);
  if constexpr (LIF_SYNAPSES < LIF_MANY) {
    const int wide_row = neurons_of<WIDE>;
    const bool wide =
        ring && a->B * ((a->N + wide_row - 1) / wide_row) >= 2 * this_gpu()->multiprocessors;
    if constexpr (HAS_COMMON) {
      if (common && wide && a->T > 0 && a->T <= SHORT_STEPS)
        return launch<true, true, SHORT>(a, on, sources, backward);
      if (common && wide) return launch<true, true, WIDE>(a, on, sources, backward);
      if (common) return launch<true, true, NARROW>(a, on, sources, backward);
    }
    if constexpr (LIF_SYNAPSES > 2) /* so many registers that copying warps had better have few */
      if (wide && share_launch(a, backward, neurons_of<WIDE>, sources.values).stages > 0)
        return launch<true, false, WIDE>(a, on, sources, backward);
    if (ring) return launch<true, false, NARROW>(a, on, sources, backward);
  }
  return launch<false, false, NARROW>(a, on, sources, backward);
}

static int forward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, false); }
static int backward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, true); }

/* The structs that a kernel binds to memory, and the stash of one without a ring. */
static int64_t workspace(const lif_args *a, int backward) {
  if (a->B * a->N == 0 || takes_ring(a, backward != 0, sources_of(a, backward != 0).values))
    return 0;
#define COUNT_BOUND(name, KIND) \
  +((LIF_##KIND & 3) == LIF_PER_NEURON ? 0 : lif_width(LIF_##KIND, a->S))
  const int inputs = 0 NEURON_INPUTS(COUNT_BOUND)
  , params = 0 NEURON_PARAMS(COUNT_BOUND)
  , states = 0 NEURON_STATES(COUNT_BOUND);
#undef COUNT_BOUND
  const int bound = LIF_SYNAPSES < LIF_MANY ? 0
                    : backward              ? 2 * inputs + 2 * params + 3 * states
                                            : inputs + params + states;
  return a->B * ((a->N + neurons_of<NARROW> - 1) / neurons_of<NARROW>)*neurons_of<NARROW> *
         (bound + stashed_reals(a, backward != 0));
}

extern "C" const struct lif_cuda_kernels LIF_CUDA_KERNELS(NEURON, LIF_SYNAPSES, LIF_STORAGE) = {
    forward, backward, workspace};

#endif

/* From a launch's arguments to a kernel with its constants, ring and grid. Included by loop.cu. */
#ifndef LIF_LAUNCH_H
#define LIF_LAUNCH_H

#include <cstddef>

#include "gpu.h"
#include "solo.h"

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

static bool is_scattered(const sequences &sequences) {
  for (int k = 0; k < sequences.count; k++)
    if (sequences.of[k].copied == BY_STEP) return true;
  return sequences.staged.which != 0;
}

/* See CASE in loop.cu. */
static int case_of(const lif_args *a, bool backward, const sequences &sequences) {
  if (is_scattered(sequences)) return SCATTERED;
  const int surrogate = a->options.surrogate;
  const bool known = surrogate == LIBRARY || surrogate == DEFAULT || surrogate == STEP_PWL;
  if (!HAS_COMMON || a->options.smooth || a->options.inputs_given != 1) return 0;
  if (backward && (!a->grad_out.data || (!known && a->options.param_gradients))) return 0;
  for (int f = 0; f < STATE_COUNT; f++)
    if (a->records[f].data || a->grad_records[f].data) return 0;
  for (int number = 1; number <= COMMON_CASES; number++)
    if (fits_case(&a->options, number) && (number == 1 || !backward || surrogate == LIBRARY))
      return number;
  return 0;
}

/* How rows of a block's neurons are copied. Dense and aligned ones can be copied in pieces. */
static int copied(const lif_tensor *x, int64_t N, int width) {
  const int64_t each = PIECE / (int64_t)sizeof(stored);
  const bool interleaved = width > 1 && x->s == 1 && x->n == width;
  if ((uintptr_t)x->data % PIECE == 0 && x->t % each == 0 && x->b % each == 0 && N % each == 0 &&
      (interleaved || (x->n == 1 && (width == 1 || x->s % each == 0))))
    return IN_PIECES;
  return x->t > 0 && x->t < x->n && !interleaved ? BY_STEP : BY_NEURON;
}

static void add_source(sequences *to, const lif_args *a, const lif_tensor *x, int width) {
  if (!x->data || width == 0) return;
  to->of[to->count++] = {(unsigned short)((const char *)x - (const char *)a), (unsigned char)width,
                         (unsigned char)copied(x, a->N, width)};
  to->values += width;
}

/* A target whose stores by neighbouring neurons would be scattered is staged, where neither one
 * store takes a neuron's values nor they are so few that they are faster one by one. Of T steps no
 * stage holds more than a chunk. */
static void add_target(staging *to, int target, const lif_args *a, const lif_tensor *x, int width) {
  const int together = AT_ONCE * (int)sizeof(stored);
  const bool interleaved = width > 1 && x->s == 1 && x->n == width;
  if (!x->data || width == 0) return;
  if (interleaved && width == VALUES && (uintptr_t)x->data % together == 0 && x->t % AT_ONCE == 0 &&
      x->b % AT_ONCE == 0) {
    to->together |= 1u << target;
    return;
  }
  const bool along_time = x->t == 1 && a->T > 1, along_values = width > 4 && interleaved;
  if (a->N < 2 || x->n <= 1 || !(along_time || along_values)) return;
  const int most = a->mask.data ? (int)LONG_CHUNK : (int)CHUNK;
  const int steps = (int)(a->T < most ? a->T : most);
  to->which |= 1u << target;
  to->of[target] = {width, to->bytes, *x};
  to->bytes += (steps * staged_step(width) * (int)sizeof(stored) + PIECE - 1) / PIECE * PIECE;
}

static const int input_kinds[] = {NEURON_INPUTS(LIF_KIND_OF)},
                 param_kinds[] = {NEURON_PARAMS(LIF_KIND_OF)},
                 state_kinds[] = {NEURON_STATES(LIF_KIND_OF)};

/* A launch's arguments with the strides of the stages in place of staged targets' own. */
static lif_args with_stages(const lif_args *a, const staging &staged, bool backward) {
  lif_args walked = *a;
  for (int k = 0; k < MOST_TARGETS; k++) {
    if (!(staged.which >> k & 1)) continue;
    lif_tensor *x = backward ? &walked.grad_inputs[k]
                    : k == 0 ? &walked.out
                             : &walked.records[k - 1];
    x->t = staged_step(staged.of[k].width);
    x->s = staged_value(staged.of[k].width);
  }
  return walked;
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
static int stage_bytes(const lif_args *a, bool backward, int neurons, const sequences &sequences) {
  const int most = a->mask.data && neurons == neurons_of<NARROW> ? (int)LONG_CHUNK : (int)CHUNK;
  const int steps = a->T < 1 ? 1 : a->T < most ? (int)a->T : most;
  const int words = backward && a->mask.data ? neurons * (int)sizeof(unsigned) : 0;
  const int row = neurons * (int)sizeof(stored), gap = is_scattered(sequences) ? (int)PIECE : 0;
  return words + steps * ((sequences.values > 0 ? sequences.values : 1) * row + gap);
}

static int stashed_reals(const lif_args *a, bool backward) {
  if (!backward || a->mask.data) return 0;
  const int64_t T = a->recurrence.weights ? 1 : a->T; /* a launch per step */
  const int steps = T < CHUNK ? (int)T : (int)CHUNK;
  const int values =
      a->options.param_gradients ? stash_values<true>(a->S) : stash_values<false>(a->S);
  return steps * values;
}

static int stash_bytes(const lif_args *a, bool backward, int neurons) {
  return stashed_reals(a, backward) * neurons * (int)sizeof(real);
}

static sharing share_launch(const lif_args *a, bool backward, int neurons,
                            const sequences &sequences) {
  return share(this_gpu(), a->T, a->B * ((a->N + neurons - 1) / neurons), neurons,
               stage_bytes(a, backward, neurons, sequences),
               stash_bytes(a, backward, neurons) + neurons / WARP * sequences.staged.bytes);
}

/* Whether a launch's rows come through the ring. */
static bool takes_ring(const lif_args *a, bool backward, const sequences &sequences) {
  const gpu *gpu = this_gpu();
  return LIF_SYNAPSES < LIF_MANY && !a->recurrence.weights && gpu && gpu->major >= 8 &&
         share_launch(a, backward, neurons_of<NARROW>, sequences).stages > 0;
}

/* What the kernel reads step by step, in the order that its row numbers follow, and what it writes
 * by way of shared memory. */
static sequences sequences_of(const lif_args *a, bool backward) {
  sequences found = {};
  if (backward) {
    add_source(&found, a, &a->grad_out, 1);
    for (int f = 0; f < STATE_COUNT; f++)
      add_source(&found, a, &a->grad_records[f], lif_width(state_kinds[f], a->S));
    for (int f = 0; f < INPUT_COUNT; f++)
      add_target(&found.staged, f, a, &a->grad_inputs[f], lif_width(input_kinds[f], a->S));
  } else {
    add_target(&found.staged, 0, a, &a->out, 1);
    for (int f = 0; f < STATE_COUNT; f++)
      add_target(&found.staged, 1 + f, a, &a->records[f], lif_width(state_kinds[f], a->S));
  }
  if (!backward || (!a->mask.data && (NEURON_KEEPS || a->options.param_gradients)))
    for (int f = 0; f < INPUT_COUNT; f++)
      add_source(&found, a, &a->inputs[f], lif_width(input_kinds[f], a->S));
  if (!takes_ring(a, backward, found)) found.staged.which = found.staged.bytes = 0;
  return found;
}

template <auto kernel, bool RING, int LAYOUT>
static int start(const lif_args *a, lif_stream on, sequences sequences, bool backward) {
  constexpr int NEURONS = neurons_of<LAYOUT>;
  const int64_t rows = (a->N + NEURONS - 1) / NEURONS;
  if constexpr (!RING) {
    kernel<<<(unsigned)(a->B * rows), NEURONS, 0, on>>>(*a, sequences);
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
  const sharing sharing = share_launch(a, backward, NEURONS, sequences);
  sequences.stages = sharing.stages;
  sequences.stashed = stash_bytes(a, backward, NEURONS);
  /* Of short sequences each block takes as many as leave the GPU full: what goes before a sequence
   * would take longer than the sequence. While it walks one, the next are copied. */
  const int64_t full = ((int64_t)sharing.resident * gpu->multiprocessors + rows - 1) / rows;
  const unsigned blocks = (unsigned)((LAYOUT == SHORT && full < a->B ? full : a->B) * rows);
  const size_t shared = (size_t)sharing.shared;
  if (sequences.staged.which)
    kernel<<<blocks, threads_of<LAYOUT>, shared, on>>>(with_stages(a, sequences.staged, backward),
                                                       sequences);
  else
    kernel<<<blocks, threads_of<LAYOUT>, shared, on>>>(*a, sequences);
  return (int)cudaGetLastError();
}

template <bool RING, int SURROGATE, int CASE, int LAYOUT>
static int start_backward(const lif_args *a, lif_stream on, const sequences &sequences) {
  if (a->options.param_gradients)
    return start<backward_kernel<RING, SURROGATE, true, CASE, LAYOUT>, RING, LAYOUT>(
        a, on, sequences, true);
  return start<backward_kernel<RING, SURROGATE, false, CASE, LAYOUT>, RING, LAYOUT>(
      a, on, sequences, true);
}

/* Which surrogates have a kernel of their own: see case_of, which agrees. */
template <bool RING, int CASE, int LAYOUT>
static int launch(const lif_args *a, lif_stream on, const sequences &sequences, bool backward) {
#if NEURON_MASKABLE
  if (a->mask.data && backward)
    return start<masked_backward_kernel<RING, CASE, LAYOUT>, RING, LAYOUT>(a, on, sequences, true);
  if (a->mask.data)
    return start<forward_kernel<RING, true, CASE, LAYOUT>, RING, LAYOUT>(a, on, sequences, false);
#endif
  if (!backward)
    return start<forward_kernel<RING, false, CASE, LAYOUT>, RING, LAYOUT>(a, on, sequences, false);
  if constexpr (CASE == 1 && LAYOUT != SHORT) {
    if (a->options.surrogate == DEFAULT)
      return start_backward<RING, DEFAULT, CASE, LAYOUT>(a, on, sequences);
    if (a->options.surrogate == STEP_PWL)
      return start_backward<RING, STEP_PWL, CASE, LAYOUT>(a, on, sequences);
  }
  if constexpr ((RING && CASE >= 0) || !NEURON_SPIKING)
    if (a->options.surrogate == LIBRARY)
      return start_backward<RING, LIBRARY, CASE, LAYOUT>(a, on, sequences);
  if constexpr (NEURON_SPIKING && (CASE <= 0 || LAYOUT == SHORT))
    return start_backward<RING, ANY, CASE, LAYOUT>(a, on, sequences);
  if constexpr (NEURON_SPIKING && CASE == 1 && LAYOUT != SHORT)
    return start<backward_kernel<RING, ANY, false, CASE, LAYOUT>, RING, LAYOUT>(a, on, sequences,
                                                                                true);
  return (int)cudaErrorInvalidValue;
}

/* The common case `number`, which is CASE or a later one. */
template <int CASE>
static int launch_case(const lif_args *a, lif_stream on, const sequences &sequences, bool backward,
                       int number, bool wide) {
  if constexpr (CASE <= COMMON_CASES) {
    if (number != CASE) return launch_case<CASE + 1>(a, on, sequences, backward, number, wide);
    if constexpr (CASE == 1)
      if (wide && a->T > 0 && a->T <= SHORT_STEPS)
        return launch<true, CASE, SHORT>(a, on, sequences, backward);
    return wide ? launch<true, CASE, WIDE>(a, on, sequences, backward)
                : launch<true, CASE, NARROW>(a, on, sequences, backward);
  }
  return (int)cudaErrorInvalidValue;
}

/* Of more synapses than two a walking thread has so many registers that copying warps had better be
 * few. */
template <int CASE>
static int launch_any_case(const lif_args *a, lif_stream on, const sequences &sequences,
                           bool backward, bool wide) {
  if constexpr (LIF_SYNAPSES > 2)
    if (wide && share_launch(a, backward, neurons_of<WIDE>, sequences).stages > 0)
      return launch<true, CASE, WIDE>(a, on, sequences, backward);
  return launch<true, CASE, NARROW>(a, on, sequences, backward);
}

static int launch_any(const lif_args *a, lif_stream on, bool backward) {
  if (a->B * a->N == 0) return cudaSuccess;
  const sequences sequences = sequences_of(a, backward);
  const bool ring = takes_ring(a, backward, sequences);
  const int number = ring ? case_of(a, backward, sequences) : 0;
  int pieces = 1;
  for (int k = 0; k < sequences.count; k++) pieces &= sequences.of[k].copied == IN_PIECES;
  lif_cuda_note_way((ring ? LIF_WAY_RING : 0) | (number > 0 ? LIF_WAY_COMMON : 0) |
                        (ring && pieces ? LIF_WAY_PIECES : 0) | (a->mask.data ? LIF_WAY_MASK : 0) |
                        (ring && sequences.staged.which ? LIF_WAY_STAGED : 0),
                    backward);
  if constexpr (LIF_SYNAPSES < LIF_MANY) {
    const int wide_row = neurons_of<WIDE>;
    const bool wide =
        ring && a->B * ((a->N + wide_row - 1) / wide_row) >= 2 * this_gpu()->multiprocessors;
    if (ring && number == SCATTERED)
      return launch_any_case<SCATTERED>(a, on, sequences, backward, wide);
    if constexpr (HAS_COMMON)
      if (number) return launch_case<1>(a, on, sequences, backward, number, wide);
    if (ring) return launch_any_case<0>(a, on, sequences, backward, wide);
  }
  return launch<false, 0, NARROW>(a, on, sequences, backward);
}

static int forward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, false); }
static int backward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, true); }

/* The structs that a kernel binds to memory, and the stash of one without a ring. */
static int64_t workspace(const lif_args *a, int backward) {
  if (a->B * a->N == 0 || takes_ring(a, backward != 0, sequences_of(a, backward != 0))) return 0;
  const auto count = [&](const auto &kinds, int fields) {
    int bound = 0;
    for (int f = 0; f < fields; f++)
      bound += (kinds[f] & 3) == LIF_PER_NEURON ? 0 : lif_width(kinds[f], a->S);
    return bound;
  };
  const int inputs = count(input_kinds, INPUT_COUNT), params = count(param_kinds, PARAM_COUNT),
            states = count(state_kinds, STATE_COUNT);
  const int bound = LIF_SYNAPSES < LIF_MANY ? 0
                    : backward              ? 2 * inputs + 2 * params + 3 * states
                                            : inputs + params + states;
  return a->B * ((a->N + neurons_of<NARROW> - 1) / neurons_of<NARROW>)*neurons_of<NARROW> *
         (bound + stashed_reals(a, backward != 0));
}

extern "C" const struct lif_cuda_kernels LIF_CUDA_KERNELS(NEURON, LIF_SYNAPSES, LIF_STORAGE) = {
    forward, backward, workspace, solo_fits, solo};

#endif

/* Rows of sequences on their way to the walk, and the only place that knows how they lie in memory.
 *
 * ring: warps of their own copy rows of a block's neurons into a ring of stages in shared memory,
 * some chunks of time steps ahead, so that the walking threads spend no instruction on it. However
 * a sequence lies in memory, in a stage the neurons of the block stand side by side. A stage is
 * full when its copies have arrived, and empty when every walking thread has taken its own.
 *
 * direct: each thread reads its own values from memory when it needs them. That is for GPUs without
 * asynchronous copies, for more synapses than registers hold, and for single steps of a recurrent
 * layer. */
#ifndef LIF_ROWS_H
#define LIF_ROWS_H

#include "targets.h"

/* Instructions of compute capability 8 and later. Below it the kernels with a ring are compiled
 * without them, and never launched. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define ASYNC(...) asm volatile(__VA_ARGS__)
#else
#define ASYNC(...)
#endif

enum {
  CHUNK = LIF_CHECKPOINT_INTERVAL,
  MOST_STAGES = 8,
  MOST_SOURCES = LIF_MAX_INPUTS + 1 + LIF_MAX_STATES,
  PIECE = 16 /* bytes of a copy */
};

/* How the rows of a sequence are copied: element by element, neighbouring lanes neighbouring
 * neurons; the same with neighbouring steps, where those are the nearer ones in memory; in pieces,
 * where they are dense and aligned. */
enum { BY_NEURON, BY_STEP, IN_PIECES };

/* The sequences of a launch: what it reads step by step, in the order in which the rows of a step
 * stand in a stage, and what it writes by way of shared memory. */
struct sequences {
  int stages;  /* of a block's ring */
  int values;  /* read of a neuron per step: rows of a step in a stage */
  int stashed; /* bytes of the stash, which stands behind the ring; behind it stands what is staged
                */
  int count;
  struct {
    unsigned short place; /* of its lif_tensor in lif_args, in bytes */
    unsigned char width;  /* values of a neuron per step */
    unsigned char copied; /* one of those above */
  } of[MOST_SOURCES];
  staging staged;
};

/* Copying warps of a block: few neurons walk fast. */
template <int NEURONS>
constexpr int copiers_of = NEURONS < 128 ? 2 : 1;

/* The neurons of a block: NEURONS of one batch item, or of several, one after another. Threads of
 * the last warp beyond the last neuron do that one's work once more. */
template <int NEURONS>
struct place {
  int64_t b, apart, end; /* first batch item, the distance to the next, and the end */
  int64_t first, n;      /* the block's first neuron; this thread's */
  int count, walking;    /* neurons of the block; threads that walk, whole warps of them */

  __device__ __forceinline__ explicit place(const lif_args &a) {
    const unsigned blocks = (unsigned)((a.N + NEURONS - 1) / NEURONS);
    b = blockIdx.x / blocks;
    apart = gridDim.x / blocks;
    end = a.B;
    first = (int64_t)(blockIdx.x % blocks) * NEURONS;
    count = (int)(a.N - first < NEURONS ? a.N - first : NEURONS);
    walking = (count + 31) / 32 * 32;
    n = first + min((int)threadIdx.x, count - 1);
  }

  /* The neurons of this thread's warp. */
  __device__ __forceinline__ int64_t warp_first() const { return first + threadIdx.x / 32 * 32; }
  __device__ __forceinline__ int64_t warp_end() const { return first + count; }
};

/* Whether the values of a neuron stand side by side, and those of the next neuron behind them. Its
 * row in a stage stays as it is in memory; that of any other sequence has one value of all neurons,
 * then the next value. (Of a sequence that is the same in every step the latter too.) */
__device__ __forceinline__ bool is_interleaved(const lif_tensor &x, int width) {
  return x.t != 0 && x.s == 1 && x.n == width;
}

/* Where a thread finds its numbers of a sequence in a stage. */
struct row_place {
  int row;    /* the first of the sequence's rows in a step; -1: the sequence is not given */
  int column; /* of the neuron's first value in it */
  int value;  /* from one value of the neuron to the next */
};

struct barriers {
  unsigned long long full[MOST_STAGES], empty[MOST_STAGES];
};

__device__ __forceinline__ unsigned shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void barrier_init(unsigned long long *barrier, int arrivals) {
  ASYNC("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_arrive(unsigned long long *barrier) {
  ASYNC("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(
      shared_address(barrier)) : "memory");
}

/* Arrives when all copies that this thread has started are there. */
__device__ __forceinline__ void barrier_arrive_copied(unsigned long long *barrier) {
  ASYNC("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
      shared_address(barrier)) : "memory");
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 /* the thread may sleep meanwhile */
#define BARRIER_WAIT "mbarrier.try_wait"
#else
#define BARRIER_WAIT "mbarrier.test_wait"
#endif

__device__ __forceinline__ void barrier_wait(unsigned long long *barrier, unsigned parity) {
  unsigned done = 1;
  do {
    ASYNC("{ .reg .pred p; " BARRIER_WAIT
          ".parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(
              shared_address(barrier)),
          "r"(parity) : "memory");
  } while (!done);
}

/* An asynchronous copy of 4, 8 or 16 bytes. */
template <int BYTES>
__device__ __forceinline__ void copy(void *to, const void *from) {
  if constexpr (BYTES == PIECE) /* read once: past the first-level cache */
    ASYNC("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)),
          "l"(from) : "memory");
  else
    ASYNC("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from),
          "n"(BYTES) : "memory");
}

/* One block's ring. A stage holds, with MASK, a row of the mask's words, and behind it up to STEPS
 * time steps of `values` rows each. Everything but `stage` and `parity`, which each thread counts
 * for itself, is the same for all threads. */
template <int NEURONS, int STEPS, bool MASK, bool SCATTERED>
struct ring {
  static constexpr bool TOGETHER = takes_together<NEURONS>; /* see read_all */
  enum { MASK_ROW = MASK ? NEURONS * sizeof(unsigned) : 0, COPIERS = copiers_of<NEURONS> };
  unsigned char *memory;
  barriers *all;
  int stages, values, stage_bytes, lane;
  int stage;
  unsigned parity;
  int turn; /* a copying warp: chunks until its own; the warps take turns */

  /* From one step to the next, in elements. With SCATTERED a piece more than its rows: copies along
   * time would else meet one bank of shared memory only. */
  __host__ __device__ static int step_of(int values) {
    return (values > 0 ? values : 1) * NEURONS + (SCATTERED ? PIECE / (int)sizeof(stored) : 0);
  }

  /* Of a sequence of T steps: a short one leaves no steps of a stage empty. */
  __host__ __device__ static int bytes_of_stage(int64_t T, int values) {
    return MASK_ROW + (int)(T < 1       ? 1
                            : T < STEPS ? T
                                        : STEPS) *
                          step_of(values) * (int)sizeof(stored);
  }

  __device__ __forceinline__ ring(unsigned char *memory, barriers *all, int stages, int values,
                                  int64_t T, const place<NEURONS> &at)
      : memory(memory),
        all(all),
        stages(stages),
        values(values),
        stage_bytes(bytes_of_stage(T, values)),
        lane((int)(at.n - at.first)),
        stage(0),
        parity(0),
        turn(0) {}

  __device__ __forceinline__ unsigned *mask_row() const {
    return (unsigned *)(memory + stage * stage_bytes);
  }
  __device__ __forceinline__ stored *row(int step, int value) const {
    return (stored *)(memory + stage * stage_bytes + MASK_ROW) + step * step_of(values) +
           value * NEURONS;
  }

  /* Copying warps at work. A warp tells the rounds of a stage apart by their parity alone. With a
   * single stage the next but one round would look to it like the one before. */
  __device__ __forceinline__ int copiers() const {
    return COPIERS == 1 || stages == 1 ? 1 : COPIERS;
  }

  __device__ __forceinline__ void advance() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }

  /* By all threads of the block, before anything else. So many of them will walk. */
  __device__ __forceinline__ void open(int walking) {
    if (threadIdx.x == 0) {
      for (int k = 0; k < stages; k++) {
        barrier_init(&all->full[k], 32);
        barrier_init(&all->empty[k], walking);
      }
    }
    __syncthreads();
  }

  /* Where a lane copies from: of a sequence's first row from `from` on, and so many bytes further
   * in the next row that it copies. Rows that are dense and aligned are copied in pieces, several
   * rows by a warp at once; others element by element. */
  enum {
    EACH = PIECE / sizeof(stored),
    PIECES = NEURONS / EACH,
    ROWS_AT_ONCE = PIECES < 32 ? 32 / PIECES : 1,
    TURNS = NEURONS / 32
  };
  struct route {
    const char *from;
    int64_t rows_on;
  };
  __device__ __forceinline__ static route route_of(const stored *from, int64_t t, int64_t n,
                                                   bool pieces) {
    const int lane = threadIdx.x & 31;
    const int64_t first = pieces ? lane / PIECES * t + lane % PIECES * EACH : lane * n;
    return {(const char *)(from + first),
            (pieces ? ROWS_AT_ONCE : 1) * t * (int64_t)sizeof(stored)};
  }

  /* Rows in pieces to rows of a stage; with ALL of a whole chunk, which is straight code. */
  template <bool ALL>
  __device__ __forceinline__ void copy_pieces(stored *to, route way, int steps, int count) const {
    const int lane = threadIdx.x & 31, column = lane % PIECES * EACH, first = lane / PIECES;
    const int step = step_of(values);
    to += first * step + column;
#pragma unroll(ALL ? STEPS : 4)
    for (int u = 0; u < (ALL ? STEPS : steps); u += ROWS_AT_ONCE, way.from += way.rows_on)
#pragma unroll
      for (int turn = 0; turn < PIECES; turn += 32)
        if (column + turn * EACH < count && (ALL || u + first < steps))
          copy<PIECE>(to + u * step + turn * EACH, way.from + turn * PIECE);
  }

  /* Rows element by element. */
  __device__ __forceinline__ void copy_elements(stored *to, route way, int64_t n, int steps,
                                                int count) const {
    const int lane = threadIdx.x & 31, step = step_of(values);
    const int64_t turn_on = 32 * n * (int64_t)sizeof(stored);
    to += lane;
    if constexpr (sizeof(stored) >= 4) {
#pragma unroll 4
      for (int u = 0; u < steps; u++, way.from += way.rows_on, to += step)
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++)
          if (turn * 32 + lane < count)
            copy<sizeof(stored)>(to + turn * 32, way.from + turn * turn_on);
    } else { /* through registers, many at a time: there is no asynchronous copy of two bytes */
      enum { AT_ONCE = 8 / TURNS };
      for (int first = 0; first < steps; first += AT_ONCE) {
        stored passing[AT_ONCE][TURNS];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++, way.from += way.rows_on)
#pragma unroll
          for (int turn = 0; turn < TURNS; turn++)
            if (first + u < steps && turn * 32 + lane < count)
              passing[u][turn] = __ldg((const stored *)(way.from + turn * turn_on));
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++, to += step)
#pragma unroll
          for (int turn = 0; turn < TURNS; turn++)
            if (first + u < steps && turn * 32 + lane < count) to[turn * 32] = passing[u][turn];
      }
    }
  }

  /* The same with the lanes along time: neurons are `n` apart, steps `t`. */
  __device__ __forceinline__ void copy_by_step(stored *to, const stored *from, int64_t t, int64_t n,
                                               int steps, int count) const {
    enum { RUN = STEPS < 32 ? STEPS : 32, APART = 32 / RUN, AT_ONCE = 8 };
    const int u = threadIdx.x % RUN, first = threadIdx.x % 32 / RUN;
    if (u >= steps) return;
    to += u * step_of(values);
    from += u * t;
    if constexpr (sizeof(stored) >= 4) {
#pragma unroll 4
      for (int m = first; m < count; m += APART) copy<sizeof(stored)>(to + m, from + m * n);
    } else { /* see above */
      for (int begin = first; begin < count; begin += APART * AT_ONCE) {
        stored passing[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
          if (begin + k * APART < count) passing[k] = __ldg(from + (begin + k * APART) * n);
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
          if (begin + k * APART < count) to[begin + k * APART] = passing[k];
      }
    }
  }

  /* A row that is the same in every step, into all rows that a stage may have of it. */
  __device__ __forceinline__ void repeat_row(stored *to, const route &way, int64_t n, int steps,
                                             int count) const {
    const int lane = threadIdx.x & 31, step = step_of(values);
    stored same[TURNS];
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++)
      if (turn * 32 + lane < count) same[turn] = __ldg((const stored *)way.from + turn * 32 * n);
    to += lane;
#pragma unroll 4
    for (int u = 0; u < steps; u++, to += step)
#pragma unroll
      for (int turn = 0; turn < TURNS; turn++)
        if (turn * 32 + lane < count) to[turn * 32] = same[turn];
    __threadfence_block(); /* it came through registers */
  }

  /* A chunk of a sequence with `width` values per neuron. One that is the same in every step needs
   * no copies after the first round of the stages. */
  __device__ __forceinline__ void copy_source(stored *to, const lif_tensor &x, int width,
                                              int copied, const stored *from, int steps,
                                              bool first_round, int all_steps, int count) const {
    const bool interleaved = width > 1 && is_interleaved(x, width);
    const int64_t n = interleaved ? 1 : x.n, value_on = interleaved ? NEURONS : x.s;
    if (x.t == 0 && !first_round) return;
    for (int k = 0; k < width; k++) {
      stored *const rows = to + k * NEURONS;
      const route way = route_of(from + k * value_on, x.t, n, copied == IN_PIECES && x.t);
      const int within = interleaved ? count * width - k * NEURONS : count;
      if (x.t == 0)
        repeat_row(rows, way, n, all_steps, within);
      else if (SCATTERED && copied == BY_STEP)
        copy_by_step(rows, from + k * value_on, x.t, n, steps, within);
      else if (copied != IN_PIECES)
        copy_elements(rows, way, n, steps, within);
      else if (steps == STEPS)
        copy_pieces<true>(rows, way, steps, within);
      else
        copy_pieces<false>(rows, way, steps, within);
    }
  }

  /* A copying warp, for one batch item: its turns among the chunks of T steps, first to last or
   * last to first. The common case has these sources; where they are is kept from chunk to chunk.
   */
  template <bool COMMON, int COUNT>
  __device__ __forceinline__ void feed(const lif_args &a, const sequences &read,
                                       const lif_tensor *const (&common)[COUNT],
                                       const place<NEURONS> &at, int64_t b, bool backward) {
    const int64_t chunks = (a.T + STEPS - 1) / STEPS, first_t = backward ? (chunks - 1) * STEPS : 0;
    const int all_steps = (int)(a.T < STEPS ? a.T : STEPS), direction = backward ? -1 : 1;
    const auto address = [&](const lif_tensor &x, int64_t t) {
      return (const stored *)x.data + t * x.t + b * x.b + at.first * x.n;
    };
    const stored *from[COUNT];
#pragma unroll
    for (int k = 0; k < COUNT; k++) from[k] = address(*common[k], first_t);
    int64_t t = first_t;
    for (int64_t c = 0; c < chunks; c++, t += direction * STEPS, advance()) {
      if (turn == 0) {
        const int steps = (int)(a.T - t < STEPS ? a.T - t : STEPS);
        barrier_wait(&all->empty[stage], parity ^ 1); /* in the first round: done before it began */
        if constexpr (MASK) {
          const unsigned *words = (const unsigned *)a.mask.data + t / LIF_MASK_STEPS * a.mask.t +
                                  b * a.mask.b + at.first * a.mask.n;
          for (int n = threadIdx.x & 31; n < at.count; n += 32)
            copy<sizeof(unsigned)>(mask_row() + n, words + n * a.mask.n);
        }
        if constexpr (COMMON) {
#pragma unroll
          for (int k = 0; k < COUNT; k++)
            copy_source(row(0, k), *common[k], 1, read.of[k].copied, from[k], steps, c < stages,
                        all_steps, at.count);
        } else {
          stored *to = row(0, 0);
          for (int k = 0; k < read.count; k++) {
            const lif_tensor &x = *(const lif_tensor *)((const char *)&a + read.of[k].place);
            copy_source(to, x, read.of[k].width, read.of[k].copied, address(x, t), steps,
                        c < stages, all_steps, at.count);
            to += read.of[k].width * NEURONS;
          }
        }
        if constexpr (sizeof(stored) < 4)
          __threadfence_block(); /* for what came through registers */
        barrier_arrive_copied(&all->full[stage]);
      }
      turn = turn > 0 ? turn - 1 : copiers() - 1;
#pragma unroll
      for (int k = 0; k < COUNT; k++) from[k] += direction * STEPS * common[k]->t;
    }
  }

  /* The start of a kernel: the copying warps do all of their work. True for threads that are then
   * done: those warps', and those without a neuron. */
  template <bool COMMON, int COUNT>
  __device__ __forceinline__ bool copies(const lif_args &a, const sequences &read,
                                         const lif_tensor *const (&common)[COUNT],
                                         const place<NEURONS> &at, bool backward) {
    open(at.walking);
    if (threadIdx.x < NEURONS) return (int)threadIdx.x >= at.walking;
    turn = (int)(threadIdx.x - NEURONS) / 32;
    if (turn >= copiers()) return true;
    for (int64_t b = at.b; b < at.end; b += at.apart)
      feed<COMMON>(a, read, common, at, b, backward);
    return true;
  }

  /* The walking threads: wait for the chunk of batch item b that begins with step t, and let it go.
   */
  __device__ __forceinline__ void wait(int64_t, int64_t) const {
    barrier_wait(&all->full[stage], parity);
  }
  __device__ __forceinline__ unsigned char *end_of_ring() const {
    return memory + stages * stage_bytes;
  }
  /* By every thread: one a warp, after __syncwarp, is no faster, and compute-sanitizer's racecheck
   * cannot follow it. */
  __device__ __forceinline__ void release() {
    barrier_arrive(&all->empty[stage]);
    advance();
  }
  /* Where this thread finds its numbers of a sequence; row < 0: it is not given. */
  __device__ __forceinline__ row_place place_of(const lif_tensor &x, int row, int width) const {
    const bool interleaved = width > 1 && is_interleaved(x, width);
    return {row, interleaved ? lane * width : lane, interleaved ? 1 : NEURONS};
  }
  /* This thread's number of value k of a sequence in step u of the chunk; if it is not given, -0:
   * something is read in any case and then replaced, so that there is no branch. */
  __device__ __forceinline__ real read(const lif_tensor &, const row_place &place, int k,
                                       int u) const {
    const real found =
        unpack(row(u, place.row < 0 ? 0 : place.row)[place.column + k * place.value]);
    return place.row < 0 ? REAL(-0.0) : found;
  }
  /* The same of all VALUES values of a sequence that is given, which stand side by side: one by one
   * the threads of a warp would meet the same banks of shared memory. */
  __device__ __forceinline__ void read_all(const row_place &place, int u, real *values) const {
#pragma unroll
    for (int k = 0; k < VALUES; k += AT_ONCE)
      read_together<AT_ONCE>(row(u, place.row) + place.column + k, values + k);
  }
  __device__ __forceinline__ unsigned word(const lif_tensor &) const { return mask_row()[lane]; }
};

/* The same without copies: every thread reads for itself. */
template <int NEURONS>
struct direct {
  static constexpr bool TOGETHER = false;
  int64_t n, b, t;

  __device__ __forceinline__ direct(unsigned char *, barriers *, int, int, int64_t,
                                    const place<NEURONS> &at)
      : n(at.n), b(0), t(0) {}
  template <bool COMMON, int COUNT>
  __device__ __forceinline__ bool copies(const lif_args &, const sequences &,
                                         const lif_tensor *const (&)[COUNT],
                                         const place<NEURONS> &at, bool) const {
    return (int)threadIdx.x >= at.count;
  }
  __device__ __forceinline__ void wait(int64_t batch_item, int64_t first) {
    b = batch_item;
    t = first;
  }
  __device__ __forceinline__ unsigned char *end_of_ring() const { return nullptr; }
  __device__ __forceinline__ void release() const {}
  __device__ __forceinline__ row_place place_of(const lif_tensor &, int row, int) const {
    return {row, 0, 0};
  }
  __device__ __forceinline__ real read(const lif_tensor &x, const row_place &place, int k,
                                       int u) const {
    const stored *at = (const stored *)x.data + (t + u) * x.t + b * x.b + n * x.n + k * x.s;
    return place.row < 0 ? REAL(-0.0) : unpack(__ldg(at));
  }
  __device__ __forceinline__ unsigned word(const lif_tensor &x) const {
    return __ldg((const unsigned *)x.data + t / LIF_MASK_STEPS * x.t + b * x.b + n * x.n);
  }
};

template <bool RING, int NEURONS, int STEPS, bool MASK, bool SCATTERED>
using rows_of = std::conditional_t<RING, ring<NEURONS, STEPS, MASK, SCATTERED>, direct<NEURONS>>;

#endif

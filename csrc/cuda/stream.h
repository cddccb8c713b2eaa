/* Sequences on their way to the registers: a warp of its own copies rows of a block's neurons into
 * a ring of stages in shared memory, some chunks of time steps ahead, so that the walking threads
 * spend no instruction on it. A stage is full when its copies have arrived, and empty when every
 * walking thread has taken its own.
 *
 * Asynchronous copies of 16 bytes a lane do better here than bulk copies of a row: the H200 takes
 * one bulk copy of 256 bytes in some 60 cycles of a multiprocessor, which is slower than few
 * neurons walk. */
#ifndef LIF_STREAM_H
#define LIF_STREAM_H

#include "gpu.h"
#include "storage.h"

enum {
  CHUNK = LIF_CHECKPOINT_INTERVAL,
  LEAST_STAGES = 2,
  MOST_STAGES = 8,
  RESIDENT_NEURONS = sizeof(stored) < 4 ? 768 : 512, /* of a multiprocessor at once */
  SHORT_NEURONS = 1536,                              /* the same of sequences of a chunk or two */
  IN_FLIGHT = 84 * 1024                              /* bytes of its blocks' rings */
};

struct stage_barriers {
  unsigned long long full[MOST_STAGES], empty[MOST_STAGES];
};

__device__ __forceinline__ unsigned shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void barrier_init(unsigned long long *barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void barrier_arrive(unsigned long long *barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(
                   shared_address(barrier))
               : "memory");
}

/* Arrives when all copies that this thread has started are there. */
__device__ __forceinline__ void barrier_arrive_copied(unsigned long long *barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 /* the thread may sleep meanwhile */
#define BARRIER_WAIT "mbarrier.try_wait"
#else
#define BARRIER_WAIT "mbarrier.test_wait"
#endif

__device__ __forceinline__ void barrier_wait(unsigned long long *barrier, unsigned parity) {
  unsigned done;
  do {
    asm volatile("{ .reg .pred p; " BARRIER_WAIT
                 ".parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (!done);
}

enum { PIECE = 16 }; /* bytes of a copy */

__device__ __forceinline__ void copy_piece(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}

/* Rows of a sequence, from one of its neurons on: the address at t = 0, and elements from one step
 * to the next. */
struct row_source {
  const stored *at;
  int64_t t;

  __device__ __forceinline__ row_source(const lif_tensor &x, int64_t b, int64_t n)
      : at((const stored *)x.data + b * x.b + n * x.n), t(x.t) {}
};

/* Where a neuron's values of one step after the other go. So that steps stay straight code, values
 * that nobody wants are left out by a predicate, not by a branch. */
struct row_target {
  stored *at;
  int64_t stride; /* from one step to the next */
  unsigned wanted;

  __device__ __forceinline__ row_target(const lif_tensor &x, int64_t b, int64_t n, int64_t first,
                                        bool backward)
      : at((stored *)x.data + b * x.b + n * x.n + first * x.t),
        stride(backward ? -x.t : x.t),
        wanted(x.data != nullptr) {}

  /* Not told to the compiler as a write to memory: nobody reads it before the kernel's end. */
  __device__ __forceinline__ void put(real value) {
    if constexpr (sizeof(stored) == 2)
      asm volatile(
          "{ .reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.cs.b16 [%0], %1; }" ::"l"(at),
          "r"(pack_low(value)), "r"(wanted));
    else
      asm volatile(
          "{ .reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.cs.b32 [%0], %1; }" ::"l"(at),
          "r"(pack_low(value)), "r"(wanted));
    at += stride;
  }
};

/* A neuron's checkpoints of one state, one after the other: an address made anew takes thirty
 * instructions. */
struct checkpoint {
  real *at;
  bool kept;

  __device__ __forceinline__ checkpoint(const lif_tensor &x, int64_t b, int64_t n, int64_t interval)
      : at((real *)x.data + interval * x.t + b * x.b + n * x.n), kept(x.data != nullptr) {}

  __device__ __forceinline__ void write(real value) const {
    if (kept) *at = value;
  }
  __device__ __forceinline__ real read(bool there) const {
    return kept && there ? __ldg(at) : REAL(0);
  }
};

/* One block's ring. A stage holds, with MASK, a row of the mask's words, and behind it a chunk of
 * up to STEPS time steps of each of FIELDS sequences, in rows of NEURONS. Everything but `stage`
 * and `parity`, which each thread counts for itself, is the same for all threads. */
template <int NEURONS, int STEPS, int FIELDS, bool MASK = false>
struct stream {
  enum { ROW = NEURONS * sizeof(stored), MASK_ROW = MASK ? NEURONS * sizeof(unsigned) : 0 };
  unsigned char *memory;
  stage_barriers *barriers;
  int stages, stage_bytes;
  int stage;
  unsigned parity;

  /* Of a sequence of T steps: a short one leaves no steps of a stage empty. */
  __host__ __device__ static int bytes_of_stage(int64_t T) {
    return MASK_ROW + (int)(T < 1 ? 1 : T < STEPS ? T : STEPS) * FIELDS * ROW;
  }

  __device__ __forceinline__ stored *row(int step, int field) const {
    return (stored *)(memory + stage * stage_bytes + MASK_ROW + (step * FIELDS + field) * ROW);
  }
  __device__ __forceinline__ unsigned *mask_row() const {
    return (unsigned *)(memory + stage * stage_bytes);
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
        barrier_init(&barriers->full[k], 32);
        barrier_init(&barriers->empty[k], walking);
      }
    }
    __syncthreads();
  }

  /* The copying warp, for one batch item: every chunk of T steps, first to last or last to first,
   * of each field from its source, rows of `count` neurons, and the mask's words. */
  __device__ __forceinline__ void feed(const row_source *sources, const column<unsigned> &mask,
                                       int count, int64_t T, bool backward) {
    enum {
      PIECES = ROW / PIECE,
      INPUT_FIRST = 32 / PIECES
    }; /* of a row; rows that the warp copies at once */
    static_assert(PIECES * INPUT_FIRST == 32, "a warp copies whole rows");
    const int lane = threadIdx.x & 31, piece = lane % PIECES * PIECE;
    const bool inside = piece < count * (int)sizeof(stored);
    const int64_t chunks = (T + STEPS - 1) / STEPS;
    for (int64_t c = 0; c < chunks; c++, advance()) {
      const int64_t first = (backward ? chunks - 1 - c : c) * STEPS;
      const int steps = (int)(T - first < STEPS ? T - first : STEPS);
      barrier_wait(&barriers->empty[stage],
                   parity ^ 1); /* of the first round: done before it began */
      if (MASK && lane * PIECE < count * (int)sizeof(unsigned))
        copy_piece((char *)mask_row() + lane * PIECE,
                   (const char *)(mask.at + first / LIF_MASK_STEPS * mask.t) + lane * PIECE);
#pragma unroll
      for (int field = 0; field < FIELDS; field++) {
        int u = lane / PIECES;
        const char *from =
            (const char *)(sources[field].at + (first + u) * sources[field].t) + piece;
        const int64_t on = INPUT_FIRST * sources[field].t * (int64_t)sizeof(stored);
#pragma unroll 4
        for (; u < steps; u += INPUT_FIRST, from += on)
          if (inside) copy_piece((char *)row(u, field) + piece, from);
      }
      barrier_arrive_copied(&barriers->full[stage]);
    }
  }

  /* The walking warps. */
  __device__ __forceinline__ void wait() const { barrier_wait(&barriers->full[stage], parity); }
  /* By every thread: one a warp, after __syncwarp, is no faster, and compute-sanitizer's racecheck
   * cannot follow it. */
  __device__ __forceinline__ void release() {
    barrier_arrive(&barriers->empty[stage]);
    advance();
  }
};

#endif

/* Sequences on their way to the registers, on Hopper and later: a warp of its own copies whole rows of a block's neurons into a
 * ring of stages in shared memory (bulk copies, which cost the walking threads no instruction), some chunks of time steps
 * ahead. A stage is full when its bytes have arrived, and empty when every walking warp has taken them. */
#ifndef LIF_STREAM_H
#define LIF_STREAM_H

#include "storage.h"

enum { CHUNK = LIF_CHECKPOINT_INTERVAL, MOST_STAGES = 8 };

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

struct stage_barriers {
  unsigned long long full[MOST_STAGES], empty[MOST_STAGES];
};

__device__ __forceinline__ unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(unsigned long long *barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_arrive(unsigned long long *barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_expect(unsigned long long *barrier, unsigned bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void barrier_wait(unsigned long long *barrier, unsigned parity) {
  unsigned done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (!done);
}

__device__ __forceinline__ void copy_row(void *to, const void *from, unsigned bytes, unsigned long long *barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

/* Rows of a sequence, from one of its neurons on: the address at t = 0, and elements from one step to the next. */
struct row_source {
  const stored *at;
  int64_t t;

  __device__ __forceinline__ row_source(const lif_tensor &x, int64_t b, int64_t n)
      : at((const stored *)x.data + b * x.b + n * x.n), t(x.t) {}
};

/* One block's ring of rows of NEURONS. Everything but `stage` and `parity`, which each thread counts for itself, is the same for
 * all threads. */
template <int NEURONS>
struct stream {
  stored *memory;
  stage_barriers *barriers;
  int stages, fields;
  int stage;
  unsigned parity;

  __device__ __forceinline__ stored *row(int step, int field) const {
    return memory + ((stage * CHUNK + step) * fields + field) * NEURONS;
  }

  __device__ __forceinline__ void advance() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }

  /* By all threads of the block, before anything else. */
  __device__ __forceinline__ void open() {
    if (threadIdx.x == 0) {
      for (int k = 0; k < stages; k++) {
        barrier_init(&barriers->full[k], 1);
        barrier_init(&barriers->empty[k], NEURONS / 32);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
  }

  /* The copying warp: every chunk of up to CHUNK of T steps, first to last or last to first, of each field from its source, rows
   * of `count` neurons. */
  template <int MOST>
  __device__ __forceinline__ void feed(const row_source (&sources)[MOST], int count, int64_t T, bool backward) {
    const int lane = threadIdx.x & 31;
    const int64_t chunks = (T + CHUNK - 1) / CHUNK;
    const unsigned bytes = (unsigned)(count * sizeof(stored));
    for (int64_t c = 0; c < chunks; c++, advance()) {
      const int64_t first = (backward ? chunks - 1 - c : c) * CHUNK;
      const int steps = (int)(T - first < CHUNK ? T - first : CHUNK);
      if (c >= stages) barrier_wait(&barriers->empty[stage], parity ^ 1);
      if (lane == 0) barrier_expect(&barriers->full[stage], bytes * (unsigned)(steps * fields));
      __syncwarp();
      for (int field = 0; field < fields; field++)
        if (lane < steps)
          copy_row(row(lane, field), sources[field].at + (first + lane) * sources[field].t, bytes, &barriers->full[stage]);
    }
  }

  /* The walking warps. */
  __device__ __forceinline__ void wait() const { barrier_wait(&barriers->full[stage], parity); }
  __device__ __forceinline__ void release() {
    __syncwarp();
    if ((threadIdx.x & 31) == 0) barrier_arrive(&barriers->empty[stage]);
    advance();
  }
};

#endif
#endif

/* Sequences on their way to the registers without a copying warp: for launches to which stream.h
 * does not apply (an older GPU, rows that are not aligned or not dense, optional inputs). Each
 * thread copies its own elements into a ring in shared memory, some chunks of time steps before it
 * uses them, so that the recurrence never waits for device memory. Threads share nothing, so there
 * is no barrier. */
#ifndef LIF_RING_H
#define LIF_RING_H

#include <cuda_pipeline.h>

#include "stream.h"

enum { THREADS = 64, DEEPEST = 4 };

struct ring {
  stored *memory; /* at this thread's first element */
  int depth;      /* chunks in the ring */
  int fields;     /* values of a time step */
  int before;     /* reals of shared memory that the kernel uses besides, in front of the ring */

  /* The memory of one chunk. A call per chunk, not per step: a division by the run-time depth is
   * slow. */
  __device__ __forceinline__ stored *chunk(int64_t index) const {
    return memory + (unsigned)index % (unsigned)depth * (CHUNK * THREADS) * fields;
  }

  __device__ __forceinline__ stored *slot(stored *chunk, int step, int field) const {
    return chunk + (step * fields + field) * THREADS;
  }

  /* Starts copying time steps first .. first + steps - 1 of value k of a column. */
  __device__ __forceinline__ void fetch(stored *chunk, int field, const column<stored> &from, int k,
                                        int64_t first, int steps) const {
    const stored *at = from.at + first * from.t + k * from.s;
#pragma unroll
    for (int u = 0; u < CHUNK; u++)
      if (u < steps) {
        if (sizeof(stored) >= 4)
          __pipeline_memcpy_async(slot(chunk, u, field), at + u * from.t,
                                  sizeof(stored) >= 4 ? sizeof(stored) : 4);
        else
          *slot(chunk, u, field) =
              __ldg(at + u * from.t); /* asynchronous copies are of 4 bytes or more */
      }
  }

  __device__ __forceinline__ static void commit() { __pipeline_commit(); }

  /* Waits until the oldest chunk under way is there, `depth` chunks having been committed since it
   * was. */
  __device__ __forceinline__ void wait() const {
    if (depth == 4)
      __pipeline_wait_prior(3);
    else if (depth == 3)
      __pipeline_wait_prior(2);
    else if (depth == 2)
      __pipeline_wait_prior(1);
    else
      __pipeline_wait_prior(0);
  }

  __device__ __forceinline__ real take(stored *chunk, int step, int field) const {
    return unpack(*slot(chunk, step, field));
  }
};

#endif

/* Where the numbers that a walk makes in each step go: the output and the records, or the gradients
 * of inputs. Included by rows.h.
 *
 * A thread writes its own neuron's numbers. Where neighbouring neurons lie side by side in memory,
 * it writes them there at once. Where they do not, a warp's stores would touch 32 sectors of memory
 * for a few bytes of each. Such a target is staged: the warp keeps a chunk of steps of it in shared
 * memory, and then writes them in the order in which they lie in memory. */
#ifndef LIF_TARGETS_H
#define LIF_TARGETS_H

#include "fields.h"

enum {
  WARP = 32,
  MOST_TARGETS = LIF_MAX_INPUTS > 1 + LIF_MAX_STATES ? (int)LIF_MAX_INPUTS : 1 + LIF_MAX_STATES
};

/* How the targets of a launch are written. Forward target 0 is the output and 1 + f the record of
 * state f, backward f is the gradient of input f. */
struct staging {
  unsigned together; /* a bit for each target that a neuron's values are stored to at once */
  unsigned which;    /* a bit for each staged target */
  int bytes;         /* of all of them, for a warp */
  struct {
    int width;     /* values of a neuron per step */
    int offset;    /* in a warp's bytes */
    lif_tensor to; /* where it goes; the launch's own tensor has the strides of the stage */
  } of[MOST_TARGETS];
};

/* A neuron's values, and how many of them can be stored at once. */
enum {
  VALUES = LIF_SYNAPSES > 1 && LIF_SYNAPSES < LIF_MANY ? LIF_SYNAPSES : 1,
  AT_ONCE = VALUES * sizeof(stored) < 16 ? (int)VALUES : 16 / (int)sizeof(stored)
};

/* Whether a block's threads read and store a neuron's values at once where they stand side by side.
 * Few values, and few neurons, are faster one by one, for there is then no branch. */
template <int NEURONS>
constexpr bool takes_together = VALUES == 8 || (VALUES == 4 && NEURONS > 64);

/* From one value of a neuron to the next in a stage, and from one step to the next. So many numbers
 * that neither the walk, which writes 32 neurons' numbers of one value, nor what writes them out
 * meets a bank of shared memory twice. */
LIF_ON_BOTH int staged_value(int width) { return WARP + (width > 1 ? WARP / width : 2); }
LIF_ON_BOTH int staged_step(int width) { return width * staged_value(width); }

/* This warp's part of the stages, which begin at `shared`. */
__device__ __forceinline__ unsigned char *stages_of_warp(const staging &staged,
                                                         unsigned char *shared) {
  return shared + threadIdx.x / WARP * staged.bytes;
}

/* Copies `count` numbers, `from_on` and `to_on` apart. Many at a time, so that they do not wait for
 * one another. */
__device__ __forceinline__ void copy_numbers(stored *to, int64_t to_on, const stored *from,
                                             int from_on, int count) {
  enum { MANY = 8 };
  for (; count > 0; count -= MANY) {
    stored passing[MANY];
#pragma unroll
    for (int k = 0; k < MANY; k++, from += from_on)
      if (k < count) passing[k] = *from;
#pragma unroll
    for (int k = 0; k < MANY; k++, to += to_on)
      if (k < count) *to = passing[k];
  }
}

/* Writes `steps` steps from t on of a staged target: the values of `count` neurons from n on. */
__device__ __forceinline__ void write_out(const stored *from, const lif_tensor &to, int width,
                                          int64_t b, int64_t t, int64_t n, int steps, int count) {
  enum { RUN = LIF_CHECKPOINT_INTERVAL, APART = WARP / RUN };
  const int lane = threadIdx.x % WARP, value = staged_value(width), step = staged_step(width);
  stored *const at = (stored *)to.data + b * to.b + t * to.t + n * to.n;
  if (to.t < to.n) { /* along time */
    const int m = lane / RUN;
    for (int u = lane % RUN; u < steps; u += RUN)
      for (int k = 0; k < width; k++)
        copy_numbers(at + u * to.t + k * to.s + m * to.n, APART * to.n,
                     from + u * step + k * value + m, APART, (count - m + APART - 1) / APART);
  } else { /* along a neuron's values, then the neurons */
    for (int place = lane; place < count * width; place += WARP) {
      const int m = place / width, k = place % width;
      copy_numbers(at + k * to.s + m * to.n, to.t, from + k * value + m, step, steps);
    }
  }
}

/* By a whole warp, after `steps` steps from t on: writes what is staged of its neurons n to end-1.
 */
__device__ __forceinline__ void write_stages(const staging &staged, unsigned char *shared,
                                             int64_t b, int64_t t, int64_t n, int64_t end,
                                             int steps) {
  if (!staged.which) return;
  const int count = (int)(end - n < WARP ? end - n : WARP);
  __syncwarp();
  for (int k = 0; k < MOST_TARGETS; k++)
    if (staged.which >> k & 1)
      write_out((const stored *)(stages_of_warp(staged, shared) + staged.of[k].offset),
                staged.of[k].to, staged.of[k].width, b, t, n, steps, count);
  __syncwarp();
}

/* The place of this thread's numbers of step u of a chunk in a staged target. */
__device__ __forceinline__ stored *staged_place(const staging &staged, int target,
                                                unsigned char *shared, int u) {
  return (stored *)(stages_of_warp(staged, shared) + staged.of[target].offset) +
         u * staged_step(staged.of[target].width) + threadIdx.x % WARP;
}

/* Where the numbers of the first FIELDS members go, one step after the other. So that steps stay
 * straight code, numbers that nobody wants are left out by a predicate, not by a branch. Strides
 * stay in the launch's arguments, which costs no registers. */
template <int FIELDS, bool STAGED, int NEURONS>
struct targets {
  stored *at[FIELDS > 0 ? FIELDS : 1];

  __device__ __forceinline__ targets(const lif_tensor *tensors, int64_t b, int64_t n, int64_t t) {
#pragma unroll
    for (int f = 0; f < FIELDS; f++) {
      const lif_tensor &x = tensors[f];
      at[f] = (stored *)x.data + b * x.b + n * x.n + t * x.t;
    }
  }
  /* At the beginning of a chunk, whose first step to be walked is u: staged targets begin anew.
   * The fields' targets are numbered from `first` on. */
  __device__ __forceinline__ void begin(const staging &staged, int first, unsigned char *shared,
                                        int u) {
#pragma unroll
    for (int f = 0; STAGED && f < FIELDS; f++)
      if (staged.which >> (first + f) & 1) at[f] = staged_place(staged, first + f, shared, u);
  }
  /* A step's numbers; then on to the next step, or with direction -1 to the one before. Of the
   * fields' targets, which are numbered from 0 on, those of `together` are stored to at once. */
  template <class Members>
  __device__ __forceinline__ void put(Members &members, const lif_tensor *tensors, int S,
                                      int direction, unsigned together) {
    each(members, [&](int field, int kind, auto &&values) {
      if (field >= FIELDS) return;
      const lif_tensor &x = tensors[field];
      if constexpr (takes_together<NEURONS> && !STAGED) {
        if (together >> field & 1) {
#pragma unroll
          for (int k = 0; k + AT_ONCE <= computed_width(kind, S); k += AT_ONCE)
            store_together<AT_ONCE>(at[field] + k, &values[k], x.data);
          at[field] += direction * x.t;
          return;
        }
      }
#pragma unroll
      for (int k = 0; k < computed_width(kind, S); k++)
        store<STAGED>(at[field] + k * x.s, values[k], x.data && k < lif_width(kind, S));
      at[field] += direction * x.t;
    });
  }
};

#endif

/* The members of a neuron's structs one after the other, and how they come from tensors and go to
 * them. Included after the neuron's header. */
#ifndef LIF_FIELDS_H
#define LIF_FIELDS_H

#include "storage.h"

/* each(members, f) calls f(number of the field, its kind, its numbers) for every member. The
 * numbers are indexed by the synapse. */
__device__ __forceinline__ real *numbers(real &member) { return &member; }
template <int S>
__device__ __forceinline__ real *numbers(real (&member)[S]) {
  return member;
}
template <class Many>
__device__ __forceinline__ Many &numbers(Many &member) {
  return member;
}

#define VISIT(name, KIND) f(field++, (int)LIF_##KIND, numbers(members.name));
#define DEFINE_EACH(type, LIST)                                     \
  template <class Function>                                         \
  __device__ __forceinline__ void each(type &members, Function f) { \
    int field = 0;                                                  \
    LIST(VISIT)(void) field, (void)f, (void)members;                \
  }
DEFINE_EACH(struct inputs, NEURON_INPUTS)
DEFINE_EACH(struct params, NEURON_PARAMS)
DEFINE_EACH(struct states, NEURON_STATES)
DEFINE_EACH(struct kept, NEURON_KEPT)

/* The layer's synapses: a constant where the loop's number is that of every layer that takes it. */
LIF_ON_BOTH int layer_synapses(int S) { return LIF_SYNAPSES <= 2 ? LIF_SYNAPSES : S; }

/* A member's numbers, those of silent synapses included. */
LIF_ON_BOTH int computed_width(int kind, int S) { return lif_width(kind, computed_synapses(S)); }

/* Where a thread keeps numbers that it does not hold in registers: at every stride-th place. */
struct memory {
  real *at;
  int64_t stride;

  __device__ __forceinline__ real &operator[](int k) const { return at[k * stride]; }
};

/* With LIF_MANY synapses: points the members of a struct to a piece each of `spare`, and moves that
 * on. */
template <class Members>
__device__ __forceinline__ void bind(Members &members, int S, memory &spare) {
  each(members, [&](int, int kind, auto &&values) {
    if constexpr (std::is_class_v<std::remove_reference_t<decltype(values)>>) {
      values.at = spare.at;
      values.stride = spare.stride;
      spare.at += computed_width(kind, S) * spare.stride;
    }
  });
}

template <class Members>
__device__ __forceinline__ void clear(Members &members, int S) {
  each(members, [&](int, int kind, auto &&values) {
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++) values[k] = REAL(0);
  });
}

/* The numbers of `from`; with LIF_MANY synapses the members stay bound to where they are. */
__device__ __forceinline__ void assign(struct states &to, struct states &from, int S) {
  if constexpr (LIF_SYNAPSES < LIF_MANY) {
    to = from;
    return;
  }
  each(to, [&](int field, int kind, auto &&values) {
    each(from, [&](int other, int, auto &&found) {
      if (other != field) return;
      for (int k = 0; k < computed_width(kind, S); k++) values[k] = found[k];
    });
  });
}

/* One neuron's numbers of each member, from tensors of reals: `absent` where there is no tensor,
 * `silent` beyond the layer's S synapses. */
template <class Members>
__device__ __forceinline__ void read(Members &members, const lif_tensor *tensors, int S, int64_t b,
                                     int64_t n, real absent, real silent) {
  each(members, [&](int field, int kind, auto &&values) {
    const lif_tensor &x = tensors[field];
    const real *at = (const real *)x.data + b * x.b + n * x.n;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      values[k] = k >= lif_width(kind, S) ? silent : x.data ? __ldg(at + k * x.s) : absent;
  });
}

/* The same to tensors of reals, where there are any. */
template <class Members>
__device__ __forceinline__ void write(Members &members, const lif_tensor *tensors, int S, int64_t b,
                                      int64_t n) {
  each(members, [&](int field, int kind, auto &&values) {
    const lif_tensor &x = tensors[field];
    real *at = (real *)x.data + b * x.b + n * x.n;
    if (!x.data) return;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      if (k < lif_width(kind, S)) at[k * x.s] = values[k];
  });
}

/* A checkpoint of the states after the other, to or from memory: an address made anew takes thirty
 * instructions. */
struct checkpoints {
  real *at[STATE_COUNT];

  __device__ __forceinline__ checkpoints(const lif_args &a, int64_t b, int64_t n, int64_t index) {
#pragma unroll
    for (int f = 0; f < STATE_COUNT; f++) {
      const lif_tensor &x = a.checkpoints[f];
      at[f] = x.data ? (real *)x.data + index * x.t + b * x.b + n * x.n : nullptr;
    }
  }
  /* On to the next checkpoint, with direction -1 to the one before. */
  __device__ __forceinline__ void move(const lif_args &a, int direction) {
#pragma unroll
    for (int f = 0; f < STATE_COUNT; f++)
      if (at[f]) at[f] += direction * a.checkpoints[f].t;
  }
  /* To the same checkpoint of another batch item. */
  __device__ __forceinline__ void move_items(const lif_args &a, int64_t items) {
#pragma unroll
    for (int f = 0; f < STATE_COUNT; f++)
      if (at[f]) at[f] += items * a.checkpoints[f].b;
  }
  __device__ __forceinline__ void write(struct states &s, const lif_args &a, int S) const {
    each(s, [&](int field, int kind, auto &&values) {
#pragma unroll
      for (int k = 0; k < computed_width(kind, S); k++)
        if (at[field] && k < lif_width(kind, S)) at[field][k * a.checkpoints[field].s] = values[k];
    });
  }
  __device__ __forceinline__ void read(struct states &s, const lif_args &a, int S,
                                       bool more) const {
    each(s, [&](int field, int kind, auto &&values) {
#pragma unroll
      for (int k = 0; k < computed_width(kind, S); k++) {
        const bool layers = k < lif_width(kind, S); /* not a silent synapse */
        values[k] = at[field] && more && layers ? __ldg(at[field] + k * a.checkpoints[field].s)
                                                : REAL(-0.0);
      }
    });
  }
};

#endif

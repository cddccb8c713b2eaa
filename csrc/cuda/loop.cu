/* The time loop on CUDA. Compiled once for each neuron (NEURON) and storage type (LIF_STORAGE).
 *
 * One thread a neuron of one batch item: its state stays in registers, t is the loop, and neighbouring threads read and
 * write neighbouring neurons. SYN is the number of synapses as a compile-time constant, so that what a neuron keeps a
 * synapse is in registers too; SYN < 0 stands for any number, kept in the workspace in device memory. */
#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "kernels.h"
#include "storage.h"

#define THREADS 64

/* The members a synapse of a view: an array in registers, or a piece of the workspace. */
#define BIND_PER_NEURON(view, name)
#define BIND_OPTIONAL_PER_NEURON(view, name)
#define BIND_PER_SYNAPSE(view, name)                \
  real view##_##name[SYN > 0 ? SYN : 1];            \
  view.name = SYN >= 0 ? view##_##name : workspace; \
  if (SYN < 0) workspace += S;
#define BIND_PER_CURRENT(view, name) BIND_PER_SYNAPSE(view, name)
#define BIND_IN(name, KIND) BIND_##KIND(in, name)
#define BIND_P(name, KIND) BIND_##KIND(p, name)
#define BIND_S(name, KIND) BIND_##KIND(s, name)
#define BIND_G(name, KIND) BIND_##KIND(g, name)
#define BIND_G_IN(name, KIND) BIND_##KIND(g_in, name)
#define BIND_G_P(name, KIND) BIND_##KIND(g_p, name)

/* EACH_<kind>(member, statement): the statement for each value of a member, as `value`, number k. */
#define EACH_PER_NEURON(member, STATEMENT) \
  {                                        \
    real &value = member;                  \
    const int k = 0;                       \
    (void)k;                               \
    STATEMENT                              \
  }
#define EACH_OPTIONAL_PER_NEURON(member, STATEMENT) EACH_PER_NEURON(member, STATEMENT)
#define EACH_PER_SYNAPSE(member, STATEMENT)       \
  _Pragma("unroll") for (int k = 0; k < S; k++) { \
    real &value = member[k];                      \
    STATEMENT                                     \
  }
#define EACH_PER_CURRENT(member, STATEMENT)                     \
  _Pragma("unroll") for (int k = 0; k < (S > 0 ? S : 1); k++) { \
    real &value = member[k];                                    \
    STATEMENT                                                   \
  }

#define READ_INPUT(name, KIND)                                                 \
  {                                                                            \
    const column<stored> from(a.inputs[INPUT_##name], b, n);                   \
    EACH_##KIND(in.name, value = from.at ? unpack(from.read(t, k)) : REAL(0);) \
  }
#define READ_PARAM(name, KIND)                                        \
  {                                                                   \
    const column<real> from(a.params[PARAM_##name], b, n);            \
    EACH_##KIND(p.name, value = from.at ? from.read(0, k) : REAL(0);) \
  }
#define READ_FIRST(name, KIND)                                        \
  {                                                                   \
    const column<real> from(a.first_state[STATE_##name], b, n);       \
    EACH_##KIND(s.name, value = from.at ? from.read(0, k) : REAL(0);) \
  }
#define WRITE_LAST(name, KIND)                               \
  {                                                          \
    const column<real> to(a.last_state[STATE_##name], b, n); \
    if (to.at) EACH_##KIND(s.name, to.write(0, k, value);)   \
  }
#define WRITE_CHECKPOINT(name, KIND)                                    \
  {                                                                     \
    const column<real> to(a.checkpoints[STATE_##name], b, n);           \
    if (to.at) EACH_##KIND(s.name, to.write(interval_index, k, value);) \
  }
#define READ_CHECKPOINT(name, KIND)                                                \
  {                                                                                \
    const column<real> from(a.checkpoints[STATE_##name], b, n);                    \
    EACH_##KIND(s.name, value = from.at ? from.read(interval_index, k) : REAL(0);) \
  }
#define WRITE_RECORD(name, KIND)                                 \
  {                                                              \
    const column<stored> to(a.records[STATE_##name], b, n);      \
    if (to.at) EACH_##KIND(s.name, to.write(t, k, pack(value));) \
  }
#define ADD_GRAD_RECORD(name, KIND)                                     \
  {                                                                     \
    const column<stored> from(a.grad_records[STATE_##name], b, n);      \
    if (from.at) EACH_##KIND(g.name, value += unpack(from.read(t, k));) \
  }
#define READ_GRAD_LAST(name, KIND)                                    \
  {                                                                   \
    const column<real> from(a.grad_last_state[STATE_##name], b, n);   \
    EACH_##KIND(g.name, value = from.at ? from.read(0, k) : REAL(0);) \
  }
#define WRITE_GRAD_FIRST(name, KIND)                               \
  {                                                                \
    const column<real> to(a.grad_first_state[STATE_##name], b, n); \
    if (to.at) EACH_##KIND(g.name, to.write(0, k, value);)         \
  }
#define WRITE_GRAD_INPUT(name, KIND)                                \
  {                                                                 \
    const column<stored> to(a.grad_inputs[INPUT_##name], b, n);     \
    if (to.at) EACH_##KIND(g_in.name, to.write(t, k, pack(value));) \
  }
#define CLEAR_GRAD_PARAM(name, KIND) EACH_##KIND(g_p.name, value = REAL(0);)
#define WRITE_GRAD_PARAM(name, KIND)                          \
  {                                                           \
    const column<real> to(a.grad_params[PARAM_##name], b, n); \
    if (to.at) EACH_##KIND(g_p.name, to.write(0, k, value);)  \
  }
/* The stash: states of the interval being replayed, in shared memory; `slot` counts the values of one step. */
#define STASH(name, KIND) EACH_##KIND(s.name, stash[(step_index * values + slot++) * THREADS + threadIdx.x] = value;)
#define UNSTASH(name, KIND) EACH_##KIND(s.name, value = stash[(step_index * values + slot++) * THREADS + threadIdx.x];)
#define COUNT_VALUES(name, KIND) +(LIF_##KIND == LIF_PER_SYNAPSE ? (SYN > 0 ? SYN : 0) : 1)

enum { WORKSPACE_FIELDS = 2 * (INPUT_COUNT + PARAM_COUNT + STATE_COUNT) };

template <int SYN>
__global__ void __launch_bounds__(THREADS) forward_kernel(const lif_args a) {
  const int64_t id = blockIdx.x * (int64_t)THREADS + threadIdx.x;
  if (id >= a.B * a.N) return;
  const int64_t b = id / a.N, n = id % a.N;
  const int S = SYN >= 0 ? SYN : a.S;
  real *workspace = (real *)a.workspace + (SYN < 0 ? id * WORKSPACE_FIELDS * S : 0);
  (void)workspace; /* not every neuron has fields a synapse */
  struct params p;
  struct states s;
  struct inputs in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_S)
  NEURON_INPUTS(BIND_IN)
  NEURON_PARAMS(READ_PARAM)
  NEURON_STATES(READ_FIRST)
  const column<stored> out(a.out, b, n);
  const int64_t interval = a.checkpoint_interval ? a.checkpoint_interval : a.T;
  int64_t interval_index = 0;
  for (int64_t first = 0; first < a.T; first += interval, interval_index++) {
    NEURON_STATES(WRITE_CHECKPOINT)
    const int64_t end = a.T - first < interval ? a.T : first + interval;
#pragma unroll(SYN < 0 ? 1 : 8)
    for (int64_t t = first; t < end; t++) {
      NEURON_INPUTS(READ_INPUT)
      out.write(t, 0, pack(step(S, &a.options, &p, &s, &in, &s)));
      NEURON_STATES(WRITE_RECORD)
    }
  }
  NEURON_STATES(WRITE_LAST)
}

template <int SYN>
__global__ void __launch_bounds__(THREADS) backward_kernel(const lif_args a) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  real *stash = (real *)shared_memory;
  const int64_t id = blockIdx.x * (int64_t)THREADS + threadIdx.x;
  if (id >= a.B * a.N) return;
  const int64_t b = id / a.N, n = id % a.N;
  const int S = SYN >= 0 ? SYN : a.S;
  real *workspace = (real *)a.workspace + (SYN < 0 ? id * WORKSPACE_FIELDS * S : 0);
  (void)workspace; /* not every neuron has fields a synapse */
  constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
  struct params p, g_p;
  struct states s, g;
  struct inputs in, g_in;
  NEURON_PARAMS(BIND_P)
  NEURON_PARAMS(BIND_G_P)
  NEURON_STATES(BIND_S)
  NEURON_STATES(BIND_G)
  NEURON_INPUTS(BIND_IN)
  NEURON_INPUTS(BIND_G_IN)
  NEURON_PARAMS(READ_PARAM)
  NEURON_PARAMS(CLEAR_GRAD_PARAM)
  NEURON_STATES(READ_GRAD_LAST)
  const column<stored> grad_out(a.grad_out, b, n);
  for (int64_t end = a.T; end > 0;) {
    const int64_t interval_index = (end - 1) / a.checkpoint_interval, first = interval_index * a.checkpoint_interval;
    NEURON_STATES(READ_CHECKPOINT)
    /* Values in the workspace are not stashed: then the interval is 1 and there is nothing to replay. */
    if (SYN >= 0) {
#pragma unroll 4
      for (int64_t t = first; t < end - 1; t++) {
        const int step_index = (int)(t - first);
        int slot = 0;
        NEURON_STATES(STASH)
        NEURON_INPUTS(READ_INPUT)
        step(S, &a.options, &p, &s, &in, &s);
      }
    }
#pragma unroll(SYN < 0 ? 1 : 4)
    for (int64_t t = end - 1; t >= first; t--) {
      if (SYN >= 0 && t < end - 1) {
        const int step_index = (int)(t - first);
        int slot = 0;
        NEURON_STATES(UNSTASH)
      }
      NEURON_INPUTS(READ_INPUT)
      const real g_out = grad_out.at ? unpack(grad_out.read(t, 0)) : REAL(0);
      NEURON_STATES(ADD_GRAD_RECORD)
      step_backward(S, &a.options, &p, &s, &in, g_out, &g, &g, &g_in, &g_p);
      NEURON_INPUTS(WRITE_GRAD_INPUT)
    }
    end = first;
  }
  NEURON_STATES(WRITE_GRAD_FIRST)
  NEURON_PARAMS(WRITE_GRAD_PARAM)
}

static unsigned blocks(const lif_args *a) { return (unsigned)((a->B * a->N + THREADS - 1) / THREADS); }

template <int SYN>
static int launch(const lif_args *a, lif_stream stream, bool backward) {
  if (backward) {
    constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
    const size_t shared = SYN < 0 ? 0 : sizeof(real) * values * THREADS * a->checkpoint_interval;
    backward_kernel<SYN><<<blocks(a), THREADS, shared, stream>>>(*a);
  } else {
    forward_kernel<SYN><<<blocks(a), THREADS, 0, stream>>>(*a);
  }
  return (int)cudaGetLastError();
}

static int launch_any(const lif_args *a, lif_stream stream, bool backward) {
  if (a->B * a->N == 0) return cudaSuccess;
  if (a->S == 0) return launch<0>(a, stream, backward);
#if NEURON_MAX_SYNAPSES != 0
  if (a->S == 1) return launch<1>(a, stream, backward);
#endif
#if NEURON_MAX_SYNAPSES < 0
  if (a->S == 2) return launch<2>(a, stream, backward);
  return launch<-1>(a, stream, backward);
#endif
  return (int)cudaErrorInvalidValue;
}

static int forward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, false); }
static int backward(const lif_args *a, lif_stream stream) { return launch_any(a, stream, true); }

extern "C" const struct lif_cuda_kernels LIF_CUDA_KERNELS(NEURON, LIF_STORAGE) = {forward, backward, WORKSPACE_FIELDS};

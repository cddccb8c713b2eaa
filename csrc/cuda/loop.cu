/* The time loop on CUDA. Compiled once for each neuron (NEURON) and storage type (LIF_STORAGE).
 *
 * One thread a neuron of one batch item: its state stays in registers, t is the loop, and
 * neighbouring threads read and write neighbouring neurons. Sequences come through a ring in shared
 * memory (ring.h), a chunk of steps at a time; a chunk is a checkpoint's interval. SYN is the
 * number of synapses as a compile-time constant, so that what a neuron keeps a synapse is in
 * registers too; SYN < 0 stands for any number, kept in the workspace in device memory. PLAIN
 * kernels read without a ring and save every state: those of any number of synapses, and those of a
 * recurrent layer, of which the op layer launches one a time step, with a matrix product between
 * (csrc/ops/recurrence.cpp).
 *
 * STREAM kernels are for the common case on GPUs of compute capability 8 and later: x alone, rows
 * that can be copied in pieces of 16 bytes (stream.h). With MASK the backward has one bit a step
 * instead of the states. */
#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "../neuron/slope.h"
#include "kernels.h"
#include "ring.h"
#include "storage.h"

/* The members a synapse of a view: an array in registers, or a piece of the workspace. */
#define BIND_PER_NEURON(view, name)
#define BIND_OPTIONAL_PER_NEURON(view, name)
#define BIND_PER_SYNAPSE(view, name)                \
  real view##_##name[SYN > 0 ? SYN : 1];            \
  view.name = SYN >= 0 ? view##_##name : workspace; \
  if (SYN < 0) workspace += S;
#define BIND_PER_CURRENT(view, name) BIND_PER_SYNAPSE(view, name)
#define BIND_RECURRENT(view, name) BIND_PER_SYNAPSE(view, name)
#define BIND_IN(name, KIND) BIND_##KIND(in, name)
#define BIND_P(name, KIND) BIND_##KIND(p, name)
#define BIND_S(name, KIND) BIND_##KIND(s, name)
#define BIND_G(name, KIND) BIND_##KIND(g, name)
#define BIND_G_IN(name, KIND) BIND_##KIND(g_in, name)
#define BIND_G_P(name, KIND) BIND_##KIND(g_p, name)

/* EACH_<kind>(member, statement): the statement for each value of a member, as `value`, number
 * k. */
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
#define EACH_RECURRENT(member, STATEMENT) EACH_PER_CURRENT(member, STATEMENT)

#define READ_INPUT(name, KIND)                                                 \
  {                                                                            \
    const column<stored> from(a.inputs[INPUT_##name], b, n);                   \
    EACH_##KIND(in.name, value = from.at ? unpack(from.read(t, k)) : REAL(0);) \
  }
/* The same through the ring; `field` counts the values of one step, in the same order as
 * FETCH_INPUT put them there. */
#define FETCH_INPUT(name, KIND)                                                \
  {                                                                            \
    const column<stored> from(a.inputs[INPUT_##name], b, n);                   \
    if (from.at)                                                               \
      EACH_##KIND(in.name, (void)value;                                        \
                  ring.fetch(memory, field++, from, k, first_fetched, steps);) \
  }
#define TAKE_INPUT(name, KIND)                                                     \
  {                                                                                \
    const bool given = a.inputs[INPUT_##name].data != nullptr;                     \
    EACH_##KIND(in.name, value = given ? ring.take(memory, u, field++) : REAL(0);) \
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
#define CLEAR_GRAD_PARAM(name, KIND)                                    \
  {                                                                     \
    const column<real> from(a.grad_params[PARAM_##name], b, n);         \
    const bool add = PLAIN && a.add_to_grad_params && from.at;          \
    EACH_##KIND(g_p.name, value = add ? from.at[k * from.s] : REAL(0);) \
  }
#define WRITE_GRAD_PARAM(name, KIND)                          \
  {                                                           \
    const column<real> to(a.grad_params[PARAM_##name], b, n); \
    if (to.at) EACH_##KIND(g_p.name, to.write(0, k, value);)  \
  }
/* The stash: states before each step of the chunk being replayed, but the last, in shared memory;
 * `slot` counts the values of one step. */
#define STASH(name, KIND) EACH_##KIND(s.name, stash[(u * values + slot++) * THREADS] = value;)
#define STREAM_STASH(name, KIND) EACH_##KIND(s.name, stash(slot++ + u * values) = value;)
#define STREAM_UNSTASH(name, KIND) EACH_##KIND(s.name, value = stash(slot++ + u * values);)
#define UNSTASH(name, KIND) EACH_##KIND(s.name, value = stash[(u * values + slot++) * THREADS];)
#define COUNT_VALUES(name, KIND) +(LIF_##KIND == LIF_PER_SYNAPSE ? (SYN > 0 ? SYN : 0) : 1)

/* The recurrent layer's own: what the op layer computes between two launches of one step each. */
#if NEURON_RECURRENT
#define READ_RECURRENT                                                   \
  {                                                                      \
    const column<real> from(a.recurrence.in, b, n);                      \
    EACH_RECURRENT(in.rec, value = from.at ? from.read(t, k) : REAL(0);) \
  }
#define WRITE_SPIKES(spikes)                                \
  {                                                         \
    const column<real> to(a.last_state[STATE_COUNT], b, n); \
    if (to.at) to.write(0, 0, spikes);                      \
  }
#define ADD_GRAD_SPIKES(g_out)                                     \
  {                                                                \
    const column<real> from(a.grad_last_state[STATE_COUNT], b, n); \
    if (from.at) g_out += from.read(0, 0);                         \
  }
#define WRITE_GRAD_RECURRENT                                  \
  {                                                           \
    const column<real> to(a.recurrence.grad_in, b, n);        \
    if (to.at) EACH_RECURRENT(g_in.x, to.write(t, k, value);) \
  }
#else
#define READ_RECURRENT
#define WRITE_SPIKES(spikes)
#define ADD_GRAD_SPIKES(g_out)
#define WRITE_GRAD_RECURRENT
#endif

#define FIELD_KIND(name, KIND) LIF_##KIND,
static const int input_kinds[] = {NEURON_INPUTS(FIELD_KIND)};

enum { WORKSPACE_FIELDS = 2 * (INPUT_COUNT + PARAM_COUNT + STATE_COUNT) };

#if NEURON_MASKABLE
#define STEP_WITH_MASK(word, bit)                        \
  {                                                      \
    int open;                                            \
    result = step_masked(S, &o, &p, &s, &in, &s, &open); \
    if (open) word |= 1u << (bit);                       \
  }
#else
#define STEP_WITH_MASK(word, bit) result = step(S, &o, &p, &s, &in, &s);
#endif

template <int value_>
struct constant {
  enum { value = value_ };
};

#if !NEURON_MASKABLE
__device__ __forceinline__ int neuron_reciprocal_fits(const struct options *,
                                                      const struct params *) {
  return 1;
}
#endif

template <int SYN, bool PLAIN>
__global__ void __launch_bounds__(THREADS) forward_kernel(const lif_args a, ring ring) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  ring.memory = (stored *)shared_memory + threadIdx.x;
  const int64_t id = blockIdx.x * (int64_t)THREADS + threadIdx.x;
  if (id >= a.B * a.N) return;
  const int64_t b = id / a.N, n = id % a.N;
  const int S = SYN >= 0 ? SYN : a.S;
  real *workspace = (real *)a.workspace + (SYN < 0 ? id * WORKSPACE_FIELDS * S : 0);
  (void)workspace; /* not every neuron has fields a synapse */
  const struct options o = in_precision(&a.options);
  struct params p;
  struct states s;
  struct inputs in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_S)
  NEURON_INPUTS(BIND_IN)
  NEURON_PARAMS(READ_PARAM)
  NEURON_STATES(READ_FIRST)
  const column<stored> out(a.out, b, n);
  const column<unsigned> mask(a.mask, b, n);
  unsigned word = 0; /* kept in any case, and written if wanted */
  (void)word;

  if (PLAIN) {
    for (int64_t t = 0; t < a.T; t++) {
      const int64_t interval_index = t;
      NEURON_STATES(WRITE_CHECKPOINT)
      NEURON_INPUTS(READ_INPUT)
      READ_RECURRENT
      const real result = step(S, &o, &p, &s, &in, &s);
      out.write(t, 0, pack(result));
      WRITE_SPIKES(result)
      NEURON_STATES(WRITE_RECORD)
    }
  } else {
    const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
    const auto fetch = [&](int64_t chunk_fetched) {
      stored *const memory = ring.chunk(chunk_fetched);
      const int64_t first_fetched = chunk_fetched * CHUNK;
      const int steps = (int)(a.T - first_fetched < CHUNK ? a.T - first_fetched : CHUNK);
      int field = 0;
      if (chunk_fetched < chunks) { NEURON_INPUTS(FETCH_INPUT) }
      ring.commit();
    };
    for (int c = 0; c + 1 < ring.depth; c++) fetch(c);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      fetch(chunk + ring.depth - 1);
      ring.wait();
      stored *const memory = ring.chunk(chunk);
      const int64_t interval_index = chunk, first = chunk * CHUNK;
      NEURON_STATES(WRITE_CHECKPOINT)
      const int steps = (int)(a.T - first < CHUNK ? a.T - first : CHUNK);
#pragma unroll 4
      for (int u = 0; u < steps; u++) {
        const int64_t t = first + u;
        int field = 0;
        NEURON_INPUTS(TAKE_INPUT)
        real result;
        STEP_WITH_MASK(word, t % LIF_MASK_STEPS)
        out.write(t, 0, pack(result));
        NEURON_STATES(WRITE_RECORD)
      }
      if (mask.at && (chunk + 1 == chunks || (first + CHUNK) % LIF_MASK_STEPS == 0)) {
        mask.write(first / LIF_MASK_STEPS, 0, word);
        word = 0;
      }
    }
  }
  NEURON_STATES(WRITE_LAST)
}

template <int SYN, bool PLAIN>
__global__ void __launch_bounds__(THREADS) backward_kernel(const lif_args a, ring ring) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
  real *stash = (real *)shared_memory + threadIdx.x;
  ring.memory = (stored *)((real *)shared_memory + ring.before) + threadIdx.x;
  const int64_t id = blockIdx.x * (int64_t)THREADS + threadIdx.x;
  if (id >= a.B * a.N) return;
  const int64_t b = id / a.N, n = id % a.N;
  const int S = SYN >= 0 ? SYN : a.S;
  real *workspace = (real *)a.workspace + (SYN < 0 ? id * WORKSPACE_FIELDS * S : 0);
  (void)workspace; /* not every neuron has fields a synapse */
  const struct options o = in_precision(&a.options);
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

  if (PLAIN) {
    for (int64_t t = a.T - 1; t >= 0; t--) {
      const int64_t interval_index = t;
      NEURON_STATES(READ_CHECKPOINT)
      NEURON_INPUTS(READ_INPUT)
      READ_RECURRENT
      real g_out = grad_out.at ? unpack(grad_out.read(t, 0)) : REAL(0);
      ADD_GRAD_SPIKES(g_out)
      NEURON_STATES(ADD_GRAD_RECORD)
      const struct kept kept = keep(S, &o, &p, &s, &in);
      step_backward(S, &o, &p, &kept, &s, &in, slope_of_step(&o, &p, &kept), g_out, &g, &g, &g_in,
                    &g_p);
      NEURON_INPUTS(WRITE_GRAD_INPUT)
      WRITE_GRAD_RECURRENT
    }
  } else {
    /* Chunks are counted from the end: chunk 0 holds the last steps. */
    const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
    const auto fetch = [&](int64_t chunk_fetched) {
      stored *const memory = ring.chunk(chunk_fetched);
      const int64_t first_fetched = (chunks - 1 - chunk_fetched) * CHUNK;
      const int steps = (int)(a.T - first_fetched < CHUNK ? a.T - first_fetched : CHUNK);
      int field = 0;
      if (chunk_fetched < chunks) {
        NEURON_INPUTS(FETCH_INPUT)
        if (grad_out.at) ring.fetch(memory, field++, grad_out, 0, first_fetched, steps);
      }
      ring.commit();
    };
    for (int c = 0; c + 1 < ring.depth; c++) fetch(c);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      fetch(chunk + ring.depth - 1);
      const int64_t interval_index = chunks - 1 - chunk, first = interval_index * CHUNK;
      const int steps = (int)(a.T - first < CHUNK ? a.T - first : CHUNK);
      NEURON_STATES(READ_CHECKPOINT)
      ring.wait();
      stored *const memory = ring.chunk(chunk);
#pragma unroll 4
      for (int u = 0; u + 1 < steps; u++) {
        int slot = 0, field = 0;
        NEURON_STATES(STASH)
        NEURON_INPUTS(TAKE_INPUT)
        step(S, &o, &p, &s, &in, &s);
      }
#pragma unroll 2
      for (int u = steps - 1; u >= 0; u--) {
        const int64_t t = first + u;
        int slot = 0, field = 0;
        if (u + 1 < steps) { NEURON_STATES(UNSTASH) }
        NEURON_INPUTS(TAKE_INPUT)
        const real g_out = grad_out.at ? ring.take(memory, u, field) : REAL(0);
        NEURON_STATES(ADD_GRAD_RECORD)
        const struct kept kept = keep(S, &o, &p, &s, &in);
        step_backward(S, &o, &p, &kept, &s, &in, slope_of_step(&o, &p, &kept), g_out, &g, &g, &g_in,
                      &g_p);
        NEURON_INPUTS(WRITE_GRAD_INPUT)
      }
    }
  }
  NEURON_STATES(WRITE_GRAD_FIRST)
  NEURON_PARAMS(WRITE_GRAD_PARAM)
}

#if NEURON_MASKABLE
/* From the mask alone: any layout and inputs, and with gradients of records. */
template <int SYN>
__global__ void __launch_bounds__(THREADS) masked_backward_kernel(const lif_args a, ring) {
  const int64_t id = blockIdx.x * (int64_t)THREADS + threadIdx.x;
  if (id >= a.B * a.N) return;
  const int64_t b = id / a.N, n = id % a.N;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct params p;
  struct states g;
  struct inputs g_in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_G)
  NEURON_INPUTS(BIND_G_IN)
  NEURON_PARAMS(READ_PARAM)
  NEURON_STATES(READ_GRAD_LAST)
  const column<stored> grad_out(a.grad_out, b, n);
  const column<unsigned> mask(a.mask, b, n);
#pragma unroll 4
  for (int64_t t = a.T - 1; t >= 0; t--) {
    const int open = (int)(mask.read(t / LIF_MASK_STEPS, 0) >> t % LIF_MASK_STEPS & 1u);
    const real g_out = grad_out.at ? unpack(grad_out.read(t, 0)) : REAL(0);
    NEURON_STATES(ADD_GRAD_RECORD)
    step_backward_masked(S, &p, open, g_out, &g, &g, &g_in);
    NEURON_INPUTS(WRITE_GRAD_INPUT)
  }
  NEURON_STATES(WRITE_GRAD_FIRST)
}
#endif

#include "stream_loop.h"

/* Starts a kernel with as deep a ring as it needs and the GPU's shared memory allows. `fields`:
 * values of a time step in the ring; `stashed`: of one in the stash. */
template <class Kernel>
static int start(Kernel kernel, const lif_args *a, lif_stream stream, int fields, int stashed) {
  const struct gpu *gpu = this_gpu();
  if (!gpu) return (int)cudaErrorInvalidDevice;
  cudaError_t error = cudaSuccess;
  const int64_t chunks = (a->T + CHUNK - 1) / CHUNK;
  const int steps = (int)(a->T < CHUNK ? a->T : CHUNK);
  ring ring = {nullptr, 1, fields, steps > 0 ? (steps - 1) * stashed * THREADS : 0};
  const size_t before = sizeof(real) * (size_t)ring.before,
               chunk = sizeof(stored) * THREADS * (size_t)(steps * fields);
  while (ring.depth < DEEPEST && ring.depth < chunks &&
         before + (size_t)(ring.depth + 1) * chunk <= (size_t)gpu->block_shared)
    ring.depth++;
  const size_t shared = before + (size_t)ring.depth * chunk;
  if (shared > 48 * 1024)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
  if (error != cudaSuccess) return (int)error;
  kernel<<<(unsigned)((a->B * a->N + THREADS - 1) / THREADS), THREADS, shared, stream>>>(*a, ring);
  return (int)cudaGetLastError();
}

template <int SYN, bool PLAIN = SYN<0> static int launch(const lif_args *a, lif_stream stream,
                                                         bool backward) {
  constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
  int fields = 0;
  if constexpr ((SYN == 0 || SYN == 1) && LIF_STORAGE != LIF_FLOAT64) {
    if (!PLAIN && can_stream(a, backward)) return launch_stream<SYN>(a, stream, backward);
  }
  if ((a->checkpoint_interval == 1 || a->recurrence.weights) && !PLAIN)
    return launch<SYN, true>(a, stream, backward);
  if (!PLAIN)
    for (int f = 0; f < INPUT_COUNT; f++)
      if (a->inputs[f].data) fields += lif_width(input_kinds[f], a->S);
  if (!backward) return start(forward_kernel<SYN, PLAIN>, a, stream, fields, 0);
#if NEURON_MASKABLE
  if constexpr (SYN >= 0)
    if (a->mask.data) return start(masked_backward_kernel<SYN>, a, stream, 0, 0);
#endif
  if (!PLAIN) fields += a->grad_out.data != nullptr;
  return start(backward_kernel<SYN, PLAIN>, a, stream, fields, PLAIN ? 0 : values);
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

extern "C" const struct lif_cuda_kernels LIF_CUDA_KERNELS(NEURON, LIF_STORAGE) = {forward, backward,
                                                                                  WORKSPACE_FIELDS};

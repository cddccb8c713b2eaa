/* The time loop for the common case on Hopper and later: no input but x was given, and rows are such that bulk copies can take
 * them (stream.h). Included by loop.cu, whose macros it uses. A block walks NEURONS neurons of one batch item, a thread each, and
 * has a warp besides that copies. What a full chunk of steps needs is first lifted into registers, so that the walk itself is
 * straight code. */

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define STREAM_DEVICE 1
#else
#define STREAM_DEVICE 0
#endif

/* What was left out, as constants: adding -0 changes nothing, so the compiler drops it. */
#define LEAVE_OUT_PER_NEURON(member)
#define LEAVE_OUT_PER_SYNAPSE(member)
#define LEAVE_OUT_PER_CURRENT(member)
#define LEAVE_OUT_OPTIONAL_PER_NEURON(member) member = REAL(-0.0);
#define LEAVE_OUT_RECURRENT(member) member[0] = REAL(-0.0);
#define LEAVE_OUT_INPUT(name, KIND) LEAVE_OUT_##KIND(in.name)
#define LEAVE_OUT_PARAM(name, KIND) LEAVE_OUT_##KIND(p.name)
#define OPTIONAL_BIT(name, KIND) | (LIF_##KIND & LIF_OPTIONAL ? 1 << PARAM_##name : 0)

/* x is the first input and the only one, one value a neuron (S < 2). */
#define SET_X(name, KIND) X_##KIND(in.name, INPUT_##name, member = x)
#define GET_G_X(name, KIND) X_##KIND(g_in.name, INPUT_##name, g_x = member)
#define X_PER_NEURON(value, index, STATEMENT) \
  if (index == 0) {                           \
    real &member = value;                     \
    STATEMENT;                                \
  }
#define X_PER_CURRENT(value, index, STATEMENT) X_PER_NEURON(value[0], index, STATEMENT)
#define X_OPTIONAL_PER_NEURON(value, index, STATEMENT)
#define X_RECURRENT(value, index, STATEMENT)

/* The checkpoint of the chunk to come is read while this one is walked. */
#define BIND_AHEAD(name, KIND) BIND_##KIND(ahead, name)
#define READ_AHEAD(name, KIND)                                                                                \
  {                                                                                                           \
    const column<real> from(a.checkpoints[STATE_##name], b, n);                                               \
    EACH_##KIND(ahead.name, value = from.at && interval_ahead >= 0 ? from.read(interval_ahead, k) : REAL(0);) \
  }
#define TAKE_AHEAD(name, KIND) EACH_##KIND(s.name, value = AT_##KIND(ahead.name);)
#define AT_PER_NEURON(member) member
#define AT_OPTIONAL_PER_NEURON(member) member
#define AT_PER_SYNAPSE(member) member[k]

/* The neuron of a walking thread; threads beyond a block's last neuron do that one's work once more. */
template <int NEURONS>
struct place {
  int64_t b, first; /* batch item, the block's first neuron */
  int count, lane;

  __device__ __forceinline__ explicit place(const lif_args &a) {
    const int64_t blocks = (a.N + NEURONS - 1) / NEURONS;
    b = blockIdx.x / blocks;
    first = blockIdx.x % blocks * NEURONS;
    count = (int)(a.N - first < NEURONS ? a.N - first : NEURONS);
    lane = min((int)threadIdx.x, count - 1);
  }
};

/* BARE: no optional parameter was given either. */
template <int SYN, bool MASK, bool BARE, int NEURONS>
__global__ void __launch_bounds__(NEURONS + 32) stream_forward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  stream<NEURONS> ring = {(stored *)shared_memory, &barriers, stages, 1, 0, 0};
  const place<NEURONS> at(a);
  const int64_t b = at.b, n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct options o = in_precision(&a.options);
  o.inputs_given = 1;
  o.smooth = 0;
  if (BARE) o.params_given = 0;
  struct params p;
  struct states s;
  struct inputs in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_S)
  NEURON_INPUTS(BIND_IN)
  ring.open();
  if (threadIdx.x >= NEURONS) {
    const row_source sources[1] = {row_source(a.inputs[0], b, at.first)};
    ring.feed(sources, at.count, a.T, false);
    return;
  }
  NEURON_PARAMS(READ_PARAM)
  NEURON_STATES(READ_FIRST)
  NEURON_INPUTS(LEAVE_OUT_INPUT)
  if (BARE) { NEURON_PARAMS(LEAVE_OUT_PARAM) }
  const column<stored> out(a.out, b, n);
  const column<unsigned> mask(a.mask, b, n);
  const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
  const auto walk = [&](auto usual) {
    o.usual = decltype(usual)::value;
    stored *to = out.at;
    unsigned word = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const int64_t interval_index = chunk, left = a.T - chunk * CHUNK;
      const int shift = chunk % 2 ? CHUNK : 0;
      unsigned bits = 0;
      real result;
      NEURON_STATES(WRITE_CHECKPOINT)
      ring.wait();
      if (left >= CHUNK) {
        real lifted[CHUNK];
#pragma unroll
        for (int u = 0; u < CHUNK; u++) lifted[u] = unpack(ring.row(u, 0)[at.lane]);
        ring.release();
#pragma unroll
        for (int u = 0; u < CHUNK; u++, to += out.t) {
          const real x = lifted[u];
          NEURON_INPUTS(SET_X)
          STEP_WITH_MASK(bits, u)
          __stcs(to, pack(result));
        }
      } else {
        for (int u = 0; u < (int)left; u++, to += out.t) {
          const real x = unpack(ring.row(u, 0)[at.lane]);
          NEURON_INPUTS(SET_X)
          STEP_WITH_MASK(bits, u)
          __stcs(to, pack(result));
        }
        ring.release();
      }
      if (MASK) {
        word |= bits << shift;
        if (shift || chunk + 1 == chunks) {
          mask.write(chunk / 2, 0, word);
          word = 0;
        }
      }
    }
  };
  /* The same for all threads of a warp: they meet in wait() and release(). */
  if (__all_sync(~0u, usual_neuron(&o, &p)))
    walk(constant<1>());
  else
    walk(constant<0>());
  NEURON_STATES(WRITE_LAST)
#else
  (void)a, (void)stages;
#endif
}

#if NEURON_MASKABLE
template <int SYN, int NEURONS>
__global__ void __launch_bounds__(NEURONS + 32) stream_masked_backward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  stream<NEURONS> ring = {(stored *)shared_memory, &barriers, stages, 1, 0, 0};
  const place<NEURONS> at(a);
  const int64_t b = at.b, n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct params p;
  struct states g;
  struct inputs g_in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_G)
  NEURON_INPUTS(BIND_G_IN)
  ring.open();
  if (threadIdx.x >= NEURONS) {
    const row_source sources[1] = {row_source(a.grad_out, b, at.first)};
    ring.feed(sources, at.count, a.T, true);
    return;
  }
  NEURON_PARAMS(READ_PARAM)
  NEURON_STATES(READ_GRAD_LAST)
  const column<unsigned> mask(a.mask, b, n);
  const column<stored> grad_x(a.grad_inputs[0], b, n);
  const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
  const auto word_of = [&](int64_t chunk) { return chunk >= 0 ? mask.read(chunk / 2, 0) : 0u; };
  /* Words are read some chunks ahead of use, for reading one takes as long as walking a chunk. */
  unsigned word = word_of(chunks - 1), next = word_of(chunks - 2), later = word_of(chunks - 3), latest = word_of(chunks - 4);
  stored *to = grad_x.at ? grad_x.at + (a.T - 1) * grad_x.t : nullptr;
  for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
    const int64_t left = a.T - chunk * CHUNK;
    const unsigned bits = word >> (chunk % 2 ? CHUNK : 0), ahead = word_of(chunk - 4);
    real g_x;
    ring.wait();
    if (left >= CHUNK) {
      real lifted[CHUNK];
#pragma unroll
      for (int u = 0; u < CHUNK; u++) lifted[u] = unpack(ring.row(u, 0)[at.lane]);
      ring.release();
#pragma unroll
      for (int u = CHUNK - 1; u >= 0; u--, to -= grad_x.t) {
        step_backward_masked(S, &p, (int)(bits >> u & 1u), lifted[u], &g, &g, &g_in);
        NEURON_INPUTS(GET_G_X)
        if (grad_x.at) __stcs(to, pack(g_x));
      }
    } else {
      for (int u = (int)left - 1; u >= 0; u--, to -= grad_x.t) {
        step_backward_masked(S, &p, (int)(bits >> u & 1u), unpack(ring.row(u, 0)[at.lane]), &g, &g, &g_in);
        NEURON_INPUTS(GET_G_X)
        if (grad_x.at) __stcs(to, pack(g_x));
      }
      ring.release();
    }
    word = next, next = later, later = latest, latest = ahead;
  }
  NEURON_STATES(WRITE_GRAD_FIRST)
#else
  (void)a, (void)stages;
#endif
}
#endif

/* From checkpoints. SURROGATE: its number as a constant, or -1 for any. */
template <int SYN, int SURROGATE, bool BARE, int NEURONS>
__global__ void __launch_bounds__(NEURONS + 32) stream_backward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
  stream<NEURONS> ring = {(stored *)shared_memory, &barriers, stages, 2, 0, 0};
  const place<NEURONS> at(a);
  const int64_t b = at.b, n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct options o = in_precision(&a.options);
  o.inputs_given = 1;
  o.smooth = 0;
  if (BARE) o.params_given = 0;
  if (SURROGATE >= 0) o.surrogate = SURROGATE;
  struct params p, g_p;
  struct states s, g, ahead;
  struct inputs in, g_in;
  NEURON_PARAMS(BIND_P)
  NEURON_PARAMS(BIND_G_P)
  NEURON_STATES(BIND_S)
  NEURON_STATES(BIND_G)
  NEURON_STATES(BIND_AHEAD)
  NEURON_INPUTS(BIND_IN)
  NEURON_INPUTS(BIND_G_IN)
  ring.open();
  if (threadIdx.x >= NEURONS) {
    const row_source sources[2] = {row_source(a.inputs[0], b, at.first), row_source(a.grad_out, b, at.first)};
    ring.feed(sources, at.count, a.T, true);
    return;
  }
  constexpr bool PLAIN = false;
  real *stash = (real *)((stored *)shared_memory + stages * CHUNK * 2 * NEURONS) + threadIdx.x;
  NEURON_PARAMS(READ_PARAM)
  NEURON_PARAMS(CLEAR_GRAD_PARAM)
  NEURON_STATES(READ_GRAD_LAST)
  NEURON_INPUTS(LEAVE_OUT_INPUT)
  if (BARE) { NEURON_PARAMS(LEAVE_OUT_PARAM) }
  const column<stored> grad_x(a.grad_inputs[0], b, n);
  const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
  const auto walk = [&](auto usual) {
    o.usual = decltype(usual)::value;
    stored *to = grad_x.at ? grad_x.at + (a.T - 1) * grad_x.t : nullptr;
    int64_t interval_ahead = chunks - 1;
    NEURON_STATES(READ_AHEAD)
    for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
      const int steps = (int)min((int64_t)CHUNK, a.T - chunk * CHUNK);
      NEURON_STATES(TAKE_AHEAD)
      interval_ahead = chunk - 1;
      NEURON_STATES(READ_AHEAD)
      ring.wait();
#pragma unroll 4
      for (int u = 0; u + 1 < steps; u++) {
        int slot = 0;
        NEURON_STATES(STREAM_STASH)
        const real x = unpack(ring.row(u, 0)[at.lane]);
        NEURON_INPUTS(SET_X)
        step(S, &o, &p, &s, &in, &s);
      }
#pragma unroll 4
      for (int u = steps - 1; u >= 0; u--, to -= grad_x.t) {
        int slot = 0;
        if (u + 1 < steps) { NEURON_STATES(STREAM_UNSTASH) }
        const real x = unpack(ring.row(u, 0)[at.lane]), g_out = unpack(ring.row(u, 1)[at.lane]);
        real g_x;
        NEURON_INPUTS(SET_X)
        step_backward(S, &o, &p, &s, &in, g_out, &g, &g, &g_in, &g_p);
        NEURON_INPUTS(GET_G_X)
        if (grad_x.at) __stcs(to, pack(g_x));
      }
      ring.release();
    }
  };
  if (__all_sync(~0u, usual_neuron(&o, &p)))
    walk(constant<1>());
  else
    walk(constant<0>());
  NEURON_STATES(WRITE_GRAD_FIRST)
  NEURON_PARAMS(WRITE_GRAD_PARAM)
#else
  (void)a, (void)stages;
#endif
}

/* Whether rows of a block's neurons are dense, and aligned as bulk copies want them. */
static bool row_can_stream(const struct lif_tensor *x, int64_t N) {
  const int64_t each = 16 / (int64_t)sizeof(stored);
  return x->data && (uintptr_t)x->data % 16 == 0 && x->n == 1 && x->t % each == 0 && x->b % each == 0 && N % each == 0;
}

/* Whether these kernels can do it: x alone, no records, a GPU that copies rows in bulk. */
static bool can_stream(const struct lif_args *a, bool backward) {
  if (a->options.smooth || a->options.inputs_given != 1 || a->recurrence.weights) return false;
  if (a->checkpoint_interval == 1) return false;
  for (int f = 0; f < STATE_COUNT; f++)
    if (a->records[f].data || a->grad_records[f].data) return false;
  if (!(backward && a->mask.data) && !row_can_stream(&a->inputs[0], a->N)) return false;
  if (backward && !row_can_stream(&a->grad_out, a->N)) return false;
  int device, major;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

/* `reals`: what a thread keeps in shared memory besides. */
template <int NEURONS, class Kernel>
static int start_stream(Kernel kernel, const lif_args *a, lif_stream on, int fields, int reals) {
  const int64_t blocks = a->B * ((a->N + NEURONS - 1) / NEURONS);
  /* With few blocks a long ring hides the way to memory; with many, other blocks do. */
  const int stages = blocks > 1024 ? 4 / fields + 1 : MOST_STAGES / fields;
  const size_t shared = (sizeof(stored) * CHUNK * (size_t)(stages * fields) + sizeof(real) * (size_t)reals) * NEURONS;
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess) return (int)error;
  }
  kernel<<<(unsigned)blocks, NEURONS + 32, shared, on>>>(*a, stages);
  return (int)cudaGetLastError();
}

template <int SYN, bool BARE, int NEURONS>
static int launch_stream(const lif_args *a, lif_stream on, bool backward) {
  constexpr int values = 0 NEURON_STATES(COUNT_VALUES);
#if NEURON_MASKABLE
  if (a->mask.data && !backward) return start_stream<NEURONS>(stream_forward_kernel<SYN, true, BARE, NEURONS>, a, on, 1, 0);
  if (a->mask.data) return start_stream<NEURONS>(stream_masked_backward_kernel<SYN, NEURONS>, a, on, 1, 0);
#endif
  if (!backward) return start_stream<NEURONS>(stream_forward_kernel<SYN, false, BARE, NEURONS>, a, on, 1, 0);
  if (NEURON_SPIKING && a->options.surrogate != NEURON_DEFAULT_SURROGATE)
    return start_stream<NEURONS>(stream_backward_kernel<SYN, -1, BARE, NEURONS>, a, on, 2, STASHED * values);
  return start_stream<NEURONS>(stream_backward_kernel<SYN, NEURON_DEFAULT_SURROGATE, BARE, NEURONS>, a, on, 2, STASHED * values);
}

template <int SYN>
static int launch_stream(const lif_args *a, lif_stream on, bool backward) {
  /* Wide rows make better use of memory, narrow ones spread few neurons over the GPU. */
  const bool many = a->B * a->N >= 256 * 1024;
#if NEURON_MASKABLE /* adding what was left out would be in the way of its chain of operations; the others hardly notice */
  if (!(a->options.params_given & (0 NEURON_PARAMS(OPTIONAL_BIT))))
    return many ? launch_stream<SYN, true, 128>(a, on, backward) : launch_stream<SYN, true, 64>(a, on, backward);
#endif
  return many ? launch_stream<SYN, false, 128>(a, on, backward) : launch_stream<SYN, false, 64>(a, on, backward);
}

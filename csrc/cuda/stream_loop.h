/* The time loop for the common case: no input but x was given, and rows are such that they can be
 * copied in pieces (stream.h). Included by loop.cu, whose macros it uses. A block walks NEURONS
 * neurons of one batch item, a thread each, and has a warp besides that copies. What a full chunk
 * of steps needs is first lifted into registers, so that the walk itself is straight code. */

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define STREAM_DEVICE 1
#else
#define STREAM_DEVICE 0
#endif

/* What is left out in the common case, as constants: adding -0 changes nothing, so the compiler
 * drops it. */
#define LEAVE_OUT_PER_NEURON(member)
#define LEAVE_OUT_PER_SYNAPSE(member)
#define LEAVE_OUT_PER_CURRENT(member)
#define LEAVE_OUT_OPTIONAL_PER_NEURON(member) member = REAL(-0.0);
#define LEAVE_OUT_RECURRENT(member) member[0] = REAL(-0.0);
#define LEAVE_OUT_INPUT(name, KIND) LEAVE_OUT_##KIND(in.name)

/* Whether a launch can be anything but the common case (NEURON_COMMON). */
#define COUNT_OPTION(name, constant) +1
#define COUNT_PARAM(name) +1
enum { CAN_BE_UNCOMMON = 0 NEURON_COMMON(COUNT_OPTION, COUNT_PARAM) };

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

/* One value of a state: S < 2. The checkpoint of the chunk to come is read while this one is
 * walked. */
#define FIRST_CHECKPOINT(name, KIND) \
  checkpoint checkpoint_##name(a.checkpoints[STATE_##name], b, n, 0);
#define WRITE_AND_MOVE(name, KIND)                                             \
  EACH_##KIND(s.name, checkpoint_##name.write(value);) checkpoint_##name.at += \
      a.checkpoints[STATE_##name].t;
#define BIND_AHEAD(name, KIND) BIND_##KIND(ahead, name)
#define LAST_CHECKPOINT(name, KIND) \
  checkpoint checkpoint_##name(a.checkpoints[STATE_##name], at.b, n, chunks - 1);
#define READ_AHEAD(name, KIND) EACH_##KIND(ahead.name, value = checkpoint_##name.read(more);)
#define MOVE_AHEAD(name, KIND) \
  checkpoint_##name.at +=      \
      LAYOUT == SHORT ? at.apart * a.checkpoints[STATE_##name].b : -a.checkpoints[STATE_##name].t;
#define TAKE_AHEAD(name, KIND) EACH_##KIND(s.name, value = AT_##KIND(ahead.name);)
#define AT_PER_NEURON(member) member
#define AT_OPTIONAL_PER_NEURON(member) member
#define AT_PER_SYNAPSE(member) member[k]

/* How neurons are laid out over blocks. SHORT is WIDE for sequences of up to SHORT_STEPS steps:
 * what goes before a sequence would take longer than the sequence, so a block takes several batch
 * items, one after another; while it walks one the next are copied.
 * */
enum layout { NARROW, WIDE, SHORT };
enum { SHORT_STEPS = 8 };
template <int LAYOUT>
struct width {
  enum { NEURONS = LAYOUT == NARROW ? 64 : 128 };
};

/* The neuron of a walking thread; threads of the last warp beyond the last neuron do that one's
 * work once more. */
template <int LAYOUT>
struct place {
  int64_t b, end,
      first; /* first batch item, and the end of those to take; the block's first neuron */
  int apart, count, walking,
      lane; /* neurons of the block; threads that walk, whole warps of them */

  __device__ __forceinline__ explicit place(const lif_args &a) {
    enum { NEURONS = width<LAYOUT>::NEURONS };
    const unsigned blocks = (unsigned)((a.N + NEURONS - 1) / NEURONS);
    b = blockIdx.x / blocks;
    end = LAYOUT == SHORT ? a.B : b + 1;
    apart = LAYOUT == SHORT ? gridDim.x / blocks : 1;
    first = (int64_t)(blockIdx.x % blocks) * NEURONS;
    count = (int)(a.N - first < NEURONS ? a.N - first : NEURONS);
    walking = (count + 31) / 32 * 32;
    lane = min((int)threadIdx.x, count - 1);
  }
};

/* Time steps of a chunk. Few neurons wait for their own chain of operations, which a longer chunk
 * interrupts less often; many for memory, and then short chunks let more blocks share a
 * multiprocessor. Checkpoints are a chunk apart. */
template <bool MASK, int LAYOUT>
struct chunk_of {
  enum { STEPS = MASK && LAYOUT == NARROW ? (int)LIF_MASK_STEPS : (int)CHUNK };
};

/* COMMON: the neuron's common case. MASK: with the mask, in place of checkpoints. */
template <int SYN, bool MASK, bool COMMON, int LAYOUT>
__global__ void __launch_bounds__(width<LAYOUT>::NEURONS + 32)
    stream_forward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
  constexpr int STEPS = chunk_of<MASK, LAYOUT>::STEPS;
  stream<NEURONS, STEPS, 1> ring = {
      shared_memory, &barriers, stages, ring.bytes_of_stage(a.T), 0, 0};
  const place<LAYOUT> at(a);
  const int64_t n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct options o = in_precision(&a.options);
  o.inputs_given = 1;
  o.smooth = 0;
  if (COMMON) { NEURON_COMMON(SET_COMMON_OPTION, SET_NOT_GIVEN) }
  struct params p;
  struct states s;
  struct inputs in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_S)
  NEURON_INPUTS(BIND_IN)
  ring.open(at.walking);
  if (threadIdx.x >= NEURONS) {
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      const row_source sources[1] = {row_source(a.inputs[0], b, at.first)};
      ring.feed(sources, column<unsigned>({}, 0, 0), at.count, a.T, false);
    }
    return;
  }
  if (threadIdx.x >= at.walking) return;
  {
    const int64_t b = at.b;
    NEURON_PARAMS(READ_PARAM)
  }
  NEURON_INPUTS(LEAVE_OUT_INPUT)
  if (COMMON) { NEURON_COMMON(IGNORE_OPTION, SET_LEFT_OUT) }
  const auto walk = [&](auto fits) {
    o.reciprocal_fits = decltype(fits)::value;
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      NEURON_STATES(READ_FIRST)
      row_target out(a.out, b, n, 0, false);
      unsigned *words = column<unsigned>(a.mask, b, n).at, word = 0;
      int first = 0; /* step of the mask's word */
      NEURON_STATES(FIRST_CHECKPOINT)
      for (int64_t left = a.T; left > 0; left -= STEPS) {
        unsigned bits = 0;
        real result;
        NEURON_STATES(WRITE_AND_MOVE)
        ring.wait();
        if (LAYOUT != SHORT && left >= STEPS) {
          real lifted[STEPS];
#pragma unroll
          for (int u = 0; u < STEPS; u++) lifted[u] = unpack(ring.row(u, 0)[at.lane]);
          ring.release();
#pragma unroll
          for (int u = 0; u < STEPS; u++) {
            const real x = lifted[u];
            NEURON_INPUTS(SET_X)
            STEP_WITH_MASK(bits, u)
            out.put(result);
          }
        } else {
#pragma unroll 4
          for (int u = 0; u < (int)left; u++) {
            const real x = unpack(ring.row(u, 0)[at.lane]);
            NEURON_INPUTS(SET_X)
            STEP_WITH_MASK(bits, u)
            out.put(result);
          }
          ring.release();
        }
        if (MASK) {
          word |= bits << first;
          first += STEPS;
          if (first == LIF_MASK_STEPS || left <= STEPS) {
            *words = word;
            words += a.mask.t;
            word = first = 0;
          }
        }
      }
      NEURON_STATES(WRITE_LAST)
    }
  };
  /* The same for all threads of a warp, so that they walk together. */
#if NEURON_MASKABLE
  if (!__all_sync(~0u, neuron_reciprocal_fits(&o, &p)))
    walk(constant<0>());
  else
#endif
    walk(constant<1>());
#else
  (void)a, (void)stages;
#endif
}

#if NEURON_MASKABLE
template <int SYN, int LAYOUT>
__global__ void __launch_bounds__(width<LAYOUT>::NEURONS + 32)
    stream_masked_backward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
  constexpr int STEPS = chunk_of<true, LAYOUT>::STEPS;
  stream<NEURONS, STEPS, 1, true> ring = {
      shared_memory, &barriers, stages, ring.bytes_of_stage(a.T), 0, 0};
  const place<LAYOUT> at(a);
  const int64_t n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct params p;
  struct states g;
  struct inputs g_in;
  NEURON_PARAMS(BIND_P)
  NEURON_STATES(BIND_G)
  NEURON_INPUTS(BIND_G_IN)
  ring.open(at.walking);
  if (threadIdx.x >= NEURONS) {
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      const row_source sources[1] = {row_source(a.grad_out, b, at.first)};
      ring.feed(sources, column<unsigned>(a.mask, b, at.first), at.count, a.T, true);
    }
    return;
  }
  if (threadIdx.x >= at.walking) return;
  {
    const int64_t b = at.b;
    NEURON_PARAMS(READ_PARAM)
  }
  const int64_t chunks = (a.T + STEPS - 1) / STEPS;
  for (int64_t b = at.b; b < at.end; b += at.apart) {
    NEURON_STATES(READ_GRAD_LAST)
    row_target grad_x(a.grad_inputs[0], b, n, a.T - 1, true);
    for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
      const int64_t left = a.T - chunk * STEPS;
      const int first = (int)(chunk % (LIF_MASK_STEPS / STEPS)) * STEPS;
      real g_x;
      ring.wait();
      const unsigned bits = ring.mask_row()[at.lane] >> first;
      if (LAYOUT != SHORT && left >= STEPS) {
        real lifted[STEPS];
#pragma unroll
        for (int u = 0; u < STEPS; u++) lifted[u] = unpack(ring.row(u, 0)[at.lane]);
        ring.release();
#pragma unroll
        for (int u = STEPS - 1; u >= 0; u--) {
          step_backward_masked(S, &p, (int)(bits >> u & 1u), lifted[u], &g, &g, &g_in);
          NEURON_INPUTS(GET_G_X)
          grad_x.put(g_x);
        }
      } else {
#pragma unroll 4
        for (int u = (int)left - 1; u >= 0; u--) {
          step_backward_masked(S, &p, (int)(bits >> u & 1u), unpack(ring.row(u, 0)[at.lane]), &g,
                               &g, &g_in);
          NEURON_INPUTS(GET_G_X)
          grad_x.put(g_x);
        }
        ring.release();
      }
    }
    NEURON_STATES(WRITE_GRAD_FIRST)
  }
#else
  (void)a, (void)stages;
#endif
}
#endif

enum {
  ANY = -2,
  GROUP = 5 /* steps whose slopes are taken together: one switch for all of them, and none waits for
               another */
};
static_assert((CHUNK - 1) % GROUP == 0, "a chunk is its last step and whole groups");

__device__ __forceinline__ void take_slopes(const struct options &o,
                                            const struct point (&points)[GROUP],
                                            struct slope (&slopes)[GROUP]) {
#define LIF_CASE(name, class_name, params, window)                                           \
  case LIF_SURROGATE_##name:                                                                 \
    _Pragma("unroll") for (int u = 0; u < GROUP; u++) slopes[u] =                            \
        name##_slope(points[u], o.surrogate_params, o.per_surrogate_param, most_spikes(&o)); \
    break;
  switch (o.surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
}

/* Of a step of the chunk being replayed: with gradients of parameters the states before it,
 * otherwise what is kept of it. In registers where they suffice, which spares four instructions a
 * step and the loops' own; otherwise in shared memory. */
#define STASH_KEPT(name) stash(slot++ + u * values) = kept.name;
#define UNSTASH_KEPT(name) kept.name = stash(slot++ + u * values);
template <int SYN, bool GRADIENTS>
struct stashed {
  enum {
    VALUES = GRADIENTS ? (0 NEURON_STATES(COUNT_VALUES)) : NEURON_KEEPS,
    FIELDS = VALUES > 0
        ? 2
        : 1, /* sequences read: the output's gradient, and x unless nothing of it is needed */
    REGISTERS = (CHUNK - 1) * VALUES + (GRADIENTS ? 2 * PARAM_COUNT : 0),
    IN_REGISTERS =
            REGISTERS <= 40 /* of the 96 that leave room for four blocks on a multiprocessor */
  };
};

/* From checkpoints. SURROGATE: its number as a constant, or ANY. GRADIENTS: of parameters too. */
template <int SYN, int SURROGATE, bool GRADIENTS, bool COMMON, int LAYOUT>
__global__ void __launch_bounds__(width<LAYOUT>::NEURONS + 32, LAYOUT == NARROW ? 1 : 4)
    stream_backward_kernel(const __grid_constant__ lif_args a, int stages) {
#if STREAM_DEVICE
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ stage_barriers barriers;
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
  constexpr int values = stashed<SYN, GRADIENTS>::VALUES, FIELDS = stashed<SYN, GRADIENTS>::FIELDS;
  stream<NEURONS, CHUNK, FIELDS> ring = {
      shared_memory, &barriers, stages, ring.bytes_of_stage(a.T), 0, 0};
  const place<LAYOUT> at(a);
  const int64_t n = at.first + at.lane;
  constexpr int S = SYN;
  real *workspace = nullptr;
  (void)workspace;
  struct options o = in_precision(&a.options);
  o.inputs_given = 1;
  o.smooth = 0;
  if (COMMON) { NEURON_COMMON(SET_COMMON_OPTION, SET_NOT_GIVEN) }
  if (SURROGATE != ANY) o.surrogate = SURROGATE;
  o.param_gradients = GRADIENTS;
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
  ring.open(at.walking);
  if (threadIdx.x >= NEURONS) {
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      const row_source g_out(a.grad_out, b, at.first),
          x = FIELDS > 1 ? row_source(a.inputs[0], b, at.first) : g_out;
      const row_source sources[2] = {g_out, x};
      ring.feed(sources, column<unsigned>({}, 0, 0), at.count, a.T, true);
    }
    return;
  }
  constexpr bool PLAIN = false;
  real *shared = (real *)(shared_memory + stages * ring.stage_bytes) + threadIdx.x;
  const auto in_memory = [&](int k) -> real & { return shared[k * NEURONS]; };
  if (threadIdx.x >= at.walking) return;
  {
    const int64_t b = at.b;
    NEURON_PARAMS(READ_PARAM)
  }
  NEURON_INPUTS(LEAVE_OUT_INPUT)
  if (COMMON) { NEURON_COMMON(IGNORE_OPTION, SET_LEFT_OUT) }
  const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
  const auto walk = [&](auto fits) {
    o.reciprocal_fits = decltype(fits)::value;
    int64_t b_ahead = at.b;
    bool more = chunks > 0;
    NEURON_STATES(LAST_CHECKPOINT)
    NEURON_STATES(READ_AHEAD)
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      NEURON_PARAMS(CLEAR_GRAD_PARAM)
      NEURON_STATES(READ_GRAD_LAST)
      row_target grad_x(a.grad_inputs[0], b, n, a.T - 1, true);
      for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
        const int steps = (int)min((int64_t)CHUNK, a.T - chunk * CHUNK);
        NEURON_STATES(TAKE_AHEAD)
        if (LAYOUT == SHORT) {
          b_ahead += at.apart;
          more = b_ahead < at.end;
        } else {
          more = chunk > 0;
        }
        NEURON_STATES(MOVE_AHEAD)
        NEURON_STATES(READ_AHEAD)
        ring.wait();
        const auto take_x = [&](int u) {
          const real x = FIELDS > 1 ? unpack(ring.row(u, FIELDS - 1)[at.lane]) : REAL(0);
          NEURON_INPUTS(SET_X)
        };
        const auto replay = [&](int u, const auto &stash) {
          int slot = 0;
          take_x(u);
          if constexpr (GRADIENTS) {
            NEURON_STATES(STREAM_STASH)
          } else {
            const struct kept kept = keep(S, &o, &p, &s, &in);
            NEURON_KEPT(STASH_KEPT)
          }
          (void)slot;
          step(S, &o, &p, &s, &in, &s);
        };
        const auto recall = [&](int u, const auto &stash) {
          int slot = 0;
          struct kept kept;
          if constexpr (GRADIENTS) {
            NEURON_STATES(STREAM_UNSTASH)
            take_x(u);
            kept = keep(S, &o, &p, &s, &in);
          } else {
            NEURON_KEPT(UNSTASH_KEPT)
          }
          (void)slot;
          return kept;
        };
        const auto last = [&](int u) {
          take_x(u);
          return keep(S, &o, &p, &s, &in);
        };
        const auto back = [&](int u, const struct kept &kept, struct slope spike) {
          const real g_out = unpack(ring.row(u, 0)[at.lane]);
          real g_x;
          step_backward(S, &o, &p, &kept, &s, &in, spike, g_out, &g, &g, &g_in, &g_p);
          NEURON_INPUTS(GET_G_X)
          grad_x.put(g_x);
        };
        if (LAYOUT != SHORT && o.reciprocal_fits && steps == CHUNK) {
          if constexpr (SURROGATE != ANY && stashed<SYN, GRADIENTS>::IN_REGISTERS) {
            real registers[(CHUNK - 1) * values + 1];
            const auto in_registers = [&](int k) -> real & { return registers[k]; };
#pragma unroll
            for (int u = 0; u + 1 < CHUNK; u++) replay(u, in_registers);
#pragma unroll
            for (int u = CHUNK - 1; u >= 0; u--) {
              const struct kept kept = u + 1 < CHUNK ? recall(u, in_registers) : last(u);
              back(u, kept, slope_of_step(&o, &p, &kept));
            }
          } else {
#pragma unroll 5
            for (int u = 0; u + 1 < CHUNK; u++) replay(u, in_memory);
            const struct kept at_end = last(CHUNK - 1);
            back(CHUNK - 1, at_end, slope_of_step(&o, &p, &at_end));
#pragma unroll 1
            for (int group = CHUNK - 1 - GROUP; group >= 0; group -= GROUP) {
              if constexpr (SURROGATE != ANY) {
#pragma unroll
                for (int u = GROUP - 1; u >= 0; u--) {
                  const struct kept kept = recall(group + u, in_memory);
                  back(group + u, kept, slope_of_step(&o, &p, &kept));
                }
              } else {
                struct kept kept[GROUP];
                struct point points[GROUP];
                struct slope slopes[GROUP];
#pragma unroll
                for (int u = 0; u < GROUP; u++) {
                  kept[u] = recall(group + u, in_memory);
                  points[u] = spike_point(&p, &kept[u]);
                }
                take_slopes(o, points, slopes);
#pragma unroll
                for (int u = GROUP - 1; u >= 0; u--) {
                  if (GRADIENTS) recall(group + u, in_memory); /* the state and x */
                  back(group + u, kept[u], slopes[u]);
                }
              }
            }
          }
        } else {
#pragma unroll 1
          for (int u = 0; u + 1 < steps; u++) replay(u, in_memory);
#pragma unroll 1
          for (int u = steps - 1; u >= 0; u--) {
            const struct kept kept = u + 1 < steps ? recall(u, in_memory) : last(u);
            back(u, kept, slope_of_step(&o, &p, &kept));
          }
        }
        ring.release();
      }
      NEURON_STATES(WRITE_GRAD_FIRST)
      NEURON_PARAMS(WRITE_GRAD_PARAM)
    }
  };
#if NEURON_MASKABLE
  if (!__all_sync(~0u, neuron_reciprocal_fits(&o, &p)))
    walk(constant<0>());
  else
#endif
    walk(constant<1>());
#else
  (void)a, (void)stages;
#endif
}

/* Whether rows of a block's neurons are dense, and aligned as bulk copies want them. */
static bool row_can_stream(const struct lif_tensor *x, size_t element, int64_t N) {
  const int64_t each = 16 / (int64_t)element;
  return x->data && (uintptr_t)x->data % 16 == 0 && x->n == 1 && x->t % each == 0 &&
         x->b % each == 0 && N % each == 0;
}

/* Whether these kernels can do it: x alone, no records, a GPU with asynchronous copies. */
static bool can_stream(const struct lif_args *a, bool backward) {
  if (a->options.smooth || a->options.inputs_given != 1 || a->recurrence.weights) return false;
  if (a->checkpoint_interval == 1) return false;
  for (int f = 0; f < STATE_COUNT; f++)
    if (a->records[f].data || a->grad_records[f].data) return false;
  const bool masked_backward = backward && a->mask.data;
  const bool reads_x =
      !backward || (!masked_backward && (NEURON_KEEPS || a->options.param_gradients));
  if (reads_x && !row_can_stream(&a->inputs[0], sizeof(stored), a->N)) return false;
  if (backward && !row_can_stream(&a->grad_out, sizeof(stored), a->N)) return false;
  if (masked_backward && !row_can_stream(&a->mask, sizeof(unsigned), a->N)) return false;
  const struct gpu *gpu = this_gpu();
  return gpu && gpu->major >= 8;
}

/* How a kernel's blocks share a multiprocessor. */
struct sharing {
  int resident; /* blocks at once */
  int stages;   /* of each block's ring */
  int shared;   /* bytes of shared memory of each block */
};

/* Enough copies under way to hide the way to memory, but no more: each block reads and writes rows
 * of its own, and an H200 moves fewer bytes a second the more rows it is to serve at once (T 500, B
 * 16, N 16384: 3.75 TB/s with 12 blocks of 128 neurons on a multiprocessor, or 4 of deep rings; 3.9
 * TB/s with 4 of two stages). Blocks beyond that are kept off by shared memory that nobody uses.
 * Short sequences need more of them, to hide what goes before and after a sequence. */
static struct sharing share(const struct gpu *gpu, int64_t T, int64_t blocks, int neurons,
                            int stage, int fixed) {
  const int64_t each = (blocks + gpu->multiprocessors - 1) / gpu->multiprocessors;
  const int most = (T <= 2 * CHUNK ? SHORT_NEURONS : RESIDENT_NEURONS) / neurons;
  int resident = (int)(each < most ? each : most), stages, room;
  for (;; resident--) {
    room = gpu->shared_memory / resident - gpu->reserved;
    if (room > gpu->block_shared) room = gpu->block_shared;
    room -= 2 * (int)sizeof(stage_barriers); /* they, and what aligns them */
    stages = IN_FLIGHT / (resident * stage);
    if (stages > MOST_STAGES) stages = MOST_STAGES;
    if (stages < LEAST_STAGES) stages = LEAST_STAGES;
    if (resident == 1 || stages * stage + fixed <= room) break;
  }
  const int kept_off = gpu->shared_memory / (resident + 1), needed = stages * stage + fixed;
  return {resident, stages, needed > kept_off ? needed : kept_off < room ? kept_off : room};
}

/* `reals`: what a thread keeps in shared memory besides. */
template <auto kernel, int LAYOUT, class Stream>
static int start_stream(const lif_args *a, lif_stream on, int reals) {
  static std::atomic<bool> allowed[MOST_GPUS]; /* all the shared memory there is */
  const int device = gpu_number();
  const struct gpu *gpu = this_gpu();
  if (!allowed[device].load(std::memory_order_relaxed)) {
    const int most = gpu->block_shared - (int)sizeof(stage_barriers);
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    if (error != cudaSuccess) return (int)error;
    allowed[device].store(true, std::memory_order_relaxed);
  }
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
  const int64_t rows = (a->N + NEURONS - 1) / NEURONS;
  const struct sharing sharing =
      share(gpu, a->T, a->B * rows, NEURONS, Stream::bytes_of_stage(a->T),
            reals * NEURONS * (int)sizeof(real));
  /* Of short sequences each block takes as many as leave the GPU full. */
  const int64_t full = ((int64_t)sharing.resident * gpu->multiprocessors + rows - 1) / rows;
  const int64_t items = LAYOUT == SHORT && full < a->B ? full : a->B;
  kernel<<<(unsigned)(items * rows), NEURONS + 32, (size_t)sharing.shared, on>>>(*a,
                                                                                 sharing.stages);
  return (int)cudaGetLastError();
}

template <int SYN, int SURROGATE, bool COMMON, int LAYOUT>
static int start_stream_backward(const lif_args *a, lif_stream on) {
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
  using with = stashed<SYN, true>;
  using without = stashed<SYN, false>;
  constexpr int steps = (LAYOUT == SHORT ? (int)SHORT_STEPS : (int)CHUNK) - 1;
  if (a->options.param_gradients)
    return start_stream<stream_backward_kernel<SYN, SURROGATE, true, COMMON, LAYOUT>, LAYOUT,
                        stream<NEURONS, CHUNK, with::FIELDS>>(a, on, steps * with::VALUES);
  return start_stream<stream_backward_kernel<SYN, SURROGATE, false, COMMON, LAYOUT>, LAYOUT,
                      stream<NEURONS, CHUNK, without::FIELDS>>(a, on, steps * without::VALUES);
}

template <int SYN, bool COMMON, int LAYOUT>
static int launch_stream(const lif_args *a, lif_stream on, bool backward) {
  constexpr int NEURONS = width<LAYOUT>::NEURONS;
#if NEURON_MASKABLE
  constexpr int STEPS = chunk_of<true, LAYOUT>::STEPS;
  if (a->mask.data && !backward)
    return start_stream<stream_forward_kernel<SYN, true, COMMON, LAYOUT>, LAYOUT,
                        stream<NEURONS, STEPS, 1>>(a, on, 0);
  if (a->mask.data)
    return start_stream<stream_masked_backward_kernel<SYN, LAYOUT>, LAYOUT,
                        stream<NEURONS, STEPS, 1, true>>(a, on, 0);
#endif
  if (!backward)
    return start_stream<stream_forward_kernel<SYN, false, COMMON, LAYOUT>, LAYOUT,
                        stream<NEURONS, CHUNK, 1>>(a, on, 0);
  if constexpr (COMMON) {
    constexpr int LIBRARY = NEURON_LIBRARY_SURROGATE,
                  DEFAULT = NEURON_SPIKING ? LIF_DEFAULT_SURROGATE : LIBRARY,
                  STEP_PWL = NEURON_SPIKING ? LIF_SURROGATE_step_pwl : LIBRARY;
    if (a->options.surrogate == LIBRARY)
      return start_stream_backward<SYN, LIBRARY, true, LAYOUT>(a, on);
    if (a->options.surrogate == DEFAULT)
      return start_stream_backward<SYN, DEFAULT, true, LAYOUT>(a, on);
    if (a->options.surrogate == STEP_PWL)
      return start_stream_backward<SYN, STEP_PWL, true, LAYOUT>(a, on);
  }
  /* What does not spike has no surrogate, and no slope to switch to. */
  constexpr int SURROGATE = NEURON_SPIKING ? (int)ANY : NEURON_LIBRARY_SURROGATE;
  return start_stream_backward<SYN, SURROGATE, false, LAYOUT>(a, on);
}

template <int SYN, bool COMMON>
static int launch_stream(const lif_args *a, lif_stream on, bool backward) {
  /* Wide rows make better use of memory, narrow ones spread few neurons over the GPU. */
  if (a->B * ((a->N + 127) / 128) < 2 * this_gpu()->multiprocessors)
    return launch_stream<SYN, COMMON, NARROW>(a, on, backward);
  if (a->T > 0 && a->T <= SHORT_STEPS) return launch_stream<SYN, COMMON, SHORT>(a, on, backward);
  return launch_stream<SYN, COMMON, WIDE>(a, on, backward);
}

template <int SYN>
static int launch_stream(const lif_args *a, lif_stream on, bool backward) {
  if constexpr (CAN_BE_UNCOMMON)
    if (!(true NEURON_COMMON(IS_COMMON_OPTION, IS_LEFT_OUT)))
      return launch_stream<SYN, false>(a, on, backward);
  return launch_stream<SYN, true>(a, on, backward);
}

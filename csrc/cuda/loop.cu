/* The time loop on CUDA. Compiled once for each neuron (NEURON), number of synapses (LIF_SYNAPSES)
 * and storage type (LIF_STORAGE).
 *
 * A thread walks one neuron: its state stays in registers, t is the loop, and neighbouring threads
 * write neighbouring neurons. What a step reads comes as rows (rows.h), a chunk of steps at a time.
 * There is one kernel forward, one backward from the mask and one backward from checkpoints. What
 * they are compiled with as constants is what a walk would wait for: whether the call is the
 * neuron's common case, the surrogate, whether parameters have gradients, the width of a block. */
#include "../neuron/neuron.h"
#include NEURON_HEADER
#include "../neuron/defaults.h"
#include "kernels.h"
#include "rows.h"

/* How neurons are laid out over blocks. Wide rows make better use of memory, narrow ones spread few
 * neurons over the GPU. SHORT is WIDE for sequences that are shorter than a chunk: without the code
 * for full chunks a kernel needs fewer registers, and what goes before a sequence, which takes as
 * long as the sequence, is hidden by more blocks. */
enum layout { NARROW, WIDE, SHORT };
enum { SHORT_STEPS = 8 };
template <int LAYOUT>
constexpr int neurons_of = LAYOUT == NARROW ? 64 : 128;

template <int LAYOUT>
constexpr int threads_of = neurons_of<LAYOUT> + 32 * copiers_of<neurons_of<LAYOUT>>;

/* Steps of a chunk. Few neurons wait for their own chain of operations, which a longer chunk
 * interrupts less often; many for memory, and then short chunks let more blocks share a
 * multiprocessor. Checkpoints are a chunk apart. */
enum { LONG_CHUNK = LIF_SYNAPSES <= 4 ? (int)LIF_MASK_STEPS : (int)CHUNK };
template <bool MASK, int LAYOUT>
constexpr int steps_of_chunk = MASK && LAYOUT == NARROW ? (int)LONG_CHUNK : (int)CHUNK;

/* Blocks that a multiprocessor must have registers for: many neurons wait for memory, few for
 * themselves, and what is not the common case needs more registers. */
template <int CASE, int LAYOUT>
constexpr int forward_blocks = LIF_SYNAPSES > 2  ? (LAYOUT == WIDE ? 2 : 1)
                               : LAYOUT == SHORT ? 8
                               : LAYOUT == WIDE  ? 6
                               : CASE > 0        ? 1
                                                 : 5;
template <int CASE, int LAYOUT>
constexpr int backward_blocks = LIF_SYNAPSES > 2  ? (LAYOUT == WIDE ? 2 : 1)
                                : LAYOUT == SHORT ? 5
                                : LAYOUT == WIDE  ? 4
                                : CASE > 0        ? 1
                                                  : 4;

template <int value_>
struct constant {
  enum { value = value_ };
};

/* CASE: the number of a common case of the neuron, with its options as constants; or 0: any call;
 * or SCATTERED: any call, and sequences in which neighbouring neurons are far apart in memory cost
 * less than they would otherwise. In a common case x is the only input, the output has a gradient,
 * and nothing is recorded, smooth or scattered. */
enum { SCATTERED = -1 };
template <int CASE>
__device__ __forceinline__ struct options options_of(const lif_args &a) {
  struct options o = in_precision(&a.options);
  if (CASE > 0) {
    o.inputs_given = 1;
    set_known(&o, CASE);
  }
  return o;
}

template <int CASE>
__device__ __forceinline__ void read_params(struct params &p, const lif_args &a, int S, int64_t b,
                                            int64_t n) {
  read(p, a.params, S, b, n, REAL(0), REAL(0));
  derive(&p);
  if constexpr (CASE > 0)
    each(p, [&](int field, int, auto &&values) {
      if (common_case(CASE).left_out >> field & 1) values[0] = REAL(-0.0); /* adds nothing */
    });
}

/* The rows of each field. They follow `before` others. Returns the number of rows so far. In the
 * common case there is only the first field. */
template <int CASE, class Rows, class Members, int FIELDS>
__device__ __forceinline__ int set_rows(row_place (&places)[FIELDS], const Rows &rows,
                                        Members &members, const lif_tensor *tensors, int S,
                                        int before) {
  each(members, [&](int field, int kind, auto &&) {
    const bool given = CASE > 0 ? field == 0 : tensors[field].data != nullptr;
    places[field] =
        rows.place_of(tensors[field], given ? before : -1, CASE > 0 ? 1 : lif_width(kind, S));
    before += given ? lif_width(kind, S) : 0;
  });
  return before;
}

/* The inputs of step u of the chunk. Those that are left out are -0: adding it changes nothing, and
 * where it is a constant the compiler drops it. */
template <int CASE, class Rows>
__device__ __forceinline__ void take(struct inputs &in, const lif_args &a, int S, const Rows &rows,
                                     const row_place (&row)[INPUT_COUNT], int u) {
  each(in, [&](int field, int kind, auto &&values) {
    const bool left_out = (CASE > 0 && field > 0) || kind & LIF_OF_RECURRENCE;
    if constexpr (Rows::TOGETHER) {
      if (!left_out && lif_width(kind, S) == VALUES && row[field].value == 1) {
        rows.read_all(row[field], u, &values[0]);
        return;
      }
    }
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      values[k] = left_out || k >= lif_width(kind, S)
                      ? REAL(-0.0)
                      : rows.read(a.inputs[field], row[field], k, u);
  });
}

/* Adds to the adjoints of the states what comes from the records of step u of the chunk. */
template <class Rows>
__device__ __forceinline__ void add_records(struct states &g, const lif_args &a, int S,
                                            const Rows &rows, const row_place (&row)[STATE_COUNT],
                                            int u) {
  each(g, [&](int field, int kind, auto &&values) {
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      if (k < lif_width(kind, S)) values[k] += rows.read(a.grad_records[field], row[field], k, u);
  });
}

/* A step's numbers to the stash, from place `slot` on, and back. */
template <class Members, class Stash>
__device__ __forceinline__ void stash_away(Members &members, int S, int slot, const Stash &stash) {
  each(members, [&](int, int kind, auto &&values) {
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++) stash(slot++) = values[k];
  });
}

template <class Members, class Stash>
__device__ __forceinline__ void fetch_back(Members &members, int S, int slot, const Stash &stash) {
  each(members, [&](int, int kind, auto &&values) {
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++) values[k] = stash(slot++);
  });
}

/* A launch of one step of a recurrent layer, without the ring: what the op layer computes between
 * two steps. The recurrent input of the step: */
__device__ __forceinline__ void take_recurrent(struct inputs &in, const lif_args &a, int S,
                                               int64_t b, int64_t n) {
  const lif_tensor &x = a.recurrence.in;
  const real *at = (const real *)x.data + b * x.b + n * x.n;
  each(in, [&](int, int kind, auto &&values) {
    if (!(kind & LIF_OF_RECURRENCE) || !x.data) return;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      if (k < lif_width(kind, S)) values[k] = __ldg(at + k * x.s);
  });
}

/* Adds what the next step's recurrent input makes of the adjoint of the output. */
__device__ __forceinline__ real add_spikes(real g_out, const lif_args &a, int64_t b, int64_t n) {
  if (!NEURON_RECURRENT || !a.grad_last_state[STATE_COUNT].data) return g_out;
  const lif_tensor &g = a.grad_last_state[STATE_COUNT];
  return g_out + __ldg((const real *)g.data + b * g.b + n * g.n);
}

/* The adjoint of the recurrent input, which is that of x. */
__device__ __forceinline__ void put_recurrent(struct inputs &g_in, const lif_args &a, int S,
                                              int64_t b, int64_t n) {
  const lif_tensor &to = a.recurrence.grad_in;
  each(g_in, [&](int field, int kind, auto &&values) {
    if (field > 0 || !to.data) return;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      if (k < lif_width(kind, S)) ((real *)to.data)[b * to.b + n * to.n + k * to.s] = values[k];
  });
}

/* This thread's part of the workspace. */
template <int NEURONS>
__device__ __forceinline__ memory workspace_of(const lif_args &a) {
  return {(real *)a.workspace + blockIdx.x * (int64_t)NEURONS + threadIdx.x,
          (int64_t)gridDim.x * NEURONS};
}

/* Calls walk(constant<fast>): fast where spikes can be counted by the threshold's reciprocal and
 * are not replaced by their smooth variant. The same for all threads of a warp, so that they walk
 * together. */
template <int CASE, class Walk>
__device__ __forceinline__ void walk_fast_or_slow(const lif_args &a, const struct params &p,
                                                  Walk walk) {
  const struct options o = options_of<CASE>(a);
  if constexpr (CASE <= 0 || NEURON_COUNTS) {
    const bool fast = counts_by_reciprocal(&o, &p) && !o.smooth;
    if (!__all_sync(__activemask(), fast)) {
      walk(constant<0>());
      return;
    }
  }
  walk(constant<1>());
}

template <bool FAST, int CASE>
__device__ __forceinline__ void set_speed(struct options &o) {
  o.reciprocal_fits = FAST;
  if (FAST || CASE > 0) o.smooth = 0;
}

/* RING: rows come through the ring, otherwise directly. MASK: with the mask, in place of
 * checkpoints. */
template <bool RING, bool MASK, int CASE, int LAYOUT>
__global__ void __launch_bounds__(threads_of<LAYOUT>, forward_blocks<CASE, LAYOUT>)
    forward_kernel(const __grid_constant__ lif_args a,
                   const __grid_constant__ sequences sequences) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ barriers barriers;
  constexpr bool COMMON = CASE > 0, STAGED = CASE == SCATTERED;
  constexpr int NEURONS = neurons_of<LAYOUT>, STEPS = steps_of_chunk<MASK, LAYOUT>;
  constexpr int CURRENTS = LIF_SYNAPSES > 1 ? LIF_SYNAPSES : 1; /* values of x */
  constexpr bool LIFTED = COMMON && STEPS * CURRENTS <= LIF_MASK_STEPS;
  const int S = layer_synapses(a.S), computed = computed_synapses(S);
  const place<NEURONS> at(a);
  const int64_t n = at.n;
  rows_of<RING, NEURONS, STEPS, false, STAGED> rows(
      shared_memory, &barriers, sequences.stages,
      COMMON ? lif_width(LIF_PER_CURRENT, S) : sequences.values, a.T, at);
  const lif_tensor *common_sources[] = {&a.inputs[0]};
  if (rows.template copies<COMMON>(a, sequences, common_sources, at, false)) return;
  struct params p;
  struct states s;
  struct inputs in;
  memory spare = workspace_of<NEURONS>(a);
  bind(p, S, spare);
  bind(s, S, spare);
  bind(in, S, spare);
  read_params<CASE>(p, a, S, at.b, n);
  row_place row[INPUT_COUNT];
  set_rows<CASE>(row, rows, in, a.inputs, S, 0);
  unsigned char *const stages = rows.end_of_ring();
  walk_fast_or_slow<CASE>(a, p, [&](auto fast) {
    constexpr bool FAST = decltype(fast)::value;
    struct options o = options_of<CASE>(a);
    set_speed<FAST, CASE>(o);
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      read(s, a.first_state, S, b, n, REAL(0), REAL(-0.0));
      stored *out = (stored *)a.out.data + b * a.out.b + n * a.out.n;
      targets<COMMON ? 0 : STATE_COUNT, STAGED, NEURONS> records(a.records, b, n, 0);
      checkpoints kept(a, b, n, 0);
      unsigned *words = (unsigned *)a.mask.data + b * a.mask.b + n * a.mask.n, word = 0;
      int first = 0; /* step of the mask's word */
      real result = REAL(0);
      for (int64_t t = 0; t < a.T; t += STEPS) {
        const int left = (int)min((int64_t)STEPS, a.T - t);
        unsigned bits = 0;
        const auto step_and_put = [&](int u) {
          int open;
          result = step_masked(computed, &o, &p, &s, &in, &s, &open);
          if (MASK && open) bits |= 1u << u;
          store<STAGED>(out, result, true);
          out = (stored *)((char *)out + a.out.t * (int64_t)sizeof(stored));
          records.put(s, a.records, S, 1, sequences.staged.together >> 1);
        };
        if (!MASK) {
          kept.write(s, a, S);
          kept.move(a, 1);
        }
        if (STAGED && sequences.staged.which & 1)
          out = staged_place(sequences.staged, 0, stages, 0);
        records.begin(sequences.staged, 1, stages, 0);
        rows.wait(b, t);
        if (LIFTED && FAST && LAYOUT != SHORT && left == STEPS) {
          real lifted[STEPS][CURRENTS];
#pragma unroll
          for (int u = 0; u < STEPS; u++)
#pragma unroll
            for (int k = 0; k < CURRENTS; k++) lifted[u][k] = rows.read(a.inputs[0], row[0], k, u);
          rows.release();
          take<CASE>(in, a, S, rows, row, 0); /* what is left out */
#pragma unroll
          for (int u = 0; u < STEPS; u++) {
            each(in, [&](int field, int, auto &&values) {
#pragma unroll
              for (int k = 0; k < CURRENTS; k++)
                if (field == 0) values[k] = lifted[u][k];
            });
            step_and_put(u);
          }
        } else {
#pragma unroll 4
          for (int u = 0; u < left; u++) {
            take<CASE>(in, a, S, rows, row, u);
            if (!RING) take_recurrent(in, a, S, b, n);
            step_and_put(u);
          }
          rows.release();
        }
        if (STAGED)
          write_stages(sequences.staged, stages, b, t, at.warp_first(), at.warp_end(), left);
        if (MASK) {
          word |= bits << first;
          first += STEPS;
          if (first == LIF_MASK_STEPS || t + STEPS >= a.T) {
            *words = word;
            words += a.mask.t;
            word = first = 0;
          }
        }
      }
      write(s, a.last_state, S, b, n);
      if (!RING && NEURON_RECURRENT && a.T > 0) { /* the last state but one of a recurrent layer */
        const lif_tensor &spikes = a.last_state[STATE_COUNT];
        if (spikes.data) ((real *)spikes.data)[b * spikes.b + n * spikes.n] = result;
      }
    }
  });
}

#if NEURON_MASKABLE
/* From the mask alone. */
template <bool RING, int CASE, int LAYOUT>
__global__ void __launch_bounds__(threads_of<LAYOUT>, forward_blocks<CASE, LAYOUT>)
    masked_backward_kernel(const __grid_constant__ lif_args a,
                           const __grid_constant__ sequences sequences) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ barriers barriers;
  constexpr bool COMMON = CASE > 0, STAGED = CASE == SCATTERED;
  constexpr int NEURONS = neurons_of<LAYOUT>, STEPS = steps_of_chunk<true, LAYOUT>;
  const int S = layer_synapses(a.S), computed = computed_synapses(S);
  const place<NEURONS> at(a);
  const int64_t n = at.n;
  rows_of<RING, NEURONS, STEPS, true, STAGED> rows(shared_memory, &barriers, sequences.stages,
                                                   COMMON ? 1 : sequences.values, a.T, at);
  const lif_tensor *common_sources[] = {&a.grad_out};
  if (rows.template copies<COMMON>(a, sequences, common_sources, at, true)) return;
  struct params p;
  struct states g;
  struct inputs g_in;
  memory spare = workspace_of<NEURONS>(a);
  bind(p, S, spare);
  bind(g, S, spare);
  bind(g_in, S, spare);
  read_params<CASE>(p, a, S, at.b, n);
  const row_place out_row = rows.place_of(a.grad_out, COMMON || a.grad_out.data ? 0 : -1, 1);
  row_place record_row[STATE_COUNT];
  set_rows<false>(record_row, rows, g, a.grad_records, S, out_row.row + 1);
  unsigned char *const stages = rows.end_of_ring();
  const int64_t chunks = (a.T + STEPS - 1) / STEPS;
  for (int64_t b = at.b; b < at.end; b += at.apart) {
    read(g, a.grad_last_state, S, b, n, REAL(0), REAL(0));
    targets<COMMON ? 1 : INPUT_COUNT, STAGED, NEURONS> grad_inputs(a.grad_inputs, b, n, a.T - 1);
    for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
      const int left = (int)min((int64_t)STEPS, a.T - chunk * STEPS);
      grad_inputs.begin(sequences.staged, 0, stages, left - 1);
      rows.wait(b, chunk * STEPS);
      const unsigned bits = rows.word(a.mask) >> (int)(chunk % (LIF_MASK_STEPS / STEPS)) * STEPS;
      const auto back = [&](int u, real g_out) {
        if constexpr (!COMMON) add_records(g, a, S, rows, record_row, u);
        step_backward_masked(computed, &p, (int)(bits >> u & 1u), g_out, &g, &g, &g_in);
        grad_inputs.put(g_in, a.grad_inputs, S, -1, sequences.staged.together);
      };
      if (COMMON && LAYOUT != SHORT && left == STEPS) {
        real lifted[STEPS];
#pragma unroll
        for (int u = 0; u < STEPS; u++) lifted[u] = rows.read(a.grad_out, out_row, 0, u);
        rows.release();
#pragma unroll
        for (int u = STEPS - 1; u >= 0; u--) back(u, lifted[u]);
      } else {
#pragma unroll 4
        for (int u = left - 1; u >= 0; u--) back(u, rows.read(a.grad_out, out_row, 0, u));
        rows.release();
      }
      if (STAGED)
        write_stages(sequences.staged, stages, b, chunk * STEPS, at.warp_first(), at.warp_end(),
                     left);
    }
    write(g, a.grad_first_state, S, b, n);
  }
}
#endif

enum { ANY = -2 };

/* The slopes of several steps: one switch for all of them, and none waits for another. */
template <int STEPS>
__device__ __forceinline__ void take_slopes(const struct options &o,
                                            const struct point (&points)[STEPS],
                                            struct slope (&slopes)[STEPS]) {
#define LIF_CASE(name, class_name, params, window)                                           \
  case LIF_SURROGATE_##name:                                                                 \
    _Pragma("unroll") for (int u = 0; u < STEPS; u++) slopes[u] =                            \
        name##_slope(points[u], o.surrogate_params, o.per_surrogate_param, most_spikes(&o)); \
    break;
  switch (o.surrogate) { LIF_SURROGATES(LIF_CASE) }
#undef LIF_CASE
}

/* The numbers that are stashed of a step of the chunk being replayed: with gradients of parameters
 * the states before it, otherwise what is kept of it. */
template <bool GRADIENTS>
LIF_ON_BOTH int stash_values(int S) {
  constexpr int kinds[] = {NEURON_STATES(LIF_KIND_OF)};
  int values = 0;
  for (int kind : kinds) values += computed_width(kind, S);
  return GRADIENTS ? values : NEURON_KEEPS;
}

/* From checkpoints. SURROGATE: its number as a constant, or ANY. GRADIENTS: of parameters too. */
template <bool RING, int SURROGATE, bool GRADIENTS, int CASE, int LAYOUT>
__global__ void __launch_bounds__(threads_of<LAYOUT>, backward_blocks<CASE, LAYOUT>)
    backward_kernel(const __grid_constant__ lif_args a,
                    const __grid_constant__ sequences sequences) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ barriers barriers;
  /* x is read unless nothing of it is needed. The stash is in registers where they suffice, which
   * spares four instructions a step and the loops' own; else in shared memory. 40 of the 96
   * registers that leave room for four blocks on a multiprocessor. */
  constexpr bool COMMON = CASE > 0, STAGED = CASE == SCATTERED;
  constexpr int NEURONS = neurons_of<LAYOUT>;
  constexpr bool READS_X = GRADIENTS || NEURON_KEEPS > 0;
  constexpr int CONSTANT_VALUES = stash_values<GRADIENTS>(LIF_SYNAPSES);
  constexpr bool IN_REGISTERS =
      (SURROGATE != ANY || !GRADIENTS) &&
      CHUNK * CONSTANT_VALUES + (GRADIENTS ? 2 * PARAM_COUNT : 0) <= (COMMON             ? 42
                                                                      : LIF_SYNAPSES > 2 ? 0
                                                                                         : 20);
  constexpr int GROUP = IN_REGISTERS ? 8 : 4;
  const int S = layer_synapses(a.S), computed = computed_synapses(S);
  const int values = stash_values<GRADIENTS>(S);
  const place<NEURONS> at(a);
  const int64_t n = at.n;
  rows_of<RING, NEURONS, CHUNK, false, STAGED> rows(
      shared_memory, &barriers, sequences.stages,
      COMMON ? 1 + (READS_X ? lif_width(LIF_PER_CURRENT, S) : 0) : sequences.values, a.T, at);
  const lif_tensor *common_sources[READS_X ? 2 : 1] = {&a.grad_out};
  if (READS_X) common_sources[READS_X] = &a.inputs[0];
  if (rows.template copies<COMMON>(a, sequences, common_sources, at, true)) return;
  struct params p, g_p;
  struct states s, g, ahead;
  struct inputs in, g_in;
  memory spare = workspace_of<NEURONS>(a);
  bind(p, S, spare);
  bind(g_p, S, spare);
  bind(s, S, spare);
  bind(g, S, spare);
  bind(ahead, S, spare);
  bind(in, S, spare);
  bind(g_in, S, spare);
  unsigned char *const stash_begin = rows.end_of_ring(), *const stages =
                                                             stash_begin + sequences.stashed;
  if constexpr (RING) spare = {(real *)stash_begin + threadIdx.x, NEURONS};
  read_params<CASE>(p, a, S, at.b, n);
  const row_place out_row = rows.place_of(a.grad_out, COMMON || a.grad_out.data ? 0 : -1, 1);
  row_place record_row[STATE_COUNT], row[INPUT_COUNT];
  const int before = set_rows<false>(record_row, rows, g, a.grad_records, S, out_row.row + 1);
  set_rows<CASE>(row, rows, in, a.inputs, S, COMMON ? 1 : before);
  const int64_t chunks = (a.T + CHUNK - 1) / CHUNK;
  walk_fast_or_slow<CASE>(a, p, [&](auto fast) {
    constexpr bool FAST = decltype(fast)::value;
    struct options o = options_of<CASE>(a);
    set_speed<FAST, CASE>(o);
    if (SURROGATE != ANY) o.surrogate = SURROGATE;
    o.param_gradients = GRADIENTS;
    checkpoints next(a, at.b, n, chunks - 1); /* is read while the chunk before it is walked */
    next.read(ahead, a, S, chunks > 0);
    for (int64_t b = at.b; b < at.end; b += at.apart) {
      read(g, a.grad_last_state, S, b, n, REAL(0), REAL(0));
      clear(g_p, S);
      if (a.add_to_grad_params) read(g_p, a.grad_params, S, b, n, REAL(0), REAL(0));
      targets<COMMON ? 1 : INPUT_COUNT, STAGED, NEURONS> grad_inputs(a.grad_inputs, b, n, a.T - 1);
      for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
        const int steps = (int)min((int64_t)CHUNK, a.T - chunk * CHUNK);
        assign(s, ahead, S);
        if (LAYOUT == SHORT) /* one chunk, then the next batch item */
          next.move_items(a, at.apart);
        else
          next.move(a, -1);
        next.read(ahead, a, S, LAYOUT == SHORT ? b + at.apart < at.end : chunk > 0);
        grad_inputs.begin(sequences.staged, 0, stages, steps - 1);
        rows.wait(b, chunk * CHUNK);
        const auto take_inputs = [&](int u) {
          if (READS_X) take<CASE>(in, a, S, rows, row, u);
          if (!RING) take_recurrent(in, a, S, b, n);
        };
        const auto replay = [&](int u, const auto &stash, bool go_on) {
          take_inputs(u);
          if constexpr (GRADIENTS) {
            stash_away(s, S, u * values, stash);
          } else {
            struct kept kept = keep(computed, &o, &p, &s, &in);
            stash_away(kept, S, u * values, stash);
          }
          if (go_on) step(computed, &o, &p, &s, &in, &s);
        };
        const auto recall = [&](int u, const auto &stash) {
          struct kept kept;
          if constexpr (GRADIENTS) {
            fetch_back(s, S, u * values, stash);
            take_inputs(u);
            kept = keep(computed, &o, &p, &s, &in);
          } else {
            fetch_back(kept, S, u * values, stash);
            if (!COMMON) take_inputs(u); /* measured traces */
          }
          return kept;
        };
        const auto back = [&](int u, const struct kept &kept, struct slope spike) {
          real g_out = rows.read(a.grad_out, out_row, 0, u);
          if constexpr (!RING) g_out = add_spikes(g_out, a, b, n);
          if constexpr (!COMMON) add_records(g, a, S, rows, record_row, u);
          step_backward(computed, &o, &p, &kept, &s, &in, spike, g_out, &g, &g, &g_in, &g_p);
          grad_inputs.put(g_in, a.grad_inputs, S, -1, sequences.staged.together);
          if constexpr (!RING) put_recurrent(g_in, a, S, b, n);
        };
        if (FAST && RING && LAYOUT != SHORT && steps == CHUNK) {
          real registers[IN_REGISTERS ? CHUNK * CONSTANT_VALUES + 1 : 1];
          const auto stash = [&](int k) -> real & {
            return IN_REGISTERS ? registers[k] : spare[k];
          };
#pragma unroll(IN_REGISTERS ? CHUNK : 4)
          for (int u = 0; u < CHUNK; u++) replay(u, stash, u + 1 < CHUNK);
#pragma unroll(IN_REGISTERS ? CHUNK : 1)
          for (int group = CHUNK - GROUP; group >= 0; group -= GROUP) {
            struct point points[GROUP];
            struct slope slopes[GROUP];
            if (SURROGATE == ANY) {
#pragma unroll
              for (int u = 0; u < GROUP; u++) {
                const struct kept kept = recall(group + u, stash);
                points[u] = spike_point(&p, &kept);
              }
              take_slopes(o, points, slopes);
            }
#pragma unroll
            for (int u = GROUP - 1; u >= 0; u--) {
              const struct kept kept = recall(group + u, stash);
              if (SURROGATE != ANY) slopes[u] = slope_of_step(&o, &p, &kept);
              back(group + u, kept, slopes[u]);
            }
          }
        } else {
          const auto stash = [&](int k) -> real & { return spare[k]; };
#pragma unroll 1
          for (int u = 0; u < steps; u++) replay(u, stash, u + 1 < steps);
#pragma unroll 1
          for (int u = steps - 1; u >= 0; u--) {
            const struct kept kept = recall(u, stash);
            back(u, kept, slope_of_step(&o, &p, &kept));
          }
        }
        rows.release();
        if (STAGED)
          write_stages(sequences.staged, stages, b, chunk * CHUNK, at.warp_first(), at.warp_end(),
                       steps);
      }
      write(g, a.grad_first_state, S, b, n);
      write(g_p, a.grad_params, S, b, n);
    }
  });
}

#include "launch.h"

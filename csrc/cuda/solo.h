/* A recurrent layer in one launch: a block takes all neurons of one batch item through time, a
 * thread each. The rows of the recurrent weights lie in shared memory as far as they fit, the
 * others come from the second-level cache. Between two steps the block makes a list of the neurons
 * that spiked, in ascending order, and every thread adds up its own columns of their rows: the sum
 * has the same bits as on the CPU (cpu/recurrence.h), whatever the batch. The backward does the
 * same with the transposed weights and those adjoints of the recurrent input that are not 0.
 *
 * Rows with an infinity or NaN are added even if their factor is 0, as in the plain loop.
 *
 * Included by launch.h. */
#ifndef LIF_SOLO_H
#define LIF_SOLO_H

/* Not of float64, whose weights take twice the room. */
#define HAS_SOLO (NEURON_RECURRENT && LIF_SYNAPSES < LIF_MANY && LIF_STORAGE != 1)

enum {
  MOST_SOLO_NEURONS = 1024, /* threads of a block */
  /* Rows of the transposed weights. Nearly all of them are added in each step back, because the
   * adjoint of a synaptic current is hardly ever 0; of more rows than these the sums take longer
   * than a matrix product and a launch. */
  MOST_SOLO_ROWS_BACK = 256,
  ROWS_AT_A_TIME = VALUES > 2 ? 4 : 8
};

/* One of the rows to be added. */
struct addend {
  int row; /* rows that are not in shared memory are counted one higher, for there stands one more
            */
  real factor;
};

/* What a block adds up: `rows` rows of `width` numbers for each of its neurons. */
struct matrix {
  const real *data; /* in memory: dense, a neuron's numbers side by side */
  int rows, width, neurons;
  int resident; /* rows in shared memory. There stands a row of -0 behind them, which changes no sum
                 */
};

/* The block's shared memory. */
LIF_ON_BOTH int words_of(int bits) { return (bits + 31) / 32; }
LIF_ON_BOTH int64_t row_length(const matrix &m) { return (int64_t)m.neurons * m.width; }
LIF_ON_BOTH int64_t shared_of(const matrix &m) {
  return ((m.resident + 1) * row_length(m) + 2 * (int64_t)(m.rows + ROWS_AT_A_TIME)) *
             (int64_t)sizeof(real) +
         (WARP + words_of(m.rows)) * (int64_t)sizeof(unsigned);
}

struct block_rows {
  const matrix &m;
  addend *list;
  unsigned *counts, *unbounded; /* of each warp's addends; a bit for each row */
  real *resident;
  int n, count; /* this thread's neuron; the addends */

  __device__ __forceinline__ block_rows(const matrix &m, unsigned char *shared, int n)
      : m(m),
        list((addend *)shared),
        counts((unsigned *)(list + m.rows + ROWS_AT_A_TIME)),
        unbounded(counts + WARP),
        resident((real *)(unbounded + words_of(m.rows))),
        n(n),
        count(0) {}

  /* By all threads, first. Reads every row once, many at a time. */
  __device__ __forceinline__ void load(bool mine) {
    enum { MANY = 16 };
    const int64_t length = row_length(m);
    for (int k = threadIdx.x; k < words_of(m.rows); k += blockDim.x) unbounded[k] = 0;
    __syncthreads();
    for (int k = 0; k < m.width && mine; k++) {
      const real *from = m.data + n * m.width + k;
      real *to = resident + k * m.neurons + n;
      for (int first = 0; first < m.rows;
           first += MANY, from += MANY * length, to += MANY * length) {
        real found[MANY];
#pragma unroll
        for (int u = 0; u < MANY; u++)
          found[u] = first + u < m.rows ? __ldg(from + u * length) : REAL(0);
#pragma unroll
        for (int u = 0; u < MANY; u++) {
          const int row = first + u;
          if (row < m.resident) to[u * length] = found[u];
          if (!(real_abs(found[u]) <= REAL(3.402823466e38))) /* float's largest */
            atomicOr(&unbounded[row / 32], 1u << row % 32);
        }
      }
      resident[m.resident * length + k * m.neurons + n] = REAL(-0.0);
    }
    __syncthreads();
  }

  /* By all threads: this one's factors of the rows from n * COUNT on, of which `given` there are.
   * `mine` is false for a thread without a neuron of its own. */
  template <int COUNT>
  __device__ __forceinline__ void publish(const real *factors, int given, bool mine) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned added = 0;
    int before = 0, all = 0;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
      const int row = n * given + k;
      const bool adds =
          mine && k < given && (factors[k] != REAL(0) || (unbounded[row / 32] >> row % 32 & 1));
      const unsigned votes = __ballot_sync(~0u, adds);
      added |= (unsigned)adds << k;
      before += __popc(votes & ((1u << lane) - 1));
      all += __popc(votes);
    }
    if (lane == 0) counts[warp] = all;
    __syncthreads();
    const int found = lane < (int)blockDim.x / WARP ? (int)counts[lane] : 0;
    count = sum_of_warp(found);
    int at = before + sum_of_warp(lane < warp ? found : 0);
#pragma unroll
    for (int k = 0; k < COUNT; k++)
      if (added >> k & 1) {
        const int row = n * given + k;
        list[at++] = {row < m.resident ? row : row + 1, factors[k]};
      }
    if (threadIdx.x < ROWS_AT_A_TIME) list[count + threadIdx.x] = {m.resident, REAL(1)};
    __syncthreads();
  }

  /* Adds to this thread's numbers what was published. */
  template <int WIDTH>
  __device__ __forceinline__ void add(real (&sum)[WIDTH]) const {
    const int64_t length = row_length(m);
    for (int first = 0; first < count; first += ROWS_AT_A_TIME) {
      real factors[ROWS_AT_A_TIME], found[ROWS_AT_A_TIME][WIDTH];
#pragma unroll
      for (int u = 0; u < ROWS_AT_A_TIME; u++) {
        const addend next = list[first + u];
        factors[u] = next.factor;
#pragma unroll
        for (int k = 0; k < WIDTH; k++) {
          found[u][k] = REAL(-0.0);
          if (k >= m.width) continue;
          if (next.row <= m.resident)
            found[u][k] = resident[next.row * length + k * m.neurons + n];
          else
            found[u][k] = __ldg(m.data + (next.row - 1) * length + n * m.width + k);
        }
      }
#pragma unroll
      for (int u = 0; u < ROWS_AT_A_TIME; u++)
#pragma unroll
        for (int k = 0; k < WIDTH; k++) sum[k] = sum[k] + factors[u] * found[u][k];
    }
  }

 private:
  __device__ __forceinline__ static int sum_of_warp(int x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_add_sync(~0u, x);
#else
    return x; /* is not launched there */
#endif
  }
};

#if HAS_SOLO
/* The inputs of step t. Those that are left out are -0. */
__device__ __forceinline__ void load_inputs(struct inputs &in, const lif_args &a, int S, int64_t t,
                                            int64_t b, int64_t n) {
  each(in, [&](int field, int kind, auto &&values) {
    const lif_tensor &x = a.inputs[field];
    const bool given = !(kind & LIF_OF_RECURRENCE) && x.data;
    const stored *at = (const stored *)x.data + t * x.t + b * x.b + n * x.n;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      values[k] = given && k < lif_width(kind, S) ? unpack(__ldg(at + k * x.s)) : REAL(-0.0);
  });
}

/* One number per neuron, real. */
__device__ __forceinline__ real *place_in(const lif_tensor &x, int64_t t, int64_t b, int64_t n) {
  return (real *)x.data + t * x.t + b * x.b + n * x.n;
}

template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    solo_forward_kernel(const __grid_constant__ lif_args a, const __grid_constant__ matrix m) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int S = layer_synapses(a.S), computed = computed_synapses(S);
  const int64_t b = blockIdx.x;
  const bool mine = threadIdx.x < a.N;
  const int n = mine ? (int)threadIdx.x : (int)a.N - 1;
  const lif_recurrence &r = a.recurrence;
  block_rows rows(m, shared_memory, n);
  rows.load(mine);
  struct params p;
  struct states s;
  struct inputs ahead[2];
  struct options o = in_precision(&a.options);
  read(p, a.params, S, b, n, REAL(0), REAL(0));
  derive(&p);
  o.reciprocal_fits = counts_by_reciprocal(&o, &p) && !o.smooth;
  read(s, a.first_state, S, b, n, REAL(0), REAL(-0.0));
  real spikes = r.resumed ? __ldg(place_in(a.first_state[STATE_COUNT], 0, b, n)) : REAL(0);
  rows.publish<1>(&spikes, 1, mine);
  real bias[VALUES];
#pragma unroll
  for (int k = 0; k < VALUES; k++)
    bias[k] = r.bias && k < m.width ? __ldg((const real *)r.bias + n * m.width + k) : REAL(0);
  stored *out = (stored *)a.out.data + b * a.out.b + n * a.out.n;
  targets<STATE_COUNT, false, 64> records(a.records, b, n, 0);
  checkpoints kept(a, b, n, 0);
#pragma unroll
  for (int d = 0; d < 2; d++)
    if (d < a.T) load_inputs(ahead[d], a, S, d, b, n);
  for (int64_t begin = 0; begin < a.T; begin += 2) {
#pragma unroll
    for (int d = 0; d < 2; d++) {
      const int64_t t = begin + d;
      if (t >= a.T) break;
      struct inputs in = ahead[d];
      if (t + 2 < a.T) load_inputs(ahead[d], a, S, t + 2, b, n);
      real sum[VALUES];
#pragma unroll
      for (int k = 0; k < VALUES; k++) sum[k] = t > 0 || r.resumed ? bias[k] : REAL(0);
      if (t > 0 || r.resumed) rows.add(sum);
#pragma unroll
      for (int k = 0; k < VALUES; k++) {
        if (k < m.width) in.rec[k] = sum[k];
        if (r.in.data && k < m.width) place_in(r.in, t, b, n)[k * r.in.s] = sum[k];
      }
      if (a.checkpoints[STATE_COUNT].data) *place_in(a.checkpoints[STATE_COUNT], t, b, n) = spikes;
      kept.write(s, a, S);
      kept.move(a, 1);
      spikes = step(computed, &o, &p, &s, &in, &s);
      store<false>(out, spikes, true);
      out += a.out.t;
      records.put(s, a.records, S, 1, 0);
      rows.publish<1>(&spikes, 1, mine);
    }
  }
  write(s, a.last_state, S, b, n);
  if (a.last_state[STATE_COUNT].data) *place_in(a.last_state[STATE_COUNT], 0, b, n) = spikes;
}

/* What the backward reads of a step. */
struct step_back {
  struct inputs in;
  struct states s, g_records;
  real g_out;
};

__device__ __forceinline__ void load_step(struct step_back &to, const lif_args &a, int S, int64_t t,
                                          int64_t b, int64_t n) {
  const lif_tensor &rec = a.recurrence.in, &g = a.grad_out;
  load_inputs(to.in, a, S, t, b, n);
#pragma unroll
  for (int k = 0; k < VALUES; k++)
    if (k < lif_width(LIF_PER_CURRENT, S)) to.in.rec[k] = __ldg(place_in(rec, t, b, n) + k * rec.s);
  checkpoints kept(a, b, n, t);
  kept.read(to.s, a, S, true);
  each(to.g_records, [&](int field, int kind, auto &&values) {
    const lif_tensor &x = a.grad_records[field];
    const stored *at = (const stored *)x.data + t * x.t + b * x.b + n * x.n;
#pragma unroll
    for (int k = 0; k < computed_width(kind, S); k++)
      values[k] = x.data && k < lif_width(kind, S) ? unpack(__ldg(at + k * x.s)) : REAL(-0.0);
  });
  to.g_out =
      g.data ? unpack(__ldg((const stored *)g.data + t * g.t + b * g.b + n * g.n)) : REAL(-0.0);
}

template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    solo_backward_kernel(const __grid_constant__ lif_args a, const __grid_constant__ matrix m) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int S = layer_synapses(a.S), computed = computed_synapses(S);
  const int width = lif_width(LIF_PER_CURRENT, S);
  const int64_t b = blockIdx.x;
  const bool mine = threadIdx.x < a.N;
  const int n = mine ? (int)threadIdx.x : (int)a.N - 1;
  const lif_recurrence &r = a.recurrence;
  block_rows rows(m, shared_memory, n);
  rows.load(mine);
  struct params p, g_p;
  struct states g;
  struct options o = in_precision(&a.options);
  read(p, a.params, S, b, n, REAL(0), REAL(0));
  derive(&p);
  o.reciprocal_fits = counts_by_reciprocal(&o, &p) && !o.smooth;
  clear(g_p, S);
  read(g, a.grad_last_state, S, b, n, REAL(0), REAL(0));
  const lif_tensor &g_last = a.grad_last_state[STATE_COUNT];
  real g_spikes[1] = {g_last.data ? __ldg(place_in(g_last, 0, b, n)) : REAL(0)};
  targets<INPUT_COUNT, false, 64> grad_inputs(a.grad_inputs, b, n, a.T - 1);
  struct step_back ahead;
  load_step(ahead, a, S, a.T - 1, b, n);
  for (int64_t t = a.T - 1; t >= 0; t--) {
    struct step_back now = ahead;
    struct inputs g_in;
    if (t > 0) load_step(ahead, a, S, t - 1, b, n);
    if (t + 1 < a.T) {
      g_spikes[0] = REAL(0);
      rows.add(g_spikes);
    }
    each(g, [&](int field, int, auto &&values) {
      each(now.g_records, [&](int other, int kind, auto &&found) {
        if (other != field) return;
#pragma unroll
        for (int k = 0; k < computed_width(kind, S); k++) values[k] += found[k];
      });
    });
    const struct kept kept = keep(computed, &o, &p, &now.s, &now.in);
    step_backward(computed, &o, &p, &kept, &now.s, &now.in, slope_of_step(&o, &p, &kept),
                  now.g_out + g_spikes[0], &g, &g, &g_in, &g_p);
    grad_inputs.put(g_in, a.grad_inputs, S, -1, 0);
    const bool fed_back = t > 0 || r.resumed; /* the recurrent input of the step was not 0 */
#pragma unroll
    for (int k = 0; k < VALUES; k++)
      if (k < width) place_in(r.grad_in, t, b, n)[k * r.grad_in.s] = fed_back ? g_in.x[k] : REAL(0);
    if (fed_back) rows.publish<VALUES>(g_in.x, width, mine);
  }
  const lif_tensor &g_first = a.grad_first_state[STATE_COUNT];
  if (g_first.data) {
    g_spikes[0] = REAL(0);
    if (r.resumed) rows.add(g_spikes);
    *place_in(g_first, 0, b, n) = g_spikes[0];
  }
  write(g, a.grad_first_state, S, b, n);
  write(g_p, a.grad_params, S, b, n);
}
#endif

/* The matrix of a launch, with as many resident rows as a block can have; resident < 0: it has no
 * room for the rest. */
static matrix solo_matrix(const lif_args *a, bool backward) {
  const int currents = lif_width(LIF_PER_CURRENT, a->S), N = (int)a->N;
  const lif_recurrence &r = a->recurrence;
  matrix m = {(const real *)(backward ? r.weights_transposed : r.weights),
              backward ? N * currents : N, backward ? 1 : currents, N, 0};
  const int64_t room = this_gpu()->block_shared - shared_of(m);
  const int64_t rows = room < 0 ? -1 : room / (row_length(m) * (int64_t)sizeof(real));
  m.resident = (int)(rows < m.rows ? rows : m.rows);
  return m;
}

/* Whether a recurrent layer can be one launch. */
static int solo_fits(const lif_args *a, int backward) {
  const gpu *gpu = this_gpu();
  if (!HAS_SOLO || !gpu || gpu->major < 8 || a->T < 1 || a->N < 1 || a->B < 1) return 0;
  if (a->N > MOST_SOLO_NEURONS) return 0;
  const matrix m = solo_matrix(a, backward != 0);
  return m.resident >= 0 && (!backward || m.rows <= MOST_SOLO_ROWS_BACK);
}

template <auto kernel>
static int start_solo(const lif_args *a, lif_stream on, const matrix &m) {
  const int shared = (int)shared_of(m);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return (int)error;
  kernel<<<(unsigned)a->B, (unsigned)((a->N + WARP - 1) / WARP * WARP), (size_t)shared, on>>>(*a,
                                                                                              m);
  return (int)cudaGetLastError();
}

static int solo(const lif_args *a, lif_stream on, int backward) {
#if HAS_SOLO
  const matrix m = solo_matrix(a, backward != 0);
  lif_cuda_note_way(LIF_WAY_ON_CHIP, backward);
  if (a->N <= MOST_SOLO_NEURONS / 2)
    return backward ? start_solo<solo_backward_kernel<MOST_SOLO_NEURONS / 2>>(a, on, m)
                    : start_solo<solo_forward_kernel<MOST_SOLO_NEURONS / 2>>(a, on, m);
  return backward ? start_solo<solo_backward_kernel<MOST_SOLO_NEURONS>>(a, on, m)
                  : start_solo<solo_forward_kernel<MOST_SOLO_NEURONS>>(a, on, m);
#else
  (void)a, (void)on, (void)backward;
  return (int)cudaErrorInvalidValue;
#endif
}

#endif

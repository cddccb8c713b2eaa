/* The CPU cores without PyTorch, built with -fsanitize=address,undefined (tests/test_core.py builds
 * and runs this).
 *
 * Every buffer is allocated to its exact size, so that one element read or written outside is an
 * error; outputs are poisoned first, so that one not written is seen. Random sizes, widths, strides
 * and storage types; one call against two that carry the state; the gradient against central
 * differences of the smooth variant. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"
#include "neuron/neurons.h"

#define DECLARE(name) extern const struct lif_neuron lif_neuron_##name;
LIF_NEURONS(DECLARE)
#define LIST(name) &lif_neuron_##name,
static const struct lif_neuron *const neurons[] = {LIF_NEURONS(LIST)};
enum { NEURONS = sizeof neurons / sizeof *neurons };
extern const struct lif_surrogate lif_surrogates[];

static int failures;
static int checks;
#define CHECK(condition, ...)                                \
  do {                                                       \
    checks++;                                                \
    if (!(condition)) {                                      \
      failures++;                                            \
      printf("%s:%d: " #condition ": ", __FILE__, __LINE__); \
      printf(__VA_ARGS__);                                   \
      printf("\n");                                          \
    }                                                        \
  } while (0)

static uint64_t random_state = 88172645463325252ull;
static double uniform(void) { /* xorshift64* */
  random_state ^= random_state >> 12, random_state ^= random_state << 25,
      random_state ^= random_state >> 27;
  return (double)(random_state * 2685821657736338717ull >> 11) / 9007199254740992.0;
}
static int below(int n) { return (int)(uniform() * n); }

static size_t size_of(int storage) {
  return storage == LIF_FLOAT64 ? 8 : storage == LIF_FLOAT32 ? 4 : 2;
}

/* A tensor on the heap, exactly as large as its last element needs; `gap` leaves every gap-th
 * element along n. */
struct buffer {
  struct lif_tensor tensor;
  int64_t count;
  int storage;
};

static struct buffer make(int64_t T, int64_t B, int64_t N, int width, int storage, int gap,
                          int time_first) {
  struct buffer x = {.storage = storage};
  x.tensor.s = 1;
  x.tensor.n = (int64_t)width * gap;
  const int64_t row = N * x.tensor.n;
  x.tensor.t = time_first ? B * row : row;
  x.tensor.b = time_first ? row : T * row;
  if (T > 0 && B > 0 && N > 0 && width > 0)
    x.count = (T - 1) * x.tensor.t + (B - 1) * x.tensor.b + (N - 1) * x.tensor.n +
              (width - 1) * x.tensor.s + 1;
  x.tensor.data = malloc((size_t)x.count * size_of(storage) + (x.count == 0));
  return x;
}

/* A NaN that no operation makes. */
static void poison(struct buffer *x) {
  memset(x->tensor.data, 0xff, (size_t)x->count * size_of(x->storage));
}

static int is_poison(const struct buffer *x, int64_t at) {
  static const unsigned char all[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  const size_t size = size_of(x->storage);
  return !memcmp((const char *)x->tensor.data + (size_t)at * size, all, size);
}

static void set(struct buffer *x, int64_t at, double value) {
  switch (x->storage) {
    case LIF_FLOAT64: ((double *)x->tensor.data)[at] = value; break;
    case LIF_FLOAT32: ((float *)x->tensor.data)[at] = (float)value; break;
    default:
      ((uint16_t *)x->tensor.data)[at] = x->storage == LIF_BFLOAT16 ? 0x3f00 : 0x3800;
      break; /* 0.5 */
  }
}

static double get(const struct buffer *x, int64_t at) {
  switch (x->storage) {
    case LIF_FLOAT64: return ((double *)x->tensor.data)[at];
    case LIF_FLOAT32: return (double)((float *)x->tensor.data)[at];
    default: {
      const uint16_t h = ((uint16_t *)x->tensor.data)[at];
      return (x->storage == LIF_BFLOAT16 ? (h & 0x7fff) > 0x7f80 : (h & 0x7fff) > 0x7c00) ? NAN : 0;
    }
  }
}

static void fill(struct buffer *x, double low, double high) {
  for (int64_t k = 0; k < x->count; k++) set(x, k, low + (high - low) * uniform());
}

/* Everything a call of one neuron needs. */
struct call {
  const struct lif_neuron *neuron;
  const struct lif_cpu_kernels *kernels;
  struct lif_args a;
  struct buffer all[128];
  int count;
};

static struct lif_tensor add(struct call *c, struct buffer x) {
  c->all[c->count++] = x;
  return x.tensor;
}

static int native(const struct call *c) {
  return c->a.storage == LIF_FLOAT64 ? LIF_FLOAT64 : LIF_FLOAT32;
}

static struct lif_tensor input(struct call *c, int64_t T, int width, int storage, double low,
                               double high, int gap, int time_first) {
  struct buffer x = make(T, c->a.B, c->a.N, width, storage, gap, time_first);
  fill(&x, low, high);
  return add(c, x);
}

static struct lif_tensor output(struct call *c, int64_t T, int width, int storage, int gap,
                                int time_first) {
  struct buffer x = make(T, c->a.B, c->a.N, width, storage, gap, time_first);
  poison(&x);
  return add(c, x);
}

/* What of the optional a call is given. MEASURED inputs pass their gradient on to what they
 * replace, and a refractory period has none: finite differences cannot check those. */
enum variant { COMMON, OPTIONAL, OPTIONAL_AND_MEASURED, RECURRENT_LAYER, VARIANTS };

static int is_measured(const char *name) {
  return strstr(name, "_hw") || !strcmp(name, "refractory");
}

static int is_given(struct lif_field field, enum variant variant) {
  if (field.kind & LIF_OF_RECURRENCE) return variant == RECURRENT_LAYER;
  if (!(field.kind & LIF_OPTIONAL)) return 1;
  return variant == OPTIONAL_AND_MEASURED || (variant != COMMON && !is_measured(field.name));
}

static void set_options(struct lif_args *a, const struct lif_neuron *n, int surrogate) {
  a->options.surrogate = n->spiking ? surrogate : -1;
  a->options.surrogate_params[0] = 1.5;
  for (int k = 1; k < LIF_MAX_SURROGATE_PARAMS; k++) a->options.surrogate_params[k] = 1;
  a->options.param_gradients = 1;
  for (int k = 0; k < n->n_options; k++) {
    const char *name = n->options[k];
    const int choices = !strcmp(name, "norm_input") || !strcmp(name, "synapse_update") ? 3 : 2;
    /* What leaves out a part of the derivative stays off: finite differences would miss it. */
    const int fixed = !strcmp(name, "reset_gradient") || !strcmp(name, "threshold_gradient") ||
                      !strcmp(name, "multi_spikes");
    a->options.values[k] = !strcmp(name, "max_spikes") ? 65536 : fixed ? 1 : below(choices);
  }
}

static struct buffer dense(struct call *c, int64_t count, int storage, double low, double high) {
  struct buffer x = make(1, 1, count, 1, storage, 1, 0);
  fill(&x, low, high);
  return add(c, x), x;
}

static struct call prepare(int index, int64_t T, int64_t B, int64_t N, int S, int storage, int gap,
                           int time_first, int surrogate, enum variant variant) {
  struct call c = {.neuron = neurons[index],
                   .kernels = lif_find_cpu_kernels(index, S, storage == LIF_FLOAT64)};
  const struct lif_neuron *n = c.neuron;
  struct lif_args *a = &c.a;
  *a = (struct lif_args){.T = T,
                         .B = B,
                         .N = N,
                         .S = S,
                         .storage = storage,
                         .kept = {LIF_KEPT_STATES, LIF_CHECKPOINT_INTERVAL}};
  set_options(a, n, surrogate);
  if (variant == RECURRENT_LAYER) {
    const int64_t currents = N * (S > 1 ? S : 1);
    struct lif_recurrence *r = &a->recurrence;
    a->kept.steps = 1;
    r->weights = dense(&c, N * currents, native(&c), -0.5, 0.5).tensor.data;
    r->weights_transposed = dense(&c, N * currents, native(&c), 0, 0).tensor.data;
    r->bias = dense(&c, currents, native(&c), -0.2, 0.2).tensor.data;
    r->resumed = 1;
    r->in = output(&c, T, S > 1 ? S : 1, native(&c), 1, 1);
    r->grad_in = output(&c, T, S > 1 ? S : 1, native(&c), 1, 1);
  }
  a->tile = lif_choose_tile(a, 2);
  a->streaming = below(2);
  const int64_t checkpoints = (T + a->kept.steps - 1) / a->kept.steps;
  for (int f = 0; f < n->n_inputs; f++) {
    const int width = lif_width(n->inputs[f].kind, S);
    if (!is_given(n->inputs[f], variant)) continue;
    a->options.inputs_given |= 1 << f;
    a->inputs[f] = input(&c, T, width, storage, -0.3, 1.0, gap, time_first);
    a->grad_inputs[f] = output(&c, T, width, storage, gap, time_first);
  }
  for (int f = 0; f < n->n_params; f++) {
    const int width = lif_width(n->params[f].kind, S);
    if (!is_given(n->params[f], variant) || n->params[f].kind & LIF_OF_RECURRENCE) continue;
    a->options.params_given |= 1 << f;
    struct buffer p = make(1, 1, N, width, native(&c), 1, 0);
    fill(&p, 0.4, 0.9);
    a->params[f] = add(&c, p);
    a->params[f].t = a->params[f].b = 0;
    a->grad_params[f] = output(&c, 1, width, native(&c), 1, 0);
  }
  for (int f = 0; f < n->n_states; f++) {
    const int width = lif_width(n->states[f].kind, S);
    if (!is_given(n->states[f], variant)) continue;
    a->first_state[f] = input(&c, 1, width, native(&c), -0.5, 0.8, 1, 0);
    a->last_state[f] = output(&c, 1, width, native(&c), 1, 0);
    a->checkpoints[f] = output(&c, checkpoints, width, native(&c), 1, 1);
    a->grad_last_state[f] = input(&c, 1, width, native(&c), -1, 1, 1, 0);
    a->grad_first_state[f] = output(&c, 1, width, native(&c), 1, 0);
    if (n->states[f].kind & LIF_OF_RECURRENCE) continue; /* the output is its record */
    a->records[f] = output(&c, T, width, storage, gap, time_first);
    a->grad_records[f] = input(&c, T, width, storage, -1, 1, gap, time_first);
  }
  a->out = output(&c, T, 1, storage, gap, time_first);
  a->grad_out = input(&c, T, 1, storage, -1, 1, gap, time_first);
  return c;
}

static void release(struct call *c) {
  for (int k = 0; k < c->count; k++) free(c->all[k].tensor.data);
}

static struct buffer *find(struct call *c, struct lif_tensor t) {
  for (int k = 0; k < c->count; k++)
    if (c->all[k].tensor.data == t.data) return &c->all[k];
  abort();
}

static struct buffer *find_data(struct call *c, const void *data) {
  return find(c, (struct lif_tensor){.data = (void *)data});
}

static void run(struct call *c, int backward) {
  const struct lif_recurrence *r = &c->a.recurrence;
  const int64_t currents = c->a.N * (c->a.S > 1 ? c->a.S : 1);
  for (int64_t n = 0; r->weights && n < c->a.N; n++)
    for (int64_t k = 0; k < currents; k++)
      set(find_data(c, r->weights_transposed), k * c->a.N + n,
          get(find_data(c, r->weights), n * currents + k));
  /* In two uneven parts, as two threads would. */
  const int64_t tasks = lif_tasks(&c->a), middle = tasks / 3;
  int (*const kernel)(const struct lif_args *, int64_t, int64_t) =
      backward ? c->kernels->backward : c->kernels->forward;
  CHECK(kernel(&c->a, middle, tasks) == 0, "out of memory");
  CHECK(kernel(&c->a, 0, middle) == 0, "out of memory");
}

/* No poison is left where something was to be written; gaps keep it. */
static void check_written(struct call *c, struct lif_tensor t, int64_t T, int width,
                          const char *what) {
  if (!t.data) return;
  const struct buffer *x = find(c, t);
  int64_t missing = 0, overwritten = x->count;
  for (int64_t k = 0; k < x->count; k++) overwritten -= is_poison(x, k);
  for (int64_t s = 0; s < T; s++)
    for (int64_t b = 0; b < c->a.B; b++)
      for (int64_t n = 0; n < c->a.N; n++)
        for (int k = 0; k < width; k++, overwritten--)
          missing += is_poison(x, s * t.t + b * t.b + n * t.n + k * t.s);
  CHECK(missing == 0, "%s of %s: %lld elements were not written", what, c->neuron->name,
        (long long)missing);
  CHECK(overwritten + missing <= 0, "%s of %s: %lld elements between rows were overwritten", what,
        c->neuron->name, (long long)overwritten);
}

static void test_memory(int index, int S, int storage, enum variant variant) {
  int surrogates = 0;
  while (lif_surrogates[surrogates].name) surrogates++;
  for (int repeat = 0; repeat < 6; repeat++) {
    const int64_t T = repeat == 0 ? 0 : 1 + below(40), B = 1 + below(3),
                  most = variant == RECURRENT_LAYER ? 40 : 513,
                  N = repeat == 1   ? 1
                      : repeat == 2 ? most
                                    : 1 + below((int)most);
    struct call c =
        prepare(index, T, B, N, S, storage, 1 + below(2), below(2), below(surrogates), variant);
    const struct lif_neuron *n = c.neuron;
    run(&c, 0);
    run(&c, 1);
    check_written(&c, c.a.out, T, 1, "out");
    for (int f = 0; f < n->n_states; f++) {
      const int width = lif_width(n->states[f].kind, S);
      check_written(&c, c.a.last_state[f], 1, width, "last state");
      check_written(&c, c.a.records[f], T, width, "record");
      check_written(&c, c.a.grad_first_state[f], 1, width, "gradient of the first state");
    }
    for (int f = 0; f < n->n_inputs; f++)
      check_written(&c, c.a.grad_inputs[f], T, lif_width(n->inputs[f].kind, S),
                    "gradient of an input");
    for (int f = 0; f < n->n_params; f++)
      check_written(&c, c.a.grad_params[f], 1, lif_width(n->params[f].kind, S),
                    "gradient of a parameter");
    check_written(&c, c.a.recurrence.in, T, S > 1 ? S : 1, "recurrent input");
    check_written(&c, c.a.recurrence.grad_in, T, S > 1 ? S : 1, "gradient of the recurrent input");
    release(&c);
  }
}

/* The same steps in two calls: the second starts from the first's last state. */
static void test_split(int index, int S, enum variant variant) {
  const int64_t T = 37, first = 21;
  struct call c = prepare(index, T, 2, 75, S, LIF_FLOAT32, 1, 1, 0, variant);
  run(&c, 0);
  struct buffer *out = find(&c, c.a.out);
  const size_t bytes = (size_t)out->count * sizeof(float);
  float *whole = malloc(bytes);
  memcpy(whole, out->tensor.data, bytes);
  poison(out);
  c.a.kept.steps = 0;
  struct lif_args a = c.a;
  a.T = first;
  struct call part = c;
  part.a = a;
  run(&part, 0);
  part.a.T = T - first;
  for (int f = 0; f < c.neuron->n_states; f++) part.a.first_state[f] = part.a.last_state[f];
  for (int f = 0; f < c.neuron->n_inputs; f++)
    if (part.a.inputs[f].data)
      part.a.inputs[f].data = (float *)part.a.inputs[f].data + first * part.a.inputs[f].t;
  for (int f = 0; f < c.neuron->n_states; f++) part.a.records[f].data = NULL;
  part.a.out.data = (float *)part.a.out.data + first * part.a.out.t;
  run(&part, 0);
  CHECK(memcmp(whole, out->tensor.data, bytes) == 0,
        "%s with %d synapses: two calls differ from one", c.neuron->name, S);
  free(whole);
  release(&c);
}

static double weighted_sum(struct call *c) {
  double sum = 0;
  const struct lif_neuron *n = c->neuron;
  const struct buffer *out = find(c, c->a.out), *g_out = find(c, c->a.grad_out);
  for (int64_t k = 0; k < out->count; k++) sum += get(out, k) * get(g_out, k);
  for (int f = 0; f < n->n_states; f++) {
    if (!c->a.last_state[f].data || is_measured(n->states[f].name)) continue;
    const struct buffer *last = find(c, c->a.last_state[f]),
                        *g_last = find(c, c->a.grad_last_state[f]);
    for (int64_t k = 0; k < last->count; k++) sum += get(last, k) * get(g_last, k);
    if (!c->a.records[f].data) continue;
    const struct buffer *record = find(c, c->a.records[f]),
                        *g_record = find(c, c->a.grad_records[f]);
    for (int64_t k = 0; k < record->count; k++) sum += get(record, k) * get(g_record, k);
  }
  return sum;
}

static void compare_slope(struct call *c, struct lif_tensor argument, struct lif_tensor gradient,
                          int sum_over_batch, const char *what) {
  if (!argument.data || is_measured(what)) return;
  struct buffer *x = find(c, argument);
  const struct buffer *g = find(c, gradient);
  for (int64_t k = 0; k < x->count; k++) {
    const double before = get(x, k), step = 1e-6;
    set(x, k, before + step);
    run(c, 0);
    const double above = weighted_sum(c);
    set(x, k, before - step);
    run(c, 0);
    const double slope = (above - weighted_sum(c)) / (2 * step);
    set(x, k, before);
    double expected = 0;
    for (int64_t b = 0; b < (sum_over_batch ? c->a.B : 1); b++)
      expected += get(g, k + b * x->count * sum_over_batch);
    CHECK(fabs(slope - expected) <= 1e-5 * (1 + fabs(expected)),
          "%s of %s: gradient %g, finite difference %g", what, c->neuron->name, expected, slope);
  }
}

/* The gradients of the weights and their bias, which the op layer makes of what the loop leaves. */
static void compare_recurrence(struct call *c) {
  const struct lif_recurrence *r = &c->a.recurrence;
  const int64_t N = c->a.N, currents = N * (c->a.S > 1 ? c->a.S : 1), steps = c->a.T * c->a.B,
                one = 1;
  struct buffer by_weights = dense(c, N * currents, LIF_FLOAT64, 0, 0),
                by_bias = dense(c, currents, LIF_FLOAT64, 0, 0);
  const int spikes = c->neuron->n_states - 1;
  lif_weights_gradient(c->a.checkpoints[spikes].data, r->grad_in.data, NULL, 1, steps, N, currents,
                       0, 1, by_weights.tensor.data);
  lif_weights_gradient(c->a.checkpoints[spikes].data, r->grad_in.data, NULL, 1, steps, N, currents,
                       1, N, (double *)by_weights.tensor.data + currents);
  lif_reduce(r->grad_in.data, 1, steps, currents, currents, 1, 1, &currents, &one, 0,
             by_bias.tensor.data);
  compare_slope(c, find_data(c, r->weights)->tensor, by_weights.tensor, 0, "w_rec");
  compare_slope(c, find_data(c, r->bias)->tensor, by_bias.tensor, 0, "b_rec");
}

/* SuperSpike: its smooth stand-in is differentiable by the threshold too. */
static void test_slope(int index, int S, enum variant variant) {
  struct call c = prepare(index, 19, 2, 2, S, LIF_FLOAT64, 1, 0, 2, variant);
  const struct lif_neuron *n = c.neuron;
  c.a.options.smooth = 1;
  run(&c, 0);
  run(&c, 1);
  for (int f = 0; f < n->n_inputs; f++)
    compare_slope(&c, c.a.inputs[f], c.a.grad_inputs[f], 0, n->inputs[f].name);
  for (int f = 0; f < n->n_states; f++)
    compare_slope(&c, c.a.first_state[f], c.a.grad_first_state[f], 0, n->states[f].name);
  for (int f = 0; f < n->n_params; f++)
    compare_slope(&c, c.a.params[f], c.a.grad_params[f], 1, n->params[f].name);
  if (variant == RECURRENT_LAYER) compare_recurrence(&c);
  release(&c);
}

static void test_reduce(void) {
  const float partials[2 * 6] = {1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60};
  const int64_t sizes[2] = {2, 3}, rows[2] = {1, 0}, all[2] = {0, 0};
  double by_row[2] = {0, 0}, total = 0, by_width[2] = {0, 0};
  lif_reduce(partials, 0, 2, 6, 6, 1, 2, sizes, rows, 0, by_row);
  CHECK(by_row[0] == 66 && by_row[1] == 165, "%g %g", by_row[0], by_row[1]);
  lif_reduce(partials, 0, 2, 6, 6, 1, 2, sizes, all, 0, &total);
  CHECK(total == 231, "%g", total);
  const int64_t three = 3, shared = 0;
  lif_reduce(partials, 0, 2, 6, 3, 2, 1, &three, &shared, 1, by_width);
  CHECK(by_width[0] == 99 && by_width[1] == 132, "%g %g", by_width[0], by_width[1]);
}

int main(void) {
  for (int index = 0; index < NEURONS; index++) {
    const int most = neurons[index]->max_synapses < 0 ? 10 : neurons[index]->max_synapses;
    for (int S = 0; S <= most; S = S == 5 ? 8 : S + 1) {
      for (int variant = 0; variant < VARIANTS; variant++) {
        if (variant == RECURRENT_LAYER && !neurons[index]->recurrent) continue;
        for (int storage = 0; storage < LIF_STORAGES; storage++)
          test_memory(index, S, storage, variant);
        test_split(index, S, variant);
        for (int repeat = 0; repeat < 4 && variant != OPTIONAL_AND_MEASURED; repeat++)
          test_slope(index, S, variant);
      }
    }
  }
  test_reduce();
  printf("%d passed, %d failed\n", checks - failures, failures);
  return failures != 0;
}

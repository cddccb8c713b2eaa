/* Recurrent layers. On the CPU the time loop itself computes the product with the weights
 * (csrc/cpu/recurrence.h), and on CUDA too where a layer fits a block (csrc/cuda/solo.h). Otherwise
 * it is one matrix product and one kernel per time step. They are launched from here, without
 * Python, and a CUDA graph can capture all of it. */
#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <atomic>

#include "../cpu/kernels.h"
#include "launch.h"

namespace lif {

/* A dense tensor (leading..., neurons * width) as the loops see it. */
static lif_tensor dense(const Tensor &t, int64_t width, bool sequence) {
  if (!t.defined()) return {};
  const int64_t row = t.size(-1);
  return {t.data_ptr(), sequence ? t.size(-2) * row : 0, row, width, 1};
}

/* Which rows of a dense matrix hold an infinity or NaN, as bytes; undefined if none does. */
static Tensor unbounded_rows(const Tensor &matrix) {
  const int64_t rows = matrix.size(0), length = matrix.size(1);
  const Tensor marks = at::empty({rows}, matrix.options().dtype(at::kByte));
  std::atomic<int64_t> found{0};
  const int64_t grain = 1 + (1 << 18) / std::max<int64_t>(1, length); /* about 20 us of work */
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    found += lif_mark_unbounded(matrix.const_data_ptr(), matrix.scalar_type() == at::kDouble, begin,
                                end, length, marks.data_ptr<unsigned char>());
  });
  return found ? marks : Tensor();
}

void Launch::set_recurrence(const Recurrence &recurrence, bool backward, bool resumed) {
  recurrence_ = recurrence;
  recurrence_.weights = recurrence.weights.contiguous();
  if (recurrence.bias.defined()) recurrence_.bias = recurrence.bias.contiguous();
  lif_recurrence &r = args.recurrence;
  r.resumed = resumed;
  r.weights = recurrence_.weights.const_data_ptr();
  if (args.N == 0) r.weights = &args; /* not read; not NULL because there is recurrence */
  if (recurrence.bias.defined()) r.bias = recurrence_.bias.const_data_ptr();
  if (!x_.is_cuda()) {
    Tensor rows = recurrence_.weights;
    if (backward) {
      rows = rows.t().contiguous();
      kept_.push_back(rows);
      r.weights_transposed = rows.const_data_ptr();
    }
    const Tensor unbounded = unbounded_rows(rows);
    kept_.push_back(unbounded);
    if (unbounded.defined()) r.unbounded = unbounded.const_data_ptr<unsigned char>();
  }
  const int64_t width = std::max(args.S, 1);
  r.in = dense(recurrence_.in, width, true);
  r.grad_in = dense(recurrence_.grad_in, width, true);
}

/* The same sequence, checkpoints or recurrent input, from time step t on. */
static lif_tensor later(lif_tensor x, int64_t t, int64_t element) {
  if (x.data) x.data = (char *)x.data + t * x.t * element;
  return x;
}

static lif_args one_step(const lif_args &all, const lif_neuron &neuron, int64_t t, int64_t stored,
                         int64_t computed) {
  lif_args a = all;
  a.T = 1;
  for (int f = 0; f < neuron.n_inputs; f++) {
    a.inputs[f] = later(a.inputs[f], t, stored);
    a.grad_inputs[f] = later(a.grad_inputs[f], t, stored);
  }
  for (int f = 0; f < neuron.n_states; f++) {
    a.records[f] = later(a.records[f], t, stored);
    a.grad_records[f] = later(a.grad_records[f], t, stored);
    a.checkpoints[f] = later(a.checkpoints[f], t, computed);
  }
  a.out = later(a.out, t, stored);
  a.grad_out = later(a.grad_out, t, stored);
  a.recurrence.in = later(a.recurrence.in, t, computed);
  a.recurrence.grad_in = later(a.recurrence.grad_in, t, computed);
  return a;
}

/* Where a state waits between one launch and the next: two places used in turn, so that no launch
 * reads and writes the same one. */
struct Waiting {
  std::vector<Tensor> places;

  Waiting(const lif_neuron &neuron, const lif_args &a, const at::TensorOptions &options) {
    for (int f = 0; f < neuron.n_states; f++)
      places.push_back(at::empty({2, a.B, a.N * lif_width(neuron.states[f].kind, a.S)}, options));
  }
  lif_tensor at(const lif_neuron &neuron, const lif_args &a, int f, int64_t t) const {
    const int64_t width = lif_width(neuron.states[f].kind, a.S);
    return width ? dense(places[f].select(0, t % 2), width, false) : lif_tensor{};
  }
};

void Launch::step_forward() {
  const int last = spikes_place(neuron_);
  const int64_t stored = x_.element_size(), currents = args.N * std::max(args.S, 1);
  const Tensor &weights = recurrence_.weights, &bias = recurrence_.bias;
  const Waiting waiting(neuron_, args, weights.options());
  const bool saved = recurrence_.in.defined();
  const Tensor rows = saved ? recurrence_.in : at::empty({1, args.B, currents}, weights.options());
  const Tensor spikes = saved ? recurrence_.spikes : waiting.places[last];
  const auto spikes_before = [&](int64_t t) { return spikes.select(0, saved ? t : t % 2); };
  if (args.T == 0) return start_cuda(args, false);
  if (recurrence_.first_spikes.defined())
    spikes.select(0, 0).copy_(recurrence_.first_spikes);
  else
    spikes.select(0, 0).zero_();
  for (int64_t t = 0; t < args.T; t++) {
    lif_args a = one_step(args, neuron_, t, stored, weights.element_size());
    const Tensor before = spikes_before(t);
    Tensor row = rows.select(0, saved ? t : 0);
    if (t == 0 && !args.recurrence.resumed)
      row.zero_();
    else if (bias.defined())
      at::addmm_out(row, bias, before, weights);
    else
      at::mm_out(row, before, weights);
    a.recurrence.in = dense(row, std::max(args.S, 1), false);
    for (int f = 0; f < last; f++) {
      if (t > 0) a.first_state[f] = waiting.at(neuron_, args, f, t);
      if (t + 1 < args.T) a.last_state[f] = waiting.at(neuron_, args, f, t + 1);
    }
    if (t + 1 < args.T) a.last_state[last] = dense(spikes_before(t + 1), 1, false);
    start_cuda(a, false);
  }
}

void Launch::step_backward() {
  const int last = spikes_place(neuron_);
  const int64_t stored = x_.element_size();
  const Tensor transposed = recurrence_.weights.t();
  const Waiting waiting(neuron_, args, recurrence_.weights.options());
  if (args.T == 0) return start_cuda(args, true);
  for (int64_t t = args.T - 1; t >= 0; t--) {
    lif_args a = one_step(args, neuron_, t, stored, recurrence_.weights.element_size());
    a.add_to_grad_params = t + 1 < args.T;
    for (int f = 0; f < last; f++) {
      if (t + 1 < args.T) a.grad_last_state[f] = waiting.at(neuron_, args, f, t);
      if (t > 0) a.grad_first_state[f] = waiting.at(neuron_, args, f, t - 1);
    }
    if (t + 1 < args.T) {
      Tensor g = waiting.places[last].select(0, 0);
      at::mm_out(g, recurrence_.grad_in.select(0, t + 1), transposed);
      a.grad_last_state[last] = dense(g, 1, false);
    }
    start_cuda(a, true);
  }
  if (!args.recurrence.resumed) recurrence_.grad_in.select(0, 0).zero_();
  if (recurrence_.grad_first_spikes.defined()) {
    Tensor g = recurrence_.grad_first_spikes.view({args.B, args.N});
    at::mm_out(g, recurrence_.grad_in.select(0, 0), transposed);
  }
}

Tensor Launch::weights_gradient() const {
  const int64_t steps = args.T * args.B, currents = args.N * std::max(args.S, 1);
  const Tensor spikes = recurrence_.spikes.contiguous().view({steps, args.N}),
               g = recurrence_.grad_in.view({steps, currents});
  if (x_.is_cuda()) return at::mm(spikes.t(), g);
  const Tensor total = at::empty({args.N, currents}, g.options()), marks = unbounded_rows(g);
  const unsigned char *unbounded =
      marks.defined() ? marks.const_data_ptr<unsigned char>() : nullptr;
  constexpr int64_t BLOCK = 32; /* rows of the weights whose sums stay in cache */
  at::parallel_for(0, (args.N + BLOCK - 1) / BLOCK, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> sum(BLOCK * currents);
    for (int64_t block = begin; block < end; block++) {
      const int64_t first = block * BLOCK, past = std::min(args.N, first + BLOCK);
      lif_weights_gradient(spikes.const_data_ptr(), g.const_data_ptr(), unbounded,
                           args.storage == LIF_FLOAT64, steps, args.N, currents, first, past,
                           sum.data());
      if (args.storage == LIF_FLOAT64)
        std::copy_n(sum.data(), (past - first) * currents,
                    total.data_ptr<double>() + first * currents);
      else
        std::copy_n(sum.data(), (past - first) * currents,
                    total.data_ptr<float>() + first * currents);
    }
  });
  return total;
}

Tensor Launch::bias_gradient() const {
  const Tensor &g = recurrence_.grad_in;
  if (x_.is_cuda())
    return at::sum(g, at::IntArrayRef{0, 1}, false, at::kDouble).to(g.scalar_type());
  const Tensor total = at::zeros({g.size(-1)}, g.options().dtype(at::kDouble));
  const int64_t size = g.size(-1), stride = 1;
  lif_reduce(g.data_ptr(), args.storage == LIF_FLOAT64, args.T * args.B, size, size, 1, 1, &size,
             &stride, 0, total.data_ptr<double>());
  return total.to(g.scalar_type());
}

}  // namespace lif

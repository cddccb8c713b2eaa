#include "launch.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <numeric>

#include "../cpu/kernels.h"
#ifdef LIF_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../cuda/kernels.h"
#endif

namespace lif {

lif_options make_options(const lif_neuron &neuron, const Config &config) {
  lif_options o = {};
  o.surrogate = -1;
  std::copy(config.options.begin(), config.options.end(), o.values);
  o.smooth = config.smooth;
  if (!neuron.spiking) {
    TORCH_CHECK_VALUE(config.surrogate.empty(), neuron.name, ": surrogate is '", config.surrogate,
                      "', expected none: this neuron does not spike");
    check_count(neuron.name, "surrogate parameters", config.surrogate_params.size(), 0);
    return o;
  }
  const lif_surrogate *surrogate = find_surrogate(config.surrogate);
  TORCH_CHECK_VALUE(surrogate, neuron.name, ": surrogate is '", config.surrogate,
                    "', expected one of ", surrogate_names());
  o.surrogate = (int)(surrogate - surrogates());
  const char *params = surrogate->params;
  check_count(neuron.name, "surrogate parameters", config.surrogate_params.size(),
              std::count(params, params + strlen(params), '='));
  std::copy(config.surrogate_params.begin(), config.surrogate_params.end(), o.surrogate_params);
  return o;
}

/* PyTorch's sum replaces lif_cuda_reduce for columns longer than LONG_COLUMN, if there are at most
 * FEW_COLUMNS. lif_cuda_reduce sums a column in one block, PyTorch shares a long column among
 * blocks. On an H200, for columns of 65536, PyTorch takes 13 us instead of 115 us for 8 columns,
 * but 264 us instead of 240 us for 512. */
enum { LONG_COLUMN = 8192, FEW_COLUMNS = 256 };

static int storage_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return LIF_FLOAT64;
    case at::kBFloat16: return LIF_BFLOAT16;
    case at::kHalf: return LIF_FLOAT16;
    default: return LIF_FLOAT32;
  }
}

Launch::Launch(int index, const Tensor &x, const Sizes &sizes, const lif_options &options,
               const lif_kept &kept, bool recurrent)
    : index_(index), neuron_(neuron(index)), x_(x), t_dim_(sizes.t_dim), b_dim_(sizes.b_dim) {
  for (const auto &size : sizes.trailing) trailing_.push_back(size.expect_int());
  order_.resize(trailing_.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (order_.size() > 1 && sizes.S < 2 &&
      !recurrent) /* recurrent weights number the neurons in the order of x's dimensions */
    std::stable_sort(order_.begin(), order_.end(),
                     [&](int64_t a, int64_t b) { return x.stride(2 + a) > x.stride(2 + b); });
  args.T = sizes.T.expect_int();
  args.B = sizes.B.expect_int();
  args.N =
      std::accumulate(trailing_.begin(), trailing_.end(), (int64_t)1, std::multiplies<int64_t>());
  args.S = sizes.S;
  args.storage = storage_of(x.scalar_type());
  args.kept = kept;
  args.options = options;
}

/* Whether the neurons' dimensions, with these strides, can be walked in order_ with a single
 * stride, *n. */
bool Launch::collapse(at::IntArrayRef strides, int64_t width, int64_t *n) const {
  int64_t inner = -1, inner_extent = 0;
  for (size_t k = order_.size(); k-- > 0;) {
    const int64_t size = trailing_[order_[k]], stride = strides[order_[k]];
    if (size == 1) continue;
    if (inner < 0)
      *n = inner = stride;
    else if (stride != inner_extent)
      return false;
    inner_extent = stride * size;
  }
  if (inner < 0)
    *n = width; /* one neuron: any stride is right, and with this one the kernel reads in place */
  return true;
}

/* The tensor with its neurons' dimensions in memory order, after `leading` others. The dimensions
 * after the neurons' stay last. */
Tensor Launch::in_order(const Tensor &t, int64_t leading) const {
  std::vector<int64_t> dims(t.dim());
  std::iota(dims.begin(), dims.end(), 0);
  for (size_t k = 0; k < order_.size(); k++) dims[leading + k] = leading + order_[k];
  return t.permute(dims);
}

lif_tensor Launch::address(const Tensor &t, int kind, Axes axes, bool *collapsed) const {
  const int64_t width = lif_width(kind, args.S);
  const auto strides = t.strides();
  const int64_t leading = axes == STATE ? 1 : 2;
  lif_tensor field = {};
  field.data = t.data_ptr();
  field.t = axes == STATE ? 0 : strides[axes == CHECKPOINT ? 0 : t_dim_];
  field.b = axes == STATE ? strides[0] : strides[axes == CHECKPOINT ? 1 : b_dim_];
  if (width == 1) {
    *collapsed = collapse(strides.slice(leading), width, &field.n);
  } else if (t.dim() == leading + 1) { /* neurons * synapses in one dimension */
    field.s = strides[leading];
    field.n = args.S * field.s;
    *collapsed = true;
  } else {
    field.n = strides[leading];
    field.s = strides[leading + 1];
    *collapsed = true;
  }
  return field;
}

/* A null address means that the tensor was left out. An empty tensor has a null address too, but
 * then there is nothing to read. */
lif_tensor Launch::read(const Tensor &t, int kind, Axes axes) {
  if (!t.defined()) return {};
  bool collapsed;
  const lif_tensor field = address(t, kind, axes, &collapsed);
  if (collapsed) return field;
  const int64_t leading = axes == STATE ? 1 : 2;
  const Tensor copy = in_order(t, leading).contiguous();
  kept_.push_back(copy);
  lif_tensor walked = field;
  walked.data = copy.data_ptr();
  walked.t = axes == STATE ? 0 : copy.stride(axes == CHECKPOINT ? 0 : t_dim_);
  walked.b = copy.stride(axes == STATE ? 0 : axes == CHECKPOINT ? 1 : b_dim_);
  walked.n = 1;
  return walked;
}

lif_tensor Launch::write(const Tensor &t, int kind, Axes axes) {
  if (!t.defined()) return {};
  bool collapsed;
  const lif_tensor field = address(t, kind, axes, &collapsed);
  if (collapsed) return field;
  const Tensor destination = in_order(t, axes == STATE ? 1 : 2);
  const Tensor copy = at::empty(destination.sizes(), destination.options());
  copies_.emplace_back(destination, copy);
  lif_tensor walked = field;
  walked.data = copy.data_ptr();
  walked.t = axes == STATE ? 0 : copy.stride(axes == CHECKPOINT ? 0 : t_dim_);
  walked.b = copy.stride(axes == STATE ? 0 : axes == CHECKPOINT ? 1 : b_dim_);
  walked.n = 1;
  return walked;
}

lif_tensor Launch::read_param(const Tensor &t, int kind) {
  if (!t.defined()) return {};
  lif_tensor field = {};
  field.data = t.data_ptr();
  if (t.numel() == 1)
    return field; /* shared by all neurons, as most are; a short call would feel the cost of what
                     follows */
  const int64_t width = lif_width(kind, args.S);
  if (width > 1) {
    field.n = t.size(0) == 1 ? 0 : t.stride(0);
    field.s = t.size(1) == 1 ? 0 : t.stride(1);
    return field;
  }
  const Tensor full = t.expand(trailing_);
  if (collapse(full.strides(), width, &field.n)) return field;
  const Tensor copy = in_order(full, 0).contiguous();
  kept_.push_back(copy);
  field.data = copy.data_ptr();
  field.n = 1;
  return field;
}

void Launch::write_partials(const int64_t *needs, int params) {
  int64_t columns = 0;
  for (int f = 0; f < params; f++)
    columns += needs[f] ? args.N * lif_width(neuron_.params[f].kind, args.S) : 0;
  if (!columns) return;
  partials_ = at::empty({args.B, columns}, x_.options().dtype(compute_type(x_)));
  char *at = (char *)partials_.data_ptr();
  for (int f = 0; f < params; f++) {
    if (!needs[f]) continue;
    const int64_t width = lif_width(neuron_.params[f].kind, args.S);
    args.grad_params[f] = {at, 0, columns, width, 1};
    at += args.N * width * (int64_t)partials_.element_size();
  }
}

Tensors Launch::sum_partials(const int64_t *needs, at::TensorList params) const {
  std::vector<int> needed;
  for (int f = 0; f < (int)params.size(); f++)
    if (needs[f]) needed.push_back(f);
  if (partials_.defined())
    return x_.is_cuda() ? sum_on_cuda(needed, params) : sum_on_cpu(needed, params);
  Tensors sums; /* there are no neurons */
  for (const int f : needed) sums.push_back(at::zeros(params[f].sizes(), params[f].options()));
  return sums;
}

Tensors Launch::sum_on_cpu(const std::vector<int> &needed, at::TensorList params) const {
  Tensors sums;
  for (const int f : needed) {
    const Tensor &param = params[f];
    const int64_t width = lif_width(neuron_.params[f].kind, args.S);
    const Tensor total = at::zeros(param.sizes(), param.options().dtype(at::kDouble));
    std::vector<int64_t> sizes, strides;
    for (const int64_t d : order_) {
      sizes.push_back(trailing_[d]);
      strides.push_back(param.dim() == 0 || total.size(d) == 1 ? 0 : total.stride(d));
    }
    const int64_t w_stride =
        width == 1 || param.dim() == 0 || total.size(-1) == 1 ? 0 : total.stride(-1);
    lif_reduce(args.grad_params[f].data, args.storage == LIF_FLOAT64, args.B, args.grad_params[f].b,
               args.N, (int)width, (int)sizes.size(), sizes.data(), strides.data(), w_stride,
               total.data_ptr<double>());
    sums.push_back(total.to(param.scalar_type()));
  }
  return sums;
}

/* One kernel computes the gradient of a parameter that has a value per neuron. A gradient that
 * neurons share is summed further by PyTorch, deterministically, before it is rounded. */
Tensors Launch::sum_on_cuda(const std::vector<int> &needed, at::TensorList params) const {
  Tensors sums;
#ifdef LIF_CUDA
  lif_gradients gradients = {};
  for (const int f : needed) {
    const int64_t width = lif_width(neuron_.params[f].kind, args.S);
    std::vector<int64_t> sizes,
        place(trailing_.size()); /* sizes in memory order; where each dimension is in them */
    for (const int64_t d : order_) {
      place[d] = (int64_t)sizes.size();
      sizes.push_back(trailing_[d]);
    }
    if (width > 1) {
      place.push_back((int64_t)sizes.size());
      sizes.push_back(width);
    }
    const bool shared = params[f].numel() < args.N * width,
               is_double = shared || args.storage == LIF_FLOAT64;
    const Tensor sum =
        at::empty(sizes, partials_.options().dtype(is_double ? at::kDouble : at::kFloat));
    gradients.of[gradients.count++] = {sum.data_ptr(), args.N * width, is_double};
    sums.push_back(sum.permute(place));
  }
  const bool few_and_long = args.B > LONG_COLUMN && partials_.size(1) <= FEW_COLUMNS;
  const Tensor partials = few_and_long ? partials_.sum(0, true, at::kDouble) : partials_;
  const c10::cuda::CUDAGuard guard(x_.device());
  C10_CUDA_CHECK((cudaError_t)lif_cuda_reduce(
      partials.data_ptr(), partials.scalar_type() == at::kDouble, partials.size(0), &gradients,
      c10::cuda::getCurrentCUDAStream().stream()));
  for (size_t k = 0; k < sums.size(); k++) {
    const Tensor &param = params[needed[k]];
    if (sums[k].sizes() != param.sizes())
      sums[k] = sums[k].sum_to_size(param.sizes()).to(param.scalar_type());
  }
#else
  (void)needed, (void)params;
#endif
  return sums;
}

void Launch::run_cpu(bool backward) {
  args.tile = lif_choose_tile(&args, at::get_num_threads());
  args.streaming = lif_choose_streaming(&args, at::get_num_threads());
  const lif_cpu_kernels *kernels =
      lif_find_cpu_kernels(index_, args.S, args.storage == LIF_FLOAT64);
  std::atomic<bool> failed{false};
  /* Below about 32768 neuron-steps (neurons * time steps) a second thread costs more than it
   * saves. */
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, args.T * args.tile));
  at::parallel_for(0, lif_tasks(&args), grain, [&](int64_t begin, int64_t end) {
    if ((backward ? kernels->backward : kernels->forward)(&args, begin, end)) failed = true;
  });
  TORCH_CHECK(!failed, neuron_.name, ": out of memory for the scratch of a tile of ",
              std::to_string(args.tile), " neurons with ", std::to_string(args.S), " synapses");
}

void Launch::run_cuda(bool backward) {
#ifdef LIF_CUDA
  const c10::cuda::CUDAGuard guard(x_.device());
  const lif_cuda_kernels *kernels = lif_find_cuda_kernels(index_, args.S, args.storage);
  if (args.recurrence.weights && lif_cuda_on_chip() && kernels->recurrent_fits(&args, backward)) {
    if (backward) {
      kept_.push_back(recurrence_.weights.t().contiguous());
      args.recurrence.weights_transposed = kept_.back().const_data_ptr();
    }
    const auto stream = c10::cuda::getCurrentCUDAStream();
    C10_CUDA_CHECK((cudaError_t)kernels->recurrent(&args, stream.stream(), backward));
    return;
  }
  if (const int64_t reals = kernels->workspace(&args, backward)) {
    const Tensor workspace = at::empty({reals}, x_.options().dtype(compute_type(x_)));
    kept_.push_back(workspace);
    args.workspace = workspace.data_ptr();
  }
  if (!args.recurrence.weights)
    start_cuda(args, backward);
  else if (backward)
    step_backward();
  else
    step_forward();
#else
  (void)backward;
  TORCH_CHECK_NOT_IMPLEMENTED(false, neuron_.name, ": x is on ", x_.device().str(),
                              ", but this torch_lif was built without CUDA. Install it again where "
                              "nvcc and a CUDA build of PyTorch "
                              "are found: TORCH_LIF_CUDA=1 pip install --no-build-isolation "
                              "--force-reinstall <the source folder>");
#endif
}

void Launch::start_cuda(const lif_args &a, bool backward) {
#ifdef LIF_CUDA
  const lif_cuda_kernels *kernels = lif_find_cuda_kernels(index_, a.S, a.storage);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const int error = (backward ? kernels->backward : kernels->forward)(&a, stream.stream());
  C10_CUDA_CHECK((cudaError_t)error);
#else
  (void)a, (void)backward;
#endif
}

void Launch::run(bool backward) {
  if (x_.is_cuda())
    run_cuda(backward);
  else
    run_cpu(backward);
  for (const auto &[destination, copy] : copies_) destination.copy_(copy);
}

}  // namespace lif

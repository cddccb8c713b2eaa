#include "check.h"

#include <ATen/EmptyTensor.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <limits>

namespace lif {

at::ScalarType compute_type(const Tensor &x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/* Only two or more synapses have an axis of their own. */
static bool has_synapse_axis(int kind, int S) { return S > 1 && (kind & 3) != LIF_PER_NEURON; }

Shape Sizes::sequence(int kind) const {
  Shape shape(2);
  shape[t_dim] = T;
  shape[b_dim] = B;
  shape.append(trailing.begin(), trailing.end());
  if (S > 1 && kind == LIF_PER_CURRENT)
    shape.back() = shape.back() * S;
  else if (has_synapse_axis(kind, S))
    shape.emplace_back(S);
  return shape;
}

Shape Sizes::state(int kind) const {
  Shape shape{B};
  shape.append(trailing.begin(), trailing.end());
  if (has_synapse_axis(kind, S)) shape.emplace_back(S);
  return shape;
}

c10::SymInt Sizes::neurons() const {
  c10::SymInt count = 1;
  for (const auto &size : trailing) count = count * size;
  return count;
}

c10::SymInt Sizes::currents() const { return neurons() * (S > 1 ? S : 1); }

/* Messages are built from strings; numbers never go through a stream. Some compilers link their C++
 * library statically, so that the process has two of them. Formatting a number then crashes because
 * there is no locale. */
static std::string size_text(const c10::SymInt &size) {
  const auto number = size.maybe_as_int();
  return number ? std::to_string(*number) : size.toSymNode()->str();
}

static std::string shape_text(c10::SymIntArrayRef shape) {
  std::string text = "(";
  for (size_t d = 0; d < shape.size(); d++) text += (d ? ", " : "") + size_text(shape[d]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

static bool same_shape(c10::SymIntArrayRef a, c10::SymIntArrayRef b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

/* Whether all that sizes and strides reach is in memory. A storage can be made smaller than its
 * tensor, as sharding libraries do. */
static bool is_in_memory(const Tensor &t) {
  return t.is_meta() || t.numel() == 0 ||
         (t.storage().data() && t.storage().nbytes() >= at::detail::computeStorageNbytes(
                                                            t.sizes(), t.strides(),
                                                            t.element_size(), t.storage_offset()));
}

void check_readable(const char *op, const char *name, const Tensor &t) {
  TORCH_CHECK_VALUE(!t.is_nested(), op, ": ", name,
                    " is a nested tensor; expected a dense one: pass ", name,
                    ".to_padded_tensor(0.0)");
  TORCH_CHECK_VALUE(t.layout() == at::kStrided, op, ": ", name, " is a ", t.layout(),
                    " tensor; expected a dense one: pass ", name, ".to_dense()");
  TORCH_CHECK_NOT_IMPLEMENTED(t.is_cpu() || t.is_cuda() || t.is_meta(), op, ": ", name, " is on ",
                              t.device().str(),
                              ", but there are kernels for cpu and cuda alone; move all of the "
                              "call to one of them with .to(), or "
                              "run the plain loop, torch_lif.reference, with the same arguments");
  TORCH_CHECK_VALUE(is_in_memory(t), op, ": the memory of ", name,
                    " has been freed or made smaller (by storage.resize_, or as FSDP does outside "
                    "of the module's call); expected a "
                    "tensor whose values are there");
}

static void check_place(const char *op, const char *name, const Tensor &t, const Tensor &x,
                        at::ScalarType type) {
  check_readable(op, name, t);
  TORCH_CHECK_VALUE(t.device() == x.device(), op, ": ", name, " is on ", t.device().str(),
                    " but x is on ", x.device().str(), "; move it with ", name, ".to(x.device)");
  TORCH_CHECK_TYPE(t.scalar_type() == type, op, ": ", name, " is ", t.scalar_type(), ", expected ",
                   type, " with x of ", x.scalar_type(),
                   "; convert one of the two with .to(dtype)");
}

static void check_shape(const char *op, const char *name, const Tensor &t, const Shape &expected,
                        const Tensor &x) {
  TORCH_CHECK_VALUE(same_shape(t.sym_sizes(), expected), op, ": ", name, " has shape ",
                    shape_text(t.sym_sizes()), ", expected ", shape_text(expected),
                    " with x of shape ", shape_text(x.sym_sizes()));
}

/* A parameter has the shape () and is shared, or it has the neurons' shape. A dimension of 1 shares
 * along that dimension. */
static void check_param_shape(const char *op, const char *name, const Tensor &t, Shape full) {
  const auto sizes = t.sym_sizes();
  bool fits = sizes.empty() || sizes.size() == full.size();
  for (size_t d = 0; fits && d < sizes.size(); d++) fits = sizes[d] == full[d] || sizes[d] == 1;
  TORCH_CHECK_VALUE(fits, op, ": ", name, " has shape ", shape_text(sizes),
                    ", expected () for one value shared by all, or ", shape_text(full),
                    " (a dimension may be 1)");
}

void check_count(const char *op, const char *what, size_t got, size_t expected) {
  TORCH_CHECK_VALUE(got == expected, op, ": got ", std::to_string(got), " ", what, ", expected ",
                    std::to_string(expected));
}

Sizes check_call(const lif_neuron &neuron, at::TensorList inputs, at::TensorList params,
                 at::TensorList state, const Config &config) {
  const char *op = neuron.name;
  check_count(op, "inputs", inputs.size(), neuron.n_inputs);
  check_count(op, "parameters", params.size(), neuron.n_params);
  check_count(op, "states", state.size(), neuron.n_states);
  check_count(op, "options", config.options.size(), neuron.n_options);
  check_count(op, "flags in record", config.record.size(), neuron.n_states);
  for (const int64_t flag : config.record)
    TORCH_CHECK_VALUE(flag == 0 || flag == 1, op, ": a flag in record is ", std::to_string(flag),
                      ", expected 0 or 1");
  TORCH_CHECK_VALUE(config.memory.empty() || config.memory == "mask" ||
                        config.memory == "recompute" || config.memory == "save",
                    op, ": memory is '", config.memory, "', expected 'mask', 'recompute' or None");
  constexpr int64_t most = std::numeric_limits<int>::max();
  TORCH_CHECK_VALUE(config.synapses >= 0, op, ": synapses is ", std::to_string(config.synapses),
                    ", expected 0 or more");
  TORCH_CHECK_VALUE(config.synapses <= most, op, ": synapses is ", std::to_string(config.synapses),
                    ", expected at most ", std::to_string(most));
  TORCH_CHECK_VALUE(neuron.max_synapses < 0 || config.synapses <= neuron.max_synapses, op,
                    ": synapses is ", std::to_string(config.synapses), ", expected at most ",
                    std::to_string(neuron.max_synapses));

  const Tensor &x = inputs[0];
  TORCH_CHECK_VALUE(x.defined(), op, ": ", neuron.inputs[0].name, " is missing");
  const auto type = x.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf, op,
      ": x is ", type,
      ", expected float32, float64, bfloat16 or float16; convert it with x.float()");
  check_place(op, "x", x, x, type);

  Sizes sizes;
  sizes.S = (int)config.synapses;
  sizes.t_dim = config.batch_first ? 1 : 0;
  sizes.b_dim = 1 - sizes.t_dim;
  const char *order = config.batch_first ? "(batch, time, ...)" : "(time, batch, ...)";
  const auto shape = x.sym_sizes();
  TORCH_CHECK_VALUE(shape.size() >= 2, op, ": x has shape ", shape_text(shape), ", expected ",
                    order, "; add a batch of one with x.unsqueeze(", std::to_string(sizes.b_dim),
                    ")");
  sizes.T = shape[sizes.t_dim];
  sizes.B = shape[sizes.b_dim];
  sizes.trailing.append(shape.begin() + 2, shape.end());
  if (sizes.S > 1) {
    TORCH_CHECK_VALUE(shape.size() == 3, op, ": x has shape ", shape_text(shape),
                      ", expected three dimensions ", order, " with neurons * synapses last, for ",
                      std::to_string(sizes.S), " synapses a neuron");
    TORCH_CHECK_VALUE(shape[2] % sizes.S == 0, op, ": the last dimension of x is ",
                      size_text(shape[2]),
                      ", expected a multiple of synapses = ", std::to_string(sizes.S),
                      ": each neuron takes ", std::to_string(sizes.S), " neighbouring inputs");
    sizes.trailing[0] = shape[2] / sizes.S;
  }

  for (int f = 1; f < neuron.n_inputs; f++) {
    const lif_field &field = neuron.inputs[f];
    const Tensor &t = inputs[f];
    TORCH_CHECK_VALUE(t.defined() || field.kind & LIF_OPTIONAL, op, ": ", field.name,
                      " is missing");
    if (!t.defined()) continue;
    check_place(op, field.name, t, x, type);
    check_shape(op, field.name, t, sizes.sequence(field.kind), x);
  }
  for (int f = 0; f < neuron.n_params; f++) {
    const lif_field &field = neuron.params[f];
    const Tensor &t = params[f];
    const int width = lif_width(field.kind, sizes.S);
    TORCH_CHECK_VALUE(t.defined() || width == 0 || field.kind & LIF_OPTIONAL, op, ": ", field.name,
                      " is missing");
    if (!t.defined()) continue;
    TORCH_CHECK_VALUE(width > 0, op, ": ", field.name,
                      " was given, expected None: with synapses = 0 there is no synapse");
    check_place(op, field.name, t, x, compute_type(x));
    if (field.kind & LIF_OF_RECURRENCE) {
      const bool weights = field.kind == LIF_WEIGHTS;
      TORCH_CHECK_VALUE(weights || has_recurrence(neuron, params), op,
                        ": b_rec was given, expected None without w_rec");
      check_shape(op, field.name, t,
                  weights ? Shape{sizes.neurons(), sizes.currents()} : Shape{sizes.currents()}, x);
      continue;
    }
    Shape full = sizes.trailing;
    if (has_synapse_axis(field.kind, sizes.S)) full.emplace_back(sizes.S);
    check_param_shape(op, field.name, t, full);
  }
  for (int f = 0; f < neuron.n_states; f++) {
    const lif_field &field = neuron.states[f];
    const bool present = is_present(neuron, f, sizes.S, params);
    const auto reason = [&] {
      const char *needed = needed_param(field);
      return needed ? std::string("without ") + needed + " there is no such state"
                    : "with synapses = 0 there is no synapse";
    };
    TORCH_CHECK_VALUE(present || !config.record[f], op, ": ", field.name,
                      " cannot be recorded: ", reason());
    TORCH_CHECK_VALUE(!config.record[f] || !(field.kind & LIF_OF_RECURRENCE), op, ": ", field.name,
                      " cannot be recorded: they are the output");
    const Tensor &t = state[f];
    if (!t.defined()) continue;
    const std::string name = std::string("the initial state ") + field.name;
    TORCH_CHECK_VALUE(present, op, ": ", name, " was given, expected None: ", reason());
    check_place(op, name.c_str(), t, x, compute_type(x));
    check_shape(op, name.c_str(), t, sizes.state(field.kind), x);
  }
  return sizes;
}

}  // namespace lif

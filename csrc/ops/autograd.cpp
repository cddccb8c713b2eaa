#include "autograd.h"

#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <functional>

namespace lif {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum { MAX_SLOTS = LIF_MAX_INPUTS + LIF_MAX_PARAMS + LIF_MAX_STATES };

/* The tensors of a call that were given. Autograd sees only those, in this order. */
struct Given {
  c10::SmallVector<Tensor, MAX_SLOTS> tensors;
  int64_t slots = 0; /* one bit per given tensor: its place among inputs, parameters, states */

  Given(at::TensorList inputs, at::TensorList params, at::TensorList state) {
    int slot = 0;
    for (const at::TensorList list : {inputs, params, state})
      for (const Tensor &t : list) {
        if (t.defined()) {
          tensors.push_back(t);
          slots |= (int64_t)1 << slot;
        }
        slot++;
      }
  }
};

/* The lists of a call as they came, which are passed on unchanged, and what follows from them. */
struct Call {
  const OptionalTensors &inputs, &params, &state;
  const Config &config;
  int64_t index, slots;
  size_t outputs; /* number of results that the caller sees; what is kept comes after them */
};

/* What the node keeps besides tensors. It is one entry of saved_data, because a dozen entries took
 * longer to write and to read than a short call should take. The entry is a list of integers,
 * because compiled autograd hashes it and shows it to Python. */
struct Remembered {
  int64_t index, slots, smooth, synapses, batch_first, surrogate, surrogate_param_count;
  int64_t record[LIF_MAX_STATES];
  double options[LIF_MAX_OPTIONS], surrogate_params[LIF_MAX_SURROGATE_PARAMS];
  char memory[16]; /* ended by a zero */

  explicit Remembered(const Call &call)
      : index(call.index),
        slots(call.slots),
        smooth(call.config.smooth),
        synapses(call.config.synapses),
        batch_first(call.config.batch_first),
        surrogate(-1),
        surrogate_param_count(0),
        record{},
        options{},
        surrogate_params{},
        memory{} {
    call.config.memory.copy(memory, sizeof memory - 1);
    std::copy(call.config.record.begin(), call.config.record.end(), record);
    std::copy(call.config.options.begin(), call.config.options.end(), options);
    if (!neuron((int)index).spiking) return;
    surrogate = find_surrogate(call.config.surrogate) - surrogates();
    surrogate_param_count = (int64_t)call.config.surrogate_params.size();
    std::copy(call.config.surrogate_params.begin(), call.config.surrogate_params.end(),
              surrogate_params);
  }
  explicit Remembered(const std::vector<int64_t> &words) {
    TORCH_INTERNAL_ASSERT(words.size() * sizeof(int64_t) == sizeof *this);
    memcpy((void *)this, words.data(), sizeof *this);
  }
  std::vector<int64_t> words() const {
    std::vector<int64_t> words(sizeof *this / sizeof(int64_t));
    memcpy(words.data(), (const void *)this, sizeof *this);
    return words;
  }

  Config config() const {
    const lif_neuron &n = neuron((int)index);
    return {{options, (size_t)n.n_options},
            surrogate < 0 ? "" : surrogates()[surrogate].name,
            {surrogate_params, (size_t)surrogate_param_count},
            smooth != 0,
            synapses,
            batch_first != 0,
            {record, (size_t)n.n_states},
            memory};
  }
  bool given(int slot) const { return slots >> slot & 1; }
};

/* A tensor with the shape, dtype and device of a sequence, and its neurons in the same order in
 * memory, but of one step of one batch item: all others share its memory. It takes the place of an
 * input whose values the backward does not read, so that these need not be kept. */
static Tensor outline(const Tensor &x) {
  const int64_t dims = x.dim();
  c10::SmallVector<int64_t, 6> order;
  for (int64_t d = 2; d < dims; d++) order.push_back(d);
  if (dims > 3)
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return x.sym_stride(a) > x.sym_stride(b); });
  c10::SmallVector<c10::SymInt, 6> strides(dims, 0);
  c10::SymInt stride = 1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    strides[*d] = stride;
    stride = stride * x.sym_size(*d);
  }
  return at::empty_strided_symint(x.sym_sizes(), strides, x.options());
}

struct Sequence : torch::autograd::Function<Sequence> {
  static variable_list forward(AutogradContext *ctx, at::TensorList given, const Call &call) {
    const lif_neuron &n = neuron((int)call.index);
    const at::AutoDispatchBelowADInplaceOrView guard;
    variable_list results =
        call_forward((int)call.index, call.inputs, call.params, call.state, call.config);
    TORCH_INTERNAL_ASSERT(results.size() > call.outputs);

    /* The first state is saved as the first kept state, so only inputs and parameters remain. */
    variable_list saved;
    saved.reserve(given.size() + results.size() - call.outputs);
    int slot = 0;
    for (const Tensor &t : given) {
      while (!(call.slots >> slot & 1)) slot++;
      if (slot < n.n_inputs && !reads_inputs(call.config.memory))
        saved.push_back(outline(t));
      else if (slot < n.n_inputs + n.n_params)
        saved.push_back(t);
      slot++;
    }
    saved.insert(saved.end(), results.begin() + (ptrdiff_t)call.outputs, results.end());
    ctx->save_for_backward(std::move(saved));
    ctx->set_materialize_grads(false);
    ctx->saved_data["call"] = Remembered(call).words();
    results.resize(call.outputs);
    return results;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grad_outputs) {
    const Remembered call(ctx->saved_data["call"].toIntVector());
    const lif_neuron &n = neuron((int)call.index);
    const int tensors = n.n_inputs + n.n_params, slots = tensors + n.n_states;

    OptionalTensors grads, inputs, params;
    grads.reserve(grad_outputs.size());
    bool any = false;
    for (Tensor &g : grad_outputs) {
      any |= g.defined();
      grads.push_back(g.defined() ? std::optional<Tensor>(std::move(g)) : std::nullopt);
    }
    int64_t needs[MAX_SLOTS] = {};
    size_t count = 0;
    bool needed = false;
    for (int slot = 0; slot < slots; slot++)
      if (call.given(slot)) needed |= needs[slot] = ctx->needs_input_grad(count++);
    variable_list result(count + 1); /* the argument that is not a tensor has no gradient */
    if (!any || !needed) return result;

    const variable_list saved = ctx->get_saved_variables();
    size_t next = 0;
    inputs.reserve(n.n_inputs);
    params.reserve(n.n_params);
    for (int slot = 0; slot < tensors; slot++)
      (slot < n.n_inputs ? inputs : params)
          .push_back(call.given(slot) ? std::optional<Tensor>(saved[next++]) : std::nullopt);
    const bool resumed = n.recurrent && call.given(n.n_inputs + weights_place(n)) &&
                         call.given(tensors + spikes_place(n));
    const Tensors computed =
        call_backward((int)call.index, grads, inputs, params, at::TensorList(saved).slice(next),
                      call.config(), resumed, {needs, (size_t)slots});
    next = count = 0;
    for (int slot = 0; slot < slots; slot++) {
      if (needs[slot]) result[count] = computed.at(next++);
      count += call.given(slot);
    }
    return result;
  }
};

static bool needs_gradient(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(),
                     [](const Tensor &t) { return t.defined() && t.requires_grad(); });
}

/* Whether a tensor has a tangent (forward-mode derivatives). There are no rules for tangents. With
 * a node autograd says so in an error; without one the tangents would be dropped silently. */
static bool has_tangent(at::TensorList tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const Tensor &t) { return t._fw_grad(/*level=*/0).defined(); });
}

/* Whether a tensor is nested. Autograd cannot ask a nested tensor for its sizes; the op's own
 * checks refuse it. */
static bool any_nested(at::TensorList tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const Tensor &t) { return t.defined() && t.is_nested(); });
}

/* Whether every list is as long as the neuron says. If not, the op's own checks say what is
 * wrong. */
static bool is_right_size(const lif_neuron &n, at::TensorList inputs, at::TensorList params,
                          at::TensorList state, const Config &config) {
  return (int)inputs.size() == n.n_inputs && (int)params.size() == n.n_params &&
         (int)state.size() == n.n_states && (int)config.record.size() == n.n_states &&
         (int)config.options.size() == n.n_options &&
         (!n.spiking || find_surrogate(config.surrogate)) &&
         config.surrogate_params.size() <= LIF_MAX_SURROGATE_PARAMS;
}

Tensors differentiable(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                       const OptionalTensors &state, const Config &config) {
  const lif_neuron &n = neuron(index);
  const Unpacked all_inputs(inputs), all_params(params), all_state(state);
  if (is_right_size(n, all_inputs, all_params, all_state, config)) {
    const Given given(all_inputs, all_params, all_state);
    if (!any_nested(given.tensors) &&
        (needs_gradient(given.tensors) || has_tangent(given.tensors))) {
      Config chosen = config;
      chosen.memory = choose_memory(n, all_params, config, needs_gradient(all_params));
      const size_t outputs = 1 + present_states(n, config.synapses, all_params).size() +
                             std::count_if(config.record.begin(), config.record.end(),
                                           [](int64_t flag) { return flag != 0; });
      return Sequence::apply(at::TensorList(given.tensors),
                             Call{inputs, params, state, chosen, index, given.slots, outputs});
    }
  }
  const at::AutoDispatchBelowADInplaceOrView guard;
  return call_public(index, inputs, params, state, config);
}

struct FirstDerivative : torch::autograd::Function<FirstDerivative> {
  static variable_list forward(AutogradContext *ctx, at::TensorList,
                               const std::function<Tensors()> &compute, const std::string &name) {
    ctx->saved_data["name"] = name;
    return compute();
  }
  static variable_list backward(AutogradContext *ctx, const variable_list &) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "torch_lif::", ctx->saved_data["name"].toStringRef(),
                                " has a first derivative only: a surrogate gradient has no second. "
                                "Leave out create_graph=True, or "
                                "take the plain loop, torch_lif.reference, if you need one");
    return {};
  }
};

Tensors backward_once(int index, const OptionalTensors &grads, const OptionalTensors &inputs,
                      const OptionalTensors &params, at::TensorList kept, const Config &config,
                      bool resumed, at::IntArrayRef needs) {
  const auto compute = [&] {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return call_backward(index, grads, inputs, params, kept, config, resumed, needs);
  };
  if (!at::GradMode::is_enabled()) return compute(); /* nobody asked for a second derivative */
  const Given given{Unpacked(grads), Unpacked(inputs), Unpacked(params)};
  if (any_nested(given.tensors)) return compute();
  return FirstDerivative::apply(at::TensorList(given.tensors), std::function<Tensors()>(compute),
                                std::string(neuron(index).name));
}

}  // namespace lif

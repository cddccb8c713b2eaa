#include "autograd.h"

#include <torch/csrc/autograd/custom_function.h>

#include <functional>

namespace lif {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/* Which of a neuron's tensors were given; autograd sees only those, in this order. */
struct Given {
  Tensors tensors;
  std::vector<int64_t> slots; /* place of each among inputs, parameters, states */

  Given(const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state) {
    int64_t slot = 0;
    for (const OptionalTensors *list : {&inputs, &params, &state})
      for (size_t k = 0; k < list->size(); k++, slot++) {
        const std::optional<Tensor> t = (*list)[k];
        if (!t || !t->defined()) continue;
        tensors.push_back(*t);
        slots.push_back(slot);
      }
  }
};

static OptionalTensors pick(const variable_list &saved, const std::vector<int64_t> &slots, int64_t first, int64_t count) {
  OptionalTensors list;
  for (int64_t k = 0; k < count; k++) {
    std::optional<Tensor> found;
    for (size_t g = 0; g < slots.size(); g++)
      if (slots[g] == first + k) found = saved[g];
    list.push_back(found);
  }
  return list;
}

struct Sequence : torch::autograd::Function<Sequence> {
  static variable_list forward(AutogradContext *ctx, at::TensorList given, const std::vector<int64_t> &slots, int64_t index,
                               const Config &config, int64_t interval) {
    const lif_neuron &n = neuron((int)index);
    const variable_list tensors = given.vec();
    const OptionalTensors inputs = pick(tensors, slots, 0, n.n_inputs), params = pick(tensors, slots, n.n_inputs, n.n_params),
                          state = pick(tensors, slots, n.n_inputs + n.n_params, n.n_states);
    const bool recurrent = has_recurrence(n, params);
    const at::AutoDispatchBelowADInplaceOrView guard;
    variable_list results = call_forward((int)index, inputs, params, state, config, interval);
    const size_t kept = interval == MASK ? 1 : present_states(n, config.synapses, params).size() + recurrent;

    /* The first state is the first checkpoint, so what remains to be saved are inputs and parameters. */
    variable_list saved;
    std::vector<int64_t> saved_slots;
    for (size_t g = 0; g < slots.size(); g++)
      if (slots[g] < n.n_inputs + n.n_params) {
        saved.push_back(tensors[g]);
        saved_slots.push_back(slots[g]);
      }
    saved.insert(saved.end(), results.end() - (ptrdiff_t)kept, results.end());
    ctx->save_for_backward(std::move(saved));
    ctx->set_materialize_grads(false);
    auto &data = ctx->saved_data;
    data["index"] = index;
    data["slots"] = slots;
    data["saved_slots"] = saved_slots;
    data["interval"] = interval;
    data["options"] = config.options;
    data["surrogate"] = config.surrogate;
    data["surrogate_params"] = config.surrogate_params;
    data["smooth"] = config.smooth;
    data["synapses"] = config.synapses;
    data["batch_first"] = config.batch_first;
    data["record"] = config.record;
    data["memory"] = config.memory;
    data["resumed"] = recurrent && state.get(spikes_place(n)).has_value();
    results.resize(results.size() - kept);
    return results;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grad_outputs) {
    auto &data = ctx->saved_data;
    const int index = (int)data["index"].toInt();
    const lif_neuron &n = neuron(index);
    const std::vector<int64_t> slots = data["slots"].toIntVector(), saved_slots = data["saved_slots"].toIntVector();
    const Config config{
        data["options"].toDoubleVector(), data["surrogate"].toStringRef(), data["surrogate_params"].toDoubleVector(),
        data["smooth"].toBool(),          data["synapses"].toInt(),        data["batch_first"].toBool(),
        data["record"].toIntVector(),     data["memory"].toStringRef()};

    variable_list result(slots.size() + 4); /* the four arguments that are not tensors have none */
    OptionalTensors grads;
    bool any = false;
    for (const Tensor &g : grad_outputs) {
      grads.push_back(g.defined() ? std::optional<Tensor>(g) : std::nullopt);
      any |= g.defined();
    }
    std::vector<int64_t> needs(n.n_inputs + n.n_params + n.n_states, 0);
    bool needed = false;
    for (size_t g = 0; g < slots.size(); g++) needed |= needs[slots[g]] = ctx->needs_input_grad(g);
    if (!any || !needed) return result;

    const variable_list saved = ctx->get_saved_variables();
    const Tensors checkpoints(saved.begin() + (ptrdiff_t)saved_slots.size(), saved.end());
    const Tensors computed =
        call_backward(index, grads, pick(saved, saved_slots, 0, n.n_inputs), pick(saved, saved_slots, n.n_inputs, n.n_params),
                      checkpoints, config, data["interval"].toInt(), data["resumed"].toBool(), needs);
    size_t next = 0;
    for (size_t g = 0; g < slots.size(); g++)
      if (needs[slots[g]]) result[g] = computed.at(next++);
    return result;
  }
};

Tensors differentiable(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                       const Config &config) {
  const Given given(inputs, params, state);
  const bool needed = at::GradMode::is_enabled() &&
                      std::any_of(given.tensors.begin(), given.tensors.end(), [](const Tensor &t) { return t.requires_grad(); });
  const lif_neuron &n = neuron(index);
  if (needed) {
    bool param_gradients = false;
    for (int k = 0; k < n.n_params; k++) {
      const std::optional<Tensor> p = params.get(k);
      param_gradients |= p && p->defined() && p->requires_grad();
    }
    const int64_t interval = choose_memory(n, *inputs.get(0), params, config, param_gradients);
    return Sequence::apply(at::TensorList(given.tensors), given.slots, (int64_t)index, config, interval);
  }
  const at::AutoDispatchBelowADInplaceOrView guard;
  return call_public(index, inputs, params, state, config);
}

struct FirstDerivative : torch::autograd::Function<FirstDerivative> {
  static variable_list forward(AutogradContext *ctx, at::TensorList, const std::function<Tensors()> &compute,
                               const std::string &name) {
    ctx->saved_data["name"] = name;
    const at::AutoDispatchBelowADInplaceOrView guard;
    return compute();
  }
  static variable_list backward(AutogradContext *ctx, const variable_list &) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "torch_lif::", ctx->saved_data["name"].toStringRef(),
                                " has a first derivative only: a surrogate gradient has no second. Leave out create_graph=True, or "
                                "take the plain loop, torch_lif.reference, if you need one");
    return {};
  }
};

Tensors backward_once(int index, const OptionalTensors &grads, const OptionalTensors &inputs, const OptionalTensors &params,
                      const Tensors &checkpoints, const Config &config, int64_t interval, bool resumed, at::IntArrayRef needs) {
  const Given given(grads, inputs, params);
  const std::vector<int64_t> flags = needs.vec();
  return FirstDerivative::apply(at::TensorList(given.tensors), std::function<Tensors()>([&] {
                                  return call_backward(index, grads, inputs, params, checkpoints, config, interval, resumed, flags);
                                }),
                                std::string(neuron(index).name));
}

}  // namespace lif

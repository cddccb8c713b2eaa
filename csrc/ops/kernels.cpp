/* The forward and backward ops, for real and for meta tensors: the same code allocates the outputs
 * of both. Also the choice of what the forward keeps for the backward. */
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <array>
#include <string>

#include "launch.h"

namespace lif {

/* A sequence laid out like x: the same order of batch, time and neurons in memory. */
static Tensor empty_sequence(const Tensor &x, const Sizes &sizes, int kind) {
  const Shape shape = sizes.sequence(kind);
  if (sizes.S < 2 || kind == LIF_PER_CURRENT) return at::empty_like(x);
  if (shape.size() == 3) return at::empty_like(x.narrow_symint(2, 0, sizes.trailing[0]));
  return at::empty_symint(shape, x.options());
}

static Tensor empty_state(const Tensor &x, const Sizes &sizes, int kind) {
  return at::empty_symint(sizes.state(kind), x.options().dtype(compute_type(x)));
}

/* Of the kept states, `steps` time steps apart. */
static Shape kept_shape(const Sizes &sizes, int kind, int64_t steps) {
  Shape shape{(sizes.T + (steps - 1)) / steps};
  const Shape state = sizes.state(kind);
  shape.append(state.begin(), state.end());
  return shape;
}

/* The parameters that the neuron itself has: all but the recurrent weights and their bias. */
static int own_params(const lif_neuron &neuron) {
  return neuron.n_params - (neuron.recurrent ? 2 : 0);
}

static void read_all(Launch &launch, const lif_neuron &neuron, at::TensorList inputs,
                     at::TensorList params) {
  for (int f = 0; f < neuron.n_inputs; f++) {
    launch.args.inputs[f] = launch.read(inputs[f], neuron.inputs[f].kind, Launch::SEQUENCE);
    launch.args.options.inputs_given |= (int)inputs[f].defined() << f;
  }
  for (int f = 0; f < own_params(neuron); f++) {
    launch.args.params[f] = launch.read_param(params[f], neuron.params[f].kind);
    launch.args.options.params_given |= (int)params[f].defined() << f;
  }
}

static Launch::Recurrence recurrence_of(const lif_neuron &neuron, at::TensorList params) {
  Launch::Recurrence recurrence;
  recurrence.weights = params[weights_place(neuron)];
  recurrence.bias = params[bias_place(neuron)];
  return recurrence;
}

/* The recurrent input of each step, or its gradient. */
static Tensor empty_recurrent(const Tensor &x, const Sizes &sizes) {
  return at::empty_symint(Shape{sizes.T, sizes.B, sizes.currents()},
                          x.options().dtype(compute_type(x)));
}

/* Without a time step the last spikes are the first. The loops do not copy them. */
static void copy_or_zero(const Tensor &to, const Tensor &from) {
  if (from.defined())
    to.copy_(from);
  else
    to.zero_();
}

/* Why a mask is not enough for the backward; empty if it is. */
static std::string no_mask(const lif_neuron &neuron, const Config &config, bool recurrent,
                           bool param_gradients) {
  if (!neuron.keeps) return param_gradients ? "a parameter requires a gradient" : "";
  if (!neuron.maskable) return "this neuron's backward needs its states";
  if (config.smooth) return "smooth=True has no spikes";
  if (recurrent) return "w_rec's gradient needs the spikes";
  if (param_gradients) return "a parameter requires a gradient";
  const lif_surrogate *surrogate = find_surrogate(config.surrogate);
  if (surrogate && !surrogate->window)
    return std::string("the surrogate ") + surrogate->class_name + " is no window";
  return "";
}

static const lif_kept NOTHING = {LIF_KEPT_NOTHING, 0}, MASK = {LIF_KEPT_MASK, 0},
                      RECOMPUTE = {LIF_KEPT_STATES, LIF_CHECKPOINT_INTERVAL},
                      SAVE = {LIF_KEPT_STATES, 1};

c10::string_view choose_memory(const lif_neuron &neuron, at::TensorList params,
                               const Config &config, bool param_gradients) {
  const bool recurrent = has_recurrence(neuron, params);
  const std::string why_no_mask = no_mask(neuron, config, recurrent, param_gradients);
  if (config.memory == "mask") {
    TORCH_CHECK_VALUE(why_no_mask.empty(), neuron.name, ": memory is 'mask', but ", why_no_mask,
                      recurrent ? "; expected None" : "; expected 'recompute' or None");
  } else if (!config.memory.empty()) {
    TORCH_CHECK_VALUE(!recurrent, neuron.name, ": memory is '", config.memory,
                      "', but with w_rec steps cannot be replayed; expected None");
    TORCH_CHECK_VALUE(config.memory == "recompute", neuron.name, ": memory is '", config.memory,
                      "', expected 'mask', 'recompute' or None");
  }
  if (recurrent) return "save";
  if (!config.memory.empty()) return config.memory;
  return why_no_mask.empty() ? "mask" : "recompute";
}

/* What config.memory names. Refuses what choose_memory could not have chosen, because the inner ops
 * can be called directly. */
static lif_kept kept_of(const lif_neuron &neuron, const Config &config, bool recurrent,
                        bool param_gradients) {
  const bool mask = no_mask(neuron, config, recurrent, param_gradients).empty();
  if (config.memory == "mask" && mask) return MASK;
  if (config.memory == "recompute" && !recurrent) return RECOMPUTE;
  if (config.memory == "save" && recurrent) return SAVE;
  TORCH_CHECK_VALUE(false, neuron.name, ": memory is '", config.memory, "', expected ",
                    recurrent ? "'save'"
                    : mask    ? "'mask' or 'recompute'"
                              : "'recompute'");
}

/* The shape of the mask, which is empty for a neuron whose backward needs nothing. */
static Shape mask_shape(const lif_neuron &neuron, const Sizes &sizes) {
  Shape shape{neuron.keeps ? (sizes.T + (LIF_MASK_STEPS - 1)) / LIF_MASK_STEPS : c10::SymInt(0)};
  const Shape state = sizes.state(LIF_PER_NEURON);
  shape.append(state.begin(), state.end());
  return shape;
}

using PerState = std::array<Tensor, LIF_MAX_STATES>;

/* What the caller of a layer sees, or the gradients of it. What there is not is undefined. */
struct Seen {
  Tensor out;
  PerState last, records;
};

/* What is kept for the backward. */
struct KeptTensors {
  Tensor mask, recurrent_input;
  PerState states;
};

/* Calls f(tensor, what it is, its state or -1) for everything of a layer's list, in the order of
 * the ops' lists. */
template <class Function>
static void each_seen(Seen &seen, const Places &present, const Config &config, Function f) {
  f(seen.out, "the output", -1);
  for (const int state : present) f(seen.last[state], "the last state ", state);
  for (const int state : present)
    if (config.record[state]) f(seen.records[state], "the record ", state);
}

template <class Function>
static void each_kept(KeptTensors &kept, const lif_kept &how, const Places &present, bool recurrent,
                      Function f) {
  if (how.mode == LIF_KEPT_MASK) f(kept.mask, "the mask", -1);
  if (how.mode == LIF_KEPT_STATES)
    for (const int state : present) f(kept.states[state], "the kept state ", state);
  if (how.mode != LIF_KEPT_NOTHING && recurrent) f(kept.recurrent_input, "the recurrent input", -1);
}

Tensors forward(int index, at::TensorList inputs, at::TensorList params, at::TensorList state,
                const Config &config, bool keep) {
  const lif_neuron &neuron = lif::neuron(index);
  const Sizes sizes = check_call(neuron, inputs, params, state, config);
  const lif_options options = make_options(neuron, config);
  const Tensor &x = inputs[0];
  const bool recurrent = has_recurrence(neuron, params);
  const lif_kept how =
      keep && !config.memory.empty() ? kept_of(neuron, config, recurrent, false) : NOTHING;
  const Places present = present_states(neuron, config.synapses, params);

  Seen seen;
  KeptTensors kept;
  Tensors results;
  const auto made = [&](Tensor &place, const Tensor &tensor) { results.push_back(place = tensor); };
  const auto kind_of = [&](int f) { return f < 0 ? (int)LIF_PER_NEURON : neuron.states[f].kind; };
  each_seen(seen, present, config, [&](Tensor &t, const char *, int f) {
    made(t, f >= 0 && &t == &seen.last[f] ? empty_state(x, sizes, kind_of(f))
                                          : empty_sequence(x, sizes, kind_of(f)));
  });
  each_kept(kept, how, present, recurrent, [&](Tensor &t, const char *, int f) {
    if (f >= 0)
      made(t, at::empty_symint(kept_shape(sizes, kind_of(f), how.steps),
                               x.options().dtype(compute_type(x))));
    else if (&t == &kept.mask)
      made(t, at::empty_symint(mask_shape(neuron, sizes), x.options().dtype(at::kInt)));
    else
      made(t, empty_recurrent(x, sizes));
  });
  if (x.is_meta()) return results;

  Launch launch(index, x, sizes, options, how, recurrent);
  read_all(launch, neuron, inputs, params);
  launch.args.out = launch.write(seen.out, LIF_PER_NEURON, Launch::SEQUENCE);
  launch.args.mask = launch.write(kept.mask, LIF_PER_NEURON, Launch::CHECKPOINT);
  for (const int f : present) {
    const int kind = neuron.states[f].kind;
    launch.args.first_state[f] = launch.read(state[f], kind, Launch::STATE);
    launch.args.last_state[f] = launch.write(seen.last[f], kind, Launch::STATE);
    launch.args.records[f] = launch.write(seen.records[f], kind, Launch::SEQUENCE);
    launch.args.checkpoints[f] = launch.write(kept.states[f], kind, Launch::CHECKPOINT);
  }
  if (recurrent) {
    const int spikes = spikes_place(neuron);
    Launch::Recurrence recurrence = recurrence_of(neuron, params);
    if (state[spikes].defined())
      recurrence.first_spikes = state[spikes].reshape({launch.args.B, launch.args.N});
    recurrence.in = kept.recurrent_input;
    if (kept.states[spikes].defined())
      recurrence.spikes = kept.states[spikes].view({launch.args.T, launch.args.B, launch.args.N});
    launch.set_recurrence(recurrence, false, recurrence.first_spikes.defined());
  }
  launch.run(false);
  if (recurrent && launch.args.T == 0)
    copy_or_zero(seen.last[spikes_place(neuron)], state[spikes_place(neuron)]);
  return results;
}

/* Checks a tensor that the forward op or autograd made. The backward op can be called directly, and
 * no pointer may reach a kernel unchecked. */
static void check_made(const lif_neuron &neuron, const std::string &what, const Tensor &made,
                       const Tensor &x, const Shape &shape, at::ScalarType type) {
  check_readable((std::string(neuron.name) + "_backward").c_str(), what.c_str(), made);
  TORCH_CHECK_VALUE(made.device() == x.device() && made.scalar_type() == type &&
                        made.sym_sizes() == c10::SymIntArrayRef(shape),
                    neuron.name, "_backward: ", what,
                    " does not have the shape, dtype or device that the forward op gives it");
}

/* The entries of `needs`: which gradients are asked for. */
struct Needs {
  const int64_t *inputs, *params, *states;

  Needs(const lif_neuron &neuron, at::IntArrayRef needs)
      : inputs(needs.data()), params(inputs + neuron.n_inputs), states(params + neuron.n_params) {}
};

/* Checks that gradients are asked only for what the call has. */
static void check_needs(const lif_neuron &neuron, at::IntArrayRef needs, at::TensorList inputs,
                        at::TensorList params, const Places &present) {
  check_count((std::string(neuron.name) + "_backward").c_str(), "needs", needs.size(),
              neuron.n_inputs + neuron.n_params + neuron.n_states);
  const auto check_need = [&](int64_t need, const lif_field &field, bool there) {
    TORCH_CHECK_VALUE(need == 0 || need == 1, neuron.name, "_backward: needs holds ",
                      std::to_string(need), " for ", field.name, ", expected 0 or 1");
    TORCH_CHECK_VALUE(!need || there, neuron.name, "_backward: needs asks for the gradient of ",
                      field.name, ", which the call does not have; expected 0 there");
  };
  const Needs need(neuron, needs);
  for (int f = 0; f < neuron.n_inputs; f++)
    check_need(need.inputs[f], neuron.inputs[f], inputs[f].defined());
  for (int f = 0; f < neuron.n_params; f++)
    check_need(need.params[f], neuron.params[f], params[f].defined());
  for (int f = 0; f < neuron.n_states; f++)
    check_need(need.states[f], neuron.states[f],
               std::find(present.begin(), present.end(), f) != present.end());
}

Tensors backward(int index, at::TensorList grads, at::TensorList inputs, at::TensorList params,
                 at::TensorList kept_list, const Config &config, bool resumed,
                 at::IntArrayRef needs) {
  const lif_neuron &neuron = lif::neuron(index);
  const std::string op = std::string(neuron.name) + "_backward";
  const PerState no_state;
  const Sizes sizes =
      check_call(neuron, inputs, params, at::TensorList(no_state.data(), neuron.n_states), config);
  lif_options options = make_options(neuron, config);
  const Tensor &x = inputs[0];
  const bool recurrent = has_recurrence(neuron, params);
  const Places present = present_states(neuron, config.synapses, params);
  check_needs(neuron, needs, inputs, params, present);
  const Needs need(neuron, needs);
  const bool params_need =
      std::any_of(need.params, need.params + neuron.n_params, [](int64_t n) { return n != 0; });
  options.param_gradients =
      std::any_of(need.params, need.params + own_params(neuron), [](int64_t n) { return n != 0; });
  const lif_kept how = kept_of(neuron, config, recurrent, params_need);

  Seen grad;
  KeptTensors kept;
  const auto kind_of = [&](int f) { return f < 0 ? (int)LIF_PER_NEURON : neuron.states[f].kind; };
  const auto name_of = [&](const char *what, int f) {
    return what + std::string(f < 0 ? "" : neuron.states[f].name);
  };
  size_t next = 0;
  each_seen(grad, present, config, [&](Tensor &t, const char *what, int f) {
    if (next < grads.size()) t = grads[next];
    next++;
    const bool last = f >= 0 && &t == &grad.last[f];
    if (t.defined())
      check_made(neuron, "the gradient of " + name_of(what, f), t, x,
                 last ? sizes.state(kind_of(f)) : sizes.sequence(kind_of(f)),
                 last ? compute_type(x) : x.scalar_type());
  });
  check_count(op.c_str(), "grads", grads.size(), next);
  next = 0;
  each_kept(kept, how, present, recurrent, [&](Tensor &t, const char *what, int f) {
    if (next < kept_list.size()) t = kept_list[next];
    next++;
    if (t.defined())
      check_made(neuron, name_of(what, f), t, x,
                 f >= 0             ? kept_shape(sizes, kind_of(f), how.steps)
                 : &t == &kept.mask ? mask_shape(neuron, sizes)
                                    : Shape{sizes.T, sizes.B, sizes.currents()},
                 &t == &kept.mask ? at::kInt : compute_type(x));
  });
  check_count(op.c_str(), "kept", kept_list.size(), next);

  /* The results: gradients by name, and in a list in the order of `needs`. */
  std::array<Tensor, LIF_MAX_INPUTS> grad_inputs;
  PerState grad_states;
  for (int f = 0; f < neuron.n_inputs; f++)
    if (need.inputs[f])
      grad_inputs[f] = empty_sequence(x, sizes, neuron.inputs[f].kind & ~LIF_OPTIONAL);
  for (const int f : present)
    if (need.states[f]) grad_states[f] = empty_state(x, sizes, neuron.states[f].kind);
  std::array<Tensor, LIF_MAX_PARAMS> grad_params;
  if (x.is_meta())
    for (int f = 0; f < neuron.n_params; f++)
      if (need.params[f])
        grad_params[f] = at::empty_symint(params[f].sym_sizes(), params[f].options());
  const auto results = [&] {
    Tensors list;
    for (int f = 0; f < neuron.n_inputs; f++)
      if (need.inputs[f]) list.push_back(grad_inputs[f]);
    for (int f = 0; f < neuron.n_params; f++)
      if (need.params[f]) list.push_back(grad_params[f]);
    for (const int f : present)
      if (need.states[f]) list.push_back(grad_states[f]);
    return list;
  };
  if (x.is_meta()) return results();

  Launch launch(index, x, sizes, options, how, recurrent);
  read_all(launch, neuron, inputs, params);
  if (!reads_inputs(config.memory))
    for (int f = 0; f < neuron.n_inputs; f++) launch.args.inputs[f] = {};
  launch.args.grad_out = launch.read(grad.out, LIF_PER_NEURON, Launch::SEQUENCE);
  launch.args.mask = launch.read(kept.mask, LIF_PER_NEURON, Launch::CHECKPOINT);
  for (const int f : present) {
    const int kind = neuron.states[f].kind;
    launch.args.grad_last_state[f] = launch.read(grad.last[f], kind, Launch::STATE);
    launch.args.grad_records[f] = launch.read(grad.records[f], kind, Launch::SEQUENCE);
    launch.args.checkpoints[f] = launch.read(kept.states[f], kind, Launch::CHECKPOINT);
    launch.args.grad_first_state[f] = launch.write(grad_states[f], kind, Launch::STATE);
  }
  for (int f = 0; f < neuron.n_inputs; f++)
    launch.args.grad_inputs[f] =
        launch.write(grad_inputs[f], neuron.inputs[f].kind, Launch::SEQUENCE);
  launch.write_partials(need.params, own_params(neuron));
  if (recurrent) {
    const int spikes = spikes_place(neuron);
    Launch::Recurrence recurrence = recurrence_of(neuron, params);
    recurrence.in = kept.recurrent_input.contiguous();
    recurrence.spikes = kept.states[spikes].reshape({launch.args.T, launch.args.B, launch.args.N});
    recurrence.grad_in = empty_recurrent(x, sizes);
    recurrence.grad_first_spikes = grad_states[spikes];
    launch.set_recurrence(recurrence, true, resumed);
  }
  launch.run(true);
  if (recurrent && launch.args.T == 0 && need.states[spikes_place(neuron)])
    copy_or_zero(grad_states[spikes_place(neuron)], grad.last[spikes_place(neuron)]);
  Tensors sums = launch.sum_partials(need.params, params.slice(0, own_params(neuron)));
  for (int f = neuron.n_params; f-- > 0;) {
    if (!need.params[f]) continue;
    if (f < own_params(neuron)) {
      grad_params[f] = std::move(sums.back());
      sums.pop_back();
    } else {
      grad_params[f] =
          neuron.params[f].kind == LIF_WEIGHTS ? launch.weights_gradient() : launch.bias_gradient();
    }
  }
  return results();
}

}  // namespace lif

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

static Shape checkpoint_shape(const Sizes &sizes, int kind, int64_t interval) {
  Shape shape{(sizes.T + (interval - 1)) / interval};
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

static bool saves_all(const Tensor &x, const Config &config, bool recurrent) {
  return recurrent || (x.is_cuda() && config.synapses > LIF_MAX_REPLAYED_SYNAPSES);
}

int64_t choose_memory(const lif_neuron &neuron, const Tensor &x, at::TensorList params,
                      const Config &config, bool param_gradients) {
  const bool recurrent = has_recurrence(neuron, params);
  const std::string why_no_mask = no_mask(neuron, config, recurrent, param_gradients);
  const bool all = saves_all(x, config, recurrent);
  if (config.memory == "mask") {
    TORCH_CHECK_VALUE(why_no_mask.empty() && !all, neuron.name, ": memory is 'mask', but ",
                      why_no_mask.empty()
                          ? std::string("CUDA has no such kernel for more than two synapses")
                          : why_no_mask,
                      "; expected 'recompute', 'save' or None");
    return MASK;
  }
  if (config.memory == "recompute") {
    TORCH_CHECK_VALUE(!all, neuron.name, ": memory is 'recompute', but ",
                      recurrent ? "with w_rec steps cannot be replayed"
                                : "CUDA replays no more than two synapses",
                      "; expected 'save' or None");
    return LIF_CHECKPOINT_INTERVAL;
  }
  if (all || config.memory == "save") return 1;
  return why_no_mask.empty() ? (int64_t)MASK : (int64_t)LIF_CHECKPOINT_INTERVAL;
}

/* Refuses an interval that choose_memory could not have chosen, because the inner ops can be called
 * directly. */
static void check_interval(const lif_neuron &neuron, const Tensor &x, const Config &config,
                           int64_t interval, bool recurrent, bool param_gradients) {
  /* A meta tensor does not know which device it stands for. */
  const bool all = !x.is_meta() && saves_all(x, config, recurrent);
  const bool mask = no_mask(neuron, config, recurrent, param_gradients).empty() && !all;
  TORCH_CHECK_VALUE(interval == 1 || (interval == LIF_CHECKPOINT_INTERVAL && !all && !recurrent) ||
                        (interval == MASK && mask),
                    neuron.name, ": interval is ", std::to_string(interval), ", expected 1",
                    all || recurrent ? "" : ", " + std::to_string(LIF_CHECKPOINT_INTERVAL),
                    mask ? " or -1 (a mask)" : "");
}

/* The shape of the mask, which is empty for a neuron whose backward needs nothing. */
static Shape mask_shape(const lif_neuron &neuron, const Sizes &sizes) {
  Shape shape{neuron.keeps ? (sizes.T + (LIF_MASK_STEPS - 1)) / LIF_MASK_STEPS : c10::SymInt(0)};
  const Shape state = sizes.state(LIF_PER_NEURON);
  shape.append(state.begin(), state.end());
  return shape;
}

Tensors forward(int index, at::TensorList inputs, at::TensorList params, at::TensorList state,
                const Config &config, int64_t interval) {
  const lif_neuron &neuron = lif::neuron(index);
  const Sizes sizes = check_call(neuron, inputs, params, state, config);
  const lif_options options = make_options(neuron, config);
  const Tensor &x = inputs[0];
  const bool recurrent = has_recurrence(neuron, params);
  if (interval) check_interval(neuron, x, config, interval, recurrent, false);
  const Places present = present_states(neuron, config.synapses, params);

  Tensors results{empty_sequence(x, sizes, LIF_PER_NEURON)};
  for (const int f : present) results.push_back(empty_state(x, sizes, neuron.states[f].kind));
  for (const int f : present)
    if (config.record[f]) results.push_back(empty_sequence(x, sizes, neuron.states[f].kind));
  if (interval == MASK)
    results.push_back(at::empty_symint(mask_shape(neuron, sizes), x.options().dtype(at::kInt)));
  else if (interval)
    for (const int f : present)
      results.push_back(at::empty_symint(checkpoint_shape(sizes, neuron.states[f].kind, interval),
                                         x.options().dtype(compute_type(x))));
  if (recurrent && interval) results.push_back(empty_recurrent(x, sizes));
  if (x.is_meta()) return results;

  Launch launch(index, x, sizes, options, interval, recurrent);
  read_all(launch, neuron, inputs, params);
  for (const int f : present)
    launch.args.first_state[f] = launch.read(state[f], neuron.states[f].kind, Launch::STATE);
  auto result = results.begin();
  launch.args.out = launch.write(*result++, LIF_PER_NEURON, Launch::SEQUENCE);
  for (const int f : present)
    launch.args.last_state[f] = launch.write(*result++, neuron.states[f].kind, Launch::STATE);
  for (const int f : present)
    if (config.record[f])
      launch.args.records[f] = launch.write(*result++, neuron.states[f].kind, Launch::SEQUENCE);
  if (interval == MASK)
    launch.args.mask = launch.write(*result++, LIF_PER_NEURON, Launch::CHECKPOINT);
  else if (interval)
    for (const int f : present)
      launch.args.checkpoints[f] =
          launch.write(*result++, neuron.states[f].kind, Launch::CHECKPOINT);
  if (recurrent) {
    Launch::Recurrence recurrence = recurrence_of(neuron, params);
    if (state[spikes_place(neuron)].defined())
      recurrence.first_spikes = state[spikes_place(neuron)].reshape({launch.args.B, launch.args.N});
    if (interval) {
      recurrence.in = results.back();
      recurrence.spikes =
          results[results.size() - 2].view({launch.args.T, launch.args.B, launch.args.N});
    }
    launch.set_recurrence(recurrence, false, recurrence.first_spikes.defined());
  }
  launch.run(false);
  if (recurrent && launch.args.T == 0)
    copy_or_zero(results[present.size()], state[spikes_place(neuron)]);
  return results;
}

/* Checks a tensor that the forward op or autograd made. The backward op can be called directly, and
 * no pointer may reach a kernel unchecked. */
static void check_made(const lif_neuron &neuron, const char *what, const char *name,
                       const Tensor &made, const Tensor &x, const Shape &shape,
                       at::ScalarType type) {
  check_readable((std::string(neuron.name) + "_backward").c_str(),
                 (std::string(what) + name).c_str(), made);
  TORCH_CHECK_VALUE(made.device() == x.device() && made.scalar_type() == type &&
                        made.sym_sizes() == c10::SymIntArrayRef(shape),
                    neuron.name, "_backward: ", what, name,
                    " does not have the shape, dtype or device that the forward op gives it");
}

/* Checks the lists that only the backward op has: their lengths, and that gradients are asked only
 * for what the call has. */
static void check_lists(const lif_neuron &neuron, at::TensorList grads, at::TensorList inputs,
                        at::TensorList params, at::TensorList checkpoints, const Config &config,
                        int64_t interval, at::IntArrayRef needs, const Places &present) {
  const auto check_length = [&](const char *what, size_t got, size_t expected) {
    TORCH_CHECK_VALUE(got == expected, neuron.name, "_backward: ", what, " has ",
                      std::to_string(got), " entries, expected ", std::to_string(expected));
  };
  check_length("grads", grads.size(),
               1 + present.size() + std::count(config.record.begin(), config.record.end(), 1));
  check_length("checkpoints", checkpoints.size(),
               interval == MASK ? 1 : present.size() + has_recurrence(neuron, params));
  check_length("needs", needs.size(), neuron.n_inputs + neuron.n_params + neuron.n_states);
  const auto check_need = [&](int64_t need, const lif_field &field, bool there) {
    TORCH_CHECK_VALUE(need == 0 || need == 1, neuron.name, "_backward: needs holds ",
                      std::to_string(need), " for ", field.name, ", expected 0 or 1");
    TORCH_CHECK_VALUE(!need || there, neuron.name, "_backward: needs asks for the gradient of ",
                      field.name, ", which the call does not have; expected 0 there");
  };
  auto need = needs.begin();
  for (int f = 0; f < neuron.n_inputs; f++)
    check_need(*need++, neuron.inputs[f], inputs[f].defined());
  for (int f = 0; f < neuron.n_params; f++)
    check_need(*need++, neuron.params[f], params[f].defined());
  for (int f = 0; f < neuron.n_states; f++)
    check_need(*need++, neuron.states[f],
               std::find(present.begin(), present.end(), f) != present.end());
}

Tensors backward(int index, at::TensorList grads, at::TensorList inputs, at::TensorList params,
                 at::TensorList checkpoints, const Config &config, int64_t interval, bool resumed,
                 at::IntArrayRef needs) {
  const lif_neuron &neuron = lif::neuron(index);
  const std::array<Tensor, LIF_MAX_STATES> no_state;
  const Sizes sizes =
      check_call(neuron, inputs, params, at::TensorList(no_state.data(), neuron.n_states), config);
  lif_options options = make_options(neuron, config);
  const Tensor &x = inputs[0];
  const bool recurrent = has_recurrence(neuron, params);
  const bool params_need =
      std::any_of(needs.begin(), needs.end(), [&, k = 0](int64_t need) mutable {
        const int place = k++ - neuron.n_inputs;
        return need && place >= 0 && place < neuron.n_params;
      });
  check_interval(neuron, x, config, interval, recurrent, params_need);
  const Places present = present_states(neuron, config.synapses, params);
  check_lists(neuron, grads, inputs, params, checkpoints, config, interval, needs, present);

  const int64_t *needs_input = needs.data(), *needs_param = needs_input + neuron.n_inputs,
                *needs_state = needs_param + neuron.n_params;
  Tensors results;
  for (int f = 0; f < neuron.n_inputs; f++)
    if (needs_input[f])
      results.push_back(empty_sequence(x, sizes, neuron.inputs[f].kind & ~LIF_OPTIONAL));
  const size_t first_param = results.size();
  for (int f = 0; f < neuron.n_params; f++) {
    options.param_gradients |= f < own_params(neuron) && needs_param[f] != 0;
    if (needs_param[f] && x.is_meta())
      results.push_back(at::empty_symint(params[f].sym_sizes(), params[f].options()));
    else if (needs_param[f])
      results.emplace_back();
  }
  for (const int f : present)
    if (needs_state[f]) results.push_back(empty_state(x, sizes, neuron.states[f].kind));
  if (x.is_meta()) return results;

  Launch launch(index, x, sizes, options, interval, recurrent);
  read_all(launch, neuron, inputs, params);
  size_t grad = 0;
  const auto next_grad = [&](const char *what, const char *name, int kind,
                             Launch::Axes axes) -> lif_tensor {
    const Tensor &g = grads[grad++];
    if (!g.defined()) return {};
    const bool sequence = axes == Launch::SEQUENCE;
    check_made(neuron, what, name, g, x, sequence ? sizes.sequence(kind) : sizes.state(kind),
               sequence ? x.scalar_type() : compute_type(x));
    return launch.read(g, kind, axes);
  };
  if (interval == MASK && !neuron.keeps)
    for (int f = 0; f < neuron.n_inputs; f++) launch.args.inputs[f] = {};
  launch.args.grad_out =
      next_grad("the gradient of the output", "", LIF_PER_NEURON, Launch::SEQUENCE);
  for (const int f : present)
    launch.args.grad_last_state[f] =
        next_grad("the gradient of the last state ", neuron.states[f].name, neuron.states[f].kind,
                  Launch::STATE);
  for (const int f : present)
    if (config.record[f])
      launch.args.grad_records[f] = next_grad("the gradient of the record ", neuron.states[f].name,
                                              neuron.states[f].kind, Launch::SEQUENCE);
  if (interval == MASK) {
    check_made(neuron, "the mask", "", checkpoints[0], x, mask_shape(neuron, sizes), at::kInt);
    launch.args.mask = launch.read(checkpoints[0], LIF_PER_NEURON, Launch::CHECKPOINT);
  }
  for (size_t k = 0; interval != MASK && k < present.size(); k++) {
    const lif_field &state = neuron.states[present[k]];
    check_made(neuron, "the checkpoint of ", state.name, checkpoints[k], x,
               checkpoint_shape(sizes, state.kind, interval), compute_type(x));
    launch.args.checkpoints[present[k]] =
        launch.read(checkpoints[k], state.kind, Launch::CHECKPOINT);
  }

  size_t result = 0;
  for (int f = 0; f < neuron.n_inputs; f++)
    if (needs_input[f])
      launch.args.grad_inputs[f] =
          launch.write(results[result++], neuron.inputs[f].kind, Launch::SEQUENCE);
  launch.write_partials(needs_param, own_params(neuron));
  for (int f = 0; f < neuron.n_params; f++) result += needs_param[f] != 0;
  for (const int f : present)
    if (needs_state[f])
      launch.args.grad_first_state[f] =
          launch.write(results[result++], neuron.states[f].kind, Launch::STATE);
  if (recurrent) {
    Launch::Recurrence recurrence = recurrence_of(neuron, params);
    check_made(neuron, "the recurrent input", "", checkpoints.back(), x,
               Shape{sizes.T, sizes.B, sizes.currents()}, compute_type(x));
    recurrence.in = checkpoints.back().contiguous();
    recurrence.spikes =
        checkpoints[checkpoints.size() - 2].reshape({launch.args.T, launch.args.B, launch.args.N});
    recurrence.grad_in = empty_recurrent(x, sizes);
    if (needs_state[spikes_place(neuron)]) recurrence.grad_first_spikes = results.back();
    launch.set_recurrence(recurrence, true, resumed);
  }
  launch.run(true);
  if (recurrent && launch.args.T == 0 && needs_state[spikes_place(neuron)])
    copy_or_zero(results.back(), grads[present.size()]);
  result = first_param;
  for (Tensor &sum : launch.sum_partials(needs_param, params.slice(0, own_params(neuron))))
    results[result++] = std::move(sum);
  for (int f = own_params(neuron); f < neuron.n_params; f++)
    if (needs_param[f])
      results[result++] =
          neuron.params[f].kind == LIF_WEIGHTS ? launch.weights_gradient() : launch.bias_gradient();
  return results;
}

}  // namespace lif

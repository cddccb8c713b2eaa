/* The Python module torch_lif._C. Importing it registers the ops; its functions say what was
 * built. */
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include <string>
#include <vector>

#include "../cpu/kernels.h"
#include "../cuda/kernels.h"
#include "call.h"
#include "registry.h"

#ifndef LIF_CUDA_ARCHITECTURES
#define LIF_CUDA_ARCHITECTURES ""
#endif
#ifndef LIF_CUDA_VERSION
#define LIF_CUDA_VERSION ""
#endif

namespace py = pybind11;

static py::dict build_info() {
  py::dict info;
  info["torch"] = TORCH_VERSION;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  info["compiler"] = "gcc " __VERSION__;
#else
  info["compiler"] = "unknown";
#endif
  info["cuda"] = LIF_CUDA_VERSION;
  info["cuda_architectures"] = LIF_CUDA_ARCHITECTURES;
  std::vector<std::string> names;
  for (const char *const *name = lif_isa_names(); *name; name++) names.emplace_back(*name);
  info["instruction_sets"] = names;
  return info;
}

static std::vector<std::string> supported_instruction_sets() {
  std::vector<std::string> names;
  for (const char *const *name = lif_isa_names(); *name; name++)
    if (lif_isa_supported(*name)) names.emplace_back(*name);
  return names;
}

static void set_instruction_set(const std::string &name) {
  if (!lif_set_isa(name.c_str())) return;
  std::string usable;
  for (const auto &known : supported_instruction_sets())
    usable += (usable.empty() ? "" : ", ") + known;
  throw py::value_error("the instruction set is '" + name +
                        "', expected one that was built and that this processor has: " + usable);
}

static py::list fields(const lif_field *field, int count) {
  py::list list;
  for (int f = 0; f < count; f++) list.append(field[f].name);
  return list;
}

static py::dict neurons() {
  py::dict all;
  for (int index = 0; index < lif::neuron_count(); index++) {
    const lif_neuron *n = &lif::neuron(index);
    py::dict description;
    description["spiking"] = n->spiking != 0;
    description["inputs"] = fields(n->inputs, n->n_inputs);
    description["params"] = fields(n->params, n->n_params);
    description["states"] = fields(n->states, n->n_states);
    py::dict needs;
    for (int f = 0; f < n->n_states; f++) {
      const lif_field &state = n->states[f];
      if (lif_width(state.kind, 0) == 0) needs[state.name] = "synapses";
      if (const char *param = lif::needed_param(state)) needs[state.name] = param;
    }
    description["state_needs"] = needs;
    py::list options;
    for (int f = 0; f < n->n_options; f++) options.append(n->options[f]);
    description["options"] = options;
    all[n->name] = description;
  }
  return all;
}

static py::dict surrogates() {
  py::dict all;
  for (const lif_surrogate *s = lif::surrogates(); s->name; s++)
    all[s->name] = py::make_tuple(s->class_name, s->params);
  return all;
}

static py::object words_of(int way, const std::vector<std::pair<int, const char *>> &names) {
  if (way < 0) return py::none();
  py::set words;
  for (const auto &[bit, name] : names)
    if (way & bit) words.add(name);
  return words;
}

static py::object cpu_way(bool backward) {
  return words_of(lif_cpu_last_way(backward), {{LIF_CPU_BLOCKS, "blocks"},
                                               {LIF_CPU_OPTIONS, "options"},
                                               {LIF_CPU_BARE, "bare"},
                                               {LIF_CPU_MASK, "mask"}});
}

#ifdef LIF_CUDA
static py::object cuda_way(bool backward) {
  return words_of(lif_cuda_last_way(backward), {{LIF_WAY_RING, "ring"},
                                                {LIF_WAY_COMMON, "common"},
                                                {LIF_WAY_PIECES, "pieces"},
                                                {LIF_WAY_MASK, "mask"},
                                                {LIF_WAY_STAGED, "staged"},
                                                {LIF_WAY_ON_CHIP, "on chip"}});
}
#endif

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Compiled part of torch_lif: importing it registers the ops torch_lif::*.";
  lif::define_call(m);
  m.def("build_info", &build_info,
        "What was built: versions, instruction sets, CUDA architectures.");
  m.def("neurons", &neurons,
        "Each neuron's inputs, parameters, states and options, in the order of its op's lists.");
  m.def("surrogates", &surrogates,
        "Each surrogate's Python class and parameters with their defaults.");
  m.def("instruction_set", &lif_isa, "The instruction set in use on the CPU.");
  m.def("supported_instruction_sets", &supported_instruction_sets,
        "Those that were built and that this processor has, ascending.");
  m.def("set_instruction_set", &set_instruction_set,
        "Use another instruction set from now on; ValueError if there is none of this name.");
  m.def(
      "cpu_way", &cpu_way, py::arg("backward"),
      "For tests: what the loop over the last tile on the CPU was compiled for, a set of words out "
      "of blocks (of time steps), options (of the common case), bare, mask; None if there was "
      "none.");
#ifdef LIF_CUDA
  m.def("cuda_way", &cuda_way, py::arg("backward"),
        "For tests: which way the last launch on a GPU took, a set of words out of ring, common, "
        "pieces, mask, staged, on chip; None if there was none.");
  m.def(
      "set_on_chip", [](bool allowed) { lif_cuda_set_on_chip(allowed); }, py::arg("allowed"),
      "For tests: whether a recurrent layer may be one launch.");
#endif
  m.def("set_stream_from", &lif_set_stream_from,
        "On the CPU, outputs of so many bytes for each thread go past the caches; 4194304 (4 MiB) "
        "unless tests say otherwise.");
}

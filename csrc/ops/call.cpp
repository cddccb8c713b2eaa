/* The public ops' short way from Python. torch.ops finds the type of every argument by its name and
 * asks every tensor whether it overrides calls; that is most of a short call's time. A call needs
 * none of it if its tensors are plain and no mode of __torch_function__ is on. The arguments of
 * such a call go directly to the same dispatcher, so that everything behind it (autograd, autocast,
 * modes of __torch_dispatch__, the profiler) is the same. */
#include <ATen/PythonTorchFunctionTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/utils/pybind.h>

#include "autograd.h"
#include "call.h"

namespace lif {

/* Takes a tuple of tensors and Nones. Returns false if it holds anything else, for example a
 * subclass of Tensor, which may override the call. */
static bool take(const py::tuple &list, OptionalTensors &tensors) {
  tensors.reserve(list.size());
  for (const py::handle item : list) {
    if (item.is_none())
      tensors.push_back(std::nullopt);
    else if (THPVariable_CheckExact(item.ptr())) /* a Parameter too */
      tensors.push_back(THPVariable_Unpack(item.ptr()));
    else
      return false;
  }
  return true;
}

static py::object call(int index, const py::tuple &inputs, const py::tuple &params,
                       const py::tuple &state, const std::vector<double> &options,
                       std::string_view surrogate, const std::vector<double> &surrogate_params,
                       bool smooth, int64_t synapses, bool batch_first,
                       const std::vector<int64_t> &record, std::string_view memory) {
  HANDLE_TH_ERRORS
  if (index < 0 || index >= neuron_count())
    throw py::index_error("there is no neuron number " + std::to_string(index) +
                          ", expected 0 to " + std::to_string(neuron_count() - 1));
  TORCH_CHECK_NOT_IMPLEMENTED(!torch::jit::tracer::isTracing(), neuron(index).name,
                              ": torch.jit.trace (deprecated by PyTorch) cannot record an op that "
                              "takes lists with None in them; use "
                              "torch.export.export or torch.compile");
  OptionalTensors all_inputs, all_params, all_state;
  if (at::impl::torch_function_mode_enabled() || !take(inputs, all_inputs) ||
      !take(params, all_params) || !take(state, all_state))
    return py::none();
  Tensors results;
  {
    const py::gil_scoped_release released;
    results = call_public(index, all_inputs, all_params, all_state,
                          Config{options, surrogate, surrogate_params, smooth, synapses,
                                 batch_first, record, memory});
  }
  py::tuple found(results.size());
  for (size_t k = 0; k < results.size(); k++)
    found[k] = py::reinterpret_steal<py::object>(THPVariable_Wrap(std::move(results[k])));
  return found;
  END_HANDLE_TH_ERRORS_PYBIND
}

void define_call(py::module_ &m) {
  m.def("call", &call,
        "Calls the public op of neuron number `index` with the arguments of its schema; None if "
        "torch.ops must be asked instead: "
        "for subclasses of Tensor, under a mode of __torch_function__.");
  /* Arguments of other types, for example Python's int instead of a float: torch.ops converts or
   * refuses them. */
  m.def("call", [](const py::args &) { return py::none(); });
}

}  // namespace lif

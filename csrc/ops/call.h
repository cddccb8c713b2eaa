/* The function of torch_lif._C through which Python calls the public ops. */
#pragma once

#include <pybind11/pybind11.h>

namespace lif {

void define_call(pybind11::module_ &m);

}  // namespace lif

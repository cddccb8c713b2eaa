/* Calls of the public ops from Python. */
#pragma once

#include <pybind11/pybind11.h>

namespace lif {

void define_call(pybind11::module_ &m);

}  // namespace lif

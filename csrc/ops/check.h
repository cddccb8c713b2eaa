/* The checks of an op's arguments, and the shapes that follow from them. */
#pragma once

#include <c10/core/SymInt.h>

#include "op.h"

namespace lif {

using Shape = c10::SmallVector<c10::SymInt, 6>;

/* Sizes of a checked call. Symbolic, so that the same code serves meta tensors of torch.compile. */
struct Sizes {
  c10::SymInt T, B;
  Shape trailing; /* of one value a neuron: x's own behind batch and time, or (N) with two or more synapses */
  int S, t_dim, b_dim;

  Shape sequence(int kind) const; /* batch, time in the call's order, then the neurons */
  Shape state(int kind) const;    /* batch, then the neurons */
  c10::SymInt neurons() const;
  c10::SymInt currents() const; /* what arrives at all neurons: one a synapse */
};

at::ScalarType compute_type(const Tensor &x);
/* ValueError or NotImplementedError unless the tensor's values lie in the memory of a device that the kernels run on. */
void check_readable(const char *op, const char *name, const Tensor &t);
Sizes check_call(const lif_neuron &neuron, at::TensorList inputs, at::TensorList params, at::TensorList state,
                 const Config &config);
lif_options make_options(const lif_neuron &neuron, const Config &config);

}  // namespace lif

/* The checks of an op's arguments, and the shapes that follow from them. */
#pragma once

#include <c10/core/SymInt.h>

#include "op.h"

namespace lif {

using Shape = c10::SmallVector<c10::SymInt, 6>;

/* Sizes of a checked call. They are symbolic, so that the same code serves meta tensors of
 * torch.compile. */
struct Sizes {
  c10::SymInt T, B;
  Shape trailing; /* of one value per neuron: x's own dimensions after batch and time, or (N) with
                     two or more synapses */
  int S, t_dim, b_dim;

  Shape sequence(int kind) const; /* batch, time in the call's order, then the neurons */
  Shape state(int kind) const;    /* batch, then the neurons */
  c10::SymInt neurons() const;
  c10::SymInt currents() const; /* currents that arrive at all neurons: one per synapse, without
                                   synapses one per neuron */
};

at::ScalarType compute_type(const Tensor &x);
/* Raises ValueError or NotImplementedError unless the tensor's values lie in the memory of a device
 * that the kernels run on. */
void check_readable(const char *op, const char *name, const Tensor &t);
Sizes check_call(const lif_neuron &neuron, at::TensorList inputs, at::TensorList params,
                 at::TensorList state, const Config &config);
/* Raises ValueError unless a list has as many entries as the neuron or surrogate says. */
void check_count(const char *op, const char *what, size_t got, size_t expected);

}  // namespace lif

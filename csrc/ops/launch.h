/* Launch: from checked tensors to the plain struct of a launch, and the call of the kernel. */
#pragma once

#include "check.h"

namespace lif {

/* The neuron's options and the surrogate of a call, after their checks. */
lif_options make_options(const lif_neuron &neuron, const Config &config);

/* Collects one launch: turns tensors into addresses and strides, and runs the kernel on x's device.
 *
 * Neurons are numbered in x's own memory order (channels-last stays channels-last), so that one
 * stride leads from each neuron to the next. A tensor whose strides cannot express that order is
 * copied into it, or written through a copy in that order. */
class Launch {
 public:
  Launch(int index, const Tensor &x, const Sizes &sizes, const lif_options &options,
         const lif_kept &kept, bool recurrent);

  enum Axes { SEQUENCE, STATE, CHECKPOINT };
  lif_tensor read(const Tensor &t, int kind, Axes axes);
  lif_tensor read_param(const Tensor &t, int kind);
  lif_tensor write(const Tensor &t, int kind, Axes axes);
  /* write_partials makes room for the gradients of the parameters that need one: a value per batch
   * item and neuron, side by side, so that one sum over the batch serves all of them. After run(),
   * sum_partials returns their sums in the parameters' shapes, in the same order. */
  void write_partials(const int64_t *needs, int params);
  Tensors sum_partials(const int64_t *needs, at::TensorList params) const;
  void run(bool backward);

  /* A recurrent layer (recurrence.cpp): in and grad_in are (time, batch, currents); spikes holds,
   * for each step, the spikes before it. Tensors that are not needed may be undefined. */
  struct Recurrence {
    Tensor weights, bias, in, grad_in, spikes, first_spikes, grad_first_spikes;
  };
  void set_recurrence(const Recurrence &recurrence, bool backward, bool resumed);
  Tensor weights_gradient() const;
  Tensor bias_gradient() const;

  lif_args args = {};

 private:
  int index_;
  const lif_neuron &neuron_;
  Tensor x_;
  int t_dim_, b_dim_;
  at::DimVector trailing_; /* sizes of the neurons' dimensions */
  at::DimVector order_;    /* those dimensions, outermost in memory first */
  Tensors kept_;
  Tensor partials_;
  std::vector<std::pair<Tensor, Tensor>> copies_; /* (destination, copy to take it from) */
  Recurrence recurrence_;

  bool collapse(at::IntArrayRef strides, int64_t width, int64_t *n) const;
  Tensor in_order(const Tensor &t, int64_t leading) const;
  lif_tensor address(const Tensor &t, int kind, Axes axes, bool *collapsed) const;
  Tensors sum_on_cpu(const std::vector<int> &needed, at::TensorList params) const;
  Tensors sum_on_cuda(const std::vector<int> &needed, at::TensorList params) const;
  void run_cpu(bool backward);
  void run_cuda(bool backward);
  void start_cuda(const lif_args &a, bool backward);
  void step_forward();
  void step_backward();
};

}  // namespace lif

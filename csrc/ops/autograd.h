/* The public op's derivative. */
#pragma once

#include "op.h"

namespace lif {

/* The op with gradients: runs the forward op with checkpoints and leaves the backward op to autograd. */
Tensors differentiable(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                       const Config &config);

/* The backward op itself under autograd: its result exists, but a second derivative is refused with an error. */
Tensors backward_once(int index, const OptionalTensors &grads, const OptionalTensors &inputs, const OptionalTensors &params,
                      at::TensorList checkpoints, const Config &config, int64_t interval, bool resumed, at::IntArrayRef needs);

/* Calls of the three ops of a neuron through the dispatcher (schemas.cpp). */
Tensors call_public(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                    const Config &config);
Tensors call_forward(int index, const OptionalTensors &inputs, const OptionalTensors &params, const OptionalTensors &state,
                     const Config &config, int64_t interval);
Tensors call_backward(int index, const OptionalTensors &grads, const OptionalTensors &inputs, const OptionalTensors &params,
                      at::TensorList checkpoints, const Config &config, int64_t interval, bool resumed, at::IntArrayRef needs);

}  // namespace lif

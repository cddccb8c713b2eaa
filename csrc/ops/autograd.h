/* Gradients: the public op and the backward op under autograd, and calls of a neuron's ops. */
#pragma once

#include "op.h"

namespace lif {

/* The public op with gradients. It runs the forward op and leaves the backward op
 * to autograd. */
Tensors differentiable(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                       const OptionalTensors &state, const Config &config);

/* The backward op under autograd: it returns its result, and a second derivative raises an
 * error. */
Tensors backward_once(int index, const OptionalTensors &grads, const OptionalTensors &inputs,
                      const OptionalTensors &params, at::TensorList kept, const Config &config,
                      bool resumed, at::IntArrayRef needs);

/* Calls of a neuron's three ops through the dispatcher (schemas.cpp). */
Tensors call_public(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                    const OptionalTensors &state, const Config &config);
Tensors call_forward(int index, const OptionalTensors &inputs, const OptionalTensors &params,
                     const OptionalTensors &state, const Config &config);
Tensors call_backward(int index, const OptionalTensors &grads, const OptionalTensors &inputs,
                      const OptionalTensors &params, at::TensorList kept, const Config &config,
                      bool resumed, at::IntArrayRef needs);

}  // namespace lif

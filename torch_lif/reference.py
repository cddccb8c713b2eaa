"""The specification in readable form: each neuron as one plain loop over time in PyTorch.

The kernels are held to these loops: the same spikes and states bit for bit in float32 and float64, the same gradients up to
rounding. They run wherever PyTorch runs, take the same arguments as `torch_lif.functional`, and are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._call import compute_dtype, parameter
from .surrogate import StepPWL, Surrogate

__all__ = ["LIFResult", "LIFState", "LIResult", "LIState", "li", "lif", "spike"]


class LIFState(NamedTuple):
    """State of a LIF layer between time steps.

    v: membrane potential after the reset, (batch, *neurons), float32 (float64 for float64 input).
    i: synaptic currents after the decay, (batch, *neurons), with two or more synapses (batch, neurons, synapses); None without
    synapses.
    """

    v: Tensor | None = None
    i: Tensor | None = None


class LIFResult(NamedTuple):
    """What a LIF layer returns: spike counts (laid out like x), the state after the last step, the records by name."""

    spikes: Tensor
    state: LIFState
    records: dict[str, Tensor]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, surrogate: Surrogate, max_spikes: float) -> Tensor:
        ctx.save_for_backward(v, threshold)
        ctx.surrogate, ctx.max_spikes = surrogate, max_spikes
        return ((v >= threshold) * torch.floor(v / threshold)).clamp(max=max_spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        v, threshold = ctx.saved_tensors
        g_v = g_threshold = None
        if ctx.needs_input_grad[0]:
            g_v = g * ctx.surrogate.derivative(v, threshold, ctx.max_spikes)
        if ctx.needs_input_grad[1]:
            g_threshold = (g * ctx.surrogate.threshold_derivative(v, threshold, ctx.max_spikes)).sum_to_size(threshold.shape)
        return g_v, g_threshold, None, None


def spike(v: Tensor, threshold: Tensor, surrogate: Surrogate, max_spikes: float = 2.0**16, smooth: bool = False) -> Tensor:
    """[v >= threshold] * floor(v / threshold), at most max_spikes, with the surrogate's gradient; or its smooth stand-in."""
    if smooth:
        return surrogate.smooth(v, threshold, max_spikes)
    return _Spike.apply(v, threshold, surrogate, max_spikes)


def _steps(x: Tensor | None, like: Tensor, time_dim: int) -> Sequence[Tensor]:
    """A sequence as its time steps, in the dtype computed in; zeros if it was left out."""
    # Unbound once: indexing x[t] in the loop would make its backward quadratic in the number of steps.
    if x is None:
        return [like.new_zeros((), dtype=compute_dtype(like))] * like.shape[time_dim]
    return x.to(compute_dtype(like)).unbind(time_dim)


def _stack(steps: list[Tensor], like: Tensor, x: Tensor, time_dim: int) -> Tensor:
    """One value a step, each shaped like `like`, as a sequence in x's dtype; right for no step at all too."""
    if not steps:
        return like.new_zeros(like.shape, dtype=x.dtype).unsqueeze(time_dim).narrow(time_dim, 0, 0)
    return torch.stack(steps, time_dim).to(x.dtype)


def _parameters(op: str, x: Tensor, **values: Tensor | float | None) -> list[Tensor]:
    """Parameters as tensors beside x, so that PyTorch divides by them truly on every device; one left out is 0."""
    tensors = (parameter(op, name, 0.0 if value is None else value, x) for name, value in values.items())
    return [t for t in tensors if t is not None]


def _first(state: Sequence[Tensor | None] | None, x: Tensor, *shapes: Sequence[int]) -> list[Tensor]:
    """The initial states; one left out is zero."""
    given = [*(state or ()), *[None] * len(shapes)]
    zeros = (x.new_zeros(tuple(shape), dtype=compute_dtype(x)) for shape in shapes)
    return [zero if s is None else s for s, zero in zip(given, zeros, strict=False)]


def lif(
    x: Tensor,
    *,
    decay_mem: Tensor | float,
    decay_syn: Tensor | float | None = None,
    threshold: Tensor | float = 1.0,
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    max_spikes: float = 2.0**16,
    surrogate: Surrogate = StepPWL(),  # noqa: B008 (frozen)
    synapses: int | None = None,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
) -> LIFResult:
    """Leaky integrate-and-fire; arguments and result as `torch_lif.functional.lif`."""
    synapses = synapses if synapses is not None else int(decay_syn is not None)
    time_dim = 1 if batch_first else 0
    neurons = x.shape[2:] if synapses < 2 else (x.shape[2] // synapses,)
    per_neuron = (x.shape[1 - time_dim], *neurons)
    per_synapse = per_neuron if synapses < 2 else (*per_neuron, synapses)
    alpha, beta, theta, b = _parameters("lif", x, decay_mem=decay_mem, decay_syn=decay_syn, threshold=threshold, bias=bias)
    v, i = _first(state, x, per_neuron, per_synapse)

    traces: dict[str, list[Tensor]] = {"spikes": [], "v": [], "i": []}
    for x_t, noise_t in zip(_steps(x, x, time_dim), _steps(noise, x, time_dim), strict=True):
        total = x_t
        if synapses:
            i = (i + x_t.reshape(per_synapse)) * beta
            total = i if synapses == 1 else i[..., 0]
        for k in range(1, synapses):
            total = total + i[..., k]
        v = ((v * alpha + total) + noise_t) + b
        n = spike(v, theta, surrogate, max_spikes, smooth)
        v = v - n * theta
        for name, value in (("spikes", n), ("v", v), ("i", i)):
            traces[name].append(value)

    stacked = {name: _stack(traces[name], i if name == "i" else v, x, time_dim) for name in ("spikes", *record)}
    return LIFResult(stacked["spikes"], LIFState(v, i if synapses else None), {name: stacked[name] for name in record})


class LIState(NamedTuple):
    """State of a leaky integrator between time steps: membrane potential v and synaptic current i, both (batch, *neurons),
    float32 (float64 for float64 input)."""

    v: Tensor | None = None
    i: Tensor | None = None


class LIResult(NamedTuple):
    """What a leaky integrator returns: the membrane potential after each step, the state after the last, records by name."""

    v: Tensor
    state: LIState
    records: dict[str, Tensor]


def li(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    v_leak: Tensor | float | None = None,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
) -> LIResult:
    """Leaky integrator; arguments and result as `torch_lif.functional.li`."""
    time_dim = 1 if batch_first else 0
    shape = (x.shape[1 - time_dim], *x.shape[2:])
    a, b, leak = _parameters("li", x, rate_mem=rate_mem, rate_syn=rate_syn, v_leak=v_leak)
    v, i = _first(state, x, shape, shape)

    traces: dict[str, list[Tensor]] = {"v": [], "i": []}
    for x_t in _steps(x, x, time_dim):
        j = i + x_t
        v = v + a * ((leak - v) + j)
        i = j + (-b) * j
        traces["v"].append(v)
        traces["i"].append(i)

    stacked = {name: _stack(trace, v, x, time_dim) for name, trace in traces.items()}
    return LIResult(stacked["v"], LIState(v, i), {name: stacked[name] for name in record})

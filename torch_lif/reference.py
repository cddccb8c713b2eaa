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
        g_v = g * ctx.surrogate.derivative(v, threshold, ctx.max_spikes)
        g_threshold = (g * ctx.surrogate.threshold_derivative(v, threshold, ctx.max_spikes)).sum_to_size(threshold.shape)
        return g_v, g_threshold, None, None


def spike(v: Tensor, threshold: Tensor, surrogate: Surrogate, max_spikes: float = 2.0**16, smooth: bool = False) -> Tensor:
    """[v >= threshold] * floor(v / threshold), at most max_spikes, with the surrogate's gradient; or its smooth stand-in."""
    if smooth:
        return surrogate.smooth(v, threshold, max_spikes)
    return _Spike.apply(v, threshold, surrogate, max_spikes)


def _sequence(x: Tensor | None, steps: int, time_dim: int, dtype: torch.dtype) -> Sequence[Tensor | float]:
    # Unbound once: indexing x[t] in the loop would make its backward quadratic in the number of steps.
    return x.to(dtype).unbind(time_dim) if x is not None else [0.0] * steps


def _stack(steps: list[Tensor], like: Tensor, x: Tensor, time_dim: int) -> Tensor:
    """One value a step, each shaped like `like`, as a sequence in x's dtype; right for no step at all too."""
    return torch.stack(steps, time_dim).to(x.dtype) if steps else like.new_zeros(like.shape, dtype=x.dtype).unsqueeze(time_dim).narrow(time_dim, 0, 0)


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
    dtype = compute_dtype(x)
    alpha, beta, theta, b = (
        parameter("lif", name, value, x)
        for name, value in (("decay_mem", decay_mem), ("decay_syn", decay_syn), ("threshold", threshold), ("bias", 0.0 if bias is None else bias))
    )
    steps = x.shape[time_dim]
    neurons = x.shape[2:] if synapses < 2 else (x.shape[2] // synapses,)
    shape = (x.shape[1 - time_dim], *neurons)
    v, i = (*(state or ()), None, None)[:2]
    v = x.new_zeros(shape, dtype=dtype) if v is None else v
    if i is None and synapses:
        i = x.new_zeros(shape if synapses == 1 else (*shape, synapses), dtype=dtype)

    traces: dict[str, list[Tensor]] = {"spikes": [], "v": [], "i": []}
    for x_t, noise_t in zip(_sequence(x, steps, time_dim, dtype), _sequence(noise, steps, time_dim, dtype), strict=True):
        total = x_t
        if synapses:
            i = (i + x_t.reshape(i.shape)) * beta
            total = i if synapses == 1 else i[..., 0]
            for k in range(1, synapses):
                total = total + i[..., k]
            traces["i"].append(i)
        v = ((v * alpha + total) + noise_t) + b
        n = spike(v, theta, surrogate, max_spikes, smooth)
        v = v - n * theta
        traces["spikes"].append(n)
        traces["v"].append(v)

    stacked = {"spikes": _stack(traces["spikes"], v, x, time_dim)}
    stacked |= {name: _stack(traces[name], i if name == "i" and i is not None else v, x, time_dim) for name in record}
    return LIFResult(stacked["spikes"], LIFState(v, i), {name: stacked[name] for name in record})


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
    dtype = compute_dtype(x)
    a, b, leak = (
        parameter("li", name, value, x)
        for name, value in (("rate_mem", rate_mem), ("rate_syn", rate_syn), ("v_leak", 0.0 if v_leak is None else v_leak))
    )
    shape = (x.shape[1 - time_dim], *x.shape[2:])
    v, i = (x.new_zeros(shape, dtype=dtype) if s is None else s for s in (*(state or ()), None, None)[:2])
    traces: dict[str, list[Tensor]] = {"v": [], "i": []}
    for x_t in _sequence(x, x.shape[time_dim], time_dim, dtype):
        j = i + x_t
        v = v + a * ((leak - v) + j)
        i = j + (-b) * j
        traces["v"].append(v)
        traces["i"].append(i)
    stacked = {name: _stack(trace, v, x, time_dim) for name, trace in traces.items()}
    return LIResult(stacked["v"], LIState(v, i), {name: stacked[name] for name in record})

"""The specification in readable form: one time step of each neuron in PyTorch, and the plain loop that runs it over
time.

`reference.lif` and the other functions here are those of `torch_lif.functional` with backend="loop": the same
arguments, checks and results. The tests hold the kernels to them: the same spikes and states bit for bit in float32 and
float64, the same gradients up to rounding. They run wherever PyTorch runs, and are slow.

Recurrent weights: the loop takes PyTorch's matrix product, whose order of summation, and so its last bits, depend on
the device, the library and the size of the batch. The kernels add the rows of the neurons that spiked, in ascending
order (torch_lif/reference.py: `sum_in_order`). Within `rows_in_order()` the loop does so too.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from . import functional
from ._call import ORDERS, compute_dtype
from .surrogate import Surrogate

__all__ = ["alif", "euler_lif", "li", "lif", "rows_in_order", "spike", "sum_in_order"]

P = ParamSpec("P")
R = TypeVar("R")


def _by_the_loop(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def reference(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.setdefault("backend", "loop") != "loop":
            raise ValueError(
                f"reference: backend is {kwargs['backend']!r}, expected 'loop'; torch_lif.functional has both"
            )
        return function(*args, **kwargs)

    return reference


lif = _by_the_loop(functional.lif)
alif = _by_the_loop(functional.alif)
euler_lif = _by_the_loop(functional.euler_lif)
li = _by_the_loop(functional.li)


SpikeFunction = Callable[[Tensor, Tensor, float], Tensor]
"""(v, threshold, max_spikes) -> number of spikes"""


def multi_spike(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v >= threshold] * floor(v / threshold), at most max_spikes, as in Rockpool."""
    return ((v >= threshold) * torch.floor(v / threshold)).clamp(max=max_spikes)


def positive_multi_spike(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v > 0] * trunc(v / threshold), at most max_spikes, as in sinabs' MultiSpike and MaxSpike."""
    return ((v > 0) * torch.trunc(v / threshold)).clamp(max=max_spikes)


def spike_at_threshold(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v - threshold >= 0], as in sinabs' SingleSpike."""
    return (v - threshold >= 0).to(v.dtype)


def spike_above_threshold(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v - threshold > 0], as in hxtorch and norse."""
    return (v - threshold > 0).to(v.dtype)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, v: Tensor, threshold: Tensor, surrogate: Surrogate, max_spikes: float, count: SpikeFunction
    ) -> Tensor:
        ctx.save_for_backward(v, threshold)
        ctx.surrogate, ctx.max_spikes = surrogate, max_spikes
        return count(v, threshold, max_spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        v, threshold = ctx.saved_tensors
        g_v = g_threshold = None
        if ctx.needs_input_grad[0]:
            g_v = g * ctx.surrogate.derivative(v, threshold, ctx.max_spikes)
        if ctx.needs_input_grad[1]:
            g_threshold = (g * ctx.surrogate.threshold_derivative(v, threshold, ctx.max_spikes)).sum_to_size(
                threshold.shape
            )
        return g_v, g_threshold, None, None, None


def spike(
    v: Tensor,
    threshold: Tensor,
    surrogate: Surrogate,
    max_spikes: float = 2.0**16,
    smooth: bool = False,
    count: SpikeFunction = multi_spike,
) -> Tensor:
    """The number of spikes, with the surrogate's gradient; with `smooth` the surrogate's antiderivative instead."""
    if max_spikes > torch.finfo(v.dtype).max:
        max_spikes = math.inf  # clamp takes infinity, but no larger finite number
    if smooth:
        return surrogate.smooth(v, threshold, max_spikes)
    return _Spike.apply(v, threshold, surrogate, max_spikes, count)


class _Inject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, computed: Tensor, measured: Tensor) -> Tensor:
        return measured

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


def inject(computed: Tensor, measured: Tensor | None) -> Tensor:
    """The measured value if there is one; its gradient goes to the computed value unchanged."""
    return computed if measured is None else _Inject.apply(computed, measured)


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b


@dataclasses.dataclass(frozen=True)
class Options:
    """What a step reads besides tensors: the neuron's own options by name, the number of synapses, the spike
    function."""

    own: Mapping[str, float]
    synapses: int
    surrogate: Surrogate | None
    smooth: bool

    def __getitem__(self, name: str) -> float:
        return self.own[name]

    def spike(self, v: Tensor, threshold: Tensor, max_spikes: float, count: SpikeFunction) -> Tensor:
        assert self.surrogate is not None
        return spike(v, threshold, self.surrogate, max_spikes, self.smooth, count)


# Each step takes this step's inputs, the states before it, the parameters (None: left out) and the options, and returns
# its output and the states after it. `now.rec` is the recurrent input.
Step = Callable[[SimpleNamespace, SimpleNamespace, SimpleNamespace, Options], tuple[Tensor, dict[str, Tensor]]]


def lif_step(
    now: SimpleNamespace, s: SimpleNamespace, p: SimpleNamespace, o: Options
) -> tuple[Tensor, dict[str, Tensor]]:
    if o.synapses:
        i = _plus(s.i + now.x, now.rec) * p.decay_syn
        total = i if o.synapses == 1 else i[..., 0]
        for k in range(1, o.synapses):
            total = total + i[..., k]
    else:
        i, total = s.i, _plus(now.x, now.rec)
    v = _plus(_plus(s.v * p.decay_mem + total, now.noise), p.bias)
    n = o.spike(v, p.threshold, o["max_spikes"], multi_spike)
    return n, {"v": v - n * p.threshold, "i": i}


def alif_step(
    now: SimpleNamespace, s: SimpleNamespace, p: SimpleNamespace, o: Options
) -> tuple[Tensor, dict[str, Tensor]]:
    i = s.i
    current = _plus(now.x, now.rec)
    if o.synapses:
        current = i = p.decay_syn * (s.i + current)
    if o["norm_input"]:
        current = (1 - p.decay_mem) * current
    if o["norm_input"] == 2:
        i = current
    v = _plus(_plus(p.decay_mem * s.v + current, now.noise), p.bias)
    threshold = p.threshold + p.adapt_scale * s.adaptation
    count = positive_multi_spike if o["multi_spikes"] else spike_at_threshold
    n = o.spike(v, threshold if o["threshold_gradient"] else threshold.detach(), o["max_spikes"], count)
    if o["reset_to_value"]:
        silent = (n == 0).to(n.dtype)
        v = v * silent + p.reset_value * (1 - silent)
    else:
        v = v - n * (threshold if p.reset_value is None else p.reset_value)
    adaptation = p.decay_adapt * s.adaptation + (1 - p.decay_adapt) * n
    if o["zero_adaptation"]:
        adaptation = torch.where(n != 0, 0.0, adaptation)
    if p.min_v is not None:
        v = torch.relu(v - p.min_v) + p.min_v
    return n, {"v": v, "i": i, "adaptation": adaptation}


def _synapse(order: float, i: Tensor, x: Tensor, rec: Tensor | None, rate: Tensor) -> tuple[Tensor, Tensor]:
    """The current that the membrane sees in this step, and the synaptic current after the step. `order` is an index
    into `SYNAPSE_UPDATES`."""
    if order == 0:
        j = _plus(i + x, rec)
        return j, j + (-rate) * j
    if order == 1:
        return i, _plus(i * (1 - rate) + x, rec)
    return i, _plus((i + (-rate) * i) + x, rec)


def euler_lif_step(
    now: SimpleNamespace, s: SimpleNamespace, p: SimpleNamespace, o: Options
) -> tuple[Tensor, dict[str, Tensor]]:
    j, i = _synapse(o["synapse_update"], s.i, now.x, now.rec, p.rate_syn)
    leak, reset = (torch.zeros_like(p.threshold) if value is None else value for value in (p.leak, p.reset_value))
    dv = p.rate_mem * ((leak - s.v) + j) if o["leaky"] else p.rate_mem * j
    v = inject(_plus(_plus(dv + s.v, now.noise), p.bias), now.membrane_hw)
    z = inject(o.spike(v, p.threshold, 1, spike_above_threshold), now.spikes_hw)
    if now.membrane_hw is None:
        gate = z if o["reset_gradient"] else z.detach()
        v = (1 - gate) * v + gate * reset
    if p.refractory is None:
        return z, {"v": v, "i": i}
    mute = (s.refractory > 0).to(v.dtype)
    v = inject((1 - mute) * v + mute * reset, now.membrane_hw)
    z = inject((1 - mute) * z, now.spikes_hw)
    spiked = z.detach()
    return z, {"v": v, "i": i, "refractory": (1 - spiked) * (s.refractory - mute).clamp(min=0) + spiked * p.refractory}


def li_step(
    now: SimpleNamespace, s: SimpleNamespace, p: SimpleNamespace, o: Options
) -> tuple[Tensor, dict[str, Tensor]]:
    j, i = _synapse(o["synapse_update"], s.i, now.x, None, p.rate_syn)
    leak = torch.zeros_like(p.rate_mem) if p.leak is None else p.leak
    v = inject(_plus(_plus(s.v + p.rate_mem * ((leak - s.v) + j), now.noise), p.bias), now.membrane_hw)
    return v, {"v": v, "i": i}


STEPS: dict[str, Step] = {"lif": lif_step, "alif": alif_step, "euler_lif": euler_lif_step, "li": li_step}


def _recurrent(
    spikes: Tensor | None, w_rec: Tensor | None, b_rec: Tensor | None, shape: Sequence[int]
) -> Tensor | None:
    """The spikes of the previous step times w_rec, plus b_rec; None in the first step without initial spikes."""
    if spikes is None or w_rec is None:
        return None
    sent = spikes.reshape(spikes.shape[0], w_rec.shape[0])
    received = sum_in_order(sent, w_rec, b_rec) if _in_order.get() else _plus(sent @ w_rec, b_rec)
    return received.reshape(tuple(shape))


_in_order: contextvars.ContextVar[bool] = contextvars.ContextVar("rows_in_order", default=False)


@contextlib.contextmanager
def rows_in_order() -> Iterator[None]:
    """Within this context the plain loop computes the recurrent input by `sum_in_order`, as the kernels do: then
    recurrent layers have the kernels' bits for any weights. It is slow: an operation for each neuron and step."""
    token = _in_order.set(True)
    try:
        yield
    finally:
        _in_order.reset(token)


def sum_in_order(spikes: Tensor, w_rec: Tensor, b_rec: Tensor | None = None) -> Tensor:
    """spikes (batch, N) @ w_rec (N, M) + b_rec (M,), in the order of the kernels: from b_rec on (without it from 0),
    row n of w_rec times the spikes of neuron n is added for each n in ascending order. Rows of silent neurons are left
    out; but not those with an infinity or NaN, for 0 times it is NaN. The gradients are the product's."""
    return _SumInOrder.apply(spikes, w_rec, b_rec)


class _SumInOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, w_rec: Tensor, b_rec: Tensor | None) -> Tensor:
        ctx.save_for_backward(spikes, w_rec)
        total = w_rec.new_zeros(spikes.shape[0], w_rec.shape[1])
        total = total if b_rec is None else b_rec.expand_as(total).clone()
        for n in range(w_rec.shape[0]):
            sent = spikes[:, n : n + 1]
            added = (sent != 0) | ~w_rec[n].isfinite().all()
            total = torch.where(added, total + sent * w_rec[n], total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        (grad,), (spikes, w_rec) = grads, ctx.saved_tensors
        return grad @ w_rec.t(), spikes.t() @ grad, grad.sum(0) if ctx.needs_input_grad[2] else None


def _stack(steps: list[Tensor], like: Tensor, time_dim: int, dtype: torch.dtype) -> Tensor:
    """One value per step, each shaped like `like`, as a sequence; also right if there are no steps."""
    if not steps:
        return like.new_zeros(like.shape, dtype=dtype).unsqueeze(time_dim).narrow(time_dim, 0, 0)
    return torch.stack(steps, time_dim).to(dtype)


def loop(
    name: str,
    inputs: Mapping[str, Tensor | None],
    params: Mapping[str, Tensor | None],
    first: Mapping[str, Tensor | None],
    options: Mapping[str, float],
    surrogate: Surrogate | None,
    smooth: bool,
    synapses: int,
    batch_first: bool,
    record: Sequence[str],
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Runs a neuron's step over time, in float32 (float64 for float64 x). Returns output, final states, recorded
    states."""
    order, step = ORDERS[name], STEPS[name]
    x = inputs["x"]
    assert x is not None
    time_dim, compute = int(batch_first), compute_dtype(x)
    neurons = x.shape[2:] if synapses < 2 else (x.shape[2] // synapses,)
    per_neuron = (x.shape[1 - time_dim], *neurons)
    per_current = per_neuron if synapses < 2 else (*per_neuron, synapses)
    p = SimpleNamespace(**{key: params.get(key) for key in order.params})
    o = Options(options, synapses, surrogate, smooth)
    own = [key for key in order.states if key != "spikes"]
    shapes = {key: per_current if key == "i" else per_neuron for key in own}
    given = ((key, first.get(key)) for key in own)
    states = {key: x.new_zeros(shapes[key], dtype=compute) if s is None else s for key, s in given}
    w_rec, b_rec, spikes = params.get("w_rec"), params.get("b_rec"), first.get("spikes")

    layout = (*x.shape[:2], *neurons)
    for key, beside in inputs.items():
        if key != "x" and beside is not None and beside.shape != layout:  # PyTorch would broadcast it
            raise ValueError(
                f"{name}: {key} has shape {tuple(beside.shape)}, expected {layout} with x of shape {tuple(x.shape)}"
            )

    # Unbound once: indexing x[t] in the loop would make its backward quadratic in the number of steps.
    steps = x.shape[time_dim]
    sequences = {
        key: [None] * steps if t is None else t.to(compute).unbind(time_dim)
        for key, t in ((key, inputs.get(key)) for key in order.inputs)
    }
    outputs: list[Tensor] = []
    traces: dict[str, list[Tensor]] = {key: [] for key in record}
    for t in range(steps):
        now = SimpleNamespace(**{key: sequence[t] for key, sequence in sequences.items()})
        now.x = now.x.reshape(per_current)
        now.rec = _recurrent(spikes, w_rec, b_rec, per_current)
        output, after = step(now, SimpleNamespace(**states), p, o)
        spikes, states = output, states | after
        outputs.append(output)
        for key, trace in traces.items():
            trace.append(states[key])

    nothing = x.new_zeros(per_neuron, dtype=compute)
    records = {key: _stack(trace, states[key], time_dim, x.dtype) for key, trace in traces.items()}
    final = {key: states[key] for key in order.present(params, synapses) if key != "spikes"}
    if w_rec is not None:
        final["spikes"] = nothing if spikes is None else spikes
    return _stack(outputs, nothing, time_dim, x.dtype), final, records

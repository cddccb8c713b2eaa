"""The specification in readable form: each neuron as one plain loop over time in PyTorch.

The kernels are held to these loops: the same spikes and states bit for bit in float32 and float64 (with recurrent weights: given
the same matrix products), the same gradients up to rounding. They run wherever PyTorch runs, take the same arguments as
`torch_lif.functional`, and are slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._call import check_input, check_record, compute_dtype, parameter, recurrent_input, split_state, weights
from .surrogate import SingleExponential, StepPWL, SuperSpike, Surrogate

__all__ = [
    "ALIFResult",
    "ALIFState",
    "CubaLIFResult",
    "CubaLIFState",
    "LIFResult",
    "LIFState",
    "LIResult",
    "LIState",
    "alif",
    "cuba_lif",
    "li",
    "lif",
    "spike",
]


class LIFState(NamedTuple):
    """State of a LIF layer between time steps; float32 (float64 for float64 input).

    v: membrane potential after the reset, (batch, *neurons).
    i: synaptic currents after the decay, (batch, *neurons), with two or more synapses (batch, neurons, synapses); None without
    synapses.
    spikes: with recurrent weights the spikes of the last step, (batch, *neurons); else None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    spikes: Tensor | None = None


class LIFResult(NamedTuple):
    """What a LIF layer returns: spike counts (laid out like x), the state after the last step, the records by name."""

    spikes: Tensor
    state: LIFState
    records: dict[str, Tensor]


class ALIFState(NamedTuple):
    """State of an adaptive LIF layer between time steps, each (batch, *neurons), float32 (float64 for float64 input).

    v: membrane potential after the reset. i: synaptic current; None without the synapse. b: adaptation of the threshold.
    spikes: with recurrent weights the spikes of the last step; else None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    b: Tensor | None = None
    spikes: Tensor | None = None


class ALIFResult(NamedTuple):
    """What an adaptive LIF layer returns: spike counts (laid out like x), the state after the last step, the records by name."""

    spikes: Tensor
    state: ALIFState
    records: dict[str, Tensor]


class CubaLIFState(NamedTuple):
    """State of a forward-Euler LIF layer between time steps, each (batch, *neurons), float32 (float64 for float64 input).

    v: membrane potential after the reset. i: synaptic current. refractory: how many steps the neuron stays silent; None without
    a refractory period. spikes: with recurrent weights the spikes of the last step; else None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    refractory: Tensor | None = None
    spikes: Tensor | None = None


class CubaLIFResult(NamedTuple):
    """What a forward-Euler LIF layer returns: spikes (laid out like x), the state after the last step, the records by name."""

    spikes: Tensor
    state: CubaLIFState
    records: dict[str, Tensor]


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


SpikeFunction = Callable[[Tensor, Tensor, float], Tensor]
"""(v, threshold, max_spikes) -> number of spikes"""


def multi_spike(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v >= threshold] * floor(v / threshold), at most max_spikes: Rockpool's."""
    return ((v >= threshold) * torch.floor(v / threshold)).clamp(max=max_spikes)


def positive_multi_spike(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v > 0] * trunc(v / threshold), at most max_spikes: sinabs' MultiSpike and MaxSpike."""
    return ((v > 0) * torch.trunc(v / threshold)).clamp(max=max_spikes)


def spike_at_threshold(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v - threshold >= 0]: sinabs' SingleSpike."""
    return (v - threshold >= 0).to(v.dtype)


def spike_above_threshold(v: Tensor, threshold: Tensor, max_spikes: float) -> Tensor:
    """[v - threshold > 0]: hxtorch's and norse's."""
    return (v - threshold > 0).to(v.dtype)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, surrogate: Surrogate, max_spikes: float, count: SpikeFunction) -> Tensor:
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
            g_threshold = (g * ctx.surrogate.threshold_derivative(v, threshold, ctx.max_spikes)).sum_to_size(threshold.shape)
        return g_v, g_threshold, None, None, None


def spike(
    v: Tensor,
    threshold: Tensor,
    surrogate: Surrogate,
    max_spikes: float = 2.0**16,
    smooth: bool = False,
    count: SpikeFunction = multi_spike,
) -> Tensor:
    """The number of spikes with the surrogate's gradient; or its smooth stand-in."""
    if max_spikes > torch.finfo(v.dtype).max:
        max_spikes = math.inf  # which clamp takes
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
    """Forward the measured value where there is one, backward the identity to the computed one."""
    return computed if measured is None else _Inject.apply(computed, measured)


def _checked(
    op: str, x: Tensor, state: Iterable[Tensor | None] | None, names: Sequence[str], record: Iterable[str], known: Sequence[str]
) -> tuple[Tensor, tuple[Tensor | None, ...], tuple[str, ...]]:
    """x, the initial states and the names to record, with the same errors as `torch_lif.functional`."""
    given = split_state(op, state, names)
    return check_input(op, x), tuple(map(given.get, names)), check_record(op, record, known)


def _steps(x: Tensor | None, like: Tensor, time_dim: int) -> Sequence[Tensor]:
    """A sequence as its time steps, in the dtype computed in; zeros if it was left out."""
    # Unbound once: indexing x[t] in the loop would make its backward quadratic in the number of steps.
    if x is None:
        return [like.new_zeros((), dtype=compute_dtype(like))] * like.shape[time_dim]
    return x.to(compute_dtype(like)).unbind(time_dim)


def _measured(x: Tensor | None, like: Tensor, time_dim: int) -> Sequence[Tensor | None]:
    return [None] * like.shape[time_dim] if x is None else _steps(x, like, time_dim)


def _stack(steps: list[Tensor], like: Tensor, x: Tensor, time_dim: int) -> Tensor:
    """One value a step, each shaped like `like`, as a sequence in x's dtype; right for no step at all too."""
    if not steps:
        return like.new_zeros(like.shape, dtype=x.dtype).unsqueeze(time_dim).narrow(time_dim, 0, 0)
    return torch.stack(steps, time_dim).to(x.dtype)


def _parameters(op: str, x: Tensor, **values: Tensor | float | None) -> list[Tensor]:
    """Parameters as tensors beside x, so that PyTorch divides by them truly on every device; one left out is 0."""
    tensors = (parameter(op, name, 0.0 if value is None else value, x) for name, value in values.items())
    return [t for t in tensors if t is not None]


def _first(state: Sequence[Tensor | None], x: Tensor, *shapes: Sequence[int]) -> list[Tensor]:
    """The initial states; one left out is zero."""
    zeros = (x.new_zeros(tuple(shape), dtype=compute_dtype(x)) for shape in shapes)
    return [zero if s is None else s for s, zero in zip(state, zeros, strict=False)]


class _Recurrence:
    """The recurrent input of a step: spikes of the step before times w_rec, plus b_rec; none in the first step without initial
    spikes."""

    def __init__(
        self,
        op: str,
        w_rec: Tensor | None,
        b_rec: Tensor | None,
        state: Sequence[Tensor | None],
        place: int,
        x: Tensor,
        per_neuron: Sequence[int],
        per_current: Sequence[int],
    ) -> None:
        self.first = state[place]
        self.w_rec, self.b_rec = weights(op, "w_rec", w_rec, x), weights(op, "b_rec", b_rec, x)
        self.per_current = tuple(per_current)
        self.spikes = x.new_zeros(tuple(per_neuron), dtype=compute_dtype(x)) if self.first is None else self.first
        self.none = self.first is None

    def input(self) -> Tensor | None:
        if self.w_rec is None or self.none:
            return None
        received = self.spikes.reshape(self.spikes.shape[0], self.w_rec.shape[0]) @ self.w_rec
        return (received if self.b_rec is None else received + self.b_rec).reshape(self.per_current)

    def output(self, spikes: Tensor) -> None:
        self.spikes, self.none = spikes, False

    def last(self) -> Tensor | None:
        return None if self.w_rec is None else self.spikes

    def record(self, spikes: Tensor, synapses: int, batch_first: bool) -> Tensor:
        assert self.w_rec is not None
        return recurrent_input(spikes, self.first, self.w_rec, self.b_rec, synapses, batch_first)


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b


def lif(
    x: Tensor,
    *,
    decay_mem: Tensor | float,
    decay_syn: Tensor | float | None = None,
    threshold: Tensor | float = 1.0,
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    w_rec: Tensor | None = None,
    max_spikes: float = 2.0**16,
    surrogate: Surrogate = StepPWL(),  # noqa: B008 (frozen)
    synapses: int | None = None,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
) -> LIFResult:
    """Leaky integrate-and-fire; arguments and result as `torch_lif.functional.lif`."""
    synapses = synapses if synapses is not None else int(decay_syn is not None)
    known = ("spikes", "v", *(("i",) if synapses else ()), *(("irec",) if w_rec is not None else ()))
    x, state, record = _checked("lif", x, state, ("v", "i", "spikes"), record, known)
    time_dim = 1 if batch_first else 0
    neurons = x.shape[2:] if synapses < 2 else (x.shape[2] // synapses,)
    per_neuron = (x.shape[1 - time_dim], *neurons)
    per_synapse = per_neuron if synapses < 2 else (*per_neuron, synapses)
    alpha, beta, theta, b = _parameters("lif", x, decay_mem=decay_mem, decay_syn=decay_syn, threshold=threshold, bias=bias)
    v, i = _first(state, x, per_neuron, per_synapse)
    recurrence = _Recurrence("lif", w_rec, None, state, 2, x, per_neuron, per_synapse)

    traces: dict[str, list[Tensor]] = {"spikes": [], "v": [], "i": []}
    for x_t, noise_t in zip(_steps(x, x, time_dim), _steps(noise, x, time_dim), strict=True):
        rec = recurrence.input()
        if synapses:
            i = _plus(i + x_t.reshape(per_synapse), rec) * beta
            total = i if synapses == 1 else i[..., 0]
        else:
            total = _plus(x_t, rec)
        for k in range(1, synapses):
            total = total + i[..., k]
        v = ((v * alpha + total) + noise_t) + b
        n = spike(v, theta, surrogate, max_spikes, smooth)
        v = v - n * theta
        recurrence.output(n)
        for name, value in (("spikes", n), ("v", v), ("i", i)):
            traces[name].append(value)

    stacked = {name: _stack(trace, i if name == "i" else v, x, time_dim) for name, trace in traces.items()}
    if "irec" in record:
        stacked["irec"] = recurrence.record(stacked["spikes"], synapses, batch_first)
    final = LIFState(v, i if synapses else None, recurrence.last())
    return LIFResult(stacked["spikes"], final, {name: stacked[name] for name in record})


def alif(
    x: Tensor,
    *,
    decay_mem: Tensor | float,
    decay_adapt: Tensor | float,
    decay_syn: Tensor | float | None = None,
    adapt_scale: Tensor | float = 1.8,
    threshold: Tensor | float = 1.0,
    reset: str = "subtract",
    reset_value: Tensor | float | None = None,
    min_v: Tensor | float | None = None,
    w_rec: Tensor | None = None,
    b_rec: Tensor | None = None,
    norm_input: bool | str = True,
    zero_adaptation: bool = False,
    max_spikes: float = 1,
    surrogate: Surrogate = SingleExponential(),  # noqa: B008 (frozen)
    threshold_gradient: bool = True,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
) -> ALIFResult:
    """Adaptive leaky integrate-and-fire; arguments and result as `torch_lif.functional.alif`."""
    synapse = decay_syn is not None
    known = ("spikes", "v", *(("i",) if synapse else ()), "b", *(("irec",) if w_rec is not None else ()))
    x, state, record = _checked("alif", x, state, ("v", "i", "b", "spikes"), record, known)
    time_dim = 1 if batch_first else 0
    shape = (x.shape[1 - time_dim], *x.shape[2:])
    alpha, rho, beta, scale, b0, value, lowest = _parameters(
        "alif",
        x,
        decay_mem=decay_mem,
        decay_adapt=decay_adapt,
        decay_syn=decay_syn,
        adapt_scale=adapt_scale,
        threshold=threshold,
        reset_value=reset_value,
        min_v=min_v,
    )
    v, i, b = _first(state, x, shape, shape, shape)
    recurrence = _Recurrence("alif", w_rec, b_rec, state, 3, x, shape, shape)
    count = spike_at_threshold if max_spikes == 1 else positive_multi_spike

    traces: dict[str, list[Tensor]] = {"spikes": [], "v": [], "i": [], "b": []}
    for x_t in _steps(x, x, time_dim):
        current = _plus(x_t, recurrence.input())
        if synapse:
            current = i = beta * (i + current)
        if norm_input:
            current = (1 - alpha) * current
        if norm_input == "state":
            i = current
        v = alpha * v + current
        theta = b0 + scale * b
        n = spike(v, theta if threshold_gradient else theta.detach(), surrogate, max_spikes, smooth, count)
        silent = (n == 0).to(n.dtype)
        to_value = v * silent + value * (1 - silent)
        v = to_value if reset == "value" else v - n * (theta if reset_value is None else value)
        b = rho * b + (1 - rho) * n
        if zero_adaptation:
            b = torch.where(n != 0, 0.0, b)
        if min_v is not None:
            v = torch.relu(v - lowest) + lowest
        recurrence.output(n)
        for name, trace in (("spikes", n), ("v", v), ("i", i), ("b", b)):
            traces[name].append(trace)

    stacked = {name: _stack(trace, v, x, time_dim) for name, trace in traces.items()}
    if "irec" in record:
        stacked["irec"] = recurrence.record(stacked["spikes"], 0, batch_first)
    final = ALIFState(v, i if synapse else None, b, recurrence.last())
    return ALIFResult(stacked["spikes"], final, {name: stacked[name] for name in record})


def _synapse(form: str, i: Tensor, x: Tensor, rec: Tensor | None, rate: Tensor) -> tuple[Tensor, Tensor]:
    """The current that the membrane sees in this step, and the one after it; `form` as in `torch_lif.functional.cuba_lif`."""
    if form == "at_once":
        j = _plus(i + x, rec)
        return j, j + (-rate) * j
    if form == "delayed":
        return i, _plus(i * (1 - rate) + x, rec)
    return i, _plus((i + (-rate) * i) + x, rec)


def cuba_lif(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    threshold: Tensor | float = 1.0,
    leak: Tensor | float | None = None,
    reset: Tensor | float | None = None,
    refractory: Tensor | float | None = None,
    spikes_hw: Tensor | None = None,
    membrane_hw: Tensor | None = None,
    w_rec: Tensor | None = None,
    b_rec: Tensor | None = None,
    synapse: str = "delayed",
    leaky: bool = True,
    reset_gradient: bool = False,
    surrogate: Surrogate = SuperSpike(),  # noqa: B008 (frozen)
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
) -> CubaLIFResult:
    """Current-based LIF by forward Euler; arguments and result as `torch_lif.functional.cuba_lif`."""
    optional = {"refractory": refractory, "irec": w_rec}
    known = ("spikes", "v", "i", *(name for name, needed in optional.items() if needed is not None))
    x, state, record = _checked("cuba_lif", x, state, ("v", "i", "refractory", "spikes"), record, known)
    time_dim = 1 if batch_first else 0
    shape = (x.shape[1 - time_dim], *x.shape[2:])
    a, r, theta, rest, v_reset, period = _parameters(
        "cuba_lif", x, rate_mem=rate_mem, rate_syn=rate_syn, threshold=threshold, leak=leak, reset=reset, refractory=refractory
    )
    v, i, ref = _first(state, x, shape, shape, shape)
    ref = ref.detach()
    recurrence = _Recurrence("cuba_lif", w_rec, b_rec, state, 3, x, shape, shape)

    traces: dict[str, list[Tensor]] = {"spikes": [], "v": [], "i": [], "refractory": []}
    hardware = (_measured(spikes_hw, x, time_dim), _measured(membrane_hw, x, time_dim))
    for x_t, z_hw, v_hw in zip(_steps(x, x, time_dim), *hardware, strict=True):
        j, i = _synapse(synapse, i, x_t, recurrence.input(), r)
        dv = a * ((rest - v) + j) if leaky else a * j
        v = inject(dv + v, v_hw)
        z = inject(spike(v, theta, surrogate, 1, smooth, spike_above_threshold), z_hw)
        if v_hw is None:
            gate = z if reset_gradient else z.detach()
            v = (1 - gate) * v + gate * v_reset
        if refractory is not None:
            mute = (ref > 0).to(v.dtype)
            v = inject((1 - mute) * v + mute * v_reset, v_hw)
            z = inject((1 - mute) * z, z_hw)
            ref = (1 - z.detach()) * (ref - mute).clamp(min=0) + z.detach() * period.detach()
        recurrence.output(z)
        for name, trace in (("spikes", z), ("v", v), ("i", i), ("refractory", ref)):
            traces[name].append(trace)

    stacked = {name: _stack(trace, v, x, time_dim) for name, trace in traces.items()}
    if "irec" in record:
        stacked["irec"] = recurrence.record(stacked["spikes"], 0, batch_first)
    final = CubaLIFState(v, i, None if refractory is None else ref, recurrence.last())
    return CubaLIFResult(stacked["spikes"], final, {name: stacked[name] for name in record})


def li(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    v_leak: Tensor | float | None = None,
    membrane_hw: Tensor | None = None,
    synapse: str = "at_once",
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    memory: str | None = None,
) -> LIResult:
    """Leaky integrator; arguments and result as `torch_lif.functional.li`."""
    x, state, record = _checked("li", x, state, ("v", "i"), record, ("v", "i"))
    time_dim = 1 if batch_first else 0
    shape = (x.shape[1 - time_dim], *x.shape[2:])
    a, r, leak = _parameters("li", x, rate_mem=rate_mem, rate_syn=rate_syn, v_leak=v_leak)
    v, i = _first(state, x, shape, shape)

    traces: dict[str, list[Tensor]] = {"v": [], "i": []}
    for x_t, v_hw in zip(_steps(x, x, time_dim), _measured(membrane_hw, x, time_dim), strict=True):
        j, i = _synapse(synapse, i, x_t, None, r)
        v = inject(v + a * ((leak - v) + j), v_hw)
        traces["v"].append(v)
        traces["i"].append(i)

    stacked = {name: _stack(trace, v, x, time_dim) for name, trace in traces.items()}
    return LIResult(stacked["v"], LIState(v, i), {name: stacked[name] for name in record})

"""Current-based LIF by forward Euler, with reset to a value and a refractory period: `cuba_lif` and `RefractoryCubaLIF`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import reference
from .._call import (
    COUNT,
    NOTHING,
    SYNAPSES,
    UNIT,
    check_choice,
    check_input,
    check_record,
    check_surrogate,
    compute_dtype,
    fused,
    parameter,
    recurrent_input,
    split_state,
    weights,
)
from .._check import flag, number
from ..reference import CubaLIFResult, CubaLIFState
from ..surrogate import SuperSpike, Surrogate
from .base import EULER, Neuron, Value, value_text

__all__ = ["CubaLIFResult", "CubaLIFState", "RefractoryCubaLIF", "cuba_lif"]


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
    """Current-based leaky integrate-and-fire by forward Euler over a whole sequence, in one kernel.

    At most one spike a step, reset to a value, a refractory period, and measured traces of neuromorphic hardware in the place of
    computed ones. Each time step computes, in this order of operations::

        j = i;  i = (i * (1 - rate_syn) + x) + rec                          the synapse, by `synapse`: see below
        v = v + rate_mem * ((leak - v) + j)                                 leaky=False: v + rate_mem * j
        v = membrane_hw                                                     if given
        z = [v - threshold > 0]
        z = spikes_hw                                                       if given
        v = (1 - z) * v + z * reset                                         not with membrane_hw

    and with `refractory`::

        m = [r > 0]
        v = (1 - m) * v + m * reset;  then membrane_hw again
        z = (1 - m) * z;              then spikes_hw again
        r = (1 - z) * max(r - m, 0) + z * refractory

    where rec = (spikes of the step before) @ w_rec + b_rec, nothing in a first step without initial spikes. float32 and float64
    results are those of `torch_lif.reference.cuba_lif` bit for bit (with w_rec: up to the rounding of that product).
    Source: hxtorch.spiking's cuba_lif_integration, cuba_refractory_lif_integration, cuba_iaf_integration; norse's
    lif_feed_forward_step.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        rate_mem: fraction of the membrane potential that leaks a step, dt/tau_mem, in [0, 1]. A number or (): shared by all; or the
            neurons' shape, in which a dimension may be 1. Parameters are float32 (float64 with float64 x), on x's device.
        rate_syn: the same of the synaptic current, dt/tau_syn, in [0, 1].
        threshold: spike threshold; as rate_mem. Default: 1.
        leak: potential that the membrane leaks to; as rate_mem. Default: 0.
        reset: potential after a spike; as rate_mem. Default: 0.
        refractory: time steps for which a neuron stays silent and at `reset` after a spike, 0 or more, not rounded; as rate_mem.
            It gets no gradient. Default: no refractory period, and no such state.
        spikes_hw, membrane_hw: measured spikes and membrane potential, laid out as the output, that take the place of those
            computed in every step; gradients go to the computed ones as if nothing had been replaced. Default: none.
        w_rec: recurrent weights (N, N) from neuron to neuron, N being the product of the neurons' shape. Default: none.
        b_rec: bias (N,) of the recurrent input. Default: none.
        synapse: "delayed" (hxtorch's LIF, as above), "delayed_increment" (hxtorch's IAF: i = ((i + (-rate_syn) * i) + x) + rec), or
            "at_once" (norse: j = (i + x) + rec; i = j + (-rate_syn) * j). Default: "delayed".
        leaky: whether the membrane leaks. Default: True.
        reset_gradient: whether a gradient flows through z in the reset. Default: False (detached).
        surrogate: stands for the spike's derivative. Default: SuperSpike(100).
        state: initial (v, i, refractory, spikes), or a `CubaLIFState`; None, or an entry None, starts at zero. The libraries
            start v at `leak`. Shapes as in `CubaLIFState`.
        record: names out of "v", "i", "refractory", "irec", "spikes" whose value after each step is returned too.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: put the surrogate's antiderivative in the spike's place, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: "recompute" (every 16th state; the steps between are computed
            again) or "save" (every state). The results are the same to the last bit. Default: "recompute", "save" with w_rec.

    Returns:
        `CubaLIFResult`: spikes laid out like x, final state, records. Gradients flow from all of them (but the refractory state)
        to x, the parameters (but `refractory`), the recurrent weights and the initial state. There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    op = "cuba_lif"
    x = check_input(op, x)
    w_rec, b_rec = weights(op, "w_rec", w_rec, x), weights(op, "b_rec", b_rec, x)
    if leak is not None and not flag(op, "leaky", leaky):
        raise ValueError(f"{op}: leak was given, expected None with leaky=False")
    period = parameter(op, "refractory", refractory, x, COUNT)
    if record is not NOTHING:
        optional = {"refractory": period, "irec": w_rec}
        known = ("spikes", "v", "i", *(name for name, needed in optional.items() if needed is not None))
        record = check_record(op, record, known)
    first = split_state(op, state, ("v", "i", "refractory", "spikes"))
    # A count of steps has no gradient, neither as an argument nor as a result.
    remaining = first.get("refractory")
    first["refractory"] = None if remaining is None else remaining.detach()
    spikes, final, records = fused(
        op,
        {"x": x, "spikes_hw": spikes_hw, "membrane_hw": membrane_hw},
        {
            "rate_mem": parameter(op, "rate_mem", rate_mem, x, UNIT),
            "rate_syn": parameter(op, "rate_syn", rate_syn, x, UNIT),
            "leak": parameter(op, "leak", leak, x),
            "reset": parameter(op, "reset", reset, x),
            "threshold": parameter(op, "threshold", threshold, x),
            "refractory": None if period is None else period.detach(),
            "w_rec": w_rec,
            "b_rec": b_rec,
        },
        first,
        options={
            "synapse": check_choice(op, "synapse", synapse, SYNAPSES),
            "leaky": flag(op, "leaky", leaky),
            "reset_gradient": flag(op, "reset_gradient", reset_gradient),
        },
        surrogate=check_surrogate(op, surrogate),
        smooth=smooth,
        batch_first=batch_first,
        record=record,
        memory=memory,
    )
    for values in (final, records):
        if "refractory" in values:
            values["refractory"] = values["refractory"].detach()
    traces = {"spikes": spikes, **records}
    if "irec" in record and w_rec is not None:
        traces["irec"] = recurrent_input(spikes, first.get("spikes"), w_rec, b_rec, 0, batch_first)
    last = CubaLIFState(final["v"], final["i"], final.get("refractory"), final.get("spikes"))
    return CubaLIFResult(spikes, last, {name: traces[name] for name in record})


class RefractoryCubaLIF(Neuron):
    """A layer of current-based LIF neurons with reset to a value and a refractory period, by forward Euler.

    Equations and their source: `torch_lif.functional.cuba_lif`. Other than `CubaLIF` (exact decays, the threshold is subtracted,
    several spikes a step) it spikes at most once a step, is reset to a value, and then rests. `layer(x)` returns the spikes of a
    fresh state (v at `leak`), so that it works in nn.Sequential; `layer.run(x, state)` takes and returns states.

    Each leak is held as one of three views, whichever is given: time constant `tau_` (s), decay a step `decay_` = 1 - dt/tau, or
    bit shift `dash_`, with decay = 1 - 2**-dash. All three can be read and set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds. Default: 10e-3. A number is one value for all neurons; a tensor of shape
            `size` is one a neuron.
        tau_syn: synaptic time constant in seconds. Default: 5e-3.
        decay_mem, dash_mem, decay_syn, dash_syn: instead of tau_mem, tau_syn.
        threshold: spike threshold. Default: 1.
        leak: potential that the membrane leaks to; no such parameter with leaky=False. Default: 0.
        reset: potential after a spike. Default: 0.
        refractory_time: seconds for which a neuron rests after a spike: refractory_time / dt time steps, rounded up (but for an
            excess within the rounding of that division). A buffer: it cannot be trained, but set, and loaded by load_state_dict.
            Default: None, no refractory period and no such buffer; the number 0 is the same.
        leaky: whether the membrane leaks. Default: True.
        recurrent: whether the spikes of a step come back as input of the next, through the trainable weights `w_rec`, (N, N) from
            neuron to neuron; a tensor gives their initial values. Default: False.
        synapse: "delayed", "delayed_increment" or "at_once". Default: "delayed".
        reset_gradient: whether a gradient flows through the spike in the reset. Default: False.
        surrogate: stands for the spike's derivative. Default: SuperSpike(10), wider than the libraries' 100.
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the neurons' parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    SETTINGS: ClassVar[dict[str, Any]] = {
        **Neuron.SETTINGS,
        "synapse": lambda owner, name, value: SYNAPSES[check_choice(owner, name, value, SYNAPSES)],
        "surrogate": lambda owner, name, value: check_surrogate(owner, value, fused=False),
        "leaky": flag,
        "reset_gradient": flag,
    }
    refractory_time: Tensor | None

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        dash_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        dash_syn: Value | None = None,
        threshold: Value = 1.0,
        leak: Value = 0.0,
        reset: Value = 0.0,
        refractory_time: Value | None = None,
        leaky: bool = True,
        recurrent: bool | Tensor = False,
        synapse: str = "delayed",
        reset_gradient: bool = False,
        surrogate: Surrogate = SuperSpike(10.0),  # noqa: B008 (frozen)
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend)
        owner = type(self).__name__
        self.synapse, self.leaky, self.reset_gradient = synapse, leaky, reset_gradient
        self.surrogate = check_surrogate(owner, surrogate, self.backend == "fused")
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "dash": dash_mem}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "dash": dash_syn}
        for name, given, tau in (("mem", mem, 10e-3), ("syn", syn, 5e-3)):
            self.add_leak(name, given, self.size, default_tau=tau, views=EULER, device=device, dtype=dtype)
        for name, value in (("threshold", threshold), ("reset", reset), *((("leak", leak),) if leaky else ())):
            self.add_parameter(name, value, self.size, device=device, dtype=dtype)
        self.register_buffer("refractory_time", None)
        if refractory_time is not None and not isinstance(refractory_time, Tensor):
            refractory_time = number(owner, "refractory_time", refractory_time, "a number or a tensor") or None  # 0: no period
        if refractory_time is not None:
            self.add_parameter(
                "refractory_time", refractory_time, self.size, within=COUNT, trained=False, device=device, dtype=dtype
            )
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, 1, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of a fresh state: (batch, time, *neurons). For states and records use `run`."""
        return self.run(x).spikes

    def run(self, x: Tensor, state: Sequence[Tensor | None] | None = None, *, record: Sequence[str] = ()) -> CubaLIFResult:
        """The layer with explicit state; arguments and result as in `torch_lif.functional.cuba_lif`, but that without a state the
        membrane starts at `leak` (at `reset` if it does not leak)."""
        self.check_size(x)
        if state is None:
            batch = x.shape[0 if self.batch_first else 1]
            rest = self.leak if self.leaky else self.reset
            state = CubaLIFState(rest.to(compute_dtype(x)).expand(batch, *self.size))
        function = cuba_lif if self.backend == "fused" else reference.cuba_lif
        return function(
            x,
            rate_mem=self.dt / self.tau_mem,
            rate_syn=self.dt / self.tau_syn,
            threshold=self.threshold,
            leak=self.leak if self.leaky else None,
            reset=self.reset,
            refractory=self._refractory_steps(),
            w_rec=self.w_rec,
            synapse=self.synapse,
            leaky=self.leaky,
            reset_gradient=self.reset_gradient,
            surrogate=self.surrogate,
            state=state,
            record=record,
            batch_first=self.batch_first,
        )

    def _refractory_steps(self) -> Tensor | None:
        """Whole time steps: a neuron is silent while a count that goes down by one is above 0. Rounded up, but a period of a whole
        number of steps stays that: 3e-4 / 1e-4 is 3.0000002 in float32."""
        period = self.refractory_time
        return None if period is None else torch.ceil(period * ((1 - 2 * torch.finfo(period.dtype).eps) / self.dt))

    def __setattr__(self, name: str, value: Any) -> None:
        # The first value makes the buffer, later ones are set in place as a parameter's are.
        if name == "refractory_time" and value is not None and self.refractory_time is None:
            self._ranges[name] = COUNT
            value = self.initial_value(name, value, self.size, COUNT, self.threshold.dtype).to(self.threshold.device)
            nn.Module.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}refractory_time")
        if isinstance(given, Tensor) and self.refractory_time is None:
            self.refractory_time = torch.zeros(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def reset_parameters(self) -> None:
        if "refractory_time" not in self._initial:
            self.refractory_time = None
        super().reset_parameters()

    def extra_repr(self) -> str:
        time = "" if self.refractory_time is None else value_text(self.refractory_time)
        rest = f", refractory_time={time}" if time else ""
        return f"{super().extra_repr()}{rest}, synapse={self.synapse!r}, surrogate={self.surrogate}"

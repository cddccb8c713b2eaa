"""Adaptive leaky integrate-and-fire: the function `alif` and the module `ALIF`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import reference
from .._call import (
    NOTHING,
    POSITIVE,
    UNIT,
    check_choice,
    check_input,
    check_max_spikes,
    check_record,
    check_surrogate,
    fused,
    parameter,
    recurrent_input,
    split_state,
    weights,
)
from .._check import flag
from ..reference import ALIFResult, ALIFState
from ..surrogate import SingleExponential, Surrogate
from .base import Neuron, Value

__all__ = ["ALIF", "ALIFResult", "ALIFState", "alif"]

RESETS = ("subtract", "value")


def _norm_option(owner: str, norm_input: bool | str) -> int:
    if norm_input is True or norm_input is False:
        return int(norm_input)
    if isinstance(norm_input, str) and norm_input == "state":
        return 2
    raise ValueError(f"{owner}: norm_input is {norm_input!r}, expected True, False or 'state'")


def _check_reset(owner: str, reset: str, reset_value: object) -> int:
    option = check_choice(owner, "reset", reset, RESETS)
    if reset == "value" and reset_value is None:
        raise ValueError(f"{owner}: reset_value is None, expected the value to reset to with reset='value'")
    return option


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
    """Adaptive leaky integrate-and-fire over a whole sequence, in one kernel.

    Each time step computes, in this order of operations::

        i  = decay_syn * (i + (x + rec))          with a synapse; without, i stands for x + rec
        i  = (1 - decay_mem) * i                  with norm_input, for the membrane alone; 'state': in the state i too
        v  = decay_mem * v + i
        th = threshold + adapt_scale * b
        s  = [v - th >= 0]                        max_spikes > 1: [v > 0] * trunc(v / th), at most max_spikes
        v  = v - s * (th, or reset_value)         reset='value': reset_value where s != 0
        b  = decay_adapt * b + (1 - decay_adapt) * s          zero_adaptation: and 0 where s != 0
        v  = max(v - min_v, 0) + min_v            if min_v is given

    where rec = (spikes of the step before) @ w_rec + b_rec, nothing in a first step without initial spikes. float32 and float64
    results are those of `torch_lif.reference.alif` bit for bit (with w_rec: up to the rounding of that product).
    Source: sinabs' ALIF and ALIFRecurrent (Bellec et al. 2018). What their text says, unlike their code, is
    zero_adaptation=True with reset_value=threshold. norm_input='state' is what their code does with tau_syn; True scales as in
    their LIF.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        decay_mem: membrane decay a step, exp(-dt/tau), in [0, 1]. A number or (): shared by all; or the neurons' shape, in which a
            dimension may be 1. Parameters are float32 (float64 with float64 x), on x's device.
        decay_adapt: decay of the adaptation b a step, in [0, 1]; as decay_mem.
        decay_syn: decay of the synaptic current a step, in [0, 1]; as decay_mem. Default: no synapse.
        adapt_scale: how much b = 1 raises the threshold; as decay_mem. Default: 1.8.
        threshold: the threshold of an unadapted neuron, above 0; as decay_mem. Default: 1.
        reset: "subtract" or "value". Default: "subtract".
        reset_value: what a spike subtracts, or what it resets to; as decay_mem. Default: a spike subtracts the adaptive threshold.
        min_v: lower bound of the membrane potential; as decay_mem. Default: none.
        w_rec: recurrent weights (N, N) from neuron to neuron, N being the product of the neurons' shape. Default: none.
        b_rec: bias (N,) of the recurrent input. Default: none.
        norm_input: True, False or "state". Default: True.
        zero_adaptation: whether a spike sets b to zero. Default: False.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: stands for the spike's derivative. Default: SingleExponential(0.5).
        threshold_gradient: whether the surrogate's derivative by the threshold takes part; without it (sinabs) the threshold gets a
            gradient only through the subtractive reset. Default: True.
        state: initial (v, i, b, spikes), or an `ALIFState`; None, or an entry None, starts at zero. Shapes as in `ALIFState`.
        record: names out of "v", "i", "b", "irec", "spikes" whose value after each step is returned too.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: put the surrogate's antiderivative in the spike's place, to check gradients by finite differences. The default
            surrogate's do not agree: its derivative by the threshold, which moves here, is sinabs' (docs/surrogates.md).
        memory: what is kept from the forward for the backward: "recompute" (every 16th state; the steps between are computed
            again) or "save" (every state). The results are the same to the last bit. Default: "recompute", "save" with w_rec.

    Returns:
        `ALIFResult`: spikes laid out like x, final state, records. Gradients flow from all of them to x, the parameters, the
        recurrent weights and the initial state. No gradient flows through s in a reset to a value. There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("alif", x)
    w_rec, b_rec = weights("alif", "w_rec", w_rec, x), weights("alif", "b_rec", b_rec, x)
    synapse = decay_syn is not None
    if record is not NOTHING:
        known = ("spikes", "v", *(("i",) if synapse else ()), "b", *(("irec",) if w_rec is not None else ()))
        record = check_record("alif", record, known)
    max_spikes = check_max_spikes("alif", max_spikes)
    first = split_state("alif", state, ("v", "i", "b", "spikes"))
    spikes, final, records = fused(
        "alif",
        {"x": x},
        {
            "decay_mem": parameter("alif", "decay_mem", decay_mem, x, UNIT),
            "decay_syn": parameter("alif", "decay_syn", decay_syn, x, UNIT),
            "decay_adapt": parameter("alif", "decay_adapt", decay_adapt, x, UNIT),
            "adapt_scale": parameter("alif", "adapt_scale", adapt_scale, x),
            "threshold": parameter("alif", "threshold", threshold, x, POSITIVE),
            "reset_value": parameter("alif", "reset_value", reset_value, x),
            "min_v": parameter("alif", "min_v", min_v, x),
            "w_rec": w_rec,
            "b_rec": b_rec,
        },
        first,
        options={
            "norm_input": _norm_option("alif", norm_input),
            "multi_spikes": max_spikes != 1,
            "max_spikes": max_spikes,
            "reset_to_value": _check_reset("alif", reset, reset_value),
            "zero_adaptation": flag("alif", "zero_adaptation", zero_adaptation),
            "threshold_gradient": flag("alif", "threshold_gradient", threshold_gradient),
        },
        surrogate=check_surrogate("alif", surrogate),
        smooth=smooth,
        synapses=int(synapse),
        batch_first=batch_first,
        record=record,
        memory=memory,
    )
    traces = {"spikes": spikes, **records}
    if "irec" in record and w_rec is not None:
        traces["irec"] = recurrent_input(spikes, first.get("spikes"), w_rec, b_rec, 0, batch_first)
    last = ALIFState(final["v"], final.get("i"), final["b"], final.get("spikes"))
    return ALIFResult(spikes, last, {name: traces[name] for name in record})


class ALIF(Neuron):
    """A layer of adaptive leaky integrate-and-fire neurons: each spike raises the neuron's threshold for a while.

    Equations and their source: `torch_lif.functional.alif`. `layer(x)` returns the spikes of a fresh state, so that it works in
    nn.Sequential; `layer.run(x, state)` takes and returns states.

    Every leak (mem, adapt, syn) is held as one of three views, whichever is given: time constant `tau_` (s), decay a step
    `decay_` = exp(-dt/tau), or bit shift `dash_`, with decay = 1 - 2**-dash. All three can be read and set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds. Default: 20e-3. A number is one value for all neurons; a tensor of shape
            `size` is one a neuron.
        tau_adapt: time constant of the adaptation in seconds. Default: 200e-3.
        tau_syn: synaptic time constant in seconds. Default: no synapse.
        decay_mem, dash_mem, decay_adapt, dash_adapt, decay_syn, dash_syn: instead of these.
        adapt_scale: how much b = 1 raises the threshold. Default: 1.8.
        threshold: the threshold of an unadapted neuron, above 0. Default: 1.
        reset: "subtract" or "value". Default: "subtract".
        reset_value: what a spike subtracts, or what it resets to. Default: a spike subtracts the adaptive threshold.
        min_v: lower bound of the membrane potential. Default: none.
        recurrent: whether the spikes of a step come back as input of the next, through the trainable weights `w_rec`, (N, N) from
            neuron to neuron; a tensor gives their initial values. Default: False.
        norm_input: whether the membrane takes (1 - decay_mem) of its input; "state" as sinabs with a synapse. Default: True.
        zero_adaptation: whether a spike sets the adaptation to zero. Default: False.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: stands for the spike's derivative. Default: SingleExponential(0.5).
        threshold_gradient: whether the surrogate's derivative by the threshold takes part. Default: True.
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
        "max_spikes": lambda owner, name, value: check_max_spikes(owner, value),
        "surrogate": lambda owner, name, value: check_surrogate(owner, value, fused=False),
        "zero_adaptation": flag,
        "threshold_gradient": flag,
    }

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        dash_mem: Value | None = None,
        tau_adapt: Value | None = None,
        decay_adapt: Value | None = None,
        dash_adapt: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        dash_syn: Value | None = None,
        adapt_scale: Value = 1.8,
        threshold: Value = 1.0,
        reset: str = "subtract",
        reset_value: Value | None = None,
        min_v: Value | None = None,
        recurrent: bool | Tensor = False,
        norm_input: bool | str = True,
        zero_adaptation: bool = False,
        max_spikes: float = 1,
        surrogate: Surrogate = SingleExponential(),  # noqa: B008 (frozen)
        threshold_gradient: bool = True,
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend)
        owner = type(self).__name__
        _norm_option(owner, norm_input)
        _check_reset(owner, reset, reset_value)
        self.reset, self.norm_input, self.zero_adaptation = reset, norm_input, zero_adaptation
        self.max_spikes = max_spikes
        self.surrogate = check_surrogate(owner, surrogate, self.backend == "fused")
        self.threshold_gradient = threshold_gradient
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "dash": dash_mem}
        adapt: dict[str, Value | None] = {"tau": tau_adapt, "decay": decay_adapt, "dash": dash_adapt}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "dash": dash_syn}
        self.synapse = any(value is not None for value in syn.values())
        self.add_leak("mem", mem, self.size, device=device, dtype=dtype)
        self.add_leak("adapt", adapt, self.size, default_tau=200e-3, device=device, dtype=dtype)
        if self.synapse:
            self.add_leak("syn", syn, self.size, device=device, dtype=dtype)
        self.add_parameter("adapt_scale", adapt_scale, self.size, device=device, dtype=dtype)
        self.add_parameter("threshold", threshold, self.size, within=POSITIVE, device=device, dtype=dtype)
        for name, value in (("reset_value", reset_value), ("min_v", min_v)):
            self.add_optional_parameter(name, value, self.size, device=device, dtype=dtype)
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, 1, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of a fresh state (all zero): (batch, time, *neurons). For states and records use `run`."""
        return self.run(x).spikes

    def run(self, x: Tensor, state: Sequence[Tensor | None] | None = None, *, record: Sequence[str] = ()) -> ALIFResult:
        """The layer with explicit state; arguments and result as in `torch_lif.functional.alif`."""
        self.check_size(x)
        function = alif if self.backend == "fused" else reference.alif
        return function(
            x,
            decay_mem=self.decay_mem,
            decay_adapt=self.decay_adapt,
            decay_syn=self.decay_syn if self.synapse else None,
            adapt_scale=self.adapt_scale,
            threshold=self.threshold,
            reset=self.reset,
            reset_value=self.reset_value,
            min_v=self.min_v,
            w_rec=self.w_rec,
            norm_input=self.norm_input,
            zero_adaptation=self.zero_adaptation,
            max_spikes=self.max_spikes,
            surrogate=self.surrogate,
            threshold_gradient=self.threshold_gradient,
            state=state,
            record=record,
            batch_first=self.batch_first,
        )

    def extra_repr(self) -> str:
        spikes = "" if self.max_spikes == 1 else f", max_spikes={'inf' if math.isinf(self.max_spikes) else f'{self.max_spikes:g}'}"
        return f"{super().extra_repr()}, reset={self.reset!r}{spikes}, surrogate={self.surrogate}"

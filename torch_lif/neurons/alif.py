"""Adaptive leaky integrate-and-fire: the function `alif` and the module `ALIF`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .._call import POSITIVE, UNIT, check_choice, check_input, check_max_spikes, parameter, run, weights
from .._check import flag
from .._state import detached, moved
from ..surrogate import DEFAULT, Surrogate
from .base import SpikingNeuron, Value

__all__ = ["ALIF", "ALIFResult", "ALIFState", "alif"]


class ALIFState(NamedTuple):
    """State of an adaptive LIF layer between time steps, each (batch, *neurons), float32 (float64 for float64 input).

    v: membrane potential after the reset. i: synaptic current; None without the synapse. adaptation: how far spikes
    have raised the threshold, in units of adapt_scale. spikes: with recurrent weights the spikes of the last step; else
    None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    adaptation: Tensor | None = None
    spikes: Tensor | None = None

    def detach(self) -> ALIFState:
        """The same values cut off from the graph, for truncated backpropagation through time."""
        return detached(self)

    def to(self, *args: Any, **kwargs: Any) -> ALIFState:
        """The state with each tensor moved by `torch.Tensor.to` with these arguments."""
        return moved(self, *args, **kwargs)


class ALIFResult(NamedTuple):
    """What an adaptive LIF layer returns: spike counts (laid out like x), the state after the last step, the records by
    name."""

    spikes: Tensor
    state: ALIFState
    records: dict[str, Tensor]


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
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    w_rec: Tensor | None = None,
    b_rec: Tensor | None = None,
    norm_input: bool | str = True,
    zero_adaptation: bool = False,
    max_spikes: float = 1,
    surrogate: Surrogate = DEFAULT,
    threshold_gradient: bool = True,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
    backend: str = "fused",
) -> ALIFResult:
    """Adaptive leaky integrate-and-fire over a whole sequence, in one kernel.

    Each time step computes, in this order of operations::

        i  = decay_syn * (i + (x + rec))          without a synapse: i = x + rec
        i  = (1 - decay_mem) * i                  norm_input=True: only for the membrane; 'state': the state i too
        v  = ((decay_mem * v + i) + noise) + bias
        th = threshold + adapt_scale * a
        s  = [v - th >= 0]                        max_spikes > 1: [v > 0] * trunc(v / th), at most max_spikes
        v  = v - s * (th, or reset_value)         reset='value': reset_value where s != 0
        a  = decay_adapt * a + (1 - decay_adapt) * s          zero_adaptation: then 0 where s != 0
        v  = max(v - min_v, 0) + min_v            if min_v is given

    a is the adaptation. rec = (spikes of the previous step) @ w_rec + b_rec; in the first step it is left out if there
    are no initial spikes. float32 and float64 results are those of `torch_lif.reference.alif` bit for bit (with w_rec:
    up to the rounding of that product). Source: sinabs' ALIF and ALIFRecurrent (Bellec et al. 2018). Their
    documentation differs from their code: it describes zero_adaptation=True with reset_value=threshold.
    norm_input='state' is what their code does with tau_syn; True scales as in their LIF.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        decay_mem: membrane decay per step, exp(-dt/tau), in [0, 1]. A number or a tensor of shape () is shared by all
            neurons; any other tensor has the neurons' shape, in which a dimension may be 1. Parameters are float32
            (float64 with float64 x), on x's device.
        decay_adapt: decay of the adaptation per step, in [0, 1]; as decay_mem.
        decay_syn: decay of the synaptic current per step, in [0, 1]; as decay_mem. Default: no synapse.
        adapt_scale: how much an adaptation of 1 raises the threshold; as decay_mem. Default: 1.8.
        threshold: the threshold of an unadapted neuron, above 0; as decay_mem. Default: 1.
        reset: "subtract" or "value". Default: "subtract".
        reset_value: what a spike subtracts, or what it resets to; as decay_mem. Default: a spike subtracts the adaptive
            threshold.
        min_v: lower bound of the membrane potential; as decay_mem. Default: none.
        bias: added to the membrane in each step; as decay_mem. Default: none.
        noise: added to the membrane in each step; laid out as the output. Default: none.
        w_rec: recurrent weights (N, N) from neuron to neuron, N being the product of the neurons' shape. Default: none.
        b_rec: bias (N,) of the recurrent input. Default: none.
        norm_input: True, False or "state", see above. Default: True.
        zero_adaptation: whether a spike sets the adaptation to zero. Default: False.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        threshold_gradient: whether the surrogate's derivative with respect to the threshold is used. Without it, as in
            sinabs, the threshold gets a gradient only through the subtractive reset. Default: True.
        state: initial (v, i, adaptation, spikes), or an `ALIFState`; None, or an entry that is None, starts at zero.
            Shapes as in `ALIFState`.
        record: names out of "v", "i", "adaptation", "recurrent_input", "spikes". Their values in each step are returned
            too; of a state it is the value after the step.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences. With some
            surrogates the two do not agree here, because the threshold moves (docs/surrogates.md).
        memory: what is kept from the forward for the backward: "recompute" (x, and every 16th state; the steps between
            are computed again), which is also the default. With w_rec every state is kept, and memory is None.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`. Default: "fused".

    Returns:
        `ALIFResult`: spikes laid out like x, final state, records. Gradients flow from all of them to x, noise, the
        parameters, the recurrent weights and the initial state. No gradient flows through s in a reset to a value.
        There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("alif", x)
    max_spikes = check_max_spikes("alif", max_spikes)
    spikes, final, records = run(
        "alif",
        {"x": x, "noise": noise},
        {
            "decay_mem": parameter("alif", "decay_mem", decay_mem, x, UNIT),
            "decay_syn": parameter("alif", "decay_syn", decay_syn, x, UNIT),
            "decay_adapt": parameter("alif", "decay_adapt", decay_adapt, x, UNIT),
            "adapt_scale": parameter("alif", "adapt_scale", adapt_scale, x),
            "threshold": parameter("alif", "threshold", threshold, x, POSITIVE),
            "reset_value": parameter("alif", "reset_value", reset_value, x),
            "min_v": parameter("alif", "min_v", min_v, x),
            "bias": parameter("alif", "bias", bias, x),
            "w_rec": weights("alif", "w_rec", w_rec, x),
            "b_rec": weights("alif", "b_rec", b_rec, x),
        },
        state,
        options={
            "norm_input": _norm_option("alif", norm_input),
            "multi_spikes": max_spikes != 1,
            "max_spikes": max_spikes,
            "reset_to_value": _check_reset("alif", reset, reset_value),
            "zero_adaptation": flag("alif", "zero_adaptation", zero_adaptation),
            "threshold_gradient": flag("alif", "threshold_gradient", threshold_gradient),
        },
        surrogate=surrogate,
        smooth=smooth,
        synapses=int(decay_syn is not None),
        batch_first=batch_first,
        record=record,
        memory=memory,
        backend=backend,
    )
    return ALIFResult(spikes, ALIFState(*final), records)


class ALIF(SpikingNeuron[ALIFResult]):
    """A layer of adaptive leaky integrate-and-fire neurons: each spike raises the neuron's threshold for a while.

    Equations and their source: `torch_lif.functional.alif`. `layer(x)` returns the spikes of a fresh state, so that it
    works in nn.Sequential; `layer.run(x, state)` takes and returns states.

    Every leak (mem, adapt, syn) is held as one of three views, whichever is given: time constant `tau_` (s), decay per
    step `decay_` = exp(-dt/tau), or bit shift `bitshift_`, with decay = 1 - 2**-bitshift. All three can be read and set
    at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds. Default: 20e-3. A number is one value for all neurons; a tensor of
            shape `size` is one per neuron.
        tau_adapt: time constant of the adaptation in seconds. Default: 200e-3.
        tau_syn: synaptic time constant in seconds. Default: no synapse.
        decay_mem, bitshift_mem, decay_adapt, bitshift_adapt, decay_syn, bitshift_syn: instead of these.
        adapt_scale: how much an adaptation of 1 raises the threshold. Default: 1.8.
        threshold: the threshold of an unadapted neuron, above 0. Default: 1.
        reset: "subtract" or "value". Default: "subtract".
        reset_value: what a spike subtracts, or what it resets to. Default: a spike subtracts the adaptive threshold.
        min_v: lower bound of the membrane potential. Default: none.
        norm_input: whether the membrane receives (1 - decay_mem) of its input; "state" scales the synaptic current
            itself, as sinabs does with a synapse. Default: True.
        zero_adaptation: whether a spike sets the adaptation to zero. Default: False.
        threshold_gradient: whether the surrogate's derivative with respect to the threshold is used. Default: True.
        bias: added to the membrane in each step. Default: None, no such parameter.
        noise_std: standard deviation, after one second, of the noise that a call adds to the membrane. Per step it is
            noise_std * sqrt(dt). Default: 0.
        recurrent: whether the spikes of a step are input of the next step, through the trainable weights `w_rec` of
            shape (N, N), from neuron to neuron. A tensor gives their initial values. Otherwise they start as nn.RNN's
            do, uniform within 1/sqrt(N). Default: False.
        recurrent_bias: whether the recurrent input has a trainable bias `b_rec` of shape (N,) too. A tensor gives its
            initial values. Otherwise it starts as the weights do. Default: False.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: see `torch_lif.functional.alif`. Default: the least
            possible.
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the neurons' parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    SETTINGS: ClassVar[dict[str, Any]] = {
        **SpikingNeuron.SETTINGS,
        "max_spikes": lambda owner, name, value: check_max_spikes(owner, value),
        "zero_adaptation": flag,
        "threshold_gradient": flag,
    }
    function = staticmethod(alif)

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        bitshift_mem: Value | None = None,
        tau_adapt: Value | None = None,
        decay_adapt: Value | None = None,
        bitshift_adapt: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        bitshift_syn: Value | None = None,
        adapt_scale: Value = 1.8,
        threshold: Value = 1.0,
        reset: str = "subtract",
        reset_value: Value | None = None,
        min_v: Value | None = None,
        norm_input: bool | str = True,
        zero_adaptation: bool = False,
        threshold_gradient: bool = True,
        bias: Value | None = None,
        noise_std: float = 0.0,
        recurrent: bool | Tensor = False,
        recurrent_bias: bool | Tensor = False,
        max_spikes: float = 1,
        surrogate: Surrogate = DEFAULT,
        smooth: bool = False,
        memory: str | None = None,
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend, noise_std, memory, surrogate, smooth)
        _norm_option(type(self).__name__, norm_input)
        _check_reset(type(self).__name__, reset, reset_value)
        self.reset, self.norm_input, self.zero_adaptation = reset, norm_input, zero_adaptation
        self.max_spikes, self.threshold_gradient = max_spikes, threshold_gradient
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "bitshift": bitshift_mem}
        adapt: dict[str, Value | None] = {"tau": tau_adapt, "decay": decay_adapt, "bitshift": bitshift_adapt}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "bitshift": bitshift_syn}
        self.add_leak("mem", mem, self.size, device=device, dtype=dtype)
        self.add_leak("adapt", adapt, self.size, device=device, dtype=dtype)
        if any(value is not None for value in syn.values()):
            self.synapses = 1
            self.add_leak("syn", syn, self.size, device=device, dtype=dtype)
        self.add_parameter("adapt_scale", adapt_scale, self.size, device=device, dtype=dtype)
        self.add_parameter("threshold", threshold, self.size, within=POSITIVE, device=device, dtype=dtype)
        for name, value in (("reset_value", reset_value), ("min_v", min_v), ("bias", bias)):
            self.add_optional_parameter(name, value, self.size, device=device, dtype=dtype)
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, recurrent_bias, 1, device, dtype)

    def arguments(self) -> dict[str, Any]:
        return {
            "decay_mem": self.decay_mem,
            "decay_adapt": self.decay_adapt,
            "decay_syn": self.decay_syn if self.synapses else None,
            "adapt_scale": self.adapt_scale,
            "threshold": self.threshold,
            "reset": self.reset,
            "reset_value": self.reset_value,
            "min_v": self.min_v,
            "norm_input": self.norm_input,
            "zero_adaptation": self.zero_adaptation,
            "max_spikes": self.max_spikes,
            "threshold_gradient": self.threshold_gradient,
            **super().arguments(),
        }

    def extra_repr(self) -> str:
        spikes = (
            ""
            if self.max_spikes == 1
            else f", max_spikes={'inf' if math.isinf(self.max_spikes) else f'{self.max_spikes:g}'}"
        )
        return f"{super().extra_repr()}, reset={self.reset!r}{spikes}"

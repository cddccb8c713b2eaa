"""Leaky integrate-and-fire: the function `lif`, the modules `LIF` (no synapse) and `CubaLIF` (current-based
synapses)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .._call import POSITIVE, UNIT, check_input, check_max_spikes, check_synapses, parameter, run, weights
from .._state import detached, moved
from ..surrogate import DEFAULT, Surrogate
from .base import SpikingNeuron, Value

__all__ = ["LIF", "CubaLIF", "LIFResult", "LIFState", "lif"]


class LIFState(NamedTuple):
    """State of a LIF layer between time steps; float32 (float64 for float64 input).

    v: membrane potential after the reset, (batch, *neurons). i: synaptic currents after the decay, (batch, *neurons),
    with two or more synapses (batch, neurons, synapses); None without synapses. spikes: with recurrent weights the
    spikes of the last step, (batch, *neurons); else None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    spikes: Tensor | None = None

    def detach(self) -> LIFState:
        """The same values cut off from the graph, for truncated backpropagation through time."""
        return detached(self)

    def to(self, *args: Any, **kwargs: Any) -> LIFState:
        """The state with each tensor moved by `torch.Tensor.to` with these arguments."""
        return moved(self, *args, **kwargs)


class LIFResult(NamedTuple):
    """What a LIF layer returns: spike counts (laid out like x), the state after the last step, the records by name."""

    spikes: Tensor
    state: LIFState
    records: dict[str, Tensor]


def lif(
    x: Tensor,
    *,
    decay_mem: Tensor | float,
    decay_syn: Tensor | float | None = None,
    threshold: Tensor | float = 1.0,
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    w_rec: Tensor | None = None,
    b_rec: Tensor | None = None,
    max_spikes: float = 1,
    surrogate: Surrogate = DEFAULT,
    synapses: int | None = None,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
    backend: str = "fused",
) -> LIFResult:
    """Leaky integrate-and-fire over a whole sequence, in one kernel.

    Each time step computes, for the S synapses k of a neuron (if S = 0 there are none, and x replaces their sum)::

        i_k = ((i_k + x_k) + rec_k) * decay_syn_k       rec: see below
        v   = ((v * decay_mem + sum_k i_k) + noise) + bias
        n   = [v >= threshold] * floor(v / threshold), at most max_spikes
        v   = v - n * threshold

    in this order of operations. rec = (spikes of the previous step) @ w_rec + b_rec; in the first step it is left out
    if there are no initial spikes. float32 and float64 results are those of `torch_lif.reference.lif` bit for bit (with
    w_rec: up to the rounding of that product). bfloat16 and float16 sequences are stored half and computed in float32.
    Source: Rockpool's LIFTorch (S >= 1) and LIFNeuronTorch (S = 0).

    Args:
        x: input, (batch, time, *neurons), with two or more synapses (batch, time, neurons * synapses), the synapses of
            a neuron side by side; float32, float64, bfloat16 or float16; any strides. Membrane potential and input have
            the same unit.
        decay_mem: membrane decay per step, exp(-dt/tau), in [0, 1]. A number or a tensor of shape () is shared by all
            neurons; any other tensor has the neurons' shape, in which a dimension may be 1. Parameters are float32
            (float64 with float64 x), on x's device.
        decay_syn: synaptic decay per step, in [0, 1]: as decay_mem, with two or more synapses (neurons, synapses).
            Required if there are synapses.
        threshold: spike threshold, above 0; as decay_mem. Default: 1.
        bias: added to the membrane in each step; as decay_mem. Default: none.
        noise: added to the membrane in each step; laid out as the output. Default: none.
        w_rec: recurrent weights (N, N * S) from every neuron to every input, N being the product of the neurons' shape.
            Default: none.
        b_rec: bias (N * S,) of the recurrent input. Default: none.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        synapses: S. Default: 1 with decay_syn, else 0.
        state: initial (v, i, spikes), or a `LIFState`; None, or an entry that is None, starts at zero. Shapes as in
            `LIFState`.
        record: names out of "v", "i", "recurrent_input", "spikes". Their values in each step are returned too; of a
            state it is the value after the step.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: "mask" (one bit per neuron and step; only if the
            surrogate is `StepPWL` or `Heaviside`, no parameter requires a gradient, and without w_rec and smooth) or
            "recompute" (x, and every 16th state; the steps between are computed again; without w_rec). The results are
            the same to the last bit. Default: the first of these that is possible; with w_rec every state is kept.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`. Default: "fused".

    Returns:
        `LIFResult`: spikes (batch, time, *neurons) in x's dtype, final state, records. Gradients flow from all of them
        to x, noise, the parameters, the recurrent weights and the initial state; the reset is not detached. There is no
        second derivative.

        A NaN or an infinity stays in its own neuron, unless w_rec carries it on. A membrane of NaN gives a spike count
        of NaN. A weight of NaN reaches the other neurons even if its own neuron is silent, as in the plain loop. (One
        exception: a float32 membrane below -3.4e38 * threshold has 0 spikes here. In the plain loop the quotient
        overflows, and the count is NaN.)


    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("lif", x)
    synapses = check_synapses("lif", int(decay_syn is not None) if synapses is None else synapses)
    if synapses and decay_syn is None:
        raise ValueError(f"lif: decay_syn is None, expected a decay for synapses = {synapses}")
    spikes, final, records = run(
        "lif",
        {"x": x, "noise": noise},
        {
            "decay_mem": parameter("lif", "decay_mem", decay_mem, x, UNIT),
            "decay_syn": parameter("lif", "decay_syn", decay_syn, x, UNIT),
            "threshold": parameter("lif", "threshold", threshold, x, POSITIVE),
            "bias": parameter("lif", "bias", bias, x),
            "w_rec": weights("lif", "w_rec", w_rec, x),
            "b_rec": weights("lif", "b_rec", b_rec, x),
        },
        state,
        options={"max_spikes": check_max_spikes("lif", max_spikes)},
        surrogate=surrogate,
        smooth=smooth,
        synapses=synapses,
        batch_first=batch_first,
        record=record,
        memory=memory,
        backend=backend,
    )
    return LIFResult(spikes, LIFState(*final), records)


class _LIFModule(SpikingNeuron[LIFResult]):
    """What LIF and CubaLIF share; they differ in their synapses."""

    SETTINGS: ClassVar[dict[str, Any]] = {
        **SpikingNeuron.SETTINGS,
        "max_spikes": lambda owner, name, value: check_max_spikes(owner, value),
    }
    function = staticmethod(lif)

    def _add_parameters(
        self,
        leaks: dict[str, dict[str, Value | None]],
        threshold: Value,
        bias: Value | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if self.synapses > 1 and len(self.size) != 1:
            raise ValueError(
                f"{type(self).__name__}: size is {self.size}, expected one number with synapses = {self.synapses}"
            )
        synapse_shape = self.size if self.synapses < 2 else (*self.size, self.synapses)
        for leak, views in leaks.items():
            self.add_leak(leak, views, self.size if leak == "mem" else synapse_shape, device=device, dtype=dtype)
        self.add_parameter("threshold", threshold, self.size, within=POSITIVE, device=device, dtype=dtype)
        self.add_optional_parameter("bias", bias, self.size, device=device, dtype=dtype)

    def arguments(self) -> dict[str, Any]:
        return {
            "decay_mem": self.decay_mem,
            "decay_syn": self.decay_syn if self.synapses else None,
            "threshold": self.threshold,
            "max_spikes": self.max_spikes,
            "synapses": self.synapses,
            **super().arguments(),
        }


class LIF(_LIFModule):
    """A layer of leaky integrate-and-fire neurons whose input goes straight to the membrane.

    Equations and their source: `torch_lif.functional.lif` with no synapse. `layer(x)` returns the spikes of a fresh
    state, so that it works in nn.Sequential; `layer.run(x, state)` takes and returns states.

    The membrane's leak is held as one of three views, whichever is given: time constant `tau_mem` (s), decay per step
    `decay_mem` = exp(-dt/tau), or bit shift `bitshift_mem`, with decay = 1 - 2**-bitshift. All three can be read and
    set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds. Default: 20e-3. A number is one value for all neurons; a tensor of
            shape `size` is one per neuron.
        decay_mem, bitshift_mem: instead of tau_mem.
        threshold: spike threshold, above 0. Default: 1.
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
        memory: what is kept from the forward for the backward: see `torch_lif.functional.lif`. Default: the least
            possible.
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the neurons' parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        bitshift_mem: Value | None = None,
        threshold: Value = 1.0,
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
        self.max_spikes = max_spikes
        mem = {"tau": tau_mem, "decay": decay_mem, "bitshift": bitshift_mem}
        self._add_parameters({"mem": mem}, threshold, bias, device, dtype)
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, recurrent_bias, 1, device, dtype)


class CubaLIF(_LIFModule):
    """The neurons of `LIF` (`torch_lif.functional.lif`) behind S exponential synapses each: current-based leaky
    integrate-and-fire.

    `layer(x)` returns the spikes of a fresh state, so that it works in nn.Sequential; `layer.run(x, state)` takes and
    returns states. With S >= 2, x is (batch, time, size * S), the S inputs of a neuron side by side.

    Each leak (mem, syn) is held as one of three views, as in `LIF`.

    Args:
        size: number of neurons, or, with one synapse, their shape: x is (batch, time, *size).
        synapses: S, the number of synapses per neuron, 1 or more. Default: 1.
        tau_mem: membrane time constant in seconds. Default: 20e-3. A number is one value for all neurons; a tensor of
            shape `size` is one per neuron.
        tau_syn: synaptic time constant in seconds. Default: 5e-3. As tau_mem; with S >= 2 a tensor is (size, S), a
            dimension of which may be 1.
        decay_mem, bitshift_mem, decay_syn, bitshift_syn: instead of these.
        threshold: spike threshold, above 0. Default: 1.
        bias: added to the membrane in each step. Default: None, no such parameter.
        noise_std: standard deviation, after one second, of the noise that a call adds to the membrane. Per step it is
            noise_std * sqrt(dt). Default: 0.
        recurrent: whether the spikes of a step are input of the next step, through the trainable weights `w_rec` of
            shape (N, N * S), from neuron to synapse. A tensor gives their initial values. Otherwise they start as
            nn.RNN's do, uniform within 1/sqrt(N). Default: False.
        recurrent_bias: whether the recurrent input has a trainable bias `b_rec` of shape (N * S,) too. A tensor gives
            its initial values. Otherwise it starts as the weights do. Default: False.
        max_spikes: the most spikes of one neuron in one step; math.inf for no bound. Default: 1.
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: see `torch_lif.functional.lif`. Default: the least
            possible.
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the neurons' parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        synapses: int = 1,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        bitshift_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        bitshift_syn: Value | None = None,
        threshold: Value = 1.0,
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
        self.synapses = check_synapses("CubaLIF", synapses)
        if self.synapses == 0:
            raise ValueError("CubaLIF: synapses is 0, expected 1 or more; without synapses use LIF")
        self.max_spikes = max_spikes
        leaks: dict[str, dict[str, Value | None]] = {
            "mem": {"tau": tau_mem, "decay": decay_mem, "bitshift": bitshift_mem},
            "syn": {"tau": tau_syn, "decay": decay_syn, "bitshift": bitshift_syn},
        }
        self._add_parameters(leaks, threshold, bias, device, dtype)
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, recurrent_bias, self.synapses, device, dtype)

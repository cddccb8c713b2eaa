"""Leaky integrate-and-fire: the function `lif`, the modules `LIF` (no synapse) and `CubaLIF` (current-based synapses)."""

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
    check_input,
    check_max_spikes,
    check_record,
    check_surrogate,
    check_synapses,
    fused,
    parameter,
    recurrent_input,
    split_state,
    weights,
)
from .._check import LARGEST, constant
from ..reference import LIFResult, LIFState
from ..surrogate import StepPWL, Surrogate
from .base import Neuron, Value

__all__ = ["LIF", "CubaLIF", "LIFResult", "LIFState", "lif"]


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
    """Leaky integrate-and-fire over a whole sequence, in one kernel.

    Each time step computes, for S synapses k a neuron (none if S = 0: then x stands for their sum)::

        i_k = ((i_k + x_k) + rec_k) * decay_syn_k       rec = (spikes of the step before) @ w_rec, if given
        v   = ((v * decay_mem + sum_k i_k) + noise) + bias
        n   = [v >= threshold] * floor(v / threshold), at most max_spikes
        v   = v - n * threshold

    in this order of operations, without fused multiply-adds: float32 and float64 results are those of
    `torch_lif.reference.lif` bit for bit. bfloat16 and float16 sequences are stored half and computed in float32.
    Source: Rockpool's LIFTorch (S >= 1) and LIFNeuronTorch (S = 0).

    Args:
        x: input, (batch, time, *neurons), with two or more synapses (batch, time, neurons * synapses), a neuron's synapses
            side by side; float32, float64, bfloat16 or float16; any strides. Membrane potential and input share one unit.
        decay_mem: membrane decay a step, exp(-dt/tau), in [0, 1]. A number or (): shared by all; or the neurons' shape, in which
            a dimension may be 1. Parameters are float32 (float64 with float64 x), on x's device.
        decay_syn: synaptic decay a step, in [0, 1]: as decay_mem, with two or more synapses (neurons, synapses). Required if there
            are synapses.
        threshold: spike threshold, above 0; as decay_mem. Default: 1.
        bias: added to the membrane each step; as decay_mem. Default: none.
        noise: added to the membrane each step; laid out as the output. Default: none.
        w_rec: recurrent weights (N, N * S) from every neuron to every input, N being the product of the neurons' shape. Default:
            none.
        max_spikes: the most spikes of one neuron in one step. Default: 65536.
        surrogate: stands for the spike's derivative. Default: StepPWL(0.5).
        synapses: S. Default: 1 with decay_syn, else 0.
        state: initial (v, i, spikes), or a `LIFState`; None, or an entry None, starts at zero. Shapes as in `LIFState`.
        record: names out of "v", "i", "irec", "spikes" whose value after each step is returned too; "irec" is the recurrent input.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: put the surrogate's antiderivative in the spike's place, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: "mask" (a bit a neuron and step: if the surrogate is `StepPWL` or
            `Heaviside` and no parameter requires a gradient), "recompute" (every 16th state; the steps between are computed again),
            "save" (every state). The results are the same to the last bit. Default: the first of these that is possible.

    Returns:
        `LIFResult`: spikes (batch, time, *neurons) in x's dtype, final state, records. Gradients flow from all of them to x, noise,
        the parameters, w_rec and the initial state; the reset is not detached. There is no second derivative. A NaN or an infinity
        stays in its own neuron, unless w_rec carries it on: a membrane of NaN gives spike counts of NaN, and a weight of NaN
        reaches the others although its neuron is silent, as in the plain loop. (One exception: a membrane below -3.4e38 *
        threshold, of float32, has 0 spikes, where the plain loop's quotient overflows and it counts NaN.)

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("lif", x)
    synapses = check_synapses("lif", int(decay_syn is not None) if synapses is None else synapses)
    if synapses and decay_syn is None:
        raise ValueError(f"lif: decay_syn is None, expected a decay for synapses = {synapses}")
    w_rec = weights("lif", "w_rec", w_rec, x)
    if record is not NOTHING:
        known = ("spikes", "v", *(("i",) if synapses else ()), *(("irec",) if w_rec is not None else ()))
        record = check_record("lif", record, known)
    first = split_state("lif", state, ("v", "i", "spikes"))
    spikes, final, records = fused(
        "lif",
        {"x": x, "noise": noise},
        {
            "decay_mem": parameter("lif", "decay_mem", decay_mem, x, UNIT),
            "decay_syn": parameter("lif", "decay_syn", decay_syn, x, UNIT),
            "threshold": parameter("lif", "threshold", threshold, x, POSITIVE),
            "bias": parameter("lif", "bias", bias, x),
            "w_rec": w_rec,
        },
        first,
        options={"max_spikes": check_max_spikes("lif", max_spikes)},
        surrogate=check_surrogate("lif", surrogate),
        smooth=smooth,
        synapses=synapses,
        batch_first=batch_first,
        record=record,
        memory=memory,
    )
    if record:
        records["spikes"] = spikes
    if "irec" in record and w_rec is not None:
        records["irec"] = recurrent_input(spikes, first.get("spikes"), w_rec, None, synapses, batch_first)
    return LIFResult(spikes, LIFState(final["v"], final.get("i"), final.get("spikes")), {name: records[name] for name in record})


class _LIFModule(Neuron):
    """What LIF and CubaLIF share; they differ in their synapses."""

    SETTINGS: ClassVar[dict[str, Any]] = {
        **Neuron.SETTINGS,
        "max_spikes": lambda owner, name, value: check_max_spikes(owner, value),
        "surrogate": lambda owner, name, value: check_surrogate(owner, value, fused=False),
        "noise_std": lambda owner, name, value: check_noise(owner, value),
    }

    def __init__(
        self,
        size: int | Sequence[int],
        synapses: int,
        leaks: dict[str, dict[str, Value | None]],
        threshold: Value,
        bias: Value | None,
        recurrent: bool | Tensor,
        noise_std: float,
        max_spikes: float,
        surrogate: Surrogate,
        dt: float,
        trainable: Iterable[str] | bool,
        batch_first: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend)
        self.synapses = check_synapses(type(self).__name__, synapses)
        if self.synapses > 1 and len(self.size) != 1:
            raise ValueError(f"{type(self).__name__}: size is {self.size}, expected one number with synapses = {synapses}")
        self.max_spikes = max_spikes
        self.surrogate = check_surrogate(type(self).__name__, surrogate, self.backend == "fused")
        synapse_shape = self.size if self.synapses == 1 else (*self.size, self.synapses)
        for leak, views in leaks.items():
            self.add_leak(leak, views, self.size if leak == "mem" else synapse_shape, device=device, dtype=dtype)
        self.add_parameter("threshold", threshold, self.size, within=POSITIVE, device=device, dtype=dtype)
        self.add_optional_parameter("bias", bias, self.size, device=device, dtype=dtype)
        self.noise_std = noise_std
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, max(1, self.synapses), device, dtype)

    def forward(self, x: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Spikes of a fresh state (all zero): (batch, time, *neurons). For states and records use `run`."""
        return self.run(x, noise=noise, generator=generator).spikes

    def run(
        self,
        x: Tensor,
        state: Sequence[Tensor | None] | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        record: Sequence[str] = (),
    ) -> LIFResult:
        """The layer with explicit state; arguments and result as in `torch_lif.functional.lif`.

        With `noise_std` the noise is noise_std * sqrt(dt) * randn, one draw a call, from `generator` (PyTorch's own by default);
        ValueError if `noise` is given besides.
        """
        self.check_size(x, self.synapses)
        if self.noise_std:
            if noise is not None:
                raise ValueError(
                    f"{type(self).__name__}: noise was given, but the layer makes its own: noise_std is {self.noise_std}"
                )
            noise = self.draw_noise(x, generator)
        function = lif if self.backend == "fused" else reference.lif
        return function(
            x,
            decay_mem=self.decay_mem,
            decay_syn=self.decay_syn if self.synapses else None,
            threshold=self.threshold,
            bias=self.bias,
            noise=noise,
            w_rec=self.w_rec,
            max_spikes=self.max_spikes,
            surrogate=self.surrogate,
            synapses=self.synapses,
            state=state,
            record=record,
            batch_first=self.batch_first,
        )

    def extra_repr(self) -> str:
        synapses = f", synapses={self.synapses}" if self.synapses else ""
        noise = f", noise_std={self.noise_std:g}" if self.noise_std else ""
        return f"{super().extra_repr()}{synapses}{noise}, surrogate={self.surrogate}"

    def draw_noise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise for a call with x, (batch, time, *neurons): noise_std * sqrt(dt) * randn."""
        if x.dtype not in LARGEST:
            raise TypeError(f"{type(self).__name__}: x is {x.dtype}, expected a floating-point tensor; convert it with x.float()")
        shape = (*x.shape[:2], *self.size)
        # Not as generator=None, which fails in torch.compile(dynamic=True).
        drawn: dict[str, Any] = {} if generator is None else {"generator": generator}
        return self.noise_std * math.sqrt(self.dt) * torch.randn(shape, dtype=x.dtype, device=x.device, **drawn)


def check_noise(owner: str, noise_std: float) -> float:
    value = constant(owner, "noise_std", noise_std)
    if not 0 <= value < math.inf:
        raise ValueError(f"{owner}: noise_std is {noise_std}, expected a finite number of 0 or more")
    return value


class LIF(_LIFModule):
    """A layer of leaky integrate-and-fire neurons whose input goes straight to the membrane.

    Equations and their source: `torch_lif.functional.lif` with no synapse. `layer(x)` returns the spikes of a fresh state, so that
    it works in nn.Sequential; `layer.run(x, state)` takes and returns states.

    The membrane's leak is held as one of three views, whichever is given: time constant `tau_mem` (s), decay a step `decay_mem` =
    exp(-dt/tau), or bit shift `dash_mem`, with decay = 1 - 2**-dash. All three can be read and set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds. Default: 20e-3. A number is one value for all neurons; a tensor of shape
            `size` is one a neuron.
        decay_mem, dash_mem: instead of tau_mem.
        threshold: spike threshold, above 0. Default: 1.
        bias: added to the membrane each step. Default: None, no such parameter.
        recurrent: whether the spikes of a step come back as input of the next, through the trainable weights `w_rec`, (N, N) from
            neuron to neuron; a tensor gives their initial values. Default: False. Initial values otherwise as nn.RNN's, uniform
            within 1/sqrt(N).
        noise_std: standard deviation of the noise that `run` adds to the membrane, for one second: a step gets noise_std *
            sqrt(dt).
            Default: 0.
        max_spikes: the most spikes of one neuron in one step. Default: 65536; 1 for plain 0/1 spikes.
        surrogate: stands for the spike's derivative. Default: StepPWL(0.5).
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
        dash_mem: Value | None = None,
        threshold: Value = 1.0,
        bias: Value | None = None,
        recurrent: bool | Tensor = False,
        noise_std: float = 0.0,
        max_spikes: float = 2.0**16,
        surrogate: Surrogate = StepPWL(),  # noqa: B008 (frozen)
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        leaks = {"mem": {"tau": tau_mem, "decay": decay_mem, "dash": dash_mem}}
        super().__init__(
            size,
            0,
            leaks,
            threshold,
            bias,
            recurrent,
            noise_std,
            max_spikes,
            surrogate,
            dt,
            trainable,
            batch_first,
            backend,
            device,
            dtype,
        )


class CubaLIF(_LIFModule):
    """A layer of current-based leaky integrate-and-fire neurons: S exponential synapses feed each membrane.

    As `LIF`, with synaptic currents: equations and their source in `torch_lif.functional.lif`. With S >= 2, x is (batch, time,
    size * S), the S inputs of a neuron side by side.

    Args:
        synapses: S, the number of synapses a neuron, 1 or more. Default: 1.
        tau_syn: synaptic time constant in seconds. Default: 20e-3. A number for all, or a tensor of shape `size`, with S >= 2
            (size, S); a dimension may be 1.
        decay_syn, dash_syn: instead of tau_syn.
        recurrent: as `LIF`; the weights are (N, N * S), to every synapse.
        size, tau_mem, decay_mem, dash_mem, threshold, bias, noise_std, max_spikes, surrogate, dt, trainable, batch_first, backend,
            device, dtype: as `LIF`.

    Raises:
        ValueError, TypeError: as `LIF`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        synapses: int = 1,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        dash_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        dash_syn: Value | None = None,
        threshold: Value = 1.0,
        bias: Value | None = None,
        recurrent: bool | Tensor = False,
        noise_std: float = 0.0,
        max_spikes: float = 2.0**16,
        surrogate: Surrogate = StepPWL(),  # noqa: B008 (frozen)
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if check_synapses("CubaLIF", synapses) == 0:
            raise ValueError("CubaLIF: synapses is 0, expected 1 or more; without synapses use LIF")
        leaks = {
            "mem": {"tau": tau_mem, "decay": decay_mem, "dash": dash_mem},
            "syn": {"tau": tau_syn, "decay": decay_syn, "dash": dash_syn},
        }
        super().__init__(
            size,
            synapses,
            leaks,
            threshold,
            bias,
            recurrent,
            noise_std,
            max_spikes,
            surrogate,
            dt,
            trainable,
            batch_first,
            backend,
            device,
            dtype,
        )

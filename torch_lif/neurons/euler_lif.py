"""Leaky integrate-and-fire by forward Euler, with reset to a value and a refractory period: `euler_lif` and
`EulerLIF`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .._call import COUNT, SYNAPSE_UPDATES, UNIT, check_choice, check_input, compute_dtype, parameter, run, weights
from .._check import flag, number
from .._state import detached, moved
from ..surrogate import DEFAULT, Surrogate
from .base import SpikingNeuron, Value, value_text
from .leak import EULER

__all__ = ["EulerLIF", "EulerLIFResult", "EulerLIFState", "euler_lif"]


class EulerLIFState(NamedTuple):
    """State of a forward-Euler LIF layer between time steps, each (batch, *neurons), float32 (float64 for float64
    input).

    v: membrane potential after the reset. i: synaptic current. refractory: how many steps the neuron stays silent; None
    without a refractory period. spikes: with recurrent weights the spikes of the last step; else None.
    """

    v: Tensor | None = None
    i: Tensor | None = None
    refractory: Tensor | None = None
    spikes: Tensor | None = None

    def detach(self) -> EulerLIFState:
        """The same values cut off from the graph, for truncated backpropagation through time."""
        return detached(self)

    def to(self, *args: Any, **kwargs: Any) -> EulerLIFState:
        """The state with each tensor moved by `torch.Tensor.to` with these arguments."""
        return moved(self, *args, **kwargs)


class EulerLIFResult(NamedTuple):
    """What a forward-Euler LIF layer returns: spikes (laid out like x), the state after the last step, the records by
    name."""

    spikes: Tensor
    state: EulerLIFState
    records: dict[str, Tensor]


def euler_lif(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    threshold: Tensor | float = 1.0,
    leak: Tensor | float | None = None,
    reset_value: Tensor | float | None = None,
    refractory: Tensor | float | None = None,
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    spikes_hw: Tensor | None = None,
    membrane_hw: Tensor | None = None,
    w_rec: Tensor | None = None,
    b_rec: Tensor | None = None,
    synapse_update: str = "membrane_first",
    leaky: bool = True,
    reset_gradient: bool = False,
    surrogate: Surrogate = DEFAULT,
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    smooth: bool = False,
    memory: str | None = None,
    backend: str = "fused",
) -> EulerLIFResult:
    """Current-based leaky integrate-and-fire by forward Euler over a whole sequence, in one kernel.

    At most one spike per step, reset to a value, a refractory period, and measured traces of neuromorphic hardware
    instead of computed ones. Each time step computes, in this order of operations::

        j = i;  i = (i * (1 - rate_syn) + x) + rec                          the synapse, by `synapse_update`: see below
        v = ((v + rate_mem * ((leak - v) + j)) + noise) + bias              leaky=False: without (leak - v)
        v = membrane_hw                                                     if given
        z = [v - threshold > 0]
        z = spikes_hw                                                       if given
        v = (1 - z) * v + z * reset_value                                   not with membrane_hw

    and with `refractory`::

        m = [r > 0]
        v = (1 - m) * v + m * reset_value;  then membrane_hw again
        z = (1 - m) * z;              then spikes_hw again
        r = (1 - z) * max(r - m, 0) + z * refractory

    rec = (spikes of the previous step) @ w_rec + b_rec; in the first step it is left out if there are no initial
    spikes. float32 and float64 results are those of `torch_lif.reference.euler_lif` bit for bit (with w_rec: up to the
    rounding of that product). Source: hxtorch.spiking's cuba_lif_integration, cuba_refractory_lif_integration,
    cuba_iaf_integration; norse's lif_feed_forward_step.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        rate_mem: fraction of the membrane potential that leaks per step, dt/tau_mem, in [0, 1]. A number or a tensor of
            shape () is shared by all neurons; any other tensor has the neurons' shape, in which a dimension may be 1.
            Parameters are float32 (float64 with float64 x), on x's device.
        rate_syn: the same for the synaptic current, dt/tau_syn, in [0, 1].
        threshold: spike threshold; as rate_mem. Default: 1.
        leak: potential that the membrane leaks to; as rate_mem. Default: 0.
        reset_value: potential after a spike; as rate_mem. Default: 0.
        refractory: time steps for which a neuron stays silent and at `reset_value` after a spike, 0 or more, not
            rounded; as rate_mem. It gets no gradient. Default: no refractory period, and no such state.
        bias: added to the membrane in each step; as rate_mem. Default: none.
        noise: added to the membrane in each step; laid out as the output. Default: none.
        spikes_hw, membrane_hw: measured spikes and membrane potential, laid out as the output, that replace the
            computed ones in every step. Gradients go to the computed ones as if nothing had been replaced. Default:
            none.
        w_rec: recurrent weights (N, N) from neuron to neuron, N being the product of the neurons' shape. Default: none.
        b_rec: bias (N,) of the recurrent input. Default: none.
        synapse_update: what a step updates first. "membrane_first": membrane and current both follow from the state
            before the step, as forward Euler has it, so that an input reaches the membrane one step later (hxtorch's
            LIF, as above). "membrane_first_increment": the same, but rounded differently (hxtorch's IAF: i = ((i +
            (-rate_syn) * i) + x) + rec). "input_first": the input of a step reaches the membrane in the same step
            (norse: j = (i + x) + rec; i = j + (-rate_syn) * j). Default: "membrane_first".
        leaky: whether the membrane leaks. Default: True.
        reset_gradient: whether a gradient flows through z in the reset. Default: False (detached).
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        state: initial (v, i, refractory, spikes), or an `EulerLIFState`; None, or an entry that is None, starts at
            zero. The libraries start v at `leak`. Shapes as in `EulerLIFState`.
        record: names out of "v", "i", "refractory", "recurrent_input", "spikes". Their values in each step are returned
            too; of a state it is the value after the step.
        batch_first: False for x of (time, batch, ...). Default: True.
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: "recompute" (x, and every 16th state; the steps between
            are computed again), which is also the default. With w_rec every state is kept, and memory is None.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`. Default: "fused".

    Returns:
        `EulerLIFResult`: spikes laid out like x, final state, records. Gradients flow from all of them (except the
        refractory state) to x, noise, the parameters (except `refractory`), the recurrent weights and the initial
        state. There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    op = "euler_lif"
    x = check_input(op, x)
    if leak is not None and not flag(op, "leaky", leaky):
        raise ValueError(f"{op}: leak was given, expected None with leaky=False")
    period = parameter(op, "refractory", refractory, x, COUNT)
    spikes, final, records = run(
        op,
        {"x": x, "noise": noise, "spikes_hw": spikes_hw, "membrane_hw": membrane_hw},
        {
            "rate_mem": parameter(op, "rate_mem", rate_mem, x, UNIT),
            "rate_syn": parameter(op, "rate_syn", rate_syn, x, UNIT),
            "leak": parameter(op, "leak", leak, x),
            "reset_value": parameter(op, "reset_value", reset_value, x),
            "threshold": parameter(op, "threshold", threshold, x),
            "refractory": None if period is None else period.detach(),
            "bias": parameter(op, "bias", bias, x),
            "w_rec": weights(op, "w_rec", w_rec, x),
            "b_rec": weights(op, "b_rec", b_rec, x),
        },
        state,
        options={
            "synapse_update": check_choice(op, "synapse_update", synapse_update, SYNAPSE_UPDATES),
            "leaky": flag(op, "leaky", leaky),
            "reset_gradient": flag(op, "reset_gradient", reset_gradient),
        },
        surrogate=surrogate,
        smooth=smooth,
        batch_first=batch_first,
        record=record,
        memory=memory,
        backend=backend,
        counts=("refractory",),
    )
    return EulerLIFResult(spikes, EulerLIFState(*final), records)


class EulerLIF(SpikingNeuron[EulerLIFResult]):
    """A layer of leaky integrate-and-fire neurons by forward Euler: a synapse, reset to a value, a refractory period.

    Equations and their source: `torch_lif.functional.euler_lif`. Unlike `CubaLIF` (exact decays, the threshold is
    subtracted) it spikes at most once per step, is reset to a value, and then rests. `layer(x)` returns the spikes of a
    fresh state, so that it works in nn.Sequential; `layer.run(x, state)` takes and returns states. In a fresh state v
    is at `leak` (at `reset_value` if the membrane does not leak).

    Each leak (mem, syn) is held as one of three views, whichever is given: time constant `tau_` (s), decay per step
    `decay_` = 1 - dt/tau, or bit shift `bitshift_`, with decay = 1 - 2**-bitshift. All three can be read and set at any
    time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds, at least dt. Default: 20e-3. A number is one value for all neurons;
            a tensor of shape `size` is one per neuron.
        tau_syn: synaptic time constant in seconds, at least dt. Default: 5e-3.
        decay_mem, bitshift_mem, decay_syn, bitshift_syn: instead of tau_mem, tau_syn.
        threshold: spike threshold. Default: 1.
        leak: potential that the membrane leaks to; not with leaky=False. Default: None, no such parameter, which means
            0.
        reset_value: potential after a spike. Default: None, no such parameter, which means 0.
        refractory_time: seconds for which a neuron rests after a spike: refractory_time / dt time steps, rounded up
            (except for an excess within the rounding of that division). It is a buffer: it cannot be trained, but it
            can be set, and load_state_dict loads it. Default: None, no refractory period and no such buffer; the number
            0 means the same.
        leaky: whether the membrane leaks. Default: True.
        synapse_update: "input_first", "membrane_first" or "membrane_first_increment": whether an input reaches the
            membrane in its own step or one step later. Default: "membrane_first".
        reset_gradient: whether a gradient flows through the spike in the reset. Default: False.
        bias: added to the membrane in each step. Default: None, no such parameter.
        noise_std: standard deviation, after one second, of the noise that a call adds to the membrane. Per step it is
            noise_std * sqrt(dt). Default: 0.
        recurrent: whether the spikes of a step are input of the next step, through the trainable weights `w_rec` of
            shape (N, N), from neuron to neuron. A tensor gives their initial values. Otherwise they start as nn.RNN's
            do, uniform within 1/sqrt(N). Default: False.
        recurrent_bias: whether the recurrent input has a trainable bias `b_rec` of shape (N,) too. A tensor gives its
            initial values. Otherwise it starts as the weights do. Default: False.
        surrogate: replaces the spike's derivative. Default: SuperSpike(10).
        smooth: replace the spike by the surrogate's antiderivative, to check gradients by finite differences.
        memory: what is kept from the forward for the backward: see `torch_lif.functional.euler_lif`. Default: the least
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
        "synapse_update": lambda owner, name, value: SYNAPSE_UPDATES[check_choice(owner, name, value, SYNAPSE_UPDATES)],
        "leaky": flag,
        "reset_gradient": flag,
    }
    function = staticmethod(euler_lif)
    refractory_time: Tensor | None

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        bitshift_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        bitshift_syn: Value | None = None,
        threshold: Value = 1.0,
        leak: Value | None = None,
        reset_value: Value | None = None,
        refractory_time: Value | None = None,
        leaky: bool = True,
        synapse_update: str = "membrane_first",
        reset_gradient: bool = False,
        bias: Value | None = None,
        noise_std: float = 0.0,
        recurrent: bool | Tensor = False,
        recurrent_bias: bool | Tensor = False,
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
        self.synapse_update, self.leaky, self.reset_gradient = synapse_update, leaky, reset_gradient
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "bitshift": bitshift_mem}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "bitshift": bitshift_syn}
        for name, given in (("mem", mem), ("syn", syn)):
            self.add_leak(name, given, self.size, views=EULER, device=device, dtype=dtype)
        if leak is not None and not self.leaky:
            raise ValueError(f"{type(self).__name__}: leak was given, expected None with leaky=False")
        self.add_parameter("threshold", threshold, self.size, device=device, dtype=dtype)
        for name, optional in (("leak", leak), ("reset_value", reset_value), ("bias", bias)):
            self.add_optional_parameter(name, optional, self.size, device=device, dtype=dtype)
        self.register_buffer("refractory_time", None)
        if refractory_time is not None and not isinstance(refractory_time, Tensor):
            owner = type(self).__name__
            refractory_time = (
                number(owner, "refractory_time", refractory_time, "a number or a tensor") or None
            )  # 0: no period
        if refractory_time is not None:
            self.add_parameter(
                "refractory_time", refractory_time, self.size, within=COUNT, trained=False, device=device, dtype=dtype
            )
        self.set_trainable(trainable)
        self.add_recurrent(recurrent, recurrent_bias, 1, device, dtype)

    def first_state(self, x: Tensor) -> EulerLIFState | None:
        rest: Tensor | None = self.leak if self.leaky else self.reset_value
        if rest is None:
            return None
        batch = x.shape[0 if self.batch_first else 1]
        return EulerLIFState(rest.to(compute_dtype(x)).expand(batch, *self.size))

    def arguments(self) -> dict[str, Any]:
        return {
            "rate_mem": self.rate("mem"),
            "rate_syn": self.rate("syn"),
            "threshold": self.threshold,
            "leak": self.leak,
            "reset_value": self.reset_value,
            "refractory": self._refractory_steps(),
            "synapse_update": self.synapse_update,
            "leaky": self.leaky,
            "reset_gradient": self.reset_gradient,
            **super().arguments(),
        }

    def _refractory_steps(self) -> Tensor | None:
        """The refractory period in whole time steps: a neuron is silent while a count, from which each step takes one,
        is above 0. It is rounded up, but a whole number of steps stays that number: 3e-4 / 1e-4 is 3.0000002 in
        float32."""
        period = self.refractory_time
        return None if period is None else torch.ceil(period * ((1 - 2 * torch.finfo(period.dtype).eps) / self.dt))

    def __setattr__(self, name: str, value: Any) -> None:
        # The first value makes the buffer. Later values are written into it, as into a parameter.
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
        return f"{super().extra_repr()}{rest}, synapse_update={self.synapse_update!r}"

"""Adaptive leaky integrate-and-fire with sinabs' names: `ALIF` and `ALIFRecurrent`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..._call import ORDERS, POSITIVE, call, check_surrogate, compute_dtype, fixed, parameter, weights
from ..._check import ANY, Range, flag
from ...surrogate import Surrogate
from .._broadcast import check_value, on_device
from .._capture import hold_first_states
from .activation import (
    MembraneSubtract,
    SingleExponential,
    SingleSpike,
    max_spikes,
    reset_arguments,
    surrogate_gradient,
)
from .paths import LATEST, REACH, Gates
from .recurrence import check_received, fused_linear
from .stateful import StatefulLayer

__all__ = ["ALIF", "ALIFRecurrent"]

Value = Tensor | float
Values = Mapping[str, Tensor | None]
"""Parameters or states by the names of `torch_lif.functional.alif`."""
Kernel = tuple[tuple[float, ...], Surrogate]
"""The kernel's options, in its order, and its surrogate."""
ORDER = ORDERS["alif"]
STATES = {"v_mem": "v", "i_syn": "i", "b": "adaptation"}
"""The states by their names here, and in `torch_lif.functional.alif`."""


class ALIF(StatefulLayer):
    """Adaptive leaky integrate-and-fire with sinabs' arguments, attributes and state; the time loop runs in one kernel.

    A drop-in for sinabs' `ALIF`. With alpha = exp(-1/tau), each time step computes, in this order::

        i_syn = alpha_syn * (i_syn + input)       with tau_syn; without it, i_syn = input
        i_syn = (1 - alpha_mem) * i_syn           with norm_input
        v_mem = alpha_mem * v_mem + i_syn
        th    = b0 + adapt_scale * b              b0 is spike_threshold
        s     = spike_fn(v_mem, th)
        v_mem = reset_fn(s, v_mem, th)
        b     = alpha_adapt * b + (1 - alpha_adapt) * s
        v_mem = max(v_mem - min_v_mem, 0) + min_v_mem

    Source: sinabs 3.1, after Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks of spiking
    neurons" (LSNN). sinabs' documentation says that a spike subtracts b0 and sets b to zero. Its code does not, and
    neither does this layer. For what the documentation says: reset_fn=MembraneSubtract(subtract_value=b0),
    zero_adaptation=True.

    States are kept between calls, i_syn too. They start again at zero whenever batch size or neurons change. They stay
    attached to the graph: see `StatefulLayer`.

    Args:
        tau_mem: membrane time constant, in time steps, above 0. A number; or a tensor that broadcasts against the
            neurons' shape.
        tau_adapt: time constant of the adaptation b, in time steps; as tau_mem.
        tau_syn: synaptic time constant, in time steps; as tau_mem. Default: no synapse.
        adapt_scale: how much b = 1 raises the threshold; a number, tensor or nn.Parameter. Default: 1.8.
        spike_threshold: the threshold of an unadapted neuron, above 0; a number, tensor or nn.Parameter. Default: 1.
        spike_fn: `SingleSpike`, `MultiSpike` or `MaxSpike(...)`. Default: SingleSpike.
        reset_fn: `MembraneSubtract(...)` or `MembraneReset(...)`. Default: MembraneSubtract(), the adaptive threshold.
        surrogate_grad_fn: replaces the spikes' derivative with respect to v_mem; the threshold gets none. Any surrogate
            of this module or of torch_lif. Default: SingleExponential().
        min_v_mem: lower bound of v_mem. Default: none.
        shape: (batch, *neurons) of the states to begin with. Default: from the first input.
        train_alphas: whether the parameters are alpha_mem, alpha_adapt, alpha_syn rather than the time constants.
            Default: False.
        norm_input: whether the input is scaled by 1 - alpha_mem. With tau_syn it scales i_syn itself, as in sinabs.
            Default: True.
        record_states: whether calls leave the states after each step in `recordings`, (batch, time, *neurons). Default:
            False.
        zero_adaptation: whether a spike sets b to zero. Not in sinabs. Default: False.

    Attributes:
        tau_mem, tau_adapt, tau_syn (or alpha_mem, alpha_adapt, alpha_syn): trainable parameters; tau_syn is None
            without a synapse.
        v_mem, i_syn (with tau_syn), b, spike_threshold: states, buffers (batch, *neurons). spike_threshold is the
            adaptive threshold for the next step.
        recordings: the states after each step of the last call, by name; empty without record_states.
        firing_rate: spikes per neuron and step in the last call. If they are part of a graph, it is computed when it is
            read, and until the next call the layer keeps the spikes; they must not be changed in place before.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range; the message names it.
    """

    def __init__(
        self,
        tau_mem: Value,
        tau_adapt: Value,
        tau_syn: Value | None = None,
        adapt_scale: Value = 1.8,
        spike_threshold: Value = 1.0,
        spike_fn: Any = SingleSpike,
        reset_fn: Any = MembraneSubtract(),  # noqa: B008 (frozen)
        surrogate_grad_fn: Any = SingleExponential(),  # noqa: B008 (frozen)
        min_v_mem: Value | None = None,
        shape: Sequence[int] | None = None,
        train_alphas: bool = False,
        norm_input: bool = True,
        record_states: bool = False,
        *,
        zero_adaptation: bool = False,
    ) -> None:
        super().__init__([name for name in (*STATES, "spike_threshold") if name != "i_syn" or tau_syn is not None])
        owner = type(self).__name__
        self.train_alphas = train_alphas
        for name, tau in (("mem", tau_mem), ("adapt", tau_adapt), ("syn", tau_syn)):
            value = None if tau is None else _time_constant(owner, f"tau_{name}", tau)
            if value is not None:
                value = nn.Parameter(torch.exp(-1 / value) if train_alphas else value)
            setattr(self, f"alpha_{name}" if train_alphas else f"tau_{name}", value)
        self.adapt_scale = _number(owner, "adapt_scale", adapt_scale)
        self.b0 = _number(owner, "spike_threshold", spike_threshold)
        if not isinstance(self.b0, Tensor) and not self.b0 > 0:
            raise ValueError(f"{owner}: spike_threshold is {spike_threshold}, expected a number above 0")
        self.min_v_mem = None if min_v_mem is None else _number(owner, "min_v_mem", min_v_mem)
        max_spikes(owner, spike_fn)
        reset_arguments(owner, reset_fn)
        surrogate_gradient(owner, surrogate_grad_fn)
        self.spike_fn, self.reset_fn, self.surrogate_grad_fn = spike_fn, reset_fn, surrogate_grad_fn
        self.norm_input, self.record_states, self.zero_adaptation = norm_input, record_states, zero_adaptation
        if shape is not None:
            self.init_state_with_shape(shape)

    def _alpha(self, name: str) -> Tensor | None:
        if self.train_alphas:
            return getattr(self, f"alpha_{name}")
        own = f"tau_{name}"
        tau = self._parameters.get(own)
        if tau is None and (tau := getattr(self, own)) is None:
            return None
        # The operations of -1 / tau, without PyTorch's code in Python.
        return torch.exp(tau.reciprocal().neg())

    @property
    def alpha_mem_calculated(self) -> Tensor:
        """Decay of the membrane per step, from tau_mem unless alpha_mem is the parameter."""
        alpha = self._alpha("mem")
        assert alpha is not None
        return alpha

    @property
    def alpha_adapt_calculated(self) -> Tensor:
        """Decay of the adaptation per step, from tau_adapt unless alpha_adapt is the parameter."""
        alpha = self._alpha("adapt")
        assert alpha is not None
        return alpha

    @property
    def alpha_syn_calculated(self) -> Tensor | None:
        """Decay of the synaptic current per step, from tau_syn unless alpha_syn is the parameter; None without a
        synapse."""
        return self._alpha("syn")

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the states, (batch, *neurons); None before the first call."""
        return self.get_buffer("v_mem").shape if self.is_state_initialised() else None

    def forward(self, input_data: Tensor) -> Tensor:
        """Spikes of a sequence, from the state that the previous call left.

        Args:
            input_data: (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides. Booleans and
                integers are converted to the states' dtype.

        Returns:
            Spike counts, of input_data's shape and dtype (booleans, integers: the states').

        Raises:
            TypeError, ValueError: input_data, or a parameter beside it, of the wrong type, shape, dtype or device.
        """
        owner, names = type(self).__name__, self._state_names
        x = _sequence(owner, input_data, self._buffers)
        shape = x.shape[:1] + x.shape[2:]
        if any([self._buffers[name].shape != shape for name in names]):  # type: ignore[union-attr]
            self.init_state_with_shape(shape)
        self._forget()
        reset, reset_value = reset_arguments(owner, self.reset_fn)
        params: dict[str, Any] = {
            "decay_mem": _beside(owner, "tau_mem", self._alpha("mem"), x, "decay_mem"),
            "decay_syn": _beside(owner, "tau_syn", self._alpha("syn"), x, "decay_syn"),
            "decay_adapt": _beside(owner, "tau_adapt", self._alpha("adapt"), x, "decay_adapt"),
            "adapt_scale": _beside(owner, "adapt_scale", self.adapt_scale, x, "adapt_scale"),
            "threshold": _beside(owner, "spike_threshold", self.b0, x, "threshold", POSITIVE),
            "reset_value": _beside(owner, "the reset's value", reset_value, x, "reset_value"),
            "min_v": _beside(owner, "min_v_mem", self.min_v_mem, x, "min_v"),
        }
        scale, b0 = params["adapt_scale"], params["threshold"]
        kept = names[:-1]  # without spike_threshold, which follows from b
        states = {STATES[name]: _state(owner, name, self._buffers[name], x) for name in kept}
        hold_first_states(self, x, states.values())
        most = max_spikes(owner, self.spike_fn)
        norm_input = 2 if self.norm_input and "i_syn" in kept else bool(self.norm_input)
        zero_adaptation = flag("alif", "zero_adaptation", self.zero_adaptation)
        options = (norm_input, most != 1, most, reset == "value", zero_adaptation, 0)
        rule = check_surrogate("alif", surrogate_gradient(owner, self.surrogate_grad_fn))
        kind = (reset == "subtract" and reset_value is None, self._is_recurrent)
        gates = Gates(x.shape[1], REACH[kind]) if x.shape[1] < LATEST[kind] and torch.is_grad_enabled() else None
        if gates is not None:
            given = gates.put(params | states)
            params, states = {name: given[name] for name in params}, {name: given[name] for name in states}

        record = tuple(states) if self.record_states else ()
        spikes, after, records = self._run(x, params, states, (tuple(map(fixed, options)), rule), record)
        if gates is not None:
            gates.watch("spikes", spikes)
            for name in states:
                gates.watch(name, after[name])
                gates.watch(name, records.get(name))
        for name in kept:
            self._buffers[name] = after[STATES[name]]
        # Two operations, which round as sinabs' do.
        self._buffers["spike_threshold"] = (after["adaptation"] * scale).add_(b0)
        if record:
            self.recordings = {name: records[STATES[name]] for name in kept}
            adaptation = records["adaptation"].to(after["adaptation"].dtype)
            self.recordings["spike_threshold"] = (adaptation * scale).add_(b0).to(x.dtype)
        self._count(spikes)
        return spikes

    _is_recurrent = False

    def _run(
        self, x: Tensor, params: Values, states: Values, kernel: Kernel, record: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The neurons over a sequence: spikes, states after it, records. All are named as in
        `torch_lif.functional.alif`, whose checks of numbers and settings have been made already."""
        options, rule = kernel
        results = call(
            "alif",
            (x, None),
            tuple(map(params.get, ORDER.params)),
            tuple(map(states.get, ORDER.states)),
            options,
            rule.name,
            rule.values,
            False,
            int("i" in states),
            True,
            tuple([int(name in record) for name in ORDER.states]) if record else ORDER.no_record,
            "",
        )
        names = ORDER.present(params, "i" in states)
        after, records = results[1 : 1 + len(names)], results[1 + len(names) :]
        return results[0], dict(zip(names, after, strict=True)), dict(zip(record, records, strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ALIF:
        # Tensors that are not parameters move with the layer too.
        super()._apply(fn, recurse)
        for name in ("adapt_scale", "b0", "min_v_mem"):
            value = getattr(self, name)
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                setattr(self, name, fn(value))
        return self

    def _tau(self, name: str) -> Tensor | None:
        if not self.train_alphas:
            return getattr(self, f"tau_{name}")
        alpha = getattr(self, f"alpha_{name}")
        return None if alpha is None else -1 / torch.log(alpha.detach())

    @property
    def _param_dict(self) -> dict[str, Any]:
        return {
            "tau_mem": self._tau("mem"),
            "tau_adapt": self._tau("adapt"),
            "tau_syn": self._tau("syn"),
            "adapt_scale": self.adapt_scale,
            "spike_threshold": self.b0,
            "spike_fn": self.spike_fn,
            "reset_fn": self.reset_fn,
            "surrogate_grad_fn": self.surrogate_grad_fn,
            "min_v_mem": self.min_v_mem,
            "shape": self.shape,
            "train_alphas": self.train_alphas,
            "norm_input": self.norm_input,
            "record_states": self.record_states,
            "zero_adaptation": self.zero_adaptation,
        }

    def extra_repr(self) -> str:
        names = ("tau_mem", "tau_adapt", "tau_syn", "adapt_scale", "spike_threshold", "min_v_mem", "norm_input")
        parts = [f"{name}={_text(value)}" for name in names if (value := self._param_dict[name]) is not None]
        spike_fn = self.spike_fn.__name__ if isinstance(self.spike_fn, type) else self.spike_fn
        parts += [f"spike_fn={spike_fn}", f"reset_fn={self.reset_fn}", f"surrogate_grad_fn={self.surrogate_grad_fn}"]
        parts += [
            f"{name}=True" for name in ("train_alphas", "record_states", "zero_adaptation") if getattr(self, name)
        ]
        return ", ".join(parts)


class ALIFRecurrent(ALIF):
    """As `ALIF`, with recurrent connections: the spikes of a step, through `rec_connect`, are added to the input of the
    next.

    A drop-in for sinabs' `ALIFRecurrent`. The recurrent input is zero in the first step of every call.

    An nn.Linear of all N neurons runs in the kernel, also inside nn.Sequential with nn.Flatten, nn.Unflatten,
    nn.Identity, and nn.Dropout that is not in training. Any other module is called once per time step, as in sinabs.
    That is slow, so each layer warns once.

    Args:
        tau_mem, tau_adapt: as `ALIF`.
        rec_connect: module from spikes (batch, *neurons) to as many values.
        tau_syn, adapt_scale, spike_threshold, spike_fn, reset_fn, surrogate_grad_fn, min_v_mem, shape, train_alphas,
            norm_input, record_states, zero_adaptation: as `ALIF`.

    Raises:
        TypeError, ValueError: as `ALIF`; rec_connect does not fit the neurons.
    """

    _is_recurrent = True

    def __init__(
        self,
        tau_mem: Value,
        tau_adapt: Value,
        rec_connect: nn.Module,
        tau_syn: Value | None = None,
        adapt_scale: Value = 1.8,
        spike_threshold: Value = 1.0,
        spike_fn: Any = SingleSpike,
        reset_fn: Any = MembraneSubtract(),  # noqa: B008 (frozen)
        surrogate_grad_fn: Any = SingleExponential(),  # noqa: B008 (frozen)
        min_v_mem: Value | None = None,
        shape: Sequence[int] | None = None,
        train_alphas: bool = False,
        norm_input: bool = True,
        record_states: bool = False,
        *,
        zero_adaptation: bool = False,
    ) -> None:
        super().__init__(
            tau_mem,
            tau_adapt,
            tau_syn,
            adapt_scale,
            spike_threshold,
            spike_fn,
            reset_fn,
            surrogate_grad_fn,
            min_v_mem,
            shape,
            train_alphas,
            norm_input,
            record_states,
            zero_adaptation=zero_adaptation,
        )
        if isinstance(rec_connect, type) or not callable(rec_connect):
            raise TypeError(
                f"{type(self).__name__}: rec_connect is {rec_connect!r}, expected a module such as nn.Linear(N, N)"
            )
        self.rec_connect = rec_connect
        self._has_warned = False

    def _run(
        self, x: Tensor, params: Values, states: Values, kernel: Kernel, record: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        linear = fused_linear(type(self).__name__, self.rec_connect, x.shape[0], x.shape[2:])
        if linear is None:
            return self._run_stepwise(x, params, states, kernel, record)
        # Before the second step no spike has come back, so the weights have no part in the graph, as in an eager loop.
        if x.shape[1] > 1:
            w_rec, b_rec = weights("alif", "w_rec", linear.weight.t(), x), weights("alif", "b_rec", linear.bias, x)
            params = {**params, "w_rec": w_rec, "b_rec": b_rec}
        return super()._run(x, params, states, kernel, record)

    def _run_stepwise(
        self, x: Tensor, params: Values, states: Values, kernel: Kernel, record: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        owner = type(self).__name__
        if not self._has_warned:
            warnings.warn(
                f"{owner}: rec_connect is called once a time step, for it is no nn.Linear of all neurons (nor "
                "one in an "
                "nn.Sequential with nn.Flatten and nn.Unflatten), which would run in the kernel",
                stacklevel=6,
            )
            self._has_warned = True
        if not x.shape[1]:
            return super()._run(x, params, states, kernel, record)
        after: Any = states
        steps: list[Tensor] = []
        records: dict[str, list[Tensor]] = {name: [] for name in record}
        received: Tensor | None = None
        for x_t in x.unbind(1):
            total = x_t if received is None else x_t + received
            if total.dtype != x.dtype:
                raise TypeError(
                    f"{owner}: rec_connect gives {total.dtype} values, expected {x.dtype} with input_data of {x.dtype}"
                )
            out, after, _ = super()._run(total.unsqueeze(1), params, after, kernel, ())
            spikes = out.squeeze(1)
            # Called after the last step too, where its result is not used, so that a module that draws or counts does
            # so as in sinabs.
            received = check_received(owner, self.rec_connect(spikes), x.shape[0], x.shape[2:])
            steps.append(spikes)
            for name, trace in records.items():
                trace.append(after[name].to(x.dtype))
        stacked = {name: torch.stack(trace, 1) for name, trace in records.items()}
        return torch.stack(steps, 1), after, stacked

    @property
    def _param_dict(self) -> dict[str, Any]:
        return super()._param_dict | {"rec_connect": self.rec_connect}


def _number(owner: str, name: str, value: Any) -> Value:
    check_value(owner, name, value)
    return value if isinstance(value, (int, float, Tensor)) else float(value)


def _time_constant(owner: str, name: str, value: Any) -> Tensor:
    """A new tensor from a time constant in steps."""
    check_value(owner, name, value)
    given = torch.as_tensor(value).detach().clone()
    tau = given if given.is_floating_point() else given.to(torch.get_default_dtype())
    if not bool((tau > 0).all()):
        raise ValueError(f"{owner}: {name} is {value}, expected time steps above 0" + ", or None" * (name == "tau_syn"))
    return tau


def _sequence(owner: str, x: Any, states: Mapping[str, Any]) -> Tensor:
    """The input. Spikes as booleans or integers are converted to the dtype of the states, to which they are added."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner}: input_data is a {type(x).__name__}, expected a tensor")
    if x.dim() < 2:
        raise ValueError(f"{owner}: input_data has shape {tuple(x.shape)}, expected (batch, time, *neurons)")
    if x.is_complex():
        raise TypeError(
            f"{owner}: input_data is {x.dtype}, expected real values; take input_data.real, or its magnitude"
        )
    return x if x.is_floating_point() else x.to(states["v_mem"].dtype)


def _widened(value: Tensor, x: Tensor) -> Tensor:
    """A value with fewer bits than the dtype of the computation, widened to that dtype: exactly the same value."""
    target = compute_dtype(x)
    return value.to(target) if value.is_floating_point() and value.element_size() < target.itemsize else value


def _beside(owner: str, name: str, value: Any, x: Tensor, native: str, within: Range = ANY) -> Tensor | None:
    """A parameter with as many dimensions as the neurons, by PyTorch's rules: it broadcasts from the last dimension on,
    and a number, or a tensor of no dimension, takes the device and dtype of x. `native`, `within`: the kernel's name of
    the parameter, and the range of a number."""
    if not isinstance(value, Tensor):
        return parameter("alif", native, value, x, within)
    if not value.dim():
        return on_device(value, x)
    neurons, sizes = x.shape[2:], value.shape
    while len(sizes) > len(neurons) and sizes[0] == 1:
        sizes = sizes[1:]
    shape = (1,) * (len(neurons) - len(sizes)) + tuple(sizes) if sizes else ()
    if sizes and not (len(shape) == len(neurons) and all(n in (1, m) for n, m in zip(shape, neurons, strict=True))):
        raise ValueError(
            f"{owner}: {name} has shape {tuple(value.shape)}, expected one that broadcasts against "
            f"{tuple(neurons)}, the "
            f"neurons of input_data of shape {tuple(x.shape)}"
        )
    if value.shape != shape:
        value = value.reshape(shape)
    return _widened(value, x) if shape else on_device(value, x)


def _state(owner: str, name: str, value: Any, x: Tensor) -> Tensor:
    if value.device != x.device:
        raise ValueError(
            f"{owner}: the state {name} is on {value.device} but input_data is on {x.device}; move the layer with "
            f".to({str(x.device)!r})"
        )
    value = _widened(value, x)
    if value.dtype != compute_dtype(x):
        raise TypeError(
            f"{owner}: the state {name} is {value.dtype}, expected {compute_dtype(x)} with input_data of "
            f"{x.dtype}; convert the "
            "layer or input_data with .to(dtype)"
        )
    return value


def _text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
    return f"{value.item():g}" if value.dim() == 0 and not value.is_meta else f"<{tuple(value.shape)}>"

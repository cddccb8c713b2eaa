"""norse's leaky integrator and LIF, `norse.torch`: one step, a fused sequence, cells and layers.

Names, argument order, states and defaults are norse's, time first. States are explicit, differentiable and never detached.
Parameter and state tuples of norse itself are taken too; norse need not be installed. docs/compat.md lists the differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import functional
from .._check import constant
from ..surrogate import Gaussian, SuperSpike, Surrogate, Triangle
from ._broadcast import Value, aligned, check_dt, check_value, checked_input, expanded

__all__ = [
    "LI",
    "LIF",
    "LICell",
    "LIFCell",
    "LIFFeedForwardState",
    "LIFParameters",
    "LIFRecurrent",
    "LIFRecurrentCell",
    "LIFState",
    "LILinearCell",
    "LIParameters",
    "LIState",
    "li",
    "li_feed_forward_step",
    "li_step",
    "lif",
    "lif_feed_forward_integral",
    "lif_feed_forward_step",
    "lif_recurrent",
    "lif_step",
]


class LIState(NamedTuple):
    """State of a leaky integrator: membrane potential v, synaptic current i."""

    v: Tensor
    i: Tensor


class LIParameters(NamedTuple):
    """Parameters of a leaky integrator, each a number or a tensor that broadcasts against a time step of the input.

    tau_syn_inv, tau_mem_inv: inverse time constants, in 1/s. Default: 200 and 100. v_leak: leak potential. Default: 0.
    """

    tau_syn_inv: Value = torch.tensor(1.0 / 5e-3)
    tau_mem_inv: Value = torch.tensor(1.0 / 1e-2)
    v_leak: Value = torch.tensor(0.0)


class LIFState(NamedTuple):
    """State of a recurrent LIF: spikes z of the last step, membrane potential v after the reset, synaptic current i."""

    z: Tensor
    v: Tensor
    i: Tensor


class LIFFeedForwardState(NamedTuple):
    """State of a LIF without recurrence: membrane potential v after the reset, synaptic current i."""

    v: Tensor
    i: Tensor


class LIFParameters(NamedTuple):
    """Parameters of a LIF; the potentials and inverse time constants as in `LIParameters`.

    v_th, v_reset: threshold and potential after a spike. Default: 1 and 0. method: the surrogate gradient, with d = v - v_th::

        "super"         1 / (|d| + 1)**2                    (the default)
        "triangle"      alpha * max(0, 1 - |d|)
        "heavi_erfc"    2 / sqrt(pi) * exp(-(alpha d)**2)
        "heaviside"     0

    A surrogate of torch_lif is taken as well: method=torch_lif.SuperSpike(100.0). alpha: a constant above 0; a number or a tensor
    of one element, without gradient. Default: 100. "super" does not use it: norse's text has alpha |d|, but norse 1.1.0 computes
    the above, and scripts that were tuned with it get the same gradients.
    """

    tau_syn_inv: Value = torch.tensor(1.0 / 5e-3)
    tau_mem_inv: Value = torch.tensor(1.0 / 1e-2)
    v_leak: Value = torch.tensor(0.0)
    v_th: Value = torch.tensor(1.0)
    v_reset: Value = torch.tensor(0.0)
    method: str | Surrogate = "super"
    alpha: Value = 100.0

    def to(self, device: torch.device | str) -> LIFParameters:
        """The same with its tensors on this device."""
        moved: dict[str, Any] = {n: value.to(device) for n, value in self._asdict().items() if isinstance(value, Tensor)}
        return self._replace(**moved)


_LI, _LIF = LIParameters(), LIFParameters()


def li_feed_forward_step(input_tensor: Tensor, state: LIState, p: LIParameters = _LI, dt: float = 0.001) -> tuple[Tensor, LIState]:
    """One step of a leaky integrator by forward Euler, in this order of operations::

        j = i + input_tensor
        v = v + (dt * tau_mem_inv) * ((v_leak - v) + j)
        i = j + (-dt * tau_syn_inv) * j

    Args:
        input_tensor: of any shape; float32, float64, bfloat16 or float16 (half types are computed in float32).
        state: (v, i) before the step; they broadcast to input_tensor's shape.
        p: parameters, see `LIParameters`. One of shape () takes input_tensor's dtype and device, as in PyTorch's arithmetic;
            another has the same device and at most as many bits.
        dt: time step in seconds. Default: 1e-3.

    Returns:
        (v, LIState(v, i)) after the step. Gradients flow from all to input_tensor, the state and p's tensors.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device or shape, dt not above 0; the message names it.

    Source: norse's function of this name.
    """
    return _li(_STEP, "li_feed_forward_step", input_tensor, _given("li_feed_forward_step", state), p, dt)


def li_step(
    input_spikes: Tensor, state: LIState, input_weights: Tensor, p: LIParameters = _LI, dt: float = 0.001
) -> tuple[Tensor, LIState]:
    """`li_feed_forward_step` of linear(input_spikes, input_weights), input_weights being (neurons, inputs)."""
    return _li(_STEP, "li_step", _weighted("li_step", input_spikes, input_weights), _given("li_step", state), p, dt)


def li(x: Tensor, state: LIState | None = None, p: LIParameters = _LI, dt: float = 0.001) -> tuple[Tensor, LIState]:
    """A leaky integrator over a whole sequence, in one kernel: `li_feed_forward_step` for each x[t].

    Args:
        x: input, (time, ...).
        state: (v, i) before the first step; they broadcast to x[0]'s shape. Default: v = v_leak without gradient, i = 0, as norse's
            layers.
        p, dt: as in `li_feed_forward_step`.

    Returns:
        (v, state): v after each step, laid out as x, in x's dtype; the state after the last one.
    """
    return _li(_SEQUENCE, "li", x, state, p, dt)


def lif_feed_forward_step(
    input_spikes: Tensor, state: LIFFeedForwardState, p: LIFParameters = _LIF, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """One step of a LIF by forward Euler: v and i as `li_feed_forward_step`, then::

        z = [v - v_th > 0]
        v = (1 - z) * v + z * v_reset               a gradient flows through this z too

    Args:
        input_spikes: input current, of any shape.
        state: (v, i) before the step; they broadcast to input_spikes' shape.
        p: parameters, see `LIFParameters`; dtypes and devices as in `li_feed_forward_step`.
        dt: time step in seconds. Default: 1e-3.

    Returns:
        (z, LIFFeedForwardState(v, i)): spikes in input_spikes' dtype, the state after the step.

    Raises:
        NotImplementedError: p.method is "tanh", "circ" or "adjoint", which norse has and the kernel does not.
        TypeError, ValueError: as `li_feed_forward_step`; another method.

    Source: norse's function of this name.
    """
    return _lif(_STEP, "lif_feed_forward_step", input_spikes, _given("lif_feed_forward_step", state), p, dt)


def lif(
    x: Tensor, state: LIFFeedForwardState | None = None, p: LIFParameters = _LIF, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """A LIF over a whole sequence, in one kernel: `lif_feed_forward_step` for each x[t].

    Args:
        x: input current, (time, ...).
        state: (v, i) before the first step, as in `li`.
        p, dt: as in `lif_feed_forward_step`.

    Returns:
        (z, state): the spikes of each step, laid out as x, in x's dtype; the state after the last one.
    """
    return _lif(_SEQUENCE, "lif", x, state, p, dt)


def lif_feed_forward_integral(
    input_tensor: Tensor, state: LIFFeedForwardState, p: LIFParameters, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """`lif` by norse's name for it, with a state that has to be given."""
    op = "lif_feed_forward_integral"
    return _lif(_SEQUENCE, op, input_tensor, _given(op, state), p, dt)


def lif_step(
    input_spikes: Tensor,
    state: LIFState,
    input_weights: Tensor,
    recurrent_weights: Tensor,
    p: LIFParameters = _LIF,
    dt: float = 0.001,
) -> tuple[Tensor, LIFState]:
    """One step of a recurrent LIF: as `lif_feed_forward_step`, but that no gradient flows through the z of the reset, and that::

        j = (i + linear(input_spikes, input_weights)) + linear(z, recurrent_weights)

    with the z of the step before.

    Args:
        input_spikes: (..., inputs).
        state: (z, v, i) before the step; they broadcast to (..., neurons).
        input_weights: (neurons, inputs).
        recurrent_weights: (neurons, neurons), rows for the neurons that receive.
        p: see `LIFParameters`; of the neurons' shape at most. dt: time step in seconds. Default: 1e-3.

    Returns:
        (z, LIFState(z, v, i)) after the step.

    Raises:
        as `lif_feed_forward_step`.
    """
    current = _weighted("lif_step", input_spikes, input_weights)
    return _lif_recurrent(_STEP, "lif_step", current, _given("lif_step", state), recurrent_weights, p, dt)


def lif_recurrent(
    x: Tensor,
    input_weights: Tensor,
    recurrent_weights: Tensor,
    state: LIFState | None = None,
    p: LIFParameters = _LIF,
    dt: float = 0.001,
) -> tuple[Tensor, LIFState]:
    """A recurrent LIF over a whole sequence: `lif_step` for each x[t], with one matrix product for the whole input.

    Args:
        x: input spikes, (time, ..., inputs).
        state: (z, v, i) before the first step. Default: z = 0, v = v_leak without gradient, i = 0.
        input_weights, recurrent_weights, p, dt: as in `lif_step`.

    Returns:
        (z, state): the spikes of each step, (time, ..., neurons), in x's dtype; the state after the last one.
    """
    current = _weighted("lif_recurrent", x, input_weights)
    return _lif_recurrent(_SEQUENCE, "lif_recurrent", current, state, recurrent_weights, p, dt)


class _Neuron(nn.Module):
    """Parameters and time step. As in norse the parameters are no nn.Parameters of the module, and not in its state dict."""

    def __init__(self, p: Any, dt: float) -> None:
        super().__init__()
        self.p, self.dt = p, check_dt(type(self).__name__, dt)

    def extra_repr(self) -> str:
        return f"p={self.p}, dt={self.dt}"


class LICell(_Neuron):
    """A leaky integrator for one time step: `cell(x, state)` is `li_feed_forward_step(x, state, p, dt)`.

    Args:
        p: parameters. As in norse they are no nn.Parameters of the module, and not in its state dict. Default: `LIParameters()`.
        dt: time step in seconds. Default: 1e-3.

    Without a state, v starts at v_leak, without gradient, and i at 0.
    """

    def __init__(self, p: LIParameters = _LI, dt: float = 0.001) -> None:
        super().__init__(p, dt)

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        return _li(_STEP, "LICell", input_tensor, state, self.p, self.dt)


class LI(_Neuron):
    """A layer of leaky integrators over time: `layer(x, state)` is `li(x, state, p, dt)`; x is (time, ...).

    Args:
        p, dt: as `LICell`.
        record_states: return the states after every step, stacked in time, in the last one's place. Default: False.
    """

    def __init__(self, p: LIParameters = _LI, dt: float = 0.001, record_states: bool = False) -> None:
        super().__init__(p, dt)
        self.record_states = record_states

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        return _li(_SEQUENCE, "LI", input_tensor, state, self.p, self.dt, self.record_states)


class LILinearCell(_Neuron):
    """A leaky integrator behind trainable weights, for one time step: `li_step`.

    Args:
        input_size, hidden_size: numbers of inputs and neurons. `input_weights` (hidden_size, input_size) start as norse's:
            randn / sqrt(input_size).
        p, dt: as `LICell`.
    """

    def __init__(self, input_size: int, hidden_size: int, p: LIParameters = _LI, dt: float = 0.001) -> None:
        super().__init__(p, dt)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.input_weights = nn.Parameter(torch.randn(hidden_size, input_size) / math.sqrt(input_size))

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}, {super().extra_repr()}"

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        current = _weighted("LILinearCell", input_tensor, self.input_weights)
        return _li(_STEP, "LILinearCell", current, state, self.p, self.dt)


class LIFCell(_Neuron):
    """A LIF for one time step: `cell(x, state)` is `lif_feed_forward_step(x, state, p, dt)`.

    Args:
        p: parameters. As in norse they are no nn.Parameters of the module, and not in its state dict, and numbers among them become
            tensors of PyTorch's default dtype. Default: `LIFParameters()`.
        dt: time step in seconds. Default: 1e-3.

    Without a state, v starts at v_leak, without gradient, and i at 0.
    """

    def __init__(self, p: LIFParameters = _LIF, dt: float = 0.001) -> None:
        super().__init__(_tensors(type(self).__name__, p), dt)

    def forward(self, input_tensor: Tensor, state: LIFFeedForwardState | None = None) -> tuple[Tensor, LIFFeedForwardState]:
        return _lif(_STEP, "LIFCell", input_tensor, state, self.p, self.dt)


class LIF(_Neuron):
    """A layer of LIF neurons over time: `layer(x, state)` is `lif(x, state, p, dt)`; x is (time, ...).

    Args:
        p, dt: as `LIFCell`.
        record_states: as in `LI`.
    """

    def __init__(self, p: LIFParameters = _LIF, dt: float = 0.001, record_states: bool = False) -> None:
        super().__init__(_tensors("LIF", p), dt)
        self.record_states = record_states

    def forward(self, input_tensor: Tensor, state: LIFFeedForwardState | None = None) -> tuple[Tensor, LIFFeedForwardState]:
        return _lif(_SEQUENCE, "LIF", input_tensor, state, self.p, self.dt, self.record_states)


class LIFRecurrentCell(_Neuron):
    """A recurrent LIF for one time step: `lif_step` with trainable weights.

    Args:
        input_size, hidden_size: numbers of inputs and neurons.
        p: parameters, as `LIFCell`.
        input_weights, recurrent_weights: initial weights, (hidden_size, input_size) and (hidden_size, hidden_size). A parameter is
            taken as it is, a tensor copied. Default: as norse's, randn * sqrt(2 / hidden_size).
        autapses: whether a neuron may be connected to itself. Default: False: the diagonal of recurrent_weights is set to zero, and
            is not used.
        dt: time step in seconds. Default: 1e-3.

    Without a state, z and i start at 0 and v at v_leak, without gradient.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        p: LIFParameters = _LIF,
        input_weights: Tensor | None = None,
        recurrent_weights: Tensor | None = None,
        autapses: bool = False,
        dt: float = 0.001,
    ) -> None:
        super().__init__(_tensors(type(self).__name__, p), dt)
        self.input_size, self.hidden_size, self.autapses = input_size, hidden_size, autapses
        self.input_weights = self._weights("input_weights", input_weights, input_size)
        self.recurrent_weights = self._weights("recurrent_weights", recurrent_weights, hidden_size)
        if not autapses:
            with torch.no_grad():
                self.recurrent_weights.fill_diagonal_(0.0)

    def _weights(self, name: str, given: Tensor | None, inputs: int) -> nn.Parameter:
        shape = (self.hidden_size, inputs)
        if given is None:
            return nn.Parameter(torch.randn(shape) * torch.sqrt(2.0 / torch.as_tensor(self.hidden_size)))
        if tuple(given.shape) != shape:
            raise ValueError(f"{type(self).__name__}: {name} has shape {tuple(given.shape)}, expected {shape}")
        return given if isinstance(given, nn.Parameter) else nn.Parameter(given.detach().clone())

    def extra_repr(self) -> str:
        sizes = f"input_size={self.input_size}, hidden_size={self.hidden_size}"
        return f"{sizes}, p={self.p}, autapses={self.autapses}, dt={self.dt}"

    def _recurrence(self) -> Tensor:
        """The weights that are used; none of a neuron to itself has a gradient, without autapses."""
        weights = self.recurrent_weights
        if self.autapses:
            return weights
        return weights.masked_fill(torch.eye(self.hidden_size, dtype=torch.bool, device=weights.device), 0.0)

    def forward(self, input_tensor: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        op = "LIFRecurrentCell"
        current = _weighted(op, input_tensor, self.input_weights)
        return _lif_recurrent(_STEP, op, current, state, self._recurrence(), self.p, self.dt)


class LIFRecurrent(LIFRecurrentCell):
    """A layer of recurrent LIF neurons over time: `lif_recurrent` with trainable weights; x is (time, ..., input_size).

    Args:
        input_size, hidden_size, p, input_weights, recurrent_weights, autapses, dt: as `LIFRecurrentCell`.
        record_states: as in `LI`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        p: LIFParameters = _LIF,
        input_weights: Tensor | None = None,
        recurrent_weights: Tensor | None = None,
        autapses: bool = False,
        dt: float = 0.001,
        record_states: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, p, input_weights, recurrent_weights, autapses, dt)
        self.record_states = record_states

    def forward(self, input_tensor: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        op = "LIFRecurrent"
        current = _weighted(op, input_tensor, self.input_weights)
        return _lif_recurrent(_SEQUENCE, op, current, state, self._recurrence(), self.p, self.dt, self.record_states)


_STEP, _SEQUENCE = True, False


def _given(op: str, state: Any) -> Any:
    if state is None:
        raise TypeError(f"{op}: state is None, expected the state before the step")
    return state


def _sequence(op: str, x: Tensor, step: bool) -> Tensor:
    """(time, 1, ...): a batch of one whose neurons have the shape of a step, so that everything broadcasts to that, as in norse."""
    x = checked_input(op, "the input", x, 0 if step else 1)
    return x[None, None] if step else x.unsqueeze(1)


def _weighted(op: str, x: Tensor, weights: Tensor) -> Tensor:
    x = checked_input(op, "the input", x, 1)
    if weights.dim() != 2 or weights.shape[1] != x.shape[-1]:
        expected = f"(neurons, {x.shape[-1]}) for an input of {tuple(x.shape)}"
        raise ValueError(f"{op}: input_weights has shape {tuple(weights.shape)}, expected {expected}")
    return nn.functional.linear(x, weights)


def _field(op: str, p: Any, name: str) -> Any:
    if not hasattr(p, name):
        raise TypeError(f"{op}: p is a {type(p).__name__} without {name}, expected an object with norse's fields")
    return getattr(p, name)


def _parameter(op: str, p: Any, name: str, x: Tensor, shape: Sequence[int], factor: float = 1) -> Tensor:
    """factor * the parameter, evaluated as norse does: in the parameter's precision."""
    value = _field(op, p, name)
    check_value(op, name, value)
    return aligned(op, name, value if factor == 1 else factor * value, x, shape, promote=True)


def _initial(op: str, state: Any, names: Sequence[str], p: Any, x: Tensor, shape: Sequence[int]) -> list[Tensor | None]:
    """The states before the first step, of this shape."""
    if state is None:
        rest = _parameter(op, p, "v_leak", x, shape).detach().expand(tuple(shape))
        return [rest if name == "v" else None for name in names]
    missing = [name for name in names if not isinstance(getattr(state, name, None), Tensor)]
    if missing:
        raise TypeError(f"{op}: state is a {type(state).__name__} without a tensor {missing[0]}, expected ({', '.join(names)})")
    return [expanded(op, f"the state {name}", getattr(state, name), x, shape, promote=True) for name in names]


def _surrogate(op: str, p: Any) -> Surrogate:
    method, alpha = _field(op, p, "method"), _field(op, p, "alpha")
    if isinstance(method, Surrogate):
        return method
    if method == "super":
        SuperSpike(alpha)  # for its errors alone
        return SuperSpike(1.0)
    if method == "triangle":
        return Triangle(1.0, alpha)
    if method == "heavi_erfc":
        steepness = constant(op, "alpha", alpha)
        return Gaussian(0.0, 1 / (math.sqrt(2) * steepness), 2 / steepness)
    if method == "heaviside":
        # So far from every membrane potential that it is exactly zero.
        return Gaussian(mu=1e30, sigma=1.0)
    fused = "'super', 'triangle', 'heavi_erfc', 'heaviside'"
    if method in ("tanh", "circ", "adjoint"):
        raise NotImplementedError(f"{op}: method is {method!r}, which the kernel does not have; expected one of {fused}")
    raise ValueError(f"{op}: method is {method!r}, expected one of {fused}")


def _tensors(op: str, p: Any) -> LIFParameters:
    """p with tensors for numbers, after a look at its method."""
    _surrogate(op, p)
    values = {name: _field(op, p, name) for name in LIFParameters._fields}
    for name in LIFParameters._fields[:5]:
        check_value(op, name, values[name])
        values[name] = torch.as_tensor(values[name])
    return LIFParameters(**values)


def _rates(op: str, p: Any, dt: float, x: Tensor, shape: Sequence[int]) -> dict[str, Any]:
    return {name: _parameter(op, p, f"tau_{name[5:]}_inv", x, shape, dt) for name in ("rate_mem", "rate_syn")}


def _lif_parameters(op: str, p: Any, dt: float, x: Tensor, shape: Sequence[int]) -> dict[str, Any]:
    potentials = {"leak": "v_leak", "threshold": "v_th", "reset": "v_reset"}
    given = {name: _parameter(op, p, field, x, shape) for name, field in potentials.items()}
    return {**given, **_rates(op, p, dt, x, shape), "synapse": "at_once", "surrogate": _surrogate(op, p), "batch_first": False}


def _li(step: bool, op: str, x: Tensor, state: Any, p: Any, dt: float, record_states: bool = False) -> tuple[Tensor, LIState]:
    dt, x = check_dt(op, dt), _sequence(op, x, step)
    shape = x.shape[2:]
    first = _initial(op, state, ("v", "i"), p, x, shape)
    result = functional.li(
        x,
        **_rates(op, p, dt, x, shape),
        v_leak=_parameter(op, p, "v_leak", x, shape),
        state=[None if s is None else s[None] for s in first],
        record=("v", "i") if record_states else (),
        batch_first=False,
    )
    return _without_batch(step, result), LIState(*_states(result))


def _without_batch(step: bool, result: Any) -> Tensor:
    return result[0][0, 0] if step else result[0].squeeze(1)


def _states(result: Any) -> list[Tensor]:
    """v and i of every step if they were recorded, else of the last one."""
    return [s.squeeze(1) for s in result.records.values()] or [result.state.v[0], result.state.i[0]]


def _lif(
    step: bool, op: str, x: Tensor, state: Any, p: Any, dt: float, record_states: bool = False
) -> tuple[Tensor, LIFFeedForwardState]:
    dt, x = check_dt(op, dt), _sequence(op, x, step)
    shape = x.shape[2:]
    first = _initial(op, state, ("v", "i"), p, x, shape)
    result = functional.cuba_lif(
        x,
        **_lif_parameters(op, p, dt, x, shape),
        reset_gradient=True,
        state=[None if s is None else s[None] for s in first],
        record=("v", "i") if record_states else (),
    )
    return _without_batch(step, result), LIFFeedForwardState(*_states(result))


def _lif_recurrent(
    step: bool, op: str, current: Tensor, state: Any, weights: Tensor, p: Any, dt: float, record_states: bool = False
) -> tuple[Tensor, LIFState]:
    """Here the batch is one: the weights are between a batch item's neurons."""
    dt = check_dt(op, dt)
    current = current[None] if step else current
    if current.dim() < 2:
        raise ValueError(f"{op}: the input has {current.dim()} dimension, expected (time, ..., inputs)")
    shape, neurons = current.shape[1:], current.shape[-1]
    if tuple(weights.shape) != (neurons, neurons):
        raise ValueError(f"{op}: recurrent_weights has shape {tuple(weights.shape)}, expected {(neurons, neurons)}")
    flat = (math.prod(shape[:-1]), neurons)
    z, v, i = (None if s is None else s.reshape(flat) for s in _initial(op, state, ("z", "v", "i"), p, current, shape))
    result = functional.cuba_lif(
        current.reshape(current.shape[0], *flat),
        **_lif_parameters(op, p, dt, current, (neurons,)),
        w_rec=weights.t(),
        state=(v, i, None, z),
        record=("spikes", "v", "i") if record_states else (),
    )
    last = result.state
    states = list(result.records.values()) or [s for s in (last.spikes, last.v, last.i) if s is not None]
    z_all = result.spikes.reshape(current.shape)
    return z_all[0] if step else z_all, LIFState(*(s.reshape(current.shape if record_states else shape) for s in states))

"""hxtorch's neurons, `hxtorch.spiking.functional`: current-based LIF, IAF and LI, to train with BrainScaleS-2 in the
loop.

Argument order, names and returned tuples are hxtorch's, time first. Measured traces of the chip replace the computed
ones; gradients still go to the computed ones. hxtorch need not be installed. docs/compat.md lists the differences.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import functional, reference
from .._call import compute_dtype, constants
from ..surrogate import SuperSpike
from ._broadcast import Value, aligned, check_dt, check_range, check_value, checked_input, expanded, is_constant

__all__ = [
    "Unterjubel",
    "cuba_iaf_integration",
    "cuba_li_integration",
    "cuba_lif_integration",
    "cuba_lif_step",
    "cuba_refractory_iaf_integration",
    "cuba_refractory_lif_integration",
    "iaf_step",
    "refractory_update",
    "spiking_threshold",
]

HardwareData = Sequence[Tensor | None]
Trace = tuple[Tensor, Tensor, Tensor, Tensor | None]


class Unterjubel(reference._Inject):
    """Replaces a computed value by a measured one.

    `Unterjubel.apply(input, input_prime)`, two tensors of one shape, is `input_prime`; the gradient goes to `input`
    unchanged, and none to `input_prime`. Source: hxtorch's class of this name (German: to slip in)."""


def spiking_threshold(input: Tensor, method: str, alpha: Value) -> Tensor:
    """[input > 0] in input's dtype, with a surrogate gradient: g / (alpha |input| + 1)**2.

    Args:
        input: membrane potential less the threshold, any shape.
        method: "superspike" (hxtorch's code) or "super_spike" (its text).
        alpha: steepness, above 0, in the inverse of the membrane's unit; a number or a tensor of one element, without
            gradient.

    Raises:
        ValueError: another method; alpha not above 0. TypeError: input is no floating tensor; alpha requires a
            gradient.
    """
    op = "spiking_threshold"
    input = checked_input(op, "input", input)
    return reference.spike(
        input, input.new_zeros(()), _surrogate(op, method, alpha), 1, count=reference.spike_above_threshold
    )


def refractory_update(
    z: Tensor,
    v: Tensor,
    ref_state: Tensor,
    spikes_hw: Tensor | None,
    membrane_hw: Tensor | None,
    *,
    reset: Value,
    refractory_time: Value,
    dt: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a refractory period makes of one step's result.

    With m = [ref_state > 0]::

        v = (1 - m) * v + m * reset;    then membrane_hw instead, if given
        z = (1 - m) * z;                then spikes_hw instead, if given
        ref_state = (1 - z) * max(ref_state - m, 0) + z * refractory_time / dt

    Args:
        z, v: spikes and membrane potential of the step, of one shape.
        ref_state: how many steps the neurons stay silent; broadcasts against z. 0 at the start. Not rounded.
        spikes_hw, membrane_hw: measured ones of this step, of z's shape, or None. Gradients go to the computed ones.
        reset: potential after a spike. A number or a tensor that broadcasts against v, as refractory_time.
        refractory_time: seconds of rest after a spike, 0 or more.
        dt: time step in seconds.

    Returns:
        (z, v, ref_state) after the update. Gradients as PyTorch gives them for the lines above.

    Raises:
        ValueError: dt not above 0; refractory_time below 0 (checked for numbers and CPU tensors).
        TypeError: reset or refractory_time is neither a number nor a tensor.
    """
    op = "refractory_update"
    dt = check_dt(op, dt)
    check_value(op, "reset", reset)
    check_range(op, "refractory_time", refractory_time, zero=True)
    mute = (ref_state > 0).to(v.dtype)
    v = reference.inject((1 - mute) * v + mute * reset, membrane_hw)
    z = reference.inject((1 - mute) * z, spikes_hw)
    return z, v, (1 - z) * torch.relu(ref_state - mute) + z * refractory_time / dt


def cuba_lif_step(
    z: Tensor | None,
    v: Tensor,
    i: Tensor,
    input: Tensor,
    spikes_hw: Tensor | None,
    membrane_hw: Tensor | None,
    *,
    leak: Value,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    method: str,
    alpha: Value,
    dt: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """One time step of `cuba_lif_integration`; its docstring has the equations, the parameters and the errors.

    Args:
        z: spikes of the previous step. Not used, as in hxtorch.
        v, i: membrane potential and synaptic current before the step; they broadcast to input's shape.
        input: of any shape, for instance (batch, neurons). The parameters broadcast to it.
        spikes_hw, membrane_hw: measured spikes and membrane potential of this step, of input's shape, or None.

    Returns:
        (z, v, i) after the step, of input's shape; v after the reset. v and i are float32 with half-precision input.
    """
    values = {"leak": leak, "reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    return _step("cuba_lif_step", v, i, input, spikes_hw, membrane_hw, values, method, alpha, dt)


def iaf_step(
    z: Tensor | None,
    v: Tensor,
    i: Tensor,
    input: Tensor,
    spikes_hw: Tensor | None,
    membrane_hw: Tensor | None,
    *,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    method: str,
    alpha: Value,
    dt: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """One time step of `cuba_iaf_integration`; arguments and result as `cuba_lif_step`, without a leak."""
    values = {"reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    return _step("iaf_step", v, i, input, spikes_hw, membrane_hw, values, method, alpha, dt)


def cuba_lif_integration(
    input: Tensor,
    *,
    leak: Value,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    method: str,
    alpha: Value,
    hw_data: HardwareData | None = None,
    dt: float = 1e-6,
    batch_first: bool = False,
) -> Trace:
    """Current-based leaky integrate-and-fire over a whole sequence, in one kernel.

    From v = leak, i = 0, each time step computes, in this order of operations::

        dv = dt / tau_mem * (leak - v + i)
        i = i * (1 - dt / tau_syn) + input          v sees the i of the previous step: a delay of dt
        v = dv + v                                  or membrane_cadc, if given
        z = [v - threshold > 0]                     or the measured spikes, if given
        v = (1 - z) * v + z * reset                 not with membrane_cadc; z detached

    Where hardware data replaces a computed value, the gradient goes to the computed one as if nothing had been
    replaced. Source: hxtorch's function of this name.

    Args:
        input: weighted spikes, (time, batch, neurons); any floating dtype (half types are computed in float32), any
            strides.
        leak, reset, threshold: potentials, in input's unit. A number, or a tensor of shape (), (1,) or (neurons,), with
            leading dimensions of 1 if need be, in input's dtype; float32 for half-precision input. One of shape () on
            the CPU goes with input on any device. Not taken, unlike in hxtorch: values that differ between items of the
            batch.
        tau_syn, tau_mem: time constants in seconds, above 0; as leak.
        method: "superspike"; "super_spike" is the same.
        alpha: steepness of the surrogate gradient, above 0; a number or a tensor of one element, without gradient.
        hw_data: (spikes, membrane_cadc, membrane_madc), each laid out as input or None: what the chip measured.
            Default: None. The sequence is as long as the shortest of input and the first two; the third is returned as
            it is.
        dt: time step in seconds. Default: 1e-6.
        batch_first: True for input and hardware data of (batch, time, neurons), and results of it. Default: False.

    Returns:
        (spikes, membrane, current, membrane_madc): the first three (time, batch, neurons) in input's dtype, membrane
        after the reset. Gradients flow from all three to input and to leak (also through the initial v), reset,
        threshold, tau_syn and tau_mem, where they are tensors.

    Raises:
        ValueError: another method; a time constant not above 0 (numbers and CPU tensors are checked: reading others
            would wait for the device); a shape that does not fit; hw_data of another length than 3; alpha or dt not
            above 0.
        TypeError: an argument of the wrong type or dtype.
    """
    values = {"leak": leak, "reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    return _integrate("cuba_lif_integration", input, values, method, alpha, hw_data, dt, batch_first)


def cuba_refractory_lif_integration(
    input: Tensor,
    *,
    leak: Value,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    refractory_time: Value,
    method: str,
    alpha: Value,
    hw_data: HardwareData | None = None,
    dt: float = 1e-6,
    batch_first: bool = False,
) -> Trace:
    """`cuba_lif_integration` with a refractory period: each step is followed by `refractory_update`, from ref_state =
    0.

    Args:
        refractory_time: seconds of rest after a spike, 0 or more; as leak. It gets no gradient.

    The other arguments, the result and the errors are those of `cuba_lif_integration`; a negative refractory_time is a
    ValueError under the same condition as a time constant. Source: hxtorch's function of this name, whose code lets v
    see the current of the previous step; its text says otherwise.
    """
    values = {"leak": leak, "reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    values["refractory_time"] = refractory_time
    return _integrate("cuba_refractory_lif_integration", input, values, method, alpha, hw_data, dt, batch_first)


def cuba_iaf_integration(
    input: Tensor,
    *,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    method: str,
    alpha: Value,
    hw_data: HardwareData | None = None,
    dt: float = 1e-6,
    batch_first: bool = False,
) -> Trace:
    """Current-based integrate-and-fire without a leak, over a whole sequence, in one kernel.

    As `cuba_lif_integration`, from v = reset and with::

        dv = dt / tau_mem * i
        i = i + (-dt / tau_syn * i) + input

    Arguments, result and errors as there. Source: hxtorch's function of this name.
    """
    values = {"reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    return _integrate("cuba_iaf_integration", input, values, method, alpha, hw_data, dt, batch_first)


def cuba_refractory_iaf_integration(
    input: Tensor,
    *,
    reset: Value,
    threshold: Value,
    tau_syn: Value,
    tau_mem: Value,
    refractory_time: Value,
    method: str,
    alpha: Value,
    hw_data: HardwareData | None = None,
    dt: float = 1e-6,
    batch_first: bool = False,
) -> Trace:
    """`cuba_iaf_integration` with a refractory period; refractory_time as in `cuba_refractory_lif_integration`."""
    values = {"reset": reset, "threshold": threshold, "tau_syn": tau_syn, "tau_mem": tau_mem}
    values["refractory_time"] = refractory_time
    return _integrate("cuba_refractory_iaf_integration", input, values, method, alpha, hw_data, dt, batch_first)


def cuba_li_integration(
    input: Tensor,
    *,
    leak: Value,
    tau_syn: Value,
    tau_mem: Value,
    hw_data: HardwareData | None = None,
    dt: float = 1e-6,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Leaky integrator, a readout that does not spike, over a whole sequence, in one kernel.

    From v = leak, i = 0, each time step computes::

        v = v + dt / tau_mem * (leak - v + i)       or membrane_cadc, if given: the gradient goes to the computed v
        i = i + (-dt / tau_syn * i) + input

    Args:
        hw_data: (membrane_cadc, membrane_madc), as hxtorch's code takes it, or (None, membrane_cadc, membrane_madc), as
            its text says (the first entry is not used). The sequence is as long as the shorter of input and
            membrane_cadc.
        input, leak, tau_syn, tau_mem, dt, batch_first: as in `cuba_lif_integration`.

    Returns:
        (membrane, current, membrane_madc), the first two laid out as input, in its dtype; membrane_madc as it was
        given.

    Raises:
        ValueError, TypeError: as `cuba_lif_integration`; hw_data of another length than 2 or 3.

    Source: hxtorch's function of this name.
    """
    op = "cuba_li_integration"
    dt = check_dt(op, dt)
    pair = isinstance(hw_data, (tuple, list)) and len(hw_data) == 2
    *_, cadc, madc = _observables(op, hw_data, _OBSERVABLES[1:] if pair else _OBSERVABLES)
    input, _, cadc = _sequences(op, input, None, cadc, batch_first)
    shape = input.shape[2:]
    rest = aligned(op, "leak", leak, input, shape)
    result = functional.li(
        input,
        rate_mem=_rate(op, "tau_mem", tau_mem, input, shape, dt),
        rate_syn=_rate(op, "tau_syn", tau_syn, input, shape, dt),
        leak=rest,
        membrane_hw=cadc,
        synapse_update="membrane_first_increment",
        state=(rest.expand(_states_shape(input, batch_first)),),
        record=("i",),
        batch_first=batch_first,
    )
    return result.v, result.records["i"], madc


_OBSERVABLES = ("spikes", "membrane_cadc", "membrane_madc")


def _surrogate(op: str, method: object, alpha: Value) -> SuperSpike:
    if method not in ("superspike", "super_spike"):
        raise ValueError(f"{op}: method is {method!r}, expected 'superspike'")
    return SuperSpike(alpha)  # type: ignore[arg-type]  # it takes a tensor of one element too


def _observables(op: str, hw_data: HardwareData | None, names: Sequence[str]) -> list[Tensor | None]:
    if hw_data is None:
        return [None] * len(names)
    if not isinstance(hw_data, (tuple, list)) or len(hw_data) != len(names):
        got = f"a {type(hw_data).__name__}" + (f" of {len(hw_data)}" if isinstance(hw_data, (tuple, list)) else "")
        raise ValueError(f"{op}: hw_data is {got}, expected a tuple ({', '.join(names)}), each a tensor or None")
    for name, data in zip(names, hw_data, strict=True):
        if data is not None and not isinstance(data, Tensor):
            raise TypeError(f"{op}: {name} of hw_data is a {type(data).__name__}, expected a tensor or None")
    return list(hw_data)


def _sequences(
    op: str, input: object, spikes: Tensor | None, cadc: Tensor | None, batch_first: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The input and the hardware's traces, all as long as the shortest of them."""
    order, time = ("(batch, time, neurons)", 1) if batch_first else ("(time, batch, neurons)", 0)
    input = checked_input(op, "input", input)
    for name, data in (("input", input), ("spikes of hw_data", spikes), ("membrane_cadc of hw_data", cadc)):
        if data is None or (
            data.dim() == 3 and (data.shape[1 - time], data.shape[2]) == (input.shape[1 - time], input.shape[2])
        ):
            continue
        fitting = "" if name == "input" else f" with batch and neurons of input, {tuple(input.shape)}"
        raise ValueError(f"{op}: {name} has shape {tuple(data.shape)}, expected {order}{fitting}")
    given = [data for data in (input, spikes, cadc) if data is not None]
    steps = min([data.shape[time] for data in given])
    if all([data.shape[time] == steps for data in given]):
        return input, spikes, cadc  # a slice's backward pass would copy the whole gradient
    spikes, cadc = (None if data is None else data.narrow(time, 0, steps) for data in (spikes, cadc))
    return input.narrow(time, 0, steps), spikes, cadc


def _states_shape(input: Tensor, batch_first: bool) -> tuple[int, ...]:
    return (input.shape[0 if batch_first else 1], *input.shape[2:])


def _rate(
    op: str, name: str, tau: Value, input: Tensor, shape: Sequence[int], dt: float, complement: bool = False
) -> Tensor:
    """dt / tau, the fraction that leaks per step, rounded as the plain loop would.

    The plain loop divides a number in double precision, and computes its 1 - dt/tau in double precision too. With
    `complement` the rate is chosen so that 1 - rate is that value in input's precision (exactly so as long as tau >= 2
    dt).
    """
    check_range(op, name, tau, zero=False)
    if isinstance(tau, Tensor):
        if tau.dtype == compute_dtype(input) and is_constant(tau):
            return constants(input, _quotient(dt, tau.item(), tau.dtype))[0]
        return dt / aligned(op, name, tau, input, shape)
    if complement:
        return constants(input, _complement(1 - dt / tau, compute_dtype(input)))[0]
    return aligned(op, name, dt / tau, input, shape)


@functools.lru_cache(maxsize=256)
def _quotient(dt: float, tau: float, dtype: torch.dtype) -> float:
    """dt / tau as PyTorch rounds it for a tensor tau of this dtype."""
    quotient: float = (dt / torch.tensor(tau, dtype=dtype, device="cpu")).item()
    return quotient


@functools.lru_cache(maxsize=256)
def _complement(value: float, dtype: torch.dtype) -> float:
    """1 - value as PyTorch rounds it for a tensor of this dtype."""
    complement: float = (1 - torch.tensor(value, dtype=dtype, device="cpu")).item()
    return complement


POTENTIALS = {"leak": "leak", "reset": "reset_value", "threshold": "threshold"}
"""The parameters in hxtorch's names and ours."""


def _parameters(
    op: str, input: Tensor, shape: Sequence[int], values: Mapping[str, Value], method: str, alpha: Value, dt: float
) -> dict[str, Any]:
    """What a LIF, or an IAF if `values` has no leak, passes to `functional.euler_lif`, for one step and for a
    sequence."""
    leaky = "leak" in values
    given = {
        native: aligned(op, name, values[name], input, shape) for name, native in POTENTIALS.items() if name in values
    }
    if "refractory_time" in values:
        check_range(op, "refractory_time", values["refractory_time"], zero=True)
        given["refractory"] = aligned(op, "refractory_time", values["refractory_time"], input, shape) / dt
    return {
        **given,
        "rate_mem": _rate(op, "tau_mem", values["tau_mem"], input, shape, dt),
        "rate_syn": _rate(op, "tau_syn", values["tau_syn"], input, shape, dt, complement=leaky),
        "synapse_update": "membrane_first" if leaky else "membrane_first_increment",
        "leaky": leaky,
        "surrogate": _surrogate(op, method, alpha),
    }


def _integrate(
    op: str,
    input: Tensor,
    values: Mapping[str, Value],
    method: str,
    alpha: Value,
    hw_data: HardwareData | None,
    dt: float,
    batch_first: bool,
) -> Trace:
    dt = check_dt(op, dt)
    spikes_hw, membrane_cadc, membrane_madc = _observables(op, hw_data, _OBSERVABLES)
    input, spikes_hw, membrane_cadc = _sequences(op, input, spikes_hw, membrane_cadc, batch_first)
    given = _parameters(op, input, input.shape[2:], values, method, alpha, dt)
    rest: Tensor = given["leak" if "leak" in values else "reset_value"]
    result = functional.euler_lif(
        input,
        **given,
        spikes_hw=spikes_hw,
        membrane_hw=membrane_cadc,
        state=(rest.expand(_states_shape(input, batch_first)),),
        record=("v", "i"),
        batch_first=batch_first,
    )
    return result.spikes, result.records["v"], result.records["i"], membrane_madc


def _step(
    op: str,
    v: Tensor,
    i: Tensor,
    input: Tensor,
    spikes_hw: Tensor | None,
    membrane_hw: Tensor | None,
    values: Mapping[str, Value],
    method: str,
    alpha: Value,
    dt: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs a sequence of one step with a batch of one, whose neurons have input's shape, so that everything may
    broadcast to it."""
    dt = check_dt(op, dt)
    input = checked_input(op, "input", input)
    shape = input.shape
    for name, data in (("spikes_hw", spikes_hw), ("membrane_hw", membrane_hw)):
        if data is not None and not isinstance(data, Tensor):
            raise TypeError(f"{op}: {name} is a {type(data).__name__}, expected a tensor or None")
        if data is not None and data.shape != shape:
            raise ValueError(f"{op}: {name} has shape {tuple(data.shape)}, expected input's, {tuple(shape)}")
    result = functional.euler_lif(
        input[None, None],
        **_parameters(op, input, shape, values, method, alpha, dt),
        spikes_hw=None if spikes_hw is None else spikes_hw[None, None],
        membrane_hw=None if membrane_hw is None else membrane_hw[None, None],
        state=(expanded(op, "v", v, input, shape)[None], expanded(op, "i", i, input, shape)[None]),
    )
    last_v, last_i = result.state.v, result.state.i
    assert last_v is not None
    assert last_i is not None
    return result.spikes[0, 0], last_v[0], last_i[0]

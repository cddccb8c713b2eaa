"""Converts norse's arguments, which broadcast and promote, into what the kernels take."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..._check import constant
from ...surrogate import Gaussian, SuperSpike, Surrogate, Triangle
from .._broadcast import aligned, check_value, checked_input, expanded, is_number
from .tuples import LIFParameters


def given(op: str, state: Any) -> Any:
    if state is None:
        raise TypeError(f"{op}: state is None, expected the state before the step")
    return state


def current(op: str, x: Any, state: Any, dims: int) -> Tensor:
    """The input as a floating tensor. Booleans and integers are added to the state in norse, and so take its dtype."""
    if isinstance(x, Tensor) and not x.is_floating_point() and not x.is_complex():
        beside = [s.dtype for s in (state or ()) if isinstance(s, Tensor) and s.dim() and s.is_floating_point()]
        x = x.to(functools.reduce(torch.promote_types, beside) if beside else torch.float32)
    return checked_input(op, "the input", x, dims)


def weighted(op: str, x: Any, weights: Tensor) -> Tensor:
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.dim() and x.layout is torch.strided):
        x = checked_input(op, "the input", x, 1)
    if weights.dim() != 2 or weights.size(1) != x.size(-1):
        expected = f"(neurons, {x.shape[-1]}) for an input of {tuple(x.shape)}"
        raise ValueError(f"{op}: input_weights has shape {tuple(weights.shape)}, expected {expected}")
    return nn.functional.linear(x, weights)


def check_recurrent(op: str, weights: Tensor, neurons: int) -> None:
    if tuple(weights.shape) != (neurons, neurons):
        raise ValueError(f"{op}: recurrent_weights has shape {tuple(weights.shape)}, expected {(neurons, neurons)}")


def field(op: str, p: Any, name: str) -> Any:
    if not hasattr(p, name):
        raise TypeError(f"{op}: p is a {type(p).__name__} without {name}, expected an object with norse's fields")
    return getattr(p, name)


def parameter(op: str, p: Any, name: str, x: Tensor, shape: Sequence[int], factor: float = 1) -> Tensor:
    """factor * the parameter, evaluated as norse does: in the parameter's precision."""
    value = field(op, p, name)
    check_value(op, name, value)
    return aligned(op, name, value if factor == 1 else factor * value, x, shape, promote=True)


def initial(op: str, state: Any, names: Sequence[str], p: Any, x: Tensor, shape: Sequence[int]) -> list[Tensor | None]:
    """The states before the first step, of this shape."""
    if state is None:
        rest: Tensor | None = parameter(op, p, "v_leak", x, shape).detach().expand(tuple(shape))
        return [rest if name == "v" else None for name in names]
    missing = [name for name in names if not isinstance(getattr(state, name, None), Tensor)]
    if missing:
        raise TypeError(
            f"{op}: state is a {type(state).__name__} without a tensor {missing[0]}, expected ({', '.join(names)})"
        )
    return [expanded(op, f"the state {name}", getattr(state, name), x, shape, promote=True) for name in names]


def _fused(op: str, method: str, alpha: float) -> Surrogate:
    if method == "super":
        return SuperSpike(1.0)
    if method == "heaviside":
        # A peak so far from every membrane potential that the gradient is exactly zero.
        return Gaussian(mu=1e30, sigma=1.0)
    if not 0 < alpha < math.inf:
        raise ValueError(f"{op}: alpha is {alpha:g}, expected a finite number above 0 with method={method!r}")
    return Triangle(1.0, alpha) if method == "triangle" else Gaussian(0.0, 1 / (math.sqrt(2) * alpha), 2 / alpha)


# A cell asks in every step; a surrogate is frozen, so it can be used again.
_remembered = functools.lru_cache(maxsize=256)(_fused)

METHODS = ("super", "triangle", "heavi_erfc", "heaviside")
WITHOUT_ALPHA = ("super", "heaviside")


def surrogate(op: str, p: Any) -> Surrogate:
    """The surrogate gradient that p.method and p.alpha name."""
    method, alpha = field(op, p, "method"), field(op, p, "alpha")
    if isinstance(method, Surrogate):
        return method
    if isinstance(method, str) and method in METHODS:
        make = _fused if torch.compiler.is_compiling() else _remembered
        if method in WITHOUT_ALPHA and isinstance(alpha, Tensor) and alpha.numel() == 1 and not alpha.requires_grad:
            alpha = 0.0  # not read, because that would wait for a GPU: norse's own alpha is a tensor
        return make(op, method, float(alpha) if is_number(alpha) else constant(op, "alpha", alpha))
    fused = ", ".join(map(repr, METHODS))
    if method in ("tanh", "circ", "adjoint"):
        raise NotImplementedError(
            f"{op}: method is {method!r}, which the kernel does not have; expected one of {fused}"
        )
    raise ValueError(f"{op}: method is {method!r}, expected one of {fused}")


def tensors(op: str, p: Any) -> LIFParameters:
    """p with tensors instead of numbers, after a check of its method."""
    surrogate(op, p)
    values = {name: field(op, p, name) for name in LIFParameters._fields}
    for name in LIFParameters._fields[:5]:
        check_value(op, name, values[name])
        if not isinstance(values[name], Tensor):
            tensor = torch.as_tensor(values[name])
            values[name] = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    return LIFParameters(**values)


RATES = {"rate_mem": "tau_mem_inv", "rate_syn": "tau_syn_inv"}
POTENTIALS = {"leak": "v_leak", "threshold": "v_th", "reset_value": "v_reset"}
"""Names of the kernels' parameters and of norse's fields. A rate is dt times norse's field."""


def lif_parameters(op: str, p: Any, dt: float, x: Tensor, shape: Sequence[int]) -> dict[str, Any]:
    potentials = {name: parameter(op, p, theirs, x, shape) for name, theirs in POTENTIALS.items()}
    return {
        **potentials,
        **{name: parameter(op, p, theirs, x, shape, dt) for name, theirs in RATES.items()},
        "synapse_update": "input_first",
        "surrogate": surrogate(op, p),
        "batch_first": False,
    }

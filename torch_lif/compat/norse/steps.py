"""One time step of norse's neurons: what a cell computes in a call.

A cell is called once per time step from a loop in Python, so most of the time goes into what surrounds the kernel.
Hence the short cuts: the batch of the step is the kernel's batch, constants are looked up, and the functions of
`torch_lif.functional` are not called, because they would check again what has been checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..._call import call, constants
from ...surrogate import Surrogate
from .._broadcast import check_dt
from .arguments import check_recurrent, current, field, initial, parameter, surrogate
from .kernels import DETACHED_KIND, FACTORED, LI_KIND, LIF_KIND, Kind, fixed_params, numbers
from .sequences import lif_recurrent_all
from .tuples import LIFFeedForwardState, LIFState, LIState


def _simple(kind: Kind, x: Tensor, v: Any, i: Any, p: Any, dt: float) -> list[float] | None:
    """The kernel's parameters for what most cells are given: states as they were returned, on x's device, each
    parameter one number on the CPU without gradient. None in every other case, and so for every wrong argument."""
    dtype, shape = x.dtype, x.shape
    if (
        torch.compiler.is_compiling()
        or type(v) is not Tensor
        or type(i) is not Tensor
        or not (x.device == v.device == i.device)
        or not (v.dtype is i.dtype is dtype)
        or (dtype is not torch.float32 and dtype is not torch.float64)
        or not (v.shape == i.shape == shape)
        or len(shape) < 2
    ):
        return None
    return numbers(kind, p, dt)


def _call(
    kind: Kind, x: Tensor, v: Tensor, i: Tensor | None, params: Sequence[Tensor | None], rule: Surrogate | None
) -> Sequence[Tensor]:
    """The kernel for one step x of (batch, *neurons): its output, (1, batch, *neurons), and the states."""
    return call(
        kind.op,
        (x[None], *kind.no_inputs),
        params,
        (v, i, *kind.no_states),
        kind.options,
        rule.name if rule else "",
        rule.values if rule else (),
        False,
        0,
        False,
        kind.no_record,
        "",
    )


def _any(kind: Kind, op: str, x: Tensor, v: Any, i: Any, p: Any, dt: float, rule: Surrogate | None) -> Sequence[Tensor]:
    """The kernel for one step as `_call` runs it, for everything that broadcasts, every device and dtype. With v None,
    v starts at v_leak and i at zero."""
    # The first dimension is the kernel's batch if no parameter has values along it; else the whole step is one item's
    # neurons.
    dims = x.dim()
    batched = dims > 1 and not any(getattr(field(op, p, name), "ndim", 0) >= dims for name in kind.fields)
    shape = x.shape[1:] if batched else x.shape
    params = [parameter(op, p, name, x, shape, dt if name in FACTORED else 1.0) for name in kind.fields]
    if v is None:
        v = params[kind.fields.index("v_leak")].detach().expand(x.shape)
    lists = (*params, *kind.no_params)
    if batched:
        return _call(kind, x, v, i, lists, rule)
    out, v, i, *_ = _call(kind, x[None], v[None], None if i is None else i[None], lists, rule)
    return out.squeeze(0), v.squeeze(0), i.squeeze(0)


def _states(state: Any, p: Any, x: Tensor) -> tuple[Any, Any]:
    """v and i as they were given, or at rest if the rest is one number on the CPU; None where `_any` has to find
    them."""
    if state is not None:
        return getattr(state, "v", None), getattr(state, "i", None)
    rest = getattr(p, "v_leak", None)
    if torch.compiler.is_compiling() or not isinstance(rest, Tensor) or rest.dim() or not rest.is_cpu:
        return None, None
    return torch.full_like(x, rest.item(), requires_grad=False), torch.zeros_like(x, requires_grad=False)


IN_PYTORCH = 1 << 12
"""With this many values in a step or more, a leaky integrator's seven operations in PyTorch are faster than the kernel:
they can work in place, while the kernel returns v twice."""


def li_one(op: str, x: Any, state: Any, p: Any, dt: float, checked: bool = False) -> tuple[Tensor, LIState]:
    """x: the input; `checked`: it has gone through the input weights and need not be checked."""
    dt, x = check_dt(op, dt), x if checked else current(op, x, state, 0)
    v, i = _states(state, p, x)
    values = _simple(LI_KIND, x, v, i, p, dt)
    if values is None:
        v, i = (None, None) if state is None else initial(op, state, ("v", "i"), None, x, x.shape)
        out, v, i, *_ = _any(LI_KIND, op, x, v, i, p, dt, None)
        # The output is v itself. If they were two tensors, the backward pass would add up their gradients.
        return v if v.dtype is x.dtype else out.squeeze(0), LIState(v, i)
    if x.is_cpu and not torch.is_grad_enabled() and x.numel() < IN_PYTORCH:
        _, v, i, *_ = _call(LI_KIND, x, v, i, fixed_params(LI_KIND, x, values), None)
        return v, LIState(v, i)
    # norse's operations. A graph of them takes less time than the kernel's node does for one step.
    rate_mem, minus_rate_syn, leak = constants(x, values[0], -values[1], values[2])
    j = i + x
    v = (leak - v).add_(j).mul_(rate_mem).add_(v)
    return v, LIState(v, (j * minus_rate_syn).add_(j))


def lif_one(op: str, x: Any, state: Any, p: Any, dt: float) -> tuple[Tensor, LIFFeedForwardState]:
    dt, x, rule = check_dt(op, dt), current(op, x, state, 0), surrogate(op, p)
    v, i = _states(state, p, x)
    values = _simple(LIF_KIND, x, v, i, p, dt)
    if values is None:
        v, i = (None, None) if state is None else initial(op, state, ("v", "i"), None, x, x.shape)
        z, v, i, *_ = _any(LIF_KIND, op, x, v, i, p, dt, rule)
    else:
        z, v, i, *_ = _call(LIF_KIND, x, v, i, fixed_params(LIF_KIND, x, values), rule)
    return z.squeeze(0), LIFFeedForwardState(v, i)


def without_diagonal(weights: Tensor) -> Tensor:
    """The weights with zeros from each neuron to itself. If they have these zeros already, they are on the CPU and no
    graph is recorded, the weights themselves are returned, because a copy costs as much as a product with them."""
    cleared = weights.detach()
    if not weights.is_cpu or torch.compiler.is_compiling() or bool(cleared.diagonal().any()):
        cleared = cleared.clone().fill_diagonal_(0.0)
    if not (torch.is_grad_enabled() and weights.requires_grad):
        return cleared
    return weights.masked_fill(torch.eye(len(weights), dtype=torch.bool, device=weights.device), 0.0)


class _LinearWithoutDiagonal(torch.autograd.Function):
    """linear(z, weights) without the weights' diagonal, which gets no gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(z, weights)
        return nn.functional.linear(z, without_diagonal(weights))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        z, weights = ctx.saved_tensors
        to_z = grad @ without_diagonal(weights) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_z, None
        return to_z, (grad.reshape(-1, grad.shape[-1]).t() @ z.reshape(-1, z.shape[-1])).fill_diagonal_(0.0)


def _recurrent_input(z: Tensor, weights: Tensor, autapses: bool) -> Tensor:
    if autapses:
        return nn.functional.linear(z, weights)
    if not (torch.is_grad_enabled() and weights.requires_grad) or torch.compiler.is_compiling():
        return nn.functional.linear(z, without_diagonal(weights))
    return _LinearWithoutDiagonal.apply(z, weights)


def lif_recurrent_one(
    op: str, x: Tensor, state: Any, weights: Tensor, p: Any, dt: float, autapses: bool = True
) -> tuple[Tensor, LIFState]:
    """x, (..., neurons), is the input after the input weights. One step needs no loop: a product in PyTorch, beside the
    kernel without recurrence, keeps norse's order of operations."""
    if (
        x.dtype not in (torch.float32, torch.float64)
        or x.dtype != weights.dtype
        or torch.is_autocast_enabled(x.device.type)
    ):
        # Half types: the kernel computes this product in float32.
        weights = weights if autapses else without_diagonal(weights)
        z, last = lif_recurrent_all(op, x[None], state, weights, p, dt)
        return z[0], last
    dt = check_dt(op, dt)
    check_recurrent(op, weights, x.shape[-1])
    if state is None:
        z, (v, _), i = torch.zeros_like(x), _states(None, p, x), x
    else:
        z, v, i = cast(list[Tensor], initial(op, state, ("z", "v", "i"), None, x, x.shape))
        i = i + x
    x, rule = _recurrent_input(z, weights, autapses), surrogate(op, p)
    values = _simple(DETACHED_KIND, x, v, i, p, dt)
    if values is None:
        out, v, i, *_ = _any(DETACHED_KIND, op, x, v, i, p, dt, rule)
    else:
        out, v, i, *_ = _call(DETACHED_KIND, x, v, i, fixed_params(DETACHED_KIND, x, values), rule)
    out = out.squeeze(0)
    return out, LIFState(out, v, i)

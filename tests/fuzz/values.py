"""Tensors in every memory layout that PyTorch has, extreme numbers, and what a value looks like in a report."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

EXTREMES: tuple[float, ...] = (
    0.0,
    -0.0,
    1e38,
    -1e38,
    3.4e38,
    1e-38,
    -1e-45,
    1e-45,
    1e308,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
)
NOT_FINITE = (math.inf, -math.inf, math.nan)


class Subclass(Tensor):
    """A subclass of Tensor, which takes the long way through torch.ops."""


def sprinkled(t: Tensor, rng: Random, numbers: tuple[float, ...] = EXTREMES) -> Tensor:
    """A copy with a few values replaced by extreme ones."""
    flat = t.flatten().clone()
    for _ in range(rng.randint(1, 3) if flat.numel() else 0):
        extreme = torch.tensor(rng.choice(numbers), dtype=torch.float64)
        flat[rng.randrange(flat.numel())] = extreme.to(t.dtype)  # in a narrow type 1e308 becomes infinity
    return flat.reshape(t.shape)


def _permuted(t: Tensor, rng: Random) -> Tensor:
    order = rng.sample(range(t.dim()), t.dim())
    return t.permute(order).contiguous().permute([order.index(d) for d in range(t.dim())])


def _filled_into(view: Tensor, t: Tensor) -> Tensor:
    view.copy_(t)
    return view


def _gaps(t: Tensor, rng: Random) -> Tensor:
    """NaN stands in the gaps, so that a wrong stride shows."""
    sizes = list(t.shape) or [1]
    dim = rng.randrange(len(sizes))
    sizes[dim] = 2 * sizes[dim] + 1
    slices = [slice(None)] * len(sizes)
    slices[dim] = slice(1, None, 2)
    view = t.new_full(sizes, math.nan if t.dtype.is_floating_point else -1)[tuple(slices)]
    return _filled_into(view if t.dim() else view[0], t)


def _offset(t: Tensor, rng: Random) -> Tensor:
    start = rng.randint(1, 3)
    memory = t.new_full((t.numel() + 4,), math.nan if t.dtype.is_floating_point else -1)
    return _filled_into(memory[start : start + t.numel()].view(t.shape), t)


def _expanded(t: Tensor, rng: Random) -> Tensor:
    dims = [d for d in range(t.dim()) if t.shape[d]]
    for d in rng.sample(dims, rng.randint(1, len(dims))) if dims else ():
        t = t.narrow(d, 0, 1).expand([n if k == d else -1 for k, n in enumerate(t.shape)])
    return t


def _overlapping(t: Tensor, rng: Random) -> Tensor:
    """Elements share memory: sliding windows and worse."""
    if not t.numel():
        return t
    strides = [rng.randint(0, 3) for _ in t.shape]
    reach = 1 + sum((n - 1) * s for n, s in zip(t.shape, strides, strict=True))
    memory = t.flatten().repeat(-(-reach // t.numel()))[:reach].clone()
    return memory.as_strided(t.shape, strides)


def _odd_strides(t: Tensor, rng: Random) -> Tensor:
    """The strides of dimensions of size 1, which no address depends on, are enormous."""
    strides = [2**40 + 1 if n == 1 else s for n, s in zip(t.shape, t.contiguous().stride(), strict=True)]
    return t.contiguous().as_strided(t.shape, strides) if t.numel() else t


def _imaginary(t: Tensor, rng: Random) -> Tensor:
    if t.dtype not in (torch.float32, torch.float64):
        return torch._neg_view(-t)
    return torch.complex(torch.zeros_like(t), -t).conj().imag


def _zeros(t: Tensor, rng: Random) -> Tensor:
    return torch._efficientzerotensor(t.shape, dtype=t.dtype, device=t.device)


def _inference(t: Tensor, rng: Random) -> Tensor:
    with torch.inference_mode():
        return t.clone()


LAYOUTS: dict[str, Callable[[Tensor, Random], Tensor]] = {
    "permuted": _permuted,
    "gaps": _gaps,
    "offset": _offset,
    "expanded": _expanded,
    "overlapping": _overlapping,
    "odd strides": _odd_strides,
    "negative view": lambda t, rng: torch._neg_view(-t),
    "imaginary part": _imaginary,
    "no memory": _zeros,
    "inference": _inference,
    "parameter": lambda t, rng: nn.Parameter(t, requires_grad=False),
    "subclass": lambda t, rng: t.as_subclass(Subclass),
}


def laid_out(t: Tensor, rng: Random, without: tuple[str, ...] = ()) -> Tensor:
    """The tensor in a random layout; some of them change its values."""
    return LAYOUTS[rng.choice([name for name in LAYOUTS if name not in without])](t, rng)


def readable(t: Tensor) -> bool:
    """Whether it is an ordinary dense tensor whose values all lie within its storage."""
    if t.layout is not torch.strided or t.is_quantized or t.is_nested or t.is_meta:
        return False
    if t._is_zerotensor() or not t.numel():
        return True
    reach = t.storage_offset() + 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    return reach * t.itemsize <= t.untyped_storage().nbytes()


def plain(value: Any) -> Any:
    """The same values as an ordinary contiguous tensor with its own memory; containers of tensors likewise; everything
    else unchanged."""
    if isinstance(value, Tensor):
        if not readable(value):
            return value
        ordinary = value.detach().as_subclass(Tensor)
        return torch.empty(ordinary.shape, dtype=ordinary.dtype, device=ordinary.device).copy_(ordinary)
    if type(value) in (list, tuple):
        return type(value)(plain(entry) for entry in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    return value


def double_of(value: Any) -> Any:
    """A tensor, or each tensor of a state, in float64."""
    if isinstance(value, Tensor) and value.dtype.is_floating_point:
        return value.detach().double()
    return tuple(map(double_of, value)) if isinstance(value, tuple) else value


def changed(before: Any, after: Any) -> bool:
    """Whether a value that was given to a call is no longer what it was."""
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        if not (readable(before) and readable(after)):
            return False
        a, b = plain(before), plain(after)
        return a.shape != b.shape or not bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) != len(after) or any(map(changed, before, after))
    return False


def described(value: Any) -> str:
    """One line for a report: for a tensor its kind, where its elements lie, and its values if they are few."""
    if isinstance(value, Tensor):
        kind = type(value).__name__ if type(value) is not Tensor else "tensor"
        parts = [
            f"{kind} {tuple(value.shape) if not value.is_nested else 'nested'}",
            str(value.dtype).removeprefix("torch."),
        ]
        if value.layout is not torch.strided:
            return ", ".join([*parts, str(value.layout)])
        if not value.is_nested:
            parts.append(f"strides {value.stride()}")
        parts += [f"offset {value.storage_offset()}"] if not value._is_zerotensor() and value.storage_offset() else []
        parts += [str(value.device)] if value.device.type != "cpu" else []
        flags = (
            ("negative bit", value.is_neg()),
            ("no memory", value._is_zerotensor()),
            ("inference", value.is_inference()),
            ("requires grad", value.requires_grad),
        )
        parts += [name for name, is_so in flags if is_so]
        if not value.is_nested and value.numel() <= 4 and readable(value):
            parts.append(str(plain(value).tolist()))
        return ", ".join(parts)
    if isinstance(value, (list, tuple)) and any(isinstance(entry, Tensor) for entry in value):
        return "(" + "; ".join(map(described, value)) + ")"
    return repr(value)[:200]

"""Converts arguments that other libraries' element-wise code takes into what the fused functions take.

In a plain loop a parameter may be a number or a tensor of any shape that broadcasts. The fused functions want tensors
of the input's dtype and device, with no dimension or as many as the neurons have.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._call import check_input, compute_dtype, constants

Value = Tensor | float


def checked_input(op: str, name: str, x: object, dims: int = 0) -> Tensor:
    """A dense floating tensor of at least `dims` dimensions."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{op}: {name} is a {type(x).__name__}, expected a tensor; convert it with torch.as_tensor({name})"
        )
    if not x.is_floating_point():
        expected = "float32, float64, bfloat16 or float16"
        raise TypeError(f"{op}: {name} is {x.dtype}, expected {expected}; convert it with {name}.float()")
    if x.dim() < dims:
        raise ValueError(f"{op}: {name} has shape {tuple(x.shape)}, expected time as its first dimension")
    return check_input(op, x)


def is_number(value: object) -> bool:
    """Whether it is a number of Python or NumPy. NumPy registers its numbers as `numbers.Real`, so NumPy need not be
    installed."""
    return type(value) is float or (isinstance(value, (int, numbers.Real)) and not isinstance(value, bool))


def check_dt(op: str, dt: object) -> float:
    if not is_number(dt) or not 0 < float(dt) < math.inf:  # type: ignore[arg-type]
        raise ValueError(f"{op}: dt is {dt!r}, expected a time step in seconds, above 0")
    return float(dt)  # type: ignore[arg-type]


def check_value(op: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor) and not is_number(value):
        raise TypeError(f"{op}: {name} is {value!r}, expected a number or a tensor")


def check_range(op: str, name: str, value: Value, *, zero: bool) -> None:
    """ValueError unless the value is above 0 (or 0, if `zero`). Numbers are read, and tensors on the CPU unless a graph
    is being traced. A tensor on another device is not read, because that would wait for the device."""
    check_value(op, name, value)
    if isinstance(value, Tensor):
        readable = (
            type(value) in (Tensor, nn.Parameter) and value.device.type == "cpu" and not torch.compiler.is_compiling()
        )
        lowest: Any = math.inf
        if readable and value.numel():
            lowest = value.item() if value.numel() == 1 else value.detach().min().item()
    else:
        lowest = value
    if not (lowest >= 0 if zero else lowest > 0):
        which = "the lowest value of " if isinstance(value, Tensor) and value.dim() else ""
        raise ValueError(f"{op}: {which}{name} is {lowest:g}, expected {'0 or more' if zero else 'above 0'}")


def is_constant(value: Tensor) -> bool:
    """Whether it is a single number on the CPU that takes no part in autograd, so that reading it waits for nothing and
    cuts nothing off."""
    return (
        not value.dim()
        and value.is_cpu
        and value.is_floating_point()
        and type(value) in (Tensor, nn.Parameter)
        and not (value.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
    )


def on_device(value: Tensor, x: Tensor) -> Tensor:
    """A tensor of no dimension in the dtype that x is computed in, on x's device. A number from the CPU is looked up by
    its value: a copy to a GPU in each call would take long, and a CUDA graph could not capture it."""
    compute = compute_dtype(x)
    if value.dtype == compute and value.device == x.device:
        return value
    return constants(x, value.item())[0] if is_constant(value) else value.to(device=x.device, dtype=compute)


def converted(op: str, name: str, value: Value, x: Tensor, promote: bool) -> Tensor:
    """The value in the dtype that x is computed in, on x's device.

    As in PyTorch's own arithmetic, a number and a tensor of shape () on the CPU go with x on any device. With `promote`
    the value's dtype follows PyTorch's rule as long as x's dtype stays: a tensor of shape () takes x's dtype, one with
    fewer bits is widened, exactly, and one of whole numbers takes x's dtype too.
    """
    check_value(op, name, value)
    compute = compute_dtype(x)
    if not isinstance(value, Tensor):
        return constants(x, float(value))[0]
    if value.dtype == compute and value.device == x.device:
        return value
    shared = value.dim() == 0
    if value.device != x.device and not (shared and value.device.type == "cpu"):
        move = f"move it with {name}.to({str(x.device)!r})"
        raise ValueError(f"{op}: {name} is on {value.device} but the input is on {x.device}; {move}")
    if value.dtype != compute:
        half = x.dtype != compute and value.dtype == x.dtype
        takes = value.dtype != torch.bool and not value.is_complex()
        widens = takes and torch.promote_types(value.dtype, compute) == compute
        if not half and not (promote and (widens or (shared and takes))):
            convert = "convert one of the two with .to(dtype)"
            raise TypeError(f"{op}: {name} is {value.dtype}, expected {compute} with an input of {x.dtype}; {convert}")
    return on_device(value, x) if shared else value.to(device=x.device, dtype=compute)


def aligned(op: str, name: str, value: Value, x: Tensor, shape: Sequence[int], *, promote: bool = False) -> Tensor:
    """A parameter with no dimension, or as many as `shape`, each of that size or 1; ValueError if it does not broadcast
    to it."""
    tensor = converted(op, name, value, x, promote)
    sizes = tuple(tensor.shape)
    if not sizes:
        return tensor
    missing = len(shape) - len(sizes)
    own = (1,) * missing + sizes if missing >= 0 else sizes[-missing:]
    if not all(n == 1 for n in sizes[: max(0, -missing)]) or any(
        n not in (1, m) for n, m in zip(own, shape, strict=True)
    ):
        raise ValueError(f"{op}: {name} has shape {sizes}, expected () or a shape that broadcasts to {tuple(shape)}")
    return tensor if own == sizes else tensor.reshape(own)


def expanded(op: str, name: str, value: Value, x: Tensor, shape: Sequence[int], *, promote: bool = False) -> Tensor:
    """An initial state of this shape, made from one that broadcasts to the shape."""
    tensor = aligned(op, name, value, x, shape, promote=promote)
    return tensor if tensor.shape == tuple(shape) else tensor.expand(tuple(shape))

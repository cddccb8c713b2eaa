"""Checks of plain arguments: numbers, flags, ranges. Each error names the argument, what came and what was expected."""

from __future__ import annotations

import math
import numbers
import operator
from typing import NamedTuple

import torch
from torch import Tensor


class Range(NamedTuple):
    """The values that a parameter may have: from `low` (that itself excluded if `open_low`) to `high`, infinity
    included unless `finite`."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    finite: bool = False

    def __str__(self) -> str:
        if self == ANY:
            return "that is not NaN"
        if self.high == math.inf:
            lowest = f"above {self.low:g}" if self.open_low else f"of {self.low:g} or more"
            return f"{lowest} and finite" if self.finite else lowest
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"

    def holds(self, value: float) -> bool:
        inside = self.low <= value <= self.high and not (self.open_low and value == self.low)
        return inside and not (self.finite and math.isinf(value))

    def holds_all(self, values: Tensor) -> bool:
        """Whether all values are in the range. It reads them, which waits for a GPU."""
        low, high = (
            torch.tensor(end, dtype=values.dtype, device=values.device) for end in (self.low, self.high)
        )  # as rounded
        inside = (values > low if self.open_low else values >= low) & (values <= high)
        return bool((inside & values.isfinite() if self.finite else inside).all())


ANY = Range()


def number(owner: str, name: str, value: object, expected: str = "a number") -> float:
    """A number of Python or numpy as a float; TypeError for anything else and for a bool."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, numbers.Real)):
        raise TypeError(f"{owner}: {name} is {value!r}, expected {expected}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{owner}: {name} is too large for a floating-point number, expected {expected}") from None


def constant(owner: str, name: str, value: object) -> float:
    """`value` as a number that takes no part in autograd; TypeError if it is not a number."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise TypeError(
                f"{owner}: {name} requires a gradient, but none flows to it; pass a number, or {name}.detach()"
            )
        if value.numel() == 1 and not value.is_meta and not value.is_complex():
            value = value.item()
    return number(owner, name, value)


def flag(owner: str, name: str, value: object) -> bool:
    """True or False, also numpy's; TypeError for other values, even if they are truthy or falsy."""
    if value is True or value is False:
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{owner}: {name} is {value!r}, expected True or False")


def whole_number(owner: str, name: str, value: object, low: int = 0, high: int = 2**31 - 1) -> int:
    """An integer of Python or numpy in this range."""
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{owner}: {name} is {value!r}, expected a whole number") from None
    if not low <= count <= high:
        expected = f"{low} or more" if count < low else f"at most {high}"
        raise ValueError(f"{owner}: {name} is {count}, expected {expected}")
    return count


def step(owner: str, name: str, value: object) -> float:
    """A time step in seconds."""
    seconds = number(owner, name, value, "a time step in seconds, above 0")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{owner}: {name} is {value!r}, expected a time step in seconds, above 0")
    return seconds


LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)}


def check_dtype(owner: str, dtype: object) -> None:
    if dtype is not None and (not isinstance(dtype, torch.dtype) or dtype not in LARGEST):
        raise TypeError(f"{owner}: dtype is {dtype!r}, expected torch.float32, float64, bfloat16 or float16")


def check_device(owner: str, device: object) -> None:
    try:
        torch.empty(0, device=device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        message = f"{owner}: device is {device!r}, expected one that is there, such as 'cpu' or torch.device('cuda', 0)"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from error


def fits(owner: str, name: str, value: float, dtype: torch.dtype) -> None:
    """ValueError for a finite number that the dtype does not hold."""
    if LARGEST[dtype] < abs(value) < math.inf:
        raise ValueError(
            f"{owner}: {name} is {value:g}, expected a number that {dtype} holds: at most {LARGEST[dtype]:g}"
        )

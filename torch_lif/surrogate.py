"""Surrogate gradients: what takes the place of a spike's derivative.

A surrogate is a small frozen object: parameters that cannot be trained, the id of its kernel, and the same formulas in plain
PyTorch, which the reference loops, the tests and plots use. The kernels' table is csrc/neuron/surrogate.h.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["PeriodicExponential", "StepPWL", "SuperSpike", "Surrogate"]


def constant(owner: str, name: str, value: object) -> float:
    """`value` as a number that takes no part in autograd; TypeError if it is none."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise TypeError(f"{owner}: {name} requires a gradient, but none flows to it; pass a number, or {name}.detach()")
        if value.numel() == 1:
            value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner}: {name} is {value!r}, expected a number")
    return float(value)


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """Base class. Subclasses are dataclasses whose fields are positive numbers, in the order of the kernels' table."""

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = constant(type(self).__name__, field.name, getattr(self, field.name))
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{type(self).__name__}: {field.name} is {value}, expected a finite number above 0")
            object.__setattr__(self, field.name, value)

    def parameters(self) -> list[float]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """The derivative by the membrane potential `v`, elementwise; `threshold` broadcasts against v."""
        raise TypeError(f"{type(self).__name__} is not a surrogate of its own")

    def threshold_derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """The derivative by the threshold; of a function of v - threshold it is the negative of that by v."""
        return -self.derivative(v, threshold, max_spikes)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """An antiderivative of `derivative` by v: what stands for the spike where `smooth=True` (gradient checks)."""
        raise TypeError(f"{type(self).__name__} is not a surrogate of its own")


@dataclasses.dataclass(frozen=True)
class StepPWL(Surrogate):
    """Piecewise linear with a step: 1/threshold wherever v >= threshold - window, else 0.

    Its derivative by the threshold is -v/threshold**2 in the same window. Source: Rockpool, `StepPWL` of lif_torch.py.

    Args:
        window: how far below the threshold the gradient begins, in the membrane's unit. Default: 0.5.
    """

    window: float = 0.5
    name: ClassVar[str] = "step_pwl"

    def _open(self, v: Tensor, threshold: Tensor) -> Tensor:
        return (v >= threshold - self.window).to(v.dtype)

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return 1 / threshold * self._open(v, threshold)

    def threshold_derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return -v / threshold**2 * self._open(v, threshold)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return torch.where(v >= threshold - self.window, v / threshold, 0.0)


@dataclasses.dataclass(frozen=True)
class PeriodicExponential(Surrogate):
    """An exponential round every multiple of the threshold, for neurons that spike several times a step.

    exp(-|q - threshold/2| / window) / threshold, where q is v - threshold/2 less its whole multiples of the threshold (at
    most max_spikes - 1 of them, none below the threshold); by the threshold: that times -v/threshold.
    Source: Rockpool, `PeriodicExponential` of lif_torch.py.

    Args:
        window: the exponential's width, in the membrane's unit. Default: 0.5.
    """

    window: float = 0.5
    name: ClassVar[str] = "periodic_exponential"

    def _offset(self, v: Tensor, threshold: Tensor, max_spikes: float) -> tuple[Tensor, Tensor]:
        shifted = v - threshold / 2
        periods = torch.where(v >= threshold, torch.floor(shifted / threshold).clamp(max=max_spikes - 1), 0.0)
        return shifted - periods * threshold - threshold / 2, periods

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        offset, _ = self._offset(v, threshold, max_spikes)
        return torch.exp(-offset.abs() / self.window) / threshold

    def threshold_derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return -self.derivative(v, threshold, max_spikes) * v / threshold

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        def integral(y: Tensor) -> Tensor:
            tail = self.window * torch.exp(-y.abs() / self.window)
            return torch.where(y < 0, tail, 2 * self.window - tail)

        offset, periods = self._offset(v, threshold, max_spikes)
        return (periods * (integral(threshold / 2) - integral(-threshold / 2)) + integral(offset)) / threshold


@dataclasses.dataclass(frozen=True)
class SuperSpike(Surrogate):
    """1 / (alpha |v - threshold| + 1)**2: the derivative of a fast sigmoid.

    Source: Zenke & Ganguli 2018, "SuperSpike", Neural Computation 30:1514-1541.

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 100, as in norse.
    """

    alpha: float = 100.0
    name: ClassVar[str] = "super_spike"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return 1 / (self.alpha * (v - threshold).abs() + 1) ** 2

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return (v - threshold) / (self.alpha * (v - threshold).abs() + 1)

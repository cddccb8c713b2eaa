"""Leaks of a neuron in three views: time constant, decay per step, bit shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._check import Range


def _exponential_decay(tau: Tensor, dt: float) -> Tensor:
    return torch.exp(tau.reciprocal() * -dt)  # the operations that PyTorch runs for -dt / tau, without its Python code


def _exponential_tau(decay: Tensor, dt: float) -> Tensor:
    return torch.abs(dt / torch.log(decay))  # abs, because the negative is -inf for a decay of 1


def _euler_decay(tau: Tensor, dt: float) -> Tensor:
    return 1 - dt / tau


def _euler_tau(decay: Tensor, dt: float) -> Tensor:
    return dt / (1 - decay)


class Views(NamedTuple):
    """How a leak's decay per step follows from a time constant tau (s) and a step dt (s), and back."""

    decay_from_tau: Callable[[Tensor, float], Tensor]
    tau_from_decay: Callable[[Tensor, float], Tensor]


EXPONENTIAL = Views(_exponential_decay, _exponential_tau)
"""The exact solution between steps: decay = exp(-dt/tau)."""
EULER = Views(_euler_decay, _euler_tau)
"""Forward Euler: decay = 1 - dt/tau."""

RANGES = {"tau": Range(0.0, open_low=True), "decay": Range(0.0, 1.0), "bitshift": Range(0.0)}
"""Allowed values of each view."""
DEFAULT_TAU = {"mem": 20e-3, "syn": 5e-3, "adapt": 200e-3}
"""Time constants in seconds of the membrane, the synapses and the adaptation, where none are given."""


class Leak(NamedTuple):
    """One leak of a module: the view that is its parameter, and the rule of its conversions."""

    stored: str
    views: Views

    def within(self, view: str, dt: float) -> Range:
        """The allowed values of a view. By forward Euler tau is at least dt: with less, more than everything would leak
        away."""
        return Range(dt) if view == "tau" and self.views is EULER else RANGES[view]

    def decay(self, value: Tensor, view: str, dt: float) -> Tensor:
        if view == "tau":
            return self.views.decay_from_tau(value, dt)
        return value if view == "decay" else 1 - 1 / 2**value

    def view(self, decay: Tensor, view: str, dt: float) -> Tensor:
        if view == "tau":
            return self.views.tau_from_decay(decay, dt)
        return decay if view == "decay" else -torch.log2(1 - decay)

    def convert(self, value: Tensor, source: str, target: str, dt: float) -> Tensor:
        return value if source == target else self.view(self.decay(value, source, dt), target, dt)

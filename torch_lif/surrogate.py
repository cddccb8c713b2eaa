"""Surrogate gradients: what replaces the derivative of a spike.

A surrogate is a small frozen object: parameters that cannot be trained, the name of its kernel, and the same formulas
in plain PyTorch, which the reference loops, the tests and the plots use. The kernels' table is csrc/neuron/surrogate.h.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ._check import constant, number

__all__ = [
    "ATan",
    "Erf",
    "FastSigmoid",
    "Gaussian",
    "Heaviside",
    "MultiGaussian",
    "PeriodicExponential",
    "Sigmoid",
    "SinabsPeriodicExponential",
    "SingleExponential",
    "SoftSign",
    "StepPWL",
    "SuperSpike",
    "Surrogate",
    "Triangle",
]


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """Base class. Subclasses are dataclasses whose fields are finite numbers, above 0 unless they are in `any_sign`.

    `name` is that of the kernel in csrc/neuron/surrogate.h; several classes may share one. A class that defines its own
    `derivative`, `threshold_derivative` or `smooth` but no `name` has no kernel. It runs only in the plain loops:
    `torch_lif.reference`, or a layer with backend="loop".
    """

    name: ClassVar[str] = ""
    any_sign: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        # The parent class's kernel would compute the parent's formulas.
        own = cls.__dict__
        if "name" not in own and any(formula in own for formula in ("derivative", "threshold_derivative", "smooth")):
            cls.name = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = constant(type(self).__name__, field.name, getattr(self, field.name))
            positive = field.name not in self.any_sign
            if not math.isfinite(value) or (positive and not value > 0):
                expected = "a finite number above 0" if positive else "a finite number"
                raise ValueError(f"{type(self).__name__}: {field.name} is {value}, expected {expected}")
            object.__setattr__(self, field.name, value)
        object.__setattr__(
            self, "_values", tuple(number(type(self).__name__, "parameters()", p) for p in self.parameters())
        )

    def parameters(self) -> list[float]:
        """The kernel's parameters, in the order of its table."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    @property
    def values(self) -> tuple[float, ...]:
        """`parameters`, computed once: a surrogate is frozen, and every call of a layer needs them."""
        return self.__dict__["_values"]

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """The derivative with respect to the membrane potential `v`, elementwise; `threshold` broadcasts against v."""
        raise TypeError(f"{type(self).__name__} is not a surrogate of its own")

    def threshold_derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """The derivative with respect to the threshold. For a function of v - threshold it is the negative of
        `derivative`."""
        return -self.derivative(v, threshold, max_spikes)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        """An antiderivative of `derivative` with respect to v. It replaces the spike with `smooth=True` (gradient
        checks)."""
        raise TypeError(f"{type(self).__name__} is not a surrogate of its own")


@dataclasses.dataclass(frozen=True)
class StepPWL(Surrogate):
    """Piecewise linear with a step: 1/threshold wherever v >= threshold - window, else 0.

    Its derivative with respect to the threshold is -v/threshold**2 in the same window. Source: Rockpool, `StepPWL` of
    lif_torch.py.

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
    """An exponential around every multiple of the threshold, for neurons that spike several times per step.

    exp(-|q - threshold/2| / window) / threshold, where q is v - threshold/2 less its whole multiples of the threshold
    (at most max_spikes - 1 of them, none below the threshold). The derivative with respect to the threshold is that
    times -v/threshold. Source: Rockpool, `PeriodicExponential` of lif_torch.py.

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
            return _laplace_integral(y, self.window)

        offset, periods = self._offset(v, threshold, max_spikes)
        return (periods * (integral(threshold / 2) - integral(-threshold / 2)) + integral(offset)) / threshold


class _FastSigmoidFamily(Surrogate):
    """scale / (alpha |v - threshold| + 1)**2, for the (alpha, scale) of `parameters`."""

    name: ClassVar[str] = "super_spike"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        alpha, scale = self.parameters()
        return scale / (alpha * (v - threshold).abs() + 1) ** 2

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        alpha, scale = self.parameters()
        return scale * (v - threshold) / (alpha * (v - threshold).abs() + 1)


@dataclasses.dataclass(frozen=True)
class SuperSpike(_FastSigmoidFamily):
    """1 / (alpha |v - threshold| + 1)**2: the derivative of a fast sigmoid.

    Source: Zenke & Ganguli 2018, "SuperSpike", Neural Computation 30:1514-1541; hxtorch and norse.

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 100, as in norse.
    """

    alpha: float = 100.0

    def parameters(self) -> list[float]:
        return [self.alpha, 1.0]


@dataclasses.dataclass(frozen=True)
class FastSigmoid(_FastSigmoidFamily):
    """1 / (slope |v - threshold| + 1)**2: `SuperSpike` with snnTorch's name and default.

    Source: snnTorch, `surrogate.fast_sigmoid`.

    Args:
        slope: steepness, in the inverse of the membrane's unit. Default: 25.
    """

    slope: float = 25.0

    def parameters(self) -> list[float]:
        return [self.slope, 1.0]


@dataclasses.dataclass(frozen=True)
class SoftSign(_FastSigmoidFamily):
    """alpha / 2 / (1 + alpha |v - threshold|)**2: the derivative of a soft sign between 0 and 1.

    Source: SpikingJelly, `surrogate.SoftSign`.

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 2.
    """

    alpha: float = 2.0

    def parameters(self) -> list[float]:
        return [self.alpha, self.alpha / 2]


def _laplace_integral(y: Tensor, width: Tensor | float) -> Tensor:
    """The integral of exp(-|y|/width) up to y."""
    tail = width * torch.exp(-y.abs() / width)
    return torch.where(y < 0, tail, 2 * width - tail)


@dataclasses.dataclass(frozen=True)
class SingleExponential(Surrogate):
    """scale / (threshold width) * exp(-|v - threshold| / (threshold width)).

    Source: sinabs, `SingleExponential`; Shrestha & Orchard 2018, "SLAYER", NeurIPS 31.

    Args:
        width: the exponential's width, in units of the threshold. Default: 0.5.
        scale: factor of the whole. Default: 1.
    """

    width: float = 0.5
    scale: float = 1.0
    name: ClassVar[str] = "single_exponential"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        width = threshold * self.width
        return self.scale / width * torch.exp(-(v - threshold).abs() / width)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        width = threshold * self.width
        return self.scale / width * _laplace_integral(v - threshold, width)


def _normal_density(x: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def _normal_integral(x: Tensor, mean: float, deviation: float) -> Tensor:
    return 0.5 * (1 + torch.erf((x - mean) / (deviation * math.sqrt(2))))


class _GaussianFamily(Surrogate):
    """scale * N(v - threshold; mu, sigma), for the (mu, sigma, scale) of `parameters`."""

    name: ClassVar[str] = "gaussian"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        mu, sigma, scale = self.parameters()
        return scale * _normal_density(v - threshold, mu, sigma)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        mu, sigma, scale = self.parameters()
        return scale * _normal_integral(v - threshold, mu, sigma)


@dataclasses.dataclass(frozen=True)
class Gaussian(_GaussianFamily):
    """scale * N(v - threshold; mu, sigma), the density of a normal distribution.

    Source: sinabs, `Gaussian`.

    Args:
        mu: mean, in the membrane's unit. Default: 0.
        sigma: standard deviation, in the membrane's unit. Default: 0.5.
        scale: factor of the whole. Default: 1.
    """

    mu: float = 0.0
    sigma: float = 0.5
    scale: float = 1.0
    any_sign: ClassVar[tuple[str, ...]] = ("mu",)


@dataclasses.dataclass(frozen=True)
class Erf(_GaussianFamily):
    """alpha / sqrt(pi) * exp(-(alpha (v - threshold))**2): the derivative of an error function between 0 and 1.

    Source: SpikingJelly, `surrogate.Erf`.

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 2.
    """

    alpha: float = 2.0

    def parameters(self) -> list[float]:
        return [0.0, 1 / (math.sqrt(2) * self.alpha), 1.0]


@dataclasses.dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """scale * ((1 + h) N(x; mu, sigma) - h N(x; sigma, s sigma) - h N(x; -sigma, s sigma)), x = v - threshold.

    Source: sinabs, `MultiGaussian`; Yin, Corradi & Bohte 2021, Nature Machine Intelligence 3:905-913.

    Args:
        mu: mean of the positive peak, in the membrane's unit. Default: 0.
        sigma: standard deviation of the positive peak, in the membrane's unit. Default: 0.5.
        h: weight of the two negative peaks. Default: 0.15.
        s: how many times as wide the negative peaks are. Default: 6.
        scale: factor of the whole. Default: 1.
    """

    mu: float = 0.0
    sigma: float = 0.5
    h: float = 0.15
    s: float = 6.0
    scale: float = 1.0
    name: ClassVar[str] = "multi_gaussian"
    any_sign: ClassVar[tuple[str, ...]] = ("mu", "h")

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        x, wide = v - threshold, self.s * self.sigma
        sides = _normal_density(x, self.sigma, wide) + _normal_density(x, -self.sigma, wide)
        return self.scale * ((1 + self.h) * _normal_density(x, self.mu, self.sigma) - self.h * sides)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        x, wide = v - threshold, self.s * self.sigma
        sides = _normal_integral(x, self.sigma, wide) + _normal_integral(x, -self.sigma, wide)
        return self.scale * ((1 + self.h) * _normal_integral(x, self.mu, self.sigma) - self.h * sides)


@dataclasses.dataclass(frozen=True)
class Heaviside(Surrogate):
    """1/threshold wherever v >= threshold - window, else 0.

    With respect to v this is `StepPWL`; with respect to the threshold it is the negative of that. Source: sinabs,
    `Heaviside`.

    Args:
        window: how far below the threshold the gradient begins, in the membrane's unit. Default: 1.
    """

    window: float = 1.0
    name: ClassVar[str] = "heaviside"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return (v >= threshold - self.window).to(v.dtype) / threshold

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        lowest = threshold - self.window
        return torch.where(v >= lowest, (v - lowest) / threshold, 0.0)


@dataclasses.dataclass(frozen=True)
class SinabsPeriodicExponential(Surrogate):
    """sinabs' surrogate named PeriodicExponential: scale * exp(-|p| / width).

    p is v - threshold below the threshold; above it, with r = v/threshold - 1/2, threshold * (2 (r - floor r) - 1):
    twice the distance to the nearest multiple of the threshold. Unlike Rockpool's `PeriodicExponential` it is not
    divided by the threshold. Source: sinabs, `PeriodicExponential`; Weidel & Sheik 2021, "WaveSense", arXiv:2111.01456.

    Args:
        width: the exponential's width, in the membrane's unit. Default: 0.5.
        scale: factor of the whole. Default: 1.
    """

    width: float = 0.5
    scale: float = 1.0
    name: ClassVar[str] = "sinabs_periodic_exponential"

    def _distance(self, v: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        r = v / threshold - 0.5
        periods = torch.floor(r)
        return torch.where(v >= threshold, threshold * (2 * (r - periods) - 1), v - threshold), periods

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        distance, _ = self._distance(v, threshold)
        return self.scale * torch.exp(-distance.abs() / self.width)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        distance, periods = self._distance(v, threshold)
        integral = _laplace_integral(distance, self.width)
        period = _laplace_integral(threshold, self.width) - _laplace_integral(-threshold, self.width)
        above = self.width + 0.5 * ((integral - self.width) + periods * period)
        return self.scale * torch.where(v >= threshold, above, integral)


@dataclasses.dataclass(frozen=True)
class ATan(Surrogate):
    """alpha / 2 / (1 + (pi/2 alpha (v - threshold))**2): the derivative of an arctangent between 0 and 1.

    Source: SpikingJelly, `surrogate.ATan`; snnTorch, `surrogate.atan`; Fang et al. 2021, ICCV, "Incorporating learnable
    membrane time constant to enhance learning of spiking neural networks".

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 2.
    """

    alpha: float = 2.0
    name: ClassVar[str] = "atan"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * (v - threshold)) ** 2)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * (v - threshold)) / math.pi + 0.5


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The derivative of a logistic function, alpha s (1 - s) with s = 1 / (1 + exp(-alpha (v - threshold + shift))).

    Source: SpikingJelly, `surrogate.Sigmoid` (alpha 4); snnTorch, `surrogate.sigmoid` (25); norse's logistic. With
    alpha = 2 and shift = 1, and `smooth=True`, it is Rockpool's `sigmoid`, tanh(v + 1 - threshold) / 2 + 1/2, which
    does not spike.

    Args:
        alpha: steepness, in the inverse of the membrane's unit. Default: 4.
        shift: how far below the threshold the middle of the function lies, in the membrane's unit. Default: 0.
    """

    alpha: float = 4.0
    shift: float = 0.0
    name: ClassVar[str] = "sigmoid"
    any_sign: ClassVar[tuple[str, ...]] = ("shift",)

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        s = self.smooth(v, threshold)
        return self.alpha * s * torch.sigmoid(-self.alpha * (v - threshold + self.shift))

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return torch.sigmoid(self.alpha * (v - threshold + self.shift))


@dataclasses.dataclass(frozen=True)
class Triangle(Surrogate):
    """scale * max(0, 1 - |v - threshold| / width).

    Source: Esser et al. 2016, PNAS 113:11441-11446; Bellec et al. 2018, NeurIPS 31 (scale 0.3); SpikingJelly's
    PiecewiseQuadratic of alpha is Triangle(1/alpha, alpha).

    Args:
        width: half of its base, in the membrane's unit. Default: 1.
        scale: its height. Default: 1.
    """

    width: float = 1.0
    scale: float = 1.0
    name: ClassVar[str] = "triangle"

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return self.scale * (1 - (v - threshold).abs() / self.width).clamp(min=0)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        x = v - threshold
        tail = (self.width - x.abs()).clamp(min=0) ** 2 / (2 * self.width)
        return self.scale * torch.where(x < 0, tail, self.width - tail)


DEFAULT: Surrogate = SuperSpike(10.0)
"""The default of the functions and modules: it trains best in docs/surrogates.md."""

"""The arguments of a sinabs layer: spike functions, resets, surrogate gradients. Each can be called on its own, as in
sinabs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import surrogate
from ..._call import check_max_spikes
from ...reference import positive_multi_spike, spike_at_threshold
from ...surrogate import Surrogate
from .._broadcast import is_number

__all__ = [
    "Gaussian",
    "Heaviside",
    "MaxSpike",
    "MembraneReset",
    "MembraneSubtract",
    "MultiGaussian",
    "MultiSpike",
    "PeriodicExponential",
    "SingleExponential",
    "SingleSpike",
]

SurrogateGradient = Callable[[Tensor, Tensor], Tensor]
"""From the membrane potential and the threshold to what replaces the spike's derivative."""
State = dict[str, Tensor]


class _SpikeFunction(torch.autograd.Function):
    """The forward pass gives spikes, the backward pass the surrogate gradient; the threshold gets none."""

    required_states: ClassVar[list[str]] = ["v_mem"]

    @staticmethod
    def save(ctx: Any, v_mem: Tensor, spike_threshold: Tensor | float, surrogate_grad_fn: SurrogateGradient) -> Tensor:
        """Keeps what the backward pass needs; returns the threshold as a tensor."""
        threshold = torch.as_tensor(spike_threshold, dtype=v_mem.dtype, device=v_mem.device)
        ctx.save_for_backward(v_mem, threshold)
        ctx.surrogate_grad_fn = surrogate_grad_fn
        return threshold

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        v_mem, threshold = ctx.saved_tensors
        return grads[0] * ctx.surrogate_grad_fn(v_mem, threshold), None, None, None


class SingleSpike(_SpikeFunction):
    """At most one spike per step: [v_mem - threshold >= 0]. The class itself is given as spike_fn, not an object of it.

    `SingleSpike.apply(v_mem, spike_threshold, surrogate_grad_fn)` returns the spikes, of v_mem's shape and dtype.
    Source: sinabs, `SingleSpike`.
    """

    @staticmethod
    def forward(
        ctx: Any, v_mem: Tensor, spike_threshold: Tensor | float, surrogate_grad_fn: SurrogateGradient
    ) -> Tensor:
        return spike_at_threshold(v_mem, _SpikeFunction.save(ctx, v_mem, spike_threshold, surrogate_grad_fn), 1)


class MultiSpike(_SpikeFunction):
    """Any number of spikes per step: [v_mem > 0] * trunc(v_mem / threshold). The class itself is given as spike_fn.

    `MultiSpike.apply(v_mem, spike_threshold, surrogate_grad_fn)` returns the counts, of v_mem's shape and dtype.
    Source: sinabs, `MultiSpike`.
    """

    @staticmethod
    def forward(
        ctx: Any, v_mem: Tensor, spike_threshold: Tensor | float, surrogate_grad_fn: SurrogateGradient
    ) -> Tensor:
        return positive_multi_spike(
            v_mem, _SpikeFunction.save(ctx, v_mem, spike_threshold, surrogate_grad_fn), math.inf
        )


class _BoundedSpike(_SpikeFunction):
    @staticmethod
    def forward(
        ctx: Any,
        v_mem: Tensor,
        spike_threshold: Tensor | float,
        surrogate_grad_fn: SurrogateGradient,
        max_spikes: float,
    ) -> Tensor:
        return positive_multi_spike(
            v_mem, _SpikeFunction.save(ctx, v_mem, spike_threshold, surrogate_grad_fn), max_spikes
        )


@dataclasses.dataclass(frozen=True)
class MaxSpike:
    """As `MultiSpike`, but with a largest number of spikes per step. An object of it is given as spike_fn.

    Source: sinabs, `MaxSpike`.

    Args:
        max_num_spikes_per_bin: the most spikes of one neuron in one step, 1 or more. Default: no bound.

    Raises:
        TypeError, ValueError: max_num_spikes_per_bin is not a number, or is below 1.
    """

    max_num_spikes_per_bin: int | None = None
    required_states: ClassVar[list[str]] = ["v_mem"]

    def __post_init__(self) -> None:
        if self.max_num_spikes_per_bin is not None:
            check_max_spikes("MaxSpike", _plain(self.max_num_spikes_per_bin))

    @property
    def bound(self) -> float:
        """The most spikes as a number; infinity for no bound."""
        return math.inf if self.max_num_spikes_per_bin is None else float(self.max_num_spikes_per_bin)

    def apply(self, v_mem: Tensor, spike_threshold: Tensor | float, surrogate_grad_fn: SurrogateGradient) -> Tensor:
        """The spike counts, of v_mem's shape and dtype."""
        return _BoundedSpike.apply(v_mem, spike_threshold, surrogate_grad_fn, self.bound)


@dataclasses.dataclass(frozen=True)
class MembraneSubtract:
    """Each spike subtracts from the membrane potential. Source: sinabs, `MembraneSubtract`.

    Args:
        subtract_value: what a spike subtracts: a number, or a tensor, to which a gradient flows. Default: the
            threshold, with all its adaptation.
    """

    subtract_value: Tensor | float | None = None

    def __call__(self, spikes: Tensor, state: Mapping[str, Tensor], threshold: Tensor | float) -> State:
        """A copy of the state whose v_mem has been reset."""
        step = threshold if self.subtract_value is None else self.subtract_value
        return {**state, "v_mem": state["v_mem"] - spikes * step}


@dataclasses.dataclass(frozen=True)
class MembraneReset:
    """A neuron that spiked goes to a fixed membrane potential. No gradient flows through the spikes.

    Source: sinabs, `MembraneReset`, which adds the value to every neuron, whether it spiked or not; here it is added
    only to those that spiked.

    Args:
        reset_value: that potential: a number, or a tensor, to which a gradient flows. Default: 0.
    """

    reset_value: Tensor | float = 0.0

    def __call__(self, spikes: Tensor, state: Mapping[str, Tensor], spike_threshold: Tensor | float) -> State:
        """A copy of the state whose v_mem has been reset."""
        v_mem = state["v_mem"]
        silent = (spikes == 0).to(v_mem.dtype)
        return {**state, "v_mem": v_mem * silent + self.reset_value * (1 - silent)}


class _Callable(Surrogate):
    """A surrogate that can be called as in sinabs."""

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor | float) -> Tensor:
        """What replaces the derivative of the spikes with respect to v_mem, elementwise; the threshold broadcasts
        against v_mem."""
        return self.derivative(v_mem, torch.as_tensor(spike_threshold, dtype=v_mem.dtype, device=v_mem.device))


class _Renamed(_Callable):
    """A surrogate of this package under sinabs' argument names, in the same order."""

    native: ClassVar[type[Surrogate]]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        super().__post_init__()

    def derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return self.native(*self.parameters()).derivative(v, threshold, max_spikes)

    def threshold_derivative(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return self.native(*self.parameters()).threshold_derivative(v, threshold, max_spikes)

    def smooth(self, v: Tensor, threshold: Tensor, max_spikes: float = math.inf) -> Tensor:
        return self.native(*self.parameters()).smooth(v, threshold, max_spikes)


@dataclasses.dataclass(frozen=True)
class SingleExponential(_Renamed):
    """`torch_lif.SingleExponential` with sinabs' names: grad_scale / w * exp(-|v_mem - threshold| / w), w = threshold *
    grad_width.

    Args:
        grad_width: the exponential's width, in units of the threshold, above 0. Default: 0.5.
        grad_scale: factor of the whole, above 0. Default: 1.
    """

    grad_width: float = 0.5
    grad_scale: float = 1.0
    native: ClassVar[type[Surrogate]] = surrogate.SingleExponential
    name: ClassVar[str] = native.name


@dataclasses.dataclass(frozen=True)
class MultiGaussian(_Renamed):
    """`torch_lif.MultiGaussian` with sinabs' names, x = v_mem - threshold::

        grad_scale * ((1 + h) N(x; mu, sigma) - h N(x; sigma, s sigma) - h N(x; -sigma, s sigma))

    Args:
        mu: mean of the positive peak. Default: 0.
        sigma: standard deviation of the positive peak, above 0. Default: 0.5.
        h: weight of the two negative peaks. Default: 0.15.
        s: how many times as wide the negative peaks are, above 0. Default: 6.
        grad_scale: factor of the whole, above 0. Default: 1.
    """

    mu: float = 0.0
    sigma: float = 0.5
    h: float = 0.15
    s: float = 6.0
    grad_scale: float = 1.0
    native: ClassVar[type[Surrogate]] = surrogate.MultiGaussian
    name: ClassVar[str] = native.name
    any_sign: ClassVar[tuple[str, ...]] = ("mu", "h")


@dataclasses.dataclass(frozen=True)
class Gaussian(_Renamed):
    """`torch_lif.Gaussian` with sinabs' names: grad_scale * N(v_mem - threshold; mu, sigma).

    Args:
        mu: mean. Default: 0.
        sigma: standard deviation, above 0. Default: 0.5.
        grad_scale: factor of the whole, above 0. Default: 1.
    """

    mu: float = 0.0
    sigma: float = 0.5
    grad_scale: float = 1.0
    native: ClassVar[type[Surrogate]] = surrogate.Gaussian
    name: ClassVar[str] = native.name
    any_sign: ClassVar[tuple[str, ...]] = ("mu",)


@dataclasses.dataclass(frozen=True)
class Heaviside(surrogate.Heaviside, _Callable):
    """1/threshold wherever v_mem >= threshold - window, else 0.

    Args:
        window: how far below the threshold the gradient begins; any sign. Default: 1.
    """

    any_sign: ClassVar[tuple[str, ...]] = ("window",)


@dataclasses.dataclass(frozen=True)
class PeriodicExponential(_Renamed):
    """`torch_lif.SinabsPeriodicExponential` with sinabs' names: an exponential around every multiple of the threshold.

    Args:
        grad_width: the exponential's width, in the membrane's unit, above 0. Default: 0.5.
        grad_scale: factor of the whole, above 0. Default: 1.
    """

    grad_width: float = 0.5
    grad_scale: float = 1.0
    native: ClassVar[type[Surrogate]] = surrogate.SinabsPeriodicExponential
    name: ClassVar[str] = native.name


_OWN: dict[str, Any] = {name: globals()[name] for name in __all__}


def _ours(given: Any) -> Any:
    """An object of sinabs itself becomes ours of the same name and values; everything else stays as it is."""
    kind = given if isinstance(given, type) else type(given)
    own = _OWN.get(kind.__name__)
    if own is None or kind is own or kind.__module__.partition(".")[0] != "sinabs":
        return given
    if isinstance(given, type):
        return own
    # Not asdict, which copies: a parameter in the object would get no gradient, and a computed tensor cannot be copied.
    return own(**{field.name: getattr(given, field.name) for field in dataclasses.fields(given)})


def _plain(value: Any) -> Any:
    """A number of NumPy becomes Python's; everything else stays as it is."""
    return float(value) if is_number(value) and not isinstance(value, (int, float)) else value


def max_spikes(owner: str, spike_fn: Any) -> float:
    """The largest number of spikes per step that a spike function allows; TypeError if the kernel has no such
    function."""
    function = _ours(spike_fn)
    if function is SingleSpike:
        return 1
    if function is MultiSpike:
        return math.inf
    if isinstance(function, MaxSpike):
        return function.bound
    if isinstance(function, (SingleSpike, MultiSpike)):
        raise TypeError(
            f"{owner}: spike_fn is an object of {type(function).__name__}, expected the class itself: "
            f"{type(function).__name__}"
        )
    if function is MaxSpike:
        raise TypeError(f"{owner}: spike_fn is the class MaxSpike, expected an object of it: MaxSpike()")
    raise TypeError(
        f"{owner}: spike_fn is {spike_fn!r}, expected SingleSpike, MultiSpike or MaxSpike(...): the kernel has no "
        "other; "
        "a spike function of your own needs a loop of your own"
    )


def reset_arguments(owner: str, reset_fn: Any) -> tuple[str, Any]:
    """A reset as reset and reset_value of `torch_lif.functional.alif`; TypeError if the kernel has no such reset."""
    function = _ours(reset_fn)
    if isinstance(function, MembraneSubtract):
        return "subtract", _plain(function.subtract_value)
    if isinstance(function, MembraneReset):
        if function.reset_value is None:
            raise ValueError(f"{owner}: reset_value of reset_fn is None, expected the value to reset to")
        return "value", _plain(function.reset_value)
    raise TypeError(
        f"{owner}: reset_fn is {reset_fn!r}, expected MembraneSubtract(...) or MembraneReset(...): the kernel has "
        "no other; "
        "a reset of your own needs a loop of your own"
    )


def surrogate_gradient(owner: str, surrogate_grad_fn: Any) -> Surrogate:
    """A surrogate that the kernel knows; TypeError otherwise."""
    function = _ours(surrogate_grad_fn)
    if isinstance(function, type) and issubclass(function, Surrogate):
        raise TypeError(
            f"{owner}: surrogate_grad_fn is the class {function.__name__}, expected an object of it: "
            f"{function.__name__}()"
        )
    if not isinstance(function, Surrogate):
        raise TypeError(
            f"{owner}: surrogate_grad_fn is {surrogate_grad_fn!r}, expected SingleExponential(...), "
            "MultiGaussian(...), "
            "Gaussian(...), Heaviside(...), PeriodicExponential(...) or any surrogate of torch_lif: the kernel "
            "has no other"
        )
    return function

"""Rockpool's spike functions: what `spike_generation_fn` may be, and the surrogate that each is in the fused loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ... import reference, surrogate
from ..._call import check_input, check_max_spikes
from ...surrogate import Surrogate

MAX_SPIKES = 2.0**16


def _spikes(
    owner: str, x: Tensor, threshold: Tensor | float, rule: Surrogate, max_spikes_per_dt: Tensor | float
) -> Tensor:
    x = check_input(owner, x)
    theta = threshold if isinstance(threshold, Tensor) else torch.full((), threshold, dtype=x.dtype, device=x.device)
    limit = max_spikes_per_dt.item() if isinstance(max_spikes_per_dt, Tensor) else max_spikes_per_dt
    return reference.spike(x, theta, rule, check_max_spikes(owner, limit))


class _SurrogateSpikes:
    """Base of the two classes: spikes with the gradient of `surrogate`."""

    surrogate: ClassVar[type[surrogate.StepPWL] | type[surrogate.PeriodicExponential]]

    @classmethod
    def apply(
        cls,
        x: Tensor,
        threshold: Tensor | float = 1.0,
        window: Tensor | float = 0.5,
        max_spikes_per_dt: Tensor | float = MAX_SPIKES,
    ) -> Tensor:
        """The number of spikes for a membrane potential x (any shape), with the surrogate's gradients to x and
        threshold.

        Args:
            x: membrane potential.
            threshold: above 0; broadcasts against x. Default: 1.
            window: of the surrogate, above 0, in x's unit. No gradient. Default: 0.5.
            max_spikes_per_dt: the most spikes counted. No gradient. Default: 65536.

        Raises:
            TypeError, ValueError: x is no tensor; window or max_spikes_per_dt is out of range.
        """
        # surrogate.constant would refuse a window that requires a gradient: as in Rockpool none flows to it.
        width = window.detach() if isinstance(window, Tensor) else window
        return _spikes(cls.__name__, x, threshold, cls.surrogate(width), max_spikes_per_dt)  # type: ignore[arg-type]


class StepPWL(_SurrogateSpikes):
    """[x >= threshold] * floor(x / threshold) spikes; gradient 1/threshold wherever x >= threshold - window.

    The gradient to the threshold is -x/threshold**2 in the same window. Source: Rockpool, `StepPWL` of lif_torch.py.

    >>> v = torch.tensor([0.2, 0.6, 2.5], requires_grad=True)
    >>> StepPWL.apply(v, 1.0, 0.5, 65536)
    tensor([0., 0., 2.], grad_fn=<_SpikeBackward>)
    """

    surrogate = surrogate.StepPWL


class PeriodicExponential(_SurrogateSpikes):
    """The spikes of `StepPWL`; the gradient is an exponential around every multiple of the threshold.

    Formulas: `torch_lif.PeriodicExponential`. Source: Rockpool, `PeriodicExponential` of lif_torch.py.
    """

    surrogate = surrogate.PeriodicExponential


def sigmoid(
    x: Tensor,
    threshold: Tensor | float,
    learning_window: Tensor | float | None = None,
    max_spikes_per_dt: Tensor | float | None = None,
) -> Tensor:
    """tanh(x + 1 - threshold) / 2 + 1/2: a smooth output instead of spikes. Source: Rockpool, `sigmoid` of
    lif_torch.py.

    As `spike_generation_fn` it makes a module that does not spike: its output and its reset are this function of the
    membrane.

    Args:
        x: membrane potential, any shape.
        threshold: broadcasts against x.
        learning_window, max_spikes_per_dt: not used; every spike function takes them, so that all can be called alike.
    """
    return torch.tanh(x + 1 - threshold) / 2 + 0.5


class _Own:
    """A surrogate of torch_lif as a spike function: called as Rockpool's are, but with its own width instead of the
    window."""

    def __init__(self, rule: Surrogate) -> None:
        self.rule = rule

    def __call__(
        self,
        x: Tensor,
        threshold: Tensor | float = 1.0,
        window: Tensor | float | None = None,
        max_spikes_per_dt: Tensor | float = MAX_SPIKES,
    ) -> Tensor:
        return _spikes(type(self.rule).__name__, x, threshold, self.rule, max_spikes_per_dt)


class SpikeFunction(NamedTuple):
    """A spike function as the modules hold it: what it is called with, and how the fused loop runs it."""

    apply: Callable[..., Tensor]
    kind: str
    own: Surrogate | None = None

    def surrogate(self, window: float) -> Surrogate:
        if self.own is not None:
            return self.own
        if self.kind == "sigmoid":
            return surrogate.Sigmoid(alpha=2.0, shift=1.0)
        return (surrogate.StepPWL if self.kind == "StepPWL" else surrogate.PeriodicExponential)(window)

    @property
    def smooth(self) -> bool:
        return self.kind == "sigmoid"


FUSED: dict[str, Callable[..., Tensor]] = {
    "StepPWL": StepPWL.apply,
    "PeriodicExponential": PeriodicExponential.apply,
    "sigmoid": sigmoid,
}


def spike_function(owner: str, value: Any) -> SpikeFunction:
    """The spike function for what was given as spike_generation_fn; TypeError if the fused loop has no such
    function."""
    if isinstance(value, Surrogate):
        return SpikeFunction(_Own(value), "own", value)
    if isinstance(value, _Own):
        return SpikeFunction(value, "own", value.rule)
    # A module returns the bound `apply`, as Rockpool's does. Both the class and that method are accepted.
    function = value.__self__ if getattr(value, "__name__", "") == "apply" and hasattr(value, "__self__") else value
    name = getattr(function, "__name__", "")
    from_rockpool = str(getattr(function, "__module__", "")).startswith("rockpool.nn.modules.torch.")
    if name in FUSED and (from_rockpool or function is globals()[name]):
        return SpikeFunction(FUSED[name], name)
    raise TypeError(
        f"{owner}: spike_generation_fn is {value!r}, expected {', '.join(FUSED)} (these, or Rockpool's of the same "
        "name) or a "
        "surrogate of torch_lif such as torch_lif.SuperSpike(100): only these run inside the fused loop"
    )

"""Gradient None, not zeros, for what has no path to the loss.

The kernel's backward pass gives a gradient to everything that asks for one. The eager loop gives None to a parameter
from which no path leads to the loss. An optimizer distinguishes zeros from None: with zeros it decays the weights. So
an argument on which the outputs in the loss cannot depend goes through a gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import unserializable_hook

COUNTED = ("spikes", "v", "adaptation")
"""Outputs for which a call gets a gate. A loss on the synaptic current alone gets none: its gradients are then
zeros."""


def _steps_to_reach(threshold_resets: bool, recurrent: bool) -> dict[str, dict[str, float]]:
    """How many time steps it takes until an output depends on an argument. A dependence on the threshold comes through
    the reset, because a surrogate gives the threshold no gradient. An output that does not exist never depends on
    anything."""

    def late(v: float, spikes: float, adaptation: float, i: float) -> dict[str, float]:
        return {"v": v, "spikes": spikes, "adaptation": adaptation, "i": i if recurrent else math.inf}

    of_reset = late(1, 2, 2, 3)
    return {
        "reset_value": of_reset,
        "min_v": of_reset,
        "threshold": of_reset if threshold_resets else {},
        "adapt_scale": of_reset if threshold_resets else {},
        "decay_adapt": late(2, 3, 1, 4) if threshold_resets else {"adaptation": 1},
        "adaptation": late(1, 2, 1, 3) if threshold_resets else {"adaptation": 1},
    }


Reach = Mapping[str, Mapping[str, float]]
REACH: dict[tuple[bool, bool], Reach] = {
    (resets, recurrent): _steps_to_reach(resets, recurrent) for resets in (False, True) for recurrent in (False, True)
}
"""By whether the threshold resets, and whether there is recurrence: how many steps it takes until an output depends on
an argument."""
LATEST = {
    key: max(steps.get(output, math.inf) for steps in reach.values() for output in COUNTED)
    for key, reach in REACH.items()
}
"""How many steps it takes until every output that counts depends on every argument. From there on no gate is needed."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Gates, names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gates, ctx.names = gates, names
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        passed = [g if ctx.gates.is_open(name) else None for name, g in zip(ctx.names, grads, strict=True)]
        ctx.gates.reached.clear()
        return None, None, *passed


class Gates:
    """The gates of one call of `steps` time steps."""

    def __init__(self, steps: int, reach: Reach) -> None:
        self.steps, self.reach = steps, reach
        self.reached: set[str] = set()
        self.used = False

    def _never(self, name: str) -> bool:
        return not any(steps <= self.steps for steps in self.reach[name].values())

    def _always(self, name: str) -> bool:
        return name not in self.reach or all(self.reach[name].get(output, math.inf) <= self.steps for output in COUNTED)

    def is_open(self, name: str) -> bool:
        return any(self.reach[name].get(output, math.inf) <= self.steps for output in self.reached)

    def put(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name; those that need a gate are behind one."""
        wanted = {
            name: value
            for name, value in arguments.items()
            if isinstance(value, Tensor) and value.requires_grad and not self._always(name)
        }
        if not wanted or not torch.is_grad_enabled():
            return arguments
        closed = {name: value.detach() for name, value in wanted.items() if self._never(name)}
        gated = {name: value for name, value in wanted.items() if name not in closed}
        if gated:
            self.used = True
            gated = dict(zip(gated, _Gate.apply(self, tuple(gated), *gated.values()), strict=True))
        return arguments | closed | gated

    def watch(self, name: str, output: Tensor | None) -> None:
        """Notes when a backward pass reaches this output."""
        if not self.used or output is None or not output.requires_grad:
            return

        def note(grad: Tensor | None) -> None:
            if grad is not None:
                self.reached.add(name)

        output.register_hook(unserializable_hook(note))

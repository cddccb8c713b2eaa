"""What a CUDA graph that was captured around a call of a layer with states needs afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_READ: WeakKeyDictionary[nn.Module, list[Tensor]] = WeakKeyDictionary()
"""By layer: the states with which captured calls began."""


def hold_first_states(layer: nn.Module, x: Tensor, states: Iterable[Tensor]) -> None:
    """Keeps the states with which a call begins, if the call is being captured, as long as the layer lives. Every
    replay reads them, but the layer itself goes on with those that the call leaves."""
    if x.is_cuda and not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing():
        _READ.setdefault(layer, []).extend(states)

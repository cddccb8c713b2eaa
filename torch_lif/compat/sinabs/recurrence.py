"""What a layer's `rec_connect` is: a matrix with which the kernel can multiply, or a module that has to be called in
each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SHAPE_ONLY = (nn.Identity, nn.Flatten, nn.Unflatten)


def _parts(module: Any) -> Iterator[Any]:
    """The modules that a Sequential calls, including those of Sequentials inside it."""
    if type(module) is nn.Sequential and not _is_changed(module):
        for part in module:
            yield from _parts(part)
    else:
        yield module


def _is_changed(module: nn.Module) -> bool:
    """Whether a call of the module does more than its forward method; the kernel would leave that out."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


def _is_dropped(module: Any) -> bool:
    """Whether a module returns its input unchanged: dropout that is not in training."""
    return isinstance(module, nn.Dropout) and (not module.training or module.p == 0) and not _is_changed(module)


def fused_linear(owner: str, rec_connect: Any, batch: int, neurons: Sequence[int]) -> nn.Linear | None:
    """The nn.Linear that connects all neurons with all, if that is all that rec_connect is; ValueError if it does not
    fit them."""
    parts = [part for part in _parts(rec_connect) if not _is_dropped(part)]
    linear = [part for part in parts if isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward]
    others = [part for part in parts if part not in linear]
    if len(linear) != 1 or not all(type(part) in SHAPE_ONLY for part in others) or any(map(_is_changed, parts)):
        return None
    (found,) = linear
    spikes = torch.empty((batch, *neurons), device="meta")
    before = parts.index(found)
    for part in parts[:before]:
        spikes = part(spikes)
    if spikes.shape[-1] != found.in_features:
        raise ValueError(
            f"{owner}: the Linear in rec_connect takes {found.in_features} inputs, expected {spikes.shape[-1]} for "
            "neurons of "
            f"shape {tuple(neurons)}"
        )
    if spikes.shape[:-1].numel() != batch:
        return None
    received = spikes.new_empty((*spikes.shape[:-1], found.out_features))
    for part in parts[before + 1 :]:
        received = part(received)
    check_received(owner, received, batch, neurons)
    return found


def check_received(owner: str, received: Any, batch: int, neurons: Sequence[int]) -> Tensor:
    """The recurrent input of a step in the neurons' shape; ValueError if it does not fit it."""
    if not isinstance(received, Tensor):
        raise TypeError(f"{owner}: rec_connect gives a {type(received).__name__}, expected a tensor")
    shape = torch.Size((batch, *neurons))
    if received.numel() != shape.numel():
        raise ValueError(
            f"{owner}: rec_connect gives shape {tuple(received.shape)} for spikes of shape {tuple(shape)}, "
            "expected as many values"
        )
    return received.reshape(shape)

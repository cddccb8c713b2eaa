"""What the states of all neurons have in common: they are named tuples of tensors and Nones."""

from __future__ import annotations

from typing import Any, TypeVar

State = TypeVar("State", bound=tuple[Any, ...])


def detached(state: State) -> State:
    """The same values cut off from the graph that computed them, for truncated backpropagation through time."""
    kind: Any = type(state)
    cut: State = kind(*(None if t is None else t.detach() for t in state))
    return cut


def moved(state: State, *args: Any, **kwargs: Any) -> State:
    """The state with each tensor moved by `torch.Tensor.to` with these arguments: a device, a dtype, non_blocking
    ..."""
    kind: Any = type(state)
    there: State = kind(*(None if t is None else t.to(*args, **kwargs) for t in state))
    return there

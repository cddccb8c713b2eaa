"""Layers that keep their state between calls, in buffers, and functions that reset or detach this state."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StatefulLayer", "reset_states", "zero_grad"]


class StatefulLayer(nn.Module):
    """Base of the layers that keep their state between calls, as sinabs' `StatefulLayer`.

    Each state is a buffer (batch, *neurons), of shape (0,) until the first call. States stay attached to the graph of
    the call that left them. `detach_states`, `reset_states` or `zero_grad` ends that, for example between two batches
    of truncated backpropagation.

    Args:
        state_names: names of the states.
    """

    def __init__(self, state_names: Sequence[str]) -> None:
        super().__init__()
        self._state_names = tuple(state_names)
        for name in self._state_names:
            self.register_buffer(name, torch.zeros(0))
        self.recordings: dict[str, Tensor] = {}

    def forward(self, input_data: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward method: this is the base class of the layers")

    def states(self) -> dict[str, Tensor]:
        """The layer's own states by name, without those of modules inside it."""
        return {name: getattr(self, name) for name in self._state_names}

    def is_state_initialised(self) -> bool:
        """Whether the states have their shape, from a call or from `init_state_with_shape`."""
        return all(state.shape != (0,) for state in self.states().values())

    def state_has_shape(self, shape: Sequence[int]) -> bool:
        """Whether every state has this shape, (batch, *neurons)."""
        return all(state.shape == torch.Size(shape) for state in self.states().values())

    def has_trailing_dimension(self, trailing_dim: Sequence[int]) -> bool:
        """Whether every state has this shape behind the batch."""
        return all(state.shape[1:] == torch.Size(trailing_dim) for state in self.states().values())

    def init_state_with_shape(self, shape: Sequence[int], randomize: bool = False) -> None:
        """Gives every state the shape (batch, *neurons) and zeros, or with `randomize` values between 0 and 1."""
        for name, state in self.states().items():
            setattr(self, name, torch.zeros(tuple(shape), dtype=state.dtype, device=state.device))
        self.reset_states(randomize=randomize)

    def handle_state_batch_size_mismatch(self, new_batch_size: int) -> None:
        """Gives the states another batch size. Its items are drawn at random, with replacement, from the present
        items."""
        for name, state in self.states().items():
            chosen = torch.randint(0, state.shape[0], (new_batch_size,)).to(state.device)
            setattr(self, name, state.index_select(0, chosen))

    def reset_states(
        self, randomize: bool = False, value_ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        """Sets every state to zero, or to uniform random values, detached from the graph. Does nothing before the first
        call.

        Args:
            randomize: whether to draw random values. Default: False, zeros.
            value_ranges: lowest and highest random value, by the state's name. Default: 0 and 1. A name that is not a
                state of this layer is ignored, so that one dictionary serves layers of several kinds.
        """
        ranges = value_ranges or {}
        if not self.is_state_initialised():
            return
        for name, state in self.states().items():
            fresh = torch.zeros_like(state, requires_grad=False)
            if randomize:
                low, high = ranges.get(name, (0.0, 1.0))
                fresh = fresh.uniform_() * (high - low) + low
            setattr(self, name, fresh)

    def detach_states(self) -> None:
        """Keeps the states' values and ends their graph: from here on no gradient flows into earlier calls."""
        for name, state in self.states().items():
            setattr(self, name, state.detach())

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zeroes the parameters' gradients (with set_to_none: removes them) and detaches the states."""
        super().zero_grad(set_to_none)
        self.detach_states()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """A state is loaded whatever shape it has here."""
        for name, state in self.states().items():
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor):
                setattr(self, name, torch.zeros(given.shape, dtype=state.dtype, device=state.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __deepcopy__(self, memo: dict[int, Any]) -> StatefulLayer:
        # PyTorch does not copy a tensor that is attached to a graph: the copy starts a graph of its own.
        made = [value for value in self.__dict__.values() if isinstance(value, Tensor)]
        for tensor in [*made, *self.states().values(), *self.recordings.values()]:
            if tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return other

    @property
    def _param_dict(self) -> dict[str, Any]:
        return {}

    @property
    def arg_dict(self) -> dict[str, Any]:
        """The constructor's arguments, with the parameters' present values."""
        return self._param_dict

    @property
    def does_spike(self) -> bool:
        """Whether the layer has a spike function."""
        return getattr(self, "spike_fn", None) is not None


def _layers(model: nn.Module) -> list[Any]:
    """Layers with state in a model, ours and sinabs'."""
    return [m for m in model.modules() if hasattr(m, "reset_states") and hasattr(m, "is_state_initialised")]


def reset_states(model: nn.Module) -> None:
    """Resets the states of all layers in a model, itself included: ours, and sinabs' own if there are any.

    sinabs.reset_states ignores our layers, because they are not of its classes.
    """
    for layer in _layers(model):
        layer.reset_states()


def zero_grad(model: nn.Module) -> None:
    """Zeroes the gradients of all layers with state in a model and detaches their states: ours, and sinabs' own if
    there are any.

    sinabs.zero_grad ignores our layers, because they are not of its classes.
    """
    for layer in _layers(model):
        layer.zero_grad()

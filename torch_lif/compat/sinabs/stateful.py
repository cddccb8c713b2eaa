"""Layers that keep their state between calls, in buffers, and functions that reset or detach this state."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StatefulLayer", "reset_states", "zero_grad"]


class _Passed:
    """Whether a backward pass has gone through a call. A node of the call's graph holds this object, so it holds no
    tensor: the two would keep each other alive."""

    def __init__(self) -> None:
        self.passed = False

    def __call__(self, grads: Any) -> None:
        """To be called when a backward pass reaches the call's spikes."""
        self.passed = True


class _Last:
    """What a call leaves for `firing_rate`: the rate, or the spikes that it is computed from when it is read."""

    def __init__(self, rate: Tensor | None = None, spikes: Tensor | None = None) -> None:
        self.rate, self.spikes, self.backward = rate, spikes, _Passed()
        if spikes is not None and spikes.grad_fn is not None:
            self.version = spikes._version
            spikes.grad_fn.register_prehook(self.backward)

    def is_changed(self) -> bool:
        return self.spikes is not None and self.spikes._version != self.version


class StatefulLayer(nn.Module):
    """Base of the layers that keep their state between calls, as sinabs' `StatefulLayer`.

    Each state is a buffer (batch, *neurons), of shape (0,) until the first call. States stay attached to the graph of
    the call that left them. `detach_states`, `reset_states` or `zero_grad` ends that, for example between two batches
    of truncated backpropagation. `recordings` and `firing_rate` stay attached until a backward pass has gone through
    that call; then these three methods detach them too, so that nothing of the graph is left.

    Args:
        state_names: names of the states.
    """

    def __init__(self, state_names: Sequence[str]) -> None:
        super().__init__()
        self._state_names = tuple(state_names)
        for name in self._state_names:
            self.register_buffer(name, torch.zeros(0))
        self.recordings: dict[str, Tensor] = {}
        self._last: _Last | None = None

    def _forget(self) -> None:
        """Lets go of what the last call left besides the states, and so of its graph, before a call makes another."""
        self._last = None
        if self.recordings:
            self.recordings = {}

    def _count(self, spikes: Tensor) -> None:
        """Keeps what `firing_rate` is computed from: the spikes if they are part of a graph, because a graph keeps most
        of them in any case; else the rate itself, because a layer should not hold its output in inference."""
        is_kept = spikes.grad_fn is not None and not torch.compiler.is_compiling()
        self._last = _Last(spikes=spikes) if is_kept else _Last(spikes.mean())

    def _release(self) -> None:
        """Detaches what the last call left besides the states, if a backward pass has gone through the call."""
        last = self._last
        if last is not None and last.spikes is not None and last.backward.passed:
            last.spikes = last.spikes.detach()
            self.recordings = {name: record.detach() for name, record in self.recordings.items()}

    @property
    def firing_rate(self) -> Tensor:
        """Spikes per neuron and step in the last call.

        Raises:
            AttributeError: there was no call yet. RuntimeError: the last call's spikes have been changed in place.
        """
        last = self._last
        if last is None:
            raise AttributeError("firing_rate: there was no call yet")
        if last.spikes is None:
            assert last.rate is not None
            return last.rate
        if last.is_changed():
            raise RuntimeError(
                f"{type(self).__name__}: firing_rate is computed when it is read, and the last call's spikes have been "
                "changed in place, expected them unchanged; read it before, or change a copy"
            )
        return last.spikes.mean()

    @firing_rate.setter
    def firing_rate(self, value: Tensor) -> None:
        self._last = _Last(value)

    def forward(self, input_data: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward method: this is the base class of the layers")

    def states(self) -> dict[str, Tensor]:
        """The layer's own states by name, without those of modules inside it."""
        buffers: dict[str, Any] = self._buffers
        return {name: buffers[name] for name in self._state_names}

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
            self._buffers[name] = torch.zeros(tuple(shape), dtype=state.dtype, device=state.device)
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
        self._release()
        if not self.is_state_initialised():
            return
        for name, state in self.states().items():
            fresh = torch.zeros_like(state, requires_grad=False)
            if randomize:
                low, high = ranges.get(name, (0.0, 1.0))
                fresh = fresh.uniform_() * (high - low) + low
            self._buffers[name] = fresh

    def detach_states(self) -> None:
        """Keeps the states' values and ends their graph: from here on no gradient flows into earlier calls."""
        self._release()
        for name, state in self.states().items():
            self._buffers[name] = state.detach()

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

    def __getstate__(self) -> dict[str, Any]:
        # The rate is written, not the spikes that it is computed from.
        state = self.__dict__.copy()
        last = state.pop("_last")
        if last is not None and not last.is_changed():
            state["firing_rate"] = self.firing_rate
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: value for name, value in state.items() if name != "firing_rate"})
        self._last = _Last(state["firing_rate"]) if "firing_rate" in state else None

    def __deepcopy__(self, memo: dict[int, Any]) -> StatefulLayer:
        # PyTorch does not copy a tensor that is attached to a graph: the copy starts a graph of its own.
        own = self.__getstate__()
        made = [value for value in own.values() if isinstance(value, Tensor)]
        for tensor in [*made, *self.states().values(), *self.recordings.values()]:
            if tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__setstate__({key: copy.deepcopy(value, memo) for key, value in own.items()})
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

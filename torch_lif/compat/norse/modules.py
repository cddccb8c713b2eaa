"""norse's cells (one step per call) and layers (a sequence per call)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .._broadcast import check_dt
from .._nir import check_export
from .arguments import tensors, weighted
from .sequences import li_all, lif_all, lif_recurrent_all
from .steps import li_one, lif_one, lif_recurrent_one, without_diagonal
from .tuples import LI_DEFAULT, LIF_DEFAULT, LIFFeedForwardState, LIFParameters, LIFState, LIParameters, LIState


class _Neuron(nn.Module):
    """Parameters and time step. As in norse, the parameters are not nn.Parameters of the module, and not in its state
    dict."""

    def __init__(self, p: Any, dt: float) -> None:
        super().__init__()
        self.p, self.dt = p, check_dt(type(self).__name__, dt)

    def extra_repr(self) -> str:
        return f"p={self.p}, dt={self.dt}"


class LICell(_Neuron):
    """A leaky integrator for one time step: `cell(x, state)` is `li_feed_forward_step(x, state, p, dt)`.

    Args:
        p: parameters. As in norse, they are not nn.Parameters of the module, and not in its state dict. Default:
            `LIParameters()`.
        dt: time step in seconds. Default: 1e-3.

    Without a state, v starts at v_leak, without gradient, and i at 0.
    """

    def __init__(self, p: LIParameters = LI_DEFAULT, dt: float = 0.001) -> None:
        super().__init__(p, dt)

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        check_export(self)
        return li_one("LICell", input_tensor, state, self.p, self.dt)


class LI(_Neuron):
    """A layer of leaky integrators over time: `layer(x, state)` is `li(x, state, p, dt)`; x is (time, ...).

    Args:
        p, dt: as `LICell`.
        record_states: return the states after every step, stacked in time, instead of only the last state. Default:
            False.
    """

    def __init__(self, p: LIParameters = LI_DEFAULT, dt: float = 0.001, record_states: bool = False) -> None:
        super().__init__(p, dt)
        self.record_states = record_states

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        check_export(self)
        return li_all("LI", input_tensor, state, self.p, self.dt, self.record_states)


class LILinearCell(_Neuron):
    """A leaky integrator behind trainable weights, for one time step: `li_step`.

    Args:
        input_size, hidden_size: numbers of inputs and neurons. `input_weights` (hidden_size, input_size) start as
            norse's: randn / sqrt(input_size).
        p, dt: as `LICell`.
    """

    def __init__(self, input_size: int, hidden_size: int, p: LIParameters = LI_DEFAULT, dt: float = 0.001) -> None:
        super().__init__(p, dt)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.input_weights = nn.Parameter(torch.randn(hidden_size, input_size) / math.sqrt(input_size))

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}, {super().extra_repr()}"

    def forward(self, input_tensor: Tensor, state: LIState | None = None) -> tuple[Tensor, LIState]:
        check_export(self)
        current = weighted("LILinearCell", input_tensor, self.input_weights)
        return li_one("LILinearCell", current, state, self.p, self.dt, True)


class LIFCell(_Neuron):
    """A LIF for one time step: `cell(x, state)` is `lif_feed_forward_step(x, state, p, dt)`.

    Args:
        p: parameters. As in norse, they are not nn.Parameters of the module, and not in its state dict; numbers among
            them become tensors of PyTorch's default dtype. Default: `LIFParameters()`.
        dt: time step in seconds. Default: 1e-3.

    Without a state, v starts at v_leak, without gradient, and i at 0.
    """

    def __init__(self, p: LIFParameters = LIF_DEFAULT, dt: float = 0.001) -> None:
        super().__init__(tensors(type(self).__name__, p), dt)

    def forward(
        self, input_tensor: Tensor, state: LIFFeedForwardState | None = None
    ) -> tuple[Tensor, LIFFeedForwardState]:
        check_export(self)
        return lif_one("LIFCell", input_tensor, state, self.p, self.dt)


class LIF(_Neuron):
    """A layer of LIF neurons over time: `layer(x, state)` is `lif(x, state, p, dt)`; x is (time, ...).

    Args:
        p, dt: as `LIFCell`.
        record_states: as in `LI`.
    """

    def __init__(self, p: LIFParameters = LIF_DEFAULT, dt: float = 0.001, record_states: bool = False) -> None:
        super().__init__(tensors("LIF", p), dt)
        self.record_states = record_states

    def forward(
        self, input_tensor: Tensor, state: LIFFeedForwardState | None = None
    ) -> tuple[Tensor, LIFFeedForwardState]:
        check_export(self)
        return lif_all("LIF", input_tensor, state, self.p, self.dt, self.record_states)


class LIFRecurrentCell(_Neuron):
    """A recurrent LIF for one time step: `lif_step` with trainable weights.

    Args:
        input_size, hidden_size: numbers of inputs and neurons.
        p: parameters, as `LIFCell`.
        input_weights, recurrent_weights: initial weights, (hidden_size, input_size) and (hidden_size, hidden_size). A
            parameter is taken as it is, a tensor copied. Default: as norse's, randn * sqrt(2 / hidden_size).
        autapses: whether a neuron may be connected to itself. Default: False: the diagonal of recurrent_weights is set
            to zero, and is not used.
        dt: time step in seconds. Default: 1e-3.

    Without a state, z and i start at 0 and v at v_leak, without gradient.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        p: LIFParameters = LIF_DEFAULT,
        input_weights: Tensor | None = None,
        recurrent_weights: Tensor | None = None,
        autapses: bool = False,
        dt: float = 0.001,
    ) -> None:
        super().__init__(tensors(type(self).__name__, p), dt)
        self.input_size, self.hidden_size, self.autapses = input_size, hidden_size, autapses
        self.input_weights = self._weights("input_weights", input_weights, input_size)
        self.recurrent_weights = self._weights("recurrent_weights", recurrent_weights, hidden_size)
        if not autapses:
            with torch.no_grad():
                self.recurrent_weights.fill_diagonal_(0.0)

    def _weights(self, name: str, given: Tensor | None, inputs: int) -> nn.Parameter:
        shape = (self.hidden_size, inputs)
        if given is None:
            return nn.Parameter(torch.randn(shape) * torch.sqrt(2.0 / torch.as_tensor(self.hidden_size)))
        if tuple(given.shape) != shape:
            raise ValueError(f"{type(self).__name__}: {name} has shape {tuple(given.shape)}, expected {shape}")
        return given if isinstance(given, nn.Parameter) else nn.Parameter(given.detach().clone())

    def extra_repr(self) -> str:
        sizes = f"input_size={self.input_size}, hidden_size={self.hidden_size}"
        return f"{sizes}, p={self.p}, autapses={self.autapses}, dt={self.dt}"

    def forward(self, input_tensor: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        check_export(self)
        op = "LIFRecurrentCell"
        current = weighted(op, input_tensor, self.input_weights)
        return lif_recurrent_one(op, current, state, self.recurrent_weights, self.p, self.dt, self.autapses)


class LIFRecurrent(LIFRecurrentCell):
    """A layer of recurrent LIF neurons over time: `lif_recurrent` with trainable weights; x is (time, ..., input_size).

    Args:
        input_size, hidden_size, p, input_weights, recurrent_weights, autapses, dt: as `LIFRecurrentCell`.
        record_states: as in `LI`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        p: LIFParameters = LIF_DEFAULT,
        input_weights: Tensor | None = None,
        recurrent_weights: Tensor | None = None,
        autapses: bool = False,
        dt: float = 0.001,
        record_states: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, p, input_weights, recurrent_weights, autapses, dt)
        self.record_states = record_states

    def forward(self, input_tensor: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        check_export(self)
        op = "LIFRecurrent"
        current = weighted(op, input_tensor, self.input_weights)
        weights = self.recurrent_weights if self.autapses else without_diagonal(self.recurrent_weights)
        return lif_recurrent_all(op, current, state, weights, self.p, self.dt, self.record_states)

"""What every neuron module is made of: parameters of the neurons' shape, and leaks that can be seen in three views."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Value = Tensor | float
"""A parameter's initial value: a number for all neurons, or a tensor of their shape."""


def _exponential_decay(tau: Tensor, dt: float) -> Tensor:
    return torch.exp(tau.reciprocal() * -dt)  # -dt / tau by the operations that PyTorch makes of it, without its Python between


def _exponential_tau(decay: Tensor, dt: float) -> Tensor:
    return -dt / torch.log(decay)


def _euler_decay(tau: Tensor, dt: float) -> Tensor:
    return 1 - dt / tau


def _euler_tau(decay: Tensor, dt: float) -> Tensor:
    return dt / (1 - decay)


class Views(NamedTuple):
    """How a leak's decay a step follows from a time constant tau (s) and a step dt (s), and back."""

    decay_from_tau: Callable[[Tensor, float], Tensor]
    tau_from_decay: Callable[[Tensor, float], Tensor]


EXPONENTIAL = Views(_exponential_decay, _exponential_tau)
"""The exact solution between steps: decay = exp(-dt/tau)."""
EULER = Views(_euler_decay, _euler_tau)
"""Forward Euler: decay = 1 - dt/tau."""

RANGES = {"tau": (0.0, math.inf, True), "decay": (0.0, 1.0, False), "dash": (0.0, math.inf, False)}
"""Allowed initial values of each view: lowest, highest, whether the lowest itself is excluded."""


class Leak(NamedTuple):
    """One leak of a module: the view that is its parameter, and the rule of its conversions."""

    stored: str
    views: Views

    def decay(self, value: Tensor, view: str, dt: float) -> Tensor:
        if view == "tau":
            return self.views.decay_from_tau(value, dt)
        return value if view == "decay" else 1 - 1 / 2**value

    def view(self, decay: Tensor, view: str, dt: float) -> Tensor:
        if view == "tau":
            return self.views.tau_from_decay(decay, dt)
        return decay if view == "decay" else -torch.log2(1 - decay)

    def convert(self, value: Tensor, source: str, target: str, dt: float) -> Tensor:
        return value if source == target else self.view(self.decay(value, source, dt), target, dt)


class Neuron(nn.Module):
    """Base of the neuron modules. Parameters are of shape () or of the neurons'; those not trainable have requires_grad False,
    so that they can be made trainable later, and are in the state dict all the same."""

    def __init__(self, size: int | Sequence[int], dt: float, batch_first: bool, backend: str) -> None:
        super().__init__()
        name = type(self).__name__
        sizes = (size,) if isinstance(size, int) else tuple(size)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes):
            raise ValueError(f"{name}: size is {size!r}, expected a number of neurons or a shape")
        if isinstance(dt, bool) or not isinstance(dt, (int, float)) or not (dt > 0 and math.isfinite(dt)):
            raise ValueError(f"{name}: dt is {dt!r}, expected a time step in seconds, above 0")
        if backend not in ("fused", "loop"):
            raise ValueError(f"{name}: backend is {backend!r}, expected 'fused' or 'loop'")
        self.size: tuple[int, ...] = sizes
        self.dt = float(dt)
        self.batch_first = batch_first
        self.backend = backend
        self.w_rec: nn.Parameter | None
        self.register_parameter("w_rec", None)
        self._leaks: dict[str, Leak] = {}
        self._initial: dict[str, Tensor] = {}

    def add_parameter(
        self,
        name: str,
        value: Value,
        shape: Sequence[int],
        *,
        low: float = -math.inf,
        high: float = math.inf,
        open_low: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Registers a parameter after checking its initial value: numbers, and tensors too, for this happens once."""
        owner = type(self).__name__
        if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
            raise TypeError(f"{owner}: {name} is {value!r}, expected a number or a tensor")
        dtype = dtype or (value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.get_default_dtype())
        own = value.device if isinstance(value, Tensor) else torch.device("cpu")
        initial = torch.as_tensor(value, dtype=dtype, device=own).detach().clone()
        fits = initial.dim() in (0, len(shape)) and all(n in (1, m) for n, m in zip(initial.shape, shape, strict=False))
        if not fits:
            raise ValueError(f"{owner}: {name} has shape {tuple(initial.shape)}, expected a number or shape {tuple(shape)}")
        if not bool(((initial > low) if open_low else (initial >= low)).all() and (initial <= high).all()):
            expected = f"above {low:g}" if open_low else f"in [{low:g}, {high:g}]"
            raise ValueError(f"{owner}: {name} is {value}, expected values {expected}")
        # Kept where it came from: a module made on the meta device is given its values by to_empty() and reset_parameters().
        self._initial[name] = initial
        place = device or (own if isinstance(value, Tensor) else torch.get_default_device())
        self.register_parameter(name, nn.Parameter(initial.to(device=place, copy=True), requires_grad=False))

    def add_optional_parameter(
        self,
        name: str,
        value: Value | None,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """With None there is no such parameter and the attribute is None: one that is missing would take `run` long to find out."""
        if value is None:
            self.register_parameter(name, None)
        else:
            self.add_parameter(name, value, shape, device=device, dtype=dtype)

    def add_leak(
        self,
        leak: str,
        given: Mapping[str, Value | None],
        shape: Sequence[int],
        default_tau: float = 20e-3,
        views: Views = EXPONENTIAL,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Registers the leak's parameter <view>_<leak>, for the one view that was given (tau if none was)."""
        chosen = [view for view, value in given.items() if value is not None]
        if len(chosen) > 1:
            names = " and ".join(f"{view}_{leak}" for view in chosen)
            raise ValueError(f"{type(self).__name__}: {names} were both given, expected one: they are views of the same leak")
        stored = chosen[0] if chosen else "tau"
        value = given.get(stored)
        low, high, open_low = RANGES[stored]
        self._leaks[leak] = Leak(stored, views)
        self.add_parameter(
            f"{stored}_{leak}",
            default_tau if value is None else value,
            shape,
            low=low,
            high=high,
            open_low=open_low,
            device=device,
            dtype=dtype,
        )

    def add_recurrent(
        self, recurrent: bool | Tensor, width: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        """Registers trainable recurrent weights w_rec, from N neurons to the `width` currents of each; none if False."""
        if recurrent is False:
            return
        shape = (math.prod(self.size), math.prod(self.size) * width)
        if isinstance(recurrent, Tensor):
            if tuple(recurrent.shape) != shape:
                raise ValueError(f"{type(self).__name__}: recurrent has shape {tuple(recurrent.shape)}, expected weights {shape}")
            self.add_parameter("w_rec", recurrent, shape, device=device, dtype=dtype)
        elif recurrent is not True:
            raise TypeError(f"{type(self).__name__}: recurrent is {recurrent!r}, expected True, False or the initial weights")
        else:
            self.w_rec = nn.Parameter(torch.empty(shape, device=device, dtype=dtype or torch.get_default_dtype()))
            self._draw_weights()
        assert self.w_rec is not None
        self.w_rec.requires_grad_()

    def _draw_weights(self) -> None:
        if self.w_rec is not None:
            bound = 1 / math.sqrt(max(1, self.w_rec.shape[0]))
            nn.init.uniform_(self.w_rec, -bound, bound)

    def set_trainable(self, trainable: Iterable[str] | bool) -> None:
        """Makes the parameters named (True: all) require a gradient, and no others."""
        if isinstance(trainable, str):
            raise TypeError(
                f"{type(self).__name__}: trainable is the string {trainable!r}, expected a sequence such as ({trainable!r},)"
            )
        own = dict(self.named_parameters(recurse=False))
        names = list(own if trainable is True else trainable or ())
        for name in names:
            if name not in own:
                raise ValueError(f"{type(self).__name__}: trainable names {name!r}, expected names from {', '.join(own)}")
        for name, parameter in own.items():
            parameter.requires_grad_(name in names)

    def reset_parameters(self) -> None:
        """Sets every parameter to the value it was made with; recurrent weights that were drawn are drawn anew."""
        if "w_rec" not in self._initial:
            self._draw_weights()
        with torch.no_grad():
            for name, initial in self._initial.items():
                self.get_parameter(name).copy_(initial)

    def check_size(self, x: Tensor, synapses: int = 0) -> None:
        """ValueError unless x is a batch of sequences for these neurons."""
        expected = self.size if synapses < 2 else (self.size[0] * synapses,)
        if isinstance(x, Tensor) and (x.dim() != 2 + len(expected) or x.shape[2:] != expected):
            order = "(batch, time" if self.batch_first else "(time, batch"
            wanted = ", ".join([order, *map(str, expected)]) + ")"
            raise ValueError(f"{type(self).__name__}: x has shape {tuple(x.shape)}, expected {wanted}")

    def _view(self, name: str) -> tuple[str, str] | None:
        """(leak, view) if the name is a view of a leak that is not its parameter."""
        view, _, leak = name.partition("_")
        leaks = self.__dict__.get("_leaks", {})
        return (leak, view) if leak in leaks and view in RANGES and view != leaks[leak].stored else None

    def __getattr__(self, name: str) -> Any:
        parameters = self.__dict__.get("_parameters", {})
        if name in parameters:  # what every call asks for comes first
            return parameters[name]
        found = self._view(name)
        if found is None:
            return super().__getattr__(name)
        leak, view = found
        rule = self._leaks[leak]
        return rule.convert(getattr(self, f"{rule.stored}_{leak}"), rule.stored, view, self.dt)

    def __setattr__(self, name: str, value: Any) -> None:
        found = self._view(name)
        parameters = self.__dict__.get("_parameters", {})
        if found is None and (parameters.get(name) is None or isinstance(value, nn.Parameter) or value is None):
            super().__setattr__(name, value)
            return
        with torch.no_grad():
            if found is None:
                target = parameters[name]
                new = torch.as_tensor(value, dtype=target.dtype, device=target.device)
            else:
                leak, view = found
                stored = self._leaks[leak].stored
                target = parameters[f"{stored}_{leak}"]
                given = torch.as_tensor(value, dtype=target.dtype, device=target.device)
                new = self._leaks[leak].convert(given, view, stored, self.dt)
            if new.dim() and new.shape != target.shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} was set to shape {tuple(new.shape)}, expected a number or {tuple(target.shape)}"
                )
            target.copy_(new)

    def extra_repr(self) -> str:
        size = self.size[0] if len(self.size) == 1 else self.size
        parts = [f"{size}"]
        for name, parameter in self.named_parameters(recurse=False):
            if name == "w_rec":
                parts.append("recurrent")
                continue
            text = f"{parameter.item():g}" if parameter.dim() == 0 and not parameter.is_meta else str(tuple(parameter.shape))
            parts.append(f"{name}={text}" + (" (trainable)" if parameter.requires_grad else ""))
        parts.append(f"dt={self.dt:g}")
        if not self.batch_first:
            parts.append("batch_first=False")
        if self.backend != "fused":
            parts.append(f"backend={self.backend!r}")
        return ", ".join(parts)

"""What every neuron module is made of: parameters of the neurons' shape, and leaks that can be seen in three views."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._call import check_freed, check_input
from .._check import ANY, LARGEST, Range, check_device, check_dtype, fits, flag, number, step, whole_number

Value = Tensor | float
"""A parameter's initial value: a number for all neurons, or a tensor of their shape."""


def _exponential_decay(tau: Tensor, dt: float) -> Tensor:
    return torch.exp(tau.reciprocal() * -dt)  # -dt / tau by the operations that PyTorch makes of it, without its Python between


def _exponential_tau(decay: Tensor, dt: float) -> Tensor:
    return torch.abs(dt / torch.log(decay))  # not its negative, which is -inf for a decay of 1


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

RANGES = {"tau": Range(0.0, open_low=True), "decay": Range(0.0, 1.0), "dash": Range(0.0)}
"""Allowed values of each view."""


class Leak(NamedTuple):
    """One leak of a module: the view that is its parameter, and the rule of its conversions."""

    stored: str
    views: Views

    def within(self, view: str, dt: float) -> Range:
        """The allowed values of a view. By forward Euler more than all leaks away where tau is less than dt."""
        return Range(dt) if view == "tau" and self.views is EULER else RANGES[view]

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


def _check_backend(owner: str, name: str, value: object) -> str:
    if not isinstance(value, str) or value not in ("fused", "loop"):
        raise ValueError(f"{owner}: {name} is {value!r}, expected 'fused' or 'loop'")
    return str(value)


def _check_size(owner: str, size: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(size) if isinstance(size, Iterable) and not isinstance(size, str) else (size,)
        return tuple(whole_number(owner, "size", n, high=2**63 - 1) for n in sizes)
    except (TypeError, ValueError):
        raise ValueError(f"{owner}: size is {size!r}, expected a number of neurons or a shape") from None


CONVERTIBLE = (*LARGEST, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Dtypes of what a parameter can be made from."""


def value_text(value: Tensor) -> str:
    """A single value, else the shape."""
    return f"{value.item():g}" if value.numel() == 1 and not value.is_meta else str(tuple(value.shape))


def _convertible(owner: str, name: str, value: Tensor) -> Tensor:
    """A tensor that a parameter can be made from without losing a part of it."""
    if check_input(owner, value, name).dtype not in CONVERTIBLE:
        raise TypeError(f"{owner}: {name} is {value.dtype}, expected a tensor of floating-point numbers")
    return check_freed(owner, name, value)


def _shown(value: Value) -> str:
    """A value in an error: of many only their range."""
    if not isinstance(value, Tensor):
        return str(value)
    if value.numel() == 1:
        return f"{value.item():g}"
    return f"from {value.min().item():g} to {value.max().item():g}"


class Interval(nn.Module):
    """Holds a parameter as an unbounded number, so that its value stays within a range whatever a training step does: low +
    exp(raw), or with an upper bound low + (high - low) * sigmoid(raw)."""

    def __init__(self, within: Range) -> None:
        super().__init__()
        self.within = within

    def forward(self, raw: Tensor) -> Tensor:
        low, high = self.within.low, self.within.high
        return low + (torch.exp(raw) if high == math.inf else (high - low) * torch.sigmoid(raw))

    def right_inverse(self, value: Tensor) -> Tensor:
        low, high = self.within.low, self.within.high
        if not bool(((value > low) & (value < high)).all()):
            raise ValueError(
                f"a constrained parameter was set to {_shown(value)}, expected values between {low:g} and {high:g}, not at an end"
            )
        return torch.log(value - low) if high == math.inf else torch.logit((value - low) / (high - low))

    def extra_repr(self) -> str:
        return f"{self.within.low:g} to {self.within.high:g}"


class Neuron(nn.Module):
    """Base of the neuron modules. Parameters have the neurons' shape, or 1 in every dimension if all neurons share the value; those
    not trainable have requires_grad False, so that they can be made trainable later, and are in the state dict all the same."""

    SETTINGS: ClassVar[dict[str, Callable[[str, str, Any], Any]]] = {
        "dt": step,
        "batch_first": flag,
        "backend": _check_backend,
    }
    """How each attribute that is no tensor is checked when it is set."""

    def __init__(self, size: int | Sequence[int], dt: float, batch_first: bool, backend: str) -> None:
        super().__init__()
        self._leaks: dict[str, Leak] = {}
        self._ranges: dict[str, Range] = {}
        self._initial: dict[str, Tensor] = {}
        self.size: tuple[int, ...] = _check_size(type(self).__name__, size)
        self.dt = dt
        self.batch_first = batch_first
        self.backend = backend
        self.w_rec: nn.Parameter | None
        self.register_parameter("w_rec", None)

    def initial_value(self, name: str, value: Value, shape: Sequence[int], within: Range, dtype: torch.dtype | None) -> Tensor:
        """A parameter's first value, where it came from, after checks: numbers, and tensors too, for this happens once."""
        owner = type(self).__name__
        check_dtype(owner, dtype)
        if not isinstance(value, Tensor):
            own = torch.get_default_dtype()
            fits(owner, name, number(owner, name, value, "a number or a tensor"), own if dtype is None else dtype)
        else:
            value = _convertible(owner, name, value)
            own = value.dtype if value.is_floating_point() else torch.get_default_dtype()
        dtype = own if dtype is None else dtype
        initial = torch.as_tensor(value, dtype=dtype, device=value.device if isinstance(value, Tensor) else "cpu").detach().clone()
        if initial.dim() not in (0, len(shape)) or not all(n in (1, m) for n, m in zip(initial.shape, shape, strict=False)):
            raise ValueError(f"{owner}: {name} has shape {tuple(initial.shape)}, expected a number or shape {tuple(shape)}")
        if within != ANY and not initial.is_meta and not within.holds_all(initial):
            raise ValueError(f"{owner}: {name} is {_shown(value)}, expected values {within}")
        # Not of shape (): fully_shard of PyTorch refuses parameters without a dimension.
        return initial.reshape((1,) * len(shape)) if initial.dim() == 0 else initial

    def add_parameter(
        self,
        name: str,
        value: Value,
        shape: Sequence[int],
        *,
        within: Range = ANY,
        trained: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Registers a parameter, or what cannot be trained as a buffer."""
        check_device(type(self).__name__, device)
        initial = self.initial_value(name, value, shape, within, dtype)
        # Kept where it came from: a module made on the meta device is given its values by to_empty() and reset_parameters().
        self._initial[name], self._ranges[name] = initial, within
        own = initial.device if isinstance(value, Tensor) else torch.get_default_device()
        place = torch.device(own if device is None else device)
        if initial.is_meta and place.type != "meta":
            raise ValueError(f"{type(self).__name__}: {name} is on meta, which holds no values, expected a tensor with values")
        placed = initial.to(device=place, copy=True)
        if trained:
            self.register_parameter(name, nn.Parameter(placed, requires_grad=False))
        else:
            self.register_buffer(name, placed)

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
        self._leaks[leak] = Leak(stored, views)
        self.add_parameter(
            f"{stored}_{leak}",
            default_tau if value is None else value,
            shape,
            within=self._leaks[leak].within(stored, self.dt),
            device=device,
            dtype=dtype,
        )

    def add_recurrent(
        self, recurrent: bool | Tensor, width: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        """Registers trainable recurrent weights w_rec, from N neurons to the `width` currents of each; none if False."""
        if recurrent is False:
            return
        self._ranges["w_rec"] = ANY
        shape = (math.prod(self.size), math.prod(self.size) * width)
        if isinstance(recurrent, Tensor):
            recurrent = check_input(type(self).__name__, recurrent, "recurrent")
            if tuple(recurrent.shape) != shape:
                raise ValueError(f"{type(self).__name__}: recurrent has shape {tuple(recurrent.shape)}, expected weights {shape}")
            self.add_parameter("w_rec", recurrent, shape, device=device, dtype=dtype)
        elif recurrent is not True:
            raise TypeError(f"{type(self).__name__}: recurrent is {recurrent!r}, expected True, False or the initial weights")
        else:
            self.w_rec = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self._draw_weights()
        assert self.w_rec is not None
        self.w_rec.requires_grad_()

    def _draw_weights(self) -> None:
        if self.w_rec is not None:
            bound = 1 / math.sqrt(max(1, self.w_rec.shape[0]))
            self._assign("w_rec", torch.empty_like(self.w_rec).uniform_(-bound, bound))

    def _assign(self, name: str, value: Tensor) -> None:
        """Gives a parameter or buffer new values: in place, by the parametrization if it has one."""
        if not self._owns(name):
            raise ValueError(
                f"{type(self).__name__}: {name} is no parameter of the layer any more, as after torch.nn.utils.weight_norm; "
                "expected one, or a parametrization: torch.nn.utils.parametrizations.weight_norm"
            )
        with torch.no_grad():
            target: Tensor = getattr(self, name)
            if parametrize.is_parametrized(self, name):
                super().__setattr__(name, value.expand(target.shape).clone())
            else:
                target.copy_(value)

    def _owns(self, name: str) -> bool:
        return name in self._parameters or name in self._buffers or parametrize.is_parametrized(self, name)

    def constrain(self, *names: str) -> Neuron:
        """Holds parameters so that no training step takes them out of their range: a time constant or threshold as the logarithm of
        its distance from the lower end, a decay as the logit of its place between the ends.

        Uses torch.nn.utils.parametrize: what is trained, saved and given to an optimizer made from here on is the tensor
        `parametrizations.<name>.original`; `layer.<name>` still reads and sets the value, which may change in its last digits.

        Args:
            names: parameters of the layer that have a range, such as "tau_mem" or "threshold".

        Returns:
            The layer itself.

        Raises:
            ValueError: a name that is no parameter of the layer, or one without bounds; a value at an end of its range.
        """
        for name in names:
            within = self._ranges.get(name, ANY)
            if within == ANY:
                known = [own for own, limits in self._ranges.items() if limits != ANY]
                raise ValueError(f"{type(self).__name__}: constrain names {name!r}, expected names from {', '.join(known)}")
            parametrize.register_parametrization(self, name, Interval(within))
        return self

    def set_trainable(self, trainable: Iterable[str] | bool) -> None:
        """Makes the parameters named (True: all) require a gradient, and no others."""
        if isinstance(trainable, str):
            raise TypeError(
                f"{type(self).__name__}: trainable is the string {trainable!r}, expected a sequence such as ({trainable!r},)"
            )
        own = dict(self.named_parameters(recurse=False))
        if isinstance(trainable, Tensor) or not isinstance(trainable, (bool, Iterable)):
            raise TypeError(f"{type(self).__name__}: trainable is {trainable!r}, expected True, False or a sequence of names")
        names = list(own) if trainable is True else [] if trainable is False else list(trainable)
        for name in names:
            if not isinstance(name, str) or name not in own:
                raise ValueError(f"{type(self).__name__}: trainable names {name!r}, expected names from {', '.join(own)}")
        for name, parameter in own.items():
            parameter.requires_grad_(name in names)

    def reset_parameters(self) -> None:
        """Sets every parameter to the value it was made with; recurrent weights that were drawn are drawn anew."""
        if "w_rec" not in self._initial:
            self._draw_weights()
        for name, initial in self._initial.items():
            if initial.is_meta and not getattr(self, name).is_meta:
                raise ValueError(
                    f"{type(self).__name__}: {name} was made from a tensor on meta, which holds no values to reset it to"
                )
            self._assign(name, initial)

    def check_size(self, x: Tensor, synapses: int = 0) -> None:
        """TypeError or ValueError unless x is a batch of sequences for these neurons."""
        x = check_input(type(self).__name__, x)
        expected = self.size if synapses < 2 else (self.size[0] * synapses,)
        if x.dim() != 2 + len(expected) or x.shape[2:] != expected:
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
        """Settings are checked. A parameter takes a number or a tensor within its range, in place, by any view of a leak; only an
        nn.Parameter takes its place, as it is."""
        owner, setting = type(self).__name__, self.SETTINGS.get(name)
        if setting is not None:
            value = setting(owner, name, value)
            if name == "dt":
                self._check_leaks(value)
            super().__setattr__(name, value)
            return
        found = self._view(name)
        own = name if found is None else f"{self._leaks[found[0]].stored}_{found[0]}"
        ranges = self.__dict__.get("_ranges", {})
        if own not in ranges or not self._owns(own) or value is None or (isinstance(value, nn.Parameter) and found is None):
            super().__setattr__(name, value)
            return
        if not isinstance(value, Tensor):
            value = number(owner, name, value, "a number or a tensor")
            fits(owner, name, value, getattr(self, own).dtype)
        else:
            _convertible(owner, name, value)
        with torch.no_grad():
            target: Tensor = getattr(self, own)
            new = torch.as_tensor(value, dtype=target.dtype, device=target.device)
            if found is not None:
                leak = self._leaks[found[0]]
                self._check_range(name, new, leak.within(found[1], self.dt))
                new = leak.convert(new, found[1], leak.stored, self.dt)
            self._check_range(name, new, ranges[own])
            if new.dim() and new.shape != target.shape:
                shape = tuple(target.shape)
                raise ValueError(f"{owner}: {name} was set to shape {tuple(new.shape)}, expected a number or {shape}")
        self._assign(own, new)

    def _check_range(self, name: str, value: Tensor, within: Range, when: str = "") -> None:
        """Reads the value, which on a GPU waits for it: for what is set once."""
        if within != ANY and not value.is_meta and not torch.compiler.is_compiling() and not within.holds_all(value):
            raise ValueError(f"{type(self).__name__}: {name} was set to {_shown(value)}, expected values {within}{when}")

    def _check_leaks(self, dt: float) -> None:
        """A new time step has to fit all time constants."""
        fresh = {f"{leak.stored}_{name}": leak.within(leak.stored, dt) for name, leak in self._leaks.items()}
        for own, within in fresh.items():
            if within != self._ranges[own]:
                self._check_range(own, getattr(self, own), within, f" with dt = {dt:g}")
        self._ranges.update(fresh)

    def extra_repr(self) -> str:
        size = self.size[0] if len(self.size) == 1 else self.size
        parts = [f"{size}"]
        for name, parameter in self.named_parameters(recurse=False):
            if name == "w_rec":
                parts.append("recurrent")
                continue
            parts.append(f"{name}={value_text(parameter)}" + (" (trainable)" if parameter.requires_grad else ""))
        parts.append(f"dt={self.dt:g}")
        if not self.batch_first:
            parts.append("batch_first=False")
        if self.backend != "fused":
            parts.append(f"backend={self.backend!r}")
        return ", ".join(parts)

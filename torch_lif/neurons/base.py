"""Base classes of the neuron modules: parameters of the neurons' shape, and leaks that can be seen in three views."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._call import check_backend, check_freed, check_input, check_memory, check_surrogate
from .._check import ANY, LARGEST, Range, check_device, check_dtype, constant, fits, flag, number, step, whole_number
from ..surrogate import Surrogate
from .leak import DEFAULT_TAU, EXPONENTIAL, RANGES, Leak, Views

Result = TypeVar("Result", bound=tuple[Any, ...])
"""What a neuron's function returns: a named tuple of its output, its state and its records."""

Own = TypeVar("Own", bound="Neuron[Any]")
Value = Tensor | float
"""A parameter's initial value: a number for all neurons, or a tensor of their shape."""


def check_noise(owner: str, noise_std: float) -> float:
    value = constant(owner, "noise_std", noise_std)
    if not 0 <= value < math.inf:
        raise ValueError(f"{owner}: noise_std is {noise_std}, expected a finite number of 0 or more")
    return value


def _check_size(owner: str, size: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(size) if isinstance(size, Iterable) and not isinstance(size, str) else (size,)
        return tuple(whole_number(owner, "size", n, high=2**63 - 1) for n in sizes)
    except (TypeError, ValueError):
        raise ValueError(f"{owner}: size is {size!r}, expected a number of neurons or a shape") from None


CONVERTIBLE = (*LARGEST, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Dtypes of what a parameter can be made from."""


def value_text(value: Tensor) -> str:
    """A single value as text; of more values the shape."""
    return f"{value.item():g}" if value.numel() == 1 and not value.is_meta else str(tuple(value.shape))


def _convertible(owner: str, name: str, value: Tensor) -> Tensor:
    """A tensor that a parameter can be made from without losing a part of it."""
    if check_input(owner, value, name).dtype not in CONVERTIBLE:
        raise TypeError(f"{owner}: {name} is {value.dtype}, expected a tensor of floating-point numbers")
    return check_freed(owner, name, value)


def _shown(value: Value) -> str:
    """A value as text for an error; of several values only the range."""
    if not isinstance(value, Tensor):
        return str(value)
    if value.numel() == 1:
        return f"{value.item():g}"
    return f"from {value.min().item():g} to {value.max().item():g}"


class Interval(nn.Module):
    """Holds a parameter as an unbounded number, so that its value stays within a range whatever a training step does:
    low + exp(raw), or with an upper bound low + (high - low) * sigmoid(raw)."""

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
                f"a constrained parameter was set to {_shown(value)}, expected values between {low:g} and "
                f"{high:g}, not at an end"
            )
        return torch.log(value - low) if high == math.inf else torch.logit((value - low) / (high - low))

    def extra_repr(self) -> str:
        return f"{self.within.low:g} to {self.within.high:g}"


class Neuron(nn.Module, Generic[Result]):
    """Base of the neuron modules. Parameters have the neurons' shape, or 1 in every dimension if all neurons share the
    value. Parameters that are not trained have requires_grad False. They can be made trainable later, and are in the
    state dict too."""

    SETTINGS: ClassVar[dict[str, Callable[[str, str, Any], Any]]] = {
        "dt": step,
        "batch_first": flag,
        "backend": check_backend,
        "noise_std": lambda owner, name, value: check_noise(owner, value),
        "memory": lambda owner, name, value: check_memory(owner, value) or None,
    }
    """How each attribute that is not a tensor is checked when it is set."""
    function: Callable[..., Result]
    """The neuron's function in `torch_lif.functional`."""

    def __init__(
        self,
        size: int | Sequence[int],
        dt: float,
        batch_first: bool,
        backend: str,
        noise_std: float,
        memory: str | None,
    ) -> None:
        super().__init__()
        self._leaks: dict[str, Leak] = {}
        self._ranges: dict[str, Range] = {}
        self._initial: dict[str, Tensor] = {}
        self.size: tuple[int, ...] = _check_size(type(self).__name__, size)
        self.synapses = 0
        self.dt = dt
        self.batch_first = batch_first
        self.backend = backend
        self.noise_std = noise_std
        self.memory = memory

    def forward(self, x: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The output from a fresh state, (batch, time, *size). For states and records use `run`."""
        output: Tensor = self.run(x, noise=noise, generator=generator)[0]
        return output

    def run(
        self,
        x: Tensor,
        state: Sequence[Tensor | None] | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        record: Sequence[str] = (),
    ) -> Result:
        """The layer with explicit state.

        Args:
            x: input, (batch, time, *size); with S >= 2 synapses (batch, time, size * S).
            state: the state to start from, as a call returned it. Default: a fresh one.
            noise: added to the membrane in each step, (batch, time, *size). Default: none, or with `noise_std` one draw
                per call of noise_std * sqrt(dt) * randn.
            generator: random generator of that draw. Default: PyTorch's own.
            record: names of states whose value after each step is returned too: see the layer's function.

        Returns:
            The result of the layer's function in `torch_lif.functional`: a named tuple of output, state and records.

        Raises:
            ValueError, TypeError: x of another size; `noise` although the layer has a noise_std; what the function
                refuses.
        """
        self.check_size(x)
        if self.noise_std:
            if noise is not None:
                raise ValueError(
                    f"{type(self).__name__}: noise was given, but the layer makes its own: noise_std is "
                    f"{self.noise_std}"
                )
            noise = self.draw_noise(x, generator)
        if state is None:
            state = self.first_state(x)
        return self.function(x, noise=noise, state=state, record=record, **self.arguments())

    def arguments(self) -> dict[str, Any]:
        """What `run` passes to the neuron's function besides x, noise, state and record."""
        return {"bias": self.bias, "batch_first": self.batch_first, "memory": self.memory, "backend": self.backend}

    def first_state(self, x: Tensor) -> Sequence[Tensor | None] | None:
        """A fresh state; None: all zero."""
        return None

    def draw_noise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise for a call with x, (batch, time, *size): noise_std * sqrt(dt) * randn."""
        if x.dtype not in LARGEST:
            raise TypeError(
                f"{type(self).__name__}: x is {x.dtype}, expected a floating-point tensor; convert it with x.float()"
            )
        shape = (*x.shape[:2], *self.size)
        # Not as generator=None, which fails in torch.compile(dynamic=True).
        drawn: dict[str, Any] = {} if generator is None else {"generator": generator}
        return self.noise_std * math.sqrt(self.dt) * torch.randn(shape, dtype=x.dtype, device=x.device, **drawn)

    def initial_value(
        self, name: str, value: Value, shape: Sequence[int], within: Range, dtype: torch.dtype | None
    ) -> Tensor:
        """A parameter's first value, on the device where it came from, after checks. The values of tensors are checked
        too, because this happens once."""
        owner = type(self).__name__
        check_dtype(owner, dtype)
        if not isinstance(value, Tensor):
            own = torch.get_default_dtype()
            fits(owner, name, number(owner, name, value, "a number or a tensor"), own if dtype is None else dtype)
        else:
            value = _convertible(owner, name, value)
            own = value.dtype if value.is_floating_point() else torch.get_default_dtype()
        dtype = own if dtype is None else dtype
        initial = (
            torch.as_tensor(value, dtype=dtype, device=value.device if isinstance(value, Tensor) else "cpu")
            .detach()
            .clone()
        )
        if initial.dim() not in (0, len(shape)) or not all(
            n in (1, m) for n, m in zip(initial.shape, shape, strict=False)
        ):
            raise ValueError(
                f"{owner}: {name} has shape {tuple(initial.shape)}, expected a number or shape {tuple(shape)}"
            )
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
        """Registers a parameter, or with trained=False a buffer."""
        check_device(type(self).__name__, device)
        initial = self.initial_value(name, value, shape, within, dtype)
        # The initial value stays on the device where it came from: a module made on the meta device gets its values by
        # to_empty() and reset_parameters().
        self._initial[name], self._ranges[name] = initial, within
        own = initial.device if isinstance(value, Tensor) else torch.get_default_device()
        place = torch.device(own if device is None else device)
        if initial.is_meta and place.type != "meta":
            raise ValueError(
                f"{type(self).__name__}: {name} is on meta, which holds no values, expected a tensor with values"
            )
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
        """With None there is no such parameter, and the attribute is None. (If the attribute were missing, `run` would
        take long to find out.)"""
        if value is None:
            self.register_parameter(name, None)
        else:
            self.add_parameter(name, value, shape, device=device, dtype=dtype)

    def add_leak(
        self,
        leak: str,
        given: Mapping[str, Value | None],
        shape: Sequence[int],
        views: Views = EXPONENTIAL,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Registers the leak's parameter <view>_<leak>, for the one view that was given (tau if none was)."""
        chosen = [view for view, value in given.items() if value is not None]
        if len(chosen) > 1:
            names = " and ".join(f"{view}_{leak}" for view in chosen)
            raise ValueError(
                f"{type(self).__name__}: {names} were both given, expected one: they are views of the same leak"
            )
        stored = chosen[0] if chosen else "tau"
        value = given.get(stored)
        self._leaks[leak] = Leak(stored, views)
        self.add_parameter(
            f"{stored}_{leak}",
            DEFAULT_TAU[leak] if value is None else value,
            shape,
            within=self._leaks[leak].within(stored, self.dt),
            device=device,
            dtype=dtype,
        )

    def _assign(self, name: str, value: Tensor) -> None:
        """Gives a parameter or buffer new values: in place, or through its parametrization if it has one."""
        if not self._owns(name):
            raise ValueError(
                f"{type(self).__name__}: {name} is no parameter of the layer any more, as after "
                "torch.nn.utils.weight_norm; "
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

    def constrain(self: Own, *names: str) -> Own:
        """Holds parameters so that no training step takes them out of their range: a time constant or threshold as the
        logarithm of its distance from the lower end, a decay as the logit of its place between the ends.

        Uses torch.nn.utils.parametrize. From here on, the tensor `parametrizations.<name>.original` is what is trained,
        saved and given to an optimizer. `layer.<name>` still reads and sets the value, which may change in its last
        digits.

        Args:
            names: parameters of the layer that have a range, such as "tau_mem" or "threshold".

        Returns:
            The layer itself.

        Raises:
            ValueError: a name that is not a parameter of the layer, or a parameter without bounds; a value at an end of
                its range.
        """
        for name in names:
            within = self._ranges.get(name, ANY)
            if within == ANY:
                known = [own for own, limits in self._ranges.items() if limits != ANY]
                raise ValueError(
                    f"{type(self).__name__}: constrain names {name!r}, expected names from {', '.join(known)}"
                )
            parametrize.register_parametrization(self, name, Interval(within))
        return self

    def set_trainable(self, trainable: Iterable[str] | bool) -> None:
        """Makes the named parameters (True: all) require a gradient, and no others."""
        if isinstance(trainable, str):
            raise TypeError(
                f"{type(self).__name__}: trainable is the string {trainable!r}, expected a sequence such as "
                f"({trainable!r},)"
            )
        own = dict(self.named_parameters(recurse=False))
        if isinstance(trainable, Tensor) or not isinstance(trainable, (bool, Iterable)):
            raise TypeError(
                f"{type(self).__name__}: trainable is {trainable!r}, expected True, False or a sequence of names"
            )
        names = list(own) if trainable is True else [] if trainable is False else list(trainable)
        for name in names:
            if not isinstance(name, str) or name not in own:
                raise ValueError(
                    f"{type(self).__name__}: trainable names {name!r}, expected names from {', '.join(own)}"
                )
        for name, parameter in own.items():
            parameter.requires_grad_(name in names)

    def reset_parameters(self) -> None:
        """Sets every parameter to the value it was made with."""
        for name, initial in self._initial.items():
            if initial.is_meta and not getattr(self, name).is_meta:
                raise ValueError(
                    f"{type(self).__name__}: {name} was made from a tensor on meta, which holds no values to "
                    "reset it to"
                )
            self._assign(name, initial)

    def check_size(self, x: Tensor) -> None:
        """TypeError or ValueError unless x is a batch of sequences for these neurons."""
        x = check_input(type(self).__name__, x)
        expected = self.size if self.synapses < 2 else (self.size[0] * self.synapses,)
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

    def rate(self, leak: str) -> Tensor:
        """The fraction that leaks away per step, by forward Euler: dt/tau = 1 - decay."""
        stored = self._leaks[leak].stored
        value: Tensor = getattr(self, f"{stored}_{leak}")
        return self.dt / value if stored == "tau" else 1 - value if stored == "decay" else 1 / 2**value

    def __setattr__(self, name: str, value: Any) -> None:
        """Checks settings. Writes a number or a tensor within its range into a parameter in place, by any view of a
        leak. Only an nn.Parameter replaces the parameter; it is taken as it is."""
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
        if (
            own not in ranges
            or not self._owns(own)
            or value is None
            or (isinstance(value, nn.Parameter) and found is None)
        ):
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
        """ValueError if the value is out of range. It reads the value, which waits for a GPU, so it is only for what is
        set once."""
        if within != ANY and not value.is_meta and not torch.compiler.is_compiling() and not within.holds_all(value):
            raise ValueError(
                f"{type(self).__name__}: {name} was set to {_shown(value)}, expected values {within}{when}"
            )

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
            if name in ("w_rec", "b_rec"):
                parts.append({"w_rec": "recurrent", "b_rec": "recurrent_bias"}[name])
                continue
            parts.append(f"{name}={value_text(parameter)}" + (" (trainable)" if parameter.requires_grad else ""))
        if self.synapses:
            parts.append(f"synapses={self.synapses}")
        if self.noise_std:
            parts.append(f"noise_std={self.noise_std:g}")
        parts.append(f"dt={self.dt:g}")
        if not self.batch_first:
            parts.append("batch_first=False")
        for name, default in (("memory", None), ("backend", "fused")):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts)


class SpikingNeuron(Neuron[Result]):
    """Base of the modules that spike: adds a surrogate gradient and, if asked for, recurrent weights."""

    SETTINGS: ClassVar[dict[str, Any]] = {
        **Neuron.SETTINGS,
        "surrogate": lambda owner, name, value: check_surrogate(owner, value, fused=False),
        "smooth": flag,
    }

    def __init__(
        self,
        size: int | Sequence[int],
        dt: float,
        batch_first: bool,
        backend: str,
        noise_std: float,
        memory: str | None,
        surrogate: Surrogate,
        smooth: bool,
    ) -> None:
        super().__init__(size, dt, batch_first, backend, noise_std, memory)
        self.surrogate = check_surrogate(type(self).__name__, surrogate, self.backend == "fused")
        self.smooth = smooth
        self.w_rec: nn.Parameter | None
        self.b_rec: nn.Parameter | None
        self.register_parameter("w_rec", None)
        self.register_parameter("b_rec", None)

    def arguments(self) -> dict[str, Any]:
        return {
            "w_rec": self.w_rec,
            "b_rec": self.b_rec,
            "surrogate": self.surrogate,
            "smooth": self.smooth,
            **super().arguments(),
        }

    def add_recurrent(
        self,
        recurrent: bool | Tensor,
        recurrent_bias: bool | Tensor,
        width: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Registers trainable recurrent weights w_rec, from N neurons to the `width` currents of each, and their bias
        b_rec."""
        neurons = math.prod(self.size)
        if recurrent is False and recurrent_bias is not False:
            raise ValueError(f"{type(self).__name__}: recurrent_bias was given, expected False without recurrent")
        self._add_weights("recurrent", "w_rec", recurrent, (neurons, neurons * width), device, dtype)
        self._add_weights("recurrent_bias", "b_rec", recurrent_bias, (neurons * width,), device, dtype)

    def _add_weights(
        self,
        argument: str,
        name: str,
        value: bool | Tensor,
        shape: tuple[int, ...],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        owner = type(self).__name__
        if value is False:
            return
        self._ranges[name] = ANY
        if isinstance(value, Tensor):
            value = check_input(owner, value, argument)
            if tuple(value.shape) != shape:
                raise ValueError(f"{owner}: {argument} has shape {tuple(value.shape)}, expected initial values {shape}")
            self.add_parameter(name, value, shape, device=device, dtype=dtype)
        elif value is not True:
            raise TypeError(f"{owner}: {argument} is {value!r}, expected True, False or the initial values")
        else:
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            self._draw(name)
        getattr(self, name).requires_grad_()

    def _draw(self, name: str) -> None:
        """Draws recurrent weights or their bias as nn.RNN does."""
        weights: Tensor | None = getattr(self, name)
        if weights is not None:
            bound = 1 / math.sqrt(max(1, math.prod(self.size)))
            self._assign(name, torch.empty_like(weights).uniform_(-bound, bound))

    def reset_parameters(self) -> None:
        """Sets every parameter to the value it was made with; draws recurrent weights that were drawn again."""
        for name in ("w_rec", "b_rec"):
            if name not in self._initial:
                self._draw(name)
        super().reset_parameters()

    def extra_repr(self) -> str:
        smooth = ", smooth=True" if self.smooth else ""
        return f"{super().extra_repr()}, surrogate={self.surrogate}{smooth}"

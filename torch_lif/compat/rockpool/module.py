"""What Rockpool's TorchModule gives every module: attributes in families, kept states, the call that returns three
things."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PARAMETER, SIMULATION, STATE = "Parameter", "SimulationParameter", "State"


@dataclasses.dataclass(frozen=True)
class Constant:
    """Marks an initial value as not trainable: a simulation parameter, which is neither in parameters() nor in the
    state dict.

    Rockpool's own `rockpool.parameters.Constant` is taken too.
    """

    value: Any


def unwrap(value: Any) -> tuple[Any, bool]:
    """The value, and whether it was marked constant."""
    if isinstance(value, Constant):
        return value.value, True
    # Rockpool marks a value by changing the object's class. The class is recognised by name, because Rockpool need not
    # be installed.
    marked = any(base.__name__ == "RP_Constant" for base in type(value).__mro__)
    return value.as_subclass(Tensor) if marked and isinstance(value, Tensor) else value, marked


class TorchModuleParameters(dict[str, Any]):
    """A nested dict of parameters that can give them to an optimiser:
    `torch.optim.Adam(mod.parameters().astorch())`."""

    def astorch(self) -> Generator[Any, None, None]:
        """Every value of this dict and of those nested in it."""
        for value in self.values():
            if isinstance(value, dict):
                yield from TorchModuleParameters(value).astorch()
            else:
                yield value


class Attribute(NamedTuple):
    """One registered attribute. `initial` is a tensor, one number for all, or a function of the shape; None: the
    attribute is never reset."""

    kind: str
    family: str | None = None
    shape: tuple[int, ...] = ()
    initial: Tensor | float | Callable[[tuple[int, ...]], Tensor] | None = None

    def fresh(self, device: torch.device | None = None) -> Tensor:
        """The first value. One number is written on this device, which a CUDA graph can capture."""
        if callable(self.initial):
            return self.initial(self.shape)
        if isinstance(self.initial, Tensor):
            return self.initial
        assert self.initial is not None
        return torch.full(self.shape, self.initial, dtype=torch.float, device=device)


def whole_numbers(owner: str, shape: Any, most: int) -> tuple[int, ...]:
    """A shape of at most `most` elements; ValueError otherwise."""
    listed = shape.tolist() if hasattr(shape, "tolist") else shape
    sizes = tuple(listed) if isinstance(listed, Iterable) and not isinstance(listed, str) else (listed,)
    valid = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes)
    if not valid or not 1 <= len(sizes) <= most:
        expected = "a number of neurons (N,)" + (" or (Nin, Nout)" if most == 2 else "")
        raise ValueError(f"{owner}: shape is {shape!r}, expected {expected}")
    return sizes


def fit(owner: str, name: str, value: Any, shapes: Sequence[tuple[int, ...]], exact: bool = False) -> Tensor:
    """The value as a float32 tensor in one of the shapes. A value that only lacks dimensions of size 1, or has more of
    them, is accepted. Unless `exact`, so is a flat list of as many values. Nothing is transposed or repeated."""
    try:
        # Numbers stay on the CPU: a module made on the meta device gets them back by to_empty() and reset_parameters().
        device = value.device if isinstance(value, Tensor) else "cpu"
        tensor = torch.as_tensor(value, dtype=torch.float, device=device).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{owner}: {name} is {value!r}, expected numbers: {error}") from None
    sizes = tuple(tensor.shape)
    if sizes in shapes:
        return tensor
    for shape in (s for s in shapes if math.prod(s) == tensor.numel() and not exact):
        if len(sizes) <= 1 or [n for n in sizes if n != 1] == [n for n in shape if n != 1]:
            return tensor.reshape(shape)
    raise ValueError(f"{owner}: {name} has shape {sizes}, expected {' or '.join(map(str, shapes))}")


def check_range(owner: str, name: str, value: Tensor, low: float, high: float, open_low: bool) -> None:
    """ValueError if values are out of range. They are read once, when a module is made; a module on the meta device has
    no values yet."""
    if value.is_meta or bool(((value > low) if open_low else (value >= low)).all() and (value <= high).all()):
        return
    expected = f"above {low:g}" if open_low else f"in [{low:g}, {high:g}]"
    raise ValueError(f"{owner}: {name} is {value.tolist()}, expected values {expected}")


def introduce(kind: type) -> None:
    """Registers the class with Rockpool's classes that it replaces, so that Rockpool takes it for one of its own: in
    networks, and by isinstance. Rockpool's classes are abstract base classes, which have a method for that. Without
    Rockpool nothing is done."""
    for base in kind.__mro__:
        module, _, name = base.__dict__.get("_stands_for", "").rpartition(".")
        theirs: Any = getattr(sys.modules.get(module), name, None) if module else None
        if hasattr(theirs, "register") and not issubclass(base, theirs):
            theirs.register(base)


def _registered(value: Any) -> str | None:
    """The kind of a Parameter, State or SimulationParameter of Rockpool, recognised by the class's name."""
    names = [base.__name__ for base in type(value).__mro__]
    return names[names.index("ParameterBase") - 1] if "ParameterBase" in names[1:] else None


def _family_of(module: Any, kind: str, family: str | Sequence[str] | None) -> dict[str, Any]:
    """What `_get_attribute_family` returns, for any module; modules of plain PyTorch have no families."""
    if hasattr(module, "_get_attribute_family"):
        found: dict[str, Any] = module._get_attribute_family(kind, family)
        return found
    tensors: dict[str, Any] = {PARAMETER: module._parameters, STATE: module._buffers}.get(kind, {})
    own = {name: tensor for name, tensor in tensors.items() if tensor is not None and family is None}
    return own | {name: found for name, child in module._modules.items() if (found := _family_of(child, kind, family))}


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(entry) for name, entry in value.items()}
    if callable(value) and not isinstance(value, Tensor):
        return None
    return json.dumps(value.detach().cpu().tolist() if isinstance(value, Tensor) else value)


class TorchModule(nn.Module):
    """Base of the modules. `module(x, record=False)` returns (output, state, records); after `to_torch()` the output
    alone.

    A class of your own may add attributes as in Rockpool: its `Parameter`, `State` and `SimulationParameter`, PyTorch's
    parameters and buffers, and modules.
    """

    _stands_for = "rockpool.nn.modules.torch.torch_module.TorchModule"
    keep_batch_state = False

    def __init__(
        self, shape: tuple[int, ...], spiking_input: bool, spiking_output: bool, retain_torch_api: bool
    ) -> None:
        super().__init__()
        introduce(type(self))
        self._attributes: dict[str, Attribute] = {}
        self._fixed: frozenset[str] = frozenset()
        self._sizes = shape
        self._submodulenames: list[str] = []  # read by Rockpool's networks in their repr
        self._name: str | None = None
        self._spiking_input = spiking_input
        self._spiking_output = spiking_output
        self._record = False
        self._record_dict: dict[str, Tensor] = {}
        self._torch_call = False
        # Not under Rockpool's name, _has_torch_api: its networks set that on modules that they take for plain PyTorch
        # ones.
        self._torch_api = False
        if retain_torch_api:
            self.to_torch()

    @property
    def _has_torch_api(self) -> bool:
        """Rockpool's `to_torch` asks the modules in a network by this name."""
        return self._torch_api

    @_has_torch_api.setter
    def _has_torch_api(self, value: bool) -> None:
        """Does nothing. Rockpool's `from_torch` sets this on what it takes for a plain PyTorch module; this module
        keeps its own interface."""

    @property
    def _shape(self) -> tuple[int, ...]:
        """Rockpool's networks read the shape by this name in their repr."""
        return self._sizes

    @_shape.setter
    def _shape(self, value: Any) -> None:
        """Does nothing, as the setter of `_has_torch_api`."""

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        introduce(type(self))

    # Registering, reading and setting attributes

    def _add_parameter(
        self,
        name: str,
        value: Any,
        shapes: Sequence[tuple[int, ...]],
        family: str,
        initial: float | Callable[[tuple[int, ...]], Tensor],
        low: float = -math.inf,
        high: float = math.inf,
        open_low: bool = False,
        exact: bool = False,
    ) -> None:
        """Registers a parameter, or, if the value is marked constant, a buffer that is not saved. If the value is None,
        `initial` is used."""
        owner = self.class_name
        value, constant = unwrap(value)
        if value is None:
            attribute = Attribute(PARAMETER, family, shapes[0], initial)
        else:
            given = fit(owner, name, value, shapes, exact)
            check_range(owner, name, given, low, high, open_low)
            attribute = Attribute(SIMULATION if constant else PARAMETER, family, tuple(given.shape), given)
        tensor = attribute.fresh()
        if tuple(tensor.shape) != attribute.shape:
            raise ValueError(
                f"{owner}: weight_init_func gave {name} of shape {tuple(tensor.shape)}, expected {attribute.shape}"
            )
        place = tensor.device if isinstance(value, Tensor) or value is None else torch.get_default_device()
        tensor = tensor.detach().to(dtype=torch.float, device=place, copy=True)
        self._attributes[name] = attribute
        if constant:
            self.register_buffer(name, tensor, persistent=False)
        else:
            self.register_parameter(name, nn.Parameter(tensor))

    def _add_state(self, name: str, shape: tuple[int, ...]) -> None:
        self._attributes[name] = Attribute(STATE, None, shape, 0.0)
        self.register_buffer(name, self._attributes[name].fresh())

    def _add_simulation_parameters(self, *names: str) -> None:
        for name in names:
            self._attributes[name] = Attribute(SIMULATION)

    def _fix(self, **values: Any) -> None:
        """Registers attributes that the module was built from: they can be read, but set only to the value that they
        have."""
        self.__dict__.update(values)
        self._fixed |= set(values)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_fixed", ()):
            if value != self.__dict__[name]:
                raise ValueError(
                    f"{self.class_name}: {name} was set to {value!r}, but the module was made with "
                    f"{self.__dict__[name]!r}; "
                    "make a new one"
                )
            return
        attribute = self.__dict__.get("_attributes", {}).get(name)
        if hasattr(value, "init_func") and _registered(value):
            self._register(name, value)
        elif attribute is None or not (name in self._parameters or name in self._buffers):
            super().__setattr__(name, value)
        elif attribute.kind == STATE:
            self._set_state(name, value, attribute.shape)
        else:
            self._set_parameter(name, value)

    def _register(self, name: str, value: Any) -> None:
        """Registers an attribute of a class of your own, given as Rockpool's Parameter, State or
        SimulationParameter."""
        kind, data = _registered(value), value.data
        if kind not in (PARAMETER, SIMULATION, STATE):
            raise TypeError(
                f"{self.class_name}: {name} was set to a {kind}, expected Parameter, SimulationParameter or State"
            )
        self._attributes[name] = Attribute(kind, value.family, tuple(value.shape or ()), value.init_func)
        if kind == PARAMETER:
            self.register_parameter(name, nn.Parameter(torch.as_tensor(data, dtype=torch.float)))
        elif kind == STATE or isinstance(data, Tensor):
            self.register_buffer(name, torch.as_tensor(data), persistent=kind == STATE)
        else:
            super().__setattr__(name, data)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        if param is not None and name not in self._attributes:
            self._attributes[name] = Attribute(PARAMETER, None, tuple(param.shape), param.detach().clone())
        super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if tensor is not None and name not in self._attributes:
            self._attributes[name] = Attribute(
                STATE if persistent else SIMULATION, None, tuple(tensor.shape), tensor.detach().clone()
            )
        super().register_buffer(name, tensor, persistent)

    def _set_state(self, name: str, value: Any, shape: tuple[int, ...]) -> None:
        """Keeps the tensor itself, so that a gradient flows to an initial state that requires one."""
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.class_name}: {name} was set to a {type(value).__name__}, expected a tensor {shape}")
        if not self._is_state_shape(tuple(value.shape), shape):
            batches = f" or ({', '.join(map(str, ('batch', *shape)))})" if self.keep_batch_state else ""
            more = (
                ""
                if self.keep_batch_state
                else "; one for each item of a batch needs a module made with keep_batch_state=True"
            )
            raise ValueError(
                f"{self.class_name}: {name} was set to shape {tuple(value.shape)}, expected {shape}, the same for "
                "every item of a "
                f"batch{batches}{more}"
            )
        self._buffers[name] = value

    def _is_state_shape(self, given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        return given == shape or (self.keep_batch_state and len(given) == len(shape) + 1 and given[1:] == shape)

    def _set_parameter(self, name: str, value: Any) -> None:
        """Writes into the parameter, so that an optimiser keeps it; only a new nn.Parameter replaces the old one."""
        target = getattr(self, name)
        value, _ = unwrap(value)
        given = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=target.dtype)
        replaces = isinstance(value, nn.Parameter) and name in self._parameters
        self._check_shape(name, given, target, number=not replaces)
        if replaces:
            self._parameters[name] = value
            return
        with torch.no_grad():
            target.copy_(given)

    def _check_shape(self, name: str, value: Tensor, own: Tensor, number: bool = True) -> None:
        if value.shape != own.shape and not (number and value.dim() == 0):
            expected = f"{'a number or ' if number else ''}{tuple(own.shape)}"
            raise ValueError(f"{self.class_name}: {name} was set to shape {tuple(value.shape)}, expected {expected}")

    def _get_attribute_family(self, type_name: str, family: str | Sequence[str] | None = None) -> TorchModuleParameters:
        """Rockpool's combinators collect the attributes of the modules in them by this name."""
        families = (family,) if isinstance(family, str) else family
        # A list, not a generator: torch.compile of PyTorch 2.11 cannot make a dict of one.
        own = TorchModuleParameters(
            [
                (name, self._value(name))
                for name, attribute in self._attributes.items()
                if attribute.kind == type_name and (families is None or attribute.family in families)
            ]
        )
        for name, child in self._modules.items():
            if child is not None and ((nested := _family_of(child, type_name, family)) or family is None):
                own[name] = nested
        return own

    def parameters(  # type: ignore[override]
        self, family: str | Sequence[str] | None = None, recurse: bool = True
    ) -> Any:
        """A dict of the trainable parameters; after `to_torch()` PyTorch's iterator over them.

        Args:
            family: one name or several out of "taus", "decays", "bitshifts", "bias", "thresholds", "weights". Default:
                all.
            recurse: PyTorch's argument, for after `to_torch()`.
        """
        if self._torch_api:
            return nn.Module.parameters(self, recurse if family is None else bool(family))
        return self._get_attribute_family(PARAMETER, family)

    def simulation_parameters(self, family: str | Sequence[str] | None = None) -> TorchModuleParameters:
        """A dict of what is not trained: the time step, the noise, the spike function, and parameters given as
        `Constant`."""
        return self._get_attribute_family(SIMULATION, family)

    def state(self, family: str | Sequence[str] | None = None) -> TorchModuleParameters:
        """A dict of the states kept for the next call, detached from the graph."""
        simple = family is None and not self._modules
        return TorchModuleParameters(self._kept(True)) if simple else self._get_attribute_family(STATE, family)

    def _children_with(self, method: str) -> list[tuple[str, Any]]:
        return [(name, child) for name, child in self._modules.items() if hasattr(child, method)]

    def attributes_named(self, name: str | Sequence[str]) -> dict[str, Any]:
        """A dict of those attributes, of every kind, that have one of the names."""
        names = (name,) if isinstance(name, str) else name
        return {key: getattr(self, key) for key in self._attributes if key in names}

    def set_attributes(self, new_attributes: Mapping[str, Any]) -> TorchModule:
        """Sets the attributes that the dict names, such as a state that a call returned. Other names are ignored: they
        may belong to another module."""
        for name in self._attributes:
            if name in new_attributes:
                setattr(self, name, new_attributes[name])
        for name, child in self._children_with("set_attributes"):
            if name in new_attributes:
                child.set_attributes(new_attributes[name])
        return self

    def modules(self) -> Any:  # type: ignore[override]
        """A dict of the modules in this one, as in Rockpool, whose modules have none; after `to_torch()` PyTorch's
        iterator."""
        return nn.Module.modules(self) if self._torch_api else OrderedDict(self._modules)

    def reset_state(self) -> TorchModule:
        """Sets every state to what it was made with, zeros, in its first shape, for a batch of any size."""
        for name, attribute in self._attributes.items():
            if attribute.kind == STATE:
                device = self._value(name).device
                self._buffers[name] = attribute.fresh(device).to(dtype=self._dtype(), device=device, copy=True)
        for _, child in self._children_with("reset_state"):
            child.reset_state()
        return self

    def reset_parameters(self) -> TorchModule:
        """Sets every parameter to the value it was made with, in place; draws recurrent weights that were drawn
        again."""
        with torch.no_grad():
            for name, attribute in self._attributes.items():
                if attribute.kind == PARAMETER:
                    self.get_parameter(name).copy_(attribute.fresh())
        for _, child in self._children_with("reset_parameters"):
            child.reset_parameters()
        return self

    def _value(self, name: str) -> Any:
        """The attribute, as `getattr` gives it, which takes long to find out where parameters and states are."""
        value = self._parameters.get(name, self._buffers.get(name))
        return getattr(self, name) if value is None else value

    def _kept(self, states: bool) -> dict[str, Tensor]:
        """The registered buffers: the states, or the others."""
        known = self._attributes
        own = [name for name in self._buffers if name in known and (known[name].kind == STATE) is states]
        return {name: t for name in own if (t := self._buffers[name]) is not None}

    def _dtype(self) -> torch.dtype:
        """The parameters' dtype: that of everything returned."""
        dtypes = [t.dtype for t in (*self._parameters.values(), *self._kept(False).values()) if t is not None]
        same = dtypes.count(dtypes[0]) == len(dtypes)
        return dtypes[0] if same else functools.reduce(torch.promote_types, dtypes)

    # PyTorch's own methods that go through parameters(), which here is a dict

    def requires_grad_(self, requires_grad: bool = True) -> TorchModule:
        for parameter in nn.Module.parameters(self):
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in nn.Module.parameters(self):
            if parameter.grad is not None and set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = torch.zeros_like(parameter.grad)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # A state may have the batch size of the last call; the one loaded need not have the same.
        for name, attribute in self._attributes.items():
            value = state_dict.get(prefix + name)
            own = getattr(self, name)
            if attribute.kind == STATE and isinstance(value, Tensor) and value.shape != own.shape:
                if self._is_state_shape(tuple(value.shape), attribute.shape):
                    self._buffers[name] = torch.empty(value.shape, dtype=own.dtype, device=own.device)
                elif tuple(value.shape[1:]) == attribute.shape:
                    error_msgs.append(
                        f"{self.class_name}: {prefix}{name} has a batch in front, {tuple(value.shape)}; load it "
                        "into a module made "
                        f"with keep_batch_state=True, or load one item of it, {attribute.shape}"
                    )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    # Rockpool's JSON files

    def to_json(self) -> dict[str, Any]:
        """Parameters and simulation parameters by name, each as JSON; None for a function."""
        return _json({**self._get_attribute_family(PARAMETER), **self._get_attribute_family(SIMULATION)})

    def json_to_param(self, jparam: Mapping[str, Any] | None) -> None:
        """Sets the attributes from what `to_json` gave. A value that the module was built from must be the same."""
        for name, given in (jparam or {}).items():
            value = json.loads(given) if isinstance(given, str) else given
            if isinstance(value, dict):
                self._modules[name].json_to_param(value)  # type: ignore[union-attr, operator]
            elif value is not None:
                setattr(self, name, value)

    def save(self, fn: Any) -> None:
        """Writes `to_json` to a file."""
        with open(fn, "w") as file:
            json.dump(self.to_json(), file)

    def load(self, fn: Any) -> None:
        """Reads a file of `save`, or of that of Rockpool's module."""
        with open(fn) as file:
            self.json_to_param(json.load(file))

    # Calling

    def __call__(self, input_data: Any, *args: Any, **kwargs: Any) -> Any:
        """(output, state, records), or after `to_torch()` the output; arguments as in `evolve`.

        What another module returned may be passed on as it is: `second(first(x))`.
        """
        if self._torch_call:
            return nn.Module.__call__(self, input_data, *args, **kwargs)
        if not (isinstance(input_data, tuple) and len(input_data) == 3):
            return self.evolve(input_data, *args, **kwargs)
        data, states, records = input_data
        out, own_state, own_records = self.evolve(data, *args, **kwargs)
        states.update({self.name: own_state})
        records.update({self.name: own_records})
        return out, states, records

    def evolve(
        self, input_data: Tensor, record: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Tensor, TorchModuleParameters, dict[str, Tensor]]:
        """Runs the module over input_data, from the kept state on, and keeps the last state.

        Args:
            input_data: (batch, time, Nin) or (time, Nin).
            record: whether to return the states after each step too. Default: False.
            generator: of the noise; PyTorch's own by default.

        Returns:
            output (batch, time, Nout), the kept states, and the records (an empty dict without `record`).
        """
        object.__setattr__(self, "_record", record)  # not by our own __setattr__, which would look up the name
        options = {} if generator is None else {"generator": generator}
        try:
            # By nn.Module's call, not forward alone: that is where hooks run.
            out = nn.Module.__call__(self, input_data, **options)
            return out, self.state(), self._record_dict if record else {}
        finally:
            object.__setattr__(self, "_record", False)
            object.__setattr__(self, "_record_dict", {})

    def to_torch(self, use_torch_call: bool = True) -> TorchModule:
        """From now on the module has PyTorch's interface: the call returns the output alone, parameters() is an
        iterator.

        Args:
            use_torch_call: False leaves the call as it is. Default: True.
        """
        self._torch_api = True
        self._torch_call = self._torch_call or use_torch_call
        return self

    # What a module says of itself

    @property
    def shape(self) -> tuple[int, ...]:
        return self._sizes

    @property
    def size_in(self) -> int:
        return self._sizes[0]

    @property
    def size_out(self) -> int:
        return self._sizes[-1]

    @property
    def spiking_input(self) -> bool:
        return self._spiking_input

    @property
    def spiking_output(self) -> bool:
        return self._spiking_output

    @property
    def class_name(self) -> str:
        return type(self).__name__

    @property
    def name(self) -> str:
        """In quotes, as in Rockpool; an empty string without one."""
        return f"'{self._name}'" if self._name else ""

    @property
    def full_name(self) -> str:
        return f"{self.class_name} {self.name}"

    def __repr__(self, indent: str = "") -> str:
        return (
            nn.Module.__repr__(self) if self._torch_api else f"{indent}{self.full_name.strip()} with shape {self.shape}"
        )

    def as_graph(self) -> Any:
        raise NotImplementedError(f"{self.class_name} has no graph of its own in Rockpool; LIFTorch has")

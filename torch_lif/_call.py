"""The one place that calls the ops: from names to the ordered lists of a neuron's op."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _C
from ._check import ANY, Range, constant, fits, flag, number, whole_number
from .surrogate import Surrogate

NEURONS = _C.neurons()
KERNELS = frozenset(_C.surrogates())
SYNAPSES = ("at_once", "delayed", "delayed_increment")
"""The forms of csrc/neuron/euler.h, in its order."""
OPS = {name: getattr(torch.ops.torch_lif, name).default for name in NEURONS}
HALF = (torch.float16, torch.bfloat16)


class Order(NamedTuple):
    """The names of a neuron's lists, in the order of its op. A state is there if `needed` is, where it needs something."""

    place: int
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    states: tuple[str, ...]
    needed: tuple[str | None, ...]
    options: tuple[str, ...]
    no_record: tuple[int, ...]


ORDERS = {
    name: Order(
        place,
        tuple(neuron["inputs"]),
        tuple(neuron["params"]),
        tuple(neuron["states"]),
        tuple(neuron["state_needs"].get(key) for key in neuron["states"]),
        tuple(neuron["options"]),
        (0,) * len(neuron["states"]),
    )
    for place, (name, neuron) in enumerate(NEURONS.items())
}


def compute_dtype(x: Tensor) -> torch.dtype:
    """Half types are stored half and computed in float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


UNIT = Range(0.0, 1.0)
"""Of a decay, or of the fraction that leaks away, a step."""
POSITIVE = Range(0.0, open_low=True)
COUNT = Range(0.0, finite=True)
"""Of time steps or seconds."""


def parameter(op: str, name: str, value: Tensor | float | None, x: Tensor, within: Range = ANY) -> Tensor | None:
    """A parameter as a tensor beside x. A number is checked against its range; a tensor's values are not read, for that would wait
    for the device. A half parameter is widened to float32, exactly, where x is of the same half type."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return check_freed(op, name, value).float() if value.dtype in HALF and value.dtype == x.dtype else value
    plain = number(op, name, value, "a number or a tensor")
    if not within.holds(plain):
        raise ValueError(f"{op}: {name} is {value}, expected a number {within}")
    dtype = compute_dtype(x)
    fits(op, name, plain, dtype)
    return torch.full((), plain, dtype=dtype, device=x.device)


def check_freed(op: str, name: str, value: Tensor) -> Tensor:
    """The op finds out by itself; this is for what PyTorch is given before."""
    if value.layout is torch.strided and not value.is_nested and value.numel() and not value.untyped_storage().size():
        raise ValueError(f"{op}: the memory of {name} has been freed, expected a tensor whose values are there")
    return value


def check_input(op: str, x: object, name: str = "x") -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} is a {type(x).__name__}, expected a tensor; convert it with torch.as_tensor({name})")
    if x.layout is not torch.strided or x.is_nested:
        kind, dense = ("nested", "to_padded_tensor(0.0)") if x.is_nested else (x.layout, "to_dense()")
        raise ValueError(f"{op}: {name} is a {kind} tensor, expected a dense one: pass {name}.{dense}")
    return x


NOTHING: tuple[str, ...] = ()
"""What `record` is where nobody asked for records: Python has one empty tuple. It needs no check, which a short call feels."""


def check_record(op: str, record: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """The names of the states to record; an iterator among them is read once, here."""
    example = f"expected a sequence of names such as ({known[-1]!r},)"
    if isinstance(record, str):
        raise TypeError(f"{op}: record is the string {record!r}, expected a sequence of names such as ({record!r},)")
    if isinstance(record, Tensor) or not isinstance(record, Iterable):
        raise TypeError(f"{op}: record is {record!r}, {example}")
    names = tuple(record)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{op}: record holds {name!r}, {example}")
        if name not in known:
            raise ValueError(f"{op}: record names {name!r}, expected names from {', '.join(known)}")
    return names


def check_surrogate(op: str, surrogate: object, fused: bool = True) -> Surrogate:
    """A surrogate that has a kernel; with fused=False one with its formulas in PyTorch alone will do."""
    if isinstance(surrogate, type) and issubclass(surrogate, Surrogate):
        raise TypeError(f"{op}: surrogate is the class {surrogate.__name__}, expected an object of it: {surrogate.__name__}()")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{op}: surrogate is {surrogate!r}, expected a Surrogate such as StepPWL()")
    if fused and surrogate.name not in KERNELS:
        raise TypeError(
            f"{op}: surrogate is {surrogate!r}, which has no kernel; expected one of torch_lif.surrogate, or formulas of your own "
            "in the plain loops alone: torch_lif.reference, or a layer with backend='loop'"
        )
    return surrogate


def check_synapses(op: str, synapses: object) -> int:
    return whole_number(op, "synapses", synapses)


def check_max_spikes(op: str, max_spikes: float) -> float:
    value = max_spikes if type(max_spikes) is float else constant(op, "max_spikes", max_spikes)
    if not value >= 1:
        raise ValueError(f"{op}: max_spikes is {max_spikes}, expected 1 or more")
    return value


def weights(op: str, name: str, value: Tensor | None, x: Tensor) -> Tensor | None:
    """Recurrent weights or their bias, widened as `parameter` does."""
    return None if value is None else parameter(op, name, check_input(op, value, name), x)


def recurrent_input(
    spikes: Tensor, first: Tensor | None, w_rec: Tensor, b_rec: Tensor | None, synapses: int, batch_first: bool
) -> Tensor:
    """The recurrent input of each step, for records: the spikes of the step before times w_rec, plus b_rec; zero in the first step
    without initial spikes `first`. Laid out as the spikes, with two or more synapses with an axis for them behind."""
    time = 1 if batch_first else 0
    steps = spikes.to(w_rec.dtype)
    before = torch.zeros_like(steps.narrow(time, 0, min(1, steps.shape[time]))) if first is None else first.unsqueeze(time)
    before = torch.cat([before, steps], time).narrow(time, 0, steps.shape[time])
    received = before.reshape(*steps.shape[:2], w_rec.shape[0]) @ w_rec
    if b_rec is not None:
        received = received + b_rec
        if first is None and steps.shape[time]:
            received = torch.cat(
                [torch.zeros_like(received.narrow(time, 0, 1)), received.narrow(time, 1, steps.shape[time] - 1)], time
            )
    shape = spikes.shape if synapses < 2 else (*spikes.shape, synapses)
    return received.reshape(shape).to(spikes.dtype)


def check_memory(op: str, memory: str | None) -> str:
    if memory is not None and (not isinstance(memory, str) or memory not in ("mask", "recompute", "save")):
        raise ValueError(f"{op}: memory is {memory!r}, expected 'mask', 'recompute', 'save' or None")
    return memory or ""


def check_choice(op: str, name: str, value: object, known: Sequence[str]) -> int:
    """The place of a name among those known."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{op}: {name} is {value!r}, expected one of {', '.join(map(repr, known))}")
    return list(known).index(value)


def split_state(op: str, state: Iterable[Tensor | None] | None, names: Sequence[str]) -> dict[str, Tensor | None]:
    """A state tuple by names; None, or a missing entry, starts at zero."""
    if state is None:
        return {}
    expected = f"expected a tuple ({', '.join(names)})"
    if isinstance(state, (Tensor, str, Mapping)) or not isinstance(state, Iterable):
        raise TypeError(f"{op}: state is {type(state).__name__}, {expected}")
    values = tuple(state)
    if len(values) > len(names):
        raise TypeError(f"{op}: state is {type(state).__name__}, {expected}; it has {len(values)} entries")
    for name, value in zip(names, values, strict=False):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{op}: the initial state {name} is a {type(value).__name__}, expected a tensor or None")
    return dict(zip(names, values, strict=False))


def _fixed(value: float) -> float:
    """The number, and for torch.compile a constant: an op's list of floats takes no symbol, which a layer's attribute becomes once
    it has had two values. The key of a dictionary is what torch.compile makes a constant of, with a guard."""
    return float(next(iter({value: None})) if torch.compiler.is_compiling() else value)


def call(name: str, *arguments: Any) -> Sequence[Tensor]:
    """Runs torch.ops.torch_lif.<name> with its lists in its order: (output, *final states, *recorded states). Of the arguments the
    op checks all but their types; who calls it once a time step has no time for names."""
    order = ORDERS[name]
    results = None if torch.compiler.is_compiling() else _C.call(order.place, *arguments)
    if results is not None:
        return results
    names = (*order.inputs, *order.params, *(f"the initial state {key}" for key in order.states))
    for key, value in zip(names, (value for values in arguments[:3] for value in values), strict=True):
        if value is not None:
            check_input(name, value, key)
    return OPS[name](*arguments)


def fused(
    name: str,
    inputs: Mapping[str, Tensor | None],
    params: Mapping[str, Tensor | None],
    state: Mapping[str, Tensor | None],
    *,
    options: Mapping[str, float] | None = None,
    surrogate: Surrogate | None = None,
    smooth: bool = False,
    synapses: int = 0,
    batch_first: bool = True,
    record: Sequence[str] = (),
    memory: str | None = None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Runs torch.ops.torch_lif.<name>; returns (output, final states, recorded states)."""
    order = ORDERS[name]
    if type(smooth) is not bool or type(batch_first) is not bool:
        smooth, batch_first = flag(name, "smooth", smooth), flag(name, "batch_first", batch_first)
    arguments = (
        tuple(map(inputs.get, order.inputs)),
        tuple(map(params.get, order.params)),
        tuple(map(state.get, order.states)),
        tuple([_fixed(options[key]) for key in order.options]) if options else (),
        surrogate.name if surrogate else "",
        surrogate.values if surrogate else (),
        smooth,
        synapses,
        batch_first,
        tuple([int(key in record and key != "spikes") for key in order.states]) if record else order.no_record,
        check_memory(name, memory),
    )
    results = call(name, *arguments)
    states = [
        key
        for key, needed in zip(order.states, order.needed, strict=True)
        if needed is None or (synapses if needed == "synapses" else params.get(needed) is not None)
    ]
    final = dict(zip(states, results[1:], strict=False))
    if not record:
        return results[0], final, {}
    recorded = [key for key in states if key in record and key != "spikes"]
    return results[0], final, dict(zip(recorded, results[1 + len(states) :], strict=True))

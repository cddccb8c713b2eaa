"""The one place that calls the ops: from names to the ordered lists of a neuron's op."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import _C
from .surrogate import Surrogate, constant

NEURONS = _C.neurons()
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


def parameter(
    op: str,
    name: str,
    value: Tensor | float | None,
    x: Tensor,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> Tensor | None:
    """A parameter as a tensor beside x. A Python number is checked against its range; a tensor's values are not read, for
    that would wait for the device. A half parameter is widened to float32, exactly, where x is of the same half type."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF and value.dtype == x.dtype else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} is {value!r}, expected a number or a tensor")
    if not (low <= value <= high) or (open_low and value == low):
        expected = f"above {low:g}" if open_low else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{op}: {name} is {value}, expected a number {expected}")
    return torch.full((), value, dtype=compute_dtype(x), device=x.device)


def check_input(op: str, x: object) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x is a {type(x).__name__}, expected a tensor; convert it with torch.as_tensor(x)")
    if x.layout is not torch.strided:
        raise ValueError(f"{op}: x is a {x.layout} tensor, expected a dense one: pass x.to_dense()")
    return x


def check_record(op: str, record: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(record, str):
        raise TypeError(f"{op}: record is the string {record!r}, expected a sequence of names such as ({record!r},)")
    for name in record:
        if name not in known:
            raise ValueError(f"{op}: record names {name!r}, expected names from {', '.join(known)}")


def check_surrogate(op: str, surrogate: object) -> Surrogate:
    if isinstance(surrogate, type) and issubclass(surrogate, Surrogate):
        raise TypeError(f"{op}: surrogate is the class {surrogate.__name__}, expected an object of it: {surrogate.__name__}()")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{op}: surrogate is {surrogate!r}, expected a Surrogate such as StepPWL()")
    return surrogate


def check_synapses(op: str, synapses: object) -> int:
    if isinstance(synapses, bool) or not isinstance(synapses, int):
        raise TypeError(f"{op}: synapses is {synapses!r}, expected a whole number")
    if synapses < 0:
        raise ValueError(f"{op}: synapses is {synapses}, expected 0 or more")
    return synapses


def check_max_spikes(op: str, max_spikes: float) -> float:
    value = max_spikes if type(max_spikes) is float else constant(op, "max_spikes", max_spikes)
    if not value >= 1:
        raise ValueError(f"{op}: max_spikes is {max_spikes}, expected 1 or more")
    return value


def weights(op: str, name: str, value: Tensor | None, x: Tensor) -> Tensor | None:
    """Recurrent weights or their bias, widened as `parameter` does."""
    if value is not None and not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} is a {type(value).__name__}, expected a tensor")
    return parameter(op, name, value, x)


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
    if memory is not None and memory not in ("mask", "recompute", "save"):
        raise ValueError(f"{op}: memory is {memory!r}, expected 'mask', 'recompute', 'save' or None")
    return memory or ""


def check_choice(op: str, name: str, value: object, known: Sequence[str]) -> int:
    """The place of a name among those known."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{op}: {name} is {value!r}, expected one of {', '.join(map(repr, known))}")
    return list(known).index(value)


def split_state(op: str, state: Sequence[Tensor | None] | None, names: Sequence[str]) -> dict[str, Tensor | None]:
    """A state tuple by names; None, or a missing entry, starts at zero."""
    if state is None:
        return {}
    values = tuple(state) if not isinstance(state, Tensor) else None
    if values is None or len(values) > len(names):
        raise TypeError(f"{op}: state is {type(state).__name__}, expected a tuple ({', '.join(names)})")
    for name, value in zip(names, values, strict=False):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{op}: the initial state {name} is a {type(value).__name__}, expected a tensor or None")
    return dict(zip(names, values, strict=False))


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
    arguments = (
        tuple(map(inputs.get, order.inputs)),
        tuple(map(params.get, order.params)),
        tuple(map(state.get, order.states)),
        tuple([float(options[key]) for key in order.options]) if options else (),
        surrogate.name if surrogate else "",
        surrogate.values if surrogate else (),
        smooth,
        synapses,
        batch_first,
        tuple([int(key in record and key != "spikes") for key in order.states]) if record else order.no_record,
        check_memory(name, memory),
    )
    results = None if torch.compiler.is_compiling() else _C.call(order.place, *arguments)
    if results is None:
        results = OPS[name](*arguments)
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

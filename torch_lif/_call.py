"""The one place that calls the ops: it checks arguments and turns names into the ordered lists of a neuron's op."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import _C
from ._check import ANY, Range, constant, fits, flag, number, whole_number
from .surrogate import Surrogate

NEURONS = _C.neurons()
KERNELS = frozenset(_C.surrogates())
SYNAPSE_UPDATES = ("input_first", "membrane_first", "membrane_first_increment")
"""The synapse updates of csrc/neuron/euler.h, in the order of its enum."""
BACKENDS = ("fused", "loop")
OPS = {name: getattr(torch.ops.torch_lif, name).default for name in NEURONS}
HALF = (torch.float16, torch.bfloat16)


class Order(NamedTuple):
    """The names in a neuron's lists, in the order of its op. `needed` says for each state what it exists only with: a
    parameter, or "synapses"; None: it always exists."""

    place: int
    spiking: bool
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    states: tuple[str, ...]
    needed: tuple[str | None, ...]
    options: tuple[str, ...]
    no_record: tuple[int, ...]

    @property
    def output(self) -> str:
        """The record that is the output itself."""
        return "spikes" if self.spiking else "v"

    def present(self, params: Mapping[str, Tensor | None], synapses: int) -> list[str]:
        """The states that a layer with these parameters has."""
        return [
            state
            for state, needed in zip(self.states, self.needed, strict=True)
            if needed is None or (synapses if needed == "synapses" else params.get(needed) is not None)
        ]


ORDERS = {
    name: Order(
        place,
        neuron["spiking"],
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
    """The dtype of the computation. Half-precision sequences are stored as they are and computed in float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


UNIT = Range(0.0, 1.0)
"""Range of a decay per step, or of the fraction that leaks away per step."""
POSITIVE = Range(0.0, open_low=True)
COUNT = Range(0.0, finite=True)
"""Range of a number of time steps or seconds."""


def parameter(op: str, name: str, value: Tensor | float | None, x: Tensor, within: Range = ANY) -> Tensor | None:
    """A parameter as a tensor on x's device. A number is checked against its range. A tensor's values are not read,
    because that would wait for the device. A half parameter is widened to float32, exactly, where x is of the same half
    type."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return check_freed(op, name, value).float() if value.dtype in HALF and value.dtype == x.dtype else value
    plain = number(op, name, value, "a number or a tensor")
    if not within.holds(plain):
        raise ValueError(f"{op}: {name} is {value}, expected a number {within}")
    fits(op, name, plain, compute_dtype(x))
    return constants(x, plain)[0]


_CONSTANTS: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}
"""What `constants` has made, by place and numbers. Nobody writes into these tensors, and no call returns one."""
MOST_CONSTANTS = 512


def _place(x: Tensor) -> tuple[torch.dtype, torch.device, int] | None:
    """Where a constant for calls with x can be kept: the dtype of the computation, x's device and the current stream;
    another stream could read a constant before it is written. None if it cannot be kept: while a graph is traced or
    captured (a captured tensor is written by the graph's replays, and its memory belongs to the graph), and for
    subclasses of Tensor."""
    if (type(x) is not Tensor and type(x) is not nn.Parameter) or torch.compiler.is_compiling():
        return None
    device = x.device
    if device.type == "cpu":
        return compute_dtype(x), device, 0
    if device.type != "cuda" or device.index != torch.cuda.current_device() or torch.cuda.is_current_stream_capturing():
        return None
    return compute_dtype(x), device, torch.cuda.current_stream(device).cuda_stream


def _is_plain(made: Tensor) -> bool:
    """Whether a new tensor is one of PyTorch's own, which may outlive the mode that was on: not a fake tensor, not one
    of a transform of torch.func."""
    return type(made) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(made)


def constants(x: Tensor, *numbers: float) -> tuple[Tensor, ...]:
    """The numbers as tensors of shape (), in the dtype that x is computed in, on x's device. They are looked up by
    value, because making one takes as long as a short kernel. They are written on the device, not copied to it, so that
    a CUDA graph can capture it."""
    place = _place(x)
    # 0 and -0 are the same key, and a NaN is none.
    if place is None or any(n != n or (n == 0 and math.copysign(1.0, n) < 0) for n in numbers):
        return tuple([torch.full((), n, dtype=compute_dtype(x), device=x.device) for n in numbers])
    key = (place, numbers)
    found = _CONSTANTS.get(key)
    if found is None:
        with torch.inference_mode(False):  # a tensor of inference mode could not be saved for a backward pass later
            found = tuple([torch.full((), n, dtype=place[0], device=place[1]) for n in numbers])
        if all(map(_is_plain, found)):
            if len(_CONSTANTS) >= MOST_CONSTANTS:
                _CONSTANTS.clear()
            _CONSTANTS[key] = found
    return found


def check_freed(op: str, name: str, value: Tensor) -> Tensor:
    """ValueError if the tensor's memory has been freed. The op checks this too, but only after PyTorch's own functions
    have read the tensor."""
    if value.layout is torch.strided and not value.is_nested and value.numel() and not value.untyped_storage().size():
        raise ValueError(f"{op}: the memory of {name} has been freed, expected a tensor whose values are there")
    return value


def check_input(op: str, x: object, name: str = "x") -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{op}: {name} is a {type(x).__name__}, expected a tensor; convert it with torch.as_tensor({name})"
        )
    if x.layout is not torch.strided or x.is_nested:
        kind, dense = ("nested", "to_padded_tensor(0.0)") if x.is_nested else (x.layout, "to_dense()")
        raise ValueError(f"{op}: {name} is a {kind} tensor, expected a dense one: pass {name}.{dense}")
    return x


NOTHING: tuple[str, ...] = ()
"""The value of `record` if no records are asked for. There is only one empty tuple in Python, so `is` recognises it,
and a short call is spared the check."""
NO_OPTIONS: Mapping[str, float] = {}


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
    """A surrogate that has a kernel; with fused=False its formulas in PyTorch are enough."""
    if isinstance(surrogate, type) and issubclass(surrogate, Surrogate):
        raise TypeError(
            f"{op}: surrogate is the class {surrogate.__name__}, expected an object of it: {surrogate.__name__}()"
        )
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{op}: surrogate is {surrogate!r}, expected a Surrogate such as StepPWL()")
    if fused and surrogate.name not in KERNELS:
        raise TypeError(
            f"{op}: surrogate is {surrogate!r}, which has no kernel; expected one of torch_lif.surrogate, or "
            "formulas of your own "
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
    """The recurrent input of each step, for records: the spikes of the previous step times w_rec, plus b_rec. It is
    zero in the first step if there are no initial spikes `first`. It is laid out like the spikes; two or more synapses
    have one more axis, the last."""
    time = 1 if batch_first else 0
    steps = spikes.to(w_rec.dtype)
    before = (
        torch.zeros_like(steps.narrow(time, 0, min(1, steps.shape[time]))) if first is None else first.unsqueeze(time)
    )
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
    if memory is not None and (not isinstance(memory, str) or memory not in ("mask", "recompute")):
        raise ValueError(f"{op}: memory is {memory!r}, expected 'mask', 'recompute' or None")
    return memory or ""


def check_backend(owner: str, name: str, value: object) -> str:
    return BACKENDS[check_choice(owner, name, value, BACKENDS)]


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


def fixed(value: float) -> float:
    """The number, which torch.compile sees as a constant. torch.compile makes a symbol of a layer's attribute that has
    had two values, but an op's list of floats takes no symbol. The key of a dictionary becomes a constant, with a
    guard."""
    return float(next(iter({value: None})) if torch.compiler.is_compiling() else value)


def call(name: str, *arguments: Any) -> Sequence[Tensor]:
    """Runs torch.ops.torch_lif.<name> with its lists in its order. Returns (output, *final states, *recorded states).
    The op checks everything but the arguments' types. Arguments have no names here, because a caller that runs once per
    time step has no time for them."""
    order = ORDERS[name]
    results = None if torch.compiler.is_compiling() else _C.call(order.place, *arguments)
    if results is not None:
        return results
    names = (*order.inputs, *order.params, *(f"the initial state {key}" for key in order.states))
    for key, value in zip(names, (value for values in arguments[:3] for value in values), strict=True):
        if value is not None:
            check_input(name, value, key)
    return OPS[name](*arguments)


def run(
    name: str,
    inputs: Mapping[str, Tensor | None],
    params: Mapping[str, Tensor | None],
    state: Iterable[Tensor | None] | None,
    *,
    options: Mapping[str, float] = NO_OPTIONS,
    surrogate: object = None,
    smooth: bool = False,
    synapses: int = 0,
    batch_first: bool = True,
    record: Iterable[str] = NOTHING,
    memory: str | None = None,
    backend: str = "fused",
    counts: Sequence[str] = NOTHING,
) -> tuple[Tensor, list[Tensor | None], dict[str, Tensor]]:
    """Runs a neuron over a sequence: by torch.ops.torch_lif.<name>, or with backend="loop" by the plain loop of
    `torch_lif.reference`. `counts` names the states without a gradient. Returns (output, final states, records)."""
    order = ORDERS[name]
    if type(smooth) is not bool or type(batch_first) is not bool:
        smooth, batch_first = flag(name, "smooth", smooth), flag(name, "batch_first", batch_first)
    first = split_state(name, state, order.states)
    for key in counts:
        if (counted := first.get(key)) is not None:
            first[key] = counted.detach()
    states = order.present(params, synapses)
    w_rec = params.get("w_rec")
    if record is not NOTHING:
        own = [key for key in states if key != order.output]
        record = check_record(name, record, (order.output, *own, *(() if w_rec is None else ("recurrent_input",))))
    of_op = [key for key in states if key in record and key != order.output] if record else []
    kept = check_memory(name, memory)
    rule = check_surrogate(name, surrogate, backend == "fused") if order.spiking else None
    if backend != "fused" and check_backend(name, "backend", backend) == "loop":
        from .reference import loop  # here, because reference imports this module

        out, final, records = loop(name, inputs, params, first, options, rule, smooth, synapses, batch_first, of_op)
    else:
        results = call(
            name,
            tuple(map(inputs.get, order.inputs)),
            tuple(map(params.get, order.params)),
            tuple(map(first.get, order.states)),
            tuple([fixed(options[key]) for key in order.options]) if options else (),
            rule.name if rule else "",
            rule.values if rule else (),
            smooth,
            synapses,
            batch_first,
            tuple([int(key in of_op) for key in order.states]) if of_op else order.no_record,
            kept,
        )
        out = results[0]
        final = dict(zip(states, results[1:], strict=False))
        records = dict(zip(of_op, results[1 + len(states) :], strict=True)) if of_op else {}
    for key in counts:
        for values in (final, records):
            if key in values:
                values[key] = values[key].detach()
    if record:
        records[order.output] = out
        if "recurrent_input" in record and w_rec is not None:
            records["recurrent_input"] = recurrent_input(
                out, first.get("spikes"), w_rec, params.get("b_rec"), synapses, batch_first
            )
    return out, [final.get(key) for key in order.states], {key: records[key] for key in record}

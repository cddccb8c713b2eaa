"""What is broken in a mutated call: a table of the kinds of arguments, and a table of mutations for each kind."""

from __future__ import annotations

import decimal
import fractions
import inspect
import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

import torch_lif
from torch_lif import _call

from .calls import CONFIG, DTYPES, Call
from .values import readable

# The kind of each argument of functions, modules and ops. Those named tau_, decay_ and bitshift_ are parameters.
ARGUMENTS = {
    "x": "sequence", "noise": "sequence", "spikes_hw": "weights", "membrane_hw": "sequence",
    "rate_mem": "parameter", "rate_syn": "parameter", "threshold": "parameter", "bias": "parameter",
    "adapt_scale": "parameter",
    "reset_value": "parameter", "min_v": "parameter", "leak": "parameter",
    "refractory": "parameter",
    "refractory_time": "parameter", "w_rec": "weights", "b_rec": "weights", "recurrent": "weights",
    "recurrent_bias": "weights",
    "state": "state", "record": "record", "surrogate": "surrogate", "synapses": "count", "size": "count",
    "max_spikes": "number", "dt": "number", "noise_std": "number",
    "batch_first": "flag", "smooth": "flag", "leaky": "flag", "reset_gradient": "flag", "zero_adaptation": "flag",
    "threshold_gradient": "flag", "resumed": "flag",
    "memory": "choice", "synapse_update": "choice", "norm_input": "choice", "backend": "choice", "reset": "choice",
    "trainable": "record", "device": "choice", "dtype": "choice", "generator": "choice",
    "inputs": "tensors", "params": "tensors", "grads": "tensors", "kept": "tensors",
    "options": "numbers", "surrogate_params": "numbers", "needs": "flags", "place": "count",
}  # fmt: skip


def kind_of(call: Call, name: str) -> str:
    if call.kind == "surrogate":
        return "number"
    if call.raw:
        return {"state": "tensors", "record": "flags", "surrogate": "choice"}.get(name) or ARGUMENTS[name]
    if name == "reset" and call.case.name not in ("alif", "lif"):
        return "parameter"
    return "parameter" if name.partition("_")[0] in ("tau", "decay", "bitshift") else ARGUMENTS[name]


def _resized(t: Tensor) -> Tensor:
    t = t.clone().contiguous()
    t.untyped_storage().resize_(0)
    if not t.numel():
        raise ValueError("nothing is missing")
    return t


def _other_float(t: Tensor, rng: Random) -> Tensor:
    return t.to(rng.choice([d for d in (torch.float32, torch.float64, torch.bfloat16, torch.float16) if d != t.dtype]))


def _another_size(t: Tensor, rng: Random) -> Tensor:
    if not t.dim():
        return t.expand(rng.choice(((1,), (2,), (0,), (1, 1, 1, 1))))
    d = rng.randrange(t.dim())
    if t.shape[d] > 1 and rng.random() < 0.5:
        return t.narrow(d, 0, t.shape[d] - 1)
    return t.new_ones([n + (k == d) for k, n in enumerate(t.shape)])


def _random_bits(t: Tensor, rng: Random) -> Tensor:
    words = {2: torch.int16, 4: torch.int32, 8: torch.int64}[t.itemsize]
    limits = torch.iinfo(words)
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    bits = torch.randint(limits.min, limits.max, t.shape, dtype=words, generator=generator).to(t.device).view(t.dtype)
    # lif's docstring makes an exception for larger numbers: their quotient by the threshold may overflow.
    return torch.where(bits.abs() > 1e30, torch.copysign(torch.full_like(bits, torch.inf), bits), bits)


def _compressed(t: Tensor) -> Tensor:
    return t.reshape(1, -1).to_sparse_csr()


TENSORS: dict[str, Callable[[Tensor, Random], Any]] = {
    "int64": lambda t, rng: t.nan_to_num(0, 9, -9).clamp(-99, 99).long(),
    "bool": lambda t, rng: t > 0,
    "complex": lambda t, rng: t.to(torch.complex64),
    "another float": _other_float,
    "float8": lambda t, rng: t.float().to(torch.float8_e4m3fn),
    "sparse": lambda t, rng: t.to_sparse() if t.dim() else t.reshape(1).to_sparse(),
    "sparse csr": lambda t, rng: _compressed(t),
    "quantized": lambda t, rng: torch.quantize_per_tensor(t.float().cpu(), 0.1, 10, torch.quint8),
    "nested": lambda t, rng: torch.nested.nested_tensor([t.reshape(-1), t.reshape(-1)[:1]]),
    "jagged": lambda t, rng: torch.nested.nested_tensor([t.reshape(-1), t.reshape(-1)[:1]], layout=torch.jagged),
    "mkldnn": lambda t, rng: t.float().cpu().contiguous().to_mkldnn(),
    "meta": lambda t, rng: t.to("meta"),
    "without storage": lambda t, rng: _resized(t),
    "another size": _another_size,
    "one dimension more": lambda t, rng: t.unsqueeze(rng.randint(0, t.dim())),
    "flat": lambda t, rng: t.reshape(-1) if t.dim() != 1 else t.reshape(1, -1),
    "reversed dimensions": lambda t, rng: t.permute(*reversed(range(t.dim()))),
    "empty": lambda t, rng: t.new_empty(0),
    "numpy": lambda t, rng: t.float().cpu().numpy(),
    "its list": lambda t, rng: t.tolist(),
    "negative": lambda t, rng: -t,
    "NaN": lambda t, rng: torch.full_like(t, math.nan),
    "expanded": lambda t, rng: t.reshape(-1)[:1].expand(t.shape) if t.numel() else t,
    "huge": lambda t, rng: torch.full_like(t, 1e30),
    "random bits": _random_bits,
}
"""Mutations of a tensor."""
UNEVEN = ("huge", "random bits")
"""Mutations that are not used on what is multiplied with recurrent weights, because its sums depend on the order."""

OBJECTS: dict[str, Callable[[], Any]] = {
    "text": lambda: "a",
    "bytes": lambda: b"v",
    "list": lambda: [1.0],
    "empty tuple": lambda: (),
    "dict": lambda: {"v": 1},
    "set": lambda: {1},
    "generator": lambda: (n for n in ("v",)),
    "bool": lambda: True,
    "complex number": lambda: 1 + 2j,
    "object": object,
    "type": lambda: float,
    "function": lambda: abs,
    "numpy array": lambda: np.ones(3),
    "Ellipsis": lambda: ...,
    "a tensor of two": lambda: torch.ones(2),
    "None": lambda: None,
}
"""Objects that are hardly ever what an argument expects."""

NUMBERS: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "-infinity": lambda: -math.inf,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "1e39": lambda: 1e39,
    "1e-50": lambda: 1e-50,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "10**400": lambda: 10**400,
    "Decimal": lambda: decimal.Decimal("0.5"),
    "Fraction": lambda: fractions.Fraction(1, 2),
    "numpy double": lambda: np.float64(0.5),
    "numpy half": lambda: np.float16(0.5),
    "numpy NaN": lambda: np.float32(math.nan),
    "numpy array of one": lambda: np.array(0.5),
    "integer tensor": lambda: torch.tensor(1),
}
COUNTS: dict[str, Callable[[], Any]] = {
    **{
        str(n): (lambda n=n: n)
        for n in (-1, -(2**31), 0, 1, 2, 3, 16, 2**31, 2**32 + 1, 2**63 - 1, 2**63, 1.5, math.nan)
    },
    "numpy int": lambda: np.int64(1),
    "tensor": lambda: torch.tensor(1),
    "shape with a float": lambda: (2, 1.5),
    "shape with -1": lambda: (2, -1),
    "shape with a text": lambda: ("2",),
}
FLAGS: dict[str, Callable[[], Any]] = {
    **{repr(v): (lambda v=v: v) for v in (0, 1, 2, -1, 2**63 - 1, 2**63, 0.5, math.nan, "no", "")},
    "numpy bool": lambda: np.bool_(True),
    "tensor": lambda: torch.tensor(True),
    "tensor of two": lambda: torch.tensor([True, False]),
}
CHOICES: dict[str, Callable[[], Any]] = {
    **{
        repr(v): (lambda v=v: v)
        for v in ("bogus", "", "MASK", "mask", "save", "recompute", "state", "value", "v\0w", "ä", 3)
    },
    "a long text": lambda: "x" * 10000,
}
NAMES: dict[str, Callable[[], Any]] = {
    "a name that is none": lambda: ("bogus",),
    "None in it": lambda: (None,),
    "a number in it": lambda: (1,),
    "bytes in it": lambda: (b"v",),
    "a list in it": lambda: (["v"],),
    "twice": lambda: ("v", "v"),
    "list": lambda: ["v"],
    "set": lambda: {"v"},
    "dict": lambda: {"v": None},
    "generator": lambda: (name for name in ("v",)),
    "numpy array": lambda: np.array(["v"]),
    "text": lambda: "v",
    "recurrent input": lambda: ("recurrent_input",),
    "number": lambda: 3,
}


class UnknownKernel(torch_lif.Surrogate):
    name = "bogus"


class WrongParameters(torch_lif.StepPWL):
    def parameters(self) -> list[float]:
        return [0.5, 0.5, 0.5]


class NaNParameters(torch_lif.StepPWL):
    def parameters(self) -> list[Any]:
        return ["a"]


SURROGATES: dict[str, Callable[[], Any]] = {
    "class": lambda: torch_lif.StepPWL,
    "base": lambda: torch_lif.Surrogate(),
    "name": lambda: "step_pwl",
    "unknown kernel": UnknownKernel,
    "wrong parameters": WrongParameters,
    "text parameters": NaNParameters,
}

OF_KIND: dict[str, list[dict[str, Callable[[], Any]]]] = {
    "sequence": [OBJECTS, NUMBERS],
    "weights": [OBJECTS, NUMBERS],
    "parameter": [NUMBERS, NUMBERS, OBJECTS],
    "number": [NUMBERS, NUMBERS, OBJECTS],
    "count": [COUNTS, COUNTS, OBJECTS],
    "flag": [FLAGS, OBJECTS],
    "choice": [CHOICES, OBJECTS],
    "record": [NAMES, OBJECTS],
    "surrogate": [SURROGATES, OBJECTS],
    "state": [OBJECTS],
}


def break_one_thing(rng: Random, call: Call) -> None:
    """Replaces one argument, or something in a list of them."""
    if call.raw:
        _break_raw(rng, call)
        return
    where, name = rng.choice(_places(call))
    kind = kind_of(call, name)
    example = call.arguments.get("x")
    current = where.get(name)
    if kind == "state":
        current = list(current) if isinstance(current, (list, tuple)) and current else [None] * len(call.case.states)
        if current and rng.random() < 0.8:
            k = rng.randrange(len(current))
            counted = k < len(call.case.states) and call.case.states[k] == "spikes"
            label, current[k] = _broken(rng, "weights" if counted else "sequence", current[k], _state_like(call))
            label = f"entry {k}: {label}"
        elif rng.random() < 0.3:
            label, current = "too long", [*current, *[None] * 5]
        else:
            label, current = _broken(rng, "state", None, None)
        value: Any = tuple(current) if isinstance(current, list) else current
    else:
        label, value = _broken(rng, kind, current, example)
    where[name] = value
    call.broken.append(f"{name}: {label}")
    call.names |= {name}
    if _is_relational(kind, value) or name in ("size", "dt", "refractory_time"):
        call.names |= {
            *call.case.params,
            *call.arguments,
            *call.making,
            "state",
            "w_rec",
            "tau_mem",
            "tau_syn",
            "tau_adapt",
        }


def _is_relational(kind: str, value: Any) -> bool:
    """Whether an error may also name another argument, which this one no longer fits."""
    return value is None or isinstance(value, (Tensor, tuple)) or kind in ("count", "flag", "choice")


def _state_like(call: Call) -> Tensor | None:
    x = call.arguments.get("x")
    if not isinstance(x, Tensor) or x.layout is not torch.strided or x.is_meta or x.dim() < 2:
        return None
    return (
        x.detach().select(1 if call.arguments.get("batch_first", True) else 0, 0) if x.shape[1] and x.shape[0] else None
    )


def _places(call: Call) -> list[tuple[dict[str, Any], str]]:
    if call.kind == "surrogate":
        return [(call.making, name) for name in call.making]
    if call.kind == "function":
        names = [n for n in inspect.signature(call.case.fused).parameters]
        return [(call.arguments, n) for n in names if n in ARGUMENTS or kind_of(call, n)]
    layer = getattr(torch_lif, call.owner)
    making = [n for n in inspect.signature(layer.__init__).parameters if n != "self"]
    running = [n for n in inspect.signature(layer.run).parameters if n != "self"]
    return [(call.making, n) for n in making] + [(call.arguments, n) for n in running] * 2


def _broken(rng: Random, kind: str, value: Any, like: Tensor | None) -> tuple[str, Any]:
    """A label, and what replaces the value."""
    base = value if isinstance(value, Tensor) else like
    if kind == "weights" and base is like and isinstance(like, Tensor) and readable(like):
        base = like.detach().round()  # whole numbers, whose products with recurrent weights are exact
    usable = (
        isinstance(base, Tensor) and readable(base) and base.dtype in (*DTYPES, torch.int32)
    )  # of that type are masks
    if (
        kind in ("sequence", "weights", "parameter")
        and usable
        and rng.random() < (0.75 if kind != "parameter" else 0.5)
    ):
        label = rng.choice([name for name in TENSORS if kind != "weights" or name not in UNEVEN])
        return label, _or_list(lambda: TENSORS[label](base.detach(), rng))
    table = rng.choice(OF_KIND[kind])
    label = rng.choice(list(table))
    return label, _or_list(table[label])


def _or_list(make: Callable[[], Any]) -> Any:
    """Not every kind of tensor can be made in every shape, nor every surrogate. Then a list is returned, which is wrong
    too."""
    try:
        return make()
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return [1.0]


RAW_NAMES = {
    "inputs": {"inputs", "x"},
    "params": {"params", "parameters"},
    "state": {"state", "states"},
    "options": {"options"},
    "surrogate_params": {"surrogate_params", "surrogate"},
    "record": {"record", "recorded", "records"},
    "grads": {"grads", "gradient", "gradients"},
    "kept": {"kept", "mask", "input"},
    "needs": {"needs"},
    "place": {"place", "neuron", "neurons", "index"},
}
"""Words for the op's lists in error messages, in addition to those for their entries."""


def _break_raw(rng: Random, call: Call) -> None:
    raw = call.raw
    often = ("grads", "kept", "needs", "memory", "inputs", "params", "state")
    whole = [n for n in raw if not any(what.startswith(f"{n}: ") for what in call.broken)]
    name = rng.choice([*whole, *[n for n in often if n in whole]])
    kind = kind_of(call, name)
    current = raw[name]
    names = {name, *RAW_NAMES.get(name, ())}
    entries = list(current) if isinstance(current, (list, tuple)) else None
    if kind in ("tensors", "numbers", "flags") and entries is not None and rng.random() < 0.9:
        label, value, entry, opaque = _broken_list(rng, call, name, kind, entries)
        names |= {entry} if entry else set()
    else:
        # PyTorch accepts an array or a set as a list of numbers, and then nobody can say what the numbers should be.
        numbers = {name: make for name, make in OBJECTS.items() if name not in ("numpy array", "set")}
        table = {
            "tensors": OBJECTS,
            "numbers": numbers,
            "flags": OBJECTS,
            "flag": FLAGS,
            "count": COUNTS,
            "choice": CHOICES,
        }[kind]
        label = rng.choice(list(table))
        value = table[label]()
        opaque = not _is_the_same(value, current)
    if kind in ("count", "flag", "flags", "tensors"):
        names |= _raw_names(call)
    raw[name] = tuple(value) if isinstance(current, tuple) and isinstance(value, list) else value
    call.broken.append(f"{name}: {label}")
    call.opaque += call.broken[-1:] if opaque else []
    call.names |= names


def _is_the_same(value: Any, current: Any) -> bool:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, (list, tuple)) and isinstance(current, (list, tuple)):
        return len(number) == len(current) and all(_is_the_same(a, b) for a, b in zip(number, current, strict=True))
    if isinstance(current, Tensor):
        return value is current
    return number is current or (isinstance(number, (int, float, np.generic)) and bool(number == current))


def _raw_names(call: Call) -> set[str]:
    order = _call.ORDERS[call.case.name]
    lists = set().union(*RAW_NAMES.values())
    return {*order.inputs, *order.params, *order.states, *lists, *CONFIG, "resumed", "last", "first"}


def _another_length(rng: Random, kind: str, entries: list[Any]) -> tuple[str, list[Any]]:
    label = rng.choice(("shorter", "longer", "empty", "much longer") if entries else ("longer", "much longer"))
    first = entries[0] if entries else {"numbers": 1.0, "flags": 1, "tensors": None}[kind]
    more = [first] * (1 if label == "longer" else 40)
    return label, {"shorter": entries[:-1], "empty": []}.get(label, [*entries, *more])


def _broken_list(
    rng: Random, call: Call, name: str, kind: str, entries: list[Any]
) -> tuple[str, list[Any], str | None, bool]:
    """A label, the new list, the name of the broken entry, and whether the reference cannot be asked about it."""
    if rng.random() < 0.2 or not entries:
        return *_another_length(rng, kind, entries), None, True
    order = _call.ORDERS[call.case.name]
    known = {"inputs": order.inputs, "params": order.params, "state": order.states}
    known |= {"record": order.states, "options": order.options}
    k = rng.randrange(len(entries))
    entry = known[name][k] if name in known and k < len(known[name]) else None
    if kind == "tensors":
        if rng.random() < 0.1 and entries[k] is not None:
            label, entries[k] = "left out", None
        else:
            example = next((t for t in entries if isinstance(t, Tensor)), call.arguments.get("x"))
            counted = entry in ("w_rec", "b_rec", "spikes", "spikes_hw")
            label, entries[k] = _broken(rng, "weights" if counted else "sequence", entries[k], example)
        if entry:
            _same_in_arguments(call, name, k, entry, entries[k])
        opaque = name == "kept"
    else:
        table = FLAGS if kind == "flags" else NUMBERS
        label = rng.choice(list(table))
        entries[k] = table[label]()
        opaque = name != "record"
    return f"entry {k} ({entry or name}): {label}", entries, entry, opaque


def _same_in_arguments(call: Call, name: str, k: int, entry: str, value: Any) -> None:
    """Makes the same change in the function's arguments, so that the reference gives the expected result if the op
    accepts the change."""
    if name == "state":
        state = list(call.arguments.get("state") or [])
        state += [None] * (k + 1 - len(state))
        state[k] = value
        call.arguments["state"] = tuple(state)
    else:
        call.arguments[entry] = value

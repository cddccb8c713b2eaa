"""Makes call number k of a seed: always the same one, of a random function, module or op, with random valid arguments.

The neurons and their values come from tests/cases.py. This file adds memory layouts, numbers instead of tensors,
options and extreme values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from random import Random
from typing import Any

import cases
import numpy as np
import torch
from cases import SURROGATES, Case
from torch import Tensor

import torch_lif
from torch_lif import _C, _call

from .values import EXTREMES, NOT_FINITE, laid_out, plain, sprinkled

KINDS = {"function": 40, "module": 28, "op": 8, "shortcut": 5, "forward": 6, "backward": 11, "surrogate": 2}
"""What is called, and how often. "op", "forward" and "backward" are torch.ops.torch_lif's, "shortcut" is _C.call."""
MUTATED = 0.5
DTYPES = (torch.float64, torch.float64, torch.float32, torch.float32, torch.bfloat16, torch.float16)
CONFIG = ("options", "surrogate", "surrogate_params", "smooth", "synapses", "batch_first", "record", "memory")
DT = 1e-3
STREAM_FROM = 4 << 20
"""The value of stream_from in csrc/cpu/dispatch.c."""


@dataclasses.dataclass
class Call:
    """One call. `arguments` are the function's (of a module: those of `run`), `making` the constructor's, `raw` the
    op's by the names of its schema. `needs` names the tensors that require a gradient. `broken` says what was done to
    the call, `opaque` what of it the reference cannot be asked about, and `names` which other words an error may use
    for the argument."""

    seed: int
    number: int
    kind: str
    case: Case
    arguments: dict[str, Any]
    making: dict[str, Any] = dataclasses.field(default_factory=dict)
    raw: dict[str, Any] = dataclasses.field(default_factory=dict)
    needs: list[str] = dataclasses.field(default_factory=list)
    touch: str = "nothing"
    owner: str = ""
    device: str = "cpu"
    extreme: bool = False
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    broken: list[str] = dataclasses.field(default_factory=list)
    names: set[str] = dataclasses.field(default_factory=set)
    opaque: list[str] = dataclasses.field(default_factory=list)

    @property
    def smooth(self) -> bool:
        return bool({**self.arguments, **self.making}.get("smooth"))

    def rng(self, purpose: str) -> Random:
        return Random(f"{self.seed} {self.number} {purpose}")


def chance(rng: Random, p: float) -> bool:
    return rng.random() < p


def subset(rng: Random, names: Any, p: float = 0.5) -> list[Any]:
    return [name for name in names if rng.random() < p]


def random_case(rng: Random) -> Case:
    neuron = rng.choice(("lif", "lif", "lif", "alif", "alif", "euler", "euler", "li"))
    if neuron == "lif":
        return cases._lif(rng.choice((0, 0, 1, 1, 2, 3, 4, 5)), chance(rng, 0.35))
    if neuron == "li":
        return cases._li(
            "li",
            tuple(subset(rng, ("noise", "membrane_hw"), 0.3)),
            subset(rng, ("bias",)),
            synapse_update=rng.choice(_call.SYNAPSE_UPDATES),
        )
    if neuron == "alif":
        more = subset(rng, ("reset_value", "min_v", "bias"))
        return cases._alif(
            "alif",
            chance(rng, 0.5),
            recurrent=chance(rng, 0.35),
            more=more,
            inputs=tuple(subset(rng, ("noise",), 0.3)),
            reset=rng.choice(("subtract", "value")) if "reset_value" in more else "subtract",
            norm_input=rng.choice((True, False, "state")),
            zero_adaptation=chance(rng, 0.3),
            threshold_gradient=chance(rng, 0.7),
            max_spikes=rng.choice((1, 1, 2, 7.5, 64)),
        )
    leaky = chance(rng, 0.7)
    return cases._euler(
        "euler",
        subset(rng, ("reset_value", "refractory", "bias", *(("leak",) if leaky else ()))),
        tuple(subset(rng, ("noise", "spikes_hw", "membrane_hw"), 0.25)),
        recurrent=chance(rng, 0.35),
        leaky=leaky,
        synapse_update=rng.choice(_call.SYNAPSE_UPDATES),
        reset_gradient=chance(rng, 0.5),
    )


def random_surrogate(rng: Random) -> Any:
    """A surrogate of moderate steepness: with steeper ones gradients would explode within a few steps."""
    known = rng.choice(SURROGATES)
    return type(known)(**{f.name: getattr(known, f.name) * rng.uniform(0.6, 1.4) for f in dataclasses.fields(known)})


def steps_of(rng: Random, case: Case) -> int:
    """The number of steps: few where gradients explode, see Case.steps."""
    if case.steps == 6 and chance(rng, 0.6):
        return rng.randint(0, 6)
    return rng.choice((0, 1, 2, 3, 5, 9, 15, 16, 17, 18, 31, 32, 33, 40))


def neurons_of(rng: Random, case: Case) -> tuple[int, ...]:
    many = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65)
    one = (rng.choice(many) if chance(rng, 0.97) else rng.choice((130, 257, 530)),)
    if case.synapses > 1 or chance(rng, 0.7):
        return one if not case.recurrent else (min(one[0], 20),)
    return rng.choice(((), (1,), (2, 3), (3, 1, 2), (1, 1), (2, 0), (2, 3, 4), (1, 2, 1, 3)))


def number_of(rng: Random, value: float, x: Tensor) -> Any:
    """The same number as a number of Python or numpy."""
    kinds = (float, float, np.float64, np.float32 if x.dtype != torch.float64 else np.float64)
    return rng.choice(kinds)(value)


def with_layouts(rng: Random, arguments: dict[str, Any], gradient: bool) -> dict[str, Any]:
    unfit = ("inference",) if gradient else ()

    def one(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not chance(rng, 0.4):
            return value
        divided_by = ("no memory",) if name in ("threshold", "tau_mem", "tau_syn", "tau_adapt") else ()
        return laid_out(value, rng, (*unfit, *divided_by))

    done = {name: one(name, value) for name, value in arguments.items()}
    if done.get("state") is not None:
        done["state"] = tuple(one("state", value) for value in done["state"])
    return done


def with_extremes(rng: Random, case: Case, arguments: dict[str, Any], parameters: bool) -> dict[str, Any]:
    """Puts extreme values into some tensors. Values that are multiplied with recurrent weights must have the same sum
    in every order, so only such extremes are taken there."""
    fragile = ("w_rec", "b_rec", *(("spikes_hw",) if case.recurrent else ()))
    sequences = ("x", *case.inputs)
    # lif's docstring makes an exception for membranes whose quotient by the threshold overflows.
    numbers = tuple(n for n in EXTREMES if case.name != "lif" or abs(n) < 1e30 or not math.isfinite(n))
    for name in subset(
        rng, [n for n, v in arguments.items() if isinstance(v, Tensor) and (n in sequences or parameters)], 0.4
    ):
        arguments[name] = sprinkled(arguments[name], rng, NOT_FINITE if name in fragile else numbers)
    if arguments.get("state") is not None and chance(rng, 0.5):
        arguments["state"] = tuple(
            value if value is None or name == "spikes" else sprinkled(value, rng, numbers)
            for name, value in zip(case.states, arguments["state"], strict=True)
        )
    return arguments


def function_arguments(rng: Random, call: Call) -> None:
    """Fills in a valid call of the neuron's function."""
    case = call.case
    dtype, neurons = rng.choice(DTYPES), neurons_of(rng, case)
    arguments = cases.make(
        case,
        T=steps_of(rng, case),
        B=rng.choice((0, 1, 1, 2, 2, 3)),
        neurons=neurons,
        dtype=dtype,
        device=call.device,
        seed=rng.randrange(2**31),
        batch_first=chance(rng, 0.7),
        shared=subset(rng, case.params, 0.4),
        with_inputs=chance(rng, 0.8),
        with_state=chance(rng, 0.6),
    )
    x = arguments["x"]
    if case.max_spikes:
        arguments["max_spikes"] = rng.choice(
            (1, 2, 3.5, 64 if case.recurrent else 2.0**16)
        )  # so that products are exact
    required = ("decay_mem", "decay_syn", "decay_adapt", "rate_mem", "rate_syn", "reset_value", "refractory")
    for name in list(case.params):
        value = arguments[name]
        if name not in required and chance(rng, 0.3):
            del arguments[name]
        elif value.dim() == 0 and chance(rng, 0.5):
            number = number_of(rng, value.item(), x)
            arguments[name] = number if call.kind in ("function", "module") else float(number)
        elif value.dim() and chance(rng, 0.2):
            for d in subset(rng, [d for d in range(value.dim()) if value.shape[d]]):
                arguments[name] = arguments[name].narrow(d, 0, 1)
    if "b_rec" in arguments and chance(rng, 0.3):
        del arguments["b_rec"]
    if case.spiking:
        arguments["surrogate"] = random_surrogate(rng)
        few = x.shape[1 if arguments["batch_first"] else 0] <= 16  # over more steps the last bits of exp grow
        arguments["smooth"] = chance(rng, 0.08) and few
    if "state" in arguments:
        state = [None if chance(rng, 0.15) else value for value in arguments["state"]]
        arguments["state"] = tuple(state)
    arguments["record"] = tuple(subset(rng, (*case.records, *(("recurrent_input",) if case.recurrent else ())), 0.4))

    gradient = chance(rng, 0.65) or call.kind == "module"  # whose parameters may require one
    call.extreme = chance(rng, 0.15) and not arguments.get("smooth")
    if call.extreme:
        arguments = with_extremes(rng, case, arguments, call.kind != "module")
    if dtype in _call.HALF and not call.extreme and chance(rng, 0.15):  # a parameter may be half too
        for name in subset(rng, [n for n in case.params if isinstance(arguments.get(n), Tensor)], 0.5):
            arguments[name] = arguments[name].to(dtype)
    call.arguments = with_layouts(rng, arguments, gradient)
    require_gradients(rng, call, gradient)
    call.arguments["memory"] = rng.choice(possible_memory(call))


def require_gradients(rng: Random, call: Call, gradient: bool) -> None:
    for name, value in list(call.arguments.items()):
        if name == "state" and value is not None:
            call.arguments[name] = tuple(
                s.requires_grad_() if gradient and s is not None and chance(rng, 0.5) else s for s in value
            )
        elif gradient and isinstance(value, Tensor) and chance(rng, 0.8 if name == "x" else 0.4):
            call.arguments[name] = value.requires_grad_()
    call.needs = [name for name, value in named_tensors(call.arguments) if value.requires_grad]


def named_tensors(arguments: dict[str, Any]) -> list[tuple[str, Tensor]]:
    found = [(name, value) for name, value in arguments.items() if isinstance(value, Tensor)]
    state = arguments.get("state")
    for k, value in enumerate(state if isinstance(state, (tuple, list)) else ()):
        if isinstance(value, Tensor):
            found.append((f"state[{k}]", value))
    return found


def possible_memory(call: Call) -> list[str | None]:
    """The modes that may be asked for, by the docstrings."""
    case, arguments = call.case, call.arguments
    if case.recurrent:
        return [None]
    window = not case.spiking or isinstance(arguments.get("surrogate"), (torch_lif.StepPWL, torch_lif.Heaviside))
    masked = (
        case.name in ("lif", "li") and window and not arguments.get("smooth") and not set(call.needs) & set(case.params)
    )
    return [None, "recompute", *(("mask", "mask") if masked else ())]


def module_arguments(rng: Random, call: Call) -> None:
    """Turns a call of the function into one of the module: leaks in one of their views, the rest as the constructor
    wants it."""
    case, arguments = call.case, call.arguments
    spiking_class = {"lif": "CubaLIF" if case.synapses else "LIF", "alif": "ALIF", "li": "LI"}
    call.owner = spiking_class.get(case.name, "EulerLIF")
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value._is_zerotensor():
            arguments[name] = plain(value)  # arithmetic with numbers would make it float64
    x = arguments["x"]
    size = tuple(x.shape[2:]) if case.synapses < 2 else (x.shape[2] // case.synapses,)
    making: dict[str, Any] = {"size": size[0] if len(size) == 1 and chance(rng, 0.7) else size}
    making["dt"] = rng.choice((DT, DT, 1e-4, 0.25, 1))
    for leak in ("mem", "syn", "adapt"):
        given = f"decay_{leak}" in arguments or f"rate_{leak}" in arguments
        value = arguments.pop(f"decay_{leak}", arguments.pop(f"rate_{leak}", None))
        if not given or (chance(rng, 0.3) and leak != "syn" and making["dt"] <= DT):
            continue  # the default time constant; it must not be shorter than a step
        view = rng.choice(("tau", "decay", "bitshift"))
        # A decay in [0, 1] becomes a time constant of 1 to about 20 steps, or a shift of at most 3.
        if view == "tau":
            value = (value * 20 + 1.1) * making["dt"]  # a tenth more: bfloat16 rounds a step down
        making[f"{view}_{leak}"] = value * 3 if view == "bitshift" else value
    for name in ("threshold", "bias", "adapt_scale", "reset_value", "min_v", "leak"):
        if name in arguments:
            making[name] = arguments.pop(name)
    if "refractory" in arguments:
        making["refractory_time"] = (arguments.pop("refractory") + 0.25) * making["dt"]
    for name in ("surrogate", "max_spikes", "batch_first", "smooth", "memory", *case.options):
        if name in arguments:
            making[name] = arguments.pop(name)
    if "w_rec" in arguments:
        making["recurrent"] = arguments.pop("w_rec").detach().contiguous()
        if "b_rec" in arguments:
            making["recurrent_bias"] = arguments.pop("b_rec").detach().contiguous()
    if x.dtype == torch.float64:
        making["dtype"] = torch.float64
    elif x.dtype in _call.HALF or any(isinstance(v, Tensor) and v.dtype in _call.HALF for v in making.values()):
        making["dtype"] = torch.float32
    for name in ("spikes_hw", "membrane_hw"):
        arguments.pop(name, None)
    if "noise" not in arguments and not call.extreme and chance(rng, 0.2):
        making["noise_std"] = rng.uniform(0.1, 2.0)
        arguments["generator"] = rng.randrange(2**31)  # its seed: each run needs a new one
    # If a parameter is of a subclass, copying and saving it is up to that subclass.
    making = {
        name: value.detach().as_subclass(Tensor) if isinstance(value, Tensor) else value
        for name, value in making.items()
    }
    leaks = [name for name in making if name.split("_")[0] in ("tau", "decay", "bitshift")]
    if chance(rng, 0.4):
        making["trainable"] = (
            True if chance(rng, 0.3) else subset(rng, [*leaks, "threshold"] if case.spiking else leaks)
        )
    if making.get("trainable") and making.get("memory") == "mask":
        making["memory"] = None
    if call.device != "cpu":
        making["device"] = call.device
    call.making = making
    call.needs = [name for name in call.needs if name in ("x", "noise") or name.startswith("state")]
    call.touch = rng.choice(("nothing",) * 4 + TOUCHES)


TOUCHES = ("repr", "state_dict", "deepcopy", "pickle", "views", "set", "reset", "empty", "train")
"""What else is done with a layer before it is run: see `touched` in judge.py."""


class Captured(BaseException):
    """Carries the op's arguments as the function made them."""


class _Capture:
    def call(self, place: int, *arguments: Any) -> None:
        raise Captured(arguments)


def raw_arguments(rng: Random, call: Call) -> None:
    """The arguments that the function passes to its op, by the names of the schema."""
    before = _call._C
    _call._C = _Capture()  # type: ignore[assignment]
    try:
        call.case.fused(**call.arguments)
    except Captured as captured:
        call.raw = dict(zip(("inputs", "params", "state", *CONFIG), captured.args[0], strict=True))
    finally:
        _call._C = before
    if call.kind == "shortcut":
        call.raw = {"place": _call.ORDERS[call.case.name].place} | call.raw
        return
    call.raw = {name: list(value) if isinstance(value, tuple) else value for name, value in call.raw.items()}
    if call.kind in ("forward", "backward"):
        call.raw["memory"] = "save" if call.case.recurrent else rng.choice(possible_memory(call)[1:])
    if call.kind == "backward":
        backward_arguments(rng, call)


def present(call: Call) -> list[str]:
    """The states that this call's layer has, in the op's order."""
    order = _call.ORDERS[call.case.name]
    needs = zip(order.states, order.needed, strict=True)
    synapses = call.raw["synapses"]
    given = dict(zip(order.params, call.raw["params"], strict=True))
    return [s for s, n in needs if n is None or (synapses if n == "synapses" else given[n] is not None)]


def backward_arguments(rng: Random, call: Call) -> None:
    """Arguments of a backward op, from a forward op that runs here: gradients of its outputs, and what it kept."""
    order, raw = _call.ORDERS[call.case.name], call.raw
    mask = raw["memory"] == "mask"
    with torch.no_grad():
        results = getattr(torch.ops.torch_lif, f"{call.case.name}_forward")(**raw)
    states = present(call)
    count = 1 + len(states) + sum(map(bool, raw["record"]))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    grads = []
    for k, result in enumerate(results[:count]):
        g = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.dtype).to(result.device)
        g = laid_out(g, rng, ("inference",)) if chance(rng, 0.4) else g
        grads.append(None if chance(rng, 0.2) and k else g)
    needs = [int(t is not None and chance(rng, 0.7)) for t in raw["inputs"]]
    needs += [
        int(t is not None and n != "refractory" and not mask and chance(rng, 0.5))
        for n, t in zip(order.params, raw["params"], strict=True)
    ]
    needs += [int(s in states and s != "refractory" and chance(rng, 0.6)) for s in order.states]
    first = dict(zip(order.states, raw.pop("state"), strict=True))
    values = ("expanded", "overlapping", "no memory", "inference")  # these would be changed
    kept = [laid_out(t, rng, values) if chance(rng, 0.3) else t for t in results[count:]]
    raw |= {"grads": grads, "kept": kept, "needs": needs}
    raw["resumed"] = call.case.recurrent and first.get("spikes") is not None


def build(seed: int, number: int, mutate: bool = True) -> Call:
    """The call of this number. The same numbers give the same call; `mutate=False` leaves a mutated call whole."""
    from .mutations import break_one_thing

    rng = Random(f"{seed} {number}")
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    call = Call(seed, number, kind, random_case(rng), {})
    if chance(rng, 0.3) and torch.cuda.is_available():
        call.device = "cuda"
    known = _C.supported_instruction_sets()
    call.settings = {
        "instruction_set": known[-1 - int(rng.random() ** 2 * len(known))],
        "threads": rng.choice((1, 1, 2)),
        "stream_from": rng.choice((STREAM_FROM, STREAM_FROM, 0)),
        "inference_mode": chance(rng, 0.05),
    }
    if kind == "surrogate":
        known_surrogate = random_surrogate(rng)
        call.owner = type(known_surrogate).__name__
        call.making = {f.name: getattr(known_surrogate, f.name) for f in dataclasses.fields(known_surrogate)}
    else:
        function_arguments(rng, call)
        if kind == "module":
            module_arguments(rng, call)
        elif kind != "function":
            raw_arguments(rng, call)
    if chance(rng, MUTATED) and mutate:
        break_one_thing(rng, call)
        if chance(rng, 0.1):
            with contextlib.suppress(RuntimeError):  # what is broken already cannot always be broken further
                break_one_thing(rng, call)
    return call

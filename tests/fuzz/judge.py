"""Runs a call and says whether its outcome is right: the reference's result, or an error that names the argument."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from cases import outputs
from torch import Tensor, nn

import torch_lif
from torch_lif import _C, _call

from .calls import STREAM_FROM, Call, build, named_tensors, present
from .compare import (
    FaultError,
    Gradients,
    backward_weights,
    comparable_gradients,
    compare,
    compare_gradients,
    doubled,
    gradient_bound,
    gradients_of,
)
from .layer import loop_in_double, run_module, wrong_leak
from .values import changed, double_of, laid_out, plain, readable

REFUSALS = (TypeError, ValueError, NotImplementedError, IndexError)
INTERNAL = re.compile(
    r"INTERNAL ASSERT|not iterable|has no attribute|Could not run|unhashable|not subscriptable|unsupported "
    r"operand|has no len|"
    r"ambiguous|incompatible function arguments|not supported between|NoneType' object"
)
CUDA_BROKEN = re.compile(r"CUDA error|CUBLAS_STATUS|device-side assert", re.IGNORECASE)


class DeviceLostError(Exception):
    """A CUDA error that stays: the process cannot go on."""


@contextlib.contextmanager
def settings(call: Call) -> Iterator[None]:
    """Sets the call's instruction set, streaming and threads; afterwards those of the process again."""
    before = _C.instruction_set(), torch.get_num_threads()
    _C.set_instruction_set(call.settings["instruction_set"])
    _C.set_stream_from(call.settings["stream_from"])
    if before[1] != call.settings["threads"]:
        torch.set_num_threads(call.settings["threads"])
    try:
        yield
    finally:
        _C.set_instruction_set(before[0])
        _C.set_stream_from(STREAM_FROM)
        if before[1] != call.settings["threads"]:
            torch.set_num_threads(before[1])


def judge(seed: int, number: int) -> str:
    """The outcome of a call: "compared" (equal to the reference), "refused" (with a proper error), or "ran" (it was
    broken in such a way that nothing else can be checked). FaultError if it is none of these."""
    call = build(seed, number)
    torch.manual_seed(number)
    with settings(call):
        try:
            with torch.inference_mode() if call.settings["inference_mode"] else contextlib.nullcontext():
                got = run(call)
        except Exception as error:
            return refused(call, error)
        return accepted(call, got)


def accepted(call: Call, got: Any) -> str:
    """Checks first that the call has left its arguments alone, then that its result is right."""
    if call.kind == "surrogate":
        return surrogate_is_valid(call)
    if got is None and call.kind == "shortcut":
        return "refused" if call.broken else declined(call)
    given = [
        *named_tensors(call.arguments),
        *((name, t) for name, value in call.raw.items() for t in _tensors_in(value)),
    ]
    for name, value in given:
        if value.layout is torch.strided and not (
            value.is_meta or value.is_quantized or value.is_nested or readable(value)
        ):
            raise FaultError(f"accepted, but {name} lies beyond its storage")
    pristine = build(call.seed, call.number)
    for name, value in {**call.arguments, **call.raw}.items():
        if changed({**pristine.arguments, **pristine.raw}.get(name), value):
            raise FaultError(f"the call changed its argument {name}")
    judges = {"function": of_function, "module": of_module, "backward": of_backward}
    return judges.get(call.kind, of_op)(call, pristine, got)


def _tensors_in(value: Any) -> list[Tensor]:
    return [t for t in value if isinstance(t, Tensor)] if isinstance(value, (list, tuple)) else []


def run(call: Call) -> Any:
    if call.kind == "function":
        return call.case.fused(**call.arguments)
    if call.kind == "surrogate":
        return getattr(torch_lif, call.owner)(**call.making)
    if call.kind == "module":
        return run_module(call)
    if call.kind == "shortcut":
        return _C.call(*call.raw.values())
    suffix = {"op": ""}.get(call.kind, f"_{call.kind}")
    return getattr(torch.ops.torch_lif, call.case.name + suffix)(**call.raw)


def refused(call: Call, error: Exception) -> str:
    """Checks that an error is one that the call deserves."""
    text = f"{type(error).__name__}: {error}"
    if CUDA_BROKEN.search(text):
        raise DeviceLostError(text) from error
    if not call.broken:
        raise FaultError(f"a valid call was refused: {text[:300]}") from error
    if call.raw and re.fullmatch(r"NotImplementedError: torch_lif\.\w+\.default", text):
        return "refused"  # by a subclass of Tensor (a jagged one), which PyTorch asks before the op
    schema = call.raw and isinstance(error, (RuntimeError, TypeError)) and re.search(r"argument '(\w+)'", text)
    if schema and schema[1] in call.names:
        return "refused"
    for_pytorch = any(what.startswith(("device: ", "dtype: ")) for what in call.broken)
    if (
        for_pytorch
        and isinstance(error, (RuntimeError, TypeError))
        and re.search("device|dtype|overflow", text, re.IGNORECASE)
    ):
        return "refused"
    if not isinstance(error, REFUSALS):
        raise FaultError(f"an error of the wrong kind: {text[:300]}") from error
    if INTERNAL.search(text):
        raise FaultError(f"an internal error: {text[:300]}") from error
    if not any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in call.names):
        raise FaultError(f"an error that does not name the argument: {text[:300]}") from error
    return "refused"


def surrogate_is_valid(call: Call) -> str:
    made = getattr(torch_lif, call.owner)(**call.making)
    v, theta = torch.linspace(-1, 2, 7, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    if not bool(made.derivative(v, theta).isfinite().all()) and not call.broken:
        raise FaultError("a surrogate's derivative is not finite")
    return "compared"


def reference_of(call: Call, pristine: Call, record: Any = None, double: bool = False) -> tuple[Any, dict[str, Tensor]]:
    """The reference's result for plain copies of the arguments, and, by name, the copies that require a gradient."""
    arguments = {name: plain(value) for name, value in pristine.arguments.items()}
    if call.raw and arguments.get("leaky") is False:
        arguments["leak"] = None  # the op does not read it, and the function refuses it
    if double:
        arguments = {name: double_of(value) for name, value in arguments.items()}
    if record is not None:
        arguments["record"] = record
    found = {}
    for name, value in named_tensors(arguments):
        if name in call.needs and value.dtype.is_floating_point:
            found[name] = value.requires_grad_()
    try:
        return call.case.reference(**arguments), found
    except Exception as error:
        raise FaultError(
            f"accepted, but the reference cannot compute it: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def of_function(call: Call, pristine: Call, got: Any) -> str:
    expected, leaves = reference_of(call, pristine)
    results, wanted = outputs(got), outputs(expected)
    compare(call, results, {name: value.detach() for name, value in wanted.items()})
    if call.settings["inference_mode"]:
        return "compared"
    own = dict(named_tensors(call.arguments))
    found = {name: own[name] for name in leaves if own[name].requires_grad}
    leaves = {name: leaves[name] for name in found}
    weights = backward_weights(call, results)
    if weights and found:
        rng = call.rng("layouts")
        dressed = {name: laid_out(w, rng, ("inference",)) if rng.random() < 0.4 else w for name, w in weights.items()}
        grads = caught(call, lambda: gradients_of(results, dressed, found))
        bound = gradient_bound(call, own["x"].dtype)
        if bound and comparable_gradients(call):
            weights = {name: plain(w) for name, w in dressed.items()}

            def exact() -> Gradients:
                double, found = reference_of(call, pristine, double=True)
                return gradients_of(outputs(double), doubled(weights), found)

            compare_gradients(call, grads, gradients_of(wanted, weights, leaves), bound, exact)
    if not call.broken and not call.extreme and own["x"].dtype == torch.float32:
        near_float64(call, pristine, wanted)
    return "compared"


def caught(call: Call, function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        if CUDA_BROKEN.search(str(error)):
            raise DeviceLostError(str(error)) from error
        raise FaultError(
            f"the backward of an accepted call failed: {type(error).__name__}: {str(error)[:300]}"
        ) from error


def near_float64(call: Call, pristine: Call, single: dict[str, Tensor]) -> None:
    """Compares with the float64 loop. If every spike is the same, everything else must be the same up to rounding. A
    step has fewer than 16 operations, each with an error of 2^-24 of the largest value. Leaks and resets do not amplify
    errors, but a division by the threshold may: hence 256."""
    double = outputs(reference_of(call, pristine, double=True)[0])
    if call.smooth or (call.case.spiking and not torch.equal(single["out"].double(), double["out"])):
        return
    steps = max(1, single["out"].shape[1 if call.arguments["batch_first"] else 0])
    for name, value in double.items():
        if value.numel():
            scale = max(1.0, float(value.detach().abs().max()))
            error = float((single[name].detach().double() - value.detach()).abs().max()) / scale
            if "refractory" not in name and not error <= 256 * steps * 2.0**-24:
                raise FaultError(f"{name} is {error:.1e} away from the float64 loop")


def of_module(call: Call, pristine: Call, got: Any) -> str:
    """Compares a module with the same layer with backend="loop"."""
    layer, result = got
    if wrong := wrong_leak(call, layer):
        raise FaultError(wrong)
    pristine.arguments = {name: plain(value) for name, value in pristine.arguments.items()}
    for name, value in named_tensors(pristine.arguments):
        value.requires_grad_(name in call.needs and value.dtype.is_floating_point)
    torch.manual_seed(call.number)
    try:
        twin, wanted = run_module(pristine, "loop")
    except Exception as error:
        raise FaultError(
            f"accepted, but the loop cannot compute it: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    named = (lambda r: {"out": r}) if isinstance(result, Tensor) else outputs
    results, expected = named(result), named(wanted)
    compare(call, results, {name: value.detach() for name, value in expected.items()})
    own, theirs = dict(named_tensors(call.arguments)), dict(named_tensors(pristine.arguments))
    found = {name: own[name] for name in call.needs if name in own and own[name].requires_grad}
    leaves = {name: theirs[name] for name in found}
    found |= {name: p for name, p in layer.named_parameters() if p.requires_grad}
    leaves |= {name: p for name, p in twin.named_parameters() if p.requires_grad}
    weights = backward_weights(call, results)
    if call.settings["inference_mode"] or not (weights and found):
        return "compared"
    grads = caught(call, lambda: gradients_of(results, weights, found))
    bound = gradient_bound(call, own["x"].dtype)
    if bound and comparable_gradients(call):

        def exact() -> Gradients:
            double, result, found = loop_in_double(call)
            found |= {name: p for name, p in double.named_parameters() if p.requires_grad}
            return gradients_of(named(result), doubled(weights), found)

        compare_gradients(call, grads, gradients_of(expected, weights, leaves), bound, exact)
    return "compared"


def flags_to_names(call: Call) -> list[str]:
    states = _call.ORDERS[call.case.name].states
    return [name for name, flag in zip(states, call.raw["record"], strict=True) if flag]


def of_op(call: Call, pristine: Call, got: Any) -> str:
    """Compares the public op, its shortcut or the forward op: outputs, last states, records, and what the forward op
    keeps."""
    if call.opaque:
        return tolerated(call)
    states, flagged = present(call), flags_to_names(call)
    every = [name for name in states if name != "spikes"]
    expected, _ = reference_of(call, pristine, record=[*every, *(("spikes",) if call.case.spiking else ())])
    final = expected.state._asdict()
    wanted = {
        "out": expected[0],
        **{f"last {n}": final[n] for n in states},
        **{f"record {n}": expected.records[n] for n in flagged},
    }
    wanted = {name: value.detach() for name, value in wanted.items()}
    compare(call, dict(zip(wanted, got, strict=False)), wanted)
    kept = got[len(wanted) :]
    steps = {"recompute": 16, "save": 1}.get(call.raw["memory"] if call.kind == "forward" else "")
    if steps and not call.extreme and not call.smooth:
        kept_states(call, pristine, expected, states, steps, kept)
    elif call.kind != "forward" and kept:
        raise FaultError(f"{len(kept)} more results than there are outputs, states and records")
    return "compared"


def declined(call: Call) -> str:
    """Checks that a valid call that the shortcut leaves to torch.ops holds a subclass of Tensor."""
    tensors = [t for key in ("inputs", "params", "state") for t in call.raw[key] if t is not None]
    if all(type(t) in (Tensor, nn.Parameter) for t in tensors):
        raise FaultError("the shortcut declined a call of plain tensors")
    return "refused"


def kept_states(call: Call, pristine: Call, expected: Any, states: list[str], steps: int, kept: Any) -> None:
    """Checks that the states before every `steps`-th step were kept."""
    if pristine.arguments["x"].dtype in _call.HALF:
        return  # records are rounded to half, kept states are not
    time = 1 if pristine.arguments["batch_first"] else 0
    first = dict(zip(_call.ORDERS[call.case.name].states, pristine.raw["state"], strict=True))
    for name, got in zip(states, kept, strict=False):
        trace = expected.records[name].detach().movedim(time, 0)
        start = torch.zeros_like(expected.state._asdict()[name]) if first[name] is None else plain(first[name])
        wanted = torch.cat([start.detach().unsqueeze(0), trace])[:-1:steps] if len(trace) else trace
        compare(call, {f"kept {name}": got.reshape(wanted.shape)}, {f"kept {name}": wanted})


TOLERATED = re.compile(
    r"(smooth|resumed|batch_first|memory|surrogate): (?!None)|(needs|options|surrogate_params): (entry|list)|"
    r"kept: entry .*: (NaN|negative|huge|expanded|random bits|reversed dimensions)"
)
"""Opaque changes that the op may accept: flags and numbers of other values, and kept states that hold other numbers."""


def tolerated(call: Call) -> str:
    for what in call.opaque:
        if not TOLERATED.match(what):
            raise FaultError(f"a broken call was accepted: {what}")
    return "ran"


def of_backward(call: Call, pristine: Call, got: Any) -> str:
    """Compares the backward op with autograd through the reference, for the same gradients of the outputs."""
    if call.opaque:
        return tolerated(call)
    order, raw = _call.ORDERS[call.case.name], pristine.raw
    states, flagged = present(pristine), flags_to_names(call)
    slots = [*order.inputs, *order.params, *(f"state {s}" for s in order.states)]
    asked = [slot for slot, need in zip(slots, raw["needs"], strict=True) if need]
    grads = dict(zip(asked, got, strict=True))
    place = {f"state {s}": f"state[{k}]" for k, s in enumerate(order.states)}
    arguments = pristine.arguments
    given = list(arguments.get("state") or [])
    given += [None] * (len(order.states) - len(given))
    call.needs = []
    for k, s in enumerate(order.states):
        if f"state {s}" in asked and given[k] is None and s != "spikes":
            like = raw["kept"][states.index(s)] if raw["memory"] != "mask" else None
            if like is not None:
                given[k] = torch.zeros(like.shape[1:], dtype=like.dtype, device=like.device)
    arguments["state"] = tuple(given)
    for slot in asked:
        name = place.get(slot, slot)
        if slot in arguments and not isinstance(arguments[slot], Tensor):
            arguments[slot] = raw["params"][order.params.index(slot)]
        call.needs.append(name)
    weights = {str(k): plain(g) for k, g in enumerate(raw["grads"]) if g is not None}

    def autograd(double: bool = False) -> Gradients:
        """Gradients of the reference. A gradient that does not fit its output is refused here, if not before."""
        expected, leaves = reference_of(call, pristine, record=flagged, double=double)
        final = expected.state._asdict()
        results = [expected[0], *(final[s] for s in states), *(expected.records[s] for s in flagged)]
        try:
            return gradients_of(
                {str(k): r for k, r in enumerate(results)}, doubled(weights) if double else weights, leaves
            )
        except RuntimeError as error:
            raise FaultError(f"accepted, but autograd cannot compute it: {str(error)[:200]}") from error

    wanted = autograd()
    bound = gradient_bound(call, call.arguments["x"].dtype)
    if bound and comparable_gradients(call):
        own = {place.get(slot, slot): value for slot, value in grads.items()}
        compare_gradients(
            call, own, {name: value for name, value in wanted.items() if name in own}, bound, lambda: autograd(True)
        )
    return "compared"

"""Compares results and gradients with the reference's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import same_bits
from torch import Tensor

from torch_lif import _call

from .calls import Call
from .values import plain


class FaultError(Exception):
    """What is wrong with a call's outcome."""


def resets_at_zero(call: Call, out: Tensor) -> bool:
    """Whether this is ALIF with a reset that asks whether a step had spikes at all, and some smooth spikes are so near
    to 0 that the kernel's erf and PyTorch's may round to different sides of it."""
    given = {**call.arguments, **call.making}
    asks = given.get("reset") == "value" or given.get("zero_adaptation")
    return bool(call.smooth and asks and (out.abs() < 1e-6).any())


def compare(call: Call, got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Results must have the same bits. With smooth=True exp is not PyTorch's: there, results may differ by what a dozen
    steps make of its last bits."""
    if list(got) != list(expected):
        raise FaultError(f"results {list(got)}, expected {list(expected)}")
    for name, value in expected.items():
        result = got[name].detach().as_subclass(Tensor)
        if result.shape != value.shape or result.dtype != value.dtype:
            raise FaultError(
                f"{name} is {result.dtype} {tuple(result.shape)}, expected {value.dtype} {tuple(value.shape)}"
            )
        if result.device != value.device:
            raise FaultError(f"{name} is on {result.device}, expected {value.device}")
        if result.is_meta or same_bits(result, value):
            continue
        if call.smooth:
            if resets_at_zero(call, expected["out"]):
                continue
            bound = 1e-9 if value.dtype == torch.float64 else 1e-3 if value.dtype == torch.float32 else 0.05
            if torch.allclose(result.double(), value.double(), rtol=bound, atol=bound, equal_nan=True):
                continue
        differ = ~((result == value) | (result.isnan() & value.isnan()))
        first = tuple(int(d) for d in differ.nonzero()[0])
        raise FaultError(
            f"{name}: {int(differ.sum())} of {differ.numel()} values differ from the reference, first at {first}: "
            f"{result[first].item()!r}, expected {value[first].item()!r}"
        )


Gradients = dict[str, Tensor]


def compare_gradients(
    call: Call, got: Gradients, expected: Gradients, bound: float, exact: Callable[[], Gradients]
) -> None:
    """Compares gradients. Errors are relative to the gradient's largest value, or to 1 if that is larger: gradients of
    the outputs are of that size, and may cancel in the sum. A parameter's gradient is a sum of many such terms, hence
    the factor 16. Half sequences are rounded once more, to their type. Some calls amplify every rounding. How much they
    do, the distance between the reference's own gradient and its `exact` one in float64 shows."""
    sequences = ("x", *call.case.inputs)
    for name, value in expected.items():
        if name == "refractory" or (name.startswith("state") and call.case.states[int(name[6:-1])] == "refractory"):
            continue
        result = plain(got[name])
        if result.shape != value.shape:
            raise FaultError(f"gradient of {name} has shape {tuple(result.shape)}, expected {tuple(value.shape)}")
        if not value.numel() or not bool(value.isfinite().all()):
            continue
        limit = bound if name in sequences or name.startswith("state") else 16 * bound
        limit += torch.finfo(value.dtype).eps if value.dtype in _call.HALF else 0
        scale = max(1.0, float(value.double().abs().max()))
        error = float((result.double() - value.double()).abs().max()) / scale
        if error > limit and value.dtype != torch.float64:
            limit += 4 * float((exact()[name] - value.double()).abs().max()) / scale
        if not error <= limit:
            raise FaultError(f"gradient of {name}: error {error:.1e}, bound {limit:.1e}")


def comparable_gradients(call: Call) -> bool:
    """Whether the call's gradients can be compared: only for finite numbers, and not with smooth=True, because there a
    surrogate's derivative with respect to the threshold need not be the true one."""
    return not (call.extreme or call.broken or call.smooth)


def gradient_bound(call: Call, dtype: torch.dtype) -> float | None:
    """The largest error allowed. In double, 1e-10 leaves room for a growth of errors by 10^5. In float both loops have
    the same spikes: at most 16 roundings of 2^-24 per step, which up to Case.steps steps do not amplify. Over more
    steps they do, and nothing is compared."""
    x = call.arguments["x"]
    steps = x.shape[1 if call.arguments.get("batch_first", call.making.get("batch_first", True)) else 0]
    if dtype == torch.float64:
        return 1e-10
    return 16 * max(1, steps) * 2.0**-24 if steps <= call.case.steps else None


def backward_weights(call: Call, results: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random gradients, as plain tensors, for some of the outputs that have a gradient."""
    rng = call.rng("backward")
    names = [name for name, value in results.items() if value.requires_grad and "refractory" not in name]
    chosen = [name for name in names if rng.random() < 0.7] or names[:1]
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    made = {}
    for name in chosen:
        weight = torch.randn(results[name].shape, generator=generator, dtype=torch.float64)
        made[name] = weight.to(results[name].dtype).to(results[name].device)
    return made


def doubled(gradients: Gradients) -> Gradients:
    return {name: g.double() for name, g in gradients.items()}


def gradients_of(results: dict[str, Tensor], weights: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [name for name in weights if name in results and results[name].requires_grad]
    if not names or not found:
        return {name: torch.zeros_like(value) for name, value in found.items()}
    grads = torch.autograd.grad(
        [results[n] for n in names],
        list(found.values()),
        [weights[n] for n in names],
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(found, grads, strict=True))

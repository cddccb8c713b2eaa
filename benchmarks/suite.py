"""Builds each case, checks it and times it."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from torch_lif.surrogate import Surrogate

from .cases import BASELINE, PASSES, Case, Implementation, Problem, Shape, build, forward, forward_backward
from .measure import Meter
from .report import Row

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far x's gradient may be off, relative to the largest there is; other orders of summation differ by far less."""


class Options(NamedTuple):
    """What holds for all cases of a run."""

    dtype: torch.dtype
    trainable: bool
    surrogate: Surrogate


class Verdict(NamedTuple):
    """check: what was compared and came out right. error: what went wrong."""

    check: str
    error: str = ""


def text(error: BaseException) -> str:
    """An error as one line; the error itself would keep its frames' tensors alive."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def compare(output: Tensor, grad: Tensor, expected: Tensor, expected_grad: Tensor) -> Verdict:
    """Outputs have to be equal; gradients may differ in rounding."""
    if output.shape != expected.shape or output.dtype != expected.dtype:
        return Verdict("", f"output is {output.dtype} {tuple(output.shape)}, {BASELINE}'s {expected.dtype} {tuple(expected.shape)}")
    if not torch.equal(output, expected):
        return Verdict("", f"output differs from {BASELINE}'s in {int((output != expected).sum())} of {expected.numel()} places")
    scale = float(expected_grad.abs().max()) or 1.0
    off = float((grad.double() - expected_grad.double()).abs().max()) / scale
    if not off <= TOLERANCE[expected.dtype]:
        return Verdict("", f"gradient of x differs from {BASELINE}'s by {off:.2g} of its largest")
    return Verdict(f"output equal to {BASELINE}'s, gradient of x within {off:.1g} of its largest")


def check(implementations: Mapping[str, Implementation], problem: Problem) -> dict[str, Verdict]:
    """Runs every implementation once, before any is timed."""
    verdicts: dict[str, Verdict] = {}
    expected: tuple[Tensor, Tensor] | None = None
    for name in sorted(implementations, key=lambda name: name != BASELINE):
        try:
            found = forward(implementations[name], problem), forward_backward(implementations[name], problem)[0]
            if name == BASELINE:
                expected, verdicts[name] = found, Verdict("is what others are held to")
            else:
                verdicts[name] = compare(*found, *expected) if expected else Verdict(f"not checked: {BASELINE} did not run")
        except Exception as error:
            verdicts[name] = Verdict("", text(error))
    return verdicts


def spike_rate(implementations: Mapping[str, Implementation], verdicts: Mapping[str, Verdict], problem: Problem) -> float | None:
    """Spikes a neuron and step, by the first implementation that works."""
    working = [implementation for name, implementation in implementations.items() if not verdicts[name].error]
    return float(forward(working[0], problem).float().mean()) if working and problem.case.spiking else None


def measure_shape(
    case: Case, shape: Shape, options: Options, implementations: Mapping[str, Implementation], meter: Meter
) -> Iterator[Row]:
    """A row for each pass and implementation; a failure is a row too."""
    problem, rate = None, None
    try:
        problem = build(case, shape, options.dtype, meter.device, options.trainable, options.surrogate)
        verdicts = check(implementations, problem)
        rate = spike_rate(implementations, verdicts, problem)
    except Exception as error:
        verdicts = dict.fromkeys(implementations, Verdict("", text(error)))
    for pass_name, run in PASSES.items():
        for name, implementation in implementations.items():
            row = Row(
                case=case.name,
                implementation=name,
                pass_name=pass_name,
                shape=tuple(shape),
                dtype=str(options.dtype).removeprefix("torch."),
                formula=case.formulas[pass_name],
                bytes_moved=case.bytes_moved(pass_name, shape, options.dtype, meter.device),
                spike_rate=rate,
                check=verdicts[name].check,
                error=verdicts[name].error,
            )
            if problem is not None and not row.error:
                try:
                    row.add(meter.measure(functools.partial(run, implementation, problem)))
                except Exception as error:
                    row.error = text(error)
            yield row


def measure_all(
    cases: Iterable[Case], shapes: Iterable[Shape], options: Options, implementations: Mapping[str, Implementation], meter: Meter
) -> Iterator[Row]:
    shapes = list(shapes)
    for case in cases:
        for shape in shapes:
            yield from measure_shape(case, shape, options, implementations, meter)
            gc.collect()
            if meter.device == "cuda":
                torch.cuda.empty_cache()

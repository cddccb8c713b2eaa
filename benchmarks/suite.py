"""Builds each case, checks it and times it."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_lif.surrogate import Surrogate

from .cases import MODE_OF_OTHERS, PASSES, Case, Problem, Shape, build, forward, forward_backward
from .contenders import BASELINE, Contender, mode_in_use, variants
from .measure import Meter
from .report import Row

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far x's gradient may be off, relative to the largest there is; other orders of summation differ by far less."""
FLIPPED = 1e-3
"""Share of the places in which another library's spikes may differ from its equations: where its kernels round
otherwise (fused multiply-adds, a reciprocal), a membrane next to the threshold spikes a step sooner or later."""


class Options(NamedTuple):
    """What holds for all cases of a run. surrogate: None: each case's own. loop_limit: the most neuron-steps for
    which loops over time in Python are timed; beyond them the plain loop checks the others, once, and that is all."""

    dtype: torch.dtype
    surrogate: Surrogate | None = None
    loop_limit: float = math.inf

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


class Verdict(NamedTuple):
    """check: what was compared and came out right. error: what went wrong."""

    check: str
    error: str = ""


def text(error: BaseException) -> str:
    """An error as one line; the error itself would keep its frames' tensors alive."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def same_gradient(grad: Tensor, expected: Tensor, name: str = "x") -> Verdict:
    scale = float(expected.abs().max()) or 1.0
    off = float((grad.double() - expected.double()).abs().max()) / scale
    if not off <= TOLERANCE[expected.dtype]:
        return Verdict("", f"gradient of {name} differs from {BASELINE}'s by {off:.2g} of its largest")
    return Verdict(f"gradient of {name} within {off:.1g} of its largest")


class Found(NamedTuple):
    """What a call makes of a problem. gradients: by the names of its leaves."""

    output: Tensor
    gradients: dict[str, Tensor]


def results(contender: Contender, problem: Problem) -> Found:
    found = forward_backward(contender.call, problem)
    return Found(forward(contender.call, problem), dict(zip(problem.case.gradient_names(), found, strict=True)))


def compare(found: Found, held_to: Found) -> Verdict:
    """Outputs have to be equal; gradients may differ in rounding."""
    output, expected = found.output, held_to.output
    if output.shape != expected.shape or output.dtype != expected.dtype:
        return Verdict(
            "", f"output is {output.dtype} {tuple(output.shape)}, {BASELINE}'s {expected.dtype} {tuple(expected.shape)}"
        )
    if not torch.equal(output, expected):
        return Verdict(
            "", f"output differs from {BASELINE}'s in {int((output != expected).sum())} of {expected.numel()} places"
        )
    verdicts = [same_gradient(grad, held_to.gradients[name], name) for name, grad in found.gradients.items()]
    wrong = [verdict for verdict in verdicts if verdict.error]
    return (
        wrong[0]
        if wrong
        else Verdict(", ".join([f"output equal to {BASELINE}'s", *(verdict.check for verdict in verdicts)]))
    )


def check_by_own_equations(contender: Contender, problem: Problem) -> Verdict:
    """Another library's spikes against a loop of that library's equations; its gradients exist and are finite."""
    assert contender.expected is not None
    output, expected = forward(contender.call, problem), contender.expected(problem)
    if output.shape != expected.shape:
        return Verdict("", f"output is {tuple(output.shape)}, by its own equations {tuple(expected.shape)}")
    differ = int((output != expected).sum())
    if differ > FLIPPED * expected.numel():
        return Verdict("", f"spikes differ from its own equations' in {differ} of {expected.numel()} places")
    rate = float(expected.float().mean())
    if not 0.01 < rate < 0.9:
        return Verdict("", f"{rate:.2g} spikes per step: no work that others could be compared with")
    if not all(bool(g.isfinite().all()) for g in forward_backward(contender.call, problem)):
        return Verdict("", "gradients are not finite")
    return Verdict(
        f"spikes differ from its own equations' in {differ} of {expected.numel()} places; {rate:.2g} spikes per step"
    )


def check(contenders: Sequence[Contender], problem: Problem) -> dict[str, Verdict]:
    """Runs every contender once, before any is timed."""
    verdicts: dict[str, Verdict] = {}
    expected: Found | None = None
    for contender in sorted(contenders, key=lambda contender: contender.name != BASELINE):
        try:
            if contender.expected is not None:
                verdicts[contender.name] = check_by_own_equations(contender, prepared(contender, problem))
                continue
            found = results(contender, problem)
            if contender.name == BASELINE:
                expected, verdicts[BASELINE] = found, Verdict("is what others are held to")
            else:
                verdicts[contender.name] = (
                    compare(found, expected) if expected else Verdict(f"not checked: {BASELINE} did not run")
                )
        except Exception as failure:
            verdicts[contender.name] = Verdict("", text(failure))
    return verdicts


def prepared(contender: Contender, problem: Problem) -> Problem:
    return contender.prepare(problem) if contender.prepare else problem


def spike_rate(contenders: Sequence[Contender], verdicts: dict[str, Verdict], problem: Problem) -> float | None:
    """Spikes a neuron and step, by the first contender that works on the case's own equations."""
    working = [c for c in contenders if not verdicts[c.name].error and c.expected is None]
    return float(forward(working[0].call, problem).float().mean()) if working and problem.case.spiking else None


def measure_row(row: Row, contender: Contender, problem: Problem, meter: Meter) -> None:
    """Fills in what a contender's pass takes."""
    own = prepared(contender, problem)
    call = functools.partial(PASSES[row.pass_name], contender.call, own)
    if not contender.graph:
        row.add(meter.measure(call, own.nbytes))
        return
    replay, results = meter.replay(call)
    replay()
    first, again = (r[0] if isinstance(r, tuple) else r for r in (call(), results))
    assert isinstance(first, Tensor)
    assert isinstance(again, Tensor)
    verdict = same_gradient(again, first)
    if verdict.error:
        raise RuntimeError("the graph's replay gives other results than the call")
    del first
    row.add(meter.measure(replay, replayed=True))


def floors(problem: Problem, meter: Meter) -> dict[str, float | None]:
    """For each pass, what PyTorch takes for x * 2 when it is called in a row."""
    trivial = dataclasses.replace(problem, leaves=[problem.x], grad_out=problem.x.detach())

    def double(problem: Problem) -> Tensor:
        return problem.x * 2

    return {name: meter.in_a_row(functools.partial(run, double, trivial)) for name, run in PASSES.items()}


def taking_part(
    contenders: Iterable[Contender], case: Case, shape: Shape, options: Options, device: str
) -> list[Contender]:
    """Who is timed."""
    found: list[Contender] = []
    for contender in contenders:
        small = contender.fused or math.prod(shape) <= options.loop_limit
        if small and contender.takes_part(case, device, options.dtype_name):
            found += variants(contender, case, device, options.surrogate)
    return found


def passes_of(contender: Contender, case: Case) -> list[str]:
    return [name for name in case.passes if contender.passes is None or name in contender.passes]


def measure_shape(
    case: Case, shape: Shape, options: Options, contenders: Iterable[Contender], meter: Meter, axis: str = ""
) -> Iterator[Row]:
    """A row for each contender and pass; a failure is a row too."""
    problem, rate, dtype = None, None, options.dtype_name
    floor: dict[str, float | None] = {}
    contenders = list(contenders)
    chosen = taking_part(contenders, case, shape, options, meter.device)
    checking = [contender for contender in contenders if contender.name == BASELINE and contender not in chosen]
    try:
        problem = build(case, shape, options.dtype, meter.device, options.surrogate)
        verdicts = check([*checking, *chosen], problem)
        rate = spike_rate(chosen, verdicts, problem)
        floor = floors(problem, meter)
    except Exception as failure:
        verdicts = {contender.name: Verdict("", text(failure)) for contender in chosen}
    for contender in chosen:
        mode, error = "", verdicts[contender.name].error
        if problem is not None and contender.ours and not error:
            try:
                mode = mode_in_use(contender.call, problem, shape)
                if contender.mode not in (None, mode):
                    error = f"memory={contender.mode!r} was asked for, but {mode} is what the call does"
            except Exception as failure:
                error = text(failure)
        for pass_name in passes_of(contender, case):
            of_pass = "" if pass_name == "forward" else mode
            row = Row(
                case=case.name,
                implementation=contender.name,
                pass_name=pass_name,
                shape=tuple(shape),
                dtype=dtype,
                formula=case.formula(pass_name, of_pass or MODE_OF_OTHERS),
                bytes_moved=case.bytes_moved(pass_name, shape, options.dtype, meter.device, of_pass or MODE_OF_OTHERS),
                mode=of_pass,
                surrogate=str((case.spiking and (options.surrogate or case.surrogate)) or ""),
                axis=axis,
                remark=contender.remark,
                spike_rate=rate,
                check=verdicts[contender.name].check,
                error=error,
                floor=floor.get(pass_name),
            )
            if problem is not None and not row.error:
                try:
                    measure_row(row, contender, problem, meter)
                except Exception as failure:
                    row.error = text(failure)
            yield row
        if contender.graph:
            tidy(meter.device)  # a graph's memory is its own, and nobody else can use it until it is gone


def tidy(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def measure_all(
    cases: Iterable[Case],
    shapes: Iterable[tuple[str, Shape]],
    options: Options,
    contenders: Sequence[Contender],
    meter: Meter,
) -> Iterator[Row]:
    """shapes: each with the axis of the sweep that it belongs to."""
    shapes = list(shapes)
    for case in cases:
        for axis, shape in shapes:
            yield from measure_shape(case, shape, options, contenders, meter, axis)
            tidy(meter.device)


def count(
    cases: Iterable[Case], shapes: Sequence[Shape], options: Options, contenders: Sequence[Contender], device: str
) -> int:
    """How many rows measure_all will yield."""
    return sum(
        len(passes_of(one, case))
        for case in cases
        for shape in shapes
        for one in taking_part(contenders, case, shape, options, device)
    )

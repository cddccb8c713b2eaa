"""The subcommand `recurrent`: one LIF layer with a synapse and recurrent weights, beside the plain loop and PyTorch's
own recurrent layers.

RIVALS lists who is measured. What torch_lif takes may depend on how many neurons spike, so the input is scaled to that.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

import torch_lif as lif
from torch_lif.surrogate import Surrogate

from .calls import PASS, TINY, Ready, first_error
from .cases import Shape
from .contenders import BASELINE, GRAPH, OURS, RNN, TF32
from .layer import LOOP_LIMIT, SURROGATES, add_timing_options, parse_shapes, parse_size
from .measure import Budget, Call, Deadline, Meter
from .report import Report, Row
from .suite import Verdict, compare, same_gradient, text, tidy

SHAPES = {
    "cpu": "50x128x256,100x64x128,50x32x512,100x16x768",
    "cuda": "250x128x256,1000x64x128,100x128x512,100x256x1024,1000x16x768,500x16x512",
}
QUICK_SHAPES = {"cpu": "50x4x128", "cuda": "100x16x256"}
RATES = (1.0, 5.0, 20.0)
"""Percent of the neuron-steps with a spike."""
CHOSEN = ("step_pwl", "triangle", "super_spike")
FULL = {"cpu": Budget(20, 0.2, 1.0), "cuda": Budget(20, 0.02, 1.0)}
"""So that all rows, 64 on a CPU and 240 on a GPU, take some minutes."""

PARAMETERS = {"decay_mem": (0.93, 0.96), "decay_syn": (0.75, 0.85)}
"""Of the first and of the last neuron, spaced evenly between. The threshold is 1."""
GAIN = 0.2
"""Standard deviation of w_rec, times sqrt(N). At 0.3 activity feeds itself: the rate jumps from 0 to some percent as
the input grows, and gradients grow without bound over 1000 steps."""
GRID = 2.0**-16
"""w_rec is a multiple of it. A sum of such weights is exact in float32, in whatever order: spikes do not depend on how
a product is computed, and can be compared place by place."""
CHECK_RATE = 20.0
NEAR, NEAR_ENOUGH = 0.02, 0.1
"""How far from the rate asked for, relative to it, a bisection ends at once, and how far its end may be."""
ROUNDS = 40


# --- The input ---


class Given(NamedTuple):
    """What a layer is given. x: (T, B, N), scaled to the rate. rate: the share of neuron-steps with a spike that was
    found."""

    shape: Shape
    x: Tensor
    w_rec: Tensor
    grad: Tensor
    rate: float


def find_scale(rate_of: Callable[[float], float], rate: float) -> tuple[float, float]:
    """The scale for which rate_of(scale) is about `rate`, and what it is there. It has to grow with the scale, from
    0."""
    low, high, best = 0.0, 1.0, (0.0, 0.0)
    found = rate_of(high)
    while found < rate and high < 2.0**20:
        low, high = high, 2 * high
        found = rate_of(high)
    for _ in range(ROUNDS):
        scale = (low + high) / 2
        found = rate_of(scale)
        if abs(found - rate) < abs(best[1] - rate):
            best = (scale, found)
        if abs(found - rate) <= NEAR * rate:
            return best
        low, high = (scale, high) if found < rate else (low, scale)
    if abs(best[1] - rate) > NEAR_ENOUGH * rate:
        raise RuntimeError(f"no input makes {rate:.3%} of the neuron-steps spike: the nearest found is {best[1]:.3%}")
    return best


def arguments(neurons: int, device: str) -> dict[str, Any]:
    return {name: torch.linspace(*ends, neurons, device=device) for name, ends in PARAMETERS.items()}


def given(shape: Shape, percent: float, device: str) -> Given:
    generator = torch.Generator(device).manual_seed(1)
    size = (shape.steps, shape.batch, shape.neurons)
    x, grad = (torch.rand(size, generator=generator, device=device) for _ in range(2))
    weights = torch.randn(shape.neurons, shape.neurons, generator=generator, device=device)
    w_rec = weights.mul_(GAIN / math.sqrt(shape.neurons) / GRID).round_().mul_(GRID)
    own = arguments(shape.neurons, device)

    @torch.no_grad()
    def rate_of(scale: float) -> float:
        return float(lif.functional.lif(x * scale, **own, w_rec=w_rec, batch_first=False).spikes.mean())

    scale, rate = find_scale(rate_of, percent / 100)
    return Given(shape, x.mul_(scale), w_rec, grad, rate)


# --- Who is measured ---


def layer_call(problem: Given, surrogate: Surrogate, training: bool, backend: str = "fused") -> Ready:
    """torch_lif's layer, or its plain loop."""
    x, w_rec = (t.clone().requires_grad_() for t in (problem.x, problem.w_rec))
    own = arguments(problem.shape.neurons, str(x.device))

    def forward() -> list[Tensor]:
        found = lif.functional.lif(x, **own, w_rec=w_rec, surrogate=surrogate, batch_first=False, backend=backend)
        return [found.spikes]

    return Ready(forward, [problem.grad], {"x": x, "w_rec": w_rec}, list(own.values()))


def torch_call(kind: Callable[[int, int], nn.RNNBase], problem: Given, surrogate: Surrogate, training: bool) -> Ready:
    """A recurrent layer of PyTorch, in the mode in which its users would call it."""
    torch.manual_seed(1)
    layer = kind(problem.shape.neurons, problem.shape.neurons).to(problem.x.device).train(training)
    x = problem.x.clone().requires_grad_()
    return Ready(lambda: [layer(x)[0]], [problem.grad], {"x": x, **dict(layer.named_parameters())}, [])


@dataclasses.dataclass(frozen=True)
class Rival:
    """Who is measured.

    case: in reports; what is of one case does the same work. make: its call. devices: where it takes part. remark: what
    is not the same work as torch_lif's. tf32: whether its matrix products may be in tf32. spiking: whether it is a LIF
    layer, which has a surrogate and is checked. by_rate: whether it is measured at each rate and with each surrogate,
    because what it takes depends on them.
    """

    case: str
    make: Callable[[Given, Surrogate, bool], Ready]
    devices: Sequence[str] = ("cpu", "cuda")
    remark: str = ""
    tf32: bool = False
    spiking: bool = False
    by_rate: bool = False


torch_rnn = functools.partial(torch_call, functools.partial(nn.RNN, nonlinearity="relu"))
WITH_INPUT = (
    "another network of the same T, B and N, whose time includes the product of its input, of size N, with W_ih, and "
    "whose backward finds the gradients of x and of all weights and biases"
)
RIVALS = {
    OURS: Rival("lif+w_rec", layer_call, spiking=True, by_rate=True),
    BASELINE: Rival("lif+w_rec", functools.partial(layer_call, backend="loop"), spiking=True),
    RNN: Rival("relu-rnn", torch_rnn, ("cpu",), WITH_INPUT),
    RNN + TF32: Rival("relu-rnn", torch_rnn, ("cuda",), WITH_INPUT, tf32=True),
    f"{RNN} float32": Rival("relu-rnn", torch_rnn, ("cuda",), WITH_INPUT),
    "nn.LSTM" + TF32: Rival("lstm", functools.partial(torch_call, nn.LSTM), ("cuda",), WITH_INPUT, tf32=True),
}


@contextlib.contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """Allows tf32 in matrix products, or forbids it; afterwards all is as before."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = tf32
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


# --- Measuring ---


class Part(NamedTuple):
    """What makes one row, and on a GPU a second one of its replay. percent: the rate asked for."""

    shape: Shape
    percent: float
    name: str
    surrogate: Surrogate
    pass_name: str


def middle(rates: Sequence[float]) -> float:
    return sorted(rates)[len(rates) // 2]


def plan(
    names: Sequence[str], shapes: Sequence[Shape], rates: Sequence[float], surrogates: Sequence[Surrogate], limit: int
) -> list[Part]:
    """In order. The forward does not depend on the surrogate. limit: neuron-steps up to which the loop is timed."""
    parts = []
    for shape, percent, name in itertools.product(shapes, rates, names):
        by_rate = RIVALS[name].by_rate
        if (not by_rate and percent != middle(rates)) or (name == BASELINE and math.prod(shape) > limit):
            continue
        parts.append(Part(shape, percent, name, surrogates[0], "forward"))
        parts += [Part(shape, percent, name, s, PASS) for s in (surrogates if by_rate else surrogates[:1])]
    return parts


def check(name: str, surrogate: Surrogate, device: str) -> Verdict:
    """The layer at a tiny shape, held to the plain loop."""
    rival = RIVALS[name]
    if not rival.spiking:
        return Verdict("not compared: another network")
    if name == BASELINE:
        return Verdict("is what others are held to")
    try:
        problem = given(TINY, CHECK_RATE, device)
        found, held_to = (one.make(problem, surrogate, True).found() for one in (rival, RIVALS[BASELINE]))
        return compare(found, held_to)
    except Exception as failure:
        return Verdict("", text(failure))


def row_of(part: Part, rate: float | None, verdict: Verdict) -> Row:
    rival = RIVALS[part.name]
    return Row(
        case=rival.case,
        implementation=part.name,
        pass_name=part.pass_name,
        shape=tuple(part.shape),
        dtype="float32",
        formula="",
        bytes_moved=0,
        surrogate=str(part.surrogate) if rival.spiking and part.pass_name == PASS else "",
        remark=rival.remark,
        spike_rate=rate if rival.spiking else None,
        rate_asked=part.percent / 100 if rival.by_rate else None,
        check=verdict.check,
        error=verdict.error,
    )


def measure(part: Part, problem: Given, meter: Meter, verdict: Verdict) -> list[Row]:
    """A row of calls from Python; on a GPU also one of replays, if a CUDA graph can hold the call. A failure is a row
    too."""
    rival, row = RIVALS[part.name], row_of(part, problem.rate, verdict)
    rows = [row]
    try:
        if not row.error:
            one = rival.make(problem, part.surrogate, part.pass_name == PASS)
            call: Call = one.train if part.pass_name == PASS else torch.no_grad()(one.forward)
            with precision(rival.tf32):
                row.add(meter.measure(call, one.nbytes))
                if meter.device == "cuda":
                    rows += replayed(row, call, meter)
    except Exception as failure:
        rows[-1].error = text(failure)
    return rows


def replayed(row: Row, call: Call, meter: Meter) -> list[Row]:
    """The row of the call's replays; [] if no graph can hold it, and the row then says why."""
    try:
        replay, results = meter.replay(call)
    except Exception as failure:
        row.uncaptured = text(first_error(failure))
        return []
    found = dataclasses.replace(
        row, implementation=row.implementation + GRAPH, remark="", samples=[], peak=None, back_to_back=None
    )
    try:
        replay()
        for again, first in zip(results, call(), strict=True):  # type: ignore[call-overload]
            if same_gradient(again, first).error:
                raise RuntimeError("the graph's replay gives other results than the call")
        found.add(meter.measure(replay, replayed=True))
    except Exception as failure:
        found.error = text(failure)
    return [found]


# --- The command ---


def percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a rate in percent, above 0 and below 100, such as 5")
    return value


def add_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--shapes", type=parse_shapes, metavar="TxBxN,...", help=f"default: {SHAPES}")
    p.add_argument(
        "--rates",
        nargs="+",
        type=percent,
        default=RATES,
        metavar="PERCENT",
        help=f"of the neuron-steps with a spike; default: {' '.join(f'{rate:g}' for rate in RATES)}",
    )
    p.add_argument(
        "--surrogates",
        nargs="+",
        choices=SURROGATES,
        default=CHOSEN,
        metavar="NAME",
        help=f"default: {' '.join(CHOSEN)}; known: {', '.join(SURROGATES)}",
    )
    p.add_argument(
        "--contenders",
        "--only",
        nargs="+",
        choices=RIVALS,
        metavar="NAME",
        help=f"default: all of the device; known: {', '.join(RIVALS)}",
    )
    p.add_argument(
        "--loop-limit",
        type=parse_size,
        metavar="TxBxN",
        help=f"largest size for which the plain loop is timed, default, in neuron-steps: {LOOP_LIMIT}",
    )
    add_timing_options(p, FULL)


def chosen(p: argparse.ArgumentParser, a: argparse.Namespace) -> list[str]:
    """Who takes part in a run."""
    device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    known = [name for name, rival in RIVALS.items() if device in rival.devices]
    for name in a.contenders or ():
        if name not in known:
            p.error(f"--contenders {name!r}, not measured on {device}; expected names out of {', '.join(known)}")
    return [name for name in known if not a.contenders or name in a.contenders]


def method(rates: Sequence[float], surrogates: Sequence[Surrogate], limit: int, device: str) -> list[str]:
    ends = ", ".join(f"{name} {first:g} to {last:g}" for name, (first, last) in PARAMETERS.items())
    compared = RNN + TF32 * (device == "cuda")
    lines = [
        f"recurrent: one layer of LIF neurons with a synapse and w_rec, time first, float32; {ends}, differing by "
        f"neuron; w_rec: normal, standard deviation {GAIN:g}/sqrt(N); forward: no gradients; {PASS}: gradients of x "
        "and w_rec, from a dense gradient of the output",
        "rate: share of the neuron-steps with a spike; x is uniform from 0 to a bound found by bisection",
        f"{BASELINE} and PyTorch's layers are measured once a shape, because their time does not depend on the rate: "
        f"with the input of {middle(rates):g} percent, {BASELINE} with {surrogates[0]}, up to {limit} neuron-steps",
        f"us/step: median over T; times nn.RNN: the time over that of {compared}, of the same pass, both called or "
        f"both replayed; before timing, torch_lif was compared with {BASELINE} at {TINY}",
    ]
    if device == "cuda":
        lines.append(f"matrix products: in float32, but for those of what is named {TF32.strip()}")
    return lines


def run(names: Sequence[str], a: argparse.Namespace, meter: Meter, report: Report, path: Path) -> None:
    """Fills the report and writes it after each row: a run that is stopped keeps what it has."""
    shapes = list(dict.fromkeys(a.shapes or parse_shapes((QUICK_SHAPES if a.quick else SHAPES)[meter.device])))
    rates, surrogates = list(dict.fromkeys(a.rates)), [SURROGATES[name]() for name in dict.fromkeys(a.surrogates)]
    limit = LOOP_LIMIT[meter.device] if a.loop_limit is None else a.loop_limit
    report.method += method(rates, surrogates, limit, meter.device)
    deadline, parts = Deadline(a.time_limit), plan(names, shapes, rates, surrogates, limit)
    verdict = functools.cache(check)
    with tqdm(total=len(parts), file=sys.stderr, unit="call", leave=False) as bar:
        for (shape, rate), group in itertools.groupby(parts, key=lambda part: part[:2]):
            if deadline.left() <= 0:
                break
            problem, error = None, ""
            try:
                problem = given(shape, rate, meter.device)
            except Exception as failure:
                error = text(failure)
            for part in group:
                if deadline.left() <= 0:
                    break
                bar.set_description(f"{part.name} {shape} {rate:g}%", refresh=False)
                if problem is None:
                    report.rows.append(row_of(part, None, Verdict("", error)))
                else:
                    report.rows += measure(part, problem, meter, verdict(part.name, part.surrogate, meter.device))
                report.keep(path)
                bar.update()
                with contextlib.suppress(RuntimeError):  # if a call has broken something on the GPU, others will say so
                    tidy(meter.device)  # a graph's memory is its own, and nobody else can use it until it is gone
    if bar.n < len(parts):
        report.method.append(
            f"stopped by --time-limit {a.time_limit:g}: {len(parts) - bar.n} of {len(parts)} calls were not measured"
        )

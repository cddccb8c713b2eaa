"""The subcommand `calls`: one layer called in many ordinary ways, each beside its neuron's headline call.

CALLS is the list. A call says what it gives the layer and what it wants of it; from this follow its tensors and the
fewest bytes that it must move. `python -m benchmarks layer` measures the headline calls in more detail.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import torch_lif as lif
from torch_lif.compat import hxtorch, norse, rockpool, sinabs
from torch_lif.surrogate import (
    DEFAULT,
    ATan,
    Heaviside,
    PeriodicExponential,
    SingleExponential,
    StepPWL,
    SuperSpike,
    Surrogate,
)

from .cases import CASES, MODULE, Case, Shape, build
from .contenders import GRAPH, OURS
from .layer import FULL as LAYERS
from .layer import add_timing_options, parse_shapes
from .measure import Budget, Deadline, Meter
from .report import Report, Row
from .suite import Found, Verdict, compare, text, tidy

SHAPES = {"cpu": "100x16x512,100x16x4096", "cuda": "500x16x512,500x16x16384"}
QUICK_SHAPES = {"cpu": "50x4x256", "cuda": "100x16x512"}
FULL = {"cpu": Budget(20, 0.1, 1.0), "cuda": LAYERS["cuda"]}
"""There are many rows: on a CPU, where flushing the cache takes long, each has less time than in `layer`."""
TINY = Shape(40, 2, 64)
"""Where a call is held to the plain loop."""
BATCHES = 5
"""Rows of calls from Python; the median row counts."""
PASS = "forward+backward"


# --- The list's vocabulary ---


@dataclasses.dataclass(frozen=True)
class Layout:
    """How sequences lie in memory. lay: makes (batch, time, neurons) the sequence that the call is given. batch_first:
    the call's argument. image: the neurons are (channels, height, width) to the call."""

    lay: Callable[[Tensor], Tensor]
    batch_first: bool = True
    image: bool = False


def picture(neurons: int) -> tuple[int, int, int]:
    """So many neurons as channels, height and width."""
    side = max(n for n in range(1, math.isqrt(neurons) + 1) if n == 1 or (n**3 <= neurons and neurons % n**2 == 0))
    return neurons // side**2, side, side


def as_image(t: Tensor) -> Tensor:
    return t.reshape(*t.shape[:2], *picture(t.shape[2]))


def channels_last(t: Tensor) -> Tensor:
    return as_image(t).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


LAYOUTS = {
    "batch first": Layout(lambda t: t),
    "time first": Layout(lambda t: t.transpose(0, 1).contiguous(), batch_first=False),
    "strided": Layout(lambda t: t.transpose(1, 2).contiguous().transpose(1, 2)),
    "image": Layout(as_image, image=True),
    "channels last": Layout(channels_last, image=True),
}

LOSSES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "dense": lambda grad, time: grad,
    "y.sum()": lambda grad, time: torch.ones((), dtype=grad.dtype, device=grad.device).expand(grad.shape),
    "y.sum(time)": lambda grad, time: grad.narrow(time, 0, 1).clone().expand(grad.shape),
}
"""The gradient of the output that reaches the layer, made of a dense one. For a sum PyTorch expands few values, without
a copy. The sum itself is not the layer's work, and so is not timed."""

Run = Callable[[Tensor], Tensor]
Module = Callable[[int, str], tuple[nn.Module, Run]]
"""From the number of neurons and a backend to a layer, and to the function that runs it over a sequence."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A call of one layer, forward and backward.

    name: on the command line and in reports. case: the neuron, its parameters and its input; the case's name is that of
    the headline call that this call is measured beside. what: how this call differs from it, in words. surrogate:
    default: the case's. trained: the parameters that require a gradient. loss: one of LOSSES. layout: one of LAYOUTS.
    noise: whether noise is given. constant: whether x is the same in every step: see `function_call`. record: the
    states that are recorded and are in the loss. resize: from a run's shape to the call's. once: whether the call has
    the same size whatever the run's neurons. module: makes the module that is called; default: the function is called.
    foreign: the module is a drop-in for another library's, and has no plain loop. written: how many sequences the call
    returns beside the output, without a gradient. first: values per neuron and batch item of the first states that are
    given, and of their gradients.
    """

    name: str
    case: Case
    what: str
    dtype: torch.dtype = torch.float32
    surrogate: Surrogate | None = None
    trained: Sequence[str] = ()
    loss: str = "dense"
    layout: str = "batch first"
    noise: bool = False
    constant: bool = False
    record: Sequence[str] = ()
    resize: Callable[[Shape], Shape] = lambda shape: shape
    once: bool = False
    module: Module | None = None
    foreign: bool = False
    written: int = 0
    first: int = 0

    @property
    def rule(self) -> Surrogate | None:
        return (self.surrogate or self.case.surrogate) if self.case.spiking else None

    @property
    def mode(self) -> str:
        """What the forward need leave to the backward: "mask", a bit per neuron-step where a spike is possible, or
        "recompute", every 16th state, from which the backward computes the others again. It then reads the inputs
        again."""
        windowed = self.case.neuron == "lif" and isinstance(self.rule, (StepPWL, Heaviside))
        return "mask" if (windowed or not self.case.spiking) and not self.trained else "recompute"

    @property
    def formula(self) -> str:
        """Fewest bytes that the call moves, in the symbols of cases.LEGEND. Parameters are left out, as there."""
        again = self.mode == "recompute"
        beside = 1 + (self.loss == "dense") + 2 * len(self.record) + self.written + self.noise * (1 + again)
        parts = {
            f"T*B*N*({2 + again}*X + {beside})*e": not self.constant,
            f"T*B*N*{beside}*e + B*N*{1 + again}*X*e": self.constant,
            "B*N*e": self.loss == "y.sum(time)",
            "T*B*N*M/4": not again,
            f"B*N*(W + {self.first})*s" if self.first else "B*N*W*s": True,
            "B*N*W*s*2*ceil(T/16)": again,
        }
        return " + ".join(part for part, moved in parts.items() if moved)

    def bytes_moved(self, shape: Shape) -> int:
        """The formula's value at the call's own shape."""
        values: dict[str, Any] = dict(zip("TBN", shape, strict=True)) | {"ceil": math.ceil}
        values |= {"X": max(self.case.synapses, 1), "W": self.case.states, "M": int(self.case.spiking)}
        values |= {"e": self.dtype.itemsize, "s": 8 if self.dtype == torch.float64 else 4}
        return int(eval(self.formula, {"__builtins__": {}}, values))  # as in Case.evaluate


HEADLINES = ("lif", "cuba-lif", "alif", "li", "euler-lif")


def functions() -> Iterable[Call]:
    """The calls of functions: first the headlines, then each way of calling them."""

    def way(case: str, suffix: str, what: str, **facts: Any) -> Call:
        return Call(f"{case}+{suffix}", CASES[case], what, **facts)

    def resized(case: str, suffix: str, what: str, once: bool = False, **change: Callable[[int], int]) -> Call:
        def resize(shape: Shape) -> Shape:
            return shape._replace(**{axis: new(getattr(shape, axis)) for axis, new in change.items()})

        return way(case, suffix, what, resize=resize, once=once)

    half: dict[str, Any] = {"dtype": torch.bfloat16}
    every = CASES["cuba-lif"].differentiable
    for name in HEADLINES:
        yield Call(name, CASES[name], "the headline call: x alone, a dense gradient")
    yield way("cuba-lif", "parameters", "gradients of all parameters too", trained=every)
    yield way("lif", "threshold", "the gradient of the threshold too", trained=["threshold"])
    for name in HEADLINES:
        if name != "cuba-lif":
            yield way(name, "sum", "loss y.sum(): an expanded gradient", loss="y.sum()")
    yield way("lif", "super-spike+sum", "SuperSpike, loss y.sum()", surrogate=SuperSpike(), loss="y.sum()")
    yield way("cuba-lif", "parameters+sum", "as +parameters, loss y.sum()", trained=every, loss="y.sum()")
    yield way("lif", "sum-over-time", "a loss of y.sum(1): a gradient expanded over time", loss="y.sum(time)")
    yield resized("lif", "one-more", "N + 1 neurons", neurons=lambda n: n + 1)
    yield resized("lif", "two-fewer", "N - 2 neurons", neurons=lambda n: max(n - 2, 1))
    for name in ("lif", "li"):
        yield resized(name, "10-neurons", "10 neurons, whatever N is", once=True, neurons=lambda n: 10)
    yield resized("lif", "100-neurons", "100 neurons, whatever N is", once=True, neurons=lambda n: 100)
    yield resized("lif", "batch-1", "one item in the batch", batch=lambda n: 1)
    yield way("lif", "noise", "noise is given", noise=True)
    yield way("lif", "record-v", "v is recorded and in the loss", record=["v"])
    yield way("lif", "constant-x", "x is the same in every step; the gradient of the first v", constant=True, first=2)
    yield way("lif", "strided-x", "x and y lie with time last", layout="strided")
    yield way("lif", "time-first", "(time, batch, neurons)", layout="time first")
    yield way("lif", "image", "(batch, time, channels, height, width)", layout="image")
    yield way("lif", "channels-last", "the same, channels last in memory", layout="channels last")
    for synapses in (2, 3, 4, 8):
        case = many_synapses(synapses)
        yield Call(f"cuba-lif+{synapses}-synapses", case, f"{synapses} synapses per neuron")
    surrogates = {"atan": ATan(), "super-spike": SuperSpike(), "periodic-exponential": PeriodicExponential()}
    for suffix, surrogate in surrogates.items():
        yield way("lif", suffix, f"surrogate {type(surrogate).__name__}", surrogate=surrogate)
    for name in HEADLINES:
        yield way(name, "bfloat16", "x in bfloat16", **half)
    yield way("lif", "bfloat16+super-spike", "x in bfloat16, surrogate SuperSpike", surrogate=SuperSpike(), **half)
    for name in ("alif", "euler-lif"):
        yield way(name, "bfloat16+step-pwl", "x in bfloat16, surrogate StepPWL", surrogate=StepPWL(), **half)
    yield way("lif", "float16", "x in float16", dtype=torch.float16)
    yield way("lif", "float64", "all in float64", dtype=torch.float64)


def many_synapses(synapses: int) -> Case:
    """The case cuba-lif with more synapses, which share its input."""
    case = CASES["cuba-lif"]
    return dataclasses.replace(case, synapses=synapses, states=1 + synapses, drive=case.drive / synapses)


# --- Modules: torch_lif's own, and the drop-ins, each with its own defaults ---


def native(kind: Callable[..., nn.Module]) -> Module:
    def make(neurons: int, backend: str) -> tuple[nn.Module, Run]:
        layer = kind(neurons, backend=backend)
        return layer, layer

    return make


def sinabs_alif(**options: Any) -> Module:
    """States stay attached to the last call's graph, so that training code resets them, or detaches them, before each
    batch."""

    def make(neurons: int, backend: str) -> tuple[nn.Module, Run]:
        layer = sinabs.ALIF(tau_mem=20.0, tau_adapt=100.0, **options)

        def run(x: Tensor) -> Tensor:
            layer.reset_states()
            return layer(x)

        return layer, run

    return make


def rockpool_lif(kind: Callable[..., Any], synapses: int = 0) -> Module:
    """A call goes on from the state that the last one left, so that training code resets it before each batch."""

    def make(neurons: int, backend: str) -> tuple[nn.Module, Run]:
        layer = kind((synapses * neurons, neurons) if synapses else neurons)

        def run(x: Tensor) -> Tensor:
            layer.reset_state()
            return layer(x)[0]

        return layer, run

    return make


def norse_layer(kind: Callable[[], nn.Module]) -> Module:
    def make(neurons: int, backend: str) -> tuple[nn.Module, Run]:
        layer = kind()
        return layer, lambda x: layer(x)[0]

    return make


def hxtorch_function(function: Callable[..., Any], **values: Any) -> Module:
    """hxtorch's functions have no defaults; these are of hxtorch's modules, which call them."""

    def make(neurons: int, backend: str) -> tuple[nn.Module, Run]:
        return nn.Identity(), lambda x: function(x, leak=0.0, tau_syn=10e-6, tau_mem=10e-6, **values)[0]

    return make


def modules() -> Iterable[Call]:
    """The calls of modules. Their cases have the states, the surrogate and the input that fit the modules' defaults."""

    def own(name: str, module: Module, surrogate: Surrogate | None = DEFAULT, **changes: Any) -> Call:
        case = dataclasses.replace(CASES[name], surrogate=surrogate, **changes)
        return Call(name + MODULE, case, "the module with its defaults, called", module=module)

    def drop_in(name: str, case: Case, what: str, module: Module, **facts: Any) -> Call:
        return Call(name, case, what, module=module, foreign=True, **facts)

    def like(name: str, surrogate: Surrogate | None = None, **changes: Any) -> Case:
        return dataclasses.replace(CASES[name], surrogate=surrogate, **changes)

    yield own("lif", native(lif.LIF))
    yield own("cuba-lif", native(lif.CubaLIF), drive=0.06)
    yield own("alif", native(lif.ALIF))
    yield own("euler-lif", native(lif.EulerLIF), states=2)
    yield own("li", native(lif.LI), surrogate=None)

    alif = like("alif", SingleExponential())
    of_alif: dict[str, Any] = {"trained": ["tau_mem", "tau_adapt"], "first": 2}
    yield drop_in("sinabs-alif", alif, "sinabs' ALIF with its defaults (SingleSpike)", sinabs_alif(), **of_alif)
    many = sinabs_alif(spike_fn=sinabs.MultiSpike)
    yield drop_in("sinabs-alif+multi-spike", alif, "sinabs' ALIF, spike_fn=MultiSpike", many, **of_alif)

    of_lif: dict[str, Any] = {"trained": ["tau_mem", "tau_syn", "bias", "threshold"]}
    neuron = rockpool_lif(rockpool.LIFNeuronTorch)
    yield drop_in("rockpool-lif-neuron", CASES["lif"], "Rockpool's LIFNeuronTorch with its defaults", neuron, **of_lif)
    for synapses, suffix in ((1, ""), (2, "+2-synapses")):
        case = dataclasses.replace(many_synapses(synapses), drive=0.02 / synapses)
        what = f"Rockpool's LIFTorch with its defaults, {synapses} synapse{'s' if synapses > 1 else ''} per neuron"
        yield drop_in(f"rockpool-lif{suffix}", case, what, rockpool_lif(rockpool.LIFTorch, synapses), **of_lif)

    time_first: dict[str, Any] = {"layout": "time first"}
    euler = like("euler-lif", SuperSpike(1.0), states=2)
    yield drop_in("norse-lif", euler, "norse's LIF with its defaults", norse_layer(norse.LIF), **time_first)
    yield drop_in("norse-li", like("li"), "norse's LI with its defaults", norse_layer(norse.LI), **time_first)
    spiking = {"reset": 0.0, "threshold": 1.0, "method": "superspike", "alpha": 50.0}
    hx_lif = hxtorch_function(hxtorch.cuba_lif_integration, **spiking)
    what = "hxtorch's cuba_lif_integration, which returns v and i too"
    yield drop_in(
        "hxtorch-lif", like("euler-lif", SuperSpike(50.0), states=2, drive=0.5), what, hx_lif, written=2, **time_first
    )
    hx_li = hxtorch_function(hxtorch.cuba_li_integration)
    what = "hxtorch's cuba_li_integration, which returns i too"
    yield drop_in("hxtorch-li", like("li"), what, hx_li, written=1, **time_first)


CALLS = {call.name: call for call in (*functions(), *modules())}


# --- From a call to its tensors ---


@dataclasses.dataclass(eq=False)
class Ready:
    """A call with its tensors. forward: what is in the loss. grads: of each of these. leaves: what the backward finds
    gradients for, by name. others: further tensors that the call is given."""

    forward: Callable[[], list[Tensor]]
    grads: list[Tensor]
    leaves: dict[str, Tensor]
    others: list[Tensor]

    def train(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.forward(), list(self.leaves.values()), self.grads)

    @property
    def nbytes(self) -> int:
        found = {t.data_ptr(): t.untyped_storage().nbytes() for t in (*self.grads, *self.leaves.values(), *self.others)}
        return sum(found.values())

    def found(self) -> Found:
        """Its results, to be compared with others'."""
        gradients = dict(zip(self.leaves, self.train(), strict=True))
        with torch.no_grad():
            return Found(torch.cat([out.flatten() for out in self.forward()]), gradients)


def function_call(call: Call, shape: Shape, device: str, backend: str) -> Ready:
    """A call of a function of torch_lif.functional.

    With `constant`, x is a view of one step that is expanded over time, and gets no gradient: that would be a sum over
    time, which PyTorch computes of the layer's dense gradient. The first v requires a gradient instead, so that the
    backward walks through all steps.
    """
    case, layout = call.case, LAYOUTS[call.layout]
    problem = build(case, shape, call.dtype, device, call.surrogate)
    x, arguments, others = layout.lay(problem.x.detach()), dict(problem.arguments), []
    leaves: dict[str, Tensor] = {}
    time = int(layout.batch_first)
    if call.constant:
        x = x.narrow(time, 0, 1).clone().expand(x.shape)
        state_dtype = torch.float64 if call.dtype == torch.float64 else torch.float32
        first = torch.zeros(shape.batch, shape.neurons, dtype=state_dtype, device=device)
        leaves["v"] = first.requires_grad_()
        arguments["state"] = (first,)
    else:
        leaves["x"] = x.requires_grad_()
    for name in case.parameters:
        value = arguments[name].detach()
        arguments[name] = value.reshape(picture(shape.neurons)) if layout.image else value
        if name in call.trained:
            leaves[name] = arguments[name].requires_grad_()
    if call.noise:
        arguments["noise"] = layout.lay((problem.grad_out - 0.5) * 0.1)
        others.append(arguments["noise"])
    arguments |= {"record": tuple(call.record), "batch_first": layout.batch_first, "backend": backend}

    def forward() -> list[Tensor]:
        result = getattr(lif.functional, case.neuron)(x, **arguments)
        return [result[0], *(result.records[name] for name in call.record)]

    # A gradient for each result, or the second one would be found in the cache.
    grads = [LOSSES[call.loss](layout.lay(problem.grad_out.clone()), time) for _ in range(1 + len(call.record))]
    return Ready(forward, grads, leaves, [x, *others])


def module_call(call: Call, shape: Shape, device: str, backend: str) -> Ready:
    """A call of a module, in the state in which its library makes it."""
    assert call.module is not None
    layout = LAYOUTS[call.layout]
    problem = build(call.case, shape, call.dtype, device)
    layer, run = call.module(shape.neurons, backend)
    layer.to(device)
    x = layout.lay(problem.x.detach()).requires_grad_()
    named = nn.Module.named_parameters(layer)  # of nn.Module, because Rockpool's modules have functions of their own
    leaves = {"x": x} | {name: parameter for name, parameter in named if parameter.requires_grad}
    return Ready(lambda: [run(x)], [layout.lay(problem.grad_out)], leaves, [])


def ready(call: Call, shape: Shape, device: str, backend: str = "fused") -> Ready:
    return (module_call if call.module else function_call)(call, shape, device, backend)


# --- Measuring ---


def check(call: Call, device: str) -> Verdict:
    """The call at a tiny shape, held to the plain loop. Drop-ins have no such loop: they need only run."""
    try:
        shape = call.resize(TINY)
        found = ready(call, shape, device).found()
        if not call.foreign:
            return compare(found, ready(call, shape, device, "loop").found())
        if not all(bool(t.isfinite().all()) for t in (found.output, *found.gradients.values())):
            return Verdict("", "an output or a gradient is not finite")
        return Verdict("a call and its backward ran; there is no plain loop to hold it to")
    except Exception as failure:
        return Verdict("", text(failure))


def first_error(failure: BaseException) -> BaseException:
    """What went wrong first: an error inside a capture makes the end of the capture fail too."""
    while failure.__context__ is not None:
        failure = failure.__context__
    return failure


def from_python(train: Callable[[], object], meter: Meter) -> float | None:
    """Seconds of a call from Python while calls follow each other, the host's time included: the median of a few rows
    of calls. None on the CPU, where any call's time is that."""
    if meter.device == "cpu":
        return None
    train()
    about = meter.once(train, idle=True)[0]
    rows = [meter.in_a_row(train, about) for _ in range(BATCHES)]
    known = [seconds for seconds in rows if seconds is not None]
    return statistics.median(known) if known else None


def measure_row(row: Row, call: Call, one: Ready, meter: Meter) -> None:
    """Fills in what the call takes: on a GPU by replaying a CUDA graph, if one can hold it. What a module takes called
    from Python comes first, because a capture that fails may slow down the host."""
    if call.case.spiking:
        with torch.no_grad():
            row.spike_rate = float(one.forward()[0].float().mean())
    seconds = from_python(one.train, meter) if call.module else None
    if meter.device == "cuda":
        try:
            replay, results = meter.replay(one.train)
        except Exception as failure:
            row.uncaptured = text(first_error(failure))
        else:
            replay()
            assert isinstance(results, tuple)
            if not all(torch.equal(got, expected) for got, expected in zip(results, one.train(), strict=True)):
                raise RuntimeError("the graph's replay gives other results than the call")
            row.add(meter.measure(replay, replayed=True))
            row.implementation = OURS + GRAPH
    if not row.samples:
        row.add(meter.measure(one.train, one.nbytes))
    if call.module:
        row.back_to_back = seconds


def measure(call: Call, shape: Shape, meter: Meter, verdict: Verdict) -> Row:
    """A row; a failure is a row too. shape: the run's, from which the call's own may differ."""
    own = call.resize(shape)
    row = Row(
        case=call.name,
        implementation=OURS,
        pass_name=PASS,
        shape=tuple(own),
        dtype=str(call.dtype).removeprefix("torch."),
        formula=call.formula,
        bytes_moved=call.bytes_moved(own),
        mode=call.mode,
        surrogate=str(call.rule or ""),
        remark=call.what,
        check=verdict.check,
        error=verdict.error,
        beside=f"{call.case.name} {shape}",
    )
    try:
        if not row.error:
            measure_row(row, call, ready(call, own, meter.device), meter)
    except Exception as failure:
        row.error = text(failure)
    with contextlib.suppress(RuntimeError):  # if a call has broken something on the GPU, the next row will say so
        tidy(meter.device)  # a graph's memory is its own, and nobody else can use it until it is gone
    return row


# --- The command ---


def add_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="these calls, with the headline calls and modules that they are measured beside; default: all, which is "
        f"{', '.join(CALLS)}",
    )
    p.add_argument("--shapes", type=parse_shapes, metavar="TxBxN,...", help=f"default: {SHAPES}")
    add_timing_options(p, FULL)


def chosen(p: argparse.ArgumentParser, a: argparse.Namespace) -> list[Call]:
    """The calls of a run, in the list's order."""
    names = a.only or list(CALLS)
    for name in names:
        if name not in CALLS:
            p.error(f"--only {name!r}, expected names out of {', '.join(CALLS)}")
    calls = [CALLS[name] for name in names]
    wanted = {*names, *(call.case.name for call in calls)}
    wanted |= {call.case.name + MODULE for call in calls if call.foreign}
    return [call for name, call in CALLS.items() if name in wanted]


def plan(calls: Sequence[Call], shapes: Sequence[Shape]) -> list[tuple[Call, Shape]]:
    """What is measured, in order: modules last, because one that cannot be captured may leave the GPU in disorder."""
    groups = ([call for call in calls if not call.module], [call for call in calls if call.module])
    found = [pair for group in groups for pair in itertools.product(shapes, group)]
    smallest = min(shapes, key=math.prod)
    return [(call, shape) for shape, call in found if not call.once or shape == smallest]


def method(device: str) -> list[str]:
    lines = [
        "calls: forward and backward of one layer, which is given the gradient of its output; keeps: what the forward "
        "must leave to the backward (every 16th state, or the mask), by which the fewest bytes are counted",
        "times headline: the time over that of the headline call of the same neuron, which is in float32 and has the "
        "run's T x B x N; before timing, each call but the drop-ins' was compared with the plain loop at a tiny shape",
    ]
    if device == "cuda":
        lines.append("a call that no CUDA graph can hold is timed as it is called, without (graph) in its line")
        lines.append(
            "called from Python (in a row ms): modules and drop-ins, wall clock of calls one after another, the median "
            f"of {BATCHES} rows of calls; times module: that over the same of torch_lif's own module"
        )
    return lines


def run(calls: Sequence[Call], a: argparse.Namespace, meter: Meter, report: Report, path: Path) -> None:
    """Fills the report and writes it after each row: a run that is stopped keeps what it has."""
    shapes = a.shapes or parse_shapes((QUICK_SHAPES if a.quick else SHAPES)[meter.device])
    report.method += method(meter.device)
    deadline, parts = Deadline(a.time_limit), plan(calls, list(dict.fromkeys(shapes)))
    verdict = functools.cache(check)
    with tqdm(total=len(parts), file=sys.stderr, unit="row", leave=False) as bar:
        for call, shape in parts:
            if deadline.left() <= 0:
                break
            bar.set_description(f"{call.name} {shape}", refresh=False)
            report.rows.append(measure(call, shape, meter, verdict(call, meter.device)))
            report.keep(path)
            bar.update()
    if bar.n < len(parts):
        report.method.append(
            f"stopped by --time-limit {a.time_limit:g}: {len(parts) - bar.n} of {len(parts)} rows were not measured"
        )

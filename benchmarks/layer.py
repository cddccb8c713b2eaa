"""The subcommands `layer` and `scaling`: neurons alone, without a matrix product round them."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from torch_lif import _C, surrogate

from . import peers, suite
from .cases import CASES, DEFAULT, MODE_OF_OTHERS, WITH_PARAMETERS, Case, Shape
from .contenders import BASELINE, CONTENDERS, OURS, Contender
from .measure import Budget, Deadline, Meter, keep_memory
from .report import Report, Row, read

SHAPES = {
    "cpu": "100x8x128,500x16x512,500x16x4096",
    "cuda": "100x16x4096,500x1x4096,500x16x512,500x16x4096,500x16x16384,200x256x4096,2000x16x4096",
}
QUICK_SHAPES = {"cpu": "100x16x512", "cuda": "100x16x4096"}
FULL = {"cpu": Budget(20, 0.5, 20.0), "cuda": Budget(20, 0.02, 1.5)}
QUICK = Budget(5, 0.02, 0.3)
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
SURROGATES = {name: getattr(surrogate, kind) for name, (kind, _) in _C.surrogates().items()}

CENTRE = {"cpu": Shape(250, 16, 512), "cuda": Shape(500, 16, 4096)}
QUICK_CENTRE = {"cpu": Shape(100, 4, 256), "cuda": Shape(200, 16, 1024)}
FACTORS, QUICK_FACTORS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4), (1 / 4, 1, 4)
LOOP_LIMIT = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
"""`scaling`: largest number of neuron-steps that the plain loop is measured for; beyond it takes seconds, or all
memory."""
CHILD_SECONDS = 900
"""How long a contender in a process of its own may take before it counts as failed."""


def parse_shapes(text: str) -> list[Shape]:
    """ "500x16x512,100x8x128" as shapes (T, B, N)."""
    shapes = []
    for part in text.split(","):
        numbers = part.strip().split("x")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and int(n) > 0 for n in numbers):
            raise argparse.ArgumentTypeError(
                f"shape {part!r}, expected TxBxN, numbers above 0, such as 500x16x512,100x8x128"
            )
        shapes.append(Shape(*map(int, numbers)))
    return shapes


def parse_size(text: str) -> int:
    """ "500x16x512" as a number of neuron-steps."""
    shapes = parse_shapes(text)
    if len(shapes) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected one shape TxBxN, such as 500x16x512")
    return math.prod(shapes[0])


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number of seconds above 0")
    return value


def add_timing_options(p: argparse.ArgumentParser, full: Mapping[str, Budget] = FULL) -> None:
    """Options of all that measures. full: the budgets without --quick."""
    budgets = {}
    for name in Budget._fields:
        cpu, cuda, quick = (getattr(budget, name) for budget in (full["cpu"], full["cuda"], QUICK))
        budgets[name] = f"{cpu} (GPU: {cuda}; --quick: {quick})"
    p.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    p.add_argument("--threads", type=int, help="CPU threads, default: PyTorch's")
    p.add_argument("--repeats", type=int, help=f"fewest repeats, default: {budgets['repeats']}")
    p.add_argument("--min-time", type=float, help=f"fewest seconds of repeats, default: {budgets['min_time']}")
    p.add_argument(
        "--max-time", type=float, help=f"seconds after which no repeat starts, default: {budgets['max_time']}"
    )
    p.add_argument(
        "--time-limit", type=seconds, metavar="SECONDS", help="of the whole run: then no further row is begun"
    )
    p.add_argument("--quick", action="store_true", help="small shapes, few repeats: under a minute")
    p.add_argument(
        "--keep-memory", action="store_true", help="CPU: let malloc keep freed memory, to be rid of page faults"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="default: runs/benchmarks/<subcommand>-<device>.json")


def add_options(p: argparse.ArgumentParser) -> None:
    """Options of `layer` and `scaling`."""
    known = [*CONTENDERS, *(peer.name for peer in peers.PEERS)]
    p.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"out of {', '.join(CASES)}; +parameters: with the gradients of all parameters; default: all, which is "
        f"{', '.join(DEFAULT)}, or those of --cases",
    )
    p.add_argument("--cases", nargs="+", dest="more_cases", metavar="CASE", default=[], help="the same")
    p.add_argument("--dtypes", "--dtype", nargs="+", choices=DTYPES, help="of the sequences; default: float32 bfloat16")
    p.add_argument("--surrogate", choices=SURROGATES, help="default: that of the library which the neuron comes from")
    p.add_argument("--trainable", action="store_true", help="gradients of all parameters, in all cases")
    p.add_argument(
        "--contenders", nargs="+", choices=known, metavar="NAME", help=f"default: all; known: {', '.join(known)}"
    )
    p.add_argument("--no-eager", action="store_true", help="leave out the plain loop, and with it the check of results")
    p.add_argument("--no-peers", action="store_true", help="leave out other libraries")
    p.add_argument(
        "--loop-limit",
        type=parse_size,
        metavar="TxBxN",
        help="largest size for which loops over time in Python are timed; default: any",
    )
    add_timing_options(p)


def method(meter: Meter, a: argparse.Namespace) -> list[str]:
    """How the figures were measured, for whoever reads them."""
    cuda = meter.device == "cuda"
    cache = (
        f"cache: cold, flushed before each repeat by {meter.flush_bytes // 2**20} MiB; "
        f"{'L2' if cuda else 'last level'}: "
    )
    cache += f"{meter.cache // 2**20} MiB"
    if meter.flush_bytes <= meter.cache:
        cache += ", which is NOT smaller: arrays may have stayed in it"
    if cuda:
        clock = (
            "device events around each repeat; the GPU is idle when a repeat starts, so that the host's time counts; "
            "(graph): replays of a CUDA graph, launched while the flush runs, so that only kernels count; in a row: "
            "wall clock of calls one after another, cache not flushed; peak MiB: the most that PyTorch had allocated "
            "during a call, with its inputs and outputs"
        )
    else:
        clock = "wall clock, with the allocation and release of results; "
        if a.keep_memory:
            clock += "malloc was told to keep freed memory (--keep-memory), which it does not do by default"
        else:
            clock += "large ones come from the system and go back to it in each call (--keep-memory: they do not)"
        clock += (
            "; faults: estimated share of page faults; others: CPUs that other processes kept busy; peak memory: "
            "PyTorch counts none"
        )
    return [cache, f"time: {clock}"]


def layer_method(a: argparse.Namespace, cases: Sequence[Case], device: str) -> list[str]:
    checked = (
        "results were NOT checked (--no-eager)"
        if a.no_eager
        else f"speed-up: over {BASELINE}; before timing, outputs were compared with its own, other libraries' with "
        "loops of their own equations"
    )
    lines = [
        "forward: no gradients; forward+backward: gradients of x, and of all parameters where the case says "
        f"{WITH_PARAMETERS}; batch first; parameters differ by neuron; compilation happens before the first repeat",
        f"surrogates: {surrogates_of(a, cases)}",
        "ms: median; Mns/s: million neuron-steps per second; GB/s: fewest bytes / median; of copy: GB/s / the copy's; "
        f"{checked}",
        "keeps: what the forward leaves to the backward; whatever has no such modes is counted with the bytes of "
        f"{MODE_OF_OTHERS}",
    ]
    if device == "cuda":
        lines.append(
            "x * 2 in a row: the same pass of PyTorch's x * 2, called in a row: what autograd and a launch cost alone"
        )
    if a.loop_limit is not None:
        lines.append(
            f"not timed beyond {a.loop_limit} neuron-steps: loops over time in Python; {BASELINE} then only checks "
            "others"
        )
    absent = ", ".join(peers.missing())
    return lines if a.no_peers or not absent else [*lines, f"not installed: {absent}"]


def surrogates_of(a: argparse.Namespace, cases: Sequence[Case]) -> str:
    spiking = [case for case in cases if case.spiking]
    if a.surrogate:
        return f"{SURROGATES[a.surrogate]()} for all"
    found = {case.family: str(case.surrogate) for case in spiking}
    return (
        "those of the libraries that the neurons come from: "
        + ", ".join(f"{family} {surrogate}" for family, surrogate in found.items())
        if found
        else "none"
    )


def select(a: argparse.Namespace, device: str) -> list[Contender]:
    """Who takes part, by default all who are installed."""
    if a.contenders:
        every = peers.all_contenders()
        return [every[name] for name in a.contenders]
    found = CONTENDERS if a.no_peers else peers.all_contenders()
    return [
        c
        for name, c in found.items()
        if not (name.startswith(BASELINE) and a.no_eager) and not takes_long(c, a, device)
    ]


def takes_long(contender: Contender, a: argparse.Namespace, device: str) -> bool:
    """Whether it takes part only if it is named: it compiles, or it needs a process of its own in a run that is to be
    quick."""
    return device in contender.on_request or (a.quick and bool(contender.on_request or peers.elsewhere(contender.name)))


def meter_for(p: argparse.ArgumentParser, a: argparse.Namespace, full: Mapping[str, Budget] = FULL) -> Meter:
    device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        p.error("--device cuda, but PyTorch finds no GPU")
    if a.threads is not None and a.threads < 1:
        p.error(f"--threads {a.threads}, expected 1 or more")
    if a.threads is not None:
        torch.set_num_threads(a.threads)
    if a.keep_memory and device == "cpu":
        keep_memory()
    given = {name: getattr(a, name) for name in Budget._fields if getattr(a, name) is not None}
    return Meter(device, (QUICK if a.quick else full[device])._replace(**given))


def chosen_cases(p: argparse.ArgumentParser, a: argparse.Namespace) -> list[str]:
    for name in set(a.contenders or ()) & set(peers.missing()):
        p.error(f"--contenders {name!r}, which is not installed")
    names = [*a.cases, *a.more_cases]
    for name in names:
        if name != "all" and name not in CASES:
            p.error(f"case {name!r}, expected all or one of {', '.join(CASES)}")
    found = DEFAULT if not names or "all" in names else names
    return list(dict.fromkeys(CASES[name].with_parameters().name if a.trainable else name for name in found))


def sweep(a: argparse.Namespace, device: str) -> list[tuple[str, Shape]]:
    """Shapes of `scaling`, one axis varied at a time."""
    centre = (QUICK_CENTRE if a.quick else CENTRE)[device]
    shapes = []
    for axis, field in (("T", "steps"), ("B", "batch"), ("N", "neurons")):
        for factor in QUICK_FACTORS if a.quick else FACTORS:
            size = int(getattr(centre, field) * factor)
            shapes.append((axis, centre._replace(**{field: max(size, 1)})))
    return list(dict.fromkeys(shapes))


def run(p: argparse.ArgumentParser, a: argparse.Namespace, meter: Meter, report: Report, path: Path) -> None:
    """Fills the report and writes it after each row: a run that is stopped keeps what it has."""
    names = chosen_cases(p, a)
    cases = [CASES[name] for name in names]
    contenders = select(a, meter.device)
    here = [c for c in contenders if not peers.elsewhere(c.name)]
    scaling = report.kind == "scaling"
    if scaling:
        shapes = sweep(a, meter.device)
        cases = cases if a.cases or a.more_cases else [case for case in cases if case.family == "lif"]
        here = [c for c in here if c.name in (OURS, BASELINE)]
    else:
        given = a.shapes or parse_shapes((QUICK_SHAPES if a.quick else SHAPES)[meter.device])
        shapes = [("", shape) for shape in given]
    dtypes = a.dtypes or (["float32"] if a.quick or scaling else ["float32", "bfloat16"])
    report.method += layer_method(a, cases, meter.device)
    known = CONTENDERS if a.no_peers else peers.all_contenders()
    left_out = [] if a.contenders or scaling else [name for name, c in known.items() if takes_long(c, a, meter.device)]
    if left_out:
        report.method.append(f"left out, unless named by --contenders, because they take long: {', '.join(left_out)}")

    each = options_for(a, dtypes)
    deadline = Deadline(a.time_limit)
    # A part is what is compared with each other.
    parts = [
        (
            options,
            case,
            axis,
            shape,
            [c for c in here if not (scaling and c.name == BASELINE and too_large(shape, meter.device))],
        )
        for options in each
        for case in cases
        for axis, shape in shapes
    ]
    total = sum(suite.count([case], [shape], options, some, meter.device) for options, case, _, shape, some in parts)
    with tqdm(total=total, file=sys.stderr, unit="row", leave=False) as bar:
        for options, case, axis, shape, some in parts:
            if deadline.left() <= 0:
                break
            for row in suite.measure_all([case], [(axis, shape)], options, some, meter):
                report.rows.append(row)
                report.keep(path)
                bar.set_description(row.title, refresh=False)
                bar.update()
                if deadline.left() <= 0:
                    break
        report.sort()
        if not scaling:
            run_elsewhere(contenders, cases, [shape for _, shape in shapes], dtypes, a, report, bar, deadline)
    if bar.n < total:
        report.method.append(
            f"stopped by --time-limit {a.time_limit:g}: {total - bar.n} of {total} rows were not measured"
        )


def options_for(a: argparse.Namespace, dtypes: Sequence[str]) -> list[suite.Options]:
    chosen = SURROGATES[a.surrogate]() if a.surrogate else None
    limit = math.inf if a.loop_limit is None else a.loop_limit
    return [suite.Options(DTYPES[name], chosen, limit) for name in dtypes]


def too_large(shape: Shape, device: str) -> bool:
    return math.prod(shape) > LOOP_LIMIT[device]


def run_elsewhere(
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    shapes: Sequence[Shape],
    dtypes: Sequence[str],
    a: argparse.Namespace,
    report: Report,
    bar: tqdm,
    deadline: Deadline,
) -> None:
    """Contenders that need another environment than this process has, each in a process of its own. What it does not
    measure in its time is reported as failed."""
    device = report.machine["device"]
    for contender in contenders:
        environment = peers.elsewhere(contender.name)
        each = options_for(a, dtypes)
        part = [
            case.name
            for case in cases
            if any(suite.taking_part([contender], case, s, o, device) for s in shapes for o in each)
        ]
        if not environment or not part:
            continue
        bar.set_description(contender.name)
        folder = Path(tempfile.mkdtemp())
        path = folder / "rows.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks",
            "layer",
            *part,
            "--contenders",
            contender.name,
            "--json",
            str(path),
        ]
        command += ["--shapes", ",".join(map(str, shapes)), "--device", device, "--dtypes", *dtypes]
        command += ["--threads", str(report.machine["threads"]), *(["--surrogate", a.surrogate] if a.surrogate else [])]
        command += [*(["--quick"] if a.quick else []), *(["--keep-memory"] if a.keep_memory else [])]
        for name in Budget._fields:
            if getattr(a, name) is not None:
                command += [f"--{name.replace('_', '-')}", str(getattr(a, name))]
        if a.loop_limit is not None:
            command += ["--loop-limit", f"1x1x{a.loop_limit}"]
        timeout = min(CHILD_SECONDS, max(deadline.left(), 0.1))
        root = str(Path(__file__).parent.parent)
        variables = (
            os.environ
            | environment
            | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        )
        error = "ended without a result"
        try:
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
            error = (done.stderr.strip().splitlines() or [error])[-1]
        except subprocess.TimeoutExpired:
            cut = timeout < CHILD_SECONDS
            error = f"stopped by --time-limit {deadline.seconds:g}" if cut else f"took more than {timeout:g} seconds"
        if path.exists():
            report.rows += read(path).rows
        found = {row.title for row in report.rows}
        for options in each:
            for case, shape in itertools.product(cases, shapes):
                for one in suite.taking_part([contender], case, shape, options, device):
                    for pass_name in suite.passes_of(one, case):
                        row = Row(
                            case.name,
                            one.name,
                            pass_name,
                            tuple(shape),
                            options.dtype_name,
                            "",
                            0,
                            remark=one.remark,
                            error=error,
                        )
                        if row.title not in found:
                            report.rows.append(row)
        shutil.rmtree(folder)
    report.sort()

"""The command line: python -m benchmarks <subcommand>."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from torch_lif import _C, surrogate

from . import machine, suite
from .cases import BASELINE, CASES, IMPLEMENTATIONS, PASSES, Shape
from .measure import Budget, Meter, keep_memory
from .report import Report

SHAPES = {
    "cpu": "100x8x128,500x16x512,500x16x4096",
    "cuda": "100x8x128,500x16x512,500x16x4096,1000x64x4096",
}
QUICK_SHAPES = "100x8x128,500x16x512"
FULL, QUICK = Budget(20, 0.5, 20.0), Budget(5, 0.05, 1.5)
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
SURROGATES = {name: getattr(surrogate, kind) for name, (kind, _) in _C.surrogates().items()}


def parse_shapes(text: str) -> list[Shape]:
    """ "500x16x512,100x8x128" as shapes (T, B, N)."""
    shapes = []
    for part in text.split(","):
        numbers = part.strip().split("x")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and int(n) > 0 for n in numbers):
            raise argparse.ArgumentTypeError(f"shape {part!r}, expected TxBxN, numbers above 0, such as 500x16x512,100x8x128")
        shapes.append(Shape(*map(int, numbers)))
    return shapes


def add_layer_options(p: argparse.ArgumentParser) -> None:
    """Options of the subcommands that measure layers one by one."""
    budgets = {name: f"{getattr(FULL, name)} (--quick: {getattr(QUICK, name)})" for name in Budget._fields}
    p.add_argument("--neuron", nargs="+", choices=CASES, help="what to measure instead of the subcommand's own")
    p.add_argument("--shapes", type=parse_shapes, metavar="TxBxN,...", help="time steps, batch and neurons")
    p.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    p.add_argument("--dtype", choices=DTYPES, default="float32", help="of the sequences, default: float32")
    p.add_argument("--surrogate", choices=SURROGATES, default="step_pwl", help="default: step_pwl")
    p.add_argument("--trainable", action="store_true", help="gradients of all parameters too")
    p.add_argument("--threads", type=int, help="CPU threads, default: PyTorch's")
    p.add_argument("--repeats", type=int, help=f"fewest repeats, default: {budgets['repeats']}")
    p.add_argument("--min-time", type=float, help=f"fewest seconds of repeats, default: {budgets['min_time']}")
    p.add_argument("--max-time", type=float, help=f"seconds after which no repeat starts, default: {budgets['max_time']}")
    p.add_argument("--quick", action="store_true", help="small shapes, few repeats")
    p.add_argument("--no-eager", action="store_true", help="leave out the plain loop, and with it the check of results")
    p.add_argument("--keep-memory", action="store_true", help="CPU: let malloc keep freed memory, to be rid of page faults")
    p.add_argument("--json", type=Path, metavar="FILE", help="default: runs/benchmarks/<subcommand>-<device>.json")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed of torch_lif against plain loops in PyTorch.")
    commands = root.add_subparsers(dest="command", required=True)
    for name in CASES:
        add_layer_options(commands.add_parser(name, help=f"one layer of {name}"))
    add_layer_options(commands.add_parser("all", help="one layer of each"))
    return root


def method(meter: Meter, a: argparse.Namespace) -> list[str]:
    """How the figures were come by, for whoever reads them."""
    cuda = meter.device == "cuda"
    cache = f"cache: cold, flushed before each repeat by {meter.flush_bytes // 2**20} MiB; {'L2' if cuda else 'last level'}: "
    cache += f"{meter.cache // 2**20} MiB"
    if meter.flush_bytes <= meter.cache:
        cache += ", which is NOT smaller: arrays may have stayed in it"
    if cuda:
        clock = "device events round each repeat; launches are hidden as far as the flush still runs; results come from PyTorch's "
        clock += "caching allocator; peak MiB: beyond the inputs"
    else:
        clock = "wall clock, with the allocation and release of results; "
        if a.keep_memory:
            clock += "malloc was told to keep freed memory (--keep-memory), which it does not by default"
        else:
            clock += "large ones come from the system and go back to it in each call (--keep-memory: they do not)"
        clock += "; faults: estimated share of page faults; others: CPUs busy with other processes"
    gradients = "x and all parameters" if a.trainable else "x"
    checked = (
        "results were NOT checked (--no-eager)"
        if a.no_eager
        else f"speed-up: over {BASELINE}; outputs were compared with its first"
    )
    return [
        cache,
        f"time: {clock}",
        f"forward: no gradients; forward+backward: gradients of {gradients}; {a.dtype}, batch first, parameters differ by neuron",
        f"ms: median; Mns/s: million neuron-steps a second; GB/s: fewest bytes/median; of copy: GB/s over copy's; {checked}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a benchmark; 1 if a case failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    p = parser()
    a = p.parse_args(arguments)
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
    meter = Meter(device, (QUICK if a.quick else FULL)._replace(**given))

    chosen = [CASES[name] for name in a.neuron or (CASES if a.command == "all" else [a.command])]
    shapes = a.shapes or parse_shapes(QUICK_SHAPES if a.quick else SHAPES[device])
    implementations = {name: call for name, call in IMPLEMENTATIONS.items() if name != BASELINE or not a.no_eager}
    options = suite.Options(DTYPES[a.dtype], a.trainable, SURROGATES[a.surrogate]())
    path = a.json or Path("runs/benchmarks") / f"{a.command}-{device}.json"
    report = Report(
        shlex.join(["python", "-m", "benchmarks", *arguments]),
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine.describe(device),
        method(meter, a),
        [meter.copy()],
    )
    with tqdm(
        total=len(chosen) * len(shapes) * len(PASSES) * len(implementations), file=sys.stderr, unit="row", leave=False
    ) as bar:
        for row in suite.measure_all(chosen, shapes, options, implementations, meter):
            report.rows.append(row)
            report.write(path)  # each time: a run that is stopped keeps what it has
            bar.set_description(row.title, refresh=False)
            bar.update()
    report.copies.append(meter.copy())
    report.write(path)
    print(report.header(), report.table(), f"written to {path}", sep="\n\n")
    return int(any(row.error for row in report.rows))

"""The command line: python -m benchmarks layer|calls|recurrent|network|scaling|shorten|report|show."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import calls, layer, machine, network, recurrent
from .report import Report, read


def without_folders(arguments: Sequence[str]) -> list[str]:
    """The command line as a report shows it: where its JSON went on this machine is nobody's business."""
    before = ["", *arguments]
    return [
        Path(text).name if previous == "--json" else text for previous, text in zip(before, arguments, strict=False)
    ]


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    p = commands.add_parser("layer", help="neurons alone, against the plain loop and other libraries")
    layer.add_options(p)
    p.add_argument("--shapes", type=layer.parse_shapes, metavar="TxBxN,...", help="time steps, batch and neurons")
    calls.add_options(commands.add_parser("calls", help="one layer called in many ordinary ways"))
    recurrent.add_options(commands.add_parser("recurrent", help="a layer with recurrent weights, beside nn.RNN"))
    network.add_options(commands.add_parser("network", help="a training step of linear layers with neurons"))
    layer.add_options(
        commands.add_parser("scaling", help="cost against time steps, batch and neurons; default case: lif")
    )
    p = commands.add_parser("shorten", help="a run's JSON without most of its samples, for docs/benchmarks")
    p.add_argument("files", nargs=1, type=Path, metavar="JSON", help="what another subcommand has written")
    p.add_argument("--out", type=Path, required=True, metavar="JSON", help="the file to be written")
    p = commands.add_parser("report", help="a page and plots from the JSON of runs")
    p.add_argument("files", nargs="+", type=Path, metavar="JSON", help="what the other subcommands have written")
    p.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks/report.md"), help="default: runs/benchmarks/report.md"
    )
    p.add_argument("--figures", type=Path, help="folder of the plots; default: that of the page's name, beside it")
    p = commands.add_parser("show", help="all rows of a run, from its JSON")
    p.add_argument("files", nargs="+", type=Path, metavar="JSON", help="what the other subcommands have written")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a benchmark; 1 if something failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    p = parser()
    a = p.parse_args(arguments)
    if a.command in ("report", "show", "shorten"):
        for file in a.files:
            if not file.exists():
                p.error(f"{file} does not exist")
        if a.command == "show":
            for found in map(read, a.files):
                print(found.command, found.header(), found.table(), sep="\n\n", end="\n\n")
            return 0
        if a.command == "shorten":
            read(a.files[0]).shortened().write(a.out, derived=False)
            print("written:", a.out)
            return 0
        from . import page  # needs matplotlib

        print("written:", *page.write(a.files, a.out, a.figures))
        return 0
    if a.command in ("layer", "scaling"):
        layer.chosen_cases(p, a)  # before anything takes time
    some = calls.chosen(p, a) if a.command == "calls" else []
    names = recurrent.chosen(p, a) if a.command == "recurrent" else []
    budgets = {"calls": calls.FULL, "recurrent": recurrent.FULL}
    meter = layer.meter_for(p, a, budgets.get(a.command, layer.FULL))
    path = a.json or Path("runs/benchmarks") / f"{a.command}-{meter.device}.json"
    report = Report(
        a.command,
        shlex.join(["python", "-m", "benchmarks", *without_folders(arguments)]),
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine.describe(meter.device),
        layer.method(meter, a),
        [meter.copy()],
    )
    try:
        if a.command == "network":
            network.run(a, meter, report, path)
        elif a.command == "calls":
            calls.run(some, a, meter, report, path)
        elif a.command == "recurrent":
            recurrent.run(names, a, meter, report, path)
        else:
            layer.run(p, a, meter, report, path)
        report.copies.append(meter.copy())
    finally:
        report.write(path)
    print(report.header(), report.table(), f"written to {path}", sep="\n\n")
    return int(any(row.error for row in report.rows))

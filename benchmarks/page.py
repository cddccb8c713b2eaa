"""The subcommand `report`: a Markdown page with a few tables and plots, from the JSON of runs. The only part that needs
matplotlib (and Pillow, which comes with it)."""

from __future__ import annotations

import itertools
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from .cases import LEGEND, PASSES, Shape
from .contenders import BASELINE, CONTENDERS, GRAPH, OURS
from .report import Report, Row, read
from .summary import (
    CALLED,
    WIDTH,
    by_call,
    by_shape,
    called,
    compared,
    default,
    escape,
    is_graph,
    kernels,
    milliseconds,
    summary,
    wrapped,
)

COLOURS = {"ours": "#1f5fa8", "loop": "#8a8a8a", "other": "#d9822b", "limit": "#222222"}
SHADES = ("#8fb8e8", COLOURS["ours"], COLOURS["limit"])
"""Of shapes, the first one lightest."""
TEXT: Any = {"font.size": 15, "axes.spines.top": False, "axes.spines.right": False}
"""Readable on a phone, where a picture is as wide as the screen."""


def colour(name: str) -> str:
    own = name.removesuffix(GRAPH)
    return COLOURS["ours" if own.startswith(OURS) else "loop" if own in CONTENDERS else "other"]


def save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256)  # colours: a third of the bytes, and nobody sees it
    few.save(path, optimize=True)
    return path


def bars(reports: Sequence[Report], path: Path) -> list[Path]:
    """What everyone takes when called from Python, for the case that most others ran."""
    rows = [
        [row for _, row in group if called(row)]
        for group in compared([report for report in reports if report.kind == "layer"])
    ]
    most = max(rows, key=len, default=[])
    if len(most) < 3:
        return []
    most = sorted(most, key=lambda row: -(called(row) or 0.0))
    figure, axis = plt.subplots(figsize=(7.5, 1.6 + 0.48 * len(most)), layout="constrained")
    values = [1e3 * (called(row) or 0.0) for row in most]
    axis.barh(range(len(most)), values, color=[colour(row.implementation) for row in most])
    for k, value in enumerate(values):
        axis.text(1.15 * value, k, milliseconds(value / 1e3), va="center")
    axis.set_yticks(range(len(most)), [row.implementation for row in most])
    axis.set_xscale("log")
    axis.set_xlim(0.3 * min(values), 12 * max(values))
    axis.invert_yaxis()
    axis.set_xlabel("ms, less is better (log scale)")
    axis.set_title(f"{most[0].case}, {Shape(*most[0].shape)} (T x B x N)", fontsize=15)
    return [save(figure, path.with_name(f"{path.name}-others.png"))]


def scaling(reports: Sequence[Report], path: Path) -> list[Path]:
    """Time against T, B and N: ours, the plain loop, and what a copy of the fewest bytes takes."""
    written = []
    for report in reports:
        for case, dtype in dict.fromkeys((row.case, row.dtype) for row in report.rows if row.axis and row.median):
            rows = [r for r in report.rows if (r.case, r.dtype, r.pass_name) == (case, dtype, list(PASSES)[-1])]
            figure, axes = plt.subplots(3, 1, figsize=(7.5, 10), layout="constrained")
            for axis, name in zip(axes, "TBN", strict=True):
                draw_scaling(axis, report, [row for row in rows if row.axis == name], "TBN".index(name))
                axis.set_xlabel(f"{name} ({ {'T': 'time steps', 'B': 'batch', 'N': 'neurons'}[name] })")
                axis.set_ylabel("ms")
            axes[0].legend(fontsize=13, frameon=False, loc="best")
            axes[0].set_title(f"{case}, {dtype}, forward and backward", fontsize=15)
            written.append(save(figure, path.with_name(f"{path.name}-scaling-{case}-{dtype}.png")))
    return written


def draw_scaling(axis: Any, report: Report, rows: Sequence[Row], place: int) -> None:
    """`place`: of the axis in a shape."""
    sizes = sorted({row.shape[place] for row in rows})
    of_size = {size: [row for row in rows if row.shape[place] == size] for size in sizes}
    kernel = [default(some, True) or default(some, False) for some in of_size.values()]
    loop = [next((r for r in some if r.implementation == BASELINE), None) for some in of_size.values()]
    limit = [None if row is None else report.derived(row)["limit_ms"] for row in kernel]
    lines: list[tuple[str, str, list[float | None]]] = [
        ("plain loop, called", "loop", [None if row is None or not row.median else 1e3 * row.median for row in loop]),
        (
            "torch_lif, replayed" if any(row and is_graph(row) for row in kernel) else "torch_lif",
            "ours",
            [None if row is None or not row.median else 1e3 * row.median for row in kernel],
        ),
        ("a copy of as many bytes", "limit", limit),
    ]
    for label, shade, values in lines:
        points = [(size, value) for size, value in zip(sizes, values, strict=True) if value]
        if points:
            axis.plot(*zip(*points, strict=True), "--" if shade == "limit" else "o-", color=COLOURS[shade], label=label)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_yscale("log")
    axis.grid(alpha=0.3)


def dots(reports: Sequence[Report], path: Path) -> list[Path]:
    """How many times the headline call's time each call takes, the one that takes most on top. The headline calls
    themselves are left out."""
    rows = by_call([report for report in reports if report.kind == "calls"])
    shapes = list(dict.fromkeys(shape for of_shape in rows.values() for shape in of_shape))
    found: dict[str, dict[str, tuple[float, bool]]] = {}
    for (name, _), of_shape in rows.items():
        for shape, (report, row) in of_shape.items():
            ratio = report.derived(row).get("times_headline")
            if ratio and row.case_and_shape != row.beside:
                found.setdefault(name, {})[shape] = (ratio, bool(row.uncaptured))
    if not found:
        return []
    names = sorted(found, key=lambda name: -max(ratio for ratio, _ in found[name].values()))
    figure, axis = plt.subplots(figsize=(7.5, 1.8 + 0.29 * len(names)), layout="constrained")
    kinds = [(k, shape, alone) for k, shape in enumerate(shapes) for alone in (False, True)]
    for k, shape, alone in kinds:
        points = [
            (found[name][shape][0], place)
            for place, name in enumerate(names)
            if shape in found[name] and found[name][shape][1] == alone
        ]
        if points:
            shade = SHADES[k % len(SHADES)]
            axis.plot(
                *zip(*points, strict=True),
                "o",
                markersize=10 - 2.5 * min(k, 2),
                color=shade,
                markerfacecolor="white" if alone else shade,
                markeredgewidth=2,
                label=shape + CALLED * alone,
            )
    ratios = [ratio for of_shape in found.values() for ratio, _ in of_shape.values()]
    first, last = math.floor(math.log2(min(ratios))), math.ceil(math.log2(max(ratios)))
    step = 1 if last - first <= 7 else 2  # so that they do not touch
    ticks = [2.0**k for k in range(first, last + 1) if k % step == 0]
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.axvline(1, color=COLOURS["limit"], linewidth=1, zorder=0)
    axis.grid(alpha=0.3)
    axis.set_yticks(range(len(names)), names, fontsize=13)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("times the headline call (log scale)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=13, frameon=False, title="T x B x N")
    return [save(figure, path.with_name(f"{path.name}-calls.png"))]


AT = 0.05
"""Spikes per neuron-step where recurrent layers are drawn."""
MARKS = (("s", "loop", True), ("D", "other", True), ("D", "other", False), ("^", "limit", True), ("v", "limit", False))
"""Of those beside torch_lif, in their order: shape, colour, whether it is filled."""


def round_ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten round the values; with 2 and 5 of each if they are so near each other that all have room."""
    first, last = math.floor(math.log10(min(values, default=1))), math.ceil(math.log10(max(values, default=1)))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [factor * 10.0**k for k in range(first, last + 1) for factor in factors]
    return [tick for tick in ticks if 0.5 * min(values, default=1) <= tick <= 2 * max(values, default=1)]


def steps(reports: Sequence[Report], path: Path) -> list[Path]:
    """What a time step of a recurrent layer takes, for each shape, at the rate nearest to AT: ours, with the first
    surrogate, and the others."""
    reports = [report for report in reports if report.kind == "recurrent"]
    layers = by_shape(reports)
    rates = {rate for layer in layers.values() for rate in layer.ours}
    if not rates:
        return []
    rate = min(rates, key=lambda rate: abs(rate - AT))
    names = dict.fromkeys(row.implementation.removesuffix(GRAPH) for report in reports for row in report.rows)
    others = [name for name in names if name != OURS]
    marks = {OURS: ("o", "ours", True)} | dict(zip(others, itertools.cycle(MARKS), strict=False))
    first = next((row.surrogate for report in reports for row in report.rows if row.surrogate), "").partition("(")[0]
    rule = f" ({OURS}: {first})" if first else ""
    titles = [str(Shape(*shape)) for shape in layers]
    figure, axes = plt.subplots(2, 1, figsize=(7.5, 3.4 + 0.9 * len(titles)), layout="constrained")
    for axis, pass_name in zip(axes, PASSES, strict=True):
        for name, (shape, shade, filled) in marks.items():
            points = []
            for place, layer in enumerate(layers.values()):
                found = kernels(layer.ours.get(rate, {}) if name == OURS else layer.beside, name, pass_name)
                if found and found[1].median:
                    points.append((1e6 * found[1].median / found[1].shape[0], place))
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    shape,
                    markersize=12 if name == OURS else 9,
                    color=COLOURS[shade],
                    markerfacecolor=COLOURS[shade] if filled else "white",
                    markeredgewidth=2,
                    label=name,
                    zorder=3 if name == OURS else 2,
                )
        axis.set_xscale("log")
        ticks = round_ticks([value for line in axis.get_lines() for value in line.get_xdata()])
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.set_yticks(range(len(titles)), titles)
        axis.set_ylim(len(titles) - 0.5, -0.5)
        axis.set_title(pass_name.replace("+", " and ") + rule * (pass_name == list(PASSES)[-1]), fontsize=15)
    axes[-1].set_xlabel("us per time step, less is better (log scale)")
    figure.legend(
        *axes[-1].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=13,
        frameon=False,
        title=f"recurrent layers (T x B x N), {rate:.0%} spikes",
    )
    return [save(figure, path.with_name(f"{path.name}-recurrent.png"))]


PLOTS: list[tuple[Callable[[Sequence[Report], Path], list[Path]], str]] = [
    (bars, "Beside other implementations: one layer, forward and backward, called from Python"),
    (scaling, "Time against time steps, batch and neurons"),
    (steps, "A time step of a recurrent layer, beside the plain loop and PyTorch's recurrent layers"),
    (dots, "One layer, called in ordinary ways: times the headline call of the same neuron"),
]


def bullet(text: str) -> list[str]:
    return wrapped(escape(text), "- ", "  ")


def introduction(files: Sequence[Path], command: str, page: Path) -> list[str]:
    folders = {os.path.relpath(file.parent, page.parent).replace(os.sep, "/") for file in files}
    where = f" in [{folders.copy().pop()}/]({folders.pop()}/)" if len(folders) == 1 and folders != {"."} else ""
    return [
        "# Benchmarks",
        "",
        *wrapped(f"This page and its pictures were made from the JSON files of runs{where} by"),
        "",
        "```",
        command,
        "```",
        "",
        *wrapped(
            "The files hold every row that was measured: all shapes, dtypes, memory modes and libraries, with the "
            "machine, the versions, the date and the command. `python -m benchmarks show FILE` prints the rows of one. "
            "[Runs](#runs) lists them, and [How it was measured](#how-it-was-measured) says what the figures mean. "
            "T x B x N is time steps x batch x neurons."
        ),
        "",
    ]


def common_lines(reports: Sequence[Report]) -> list[str]:
    """What is said of how it was measured in more than one run, or in all."""
    count = Counter(line for report in reports for line in dict.fromkeys(report.method))
    return [line for line, n in count.items() if n > 1 or len(reports) == 1]


def how(reports: Sequence[Report]) -> list[str]:
    lines = ["## How it was measured", ""]
    for line in common_lines(reports):
        lines += bullet(line)
    formulas: dict[tuple[str, str, str], str] = {}
    for row in (row for report in reports for row in report.rows if row.formula):
        way = row.case if row.beside and row.case_and_shape != row.beside else ""
        formulas.setdefault((row.pass_name, row.mode, row.formula), way)
    if formulas:
        lines += bullet(f"fewest bytes, where {LEGEND}:")
        for (name, mode, formula), way in formulas.items():
            what = f"  - {name}{mode and f' ({mode})'}{way and f', such as {way}'}:"
            one_line = len(what) + len(formula) + 3 <= WIDTH
            lines += [f"{what} `{formula}`"] if one_line else [what, f"    `{formula}`"]
    remarks = dict.fromkeys(
        (row.implementation.removesuffix(GRAPH), row.remark)
        for report in reports
        for row in report.rows
        if row.remark and not row.implementation.startswith(OURS) and not row.implementation.endswith(GRAPH)
    )
    for name, remark in remarks:
        lines += bullet(f"{name}: {remark}")
    return [*lines, ""]


def run(report: Report, file: Path, page: Path, common: Sequence[str]) -> list[str]:
    """One run: where its rows are, how it was made, what has to be said of it."""
    link = os.path.relpath(file, page.parent).replace(os.sep, "/")
    head, copy = report.header().splitlines()[:2]
    lines = [f"### [{file.name}]({link})", "", *wrapped(escape(f"{head}; {len(report.rows)} rows.")), ""]
    lines += ["```", report.command, "```", ""]
    own = [line for line in report.method if line not in common]
    notes = [note for note in report.notes() if note.startswith(("failed: ", "not captured: ", "!: "))]
    for line in (copy, *own, *notes):
        lines += bullet(line)
    return [*lines, ""]


def write(files: Sequence[Path], out: Path, folder: Path | None = None) -> list[Path]:
    """Writes the page and its plots; returns their paths, the page first."""
    folder = folder or out.with_suffix("")
    reports = [read(file) for file in files]
    command = shlex.join(["python", "-m", "benchmarks", "report", *map(shown, files), "--out", shown(out)])
    lines, written = introduction(files, command, out), []
    with plt.rc_context(TEXT):
        for number, where in enumerate(dict.fromkeys(report.place for report in reports), 1):
            here = [report for report in reports if report.place == where]
            tables = summary(where, here) or [f"## {where}", ""]
            lines += tables
            for plot, text in PLOTS:
                for figure in plot(here, folder / f"{number}-{here[0].machine['device']}"):
                    link = os.path.relpath(figure, out.parent).replace(os.sep, "/")
                    lines += [f"![{text}]({link})", "", *wrapped(f"{text}. {where}."), ""]
                    written.append(figure)
    lines += how(reports)
    common = common_lines(reports)
    lines += ["## Runs", ""]
    for file, report in zip(files, reports, strict=True):
        lines += run(report, file, out, common)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines).rstrip("\n") + "\n")
    return [out, *written]


def shown(path: Path) -> str:
    """A path as the page shows it: what lies elsewhere on this machine is nobody's business."""
    relative = os.path.relpath(path)
    return path.name if relative.startswith("..") else relative.replace(os.sep, "/")

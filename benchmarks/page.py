"""The subcommand `report`: a Markdown page with plots, from the JSON of runs. The only part that needs matplotlib."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from .cases import Shape
from .contenders import BASELINE, CONTENDERS, GRAPH, OURS
from .report import COLUMNS, Report, Row, read
from .summary import is_graph, is_ours, summary, times

COLOURS = {"ours": ("#1f5fa8", "#7fb0e0"), BASELINE: ("#7a7a7a", "#b8b8b8"), "other": ("#d9822b", "#efbf8f")}
"""Of calls, and of replays."""
MAX_SHAPES = 4
"""Bars are drawn for so many shapes of a case: those of the first dtype, then those with the most neuron-steps."""


def colour(name: str) -> str:
    owner = "ours" if name.startswith(OURS) else BASELINE if name.removesuffix(GRAPH) in CONTENDERS else "other"
    return COLOURS[owner][name.endswith(GRAPH)]


def place(report: Report) -> str:
    machine = report.machine
    if "gpu" in machine:
        return str(machine["gpu"])
    return f"{machine['processor']}, {machine['threads']} threads, {machine['instruction_set']}"


def citation(report: Report) -> str:
    """Machine, versions, date and command line: what a figure needs to be cited."""
    versions = report.machine["versions"]
    cuda = f", CUDA {versions['cuda']}" if "gpu" in report.machine else ""
    text = f"{place(report)}; torch_lif {versions['torch_lif']}, PyTorch {versions['torch']}{cuda}; {report.date}; {report.command}"
    return "\n".join(textwrap.wrap(text, 150))


def save(figure: Any, report: Report, path: Path, title: str) -> Path:
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(citation(report), fontsize=6.5, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def timed(report: Report) -> list[Row]:
    return [row for row in report.rows if row.median]


def drawn(report: Report) -> list[Row]:
    """What was timed, without the memory mode that ours chooses by itself: the same call again."""
    chosen = {(row.group, is_graph(row)): row.mode for row in timed(report) if row.implementation in (OURS, OURS + GRAPH)}

    def again(row: Row) -> bool:
        asked = is_ours(row) and row.implementation not in (OURS, OURS + GRAPH)
        return asked and row.mode == chosen.get((row.group, is_graph(row)))

    return [row for row in timed(report) if not again(row)]


def bars(report: Report, path: Path) -> list[Path]:
    """For each case and pass, milliseconds of everyone, side by side on a log axis; one file a case."""
    written = []
    for case in dict.fromkeys(row.case for row in timed(report)):
        rows = [row for row in drawn(report) if row.case == case]
        groups = list(dict.fromkeys((row.dtype, row.shape) for row in rows))
        first = groups[0][0]
        groups = sorted(groups, key=lambda group: (group[0] != first, -math.prod(group[1])))[:MAX_SHAPES]
        passes = list(dict.fromkeys(row.pass_name for row in rows))
        most = max(len([r for r in rows if (r.dtype, r.shape) == g and r.pass_name == p]) for g in groups for p in passes)
        size = (1.0 + 6.5 * len(passes), 1.4 + len(groups) * (0.7 + 0.24 * most))
        figure, axes = plt.subplots(len(groups), len(passes), figsize=size, squeeze=False, layout="constrained")
        for line, (dtype, shape) in zip(axes, groups, strict=True):
            for axis, pass_name in zip(line, passes, strict=True):
                some = [r for r in rows if (r.dtype, r.shape, r.pass_name) == (dtype, shape, pass_name)]
                draw_bars(axis, report, some)
                axis.set_title(f"{Shape(*shape)} (T x B x N) {dtype}, {pass_name}", fontsize=9)
        name = "".join(c if c.isalnum() or c == "-" else "_" for c in case)
        written.append(
            save(
                figure,
                report,
                path.with_name(f"{path.name}-bars-{name}.png"),
                f"{case}: time of a call, less is better (light: replay of a CUDA graph; !: disturbed by other processes)",
            )
        )
    return written


def bar_label(row: Row) -> str:
    """With what ours keeps, which its default does not say."""
    return f"{row.implementation} [{row.mode}]" if row.mode and row.mode not in row.implementation else row.implementation


def draw_bars(axis: Any, report: Report, rows: Sequence[Row]) -> None:
    rows = sorted(rows, key=lambda row: -(row.median or 0.0))
    if not rows:
        axis.set_axis_off()
        return
    values = [1e3 * (row.median or 0.0) for row in rows]
    spread = [[max(v - 1e3 * r.quartiles[0], 0.0) for v, r in zip(values, rows, strict=True)]]
    spread.append([max(1e3 * r.quartiles[1] - v, 0.0) for v, r in zip(values, rows, strict=True)])
    axis.barh(range(len(rows)), values, xerr=spread, color=[colour(r.implementation) for r in rows], error_kw={"lw": 0.8})
    axis.set_yticks(range(len(rows)), [bar_label(r) for r in rows], fontsize=7)
    axis.set_xscale("log")
    low, high = min(values) / 2, max(1e3 * row.quartiles[1] for row in rows)
    axis.set_xlim(low, high * 2 * (high / low) ** 0.4)  # room for the text behind the longest bar
    for k, (value, row) in enumerate(zip(values, rows, strict=True)):
        text = f" {value:.3g} ms" if value < 1000 else f" {value:.0f} ms"
        baseline = report.baseline(row)
        if baseline is not None and baseline is not row and baseline.median and row.median:
            text += f", {times(baseline.median / row.median)} {BASELINE}"
        if report.derived(row)["disturbed"]:
            text += " !"
        axis.text(1e3 * row.quartiles[1], k, text, va="center", fontsize=6.5)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("ms", fontsize=7)


def roofline(report: Report, path: Path) -> list[Path]:
    """Fraction of the copy bandwidth that ours reach, by case and shape."""
    rows = [row for row in drawn(report) if row.bytes_moved and is_ours(row)]
    if not rows:
        return []
    passes = list(dict.fromkeys(row.pass_name for row in rows))
    cases = list(dict.fromkeys(row.case for row in rows))
    labels = sorted(dict.fromkeys((row.case, row.shape, row.dtype) for row in rows), key=lambda label: cases.index(label[0]))
    names = list(dict.fromkeys(row.implementation for row in rows))
    figure, axes = plt.subplots(
        1, len(passes), figsize=(1.5 + 6 * len(passes), 2.2 + 0.32 * len(labels)), squeeze=False, layout="constrained", sharey=True
    )
    for axis, pass_name in zip(axes[0], passes, strict=True):
        for name in names:
            some = [row for row in rows if row.implementation == name and row.pass_name == pass_name]
            if some:
                mark, shade = style(report, name)
                x = [report.derived(row)["copy_fraction"] for row in some]
                y = [labels.index((row.case, row.shape, row.dtype)) for row in some]
                axis.plot(x, y, mark, color=shade, label=name, ms=5, alpha=0.8)
        axis.axvline(1.0, color="k", lw=1)
        axis.set_xlim(0, max(1.15, 1.05 * axis.dataLim.x1))
        axis.grid(alpha=0.3)
        axis.set_xlabel("bytes moved at least / time / copy bandwidth", fontsize=8)
        axis.set_title(pass_name, fontsize=9)
    axes[0][0].set_yticks(range(len(labels)), [f"{case} {Shape(*shape)} {dtype}" for case, shape, dtype in labels], fontsize=7)
    axes[0][0].invert_yaxis()
    figure.legend(*axes[0][-1].get_legend_handles_labels(), fontsize=7, loc="outside right upper")
    title = f"Fraction of the copy bandwidth ({report.copy.bandwidth / 1e9:.4g} GB/s read + written); the line is the limit"
    return [save(figure, report, path.with_name(f"{path.name}-roofline.png"), title)]


def scaling(report: Report, path: Path) -> list[Path]:
    """Time against T, B and N on log axes; dashed, what a copy of the fewest bytes takes."""
    written = []
    for case, dtype in dict.fromkeys((row.case, row.dtype) for row in timed(report)):
        rows = [row for row in timed(report) if (row.case, row.dtype) == (case, dtype)]
        passes = list(dict.fromkeys(row.pass_name for row in rows))
        axes_names = list(dict.fromkeys(row.axis for row in rows))
        size = (1 + 4.2 * len(axes_names), 1.5 + 3.4 * len(passes))
        figure, grid = plt.subplots(len(passes), len(axes_names), figsize=size, squeeze=False, layout="constrained")
        for line, pass_name in zip(grid, passes, strict=True):
            for axis, name in zip(line, axes_names, strict=True):
                some = [row for row in rows if row.pass_name == pass_name and row.axis == name]
                draw_scaling(axis, report, some, "TBN".index(name))
                others = ", ".join(f"{n} {s}" for n, s in zip("TBN", some[0].shape, strict=True) if n != name) if some else ""
                axis.set_title(f"{pass_name}, {others}", fontsize=9)
                axis.set_xlabel(name, fontsize=8)
                axis.set_ylabel("ms", fontsize=8)
        # Of the last row of plots, in which there is everyone: memory modes differ in the backward only.
        figure.legend(*grid[-1][0].get_legend_handles_labels(), fontsize=7, loc="outside right upper")
        name = f"{path.name}-scaling-{case}-{dtype}.png"
        written.append(save(figure, report, path.with_name(name), f"{case}, {dtype}: time of a call against T, B and N"))
    return written


def style(report: Report, name: str) -> tuple[str, Any]:
    """Mark and colour of a contender, the same in all plots of a run."""
    place = list(dict.fromkeys(row.implementation for row in report.rows)).index(name)
    return "osD^vP*X<>"[place % 10], f"C{place % 10}"


def draw_scaling(axis: Any, report: Report, rows: Sequence[Row], place: int) -> None:
    for name in dict.fromkeys(row.implementation for row in rows):
        mark, shade = style(report, name)
        some = sorted((row for row in rows if row.implementation == name), key=lambda row: row.shape[place])
        x = [row.shape[place] for row in some]
        axis.plot(x, [1e3 * (row.median or 0.0) for row in some], mark + "-", color=shade, label=name, ms=4, lw=1)
        if name.startswith(OURS) and not name.endswith(GRAPH):
            limit = [report.derived(row)["limit_ms"] for row in some]
            axis.plot(x, limit, "--", color=shade, lw=0.9, label="its limit: a copy of as many bytes" if name == OURS else None)
    sizes = sorted({row.shape[place] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_yscale("log")
    axis.grid(alpha=0.3, which="both")
    axis.tick_params(labelsize=7)


PLOTS: dict[str, list[Callable[[Report, Path], list[Path]]]] = {
    "layer": [bars, roofline],
    "network": [bars],
    "scaling": [scaling],
}
TITLES = {
    "layer": "Neurons alone",
    "network": "A training step of a network",
    "scaling": "Cost against time steps, batch and neurons",
}


def escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(report: Report) -> list[str]:
    columns = report.cells()
    rule = ["---" if COLUMNS[column[0]][0] else "---:" for column in columns]
    lines = [list(line) for line in zip(*columns, strict=True)]
    return ["| " + " | ".join(map(escape, line)) + " |" for line in [lines[0], rule, *lines[1:]]]


def section(report: Report, figures: Sequence[Path], page: Path) -> list[str]:
    """One run: how it was made, its plots, its table, its notes."""
    head, *details = report.header().splitlines()
    lines = [f"## {TITLES.get(report.kind, report.kind)}: {place(report)}", "", escape(head), "", "```", report.command, "```", ""]
    lines += [f"- {escape(line.strip())}" for line in details] + [""]
    for figure in figures:
        link = os.path.relpath(figure, page.parent).replace(os.sep, "/")
        lines += [f"![{figure.stem}]({link})", ""]
    folded = ["<details><summary>All rows</summary>", "", *table(report), "", "</details>", ""]
    lines += folded if report.rows else ["No rows.", ""]
    notes = [f"- {escape(note)}" for note in report.notes()]
    return [*lines, *notes, ""] if notes else lines


def write(files: Sequence[Path], out: Path, folder: Path | None = None) -> list[Path]:
    """Writes the page and its plots; returns their paths, the page first."""
    folder = folder or out.with_name(f"{out.stem}-figures")
    reports = [read(file) for file in files]
    lines, written = ["# Benchmarks", "", "Written by `python -m benchmarks report`; every section is one run.", ""], []
    for where in dict.fromkeys(map(place, reports)):
        lines += summary(where, [report for report in reports if place(report) == where])
    for number, report in enumerate(reports, 1):
        stem = folder / f"{number}-{report.kind}-{report.machine['device']}"
        figures = [path for plot in PLOTS.get(report.kind, []) if timed(report) for path in plot(report, stem)]
        written += figures
        lines += section(report, figures, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines))
    return [out, *written]

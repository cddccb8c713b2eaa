"""The head of a page: for each machine, our fraction of the copy bandwidth and our speed-up over the strongest other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .cases import Shape
from .contenders import BASELINE, GRAPH, OURS
from .report import Report, Row

Lines = list[list[str]]
Group = tuple[object, ...]
Cell = Callable[[Report, Sequence[Row]], str]
"""What stands in a table for the rows of one group."""


def is_graph(row: Row) -> bool:
    return row.implementation.endswith(GRAPH)


def is_ours(row: Row) -> bool:
    return row.implementation.startswith(OURS)


def default(rows: Iterable[Row], graph: bool) -> Row | None:
    """Ours as it is when nobody asks for a memory mode."""
    name = OURS + GRAPH if graph else OURS
    return next((row for row in rows if row.implementation == name and row.median), None)


def strongest(rows: Iterable[Row], graph: bool) -> Row | None:
    """The fastest that is not ours, called or replayed."""
    others = [row for row in rows if not is_ours(row) and is_graph(row) == graph and row.median]
    return min(others, key=lambda row: row.median or 0.0, default=None)


def fraction(report: Report, rows: Sequence[Row]) -> str:
    """Of kernel time where there is a replay, then of a call's."""
    found = [one and report.derived(one)["copy_fraction"] for one in (default(rows, True), default(rows, False))]
    texts = [f"{value:.0%}" for value in found if value is not None]
    return texts[0] + "".join(f" ({text})" for text in texts[1:]) if texts else "-"


def times(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x"


def speed_up(report: Report, rows: Sequence[Row]) -> str:
    """Over the strongest, calls with calls; in brackets, replays with replays."""
    parts = []
    for graph in (False, True):
        ours, other = default(rows, graph), strongest(rows, graph)
        if ours and other and ours.median and other.median:
            figure = times(other.median / ours.median)
            parts.append(f"({figure})" if graph else f"{figure} {other.implementation}")
    return " ".join(parts) or "-"


def keeps(cells: Iterable[tuple[Report, list[Row]]]) -> str:
    """The memory modes that were chosen."""
    found = [one.mode for _, rows in cells if (one := default(rows, False) or default(rows, True)) and one.mode]
    return ", ".join(dict.fromkeys(found)) or "-"


def grid(reports: Sequence[Report], cell: Cell) -> Lines:
    """A line for each case, dtype and pass; a column for each shape, the smallest first. Lines without any figure are left out."""
    groups: dict[Group, dict[tuple[int, ...], tuple[Report, list[Row]]]] = {}
    for report in reports:
        for row in report.rows:
            of_shape = groups.setdefault((row.case, row.dtype, row.pass_name), {})
            if row.shape not in of_shape or of_shape[row.shape][0] is not report:
                of_shape[row.shape] = (report, [])  # a later run takes the place of an earlier
            of_shape[row.shape][1].append(row)
    shapes = sorted({shape for of_shape in groups.values() for shape in of_shape}, key=lambda s: (s[0] * s[1] * s[2], s))
    lines = [["case", "dtype", "pass", "keeps", *(str(Shape(*shape)) for shape in shapes)]]
    cases = list(dict.fromkeys(case for case, *_ in groups))
    for group, of_shape in sorted(groups.items(), key=lambda item: cases.index(item[0][0])):
        cells = [cell(*of_shape[shape]) if shape in of_shape else "-" for shape in shapes]
        if any(text != "-" for text in cells):
            lines.append([*map(str, group), keeps(of_shape.values()), *cells])
    return lines


def network(reports: Sequence[Report]) -> Lines:
    """A line for each network: milliseconds of everyone, and our speed-up over the loop."""
    lines = []
    names = list(dict.fromkeys(row.implementation for report in reports for row in report.rows))
    for report in reports:
        for case, shape in dict.fromkeys((row.case, row.shape) for row in report.rows):
            rows = {row.implementation: row for row in report.rows if (row.case, row.shape) == (case, shape)}
            found = {name: 1e3 * row.median for name, row in rows.items() if row.median}
            speed = times(found[BASELINE] / found[OURS]) if BASELINE in found and OURS in found else "-"
            lines.append([case, str(Shape(*shape)), *(f"{found[name]:.1f}" if name in found else "-" for name in names), speed])
    return [["network", "T x B x N", *(f"{name} ms" for name in names), "speed-up"], *lines]


def table(lines: Lines, left: int) -> list[str]:
    """As Markdown; the first `left` columns are aligned to the left."""
    rule = ["---" if k < left else "---:" for k in range(len(lines[0]))]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in [lines[0], rule, *lines[1:]]]


def summary(place: str, reports: Sequence[Report]) -> list[str]:
    """The head of a page for one machine; [] if there is nothing to sum up."""
    layers = [report for report in reports if report.kind == "layer"]
    networks = [report for report in reports if report.kind == "network"]
    replayed = any(is_graph(row) for report in layers for row in report.rows)
    lines = [f"## In short: {place}", ""]
    for title, cell, note in (
        (
            "Fraction of the copy bandwidth",
            fraction,
            "Fewest bytes that the pass moves, over its time, over what a copy of large arrays reaches"
            + ("; time of the kernels (in brackets: of a call, with the host's time)." if replayed else "."),
        ),
        (
            "Speed-up over the strongest other",
            speed_up,
            f"Over the fastest of all others that ran: other libraries, the plain loop ({BASELINE}), the loop compiled"
            + ("; in brackets, over the fastest that is replayed as a CUDA graph, as is ours." if replayed else "."),
        ),
    ):
        found = grid(layers, cell)
        if len(found) > 1:
            lines += [f"### {title}", "", note, "", *table(found, 4), ""]
    if networks and any(report.rows for report in networks):
        lines += ["### A training step of a network", "", *table(network(networks), 2), ""]
    failed = sum(bool(row.error) for report in reports for row in report.rows)
    lines += [f"{failed} rows failed: see the notes of their sections.", ""] if failed else []
    return lines if len(lines) > 2 else []

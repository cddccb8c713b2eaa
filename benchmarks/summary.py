"""The tables of a page: what a layer takes on one machine, beside others, and what recurrent layers
and a network's training step take."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .cases import PASSES, Shape
from .contenders import BASELINE, GRAPH, OURS, RNN, TF32
from .report import Report, Row, show

WIDTH = 100
"""Columns of the page's prose."""
Table = list[list[str]]
"""Lines of cells, the first of them the titles."""


def is_graph(row: Row) -> bool:
    return row.implementation.endswith(GRAPH)


def is_ours(row: Row) -> bool:
    return row.implementation.startswith(OURS)


def default(rows: Iterable[Row], graph: bool) -> Row | None:
    """Ours as it is when nobody asks for a memory mode."""
    name = OURS + GRAPH if graph else OURS
    return next((row for row in rows if row.implementation == name and row.median), None)


def milliseconds(seconds: float) -> str:
    """Three digits, without an exponent."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}" if value >= 1 else f"{value:.3f}"


def times(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x"


def called(row: Row) -> float | None:
    """Seconds of a call from Python: among others in a row where that was timed, otherwise alone."""
    return None if row.error or is_graph(row) else row.back_to_back or row.median


def layers(reports: Sequence[Report], pass_name: str) -> Table:
    """A line for each case, surrogate and dtype; a column for each shape, the smallest first. A cell has the time of
    ours as it is by default, and its fraction of the copy bandwidth; of a replay where there is one."""
    found: dict[tuple[str, str, str], dict[tuple[int, ...], tuple[Row, str]]] = {}
    for report in reports:
        for group in dict.fromkeys(row.group for row in report.rows if row.pass_name == pass_name):
            rows = [row for row in report.rows if row.group == group]
            row = default(rows, True) or default(rows, False)
            if row is None or row.median is None:
                continue
            part = report.derived(row)["copy_fraction"]
            text = milliseconds(row.median) + ("" if part is None else f" ({part:.0%})")
            surrogate = "" if pass_name == "forward" else row.surrogate  # which a forward does not use
            found.setdefault((row.case, surrogate, row.dtype), {})[row.shape] = (row, text)
    shapes = sorted({shape for cells in found.values() for shape in cells}, key=lambda s: (s[0] * s[1] * s[2], s))
    cases = list(dict.fromkeys(case for case, *_ in found))
    lines = [["neuron", "surrogate", "dtype", "keeps", *(str(Shape(*shape)) for shape in shapes)]]
    for key in sorted(found, key=lambda key: cases.index(key[0])):
        modes = dict.fromkeys(row.mode for row, _ in found[key].values() if row.mode)
        cells = [found[key][shape][1] if shape in found[key] else "-" for shape in shapes]
        lines.append([*(text or "-" for text in key), ", ".join(modes) or "-", *cells])
    return lines


def compared(reports: Sequence[Report]) -> list[list[tuple[Report, Row]]]:
    """For each case that others ran too, the rows of its last pass in the first dtype, at the shape where most took
    part."""
    found: dict[str, dict[tuple[object, ...], list[tuple[Report, Row]]]] = {}
    last = list(PASSES)[-1]
    for report in reports:
        for row in report.rows:
            if row.pass_name == last and (not is_ours(row) or row.implementation in (OURS, OURS + GRAPH)):
                found.setdefault(row.case, {}).setdefault((report.date, *row.group), []).append((report, row))
    most = [max(groups.values(), key=len) for groups in found.values()]
    return [rows for rows in most if any(not is_ours(row) for _, row in rows)]


def others(reports: Sequence[Report]) -> Table:
    """A line for each implementation: what it takes called from Python, replayed, and called beside ours."""
    lines = [["neuron", "T x B x N", "by", "called, ms", "replayed, ms", "beside ours"]]
    for rows in compared(reports):
        of = {row.implementation: row for _, row in rows}
        ours = called(of[OURS]) if OURS in of else None
        for name in dict.fromkeys(name.removesuffix(GRAPH) for name in of):
            row, replayed = of.get(name), of.get(name + GRAPH)
            one = row or replayed
            assert one is not None
            time = called(row) if row else None
            lines.append(
                [
                    one.case,
                    str(Shape(*one.shape)),
                    name,
                    "failed" if row and row.error else milliseconds(time) if time else "-",
                    milliseconds(replayed.median) if replayed and replayed.median else "-",
                    times(time / ours) if time and ours and name != OURS else "-",
                ]
            )
    return lines


def networks(reports: Sequence[Report]) -> Table:
    """A line for each network: milliseconds of everyone, and our speed-up over the loop."""
    lines = []
    names = list(dict.fromkeys(row.implementation for report in reports for row in report.rows))
    for report in reports:
        for case, shape in dict.fromkeys((row.case, row.shape) for row in report.rows):
            rows = {row.implementation: row for row in report.rows if (row.case, row.shape) == (case, shape)}
            found = {name: row.median for name, row in rows.items() if row.median}
            speed = times(found[BASELINE] / found[OURS]) if BASELINE in found and OURS in found else "-"
            cells = [milliseconds(found[name]) if name in found else "-" for name in names]
            lines.append([case, str(Shape(*shape)), *cells, speed])
    return [["network", "T x B x N", *(f"{name}, ms" for name in names), "speed-up"], *lines]


def by_call(reports: Sequence[Report]) -> dict[tuple[str, str], dict[str, tuple[Report, Row]]]:
    """The rows of each call, by its name and what it is in words; within a call by the shape of the headline call that
    it is measured beside. Of two runs of one shape the later one given counts."""
    found: dict[tuple[str, str], dict[str, tuple[Report, Row]]] = {}
    for report in reports:
        for row in report.rows:
            found.setdefault((row.case, row.remark), {})[row.beside.partition(" ")[2]] = (report, row)
    return found


CALLED = " (called)"
"""Behind a time of a call that no CUDA graph could hold, where others' is a replay."""


def calls(reports: Sequence[Report]) -> Table:
    """A line for each call; for each shape of the runs its time, the fraction of the copy bandwidth, and the time over
    the headline call's; last, what modules take called from Python, at the first shape where that is known."""
    found = by_call(reports)
    shapes = list(dict.fromkeys(shape for rows in found.values() for shape in rows))
    titles = [title for shape in shapes for title in (f"{shape}, ms", "of copy", "times headline")]
    lines = [["call", "what it is", *titles, "from Python, ms", "times module"]]
    for (name, what), rows in found.items():
        cells, python = [], ["-", "-"]
        for shape in shapes:
            if shape not in rows:
                cells += ["-"] * 3
                continue
            report, row = rows[shape]
            of = report.derived(row)
            time = "failed" if row.median is None else milliseconds(row.median) + CALLED * bool(row.uncaptured)
            cells += [time, show(of["copy_fraction"], ".0%"), show(of.get("times_headline"), ".2f")]
            if row.back_to_back and python[0] == "-":
                python = [milliseconds(row.back_to_back), show(of.get("times_module"), ".2f")]
        lines.append([name, what, *cells, *python])
    return lines


def about_calls(reports: Sequence[Report]) -> list[str]:
    """What the columns of `calls` mean."""
    rows = [row for report in reports for row in report.rows]
    clock = "replay of a CUDA graph" if "gpu" in reports[0].machine else "called from Python"
    text = (
        f"ms: forward and backward, {clock}; the columns name T x B x N. Of copy: the fraction of the copy bandwidth, "
        "by the fewest bytes that this very call must move. Times headline: the time over that of the headline call of "
        "the same neuron, which has the size of the column even where the call has another, and is in float32."
    )
    if any(row.back_to_back for row in rows):
        text += " From Python: with the host's time, at the first size; times module: over torch_lif's own module."
    uncaptured = dict.fromkeys(row.case for row in rows if row.uncaptured and row.median)
    if uncaptured:
        text += f" No CUDA graph could hold what is marked{CALLED}, so that its time has the host's in it: "
        text += f"{', '.join(uncaptured)}."
    return wrapped(text)


class Layer(NamedTuple):
    """What the runs of `recurrent` found at one shape: `ours` by the rate that was asked for, what is `beside` whatever
    the rate; each by implementation, pass and surrogate."""

    ours: dict[float, dict[tuple[str, str, str], tuple[Report, Row]]]
    beside: dict[tuple[str, str, str], tuple[Report, Row]]


def by_shape(reports: Sequence[Report]) -> dict[tuple[int, ...], Layer]:
    """Of two runs of the same the later one given counts."""
    found: dict[tuple[int, ...], Layer] = {}
    for report in reports:
        for row in report.rows:
            layer = found.setdefault(row.shape, Layer({}, {}))
            rows = layer.beside if row.rate_asked is None else layer.ours.setdefault(row.rate_asked, {})
            rows[row.implementation, row.pass_name, row.surrogate] = (report, row)
    return found


def kernels(
    rows: Mapping[tuple[str, str, str], tuple[Report, Row]], name: str, pass_name: str, surrogate: str | None = None
) -> tuple[Report, Row] | None:
    """A replay where there is one, otherwise a call; either may have failed. surrogate: None: the first one."""
    for one in (name + GRAPH, name):
        for (by, of_pass, own), found in rows.items():
            if (by, of_pass) == (one, pass_name) and surrogate in (None, own):
                return found
    return None


def recurrent(reports: Sequence[Report]) -> Table:
    """A line for each shape and rate. Ours has a column for the forward and one for each surrogate, the others have one
    each, with both passes; last, what a call from Python takes where the other times are of replays."""
    layers = by_shape(reports)
    rows = [row for report in reports for row in report.rows]
    surrogates = list(dict.fromkeys(row.surrogate for row in rows if row.rate_asked is not None and row.surrogate))
    names = list(dict.fromkeys(row.implementation for row in rows if row.rate_asked is None and not is_graph(row)))
    replayed = any(is_graph(row) for row in rows)
    compared = next((name for name in (RNN + TF32, RNN) if name in names), RNN)

    def cell(found: tuple[Report, Row] | None, step: bool = False) -> str:
        if found is None:
            return "-"
        report, row = found
        if not row.median:
            return "failed"
        us = report.derived(row).get("us_per_step") if step else None
        per_step = f" ({milliseconds(us / 1e3)})" if us else ""  # us, in as many digits
        return milliseconds(row.median) + per_step + CALLED * bool(row.uncaptured)

    def pair(cells: Sequence[str]) -> str:
        return "-" if set(cells) == {"-"} else " / ".join(cells)

    def ratio(found: tuple[Report, Row] | None) -> str:
        return show(found[0].derived(found[1]).get("times_rnn") if found else None, ".2f")

    def host(rows: Mapping[tuple[str, str, str], tuple[Report, Row]], name: str) -> str:
        found = [[called(row) for key, (_, row) in rows.items() if key[:2] == (name, one)][:1] for one in PASSES]
        times = [milliseconds(one[0]) if one and one[0] else "-" for one in found]
        return pair(times) if replayed else "-"

    trained = [f"{OURS} {surrogate.partition('(')[0]}" for surrogate in surrogates]
    host_titles = [f"{name}, called" for name in (OURS, compared)]
    lines = [["T x B x N", "rate", f"{OURS} forward", *trained, f"times {compared}", *names, *host_titles]]
    forward, both = PASSES
    for shape, layer in layers.items():
        beside = layer.beside
        others = [pair([cell(kernels(beside, name, one)) for one in PASSES]) for name in names]
        for ours in [layer.ours[rate] for rate in sorted(layer.ours)] or [{}]:
            rates = [row.spike_rate for _, row in ours.values() if row.spike_rate is not None]
            own = [cell(kernels(ours, OURS, forward), step=True)]
            own += [cell(kernels(ours, OURS, both, s), step=True) for s in surrogates]
            over = pair([ratio(kernels(ours, OURS, one)) for one in PASSES])
            last = [host(ours, OURS), host(beside, compared)]
            lines.append([str(Shape(*shape)), show(rates[0] if rates else None, ".1%"), *own, over, *others, *last])
    return lines


def about_recurrent(reports: Sequence[Report]) -> list[str]:
    """What the columns of `recurrent` mean."""
    replayed = any(is_graph(row) for report in reports for row in report.rows)
    first = next((row.surrogate for report in reports for row in report.rows if row.surrogate), "")
    text = (
        f"ms, {'replay of a CUDA graph' if replayed else 'called from Python'}. Rate: the share of neuron-steps with "
        f"a spike. {OURS}: in brackets, us per time step; its forward does not depend on the surrogate, and a "
        "surrogate's column is forward and backward, with the gradients of x and w_rec. Where there are two figures "
        f"the second one is forward and backward, of {OURS} with {first.partition('(')[0] or 'no surrogate'}. The time "
        "of the others does not depend on the rate: it was measured once a shape. nn.RNN (of ReLU) and nn.LSTM are "
        "other networks of the same size; their time includes the product of the input with W_ih."
    )
    if any(row.uncaptured for report in reports for row in report.rows):
        text += f" No CUDA graph could hold what is marked{CALLED}, so that its time has the host's in it."
    return wrapped(text)


def wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def escape(text: str) -> str:
    """For a Markdown table or paragraph."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def markdown(lines: Table, left: int) -> list[str]:
    """The first `left` columns are aligned to the left. A column that says nothing is left out."""
    used = [k for k in range(len(lines[0])) if len(lines) == 1 or any(line[k] != "-" for line in lines[1:])]
    rule = ["---" if k < left else "---:" for k in range(len(lines[0]))]
    return ["| " + " | ".join(escape(line[k]) for k in used) + " |" for line in [lines[0], rule, *lines[1:]]]


def summary(place: str, reports: Sequence[Report]) -> list[str]:
    """The tables of one machine; [] if there is nothing to show."""
    of_layers = [report for report in reports if report.kind == "layer"]
    replayed = any(is_graph(row) for report in of_layers for row in report.rows)
    lines = [f"## {place}", ""]
    clock = "kernel time of torch_lif (replay of a CUDA graph)" if replayed else "time of torch_lif"
    for pass_name in reversed(PASSES):
        table = layers(of_layers, pass_name)
        if len(table) > 1:
            lines += [f"### One layer, {pass_name.replace('+', ' and ')}", ""]
            lines += [f"ms, {clock}; in brackets, fraction of the copy bandwidth.", "", *markdown(table, 4), ""]
    table = others(of_layers)
    if len(table) > 1:
        lines += ["### Beside other implementations", "", f"{list(PASSES)[-1].replace('+', ' and ').capitalize()}.", ""]
        lines += [*markdown(table, 3), ""]
    of_calls = [report for report in reports if report.kind == "calls" and report.rows]
    if of_calls:
        lines += ["### One layer, called in ordinary ways", "", *markdown(calls(of_calls), 2), ""]
        lines += [*about_calls(of_calls), ""]
    of_recurrent = [report for report in reports if report.kind == "recurrent" and report.rows]
    if of_recurrent:
        lines += ["### Recurrent layers", "", *markdown(recurrent(of_recurrent), 1), ""]
        lines += [*about_recurrent(of_recurrent), ""]
    of_networks = [report for report in reports if report.kind == "network" and report.rows]
    if of_networks:
        lines += ["### A training step of a network", "", *markdown(networks(of_networks), 2), ""]
    return lines if len(lines) > 2 else []

"""What a run found: rows and all that is needed to cite them, as a table and as JSON. page.py makes pages and plots of
it."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .cases import LEGEND, MODULE, Shape
from .contenders import BASELINE, GRAPH, RNN, TF32
from .measure import Copy, Measurement


@dataclasses.dataclass
class Row:
    """One implementation's pass over one shape.

    mode: the memory mode, "" if it has none. surrogate: of the case, "" if it does not spike. axis: that of the sweep
    which the row belongs to. remark: what is not the same work as the baseline's. check: what the results were held to.
    error: why it failed, "" if it did not. bytes_moved: 0 if no fewest number of bytes is known. floor: seconds that
    the same pass of x * 2 takes when called in a row, which is what PyTorch takes of the host for any op. beside: in
    `calls`, case and shape of the headline call that the row is measured beside; the remark then says how the call
    differs from it. uncaptured: in `calls` and `recurrent`, why no CUDA graph holds the call, "" if one does.
    rate_asked: in `recurrent`, the spikes per neuron-step that the input was made for; None if it does not matter. The
    last five are a `Measurement`'s.
    """

    case: str
    implementation: str
    pass_name: str
    shape: tuple[int, ...]
    dtype: str
    formula: str
    bytes_moved: int
    mode: str = ""
    surrogate: str = ""
    axis: str = ""
    remark: str = ""
    spike_rate: float | None = None
    check: str = ""
    error: str = ""
    floor: float | None = None
    beside: str = ""
    uncaptured: str = ""
    rate_asked: float | None = None
    samples: list[float] = dataclasses.field(default_factory=list)
    peak: int | None = None
    back_to_back: float | None = None
    faults: float | None = None
    others: float | None = None

    def add(self, measured: Measurement) -> None:
        for field in dataclasses.fields(Measurement):
            setattr(self, field.name, getattr(measured, field.name))

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples and not self.error else None

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(
            self.samples if len(self.samples) > 1 else self.samples * 2, n=4, method="inclusive"
        )
        return low, high

    @property
    def case_and_shape(self) -> str:
        """What the `beside` of another row names."""
        return f"{self.case} {Shape(*self.shape)}"

    @property
    def title(self) -> str:
        return f"{self.case_and_shape} {self.dtype} {self.pass_name} {self.implementation}"

    @property
    def group(self) -> tuple[object, ...]:
        """What is compared with each other."""
        return (self.case, self.shape, self.dtype, self.pass_name)


FIGURES = (
    "ms",
    "quartile_1_ms",
    "quartile_3_ms",
    "neuron_steps_per_s",
    "gb_per_s",
    "copy_fraction",
    "limit_ms",
    "fault_fraction",
    "speedup",
)
"""What is derived from a row. GB are 10**9 bytes; copy_fraction is of the copy bandwidth, limit_ms what a copy of so
many bytes takes, fault_fraction an estimate."""

Figures = dict[str, float | None]
"""FIGURES, and "disturbed": whether other processes left too few CPUs to the row or to what it is compared with. Of
`calls` also "times_headline" and "times_module"; of `recurrent` "spike_rate", "us_per_step" and "times_rnn"."""

KEEP_SECONDS = 5.0
SLACK = 0.2
"""CPUs that others may take, beyond those that are free, before a row counts as disturbed."""

COLUMNS: dict[str, tuple[bool, Callable[[Row, Figures], str]]] = {
    "case": (True, lambda row, of: row.case),
    "T x B x N": (True, lambda row, of: str(Shape(*row.shape))),
    "pass": (True, lambda row, of: row.pass_name),
    "dtype": (True, lambda row, of: row.dtype),
    "by": (True, lambda row, of: row.implementation),
    "keeps": (True, lambda row, of: row.mode or "-"),
    "surrogate": (True, lambda row, of: (row.surrogate or "-") if "us_per_step" in of else "-"),
    "rate": (False, lambda row, of: show(of.get("spike_rate"), ".1%")),
    "ms": (False, lambda row, of: "failed" if row.error else show(of["ms"], ".3f")),
    "quartiles": (False, lambda row, of: show(of["quartile_1_ms"], ".3f") + " .. " + show(of["quartile_3_ms"], ".3f")),
    "us/step": (False, lambda row, of: show(of.get("us_per_step"), ".2f")),
    "times nn.RNN": (False, lambda row, of: show(of.get("times_rnn"), ".2f")),
    "in a row ms": (False, lambda row, of: show(row.back_to_back, ".3f", 1e3)),
    "x * 2 in a row ms": (False, lambda row, of: show(None if row.back_to_back is None else row.floor, ".3f", 1e3)),
    "Mns/s": (False, lambda row, of: show(of["neuron_steps_per_s"], ".1f", 1e-6)),
    "GB/s": (False, lambda row, of: show(of["gb_per_s"], ".2f")),
    "of copy": (False, lambda row, of: show(of["copy_fraction"], ".1%")),
    "speed-up": (False, lambda row, of: show(of["speedup"], ".2f")),
    "times headline": (False, lambda row, of: show(of.get("times_headline"), ".2f")),
    "times module": (False, lambda row, of: show(of.get("times_module"), ".2f")),
    "faults": (False, lambda row, of: show(of["fault_fraction"], ".0%")),
    "others": (False, lambda row, of: show(row.others, ".2f") + ("!" if of["disturbed"] else "")),
    "peak MiB": (False, lambda row, of: show(row.peak, ".1f", 2.0**-20)),
}
"""The table's columns: whether they are aligned to the left, and their text. Those with no value in any row are left
out."""


SHORTENED = (
    "shortened: `samples` holds of each row's repeats the least, the quartiles with the median and the most, in six "
    "digits"
)


def five(samples: Sequence[float]) -> list[float]:
    """The least, the quartiles with the median, the most; no more than there are."""
    if len(samples) <= 5:
        return list(samples)
    found = [min(samples), *statistics.quantiles(samples, n=4, method="inclusive"), max(samples)]
    return [float(f"{value:.6g}") for value in found]


def show(value: float | None, form: str, scale: float = 1.0) -> str:
    return "-" if value is None else format(value * scale, form)


@dataclasses.dataclass
class Report:
    """A run. kind: the subcommand; machine: of machine.describe(); method: how it was measured, in words; copies: what
    copies took before and after; kept: when it was last written."""

    kind: str
    command: str
    date: str
    machine: dict[str, Any]
    method: list[str]
    copies: list[Copy]
    rows: list[Row] = dataclasses.field(default_factory=list)
    kept: float = dataclasses.field(default=0.0, repr=False, compare=False)

    @property
    def place(self) -> str:
        """The machine in a few words."""
        m = self.machine
        return str(m["gpu"]) if "gpu" in m else f"{m['processor']}, {m['threads']} threads, {m['instruction_set']}"

    @property
    def copy(self) -> Copy:
        """The one that was disturbed least."""
        return max(self.copies, key=lambda copy: copy.bandwidth)

    def derived(self, row: Row) -> Figures:
        """FIGURES of a row, None where there is nothing to derive them from."""
        found: Figures = dict.fromkeys(FIGURES) | {"disturbed": self._short_of_cpus(row)}
        median = row.median
        if not median:
            return found
        baseline, headline, rnn = self.baseline(row), self.beside(row), self.rnn(row)
        if row.beside:
            module = self.beside(row, MODULE)
            native = module.back_to_back if module else None
            found |= {
                "times_headline": median / headline.median if headline and headline.median else None,
                "times_module": row.back_to_back / native if row.back_to_back and native else None,
            }
        if self.kind == "recurrent":
            found |= {
                "spike_rate": row.spike_rate,
                "us_per_step": 1e6 * median / row.shape[0],
                "times_rnn": median / rnn.median if rnn and rnn.median else None,
            }
        moved = row.bytes_moved or None
        rate = moved and moved / median
        return found | {
            "ms": 1e3 * median,
            "quartile_1_ms": 1e3 * row.quartiles[0],
            "quartile_3_ms": 1e3 * row.quartiles[1],
            "neuron_steps_per_s": math.prod(row.shape) / median,
            "gb_per_s": rate and rate / 1e9,
            "copy_fraction": rate and rate / self.copy.bandwidth,
            "limit_ms": moved and 1e3 * moved / self.copy.bandwidth,
            "fault_fraction": None if row.faults is None else min(row.faults * self.copy.fault_seconds / median, 1.0),
            "speedup": baseline.median / median if baseline and baseline.median else None,
            "disturbed": any(self._short_of_cpus(one) for one in (row, baseline, headline, rnn) if one),
        }

    def baseline(self, row: Row) -> Row | None:
        """What a row's speed-up is over."""
        return next((r for r in self.rows if r.group == row.group and r.implementation == BASELINE), None)

    def beside(self, row: Row, suffix: str = "") -> Row | None:
        """The headline call that a row is measured beside; with MODULE for a suffix, that call from a module."""
        case, _, shape = row.beside.partition(" ")
        return next((r for r in self.rows if row.beside and r.case_and_shape == f"{case}{suffix} {shape}"), None)

    def rnn(self, row: Row) -> Row | None:
        """In `recurrent`, PyTorch's layer that a row is measured beside: that in tf32 if there is one; replayed if the
        row is."""
        if self.kind != "recurrent":
            return None
        graph = GRAPH if row.implementation.endswith(GRAPH) else ""
        found = {r.implementation: r for r in self.rows if (r.shape, r.pass_name) == (row.shape, row.pass_name)}
        return found.get(RNN + TF32 + graph) or found.get(RNN + graph)

    def sort(self) -> None:
        """So that what is compared stands together, in the order in which it was first met."""
        order = {group: k for k, group in enumerate(dict.fromkeys(row.group for row in self.rows))}
        self.rows.sort(key=lambda row: order[row.group])

    def _short_of_cpus(self, measured: Row | Copy) -> bool:
        if measured.others is None:
            return False
        threads, cpus = self.machine["threads"], self.machine["cpus"]
        return measured.others + min(threads, cpus) > cpus + SLACK

    def cells(self) -> list[list[str]]:
        """The table's columns, each with its title first."""
        figures = [self.derived(row) for row in self.rows]
        columns = []
        for name, (_, cell) in COLUMNS.items():
            cells = [cell(row, of) for row, of in zip(self.rows, figures, strict=True)]
            if not cells or any(text not in ("-", "- .. -") for text in cells):
                columns.append([name, *cells])
        return columns

    def notes(self) -> list[str]:
        """What has to be said beside the table: remarks, why some rows failed, what was disturbed."""
        named = ((row.case if row.beside else row.implementation, row.remark) for row in self.rows if row.remark)
        lines = list(dict.fromkeys(f"{name}: {remark}" for name, remark in named))
        lines += [f"failed: {row.title}: {row.error}" for row in self.rows if row.error]
        lines += [f"not captured: {row.title}: {row.uncaptured}" for row in self.rows if row.uncaptured]
        if any(self.derived(row)["disturbed"] for row in self.rows):
            lines.append(
                "!: the machine was busy during this row or what it is compared with: its figures are not to be trusted"
            )
        if self._short_of_cpus(self.copy):
            lines.append(
                "!: the machine was busy while copies were timed: fractions of the copy bandwidth are not to be trusted"
            )
        return lines

    def table(self) -> str:
        """The rows as text; below, the notes."""
        columns = []
        for cells in self.cells():
            width = max(map(len, cells))
            columns.append([text.ljust(width) if COLUMNS[cells[0]][0] else text.rjust(width) for text in cells])
        return "\n".join(["  ".join(line).rstrip() for line in zip(*columns, strict=True)] + self.notes())

    def header(self) -> str:
        m, versions = self.machine, self.machine["versions"]
        by = "" if "gpu" in m else " by memcpy on all threads"
        size, bandwidth, fresh = (
            self.copy.bytes_moved // 2**21,
            self.copy.bandwidth / 1e9,
            self.copy.fresh_bandwidth / 1e9,
        )
        lines = [
            f"torch_lif {versions['torch_lif']}, PyTorch {versions['torch']}, {self.place}"
            f"{', CUDA {}'.format(versions['cuda']) if 'gpu' in m else ''}; {self.date}",
            f"copy{by}: {bandwidth:.1f} GB/s read + written, arrays of {size} MiB, destination written before; "
            f"{fresh:.1f} GB/s into memory that each copy allocates"
            f"{'' if self.copy.others is None else f'; others: {self.copy.others:.2f}'}",
            *self.method,
        ]
        formulas = dict.fromkeys((row.pass_name, row.mode, row.formula) for row in self.rows if row.formula)
        lines += [f"fewest bytes, {name}{mode and f' ({mode})'}: {formula}" for name, mode, formula in formulas]
        return "\n".join([*lines, f"  where {LEGEND}"] if formulas else lines)

    def shortened(self) -> Report:
        """The same with five of many samples, which have the same median and quartiles: but for their rounding, no
        figure that is derived from them changes."""
        copies = [
            dataclasses.replace(copy, samples=five(copy.samples), fresh_samples=five(copy.fresh_samples))
            for copy in self.copies
        ]
        rows = [dataclasses.replace(row, samples=five(row.samples)) for row in self.rows]
        method = list(dict.fromkeys([*self.method, SHORTENED]))
        return dataclasses.replace(self, method=method, copies=copies, rows=rows)

    def keep(self, path: Path) -> None:
        """Writes it as it is now, every few seconds: a run that is stopped keeps what it has."""
        now = time.monotonic()
        if now - self.kept > KEEP_SECONDS:
            self.write(path)
            self.kept = now

    def write(self, path: Path, derived: bool = True) -> None:
        """As JSON: the samples and, unless told otherwise, all that is derived from them. Each row is one line."""
        found = dataclasses.asdict(self)
        del found["kept"]
        found["bytes_legend"] = LEGEND
        for copy, fields in zip(self.copies, found["copies"], strict=True):
            fields |= {name: getattr(copy, name) for name in ("bandwidth", "fresh_bandwidth", "fault_seconds")}
        for row, fields in zip(self.rows, found["rows"], strict=True):
            fields["status"] = "failed" if row.error else "ok"
            if derived:
                fields["derived"] = self.derived(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n  ".join(map(json.dumps, found.pop("rows")))
        head = json.dumps(found, indent=1).removesuffix("\n}")
        path.write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


def read(path: Path) -> Report:
    """The report that `Report.write` wrote."""
    found = json.loads(path.read_text())

    def fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
        return {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}

    rows = [Row(**{**fields(Row, row), "shape": tuple(row["shape"])}) for row in found["rows"]]
    copies = [Copy(**fields(Copy, copy)) for copy in found["copies"]]
    return Report(**{**fields(Report, found), "copies": copies, "rows": rows})

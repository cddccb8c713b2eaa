"""Draws docs/speed.png, the README's picture, from the runs in docs/benchmarks: python docs/plot_speed.py [FILE]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
from benchmarks.report import Report, read  # noqa: E402

BARS = (
    ("loop in PyTorch", "eager", "#8a8a8a"),
    ("SpikingJelly", "SpikingJelly LIFNode cuda", "#d9822b"),
    ("torch_lif", "torch_lif", "#1f5fa8"),
)
SHAPES = ((500, 16, 512), (500, 16, 4096))


def milliseconds(reports: list[Report], name: str, shape: tuple[int, ...]) -> float:
    """Of one call when calls follow each other from Python, forward and backward: the least of all runs."""
    wanted = ("lif", name, "forward+backward", "float32", shape)
    found = [
        1e3 * row.back_to_back
        for report in reports
        for row in report.rows
        if (row.case, row.implementation, row.pass_name, row.dtype, row.shape) == wanted and row.back_to_back
    ]
    return min(found)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "speed.png"
    reports = [read(DOCS / "benchmarks" / name) for name in ("layer-lif.json", "scaling.json")]
    plt.rcParams["font.size"] = 15
    figure, axes = plt.subplots(len(SHAPES), 1, figsize=(7.5, 5), layout="constrained", sharex=True)
    for axis, shape in zip(axes, SHAPES, strict=True):
        for k, (label, name, colour) in enumerate(BARS):
            time = milliseconds(reports, name, shape)
            axis.barh(k, time, color=colour)
            axis.text(
                1.15 * time,
                k,
                f"{time:.2g} ms" if time < 1 else f"{time:.0f} ms",
                va="center",
                fontweight="bold" if label == "torch_lif" else None,
            )
        axis.set_yticks(range(len(BARS)), [label for label, *_ in BARS])
        axis.set_title(f"{shape[2]} LIF neurons", loc="left", fontsize=15)
        axis.set_xscale("log")
        axis.set_xlim(0.05, 2000)
        axis.spines[["top", "right"]].set_visible(False)
        axis.invert_yaxis()
    axes[-1].set_xlabel("ms, forward and backward, less is better (log scale)")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()

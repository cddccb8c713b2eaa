"""The figure that train_images.py draws: how the training went, and what the network does with one image."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from image_data import Images
from image_files import write_atomically
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

if TYPE_CHECKING:
    from train_images import Activity

Array = np.ndarray[Any, np.dtype[Any]]
COLOURS = [f"C{k}" for k in range(10)]
GREY = "#999999"


def draw(path: Path, history: Sequence[Mapping[str, Any]], images: Images, activity: Activity, dt: float) -> None:
    """Writes the PNG. `activity`: the network's, with "v" recorded, for the first test image."""
    # A Figure of its own, not pyplot's: no display is needed, and nothing stays open.
    layers = len(activity.layers)
    heights = [3.4, 4.8 + 2.6 * layers]
    figure = Figure(figsize=(13, sum(heights)), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    curves(figure.add_subfigure(grid[0]), history)
    one_image(figure.add_subfigure(grid[1]), images, activity, dt)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def curves(figure: SubFigure, history: Sequence[Mapping[str, Any]]) -> None:
    epochs, last = [row["epoch"] for row in history], history[-1]
    figure.suptitle(
        f"Training: {last['test_accuracy']:.2%} of the test images right after epoch {epochs[-1]}", fontweight="bold"
    )
    panels: list[tuple[str, str, list[tuple[str, str, int]]]] = [
        ("Loss, with the penalty on spikes", "log", [("loss", "training", 1)]),
        ("Images told right (%)", "linear", [("train_accuracy", "training", 100), ("test_accuracy", "test", 100)]),
        ("Spikes per hidden neuron and image", "from 0", [("train_spikes", "training", 1), ("test_spikes", "test", 1)]),
    ]
    for axes, (title, scale, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        for colour, (name, label, factor) in zip(COLOURS, lines, strict=False):
            axes.plot(epochs, [factor * row[name] for row in history], ".-", color=colour, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if scale == "log":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif scale == "from 0":
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()


def one_image(figure: SubFigure, images: Images, activity: Activity, dt: float) -> None:
    scores = array(activity.scores())
    predicted, label = int(scores.argmax()), int(images.test_y[0])
    verdict = "right" if predicted == label else "wrong"
    figure.suptitle(
        f"One test image: class {images.classes[label]}, predicted {images.classes[predicted]} ({verdict})",
        fontweight="bold",
    )
    grid = figure.add_gridspec(1, 2, width_ratios=[1, 3.6])
    picture, bars = figure.add_subfigure(grid[0]).subplots(2, 1)
    picture.imshow(array(images.test_x).reshape(images.shape), cmap="gray_r", vmin=0, vmax=1)
    picture.set(title="Image: input current", xlabel="pixel", ylabel="pixel")
    bars.barh(images.classes, scores, color=[COLOURS[k] if k == predicted else GREY for k in range(len(scores))])
    bars.set(title="Read-out, average over time", xlabel="membrane potential")
    bars.invert_yaxis()

    layers = [array(layer.spikes) for layer in activity.layers]
    time = 1e3 * dt * np.arange(1, len(layers[0]) + 1)
    panels = figure.add_subfigure(grid[1]).subplots(
        len(layers) + 2, 1, sharex=True, height_ratios=[*[2.6] * len(layers), 2.2, 2.6]
    )
    for k, (axes, spikes) in enumerate(zip(panels, layers, strict=False), 1):
        raster(axes, time, spikes, f"Hidden layer {k}")
    membranes(panels[-2], time, layers[0], array(activity.layers[0].records["v"]))
    readout(panels[-1], time, array(activity.readout), images.classes, predicted)
    panels[-1].set(xlabel="time (ms)", xlim=(0, 1.01 * time[-1]))


def array(batch: Tensor) -> Array:
    """The batch's first, for matplotlib."""
    return batch[0].cpu().numpy()


def raster(axes: Axes, time: Array, spikes: Array, name: str) -> None:
    steps, neurons = spikes.nonzero()
    rate = spikes.sum(0).mean() / (1e-3 * time[-1])
    axes.scatter(time[steps], neurons, s=12, marker=".", color="black", linewidths=0)
    axes.set(title=f"{name}: spikes ({spikes.sum(0).mean():.1f} per neuron, {rate:.0f} Hz)", ylabel="neuron")
    axes.set_ylim(-1, spikes.shape[1])


def membranes(axes: Axes, time: Array, spikes: Array, v: Array) -> None:
    """Three neurons that differ in how often they spike, if possible in less than half of the steps."""
    counts = spikes.sum(0)
    order = np.argsort(counts, kind="stable")
    readable = order[(counts[order] > 0) & (counts[order] < len(time) / 2)]
    active = readable if len(readable) else order[-1:]
    chosen = np.unique(active[[len(active) // 4, len(active) // 2, -1]])
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1, label="threshold")
    for row, neuron in enumerate(chosen.tolist()):
        axes.plot(time, v[:, neuron], color=COLOURS[row], linewidth=1.3, label=f"neuron {neuron}")
        fired = time[spikes[:, neuron] > 0]
        axes.plot(fired, np.full_like(fired, 1.12 + 0.16 * row), "v", color=COLOURS[row], markersize=4)
    axes.set(title="Hidden layer 1: neurons after each step's reset; triangles are spikes", ylabel="membrane potential")
    axes.set_ylim(bottom=max(-2.5, float(v[:, chosen].min()) - 0.1), top=1.7)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def readout(axes: Axes, time: Array, v: Array, classes: Sequence[str], predicted: int) -> None:
    for k, name in enumerate(classes):
        chosen = k == predicted
        label = f"{name} (predicted)" if chosen else name
        axes.plot(
            time, v[:, k], color=COLOURS[k], linewidth=3 if chosen else 1.2, zorder=3 if chosen else 2, label=label
        )
    axes.set(title="Read-out: leaky integrators, one for each class", ylabel="membrane potential")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

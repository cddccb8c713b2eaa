"""Draws docs/surrogates.png: every surrogate, what a spike becomes and its derivative, computed by the kernels
themselves.

python docs/plot_surrogates.py [FILE]
"""

import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import torch_lif as lif


def curves(surrogate: lif.Surrogate, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Spike count, smooth stand-in and surrogate derivative at membrane potentials v, threshold 1: one step of a neuron
    that forgets, so that its input is its membrane potential."""
    x = v.reshape(1, 1, -1).clone().requires_grad_()
    spikes = lif.functional.lif(x, decay_mem=0.0, surrogate=surrogate).spikes
    (slope,) = torch.autograd.grad(spikes.sum(), x)
    smooth = lif.functional.lif(x, decay_mem=0.0, surrogate=surrogate, smooth=True).spikes
    return spikes.detach().flatten(), smooth.detach().flatten(), slope.flatten()


def main(target: Path) -> None:
    names = sorted(name for name in lif.surrogate.__all__ if name != "Surrogate")
    v = torch.linspace(-1, 3.5, 1801, dtype=torch.float64)
    columns = 4
    rows = math.ceil(len(names) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(13, 2.5 * rows), sharex=True, constrained_layout=True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        surrogate = lif.SuperSpike(10.0) if name == "SuperSpike" else getattr(lif, name)()
        spikes, smooth, slope = curves(surrogate, v)
        axis.plot(v, spikes, color="0.75", label="spikes")
        axis.plot(v, smooth, "--", color="tab:blue", label="integral of the derivative")
        axis.plot(v, slope, color="tab:red", label="derivative")
        axis.axvline(1, color="0.85", linewidth=0.8, zorder=0)
        axis.set_title(str(surrogate), fontsize=8)
        axis.set_ylim(-0.25, 3.6)
    for axis in axes[-1] if rows > 1 else axes:
        axis.set_xlabel("membrane potential / threshold")
    for axis in axes[-2] if rows > 1 else []:
        axis.tick_params(labelbottom=True)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("surrogates.png"))

"""The subcommand `network`: one training step of a network, with its matrix products and its optimizer."""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

import torch_lif as lif

from .contenders import BASELINE, OURS
from .layer import add_timing_options
from .measure import Deadline, Meter
from .report import Report, Row
from .suite import text, tidy

EXAMPLES = Path(__file__).parent.parent / "examples"
CLASSES = 10
FULL_SIZES = {"cpu": (1024, 4096), "cuda": (4096, 8192, 16384)}
"""Neurons a layer; on a GPU those of the field's public comparison."""
QUICK_SIZES = {"cpu": (128, 256), "cuda": (512, 2048)}
FLOOR, EXAMPLE = "without neurons", "example"
BACKENDS = {OURS: "fused", BASELINE: "loop", FLOOR: ""}

Step = Callable[[], object]


class Stack(nn.Module):
    """Linear layers, each followed by neurons; `backend` "" leaves those out."""

    def __init__(self, kind: str, size: int, layers: int, backend: str) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(size, size) for _ in range(layers))
        self.neurons = nn.ModuleList(NEURONS[kind](size, backend) if backend else nn.Identity() for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for linear, neurons in zip(self.linears, self.neurons, strict=True):
            x = neurons(linear(x))
        return x


NEURONS: dict[str, Callable[[int, str], nn.Module]] = {
    "lif": lambda size, backend: lif.LIF(size, backend=backend),
    "cuba-lif": lambda size, backend: lif.CubaLIF(size, tau_syn=5e-3, backend=backend),
    "alif": lambda size, backend: lif.ALIF(size, tau_mem=20e-3, tau_adapt=100e-3, norm_input=False, backend=backend),
}


class Training(NamedTuple):
    """step: one step of training. outputs: what the network makes of its input now. held: bytes of parameters, input,
    optimizer."""

    step: Step
    outputs: Callable[[], Tensor]
    held: int


def build_stack(kind: str, layers: int, size: int, steps: int, batch: int, device: str, backend: str) -> Training:
    torch.manual_seed(1)
    with torch.device(device):  # where filling a large layer takes no time
        network = Stack(kind, size, layers, backend)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = (torch.rand(batch, steps, size, device=device) < 0.2).float()
    y = torch.randint(CLASSES, (batch,), device=device)

    def step() -> None:
        loss = nn.functional.cross_entropy(network(x).mean(1)[:, :CLASSES], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    held = x.nbytes + 4 * sum(p.nbytes for p in network.parameters())  # with gradients and Adam's two moments
    return Training(step, lambda: network(x), held)


def build_example(steps: int, batch: int, device: str, backend: str) -> Training:
    """The network of examples/train_images.py and its own training step, on noise of the digits' shape."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    train_images: Any = importlib.import_module("train_images")

    torch.manual_seed(1)
    x, y = torch.rand(batch, 64), torch.randint(CLASSES, (batch,))
    settings: dict[str, Any] = {
        "seed": 1,
        "batch_size": batch,
        "rate_penalty": 1.0,
        "limit": None,
        "hidden": [256, 256],
    }
    settings |= {"steps": steps, "neuron": "cuba", "backend": backend, "lr": 1e-3, "lr_decay": 0.9}
    images = train_images.Images(x, y, x, y, [str(k) for k in range(CLASSES)], (8, 8))
    trainer = train_images.Trainer(settings, images, torch.device(device))
    held = 4 * sum(p.nbytes for p in trainer.network.parameters())
    step = functools.partial(trainer.step, trainer.train_x, trainer.train_y)
    return Training(step, lambda: trainer.network(trainer.train_x).readout, held)


def add_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--neurons", nargs="+", type=int, metavar="N", help=f"neurons a layer; default: {FULL_SIZES}")
    p.add_argument("--kinds", nargs="+", choices=NEURONS, default=["lif"], help="default: lif")
    p.add_argument("--layers", type=int, default=2, help="default: 2")
    p.add_argument("--steps", type=int, help="time steps; default: 500 (--quick: 50)")
    p.add_argument("--batch", type=int, help="default: 16 (--quick: 4)")
    p.add_argument("--no-eager", action="store_true", help="leave out the plain loop, and with it the check of results")
    add_timing_options(p)


def method(a: argparse.Namespace) -> list[str]:
    return [
        f"training step: forward, loss, backward, Adam; {a.layers} x (nn.Linear, neurons) of one width, spikes in, "
        f"float32 (matrix products: precision {torch.get_float32_matmul_precision()!r}); {FLOOR}: the same step with "
        "nothing in the neurons' place, which is the least that it can take",
        "example: network and step of examples/train_images.py, two hidden layers of 256 CubaLIF neurons and a "
        "read-out of LI",
        f"ms: median of a step; Mns/s: million neuron-steps per second, of one layer; speed-up: over {BASELINE}; "
        "before timing, both gave the same outputs with the same weights",
    ]


def run(a: argparse.Namespace, meter: Meter, report: Report, path: Path) -> None:
    device = meter.device
    sizes = a.neurons or (QUICK_SIZES if a.quick else FULL_SIZES)[device]
    steps, batch = a.steps or (50 if a.quick else 500), a.batch or (4 if a.quick else 16)
    report.method += method(a)
    backends = {name: backend for name, backend in BACKENDS.items() if not (a.no_eager and name == BASELINE)}
    # Each with its name, its shape, what builds it for a backend, and who takes part.
    networks: list[tuple[str, tuple[int, int, int], Callable[[str], Training], dict[str, str]]] = []
    for kind in a.kinds:
        for size in sizes:
            build = functools.partial(build_stack, kind, a.layers, size, steps, batch, device)
            networks.append((f"{a.layers} x (Linear, {kind})", (steps, batch, size), build, backends))
    deadline = Deadline(a.time_limit)
    pair = {name: backend for name, backend in backends.items() if backend}
    networks.append((EXAMPLE, (50, 64, 256), functools.partial(build_example, 50, 64, device), pair))

    with tqdm(total=sum(len(names) for *_, names in networks), file=sys.stderr, unit="row", leave=False) as bar:
        for case, shape, make, names in networks:
            expected: Tensor | None = None
            # The loop first: others are held to its outputs.
            for name in sorted(names, key=lambda name: name != BASELINE):
                if deadline.left() <= 0:
                    break
                row = Row(
                    case,
                    name,
                    "training step",
                    shape,
                    "float32",
                    "",
                    0,
                    remark="no spikes: the floor" if name == FLOOR else "",
                )
                try:
                    expected = measure(row, make, names[name], expected, meter)
                except Exception as error:
                    row.error = text(error)
                report.rows.append(row)
                report.keep(path)
                bar.set_description(row.title, refresh=False)
                bar.update()
                tidy(device)
    if bar.n < bar.total:
        report.method.append(
            f"stopped by --time-limit {a.time_limit:g}: {bar.total - bar.n} of {bar.total} rows were not measured"
        )


def measure(
    row: Row, make: Callable[[str], Training], backend: str, expected: Tensor | None, meter: Meter
) -> Tensor | None:
    """Checks and times one network; returns what those after it are held to."""
    training = make(backend)
    if row.implementation != FLOOR:
        with torch.no_grad():
            outputs = training.outputs()
        if row.implementation == BASELINE:
            row.check, expected = "is what others are held to", outputs
        elif expected is None:
            row.check = f"not checked: {BASELINE} did not run"
        elif not torch.equal(outputs, expected):
            raise RuntimeError(
                f"output differs from {BASELINE}'s in {int((outputs != expected).sum())} of {expected.numel()} places"
            )
        else:
            row.check = f"output equal to {BASELINE}'s"
            row.spike_rate = None if row.case == EXAMPLE else float(outputs.mean())
    row.add(meter.measure(training.step, training.held))
    return expected

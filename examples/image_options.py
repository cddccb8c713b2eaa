"""The command line of train_images.py."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from image_files import UserError

import torch_lif as lif

DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 30, "batch_size": 64, "lr": 1e-3, "lr_decay": 0.9, "steps": 50, "hidden": [256, 256]},
    "fashion-mnist": {"epochs": 10, "batch_size": 128, "lr": 5e-4, "lr_decay": 0.8, "steps": 25, "hidden": [256, 256]},
}
NEURONS = ("cuba", "lif", "alif", "euler", "cuba-recurrent", "lif-recurrent", "alif-recurrent", "euler-recurrent")
NUMBERS = (
    "data",
    "neuron",
    "batch_size",
    "lr",
    "lr_decay",
    "rate_penalty",
    "steps",
    "hidden",
    "seed",
    "limit",
    "threads",
    "backend",
)
"""The options that the numbers of an epoch depend on; not the number of epochs, so that a finished run can be continued
too."""


class Options(NamedTuple):
    """What was asked for. `settings`: everything that the result's numbers depend on, as goes into files."""

    settings: dict[str, Any]
    device: torch.device
    epochs: int
    out: Path
    data_dir: Path | None
    resume: bool
    report: bool


def number(
    kind: type[int] | type[float], low: float, above: bool = False, high: float = math.inf
) -> Callable[[str], float]:
    """An argparse type: a number in [low, high], or (low, high] if `above`."""

    def convert(text: str) -> float:
        expected = f"{'a whole number' if kind is int else 'a number'} {'above' if above else 'from'} {low:g}"
        expected += f" to {high:g}" if high < math.inf else ""
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)) or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return convert


def parse(argv: Sequence[str] | None, description: str) -> Options:
    def default(name: str) -> str:
        return f"default: {', '.join(f'{values[name]} ({data})' for data, values in DEFAULTS.items())}"

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    count = number(int, 1)
    parser.add_argument("--data", choices=list(DEFAULTS), default="digits", help="default: digits")
    parser.add_argument("--neuron", choices=NEURONS, default="cuba", help="of the hidden layers; default: cuba")
    parser.add_argument(
        "--data-dir", type=Path, help="folder with Fashion-MNIST's .gz files; default: Debian's, else downloaded"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:0 ...; default: cpu")
    parser.add_argument("--backend", choices=["fused", "loop"], default="fused", help="loop: plain PyTorch, to compare")
    parser.add_argument("--epochs", type=count, help=default("epochs"))
    parser.add_argument("--batch-size", type=count, help=default("batch_size"))
    parser.add_argument("--lr", type=number(float, 0, above=True, high=1), help=f"learning rate; {default('lr')}")
    parser.add_argument(
        "--lr-decay", type=number(float, 0, above=True, high=1), help=f"its factor an epoch; {default('lr_decay')}"
    )
    parser.add_argument(
        "--rate-penalty", type=number(float, 0), default=1.0, help="weight of firing rates in the loss; default: 1"
    )
    parser.add_argument("--steps", type=count, help=f"time steps of 1 ms; {default('steps')}")
    parser.add_argument(
        "--hidden", type=count, nargs="+", metavar="SIZE", help=f"sizes of the hidden layers; {default('hidden')}"
    )
    parser.add_argument("--seed", type=number(int, 0, high=2**63 - 1), default=0, help="default: 0")
    parser.add_argument("--threads", type=count, help="CPU threads; default: PyTorch's")
    parser.add_argument("--limit", type=count, help="use only so many training images")
    parser.add_argument("--out", type=Path, help="folder for the results; default: runs/<data>[-<neuron>]")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out, made with the same settings"
    )
    parser.add_argument("--no-report", action="store_true", help="do not draw report.png")
    args = parser.parse_args(argv)

    for name, value in DEFAULTS[args.data].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.data_dir is not None and args.data == "digits":
        parser.error("--data-dir is for --data fashion-mnist; the digits come with scikit-learn")
    if args.threads is None:
        args.threads = torch.get_num_threads()
    device = find_device(args.device, args.backend)
    settings = {name: getattr(args, name) for name in NUMBERS} | {"device": device.type}
    out = args.out or Path("runs") / (args.data if args.neuron == "cuba" else f"{args.data}-{args.neuron}")
    return Options(settings, device, args.epochs, out, args.data_dir, args.resume, not args.no_report)


def find_device(name: str, backend: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected cpu, cuda or cuda:<number>")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            why = "sees no GPU" if torch.version.cuda else "was built without CUDA"
            raise UserError(f"--device {name}: this PyTorch ({torch.__version__}) {why}; use --device cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {name}: there are only {torch.cuda.device_count()} GPUs, counted from 0")
        if backend == "fused":
            try:
                lif.LIF(1, device=device)(torch.zeros(1, 1, 1, device=device))
            except NotImplementedError as error:  # torch_lif was built without CUDA
                raise UserError(f"--device {name}: {error}") from error
    return device

"""Trains the network of train_images.py with every neuron and surrogate, and writes the table of test accuracies.

    python examples/compare_surrogates.py                                             # digits, on every core
    python examples/compare_surrogates.py --data fashion-mnist --device cuda --workers 6

Everything but the neuron, the surrogate and the seed is the same in all runs: sizes, time constants, learning rate, the
penalty on firing rates. Of neurons that can count, `lif` and `cuba` spike at most once a step, `lif-multi` and
`cuba-multi` as often as the membrane reaches the threshold. Each finished run is a line of --out, in JSON; runs that
are there already are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import train_images
from image_data import load
from image_files import UserError
from image_options import DEFAULTS

import torch_lif as lif

SURROGATES = (
    lif.StepPWL(),
    lif.Heaviside(),
    lif.PeriodicExponential(),
    lif.SuperSpike(100.0),
    lif.SuperSpike(25.0),
    lif.SuperSpike(10.0),
    lif.SuperSpike(5.0),
    lif.SoftSign(),
    lif.SingleExponential(),
    lif.SinabsPeriodicExponential(),
    lif.Gaussian(),
    lif.MultiGaussian(),
    lif.ATan(),
    lif.Sigmoid(),
    lif.Erf(),
    lif.Triangle(),
    lif.Triangle(width=1.0, scale=0.3),
    lif.Triangle(width=0.5),
)
BY_NAME = {repr(surrogate): surrogate for surrogate in SURROGATES}
NEURONS = ("lif", "lif-multi", "cuba", "cuba-multi", "alif", "euler")


def one_run(
    data: str, folder: Path | None, device: str, epochs: int, batch: int, neuron: str, name: str, seed: int
) -> dict[str, Any]:
    """Trains one network; its test accuracy and spikes per hidden neuron and image after the last epoch."""
    torch.set_num_threads(1)
    images = load(data, folder)
    settings = DEFAULTS[data] | {
        "batch_size": batch,
        "neuron": neuron,
        "seed": seed,
        "rate_penalty": 1.0,
        "limit": None,
    }
    trainer = train_images.Trainer(settings | {"backend": "fused"}, images, torch.device(device), BY_NAME[name])
    accuracy, spikes = 0.0, math.nan
    try:
        for _ in range(epochs):
            row = trainer.epoch("")
            accuracy, spikes = row["test_accuracy"], row["test_spikes"]
    except UserError:  # the loss is no number any more
        accuracy = 1 / len(images.classes)
    return {"data": data, "neuron": neuron, "surrogate": name, "seed": seed, "accuracy": accuracy, "spikes": spikes}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the mean test accuracy in percent of each surrogate with each neuron; behind it the lowest over all
    neurons."""
    found = defaultdict(list)
    for row in rows:
        found[row["surrogate"], row["neuron"]].append(100 * row["accuracy"])
    neurons = [n for n in NEURONS if any(key[1] == n for key in found)]
    names = [name for name in BY_NAME if any(key[0] == name for key in found)]
    lines = ["| | " + " | ".join(neurons) + " | mean | worst |", "| --- |" + " --- |" * (len(neurons) + 2)]
    for name in names:
        means = [statistics.mean(found[name, n]) if (name, n) in found else math.nan for n in neurons]
        every = [a for n in neurons for a in found[name, n]]
        lines.append(
            f"| `{name}` | " + " | ".join(f"{m:.1f}" for m in (*means, statistics.mean(every), min(every))) + " |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DEFAULTS), default="digits", help="default: digits")
    parser.add_argument("--data-dir", type=Path, help="folder with Fashion-MNIST's .gz files")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument(
        "--workers", type=int, default=multiprocessing.cpu_count(), help="runs side by side; default: all cores"
    )
    parser.add_argument("--epochs", type=int, help="default: 20 (digits), 4 (fashion-mnist)")
    parser.add_argument("--batch-size", type=int, help="default: 64 (digits), 512 (fashion-mnist)")
    parser.add_argument("--seeds", type=int, default=3, help="default: 3")
    parser.add_argument("--neurons", nargs="+", choices=NEURONS, default=NEURONS)
    parser.add_argument("--surrogates", nargs="+", choices=list(BY_NAME), default=list(BY_NAME))
    parser.add_argument("--out", type=Path, help="default: runs/surrogates-<data>.jsonl")
    args = parser.parse_args()
    epochs = args.epochs or (20 if args.data == "digits" else 4)
    batch = args.batch_size or (64 if args.data == "digits" else 512)
    out = args.out or Path("runs") / f"surrogates-{args.data}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row["neuron"], row["surrogate"], row["seed"]) for row in rows}
    wanted = [
        job
        for job in itertools.product(range(args.seeds), args.surrogates, args.neurons)
        if (job[2], job[1], job[0]) not in done
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, spawn) as pool, out.open("a") as file:
        jobs = [
            pool.submit(one_run, args.data, args.data_dir, args.device, epochs, batch, neuron, name, seed)
            for seed, name, neuron in wanted
        ]
        for job in as_completed(jobs):
            rows.append(job.result())
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
    print(f"{args.data}: test accuracy in percent after {epochs} epochs of batches of {batch}, {args.seeds} seeds\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

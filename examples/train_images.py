"""Trains a spiking network to tell images apart, by surrogate gradients.

    python examples/train_images.py                       # handwritten digits: 98 %, 15 s on two cores
    python examples/train_images.py --data fashion-mnist  # clothes: 88 %, 2 minutes
    python examples/train_images.py --neuron alif-recurrent   # or lif, lif-recurrent, alif, euler ...
    python examples/train_images.py --backend loop        # the same network on the plain PyTorch loop, to compare speed

Coding: a pixel's intensity is a constant input current for the whole presentation (--steps of 1 ms); the first hidden
layer turns currents into spikes. Nothing is random in it, so that a test needs one pass, and no spike is spent on the
input. It makes no use of time: for data that are events, feed those to the first layer instead.

Read-out: the class whose leaky integrator has the highest membrane potential on average over time.

Loss: cross entropy of these averages, plus a penalty on the hidden neurons' firing rates, which saves three spikes in
four at no loss of accuracy (digits). The result is that of the last epoch: none is picked by its test accuracy.

In --out: checkpoint.pt (after each epoch; --resume continues from it, to the same numbers), metrics.json, report.png.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from image_data import Images, load
from image_files import UserError, load_checkpoint, make_folder, save_checkpoint, save_metrics
from image_options import Options, parse
from torch import Tensor, nn
from tqdm import tqdm

import torch_lif as lif

DT = 1e-3
"""Length of a time step in seconds."""
# Wide enough (1/alpha is a tenth of the threshold) to reach neurons that are far from spiking.
SURROGATE = lif.SuperSpike(alpha=10.0)
Result = lif.LIFResult | lif.ALIFResult | lif.EulerLIFResult
Neurons = lif.LIF | lif.CubaLIF | lif.ALIF | lif.EulerLIF


def make_neurons(kind: str, size: int, backend: str, surrogate: lif.Surrogate) -> Neurons:
    """The neurons of a hidden layer, by the name that --neuron knows them by."""
    name, _, form = kind.partition("-")
    common: dict[str, Any] = {
        "tau_mem": 20e-3,
        "recurrent": form == "recurrent",
        "surrogate": surrogate,
        "dt": DT,
        "backend": backend,
    }
    if name == "lif":
        return lif.LIF(size, max_spikes=2.0**16 if form == "multi" else 1, **common)
    if name == "cuba":
        return lif.CubaLIF(size, tau_syn=5e-3, max_spikes=2.0**16 if form == "multi" else 1, **common)
    if name == "euler":
        return lif.EulerLIF(size, tau_syn=5e-3, **common)
    # Each spike raises the threshold by a tenth at first. The input is not scaled down by the membrane's leak, so that
    # the same connections drive it as strongly as the others.
    return lif.ALIF(size, tau_adapt=100e-3, adapt_scale=10.0, norm_input=False, **common)


class SpikingLayer(nn.Module):
    """All-to-all connections to spiking neurons, `kind` as for make_neurons."""

    def __init__(self, inputs: int, size: int, steps: int, kind: str, backend: str, surrogate: lif.Surrogate) -> None:
        super().__init__()
        self.steps = steps
        self.linear = nn.Linear(inputs, size)
        self.neurons = make_neurons(kind, size, backend, surrogate)

    def forward(self, x: Tensor, record: Sequence[str] = ()) -> Result:
        """x: (batch, steps, inputs), or (batch, 1, inputs) for an input that stands still. Its current is computed
        once, then read at every step as a view that takes no memory; for a full x, expand does nothing."""
        current = self.linear(x).expand(-1, self.steps, -1)
        return self.neurons.run(current, record=record)


class Activity(NamedTuple):
    """What a network did: the hidden layers' spikes and records, (batch, steps, neurons) each; the read-out's
    membranes."""

    layers: list[Result]
    readout: Tensor

    def scores(self) -> Tensor:
        """The read-out on average over time: (batch, classes)."""
        return self.readout.mean(1)

    def rates(self) -> Tensor:
        """Each hidden neuron's spikes a step, all layers side by side: (batch, hidden neurons)."""
        return torch.cat([layer.spikes.mean(1) for layer in self.layers], 1)


class SpikingNetwork(nn.Module):
    """Spiking layers, read out by leaky integrators. `sizes`: of the input, the hidden layers and the output; `kind`:
    of neuron, as for make_neurons."""

    def __init__(
        self,
        sizes: Sequence[int],
        steps: int,
        kind: str = "cuba",
        backend: str = "fused",
        surrogate: lif.Surrogate = SURROGATE,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(
            SpikingLayer(m, n, steps, kind, backend, surrogate) for m, n in itertools.pairwise(sizes[:-1])
        )
        self.linear = nn.Linear(sizes[-2], sizes[-1])
        self.readout = lif.LI(sizes[-1], tau_mem=10e-3, tau_syn=5e-3, dt=DT, backend=backend)

    def forward(self, images: Tensor, record: Sequence[str] = ()) -> Activity:
        """images: (batch, pixels). With record=("v",) the layers keep their membrane potentials, for plots."""
        x, results = images.unsqueeze(1), []
        for layer in self.layers:
            results.append(layer(x, record))
            x = results[-1].spikes
        return Activity(results, self.readout(self.linear(x)))


class Trainer:
    """The network, what trains it, and what happened so far."""

    def __init__(
        self, settings: Mapping[str, Any], images: Images, device: torch.device, surrogate: lif.Surrogate = SURROGATE
    ) -> None:
        torch.manual_seed(settings["seed"])
        self.shuffling = torch.Generator().manual_seed(settings["seed"])
        self.device = device
        self.batch_size: int = settings["batch_size"]
        self.rate_penalty: float = settings["rate_penalty"]
        # Everything fits into memory, a GPU's too: no data loader is needed.
        limit = settings["limit"]
        self.train_x, self.train_y = images.train_x[:limit].to(device), images.train_y[:limit].to(device)
        self.test_x, self.test_y = images.test_x.to(device), images.test_y.to(device)
        sizes = [images.train_x.shape[1], *settings["hidden"], len(images.classes)]
        self.network = SpikingNetwork(sizes, settings["steps"], settings["neuron"], settings["backend"], surrogate).to(
            device
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["lr"])
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, settings["lr_decay"])
        self.history: list[dict[str, Any]] = []

    def epoch(self, title: str) -> dict[str, Any]:
        """One pass over the training images, then one over the test images; the row of it in the history. No title, no
        bar."""
        batches = torch.randperm(len(self.train_y), generator=self.shuffling).to(self.device).split(self.batch_size)
        totals = torch.zeros(3, device=self.device)
        learning_rate = self.scheduler.get_last_lr()[0]
        seen, start = 0, time.perf_counter()
        with tqdm(batches, title, unit="step", leave=False, disable=None if title else True) as bar:
            for step, batch in enumerate(bar):
                totals += self.step(self.train_x[batch], self.train_y[batch])
                seen += len(batch)
                if step % 10 == 0 and not bar.disable:  # seldom, for it waits for the GPU
                    loss, right, spikes = (totals / seen).tolist()
                    bar.set_postfix_str(f"loss {loss:.3f}, {right:.1%} right, {spikes:.1f} spikes/neuron")
            loss, right, spikes = (totals / seen).tolist()
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise UserError(f"the loss became {loss}; try a smaller --lr")
        self.scheduler.step()
        test_right, test_spikes = self.test()
        row = {
            "epoch": len(self.history) + 1,
            "loss": loss,
            "train_accuracy": right,  # of each batch before it was learned
            "test_accuracy": test_right,
            "train_spikes": spikes,
            "test_spikes": test_spikes,
            "lr": learning_rate,
            "seconds": round(seconds, 4),
            "ms_per_step": round(1e3 * seconds / len(batches), 4),
        }
        self.history.append(row)
        return row

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Learns one batch. Returns sums over it: loss, number of images told right, spikes per hidden neuron."""
        activity = self.network(x)
        scores, rates = activity.scores(), activity.rates()
        # Squared, so that it quietens the busiest neurons most.
        loss = nn.functional.cross_entropy(scores, y) + self.rate_penalty * rates.square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            return torch.stack([loss * len(y), (scores.argmax(1) == y).sum(), rates.mean(1).sum() * self.network.steps])

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Share of the test images told right; spikes per hidden neuron and image."""
        right = spikes = 0.0
        for x, y in zip(self.test_x.split(500), self.test_y.split(500), strict=True):
            activity = self.network(x)
            right += (activity.scores().argmax(1) == y).sum().item()
            spikes += activity.rates().mean(1).sum().item() * self.network.steps
        return right / len(self.test_y), spikes / len(self.test_y)

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on exactly as if it had not been interrupted."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "shuffling": self.shuffling.get_state(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "epoch": len(self.history),
            "history": self.history,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.shuffling.set_state(state["shuffling"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"], self.device)
        self.history = list(state["history"])


def train(options: Options) -> None:
    start = time.perf_counter()
    if options.report:
        from image_report import draw  # now, so that a missing matplotlib is noticed before the training
    make_folder(options.out)
    torch.set_num_threads(options.settings["threads"])
    images = load(options.settings["data"], options.data_dir)
    if (options.settings["limit"] or 0) > len(images.train_y):
        raise UserError(f"--limit {options.settings['limit']}: there are {len(images.train_y)} training images")
    trainer = Trainer(options.settings, images, options.device)
    checkpoint = options.out / "checkpoint.pt"
    if options.resume:
        trainer.load_state(load_checkpoint(checkpoint, options.settings))
        if len(trainer.history) > options.epochs:
            raise UserError(f"--epochs {options.epochs}: {checkpoint} is of epoch {len(trainer.history)} already")
    print(trainer.network)
    print(
        f"{len(trainer.train_y)} images to learn, {len(trainer.test_y)} to test; {options.device}, "
        f"{options.settings['backend']}"
    )

    for epoch in range(len(trainer.history) + 1, options.epochs + 1):
        row = trainer.epoch(f"epoch {epoch}/{options.epochs}")
        save_checkpoint(checkpoint, options.settings, trainer.state())
        print(
            f"epoch {epoch:3}/{options.epochs}: loss {row['loss']:.4f}, right {row['train_accuracy']:6.2%} in "
            "training, "
            f"{row['test_accuracy']:6.2%} in the test, {row['test_spikes']:.2f} spikes/neuron, "
            f"{row['seconds']:.2f} s ({row['ms_per_step']:.1f} ms/step)",
            flush=True,
        )

    files = [checkpoint, options.out / "metrics.json"]
    if options.report:
        with torch.no_grad():
            activity = trainer.network(trainer.test_x[:1], record=("v",))
        files.append(options.out / "report.png")
        draw(files[-1], trainer.history, images, activity, DT)
    seconds = time.perf_counter() - start
    save_metrics(files[1], options.settings, trainer.history, seconds, options.device)
    last = trainer.history[-1]
    since = "since resuming" if options.resume else "in all"
    print(
        f"test accuracy {last['test_accuracy']:.2%}, {last['test_spikes']:.2f} spikes per neuron, {seconds:.1f} s "
        f"{since}"
    )
    print("written:", ", ".join(map(str, files)))


def main(argv: Sequence[str] | None = None) -> int:
    try:
        train(parse(argv, __doc__ or ""))
    except (UserError, ModuleNotFoundError) as error:
        print(f"train_images.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; --resume continues after the last whole epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

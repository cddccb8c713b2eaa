"""examples/train_images.py, end to end with tiny settings: files, exact resumption, both backends, clear refusals."""

import contextlib
import gzip
import hashlib
import importlib
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

for needed in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))
image_data, image_options, train_images = (
    importlib.import_module(name) for name in ("image_data", "image_options", "train_images")
)

TINY = [
    "--limit=96",
    "--batch-size=32",
    "--steps=10",
    "--hidden",
    "24",
    "16",
    "--lr=5e-3",
    "--threads=1",
    "--no-report",
]


@pytest.fixture(autouse=True)
def _threads_are_put_back(threads):
    """main() sets their number."""


def run(out, *changes, expect=0):
    assert train_images.main([*TINY, "--out", str(out), *map(str, changes)]) == expect


def checkpoint(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def untimed(history):
    return [{name: value for name, value in row.items() if name not in ("seconds", "ms_per_step")} for row in history]


def same(a, b):
    """Equality of nested state dicts, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def same_run(a, b):
    a, b = checkpoint(a), checkpoint(b)
    assert untimed(a.pop("history")) == untimed(b.pop("history"))
    assert a.keys() == b.keys()
    assert [name for name in a if not same(a[name], b[name])] == []


def test_as_a_script(tmp_path):
    command = [sys.executable, str(EXAMPLES / "train_images.py"), *TINY[:-1], "--epochs", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "digits"
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "metrics.json", "report.png"]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG\r\n")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["settings"]["hidden"] == [24, 16]
    assert metrics["machine"]["processor"]
    assert [row["epoch"] for row in metrics["history"]] == [1, 2]
    assert [row["lr"] for row in metrics["history"]] == pytest.approx([5e-3, 4.5e-3])
    assert all(row["seconds"] > 0 and row["test_spikes"] > 0 for row in metrics["history"])
    assert f"test accuracy {metrics['test_accuracy']:.2%}" in done.stdout
    assert checkpoint(out)["epoch"] == 2


def test_it_learns(tmp_path):
    run(tmp_path, "--limit", 1347, "--epochs", 3, "--steps", 25, "--hidden", 64, 64)
    assert json.loads((tmp_path / "metrics.json").read_text())["test_accuracy"] > 0.9


def test_the_penalty_saves_spikes(tmp_path):
    spikes = {}
    for penalty in (0, 100):
        run(tmp_path, "--epochs", 3, "--rate-penalty", penalty)
        spikes[penalty] = checkpoint(tmp_path)["history"][-1]["test_spikes"]
    assert 0 < spikes[100] < 0.8 * spikes[0]


def test_spikes_per_neuron_are_counted_over_all_layers(tmp_path):
    torch.manual_seed(0)
    activity = train_images.SpikingNetwork([64, 24, 16, 10], 10)(image_data.digits().test_x)
    by_hand = sum(layer.spikes.sum() for layer in activity.layers) / 40
    assert torch.allclose(activity.rates().mean(1).sum() * 10, by_hand)


def test_the_report_shows_a_network_of_any_depth(tmp_path):
    options = [option for option in TINY if option != "--no-report"]
    for hidden in (["8"], ["8", "8", "8"]):
        assert (
            train_images.main([*options, "--out", str(tmp_path), "--epochs", "1", "--steps", "1", "--hidden", *hidden])
            == 0
        )
        assert (tmp_path / "report.png").exists()


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(tmp_path / name, "--epochs", 2, "--seed", seed)
    same_run(tmp_path / "a", tmp_path / "b")
    assert untimed(checkpoint(tmp_path / "a")["history"]) != untimed(checkpoint(tmp_path / "c")["history"])


def test_the_seed_decides_weights_and_order():
    images = image_data.digits()
    options = (image_options.parse([*TINY, "--seed", str(seed)], "") for seed in (0, 1))
    a, b = (train_images.Trainer(option.settings, images, option.device) for option in options)
    assert not torch.equal(a.network.linear.weight, b.network.linear.weight)
    assert not torch.equal(torch.randperm(99, generator=a.shuffling), torch.randperm(99, generator=b.shuffling))


def test_resuming_a_finished_run_with_more_epochs_is_exact(tmp_path):
    run(tmp_path / "whole", "--epochs", 2)
    run(tmp_path / "parts", "--epochs", 1)
    run(tmp_path / "parts", "--epochs", 2, "--resume")
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_resuming_an_interrupted_run_is_exact(tmp_path, monkeypatch, capsys):
    run(tmp_path / "whole", "--epochs", 3)
    step, steps = train_images.Trainer.step, []

    def interrupted(self, x, y):
        steps.append(1)
        if len(steps) == 5:  # in the second epoch, of three steps each
            raise KeyboardInterrupt
        return step(self, x, y)

    monkeypatch.setattr(train_images.Trainer, "step", interrupted)
    run(tmp_path / "parts", "--epochs", 3, expect=130)
    assert "--resume" in capsys.readouterr().err
    assert checkpoint(tmp_path / "parts")["epoch"] == 1
    run(tmp_path / "parts", "--epochs", 3, "--resume")
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_checkpoint_is_whole_even_if_its_writing_is_not(tmp_path, monkeypatch):
    run(tmp_path, "--epochs", 1)

    def disk_full(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, "--epochs", 2, "--resume")
    assert checkpoint(tmp_path)["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.json"]


def test_backends_agree(tmp_path):
    images = image_data.digits()
    x, y = images.train_x[:32], images.train_y[:32]
    loss, grads = {}, {}
    for backend in ("fused", "loop"):
        torch.manual_seed(0)
        network = train_images.SpikingNetwork([64, 24, 16, 10], 10, backend=backend)
        loss[backend] = torch.nn.functional.cross_entropy(network(x).scores(), y)
        loss[backend].backward()
        grads[backend] = [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
        assert all(layer.neurons.backend == backend for layer in network.layers)
        assert network.readout.backend == backend
        run(tmp_path / backend, "--epochs", 1, "--backend", backend)
    assert torch.equal(loss["fused"], loss["loop"])
    torch.testing.assert_close(grads["fused"], grads["loop"])
    fused, loop = (checkpoint(tmp_path / backend)["history"][0] for backend in ("fused", "loop"))
    assert fused["test_accuracy"] == loop["test_accuracy"]
    assert fused["loss"] == pytest.approx(loop["loss"], rel=1e-5)


@pytest.mark.parametrize("neuron", image_options.NEURONS)
def test_every_neuron_learns(tmp_path, neuron):
    """A short run is far above chance, which is 10 %; the full runs are in the README."""
    run(
        tmp_path,
        "--neuron",
        neuron,
        "--epochs",
        5,
        "--steps",
        30,
        "--hidden",
        64,
        64,
        "--limit",
        1200,
        "--batch-size",
        32,
    )
    assert checkpoint(tmp_path)["history"][-1]["test_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--seed", "1"], r"seed 0 \(now 1\)"),
        (["--lr", "1e-3"], r"lr 0.005 \(now 0.001\)"),
        (["--hidden", "24", "17"], r"hidden \[24, 16\] \(now \[24, 17\]\)"),
        (["--backend", "loop"], r"backend fused \(now loop\)"),
        (["--limit", "95", "--steps", "9"], r"steps 10 \(now 9\), limit 96 \(now 95\)"),
        (["--epochs", "1"], "--epochs 1: .* is of epoch 2 already"),
    ],
)
def test_resuming_with_other_settings_is_refused(tmp_path, capsys, changes, message):
    run(tmp_path, "--epochs", 2)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    run(tmp_path, "--epochs", 3, "--resume", *changes, expect=1)
    assert re.search(message, capsys.readouterr().err)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_resuming_needs_a_sound_checkpoint(tmp_path, capsys):
    run(tmp_path, "--resume", expect=1)
    assert "there is no checkpoint" in capsys.readouterr().err
    run(tmp_path, "--epochs", 1)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for damaged in (whole[:1000], b"", b"not a checkpoint"):
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        run(tmp_path, "--resume", expect=1)
        assert "damaged" in capsys.readouterr().err
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    run(tmp_path, "--resume", expect=1)
    assert "no checkpoint of this program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epochs 0", "--epochs: '0' is not a whole number from 1"),
        ("--epochs 1.5", "--epochs: '1.5' is not a whole number from 1"),
        ("--batch-size -3", "--batch-size: '-3' is not a whole number from 1"),
        ("--lr 0", "--lr: '0' is not a number above 0"),
        ("--lr nan", "--lr: 'nan' is not a number above 0"),
        ("--lr 2", "--lr: '2' is not a number above 0 to 1"),
        ("--lr-decay 1.1", "--lr-decay: '1.1' is not a number above 0 to 1"),
        ("--rate-penalty -1", "--rate-penalty: '-1' is not a number from 0"),
        ("--steps 0", "--steps: '0' is not a whole number from 1"),
        ("--hidden 8 0", "--hidden: '0' is not a whole number from 1"),
        ("--seed -1", "--seed: '-1' is not a whole number from 0"),
        ("--threads 0", "--threads: '0' is not a whole number from 1"),
        ("--limit 0", "--limit: '0' is not a whole number from 1"),
        ("--limit 1348", "--limit 1348: there are 1347 training images"),
        ("--data mnist", "--data: invalid choice: 'mnist'"),
        ("--data-dir .", "--data-dir is for --data fashion-mnist"),
        ("--backend slow", "--backend: invalid choice"),
        ("--device tpu", "--device tpu: expected cpu, cuda or cuda:<number>"),
        ("--device meta", "--device meta: expected cpu, cuda or cuda:<number>"),
    ],
)
def test_bad_arguments(tmp_path, capsys, arguments, message):
    with contextlib.suppress(SystemExit):  # argparse's
        run(tmp_path, *arguments.split(), expect=1)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert message in capsys.readouterr().err


def test_a_loss_that_explodes_stops_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_images.Trainer, "step", lambda self, x, y: torch.full((3,), float("nan")))
    run(tmp_path, expect=1)
    assert "the loss became nan; try a smaller --lr" in capsys.readouterr().err
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_that_is_not_there(tmp_path, capsys, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run(tmp_path, "--device", device, expect=1)
    assert f"--device {device}: this PyTorch" in capsys.readouterr().err


def test_a_gpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    run(tmp_path, "--device", "cuda:0", "--epochs", 1)
    run(tmp_path, "--device", "cuda:0", "--epochs", 2, "--resume")
    assert checkpoint(tmp_path)["epoch"] == 2


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    run(tmp_path / "file" / "out", expect=1)
    assert f"--out {tmp_path / 'file' / 'out'}: Not a directory" in capsys.readouterr().err


def idx(array):
    return (
        bytes([0, 0, 8, array.dim()]) + struct.pack(f">{array.dim()}i", *array.shape) + bytes(array.flatten().tolist())
    )


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Two mirrors with a small data set of Fashion-MNIST's form; no Debian package, and an empty cache."""
    torch.manual_seed(0)
    for name in image_data.CHECKSUMS:
        images = 64 if name.startswith("train") else 20
        shape = (images, 28, 28) if "images" in name else (images,)
        content = idx(torch.randint(256 if "images" in name else 10, shape))
        monkeypatch.setitem(image_data.CHECKSUMS, name, hashlib.sha256(content).hexdigest())
        for mirror in ("first", "second"):
            (tmp_path / mirror).mkdir(exist_ok=True)
            (tmp_path / mirror / name).write_bytes(gzip.compress(content))
    monkeypatch.setattr(image_data, "MIRRORS", tuple(f"file://{tmp_path / mirror}/" for mirror in ("first", "second")))
    monkeypatch.setattr(image_data, "DEBIAN", tmp_path / "no package")
    monkeypatch.setattr(image_data, "CACHE", tmp_path / "cache")
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fashion_mnist_is_downloaded_once(mirrors, capsys):
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, "--epochs", 1)
    assert capsys.readouterr().out.count("downloading") == 4
    assert content(mirrors / "cache") == content(mirrors / "first")
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, "--epochs", 1)
    assert "downloading" not in capsys.readouterr().out
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, "--epochs", 1, "--data-dir", mirrors / "second")
    images = image_data.fashion_mnist()
    assert [len(part) for part in images[:4]] == [64, 64, 20, 20]
    pixels = gzip.decompress((mirrors / "first" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert torch.equal(
        (images.test_x * 255).round().flatten().to(torch.uint8), torch.tensor(list(pixels), dtype=torch.uint8)
    )


DAMAGE = {
    "another file": lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\x63"),
    "cut short": lambda packed: packed[:-20],
    "bit flip": lambda packed: packed[:40] + bytes([packed[40] ^ 64]) + packed[41:],
    "bad block": lambda packed: packed[:10] + b"\xff" + packed[11:],
    "login page": lambda packed: b"<html>Please log in</html>",
    "empty": lambda packed: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_download_is_refused(mirrors, capsys, damage):
    name = "train-labels-idx1-ubyte.gz"
    for mirror in ("first", "second"):
        path = mirrors / mirror / name
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, expect=1)
    error = capsys.readouterr().err
    assert f"{name} could not be downloaded" in error
    assert error.count("has a wrong checksum") + error.count("is damaged") == 2
    assert content(mirrors / "cache").keys() == {"train-images-idx3-ubyte.gz"}


def test_the_second_mirror_steps_in(mirrors):
    (mirrors / "first" / "train-images-idx3-ubyte.gz").unlink()
    (mirrors / "first" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"?")
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, "--epochs", 1)
    assert content(mirrors / "cache") == content(mirrors / "second")


def test_damaged_files_on_disk_are_refused(mirrors, capsys):
    image_data.fashion_mnist()
    for folder, changes in ((mirrors / "cache", []), (mirrors / "second", ["--data-dir", mirrors / "second"])):
        path = folder / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(b"other"))
        run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, *changes, expect=1)
        error = capsys.readouterr().err
        assert f"{path} has a wrong checksum" in error
        assert ("delete it" in error) == (not changes)
    path.unlink()
    run(mirrors / "out", "--data", "fashion-mnist", "--limit", 64, *changes, expect=1)
    assert f"cannot read {path}: No such file" in capsys.readouterr().err


@pytest.mark.skipif(not image_data.DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist():
    images = image_data.fashion_mnist()
    assert (images.train_x.shape, images.test_x.shape) == ((60000, 784), (10000, 784))
    assert images.train_y.bincount().tolist() == [6000] * 10
    assert images.test_y.bincount().tolist() == [1000] * 10
    assert (images.train_x.min(), images.train_x.max()) == (0, 1)


def test_the_digits_are_split_without_overlap():
    images = image_data.digits()
    assert (images.train_x.shape, images.test_x.shape) == ((1347, 64), (450, 64))
    assert len(torch.cat([images.train_x, images.test_x]).unique(dim=0)) == 1797
    assert images.test_y.bincount().min() >= 43

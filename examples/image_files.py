"""What train_images.py writes and reads: checkpoints and metrics; and the error for what its user can put right."""

from __future__ import annotations

import io
import json
import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import torch_lif


class UserError(Exception):
    """Something that the user can put right: shown without a traceback."""


def write_atomically(path: Path, content: bytes) -> None:
    """Whoever reads `path`, at any moment, finds the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"--out {path}: no permission to write there")


def save_checkpoint(path: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"settings": dict(settings), **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The state that was saved; UserError unless it was saved under the same settings, for it could not be continued
    then."""
    if not path.exists():
        raise UserError(f"--resume: there is no checkpoint {path}; start without --resume")
    try:
        # Tensors come to the CPU, whatever device they were saved from; load_state_dict copies them to where they
        # belong.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved = dict(state.pop("settings"))
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise UserError(f"--resume: {path} is no checkpoint of this program, or damaged ({error})") from error
    other = [f"{name} {saved.get(name)} (now {value})" for name, value in settings.items() if saved.get(name) != value]
    if other:
        raise UserError(f"--resume: {path} was made with {', '.join(other)}; give the same settings, or another --out")
    return state


def save_metrics(
    path: Path, settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]], seconds: float, device: torch.device
) -> None:
    last = history[-1]
    metrics = {
        "test_accuracy": last["test_accuracy"],
        "test_spikes_per_neuron": last["test_spikes"],
        "seconds": round(seconds, 2),
        "seconds_per_epoch": round(sum(row["seconds"] for row in history) / len(history), 4),
        "settings": settings,
        "machine": {
            "processor": processor(),
            "cpus": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "platform": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torch_lif": torch_lif.__version__,
        },
        "history": history,
    }
    write_atomically(path, (json.dumps(metrics, indent=1) + "\n").encode())


def processor() -> str:
    """The processor's name; platform.processor() does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""What has to be known of a machine to cite a figure measured on it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

import torch_lif

SETTINGS = (
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "THP_MEM_ALLOC",
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "TORCH_",
    "CUDA_",
    "PYTORCH_",
)
"""Beginnings of the names of environment variables that change timings."""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def processor() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def last_level_cache() -> int:
    """Bytes of all last-level caches together; 0 if the system does not tell."""
    found: dict[tuple[int, str], int] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        level, size = _read(index / "level"), _read(index / "size")
        if level.isdigit() and size.endswith("K") and size[:-1].isdigit():
            found[int(level), _read(index / "shared_cpu_list")] = int(size[:-1]) * 1024
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last)


def own_cpus() -> set[int]:
    """CPUs that this process may run on."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def busy_seconds() -> float | None:
    """CPU time that all processes have taken on our CPUs, and what a hypervisor has stolen; None if the system does not
    tell."""
    names = {f"cpu{k}" for k in own_cpus()}
    ticks = 0
    for line in _read(Path("/proc/stat")).splitlines():
        name, *times = line.split()
        if name in names and len(times) >= 8:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, times[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


class Others:
    """How many of our CPUs were busy with other processes, on average since this was made."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float | None]:
        busy, own = busy_seconds(), os.times()
        return time.perf_counter(), None if busy is None else busy - own.user - own.system

    def cpus(self) -> float | None:
        (then, before), (now, after) = self._start, self._now()
        return None if before is None or after is None or now <= then else max(after - before, 0.0) / (now - then)


def cache_bytes(device: str) -> int:
    """What has to be displaced for the next call to find its arrays in memory only; a guess where the system does not
    tell."""
    if device == "cuda":
        return int(getattr(torch.cuda.get_device_properties(), "L2_cache_size", 0)) or 128 * 2**20
    return last_level_cache() or 64 * 2**20


def describe(device: str) -> dict[str, Any]:
    """Machine, versions and settings, as they go into the JSON."""
    found: dict[str, Any] = {
        "device": device,
        "processor": processor(),
        "cpus": len(own_cpus()),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "huge_pages": _read(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
        "instruction_set": torch_lif._C.instruction_set(),
        "versions": {
            "torch_lif": torch_lif.__version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        },
        "build": dict(torch_lif._C.build_info()),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties()
        found["gpu"] = properties.name
        found["gpu_memory"] = properties.total_memory
        found["gpu_multiprocessors"] = properties.multi_processor_count
        found["compute_capability"] = f"{properties.major}.{properties.minor}"
    return found

"""Times calls on one device, each from a cold cache."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import math
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from .machine import Others, cache_bytes

Call = Callable[[], object]

FLUSH_LEAST = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}
FLUSH_MOST = 2 * 2**30
MOST_SAMPLES = 200
"""More make no median better; not so many as would be too few for a budget's `repeats`."""
WARM_UP = 0.1
"""Seconds, after two calls at least."""


class Budget(NamedTuple):
    """How long a call is measured: at least `repeats` times, and on until `min_time` seconds or MOST_SAMPLES; but no
    more than `max_time` seconds with the flushes; three times whatever it takes."""

    repeats: int
    min_time: float
    max_time: float


class Deadline:
    """The time that a run may take. seconds: from now; None: no end."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        return math.inf if self._end is None else self._end - time.monotonic()


@dataclasses.dataclass
class Measurement:
    """samples: seconds of each repeat. peak: most bytes allocated during a call, with its inputs and outputs (CUDA;
    PyTorch counts none on the CPU). back_to_back: seconds a call when many follow each other (CUDA). faults: page
    faults a repeat (CPU). others: CPUs that other processes kept busy meanwhile."""

    samples: list[float]
    peak: int | None = None
    back_to_back: float | None = None
    faults: float | None = None
    others: float | None = None


@dataclasses.dataclass
class Copy:
    """What copies of arrays beyond the cache take: the measure of what memory can do. Bytes are those read and written.
    others: as of a Measurement."""

    bytes_moved: int
    samples: list[float]
    fresh_bytes_moved: int
    fresh_samples: list[float]
    fresh_faults: float
    others: float | None = None

    @property
    def bandwidth(self) -> float:
        """Bytes a second into a destination that has been written before."""
        return self.bytes_moved / statistics.median(self.samples)

    @property
    def fresh_bandwidth(self) -> float:
        """Bytes a second into a destination allocated by the copy: all that an op can reach that returns a new
        tensor."""
        return self.fresh_bytes_moved / statistics.median(self.fresh_samples)

    @property
    def fault_seconds(self) -> float:
        """About what one page fault costs."""
        extra = statistics.median(self.fresh_samples) - self.fresh_bytes_moved / self.bandwidth
        return max(extra, 0.0) / self.fresh_faults if self.fresh_faults else 0.0


def keep_memory() -> None:
    """Makes glibc's malloc keep freed memory, which otherwise goes back to the system and is faulted in anew by each
    call."""
    m_trim_threshold, m_mmap_max = -1, -4
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, -1)):
        raise RuntimeError("mallopt() failed: memory cannot be kept")


def memcpy(target: torch.Tensor, source: torch.Tensor, pool: ThreadPoolExecutor) -> None:
    """C's, a piece for each thread of PyTorch. It writes large arrays past the caches; PyTorch's copy_ does not, and so
    reads first what it is to overwrite."""
    step = -(-source.nbytes // torch.get_num_threads())
    starts = range(0, source.nbytes, step)
    sizes = [min(step, source.nbytes - start) for start in starts]
    places = [[tensor.data_ptr() + start for start in starts] for tensor in (target, source)]
    list(pool.map(ctypes.memmove, *places, sizes))


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Meter:
    """A clock for one device, "cpu" or "cuda" (the current one), and the buffer that displaces its cache."""

    def __init__(self, device: str, budget: Budget) -> None:
        self.device, self.budget = device, budget
        self.cache = cache_bytes(device)
        size = min(max(2 * self.cache, FLUSH_LEAST[device]), FLUSH_MOST)
        self._buffer = torch.ones(size // 4, device=device)  # written, for untouched memory reads as one page of zeros
        self._abandoned: list[torch.cuda.CUDAGraph] = []

    @property
    def flush_bytes(self) -> int:
        return self._buffer.nbytes

    def flush(self) -> None:
        """Displaces the cache. Reading comes last: what it leaves need not be written back while the call is timed."""
        if self.device == "cuda":
            self._buffer.zero_()
        self._buffer.sum()

    def once(self, call: Call, idle: bool = False) -> tuple[float, int]:
        """Seconds and page faults of one call, from before it allocates its result until that is free again. idle: the
        GPU waits for the call, so that the host's time counts; otherwise launches may hide behind work before."""
        if self.device == "cuda":
            if idle:
                torch.cuda.synchronize()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3, 0
        faults, begin = page_faults(), time.perf_counter()
        call()
        seconds = time.perf_counter() - begin
        return seconds, page_faults() - faults

    def _peak(self, call: Call, held: int) -> int | None:
        if self.device != "cuda":
            call()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before + held

    def in_a_row(self, call: Call, about: float = 0.0) -> float | None:
        """Seconds a call when calls follow each other, the host's time included; None on the CPU, where any call's time
        is that. about: what one takes, so that slow ones are few."""
        if self.device != "cuda":
            return None
        count = min(max(int(0.05 / about), 1), 200) if about else 200
        if not about:
            call()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / count

    def replay(self, call: Call) -> tuple[Call, object]:
        """A call that replays a CUDA graph of `call`, and where its results lie. An error if no graph can hold the
        call; other calls can still be captured then."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            # If the end of the capture fails, PyTorch leaves the capture's stream current: hence the stream outside.
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool):
                results = call()
        except Exception:
            self._abandon(graph, pool)
            raise
        return graph.replay, results

    def _abandon(self, graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
        """Ends what the end of a failed capture leaves open: PyTorch's allocator would take the capture to go on, and
        refuse to give memory back and to begin another one. An error here means that nothing was left open."""
        with contextlib.suppress(RuntimeError):
            device = torch.cuda.current_device()
            torch._C._cuda_endAllocateToPool(device, pool)
            self._abandoned.append(graph)  # the allocators may still ask it whether a stream is being captured
            torch._C._cuda_releasePool(device, pool)

    def measure(self, call: Call, held: int = 0, replayed: bool = False) -> Measurement:
        """held: bytes of the call's inputs. replayed: the call is a graph's replay: its memory is the graph's, no host
        is timed."""
        began = time.perf_counter()
        call()
        peak = None if replayed else self._peak(call, held)
        while time.perf_counter() - began < WARM_UP:
            self.once(call)

        samples: list[float] = []
        faults, others, began = 0, Others(), time.perf_counter()
        repeats, min_time, max_time = self.budget
        while len(samples) < 3 or (
            (len(samples) < repeats or (sum(samples) < min_time and len(samples) < MOST_SAMPLES))
            and time.perf_counter() - began < max_time
        ):
            self.flush()
            seconds, more = self.once(call, idle=not replayed)
            samples.append(seconds)
            faults += more
        if self.device != "cpu":
            row = None if replayed else self.in_a_row(call, statistics.median(samples))
            return Measurement(samples, peak, row)
        return Measurement(samples, faults=faults / len(samples), others=others.cpus())

    def copy(self, repeats: int = 15) -> Copy:
        """Copies the flush buffer, too large for the cache to matter; a quarter of it where each copy's destination is
        fresh. On a GPU they are launched while a flush runs, as graphs are: the measure of kernels has no launch in
        it."""
        others, whole = Others(), self._buffer
        part = whole[: whole.numel() // 4]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:

            def copy(target: torch.Tensor, source: torch.Tensor) -> None:
                if self.device == "cpu":
                    memcpy(target, source, pool)
                else:
                    target.copy_(source)

            samples = self._copies(functools.partial(copy, torch.ones_like(whole), whole), repeats)
            fresh = [self.once(lambda: copy(torch.empty_like(part), part)) for _ in range(repeats + 1)][1:]
        faults = statistics.mean(faults for _, faults in fresh)
        busy = others.cpus() if self.device == "cpu" else None
        return Copy(2 * whole.nbytes, samples, 2 * part.nbytes, [seconds for seconds, _ in fresh], faults, busy)

    def _copies(self, copy: Callable[[], object], repeats: int) -> list[float]:
        self.once(copy)
        samples = []
        for _ in range(repeats):
            if self.device == "cuda":
                self.flush()
            samples.append(self.once(copy)[0])
        return samples

"""The process that watches: it starts children. If a call ends its child or takes too long, it starts a new child with
the next call."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Report:
    """How many calls had which outcome, and which calls had a fault."""

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    def text(self, seed: int) -> str:
        lines = [
            f"{self.done} calls: {self.outcomes['compared']} like the reference, {self.outcomes['refused']} "
            "refused as they "
            f"should, {self.outcomes['ran']} tampered with and harmless, {len(self.faults)} faults"
        ]
        for number, fault in sorted(self.faults.items()):
            lines += [f"{fault}\n    python -m tests.fuzz --seed {seed} --only {number}"]
        return "\n".join(lines)


class Child:
    """A process that makes the calls first, first + step, ... below end."""

    def __init__(self, seed: int, first: int, step: int, end: int, command: list[str]) -> None:
        self.seed, self.step, self.end, self.command = seed, step, end, command
        self.next = first
        self.current: int | None = None
        self.since = time.monotonic()
        self.text = b""
        reader, writer = os.pipe()
        self.pipe = reader
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [*command, *map(str, (seed, first, step, end, writer))],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            pass_fds=(writer,),
            stdout=self.errors,
            stderr=self.errors,
        )
        os.close(writer)

    def read(self) -> list[dict[str, Any]] | None:
        """The lines that the child has written since the last read; None when it has ended."""
        chunk = os.read(self.pipe, 1 << 16)
        if not chunk:
            return None
        *lines, self.text = (self.text + chunk).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            self.current = message.get("starts")
            self.next = message.get("number", self.current) + self.step
            self.since = time.monotonic()
        return [message for message in messages if "number" in message]

    def ended(self) -> str | None:
        """How the child ended before its last call; None if it made all calls."""
        status = self.process.wait()
        os.close(self.pipe)
        if self.current is None and (status == 0 or self.next >= self.end):
            return None
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        place = re.search(r"(AddressSanitizer[^\n]*|terminate called[^\n]*\n[^\n]*)", said)
        by = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
        return f"the process ended by {by}{': ' + place[1] if place else ': ' + said[-300:] if status > 0 else ''}"


def fuzz(
    seed: int,
    first: int,
    calls: int,
    processes: int = 1,
    hang: float = 30,
    most: int = 200,
    command: list[str] | None = None,
) -> Iterator[Report]:
    """Makes the calls and yields the growing report, for the last time when all calls are done."""
    command = command or [sys.executable, "-m", "tests.fuzz.child"]
    report = Report()
    end = first + calls
    with selectors.DefaultSelector() as selector:

        def start(number: int, step: int) -> None:
            if number < end and len(report.faults) < most:
                child = Child(seed, number, step, end, command)
                selector.register(child.pipe, selectors.EVENT_READ, child)

        for k in range(min(processes, calls)):
            start(first + k, processes)
        while selector.get_map():
            for key, _ in selector.select(timeout=1):
                _take(report, key.data, selector, start)
            for key in list(selector.get_map().values()):
                child = key.data
                waited = time.monotonic() - child.since
                if (child.current is not None and waited > hang) or waited > hang + 120 or len(report.faults) >= most:
                    child.process.kill()
            yield report
    yield report


def _take(report: Report, child: Child, selector: selectors.BaseSelector, start: Any) -> None:
    """Adds a child's lines to the report. If the child has ended too early, adds a fault and starts a new child with
    the next call."""
    messages = child.read()
    for message in messages or ():
        report.outcomes[message["outcome"]] += 1
        if message["fault"]:
            report.faults[message["number"]] = message["fault"]
    if messages is not None:
        return
    selector.unregister(child.pipe)
    hung = time.monotonic() - child.since
    how = child.ended()
    if how is None:
        return
    lost = child.current is None  # between two calls: a device that was lost has been reported
    if not lost:
        report.outcomes["fault"] += 1
        report.faults[child.current] = f"the call hung for {hung:.0f} s" if "SIGKILL" in how else how
    elif child.process.returncode != 77:
        report.faults[-1] = f"the child did not start: {how}"
        return
    start(child.next, child.step)

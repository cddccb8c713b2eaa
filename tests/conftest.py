import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from torch_lif import _C

# Derandomised: the same examples every run, so that a red run can be repeated. How many they are, each test says
# (cases.examples). TORCH_LIF_HYPOTHESIS=search takes other examples in each run.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("TORCH_LIF_HYPOTHESIS", "suite"))

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def pytest_report_header() -> str:
    return f"torch {torch.__version__}, {_C.instruction_set()}, devices: {', '.join(DEVICES)}"


@pytest.fixture(autouse=True)
def _same_numbers_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DEVICES)
def target(request: pytest.FixtureRequest) -> str:
    """A device; on the CPU the test runs under every instruction set that this processor has (pytest_pyfunc_call)."""
    return request.param


class Once:
    """Computes what does not depend on the instruction set in the test's first run, and remembers it for the others."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.place = 0

    def __call__(self, compute: Callable[[], Any]) -> Any:
        self.place += 1
        if self.place > len(self.results):
            self.results.append(compute())
        return self.results[self.place - 1]


@pytest.fixture
def once() -> Once:
    return Once()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that asks for `target` under every instruction set, within one test."""
    given = pyfuncitem.funcargs
    if given.get("target") != "cpu":
        return None
    before = _C.instruction_set()
    try:
        for isa in _C.supported_instruction_sets():
            print("instruction set:", isa)  # shown if it fails
            _C.set_instruction_set(isa)
            torch.manual_seed(0)
            if "once" in given:
                given["once"].place = 0
            pyfuncitem.obj(**{name: given[name] for name in pyfuncitem._fixtureinfo.argnames})
    finally:
        _C.set_instruction_set(before)
    return True


@pytest.fixture
def threads():
    """Sets the number of threads; the old number comes back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)

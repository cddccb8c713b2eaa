import os

import hypothesis
import pytest
import torch

from torch_lif import _C

# Derandomised: the same examples every run, so that a red run can be repeated. TORCH_LIF_HYPOTHESIS=search looks further.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
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


@pytest.fixture(params=[*(f"cpu-{isa}" for isa in _C.supported_instruction_sets()), *DEVICES[1:]])
def target(request: pytest.FixtureRequest):
    """Every device, and on the CPU every instruction set this processor has."""
    device, _, isa = request.param.partition("-")
    before = _C.instruction_set()
    if isa:
        _C.set_instruction_set(isa)
    yield device
    _C.set_instruction_set(before)


@pytest.fixture
def threads():
    """Sets the number of threads; the old number comes back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)

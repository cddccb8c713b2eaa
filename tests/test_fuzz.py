"""Two thousand calls of the fuzz test (tests/fuzz), and that it notices what it must."""

import re
import sys
from pathlib import Path

import pytest
import torch
from fuzz import calls, child, judge, parent

from torch_lif import reference

ROOT = Path(__file__).resolve().parents[1]


def last_of(reports):
    report = None
    for report in reports:  # noqa: B007 (it grows)
        pass
    return report


def test_random_and_broken_calls():
    report = last_of(parent.fuzz(seed=0, first=0, calls=2000))
    print(report.text(0))
    assert not report.faults, report.text(0)
    assert report.outcomes["compared"] > 1000, "hardly a call was valid: this would prove little"
    assert report.outcomes["refused"] > 500, "hardly a call was refused: this would prove little"


def test_a_call_is_always_the_same():
    for number in range(60):
        texts = {re.sub("0x[0-9a-f]+", "", child.text_of(calls.build(3, number))) for _ in range(2)}
        assert len(texts) == 1
    assert len({child.text_of(calls.build(3, number)) for number in range(60)}) == 60


FAKE_CHILD = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from fuzz import child, judge

def fake(seed, number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 3:
        time.sleep(60)
    if number == 5:
        os._exit(3)
    if number == 6:
        raise judge.DeviceLostError("CUDA error: an illegal memory access")
    if number == 7:
        raise judge.FaultError("wrong")
    return "compared"

child.judge = fake
child.main()
"""


def test_signals_hangs_and_lost_devices_are_faults(tmp_path):
    """The calls behind them are made all the same, by the next child."""
    script = tmp_path / "fake_child.py"
    script.write_text(FAKE_CHILD.format(tests=str(ROOT / "tests")))
    report = last_of(parent.fuzz(seed=0, first=0, calls=10, hang=2, command=[sys.executable, str(script)]))
    assert sorted(report.faults) == [1, 3, 5, 6, 7], report.text(0)
    for number, text in ((1, "SIGSEGV"), (3, "hung"), (5, "exit status 3"), (6, "CUDA error"), (7, "wrong")):
        assert text in report.faults[number]
    assert report.outcomes["compared"] == 5


def first_valid(kind, where=lambda call: True):
    """The number of a small valid call of this kind."""
    for number in range(2000):
        call = calls.build(5, number)
        fits = call.kind == kind and not call.broken and not call.extreme and not call.settings["inference_mode"]
        if fits and call.device == "cpu" and call.arguments["x"].numel() > 20 and where(call):
            return number
    raise AssertionError("no such call")


def spoiled(function, change):
    def call(*args, **kwargs):
        return change(function(*args, **kwargs))

    return call


def other_last_value(result):
    with torch.no_grad():
        result[0].flatten()[-1:].add_(1)
    return result


@pytest.mark.parametrize("kind", ["function", "module", "op", "forward"])
def test_one_wrong_value_is_a_fault(kind, monkeypatch):
    number = first_valid(kind, lambda call: call.case.name == "lif" and call.arguments.get("x").is_contiguous())
    assert judge.judge(5, number) == "compared"
    monkeypatch.setattr(reference, "loop", spoiled(reference.loop, other_last_value))
    with pytest.raises(judge.FaultError, match="differ from the reference"):
        judge.judge(5, number)


@pytest.mark.parametrize("kind", ["function", "module", "backward"])
def test_a_wrong_gradient_is_a_fault(kind, monkeypatch):
    number = first_valid(
        kind,
        lambda call: (
            call.arguments["x"].dtype == torch.float64
            and ("x" in call.needs if kind != "backward" else call.raw["needs"][0])
            and not call.smooth
        ),
    )
    assert judge.judge(5, number) == "compared"
    count = iter(range(2))  # a call's own gradients, then the reference's; a "backward" asks for the latter alone
    wrong = lambda grads: {name: g + 1e-6 * (next(count) == 0) if name == "x" else g for name, g in grads.items()}  # noqa: E731
    monkeypatch.setattr(judge, "gradients_of", spoiled(judge.gradients_of, wrong))
    with pytest.raises(judge.FaultError, match="gradient of x"):
        judge.judge(5, number)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("lif: threshold is -1, expected a number above 0"), None),
        (ValueError("lif: something is wrong"), "does not name"),
        (TypeError("threshold: 'NoneType' object is not iterable"), "internal"),
        (AttributeError("'int' object has no attribute 'threshold'"), "wrong kind"),
        (KeyError("threshold"), "wrong kind"),
        (AssertionError("threshold"), "wrong kind"),
        (RuntimeError("lif: threshold"), "wrong kind"),
        (NotImplementedError("Could not run 'torch_lif::lif' with threshold"), "internal"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_must_name_the_argument(error, fault):
    call = calls.build(5, first_valid("function"))
    call.broken, call.names = ["threshold: -1"], {"threshold"}
    if fault is None:
        assert judge.refused(call, error) == "refused"
    else:
        with pytest.raises(judge.FaultError, match=fault):
            judge.refused(call, error)
    with pytest.raises(judge.FaultError, match="a valid call was refused"):
        judge.refused(calls.build(5, first_valid("function")), error)


def test_an_argument_written_to_is_a_fault(monkeypatch):
    number = first_valid("function", lambda call: not call.needs)

    def run(call):
        result = call.case.fused(**call.arguments)
        call.arguments["x"] = call.arguments["x"] + 1
        return result

    monkeypatch.setattr(judge, "run", run)
    with pytest.raises(judge.FaultError, match="changed its argument x"):
        judge.judge(5, number)

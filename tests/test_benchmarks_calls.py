"""`python -m benchmarks calls`: its list of calls, their fewest bytes, and how a row is measured and shown. Needs no
GPU, but tests more on one."""

import dataclasses
import functools
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from torch_lif.compat import hxtorch, norse, rockpool, sinabs

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

pytest.importorskip("tqdm")
pytest.importorskip("resource", reason="getrusage() is of Unix")

from benchmarks import calls, cli, machine, measure, report, summary  # noqa: E402
from benchmarks.calls import CALLS  # noqa: E402
from benchmarks.cases import CASES, MODULE, Shape  # noqa: E402
from benchmarks.contenders import GRAPH, OURS  # noqa: E402
from benchmarks.suite import Verdict  # noqa: E402

SHAPE = Shape(20, 2, 16)
FAST = ["--device", "cpu", "--repeats", "1", "--min-time", "0", "--max-time", "0.01", "--shapes", str(SHAPE)]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A cache that is flushed at once; files in a folder of the test's."""
    make_small(monkeypatch)
    monkeypatch.chdir(tmp_path)


def make_small(monkeypatch):
    monkeypatch.setattr(measure, "cache_bytes", lambda device: 2**20)
    monkeypatch.setattr(measure, "FLUSH_LEAST", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(measure, "WARM_UP", 0.0)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The file of a run of all calls."""
    file = tmp_path_factory.mktemp("calls") / "calls.json"
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        monkeypatch.setattr(calls, "tidy", lambda device: None)  # a second for ten rows
        assert cli.main(["calls", *FAST, "--json", str(file)]) == 0
    return file


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # T 32, B 2, N 10. A sequence in float32 has 2560 bytes, a state 80, a mask 80.
        ("lif", 4 * 2560 + 2 * 80 + 80),  # x, y, both gradients; the mask twice; the last v
        ("lif+sum", 3 * 2560 + 2 * 80 + 80),  # no gradient of y
        ("lif+sum-over-time", 3 * 2560 + 80 + 2 * 80 + 80),  # one step of it
        ("lif+noise", 5 * 2560 + 2 * 80 + 80),
        ("lif+record-v", 6 * 2560 + 2 * 80 + 80),
        ("lif+constant-x", 2 * 2560 + 80 + 2 * 80 + 3 * 80),  # y and its gradient; a step of x; first v, its gradient
        ("lif+super-spike", 5 * 2560 + 4 * 80 + 80),  # x once more; two checkpoints, written and read; the last v
        ("lif+bfloat16", 4 * 1280 + 2 * 80 + 80),
        ("lif+float64", 4 * 5120 + 2 * 80 + 160),
        ("cuba-lif+3-synapses", 8 * 2560 + 2 * 80 + 4 * 80),
        ("cuba-lif+parameters", 5 * 2560 + 2 * 4 * 80 + 2 * 80),
        ("alif", 5 * 2560 + 2 * 4 * 80 + 2 * 80),
        ("li+sum", 3 * 2560 + 2 * 80),
        ("li+module", 4 * 2560 + 2 * 80),
        ("lif+module", 5 * 2560 + 4 * 80 + 80),  # SuperSpike is the default
        ("sinabs-alif", 5 * 2560 + 2 * 4 * 80 + 4 * 80),  # two first states, two last ones
        ("rockpool-lif+2-synapses", 8 * 2560 + 3 * 4 * 80 + 3 * 80),
        ("hxtorch-lif", 7 * 2560 + 2 * 4 * 80 + 2 * 80),  # v and i are returned
    ],
)
def test_fewest_bytes(name, expected):
    assert CALLS[name].bytes_moved(Shape(32, 2, 10)) == expected


def test_headline_calls_have_the_bytes_of_layer():
    for name in calls.HEADLINES:
        call, case = CALLS[name], CASES[name]
        expected = case.bytes_moved("forward+backward", SHAPE, torch.float32, "cpu", call.mode)
        assert call.bytes_moved(SHAPE) == expected


def test_names_and_headlines():
    assert all(call.name == name and call.case.name in calls.HEADLINES for name, call in CALLS.items())
    assert {name + MODULE for name in calls.HEADLINES} <= set(CALLS)
    assert len({(call.name, call.what) for call in CALLS.values()}) == len(CALLS)


def test_every_drop_in_has_a_call():
    """Each class of torch_lif.compat that runs a sequence without recurrence, and hxtorch's functions."""
    made = {type(call.module(8, "fused")[0]) for call in CALLS.values() if call.foreign}
    kinds = [getattr(package, name) for package in (sinabs, rockpool, norse) for name in package.__all__]
    layers = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, nn.Module)}
    others = ("Recurrent", "Cell", "Base", "StatefulLayer")
    assert {kind for kind in layers if not any(part in kind.__name__ for part in others)} == made - {nn.Identity}
    assert {"hxtorch-lif", "hxtorch-li", "rockpool-lif+2-synapses", "sinabs-alif+multi-spike"} <= set(CALLS)
    assert all(callable(getattr(hxtorch, f"cuba_{kind}_integration")) for kind in ("lif", "li"))


def made(name, shape=SHAPE):
    return calls.ready(CALLS[name], CALLS[name].resize(shape), "cpu")


def test_calls_are_what_they_say():
    t, b, n = SHAPE
    x = {name: made(name).leaves.get("x") for name, call in CALLS.items() if not call.module}
    assert x["lif"].shape == (b, t, n)
    assert x["lif+one-more"].shape == (b, t, n + 1)
    assert x["lif+two-fewer"].shape == (b, t, n - 2)
    assert x["li+10-neurons"].shape == (b, t, 10)
    assert x["lif+batch-1"].shape == (1, t, n)
    assert x["lif+time-first"].shape == (t, b, n)
    assert x["cuba-lif+8-synapses"].shape == (b, t, 8 * n)
    assert x["lif+image"].shape == x["lif+channels-last"].shape == (b, t, 4, 2, 2)
    assert x["lif+image"].stride()[2:] == (4, 2, 1)
    assert x["lif+channels-last"].stride()[2:] == (1, 8, 4)
    assert x["lif+strided-x"].stride() == (t * n, 1, t)
    assert x["lif+float16"].dtype == torch.float16
    assert x["lif+constant-x"] is None
    constant = made("lif+constant-x")
    assert constant.others[0].stride() == (n, 0, 1)
    assert list(constant.leaves) == ["v"]
    assert made("lif+sum").grads[0].stride() == (0, 0, 0)
    assert made("lif+sum-over-time").grads[0].stride() == (n, 0, 1)
    assert list(made("cuba-lif+parameters").leaves) == ["x", "decay_mem", "decay_syn", "threshold"]
    assert list(made("lif+threshold").leaves) == ["x", "threshold"]
    v = made("lif+record-v")
    assert len(v.forward()) == len({grad.data_ptr() for grad in v.grads}) == 2


def test_parameters_that_are_trained_are_known():
    """The fewest bytes of a module's call depend on whether its parameters have gradients."""
    for name, call in CALLS.items():
        assert bool(set(made(name).leaves) - {"x", "v"}) == bool(call.trained), name


@pytest.mark.parametrize(
    ("neurons", "size"), [(1, (1, 1, 1)), (17, (17, 1, 1)), (512, (8, 8, 8)), (16384, (64, 16, 16))]
)
def test_pictures(neurons, size):
    assert calls.picture(neurons) == size


def test_every_call_runs(everything):
    found = report.read(everything)
    assert found.kind == "calls"
    assert {row.case for row in found.rows} == set(CALLS)
    assert len(found.rows) == len(CALLS)
    for row in found.rows:
        of = found.derived(row)
        assert row.error == row.uncaptured == ""
        assert row.samples, row.case
        assert all(math.isfinite(seconds) and seconds > 0 for seconds in row.samples)
        assert of["copy_fraction"] > 0
        assert of["times_headline"] > 0
        assert row.check.startswith("a call and its backward" if CALLS[row.case].foreign else "output equal to eager's")
        assert row.spike_rate is None or 0.005 < row.spike_rate < 0.6
    assert [of["times_headline"] for row in found.rows if row.case == "lif" for of in [found.derived(row)]] == [1.0]


def test_show_and_report(everything, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main(["show", str(everything)]) == 0
    out = capsys.readouterr().out
    assert "times headline" in out
    assert "lif+sum: loss y.sum(): an expanded gradient" in out
    assert cli.main(["report", str(everything), "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    assert page.count("### One layer, called in ordinary ways") == 1
    assert f"| call | what it is | {SHAPE}, ms | of copy | times headline |" in page
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [line[0].removeprefix("| ") for line in lines[2:]] == list(CALLS)
    assert all(line[3].endswith("%") for line in lines[2:])
    assert "called from Python" in page  # on a CPU
    assert "No CUDA graph" not in page
    assert f"(mask), such as lif+noise: `{CALLS['lif+noise'].formula}`\n" in page
    assert f"\n  - forward+backward (mask): `{CALLS['lif'].formula}`\n" in page
    assert Path("page/1-cpu-calls.png").stat().st_size < 100_000
    assert "](page/1-cpu-calls.png)" in page
    assert (
        max(len(line) for line in page.splitlines() if not line.startswith(("|", "!", "- ", "  - ", "python"))) <= 100
    )


def test_some_calls_with_what_they_are_beside(capsys):
    p = cli.parser()

    def chosen(*names):
        return [call.name for call in calls.chosen(p, p.parse_args(["calls", "--only", *names]))]

    assert chosen("lif+sum") == ["lif", "lif+sum"]
    assert chosen("norse-li", "alif") == ["alif", "li", "li+module", "norse-li"]
    with pytest.raises(SystemExit):
        cli.main(["calls", "--only", "lif", "izhikevich"])
    assert "--only 'izhikevich', expected names out of lif, cuba-lif" in capsys.readouterr().err


def test_plan():
    """What has a size of its own is measured once, and modules come last."""
    shapes = [Shape(20, 2, 64), SHAPE]
    some = [CALLS[name] for name in ("lif+module", "lif", "lif+10-neurons")]
    found = [(call.name, shape) for call, shape in calls.plan(some, shapes)]
    assert found == [
        ("lif", shapes[0]),
        ("lif", SHAPE),
        ("lif+10-neurons", SHAPE),
        ("lif+module", shapes[0]),
        ("lif+module", SHAPE),
    ]


def test_a_run_ends_in_time(capsys):
    assert cli.main(["calls", "--only", "lif+sum", *FAST, "--time-limit", "1e-6"]) == 0
    assert "stopped by --time-limit 1e-06: 2 of 2 rows were not measured" in capsys.readouterr().out


def test_a_call_that_fails_or_differs_does_not_stop_the_run(monkeypatch, capsys):
    true = calls.ready

    def broken(call, shape, device, backend="fused"):
        one = true(call, shape, device, backend)
        if call.name == "lif+sum" and shape == SHAPE:
            raise MemoryError("no room")
        if call.name == "lif+noise" and backend == "fused":
            right = one.forward
            one.forward = lambda: [out + 1 for out in right()]
        return one

    monkeypatch.setattr(calls, "ready", broken)
    assert cli.main(["calls", "--only", "lif+sum", "lif+noise", "lif+atan", *FAST, "--json", "failed.json"]) == 1
    found = report.read(Path("failed.json"))
    errors = {row.case: row.error for row in found.rows}
    assert errors["lif"] == errors["lif+atan"] == ""
    assert errors["lif+sum"] == "MemoryError: no room"
    assert errors["lif+noise"] == "output differs from eager's in 5120 of 5120 places"
    assert "failed: lif+sum" in capsys.readouterr().out
    cells = [line[2:5] for line in summary.calls([found]) if line[0] in ("lif+sum", "lif+noise")]
    assert cells == [["failed", "-", "-"]] * 2


class Gpu:
    """A clock that counts, in a GPU's place: a replay takes 2 ms, a call alone 8, calls in a row 3, 4, 5, ..."""

    device = "cuda"

    def __init__(self, capture):
        self.capture, self.row = capture, 2

    def once(self, call, idle=False):
        call()
        return 0.008, 0

    def in_a_row(self, call, about=0.0):
        assert about == 0.008
        self.row += 1
        return 0.001 * self.row

    def replay(self, call):
        return self.capture(call)

    def measure(self, call, held=0, replayed=False):
        call()
        return measure.Measurement([0.002 if replayed else 0.008], back_to_back=None if replayed else 0.007)


def refuse(call):
    try:
        raise RuntimeError("states live on another stream")
    except RuntimeError:
        raise RuntimeError("operation failed due to a previous error during capture") from None


def gpu_report(capture, *names):
    gpu, shape = Gpu(capture), SHAPE
    original = calls.ready

    def on_the_cpu(call, shape, device, backend="fused"):
        return original(call, shape, "cpu", backend)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(calls, "ready", on_the_cpu)
        rows = [calls.measure(CALLS[name], shape, gpu, Verdict("checked")) for name in names]
    copies = [measure.Copy(10**9, [0.125], 10**9, [0.25], 1000)]
    return report.Report("calls", "", "", {"gpu": "Some GPU", "device": "cuda"}, [], copies, rows)


def test_a_row_of_a_gpu_is_a_replay():
    found = gpu_report(lambda call: (lambda: None, call()), "lif", "alif", "alif+module", "sinabs-alif")
    assert {row.implementation for row in found.rows} == {OURS + GRAPH}
    assert {row.median for row in found.rows} == {0.002}
    assert [row.back_to_back for row in found.rows] == [None, None, 0.005, 0.01]
    times = [(of["times_headline"], of["times_module"]) for of in map(found.derived, found.rows)]
    assert times == [(1.0, None), (1.0, None), (1.0, 1.0), (1.0, 2.0)]
    line = summary.calls([found])[-1]
    assert line[0] == "sinabs-alif"
    assert line[-2:] == ["10.0", "2.00"]


def test_what_no_graph_can_hold_is_called():
    found = gpu_report(refuse, "lif", "sinabs-alif")
    assert [row.implementation for row in found.rows] == [OURS, OURS]
    assert [row.error for row in found.rows] == ["", ""]
    assert {row.uncaptured for row in found.rows} == {"RuntimeError: states live on another stream"}
    assert [row.median for row in found.rows] == [0.008, 0.008]
    assert found.rows[1].back_to_back == 0.005
    assert "not captured: lif 20x2x16 float32 forward+backward torch_lif: RuntimeError: states" in found.table()
    assert summary.calls([found])[1][2] == "8.00 (called)"


LARGE = Shape(20, 2, 64)


def made_up_calls():
    """Where a copy moves 8 GB/s. The headline call takes 10 ms for 40 MB, which a copy would move in 5; at the larger
    shape 40 ms for 240 MB, in 30. Each row has eleven samples, whose median and quartiles are no accident."""

    def row(name, shape, milliseconds, megabytes, own=None, **more):
        spread = [0.5, 0.6, 0.9, 0.9, 0.95, 1.0, 1.1, 1.2, 1.2, 5.0, 9.0]
        samples = [milliseconds / 1e3 * factor for factor in reversed(spread)]
        facts = {"remark": f"what {name} is", "beside": f"lif {shape}", "samples": samples}
        implementation = OURS if "uncaptured" in more else OURS + GRAPH
        moved = int(megabytes * 1e6)
        return report.Row(name, implementation, "pass", tuple(own or shape), "float32", "T", moved, **facts, **more)

    rows = [
        row("lif", SHAPE, 10, 40),
        row("lif+noise", SHAPE, 20, 56),  # 7 ms of a copy
        row("lif+10-neurons", SHAPE, 5, 1, own=Shape(20, 2, 10)),  # 0.125
        row("lif", LARGE, 40, 240),
        row("lif+noise", LARGE, 50, 360),  # 45
        row("lif+module", SHAPE, 12.5, 40, back_to_back=0.03),
        row("drop-in", SHAPE, 300, 40, back_to_back=0.045, uncaptured="RuntimeError: no"),
        row("lif+module", LARGE, 40, 240, back_to_back=0.06),
        row("drop-in", LARGE, 1000, 240, uncaptured="RuntimeError: no"),
    ]
    copies = [measure.Copy(10**9, [0.125] * 9, 10**9, [0.25] * 9, 1000)]
    place = machine.describe("cpu") | {"gpu": "Some GPU", "device": "cuda"}
    place["versions"]["cuda"] = "99.1"
    return report.Report("calls", "made up", "2026-01-01", place, [], copies, rows)


TABLE = f"""\
| call | what it is | {SHAPE}, ms | of copy | times headline | {LARGE}, ms | of copy | times headline | \
from Python, ms | times module |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| lif | what lif is | 10.0 | 50% | 1.00 | 40.0 | 75% | 1.00 | - | - |
| lif+noise | what lif+noise is | 20.0 | 35% | 2.00 | 50.0 | 90% | 1.25 | - | - |
| lif+10-neurons | what lif+10-neurons is | 5.00 | 2% | 0.50 | - | - | - | - | - |
| lif+module | what lif+module is | 12.5 | 40% | 1.25 | 40.0 | 75% | 1.00 | 30.0 | 1.00 |
| drop-in | what drop-in is | 300 (called) | 2% | 30.00 | 1000 (called) | 3% | 25.00 | 45.0 | 1.50 |"""


def test_the_page_has_each_call_once():
    pytest.importorskip("matplotlib")
    made_up_calls().write(Path("calls.json"))
    assert cli.main(["report", "calls.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    section = page.split("### One layer, called in ordinary ways\n\n")[1].split("\n\n")
    assert section[0] == TABLE
    about = " ".join(section[1].split())
    assert about.startswith("ms: forward and backward, replay of a CUDA graph")
    assert about.endswith(
        "No CUDA graph could hold what is marked (called), so that its time has the host's in it: drop-in."
    )
    assert page.count("\n  - pass: `T`\n") == 1
    assert section[2].startswith("![One layer, called in ordinary ways")


def test_dots_are_the_tables(monkeypatch):
    """Each call at its place, by what it takes most; hollow where it was called. The headline call is left out."""
    pytest.importorskip("matplotlib")
    from benchmarks import page

    drawn = []
    monkeypatch.setattr(page, "save", lambda figure, path: drawn.append(figure.axes[0]) or path)
    assert page.dots([made_up_calls()], Path("1-cuda")) == [Path("1-cuda-calls.png")]
    (axis,) = drawn
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["drop-in", "lif+noise", "lif+module", "lif+10-neurons"]
    lines = {line.get_label(): line for line in axis.get_lines()}
    points = {
        label: list(zip(*map(list, line.get_data()), strict=True)) for label, line in lines.items() if "x" in label
    }
    assert points == {
        f"{SHAPE}": [(pytest.approx(2), 1), (pytest.approx(1.25), 2), (pytest.approx(0.5), 3)],
        f"{SHAPE} (called)": [(pytest.approx(30), 0)],
        f"{LARGE}": [(pytest.approx(1.25), 1), (pytest.approx(1), 2)],
        f"{LARGE} (called)": [(pytest.approx(25), 0)],
    }
    hollow = {label: lines[label].get_markerfacecolor() == "white" for label in points}
    assert hollow == {label: label.endswith("(called)") for label in points}
    headline = [row for row in made_up_calls().rows if row.case == "lif"]
    assert page.dots([dataclasses.replace(made_up_calls(), rows=headline)], Path("1-cuda")) == []


def test_a_short_file_has_the_same_figures():
    made = made_up_calls()
    made.write(Path("long.json"))
    assert cli.main(["shorten", "long.json", "--out", "docs/short.json"]) == 0
    short = report.read(Path("docs/short.json"))
    assert short.rows[0].samples == [0.005, 0.009, 0.01, 0.012, 0.09]
    for row, before in zip(short.rows, made.rows, strict=True):
        expected = {name: pytest.approx(value, rel=1e-5) for name, value in made.derived(before).items() if value}
        assert {name: value for name, value in short.derived(row).items() if value} == expected
    assert short.copy.bandwidth == made.copy.bandwidth
    assert [len(copy.samples) + len(copy.fresh_samples) for copy in short.copies] == [10]
    assert short.method == [report.SHORTENED]
    assert summary.calls([short]) == summary.calls([made])
    assert short.shortened() == short  # twice is once


def test_a_short_file_of_all_calls_is_small(everything):
    """There are two shapes, and 100 kB for both."""
    found = report.read(everything)
    found.rows = [dataclasses.replace(row, samples=[k * row.samples[0] for k in range(1, 200)]) for row in found.rows]
    found.write(Path("long.json"))
    assert cli.main(["shorten", "long.json", "--out", "short.json"]) == 0
    assert Path("short.json").stat().st_size < 50_000 < Path("long.json").stat().st_size


def test_a_replay_that_differs_is_a_failure():
    def wrong(call):
        return lambda: None, tuple(grad + 1 for grad in call())

    (row,) = gpu_report(wrong, "lif").rows
    assert row.error == "RuntimeError: the graph's replay gives other results than the call"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spoil", [lambda x: x.sum().item(), lambda x: x.cpu()], ids=["item", "cpu"])
def test_a_capture_that_fails_leaves_others_possible(spoil):
    x, stream = torch.ones(1000, device="cuda"), torch.cuda.current_stream()
    meter = measure.Meter("cuda", measure.Budget(3, 0.0, 1.0))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            meter.replay(functools.partial(spoil, x))
        assert torch.cuda.current_stream() == stream
        torch.cuda.empty_cache()
        replay, result = meter.replay(lambda: x * 2)
        replay()
        assert torch.equal(result, x * 2)

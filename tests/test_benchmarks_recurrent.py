"""`python -m benchmarks recurrent`: the input that makes a given rate of spikes, what is measured beside what, and how
it is shown. Needs no GPU."""

import argparse
import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from torch_lif import functional
from torch_lif.surrogate import StepPWL, SuperSpike, Triangle

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

pytest.importorskip("tqdm")
pytest.importorskip("resource", reason="getrusage() is of Unix")

from benchmarks import cli, machine, measure, recurrent, report, summary  # noqa: E402
from benchmarks.cases import Shape  # noqa: E402
from benchmarks.contenders import BASELINE, GRAPH, OURS, RNN, TF32  # noqa: E402
from benchmarks.recurrent import PASS, Part  # noqa: E402
from benchmarks.suite import Verdict  # noqa: E402

SHAPE, LARGE = Shape(20, 2, 32), Shape(50, 2, 64)
FAST = ["--device", "cpu", "--repeats", "1", "--min-time", "0", "--max-time", "0.01", "--quick"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A cache that is flushed at once; files in a folder of the test's."""
    monkeypatch.setattr(measure, "cache_bytes", lambda device: 2**20)
    monkeypatch.setattr(measure, "FLUSH_LEAST", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(measure, "WARM_UP", 0.0)
    monkeypatch.setattr(recurrent, "tidy", lambda device: None)
    monkeypatch.chdir(tmp_path)


# --- The input ---


@pytest.mark.parametrize("top", [0.03, 1.0, 500.0])
def test_bisection_finds_the_scale(top):
    """Whether it lies below the first guess, which is 1, or far above."""

    def rate_of(scale):
        return min((scale / top) ** 2, 1.0)

    scale, found = recurrent.find_scale(rate_of, 0.05)
    assert scale == pytest.approx(top * 0.05**0.5, rel=0.02)
    assert found == rate_of(scale)


def test_a_rate_that_no_input_makes_is_an_error():
    with pytest.raises(RuntimeError, match=r"no input makes 5.000% of the neuron-steps spike.* found is 0.000%"):
        recurrent.find_scale(lambda scale: 0.0 if scale < 0.5 else 0.4, 0.05)
    with pytest.raises(RuntimeError, match=r"no input makes 90.000%.* found is 40.000%"):
        recurrent.find_scale(lambda scale: min(scale, 0.4), 0.9)


@pytest.mark.parametrize("percent", [1.0, 5.0, 20.0])
def test_the_input_makes_the_rate(percent):
    problem = recurrent.given(LARGE, percent, "cpu")
    assert problem.x.shape == problem.grad.shape == LARGE
    own = recurrent.arguments(LARGE.neurons, "cpu")
    spikes = functional.lif(problem.x, **own, w_rec=problem.w_rec, batch_first=False, backend="loop").spikes
    assert problem.rate == float(spikes.mean())  # equal, for sums of the weights are exact
    assert problem.rate == pytest.approx(percent / 100, rel=recurrent.NEAR)


@pytest.mark.parametrize("surrogate", [StepPWL(), Triangle(), SuperSpike()], ids=lambda rule: type(rule).__name__)
def test_activity_and_gradients_neither_die_nor_explode(surrogate):
    problem = recurrent.given(Shape(500, 2, 64), 5.0, "cpu")
    with torch.no_grad():
        spikes = recurrent.layer_call(problem, surrogate, True).forward()[0]
    first, last = (float(half.mean()) for half in spikes.chunk(2))
    assert first == pytest.approx(last, rel=0.3)
    for grad in recurrent.layer_call(problem, surrogate, True).train():
        assert 1e-3 < float(grad.abs().max()) < 1e6


def test_weights_have_their_spread():
    w_rec = recurrent.given(Shape(20, 2, 256), 20.0, "cpu").w_rec
    assert float(w_rec.std()) == pytest.approx(0.2 / 16, rel=0.02)
    assert torch.equal(w_rec * 2**16, (w_rec * 2**16).round())


# --- What is measured ---


def test_plan():
    """Ours at every rate and with every surrogate, its forward once a rate; others once a shape, at the middle rate."""
    names, rules = [OURS, BASELINE, RNN], [StepPWL(), SuperSpike()]
    parts = recurrent.plan(names, [SHAPE, LARGE], [20.0, 1.0, 5.0], rules, math.prod(SHAPE))
    short = [(part.shape, part.percent, part.name, part.surrogate, part.pass_name) for part in parts]
    assert len(set(short)) == len(short) == 2 * 3 * 3 + 2 + 2 * 2
    assert [part[:4] for part in short[:3]] == [(SHAPE, 20.0, OURS, rules[0])] * 2 + [(SHAPE, 20.0, OURS, rules[1])]
    others = [part for part in short if part[2] != OURS]
    assert others == [
        (shape, 5.0, name, rules[0], one)
        for shape, name in ((SHAPE, BASELINE), (SHAPE, RNN), (LARGE, RNN))
        for one in ("forward", PASS)
    ]


def test_tf32_is_as_before_afterwards():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for allowed in (True, False):
        with recurrent.precision(allowed):
            assert [place.allow_tf32 for place in places] == [allowed] * 2
        assert [place.allow_tf32 for place in places] == before
        with pytest.raises(MemoryError), recurrent.precision(allowed):
            raise MemoryError
        assert [place.allow_tf32 for place in places] == before


class Gpu:
    """A clock that counts, in a GPU's place: a replay takes 2 ms, a call alone 8, a call in a row 7."""

    device = "cuda"

    def __init__(self, capture):
        self.capture, self.allowed = capture, []

    def replay(self, call):
        return self.capture(call)

    def measure(self, call, held=0, replayed=False):
        self.allowed.append(torch.backends.cuda.matmul.allow_tf32)
        call()
        return measure.Measurement([0.002 if replayed else 0.008], back_to_back=None if replayed else 0.007)


def on_gpu(capture, name, pass_name=PASS):
    gpu, problem = Gpu(capture), recurrent.given(SHAPE, 20.0, "cpu")
    return gpu, recurrent.measure(Part(SHAPE, 20.0, name, StepPWL(), pass_name), problem, gpu, Verdict("checked"))


@pytest.mark.parametrize("pass_name", ["forward", PASS])
@pytest.mark.parametrize("name", [OURS, BASELINE, RNN + TF32, f"{RNN} float32", "nn.LSTM" + TF32])
def test_on_a_gpu_each_call_is_replayed_too(name, pass_name):
    gpu, rows = on_gpu(lambda call: (lambda: None, call()), name, pass_name)
    assert [(row.implementation, row.median, row.back_to_back) for row in rows] == [
        (name, 0.008, 0.007),
        (name + GRAPH, 0.002, None),
    ]
    assert [row.error + row.uncaptured for row in rows] == ["", ""]
    assert gpu.allowed == [name.endswith(TF32)] * 2
    assert rows[0].surrogate == ("StepPWL(window=0.5)" if pass_name == PASS and name in (OURS, BASELINE) else "")
    assert rows[0].rate_asked == (0.2 if name == OURS else None)


def test_what_no_graph_can_hold_is_called_alone():
    def refuse(call):
        raise RuntimeError("not while a stream is captured")

    _, rows = on_gpu(refuse, RNN + TF32)
    assert [(row.median, row.error, row.uncaptured) for row in rows] == [
        (0.008, "", "RuntimeError: not while a stream is captured")
    ]


def test_a_replay_that_differs_is_a_failure():
    _, rows = on_gpu(lambda call: (lambda: None, tuple(grad + 1 for grad in call())), OURS)
    assert [row.error for row in rows] == ["", "RuntimeError: the graph's replay gives other results than the call"]
    assert rows[1].samples == []


def test_the_baseline_is_the_loop():
    problem = recurrent.given(SHAPE, 20.0, "cpu")
    made = {name: recurrent.RIVALS[name].make(problem, StepPWL(), True).forward()[0] for name in (OURS, BASELINE)}
    assert {name: out.grad_fn.name().startswith("Stack") for name, out in made.items()} == {OURS: False, BASELINE: True}


@pytest.mark.parametrize("training", [False, True])
def test_pytorchs_layers_know_whether_they_train(training):
    """A forward alone is what its users call in evaluation."""
    layers = []

    def kind(*sizes):
        layers.append(nn.RNN(*sizes))
        return layers[0]

    recurrent.torch_call(kind, recurrent.given(SHAPE, 20.0, "cpu"), StepPWL(), training)
    assert layers[0].training == training


def test_pytorchs_layers_are_those_that_are_named():
    problem = recurrent.given(SHAPE, 20.0, "cpu")
    for name, columns in ((RNN, 1), (RNN + TF32, 1), ("nn.LSTM" + TF32, 4)):
        one = recurrent.RIVALS[name].make(problem, StepPWL(), True)
        sizes = {leaf: tuple(tensor.shape) for leaf, tensor in one.leaves.items()}
        n = SHAPE.neurons
        assert sizes["x"] == SHAPE
        assert sizes["weight_ih_l0"] == sizes["weight_hh_l0"] == (columns * n, n)
        assert len(one.train()) == len(sizes) == 5
        assert one.forward()[0].shape == SHAPE
    relu = recurrent.RIVALS[RNN].make(problem, StepPWL(), False).forward()[0].detach()
    assert float(relu.min()) == 0.0 < float(relu.max())


# --- Runs ---


def test_a_quick_run_and_its_page(capsys):
    pytest.importorskip("matplotlib")
    assert cli.main(["recurrent", *FAST, "--json", "quick.json"]) == 0
    out = capsys.readouterr().out
    assert "us/step  times nn.RNN" in out
    found = report.read(Path("quick.json"))
    assert found.kind == "recurrent"
    assert len(found.rows) == 3 * 4 + 2 + 2
    for row in found.rows:
        of = found.derived(row)
        assert row.error == row.uncaptured == ""
        assert of["us_per_step"] == pytest.approx(row.median * 1e6 / 50)
        assert of["times_rnn"] > 0
        assert row.rate_asked is None or row.spike_rate == pytest.approx(row.rate_asked, rel=recurrent.NEAR_ENOUGH)
    ours = [row for row in found.rows if row.implementation == OURS]
    assert all(row.check.startswith("output equal to eager's, gradient of x within") for row in ours)
    assert all("gradient of w_rec within" in row.check for row in ours)
    assert [row.surrogate.partition("(")[0] for row in ours] == ["", "StepPWL", "Triangle", "SuperSpike"] * 3
    assert [row.spike_rate for row in found.rows if row.case == "relu-rnn"] == [None, None]

    assert cli.main(["report", "quick.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    assert page.count("### Recurrent layers\n") == 1
    assert (
        "| torch_lif forward | torch_lif StepPWL | torch_lif Triangle | torch_lif SuperSpike | times nn.RNN |" in page
    )
    assert len([line for line in page.splitlines() if line.startswith("| 50x4x128 |")]) == 3
    assert "- nn.RNN: another network of the same T, B and N" in page
    assert "](page/1-cpu-recurrent.png)" in page
    assert Path("page/1-cpu-recurrent.png").stat().st_size < 100_000


def test_a_run_of_some():
    some = ["--shapes", f"{SHAPE},{LARGE}", "--rates", "20", "--surrogates", "atan", "--only", OURS]
    assert cli.main(["recurrent", *FAST, *some, "--json", "some.json"]) == 0
    found = report.read(Path("some.json"))
    assert [(row.shape, row.pass_name, row.surrogate.partition("(")[0]) for row in found.rows] == [
        (tuple(shape), *rest) for shape in (SHAPE, LARGE) for rest in (("forward", ""), (PASS, "ATan"))
    ]
    assert {found.derived(row)["times_rnn"] for row in found.rows} == {None}
    assert [line[5] for line in summary.recurrent([found])] == [f"{OURS}, called", "-", "-"]


def test_a_run_ends_in_time(capsys):
    assert cli.main(["recurrent", *FAST, "--time-limit", "1e-6"]) == 0
    assert "stopped by --time-limit 1e-06: 16 of 16 calls were not measured" in capsys.readouterr().out


def test_a_call_that_differs_or_has_no_input_does_not_stop_the_run(monkeypatch, capsys):
    """Ours is wrong with Triangle; at one percent there is no input."""
    true_call, true_given = recurrent.layer_call, recurrent.given

    def broken(problem, surrogate, training):
        one = true_call(problem, surrogate, training)
        forward = one.forward
        if isinstance(surrogate, Triangle):
            one.forward = lambda: [out + 1 for out in forward()]
        return one

    def missing(shape, percent, device):
        if percent == 1.0:
            raise RuntimeError("no input")
        return true_given(shape, percent, device)

    monkeypatch.setitem(recurrent.RIVALS, OURS, dataclasses.replace(recurrent.RIVALS[OURS], make=broken))
    monkeypatch.setattr(recurrent, "given", missing)
    few = ["--only", OURS, "--rates", "1", "5", "--surrogates", "step_pwl", "triangle", "--json", "failed.json"]
    assert cli.main(["recurrent", *FAST, *few]) == 1
    found = report.read(Path("failed.json"))
    assert [row.error for row in found.rows] == ["RuntimeError: no input"] * 3 + [
        "",
        "",
        "output differs from eager's in 5120 of 5120 places",
    ]
    assert "failed: lif+w_rec 50x4x128 float32 forward+backward torch_lif: output differs" in capsys.readouterr().out
    lines = summary.recurrent([found])
    assert lines[1][1:5] == ["-", "failed", "failed", "failed"]
    assert lines[2][4] == "failed" != lines[2][3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rates", "0"], "'0', expected a rate in percent, above 0 and below 100, such as 5"),
        (["--rates", "5", "100"], "'100', expected a rate in percent"),
        (["--rates", "five"], "'five', expected a rate in percent"),
        (["--rates", "nan"], "'nan', expected a rate in percent"),
        (["--surrogates", "relu"], "invalid choice: 'relu'"),
        (["--contenders", "nn.GRU"], "invalid choice: 'nn.GRU'"),
        (
            ["--only", "nn.LSTM tf32"],
            "'nn.LSTM tf32', not measured on cpu; expected names out of torch_lif, eager, nn.RNN",
        ),
        (["--shapes", "50x4"], "shape '50x4', expected TxBxN"),
        (["--loop-limit", "many"], "shape 'many', expected TxBxN"),
        (["--time-limit", "-1"], "'-1', expected a number of seconds above 0"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["recurrent", *FAST, "--time-limit", "0.01", *arguments])
    assert message in capsys.readouterr().err


def test_who_takes_part_on_a_gpu():
    p = argparse.ArgumentParser()
    found = recurrent.chosen(p, argparse.Namespace(device="cuda", contenders=None))
    assert found == [OURS, BASELINE, "nn.RNN tf32", "nn.RNN float32", "nn.LSTM tf32"]
    assert set(recurrent.SHAPES) == set(recurrent.QUICK_SHAPES) == {"cpu", "cuda"}


# --- How it is shown ---


def made_up():
    """Ours takes 1 us a step per percent of spikes in the forward of the first shape, and half as much again with
    SuperSpike in both passes as with StepPWL. At the second shape no graph holds nn.LSTM, and eager failed. What is
    called takes 10 ms more than what is replayed. Each row has eleven samples, whose median is no accident."""
    rows = []

    def add(name, pass_name, shape, milliseconds, surrogate="", asked=None, **facts):
        spread = [0.5, 0.6, 0.9, 0.9, 0.95, 1.0, 1.1, 1.2, 1.2, 5.0, 9.0]
        case = "lif+w_rec" if name in (OURS, BASELINE) else name
        own = {"surrogate": surrogate, "rate_asked": asked, "spike_rate": asked and 1.02 * asked, **facts}

        def row(by, time, **more):
            samples = [] if own.get("error") else [time / 1e3 * factor for factor in reversed(spread)]
            own_row = report.Row(case, by, pass_name, tuple(shape), "float32", "", 0, **own, samples=samples)
            rows.append(dataclasses.replace(own_row, **more))

        row(name, milliseconds + 10, back_to_back=(milliseconds + 9) / 1e3)
        if not own.get("uncaptured") and not own.get("error"):
            row(name + GRAPH, milliseconds)

    for shape, slower in ((Shape(1000, 16, 64), 1), (Shape(500, 64, 128), 4)):
        for percent in (1, 5, 20):
            add(OURS, "forward", shape, slower * percent, asked=percent / 100)
            add(OURS, PASS, shape, slower * (2 + percent), "StepPWL(window=0.5)", percent / 100)
            add(OURS, PASS, shape, slower * 1.5 * (2 + percent), "SuperSpike(alpha=100.0)", percent / 100)
        for name, factor in ((BASELINE, 40), (RNN + TF32, 4), (f"{RNN} float32", 8), ("nn.LSTM" + TF32, 16)):
            failed = {"error": "MemoryError: no room"} if name == BASELINE and slower > 1 else {}
            alone = {"uncaptured": "RuntimeError: no"} if name.startswith("nn.LSTM") and slower > 1 else {}
            rule = "StepPWL(window=0.5)" if name == BASELINE else ""
            add(name, "forward", shape, factor, **failed, **alone)
            add(name, PASS, shape, 2 * factor, rule, **failed, **alone)
    copies = [measure.Copy(10**9, [0.125] * 9, 10**9, [0.25] * 9, 1000)]
    place = machine.describe("cpu") | {"gpu": "Some GPU", "device": "cuda"}
    place["versions"]["cuda"] = "99.1"
    return report.Report("recurrent", "made up", "2026-01-01", place, [], copies, rows)


TABLE = """\
| T x B x N | rate | torch_lif forward | torch_lif StepPWL | torch_lif SuperSpike | times nn.RNN tf32 | eager | \
nn.RNN tf32 | nn.RNN float32 | nn.LSTM tf32 | torch_lif, called | nn.RNN tf32, called |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 1000x16x64 | 1.0% | 1.00 (1.00) | 3.00 (3.00) | 4.50 (4.50) | 0.25 / 0.38 | 40.0 / 80.0 | 4.00 / 8.00 | \
8.00 / 16.0 | 16.0 / 32.0 | 10.0 / 12.0 | 13.0 / 17.0 |
| 1000x16x64 | 5.1% | 5.00 (5.00) | 7.00 (7.00) | 10.5 (10.5) | 1.25 / 0.88 | 40.0 / 80.0 | 4.00 / 8.00 | \
8.00 / 16.0 | 16.0 / 32.0 | 14.0 / 16.0 | 13.0 / 17.0 |
| 1000x16x64 | 20.4% | 20.0 (20.0) | 22.0 (22.0) | 33.0 (33.0) | 5.00 / 2.75 | 40.0 / 80.0 | 4.00 / 8.00 | \
8.00 / 16.0 | 16.0 / 32.0 | 29.0 / 31.0 | 13.0 / 17.0 |
| 500x64x128 | 1.0% | 4.00 (8.00) | 12.0 (24.0) | 18.0 (36.0) | 1.00 / 1.50 | failed / failed | 4.00 / 8.00 | \
8.00 / 16.0 | 26.0 (called) / 42.0 (called) | 13.0 / 21.0 | 13.0 / 17.0 |
| 500x64x128 | 5.1% | 20.0 (40.0) | 28.0 (56.0) | 42.0 (84.0) | 5.00 / 3.50 | failed / failed | 4.00 / 8.00 | \
8.00 / 16.0 | 26.0 (called) / 42.0 (called) | 29.0 / 37.0 | 13.0 / 17.0 |
| 500x64x128 | 20.4% | 80.0 (160) | 88.0 (176) | 132 (264) | 20.00 / 11.00 | failed / failed | 4.00 / 8.00 | \
8.00 / 16.0 | 26.0 (called) / 42.0 (called) | 89.0 / 97.0 | 13.0 / 17.0 |"""


def test_the_page_has_each_shape_and_rate():
    pytest.importorskip("matplotlib")
    made_up().write(Path("made.json"))
    assert cli.main(["report", "made.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    section = page.split("### Recurrent layers\n\n")[1].split("\n\n")
    assert section[0] == TABLE
    about = " ".join(section[1].split())
    assert about.startswith("ms, replay of a CUDA graph. Rate:")
    assert "of torch_lif with StepPWL" in about
    assert about.endswith("No CUDA graph could hold what is marked (called), so that its time has the host's in it.")
    assert section[2].startswith("![A time step of a recurrent layer")
    assert "- not captured: nn.LSTM tf32 500x64x128" in page


def test_the_picture_is_the_table_at_5_percent(monkeypatch):
    pytest.importorskip("matplotlib")
    from benchmarks import page

    drawn = []
    monkeypatch.setattr(page, "save", lambda figure, path: drawn.append(figure.axes) or path)
    assert page.steps([made_up()], Path("1-cuda")) == [Path("1-cuda-recurrent.png")]
    forward, both = (
        {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in axis.get_lines()}
        for axis in drawn[0]
    )
    assert forward == {
        OURS: [(pytest.approx(5), 0), (pytest.approx(40), 1)],
        BASELINE: [(pytest.approx(40), 0)],
        RNN + TF32: [(pytest.approx(4), 0), (pytest.approx(8), 1)],
        f"{RNN} float32": [(pytest.approx(8), 0), (pytest.approx(16), 1)],
        "nn.LSTM" + TF32: [(pytest.approx(16), 0), (pytest.approx(52), 1)],  # called
    }
    assert both[OURS] == [(pytest.approx(7), 0), (pytest.approx(56), 1)]  # with the first surrogate
    assert [label.get_text() for label in drawn[0][0].get_yticklabels()] == ["1000x16x64", "500x64x128"]
    assert {axis.get_xscale() for axis in drawn[0]} == {"log"}
    others = [row for row in made_up().rows if row.rate_asked is None]
    assert page.steps([dataclasses.replace(made_up(), rows=others)], Path("1-cuda")) == []


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((12.0, 240.0), [10, 20, 50, 100, 200]), ((0.9, 60_000.0), [1, 10, 100, 1000, 10_000, 100_000])],
)
def test_ticks(values, ticks):
    pytest.importorskip("matplotlib")
    from benchmarks import page

    assert page.round_ticks(values) == pytest.approx(ticks)


def test_a_short_file_has_the_same_table():
    made = made_up()
    made.write(Path("long.json"))
    assert cli.main(["shorten", "long.json", "--out", "short.json"]) == 0
    short = report.read(Path("short.json"))
    assert {len(row.samples) for row in short.rows} == {0, 5}
    assert summary.recurrent([short]) == summary.recurrent([made])
    for row, before in zip(short.rows, made.rows, strict=True):
        expected = {name: pytest.approx(value, rel=1e-5) for name, value in made.derived(before).items() if value}
        assert {name: value for name, value in short.derived(row).items() if value} == expected


def test_busy_machines_spoil_what_is_measured_beside():
    found = made_up()
    found.rows = [dataclasses.replace(row, others=100.0 * (row.implementation == RNN + TF32)) for row in found.rows]
    spoilt = {row.implementation for row in found.rows if found.derived(row)["disturbed"]}
    called = {OURS, BASELINE, RNN + TF32, f"{RNN} float32", "nn.LSTM" + TF32}
    assert spoilt == called

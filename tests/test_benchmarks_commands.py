"""Other libraries, networks, scaling, the page and the command line: each as it is and with something broken. Needs no
other library and no GPU."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

import torch_lif as lif

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

pytest.importorskip("tqdm")
pytest.importorskip("resource", reason="getrusage() is of Unix")

from benchmarks import cases, cli, contenders, layer, machine, measure, network, peers, report, suite  # noqa: E402
from benchmarks.cases import CASES, PASSES, Shape, build  # noqa: E402
from benchmarks.contenders import BASELINE, CONTENDERS, OURS  # noqa: E402

SHAPE = Shape(60, 3, 24)
OPTIONS = suite.Options(torch.float32)
FAST = ["--device", "cpu", "--repeats", "1", "--min-time", "0", "--max-time", "0.01"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A cache that is flushed at once; no library that happens to be installed; files in a folder of the test's."""
    monkeypatch.setattr(measure, "cache_bytes", lambda device: 2**20)
    monkeypatch.setattr(measure, "FLUSH_LEAST", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(measure, "WARM_UP", 0.0)
    monkeypatch.setattr(peers, "PEERS", [dataclasses.replace(peer, module="no_such_module") for peer in peers.PEERS])
    monkeypatch.chdir(tmp_path)


def meter():
    return measure.Meter("cpu", measure.Budget(3, 0.0, 1.0))


class Loop(nn.Module):
    """A made-up library's layer: a peer's own equations with a gradient, and whatever `spoil` does to its spikes."""

    def __init__(self, steps, spoil=lambda s: s):
        super().__init__()
        self.steps, self.spoil, self.scale = steps, spoil, nn.Parameter(torch.ones(()))

    def forward(self, x):
        spikes = torch.stack(self.steps(x.detach().float().unbind(0))).to(x.dtype)
        return self.spoil(spikes) + self.scale.detach().to(x.dtype) * (x - x.detach())


def peer(build, **changes):
    """The first entry of the table, as a library that is installed."""
    changes = {"module": "torch", "devices": None} | changes
    return dataclasses.replace(peers.PEERS[0], name="made up", build=build, **changes)


def rows_of(one):
    return list(
        suite.measure_all([CASES["lif"]], [("", SHAPE)], OPTIONS, [CONTENDERS[BASELINE], one.contender()], meter())
    )


EVERY_PEER = [(index, dtype) for index, peer in enumerate(peers.PEERS) for dtype in peer.dtypes]


@pytest.mark.parametrize(
    ("index", "dtype"), EVERY_PEER, ids=[f"{peers.PEERS[k].name}-{dtype}" for k, dtype in EVERY_PEER]
)
def test_every_peer_has_equations_that_spike(index, dtype):
    """The check that stands before each timing passes for a layer that follows the equations, in the layout that the
    peer has."""
    one = peers.PEERS[index]
    case = CASES[one.case]

    def build(neurons):
        made = Loop(one.steps)
        return made, (lambda x: made(x.transpose(0, 1)).transpose(0, 1)) if one.batch_first else made

    contender = dataclasses.replace(one, build=build).contender()
    problem = cases.build(case, Shape(200, 2, 50), layer.DTYPES[dtype], "cpu")
    verdict = suite.check([contender], problem)[one.name]
    assert verdict.error == ""
    assert "in 0 of 20000 places" in verdict.check
    assert one.package in contender.remark


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SpikingJelly LIFNode", {"decay_mem": peers.DECAY, "max_spikes": 1}),
        ("sinabs LIF", {"decay_mem": peers.DECAY, "max_spikes": 2.0**16}),
        ("Rockpool LIFTorch", {"decay_mem": peers.DECAY, "decay_syn": peers.SYNAPSE, "max_spikes": 2.0**16}),
        ("sinabs ALIF", {"decay_mem": peers.DECAY, "decay_adapt": peers.ADAPTATION, "adapt_scale": 7.5}),
        ("norse LIF", {"rate_mem": 0.05, "rate_syn": 0.1, "synapse_update": "input_first"}),
    ],
)
def test_equations_shared_with_ours(name, arguments):
    """The peers' loops, beside the neurons of torch_lif that have the same equations: decays are rounded otherwise."""
    one = next(peer for peer in peers.PEERS if peer.name == name)
    case = CASES[one.case]
    x = torch.rand(2, 300, 80) * case.drive
    theirs = torch.stack(one.steps(x.unbind(1)), 1)
    ours = getattr(lif.functional, case.neuron)(x, **arguments)[0]
    assert theirs.mean() > 0.02
    assert (theirs != ours).float().mean() < suite.FLIPPED


@pytest.mark.parametrize("steps", [4, 8, 16, 100])
@pytest.mark.parametrize("case", [case for case in CASES.values() if case.spiking], ids=lambda case: case.name)
def test_neurons_spike_however_short_the_sequence(case, steps):
    """Or there would be no work that implementations could be compared by."""
    problem = build(case, Shape(steps, 2, 64), torch.float32, "cpu")
    with torch.no_grad():
        rate = float(getattr(lif.functional, case.neuron)(problem.x, **problem.arguments)[0].mean())
    assert 0.005 < rate < 0.8


def test_a_peer_is_measured_beside_the_loop():
    steps = peers.PEERS[0].steps
    rows = rows_of(peer(lambda neurons: (made := Loop(steps), made)))
    theirs = [row for row in rows if row.implementation == "made up"]
    assert [row.pass_name for row in theirs] == list(PASSES)
    assert all(row.samples and not row.error and "its own equations' in 0 of" in row.check for row in theirs)
    assert all("one decay for all neurons" in row.remark for row in theirs)


def test_peers_that_fail_are_reported_and_the_rest_runs():
    steps = peers.PEERS[0].steps

    def raises(neurons):
        raise ImportError("undefined symbol: _ZN3c10\nand more")

    broken = {
        "ImportError: undefined symbol: _ZN3c10": peer(raises),
        "spikes differ from its own equations' in": peer(lambda n: (made := Loop(steps, lambda s: s.roll(1, 0)), made)),
        "no work that others could be compared with": peer(lambda n: (made := Loop(steps), made), drive=0.0),
        "output is (60, 3)": peer(lambda n: (made := Loop(steps, lambda s: s), lambda x: made(x)[..., 0])),
        "ModuleNotFoundError": peer(peers.build_snntorch) if "snntorch" not in sys.modules else peer(raises),
    }
    for message, one in broken.items():
        rows = rows_of(one)
        assert len(rows) == 2 * len(PASSES)
        for row in rows:
            assert bool(row.error) == (row.implementation == "made up")
            assert not row.error or message in row.error or "ImportError" in row.error


def test_absent_peers_are_listed(capsys):
    assert cli.main(["layer", "li", "--shapes", "20x1x8", "--dtypes", "float32", *FAST]) == 0
    out = capsys.readouterr().out
    assert "not installed: SpikingJelly LIFNode, " in out
    assert "Rockpool LIFTorch" in out
    with pytest.raises(SystemExit):
        cli.main(["layer", "--contenders", "sinabs LIF"])
    assert "'sinabs LIF', which is not installed" in capsys.readouterr().err


def test_a_compiled_step_that_fails_does_not_stop_the_run(monkeypatch, capsys):
    """That it works takes a compiler and ten seconds: the benchmark itself checks its output before it is timed."""

    def refuse(*args, **options):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", refuse)
    arguments = ["--shapes", "20x1x8", "--dtypes", "float32", "--contenders", OURS, BASELINE, "compiled step", *FAST]
    assert cli.main(["layer", "lif", *arguments]) == 1
    out = capsys.readouterr().out
    assert "failed: lif 20x1x8 float32 forward compiled step: RuntimeError: no compiler here" in out
    assert out.count("failed") == 4  # two rows, two notes


def test_a_compiled_step_is_the_loop(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step, **options: step)
    for name in ("lif", "cuba-lif", "alif", "euler-lif", "li"):
        problem = cases.build(CASES[name], SHAPE, torch.float32, "cpu")
        found, expected = contenders.CompiledStep()(problem), contenders.loop(problem)
        assert torch.equal(found, expected)
        gradients = [torch.autograd.grad(out, problem.x, problem.grad_out)[0] for out in (found, expected)]
        torch.testing.assert_close(*gradients)


def run_elsewhere(monkeypatch, environment, contender, seconds=None):
    """What a process of its own finds for a contender."""
    monkeypatch.setattr(peers, "elsewhere", lambda name: environment if name == contender.name else {})
    a = cli.parser().parse_args(["layer", *FAST, "--quick"])
    made = report.Report("layer", "", "", machine.describe("cpu"), [], [])
    layer.run_elsewhere(
        [contender],
        [CASES["li"]],
        [Shape(20, 1, 8)],
        ["float32"],
        a,
        made,
        types.SimpleNamespace(set_description=print),
        measure.Deadline(seconds),
    )
    return made.rows


def test_a_process_of_its_own(monkeypatch):
    rows = run_elsewhere(monkeypatch, {"TORCH_LIF_ISA": "baseline"}, CONTENDERS[BASELINE])
    assert [(row.case, row.implementation, row.shape, row.error) for row in rows] == [
        ("li", BASELINE, (20, 1, 8), "")
    ] * 2
    assert all(row.samples for row in rows)


def test_a_process_of_its_own_that_fails(monkeypatch):
    rows = run_elsewhere(monkeypatch, {"TORCH_LIF_ISA": "no such thing"}, CONTENDERS[BASELINE])
    assert [row.pass_name for row in rows] == list(PASSES)
    assert all("no such thing" in row.error for row in rows)


def test_a_process_of_its_own_that_takes_too_long(monkeypatch):
    rows = run_elsewhere(monkeypatch, {"TORCH_LIF_ISA": "baseline"}, CONTENDERS[BASELINE], seconds=0.2)
    assert [row.error for row in rows] == ["stopped by --time-limit 0.2"] * 2
    monkeypatch.setattr(layer, "CHILD_SECONDS", 0.1)
    rows = run_elsewhere(monkeypatch, {"TORCH_LIF_ISA": "baseline"}, CONTENDERS[BASELINE])
    assert [row.error for row in rows] == ["took more than 0.1 seconds"] * 2


def test_environments_are_seen(monkeypatch):
    variable = "SJ_LIF_CUDA_IMPLEMENTATION"
    monkeypatch.delenv(variable, raising=False)
    assert peers.elsewhere("SpikingJelly LIFNode triton") == {variable: "triton"}
    assert peers.elsewhere("sinabs LIF") == peers.elsewhere(OURS) == {}
    monkeypatch.setenv(variable, "triton")
    assert peers.elsewhere("SpikingJelly LIFNode triton") == {}
    assert peers.elsewhere("SpikingJelly LIFNode cuda") == {variable: "cuda"}


def test_what_takes_long_is_measured_by_request(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", [dataclasses.replace(peer, module="torch") for peer in peers.PEERS])
    monkeypatch.delenv("SJ_LIF_CUDA_IMPLEMENTATION", raising=False)

    def chosen(device, *arguments):
        return {one.name for one in layer.select(cli.parser().parse_args(["layer", *arguments]), device)}

    kinds = {f"SpikingJelly LIFNode {kind}" for kind in ("torch", "triton", "cuda")}
    everyone = {*CONTENDERS, *(peer.name for peer in peers.PEERS)}
    assert chosen("cuda") == everyone
    assert chosen("cpu") == everyone - {"compiled step"}
    assert chosen("cuda", "--quick") == everyone - {"compiled step"} - kinds
    named = ["compiled step", "SpikingJelly LIFNode cuda"]
    assert chosen("cuda", "--quick", "--contenders", *named) == set(named)


def by_contender(rows, case):
    return {row.implementation: row for row in rows if row.case == case}


def test_network(capsys):
    pytest.importorskip("numpy")
    sizes = ["--neurons", "40", "60", "--steps", "30", "--batch", "2", "--kinds", "lif", "cuba-lif", "alif"]
    assert cli.main(["network", *sizes, *FAST, "--json", "network.json"]) == 0
    found = report.read(Path("network.json"))
    assert found.kind == "network"
    assert len(found.rows) == 3 * 2 * 3 + 2
    assert all(row.samples and not row.error for row in found.rows)
    for case in dict.fromkeys(row.case for row in found.rows):
        assert by_contender(found.rows, case)[OURS].check == "output equal to eager's"
    assert by_contender(found.rows, "2 x (Linear, lif)")[OURS].spike_rate > 0
    assert found.derived(by_contender(found.rows, "example")[OURS])["speedup"] > 0
    assert "speed-up: over eager" in capsys.readouterr().out


def test_a_network_run_ends_in_time(capsys):
    assert (
        cli.main(["network", "--neurons", "40", "60", "--steps", "30", "--batch", "2", *FAST, "--time-limit", "1e-6"])
        == 0
    )
    assert "stopped by --time-limit 1e-06: 8 of 8 rows were not measured" in capsys.readouterr().out


def test_a_network_that_differs_or_fails_is_reported(monkeypatch):
    def build(size, backend):
        if size == 60:
            raise MemoryError("no room")
        return lif.LIF(size, threshold=0.5 if backend == "fused" else 1.0, backend=backend)

    def no_example(*args):
        raise ModuleNotFoundError("No module named 'sklearn'")

    monkeypatch.setitem(network.NEURONS, "lif", build)
    monkeypatch.setattr(network, "build_example", no_example)
    sizes = ["--neurons", "40", "60", "--steps", "30", "--batch", "2"]
    assert cli.main(["network", *sizes, *FAST, "--json", "network.json"]) == 1
    errors = {
        (r.shape[2], r.implementation): r.error for r in report.read(Path("network.json")).rows if r.case != "example"
    }
    assert "output differs from eager's in" in errors[40, OURS]
    assert errors[40, BASELINE] == errors[40, network.FLOOR] == errors[60, network.FLOOR] == ""
    assert errors[60, OURS] == errors[60, BASELINE] == "MemoryError: no room"
    assert [r.error for r in report.read(Path("network.json")).rows if r.case == "example"] == [
        "ModuleNotFoundError: No module named 'sklearn'"
    ] * 2


def test_scaling(monkeypatch):
    monkeypatch.setattr(layer, "QUICK_CENTRE", {"cpu": Shape(40, 2, 32)})
    monkeypatch.setattr(layer, "LOOP_LIMIT", {"cpu": 40 * 2 * 32})
    assert cli.main(["scaling", "--quick", *FAST, "--json", "scaling.json"]) == 0
    found = report.read(Path("scaling.json"))
    assert {row.case for row in found.rows} == {"lif"}
    ours = [row for row in found.rows if row.implementation == OURS and row.pass_name == "forward"]
    axes = {axis: sorted(row.shape for row in ours if row.axis == axis) for axis in "TBN"}
    assert axes == {
        "T": [(10, 2, 32), (40, 2, 32), (160, 2, 32)],
        "B": [(40, 1, 32), (40, 2, 32), (40, 8, 32)],
        "N": [(40, 2, 8), (40, 2, 32), (40, 2, 128)],
    }
    assert (
        max(row.shape[0] * row.shape[1] * row.shape[2] for row in found.rows if row.implementation == BASELINE)
        == 40 * 2 * 32
    )
    for row in ours:
        figures = found.derived(row)
        assert figures["limit_ms"] == pytest.approx(figures["ms"] * figures["copy_fraction"])


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_report_from_tiny_runs(capsys):
    pytest.importorskip("matplotlib")
    assert (
        cli.main(["layer", "lif", "li", "--shapes", "40x2x16", "--dtypes", "float32", *FAST, "--json", "a.json"]) == 0
    )
    assert cli.main(["scaling", "li", "--quick", *FAST, "--json", "b.json"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "a.json", "b.json", "--out", "docs/page.md"]) == 0
    out = capsys.readouterr().out
    page = Path("docs/page.md").read_text()
    figures = sorted(Path("docs/page").iterdir())
    assert [path.name for path in figures] == ["1-cpu-scaling-li-float32.png"]
    for path in figures:
        assert is_png(path)
        assert f"(page/{path.name})" in page
        assert str(path) in out
    found = report.read(Path("a.json"))
    headings = [f"## {found.place}", "### One layer, forward and backward", "### One layer, forward"]
    headings += ["### Beside other implementations", "## How it was measured", "## Runs"]
    assert [line for line in page.splitlines() if line.startswith("#")][1:] == [
        *headings,
        "### [a.json](../a.json)",
        "### [b.json](../b.json)",
    ]
    assert "python -m benchmarks report a.json b.json --out docs/page.md" in page
    assert found.command in page
    assert found.date in page
    assert f"PyTorch {torch.__version__}" in " ".join(page.split())
    assert max(len(line) for line in page.split("```")[2].splitlines() if not line.startswith(("|", "!"))) <= 100

    assert cli.main(["show", "a.json"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("li") and " 40x2x16 " in line]
    assert len(rows) == len(found.rows)


def made_up_rows():
    """Of two shapes: ours called and replayed, by mode; a loop, and a library's layer that is the strongest of the
    others."""
    common = {"case": "lif", "dtype": "bfloat16", "formula": "T", "bytes_moved": 4 * 10**8}
    rows = []
    for shape, slower in (((10, 2, 5), 1.0), ((10, 2, 50), 10.0)):
        for name, mode, seconds in (
            (OURS, "mask", 0.1),
            (OURS + " mask", "mask", 0.1),
            (OURS + " recompute", "recompute", 0.3),
            (OURS + contenders.GRAPH, "mask", 0.05),
            (BASELINE, "", 20.0),
            ("theirs", "", 0.25),
            ("theirs" + contenders.GRAPH, "", 0.2),
        ):
            row = report.Row(implementation=name, pass_name="forward+backward", shape=shape, mode=mode, **common)
            rows.append(dataclasses.replace(row, samples=[seconds * slower] * 3))
    return [*rows, dataclasses.replace(rows[0], case="li", samples=[], error="RuntimeError: broke")]


def made_up_report(kind, rows, gpu="Some GPU"):
    place = machine.describe("cpu") | {"gpu": gpu}
    copies = [measure.Copy(10**9, [0.125], 10**9, [0.25], 1000)]  # 8 GB/s
    return report.Report(kind, "made up", "2026-01-01", place, [], copies, rows)


def tables(lines):
    return [line for line in lines if line.startswith("| ")]


def test_the_page_begins_with_what_matters():
    from benchmarks import summary

    rows = made_up_rows()
    lines = summary.summary("Some GPU", [made_up_report("layer", rows[:7]), made_up_report("layer", rows[7:])])
    assert lines[0] == "## Some GPU"
    # 4e8 bytes at 8 GB/s take 50 ms. Both runs have a column; the mode asked for by name is the default once more.
    assert tables(lines)[:3] == [
        "| neuron | dtype | keeps | 10x2x5 | 10x2x50 |",
        "| --- | --- | --- | ---: | ---: |",
        "| lif | bfloat16 | mask | 50.0 (100%) | 500 (10%) |",
    ]
    # Calls beside calls; a case that nobody else ran is not there.
    assert tables(lines)[3:] == [
        "| neuron | T x B x N | by | called, ms | replayed, ms | beside ours |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| lif | 10x2x5 | torch_lif | 100 | 50.0 | - |",
        "| lif | 10x2x5 | eager | 20000 | - | 200x |",
        "| lif | 10x2x5 | theirs | 250 | 200 | 2.5x |",
    ]
    assert summary.summary("Some GPU", [made_up_report("layer", [])]) == []


def test_surrogates_stand_apart():
    """The same case by two surrogates: two lines of the backward, one of the forward, where it plays no part."""
    from benchmarks import summary

    row = dataclasses.replace(made_up_rows()[0], mode="")
    rows = [dataclasses.replace(row, pass_name=name) for name in cases.PASSES]
    reports = [
        made_up_report("layer", [dataclasses.replace(one, surrogate=surrogate) for one in rows])
        for surrogate in ("A()", "B()")
    ]
    assert [line[1] for line in summary.layers(reports, "forward+backward")[1:]] == ["A()", "B()"]
    assert [line[1] for line in summary.layers(reports, "forward")[1:]] == ["-"]


def test_calls_in_a_row_are_compared_where_they_were_timed():
    from benchmarks import summary

    rows = [row for row in made_up_rows()[:7] if row.implementation in (OURS, "theirs")]
    for row, seconds in zip(rows, (0.01, 0.05), strict=True):
        row.back_to_back = seconds
    lines = summary.others([made_up_report("layer", rows)])
    assert [line[2:] for line in lines[1:]] == [[OURS, "10.0", "-", "-"], ["theirs", "50.0", "-", "5.0x"]]


def test_milliseconds_have_three_digits():
    from benchmarks.summary import milliseconds

    assert [milliseconds(s) for s in (12.3456, 0.1, 0.0312, 1e-3, 2.54e-5)] == ["12346", "100", "31.2", "1.00", "0.025"]


def test_the_page_has_networks_too():
    from benchmarks import summary

    row = report.Row("2 x lif", BASELINE, "training step", (50, 2, 8), "float32", "", 0, samples=[0.3])
    rows = [row, dataclasses.replace(row, implementation=OURS, samples=[0.02])]
    rows += [dataclasses.replace(one, shape=(50, 2, 16), error="MemoryError") for one in rows[1:]]
    lines = summary.summary("Some GPU", [made_up_report("network", rows)])
    assert "| network | T x B x N | eager, ms | torch_lif, ms | speed-up |" in lines
    assert "| 2 x lif | 50x2x8 | 300 | 20.0 | 15x |" in lines
    assert "| 2 x lif | 50x2x16 | - | - | - |" in lines


def test_machines_are_summed_up_apart():
    pytest.importorskip("matplotlib")
    for number, gpu in enumerate(("Some GPU", "Another GPU")):
        made_up_report("layer", made_up_rows(), gpu).write(Path(f"{number}.json"))
    assert cli.main(["report", "0.json", "1.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Some GPU",
        "## Another GPU",
        "## How it was measured",
        "## Runs",
    ]
    # Four implementations of a case are worth a picture, one for each machine.
    assert sorted(path.name for path in Path("page").iterdir()) == ["1-cpu-others.png", "2-cpu-others.png"]
    assert page.count("- failed: li 10x2x5 bfloat16 forward+backward torch_lif: RuntimeError: broke") == 2


def test_bars_have_three_colours():
    pytest.importorskip("matplotlib")
    from benchmarks import page

    graph = contenders.GRAPH
    names = (
        OURS,
        f"{OURS} save",
        OURS + graph,
        BASELINE,
        BASELINE + graph,
        "compiled step",
        "theirs",
        "theirs" + graph,
    )
    shades = [page.colour(name) for name in names]
    assert [shades.index(shade) for shade in shades] == [0, 0, 0, 3, 3, 3, 6, 6]


def test_report_of_failures_alone():
    """No figure, but what happened; and what would break a table is escaped."""
    pytest.importorskip("matplotlib")
    copies = [measure.Copy(10**9, [0.05], 10**9, [0.15], 1000)]
    failed = report.Row("lif", "a|b", "forward", (1, 2, 3), "float32", "T", 8, error="RuntimeError: <broke>")
    report.Report("layer", "made up", "2026-01-01", machine.describe("cpu"), [], copies, [failed]).write(Path("c.json"))
    assert cli.main(["report", "c.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    assert "a\\|b" in page
    assert "RuntimeError: &lt;broke>" in page
    assert "![" not in page


def test_a_page_carries_what_is_cited():
    pytest.importorskip("matplotlib")
    made = made_up_report("layer", made_up_rows())
    made.machine["versions"]["cuda"] = "99.1"
    made.command, made.method = "python -m benchmarks layer lif", ["only | here"]
    made.write(Path("a.json"))
    assert cli.main(["report", "a.json", "--out", "page.md"]) == 0
    page = Path("page.md").read_text()
    for part in ("Some GPU", "CUDA 99.1", torch.__version__, "2026-01-01", made.command, "- only \\| here", "8.0 GB/s"):
        assert part in " ".join(page.split())


def test_a_page_does_not_tell_folders(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import page

    assert page.shown(Path("runs/a.json")) == page.shown(Path.cwd() / "runs" / "a.json") == "runs/a.json"
    assert page.shown(Path.cwd().parent / "elsewhere" / "a.json") == "a.json"


def test_a_report_does_not_tell_folders():
    arguments = ["layer", "lif", "--json", "/home/somebody/runs/a.json", "--quick"]
    assert cli.without_folders(arguments) == ["layer", "lif", "--json", "a.json", "--quick"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layer", "--threads", "0"], "--threads 0, expected 1 or more"),
        (["layer", "izhikevich"], "case 'izhikevich', expected all or one of lif, cuba-lif"),
        (["scaling", "--cases", "lif", "izhikevich"], "case 'izhikevich', expected all or one of lif, cuba-lif"),
        (["layer", "--dtypes", "int8"], "invalid choice: 'int8'"),
        (["layer", "--loop-limit", "1x2"], "expected TxBxN"),
        (["layer", "--loop-limit", "1x2x3,4x5x6"], "expected one shape TxBxN"),
        (["layer", "--time-limit", "0"], "'0', expected a number of seconds above 0"),
        (["network", "--time-limit", "soon"], "'soon', expected a number of seconds above 0"),
        (["report", "none.json"], "none.json does not exist"),
        *([] if torch.cuda.is_available() else [(["layer", "--device", "cuda"], "PyTorch finds no GPU")]),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert message in capsys.readouterr().err


def test_a_run_that_is_stopped_keeps_what_it_has(monkeypatch):
    def stop(problem):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "KEEP_SECONDS", 1e9)
    monkeypatch.setitem(CONTENDERS, "stop", contenders.Contender("stop", stop, cases=("li",)))
    with pytest.raises(KeyboardInterrupt):
        cli.main(["layer", "lif", "li", "--shapes", "20x1x8", "--dtypes", "float32", *FAST, "--json", "stopped.json"])
    rows = json.loads(Path("stopped.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"lif"}

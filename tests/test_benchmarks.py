"""The benchmark measures what it says: bytes, times, failures, and the report that a figure is cited from."""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import torch_lif as lif

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # last: an installed torch_lif stays the one that is tested

pytest.importorskip("tqdm")
pytest.importorskip("resource", reason="getrusage() is of Unix")

from benchmarks import cases, cli, contenders, layer, machine, measure, report, suite  # noqa: E402
from benchmarks.cases import CASES, PASSES, Shape  # noqa: E402
from benchmarks.contenders import BASELINE, CONTENDERS, OURS, Contender  # noqa: E402

SHAPE = Shape(50, 3, 24)
OPTIONS = suite.Options(torch.float32)
MANY_SYNAPSES = dataclasses.replace(CASES["cuba-lif"], name="many", drive=0.01, states=4, synapses=3)
LOOP = CONTENDERS[BASELINE].call


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A cache that is flushed at once."""
    monkeypatch.setattr(measure, "cache_bytes", lambda device: 2**20)
    monkeypatch.setattr(measure, "FLUSH_LEAST", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(measure, "WARM_UP", 0.0)


def meter(device="cpu", repeats=3):
    return measure.Meter(device, measure.Budget(repeats, 0.0, 1.0))


def rows_with(device="cpu", **calls):
    """Rows of the case lif by those calls and the baseline."""
    chosen = [*(Contender(name, call) for name, call in calls.items()), CONTENDERS[BASELINE]]
    return list(suite.measure_all([CASES["lif"]], [("", SHAPE)], OPTIONS, chosen, meter(device)))


def nbytes(tensors):
    return sum(t.nbytes for t in tensors)


BY_MODE = [(case, mode) for case in [*CASES.values(), MANY_SYNAPSES] for mode in (None, *case.modes_for())]


@pytest.mark.parametrize("dtype", layer.DTYPES.values(), ids=layer.DTYPES)
@pytest.mark.parametrize(("case", "mode"), BY_MODE, ids=[f"{case.name}-{mode}" for case, mode in BY_MODE])
def test_formulas_count_the_tensors(case, mode, dtype, device):
    """Against the tensors that pass through the op: its input, its results, what it saves, the gradient it returns."""
    problem = cases.build(case, SHAPE, dtype, device)
    call = contenders.fused(mode)
    in_use = contenders.mode_in_use(call, problem, SHAPE)
    assert in_use == (mode or in_use)
    saved = []

    def keep(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        chosen = {} if mode is None else {"memory": mode}
        out, state, _ = getattr(lif.functional, case.neuron)(problem.x, **problem.arguments, **chosen)
    parameters = [t for t in problem.arguments.values() if isinstance(t, torch.Tensor)]
    given = {t.data_ptr() for t in (problem.x, *parameters)}
    outlines = [t for t in saved if t.untyped_storage().nbytes() < t.nbytes]  # of x, where it is not read
    kept = [t for t in saved if t.data_ptr() not in given and not any(t is outline for outline in outlines)]
    reads_x = in_use != "mask"
    grad = torch.autograd.grad(out, problem.x, problem.grad_out)
    forward = nbytes([problem.x, out, *(s for s in state if s is not None)])
    backward = nbytes([problem.grad_out, *kept, *grad]) + (problem.x.nbytes if reads_x else 0)
    assert kept
    assert case.bytes_moved("forward", SHAPE, dtype, device) == forward
    counted, moved = (
        case.bytes_moved("forward+backward", SHAPE, dtype, device, in_use),
        forward + nbytes(kept) + backward,
    )
    if in_use == "mask":  # a bit a neuron-step, in words of at most 32
        assert counted <= moved <= counted + 2 * 4 * (SHAPE.steps * SHAPE.batch + SHAPE.batch * SHAPE.neurons)
    else:
        assert counted == moved


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (case.name, mode)
        for case, mode in BY_MODE
        if case.name in ("lif", "cuba-lif", "alif") or (case.name, mode) == ("li", "mask")
    ],
)
def test_the_formulas_know_who_reads_x(name, mode, device):
    """A backward that finds NaN in x's place gives another gradient, unless it does not read x."""
    problem = cases.build(CASES[name], SHAPE, torch.float32, device)
    call = contenders.fused(mode)
    x = problem.x.data_ptr()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t * math.nan if t.data_ptr() == x else t):
        spoilt = cases.forward_backward(call, problem)[0]
    same = torch.equal(spoilt, cases.forward_backward(call, problem)[0])
    assert same == (contenders.mode_in_use(call, problem, SHAPE) == "mask")


def test_a_mode_that_keeps_something_else_is_noticed():
    problem = cases.build(CASES["lif"], SHAPE, torch.float32, "cpu")
    with pytest.raises(RuntimeError, match="which is none of"):
        contenders.mode_in_use(lambda problem: (problem.x * problem.x.detach().exp()).tanh(), problem, SHAPE)


def test_modes_are_rows():
    """Each mode that can be asked for, for the pass in which they differ; the default says which it chose."""
    rows = list(
        suite.measure_all([CASES["lif"], CASES["li"]], [("", SHAPE)], OPTIONS, list(CONTENDERS.values())[:2], meter())
    )
    assert not any(row.error for row in rows)
    found = {(row.case, row.implementation, row.pass_name): row.mode for row in rows}
    for case in (CASES["lif"], CASES["li"]):
        for mode in case.modes_for():
            assert found[case.name, f"{OURS} {mode}", "forward+backward"] == mode
            assert (case.name, f"{OURS} {mode}", "forward") not in found
        assert found[case.name, OURS, "forward+backward"] in case.modes
        assert found[case.name, BASELINE, "forward+backward"] == found[case.name, OURS, "forward"] == ""
    assert "mask" in CASES["lif"].modes_for()
    assert "mask" not in CASES["lif+parameters"].modes_for()
    assert "mask" not in CASES["lif"].modes_for(lif.SuperSpike())
    assert len(rows) == suite.count([CASES["lif"], CASES["li"]], [SHAPE], OPTIONS, list(CONTENDERS.values())[:2], "cpu")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cases_are_worth_measuring(case):
    """Neurons spike, but not all the time; every parameter of the case gets a gradient if it is asked for."""
    problem = cases.build(case, Shape(200, 4, 64), torch.float32, "cpu")
    gradients = cases.forward_backward(CONTENDERS[OURS].call, problem)
    assert len(gradients) == (1 + len(case.differentiable) if case.name.endswith("+parameters") else 1)
    assert all(g.abs().sum() > 0 for g in gradients)
    if case.spiking:
        assert 0.02 < cases.forward(CONTENDERS[OURS].call, problem).mean() < 0.5


def test_every_family_has_its_own_surrogate():
    found = {name: type(case.surrogate) for name, case in CASES.items() if not case.trainable}
    expected = {"lif": lif.StepPWL, "cuba-lif": lif.StepPWL, "alif": lif.SingleExponential, "euler-lif": lif.SuperSpike}
    assert found == expected | {"li": type(None)}
    seen = []

    def spy(problem):
        seen.append(problem.arguments["surrogate"])
        return LOOP(problem)

    for options in (OPTIONS, OPTIONS._replace(surrogate=lif.Erf())):
        list(suite.measure_all([CASES["alif"]], [("", SHAPE)], options, [Contender("spy", spy)], meter()))
    assert set(seen) == {CASES["alif"].surrogate, lif.Erf()}


def test_gradients_of_parameters_are_cases_of_their_own(capsys):
    assert set(CASES) == {name + suffix for name in CASES if "+" not in name for suffix in ("", "+parameters")}
    assert cases.DEFAULT == ["lif", "cuba-lif", "alif", "euler-lif", "li", "cuba-lif+parameters"]
    p = cli.parser()

    def chosen(*arguments):
        return layer.chosen_cases(p, p.parse_args(["layer", *arguments]))

    assert chosen() == chosen("all") == cases.DEFAULT
    assert chosen("li+parameters", "alif") == ["li+parameters", "alif"]
    assert chosen("li", "lif", "li+parameters", "--trainable") == ["li+parameters", "lif+parameters"]
    assert len(chosen("--trainable")) == 5


def test_loops_are_left_out_of_large_shapes():
    """Beyond the limit the plain loop still checks the others; other loops do not run at all."""

    def never(problem):
        raise AssertionError

    large = Shape(SHAPE.steps, SHAPE.batch + 1, SHAPE.neurons)
    options, shapes = OPTIONS._replace(loop_limit=math.prod(SHAPE)), [("", SHAPE), ("", large)]
    chosen = [CONTENDERS[OURS], CONTENDERS[BASELINE], Contender("python", LOOP)]
    rows = list(suite.measure_all([CASES["li"]], shapes, options, chosen, meter()))
    assert {row.implementation for row in rows if row.shape == SHAPE} > {OURS, BASELINE, "python"}
    of_large = [row for row in rows if row.shape == large]
    assert {row.implementation.split()[0] for row in of_large} == {OURS}
    assert all(row.check.startswith("output equal to eager's") and not row.error for row in of_large)
    assert len(rows) == suite.count([CASES["li"]], [SHAPE, large], options, chosen, "cpu")
    rows = list(suite.measure_all([CASES["li"]], shapes[1:], options, [Contender("python", never), *chosen], meter()))
    assert {row.implementation.split()[0] for row in rows} == {OURS}
    assert not any(row.error for row in rows)


def test_what_is_fused_is_replayed_too():
    fused = Contender("theirs", LOOP, fused=True)
    names = [one.name for one in contenders.variants(fused, CASES["lif"], "cuda")]
    assert names == ["theirs", "theirs" + contenders.GRAPH]
    ours = contenders.variants(CONTENDERS[OURS], CASES["li"], "cuda")
    assert len(ours) == 2 * len(contenders.variants(CONTENDERS[OURS], CASES["li"], "cpu"))
    for other in (dataclasses.replace(fused, replays=False), Contender("loop", LOOP)):
        assert contenders.variants(other, CASES["lif"], "cuda") == [other]


def test_the_floor_is_a_trivial_op_of_the_same_shape_and_pass(monkeypatch):
    """Here a clock that only the GPU has: what it is given to time, and what comes of it."""
    timed = []

    def in_a_row(self, call, about=0.0):
        timed.append(call())
        return 0.25 * len(timed)

    monkeypatch.setattr(measure.Meter, "in_a_row", in_a_row)
    rows = list(suite.measure_all([CASES["lif"]], [("", SHAPE)], OPTIONS, [CONTENDERS[OURS]], meter()))
    x = cases.build(CASES["lif"], SHAPE, torch.float32, "cpu").x.detach()
    assert torch.equal(timed[0], 2 * x)
    assert torch.equal(timed[1][0], 2 * x)  # the gradient of 2 x, where x comes from above
    assert {(row.pass_name, row.floor) for row in rows} == {("forward", 0.25), ("forward+backward", 0.5)}


def test_calls_in_a_row(device):
    done = []
    found = meter(device).in_a_row(lambda: done.append(1), about=0.01)
    assert (found is None) == (device == "cpu")
    assert len(done) == (0 if device == "cpu" else 5)


def test_time_is_that_of_the_call():
    """Only lower bounds: a sleep may last longer, never shorter."""

    def slow(problem):
        time.sleep(0.02)
        return LOOP(problem)

    rows = [row for row in rows_with(slow=slow) if row.implementation == "slow"]
    assert [row.error for row in rows] == ["", ""]
    assert all(len(row.samples) >= 3 and min(row.samples) > 0.019 and row.median * 1e3 > 19 for row in rows)


def test_every_repeat_finds_a_cold_cache(device, monkeypatch):
    done = []
    monkeypatch.setattr(measure.Meter, "flush", lambda self: done.append("flush"))
    m = meter(device, repeats=5)
    m.measure(lambda: done.append("call"))
    first = done.index("flush")
    assert done[first : first + 10] == ["flush", "call"] * 5
    assert "flush" not in done[first + 10 :]
    assert m.flush_bytes >= 2 * m.cache


def test_repeats_and_limits():
    calls = []
    found = meter(repeats=7).measure(lambda: calls.append(1))
    assert len(found.samples) == 7
    assert len(calls) > 7  # warm-up
    limited = measure.Meter("cpu", measure.Budget(1000, 0.0, 0.01)).measure(lambda: time.sleep(0.02))
    assert len(limited.samples) == 3
    longer = measure.Meter("cpu", measure.Budget(1, 0.1, 10.0)).measure(lambda: time.sleep(0.02))
    assert sum(longer.samples) >= 0.1


@pytest.mark.parametrize("count", [1, 5, 4097])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_memcpy_copies_everything(count, workers, threads):
    threads(workers)
    source, target = torch.rand(count), torch.zeros(count)
    with ThreadPoolExecutor(workers) as pool:
        measure.memcpy(target, source, pool)
    assert torch.equal(source, target)


def test_fresh_memory_is_counted_as_page_faults():
    _, faults = meter().once(lambda: torch.ones(2**25))  # 128 MiB: malloc takes so much from the system
    kept = torch.ones(2**20)
    _, none = meter().once(lambda: kept.add_(1))
    assert faults > none


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt() is glibc's")
def test_keep_memory_is_rid_of_page_faults():
    """In a process of its own, for it cannot be undone. Alignment splits blocks, so that malloc settles after a few
    calls only."""
    program = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"  # the same torch_lif as here
    program += """if True:
        import torch
        from benchmarks import measure
        measure.cache_bytes = lambda device: 2**20
        once = measure.Meter("cpu", measure.Budget(1, 0, 1)).once
        def faults():
            return min(once(lambda: torch.ones(2**24))[1] for _ in range(8))
        print(faults())
        measure.keep_memory()
        print(faults())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 0
    assert after < before / 10


def test_others_are_noticed():
    """A process that takes half a second of CPU time."""
    if not machine.busy_seconds():
        pytest.skip("the system does not tell")
    others, began = machine.Others(), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert others.cpus() * (time.perf_counter() - began) > 0.3


def test_only_others_are_counted(monkeypatch):
    """/proc/stat, and a machine on which this process is alone."""
    stat = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 3 999 999 4 5 6 7 8\ncpu1 1 1 1 1 1 1 1 1 1 1\ncpu2 200 0 0 0 0 "
        "0 0 0 0 0\nintr 5\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(machine, "_read", lambda path: stat)
        patch.setattr(machine, "own_cpus", lambda: {0, 2})
        assert machine.busy_seconds() == pytest.approx(338 / os.sysconf("SC_CLK_TCK"))
        patch.setattr(machine, "_read", lambda path: "")
        assert machine.busy_seconds() is None
        assert machine.Others().cpus() is None
    monkeypatch.setattr(machine, "busy_seconds", lambda: sum(os.times()[:2]))
    others, began = machine.Others(), time.perf_counter()
    stop = time.process_time() + 0.3
    while time.process_time() < stop:
        pass
    assert others.cpus() * (time.perf_counter() - began) < 0.1


def test_a_failing_case_is_reported_and_the_rest_runs():
    true = LOOP

    def raises(problem):
        raise MemoryError("no room\nfor more")

    def one_more_spike(problem):
        out = true(problem)
        return out + torch.zeros_like(out).index_fill_(1, torch.tensor([7]), 1.0)

    def wrong_gradient(problem):
        out = true(problem)
        return out.detach() + 1.1 * (out - out.detach())

    calls = iter(range(3))

    def breaks_later(problem):
        if torch.is_grad_enabled() and next(calls, None) is None:
            raise RuntimeError("broke")
        return true(problem)

    rows = rows_with(
        raises=raises, one_more_spike=one_more_spike, wrong_gradient=wrong_gradient, breaks_later=breaks_later
    )
    errors = {(row.implementation, row.pass_name): row.error for row in rows}
    for name in PASSES:
        assert errors["raises", name] == "MemoryError: no room"
        assert errors["one_more_spike", name] == "output differs from eager's in 72 of 3600 places"
        assert "gradient of x differs from eager's by 0.1 of" in errors["wrong_gradient", name]
        assert errors[BASELINE, name] == ""
    assert errors["breaks_later", "forward"] == ""
    assert errors["breaks_later", "forward+backward"] == "RuntimeError: broke"
    assert all(bool(row.samples) != bool(row.error) for row in rows)


def test_without_a_baseline_nothing_counts_as_checked():
    def raises(problem):
        raise MemoryError

    problem = cases.build(CASES["lif"], SHAPE, torch.float32, "cpu")
    fused, loop = CONTENDERS[OURS], CONTENDERS[BASELINE]
    alone = suite.check([fused], problem)
    beside = suite.check([Contender(BASELINE, raises), fused], problem)
    both = suite.check([fused, loop], problem)
    assert alone["torch_lif"] == beside["torch_lif"] == ("not checked: eager did not run", "")
    assert both["torch_lif"].check.startswith("output equal to eager's")


def made_up():
    """100 MB in 10 ms, where a copy moves 20 GB/s: half its bandwidth, and five times as fast as the baseline. There
    are CPUs left for others, but not enough for those beside the baseline of the other pass."""
    place = machine.describe("cpu") | {"threads": 2, "cpus": 3}
    copies = [
        measure.Copy(10**9, [0.05, 0.05, 9.0], 10**9, [0.15], 1000),
        measure.Copy(10**9, [0.06], 10**9, [0.2], 1000),
    ]
    row = {
        "case": "lif",
        "pass_name": "forward",
        "shape": (10, 2, 5),
        "dtype": "float32",
        "formula": "T",
        "bytes_moved": 10**8,
    }
    fast = report.Row(
        implementation="torch_lif", **row, samples=[0.01, 0.02, 0.01, 0.008, 0.01], faults=20.0, others=0.5
    )
    slow = report.Row(implementation=BASELINE, **row, samples=[0.05])
    broken = report.Row(implementation="broken", **row, error="RuntimeError: broke")
    backward = [
        dataclasses.replace(fast, pass_name="backward"),
        dataclasses.replace(slow, pass_name="backward", others=1.3),
    ]
    return report.Report(
        "layer",
        "python -m benchmarks layer lif",
        "2026-01-01",
        place,
        ["by hand"],
        copies,
        [fast, slow, broken, *backward],
    )


def test_derived_figures():
    made = made_up()
    figures = made.derived(made.rows[0])
    expected = {
        "ms": 10.0,
        "quartile_1_ms": 10.0,
        "quartile_3_ms": 10.0,
        "neuron_steps_per_s": 1e4,
        "gb_per_s": 10.0,
        "copy_fraction": 0.5,
        "limit_ms": 5.0,
        "fault_fraction": 20 * (0.15 - 0.05) / 1000 / 0.01,
        "speedup": 5.0,
        "disturbed": False,
    }
    assert figures == pytest.approx(expected)
    assert made.derived(made.rows[1])["speedup"] == 1.0
    assert made.derived(made.rows[2]) == dict.fromkeys(report.FIGURES) | {"disturbed": False}
    assert [made.derived(row)["disturbed"] for row in made.rows] == [False, False, False, True, True]
    made.machine["cpus"] = 4
    assert not made.derived(made.rows[4])["disturbed"]


def test_table():
    made = made_up()
    lines = made.table().splitlines()
    titles, fast, _, broken = (" ".join(line.split()) for line in lines[:4])
    assert titles == "case T x B x N pass dtype by ms quartiles Mns/s GB/s of copy speed-up faults others"
    assert fast == "lif 10x2x5 forward float32 torch_lif 10.000 10.000 .. 10.000 0.0 10.00 50.0% 5.00 20% 0.50"
    assert broken.startswith("lif 10x2x5 forward float32 broken failed")
    assert lines[5].endswith("1.30!")
    assert lines[6] == "failed: lif 10x2x5 float32 forward broken: RuntimeError: broke"
    assert lines[7].startswith("!: the machine was busy during this row")
    assert len(lines) == 8
    for copy in made.copies:
        copy.others = 1.5
    assert made.table().splitlines()[8].startswith("!: the machine was busy while copies were timed")


def test_json_round_trip(tmp_path):
    made, path = made_up(), tmp_path / "new" / "report.json"
    made.write(path)
    assert report.read(path) == made
    rows = json.loads(path.read_text())["rows"]
    assert rows[0]["derived"] == made.derived(made.rows[0])
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", "ok"]


def test_shapes():
    assert layer.parse_shapes("500x16x512, 1x2x3") == [(500, 16, 512), (1, 2, 3)]


@pytest.mark.parametrize("text", ["", "10x20", "1x2x3x4", "axbxc", "0x1x1", "1x-2x3", "1x2.5x3", "1x2x3,", "1X2X3"])
def test_shapes_that_are_none(text, capsys):
    with pytest.raises(argparse.ArgumentTypeError, match="expected TxBxN"):
        layer.parse_shapes(text)
    with pytest.raises(SystemExit):
        cli.main(["layer", "--shapes", text])
    assert "expected TxBxN" in capsys.readouterr().err


def test_end_to_end(device, tmp_path, capsys, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)
    threads(torch.get_num_threads())  # restored afterwards
    seen = set()

    def spy(problem):
        seen.add(
            (
                len(problem.leaves) - len(problem.case.differentiable),
                type(problem.arguments.get("surrogate", lif.SuperSpike())),
            )
        )
        return LOOP(problem)

    monkeypatch.setitem(CONTENDERS, "spy", Contender("spy", spy))
    monkeypatch.delitem(CONTENDERS, "compiled step")
    arguments = ["--shapes", "40x2x16,20x1x300", "--repeats", "2", "--min-time", "0", "--device", device, "--no-peers"]
    arguments += ["--dtypes", "float32", "bfloat16", "--threads", "1", "--trainable", "--surrogate", "super_spike"]
    assert cli.main(["layer", "all", *arguments]) == 0
    out = capsys.readouterr().out
    found = report.read(tmp_path / f"runs/benchmarks/layer-{device}.json")
    assert seen == {(1, lif.SuperSpike)}
    assert {row.shape for row in found.rows} == {(40, 2, 16), (20, 1, 300)}
    assert {row.dtype for row in found.rows} == {"float32", "bfloat16"}
    assert {row.case for row in found.rows} == {name for name in CASES if name.endswith("+parameters")}
    assert all(math.isfinite(row.median) and not row.error for row in found.rows)
    assert all(row.check.startswith("output equal") for row in found.rows if row.implementation != BASELINE)
    assert any(row.implementation.endswith(contenders.GRAPH) for row in found.rows) == (device == "cuda")
    assert all(
        (row.peak is None) == (device == "cpu" or row.implementation.endswith(contenders.GRAPH)) for row in found.rows
    )
    assert found.machine["threads"] == 1
    assert found.command.startswith("python -m benchmarks layer all --shapes 40x2x16,20x1x300")
    assert found.copy.bandwidth > 0
    place = machine.processor() if device == "cpu" else "CUDA"
    for text in (found.table(), cases.TRAINING, cases.LEGEND, place, "surrogates: SuperSpike(alpha=100.0) for all"):
        assert text in out


def test_end_to_end_with_a_failure(tmp_path, capsys, monkeypatch):
    def broken(problem):
        raise RuntimeError("broke")

    monkeypatch.setitem(CONTENDERS, "broken", Contender("broken", broken))
    path = tmp_path / "failed.json"
    common = [
        "--device",
        "cpu",
        "--shapes",
        "40x2x16",
        "--repeats",
        "2",
        "--min-time",
        "0",
        "--json",
        str(path),
        "--no-peers",
    ]
    assert cli.main(["layer", "--cases", "li", *common, "--dtype", "bfloat16"]) == 1
    assert "failed: li 40x2x16 bfloat16 forward broken: RuntimeError: broke" in capsys.readouterr().out
    rows = report.read(path).rows
    assert [bool(row.error) for row in rows] == [row.implementation == "broken" for row in rows]
    monkeypatch.delitem(CONTENDERS, "broken")
    assert cli.main(["layer", "li", *common, "--no-eager"]) == 0
    assert "NOT checked" in capsys.readouterr().out
    assert {row.check for row in report.read(path).rows} == {"not checked: eager did not run"}


def test_a_run_ends_in_time(tmp_path, capsys, monkeypatch):
    """A row that is begun is finished; what is left out is said."""

    def slow(problem):
        time.sleep(0.05)
        return LOOP(problem)

    monkeypatch.setitem(CONTENDERS, "slow", Contender("slow", slow))
    path = tmp_path / "late.json"
    arguments = [
        "--device",
        "cpu",
        "--shapes",
        "40x2x16,20x2x16",
        "--dtypes",
        "float32",
        "--repeats",
        "1",
        "--min-time",
        "0",
    ]
    assert cli.main(["layer", "li", "lif", *arguments, "--json", str(path), "--no-peers", "--time-limit", "0.01"]) == 0
    found = report.read(path)
    assert {row.case for row in found.rows} == {"li"}
    assert len(found.rows) == 1
    assert "stopped by --time-limit 0.01: " in capsys.readouterr().out
    assert "rows were not measured" in found.method[-1]

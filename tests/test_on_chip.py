"""Recurrent layers in one launch on a GPU. The rows of the weights are added in the CPU's order, so that both devices
give the same bits for any weights, not only for those whose sums are exact in any order."""

import pytest
import torch
from cases import CASES, assert_same_bits, gradients, make, outputs, relative_error, same_bits

import torch_lif as lif
from torch_lif import _C

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECURRENT = [case for case in CASES if case.recurrent]
ON_CHIP = [case for case in RECURRENT if case.synapses < 9]


@pytest.fixture
def step_by_step():
    """A launch for each step, which is how layers go that do not fit on a chip."""
    _C.set_on_chip(False)
    yield
    _C.set_on_chip(True)


def call(case, T, B, N, seed, scale=1.0, dtype=torch.float32, **changes):
    """Random arguments on the CPU whose recurrent sums round."""
    arguments = make(case, T=T, B=B, neurons=N, seed=seed, dtype=dtype)
    torch.manual_seed(seed)
    currents = N * max(1, case.synapses)
    arguments["w_rec"] = scale * torch.randn(N, currents) / N**0.5
    arguments["b_rec"] = 0.1 * torch.randn(currents)
    return arguments | changes


def on_gpu(arguments):
    def move(value):
        return (
            tuple(map(move, value)) if isinstance(value, tuple) else value.cuda() if hasattr(value, "cuda") else value
        )

    return {name: move(value) for name, value in arguments.items()}


def assert_same_on_both(case, arguments, surrogate=None, backward=True):
    options = {"record": case.records} | ({"surrogate": surrogate} if surrogate else {})

    def run(**found):
        return case.fused(**found, **options)

    expected, grads = gradients(run, arguments)
    got, found = gradients(run, on_gpu(arguments))
    back_on_chip = arguments["w_rec"].shape[1] <= 256
    assert _C.cuda_way(backward=False) == {"on chip"}
    assert _C.cuda_way(backward=True) == ({"on chip"} if back_on_chip else set())
    for (name, a), b in zip(outputs(got).items(), outputs(expected).values(), strict=True):
        assert same_bits(a.cpu(), b), name
    if not backward:
        return
    for name, grad in grads.items():
        # On the chip sums have the CPU's order, and surrogates differ in the last bits. Sums over batch and time, and
        # a matrix product's, have another order: rounding grows with their length, and from step to step.
        bound = 1e-5 if back_on_chip and name not in case.summed else 1e-4
        assert relative_error(found[name].cpu(), grad) <= bound, name


@pytest.mark.parametrize("case", ON_CHIP, ids=str)
@pytest.mark.parametrize("N", [1, 31, 33, 100, 257])
def test_same_bits_as_the_cpu(case, N):
    assert_same_on_both(case, call(case, T=13, B=3, N=N, seed=N, scale=0.5), lif.StepPWL())


@pytest.mark.parametrize("case", ON_CHIP, ids=str)
@pytest.mark.parametrize("surrogate", [lif.SuperSpike(), lif.Triangle()], ids=str)
def test_other_surrogates(case, surrogate):
    assert_same_on_both(case, call(case, T=7, B=2, N=65, seed=1, scale=0.3), surrogate)


@pytest.mark.parametrize("case", [case for case in ON_CHIP if case.synapses < 3], ids=str)
@pytest.mark.parametrize("N", [512, 700, 1024])
def test_weights_that_do_not_fit_in_shared_memory(case, N):
    assert_same_on_both(case, call(case, T=5, B=2, N=N, seed=N, scale=0.3), lif.StepPWL())


@pytest.mark.parametrize("case", ON_CHIP, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_storage(case, dtype):
    assert_same_on_both(case, call(case, T=9, B=2, N=70, seed=2, dtype=dtype), backward=False)


@pytest.mark.parametrize("drive", [-3.0, 0.0, 3.0, 30.0])
def test_rates_from_none_to_all(drive):
    """The list of a step's spikes is empty, or has all neurons; a neuron may spike many times."""
    case = next(case for case in ON_CHIP if case.label == "lif1-recurrent")
    arguments = call(case, T=11, B=2, N=130, seed=3, scale=0.2)
    arguments["x"] = arguments["x"] + drive
    assert_same_on_both(case, arguments, lif.StepPWL(), backward=drive < 30)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("N", [40, 600])
def test_a_weight_that_is_no_number_reaches_whom_it_reaches_on_the_cpu(value, N):
    case = next(case for case in ON_CHIP if case.label == "lif0-recurrent")
    arguments = call(case, T=5, B=2, N=N, seed=4, scale=0.3)
    arguments["w_rec"][N - 2, 3] = value
    assert_same_on_both(case, arguments, lif.StepPWL(), backward=False)


@pytest.mark.parametrize("case", ON_CHIP, ids=str)
def test_a_batch_item_does_not_depend_on_the_others(case):
    arguments = on_gpu(call(case, T=11, B=140, N=48, seed=5))
    whole = case.fused(**arguments)

    def two_items(name, value):
        if name == "state":
            return tuple(None if s is None else s[77:79] for s in value)
        return value[77:79] if name in ("x", *case.inputs) else value

    some = case.fused(**{name: two_items(name, value) for name, value in arguments.items()})
    assert torch.equal(whole[0][77:79], some[0])


@pytest.mark.parametrize("case", ON_CHIP, ids=str)
def test_step_by_step_is_the_same(case, step_by_step):
    """With weights whose sums are exact in any order."""
    arguments = make(case, T=9, B=3, neurons=50, device="cuda", seed=6)

    def run(**found):
        return case.fused(**found, record=case.records)

    expected, grads = gradients(run, arguments)
    assert _C.cuda_way(backward=True) == set()
    _C.set_on_chip(True)
    got, found = gradients(run, arguments)
    assert _C.cuda_way(backward=True) == {"on chip"}
    assert_same_bits(got, expected)
    for name, grad in grads.items():
        assert relative_error(found[name], grad) <= 1e-5, name


def test_two_streams_at_once():
    case = next(case for case in ON_CHIP if case.label == "lif1-recurrent")
    calls = [on_gpu(call(case, T=50, B=64, N=128, seed=seed)) for seed in (7, 8)]
    expected = [case.fused(**arguments)[0] for arguments in calls]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    found = []
    for _ in range(5):
        for stream, arguments in zip(streams, calls, strict=True):
            with torch.cuda.stream(stream):
                found.append(case.fused(**arguments)[0])
    torch.cuda.synchronize()
    for k, spikes in enumerate(found):
        assert torch.equal(spikes, expected[k % 2])


@pytest.mark.parametrize(("case", "N", "dtype"), [
    (ON_CHIP[0], 1100, torch.float32),
    (ON_CHIP[0], 64, torch.float64),
    (next(case for case in RECURRENT if case.synapses == 9), 16, torch.float32),
], ids=str)  # fmt: skip
def test_what_does_not_fit_goes_step_by_step(case, N, dtype):
    case.fused(**make(case, T=3, B=2, neurons=N, device="cuda", dtype=dtype))
    assert _C.cuda_way(backward=False) == set()

"""Forward bits: the kernels give the reference loop's spikes, states and records to the last bit."""

import math

import pytest
import torch
from cases import CASES, SPIKING, assert_same_bits, examples, gradients, make
from conftest import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import torch_lif as lif
from torch_lif import _C


@pytest.mark.parametrize("case", CASES, ids=str)
@given(data=st.data())
@examples(60)
def test_random_calls(case, data):
    draw = data.draw
    device = draw(st.sampled_from(DEVICES), "device")
    isa = draw(st.sampled_from(_C.supported_instruction_sets()), "instruction set")
    arguments = make(
        case,
        T=draw(st.integers(0, 40), "T"),
        B=draw(st.integers(0, 4), "B"),
        neurons=draw(st.one_of(st.integers(0, 70), st.integers(500, 530)), "N"),
        dtype=draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]), "dtype"),
        device=device,
        seed=draw(st.integers(0, 10**6), "seed"),
        batch_first=draw(st.booleans(), "batch_first"),
        shared=draw(st.lists(st.sampled_from(list(case.params)), unique=True), "shared"),
        with_inputs=draw(st.booleans(), "inputs"),
        with_state=draw(st.booleans(), "state"),
    )
    if case.max_spikes:
        arguments["max_spikes"] = draw(st.sampled_from([1, 2, 2.0**16]), "max_spikes")
    arguments["record"] = draw(st.lists(st.sampled_from(case.records), unique=True), "record")
    before = _C.instruction_set()
    _C.set_instruction_set(isa)
    try:
        assert_same_bits(case.fused(**arguments), case.reference(**arguments))
    finally:
        _C.set_instruction_set(before)


STEPS = {"T": 300, "B": 4, "neurons": 2800}
SIMPLE = [case for case in CASES if case.synapses <= 2 and not case.recurrent]


def test_enough_neuron_steps():
    assert len(set(SPIKING) & set(SIMPLE)) * math.prod(STEPS.values()) >= 10**7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", SIMPLE, ids=str)
def test_many_neuron_steps(case, dtype, target, once):
    """Over 10^7 neuron-steps on each instruction set and device, without one differing value."""
    arguments = make(case, **STEPS, dtype=dtype, device=target, seed=3)
    got = case.fused(**arguments, record=case.records)
    assert_same_bits(got, once(lambda: case.reference(**arguments, record=case.records)))
    if case.spiking:
        per_step = float(got.spikes.mean())
        assert per_step > 0.02, "hardly a spike: this would prove nothing"
        if case.max_spikes:
            assert bool((got.spikes > 1).any()), "no neuron spiked twice in a step"


@pytest.mark.parametrize("max_spikes", [1, 2.0**16, math.inf])
@pytest.mark.parametrize("steps", [1, 8])
def test_threshold_is_reached_by_equality(steps, max_spikes, target):
    """v >= threshold: a membrane exactly at the threshold spikes (Rockpool's code; its text says >)."""
    for levels in (
        [0.5, 1.0, 0.75, 1.0, 1.0],
        [0.5, 1.0, 1.5, 2.0, 3.0],
    ):  # counts below two run in bodies of their own
        x = torch.tensor(levels, device=target).reshape(1, 1, 5).expand(1, steps, 5)
        spikes = lif.functional.lif(x, decay_mem=0.0, max_spikes=max_spikes).spikes
        assert spikes[0].tolist() == [[min(int(level), max_spikes) for level in levels]] * steps


@pytest.mark.parametrize("steps", [1, 8])
def test_single_spikes_at_their_threshold(steps, target):
    """sinabs' [v - threshold >= 0] and [v > 0] * trunc(v / threshold); hxtorch's and norse's [v - threshold > 0]."""
    x = torch.tensor([0.5, 1.0, 1.5, 2.75], device=target).reshape(1, 1, 4).expand(1, steps, 4)
    alif = {"decay_mem": 0.0, "decay_adapt": 0.0, "adapt_scale": 0.0, "norm_input": False}
    assert lif.functional.alif(x, **alif).spikes[0].tolist() == [[0, 1, 1, 1]] * steps
    assert lif.functional.alif(x, **alif, max_spikes=4).spikes[0].tolist() == [[0, 1, 1, 2]] * steps
    euler = {"rate_mem": 1.0, "rate_syn": 1.0, "synapse_update": "input_first"}
    assert lif.functional.euler_lif(x, **euler).spikes[0].tolist() == [[0, 0, 1, 1]] * steps


def test_max_spikes_bounds_the_count(device):
    x = torch.tensor([0.5, 1.0, 7.5, 1e30], device=device).reshape(1, 1, 4)
    spikes, (v, *_), _ = lif.functional.lif(x, decay_mem=1.0, max_spikes=3)
    assert spikes.flatten().tolist() == [0, 1, 3, 3]
    assert v.flatten().tolist() == [0.5, 0.0, 4.5, torch.tensor(1e30).item()]


def test_synapses_take_neighbouring_inputs(device):
    """x is neuron-major: inputs n*S .. n*S + S - 1 are neuron n's."""
    x = torch.tensor([1.0, 2.0, 4.0, 8.0], device=device).reshape(1, 1, 4)
    decay = torch.tensor([[0.5, 0.25], [1.0, 0.5]], device=device)
    state = lif.functional.lif(x, decay_mem=1.0, decay_syn=decay, synapses=2, threshold=1e6).state
    assert state.i.tolist() == [[[0.5, 0.5], [4.0, 4.0]]]
    assert state.v.tolist() == [[1.0, 8.0]]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_not_a_number_stays_in_its_neuron(case, target):
    arguments = make(case, T=20, B=2, neurons=40, device=target)
    clean = case.fused(**arguments, record=case.records)
    width = max(case.synapses, 1)
    for n, value in ((3, math.nan), (11, math.inf), (20, -math.inf)):
        arguments["x"][1, 5, n * width] = value
    got = case.fused(**arguments, record=case.records)
    assert_same_bits(got, case.reference(**arguments, record=case.records))
    if case.name in ("lif", "li") and not case.inputs[1:] and str(case) != "li-measured":
        first = 6 if case.name == "li" else 5  # the integrator's input acts one step later
        assert bool(got[0][1, first:, 3].isnan().all()), "a NaN membrane must give NaN, not a spike or silence"
    if case.recurrent:
        return  # it reaches the other neurons through the weights
    untouched = torch.ones(2, 40, dtype=torch.bool, device=target)
    untouched[1, [3, 11, 20]] = False
    assert torch.equal(got[0].movedim(1, 2)[untouched], clean[0].movedim(1, 2)[untouched])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("T", "B", "N"), [(0, 2, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1), (17, 1, 1)])
def test_smallest_sizes(case, T, B, N, device):
    arguments = make(case, T, B, N, device=device)
    got, grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
    expected, expected_grads = gradients(lambda **a: case.reference(**a, record=case.records), arguments)
    assert_same_bits(got, expected)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-4, atol=1e-5)

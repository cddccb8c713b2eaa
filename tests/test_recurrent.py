"""Recurrent sums in the order of the kernels: bits for any weights, where other tests take weights whose sums are exact
in any order."""

import pytest
import torch
from cases import CASES, assert_same_bits, examples, gradients, make, relative_error
from conftest import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import torch_lif as lif
from torch_lif import _C, reference

RECURRENT = [case for case in CASES if case.recurrent]


def rounded(arguments, case, scale, seed):
    """The arguments with weights whose sums round."""
    generator = torch.Generator().manual_seed(seed)
    for name in case.weights:
        weights = torch.randn(arguments[name].shape, generator=generator, dtype=torch.float64)
        weights *= scale / arguments["w_rec"].shape[0] ** 0.5
        arguments[name] = weights.to(arguments[name])
    return arguments


@pytest.mark.parametrize("case", RECURRENT, ids=str)
@given(data=st.data())
@examples(25)
def test_any_weights(case, data):
    draw = data.draw
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]), "dtype")
    device = draw(st.sampled_from(DEVICES), "device")
    if device == "cuda" and (dtype == torch.float64 or case.synapses > 8):
        device = "cpu"  # on CUDA those take PyTorch's matrix product
    arguments = make(
        case,
        T=draw(st.integers(1, 12), "T"),
        B=draw(st.integers(1, 4), "B"),
        neurons=draw(st.one_of(st.integers(1, 70), st.integers(250, 270)), "N"),
        dtype=dtype,
        device=device,
        seed=draw(st.integers(0, 10**6), "seed"),
        with_state=draw(st.booleans(), "state"),
    )
    rounded(arguments, case, draw(st.sampled_from([0.0, 0.3, 1.0, 3.0]), "scale"), seed=1)
    if draw(st.booleans(), "without a bias"):
        del arguments["b_rec"]
    if case.max_spikes:
        arguments["max_spikes"] = draw(st.sampled_from([1, 2, 2.0**16]), "max_spikes")
    arguments["record"] = case.records
    before = _C.instruction_set()
    _C.set_instruction_set(draw(st.sampled_from(_C.supported_instruction_sets()), "instruction set"))
    try:
        got = case.fused(**arguments)
    finally:
        _C.set_instruction_set(before)
    with reference.rows_in_order():
        expected = case.reference(**arguments)
    assert_same_bits(got, expected)


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_gradients_through_the_sum(case, device):
    arguments = rounded(make(case, T=6, B=3, neurons=40, device=device, seed=2), case, 0.3, seed=3)
    _, got = gradients(case.fused, arguments)
    with reference.rows_in_order():
        _, expected = gradients(case.reference, arguments)
    for name, grad in expected.items():
        assert relative_error(got[name], grad) <= 1e-5, name


def test_the_order_matters():
    """Otherwise the tests above would prove nothing."""
    torch.manual_seed(4)
    spikes, w_rec = (torch.rand(4, 300) < 0.3).float(), torch.randn(300, 300)
    turned = reference.sum_in_order(spikes.flip(1), w_rec.flip(0))
    assert not torch.equal(reference.sum_in_order(spikes, w_rec), turned)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_without_a_spike_counts_if_it_is_not_finite(value):
    w_rec = torch.ones(3, 2)
    w_rec[1, 0] = value
    spikes = torch.tensor([[1.0, 0.0, 2.0]])
    found = reference.sum_in_order(spikes, w_rec, torch.tensor([0.5, 0.5]))
    assert found[0, 0].isnan()
    assert found[0, 1] == 3.5
    x = torch.zeros(1, 2, 3)
    state = (None, None, spikes)
    options = {"decay_mem": 0.9, "w_rec": torch.where(torch.eye(3) > 0, value, 0.1), "state": state}
    with reference.rows_in_order():
        expected = lif.reference.lif(x, **options)
    assert_same_bits(lif.functional.lif(x, **options), expected)

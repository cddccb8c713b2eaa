"""The common case has kernels of its own: on the GPU, x alone and nothing recorded; on the CPU, nothing optional given. They give
the bits of the plain loop, and those of the general kernels."""

import inspect
import math

import pytest
import torch
from cases import CASES, SURROGATES, assert_same_bits, leaves, loss, make, outputs, same_bits

import torch_lif as lif

PLAIN = [case for case in CASES if not case.recurrent]
SHAPES = [(1, 2, 4), (15, 1, 64), (16, 3, 68), (17, 2, 128), (33, 2, 132), (75, 2, 200), (48, 2, 66)]
"""T, B, N: rows that 16-byte copies can take (N a multiple of 4, of 8 for half types), and one that they cannot."""


def call(case, arguments, **options):
    copy, found = leaves(arguments)
    result = case.fused(**copy, **options)
    total = loss(type(result)(result[0], result.state, {}))  # of what both have: not of records
    return result, dict(zip(found, torch.autograd.grad(total, list(found.values()), allow_unused=True), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_recording_changes_nothing(case, shape, dtype, target):
    """A call without records and optional inputs against one with records, which takes the general kernels."""
    T, B, N = shape
    arguments = make(case, T, B, N, dtype=dtype, device=target, seed=31, with_inputs=False)
    got, grads = call(case, arguments)
    expected, expected_grads = call(case, arguments, record=case.records)
    for name, value in outputs(got).items():
        assert same_bits(value, outputs(expected)[name]), name
    for name, grad in grads.items():
        if grad is not None and name not in case.summed:
            assert same_bits(grad, expected_grads[name]), name
        elif grad is not None and bool(grad.isfinite().all()):
            torch.testing.assert_close(grad, expected_grads[name], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert_same_bits(case.fused(**arguments), case.reference(**arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", [case for case in PLAIN if case.name == "lif"], ids=str)
def test_nothing_optional_at_all(case, shape, dtype, target):
    """Without a bias, and with a gradient of x alone: from the mask where there is one, and from checkpoints."""
    T, B, N = shape
    arguments = make(case, T, B, N, dtype=dtype, device=target, seed=34, with_inputs=False, with_state=False)
    del arguments["bias"]
    modes = [None, *(["recompute"] if case.synapses < 3 or target == "cpu" else [])]
    for memory in modes:
        grads = []
        for record in ((), ("v",)):
            x = arguments["x"].clone().requires_grad_()
            result = case.fused(**arguments | {"x": x}, record=record, memory=memory)
            total = loss(type(result)(result[0], result.state, {}))
            grads.append((result, torch.autograd.grad(total, x)[0]))
        (got, grad), (expected, expected_grad) = grads
        assert same_bits(got.spikes, expected.spikes)
        assert same_bits(grad, expected_grad)
        with torch.no_grad():
            assert_same_bits(got, case.reference(**arguments))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize("case", [case for case in PLAIN if "surrogate" in inspect.signature(case.fused).parameters], ids=str)
def test_every_surrogate(case, surrogate, target):
    """On the GPU some are constants of their kernels; the others are switched to once for several steps of a full chunk."""
    arguments = make(case, 50, 2, 68, device=target, seed=35, with_inputs=False) | {"surrogate": surrogate}
    got, grads = call(case, arguments)
    expected, expected_grads = call(case, arguments, record=case.records)
    assert same_bits(got[0], expected[0])
    assert same_bits(grads["x"], expected_grads["x"])
    x = arguments["x"].clone().requires_grad_()  # and without gradients of parameters
    alone = []
    for record in ((), case.records):
        result = case.fused(**arguments | {"x": x}, record=record)
        alone.append(torch.autograd.grad(loss(type(result)(result[0], result.state, {})), x)[0])
    assert same_bits(alone[0], alone[1])


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_many_neurons(case, target):
    """Enough of them for blocks of another width on the GPU, the last of which is not full."""
    if target == "cpu":
        pytest.skip("has no such blocks")
    arguments = make(case, 20, 64, 4100, device=target, seed=32, with_inputs=False)
    got, grads = call(case, arguments)
    expected, expected_grads = call(case, arguments, record=("v",))
    assert same_bits(got[0], expected[0])
    assert same_bits(grads["x"], expected_grads["x"])
    with torch.no_grad():
        assert_same_bits(case.fused(**arguments), case.reference(**arguments))


@pytest.mark.parametrize("max_spikes", [1, 3, 2.0**16, 1e9, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spike_counts_of_any_size(max_spikes, dtype, target):
    """Counts around whole numbers, huge ones, thresholds of every size side by side, NaN and infinities: the plain loop's bits. On
    the GPU the usual ones are counted without a division."""
    generator = torch.Generator().manual_seed(33)
    N, T = 4096, 40
    threshold = torch.ones(N, dtype=dtype)
    threshold[1024:2048] = torch.rand(1024, generator=generator, dtype=dtype) + 0.1
    threshold[2048:] = 10 ** torch.empty(2048, dtype=dtype).uniform_(-25, 25, generator=generator)
    counts = torch.randint(0, 70000, (2, T, N), generator=generator).to(dtype)
    x = counts * threshold
    eps = torch.finfo(dtype).eps
    x[:, ::3] *= 1 + eps
    x[:, 1::3] *= 1 - eps
    x[:, ::7] = torch.rand(2, len(range(0, T, 7)), N, generator=generator, dtype=dtype) * 5 * threshold
    for n, value in ((5, math.nan), (6, math.inf), (7, -math.inf), (8, 1e30), (2100, math.inf), (2200, math.nan)):
        x[0, 11, n] = value
    x, threshold = x.to(target), threshold.to(target)
    arguments = {
        "x": x,
        "decay_mem": torch.tensor(0.5, dtype=dtype, device=target),
        "threshold": threshold,
        "max_spikes": max_spikes,
    }
    assert_same_bits(lif.functional.lif(**arguments), lif.reference.lif(**arguments))


@pytest.mark.parametrize("values", [(math.nan,), (math.inf,), (-math.inf,), (-math.inf, math.inf), (-0.0,) * 16], ids=str)
@pytest.mark.parametrize("step", [11, 12])
@pytest.mark.parametrize("synapses", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_count_above_one(synapses, step, values, dtype, target):
    """On the CPU four steps are taken at once as if no count exceeded one. Where one does, or what comes in is not finite, and in
    the sign of zero, they have the plain loop's bits."""
    N, T = 70, 40
    generator = torch.Generator().manual_seed(36)
    x = torch.rand(2, T, N, generator=generator, dtype=dtype) * 0.3
    x[:, :, 5:9] = 0.0
    for k, value in enumerate(values):
        x[0, step + k, 3] = x[1, step + k, 7] = value
    arguments = {"x": x.to(target), "decay_mem": torch.full((N,), 0.9, dtype=dtype, device=target), "threshold": 1.0}
    if synapses:
        arguments["decay_syn"] = torch.full((N,), 0.8, dtype=dtype, device=target)
    assert_same_bits(lif.functional.lif(**arguments), lif.reference.lif(**arguments))
    state = lif.functional.lif(**arguments | {"x": arguments["x"][:, : step + 1]})[1]
    assert_same_bits(lif.functional.lif(**arguments, state=state), lif.reference.lif(**arguments, state=state))

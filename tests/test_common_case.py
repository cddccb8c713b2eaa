"""The common case has kernels of its own: on the GPU, x alone and nothing recorded; on the CPU, nothing optional given.
They give the bits of the plain loop, and those of the general kernels."""

import inspect
import math

import pytest
import torch
from cases import CASES, SURROGATES, assert_same_bits, gradients, leaves, loss, make, only_sequences, outputs, same_bits

import torch_lif as lif
from torch_lif._call import SYNAPSE_UPDATES

PLAIN = [case for case in CASES if not case.recurrent]
SHAPES = [(1, 2, 4), (15, 1, 64), (16, 3, 68), (17, 2, 128), (33, 2, 132), (75, 2, 200), (48, 2, 66)]
"""T, B, N: rows that 16-byte copies can take (N a multiple of 4, of 8 for half types), and one that they cannot."""
LONG = (450, 1, 72)
WIDE = (45, 64, 4104)
"""Enough neurons for blocks of another width on the GPU, the last of which is not full."""
SHORT = [(1, 700, 1032), (4, 700, 1032), (8, 100, 4104)]
"""Short sequences, of which such a block takes several."""


def total_of(result):
    """A loss of what a call has with and without records. Records join it times zero: their gradients, though zero,
    keep the backward too from the kernels of the common case."""
    total = loss(type(result)(result[0], result.state, {}))
    for record in result.records.values():
        total = total + (record * 0).sum()
    return total


def assert_records_change_nothing(case, arguments, differentiated=leaves, **options):
    """A call against one with records, which takes the general kernels; and its outputs against the plain loop's."""
    results, found_gradients = [], []
    for record in ((), case.records):
        copy, found = differentiated(arguments)
        result = case.fused(**copy, **options, record=record)
        grads = torch.autograd.grad(total_of(result), list(found.values()), allow_unused=True)
        results.append(result)
        found_gradients.append(dict(zip(found, grads, strict=True)))
    for name, value in outputs(results[0]).items():
        assert same_bits(value, outputs(results[1])[name]), name
    for name, grad in found_gradients[0].items():
        expected = found_gradients[1][name]
        if grad is None or expected is None:
            assert grad is expected, name
        else:
            assert same_bits(grad, expected), name
    with torch.no_grad():
        assert_same_bits(results[0], case.reference(**arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_recording_changes_nothing(case, shape, dtype, target):
    T, B, N = shape
    assert_records_change_nothing(case, make(case, T, B, N, dtype=dtype, device=target, seed=31, with_inputs=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, LONG, WIDE, *SHORT], ids=str)
@pytest.mark.parametrize("case", [case for case in PLAIN if case.name in ("lif", "li")], ids=str)
def test_nothing_optional_at_all(case, shape, dtype, target):
    """Without a bias or a leak's potential, and with gradients of x and the state alone: from the mask where there is
    one, or from nothing, and from checkpoints."""
    T, B, N = shape
    if B > 3 and target == "cpu":
        pytest.skip("has no such blocks")
    arguments = make(case, T, B, N, dtype=dtype, device=target, seed=34, with_inputs=False)
    for name in ("bias", "leak"):
        arguments.pop(name, None)
    for memory in (None, "recompute"):
        assert_records_change_nothing(case, arguments, only_sequences, memory=memory)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize(
    "case", [case for case in PLAIN if "surrogate" in inspect.signature(case.fused).parameters], ids=str
)
def test_every_surrogate(case, surrogate, target):
    """On the GPU some are constants of their kernels; the others are switched to once for several steps of a full
    chunk."""
    arguments = make(case, 50, 2, 68, device=target, seed=35, with_inputs=False)
    for differentiated in (leaves, only_sequences):
        assert_records_change_nothing(case, arguments, differentiated, surrogate=surrogate)


OPTIONS = [
    *(("alif", option) for option in ({}, {"norm_input": False}, {"norm_input": "state"}, {"max_spikes": 3})),
    *(("alif", option) for option in ({"zero_adaptation": True}, {"threshold_gradient": False})),
    *(("euler", {"synapse_update": order}) for order in SYNAPSE_UPDATES),
    *(("euler", option) for option in ({"leaky": False}, {"reset_gradient": True})),
    *(("li", {"synapse_update": order}) for order in SYNAPSE_UPDATES),
]


@pytest.mark.parametrize(("label", "option"), OPTIONS, ids=str)
def test_each_option_alone(label, option, target):
    """With nothing optional given: options are then constants of the kernels in the common case."""
    case = next(case for case in CASES if str(case) == label)
    for surrogate in ({}, {"surrogate": lif.StepPWL()}, {"surrogate": lif.Gaussian(mu=0.1)}) if case.spiking else ({},):
        for dtype, steps in ((torch.float32, 50), (torch.float64, case.steps)):
            arguments = (
                make(case, steps, 2, 68, dtype=dtype, device=target, seed=37, with_inputs=False) | option | surrogate
            )
            for name in ("leak", "reset_value" if label == "euler" else ""):
                arguments.pop(name, None)
            if dtype == torch.float32:
                assert_records_change_nothing(case, arguments)
            else:
                expected = gradients(case.reference, arguments)[1]
                for name, grad in gradients(case.fused, arguments)[1].items():
                    torch.testing.assert_close(grad, expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [WIDE, *SHORT], ids=str)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_many_neurons(case, shape, target):
    if target == "cpu":
        pytest.skip("has no such blocks")
    T, B, N = shape
    assert_records_change_nothing(case, make(case, T, B, N, device=target, seed=32, with_inputs=False))


@pytest.mark.parametrize("max_spikes", [1, 3, 2.0**16, 1e9, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spike_counts_of_any_size(max_spikes, dtype, target):
    """Counts around whole numbers, huge ones, thresholds of every size side by side, NaN and infinities: the plain
    loop's bits. On the GPU those of common size are counted without a division."""
    generator = torch.Generator().manual_seed(33)
    N, T = 4096, 40
    threshold = torch.ones(N, dtype=dtype)
    threshold[1024:2048] = torch.rand(1024, generator=generator, dtype=dtype) + 0.1
    threshold[2048:] = 10 ** torch.empty(2048, dtype=dtype).uniform_(-37, 25, generator=generator)
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
    assert_records_change_nothing(PLAIN[0], arguments)


@pytest.mark.parametrize(
    "values", [(math.nan,), (math.inf,), (-math.inf,), (-math.inf, math.inf), (-0.0,) * 16], ids=str
)
@pytest.mark.parametrize("step", [11, 12])
@pytest.mark.parametrize("synapses", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_count_above_one(synapses, step, values, dtype, target):
    """On the CPU four steps are taken at once as if no count exceeded one. Where one does, or what comes in is not
    finite, and in the sign of zero, they have the plain loop's bits."""
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

"""On the CPU, large outputs are written past the cache. Here small ones are too: the same bits, at every offset in a
line."""

import pytest
import torch
from cases import CASES, gradients, make, outputs, same_bits
from test_layouts import padded

from torch_lif import _C

ALWAYS, NEVER = 0, 2**62


@pytest.fixture(autouse=True)
def default_afterwards():
    yield
    _C.set_stream_from(4 << 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 7), (35, 2, 33), (9, 1, 129)], ids=str)
def test_streaming_changes_nothing(case, shape, dtype, target):
    """Rows shorter than a line, rows that begin anywhere in one (33 and 129 neurons), more than one tile's worth of
    lines."""
    if target == "cuda":
        pytest.skip("the CPU's")
    arguments = make(case, *shape, dtype=dtype, seed=51)
    for options in ({}, {"record": case.records}):
        found = []
        for bound in (NEVER, ALWAYS):
            _C.set_stream_from(bound)
            found.append(gradients(lambda o=options, **a: case.fused(**a, **o), arguments))
        (expected, expected_grads), (got, grads) = found
        for name, value in outputs(got).items():
            assert same_bits(value, outputs(expected)[name]), name
        for name, grad in grads.items():
            assert same_bits(grad, expected_grads[name]), name


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("neurons", [5, 600])
def test_streaming_with_gaps_and_threads(dim, neurons, threads):
    """x in a layout with gaps; tiles of one row written by different threads, which share lines where they meet."""
    case = next(case for case in CASES if case.name == "lif" and case.synapses == 1)
    arguments = make(case, 40, 3, neurons, seed=52)
    x = padded(arguments["x"], dim)
    found = []
    for bound, count in ((NEVER, 1), (ALWAYS, 1), (ALWAYS, 2)):
        _C.set_stream_from(bound)
        threads(count)
        found.append(gradients(case.fused, arguments | {"x": x}))
    for got, grads in found[1:]:
        for name, value in outputs(got).items():
            assert same_bits(value, outputs(found[0][0])[name]), name
        for name, grad in grads.items():
            assert same_bits(grad, found[0][1][name]), name

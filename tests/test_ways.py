"""Which way a call takes on a GPU. Every ordinary call goes through the ring, and the headline calls take the kernels
of the common case: if they did not, other tests would compare the general kernels with themselves."""

import pytest
import torch

import torch_lif as lif
from torch_lif import _C

T, B, N = 40, 2, 128
RING, COMMON, PIECES, MASK = "ring", "common", "pieces", "mask"
FAST = {RING, COMMON, PIECES, MASK}
GENERAL = FAST - {COMMON}

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def x_of(*shape, dtype=torch.float32):
    return torch.rand(*shape, device="cuda", dtype=dtype).requires_grad_()


def lif_of(x, **options):
    return lif.functional.lif(x, **{"decay_mem": 0.9, "surrogate": lif.StepPWL()} | options)


def dense(result):
    return (result.spikes * torch.rand_like(result.spikes)).sum()


def total(result):
    return result.spikes.sum()


def recorded(result):
    return dense(result) + (result.records["v"] * torch.rand_like(result.records["v"])).sum()


WAYS = {
    "x alone": (lambda: lif_of(x_of(B, T, N)), dense, FAST, FAST),
    "a synapse": (lambda: lif_of(x_of(B, T, N), decay_syn=0.8), dense, FAST, FAST),
    "the sum as loss": (lambda: lif_of(x_of(B, T, N)), total, FAST, FAST - {PIECES}),
    "time first": (lambda: lif_of(x_of(T, B, N), batch_first=False), dense, FAST, FAST),
    "an image": (lambda: lif_of(x_of(B, T, 2, 8, 8)), dense, FAST, FAST),
    "N + 1": (lambda: lif_of(x_of(B, T, N + 1)), dense, FAST - {PIECES}, FAST - {PIECES}),
    "10 neurons": (lambda: lif_of(x_of(B, T, 10)), dense, FAST - {PIECES}, FAST - {PIECES}),
    "strided neurons": (lambda: lif_of(x_of(B, N, T).transpose(1, 2)), dense, FAST - {PIECES}, FAST - {PIECES}),
    "the same x in every step": (lambda: lif_of(x_of(B, 1, N).expand(B, T, N)), dense, FAST, FAST),
    "bfloat16": (lambda: lif_of(x_of(B, T, N, dtype=torch.bfloat16)), dense, FAST, FAST),
    "float64": (lambda: lif_of(x_of(B, T, N, dtype=torch.float64)), dense, GENERAL, GENERAL),
    "noise": (lambda: lif_of(x_of(B, T, N), noise=torch.rand(B, T, N, device="cuda")), dense, GENERAL, GENERAL),
    "a record": (lambda: lif_of(x_of(B, T, N), record=("v",)), recorded, GENERAL, GENERAL),
    "another surrogate": (
        lambda: lif_of(x_of(B, T, N), surrogate=lif.ATan()),
        dense,
        {RING, COMMON, PIECES},
        {RING, COMMON, PIECES},
    ),
    "two synapses": (lambda: lif_of(x_of(B, T, 2 * N), decay_syn=0.8, synapses=2), dense, GENERAL, GENERAL),
    "three synapses": (lambda: lif_of(x_of(B, T, 3 * N), decay_syn=0.8, synapses=3), dense, GENERAL, GENERAL),
    "twelve synapses": (lambda: lif_of(x_of(B, T, 12 * N), decay_syn=0.8, synapses=12), dense, {MASK}, {MASK}),
    "recurrence": (lambda: lif_of(x_of(B, T, N), w_rec=torch.zeros(N, N, device="cuda")), dense, set(), set()),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_way_of(name):
    call, loss, forward, backward = WAYS[name]
    result = call()
    assert _C.cuda_way(backward=False) == forward
    loss(result).backward()
    torch.cuda.synchronize()
    assert _C.cuda_way(backward=True) == backward

"""Which way a call takes. On a GPU every ordinary call goes through the ring, on the CPU its steps are taken in blocks,
and the headline calls take what is compiled for the common case: if they did not, other tests would compare the general
kernels with themselves."""

import pytest
import torch

import torch_lif as lif
from torch_lif import _C

T, B, N = 40, 2, 128
RING, COMMON, PIECES, MASK, STAGED = "ring", "common", "pieces", "mask", "staged"
FAST = {RING, COMMON, PIECES, MASK}
GENERAL = FAST - {COMMON}
LAST = {RING, MASK, STAGED}
"""Time last in memory."""

BLOCKS, OPTIONS, BARE = "blocks", "options", "bare"
COMMON_ON_CPU = {BLOCKS, OPTIONS, BARE, MASK}


def x_of(*shape, dtype=torch.float32, device="cuda"):
    return torch.rand(*shape, device=device, dtype=dtype).requires_grad_()


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
    "strided neurons": (lambda: lif_of(x_of(B, N, T).transpose(1, 2)), dense, LAST, LAST - {STAGED}),
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
    "three synapses": (
        lambda: lif_of(x_of(B, T, 3 * N), decay_syn=0.8, synapses=3),
        dense,
        GENERAL,
        GENERAL,
    ),
    "seven synapses": (
        lambda: lif_of(x_of(B, T, 7 * N), decay_syn=0.8, synapses=7),
        dense,
        GENERAL,
        GENERAL | {STAGED},
    ),
    "eight synapses": (lambda: lif_of(x_of(B, T, 8 * N), decay_syn=0.8, synapses=8), dense, GENERAL, GENERAL),
    "a bias": (lambda: lif_of(x_of(B, T, N), bias=torch.full((N,), 0.1, device="cuda")), dense, FAST, FAST),
    "several spikes of ALIF": (
        lambda: lif.functional.alif(
            x_of(B, T, N), decay_mem=0.9, decay_adapt=0.9, max_spikes=4, surrogate=lif.SingleExponential()
        ),
        dense,
        {RING, COMMON, PIECES},
        {RING, COMMON, PIECES},
    ),
    "the input first": (
        lambda: lif.functional.euler_lif(
            x_of(B, T, N),
            rate_mem=0.1,
            rate_syn=0.2,
            synapse_update="input_first",
            reset_gradient=True,
            surrogate=lif.SuperSpike(),
        ),
        dense,
        {RING, COMMON, PIECES},
        {RING, COMMON, PIECES},
    ),
    "twelve synapses": (lambda: lif_of(x_of(B, T, 12 * N), decay_syn=0.8, synapses=12), dense, {MASK}, {MASK}),
    "recurrence": (
        lambda: lif_of(x_of(B, T, N), w_rec=torch.zeros(N, N, device="cuda")),
        dense,
        {"on chip"},
        {"on chip"},
    ),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", WAYS)
def test_the_way_on_a_gpu(name):
    call, loss, forward, backward = WAYS[name]
    result = call()
    assert _C.cuda_way(backward=False) == forward
    loss(result).backward()
    torch.cuda.synchronize()
    assert _C.cuda_way(backward=True) == backward


def cpu(*shape, **options):
    return lif_of(x_of(*shape, dtype=options.pop("dtype", torch.float32), device="cpu"), **options)


CPU_WAYS = {
    "x alone": (lambda: cpu(B, T, N), dense, COMMON_ON_CPU, COMMON_ON_CPU),
    "a synapse": (lambda: cpu(B, T, N, decay_syn=0.8), dense, COMMON_ON_CPU, COMMON_ON_CPU),
    "the sum as loss": (lambda: cpu(B, T, N), total, COMMON_ON_CPU, COMMON_ON_CPU),
    "N + 1": (lambda: cpu(B, T, N + 1), dense, COMMON_ON_CPU, COMMON_ON_CPU),
    "bfloat16": (lambda: cpu(B, T, N, dtype=torch.bfloat16), dense, COMMON_ON_CPU, COMMON_ON_CPU),
    "another surrogate": (
        lambda: cpu(B, T, N, surrogate=lif.ATan()),
        dense,
        COMMON_ON_CPU - {MASK},
        COMMON_ON_CPU - {MASK},
    ),
    "noise": (lambda: cpu(B, T, N, noise=torch.rand(B, T, N)), dense, {BLOCKS, MASK}, {BLOCKS, MASK}),
    "a record": (lambda: cpu(B, T, N, record=("v",)), recorded, COMMON_ON_CPU, {BLOCKS, MASK}),
    "three synapses": (lambda: cpu(B, T, 3 * N, decay_syn=0.8, synapses=3), dense, {BLOCKS, MASK}, {BLOCKS, MASK}),
    "twelve synapses": (lambda: cpu(B, T, 12 * N, decay_syn=0.8, synapses=12), dense, {MASK}, {MASK}),
    "recurrence": (lambda: cpu(B, T, N, w_rec=torch.zeros(N, N)), dense, set(), set()),
}


@pytest.mark.parametrize("name", CPU_WAYS)
def test_the_way_on_a_cpu(name):
    if _C.instruction_set() == "baseline":
        pytest.skip("the common case is not compiled for it")
    call, loss, forward, backward = CPU_WAYS[name]
    result = call()
    assert _C.cpu_way(backward=False) == forward
    loss(result).backward()
    assert _C.cpu_way(backward=True) == backward

"""What the forward keeps for the backward: mask or recompute, chosen by itself or asked for; the same results in
all."""

import pytest
import torch
from cases import CASES, gradients, loss, make, only_sequences, outputs, same_bits

import torch_lif as lif

MASKABLE = [case for case in CASES if case.name == "lif" and not case.recurrent]
WINDOWS = [lif.StepPWL(0.3), lif.Heaviside(0.6)]


def possible(case):
    """The modes that a case can be asked for with gradients of its parameters."""
    return [None] if case.recurrent else ["recompute", None]


def saved_bytes(function):
    """Bytes kept for the backward besides what was given, and the result."""
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = function()
    return kept, result


def is_outline(tensor):
    """Whether all time steps and batch items share the memory of one: what is kept of an input that is not read."""
    return tensor.untyped_storage().nbytes() < tensor.nbytes


def holds(tensors, x):
    """Whether x's memory is among the tensors'."""
    return any(t.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for t in tensors)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_mode_has_the_same_bits(case, dtype, target):
    arguments = make(case, T=75, B=2, neurons=70, dtype=dtype, device=target, seed=21)
    expected, expected_grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
    for memory in possible(case):
        got, grads = gradients(lambda m=memory, **a: case.fused(**a, record=case.records, memory=m), arguments)
        for name, value in outputs(expected).items():
            assert same_bits(outputs(got)[name], value), (memory, name)
        for name, value in expected_grads.items():
            assert same_bits(grads[name], value), (memory, name)


@pytest.mark.parametrize("surrogate", WINDOWS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", MASKABLE, ids=str)
@pytest.mark.parametrize(("steps", "neurons"), [(75, 70), (64, 64), (1, 3), (33, 515), (31, 128)])
def test_the_mask_has_the_same_bits(case, dtype, surrogate, steps, neurons, target):
    arguments = make(case, T=steps, B=2, neurons=neurons, dtype=dtype, device=target, seed=22)

    def run(memory):
        copy, found = only_sequences(arguments)
        result = case.fused(**copy, surrogate=surrogate, record=case.records, memory=memory)
        return result, dict(zip(found, torch.autograd.grad(loss(result), list(found.values())), strict=True))

    expected, expected_grads = run("recompute")
    assert any(bool((g != 0).any()) for g in expected_grads.values())
    for memory in ("mask", None):
        got, grads = run(memory)
        for name, value in outputs(expected).items():
            assert same_bits(outputs(got)[name], value), (memory, name)
        for name, value in expected_grads.items():
            assert same_bits(grads[name], value), (memory, name)


@pytest.mark.parametrize("surrogate", WINDOWS, ids=lambda s: type(s).__name__)
def test_the_mask_is_autograd_through_the_reference(surrogate, device):
    for case in MASKABLE[:3]:
        arguments = make(case, T=45, B=2, neurons=33, dtype=torch.float64, device=device, seed=23)
        grads = []
        for function in (case.fused, case.reference):
            copy, found = only_sequences(arguments)
            result = function(**copy, surrogate=surrogate, record=case.records, memory="mask")
            grads.append(torch.autograd.grad(loss(result), list(found.values())))
        for got, expected in zip(*grads, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "li"], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("steps", "neurons"), [(75, 70), (64, 64), (1, 3), (33, 515), (0, 5)])
def test_a_neuron_that_does_not_spike_needs_nothing(case, dtype, steps, neurons, target):
    arguments = make(case, T=steps, B=2, neurons=neurons, dtype=dtype, device=target, seed=24)

    def run(function, given=arguments, **options):
        copy, found = only_sequences(given)
        result = function(**copy, record=case.records, **options)
        return result, torch.autograd.grad(loss(result), list(found.values()))

    expected, expected_grads = run(case.fused, memory="recompute")
    for memory in ("mask", None):
        got, grads = run(case.fused, memory=memory)
        for name, value in outputs(expected).items():
            assert same_bits(outputs(got)[name], value), (memory, name)
        for grad, value in zip(grads, expected_grads, strict=True):
            assert same_bits(grad, value), memory
    if dtype == torch.float64 and steps > 0:
        for grad, value in zip(run(case.fused)[1], run(case.reference)[1], strict=True):
            torch.testing.assert_close(grad, value, rtol=1e-10, atol=1e-12)


def test_what_is_kept(device):
    """A mask is one bit a neuron and step: for 64 steps two words a neuron; else a state every 16 steps."""
    T, B, N = 64, 3, 40
    x = torch.rand(B, T, N, device=device, requires_grad=True)
    theta = torch.tensor(1.0, device=device, requires_grad=True)

    def kept(**options):
        tensors, _ = saved_bytes(
            lambda: lif.functional.lif(x, decay_mem=0.9, decay_syn=0.8, **{"surrogate": lif.StepPWL()} | options)
        )
        assert holds(tensors, x) == (options.get("memory") != "mask" and bool(options))
        own = [t for t in tensors if t.dim() >= 3 and not is_outline(t) and not holds([t], x)]
        return [(tuple(t.shape), t.dtype) for t in own]

    assert kept() == kept(memory="mask") == [((2, B, N), torch.int32)]
    states = [((4, B, N), torch.float32)] * 2
    assert kept(memory="recompute") == kept(threshold=theta) == kept(surrogate=lif.ATan()) == states


def test_nothing_is_kept_of_a_neuron_that_does_not_spike(device):
    x = torch.rand(3, 64, 40, device=device, requires_grad=True)
    rate = torch.tensor(0.1, device=device, requires_grad=True)

    def kept(**options):
        tensors, _ = saved_bytes(lambda: lif.functional.li(x, **{"rate_mem": 0.2, "rate_syn": 0.1} | options))
        assert holds(tensors, x) == (options.get("memory") != "mask" and bool(options))
        return sum(t.nbytes for t in tensors if t.dim() >= 3 and not is_outline(t) and not holds([t], x))

    assert kept() == kept(memory="mask") == 0
    assert kept(rate_mem=rate) == kept(memory="recompute") == 2 * 4 * 3 * 4 * 40
    with pytest.raises(ValueError, match="memory is 'mask', but a parameter requires a gradient"):
        kept(rate_mem=rate, memory="mask")


def test_channels_last(device):
    """The mask is walked in x's memory order, and its words belong to the same neurons in the backward."""
    x = (
        torch.rand(2, 40, 3, 4, 5, device=device)
        .permute(0, 1, 3, 4, 2)
        .contiguous()
        .permute(0, 1, 4, 2, 3)
        .requires_grad_()
    )
    grads = []
    for memory in ("mask", "recompute"):
        spikes = lif.functional.lif(x, decay_mem=0.9, memory=memory, surrogate=lif.StepPWL()).spikes
        weight = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(3)).to(device)
        grads.append(torch.autograd.grad((spikes * weight).sum(), x)[0])
    assert torch.equal(*grads)


def retained(network, x):
    """Bytes that a forward keeps for its backward, each memory once, without parameters, input and output."""
    storages = {}
    known = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers(), x)}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = network(x)
    return sum(size for at, size in storages.items() if at != out.untyped_storage().data_ptr())


def test_what_four_layers_keep(device):
    """Linear and LIF layers in turn: with the mask the spikes, which the next Linear needs, and a bit per neuron and
    step; what the Linear has put out is freed in the forward. In recompute mode that is kept, and every 16th state."""
    T, B, N = 64, 4, 128
    x = torch.rand(B, T, N, device=device)

    def network(surrogate):
        pairs = [(torch.nn.Linear(N, N), lif.LIF(N, surrogate=surrogate)) for _ in range(4)]
        return torch.nn.Sequential(*(layer for pair in pairs for layer in pair)).to(device)

    sequence, outline, small = 4 * B * T * N, 4 * N, 64
    masked = 3 * sequence + 4 * (sequence // 32 + outline)
    assert masked <= retained(network(lif.StepPWL()), x) <= masked + 4 * small
    replayed = 3 * sequence + 4 * (sequence + sequence // 16)
    assert replayed <= retained(network(lif.SuperSpike()), x) <= replayed + 4 * small


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_of_four_layers():
    """A training step holds, besides parameters: what `retained` counts, and in the backward a handful of sequences."""
    T, B, N = 256, 16, 1024
    sequence = 4 * B * T * N
    peaks = []
    for surrogate in (lif.StepPWL(), lif.SuperSpike()):
        pairs = [(torch.nn.Linear(N, N, bias=False), lif.LIF(N, surrogate=surrogate)) for _ in range(4)]
        network = torch.nn.Sequential(*(layer for pair in pairs for layer in pair)).cuda()
        x = torch.rand(B, T, N, device="cuda")
        for _ in range(2):
            network(x).mean(1).square().sum().backward()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        network(x).mean(1).square().sum().backward()
        peaks.append((torch.cuda.max_memory_allocated() - before) / sequence)
    assert peaks[0] < 7.5 < peaks[1] < 11.5, peaks


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("memory is 'all', expected 'mask', 'recompute' or None", {"memory": "all"}),
        (
            "memory is 'mask', but a parameter requires a gradient",
            {"memory": "mask", "threshold": torch.ones((), requires_grad=True)},
        ),
        ("memory is 'mask', but the surrogate ATan is no window", {"memory": "mask", "surrogate": lif.ATan()}),
        ("memory is 'mask', but smooth=True has no spikes", {"memory": "mask", "smooth": True}),
        ("memory is 'mask', but w_rec's gradient needs the spikes", {"memory": "mask", "w_rec": torch.zeros(3, 3)}),
        (
            "memory is 'recompute', but with w_rec steps cannot be replayed",
            {"memory": "recompute", "w_rec": torch.zeros(3, 3)},
        ),
    ],
)
def test_a_mode_that_cannot_be_had(message, options):
    x = torch.rand(2, 5, 3, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        lif.functional.lif(x, decay_mem=0.9, **options)


def test_a_neuron_without_a_mask():
    x = torch.rand(2, 5, 3, requires_grad=True)
    with pytest.raises(ValueError, match="memory is 'mask', but this neuron's backward needs its states"):
        lif.functional.alif(x, decay_mem=0.9, decay_adapt=0.9, surrogate=lif.StepPWL(), memory="mask")

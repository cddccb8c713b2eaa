"""Every layout that strides can say, time first or second, trailing shapes, state carried over calls, large tensors."""

import pytest
import torch
from cases import CASES, assert_same_bits, gradients, leaves, loss, make, outputs, relative_error
from torch import Tensor

import torch_lif as lif

ONE_AXIS = [case for case in CASES if case.synapses < 2]  # these take any trailing shape


def autograd(total: Tensor, found: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Gradients of all that was found; zero where there is no path, as to a count of refractory steps."""
    return torch.autograd.grad(total, list(found.values()), allow_unused=True, materialize_grads=True)


def same_as_contiguous(case, arguments, views):
    """The call on views of the same values gives the same bits, gradients included."""
    result, grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
    for name, view in views.items():
        assert torch.equal(view, arguments[name]), "not a view of the same values"
    copy, found = leaves(arguments)
    for name, view in views.items():
        copy[name] = found[name] = view.detach().requires_grad_()
    got = case.fused(**copy, record=case.records)
    assert_same_bits(got, result)
    for name, grad in zip(found, autograd(loss(got), found), strict=True):
        if name in case.summed:
            assert relative_error(grad, grads[name]) <= 1e-6, name  # a sum over the neurons in another order
        else:
            assert torch.equal(grad, grads[name]), name
        assert grad.shape == grads[name].shape


def padded(t: Tensor, dim: int) -> Tensor:
    """The same values with a gap behind each index of `dim`, and an offset into the storage."""
    sizes = list(t.shape)
    sizes[dim] = 2 * sizes[dim] + 1
    memory = torch.full(sizes, float("nan"), dtype=t.dtype, device=t.device)
    view = memory.narrow(dim, 1, 2 * t.shape[dim]).unflatten(dim, (t.shape[dim], 2)).select(dim + 1, 0)
    view.copy_(t)
    return view


def in_memory_order(t: Tensor, order: list[int]) -> Tensor:
    """The same values and shape, with dimensions in this order in memory, outermost first."""
    inverse = [order.index(d) for d in range(t.dim())]
    return t.permute(order).contiguous().permute(inverse)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gaps(case, dim, device):
    arguments = make(case, T=21, B=3, neurons=19, device=device, seed=1)
    same_as_contiguous(case, arguments, {name: padded(arguments[name], dim) for name in ("x", *case.inputs)})


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [0, 2, 1], [2, 0, 1]])
def test_memory_orders(case, order, device):
    arguments = make(case, T=21, B=3, neurons=19, device=device, seed=2)
    same_as_contiguous(case, arguments, {name: in_memory_order(arguments[name], order) for name in ("x", *case.inputs)})


@pytest.mark.parametrize("case", ONE_AXIS, ids=str)
@pytest.mark.parametrize(
    "order", [[0, 1, 2, 3, 4], [0, 1, 3, 4, 2], [1, 0, 3, 4, 2], [2, 0, 1, 3, 4], [0, 3, 1, 4, 2], [0, 1, 4, 3, 2]]
)
def test_channels_last_and_worse(case, order, device):
    """Trailing dimensions in any order in memory; where one stride cannot say it the result is the same by way of a
    copy."""
    arguments = make(case, T=9, B=2, neurons=(3, 4, 5), device=device, seed=3)
    same_as_contiguous(case, arguments, {"x": in_memory_order(arguments["x"], order)})


@pytest.mark.parametrize("case", ONE_AXIS, ids=str)
def test_channels_last_is_kept(case, device):
    arguments = make(case, T=9, B=2, neurons=(3, 4, 5), device=device, seed=3)
    x = in_memory_order(arguments["x"], [0, 1, 3, 4, 2]).requires_grad_()
    out = case.fused(**arguments | {"x": x})[0]
    assert out.stride() == x.stride()
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.stride() == x.stride()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("order", [[0, 2, 1], [2, 0, 1]])
def test_time_last_with_many_neurons(case, order, device):
    """More neurons than a block of a GPU has, and steps beyond its last whole chunk."""
    arguments = make(case, T=53, B=2, neurons=150, device=device, seed=1)
    same_as_contiguous(case, arguments, {"x": in_memory_order(arguments["x"], order)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("synapses", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("memory", ["mask", "recompute"])
def test_memory_orders_in_every_dtype(synapses, dtype, memory, device):
    """The same with records of every synapse and a gradient as strided as x."""
    B, T, N = 2, 53, 150
    torch.manual_seed(synapses)
    x = torch.rand(B, T, N * synapses, device=device).to(dtype)
    decay = torch.linspace(0.6, 0.9, synapses, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    weights = [torch.rand(B, T, n, device=device).to(dtype) for n in (N, N * synapses)]

    def run(order):
        x_of, spikes_of, i_of = (in_memory_order(t, order) for t in (x, *weights))
        i_of = i_of.unflatten(2, (N, synapses)) if synapses > 1 else i_of
        x_of = x_of.detach().requires_grad_()
        out = lif.functional.lif(
            x_of,
            decay_mem=0.9,
            decay_syn=decay.reshape((1, synapses) if synapses > 1 else ()).to(device),
            synapses=synapses,
            threshold=float(synapses),
            surrogate=lif.StepPWL(),
            memory=memory,
            record=("i",),
        )
        seen = (out.spikes, out.records["i"])
        return *seen, *torch.autograd.grad(seen, x_of, (spikes_of, i_of))

    wanted = run([0, 1, 2])
    assert wanted[0].sum() > 0
    for order in ([0, 2, 1], [2, 0, 1], [1, 0, 2]):
        for got, want in zip(run(order), wanted, strict=True):
            assert torch.equal(got, want), order


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broadcast_input(case, device):
    """One item expanded to a batch: stride 0 is read as it is, and its gradient has the batch's full shape."""
    arguments = make(case, T=11, B=4, neurons=7, device=device, seed=4)
    arguments["x"] = arguments["x"][:1].expand(4, -1, -1).clone()
    same_as_contiguous(case, arguments, {"x": arguments["x"][:1].clone().expand(4, -1, -1)})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_time_first_is_batch_first(case, device):
    arguments = make(case, T=23, B=3, neurons=11, device=device, seed=5)
    first = case.fused(**arguments, record=case.records)
    sequences = {name: arguments[name].transpose(0, 1).contiguous() for name in ("x", *case.inputs)}
    second = case.fused(**arguments | sequences | {"batch_first": False}, record=case.records)
    for name, value in outputs(second).items():
        expected = outputs(first)[name]
        assert torch.equal(value, expected if name.startswith("last") else expected.transpose(0, 1)), name


@pytest.mark.parametrize("case", ONE_AXIS, ids=str)
@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (1, 2, 1, 3)])
def test_trailing_shapes(case, shape, device):
    arguments = make(case, T=12, B=2, neurons=shape, dtype=torch.float64, device=device, seed=6)
    result, grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
    expected, expected_grads = gradients(lambda **a: case.reference(**a, record=case.records), arguments)
    assert_same_bits(result, expected)
    assert result[0].shape == (2, 12, *shape)
    for name, grad in grads.items():
        assert grad.shape == expected_grads[name].shape
        assert relative_error(grad, expected_grads[name]) <= 1e-10, name


@pytest.mark.parametrize("case", ONE_AXIS, ids=str)
def test_parameters_shared_along_a_dimension(case, device):
    """A parameter a channel, (C, 1, 1); its gradient is summed over the rest, in x's memory order or another."""
    arguments = make(case, T=12, B=2, neurons=(3, 2, 5), dtype=torch.float64, device=device, seed=7)
    for name in case.params:
        arguments[name] = arguments[name][:, :1, :1].clone()
    for order in ([0, 1, 2, 3, 4], [0, 1, 3, 4, 2]):
        arguments["x"] = in_memory_order(arguments["x"], order)
        result, grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
        expected, expected_grads = gradients(lambda **a: case.reference(**a, record=case.records), arguments)
        assert_same_bits(result, expected)
        for name, grad in grads.items():
            assert grad.shape == expected_grads[name].shape
            assert relative_error(grad, expected_grads[name]) <= 1e-10, name


@pytest.mark.parametrize(
    ("shape", "name"), [((1, 2), "decay_syn"), ((5, 1), "decay_syn"), ((1, 1), "decay_syn"), ((1,), "threshold")]
)
def test_parameters_shared_by_neurons_or_synapses(shape, name, device):
    case = next(case for case in CASES if case.synapses == 2)
    arguments = make(case, T=12, B=2, neurons=5, dtype=torch.float64, device=device, seed=8)
    arguments[name] = (
        torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device) + 0.1
    )
    _, grads = gradients(case.fused, arguments)
    _, expected = gradients(case.reference, arguments)
    assert relative_error(grads[name], expected[name]) <= 1e-10


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("splits", [(1, 31), (16, 16), (7, 0, 9, 16), (5, 20, 7)])
def test_split_time_is_one_call(case, splits, device):
    """Calls that carry the state give the bits of one call, forward and backward."""
    arguments = make(case, T=32, B=2, neurons=21, device=device, seed=9)
    whole, found = leaves(arguments)
    expected = case.fused(**whole, record=case.records)
    total = loss(expected)
    expected_grads = autograd(total, found)

    parts, found = leaves(arguments)
    state, pieces, start = parts.pop("state"), [], 0
    for steps in splits:
        piece = {name: parts[name].narrow(1, start, steps) for name in ("x", *case.inputs)}
        pieces.append(case.fused(**parts | piece, state=state, record=case.records))
        state, start = pieces[-1].state, start + steps
    joined = type(expected)(
        torch.cat([piece[0] for piece in pieces], 1),
        state,
        {name: torch.cat([piece.records[name] for piece in pieces], 1) for name in case.records},
    )
    assert_same_bits(joined, expected)
    for name, got, wanted in zip(found, autograd(loss(joined), found), expected_grads, strict=True):
        if name in case.summed:
            assert relative_error(got, wanted) <= 1e-5, name  # the same terms summed in another order
        else:
            assert torch.equal(got, wanted), name


def free_memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def test_more_than_2_31_elements(device):
    """Offsets are 64-bit: the last neuron of the last batch item, beyond element 2^31, is computed and has its
    gradient."""
    n, steps = 2**15, 2**10
    batch = 2**31 // (n * steps) + 1
    elements = batch * n * steps
    needed = 4 * 2 * elements  # x and its gradient, output and its gradient in bfloat16
    if free_memory(device) < 1.3 * needed:
        pytest.skip(f"needs {1.3 * needed / 2**30:.0f} GiB of free memory")
    if device == "cpu":
        pytest.skip("would take minutes on a CPU; the offsets are the same 64-bit arithmetic as on the GPU")
    x = torch.zeros(batch, steps, n, dtype=torch.bfloat16, device=device)
    x[-1, :, -1] = 0.5
    x[0, :, 0] = 0.25
    x.requires_grad_()
    result = lif.functional.lif(x, decay_mem=1.0, surrogate=lif.StepPWL())
    assert result.spikes[-1, :, -1].sum() == steps // 2
    assert result.spikes[0, :, 0].sum() == steps // 4
    assert result.state.v.abs().sum() == 0
    (grad,) = torch.autograd.grad(result.state.v[-1, -1] + result.state.v[0, 1], x)
    assert grad[-1, -1, -1] == 0  # the window was open at the last step: the reset cuts the past
    assert torch.equal(grad[0, :, 1], torch.ones_like(grad[0, :, 1]))

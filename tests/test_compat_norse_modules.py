"""torch_lif.compat.norse's cells and layers: against its functions, step by step, and against plain loops of norse's
equations."""

import copy
import math

import pytest
import torch
from norse_loop import DT, STATE, B, N, T, X, assert_spikes, draw, eager, kinds, sequence, state_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torch_lif as lif
from torch_lif.compat import norse


@kinds
def test_cells_and_layers(spiking):
    x, _, _, p = draw(spiking)
    cell, layer, recorder = (norse.LIFCell, norse.LIF, norse.LIF) if spiking else (norse.LICell, norse.LI, norse.LI)
    cell, layer, recorder = cell(p, dt=DT), layer(p, dt=DT), recorder(p, DT, record_states=True)
    out, last = layer(x)
    recorded, states = recorder(x)
    assert torch.equal(recorded, out)
    state = None
    for t in range(T):
        out_t, state = cell(x[t], state)
        assert torch.equal(out_t, out[t])
        assert type(state) is type(last) is type(states)
        for a, b in zip(state, states, strict=True):
            assert torch.equal(a, b[t])
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))
    assert layer.state_dict() == {}
    assert f"p={p}, dt={DT}" in repr(layer)
    assert torch.equal(copy.deepcopy(layer)(x)[0], out)


def test_layers_make_tensors_of_numbers():
    """As norse's LIF layers: the rate is then a product in float32, which rounds otherwise."""
    number = 120.0
    assert DT * torch.tensor(number) != torch.tensor(DT * number), (
        "rounding late or early would be the same, and prove nothing"
    )
    x, _, _, _ = draw(True)
    for kind in (norse.LIF, lambda p: norse.LIFRecurrent(N, N, p, torch.eye(N), torch.zeros(N, N))):
        out, state = kind(norse.LIFParameters(tau_mem_inv=number, v_th=0.6))(x)
        expected, last = kind(norse.LIFParameters(tau_mem_inv=torch.tensor(number), v_th=torch.tensor(0.6)))(x)
        assert torch.equal(out, expected)
        assert torch.equal(state.v, last.v)


def test_linear_cell():
    torch.manual_seed(5)
    cell = norse.LILinearCell(4, N)
    torch.manual_seed(5)
    assert torch.equal(cell.input_weights, torch.randn(N, 4) / 2)
    assert list(cell.state_dict()) == ["input_weights"]
    x = torch.rand(B, 4)
    out, state = cell(x)
    assert torch.equal(out, norse.LICell()(nn.functional.linear(x, cell.input_weights))[0])
    out, _ = cell(x, state)
    out.sum().backward()
    assert cell.input_weights.grad is not None


@pytest.mark.parametrize("autapses", [False, True])
def test_recurrent_cell_and_layer(autapses):
    torch.manual_seed(6)
    layer = norse.LIFRecurrent(4, N, autapses=autapses, record_states=True)
    torch.manual_seed(6)
    w_in, w_rec = torch.randn(N, 4) * math.sqrt(2 / N), torch.randn(N, N) * math.sqrt(2 / N)
    if not autapses:
        w_rec.fill_diagonal_(0)
    torch.testing.assert_close(layer.input_weights.detach(), w_in)
    torch.testing.assert_close(layer.recurrent_weights.detach(), w_rec)
    cell = norse.LIFRecurrentCell(4, N, autapses=autapses)
    cell.load_state_dict(
        {"input_weights": layer.input_weights.detach(), "recurrent_weights": layer.recurrent_weights.detach()}
    )
    x = torch.rand(T, B, 4) * 6
    out, states = layer(x)
    assert_spikes(out)
    state = None
    for t in range(T):
        out_t, state = cell(x[t], state)
        assert torch.equal(out_t, out[t])
        for a, b in zip(state, states, strict=True):
            torch.testing.assert_close(a, b[t], rtol=1e-5, atol=1e-5)  # a matrix product of one step and of all
    out.sum().backward()
    own = layer.recurrent_weights.grad.diagonal()
    assert bool((own != 0).any()) == autapses
    assert bool((layer.recurrent_weights.grad != 0).any())


@kinds
@pytest.mark.parametrize("place", ["(1, N)", "(B, N)", "many", "parameters that train"])
def test_every_way_of_a_step_has_the_sequences_bits(spiking, place):
    """A step may run in the kernel or in PyTorch, with constants or with a graph to the parameters."""
    steps = {"(1, N)": (1, N), "many": (130, 64)}.get(place, (B, N))
    x, v, i, _ = draw(spiking, steps=steps)
    _, _, _, p = draw(spiking, shape=())
    if place == "parameters that train":
        p = p._replace(tau_mem_inv=nn.Parameter(p.tau_mem_inv))
    cell = (norse.LIFCell if spiking else norse.LICell)(p)
    expected, last = sequence(spiking)(x, state_of(spiking, v, i), p)
    for graph in (False, True):
        state = state_of(spiking, v, i)
        with torch.set_grad_enabled(graph):
            for t in range(T):
                before = [s.clone() for s in state]
                passed, (out, state) = state, cell(x[t], state)
                assert torch.equal(out, expected[t])
                assert all(map(torch.equal, passed, before)), "a step has written into the state that it was given"
        assert all(map(torch.equal, state, last))


@kinds
def test_a_step_sees_every_change_of_a_parameter(spiking):
    """Also one that leaves no trace in the tensor's version."""
    _, _, _, p = draw(spiking, shape=())
    cell = (norse.LIFCell if spiking else norse.LICell)(p)
    x, state = X[0], STATE
    before, _ = cell(x, state)
    p.v_leak.data.add_(1000.0)
    p.tau_mem_inv.data.mul_(0.5)
    expected = eager(x[None], *state, p, spiking)[0][0]
    assert torch.equal(cell(x, state)[0], expected)
    assert not torch.equal(before, expected)
    p.v_leak.data.fill_(0.0)
    positive, _ = cell(x * 0, type(state)(*(s * 0 for s in state)))
    p.v_leak.data.fill_(-0.0)
    negative, _ = cell(x * 0, type(state)(*(s * 0 for s in state)))
    assert torch.equal(positive, negative)


def test_a_step_in_inference_mode_does_not_spoil_training():
    cell = norse.LIFCell(norse.LIFParameters(tau_mem_inv=torch.tensor(77.25)))
    with torch.inference_mode():
        cell(X[0])
    x = X[0].clone().requires_grad_()
    cell(x)[1].v.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("autapses", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_recurrent_step_is_norses_to_the_bit(autapses, dtype):
    """One product each for input and spikes, in norse's order: there is nothing that could round otherwise."""
    cell = norse.LIFRecurrentCell(4, N, autapses=autapses).to(dtype)
    with torch.no_grad():
        cell.recurrent_weights += torch.eye(N)  # without autapses they are not used
    weights = cell.recurrent_weights.detach().clone()
    if not autapses:
        weights.fill_diagonal_(0.0)
    x, state = (torch.rand(T, B, 4) * 6).to(dtype), None
    z = v = i = torch.zeros(B, N, dtype=dtype)
    for x_t in x:
        out, state = cell(x_t, state)
        if dtype == torch.bfloat16:
            assert (out.dtype, state.v.dtype) == (torch.bfloat16, torch.float32)
            continue
        p = norse.LIFParameters()
        (z, v, i) = (
            s[-1] for s in eager(nn.functional.linear(x_t, cell.input_weights)[None], v, i, p, True, z, weights)
        )
        assert all(map(torch.equal, (out, *state), (z, z, v, i)))
    assert_spikes(out.float())


def test_weights_that_change_between_steps():
    """A diagonal written in any way is not used, and every other weight is."""
    cell, plain = norse.LIFRecurrentCell(4, N), norse.LIFRecurrentCell(4, N)
    plain.load_state_dict(cell.state_dict())
    x, ones = torch.rand(B, 4), norse.LIFState(torch.ones(B, N), torch.zeros(B, N), torch.zeros(B, N))
    for graph in (False, True):
        with torch.set_grad_enabled(graph):
            cell(x, ones)
            cell.recurrent_weights.data.fill_(0.25)
            plain.recurrent_weights.data.fill_(0.25).fill_diagonal_(0.0)
            assert torch.equal(cell(x, ones)[1].i, plain(x, ones)[1].i)
            cell.recurrent_weights.data.fill_diagonal_(torch.nan)
            assert torch.equal(cell(x, ones)[1].i, plain(x, ones)[1].i)
            cell.recurrent_weights.data[0, 1] = torch.nan
            assert cell(x, ones)[1].i[:, 0].isnan().all()
            assert not cell(x, ones)[1].i[:, 1:].isnan().any()
            quiet = ones._replace(z=ones.z * 0)
            assert cell(x, quiet)[1].i[:, 0].isnan().all(), "0 * NaN is NaN, as in the plain loop"
            cell.recurrent_weights.data.zero_()
            plain.recurrent_weights.data.zero_()


@pytest.mark.parametrize("loaded", [False, True])
def test_no_gradient_to_the_diagonal(loaded):
    """Neither through one step nor through many, in a copy of the cell too."""
    cell = copy.deepcopy(norse.LIFRecurrentCell(4, N))
    if loaded:
        cell.recurrent_weights.data.fill_diagonal_(0.5)
    grads = []
    for weights in (cell.recurrent_weights, None):
        x, state = torch.rand(20, B, 4, generator=torch.Generator().manual_seed(3)) * 6, None
        if weights is None:
            weights = cell.recurrent_weights.detach().clone().fill_diagonal_(0.0).requires_grad_()
        for x_t in x:
            if weights is cell.recurrent_weights:
                _, state = cell(x_t, state)
            else:
                state = state or norse.LIFState(*[torch.zeros(B, N)] * 3)
                _, state = norse.lif_step(x_t, state, cell.input_weights, weights)
        grads.append(torch.autograd.grad(state.v.sum(), weights)[0])
    own, every = grads
    assert not own.diagonal().any()
    assert every.diagonal().any()
    assert torch.equal(own, every.clone().fill_diagonal_(0.0))


def test_no_autapse_comes_back_by_a_state_dict():
    layer = norse.LIFRecurrent(4, N)
    clean = norse.LIFRecurrent(4, N)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    clean.load_state_dict(weights)
    layer.load_state_dict({**weights, "recurrent_weights": weights["recurrent_weights"] + torch.eye(N)})
    x = torch.rand(T, B, 4) * 6
    assert torch.equal(layer(x)[0], clean(x)[0])


def test_given_weights():
    w_in, w_rec = torch.rand(N, 4), nn.Parameter(torch.rand(N, N))
    layer = norse.LIFRecurrentCell(4, N, input_weights=w_in, recurrent_weights=w_rec, autapses=True)
    assert torch.equal(layer.input_weights, w_in)
    assert layer.input_weights.data_ptr() != w_in.data_ptr()
    assert layer.recurrent_weights is w_rec
    with pytest.raises(ValueError, match=r"input_weights has shape \(4, 6\), expected \(6, 4\)"):
        norse.LIFRecurrentCell(4, N, input_weights=w_in.t())


# --- parameters that are constants ---


@pytest.mark.parametrize("write", ["fill_", "data", "numpy"])
@pytest.mark.parametrize("kind", [norse.LIF, norse.LI, norse.LIFRecurrent, norse.LIFCell, norse.LICell])
def test_a_value_written_into_a_parameter_counts_from_the_next_call(kind, write):
    """Constants are looked up by their value, whatever way it was written."""
    spiking = kind not in (norse.LI, norse.LICell)
    p = (norse.LIFParameters if spiking else norse.LIParameters)(
        tau_mem_inv=torch.tensor(90.0), v_leak=torch.tensor(0.0)
    )
    sizes = (4, N) if kind is norse.LIFRecurrent else ()
    layer, x = kind(*sizes, p), torch.rand(T, B, 4 if sizes else N) * 6
    x = x[0] if kind in (norse.LIFCell, norse.LICell) else x
    before, _ = layer(x)
    for name, value in (("v_leak", 0.3), ("tau_mem_inv", 140.0)):
        tensor = getattr(layer.p, name)
        if write == "fill_":
            tensor.fill_(value)
        elif write == "data":
            tensor.data[...] = value
        else:
            tensor.numpy()[...] = value
    expected_layer = copy.deepcopy(layer)
    expected_layer.p = p._replace(v_leak=torch.tensor([0.3]), tau_mem_inv=torch.tensor([140.0]))  # no constants
    after, state = layer(x)
    expected, last = expected_layer(x)
    assert torch.equal(after, expected)
    assert torch.equal(state.v, last.v)
    assert not torch.equal(state.v, before)


@pytest.mark.parametrize("leak", [0.0, -0.0, 0.2, -0.2])
@pytest.mark.parametrize("rows", [(2, 3), (1, 3), (2, 64), (2, 4, 16), (5,), (2, 0)])
@kinds
def test_constants_are_what_tensors_with_dimensions_are(spiking, leak, rows):
    """The two ways of a layer: items as the kernel's batch, and as one item. Both with all of norse's layouts."""
    layer = norse.LIF if spiking else norse.LI
    make = norse.LIFParameters if spiking else norse.LIParameters
    x = (torch.rand(T, *rows) * 6).requires_grad_()
    found = []
    for shape in ((), (1,)):
        p = make(v_leak=torch.full(shape, leak), tau_mem_inv=torch.full(shape, 130.0))
        for record_states in (False, True):
            x.grad = None
            out, state = layer(p, record_states=record_states)(x)
            out, again = layer(p)(out, None if record_states else state)
            (out.sum() + again.i.sum()).backward()
            found.append((out, *state, *again, x.grad))
    for one, other in zip(found[:2], found[2:], strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.shape == b.shape
            assert torch.equal(a, b)
            assert torch.equal(torch.signbit(a), torch.signbit(b))


def test_constants_outlive_the_modes_in_which_they_were_made():
    """Not those of inference mode, nor fake ones, nor those of a transform, which a later call could not use."""
    p = norse.LIParameters(v_leak=torch.tensor(0.123456))
    with torch.inference_mode():
        norse.li(torch.rand(T, B, N), p=p)
    with FakeTensorMode():
        lif.functional.lif(torch.rand(B, T, N), decay_mem=0.87654)
    torch.func.functionalize(lambda x: x * lif._call.constants(x, 0.87654)[0])(torch.rand(2))
    x = torch.rand(T, B, N, requires_grad=True)
    norse.li(x, p=p)[0].sum().backward()
    assert x.grad.any()
    lif.functional.lif(x, decay_mem=0.87654).spikes.sum().backward()

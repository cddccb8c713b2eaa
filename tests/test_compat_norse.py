"""torch_lif.compat.norse against plain loops written from norse's equations; tests/peers/test_norse.py compares with norse."""

import copy
import inspect
import io
import math

import numpy
import pytest
import torch
from torch import nn

from torch_lif.compat import norse

T, B, N = 40, 3, 6
DT = 1e-3
LI_FIELDS = ("tau_syn_inv", "tau_mem_inv", "v_leak")
LIF_FIELDS = (*LI_FIELDS, "v_th", "v_reset")
SLOPES = {
    "super": lambda d, a: 1 / (d.abs() + 1) ** 2,  # without alpha, as norse computes it
    "triangle": lambda d, a: a * torch.relu(1 - d.abs()),
    "heavi_erfc": lambda d, a: 2 * torch.exp(-((a * d) ** 2)) / math.sqrt(math.pi),
    "heaviside": lambda d, a: torch.zeros_like(d),
}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, slope):
        ctx.save_for_backward(distance)
        ctx.slope = slope
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, g):
        (distance,) = ctx.saved_tensors
        return g * ctx.slope(distance), None


def eager(x, v, i, p, spiking, z=None, w_rec=None):
    """norse's equations a step at a time: x[t] has gone through input weights already. Returns outputs, v and i of each step."""
    outputs, membrane, current = [], [], []
    for x_t in x:
        j = i + x_t
        if w_rec is not None:
            j = j + torch.nn.functional.linear(z, w_rec)
        v = v + DT * p.tau_mem_inv * ((p.v_leak - v) + j)
        i = j + -DT * p.tau_syn_inv * j
        out = v
        if spiking:
            out = z = Spike.apply(v - p.v_th, lambda d: SLOPES[p.method](d, float(p.alpha)))
            gate = z if w_rec is None else z.detach()
            v = (1 - gate) * v + gate * p.v_reset
        for trace, value in zip((outputs, membrane, current), (out, v, i), strict=True):
            trace.append(value)
    return tuple(map(torch.stack, (outputs, membrane, current)))


def uniform(generator, size, low, high, dtype, device):
    return (torch.rand(size, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype).to(device)


def draw(spiking, dtype=torch.float32, shape=(N,), steps=(B, N), device="cpu", seed=0, **fields):
    """Input, initial v and i, parameters of this shape."""
    g = torch.Generator().manual_seed(seed)
    x = uniform(g, (T, *steps), -0.3, 1.2, dtype, device)
    v, i = (uniform(g, steps, -0.5, 0.5, dtype, device) for _ in "vi")
    ranges = {"tau_syn_inv": (50, 400), "tau_mem_inv": (50, 300), "v_leak": (-0.2, 0.2), "v_th": (0.4, 0.8), "v_reset": (-0.3, 0.1)}
    kind, names = (norse.LIFParameters, LIF_FIELDS) if spiking else (norse.LIParameters, LI_FIELDS)
    return x, v, i, kind(**{name: uniform(g, shape, *ranges[name], dtype, device) for name in names}, **fields)


def state_of(spiking, v, i):
    return (norse.LIFFeedForwardState if spiking else norse.LIState)(v, i)


def sequence(spiking):
    return norse.lif if spiking else norse.li


def step(spiking):
    return norse.lif_feed_forward_step if spiking else norse.li_feed_forward_step


kinds = pytest.mark.parametrize("spiking", [False, True], ids=["li", "lif"])
# A step's shape, and shapes of parameters that broadcast to it.
SHAPES = [
    ((B, N), ()),
    ((B, N), (1,)),
    ((B, N), (N,)),
    ((B, N), (B, 1)),
    ((N,), (N,)),
    ((), ()),
    ((B, 2, N, 3), (N, 1)),
    ((B, N), (B, N)),
]
shapes = pytest.mark.parametrize(("steps", "shape"), SHAPES, ids=str)


def assert_spikes(out):
    assert 0.02 < float(out.detach().mean()) < 0.9, "hardly a spike, or nothing but: this would prove nothing"


@kinds
@dtypes
@shapes
def test_the_plain_loops_bits(spiking, dtype, steps, shape, device):
    x, v, i, p = draw(spiking, dtype, shape, steps, device)
    expected = eager(x, v, i, p, spiking)
    out, last = sequence(spiking)(x, state_of(spiking, v, i), p)
    assert type(last) is type(state_of(spiking, v, i))
    for a, b in zip((out, *last), (expected[0], expected[1][-1], expected[2][-1]), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)
    if spiking:
        assert_spikes(out)
    state = state_of(spiking, v, i)
    for t in range(T):
        out_t, state = step(spiking)(x[t], state, p)
        for a, b in zip((out_t, *state), expected, strict=True):
            assert torch.equal(a, b[t])


@shapes
@pytest.mark.parametrize(("spiking", "method"), [(False, "none"), *((True, method) for method in SLOPES)], ids=str)
def test_the_plain_loops_gradients(spiking, steps, shape, method, device):
    """To input, initial state and every parameter, from outputs and the last state."""
    fields = {"method": method, "alpha": 5.0 if method == "super" else 0.7} if spiking else {}
    results = []
    for ours in (False, True):
        x, v, i, p = draw(spiking, torch.float64, shape, steps, device, seed=1, **fields)
        names = LIF_FIELDS if spiking else LI_FIELDS
        leaves = {"x": x, "v": v, "i": i, **{name: getattr(p, name) for name in names}}
        for leaf in leaves.values():
            leaf.requires_grad_()
        if ours:
            out, state = sequence(spiking)(x, state_of(spiking, v, i), p)
        else:
            out, *traces = eager(x, v, i, p, spiking)
            state = [trace[-1] for trace in traces]
        generator = torch.Generator().manual_seed(2)
        weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(device) for o in (out, *state)]
        total = sum((o * w).sum() for o, w in zip((out, *state), weights, strict=True))
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
        results.append(dict(zip(leaves, grads, strict=True)))
    expected, got = results
    for name, grad in expected.items():
        assert got[name].shape == grad.shape
        # Both are sums of the same terms in float64, in another order: 1e-10 is far above their rounding.
        torch.testing.assert_close(got[name], grad, rtol=1e-10, atol=1e-10 * float(grad.abs().max()), msg=name)
        # Without a surrogate gradient, and after the reset, few paths are left.
        if method != "heaviside" or name in ("tau_mem_inv", "tau_syn_inv"):
            assert bool((grad != 0).any()), f"{name} has no gradient: this would prove nothing"
    if method == "heaviside":
        assert not got["v_th"].any()


@kinds
def test_norses_defaults(spiking):
    """Shared float32 numbers on the CPU: 5 ms, 10 ms, 0, 1, 0; dt is 1 ms, multiplied in float32."""
    x, v, i, _ = draw(spiking)
    p = (norse.LIFParameters if spiking else norse.LIParameters)()
    assert [float(value) for value in p[:3]] == [200, 100, 0]
    if spiking:
        assert [float(p.v_th), float(p.v_reset), p.method, float(p.alpha)] == [1, 0, "super", 100]
    out, _ = sequence(spiking)(x, state_of(spiking, v, i))
    assert torch.equal(out, eager(x, v, i, p, spiking)[0])
    assert inspect.signature(step(spiking)).parameters["dt"].default == 0.001


@kinds
@pytest.mark.parametrize("parameter_dtype", [torch.float16, torch.float32, torch.float64])
@dtypes
def test_shared_parameters_of_another_dtype(spiking, dtype, parameter_dtype):
    """PyTorch's rule in the plain loop: one of shape () takes the dtype of what it meets."""
    x, v, i, _ = draw(spiking, dtype)
    _, _, _, p = draw(spiking, parameter_dtype, ())
    out, last = sequence(spiking)(x, state_of(spiking, v, i), p)
    assert out.dtype == last.v.dtype == dtype
    assert torch.equal(out, eager(x, v, i, p, spiking)[0])


@kinds
@dtypes
def test_numbers_as_parameters(spiking, dtype):
    x, v, i, p = draw(spiking, dtype, ())
    p = p._replace(**{name: float(getattr(p, name)) for name in (LIF_FIELDS if spiking else LI_FIELDS)})
    out, _ = sequence(spiking)(x, state_of(spiking, v, i), p)
    assert torch.equal(out, eager(x, v, i, p, spiking)[0])


FORMS = {"number": lambda value: value, "()": torch.tensor, "(N,)": lambda value: torch.full((N,), value)}


@kinds
@pytest.mark.parametrize("form", FORMS)
@dtypes
def test_whole_numbers_as_parameters(spiking, form, dtype):
    """As in PyTorch's arithmetic they take the dtype of what they meet."""
    x, v, i, p = draw(spiking, dtype)
    x, state = x * 3, state_of(spiking, v, i)
    numbers = dict(zip(LIF_FIELDS if spiking else LI_FIELDS, (200, 100, 0, 1, -1), strict=False))
    whole, usual = (p._replace(**{name: FORMS[form](kind(value)) for name, value in numbers.items()}) for kind in (int, float))
    layer, cell = (norse.LIF, norse.LIFCell) if spiking else (norse.LI, norse.LICell)
    for run in (
        lambda p: sequence(spiking)(x, state, p),
        lambda p: layer(p)(x),
        lambda p: layer(p)(x, state),
        lambda p: cell(p)(x[0], state),
        lambda p: step(spiking)(x[0], state, p),
    ):
        (out, last), (expected, expected_last) = run(whole), run(usual)
        assert out.dtype == dtype
        assert torch.equal(out, expected)
        assert all(map(torch.equal, last, expected_last))
    if spiking:
        assert_spikes(layer(whole)(x, state)[0])
    assert torch.equal(sequence(spiking)(x, state, whole)[0], eager(x, v, i, whole, spiking)[0])


@kinds
@pytest.mark.parametrize("kind", [numpy.float32, numpy.float64, numpy.int64])
def test_numpys_numbers(spiking, kind):
    x, v, i, p = draw(spiking)
    names = LIF_FIELDS if spiking else LI_FIELDS
    plain = p._replace(**{name: float(kind(value)) for name, value in zip(names, (200, 100, 0, 1, -1), strict=False)})
    given = p._replace(**{name: kind(value) for name, value in zip(names, (200, 100, 0, 1, -1), strict=False)})
    for function in (
        lambda p, dt: sequence(spiking)(x, state_of(spiking, v, i), p, dt)[0],
        lambda p, dt: (norse.LIF if spiking else norse.LI)(p, dt)(x, state_of(spiking, v, i))[0],
    ):
        assert torch.equal(function(given, 1e-3), function(plain, 1e-3))
        assert torch.equal(function(given, numpy.float32(2**-10)), function(plain, 2**-10))


def test_super_takes_any_alpha():
    """It does not use it."""
    results = []
    for alpha in (0, 0.0, -3.0, math.inf, numpy.float32(0), torch.tensor(0.0), 100.0):
        x = X.clone().requires_grad_()
        z, _ = norse.LIF(P._replace(alpha=alpha))(x)
        results.append((z, *torch.autograd.grad(z.sum(), x)))
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[-1], strict=True))


@kinds
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_spikes_as_booleans_or_integers(spiking, dtype):
    """They are added to the state, and so take its dtype; without one they become float32."""
    x, v, i, p = draw(spiking)
    x = (x > 0.5).to(dtype)
    cell = (norse.LIFCell if spiking else norse.LICell)(p)
    layer = (norse.LIF if spiking else norse.LI)(p)
    for state in (None, state_of(spiking, v, i), state_of(spiking, v.double(), i.double())):
        as_float = x.float() if state is None else x.to(state.v.dtype)
        for function, one, other in ((layer, x, as_float), (cell, x[0], as_float[0])):
            (out, last), (expected, expected_last) = function(one, state), function(other, state)
            assert out.dtype == expected.dtype
            assert torch.equal(out, expected)
            assert torch.equal(last.i, expected_last.i)
    with pytest.raises(TypeError, match=rf"the input is {dtype}, expected .* convert it with"):
        norse.LIFRecurrentCell(N, N)(x[0])


@kinds
def test_wider_input_widens_parameters_and_state(spiking):
    """Widening is exact; the rates stay products in float32, as norse's."""
    x, v, i, p = draw(spiking)
    out, last = sequence(spiking)(x.double(), state_of(spiking, v, i), p)
    expected = eager(x.double(), v.double(), i.double(), p, spiking)
    assert torch.equal(out, expected[0])
    assert out.dtype == last.v.dtype == torch.float64


def recurrent(dtype, device, seed=3, inputs=4, steps=(B,)):
    x, v, i, p = draw(True, dtype, (N,), (*steps, N), device, seed)
    g = torch.Generator().manual_seed(seed)
    x = uniform(g, (T, *steps, inputs), 0, 1, dtype, device)
    w_in, w_rec = uniform(g, (N, inputs), -0.4, 0.9, dtype, device), uniform(g, (N, N), -0.5, 0.5, dtype, device)
    z = (uniform(g, (*steps, N), 0, 1, dtype, device) < 0.3).to(dtype)
    return x, norse.LIFState(z, v, i), w_in, w_rec, p._replace(alpha=5.0)


@pytest.mark.parametrize("steps", [(B,), (), (2, B)], ids=str)
@pytest.mark.parametrize("method", list(SLOPES))
def test_recurrent(steps, method, device):
    """In float64 the matrix products' rounding decides no spike here; gradients to everything."""
    results = []
    for way in ("eager", "sequence", "steps"):
        x, state, w_in, w_rec, p = recurrent(torch.float64, device, steps=steps)
        p = p._replace(method=method)
        leaves = {"x": x, "w_in": w_in, "w_rec": w_rec, **state._asdict(), **{name: getattr(p, name) for name in LIF_FIELDS}}
        for leaf in leaves.values():
            leaf.requires_grad_()
        if way == "eager":
            z, *traces = eager(nn.functional.linear(x, w_in), state.v, state.i, p, True, state.z, w_rec)
            last = [z[-1], *(trace[-1] for trace in traces)]
        elif way == "sequence":
            z, last = norse.lif_recurrent(x, w_in, w_rec, state, p)
        else:
            spikes, last = [], state
            for x_t in x:
                z_t, last = norse.lif_step(x_t, last, w_in, w_rec, p)
                spikes.append(z_t)
            z = torch.stack(spikes)
        weight = torch.linspace(-1, 1, z.numel(), dtype=z.dtype, device=device).reshape(z.shape)
        total = (z * weight).sum() + sum((s * weight[k]).sum() for k, s in enumerate(last))
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
        results.append((z, last, dict(zip(leaves, grads, strict=True))))
    z, last, expected = results[0]
    assert_spikes(z)
    for other, other_last, grads in results[1:]:
        assert torch.equal(other, z)
        for a, b in zip(other_last, last, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)  # one float64 matrix product a step apart
        for name, grad in expected.items():
            torch.testing.assert_close(grads[name], grad, rtol=1e-10, atol=1e-10 * float(grad.abs().max()), msg=name)
    assert bool((expected["w_rec"] != 0).any())


def test_li_step_weighs_its_input():
    _, v, i, p = draw(False)
    weights = torch.rand(N, 4, requires_grad=True)
    spikes = torch.rand(B, 4)
    out, state = norse.li_step(spikes, norse.LIState(v, i), weights, p)
    expected, _ = norse.li_feed_forward_step(nn.functional.linear(spikes, weights), norse.LIState(v, i), p)
    assert torch.equal(out, expected)
    assert torch.equal(out, state.v)
    out.sum().backward()
    assert weights.grad is not None


@kinds
def test_state_is_explicit_and_carries_over(spiking):
    """Two calls with the state handed on are one call, bits and gradients: nothing is detached."""
    function = sequence(spiking)
    results = []
    for cuts in ([T], [7, T - 7]):
        x, v, i, p = draw(spiking)
        state, outs = state_of(spiking, v.requires_grad_(), i.requires_grad_()), []
        for part in x.requires_grad_().split(cuts):
            out, state = function(part, state, p)
            outs.append(out)
        out = torch.cat(outs)
        results.append((out, *state, *torch.autograd.grad(out.square().sum() + state.v.sum(), (x, v, i))))
    whole, parts = results
    for a, b in zip(whole[:3], parts[:3], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole[3:], parts[3:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # float32 sums of two calls added up


@kinds
def test_a_fresh_state_starts_at_v_leak_without_gradient(spiking):
    """As norse's layers: the initial v has v_leak's value, and passes it no gradient."""
    x, _, _, p = draw(spiking)
    rest = p.v_leak.requires_grad_()
    explicit = state_of(spiking, rest.detach().expand(B, N), torch.zeros(B, N))
    for function in (sequence(spiking), norse.LIF(p) if spiking else norse.LI(p)):
        call = (lambda s, function=function: function(x, s, p)) if function is sequence(spiking) else lambda s, f=function: f(x, s)
        (out, _), (expected, _) = call(None), call(explicit)
        assert torch.equal(out, expected)
        grads = [torch.autograd.grad(o.square().sum(), rest)[0] for o in (out, expected)]
        assert torch.equal(*grads)


@kinds
def test_states_broadcast(spiking):
    x, _, _, p = draw(spiking)
    v, i = torch.tensor(0.25), torch.linspace(-1, 1, N)
    out, _ = sequence(spiking)(x, state_of(spiking, v, i), p)
    assert torch.equal(out, eager(x, v.expand(B, N), i.expand(B, N), p, spiking)[0])


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
    assert DT * torch.tensor(number) != torch.tensor(DT * number), "rounding late or early would be the same, and prove nothing"
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
    cell.load_state_dict({"input_weights": layer.input_weights.detach(), "recurrent_weights": layer.recurrent_weights.detach()})
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
        (z, v, i) = (s[-1] for s in eager(nn.functional.linear(x_t, cell.input_weights)[None], v, i, p, True, z, weights))
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


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(spiking, dtype):
    """Stored half, computed in float32; the state stays float32."""
    x, v, i, p = draw(spiking)
    out, last = sequence(spiking)(x.to(dtype), state_of(spiking, v, i), p)
    expected, expected_last = sequence(spiking)(x.to(dtype).float(), state_of(spiking, v, i), p)
    assert torch.equal(out, expected.to(dtype))
    assert last.v.dtype == torch.float32
    assert torch.equal(last.v, expected_last.v)


def test_norses_integral_is_lif():
    x, v, i, p = draw(True)
    state = norse.LIFFeedForwardState(v, i)
    assert torch.equal(norse.lif_feed_forward_integral(x, state, p)[0], norse.lif(x, state, p)[0])


def test_parameters_move():
    p = norse.LIFParameters(v_th=torch.ones(N)).to("meta")
    assert p.v_th.is_meta
    assert p.method == "super"


def test_compiled(device):
    x, _, _, p = draw(True, device=device)
    layer = norse.LIFRecurrent(N, N, p).to(device)
    modules = [norse.LIF(p), norse.LI(norse.LIParameters()), lambda x: layer(x)]
    for module in modules:
        expected = module(x)[0]
        assert torch.equal(torch.compile(module, fullgraph=True, backend="aot_eager")(x)[0], expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_default_parameters_go_with_input_on_a_gpu():
    x = torch.rand(T, B, N) * 4
    assert torch.equal(norse.LIF()(x.cuda())[0].cpu(), norse.LIF()(x)[0])


X, V, CURRENT, P = draw(True)
STATE = norse.LIFFeedForwardState(V, CURRENT)
BAD = [
    (TypeError, "lif_feed_forward_step: state is None", {"state": None}),
    (TypeError, "state is a tuple without a tensor v, expected .*v, i", {"state": (V, CURRENT)}),
    (TypeError, "state is a LIFFeedForwardState without a tensor i", {"state": norse.LIFFeedForwardState(V, 0.0)}),
    (
        ValueError,
        r"the state v has shape \(2, 6\), expected \(\) or a shape that broadcasts to \(3, 6\)",
        {"state": STATE._replace(v=V[:2])},
    ),
    (ValueError, r"the state v has shape \(2, 3, 6\)", {"state": STATE._replace(v=V.expand(2, B, N))}),
    (TypeError, "the state i is torch.float64, expected torch.float32", {"state": STATE._replace(i=CURRENT.double())}),
    (TypeError, "the input is a list", {"x": [1.0]}),
    (TypeError, "the input is torch.complex64", {"x": X.to(torch.complex64)}),
    (ValueError, "to_dense", {"x": X[0].to_sparse()}),
    (TypeError, "p is a NoneType without", {"p": None}),
    (TypeError, "p is a LIParameters without method", {"p": norse.LIParameters()}),
    (TypeError, "v_th is 'high', expected a number or a tensor", {"p": P._replace(v_th="high")}),
    (TypeError, "tau_mem_inv is torch.float64, expected torch.float32", {"p": P._replace(tau_mem_inv=P.tau_mem_inv.double())}),
    (TypeError, "v_reset is torch.bool", {"p": P._replace(v_reset=torch.tensor(True))}),
    (TypeError, "v_th is True, expected a number", {"p": P._replace(v_th=True)}),
    (ValueError, r"tau_syn_inv has shape \(5,\), expected", {"p": P._replace(tau_syn_inv=torch.ones(5))}),
    (ValueError, "v_leak is on meta but the input is on cpu", {"p": P._replace(v_leak=torch.zeros(N, device="meta"))}),
    (ValueError, "dt is -1, expected a time step", {"dt": -1}),
    (ValueError, "method is 'logistic', expected one of 'super', 'triangle'", {"p": P._replace(method="logistic")}),
    (
        NotImplementedError,
        "method is 'tanh', which the kernel does not have; expected one of 'super'",
        {"p": P._replace(method="tanh")},
    ),
    (NotImplementedError, "method is 'circ'", {"p": P._replace(method="circ")}),
    (NotImplementedError, "method is 'adjoint'", {"p": P._replace(method="adjoint")}),
    (TypeError, "alpha requires a gradient", {"p": P._replace(alpha=torch.tensor(1.0, requires_grad=True))}),
    (
        ValueError,
        "alpha is -1, expected a finite number above 0 with method='triangle'",
        {"p": P._replace(alpha=-1.0, method="triangle")},
    ),
    (ValueError, "alpha is 0, .* method='heavi_erfc'", {"p": P._replace(alpha=0, method="heavi_erfc")}),
    (TypeError, "alpha is 'steep', expected a number", {"p": P._replace(alpha="steep")}),
]


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message for _, message, _ in BAD])
def test_errors(error, message, changes):
    given = {"x": X[0], "state": STATE, "p": P, "dt": DT} | changes
    with pytest.raises(error, match=message):
        norse.lif_feed_forward_step(given["x"], given["state"], given["p"], given["dt"])


def test_errors_of_the_others():
    with pytest.raises(ValueError, match=r"the input has shape \(\), expected time as its first dimension"):
        norse.li(torch.tensor(1.0))
    with pytest.raises(NotImplementedError, match="LIF: method is 'adjoint'"):
        norse.LIF(norse.LIFParameters(method="adjoint"))
    with pytest.raises(ValueError, match="LI: dt is 0"):
        norse.LI(dt=0)
    x, state, w_in, w_rec, p = recurrent(torch.float32, "cpu")
    with pytest.raises(ValueError, match=r"input_weights has shape \(6, 4\), expected \(neurons, 3\) for an input of \(40, 3, 3\)"):
        norse.lif_recurrent(x[..., :3], w_in, w_rec, state, p)
    with pytest.raises(ValueError, match=r"recurrent_weights has shape \(6, 5\), expected \(6, 6\)"):
        norse.lif_recurrent(x, w_in, w_rec[:, :5], state, p)
    with pytest.raises(ValueError, match=r"v_th has shape \(3, 1\), expected \(\) or a shape that broadcasts to \(6,\)"):
        norse.lif_recurrent(x, w_in, w_rec, state, p._replace(v_th=torch.ones(B, 1)))


def test_public_names_have_docstrings():
    for name in norse.__all__:
        assert len(getattr(norse, name).__doc__) > 30, name


def test_states_and_parameters_can_be_saved():
    """torch.load refuses classes that it does not know."""
    state = norse.LIFCell()(torch.rand(2, 3))[1]
    memory = io.BytesIO()
    torch.save((state, norse.LIFParameters()), memory)
    memory.seek(0)
    again, parameters = torch.load(memory)
    assert type(again) is norse.LIFFeedForwardState
    assert torch.equal(again.v, state.v)
    assert torch.equal(parameters.v_th, torch.tensor(1.0))

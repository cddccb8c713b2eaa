"""torch_lif.compat.norse's functions against plain loops; tests/peers/test_norse.py compares with norse itself."""

import inspect
import io
import math

import numpy
import pytest
import torch
from norse_loop import (
    CURRENT,
    DT,
    LI_FIELDS,
    LIF_FIELDS,
    SLOPES,
    STATE,
    B,
    N,
    P,
    T,
    V,
    X,
    assert_spikes,
    draw,
    dtypes,
    eager,
    kinds,
    recurrent,
    sequence,
    state_of,
    step,
)
from torch import nn

from torch_lif.compat import norse

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
    whole, usual = (
        p._replace(**{name: FORMS[form](kind(value)) for name, value in numbers.items()}) for kind in (int, float)
    )
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


@pytest.mark.parametrize("steps", [(B,), (), (2, B)], ids=str)
@pytest.mark.parametrize("method", list(SLOPES))
def test_recurrent(steps, method, device):
    """In float64 the matrix products' rounding decides no spike here; gradients to everything."""
    results = []
    for way in ("eager", "sequence", "steps"):
        x, state, w_in, w_rec, p = recurrent(torch.float64, device, steps=steps)
        p = p._replace(method=method)
        leaves = {
            "x": x,
            "w_in": w_in,
            "w_rec": w_rec,
            **state._asdict(),
            **{name: getattr(p, name) for name in LIF_FIELDS},
        }
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
        call = (
            (lambda s, function=function: function(x, s, p))
            if function is sequence(spiking)
            else lambda s, f=function: f(x, s)
        )
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
    (
        TypeError,
        "tau_mem_inv is torch.float64, expected torch.float32",
        {"p": P._replace(tau_mem_inv=P.tau_mem_inv.double())},
    ),
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
    with pytest.raises(
        ValueError, match=r"input_weights has shape \(6, 4\), expected \(neurons, 3\) for an input of \(40, 3, 3\)"
    ):
        norse.lif_recurrent(x[..., :3], w_in, w_rec, state, p)
    with pytest.raises(ValueError, match=r"recurrent_weights has shape \(6, 5\), expected \(6, 6\)"):
        norse.lif_recurrent(x, w_in, w_rec[:, :5], state, p)
    with pytest.raises(
        ValueError, match=r"v_th has shape \(3, 1\), expected \(\) or a shape that broadcasts to \(6,\)"
    ):
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

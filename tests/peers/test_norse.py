"""torch_lif.compat.norse beside norse itself: the same random cases through both. Runs where norse (1.1.0) is
installed: python -m pytest tests/peers/test_norse.py"""

import inspect

import numpy
import pytest
import torch

norse = pytest.importorskip("norse.torch")

from norse.torch.functional.lif import lif_feed_forward_integral  # noqa: E402
from norse.torch.module.leaky_integrator import LILinearCell  # noqa: E402

import torch_lif  # noqa: E402
from torch_lif.compat import norse as ours  # noqa: E402

T, B, N, INPUTS = 100, 4, 9, 5
LI_FIELDS = ("tau_syn_inv", "tau_mem_inv", "v_leak")
LIF_FIELDS = (*LI_FIELDS, "v_th", "v_reset")
RANGES = {
    "tau_syn_inv": (50, 400),
    "tau_mem_inv": (50, 300),
    "v_leak": (-0.2, 0.2),
    "v_th": (0.4, 0.8),
    "v_reset": (-0.3, 0.1),
}
SHAPES = [
    ((B, N), ()),
    ((B, N), (1,)),
    ((B, N), (N,)),
    ((B, N), (B, 1)),
    ((N,), (N,)),
    ((), ()),
    ((B, 2, N, 3), (N, 1)),
]
shapes = pytest.mark.parametrize(("steps", "shape"), SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
seeds = pytest.mark.parametrize("seed", range(5))
METHODS = [("super", 100.0), ("triangle", 0.7), ("heavi_erfc", 0.7), ("heaviside", 1.0)]
methods = pytest.mark.parametrize(
    ("method", "alpha"), METHODS, ids=lambda value: value if isinstance(value, str) else ""
)


def uniform(g, size, low, high, dtype):
    return (torch.rand(size, generator=g, dtype=torch.float64) * (high - low) + low).to(dtype)


def draw(fields, shape, steps, dtype, seed):
    g = torch.Generator().manual_seed(seed)
    x = uniform(g, (T, *steps), -0.3, 1.2, dtype)
    v, i = (uniform(g, steps, -0.5, 0.5, dtype) for _ in "vi")
    return x, v, i, {name: uniform(g, shape, *RANGES[name], dtype) for name in fields}


def assert_spikes(out):
    assert 0.01 < float(out.detach().mean()) < 0.95, "hardly a spike, or nothing but: this would prove nothing"


def assert_equal(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert torch.equal(got, expected)


def assert_same_gradients(got, expected, leaves, bound=1e-10):
    """Sums of the same terms in float64, in another order: 1e-10 is far above their rounding."""
    total = []
    for outputs in (expected, got):
        g = torch.Generator().manual_seed(7)
        loss = sum((o * torch.randn(o.shape, generator=g, dtype=o.dtype)).sum() for o in outputs)
        total.append(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True, retain_graph=True))
    for a, b in zip(total[1], total[0], strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound * float(b.abs().max()))
    assert bool((total[0][0] != 0).any()), "no gradient to the input: this would prove nothing"


@seeds
@dtypes
@shapes
def test_li_bits(steps, shape, dtype, seed):
    """Every step of li_feed_forward_step and of the fused sequence, output and both states."""
    x, v, i, p = draw(LI_FIELDS, shape, steps, dtype, seed)
    theirs, mine, one = norse.LIState(v, i), ours.LIState(v, i), ours.LIState(v, i)
    q = norse.LIParameters(**p)
    whole, last = ours.li(x, mine, ours.LIParameters(**p))
    for t in range(T):
        expected, theirs = norse.li_feed_forward_step(x[t], theirs, q)
        got, one = ours.li_feed_forward_step(x[t], one, ours.LIParameters(**p))
        assert_equal(got, expected)
        assert_equal(whole[t], expected)
        for a, b in zip(one, theirs, strict=True):
            assert_equal(a, b)
    for a, b in zip(last, theirs, strict=True):
        assert_equal(a, b)


@seeds
@dtypes
@shapes
def test_lif_bits(steps, shape, dtype, seed):
    """Every step of lif_feed_forward_step, and the integrals of both."""
    x, v, i, p = draw(LIF_FIELDS, shape, steps, dtype, seed)
    theirs, one = norse.LIFFeedForwardState(v, i), ours.LIFFeedForwardState(v, i)
    q, r = norse.LIFParameters(**p), ours.LIFParameters(**p)
    whole, last = ours.lif_feed_forward_integral(x, one, r)
    expected, expected_last = lif_feed_forward_integral(x, theirs, q)
    assert_spikes(expected)
    assert_equal(whole, expected)
    for a, b in zip(last, expected_last, strict=True):
        assert_equal(a, b)
    for t in range(T):
        z, theirs = norse.lif_feed_forward_step(x[t], theirs, q)
        got, one = ours.lif_feed_forward_step(x[t], one, r)
        assert_equal(got, z)
        for a, b in zip(one, theirs, strict=True):
            assert_equal(a, b)


@shapes
def test_li_gradients(steps, shape):
    x, v, i, p = draw(LI_FIELDS, shape, steps, torch.float64, 0)
    leaves = [x, v, i, *p.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    state, outs = norse.LIState(v, i), []
    for x_t in x:
        out, state = norse.li_feed_forward_step(x_t, state, norse.LIParameters(**p))
        outs.append(out)
    got, last = ours.li(x, ours.LIState(v, i), ours.LIParameters(**p))
    assert_same_gradients((got, *last), (torch.stack(outs), *state), leaves)


@methods
@shapes
def test_lif_gradients(steps, shape, method, alpha):
    x, v, i, p = draw(LIF_FIELDS, shape, steps, torch.float64, 0)
    leaves = [x, v, i, *p.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    z, state = lif_feed_forward_integral(
        x, norse.LIFFeedForwardState(v, i), norse.LIFParameters(**p, method=method, alpha=alpha)
    )
    got, last = ours.lif(x, ours.LIFFeedForwardState(v, i), ours.LIFParameters(**p, method=method, alpha=alpha))
    # norse takes the root of pi in float32, within 6e-8; T of them are multiplied at most.
    bound = 6e-8 * T if method == "heavi_erfc" else 1e-10
    assert_same_gradients((got, *last), (z, *state), leaves, bound)


def test_norse_ignores_alpha():
    """norse 1.1.0 computes the gradient of "super" without alpha, which its text and earlier versions have; ours
    too."""
    gradients = {}
    for library in (norse, ours):
        for alpha in (1.0, 100.0):
            x = torch.full((3,), 1.5, dtype=torch.float64, requires_grad=True)
            state = library.LIFFeedForwardState(
                torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
            )
            z, _ = library.lif_feed_forward_step(x, state, library.LIFParameters(alpha=torch.tensor(alpha)))
            (gradients[library, alpha],) = torch.autograd.grad(z.sum(), x)
    assert torch.equal(gradients[norse, 1.0], gradients[norse, 100.0])
    torch.testing.assert_close(gradients[ours, 1.0], gradients[norse, 1.0], rtol=1e-12, atol=0)
    assert torch.equal(gradients[ours, 1.0], gradients[ours, 100.0])
    state = ours.LIFFeedForwardState(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    z, _ = ours.lif_feed_forward_step(x, state, ours.LIFParameters(method=torch_lif.SuperSpike(100.0)))
    (steep,) = torch.autograd.grad(z.sum(), x)
    distance = abs(0.15 - 1.0)
    torch.testing.assert_close(steep, torch.full_like(x, 0.1 / (100 * distance + 1) ** 2), rtol=1e-6, atol=0)


def test_methods_that_norse_has():
    """Each of norse's is fused or refused by name; what norse refuses with ValueError, ours does too."""
    x, state = torch.rand(3), ours.LIFFeedForwardState(torch.zeros(3), torch.zeros(3))
    for method in ("tanh", "circ"):
        norse.lif_feed_forward_step(x, norse.LIFFeedForwardState(*state), norse.LIFParameters(method=method))
        with pytest.raises(NotImplementedError, match=method):
            ours.lif_feed_forward_step(x, state, ours.LIFParameters(method=method))
    for library in (norse, ours):
        with pytest.raises(ValueError, match="logistic"):
            library.lif_feed_forward_step(
                x, library.LIFFeedForwardState(*state), library.LIFParameters(method="logistic")
            )


@pytest.mark.parametrize("name", ["LIParameters", "LIFParameters", "LIState", "LIFState", "LIFFeedForwardState"])
def test_tuples(name):
    theirs, mine = getattr(norse, name), getattr(ours, name)
    assert mine._fields == theirs._fields
    if "Parameters" in name:
        for field, a, b in zip(mine._fields, mine(), theirs(), strict=True):
            assert a == b, field


@pytest.mark.parametrize("spiking", [False, True], ids=["li", "lif"])
def test_tuples_of_norse_itself_are_taken(spiking):
    x, v, i, p = draw(LIF_FIELDS if spiking else LI_FIELDS, (N,), (B, N), torch.float32, 0)
    state, parameters = (
        (norse.LIFFeedForwardState, norse.LIFParameters) if spiking else (norse.LIState, norse.LIParameters)
    )
    own = (ours.LIFFeedForwardState, ours.LIFParameters) if spiking else (ours.LIState, ours.LIParameters)
    function = ours.lif if spiking else ours.li
    assert torch.equal(function(x, state(v, i), parameters(**p))[0], function(x, own[0](v, i), own[1](**p))[0])
    layer = (ours.LIF if spiking else ours.LI)(parameters(**p))
    assert torch.equal(layer(x, state(v, i))[0], function(x, own[0](v, i), own[1](**p))[0])


@pytest.mark.parametrize(
    "name", ["li_step", "li_feed_forward_step", "lif_step", "lif_feed_forward_step", "LICell", "LI", "LIFCell", "LIF"]
)
def test_arguments(name):
    """norse's names and order; of its modules' keywords those that are not internal."""
    expected = list(inspect.signature(getattr(norse, name)).parameters)
    got = list(inspect.signature(getattr(ours, name)).parameters)
    assert got[: len(expected) - ("kwargs" in expected)] == [n for n in expected if n != "kwargs"]


@dtypes
@pytest.mark.parametrize("steps", [(N,), (B, N), (B, 2, N)], ids=str)
@pytest.mark.parametrize("layer", ["LI", "LIF"])
def test_layers_from_rest(layer, steps, dtype):
    """Default parameters, no state given; with float64 too, where norse starts from float32 states."""
    x = torch.rand(T, *steps, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2
    parameters = "LIFParameters" if layer == "LIF" else "LIParameters"
    for fields in ({}, {"v_leak": torch.tensor(0.2)}):
        theirs = getattr(norse, layer)(getattr(norse, parameters)(**fields), record_states=True)
        mine = getattr(ours, layer)(getattr(ours, parameters)(**fields), record_states=True)
        (expected, states), (got, own) = theirs(x), mine(x)
        assert_equal(got, expected.detach())
        for a, b in zip(own, states, strict=True):
            assert_equal(a, b.detach())
        last = getattr(ours, layer)(getattr(ours, parameters)(**fields))(x)[1]
        for a, b in zip(last, getattr(norse, layer)(getattr(norse, parameters)(**fields))(x)[1], strict=True):
            assert_equal(a, b.detach())
    if layer == "LIF":
        assert_spikes(expected)


@pytest.mark.parametrize("cell", ["LICell", "LIFCell"])
def test_cells_from_rest(cell):
    x = torch.rand(T, B, N, generator=torch.Generator().manual_seed(0)) * 2
    theirs, mine = getattr(norse, cell)(), getattr(ours, cell)()
    state = own = None
    for x_t in x:
        (expected, state), (got, own) = theirs(x_t, state), mine(x_t, own)
        assert_equal(got, expected.detach())
        for a, b in zip(own, state, strict=True):
            assert_equal(a, b.detach())


CELLS = ["LICell", "LIFCell", "LI", "LIF"]
cells = pytest.mark.parametrize("cell", CELLS)


def both_cells(cell, **fields):
    parameters = "LIFParameters" if "LIF" in cell else "LIParameters"
    return [getattr(library, cell)(getattr(library, parameters)(**fields)) for library in (norse, ours)]


def assert_same_run(pair, x, first=(None, None)):
    for one, (theirs, mine) in zip((x, x[:1], x), ((first), (None, None), (None, None)), strict=True):
        (expected, state), (got, own) = (layer(one, s) for layer, s in zip(pair, (theirs, mine), strict=True))
        assert_equal(got, expected.detach())
        for a, b in zip(own, state, strict=True):
            assert_equal(a, b.detach())


@cells
def test_whole_numbers_as_parameters(cell):
    x = torch.rand(3, B, N, generator=torch.Generator().manual_seed(0)) * 30
    numbers = {"tau_mem_inv": 150, "tau_syn_inv": 200} | ({"v_th": 1, "v_reset": -1} if "LIF" in cell else {})
    assert_same_run(both_cells(cell, **numbers), x)
    for form in (torch.as_tensor, lambda value: torch.full((N,), value), numpy.float32):
        assert_same_run(both_cells(cell, **{name: form(value) for name, value in numbers.items()}), x)
    if "LIF" in cell:
        assert_same_run(both_cells(cell, alpha=0), x)
        # norse's cell cannot start from a whole v_leak.
        assert_same_run(both_cells(cell, alpha=0.0, v_leak=1 if cell == "LIF" else 1.0), x)


@cells
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_spikes_as_booleans_or_integers(cell, dtype):
    x = (torch.rand(T, B, N, generator=torch.Generator().manual_seed(0)) < 0.6).to(dtype)
    if cell.endswith("Cell"):
        x = x[0]
    pair = both_cells(cell)
    (expected, state), (got, own) = (layer(x) for layer in pair)
    assert_equal(got, expected.detach())
    for a, b in zip(own, state, strict=True):
        assert_equal(a, b.detach())
    for wide in (torch.float32, torch.float64):
        first = [s.detach().expand(B, N).to(wide) + 0.25 for s in state]
        (expected, last), (got, own) = (layer(x, type(s)(*first)) for layer, s in zip(pair, (state, own), strict=True))
        assert_equal(got, expected)
        for a, b in zip(own, last, strict=True):
            assert_equal(a, b)


def test_neither_takes_integers_before_weights():
    for library in (norse, ours):
        with pytest.raises((RuntimeError, TypeError)):
            library.LIFRecurrentCell(INPUTS, N)(torch.ones(B, INPUTS, dtype=torch.int64))


@dtypes
@pytest.mark.parametrize("autapses", [False, True])
@pytest.mark.parametrize("size", [(1, 8, 12), (16, 100, 70)], ids=str)
@pytest.mark.parametrize("name", ["LIFRecurrentCell", "LILinearCell"])
def test_cells_with_weights_bit_for_bit(name, size, autapses, dtype):
    """In a step there are the same products as in norse, and the same order of operations."""
    batch, inputs, neurons = size
    linear = name == "LILinearCell"
    kinds, keywords = (
        ((LILinearCell, ours.LILinearCell), {})
        if linear
        else ((norse.LIFRecurrentCell, ours.LIFRecurrentCell), {"autapses": autapses})
    )
    pair = []
    for kind in kinds:
        torch.manual_seed(0)
        pair.append(kind(inputs, neurons, **keywords).to(dtype))
    g = torch.Generator().manual_seed(1)
    x = (uniform(g, (T, batch, inputs), 0, 1, dtype) < 0.4).to(dtype) * 3
    zeros = torch.zeros(batch, neurons, dtype=dtype)
    state, own = norse.LIState(zeros, zeros) if linear else norse.LIFState(zeros, zeros, zeros), None
    spikes = []
    for x_t in x:
        (expected, state), (got, own) = pair[0](x_t, state), pair[1](x_t, own)
        assert_equal(got, expected)
        for a, b in zip(own, state, strict=True):
            assert_equal(a, b)
        spikes.append(got)
    if not linear:
        assert_spikes(torch.stack(spikes))


@pytest.mark.parametrize("layer", ["LI", "LIF"])
def test_gradients_from_rest(layer):
    """norse's v_leak gets no gradient through the initial membrane; nor does ours."""
    fields = LIF_FIELDS if layer == "LIF" else LI_FIELDS
    x, _, _, p = draw(fields, (), (B, N), torch.float64, 3)
    leaves = [x, *p.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    parameters = f"{layer}Parameters"
    # norse's own initial state is float32, whose rounding of v_leak is not what is compared here.
    rest = p["v_leak"].detach().expand(B, N)
    state = (norse.LIFFeedForwardState if layer == "LIF" else norse.LIState)(rest, torch.zeros_like(rest))
    expected, last = getattr(norse, layer)(getattr(norse, parameters)(**p))(x, state)
    got, own = getattr(ours, layer)(getattr(ours, parameters)(**p))(x)
    assert_same_gradients((got, *own), (expected, *last), leaves)


def recurrent(dtype, seed):
    x, v, i, p = draw(LIF_FIELDS, (N,), (B, N), dtype, seed)
    g = torch.Generator().manual_seed(seed)
    x, z = uniform(g, (T, B, INPUTS), 0, 1, dtype), (uniform(g, (B, N), 0, 1, dtype) < 0.3).to(dtype)
    return x, z, v, i, p, uniform(g, (N, INPUTS), -0.4, 0.9, dtype), uniform(g, (N, N), -0.5, 0.5, dtype)


@seeds
def test_recurrent_spikes_and_gradients(seed):
    """In float64 no matrix product's rounding decides a spike here."""
    x, z, v, i, p, w_in, w_rec = recurrent(torch.float64, seed)
    leaves = [x, z, v, i, *p.values(), w_in, w_rec]
    for leaf in leaves:
        leaf.requires_grad_()
    state, spikes, mine, one = norse.LIFState(z, v, i), [], ours.LIFState(z, v, i), []
    for x_t in x:
        z_t, state = norse.lif_step(x_t, state, w_in, w_rec, norse.LIFParameters(**p))
        spikes.append(z_t)
        z_t, mine = ours.lif_step(x_t, mine, w_in, w_rec, ours.LIFParameters(**p))
        one.append(z_t)
    spikes, one = torch.stack(spikes), torch.stack(one)
    assert_spikes(spikes)
    assert torch.equal(one, spikes)
    got, last = ours.lif_recurrent(x, w_in, w_rec, ours.LIFState(z, v, i), ours.LIFParameters(**p))
    assert torch.equal(got, spikes)
    assert_same_gradients((got, *last), (spikes, *state), leaves)
    assert_same_gradients((one, *mine), (spikes, *state), leaves)


@pytest.mark.parametrize("autapses", [False, True])
@pytest.mark.parametrize("name", ["LIFRecurrent", "LIFRecurrentCell", "LILinearCell"])
def test_weights_and_state_dicts(name, autapses):
    """The same seed draws the same weights; norse's state dict loads, and gives the same spikes and gradients."""
    linear = name == "LILinearCell"
    theirs, mine = (LILinearCell, ours.LILinearCell) if linear else (getattr(norse, name), getattr(ours, name))
    keywords = {} if linear else {"autapses": autapses, "p": norse.LIFParameters()}
    torch.manual_seed(0)
    theirs = theirs(INPUTS, N, **keywords)
    torch.manual_seed(0)
    mine = mine(INPUTS, N, **keywords)
    for key, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[key], value), key
    with torch.no_grad():
        for weights in theirs.parameters():
            weights.mul_(1.5)
    mine.load_state_dict(theirs.state_dict())
    theirs, mine = theirs.double(), mine.double()
    x = torch.rand(T, B, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    x = x if name == "LIFRecurrent" else x[0]
    zeros = torch.zeros(B, N, dtype=torch.float64)
    state = (norse.LIState if linear else norse.LIFState)(*[zeros] * (2 if linear else 3))
    (expected, last), (got, own) = theirs(x, state), mine(x, state)
    if linear:
        torch.testing.assert_close(got, expected, rtol=1e-14, atol=1e-14)
    else:
        assert torch.equal(got, expected)
    results = []
    for layer, outputs in ((theirs, (expected, *last)), (mine, (got, *own))):
        g = torch.Generator().manual_seed(7)
        sum((o * torch.randn(o.shape, generator=g, dtype=o.dtype)).sum() for o in outputs).backward()
        results.append({key: weights.grad for key, weights in layer.named_parameters()})
    for key, grad in results[0].items():
        torch.testing.assert_close(results[1][key], grad, rtol=1e-10, atol=1e-10 * float(grad.abs().max()), msg=key)


def test_norse_returns_one_step_of_its_recurrent_integral():
    """A bug of norse 1.1.0: lif_step_integral returns the spikes of the last step only. lif_recurrent returns them
    all."""
    from norse.torch.functional.lif import lif_step_integral

    x, z, v, i, p, w_in, w_rec = recurrent(torch.float64, 0)
    last, _ = lif_step_integral(x, norse.LIFState(z, v, i), w_in, w_rec, norse.LIFParameters(**p))
    got, _ = ours.lif_recurrent(x, w_in, w_rec, ours.LIFState(z, v, i), ours.LIFParameters(**p))
    assert last.shape == (B, N)
    assert got.shape == (T, B, N)
    assert torch.equal(got[-1], last)


def test_norse_lets_a_state_dict_bring_autapses_back():
    """norse zeroes the diagonal once, when the layer is made; ours never uses it."""
    weights = {"input_weights": torch.rand(N, INPUTS), "recurrent_weights": torch.eye(N) * 0.9}
    without = {**weights, "recurrent_weights": torch.zeros(N, N)}
    x = torch.rand(T, B, INPUTS) * 3
    for library, same in ((norse, False), (ours, True)):
        outs = []
        for state_dict in (weights, without):
            layer = library.LIFRecurrent(INPUTS, N)
            layer.load_state_dict(state_dict)
            outs.append(layer(x)[0])
        assert torch.equal(*outs) == same


@pytest.mark.parametrize("name", ["LICell", "LIFCell", "LI", "LIF", "LIFRecurrentCell", "LIFRecurrent", "LILinearCell"])
@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph")
def test_nir_has_no_none_in_our_place(name):
    """norse exports its own LIFCell, and writes None for its other layers; ours are refused."""
    nir, nirtorch = pytest.importorskip("nir"), pytest.importorskip("nirtorch")
    from norse.torch.utils.export_nir import to_nir

    sizes = (N, N) if name in ("LIFRecurrentCell", "LIFRecurrent", "LILinearCell") else ()
    x = torch.rand(2, 3, INPUTS)
    model = norse.SequentialState(torch.nn.Linear(INPUTS, N), getattr(ours, name)(*sizes))
    with pytest.raises(
        NotImplementedError, match=f"{name} of torch_lif.compat.norse.* would write None in this module's place"
    ):
        to_nir(model, x)
    assert model(x)[0].shape == (2, 3, N)
    if hasattr(norse, name) and name != "LILinearCell":  # which takes no time dimension
        theirs = to_nir(norse.SequentialState(torch.nn.Linear(INPUTS, N), getattr(norse, name)(*sizes)), x).nodes["1"]
        assert isinstance(theirs, nir.CubaLIF) if name == "LIFCell" else theirs is None
    # A map that knows our modules is left alone.
    graph = nirtorch.extract_nir_graph(model, lambda module: nir.Threshold(torch.ones(N).numpy()), x)
    assert isinstance(graph.nodes["1"], nir.Threshold)

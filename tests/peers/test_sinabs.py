"""torch_lif.compat.sinabs beside sinabs itself: the same random cases through both."""

import copy
import inspect

import numpy
import pytest
import torch
from torch import nn

sinabs = pytest.importorskip("sinabs")
import sinabs.activation as sa  # noqa: E402
import sinabs.layers as theirs  # noqa: E402
from sinabs.layers.functional.alif import alif_forward_single  # noqa: E402

from torch_lif.compat import sinabs as ours  # noqa: E402

STATES = ("v_mem", "b", "spike_threshold")  # i_syn is not kept by sinabs
SURROGATES = [
    ("SingleExponential", {}),
    ("SingleExponential", {"grad_width": 0.9, "grad_scale": 0.4}),
    ("MultiGaussian", {}),
    ("MultiGaussian", {"mu": 0.1, "sigma": 0.4, "h": 0.3, "s": 4, "grad_scale": 2.0}),
    ("Gaussian", {"mu": -0.1, "sigma": 0.3, "grad_scale": 0.7}),
    ("Heaviside", {"window": 0.4}),
    ("PeriodicExponential", {}),
    ("PeriodicExponential", {"grad_width": 0.3, "grad_scale": 1.5}),
]
SPIKE_FNS = [
    ("single", lambda lib: lib.SingleSpike),
    ("multi", lambda lib: lib.MultiSpike),
    ("max 1", lambda lib: lib.MaxSpike(1)),
    ("max 3", lambda lib: lib.MaxSpike(max_num_spikes_per_bin=3)),
    ("max", lambda lib: lib.MaxSpike()),
]
RESETS = [
    ("subtract the threshold", lambda lib: lib.MembraneSubtract()),
    ("subtract 0.6", lambda lib: lib.MembraneSubtract(subtract_value=0.6)),
    ("to zero", lambda lib: lib.MembraneReset()),
]


@pytest.fixture(autouse=True)
def _same_numbers_every_run():
    torch.manual_seed(0)


def named(pairs):
    return {"argvalues": [value for _, value in pairs], "ids": [name for name, _ in pairs]}


def pair(spike_fn=SPIKE_FNS[0][1], reset_fn=RESETS[0][1], surrogate=("SingleExponential", {}), connect=None, **arguments):
    """The same layer of both libraries, with weights of its own each."""
    layers = []
    for layer_types, lib in ((theirs, sa), (ours, ours)):
        own = {name: copy.deepcopy(value) for name, value in arguments.items()}
        name, values = surrogate
        own |= {"spike_fn": spike_fn(lib), "reset_fn": reset_fn(lib), "surrogate_grad_fn": getattr(lib, name)(**values)}
        if connect is None:
            layers.append(layer_types.ALIF(**own))
        else:
            layers.append(layer_types.ALIFRecurrent(rec_connect=copy.deepcopy(connect), **own))
    return layers


def make_input(*shape, dtype=torch.float32, scale=4.0):
    x = (torch.rand(shape, dtype=torch.float64) * 1.5 - 0.5) * scale
    x[..., 0] *= -1  # down to the lower bound
    return x.to(dtype)


def dyadic(linear):
    """Weights and bias in eighths: sums of them are exact, in whatever order they are taken."""
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_(torch.randint(-4, 5, p.shape) / 8)
    return linear


def assert_same_state(library, own):
    for name in STATES:
        assert torch.equal(getattr(library, name), getattr(own, name)), name


# --- the same bits ---


@pytest.mark.parametrize("min_v_mem", [None, -0.3])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.parametrize("norm_input", [True, False])
@pytest.mark.parametrize("reset_fn", **named(RESETS))
@pytest.mark.parametrize("spike_fn", **named(SPIKE_FNS))
def test_spikes_and_states_bit_for_bit(spike_fn, reset_fn, norm_input, tau_syn, min_v_mem):
    for train_alphas, threshold, adapt_scale in ((False, 0.7, 1.8), (True, torch.tensor(0.4), torch.rand(5))):
        library, own = pair(
            spike_fn,
            reset_fn,
            tau_mem=torch.rand(5) * 10 + 5,
            tau_adapt=40.0,
            tau_syn=tau_syn,
            adapt_scale=adapt_scale,
            spike_threshold=threshold,
            min_v_mem=min_v_mem,
            norm_input=norm_input,
            train_alphas=train_alphas,
        )
        x = make_input(3, 200, 5, scale=60.0 if norm_input else 3.0)
        spikes = library(x)
        assert torch.equal(spikes, own(x))
        assert_same_state(library, own)
        assert torch.equal(library.firing_rate, own.firing_rate)
        assert spikes.any()
        assert spikes.max() > 1 or spike_fn in (SPIKE_FNS[0][1], SPIKE_FNS[2][1])


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), ()])
def test_any_neurons(shape):
    tau = torch.rand(shape[-2:]) * 10 + 5
    library, own = pair(tau_mem=tau, tau_adapt=torch.rand(shape[-1:]) * 30 + 5, spike_threshold=0.5)
    x = make_input(3, 50, *shape, scale=20.0)
    assert torch.equal(library(x), own(x))
    assert_same_state(library, own)
    assert library.shape == own.shape


def test_several_calls_and_another_batch_size():
    """Without a synapse; with one sinabs forgets i_syn, see below."""
    library, own = pair(tau_mem=10.0, tau_adapt=30.0, spike_threshold=0.5)
    for batch in (3, 3, 2, 3):
        x = make_input(batch, 30, 4, scale=9.0)
        assert torch.equal(library(x), own(x))
        assert_same_state(library, own)
    library.zero_grad(), own.zero_grad()
    assert not library.v_mem.requires_grad
    assert not own.v_mem.requires_grad
    assert_same_state(library, own)
    library.reset_states(), own.reset_states()
    assert torch.equal(library(x), own(x))


def test_random_states_are_the_same_draws():
    library, own = pair(tau_mem=10.0, tau_adapt=30.0, tau_syn=4.0, shape=(3, 4))
    for ranges in (None, {"v_mem": (-1.0, 2.0), "b": (0.0, 0.1)}):
        for layer in (library, own):
            torch.manual_seed(4)
            layer.reset_states(randomize=True, value_ranges=ranges)
        for name in (*STATES, "i_syn"):
            assert torch.equal(getattr(library, name), getattr(own, name)), name
    x = make_input(3, 30, 4, scale=20.0)
    assert torch.equal(library(x), own(x))


def library_steps(layer, x):
    """The states after each step, by sinabs' own single steps, each on a state of its own."""
    alphas = [layer.alpha_mem_calculated, layer.alpha_adapt_calculated, layer.alpha_syn_calculated]
    state = {name: torch.zeros_like(x[:, 0]) for name, _ in layer.named_buffers()}
    traces = {name: [] for name in state}
    for x_t in x.unbind(1):
        _, state = alif_forward_single(
            x_t,
            *alphas,
            layer.adapt_scale,
            dict(state),
            layer.spike_fn,
            layer.reset_fn,
            layer.surrogate_grad_fn,
            layer.min_v_mem,
            layer.b0,
            layer.norm_input,
        )
        for name, trace in traces.items():
            trace.append(state[name])
    return {name: torch.stack(trace, 1) for name, trace in traces.items()}


@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_recordings_are_the_states_after_each_step(tau_syn):
    """Keys and shapes are sinabs'. Its own recordings of v_mem and i_syn are those of the step after, v_mem before the reset: it
    keeps dictionaries that its next step writes into."""
    library, own = pair(tau_mem=10.0, tau_adapt=30.0, tau_syn=tau_syn, spike_threshold=0.5, record_states=True)
    x = make_input(3, 60, 4, scale=20.0)
    spikes = own(x)
    library(x)
    steps = library_steps(library, x)
    assert list(own.recordings) == list(library.recordings) == list(steps)
    for name, trace in steps.items():
        assert own.recordings[name].shape == library.recordings[name].shape
        assert torch.equal(own.recordings[name], trace), name
    assert torch.equal(library.recordings["b"], own.recordings["b"])
    assert torch.equal(library.recordings["spike_threshold"], own.recordings["spike_threshold"])
    assert torch.equal(library.recordings["v_mem"][:, -1], own.recordings["v_mem"][:, -1])
    before_reset = (
        own.recordings["v_mem"] + spikes * torch.cat([torch.full((3, 1, 4), 0.5), steps["spike_threshold"][:, :-1]], 1)
    )[:, 1:]
    torch.testing.assert_close(library.recordings["v_mem"][:, :-1], before_reset)
    assert not torch.equal(library.recordings["v_mem"], own.recordings["v_mem"])


# --- recurrence ---


CONNECTIONS = [
    ("linear", (6,), lambda: nn.Linear(6, 6)),
    ("flat", (2, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (2, 3)))),
    ("tanh", (6,), lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh())),
    ("last dimension", (2, 6), lambda: nn.Linear(6, 6)),
    ("convolution", (2, 6), lambda: nn.Conv1d(2, 2, 3, padding=1)),
]


@pytest.mark.parametrize(("shape", "connect"), [c[1:] for c in CONNECTIONS], ids=[c[0] for c in CONNECTIONS])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.filterwarnings("ignore:.*rec_connect is called once")
def test_recurrent_spikes_with_exact_weights(shape, connect, tau_syn):
    library, own = pair(
        connect=dyadic(connect()),
        tau_mem=6.0,
        tau_adapt=30.0,
        tau_syn=tau_syn,
        adapt_scale=0.7,
        spike_threshold=0.4,
        norm_input=False,
    )
    x = make_input(4, 150, *shape, scale=1.0)
    spikes = library(x)
    assert torch.equal(spikes, own(x))
    assert_same_state(library, own)
    assert 0.02 < spikes.mean() < 0.9


def test_recurrent_spikes_with_any_weights():
    """The kernel may sum the products of a step in another order than sinabs' matrix product. A spike can differ where v_mem is
    within that rounding (some 1e-7) of the threshold, and what follows in that sequence differs then. A sequence has 200 * 64 such
    decisions over a range of v_mem of about 1: some 12800 * 1e-7 * a few = 0.5 % of the sequences should differ; 3 % may."""
    connect = nn.Linear(64, 64)
    library, own = pair(connect=connect, tau_mem=10.0, tau_adapt=50.0, tau_syn=4.0, spike_threshold=0.3, norm_input=False)
    x = torch.rand(96, 200, 64) * 0.3
    with torch.no_grad():
        spikes, mine = library(x), own(x)
    differs = (spikes != mine).flatten(1).any(1)
    assert differs.sum() <= 3, f"{int(differs.sum())} of 96 sequences differ, by {int((spikes != mine).sum())} spikes"
    assert 0.1 < spikes.mean() < 0.9
    # Where no spike differs, the errors do not grow: each step adds a few 2**-24 of v_mem, and the leak takes a tenth away.
    bound = 10 * 4 * 2**-24 * library.v_mem.abs().max().item()
    torch.testing.assert_close(own.v_mem[~differs], library.v_mem[~differs], rtol=0, atol=bound)


# --- gradients ---


def gradients(layer, x, outputs):
    """Gradients of a random sum of spikes and final states, of everything there is."""
    layer.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    found = {"spikes": layer(x), **{name: getattr(layer, name) for name in STATES}}
    generator = torch.Generator().manual_seed(5)
    loss = sum((found[name] * torch.randn(found[name].shape, generator=generator)).sum() for name in outputs)
    names = ["x", *(name for name, _ in layer.named_parameters())]
    grads = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
    return dict(zip(names, grads, strict=True))


def assert_same_gradients(library, own, x, bound, outputs=("spikes", *STATES)):
    expected, got = gradients(library, x, outputs), gradients(own, x, outputs)
    assert list(got) == list(expected)
    for name, want in expected.items():
        assert (got[name] is None) == (want is None), name
        if want is None:
            continue
        assert got[name].dtype == want.dtype
        error = (got[name] - want).abs().max() / want.abs().max().clamp_min(1e-30)
        assert error < bound, f"{name}: {float(error):.1e}"
        assert want.any(), name


# A gradient is a sum over T * B * N = 30 * 3 * 5 terms in another order, each a product of up to T rounded factors: an error of
# 2**-24 * (30 + sqrt(450)) = 3e-6 of the terms' size, of which the sum may be some thirtieth. In float64 too: sinabs' spikes are
# float32 all the same, and so is a spike's gradient. (test_compat_sinabs.py has a float64 loop of its own, and a bound of 1e-10.)
BOUND = 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.parametrize("train_alphas", [False, True])
@pytest.mark.parametrize("reset_fn", **named(RESETS))
@pytest.mark.parametrize("spike_fn", **named([SPIKE_FNS[0], SPIKE_FNS[1], SPIKE_FNS[3]]))
def test_gradients_of_everything(spike_fn, reset_fn, train_alphas, tau_syn, dtype):
    for norm_input in (True, False):
        library, own = (
            layer.to(dtype)
            for layer in pair(
                spike_fn,
                reset_fn,
                tau_mem=torch.rand(5) * 10 + 5,
                tau_adapt=torch.tensor(12.0),
                tau_syn=tau_syn,
                adapt_scale=nn.Parameter(torch.rand(5)),
                spike_threshold=nn.Parameter(torch.tensor(0.6)),
                min_v_mem=-0.3,
                norm_input=norm_input,
                train_alphas=train_alphas,
            )
        )
        x = make_input(3, 30, 5, dtype=dtype, scale=12.0 if norm_input else 1.0)
        assert_same_gradients(library, own, x, BOUND)
        library.reset_states(), own.reset_states()
        assert_same_gradients(library, own, x, BOUND, ["spikes"])


@pytest.mark.parametrize("surrogate", SURROGATES, ids=[f"{name}{values}" for name, values in SURROGATES])
def test_gradients_of_every_surrogate(surrogate):
    library, own = pair(SPIKE_FNS[1][1], surrogate=surrogate, tau_mem=6.0, tau_adapt=12.0, adapt_scale=0.5, spike_threshold=0.6)
    assert_same_gradients(library, own, make_input(3, 30, 5, scale=12.0), BOUND)


@pytest.mark.parametrize(("shape", "connect"), [c[1:] for c in CONNECTIONS], ids=[c[0] for c in CONNECTIONS])
@pytest.mark.filterwarnings("ignore:.*rec_connect is called once")
def test_gradients_through_recurrence(shape, connect):
    library, own = pair(
        connect=dyadic(connect()),
        tau_mem=6.0,
        tau_adapt=12.0,
        tau_syn=3.0,
        adapt_scale=nn.Parameter(torch.tensor(0.7)),
        spike_threshold=nn.Parameter(torch.tensor(0.4)),
        surrogate=("SingleExponential", {"grad_scale": 0.3}),
        norm_input=False,
    )
    x = make_input(3, 30, *shape, scale=1.0)
    assert_same_gradients(library, own, x, BOUND)


@pytest.mark.parametrize("outputs", [["spikes"], ["v_mem"], ["b"], ["spikes", "b"], ["spike_threshold"]], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("reset_fn", **named(RESETS))
@pytest.mark.parametrize(
    "connect", [None, nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), nn.Tanh())], ids=["none", "linear", "tanh"]
)
@pytest.mark.filterwarnings("ignore:.*rec_connect is called once")
def test_gradient_is_none_where_sinabs_has_none(connect, reset_fn, steps, outputs):
    library, own = pair(
        reset_fn=reset_fn,
        connect=connect,
        tau_mem=6.0,
        tau_adapt=12.0,
        tau_syn=3.0,
        adapt_scale=nn.Parameter(torch.tensor(0.7)),
        spike_threshold=nn.Parameter(torch.tensor(0.4)),
    )
    x = make_input(3, steps, 5, scale=9.0)
    expected, got = gradients(library, x, outputs), gradients(own, x, outputs)
    assert {name: g is None for name, g in got.items()} == {name: g is None for name, g in expected.items()}


@pytest.mark.parametrize("computed", [False, True])
def test_gradient_to_a_parameter_in_sinabs_own_reset(computed):
    """It is no parameter of the layer in either library; the script that made it trains it."""
    grads = []
    for layer_types in (theirs, ours):
        p = nn.Parameter(torch.tensor(0.7))
        layer = layer_types.ALIF(6.0, 12.0, norm_input=False, reset_fn=sa.MembraneSubtract(p * 0.9 if computed else p))
        torch.manual_seed(2)
        x = make_input(3, 30, 5, scale=1.5)
        (layer(x).sum() + layer.v_mem.sum()).backward()
        grads.append(p.grad)
    assert grads[0]
    torch.testing.assert_close(*grads, rtol=BOUND, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
@pytest.mark.parametrize("connect", [None, nn.Linear(4, 4)], ids=["feed-forward", "recurrent"])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_spikes_as_booleans_or_integers(tau_syn, connect, dtype):
    own_weights = connect and dyadic(copy.deepcopy(connect))
    library, own = pair(
        SPIKE_FNS[1][1], RESETS[1][1], connect=own_weights, tau_mem=6.0, tau_adapt=12.0, tau_syn=tau_syn, norm_input=False
    )
    x = (torch.rand(3, 40, 4) * 3).to(dtype)
    spikes = library(x)
    assert spikes.any()
    assert torch.equal(spikes, own(x))
    assert_same_state(library, own)


def test_numpys_numbers():
    kind = numpy.float32
    library, own = pair(
        SPIKE_FNS[3][1],
        RESETS[0][1],
        ("SingleExponential", {"grad_width": kind(0.5), "grad_scale": kind(2)}),
        tau_mem=kind(6),
        tau_adapt=kind(12),
        tau_syn=kind(3),
        adapt_scale=kind(1.5),
        spike_threshold=kind(0.6),
        min_v_mem=kind(-1),
    )
    assert [p.dtype for p in library.parameters()] == [p.dtype for p in own.parameters()]
    x = make_input(3, 30, 5, scale=12.0)
    assert torch.equal(library(x), own(x))
    assert_same_state(library, own)


# --- names ---


@pytest.mark.parametrize("name", ["ALIF", "ALIFRecurrent"])
def test_same_arguments_in_the_same_order(name):
    library = inspect.signature(getattr(theirs, name)).parameters
    own = {key: p for key, p in inspect.signature(getattr(ours, name)).parameters.items() if p.kind is not p.KEYWORD_ONLY}
    assert list(own) == list(library)
    for key, parameter in library.items():
        default = parameter.default
        if key in ("spike_fn", "reset_fn", "surrogate_grad_fn"):
            assert getattr(own[key].default, "__name__", repr(own[key].default)) == getattr(default, "__name__", repr(default))
        else:
            assert own[key].default == default, key


@pytest.mark.parametrize("name", ["ALIF", "ALIFRecurrent"])
def test_every_public_attribute_is_there(name):
    connect = {"rec_connect": nn.Linear(3, 3)} if name == "ALIFRecurrent" else {}
    library, own = (getattr(lib, name)(5.0, 9.0, tau_syn=3.0, **connect) for lib in (theirs, ours))
    for layer in (library, own):
        layer(torch.rand(2, 4, 3))
    missing = {key for key in dir(library) if not key.startswith("__")} - set(dir(own))
    assert missing == set()
    assert set(library.arg_dict) <= set(own.arg_dict)
    for key, value in library.arg_dict.items():
        mine = own.arg_dict[key]
        if key in ("reset_fn", "surrogate_grad_fn"):
            assert repr(mine) == repr(value)
        elif key == "spike_fn":
            assert mine.__name__ == value.__name__
        else:
            assert mine == value, key
    assert own.does_spike
    assert library.does_spike


@pytest.mark.parametrize("name", ["SingleExponential", "MultiGaussian", "Gaussian", "Heaviside", "PeriodicExponential"])
def test_surrogates_are_the_same_functions(name):
    library, own = getattr(sa, name), getattr(ours, name)
    assert repr(own()) == repr(library()) or name == "MultiGaussian"
    assert list(inspect.signature(own).parameters) == list(inspect.signature(library).parameters)
    v = torch.linspace(-3, 6, 500, dtype=torch.float64)
    for threshold in (0.7, torch.tensor(1.3, dtype=torch.float64), torch.rand(500, dtype=torch.float64) + 0.5):
        # sinabs' gaussians take pi from a float32 tensor, and its Heaviside is float32.
        expected = library()(v_mem=v, spike_threshold=threshold).double()
        torch.testing.assert_close(own()(v_mem=v, spike_threshold=threshold), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spike_fn", **named(SPIKE_FNS))
def test_spike_functions_are_the_same_functions(spike_fn):
    results = []
    for lib in (sa, ours):
        v = torch.linspace(-3, 6, 500, requires_grad=True)
        function = spike_fn(lib)
        spikes = function.apply(v, torch.tensor(0.6), sa.Gaussian())
        spikes.square().sum().backward()
        results.append((spikes, v.grad, list(function.required_states)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


@pytest.mark.parametrize("reset_fn", **named(RESETS))
def test_resets_are_the_same_functions(reset_fn):
    state = {"v_mem": torch.rand(50) * 3, "b": torch.rand(50)}
    spikes = torch.randint(0, 3, (50,)).float()
    library, own = reset_fn(sa)(spikes, state, 0.7), reset_fn(ours)(spikes, state, 0.7)
    assert torch.equal(library["v_mem"], own["v_mem"])
    assert own["b"] is state["b"]
    assert repr(reset_fn(sa)) == repr(reset_fn(ours))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=[f"{name}{values}" for name, values in SURROGATES])
def test_sinabs_own_objects_are_taken(surrogate):
    name, values = surrogate
    layers = [
        ours.ALIF(
            5.0,
            9.0,
            spike_fn=lib.MaxSpike(2),
            reset_fn=lib.MembraneSubtract(0.5),
            surrogate_grad_fn=getattr(lib, name)(**values),
        )
        for lib in (sa, ours)
    ]
    x = make_input(2, 20, 3, scale=20.0)
    a, b = (gradients(layer, x, ["spikes"]) for layer in layers)
    assert torch.equal(a["x"], b["x"])
    assert torch.equal(ours.ALIF(5.0, 9.0, spike_fn=sa.MultiSpike)(x), ours.ALIF(5.0, 9.0, spike_fn=ours.MultiSpike)(x))


@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.parametrize("train_alphas", [False, True])
@pytest.mark.parametrize("connect", [None, nn.Linear(4, 4)], ids=["feed-forward", "recurrent"])
def test_state_dicts_load_both_ways(connect, train_alphas, tau_syn):
    arguments = dict(
        connect=connect,
        tau_mem=6.0,
        tau_adapt=12.0,
        tau_syn=tau_syn,
        train_alphas=train_alphas,
        adapt_scale=nn.Parameter(torch.rand(4)),
    )
    library, _ = pair(**arguments)
    other, own = pair(**arguments | {"tau_mem": 9.0, "adapt_scale": nn.Parameter(torch.rand(4))})
    x = make_input(2, 10, 4, scale=9.0)
    library(x)
    saved = library.state_dict()
    own.load_state_dict(saved)  # into a layer that has not run: its states take the shapes saved
    assert list(own.state_dict()) == list(saved)
    for key, value in saved.items():
        assert torch.equal(own.state_dict()[key], value), key
    other(x)  # sinabs loads only states of the shape that it has
    other.load_state_dict(own.state_dict())
    for key, value in saved.items():
        assert torch.equal(other.state_dict()[key], value), key


# --- where we differ, and why ---


def test_i_syn_is_kept_between_calls_where_sinabs_forgets_it():
    library, own = pair(tau_mem=6.0, tau_adapt=12.0, tau_syn=5.0)
    x = make_input(2, 40, 4, scale=30.0)
    whole = own(x)
    own.reset_states()
    assert torch.equal(torch.cat([own(x[:, :20]), own(x[:, 20:])], 1), whole)
    assert own.i_syn.any()
    assert not torch.equal(torch.cat([library(x[:, :20]), library(x[:, 20:])], 1), whole)
    assert not library.i_syn.any()


def test_reset_to_a_value_moves_only_neurons_that_spiked():
    library, own = pair(reset_fn=lambda lib: lib.MembraneReset(reset_value=-0.2), tau_mem=6.0, tau_adapt=12.0)
    x = torch.zeros(1, 3, 4)
    library(x), own(x)
    assert not own.v_mem.any()  # no input, no spike
    assert (library.v_mem < -0.3).all()  # sinabs adds -0.2 in every step


def test_spikes_have_the_inputs_dtype():
    library, own = pair(tau_mem=6.0, tau_adapt=12.0)
    for dtype in (torch.float64, torch.bfloat16):
        library.reset_states(), own.reset_states()
        x = make_input(2, 10, 4, dtype=dtype)
        assert library(x).dtype == torch.float32
        assert own(x).dtype == dtype
        own.float()


def test_copies_keep_all_arguments_and_leave_the_original_alone():
    library, own = pair(tau_mem=6.0, tau_adapt=12.0, norm_input=False)
    assert copy.deepcopy(library).norm_input  # sinabs forgets it
    assert not copy.deepcopy(own).norm_input
    library, own = pair(tau_mem=6.0, tau_adapt=12.0, tau_syn=3.0, train_alphas=True)
    copy.deepcopy(library), copy.deepcopy(own)
    assert not library.alpha_mem.requires_grad  # sinabs freezes the original
    assert own.alpha_mem.requires_grad
    library, own = pair(connect=nn.Linear(3, 3), tau_mem=6.0, tau_adapt=12.0)
    with pytest.raises(TypeError, match="rec_connect"):
        copy.deepcopy(library)
    assert copy.deepcopy(own).rec_connect is not own.rec_connect


def test_arguments_that_only_ours_takes():
    with pytest.raises(RuntimeError):
        theirs.ALIF(20, 100)  # whole numbers
    with pytest.raises(RuntimeError):
        theirs.ALIF(20.0, 100.0, torch.ones(3))  # a synaptic time constant for each neuron
    assert ours.ALIF(20, 100, torch.ones(3))(torch.rand(2, 4, 3)).shape == (2, 4, 3)
    library, own = pair(tau_mem=20.0, tau_adapt=100.0)
    with pytest.raises(RuntimeError):
        library(torch.rand(2, 0, 3))
    assert own(torch.rand(2, 0, 3)).shape == (2, 0, 3)
    stateful = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))  # buffers inside rec_connect
    library, own = pair(connect=stateful, tau_mem=20.0, tau_adapt=100.0)
    with pytest.raises(KeyError):
        library(torch.rand(2, 4, 3))
    with pytest.warns(UserWarning, match="called once a time step"):
        assert own(torch.rand(2, 4, 3)).shape == (2, 4, 3)


def test_helpers_for_a_whole_model_reach_both_libraries_layers():
    model = nn.Sequential(*pair(tau_mem=6.0, tau_adapt=12.0), *pair(connect=nn.Linear(3, 3), tau_mem=6.0, tau_adapt=12.0))
    x = make_input(2, 10, 3, scale=30.0)
    model(x)
    model[0].v_mem += 1
    sinabs.reset_states(model)
    assert not model[0].v_mem.any()
    model(x)
    for layer in model:
        layer.detach_states() if hasattr(layer, "detach_states") else layer.zero_grad()
        layer.v_mem += 1
    sinabs.reset_states(model)
    assert [bool(layer.v_mem.any()) for layer in model] == [False, True, True, True]  # neither ours nor its own with children
    ours.reset_states(model)
    assert not any(layer.v_mem.any() for layer in model)
    model(x)
    ours.zero_grad(model)
    assert not any(layer.v_mem.requires_grad for layer in model)

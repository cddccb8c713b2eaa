"""torch_lif.compat.sinabs beside sinabs itself: names, arguments, attributes, state dicts, and where the two differ."""

import copy
import inspect

import pytest
import torch
from torch import nn

sinabs = pytest.importorskip("sinabs")
import sinabs.activation as sa  # noqa: E402
import sinabs.layers as theirs  # noqa: E402
from sinabs_pairs import RESETS, SPIKE_FNS, SURROGATES, gradients, make_input, named, pair  # noqa: E402

from torch_lif.compat import sinabs as ours  # noqa: E402


@pytest.fixture(autouse=True)
def _same_numbers_every_run():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ["ALIF", "ALIFRecurrent"])
def test_same_arguments_in_the_same_order(name):
    library = inspect.signature(getattr(theirs, name)).parameters
    own = {
        key: p for key, p in inspect.signature(getattr(ours, name)).parameters.items() if p.kind is not p.KEYWORD_ONLY
    }
    assert list(own) == list(library)
    for key, parameter in library.items():
        default = parameter.default
        if key in ("spike_fn", "reset_fn", "surrogate_grad_fn"):
            assert getattr(own[key].default, "__name__", repr(own[key].default)) == getattr(
                default, "__name__", repr(default)
            )
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
    model = nn.Sequential(
        *pair(tau_mem=6.0, tau_adapt=12.0), *pair(connect=nn.Linear(3, 3), tau_mem=6.0, tau_adapt=12.0)
    )
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
    assert [bool(layer.v_mem.any()) for layer in model] == [
        False,
        True,
        True,
        True,
    ]  # neither ours nor its own with children
    ours.reset_states(model)
    assert not any(layer.v_mem.any() for layer in model)
    model(x)
    ours.zero_grad(model)
    assert not any(layer.v_mem.requires_grad for layer in model)

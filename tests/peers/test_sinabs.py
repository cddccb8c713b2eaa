"""torch_lif.compat.sinabs beside sinabs itself: spikes, states and gradients of the same random cases."""

import copy

import numpy
import pytest
import torch
from torch import nn

sinabs = pytest.importorskip("sinabs")
import sinabs.activation as sa  # noqa: E402
import sinabs.layers as theirs  # noqa: E402
from sinabs.layers.functional.alif import alif_forward_single  # noqa: E402
from sinabs_pairs import (  # noqa: E402
    RESETS,
    SPIKE_FNS,
    STATES,
    SURROGATES,
    assert_same_state,
    dyadic,
    gradients,
    make_input,
    named,
    pair,
)

from torch_lif.compat import sinabs as ours  # noqa: E402


@pytest.fixture(autouse=True)
def _same_numbers_every_run():
    torch.manual_seed(0)


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
    """Keys and shapes are sinabs'. Its own recordings of v_mem and i_syn are those of the step after, v_mem before the
    reset: it keeps dictionaries that its next step writes into."""
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
    """The kernel may sum the products of a step in another order than sinabs' matrix product. A spike can differ where
    v_mem is within that rounding (some 1e-7) of the threshold, and what follows in that sequence differs then. A
    sequence has 200 * 64 such decisions over a range of v_mem of about 1: some 12800 * 1e-7 * a few = 0.5 % of the
    sequences should differ; 3 % may."""
    connect = nn.Linear(64, 64)
    library, own = pair(
        connect=connect, tau_mem=10.0, tau_adapt=50.0, tau_syn=4.0, spike_threshold=0.3, norm_input=False
    )
    x = torch.rand(96, 200, 64) * 0.3
    with torch.no_grad():
        spikes, mine = library(x), own(x)
    differs = (spikes != mine).flatten(1).any(1)
    assert differs.sum() <= 3, f"{int(differs.sum())} of 96 sequences differ, by {int((spikes != mine).sum())} spikes"
    assert 0.1 < spikes.mean() < 0.9
    # Where no spike differs, the errors do not grow: each step adds a few 2**-24 of v_mem, and the leak takes a tenth
    # away.
    bound = 10 * 4 * 2**-24 * library.v_mem.abs().max().item()
    torch.testing.assert_close(own.v_mem[~differs], library.v_mem[~differs], rtol=0, atol=bound)


# --- gradients ---


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


# A gradient is a sum over T * B * N = 30 * 3 * 5 terms in another order, each a product of up to T rounded factors: an
# error of 2**-24 * (30 + sqrt(450)) = 3e-6 of the terms' size, of which the sum may be some thirtieth. In float64 too:
# sinabs' spikes are float32 all the same, and so is a spike's gradient. (test_compat_sinabs.py has a float64 loop of
# its own, and a bound of 1e-10.)
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
    library, own = pair(
        SPIKE_FNS[1][1], surrogate=surrogate, tau_mem=6.0, tau_adapt=12.0, adapt_scale=0.5, spike_threshold=0.6
    )
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
        SPIKE_FNS[1][1],
        RESETS[1][1],
        connect=own_weights,
        tau_mem=6.0,
        tau_adapt=12.0,
        tau_syn=tau_syn,
        norm_input=False,
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

"""torch_lif.compat.sinabs: state between calls, the layers as objects, errors. The equations are in
test_compat_sinabs.py."""

import copy
import dataclasses
import inspect
import io
import pickle
import warnings
import weakref

import numpy
import pytest
import torch
from test_compat_sinabs import TIME_CONSTANTS, dyadic, eager, make_input
from torch import nn

from torch_lif.compat import sinabs as sl

# --- state ---


@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_state_is_kept_between_calls(tau_syn, device):
    x = make_input(3, 40, 5, device=device, high=9.0)
    whole, parts = (sl.ALIF(**TIME_CONSTANTS, tau_syn=tau_syn).to(device) for _ in range(2))
    spikes = whole(x)
    assert torch.equal(torch.cat([parts(x[:, :13]), parts(x[:, 13:14]), parts(x[:, 14:])], 1), spikes)
    for name, buffer in whole.named_buffers():
        assert torch.equal(getattr(parts, name), buffer)
    torch.testing.assert_close(whole.firing_rate, spikes.sum() / spikes.numel())


def test_recurrent_input_is_none_at_the_start_of_every_call():
    layer, x = sl.ALIFRecurrent(5.0, 20.0, dyadic(nn.Linear(6, 6)), 3.0, 0.5, 0.3), make_input(2, 30, 6)
    first, traces = eager(layer, x[:, :15])
    second, _ = eager(layer, x[:, 15:], [traces[name][:, -1] for name in ("v_mem", "i_syn", "b")])
    assert torch.equal(torch.cat([layer(x[:, :15]), layer(x[:, 15:])], 1), torch.cat([first, second], 1))
    layer.reset_states()
    assert not torch.equal(layer(x), torch.cat([first, second], 1))


def test_another_batch_size_starts_anew():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(4, 30, 5)
    layer(x)
    assert torch.equal(layer(x[:3]), sl.ALIF(**TIME_CONSTANTS)(x[:3]))
    assert layer.shape == (3, 5)
    assert torch.equal(layer(x[..., :2]), sl.ALIF(**TIME_CONSTANTS)(x[..., :2]))


def test_states_stay_attached_until_detached():
    layer, x = sl.ALIF(**TIME_CONSTANTS, tau_syn=3.0), make_input(2, 10, 4, high=9.0).requires_grad_()
    layer(x)
    layer(x.detach()).sum().backward()
    assert x.grad.any()  # through the state, into the first call
    for end in (layer.detach_states, layer.reset_states, layer.zero_grad):
        layer(x)
        before = [buffer.clone() for buffer in layer.buffers()]
        end()
        assert not any(buffer.requires_grad for buffer in layer.buffers())
        kept = [torch.equal(a, b) for a, b in zip(before, layer.buffers(), strict=True)]
        assert all(kept) == (end != layer.reset_states)
        x.grad = None
        layer(x.detach()).sum().backward()
        assert x.grad is None
        layer.detach_states()


def test_second_backward_without_detaching_is_an_error():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    layer(x).sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        layer(x).sum().backward()


def test_zero_grad_keeps_or_removes_gradients():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    layer(x).sum().backward()
    assert layer.tau_mem.grad.any()
    layer.zero_grad()
    assert not layer.tau_mem.grad.any()
    layer.zero_grad(set_to_none=True)
    assert layer.tau_mem.grad is None


def test_random_states():
    layer = sl.ALIF(**TIME_CONSTANTS, tau_syn=3.0)
    layer.reset_states(randomize=True)
    assert layer.shape is None
    layer(make_input(50, 5, 40))
    torch.manual_seed(1)
    layer.reset_states(randomize=True, value_ranges={"v_mem": (-2.0, 3.0), "b": (5.0, 5.5), "unknown": (1.0, 2.0)})
    for name, low, high in (("v_mem", -2, 3), ("i_syn", 0, 1), ("b", 5, 5.5), ("spike_threshold", 0, 1)):
        state = getattr(layer, name)
        assert low <= state.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < state.max() <= high
    layer.init_state_with_shape((2, 3), randomize=True)
    assert layer.shape == (2, 3)
    assert layer.v_mem.any()
    layer.reset_states()
    assert not any(buffer.any() for buffer in layer.buffers())


def test_shape_of_the_states():
    layer = sl.ALIF(**TIME_CONSTANTS, shape=(2, 3, 4))
    assert layer.is_state_initialised()
    assert layer.shape == (2, 3, 4)
    assert layer.state_has_shape((2, 3, 4))
    assert not layer.state_has_shape((2, 3))
    assert layer.has_trailing_dimension((3, 4))
    assert not layer.has_trailing_dimension((3, 3))
    layer.v_mem += torch.arange(2.0).reshape(2, 1, 1)
    layer.handle_state_batch_size_mismatch(50)
    assert layer.shape == (50, 3, 4)
    assert set(layer.v_mem.flatten().tolist()) == {0.0, 1.0}
    assert sl.ALIF(**TIME_CONSTANTS).shape is None
    assert not sl.ALIF(**TIME_CONSTANTS).is_state_initialised()


def test_states_can_be_set_as_sinabs_documents():
    layer, x = sl.ALIF(**TIME_CONSTANTS, reset_fn=sl.MembraneReset()), make_input(2, 10, 4)
    layer(x)
    layer.v_mem.data = torch.full((2, 4), 0.5)
    layer.v_mem.detach_()
    state = [torch.full((2, 4), 0.5), torch.zeros(2, 4), layer.b.detach()]
    assert torch.equal(layer(x), eager(layer, x, state)[0])


def test_helpers_for_a_whole_model():
    class Foreign(nn.Module):  # a layer with state of another library
        was_reset = False

        def is_state_initialised(self):
            return True

        def reset_states(self):
            self.was_reset = True

    recurrent = sl.ALIFRecurrent(5.0, 9.0, nn.Linear(3, 3))
    model = nn.Sequential(nn.Linear(3, 3), sl.ALIF(5.0, 9.0), nn.Sequential(recurrent, nn.ReLU()))
    model(make_input(2, 10, 3)).sum().backward()
    sl.zero_grad(model)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    assert not model[1].tau_mem.grad.any()
    assert recurrent.v_mem.any()
    foreign = Foreign()
    sl.reset_states(nn.ModuleList([model, foreign]))
    assert foreign.was_reset
    assert not any(buffer.any() for buffer in model.buffers())
    model(make_input(2, 10, 3))
    sl.reset_states(recurrent)
    assert not recurrent.v_mem.any()


# --- the firing rate, computed when it is read ---


def test_firing_rate_takes_part_in_a_loss():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    assert not hasattr(layer, "firing_rate")
    grads = []
    for read in (lambda spikes: layer.firing_rate, torch.mean):
        layer.zero_grad(set_to_none=True)
        layer.reset_states()
        spikes = layer(x)
        layer.reset_states()  # ends the states' graph alone: no backward pass has gone through the call yet
        rate = read(spikes)
        assert 0 < rate == spikes.sum() / spikes.numel()
        (3 * rate).backward()
        grads.append(layer.tau_mem.grad)
    assert grads[0]
    assert torch.equal(*grads)


@pytest.mark.parametrize("end", ["reset_states", "detach_states", "zero_grad"])
def test_what_a_call_leaves_is_detached_after_its_backward_pass(end):
    layer, x = sl.ALIF(**TIME_CONSTANTS, record_states=True), make_input(2, 10, 4, high=9.0)
    spikes = layer(x)
    rate, recorded = layer.firing_rate.item(), layer.recordings["v_mem"].detach()
    getattr(layer, end)()
    assert layer.firing_rate.requires_grad
    assert layer.recordings["v_mem"].requires_grad
    spikes.sum().backward()
    getattr(layer, end)()
    assert not layer.firing_rate.requires_grad
    assert layer.firing_rate == rate
    assert not any(record.requires_grad for record in layer.recordings.values())
    assert torch.equal(layer.recordings["v_mem"], recorded)


def test_firing_rate_of_spikes_that_were_changed():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    spikes = layer(x)
    spikes.mul_(2)
    with pytest.raises(
        RuntimeError, match="the last call's spikes have been changed in place, expected them unchanged"
    ):
        layer.firing_rate  # noqa: B018
    assert not hasattr(copy.deepcopy(layer), "firing_rate")
    spikes = layer(x)
    before = layer.firing_rate
    spikes.mul_(2)
    assert before > 0
    layer.firing_rate = torch.tensor(0.25)
    assert layer.firing_rate == 0.25


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_in_inference_a_layer_does_not_hold_its_output(mode):
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    with mode():
        spikes = layer(x)
        expected, held = spikes.mean(), weakref.ref(spikes)
        del spikes
        assert held() is None
        assert layer.firing_rate == expected


@pytest.mark.parametrize("train", [False, True])
def test_firing_rate_in_copies(train):
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    with torch.set_grad_enabled(train):
        layer(x)
    stream = pickle.dumps(layer)
    assert len(stream) < len(pickle.dumps(layer(make_input(2, 5000, 4)))), "the rate is written, not the spikes"
    for other in (pickle.loads(stream), copy.deepcopy(layer)):
        assert other.firing_rate.shape == ()
        assert other.firing_rate > 0
    assert "firing_rate" not in layer.state_dict()


# --- the layer as an object ---


LIBRARY_KEYS = {
    (None, False): ["tau_mem", "tau_adapt", "v_mem", "b", "spike_threshold"],
    (3.0, False): ["tau_mem", "tau_adapt", "tau_syn", "v_mem", "i_syn", "b", "spike_threshold"],
    (None, True): ["alpha_mem", "alpha_adapt", "v_mem", "b", "spike_threshold"],
    (3.0, True): ["alpha_mem", "alpha_adapt", "alpha_syn", "v_mem", "i_syn", "b", "spike_threshold"],
}


@pytest.mark.parametrize(("tau_syn", "train_alphas"), LIBRARY_KEYS)
@pytest.mark.parametrize("state_shape", [(0,), (2, 3)])
def test_state_dict_has_sinabs_keys_and_loads_any_state(tau_syn, train_alphas, state_shape):
    keys = LIBRARY_KEYS[tau_syn, train_alphas]
    saved = {key: torch.rand(state_shape if key in ("v_mem", "i_syn", "b", "spike_threshold") else ()) for key in keys}
    saved |= {"rec_connect.weight": torch.rand(3, 3), "rec_connect.bias": torch.rand(3)}
    layer = sl.ALIFRecurrent(5.0, 9.0, nn.Linear(3, 3), tau_syn, train_alphas=train_alphas)
    assert list(layer.state_dict()) == list(saved)
    layer(make_input(4, 5, 3))
    assert layer.load_state_dict(saved).missing_keys == []
    for key, value in saved.items():
        assert torch.equal(layer.state_dict()[key], value)
    assert layer.is_state_initialised() == (state_shape != (0,))
    assert layer(make_input(2, 5, 3)).shape == (2, 5, 3)


def test_loading_a_state_does_not_write_into_a_graph():
    layer, x = sl.ALIF(**TIME_CONSTANTS), make_input(2, 10, 4, high=9.0)
    layer(x)
    spikes = layer(x)
    saved = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.load_state_dict(saved)
    spikes.sum().backward()
    assert torch.equal(layer.v_mem, saved["v_mem"])


@pytest.mark.parametrize("train_alphas", [False, True])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "arg_dict"])
def test_copies_are_the_same_layer(way, train_alphas):
    layer = sl.ALIFRecurrent(
        torch.rand(4) * 5 + 5,
        9.0,
        dyadic(nn.Linear(4, 4)),
        3.0,
        nn.Parameter(torch.tensor(0.7)),
        spike_threshold=0.4,
        spike_fn=sl.MaxSpike(2),
        reset_fn=sl.MembraneReset(0.1),
        surrogate_grad_fn=sl.Gaussian(0.1),
        min_v_mem=-0.5,
        norm_input=False,
        train_alphas=train_alphas,
        record_states=True,
        zero_adaptation=True,
    )
    x = make_input(2, 30, 4)
    layer(x).sum().backward()
    if way == "deepcopy":
        other = copy.deepcopy(layer)
    elif way == "pickle":
        stream = io.BytesIO()
        torch.save(copy.deepcopy(layer), stream)
        stream.seek(0)
        other = torch.load(stream, weights_only=False)
    else:
        other = sl.ALIFRecurrent(**layer.arg_dict)
        other.load_state_dict(layer.state_dict())
    assert all(p.requires_grad for p in layer.parameters())
    assert not any(buffer.requires_grad for buffer in other.buffers())
    assert layer.v_mem.requires_grad
    assert [p.data_ptr() for p in other.parameters()] != [p.data_ptr() for p in layer.parameters()]
    for name, value in layer.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    layer.detach_states()
    assert torch.equal(other(x), layer(x))
    assert repr(other) == repr(layer)


def test_a_layer_can_be_saved_after_a_call():
    layer = sl.ALIF(5.0, 9.0, reset_fn=sl.MembraneReset())
    layer(make_input(2, 5, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = pickle.loads(pickle.dumps(layer))
    assert torch.equal(other.v_mem, layer.v_mem)


@pytest.mark.parametrize("layer", [sl.ALIF, sl.ALIFRecurrent])
def test_arguments_are_sinabs_in_order_with_its_defaults(layer):
    expected = {
        "tau_mem": inspect.Parameter.empty,
        "tau_adapt": inspect.Parameter.empty,
        **({"rec_connect": inspect.Parameter.empty} if layer is sl.ALIFRecurrent else {}),
        "tau_syn": None,
        "adapt_scale": 1.8,
        "spike_threshold": 1.0,
        "spike_fn": sl.SingleSpike,
        "reset_fn": sl.MembraneSubtract(subtract_value=None),
        "surrogate_grad_fn": sl.SingleExponential(grad_width=0.5, grad_scale=1.0),
        "min_v_mem": None,
        "shape": None,
        "train_alphas": False,
        "norm_input": True,
        "record_states": False,
    }
    signature = inspect.signature(layer).parameters
    positional = {name: p.default for name, p in signature.items() if p.kind is not p.KEYWORD_ONLY}
    assert list(positional) == list(expected)
    assert positional == expected
    assert [name for name, p in signature.items() if p.kind is p.KEYWORD_ONLY] == ["zero_adaptation"]


def test_time_constants_or_decays_are_the_parameters():
    layer = sl.ALIF(20.0, 100)
    assert dict(layer.named_parameters()).keys() == {"tau_mem", "tau_adapt"}
    assert layer.tau_syn is None
    assert layer.alpha_syn_calculated is None
    assert torch.equal(layer.alpha_mem_calculated, torch.exp(-1 / torch.tensor(20.0)))
    assert torch.equal(layer.alpha_adapt_calculated, torch.exp(-1 / torch.tensor(100.0)))
    layer = sl.ALIF(20.0, 100.0, 5.0, train_alphas=True)
    assert dict(layer.named_parameters()).keys() == {"alpha_mem", "alpha_adapt", "alpha_syn"}
    assert layer.alpha_mem_calculated is layer.alpha_mem
    assert layer.arg_dict["tau_mem"].item() == pytest.approx(20.0, rel=1e-5)
    assert layer.alpha_mem.requires_grad
    given = torch.rand(3) + 1
    layer = sl.ALIF(given, 100.0)
    with torch.no_grad():
        layer.tau_mem.zero_()
    assert given.all()
    assert layer.does_spike
    assert not sl.StatefulLayer(["v_mem"]).does_spike


def test_repr():
    text = repr(sl.ALIFRecurrent(20.0, torch.rand(3) + 1, nn.Linear(3, 3), spike_fn=sl.MultiSpike, min_v_mem=-1.0))
    assert "tau_mem=20, tau_adapt=<(3,)>, adapt_scale=1.8, spike_threshold=1, min_v_mem=-1, norm_input=True" in text
    assert "spike_fn=MultiSpike, reset_fn=MembraneSubtract(subtract_value=None)" in text
    assert "(rec_connect): Linear(in_features=3, out_features=3, bias=True)" in text
    assert "tau_syn=5, " in repr(sl.ALIF(20.0, 100.0, 5.0))


def test_tensors_that_are_no_parameters_follow_the_layer():
    layer = sl.ALIF(
        20.0, 100.0, adapt_scale=torch.ones(3), spike_threshold=torch.ones(3), min_v_mem=-torch.ones(3)
    ).double()
    assert {layer.adapt_scale.dtype, layer.b0.dtype, layer.min_v_mem.dtype, layer.v_mem.dtype} == {torch.float64}
    assert layer.to("meta").adapt_scale.is_meta


def test_in_a_model_trained_for_some_steps():
    model = nn.Sequential(
        nn.Linear(4, 8), sl.ALIFRecurrent(5.0, 20.0, nn.Linear(8, 8), spike_threshold=0.3), nn.Linear(8, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x, y = torch.rand(16, 20, 4), torch.randint(0, 2, (16,))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        sl.reset_states(model)
        loss = nn.functional.cross_entropy(model(x).mean(1), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_compiles():
    layer, x = sl.ALIF(**TIME_CONSTANTS, tau_syn=3.0), make_input(2, 10, 4, high=9.0)
    expected = layer(x)
    layer.reset_states()
    assert torch.equal(torch.compile(layer, backend="aot_eager")(x), expected)


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize(("name", "field"), [("MembraneSubtract", "subtract_value"), ("MembraneReset", "reset_value")])
def test_a_parameter_in_sinabs_own_reset_is_trained(name, field, computed):
    """An object of sinabs itself is known by name; what is in it is used as it is."""
    foreign = dataclasses.make_dataclass(name, [(field, object)])
    foreign.__module__ = "sinabs.activation.reset_mechanism"
    x, grads = make_input(2, 30, 3, high=9.0), []
    for kind in (foreign, getattr(sl, name)):
        value = nn.Parameter(torch.tensor(0.7))
        layer = sl.ALIF(10.0, 20.0, norm_input=False, reset_fn=kind(2 * value if computed else value))
        (layer(x).sum() + layer.v_mem.sum()).backward()
        grads.append(value.grad)
    assert grads[0]
    assert torch.equal(*grads)


@pytest.mark.parametrize("kind", [numpy.float32, numpy.float64, numpy.int64])
def test_numpys_numbers(kind):
    """Wherever sinabs takes a number."""
    given = {"adapt_scale": kind(2), "spike_threshold": kind(1), "min_v_mem": kind(-3), "tau_syn": kind(4)}
    usual = {name: float(value) for name, value in given.items()}
    x = make_input(2, 30, 3, high=9.0)
    outs = []
    for one, number in ((given, kind), (usual, float)):
        layer = sl.ALIF(
            number(5),
            number(20),
            **one,
            spike_fn=sl.MaxSpike(number(2)),
            reset_fn=sl.MembraneSubtract(number(1)),
            surrogate_grad_fn=sl.SingleExponential(number(1), number(2)),
        ).float()
        outs.append((layer(x), layer.v_mem))
    assert all(map(torch.equal, *outs))
    assert outs[0][0].any()
    reset = sl.ALIF(5.0, 20.0, reset_fn=sl.MembraneReset(kind(-1)))
    assert torch.equal(reset(x), sl.ALIF(5.0, 20.0, reset_fn=sl.MembraneReset(-1.0))(x))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
@pytest.mark.parametrize("connect", [None, nn.Linear(3, 3)], ids=["feed-forward", "recurrent"])
def test_spikes_as_booleans_or_integers(connect, dtype):
    """They take the states' dtype."""
    x = (torch.rand(2, 20, 3) > 0.4).to(dtype)
    for wide in (torch.float32, torch.float64):
        layers = [
            (
                sl.ALIF(3.0, 9.0, norm_input=False)
                if connect is None
                else sl.ALIFRecurrent(3.0, 9.0, copy.deepcopy(connect), norm_input=False)
            ).to(wide)
            for _ in range(2)
        ]
        for _ in range(2):
            out, expected = layers[0](x), layers[1](x.to(wide))
            assert out.dtype == wide
            assert torch.equal(out, expected)
            assert torch.equal(layers[0].v_mem, layers[1].v_mem)
        assert out.any()


# --- errors ---


BAD_ARGUMENTS = [
    (TypeError, "ALIF: tau_mem is 'slow', expected a number or a tensor", {"tau_mem": "slow"}),
    (ValueError, "ALIF: tau_mem is 0.0, expected time steps above 0", {"tau_mem": 0.0}),
    (
        ValueError,
        r"tau_adapt is tensor\(\[ 1., -1.\]\), expected time steps above 0",
        {"tau_adapt": torch.tensor([1.0, -1.0])},
    ),
    (ValueError, "tau_syn is 0, expected time steps above 0, or None", {"tau_syn": 0}),
    (ValueError, "tau_syn is nan", {"tau_syn": float("nan")}),
    (TypeError, "adapt_scale is None, expected a number", {"adapt_scale": None}),
    (TypeError, "spike_threshold is True, expected a number", {"spike_threshold": True}),
    (ValueError, "spike_threshold is -1, expected a number above 0", {"spike_threshold": -1}),
    (TypeError, r"min_v_mem is \[1\], expected a number", {"min_v_mem": [1]}),
    (TypeError, "spike_fn is None, expected SingleSpike, MultiSpike or MaxSpike", {"spike_fn": None}),
    (TypeError, r"spike_fn is the class MaxSpike, expected an object of it: MaxSpike\(\)", {"spike_fn": sl.MaxSpike}),
    (TypeError, "spike_fn is <built-in function round>, .* the kernel has no other", {"spike_fn": round}),
    (TypeError, "reset_fn is <built-in function round>, expected MembraneSubtract", {"reset_fn": round}),
    (TypeError, "reset_fn is <class .*MembraneReset", {"reset_fn": sl.MembraneReset}),
    (TypeError, r"surrogate_grad_fn is the class Gaussian, .*Gaussian\(\)", {"surrogate_grad_fn": sl.Gaussian}),
    (
        TypeError,
        "surrogate_grad_fn is <built-in function round>, expected SingleExponential",
        {"surrogate_grad_fn": round},
    ),
]


@pytest.mark.parametrize(("error", "message", "changes"), BAD_ARGUMENTS, ids=[m for _, m, _ in BAD_ARGUMENTS])
def test_bad_arguments(error, message, changes):
    with pytest.raises(error, match=message):
        sl.ALIF(**TIME_CONSTANTS | changes)


BAD_INPUTS = [
    (TypeError, "input_data is a list, expected a tensor", [1.0], {}),
    (ValueError, r"input_data has shape \(3,\), expected \(batch, time, \*neurons\)", torch.rand(3), {}),
    (TypeError, "input_data is torch.complex64, expected real values", torch.ones(2, 5, 3, dtype=torch.complex64), {}),
    (
        ValueError,
        r"tau_mem has shape \(2,\), expected one that broadcasts against \(3,\)",
        torch.rand(2, 5, 3),
        {"tau_mem": torch.ones(2)},
    ),
    (ValueError, r"min_v_mem has shape \(2, 3\)", torch.rand(2, 5, 3), {"min_v_mem": torch.ones(2, 3)}),
    (ValueError, r"adapt_scale has shape \(4, 3\)", torch.rand(2, 5, 3), {"adapt_scale": torch.ones(4, 3)}),
    (ValueError, "state v_mem is on cpu but input_data is on meta", torch.rand(2, 5, 3, device="meta"), {}),
    (
        TypeError,
        "decay_mem is Double, expected Float",
        torch.rand(2, 5, 3),
        {"tau_mem": torch.ones(3, dtype=torch.float64)},
    ),
]


@pytest.mark.parametrize(("error", "message", "x", "changes"), BAD_INPUTS, ids=[m for _, m, _, _ in BAD_INPUTS])
def test_bad_inputs(error, message, x, changes):
    layer = sl.ALIF(**TIME_CONSTANTS | changes)
    with pytest.raises(error, match=message):
        layer(x)


def test_state_of_more_bits_than_the_input():
    layer = sl.ALIF(**TIME_CONSTANTS)
    layer(torch.rand(2, 5, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"state v_mem is torch.float64, expected torch.float32 .* convert the layer"):
        layer(torch.rand(2, 5, 3))
    assert layer.float()(torch.rand(2, 5, 3)).dtype == torch.float32


BAD_CONNECTIONS = [
    (TypeError, "rec_connect is 3, expected a module", 3),
    (TypeError, "rec_connect is <class .*Linear", nn.Linear),
    (ValueError, r"the Linear in rec_connect takes 4 inputs, expected 6 for neurons of shape \(6,\)", nn.Linear(4, 6)),
    (ValueError, r"rec_connect gives shape \(2, 4\) for spikes of shape \(2, 6\)", nn.Linear(6, 4)),
    (
        ValueError,
        r"rec_connect gives shape \(2, 4\) for spikes of shape \(2, 6\)",
        nn.Sequential(nn.Linear(6, 4), nn.ReLU()),
    ),
    (TypeError, "rec_connect gives a list", lambda spikes: [spikes]),
    (TypeError, "rec_connect gives torch.float64 values, expected torch.float32", lambda spikes: spikes.double()),
    (ValueError, "w_rec is on meta but x is on cpu", nn.Linear(6, 6, device="meta")),
]


@pytest.mark.parametrize(("error", "message", "connect"), BAD_CONNECTIONS, ids=[m for _, m, _ in BAD_CONNECTIONS])
@pytest.mark.filterwarnings("ignore:ALIFRecurrent")
def test_bad_connections(error, message, connect):
    with pytest.raises(error, match=message):
        sl.ALIFRecurrent(5.0, 9.0, connect)(torch.rand(2, 5, 6))


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "MaxSpike: max_spikes is 0, expected 1 or more", lambda: sl.MaxSpike(0)),
        (TypeError, "MaxSpike: max_spikes is 'many'", lambda: sl.MaxSpike("many")),
        (ValueError, "grad_width is 0.0, expected a finite number above 0", lambda: sl.SingleExponential(grad_width=0)),
        (ValueError, "sigma is -1.0", lambda: sl.MultiGaussian(sigma=-1)),
        (
            NotImplementedError,
            "StatefulLayer has no forward method",
            lambda: sl.StatefulLayer(["v_mem"])(torch.rand(2, 3)),
        ),
    ],
)
def test_bad_objects(error, message, make):
    with pytest.raises(error, match=message):
        make()


def test_spike_function_that_is_an_object():
    with pytest.warns(DeprecationWarning, match="should not be instantiated"):
        spike_fn = sl.SingleSpike()
    with pytest.raises(TypeError, match="spike_fn is an object of SingleSpike, expected the class itself: SingleSpike"):
        sl.ALIF(**TIME_CONSTANTS, spike_fn=spike_fn)

"""The modules: leaks in three views, parameters, state, the plain loop as backend."""

import math

import pytest
import torch
from torch import nn

import torch_lif as lif

MODULES = [
    lambda **k: lif.LIF(6, **k),
    lambda **k: lif.CubaLIF(6, **k),
    lambda **k: lif.CubaLIF(3, synapses=2, **k),
    lambda **k: lif.LI(6, **k),
]
modules = pytest.mark.parametrize("make", MODULES, ids=["LIF", "CubaLIF", "CubaLIF2", "LI"])


@modules
def test_forward_is_run_from_rest(make, device):
    layer, x = make().to(device), torch.rand(2, 20, 6, device=device)
    assert torch.equal(layer(x), layer.run(x)[0])
    assert torch.equal(layer(x), layer.run(x, layer.run(x).state._replace(**dict.fromkeys(layer.run(x).state._fields)))[0])


@modules
def test_backend_loop_is_the_same_layer(make, device):
    x = torch.rand(2, 20, 6, device=device) * 4
    fused, loop = (make(trainable=True, backend=backend).to(device) for backend in ("fused", "loop"))
    grads = []
    for layer in (fused, loop):
        out = layer(x)
        out.square().sum().backward()
        grads.append({name: p.grad for name, p in layer.named_parameters()})
    assert torch.equal(fused(x), loop(x))
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-5)
    assert "backend='loop'" in loop.extra_repr()
    assert "backend" not in fused.extra_repr()


@modules
def test_state_carries_over_calls(make, device):
    layer, x = make().to(device), torch.rand(2, 20, 6, device=device)
    whole = layer.run(x)
    first = layer.run(x[:, :7])
    second = layer.run(x[:, 7:], first.state)
    assert torch.equal(torch.cat([first[0], second[0]], 1), whole[0])
    for a, b in zip(second.state, whole.state, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@modules
def test_time_first(make, device):
    x = torch.rand(2, 20, 6, device=device)
    assert torch.equal(make(batch_first=False).to(device)(x.transpose(0, 1)).transpose(0, 1), make().to(device)(x))


@pytest.mark.parametrize("stored", ["tau", "decay", "dash"])
@pytest.mark.parametrize("leak", ["mem", "syn"])
def test_six_views_of_the_leaks(stored, leak):
    """Whatever the parameter is, the other views are read by their formulas and set through their inverses."""
    dt, tau = 1e-3, 12e-3
    decay = math.exp(-dt / tau)
    values = {"tau": tau, "decay": decay, "dash": -math.log2(1 - decay)}
    layer = lif.CubaLIF(4, dt=dt, dtype=torch.float64, **{f"{stored}_{leak}": values[stored]})
    assert f"{stored}_{leak}" in dict(layer.named_parameters())
    for view, value in values.items():
        assert getattr(layer, f"{view}_{leak}").item() == pytest.approx(value, rel=1e-12)
    new_decay = math.exp(-dt / 30e-3)
    new = {"tau": 30e-3, "decay": new_decay, "dash": -math.log2(1 - new_decay)}
    for view in new:
        layer.reset_parameters()
        assert getattr(layer, f"tau_{leak}").item() == pytest.approx(tau, rel=1e-12)
        setattr(layer, f"{view}_{leak}", new[view])
        assert getattr(layer, f"{stored}_{leak}").item() == pytest.approx(new[stored], rel=1e-9)
        assert isinstance(getattr(layer, f"{stored}_{leak}"), nn.Parameter)


@pytest.mark.parametrize("view", ["tau", "decay", "dash"])
def test_leaks_of_the_integrator_are_euler(view):
    """decay = 1 - dt/tau = 1 - 2**-dash; the same layer whichever view holds it."""
    values = {"tau": 8e-3, "decay": 1 - 1 / 8, "dash": 3.0}
    layer = lif.LI(3, dtype=torch.float64, **{f"{view}_mem": values[view]})
    for other, value in values.items():
        assert getattr(layer, f"{other}_mem").item() == pytest.approx(value, rel=1e-12)
    x = torch.rand(1, 10, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), lif.functional.li(x, rate_mem=1 / 8, rate_syn=0.2).v, rtol=1e-12, atol=0)


@pytest.mark.parametrize("view", ["tau", "decay", "dash"])
def test_every_view_trains(view):
    layer = lif.CubaLIF(4, trainable=True, **{f"{view}_mem": {"tau": 5e-3, "decay": 0.8, "dash": 2.0}[view]})
    layer(torch.rand(2, 20, 4)).sum().backward()
    grad = getattr(layer, f"{view}_mem").grad
    assert grad is not None
    assert torch.isfinite(grad).all()
    assert grad != 0


def test_parameters_per_neuron_and_shared():
    tau = torch.linspace(5e-3, 50e-3, 4)
    layer = lif.CubaLIF(4, synapses=2, tau_mem=tau, tau_syn=torch.full((1, 2), 5e-3), threshold=torch.ones(4))
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {"tau_mem": (4,), "tau_syn": (1, 2), "threshold": (4,)}
    x = torch.rand(2, 9, 8) * 3
    expected = lif.functional.lif(
        x,
        decay_mem=torch.exp(-1e-3 / tau),
        decay_syn=torch.exp(-1e-3 / torch.full((1, 2), 5e-3)),
        threshold=torch.ones(4),
        synapses=2,
    )
    assert torch.equal(layer(x), expected.spikes)


def test_trainable_names():
    layer = lif.CubaLIF(4, trainable=("tau_mem",))
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["tau_mem"]
    assert all(p.requires_grad for p in lif.CubaLIF(4, trainable=True).parameters())
    assert not any(p.requires_grad for p in lif.CubaLIF(4).parameters())
    layer.threshold.requires_grad_()
    layer(torch.rand(1, 9, 4) * 3).sum().backward()
    assert layer.threshold.grad is not None


def test_setting_a_parameter_keeps_it_a_parameter():
    layer = lif.LIF(4)
    before = layer.threshold
    layer.threshold = 0.5
    layer.tau_mem = torch.tensor(10e-3)
    assert layer.threshold is before
    assert before.item() == 0.5
    assert layer.tau_mem.item() == pytest.approx(10e-3)


def test_made_on_the_meta_device():
    layer = lif.CubaLIF(4, tau_mem=torch.linspace(5e-3, 20e-3, 4), threshold=0.5, trainable=("tau_mem",), device="meta")
    assert all(p.is_meta for p in layer.parameters())
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    expected = lif.CubaLIF(4, tau_mem=torch.linspace(5e-3, 20e-3, 4), threshold=0.5)
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name))
    with torch.device("meta"):
        assert all(p.is_meta for p in lif.LIF(4).parameters())


def test_size_and_synapses_are_in_the_repr():
    text = repr(lif.CubaLIF(5, synapses=3, trainable=("threshold",)))
    for part in ("CubaLIF(5", "tau_mem=0.02", "threshold=1 (trainable)", "synapses=3", "StepPWL(window=0.5)", "dt=0.001"):
        assert part in text
    assert "(2, 3)" in repr(lif.LI((2, 3)))


def test_in_a_sequential():
    model = nn.Sequential(nn.Linear(5, 7), lif.LIF(7), nn.Linear(7, 4), lif.CubaLIF(4), lif.LI(4))
    model(torch.rand(2, 30, 5) * 10).square().sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_convolutional_shape(device):
    model = nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(1, 3, 3), nn.Unflatten(0, (2, 10)), lif.LIF((3, 6, 6))).to(device)
    assert model(torch.rand(2, 10, 1, 8, 8, device=device)).shape == (2, 10, 3, 6, 6)


def test_membrane_decays_to_1_over_e_in_one_time_constant():
    """A number from the model, not from the code: after tau seconds a membrane left alone has fallen to 1/e."""
    layer = lif.LIF(1, tau_mem=20e-3, dt=1e-3, dtype=torch.float64)
    v = layer.run(torch.zeros(1, 20, 1, dtype=torch.float64), (torch.full((1, 1), 0.9, dtype=torch.float64),)).state.v
    assert v.item() == pytest.approx(0.9 / math.e, rel=1e-12)


def test_rate_of_a_constant_current():
    """A constant input x drives v between resets by v <- v*a + x: the first spike comes at the first n with
    x (1 - a^n) / (1 - a) >= threshold, and below x = threshold (1 - a) never."""
    a, x = 0.9, 0.15
    n = math.ceil(math.log(1 - (1 - a) / x) / math.log(a))
    spikes = lif.functional.lif(torch.full((1, 100, 1), x, dtype=torch.float64), decay_mem=a).spikes.flatten()
    assert spikes.nonzero()[0].item() == n - 1
    assert lif.functional.lif(torch.full((1, 1000, 1), 0.0999, dtype=torch.float64), decay_mem=a).spikes.sum() == 0

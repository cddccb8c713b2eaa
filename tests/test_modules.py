"""The modules: leaks in three views, parameters, state, the plain loop as backend."""

import math

import pytest
import torch
from torch import nn

import torch_lif as lif


def weights(rows, columns):
    """In sixteenths, so that their products with spikes are exact in any order."""
    return torch.randint(-4, 5, (rows, columns), generator=torch.Generator().manual_seed(1)) / 16


MODULES = [
    lambda **k: lif.LIF(6, **k),
    lambda **k: lif.CubaLIF(6, **k),
    lambda **k: lif.CubaLIF(3, synapses=2, **k),
    lambda **k: lif.LI(6, **k),
    lambda **k: lif.LI(6, synapse_update="input_first", leak=0.1, **k),
    lambda **k: lif.LIF(6, recurrent=weights(6, 6), **k),
    lambda **k: lif.CubaLIF(3, synapses=2, recurrent=weights(3, 6), **k),
    lambda **k: lif.ALIF(6, norm_input=False, **k),
    lambda **k: lif.ALIF(6, tau_syn=5e-3, min_v=-0.1, reset_value=0.5, recurrent=weights(6, 6), max_spikes=3, **k),
    lambda **k: lif.ALIF(6, reset="value", reset_value=0.0, zero_adaptation=True, **k),
    lambda **k: lif.EulerLIF(6, **k),
    lambda **k: lif.EulerLIF(
        6,
        refractory_time=2e-3,
        reset_value=-0.1,
        recurrent=weights(6, 6),
        synapse_update="input_first",
        **k,
    ),
    lambda **k: lif.EulerLIF(6, refractory_time=torch.full((6,), 1e-3), leaky=False, reset_gradient=True, **k),
]
names = [
    "LIF",
    "CubaLIF",
    "CubaLIF2",
    "LI",
    "LI-input-first",
    "LIF-recurrent",
    "CubaLIF2-recurrent",
    "ALIF",
    "ALIF-recurrent",
    "ALIF-value",
]
names += ["EulerLIF", "EulerLIF-recurrent", "EulerLIF-IAF"]
modules = pytest.mark.parametrize("make", MODULES, ids=names)


@modules
def test_forward_is_run_from_rest(make, device):
    layer, x = make().to(device), torch.rand(2, 20, 6, device=device)
    assert torch.equal(layer(x), layer.run(x)[0])
    assert torch.equal(
        layer(x), layer.run(x, layer.run(x).state._replace(**dict.fromkeys(layer.run(x).state._fields)))[0]
    )


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
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-4)
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


@pytest.mark.parametrize("stored", ["tau", "decay", "bitshift"])
@pytest.mark.parametrize("leak", ["mem", "syn"])
def test_six_views_of_the_leaks(stored, leak):
    """Whatever the parameter is, the other views are read by their formulas and set through their inverses."""
    dt, tau = 1e-3, 12e-3
    decay = math.exp(-dt / tau)
    values = {"tau": tau, "decay": decay, "bitshift": -math.log2(1 - decay)}
    layer = lif.CubaLIF(4, dt=dt, dtype=torch.float64, **{f"{stored}_{leak}": values[stored]})
    assert f"{stored}_{leak}" in dict(layer.named_parameters())
    for view, value in values.items():
        assert getattr(layer, f"{view}_{leak}").item() == pytest.approx(value, rel=1e-12)
    new_decay = math.exp(-dt / 30e-3)
    new = {"tau": 30e-3, "decay": new_decay, "bitshift": -math.log2(1 - new_decay)}
    for view in new:
        layer.reset_parameters()
        assert getattr(layer, f"tau_{leak}").item() == pytest.approx(tau, rel=1e-12)
        setattr(layer, f"{view}_{leak}", new[view])
        assert getattr(layer, f"{stored}_{leak}").item() == pytest.approx(new[stored], rel=1e-9)
        assert isinstance(getattr(layer, f"{stored}_{leak}"), nn.Parameter)


@pytest.mark.parametrize("view", ["tau", "decay", "bitshift"])
def test_leaks_of_the_integrator_are_euler(view):
    """decay = 1 - dt/tau = 1 - 2**-bitshift; the same layer whichever view holds it."""
    values = {"tau": 8e-3, "decay": 1 - 1 / 8, "bitshift": 3.0}
    layer = lif.LI(3, dtype=torch.float64, **{f"{view}_mem": values[view]})
    for other, value in values.items():
        assert getattr(layer, f"{other}_mem").item() == pytest.approx(value, rel=1e-12)
    x = torch.rand(1, 10, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), lif.functional.li(x, rate_mem=1 / 8, rate_syn=0.2).v, rtol=1e-12, atol=0)


@pytest.mark.parametrize("view", ["tau", "decay", "bitshift"])
def test_every_view_trains(view):
    layer = lif.CubaLIF(4, trainable=True, **{f"{view}_mem": {"tau": 5e-3, "decay": 0.8, "bitshift": 2.0}[view]})
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
    for part in (
        "CubaLIF(5",
        "tau_mem=0.02",
        "threshold=1 (trainable)",
        "synapses=3",
        "SuperSpike(alpha=10.0)",
        "dt=0.001",
    ):
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


def test_recurrent_weights():
    torch.manual_seed(3)
    layer = lif.CubaLIF(5, synapses=2, recurrent=True)
    assert layer.w_rec.shape == (5, 10)
    assert layer.w_rec.requires_grad
    assert float(layer.w_rec.detach().abs().max()) <= 1 / math.sqrt(5)
    before = layer.w_rec.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.w_rec, before)
    layer(torch.rand(2, 20, 10)).sum().backward()
    assert layer.w_rec.grad.abs().sum() > 0
    given = torch.rand(4, 4)
    layer = lif.LIF(4, recurrent=given)
    layer.w_rec.data.zero_()
    layer.reset_parameters()
    assert torch.equal(layer.w_rec, given)
    assert "recurrent" in repr(layer)
    assert lif.LIF(4).w_rec is None
    assert "w_rec" not in lif.LIF(4).state_dict()
    twin = lif.LIF(4, recurrent=True)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.w_rec, given)


def test_recurrent_weights_go_from_row_to_column(device):
    """One neuron spikes in the first step; its row of the weights is what the others are given in the second."""
    w = torch.tensor([[0.0, 2.5, 0.75], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    layer = lif.LIF(3, decay_mem=0.5, recurrent=w, max_spikes=2).to(device)
    x = torch.zeros(1, 3, 3, device=device)
    x[0, 0, 0] = 1.0
    out = layer.run(x, record=("recurrent_input", "v"))
    assert out.spikes[0].tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert out.records["recurrent_input"][0].tolist() == [[0, 0, 0], [0, 2.5, 0.75], [0, 0, 0]]
    assert out.records["v"][0, 1].tolist() == [0, 0.5, 0.75]


def test_noise_is_one_draw_a_call(device):
    layer = lif.CubaLIF(50, noise_std=2.0, threshold=1e9, decay_mem=0.0).to(device)
    x = torch.zeros(20, 400, 50, device=device)
    generator = torch.Generator(device).manual_seed(5)
    v = layer.run(x, generator=generator, record=("v",)).records["v"]
    drawn = torch.randn(x.shape, generator=torch.Generator(device).manual_seed(5), device=device)
    assert torch.equal(v, 2.0 * math.sqrt(1e-3) * drawn)
    # Its variance is noise_std^2 dt: 400 000 draws determine it to 1/450 at one standard deviation.
    assert float(v.var()) == pytest.approx(4.0 * 1e-3, rel=0.02)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert "noise_std=2" in repr(layer)
    silent = lif.CubaLIF(50).to(device).run(x, noise=drawn, record=("v",)).records["v"]
    assert silent.abs().sum() > 0


def test_refractory_period_bounds_the_rate(device):
    """Driven far above the threshold a neuron spikes every refractory_time/dt + 1 steps; between, it is held at the
    reset."""
    layer = lif.EulerLIF(2, refractory_time=torch.tensor([3e-3, 0.0]), reset_value=-0.25, tau_mem=2e-3).to(device)
    out = layer.run(torch.full((1, 40, 2), 50.0, device=device), record=("v",))
    times = out.spikes[0, :, 0].nonzero().flatten().cpu()
    assert set(times.diff().tolist()) == {4}
    assert out.spikes[0, 5:, 1].all()
    held = out.records["v"][0, times[0] : times[0] + 4, 0]
    assert held.tolist() == [-0.25] * 4


def test_adaptation_slows_a_neuron_down(device):
    """A constant input: the intervals between spikes grow towards a longer one; without adaptation they stay."""
    x = torch.full((1, 3000, 1), 0.2, device=device)
    for scale, grows in ((20.0, True), (0.0, False)):
        layer = lif.ALIF(1, adapt_scale=scale, norm_input=False, reset_value=1.0).to(device)
        intervals = layer(x)[0, :, 0].nonzero().flatten().diff().float()
        assert (intervals[-5:].mean() > 1.5 * intervals[:2].mean()) == grows


def test_a_spike_may_zero_the_adaptation(device):
    x = torch.full((1, 50, 1), 0.3, device=device)
    out = (
        lif.ALIF(1, norm_input=False, zero_adaptation=True)
        .to(device)
        .run(x, (None, None, torch.full((1, 1), 0.4, device=device)), record=("adaptation",))
    )
    spiked = out.spikes[0, :, 0] != 0
    assert bool(spiked.any())
    assert bool((out.records["adaptation"][0, :, 0][spiked] == 0).all())
    assert float(out.records["adaptation"][0, 0, 0]) > 0.39


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda **p: lif.LIF(3, **p), "bias"),
        (lambda **p: lif.CubaLIF(3, **p), "bias"),
        (lambda **p: lif.LI(3, **p), "leak"),
        (lambda **p: lif.ALIF(3, **p), "min_v"),
        (lambda **p: lif.LIF(3, **p), "w_rec"),
    ],
)
def test_a_parameter_that_a_layer_does_not_have(make, name):
    """It is None and no parameter; setting a number is an error, setting a parameter gives the layer one."""
    layer = make()
    assert getattr(layer, name) is None
    assert name not in layer.state_dict()
    assert name not in dict(layer.named_parameters())
    for value in (0.5, torch.ones(3)):
        with pytest.raises(TypeError, match=f"'{name}'"):
            setattr(layer, name, value)
    shape = (3, 3) if name == "w_rec" else (3,)
    setattr(layer, name, torch.nn.Parameter(torch.full(shape, 0.25)))
    assert torch.equal(getattr(layer, name), torch.full(shape, 0.25))
    assert name in layer.state_dict()
    x = torch.rand(2, 20, 3) * 2
    assert not torch.equal(layer(x), make()(x)) or name == "min_v"
    setattr(layer, name, None)
    assert torch.equal(layer(x), make()(x))

"""torch_lif.compat.sinabs against an eager loop written from sinabs' equations; sinabs itself is in
tests/peers/test_sinabs.py."""

import doctest
import inspect
import math
import sys
import warnings

import pytest
import torch
from cases import relative_error
from torch import nn

import torch_lif as lif
from torch_lif.compat import sinabs as sl

TIME_CONSTANTS = {"tau_mem": 12.0, "tau_adapt": 40.0}
SPIKE_FNS = [sl.SingleSpike, sl.MultiSpike, sl.MaxSpike(3), sl.MaxSpike()]
RESETS = [sl.MembraneSubtract(), sl.MembraneSubtract(0.6), sl.MembraneReset(), sl.MembraneReset(-0.3)]


def normal(x, mu, sigma):
    return torch.exp(-((x - mu) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))


def periodic(v, th, width, scale):
    r = v / th - 0.5
    return scale * torch.exp(-torch.where(v >= th, th * (2 * (r - torch.floor(r)) - 1), v - th).abs() / width)


SURROGATES = [
    (sl.SingleExponential(), lambda v, th: 1 / (0.5 * th) * torch.exp(-(v - th).abs() / (0.5 * th))),
    (sl.SingleExponential(0.8, 0.3), lambda v, th: 0.3 / (0.8 * th) * torch.exp(-(v - th).abs() / (0.8 * th))),
    (
        sl.MultiGaussian(mu=0.1, sigma=0.4, h=0.2, s=3, grad_scale=2.0),
        lambda v, th: (
            2 * (1.2 * normal(v - th, 0.1, 0.4) - 0.2 * normal(v - th, 0.4, 1.2) - 0.2 * normal(v - th, -0.4, 1.2))
        ),
    ),
    (
        sl.MultiGaussian(),
        lambda v, th: 1.15 * normal(v - th, 0, 0.5) - 0.15 * (normal(v - th, 0.5, 3) + normal(v - th, -0.5, 3)),
    ),
    (sl.Gaussian(mu=0.1, sigma=0.4, grad_scale=2.0), lambda v, th: 2 * normal(v - th, 0.1, 0.4)),
    (sl.Heaviside(window=0.4), lambda v, th: (v >= th - 0.4).to(v.dtype) / th),
    (sl.Heaviside(window=-0.1), lambda v, th: (v >= th + 0.1).to(v.dtype) / th),
    (sl.PeriodicExponential(grad_width=0.3, grad_scale=2.0), lambda v, th: periodic(v, th, 0.3, 2.0)),
]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, th, spike_fn, surrogate):
        ctx.save_for_backward(v, th)
        ctx.surrogate = surrogate
        if spike_fn is sl.SingleSpike:
            return (v - th >= 0).to(v.dtype)
        count = (v > 0) * torch.trunc(v / th)
        most = spike_fn.max_num_spikes_per_bin if isinstance(spike_fn, sl.MaxSpike) else None
        return count if most is None else count.clamp(max=most)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.surrogate(*ctx.saved_tensors), None, None, None


def eager(layer, x, state=None):
    """The equations, one step after another: spikes, and the state after each step by name."""
    alpha = {
        name: getattr(layer, f"alpha_{name}")
        if layer.train_alphas
        else None
        if getattr(layer, f"tau_{name}") is None
        else torch.exp(-1 / getattr(layer, f"tau_{name}"))
        for name in ("mem", "adapt", "syn")
    }
    v, i, b = state or [torch.zeros_like(x[:, 0])] * 3
    connect, received = getattr(layer, "rec_connect", None), torch.zeros_like(x[:, 0])
    reset = layer.reset_fn
    traces = {"spikes": [], "v_mem": [], "i_syn": [], "b": [], "spike_threshold": []}
    for x_t in x.unbind(1):
        total = x_t if connect is None else x_t + received
        i = total if alpha["syn"] is None else alpha["syn"] * (i + total)
        if layer.norm_input:
            i = (1 - alpha["mem"]) * i
        v = alpha["mem"] * v + i
        th = layer.b0 + layer.adapt_scale * b
        s = Spike.apply(v, th, layer.spike_fn, layer.surrogate_grad_fn)
        if isinstance(reset, sl.MembraneReset):
            v = torch.where(s == 0, v, torch.full_like(v, reset.reset_value))
        else:
            v = v - s * (th if reset.subtract_value is None else reset.subtract_value)
        b = alpha["adapt"] * b + (1 - alpha["adapt"]) * s
        if layer.zero_adaptation:
            b = torch.where(s == 0, b, torch.zeros_like(b))
        if layer.min_v_mem is not None:
            v = torch.relu(v - layer.min_v_mem) + layer.min_v_mem
        if connect is not None:
            received = connect(s).reshape(x_t.shape)
        for name, value in zip(traces, (s, v, i, b, layer.b0 + layer.adapt_scale * b), strict=True):
            traces[name].append(value)
    stacked = {name: torch.stack(trace, 1) for name, trace in traces.items()}
    if alpha["syn"] is None:
        del stacked["i_syn"]
    return stacked.pop("spikes"), stacked


def assert_same(layer, spikes, expected, traces):
    assert torch.equal(spikes, expected)
    for name, trace in traces.items():
        assert torch.equal(layer.recordings[name], trace), name
        assert torch.equal(getattr(layer, name), trace[:, -1]), name
    assert set(layer.recordings) == set(traces) == {name for name, _ in layer.named_buffers()}


def make_input(*shape, dtype=torch.float32, device="cpu", high=4.0):
    return (torch.rand(shape, dtype=torch.float64) * (high + 1) - 1).to(dtype).to(device)


def dyadic(linear):
    """Weights and bias in eighths: sums of them are exact, in whatever order they are taken."""
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_(torch.randint(-4, 5, p.shape) / 8)
    return linear


# --- the same bits ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.parametrize("norm_input", [True, False])
@pytest.mark.parametrize("reset_fn", RESETS, ids=str)
@pytest.mark.parametrize("spike_fn", SPIKE_FNS, ids=["single", "multi", "max3", "max"])
def test_same_bits_as_the_eager_loop(spike_fn, reset_fn, norm_input, tau_syn, dtype, device):
    for min_v_mem, train_alphas in ((None, False), (-0.2, True)):
        layer = sl.ALIF(
            **TIME_CONSTANTS,
            tau_syn=tau_syn,
            spike_threshold=0.7,
            spike_fn=spike_fn,
            reset_fn=reset_fn,
            min_v_mem=min_v_mem,
            train_alphas=train_alphas,
            norm_input=norm_input,
            record_states=True,
        ).to(device, dtype)
        x = make_input(3, 60, 5, dtype=dtype, device=device, high=60.0 if norm_input else 4.0)
        x[..., 0] *= -1  # down to the lower bound
        with torch.no_grad():
            spikes = layer(x)
            assert_same(layer, spikes, *eager(layer, x))
        assert spikes.mean() > 0.01
        assert (spikes.max() > 1) == (spike_fn is not sl.SingleSpike)
        assert spikes.max() <= (3 if spike_fn == sl.MaxSpike(3) else 100)
        if min_v_mem is not None:
            assert layer.recordings["v_mem"].min() == torch.tensor(min_v_mem, dtype=dtype)


@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_documented_equations_with_zero_adaptation(tau_syn, device):
    """What sinabs' documentation says, unlike its code: a spike subtracts b0 and sets b to zero."""
    reset = sl.MembraneSubtract(subtract_value=0.7)
    layer = sl.ALIF(10.0, 30.0, tau_syn, 0.4, 0.7, reset_fn=reset, record_states=True, zero_adaptation=True).to(device)
    x = make_input(3, 60, 5, device=device)
    with torch.no_grad():
        spikes = layer(x)
        assert_same(layer, spikes, *eager(layer, x))
    assert spikes.any()
    assert not layer.recordings["b"].any()  # one step's adaptation is zeroed in that very step


@pytest.mark.parametrize(
    ("shape", "tau_shape"),
    [((4,), (4,)), ((4,), (1, 4)), ((2, 3, 4), (2, 1, 1)), ((2, 3, 4), (3, 1)), ((2, 3), (3,)), ((4,), (1,))],
)
def test_parameters_broadcast_against_the_neurons(shape, tau_shape, device):
    def spread(low, high):
        return torch.rand(tau_shape) * (high - low) + low

    layer = sl.ALIF(
        spread(5, 20),
        spread(20, 60),
        spread(2, 5),
        adapt_scale=nn.Parameter(spread(1, 2)),
        spike_threshold=spread(0.3, 0.8),
        min_v_mem=spread(-0.3, -0.1),
        record_states=True,
    ).to(device)
    x = make_input(2, 30, *shape, device=device, high=9.0)
    with torch.no_grad():
        spikes = layer(x)
        assert_same(layer, spikes, *eager(layer, x))
    assert spikes.any()
    assert "adapt_scale" in layer.state_dict()
    assert "b0" not in layer.state_dict()


@pytest.mark.parametrize("layout", ["time first", "every second", "expanded"])
def test_any_strides(layout):
    x = make_input(3, 20, 6)
    given = {
        "time first": x.transpose(0, 1).contiguous().transpose(0, 1),
        "every second": x[..., ::2],
        "expanded": x[:1].expand(4, -1, -1),
    }
    layer, other = sl.ALIF(**TIME_CONSTANTS), sl.ALIF(**TIME_CONSTANTS)
    assert torch.equal(layer(given[layout]), other(given[layout].contiguous()))


SMALL = [(0, 5, 3), (2, 0, 3), (2, 5, 0), (2, 1, 3), (2, 5, 1, 1, 2)]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [*((shape, kind) for shape in SMALL for kind in ("feed-forward", "linear", "stepwise")), ((2, 5), "feed-forward")],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors", "ignore:.*called once a time step")
def test_small_and_empty_sequences(shape, kind):
    width = math.prod(shape[2:])
    if kind == "feed-forward":
        layer = sl.ALIF(5.0, 9.0, 3.0, record_states=True)
    else:
        last = [nn.Tanh()] if kind == "stepwise" else []
        layer = sl.ALIFRecurrent(
            5.0, 9.0, nn.Sequential(nn.Flatten(), dyadic(nn.Linear(width, width)), *last), 3.0, record_states=True
        )
    x = make_input(*shape, high=9.0).requires_grad_()
    spikes = layer(x)
    assert spikes.shape == x.shape
    assert layer.shape == (shape[0], *shape[2:])
    assert {trace.shape for trace in layer.recordings.values()} == {x.shape}
    if x.numel():
        assert torch.equal(spikes, eager(layer, x)[0])
    spikes.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_stored_half_and_computed_in_float32(dtype, device):
    layer = sl.ALIF(**TIME_CONSTANTS, tau_syn=3.0, record_states=True).to(device)
    x = make_input(3, 40, 5, dtype=dtype, device=device, high=9.0)
    spikes = layer(x)
    expected, traces = eager(layer, x.float())
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    for name, trace in traces.items():
        assert layer.recordings[name].dtype == dtype
        # The threshold recorded follows from the b recorded, which has been rounded.
        rounded = layer.b0 + layer.adapt_scale * traces["b"].to(dtype).float() if name == "spike_threshold" else trace
        assert torch.equal(layer.recordings[name], rounded.to(dtype))
        assert torch.equal(getattr(layer, name), trace[:, -1])
    assert torch.equal(layer.half()(x.half()).isnan(), torch.zeros_like(x, dtype=torch.bool))


def test_parameters_of_no_dimension_take_the_inputs_dtype():
    layer = sl.ALIF(**TIME_CONSTANTS, tau_syn=torch.tensor(3.0), adapt_scale=torch.tensor(1.5, dtype=torch.float64))
    assert layer(make_input(2, 20, 3, dtype=torch.float64)).dtype == torch.float64
    assert layer.v_mem.dtype == torch.float64


# --- recurrence ---


def connections(n, shape):
    linear = dyadic(nn.Linear(n, n))
    flat = nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, shape))
    return {
        "linear": linear,
        "sequential": flat,
        "nested": nn.Sequential(nn.Identity(), nn.Sequential(flat, nn.Dropout(0.5).eval()), nn.Dropout(0.0)),
        "without bias": nn.Sequential(nn.Flatten(), dyadic(nn.Linear(n, n, bias=False))),
    }


@pytest.mark.parametrize("kind", ["linear", "sequential", "nested", "without bias"])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_a_linear_runs_in_the_kernel(kind, tau_syn, device):
    """Spikes equal those of the eager loop: with weights in eighths the sums are exact in any order."""
    shape = (6,) if kind == "linear" else (2, 3)
    connect = connections(6, shape)[kind]
    layer = sl.ALIFRecurrent(5.0, 20.0, connect, tau_syn, 0.5, 0.3, record_states=True).to(device)
    x = make_input(3, 50, *shape, device=device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        spikes = layer(x)
        assert_same(layer, spikes, *eager(layer, x))
    assert 0.02 < spikes.mean() < 0.98
    assert not torch.equal(spikes, sl.ALIF(5.0, 20.0, tau_syn, 0.5, 0.3).to(device)(x))


def hooked():
    linear = dyadic(nn.Linear(6, 6))
    linear.register_forward_hook(lambda module, given, out: -out)
    return linear


def patched():
    linear = dyadic(nn.Linear(6, 6))
    linear.forward = lambda spikes: 2 * nn.functional.linear(spikes, linear.weight)
    return linear


STEPWISE = {
    "tanh": lambda: nn.Sequential(dyadic(nn.Linear(6, 6)), nn.Tanh()),
    "hooked": hooked,
    "patched": patched,
    "function": lambda: lambda spikes: spikes.flip(-1) / 2,
    "batch norm": lambda: nn.Sequential(dyadic(nn.Linear(6, 6)), nn.BatchNorm1d(6, momentum=0.5)).eval(),
    "two": lambda: nn.Sequential(dyadic(nn.Linear(6, 3)), dyadic(nn.Linear(3, 6))),
}


@pytest.mark.parametrize("kind", STEPWISE)
@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_any_other_module_is_called_each_step(kind, tau_syn, device):
    layer = sl.ALIFRecurrent(5.0, 20.0, STEPWISE[kind](), tau_syn, 0.5, 0.3, record_states=True).to(device)
    x = make_input(3, 50, 6, device=device)
    with torch.no_grad():
        with pytest.warns(UserWarning, match="rec_connect is called once a time step") as caught:
            spikes = layer(x)
        assert [w.filename for w in caught] == [__file__]
        assert layer.recordings["v_mem"].shape == x.shape
        expected, traces = eager(layer, x)
        assert torch.equal(spikes, expected)
        for name, trace in traces.items():
            assert torch.equal(layer.recordings[name], trace)
            assert torch.equal(getattr(layer, name), trace[:, -1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once
            layer(x)
    assert 0.02 < spikes.mean() < 0.98


def test_a_linear_on_the_last_of_several_dimensions_is_not_one_of_all_neurons():
    layer = sl.ALIFRecurrent(5.0, 20.0, dyadic(nn.Linear(3, 3)), spike_threshold=0.3)
    x = make_input(2, 20, 4, 3)
    with pytest.warns(UserWarning, match="called once a time step"):
        spikes = layer(x)
    assert torch.equal(spikes, eager(layer, x)[0])


def test_module_is_called_after_the_last_step_too():
    """So that one that draws or counts is in the same state as after sinabs."""

    class Counter(nn.Module):
        calls = 0

        def forward(self, spikes):
            self.calls += 1
            return torch.zeros_like(spikes)

    layer = sl.ALIFRecurrent(5.0, 20.0, Counter())
    with pytest.warns(UserWarning, match="called once a time step"):
        layer(make_input(2, 7, 3))
    assert layer.rec_connect.calls == 7


def test_dropout_in_training_draws_each_step():
    layer = sl.ALIFRecurrent(5.0, 20.0, nn.Sequential(dyadic(nn.Linear(6, 6)), nn.Dropout(0.5)), spike_threshold=0.3)
    x = make_input(2, 30, 6)
    torch.manual_seed(3)
    with pytest.warns(UserWarning, match="called once a time step"):
        spikes = layer(x)
    torch.manual_seed(3)
    assert torch.equal(spikes, eager(layer, x)[0])
    layer.eval().reset_states()
    layer._has_warned = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(layer(x), eager(layer, x)[0])


def test_parametrized_weights_train():
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    layer = sl.ALIFRecurrent(5.0, 20.0, linear, spike_threshold=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(make_input(2, 30, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in linear.parameters())


# --- gradients ---


def with_gradients(layer, run, x, record=True):
    x = x.clone().requires_grad_()
    spikes, traces = run(layer, x)
    generator = torch.Generator().manual_seed(5)
    terms = [spikes, *(traces[name] for name in sorted(traces) if record)]
    loss = sum(
        (term * torch.randn(term.shape, generator=generator, dtype=term.dtype).to(x.device)).sum() for term in terms
    )
    parameters = dict(layer.named_parameters())
    grads = torch.autograd.grad(loss, [x, *parameters.values()], allow_unused=True)
    return dict(zip(["x", *parameters], grads, strict=True))


def call(layer, x):
    layer.reset_states()
    return layer(x), layer.recordings


def assert_same_gradients(got, expected, bound):
    for name, want in expected.items():
        assert (got[name] is None) == (want is None), name
        if want is not None:
            assert relative_error(got[name], want) < bound, name
            assert want.any() or name in ("tau_adapt", "alpha_adapt", "adapt_scale", "b0"), name


@pytest.mark.parametrize("train_alphas", [False, True])
@pytest.mark.parametrize("norm_input", [True, False])
@pytest.mark.parametrize("reset_fn", RESETS, ids=str)
@pytest.mark.parametrize("spike_fn", [sl.SingleSpike, sl.MaxSpike(3)], ids=["single", "max3"])
@pytest.mark.parametrize("kind", ["feed-forward", "linear", "stepwise"])
@pytest.mark.filterwarnings("ignore:ALIFRecurrent")
def test_gradients_are_the_eager_loops(kind, spike_fn, reset_fn, norm_input, train_alphas, device):
    arguments = dict(
        tau_mem=torch.rand(5) * 5 + 5,
        tau_adapt=torch.tensor(12.0),
        tau_syn=torch.tensor([3.0]),
        adapt_scale=nn.Parameter(torch.rand(5)),
        spike_threshold=nn.Parameter(torch.tensor(0.6)),
        spike_fn=spike_fn,
        reset_fn=reset_fn,
        min_v_mem=-0.2,
        train_alphas=train_alphas,
        norm_input=norm_input,
        record_states=True,
    )
    if kind == "feed-forward":
        layer = sl.ALIF(**arguments)
    else:
        connect = dyadic(nn.Linear(5, 5))
        layer = sl.ALIFRecurrent(
            rec_connect=connect if kind == "linear" else nn.Sequential(connect, nn.Tanh()), **arguments
        )
    layer = layer.to(device, torch.float64)
    x = make_input(3, 25, 5, dtype=torch.float64, device=device, high=6.0 if norm_input else 1.0)
    # float64 sums of some 1e3 terms in another order: 1e3 * 2**-53 of the largest, with a margin for cancellation.
    assert_same_gradients(with_gradients(layer, call, x), with_gradients(layer, eager, x), 1e-10)


@pytest.mark.parametrize(("surrogate", "formula"), SURROGATES, ids=[str(s) for s, _ in SURROGATES])
def test_surrogates_reach_the_kernel(surrogate, formula, device):
    """One step without decay: the gradient of the spike by the input is the surrogate's value at v_mem = x."""
    v = torch.linspace(-1.9, 4.3, 301, dtype=torch.float64, device=device)
    layer = sl.ALIF(1e-3, 1.0, spike_threshold=0.9, spike_fn=sl.MultiSpike, surrogate_grad_fn=surrogate).to(
        device, torch.float64
    )
    x = v.reshape(1, 1, -1).clone().requires_grad_()
    layer(x).sum().backward()
    expected = formula(v, torch.tensor(0.9, dtype=torch.float64, device=device))
    torch.testing.assert_close(x.grad.flatten(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(surrogate(v_mem=v, spike_threshold=0.9), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(surrogate(v, torch.full_like(v, 0.9)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("reset_fn", [*RESETS[:3]], ids=str)
@pytest.mark.parametrize("kind", ["feed-forward", "linear", "stepwise"])
@pytest.mark.parametrize(
    "output", ["spikes", "v_mem", "b", "final v_mem", "final b", "spike_threshold", "v_mem and spikes"]
)
@pytest.mark.filterwarnings("ignore:ALIFRecurrent")
def test_no_path_to_the_loss_is_no_gradient(output, kind, reset_fn, steps):
    """None, not zeros, exactly where autograd finds no path in the eager loop."""
    arguments = dict(
        tau_mem=5.0,
        tau_adapt=9.0,
        tau_syn=3.0,
        adapt_scale=nn.Parameter(torch.tensor(1.1)),
        spike_threshold=nn.Parameter(torch.tensor(0.4)),
        reset_fn=reset_fn,
        record_states=True,
    )
    if kind == "feed-forward":
        layer = sl.ALIF(**arguments)
    else:
        connect = nn.Linear(3, 3)
        layer = sl.ALIFRecurrent(
            rec_connect=connect if kind == "linear" else nn.Sequential(connect, nn.Tanh()), **arguments
        )
    x = make_input(2, steps, 3, high=9.0)
    found = []
    for run in (call, eager):
        spikes, traces = run(layer, x)
        values = {"spikes": spikes, "final v_mem": traces["v_mem"][:, -1], "final b": traces["b"][:, -1], **traces}
        if run is call:
            values |= {"final v_mem": layer.v_mem, "final b": layer.b}
        values["v_mem and spikes"] = spikes + traces["v_mem"]
        for _ in range(2):  # a gate forgets what the backward pass before has reached
            layer.zero_grad(set_to_none=True)
            values[output].sum().backward(retain_graph=True)
        found.append({name: p.grad is not None for name, p in layer.named_parameters()})
    assert found[0] == found[1]


def test_gates_hold_across_calls():
    """The gradient of the second call's spikes comes to the first call's adaptation as None, not as zeros."""
    layer = sl.ALIF(5.0, 9.0, reset_fn=sl.MembraneReset())
    for _ in range(2):
        spikes = layer(make_input(2, 10, 3, high=9.0))
    spikes.sum().backward(retain_graph=True)
    assert layer.tau_adapt.grad is None
    assert layer.tau_mem.grad.any()
    layer.b.sum().backward(retain_graph=True)
    assert layer.tau_adapt.grad.any()
    layer.zero_grad(set_to_none=True)
    spikes.sum().backward()  # the gate has forgotten that b was reached
    assert layer.tau_adapt.grad is None


def test_parameters_that_take_no_part_are_left_alone_by_weight_decay():
    layer = sl.ALIF(5.0, 9.0, reset_fn=sl.MembraneReset())
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    layer(make_input(2, 10, 3, high=9.0)).sum().backward()
    optimizer.step()
    assert layer.tau_adapt.item() == 9.0
    assert layer.tau_mem.item() != 5.0


# --- spike functions, resets, surrogates on their own ---


@pytest.mark.parametrize(
    ("spike_fn", "expected"),
    [
        (sl.SingleSpike, [0, 0, 1, 1, 1]),
        (sl.MultiSpike, [0, 0, 1, 2, 7]),
        (sl.MaxSpike(2), [0, 0, 1, 2, 2]),
        (sl.MaxSpike(max_num_spikes_per_bin=None), [0, 0, 1, 2, 7]),
    ],
)
def test_spike_functions_can_be_applied(spike_fn, expected):
    v = torch.tensor([-3.0, 0.2, 0.5, 1.2, 3.7], requires_grad=True)
    assert spike_fn.required_states == ["v_mem"]
    for threshold in (0.5, torch.tensor(0.5, requires_grad=True)):
        spikes = spike_fn.apply(v, threshold, sl.Heaviside(0.4))
        assert spikes.tolist() == expected
        (grad,) = torch.autograd.grad((spikes * torch.arange(5.0)).sum(), v)
        assert grad.tolist() == [0, 2, 4, 6, 8]
    spikes = spike_fn.apply(v, 0.5, lambda v_mem, spike_threshold: v_mem * 0 + 3)
    assert torch.autograd.grad(spikes.sum(), v)[0].tolist() == [3] * 5


def test_resets_can_be_called():
    state = {"v_mem": torch.tensor([0.5, 2.0, 3.0]), "b": torch.ones(3)}
    spikes = torch.tensor([0.0, 1.0, 2.0])
    assert sl.MembraneSubtract()(spikes, state, torch.tensor(1.25))["v_mem"].tolist() == [0.5, 0.75, 0.5]
    assert sl.MembraneSubtract(subtract_value=0.5)(spikes, state, threshold=9.0)["v_mem"].tolist() == [0.5, 1.5, 2.0]
    new = sl.MembraneReset(reset_value=-1.0)(spikes, state, spike_threshold=9.0)
    assert new["v_mem"].tolist() == [0.5, -1.0, -1.0]
    assert new["b"] is state["b"]
    assert state["v_mem"].tolist() == [0.5, 2.0, 3.0]


def test_surrogates_have_sinabs_arguments():
    for cls, names in (
        (sl.SingleExponential, {"grad_width": 0.5, "grad_scale": 1.0}),
        (sl.PeriodicExponential, {"grad_width": 0.5, "grad_scale": 1.0}),
        (sl.MultiGaussian, {"mu": 0.0, "sigma": 0.5, "h": 0.15, "s": 6.0, "grad_scale": 1.0}),
        (sl.Gaussian, {"mu": 0.0, "sigma": 0.5, "grad_scale": 1.0}),
        (sl.Heaviside, {"window": 1.0}),
    ):
        signature = inspect.signature(cls).parameters
        assert {name: p.default for name, p in signature.items()} == names
        assert repr(cls()) == f"{cls.__name__}({', '.join(f'{k}={v}' for k, v in names.items())})"
        native = lif.SinabsPeriodicExponential() if cls is sl.PeriodicExponential else getattr(lif, cls.__name__)()
        v, theta = torch.linspace(-2, 4, 50), torch.tensor(1.1)
        assert torch.equal(cls().derivative(v, theta), native.derivative(v, theta))
        assert torch.equal(cls().threshold_derivative(v, theta), native.threshold_derivative(v, theta))
        assert torch.equal(cls().smooth(v, theta), native.smooth(v, theta))


def test_any_surrogate_of_torch_lif_serves():
    x = make_input(2, 20, 3, high=9.0).requires_grad_()
    sl.ALIF(**TIME_CONSTANTS, surrogate_grad_fn=lif.SuperSpike(10.0))(x).sum().backward()
    expected = torch.autograd.grad(
        lif.functional.alif(
            x,
            decay_mem=torch.exp(-1 / torch.tensor(12.0)),
            decay_adapt=torch.exp(-1 / torch.tensor(40.0)),
            surrogate=lif.SuperSpike(10.0),
            threshold_gradient=False,
        ).spikes.sum(),
        x,
    )
    assert torch.equal(x.grad, expected[0])


def test_objects_imported_from_sinabs_are_taken_as_ours():
    """By module, name and fields: sinabs itself need not be there."""

    def foreign(own):
        kind = (
            type(own.__name__ if isinstance(own, type) else type(own).__name__, (), {})
            if isinstance(own, type)
            else None
        )
        if kind is None:
            import dataclasses

            kind = dataclasses.make_dataclass(type(own).__name__, [(f.name, object) for f in dataclasses.fields(own)])
            kind.__module__ = "sinabs.activation.somewhere"
            return kind(**dataclasses.asdict(own))
        kind.__module__ = "sinabs.activation.spike_generation"
        return kind

    for arguments in (
        {
            "spike_fn": sl.MultiSpike,
            "reset_fn": sl.MembraneReset(0.2),
            "surrogate_grad_fn": sl.MultiGaussian(sigma=0.3),
        },
        {
            "spike_fn": sl.MaxSpike(2),
            "reset_fn": sl.MembraneSubtract(0.5),
            "surrogate_grad_fn": sl.PeriodicExponential(0.3),
        },
    ):
        layers = [sl.ALIF(5.0, 9.0, **arguments), sl.ALIF(5.0, 9.0, **{k: foreign(v) for k, v in arguments.items()})]
        x = make_input(2, 20, 3, high=9.0)
        results = []
        for layer in layers:
            y = x.clone().requires_grad_()
            layer(y).sum().backward()
            results.append((layer.v_mem, y.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("module", [name for name in sys.modules if name.startswith("torch_lif.compat.sinabs")])
def test_docstring_examples(module):
    assert doctest.testmod(sys.modules[module]).failed == 0


def test_public_names_have_docstrings():
    for name in sl.__all__:
        assert len(getattr(sl, name).__doc__) > 60, name

"""torch_lif.compat.hxtorch against a plain loop written from hxtorch's equations; hxtorch itself cannot be installed by
pip."""

import inspect

import pytest
import torch

from torch_lif.compat import hxtorch as hx

T, B, N = 60, 3, 7
DT = 1e-6
PARAMETERS = ("leak", "reset", "threshold", "tau_syn", "tau_mem")
TRACES = [(), ("spikes",), ("cadc",), ("spikes", "cadc")]
traces = pytest.mark.parametrize("traces", TRACES, ids=["simulated", "spikes", "cadc", "both"])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, alpha):
        ctx.save_for_backward(distance)
        ctx.alpha = alpha
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, g):
        (distance,) = ctx.saved_tensors
        return g / (ctx.alpha * distance.abs() + 1) ** 2, None


def put(computed, measured):
    """The measured value, with the gradient of the computed one."""
    if measured is None:
        return computed
    result = computed - computed.detach()
    return result + measured


def eager(kind, x, p, alpha=20.0, spikes_hw=None, cadc=None, dt=DT):
    """Every function's equations, a step at a time. `kind` is lif, refractory_lif, iaf, refractory_iaf or li."""
    rest = p["reset"] if "iaf" in kind else p["leak"]
    v = torch.zeros_like(x[0]) + rest
    i = torch.zeros_like(x[0])
    ref = torch.zeros_like(x[0])
    spikes, membrane, current = [], [], []
    for t in range(min(len(s) for s in (x, spikes_hw, cadc) if s is not None)):
        z_hw, v_hw = (None if s is None else s[t] for s in (spikes_hw, cadc))
        dv = dt / p["tau_mem"] * (i if "iaf" in kind else p["leak"] - v + i)
        decayed = i * (1 - dt / p["tau_syn"]) if kind.endswith("lif") else i + (-dt / p["tau_syn"] * i)
        i = decayed + x[t]
        v = put(dv + v, v_hw)
        if kind != "li":
            z = put(Spike.apply(v - p["threshold"], alpha), z_hw)
            if v_hw is None:
                v = (1 - z.detach()) * v + z.detach() * p["reset"]
            if kind.startswith("refractory"):
                m = (ref > 0).to(v.dtype)
                v = put((1 - m) * v + m * p["reset"], v_hw)
                z = put((1 - m) * z, z_hw)
                ref = ((1 - z) * torch.relu(ref - m) + z * p["refractory_time"] / dt).detach()
            spikes.append(z)
        membrane.append(v)
        current.append(i)
    found = [torch.stack(steps) for steps in (spikes, membrane, current) if steps]
    return tuple(found)


def fused(kind, x, p, alpha=20.0, spikes_hw=None, cadc=None, madc=None, **more):
    names = {
        name
        for name in p
        if not ("iaf" in kind and name == "leak") and not ("refractory" not in kind and name[:3] == "ref")
    }
    if kind == "li":
        names -= {"reset", "threshold"}
        more |= {} if cadc is None and madc is None else {"hw_data": (cadc, madc)}
    else:
        given = (spikes_hw, cadc, madc)
        more |= {"method": "superspike", "alpha": alpha, "hw_data": None if given == (None, None, None) else given}
    function = getattr(hx, f"cuba_{kind}_integration")
    return function(x, **{name: p[name] for name in names}, **more)


KINDS = ["lif", "refractory_lif", "iaf", "refractory_iaf", "li"]
kinds = pytest.mark.parametrize("kind", KINDS)
# A leaky integrator does not spike.
every = pytest.mark.parametrize(
    ("kind", "traces"),
    [(kind, measured) for kind in KINDS for measured in TRACES if kind != "li" or "spikes" not in measured],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "simulated",
)


def draw(dtype=torch.float32, shape=(N,), device="cpu", seed=0):
    """Input, parameters of this shape, and plausible hardware traces."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(size, low, high):
        return (torch.rand(size, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype).to(device)

    x = uniform((T, B, N), 0, 1) * (uniform((T, B, N), 0, 1) < 0.4)
    p = {
        "leak": uniform(shape, -0.1, 0.1),
        "reset": uniform(shape, -0.3, -0.1),
        "threshold": uniform(shape, 0.4, 0.8),
        "tau_syn": uniform(shape, 3e-6, 8e-6),
        "tau_mem": uniform(shape, 4e-6, 9e-6),
        "refractory_time": uniform(shape, 1.5e-6, 4e-6),
    }
    spikes_hw = (uniform((T + 5, B, N), 0, 1) < 0.1).to(dtype)
    cadc = uniform((T - 3, B, N), -0.3, 0.9)
    return x, p, spikes_hw, cadc


def hardware(wanted, spikes_hw, cadc):
    return {"spikes_hw": spikes_hw if "spikes" in wanted else None, "cadc": cadc if "cadc" in wanted else None}


@dtypes
@every
@pytest.mark.parametrize("shape", [(), (1,), (N,), (1, N)], ids=str)
def test_the_plain_loops_bits(kind, traces, dtype, shape, device):
    x, p, *measured = draw(dtype, shape, device)
    given = hardware(traces, *measured)
    expected = eager(kind, x, p, **given)
    got = fused(kind, x, p, **given)
    assert got[-1] is None
    for a, b in zip(got[:-1], expected, strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)
    if kind != "li" and "spikes" not in traces:
        assert 0.02 < float(got[0].mean()) < 0.9, "hardly a spike, or nothing but: this would prove nothing"
    assert len(got[0]) == (T - 3 if "cadc" in traces else T)


@every
@pytest.mark.parametrize("shape", [(), (1,), (N,), (1, N)], ids=str)
def test_the_plain_loops_gradients(kind, traces, shape, device):
    results = []
    for function in (eager, fused):
        x, p, *measured = draw(torch.float64, shape, device, seed=1)
        used = [
            name for name in PARAMETERS if name in inspect.signature(getattr(hx, f"cuba_{kind}_integration")).parameters
        ]
        leaves = [x, *(p[name] for name in used)]
        for leaf in leaves:
            leaf.requires_grad_()
        out = function(kind, x, p, **hardware(traces, *measured))
        generator = torch.Generator().manual_seed(2)
        total = sum(
            (o * torch.randn(o.shape, generator=generator, dtype=torch.float64).to(device)).sum()
            for o in out
            if o is not None
        )
        grads = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        results.append(dict(zip(("input", *used), grads, strict=True)))
    expected, got = results
    for name, grad in expected.items():
        assert got[name].shape == grad.shape
        # Both are sums of the same terms in float64, in another order: 1e-10 is far above their rounding.
        torch.testing.assert_close(got[name], grad, rtol=1e-10, atol=1e-10 * float(grad.abs().max()), msg=name)
        if name != "reset" or "cadc" not in traces or "refractory" in kind:
            assert bool((grad != 0).any()), f"{name} has no gradient: this would prove nothing"


def test_leak_has_a_gradient_through_the_initial_membrane():
    x, p, *_ = draw(torch.float64, ())
    leak = p["leak"].requires_grad_()
    _, membrane, *_ = fused("lif", x[:1], p)
    (grad,) = torch.autograd.grad(membrane.sum(), leak)
    assert float(grad) == pytest.approx(B * N)


@every
@dtypes
def test_numbers_as_parameters(kind, traces, dtype):
    """A number is divided in double precision by the plain loop, and its 1 - dt/tau too."""
    tau = 2.4e-6
    rounded, difference = torch.tensor(1 - DT / tau), 1 - torch.tensor(DT / tau)
    assert rounded != difference, "rounding late or early would be the same, and this prove nothing"
    for seed in range(5):
        x, p, *measured = draw(dtype, (), seed=seed)
        p = {name: float(value) for name, value in p.items()} | {"tau_syn": tau + seed * 1e-6}
        given = hardware(traces, *measured)
        for a, b in zip(fused(kind, x, p, **given)[:-1], eager(kind, x, p, **given), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["lif", "iaf"])
@traces
@dtypes
def test_a_step_is_one_step_of_the_sequence(kind, traces, dtype, device):
    x, p, spikes_hw, cadc = draw(dtype, device=device)
    given = hardware(traces, spikes_hw, cadc)
    spikes, membrane, current, _ = fused(kind, x, p, **given)
    names = [name for name in PARAMETERS if kind == "lif" or name != "leak"]
    step = hx.cuba_lif_step if kind == "lif" else hx.iaf_step
    z, v, i = None, p["leak" if kind == "lif" else "reset"], torch.zeros((), dtype=dtype, device=device)
    for t in range(len(spikes)):
        z_hw, v_hw = (None if s is None else s[t] for s in given.values())
        z, v, i = step(
            z, v, i, x[t], z_hw, v_hw, method="super_spike", alpha=20.0, dt=DT, **{name: p[name] for name in names}
        )
        assert torch.equal(z, spikes[t])
        assert torch.equal(v, membrane[t])
        assert torch.equal(i, current[t])


@traces
def test_steps_and_refractory_updates_are_the_refractory_sequence(traces):
    """Values and gradients, with the public functions in a loop of the user's own."""
    results = []
    for whole in (True, False):
        x, p, spikes_hw, cadc = draw(torch.float64)
        given = hardware(traces, spikes_hw, cadc)
        leaves = [x, *(p[name] for name in PARAMETERS)]
        for leaf in leaves:
            leaf.requires_grad_()
        if whole:
            spikes, membrane, *_ = fused("refractory_lif", x, p, **given)
        else:
            z, v, i, ref = None, p["leak"], torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
            kept = []
            for t in range(len(cadc) if "cadc" in traces else T):
                hw = [None if s is None else s[t] for s in given.values()]
                z, v, i = hx.cuba_lif_step(
                    z, v, i, x[t], *hw, method="superspike", alpha=20.0, **{name: p[name] for name in PARAMETERS}
                )
                z, v, ref = hx.refractory_update(
                    z, v, ref, *hw, reset=p["reset"], refractory_time=p["refractory_time"], dt=DT
                )
                kept.append((z, v))
            spikes, membrane = (torch.stack(steps) for steps in zip(*kept, strict=True))
        weight = torch.linspace(-1, 1, spikes.numel(), dtype=x.dtype).reshape(spikes.shape)
        grads = torch.autograd.grad(((spikes + membrane) * weight).sum(), leaves)
        results.append((spikes, membrane, grads))
    (spikes, membrane, grads), (other_spikes, other_membrane, other_grads) = results
    assert torch.equal(spikes, other_spikes)
    assert torch.equal(membrane, other_membrane)
    for a, b in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max()))


def test_refractory_update():
    z, v = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    ref = torch.tensor([0.0, 1.5, 1.5, 0.25])
    got = hx.refractory_update(z, v, ref, None, None, reset=-1.0, refractory_time=2.5e-6, dt=1e-6)
    expected = ([1.0, 0.0, 0.0, 0.0], [0.1, -1.0, -1.0, -1.0], [2.5, 0.5, 0.5, 0.0])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, torch.tensor(b))
    measured = torch.tensor([0.0, 1.0, 0.0, 1.0])
    z, v, ref = hx.refractory_update(z, v, ref, measured, measured * 2, reset=-1.0, refractory_time=2.5e-6, dt=1e-6)
    assert torch.equal(z, measured)
    assert torch.equal(v, measured * 2)
    torch.testing.assert_close(ref, torch.tensor([0.0, 2.5, 0.5, 2.5]))


def test_neurons_rest_for_the_refractory_time():
    """A period of 2.5 steps silences three; the neuron then spikes at once."""
    x, p, *_ = draw()
    x = torch.full_like(x, 5.0)
    p["refractory_time"] = torch.tensor(2.5e-6)
    spikes = fused("refractory_lif", x, p)[0][:, 0, 0]
    first = int(spikes.argmax())
    gap = int(spikes[first + 1 :].argmax())
    assert gap == 3


def test_unterjubel():
    a, b = torch.rand(4, requires_grad=True), torch.rand(4, requires_grad=True)
    out = hx.Unterjubel.apply(a, b)
    assert torch.equal(out, b)
    grads = torch.autograd.grad((out * torch.arange(4)).sum(), (a, b), allow_unused=True)
    assert torch.equal(grads[0], torch.arange(4.0))
    assert grads[1] is None


@pytest.mark.parametrize("alpha", [20.0, torch.tensor(20.0), torch.tensor([20.0])])
@pytest.mark.parametrize("method", ["superspike", "super_spike"])
def test_spiking_threshold(method, alpha, device):
    x = torch.tensor([-0.5, -1e-9, 0.0, 1e-9, 0.5], dtype=torch.float64, device=device, requires_grad=True)
    g = torch.arange(1.0, 6.0, dtype=torch.float64, device=device)
    spikes = hx.spiking_threshold(x, method, alpha)
    assert spikes.tolist() == [0, 0, 0, 1, 1]
    (grad,) = torch.autograd.grad(spikes, x, g)
    torch.testing.assert_close(grad, g / (20 * x.detach().abs() + 1) ** 2, rtol=1e-14, atol=0)


@kinds
def test_batch_first(kind):
    x, p, spikes_hw, cadc = draw()
    given = {"cadc": cadc} if kind == "li" else {"spikes_hw": spikes_hw, "cadc": cadc}
    expected = fused(kind, x, p, **given)
    swapped = {name: data.transpose(0, 1) for name, data in given.items()}
    got = fused(kind, x.transpose(0, 1), p, **swapped, batch_first=True)
    for a, b in zip(got[:-1], expected[:-1], strict=True):
        assert torch.equal(a.transpose(0, 1), b)


def test_madc_is_passed_through_untouched():
    x, p, spikes_hw, cadc = draw()
    madc = torch.rand(13, 2)
    for kind in KINDS:
        assert fused(kind, x, p, madc=madc)[-1] is madc
        assert len(fused(kind, x, p, madc=madc)[0]) == T
    names = ("leak", "tau_syn", "tau_mem")
    for data in ((cadc, madc), (None, cadc, madc), (spikes_hw, cadc, madc)):
        membrane, current, last = hx.cuba_li_integration(x, **{name: p[name] for name in names}, hw_data=data)
        assert torch.equal(membrane, cadc)
        assert len(current) == len(cadc)
        assert last is madc


def test_input_beyond_the_traces_has_no_gradient():
    x, p, _, cadc = draw()
    x.requires_grad_()
    spikes, *_ = fused("lif", x, p, cadc=cadc[:20])
    spikes.sum().backward()
    assert len(spikes) == 20
    assert bool((x.grad[:19] != 0).any())
    assert not x.grad[20:].any()


@kinds
def test_half_precision(kind):
    """Stored half, computed in float32, with float32 parameters or of the same half type."""
    x, p, *_ = draw()
    half = x.bfloat16()
    got = fused(kind, half, p)
    for a, b in zip(got[:-1], fused(kind, half.float(), p)[:-1], strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.equal(a, b.bfloat16())
    rounded = {name: value.bfloat16() for name, value in p.items()}
    widened = {name: value.float() for name, value in rounded.items()}
    for a, b in zip(fused(kind, half, rounded)[:-1], fused(kind, half, widened)[:-1], strict=True):
        assert torch.equal(a, b)


def test_compiled(device):
    x, p, *_ = draw(device=device)
    expected = fused("refractory_lif", x, p)
    compiled = torch.compile(lambda: fused("refractory_lif", x, p), fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled()[:-1], expected[:-1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_shared_parameters_may_stay_on_the_cpu():
    x, p, *_ = draw(shape=())
    on_gpu = fused("refractory_lif", x.cuda(), {name: value.cuda() for name, value in p.items()})
    for a, b in zip(fused("refractory_lif", x.cuda(), p)[:-1], on_gpu[:-1], strict=True):
        assert torch.equal(a, b)


X, P, SPIKES, CADC = draw()
LIF = {**{name: P[name] for name in PARAMETERS}, "method": "superspike", "alpha": 20.0}
BAD = [
    (ValueError, "method is 'tanh', expected 'superspike'", {"method": "tanh"}),
    (ValueError, "method is None", {"method": None}),
    (ValueError, "alpha is 0", {"alpha": 0.0}),
    (TypeError, "alpha requires a gradient", {"alpha": torch.tensor(1.0, requires_grad=True)}),
    (ValueError, "tau_mem is 0, expected above 0", {"tau_mem": 0.0}),
    (ValueError, "the lowest value of tau_syn is -1, expected above 0", {"tau_syn": torch.linspace(-1, 1, N)}),
    (ValueError, "tau_syn is nan", {"tau_syn": float("nan")}),
    (TypeError, "tau_mem is '1us', expected a number or a tensor", {"tau_mem": "1us"}),
    (TypeError, "leak is None, expected a number or a tensor", {"leak": None}),
    (TypeError, "threshold is torch.float64, expected torch.float32", {"threshold": P["threshold"].double()}),
    (TypeError, "reset is torch.int64", {"reset": torch.tensor(0)}),
    (
        ValueError,
        r"leak has shape \(3, 1\), expected \(\) or a shape that broadcasts to \(7,\)",
        {"leak": torch.zeros(B, 1)},
    ),
    (ValueError, r"reset has shape \(5,\)", {"reset": torch.zeros(5)}),
    (ValueError, "leak is on meta but the input is on cpu", {"leak": torch.zeros(N, device="meta")}),
    (ValueError, "dt is 0, expected a time step", {"dt": 0}),
    (TypeError, "input is a list", {"input": [1.0]}),
    (TypeError, r"input is torch.int64.*input\.float\(\)", {"input": X.long()}),
    (ValueError, r"input has shape \(60, 3\), expected \(time, batch, neurons\)", {"input": X[..., 0]}),
    (
        ValueError,
        r"input has shape \(60, 3\), expected \(batch, time, neurons\)",
        {"input": X[..., 0], "batch_first": True},
    ),
    (ValueError, "to_dense", {"input": X.to_sparse()}),
    (
        ValueError,
        r"hw_data is a tuple of 2, expected a tuple \(spikes, membrane_cadc, membrane_madc\)",
        {"hw_data": (None, CADC)},
    ),
    (ValueError, "hw_data is a Tensor, expected a tuple", {"hw_data": CADC}),
    (TypeError, "membrane_cadc of hw_data is a float", {"hw_data": (None, 1.0, None)}),
    (ValueError, r"spikes of hw_data has shape \(65, 2, 7\).*\(60, 3, 7\)", {"hw_data": (SPIKES[:, :2], None, None)}),
    (TypeError, "spikes_hw is Bool, expected Float", {"hw_data": (SPIKES.bool(), None, None)}),
]


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message for _, message, _ in BAD])
def test_errors(error, message, changes):
    changes = dict(changes)
    with pytest.raises(error, match=message):
        hx.cuba_lif_integration(changes.pop("input", X), **{**LIF, **changes})


def test_errors_of_the_others():
    li = {name: P[name] for name in ("leak", "tau_syn", "tau_mem")}
    with pytest.raises(ValueError, match=r"hw_data is a tuple of 1, expected"):
        hx.cuba_li_integration(X, **li, hw_data=(CADC,))
    with pytest.raises(ValueError, match="cuba_li_integration: tau_mem is -1"):
        hx.cuba_li_integration(X, **{**li, "tau_mem": -1})
    with pytest.raises(ValueError, match="refractory_time is -1e-06, expected 0 or more"):
        hx.cuba_refractory_lif_integration(X, **LIF, refractory_time=-1e-6)
    with pytest.raises(ValueError, match="refractory_time is -1e-06, expected 0 or more"):
        hx.refractory_update(X[0], X[0], X[0], None, None, reset=0.0, refractory_time=-1e-6, dt=1e-6)
    with pytest.raises(TypeError, match="refractory_time is None, expected a number or a tensor"):
        hx.cuba_refractory_lif_integration(X, **LIF, refractory_time=None)
    with pytest.raises(ValueError, match="method is 'relu'"):
        hx.spiking_threshold(X, "relu", 1.0)
    with pytest.raises(ValueError, match=r"cuba_lif_step: v has shape \(2, 7\), expected .* \(3, 7\)"):
        hx.cuba_lif_step(None, X[0, :2], X[0], X[0], None, None, **LIF)
    with pytest.raises(TypeError, match="spikes_hw is a list, expected a tensor or None"):
        hx.cuba_lif_step(None, X[0], X[0], X[0], [1.0], None, **LIF)
    with pytest.raises(ValueError, match=r"membrane_hw has shape \(1, 7\), expected input's, \(3, 7\)"):
        hx.cuba_lif_step(None, X[0], X[0], X[0], None, CADC[0, :1], **LIF)


def test_signatures():
    """hxtorch's argument order; batch_first, the one of our own, comes last."""
    step = ["z", "v", "i", "input", "spikes_hw", "membrane_hw"]
    last = ["threshold", "tau_syn", "tau_mem"]
    rule = ["method", "alpha"]
    expected = {
        "cuba_lif_step": [*step, "leak", "reset", *last, *rule, "dt"],
        "iaf_step": [*step, "reset", *last, *rule, "dt"],
        "refractory_update": ["z", "v", "ref_state", "spikes_hw", "membrane_hw", "reset", "refractory_time", "dt"],
        "spiking_threshold": ["input", *rule],
        "cuba_lif_integration": ["input", "leak", "reset", *last, *rule, "hw_data", "dt", "batch_first"],
        "cuba_refractory_lif_integration": [
            *("input", "leak", "reset", *last, "refractory_time", *rule, "hw_data", "dt", "batch_first")
        ],
        "cuba_iaf_integration": ["input", "reset", *last, *rule, "hw_data", "dt", "batch_first"],
        "cuba_refractory_iaf_integration": [
            "input",
            "reset",
            *last,
            "refractory_time",
            *rule,
            "hw_data",
            "dt",
            "batch_first",
        ],
        "cuba_li_integration": ["input", "leak", "tau_syn", "tau_mem", "hw_data", "dt", "batch_first"],
    }
    assert set(hx.__all__) == {*expected, "Unterjubel"}
    for name, names in expected.items():
        assert list(inspect.signature(getattr(hx, name)).parameters) == names
        assert len(getattr(hx, name).__doc__) > 60

"""torch_lif.compat.rockpool without Rockpool: against a plain loop written here from the equations of its
documentation."""

import pytest
import torch

import torch_lif as lif
from torch_lif.compat.rockpool import LIFNeuronTorch, LIFTorch, PeriodicExponential, StepPWL, sigmoid

MODES = {"taus": ("tau_mem", "tau_syn"), "decays": ("alpha", "beta"), "bitshifts": ("dash_mem", "dash_syn")}
N = 5


class PlainStepPWL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, theta, window, most):
        ctx.save_for_backward(v, theta)
        ctx.window = window
        return ((v >= theta) * torch.floor(v / theta)).clamp(max=most)

    @staticmethod
    def backward(ctx, g):
        v, theta = ctx.saved_tensors
        mask = (v >= theta - ctx.window).to(v.dtype)
        return g / theta * mask, (-v * g / theta**2 * mask).sum_to_size(theta.shape), None, None


class PlainPeriodic(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, theta, window, most):
        ctx.save_for_backward(v, theta)
        ctx.window, ctx.most = window, most
        return ((v >= theta) * torch.floor(v / theta)).clamp(max=most)

    @staticmethod
    def backward(ctx, g):
        v, theta = ctx.saved_tensors
        u = v - theta / 2
        k = torch.floor(u / theta).clamp(max=ctx.most - 1)
        q = torch.where(v >= theta, u - k * theta, u)
        p = torch.exp(-(q - theta / 2).abs() / ctx.window) / theta
        return g * p, (-g * p * v / theta).sum_to_size(theta.shape), None, None


def plain_sigmoid(v, theta, window, most):
    return torch.tanh(v + 1 - theta) / 2 + 0.5


PLAIN = {StepPWL: PlainStepPWL.apply, PeriodicExponential: PlainPeriodic.apply, sigmoid: plain_sigmoid}


def decay(mode, value, dt=1e-3):
    return torch.exp(-dt / value) if mode == "taus" else value if mode == "decays" else 1 - 1 / 2**value


def plain(
    x, alpha, beta, theta, bias, *, S=0, w_rec=None, fn=StepPWL, window=0.5, most=2.0**16, state=None, noise=None
):
    """The sequence step by step: {"out", "vmem", "isyn", "irec"} over time, and the last (vmem, isyn, spikes)."""
    B, T, _ = x.shape
    count = alpha.shape[0] if alpha.dim() else theta.shape[0]
    v, i, n = state or (x.new_zeros(B, count), x.new_zeros(B, count, max(1, S)), x.new_zeros(B, count))
    traces = {"out": [], "vmem": [], "isyn": [], "irec": []}
    for t in range(T):
        irec = torch.zeros_like(i) if w_rec is None else (n @ w_rec).reshape(i.shape)
        v = v * alpha
        if S:
            i = (i + x[:, t].reshape(i.shape) + irec) * beta
            total = i[..., 0]
            for k in range(1, S):
                total = total + i[..., k]
            v = v + total
        else:
            v = v + x[:, t]
        v = v + (0.0 if noise is None else noise[:, t]) + bias
        n = PLAIN[fn](v, theta, window, most)
        v = v - n * theta
        for name, value in zip(traces, (n, v, i, irec), strict=True):
            traces[name].append(value)
    return {name: torch.stack(values, 1) for name, values in traces.items()}, (v, i, n)


def uniform(*shape, low, high):
    return torch.rand(shape) * (high - low) + low


RANGES = {"taus": (5e-3, 60e-3), "decays": (0.5, 0.98), "bitshifts": (1.0, 5.0)}


def arguments(mode, S, per="neuron"):
    """Random leaks of a mode, threshold and bias; one a neuron, or one for all."""
    mem, syn = MODES[mode]
    low, high = RANGES[mode]
    shape, syn_shape = {"neuron": ((N,), (N, S)), "shared": ((), ()), "synapse": ((N,), (1, S))}[per]
    return {
        mem: uniform(*shape, low=low, high=high),
        syn: uniform(*syn_shape, low=low, high=high),
        "threshold": uniform(*shape, low=0.3, high=1.2),
        "bias": uniform(*shape, low=-0.05, high=0.1),
    }


def exact_weights(*shape):
    """Weights whose sums of products with spike counts are exact, whatever their order."""
    return torch.randint(-24, 24, shape) / 64


@pytest.mark.parametrize("per", ["neuron", "shared", "synapse"])
@pytest.mark.parametrize("S", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_same_bits_as_the_plain_loop(mode, S, per, target):
    kwargs = arguments(mode, S, per)
    module = LIFTorch((N * S, N), leak_mode=mode, max_spikes_per_dt=3, keep_batch_state=True, **kwargs).to(target)
    x = (torch.rand(3, 20, N * S) * 0.7).to(target)
    # Made on the CPU: an exponential need not have the same last bit on every device, but it is the module's own here.
    expected, last = plain(x, module.alpha.expand(N), module.beta, module.threshold, module.bias, S=S, most=3)
    out, state, record = module(x, record=True)
    assert 0 < out.mean() < 3
    assert torch.equal(out, expected["out"])
    assert torch.equal(record["spikes"], out)
    assert set(record) == {"vmem", "isyn", "irec", "spikes"}
    for name in ("vmem", "isyn", "irec"):
        assert torch.equal(record[name], expected[name]), name
        assert record[name].device == x.device
    assert not record["irec"].any()
    for name, value in zip(("vmem", "isyn", "spikes"), last, strict=True):
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("mode", MODES)
def test_decays_are_computed_as_rockpool_does(mode):
    kwargs = arguments(mode, 2)
    module = LIFTorch((2 * N, N), leak_mode=mode, dt=2e-3, **kwargs)
    mem, syn = MODES[mode]
    assert torch.equal(module.alpha, decay(mode, kwargs[mem], 2e-3))
    assert torch.equal(module.beta, decay(mode, kwargs[syn], 2e-3))


def test_without_synapses_same_bits(target):
    tau, theta, bias = uniform(N, low=5e-3, high=50e-3), uniform(N, low=0.4, high=1.2), uniform(N, low=-0.05, high=0.1)
    module = LIFNeuronTorch(N, tau_mem=tau, threshold=theta, bias=bias, dt=2e-3, keep_batch_state=True).to(target)
    x = (torch.rand(4, 25, N)).to(target)
    expected, last = plain(x, torch.exp(-2e-3 / module.tau_mem), None, module.threshold, module.bias)
    out, state, record = module(x, record=True)
    assert out.any()
    assert torch.equal(out, expected["out"])
    assert set(record) == {"vmem", "spikes"}
    assert torch.equal(record["vmem"], expected["vmem"])
    assert set(state) == {"vmem"}
    assert torch.equal(state["vmem"], last[0])


@pytest.mark.parametrize("S", [1, 2])
def test_recurrence_same_bits_and_goes_on_where_it_stopped(S, target):
    """With weights whose products are exact. The last spikes of a call reach the first step of the next."""
    w_rec = exact_weights(N, N * S)
    module = LIFTorch((N * S, N), has_rec=True, w_rec=w_rec, keep_batch_state=True, **arguments("taus", S)).to(target)
    x = (torch.rand(3, 30, N * S) * 0.5).to(target)
    expected, last = plain(x, module.alpha, module.beta, module.threshold, module.bias, S=S, w_rec=module.w_rec)
    parts = [module(part, record=True) for part in x.split([7, 1, 22], 1)]
    assert torch.equal(torch.cat([part[0] for part in parts], 1), expected["out"])
    for name in ("vmem", "isyn", "irec"):
        assert torch.equal(torch.cat([part[2][name] for part in parts], 1), expected[name]), name
    assert expected["irec"].any()
    for name, value in zip(("vmem", "isyn", "spikes"), last, strict=True):
        assert torch.equal(module.state()[name], value), name


@pytest.mark.parametrize("fn", [StepPWL, PeriodicExponential, sigmoid])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_everything(mode, recurrent, fn, device):
    """In float64, of a random sum of output and records. Sums of a few hundred terms of like size, in another order:
    1e-11."""
    S, B = 2, 3
    w_rec = {"has_rec": True, "w_rec": uniform(N, N * S, low=-0.3, high=0.4)} if recurrent else {}
    module = LIFTorch(
        (N * S, N),
        leak_mode=mode,
        spike_generation_fn=fn,
        learning_window=0.4,
        max_spikes_per_dt=4,
        keep_batch_state=True,
        **arguments(mode, S),
        **w_rec,
    )
    module.to(device).double()
    x = (torch.rand(B, 12, N * S, dtype=torch.float64) * 0.5).to(device).requires_grad_()
    first = tuple(
        torch.rand(B, *shape, dtype=torch.float64).to(device).requires_grad_() for shape in [(N,), (N, S), (N,)]
    )
    for name, value in zip(("vmem", "isyn", "spikes"), first, strict=True):
        setattr(module, name, value)
    mem, syn = MODES[mode]
    leaves = {"x": x, "vmem": first[0], "isyn": first[1], **module.parameters()}
    if recurrent:
        leaves["spikes"] = first[2]
    out, _, record = module(x, record=True)
    expected, _ = plain(
        x,
        decay(mode, module.parameters()[mem]),
        decay(mode, module.parameters()[syn]),
        module.threshold,
        module.bias,
        S=S,
        w_rec=module.w_rec if recurrent else None,
        fn=fn,
        window=0.4,
        most=4,
        state=first,
    )
    torch.testing.assert_close(out, expected["out"], rtol=1e-12, atol=1e-12)
    got = {"out": out, **{name: record[name] for name in ("vmem", "isyn", "irec")}}
    weights = {name: torch.randn_like(value) for name, value in expected.items()}
    totals = [sum((values[name] * weights[name]).sum() for name in expected) for values in (got, expected)]
    grads = [torch.autograd.grad(total, list(leaves.values())) for total in totals]
    for name, ours, plainly in zip(leaves, *grads, strict=True):
        assert plainly.any(), name
        assert (ours - plainly).abs().max() <= 1e-11 * plainly.abs().max(), name


def test_gradients_without_synapses():
    for fn in (StepPWL, PeriodicExponential, sigmoid):
        module = LIFNeuronTorch(N, spike_generation_fn=fn, bias=torch.full((N,), 0.02)).double()
        x = torch.rand(2, 15, N, dtype=torch.float64, requires_grad=True)
        module.vmem = torch.rand(N, dtype=torch.float64, requires_grad=True)
        leaves = {"x": x, "vmem": module.vmem, **module.parameters()}
        first = (module.vmem.expand(2, N), torch.zeros(2, N, 1), torch.zeros(2, N))
        expected, _ = plain(
            x, torch.exp(-1e-3 / module.tau_mem), None, module.threshold, module.bias, fn=fn, state=first
        )
        out, _, record = module(x, record=True)
        weights = torch.randn_like(out), torch.randn_like(out)
        ours = torch.autograd.grad((out * weights[0] + record["vmem"] * weights[1]).sum(), list(leaves.values()))
        plainly = torch.autograd.grad(
            (expected["out"] * weights[0] + expected["vmem"] * weights[1]).sum(), list(leaves.values())
        )
        for name, a, b in zip(leaves, ours, plainly, strict=True):
            assert (a - b).abs().max() <= 1e-11 * b.abs().max(), name


@pytest.mark.parametrize("has_rec", [False, True])
def test_item_0s_state_is_every_items(has_rec):
    """As in Rockpool: so that a script may train with one batch size and test with another."""
    module = LIFTorch((2 * N, N), has_rec=has_rec, **arguments("taus", 2))
    x = torch.rand(4, 24, 2 * N) * 0.4
    whole = module(x, record=True)
    state = module.state()
    assert {name: tuple(s.shape) for name, s in state.items()} == {"vmem": (N,), "isyn": (N, 2), "spikes": (N,)}
    for name, trace in (("vmem", "vmem"), ("isyn", "isyn"), ("spikes", "spikes")):
        assert torch.equal(state[name], whole[2][trace][0, -1])
        assert state[name].untyped_storage().nbytes() == state[name].numel() * 4, "nothing of the batch is held"
        assert not state[name].requires_grad
    module.reset_state()
    first, second = module(x[:, :9])[0], module(x[:1, 9:].expand(7, -1, -1))[0]
    assert torch.equal(torch.cat([first[0], second[0]], 0), whole[0][0])
    assert torch.equal(second, second[:1].expand(7, -1, -1))
    neurons = LIFNeuronTorch(N)
    neurons(torch.rand(3, 9, N))
    assert neurons.vmem.shape == (N,)
    assert neurons(torch.rand(2, 9, N))[0].shape == (2, 9, N)
    for wrong in (torch.zeros(4, N), torch.zeros(N + 1)):
        with pytest.raises(
            ValueError, match=r"vmem was set to shape .*, expected \(5,\), the same for every .* keep_batch_state=True"
        ):
            module.vmem = wrong
    with pytest.raises(ValueError, match="keep_batch_state was set to True, but the module was made with False"):
        module.keep_batch_state = True


def test_every_item_of_the_batch_keeps_its_own_state_on_request():
    module = LIFTorch((2 * N, N), keep_batch_state=True, **arguments("taus", 2))
    x = torch.rand(4, 24, 2 * N) * 0.4
    whole = module(x)[0]
    module.reset_state()
    first, second = module(x[:, :9])[0], module(x[:, 9:])[0]
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert {name: tuple(s.shape) for name, s in module.state().items()} == {
        "vmem": (4, N),
        "isyn": (4, N, 2),
        "spikes": (4, N),
    }
    assert not any(s.requires_grad for s in module.state().values())
    assert module.spikes.untyped_storage().nbytes() == 4 * N * 4  # nothing of the output is held

    with pytest.raises(ValueError, match=r"batch of 3.*kept from one of 4.*reset_state"):
        module(x[:3])
    module.set_attributes(
        {name: value[1] for name, value in module.state().items()}
    )  # one item's, for a batch of any size
    assert module(x[:3])[0].shape == (3, 24, N)
    assert module.reset_state() is module
    assert torch.equal(module(x)[0], whole)


def test_a_batch_of_one_keeps_rockpools_shapes():
    module = LIFTorch(N)
    out, state, _ = module(torch.rand(30, N))
    assert out.shape == (1, 30, N)
    assert {name: tuple(s.shape) for name, s in state.items()} == {"vmem": (N,), "isyn": (N, 1), "spikes": (N,)}
    again, _, record = module(torch.zeros(3, 1, N), record=True)
    assert again.shape == (3, 1, N)
    assert torch.equal(record["vmem"][0], record["vmem"][2])
    assert torch.equal(record["isyn"][1, 0], state["isyn"] * module.beta)


@pytest.mark.parametrize("has_rec", [False, True])
def test_empty_sequences_and_batches(has_rec):
    module = LIFTorch((2 * N, N), has_rec=has_rec)
    module(torch.rand(2, 20, 2 * N))
    before = {name: s.clone() for name, s in module.state().items()}
    out, state, record = module(torch.rand(2, 0, 2 * N), record=True)
    assert out.shape == (2, 0, N)
    assert record["isyn"].shape == (2, 0, N, 2)
    assert all(torch.equal(state[name], before[name]) for name in before)
    module.reset_state()
    assert module(torch.rand(0, 4, 2 * N))[0].shape == (0, 4, N)
    assert module.vmem.shape == (N,)


def test_states_from_inference_mode_can_be_trained_on_from():
    module = LIFTorch(N, has_rec=True)
    with torch.inference_mode():
        module(torch.rand(2, 9, N))
    module(torch.rand(2, 9, N))[0].sum().backward()
    assert module.tau_mem.grad is not None


def test_setting_states():
    module = LIFTorch((2 * N, N), keep_batch_state=True)
    module.vmem = torch.full((N,), 0.3)
    module.isyn = torch.full((7, N, 2), 0.1)
    for name, wrong in (("vmem", torch.zeros(N + 1)), ("isyn", torch.zeros(N)), ("spikes", torch.zeros(2, 2, N))):
        with pytest.raises(ValueError, match=f"{name} was set to shape"):
            setattr(module, name, wrong)
    with pytest.raises(TypeError, match="vmem was set to a float"):
        module.vmem = 0.5


# Spike functions


@pytest.mark.parametrize("fn", [StepPWL, PeriodicExponential])
def test_spike_classes_have_values_and_gradients_of_their_own(fn):
    v = (torch.rand(4, N) * 5 - 1).requires_grad_()
    theta = uniform(N, low=0.4, high=1.2).requires_grad_()
    g = torch.randn(4, N)
    for most in (2.0**16, 2.0):
        ours = fn.apply(v, theta, torch.tensor(0.3), torch.tensor(most))
        assert torch.equal(ours, PLAIN[fn](v, theta, 0.3, most))
        grads = (
            torch.autograd.grad(ours, (v, theta), g),
            torch.autograd.grad(PLAIN[fn](v, theta, 0.3, most), (v, theta), g),
        )
        for a, b in zip(*grads, strict=True):
            # The same few operations, in another order.
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert torch.equal(fn.apply(v), fn.apply(v, 1.0, 0.5, 2.0**16))
    with pytest.raises(ValueError, match=r"window is 0\.0"):
        fn.apply(v, 1.0, 0.0)


def test_sigmoid_does_not_spike():
    v = torch.linspace(-3, 3, 50)
    assert torch.equal(sigmoid(v, 0.7), torch.tanh(v + 1 - 0.7) / 2 + 0.5)
    module = LIFTorch(N, spike_generation_fn=sigmoid)
    x = torch.rand(2, 20, N)
    expected, _ = plain(x, module.alpha, module.beta, module.threshold, module.bias, S=1, fn=sigmoid)
    # 1/(1 + exp(-2u)) in the place of tanh(u)/2 + 1/2: a few units in the last place, which the leak forgets.
    torch.testing.assert_close(module(x)[0], expected["out"], rtol=0, atol=2e-6)
    assert module.spike_generation_fn is sigmoid


def test_what_spike_generation_fn_may_be():
    module = LIFTorch(N, learning_window=0.3)
    for given in (PeriodicExponential, PeriodicExponential.apply):
        module.spike_generation_fn = given
        assert module._surrogate == lif.PeriodicExponential(0.3)
        assert module.spike_generation_fn == PeriodicExponential.apply
    module.learning_window = torch.tensor(0.25)
    assert module._surrogate == lif.PeriodicExponential(0.25)

    module.spike_generation_fn = lif.SuperSpike(10.0)
    assert module._surrogate == lif.SuperSpike(10.0)
    module.spike_generation_fn = module.spike_generation_fn
    assert module._surrogate == lif.SuperSpike(10.0)
    v = torch.rand(N, requires_grad=True)
    module.spike_generation_fn(v, 1.0).sum().backward()
    torch.testing.assert_close(v.grad, lif.SuperSpike(10.0).derivative(v.detach(), torch.tensor(1.0)))

    def theirs(name):
        own = type(name, (torch.autograd.Function,), {})
        own.__module__ = "rockpool.nn.modules.torch.lif_torch"
        return own

    for given in (theirs("StepPWL"), theirs("StepPWL").apply):
        module.spike_generation_fn = given
        assert module._surrogate == lif.StepPWL(0.25)
    for wrong in (
        theirs("Other"),
        type("StepPWL", (torch.autograd.Function,), {}),
        lif.StepPWL,
        type("Mine", (StepPWL,), {}),
        None,
    ):
        with pytest.raises(TypeError, match="only these run inside the fused loop"):
            module.spike_generation_fn = wrong


# Noise


def test_noise_is_drawn_once_a_call(device):
    module = LIFTorch(N, noise_std=12.0, dt=4e-3).to(device)
    x = torch.zeros(2, 30, N, device=device)
    torch.manual_seed(3)
    noise = 12.0 * torch.sqrt(torch.tensor(4e-3)) * torch.randn(2, 30, N, device=device)
    expected, _ = plain(x, module.alpha, module.beta, module.threshold, module.bias, S=1, noise=noise)
    torch.manual_seed(3)
    assert torch.equal(module(x, record=True)[2]["vmem"], expected["vmem"])
    assert expected["out"].any()
    generator = torch.Generator(device).manual_seed(3)
    first, second = (module.reset_state()(x, record=True, generator=generator)[2]["vmem"] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(module.reset_state().to_torch()(x, generator=generator.manual_seed(3)), expected["out"])
    assert torch.equal(first, expected["vmem"])


def test_no_noise_leaves_the_generator_alone():
    before = torch.get_rng_state()
    LIFTorch(N)(torch.zeros(2, 5, N))
    assert torch.equal(torch.get_rng_state(), before)

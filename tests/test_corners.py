"""What a fuzzer tries: tensors that are not what they seem, numbers at the edge, values that are set later."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from cases import CASES, SURROGATES, assert_same_bits, make, same_bits
from torch import nn

import torch_lif as lif
from torch_lif import _call
from torch_lif import functional as F
from torch_lif import reference as R

OPS = torch.ops.torch_lif
X = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))


def negated(t):
    """The same values by PyTorch's negative bit: the memory holds their negatives."""
    return torch._neg_view(-t)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_negative_bit(case, device):
    """Inputs, parameters, states and weights as they come out of complex arithmetic (z.conj().imag), and gradients
    too."""
    arguments = make(case, T=9, B=2, neurons=5, device=device)
    expected = case.fused(**arguments)
    views = {k: negated(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    views["state"] = tuple(None if s is None else negated(s) for s in arguments["state"])
    assert_same_bits(case.fused(**views), expected)
    leaf = arguments["x"].clone().requires_grad_()
    other = views | {"x": leaf}
    outputs = [t for t in (case.fused(**other)[0], *case.fused(**other).state) if t is not None and t.requires_grad]
    weights = [torch.rand(t.shape, device=device, dtype=t.dtype) for t in outputs]
    (expected_grad,) = torch.autograd.grad(outputs, leaf, weights, retain_graph=True)
    (grad,) = torch.autograd.grad(outputs, leaf, [negated(w) for w in weights])
    assert torch.equal(grad, expected_grad)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zeros_without_memory(case, device):
    arguments = make(case, T=9, B=2, neurons=5, device=device)
    zeros = {k: torch.zeros_like(v) for k, v in arguments.items() if k in (*case.inputs, *case.weights, "x")}
    without = {k: torch._efficientzerotensor(v.shape, device=device) for k, v in zeros.items()}
    assert_same_bits(case.fused(**arguments | without), case.fused(**arguments | zeros))


def freed(*shape, left=0, dtype=torch.float32):
    t = torch.ones(shape, dtype=dtype)
    t.untyped_storage().resize_(left)
    return t


@pytest.mark.parametrize("left", [0, 8])
@pytest.mark.parametrize("name", ["x", "noise", "threshold", "bias", "w_rec", "state"])
def test_freed_memory(name, left):
    """As FSDP frees a parameter's outside of the module's call: an error, where its address would be walked."""
    shapes = {"x": (2, 5, 6), "noise": (2, 5, 6), "w_rec": (6, 6), "state": (2, 6)}
    value = freed(*shapes.get(name, (6,)), left=left)
    argument = "initial state v" if name == "state" else name
    with pytest.raises(ValueError, match=f"lif: the memory of .*{argument} has been freed"):
        F.lif(**{"x": X, "decay_mem": 0.9, name: (value,) if name == "state" else value})


def test_freed_memory_in_the_backward_op():
    x, params = torch.rand(2, 5, 6), [torch.tensor(0.9), None, torch.tensor(1.0), None, None, None]
    rest = ([65536.0], "step_pwl", [0.5], False, 0, True, [0, 0, 0], "recompute")
    kept = OPS.lif_forward([x, None], params, [None] * 3, *rest)[-1]
    only_x = [1] + [0] * 10
    with pytest.raises(ValueError, match="lif_backward: the memory of the gradient of the output has been freed"):
        OPS.lif_backward([freed(2, 5, 6), None], [x, None], params, [kept], *rest, False, only_x)
    kept.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="lif_backward: the memory of the kept state v has been freed"):
        OPS.lif_backward([torch.ones(2, 5, 6), None], [x, None], params, [kept], *rest, False, only_x)


KINDS = {
    "sparse": lambda t: t.to_sparse(),
    "csr": lambda t: t.flatten(1).to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor(list(t)),
    "jagged": lambda t: torch.nested.nested_tensor(list(t), layout=torch.jagged),
    "quantized": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    "complex": lambda t: t.to(torch.complex64),
    "integer": lambda t: t.long(),
    "meta": lambda t: t.to("meta"),
    **({"mkldnn": lambda t: t.to_mkldnn()} if torch.backends.mkldnn.is_available() else {}),
}


@pytest.mark.filterwarnings("ignore:.*(prototype|beta|Quantiz|quantiz)")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x", "noise", "threshold", "w_rec", "state"])
def test_other_kinds_of_tensors(kind, name):
    if kind == "meta" and name == "x":
        return  # a call of its own, which every other argument then does not fit
    value = KINDS[kind](torch.rand(2, 5, 6) + 0.5 if name in ("x", "noise") else torch.rand(6, 6) + 0.5)
    argument = "initial state v" if name == "state" else name
    with pytest.raises((TypeError, ValueError), match=rf"lif: (the )?{argument} "):
        F.lif(**{"x": X, "decay_mem": 0.9, name: (value,) if name == "state" else value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unbounded_recurrent_weights(value, dtype, device):
    """A silent neuron's weight of NaN or infinity reaches the others, for 0 times it is NaN in the plain loop;
    gradients too."""
    w = torch.zeros(4, 4, dtype=dtype, device=device)
    w[1, 2] = value
    x = torch.rand(2, 6, 4, dtype=dtype, device=device) * 0.1
    x[0, :, 0] = 3.0
    results = []
    for where in (F, R):
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        out = where.lif(leaves[0], decay_mem=0.9, w_rec=leaves[1])
        grads = torch.autograd.grad(out.state.v.sum() + out.spikes.sum(), leaves)
        results.append([out.spikes, out.state.v, *grads])
    assert results[0][1].isnan().any()
    for got, expected in zip(*results, strict=True):
        assert same_bits(got.detach(), expected.detach())


def test_nan_gradient_reaches_weights_of_silent_neurons(device):
    """0 times NaN again: where the gradient of a step is NaN, so is that of all weights."""
    x = torch.rand(1, 6, 4, device=device) * 0.1
    x[0, 0, 0] = 3.0
    grads = []
    for where in (F, R):
        w = torch.zeros(4, 4, device=device, requires_grad=True)
        out = where.lif(x, decay_mem=0.9, w_rec=w, record=("v",))
        weight = torch.ones_like(out.records["v"])
        weight[0, 3, 2] = math.nan
        grads.append(torch.autograd.grad((out.records["v"] * weight).sum(), w)[0])
    assert grads[0].isnan().any()
    assert same_bits(grads[0], grads[1])


def test_record_flags_of_the_ops():
    params = [torch.tensor(0.9), None, torch.tensor(1.0), None, None, None]
    rest = [[65536.0], "step_pwl", [0.5], False, 0, True, [0, 0, 0], "recompute"]
    only_x = [1] + [0] * 10
    kept = OPS.lif_forward([X, None], params, [None] * 3, *rest)[-1]

    def backward(needs=only_x, **changes):
        return OPS.lif_backward([torch.ones(2, 5, 6), None], [X, None], params, [kept], *rest, False, needs)

    backward()
    with pytest.raises(ValueError, match="needs asks for the gradient of bias, which the call does not have"):
        backward([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="needs asks for the gradient of noise"):
        backward([0, 1] + [0] * 9)
    with pytest.raises(ValueError, match="needs asks for the gradient of i,"):
        backward([0] * 9 + [1, 0])
    with pytest.raises(ValueError, match="needs holds 2 for x"):
        backward([2] + [0] * 10)
    for flag in (2, -1):
        rest[6] = [flag, 0, 0]
        with pytest.raises(ValueError, match=f"a flag in record is {flag}, expected 0 or 1"):
            backward()


def test_nested_tensors_in_the_inner_ops():
    nested = KINDS["nested"](torch.rand(2, 5, 6)).requires_grad_()
    params = [torch.tensor(0.9), None, torch.tensor(1.0), None, None, None]
    rest = ([65536.0], "step_pwl", [0.5], False, 0, True, [0, 0, 0], "recompute")
    with pytest.raises(ValueError, match="x is a nested tensor"):
        OPS.lif_forward([nested, None], params, [None] * 3, *rest)
    with pytest.raises(ValueError, match="x is a nested tensor"):
        OPS.lif_backward(
            [torch.ones(2, 5, 6), None], [nested, None], params, [torch.ones(1, 2, 6)], *rest, False, [1] + [0] * 10
        )


@pytest.mark.parametrize("case", [case for case in CASES if case.recurrent], ids=str)
def test_the_forward_op_by_itself_records_nothing(case, device, monkeypatch):
    """Autograd is still on in there; PyTorch's products that write where they are told refuse to be recorded."""
    seen = []
    monkeypatch.setattr(_call, "call", lambda name, *a: seen.append((name, a)) or getattr(OPS, name)(*a))
    arguments = make(case, T=4, B=2, neurons=5, device=device)
    arguments["w_rec"].requires_grad_()
    expected = case.fused(**arguments)[0]
    ((name, call),) = seen
    out = getattr(OPS, f"{name}_forward")(*call[:-1], "save")[0]
    assert torch.equal(out, expected)
    assert not out.requires_grad


@pytest.mark.parametrize("place", [-1, 4, 99, 2**31 - 1])
def test_call_of_a_neuron_that_is_not_there(place):
    with pytest.raises(IndexError, match=f"no neuron number {place}"):
        lif._C.call(
            place, (X, None), (None,) * 6, (None,) * 3, (1.0,), "step_pwl", (0.5,), False, 0, True, (0, 0, 0), ""
        )


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, r"synapses is 4294967297, expected at most 2147483647", {"synapses": 2**32 + 1}),
        (ValueError, r"synapses is 9223372036854775808, expected at most", {"synapses": 2**63}),
        (ValueError, "bias is 1e\\+39, expected a number that torch.float32 holds", {"bias": 1e39}),
        (ValueError, "bias is too large for a floating-point number", {"bias": 10**400}),
        (TypeError, "noise is a ndarray, expected a tensor", {"noise": X.numpy()}),
        (TypeError, "record is None, expected a sequence of names", {"record": None}),
        (TypeError, "record is True, expected a sequence of names", {"record": True}),
        (TypeError, "record holds 1, expected a sequence of names", {"record": (1,)}),
        (TypeError, "state is int, expected a tuple", {"state": 3}),
        (TypeError, "state is dict, expected a tuple", {"state": {"v": X}}),
        (TypeError, "batch_first is 'no', expected True or False", {"batch_first": "no"}),
        (TypeError, "smooth is 1, expected True or False", {"smooth": 1}),
        (ValueError, "memory is 'all', expected 'mask'", {"memory": "all"}),
        (ValueError, "memory is array", {"memory": np.ones(3)}),
    ],
)
def test_arguments_of_other_types(error, message, changes):
    with pytest.raises(error, match=f"lif: {message}"):
        F.lif(**{"x": X, "decay_mem": 0.9, "decay_syn": 0.5} | changes)


def test_memory_of_the_op_is_checked_without_gradients_too():
    params = [torch.tensor(0.9), None, torch.tensor(1.0), None, None, None]
    with pytest.raises(ValueError, match="memory is 'bogus'"):
        OPS.lif([X, None], params, [None] * 3, [1.0], "step_pwl", [0.5], False, 0, True, [0, 0, 0], "bogus")


def test_surrogate_parameters_of_a_neuron_that_does_not_spike():
    rates = [torch.tensor(0.1), torch.tensor(0.2), None, None]
    with pytest.raises(ValueError, match="li: got 1 surrogate parameters, expected 0"):
        OPS.li([X, None, None], rates, [None] * 2, [0.0], "", [0.5], False, 0, True, [0, 0], "")


def test_a_record_may_be_an_iterator():
    for where in (F, R):
        out = where.lif(X, decay_mem=0.9, decay_syn=0.5, record=(name for name in ["v", "i"]))
        assert list(out.records) == ["v", "i"]


def test_numpy_numbers():
    expected = F.lif(X, decay_mem=float(np.float32(0.9)), max_spikes=2).spikes
    assert torch.equal(
        F.lif(X, decay_mem=np.float32(0.9), max_spikes=np.int64(2), batch_first=np.bool_(True)).spikes, expected
    )
    layer = lif.CubaLIF(np.int64(3), synapses=np.int64(2), dt=np.float32(1e-3), surrogate=lif.StepPWL(np.float32(0.5)))
    assert layer(X).shape == (2, 5, 3)
    assert lif.LIF(np.array([2, 3])).size == (2, 3)


@pytest.mark.parametrize("flag", ["zero_adaptation", "threshold_gradient"])
@pytest.mark.parametrize("value", ["no", 1, None, np.ones(2)])
def test_flags_of_alif(flag, value):
    with pytest.raises(TypeError, match=f"{flag} is .*expected True or False"):
        F.alif(X, decay_mem=0.9, decay_adapt=0.9, **{flag: value})
    with pytest.raises(TypeError, match=f"ALIF: {flag} is "):
        lif.ALIF(6, **{flag: value})


def test_a_smooth_nan_stays_nan(device):
    """Where a surrogate's antiderivative is bounded too."""
    x = torch.full((1, 3, 2), math.nan, device=device)
    for surrogate in SURROGATES:
        arguments = {"x": x, "decay_mem": 0.9, "surrogate": surrogate, "smooth": True}
        assert_same_bits(F.lif(**arguments), R.lif(**arguments))


def test_max_spikes_beyond_float32():
    for where in (F, R):
        assert torch.equal(where.lif(X, decay_mem=0.9, max_spikes=1e39).spikes, F.lif(X, decay_mem=0.9).spikes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_recurrent_weights_are_widened(dtype):
    weights = {"w_rec": torch.eye(6).to(dtype), "b_rec": torch.ones(6).to(dtype)}
    arguments = {"x": X.to(dtype), "decay_mem": 0.9, "decay_adapt": 0.9, **weights}
    assert_same_bits(F.alif(**arguments), R.alif(**arguments))
    with pytest.raises(ValueError, match="the memory of threshold has been freed"):
        F.alif(**arguments | {"threshold": freed(6, dtype=dtype)})


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_refractory_periods_without_an_end(value, device):
    """As a number refused; as a tensor, which is not read, the plain loop's bits."""
    rates = {"rate_mem": 0.9, "rate_syn": 0.5, "threshold": 0.3}
    with pytest.raises(ValueError, match=r"refractory is (inf|nan), expected a number of 0 or more and finite"):
        F.euler_lif(X.to(device), refractory=value, **rates)
    period = torch.full((6,), value, device=device)
    state = (None, None, torch.full((2, 6), value, device=device))
    for first in (None, state):
        arguments = {
            "x": X.to(device) * 2,
            "refractory": period,
            "state": first,
            "record": ("refractory", "v"),
            **rates,
        }
        assert_same_bits(F.euler_lif(**arguments), R.euler_lif(**arguments))


# Modules: what is set, loaded and constrained


def silent_steps(layer):
    spikes = layer(torch.full((1, 60, layer.size[0]), 20.0))[0, :, 0].nonzero()[:, 0]
    return int(spikes[1] - spikes[0]) - 1


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 19])
@pytest.mark.parametrize("dt", [1e-3, 1e-4, 5e-4, 3e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_refractory_steps_are_whole(steps, dt, dtype):
    """3e-4 / 1e-4 is 3.0000002 in float32: 3 silent steps all the same; half a step more is one more."""
    for more, expected in ((0.0, steps), (0.5, steps + 1)):
        layer = lif.EulerLIF(1, refractory_time=torch.tensor((steps + more) * dt, dtype=dtype), dt=dt)
        assert layer._refractory_steps().item() == expected
    fast = {"tau_mem": 10 * dt, "tau_syn": 5 * dt, "threshold": 0.1, "synapse_update": "input_first"}
    assert silent_steps(lif.EulerLIF(1, refractory_time=steps * dt, dt=dt, **fast)) == steps


def test_refractory_time_is_loaded_set_and_reset():
    x = torch.ones(1, 40, 6)
    make = lambda **more: lif.EulerLIF(6, threshold=0.1, **more)  # noqa: E731
    a, never = make(refractory_time=5e-3), make()
    assert not torch.equal(a(x), never(x))
    for value in (torch.tensor(5e-3), 5e-3, torch.full((6,), 5e-3)):
        b = make()
        b.refractory_time = value
        assert torch.equal(a(x), b(x))
        b.refractory_time = 1e-3
        assert silent_steps(b) == 1
        b.reset_parameters()
        assert torch.equal(b(x), never(x))
    b = make()
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))
    a.refractory_time.fill_(9.0)
    a.reset_parameters()
    assert torch.equal(a(x), b(x))
    a.refractory_time = None
    assert torch.equal(a(x), never(x))
    with pytest.raises(ValueError, match=r"refractory_time is -1.0, expected values of 0 or more and finite"):
        a.refractory_time = -1.0
    with pytest.raises(ValueError, match="refractory_time is inf"):
        make(refractory_time=math.inf)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_layer_with_a_refractory_period(dtype):
    layer = lif.EulerLIF(6, refractory_time=5e-3, threshold=0.1)
    half = copy.deepcopy(layer).to(dtype)
    out = half(torch.ones(1, 40, 6, dtype=dtype))
    assert out.dtype == dtype
    assert silent_steps(layer) == 5
    assert half._refractory_steps().item() == 5


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: lif.LIF(6), "decay_mem", 1.5),
        (lambda: lif.LIF(6), "decay_mem", -0.1),
        (lambda: lif.LIF(6), "tau_mem", -0.02),
        (lambda: lif.LIF(6), "bitshift_mem", -1.0),
        (lambda: lif.LIF(6), "threshold", -1.0),
        (lambda: lif.LIF(6), "threshold", math.nan),
        (lambda: lif.LIF(6), "threshold", 1e39),
        (lambda: lif.LIF(6, threshold=torch.ones(6)), "threshold", torch.zeros(6)),
        (lambda: lif.LIF(6, decay_mem=0.5), "tau_mem", 0.0),
        (lambda: lif.LI(6), "tau_mem", 0.5e-3),
        (lambda: lif.LI(6), "decay_syn", 1.01),
        (lambda: lif.LI(6), "dt", 6e-3),
        (lambda: lif.LIF(6), "dt", 0.0),
        (lambda: lif.LIF(6), "max_spikes", 0),
        (lambda: lif.LIF(6), "noise_std", -1.0),
        (lambda: lif.LIF(6), "backend", "cuda"),
        (lambda: lif.EulerLIF(6), "synapse_update", "later"),
    ],
)
def test_ranges_of_what_is_set(make, name, value):
    layer = make()
    before = copy.deepcopy(layer.state_dict()), layer.dt
    with pytest.raises(ValueError, match=f"{'tau_syn' if (name, value) == ('dt', 6e-3) else name} "):
        setattr(layer, name, value)
    assert layer.dt == before[1]
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), before[0].values(), strict=True))


def test_setting_what_would_lose_a_part():
    layer = lif.LIF(6, threshold=torch.ones(6))
    with pytest.raises(TypeError, match=r"threshold is torch\.complex64, expected a tensor of floating-point numbers"):
        layer.threshold = torch.ones(6, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"threshold is a torch\.sparse_coo tensor"):
        layer.threshold = torch.ones(6).to_sparse()


def test_a_refused_time_step_changes_no_range():
    layer = lif.LI(6, tau_mem=1.0, tau_syn=5e-3)
    with pytest.raises(ValueError, match="tau_syn was set to"):
        layer.dt = 0.1
    layer.tau_mem = 2e-3
    assert layer.tau_mem.item() == pytest.approx(2e-3)


def test_a_time_constant_below_the_time_step():
    """By forward Euler more than all would leak away."""
    with pytest.raises(ValueError, match=r"tau_mem is 0.0005, expected values of 0.001 or more"):
        lif.LI(6, tau_mem=0.5e-3)
    assert torch.equal(lif.LI(6, tau_mem=3e-4, dt=3e-4)(X), lif.LI(6, decay_mem=0.0, dt=3e-4)(X))
    lif.LI(6, tau_mem=1e-3, dtype=torch.bfloat16)  # which rounds it to less than dt


def test_no_leak_is_an_infinite_time_constant():
    assert lif.LIF(2, decay_mem=1.0).tau_mem == math.inf
    assert lif.LI(2, decay_mem=1.0).tau_mem == math.inf


class Same(nn.Module):
    def forward(self, w):
        return w * 1

    def right_inverse(self, w):
        return w


def test_a_parametrized_leak_is_set_by_every_view():
    layer = lif.LIF(6)
    nn.utils.parametrize.register_parametrization(layer, "tau_mem", Same())
    layer.decay_mem = 0.5
    assert layer.tau_mem.item() == pytest.approx(-1e-3 / math.log(0.5))
    assert layer.decay_mem.item() == pytest.approx(0.5)
    layer.reset_parameters()
    assert layer.tau_mem.item() == pytest.approx(20e-3)


@pytest.mark.parametrize("given", [True, torch.eye(4)])
def test_weight_normed_recurrent_weights_are_reset(given):
    layer = lif.LIF(4, recurrent=given)
    nn.utils.parametrizations.weight_norm(layer, "w_rec")
    with torch.no_grad():
        layer.parametrizations.w_rec.original0.fill_(9.0)
    layer.reset_parameters()
    assert layer.w_rec.norm(dim=1).max() < 2
    if given is not True:
        assert torch.allclose(layer.w_rec, given)


def test_old_weight_norm_is_named():
    layer = lif.LIF(4, recurrent=torch.eye(4))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(layer, "w_rec")
    with pytest.raises(ValueError, match=r"w_rec is no parameter of the layer any more.*parametrizations.weight_norm"):
        layer.reset_parameters()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: lif.LIF(3, tau_mem=torch.tensor([2e-3, 20e-3, 1.0]), trainable=True), "tau_mem"),
        (lambda: lif.LI(3, trainable=True), "tau_mem"),
        (lambda: lif.CubaLIF(3, synapses=1, trainable=True), "threshold"),
        (lambda: lif.ALIF(3, decay_adapt=0.99, trainable=True), "decay_adapt"),
    ],
)
def test_a_constrained_parameter_stays_in_its_range(make, name):
    """One step of SGD with a huge rate takes the plain one out of its range, the constrained one not; both started
    equal."""
    x = torch.rand(2, 20, 3) * 3
    plain, held = make(), make().constrain(name)
    assert torch.allclose(getattr(held, name), getattr(plain, name), rtol=1e-6)
    within = plain._ranges[name]
    for sign in (1.0, -1.0):
        for layer in (plain, held):
            layer.reset_parameters()
            layer.zero_grad()
            value = getattr(layer, name)
            (layer(x).sum() * 0 + sign * value.sum()).backward()
            torch.optim.SGD(layer.parameters(), lr=50.0).step()
        assert within.holds_all(getattr(held, name).detach())
    assert not within.holds_all(getattr(plain, name).detach()) or within.high == math.inf
    setattr(held, name, within.low + 0.5)
    assert torch.allclose(getattr(held, name), torch.tensor(within.low + 0.5))
    again = make().constrain(name)
    again.load_state_dict(held.state_dict())
    assert torch.equal(again(x), held(x))


def test_constrain_names():
    with pytest.raises(ValueError, match="constrain names 'bias', expected names from tau_mem, threshold"):
        lif.LIF(3, bias=0.1).constrain("bias")
    with pytest.raises(ValueError, match="not at an end"):
        lif.LIF(3, decay_mem=1.0).constrain("decay_mem")


@pytest.mark.parametrize(
    "layer", [lif.LIF(3), lif.CubaLIF(3), lif.ALIF(3), lif.EulerLIF(3), lif.LI(3)], ids=lambda m: type(m).__name__
)
def test_states_and_results_can_be_saved(layer):
    """torch.load refuses classes that it does not know."""
    out = layer.run(torch.rand(1, 2, 3), record=("v",))
    memory = io.BytesIO()
    torch.save(out, memory)
    memory.seek(0)
    again = torch.load(memory)
    assert type(again.state) is type(out.state)
    assert torch.equal(again.state.v, out.state.v)


def test_repr_on_the_meta_device():
    assert "refractory_time=(1,)" in repr(lif.EulerLIF(6, refractory_time=5e-3, device="meta"))


class Mine(lif.Surrogate):
    """A surrogate of one's own: for the plain loop alone."""

    def derivative(self, v, threshold, max_spikes=math.inf):
        return torch.exp(-(v - threshold).abs())


class Changed(lif.StepPWL):
    def derivative(self, v, threshold, max_spikes=math.inf):
        return torch.ones_like(v)


@pytest.mark.parametrize("surrogate", [Mine(), Changed()])
def test_a_surrogate_without_a_kernel(surrogate):
    """Refused by name, also where a parent class has a kernel, of other formulas; the plain loop takes it."""
    with pytest.raises(TypeError, match=r"lif: surrogate is .*, which has no kernel.*backend='loop'"):
        F.lif(X, decay_mem=0.9, surrogate=surrogate)
    with pytest.raises(TypeError, match=r"LIF: surrogate is .*no kernel"):
        lif.LIF(6, surrogate=surrogate)
    x = X.clone().requires_grad_()
    lif.LIF(6, surrogate=surrogate, backend="loop")(x).sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("make", [lif.LIF, lif.CubaLIF, lif.ALIF, lif.EulerLIF, lif.LI], ids=lambda m: m.__name__)
@pytest.mark.parametrize("backend", ["fused", "loop"])
def test_errors_of_both_backends(make, backend):
    layer = make(6, backend=backend)
    with pytest.raises(TypeError, match="x is a list, expected a tensor"):
        layer(X.tolist())
    with pytest.raises(ValueError, match="record names 'w'"):
        layer.run(X, record=("w",))
    with pytest.raises(TypeError, match="state is int"):
        layer.run(X, 3)


def test_noise_of_an_input_that_is_no_float():
    with pytest.raises(TypeError, match=r"LIF: x is torch.int64, expected a floating-point tensor"):
        lif.LIF(6, noise_std=0.1)(X.long())


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "size is 6.0, expected a number of neurons or a shape", lambda: lif.LIF(6.0)),
        (ValueError, "size is None", lambda: lif.LIF(None)),
        (ValueError, "size is '6'", lambda: lif.LIF("6")),
        (ValueError, "size is True", lambda: lif.LIF(True)),
        (TypeError, "trainable is 3, expected True, False or a sequence of names", lambda: lif.LIF(6, trainable=3)),
        (ValueError, r"trainable names \['v'\]", lambda: lif.LIF(6, trainable=(["v"],))),
        (TypeError, "bias is torch.complex64, expected a tensor of", lambda: lif.LIF(6, bias=torch.ones(6).cfloat())),
        (ValueError, "bias is a torch.sparse_coo tensor", lambda: lif.LIF(6, bias=torch.ones(6).to_sparse())),
        (ValueError, "the memory of bias has been freed", lambda: lif.LIF(6, bias=freed(6))),
        (TypeError, "bias is torch.float8_e5m2", lambda: lif.LIF(6, bias=torch.ones(6).to(torch.float8_e5m2))),
        (TypeError, "dtype is array", lambda: lif.LIF(6, dtype=np.ones(3))),
        (TypeError, r"dtype is torch\.int64, expected torch\.float32", lambda: lif.LIF(6, dtype=torch.long)),
        (ValueError, "bias is on meta, which", lambda: lif.LIF(6, bias=torch.ones(6).to("meta"), device="cpu")),
        (ValueError, "device is '', expected one that is there", lambda: lif.LIF(6, device="")),
        (TypeError, "refractory_time is array", lambda: lif.EulerLIF(6, refractory_time=np.ones(6))),
        (ValueError, "backend is array", lambda: lif.LIF(6, backend=np.ones(3))),
        (ValueError, "dt is too large", lambda: lif.LIF(6, dt=10**400)),
        (TypeError, "batch_first is 'no', expected True or False", lambda: lif.LIF(6, batch_first="no")),
        (TypeError, "leaky is 'no', expected True or False", lambda: lif.EulerLIF(6, leaky="no")),
    ],
)  # fmt: skip
def test_constructors(error, message, make):
    with pytest.raises(error, match=message):
        make()

"""Gradients: against autograd through the reference loop, against finite differences, and the same bits everywhere."""

import re
from pathlib import Path

import pytest
import torch
from cases import (
    CASES,
    PAIRS,
    SPIKING_PAIRS,
    SURROGATES,
    examples,
    gradients,
    leaves,
    loss,
    make,
    name_of,
    outputs,
    relative_error,
    same_bits,
)
from conftest import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import torch_lif as lif
from torch_lif import _C

pairs = pytest.mark.parametrize(("case", "surrogate"), PAIRS, ids=name_of)


def options(surrogate):
    return {"surrogate": surrogate} if surrogate else {}


def check(case, surrogate, arguments, bound, once=lambda compute: compute()):
    kwargs = options(surrogate)
    result, got = gradients(lambda **a: case.fused(**a, record=case.records, **kwargs), arguments)
    _, expected = once(lambda: gradients(lambda **a: case.reference(**a, record=case.records, **kwargs), arguments))
    for name, grad in got.items():
        error = relative_error(grad, expected[name])
        assert error <= bound, f"gradient of {name}: relative error {error:.1e} > {bound:.1e}"
    return result


@pairs
@pytest.mark.parametrize("shared", [False, True])
def test_float64_is_autograd_through_the_reference(case, surrogate, shared, target, once):
    names = list(case.params) if shared else []
    arguments = make(case, T=45, B=3, neurons=37, dtype=torch.float64, device=target, seed=5, shared=names)
    result = check(case, surrogate, arguments, 1e-10, once)
    if case.spiking:
        assert float(result.spikes.detach().mean()) > 0.02, "hardly a spike: this would prove nothing"


@pairs
def test_float32_is_autograd_through_the_reference(case, surrogate, target, once):
    """Both walk the same spikes, so they differ by rounding alone: at most some 16 roundings of 2^-24 a step, none of
    them amplified over `case.steps` steps beyond the largest gradient itself, which is what errors are relative to."""
    steps = case.steps
    arguments = make(case, T=steps, B=3, neurons=530, device=target, seed=6)
    check(case, surrogate, arguments, 16 * steps * 2.0**-24, once)


@pairs
@given(data=st.data())
@examples(15)
def test_random_calls(case, surrogate, data):
    draw = data.draw
    arguments = make(
        case,
        T=draw(st.integers(1, 50), "T"),
        B=draw(st.integers(1, 3), "B"),
        neurons=draw(st.integers(1, 40), "N"),
        dtype=torch.float64,
        device=draw(st.sampled_from(DEVICES), "device"),
        seed=draw(st.integers(0, 10**6), "seed"),
        batch_first=draw(st.booleans(), "batch_first"),
        shared=draw(st.lists(st.sampled_from(list(case.params)), unique=True), "shared"),
        with_inputs=draw(st.booleans(), "inputs"),
        with_state=draw(st.booleans(), "state"),
    )
    more = {"max_spikes": draw(st.sampled_from([1, 3, 2.0**16]), "max_spikes")} if case.max_spikes else {}
    check(case, surrogate, arguments | more, 1e-10)


@pairs
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(case, surrogate, dtype, target, once):
    """Stored half, computed in float32: sequences' gradients are rounded to half once (half an ulp), the others not at
    all."""
    arguments = make(case, T=case.steps, B=2, neurons=66, dtype=dtype, device=target, seed=8)
    kwargs = options(surrogate)
    _, got = gradients(lambda **a: case.fused(**a, record=case.records, **kwargs), arguments)
    _, expected = once(lambda: gradients(lambda **a: case.reference(**a, record=case.records, **kwargs), arguments))
    for name, grad in got.items():
        sequence = name in ("x", *case.inputs)
        bound = torch.finfo(dtype).eps if sequence else 16 * case.steps * 2.0**-24
        assert grad.dtype == arguments.get(name, torch.empty(0)).dtype if sequence else grad.dtype == torch.float32
        assert relative_error(grad, expected[name]) <= bound, name


def threshold_is_true(surrogate):
    """Whether the derivative by the threshold is that of the antiderivative by v, as it is of a function of v -
    threshold."""
    v = torch.linspace(-1, 3, 41, dtype=torch.float64) + 0.01
    theta = torch.full_like(v, 0.9).requires_grad_()
    (true,) = torch.autograd.grad(surrogate.smooth(v, theta).sum(), theta)
    return torch.allclose(true, surrogate.threshold_derivative(v, theta.detach()))


def test_docs_name_the_surrogates_whose_derivative_by_the_threshold_is_not_the_true_one():
    text = (Path(__file__).parent.parent / "docs" / "surrogates.md").read_text()
    named = re.search(r"antiderivative's own\.(.*?)have the libraries' derivative", text, re.DOTALL)
    others = {type(s).__name__ for s in SURROGATES if not threshold_is_true(s)}
    assert set(re.findall(r"`(\w+)`", named[1])) == others


@pairs
def test_finite_differences_of_the_smooth_variant(case, surrogate, device):
    """With the spike replaced by the surrogate's antiderivative the op is smooth: its adjoint must be its
    derivative."""
    if isinstance(surrogate, lif.SuperSpike):
        surrogate = lif.SuperSpike(2.0)
    # A measured value passes its gradient to the computed one: that is no derivative.
    arguments = make(case, T=19, B=2, neurons=2, dtype=torch.float64, device=device, seed=11)
    for name in ("spikes_hw", "membrane_hw"):
        arguments.pop(name, None)
    more = options(surrogate) | ({"smooth": True} if case.spiking else {})
    more |= {"reset_gradient": True} if case.name == "euler_lif" else {}
    copy, found = leaves(arguments)
    undefined = {f"state[{case.states.index('refractory')}]"} if "refractory" in case.states else set()
    if surrogate and not threshold_is_true(surrogate):
        undefined.add("threshold")
        if case.name == "alif":
            copy["adapt_scale"] = torch.zeros_like(copy["adapt_scale"])  # else the threshold depends on all the rest
            undefined |= {"adapt_scale"}
    if case.options.get("threshold_gradient") is False:
        more["threshold_gradient"] = True
    for name in undefined & found.keys():
        found.pop(name).requires_grad_(False)

    def function(*values):
        bound = dict(zip(found, values, strict=True))
        call = {name: bound.get(name, value) for name, value in copy.items()} | more
        call["state"] = tuple(bound.get(f"state[{k}]", value) for k, value in enumerate(copy["state"]))
        got = outputs(case.fused(**call, record=case.records))
        return tuple(value for name, value in got.items() if "refractory" not in name)

    assert torch.autograd.gradcheck(function, tuple(found.values()), eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=False)


@pytest.mark.parametrize(("case", "surrogate"), SPIKING_PAIRS, ids=name_of)
def test_smooth_forward_is_the_reference(case, surrogate, target, once):
    arguments = make(case, T=30, B=2, neurons=20, dtype=torch.float64, device=target, seed=12)
    got = case.fused(**arguments, surrogate=surrogate, smooth=True)
    expected = once(lambda: case.reference(**arguments, surrogate=surrogate, smooth=True))
    # exp differs from PyTorch's in the last bits; 30 steps amplify that little
    torch.testing.assert_close(got.spikes, expected.spikes, rtol=1e-11, atol=1e-11)


@pairs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_same_bits_on_every_instruction_set_and_device(case, surrogate, dtype, target):
    """Spikes, states and input gradients; parameters' gradients are sums whose order is each device's own."""

    # The product with recurrent weights is the GPU's own: its sums in the backward are rounded in another order.
    rounded = case.recurrent and target == "cuda"
    steps = case.steps if rounded else 70

    def run(device):
        arguments = make(case, T=steps, B=2, neurons=150, dtype=dtype, device=device, seed=13)
        return gradients(lambda **a: case.fused(**a, record=case.records, **options(surrogate)), arguments)

    result, grads = run(target)
    isa = _C.instruction_set()
    _C.set_instruction_set("baseline")
    expected, expected_grads = run("cpu")
    _C.set_instruction_set(isa)
    for name, value in outputs(expected).items():
        assert same_bits(outputs(result)[name].cpu(), value), name
    for name, value in expected_grads.items():
        if (name in ("x", *case.inputs) or name.startswith("state")) and not rounded:
            assert same_bits(grads[name].cpu(), value), name
        else:
            assert relative_error(grads[name].cpu(), value) <= max(1e-5, torch.finfo(value.dtype).eps), name


@pairs
def test_same_bits_every_run_and_at_every_thread_count(case, surrogate, device, threads):
    arguments = make(case, T=40, B=3, neurons=1300, device=device, seed=14, shared=[next(iter(case.params))])

    def run(count):
        threads(count)
        return gradients(lambda **a: case.fused(**a, record=case.records, **options(surrogate)), arguments)

    expected, expected_grads = run(1)
    for count in (1, 2, 3):
        result, grads = run(count)
        for name, value in outputs(expected).items():
            assert same_bits(outputs(result)[name], value), (count, name)
        for name, value in expected_grads.items():
            assert same_bits(grads[name], value), (count, name)


@pytest.mark.parametrize("label", ["lif1", "lif2", "alif-synapse"])
@pytest.mark.parametrize("shared", [(), ("threshold", "decay_syn")], ids=["own", "shared"])
@pytest.mark.parametrize(
    "batch", [1, 13, 300, 9000]
)  # on CUDA 8 warps share a column, from 256 on 32; 9000: PyTorch first
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_parameters_sum_over_the_batch_in_double(label, shared, batch, dtype, device):
    """Against a batch of one with every batch item's neurons side by side and parameters of their own: its gradients
    are what is summed. In double only the last rounding shows, and of B numbers at most B roundings of 2^-53 of their
    absolute sum."""
    case = next(case for case in CASES if case.label == label)
    T, N = 3, 37
    arguments = make(
        case,
        T=T,
        B=batch,
        neurons=N,
        dtype=dtype,
        device=device,
        batch_first=False,
        shared=shared,
        with_inputs=False,
        with_state=False,
    )
    weight = torch.randn(T, batch, N, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    params = {name: arguments[name].requires_grad_() for name in case.params}
    got = torch.autograd.grad(case.fused(**arguments).spikes, list(params.values()), weight)
    assert len({grad.untyped_storage().data_ptr() for grad in got}) == len(got), "gradients share memory"

    apart = {}
    for name, (_, _, kind) in case.params.items():
        own = (N, case.synapses) if kind == "synapse" and case.synapses > 1 else (N,)
        apart[name] = params[name].detach().expand(batch, *own).reshape(batch * N, *own[1:]).requires_grad_()
    one = case.fused(**arguments | apart | {"x": arguments["x"].reshape(T, 1, -1)})
    partials = torch.autograd.grad(one.spikes, list(apart.values()), weight.reshape(T, 1, batch * N))
    for name, grad, partial in zip(params, got, partials, strict=True):
        numbers = partial.double().reshape(batch, -1) if name not in shared else partial.double().reshape(-1, 1)
        expected, size = (total.reshape(grad.shape) for total in (numbers.sum(0), numbers.abs().sum(0)))
        bound = torch.finfo(grad.dtype).eps / 2 * expected.abs() + len(numbers) * 2.0**-53 * size
        assert grad.dtype == params[name].dtype
        assert bool(((grad.double() - expected).abs() <= bound).all()), name
        assert bool((grad != 0).any()), f"{name} has no gradient: this would prove nothing"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_what_is_asked_for_has_a_gradient(case, device):
    """Each argument alone gives the same gradient as all together; the others stay None."""
    arguments = make(case, T=20, B=2, neurons=9, dtype=torch.float64, device=device, seed=15)
    _, expected = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
    for alone in expected:
        copy, found = leaves(arguments)
        for name, leaf in found.items():
            leaf.requires_grad_(name == alone)
        total = loss(case.fused(**copy, record=case.records))
        if not total.requires_grad:
            assert not expected[alone].any(), f"{alone} has no path to any output"
            continue
        total.backward()
        for name, leaf in found.items():
            assert (leaf.grad is None) == (name != alone), (alone, name)
        assert torch.equal(found[alone].grad, expected[alone]), alone


@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_on_each_output_alone(case, device):
    """Each output, state and record has its own path back; those not used come as undefined gradients."""
    arguments = make(case, T=33, B=2, neurons=5, dtype=torch.float64, device=device, seed=16)
    names = outputs(case.fused(**arguments, record=case.records)).keys()
    for chosen in names:
        if "refractory" in chosen:
            continue  # it counts steps: no gradient
        grads = []
        for function in (case.fused, case.reference):
            copy, found = leaves(arguments)
            value = outputs(function(**copy, record=case.records))[chosen]
            weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
                device
            )
            grads.append(
                torch.autograd.grad(
                    (value * weight).sum(), list(found.values()), allow_unused=True, materialize_grads=True
                )
            )
        for name, got, expected in zip(found, *grads, strict=True):
            assert relative_error(got, expected) <= 1e-10 or float((got - expected).abs().max()) < 1e-13, (chosen, name)


def test_no_gradient_no_graph(device):
    x = torch.rand(2, 5, 3, device=device)
    assert lif.functional.lif(x, decay_mem=0.9).spikes.grad_fn is None
    with torch.no_grad():
        assert lif.functional.lif(x.requires_grad_(), decay_mem=0.9).spikes.grad_fn is None
    with torch.inference_mode():
        assert lif.functional.lif(x, decay_mem=0.9).spikes.shape == x.shape


def test_a_second_derivative_is_refused(device):
    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(lif.functional.lif(x, decay_mem=0.9).spikes.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivative only"):
        grad.sum().backward()


def test_a_refractory_period_gets_no_gradient(device):
    period = torch.tensor(2.0, device=device, requires_grad=True)
    x = torch.rand(2, 9, 3, device=device)
    result = lif.functional.euler_lif(x, rate_mem=0.5, rate_syn=0.5, refractory=period, record=("v", "refractory"))
    assert not result.spikes.requires_grad
    assert not result.records["v"].requires_grad
    result = lif.functional.euler_lif(
        x.requires_grad_(), rate_mem=0.5, rate_syn=0.5, refractory=2.0, record=("refractory",)
    )
    assert result.spikes.requires_grad
    assert not result.state.refractory.requires_grad
    assert not result.records["refractory"].requires_grad

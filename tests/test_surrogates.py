"""The table of surrogates: one line in csrc/neuron/surrogate.h, one Python class, the same formulas, a row in the
docs."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from cases import SURROGATES

import torch_lif as lif
from torch_lif import _C

surrogates = pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
CLASSES = [
    cls
    for cls in vars(lif.surrogate).values()
    if isinstance(cls, type) and issubclass(cls, lif.Surrogate) and cls.name and not cls.__name__.startswith("_")
]


def test_every_line_of_the_table_has_its_class():
    for name, (class_name, text) in _C.surrogates().items():
        params = [float(part.split("=")[1]) for part in text.split()]
        own = getattr(lif, class_name)
        assert (own.name, own().parameters()) == (name, params)
        for cls in CLASSES:
            if cls.name == name:
                assert len(cls().parameters()) == len(params)
    assert {cls.name for cls in CLASSES} == set(_C.surrogates())
    assert {type(s) for s in SURROGATES} == set(CLASSES), "every surrogate must be tested"
    for cls in CLASSES:
        assert cls.__name__ in lif.__all__


def test_every_surrogate_is_in_the_docs():
    page = (Path(__file__).parent.parent / "docs" / "surrogates.md").read_text()
    for cls in CLASSES:
        assert f"`{cls.__name__}(" in page


@surrogates
def test_derivative_is_that_of_the_smooth_stand_in(surrogate):
    v = torch.linspace(-2.03, 4.97, 400, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor(1.3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(surrogate.smooth(v, theta).sum(), v)
    torch.testing.assert_close(grad, surrogate.derivative(v, theta), rtol=1e-12, atol=1e-12)


@surrogates
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_spikes", [2.0, 2.0**16])
def test_kernel_has_the_same_formula(surrogate, dtype, max_spikes, target):
    """One step with no decay: the gradient of the count by x is the derivative itself, elementwise, to a few ulp."""
    v = torch.linspace(-3, 6, 1001, dtype=dtype, device=target)
    threshold = torch.full_like(v, 1.25)
    x = v.reshape(1, 1, -1).clone().requires_grad_()
    theta = threshold.clone().requires_grad_()
    spikes = lif.functional.lif(x, decay_mem=0.0, threshold=theta, surrogate=surrogate, max_spikes=max_spikes).spikes
    by_v, by_threshold = torch.autograd.grad(spikes.sum(), (x, theta))
    bound = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(by_v.flatten(), surrogate.derivative(v, threshold, max_spikes), rtol=bound, atol=bound)
    torch.testing.assert_close(
        by_threshold, surrogate.threshold_derivative(v, threshold, max_spikes), rtol=bound, atol=4 * bound
    )


@pytest.mark.parametrize("unit", [1e-30, 1e-14, 1e14, 1e30])
def test_thresholds_of_extreme_size(unit, target):
    """With threshold and widths in a tiny or a huge unit the slopes are those in units of 1, over the unit: nothing
    overflows."""
    v = (torch.linspace(-3, 6, 1001) * unit).to(target)
    threshold = torch.full_like(v, 1.25 * unit)
    for surrogate in (
        lif.StepPWL(0.5 * unit),
        lif.PeriodicExponential(0.5 * unit),
        lif.SuperSpike(2 / unit),
        lif.SingleExponential(),
        lif.Gaussian(0.1 * unit, 0.5 * unit),
        lif.MultiGaussian(0.1 * unit, 0.5 * unit),
        lif.Heaviside(unit),
        lif.SinabsPeriodicExponential(0.5 * unit),
        lif.ATan(2 / unit),
        lif.Sigmoid(4 / unit, 0.1 * unit),
        lif.Triangle(unit),
    ):
        x, theta = v.reshape(1, 1, -1).clone().requires_grad_(), threshold.clone().requires_grad_()
        spikes = lif.functional.lif(x, decay_mem=0.0, threshold=theta, surrogate=surrogate, max_spikes=2.0**16).spikes
        for got, expected in zip(
            torch.autograd.grad(spikes.sum(), (x, theta)),
            (
                surrogate.derivative(v.double(), threshold.double()),
                surrogate.threshold_derivative(v.double(), threshold.double()),
            ),
            strict=True,
        ):
            assert float((got.flatten() - expected).abs().max() / expected.abs().max()) < 2e-6, surrogate


def test_numbers_from_the_sources():
    """Values worked out by hand from the formulas of Rockpool and of Zenke & Ganguli."""
    v, theta = torch.tensor([0.4, 0.5, 1.0, 2.5]), torch.tensor(1.0)
    assert lif.StepPWL(0.5).derivative(v, theta).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert lif.StepPWL(0.5).threshold_derivative(v, theta).tolist() == [0.0, -0.5, -1.0, -2.5]
    assert lif.SuperSpike(2.0).derivative(v, theta)[[2, 3]].tolist() == [1.0, 1 / 16]
    e = torch.e
    expected = [e**-1.2, e**-1.0, 1.0, e**-1.0]  # q - 1/2 = v - 1 below the threshold; periodic above it
    torch.testing.assert_close(lif.PeriodicExponential(0.5).derivative(v, theta), torch.tensor(expected))


def test_more_numbers_from_the_sources():
    """The same for sinabs, SpikingJelly and snnTorch, at v - threshold = 0, 0.5 and -0.5 where nothing else is said."""
    theta = torch.tensor(1.0)
    v = theta + torch.tensor([0.0, 0.5, -0.5])
    e, pi = torch.e, torch.pi
    normal = [1 / (0.5 * (2 * pi) ** 0.5), e**-0.5 / (0.5 * (2 * pi) ** 0.5)]
    expected = {
        lif.FastSigmoid(25): [1, 13.5**-2, 13.5**-2],
        lif.SoftSign(2): [1, 1 / 4, 1 / 4],
        lif.SingleExponential(0.5, 2): [4, 4 / e, 4 / e],
        lif.Gaussian(0, 0.5, 3): [3 * normal[0], 3 * normal[1], 3 * normal[1]],
        lif.Erf(2): [2 / pi**0.5, 2 / pi**0.5 / e, 2 / pi**0.5 / e],
        lif.Heaviside(0.25): [1, 1, 0],
        lif.SinabsPeriodicExponential(0.5, 1): [1, e**-2, e**-1],  # above the threshold the distance counts twice
        lif.ATan(2): [1, 1 / (1 + (pi / 2) ** 2), 1 / (1 + (pi / 2) ** 2)],
        lif.Sigmoid(4): [1, 4 * e**-2 / (1 + e**-2) ** 2, 4 * e**-2 / (1 + e**-2) ** 2],
        lif.Triangle(2, 0.3): [0.3, 0.225, 0.225],
    }
    for surrogate, numbers in expected.items():
        torch.testing.assert_close(
            surrogate.derivative(v, theta), torch.tensor(numbers, dtype=torch.float32), msg=str(surrogate)
        )
    # MultiGaussian at 0: 1.15 N(0; 0, 0.5) - 0.3 N(0; 0.5, 3)
    wide = e ** (-0.5 / 36) / (3 * (2 * pi) ** 0.5)
    at_threshold = lif.MultiGaussian().derivative(theta, theta)
    torch.testing.assert_close(at_threshold, torch.tensor(1.15 * normal[0] - 0.3 * wide))


def test_rockpool_s_sigmoid():
    """tanh(v + 1 - threshold) / 2 + 1/2, written with tanh, against the logistic function of twice the argument."""
    v, theta = (
        torch.linspace(-3, 4, 101, dtype=torch.float64, requires_grad=True),
        torch.tensor(0.8, dtype=torch.float64),
    )
    expected = torch.tanh(v + 1 - theta) / 2 + 0.5
    surrogate = lif.Sigmoid(alpha=2, shift=1)
    torch.testing.assert_close(surrogate.smooth(v, theta), expected, rtol=1e-14, atol=1e-14)
    (slope,) = torch.autograd.grad(expected.sum(), v)
    torch.testing.assert_close(surrogate.derivative(v.detach(), theta), slope, rtol=1e-13, atol=1e-14)


def test_frozen_and_comparable():
    assert lif.StepPWL() == lif.StepPWL(0.5)
    assert hash(lif.SuperSpike(10)) == hash(lif.SuperSpike(10.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        lif.StepPWL().window = 1.0


def exact_exp(x, dtype):
    return (
        torch.exp(x.double())
        if dtype == torch.float32
        else torch.from_numpy(__import__("numpy").exp(x.numpy().astype("longdouble")).astype("float64"))
    )


@pytest.mark.parametrize(("dtype", "ulps"), [(torch.float32, 2), (torch.float64, 2)])
def test_exponential_of_the_kernels(dtype, ulps, target):
    """real_exp through PeriodicExponential below the threshold: exp(-(1 - v)/window), down to the smallest normal
    number."""
    lowest = -87.0 if dtype == torch.float32 else -708.0
    exponent = torch.linspace(lowest, 0, 20001, dtype=dtype)[:-1]
    x = (1 + exponent).reshape(1, 1, -1).to(target).requires_grad_()
    out = lif.functional.lif(x, decay_mem=0.0, surrogate=lif.PeriodicExponential(1.0)).spikes
    (grad,) = torch.autograd.grad(out.sum(), x)
    offset = (x.detach().cpu().flatten() - 0.5) - 0.5  # the kernel's own argument, rounding included
    expected = exact_exp(offset, dtype)
    spacing = torch.finfo(dtype).eps * expected
    assert float(((grad.cpu().flatten().double() - expected) / spacing).abs().max()) <= ulps


@pytest.mark.parametrize(("dtype", "lowest"), [(torch.float32, -87.33), (torch.float64, -708.39)])
def test_exponential_of_the_kernels_far_out(dtype, lowest, target):
    """Below the smallest normal number it is 0, however far; and a NaN is not lost."""
    exponent = torch.tensor([lowest, lowest - 0.02, -1e3, -1e30, -torch.inf, torch.nan], dtype=dtype)
    x = (1 + exponent).reshape(1, 1, -1).to(target).requires_grad_()
    out = lif.functional.lif(x, decay_mem=0.0, surrogate=lif.PeriodicExponential(1.0)).spikes
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    smallest, *zeros, undefined = grad.flatten().tolist()
    assert 1 <= smallest / torch.finfo(dtype).tiny < 1.02
    assert zeros == [0.0] * 4
    assert undefined != undefined


def test_the_default_is_a_constant_of_the_kernels():
    """Kernels have the default surrogate compiled in: another default would run in slower ones."""
    header = (Path(__file__).parent.parent / "csrc" / "neuron" / "surrogate.h").read_text()
    assert f"#define LIF_DEFAULT_SURROGATE LIF_SURROGATE_{lif.surrogate.DEFAULT.name}\n" in header
    for function in (
        lif.functional.lif,
        lif.functional.alif,
        lif.functional.euler_lif,
        lif.LIF,
        lif.CubaLIF,
        lif.ALIF,
        lif.EulerLIF,
    ):
        assert inspect.signature(function).parameters["surrogate"].default is lif.surrogate.DEFAULT

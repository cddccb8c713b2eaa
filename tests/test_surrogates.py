"""The table of surrogates: one line in csrc/neuron/surrogate.h, one Python class, the same formulas, a row in the docs."""

import dataclasses
from pathlib import Path

import pytest
import torch
from cases import SURROGATES

import torch_lif as lif
from torch_lif import _C

surrogates = pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
CLASSES = {
    cls.name: cls for cls in vars(lif.surrogate).values() if isinstance(cls, type) and issubclass(cls, lif.Surrogate) and cls.name
}


def test_every_line_of_the_table_has_its_class():
    table = {}
    for name, (class_name, text) in _C.surrogates().items():
        params = {key: float(value) for key, value in (part.split("=") for part in text.split())}
        table[name] = (class_name, params)
    classes = {name: (cls.__name__, {f.name: f.default for f in dataclasses.fields(cls)}) for name, cls in CLASSES.items()}
    assert classes == table
    assert {s.name for s in SURROGATES} == set(table), "every surrogate must be tested"
    for cls in CLASSES.values():
        assert cls.__name__ in lif.__all__


def test_every_surrogate_is_in_the_docs():
    page = (Path(__file__).parent.parent / "README.md").read_text()
    for cls in CLASSES.values():
        assert cls.__name__ in page


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
    torch.testing.assert_close(by_threshold, surrogate.threshold_derivative(v, threshold, max_spikes), rtol=bound, atol=4 * bound)


def test_numbers_from_the_sources():
    """Values worked out by hand from the formulas of Rockpool and of Zenke & Ganguli."""
    v, theta = torch.tensor([0.4, 0.5, 1.0, 2.5]), torch.tensor(1.0)
    assert lif.StepPWL(0.5).derivative(v, theta).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert lif.StepPWL(0.5).threshold_derivative(v, theta).tolist() == [0.0, -0.5, -1.0, -2.5]
    assert lif.SuperSpike(2.0).derivative(v, theta)[[2, 3]].tolist() == [1.0, 1 / 16]
    e = torch.e
    expected = [e**-1.2, e**-1.0, 1.0, e**-1.0]  # q - 1/2 = v - 1 below the threshold; periodic above it
    torch.testing.assert_close(lif.PeriodicExponential(0.5).derivative(v, theta), torch.tensor(expected))


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
    """real_exp through PeriodicExponential below the threshold: exp(-(1 - v)/window), down to underflow."""
    lowest = -87.0 if dtype == torch.float32 else -708.0
    exponent = torch.linspace(lowest, 0, 20001, dtype=dtype)[:-1]
    x = (1 + exponent).reshape(1, 1, -1).to(target).requires_grad_()
    out = lif.functional.lif(x, decay_mem=0.0, surrogate=lif.PeriodicExponential(1.0)).spikes
    (grad,) = torch.autograd.grad(out.sum(), x)
    offset = (x.detach().cpu().flatten() - 0.5) - 0.5  # the kernel's own argument, rounding included
    expected = exact_exp(offset, dtype)
    spacing = torch.finfo(dtype).eps * expected
    assert float(((grad.cpu().flatten().double() - expected) / spacing).abs().max()) <= ulps

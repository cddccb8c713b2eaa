"""The table of neurons that the tests walk: how each is called, and random arguments for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import torch_lif as lif

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """`params` gives each parameter's range and kind: "neuron" or "synapse"."""

    name: str
    params: dict[str, tuple[float, float, str]]
    inputs: tuple[str, ...] = ()  # beside x
    states: tuple[str, ...] = ("v",)
    synapses: int = 0
    spiking: bool = True

    @property
    def fused(self) -> Callable[..., Any]:
        return getattr(lif.functional, self.name)

    @property
    def reference(self) -> Callable[..., Any]:
        return getattr(lif.reference, self.name)

    @property
    def records(self) -> tuple[str, ...]:
        return (*self.states, "spikes") if self.spiking else self.states

    def __str__(self) -> str:
        return f"{self.name}{self.synapses}" if self.spiking else self.name


def _lif(synapses: int) -> Case:
    params = {"decay_mem": (0.5, 1.0, "neuron"), "threshold": (0.4, 1.5, "neuron"), "bias": (-0.1, 0.1, "neuron")}
    if synapses:
        params["decay_syn"] = (0.1, 0.9, "synapse")
    return Case("lif", params, ("noise",), ("v", "i") if synapses else ("v",), synapses)


CASES = [
    *(_lif(synapses) for synapses in (0, 1, 2, 3)),
    Case(
        "li",
        {"rate_mem": (0.0, 1.0, "neuron"), "rate_syn": (0.0, 1.0, "neuron"), "v_leak": (-1.0, 1.0, "neuron")},
        states=("v", "i"),
        spiking=False,
    ),
]
SPIKING = [case for case in CASES if case.spiking]
SURROGATES = [lif.StepPWL(), lif.PeriodicExponential(), lif.SuperSpike(10.0)]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def make(
    case: Case,
    T: int,
    B: int,
    neurons: int | Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    batch_first: bool = True,
    shared: Sequence[str] = (),
    with_inputs: bool = True,
    with_state: bool = True,
) -> Arguments:
    """Random arguments of a call. The same seed gives the same values on every device."""
    shape = (neurons,) if isinstance(neurons, int) else tuple(neurons)
    generator = torch.Generator().manual_seed(seed)

    def uniform(size: Sequence[int], low: float, high: float, kind: torch.dtype) -> Tensor:
        return (torch.rand(tuple(size), generator=generator, dtype=torch.float64) * (high - low) + low).to(kind).to(device)

    steps = (B, T) if batch_first else (T, B)
    S = case.synapses
    inner = shape if S < 2 else (shape[0] * S,)
    per_synapse = shape if S < 2 else (*shape, S)
    compute = compute_dtype(dtype)
    arguments: Arguments = {"x": uniform((*steps, *inner), -0.4, 1.0, dtype)}
    for name, (low, high, kind) in case.params.items():
        size = () if name in shared else per_synapse if kind == "synapse" else shape
        arguments[name] = uniform(size, low, high, compute)
    for name in case.inputs if with_inputs else ():
        arguments[name] = uniform((*steps, *shape), -0.2, 0.2, dtype)
    if with_state:
        arguments["state"] = tuple(
            uniform((B, *(per_synapse if name == "i" else shape)), -0.5, 0.9, compute) for name in case.states
        )
    if S:
        arguments["synapses"] = S
    arguments["batch_first"] = batch_first
    return arguments


def outputs(result: Any) -> dict[str, Tensor]:
    """Everything a call returned, by name."""
    named = {"out": result[0]}
    named |= {f"last {name}": value for name, value in result.state._asdict().items() if value is not None}
    return named | {f"record {name}": value for name, value in result.records.items()}


def assert_same_bits(got: Any, expected: Any) -> None:
    for (name, a), (other, b) in zip(outputs(got).items(), outputs(expected).items(), strict=True):
        assert name == other
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        same = (a == b) | (a.isnan() & b.isnan())
        assert bool(same.all()), f"{name}: {int((~same).sum())} of {same.numel()} values differ"


def leaves(arguments: Arguments) -> tuple[Arguments, dict[str, Tensor]]:
    """The arguments with every floating tensor a leaf that requires a gradient, and those leaves by name."""
    found: dict[str, Tensor] = {}
    copy = dict(arguments)
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            copy[name] = found[name] = value.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        elif name == "state" and value is not None:
            copy[name] = tuple(s.detach().clone().requires_grad_() for s in value)
            found |= {f"state[{k}]": s for k, s in enumerate(copy[name])}
    return copy, found


def loss(result: Any, seed: int = 7) -> Tensor:
    """A random weighted sum of everything a call returned, so that every adjoint path is used."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64, device=result[0].device)
    for value in outputs(result).values():
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)
        total = total + (value.double() * weight).sum()
    return total


def gradients(function: Callable[..., Any], arguments: Arguments) -> tuple[Any, dict[str, Tensor]]:
    copy, found = leaves(arguments)
    result = function(**copy)
    # With no time step there is no path from some arguments: autograd then says None, which is zero.
    grads = torch.autograd.grad(loss(result), list(found.values()), allow_unused=True, materialize_grads=True)
    return result, dict(zip(found, grads, strict=True))


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value expected."""
    if expected.numel() == 0:
        return 0.0
    difference = (got.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp_min(1e-300))

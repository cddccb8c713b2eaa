"""The table of neurons that the tests walk: how each is called, and random arguments for it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import torch
from torch import Tensor

import torch_lif as lif

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """`params` gives each parameter's range and kind: "neuron" or "synapse"; `weights` those of a recurrent layer;
    `options` what else is passed with every call. `states` are in the order of the state tuple, those that the layer
    lacks None."""

    name: str
    label: str
    params: dict[str, tuple[float, float, str]]
    inputs: tuple[str, ...] = ()  # beside x
    states: tuple[str | None, ...] = ("v",)
    synapses: int = 0
    spiking: bool = True
    weights: tuple[str, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_spikes: bool = False  # whether it takes that argument
    gain: float = 1.0  # of x, for neurons that would hardly spike

    @property
    def fused(self) -> Callable[..., Any]:
        return getattr(lif.functional, self.name)

    @property
    def reference(self) -> Callable[..., Any]:
        return getattr(lif.reference, self.name)

    @property
    def recurrent(self) -> bool:
        return bool(self.weights)

    @property
    def steps(self) -> int:
        """So many time steps that gradients do not explode: through resets to a value, adaptation and recurrence they
        do."""
        return 60 if self.name in ("lif", "li") and not self.recurrent else 6

    @property
    def summed(self) -> tuple[str, ...]:
        """Arguments whose gradient is a sum over batch and time."""
        return (*self.params, *self.weights)

    @property
    def records(self) -> tuple[str, ...]:
        own = tuple(name for name in self.states if name and name != "spikes")
        return (*own, "spikes") if self.spiking else own

    def __str__(self) -> str:
        return self.label


def _lif(synapses: int, recurrent: bool = False) -> Case:
    params = {"decay_mem": (0.5, 1.0, "neuron"), "threshold": (0.4, 1.5, "neuron"), "bias": (-0.1, 0.1, "neuron")}
    if synapses:
        params["decay_syn"] = (0.1, 0.9, "synapse")
    states: tuple[str | None, ...] = ("v", "i") if synapses else ("v",)
    if recurrent:
        states = ("v", "i" if synapses else None, "spikes")
    return Case(
        "lif",
        f"lif{synapses}{'-recurrent' if recurrent else ''}",
        params,
        ("noise",),
        states,
        synapses,
        weights=("w_rec", "b_rec") if recurrent else (),
        options={"max_spikes": 2.0**16} | ({"synapses": synapses} if synapses else {}),
        max_spikes=True,
    )


def _alif(
    label: str,
    synapse: bool,
    recurrent: bool = False,
    more: Sequence[str] = (),
    inputs: tuple[str, ...] = (),
    **options: Any,
) -> Case:
    params = {
        "decay_mem": (0.2, 0.9, "neuron"),
        "decay_adapt": (0.5, 1.0, "neuron"),
        "adapt_scale": (0.5, 2.0, "neuron"),
        "threshold": (0.4, 1.2, "neuron"),
    }
    params |= {"decay_syn": (0.3, 0.9, "synapse")} if synapse else {}
    ranges = {"reset_value": (0.1, 0.5, "neuron"), "min_v": (-0.3, 0.0, "neuron"), "bias": (-0.1, 0.1, "neuron")}
    params |= {name: ranges[name] for name in more}
    states = ("v", "i" if synapse else None, "adaptation", *(("spikes",) if recurrent else ()))
    weights = ("w_rec", "b_rec") if recurrent else ()
    return Case("alif", label, params, inputs, states, weights=weights, options=options, gain=6.0 if synapse else 3.0)


def _euler(
    label: str, more: Sequence[str] = (), inputs: tuple[str, ...] = (), recurrent: bool = False, **options: Any
) -> Case:
    params = {"rate_mem": (0.1, 1.0, "neuron"), "rate_syn": (0.1, 0.9, "neuron"), "threshold": (0.5, 1.2, "neuron")}
    ranges = {
        "leak": (-0.2, 0.2, "neuron"),
        "reset_value": (-0.3, 0.1, "neuron"),
        "bias": (-0.1, 0.1, "neuron"),
        "refractory": (0.0, 3.5, "neuron"),
    }
    params |= {name: ranges[name] for name in more}
    states: tuple[str | None, ...] = ("v", "i")
    if "refractory" in more or recurrent:
        states = (*states, "refractory" if "refractory" in more else None)
    states = (*states, *(("spikes",) if recurrent else ()))
    weights = ("w_rec", "b_rec") if recurrent else ()
    return Case("euler_lif", label, params, inputs, states, weights=weights, options=options, gain=1.5)


def _li(label: str, inputs: tuple[str, ...] = (), more: Sequence[str] = (), **options: Any) -> Case:
    params = {"rate_mem": (0.0, 1.0, "neuron"), "rate_syn": (0.0, 1.0, "neuron"), "leak": (-1.0, 1.0, "neuron")}
    params |= {name: {"bias": (-0.1, 0.1, "neuron")}[name] for name in more}
    return Case("li", label, params, inputs, ("v", "i"), spiking=False, options=options)


CASES = [
    *(_lif(synapses) for synapses in (0, 1, 2, 3, 5, 9)),
    *(_lif(synapses, recurrent=True) for synapses in (0, 1, 2, 3, 9)),
    _alif("alif", False),
    _alif(
        "alif-synapse",
        True,
        more=("reset_value", "min_v", "bias"),
        inputs=("noise",),
        norm_input="state",
        max_spikes=math.inf,
    ),
    _alif(
        "alif-reset", True, more=("reset_value",), reset="value", norm_input=False, max_spikes=3, zero_adaptation=True
    ),
    _alif("alif-recurrent", True, recurrent=True, more=("min_v",), max_spikes=2, threshold_gradient=False),
    _euler("euler", ("leak", "reset_value")),
    _euler("euler-refractory", ("leak", "reset_value", "refractory", "bias"), ("noise",), synapse_update="input_first"),
    _euler(
        "euler-iaf",
        ("reset_value", "refractory", "bias"),
        leaky=False,
        synapse_update="membrane_first_increment",
        reset_gradient=True,
    ),
    _euler("euler-measured", ("leak", "reset_value", "refractory"), ("noise", "spikes_hw", "membrane_hw")),
    _euler("euler-measured-spikes", ("leak", "reset_value"), ("spikes_hw",), reset_gradient=True),
    _euler(
        "euler-recurrent", ("leak", "reset_value"), recurrent=True, synapse_update="input_first", reset_gradient=True
    ),
    _li("li"),
    _li("li-measured", ("noise", "membrane_hw"), ("bias",), synapse_update="membrane_first_increment"),
]
SPIKING = [case for case in CASES if case.spiking]
SURROGATES = [
    lif.StepPWL(),
    lif.PeriodicExponential(),
    lif.SuperSpike(10.0),
    lif.FastSigmoid(5.0),
    lif.SoftSign(),
    lif.SingleExponential(),
    lif.Gaussian(mu=0.1),
    lif.Erf(),
    lif.MultiGaussian(mu=0.1),
    lif.Heaviside(0.6),
    lif.SinabsPeriodicExponential(),
    lif.ATan(),
    lif.Sigmoid(shift=0.1),
    lif.Triangle(0.7, 0.5),
]


LONG = os.environ.get("TORCH_LIF_TESTS") == "long"
"""`make test-long`: every case with every surrogate, and hypothesis with five times its examples."""


def examples(count: int) -> hypothesis.settings:
    """How many examples hypothesis tries."""
    return hypothesis.settings(max_examples=5 * count if LONG else count)


def _pairs() -> list[tuple[Case, Any]]:
    """Every surrogate with every neuron, and every case with a surrogate or more: each neuron's cases take turns."""
    if LONG:
        return list(itertools.product(SPIKING, SURROGATES))
    found = []
    for neuron in dict.fromkeys(case.name for case in SPIKING):
        own = [case for case in SPIKING if case.name == neuron]
        found += [(own[k % len(own)], surrogate) for k, surrogate in enumerate(SURROGATES)]
    return found


SPIKING_PAIRS = _pairs()
PAIRS: list[tuple[Case, Any]] = [*SPIKING_PAIRS, *((case, None) for case in CASES if not case.spiking)]


def name_of(p: object) -> str:
    return str(p) if isinstance(p, Case) else type(p).__name__ if p is not None else "no surrogate"


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
        return (
            (torch.rand(tuple(size), generator=generator, dtype=torch.float64) * (high - low) + low).to(kind).to(device)
        )

    steps = (B, T) if batch_first else (T, B)
    S = case.synapses
    inner = shape if S < 2 else (shape[0] * S,)
    per_synapse = shape if S < 2 else (*shape, S)
    compute = compute_dtype(dtype)

    # In sixty-fourths, so that sums of recurrent input are exact in any order.
    def coarse(size: Sequence[int], low: float, high: float) -> Tensor:
        return (uniform(size, low, high, torch.float64) * 64).round().div(64).to(compute)

    arguments: Arguments = {"x": uniform((*steps, *inner), -0.4 * case.gain, case.gain, dtype), **case.options}
    for name, (low, high, kind) in case.params.items():
        size = () if name in shared else per_synapse if kind == "synapse" else shape
        arguments[name] = uniform(size, low, high, compute)
    total = math.prod(shape)
    for name in case.weights:
        size = (total * max(1, S),) if name == "b_rec" else (total, total * max(1, S))
        bound = 0.1 if name == "b_rec" else 1 / max(4, total * max(1, S) ** 2) ** 0.5
        arguments[name] = coarse(size, -bound, bound)
    for name in case.inputs if with_inputs else ():
        arguments[name] = uniform((*steps, *shape), -0.2, 0.2, dtype)
        if name == "spikes_hw":
            arguments[name] = (arguments[name] > 0.1).to(dtype)
    if with_state:
        first = {
            "v": lambda: uniform((B, *shape), -0.5, 0.9, compute),
            "i": lambda: uniform((B, *per_synapse), -0.5, 0.9, compute),
            "adaptation": lambda: uniform((B, *shape), 0.0, 0.5, compute),
            "refractory": lambda: uniform((B, *shape), -1.0, 2.0, compute),
            "spikes": lambda: uniform((B, *shape), -0.5, 1.5, compute).round(),
            None: lambda: None,
        }
        arguments["state"] = tuple(first[name]() for name in case.states)
    arguments["batch_first"] = batch_first
    return arguments


def outputs(result: Any) -> dict[str, Tensor]:
    """Everything a call returned, by name."""
    named = {"out": result[0]}
    named |= {f"last {name}": value for name, value in result.state._asdict().items() if value is not None}
    return named | {f"record {name}": value for name, value in result.records.items()}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """torch.equal, but that NaN equals NaN: what explodes does so in the same way."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


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
        if isinstance(value, Tensor) and name != "refractory":  # a period gets no gradient
            copy[name] = found[name] = value.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        elif name == "state" and value is not None:
            copy[name] = tuple(None if s is None else s.detach().clone().requires_grad_() for s in value)
            found |= {f"state[{k}]": s for k, s in enumerate(copy[name]) if s is not None}
    return copy, found


def only_sequences(arguments):
    """With gradients of x, other inputs and the state, none of the parameters."""
    copy, found = leaves(arguments)
    for name, leaf in found.items():
        leaf.requires_grad_(name in ("x", "noise") or name.startswith("state"))
    return copy, {name: leaf for name, leaf in found.items() if leaf.requires_grad}


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

"""The table of what is measured. A further neuron is one entry of CASES, a further implementation one of IMPLEMENTATIONS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_lif import _C, functional, reference
from torch_lif.surrogate import Surrogate

LEGEND = (
    "T time steps, B batch, N neurons, X inputs a neuron, W state values a neuron, e bytes of an element of x, "
    "s bytes of a state value (4; float64: 8), C = ceil(T/16) checkpoints (T on CUDA with more than two synapses)"
)
FORWARD = "T*B*N*(X + 1)*e + B*N*W*s"
"""Reads x; writes the output and the last state."""
TRAINING = "T*B*N*(3*X + 2)*e + B*N*W*s*(2*C + 1)"
"""The forward writes checkpoints too; the backward reads x, the output's gradient and the checkpoints, and writes x's gradient."""


class Shape(NamedTuple):
    """T, B and N of one measurement."""

    steps: int
    batch: int
    neurons: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


@dataclasses.dataclass(frozen=True)
class Case:
    """A neuron to be measured.

    name: on the command line and in reports.
    neuron: the function's name in torch_lif.functional and torch_lif.reference, and the op's.
    parameters: the value of the first and of the last neuron, spaced evenly between: each neuron has its own.
    drive: x is uniform in [0, drive); chosen so that neurons spike about every tenth step.
    states: W of the formulas.
    formulas: fewest bytes that each of PASSES moves, in the symbols of LEGEND. Parameters and their gradients are left out:
        they do not grow with T.
    """

    name: str
    neuron: str
    parameters: Mapping[str, tuple[float, float]]
    drive: float
    states: int
    synapses: int = 0
    formulas: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"forward": FORWARD, "forward+backward": TRAINING})

    @property
    def differentiable(self) -> list[str]:
        """The parameters that have gradients: a refractory period has none."""
        return [name for name in self.parameters if name != "refractory"]

    @property
    def spiking(self) -> bool:
        return _C.neurons()[self.neuron]["spiking"]

    def bytes_moved(self, name: str, shape: Shape, dtype: torch.dtype, device: str) -> int:
        """The formula's value for the pass `name`."""
        interval = 1 if device == "cuda" and self.synapses > 2 else 16  # checkpoint_interval() of csrc/ops/launch.cpp
        values = {
            "T": shape.steps,
            "B": shape.batch,
            "N": shape.neurons,
            "X": max(self.synapses, 1),
            "W": self.states,
            "e": dtype.itemsize,
            "s": 8 if dtype == torch.float64 else 4,
            "C": -(-shape.steps // interval),
        }
        return int(eval(self.formulas[name], {"__builtins__": {}}, values))  # evaluated, so that what is printed is what is used


CASES = {
    case.name: case
    for case in (
        Case("lif", "lif", {"decay_mem": (0.90, 0.97), "threshold": (0.9, 1.1)}, drive=0.3, states=1),
        Case(
            "cuba-lif",
            "lif",
            {"decay_mem": (0.90, 0.97), "decay_syn": (0.80, 0.95), "threshold": (0.9, 1.1)},
            drive=0.03,
            states=2,
            synapses=1,
        ),
        Case(
            "alif",
            "alif",
            {"decay_mem": (0.90, 0.97), "decay_adapt": (0.98, 0.99), "threshold": (0.9, 1.1), "adapt_scale": (5.0, 10.0)},
            drive=6.0,
            states=2,
        ),
        Case(
            "cuba-refractory",
            "cuba_lif",
            {
                "rate_mem": (0.03, 0.1),
                "rate_syn": (0.05, 0.2),
                "threshold": (0.9, 1.1),
                "leak": (0.0, 0.1),
                "reset": (-0.1, 0.0),
                "refractory": (1.0, 3.0),
            },
            drive=0.9,
            states=3,
        ),
        Case("li", "li", {"rate_mem": (0.05, 0.15), "rate_syn": (0.1, 0.3), "v_leak": (0.0, 0.1)}, drive=1.0, states=2),
    )
}


class Problem(NamedTuple):
    """A case with its tensors. leaves: what the backward pass finds gradients for, x first."""

    case: Case
    x: Tensor
    arguments: dict[str, Any]
    leaves: list[Tensor]
    grad_out: Tensor


def build(case: Case, shape: Shape, dtype: torch.dtype, device: str, trainable: bool, surrogate: Surrogate) -> Problem:
    """The same tensors for every implementation, batch first as is the default of torch_lif."""
    generator = torch.Generator(device).manual_seed(1)

    def uniform(width: int, high: float) -> Tensor:
        size = (shape.batch, shape.steps, shape.neurons * width)
        return torch.rand(size, generator=generator, device=device, dtype=dtype).mul_(high)

    x = uniform(max(case.synapses, 1), case.drive).requires_grad_()
    state_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    arguments: dict[str, Any] = {}
    for name, (first, last) in case.parameters.items():
        value = torch.linspace(first, last, shape.neurons, device=device, dtype=state_dtype)
        if name.endswith("_syn") and case.synapses > 1:
            value = value.unsqueeze(1).expand(shape.neurons, case.synapses).contiguous()
        arguments[name] = value.requires_grad_(trainable and name in case.differentiable)
    leaves = [x, *(value for value in arguments.values() if value.requires_grad)]
    if case.spiking:
        arguments["surrogate"] = surrogate
    if case.synapses:
        arguments["synapses"] = case.synapses
    return Problem(case, x, arguments, leaves, uniform(1, 1.0))


Implementation = Callable[[Problem], Tensor]


def function_of(module: ModuleType) -> Implementation:
    """Calls the function named after the neuron; its first result is the output."""
    return lambda problem: getattr(module, problem.case.neuron)(problem.x, **problem.arguments)[0]


BASELINE = "eager"
"""The implementation that the others are checked against and compared with."""
IMPLEMENTATIONS: dict[str, Implementation] = {"torch_lif": function_of(functional), BASELINE: function_of(reference)}


def forward(implementation: Implementation, problem: Problem) -> Tensor:
    with torch.no_grad():
        return implementation(problem)


def forward_backward(implementation: Implementation, problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(implementation(problem), problem.leaves, problem.grad_out)


PASSES: dict[str, Callable[[Implementation, Problem], object]] = {"forward": forward, "forward+backward": forward_backward}

"""The table of what is measured: a further neuron is one entry of CASES. Who measures up to it: contenders.py and
peers.py."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_lif import _C, functional
from torch_lif.surrogate import SingleExponential, StepPWL, SuperSpike, Surrogate

LEGEND = (
    "T time steps, B batch, N neurons, X inputs per neuron, W state values per neuron, e bytes of an element of x, "
    "s bytes of a state value (4; float64: 8), C = ceil(T/16) kept states, "
    "M bits of the mask per neuron-step (1; li: 0); parameters and their gradients, N values each, are left out"
)
WITH_PARAMETERS = "+parameters"
"""Behind a case's name: the gradients of all its parameters too."""
MODULE = "+module"
"""Behind a case's name: called from torch_lif's own module (calls.py)."""
FORWARD = "T*B*N*(X + 1)*e + B*N*W*s"
"""Reads x; writes the output and the last state."""
TRAINING = "T*B*N*(3*X + 2)*e + B*N*W*s*(2*C + 1)"
"""The forward writes checkpoints too; the backward reads x, the output's gradient and the checkpoints, and writes x's
gradient."""
MASKED = "T*B*N*(2*X + 2)*e + T*B*N*M/4 + B*N*W*s"
"""The forward writes a bit per neuron-step, or none; the backward reads them and the output's gradient, but not x, and
writes x's."""
MODES = {"recompute": TRAINING, "mask": MASKED}
"""Fewest bytes of a training call, by what the backward finds of the forward: names as of the functions' argument
`memory`."""
KEPT = {"recompute": "B*N*W*s*C", "mask": "T*B*N*M/8"}
"""Bytes that the forward leaves to the backward, beside x (with the mask it is not read): the part of MODES written
once and read once."""
MODE_OF_OTHERS = "recompute"
"""Whose bytes count for what has no such modes: loops and other libraries. They move more."""


@functools.cache
def selectable(neuron: str) -> bool:
    """Whether the function in torch_lif.functional lets its memory mode be chosen."""
    return "memory" in inspect.signature(getattr(functional, neuron)).parameters


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

    name: on the command line and in reports. neuron: the function's name in torch_lif.functional and
    torch_lif.reference, and the op's. parameters: the value of the first and of the last neuron, spaced evenly between:
    each neuron has its own. drive: x is uniform in [0, drive); chosen so that neurons spike about every tenth step.
    Sequences shorter than CHARGED get more, or hardly a neuron would spike before they end. surrogate: that of the
    library which the neuron comes from; None where nothing spikes. options: what else a call is given.
    order: integrators from the input to the membrane, which charge it as that power of time.
    states: W of the formulas. Parameters and their gradients are left out of these: they do not grow with T.
    modes: the memory modes that the function knows.
    trainable: whether the backward finds the gradients of all parameters, or that of x alone.
    """

    name: str
    neuron: str
    parameters: Mapping[str, tuple[float, float]]
    drive: float
    states: int
    order: int = 1
    synapses: int = 0
    modes: tuple[str, ...] = ("recompute",)
    trainable: bool = False
    surrogate: Surrogate | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def family(self) -> str:
        """The case's name without what is asked of its backward: what libraries are compared by."""
        return self.name.removesuffix(WITH_PARAMETERS)

    def with_parameters(self) -> Case:
        """The case with gradients of all parameters. They are sums over time of what the backward in the mode
        `recompute` has at hand for the gradient of x too: its fewest bytes stay as they are."""
        return self if self.trainable else dataclasses.replace(self, name=self.name + WITH_PARAMETERS, trainable=True)

    @property
    def passes(self) -> list[str]:
        """Those of PASSES to be timed. A forward alone is that of the case without gradients of parameters."""
        return [name for name in PASSES if name != "forward" or not self.trainable]

    def gradient_names(self) -> list[str]:
        """Of the leaves of a problem."""
        return ["x", *(self.differentiable if self.trainable else ())]

    @property
    def differentiable(self) -> list[str]:
        """The parameters that have gradients: a refractory period has none."""
        return [name for name in self.parameters if name != "refractory"]

    @property
    def spiking(self) -> bool:
        return _C.neurons()[self.neuron]["spiking"]

    def modes_for(self, surrogate: Surrogate | None = None) -> list[str]:
        """The modes to be measured, of those that can be asked for. One bit is enough where the surrogate is a window
        and no parameter has a gradient. Where nothing spikes either, checkpoints would be written for nobody."""
        if not selectable(self.neuron):
            return []
        mask = (not self.spiking or isinstance(surrogate or self.surrogate, StepPWL)) and not self.trainable
        idle = "mask" if not mask else "" if self.spiking else "recompute"
        return [mode for mode in self.modes if mode != idle]

    def formula(self, pass_name: str, mode: str = MODE_OF_OTHERS) -> str:
        """Fewest bytes that a pass moves, in the symbols of LEGEND."""
        return FORWARD if pass_name == "forward" else MODES[mode]

    def bytes_moved(
        self, pass_name: str, shape: Shape, dtype: torch.dtype, device: str, mode: str = MODE_OF_OTHERS
    ) -> int:
        """The formula's value."""
        return self.evaluate(self.formula(pass_name, mode), shape, dtype, device)

    def evaluate(self, formula: str, shape: Shape, dtype: torch.dtype, device: str) -> int:
        values = {
            "T": shape.steps,
            "B": shape.batch,
            "N": shape.neurons,
            "X": max(self.synapses, 1),
            "W": self.states,
            "e": dtype.itemsize,
            "s": 8 if dtype == torch.float64 else 4,
            "C": -(-shape.steps // 16),
            "M": int(self.spiking),
        }
        return int(eval(formula, {"__builtins__": {}}, values))  # evaluated, so that what is printed is what is used


COUNTING = {"max_spikes": 2.0**16}
"""A membrane may spike several times in a step, as in Rockpool."""
PLAIN = (
    Case(
        "lif",
        "lif",
        {"decay_mem": (0.90, 0.97), "threshold": (0.9, 1.1)},
        drive=0.3,
        states=1,
        modes=tuple(MODES),
        surrogate=StepPWL(),
        options=COUNTING,
    ),
    Case(
        "cuba-lif",
        "lif",
        {"decay_mem": (0.90, 0.97), "decay_syn": (0.80, 0.95), "threshold": (0.9, 1.1)},
        drive=0.03,
        states=2,
        order=2,
        synapses=1,
        modes=tuple(MODES),
        surrogate=StepPWL(),
        options=COUNTING,
    ),
    Case(
        "alif",
        "alif",
        {"decay_mem": (0.90, 0.97), "decay_adapt": (0.98, 0.99), "threshold": (0.9, 1.1), "adapt_scale": (5.0, 10.0)},
        drive=6.0,
        states=2,
        surrogate=SingleExponential(),
    ),
    Case(
        "euler-lif",
        "euler_lif",
        {
            "rate_mem": (0.03, 0.1),
            "rate_syn": (0.05, 0.2),
            "threshold": (0.9, 1.1),
            "leak": (0.0, 0.1),
            "reset_value": (-0.1, 0.0),
            "refractory": (1.0, 3.0),
        },
        drive=0.9,
        states=3,
        order=2,
        surrogate=SuperSpike(),
        options={"synapse_update": "membrane_first"},
    ),
    Case(
        "li",
        "li",
        {"rate_mem": (0.05, 0.15), "rate_syn": (0.1, 0.3), "leak": (0.0, 0.1)},
        drive=1.0,
        states=2,
        modes=tuple(MODES),
    ),
)
CASES = {case.name: case for case in (*PLAIN, *(plain.with_parameters() for plain in PLAIN))}
DEFAULT = [name for name, case in CASES.items() if not case.trainable or case.family == "cuba-lif"]
"""Measured where no case is named, or `all`."""


CHARGED = 14
"""Time steps."""


@dataclasses.dataclass(eq=False)
class Problem:
    """A case with its tensors. leaves: what the backward pass finds gradients for, x first."""

    case: Case
    x: Tensor
    arguments: dict[str, Any]
    leaves: list[Tensor]
    grad_out: Tensor

    @property
    def nbytes(self) -> int:
        """Of all tensors that a call is given."""
        return sum(t.nbytes for t in (self.x, self.grad_out, *self.arguments.values()) if isinstance(t, Tensor))


def build(case: Case, shape: Shape, dtype: torch.dtype, device: str, surrogate: Surrogate | None = None) -> Problem:
    """The same tensors for every implementation, batch first as is the default of torch_lif. surrogate: default: the
    case's."""
    generator = torch.Generator(device).manual_seed(1)

    def uniform(width: int, high: float) -> Tensor:
        size = (shape.batch, shape.steps, shape.neurons * width)
        return torch.rand(size, generator=generator, device=device, dtype=dtype).mul_(high)

    x = uniform(max(case.synapses, 1), case.drive * max(1.0, CHARGED / shape.steps) ** case.order).requires_grad_()
    state_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    arguments: dict[str, Any] = {}
    for name, (first, last) in case.parameters.items():
        value = torch.linspace(first, last, shape.neurons, device=device, dtype=state_dtype)
        if name.endswith("_syn") and case.synapses > 1:
            value = value.unsqueeze(1).expand(shape.neurons, case.synapses).contiguous()
        arguments[name] = value.requires_grad_(case.trainable and name in case.differentiable)
    leaves = [x, *(value for value in arguments.values() if value.requires_grad)]
    arguments |= case.options
    if case.spiking:
        arguments["surrogate"] = surrogate or case.surrogate
    if case.synapses:
        arguments["synapses"] = case.synapses
    return Problem(case, x, arguments, leaves, uniform(1, 1.0))


Implementation = Callable[[Problem], Tensor]
"""The output of the case's neuron, batch first."""


def forward(implementation: Implementation, problem: Problem) -> Tensor:
    with torch.no_grad():
        return implementation(problem)


def forward_backward(implementation: Implementation, problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(implementation(problem), problem.leaves, problem.grad_out)


PASSES: dict[str, Callable[[Implementation, Problem], object]] = {
    "forward": forward,
    "forward+backward": forward_backward,
}

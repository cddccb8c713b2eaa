"""Who is measured: torch_lif by memory mode, the plain loop, the loop compiled, the loop as a CUDA graph. Libraries:
peers.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_lif import functional, reference
from torch_lif.surrogate import Surrogate

from .cases import KEPT, Case, Implementation, Problem, Shape

OURS, BASELINE = "torch_lif", "eager"
RNN, TF32 = "nn.RNN", " tf32"
"""What recurrent layers are measured beside; behind a name: with matrix products in tf32."""
GRAPH = " (graph)"
"""Behind a contender's name: timed by replaying a CUDA graph of the call, which leaves the host's time out."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something that runs a case.

    name: in reports. call: its forward pass. remark: what is not the same work as the baseline's. mode: the memory mode
    asked for; None where there is none to ask for, or where it chooses by itself. passes: which of PASSES differ from
    another contender's. None: all. graph: timed under replay. fused: its loop over time is not in Python; what is not
    is left out beyond a run's `loop_limit`. replays: whether a fused one is timed under replay too, for a CUDA graph
    can hold its calls. devices, cases, dtypes: where it takes part; None: everywhere. prepare: makes the problem its
    own (layout, layer), which is not timed. expected: the output by its own equations, for a prepared problem; None:
    those of the baseline are its own. on_request: takes part only if it is named.
    """

    name: str
    call: Implementation
    remark: str = ""
    mode: str | None = None
    passes: Sequence[str] | None = None
    graph: bool = False
    fused: bool = False
    replays: bool = True
    devices: Sequence[str] | None = None
    cases: Sequence[str] | None = None
    dtypes: Sequence[str] | None = None
    prepare: Callable[[Problem], Problem] | None = None
    expected: Callable[[Problem], Tensor] | None = None
    on_request: Sequence[str] = ()

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)

    def takes_part(self, case: Case, device: str, dtype: str) -> bool:
        fits = ((self.devices, device), (self.cases, case.name), (self.dtypes, dtype))
        return all(known is None or one in known for known, one in fits)


def fused(mode: str | None) -> Implementation:
    def call(problem: Problem) -> Tensor:
        chosen: dict[str, Any] = {} if mode is None else {"memory": mode}
        return getattr(functional, problem.case.neuron)(problem.x, **problem.arguments, **chosen)[0]

    return call


def loop(problem: Problem) -> Tensor:
    return getattr(reference, problem.case.neuron)(problem.x, **problem.arguments)[0]


class CompiledStep:
    """A plain loop over time whose step is compiled by torch.compile: the reference over one time step, from state to
    state."""

    def __init__(self) -> None:
        self.known: tuple[object, ...] = ()
        self.step: Callable[..., tuple[Tensor, tuple[Tensor | None, ...]]] | None = None

    def __call__(self, problem: Problem) -> Tensor:
        # Anew for each shape: shapes known at compile time make the fastest step. With fullgraph, more recompilations
        # than PyTorch allows are an error, not a silent way back to the plain loop.
        if self.known != (problem.case.name, problem.x.dtype, problem.x.device, problem.x.shape):
            torch._dynamo.reset()
            function = getattr(reference, problem.case.neuron)

            def step(
                x: Tensor, state: Sequence[Tensor], arguments: dict[str, Any]
            ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
                out, after, _ = function(x.unsqueeze(1), state=state, **arguments)
                return out.squeeze(1), tuple(after)

            self.step = torch.compile(step, dynamic=False, fullgraph=True)
            self.known = (problem.case.name, problem.x.dtype, problem.x.device, problem.x.shape)
        with torch.no_grad():
            first = getattr(reference, problem.case.neuron)(problem.x[:, :1].detach(), **problem.arguments)[1]
        state: tuple[Tensor | None, ...] = tuple(None if s is None else torch.zeros_like(s) for s in first)
        outputs = []
        assert self.step is not None
        for x in problem.x.unbind(1):
            out, state = self.step(x, state, problem.arguments)
            outputs.append(out)
        return torch.stack(outputs, 1)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(OURS, fused(None), fused=True),
        Contender(BASELINE, loop),
        Contender(
            BASELINE + GRAPH,
            loop,
            "kernel time of the loop: a graph of all its launches",
            graph=True,
            devices=("cuda",),
            dtypes=("float32",),
        ),
        Contender(
            "compiled step",
            CompiledStep(),
            "torch.compile of one step, called in a loop; compilation left out",
            cases=("lif", "cuba-lif"),  # each compilation takes some ten seconds
            dtypes=("float32",),
            on_request=("cpu",),
        ),
    )
}


def variants(contender: Contender, case: Case, device: str, surrogate: Surrogate | None = None) -> list[Contender]:
    """Ours in each memory mode; and all that is fused under replay too, on a GPU."""
    found = [contender]
    for mode in case.modes_for(surrogate) if contender.name == OURS else ():
        # Without a gradient all modes are the same call.
        found.append(
            dataclasses.replace(
                contender, name=f"{OURS} {mode}", call=fused(mode), mode=mode, passes=("forward+backward",)
            )
        )
    if device == "cuda" and contender.fused and contender.replays:
        found += [dataclasses.replace(one, name=one.name + GRAPH, graph=True, remark="kernel time") for one in found]
    return found


def mode_in_use(call: Implementation, problem: Problem, shape: Shape) -> str:
    """The memory mode that a call of ours chose, told by what its forward keeps for its backward beside the arguments;
    RuntimeError if that is no mode's."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = call(problem)
    given = {t.data_ptr() for t in (problem.x, *problem.arguments.values()) if isinstance(t, Tensor)}
    # From the mask the backward does not read x: what is kept of it has its shape, but not its memory.
    outlines = {t.data_ptr() for t in kept if t.untyped_storage().nbytes() < t.nbytes}
    kept = list({t.data_ptr(): t for t in kept if t.data_ptr() not in given | outlines}.values())
    del out
    total, bits = sum(t.nbytes for t in kept), not any(t.is_floating_point() for t in kept)
    case, dtype, device = problem.case, problem.x.dtype, problem.x.device.type
    expected = {
        mode: case.evaluate(KEPT[mode], shape, dtype, device) for mode in case.modes if bits == (mode == "mask")
    }
    # Bits come in words, of 32 at most.
    padding = 4 * max(shape.steps * shape.batch, shape.batch * shape.neurons) if bits else 0
    for mode, size in expected.items():
        if size <= total <= size + padding:
            return mode
    raise RuntimeError(f"keeps {total} bytes for the backward, which is none of {expected}")

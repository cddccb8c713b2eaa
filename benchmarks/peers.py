"""Other libraries' layers. A further one is one entry of PEERS. None is required; each is imported when it is built.

A layer runs with its own parameters, those nearest to the case that it stands beside, and in the layout it likes best.
Before it is timed its spikes are held to a loop of its own equations, written here in float32 in the library's order of
operations.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .cases import Problem
from .contenders import CONTENDERS, Contender

DECAY, SYNAPSE, ADAPTATION = 0.95, 0.9, 0.985
"""A step's decays of membrane, synapse and threshold: about the middle of the cases' ranges."""
Run = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A layer of another library.

    name: in reports. package: the distribution to be installed. module: what is imported. case: beside which it is
    measured. build: the layer for so many neurons, as a module, and the function that runs it over a sequence (a fresh
    state each call). steps: its equations, from a list of inputs (batch, neurons) to a list of outputs. fused: whether
    its loop over time is in a kernel; replays: whether a CUDA graph can hold its calls; dtypes: of the sequences.
    drive: its input is the case's times this, so that its neurons spike about as often. environment: variables that it
    reads when it is imported: it then runs in a process of its own, which has them set.
    """

    name: str
    package: str
    module: str
    case: str
    build: Callable[[int], tuple[nn.Module, Run]]
    steps: Callable[[Sequence[Tensor]], list[Tensor]]
    remark: str
    drive: float = 1.0
    batch_first: bool = False
    fused: bool = False
    replays: bool = True
    dtypes: Sequence[str] = ("float32",)
    devices: Sequence[str] | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def installed(self) -> bool:
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:  # of a parent package
            return False

    def at_home(self) -> bool:
        """Whether this process has its environment."""
        return all(os.environ.get(name) == value for name, value in self.environment.items())

    def version(self) -> str:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return "of unknown version"

    def prepare(self, problem: Problem) -> Problem:
        layer, run = self.build(problem.grad_out.shape[2])
        layer.to(problem.x.device)
        for parameter in nn.Module.parameters(layer):  # of nn.Module, for Rockpool's parameters() is another function
            parameter.requires_grad_(False)

        def own(t: Tensor) -> Tensor:
            return t.detach() if self.batch_first else t.detach().transpose(0, 1).contiguous()

        x = (own(problem.x) * self.drive).requires_grad_()
        return Problem(problem.case, x, {"run": run}, [x], own(problem.grad_out))

    def expected(self, problem: Problem) -> Tensor:
        time = 1 if self.batch_first else 0
        # State is float32 whatever the sequences are, and spikes are counts: exact in any dtype.
        return torch.stack(self.steps(problem.x.detach().float().unbind(time)), time).to(problem.x.dtype)

    def contender(self) -> Contender:
        return Contender(
            self.name,
            lambda problem: problem.arguments["run"](problem.x),
            f"{self.package} {self.version()}: {self.remark}",
            devices=self.devices,
            cases=(self.case,),
            dtypes=self.dtypes,
            fused=self.fused,
            replays=self.replays,
            prepare=self.prepare,
            expected=self.expected,
        )


# --- SpikingJelly ---


def build_spikingjelly(neurons: int) -> tuple[nn.Module, Run]:
    library: Any = importlib.import_module("spikingjelly.activation_based")
    importlib.import_module("spikingjelly.activation_based.neuron")
    tau = 1 / (1 - DECAY)
    layer = library.neuron.LIFNode(tau=tau, decay_input=False, v_reset=None, step_mode="m")

    def run(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            # The layer's state would have the dtype of x, for which there is no kernel; its function takes one in
            # float32.
            v = torch.zeros(x.shape[1:], device=x.device)
            return library.functional.lif_multi_step(x, v, tau, False, 1.0, None, layer.surrogate_function)[0]
        library.functional.reset_net(layer)
        return layer(x)

    return layer, run


def steps_spikingjelly(inputs: Sequence[Tensor]) -> list[Tensor]:
    tau = 1 / (1 - DECAY)
    v, out = torch.zeros_like(inputs[0]), []
    for x in inputs:
        h = v - v / tau + x
        s = (h - 1.0 >= 0).to(h.dtype)
        v = h - s * 1.0
        out.append(s)
    return out


# --- snnTorch ---


def build_snntorch(neurons: int) -> tuple[nn.Module, Run]:
    layer = importlib.import_module("snntorch").Leaky(beta=DECAY)

    def run(x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for step in x.unbind():
            s, v = layer(step, v)
            out.append(s)
        return torch.stack(out)

    return layer, run


def steps_snntorch(inputs: Sequence[Tensor]) -> list[Tensor]:
    v, out = torch.zeros_like(inputs[0]), []
    for x in inputs:
        reset = (v - 1.0 > 0).to(v.dtype)
        v = (DECAY * v + x) - reset * 1.0
        out.append((v - 1.0 > 0).to(v.dtype))
    return out


# --- norse ---

NORSE_RATE_MEM, NORSE_RATE_SYN = 0.05, 0.1


def build_norse(neurons: int) -> tuple[nn.Module, Run]:
    norse: Any = importlib.import_module("norse.torch")
    p = norse.LIFParameters(
        tau_syn_inv=torch.tensor(NORSE_RATE_SYN / 1e-3),
        tau_mem_inv=torch.tensor(NORSE_RATE_MEM / 1e-3),
        alpha=torch.tensor(10.0),
    )
    layer = norse.LIF(p)
    return layer, lambda x: layer(x)[0]


def steps_norse(inputs: Sequence[Tensor]) -> list[Tensor]:
    a = 1e-3 * torch.tensor(NORSE_RATE_MEM / 1e-3)
    r = -1e-3 * torch.tensor(NORSE_RATE_SYN / 1e-3)
    v = i = torch.zeros_like(inputs[0])
    out = []
    for x in inputs:
        j = i + x
        h = v + a * ((0.0 - v) + j)
        i = j + r * j
        s = (h - 1.0 > 0).to(h.dtype)
        v = (1 - s) * h + s * 0.0
        out.append(s)
    return out


# --- sinabs ---


def tau_of(decay: float) -> float:
    return float(-1 / torch.tensor(decay).double().log())


def decay_of(tau: float) -> Tensor:
    return torch.exp(-1.0 / torch.as_tensor(tau, dtype=torch.float32))


def stateless(layer: Any) -> tuple[nn.Module, Run]:
    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x)

    return layer, run


def build_sinabs_lif(neurons: int) -> tuple[nn.Module, Run]:
    return stateless(importlib.import_module("sinabs.layers").LIF(tau_mem=tau_of(DECAY), norm_input=False))


def build_exodus_lif(neurons: int) -> tuple[nn.Module, Run]:
    return stateless(importlib.import_module("sinabs.exodus.layers").LIF(tau_mem=tau_of(DECAY), norm_input=False))


def steps_sinabs_lif(inputs: Sequence[Tensor]) -> list[Tensor]:
    alpha = decay_of(tau_of(DECAY)).to(inputs[0].device)
    v, out = torch.zeros_like(inputs[0]), []
    for x in inputs:
        v = alpha * v + x
        s = (v > 0) * torch.trunc(v / torch.ones_like(v))
        v = v - s * 1.0
        out.append(s)
    return out


def build_sinabs_alif(neurons: int) -> tuple[nn.Module, Run]:
    return stateless(
        importlib.import_module("sinabs.layers").ALIF(
            tau_mem=tau_of(DECAY), tau_adapt=tau_of(ADAPTATION), adapt_scale=7.5
        )
    )


def steps_sinabs_alif(inputs: Sequence[Tensor]) -> list[Tensor]:
    alpha, rho = (decay_of(tau_of(decay)).to(inputs[0].device) for decay in (DECAY, ADAPTATION))
    v = b = torch.zeros_like(inputs[0])
    out = []
    for x in inputs:
        v = alpha * v + (1 - alpha) * x
        theta = 1.0 + 7.5 * b
        s = (v - theta >= 0).to(v.dtype)
        v = v - s * theta
        b = rho * b + (1 - rho) * s
        out.append(s)
    return out


# --- Rockpool ---


def build_rockpool(neurons: int) -> tuple[nn.Module, Run]:
    constant = importlib.import_module("rockpool.parameters").Constant
    layer = importlib.import_module("rockpool.nn.modules").LIFTorch(
        (neurons,),
        tau_mem=constant(1e-3 * tau_of(DECAY)),
        tau_syn=constant(1e-3 * tau_of(SYNAPSE)),
        threshold=constant(1.0),
    )

    def run(x: Tensor) -> Tensor:
        layer.reset_state()
        layer.to(x.device)  # the reset may have made new states elsewhere
        return layer(x)[0]

    return layer, run


def steps_rockpool(inputs: Sequence[Tensor]) -> list[Tensor]:
    alpha, beta = (
        torch.exp(torch.tensor(-1e-3) / torch.tensor(1e-3 * tau_of(decay))).to(inputs[0].device)
        for decay in (DECAY, SYNAPSE)
    )
    v = i = torch.zeros_like(inputs[0])
    out = []
    for x in inputs:
        i = (i + x) * beta
        v = v * alpha + i
        s = (v >= 1.0) * torch.floor(v)
        v = v - s
        out.append(s)
    return out


SPIKINGJELLY = "time first, sigmoid surrogate, at most one spike per step, one decay for all neurons, v - v/tau"
SPIKINGJELLY_KINDS = {
    "torch": "a loop over time in PyTorch",
    "triton": "one Triton kernel per pass, which writes the membrane in float32 for the backward, also in a "
    "forward alone",
    "cuda": "one native kernel per pass, of a build of its own (SJ_BUILD_NATIVE_CUDA), which writes what the Triton "
    "one writes",
}
"""What SJ_LIF_CUDA_IMPLEMENTATION selects when the library is imported."""
PEERS = [
    Peer(
        "SpikingJelly LIFNode",
        "spikingjelly",
        "spikingjelly",
        "lif",
        build_spikingjelly,
        steps_spikingjelly,
        SPIKINGJELLY,
        devices=("cpu",),
    ),
    *(
        Peer(
            f"SpikingJelly LIFNode {kind}",
            "spikingjelly",
            "spikingjelly",
            "lif",
            build_spikingjelly,
            steps_spikingjelly,
            f"SJ_LIF_CUDA_IMPLEMENTATION={kind}: {what}; {SPIKINGJELLY}",
            fused=kind != "torch",
            dtypes=("float32", "bfloat16"),
            devices=("cuda",),
            environment={"SJ_LIF_CUDA_IMPLEMENTATION": kind},
        )
        for kind, what in SPIKINGJELLY_KINDS.items()
    ),
    Peer(
        "snnTorch Leaky",
        "snntorch",
        "snntorch",
        "lif",
        build_snntorch,
        steps_snntorch,
        "its own step in a loop, arctangent surrogate, at most one spike per step, reset a step later, one decay "
        "for all neurons",
    ),
    Peer(
        "sinabs LIF",
        "sinabs",
        "sinabs",
        "lif",
        build_sinabs_lif,
        steps_sinabs_lif,
        "exponential surrogate, one decay for all neurons",
        batch_first=True,
    ),
    Peer(
        "sinabs-exodus LIF",
        "sinabs-exodus",
        "sinabs.exodus",
        "lif",
        build_exodus_lif,
        steps_sinabs_lif,
        "one kernel per pass, between copies with time last; exponential surrogate, one decay for all neurons; its "
        "kernels run in "
        "the default stream, which no CUDA graph can hold",
        batch_first=True,
        fused=True,
        replays=False,
        devices=("cuda",),
    ),
    Peer(
        "sinabs ALIF",
        "sinabs",
        "sinabs",
        "alif",
        build_sinabs_alif,
        steps_sinabs_alif,
        "exponential surrogate, one value of each parameter for all neurons",
        batch_first=True,
    ),
    Peer(
        "Rockpool LIFTorch",
        "rockpool",
        "rockpool",
        "cuba-lif",
        build_rockpool,
        steps_rockpool,
        "draws noise of standard deviation 0 too",
        batch_first=True,
    ),
    Peer(
        "norse LIF",
        "norse",
        "norse",
        "euler-lif",
        build_norse,
        steps_norse,
        "no refractory period, resets to 0, the synapse takes its input first, one value of each parameter for "
        "all neurons",
    ),
]


def missing() -> list[str]:
    return [peer.name for peer in PEERS if not peer.installed()]


def all_contenders() -> dict[str, Contender]:
    """By name: those of torch_lif and the loop, and every peer that is installed."""
    return CONTENDERS | {peer.name: peer.contender() for peer in PEERS if peer.installed()}


def elsewhere(name: str) -> Mapping[str, str]:
    """The environment of the process that a contender has to run in; empty: this one will do."""
    found: dict[str, Mapping[str, str]] = {peer.name: peer.environment for peer in PEERS if not peer.at_home()}
    return found.get(name, {})

"""The drop-ins in a CUDA graph: what a call must not do so that it can be captured (on the CPU), and captures, replayed
with other inputs (on a GPU). docs/compat.md says how."""

import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torch_lif.compat import hxtorch, norse, rockpool
from torch_lif.compat import sinabs as sl

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
T, B, N = 30, 3, 16


class Step(NamedTuple):
    """A drop-in in use: `run` starts it anew and returns its output for x; `leaves` are trained."""

    run: Callable[[Tensor], Tensor]
    leaves: list[Tensor]
    module: nn.Module | None = None


def of_sinabs(layer: nn.Module) -> Step:
    def run(x: Tensor) -> Tensor:
        sl.reset_states(layer)
        return layer(x)

    return Step(run, list(layer.parameters()), layer)


def of_rockpool(module: Any) -> Step:
    def run(x: Tensor) -> Tensor:
        return module.reset_state()(x, record=True)[2]["vmem"] + module.reset_state()(x)[0]

    return Step(run, list(module.parameters().astorch()), module)


def of_norse(module: nn.Module, *leaves: Tensor) -> Step:
    return Step(lambda x: module(x)[0], [*module.parameters(), *leaves], module)


def cells(kind: Any) -> Callable[[str], Step]:
    def make(device: str) -> Step:
        cell = kind().to(device)

        def run(x: Tensor) -> Tensor:
            state, steps = None, []
            for x_t in x[:4]:
                out, state = cell(x_t, state)
                steps.append(out)
            return torch.stack(steps)

        return Step(run, list(cell.parameters()), cell)

    return make


CHIP = dict(leak=0.05, reset=torch.tensor(-0.1), threshold=torch.tensor(0.6), tau_syn=torch.tensor(6e-6), tau_mem=8e-6)


def of_hxtorch(name: str, **more: Any) -> Callable[[str], Step]:
    function = getattr(hxtorch, name)
    known = CHIP if "li_" not in name.removeprefix("cuba") else {k: CHIP[k] for k in ("leak", "tau_syn", "tau_mem")}
    given = {key: value for key, value in known.items() if key != "leak" or "iaf" not in name} | more

    def make(device: str) -> Step:
        tau = torch.full((N,), 7e-6, device=device, requires_grad=True)
        return Step(lambda x: function(x, **given | {"tau_mem": tau})[0], [tau])

    return make


def network(device: str) -> Step:
    layer = sl.ALIFRecurrent(5.0, 20.0, nn.Linear(N, N), spike_threshold=0.3)
    return of_sinabs(nn.Sequential(nn.Linear(N, N), sl.ALIF(5.0, 20.0, 3.0), layer, nn.Linear(N, N)).to(device))


SPIKES = {"method": "superspike", "alpha": 50.0}
CASES: dict[str, Callable[[str], Step]] = {
    "sinabs ALIF": lambda device: of_sinabs(sl.ALIF(10.0, 50.0).to(device)),
    "sinabs ALIF, reset to a number on the CPU": lambda device: of_sinabs(
        sl.ALIF(10.0, 50.0, 5.0, min_v_mem=-1.0, reset_fn=sl.MembraneReset(torch.tensor(0.1))).to(device)
    ),
    "sinabs ALIF, with records": lambda device: of_sinabs(sl.ALIF(10.0, 50.0, record_states=True).to(device)),
    "sinabs network": network,
    "Rockpool LIFTorch": lambda device: of_rockpool(rockpool.LIFTorch(N).to(device)),
    "Rockpool LIFTorch, recurrent": lambda device: of_rockpool(rockpool.LIFTorch(N, has_rec=True).to(device)),
    "Rockpool LIFNeuronTorch": lambda device: of_rockpool(rockpool.LIFNeuronTorch(N).to(device)),
    "norse LIF": lambda device: of_norse(norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.4))).to(device)),
    "norse LIF, alpha on the device": lambda device: of_norse(
        norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.4), alpha=torch.tensor(100.0)).to(device))
    ),
    "norse LI": lambda device: of_norse(norse.LI().to(device)),
    "norse LIFRecurrent": lambda device: of_norse(norse.LIFRecurrent(N, N).to(device)),
    "norse LICell": cells(norse.LICell),
    "norse LIFCell": cells(lambda: norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.1)))),
    "hxtorch LIF": of_hxtorch("cuba_lif_integration", **SPIKES),
    "hxtorch refractory IAF": of_hxtorch("cuba_refractory_iaf_integration", refractory_time=3e-6, **SPIKES),
    "hxtorch LI": of_hxtorch("cuba_li_integration"),
}
SPIKING = [name for name in CASES if name not in ("norse LI", "norse LICell", "hxtorch LI")]
every_case = pytest.mark.parametrize("name", CASES)


def make_input(name: str, device: str, seed: int = 0) -> Tensor:
    sizes = (B, T, N) if name.startswith(("sinabs", "Rockpool")) else (T, B, N)
    return (torch.rand(sizes, generator=torch.Generator().manual_seed(seed)) * 3).to(device)


class HostCopies(TorchDispatchMode):
    """Notes each operation that takes a tensor of the CPU and gives one of the meta device, which stands for a GPU. A
    number on the CPU in an operation with a tensor of the device is no copy: it is an argument of the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [value.device.type for value in args if isinstance(value, Tensor)]
        if isinstance(result, Tensor) and result.is_meta and "cpu" in given and "meta" not in given:
            self.found.append(str(func))
        return result


@every_case
def test_no_copy_from_the_host(name):
    """A capture forbids copies from pageable memory, and each takes longer than a launch."""
    step, x = CASES[name]("meta"), make_input(name, "meta").requires_grad_()
    with HostCopies() as copies:
        step.run(x).sum().backward()
    assert copies.found == []


class Probe(torch.autograd.Function):
    """The identity; `node` is a weak reference to its node in the last graph."""

    node: Any = None

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Probe.node = weakref.ref(ctx)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


@every_case
def test_no_graph_is_left(name):
    """After a training step and a reset nothing of its graph is left. Else the parameters' nodes in it would be those
    of a later capture, on another stream."""
    step, x = CASES[name]("cpu"), make_input(name, "cpu")
    step.run(Probe.apply(x.requires_grad_())).sum().backward()
    if name.startswith("sinabs"):
        sl.reset_states(step.module)
    gc.collect()
    assert Probe.node() is None


def gradients(step: Step, x: Tensor) -> list[Tensor | None]:
    return [leaf.grad for leaf in [x, *step.leaves]]


def train(step: Step, x: Tensor) -> Tensor:
    out = step.run(x)
    (out * torch.linspace(0.5, 1.5, N, device=x.device)).sum().backward()
    return out


def forget_gradients(step: Step, x: Tensor) -> None:
    for leaf in [x, *step.leaves]:
        leaf.grad = None


@needs_gpu
@every_case
def test_captured_training_step(name):
    """Forward and backward, replayed with another input, are the eager step's to the last bit."""
    step, static = CASES[name]("cuda"), make_input(name, "cuda").requires_grad_()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            forget_gradients(step, static)
            train(step, static)
    torch.cuda.current_stream().wait_stream(side)
    if name.startswith("sinabs"):
        sl.reset_states(step.module)
    forget_gradients(step, static)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = train(step, static)
    found = gradients(step, static)
    other = make_input(name, "cuda", seed=1)
    with torch.no_grad():
        static.copy_(other)
    for _ in range(2):
        graph.replay()
    replayed = out.detach().clone(), [None if g is None else g.clone() for g in found]
    if name in SPIKING:
        assert replayed[0].any()

    forget_gradients(step, other.requires_grad_())
    expected = train(step, other)
    assert torch.equal(replayed[0], expected)
    for got, want in zip(replayed[1], gradients(step, other), strict=True):
        assert (got is None) == (want is None)
        assert got is None or torch.equal(got, want)


@needs_gpu
@every_case
def test_captured_inference(name):
    step, static = CASES[name]("cuda"), make_input(name, "cuda")
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step.run(static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = step.run(static)
        static.copy_(make_input(name, "cuda", seed=1))
        graph.replay()
        assert torch.equal(out, step.run(static.clone()))


class Anew(nn.Module):
    """A drop-in that starts anew in each call, for make_graphed_callables."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.inner, self.run = step.module, step.run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


@needs_gpu
@pytest.mark.parametrize("name", ["sinabs ALIF", "sinabs network", "norse LIF", "norse LI", "norse LIFRecurrent"])
def test_make_graphed_callables(name):
    step, x = CASES[name]("cuda"), make_input(name, "cuda").requires_grad_()
    graphed = torch.cuda.make_graphed_callables(Anew(step), (x,))
    other = make_input(name, "cuda", seed=1).requires_grad_()
    weight = torch.linspace(0.5, 1.5, N, device="cuda")
    forget_gradients(step, other)
    out = graphed(other)
    (out * weight).sum().backward()
    got = out.detach().clone(), [None if g is None else g.clone() for g in gradients(step, other)]

    forget_gradients(step, other)
    expected = train(step, other)
    assert torch.equal(got[0], expected)
    for one, want in zip(got[1], gradients(step, other), strict=True):
        assert torch.equal(one, want)


@needs_gpu
def test_states_carried_from_replay_to_replay():
    """A replay begins with the tensors that were the states when it was captured. Copying the last states into them
    carries them on."""
    layer, whole = sl.ALIF(10.0, 50.0).cuda(), make_input("sinabs", "cuda")
    static = torch.zeros(B, T // 3, N, device="cuda")
    with torch.no_grad():
        expected = layer(whole)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            layer(static)
        torch.cuda.current_stream().wait_stream(side)
        layer.reset_states()
        first = layer.states()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(static)
            for name, state in layer.states().items():
                first[name].copy_(state)
        parts = []
        for part in whole.split(T // 3, 1):
            static.copy_(part)
            graph.replay()
            parts.append(out.clone())
    assert torch.equal(torch.cat(parts, 1), expected)


@needs_gpu
@pytest.mark.parametrize("make", [lambda: sl.ALIF(10.0, 50.0), lambda: rockpool.LIFTorch(N).to_torch()])
def test_the_first_states_live_as_long_as_the_layer(make):
    """A replay reads them, although the layer has gone on."""
    layer, x = make().cuda(), make_input("sinabs", "cuda")
    with torch.no_grad():
        expected = layer(x).clone()
        reset = getattr(layer, "reset_states", None) or layer.reset_state
        reset()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(x)
        written = [torch.full((n,), 100.0, device="cuda") for n in (N, B * N) for _ in range(200)]
        for _ in range(2):
            graph.replay()
            assert torch.equal(out, expected)
        del written


@needs_gpu
def test_a_constant_is_not_kept_from_a_capture():
    """What a capture has made belongs to its graph. A constant from an eager call may be freed, so a capture makes its
    own."""
    layer, x = norse.LI(norse.LIParameters(v_leak=torch.tensor(0.37))), torch.rand(T, B, N, device="cuda")
    layer(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, _ = layer(x)
    layer(x)  # with the constant of the call before the capture
    for k in range(600):  # more than are kept
        norse.li(x[:1], p=norse.LIParameters(v_leak=torch.tensor(float(k))))
    torch.cuda.synchronize()
    graph.replay()
    assert torch.equal(out, layer(x)[0])


@needs_gpu
def test_constants_on_two_streams():
    """Each stream makes its own, because the other's may not have been written yet."""
    x, p = torch.rand(T, B, N, device="cuda"), norse.LIParameters(v_leak=torch.tensor(0.412))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late, _ = norse.li(x, p=p)
    early, _ = norse.li(x, p=p)
    torch.cuda.synchronize()
    assert torch.equal(early, late)

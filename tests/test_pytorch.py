"""The ops in PyTorch's machinery: opcheck, compile, export, autocast, CUDA graphs, DDP, copies, checkpointing,
hooks."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cases import CASES, gradients, leaves, loss, make, outputs
from torch import nn
from torch.library import opcheck

import torch_lif as lif
from torch_lif import _call


def op_arguments(case, requires_grad, device, monkeypatch):
    """What the Python function hands to the op."""
    seen = {}

    def spy(*args):
        seen["args"] = args
        return torch_op(*args)

    torch_op = _call.OPS[case.name]
    monkeypatch.setitem(_call.OPS, case.name, spy)
    monkeypatch.setattr(_call._C, "call", lambda *args: None)  # not the short way
    arguments = make(case, T=20, B=2, neurons=6, device=device, seed=1)
    if requires_grad:
        arguments, _ = leaves(arguments)
    case.fused(**arguments, record=case.records)
    return torch_op, seen["args"]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck(case, requires_grad, device, monkeypatch):
    op, args = op_arguments(case, requires_grad, device, monkeypatch)
    opcheck(op, args)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck_of_the_inner_ops(case, device, monkeypatch):
    """Forward and backward ops have right meta kernels of their own: torch.compile traces through to them."""
    _, args = op_arguments(case, False, device, monkeypatch)
    forward = getattr(torch.ops.torch_lif, case.name + "_forward").default
    tests = ("test_schema", "test_faketensor")
    args = (*args[:-1], "save" if case.recurrent else "recompute")
    opcheck(forward, args, test_utils=tests)
    results = forward(*args)
    kept = sum(name is not None for name in case.states) + case.recurrent
    grads = [torch.ones_like(t) for t in results[:-kept]]
    backward = getattr(torch.ops.torch_lif, case.name + "_backward").default
    needs = [int(t is not None) for t in (*args[0], *args[1], *args[2])]
    opcheck(
        backward,
        (grads, args[0], args[1], results[-kept:], *args[3:], case.recurrent, needs),
        test_utils=tests,
    )


def short_way_only(monkeypatch):
    """From here on the way through torch.ops is an error."""

    def refuse(*args):
        raise AssertionError("not the short way")

    for name in _call.OPS:
        monkeypatch.setitem(_call.OPS, name, refuse)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_short_way_to_the_op(case, device, monkeypatch):
    """Plain tensors do not go through torch.ops; what comes back is the same, as is its gradient."""
    arguments = make(case, T=20, B=2, neurons=6, device=device, seed=4)
    found = []
    for usual in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(_call._C, "call", lambda *args: None) if usual else short_way_only(patch)
            found.append(gradients(lambda **a: case.fused(**a, record=case.records), arguments))
    (result, grads), (expected, expected_grads) = found
    for name, value in outputs(expected).items():
        assert torch.equal(outputs(result)[name], value), name
    for name, value in expected_grads.items():
        assert torch.equal(grads[name], value), name


def test_a_subclass_of_tensor_sees_the_op(device):
    seen = []

    class Watching(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    x = torch.rand(2, 5, 3, device=device)
    spikes = lif.functional.lif(x.as_subclass(Watching), decay_mem=0.9).spikes
    assert torch.ops.torch_lif.lif.default in seen
    assert isinstance(spikes, Watching)


def test_modes_see_the_op(device):
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    ops = torch.ops.torch_lif
    for mode, wanted in (
        (Functions, [ops.lif.default]),
        (Dispatch, [ops.lif_forward.default, ops.lif_backward.default]),
    ):
        seen.clear()
        with mode():
            lif.functional.lif(x, decay_mem=0.9).spikes.sum().backward()
        assert [func for func in seen if "torch_lif" in str(func)] == wanted
    seen.clear()
    with torch.no_grad(), Dispatch():
        lif.functional.lif(x, decay_mem=0.9)
    assert ops.lif.default in seen


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_tracers_see_the_op(device):
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.rand(2, 5, 3, device=device)

    def layer(x):
        return lif.functional.lif(x * 2, decay_mem=0.9).spikes + 1

    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(layer, tracing_mode=mode)(x)
        assert [str(node.target) for node in graph.graph.nodes].count("torch_lif.lif.default") == 1, mode
        assert torch.equal(graph(x), layer(x)), mode
    with pytest.raises(
        NotImplementedError, match=r"torch\.jit\.trace .* use torch\.export"
    ):  # rather than a constant in the trace
        torch.jit.trace(layer, x)


def test_the_profiler_sees_the_ops(device):
    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    with torch.profiler.profile() as profile:
        lif.functional.lif(x, decay_mem=0.9).spikes.sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"torch_lif::lif", "torch_lif::lif_forward", "torch_lif::lif_backward"} <= names


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("recording", [False, True])
def test_forward_mode_is_refused(requires_grad, recording, device):
    """A tangent is not dropped in silence."""
    x = torch.rand(2, 5, 3, device=device, requires_grad=requires_grad)
    with torch.autograd.forward_ad.dual_level(), torch.set_grad_enabled(recording):
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match="jvp is not implemented"):
            lif.functional.lif(dual, decay_mem=0.9)


def test_compiled_autograd(device):
    """What the node remembers can be hashed, and calls that differ in it alone are not taken for the same."""
    module, x = network(device), network_input(device)
    _, expected = parameter_gradients(module, x)
    torch._dynamo.reset()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        _, got = parameter_gradients(module, x)
    for name, grad in expected.items():
        assert torch.equal(got[name], grad), name
    torch._dynamo.reset()
    for window in (0.3, 0.6):
        y = x.clone().requires_grad_()
        spikes = lif.functional.lif(y, decay_mem=0.9, surrogate=lif.StepPWL(window)).spikes
        (expected_grad,) = torch.autograd.grad(spikes.sum(), y, retain_graph=True)
        with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
            spikes.sum().backward()
        assert torch.equal(y.grad, expected_grad)


class Network(nn.Module):
    """With decays, not time constants: the exp of a compiled graph may differ from PyTorch's in the last bit."""

    def __init__(self, backend="fused"):
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.lif = lif.LIF(8, decay_mem=0.9, trainable=True, bias=0.1, backend=backend)
        self.second = nn.Linear(8, 6)
        self.cuba = lif.CubaLIF(6, decay_mem=0.95, decay_syn=0.5, trainable=("decay_syn",), backend=backend)
        self.readout = lif.LI(6, trainable=True, leak=0.1, backend=backend)

    def forward(self, x):
        return self.readout(self.cuba(self.second(self.lif(self.first(x)))))


def recurrent_network(device="cpu"):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8),
        lif.CubaLIF(4, synapses=2, decay_mem=0.9, decay_syn=0.5, recurrent=True),
        nn.Linear(4, 6),
        lif.ALIF(6, decay_mem=0.8, decay_adapt=0.9, decay_syn=0.5, recurrent=True, trainable=True),
        lif.EulerLIF(6, decay_mem=0.7, refractory_time=2e-3, recurrent=True, trainable=("threshold",)),
    ).to(device)


def network(device="cpu", **kwargs):
    torch.manual_seed(0)
    return Network(**kwargs).to(device)


def network_input(device="cpu", batch=3):
    return torch.rand(batch, 25, 5, generator=torch.Generator().manual_seed(2)).to(device) * 3


def parameter_gradients(module, x):
    module.zero_grad()
    out = module(x)
    out.square().sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_compile_fullgraph(device):
    """One graph, the same bits; of gradients those that the ops make (PyTorch's own reductions may be compiled
    otherwise)."""
    module, x = network(device), network_input(device)
    expected, expected_grads = parameter_gradients(module, x)
    torch._dynamo.reset()
    got, grads = parameter_gradients(torch.compile(module, fullgraph=True), x)
    grads = {name.removeprefix("_orig_mod."): grad for name, grad in grads.items()}
    assert torch.equal(got, expected)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-5, atol=1e-6)


NUMBERS = {
    "max_spikes": lambda value: lif.ALIF(5, max_spikes=value),
    "surrogate": lambda value: lif.LIF(5, surrogate=lif.SuperSpike(value)),
    "dt": lambda value: lif.LI(5, dt=1e-3 * value, tau_mem=0.1, tau_syn=0.1),
    "noise_std": lambda value: lif.LIF(5, noise_std=value),
    "refractory_time": lambda value: lif.EulerLIF(5, refractory_time=1e-3 * value),
    "constrained": lambda value: lif.CubaLIF(5, tau_mem=1e-2 * value).constrain("tau_mem"),
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("number", NUMBERS)
def test_compile_of_layers_that_differ_in_a_number(number, dynamic):
    """From the second value on, or with dynamic=True, torch.compile makes a symbol of a layer's number."""
    torch._dynamo.reset()
    x = network_input()
    for value in (1.0, 2.0, 3.0):
        layer = NUMBERS[number](value)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        torch.manual_seed(1)
        got = compiled(x)
        torch.manual_seed(1)
        assert torch.equal(got, layer(x))


@pytest.mark.parametrize(
    "case", [case for case in CASES if str(case) in ("lif1", "lif2-recurrent", "euler-refractory", "li")], ids=str
)
def test_compile_gives_equal_gradients(case, device):
    """With backend aot_eager every op is PyTorch's own, so that every gradient is the same to the last bit; dynamic
    sizes too."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda **a: case.fused(**a, record=case.records), fullgraph=True, backend="aot_eager")
    for steps, neurons in ((20, 6), (33, 9)):
        arguments = make(case, T=steps, B=2, neurons=neurons, device=device, seed=3)
        result, grads = gradients(compiled, arguments)
        expected, expected_grads = gradients(lambda **a: case.fused(**a, record=case.records), arguments)
        for name, value in outputs(expected).items():
            assert torch.equal(outputs(result)[name], value), name
        for name, value in expected_grads.items():
            assert torch.equal(grads[name], value), name


def test_export_of_recurrent_layers(device):
    """One node a layer, whatever the number of time steps."""
    module, x = recurrent_network(device), network_input(device)
    program = torch.export.export(
        module, (x,), dynamic_shapes={"input": {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}}
    )
    targets = [str(node.target) for node in program.graph.nodes]
    assert [targets.count(f"torch_lif.{name}.default") for name in ("lif", "alif", "euler_lif")] == [1, 1, 1]
    other = network_input(device, batch=4)[:, :7]
    assert torch.equal(program.module()(other), module(other))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    _, expected = parameter_gradients(module, other)
    _, got = parameter_gradients(compiled, other)
    for name, grad in expected.items():
        assert torch.equal(got["_orig_mod." + name], grad), name


def test_export(device):
    module, x = network(device), network_input(device)
    program = torch.export.export(
        module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}}
    )
    targets = [str(node.target) for node in program.graph.nodes]
    assert [targets.count(f"torch_lif.{name}.default") for name in ("lif", "li")] == [2, 1], "one node a layer"
    for other in (x, network_input(device, batch=5)[:, :11]):
        assert torch.equal(program.module()(other), module(other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype, device):
    """Half in, half out, float32 state and float32 parameters' gradients."""
    module, x = network(device), network_input(device)
    with torch.autocast(device, dtype=dtype):
        current = module.first(x)
        assert current.dtype == dtype
        result = module.lif.run(current)
        assert result.spikes.dtype == dtype
        assert result.state.v.dtype == torch.float32
        module(x).float().sum().backward()
    assert module.lif.decay_mem.grad.dtype == torch.float32
    assert torch.isfinite(module.first.weight.grad).all()


def test_half_module(device):
    """A module converted with .half() keeps working: its parameters are widened, exactly, to float32."""
    layer = lif.CubaLIF(6, threshold=0.75, trainable=True).to(device).half()
    out = layer.run(torch.rand(2, 9, 6, device=device).half())
    out.spikes.sum().backward()
    assert out.state.v.dtype == torch.float32
    assert layer.threshold.grad.dtype == torch.float16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", [network, recurrent_network])
def test_cuda_graph(make):
    """A captured training step replays with new inputs, to the same bits; capture forbids synchronising and
    cudaMalloc."""
    module = make("cuda")
    static = network_input("cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            parameter_gradients(module, static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    module.zero_grad()
    with torch.cuda.graph(graph):
        out = module(static)
        out.square().sum().backward()
    other = network_input("cuda").flip(1)
    static.copy_(other)
    graph.replay()
    replayed = out.clone(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    expected, expected_grads = parameter_gradients(module, other)
    assert torch.equal(replayed[0], expected)
    for name, grad in expected_grads.items():
        assert torch.equal(replayed[1][name], grad), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_on_the_current_stream():
    module, x = lif.LIF(4096).cuda(), torch.rand(4, 500, 4096, device="cuda")
    expected = module(x)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        late = x * 1.0  # ready only after the sleep: a kernel on another stream would read it too early
        got = module(late)
    stream.synchronize()
    assert torch.equal(got, expected)


def ddp_worker(rank, path, backend, queue):
    dist.init_process_group(backend, init_method=f"file://{path}", rank=rank, world_size=2)
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    torch.set_num_threads(1)
    module = nn.parallel.DistributedDataParallel(network(device))
    x = network_input(device, batch=4)
    _, grads = parameter_gradients(module, x[2 * rank : 2 * rank + 2])
    if rank == 0:
        queue.put({name.removeprefix("module."): grad.cpu().numpy() for name, grad in grads.items()})
    dist.barrier()
    dist.destroy_process_group()


def from_two_processes(worker, path, backend):
    """What the first of two processes puts into the queue."""
    queue = mp.get_context("spawn").SimpleQueue()
    processes = mp.start_processes(
        worker, (str(path / "rendezvous"), backend, queue), nprocs=2, join=False, start_method="spawn"
    )
    while not processes.join(timeout=1):
        if not queue.empty():
            break
    result = queue.get()
    while not processes.join(timeout=60):
        pass
    return result


def ddp(path, backend):
    grads = from_two_processes(ddp_worker, path, backend)
    _, expected = parameter_gradients(network(), network_input(batch=4))
    assert grads.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(torch.from_numpy(grads[name]) * 2, grad, rtol=1e-4, atol=1e-5)


def test_ddp_gloo(tmp_path):
    """Two processes average their gradients to those of the whole batch."""
    ddp(tmp_path, "gloo")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_ddp_nccl(tmp_path):
    ddp(tmp_path, "nccl")


def fsdp_worker(rank, path, backend, queue):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    dist.init_process_group(backend, init_method=f"file://{path}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    module, x = recurrent_network(), network_input(batch=4)
    neurons = [m for m in module.modules() if hasattr(m, "run")]
    for layer in neurons:
        fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))
        register_fsdp_forward_method(layer, "run")
    parameter_gradients(module, x[2 * rank : 2 * rank + 2])
    grads = {name: p.grad.full_tensor() for name, p in module.named_parameters() if hasattr(p.grad, "full_tensor")}
    assert neurons[0].run(torch.rand(1, 2, 8)).spikes.shape == (1, 2, 4)
    if rank == 0:
        queue.put({name: grad.numpy() for name, grad in grads.items()})
    dist.barrier()
    dist.destroy_process_group()


def test_fsdp_gloo(tmp_path):
    """Two processes share every parameter of the neurons, those with one value for all neurons too."""
    grads = from_two_processes(fsdp_worker, tmp_path, "gloo")
    _, expected = parameter_gradients(recurrent_network(), network_input(batch=4))
    assert {name.rpartition(".")[2] for name in grads} >= {"w_rec", "decay_mem", "threshold"}
    for name, grad in grads.items():
        torch.testing.assert_close(torch.from_numpy(grad) * 2, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_gpu_while_the_first_is_current():
    x = torch.rand(2, 9, 4, device="cuda:1", requires_grad=True)
    with torch.cuda.device(0):
        out = lif.LIF(4).to("cuda:1")(x)
        out.sum().backward()
    assert out.device == x.grad.device == x.device
    assert torch.equal(out.cpu(), lif.LIF(4)(x.detach().cpu()))


def test_copies_and_state_dict(device):
    module, x = network(device), network_input(device)
    expected = module(x)
    assert torch.equal(copy.deepcopy(module)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), expected)
    other = Network().to(device)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), expected)


def test_activation_checkpointing(device):
    from torch.utils.checkpoint import checkpoint

    module, x = network(device), network_input(device)
    _, expected = parameter_gradients(module, x)
    module.zero_grad()
    checkpoint(module, x, use_reentrant=False).square().sum().backward()
    for name, grad in expected.items():
        assert torch.equal(dict(module.named_parameters())[name].grad, grad), name


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_second_derivative_is_refused(create_graph, device):
    """Only where one is asked for is there a node that refuses it."""
    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    spikes = lif.functional.lif(x, decay_mem=0.9).spikes
    (grad,) = torch.autograd.grad(spikes.sum(), x, create_graph=create_graph)
    assert grad.requires_grad == create_graph
    if create_graph:
        with pytest.raises(NotImplementedError, match="torch_lif::lif has a first derivative only"):
            torch.autograd.grad(grad.sum(), x)


def test_graph_is_freed_once(device):
    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    total = lif.functional.lif(x, decay_mem=0.9).spikes.sum()
    total.backward(retain_graph=True)
    total.backward()
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


def test_an_input_changed_in_place_is_noticed(device):
    x = torch.rand(2, 5, 3, device=device, requires_grad=True)
    current = x * 2
    spikes = lif.functional.lif(current, decay_mem=0.9).spikes
    current.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


def test_two_threads_are_used():
    """An extension built without OpenMP runs at::parallel_for serially, without a word: a worker thread must appear."""
    script = """
import os, torch, torch_lif as lif
torch.set_num_threads(2)
x = torch.empty(4, 100, 4096)
before = len(os.listdir("/proc/self/task"))
lif.functional.lif(x, decay_mem=0.9)
print(len(os.listdir("/proc/self/task")) - before)
"""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("counts threads in /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


@pytest.mark.parametrize("isa", lif._C.supported_instruction_sets())
def test_environment_forces_an_instruction_set(isa):
    script = "import torch_lif; print(torch_lif._C.instruction_set())"
    environment = {**os.environ, "TORCH_LIF_ISA": isa}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == isa


def test_environment_with_an_unknown_instruction_set():
    environment = {**os.environ, "TORCH_LIF_ISA": "mmx"}
    done = subprocess.run(
        [sys.executable, "-c", "import torch_lif"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "TORCH_LIF_ISA: the instruction set is 'mmx', expected one that was built" in done.stderr


def test_loss_over_everything(device):
    """The helper the other tests rely on does reach every output."""
    arguments, found = leaves(make(CASES[1], T=5, B=1, neurons=3, device=device))
    result = CASES[1].fused(**arguments, record=CASES[1].records)
    used = torch.autograd.grad(loss(result), list(outputs(result).values()))
    assert all(bool((g != 0).any()) for g in used)
    assert found

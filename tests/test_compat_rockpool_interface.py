"""torch_lif.compat.rockpool without Rockpool: what its modules look like, take, keep and refuse."""

import abc
import copy
import doctest
import inspect
import json
import math
import pickle
import sys
import types

import numpy
import pytest
import torch
from torch import nn

from torch_lif.compat import rockpool
from torch_lif.compat.rockpool import Constant, LIFNeuronTorch, LIFTorch, PeriodicExponential, StepPWL

MODES = {"taus": ("tau_mem", "tau_syn"), "decays": ("alpha", "beta"), "bitshifts": ("dash_mem", "dash_syn")}
N = 5


def test_call_evolve_forward_and_torch_api():
    module = LIFTorch(N)
    x = torch.rand(2, 20, N)
    out, state, record = module(x)
    assert record == {}
    assert list(state) == ["vmem", "isyn", "spikes"]
    again, _, record = module.reset_state().evolve(x, record=True)
    assert torch.equal(again, out)
    assert set(record) == {"vmem", "isyn", "irec", "spikes"}
    assert torch.equal(module.reset_state().forward(x), out)
    assert not module._record_dict

    converted = module.reset_state().to_torch()
    assert converted is module
    assert torch.equal(module(x), out)
    assert [p.shape for p in module.parameters()] == [p.shape for _, p in module.named_parameters()]
    assert list(module.modules()) == [module]
    assert repr(module).startswith("LIFTorch(shape=(5, 5)")
    with pytest.raises(TypeError, match="record"):
        module(x, record=True)
    assert torch.equal(LIFTorch(N, retain_torch_api=True)(x), out)
    kept = LIFTorch(N).to_torch(use_torch_call=False)
    assert len(kept(x)) == 3
    assert len(list(kept.parameters())) == 4

    model = nn.Sequential(nn.Linear(3, N), LIFTorch(N).to_torch(), nn.Linear(N, 2), LIFNeuronTorch(2).to_torch())
    model(torch.rand(2, 20, 3)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_hooks_run_and_calls_can_be_chained():
    first, second = LIFTorch(N), LIFNeuronTorch(N)
    seen = []
    first.register_forward_hook(lambda module, args, out: seen.append(out))
    x = torch.rand(2, 20, N)
    out, state, record = second(first(x, record=True), record=True)
    assert len(seen) == 1
    assert torch.equal(out, LIFNeuronTorch(N)(seen[0])[0])
    assert list(state) == ["vmem", "isyn", "spikes", ""]
    assert set(record[""]) == {"vmem", "spikes"}


def test_families_and_attributes():
    module = LIFTorch((2 * N, N), has_rec=True)
    parameters = module.parameters()
    assert list(parameters) == ["w_rec", "tau_mem", "tau_syn", "bias", "threshold"]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in parameters.values())
    assert [id(p) for p in parameters.astorch()] == [id(p) for p in parameters.values()]
    assert [id(p) for p in rockpool.TorchModuleParameters(a=parameters).astorch()] == [
        id(p) for p in parameters.values()
    ]
    families = {
        "weights": ["w_rec"],
        "taus": ["tau_mem", "tau_syn"],
        "bias": ["bias"],
        "thresholds": ["threshold"],
        "decays": [],
    }
    for family, names in families.items():
        assert list(module.parameters(family)) == names
    assert set(module.parameters(("taus", "bias"))) == {"tau_mem", "tau_syn", "bias"}
    assert list(LIFTorch(N, leak_mode="decays").parameters("decays")) == ["alpha", "beta"]
    assert list(LIFTorch(N, leak_mode="bitshifts").parameters("bitshifts")) == ["dash_mem", "dash_syn"]

    assert set(LIFTorch(N).simulation_parameters()) == {
        *(
            "leak_mode",
            "dt",
            "_has_rec",
            "w_rec",
            "noise_std",
            "learning_window",
            "spike_generation_fn",
            "max_spikes_per_dt",
        )
    }
    assert set(LIFNeuronTorch(N).simulation_parameters()) == {
        *("n_neurons", "noise_std", "dt", "spike_generation_fn", "max_spikes_per_dt", "learning_window")
    }
    assert set(module.attributes_named(("vmem", "tau_mem", "dt"))) == {"vmem", "tau_mem", "dt"}
    assert list(module.attributes_named("bias")) == ["bias"]

    assert (module.size_in, module.size_out, module.n_neurons, module.n_synapses, module.shape) == (
        2 * N,
        N,
        N,
        2,
        (2 * N, N),
    )
    assert (module.leak_mode, module.dt, module.noise_std) == ("taus", 1e-3, 0.0)
    assert (module.spiking_input, module.spiking_output, LIFNeuronTorch(N).spiking_input) == (True, True, False)
    assert (module.learning_window.item(), module.max_spikes_per_dt.item()) == (0.5, 65536)
    assert module.spike_generation_fn == StepPWL.apply
    assert (module.class_name, module.name, repr(module)) == ("LIFTorch", "", "LIFTorch with shape (10, 5)")
    assert module.modules() == {}
    assert LIFNeuronTorch(N).shape == (N,)
    assert not hasattr(LIFNeuronTorch(N), "alpha")


def test_set_attributes_takes_what_the_module_gives():
    module, other = LIFTorch(N, noise_std=0.1, dt=2e-3), LIFTorch(N)
    module(torch.rand(2, 10, N))
    given = {**module.parameters(), **module.simulation_parameters(), **module.state(), "somebody_elses": 1}
    assert other.set_attributes(given) is other
    assert (other.noise_std, other.dt) == (0.1, 2e-3)
    assert other.vmem is module.vmem
    plain_neurons = LIFNeuronTorch(N)
    assert plain_neurons.set_attributes(LIFNeuronTorch(N, dt=5e-3).simulation_parameters()).dt == 5e-3
    for name, value in (("leak_mode", "decays"), ("_has_rec", True), ("n_neurons", 3), ("n_synapses", 2)):
        with pytest.raises(ValueError, match=f"{name} was set to {value!r}, but the module was made with"):
            setattr(other, name, value)


def test_signature_is_rockpools():
    expected = {
        "leak_mode": "taus",
        **dict.fromkeys(("tau_mem", "tau_syn", "alpha", "beta", "dash_mem", "dash_syn", "bias", "threshold")),
        "has_rec": False,
        "w_rec": None,
        "noise_std": 0.0,
        "spike_generation_fn": StepPWL,
        "learning_window": 0.5,
        "max_spikes_per_dt": 2.0**16,
    }
    parameters = inspect.signature(LIFTorch).parameters
    assert list(parameters) == ["shape", *expected, "weight_init_func", "dt", "retain_torch_api", "keep_batch_state"]
    assert {name: parameters[name].default for name in expected} == expected
    parameters = inspect.signature(LIFNeuronTorch).parameters
    names = (
        "shape tau_mem threshold bias dt noise_std spike_generation_fn learning_window max_spikes_per_dt "
        "retain_torch_api"
    )
    assert list(parameters) == [*names.split(), "keep_batch_state"]
    for mode, (mem, syn) in MODES.items():
        module = LIFTorch((2 * N, N), leak_mode=mode)
        default = {"taus": 20e-3, "decays": 0.5, "bitshifts": 1.0}[mode]
        assert torch.equal(getattr(module, mem), torch.full((N,), default))
        assert torch.equal(getattr(module, syn), torch.full((N, 2), default))
        assert torch.equal(module.bias, torch.zeros(N))
        assert torch.equal(module.threshold, torch.ones(N))
    assert LIFNeuronTorch(N).bias.shape == ()


def test_zero_grad_and_requires_grad():
    module = LIFTorch(N)
    module(torch.rand(2, 20, N))[0].sum().backward()
    module.zero_grad(set_to_none=False)
    assert not module.tau_mem.grad.any()
    module.zero_grad()
    assert module.tau_mem.grad is None
    assert module.requires_grad_(False) is module
    assert not any(p.requires_grad for p in module.parameters().values())


# Leaks


@pytest.mark.parametrize("mode", MODES)
def test_all_six_views_can_be_read_and_set_in_every_mode(mode):
    """tau = -dt/ln(decay), dash = -log2(1 - decay); float32 holds 1 - decay to about 1e-6 of itself for these
    decays."""
    values = {
        "decays": (0.75, 0.9),
        "bitshifts": (2.0, -math.log2(0.1)),
        "taus": (-2e-3 / math.log(0.75), -2e-3 / math.log(0.9)),
    }
    for view, names in MODES.items():
        module = LIFTorch((2 * N, N), leak_mode=mode, dt=2e-3)
        parameter = getattr(module, MODES[mode][0])
        for name, value in zip(names, values[view], strict=True):
            setattr(module, name, value)
        for other, others in MODES.items():
            for name, value, shape in zip(others, values[other], ((N,), (N, 2)), strict=True):
                torch.testing.assert_close(getattr(module, name), torch.full(shape, value), rtol=2e-6, atol=0)
        assert getattr(module, MODES[mode][0]) is parameter
        assert list(module.parameters())[:2] == list(MODES[mode])
    with pytest.raises(ValueError, match=r"alpha was set to shape \(3,\), expected a number or \(5,\)"):
        module.alpha = torch.full((3,), 0.5)


def test_views_are_differentiable():
    module = LIFTorch(N, leak_mode="taus")
    module.dash_mem.sum().backward()
    assert module.tau_mem.grad is not None


def test_setting_parameters_is_in_place():
    module = LIFTorch(N)
    before = module.threshold
    module.threshold = 0.5
    module.threshold = torch.full((N,), 0.25)
    assert module.threshold is before
    assert torch.equal(before, torch.full((N,), 0.25))
    module.threshold = nn.Parameter(torch.full((N,), 2.0))
    assert module.threshold is not before
    assert torch.equal(dict(module.named_parameters())["threshold"], torch.full((N,), 2.0))
    for wrong in (torch.ones(3), nn.Parameter(torch.ones(()))):
        with pytest.raises(ValueError, match="threshold was set to shape"):
            module.threshold = wrong


def test_initial_values_are_fitted_without_guessing():
    assert LIFTorch(3, tau_mem=[0.1, 0.2, 0.3]).tau_mem.shape == (3,)
    assert LIFTorch(3, tau_mem=[0.1]).tau_mem.shape == ()
    assert LIFTorch(3, tau_mem=0.1).tau_mem.shape == ()
    assert LIFTorch((6, 3), tau_syn=[0.1, 0.2]).tau_syn.shape == (1, 2)
    assert torch.equal(LIFTorch((6, 3), tau_syn=torch.arange(1.0, 7)).tau_syn, torch.arange(1.0, 7).reshape(3, 2))
    assert LIFTorch(3, tau_syn=torch.ones(3)).tau_syn.shape == (3, 1)
    assert LIFTorch(3, threshold=torch.ones(3, dtype=torch.float64)).threshold.dtype == torch.float32
    for wrong in (torch.ones(2, 3), torch.ones(3), torch.ones(3, 3)):
        with pytest.raises(ValueError, match=r"tau_syn has shape .* expected \(3, 2\) or \(1, 2\) or \(\)"):
            LIFTorch((6, 3), tau_syn=wrong)


def test_constants_are_not_trained():
    module = LIFTorch(
        N, tau_mem=Constant(0.01), threshold=Constant([2.0] * N), has_rec=True, w_rec=Constant(torch.ones(N, N))
    )
    assert list(module.parameters()) == ["tau_syn", "bias"]
    assert list(module.simulation_parameters("taus")) == ["tau_mem"]
    assert set(module.state_dict()) == {"tau_syn", "bias", "vmem", "isyn", "spikes"}
    assert torch.equal(module.w_rec, torch.ones(N, N))
    module.reset_parameters()
    module(torch.rand(2, 9, N))[0].sum().backward()
    module.alpha = 0.5
    torch.testing.assert_close(module.tau_mem, torch.tensor(1e-3 / math.log(2)))
    module.double()
    assert module.threshold.dtype == torch.float64


def test_reset_parameters():
    module = LIFTorch((2 * N, N), has_rec=True, tau_mem=0.03)
    weights, drawn = module.w_rec, module.w_rec.detach().clone()
    with torch.no_grad():
        for parameter in module.parameters().values():
            parameter.fill_(7.0)
    assert module.reset_parameters() is module
    assert module.w_rec is weights
    assert not torch.equal(weights, drawn)
    bound = math.sqrt(6 / (2 * N))  # of nn.init.kaiming_uniform_, for a fan-in of 2N
    assert bound / 2 < weights.abs().max() <= bound
    assert module.tau_mem == torch.tensor(0.03)
    assert torch.equal(module.tau_syn, torch.full((N, 2), 20e-3))
    given = LIFTorch(N, has_rec=True, w_rec=torch.eye(N), weight_init_func=torch.ones)
    given.w_rec = torch.zeros(N, N)
    assert torch.equal(given.reset_parameters().w_rec, torch.eye(N))
    assert torch.equal(LIFTorch(N, has_rec=True, weight_init_func=torch.ones).w_rec, torch.ones(N, N))


# Classes of one's own, networks, files


class ParameterBase:
    """As Rockpool's: known by its name, for Rockpool need not be installed."""

    def __init__(self, data=None, family=None, init_func=None, shape=None):
        self.shape = tuple(data.shape) if data is not None else shape
        self.data = init_func(self.shape) if data is None else data
        self.family, self.init_func = family, init_func or (lambda _: data.clone())


Parameter, State, SimulationParameter, Strange = (
    type(name, (ParameterBase,), {}) for name in ("Parameter", "State", "SimulationParameter", "Strange")
)


class Counting(rockpool.LIFBaseTorch):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = Parameter(family="gains", init_func=lambda s: 2 * torch.ones(s), shape=(self.size_out,))
        self.count = State(init_func=torch.ones, shape=(self.size_out,))
        self.step = SimulationParameter(torch.tensor(0.5))
        self.offset = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, data):
        data, (vmem, count) = self._auto_batch(data, (self.vmem, self.count), ((self.size_out,), (self.size_out,)))
        vmem += 1.0  # a tensor of its own, which may be written into
        out = self.gain * data + self.offset + vmem[:, None] * self.step
        self._record_dict["spikes"] = out
        self.count = (count + data.sum(1))[0].detach()
        return out


def test_a_class_of_ones_own():
    """Rockpool's Parameter, State and SimulationParameter, PyTorch's parameters and buffers, _auto_batch."""
    module = Counting(N)
    assert list(module.parameters()) == ["tau_mem", "tau_syn", "bias", "threshold", "gain", "offset"]
    assert list(module.parameters("gains")) == ["gain"]
    assert list(module.state()) == ["vmem", "isyn", "spikes", "count", "seen"]
    assert "step" in module.simulation_parameters()
    assert "step" not in module.state_dict()
    assert {"gain", "offset", "count", "seen"} <= set(module.state_dict())
    x = torch.rand(3, 7, N)
    out, state, record = module(x)
    assert record == {}
    assert torch.equal(out, 2 * x + 0.5)
    assert torch.equal(state["count"], 1 + x[0].sum(0))
    assert not module.vmem.any()
    assert module(x[0], record=True)[2]["spikes"].shape == (1, 7, N)
    assert module(torch.rand(2, 7, 1))[0].shape == (2, 7, N)
    out.sum().backward()
    assert module.gain.grad is not None
    assert module.offset.grad is not None
    with torch.no_grad():
        module.gain.fill_(5.0), module.offset.fill_(5.0)
    module.reset_parameters().reset_state()
    assert torch.equal(module.gain, torch.full((N,), 2.0))
    assert module.offset == 0
    assert torch.equal(module.count, torch.ones(N))
    twin = copy.deepcopy(module)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(x)[0], module(x)[0])
    with pytest.raises(ValueError, match=r"\(time, 5\) or \(batch, time, 5\)"):
        module(torch.rand(3, 7, N + 1))
    with pytest.raises(TypeError, match="other was set to a Strange, expected Parameter, SimulationParameter or State"):
        module.other = Strange(torch.ones(1))


def test_a_class_of_ones_own_with_modules_in_it():
    class Weighted(rockpool.LIFNeuronTorch):
        def __init__(self):
            super().__init__(N)
            self.weights = nn.Linear(3, N)
            self.inner = rockpool.LIFTorch(3)

        def forward(self, x):
            return super().forward(self.weights(self.inner(x)[0]))

    module = Weighted()
    parameters = module.parameters()
    assert {name: list(value) for name, value in parameters.items() if isinstance(value, dict)} == {
        "weights": ["weight", "bias"],
        "inner": ["tau_mem", "tau_syn", "bias", "threshold"],
    }
    assert {id(p) for p in parameters.astorch()} == {id(p) for _, p in module.named_parameters()}
    assert list(module.parameters("taus")) == ["tau_mem", "inner"]
    assert list(module.modules()) == ["weights", "inner"]
    module.evolve(torch.ones(2, 9, 3))
    assert module.inner.vmem.any()
    module.set_attributes({"inner": {"dt": 5e-3}})
    assert module.inner.dt == 5e-3
    assert not module.reset_state().inner.vmem.any()


def test_json_files(tmp_path):
    module = LIFTorch((2 * N, N), has_rec=True, tau_mem=Constant(0.01), learning_window=0.25, dt=2e-3)
    written = module.to_json()
    assert (written["dt"], written["leak_mode"], written["spike_generation_fn"]) == ("0.002", '"taus"', None)
    assert len(json.loads(written["w_rec"])) == N
    module.save(tmp_path / "module.json")
    other = LIFTorch((2 * N, N), has_rec=True, tau_mem=Constant(0.02))
    weights = other.w_rec
    other.load(tmp_path / "module.json")
    assert other.w_rec is weights
    assert torch.equal(weights, module.w_rec)
    assert (other.tau_mem, other.learning_window, other.dt) == (module.tau_mem, 0.25, 2e-3)
    with pytest.raises(ValueError, match="leak_mode was set to 'taus', but the module was made with 'decays'"):
        LIFTorch((2 * N, N), leak_mode="decays", has_rec=True).load(tmp_path / "module.json")
    with pytest.raises(ValueError, match="w_rec was set, but there is no recurrence"):
        LIFTorch(N).load(tmp_path / "module.json")


def test_it_is_known_to_rockpools_classes(monkeypatch):
    """Once Rockpool is imported; by the method that abstract base classes have for it."""

    class Theirs(nn.Module, metaclass=abc.ABCMeta):
        pass

    class TheirNeurons(Theirs):
        pass

    module = LIFNeuronTorch(N)
    for place, name, kind in (
        ("torch_module", "TorchModule", Theirs),
        ("lif_neuron_torch", "LIFNeuronTorch", TheirNeurons),
    ):
        fake = types.ModuleType(place)
        setattr(fake, name, kind)
        monkeypatch.setitem(sys.modules, f"rockpool.nn.modules.torch.{place}", fake)
    assert not isinstance(module, Theirs)
    LIFTorch(N)
    assert isinstance(module, Theirs)
    assert not isinstance(module, TheirNeurons)
    pickle.loads(pickle.dumps(module))
    assert isinstance(module, TheirNeurons)
    assert not isinstance(LIFTorch(N), TheirNeurons)


def test_numpys_numbers_as_simulation_parameters():
    module = LIFTorch(
        N,
        dt=numpy.float32(0.5),
        learning_window=numpy.float32(0.25),
        noise_std=numpy.float32(0),
        tau_mem=numpy.float32(2),
    )
    assert (module.dt, module.learning_window, module.noise_std, module.tau_mem) == (0.5, 0.25, 0, 2)
    module.max_spikes_per_dt = numpy.int64(3)
    assert module.max_spikes_per_dt == 3


# State dicts and copies


def test_state_dict_of_rockpool_loads():
    """Its keys and shapes: the states without a batch dimension."""
    saved = {
        "w_rec": torch.rand(N, 2 * N),
        "tau_mem": torch.rand(N),
        "tau_syn": torch.rand(N, 2),
        "bias": torch.rand(N),
        "threshold": torch.rand(N),
        "vmem": torch.rand(N),
        "isyn": torch.rand(N, 2),
        "spikes": torch.ones(N),
    }
    module = LIFTorch((2 * N, N), has_rec=True)
    assert list(module.state_dict()) == list(saved)
    assert {name: t.shape for name, t in module.state_dict().items()} == {name: t.shape for name, t in saved.items()}
    module(torch.rand(3, 9, 2 * N))  # leaves states of a batch of three
    module.load_state_dict(saved)
    assert all(torch.equal(module.state_dict()[name], saved[name]) for name in saved)
    assert module(torch.rand(4, 9, 2 * N))[0].shape == (4, 9, N)

    fresh = LIFTorch((2 * N, N), has_rec=True)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh.vmem, module.vmem)
    assert fresh.vmem.shape == (N,)
    batched = LIFTorch((2 * N, N), has_rec=True, keep_batch_state=True)
    batched(torch.rand(4, 9, 2 * N))
    fresh = LIFTorch((2 * N, N), has_rec=True, keep_batch_state=True)
    fresh.load_state_dict(batched.state_dict())
    assert torch.equal(fresh.vmem, batched.vmem)
    assert fresh.vmem.shape == (4, N)
    with pytest.raises(RuntimeError, match=r"LIFTorch: vmem has a batch in front, \(4, 5\).* keep_batch_state=True"):
        module.load_state_dict(batched.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for vmem"):
        fresh.load_state_dict({**saved, "vmem": torch.zeros(N + 1)})

    neurons = LIFNeuronTorch(N)
    assert list(neurons.state_dict()) == ["tau_mem", "threshold", "bias", "vmem"]
    neurons.load_state_dict(
        {"tau_mem": torch.rand(N), "threshold": torch.rand(N), "bias": torch.tensor(0.1), "vmem": torch.rand(N)}
    )
    assert set(LIFTorch(N).state_dict()) == {"tau_mem", "tau_syn", "bias", "threshold", "vmem", "isyn", "spikes"}


def test_copies_pickles_and_compiles():
    module = LIFTorch((2 * N, N), has_rec=True, spike_generation_fn=PeriodicExponential, keep_batch_state=True)
    x = torch.rand(2, 12, 2 * N)
    module(x)
    twins = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)
    expected, _, record = module(x, record=True)
    for twin in (*twins, compiled):
        out, _, own = twin(x, record=True)
        assert torch.equal(out, expected)
        assert torch.equal(own["isyn"], record["isyn"])


def test_modules_from_the_meta_device():
    with torch.device("meta"):
        module = LIFTorch((2 * N, N), has_rec=True, tau_mem=0.03)
    module.to_empty(device="cpu").reset_parameters().reset_state()
    assert module.tau_mem == torch.tensor(0.03)
    assert module(torch.rand(2, 9, 2 * N))[0].shape == (2, 9, N)


# Inputs


def test_inputs_of_any_dtype(device):
    """As PyTorch's promotion has it; what comes back is in the parameters' dtype."""
    module = LIFTorch(N).to(device)
    x = (torch.rand(2, 20, N) * 2).round().to(device)
    expected, _, record = module(x, record=True)
    for dtype in (torch.int64, torch.uint8, torch.bfloat16, torch.float16):
        out, _, own = module.reset_state()(x.to(dtype), record=True)
        assert out.dtype == torch.float32
        assert torch.equal(out, expected), dtype
        assert torch.equal(own["vmem"], record["vmem"])
    out, state, own = module.reset_state()(x.double(), record=True)
    assert (out.dtype, own["vmem"].dtype, state["vmem"].dtype) == (torch.float32, torch.float32, torch.float64)
    raster = x > 1
    assert torch.equal(module.reset_state()(raster)[0], module.reset_state()(raster.float())[0])
    half = LIFTorch(N).to(device).bfloat16()
    out, state, _ = half(x.bfloat16())
    assert (out.dtype, state["vmem"].dtype) == (torch.bfloat16, torch.float32)


def test_float64_is_carried_over_calls():
    module = LIFTorch(N, keep_batch_state=True)
    x = torch.rand(2, 20, N, dtype=torch.float64)
    # Rounded inputs, so that the second half can come as float32; the states it goes on from must stay as they are.
    x = x.float().double()
    whole = module(x, record=True)[2]["vmem"]
    module.reset_state()
    parts = [module(part, record=True)[2]["vmem"] for part in (x[:, :10], x[:, 10:].float())]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert module.vmem.dtype == torch.float64
    assert module.reset_state().vmem.dtype == torch.float32


def test_one_channel_feeds_every_input():
    module = LIFTorch((2 * N, N))
    x = torch.rand(2, 20, 1, requires_grad=True)
    out = module(x)[0]
    assert torch.equal(out, module.reset_state()(x.expand(2, 20, 2 * N))[0])
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (torch.rand(7), ValueError),
        (torch.rand(2, 3, 4, N), ValueError),
        (torch.rand(2, 3, N + 1), ValueError),
        (torch.rand(2, 3, 0), ValueError),
        ([[0.0] * N], TypeError),
    ],
)
def test_inputs_that_are_refused(x, error):
    with pytest.raises(error, match=r"\(time, 5\) or \(batch, time, 5\)" if error is ValueError else "x is a list"):
        LIFTorch(N)(x)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"leak_mode": "tau"}, ValueError, "leak_mode is 'tau', expected one of 'taus', 'decays', 'bitshifts'"),
        ({"shape": (4, 4, 4)}, ValueError, r"shape is \(4, 4, 4\), expected a number of neurons"),
        ({"shape": None}, ValueError, "shape is None"),
        ({"shape": ()}, ValueError, r"shape is \(\)"),
        ({"shape": (4, 3)}, ValueError, "Nin a multiple of Nout"),
        ({"shape": (2, 4)}, ValueError, "Nin a multiple of Nout"),
        ({"w_rec": torch.zeros(4, 4)}, ValueError, "w_rec was given, expected None without recurrence"),
        ({"w_rec": torch.zeros(3, 4), "has_rec": True}, ValueError, r"w_rec has shape \(3, 4\), expected \(4, 4\)"),
        ({"w_rec": torch.zeros(16), "has_rec": True}, ValueError, r"w_rec has shape \(16,\), expected \(4, 4\)"),
        ({"alpha": 0.0}, ValueError, "alpha was given, expected tau_mem and tau_syn alone with leak_mode='taus'"),
        ({"dash_syn": torch.ones(4)}, ValueError, "dash_syn was given"),
        ({"leak_mode": "decays", "tau_mem": 0.1}, ValueError, "tau_mem was given, expected alpha and beta"),
        ({"leak_mode": "bitshifts", "beta": 0.1}, ValueError, "beta was given, expected dash_mem and dash_syn"),
        ({"tau_mem": [0.1, 0.2]}, ValueError, r"tau_mem has shape \(2,\), expected \(4,\) or \(\)"),
        ({"tau_mem": "long"}, TypeError, "tau_mem is 'long', expected numbers"),
        ({"tau_syn": -1.0}, ValueError, "tau_syn is -1.0, expected values above 0"),
        ({"leak_mode": "decays", "alpha": 1.5}, ValueError, r"alpha is 1.5, expected values in \[0, 1\]"),
        ({"threshold": 0.0}, ValueError, "threshold is 0.0, expected values above 0"),
        ({"bias": float("nan")}, ValueError, "bias is nan"),
        ({"dt": 0.0}, ValueError, "dt is 0.0, expected a time step in seconds"),
        ({"noise_std": -1.0}, ValueError, "noise_std is -1.0"),
        ({"learning_window": 0.0}, ValueError, "learning_window is 0.0"),
        ({"max_spikes_per_dt": 0}, ValueError, "max_spikes is 0"),
        ({"learning_window": torch.tensor(0.5, requires_grad=True)}, TypeError, "learning_window requires a gradient"),
        ({"spike_generation_fn": torch.sigmoid}, TypeError, "expected StepPWL, PeriodicExponential, sigmoid"),
        (
            {"weight_init_func": lambda s: torch.ones(3), "has_rec": True},
            ValueError,
            r"weight_init_func gave w_rec of shape \(3,\)",
        ),
    ],
)
def test_arguments_that_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        LIFTorch(**{"shape": 4, **kwargs})


def test_more_that_is_refused():
    with pytest.raises(ValueError, match=r"shape is \(4, 4\), expected a number of neurons \(N,\)$"):
        LIFNeuronTorch((4, 4))
    module = LIFTorch(N)
    assert torch.equal(module.w_rec, torch.zeros(N, N))
    with pytest.raises(ValueError, match="there is no recurrence; make the module with has_rec=True"):
        module.w_rec = torch.ones(N, N)
    with pytest.raises(RuntimeError, match="single memory location"):
        module.w_rec[0] = torch.ones(N)
    with pytest.raises(TypeError, match="unexpected keyword"):
        LIFTorch(N, threshhold=1.0)
    with pytest.raises(AttributeError, match="beta2"):
        _ = module.beta2
    with pytest.raises(NotImplementedError, match="LIFNeuronTorch has no graph"):
        LIFNeuronTorch(N).as_graph()


def test_as_graph_needs_rockpool(monkeypatch):
    monkeypatch.setitem(sys.modules, "rockpool", None)
    monkeypatch.setitem(sys.modules, "rockpool.graph", None)
    with pytest.raises(ImportError, match="pip install rockpool"):
        LIFTorch(N).as_graph()


def test_doctests():
    for name in ("spikes", "module", "lif"):
        module = sys.modules[f"torch_lif.compat.rockpool.{name}"]
        assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0

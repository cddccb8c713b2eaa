"""torch_lif.compat.rockpool inside Rockpool's networks: combinators, modules of a user's own, SynNet, subclasses,
NIR."""

import inspect
import json
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch

from torch_lif.compat import rockpool as ours

pytest.importorskip("rockpool")
theirs = pytest.importorskip("rockpool.nn.modules")
combinators = pytest.importorskip("rockpool.nn.combinators")

N = 6


@pytest.fixture(autouse=True)
def _same_numbers_every_run():
    torch.manual_seed(0)


def uniform(*shape, low, high):
    return torch.rand(shape) * (high - low) + low


def both(kwargs, name="LIFTorch"):
    """Rockpool's module and ours; from one seed each, for weights that are drawn."""
    pair = []
    for library in (theirs, ours):
        torch.manual_seed(1)
        pair.append(getattr(library, name)(**kwargs))
    return pair


def assert_same(a, b):
    assert a[0].dtype == b[0].dtype
    assert torch.equal(a[0], b[0])
    assert a[0].any()
    for theirs_, ours_ in zip(a[1:], b[1:], strict=True):
        assert set(theirs_) == set(ours_)
        for name, value in theirs_.items():
            assert value.shape == ours_[name].shape, name
            assert torch.equal(value, ours_[name]), name


class Net(theirs.TorchModule):
    """A network as Rockpool's users write them."""

    def __init__(self, library):
        super().__init__(shape=(4, N))
        self.lin = theirs.LinearTorch((4, 2 * N))
        self.lif = library.LIFTorch((2 * N, N), threshold=0.3)
        self.readout = library.LIFNeuronTorch(N)

    def forward(self, x):
        return self.readout(self.lif(self.lin(x)[0])[0])[0]


def networks(build):
    pair = []
    for library in (theirs, ours):
        torch.manual_seed(3)
        pair.append(build(library))
    return pair


NETWORKS = {
    "TorchModule": Net,
    "Sequential": lambda lib: combinators.Sequential(theirs.LinearTorch((4, N)), lib.LIFTorch(N, threshold=0.2)),
    "Sequential(OrderedDict)": lambda lib: combinators.Sequential(
        OrderedDict(weights=theirs.LinearTorch((4, N)), neurons=lib.LIFTorch(N, threshold=0.2))
    ),
    "Sequential of Sequentials": lambda lib: combinators.Sequential(
        combinators.Sequential(theirs.LinearTorch((4, 2 * N)), lib.LIFTorch((2 * N, N), threshold=0.2)),
        lib.LIFNeuronTorch(N),
    ),
    "Residual": lambda lib: combinators.Sequential(
        theirs.LinearTorch((4, N)), combinators.Residual(theirs.LinearTorch((N, N)), lib.LIFTorch(N, threshold=0.2))
    ),
    "Residual of ours alone": lambda lib: combinators.Sequential(
        theirs.LinearTorch((4, N)), combinators.Residual(lib.LIFTorch(N, threshold=0.2), lib.LIFNeuronTorch(N))
    ),
    "FFwdStack": lambda lib: combinators.FFwdStack(
        lib.LIFTorch(4, threshold=0.05),
        lib.LIFTorch((2 * N, N), threshold=0.2),
        weight_init_func=lambda s: torch.rand(s) / 3,
    ),
    "FFwdStack with theirs": lambda lib: combinators.FFwdStack(
        theirs.LIFTorch(4, threshold=0.05), lib.LIFTorch(N, threshold=0.2), weight_init_func=lambda s: torch.rand(s) / 3
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_rockpool_with_ours_in_them(kind, tmp_path):
    """Outputs, records, parameters, states, JSON files, repr and PyTorch's interface: as with Rockpool's own
    modules."""
    them, us = networks(NETWORKS[kind])
    assert repr(us) == repr(them)
    x = torch.rand(1, 40, 4) * 3
    a, b = them(x, record=True), us(x, record=True)
    assert a[0].any()
    assert torch.equal(a[0], b[0])

    def flat(found, prefix=""):
        for name, value in found.items():
            yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]

    for one, other in (
        *zip(a[1:], b[1:], strict=True),
        *((them.parameters(f), us.parameters(f)) for f in (None, "taus", "weights")),
    ):
        one, other = dict(flat(one)), dict(flat(other))
        assert list(one) == list(other)
        for name, value in one.items():
            values = (value, other[name]) if isinstance(value, torch.Tensor) else (value[0], other[name][0])
            assert torch.equal(*values), name
    assert set(dict(flat(us.simulation_parameters()))) == set(dict(flat(them.simulation_parameters())))
    b[0].sum().backward()
    a[0].sum().backward()
    # Rockpool's Sequential of an OrderedDict gives plain dicts.
    every = [list(dict(flat(module.parameters())).values()) for module in (them, us)]
    for p, q in zip(*every, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-5)

    if not hasattr(them, "save"):
        return  # Rockpool's Sequential of an OrderedDict is none of its torch modules
    us.save(tmp_path / "ours.json")
    them.save(tmp_path / "theirs.json")
    assert json.loads((tmp_path / "ours.json").read_text()) == json.loads((tmp_path / "theirs.json").read_text())
    changed = list(dict(flat(us.parameters("taus"))).values())
    with torch.no_grad():
        for p in changed:
            p.fill_(0.5)
    us.load(tmp_path / "theirs.json"), them.load(tmp_path / "theirs.json")
    assert all(p.max() < 0.1 for p in changed)
    assert all(p is q for p, q in zip(changed, dict(flat(us.parameters("taus"))).values(), strict=True)), (
        "an optimiser goes on with them"
    )
    us.reset_state(), them.reset_state()
    assert torch.equal(us(x)[0], them(x)[0])
    if kind != "FFwdStack with theirs":  # Rockpool's LIFTorch(threshold=0.05) cannot be reset
        us.reset_parameters()
    if kind in ("TorchModule", "Sequential"):
        us.reset_state(), them.reset_state()
        them.load_state_dict(us.state_dict())
        assert torch.equal(us.to_torch()(x), them.to_torch()(x))
        assert [p.shape for p in us.parameters()] == [p.shape for p in them.parameters()]


def test_a_module_is_its_own_inside_a_network():
    net = Net(ours)
    assert type(net.lif) is ours.LIFTorch
    assert isinstance(net.lif, (theirs.LIFTorch, theirs.TorchModule))
    assert isinstance(net.readout, theirs.LIFNeuronTorch)
    assert not isinstance(net.readout, theirs.LIFTorch)
    assert net.lif.name == "'lif'"
    assert list(net.lif.parameters()) == ["tau_mem", "tau_syn", "bias", "threshold"]
    clone = pickle.loads(pickle.dumps(net.lif))
    assert list(clone.parameters("taus")) == ["tau_mem", "tau_syn"]
    net.to_torch()
    assert len(list(net.lif.parameters())) == 4
    assert not isinstance(net.lif.parameters(), dict)


@pytest.mark.parametrize("name", ["LIFTorch", "LIFNeuronTorch"])
def test_json_files_of_single_modules(name, tmp_path):
    them, us = both({"shape": N, "tau_mem": 0.03, "noise_std": 0.0, "dt": 2e-3}, name)
    us.save(tmp_path / "ours.json")
    them.save(tmp_path / "theirs.json")
    assert json.loads((tmp_path / "ours.json").read_text()) == json.loads((tmp_path / "theirs.json").read_text())
    fresh = getattr(ours, name)(N, tau_mem=0.01)
    fresh.load(tmp_path / "theirs.json")
    assert fresh.tau_mem == torch.tensor(0.03)
    assert fresh.dt == 2e-3
    getattr(theirs, name)(N, tau_mem=0.01).load(tmp_path / "ours.json")
    with pytest.raises(ValueError, match="was set to"):
        getattr(ours, name)(N + 1).load(tmp_path / "theirs.json")


LATE = """
import torch
from torch_lif.compat import rockpool as ours
early = ours.LIFTorch(3)
import rockpool.nn.modules as theirs
assert not isinstance(early, theirs.TorchModule)
class Net(theirs.TorchModule):
    def __init__(self):
        super().__init__(shape=(3, 3))
        self.lif = early
    def forward(self, x):
        return self.lif(x)[0]
net = Net()
assert list(net.lif.parameters("taus")) == ["tau_mem", "tau_syn"], net.lif.parameters()
assert list(net.parameters()["lif"]) == ["tau_mem", "tau_syn", "bias", "threshold"]
assert net(torch.rand(2, 9, 3))[0].shape == (2, 9, 3)
another = ours.LIFTorch(3)
assert isinstance(early, theirs.TorchModule) and isinstance(another, theirs.LIFTorch)
print("all is well")
"""


def test_rockpool_imported_after_the_module_was_made():
    """Then Rockpool takes it for a plain PyTorch module, until the next one is made."""
    run = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert run.stdout.strip().endswith("all is well"), run.stderr


def test_synnet():
    """It goes by the name of its own neuron model, which stands in its module; docs/compat.md has these lines."""
    synnet = pytest.importorskip("rockpool.nn.networks.synnet")
    kwargs = {
        "n_classes": 3,
        "n_channels": 4,
        "size_hidden_layers": [12, 6],
        "time_constants_per_layer": [4, 2],
        "threshold": 0.2,
    }
    own = synnet.LIFTorch
    pair = []
    for library in (theirs, ours):
        torch.manual_seed(4)
        synnet.LIFTorch = library.LIFTorch
        try:
            pair.append(synnet.SynNet(**kwargs, neuron_model=library.LIFTorch))
        finally:
            synnet.LIFTorch = own
    them, us = pair
    assert sum(type(module) is ours.LIFTorch for module in us.seq.modules().values()) == 3
    x = (torch.rand(2, 60, 4) < 0.6).float() * 2
    a, b = them(x, record=True), us(x, record=True)
    assert a[0].any()
    assert torch.equal(a[0], b[0])
    assert set(a[2]) == set(b[2])
    assert [p.shape for p in them.parameters().astorch()] == [p.shape for p in us.parameters().astorch()]
    assert len(us.as_graph().input_nodes) == 4
    with pytest.raises(UnboundLocalError):
        synnet.SynNet(**kwargs, neuron_model=ours.LIFTorch)  # as with any model but its own two


def test_rockpools_own_subclass_with_our_base():
    """aLIFTorch's code, word for word, over our LIFBaseTorch: it registers parameters and a state, and loops in its
    forward."""
    module = pytest.importorskip("rockpool.nn.modules.torch.ahp_lif_torch")
    scope = {**vars(module), "LIFBaseTorch": ours.LIFBaseTorch}
    exec(inspect.getsource(module.aLIFTorch), scope)
    assert issubclass(scope["aLIFTorch"], ours.LIFBaseTorch)
    pair = []
    for kind in (module.aLIFTorch, scope["aLIFTorch"]):
        torch.manual_seed(5)
        pair.append(kind((2 * N, N), has_rec=True, threshold=0.4, tau_ahp=torch.rand(N) / 10 + 0.01))
    them, us = pair
    for family in (None, "taus", "weights"):
        assert set(us.parameters(family)) == set(them.parameters(family))
    assert set(us.state()) == set(them.state()) == {"vmem", "isyn", "spikes", "iahp"}
    assert set(us.state_dict()) == set(them.state_dict())
    for batch in (3, 2, 1):
        x = torch.rand(batch, 30, 2 * N) * 0.3
        (a, sa, ra), (b, sb, rb) = them(x, record=True), us(x, record=True)
        assert_same((a, sa, ra), (b, sb, rb))
    assert us(x)[2] == them(x)[2] == {}
    us(x)[0].sum().backward()
    assert us.tau_ahp.grad is not None
    us.reset_state()
    assert not us.iahp.any()
    with torch.no_grad():
        us.w_ahp.fill_(7.0)
    us.reset_parameters()
    assert torch.equal(us.w_ahp, torch.full((N,), -0.9))
    us.load_state_dict(them.state_dict())
    us.set_attributes(them.state())
    assert torch.equal(us.iahp, them.iahp)
    net = combinators.Sequential(theirs.LinearTorch((4, 2 * N)), us)
    assert net(torch.rand(2, 9, 4))[0].shape == (2, 9, N)
    assert "w_ahp" in net.parameters("weights")["1_aLIFTorch"]
    assert len(us.as_graph().output_nodes) == N


def test_nir():
    """LIFNeuronTorch is exported as Rockpool's; LIFTorch, which Rockpool knows by its exact class, is refused."""
    nir = pytest.importorskip("nir")
    pytest.importorskip("nirtorch")
    from rockpool.nn.modules.torch.nir import to_nir

    x = torch.rand(2, 5, 4)
    kwargs = {"shape": N, "tau_mem": uniform(N, low=5e-3, high=50e-3), "threshold": 0.5}
    nodes = []
    for library in (theirs, ours):
        torch.manual_seed(0)
        graph = to_nir(combinators.Sequential(theirs.LinearTorch((4, N)), library.LIFNeuronTorch(**kwargs)), x)
        nodes.append(graph.nodes["1_LIFNeuronTorch"])
        assert isinstance(nodes[-1], nir.LIF)
    for key in ("tau", "r", "v_leak", "v_threshold"):
        assert (getattr(nodes[0], key) == getattr(nodes[1], key)).all(), key
    with pytest.raises(NotImplementedError, match=r"LIFTorch of torch_lif.compat.rockpool.* would write None"):
        to_nir(combinators.Sequential(theirs.LinearTorch((4, N)), ours.LIFTorch(N)), x)
    # The way that the message names.
    network = combinators.Sequential(theirs.LinearTorch((4, N)), theirs.LIFTorch(N))
    network.load_state_dict(combinators.Sequential(theirs.LinearTorch((4, N)), ours.LIFTorch(N)).state_dict())
    assert isinstance(to_nir(network, x).nodes["1_LIFTorch"], nir.CubaLIF)

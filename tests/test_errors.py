"""Bad input: the error names the argument, what came and what was expected."""

import pytest
import torch

import torch_lif as lif
from torch_lif import functional as F

X = torch.rand(2, 5, 6)
# A call of torch.ops.torch_lif.lif as the Python function makes it, without a synapse: inputs, parameters, states, and
# the rest.
OP_TENSORS = ([X, None], [torch.tensor(0.9), None, torch.tensor(1.0), None, None, None], [None, None, None])
OP_REST = ([65536.0], "step_pwl", [0.5], False, 0, True, [0, 0, 0], "")


def call(**changes):
    return F.lif(**{"x": X, "decay_mem": 0.9, "decay_syn": 0.5} | changes)


BAD_LIF = [
    (TypeError, "x is a list", {"x": [1.0]}),
    (TypeError, r"x is Long.*x\.float\(\)", {"x": torch.ones(2, 5, 6, dtype=torch.long)}),
    (TypeError, "x is ComplexFloat", {"x": torch.ones(2, 5, 6, dtype=torch.complex64)}),
    (ValueError, r"x has shape \(6,\).*\(batch, time, \.\.\.\)", {"x": torch.rand(6)}),
    (ValueError, r"x is a torch.sparse_coo tensor.*to_dense", {"x": torch.rand(2, 5, 6).to_sparse()}),
    (ValueError, r"last dimension of x is 6, expected a multiple of synapses = 4", {"synapses": 4}),
    (
        ValueError,
        r"x has shape \(2, 5, 2, 3\), expected three dimensions",
        {"x": torch.rand(2, 5, 2, 3), "synapses": 3},
    ),
    (ValueError, "synapses is -1", {"synapses": -1}),
    (TypeError, "synapses is 1.5", {"synapses": 1.5}),
    (ValueError, "decay_mem is 1.5, expected a number in", {"decay_mem": 1.5}),
    (ValueError, "decay_syn is -0.1, expected a number in", {"decay_syn": -0.1}),
    (ValueError, "decay_mem is nan", {"decay_mem": float("nan")}),
    (ValueError, "threshold is 0, expected a number above 0", {"threshold": 0}),
    (ValueError, "threshold is -1.0, expected a number above 0", {"threshold": -1.0}),
    (TypeError, "threshold is 'high', expected a number or a tensor", {"threshold": "high"}),
    (ValueError, "decay_mem is missing", {"decay_mem": None}),
    (ValueError, "decay_syn is None, expected a decay for synapses = 1", {"decay_syn": None, "synapses": 1}),
    (ValueError, r"decay_syn was given, expected None: with synapses = 0", {"synapses": 0}),
    (
        ValueError,
        r"threshold has shape \(5,\), expected \(\) for one value shared by all, or \(6,\)",
        {"threshold": torch.ones(5)},
    ),
    (ValueError, r"bias has shape \(2, 6\)", {"bias": torch.ones(2, 6)}),
    (ValueError, r"decay_syn has shape \(3,\), expected .* \(3, 2\)", {"decay_syn": torch.ones(3), "synapses": 2}),
    (
        TypeError,
        r"threshold is Double, expected Float with x of Float",
        {"threshold": torch.tensor(1.0, dtype=torch.float64)},
    ),
    (TypeError, r"threshold is Half, expected Float", {"threshold": torch.ones(6, dtype=torch.float16)}),
    (TypeError, r"threshold is Float, expected Double with x of Double", {"x": X.double(), "threshold": torch.ones(6)}),
    (ValueError, "bias is on meta but x is on cpu; move it with", {"bias": torch.ones(6, device="meta")}),
    (ValueError, r"noise has shape \(2, 5, 1\), expected \(2, 5, 6\)", {"noise": torch.ones(2, 5, 1)}),
    (TypeError, "noise is Half, expected Float", {"noise": torch.ones(2, 5, 6, dtype=torch.float16)}),
    (ValueError, r"initial state v has shape \(3, 6\), expected \(2, 6\)", {"state": (torch.ones(3, 6),)}),
    (ValueError, r"initial state i has shape \(2, 6, 1\), expected \(2, 6\)", {"state": (None, torch.ones(2, 6, 1))}),
    (TypeError, "initial state v is Double, expected Float", {"state": (torch.ones(2, 6, dtype=torch.float64),)}),
    (TypeError, "initial state v is a float", {"state": (1.0,)}),
    (TypeError, "state is Tensor, expected a tuple", {"state": torch.ones(2, 6)}),
    (TypeError, "state is tuple, expected a tuple", {"state": (None, None, None, None)}),
    (ValueError, "record names 'w', expected names from spikes, v, i", {"record": ("w",)}),
    (TypeError, "record is the string 'v'", {"record": "v"}),
    (ValueError, "record names 'i', expected names from spikes, v", {"record": ("i",), "decay_syn": None}),
    (TypeError, r"expected an object of it: StepPWL\(\)", {"surrogate": lif.StepPWL}),
    (TypeError, "surrogate is 'step'", {"surrogate": "step"}),
    (ValueError, "max_spikes is 0, expected 1 or more", {"max_spikes": 0}),
    (TypeError, "w_rec is a list, expected a tensor", {"w_rec": [[1.0]]}),
    (ValueError, r"w_rec has shape \(6, 5\), expected \(6, 6\)", {"w_rec": torch.ones(6, 5)}),
    (ValueError, r"w_rec has shape \(3, 3\), expected \(3, 6\)", {"w_rec": torch.ones(3, 3), "synapses": 2}),
    (TypeError, "w_rec is Double, expected Float", {"w_rec": torch.ones(6, 6, dtype=torch.float64)}),
    (ValueError, "w_rec is on meta but x is on cpu", {"w_rec": torch.ones(6, 6, device="meta")}),
    (
        ValueError,
        "initial state spikes was given, expected None: without w_rec",
        {"state": (None, None, torch.ones(2, 6))},
    ),
    (ValueError, "record names 'recurrent_input', expected names from spikes, v, i", {"record": ("recurrent_input",)}),
    (
        TypeError,
        "max_spikes requires a gradient, but none flows to it",
        {"max_spikes": torch.tensor(2.0, requires_grad=True)},
    ),
]


@pytest.mark.parametrize(("error", "message", "changes"), BAD_LIF, ids=[message for _, message, _ in BAD_LIF])
def test_lif(error, message, changes):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, "decay_adapt is 1.5, expected a number in", {"decay_adapt": 1.5}),
        (ValueError, "threshold is 0, expected a number above 0", {"threshold": 0}),
        (ValueError, "reset is 'zero', expected one of 'subtract', 'value'", {"reset": "zero"}),
        (ValueError, "reset_value is None, expected the value to reset to", {"reset": "value"}),
        (ValueError, "norm_input is 'all', expected True, False or 'state'", {"norm_input": "all"}),
        (ValueError, "max_spikes is 0, expected 1 or more", {"max_spikes": 0}),
        (ValueError, r"min_v has shape \(5,\)", {"min_v": torch.zeros(5)}),
        (ValueError, "b_rec was given, expected None without w_rec", {"b_rec": torch.zeros(6)}),
        (ValueError, r"b_rec has shape \(5,\), expected \(6,\)", {"w_rec": torch.zeros(6, 6), "b_rec": torch.zeros(5)}),
        (
            ValueError,
            "initial state i was given, expected None: with synapses = 0",
            {"state": (None, torch.zeros(2, 6))},
        ),
        (ValueError, "record names 'i', expected names from spikes, v, adaptation", {"record": ("i",)}),
        (TypeError, "surrogate is 'exp'", {"surrogate": "exp"}),
    ],
)
def test_alif(error, message, changes):
    with pytest.raises(error, match=message):
        F.alif(**{"x": X, "decay_mem": 0.9, "decay_adapt": 0.9} | changes)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, "rate_syn is -1, expected a number in", {"rate_syn": -1}),
        (ValueError, "refractory is -2, expected a number of 0 or more", {"refractory": -2}),
        (ValueError, "leak was given, expected None with leaky=False", {"leak": 0.1, "leaky": False}),
        (
            ValueError,
            "synapse_update is 'later', expected one of 'input_first', 'membrane_first', 'membrane_first_increment'",
            {"synapse_update": "later"},
        ),
        (ValueError, r"spikes_hw has shape \(2, 4, 6\), expected \(2, 5, 6\)", {"spikes_hw": torch.zeros(2, 4, 6)}),
        (
            TypeError,
            "membrane_hw is Double, expected Float",
            {"membrane_hw": torch.zeros(2, 5, 6, dtype=torch.float64)},
        ),
        (
            ValueError,
            "initial state refractory was given, expected None: without refractory",
            {"state": (None, None, torch.zeros(2, 6))},
        ),
        (ValueError, "record names 'refractory', expected names from spikes, v, i", {"record": ("refractory",)}),
    ],
)
def test_cuba_lif(error, message, changes):
    with pytest.raises(error, match=message):
        F.euler_lif(**{"x": X, "rate_mem": 0.1, "rate_syn": 0.2} | changes)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, "rate_mem is 2, expected a number in", {"rate_mem": 2}),
        (ValueError, r"rate_syn has shape \(5,\)", {"rate_syn": torch.ones(5)}),
        (ValueError, "record names 'spikes', expected names from v, i", {"record": ("spikes",)}),
        (ValueError, r"x has shape \(6,\)", {"x": torch.rand(6)}),
    ],
)
def test_li(error, message, changes):
    with pytest.raises(error, match=message):
        F.li(**{"x": X, "rate_mem": 0.1, "rate_syn": 0.2} | changes)


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "tau_mem is -0.02, expected values above 0", lambda: lif.LIF(4, tau_mem=-20e-3)),
        (ValueError, "tau_mem is 0, expected values above 0", lambda: lif.LIF(4, tau_mem=0)),
        (ValueError, "decay_mem is 1.5, expected values in", lambda: lif.LIF(4, decay_mem=1.5)),
        (
            ValueError,
            "threshold is .*, expected values above 0",
            lambda: lif.LIF(2, threshold=torch.tensor([1.0, 0.0])),
        ),
        (ValueError, "tau_mem and decay_mem were both given", lambda: lif.LIF(4, tau_mem=1.0, decay_mem=0.5)),
        (
            ValueError,
            r"tau_mem has shape \(3,\), expected a number or shape \(4,\)",
            lambda: lif.LIF(4, tau_mem=torch.ones(3)),
        ),
        (
            ValueError,
            r"tau_syn has shape \(4,\), expected a number or shape \(4, 2\)",
            lambda: lif.CubaLIF(4, synapses=2, tau_syn=torch.ones(4)),
        ),
        (TypeError, "tau_mem is '20ms'", lambda: lif.LIF(4, tau_mem="20ms")),
        (ValueError, "size is -1", lambda: lif.LIF(-1)),
        (
            ValueError,
            r"size is \(2, 3\), expected one number with synapses = 2",
            lambda: lif.CubaLIF((2, 3), synapses=2),
        ),
        (ValueError, "synapses is 0.*use LIF", lambda: lif.CubaLIF(4, synapses=0)),
        (ValueError, "dt is 0", lambda: lif.LIF(4, dt=0)),
        (ValueError, "backend is 'cuda', expected one of 'fused', 'loop'", lambda: lif.LIF(4, backend="cuda")),
        (
            ValueError,
            "trainable names 'tau_syn', expected names from tau_mem, threshold",
            lambda: lif.LIF(4, trainable=("tau_syn",)),
        ),
        (TypeError, "trainable is the string 'tau_mem'", lambda: lif.LIF(4, trainable="tau_mem")),
        (TypeError, "surrogate is None", lambda: lif.LIF(4, surrogate=None)),
        (ValueError, r"x has shape \(2, 5, 6\), expected \(batch, time, 4\)", lambda: lif.LIF(4)(X)),
        (ValueError, r"x has shape \(2, 5, 6\), expected \(time, batch, 4\)", lambda: lif.LI(4, batch_first=False)(X)),
        (ValueError, r"x has shape \(2, 5, 6\), expected \(batch, time, 8\)", lambda: lif.CubaLIF(4, synapses=2)(X)),
        (ValueError, "window is 0.0, expected a finite number above 0", lambda: lif.StepPWL(0)),
        (
            TypeError,
            "window requires a gradient, but none flows to it",
            lambda: lif.StepPWL(torch.tensor(0.5, requires_grad=True)),
        ),
        (TypeError, "alpha is 'steep', expected a number", lambda: lif.SuperSpike("steep")),
        (
            TypeError,
            "recurrent is 'yes', expected True, False or the initial values",
            lambda: lif.LIF(4, recurrent="yes"),
        ),
        (
            ValueError,
            r"recurrent has shape \(4, 4\), expected initial values \(4, 8\)",
            lambda: lif.CubaLIF(4, synapses=2, recurrent=torch.ones(4, 4)),
        ),
        (ValueError, "noise_std is -1, expected a finite number", lambda: lif.LIF(4, noise_std=-1)),
        (ValueError, "noise was given, but the layer makes its own", lambda: lif.LIF(6, noise_std=1).run(X, noise=X)),
        (ValueError, "refractory_time is -0.1, expected values", lambda: lif.EulerLIF(4, refractory_time=-0.1)),
        (ValueError, "trainable names 'refractory_time'", lambda: lif.EulerLIF(4, trainable=("refractory_time",))),
        (ValueError, "norm_input is None", lambda: lif.ALIF(4, norm_input=None)),
        (ValueError, "h is inf, expected a finite number", lambda: lif.MultiGaussian(h=float("inf"))),
        (AttributeError, "no attribute 'tau_syn'", lambda: lif.LIF(4).tau_syn),
    ],
)
def test_modules(error, message, make):
    with pytest.raises(error, match=message):
        make()


def test_setting_a_leak_to_another_shape():
    layer = lif.LIF(4)
    with pytest.raises(ValueError, match=r"decay_mem was set to shape \(3,\)"):
        layer.decay_mem = torch.ones(3)


@pytest.mark.parametrize(
    ("message", "position", "value"),
    [
        ("got 1 inputs, expected 2", 0, [X]),
        ("x is missing", 0, [None, None]),
        ("decay_mem is missing", 1, [None, None, torch.tensor(1.0), None, None, None]),
        ("got 0 options, expected 1", 3, []),
        ("surrogate is 'steps', expected one of step_pwl, ", 4, "steps"),
        ("got 2 surrogate parameters, expected 1", 5, [1.0, 2.0]),
        ("got 0 flags in record, expected 3", 9, []),
        ("i cannot be recorded: with synapses = 0", 9, [0, 1, 0]),
        ("spikes cannot be recorded: without w_rec", 9, [0, 0, 1]),
    ],
)
def test_op_called_directly(message, position, value):
    """The ops check for themselves: what reaches a pointer has been checked, whoever calls."""
    arguments = [*OP_TENSORS, *OP_REST]
    torch.ops.torch_lif.lif(*arguments)
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        torch.ops.torch_lif.lif(*arguments)


def test_memory_of_the_inner_ops():
    with pytest.raises(ValueError, match="memory is 'save', expected 'mask' or 'recompute'"):
        torch.ops.torch_lif.lif_forward(*OP_TENSORS, *OP_REST[:-1], "save")


def test_backward_op_called_directly():
    rest = (*OP_REST[:-1], "recompute")
    out, _, kept_v = torch.ops.torch_lif.lif_forward(*OP_TENSORS, *rest)
    inputs, params, _ = OP_TENSORS
    only_x = [1] + [0] * 10

    def backward(grads, kept_v, needs):
        return torch.ops.torch_lif.lif_backward(grads, inputs, params, [kept_v], *rest, False, needs)

    assert len(backward([torch.ones_like(out), None], kept_v, [1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0])) == 3
    with pytest.raises(ValueError, match="gradient of the output does not have the shape"):
        backward([torch.ones(2, 5, 7), None], kept_v, only_x)
    with pytest.raises(ValueError, match="lif_backward: got 1 grads, expected 2"):
        backward([torch.ones_like(out)], kept_v, only_x)
    with pytest.raises(ValueError, match="the kept state v does not have the shape"):
        backward([torch.ones_like(out), None], kept_v[:, :1], only_x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["threshold", "decay_mem", "noise", "state"])
def test_mixed_devices(name):
    """No silent copy to another device, in either direction, not even of a single number."""
    values = {
        "threshold": torch.tensor(1.0),
        "decay_mem": torch.full((6,), 0.9),
        "noise": torch.zeros(2, 5, 6),
        "state": (torch.zeros(2, 6),),
    }
    argument = "the initial state v" if name == "state" else name
    with pytest.raises(
        ValueError, match=rf"{argument} is on cpu but x is on cuda:0; move it with {argument}.to\(x.device\)"
    ):
        call(**{"x": X.cuda(), name: values[name]})
    moved = tuple(v.cuda() for v in values[name]) if name == "state" else values[name].cuda()
    with pytest.raises(ValueError, match=rf"{argument} is on cuda:0 but x is on cpu"):
        call(**{name: moved})


def test_torch_func_is_refused():
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda x: F.lif(x, decay_mem=0.9).spikes.sum())(X)


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="the instruction set is 'mmx', expected one that was built"):
        lif._C.set_instruction_set("mmx")


@pytest.mark.parametrize("where", [lif.functional, lif.reference])
def test_an_input_of_another_shape_is_not_broadcast(where):
    for noise in (torch.zeros(2, 5, 1), torch.zeros(6), torch.zeros(5, 2, 6)):
        with pytest.raises(
            ValueError, match=r"li: noise has shape .* expected \(2, 5, 6\) with x of shape \(2, 5, 6\)"
        ):
            where.li(torch.rand(2, 5, 6), rate_mem=0.1, rate_syn=0.2, noise=noise)

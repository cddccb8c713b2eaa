"""The same layer of sinabs and of torch_lif.compat.sinabs, and random input for both."""

import copy

import sinabs.activation as sa
import sinabs.layers as theirs
import torch

from torch_lif.compat import sinabs as ours

STATES = ("v_mem", "b", "spike_threshold")  # i_syn is not kept by sinabs
SURROGATES = [
    ("SingleExponential", {}),
    ("SingleExponential", {"grad_width": 0.9, "grad_scale": 0.4}),
    ("MultiGaussian", {}),
    ("MultiGaussian", {"mu": 0.1, "sigma": 0.4, "h": 0.3, "s": 4, "grad_scale": 2.0}),
    ("Gaussian", {"mu": -0.1, "sigma": 0.3, "grad_scale": 0.7}),
    ("Heaviside", {"window": 0.4}),
    ("PeriodicExponential", {}),
    ("PeriodicExponential", {"grad_width": 0.3, "grad_scale": 1.5}),
]
SPIKE_FNS = [
    ("single", lambda lib: lib.SingleSpike),
    ("multi", lambda lib: lib.MultiSpike),
    ("max 1", lambda lib: lib.MaxSpike(1)),
    ("max 3", lambda lib: lib.MaxSpike(max_num_spikes_per_bin=3)),
    ("max", lambda lib: lib.MaxSpike()),
]
RESETS = [
    ("subtract the threshold", lambda lib: lib.MembraneSubtract()),
    ("subtract 0.6", lambda lib: lib.MembraneSubtract(subtract_value=0.6)),
    ("to zero", lambda lib: lib.MembraneReset()),
]


def named(pairs):
    return {"argvalues": [value for _, value in pairs], "ids": [name for name, _ in pairs]}


def pair(
    spike_fn=SPIKE_FNS[0][1], reset_fn=RESETS[0][1], surrogate=("SingleExponential", {}), connect=None, **arguments
):
    """The same layer of both libraries, with weights of its own each."""
    layers = []
    for layer_types, lib in ((theirs, sa), (ours, ours)):
        own = {name: copy.deepcopy(value) for name, value in arguments.items()}
        name, values = surrogate
        own |= {"spike_fn": spike_fn(lib), "reset_fn": reset_fn(lib), "surrogate_grad_fn": getattr(lib, name)(**values)}
        if connect is None:
            layers.append(layer_types.ALIF(**own))
        else:
            layers.append(layer_types.ALIFRecurrent(rec_connect=copy.deepcopy(connect), **own))
    return layers


def make_input(*shape, dtype=torch.float32, scale=4.0):
    x = (torch.rand(shape, dtype=torch.float64) * 1.5 - 0.5) * scale
    x[..., 0] *= -1  # down to the lower bound
    return x.to(dtype)


def dyadic(linear):
    """Weights and bias in eighths: sums of them are exact, in whatever order they are taken."""
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_(torch.randint(-4, 5, p.shape) / 8)
    return linear


def assert_same_state(library, own):
    for name in STATES:
        assert torch.equal(getattr(library, name), getattr(own, name)), name


def gradients(layer, x, outputs):
    """Gradients of a random sum of spikes and final states, of everything there is."""
    layer.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    found = {"spikes": layer(x), **{name: getattr(layer, name) for name in STATES}}
    generator = torch.Generator().manual_seed(5)
    loss = sum((found[name] * torch.randn(found[name].shape, generator=generator)).sum() for name in outputs)
    names = ["x", *(name for name, _ in layer.named_parameters())]
    grads = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
    return dict(zip(names, grads, strict=True))

"""norse's equations as plain loops, and the random cases that the tests of torch_lif.compat.norse run through both."""

import math

import pytest
import torch

from torch_lif.compat import norse

T, B, N = 40, 3, 6
DT = 1e-3
LI_FIELDS = ("tau_syn_inv", "tau_mem_inv", "v_leak")
LIF_FIELDS = (*LI_FIELDS, "v_th", "v_reset")
SLOPES = {
    "super": lambda d, a: 1 / (d.abs() + 1) ** 2,  # without alpha, as norse computes it
    "triangle": lambda d, a: a * torch.relu(1 - d.abs()),
    "heavi_erfc": lambda d, a: 2 * torch.exp(-((a * d) ** 2)) / math.sqrt(math.pi),
    "heaviside": lambda d, a: torch.zeros_like(d),
}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, slope):
        ctx.save_for_backward(distance)
        ctx.slope = slope
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, g):
        (distance,) = ctx.saved_tensors
        return g * ctx.slope(distance), None


def eager(x, v, i, p, spiking, z=None, w_rec=None):
    """norse's equations a step at a time: x[t] has gone through input weights already. Returns outputs, v and i of each
    step."""
    outputs, membrane, current = [], [], []
    for x_t in x:
        j = i + x_t
        if w_rec is not None:
            j = j + torch.nn.functional.linear(z, w_rec)
        v = v + DT * p.tau_mem_inv * ((p.v_leak - v) + j)
        i = j + -DT * p.tau_syn_inv * j
        out = v
        if spiking:
            out = z = Spike.apply(v - p.v_th, lambda d: SLOPES[p.method](d, float(p.alpha)))
            gate = z if w_rec is None else z.detach()
            v = (1 - gate) * v + gate * p.v_reset
        for trace, value in zip((outputs, membrane, current), (out, v, i), strict=True):
            trace.append(value)
    return tuple(map(torch.stack, (outputs, membrane, current)))


def uniform(generator, size, low, high, dtype, device):
    return (torch.rand(size, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype).to(device)


def draw(spiking, dtype=torch.float32, shape=(N,), steps=(B, N), device="cpu", seed=0, **fields):
    """Input, initial v and i, parameters of this shape."""
    g = torch.Generator().manual_seed(seed)
    x = uniform(g, (T, *steps), -0.3, 1.2, dtype, device)
    v, i = (uniform(g, steps, -0.5, 0.5, dtype, device) for _ in "vi")
    ranges = {
        "tau_syn_inv": (50, 400),
        "tau_mem_inv": (50, 300),
        "v_leak": (-0.2, 0.2),
        "v_th": (0.4, 0.8),
        "v_reset": (-0.3, 0.1),
    }
    kind, names = (norse.LIFParameters, LIF_FIELDS) if spiking else (norse.LIParameters, LI_FIELDS)
    return x, v, i, kind(**{name: uniform(g, shape, *ranges[name], dtype, device) for name in names}, **fields)


def state_of(spiking, v, i):
    return (norse.LIFFeedForwardState if spiking else norse.LIState)(v, i)


def sequence(spiking):
    return norse.lif if spiking else norse.li


def step(spiking):
    return norse.lif_feed_forward_step if spiking else norse.li_feed_forward_step


kinds = pytest.mark.parametrize("spiking", [False, True], ids=["li", "lif"])


# A step's shape, and shapes of parameters that broadcast to it.
def assert_spikes(out):
    assert 0.02 < float(out.detach().mean()) < 0.9, "hardly a spike, or nothing but: this would prove nothing"


def recurrent(dtype, device, seed=3, inputs=4, steps=(B,)):
    x, v, i, p = draw(True, dtype, (N,), (*steps, N), device, seed)
    g = torch.Generator().manual_seed(seed)
    x = uniform(g, (T, *steps, inputs), 0, 1, dtype, device)
    w_in, w_rec = uniform(g, (N, inputs), -0.4, 0.9, dtype, device), uniform(g, (N, N), -0.5, 0.5, dtype, device)
    z = (uniform(g, (*steps, N), 0, 1, dtype, device) < 0.3).to(dtype)
    return x, norse.LIFState(z, v, i), w_in, w_rec, p._replace(alpha=5.0)


X, V, CURRENT, P = draw(True)
STATE = norse.LIFFeedForwardState(V, CURRENT)

"""sinabs' adaptive leaky integrate-and-fire layers over the fused kernel: names, arguments and state as in sinabs 3.1.

>>> import torch, torch_lif.compat.sinabs as sl
>>> layer = sl.ALIFRecurrent(tau_mem=20.0, tau_adapt=100.0, rec_connect=torch.nn.Linear(64, 64), tau_syn=10.0)
>>> layer(torch.rand(8, 50, 64)).shape  # (batch, time, neurons)
torch.Size([8, 50, 64])

Layers: `ALIF`, `ALIFRecurrent`. Their arguments: spike functions, resets and surrogate gradients (`sinabs.activation`).
For a whole model: `reset_states`, `zero_grad`. docs/compat.md has every difference from sinabs.
"""

from .activation import (
    Gaussian,
    Heaviside,
    MaxSpike,
    MembraneReset,
    MembraneSubtract,
    MultiGaussian,
    MultiSpike,
    PeriodicExponential,
    SingleExponential,
    SingleSpike,
)
from .alif import ALIF, ALIFRecurrent
from .stateful import StatefulLayer, reset_states, zero_grad

__all__ = [
    "ALIF",
    "ALIFRecurrent",
    "Gaussian",
    "Heaviside",
    "MaxSpike",
    "MembraneReset",
    "MembraneSubtract",
    "MultiGaussian",
    "MultiSpike",
    "PeriodicExponential",
    "SingleExponential",
    "SingleSpike",
    "StatefulLayer",
    "reset_states",
    "zero_grad",
]

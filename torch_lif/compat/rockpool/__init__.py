"""Rockpool's LIF modules over the fused kernels: `LIFTorch`, `LIFNeuronTorch` and their spike functions.

Names, arguments, defaults and state dicts are those of Rockpool 3.1 (`rockpool.nn.modules`,
`rockpool.parameters.Constant`). Rockpool itself is needed only by `as_graph`, which builds its graph objects.
docs/compat.md lists every difference.
"""

from .lif import LIFBaseTorch, LIFNeuronTorch, LIFTorch
from .module import Constant, TorchModuleParameters
from .spikes import PeriodicExponential, StepPWL, sigmoid

__all__ = [
    "Constant",
    "LIFBaseTorch",
    "LIFNeuronTorch",
    "LIFTorch",
    "PeriodicExponential",
    "StepPWL",
    "TorchModuleParameters",
    "sigmoid",
]

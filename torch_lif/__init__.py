"""Spiking neurons for PyTorch whose time loop runs inside one kernel, forward and backward, on CPU and GPU.

>>> import torch, torch_lif as lif
>>> layer = lif.LIF(512, tau_mem=20e-3, dt=1e-3)
>>> spikes = layer(torch.rand(8, 100, 512))  # (batch, time, neurons)
>>> spikes.shape
torch.Size([8, 100, 512])

Modules: `LIF` (no synapse), `CubaLIF` (current-based synapses), `ALIF` (adaptive threshold), `EulerLIF` (forward Euler,
refractory period), `LI` (leaky integrator, a readout that does not spike).
Functions of a whole sequence: `functional.lif` (for `LIF` and `CubaLIF`), `functional.alif`, `functional.euler_lif`,
`functional.li`.
Plain PyTorch loops that define what these functions compute, with the same names and arguments: `reference`.
Surrogate gradients: `surrogate`. Its classes, such as `SuperSpike`, are also here.
Other libraries' names and signatures: `compat`.
"""

import os as _os
from importlib.util import find_spec as _find_spec

import torch as _torch

_REBUILD = (
    "run pip install --no-build-isolation --no-deps --force-reinstall <the source folder>, "
    "or, where you work in that folder itself, make clean build TORCH=installed"
)

try:
    from . import _C as _C
except ImportError as error:
    if _find_spec("torch_lif._C") is None:
        raise ImportError(
            "torch_lif has not been compiled here: run pip install --no-build-isolation <the source folder>, or "
            "make build in it"
        ) from None
    raise ImportError(
        "the compiled part of torch_lif cannot be loaded: it has to be built against the PyTorch that is installed, "
        f"which is {_torch.__version__}: {_REBUILD} ({error})"
    ) from error

# Some versions of PyTorch load an extension that was built for another version, and then read the wrong bytes. Patch
# releases and +cpu, +cu130 are compatible.
if (_built := _C.build_info()["torch"]).split(".")[:2] != _torch.__version__.split(".")[:2]:
    raise ImportError(
        f"torch_lif was built against PyTorch {_built}, and {_torch.__version__} is installed: {_REBUILD}"
    )

if _os.environ.get("TORCH_LIF_ISA"):
    try:
        _C.set_instruction_set(_os.environ["TORCH_LIF_ISA"])
    except ValueError as error:
        raise ValueError(f"environment variable TORCH_LIF_ISA: {error}") from None

from . import functional, neurons, reference, surrogate  # noqa: E402
from .neurons import *  # noqa: E402, F403
from .surrogate import *  # noqa: E402, F403

# What a call returns can be saved, and loaded again by torch.load with its default of weights_only.
_torch.serialization.add_safe_globals(
    [getattr(neurons, _name) for _name in neurons.__all__ if _name.endswith(("State", "Result"))]
)

__version__ = "0.1.0"
__all__ = ["functional", "neurons", "reference", "surrogate", *neurons.__all__, *surrogate.__all__]

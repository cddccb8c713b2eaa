"""norse's parameters and states as named tuples."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...surrogate import Surrogate
from .._broadcast import Value


class LIState(NamedTuple):
    """State of a leaky integrator: membrane potential v, synaptic current i."""

    v: Tensor
    i: Tensor


class LIParameters(NamedTuple):
    """Parameters of a leaky integrator, each a number or a tensor that broadcasts against a time step of the input.
    Whole numbers, NumPy's numbers and tensors of integers are taken too.

    tau_syn_inv, tau_mem_inv: inverse time constants, in 1/s. Default: 200 and 100. v_leak: leak potential. Default: 0.
    """

    tau_syn_inv: Value = torch.tensor(1.0 / 5e-3)
    tau_mem_inv: Value = torch.tensor(1.0 / 1e-2)
    v_leak: Value = torch.tensor(0.0)


class LIFState(NamedTuple):
    """State of a recurrent LIF: spikes z of the last step, membrane potential v after the reset, synaptic current i."""

    z: Tensor
    v: Tensor
    i: Tensor


class LIFFeedForwardState(NamedTuple):
    """State of a LIF without recurrence: membrane potential v after the reset, synaptic current i."""

    v: Tensor
    i: Tensor


class LIFParameters(NamedTuple):
    """Parameters of a LIF; the potentials and inverse time constants as in `LIParameters`.

    v_th, v_reset: threshold and potential after a spike. Default: 1 and 0. method: the surrogate gradient, with d = v -
    v_th::

        "super"         1 / (|d| + 1)**2                    (the default)
        "triangle"      alpha * max(0, 1 - |d|)
        "heavi_erfc"    2 / sqrt(pi) * exp(-(alpha d)**2)
        "heaviside"     0

    A surrogate of torch_lif is taken as well: method=torch_lif.SuperSpike(100.0). alpha: a constant, above 0 for
    "triangle" and "heavi_erfc"; a number or a tensor of one element, without gradient. Default: 100. "super" does not
    use alpha: norse's text has alpha |d|, but norse 1.1.0 computes the formula above, and scripts that were tuned with
    norse get the same gradients.
    """

    tau_syn_inv: Value = torch.tensor(1.0 / 5e-3)
    tau_mem_inv: Value = torch.tensor(1.0 / 1e-2)
    v_leak: Value = torch.tensor(0.0)
    v_th: Value = torch.tensor(1.0)
    v_reset: Value = torch.tensor(0.0)
    method: str | Surrogate = "super"
    alpha: Value = 100.0

    def to(self, device: torch.device | str) -> LIFParameters:
        """The same parameters with their tensors on this device."""
        moved: dict[str, Any] = {
            n: value.to(device) for n, value in self._asdict().items() if isinstance(value, Tensor)
        }
        return self._replace(**moved)


LI_DEFAULT, LIF_DEFAULT = LIParameters(), LIFParameters()
"""The parameters of functions and modules to which none are given."""


# What a call returns can be saved, and loaded again by torch.load with its default of weights_only.
torch.serialization.add_safe_globals([LIState, LIParameters, LIFState, LIFFeedForwardState, LIFParameters])

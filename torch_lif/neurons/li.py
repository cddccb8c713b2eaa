"""Leaky integrator, the usual readout of a spiking network: the function `li` and the module `LI`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .. import reference
from .._call import NOTHING, SYNAPSES, UNIT, check_choice, check_input, check_record, fused, parameter, split_state
from ..reference import LIResult, LIState
from .base import EULER, Neuron, Value

__all__ = ["LI", "LIResult", "LIState", "li"]


def li(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    v_leak: Tensor | float | None = None,
    membrane_hw: Tensor | None = None,
    synapse: str = "at_once",
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    memory: str | None = None,
) -> LIResult:
    """Leaky integrator with an exponential synapse over a whole sequence, in one kernel; it does not spike.

    Each time step computes, in this order of operations::

        j = i + x                                 synapse="delayed_increment": j = i
        v = v + rate_mem * ((v_leak - v) + j)
        i = j + (-rate_syn) * j                   synapse="delayed_increment": i = (j + (-rate_syn) * j) + x

    float32 and float64 results are those of `torch_lif.reference.li` bit for bit.
    Source: norse's li_feed_forward_step (forward Euler), where rate = dt * tau_inv; hxtorch's cuba_li_integration, where the input
    reaches the membrane one step later.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        rate_mem: fraction of the membrane potential that leaks a step, dt/tau_mem, in [0, 1]. A number or (): shared by all; or the
            neurons' shape, in which a dimension may be 1. Parameters are float32 (float64 with float64 x), on x's device.
        rate_syn: the same of the synaptic current, dt/tau_syn, in [0, 1].
        v_leak: potential that the membrane leaks to; as rate_mem. Default: 0.
        membrane_hw: measured membrane potential, laid out as the output, that takes v's place in every step; gradients go to the
            computed v as if nothing had been replaced. Default: none.
        synapse: "at_once" (norse), "delayed_increment" (hxtorch's LI) or "delayed" (hxtorch's LIF: i = (j * (1 - rate_syn)) + x,
            with j = i). Default: "at_once".
        state: initial (v, i), or an `LIState`; None, or an entry None, starts at zero.
        record: names out of "v", "i" whose value after each step is returned too.
        batch_first: False for x of (time, batch, ...). Default: True.
        memory: what is kept from the forward for the backward: "mask" (nothing beside the call's own arguments: without spikes
            gradients of x and the state need nothing of it; if no parameter requires a gradient), "recompute" (every 16th state;
            the steps between are computed again), "save" (every state). The results are the same to the last bit. Default: the
            first of these that is possible.

    Returns:
        `LIResult`: v laid out like x, final state, records. Gradients flow from all of them to x, the parameters and the initial
        state. There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("li", x)
    if record is not NOTHING:
        record = check_record("li", record, ("v", "i"))
    v, final, records = fused(
        "li",
        {"x": x, "membrane_hw": membrane_hw},
        {
            "rate_mem": parameter("li", "rate_mem", rate_mem, x, UNIT),
            "rate_syn": parameter("li", "rate_syn", rate_syn, x, UNIT),
            "v_leak": parameter("li", "v_leak", v_leak, x),
        },
        split_state("li", state, ("v", "i")),
        options={"synapse": check_choice("li", "synapse", synapse, SYNAPSES)},
        batch_first=batch_first,
        record=[name for name in record if name != "v"],
        memory=memory,
    )
    traces = {"v": v, **records}
    return LIResult(v, LIState(final["v"], final["i"]), {name: traces[name] for name in record})


class LI(Neuron):
    """A layer of leaky integrators, the usual readout: its output is the membrane potential.

    Equations and their source: `torch_lif.functional.li`. `layer(x)` returns v of a fresh state; `layer.run(x, state)` takes and
    returns states. Each leak is held as one of three views, whichever is given: time constant `tau` (s), decay a step `decay` =
    1 - dt/tau (forward Euler), or bit shift `dash`, with decay = 1 - 2**-dash. All can be read and set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds, at least dt. Default: 10e-3, norse's. A number is one value for all neurons; a
            tensor of shape `size` is one a neuron.
        decay_mem, dash_mem: instead of tau_mem.
        tau_syn: synaptic time constant in seconds, at least dt. Default: 5e-3, norse's.
        decay_syn, dash_syn: instead of tau_syn.
        v_leak: potential that the membrane leaks to. Default: None, no such parameter: 0.
        synapse: "at_once", "delayed_increment" or "delayed". Default: "at_once".
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        dash_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        dash_syn: Value | None = None,
        v_leak: Value | None = None,
        synapse: str = "at_once",
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend)
        check_choice(type(self).__name__, "synapse", synapse, SYNAPSES)
        self.synapse = synapse
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "dash": dash_mem}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "dash": dash_syn}
        for leak, given, tau in (("mem", mem, 10e-3), ("syn", syn, 5e-3)):
            self.add_leak(leak, given, self.size, default_tau=tau, views=EULER, device=device, dtype=dtype)
        self.add_optional_parameter("v_leak", v_leak, self.size, device=device, dtype=dtype)
        self.set_trainable(trainable)

    def forward(self, x: Tensor) -> Tensor:
        """Membrane potential of a fresh state (all zero): (batch, time, *neurons). For states and records use `run`."""
        return self.run(x).v

    def run(self, x: Tensor, state: Sequence[Tensor | None] | None = None, *, record: Sequence[str] = ()) -> LIResult:
        """The layer with explicit state; arguments and result as in `torch_lif.functional.li`."""
        self.check_size(x)
        function = li if self.backend == "fused" else reference.li
        return function(
            x,
            rate_mem=self.dt / self.tau_mem,
            rate_syn=self.dt / self.tau_syn,
            v_leak=self.v_leak,
            synapse=self.synapse,
            state=state,
            record=record,
            batch_first=self.batch_first,
        )

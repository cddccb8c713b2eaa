"""Leaky integrator, the common readout of a spiking network: the function `li` and the module `LI`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .._call import SYNAPSE_UPDATES, UNIT, check_choice, check_input, parameter, run
from .._state import detached, moved
from .base import Neuron, Value
from .leak import EULER

__all__ = ["LI", "LIResult", "LIState", "li"]


class LIState(NamedTuple):
    """State of a leaky integrator between time steps: membrane potential v and synaptic current i, both (batch,
    *neurons), float32 (float64 for float64 input)."""

    v: Tensor | None = None
    i: Tensor | None = None

    def detach(self) -> LIState:
        """The same values cut off from the graph, for truncated backpropagation through time."""
        return detached(self)

    def to(self, *args: Any, **kwargs: Any) -> LIState:
        """The state with each tensor moved by `torch.Tensor.to` with these arguments."""
        return moved(self, *args, **kwargs)


class LIResult(NamedTuple):
    """What a leaky integrator returns: the membrane potential after each step, the state after the last, records by
    name."""

    v: Tensor
    state: LIState
    records: dict[str, Tensor]


def li(
    x: Tensor,
    *,
    rate_mem: Tensor | float,
    rate_syn: Tensor | float,
    leak: Tensor | float | None = None,
    bias: Tensor | float | None = None,
    noise: Tensor | None = None,
    membrane_hw: Tensor | None = None,
    synapse_update: str = "membrane_first",
    state: Sequence[Tensor | None] | None = None,
    record: Sequence[str] = (),
    batch_first: bool = True,
    memory: str | None = None,
    backend: str = "fused",
) -> LIResult:
    """Leaky integrator with an exponential synapse over a whole sequence, in one kernel; it does not spike.

    Each time step computes, in this order of operations::

        v = ((v + rate_mem * ((leak - v) + i)) + noise) + bias    with the current i before this step
        i = i * (1 - rate_syn) + x                                by `synapse_update`: see below

    float32 and float64 results are those of `torch_lif.reference.li` bit for bit. Source: norse's li_feed_forward_step
    (forward Euler), where rate = dt * tau_inv; hxtorch's cuba_li_integration, where the input reaches the membrane one
    step later.

    Args:
        x: input, (batch, time, *neurons); float32, float64, bfloat16 or float16; any strides.
        rate_mem: fraction of the membrane potential that leaks per step, dt/tau_mem, in [0, 1]. A number or a tensor of
            shape () is shared by all neurons; any other tensor has the neurons' shape, in which a dimension may be 1.
            Parameters are float32 (float64 with float64 x), on x's device.
        rate_syn: the same for the synaptic current, dt/tau_syn, in [0, 1].
        leak: potential that the membrane leaks to; as rate_mem. Default: 0.
        bias: added to the membrane in each step; as rate_mem. Default: none.
        noise: added to the membrane in each step; laid out as the output. Default: none.
        membrane_hw: measured membrane potential, laid out as the output, that replaces v in every step. Gradients go to
            the computed v as if nothing had been replaced. Default: none.
        synapse_update: what a step updates first. "membrane_first": membrane and current both follow from the state
            before the step, as forward Euler has it, so that an input reaches the membrane one step later (as above).
            "membrane_first_increment": the same, but rounded differently (hxtorch's LI: i = (i + (-rate_syn) * i) +
            x). "input_first": the input of a step reaches the membrane in the same step (norse: j = i + x; i = j +
            (-rate_syn) * j). Default: "membrane_first".
        state: initial (v, i), or an `LIState`; None, or an entry that is None, starts at zero.
        record: names out of "v", "i" whose value after each step is returned too.
        batch_first: False for x of (time, batch, ...). Default: True.
        memory: what is kept from the forward for the backward: "mask" (only the call's own arguments, because without
            spikes the gradients of x and the state need nothing else; only if no parameter requires a gradient),
            "recompute" (x, and every 16th state; the steps between are computed again). The results are the same to
            the last bit. Default: the first of these that is possible.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`. Default: "fused".

    Returns:
        `LIResult`: v laid out like x, final state, records. Gradients flow from all of them to x, noise, the parameters
        and the initial state. There is no second derivative.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device, shape or range; the message names it.
        NotImplementedError: x on a GPU with a build without CUDA; a second derivative.
    """
    x = check_input("li", x)
    v, final, records = run(
        "li",
        {"x": x, "noise": noise, "membrane_hw": membrane_hw},
        {
            "rate_mem": parameter("li", "rate_mem", rate_mem, x, UNIT),
            "rate_syn": parameter("li", "rate_syn", rate_syn, x, UNIT),
            "leak": parameter("li", "leak", leak, x),
            "bias": parameter("li", "bias", bias, x),
        },
        state,
        options={"synapse_update": check_choice("li", "synapse_update", synapse_update, SYNAPSE_UPDATES)},
        batch_first=batch_first,
        record=record,
        memory=memory,
        backend=backend,
    )
    return LIResult(v, LIState(*final), records)


class LI(Neuron[LIResult]):
    """A layer of leaky integrators, the common readout: its output is the membrane potential.

    Equations and their source: `torch_lif.functional.li`. `layer(x)` returns v of a fresh state; `layer.run(x, state)`
    takes and returns states.

    Each leak (mem, syn) is held as one of three views, whichever is given: time constant `tau_` (s), decay per step
    `decay_` = 1 - dt/tau (forward Euler), or bit shift `bitshift_`, with decay = 1 - 2**-bitshift. All can be read and
    set at any time.

    Args:
        size: number of neurons, or their shape: x is (batch, time, *size).
        tau_mem: membrane time constant in seconds, at least dt. Default: 20e-3. A number is one value for all neurons;
            a tensor of shape `size` is one per neuron.
        tau_syn: synaptic time constant in seconds, at least dt. Default: 5e-3.
        decay_mem, bitshift_mem, decay_syn, bitshift_syn: instead of these.
        leak: potential that the membrane leaks to. Default: None, no such parameter, which means 0.
        bias: added to the membrane in each step. Default: None, no such parameter.
        noise_std: standard deviation, after one second, of the noise that a call adds to the membrane. Per step it is
            noise_std * sqrt(dt). Default: 0.
        synapse_update: "input_first", "membrane_first" or "membrane_first_increment": whether an input reaches the
            membrane in its own step or one step later. Default: "membrane_first".
        memory: what is kept from the forward for the backward: see `torch_lif.functional.li`. Default: the least
            possible.
        dt: time step in seconds. Default: 1e-3.
        trainable: names of the parameters that require a gradient, or True for all. Default: none.
        batch_first: whether x is (batch, time, ...) rather than (time, batch, ...). Default: True.
        backend: "fused", or "loop" for the plain loop of `torch_lif.reference`.
        device, dtype: of the parameters; float32 by default. Keep them float32 for half-precision inputs.

    Raises:
        ValueError, TypeError: an argument out of range, of the wrong type or shape; more than one view of a leak.
    """

    SETTINGS: ClassVar[dict[str, Any]] = {
        **Neuron.SETTINGS,
        "synapse_update": lambda owner, name, value: SYNAPSE_UPDATES[check_choice(owner, name, value, SYNAPSE_UPDATES)],
    }
    function = staticmethod(li)

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        tau_mem: Value | None = None,
        decay_mem: Value | None = None,
        bitshift_mem: Value | None = None,
        tau_syn: Value | None = None,
        decay_syn: Value | None = None,
        bitshift_syn: Value | None = None,
        leak: Value | None = None,
        bias: Value | None = None,
        noise_std: float = 0.0,
        synapse_update: str = "membrane_first",
        memory: str | None = None,
        dt: float = 1e-3,
        trainable: Iterable[str] | bool = (),
        batch_first: bool = True,
        backend: str = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, dt, batch_first, backend, noise_std, memory)
        self.synapse_update = synapse_update
        mem: dict[str, Value | None] = {"tau": tau_mem, "decay": decay_mem, "bitshift": bitshift_mem}
        syn: dict[str, Value | None] = {"tau": tau_syn, "decay": decay_syn, "bitshift": bitshift_syn}
        for name, given in (("mem", mem), ("syn", syn)):
            self.add_leak(name, given, self.size, views=EULER, device=device, dtype=dtype)
        for name, value in (("leak", leak), ("bias", bias)):
            self.add_optional_parameter(name, value, self.size, device=device, dtype=dtype)
        self.set_trainable(trainable)

    def arguments(self) -> dict[str, Any]:
        return {
            "rate_mem": self.rate("mem"),
            "rate_syn": self.rate("syn"),
            "leak": self.leak,
            "synapse_update": self.synapse_update,
            **super().arguments(),
        }

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, synapse_update={self.synapse_update!r}"

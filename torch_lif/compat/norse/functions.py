"""norse's functions: one step each, and whole sequences in one kernel."""

from __future__ import annotations

from torch import Tensor

from .arguments import given, weighted
from .sequences import li_all, lif_all, lif_recurrent_all
from .steps import li_one, lif_one, lif_recurrent_one
from .tuples import LI_DEFAULT, LIF_DEFAULT, LIFFeedForwardState, LIFParameters, LIFState, LIParameters, LIState


def li_feed_forward_step(
    input_tensor: Tensor, state: LIState, p: LIParameters = LI_DEFAULT, dt: float = 0.001
) -> tuple[Tensor, LIState]:
    """One step of a leaky integrator by forward Euler, in this order of operations::

        j = i + input_tensor
        v = v + (dt * tau_mem_inv) * ((v_leak - v) + j)
        i = j + (-dt * tau_syn_inv) * j

    Args:
        input_tensor: of any shape; float32, float64, bfloat16 or float16 (half types are computed in float32). Spikes
            as booleans or integers are converted to the state's dtype, as PyTorch's arithmetic does.
        state: (v, i) before the step; they broadcast to input_tensor's shape.
        p: parameters, see `LIParameters`. One of shape () takes input_tensor's dtype and device, as in PyTorch's
            arithmetic; another has the same device and at most as many bits.
        dt: time step in seconds. Default: 1e-3.

    Returns:
        (v, LIState(v, i)) after the step. Gradients flow from all to input_tensor, the state and p's tensors.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, device or shape, dt not above 0; the message names
            it.

    Source: norse's function of this name.
    """
    return li_one("li_feed_forward_step", input_tensor, given("li_feed_forward_step", state), p, dt)


def li_step(
    input_spikes: Tensor, state: LIState, input_weights: Tensor, p: LIParameters = LI_DEFAULT, dt: float = 0.001
) -> tuple[Tensor, LIState]:
    """`li_feed_forward_step` of linear(input_spikes, input_weights), input_weights being (neurons, inputs)."""
    return li_one("li_step", weighted("li_step", input_spikes, input_weights), given("li_step", state), p, dt, True)


def li(
    x: Tensor, state: LIState | None = None, p: LIParameters = LI_DEFAULT, dt: float = 0.001
) -> tuple[Tensor, LIState]:
    """A leaky integrator over a whole sequence, in one kernel: `li_feed_forward_step` for each x[t].

    Args:
        x: input, (time, ...).
        state: (v, i) before the first step; they broadcast to x[0]'s shape. Default: v = v_leak without gradient, i =
            0, as norse's layers.
        p, dt: as in `li_feed_forward_step`.

    Returns:
        (v, state): v after each step, laid out as x, in x's dtype; the state after the last one.
    """
    return li_all("li", x, state, p, dt)


def lif_feed_forward_step(
    input_spikes: Tensor, state: LIFFeedForwardState, p: LIFParameters = LIF_DEFAULT, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """One step of a LIF by forward Euler: v and i as `li_feed_forward_step`, then::

        z = [v - v_th > 0]
        v = (1 - z) * v + z * v_reset               a gradient flows through this z too

    Args:
        input_spikes: input current, of any shape.
        state: (v, i) before the step; they broadcast to input_spikes' shape.
        p: parameters, see `LIFParameters`; dtypes and devices as in `li_feed_forward_step`.
        dt: time step in seconds. Default: 1e-3.

    Returns:
        (z, LIFFeedForwardState(v, i)): spikes in input_spikes' dtype, the state after the step.

    Raises:
        NotImplementedError: p.method is "tanh", "circ" or "adjoint", which norse has and the kernel does not.
        TypeError, ValueError: as `li_feed_forward_step`; another method.

    Source: norse's function of this name.
    """
    return lif_one("lif_feed_forward_step", input_spikes, given("lif_feed_forward_step", state), p, dt)


def lif(
    x: Tensor, state: LIFFeedForwardState | None = None, p: LIFParameters = LIF_DEFAULT, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """A LIF over a whole sequence, in one kernel: `lif_feed_forward_step` for each x[t].

    Args:
        x: input current, (time, ...).
        state: (v, i) before the first step, as in `li`.
        p, dt: as in `lif_feed_forward_step`.

    Returns:
        (z, state): the spikes of each step, laid out as x, in x's dtype; the state after the last one.
    """
    return lif_all("lif", x, state, p, dt)


def lif_feed_forward_integral(
    input_tensor: Tensor, state: LIFFeedForwardState, p: LIFParameters, dt: float = 0.001
) -> tuple[Tensor, LIFFeedForwardState]:
    """`lif` by norse's name for it; the state must be given."""
    op = "lif_feed_forward_integral"
    return lif_all(op, input_tensor, given(op, state), p, dt)


def lif_step(
    input_spikes: Tensor,
    state: LIFState,
    input_weights: Tensor,
    recurrent_weights: Tensor,
    p: LIFParameters = LIF_DEFAULT,
    dt: float = 0.001,
) -> tuple[Tensor, LIFState]:
    """One step of a recurrent LIF: as `lif_feed_forward_step`, except that no gradient flows through the z of the
    reset, and that::

        j = (i + linear(input_spikes, input_weights)) + linear(z, recurrent_weights)

    with the z of the previous step.

    Args:
        input_spikes: (..., inputs).
        state: (z, v, i) before the step; they broadcast to (..., neurons).
        input_weights: (neurons, inputs).
        recurrent_weights: (neurons, neurons), rows for the neurons that receive.
        p: see `LIFParameters`; here they broadcast against a step. dt: time step in seconds. Default: 1e-3.

    Returns:
        (z, LIFState(z, v, i)) after the step.

    Raises:
        as `lif_feed_forward_step`.
    """
    current = weighted("lif_step", input_spikes, input_weights)
    return lif_recurrent_one("lif_step", current, given("lif_step", state), recurrent_weights, p, dt)


def lif_recurrent(
    x: Tensor,
    input_weights: Tensor,
    recurrent_weights: Tensor,
    state: LIFState | None = None,
    p: LIFParameters = LIF_DEFAULT,
    dt: float = 0.001,
) -> tuple[Tensor, LIFState]:
    """A recurrent LIF over a whole sequence: `lif_step` for each x[t], with one matrix product for the whole input.

    Args:
        x: input spikes, (time, ..., inputs).
        state: (z, v, i) before the first step. Default: z = 0, v = v_leak without gradient, i = 0.
        input_weights, recurrent_weights, p, dt: as in `lif_step`, except that p has at most the neurons' shape.

    Returns:
        (z, state): the spikes of each step, (time, ..., neurons), in x's dtype; the state after the last one.
    """
    current = weighted("lif_recurrent", x, input_weights)
    return lif_recurrent_all("lif_recurrent", current, state, recurrent_weights, p, dt)

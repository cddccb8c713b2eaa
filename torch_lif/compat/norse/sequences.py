"""A whole sequence in one kernel: what norse's layers compute in a loop."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ... import functional
from .._broadcast import check_dt
from .arguments import check_recurrent, current, initial, lif_parameters, parameter, rates
from .tuples import LIFFeedForwardState, LIFState, LIState


def _sequence(op: str, x: Any, state: Any) -> Tensor:
    """The input as (time, 1, ...): a batch of one whose neurons have the shape of a step, so that everything broadcasts
    to that shape, as in norse."""
    return current(op, x, state, 1).unsqueeze(1)


def _states(result: Any) -> list[Tensor]:
    """v and i of every step if they were recorded, else of the last one."""
    return [s.squeeze(1) for s in result.records.values()] or [result.state.v[0], result.state.i[0]]


def li_all(op: str, x: Any, state: Any, p: Any, dt: float, record_states: bool = False) -> tuple[Tensor, LIState]:
    dt, x = check_dt(op, dt), _sequence(op, x, state)
    shape = x.shape[2:]
    first = initial(op, state, ("v", "i"), p, x, shape)
    result = functional.li(
        x,
        **rates(op, p, dt, x, shape),
        leak=parameter(op, p, "v_leak", x, shape),
        synapse_update="input_first",
        state=[None if s is None else s[None] for s in first],
        record=("v", "i") if record_states else (),
        batch_first=False,
    )
    return result[0].squeeze(1), LIState(*_states(result))


def lif_all(
    op: str, x: Any, state: Any, p: Any, dt: float, record_states: bool = False
) -> tuple[Tensor, LIFFeedForwardState]:
    dt, x = check_dt(op, dt), _sequence(op, x, state)
    shape = x.shape[2:]
    first = initial(op, state, ("v", "i"), p, x, shape)
    result = functional.euler_lif(
        x,
        **lif_parameters(op, p, dt, x, shape),
        reset_gradient=True,
        state=[None if s is None else s[None] for s in first],
        record=("v", "i") if record_states else (),
    )
    return result[0].squeeze(1), LIFFeedForwardState(*_states(result))


def lif_recurrent_all(
    op: str, x: Tensor, state: Any, weights: Tensor, p: Any, dt: float, record_states: bool = False
) -> tuple[Tensor, LIFState]:
    """x, (time, ..., neurons), is the input after the input weights. The kernel's batch is one, because w_rec connects
    the neurons of one batch item."""
    dt = check_dt(op, dt)
    if x.dim() < 2:
        raise ValueError(f"{op}: the input has {x.dim()} dimension, expected (time, ..., inputs)")
    shape, neurons = x.shape[1:], x.shape[-1]
    check_recurrent(op, weights, neurons)
    flat = (math.prod(shape[:-1]), neurons)
    z, v, i = (None if s is None else s.reshape(flat) for s in initial(op, state, ("z", "v", "i"), p, x, shape))
    result = functional.euler_lif(
        x.reshape(x.shape[0], *flat),
        **lif_parameters(op, p, dt, x, (neurons,)),
        w_rec=weights.t(),
        state=(v, i, None, z),
        record=("spikes", "v", "i") if record_states else (),
    )
    last = result.state
    states = list(result.records.values()) or [s for s in (last.spikes, last.v, last.i) if s is not None]
    return result.spikes.reshape(x.shape), LIFState(*(s.reshape(x.shape if record_states else shape) for s in states))

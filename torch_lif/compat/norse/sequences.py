"""A whole sequence in one kernel: what norse's layers compute in a loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ... import functional
from ..._call import call, check_surrogate
from ...surrogate import Surrogate
from .._broadcast import check_dt
from .arguments import check_recurrent, current, initial, lif_parameters, parameter, surrogate
from .kernels import FACTORED, LI_KIND, LIF_KIND, Kind, fixed_params, numbers
from .tuples import LIFFeedForwardState, LIFState, LIState

FULL_ROWS = 64
"""Where a step's items are rows of a multiple of this many neurons, the kernel takes them as a batch, which saves four
views; shorter rows are faster as one."""


def _all(
    kind: Kind, op: str, x: Any, state: Any, p: Any, dt: float, rule: Surrogate | None, record_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and v and i of every step with `record_states`, else of the last one."""
    dt, x = check_dt(op, dt), current(op, x, state, 1)
    shape, values = x.shape[1:], numbers(kind, p, dt)
    rows = math.prod(shape[1:]) if len(shape) > 1 else 0
    # Else the batch is one item whose neurons have the shape of a step, so that everything broadcasts to that shape, as
    # in norse.
    is_batch = values is not None and rows and (shape[0] == 1 or not rows % FULL_ROWS)
    x = x if is_batch else x.unsqueeze(1)
    params: Sequence[Tensor | None]
    first: Sequence[Tensor | None]
    if values is None:
        given = [parameter(op, p, name, x, shape, dt if name in FACTORED else 1.0) for name in kind.fields]
        params = (*given, *kind.no_params)
    else:
        params = fixed_params(kind, x, values)
    if state is not None or values is None:
        first = initial(op, state, ("v", "i"), p, x, shape)
    else:
        place = kind.fields.index("v_leak")
        rest = params[place]
        # Without a first state a kernel starts at 0, but not at -0.
        is_zero = not values[place] and math.copysign(1.0, values[place]) > 0
        first = (None if is_zero or rest is None else rest.expand(shape), None)
    if not is_batch:
        first = [None if s is None else s[None] for s in first]
    out, *found = call(
        kind.op,
        (x, *kind.no_inputs),
        params,
        (*first, *kind.no_states),
        kind.options,
        rule.name if rule else "",
        rule.values if rule else (),
        False,
        0,
        False,
        kind.record if record_states else kind.no_record,
        "",
    )
    v, i = ((out, *found[2:]) if rule is None else found[2:]) if record_states else found
    if is_batch:
        return out, v, i
    v, i = (s.squeeze(1) if record_states else s[0] for s in (v, i))
    return out.squeeze(1), v, i


def li_all(op: str, x: Any, state: Any, p: Any, dt: float, record_states: bool = False) -> tuple[Tensor, LIState]:
    out, *states = _all(LI_KIND, op, x, state, p, dt, None, record_states)
    return out, LIState(*states)


def lif_all(
    op: str, x: Any, state: Any, p: Any, dt: float, record_states: bool = False
) -> tuple[Tensor, LIFFeedForwardState]:
    out, *states = _all(LIF_KIND, op, x, state, p, dt, check_surrogate(LIF_KIND.op, surrogate(op, p)), record_states)
    return out, LIFFeedForwardState(*states)


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

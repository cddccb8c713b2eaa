"""The kernels as norse's neurons use them: the lists of their arguments, and parameters that are constants."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._call import ORDERS, SYNAPSE_UPDATES, constants
from .._broadcast import is_constant
from .arguments import POTENTIALS, RATES

INPUT_FIRST = float(SYNAPSE_UPDATES.index("input_first"))
FACTORED = frozenset(RATES.values())
"""norse's fields that a step multiplies by dt."""


class Kind(NamedTuple):
    """A kernel, and its lists as norse's neurons fill them: entries that they leave out come after those that they
    give."""

    op: str
    fields: tuple[str, ...]
    """norse's names of the parameters, in the kernel's order."""
    options: tuple[float, ...]
    no_inputs: tuple[None, ...]
    no_params: tuple[None, ...]
    no_states: tuple[None, ...]
    no_record: tuple[int, ...]
    record: tuple[int, ...]
    """With v and i of every step; v only if it is not the output."""


def _kind(op: str, fields: Mapping[str, str], **options: float) -> Kind:
    order, count = ORDERS[op], len(fields)
    assert (order.inputs[0], set(order.params[:count]), order.states[:2]) == ("x", set(fields), ("v", "i"))
    return Kind(
        op,
        tuple(fields[name] for name in order.params[:count]),
        tuple(options[name] for name in order.options),
        (None,) * (len(order.inputs) - 1),
        (None,) * (len(order.params) - count),
        (None,) * (len(order.states) - 2),
        order.no_record,
        tuple(int(name in ("v", "i") and name != order.output) for name in order.states),
    )


LI_KIND = _kind("li", {**RATES, "leak": "v_leak"}, synapse_update=INPUT_FIRST)
LIF_KIND = _kind("euler_lif", {**RATES, **POTENTIALS}, synapse_update=INPUT_FIRST, leaky=1.0, reset_gradient=1.0)
DETACHED_KIND = _kind("euler_lif", {**RATES, **POTENTIALS}, synapse_update=INPUT_FIRST, leaky=1.0, reset_gradient=0.0)


@functools.lru_cache(maxsize=256)
def _product(factor: float, number: float, dtype: torch.dtype) -> float:
    """factor * number as PyTorch rounds it for a tensor of this dtype."""
    product: float = (factor * torch.tensor(number, dtype=dtype, device="cpu")).item()
    return product


def numbers(kind: Kind, p: Any, dt: float) -> list[float] | None:
    """The kernel's parameters, if each is a number on the CPU without gradient. They are read in each call, because a
    script may write into its parameters at any time. None in every other case, and so for every wrong argument."""
    found = []
    for name in kind.fields:
        value = getattr(p, name, None)
        if not isinstance(value, Tensor) or not is_constant(value):
            return None
        number = value.item()
        found.append(_product(dt, number, value.dtype) if name in FACTORED else number)
    return found


def fixed_params(kind: Kind, x: Tensor, values: list[float]) -> tuple[Tensor | None, ...]:
    """These parameters as tensors for calls with x."""
    return (*constants(x, *values), *kind.no_params)

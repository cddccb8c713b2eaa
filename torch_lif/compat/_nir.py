"""Keeps a drop-in from becoming None in a NIR graph.

norse and Rockpool export through `nirtorch.extract_nir_graph`, with a map from their own classes to nodes. For any
other module the map returns None, which nirtorch writes into the graph without a warning. Nothing can be added to the
map from outside. But nirtorch first runs the network, to see what is connected with what. In that run a drop-in can ask
the map itself.
"""

from __future__ import annotations

import sys
from types import FrameType

import torch
from torch import nn

_CALL = nn.Module.__call__
"""nn.Module's own call. While nirtorch traces, another function replaces it."""


def check_export(module: nn.Module) -> None:
    """To be called by a drop-in's forward method.

    Raises:
        NotImplementedError: nirtorch is tracing for a map that has no node for this module.
    """
    if nn.Module.__call__ is _CALL or torch.compiler.is_compiling():
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "extract_nir_graph":
        frame = frame.f_back
    model_map = frame.f_locals.get("model_map") if frame is not None else None
    if model_map is not None and model_map(module) is None:
        owner = f"{type(module).__name__} of {type(module).__module__}"
        raise NotImplementedError(
            f"{owner} has no node in this library's NIR export, which goes by the library's own classes and would "
            "write None in "
            "this module's place; make the library's own module of the same parameters, and export that"
        )

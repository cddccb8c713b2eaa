"""Makes and runs the layer of a module call."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn

import torch_lif

from .calls import Call, build, named_tensors
from .values import double_of, plain


def touched(layer: nn.Module, touch: str, making: dict[str, Any]) -> nn.Module:
    """Does with a layer what users do before they run it. None of it may change the result, unless both twins are
    changed in the same way."""
    if touch == "repr":
        repr(layer)
    elif touch == "state_dict":
        fresh = type(layer)(**making)
        fresh.load_state_dict(layer.state_dict())
        return fresh
    elif touch == "deepcopy":
        return copy.deepcopy(layer)
    elif touch == "pickle":
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=False)
    elif touch == "views":
        for leak in layer._leaks:
            _ = [getattr(layer, f"{view}_{leak}") for view in ("tau", "decay", "bitshift")]
    elif touch == "set":
        for leak in layer._leaks:
            setattr(layer, f"decay_{leak}", 0.5)
    elif touch == "reset":
        layer.reset_parameters()
    elif touch == "empty":
        layer = layer.to("meta").to_empty(device=making.get("device") or "cpu")
        layer.reset_parameters()
    elif touch == "train":
        layer.eval()
        layer.train()
    return layer


def wrong_leak(call: Call, layer: nn.Module) -> str | None:
    """Names a leak whose decay is not what its docstring says of the given view. The loop would share this mistake, so
    it is checked separately."""
    if call.touch == "set" or call.broken:
        return None
    euler = call.case.name not in ("lif", "alif")
    dt = float(call.making["dt"])
    for name, value in call.making.items():
        view, _, leak = name.partition("_")
        if view not in ("tau", "decay", "bitshift"):
            continue
        given = plain(value).double() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
        decay = {"tau": 1 - dt / given if euler else torch.exp(-dt / given), "bitshift": 1 - 0.5**given}.get(
            view, given
        )
        with torch.no_grad():
            got = getattr(layer, f"decay_{leak}").double().cpu()
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        if not torch.allclose(got, decay.cpu().expand(got.shape), rtol=0, atol=1e-2 if half else 1e-6):
            return (
                f"decay_{leak} is {got.flatten()[:3].tolist()} with {name} = {given.flatten()[:3].tolist()}, dt = {dt}"
            )
    return None


def run_module(call: Call, backend: str | None = None) -> tuple[nn.Module, Any]:
    making = call.making | ({"backend": backend} if backend else {})
    layer = getattr(torch_lif, call.owner)(**making)
    if making.get("recurrent") is True:  # drawn; products are exact in sixty-fourths, as in tests/cases.py
        with torch.no_grad():
            layer.w_rec.mul_(64).round_().div_(64)
    layer = touched(layer, call.touch, making)
    arguments = dict(call.arguments)
    if type(arguments.get("generator")) is int:
        x = arguments["x"]
        device = x.device if isinstance(x, Tensor) and not x.is_meta else "cpu"
        arguments["generator"] = torch.Generator(device).manual_seed(arguments["generator"])
    if (
        not call.broken
        and call.rng("forward").random() < 0.1
        and set(arguments) <= {"x", "record", "batch_first", "state"}
    ):
        return layer, layer(arguments["x"])
    return layer, layer.run(**arguments)


def loop_in_double(call: Call) -> tuple[nn.Module, Any, dict[str, Tensor]]:
    """The layer, the result, and the arguments that require a gradient, of the same call by the plain loop in
    float64."""
    fresh = build(call.seed, call.number)
    fresh.making = {name: double_of(value) for name, value in fresh.making.items()} | {"dtype": torch.float64}
    fresh.arguments = {name: double_of(plain(value)) for name, value in fresh.arguments.items()}
    found = {name: value.requires_grad_() for name, value in named_tensors(fresh.arguments) if name in call.needs}
    layer, result = run_module(fresh, "loop")
    return layer, result, found

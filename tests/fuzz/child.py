"""The process that makes the calls. It writes each call's number before it starts the call, so that a signal can be
attributed to a call."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import warnings

import torch

from .calls import Call, build
from .judge import DeviceLostError, FaultError, judge
from .values import described

DEVICE_LOST = 77
"""The exit status after a CUDA error that stays."""


def say(pipe: int, **message: object) -> None:
    os.write(pipe, (json.dumps(message) + "\n").encode())


def outcome(seed: int, number: int) -> tuple[str, str]:
    """("compared" | "refused" | "ran", "") or ("fault", what is wrong)."""
    try:
        return judge(seed, number), ""
    except FaultError as fault:
        return "fault", str(fault)
    except DeviceLostError as lost:
        return "lost", f"a CUDA error that stays: {lost}"
    except Exception as error:
        return "fault", f"the fuzz test itself failed: {type(error).__name__}: {error}"


def text_of(call: Call) -> str:
    """The call in full, for a report."""
    lines = [
        f"call {call.number} of seed {call.seed}: {call.kind} {call.owner or call.case.name} on {call.device}, "
        f"{call.settings}"
    ]
    lines += [f"  broken: {what}" for what in call.broken]
    lines += [f"  after: {call.touch}"] if call.making and call.kind == "module" else []
    shown = call.raw or {**{f"{name} (of the layer)": value for name, value in call.making.items()}, **call.arguments}
    return "\n".join([*lines, *(f"  {name} = {described(value)}" for name, value in shown.items())])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("step", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("pipe", type=int)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for number in range(options.first, options.end, options.step):
        say(options.pipe, starts=number)
        kind, fault = outcome(options.seed, number)
        say(options.pipe, number=number, outcome=kind, fault=fault)
        if kind == "lost":
            os._exit(DEVICE_LOST)


def show(seed: int, number: int) -> int:
    """Makes one call in this process: prints the call, then its outcome."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    print(text_of(build(seed, number)), flush=True)
    kind, fault = outcome(seed, number)
    print(f"{kind} {fault}".rstrip())
    return int(bool(fault))


if __name__ == "__main__":
    main()

"""Fuzzes torch_lif: random and mutated calls, made by child processes so that signals and hangs are noticed.

    python -m tests.fuzz --calls 100000 --seed 0     many calls in two processes; ends 1 if there is a fault
    python -m tests.fuzz --seed 0 --only 1234        one call in this process: the call in full, and what came

Call number k of a seed is always the same. Half of the calls are valid: their results must be those of the reference
loop bit for bit, and their gradients those of autograd through the loop. The other calls are broken in one or two
places: they must be refused with an error that names the argument, or give what the reference gives.
"""

from __future__ import annotations

import argparse
import sys
import time

from .parent import Report, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first call (default: 0)")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--hang", type=float, default=30, help="seconds after which a call counts as hung (default: 30)"
    )
    parser.add_argument("--most", type=int, default=200, help="stop after so many faults (default: 200)")
    parser.add_argument("--only", type=int, metavar="K", help="make call K alone, in this process")
    options = parser.parse_args()
    if options.only is not None:
        from .child import show

        return show(options.seed, options.only)
    report = Report()
    on_terminal, said = sys.stderr.isatty(), time.monotonic()
    for report in fuzz(options.seed, options.first, options.calls, options.processes, options.hang, options.most):
        if time.monotonic() - said > (1 if on_terminal else 60):
            said = time.monotonic()
            line = f"{report.done} of {options.calls} calls, {len(report.faults)} faults"
            print(f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr, flush=True)
    if on_terminal:
        print(file=sys.stderr)
    print(report.text(options.seed))
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())

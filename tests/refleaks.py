"""Look for reference leaks, with the total reference count of a debug interpreter.

    python3.14-dbg tests/refleaks.py [--only TEXT] [--rounds N] [--loop asyncio|hotloop]

Runs each scenario of scenarios.py many times, until a whole series of rounds adds neither references nor memory
blocks. A scenario that never comes to rest leaks; the exit status is then 1. Where the interpreter is no debug
build only memory blocks are counted, which misses leaks of objects that exist anyway.
"""

import argparse
import logging
import os
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import scenarios
from support import ASYNCIO, HOTLOOP, Logged, collect

SERIES = 40  # a cache that fills by one entry a round must have come to rest by then
REST = 3  # so many series in a row without growth


def total_references():
    return sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0


def measure(scenario, loop, implementation, rounds):
    """Growth of (references, blocks) over a series of rounds."""
    collect()
    references, blocks = total_references(), sys.getallocatedblocks()
    for _ in range(rounds):
        scenario(loop, implementation)
    collect()
    blocks = sys.getallocatedblocks() - blocks
    return total_references() - references, blocks


def settles(scenario, implementation, rounds):
    """Run series until nothing grows: (whether that came true, series run, the last growths)."""
    loop = implementation.new_event_loop()
    try:
        for _ in range(3):
            scenario(loop, implementation)
        quiet, growths = 0, []
        # What leaks adds one a round at the least; half of that leaves room for what the interpreter itself does.
        while len(growths) < SERIES and quiet < REST:
            growths.append(measure(scenario, loop, implementation, rounds))
            quiet = quiet + 1 if max(growths[-1]) < rounds / 2 else 0
        return quiet >= REST, len(growths), growths[-REST:]
    finally:
        loop.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--rounds", type=int, default=20, help="rounds in a series")
    parser.add_argument("--loop", choices=["asyncio", "hotloop"], default="hotloop")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    implementation = {"asyncio": ASYNCIO, "hotloop": HOTLOOP}[options.loop]
    chosen = [scenario for scenario in scenarios.SCENARIOS if options.only in scenario.__name__]
    if not chosen:
        parser.error(f"no scenario is called {options.only!r}")
    if not hasattr(sys, "gettotalrefcount"):
        print("not a debug interpreter: only memory blocks are counted", file=sys.stderr)

    print(
        f"{'scenario':34} {'series':>6} {'references':>11} {'blocks':>7}   in the last {options.rounds} rounds"
    )
    leaking = []
    for scenario in chosen:
        with Logged(logging.WARNING):  # whatever a scenario logs is no news here
            good, series, growths = settles(scenario, implementation, options.rounds)
        references, blocks = growths[-1]
        print(
            f"{scenario.__name__:34} {series:6} {references:11} {blocks:7}   {'' if good else 'LEAKS'}",
            flush=True,
        )
        if not good:
            leaking.append(scenario.__name__)
    print(
        f"{len(chosen) - len(leaking)} of {len(chosen)} scenarios leave nothing behind on {options.loop}"
    )
    if leaking:
        print("leaking:", ", ".join(leaking))
    return 1 if leaking else 0


if __name__ == "__main__":
    sys.exit(main())

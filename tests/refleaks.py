"""Look for leaks of references, blocks and malloc'ed bytes: run many small scenarios over and over.

    python3.14d tests/refleaks.py [-n ITERATIONS] [-v] [PART OF A SCENARIO'S NAME...]

Wants a debug interpreter (sys.gettotalrefcount); without one, it looks at allocated blocks and
malloc'ed bytes only. Every scenario runs with hotloop's loop, Future and Task, with stock ones on
hotloop's loop and the reverse, and in debug mode; a leak that stock asyncio has as well is shown,
but does not count. Exits with 1 if anything leaks.
"""

import argparse
import asyncio
import ctypes
import gc
import inspect
import logging
import sys
import warnings

import hotloop
from refleak_scenarios import SCENARIOS
from refleak_scenarios.env import Env, chosen, nothing, value
from support import ASYNCIO, HOTLOOP, HOTLOOP_ON_STOCK, STOCK_ON_HOTLOOP

ROUNDS = 4


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def malloc_bytes():
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.restype = Mallinfo2
    return lambda: function().uordblks


COUNTERS = {
    "refs": getattr(sys, "gettotalrefcount", None),
    "blocks": sys.getallocatedblocks,
    "malloc": malloc_bytes(),
}

COUNTERS = {name: counter for name, counter in COUNTERS.items() if counter}

# Growth in every round, by iteration, that counts: an object, or the least malloc gives out.
LIMITS = {"refs": 0.9, "blocks": 0.9, "malloc": 20}


def repeat(function, env, count):
    if inspect.iscoroutinefunction(function):

        async def main():
            for _ in range(count):
                await function(env)

        env.loop.run_until_complete(main())
        env.turn()
    else:
        for _ in range(count):
            function(env)


def fill_free_lists(count=5000):  # more than HL_FREE_MAX
    """Have so many objects of each kind at once that what is kept for reuse grows no more."""

    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(count)]
        kept = [iter(future) for future in futures]
        kept += [loop.call_soon(nothing) for _ in futures]
        kept += [loop.call_later(0, nothing) for _ in futures]
        await asyncio.gather(*(value() for _ in futures))
        await asyncio.sleep(0.001)
        kept += futures

    HOTLOOP.run(main())


def reading():
    for _ in range(3):
        gc.collect()
    return [counter() for counter in COUNTERS.values()]


def measure(function, implementation, debug, count):
    """The growth by iteration in the round in which each counter grew least."""
    env = Env(implementation, debug)
    repeat(function, env, count)
    readings = [reading()]
    for _ in range(ROUNDS):
        repeat(function, env, count)
        readings.append(reading())
    env.close()
    growth = {}
    for name, column in zip(COUNTERS, zip(*readings, strict=True), strict=True):
        growth[name] = min(b - a for a, b in zip(column, column[1:])) / count
    return growth


def leaks(growth):
    return any(growth[name] >= LIMITS[name] for name in growth)


def judge(function, implementation, debug, count):
    """The growth, and what to call it: a leak goes on for ever, but a cache (malloc has one for each
    thread) is full in the end, so what grows gets more iterations."""
    for iterations in count, 5 * count, 25 * count:
        growth = measure(function, implementation, debug, iterations)
        if not leaks(growth):
            return growth, ""
    stock = measure(function, ASYNCIO, debug, iterations)
    excess = {counter: growth[counter] - max(stock[counter], 0) for counter in growth}
    return growth, "LEAKS" if leaks(excess) else "as stock asyncio does"


def row(name, variant, growth, verdict):
    numbers = "  ".join(f"{growth[counter]:8.2f}" for counter in COUNTERS)
    print(f"{name:40} {variant:28} {numbers}  {verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=30, help="iterations in a round")
    parser.add_argument("-v", action="store_true", help="print what does not leak, too")
    parser.add_argument("names", nargs="*", help="parts of the names of scenarios")
    arguments = parser.parse_args()
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").propagate = False
    warnings.simplefilter("ignore")
    gc.disable()
    fill_free_lists()
    gc.collect()
    gc.freeze()
    print(
        f"{sys.version}\nwith libuv {hotloop.libuv_version()}; growth by iteration of: {', '.join(COUNTERS)}"
    )

    leaky = ran = 0
    for function in chosen(arguments.names):
        name = function.__name__
        for implementation in HOTLOOP, STOCK_ON_HOTLOOP, HOTLOOP_ON_STOCK:
            for debug in False, True:
                ran += 1
                variant = implementation.name + (", debug" if debug else "")
                growth, verdict = judge(function, implementation, debug, arguments.n)
                leaky += verdict == "LEAKS"
                if verdict or arguments.v:
                    row(name, variant, growth, verdict)
    print(f"{len(SCENARIOS)} scenarios, {ran} runs, {leaky} leak")
    return 1 if leaky or not ran else 0


if __name__ == "__main__":
    sys.exit(main())

"""Let the allocations of small scenarios fail, one by one, and see whether the interpreter survives.

    python tests/no_memory.py [--step N] [--debug] [-v] [PART OF A SCENARIO'S NAME...]

Wants _testcapi. Each run of a scenario, in a process of its own, has another one of its allocations fail. What the
scenario then does is its own affair, it may even wait for ever; but nothing may crash, and nothing may raise
SystemError, which the interpreter does where C code has failed without saying so. A debug interpreter notices more:
what is called while an exception is set, above all.

CPython has such faults itself; those of 3.14.8 are told apart, other versions have others. A crash is printed with the
innermost place in hotloop's code, for a debugger. Exits with 1 if anything crashed for another reason.
"""

import _testcapi
import argparse
import asyncio
import faulthandler
import inspect
import logging
import os
import re
import signal
import sys
import tempfile
import warnings

import hotloop._executor  # noqa: F401  # makes many classes, which CPython may not survive
from refleak_scenarios.env import Env, chosen
from support import HOTLOOP

WAIT_S = 0.1  # a scenario that waits longer waits for ever
CRASHED_S = 5  # without having come back to Python

# What CPython's own crashes say: a list cannot grow, a class or an exception group cannot be made.
KNOWN = re.compile(
    r"current_frame->stackpointer != NULL|->traceback != NULL|at PyType_Ready\+"
    r'|first\):\n  File ".*", line \d+ in (_aexit|task_groups)\n'
)

# What a run ends with.
FAILED, PASSED_BY = 0, 3  # the allocation was the scenario's, or would have been a later one


class GivenUp(KeyboardInterrupt):  # ends loops, too
    pass


def give_up(signum, frame):
    raise GivenUp


class SystemErrors(logging.Handler):
    """Prints those that were raised, logged, or lost."""

    def emit(self, record):
        self.look(record.exc_info and record.exc_info[1])

    def look(self, exc):
        while exc is not None:
            if isinstance(exc, SystemError):
                print(f"    {exc!r}", flush=True)
            exc = exc.__cause__ or exc.__context__

    def install(self):
        logger = logging.getLogger("asyncio")
        logger.addHandler(self)
        logger.propagate = False
        sys.unraisablehook = lambda unraisable: self.look(unraisable.exc_value)


def run(function, env, n):
    """Run with the n-th allocation failing. Returns whether it was the scenario's, and what was raised."""
    finished = raised = None
    signal.setitimer(signal.ITIMER_REAL, WAIT_S)
    try:
        _testcapi.set_nomemory(n, n + 1)
        if inspect.iscoroutinefunction(function):
            env.loop.run_until_complete(function(env))
        else:
            function(env)
        finished = True
        for _ in range(10):
            bytearray(100)
    except BaseException as exc:
        raised = exc
    finally:
        _testcapi.remove_mem_hooks()
        signal.setitimer(signal.ITIMER_REAL, 0)
    return not (finished and raised), raised


def clean_up(env):
    asyncio._set_running_loop(None)
    signal.setitimer(signal.ITIMER_REAL, WAIT_S)
    try:
        for task in asyncio.all_tasks(env.loop):
            task.cancel()
        for _ in range(3):
            env.turn()
        env.close()
    except (GivenUp, Exception):  # what is left of the scenario may do anything
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_in_child(function, debug, n, output):
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    faulthandler.enable(output, **{"c_stack": True} if sys.version_info >= (3, 14) else {})
    faulthandler.dump_traceback_later(CRASHED_S, exit=True, file=output)
    signal.signal(signal.SIGALRM, give_up)
    errors = SystemErrors()
    errors.install()
    env = Env(HOTLOOP, debug)
    reached, raised = run(function, env, n)
    clean_up(env)
    errors.look(raised)
    sys.stdout.flush()
    os._exit(FAILED if reached else PASSED_BY)


def run_once(function, debug, n):
    """Returns the exit code of the process and what it printed."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            run_in_child(function, debug, n, output)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def describe(code, text):
    """Why it crashed, and where in hotloop."""
    said = re.search(r"Assertion .* failed|Fatal Python error: .*|Timeout.*", text)
    where = re.search(r'_core\S*", at (\S+)', text)
    return f"{code}, {said and said[0]}, at {where and where[1]}"


def explore(function, arguments):
    """Returns how many runs there were and how many of them crashed."""
    n = crashes = 0
    while True:
        code, text = run_once(function, arguments.debug, n)
        if code == PASSED_BY:
            return n, crashes
        if code < 0 and KNOWN.search(text):
            pass
        elif code not in (FAILED, -signal.SIGINT):  # a scenario raises KeyboardInterrupt
            crashes += 1
            print(f"    CRASH with allocation {n}: {describe(code, text)}", flush=True)
        elif "SystemError" in text:
            print(f"    allocation {n}: {text.strip()}", flush=True)
        if arguments.v:
            print(text, flush=True)
        n += arguments.step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=1, help="try every N-th allocation only")
    parser.add_argument("--debug", action="store_true", help="with the loop in debug mode")
    parser.add_argument("-v", action="store_true", help="print all that was said")
    parser.add_argument("names", nargs="*", help="parts of the names of scenarios")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    all_crashes = ran = 0
    for function in chosen(arguments.names):
        name = function.__name__
        runs, crashes = explore(function, arguments)
        ran += 1
        all_crashes += crashes
        print(f"{name}: {runs} allocations, {crashes} crashes", flush=True)
    print(f"{ran} scenarios, {all_crashes} crashes")
    return 1 if all_crashes or not ran else 0


if __name__ == "__main__":
    sys.exit(main())

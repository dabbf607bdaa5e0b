"""What the tests share: the two implementations, scripts in processes of their own, comparisons."""

import asyncio
import gc
import logging
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import time
import types

import hotloop

ROOT = pathlib.Path(__file__).resolve().parent.parent
SANITIZED = bool(os.environ.get("HOTLOOP_SANITIZE"))
PORTABLE = bool(os.environ.get("HOTLOOP_PORTABLE"))  # a build without what only Linux has

# How much longer things may take where every instruction is watched.
PATIENCE = 5 if SANITIZED or hasattr(sys, "gettotalrefcount") else 1

# A slow_callback_duration for loops whose log is looked at: a machine that is busy makes any callback slow.
PATIENT = 60


class Implementation(types.SimpleNamespace):
    """One set of classes to test: a loop factory and the Future and Task to use on it."""

    def run(self, coro, *, debug=None):
        with asyncio.Runner(loop_factory=self.new_event_loop, debug=debug) as runner:
            runner.get_loop().slow_callback_duration = PATIENT
            return runner.run(coro)


ASYNCIO = Implementation(
    name="asyncio",
    new_event_loop=asyncio.SelectorEventLoop,
    EventLoop=asyncio.SelectorEventLoop,
    Future=asyncio.Future,
    Task=asyncio.Task,
)
HOTLOOP = Implementation(
    name="hotloop",
    new_event_loop=hotloop.new_event_loop,
    EventLoop=hotloop.EventLoop,
    Future=hotloop.Future,
    Task=hotloop.Task,
)
IMPLEMENTATIONS = [ASYNCIO, HOTLOOP]


def mixture(name, loops, types):
    """Future and Task of one kind on a loop of the other."""
    return Implementation(
        name=name,
        new_event_loop=loops.new_event_loop,
        EventLoop=loops.EventLoop,
        Future=types.Future,
        Task=types.Task,
    )


HOTLOOP_ON_STOCK = mixture("hotloop-on-asyncio", loops=ASYNCIO, types=HOTLOOP)
STOCK_ON_HOTLOOP = mixture("asyncio-on-hotloop", loops=HOTLOOP, types=ASYNCIO)
MIXTURES = [ASYNCIO, HOTLOOP, HOTLOOP_ON_STOCK, STOCK_ON_HOTLOOP]


# -- descriptors and memory --------------------------------------------------


def open_descriptors():
    """The descriptors open in this process, as {number: what it is}."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            pass  # the descriptor that listdir itself had open
    return found


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# -- running things ----------------------------------------------------------


def one_turn(loop):
    """Run exactly what a loop does between two polls."""
    loop.stop()
    loop.run_forever()


def turns(loop, count):
    for _ in range(count):
        one_turn(loop)


def close_tidily(loop):
    """Close a loop as asyncio.Runner does: nothing is left pending."""
    if loop.is_closed():
        return
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    if pending:
        _, stuck = loop.run_until_complete(asyncio.wait(pending, timeout=5 * PATIENCE))
        assert not stuck, f"tasks that cannot be cancelled: {stuck}"
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def until(condition, limit=20):
    """Wait until condition() is true, letting the loop work meanwhile."""
    deadline = time.monotonic() + limit * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.001)


async def timer_opened():
    """Sleep until a hotloop has opened its timer's descriptor: not if the sleep is over before it waits."""
    loop = asyncio.get_running_loop()
    opens = isinstance(loop, hotloop.EventLoop) and not PORTABLE
    while opens and "timerfd" not in str(open_descriptors()):
        await asyncio.sleep(0.001)


async def nothing():
    pass


async def forever():
    await asyncio.get_running_loop().create_future()


PREAMBLE = {
    "asyncio": """
        import asyncio
        from asyncio import SelectorEventLoop as new_event_loop, Future, Task
        """,
    "hotloop": """
        import asyncio, hotloop
        from hotloop import new_event_loop, Future, Task
        """,
}

RUN = f"""
def run(coro, **options):
    with asyncio.Runner(loop_factory=new_event_loop, **options) as runner:
        runner.get_loop().slow_callback_duration = {PATIENT}
        return runner.run(coro)
"""


def script_command(implementation, source, *args, flags=()):
    """The command that runs source with new_event_loop, run, Future and Task of an implementation."""
    text = textwrap.dedent(PREAMBLE[implementation.name]) + RUN + textwrap.dedent(source)
    return [sys.executable, *flags, "-c", text, *map(str, args)]


def clean_environment(**changes):
    """The environment for a child: without what would change asyncio's debug mode."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key
        not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")
    }
    environment.update(changes)
    return environment


def run_command(command, *, limit=30, env=None, cwd=None, stdin=subprocess.DEVNULL):
    return subprocess.run(
        command,
        stdin=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=limit * PATIENCE,
        env=clean_environment() if env is None else env,
    )


def run_script(implementation, source, *args, flags=(), limit=30, env=None, cwd=None):
    """Run source in a process of its own; the result has returncode, stdout, stderr."""
    return run_command(
        script_command(implementation, source, *args, flags=flags), limit=limit, env=env, cwd=cwd
    )


def script_output(implementation, source, *args, **options):
    """What a script prints; it must end well and say nothing on stderr."""
    result = run_script(implementation, source, *args, **options)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


# -- comparing ---------------------------------------------------------------


def normalise(text):
    """Text without what differs between two runs, or between the names of the loop classes."""
    text = re.sub(r"0x[0-9a-f]+", "0x..", text)
    # asyncio's own Python frames between a call and what it makes may be C here.
    text = re.sub(r"created at \S+/asyncio/\w+\.py:\d+", "created in asyncio", text)
    text = re.sub(r"\b\d+\.\d{3} seconds", "N seconds", text)
    text = re.sub(r"Task-\d+", "Task-N", text)
    text = re.sub(r"_UnixSelectorEventLoop|\bEventLoop\b", "LOOP", text)
    return text


def outcome(function, *args, **kwargs):
    """What a call comes to: its value, or its exception as (type, text)."""
    try:
        return ("returned", function(*args, **kwargs))
    except BaseException as exc:
        return ("raised", type(exc), normalise(str(exc)))


def same_on_both(scenario, *args, over=None):
    """Run scenario(implementation) on every implementation; all must agree with stock asyncio.

    Returns what stock asyncio gave, for the test to look at.
    """
    expected = scenario(ASYNCIO, *args)
    for implementation in over or IMPLEMENTATIONS:
        if implementation is not ASYNCIO:
            got = scenario(implementation, *args)
            assert (implementation.name, got) == (implementation.name, expected)
    return expected


def on_each(scenario, kind, debug=False):
    """Compare scenario(loop, Future or Task) over all mixtures of loops and types."""

    def with_loop(mixture):
        loop = mixture.new_event_loop()
        loop.set_debug(debug)
        try:
            return scenario(loop, getattr(mixture, kind))
        finally:
            loop.set_debug(False)
            loop.close()

    return same_on_both(with_loop, over=MIXTURES)


def contexts_of(scenario, kind, debug=False):
    """What the exception handler is told in scenario(loop, Future or Task), over all mixtures."""

    def collecting(loop, cls):
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        scenario(loop, cls)
        collect()
        turns(loop, 2)
        return contexts.summary(), [list(context) for context in contexts]

    return on_each(collecting, kind, debug)


class Logged(logging.Handler):
    """Collects what is logged by asyncio while it is installed."""

    def __init__(self, level=logging.DEBUG):
        super().__init__(level)
        self.records = []
        self.logger = logging.getLogger("asyncio")

    def emit(self, record):
        self.records.append(record)

    def __enter__(self):
        self._before = (self.logger.level, self.logger.propagate)
        self.logger.setLevel(self.level)
        self.logger.propagate = False
        self.logger.addHandler(self)
        return self

    def __exit__(self, *exc_info):
        self.logger.removeHandler(self)
        level, self.logger.propagate = self._before
        self.logger.setLevel(level)

    def messages(self, level=logging.WARNING):
        """The messages of at least this level, normalised."""
        return [normalise(r.getMessage()) for r in self.records if r.levelno >= level]


class Contexts(list):
    """An exception handler that keeps the contexts it is called with."""

    def __call__(self, loop, context):
        self.append(context)

    def summary(self):
        return [
            {
                key: (type(value), str(value))
                if isinstance(value, BaseException)
                else normalise(str(value))
                if isinstance(value, str)
                else isinstance(value, asyncio.Future)
                or isinstance(value, asyncio.Handle)
                or type(value)
                for key, value in context.items()
            }
            for context in self
        ]


def collect():
    """Collect all garbage, also what is freed by freeing garbage."""
    for _ in range(3):
        gc.collect()


class VirtualTime:
    """Mixin for a loop whose clock is moved by hand, as test helpers in the wild do it."""

    now = 1000.0

    def time(self):
        return self.now

    def advance(self, seconds, settle=30):
        self.now += seconds
        turns(self, settle)


class FailingCallSoon:
    """Mixin for a loop that takes no calls any more once it is broken."""

    broken = False

    def call_soon(self, callback, *args, context=None):
        if self.broken:
            raise LookupError("no more")
        return super().call_soon(callback, *args, context=context)


def failing_loop(implementation):
    """A loop of an implementation, not broken yet."""
    return type("FailingLoop", (FailingCallSoon, implementation.EventLoop), {})()


def virtual_loop(implementation):
    """A loop of an implementation, with a clock moved by hand."""
    return type("VirtualLoop", (VirtualTime, implementation.EventLoop), {})()

"""Random programs of signals, their handlers and runs: what is called, and in which order, is asyncio's."""

import asyncio
import contextlib
import os
import signal
import threading

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import Logged, same_on_both

HANDLED = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
SIGNALS = st.sampled_from(HANDLED)
EXCEPTIONS = [ValueError, KeyboardInterrupt, SystemExit]
# What a handler does: nothing, raise, or take a step. None of them sends a signal, which might never end.
EFFECTS = st.one_of(
    st.none(),
    st.sampled_from(EXCEPTIONS),
    st.tuples(st.just("remove"), SIGNALS),
    st.tuples(st.just("stop")),
)
STEPS = st.one_of(
    st.tuples(st.just("add"), SIGNALS, EFFECTS),
    st.tuples(st.just("add"), SIGNALS, EFFECTS),
    st.tuples(st.just("remove"), SIGNALS),
    st.tuples(st.just("python_handler"), SIGNALS, EFFECTS),
    st.tuples(st.just("ignore"), SIGNALS),
    st.tuples(st.sampled_from(["send", "send_from_thread"]), SIGNALS),
    st.tuples(st.just("send"), SIGNALS),
    st.tuples(st.just("stop")),
    st.tuples(st.just("close")),
)
RUNS = st.tuples(st.just("run"), st.lists(STEPS, max_size=5))
PROGRAMS = st.lists(st.one_of(STEPS, RUNS), min_size=1, max_size=10)


class Program:
    """One loop after another, and a log of what happened."""

    def __init__(self, implementation):
        self.implementation = implementation
        self.log = []
        self.count = 0
        self.renew()

    def renew(self):
        self.loop = self.implementation.new_event_loop()
        self.loop.set_exception_handler(self.failed)

    def failed(self, loop, context):
        self.log.append(("handler told of", repr(context["exception"])))

    def take(self, step):
        """Take a step, of what is outside of a run or inside; returns how that ended."""
        name, *arguments = step
        try:
            return getattr(self, name)(*arguments)
        except (RuntimeError, ValueError, KeyboardInterrupt, SystemExit) as exc:
            return repr(exc)

    def effect(self, kind, number, what, *args):
        self.log.append((kind, number, *args))
        if isinstance(what, tuple):
            self.log.append((what, self.take(what)))
        elif what is not None:
            raise what(number)

    def number(self):
        self.count += 1
        return self.count

    def add(self, signum, what):
        self.loop.add_signal_handler(
            signum, self.effect, "loop's handler", self.number(), what, signum
        )

    def remove(self, signum):
        return self.loop.remove_signal_handler(signum)

    def python_handler(self, signum, what):
        number = self.number()
        signal.signal(signum, lambda sig, _: self.effect("Python's handler", number, what, sig))

    def ignore(self, signum):
        signal.signal(signum, signal.SIG_IGN)

    def send(self, signum):
        if signal.getsignal(signum) != signal.SIG_DFL:
            os.kill(os.getpid(), signum)

    def send_from_thread(self, signum):
        thread = threading.Thread(target=self.send, args=(signum,))
        thread.start()
        thread.join()

    def stop(self):
        self.loop.stop()

    def close(self):
        self.loop.close()
        self.renew()

    def run(self, steps):
        task = self.loop.create_task(self.main(steps))
        try:
            self.loop.run_until_complete(task)
        finally:
            task.cancel()
            while not task.done():  # a handler may stop the loop, or raise
                self.log.append(("left over", self.take(("finish", task))))

    def finish(self, task):
        self.loop.run_until_complete(asyncio.wait([task]))

    async def main(self, steps):
        for step in steps:
            self.log.append(("inside", step, self.take(step)))
            for _ in range(3):
                await asyncio.sleep(0.0005)

    def handlers(self):
        handlers = [signal.getsignal(signum) for signum in HANDLED]
        return [getattr(handler, "__name__", handler) for handler in handlers]


@contextlib.contextmanager
def handlers_put_back():
    before = {signum: signal.getsignal(signum) for signum in HANDLED}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in before.items():
            signal.signal(signum, handler)


@settings(max_examples=100)
@given(PROGRAMS)
# A handler removed after the poll that told of its signal; two signals read at once, one of after it.
@example([("add", HANDLED[0], None), ("send", HANDLED[0]), ("run", [("remove", HANDLED[0])])])
@example(
    [("add", HANDLED[0], KeyboardInterrupt), ("send", HANDLED[0]), ("run", [("send", HANDLED[0])])]
)
def test_random_programs_have_asyncios_events(steps):
    def scenario(implementation):
        with Logged() as logged, handlers_put_back():
            program = Program(implementation)
            for step in steps:
                program.log.append((step, program.take(step), program.handlers()))
            program.loop.close()
            return program.log, program.handlers(), logged.messages()

    same_on_both(scenario)

"""Signals: handlers of the signal module, those of add_signal_handler, the wake-up descriptor."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time

import pytest
from support import (
    HOTLOOP,
    PATIENCE,
    Contexts,
    normalise,
    outcome,
    same_on_both,
    script_output,
    turns,
)

# Far above what a right loop needs (a millisecond), far below a polling interval or a hang.
PROMPT = 5 * PATIENCE


# -- handlers of the signal module -------------------------------------------


def send_later(signum, seconds):
    """Send a signal to this process from another thread."""

    def send():
        time.sleep(seconds)
        os.kill(os.getpid(), signum)

    threading.Thread(target=send).start()


def test_a_python_handler_runs_at_once_on_an_idle_loop(loop):
    """Though nothing but the signal wakes the loop until it ran."""
    ran = threading.Event()
    in_time = []

    def send():
        time.sleep(0.05)  # now it is idle
        os.kill(os.getpid(), signal.SIGUSR1)
        in_time.append(ran.wait(PROMPT))
        loop.call_soon_threadsafe(loop.stop)

    before = signal.signal(signal.SIGUSR1, lambda signum, frame: ran.set())
    thread = threading.Thread(target=send)
    try:
        thread.start()
        loop.run_forever()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert in_time == [True]


def test_a_python_handler_may_stop_the_idle_loop(loop):
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: loop.stop())
    try:
        send_later(signal.SIGUSR1, 0.02)
        timer = loop.call_later(
            5 * PATIENCE, lambda: pytest.fail("stop() in the handler was not noticed")
        )
        # asyncio notices stop() from a signal handler only with its wake-up descriptor set.
        loop.add_signal_handler(signal.SIGUSR2, print)
        loop.run_forever()
        timer.cancel()
        loop.remove_signal_handler(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_exception_of_a_python_handler_leaves_run_forever(loop):
    class Signalled(Exception):
        pass

    def handler(signum, frame):
        raise Signalled

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.call_soon(send_later, signal.SIGUSR1, 0.02)
        with pytest.raises(Signalled):
            loop.run_forever()
        assert not loop.is_running()
        assert loop.run_until_complete(asyncio.sleep(0.001, "works")) == "works"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_many_signals_in_a_row(loop, python_handler):
    async def main():
        for number in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert len(python_handler) == 200


# -- add_signal_handler ------------------------------------------------------


def test_a_signal_handler_is_called_with_its_arguments_by_the_loop(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.get_running_loop() is loop))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    send_later(signal.SIGUSR1, 0.02)
    before = time.monotonic()
    loop.run_forever()
    assert seen == [((1, "two"), True)]
    assert time.monotonic() - before < PROMPT
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_sent_by_a_callback_is_handled(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_from_before_the_run_is_handled_in_it(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    timer = loop.call_later(5 * PATIENCE, lambda: pytest.fail("the signal was lost"))
    loop.run_forever()
    timer.cancel()
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_that_comes_with_ctrl_c_is_handled_in_the_next_run(loop):
    send = getattr(ctypes.CDLL(None), "raise")  # no line of Python between the two
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    loop.add_signal_handler(signal.SIGUSR2, loop.stop)
    loop.call_soon(send, signal.SIGUSR2)
    loop.call_soon(send, signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    late = loop.call_later(PROMPT, loop.stop)
    loop.run_forever()
    assert loop.time() < late.when()
    late.cancel()
    assert loop.remove_signal_handler(signal.SIGUSR2)
    signal.signal(signal.SIGUSR1, before)


def test_every_one_of_a_few_signals_is_handled(loop):
    seen = []
    signals = [
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGHUP,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGCHLD,
    ]

    def handler(signum):
        seen.append(signum)
        if len(seen) == len(signals):
            loop.stop()

    for signum in signals:
        loop.add_signal_handler(signum, handler, signum)
    for signum in signals:
        loop.call_soon(os.kill, os.getpid(), signum)
    loop.run_forever()
    assert sorted(seen) == sorted(signals)
    for signum in signals:
        assert loop.remove_signal_handler(signum) is True
        assert loop.remove_signal_handler(signum) is False


def test_handlers_may_be_replaced(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("new"), loop.stop()))
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["new"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_removal_puts_the_default_back(loop):
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGUSR1)}
    for signum in before:
        loop.add_signal_handler(signum, print)
        assert signal.getsignal(signum) != before[signum]
        loop.remove_signal_handler(signum)
        assert signal.getsignal(signum) == before[signum]


def test_closing_the_loop_removes_the_handlers(loop):
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_wakeup_descriptor_of_the_program_is_told(loop, python_handler, pipe):
    """Twisted's reactor sets one before it runs the loop."""
    read, write = pipe
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    try:
        loop.add_reader(read, loop.stop)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        late = loop.call_later(PROMPT, loop.stop)
        loop.run_forever()
        late.cancel()
        loop.remove_reader(read)
        os.set_blocking(read, False)
        assert os.read(read, 10) == bytes([signal.SIGUSR1])
    finally:
        assert signal.set_wakeup_fd(before) == write
    assert len(python_handler) == 1


def test_a_failing_handler_is_reported(loop):
    contexts = Contexts()
    loop.set_exception_handler(lambda *args: (contexts(*args), loop.stop()))
    loop.add_signal_handler(signal.SIGUSR1, int, "no")
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("method", ["_process_self_data", "_handle_signal"])
def test_what_an_overridden_method_raises_is_reported_and_ends_no_run(method):
    def scenario(impl):
        def fail(loop, given):
            if given not in (b"", b"\0"):  # asyncio wakes itself by a zero
                raise ValueError(given)

        contexts = Contexts()
        loop = type("Loop", (impl.EventLoop,), {method: fail})()
        loop.set_exception_handler(contexts)
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(asyncio.sleep(0.01))
        reports = [(c["message"], repr(c["exception"]), repr(c["handle"])) for c in contexts]
        loop.close()
        return reports

    assert len(same_on_both(scenario)) == 1


def test_threads_may_take_signals_while_the_loop_reads_them():
    """More numbers than the loop keeps, in its pipe at all times."""
    loop = HOTLOOP.new_event_loop()
    lengths = set()
    ended = threading.Event()

    def write():
        fd = loop._csock.fileno()
        while not ended.is_set():
            with contextlib.suppress(BlockingIOError):
                os.write(fd, b"\n" * 300)

    def take():
        while not ended.is_set():
            lengths.add(len(loop._take_signals()))

    threads = [threading.Thread(target=run) for run in (write, take, take)]
    for thread in threads:
        thread.start()
    loop.run_until_complete(asyncio.sleep(0.5))
    ended.set()
    for thread in threads:
        thread.join()
    loop.close()
    assert max(lengths) <= 64


async def coroutine():
    pass


WRONG_HANDLERS = {
    "SIGKILL": (signal.SIGKILL, print),
    "SIGSTOP": (signal.SIGSTOP, print),
    "zero": (0, print),
    "negative": (-1, print),
    "too large": (1000, print),
    "a string": ("SIGINT", print),
    "a float": (1.5, print),
    "None": (None, print),
    "a coroutine function": (signal.SIGUSR1, coroutine),
}


@pytest.mark.parametrize("arguments", WRONG_HANDLERS.values(), ids=WRONG_HANDLERS)
def test_wrong_handlers_are_refused_as_by_asyncio(arguments):
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            signum = arguments[0]
            return (
                outcome(loop.add_signal_handler, *arguments),
                outcome(loop.remove_signal_handler, signum),
            )
        finally:
            loop.close()
            assert signal.set_wakeup_fd(-1) == -1

    assert same_on_both(scenario)[0][0] == "raised"


def test_handlers_can_only_be_set_in_the_main_thread():
    def scenario(impl):
        loop = impl.new_event_loop()
        results = []
        thread = threading.Thread(
            target=lambda: results.append(
                outcome(loop.add_signal_handler, signal.SIGUSR1, print)[:2]
            )
        )
        thread.start()
        thread.join()
        loop.close()
        return results

    [result] = same_on_both(scenario)
    assert result[0] == "raised"


def test_a_handler_for_a_loop_that_sleeps_in_another_thread(loop):
    seen = []

    def on_signal():
        seen.append(threading.current_thread())
        loop.stop()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    time.sleep(0.05)
    loop.add_signal_handler(signal.SIGUSR1, on_signal)
    os.kill(os.getpid(), signal.SIGUSR1)
    thread.join(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == [thread]


def test_a_sigchld_handler_is_allowed_and_called_beside_subprocesses(impl):
    """uvloop#409: the loop must not keep SIGCHLD for itself."""
    assert (
        script_output(
            impl,
            """
        import signal

        async def main():
            loop = asyncio.get_running_loop()
            seen = asyncio.Event()
            loop.add_signal_handler(signal.SIGCHLD, seen.set)
            process = await asyncio.create_subprocess_exec("true")
            print(await process.wait())
            await asyncio.wait_for(seen.wait(), 20)
            loop.remove_signal_handler(signal.SIGCHLD)
            print("seen")

        run(main())
        """,
        )
        == "0\nseen\n"
    )


# -- the wake-up descriptor --------------------------------------------------


@pytest.fixture
def foreign_wakeup():
    """A wake-up descriptor set by somebody else, as servers do."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    before = signal.set_wakeup_fd(right.fileno(), warn_on_full_buffer=False)
    yield left, right
    assert signal.set_wakeup_fd(before) == right.fileno()
    left.close()
    right.close()


def test_a_foreign_wakeup_descriptor_is_back_after_every_run(impl, foreign_wakeup, python_handler):
    left, right = foreign_wakeup
    for _ in range(3):
        loop = impl.new_event_loop()
        turns(loop, 2)
        with pytest.raises(LookupError):
            loop.run_until_complete(fail())
        loop.call_soon(sys.exit)
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.close()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert left.recv(10) == bytes([signal.SIGUSR1])
    assert len(python_handler) == 1


async def fail():
    raise LookupError


def test_the_wakeup_descriptor_is_unset_after_a_run(loop):
    turns(loop, 2)
    assert signal.set_wakeup_fd(-1) == -1
    loop.add_signal_handler(signal.SIGUSR1, print)
    turns(loop, 2)
    loop.remove_signal_handler(signal.SIGUSR1)
    turns(loop, 2)
    assert signal.set_wakeup_fd(-1) == -1


def test_the_wakeup_descriptor_is_the_loops_only_while_it_runs(foreign_wakeup):
    """asyncio takes it with the first signal handler; an idle hotloop needs it without one, too."""
    foreign = foreign_wakeup[1].fileno()
    loop = HOTLOOP.new_event_loop()

    def look():
        seen.append(signal.set_wakeup_fd(foreign, warn_on_full_buffer=False))
        signal.set_wakeup_fd(seen[-1], warn_on_full_buffer=False)

    def now():
        before = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        return before

    seen = []
    assert now() == foreign
    for _ in range(2):
        loop.call_soon(look)
        turns(loop, 1)
        assert now() == foreign
    loop.close()
    assert seen[0] == seen[1] not in (-1, foreign)
    assert now() == foreign


def test_a_loop_in_another_thread_leaves_the_wakeup_descriptor_alone(loop, foreign_wakeup):
    left, right = foreign_wakeup
    seen = []

    def look():
        seen.append("ran")
        loop.stop()

    loop.call_later(0.02, look)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    thread.join(20)
    signal.signal(signal.SIGUSR1, before)
    assert seen == ["ran"]
    assert left.recv(10) == bytes([signal.SIGUSR1])


def test_signal_handlers_stay_in_force_from_one_run_to_the_next(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append(1), loop.stop()))
    for count in range(1, 4):
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
        assert len(seen) == count
    loop.remove_signal_handler(signal.SIGUSR1)


def test_the_repr_of_errors_is_that_of_asyncio():
    def scenario(impl):
        loop = impl.new_event_loop()
        result = outcome(loop.add_signal_handler, signal.SIGKILL, print)
        loop.close()
        return normalise(result[2])

    assert same_on_both(scenario) == "sig 9 cannot be caught"


@pytest.mark.parametrize("last", ["first loop", "second loop"])
def test_signals_of_another_loop_that_come_while_this_one_runs(impl, last):
    """They are the loop's that was the last to add a handler, in the main thread."""

    def add(loop, number, name):
        loop.add_signal_handler(number, got.append, name)

    def run(loop, *numbers):
        for number in numbers:
            loop.call_soon(os.kill, os.getpid(), number)
        loop.call_later(0.02, loop.stop)
        loop.run_forever()

    got = []
    first, second = impl.new_event_loop(), impl.new_event_loop()
    add(first, signal.SIGUSR1, "first")
    add(second, signal.SIGUSR2, "second")
    if last == "first loop":
        add(first, signal.SIGUSR1, "first")
    run(first)
    run(first, signal.SIGUSR2)
    run(second)
    assert got == (["second"] if last == "second loop" else [])
    for loop in first, second:
        loop.close()

"""Clocks that replace loop.time and the selector's select(), as looptime's and aiotools' do."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
import time
from unittest import mock

import pytest
from support import HOTLOOP


class Clock:
    def __init__(self):
        self.now, self.asked = 1000.0, []

    def select(self, original, timeout):
        self.asked.append(timeout)
        events = original(0)
        if not events and timeout is not None:
            self.now += timeout
        return events

    def on(self, loop):
        """A context manager: loop goes by this clock."""
        select = functools.partial(self.select, loop._selector.select)
        patches = (
            mock.patch.object(loop._selector, "select", new=select),
            mock.patch.object(loop, "time", new=lambda: self.now),
        )
        stack = contextlib.ExitStack()
        for patch in patches:
            stack.enter_context(patch)
        return stack


def test_sleeping_takes_no_time(loop, run):
    async def main():
        clock, began, seen = Clock(), time.monotonic(), []

        async def sleeper(delay):
            await asyncio.sleep(delay)
            seen.append((delay, round(loop.time() - 1000.0, 3)))

        with clock.on(loop):
            await asyncio.gather(sleeper(3600), sleeper(0.1), sleeper(0.3), sleeper(86400 * 3))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(100), 20)
        assert seen == [(delay, delay) for delay in (0.1, 0.3, 3600, 86400 * 3)]
        assert time.monotonic() - began < 5
        assert abs(loop.time() - time.monotonic()) < 1  # it goes by its own again
        await asyncio.sleep(0.001)
        return clock.asked

    asked = run(main())
    assert 0 in asked
    assert max(asked) == 86400


def test_a_class_put_on_a_loop_that_exists(loop, run):
    """looptime does so, with a method of its own for time()."""

    class Virtual(type(loop)):
        def time(self):
            return clock.now

    async def main():
        clock.now += 50
        began = loop.time()
        await asyncio.sleep(10)
        return loop.time() - began

    clock = Clock()
    original = type(loop)
    with mock.patch.object(
        loop._selector, "select", new=functools.partial(clock.select, loop._selector.select)
    ):
        loop.__class__ = Virtual
        assert run(main()) == 10
        loop.__class__ = original
    assert abs(loop.time() - time.monotonic()) < 1
    run(asyncio.sleep(0.001))


def test_another_time_monotonic_is_heeded(loop, run):
    """freezegun puts one there."""

    async def main():
        now, seen = 1000.0, []
        with mock.patch("time.monotonic", lambda: now):
            timer = loop.call_later(10, seen.append, 1)
            sleeper = asyncio.create_task(asyncio.sleep(10))
            await asyncio.sleep(0)
            assert (loop.time(), timer.when(), seen, sleeper.done()) == (1000.0, 1010.0, [], False)
            now += 10
            await sleeper
            assert seen == [1]
        assert abs(loop.time() - time.monotonic()) < 1

    run(main())


@pytest.mark.parametrize("clock", ["of the loop", "of the machine"])
def test_a_clock_moved_by_the_delay_reaches_the_deadline(loop, monkeypatch, clock):
    """Sums of floats end a little before; asyncio's _clock_resolution is there for that."""
    now = 0.0
    if clock == "of the loop":
        loop.time = lambda: now
    else:
        monkeypatch.setattr(time, "monotonic", lambda: now)
    fired = []
    for now in (0.3, 1.1, 1234.567891, 86399.000017):
        for delay in (0.1, 0.000001, 59.3, 0.7):
            loop.call_at(now + delay / 3 + delay / 3 + delay / 3, fired.append, 1)
            loop.call_at(now + delay, fired.append, 1)
            now += delay
            for _ in range(2):
                loop.call_soon(loop.stop)
                loop.run_forever()
    assert len(fired) == 32
    loop.call_at(0.1 + 0.1 + 0.1 + now, loop.stop)
    now = now + 0.3
    loop.run_forever()  # does not wait


def test_errors_of_another_time_monotonic(loop, run):
    async def main():
        with mock.patch("time.monotonic", lambda: 1 / 0):
            for ask in loop.time, functools.partial(loop.call_later, 1, list):
                with pytest.raises(ZeroDivisionError):
                    ask()

    run(main())


def test_every_turn_asks(loop, run):
    async def main():
        clock = Clock()
        with clock.on(loop):
            before = len(clock.asked)
            for _ in range(10):
                await asyncio.sleep(0)
            return clock.asked[before:]

    assert run(main()) == [0] * 10


def test_events_are_told(loop, run):
    async def main():
        counts, got = [], asyncio.Event()
        original = loop._selector.select

        def select(timeout):
            events = original(timeout)
            if timeout != 0:
                counts.append(len(events))
            return events

        here, there = socket.socketpair()
        with here, there, mock.patch.object(loop._selector, "select", new=select):
            loop.add_reader(here, got.set)
            loop.call_later(0.02, there.send, b"x")
            await asyncio.wait_for(got.wait(), 10)
            assert sum(counts) == 1
            loop.remove_reader(here)
            counts.clear()
            timer = threading.Timer(0.05, loop.call_soon_threadsafe, (got.set,))
            got.clear()
            timer.start()
            await got.wait()  # no timer: no timeout
            assert counts[-1] == 1
            timer.join()

    run(main())


def test_a_shorter_wait_than_asked_for(loop, run):
    async def main():
        asked = []
        original = loop._selector.select

        def select(timeout):
            asked.append(timeout)
            return original(timeout if timeout == 0 else 0.01)

        loop.call_later(0.1, loop.call_soon, list)
        with mock.patch.object(loop._selector, "select", new=select):
            began = time.monotonic()
            await asyncio.sleep(0.1)
            assert 0.1 <= time.monotonic() - began < 5
        assert len(asked) >= 6

    run(main())


def test_a_turn_by_hand(loop):
    asked, ran = [], []
    select = loop._selector.select

    def replaced(timeout=None):
        asked.append(timeout)
        return select(timeout)

    loop._selector.select = replaced
    loop.call_soon(ran.append, 1)
    loop._run_once()
    del loop._selector.select
    assert (asked, ran) == ([0], [1])


def test_errors_end_the_run(loop):
    def select(timeout):
        raise ZeroDivisionError

    with mock.patch.object(loop._selector, "select", new=select):
        with pytest.raises(ZeroDivisionError):
            loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.001))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1")
def test_signals(loop, run):
    async def main():
        got = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.set)
        with Clock().on(loop):
            loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(got.wait(), 10**6)
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main())


def test_select_is_for_what_replaced_it():
    async def main():
        loop = asyncio.get_running_loop()
        select, nested = loop._selector.select, []
        with pytest.raises(RuntimeError, match="in its place"):
            select(0)

        def replaced(timeout):
            for odd in ("x", object()):
                with pytest.raises(TypeError):
                    select(odd)
            for odd in (float("nan"), -5, float("-inf")):
                assert select(odd) == []
            thread = threading.Thread(
                target=lambda: nested.append(pytest.raises(RuntimeError, select, 0))
            )
            thread.start()
            thread.join()
            del loop._selector.select
            return select(0)

        loop._selector.select = replaced
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert len(nested) == 1
        loop._selector.select = None  # nothing to ask
        await asyncio.sleep(0.001)
        del loop._selector.select
        selector = loop._selector
        return selector

    selector = HOTLOOP.run(main())
    selector.select = print  # of a closed loop
    del selector.select


def test_a_replaced_select_that_waits_as_long_as_it_is_told(loop, run):
    """Each wait is ended by a timer, also one that is due before the wait begins (libuv before 1.45)."""
    original = loop._selector.select

    async def main():
        with mock.patch.object(loop._selector, "select", new=lambda timeout: original(timeout)):
            for _ in range(1000):
                await asyncio.sleep(0.0005)

    run(main())

"""signal.set_wakeup_fd() called by the program while a loop runs."""

import asyncio
import os
import signal
import socket
import sys
import threading

import pytest
from support import HOTLOOP, PATIENCE, until


@pytest.fixture
def wakeup():
    """Two ends of a pair of sockets: signals' numbers come out of the first."""
    before = signal.set_wakeup_fd(-1)
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right
        signal.set_wakeup_fd(before)


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_descriptor_set_meanwhile_stays_set(run, wakeup, sleeps):
    async def main():
        signal.set_wakeup_fd(wakeup[1].fileno())
        await asyncio.sleep(0.01 * sleeps)

    run(main())
    assert signal.set_wakeup_fd(-1) == wakeup[1].fileno()


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_descriptor_removed_meanwhile_stays_removed(run, wakeup, sleeps):
    async def main():
        signal.set_wakeup_fd(-1)
        await asyncio.sleep(0.01 * sleeps)

    signal.set_wakeup_fd(wakeup[1].fileno())
    run(main())
    assert signal.set_wakeup_fd(-1) == -1


needs_a_look_before_each_sleep = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="to look costs two system calls a sleep there"
)


@needs_a_look_before_each_sleep
def test_a_descriptor_set_meanwhile_is_told_of_signals(run, wakeup, python_handler):
    async def main():
        signal.set_wakeup_fd(wakeup[1].fileno())
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
        await until(lambda: python_handler)
        await asyncio.sleep(0.01)

    run(main())
    assert wakeup[0].recv(10) == bytes([signal.SIGUSR1])


def ctrl_c_ends_a_sleep(loop, prepare):
    async def main():
        prepare()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        await asyncio.sleep(60 * PATIENCE)

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        started = loop.time()
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert loop.time() - started < 30 * PATIENCE
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        signal.signal(signal.SIGUSR1, before)


@needs_a_look_before_each_sleep
def test_a_signal_ends_a_sleep_though_the_program_has_set_a_descriptor(loop, wakeup):
    ctrl_c_ends_a_sleep(loop, lambda: signal.set_wakeup_fd(wakeup[1].fileno()))


def test_a_signal_ends_a_sleep_though_a_handler_was_refused(loop):
    def prepare():
        with pytest.raises(RuntimeError):
            loop.add_signal_handler(signal.SIGKILL, print)

    ctrl_c_ends_a_sleep(loop, prepare)


@pytest.mark.parametrize("closes", [False, True])
def test_a_signal_ends_a_sleep_though_another_loop_has_had_a_handler(new_loop, closes):
    other = new_loop()

    def prepare():
        other.add_signal_handler(signal.SIGUSR2, print)
        if closes:
            other.close()

    ctrl_c_ends_a_sleep(new_loop(), prepare)


def test_another_loop_is_told_of_signals_that_come_meanwhile(new_loop):
    other, loop = new_loop(), new_loop()

    async def main():
        other.add_signal_handler(signal.SIGUSR1, other.stop)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    late = other.call_later(5 * PATIENCE, other.stop)
    other.run_forever()
    assert other.time() < late.when()


def test_a_descriptor_closed_meanwhile_is_not_put_back(wakeup):
    """What is left is none, not a number that may be anybody's. asyncio has never taken it out."""
    read, write = os.pipe()
    os.set_blocking(write, False)

    async def main():
        os.close(write)

    signal.set_wakeup_fd(write)
    HOTLOOP.run(main())
    os.close(read)
    assert signal.set_wakeup_fd(-1) == -1

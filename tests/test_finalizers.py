"""Finalizers that run in the middle of a call and change what it works on.

Python 3.11 collects garbage in any allocation, later ones between two lines of Python only.
"""

import asyncio
import contextvars
import gc
import os
import socket
import sys

import pytest
from support import HOTLOOP, Contexts, turns

# Contexts, lists and tuples that are freed are kept to be used again, and then nothing is allocated.
CONTEXTS = 2000


class Cycle:
    """Garbage that calls a function when it is collected."""

    def __init__(self, function):
        self.itself = self
        self.function = function

    def __del__(self):
        self.function()


def collected_during(look, function, more=0):
    """What look() returns, in which garbage that calls function is collected at the first object made."""
    gc.collect()
    thresholds = gc.get_threshold()
    gc.disable()
    Cycle(function)
    _no_spare_tuples = [tuple([i] * n) for i in range(2000) for n in range(1, 4)]
    spare_lists = [[] for _ in range(50)]
    del spare_lists
    gc.set_threshold(gc.get_count()[0] + more if more else 1, 1000, 1000)
    try:
        gc.enable()
        return look()
    finally:
        gc.disable()
        gc.set_threshold(*thresholds)
        gc.enable()
        gc.collect()


@pytest.fixture
def no_spare_contexts():
    return [contextvars.Context() for _ in range(CONTEXTS)]


def new_function():
    return eval("lambda *args: None")


def add_callbacks(loop, callback=None):
    """Have done-callbacks in an empty context, which need no Handle, in the ready queue."""
    for _ in range(60):
        future = loop.create_future()
        empty = contextvars.Context()
        empty.run(future.add_done_callback, callback or new_function())
        future.set_result(None)


@pytest.mark.parametrize("more", range(3))
def test_callbacks_are_scheduled_while_the_ready_queue_is_looked_at(loop, no_spare_contexts, more):
    def call_soon():
        for _ in range(3000):
            loop.call_soon(print)

    add_callbacks(loop)
    shown = collected_during(lambda: loop._ready, call_soon, more)
    assert len(shown) in (60, 3060)
    for handle in loop._ready:
        handle.cancel()


def test_entries_run_while_the_ready_queue_is_looked_at(loop, no_spare_contexts):
    ran = []
    add_callbacks(loop, ran.append)
    collected_during(lambda: loop._ready, lambda: turns(loop, 1))
    turns(loop, 1)
    assert len(ran) == 60


def test_a_profiler_schedules_callbacks_while_the_ready_queue_is_looked_at(loop):
    """In debug mode a Handle's stack is taken by Python code, on every Python."""

    def profile(*args):
        if not ran:
            ran.append(True)
            loop.set_debug(False)
            for _ in range(3000):
                loop.call_soon(int)
            loop.set_debug(True)

    ran = []
    add_callbacks(loop)
    loop.set_debug(True)
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        shown = list(loop._ready)
    finally:
        sys.setprofile(before)
        loop.set_debug(False)
    assert len(shown) in (60, 3060)
    turns(loop, 1)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("more", range(3))
def test_a_handle_is_cancelled_while_its_arguments_are_looked_at(loop, count, more):
    arguments = ["argument"] * count
    handle = loop.call_soon(print, *arguments)
    shown = collected_during(lambda: handle._args, handle.cancel, more)
    assert shown in (None, (), tuple(arguments))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_handle_is_cancelled_while_its_failure_is_reported(loop, count):
    """Or earlier, so that it does not fail."""
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    handle = loop.call_soon(lambda *args: 1 / 0, *["argument"] * count)
    collected_during(lambda: turns(loop, 1), handle.cancel)
    assert [type(context["exception"]) for context in contexts] in ([], [ZeroDivisionError])


def test_a_handle_is_cancelled_while_its_context_is_made(loop, no_spare_contexts, logged):
    """In the loop's run or out of it. asyncio then calls None, and says so."""
    ran = []
    empty = contextvars.Context()
    handles = [empty.run(loop.call_soon, ran.append, n) for n in range(2)]
    collected_during(handles[0]._run, handles[0].cancel)
    collected_during(lambda: turns(loop, 1), handles[1].cancel)
    assert len(ran) <= 2


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("more", range(12))
def test_a_future_is_cancelled_while_its_callbacks_are_looked_at(no_spare_contexts, count, more):
    """Stock asyncio crashes here, on 3.11."""
    loop = HOTLOOP.new_event_loop()
    future = loop.create_future()
    for _ in range(count):
        contextvars.Context().run(future.add_done_callback, new_function())
    shown = collected_during(lambda: future._callbacks, future.cancel, more)
    assert shown is None or len(shown) <= count
    turns(loop, 1)
    loop.close()


@pytest.mark.parametrize("way", ["cancel", "add"])
@pytest.mark.parametrize("more", range(6))
def test_a_future_changes_while_a_callback_is_added(way, more):
    """Stock asyncio forgets a callback here, on 3.11."""

    def change():
        if way == "cancel":
            future.cancel()
        else:
            future.add_done_callback(ran.append)

    ran = []
    loop = HOTLOOP.new_event_loop()
    empty = contextvars.Context()
    future = loop.create_future()
    future.add_done_callback(ran.append)
    collected_during(lambda: empty.run(future.add_done_callback, ran.append), change, more)
    future.cancel()
    turns(loop, 1)
    assert len(ran) == (2 if way == "cancel" else 3)
    loop.close()


@pytest.mark.parametrize("kind", ["handle", "task"])
def test_a_context_is_asked_for_while_it_is_made(loop, impl, no_spare_contexts, kind):
    """Whoever asks gets the same one."""

    async def main():
        pass

    empty = contextvars.Context()
    if kind == "handle":
        handle = empty.run(loop.call_soon, print)
        handle.cancel()
        look = lambda: handle._context  # noqa: E731
    elif sys.version_info >= (3, 12):
        look = empty.run(loop.create_task, main()).get_context
    else:
        pytest.skip("nobody can ask for a task's context")
    seen = []
    asked = collected_during(look, lambda: seen.append(look()))
    assert seen == [asked] and look() is asked
    turns(loop, 1)


@pytest.mark.parametrize("more", range(8))
def test_a_datagram_transport_is_aborted_while_its_queue_is_looked_at(
    no_spare_contexts, tmp_path, more
):
    path = os.fspath(tmp_path / "nobody reads")

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=path, family=socket.AF_UNIX
        )
        while transport.get_write_buffer_size() < 5000:
            transport.sendto(bytes(500))
        shown = collected_during(lambda: transport._buffer, transport.abort, more)
        assert all(item == shown[0] and item[0] == bytes(500) for item in shown)
        await asyncio.sleep(0)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(path)
        HOTLOOP.run(main())


@pytest.mark.parametrize("more", range(8))
def test_a_reader_is_removed_while_it_is_looked_at(no_spare_contexts, more):
    loop = HOTLOOP.new_event_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        callback = new_function()
        loop.add_reader(ours, callback)
        shown = collected_during(
            lambda: loop._watched(ours), lambda: loop.remove_reader(ours), more
        )
        assert shown[1] is None and (shown[0] is None or shown[0]._loop is loop)
        loop.close()

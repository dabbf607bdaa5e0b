"""add_reader and add_writer: when they call, over pipes, sockets and odd descriptors."""

import collections
import os
import resource
import socket
import sys

import pytest
from support import Contexts
from watching import run_until_stopped

# -- reading -----------------------------------------------------------------


def test_a_reader_is_called_when_there_is_something_to_read(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(
        left, lambda *args: (seen.append((args, left.recv(10))), loop.stop()), 1, "two"
    )
    loop.call_later(0.005, right.send, b"hello")
    run_until_stopped(loop)
    assert seen == [((1, "two"), b"hello")]
    loop.remove_reader(left)


def test_a_reader_is_not_called_without_need(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, seen.append, 1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == []
    loop.remove_reader(left)


def test_a_reader_is_called_again_while_something_is_left(loop, pair):
    """Readiness is level-triggered."""
    left, right = pair
    seen = []

    def read_one():
        seen.append(left.recv(1))
        if len(seen) == 5:
            loop.stop()

    loop.add_reader(left, read_one)
    right.send(b"abcde")
    run_until_stopped(loop)
    assert b"".join(seen) == b"abcde"
    loop.remove_reader(left)


def test_a_reader_is_called_at_end_of_file(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, lambda: (seen.append(left.recv(10)), loop.stop()))
    loop.call_later(0.005, right.close)
    run_until_stopped(loop)
    assert seen == [b""]
    loop.remove_reader(left)


def test_a_reader_on_a_pipe_sees_data_and_the_end(loop, pipe):
    read, write = pipe
    seen = []

    def reader():
        seen.append(os.read(read, 10))
        if not seen[-1]:
            loop.remove_reader(read)
            loop.stop()

    loop.add_reader(read, reader)
    loop.call_later(0.005, os.write, write, b"data")
    loop.call_later(0.01, os.close, write)
    run_until_stopped(loop)
    assert seen == [b"data", b""]


def test_two_readers_do_not_meet(loop):
    pairs = [socket.socketpair() for _ in range(20)]
    seen = []

    def reader(number):
        seen.append((number, pairs[number][0].recv(10)))
        if len(seen) == 20:
            loop.stop()

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, reader, number)
    for number in reversed(range(20)):
        pairs[number][1].send(str(number).encode())
    run_until_stopped(loop)
    assert sorted(seen) == [(number, str(number).encode()) for number in range(20)]
    for left, right in pairs:
        assert loop.remove_reader(left)
        left.close()
        right.close()


# -- writing -----------------------------------------------------------------


def test_a_writer_is_called_while_there_is_room(loop, pair):
    left, _ = pair
    seen = []

    def writer(text):
        seen.append(text)
        if len(seen) == 3:
            loop.stop()

    loop.add_writer(left, writer, "room")
    run_until_stopped(loop)
    assert seen == ["room"] * 3
    assert loop.remove_writer(left)


def test_a_writer_waits_until_there_is_room(loop, pair):
    left, right = pair
    try:
        while True:
            left.send(b"x" * 65536)
    except BlockingIOError:
        pass
    log = []

    def drain():
        log.append("drain")
        try:
            while right.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    loop.add_writer(left, lambda: (log.append("room"), loop.stop()))
    loop.call_later(0.01, drain)
    run_until_stopped(loop)
    assert log[:2] == ["drain", "room"]
    loop.remove_writer(left)


def test_reader_and_writer_on_one_descriptor(loop, pair):
    left, right = pair
    log = []

    def reader():
        log.append(left.recv(10))
        loop.remove_reader(left)
        loop.add_writer(left, writer)

    def writer():
        left.send(b"answer")
        loop.remove_writer(left)
        loop.stop()

    loop.add_reader(left, reader)
    right.send(b"question")
    run_until_stopped(loop)
    assert log == [b"question"]
    assert right.recv(10) == b"answer"


def test_both_directions_ready_at_once_call_both(loop, pair):
    left, right = pair
    log = []

    def note(what):
        if what not in log:
            log.append(what)
        if len(log) == 2:
            loop.stop()

    right.send(b"x")
    loop.add_reader(left, note, "reader")
    loop.add_writer(left, note, "writer")
    run_until_stopped(loop)
    assert sorted(log) == ["reader", "writer"]
    assert loop.remove_reader(left) and loop.remove_writer(left)


def test_a_reader_may_remove_the_writer_that_is_ready_too(loop, pair):
    left, right = pair
    log = []
    right.send(b"x")
    loop.add_reader(
        left, lambda: (log.append("reader"), loop.remove_reader(left), loop.remove_writer(left))
    )
    loop.add_writer(
        left, lambda: (log.append("writer"), loop.remove_reader(left), loop.remove_writer(left))
    )
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert len(log) == 1


def test_removing_one_direction_leaves_the_other(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, lambda: (seen.append(left.recv(10)), loop.stop()))
    loop.add_writer(left, seen.append, "writer")
    assert loop.remove_writer(left)
    right.send(b"data")
    run_until_stopped(loop)
    assert seen == [b"data"]
    assert loop.remove_reader(left)


def test_the_peer_hanging_up_wakes_a_writer(loop, pipe):
    read, write = pipe
    try:
        os.set_blocking(write, False)
        while True:
            os.write(write, b"x" * 65536)
    except BlockingIOError:
        pass
    loop.add_writer(write, loop.stop)
    loop.call_later(0.005, os.close, read)
    run_until_stopped(loop)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    loop.remove_writer(write)


# -- contexts, odd descriptors -----------------------------------------------


def test_readers_run_in_the_context_they_were_added_in(loop, pair):
    import contextvars

    variable = contextvars.ContextVar("variable", default=None)
    left, right = pair
    seen = []
    token = variable.set("of the adder")
    loop.add_reader(left, lambda: (seen.append(variable.get()), loop.stop()))
    variable.reset(token)
    right.send(b"x")
    run_until_stopped(loop)
    loop.remove_reader(left)
    assert seen == ["of the adder"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="eventfd is Linux's")
def test_an_eventfd_a_timerfd_and_an_epoll_can_be_watched(loop):
    import select

    eventfd = os.eventfd(0)
    poll = select.epoll()
    poll.register(eventfd, select.EPOLLIN)
    seen = set()

    def note(name):
        seen.add(name)
        if len(seen) == 2:
            loop.stop()

    loop.add_reader(eventfd, note, "eventfd")
    loop.add_reader(poll, note, "epoll")
    loop.call_later(0.002, os.eventfd_write, eventfd, 1)
    run_until_stopped(loop)
    loop.remove_reader(eventfd)
    loop.remove_reader(poll)
    poll.close()
    os.close(eventfd)


# -- many at once -------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True], ids=["nonblocking", "blocking"])
def test_more_are_ready_than_epoll_tells_of_at_a_time(loop, blocking):
    """libuv asks again while it is told of 1,024; a second call would find nothing, or wait for ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    calls = collections.Counter()
    told = Contexts()
    loop.set_exception_handler(told)
    pairs = [socket.socketpair() for _ in range(1200)]
    try:
        for index, (ours, peer) in enumerate(pairs):
            ours.setblocking(blocking)
            loop.add_reader(ours, lambda index=index, ours=ours: calls.update([(index, ours.recv(10))]))
            peer.send(b"x")
        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        assert told == [] and calls == {(index, b"x"): 1 for index in range(1200)}
        pairs[7][1].send(b"y")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert calls[7, b"y"] == 1  # they are still watched
    finally:
        for ours, peer in pairs:
            loop.remove_reader(ours)
            ours.close()
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

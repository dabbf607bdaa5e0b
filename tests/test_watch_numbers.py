"""Watched descriptors that are added again, removed, closed, and their numbers used again."""

import os
import socket
import time
import weakref

import pytest
from support import collect, outcome, same_on_both, turns
from watching import WithFileno, run_until_stopped


def test_adding_again_replaces_the_callback(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, seen.append, "old")
    loop.add_reader(left, lambda: (seen.append("new"), loop.stop()))
    right.send(b"x")
    run_until_stopped(loop)
    assert set(seen) == {"new"}
    assert loop.remove_reader(left)
    assert not loop.remove_reader(left)


def test_the_replaced_callback_is_released(loop, pair):
    class Callback:
        def __call__(self):
            pass

    callbacks = [Callback(), Callback()]
    gone = [weakref.ref(callback) for callback in callbacks]
    loop.add_reader(pair[0], callbacks[0])
    loop.add_reader(pair[0], callbacks[1])
    callbacks.clear()
    collect()
    assert gone[0]() is None and gone[1]() is not None
    loop.remove_reader(pair[0])
    collect()
    assert gone[1]() is None


def test_a_removed_reader_is_not_called_even_if_it_was_ready(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, seen.append, "removed")
    right.send(b"x")
    loop.call_soon(loop.remove_reader, left)
    turns(loop, 5)
    assert len(seen) <= 1  # asyncio may have seen it ready in the turn before
    count = len(seen)
    turns(loop, 5)
    assert len(seen) == count


def test_removing_and_adding_in_the_callback(loop, pair):
    left, right = pair
    seen = []

    def first():
        seen.append("first")
        loop.remove_reader(left)
        loop.add_reader(left, second)

    def second():
        seen.append("second")
        left.recv(10)
        loop.stop()

    loop.add_reader(left, first)
    right.send(b"x")
    run_until_stopped(loop)
    assert seen == ["first", "second"]
    loop.remove_reader(left)


def test_a_reader_may_remove_and_close_another_that_is_ready_too(loop):
    pairs = [socket.socketpair() for _ in range(10)]
    called = []

    def reader(number):
        called.append(number)
        for other, (left, right) in enumerate(pairs):
            if other != number and loop.remove_reader(left):
                left.close()
        loop.remove_reader(pairs[number][0])

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, reader, number)
        right.send(b"x")
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert len(called) == 1
    for left, right in pairs:
        left.close()
        right.close()


def test_a_number_used_again_after_a_proper_removal_is_watched_anew(loop):
    for _ in range(20):
        left, right = socket.socketpair()
        number = left.fileno()
        right.send(b"x")
        loop.add_reader(left, loop.stop)
        run_until_stopped(loop)
        assert loop.remove_reader(left)
        left.close()
        again, other = socket.socketpair()
        assert number in (again.fileno(), other.fileno())
        fresh = again if again.fileno() == number else other
        called = []
        loop.add_reader(fresh, called.append, 1)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        assert called == []  # nothing of the old descriptor's readiness is left
        loop.remove_reader(fresh)
        for sock in (right, again, other):
            sock.close()


def test_a_descriptor_closed_while_watched_can_still_be_removed(loop, pipe):
    read, write = pipe
    loop.add_reader(read, print)
    turns(loop, 1)
    os.close(read)
    turns(loop, 2)
    assert loop.remove_reader(read) is True
    assert loop.remove_reader(read) is False


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_a_file_closed_while_watched_is_known_by_itself(loop, side):
    sock, peer = socket.socketpair()
    with peer:
        getattr(loop, f"add_{side}")(sock, print)
        sock.close()
        remove = getattr(loop, f"remove_{side}")
        assert remove(sock) is True
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            remove(sock)


class RaisingFileno:
    def __init__(self, exception):
        self.exception = exception

    def fileno(self):
        raise self.exception


def test_what_fileno_says_of_a_file_is_taken_as_by_asyncio():
    files = [WithFileno(value) for value in (-1, "x", "-5", None, -7.5)]
    files += [RaisingFileno(error) for error in (OSError(2), TypeError(3))]

    def scenario(impl):
        loop = impl.new_event_loop()
        results = []
        for file in [*files, object, None, -3]:
            for method in (loop._add_reader, loop._add_writer):
                results.append(outcome(method, file, print))
            for method in (loop._remove_reader, loop._remove_writer):
                results.append(outcome(method, file))
        loop.close()
        return results

    same_on_both(scenario)


def test_a_watched_file_is_kept_until_its_removal(loop, pair):
    left, _ = pair
    sock = socket.fromfd(left.fileno(), left.family, left.type)
    fileno, gone = sock.fileno(), weakref.ref(sock)
    loop.add_reader(sock, print)
    loop.add_writer(sock, print)
    del sock
    collect()
    assert loop.remove_reader(fileno) is True
    assert gone() is not None
    with pytest.warns(ResourceWarning, match="unclosed"):
        assert loop.remove_writer(fileno) is True
        collect()
    assert gone() is None


def test_a_number_closed_while_watched_and_used_again_can_be_watched(loop):
    """The program forgot remove_reader(): asyncio and its users run into this; the loop must not break."""
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(number, print, "never called")
    turns(loop, 1)
    left.close()
    again, other = socket.socketpair()
    fresh, peer = (again, other) if again.fileno() == number else (other, again)
    assert fresh.fileno() == number
    loop.remove_reader(number)
    seen = []
    loop.add_reader(fresh, lambda: (seen.append(fresh.recv(10)), loop.stop()))
    peer.send(b"fresh")
    run_until_stopped(loop)
    assert seen == [b"fresh"]
    loop.remove_reader(fresh)
    for sock in (right, again, other):
        sock.close()


def test_a_loop_can_be_closed_while_descriptors_are_watched(loop, pair, pipe):
    loop.add_reader(pair[0], print)
    loop.add_writer(pair[1], print)
    loop.add_reader(pipe[0], print)
    loop.close()
    pair[0].send(b"still open")
    assert pair[1].recv(20) == b"still open"
    os.write(pipe[1], b"x")
    assert os.read(pipe[0], 1) == b"x"


def test_closing_the_loop_releases_the_callbacks(loop, pair):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    loop.add_reader(pair[0], callback)
    loop.add_writer(pair[1], callback)
    del callback
    loop.close()
    collect()
    assert gone() is None


def test_one_descriptor_in_two_loops(new_loop, pair):
    first, second = new_loop(), new_loop()
    left, right = pair
    seen = []
    right.send(b"x")
    for name, loop in (("first", first), ("second", second)):
        loop.add_reader(left, lambda name=name, loop=loop: (seen.append(name), loop.stop()))
    run_until_stopped(first)
    run_until_stopped(second)
    assert seen == ["first", "second"]
    assert first.remove_reader(left) and second.remove_reader(left)


def test_duplicated_descriptors_are_watched_apart(loop, pair):
    left, right = pair
    duplicate = left.dup()
    seen = set()

    def note(name):
        seen.add(name)
        if len(seen) == 2:
            loop.stop()

    with duplicate:
        loop.add_reader(left, note, "left")
        loop.add_reader(duplicate, note, "duplicate")
        right.send(b"x")
        run_until_stopped(loop)
        assert loop.remove_reader(duplicate)
        assert loop.remove_reader(left)


def test_the_blocking_mode_of_a_descriptor_is_left_alone(loop, pipe, pair):
    """uvloop#712, #97: stdin and stdout must not become non-blocking."""
    read, write = pipe
    left, _ = pair
    left.setblocking(True)
    seen = []
    for fd in (read, write, left.fileno()):
        assert os.get_blocking(fd)
        loop.add_reader(fd, seen.append, fd) if fd != write else loop.add_writer(
            fd, seen.append, fd
        )
        turns(loop, 2)
        assert os.get_blocking(fd)
        loop.remove_reader(fd) if fd != write else loop.remove_writer(fd)
        turns(loop, 1)
        assert os.get_blocking(fd)
    assert write in seen


def test_a_reader_whose_handle_was_cancelled_is_removed(loop, pair):
    left, right = pair
    right.send(b"x")
    seen = []
    loop._add_reader(left, seen.append, "reader").cancel()
    loop.add_writer(left, seen.append, "writer")
    turns(loop, 3)
    assert not loop.remove_reader(left)
    assert loop.remove_writer(left)
    assert set(seen) == {"writer"}


def test_removal_takes_effect_at_once(loop, pair):
    """uvloop#61: a removal that lags lets the loop spin on a ready descriptor."""
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, lambda: loop.remove_reader(left))
    turns(loop, 5)
    before = time.process_time()
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert time.process_time() - before < 0.08

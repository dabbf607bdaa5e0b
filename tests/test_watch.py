"""add_reader, add_writer and their removal: over pipes, sockets, odd descriptors and numbers used again."""

import asyncio
import errno
import os
import socket
import sys
import tempfile
import time
import weakref

import pytest
from support import Contexts, collect, outcome, same_on_both, turns, until


@pytest.fixture
def pair():
    """Two connected stream sockets, non-blocking."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@pytest.fixture
def pipe():
    """The two ends of a pipe, as descriptors."""
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            pass


def run_until_stopped(loop, limit=20):
    timer = loop.call_later(limit, lambda: pytest.fail("nothing stopped the loop"))
    loop.run_forever()
    timer.cancel()


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


# -- results and errors ------------------------------------------------------


def test_what_the_methods_return():
    def scenario(impl):
        loop = impl.new_event_loop()
        left, right = socket.socketpair()
        with left, right:
            results = [
                loop.remove_reader(left),
                loop.remove_writer(left),
                loop.add_reader(left, print),
                loop.add_reader(left, print),
                loop.remove_writer(left),
                loop.remove_reader(left),
                loop.remove_reader(left),
                loop.add_writer(left, print),
                loop.remove_reader(left),
                loop.remove_writer(left),
                loop.remove_writer(left),
            ]
        loop.close()
        return results

    assert same_on_both(scenario) == [
        False,
        False,
        None,
        None,
        False,
        True,
        False,
        None,
        False,
        True,
        False,
    ]


class WithFileno:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


class FailingFileno:
    def fileno(self):
        raise LookupError("no descriptor")


BAD_DESCRIPTORS = {
    "minus one": lambda: -1,
    "a number never opened": lambda: 54321,
    "a string": lambda: "text",
    "None": lambda: None,
    "a float": lambda: 1.5,
    "an object": object,
    "fileno minus one": lambda: WithFileno(-1),
    "fileno a string": lambda: WithFileno("text"),
    "fileno fails": FailingFileno,
    "a closed socket": lambda: closed_socket(),
}


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


@pytest.mark.parametrize("make", BAD_DESCRIPTORS.values(), ids=BAD_DESCRIPTORS)
@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_bad_descriptors_are_refused_as_by_asyncio(make, method):
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            arguments = (print,) if method.startswith("add") else ()
            return outcome(getattr(loop, method), make(), *arguments)[:2]
        finally:
            loop.close()

    same_on_both(scenario)


def test_a_descriptor_closed_already_is_refused(loop, pipe):
    read, _ = pipe
    os.close(read)
    with pytest.raises(OSError) as caught:
        loop.add_reader(read, print)
    assert caught.value.errno == errno.EBADF


def test_a_regular_file_is_refused_by_both(loop):
    """epoll says EPERM: a file is always ready."""

    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            with tempfile.TemporaryFile() as file:
                results = []
                for method in (loop.add_reader, loop.add_writer):
                    try:
                        method(file, print)
                    except OSError as exc:
                        results.append((type(exc), exc.errno))
                return results
        finally:
            loop.close()

    assert same_on_both(scenario) == [(PermissionError, errno.EPERM)] * 2


def test_a_refused_descriptor_leaves_nothing_behind(loop):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, callback)
        assert loop.remove_reader(file) is False
    del callback
    collect()
    assert gone() is None
    turns(loop, 3)


@pytest.mark.parametrize("arguments", [(), (0,)], ids=["none", "no callback"])
def test_missing_arguments_are_type_errors(loop, arguments):
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(TypeError):
            method(*arguments)


def test_any_object_with_fileno_will_do(loop, pair):
    left, right = pair
    wrapped = WithFileno(left.fileno())
    right.send(b"x")
    loop.add_reader(wrapped, loop.stop)
    run_until_stopped(loop)
    assert loop.remove_reader(left.fileno())
    assert not loop.remove_reader(wrapped)


# -- registering again, closing, using numbers again -------------------------


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
    """Lessons row 27 (uvloop#712, #97): stdin and stdout must not become non-blocking."""
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


def test_removal_takes_effect_at_once(loop, pair):
    """Lessons row 27 (uvloop#61): a removal that lags lets the loop spin on a ready descriptor."""
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, lambda: loop.remove_reader(left))
    turns(loop, 5)
    before = time.process_time()
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert time.process_time() - before < 0.08


# -- errors in callbacks, transports -----------------------------------------


def test_a_failing_reader_is_reported_and_stays(loop, pair):
    left, right = pair
    contexts = Contexts()
    loop.set_exception_handler(contexts)

    def reader():
        left.recv(1)
        if len(contexts) == 2:
            loop.stop()
        raise LookupError("in the reader")

    loop.add_reader(left, reader)
    right.send(b"abc")
    run_until_stopped(loop)
    assert [type(context["exception"]) for context in contexts] == [LookupError] * 3
    assert isinstance(contexts[0]["handle"], asyncio.Handle)
    assert loop.remove_reader(left)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_of_a_reader_leaves_the_loop(loop, pair, exception):
    left, right = pair

    def reader():
        left.recv(1)
        raise exception("out")

    loop.add_reader(left, reader)
    right.send(b"x")
    with pytest.raises(exception, match="out"):
        loop.run_forever()
    turns(loop, 2)
    assert loop.remove_reader(left)


def test_the_descriptor_of_a_transport_is_refused(loop, run):
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = socket.socketpair()
            left.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            with right:
                number = transport.get_extra_info("socket").fileno()
                results = []
                for method, arguments in (
                    (loop.add_reader, (print,)),
                    (loop.add_writer, (print,)),
                    (loop.remove_reader, ()),
                    (loop.remove_writer, ()),
                ):
                    result = outcome(method, number, *arguments)
                    results.append((result[1], result[2].split(" is used by ")[0].split()[0]))
                transport.close()
                await asyncio.sleep(0)
                return results

        return impl.run(main())

    assert {error for error, _ in same_on_both(scenario)} == {RuntimeError}


def test_a_socket_free_again_after_its_transport_closed_can_be_watched(loop, run):
    async def main():
        await asyncio.sleep(0.001)  # what the loop opens when first needed is open by now
        left, right = socket.socketpair()
        left.setblocking(False)
        number = left.fileno()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        transport.close()
        await until(lambda: left.fileno() == -1)
        right.close()
        again, other = socket.socketpair()
        assert number in (again.fileno(), other.fileno())
        future = loop.create_future()
        fresh, peer = (again, other) if again.fileno() == number else (other, again)
        loop.add_reader(fresh, lambda: future.done() or future.set_result(fresh.recv(10)))
        peer.send(b"watched")
        assert await asyncio.wait_for(future, 20) == b"watched"
        loop.remove_reader(fresh)
        again.close()
        other.close()

    run(main())


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

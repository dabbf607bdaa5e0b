"""add_reader and its relatives: what they return, what they refuse, callbacks that fail."""

import asyncio
import errno
import os
import socket
import tempfile
import weakref

import pytest
from support import Contexts, collect, outcome, same_on_both, timer_opened, turns, until
from watching import WithFileno, run_until_stopped

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
        await timer_opened()
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

"""sock_recv() and its relatives: results, errors, waits, cancellation, descriptors used again."""

import array
import asyncio
import contextlib
import errno
import gc
import inspect
import io
import os
import random
import socket
import struct
import sys
import time
import warnings
import weakref
from unittest import mock

import hotloop
import pytest
from support import IMPLEMENTATIONS, collect, outcome, same_on_both, until


def nonblocking(*sockets):
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def stream_pair():
    return nonblocking(*socket.socketpair())


def datagram_pair():
    left, right = nonblocking(
        socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    )
    left.bind(("127.0.0.1", 0))
    right.bind(("127.0.0.1", 0))
    return left, right


@pytest.fixture
def pair():
    left, right = stream_pair()
    with left, right:
        yield left, right


@pytest.fixture
def datagrams():
    left, right = datagram_pair()
    with left, right:
        yield left, right


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def fill(sock):
    """Send until nothing more goes in; return how much did."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    return sent


def drain(sock, size):
    while size > 0:
        with contextlib.suppress(BlockingIOError):
            size -= len(sock.recv(min(size, 1 << 20)))


def watched(loop, sock):
    """Does anything wait for the socket?"""
    return (
        any(loop._watched(sock))
        if isinstance(loop, hotloop.EventLoop)
        else is_selected(loop, sock)
    )


def is_selected(loop, sock):
    return sock.fileno() in loop._selector.get_map()


async def waiting(loop, coro):
    """A task of the coroutine, that has come to where it waits."""
    task = loop.create_task(coro)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def wait_often(loop, sock, peer):
    """Wait for the socket so often that it stays registered with the kernel in between."""
    for i in range(8):
        task = await waiting(loop, loop.sock_recv(sock, 10))
        peer.send(b"%d" % i)
        assert await asyncio.wait_for(task, 5) == b"%d" % i


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- results -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 6, 1000, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_recv(loop, run, pair, size, early):
    left, right = pair

    async def main():
        if early:
            right.send(b"hello!")
            return await loop.sock_recv(left, size)
        task = await waiting(loop, loop.sock_recv(left, size))
        right.send(b"hello!")
        return await task

    assert run(main()) == b"hello!"[:size]
    assert not watched(loop, left)


def test_recv_of_nothing_takes_no_datagram(loop, run, datagrams):
    left, right = datagrams
    right.sendto(b"kept", left.getsockname())
    assert run(loop.sock_recv(left, 0)) == b""
    assert run(loop.sock_recv(left, 10)) == b"kept"


def test_recv_of_more_than_the_scratch_buffer(loop, run, pair):
    left, right = pair
    data = random.Random(1).randbytes(100_000)

    async def main():
        sending = loop.create_task(loop.sock_sendall(right, data))
        received = b""
        while len(received) < len(data):
            received += await loop.sock_recv(left, 1 << 20)
        await sending
        return received

    assert run(main()) == data


def test_recv_at_the_end_of_the_stream(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        right.shutdown(socket.SHUT_WR)
        return await task, await loop.sock_recv(left, 10)

    assert run(main()) == (b"", b"")


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        lambda size: memoryview(bytearray(size)),
        lambda size: array.array("b", bytes(size)),
    ],
    ids=["bytearray", "memoryview", "array"],
)
def test_recv_into(loop, run, pair, make, early):
    left, right = pair
    buffer = make(8)

    async def main():
        if early:
            right.send(b"hello")
            return await loop.sock_recv_into(left, buffer)
        task = await waiting(loop, loop.sock_recv_into(left, buffer))
        right.send(b"hello")
        return await task

    assert run(main()) == 5
    assert bytes(buffer) == b"hello\0\0\0"


def test_recv_into_an_empty_buffer(loop, run, pair):
    assert run(loop.sock_recv_into(pair[0], bytearray())) == 0


def test_recv_into_a_buffer_that_shrinks_meanwhile(loop, run, pair):
    left, right = pair

    async def main():
        buffer = bytearray(10)
        task = await waiting(loop, loop.sock_recv_into(left, buffer))
        del buffer[3:]
        right.send(b"hello")
        return await task, buffer

    assert run(main()) == (3, b"hel")


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_datagrams(loop, run, datagrams, early):
    left, right = datagrams
    buffer = bytearray(20)

    async def receive(coro):
        task = loop.create_task(coro)
        if not early:
            await asyncio.sleep(0)
        assert await loop.sock_sendto(right, b"datagram", left.getsockname()) == 8
        return await task

    async def main():
        address = right.getsockname()
        assert await receive(loop.sock_recvfrom(left, 20)) == (b"datagram", address)
        assert await receive(loop.sock_recvfrom(left, 4)) == (b"data", address)
        assert await receive(loop.sock_recvfrom_into(left, buffer)) == (8, address)
        assert await receive(loop.sock_recvfrom_into(left, buffer, 4)) == (4, address)
        assert await receive(loop.sock_recvfrom_into(left, buffer, nbytes=5)) == (5, address)
        assert await receive(loop.sock_recv(left, 20)) == b"datagram"

    run(main())
    assert buffer[:8] == b"datagram"


def test_sendto_waits_for_room(loop, run, tmp_path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        nonblocking(receiver, sender)
        path = str(tmp_path / "receiver")
        receiver.bind(path)

        async def main():
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.sendto(b"%d" % sent, path)
                    sent += 1
            task = await waiting(loop, loop.sock_sendto(sender, b"last", path))
            received = [await loop.sock_recv(receiver, 10) for _ in range(sent)]
            return await task, received == [b"%d" % i for i in range(sent)]

        assert run(main()) == (4, True)
        assert run(loop.sock_recv(receiver, 10)) == b"last"


KINDS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"x" + data)[1:],
    "subclass": type("Data", (bytes,), {}),
    "array": lambda data: array.array("b", data),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_001])
def test_sendall(loop, run, pair, kind, size):
    left, right = pair
    data = random.Random(size).randbytes(size)

    async def main():
        sending = loop.create_task(loop.sock_sendall(right, KINDS[kind](data)))
        received = []
        while sum(map(len, received)) < size:
            received.append(await loop.sock_recv(left, 65536))
        assert await sending is None
        return b"".join(received)

    assert run(main()) == data


def test_what_is_sent_cannot_be_resized_meanwhile(loop, run, pair):
    left, right = pair
    data = bytearray(5_000_000)

    async def main():
        task = await waiting(loop, loop.sock_sendall(right, data))
        with pytest.raises(BufferError):
            data.clear()
        await cancel(task)
        await asyncio.sleep(0)
        data.clear()

    run(main())


def test_what_is_sent_is_let_go_of_afterwards(loop, run, pair):
    left, right = pair
    data = bytearray(5_000_000)

    async def main():
        task = await waiting(loop, loop.sock_sendall(right, data))
        received = 0
        while received < len(data):
            received += len(await loop.sock_recv(left, 1 << 20))
        await task
        data.clear()

    run(main())


# -- connections -------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_accept(loop, run, listening, early):
    async def main():
        with socket.socket() as client:
            if early:
                client.connect(listening.getsockname())
                conn, address = await loop.sock_accept(listening)
            else:
                task = await waiting(loop, loop.sock_accept(listening))
                client.connect(listening.getsockname())
                conn, address = await task
            with conn:
                assert type(conn) is socket.socket
                assert conn.gettimeout() == 0
                assert address == client.getsockname()
                assert conn.getpeername() == address

    run(main())
    assert not watched(loop, listening)


def test_connect(loop, run, listening):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            assert await loop.sock_connect(client, listening.getsockname()) is None
            assert client.getpeername() == listening.getsockname()
            assert not watched(loop, client)

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connect_to_names(loop, run, listening, host):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, (host, listening.getsockname()[1]))
            assert client.getpeername() == listening.getsockname()

    run(main())


def test_connect_to_a_path(loop, run, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        nonblocking(server, client)
        server.bind(path)
        server.listen()
        run(loop.sock_connect(client, path))
        conn, _ = run(loop.sock_accept(server))
        conn.close()


def test_a_refused_connection(run, impl):
    def scenario(implementation):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()

        async def main():
            with socket.socket() as client:
                client.setblocking(False)
                with pytest.raises(ConnectionRefusedError) as caught:
                    await asyncio.get_running_loop().sock_connect(client, address)
                text = str(caught.value).replace(str(address[1]), "PORT")
                return type(caught.value), caught.value.errno, text

        return implementation.run(main())

    assert same_on_both(scenario)[1:] == (
        errno.ECONNREFUSED,
        f"[Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', PORT)",
    )


def test_a_connection_that_takes_its_time(loop, run):
    """A full backlog keeps a connection waiting: it is cancelled and leaves nothing behind."""

    async def main():
        with socket.socket() as server, contextlib.ExitStack() as stack:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            tasks = []
            for _ in range(5):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                tasks.append(
                    (client, loop.create_task(loop.sock_connect(client, server.getsockname())))
                )
            await asyncio.sleep(0.02)
            pending = [(client, task) for client, task in tasks if not task.done()]
            assert pending
            for client, task in pending:
                assert watched(loop, client)
                await cancel(task)
                assert not watched(loop, client)

    run(main())


# -- errors ------------------------------------------------------------------


def calls(loop, sock):
    """Each method, with arguments that it can do nothing about."""
    return {
        "recv": lambda: loop.sock_recv(sock, 10),
        "recv_into": lambda: loop.sock_recv_into(sock, bytearray(10)),
        "recvfrom": lambda: loop.sock_recvfrom(sock, 10),
        "recvfrom_into": lambda: loop.sock_recvfrom_into(sock, bytearray(10)),
        "sendall": lambda: loop.sock_sendall(sock, b"data"),
        "sendto": lambda: loop.sock_sendto(sock, b"data", ("127.0.0.1", 9)),
        "accept": lambda: loop.sock_accept(sock),
        "connect": lambda: loop.sock_connect(sock, ("127.0.0.1", 9)),
    }


METHODS = list(calls(None, None))
READERS = ["recv", "recv_into", "recvfrom", "recvfrom_into", "accept"]


def outcomes(make_socket, methods=METHODS, debug=False, change=None):
    """What each method comes to on both implementations; they must agree."""

    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            results = []
            for method in methods:
                with make_socket() as sock:
                    if change is not None:
                        change(sock)
                    coro = calls(loop, sock)[method]()
                    try:
                        results.append(await asyncio.wait_for(coro, 5))
                    except Exception as exc:
                        results.append((type(exc), str(exc)))
            return results

        return implementation.run(main(), debug=debug)

    return dict(zip(methods, same_on_both(scenario), strict=True))


def closed_socket():
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    return sock


def test_a_closed_socket():
    assert set(outcomes(closed_socket).values()) == {(OSError, "[Errno 9] Bad file descriptor")}


def test_a_socket_that_is_not_connected():
    def make():
        sock = socket.socket()
        sock.setblocking(False)
        return sock

    outcomes(make, [method for method in METHODS if method not in ("sendto", "connect")])


class Fake(socket.socket):
    """Answers itself, as sockets of other libraries do."""

    def recv(self, *args):
        return b"faked"

    def recv_into(self, *args):
        return 5

    def recvfrom(self, *args):
        return b"faked", None

    def recvfrom_into(self, *args):
        return 5, None

    def send(self, data):
        return len(data)

    def sendto(self, data, *args):
        return len(data)

    def accept(self):
        return self, None

    def connect(self, address):
        pass


def test_subclasses_are_asked():
    found = outcomes(Fake, change=lambda sock: sock.setblocking(False), methods=METHODS[:6])
    assert found["recv"] == b"faked"
    assert found["sendall"] is None


@pytest.mark.parametrize("name", ["recv", "recv_into", "send", "recvfrom", "sendto", "accept"])
def test_methods_put_in_place_of_the_sockets_own(loop, run, pair, name):
    """Tests and tools do that; it lasts as long as it lasts."""
    left, _ = pair
    seen = []

    def fake(self, *args):
        seen.append(args)
        raise OSError("a fault, injected")

    method = "sendall" if name == "send" else name
    with mock.patch.object(socket.socket, name, fake), pytest.raises(OSError, match="injected"):
        run(calls(loop, left)[method]())
    assert len(seen) == 1
    if name == "recv":
        with pytest.raises(TimeoutError):
            run(asyncio.wait_for(loop.sock_recv(left, 1), 0.01))
    assert len(seen) == 1


def test_mocks_are_asked(loop, run):
    sock = mock.Mock()
    sock.recv.return_value = b"mocked"
    sock.send.return_value = 4
    assert run(loop.sock_recv(sock, 10)) == b"mocked"
    assert run(loop.sock_sendall(sock, b"data")) is None


def test_tls_sockets_are_refused(client_tls):
    def make():
        return client_tls.wrap_socket(
            socket.socket(), server_hostname="localhost", do_handshake_on_connect=False
        )

    found = outcomes(make, change=lambda sock: sock.setblocking(False))
    assert set(found.values()) == {(TypeError, "Socket cannot be of type SSLSocket")}


def test_debug_mode_refuses_blocking_sockets():
    found = outcomes(socket.socket, debug=True)
    assert set(found.values()) == {(ValueError, "the socket must be non-blocking")}


def test_debug_mode_and_sockets_with_a_timeout():
    found = outcomes(socket.socket, debug=True, change=lambda sock: sock.settimeout(1))
    assert set(found.values()) == {(ValueError, "the socket must be non-blocking")}


def test_a_timeout_of_the_socket_is_kept():
    """Outside debug mode asyncio lets such a socket block, and fail when its time is over."""

    def make():
        left, right = socket.socketpair()
        left.settimeout(0.01)
        make.others.append(right)
        return left

    make.others = []
    found = outcomes(make, ["recv", "recv_into", "recvfrom"])
    for sock in make.others:
        sock.close()
    assert set(found.values()) == {(TimeoutError, "timed out")}


BAD_ARGUMENTS = {
    "negative size": lambda loop, sock: loop.sock_recv(sock, -1),
    "huge size": lambda loop, sock: loop.sock_recv(sock, 1 << 100),
    "too large a size": lambda loop, sock: loop.sock_recv(sock, sys.maxsize),
    "float": lambda loop, sock: loop.sock_recv(sock, 1.5),
    "text": lambda loop, sock: loop.sock_recv(sock, "1"),
    "read-only": lambda loop, sock: loop.sock_recv_into(sock, b"1234"),
    "read-only view": lambda loop, sock: loop.sock_recv_into(sock, memoryview(b"1234")),
    "no buffer": lambda loop, sock: loop.sock_recv_into(sock, None),
    "released": lambda loop, sock: loop.sock_recv_into(sock, released()),
    "not contiguous": lambda loop, sock: loop.sock_recv_into(sock, memoryview(bytearray(10))[::2]),
    "negative bufsize": lambda loop, sock: loop.sock_recvfrom(sock, -1),
    "recvfrom_into no buffer": lambda loop, sock: loop.sock_recvfrom_into(sock, None),
    "recvfrom_into too much": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), 4),
    "send text": lambda loop, sock: loop.sock_sendall(sock, "text"),
    "send None": lambda loop, sock: loop.sock_sendall(sock, None),
    "send released": lambda loop, sock: loop.sock_sendall(sock, released()),
    "send stripes": lambda loop, sock: loop.sock_sendall(sock, memoryview(b"123456")[::2]),
    "bad address": lambda loop, sock: loop.sock_sendto(sock, b"data", 5),
    "bad connect": lambda loop, sock: loop.sock_connect(sock, 5),
    "no socket": lambda loop, sock: loop.sock_recv(None, 5),
    "a number": lambda loop, sock: loop.sock_recv(sock.fileno(), 5),
    "not listening": lambda loop, sock: loop.sock_accept(sock),
    "too few": lambda loop, sock: loop.sock_recv(sock),
    "too many": lambda loop, sock: loop.sock_sendall(sock, b"", 0),
    "by name": lambda loop, sock: loop.sock_recv(size=5, sock=sock),
}


def released():
    view = memoryview(bytearray(10))
    view.release()
    return view


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
def test_bad_arguments(what):
    def scenario(implementation):
        async def main():
            left, right = stream_pair()
            with left, right:
                result = outcome(BAD_ARGUMENTS[what], asyncio.get_running_loop(), left)
                if result[0] == "raised":
                    return ("at once", *result[1:2], result[2].split(".")[-1])
                try:
                    return await asyncio.wait_for(result[1], 1)
                except Exception as exc:
                    return type(exc), str(exc)

        return implementation.run(main())

    same_on_both(scenario)


def test_a_view_that_is_released_meanwhile(pair):
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = stream_pair()
            with left, right:
                view = memoryview(bytearray(10))
                task = await waiting(loop, loop.sock_recv_into(left, view))
                view.release()
                right.send(b"data")
                with pytest.raises(TypeError) as caught:
                    await task
                return str(caught.value)

        return implementation.run(main())

    same_on_both(scenario)


def test_a_reset_while_waiting(loop, run, listening):
    async def main():
        with socket.create_connection(listening.getsockname()) as client:
            conn, _ = await loop.sock_accept(listening)
            with conn:
                task = await waiting(loop, loop.sock_recv(conn, 10))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                with pytest.raises(ConnectionResetError):
                    await task
                with pytest.raises(BrokenPipeError):
                    await loop.sock_sendall(conn, b"data")
                assert await loop.sock_recv(conn, 10) == b""
                assert not watched(loop, conn)

    run(main())


def test_a_receiver_that_goes_while_we_send(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_sendall(left, bytes(5_000_000)))
        right.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task
        assert not watched(loop, left)

    run(main())


def test_an_unreachable_port_is_told_to_who_waits(loop, run):
    with socket.socket(type=socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)

        async def main():
            task = await waiting(loop, loop.sock_recvfrom(sock, 10))
            sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await task
            assert not watched(loop, sock)

        run(main())


# -- loops that are closed, sockets that are -----------------------------------


def test_on_a_closed_loop(impl, pair):
    left, right = pair
    loop = impl.new_event_loop()
    loop.close()

    def finish(coro):
        with pytest.raises(StopIteration) as caught:
            coro.send(None)
        return caught.value.value

    right.send(b"there")
    assert finish(loop.sock_recv(left, 10)) == b"there"
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(left, 10).send(None)


def test_a_loop_that_is_closed_while_one_waits(impl, pair):
    left, right = pair
    loop = impl.new_event_loop()
    coro = loop.sock_recv(left, 10)
    future = coro.send(None)
    assert asyncio.isfuture(future) and not future.done()
    loop.close()
    coro.close()
    del future, coro
    collect()


def test_a_socket_that_is_closed_while_one_waits(loop, run, pair):
    """As with any descriptor, nothing happens then; the wait can be cancelled."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        left.close()
        await asyncio.sleep(0.01)
        assert not task.done()
        await cancel(task)

    run(main())


@pytest.mark.parametrize("reader", ["recv", "recv_into", "recvfrom"])
def test_a_number_used_again_in_the_turn_in_which_it_was_ready(loop, run, reader):
    """What comes for another socket must not go to who waited on that number before."""

    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        others = []

        def swap():
            loop.remove_reader(woken)
            number = left.fileno()
            left.close()
            while number not in (sock.fileno() for sock in others):
                others.extend(stream_pair())
            for sock in others:
                sock.send(b"not yours")

        task = await waiting(loop, calls(loop, left)[reader]())
        waker, woken = stream_pair()
        loop.add_reader(woken, swap)
        # Both are found ready by one poll; in half of the orders swap() comes first.
        waker.send(b"x")
        right.send(b"mine")
        await until(lambda: others)
        await asyncio.sleep(0.01)
        if not task.done():
            await cancel(task)
        elif task.exception() is None:
            assert task.result() in (b"mine", 4, (b"mine", None), (b"mine", ""))
        else:
            assert task.exception().errno == errno.EBADF
        for sock in others:
            assert await loop.sock_recv(sock, 20) == b"not yours"
        for sock in (right, waker, woken, *others):
            sock.close()

    run(main())


def test_a_descriptor_used_again_while_armed(loop, run):
    """A wait that just ended may leave the number registered; another socket must not notice."""

    async def main():
        for i in range(50):
            left, right = stream_pair()
            with left, right:
                await wait_often(loop, left, right)
                if i % 2:
                    await wait_often(loop, right, left)

    run(main())


@pytest.mark.parametrize("how", ["reader", "transport", "pipe", "timer"])
def test_other_things_by_the_number_of_an_armed_descriptor(loop, run, how):
    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        number = left.fileno()
        left.close()
        if how == "timer":
            # Timers open a descriptor of the loop's own when first needed.
            for delay in (0.001, 0.002):
                await asyncio.sleep(delay)
            right.close()
            return
        other, peer = stream_pair() if how != "pipe" else os.pipe()
        if how == "pipe":
            assert number in (other, peer)
            event = asyncio.Event()
            loop.add_reader(other, event.set)
            os.write(peer, b"x")
            await asyncio.wait_for(event.wait(), 5)
            loop.remove_reader(other)
            os.close(other)
            os.close(peer)
        elif how == "reader":
            assert number in (other.fileno(), peer.fileno())
            for one, two in ((other, peer), (peer, other)):
                event = asyncio.Event()
                loop.add_reader(one, event.set)
                two.send(b"x")
                await asyncio.wait_for(event.wait(), 5)
                loop.remove_reader(one)
            other.close()
            peer.close()
        else:
            for one, two in ((other, peer), (peer, other)):
                assert number in (other.fileno(), peer.fileno())
                reader, writer = await asyncio.open_connection(sock=one.dup())
                writer.close()
            reader, writer = await asyncio.open_connection(sock=other)
            peer.send(b"hello\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"hello\n"
            writer.close()
            await writer.wait_closed()
            peer.close()
        right.close()

    run(main())


def test_sockets_and_transports_take_turns_on_a_number(loop, run):
    async def main():
        for i in range(20):
            left, right = stream_pair()
            if i % 2:
                await wait_often(loop, left, right)
                left.close()
            else:
                reader, writer = await asyncio.open_connection(sock=left)
                right.send(b"y\n")
                assert await asyncio.wait_for(reader.readline(), 5) == b"y\n"
                writer.close()
                await writer.wait_closed()
            right.close()

    run(main())


def test_a_socket_that_is_passed_on(loop, run):
    """Closed here, it lives on elsewhere: what comes for it there must not keep the loop busy."""

    async def main():
        left, right = stream_pair()
        with right:
            task = await waiting(loop, loop.sock_recv(left, 10))
            right.send(b"to whom?")
            await task
            with socket.fromfd(left.fileno(), left.family, left.type):
                left.close()
                right.send(b"there")
                used = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - used < 0.1

    run(main())


def test_data_that_comes_between_two_waits(loop, run, pair):
    left, right = pair

    async def main():
        for _ in range(3):
            await wait_often(loop, left, right)
            right.send(b"early")
            await asyncio.sleep(0.01)
            assert await loop.sock_recv(left, 10) == b"early"
            await asyncio.sleep(0.01)

    run(main())


def test_a_socket_is_freed_after_its_last_wait(loop, run):
    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        ref = weakref.ref(left)
        left.close()
        del left
        right.close()
        await asyncio.sleep(0)
        collect()
        assert ref() is None

    run(main())


# -- sharing a descriptor ------------------------------------------------------


def test_reading_and_writing_at_once(loop, run, pair):
    left, right = pair

    async def main():
        sending = await waiting(loop, loop.sock_sendall(left, bytes(3_000_000)))
        receiving = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await receiving == b"hello"
        assert not sending.done()
        received = 0
        while received < 3_000_000:
            received += len(await loop.sock_recv(right, 1 << 20))
        await sending

    run(main())
    assert not watched(loop, left)


def test_the_last_of_two_that_wait_gets_it(loop, run, pair):
    left, right = pair

    async def main():
        first = await waiting(loop, loop.sock_recv(left, 10))
        second = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await second == b"hello"
        right.send(b"again")
        await asyncio.sleep(0.01)
        assert not first.done()
        await cancel(first)
        assert await loop.sock_recv(left, 10) == b"again"

    run(main())


def test_the_first_of_two_is_cancelled(loop, run, pair):
    left, right = pair

    async def main():
        first = await waiting(loop, loop.sock_recv(left, 10))
        second = await waiting(loop, loop.sock_recv(left, 10))
        await cancel(first)
        right.send(b"hello")
        assert await asyncio.wait_for(second, 5) == b"hello"

    run(main())


def test_a_reader_takes_the_place_of_who_waits(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        seen = []
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        right.send(b"hello")
        await until(lambda: seen)
        assert seen == [b"hello"]
        assert not task.done()
        await cancel(task)
        right.send(b"again")
        await until(lambda: len(seen) == 2)
        assert loop.remove_reader(left)

    run(main())


def test_who_waits_takes_the_place_of_a_reader(loop, run, pair):
    left, right = pair

    async def main():
        seen = []
        loop.add_reader(left, seen.append, 1)
        task = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await task == b"hello"
        right.send(b"again")
        await asyncio.sleep(0.01)
        assert seen == []
        assert not loop.remove_reader(left)

    run(main())


def test_remove_reader_takes_who_waits_away(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        writing = await waiting(loop, loop.sock_sendall(left, bytes(5_000_000)))
        assert loop.remove_reader(left) is True
        assert loop.remove_reader(left) is False
        assert loop.remove_writer(left) is True
        right.send(b"hello")
        await asyncio.sleep(0.01)
        assert not task.done()
        await cancel(task)
        await cancel(writing)
        assert await loop.sock_recv(left, 10) == b"hello"

    run(main())


def test_a_writer_beside_who_reads(loop, run, pair):
    left, right = pair

    async def main():
        seen = []
        task = await waiting(loop, loop.sock_recv(left, 10))
        loop.add_writer(left, seen.append, 1)
        await until(lambda: seen)
        right.send(b"hello")
        assert await task == b"hello"
        count = len(seen)
        await until(lambda: len(seen) > count)
        loop.remove_writer(left)

    run(main())


def test_a_socket_that_a_transport_owns():
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = stream_pair()
            reader, writer = await asyncio.open_connection(sock=left)
            fill(left)
            texts = []
            for method in ("recv", "recv_into", "sendall", "recvfrom"):
                with pytest.raises(RuntimeError) as caught:
                    await calls(loop, left)[method]()
                texts.append(str(caught.value).split(" <")[0].replace(str(left.fileno()), "FD"))
            right.send(b"hello")
            assert await reader.read(10) == b"hello"
            writer.transport.abort()
            right.close()
            await asyncio.sleep(0.01)
            return texts

        return implementation.run(main())

    assert same_on_both(scenario) == ["File descriptor FD is used by transport"] * 4


# -- coroutines ----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_they_are_coroutines(loop, pair, method):
    left, right = pair
    assert inspect.iscoroutinefunction(getattr(loop, f"sock_{method}"))
    assert inspect.signature(getattr(loop, f"sock_{method}")) == inspect.signature(
        getattr(asyncio.SelectorEventLoop, f"sock_{method}").__get__(loop)
    )
    coro = calls(loop, left)[method]()
    assert asyncio.iscoroutine(coro) and inspect.iscoroutine(coro)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del coro
        gc.collect()
    assert [w.category for w in caught] == [RuntimeWarning]
    assert f"sock_{method}' was never awaited" in str(caught[0].message)


def test_nothing_happens_before_the_first_await(loop, run, pair):
    left, right = pair
    right.send(b"hello")
    coro = loop.sock_recv(left, 10)
    assert left.recv(10, socket.MSG_PEEK) == b"hello"
    assert run(coro) == b"hello"


def test_gather_wait_for_and_task_groups(loop, run):
    async def main():
        pairs = [stream_pair() for _ in range(10)]
        both = asyncio.gather(
            *(loop.sock_recv(left, 10) for left, _ in pairs),
            *(loop.sock_sendall(right, b"%d" % i) for i, (_, right) in enumerate(pairs)),
        )
        assert await both == [b"%d" % i for i in range(10)] + [None] * 10
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(pairs[0][0], 10), 0.01)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(loop.sock_recv(pairs[1][0], 10))
            group.create_task(loop.sock_sendall(pairs[1][1], b"grouped"))
        assert task.result() == b"grouped"
        for left, right in pairs:
            assert not watched(loop, left)
            left.close()
            right.close()

    run(main())


def test_the_stack_of_a_task_shows_the_call(loop, run, pair):
    async def main():
        task = await waiting(loop, loop.sock_recv(pair[0], 10))
        assert "sock_recv" in repr(task)
        assert task.get_stack()[0].f_code.co_name == "sock_recv"
        await cancel(task)

    run(main())


# -- cancellation ----------------------------------------------------------------


@pytest.mark.parametrize("method", [*READERS, "sendall"])
@pytest.mark.parametrize("steps", range(5))
def test_cancelled_after_any_number_of_steps(loop, run, listening, pair, method, steps):
    left, right = pair
    sock = listening if method == "accept" else left
    if method == "sendall":
        fill(left)

    async def main():
        task = loop.create_task(calls(loop, sock)[method]())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel("a message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args in ((), ("a message",))
        await asyncio.sleep(0)
        assert not watched(loop, sock)

    run(main())


def test_cancelled_together_with_the_data(loop, run, pair):
    """The task is cancelled in the turn in which the data was read: that is lost, as in asyncio."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 1))
        task._fut_waiter.add_done_callback(lambda future: task.cancel())
        right.send(b"abc")
        await asyncio.wait([task])
        assert not watched(loop, left)
        assert await loop.sock_recv(left, 1) == b"b"
        return task.cancelled()

    run(main())


def test_cancelled_before_the_data_is_read(loop, run, pair):
    """What came after cancel() stays in the socket."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        task.cancel()
        right.send(b"kept")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(left, 10) == b"kept"

    run(main())


def test_an_awaiting_coroutine_that_is_closed(loop, run, pair):
    left, right = pair

    async def main():
        coro = loop.sock_recv(left, 10)
        coro.send(None)
        assert watched(loop, left)
        coro.close()

    run(main())
    if isinstance(loop, hotloop.EventLoop):
        assert not watched(loop, left)  # stock asyncio leaves its reader there
    loop.remove_reader(left)


def test_a_wait_that_is_ended_by_the_sockets_own_method(loop, run, datagrams):
    """What the call was given stays alive until it returns."""
    left, right = datagrams
    original = socket.socket.recvfrom_into

    async def main():
        coro = loop.sock_recvfrom_into(left, bytearray(10))
        future = coro.send(None)

        def meddle(self, buffer, size):
            coro.close()
            collect()
            return original(self, buffer, size)

        with mock.patch.object(socket.socket, "recvfrom_into", meddle):
            right.sendto(b"data", left.getsockname())
            await until(lambda: inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED)
        future.cancel()
        await asyncio.sleep(0)
        loop.remove_reader(left)

    run(main())


def test_an_exception_thrown_in(loop, run, pair):
    left, right = pair

    async def main():
        coro = loop.sock_recv(left, 10)
        future = coro.send(None)
        with pytest.raises(KeyError):
            coro.throw(KeyError("thrown"))
        future.cancel()
        await asyncio.sleep(0)
        assert not watched(loop, left)

    run(main())


def test_a_cancel_storm_never_crosses_responses(loop, run, listening, no_new_descriptors):
    """Thousands of calls are cancelled anywhere; each answer carries its connection's identity."""
    rng = random.Random(5)

    async def serve(conn, tasks):
        with conn:
            with contextlib.suppress(ConnectionError):
                while request := await loop.sock_recv(conn, 64):
                    await loop.sock_sendall(conn, request)

    async def accept(tasks):
        while True:
            conn, _ = await loop.sock_accept(listening)
            task = loop.create_task(serve(conn, tasks))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def client(number, answered):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listening.getsockname())
            for i in range(20):
                request = b"%6d %6d;" % (number, i)
                await loop.sock_sendall(sock, request)
                answer = b""
                while len(answer) < len(request):
                    part = await loop.sock_recv(sock, 64)
                    if not part:
                        return
                    answer += part
                assert answer == request
                answered.append(number)

    async def main():
        tasks, answered, errors = set(), [], []
        accepting = loop.create_task(accept(tasks))
        clients = []
        for number in range(600):
            clients.append(loop.create_task(client(number, answered)))
            if len(clients) >= 40 or number == 599:
                while clients:
                    await asyncio.sleep(0)
                    for _ in range(3):
                        victim = rng.choice(clients)
                        if rng.random() < 0.5:
                            victim.cancel()
                    if tasks and rng.random() < 0.1:
                        rng.choice(sorted(tasks, key=lambda t: t.get_name())).cancel()
                    for task in [task for task in clients if task.done()]:
                        clients.remove(task)
                        if not task.cancelled() and task.exception():
                            errors.append(task.exception())
                    if len(clients) < 20 and number != 599:
                        break
        accepting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)
        # What the storm left in the backlog.
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
        assert [exc for exc in errors if not isinstance(exc, ConnectionError)] == []
        assert len(answered) > 100

    with warnings.catch_warnings():
        # A connection that was accepted in the turn in which sock_accept() was cancelled.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        collect()


# -- other ways to run -----------------------------------------------------------


def test_futures_and_tasks_of_either_kind(mixture, mixed_loop, finish, start, pair):
    left, right = pair

    async def main():
        task = start(mixed_loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        await mixed_loop.sock_sendall(right, b"hello")
        assert await task == b"hello"
        task = start(mixed_loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not watched(mixed_loop, left)

    finish(main())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda one: one.name)
def test_debug_mode(implementation):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = stream_pair()
        with left, right:
            task = await waiting(loop, loop.sock_recv(left, 10))
            await loop.sock_sendall(right, b"hello")
            assert await task == b"hello"
            await cancel(await waiting(loop, loop.sock_recv(left, 10)))
            assert not watched(loop, left)

    implementation.run(main(), debug=True)


def test_debug_mode_that_begins_meanwhile(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        loop.set_debug(True)
        await loop.sock_sendall(right, b"hello")
        assert await task == b"hello"
        loop.set_debug(False)

    run(main())


def test_exit_from_a_method_of_the_socket(impl):
    """SystemExit in a callback ends the loop, not the wait."""

    class Exiting(socket.socket):
        exits = False

        def recv(self, size):
            if self.exits:
                raise SystemExit(5)
            return super().recv(size)

    loop = impl.new_event_loop()
    left, right = stream_pair()
    exiting = Exiting(fileno=left.detach())
    exiting.setblocking(False)
    with exiting, right:
        task = loop.create_task(loop.sock_recv(exiting, 10))
        loop.call_soon(loop.stop)
        loop.run_forever()
        exiting.exits = True
        right.send(b"x")
        with pytest.raises(SystemExit):
            loop.run_forever()
        exiting.exits = False
        assert loop.run_until_complete(task) == b"x"
    loop.close()


def test_a_waiting_coroutine_in_a_cycle_is_collected(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    left, right = stream_pair()

    async def main():
        coro = loop.sock_recv(left, 10)
        coro.send(None)
        box = [coro]
        box.append(box)

    loop.run_until_complete(main())
    left.close()
    right.close()
    loop.close()
    collect()


def test_sendfile(loop, run, pair, tmp_path):
    left, right = pair
    data = random.Random(2).randbytes(1_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def main(**options):
        with path.open("rb") as file:
            sending = loop.create_task(loop.sock_sendfile(right, file, **options))
            received = b""
            while len(received) < options.get("count", len(data)):
                received += await loop.sock_recv(left, 1 << 20)
            return await sending, received, file.tell()

    assert run(main()) == (len(data), data, len(data))
    assert run(main(offset=1000, count=5000)) == (5000, data[1000:6000], 6000)
    assert not watched(loop, right)


def test_sendfile_of_what_is_no_file(loop, run, pair):
    left, right = pair

    async def main():
        sent = await loop.sock_sendfile(right, io.BytesIO(b"in memory"))
        return sent, await loop.sock_recv(left, 100)

    assert run(main()) == (9, b"in memory")

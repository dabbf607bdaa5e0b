"""What sock_recv() and its relatives refuse, and the errors they raise, at once or after a wait."""

import asyncio
import socket
import struct
import sys
from unittest import mock

import pytest
from sockets import METHODS, calls, nobody, stream_pair, waiting, watched
from support import outcome, same_on_both


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
    with (
        nobody(socket.SOCK_DGRAM) as address,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.setblocking(False)
        sock.connect(address)

        async def main():
            task = await waiting(loop, loop.sock_recvfrom(sock, 10))
            sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await task
            assert not watched(loop, sock)

        run(main())

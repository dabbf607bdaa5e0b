"""What the tests of sock_recv() and its relatives share: pairs of sockets, tasks that wait for them."""

import asyncio
import contextlib
import socket

import hotloop
import pytest


def nonblocking(*sockets):
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def stream_pair():
    return nonblocking(*socket.socketpair())


def datagram_pair():
    left, right = nonblocking(
        socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    )
    left.bind(("127.0.0.1", 0))
    right.bind(("127.0.0.1", 0))
    return left, right


@contextlib.contextmanager
def nobody(kind=socket.SOCK_STREAM):
    """An address of which nobody hears, and that nobody else gets meanwhile: it is bound by a socket that does
    not listen, or hears of one peer only."""
    with socket.socket(type=kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_DGRAM:
            sock.connect(("127.0.0.1", 9))
        yield sock.getsockname()


def fill(sock):
    """Send until nothing more goes in; return how much did."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    return sent


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


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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

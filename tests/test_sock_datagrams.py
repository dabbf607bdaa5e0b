"""sock_recvfrom() and sock_sendto(): addresses, sizes, audits."""

import asyncio
import contextlib
import errno
import socket
import sys

import pytest
from sockets import has_ipv6, nonblocking
from support import same_on_both


def bound(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    nonblocking(sock)
    return sock


def among_two(use, host="127.0.0.1"):
    """A scenario: what use(loop, left, right) returns on sockets that are bound."""

    def scenario(impl):
        async def main():
            return await use(asyncio.get_running_loop(), left, right)

        with bound(host) as left, bound(host) as right:
            return impl.run(main())

    return scenario


async def outcome(coro):
    try:
        return await asyncio.wait_for(coro, 10)
    except Exception as exc:
        return type(exc), str(exc)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 1, 1000, 65000])
def test_from_whom_it_came(host, size):
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6 here")

    async def use(loop, left, right):
        data = bytes(size)
        assert await loop.sock_sendto(right, data, left.getsockname()) == size
        assert await loop.sock_recvfrom(left, 1 << 17) == (data, right.getsockname())
        assert await loop.sock_sendto(right, bytearray(data), left.getsockname()[:2]) == size
        data, address = await loop.sock_recvfrom(left, 1 << 20)
        return len(data), len(address), [type(part) for part in address]

    same_on_both(among_two(use, host))


def test_an_empty_buffer_takes_a_datagram():
    async def use(loop, left, right):
        for data in b"one", b"two":
            await loop.sock_sendto(right, data, left.getsockname())
        sizes = [0, 10]
        return [(await loop.sock_recvfrom(left, size))[0] for size in sizes]

    assert same_on_both(among_two(use)) == [b"", b"two"]


ADDRESSES = [
    ("localhost", 9),
    ("127.0.0.1", 65536),
    ("127.0.0.1", -1),
    ("127.0.0.1", "9"),
    ("127.0.0.1",),
    ("127.0.0.1", 9, 0),
    ["127.0.0.1", 9],
    ("::1", 9),
    (b"127.0.0.1", 9),
    ("127.0.0.1\0", 9),
    None,
]


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
@pytest.mark.parametrize("data", [b"x", bytes(70_000), "x"], ids=["bytes", "too-long", "str"])
def test_where_it_cannot_go(address, data):
    async def use(loop, left, right):
        return await outcome(loop.sock_sendto(right, data, address))

    same_on_both(among_two(use))


def test_a_datagram_too_long():
    async def use(loop, left, right):
        return await outcome(loop.sock_sendto(right, bytes(70_000), left.getsockname()))

    assert same_on_both(among_two(use)) == (OSError, f"[Errno {errno.EMSGSIZE}] Message too long")


def test_nobody_there():
    """An ICMP message is told to the next call."""

    async def use(loop, left, right):
        address = left.getsockname()
        left.close()
        right.connect(address)
        return [
            await outcome(loop.sock_sendto(right, b"x", address)),
            await outcome(loop.sock_recvfrom(right, 10)),
        ]

    sent, (error, _) = same_on_both(among_two(use))
    assert (sent, error) == (1, ConnectionRefusedError)


@pytest.mark.parametrize("ended", [False, True])
def test_a_stream_tells_no_address(ended):
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as server:
                client = socket.create_connection(server.getsockname())
                connection, _ = server.accept()
            with client, connection:
                nonblocking(client, connection)
                if ended:
                    client.shutdown(socket.SHUT_WR)
                else:
                    client.send(b"data")
                sent = await outcome(loop.sock_sendto(connection, b"x", client.getsockname()))
                return await loop.sock_recvfrom(connection, 10), sent

        return impl.run(main())

    same_on_both(scenario)


def test_sendto_is_audited_once():
    def scenario(impl):
        events = []
        watching = True

        def hook(event, args):
            if watching and event == "socket.sendto":
                events.append(args[1])

        async def use(loop, left, right):
            address = left.getsockname()
            sys.addaudithook(hook)
            await loop.sock_sendto(right, b"x", address)
            return events == [address]

        try:
            return among_two(use)(impl)
        finally:
            watching = False

    assert same_on_both(scenario)


@pytest.mark.parametrize("refuse", [False, True], ids=["closes", "raises"])
def test_a_hook_that_meddles(refuse):
    def scenario(impl):
        victims = []

        def hook(event, args):
            if event == "socket.sendto" and args[0] in victims:
                victims.clear()
                args[0].close()
                if refuse:
                    raise ValueError("refused")

        async def use(loop, left, right):
            victims.append(right)
            sys.addaudithook(hook)
            with contextlib.closing(bound("127.0.0.1")):
                return await outcome(loop.sock_sendto(right, b"x", left.getsockname()))

        return among_two(use)(impl)

    same_on_both(scenario)

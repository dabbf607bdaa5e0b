"""Datagram transports over sockets that are wrapped, odd or closed; broadcast, sharing a port, audits."""

import asyncio
import errno
import os
import socket
import sys

import pytest
from datagrams import Echo, Mine, Recorder, drain, lost, on_both, plain, udp
from support import (
    ASYNCIO,
    HOTLOOP,
    IMPLEMENTATIONS,
    Contexts,
    Logged,
    close_tidily,
    outcome,
    same_on_both,
    script_output,
    until,
)


class Wrapped:
    """A socket in the clothes of another class."""

    def __init__(self, sock):
        self.sock = sock
        self.calls = []

    def __getattr__(self, name):
        if name in ("recvfrom", "send", "sendto"):
            self.calls.append(name)
        return getattr(self.sock, name)


def test_sockets_that_are_not_plain():
    async def scenario(loop):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.setblocking(False)
            results = []
            for make in (
                lambda: Wrapped(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
                lambda: Mine(socket.AF_INET, socket.SOCK_DGRAM),
            ):
                sock = make()
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
                protocol = Recorder()
                transport = loop._make_datagram_transport(sock, protocol)
                await asyncio.sleep(0)
                transport.sendto(b"there", other.getsockname())
                other.sendto(b"and back", sock.getsockname())
                other.sendto(b"", sock.getsockname())
                await until(lambda: len(protocol.data()) == 2)
                await lost((transport, protocol))
                results.append((protocol.data(), drain(other), getattr(sock, "calls", None)))
            return results

    on_both(scenario)


@pytest.mark.parametrize(
    "result", [(b"one",), None, (b"x", 1, 2), ValueError("mine"), OSError(5, "mine")], ids=str
)
def test_sockets_that_misbehave(result):
    async def scenario(loop):
        class Bad(socket.socket):
            def recvfrom(self, size):
                super().recvfrom(size)
                if isinstance(result, Exception):
                    raise result
                return result

        left, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock = Bad(fileno=left.detach())
        sock.setblocking(False)
        transport = loop._make_datagram_transport(sock, protocol := Recorder())
        await asyncio.sleep(0)
        with other:
            other.send(b"x")
            await until(lambda: len(protocol.log) > 1)
        await lost((transport, protocol))
        return protocol.log

    result_, contexts = on_both_loosely(scenario)
    if not isinstance(result, OSError):
        assert contexts[0]["message"] == "Fatal read error on datagram transport"


def on_both_loosely(scenario):
    """As on_both(), but the words of exceptions may differ."""
    results = []
    for implementation in IMPLEMENTATIONS:
        loop = implementation.new_event_loop()
        loop.set_exception_handler(contexts := Contexts())
        result = loop.run_until_complete(scenario(loop))
        close_tidily(loop)
        results.append((result, [{**c, "exception": type(c["exception"])} for c in contexts]))
    keys = [[[*map(str, c)] + [c["message"], c["exception"]] for c in r[1]] for r in results]
    assert (results[0][0], keys[0]) == (results[1][0], keys[1])
    return results[1]


def test_a_socket_closed_behind_the_transport(loop, run):
    """Its number may be another's by now: nothing must be read from that, or sent there."""

    async def main():
        transport, protocol = await udp(loop)
        sock, fd = transport._sock, transport._sock_fd
        where = transport.get_extra_info("sockname")
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.close()
        os.dup2(left.fileno(), fd)  # somebody else has the number now
        right.setblocking(False)
        try:
            right.send(b"not for the transport")
            transport.sendto(b"not for them", where)
            transport._read_ready()
            await asyncio.sleep(0.002)
            assert protocol.data() == []
            assert {error for _, error in protocol.events("error")} == {errno.EBADF}
            assert drain(right) == []
            await lost((transport, protocol))
            right.send(b"still open")
        finally:
            left.close()
            right.close()
            os.close(fd)

    run(main())


def test_tasks_and_other_transports_live_beside(loop, run):
    async def main():
        servers = [await udp(loop, Echo) for _ in range(20)]
        clients = [
            await udp(loop, remote_addr=server.get_extra_info("sockname")) for server, _ in servers
        ]
        for i in range(30):
            for number, (client, _) in enumerate(clients):
                client.sendto(b"%d %d" % (number, i))
            if i % 3 == 0:
                await asyncio.sleep(0)
        await until(lambda: all(len(protocol.data()) == 30 for _, protocol in clients))
        for number, (_, protocol) in enumerate(clients):
            assert protocol.data() == [b"%d %d" % (number, i) for i in range(30)]
        await lost(*clients, *servers)

    run(main())


def test_programs_may_name_the_address(loop, run):
    """asyncio-dgram does: for a connected socket that it was given, nothing else tells the transport."""

    async def main():
        transport, protocol = await udp(loop, local_addr=("127.0.0.1", 0))
        where = transport.get_extra_info("sockname")
        connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        connected.setblocking(False)
        connected.connect(where)
        expected = []
        for sender, sending in (
            await udp(loop, sock=connected),
            await udp(loop, local_addr=("127.0.0.1", 0)),
        ):
            assert sender._address is None
            sender._address = where
            assert sender._address is where
            sender.sendto(b"by default")
            sender.sendto(b"explicit", where)
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                sender.sendto(b"x", ("127.0.0.1", 1))
            sender._address = "elsewhere"
            with pytest.raises(ValueError, match="Invalid address: must be None or elsewhere"):
                sender.sendto(b"x", where)
            sender._address = None
            sender.sendto(b"by no default", where)
            expected += [b"by default", b"explicit", b"by no default"]
            await until(lambda: len(protocol.data()) >= len(expected))
            assert protocol.data() == expected
            await lost((sender, sending))
        await lost((transport, protocol))

    run(main())


def test_broadcast(loop, run):
    async def main():
        transport, protocol = await udp(loop, local_addr=("127.0.0.1", 0), allow_broadcast=True)
        assert transport._sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        port = transport.get_extra_info("sockname")[1]
        # Not connected, though there is one address to send to.
        sender, sending = await udp(loop, remote_addr=("127.0.0.1", port), allow_broadcast=True)
        assert sender.get_extra_info("peername") is None
        assert sender._address == ("127.0.0.1", port)
        sender.sendto(b"by default")
        sender.sendto(b"explicit", ("127.0.0.1", port))
        await until(lambda: len(protocol.data()) == 2)
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            sender.sendto(b"x", ("127.0.0.1", 1))
        await lost((sender, sending), (transport, protocol))

    run(main())


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT")
def test_reuse_port(loop, run):
    async def main():
        one, first = await udp(loop, local_addr=("127.0.0.1", 0), reuse_port=True)
        where = one.get_extra_info("sockname")
        two, second = await udp(loop, local_addr=where, reuse_port=True)
        for i in range(40):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"%d" % i, where)
        await until(lambda: len(first.data()) + len(second.data()) == 40)
        await lost((one, first), (two, second))

    run(main())


def test_debug_mode_logs_pausing():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        with Logged() as log:
            transport.pause_reading()
            transport.pause_reading()
            transport.resume_reading()
            messages = [plain(r.getMessage()) for r in log.records]
        await lost((transport, protocol))
        return [message.replace(f"fd={transport._sock_fd}", "fd=N") for message in messages]

    assert len(on_both(scenario, debug=True)[0]) == 2


def test_sendto_is_audited():
    """Whatever way a datagram goes, an auditing hook is told."""
    source = """
    import sys, socket
    seen = []
    sys.addaudithook(lambda event, args: event == "socket.sendto" and seen.append(args[1]))

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        transport.sendto(b"x", ("127.0.0.1", port))
        transport.close()
        print(seen == [("127.0.0.1", port)])

    run(main())
    """
    for implementation in (ASYNCIO, HOTLOOP):
        assert script_output(implementation, source) == "True\n"


AUDITED = [("localhost", 9), ("127.0.0.1", 9), 5]


@pytest.mark.parametrize("address", AUDITED, ids=str)
def test_sendto_raises_one_auditing_event(address):
    """socket.sendto() raises it once it knows where to."""

    def scenario(impl):
        events = []
        watching = True

        def hook(event, args):
            if watching and event == "socket.sendto":
                events.append(args[1])

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            sys.addaudithook(hook)
            result = outcome(transport.sendto, b"x", address)
            transport.abort()
            await asyncio.sleep(0)
            return result

        result = impl.run(main())
        watching = False
        return result, events

    same_on_both(scenario)

"""Datagram transports: wrong arguments, errors received, protocols that fail."""

import asyncio
import contextvars
import ctypes
import errno
import socket
import struct
import sys

import pytest
from datagrams import Recorder, drain, lost, on_both, queue_size_is_exact, udp, unix_pair
from support import outcome, until

# -- wrong arguments ---------------------------------------------------------


def test_wrong_data():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        where = transport.get_extra_info("sockname")
        found = [
            outcome(transport.sendto, data, where) for data in ("text", 1, None, [b""], object)
        ]
        assert outcome(transport.sendto)[:2] == ("raised", TypeError)
        assert outcome(transport.sendto, b"x", where, 1)[:2] == ("raised", TypeError)
        assert outcome(transport.sendto, b"x", address=where)[:2] == ("raised", TypeError)
        found.append(outcome(transport.sendto, data=b"named", addr=where))
        await until(protocol.data)
        await lost((transport, protocol))
        return found

    on_both(scenario)


def test_the_address_must_be_the_transports():
    async def scenario(loop):
        server, served = await udp(loop)
        host, port = where = server.get_extra_info("sockname")
        client, protocol = await udp(loop, remote_addr=where)
        found = [
            outcome(client.sendto, b"1", None),
            outcome(client.sendto, b"2", (host, port)),
            outcome(client.sendto, b"3"),
        ]
        for wrong in ((host, 1), "x", 0, [host, port]):
            kind, cls, text = outcome(client.sendto, b"4", wrong)
            found.append((kind, cls, text.replace(str(port), "PORT")))
        await until(lambda: len(served.data()) == 3)
        await lost((client, protocol), (server, served))
        return found, served.data()

    on_both(scenario)


@pytest.mark.parametrize(
    "addr",
    [
        None,
        "text",
        ("127.0.0.1",),
        ("127.0.0.1", "port"),
        ("127.0.0.1", 1, 2),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", 1 << 80),
        ("127.0.0.1\0", 9),
        ("\udcff", 9),
        (1, 9),
        ["127.0.0.1", 9],
    ],
    ids=str,
)
def test_wrong_addresses(addr):
    """Some end the transport, in asyncio; the messages are the socket module's."""

    async def scenario(loop):
        transport, protocol = await udp(loop)
        result = outcome(transport.sendto, b"x", addr)
        closing = transport.is_closing()
        await lost((transport, protocol))
        return result, closing, protocol.log

    on_both(scenario)


def test_data_that_is_not_contiguous_ends_the_transport():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        result = outcome(
            transport.sendto, memoryview(b"abcdef")[::2], transport.get_extra_info("sockname")
        )
        await lost((transport, protocol))
        return result, protocol.log

    result, contexts = on_both(scenario)
    assert contexts[0]["message"] == "Fatal write error on datagram transport"


def test_an_released_view():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        view = memoryview(b"x")
        view.release()
        result = outcome(transport.sendto, view, transport.get_extra_info("sockname"))
        await lost((transport, protocol))
        return result, protocol.log

    on_both(scenario)


# -- errors ------------------------------------------------------------------


def test_a_refused_datagram_is_an_error_received():
    async def scenario(loop):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            where = sock.getsockname()
        transport, protocol = await udp(loop, remote_addr=where)
        transport.sendto(b"nobody there")
        await until(lambda: protocol.events("error"))
        transport.sendto(b"again")
        await until(lambda: len(protocol.events("error")) == 2)
        closing = transport.is_closing()
        await lost((transport, protocol))
        return protocol.log, closing

    assert (
        on_both(scenario)[0][0][1:3] == [("error", ConnectionRefusedError, errno.ECONNREFUSED)] * 2
    )


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux tells of a peer that disconnects")
def test_an_error_that_is_pending_takes_the_first_of_the_queue_with_it():
    async def scenario(loop):
        transport, protocol, peer = await unix_pair(loop)
        transport.pause_reading()
        count = 0
        while transport.get_write_buffer_size() < 30:
            transport.sendto(b"%d" % count)
            count += 1
        nowhere = struct.pack("H14x", socket.AF_UNSPEC)
        assert ctypes.CDLL(None).connect(peer.fileno(), nowhere, len(nowhere)) == 0
        received = drain(peer)

        def is_empty():  # asyncio's of 3.13.0 loses count
            return not getattr(transport, "_buffer", transport.get_write_buffer_size())

        await until(is_empty)
        received += drain(peer)
        await lost((transport, protocol))
        peer.close()
        return received, protocol.log

    (_, log), _ = on_both(scenario)
    assert ("error", ConnectionResetError, errno.ECONNRESET) in log


def test_the_error_is_being_handled_in_error_received():
    async def scenario(loop):
        seen = []

        class Protocol(Recorder):
            def error_received(self, exc):
                seen.append((sys.exc_info()[1] is exc, type(exc)))
                raise KeyError("mine")

        transport, protocol = await udp(loop, Protocol)
        try:
            transport.sendto(bytes(70000), transport.get_extra_info("sockname"))
        except KeyError as exc:
            seen.append((str(exc), type(exc.__context__)))
        seen.append(sys.exc_info())
        seen.append(transport.is_closing())
        await lost((transport, protocol))
        return seen

    assert on_both(scenario)[0][0] == (True, OSError)


@pytest.mark.parametrize("debug", [False, True])
def test_datagram_received_may_fail(debug):
    """That is told, and the next datagram is received."""

    async def scenario(loop):
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data != b"last":
                    raise ValueError(data)

        transport, protocol, other = await unix_pair(loop, Protocol)
        with other:
            for data in (b"one", b"two", b"last"):
                other.send(data)
            await until(lambda: b"last" in protocol.data())
        closing = transport.is_closing()
        await lost((transport, protocol))
        return protocol.log, closing

    _, contexts = on_both(scenario, debug)
    assert [context["types"]["handle"] for context in contexts] == ["Handle"] * 2
    assert contexts[0]["message"] == "Exception in callback DatagramTransport._read_ready()"


def test_the_exception_handler_runs_in_the_readers_context(loop, run):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            variable.set(data)
            raise ValueError

    async def main():
        transport, protocol, other = await unix_pair(loop, Protocol)
        loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))
        with other:
            other.send(b"in the context")
            await until(lambda: seen)
        await lost((transport, protocol))

    run(main())
    assert seen == [b"in the context" if sys.version_info >= (3, 12) else "none"]


def test_interrupts_leave_the_loop_and_lose_nothing(loop):
    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"2":
                raise KeyboardInterrupt

    transport, protocol, other = loop.run_until_complete(unix_pair(loop, Protocol))
    with other:
        for i in range(6):
            other.send(b"%d" % i)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(5))
        assert protocol.data() == [b"0", b"1", b"2"]
        loop.run_until_complete(until(lambda: len(protocol.data()) == 6))
    loop.run_until_complete(lost((transport, protocol)))


@queue_size_is_exact
@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_may_fail(method):
    async def scenario(loop):
        class Protocol(Recorder):
            pass

        def fail(self):
            raise ValueError("from the protocol")

        setattr(Protocol, method, fail)
        transport, protocol, other = await unix_pair(loop, Protocol)
        transport.set_write_buffer_limits(high=10)
        while transport.get_write_buffer_size() <= 10:
            transport.sendto(b"fill")
        with other:
            while transport.get_write_buffer_size():
                drain(other)
                await asyncio.sleep(0)
        await lost((transport, protocol))
        return protocol.log

    result, contexts = on_both(scenario)
    assert contexts[0]["message"] == f"protocol.{method}() failed"

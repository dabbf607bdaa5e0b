"""The end of datagram transports: close, abort, what comes after it, transports left open."""

import asyncio
import gc
import socket
import sys
import warnings
import weakref

import pytest
from datagrams import Echo, Recorder, drain, lost, on_both, plain, udp, unix_pair
from support import HOTLOOP, collect, outcome, until


def test_close():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        sock = transport._sock
        transport.close()
        states = [transport.is_closing(), protocol.lost.is_set(), sock.fileno() >= 0]
        transport.close()
        transport.abort()
        await protocol.lost.wait()
        await asyncio.sleep(0)
        states += [sock.fileno(), transport._sock]
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        other.close()
        return states, protocol.log

    on_both(scenario)


def test_the_socket_is_open_in_connection_lost_and_closed_after_it():
    async def scenario(loop):
        class Protocol(Recorder):
            def connection_lost(self, exc):
                self.log.append(self.transport._sock.fileno() >= 0)
                self.transport.sendto(b"farewell")
                super().connection_lost(exc)

        transport, protocol, other = await unix_pair(loop, Protocol)
        sock = transport._sock
        await lost((transport, protocol))
        with other:
            return protocol.log, drain(other), sock.fileno()

    assert on_both(scenario)[0][1] == [b"farewell"]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_no_datagram_after_close_in_a_callback(how):
    async def scenario(loop):
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == b"40":
                    getattr(self.transport, how)()

        transport, protocol = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(60):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await protocol.lost.wait()
        return protocol.data(), protocol.log[-1]

    data, last = on_both(scenario)[0]
    assert data == [b"%d" % i for i in range(41)]


def test_close_sends_what_is_queued():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        sent = []
        while len(transport._buffer) < 50:
            sent.append(b"%d" % len(sent))
            transport.sendto(sent[-1])
        transport.close()
        with other:
            other.send(b"not received any more")
            received = []
            for _ in range(5):
                await asyncio.sleep(0)
            assert not protocol.lost.is_set()
            while not protocol.lost.is_set():
                received += drain(other)
                await asyncio.sleep(0)
            received += drain(other)
        return received == sent, [event for event in protocol.log if event[0] != "pause"]

    assert on_both(scenario)[0][0]


def test_abort_drops_what_is_queued():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        while len(transport._buffer) < 5:
            transport.sendto(b"x")
        transport.abort()
        sizes = [transport.get_write_buffer_size(), len(transport._buffer)]
        await protocol.lost.wait()
        with other:
            drain(other)
            await asyncio.sleep(0)
            return sizes, protocol.log, drain(other)

    on_both(scenario)


def test_abort_while_closing():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        while len(transport._buffer) < 5:
            transport.sendto(b"x")
        transport.close()
        await asyncio.sleep(0)
        transport.abort()
        await protocol.lost.wait()
        other.close()
        return protocol.log

    on_both(scenario)


def test_sending_after_the_end_is_counted_and_logged(impl, new_loop, logged):
    loop = new_loop()

    async def main():
        server, served = await udp(loop)
        client, protocol = await udp(loop, remote_addr=server.get_extra_info("sockname"))
        await lost((client, protocol))
        for _ in range(8):
            client.sendto(b"too late")
        await lost((server, served))
        return client._conn_lost

    assert loop.run_until_complete(main()) == 9
    assert logged.messages() == ["socket.send() raised exception."] * 4


def test_sending_without_an_address_after_the_end_never_raises(logged):
    """asyncio raises AttributeError here, of its own None."""

    async def main():
        transport, protocol = await udp(asyncio.get_running_loop())
        where = transport.get_extra_info("sockname")
        await lost((transport, protocol))
        for _ in range(8):
            transport.sendto(b"too late", where)
        transport.abort()
        transport.set_write_buffer_limits(0)
        transport._read_ready()
        transport._sendto_ready()
        transport._add_reader()

    HOTLOOP.run(main())
    assert logged.messages() == ["socket.send() raised exception."] * 4


def test_evil_addresses():
    """The addresses of queued datagrams may be anything, if the socket is connected."""

    class Evil:
        def __init__(self, transport):
            self.transport = transport

        def __del__(self):
            self.transport.abort()
            self.transport.sendto(b"from beyond")

    async def main():
        transport, protocol, other = await unix_pair(asyncio.get_running_loop())
        while len(transport._buffer) < 20:
            transport.sendto(b"x", Evil(transport) if transport._buffer else None)
        with other:
            while not protocol.lost.is_set():
                drain(other)
                await asyncio.sleep(0)

    HOTLOOP.run(main())


def test_evil_default_addresses():
    """The default address may be replaced while it is compared, and as it goes away."""

    class Evil(str):
        def __eq__(self, other):
            transport._address = ("127.0.0.1", 1)
            return True

        __hash__ = str.__hash__

        def __del__(self):
            evils.append(1)
            if transport is not None and len(evils) < 4:
                transport._address = Evil("x")

        def __bool__(self):
            if truth:
                raise ZeroDivisionError
            return True

    evils, truth = [], []

    async def main():
        nonlocal transport
        transport, protocol, other = await unix_pair(asyncio.get_running_loop())
        for _ in range(5):
            transport._address = Evil("where")
            transport.sendto(b"x", Evil("other"))
        transport._address = Evil("kept")
        truth.append(1)
        with pytest.raises(ZeroDivisionError):
            transport._address = Evil("not")
        with pytest.raises(AttributeError):
            del transport._address
        assert str(transport._address) == "kept"
        transport._address = None
        with other:
            transport.abort()
            await protocol.lost.wait()

    transport = None
    HOTLOOP.run(main())


def test_connection_lost_may_fail():
    async def scenario(loop):
        class Protocol(Recorder):
            def connection_lost(self, exc):
                super().connection_lost(exc)
                raise ValueError("from connection_lost")

        transport, protocol, other = await unix_pair(loop, Protocol)
        sock = transport._sock
        await lost((transport, protocol))
        await asyncio.sleep(0)
        other.close()
        return sock.fileno(), transport._loop

    _, contexts = on_both(scenario)
    assert "DatagramTransport._call_connection_lost(" in contexts[0]["message"]


def test_dropped_open(impl, new_loop):
    loop = new_loop()

    async def main():
        transport, protocol = await udp(loop)
        sock = transport._sock
        transport.pause_reading()  # the loop holds a transport that reads
        del protocol.transport
        fd = transport._sock_fd
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            collect()
        return fd, [(w.category, plain(str(w.message))) for w in caught], sock.fileno()

    fd, caught, after = loop.run_until_complete(main())
    assert caught == [
        (
            ResourceWarning,
            "unclosed transport <DatagramTransport fd=N read=idle write=<idle, bufsize=0>>",
        )
    ]
    assert after == -1


def test_a_transport_left_by_its_loop(impl, no_new_descriptors):
    """A loop that is closed drops its transports; one that is kept cannot be closed any more."""
    loop = impl.new_event_loop()
    kept, _ = loop.run_until_complete(udp(loop))
    loop.run_until_complete(udp(loop))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        collect()
        assert [str(w.message)[:18] for w in caught].count("unclosed transport") == 1
        assert outcome(kept.close) == ("raised", RuntimeError, "Event loop is closed")
        repr(kept)
        assert outcome(kept.sendto, b"x", kept.get_extra_info("sockname"))[0] == "returned"
        kept.resume_reading()
        kept.abort()
        del kept, _
        collect()
        assert [str(w.message)[:18] for w in caught].count("unclosed transport") == 2


def test_warnings_as_errors_do_no_harm(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    loop.run_until_complete(udp(loop))
    told = []
    before, sys.unraisablehook = sys.unraisablehook, lambda info: told.append(info.exc_type)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop.close()
            collect()
    finally:
        sys.unraisablehook = before
    assert told[0] is ResourceWarning


def test_the_last_reference_may_go_in_a_callback(loop, run):
    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.abort()
            del self.transport
            gc.collect()

    async def main():
        transport, protocol, other = await unix_pair(loop, Protocol)
        reference = weakref.ref(transport)
        del transport
        with other:
            for _ in range(5):
                other.send(b"x")
            await protocol.lost.wait()
            await asyncio.sleep(0)
        collect()
        assert reference() is None
        assert len(protocol.data()) == 1

    run(main())


def test_nothing_is_left_of_many_transports(loop, run):
    async def rounds(count):
        references = []
        for _ in range(count):
            server, served = await udp(loop, Echo)
            client, protocol = await udp(loop, remote_addr=server.get_extra_info("sockname"))
            client.sendto(b"x")
            await until(protocol.data)
            references += [weakref.ref(o) for o in (server, served, client, protocol)]
            await lost((client, protocol), (server, served))
        del server, served, client, protocol
        await asyncio.sleep(0)
        return references

    references = run(rounds(20))
    collect()
    assert [reference() for reference in references] == [None] * 80

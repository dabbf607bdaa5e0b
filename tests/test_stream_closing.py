"""The life of a stream transport: what it shows, how it ends, misuse, sockets closed behind its back."""

import asyncio
import contextlib
import gc
import os
import socket
import warnings
import weakref

import pytest
from streams import Events, connect, on_loop, plain, raw_pair, read_all, receive_all
from support import (
    IMPLEMENTATIONS,
    PATIENCE,
    Contexts,
    collect,
    open_descriptors,
    outcome,
    resident_bytes,
    same_on_both,
    timer_opened,
    until,
)

LIMIT = 20 * PATIENCE
BIG = bytes(1 << 20)


# -- ends --------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("pending", [0, 5, len(BIG)])
def test_close_sends_what_is_pending_and_abort_drops_it(way, pending, kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        transport.write(BIG[:pending])
        calls = [outcome(getattr(transport, way)) for _ in range(3)]
        protocol.log.append(("closing", transport.is_closing()))
        await asyncio.sleep(0.001)
        received = await asyncio.get_running_loop().run_in_executor(None, read_all, peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        size = transport.get_write_buffer_size()
        peer.close()
        return calls, protocol.log, size, len(received) == pending

    (calls, log, size, complete), contexts = same_on_both(on_loop(main))
    assert contexts == [] and size == 0 and complete >= (way == "close" or pending <= 5)


def test_abort_after_close_with_data_pending(kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        transport.write(BIG)
        transport.close()
        await asyncio.sleep(0.001)
        protocol.log.append("still open")
        transport.abort()
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log

    same_on_both(on_loop(main))


def test_closing_in_every_callback():
    for event in ("connection_made", "data_received", "eof_received", "connection_lost"):
        for way in ("close", "abort"):

            async def main(event=event, way=way):
                def end(self, *args):
                    getattr(self.transport, way)()

                protocol = Events(**{event: end})
                transport, peer = await connect(protocol)
                with contextlib.suppress(BrokenPipeError):
                    peer.send(b"x")
                await asyncio.sleep(0.001)
                peer.close()
                await asyncio.wait_for(protocol.lost, LIMIT)
                return protocol.log

            log, contexts = same_on_both(on_loop(main))
            assert contexts == [] and log[-1] == ("connection_lost", None)


def test_connection_lost_that_raises_after_a_flush():
    def failing(self, exc):
        raise LookupError("in connection_lost")

    async def main():
        protocol = Events(connection_lost=failing)
        transport, peer = await connect(protocol)
        transport.write(BIG)
        transport.close()
        await asyncio.get_running_loop().run_in_executor(None, read_all, peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log

    # asyncio has cancelled that handle by then: the message says None.
    for implementation in IMPLEMENTATIONS:
        log, ((message, keys, exc),) = on_loop(main)(implementation)
        assert message.startswith("Exception in callback")
        assert keys == ["exception", "handle", "message"] and exc[0] is LookupError
        assert log[-1] == ("connection_lost", None)


def test_connection_lost_comes_after_what_was_scheduled_before(kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        loop = asyncio.get_running_loop()
        loop.call_soon(protocol.log.append, "before")
        transport.close()
        loop.call_soon(protocol.log.append, "after")
        await asyncio.wait_for(protocol.lost, LIMIT)
        await asyncio.sleep(0)
        peer.close()
        return protocol.log

    same_on_both(on_loop(main))


# -- what it shows -----------------------------------------------------------


def test_extra_info(kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        sock = transport.get_extra_info("socket")
        state = [
            type(sock).__name__,
            sock.fileno() == transport._sock.fileno() == transport._sock_fd,
            transport.get_extra_info("sockname") == sock.getsockname() == peer.getpeername(),
            transport.get_extra_info("peername") == sock.getpeername() == peer.getsockname(),
            transport.get_extra_info("nothing"),
            transport.get_extra_info("nothing", default=5),
            transport.get_extra_info(name="nothing"),
            sorted(transport._extra),
            outcome(transport.get_extra_info)[1],
            outcome(transport.get_extra_info, []),
            transport._loop is asyncio.get_running_loop(),
            transport._protocol is protocol is transport.get_protocol(),
            transport._server,
            transport._eof,
            transport._conn_lost,
            transport._closing,
            transport._paused,
            transport._empty_waiter,
            transport.max_size,
        ]
        if kind == "tcp" and type(transport._loop).__module__ == "hotloop":
            # asyncio does so only where socket.proto says TCP
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        await protocol.lost
        state += [transport._loop, transport._sock, transport._protocol, transport._server]
        state += [
            transport.get_extra_info("socket") is sock,
            sock.fileno(),
            transport.get_protocol(),
        ]
        peer.close()
        return state

    same_on_both(on_loop(main))


def test_repr_in_every_state():
    async def main():
        seen = []

        def note(self, *args):
            seen.append(plain(repr(self.transport)))

        protocol = Events(connection_made=note, connection_lost=note)
        transport, peer = await connect(protocol)
        note(protocol)
        transport.pause_reading()
        note(protocol)
        transport.write(b"x" * 10)
        note(protocol)
        transport.resume_reading()
        transport.write(BIG)
        seen.append(plain(repr(transport)).split("bufsize")[0])
        transport.close()
        seen.append(plain(repr(transport)).split("bufsize")[0])
        transport.abort()
        note(protocol)
        await protocol.lost
        note(protocol)
        peer.close()
        return seen

    seen, _ = same_on_both(on_loop(main))
    assert len(set(seen)) >= 6


def test_weak_references_and_attributes(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        reference = weakref.ref(transport)
        assert reference() is transport
        transport.anything = protocol
        transport._secret = {"a": transport}
        assert vars(transport)["anything"] is protocol
        transport.close()
        await protocol.lost
        peer.close()
        protocol.transport = None
        return reference

    reference = run(main())
    collect()
    assert reference() is None


def test_a_transport_dropped_open_warns_and_closes(kind):
    def scenario(impl):
        async def main():
            protocol = Events()
            transport, peer = await connect(protocol, kind)
            return transport, peer

        loop = impl.new_event_loop()
        transport, peer = loop.run_until_complete(main())
        fd = transport._sock_fd
        loop._remove_reader(fd)
        loop.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            collect()
        end = peer.recv(10)
        peer.close()
        return end, [
            (each.category, plain(str(each.message)), plain(type(each.source).__name__))
            for each in caught
            if "transport" in str(each.message)
        ]

    end, caught = same_on_both(scenario)
    assert end == b"" and [each[0] for each in caught] == [ResourceWarning]


@pytest.mark.parametrize("method, args", [("write", (b"data",)), ("close", ()), ("abort", ())])
def test_using_a_transport_after_its_finalizer_ran(method, args):
    """As that of a StreamWriter over TLS does, dropped together with it."""

    async def main():
        log = []
        transport, peer = await connect(Events(log))
        transport._loop._remove_reader(transport._sock_fd)
        with pytest.warns(ResourceWarning):
            transport.__del__()
        getattr(transport, method)(*args)
        await until(lambda: len(log) == 2)
        with peer:
            return log, transport.is_closing(), peer.recv(10)

    (log, closing, end), told = same_on_both(on_loop(main))
    assert [log[0], log[1][0]] == ["connection_made", "connection_lost"]
    assert closing and end == b"" and told == []


# -- misuse ------------------------------------------------------------------


def test_transports_that_were_never_made(loop):
    if type(loop).__module__ != "hotloop":
        return
    cls = type(loop)._socket_transport
    bare = cls.__new__(cls)
    for call in (
        bare.close,
        bare.abort,
        bare.pause_reading,
        bare.resume_reading,
        bare.is_reading,
        bare.is_closing,
        bare.get_protocol,
        bare.write_eof,
        bare.can_write_eof,
        bare.get_write_buffer_size,
        bare.get_write_buffer_limits,
        bare.set_write_buffer_limits,
        bare._read_ready,
        bare._write_ready,
        bare._maybe_pause_protocol,
        bare._maybe_resume_protocol,
        bare._make_empty_waiter,
        bare._reset_empty_waiter,
        lambda: bare.write(b"x"),
        lambda: bare.writelines([b"x", b"y"]),
        lambda: bare.get_extra_info("socket"),
        lambda: bare.get_extra_info([]),
        lambda: bare._fatal_error(ValueError()),
        lambda: bare._force_close(None),
        lambda: repr(bare),
        lambda: bare.set_protocol(None),
        lambda: bare._maybe_pause_protocol(),
        lambda: bare._call_connection_lost(None),
        lambda: bare._call_connection_lost(ValueError()),
    ):
        outcome(call)
    for name in dir(bare):
        outcome(getattr, bare, name)
    for name in ("_loop", "_sock", "_high_water", "_extra", "_empty_waiter"):
        outcome(delattr, bare, name)
        outcome(setattr, bare, name, 5)
        outcome(setattr, bare, name, -1)
        outcome(delattr, bare, name)
    outcome(bare._call_connection_lost, None)
    assert isinstance(bare, asyncio.Transport)


def test_wrong_arguments_leave_the_socket_alone(loop, run):
    if type(loop).__module__ != "hotloop":
        return
    cls = type(loop)._socket_transport

    class Refusing:
        def _attach(self, *args):
            raise LookupError("no more")

    class Protocol(asyncio.Protocol):
        connection_made = property(lambda self: 1 / 0)

    async def main():
        ours, peer = raw_pair()
        for arguments in (
            (),
            (loop,),
            (loop, ours),
            (None, ours, Events()),
            (asyncio.SelectorEventLoop, ours, Events()),
            (loop, None, Events()),
            (loop, object(), Events()),
            (loop, -1, Events()),
            (loop, 5, Events()),
            (loop, ours, Events(), None, None, Refusing()),
            (loop, ours, Events(), None, None, None, None, None),
            (loop, ours, Events(), None, None, None, "context"),
            (loop, ours, Protocol()),
        ):
            assert outcome(cls, *arguments)[0] == "raised"
            await asyncio.sleep(0)
        protocol = Events()
        transport, _ = await connect(protocol, sockets=(ours, peer))
        for _ in range(2):
            with pytest.raises(TypeError):
                transport.__init__(loop, ours, Events())
        transport.write(b"as before")
        transport.close()
        await protocol.lost
        with pytest.raises(TypeError):
            transport.__init__(loop, ours, Events())
        assert peer.recv(100) == b"as before"
        peer.close()

    run(main())
    collect()


def test_subclasses_that_get_in_the_way(loop, run):
    """Data whose methods end the connection that is to send it."""

    class Data(bytes):
        def __len__(self):
            transport.abort()
            return 5

        def __buffer__(self, flags):
            transport._call_connection_lost(None)
            return memoryview(b"12345")

    class Lines(list):
        def __iter__(self):
            transport._call_connection_lost(None)
            return iter([b"a", bytearray(70_000)])

    async def main():
        nonlocal transport
        for attempt in (
            lambda: transport.write(Data(b"12345")),
            lambda: transport.writelines([b"x", Data(b"12345")]),
            lambda: transport.writelines(Lines([b"x"])),
        ):
            protocol = Events()
            transport, peer = await connect(protocol)
            outcome(attempt)
            outcome(transport.abort)
            await asyncio.sleep(0.001)
            peer.close()

    transport = None
    if type(loop).__module__ == "hotloop":
        loop.set_exception_handler(Contexts())
        run(main())


def test_ending_the_connection_from_inside_get_buffer(loop, run):
    async def main():
        class Evil(asyncio.BufferedProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def get_buffer(self, hint):
                self.transport._call_connection_lost(None)
                return bytearray(10)

            def buffer_updated(self, count):
                pass

        transport, peer = await connect(Evil())
        peer.send(b"x")
        await asyncio.sleep(0.002)
        peer.close()

    if type(loop).__module__ == "hotloop":
        loop.set_exception_handler(Contexts())
        run(main())


# -- after the loop ----------------------------------------------------------


def test_a_transport_after_its_loop_was_closed():
    def scenario(impl):
        loop = impl.new_event_loop()
        protocols = []

        async def main():
            protocols.append(Events())
            return await connect(protocols[0])

        transport, peer = loop.run_until_complete(main())
        loop.close()
        results = [
            outcome(transport.write, b"x"),
            outcome(transport.get_write_buffer_size),
            outcome(transport.pause_reading),
            outcome(transport.is_closing),
            plain(repr(transport)),
            peer.recv(10),
            outcome(transport.write_eof),
            outcome(transport.abort),
            outcome(transport.close),
            plain(repr(transport)),
        ]
        peer.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del transport
            protocols.clear()
            collect()
        return results

    same_on_both(scenario)


# -- sockets closed behind the transport's back ------------------------------


@pytest.mark.parametrize("way", ["close", "detach"])
@pytest.mark.parametrize("action", ["write", "big write", "write_eof", "close", "abort", "read"])
def test_a_reused_descriptor_gets_nothing_of_the_old_transport(loop, run, way, action):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        number = transport._sock_fd
        if way == "detach":
            os.close(transport._sock.detach())
        else:
            transport._sock.close()
        ours, other = raw_pair()
        assert number in (ours.fileno(), other.fileno())
        if other.fileno() == number:
            ours, other = other, ours
            ours.setblocking(False)
        second = Events()
        with contextlib.suppress(RuntimeError):  # asyncio of some versions: the number is in use
            reused, other = await connect(second, sockets=(ours, other))
            other.send(b"for the second")
            if action == "write":
                transport.write(b"for the first")
            elif action == "big write":
                transport.write(BIG)
            elif action != "read":
                with contextlib.suppress(OSError):
                    getattr(transport, action)()
            await asyncio.sleep(0.002)
            assert protocol.data == b""
            if type(loop).__module__ == "hotloop":
                await until(lambda: second.data == b"for the second")
                reused.write(b"from the second")
                await asyncio.sleep(0.001)
            other.setblocking(False)
            try:
                got = other.recv(1000)
            except BlockingIOError:
                got = b""
            assert got in (b"", b"from the second")
            if type(loop).__module__ == "hotloop":
                assert got == b"from the second"
            reused.abort()
            await asyncio.sleep(0.001)
        transport.abort()
        await asyncio.sleep(0.001)
        for sock in (ours, other, peer):
            sock.close()

    loop.set_exception_handler(Contexts())
    run(main())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        collect()


def test_writing_to_a_socket_closed_behind_our_back():
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport._sock.close()
        transport.write(b"x")
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log

    log, contexts = same_on_both(on_loop(main))
    assert log[-1][1][0] is OSError


# -- leaks -------------------------------------------------------------------

CONNECTIONS = int(os.environ.get("HOTLOOP_CONNECTIONS", 2000 // PATIENCE))


@pytest.mark.parametrize("tls", [False, True])
def test_connections_leave_nothing_behind(run, loop, tls, request):
    """Objects, descriptors and memory over many connections, all of their ends."""
    server_tls = request.getfixturevalue("server_tls") if tls else None
    client_tls = request.getfixturevalue("client_tls") if tls else None
    name = {"server_hostname": "localhost"} if tls else {}

    async def burst(count):
        server_side = []

        def serve():
            server_side.append(Events(data_received=lambda self, data: self.transport.write(data)))
            return server_side[-1]

        server = await loop.create_server(serve, "127.0.0.1", 0, ssl=server_tls)
        where = server.sockets[0].getsockname()
        for number in range(count):
            protocol = Events()
            transport, _ = await loop.create_connection(
                lambda p=protocol: p, *where, ssl=client_tls, **name
            )
            transport.write(b"x" * (number % 2000 + 1))
            if number % 4 == 0:
                await asyncio.sleep(0)
            if number % 3 == 0:
                transport.abort()
            else:
                transport.close()
            await protocol.lost
        server.close()
        await until(lambda: len(open_descriptors()) <= descriptors)
        return server

    def measured():
        collect()
        return len(gc.get_objects()), len(open_descriptors()), resident_bytes()

    run(timer_opened())
    descriptors = len(open_descriptors())
    count = CONNECTIONS // (20 if tls else 4)
    run(burst(count))
    before = measured()
    run(burst(count))
    after = measured()
    assert after[1] == before[1]
    assert after[0] - before[0] < 50
    assert after[2] - before[2] < 8_000_000 * PATIENCE


def test_a_thousand_idle_connections(loop, run):
    count = 1000 // (1 if PATIENCE == 1 else 4)

    async def main():
        pairs = [raw_pair() for _ in range(count)]
        protocols = []
        for pair in pairs:
            protocols.append(Events())
            await connect(protocols[-1], sockets=pair)
        for protocol, (_, peer) in zip(protocols[::7], pairs[::7], strict=True):
            peer.send(b"hello")
            await asyncio.sleep(0)
        await until(lambda: all(protocol.data == b"hello" for protocol in protocols[::7]))
        assert not any(protocol.data for i, protocol in enumerate(protocols) if i % 7)
        for protocol, (_, peer) in zip(protocols, pairs, strict=True):
            protocol.transport.close()
            peer.close()
        await asyncio.gather(*(protocol.lost for protocol in protocols))

    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count + 100:
        pytest.skip("too few descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 100), hard))
    try:
        run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- what was written just before the end ------------------------------------


ENDS = {
    "raise OSError": lambda transport: exec("raise OSError"),
    "raise ValueError": lambda transport: exec("raise ValueError"),
    "_force_close": lambda transport: transport._force_close(None),
    "_fatal_error": lambda transport: transport._fatal_error(OSError(), "why"),
    "abort": lambda transport: transport.abort(),
}


@pytest.mark.parametrize("event", ["data_received", "eof_received"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_was_written_before_the_connection_is_ended_arrives(end, event):
    async def main():
        def last_words(protocol, *args):
            protocol.transport.write(b"HTTP/1.1 500 Internal Server Error")
            end(protocol.transport)

        protocol = Events(**{event: last_words})
        _, peer = await connect(protocol)
        if event == "data_received":
            peer.send(b"request")
        else:
            peer.shutdown(socket.SHUT_WR)
        received = await receive_all(peer)
        await protocol.lost
        peer.close()
        return received, protocol.log

    (received, _), _ = same_on_both(on_loop(main))
    assert received == b"HTTP/1.1 500 Internal Server Error"


def test_write_eof_after_a_write_that_failed_lets_write_on():
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        peer.close()
        results = []
        for call in (transport.write, b"a"), (transport.write_eof,), (transport.write, b"b"):
            results.append(outcome(*call))
        await protocol.lost
        return results, outcome(transport.write, b"c"), protocol.log

    same_on_both(on_loop(main))


def test_a_transport_whose_loop_is_closed():
    def scenario(impl):
        async def main():
            return await connect(Events())

        loop = impl.new_event_loop()
        transport, peer = loop.run_until_complete(main())
        transport.pause_reading()
        loop.close()
        results = [
            outcome(transport.write, BIG),
            outcome(transport.resume_reading),
            outcome(transport.get_write_buffer_size),
            outcome(repr, transport)[0],
        ]
        transport._sock.close()
        peer.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del transport
            collect()
        return results

    closed = ("raised", RuntimeError, "Event loop is closed")
    assert same_on_both(scenario)[:2] == [closed, closed]

"""Datagram transports: UDP and Unix, on stock asyncio and on the core's own transport."""

import asyncio
import contextvars
import errno
import gc
import os
import pathlib
import re
import socket
import sys
import tempfile
import warnings
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    ASYNCIO,
    HOTLOOP,
    IMPLEMENTATIONS,
    Contexts,
    Logged,
    close_tidily,
    collect,
    normalise,
    open_descriptors,
    outcome,
    same_on_both,
    script_output,
    turns,
    until,
)

queue_size_is_exact = pytest.mark.skipif(
    sys.version_info >= (3, 13)
    and not hasattr(asyncio.selector_events._SelectorDatagramTransport, "_header_size"),
    reason="asyncio counts headers in, but not out",
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are of Linux")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def plain(text):
    """Without what differs by implementation."""
    text = re.sub(r"fd=\d+", "fd=N", normalise(text))
    text = re.sub(r"/tmp/tmp\w+|hotloop-\d+-\d+", "PATH", text)
    return re.sub(r"_Selector(Datagram)?Transport", "DatagramTransport", text)


class Recorder(asyncio.DatagramProtocol):
    """Notes all that happens to it."""

    def __init__(self):
        self.log = []
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append(("made",))

    def datagram_received(self, data, addr):
        if isinstance(addr, str) and addr.startswith(tempfile.gettempdir() + "/tmp"):
            addr = os.path.basename(addr)
        self.log.append(("received", data, addr))

    def error_received(self, exc):
        self.log.append(("error", type(exc), exc.errno))

    def pause_writing(self):
        self.log.append(("pause", self.transport.get_write_buffer_size()))

    def resume_writing(self):
        self.log.append(("resume", self.transport.get_write_buffer_size()))

    def connection_lost(self, exc):
        self.log.append(("lost", exc and type(exc)))
        self.lost.set()

    def events(self, kind):
        return [event[1:] for event in self.log if event[0] == kind]

    def data(self):
        return [data for data, _ in self.events("received")]


class Echo(Recorder):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def udp(loop, factory=Recorder, host="127.0.0.1", **options):
    if not options:
        options["local_addr"] = (host, 0)
    return await loop.create_datagram_endpoint(factory, **options)


async def unix_pair(loop, factory=Recorder):
    """A transport on one end of a socket pair, its protocol, and the other end."""
    left, right = named_pair()
    right.setblocking(False)
    transport, protocol = await loop.create_datagram_endpoint(factory, sock=left)
    return transport, protocol, right


def named_pair():
    """As socketpair(), but asyncio takes sockets for connected only if their peers have names."""
    pair = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        for sock, name in zip(pair, "ab"):
            sock.bind(os.path.join(folder, name))
        for sock, other in zip(pair, reversed(pair)):
            sock.connect(other.getsockname())
    return pair


def drain(sock):
    """All that can be read from a socket now."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 19))
        except BlockingIOError:
            return found


async def lost(*ends):
    for transport, protocol in ends:
        transport.close()
        await protocol.lost.wait()


def on_both(scenario, debug=False):
    """Run the coroutine function scenario(loop) on every implementation; the results are the same."""

    def running(implementation):
        before = open_descriptors()
        loop = implementation.new_event_loop()
        loop.set_debug(debug)
        loop.set_exception_handler(contexts := Contexts())
        try:
            result = loop.run_until_complete(scenario(loop))
        finally:
            loop.set_debug(False)
            close_tidily(loop)
        collect()
        assert set(open_descriptors()) <= set(before)
        told = [
            {
                key: plain(str(value))
                for key, value in c.items()
                if key not in ("source_traceback", "handle")
            }
            | {"types": {key: is_kind(value) for key, value in c.items()}}
            for c in contexts
        ]
        return result, told

    return same_on_both(running)


def is_kind(value):
    for kind in (asyncio.Handle, asyncio.DatagramTransport, asyncio.Transport, BaseException):
        if isinstance(value, kind):
            return (
                type(value).__name__
                if kind is BaseException
                else kind.__name__.replace("Datagram", "")
            )
    return type(value).__name__


# -- to and fro --------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_ping_pong(loop, run, host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6")

    async def main():
        server, served = await udp(loop, Echo, host)
        where = server.get_extra_info("sockname")
        client, protocol = await udp(loop, remote_addr=where[:2])
        for i in range(50):
            client.sendto(b"ping %d" % i)
            await until(lambda: len(protocol.events("received")) == i + 1)
        assert protocol.events("received") == [(b"ping %d" % i, where) for i in range(50)]
        assert {addr for _, addr in served.events("received")} == {
            client.get_extra_info("sockname")
        }
        await lost((client, protocol), (server, served))

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_addresses_are_those_of_recvfrom(loop, run, host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6")
    family = socket.AF_INET if host == "127.0.0.1" else socket.AF_INET6

    async def main():
        transport, protocol = await udp(loop, host=host)
        where = transport.get_extra_info("sockname")
        with (
            socket.socket(family, socket.SOCK_DGRAM) as one,
            socket.socket(family, socket.SOCK_DGRAM) as two,
        ):
            one.bind((host, 0))
            two.bind((host, 0))
            for sock in (one, two, one):
                sock.sendto(b"x", where)
            await until(lambda: len(protocol.events("received")) == 3)
            addrs = [addr for _, addr in protocol.events("received")]
            assert addrs == [one.getsockname(), two.getsockname(), one.getsockname()]
            assert [[type(part) for part in addr] for addr in addrs] == [
                [type(part) for part in one.getsockname()]
            ] * 3
            # And back, in every form that means the same.
            port = one.getsockname()[1]
            forms = [(host, port), [host, port][:0] or (str(host), port)]
            if family == socket.AF_INET6:
                forms += [(host, port, 0), (host, port, 0, 0)]
            forms.append(addrs[0])
            one.settimeout(5)
            for form in forms:
                transport.sendto(b"back", form)
                assert one.recv(10) == b"back"
        await lost((transport, protocol))

    run(main())


def test_host_names_are_resolved(loop, run):
    async def main():
        transport, protocol = await udp(loop, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        transport.sendto(b"name", ("localhost", port))
        transport.sendto(b"class", (type("Name", (str,), {})("127.0.0.1"), port))
        transport.sendto(b"any", ("", port))
        await until(lambda: len(protocol.events("received")) == 3)
        assert protocol.data() == [b"name", b"class", b"any"]
        await lost((transport, protocol))

    run(main())


def link_local_address():
    """(address, 0, 0, interface) of this machine, or None."""
    try:
        lines = pathlib.Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return None
    for digits, index, _, scope, *_ in map(str.split, lines):
        if scope == "20":
            address = (
                socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)),
                0,
                0,
                int(index, 16),
            )
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                try:
                    sock.bind(address)
                except OSError:
                    continue
            return address
    return None


def test_link_local_addresses_keep_their_scope(loop, run):
    address = link_local_address()
    if address is None:
        pytest.skip("no link-local address")

    async def main():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind(address)
        transport, protocol = await udp(loop, sock=sock)
        transport.sendto(b"self", sock.getsockname())
        await until(lambda: protocol.data())
        assert protocol.events("received") == [(b"self", sock.getsockname())]
        await lost((transport, protocol))

    run(main())


@pytest.mark.parametrize("size", [0, 1, 1400, 65507])
def test_sizes(size):
    async def scenario(loop):
        server, served = await udp(loop)
        client, protocol = await udp(loop, remote_addr=server.get_extra_info("sockname"))
        client.sendto(bytes(size))
        client.sendto(b"end")
        await until(lambda: b"end" in served.data())
        await lost((client, protocol), (server, served))
        return served.data(), protocol.log

    on_both(scenario)


def test_datagrams_too_long_are_an_error():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        transport.sendto(bytes(65508), transport.get_extra_info("sockname"))
        transport.sendto(b"fine", transport.get_extra_info("sockname"))
        await until(lambda: protocol.data())
        await lost((transport, protocol))
        return protocol.data(), protocol.events("error")

    assert on_both(scenario)[0] == ([b"fine"], [(OSError, errno.EMSGSIZE)])


def test_all_kinds_of_buffers():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        mutable = bytearray(b"bytearray")
        for data in (
            b"bytes",
            mutable,
            memoryview(b"view"),
            memoryview(b"a view's part")[2:6],
            memoryview(b"12345678").cast("I"),
            type("Bytes", (bytes,), {})(b"subclass"),
        ):
            transport.sendto(data)
        mutable[:] = b"changed"
        with other:
            received = drain(other)
            await lost((transport, protocol))
        return received

    assert len(on_both(scenario)[0]) == 6


def test_what_is_queued_is_a_copy():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        while not transport.get_write_buffer_size():
            transport.sendto(b"fill")
        mutable = bytearray(b"before")
        transport.sendto(mutable)
        mutable[:] = b"after!"
        transport.close()
        received = []
        with other:
            while not protocol.lost.is_set():
                received += drain(other)
                await asyncio.sleep(0)
            received += drain(other)
        return received[-1], set(received[:-1])

    assert on_both(scenario)[0] == (b"before", {b"fill"})


# -- Unix --------------------------------------------------------------------


def test_paths(loop, run, tmp_path):
    async def main():
        paths = [str(tmp_path / name) for name in ("one", "two", "n\xfcmber\udcff")]
        ends = [
            await loop.create_datagram_endpoint(Recorder, path, family=socket.AF_UNIX)
            for path in paths
        ]
        for transport, _ in ends:
            assert transport.get_extra_info("sockname") in paths
            assert transport.get_extra_info("peername") is None
            for path in paths:
                transport.sendto(b"to " + os.fsencode(path), path)
        await until(lambda: all(len(protocol.data()) == 3 for _, protocol in ends))
        for path, (_, protocol) in zip(paths, ends):
            assert protocol.events("received") == [(b"to " + os.fsencode(path), p) for p in paths]
        await lost(*ends)

    run(main())


def test_the_longest_path(loop, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "x" * 107

    async def main():
        server, served = await udp(loop, local_addr="server", family=socket.AF_UNIX)
        client, protocol = await udp(loop, local_addr=path, family=socket.AF_UNIX)
        client.sendto(b"hello", b"server")
        await until(served.data)
        assert served.events("received") == [(b"hello", path)]
        server.sendto(b"back", path)
        await until(protocol.data)
        await lost((server, served), (client, protocol))

    run(main())


@linux_only
def test_abstract_names(loop, run):
    name = b"\0hotloop test %d" % os.getpid()

    async def main():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(name)
        server, served = await udp(loop, Echo, sock=sock)
        assert server.get_extra_info("sockname") == name
        client, protocol = await udp(
            loop,
            local_addr=name.decode() + "client",
            remote_addr=name.decode(),
            family=socket.AF_UNIX,
        )
        client.sendto(b"hello")
        await until(protocol.data)
        assert protocol.events("received") == [(b"hello", name)]
        assert served.events("received") == [(b"hello", name + b"client")]
        await lost((server, served), (client, protocol))

    run(main())


def test_peers_without_a_name():
    async def scenario(loop):
        left, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        transport, protocol = await udp(loop, sock=left)
        with other:
            other.send(b"one")
            await until(protocol.data)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                path = f"/tmp/hotloop-{os.getpid()}-{id(loop)}"
                named, bound = await udp(loop, local_addr=path, family=socket.AF_UNIX)
                sock.connect(path)
                sock.send(b"unnamed")
                await until(bound.data)
            os.unlink(path)
            await lost((transport, protocol), (named, bound))
        extra = [transport.get_extra_info(name) for name in ("sockname", "peername")]
        return protocol.log, bound.events("received"), extra

    on_both(scenario)


def test_batches_of_unix_datagrams_are_whole(loop, run):
    async def main():
        transport, protocol, other = await unix_pair(loop)
        sent = []
        with other:
            for i in range(600):
                data = bytes([i % 256]) * (i * 37 % 5000)
                while True:
                    try:
                        other.send(data)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(0)
                sent.append(data)
            await until(lambda: len(protocol.data()) == 600)
        assert protocol.data() == sent
        await lost((transport, protocol))

    run(main())


# -- how it begins ----------------------------------------------------------------


def test_the_order_of_the_first_calls():
    async def scenario(loop):
        log = []

        class Protocol(Recorder):
            def connection_made(self, transport):
                log.append(("made", transport.is_reading(), waiter.done()))
                loop.call_soon(log.append, "after made")

            def datagram_received(self, data, addr):
                log.append((data, waiter.done()))

        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setblocking(False)
        right.send(b"early")
        waiter = loop.create_future()
        waiter.add_done_callback(lambda _: log.append("waiter"))
        transport = loop._make_datagram_transport(left, protocol := Protocol(), None, waiter)
        log.append(waiter.done())
        for _ in range(5):
            await asyncio.sleep(0)
            log.append("turn")
        await until(lambda: (b"early", True) in log)
        transport.close()
        await protocol.lost.wait()
        right.close()
        return [entry for entry in log if entry != "turn"], log.index("waiter")

    on_both(scenario)


def test_a_cancelled_waiter_is_left_alone(loop, run):
    async def main():
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        waiter = loop.create_future()
        waiter.cancel()
        transport = loop._make_datagram_transport(left, protocol := Recorder(), waiter=waiter)
        await asyncio.sleep(0.001)
        with right:
            await lost((transport, protocol))

    run(main())


def test_extra_information():
    async def scenario(loop):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        given = {"own": 1, "peername": "somebody"}
        transport = loop._make_datagram_transport(left, protocol := Recorder(), extra=given)
        assert transport._extra is given
        wrapped = transport.get_extra_info("socket")
        assert isinstance(wrapped, asyncio.trsock.TransportSocket)
        assert wrapped.fileno() == left.fileno() == transport._sock_fd
        found = [
            transport.get_extra_info(name) for name in ("own", "sockname", "peername", "else")
        ]
        await asyncio.sleep(0)
        with right:
            await lost((transport, protocol))
        return found, transport.get_extra_info("nothing", "default")

    on_both(scenario)


def test_attributes_that_programs_read():
    names = (
        "_address _closing _paused _conn_lost _buffer_size _protocol_paused _protocol_connected _high_water"
        " _low_water _server max_size"
    ).split()

    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        seen = [
            [getattr(transport, name) for name in names],
            transport._loop is loop,
            transport._protocol is protocol is transport.get_protocol(),
            transport._sock.fileno() == transport._sock_fd,
            list(transport._buffer),
            transport.is_reading(),
            transport.is_closing(),
        ]
        while not transport.get_write_buffer_size():
            transport.sendto(b"fill")
        transport.sendto(b"more")
        seen += [list(transport._buffer), transport._buffer_size]
        transport.abort()
        seen += [transport.is_closing(), transport.is_reading(), transport._conn_lost]
        await protocol.lost.wait()
        other.close()
        seen += [getattr(transport, name) for name in names]
        seen += [transport._loop, transport._sock, transport._protocol, transport.get_protocol()]
        return seen

    on_both(scenario)


def test_a_transport_is_asyncios(loop, run):
    async def main():
        transport, protocol = await udp(loop)
        if sys.version_info >= (3, 12):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert isinstance(transport, asyncio.Transport)
        transport.anything = 1
        assert vars(transport)["anything"] == 1
        transport.sendto = lambda *args: args
        assert transport.sendto(1, 2) == (1, 2)
        del transport.sendto
        reference = weakref.ref(transport)
        assert reference() is transport
        for call in (lambda: transport.write(b"x"), lambda: transport.write_eof()):
            assert outcome(call)[:2] == ("raised", NotImplementedError)
        await lost((transport, protocol))

    run(main())


def test_only_loops_make_transports():
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await udp(loop)
        cls = type(transport)
        for call in (cls, lambda: cls.__new__(cls), lambda: object.__new__(cls)):
            with pytest.raises(TypeError):
                call()
        with pytest.raises(TypeError):
            type("Mine", (cls,), {})
        await lost((transport, protocol))

    HOTLOOP.run(main())


def test_reprs():
    async def scenario(loop):
        def show():
            return plain(repr(transport)).replace(f"fd={fd}", "fd=N")

        transport, protocol, other = await unix_pair(loop)
        fd = transport._sock_fd
        seen = [show()]
        await asyncio.sleep(0)
        seen.append(show())
        transport.pause_reading()
        seen.append(show())
        while not transport.get_write_buffer_size():
            transport.sendto(b"fill")
        seen.append(show())
        transport.close()
        seen.append(show())
        transport.abort()
        seen.append(show())
        await protocol.lost.wait()
        seen.append(show())
        other.close()
        return seen

    on_both(scenario)


def test_one_descriptor_one_transport():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        sock = transport._sock
        found = [
            outcome(loop.add_reader, sock, print),
            outcome(loop.remove_writer, sock.fileno()),
            await asyncio.gather(loop.sock_recvfrom(sock, 1), return_exceptions=True)
            if loop.get_debug()
            else None,
        ]
        if sys.version_info >= (3, 12):
            found.append(outcome(loop._make_datagram_transport, sock, protocol))
        await lost((transport, protocol))
        return plain(str(found).replace(f"fd={sock.fileno()}", "fd=N"))[:60]

    on_both(scenario)


def test_bad_sockets():
    async def scenario(loop):
        closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        closed.close()
        found = []
        for sock in (None, 1.5, "x", object()):
            kind, what, *_ = outcome(loop._make_datagram_transport, sock, Recorder())
            found.append((kind, issubclass(what, (ValueError, AttributeError))))
        return found

    on_both(scenario)


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


# -- the end -----------------------------------------------------------------------


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


# -- one at a time ---------------------------------------------------------------


def test_what_a_protocol_schedules_runs_before_its_next_datagram():
    """Datagrams come in batches from the kernel, but a program cannot tell."""

    async def scenario(loop):
        log = []

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                log.append(data)
                loop.call_soon(log.append, b"after " + data)

        transport, protocol = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for round in range(5):
                for i in range(40):
                    sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
                await until(lambda: len(log) == 80 * (round + 1))
        await lost((transport, protocol))
        return log

    log, _ = on_both(scenario)
    expected = [entry for i in range(40) for entry in (b"%d" % i, b"after %d" % i)]
    assert log == expected * 5


def test_a_small_queue_does_not_overflow_if_its_reader_is_as_fast():
    async def scenario(loop):
        queue = asyncio.Queue(2)

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                try:
                    queue.put_nowait(data)
                except asyncio.QueueFull:
                    self.log.append(("dropped", data))

        transport, protocol = await udp(loop, Protocol)
        received = []

        async def reader():
            while len(received) + len(protocol.events("dropped")) < 150:
                received.append(await queue.get())

        task = asyncio.ensure_future(reader())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(3):
                for j in range(50):
                    sock.sendto(b"%d" % (i * 50 + j), transport.get_extra_info("sockname"))
                await until(lambda: len(received) == (i + 1) * 50)
        await task
        await lost((transport, protocol))
        return received == [b"%d" % i for i in range(150)]

    assert on_both(scenario)[0]


def test_stop_in_a_callback(loop):
    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            loop.stop()

    transport, protocol = loop.run_until_complete(udp(loop, Protocol))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(50):
            sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
    for i in range(50):
        loop.run_forever()
        assert len(protocol.data()) == i + 1
    loop.run_until_complete(lost((transport, protocol)))


def test_pausing_in_a_callback():
    async def scenario(loop):
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.pause_reading()

        transport, protocol = await udp(loop, Protocol)
        counts = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(40):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            for i in range(40):
                await until(lambda: len(protocol.data()) == i + 1)
                await asyncio.sleep(0.001)
                counts.append((len(protocol.data()), transport.is_reading()))
                transport.resume_reading()
                transport.resume_reading()
        await lost((transport, protocol))
        return counts, protocol.data()

    counts, data = on_both(scenario)[0]
    assert data == [b"%d" % i for i in range(40)]


def test_paused_in_the_middle_of_a_batch(loop, run):
    """What was taken from the kernel already waits, and comes first."""

    async def main():
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if len(self.data()) == 133:
                    self.transport.pause_reading()

        transport, protocol = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(160):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.data()) == 133)
            for i in range(160, 170):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await asyncio.sleep(0.005)
            assert len(protocol.data()) == 133
            transport.resume_reading()
            await until(lambda: len(protocol.data()) == 170)
        assert protocol.data() == [b"%d" % i for i in range(170)]
        await lost((transport, protocol))

    run(main())


def test_a_new_protocol_gets_the_next_datagram():
    async def scenario(loop):
        second = Recorder()

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == b"30":
                    self.transport.set_protocol(second)

        transport, first = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(40):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await until(lambda: len(second.data()) == 9)
        transport.close()
        await second.lost.wait()
        return first.data(), second.data(), first.log[-1][0], transport.get_protocol()

    on_both(scenario)


def test_timers_and_other_sockets_are_served_in_a_flood(loop, run):
    async def main():
        flooded, protocol = await udp(loop)
        other, answered = await udp(loop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            ticks = []

            def tick():
                ticks.append(loop.time())
                for _ in range(100):
                    sock.sendto(b"flood", flooded.get_extra_info("sockname"))
                sock.sendto(b"%d" % len(ticks), other.get_extra_info("sockname"))
                if len(ticks) < 50:
                    loop.call_later(0.0005, tick)

            tick()
            await until(lambda: len(answered.data()) == 50)
        assert answered.data() == [b"%d" % i for i in range(1, 51)]
        await lost((flooded, protocol), (other, answered))

    run(main())


def test_a_flood_from_another_thread(loop, run):
    async def main():
        transport, protocol = await udp(loop)
        where = transport.get_extra_info("sockname")

        def flood():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for i in range(3000):
                    sock.sendto(b"%d" % i, where)

        await asyncio.to_thread(flood)
        await asyncio.sleep(0.02)
        numbers = [int(data) for data in protocol.data()]
        assert numbers == sorted(numbers) and len(numbers) > 20
        await lost((transport, protocol))

    run(main())


# -- contexts ----------------------------------------------------------------------


@queue_size_is_exact
def test_contexts():
    variable = contextvars.ContextVar("variable", default=0)

    async def scenario(loop):
        seen = []

        class Protocol(Recorder):
            def connection_made(self, transport):
                seen.append(("made", variable.get()))
                super().connection_made(transport)
                variable.set("made")

            def datagram_received(self, data, addr):
                seen.append((data, variable.get()))
                variable.set(data)

            def connection_lost(self, exc):
                seen.append(("lost", variable.get()))
                super().connection_lost(exc)

            def pause_writing(self):
                seen.append(("pause", variable.get()))

            def resume_writing(self):
                seen.append(("resume", variable.get()))
                variable.set("resumed")

        variable.set("creator")
        transport, protocol, other = await unix_pair(loop, Protocol)
        variable.set("later")
        with other:
            for data in (b"one", b"two"):
                other.send(data)
                await until(lambda: seen[-1][0] == data)
            transport.pause_reading()
            transport.resume_reading()
            other.send(b"three")
            await until(lambda: seen[-1][0] == b"three")
            transport.set_write_buffer_limits(10)
            variable.set("sender")
            while transport.get_write_buffer_size() < 20:
                transport.sendto(b"fill")
            variable.set("later still")
            while transport.get_write_buffer_size():
                drain(other)
                await asyncio.sleep(0)
        variable.set("closer")
        await lost((transport, protocol))
        return seen, variable.get()

    on_both(scenario)


# -- flow control ------------------------------------------------------------------


def test_limits():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        found = [transport.get_write_buffer_limits()]
        for arguments in (
            {"high": 100},
            {"low": 100},
            {"high": 0},
            {"high": 10, "low": 10},
            {"high": 10.5, "low": 0.5},
            {"high": 1 << 100},
            {"high": 1, "low": 2},
            {"high": -1},
            {"low": -1},
            {},
        ):
            found.append(outcome(transport.set_write_buffer_limits, **arguments))
            found.append(transport.get_write_buffer_limits())
        found.append(outcome(transport.set_write_buffer_limits, 50, 5))
        for wrong in ({"high": "x"}, {"low": b"x"}, {"high": object()}):
            assert outcome(transport.set_write_buffer_limits, **wrong)[:2] == ("raised", TypeError)
        found.append(transport.get_write_buffer_limits())
        await lost((transport, protocol))
        return found

    on_both(scenario)


@queue_size_is_exact
def test_pause_and_resume():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        transport.set_write_buffer_limits(high=100, low=20)
        with other:
            for _ in range(3):
                while not protocol.log[-1][0] == "pause":
                    transport.sendto(b"x" * 30)
                transport.sendto(b"x" * 30)
                drain(other)
                await until(lambda: protocol.log[-1][0] == "resume")
                while transport.get_write_buffer_size():
                    drain(other)
                    await asyncio.sleep(0)
        await lost((transport, protocol))
        return [event[0] for event in protocol.log], protocol.events("pause")

    kinds, sizes = on_both(scenario)[0]
    assert kinds == ["made"] + ["pause", "resume"] * 3 + ["lost"]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3000)),
        st.tuples(st.just("read"), st.integers(1, 12)),
        st.tuples(st.just("limits"), st.integers(0, 5000)),
        st.tuples(st.just("receive"), st.integers(0, 100)),
        st.sampled_from([("turn",), ("pause",), ("resume",)]),
    ),
    max_size=60,
)


@queue_size_is_exact
@given(OPERATIONS, st.sampled_from(["close", "abort"]))
def test_random_programs(operations, ending):
    """Every event in the same order, on both; pauses and resumes come in turn."""

    def running(implementation):
        loop = implementation.new_event_loop()
        transport, protocol, other = loop.run_until_complete(unix_pair(loop))
        transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        received = 0
        for name, *arguments in operations:
            if name == "send":
                transport.sendto(b"x" * arguments[0])
            elif name == "read":
                for _ in range(arguments[0]):
                    try:
                        protocol.log.append(("peer", len(other.recv(5000))))
                    except BlockingIOError:
                        pass
            elif name == "receive":
                try:
                    other.send(b"y" * arguments[0])
                    received += not transport._paused
                except BlockingIOError:
                    pass
            elif name == "limits":
                transport.set_write_buffer_limits(arguments[0])
            elif name == "pause":
                turns(loop, 12)
                transport.pause_reading()
            elif name == "resume":
                transport.resume_reading()
            # Long enough for all that is readable, and for one round of sending.
            turns(loop, 12)
            protocol.log.append(("size", transport.get_write_buffer_size()))
        getattr(transport, ending)()
        for _ in range(200):
            if protocol.lost.is_set():
                break
            protocol.log.append(("rest", len(drain(other))))
            turns(loop, 1)
        other.close()
        close_tidily(loop)
        kinds = [event[0] for event in protocol.log if event[0] in ("pause", "resume", "lost")]
        assert kinds[-1] == "lost"
        assert kinds[:-1] == (["pause", "resume"] * 60)[: len(kinds) - 1]
        # How much of the queue goes in one turn of sending is up to the kernel's batches.
        return [event for event in protocol.log if event[0] not in ("rest", "resume")], sum(
            event[1] for event in protocol.log if event[0] == "rest"
        )

    same_on_both(running)


# -- sockets of other kinds --------------------------------------------------------


class Wrapped:
    """A socket in the clothes of another class."""

    def __init__(self, sock):
        self.sock = sock
        self.calls = []

    def __getattr__(self, name):
        if name in ("recvfrom", "send", "sendto"):
            self.calls.append(name)
        return getattr(self.sock, name)


class Mine(socket.socket):
    def recvfrom(self, *args):
        data, addr = super().recvfrom(*args)
        return data.upper(), addr


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

"""Datagram transports, UDP and Unix: what goes to and fro, how they begin, what they show."""

import asyncio
import contextlib
import errno
import os
import pathlib
import socket
import sys
import weakref

import pytest
from datagrams import Echo, Recorder, drain, lost, on_both, plain, udp, unix_pair
from sockets import has_ipv6
from support import HOTLOOP, outcome, until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are of Linux")


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


@pytest.mark.parametrize("size", [0, 5, 1 << 30, -1])
def test_max_size_is_what_is_kept_of_a_datagram(size):
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        with other:
            for sizes in ([10], [10], [10, 3, 10, 100_000], [10, 3, 10]):
                with contextlib.suppress(TimeoutError, OSError):
                    for length in sizes:
                        other.send(bytes(length))
                    await asyncio.wait_for(protocol.lost.wait(), 0.01)
                transport.max_size = size
        transport.close()
        await protocol.lost.wait()
        return protocol.log, transport.max_size

    (log, _), contexts = on_both(scenario)
    lengths = [len(event[1]) for event in log if event[0] == "received"]
    assert lengths[0] == 10
    assert max(lengths[1:], default=0) == min(max(size, 0), 100_000)
    assert len(contexts) == (size < 0)


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

"""Streams and servers as programs use them, and every keyword they take."""

import asyncio
import errno
import os
import socket
import sys
import threading

import pytest
from serving import LIMIT, Recorder, address, echo, finish, serving
from support import same_on_both, until

# -- streams -----------------------------------------------------------------


def test_a_stream_server_echoes_to_many_clients(run):
    async def client(where, number):
        reader, writer = await asyncio.open_connection(*where)
        for serial in range(5):
            message = f"{number}:{serial}\n".encode()
            writer.write(message)
            await writer.drain()
            assert await reader.readline() == message
        await finish(writer)

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            await asyncio.gather(*(client(address(server), number) for number in range(30)))

    run(main())


def test_large_data_goes_through_unharmed(run):
    payload = bytes(range(256)) * 40000  # about ten megabytes

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            reader, writer = await asyncio.open_connection(*address(server))

            async def send():
                for start in range(0, len(payload), 100000):
                    writer.write(payload[start : start + 100000])
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.ensure_future(send())
            assert await reader.read() == payload
            await sending
            await finish(writer)

    run(main())


async def echoed(path, data):
    """What an echo server on a Unix socket sends back."""
    async with serving(asyncio.start_unix_server(echo, path)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        writer.write_eof()
        received = await reader.read()
        await finish(writer)
        return received


def test_unix_streams(run, tmp_path):
    assert run(echoed(str(tmp_path / "socket"), b"hello")) == b"hello"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_abstract_unix_sockets(run):
    """uvloop#528."""
    name = f"\0hotloop-test-{os.getpid()}-{threading.get_ident()}"
    assert run(echoed(name, b"abstract")) == b"abstract"


def test_ipv6_streams(run):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def main():
        async with serving(asyncio.start_server(echo, "::1", 0)) as server:
            reader, writer = await asyncio.open_connection(*address(server))
            writer.write(b"six")
            writer.write_eof()
            assert await reader.read() == b"six"
            await finish(writer)

    run(main())


def test_a_connection_refused(run):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        where = sock.getsockname()

    async def main():
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*where)

    run(main())


def test_writing_after_close_never_raises(loop, run, logged):
    """uvloop#506, #685: RuntimeError there. asyncio logs a warning after a few attempts."""

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            transport, protocol = await loop.create_connection(Recorder, *address(server))
            transport.close()
            for _ in range(3):
                transport.write(b"late")
                if not (3, 12) <= sys.version_info < (3, 14):
                    # asyncio of 3.12.1 and 3.13.0 fails here: TypeError: 'NoneType' object is not callable
                    transport.writelines([b"later", b"still"])
            transport.pause_reading()
            transport.resume_reading()
            await protocol.lost
            transport.write(b"much later")
            transport.close()
            transport.abort()

    run(main())
    assert set(logged.messages()) <= {"socket.send() raised exception."}


def test_writing_after_the_peer_left_is_reported_by_connection_lost_only(loop, run):
    """uvloop#506."""

    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        right.close()
        for _ in range(4):
            transport.write(b"x" * 10)
            await asyncio.sleep(0.001)
        await asyncio.wait_for(protocol.lost, LIMIT)
        transport.write(b"gone")

    run(main())


def test_transports_are_asyncio_transports(loop, run):
    """uvloop#51: isinstance, attributes, the real socket."""

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            transport, protocol = await loop.create_connection(Recorder, *address(server))
            assert isinstance(transport, asyncio.Transport)
            transport.attribute = "kept"
            assert transport.attribute == "kept"
            sock = transport.get_extra_info("socket")
            assert sock.getpeername() == address(server)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert transport.get_extra_info("peername") == address(server)
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert transport.get_extra_info("nothing", 5) == 5
            assert transport.get_protocol() is protocol
            assert transport.is_reading() and not transport.is_closing()
            transport.close()
            assert transport.is_closing()
            await protocol.lost

    run(main())


def test_half_close_and_events_are_those_of_asyncio():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            servers = []

            def make():
                servers.append(Recorder())
                return servers[-1]

            server = await loop.create_server(make, "127.0.0.1", 0)
            transport, client = await loop.create_connection(Recorder, *address(server))
            transport.write(b"request")
            transport.write_eof()
            await until(lambda: servers and ("eof" in servers[0].log))
            await asyncio.wait_for(client.lost, LIMIT)
            await asyncio.wait_for(servers[0].lost, LIMIT)
            server.close()
            await server.wait_closed()
            return client.log, servers[0].log, servers[0].data

        return impl.run(main())

    client, server, data = same_on_both(scenario)
    assert data == b"request"
    assert server == ["made", "data", "eof", ("lost", type(None))]


def test_flow_control_pauses_and_resumes_once(loop, run):
    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        transport.write(b"x" * 5_000_000)
        assert transport.get_write_buffer_size() > 0
        assert protocol.log == ["made", "pause"]
        received = 0
        while received < 5_000_000:
            received += len(await loop.sock_recv(right, 1 << 20))
        await until(lambda: "resume" in protocol.log)
        assert protocol.log == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost
        right.close()

    run(main())


def test_paused_reading_holds_data_back(loop, run):
    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        transport.pause_reading()
        assert not transport.is_reading()
        right.send(b"held back")
        await asyncio.sleep(0.01)
        assert protocol.data == b""
        transport.resume_reading()
        await until(lambda: protocol.data == b"held back")
        transport.close()
        await protocol.lost
        right.close()

    run(main())


def test_a_buffered_protocol_reads_into_its_own_buffer(loop, run):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(4)
            self.data = b""
            self.lost = loop.create_future()

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, count):
            self.data += self.buffer[:count]

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Buffered, sock=left)
        right.send(b"more than four bytes")
        right.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        assert protocol.data == b"more than four bytes"

    run(main())


def test_abort_resets_the_connection(loop, run):
    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            transport, protocol = await loop.create_connection(Recorder, *address(server))
            transport.write(b"x" * 1000)
            transport.abort()
            assert await protocol.lost is None

    run(main())


def test_happy_eyeballs_and_its_keywords(run, loop):
    """uvloop#406."""

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            port = address(server)[1]
            reader, writer = await asyncio.open_connection(
                "localhost", port, happy_eyeballs_delay=0.05, interleave=1
            )
            await finish(writer)
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup):
                await loop.create_connection(asyncio.Protocol, "localhost", port, all_errors=True)

    run(main())


# -- servers -----------------------------------------------------------------


def test_a_server_can_be_started_later_and_is_an_asyncio_server(loop, run):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
        assert isinstance(server, asyncio.AbstractServer)
        assert not server.is_serving()
        await server.start_serving()
        assert server.is_serving() and server.get_loop() is loop
        server.close()
        await server.wait_closed()
        assert not server.is_serving() and len(server.sockets) == 0

    run(main())


def test_serve_forever_ends_with_the_close_of_the_server(run):
    """uvloop#602."""

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0.001)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, LIMIT)

    run(main())


def test_a_server_on_several_addresses(run):
    async def main():
        starting = asyncio.start_server(echo, ["127.0.0.1", "127.0.0.2"], 0)
        async with serving(starting) as server:
            for sock in server.sockets:
                reader, writer = await asyncio.open_connection(*sock.getsockname())
                writer.write(b"x")
                assert await reader.read(1) == b"x"
                await finish(writer)

    run(main())


def test_a_port_in_use_is_an_error(run):
    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0)) as server:
            with pytest.raises(OSError) as caught:
                await asyncio.start_server(echo, *address(server), reuse_address=False)
            assert caught.value.errno == errno.EADDRINUSE

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in 3.13")
def test_a_server_can_close_and_abort_its_clients(loop, run):
    """uvloop#683."""

    async def main():
        for method in ("close_clients", "abort_clients"):
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            transport, protocol = await loop.create_connection(Recorder, *address(server))
            await asyncio.sleep(0.01)
            getattr(server, method)()
            await asyncio.wait_for(protocol.lost, LIMIT)
            server.close()
            await asyncio.wait_for(server.wait_closed(), LIMIT)

    run(main())


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="keep_alive and cleanup_socket are new in 3.13"
)
def test_servers_take_the_newer_keywords(loop, run, tmp_path):
    """keep_alive (zuvloop#27) and cleanup_socket (uvloop#623)."""
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, keep_alive=True)
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        server.close()
        for cleanup in (True, False):
            server = await loop.create_unix_server(
                asyncio.Protocol, str(path), cleanup_socket=cleanup
            )
            assert path.exists()
            server.close()
            await server.wait_closed()
            assert path.exists() is not cleanup

    run(main())


def test_a_server_on_a_socket_made_by_the_program(loop, run):
    async def main():
        sock = socket.create_server(("127.0.0.1", 0))
        async with serving(asyncio.start_server(echo, sock=sock)):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            await finish(writer)

    run(main())


def test_connect_accepted_socket(loop, run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            with socket.create_connection(listening.getsockname()) as client:
                accepted, _ = await loop.sock_accept(listening)
                transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
                client.send(b"accepted")
                await until(lambda: protocol.data == b"accepted")
                transport.close()
                await protocol.lost

    run(main())

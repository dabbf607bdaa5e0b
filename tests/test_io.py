"""Everything inherited from asyncio: streams, datagrams, TLS, pipes, subprocesses, executors, sendfile.

Lessons tier 2: each of its rows is a TypeError or NotImplementedError for somebody on another loop.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from support import HOTLOOP, PATIENCE, Contexts, outcome, same_on_both, script_output, until

LIMIT = 20 * PATIENCE


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def finish(writer):
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionError, ssl.SSLError):
        pass


@contextlib.asynccontextmanager
async def serving(starting):
    """A server, for a while; what it began has ended afterwards."""
    server = await starting
    try:
        yield server
    finally:
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=LIMIT)
        await asyncio.sleep(0.001)


def address(server):
    return server.sockets[0].getsockname()[:2]


class Recorder(asyncio.Protocol):
    """Writes down what is called on it."""

    def __init__(self):
        self.log = []
        self.data = b""
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append("made")

    def data_received(self, data):
        self.data += data
        if self.log[-1] != "data":
            self.log.append("data")

    def eof_received(self):
        self.log.append("eof")

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc)))
        if not self.lost.done():
            self.lost.set_result(exc)

    def pause_writing(self):
        self.log.append("pause")

    def resume_writing(self):
        self.log.append("resume")


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


def test_unix_streams(run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        async with serving(asyncio.start_unix_server(echo, path)):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            await finish(writer)

    run(main())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_abstract_unix_sockets(run):
    """Lessons row 20 (uvloop#528)."""
    name = f"\0hotloop-test-{os.getpid()}-{threading.get_ident()}"

    async def main():
        async with serving(asyncio.start_unix_server(echo, name)):
            reader, writer = await asyncio.open_unix_connection(name)
            writer.write(b"abstract")
            writer.write_eof()
            assert await reader.read() == b"abstract"
            await finish(writer)

    run(main())


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
    """Lessons row 3 (uvloop#506, #685): RuntimeError there. asyncio logs a warning after a few attempts."""

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
    """Lessons row 3."""

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
    """Lessons row 32 and 28: isinstance, attributes, the real socket."""

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
    """Lessons row 13 (uvloop#406)."""

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
    """Lessons row 15 (uvloop#602)."""

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
    """Lessons row 14 (uvloop#683)."""

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
    """Lessons rows 18 and 22."""
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


# -- the sock_* methods ------------------------------------------------------


def test_sock_methods_on_streams(loop, run):
    async def main():
        with socket.socket() as listening:
            listening.setblocking(False)
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            with socket.socket() as client:
                client.setblocking(False)
                accepting = asyncio.ensure_future(loop.sock_accept(listening))
                await loop.sock_connect(client, listening.getsockname())
                server, peer = await accepting
                assert peer == client.getsockname()
                with server:
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(server, 100) == b"hello"
                    receiving = asyncio.ensure_future(loop.sock_recv(client, 100))
                    await asyncio.sleep(0.001)
                    await loop.sock_sendall(server, b"answer")
                    assert await receiving == b"answer"
                    buffer = bytearray(10)
                    await loop.sock_sendall(client, b"into")
                    assert await loop.sock_recv_into(server, buffer) == 4
                    assert buffer[:4] == b"into"

    run(main())


def test_sock_methods_on_datagrams(loop, run):
    """Lessons row 12 (uvloop#561)."""

    async def main():
        with (
            socket.socket(type=socket.SOCK_DGRAM) as left,
            socket.socket(type=socket.SOCK_DGRAM) as right,
        ):
            for sock in (left, right):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            assert await loop.sock_sendto(left, b"datagram", right.getsockname()) == 8
            assert await loop.sock_recvfrom(right, 100) == (b"datagram", left.getsockname())
            await loop.sock_sendto(right, b"back", left.getsockname())
            buffer = bytearray(100)
            count, sender = await loop.sock_recvfrom_into(left, buffer)
            assert (buffer[:count], sender) == (b"back", right.getsockname())

    run(main())


def test_a_cancelled_sock_recv_leaves_no_watcher(loop, run):
    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            for _ in range(10):
                receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
            await asyncio.sleep(0.001)
            assert loop.remove_reader(left) is False
            right.send(b"still there")
            assert await loop.sock_recv(left, 100) == b"still there"

    run(main())


def test_sock_connect_to_nobody_is_refused(loop, run):
    async def main():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            where = probe.getsockname()
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(sock, where)

    run(main())


def test_blocking_sockets_are_refused_in_debug_mode(impl):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await loop.sock_recv(left, 10)

    impl.run(main(), debug=True)


# -- name resolution ---------------------------------------------------------


def test_getaddrinfo_and_getnameinfo(loop, run):
    async def main():
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert found == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        local = await loop.getaddrinfo(
            "localhost", "http", family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        assert ("127.0.0.1", 80) in [entry[4] for entry in local]
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await loop.getnameinfo(("127.0.0.1", 80), numeric) == ("127.0.0.1", "80")
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_UNIX)

    run(main())


# -- datagrams ---------------------------------------------------------------


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()
        self.errors = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.received.put_nowait((data, addr))

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_datagrams_over_udp(loop, run):
    async def main():
        server, server_protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
        where = server.get_extra_info("sockname")
        client, client_protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=where)
        assert isinstance(client, asyncio.BaseTransport)
        for number in range(20):
            client.sendto(b"%d" % number)
            data, sender = await asyncio.wait_for(server_protocol.received.get(), LIMIT)
            assert data == b"%d" % number
            server.sendto(data + b"!", sender)
            assert (await asyncio.wait_for(client_protocol.received.get(), LIMIT))[
                0
            ] == data + b"!"
        for transport, protocol in ((client, client_protocol), (server, server_protocol)):
            transport.close()
            assert await protocol.lost is None

    run(main())


def test_datagrams_over_unix_sockets(loop, run, tmp_path):
    """Lessons row 19 (uvloop#403)."""
    paths = [str(tmp_path / name) for name in ("a", "b")]

    async def main():
        first, _ = await loop.create_datagram_endpoint(Datagrams, paths[0], family=socket.AF_UNIX)
        second, protocol = await loop.create_datagram_endpoint(
            Datagrams, paths[1], family=socket.AF_UNIX
        )
        first.sendto(b"unix", paths[1])
        assert await asyncio.wait_for(protocol.received.get(), LIMIT) == (b"unix", paths[0])
        first.close()
        second.close()
        await protocol.lost
        await asyncio.sleep(0)

    run(main())


def test_a_datagram_nobody_receives_is_an_error_received(loop, run):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            where = probe.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=where)
        while not protocol.errors:
            transport.sendto(b"anybody?")
            await asyncio.sleep(0.001)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        transport.close()
        await protocol.lost

    run(main())


# -- TLS ---------------------------------------------------------------------


def test_streams_over_tls(run, server_tls, client_tls):
    payload = os.urandom(1_000_000)

    async def main():
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)) as server:
            reader, writer = await asyncio.open_connection(
                *address(server), ssl=client_tls, server_hostname="localhost"
            )
            assert writer.get_extra_info("ssl_object").version().startswith("TLS")
            sending = asyncio.ensure_future(send(writer))
            assert await reader.readexactly(len(payload)) == payload
            await sending
            await finish(writer)

    async def send(writer):
        writer.write(payload)
        await writer.drain()

    run(main())


def test_start_tls_upgrades_a_connection(loop, run, server_tls, client_tls):
    async def main():
        ready = asyncio.Queue()

        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go on\n")
            await writer.drain()
            await writer.start_tls(server_tls)
            ready.put_nowait(await reader.readline())
            writer.write(b"secret answer\n")
            await writer.drain()
            await finish(writer)

        async with serving(asyncio.start_server(serve, "127.0.0.1", 0)) as server:
            reader, writer = await asyncio.open_connection(*address(server))
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go on\n"
            await writer.start_tls(client_tls, server_hostname="localhost")
            writer.write(b"secret\n")
            assert await asyncio.wait_for(ready.get(), LIMIT) == b"secret\n"
            assert await reader.readline() == b"secret answer\n"
            await finish(writer)

    run(main())


def test_a_certificate_that_does_not_fit_is_refused(loop, run, server_tls, client_tls):
    async def main():
        loop.set_exception_handler(lambda loop, context: None)
        async with serving(asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    *address(server), ssl=client_tls, server_hostname="example.org"
                )
            await asyncio.sleep(0.01)

    run(main())


# -- pipes -------------------------------------------------------------------


def test_pipes_as_transports(loop, run):
    async def main():
        read, write = os.pipe()
        reader = asyncio.StreamReader()
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
        )
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb"))
        writing.write(b"through the pipe\n")
        assert await reader.readline() == b"through the pipe\n"
        writing.close()
        assert await reader.read() == b""
        reading.close()
        await asyncio.sleep(0.001)

    run(main())


# -- subprocesses ------------------------------------------------------------


def test_a_subprocess_talks_through_real_pipes(run):
    """Lessons row 25 (uvloop#505): sockets there."""

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os, stat, sys; print(stat.S_ISFIFO(os.fstat(1).st_mode)); "
            "sys.stderr.write(sys.stdin.read()); sys.exit(3)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate(b"input")
        assert (out, err, process.returncode) == (b"True\n", b"input", 3)

    run(main())


def test_a_shell_and_many_children_at_once(run):
    async def child(number):
        process = await asyncio.create_subprocess_shell(
            f"echo {number}; exit {number}", stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out, process.returncode

    async def main():
        results = await asyncio.gather(*(child(number) for number in range(10)))
        assert results == [(b"%d\n" % number, number) for number in range(10)]

    run(main())


def test_a_subprocess_can_be_signalled(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), LIMIT) == -15
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.kill()
        assert await asyncio.wait_for(process.wait(), LIMIT) == -9

    run(main())


def test_a_program_that_is_not_there(run):
    """Lessons row 26: no descriptor may be left by a failed start; the fixture looks."""

    async def main():
        for _ in range(20):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    "/nonexistent/program", stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )

    run(main())


def test_subprocess_keywords(run, tmp_path):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os; print(os.getcwd(), os.environ['WORD'], os.getpgid(0) == os.getpid())",
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={"WORD": "set"},
            start_new_session=True,
        )
        out, _ = await process.communicate()
        assert out.decode().split() == [str(tmp_path.resolve()), "set", "True"]

    run(main())


def test_a_subprocess_from_a_loop_in_another_thread(impl):
    results = []

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        results.append(await asyncio.wait_for(process.wait(), LIMIT))

    asyncio_needs_a_watcher = sys.version_info < (3, 12)
    if asyncio_needs_a_watcher:
        asyncio.get_child_watcher()  # the threaded one, made in the main thread
    thread = threading.Thread(target=lambda: impl.run(main()))
    thread.start()
    thread.join(LIMIT)
    assert results == [0]


# -- executors ---------------------------------------------------------------


def test_run_in_executor_with_threads(loop, run):
    async def main():
        assert await loop.run_in_executor(None, pow, 2, 5) == 32
        with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
            name = await loop.run_in_executor(pool, lambda: threading.current_thread().name)
            assert name.startswith("mine")
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    run(main())


def test_the_default_executor_can_be_set_and_is_shut_down(loop, run):
    class Pool(concurrent.futures.ThreadPoolExecutor):
        pass

    pool = Pool(1)
    loop.set_default_executor(pool)
    assert run(asyncio.to_thread(pow, 2, 6)) == 64
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError):
        pool.submit(print)
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        run(asyncio.to_thread(print))


def test_only_thread_pools_may_be_the_default(loop):
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(5)


def test_a_cancelled_executor_call_does_not_disturb_the_loop(loop, run):
    async def main():
        go_on = threading.Event()
        waiting = loop.run_in_executor(None, go_on.wait, LIMIT)
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        assert await asyncio.to_thread(pow, 3, 2) == 9

    run(main())


def test_run_in_executor_with_processes(impl):
    assert (
        script_output(
            impl,
            """
        import concurrent.futures, multiprocessing

        async def main():
            loop = asyncio.get_running_loop()
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                print(await asyncio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(5))))

        run(main())
        """,
            flags=["-W", "ignore::DeprecationWarning"],
        )
        == "[0, 1, 4, 9, 16]\n"
    )


# -- sendfile ----------------------------------------------------------------


def test_sendfile_over_a_transport(loop, run, tmp_path):
    """Lessons row 11 (uvloop#228)."""
    payload = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(payload)

    async def main():
        received = asyncio.Queue()

        async def serve(reader, writer):
            received.put_nowait(await reader.read())
            await finish(writer)

        async with serving(asyncio.start_server(serve, "127.0.0.1", 0)) as server:
            transport, protocol = await loop.create_connection(Recorder, *address(server))
            with path.open("rb") as file:
                assert await loop.sendfile(transport, file) == len(payload)
            transport.close()
            assert await asyncio.wait_for(received.get(), LIMIT) == payload
            await protocol.lost

    run(main())


def test_sendfile_over_tls_falls_back(loop, run, tmp_path, server_tls, client_tls):
    payload = os.urandom(100_000)
    path = tmp_path / "file"
    path.write_bytes(payload)

    async def main():
        received = asyncio.Queue()

        async def serve(reader, writer):
            received.put_nowait(await reader.readexactly(len(payload)))
            await finish(writer)

        async with serving(asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)) as server:
            transport, protocol = await loop.create_connection(
                Recorder, *address(server), ssl=client_tls, server_hostname="localhost"
            )
            with path.open("rb") as file:
                assert await loop.sendfile(transport, file) == len(payload)
            assert await asyncio.wait_for(received.get(), LIMIT) == payload
            transport.close()
            await asyncio.wait_for(protocol.lost, LIMIT)

    run(main())


def test_sock_sendfile(loop, run, tmp_path):
    payload = os.urandom(100_000)
    path = tmp_path / "file"
    path.write_bytes(payload)

    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)

            async def receive():
                data = b""
                while len(data) < len(payload):
                    data += await loop.sock_recv(right, 65536)
                return data

            receiving = asyncio.ensure_future(receive())
            with path.open("rb") as file:
                assert await loop.sock_sendfile(left, file) == len(payload)
            assert await receiving == payload

    run(main())


# -- everything at once ------------------------------------------------------


def test_nothing_of_asyncio_is_missing():
    """Every method of asyncio's loop is there, and none raises NotImplementedError for being absent."""
    missing = [
        name for name in dir(asyncio.SelectorEventLoop) if not hasattr(HOTLOOP.EventLoop, name)
    ]
    assert missing == []


def test_exceptions_in_protocols_are_reported_as_by_asyncio():
    def scenario(impl):
        class Failing(asyncio.Protocol):
            def data_received(self, data):
                raise LookupError("in data_received")

            def connection_lost(self, exc):
                lost.set_result(type(exc))

        async def main():
            nonlocal lost
            loop = asyncio.get_running_loop()
            lost = loop.create_future()
            contexts = Contexts()
            loop.set_exception_handler(contexts)
            left, right = socket.socketpair()
            left.setblocking(False)
            with right:
                await loop.create_connection(Failing, sock=left)
                right.send(b"x")
                kind = await asyncio.wait_for(lost, LIMIT)
            return kind, [(context["message"], type(context["exception"])) for context in contexts]

        lost = None
        return impl.run(main())

    kind, contexts = same_on_both(scenario)
    assert contexts == [("Fatal error: protocol.data_received() call failed.", LookupError)]


def test_create_connection_checks_its_arguments_as_asyncio():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            results = []
            for arguments, keywords in (
                ((), {}),
                (("127.0.0.1",), {"ssl": None, "server_hostname": "x"}),
                (("127.0.0.1", 1), {"sock": object()}),
                (("127.0.0.1", 1), {"bogus": 1}),
                (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
            ):
                try:
                    await loop.create_connection(asyncio.Protocol, *arguments, **keywords)
                except Exception as exc:
                    results.append((type(exc), str(exc)))
            return results

        return impl.run(main())

    assert len(same_on_both(scenario)) == 5


def test_outcome_of_closing_a_loop_with_open_transports():
    def scenario(impl):
        loop = impl.new_event_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
        result = outcome(loop.close)
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport
            import gc

            gc.collect()
        right.close()
        left.close()
        return result

    assert same_on_both(scenario) == ("returned", None)

"""Everything inherited from asyncio: sockets, names, datagrams, TLS, pipes, sendfile; streams and children are beside.

Lessons tier 2: each of its rows is a TypeError or NotImplementedError for somebody on another loop.
"""

import asyncio
import contextlib
import io
import os
import socket
import ssl

import pytest
from serving import LIMIT, Recorder, address, echo, finish, serving
from sockets import nobody
from support import HOTLOOP, Contexts, outcome, same_on_both

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
    """uvloop#561."""

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
        with nobody() as where, socket.socket() as sock:
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
    """uvloop#403."""
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
        with nobody(socket.SOCK_DGRAM) as where:
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


# -- sendfile ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def receiving():
    """A server that puts all that a client sends into a queue, and its address."""
    received = asyncio.Queue()

    async def serve(reader, writer):
        received.put_nowait(await reader.read())
        await finish(writer)

    async with serving(asyncio.start_server(serve, "127.0.0.1", 0)) as server:
        yield received, address(server)


def random_file(folder, size):
    """Its path and what is in it."""
    path, payload = folder / "file", os.urandom(size)
    path.write_bytes(payload)
    return path, payload


@pytest.fixture(params=["plain", "watched"])
def sockets(request, monkeypatch):
    """What hotloop has transports of its own for, and those that blockbuster keeps an eye on."""
    if request.param == "watched":
        send = socket.socket.send
        monkeypatch.setattr(socket.socket, "send", lambda *args: send(*args))


@pytest.mark.usefixtures("sockets")
def test_sendfile_over_a_transport(loop, run, tmp_path):
    """uvloop#228."""
    path, payload = random_file(tmp_path, 300_000)

    async def main():
        async with receiving() as (received, where):
            transport, protocol = await loop.create_connection(Recorder, *where)
            with path.open("rb") as file:
                assert await loop.sendfile(transport, file) == len(payload)
            transport.close()
            assert await asyncio.wait_for(received.get(), LIMIT) == payload
            await protocol.lost

    run(main())


@pytest.mark.usefixtures("sockets")
def test_a_second_sendfile_leaves_the_first_alone(loop, run, tmp_path):
    path, payload = random_file(tmp_path, 5_000_000)

    async def main():
        async with receiving() as (received, where):
            transport, protocol = await loop.create_connection(Recorder, *where)
            with path.open("rb") as file:
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                await asyncio.sleep(0)
                with pytest.raises(KeyError):
                    await loop.sendfile(transport, file)
                assert await sending == len(payload)
            transport.close()
            assert await asyncio.wait_for(received.get(), LIMIT) == payload
            await protocol.lost

    run(main())


def test_sendfile_over_tls_falls_back(loop, run, tmp_path, server_tls, client_tls):
    path, payload = random_file(tmp_path, 100_000)

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
    path, payload = random_file(tmp_path, 100_000)

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


class NotAFile:
    """What the kernel cannot send from."""

    def __init__(self, payload):
        self.rest = io.BytesIO(payload)

    def readinto(self, buffer):
        return self.rest.readinto(buffer)

    def seek(self, position):
        return self.rest.seek(position)


@pytest.mark.parametrize("kind", [io.BytesIO, NotAFile])
@pytest.mark.parametrize("size", [5, 1_000_000])
def test_sendfile_of_what_is_no_regular_file_falls_back(loop, run, kind, size):
    payload = os.urandom(size)

    async def main():
        async with receiving() as (received, where):
            transport, protocol = await loop.create_connection(Recorder, *where)
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(transport, kind(payload), fallback=False)
            assert await loop.sendfile(transport, kind(payload), 1) == size - 1
            assert transport.get_protocol() is protocol and transport.is_reading()
            transport.close()
            assert await asyncio.wait_for(received.get(), LIMIT) == payload[1:]
            await protocol.lost

    run(main())

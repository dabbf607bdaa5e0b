"""TLS: asyncio's own protocol, in another shape."""

import asyncio
import contextlib
import ssl
from asyncio import sslproto

import pytest
from support import HOTLOOP, PATIENCE

LIMIT = 20 * PATIENCE
INLINE_ATTRIBUTES = 30  # CPython's SHARED_KEYS_MAX_SIZE


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1000):
            writer.write(data)
    writer.close()


@pytest.fixture(params=[False, True], ids=["from the start", "start_tls"])
def late(request):
    return request.param


async def talk(where, client_tls, late):
    if late:
        reader, writer = await asyncio.open_connection(*where)
        await writer.start_tls(client_tls, server_hostname="localhost")
    else:
        reader, writer = await asyncio.open_connection(
            *where, ssl=client_tls, server_hostname="localhost"
        )
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return writer


async def with_connections(number, server_tls, client_tls, look, late=False):
    async def upgrade(reader, writer):
        await writer.start_tls(server_tls)
        await echo(reader, writer)

    serve = (upgrade, None) if late else (echo, server_tls)
    server = await asyncio.start_server(serve[0], "127.0.0.1", 0, ssl=serve[1])
    where = server.sockets[0].getsockname()[:2]
    writers = await asyncio.gather(*(talk(where, client_tls, late) for _ in range(number)))
    for writer in writers:
        look(writer.transport._ssl_protocol)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    server.close()
    await server.wait_closed()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    await asyncio.sleep(0.01)


def test_the_protocol_is_asyncios(run, server_tls, client_tls, late):
    protocols = []

    def look(protocol):
        assert isinstance(protocol, sslproto.SSLProtocol)
        assert repr(protocol).startswith("<asyncio.sslproto.SSLProtocol object at ")
        assert protocol._state is sslproto.SSLProtocolState.WRAPPED
        assert protocol._shutdown_timeout_handle is None
        assert protocol._handshake_timeout_handle is None
        protocol.some_attribute = 1
        protocols.append(protocol)

    run(with_connections(3, server_tls, client_tls, look, late))
    assert [protocol.some_attribute for protocol in protocols] == [1] * 3


def test_attributes_stay_in_the_objects(server_tls, client_tls, late):
    def look(protocol):
        assert len(vars(protocol)) < INLINE_ATTRIBUTES - 1

    HOTLOOP.run(with_connections(40, server_tls, client_tls, look, late))


def test_the_class_can_be_replaced(run, server_tls, client_tls, monkeypatch, late):
    class Mine(sslproto.SSLProtocol):
        pass

    def check(protocol):
        assert type(protocol) is Mine

    monkeypatch.setattr(sslproto, "SSLProtocol", Mine)
    run(with_connections(1, server_tls, client_tls, check, late))


def test_much_data_arrives_unharmed_on_many_connections(run, server_tls, client_tls):
    blocks = [bytes([number]) * 300_000 for number in range(20)]

    async def ask(where, block):
        reader, writer = await asyncio.open_connection(
            *where, ssl=client_tls, server_hostname="localhost"
        )
        answer = asyncio.create_task(reader.readexactly(len(block)))
        for start in range(0, len(block), 70_000):
            writer.write(block[start : start + 70_000])
            await writer.drain()
        assert await answer == block
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
        where = server.sockets[0].getsockname()[:2]
        await asyncio.gather(*(ask(where, block) for block in blocks))
        server.close()
        await server.wait_closed()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    run(main())


def test_connections_share_one_buffer(server_tls, client_tls, late):
    buffers = set()

    def look(protocol):
        buffers.add(id(protocol.get_buffer(-1).obj))
        assert len(protocol.get_buffer(-1)) == 256 * 1024

    HOTLOOP.run(with_connections(10, server_tls, client_tls, look, late))
    assert len(buffers) == 1


def test_tls_inside_of_tls_has_buffers_of_its_own(run, server_tls, client_tls):
    """Its transport is asyncio's, which may keep a buffer between asking for it and telling."""

    async def main():
        inner = asyncio.get_running_loop().create_future()

        async def upgrade(reader, writer):
            await writer.start_tls(server_tls)
            inner.set_result(writer.transport._ssl_protocol)
            await echo(reader, writer)

        server = await asyncio.start_server(upgrade, "127.0.0.1", 0, ssl=server_tls)
        where = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(
            *where, ssl=client_tls, server_hostname="localhost"
        )
        outer = writer.transport._ssl_protocol
        await writer.start_tls(client_tls, server_hostname="localhost")
        data = bytes(range(256)) * 1000
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        protocol = await inner
        assert protocol.get_buffer(-1).obj is not outer.get_buffer(-1).obj
        assert protocol is not outer
        writer.close()
        server.close()
        await server.wait_closed()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    run(main())


class Slicer(asyncio.Protocol):
    """Passes on what comes in small slices, so that records arrive in parts and many at once."""

    def __init__(self, peer, sizes):
        self.peer, self.sizes = peer, sizes

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        asyncio.get_running_loop().call_soon(self.peer().close)

    def data_received(self, data):
        while data:
            size = self.sizes[0]
            self.sizes.append(self.sizes.pop(0))
            asyncio.get_running_loop().call_soon(self.peer().write, data[:size])
            data = data[size:]


async def through_slicer(where, sizes):
    """A server that passes everything on to that address, and back."""
    loop = asyncio.get_running_loop()
    connecting = []

    def accept():
        def near():
            return first.transport

        first, second = Slicer(lambda: second.transport, list(sizes)), Slicer(near, list(sizes))
        connecting.append(loop.create_task(loop.create_connection(lambda: second, *where)))
        made = first.connection_made

        def connection_made(transport):
            made(transport)
            transport.pause_reading()
            connecting[-1].add_done_callback(lambda _: transport.resume_reading())

        first.connection_made = connection_made
        return first

    return await loop.create_server(accept, "127.0.0.1", 0)


@pytest.mark.parametrize("sizes", [[1, 5, 700], [16384, 3], [100_000], [17, 16406, 4096]], ids=str)
def test_records_in_parts_and_many_at_once(sizes, run, server_tls, client_tls):
    """What was sent before close_notify comes before the end, whole."""
    blocks = [b"a", b"b" * 16384, b"c" * 16385, b"d" * 40_000, b"e" * 3 * 16384, b"f"]

    async def serve(reader, writer):
        assert await reader.readexactly(5) == b"hello"
        for block in blocks:
            writer.write(block)
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)
        slicer = await through_slicer(server.sockets[0].getsockname()[:2], sizes)
        reader, writer = await asyncio.open_connection(
            *slicer.sockets[0].getsockname()[:2], ssl=client_tls, server_hostname="localhost"
        )
        writer.write(b"hello")
        assert await reader.read() == b"".join(blocks)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        slicer.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        await asyncio.sleep(0.01)

    run(main())


def test_the_protocol_gets_a_record_as_it_is(run, server_tls, client_tls):
    """One call for what came at once, and no call for nothing."""
    calls = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            calls.append((type(data), len(data)))
            self.transport.write(b"x" * len(data))

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=server_tls)
        where = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(
            *where, ssl=client_tls, server_hostname="localhost"
        )
        for size in 1, 1000, 16384:
            writer.write(b"y" * size)
            assert await reader.readexactly(size) == b"x" * size
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)

    run(main())
    assert calls[:2] == [(bytes, 1), (bytes, 1000)]
    assert sum(size for _, size in calls) == 1 + 1000 + 16384 and (bytes, 0) not in calls


class Borrowed:
    """An SSL object of somebody else's, who takes all that came at once."""

    def __init__(self, incoming, obj, real):
        self.incoming, self.obj, self.real = incoming, obj, real

    def __getattr__(self, name):
        if name == "pending":
            raise AttributeError(name)
        return getattr(self.obj, name)

    def read(self, *args):
        self.real.write(self.incoming.read())
        return self.obj.read(*args)

    def do_handshake(self):
        self.real.write(self.incoming.read())
        return self.obj.do_handshake()


def test_an_ssl_object_that_is_not_the_ssl_module_s(run, client_tls, server_tls):
    """As mocket has it."""

    class Context:
        def wrap_bio(self, incoming, outgoing, **options):
            real = ssl.MemoryBIO()
            return Borrowed(incoming, client_tls.wrap_bio(real, outgoing, **options), real)

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=Context(), server_hostname="localhost"
        )
        data = bytes(range(256)) * 1000
        writer.write(data)
        assert await asyncio.wait_for(reader.readexactly(len(data)), LIMIT) == data
        writer.transport.abort()
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        await asyncio.sleep(0.01)

    run(main())

"""TLS: asyncio's own protocol, in another shape."""

import asyncio
import contextlib
from asyncio import sslproto

from support import HOTLOOP

INLINE_ATTRIBUTES = 30  # CPython's SHARED_KEYS_MAX_SIZE


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1000):
            writer.write(data)
    writer.close()


async def talk(where, client_tls):
    reader, writer = await asyncio.open_connection(
        *where, ssl=client_tls, server_hostname="localhost"
    )
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return writer


async def with_connections(number, server_tls, client_tls, look):
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    where = server.sockets[0].getsockname()[:2]
    writers = await asyncio.gather(*(talk(where, client_tls) for _ in range(number)))
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


def test_the_protocol_is_asyncios(run, server_tls, client_tls):
    protocols = []

    def look(protocol):
        assert isinstance(protocol, sslproto.SSLProtocol)
        assert repr(protocol).startswith("<asyncio.sslproto.SSLProtocol object at ")
        assert protocol._state is sslproto.SSLProtocolState.WRAPPED
        assert protocol._shutdown_timeout_handle is None
        assert protocol._handshake_timeout_handle is None
        protocol.some_attribute = 1
        protocols.append(protocol)

    run(with_connections(3, server_tls, client_tls, look))
    assert [protocol.some_attribute for protocol in protocols] == [1] * 3


def test_attributes_stay_in_the_objects(server_tls, client_tls):
    def look(protocol):
        assert len(vars(protocol)) < INLINE_ATTRIBUTES - 1

    HOTLOOP.run(with_connections(40, server_tls, client_tls, look))


def test_the_class_can_be_replaced(run, server_tls, client_tls, monkeypatch):
    class Mine(sslproto.SSLProtocol):
        pass

    def check(protocol):
        assert type(protocol) is Mine

    monkeypatch.setattr(sslproto, "SSLProtocol", Mine)
    run(with_connections(1, server_tls, client_tls, check))

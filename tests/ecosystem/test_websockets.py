"""websockets: its server and its client."""

import asyncio

import pytest
from programs import need

websockets = need("websockets")
from websockets.asyncio.server import broadcast, serve  # noqa: E402


async def echo(ws):
    async for message in ws:
        await ws.send(message)


def test_echo(loop):
    async def client(url, number):
        async with websockets.connect(url) as ws:
            for turn in range(50):
                await ws.send(f"{number} {turn}")
                assert await ws.recv() == f"{number} {turn}"

    async def main():
        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"ws://127.0.0.1:{port}"
            await asyncio.gather(*[client(url, number) for number in range(50)])

    loop.run(main())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_large_messages_over_tls(loop, server_tls, client_tls, compression):
    async def main():
        options = {"compression": compression, "max_size": None}
        async with serve(echo, "127.0.0.1", 0, ssl=server_tls, **options) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"wss://localhost:{port}"
            async with websockets.connect(url, ssl=client_tls, **options) as ws:
                message = bytes(range(256)) * 40_000
                for _ in range(3):
                    await ws.send(message)
                    assert await ws.recv() == message

    loop.run(main())


def test_broadcast_and_close(loop):
    connected = set()

    async def keep(ws):
        connected.add(ws)
        await ws.wait_closed()

    async def main():
        async with serve(keep, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            clients = [await websockets.connect(f"ws://127.0.0.1:{port}") for _ in range(30)]
            while len(connected) < 30:
                await asyncio.sleep(0.01)
            broadcast(connected, "to all")
            assert {await client.recv() for client in clients} == {"to all"}
            for client in clients[:15]:
                client.transport.abort()
            server.close(code=1001, reason="going")
            await server.wait_closed()
            for client in clients[15:]:
                with pytest.raises(websockets.ConnectionClosedOK):
                    await client.recv()
                assert client.close_code == 1001
            for client in clients:
                await client.wait_closed()

    loop.run(main())


def test_keepalive_finds_a_dead_peer(loop):
    async def main():
        found_dead = asyncio.Event()

        async def silent(ws):
            ws.transport.pause_reading()
            await found_dead.wait()
            ws.transport.resume_reading()
            await ws.wait_closed()

        async with serve(silent, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            short = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
            async with websockets.connect(url, **short) as ws:
                with pytest.raises(websockets.ConnectionClosedError, match="ping timeout"):
                    await ws.recv()
                found_dead.set()

    loop.run(main())


def test_opening_gives_up_on_a_silent_server(loop):
    async def main():
        left = asyncio.Event()

        async def silent(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            # Until the client leaves: asyncio of 3.11 reports a handler that the loop's end cancels.
            await reader.read()
            writer.close()
            left.set()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            await websockets.connect(f"ws://127.0.0.1:{port}", open_timeout=0.2)
        await left.wait()
        server.close()
        await server.wait_closed()

    loop.run(main())

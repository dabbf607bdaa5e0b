"""A WebSocket server and its clients.

Guide topic: WebSocket connections, with the websockets package.
"""

import asyncio
import json

import websockets
from websockets.asyncio.server import ServerConnection


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "bye":
            await connection.close(code=1000, reason="see you")
        else:
            await connection.send(message)


def connect(port: int) -> websockets.connect:
    return websockets.connect(f"ws://127.0.0.1:{port}", proxy=None)


async def say_hello(port: int) -> None:
    """one message there and back"""
    async with connect(port) as websocket:
        await websocket.send("hello")
        print("received:", await websocket.recv())


async def text_and_bytes(port: int) -> None:
    """text, bytes, JSON, and something large"""
    async with connect(port) as websocket:
        for message in ("text", b"bytes", json.dumps({"answer": 42})):
            await websocket.send(message)
            print("received:", repr(await websocket.recv()))
        large = "x" * 500_000
        await websocket.send(large)
        print("large message intact:", await websocket.recv() == large)


async def several_clients(port: int) -> None:
    """clients at the same time"""

    async def client(name: str) -> list[str | bytes]:
        async with connect(port) as websocket:
            for number in range(3):
                await websocket.send(f"{name}{number}")
            return [await websocket.recv() for _ in range(3)]

    print(await asyncio.gather(*(client(name) for name in "abc")))


async def sender_and_receiver(port: int) -> None:
    """two tasks on one connection: one sends, one receives"""
    async with connect(port) as websocket:

        async def send() -> None:
            for number in range(5):
                await websocket.send(str(number))
                await asyncio.sleep(0.002)
            await websocket.send("bye")

        async def receive() -> list[str | bytes]:
            return [message async for message in websocket]

        _, received = await asyncio.gather(send(), receive())
        print("received:", received)


async def closed_by_the_server(port: int) -> None:
    """ping, and a connection that the server closes"""
    async with connect(port) as websocket:
        pong = await websocket.ping()
        print("round trip measured:", await pong >= 0)
        await websocket.send("bye")
        try:
            await websocket.recv()
        except websockets.ConnectionClosedOK as closed:
            assert closed.rcvd is not None  # what the server said
            print("closed:", closed.rcvd.code, closed.rcvd.reason)


async def main() -> None:
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for demo in (
            say_hello,
            text_and_bytes,
            several_clients,
            sender_and_receiver,
            closed_by_the_server,
        ):
            print(f"-- {demo.__doc__}")
            await demo(port)


if __name__ == "__main__":
    asyncio.run(main())

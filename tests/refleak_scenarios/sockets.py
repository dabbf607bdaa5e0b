"""The sock_* methods."""

import asyncio
import socket

from .env import fails, nothing, scenario


@scenario
async def sock_methods(env):
    a, b = env.sockets
    receiving = env.loop.create_task(env.loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    await env.loop.sock_sendall(b, b"x")
    await receiving
    receiving = env.loop.create_task(env.loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    receiving.cancel()
    await fails(receiving, asyncio.CancelledError)


@scenario
async def sock_methods_waiting(env):
    """Each way a wait can end."""
    loop, (a, b) = env.loop, env.sockets
    for call in (
        loop.sock_recv(a, 100_000),
        loop.sock_recv_into(a, bytearray(10)),
        loop.sock_recvfrom(a, 10),
        loop.sock_recvfrom_into(a, bytearray(10)),
    ):
        receiving = loop.create_task(call)
        await asyncio.sleep(0)
        await loop.sock_sendall(b, bytearray(b"data"))
        await receiving
    sending = loop.create_task(loop.sock_sendall(a, bytearray(1_000_000)))
    received = 0
    while received < 1_000_000:
        received += len(await loop.sock_recv(b, 1 << 20))
    await sending
    replaced = loop.create_task(loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    loop.add_reader(a, nothing)
    loop.remove_reader(a)
    replaced.cancel()
    await fails(replaced, asyncio.CancelledError)
    coro = loop.sock_recv(a, 10)
    coro.send(None)
    coro.close()
    loop.remove_reader(a)


@scenario
async def sock_methods_failing(env):
    loop, (a, _) = env.loop, env.sockets
    for call in (
        loop.sock_recv(a, -1),
        loop.sock_recv_into(a, b"read-only"),
        loop.sock_sendall(a, "text"),
        loop.sock_accept(a),
        loop.sock_sendto(a, b"data", 5),
    ):
        await fails(call, (ValueError, TypeError, OSError))
    left, right = socket.socketpair()
    left.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await asyncio.sleep(0)
    loop.call_soon(left.close)
    right.send(b"x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving])
    receiving.cancelled() or receiving.exception()
    right.close()
    left.close()


@scenario
async def sock_connections(env):
    loop = env.loop
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(server))
        await asyncio.sleep(0)
        await loop.sock_connect(client, server.getsockname())
        conn, _ = await accepting
        conn.close()
        address = server.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        await fails(loop.sock_connect(client, address), ConnectionError)


@scenario
async def literal_addresses(env):
    await env.loop.getaddrinfo("127.0.0.1", 80)
    await env.loop.getaddrinfo(None, "80", type=socket.SOCK_STREAM)
    await fails(env.loop.getaddrinfo("::1", 80, family=socket.AF_INET), socket.gaierror)

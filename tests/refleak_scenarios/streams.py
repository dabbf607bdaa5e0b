"""Stream transports, servers and connections."""

import asyncio
import contextlib
import os
import socket
import weakref

from support import HOTLOOP

from .env import Failure, fail, fails, nothing, scenario, variable


class Peer(asyncio.Protocol):
    """A protocol that does what it is told in its callbacks."""

    def __init__(self, env, **hooks):
        self.hooks, self.lost, self.transport = hooks, env.loop.create_future(), None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.hooks.get("data", nothing)(self, data)

    def eof_received(self):
        self.hooks.get("eof", nothing)(self)

    def pause_writing(self):
        self.hooks.get("pause", nothing)(self)

    def resume_writing(self):
        self.hooks.get("resume", nothing)(self)

    def connection_lost(self, exc):
        self.lost.set_result(None)
        self.hooks.get("lost", nothing)(self)


class BufferedPeer(Peer, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.hooks.get("buffer", nothing)(self)
        self.memory = bytearray(100)
        return self.memory

    def buffer_updated(self, count):
        self.hooks.get("data", nothing)(self, count)


async def stream(env, cls=Peer, **hooks):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    protocol = cls(env, **hooks)
    await env.loop.create_connection(lambda: protocol, sock=ours)
    return protocol, peer


async def hang_up(protocol, peer):
    peer.close()
    await protocol.lost
    protocol.transport = None


@scenario
async def stream_that_echoes(env):
    for cls in Peer, BufferedPeer:
        protocol, peer = await stream(env, cls, data=lambda self, data: self.transport.write(b"y"))
        for size in 1, 600, 50:
            peer.send(bytes(size))
            while not await env.loop.sock_recv(peer, 1):
                pass
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await hang_up(protocol, peer)


@scenario
async def recycled_with_attributes(env):
    for _ in range(2):
        future = env.loop.create_future()
        future.attribute = object()
        future.other = weakref.ref(future)
        task = env.loop.create_task(asyncio.sleep(0))
        task.attribute = future
        await task


@scenario
async def stream_that_writes_much(env):
    protocol, peer = await stream(env)
    variable.set(object())
    write = protocol.transport.write
    for data in b"x", bytearray(600), memoryview(bytes(700)), bytearray(300_000), bytes(400_000):
        write(data)
    protocol.transport.writelines([b"a", bytearray(b"b"), b"", memoryview(b"c")])
    protocol.transport.set_write_buffer_limits(10)
    protocol.transport.close()
    while await env.loop.sock_recv(peer, 1 << 20):
        pass
    await hang_up(protocol, peer)


@scenario
async def stream_used_wrongly(env):
    protocol, peer = await stream(env)
    transport = protocol.transport
    for call, *args in (
        (transport.write, "text"),
        (transport.write,),
        (transport.writelines, [5]),
        (transport.writelines, 5),
        (transport.set_write_buffer_limits, 1, 2),
        (transport.get_extra_info, []),
    ):
        try:
            call(*args)
        except (TypeError, ValueError):
            pass
    transport.write_eof()
    try:
        transport.write(b"late")
    except RuntimeError:
        pass
    transport.get_extra_info("socket")
    repr(transport)
    transport.set_protocol(protocol)
    await hang_up(protocol, peer)


@scenario
async def stream_aborted(env):
    protocol, peer = await stream(env)
    protocol.transport.write(bytes(400_000))
    protocol.transport.write(b"more")
    protocol.transport.abort()
    await hang_up(protocol, peer)


@scenario
async def stream_whose_peer_is_gone(env):
    protocol, peer = await stream(env)
    protocol.transport.pause_reading()
    peer.close()
    protocol.transport.write(b"to nobody")
    transport = protocol.transport
    await hang_up(protocol, peer)
    for _ in range(8):
        transport.write(b"later")


@scenario
async def stream_callbacks_failing(env):
    for event in "data", "eof", "lost", "pause", "resume", "buffer":
        cls = BufferedPeer if event == "buffer" else Peer
        protocol, peer = await stream(env, cls, **{event: fail})
        peer.send(b"x")
        protocol.transport.write(bytes(400_000))
        await asyncio.sleep(0.001)
        try:
            while peer.recv(1 << 20):
                pass
        except OSError:
            pass
        await asyncio.sleep(0.001)
        await hang_up(protocol, peer)


@scenario
async def stream_closed_behind_its_back(env):
    protocol, peer = await stream(env)
    protocol.transport._sock.close()
    protocol.transport.write(b"x")
    await hang_up(protocol, peer)


@scenario
async def stream_readers(env):
    ours, peer = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours, limit=10)
    for data in b"chunk", bytearray(b" and more"), b"\nline\n":
        reader.feed_data(data)
    await reader.readexactly(3)
    await fails(reader.readline(), ValueError)
    await reader.read(100)
    waiting = env.task(reader.readline())
    await asyncio.sleep(0)
    await fails(reader.read(1), RuntimeError)
    waiting.cancel()
    await fails(waiting, asyncio.CancelledError)
    peer.send(b"a line\nthe rest")
    await reader.readline()
    peer.close()
    await fails(reader.readexactly(100), asyncio.IncompleteReadError)
    writer.close()
    reader.set_exception(Failure())
    await fails(reader.read())


@scenario
async def server_with_clients(env):
    made = []

    def factory():
        if len(made) == 1:
            made.append(None)
            raise Failure
        made.append(Peer(env, data=lambda self, data: self.transport.write(data)))
        return made[-1]

    server = await env.loop.create_server(factory, "127.0.0.1", 0)
    for _ in range(3):
        client = Peer(env)
        await env.loop.create_connection(
            lambda client=client: client, *server.sockets[0].getsockname()
        )
        client.transport.write(b"x" * 600)
        await asyncio.sleep(0.001)
        client.transport.close()
        await client.lost
        client.transport = None
    await asyncio.gather(*(each.lost for each in made if each is not None))
    server.close()
    await server.wait_closed()
    for each in made:
        if each is not None:
            each.transport = None


@scenario
async def connections_that_fail(env):
    def failing():
        raise Failure

    loop = env.loop
    server = await loop.create_server(lambda: Peer(env), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    if env.implementation is HOTLOOP:  # asyncio leaves the socket to the garbage collector
        await fails(loop.create_connection(failing, *address), Failure)
    for turns in range(5):
        connecting = loop.create_task(loop.create_connection(asyncio.Protocol, *address))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, _ = await connecting
            transport.abort()
    await asyncio.sleep(0.002)
    server.close()
    await asyncio.sleep(0.002)
    await fails(loop.create_connection(asyncio.Protocol, *address), ConnectionError)


@scenario
async def connections_that_are_not_plain(env):
    """What src/connect.c and src/socket.c decline, and what becomes of it."""
    loop = env.loop
    server = await loop.create_server(lambda: Peer(env), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    await fails(loop.create_connection(asyncio.Protocol, host, 70_000), OverflowError)
    await fails(
        loop.create_connection(asyncio.Protocol, host, port, family=socket.AF_INET6), OSError
    )
    for options in {"proto": socket.IPPROTO_TCP}, {"family": socket.AF_INET}, {"interleave": 1}:
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port, **options)
        transport.abort()
    original = socket.socket.close
    socket.socket.close = lambda self: original(self)
    try:
        transport, _ = await loop.create_connection(asyncio.Protocol, host, str(port))
        file = transport.get_extra_info("socket")._sock.makefile("rb")
        transport.abort()
        await asyncio.sleep(0.002)
        file.close()
    finally:
        socket.socket.close = original
    server.close()
    await asyncio.sleep(0.002)


@scenario
async def waiters_that_are_done(env):
    for end in "set_result", "set_exception", "cancel", "nothing":
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        waiter = env.loop.create_future()
        transport = env.loop._make_socket_transport(ours, asyncio.Protocol(), waiter)
        args = {"set_result": (1,), "set_exception": (Failure(),)}.get(end, ())
        if end != "nothing":
            getattr(waiter, end)(*args)
        await asyncio.sleep(0)
        with contextlib.suppress(Failure, asyncio.CancelledError):
            await waiter
        transport.abort()
        peer.close()
        await asyncio.sleep(0)


@scenario
async def numbers_used_again(env):
    """A watch is kept for the next socket by that number, be it a transport's or not."""
    for _ in range(2):
        protocol, peer = await stream(env)
        protocol.transport.get_extra_info("peername"), protocol.transport.get_extra_info("socket")
        await hang_up(protocol, peer)
        left, right = socket.socketpair()
        with left, right, open(os.devnull, "rb") as other:
            left.setblocking(False)
            right.send(b"x")
            await env.loop.sock_recv(left, 1)
            env.loop.call_soon(right.send, b"y")
            await env.loop.sock_recv(left, 1)
            env.loop.add_reader(left, print)
            env.loop.remove_reader(left)
            with contextlib.suppress(PermissionError):
                env.loop.add_reader(other, print)

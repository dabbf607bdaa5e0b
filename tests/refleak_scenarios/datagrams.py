"""Datagram transports."""

import asyncio
import contextlib
import socket

from .env import Failure, attempt, scenario


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.received.append((data, addr))
        if data == b"raise":
            raise Failure

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def datagrams(env, **options):
    return env.loop.create_datagram_endpoint(Datagrams, **options)


@scenario
async def datagrams_to_and_fro(env):
    server, served = await datagrams(env, local_addr=("127.0.0.1", 0))
    where = server.get_extra_info("sockname")
    client, answered = await datagrams(env, remote_addr=where)
    for data in (b"one", bytearray(b"two"), memoryview(b"three"), b"", b"raise"):
        client.sendto(data)
    for n in range(40):
        client.sendto(b"%d" % n, where)
    attempt(ValueError, client.sendto, b"x", ("127.0.0.1", 1))
    attempt(TypeError, client.sendto, "text")
    client._address = list(where)
    client._address = (*where,)
    while len(served.received) < 44:
        await asyncio.sleep(0)
    server.sendto(b"back", served.received[0][1])
    server.sendto(b"name", ("localhost", client.get_extra_info("sockname")[1]))
    client.sendto(bytes(70000))
    while len(answered.received) < 2:
        await asyncio.sleep(0)
    repr(server)
    for transport, protocol in ((client, answered), (server, served)):
        for name in dir(transport):
            getattr(transport, name, None)
        transport.anything = protocol
        transport.close()
        await protocol.lost
        transport.sendto(b"late") if transport is client else None


@scenario
async def datagrams_that_wait(env):
    ends = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.bind("")
    for end, other in zip(ends, reversed(ends)):
        end.connect(other.getsockname())
    ends[1].setblocking(False)
    transport, protocol = await datagrams(env, sock=ends[0])
    transport.set_write_buffer_limits(high=20, low=10)
    attempt(ValueError, transport.set_write_buffer_limits, 1, 2)
    for finish in (lambda: None, transport.abort):
        while len(transport._buffer) < 40:
            transport.sendto(b"datagram")
        finish()
        with ends[1] if transport.is_closing() else contextlib.nullcontext():
            while transport.get_write_buffer_size() and not transport.is_closing():
                try:
                    ends[1].recv(100)
                except BlockingIOError:
                    await asyncio.sleep(0)
    transport.pause_reading()
    transport.resume_reading()
    await protocol.lost


@scenario
async def datagrams_dropped(env):
    transport, protocol = await datagrams(env, local_addr=("127.0.0.1", 0))
    transport.pause_reading()
    transport.itself = transport
    attempt(TypeError, env.loop._make_datagram_transport)
    attempt((ValueError, AttributeError), env.loop._make_datagram_transport, None, protocol)
    attempt(AttributeError, env.loop._make_datagram_transport, transport._sock.dup(), None)

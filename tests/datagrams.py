"""What the tests of datagram transports share: endpoints, protocols that keep notes, comparisons."""

import asyncio
import os
import re
import socket
import sys
import tempfile

import pytest
from support import Contexts, close_tidily, collect, normalise, open_descriptors, same_on_both

queue_size_is_exact = pytest.mark.skipif(
    sys.version_info >= (3, 13)
    and not hasattr(asyncio.selector_events._SelectorDatagramTransport, "_header_size"),
    reason="asyncio counts headers in, but not out",
)


def plain(text):
    """Without what differs by implementation."""
    text = re.sub(r"fd=\d+", "fd=N", normalise(text))
    text = re.sub(r"/tmp/tmp\w+|hotloop-\d+-\d+", "PATH", text)
    return re.sub(r"_Selector(Datagram)?Transport", "DatagramTransport", text)


class Recorder(asyncio.DatagramProtocol):
    """Notes all that happens to it."""

    def __init__(self):
        self.log = []
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append(("made",))

    def datagram_received(self, data, addr):
        if isinstance(addr, str) and addr.startswith(tempfile.gettempdir() + "/tmp"):
            addr = os.path.basename(addr)
        self.log.append(("received", data, addr))

    def error_received(self, exc):
        self.log.append(("error", type(exc), exc.errno))

    def pause_writing(self):
        self.log.append(("pause", self.transport.get_write_buffer_size()))

    def resume_writing(self):
        self.log.append(("resume", self.transport.get_write_buffer_size()))

    def connection_lost(self, exc):
        self.log.append(("lost", exc and type(exc)))
        self.lost.set()

    def events(self, kind):
        return [event[1:] for event in self.log if event[0] == kind]

    def data(self):
        return [data for data, _ in self.events("received")]


class Echo(Recorder):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def udp(loop, factory=Recorder, host="127.0.0.1", **options):
    if not options:
        options["local_addr"] = (host, 0)
    return await loop.create_datagram_endpoint(factory, **options)


async def unix_pair(loop, factory=Recorder):
    """A transport on one end of a socket pair, its protocol, and the other end."""
    left, right = named_pair()
    right.setblocking(False)
    transport, protocol = await loop.create_datagram_endpoint(factory, sock=left)
    return transport, protocol, right


def named_pair():
    """As socketpair(), but asyncio takes sockets for connected only if their peers have names."""
    pair = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        for sock, name in zip(pair, "ab"):
            sock.bind(os.path.join(folder, name))
        for sock, other in zip(pair, reversed(pair)):
            sock.connect(other.getsockname())
    return pair


def drain(sock):
    """All that can be read from a socket now."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 19))
        except BlockingIOError:
            return found


async def lost(*ends):
    for transport, protocol in ends:
        transport.close()
        await protocol.lost.wait()


def on_both(scenario, debug=False):
    """Run the coroutine function scenario(loop) on every implementation; the results are the same."""

    def running(implementation):
        before = open_descriptors()
        loop = implementation.new_event_loop()
        loop.set_debug(debug)
        loop.set_exception_handler(contexts := Contexts())
        try:
            result = loop.run_until_complete(scenario(loop))
        finally:
            loop.set_debug(False)
            close_tidily(loop)
        collect()
        assert set(open_descriptors()) <= set(before)
        told = [
            {
                key: plain(str(value))
                for key, value in c.items()
                if key not in ("source_traceback", "handle")
            }
            | {"types": {key: is_kind(value) for key, value in c.items()}}
            for c in contexts
        ]
        return result, told

    return same_on_both(running)


def is_kind(value):
    for kind in (asyncio.Handle, asyncio.DatagramTransport, asyncio.Transport, BaseException):
        if isinstance(value, kind):
            return (
                type(value).__name__
                if kind is BaseException
                else kind.__name__.replace("Datagram", "")
            )
    return type(value).__name__


class Mine(socket.socket):
    def recvfrom(self, *args):
        data, addr = super().recvfrom(*args)
        return data.upper(), addr

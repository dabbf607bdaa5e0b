"""What the tests of stream transports share: pairs of sockets, protocols that keep a log."""

import asyncio
import re
import socket
import struct
import sys

from support import PATIENCE, Contexts, normalise

LIMIT = 20 * PATIENCE  # seconds for what should take none
BIG = bytes(range(256)) * 4096  # 1 MiB: more than any socket takes at once
OWN_CONTEXT = sys.version_info >= (3, 15)  # a transport has one, in which all is called
KINDS = ["tcp", "unix", "socketpair"]
METHODS = (
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
)


def raw_pair(kind="socketpair"):
    """Two connected sockets: one non-blocking, for a transport, and its blocking peer."""
    if kind == "socketpair":
        ours, peer = socket.socketpair()
    else:
        family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
        with socket.socket(family) as listener:
            listener.bind(("127.0.0.1", 0) if kind == "tcp" else "")  # Linux finds a name itself
            listener.listen()
            ours = socket.socket(family)
            ours.connect(listener.getsockname())
            peer, _ = listener.accept()
    ours.setblocking(False)
    peer.settimeout(5)
    return ours, peer


def small_buffers(*sockets):
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def reset(sock):
    """Close a TCP socket with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock):
    """All that comes until the end."""
    received = b""
    while data := sock.recv(1 << 20):
        received += data
    return received


async def receive_all(peer):
    """What peer gets until the end, read in a thread of its own."""
    peer.settimeout(LIMIT)
    return await asyncio.get_running_loop().run_in_executor(None, read_all, peer)


def what(exc):
    return None if exc is None else (type(exc), str(exc))


def plain(text):
    """Text without the names of the classes of transports."""
    text = re.sub(r"\bfd=\d+", "fd=N", normalise(text))
    text = re.sub(r"(Exception in callback \S+?)\(.*", r"\1(...", text)  # shortened by reprlib
    for name in (
        "_SelectorSocketTransport",
        "_SelectorTransport",
        "SocketTransport",
        "_core.Stream",
        "Stream",
    ):
        text = text.replace(name, "TRANSPORT")
    text = text.replace("_write_sendmsg", "_write_ready").replace("_write_send", "_write_ready")
    return text


class Events(asyncio.Protocol):
    """Logs each call; hooks={name: function(self, *args)} are what it does then."""

    def __init__(self, log=None, **hooks):
        self.log = [] if log is None else log
        self.hooks = hooks
        self.transport = None
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def did(self, name, *args):
        self.log.append(name if not args else (name, *args))
        if name in self.hooks:
            return self.hooks[name](self, *args)

    def connection_made(self, transport):
        self.transport = transport
        self.did("connection_made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.did("data_received", data)

    def eof_received(self):
        return self.did("eof_received")

    def pause_writing(self):
        self.did("pause_writing")

    def resume_writing(self):
        self.did("resume_writing")

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(None)
        self.did("connection_lost", what(exc))


class BufferedEvents(Events, asyncio.BufferedProtocol):
    """The same for BufferedProtocol. data_received is there only to show that nobody calls it."""

    size = 1000

    def get_buffer(self, sizehint):
        self.buffer = bytearray(self.size)
        answer = self.did("get_buffer", sizehint)
        return self.buffer if answer is None else answer

    def buffer_updated(self, count):
        data = bytes(self.buffer[:count])
        self.data += data
        self.did("buffer_updated", data)


async def connect(protocol, kind="socketpair", sockets=None):
    """A transport with this protocol, and its peer socket."""
    ours, peer = sockets or raw_pair(kind)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, peer


class TransportProgram:
    """Steps of a random program on a transport whose peer has the socket sock; what is written is
    next_bytes()."""

    def __init__(self, protocol, transport, sock):
        self.protocol, self.transport, self.sock = protocol, transport, sock

    def step(self, name, *arguments):
        if name == "write":
            self.transport.write(self.next_bytes(*arguments))
        elif name == "writelines":
            self.transport.writelines([self.next_bytes(size) for size in arguments[0]])
        elif name == "limits":
            self.transport.set_write_buffer_limits(max(arguments), min(arguments))
        else:
            getattr(self.transport, name)()

    def end(self, how):
        if how == "peer closes":
            self.sock.close()
        elif how == "peer shuts down":
            self.sock.shutdown(socket.SHUT_WR)
        else:
            getattr(self.transport, how)()


def told(contexts):
    """What an exception handler was told: messages, keys, exceptions."""
    return [
        (plain(context["message"]), sorted(context), what(context.get("exception")))
        for context in contexts
    ]


def on_loop(main, debug=False):
    """A scenario for same_on_both: what main() returns, and what the exception handler was told."""

    def scenario(impl):
        async def body():
            contexts = Contexts()
            asyncio.get_running_loop().set_exception_handler(contexts)
            result = await main()
            for _ in range(3):
                await asyncio.sleep(0)
            return result, told(contexts)

        return impl.run(body(), debug=debug)

    return scenario

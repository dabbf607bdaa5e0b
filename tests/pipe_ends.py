"""What the tests of pipe transports share: a protocol that keeps notes, channels of every kind."""

import asyncio
import os
import socket
import tty

from support import normalise


class Recorder(asyncio.Protocol):
    """Notes what it is told, as (name, arguments)."""

    def __init__(self):
        self.events = []
        self.transport = None
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append(("lost", exc and (type(exc), str(exc))))

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    @property
    def lost(self):
        return bool(self.events) and self.events[-1][0] == "lost"


def text(value):
    """repr() without what differs between the two implementations' names."""
    return (
        normalise(repr(value))
        .replace("_UnixReadPipe", "ReadPipe")
        .replace("_UnixWritePipe", "WritePipe")
    )


def is_blocking(fd):
    return os.get_blocking(fd)


def fill(fd):
    """Fill a pipe, a terminal or a socket."""
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    written = 0
    try:
        while True:
            written += os.write(fd, bytes(65536))
    except BlockingIOError:
        pass
    os.set_blocking(fd, blocking)
    return written


def drain(fd):
    """Read what there is."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while piece := os.read(fd, 1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def ends(kind, tmp_path):
    """(reader, writer) of a kind of channel, as unbuffered file objects or sockets."""
    if kind == "pipe":
        read, write = os.pipe()
    elif kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
        read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(read, True)
        write = os.open(path, os.O_WRONLY)
    elif kind == "pty":
        read, write = os.openpty()
        tty.setraw(write)
    else:
        return socket.socketpair()
    return os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)


KINDS = ["pipe", "fifo", "pty", "socket"]


async def connect_both(loop, reader, writer, cls=Recorder):
    reading, receiver = await loop.connect_read_pipe(cls, reader)
    writing, sender = await loop.connect_write_pipe(cls, writer)
    return reading, receiver, writing, sender

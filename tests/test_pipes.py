"""Pipe transports: over pipes, FIFOs, terminals, sockets and devices; a child's stdin; flow control."""

import asyncio
import contextvars
import errno
import gc
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tty
import warnings
import weakref

import hypothesis
import pytest
from hypothesis import strategies as st
from support import (
    PATIENCE,
    Contexts,
    Logged,
    collect,
    normalise,
    one_turn,
    outcome,
    same_on_both,
    script_command,
    turns,
    until,
)


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
    return normalise(repr(value)).replace("_UnixReadPipe", "ReadPipe").replace("_UnixWritePipe", "WritePipe")


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


@pytest.fixture
def closing():
    """Descriptors and files to be closed at the end, if the test did not."""
    fds = []

    def remember(*what):
        fds.extend(what)
        return what

    yield remember
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def pipe(closing):
    """A pipe: its reading end as a file object for a transport, its writing end as a descriptor."""
    read, write = os.pipe()
    closing(write)
    return os.fdopen(read, "rb", 0), write


@pytest.fixture
def outlet(closing):
    """A pipe: its reading end as a descriptor, its writing end as a file object for a transport."""
    read, write = os.pipe()
    closing(read)
    return read, os.fdopen(write, "wb", 0)


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


# -- what they are -----------------------------------------------------------


def test_they_are_asyncios_transports(loop, run, pipe, outlet):
    async def main():
        reading, _ = await loop.connect_read_pipe(Recorder, pipe[0])
        writing, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        assert isinstance(reading, asyncio.ReadTransport)
        assert not isinstance(reading, asyncio.WriteTransport)
        assert isinstance(writing, asyncio.WriteTransport) and isinstance(writing, asyncio.Transport)
        assert reading.get_extra_info("pipe") is pipe[0]
        assert writing.get_extra_info("pipe") is outlet[1]
        assert reading.get_extra_info("nothing") is None
        assert reading.get_extra_info("nothing", 3) == reading.get_extra_info("nothing", default=3) == 3
        assert writing.get_protocol() is protocol
        assert writing._pipe is outlet[1] and writing._fileno == outlet[1].fileno()
        assert writing._loop is loop and reading._protocol.transport is reading
        assert writing.can_write_eof() is True
        assert not hasattr(reading, "write") and not hasattr(reading, "write_eof")
        reading.anything = 1
        assert weakref.ref(reading)() is reading
        with pytest.raises(NotImplementedError):
            writing.pause_reading()
        reading.close()
        writing.close()
        await asyncio.sleep(0)

    run(main())


def test_extra_is_the_callers_dictionary(loop, pipe):
    extra = {"colour": "blue"}
    transport = loop._make_read_pipe_transport(pipe[0], Recorder(), extra=extra)
    assert transport.get_extra_info("colour") == "blue"
    assert extra["pipe"] is pipe[0] and transport._extra is extra
    transport.close()
    turns(loop, 2)


def test_the_order_at_the_start(impl, no_new_descriptors):
    def order(implementation):
        loop = implementation.new_event_loop()
        events = []
        read, write = os.pipe()
        os.write(write, b"x")

        class Protocol(Recorder):
            def connection_made(self, transport):
                events.append(("made", text(transport)))

            def data_received(self, data):
                events.append(("data", data))

            def connection_lost(self, exc):
                events.append("lost")

        async def main():
            waiter = loop.create_future()
            waiter.add_done_callback(lambda _: events.append("waiter"))
            transport = loop._make_read_pipe_transport(os.fdopen(read, "rb"), Protocol(), waiter)
            events.append("constructed")
            await waiter
            events.append("woken")
            await asyncio.sleep(0.01)
            transport.close()
            events.append("closed")
            await asyncio.sleep(0)
            os.close(write)

        loop.run_until_complete(main())
        loop.close()
        return [event if not isinstance(event, tuple) else (event[0], str(event[1]).split(" fd")[0]) for event in events]

    expected = same_on_both(order, over=[impl])
    assert expected == [
        "constructed",
        ("made", "<ReadPipeTransport"),
        "waiter",
        "woken",
        ("data", "b'x'"),
        "closed",
        "lost",
    ]


def test_repr(loop, run, pipe, outlet):
    async def main():
        reading, _ = await loop.connect_read_pipe(Recorder, pipe[0])
        writing, _ = await loop.connect_write_pipe(Recorder, outlet[1])
        r, w = pipe[0].fileno(), outlet[1].fileno()
        assert text(reading) == f"<ReadPipeTransport fd={r} polling>"
        reading.pause_reading()
        assert text(reading) == f"<ReadPipeTransport fd={r} idle>"
        assert text(writing) == f"<WritePipeTransport fd={w} idle bufsize=0>"
        fill(w)
        writing.write(b"more")
        assert text(writing) == f"<WritePipeTransport fd={w} polling bufsize=4>"
        reading.close()
        writing.abort()
        assert text(reading) == f"<ReadPipeTransport closing fd={r} idle>"
        assert text(writing) == f"<WritePipeTransport closing fd={w} idle bufsize=0>"
        await asyncio.sleep(0)
        assert text(reading) == f"<ReadPipeTransport closed fd={r} closed>"
        assert text(writing) == f"<WritePipeTransport closed fd={w} closed>"

    run(main())


# -- what they refuse --------------------------------------------------------


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_other_kinds_of_files_are_refused(loop, tmp_path, method):
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(ValueError) as caught:
            loop.run_until_complete(getattr(loop, method)(Recorder, file))
        assert str(caught.value) == {
            "connect_read_pipe": "Pipe transport is for pipes/sockets only.",
            "connect_write_pipe": "Pipe transport is only for pipes, sockets and character devices",
        }[method]
        assert not file.closed and is_blocking(file.fileno())
    collect()


# What asyncio left half made cannot be shown.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_what_is_no_open_file_is_refused(impl, method):
    def attempt(implementation):
        read, write = os.pipe()
        closed = os.fdopen(read, "rb")
        closed.close()
        os.close(write)
        loop = implementation.new_event_loop()
        outcomes = [
            outcome(lambda pipe=pipe: loop.run_until_complete(getattr(loop, method)(Recorder, pipe)))
            for pipe in (closed, 0, None, "pipe")
        ]
        loop.close()
        return outcomes

    assert [kind for kind, *_ in same_on_both(attempt, over=[impl])] == ["raised"] * 4
    collect()


def test_a_protocol_without_connection_made_leaves_the_pipe_alone(loop, closing):
    read, write = closing(*os.pipe())
    file = os.fdopen(read, "rb", 0, closefd=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AttributeError, match="connection_made"):
            loop._make_read_pipe_transport(file, object())
        collect()
    turns(loop, 2)


def test_a_closed_loop_makes_no_transport(impl, closing):
    loop = impl.new_event_loop()
    loop.close()
    read, write = closing(*os.pipe())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop._make_read_pipe_transport(os.fdopen(read, "rb", 0, closefd=False), Recorder())
        collect()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_that_cannot_be_watched(loop, device):
    """epoll refuses it; asyncio tells the exception handler."""
    loop.set_exception_handler(contexts := Contexts())
    transport, protocol = loop.run_until_complete(loop.connect_read_pipe(Recorder, open(device, "rb", 0)))
    (context,) = contexts
    assert isinstance(context["exception"], PermissionError)
    assert context["message"].startswith("Exception in callback")
    assert isinstance(context["handle"], asyncio.Handle)
    transport.close()
    turns(loop, 2)
    assert protocol.events == ["made", ("lost", None)]


def test_devices_are_written_to(loop, run, logged):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, open("/dev/null", "wb", 0))
        transport.write(bytes(1 << 20))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await asyncio.sleep(0)
        assert protocol.events == ["made", ("lost", None)]
        transport, protocol = await loop.connect_write_pipe(Recorder, open("/dev/full", "wb", 0))
        transport.write(b"x")
        assert transport.is_closing()
        await asyncio.sleep(0)
        assert protocol.events[1][1][0] is OSError

    run(main())
    assert logged.messages() == []


# -- data --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 1000, 70_000, 3_000_000])
def test_data_goes_through(loop, run, tmp_path, kind, size):
    payload = bytes(range(1, 251)) * (size // 250) + bytes(range(1, 1 + size % 250))

    async def main():
        reader, writer = ends(kind, tmp_path)
        reading, receiver, writing, sender = await connect_both(loop, reader, writer)
        writing.write(payload)
        await until(lambda: len(receiver.data) == size)
        assert receiver.data == payload
        assert writing.get_write_buffer_size() == 0
        if kind == "pty":
            reading.close()
            writing.close()
        else:
            writing.write_eof()
            await until(lambda: receiver.lost)
        await until(lambda: receiver.lost and sender.lost)
        assert reader.fileno() == -1 if kind == "socket" else reader.closed
        assert receiver.events == ["made", ("lost", None)] if kind == "pty" else ["made", "eof", ("lost", None)]
        assert sender.events[0] == "made" and sender.events[-1] == ("lost", None)

    run(main())


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_streams_over_pipes_with_flow_control(loop, run, tmp_path, kind):
    """StreamReader pauses and resumes reading, drain() waits."""
    total, piece = 8_000_000, bytes(range(256)) * 128

    async def main():
        reader, writer = ends(kind, tmp_path)
        stream = asyncio.StreamReader(limit=20_000)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, writer)
        out = asyncio.StreamWriter(transport, protocol, None, loop)

        async def send():
            for _ in range(total // len(piece)):
                out.write(piece)
                await out.drain()
                assert transport.get_write_buffer_size() <= 64 * 1024 + len(piece)
            out.close()

        task = asyncio.ensure_future(send())
        received = 0
        while data := await stream.read(33_333):
            assert data == (piece * 3)[received % 256 :][: len(data)]
            received += len(data)
        await task
        assert received == total // len(piece) * len(piece)

    run(main())


def test_all_kinds_of_data_and_writelines(loop, run, outlet):
    async def main():
        transport, _ = await loop.connect_write_pipe(Recorder, outlet[1])
        mutable = bytearray(b"two")
        transport.write(b"one")
        transport.write(mutable)
        mutable[:] = b"xxxx"
        transport.write(memoryview(b"-three-")[1:-1])
        if type(loop).__module__ == "hotloop":  # asyncio takes its length in items for one in bytes
            transport.write(memoryview(bytes(range(8))).cast("I"))
        else:
            transport.write(bytes(range(8)))
        transport.write(b"")
        transport.write(bytearray())
        transport.writelines([b"four", bytearray(b"five"), memoryview(b"six")])
        transport.writelines([])
        assert drain(outlet[0]) == b"onetwothree" + bytes(range(8)) + b"fourfivesix"
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_mutable_data_is_copied_when_it_has_to_wait(loop, run, outlet):
    async def main():
        transport, _ = await loop.connect_write_pipe(Recorder, outlet[1])
        already = fill(outlet[1].fileno())
        data = bytearray(b"important")
        transport.write(data)
        transport.write(memoryview(data))
        data[:] = b"destroyed"
        got = drain(outlet[0])
        await until(lambda: not transport.get_write_buffer_size())
        got += drain(outlet[0])
        assert got[already:] == b"importantimportant"
        transport.close()
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("data", ["text", 3, None, [b"x"], object])
def test_other_data_is_refused(impl, data, outlet, no_new_descriptors):
    def attempt(implementation):
        loop = implementation.new_event_loop()
        read, write = os.pipe()
        transport, _ = loop.run_until_complete(loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0)))
        result = outcome(transport.write, data)
        assert not transport.is_closing()
        transport.close()
        turns(loop, 2)
        loop.close()
        os.close(read)
        return result

    outlet[1].close()
    assert same_on_both(attempt, over=[impl])[1] is AssertionError


def test_memory_with_gaps_is_a_write_error(loop, run, outlet, logged):
    """os.write() fails, and asyncio does not ask why."""

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        transport.write(memoryview(b"abcdef")[::2])
        assert transport.is_closing()
        await asyncio.sleep(0)
        (context,) = contexts
        assert context["message"] == "Fatal write error on pipe transport"
        assert context["transport"] is transport and context["protocol"] is protocol
        assert isinstance(context["exception"], BufferError)
        assert protocol.events[1][1][0] is BufferError

    run(main())


def test_reading_can_be_paused(loop, run, pipe):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe[0])
        assert transport.is_reading()
        for pause in transport.pause_reading, transport.pause_reading:
            pause()
            assert not transport.is_reading()
        os.write(pipe[1], b"first")
        await asyncio.sleep(0.01)
        assert protocol.data == b""
        for resume in transport.resume_reading, transport.resume_reading:
            resume()
            assert transport.is_reading()
        await until(lambda: protocol.data)
        assert protocol.data == b"first"
        for _ in range(100):
            transport.pause_reading()
            transport.resume_reading()
        os.write(pipe[1], b"second")
        await until(lambda: protocol.data == b"firstsecond")
        transport.pause_reading()
        os.write(pipe[1], b"lost")
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        await asyncio.sleep(0.01)
        assert protocol.data == b"firstsecond" and protocol.events == ["made", ("lost", None)]

    run(main())


def test_paused_in_connection_made_and_in_data_received(loop, run, pipe):
    class Shy(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        os.write(pipe[1], b"one")
        transport, protocol = await loop.connect_read_pipe(Shy, pipe[0])
        await asyncio.sleep(0.01)
        assert protocol.data == b""
        transport.resume_reading()
        await until(lambda: protocol.data)
        os.write(pipe[1], b"two")
        await asyncio.sleep(0.01)
        assert protocol.data == b"one"
        transport.resume_reading()
        await until(lambda: protocol.data == b"onetwo")
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_the_protocol_can_be_changed(loop, run, pipe):
    async def main():
        transport, first = await loop.connect_read_pipe(Recorder, pipe[0])
        os.write(pipe[1], b"first")
        await until(lambda: first.data)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        os.write(pipe[1], b"second")
        await until(lambda: second.data)
        transport.close()
        await asyncio.sleep(0)
        assert (first.data, second.data) == (b"first", b"second")
        assert (first.events, second.events) == (["made"], [("lost", None)])
        assert transport.get_protocol() is None

    run(main())


def test_callbacks_run_in_the_context_they_were_asked_for_in(loop, run, pipe, outlet):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Protocol(Recorder):
        def data_received(self, data):
            seen.append(("data", variable.get()))
            variable.set(variable.get() + "!")

        def resume_writing(self):
            seen.append(("resume", variable.get()))

    async def main():
        variable.set("made")
        reading, _ = await loop.connect_read_pipe(Protocol, pipe[0])
        writing, _ = await loop.connect_write_pipe(Protocol, outlet[1])
        for count in 1, 2:
            os.write(pipe[1], b"x")
            await until(lambda count=count: len(seen) == count)
        variable.set("resumed")
        reading.pause_reading()
        reading.resume_reading()
        os.write(pipe[1], b"x")
        await until(lambda: len(seen) == 3)
        variable.set("written")
        writing.write(bytes(300_000))
        variable.set("later")
        while len(seen) < 4:
            drain(outlet[0])
            await asyncio.sleep(0.001)
        reading.close()
        writing.close()
        await asyncio.sleep(0)

    run(main())
    assert seen == [("data", "made"), ("data", "made!"), ("data", "resumed"), ("resume", "written")]


# -- the end -----------------------------------------------------------------


def test_end_of_file(loop, run, pipe):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe[0])
        os.write(pipe[1], b"last words")
        os.close(pipe[1])
        await until(lambda: protocol.lost)
        assert protocol.data == b"last words"
        assert protocol.events == ["made", "eof", ("lost", None)]
        assert pipe[0].closed and transport.is_closing()
        transport.close()

    run(main())


def test_a_terminal_hanging_up(loop, run, closing, logged):
    """Reading from a terminal whose other side is closed fails with EIO."""

    async def main():
        master, slave = os.openpty()
        closing(slave)
        transport, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(master, "rb", 0))
        os.write(slave, b"typed")
        await until(lambda: protocol.data)
        os.close(slave)
        await until(lambda: protocol.lost)
        assert protocol.data == b"typed"
        kind, message = protocol.events[-1][1]
        assert (kind, errno.EIO) == (OSError, int(message.split("]")[0].split()[1]))

    run(main())
    assert logged.messages() == []


def test_a_read_error_is_reported(loop, run, closing):
    async def main():
        loop.set_exception_handler(contexts := Contexts())
        left, right = socket.socketpair()
        with right:
            transport, protocol = await loop.connect_read_pipe(Recorder, left)
            other_end = os.open("/", os.O_RDONLY)  # read() says EISDIR
            os.dup2(other_end, left.fileno())
            os.close(other_end)
            transport._read_ready()
            await asyncio.sleep(0)
        (context,) = contexts
        assert context["message"] == "Fatal read error on pipe transport"
        assert isinstance(context["exception"], IsADirectoryError)
        assert context["transport"] is transport and context["protocol"] is protocol
        assert protocol.events[-1][1][0] is IsADirectoryError

    run(main())


def test_an_exception_of_the_protocol_leaves_the_transport_open(loop, run, pipe):
    class Failing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise ZeroDivisionError(data)

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        transport, protocol = await loop.connect_read_pipe(Failing, pipe[0])
        for count in 1, 2:
            os.write(pipe[1], b"x")
            await until(lambda count=count: len(contexts) == count)
        assert not transport.is_closing()
        assert all(context["message"].startswith("Exception in callback") for context in contexts)
        assert all(isinstance(context["exception"], ZeroDivisionError) for context in contexts)
        transport.close()
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("callback", ["connection_made", "eof_received", "connection_lost"])
def test_other_exceptions_of_the_protocol(loop, run, pipe, callback):
    def fail(*args):
        raise ZeroDivisionError

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        protocol = Recorder()
        setattr(protocol, callback, fail)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe[0])
        os.close(pipe[1])
        await until(lambda: pipe[0].closed)
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
        assert (transport._protocol, transport._loop, transport._pipe) == (None, None, None)

    run(main())


def test_a_ctrl_c_in_a_protocol_ends_the_run(impl, pipe):
    class Interrupted(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    loop = impl.new_event_loop()
    transport, protocol = loop.run_until_complete(loop.connect_read_pipe(Interrupted, pipe[0]))
    os.write(pipe[1], b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))
    transport.close()
    turns(loop, 2)
    assert protocol.events == ["made", ("lost", None)]
    loop.close()


def test_closing_from_every_callback(loop, run, closing):
    class Closer(Recorder):
        def __init__(self, where):
            super().__init__()
            self.where = where

        def connection_made(self, transport):
            super().connection_made(transport)
            if self.where == "made":
                transport.close()

        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

        def eof_received(self):
            super().eof_received()
            self.transport.close()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.transport.close()

    async def main():
        for where, data in ("made", b"x"), ("data", b"x"), ("eof", b""):
            read, write = os.pipe()
            os.write(write, data)
            protocol = Closer(where)
            await loop.connect_read_pipe(lambda protocol=protocol: protocol, os.fdopen(read, "rb", 0))
            os.close(write)
            await until(lambda protocol=protocol: protocol.lost)
            assert protocol.data == (b"x" if where == "data" else b"")
            assert protocol.events == ["made", *(["eof"] if where == "eof" else []), ("lost", None)]

    run(main())


def test_closed_and_aborted_more_than_once(loop, run, outlet, pipe):
    """connection_lost() is called once. (Stock asyncio calls it on None, if aborted twice.)"""

    async def main():
        reading, receiver, writing, sender = await connect_both(loop, pipe[0], outlet[1])
        for transport in reading, writing:
            transport.close()
            transport.close()
        writing.write_eof()
        if type(loop).__module__ == "hotloop":
            writing.abort()
        await asyncio.sleep(0.01)
        for protocol in receiver, sender:
            assert protocol.events == ["made", ("lost", None)]
        for transport in reading, writing:
            transport.close()
            assert transport.is_closing()
        writing.write(b"x")
        if type(loop).__module__ == "hotloop":
            writing.abort()
        await asyncio.sleep(0.01)

    run(main())


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_closing_with_data_to_write(loop, run, outlet, end):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        already = fill(outlet[1].fileno())
        transport.write(bytes(range(256)) * 1000)
        assert transport.get_write_buffer_size() == 256_000
        getattr(transport, end)()
        assert transport.is_closing() and not outlet[1].closed
        transport.write(b"dropped")
        got = b""
        while not protocol.lost:
            got += drain(outlet[0])
            await asyncio.sleep(0)
        got += drain(outlet[0])
        assert got[already:] == bytes(range(256)) * 1000
        assert protocol.events == ["made", "pause", "resume", ("lost", None)]
        assert outlet[1].closed

    run(main())


def test_aborting_with_data_to_write(loop, run, outlet):
    async def main():
        for close_before in False, True:
            read, write = os.pipe()
            transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0))
            already = fill(write)
            transport.write(bytes(100_000))
            if close_before:
                transport.close()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await asyncio.sleep(0)
            assert protocol.events == ["made", "pause", ("lost", None)]
            assert len(drain(read)) == already
            os.close(read)
        outlet[1].close()

    run(main())


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
@pytest.mark.parametrize("pending", [False, True])
def test_the_reader_going_away(loop, run, tmp_path, kind, pending):
    async def main():
        reader, writer = ends(kind, tmp_path)
        transport, protocol = await loop.connect_write_pipe(Recorder, writer)
        if pending:
            fill(writer.fileno())
            transport.write(b"never read")
        await asyncio.sleep(0.01)
        reader.close()
        await until(lambda: protocol.lost)
        expected = (BrokenPipeError, "") if pending else None
        assert protocol.events == ["made", ("lost", expected)]
        assert transport.is_closing()

    run(main())


def test_writing_after_the_reader_has_gone(loop, run, outlet, logged):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        os.close(outlet[0])
        transport.write(b"x")
        assert transport.is_closing()
        for _ in range(10):
            transport.write(b"x")
        await asyncio.sleep(0)
        transport.write(b"x")
        kind, _ = protocol.events[-1][1]
        assert protocol.events[0] == "made" and len(protocol.events) == 2 and kind is BrokenPipeError

    run(main())
    assert logged.messages() == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 7


def test_writing_after_close(loop, run, outlet, logged):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        transport.close()
        for _ in range(7):
            transport.write(b"x")
        await asyncio.sleep(0)
        assert drain(outlet[0]) == b""

    run(main())
    assert logged.messages() == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2


def test_debug_mode_logs(impl, no_new_descriptors):
    def messages(implementation):
        loop = implementation.new_event_loop()
        loop.set_debug(True)
        read, write = os.pipe()
        read2, write2 = os.pipe()

        async def main():
            reading, _ = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
            writing, _ = await loop.connect_write_pipe(Recorder, os.fdopen(write2, "wb", 0))
            reading.pause_reading()
            reading.resume_reading()
            os.close(write)
            os.close(read2)
            writing.write(b"x")
            await asyncio.sleep(0.02)

        with Logged() as log:
            loop.run_until_complete(main())
        loop.close()
        return [
            re.sub(r"\b(fd=|pipe )\d+", r"\1N", text(record.getMessage()))
            for record in log.records
            if "Transport" in record.getMessage() and "poll" not in record.getMessage()[:4]
        ]

    expected = same_on_both(messages, over=[impl])
    assert any("pauses reading" in message for message in expected)
    assert any("was closed by peer" in message for message in expected)
    assert any("Fatal write error on pipe transport" in message for message in expected)


def test_dropped_while_open(loop, run, closing, impl):
    read, write = closing(*os.pipe())
    other_read, other_write = os.pipe()

    async def main():
        reading, _ = await loop.connect_read_pipe(Recorder, os.fdopen(other_read, "rb", 0))
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(os.dup(write), "wb", 0))
        reading.pause_reading()
        loop.remove_reader(writing._fileno)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main())
        collect()
    texts = sorted(text(str(w.message)) for w in caught if "unclosed transport" in str(w.message))
    assert len(texts) == 2
    assert "unclosed transport <ReadPipeTransport fd=" in texts[0]
    assert "unclosed transport <WritePipeTransport fd=" in texts[1]
    with pytest.raises(OSError):
        os.fstat(other_read)
    os.close(other_write)


def test_a_loop_closed_with_open_transports(impl, closing):
    read, write = closing(*os.pipe())
    loop = impl.new_event_loop()
    transport, protocol = loop.run_until_complete(
        loop.connect_read_pipe(Recorder, os.fdopen(os.dup(read), "rb", 0))
    )
    loop.close()
    assert "Transport" in repr(transport)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, protocol
        collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)


def test_garbage_of_transports_is_collected(loop, run, closing):
    async def main():
        read, write = closing(*os.pipe())
        transport, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(os.dup(read), "rb", 0))
        protocol.itself = protocol
        transport.protocol = protocol
        transport.close()
        await asyncio.sleep(0)
        return weakref.ref(transport), weakref.ref(protocol)

    references = run(main())
    collect()
    assert [reference() for reference in references] == [None, None]


def test_misuse_of_the_types():
    import hotloop
    from hotloop import _pipes

    loop = hotloop.new_event_loop()
    read, write = os.pipe()
    for cls in _pipes.ReadPipeTransport, _pipes.WritePipeTransport:
        blank = cls.__new__(cls)
        assert blank.is_closing() and blank.get_protocol() is None and blank._loop is None
        blank.close()
        blank._close(None)
        blank._start_watching()
        blank._read_ready()
        blank._call_connection_lost(None)
        if cls is _pipes.WritePipeTransport:
            blank.write(b"x")
            blank.write_eof()
            blank.abort()
            blank._write_ready()
            blank._maybe_pause_protocol()
            blank._maybe_resume_protocol()
            assert blank.get_write_buffer_size() == 0
        else:
            blank.pause_reading()
            blank.resume_reading()
        with pytest.raises(TypeError):
            cls(asyncio.SelectorEventLoop, None, None)
        with pytest.raises(TypeError):
            cls(loop)
        del blank
        collect()
    transport = _pipes.ReadPipeTransport(loop, os.fdopen(read, "rb", 0), Recorder())
    with pytest.raises(TypeError):
        transport.__init__(loop, None, None)
    transport.close()
    turns(loop, 2)
    os.close(write)
    loop.close()


class OddPipe:
    """A pipe object with methods of its own."""

    def __init__(self, fd, **methods):
        self.file = os.fdopen(fd, "rb" if "r" in methods.pop("mode", "r") else "wb", 0)
        self.methods = methods

    def fileno(self):
        return self.methods.get("fileno", self.file.fileno)()

    def close(self):
        self.file.close()
        self.methods.get("close", int)()


def fail():
    raise ZeroDivisionError


def test_a_pipe_that_fails_to_close(loop, run, closing):
    async def main():
        loop.set_exception_handler(contexts := Contexts())
        read, write = os.pipe()
        closing(write)
        transport, protocol = await loop.connect_read_pipe(Recorder, OddPipe(read, close=fail))
        transport.close()
        await asyncio.sleep(0)
        assert protocol.events == ["made", ("lost", None)]
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
        if type(loop).__module__ != "hotloop":
            transport._pipe = None  # it will try again

    run(main())


@pytest.mark.parametrize("fileno", [fail, lambda: "one", lambda: -1, lambda: 1 << 70, lambda: None])
def test_a_pipe_with_an_odd_number(fileno):
    import hotloop

    loop = hotloop.new_event_loop()
    read, write = os.pipe()
    pipe = OddPipe(read, fileno=fileno)
    for make in loop._make_read_pipe_transport, loop._make_write_pipe_transport:
        with pytest.raises((ZeroDivisionError, TypeError, ValueError, OverflowError)):
            make(pipe, Recorder())
    pipe.close()
    os.close(write)
    loop.close()


def test_callbacks_that_end_the_transport_in_the_middle():
    """A log handler, a pipe's fileno() and a handle's end may do anything."""
    import hotloop

    class Meddler(logging.Handler):
        def emit(self, record):
            transport._call_connection_lost(None)

    class Dying:
        def __call__(self):
            pass

        def __del__(self):
            transport._call_connection_lost(None)

    loop = hotloop.new_event_loop()
    loop.set_debug(True)
    logger = logging.getLogger("asyncio")
    meddler, level = Meddler(), logger.level
    for hook in "log", "fileno", "handle":
        for end in "eof", "close", "write", "resume":
            read, write = os.pipe()
            if end == "write":
                pipe, other = OddPipe(write, mode="w"), read
                transport = loop._make_write_pipe_transport(pipe, Recorder())
                fill(write)
            else:
                pipe, other = OddPipe(read), write
                transport = loop._make_read_pipe_transport(pipe, Recorder())
            turns(loop, 3)
            number = transport._fileno
            if hook == "fileno":
                pipe.methods["fileno"] = lambda: transport._call_connection_lost(None) or number
            if hook == "handle":
                if end != "write":
                    transport.pause_reading()
                    loop.add_reader(number, Dying())
                loop.add_writer(number, Dying())
            logger.setLevel(logging.DEBUG)
            if hook == "log":
                logger.addHandler(meddler)
            try:
                if end == "write":
                    transport.write(bytes(100_000))
                    os.close(other)
                elif end == "resume":
                    transport.resume_reading()
                    os.close(other)
                else:
                    os.close(other)
                turns(loop, 3)
                transport.close()
                turns(loop, 3)
            except OSError:
                pass  # it was to wait for what is closed
            finally:
                logger.removeHandler(meddler)
                logger.setLevel(level)
            transport.close()
            turns(loop, 3)
            loop.remove_writer(number)
            assert transport._loop is None and pipe.file.closed
    loop.set_debug(False)
    loop.close()


# -- flow control ------------------------------------------------------------


def test_limits(loop, run, outlet):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits(high=100, low=50)
        assert transport.get_write_buffer_limits() == (50, 100)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=5, low=10)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=5, low=-1)
        fill(outlet[1].fileno())
        transport.write(bytes(100))
        assert protocol.events == ["made"]
        transport.set_write_buffer_limits(high=99)
        assert protocol.events == ["made", "pause"]
        transport.abort()
        await asyncio.sleep(0)

    run(main())


def test_exceptions_of_flow_control_are_reported(loop, run, outlet):
    class Failing(Recorder):
        def pause_writing(self):
            raise ZeroDivisionError

        resume_writing = pause_writing

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        transport, protocol = await loop.connect_write_pipe(Failing, outlet[1])
        transport.write(bytes(300_000))
        while len(contexts) < 2:
            drain(outlet[0])
            await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        assert [context["message"] for context in contexts] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        assert all(context["transport"] is transport for context in contexts)
        assert all(context["protocol"] is protocol for context in contexts)

    run(main())


def test_writing_and_closing_in_resume_writing(loop, run, outlet):
    class Chatty(Recorder):
        rounds = 3

        def resume_writing(self):
            super().resume_writing()
            self.rounds -= 1
            if self.rounds > 0:
                self.transport.write(bytes(200_000))
            else:
                self.transport.close()

    async def main():
        transport, protocol = await loop.connect_write_pipe(Chatty, outlet[1])
        transport.write(bytes(200_000))
        got = 0
        loop.set_exception_handler(lambda *_: None)  # stock asyncio calls connection_lost() on None
        while not protocol.lost:
            got += len(drain(outlet[0]))
            await asyncio.sleep(0)
        got += len(drain(outlet[0]))
        assert got == 600_000
        assert protocol.events == ["made", *["pause", "resume"] * 3, ("lost", None)]
        await asyncio.sleep(0)

    run(main())


SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 200_000)),
        st.tuples(st.just("drain"), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
        st.tuples(st.just("limit"), st.integers(0, 100_000)),
        st.tuples(st.sampled_from(["close", "abort", "write_eof", "hang up"]), st.just(0)),
    ),
    max_size=12,
)


def play(implementation, script):
    """What a protocol is told, and the kernel given, in a script of calls."""
    loop = implementation.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    read, write = os.pipe()
    transport, protocol = loop.run_until_complete(loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0)))
    got, written, seen, hung_up = b"", b"", [], False
    for number, (name, argument) in enumerate(script):
        if name == "write":
            data = bytes([number + 1]) * argument
            written += data
            transport.write(data)
        elif name == "drain":
            got += b"" if hung_up else drain(read)
        elif name == "turn":
            for _ in range(argument):
                one_turn(loop)
        elif name == "limit":
            transport.set_write_buffer_limits(argument)
        elif name == "hang up":
            if not hung_up:
                os.close(read)
            hung_up = True
        elif transport._loop is not None and not (name == "abort" and transport.is_closing()):
            getattr(transport, name)()
        seen.append((transport.get_write_buffer_size(), transport.is_closing(), list(protocol.events)))
    for _ in range(200):
        if not hung_up:
            got += drain(read)
        transport.close()
        one_turn(loop)
        if protocol.lost:
            break
    if not hung_up:
        got += drain(read)
        os.close(read)
    loop.close()
    assert written.startswith(got)
    return seen, protocol.events, got


@hypothesis.given(SCRIPT)
def test_flow_control_is_asyncios(script):
    with Logged():
        seen, events, got = same_on_both(play, script)
    assert events[0] == "made" and events[-1][0] == "lost"
    words = [event for event in events[1:-1]]
    assert words == ["pause", "resume"] * (len(words) // 2) + ["pause"] * (len(words) % 2)


# -- the blocking mode -------------------------------------------------------


@pytest.fixture
def hotloop_only(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio leaves descriptors non-blocking")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["close", "end", "drop"])
def test_the_blocking_mode_is_put_back(loop, run, tmp_path, kind, ending, closing, hotloop_only):
    async def main():
        reader, writer = ends(kind, tmp_path)
        shared = closing(os.dup(reader.fileno()), os.dup(writer.fileno()))
        assert [is_blocking(fd) for fd in shared] == [True, True]
        reading, receiver, writing, sender = await connect_both(loop, reader, writer)
        assert [is_blocking(fd) for fd in shared] == [False, False]
        if ending == "end":
            os.close(shared[1])
            writing.abort()
            await until(lambda: receiver.lost)
            assert is_blocking(shared[0])
        elif ending == "close":
            reading.close()
            writing.close()
            assert [is_blocking(fd) for fd in shared] == [False, False]
            await asyncio.sleep(0)
            assert [is_blocking(fd) for fd in shared] == [True, True]
        else:
            reading.pause_reading()
            loop.remove_reader(writer.fileno())
            receiver.transport = sender.transport = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                del reading, writing, receiver, sender
                collect()
            assert [is_blocking(fd) for fd in shared] == [True, True]

    if (kind, ending) == ("pty", "end"):
        pytest.skip("a terminal's end is another one")
    run(main())


def test_a_non_blocking_descriptor_stays_so(loop, run, closing):
    async def main():
        read, write = closing(*os.pipe())
        os.set_blocking(read, False)
        transport, _ = await loop.connect_read_pipe(Recorder, os.fdopen(os.dup(read), "rb", 0))
        transport.close()
        await asyncio.sleep(0)
        assert not is_blocking(read)

    run(main())


def test_the_last_transport_of_an_open_file_puts_its_mode_back(loop, run, closing, hotloop_only):
    """stdin and stdout of a program are one open file, if both are its terminal."""

    async def main():
        master, slave = closing(*os.openpty())
        stdin, stdout, stderr = (os.fdopen(os.dup(slave), mode, 0) for mode in ("rb", "wb", "wb"))
        reading, receiver, writing, sender = await connect_both(loop, stdin, stdout)
        third, _ = await loop.connect_write_pipe(Recorder, stderr)
        reading.close()
        await asyncio.sleep(0)
        assert not is_blocking(slave)
        third.close()
        await asyncio.sleep(0)
        assert not is_blocking(slave)
        writing.write(b"still there\n")
        writing.close()
        await asyncio.sleep(0)
        assert is_blocking(slave)
        assert os.read(master, 100).strip() == b"still there"

    run(main())


def test_two_ends_of_a_pipe_do_not_share_their_mode(loop, run, closing, hotloop_only):
    async def main():
        read, write = closing(*os.pipe())
        reading, _, writing, _ = await connect_both(
            loop, os.fdopen(os.dup(read), "rb", 0), os.fdopen(os.dup(write), "wb", 0)
        )
        reading.close()
        await asyncio.sleep(0)
        assert (is_blocking(read), is_blocking(write)) == (True, False)
        writing.close()
        await asyncio.sleep(0)
        assert (is_blocking(read), is_blocking(write)) == (True, True)

    run(main())


def test_a_pipe_closed_behind_the_transports_back(loop, run, closing, hotloop_only):
    """Its number may be another file's by now, whose mode is none of our business."""

    async def main():
        read, write = closing(*os.pipe())
        file = os.fdopen(os.dup(read), "rb", 0)
        number = file.fileno()
        transport, protocol = await loop.connect_read_pipe(Recorder, file)
        transport.pause_reading()
        file.close()
        other, other_write = closing(*os.pipe())
        assert other == number
        os.set_blocking(other, False)
        transport.close()
        await asyncio.sleep(0)
        assert not is_blocking(other)
        assert protocol.events == ["made", ("lost", None)]

    run(main())


def test_a_forked_child_leaves_the_mode_to_its_parent(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio leaves descriptors non-blocking")
    loop = impl.new_event_loop()
    read, write = os.pipe()
    shared = os.dup(read)
    transport, protocol = loop.run_until_complete(loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                transport.pause_reading()
                protocol.transport = None
                del transport
                gc.collect()
            finally:
                os._exit(0)
    os.waitpid(child, 0)
    assert not is_blocking(shared)
    os.write(write, b"still watched")
    loop.run_until_complete(until(lambda: protocol.data))
    transport.close()
    turns(loop, 2)
    assert is_blocking(shared)
    loop.close()
    os.close(shared)
    os.close(write)


def test_a_forked_child_does_not_touch_its_parents_epoll(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio's child and parent share a selector")
    loop = impl.new_event_loop()
    read, write = os.pipe()
    transport, protocol = loop.run_until_complete(loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0)))
    already = fill(write)
    transport.write(bytes(1000))
    turns(loop, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                transport.abort()
            finally:
                os._exit(0)
    os.waitpid(child, 0)
    got = len(drain(read))
    loop.run_until_complete(until(lambda: not transport.get_write_buffer_size()))
    assert got + len(drain(read)) == already + 1000
    os.close(read)
    loop.run_until_complete(until(lambda: protocol.lost))
    loop.close()


LEFT_OPEN = """
import os, sys
kept = []

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(0, "rb", 0, closefd=False))
    if sys.argv[1] == "kept":
        kept.extend([transport, loop])

run(main())
"""


@pytest.mark.parametrize("how", ["dropped", "kept"])
def test_a_program_that_ends_without_closing_puts_the_mode_back(hotloop_only, impl, closing, how):
    read, write = closing(*os.pipe())
    command = script_command(impl, LEFT_OPEN, how, flags=("-W", "ignore"))
    process = subprocess.run(command, stdin=read, capture_output=True, timeout=20 * PATIENCE)
    assert (process.returncode, process.stderr) == (0, b"")
    assert is_blocking(read)


# -- stdin and stdout of a process -------------------------------------------

USES_STDIN = """
import os, sys

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", 0))
    print((await reader.readline()).decode().strip(), os.get_blocking(0), flush=True)
    transport.close()
    await asyncio.sleep(0)

print(os.get_blocking(0), flush=True)
run(main())
print(os.get_blocking(0), sys.stdin.readline().strip(), flush=True)
"""


@pytest.mark.parametrize("kind", ["pipe", "pty"])
def test_the_stdin_of_a_process(impl, kind, closing):
    """Before, with and after a transport; afterwards a plain readline() waits again."""
    if kind == "pipe":
        inside, outside = closing(*os.pipe())
    else:
        outside, inside = closing(*os.openpty())
    process = subprocess.Popen(
        script_command(impl, USES_STDIN), stdin=inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        lines = [process.stdout.readline()]
        os.write(outside, b"one\n")
        lines.append(process.stdout.readline())
        if impl.name == "hotloop":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)  # it waits for the second line
            assert is_blocking(inside)
        os.write(outside, b"two\n")
        lines.append(process.stdout.readline())
        errors = process.stderr.read()
        process.wait(20 * PATIENCE)
    expected = [b"True\n", b"one False\n", b"True two\n"]
    if impl.name == "hotloop":
        assert (lines, errors) == (expected, b"")
    else:
        assert lines[:2] == expected[:2] and lines[2] != expected[2]


@pytest.mark.parametrize("kind", ["pipe", "pty"])
def test_a_process_inherits_a_blocking_stdin(loop, run, closing, kind, hotloop_only):
    """One that starts while our transport is open has what we have; a later one what was before."""
    if kind == "pipe":
        inside, outside = closing(*os.pipe())
    else:
        outside, inside = closing(*os.openpty())
    command = [sys.executable, "-c", "import os; print(os.get_blocking(0))"]

    def child_says():
        return subprocess.run(command, stdin=inside, capture_output=True, timeout=20 * PATIENCE).stdout

    async def main():
        assert child_says() == b"True\n"
        transport, _ = await loop.connect_read_pipe(Recorder, os.fdopen(os.dup(inside), "rb", 0))
        assert child_says() == b"False\n"
        transport.close()
        await asyncio.sleep(0)
        assert child_says() == b"True\n"

    run(main())


def test_a_subprocess_through_our_transports(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os, shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer);"
            "print(os.get_blocking(0), os.get_blocking(1), file=sys.stderr)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        data = bytes(range(256)) * 20_000
        out, err = await process.communicate(data)
        assert out == data and err == b"True True\n" and process.returncode == 0

    run(main())


def test_a_subprocess_that_does_not_read_its_stdin(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import os; os.close(0); print('closed', flush=True); input_is_gone = 1",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(bytes(1_000_000))
        assert out == b"closed\n" and process.returncode == 0

    run(main())


# -- company -----------------------------------------------------------------


def test_a_reader_and_a_writer_on_one_terminal(loop, run, closing):
    async def main():
        master, slave = os.openpty()
        tty.setraw(slave)
        closing(slave)
        file = os.fdopen(master, "r+b", 0)
        reading, receiver, writing, sender = await connect_both(loop, file, file)
        for count in range(1, 4):
            os.write(slave, b"in")
            await until(lambda count=count: receiver.data == b"in" * count)
            writing.write(b"out")
        writing.write(bytes(10_000))
        got = b""
        while len(got) < 9 + 10_000:
            got += drain(slave)
            await asyncio.sleep(0)
        assert got == b"out" * 3 + bytes(10_000)
        os.write(slave, b"end")
        await until(lambda: receiver.data.endswith(b"end"))
        reading.close()
        await asyncio.sleep(0)
        writing.close()
        await asyncio.sleep(0)
        assert receiver.events[-1] == sender.events[-1] == ("lost", None)

    run(main())


def test_a_reader_added_beside_a_paused_transport_goes_with_it(loop, run, pipe):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe[0])
        transport.pause_reading()
        called = []
        loop.add_reader(pipe[0].fileno(), called.append, 1)
        os.write(pipe[1], b"x")
        await until(lambda: called)
        transport.close()
        called.clear()
        await asyncio.sleep(0.01)
        assert called == [] and protocol.data == b""

    run(main())


def test_numbers_are_used_again_at_once(loop, run):
    """Hundreds of transports, one after the other over the same numbers: none gets another's data."""

    async def main():
        for number in range(300):
            read, write = os.pipe()
            reading, receiver, writing, sender = await connect_both(
                loop, os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)
            )
            writing.write(b"%d" % number)
            if number % 3:
                writing.close()
                await until(lambda receiver=receiver: receiver.lost)
                assert receiver.data == b"%d" % number
            else:
                reading.close()
                writing.abort()
            await until(lambda receiver=receiver, sender=sender: receiver.lost and sender.lost)

    run(main())


def test_a_signal_while_reading(loop, run, pipe):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe[0])
        got = []
        loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.write(pipe[1], b"x")
            await asyncio.sleep(0)
        await until(lambda: len(protocol.data) == 20 and got)
        loop.remove_signal_handler(signal.SIGUSR1)
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_poll_knows_our_descriptors_are_ready(pipe):
    """The fixtures' own assumption."""
    os.write(pipe[1], b"x")
    assert select.select([pipe[0]], [], [], 0)[0]
    pipe[0].close()

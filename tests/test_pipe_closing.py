"""The end of pipe transports: end of file, errors, close, abort, readers gone, transports left open."""

import asyncio
import errno
import logging
import os
import re
import socket
import warnings
import weakref

import pytest
from pipe_ends import Recorder, connect_both, drain, ends, fill, text
from support import HOTLOOP, PATIENT, Contexts, Logged, collect, same_on_both, turns, until


def test_end_of_file(loop, run, inlet):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, inlet[0])
        os.write(inlet[1], b"last words")
        os.close(inlet[1])
        await until(lambda: protocol.lost)
        assert protocol.data == b"last words"
        assert protocol.events == ["made", "eof", ("lost", None)]
        assert inlet[0].closed and transport.is_closing()
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


def test_an_exception_of_the_protocol_leaves_the_transport_open(loop, run, inlet):
    class Failing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise ZeroDivisionError(data)

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        transport, protocol = await loop.connect_read_pipe(Failing, inlet[0])
        for count in 1, 2:
            os.write(inlet[1], b"x")
            await until(lambda count=count: len(contexts) == count)
        assert not transport.is_closing()
        assert all(context["message"].startswith("Exception in callback") for context in contexts)
        assert all(isinstance(context["exception"], ZeroDivisionError) for context in contexts)
        transport.close()
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("callback", ["connection_made", "eof_received", "connection_lost"])
def test_other_exceptions_of_the_protocol(loop, run, inlet, callback):
    def fail(*args):
        raise ZeroDivisionError

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        protocol = Recorder()
        setattr(protocol, callback, fail)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, inlet[0])
        os.close(inlet[1])
        await until(lambda: inlet[0].closed)
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
        assert (transport._protocol, transport._loop, transport._pipe) == (None, None, None)

    run(main())


def test_a_ctrl_c_in_a_protocol_ends_the_run(impl, inlet):
    class Interrupted(Recorder):
        def data_received(self, data):
            raise KeyboardInterrupt

    loop = impl.new_event_loop()
    transport, protocol = loop.run_until_complete(loop.connect_read_pipe(Interrupted, inlet[0]))
    os.write(inlet[1], b"x")
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
            await loop.connect_read_pipe(
                lambda protocol=protocol: protocol, os.fdopen(read, "rb", 0)
            )
            os.close(write)
            await until(lambda protocol=protocol: protocol.lost)
            assert protocol.data == (b"x" if where == "data" else b"")
            assert protocol.events == [
                "made",
                *(["eof"] if where == "eof" else []),
                ("lost", None),
            ]

    run(main())


def test_closed_and_aborted_more_than_once(loop, run, outlet, inlet):
    """connection_lost() is called once. (Stock asyncio calls it on None, if aborted twice.)"""

    async def main():
        reading, receiver, writing, sender = await connect_both(loop, inlet[0], outlet[1])
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
            transport, protocol = await loop.connect_write_pipe(
                Recorder, os.fdopen(write, "wb", 0)
            )
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
        assert (
            protocol.events[0] == "made" and len(protocol.events) == 2 and kind is BrokenPipeError
        )

    run(main())
    assert (
        logged.messages() == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 7
    )


def test_writing_after_close(loop, run, outlet, logged):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        transport.close()
        for _ in range(7):
            transport.write(b"x")
        await asyncio.sleep(0)
        assert drain(outlet[0]) == b""

    run(main())
    assert (
        logged.messages() == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
    )


def test_debug_mode_logs(impl, no_new_descriptors):
    def messages(implementation):
        loop = implementation.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = PATIENT
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
        writing, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(os.dup(write), "wb", 0)
        )
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
        transport, protocol = await loop.connect_read_pipe(
            Recorder, os.fdopen(os.dup(read), "rb", 0)
        )
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


@pytest.mark.parametrize(
    "fileno", [fail, lambda: "one", lambda: -1, lambda: 1 << 70, lambda: None]
)
def test_a_pipe_with_an_odd_number(fileno):
    import hotloop

    loop = hotloop.new_event_loop()
    read, write = os.pipe()
    pipe = OddPipe(read, fileno=fileno)
    for make in loop._make_read_pipe_transport, loop._make_write_pipe_transport:
        with pytest.raises((ZeroDivisionError, TypeError, OSError, OverflowError)):
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


def test_a_write_pipe_closed_in_connection_made_notices_that_its_reader_goes():
    def scenario(impl):
        async def main():
            lost = asyncio.get_running_loop().create_future()

            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    transport.write(bytes(100_000))
                    transport.close()

                def connection_lost(self, exc):
                    lost.set_result(repr(exc))

            reading, writing = os.pipe()
            await asyncio.get_running_loop().connect_write_pipe(Protocol, open(writing, "wb", 0))
            await asyncio.sleep(0.005)
            os.close(reading)
            return await asyncio.wait_for(lost, 20)

        return impl.run(main())

    assert same_on_both(scenario) == "BrokenPipeError()"


def test_a_reader_beside_a_pipe_whose_repr_fails():
    """The pipe is closed nevertheless; in debug mode a Handle that is cancelled keeps its repr()."""

    class Unspeakable:
        def __call__(self):
            pass

        def __repr__(self):
            raise ValueError("repr")

    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            contexts = Contexts()
            loop.set_exception_handler(contexts)
            reader, writer = os.pipe()
            transport, protocol = await loop.connect_read_pipe(
                Recorder, os.fdopen(reader, "rb", 0)
            )
            await asyncio.sleep(0.001)
            transport.close()
            loop.add_reader(reader, Unspeakable())
            await until(lambda: protocol.lost)
            await asyncio.sleep(0)
            with open(writer, "wb", 0) as pipe, pytest.raises(BrokenPipeError):
                pipe.write(b"to nobody")
            return protocol.events

        return impl.run(main(), debug=True)

    assert scenario(HOTLOOP)[-1] == ("lost", None)

"""Data through pipe transports, over pipes, FIFOs, terminals and sockets; pausing; contexts."""

import asyncio
import contextvars
import os

import pytest
from pipe_ends import KINDS, Recorder, connect_both, drain, ends, fill
from support import Contexts, outcome, same_on_both, turns, until


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
        assert (
            receiver.events == ["made", ("lost", None)]
            if kind == "pty"
            else ["made", "eof", ("lost", None)]
        )
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
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, writer
        )
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
        if (
            type(loop).__module__ == "hotloop"
        ):  # asyncio takes its length in items for one in bytes
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
        transport, _ = loop.run_until_complete(
            loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0))
        )
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


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 30, -1])
def test_max_size_is_what_one_read_takes(size):
    def scenario(impl):
        class Pieces(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.events.append(("piece", len(data)))

        async def main():
            read, write = os.pipe()
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(contexts := Contexts())
            transport, protocol = await loop.connect_read_pipe(Pieces, os.fdopen(read, "rb"))
            with os.fdopen(write, "wb", buffering=0) as file:
                for received in (3000, 6000):
                    file.write(bytes(3000))
                    await until(lambda r=received: len(protocol.data) == r or protocol.lost)
                    transport.max_size = size
            transport.close()
            await until(lambda: protocol.lost)
            return protocol.events, transport.max_size, [c["message"] for c in contexts]

        return impl.run(main())

    events, _, contexts = same_on_both(scenario)
    pieces = [event[1] for event in events if event[0] == "piece"]
    assert pieces == [3000] + ([min(size, 3000)] * (3000 // min(size, 3000)) if size > 0 else [])
    assert len(contexts) == (size < 0)


def test_reading_can_be_paused(loop, run, inlet):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, inlet[0])
        assert transport.is_reading()
        for pause in transport.pause_reading, transport.pause_reading:
            pause()
            assert not transport.is_reading()
        os.write(inlet[1], b"first")
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
        os.write(inlet[1], b"second")
        await until(lambda: protocol.data == b"firstsecond")
        transport.pause_reading()
        os.write(inlet[1], b"lost")
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        await asyncio.sleep(0.01)
        assert protocol.data == b"firstsecond" and protocol.events == ["made", ("lost", None)]

    run(main())


def test_paused_in_connection_made_and_in_data_received(loop, run, inlet):
    class Shy(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        os.write(inlet[1], b"one")
        transport, protocol = await loop.connect_read_pipe(Shy, inlet[0])
        await asyncio.sleep(0.01)
        assert protocol.data == b""
        transport.resume_reading()
        await until(lambda: protocol.data)
        os.write(inlet[1], b"two")
        await asyncio.sleep(0.01)
        assert protocol.data == b"one"
        transport.resume_reading()
        await until(lambda: protocol.data == b"onetwo")
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_the_protocol_can_be_changed(loop, run, inlet):
    async def main():
        transport, first = await loop.connect_read_pipe(Recorder, inlet[0])
        os.write(inlet[1], b"first")
        await until(lambda: first.data)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        os.write(inlet[1], b"second")
        await until(lambda: second.data)
        transport.close()
        await asyncio.sleep(0)
        assert (first.data, second.data) == (b"first", b"second")
        assert (first.events, second.events) == (["made"], [("lost", None)])
        assert transport.get_protocol() is None

    run(main())


def test_callbacks_run_in_the_context_they_were_asked_for_in(loop, run, inlet, outlet):
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
        reading, _ = await loop.connect_read_pipe(Protocol, inlet[0])
        writing, _ = await loop.connect_write_pipe(Protocol, outlet[1])
        for count in 1, 2:
            os.write(inlet[1], b"x")
            await until(lambda count=count: len(seen) == count)
        variable.set("resumed")
        reading.pause_reading()
        reading.resume_reading()
        os.write(inlet[1], b"x")
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
    assert seen == [
        ("data", "made"),
        ("data", "made!"),
        ("data", "resumed"),
        ("resume", "written"),
    ]


def test_the_context_in_which_a_failure_is_told(tmp_path):
    """The Handle's, as asyncio has one for each wait."""
    var = contextvars.ContextVar("var", default="none")

    class Failing(Recorder):
        def data_received(self, data):
            raise ValueError("data")

    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            told = []
            loop.set_exception_handler(
                lambda loop, context: told.append(
                    (context["message"], var.get(), context["handle"]._context.get(var))
                )
            )
            reader, writer = ends("pipe", tmp_path)

            async def connect():
                var.set("the reader's")
                return await loop.connect_read_pipe(Failing, reader)

            transport, _ = await asyncio.create_task(connect())
            os.write(writer.fileno(), b"x")
            await until(lambda: told)
            transport.close()
            writer.close()
            await asyncio.sleep(0)
            return [(shown, handled) for _, shown, handled in told]

        return impl.run(main())

    same_on_both(scenario)

"""Pipe transports: what they are, what they refuse, what else goes on beside them."""

import asyncio
import os
import select
import signal
import socket
import tty
import warnings
import weakref

import pytest
from pipe_ends import Recorder, connect_both, drain, fill, is_blocking, text
from support import Contexts, collect, outcome, same_on_both, turns, until

# -- what they are -----------------------------------------------------------


# asyncio's transports are half made then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_closed_socket_is_no_pipe(method):
    def scenario(impl):
        async def main():
            closed = socket.socket()
            closed.close()
            with pytest.raises(OSError) as failure:
                await getattr(asyncio.get_running_loop(), method)(asyncio.Protocol, closed)
            return str(failure.value)

        return impl.run(main())

    assert same_on_both(scenario) == "[Errno 9] Bad file descriptor"


def test_they_are_asyncios_transports(loop, run, inlet, outlet):
    async def main():
        reading, _ = await loop.connect_read_pipe(Recorder, inlet[0])
        writing, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        assert isinstance(reading, asyncio.ReadTransport)
        assert not isinstance(reading, asyncio.WriteTransport)
        assert isinstance(writing, asyncio.WriteTransport) and isinstance(
            writing, asyncio.Transport
        )
        assert reading.get_extra_info("pipe") is inlet[0]
        assert writing.get_extra_info("pipe") is outlet[1]
        assert reading.get_extra_info("nothing") is None
        assert (
            reading.get_extra_info("nothing", 3)
            == reading.get_extra_info("nothing", default=3)
            == 3
        )
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


def test_extra_is_the_callers_dictionary(loop, inlet):
    extra = {"colour": "blue"}
    transport = loop._make_read_pipe_transport(inlet[0], Recorder(), extra=extra)
    assert transport.get_extra_info("colour") == "blue"
    assert extra["pipe"] is inlet[0] and transport._extra is extra
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
        return [
            event if not isinstance(event, tuple) else (event[0], str(event[1]).split(" fd")[0])
            for event in events
        ]

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


def test_what_is_there_already_comes_in_the_next_turn(loop, run, inlet):
    """asyncssh closes the transport that another one takes over from one turn later."""
    os.write(inlet[1], b"x")
    received = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    async def main():
        await asyncio.sleep(0.02)  # hotloop polls in every turn until it knows how often is enough
        transport, _ = await loop.connect_read_pipe(Protocol, inlet[0])
        await asyncio.sleep(0)
        assert received == [b"x"]
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_repr(loop, run, inlet, outlet):
    async def main():
        reading, _ = await loop.connect_read_pipe(Recorder, inlet[0])
        writing, _ = await loop.connect_write_pipe(Recorder, outlet[1])
        r, w = inlet[0].fileno(), outlet[1].fileno()
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
        assert (
            str(caught.value)
            == {
                "connect_read_pipe": "Pipe transport is for pipes/sockets only.",
                "connect_write_pipe": "Pipe transport is only for pipes, sockets and character devices",
            }[method]
        )
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
            outcome(
                lambda pipe=pipe: loop.run_until_complete(getattr(loop, method)(Recorder, pipe))
            )
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
    transport, protocol = loop.run_until_complete(
        loop.connect_read_pipe(Recorder, open(device, "rb", 0))
    )
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


def test_a_reader_added_beside_a_paused_transport_goes_with_it(loop, run, inlet):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, inlet[0])
        transport.pause_reading()
        called = []
        loop.add_reader(inlet[0].fileno(), called.append, 1)
        os.write(inlet[1], b"x")
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


def test_a_signal_while_reading(loop, run, inlet):
    async def main():
        transport, protocol = await loop.connect_read_pipe(Recorder, inlet[0])
        got = []
        loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.write(inlet[1], b"x")
            await asyncio.sleep(0)
        await until(lambda: len(protocol.data) == 20 and got)
        loop.remove_signal_handler(signal.SIGUSR1)
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_poll_knows_our_descriptors_are_ready(inlet):
    """The fixtures' own assumption."""
    os.write(inlet[1], b"x")
    assert select.select([inlet[0]], [], [], 0)[0]
    inlet[0].close()

"""Writing to stream transports: data of all kinds, half-close, a peer that is gone."""

import asyncio
import contextvars
import logging
import mmap
import os
import socket
import sys
import time
from unittest import mock

import pytest
from streams import (
    BIG,
    LIMIT,
    OWN_CONTEXT,
    Events,
    connect,
    on_loop,
    raw_pair,
    receive_all,
    reset,
    small_buffers,
)
from support import HOTLOOP, Logged, outcome, same_on_both, until


def sent_by(write, kind="socketpair", compare=True):
    """What the peer receives when write(transport) has been called and the transport closed."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        result = outcome(write, transport)
        transport.close()
        received = await receive_all(peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return result, received, protocol.log

    return same_on_both(on_loop(main)) if compare else on_loop(main)(HOTLOOP)


# -- what may be written -----------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 500, 5000, 70_000, len(BIG)])
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, mmap.mmap])
def test_data_of_every_kind(make, size):
    def write(transport):
        data = BIG[:size]
        if make is mmap.mmap:
            data = mmap.mmap(-1, size or 1)
            data[:] = BIG[: size or 1]
            data = memoryview(data)
        return transport.write(make(data) if make is not mmap.mmap else data)

    ((result, received, log), contexts) = sent_by(write)
    assert result == ("returned", None) and contexts == []
    assert received == BIG[:size] or (make is mmap.mmap and size == 0)


class Text(str):
    pass


class Bytes(bytes):
    pass


@pytest.mark.parametrize(
    "data",
    [
        "text",
        Text("x"),
        None,
        5,
        [b"x"],
        object(),
        Bytes(b"subclass"),
        Bytes(),
        memoryview(b"0123456789")[2:5],
        memoryview(b"0123456789")[::2],
        memoryview(b"\x01\x00").cast("H"),
        memoryview(b"").cast("B"),
        memoryview(b"xy").cast("B", (2, 1)),
    ],
    ids=lambda value: f"{type(value).__name__}-{value!r}"[:20],
)
def test_odd_data(data):
    sent_by(lambda transport: transport.write(data))


def test_a_released_view(kind):
    view = memoryview(b"x")
    view.release()
    (result, received, _), _ = sent_by(lambda transport: transport.write(view), kind)
    assert result[1] is ValueError


@pytest.mark.parametrize("call", [(), (b"a", b"b")])
def test_a_wrong_number_of_arguments(call):
    def write(transport):
        return outcome(transport.write, *call)[:2]

    (result, received, _), _ = sent_by(write)
    assert result == ("returned", ("raised", TypeError)) and received == b""


@pytest.mark.parametrize("size", [1, 600, 70_000, len(BIG)])
def test_data_changed_after_the_call_is_sent_as_it_was(size, kind):
    """Newer asyncios keep a view of what the kernel did not take, and send what it is by then."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        data = bytearray(BIG[:size])
        transport.write(data)
        data[:] = b"!" * size
        view = memoryview(bytearray(BIG[:size]))
        transport.write(view)
        view.obj[:] = b"?" * size
        del data[:]
        transport.close()
        received = await receive_all(peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return received

    assert HOTLOOP.run(main()) == BIG[:size] * 2


# -- writelines --------------------------------------------------------------

# asyncio's own of these versions does not pause the protocol, and waits forever to send empty pieces.
BROKEN_WRITELINES = (3, 12) <= sys.version_info < (3, 14)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [b"one", b"two", b"three"],
        lambda: (b"tuple", b"of", b"two"),
        lambda: [bytes([n % 256]) * n for n in range(1, 300)],
        lambda: [BIG, b"x", BIG],
        lambda: (b"%d," % n for n in range(100)),
        lambda: [bytearray(b"mutable"), memoryview(b"view"), b"bytes"],
        lambda: iter([b"iterator"]),
        lambda: {b"key": 1},
        list,
        tuple,
        lambda: b"",
        lambda: "",
    ],
)
def test_writelines(make, kind):
    def write(transport):
        assert transport.writelines(make()) is None

    (result, received, log), contexts = sent_by(write, kind, not BROKEN_WRITELINES)
    assert result == ("returned", None) and contexts == []
    lines = make()
    assert received == (b"".join(lines) if lines else b"")


@pytest.mark.parametrize("lines", [None, 5, ["text"], [b"x", 5], [5], "text", b"bytes", object()])
def test_writelines_with_wrong_types(lines):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        result = outcome(transport.writelines, lines)
        transport.abort()
        await protocol.lost
        peer.close()
        return result

    same_on_both(on_loop(main))


def test_writelines_with_empty_pieces_among_others():
    def write(transport):
        transport.writelines([b"", b"a", b"", bytearray(), b"b", b""])

    (result, received, _), _ = sent_by(write, compare=not BROKEN_WRITELINES)
    assert received == b"ab"


def test_writelines_pauses_as_write_does():
    """cpython#127655."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport.writelines([BIG, BIG])
        transport.abort()
        await protocol.lost
        peer.close()
        return protocol.log

    log, _ = on_loop(main)(HOTLOOP)
    assert log == ["connection_made", "pause_writing", ("connection_lost", None)]


def test_lines_changed_after_the_call_are_sent_as_they_were(loop, run):
    async def main():
        if loop.__class__.__module__ != "hotloop":
            return  # asyncio keeps views of them
        protocol = Events()
        transport, peer = await connect(protocol)
        lines = [bytearray(BIG[:70_000]) for _ in range(20)]
        transport.writelines(lines)
        for line in lines:
            line[:] = bytes(len(line))
        transport.close()
        assert await receive_all(peer) == BIG[:70_000] * 20
        peer.close()
        await protocol.lost

    run(main())


# -- half-close --------------------------------------------------------------


def test_write_eof_after_and_before_everything(kind):
    def write(transport):
        results = [transport.can_write_eof()]
        transport.write(BIG)
        results.append(outcome(transport.write_eof))
        results.append(outcome(transport.write_eof))
        results.append(outcome(transport.write, b"late"))
        results.append(outcome(transport.write, b""))
        results.append(outcome(transport.write, "text"))
        results.append(outcome(transport.writelines, [b"late"]))
        results.append(outcome(transport.writelines, []))
        results.append(transport.is_closing())
        return results

    (result, received, log), contexts = sent_by(write, kind)
    assert received == BIG and contexts == []


def test_half_close_in_both_directions(kind):
    async def main():
        protocol = Events(eof_received=lambda self: True)
        transport, peer = await connect(protocol, kind)
        transport.write(b"question")
        transport.write_eof()
        assert peer.recv(100) + peer.recv(100) == b"question"
        peer.sendall(b"answer")
        await until(lambda: protocol.data == b"answer")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: "eof_received" in protocol.log)
        transport.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log

    log, contexts = same_on_both(on_loop(main))
    assert contexts == []


def test_write_eof_on_a_closing_or_reset_connection():
    async def main():
        results = []
        protocol = Events()
        transport, peer = await connect(protocol, "tcp")
        transport.close()
        results.append(outcome(transport.write_eof))
        await protocol.lost
        results.append(outcome(transport.write_eof))
        peer.close()
        protocol = Events()
        transport, peer = await connect(protocol, "tcp")
        reset(peer)
        time.sleep(0.002)
        results.append(outcome(transport.write_eof))
        await protocol.lost
        results.append(outcome(transport.write_eof))
        return results, protocol.log

    same_on_both(on_loop(main))


# -- nobody there any more ---------------------------------------------------


@pytest.mark.parametrize("end", ["close", "abort", "reset", "gone"])
def test_writing_to_a_lost_connection_is_dropped_with_a_warning(end, kind, logged):
    if end == "reset" and kind != "tcp":
        kind = "tcp"

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        if end == "reset":
            reset(peer)
            await asyncio.sleep(0.002)
        elif end == "gone":
            peer.close()
            await asyncio.sleep(0.002)
        else:
            getattr(transport, end)()
        counts = []
        for _ in range(8):
            transport.write(b"late")
            counts.append(len(logged.messages()))
        transport.write(b"")
        await asyncio.wait_for(protocol.lost, LIMIT)
        transport.write(b"later")
        counts.append(len(logged.messages()))
        messages = logged.messages()
        logged.records.clear()
        peer.close()
        return protocol.log, counts, messages

    (log, counts, messages), contexts = same_on_both(on_loop(main))
    assert contexts == [] and set(messages) == {"socket.send() raised exception."}


@pytest.mark.parametrize("threshold", [0, 3, 1000])
def test_asyncios_threshold_of_these_warnings_is_heeded(threshold, logged, monkeypatch):
    monkeypatch.setattr(asyncio.constants, "LOG_THRESHOLD_FOR_CONNLOST_WRITES", threshold)

    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            transport, peer = await connect(Events(), "socketpair")
            read, write = os.pipe()
            pipe, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb"))
            for each in (transport, pipe):
                each.close()
                for _ in range(8):
                    each.write(b"late")
            peer.close()
            os.close(read)
            await asyncio.sleep(0.001)

        logged.records.clear()
        impl.run(main())
        return logged.messages()

    messages = same_on_both(scenario)
    assert (len(messages) == 0) == (threshold == 1000)


@pytest.mark.parametrize("way", ["write", "writelines"])
def test_a_broken_pipe(kind, way):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        transport.pause_reading()
        peer.close()
        for _ in range(4):
            if way == "write":
                transport.write(b"x")
            else:
                transport.writelines([b"x", b"y"])
            await asyncio.sleep(0.001)
            if transport.is_closing():
                break
        await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.log

    log, contexts = same_on_both(on_loop(main))
    assert log[-1][1][0] in (BrokenPipeError, ConnectionResetError) and contexts == []


def test_a_broken_pipe_while_data_waits(kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        transport.pause_reading()
        transport.write(BIG * 4)
        peer.recv(10)
        reset(peer) if kind == "tcp" else peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.log, transport.get_write_buffer_size()

    (log, size), contexts = same_on_both(on_loop(main))
    assert log[1] == "pause_writing" and size == 0 and contexts == []


# -- programs that replace or wrap -------------------------------------------


def test_methods_can_be_replaced_on_an_instance(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        for name in ("write", "writelines", "close", "pause_reading", "get_extra_info"):
            setattr(transport, name, mock.Mock(return_value=name))
            assert getattr(transport, name)(b"x") == name
            delattr(transport, name)
        with mock.patch.object(transport, "write") as write:
            transport.write(b"mocked")
        write.assert_called_once_with(b"mocked")
        transport.write(b"real")
        transport.close()
        assert peer.recv(100) == b"real"
        await protocol.lost
        peer.close()

    run(main())


def test_writelines_calls_a_replaced_write_where_asyncios_does():
    """Until 3.11 it was write(b"".join(lines))."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        with mock.patch.object(transport, "write") as write:
            transport.writelines([b"some", b"", bytearray(b"lines")])
        transport.writelines([])
        transport.close()
        await protocol.lost
        with peer:
            return peer.recv(100), write.mock_calls

    (received, calls), contexts = same_on_both(on_loop(main))
    assert contexts == []
    if sys.version_info < (3, 12):
        assert (received, calls) == (b"", [mock.call(b"somelines")])
    else:
        assert (received, calls) == (b"somelines", [])


# -- contexts ----------------------------------------------------------------

where = contextvars.ContextVar("where", default="nowhere")


def test_the_contexts_of_protocol_callbacks():
    async def main():
        log = []

        def note(self, *args):
            name = self.log[-1] if isinstance(self.log[-1], str) else self.log[-1][0]
            log.append((name, where.get()))
            where.set(f"after {len(log)}")

        names = "connection_made", "data_received", "eof_received", "connection_lost"
        names += "pause_writing", "resume_writing"
        protocol = Events(**dict.fromkeys(names, note))
        where.set("making")
        transport, peer = await connect(protocol)
        peer.setblocking(False)
        small_buffers(transport.get_extra_info("socket"), peer)
        for _ in range(2):
            peer.send(b"x")
            await asyncio.sleep(0.001)
        where.set("resuming")
        transport.pause_reading()
        transport.resume_reading()
        peer.send(b"x")
        await asyncio.sleep(0.001)
        where.set("writing")
        transport.write(BIG[:100_000])
        where.set("reading")
        received = 0
        while received < 100_000:
            received += len(await asyncio.get_running_loop().sock_recv(peer, 100_000))
        await until(lambda: "resume_writing" in protocol.log)
        where.set("closing")
        transport.close()
        where.set("waiting")
        await protocol.lost
        peer.close()
        return log

    log, contexts = same_on_both(on_loop(main))
    assert "resume_writing" in [name for name, _ in log]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in 3.15")
@pytest.mark.parametrize("gone", [True, False])
def test_a_transport_with_a_context_of_its_own(gone):
    async def main():
        log = []

        def note(self, *args):
            log.append(where.get())
            where.set(f"after {len(log)}")

        def write(self, data):
            note(self)
            if gone:
                peer.close()
            self.transport.write(BIG[: 10 if gone else len(BIG)])

        names = (
            "connection_made",
            "eof_received",
            "connection_lost",
            "pause_writing",
            "resume_writing",
        )
        protocol = Events(data_received=write, **dict.fromkeys(names, note))
        ours, peer = raw_pair()
        context = contextvars.Context()
        asyncio.get_running_loop()._make_socket_transport(ours, protocol, context=context)
        peer.send(b"x")
        await until(lambda: protocol.data)
        if not gone:
            protocol.transport.close()
            await receive_all(peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return log, context.get(where), protocol.log

    same_on_both(on_loop(main))


@pytest.mark.parametrize("small", [True, False])
def test_the_context_of_connection_lost_after_a_failed_write(small):
    async def main():
        log = []
        protocol = Events(connection_lost=lambda self, exc: log.append(where.get()))
        where.set("making")
        transport, peer = await connect(protocol)
        transport.pause_reading()
        peer.close()
        where.set("writing")
        transport.write(b"x" if small else BIG)
        where.set("waiting")
        await protocol.lost
        return log

    log, _ = same_on_both(on_loop(main))


def test_the_context_of_a_second_write_after_the_first_was_seen():
    async def main():
        log = []
        protocol = Events(connection_lost=lambda self, exc: log.append(where.get()))
        transport, peer = await connect(protocol)
        small_buffers(transport.get_extra_info("socket"), peer)
        where.set("writing")
        transport.write(b"x")
        assert transport.get_write_buffer_size() == 0
        transport.write(BIG[:50_000])
        where.set("closing")
        transport.close()
        assert transport.get_write_buffer_size() > 0
        assert len(await receive_all(peer)) == 50_001
        await protocol.lost
        peer.close()
        return log

    assert same_on_both(on_loop(main)) == (["nowhere" if OWN_CONTEXT else "writing"], [])


def test_nothing_of_the_writers_context_is_kept(loop, run):
    import weakref

    class Value:
        pass

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        value = Value()
        gone = weakref.ref(value)

        def write():
            where.set(value)
            transport.write(b"x")

        loop.call_soon(write, context=contextvars.Context())
        del write
        await asyncio.sleep(0.001)
        del value
        return transport, protocol, peer, gone

    transport, protocol, peer, gone = run(main())
    import gc

    gc.collect()
    assert gone() is None
    transport.close()
    run(protocol.lost)
    peer.close()


def test_writing_is_logged_when_it_fails_in_debug_mode():
    def scenario(impl):
        async def main():
            protocol = Events()
            transport, peer = await connect(protocol)
            transport.pause_reading()
            peer.close()
            transport.write(b"x")
            await protocol.lost

        with Logged(logging.DEBUG) as log:
            impl.run(main(), debug=True)
        return [
            (record.levelno, record.getMessage().split(": ")[-1], record.exc_info[0])
            for record in log.records
            if record.exc_info
        ]

    assert same_on_both(scenario) == [
        (logging.DEBUG, "Fatal write error on socket transport", BrokenPipeError)
    ]


# -- how methods may be called, and sockets with methods of their own ---------


def test_arguments_by_name():
    async def main():
        first, second = Events(), Events()
        transport, peer = await connect(first)
        transport.write(data=b"x")
        transport.writelines(list_of_data=[b"y", b"z"])
        transport.set_protocol(protocol=second)
        results = [
            outcome(method, **arguments)[:2]
            for method in (transport.write, transport.writelines, transport.set_protocol)
            for arguments in ({}, {"wrong": b""})
        ]
        transport.close()
        received = await receive_all(peer)
        await second.lost
        peer.close()
        return received, results, first.log, second.log

    (received, results, _, _), _ = same_on_both(on_loop(main))
    assert received == b"xyz" and results == [("raised", TypeError)] * 6


def test_a_socket_that_sends_and_receives_by_itself_is_asked_to():
    async def main():
        called = []

        class Own(socket.socket):
            def send(self, data, *flags):
                called.append(("send", bytes(data)))
                return super().send(data, *flags)

            def recv(self, size, *flags):
                called.append("recv")
                return super().recv(size, *flags)

        ours, peer = raw_pair()
        own = Own(fileno=ours.detach())
        own.setblocking(False)
        protocol = Events(data_received=lambda protocol, data: protocol.transport.close())
        transport, _ = await connect(protocol, sockets=(own, peer))
        transport.write(b"x")
        peer.send(b"y")
        await asyncio.wait_for(protocol.lost, LIMIT)
        received = await receive_all(peer)
        peer.close()
        return called, received, protocol.log

    (called, received, _), _ = same_on_both(on_loop(main))
    assert called == [("send", b"x"), "recv"] and received == b"x"


@pytest.mark.parametrize("before", [[], [b"one"]])
def test_writelines_with_a_memoryview_that_has_gaps(before):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        lines = [*before, memoryview(b"abcdef")[::2]]
        result = outcome(transport.writelines, lines)[:2]
        await asyncio.sleep(0.001)
        closing = transport.is_closing()
        transport.abort()
        await protocol.lost
        peer.close()
        return result, closing, protocol.log

    same_on_both(on_loop(main))

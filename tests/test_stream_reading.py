"""Reading from stream transports: protocols of both kinds, pausing, the end, what goes wrong."""

import array
import asyncio
import hashlib
import logging
import random

import pytest
from streams import BufferedEvents, Events, connect, on_loop, plain, raw_pair, reset
from support import (
    IMPLEMENTATIONS,
    PATIENCE,
    SANITIZED,
    Logged,
    same_on_both,
    script_output,
    until,
)

LIMIT = 20 * PATIENCE


@pytest.fixture(params=[Events, BufferedEvents])
def Protocol(request):
    return request.param


def scripted(protocol_class, script, kind="socketpair", **hooks):
    """The log of a protocol while script(protocol, transport, peer) runs, on both loops."""

    async def main():
        protocol = protocol_class(**hooks)
        transport, peer = await connect(protocol, kind)
        with peer:
            await script(protocol, transport, peer)
            await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.log

    return same_on_both(on_loop(main))


# -- what comes is handed on -------------------------------------------------


def test_a_conversation(kind, Protocol):
    async def script(protocol, transport, peer):
        for size in (1, 479, 481, 1000, 700, 5):
            before = len(protocol.data)
            peer.sendall(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
            await until(lambda before=before, size=size: len(protocol.data) == before + size)
        peer.close()

    log, contexts = scripted(Protocol, script, kind)
    assert contexts == [] and log[-2:] == ["eof_received", ("connection_lost", None)]


def test_much_data_arrives_in_order(loop, run, kind, Protocol):
    async def main():
        protocol = Protocol()
        transport, peer = await connect(protocol, kind)
        sent = bytes(range(251)) * 8000
        await loop.run_in_executor(None, peer.sendall, sent)
        peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        assert protocol.data == sent

    Protocol = type("Large", (Protocol,), {"size": 1 << 18})
    run(main())


def test_kept_data_does_not_change(loop, run):
    """The memory that data came in is used again, but not while somebody has the data."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        sent = []
        for number in range(200):
            sent.append(bytes([number]) * (500 + number % 7))
            peer.sendall(sent[-1])
            await until(lambda: len(protocol.log) == len(sent) + 1)
        assert [entry[1] for entry in protocol.log[1:]] == sent
        assert [hash(entry[1]) for entry in protocol.log[1:]] == [hash(bytes(s)) for s in sent]
        peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)

    run(main())


@pytest.mark.parametrize("keep", [lambda n: True, lambda n: False, lambda n: n % 3 == 0])
def test_more_than_fits_into_one_read(keep, loop, run):
    """Full reads go into memory of their own, then a smaller one, the end; what is kept stays."""
    sent = random.Random(1).randbytes(1 << 20) * 12 + b"the rest"

    class Sparing(Events):
        def __init__(self):
            super().__init__()
            self.kept = []
            self.sizes = []
            self.digest = hashlib.sha256()

        def data_received(self, data):
            start = sum(self.sizes)
            self.sizes.append(len(data))
            self.digest.update(data)
            if keep(len(self.sizes)):
                self.kept.append((start, data))

    async def main():
        protocol = Sparing()
        transport, peer = await connect(protocol, "tcp")
        with peer:
            await loop.sock_sendall(peer, sent)
            await until(lambda: sum(protocol.sizes) == len(sent))
            await loop.sock_sendall(peer, b"little")
            await until(lambda: sum(protocol.sizes) == len(sent) + 6)
        await asyncio.wait_for(protocol.lost, LIMIT)
        assert protocol.sizes.count(1 << 18) > 3
        assert protocol.digest.digest() == hashlib.sha256(sent + b"little").digest()
        for start, data in protocol.kept:
            assert data == (sent + b"little")[start : start + len(data)]

    run(main())


@pytest.mark.parametrize("size", [1, 4, 1000, 1 << 30])
def test_max_size_is_what_one_read_takes(size):
    """As stock transports read it before each recv(); programs frame messages with it."""

    async def script(protocol, transport, peer):
        received = 0
        for count in (100_000, 10, 40_000):
            received += count
            peer.sendall(bytes(count))
            await until(lambda: len(protocol.data) == received)
            protocol.log.append(("max_size", transport.max_size))
            transport.max_size = size
        transport.close()

    log, contexts = scripted(Events, script)
    chunks = [len(event[1]) for event in log if event[0] == "data_received"]
    assert contexts == [] and min(size, 10) in chunks


def test_a_close_of_its_own_is_called_at_the_end(kind):
    async def script(protocol, transport, peer):
        def close():
            protocol.log.append("close() called")
            type(transport).close(transport)

        transport.close = close
        peer.close()

    log, contexts = scripted(Events, script, kind)
    assert contexts == [] and "close() called" in log


def test_data_that_nobody_keeps_is_as_good(loop, run):
    seen = set()

    class Forgetful(Events):
        def data_received(self, data):
            assert hash(data) == hash(bytes(bytearray(data))) and len(data) == len(
                bytes(bytearray(data))
            )
            seen.add(data[:3].hex() + str(len(data)))
            self.transport.write(data)

    async def main():
        protocol = Forgetful()
        transport, peer = await connect(protocol)
        peer.setblocking(False)
        for number in range(300):
            sent = bytes([number % 250]) * (1000 - number)
            peer.sendall(sent)
            answer = b""
            while len(answer) < len(sent):
                answer += await loop.sock_recv(peer, 2000)
            assert answer == sent
        transport.abort()
        peer.close()
        await protocol.lost

    run(main())
    assert len(seen) >= 300


# -- switching protocols -----------------------------------------------------


@pytest.mark.parametrize("second", [Events, BufferedEvents])
def test_switching_protocols_in_mid_stream(Protocol, second):
    async def main():
        log = []
        later = second(log)

        def switch(self, *args):
            self.transport.set_protocol(later)

        protocol = Protocol(log, data_received=switch, buffer_updated=switch)
        transport, peer = await connect(protocol)
        peer.send(b"first")
        await until(lambda: transport.get_protocol() is later)
        peer.send(b"second")
        await until(lambda: later.data)
        transport.set_protocol(protocol)
        protocol.hooks.clear()
        peer.send(b"third")
        await until(lambda: protocol.data.endswith(b"third"))
        peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        return log

    log, contexts = same_on_both(on_loop(main))
    assert contexts == []


def test_switching_between_get_buffer_and_buffer_updated():
    async def main():
        log = []
        later = [BufferedEvents(log), Events(log)]
        for other in later:
            other.buffer = bytearray(10)

        def switch(self, hint):
            transport.set_protocol(later.pop(0))

        protocol = BufferedEvents(log, get_buffer=switch)
        later[0].hooks["get_buffer"] = switch
        transport, peer = await connect(protocol)
        last = later[1]
        peer.send(b"a")
        await until(lambda: len(later) == 1)
        peer.send(b"b")
        await asyncio.wait_for(last.lost, LIMIT)
        peer.close()
        return log

    log, contexts = same_on_both(on_loop(main))
    assert [context[0] for context in contexts] == [
        "Fatal error: protocol.buffer_updated() call failed."
    ]


@pytest.mark.parametrize("bad", [None, 5, object()])
def test_a_protocol_that_is_none(bad):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport.set_protocol(bad)
        assert transport.get_protocol() is bad
        peer.send(b"x")
        await until(lambda: transport.is_closing())
        await asyncio.sleep(0.001)
        peer.close()
        return protocol.log, transport._protocol

    same_on_both(on_loop(main))


# -- bad buffers -------------------------------------------------------------


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(),
        b"read only",
        memoryview(b"read only"),
        "text",
        5,
        [1, 2],
        memoryview(bytearray(20))[::2],
    ],
    ids=lambda value: type(value).__name__,
)
def test_get_buffer_returns_something_bad(buffer):
    async def script(protocol, transport, peer):
        peer.send(b"x")

    log, contexts = scripted(BufferedEvents, script, get_buffer=lambda self, hint: buffer)
    assert len(contexts) == 1
    assert contexts[0][1] == ["exception", "message", "protocol", "transport"]


def released():
    view = memoryview(bytearray(9))
    view.release()
    return view


class Buffer(bytearray):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(9),
        lambda: Buffer(9),
        lambda: memoryview(bytearray(9)),
        lambda: memoryview(bytearray(20))[3:9],
        lambda: memoryview(bytearray(4)).cast("B", (2, 2)),
        lambda: memoryview(bytearray(8)).cast("I"),
        lambda: memoryview(bytearray(9)).toreadonly(),
        lambda: array.array("I", [0, 0]),
        released,
        lambda: memoryview(bytearray()),
    ],
    ids=range(10),
)
def test_buffers_of_every_kind(make):
    sent = b"0123456789ab"

    async def main():
        buffer, filled = make(), []

        def take(self, count):
            filled.append(
                (count, buffer.tobytes() if hasattr(buffer, "tobytes") else bytes(buffer))
            )

        protocol = BufferedEvents(get_buffer=lambda self, hint: buffer, buffer_updated=take)
        protocol.buffer_updated = lambda count: take(protocol, count)
        transport, peer = await connect(protocol)
        with peer:
            peer.send(sent)
            await until(lambda: sum(n for n, _ in filled) == len(sent) or transport.is_closing())
            transport.abort()
            await asyncio.wait_for(protocol.lost, LIMIT)
        return filled, protocol.log

    same_on_both(on_loop(main))


# -- methods that raise ------------------------------------------------------


def failing(self, *args):
    raise LookupError("on purpose")


@pytest.mark.parametrize(
    ("protocol_class", "method"),
    [
        (Events, "connection_made"),
        (Events, "data_received"),
        (Events, "eof_received"),
        (Events, "connection_lost"),
        (BufferedEvents, "get_buffer"),
        (BufferedEvents, "buffer_updated"),
        (BufferedEvents, "eof_received"),
    ],
)
def test_protocol_methods_that_raise(protocol_class, method, kind):
    async def script(protocol, transport, peer):
        peer.send(b"data")
        await asyncio.sleep(0.005)
        peer.close()

    log, contexts = scripted(protocol_class, script, kind, **{method: failing})
    assert len(contexts) == 1 and contexts[0][2] == (LookupError, "on purpose")


@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_made"])
@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_the_loop(method, fatal):
    def scenario(impl):
        loop = impl.new_event_loop()
        try:

            def interrupt(self, *args):
                self.hooks.clear()
                raise fatal("now")

            async def main():
                protocol = Events(log, **{method: interrupt})
                ours, peer = raw_pair()
                peer.send(b"x")
                peer.close()
                # connection_made may end the loop before there is an answer
                asyncio.ensure_future(loop.create_connection(lambda: protocol, sock=ours))
                await protocol.lost

            log = []
            task = loop.create_task(main())
            with pytest.raises(fatal):
                loop.run_until_complete(task)
            loop.run_until_complete(task)
            return log
        finally:
            loop.close()

    log = same_on_both(scenario)
    assert method in [entry if isinstance(entry, str) else entry[0] for entry in log]


# -- pausing -----------------------------------------------------------------


def test_is_reading_and_pausing_in_every_state(kind):
    async def main():
        seen = []

        def look(transport):
            seen.append((transport.is_reading(), transport.is_closing()))

        def made(self):
            look(self.transport)
            self.transport.pause_reading()
            look(self.transport)
            self.transport.pause_reading()  # twice is once

        protocol = Events(connection_made=made)
        transport, peer = await connect(protocol, kind)
        peer.send(b"held")
        await asyncio.sleep(0.002)
        seen.append(protocol.data)
        transport.resume_reading()
        look(transport)
        transport.resume_reading()
        await until(lambda: protocol.data == b"held")
        transport.close()
        look(transport)
        transport.pause_reading()
        transport.resume_reading()
        look(transport)
        await protocol.lost
        look(transport)
        transport.pause_reading()
        transport.resume_reading()
        peer.close()
        return seen, protocol.log

    (seen, log), contexts = same_on_both(on_loop(main))
    assert contexts == [] and b"" in seen


def test_pausing_in_data_received_holds_the_rest_back(Protocol):
    async def main():
        def pause(self, *args):
            self.transport.pause_reading()

        protocol = Protocol(data_received=pause, buffer_updated=pause)
        transport, peer = await connect(protocol)
        for piece in (b"one", b"two", b"three"):
            peer.send(piece)
            await asyncio.sleep(0.002)
        protocol.log.append("resumed")
        transport.resume_reading()
        await asyncio.sleep(0.002)
        peer.close()
        protocol.log.append("resumed")
        transport.resume_reading()
        await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.log

    log, contexts = same_on_both(on_loop(main))
    assert contexts == [] and log.count("resumed") == 2


def test_pausing_and_resuming_at_once_loses_nothing(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        for number in range(300):
            peer.send(bytes([number % 256]))
            transport.pause_reading()
            if number % 3 == 0:
                await asyncio.sleep(0)
            transport.resume_reading()
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: len(protocol.data) == 300)
        assert protocol.data == bytes(number % 256 for number in range(300))
        peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)

    run(main())


def test_a_paused_transport_whose_peer_leaves_does_not_spin(loop, run, kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        transport.pause_reading()
        peer.send(b"last words")
        peer.close()
        turns = 0

        def count():
            nonlocal turns
            turns += 1

        await asyncio.sleep(0.01)
        loop.call_soon(count)
        await asyncio.sleep(0.01)
        assert protocol.log == ["connection_made"] and turns == 1
        transport.resume_reading()
        await asyncio.wait_for(protocol.lost, LIMIT)
        assert protocol.data == b"last words"

    run(main())


# -- the end -----------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, False, True, 0, 1, "", "yes"])
def test_what_eof_received_answers(answer, kind):
    async def main():
        protocol = Events(eof_received=lambda self: answer)
        transport, peer = await connect(protocol, kind)
        peer.send(b"request")
        peer.shutdown(1)
        await until(lambda: "eof_received" in protocol.log)
        await asyncio.sleep(0.002)
        state = transport.is_closing(), transport.is_reading()
        if not transport.is_closing():
            transport.write(b"answer")
            await asyncio.sleep(0.002)
            transport.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        answered = peer.recv(100)
        peer.close()
        return state, answered, protocol.log

    ((closing, reading), answered, log), contexts = same_on_both(on_loop(main))
    assert contexts == [] and (answered == b"answer") == bool(answer) != closing


def test_an_answer_to_eof_that_has_no_truth_value():
    class Torn:
        def __bool__(self):
            raise LookupError("neither")

    class Logs(Events):
        def eof_received(self):
            return Torn()

    # asyncio lets that one out of its handle: nobody closes the transport.
    async def main():
        protocol = Logs()
        transport, peer = await connect(protocol)
        peer.close()
        await asyncio.sleep(0.002)
        transport.abort()
        await protocol.lost
        return protocol.log[-1]

    for implementation in IMPLEMENTATIONS:
        log, contexts = on_loop(main)(implementation)
        assert contexts and contexts[0][2] == (LookupError, "neither")


def test_eof_seen_again_after_resuming():
    async def main():
        protocol = Events(eof_received=lambda self: True)
        transport, peer = await connect(protocol)
        peer.close()
        await until(lambda: "eof_received" in protocol.log)
        transport.pause_reading()
        transport.resume_reading()
        await until(lambda: protocol.log.count("eof_received") == 2)
        transport.close()
        await protocol.lost
        return protocol.log

    same_on_both(on_loop(main))


def test_a_reset_is_connection_lost_with_its_error(Protocol):
    async def main():
        protocol = Protocol()
        transport, peer = await connect(protocol, "tcp")
        transport.write(b"unread")
        await asyncio.sleep(0.001)
        reset(peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.log

    log, contexts = same_on_both(on_loop(main))
    assert contexts == [] and log[-1][1][0] is ConnectionResetError


# -- debug mode --------------------------------------------------------------


def test_what_debug_mode_logs_of_reading():
    def scenario(impl):
        async def main():
            protocol = Events()
            transport, peer = await connect(protocol)
            transport.pause_reading()
            transport.resume_reading()
            peer.close()
            await protocol.lost

        with Logged(logging.DEBUG) as log:
            impl.run(main(), debug=True)
        words = "reading", "received EOF"
        return [
            plain(text)
            for text in log.messages(logging.DEBUG)
            if any(word in text for word in words)
        ]

    messages = same_on_both(scenario)
    assert sum("pauses reading" in text for text in messages) == 1
    assert sum("received EOF" in text for text in messages) == 1


def test_an_error_of_reading_is_logged_in_debug_mode_only():
    def scenario(impl, debug):
        async def main():
            protocol = Events()
            transport, peer = await connect(protocol, "tcp")
            reset(peer)
            await protocol.lost
            return protocol.log

        with Logged(logging.DEBUG) as log:
            events = impl.run(main(), debug=debug)
        return events, [
            (record.levelno, plain(record.getMessage()), record.exc_info[0])
            for record in log.records
            if record.exc_info
        ]

    assert same_on_both(scenario, False)[1] == []
    ((level, message, kind),) = same_on_both(scenario, True)[1]
    assert kind is ConnectionResetError and level == logging.DEBUG


SHRINKING = """
import socket
from resource import getpagesize

SIZES = [200_000, 110_000, 60_000, 31_000, 16_000, 8_500, 4_500, 2_400, 1_300, 700]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * getpagesize()

async def main():
    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            sizes.append(len(data))
            if len(data) < 1000:
                kept.append(data)
            if sum(sizes) == expected:
                whole.set_result(None)

    loop = asyncio.get_running_loop()
    kept = []
    ours, peer = socket.socketpair()
    for sock in ours, peer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    peer.setblocking(False)
    transport, _ = await loop.create_connection(Protocol, sock=ours)
    before = resident()
    for _ in range(300):
        for expected in SIZES:
            sizes, whole = [], loop.create_future()
            assert peer.send(bytes(expected)) == expected
            await whole
    print(len(kept) >= 300, resident() - before < 20_000_000)
    transport.close()
    peer.close()

run(main())
"""


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what is freed")
def test_a_small_message_does_not_keep_the_memory_of_a_large_one(impl):
    assert script_output(impl, SHRINKING) == "True True\n"

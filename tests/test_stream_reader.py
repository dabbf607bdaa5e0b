"""StreamReader: what asyncio's does, whichever way bytes come and are read; and readers that stay asyncio's."""

import array
import asyncio
import contextlib
import fcntl
import gc
import inspect
import math
import socket
import termios
import weakref
from unittest import mock

import pytest
from hotloop import _streams
from hypothesis import example, given
from hypothesis import strategies as st
from serving import address, finish, serving
from streams import raw_pair
from support import HOTLOOP, normalise, run_script, same_on_both, until

# -- a reader by itself, step by step ------------------------------------------------------------


class Transport:
    """Keeps a log of what the reader asks of it."""

    def __init__(self, log, can_pause=True):
        self.log, self.can_pause = log, can_pause

    def __repr__(self):
        return "<transport>"

    def pause_reading(self):
        if not self.can_pause:
            raise NotImplementedError
        self.log.append("pause")

    def resume_reading(self):
        self.log.append("resume")


def outcome_of(function, *args):
    try:
        return function(*args)
    except StopIteration as end:
        return "returned", end.value
    except (Exception, asyncio.CancelledError) as exc:
        return type(exc), str(exc), vars(exc)


def forget(future):
    """Do not have an exception reported that nobody is told of."""
    if future.done() and not future.cancelled():
        future.exception()


class Machine:
    """One reader behind its protocol, and coroutines that read from it, each resumed by hand."""

    def __init__(self, loop, limit, can_pause, ours):
        self.log, self.reads = [], []
        self.reader = asyncio.StreamReader(limit, loop)
        self.protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        if ours:
            loop._adopt_reader(self.protocol)
            assert type(self.reader) is _streams.StreamReader
        self.reader.set_transport(Transport(self.log, can_pause))

    def step(self, operation, *args):
        self.log.append((operation, getattr(self, operation)(*args)))
        self.log.append((self.reader.at_eof(), self.reader._paused, self.reader._waiter is None))

    def look(self):
        return bytes(self.reader._buffer), len(self.reader._buffer)

    def show(self):
        return normalise(repr(self.reader))

    def keep(self):
        self.kept = self.reader._buffer

    def change(self, data):
        self.reader._buffer += data

    def receive(self, data):
        return outcome_of(self.protocol.data_received, data)

    def feed(self, data):
        return outcome_of(self.reader.feed_data, data)

    def end(self):
        return self.protocol.eof_received()

    def fail(self):
        self.reader.set_exception(OSError("broken"))
        return repr(self.reader.exception())

    def read(self, method, *args):
        coro = getattr(self.reader, method)(*args)
        self.go_on(coro, coro.send, None)

    def go_on(self, coro, resume, value):
        outcome = outcome_of(resume, value)
        if isinstance(outcome, asyncio.Future):
            self.reads.append((coro, outcome))
            outcome = "waits"
        self.log.append(outcome)

    def resume(self, which):
        """Go on with one whose future is done."""
        ready = [read for read in self.reads if read[1].done()]
        if ready:
            read = ready[which % len(ready)]
            self.reads.remove(read)
            self.go_on(read[0], read[0].send, None)

    def cancel(self, which, future_too):
        if self.reads:
            coro, future = self.reads.pop(which % len(self.reads))
            if future_too:
                future.cancel()
            forget(future)
            self.go_on(coro, coro.throw, asyncio.CancelledError())

    def finish(self):
        for coro, future in self.reads:
            forget(future)
            coro.close()


data = st.binary(max_size=12).map(lambda text: text.translate(b"\nab\r" * 64))
separators = st.sampled_from(
    [b"\n", b"a", b"ab", b"\r\n", b"aba", b"", bytearray(b"a"), (b"a", b"\nb")]
)
steps = st.one_of(
    st.tuples(st.just("receive"), data),
    st.tuples(st.just("receive"), data),
    st.tuples(st.just("feed"), st.one_of(data, data.map(bytearray), data.map(memoryview))),
    st.tuples(st.just("read"), st.just("read"), st.integers(-1, 9)),
    st.tuples(st.just("read"), st.just("read")),
    st.tuples(st.just("read"), st.just("readexactly"), st.integers(-1, 30)),
    st.tuples(st.just("read"), st.just("readline")),
    st.tuples(st.just("read"), st.just("__anext__")),
    st.tuples(st.just("read"), st.just("readuntil"), separators),
    st.tuples(st.just("resume"), st.integers(0, 3)),
    st.tuples(st.just("resume"), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 3), st.booleans()),
    st.tuples(st.sampled_from(["look", "show", "keep", "end", "fail"])),
    st.tuples(st.just("change"), data),
)


@given(st.lists(steps, max_size=40), st.integers(1, 20), st.booleans())
@example(
    [("receive", b"ab"), ("read", "read", 1), ("receive", b"c"), ("read", "read", 9)], 5, True
)
@example([("receive", b"bbba"), ("read", "readuntil", b"a")], 3, True)
@example(
    [("receive", b"bbb\n"), ("read", "readline"), ("receive", b"bbbb\n"), ("read", "readline")],
    3,
    True,
)
@example(
    [
        ("read", "readuntil", b"ab"),
        ("receive", b"xa"),
        ("resume", 0),
        ("receive", b"b"),
        ("resume", 0),
    ],
    9,
    True,
)
@example([("read", "read", 5), ("receive", b"ab"), ("read", "read", 5), ("resume", 0)], 9, True)
@example([("read", "readexactly", 6), ("receive", b"abc"), ("cancel", 0, False)], 5, True)
@example([("receive", b"a" * 12), ("read", "readuntil", b"\n"), ("read", "readline")], 1, True)
def test_it_does_what_asyncios_does(program, limit, can_pause):
    """Values, exceptions, and when the transport is paused and resumed."""
    loop = HOTLOOP.new_event_loop()
    try:
        machines = [Machine(loop, limit, can_pause, ours) for ours in (False, True)]
        for step in program:
            for machine in machines:
                machine.step(*step)
            assert machines[1].log == machines[0].log
        for machine in machines:
            machine.finish()
    finally:
        loop.close()


# -- readers of connections -----------------------------------------------------------------------


def kept_in_core(reader):
    return isinstance(reader, _streams.StreamReader)


@contextlib.asynccontextmanager
async def connection(kind, limit=2**16):
    """The streams of a new connection, and the socket at its other end."""
    left, right = socket.socketpair()
    if kind == "pipe":
        reader = asyncio.StreamReader(limit)
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), left
        )
    else:
        reader, writer = await asyncio.open_connection(sock=left, limit=limit)
    with right:
        yield reader, writer, right
        writer.close()
        await asyncio.sleep(0)


@pytest.fixture(params=["socket", "pipe"])
def kind(request):
    return request.param


def test_readers_are_kept_in_the_core(kind):
    async def main():
        async with connection(kind) as (reader, _, peer):
            assert kept_in_core(reader)
            assert isinstance(reader, asyncio.StreamReader)
            peer.send(b"a line\nmore")
            assert await reader.readline() == b"a line\n"
            assert repr(reader).startswith("<StreamReader 4 bytes transport=<")

    HOTLOOP.run(main())


def test_sizes_and_data_of_odd_types(impl, kind):
    """feed_data() extends a bytearray, and a size is what compares with integers and slices."""

    async def main():
        async with connection(kind) as (reader, _, _):
            reader.feed_data([97, 98])
            reader.feed_data(memoryview(b"cde"))
            with pytest.raises(TypeError):
                reader.feed_data("text")
            assert await reader.read(True) == b"a"
            assert await reader.readexactly(0) == await reader.read(0) == b""
            assert await reader.read(1 << 100) == b"bcde"
            for method in (reader.read, reader.readexactly):
                with pytest.raises(TypeError, match="'<' not supported"):
                    await method("1")
            reader.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readexactly(1 << 100)
            assert (raised.value.partial, raised.value.expected) == (b"", 1 << 100)
            with pytest.raises(AssertionError, match="feed_data after feed_eof"):
                reader.feed_data(b"more")

    impl.run(main())


def test_methods_are_coroutine_functions(impl, kind):
    async def main():
        async with connection(kind) as (reader, _, _):
            methods = [reader.read, reader.readline, reader.readexactly, reader.readuntil]
            assert [inspect.iscoroutinefunction(method) for method in methods] == [True] * 4
            with pytest.warns(
                RuntimeWarning, match="coroutine 'StreamReader.read' was never awaited"
            ):
                reader.read(1)
                gc.collect()
            task = asyncio.ensure_future(reader.readexactly(5))
            await asyncio.sleep(0)
            assert task.get_stack()[-1].f_code.co_name == "readexactly"
            task.cancel()
            assert await asyncio.gather(task, return_exceptions=True) != []

    impl.run(main())


def test_a_cancelled_read_leaves_what_comes_to_the_next(impl, kind):
    async def main():
        async with connection(kind) as (reader, _, peer):
            for method, argument in (("read", 5), ("readexactly", 5), ("readuntil", b"!")):
                waiting = asyncio.ensure_future(getattr(reader, method)(argument))
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match=r"readuntil\(\) called while another"):
                    await reader.readline()
                waiting.cancel()
                await asyncio.wait([waiting])
                peer.send(b"four!")
                assert await getattr(reader, method)(argument) == b"four!"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.001)
            peer.send(b"five\n")
            assert await reader.readline() == b"five\n"

    impl.run(main())


def test_readline_takes_an_exception_that_is_set_for_its_own(impl, kind):
    async def main():
        async with connection(kind) as (reader, _, _):
            reader.set_exception(asyncio.IncompleteReadError(b"part", None))
            assert [await reader.readline(), await reader.readline()] == [b"part"] * 2
            reader.set_exception(asyncio.LimitOverrunError("too long", 0))
            with pytest.raises(ValueError, match="^too long$"):
                await reader.readline()

    impl.run(main())


def test_reading_stops_at_twice_the_limit(impl, kind):
    async def main():
        async with connection(kind, limit=1000) as (reader, _, peer):
            for _ in range(21):
                peer.send(b"x" * 100)
                await asyncio.sleep(0.001)
            await until(lambda: reader._paused)
            assert len(reader._buffer) == 2100
            peer.send(b"y" * 100)
            assert await reader.readexactly(1099) == b"x" * 1099
            assert reader._paused
            assert await reader.read(1) == b"x"
            assert not reader._paused
            assert await reader.readexactly(1100) == b"x" * 1000 + b"y" * 100

    impl.run(main())


def test_attributes_are_those_of_asyncios_reader(impl, kind):
    """Programs look at them, and set some."""

    async def main():
        async with connection(kind) as (reader, _, peer):
            assert (reader._limit, reader._eof, reader._waiter) == (2**16, False, None)
            assert reader._loop is asyncio.get_running_loop()
            assert reader._exception is None and reader._source_traceback is None
            assert isinstance(reader._transport, asyncio.BaseTransport)
            reader._limit = 3
            peer.send(b"a line\n")
            with pytest.raises(ValueError, match="Separator is found, but chunk is longer"):
                await reader.readline()
            reader._buffer = bytearray(b"put here\n")
            buffer = reader._buffer
            buffer += b"and there"
            assert await reader.read(100) == b"put here\nand there"
            assert reader._buffer is buffer and not buffer
            reader._buffer.extend(b"12")
            with memoryview(buffer), pytest.raises(BufferError):
                await reader.read(1)
            assert await reader.read(5) == b"12"
            reader._limit = math.inf
            peer.send(b"a longer line\n")
            assert await reader.readline() == b"a longer line\n"
            reader._limit = -(2**63)
            peer.send(b"too much")
            assert await reader.read(100) == b"too much" and reader._paused
            reader._limit, reader._eof = 3, 1
            assert reader.at_eof() and await reader.read() == b""

    impl.run(main())


def test_whoever_listens_in_hears_all(impl, kind):
    """Replaced on the reader or its protocol, methods are called."""

    async def main():
        async with connection(kind) as (reader, writer, peer):
            heard = []
            protocol = reader._transport.get_protocol()
            feed, receive = reader.feed_data, protocol.data_received
            reader.feed_data = lambda data: (heard.append(("fed", data)), feed(data))
            peer.send(b"one")
            assert await reader.read(9) == b"one"
            protocol.data_received = lambda data: (heard.append(("received", data)), receive(data))
            peer.send(b"two")
            assert await reader.read(9) == b"two"
            assert heard == [("fed", b"one"), ("received", b"two"), ("fed", b"two")]

    impl.run(main())


def test_what_comes_for_a_reader_that_is_gone_is_dropped(impl):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with right:
            transport, protocol = await loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sock=left
            )
            gc.collect()
            right.send(b"for nobody")
            await until(lambda: socket_is_read(right))
            assert protocol._stream_reader is None
            transport.close()

    impl.run(main())


def socket_is_read(peer):
    """Has the other end of a pair of sockets read all that was sent?"""
    return array.array("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0" * 4))[0] == 0


@pytest.mark.parametrize("attributes", [{}, {"_stream_reader_wr": 1}, {"_stream_reader_wr": None}])
def test_a_protocol_that_was_not_initialised_breaks_itself_only(impl, logged, attributes):
    async def main():
        left, right = socket.socketpair()
        protocol = asyncio.StreamReaderProtocol.__new__(asyncio.StreamReaderProtocol)
        vars(protocol).update(attributes)
        with right:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol, sock=left
            )
            transport.close()
            await asyncio.sleep(0.001)

    impl.run(main())
    assert any("connection_made" in message for message in logged.messages())


def test_a_connection_leaves_nothing_behind(kind):
    async def main():
        async with connection(kind) as (reader, writer, peer):
            peer.send(b"not read")
            references = [weakref.ref(reader), weakref.ref(writer)]
            await until(lambda: reader._buffer)
        return references

    references = HOTLOOP.run(main())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_lines_over_tls(run, server_tls, client_tls):
    """Through asyncio's TLS protocol, which calls ours."""

    async def serve(reader, writer):
        async for line in reader:
            writer.write(line * 2)
        await finish(writer)

    async def main():
        async with serving(asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)) as server:
            reader, writer = await asyncio.open_connection(
                *address(server), ssl=client_tls, server_hostname="localhost"
            )
            assert kept_in_core(reader) == isinstance(
                asyncio.get_running_loop(), HOTLOOP.EventLoop
            )
            lines = [b"%d\n" % number for number in range(1000)]
            writer.writelines(lines)
            assert [await reader.readline() for _ in range(2000)] == [
                line for line in lines for _ in range(2)
            ]
            writer.close()
            assert await reader.read() == b""

    run(main())


# -- readers that stay asyncio's ------------------------------------------------------------------


class Subclass(asyncio.StreamReader):
    pass


class SubclassOfProtocol(asyncio.StreamReaderProtocol):
    pass


def with_data(reader):
    reader.feed_data(b"x")


def with_attribute(reader):
    reader.more = 1


def with_own_method(reader):
    protocol = asyncio.StreamReaderProtocol(reader)
    protocol.data_received = reader.feed_data
    return protocol


@pytest.mark.parametrize(
    "make, protocol, change",
    [
        (asyncio.StreamReader, with_own_method, None),
        (Subclass, asyncio.StreamReaderProtocol, None),
        (asyncio.StreamReader, SubclassOfProtocol, None),
        (asyncio.StreamReader, asyncio.StreamReaderProtocol, asyncio.StreamReader.feed_eof),
        (asyncio.StreamReader, asyncio.StreamReaderProtocol, with_data),
        (asyncio.StreamReader, asyncio.StreamReaderProtocol, with_attribute),
        (lambda: asyncio.StreamReader(1 << 70), asyncio.StreamReaderProtocol, None),
        (lambda: asyncio.StreamReader(0.5), asyncio.StreamReaderProtocol, None),
    ],
)
def test_a_reader_with_anything_special_is_left_alone(make, protocol, change):
    async def main():
        left, right = socket.socketpair()
        with right:
            reader = make()
            before = type(reader)
            if change is not None:
                change(reader)
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol(reader), sock=left
            )
            assert type(reader) is before
            transport.close()

    HOTLOOP.run(main())


def test_in_debug_mode_readers_are_left_alone():
    async def main():
        async with connection("socket") as (reader, _, _):
            assert type(reader) is asyncio.StreamReader
            assert reader._source_traceback

    HOTLOOP.run(main(), debug=True)


@pytest.mark.parametrize("method", ["read", "readline", "readexactly", "readuntil", "feed_data"])
def test_a_method_replaced_for_all_readers_is_called(impl, method):
    calls = []

    async def main():
        original = getattr(asyncio.StreamReader, method)

        def replacement(self, *args):
            calls.append(method)
            return original(self, *args)

        with mock.patch.object(asyncio.StreamReader, method, replacement):
            async with connection("socket") as (reader, _, peer):
                peer.send(b"x\n" * 4)
                await reader.readexactly(1)
                await reader.readuntil()
                await reader.readline()
                await reader.read(3)

    impl.run(main())
    assert calls != []


# -- what else can be seen of a reader -----------------------------------------


def test_docstrings_are_asyncios():
    async def main():
        ours, peer = raw_pair()
        reader, writer = await asyncio.open_connection(sock=ours)
        docs = {name: getattr(reader, name).__doc__ for name in dir(reader) if name[0] != "_"}
        peer.close()
        await finish(writer)
        return docs

    docs = same_on_both(lambda impl: impl.run(main()))
    assert "Read up to" in docs["read"]


@pytest.mark.parametrize("method", ["read", "readexactly"])
@pytest.mark.parametrize("number", [2.0, 0.0, -1.0, "2", None, True], ids=repr)
def test_numbers_that_are_none(method, number):
    async def main():
        ours, peer = raw_pair()
        reader, writer = await asyncio.open_connection(sock=ours)
        peer.sendall(b"abc")
        peer.shutdown(socket.SHUT_WR)
        results = []
        for _ in range(2):
            try:
                results.append(await getattr(reader, method)(number))
            except (TypeError, ValueError, asyncio.IncompleteReadError) as exc:
                results.append((type(exc), str(exc)))
        peer.close()
        await finish(writer)
        return results

    same_on_both(lambda impl: impl.run(main()))


FED_TWICE = """
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    reader.feed_eof()
    writer.write(b"x")
    try:
        print(await reader.read(), writer.is_closing())
        await asyncio.sleep(0.01)
        print(await reader.read(), writer.is_closing())
    except AssertionError as exc:
        print(repr(exc))
    writer.close()
    server.close()

async def serve(reader, writer):
    writer.write(await reader.read(1))
    await writer.drain()
    writer.close()

run(main())
"""


@pytest.mark.parametrize("flags", [[], ["-O"]])
def test_feeding_after_the_end(flags):
    """asyncio's assertions are not there with -O."""

    def scenario(impl):
        result = run_script(impl, FED_TWICE, flags=flags)
        return result.returncode, result.stdout, "feed_data after feed_eof" in result.stderr

    assert same_on_both(scenario)[2] == (not flags)

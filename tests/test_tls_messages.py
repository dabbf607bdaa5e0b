"""What src/tls*.c does for each message in place of asyncio's protocol."""

import array
import asyncio
import contextlib
import ssl
import sys
from asyncio import sslproto

import pytest
from support import ASYNCIO, HOTLOOP, Logged

RECORD = 16 * 1024


class Peer(asyncio.Protocol):
    """Keeps what it is told; answers all that came so far after each message if it is to."""

    def __init__(self, on_data=None):
        self.events, self.received, self.on_data = [], b"", on_data
        self.made = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.made.set_result(transport)

    def data_received(self, data):
        assert type(data) is bytes and data
        self.received += data
        if self.on_data is not None:
            self.on_data(self, data)

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append(exc if exc is None else type(exc))
        self.lost.set_result(exc)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def connected(server_tls, client_tls, on_data=None):
    """A client's protocol and the server's, connected; on_data(protocol, data) is the server's."""
    loop = asyncio.get_running_loop()
    accepted = []

    def accept():
        accepted.append(Peer(on_data))
        return accepted[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_tls)
    _, client = await loop.create_connection(
        Peer, *server.sockets[0].getsockname()[:2], ssl=client_tls, server_hostname="localhost"
    )
    await accepted[0].made
    try:
        yield client, accepted[0]
    finally:
        client.transport.close()
        server.close()
        await asyncio.wait([client.lost, accepted[0].lost])


def echo(protocol, data):
    protocol.transport.write(data)


@pytest.mark.parametrize(
    "make",
    [bytes, bytearray, memoryview, lambda data: memoryview(array.array("I", data)).cast("B")],
    ids=["bytes", "bytearray", "memoryview", "array"],
)
@pytest.mark.parametrize("size", [4, RECORD, RECORD + 4, 10 * RECORD])
def test_what_is_written_arrives(run, server_tls, client_tls, make, size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.write(data=make(data))
            client.transport.write(make(data))
            await until(lambda: len(client.received) == 2 * size)
            assert client.received == 2 * data

    run(main())


@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize(
    "pieces",
    [
        [b"a", bytearray(b"bc"), memoryview(b"def")],
        [b"a" * 2 * RECORD, b"b", b"c" * RECORD],
        [],
    ],
    ids=["small", "large", "none"],
)
def test_lines_arrive(run, server_tls, client_tls, kind, pieces):
    data = b"".join(pieces)

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.writelines(list_of_data=kind(pieces))
            client.transport.write(b".")
            await until(lambda: len(client.received) == len(data) + 1)
            assert client.received == data + b"."

    run(main())


def test_a_bytearray_may_change_once_it_is_written(run, server_tls, client_tls):
    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            data = bytearray(b"a" * 3 * RECORD)
            client.transport.write(data)
            data.clear()
            await until(lambda: len(client.received) == 3 * RECORD)
            assert set(client.received) == {ord("a")}

    run(main())


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=repr)
def test_what_is_no_bytes_is_refused(run, server_tls, client_tls, data):
    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            with pytest.raises(TypeError) as refusal:
                client.transport.write(data)
            assert str(refusal.value) == (
                f"data: expecting a bytes-like instance, got {type(data).__name__}"
            )
            client.transport.write(b"")
            client.transport.write(b"still there")
            await until(lambda: client.received == b"still there")

    run(main())


def test_a_limit_of_zero_pauses_and_resumes_in_turns(run, server_tls, client_tls):
    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.set_write_buffer_limits(0)
            client.transport.write(b"x")
            await until(lambda: client.received == b"x")
            client.transport.set_write_buffer_limits()
            client.transport.write(b"x")
            await until(lambda: client.received == b"xx")
            return client.events[:]

    assert run(main()) == ["pause", "resume"] * 2


def test_a_peer_that_does_not_read_pauses_the_writer(run, server_tls, client_tls):
    async def main():
        async with connected(server_tls, client_tls) as (client, server):
            server.transport.pause_reading()
            written = 0
            while client.events != ["pause"]:
                client.transport.write(b"x" * 100_000)
                written += 100_000
                await asyncio.sleep(0)
            assert client.transport.get_write_buffer_size() > 0
            server.transport.resume_reading()
            await until(lambda: len(server.received) == written)
            await until(lambda: client.events == ["pause", "resume"])

    run(main())


def test_reading_paused_in_data_received_keeps_the_rest(run, server_tls, client_tls):
    def pause(protocol, data):
        protocol.transport.pause_reading()

    async def main():
        async with connected(server_tls, client_tls, pause) as (client, server):
            for _ in range(3):
                client.transport.write(b"x" * RECORD)
                seen = len(server.received)
                await until(lambda: len(server.received) > seen)
                assert not server.transport.is_reading()
                client.transport.write(b"y")
                await asyncio.sleep(0.01)
                before = len(server.received)
                server.transport.resume_reading()
                await until(lambda: len(server.received) > before)
                server.transport.resume_reading()

    run(main())


def test_an_exception_in_data_received_ends_the_connection(run, server_tls, client_tls):
    def fail(protocol, data):
        raise ZeroDivisionError("in data_received")

    contexts = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: contexts.append(told))
        async with connected(server_tls, client_tls, fail) as (client, server):
            client.transport.write(b"x")
            assert type(await server.lost) is ZeroDivisionError

    run(main())
    (context,) = contexts
    assert context["message"] == "Fatal error on SSL protocol"
    assert str(context["exception"]) == "in data_received"
    assert isinstance(context["protocol"], sslproto.SSLProtocol)
    assert context.keys() == {"message", "exception", "transport", "protocol"}


def test_an_oserror_is_logged_with_its_traceback(new_loop, server_tls, client_tls):
    """In debug mode; nobody else hears of it."""

    def fail(protocol, data):
        raise OSError("in data_received")

    async def main():
        async with connected(server_tls, client_tls, fail) as (client, server):
            client.transport.write(b"x")
            assert type(await server.lost) is OSError

    loop = new_loop()
    loop.set_debug(True)
    with Logged() as logged:
        loop.run_until_complete(main())
    told = [r for r in logged.records if "Fatal error on SSL protocol" in r.getMessage()]
    assert [str(record.exc_info[1]) for record in told] == ["in data_received"]


def test_a_damaged_record_ends_the_connection(run, server_tls, client_tls):
    async def main():
        async with connected(server_tls, client_tls, echo) as (client, server):
            client.transport._ssl_protocol._transport.write(b"no TLS at all" * 10)
            assert isinstance(await server.lost, ssl.SSLError)

    run(main())


def test_abort_in_data_received(run, server_tls, client_tls):
    def abort(protocol, data):
        protocol.transport.write(b"lost")
        protocol.transport.abort()
        protocol.transport.write(b"dropped")

    async def main():
        async with connected(server_tls, client_tls, abort) as (client, server):
            client.transport.write(b"x")
            assert await server.lost is None
            return server.events

    assert run(main()) == [None]


def test_close_in_data_received_sends_what_was_written_before(run, server_tls, client_tls):
    def close(protocol, data):
        protocol.transport.write(b"the last " + data)
        protocol.transport.close()
        protocol.transport.write(b"dropped")

    async def main():
        async with connected(server_tls, client_tls, close) as (client, server):
            client.transport.write(b"word")
            await client.lost
            return client.received, client.events

    assert run(main()) == (b"the last word", ["eof", None])


class BufferedPeer(Peer, asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(100_000))

    def get_buffer(self, sizehint):
        assert sizehint >= 0
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data_received(bytes(self.buffer[:nbytes]))


@pytest.mark.parametrize("room", [1, 10, RECORD, 100_000])
def test_a_buffered_protocol_from_the_middle_on(run, server_tls, client_tls, room):
    data = bytes(range(256)) * 300

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.write(b"first")
            await until(lambda: client.received == b"first")
            second = BufferedPeer()
            second.buffer = memoryview(bytearray(room))
            client.transport.set_protocol(second)
            sent = data if room > 10 else data[:1000]
            client.transport.write(sent)
            await until(lambda: len(second.received) == len(sent))
            assert second.received == sent
            client.transport.set_protocol(client)

    run(main())


def test_many_records_come_into_a_bytearray(server_tls, client_tls):
    """asyncio slices it, and loses all but the first record that came at once."""

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, server):
            second = BufferedPeer()
            second.buffer = bytearray(100_000)
            client.transport.set_protocol(second)
            server.transport.write(b"".join(bytes([i]) * RECORD for i in range(1, 6)))
            await until(lambda: len(second.received) == 5 * RECORD)
            assert [second.received.count(i) for i in range(6)] == [0] + 5 * [RECORD]
            client.transport.set_protocol(client)

    HOTLOOP.run(main())


@pytest.mark.parametrize("kind", [Peer, BufferedPeer])
def test_the_end_comes_after_the_data(run, server_tls, client_tls, kind):
    def close(protocol, data):
        protocol.transport.write(b"x" * 3 * RECORD)
        protocol.transport.close()

    async def main():
        async with connected(server_tls, client_tls, close) as (client, _):
            second = kind()
            client.transport.set_protocol(second)
            client.transport.write(b"go")
            await second.lost
            client.lost.set_result(None)
            return len(second.received), second.events

    assert run(main()) == (3 * RECORD, ["eof", None])


@pytest.mark.parametrize("wrong", [None, b"", bytearray(), 5, memoryview(b"readonly")], ids=repr)
def test_a_buffer_that_cannot_be_read_into(run, server_tls, client_tls, wrong):
    async def main():
        contexts = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: contexts.append(told))
        async with connected(server_tls, client_tls, echo) as (client, server):
            second = BufferedPeer()
            second.buffer = wrong
            client.transport.set_protocol(second)
            client.transport.write(b"x")
            await second.lost
            client.lost.set_result(None)
            return second.events, [(c["message"], repr(c["exception"])) for c in contexts]

    assert run(main()) == ASYNCIO.run(main())


@pytest.mark.parametrize(
    "name", ["_do_read", "_process_outgoing", "_write_appdata", "buffer_updated"]
)
def test_a_method_replaced_in_asyncios_class_is_called(
    run, server_tls, client_tls, monkeypatch, name
):
    method, calls = getattr(sslproto.SSLProtocol, name), []

    def counting(self, *args):
        calls.append(name)
        return method(self, *args)

    monkeypatch.setattr(sslproto.SSLProtocol, name, counting)

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.write(b"x")
            await until(lambda: client.received == b"x")

    run(main())
    assert calls


def test_an_ssl_object_of_the_programs(run, server_tls, client_tls):
    """Its read() and write() are called, and it need not have a pending()."""
    calls = set()

    class Mine(ssl.SSLObject):
        pending = None

        def read(self, *args):
            calls.add("read")
            return super().read(*args)

        def write(self, data):
            calls.add("write")
            return super().write(data)

    client_tls.sslobject_class = Mine

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.write(b"x" * 5 * RECORD)
            await until(lambda: len(client.received) == 5 * RECORD)

    run(main())
    assert calls == {"read", "write"}


def test_attributes_taken_away(server_tls, client_tls):
    """No crash, whatever is missing."""

    async def take_away(name):
        async with connected(server_tls, client_tls, echo) as (client, _):
            protocol = client.transport._ssl_protocol
            value = getattr(protocol, name)
            told = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
            delattr(protocol, name)
            with contextlib.suppress(AttributeError):
                client.transport.write(b"x")
            with contextlib.suppress(AttributeError):
                protocol.buffer_updated(1)
            with contextlib.suppress(AttributeError):
                protocol.get_buffer(-1)
            setattr(protocol, name, value)
            client.transport.abort()

    names = ["_engine", "_transport", "_incoming", "_outgoing", "_write_backlog", "_app_protocol"]
    for name in [*names, "_state", "_ssl_buffer_view", "_outgoing_high_water", "_loop"]:
        HOTLOOP.run(take_away(name))


def test_a_message_needs_no_python_of_asyncios(server_tls, client_tls):
    files = set()

    def profile(frame, event, arg):
        files.add(frame.f_code.co_filename)

    async def main():
        async with connected(server_tls, client_tls, echo) as (client, _):
            client.transport.write(b"x")
            await until(lambda: client.received == b"x")
            sys.setprofile(profile)
            client.transport.write(b"y" * 1000)
            client.transport.writelines([b"z", b"z"])
            await until(lambda: len(client.received) == 1003)
            sys.setprofile(None)

    HOTLOOP.run(main())
    assert __file__ in files and sslproto.__file__ not in files

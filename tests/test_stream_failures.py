"""What fails around stream transports: protocols, close(), sendfile(). It is told, and all else is done nevertheless."""

import asyncio
import contextvars
import os
import socket
import sys

import pytest
from streams import BIG, LIMIT, Events, connect, on_loop, raw_pair, reset
from support import HOTLOOP, outcome, same_on_both, until


# asyncio leaves its transport half closed, or half made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["at first", "set_protocol"])
def test_a_protocol_of_which_nobody_can_tell_what_it_is(error, when):
    class Strange(asyncio.Protocol):
        @property
        def __class__(self):
            raise error("its class")

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        if when == "at first":
            ours, theirs = raw_pair()
            loop = asyncio.get_running_loop()
            try:
                await loop.create_connection(Strange, sock=ours)
            except BaseException as exc:
                result = type(exc), str(exc)
            ours.close()
            theirs.close()
        else:
            result = outcome(transport.set_protocol, Strange())
        same = transport.get_protocol() is protocol
        transport.close()
        peer.close()
        await protocol.lost
        return result, same

    (result, same), _ = same_on_both(on_loop(main))
    assert error in result and same


def test_the_truth_of_what_eof_received_returns():
    class Strange:
        def __bool__(self):
            raise ValueError("bool")

    def eof(protocol):
        protocol.transport.pause_reading()
        return Strange()

    async def main():
        protocol = Events(eof_received=eof)
        transport, peer = await connect(protocol)
        peer.close()
        await until(lambda: "eof_received" in protocol.log)
        await asyncio.sleep(0)
        closing = transport.is_closing()
        transport.close()
        await protocol.lost
        return closing, protocol.log

    def scenario(impl):
        # asyncio names no callback: the Handle was cancelled by pause_reading().
        result, contexts = on_loop(main)(impl)
        return result, [exception for *_, exception in contexts]

    (closing, _), contexts = same_on_both(scenario)
    assert not closing and len(contexts) == 1


@pytest.mark.parametrize("where", ["reading", "accepting"])
def test_the_context_in_which_a_failure_is_reported(where):
    variable = contextvars.ContextVar("variable", default="nobody's")

    class Strange:
        def __bool__(self):
            raise ValueError("bool")

    async def main():
        loop, seen = asyncio.get_running_loop(), []

        def handler(loop, context):
            method = context["message"].partition("(")[0].rpartition(".")[2]
            seen.append((method, type(context["exception"]), variable.get()))
            closing.close()

        loop.set_exception_handler(handler)
        variable.set("its own")
        if where == "reading":
            closing, peer = await connect(Events(eof_received=lambda protocol: Strange()))
            peer.close()
        else:
            closing = await loop.create_server(Events, "127.0.0.1", 0)
            with closing.sockets[0].dup() as same:
                same.shutdown(socket.SHUT_RDWR)
        variable.set("main's")
        await until(lambda: seen)
        return seen

    (seen,), _ = same_on_both(on_loop(main))
    assert seen[2] == ("its own" if sys.version_info >= (3, 12) else "nobody's")


# asyncio leaves its transport half closed, or half made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("served", [True, False])
def test_a_socket_that_cannot_be_closed(served, kind):
    """What close() raises is told, and the rest is done nevertheless."""

    def close_behind(protocol, exc):
        os.close(protocol.transport.get_extra_info("socket").fileno())

    async def main():
        loop = asyncio.get_running_loop()
        protocol = Events(connection_lost=close_behind)
        if not served:
            _, peer = await connect(protocol, kind)
        else:
            server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
            peer = socket.create_connection(server.sockets[0].getsockname())
            await until(lambda: protocol.transport)
        peer.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        if served:
            server.close()
        return protocol.log

    _, contexts = same_on_both(on_loop(main))
    assert [exception[0] for *_, exception in contexts] == [OSError]


def test_sendfile_ends_though_connection_lost_fails(tmp_path):
    """In older asyncios it never does."""

    def fail(protocol, exc):
        raise ValueError("connection_lost")

    async def main():
        loop = asyncio.get_running_loop()
        protocol = Events(connection_lost=fail)
        transport, peer = await connect(protocol)
        transport.write(BIG)
        path = tmp_path / "file"
        path.write_bytes(b"data")
        with path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0.001)
            transport.abort()
            done, _ = await asyncio.wait([sending], timeout=LIMIT)
            assert done and type(sending.exception()) is ConnectionError
        peer.close()

    _, contexts = on_loop(main)(HOTLOOP)
    assert [exception for *_, exception in contexts] == [(ValueError, "connection_lost")]


def test_sendfile_after_a_write_that_fails(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        protocol = Events()
        transport, peer = await connect(protocol, "tcp")
        transport.pause_reading()
        reset(peer)
        await asyncio.sleep(0.001)
        transport.write(b"head")
        path = tmp_path / "file"
        path.write_bytes(b"data")
        with path.open("rb") as file:
            try:
                await loop.sendfile(transport, file)
            except Exception as exc:
                result = type(exc), str(exc)
        await protocol.lost
        return result, protocol.log

    (result, _), _ = same_on_both(on_loop(main))
    assert result == (RuntimeError, "Transport is closing")


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="no __buffer__() and no writelines() of pieces"
)
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_data_that_end_the_connection_while_they_are_taken(method):
    """asyncio, which has no socket to send with then, says so by an AttributeError."""

    class Strange(bytearray):
        def __buffer__(self, flags):
            transport._call_connection_lost(None)
            return memoryview(b"more")

    def lines():
        yield b"more"
        transport._call_connection_lost(None)

    async def main():
        nonlocal transport
        transport, peer = await connect(Events())
        for _ in range(3):
            transport.write(b"queued")
        getattr(transport, method)(Strange(b"abc") if method == "write" else lines())
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        peer.close()

    transport = None
    HOTLOOP.run(main())

"""What a callback raised is being handled while the exception handler is told: sys.exc_info(), and the context of what that raises."""

import asyncio
import os
import socket
import sys

import pytest
from support import same_on_both


async def call_soon(loop, fail):
    loop.call_soon(fail)


async def call_later(loop, fail):
    loop.call_later(0.0001, fail)


async def call_soon_threadsafe(loop, fail):
    await loop.run_in_executor(None, loop.call_soon_threadsafe, fail)


async def done_callback(loop, fail):
    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(None)


async def reader(loop, fail):
    left, right = socket.socketpair()

    def ready():
        loop.remove_reader(left)
        left.close()
        right.close()
        fail()

    left.setblocking(False)
    loop.add_reader(left, ready)
    right.send(b"x")


def failing(base, method, fail):
    """A protocol of which that method fails, once."""

    def method_fails(self, *args):
        setattr(self, method, lambda *args: None)
        fail()

    return type("Failing", (base,), {method: method_fails})()


def stream(base, method):
    async def begin(loop, fail):
        left, right = socket.socketpair()
        protocol = failing(base, method, fail)
        transport, _ = await loop.create_connection(lambda: protocol, sock=left)
        if method == "pause_writing":
            transport.write(bytes(1 << 20))
        await asyncio.sleep(0.001)
        right.send(b"data")
        await asyncio.sleep(0.001)
        right.close()
        await asyncio.sleep(0.001)
        transport.abort()

    begin.__name__ = f"{base.__name__}.{method}"
    return begin


async def datagram(loop, fail):
    left, right = socket.socketpair(type=socket.SOCK_DGRAM)
    protocol = failing(asyncio.DatagramProtocol, "datagram_received", fail)
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=left)
    right.send(b"data")
    await asyncio.sleep(0.001)
    right.close()
    transport.abort()


async def read_pipe(loop, fail):
    read, write = os.pipe()
    protocol = failing(asyncio.Protocol, "data_received", fail)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(read, "rb"))
    os.write(write, b"data")
    await asyncio.sleep(0.001)
    os.close(write)
    transport.close()


SOURCES = [
    call_soon,
    call_later,
    call_soon_threadsafe,
    done_callback,
    reader,
    stream(asyncio.Protocol, "connection_made"),
    stream(asyncio.Protocol, "data_received"),
    stream(asyncio.Protocol, "eof_received"),
    stream(asyncio.Protocol, "pause_writing"),
    stream(asyncio.Protocol, "connection_lost"),
    stream(asyncio.BufferedProtocol, "get_buffer"),
    datagram,
    read_pipe,
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_the_exception_handler_is_told_in_an_except_clause(source, logged):
    def scenario(impl):
        seen = []

        async def main():
            loop = asyncio.get_running_loop()

            def handler(loop, context):
                seen.append(sys.exc_info()[1] is context.get("exception"))
                seen.append(type(sys.exc_info()[1]))
                raise LookupError("of the handler")

            def fail(*args):
                raise ArithmeticError("on purpose")

            loop.set_exception_handler(handler)
            await source(loop, fail)
            for _ in range(4):
                await asyncio.sleep(0.0005)
            seen.append(sys.exc_info())

        logged.records.clear()
        impl.run(main())
        seen.append([type(r.exc_info[1].__context__) for r in logged.records if r.exc_info])
        return seen

    seen = same_on_both(scenario)
    assert seen[:2] == [True, ArithmeticError] and seen[-1][0] is ArithmeticError

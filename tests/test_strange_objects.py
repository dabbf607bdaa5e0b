"""Objects that end a connection where nobody expects it: in a destructor, a buffer, a log handler, in __init__().

No input may crash the interpreter. Each program runs in a process of its own, and has to come to its end there.
"""

import socket
import sys
from textwrap import dedent

import pytest
from support import script_output

PREPARE = """
import asyncio, gc, logging, os, socket, sys

ends = []  # the transport that the strange object puts an end to, once

def end():
    if ends:
        ends.pop()._call_connection_lost(None)

async def stream(protocol=asyncio.Protocol):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(20)
    transport, _ = await asyncio.get_running_loop().create_connection(protocol, sock=ours)
    ends.append(transport)
    return transport, peer

def attempt(function, *args):
    try:
        function(*args)
    except (AttributeError, RuntimeError, TypeError):
        pass

def forgive(loop, context):
    pass
"""

BUFFERS = """
class Buffer(bytearray):
    def __buffer__(self, flags):
        if on == "__buffer__":
            end()
        return memoryview(bytes(10))

    def __release_buffer__(self, view):
        if on == "__release_buffer__":
            end()

on = sys.argv[1]
"""


def survives(impl, source, *args):
    program = PREPARE + dedent(source) + "\nprint('survived')\n"
    assert script_output(impl, program, *args) == "survived\n"


# -- streams -------------------------------------------------------------------


def test_a_buffer_to_receive_into_that_ends_the_connection_when_it_goes(impl):
    survives(
        impl,
        """
        class Buffer(bytearray):
            def __del__(self):
                end()

        class Protocol(asyncio.BufferedProtocol):
            def get_buffer(self, hint):
                return Buffer(100)

            def buffer_updated(self, count):
                pass

        async def main():
            _, peer = await stream(Protocol)
            peer.send(b"x")
            await asyncio.sleep(0.01)

        run(main())
        """,
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes in Python have no buffers yet")
@pytest.mark.parametrize("on", ["__buffer__", "__release_buffer__"])
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_data_that_ends_the_connection_when_it_is_looked_at(impl, method, on):
    survives(
        impl,
        BUFFERS
        + dedent(
            """
            async def main():
                asyncio.get_running_loop().set_exception_handler(forgive)
                transport, peer = await stream()
                data = Buffer(b"abc")
                attempt(getattr(transport, sys.argv[2]), data if sys.argv[2] == "write" else [data])
                attempt(transport.write, b"after")
                await asyncio.sleep(0)

            run(main())
            """
        ),
        on,
        method,
    )


def test_a_log_handler_that_ends_the_connection(impl):
    survives(
        impl,
        """
        class Handler(logging.Handler):
            def emit(self, record):
                if "received EOF" in record.msg:
                    end()

        async def main():
            logger = logging.getLogger("asyncio")
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            logger.addHandler(Handler())
            asyncio.get_running_loop().set_exception_handler(forgive)
            _, peer = await stream()
            peer.close()
            await asyncio.sleep(0.01)

        run(main(), debug=True)
        """,
    )


def test_a_waiter_for_sendfile_that_takes_itself_away(impl):
    survives(
        impl,
        """
        class Waiter:
            def __getattribute__(self, name):
                ends[0]._empty_waiter = None
                raise AttributeError

            def __getattr__(self, name):
                return lambda *args: self

        async def main():
            asyncio.get_running_loop().set_exception_handler(forgive)
            transport, peer = await stream()
            transport.write(bytes(1_000_000))
            transport._empty_waiter = Waiter()
            peer.setblocking(False)
            while transport.get_write_buffer_size():
                try:
                    peer.recv(1 << 20)
                except BlockingIOError:
                    pass
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)

        run(main())
        """,
    )


# -- while a transport is made ---------------------------------------------------


def test_a_stream_that_is_ended_while_it_is_made(impl):
    survives(
        impl,
        """
        class Strange(socket.socket):
            def getsockname(self):
                end()
                return super().getsockname()

        async def main():
            transport, _ = await stream()
            ends[0] = type(transport).__new__(type(transport))
            sock = Strange(fileno=socket.socketpair()[0].detach())
            attempt(ends[0].__init__, asyncio.get_running_loop(), sock, asyncio.Protocol())
            await asyncio.sleep(0)

        run(main())
        """,
    )


def test_a_pipe_that_is_ended_while_it_is_made(impl):
    survives(
        impl,
        """
        reading, writing = os.pipe()

        class Strange:
            def fileno(self):
                end()
                return reading

            def close(self):
                pass

        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(asyncio.Protocol, open(os.pipe()[0], "rb"))
            ends.append(type(transport).__new__(type(transport)))
            attempt(ends[0].__init__, loop, Strange(), asyncio.Protocol())
            await asyncio.sleep(0)

        run(main())
        """,
    )


# -- pipes and datagrams -----------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes in Python have no buffers yet")
def test_data_that_ends_a_full_pipe(impl):
    survives(
        impl,
        BUFFERS
        + dedent(
            """
            class File:
                def __init__(self, number):
                    self.number = number

                def fileno(self):
                    return self.number

                def close(self):
                    pass

            async def main():
                reading, writing = os.pipe()
                os.set_blocking(writing, False)
                try:
                    while True:
                        os.write(writing, bytes(4096))
                except BlockingIOError:
                    pass
                loop = asyncio.get_running_loop()
                transport, _ = await loop.connect_write_pipe(asyncio.Protocol, File(writing))
                ends.append(transport)
                attempt(transport.write, Buffer(b"abc"))

            run(main())
            """
        ),
        "__buffer__",
    )


DATAGRAMS = """
async def datagrams(protocol=asyncio.DatagramProtocol):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(protocol, local_addr=("127.0.0.1", 0))
    ends.append(transport)
    return transport
"""


@pytest.mark.parametrize("method", ["pause_reading", "resume_reading", "close", "abort"])
def test_a_datagram_transport_that_lost_its_connection_by_hand(impl, method):
    survives(
        impl,
        DATAGRAMS
        + dedent(
            """
            async def main():
                transport = await datagrams()
                end()
                attempt(getattr(transport, sys.argv[1]))
                await asyncio.sleep(0)

            run(main())
            """
        ),
        method,
    )


def test_an_audit_hook_that_ends_a_datagram_transport(impl):
    survives(
        impl,
        DATAGRAMS
        + dedent(
            """
            async def main():
                transport = await datagrams()

                def hook(event, args):
                    if event == "socket.sendto" and transport._sock is not None:
                        end()

                sys.addaudithook(hook)
                attempt(transport.sendto, b"x", ("127.0.0.1", 9))
                await asyncio.sleep(0)

            run(main())
            """
        ),
    )


def test_a_datagram_protocol_that_drops_the_loop(impl):
    survives(
        impl,
        DATAGRAMS
        + dedent(
            """
            class Protocol(asyncio.DatagramProtocol):
                def datagram_received(self, data, address):
                    end()
                    ends.clear()
                    gc.collect()

            loop = new_event_loop()
            transport = loop.run_until_complete(datagrams(Protocol))
            transport.pause_reading()
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                for data in b"x", b"y":
                    sender.sendto(data, transport.get_extra_info("sockname"))
            transport.resume_reading()
            del loop
            gc.collect()
            attempt(transport._read_ready)
            attempt(transport._read_ready)
            """
        ),
    )


def test_a_buffer_that_switches_debug_mode_on(impl, loop, run):
    """Then sock_recvfrom_into() goes asyncio's way, in the middle of its own."""

    class Buffer(bytearray):
        def __len__(self):
            loop.set_debug(True)
            return 10

    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            sock.sendto(b"x", sock.getsockname())
            assert await loop.sock_recvfrom_into(sock, Buffer(10)) == (1, sock.getsockname())
        loop.set_debug(False)

    run(main())

"""What the tests of inherited parts share: servers for a while, a protocol that writes things down."""

import asyncio
import contextlib
import ssl

from support import PATIENCE

LIMIT = 20 * PATIENCE


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def finish(writer):
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionError, ssl.SSLError):
        pass


@contextlib.asynccontextmanager
async def serving(starting):
    """A server, for a while; what it began has ended afterwards."""
    server = await starting
    try:
        yield server
    finally:
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=LIMIT)
        await asyncio.sleep(0.001)


def address(server):
    return server.sockets[0].getsockname()[:2]


class Recorder(asyncio.Protocol):
    """Writes down what is called on it."""

    def __init__(self):
        self.log = []
        self.data = b""
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append("made")

    def data_received(self, data):
        self.data += data
        if self.log[-1] != "data":
            self.log.append("data")

    def eof_received(self):
        self.log.append("eof")

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc)))
        if not self.lost.done():
            self.lost.set_result(exc)

    def pause_writing(self):
        self.log.append("pause")

    def resume_writing(self):
        self.log.append("resume")

"""A storm of cancellations over connections in use (uvloop#645: responses given to the wrong client).

Clients connect, ask, maybe start TLS, and are cancelled anywhere in between. Each answer carries the
identity of who asked; bystanders, pairs of sockets that come and go meanwhile, notice a descriptor
that somebody else closes. HOTLOOP_STORM=50000 makes it longer.
"""

import asyncio
import contextlib
import os
import random
import socket
import ssl

import pytest
from support import (
    HOTLOOP,
    PATIENCE,
    Contexts,
    collect,
    open_descriptors,
    timer_opened,
    until,
)

COUNT = int(os.environ.get("HOTLOOP_STORM", 3000 // PATIENCE))
EXPECTED_ERRORS = (OSError, EOFError, ssl.SSLError, asyncio.IncompleteReadError)


class Storm:
    def __init__(self, seed, server_tls=None, client_tls=None):
        self.random = random.Random(seed)
        self.server_tls, self.client_tls = server_tls, client_tls
        self.answers = self.cancelled = self.failed = self.served = 0
        self.wrong = []

    async def serve(self, reader, writer):
        """Answer each line with itself, many times; the line "tls" starts TLS."""
        self.served += 1
        try:
            while line := await reader.readline():
                if line == b"tls\n":
                    writer.write(b"go\n")
                    await writer.drain()
                    await writer.start_tls(self.server_tls)
                    continue
                writer.write(line)
                writer.writelines([line] * 20)
                await writer.drain()
        except EXPECTED_ERRORS:
            pass
        finally:
            writer.close()

    async def ask(self, name, reader, writer):
        line = b"%d:%s\n" % (name, b"x" * (name * 37 % 900))
        writer.write(line)
        await writer.drain()
        for _ in range(21):
            answer = await reader.readline()
            if answer and answer != line:
                self.wrong.append((line, answer))
            if not answer:
                raise EOFError
        self.answers += 1

    async def client(self, name, where):
        reader, writer = await asyncio.open_connection(*where)
        try:
            await self.ask(name, reader, writer)
            if self.client_tls is not None and name % 2:
                writer.write(b"tls\n")
                assert await reader.readline() in (b"go\n", b"")
                await writer.start_tls(self.client_tls, server_hostname="localhost")
            for _ in range(2):
                await self.ask(name, reader, writer)
        finally:
            writer.close() if name % 3 else writer.transport.abort()

    async def raw_client(self, name, where):
        """The same with the sock_* methods."""
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
            line = b"%d:raw\n" % name
            await loop.sock_sendall(sock, line)
            received = b""
            while len(received) < 21 * len(line):
                received += await loop.sock_recv(sock, 1000)
                if not received.startswith(line[: len(received)]):
                    self.wrong.append((line, received))
                    return
            if received != line * 21:
                self.wrong.append((line, received))
            self.answers += 1

    async def hurried(self, name, where):
        """A client that is cancelled after some turns, or by a timeout, or not at all."""
        work = self.raw_client if name % 5 == 0 else self.client
        task = asyncio.ensure_future(work(name, where))
        how = self.random.random()
        try:
            if how < 0.5:
                for _ in range(self.random.randrange(40)):
                    await asyncio.sleep(0)
                task.cancel()
                await task
            elif how < 0.8:
                await asyncio.wait_for(task, self.random.random() * 0.02)
            else:
                await task
        except (asyncio.CancelledError, TimeoutError):
            self.cancelled += 1
        except EXPECTED_ERRORS:
            self.failed += 1

    async def bystander(self, stop):
        """Sockets that nobody else may close or write to."""
        while not stop.is_set():
            left, right = socket.socketpair()
            word = b"%d" % self.random.randrange(10**9)
            left.send(word)
            await asyncio.sleep(0.001)
            right.setblocking(False)
            assert right.recv(100) == word, "somebody wrote into or closed a socket of ours"
            with contextlib.suppress(BlockingIOError):
                assert right.recv(100) is None, "somebody closed a socket of ours"
            left.close()
            right.close()

    async def run(self, count, width=60):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=200)
        where = server.sockets[0].getsockname()
        stop = asyncio.Event()
        bystanders = [asyncio.ensure_future(self.bystander(stop)) for _ in range(3)]
        names = iter(range(count))

        async def worker():
            for name in names:
                await self.hurried(name, where)

        await asyncio.gather(*(worker() for _ in range(width)))
        stop.set()
        await asyncio.gather(*bystanders)
        server.close()
        everybody = {asyncio.current_task()}
        await until(lambda: asyncio.all_tasks() == everybody)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_storm_of_cancellations(tls, request, logged):
    contexts = [
        request.getfixturevalue(name) if tls else None for name in ("server_tls", "client_tls")
    ]
    storm = Storm(1, *contexts)
    told = Contexts()

    async def main():
        asyncio.get_running_loop().set_exception_handler(told)
        await timer_opened()
        before = open_descriptors()
        await storm.run(COUNT // (2 if tls else 1))
        collect()
        await until(lambda: len(open_descriptors()) <= len(before))
        return before, open_descriptors()

    before, after = HOTLOOP.run(main())
    assert storm.wrong == []
    assert len(after) == len(before)
    assert storm.answers > COUNT // 10 and storm.cancelled > COUNT // 10
    serious = [
        context
        for context in told
        if not isinstance(context.get("exception"), (ssl.SSLError, ConnectionError))
    ]
    assert serious == [], serious

"""Watches that other threads add and remove while the loop polls: not promised to work, but to crash nothing."""

import asyncio
import contextlib
import gc
import os
import socket
import struct
import threading
import time

from support import PATIENCE


def in_thread(function):
    """A coroutine that waits for a call in a thread, while the loop does nothing but poll."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call():
        try:
            result = function()
        except BaseException as exc:
            loop.call_soon_threadsafe(done.set_exception, exc)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    threading.Thread(target=call).start()
    return asyncio.wait_for(done, 20 * PATIENCE)


def test_a_reader_that_another_thread_adds_is_called(loop, run, pair):
    left, right = pair
    seen = []

    def add():
        time.sleep(0.01)
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        right.send(b"x")
        time.sleep(0.02)
        loop.remove_reader(left)
        right.send(b"y")
        time.sleep(0.01)

    async def main():
        await in_thread(add)
        assert seen == [b"x"]
        assert not loop.remove_reader(left)

    run(main())


def test_a_regular_file_is_refused_in_another_thread_too(loop, run, tmp_path):
    def add():
        time.sleep(0.01)
        with (tmp_path / "file").open("wb") as file:
            try:
                loop.add_reader(file, print)
            except PermissionError:
                return "refused"

    async def main():
        assert await in_thread(add) == "refused"

    run(main())


def test_a_socket_that_another_thread_closes_as_soon_as_it_is_watched(loop, run):
    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        spinning = loop.create_task(spin())  # polls give the GIL to the executor's thread then
        for _ in range(50):
            left, right = socket.socketpair()
            with right:
                loop.add_reader(left, print)
                await loop.run_in_executor(None, left.close)
                assert loop.remove_reader(left)
        spinning.cancel()

    run(main())


def test_a_thread_that_adds_and_removes_readers_of_pipes(loop, run):
    """And the loop has something to do meanwhile."""
    stop = time.monotonic() + 0.5
    pipes = [os.pipe() for _ in range(100)]
    idle, busy = pipes[1:], pipes[0]

    def hammer():
        while time.monotonic() < stop:
            for reading, _ in idle:
                loop.add_reader(reading, int)
            for reading, _ in idle:
                assert loop.remove_reader(reading)

    async def main():
        seen = []
        loop.add_reader(busy[0], lambda: seen.append(os.read(busy[0], 10)))
        hammering = asyncio.ensure_future(in_thread(hammer))
        while not hammering.done():
            os.write(busy[1], b"x")
            await asyncio.sleep(0.001)
        await hammering
        loop.remove_reader(busy[0])
        assert b"".join(seen)[:10] == b"x" * 10

    run(main())
    for pipe in pipes:
        os.close(pipe[0])
        os.close(pipe[1])


def test_threads_that_add_and_remove_readers_all_the_time(loop, run):
    stop = time.monotonic() + 0.5
    pairs = [socket.socketpair() for _ in range(30)]

    def hammer(mine):
        while time.monotonic() < stop:
            for left, right in mine:
                loop.add_reader(left, left.recv, 10)
                loop.add_writer(left, int)
                with contextlib.suppress(BlockingIOError):
                    right.send(b"x")
            for left, _ in mine:
                loop.remove_writer(left)
                loop.remove_reader(left)

    async def main():
        parts = [pairs[part::3] for part in range(3)]
        await asyncio.gather(*(in_thread(lambda part=part: hammer(part)) for part in parts))
        left, right = pairs[0]
        with contextlib.suppress(BlockingIOError):
            while left.recv(1000):
                pass
        right.send(b"last")
        assert await asyncio.wait_for(loop.sock_recv(left, 10), 20 * PATIENCE) == b"last"

    for left, right in pairs:
        left.setblocking(False)
        right.setblocking(False)
    loop.set_exception_handler(lambda loop, context: None)  # of sockets that had nothing, after all
    run(main())
    for left, right in pairs:
        left.close()
        right.close()


class Keeping(asyncio.Protocol):
    """Its instances have a dict, where they can keep their transport."""


def test_transports_that_go_in_another_thread(loop, run, recwarn):
    """The collector runs wherever something is allocated."""

    async def drop(count):
        for _ in range(count):
            left, right = socket.socketpair()
            left.setblocking(False)
            transport, protocol = await loop.create_connection(Keeping, sock=left)
            await asyncio.sleep(0)
            transport.pause_reading()
            protocol.transport = transport  # a cycle
            right.close()
            del transport, protocol

    def collect():
        for _ in range(3):
            time.sleep(0.005)
            gc.collect()

    async def main():
        for _ in range(5):
            await drop(20)
            await in_thread(collect)

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_connections_that_are_reset_in_another_thread(loop, run):
    """Each is armed for the next request when it is reset, and closed as soon as that is found."""

    async def echo(connection):
        with connection, contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(connection, 100):
                await loop.sock_sendall(connection, data)

    async def serve(listener):
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await loop.sock_accept(listener)
                group.create_task(echo(connection))

    def clients(where):
        ends = [socket.create_connection(where) for _ in range(20)]
        for _ in range(10):
            for end in ends:
                end.sendall(b"x")
            for end in ends:
                assert end.recv(1) == b"x"
        for end in ends:
            end.sendall(b"x")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            listener.setblocking(False)
            server = loop.create_task(serve(listener))
            for _ in range(10):
                await in_thread(lambda: clients(listener.getsockname()))
            server.cancel()
            await asyncio.wait([server])

    run(main())

"""Whatever keeps a loop busy must not keep it from I/O, timers, stop(), other threads and Ctrl-C.

Every kind of busy work is set against everything it could starve.
"""

import asyncio
import functools
import os
import signal
import socket
import sys
import threading
import time

import pytest
from support import PATIENCE, until

LIMIT = 20 * PATIENCE


# -- ways to keep a loop busy ------------------------------------------------


class Busy:
    """Something that never lets the loop idle, until it is told to end."""

    def __init__(self, loop):
        self.loop = loop
        self.on = True
        self.rounds = 0
        self.tasks = []
        self.sockets = []

    def end(self):
        self.on = False
        for task in self.tasks:
            task.cancel()
        for sock in self.sockets:
            self.loop.remove_reader(sock)
            self.loop.remove_writer(sock)
            sock.close()

    def again(self):
        self.rounds += 1
        if self.on:
            self.schedule()

    def schedule(self):
        raise NotImplementedError

    start = schedule


class CallSoon(Busy):
    def schedule(self):
        self.loop.call_soon(self.again)

    def start(self):
        self.schedule()


class ManyCallSoon(CallSoon):
    def start(self):
        for _ in range(200):
            self.schedule()


class Threadsafe(CallSoon):
    def schedule(self):
        self.loop.call_soon_threadsafe(self.again)


class ZeroTimers(CallSoon):
    def schedule(self):
        self.loop.call_later(0, self.again)


class PastTimers(CallSoon):
    def schedule(self):
        self.loop.call_at(self.loop.time() - 1, self.again)


class SleepZero(Busy):
    def start(self):
        self.tasks = [self.loop.create_task(self.work()) for _ in range(3)]

    async def work(self):
        while self.on:
            self.rounds += 1
            await asyncio.sleep(0)


class PingPong(Busy):
    def start(self):
        self.futures = [self.loop.create_future()]
        self.tasks = [self.loop.create_task(self.work())]
        self.loop.call_soon(self.feed)

    async def work(self):
        while self.on:
            self.rounds += 1
            await self.futures[-1]
            self.futures[-1] = self.loop.create_future()
            self.loop.create_task(self.feed_later())

    async def feed_later(self):
        self.feed()

    def feed(self):
        if not self.futures[-1].done():
            self.futures[-1].set_result(None)


class ReadyReader(Busy):
    def start(self):
        left, right = socket.socketpair()
        self.sockets = [left, right]
        right.send(b"never read")
        self.loop.add_reader(left, self.again)

    def again(self):
        self.rounds += 1


class ReadyWriters(Busy):
    def start(self):
        for _ in range(3):
            self.sockets += socket.socketpair()
        for sock in self.sockets:
            self.loop.add_writer(sock, self.again)

    def again(self):
        self.rounds += 1


KINDS = [
    CallSoon,
    ManyCallSoon,
    Threadsafe,
    ZeroTimers,
    PastTimers,
    SleepZero,
    PingPong,
    ReadyReader,
    ReadyWriters,
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def busy(request, loop):
    busy = request.param(loop)
    busy.start()
    before = time.monotonic()
    yield busy
    assert time.monotonic() - before < LIMIT
    before = busy.rounds  # A quick test may have left it hardly any.
    for _ in range(10):
        loop.run_until_complete(asyncio.sleep(0))
    assert busy.rounds > before
    busy.end()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))


# -- what must not starve ----------------------------------------------------


def test_descriptors_are_served(loop, busy):
    left, right = socket.socketpair()
    with left, right:
        seen = []

        def reader():
            seen.append(left.recv(100))
            if len(seen) == 20:
                loop.stop()
            else:
                right.send(b"next")

        loop.add_reader(left, reader)
        right.send(b"first")
        loop.run_forever()
        loop.remove_reader(left)
    assert len(seen) == 20


def test_timers_fire(loop, busy):
    async def main():
        for _ in range(20):
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_stop_stops(loop, busy):
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    for _ in range(20):
        loop.stop()
        loop.run_forever()


def test_other_threads_are_heard(loop, busy):
    def stop_later():
        time.sleep(0.01)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=stop_later)
    thread.start()
    loop.run_forever()
    thread.join()


def test_callbacks_in_c_leave_the_gil_to_threads(loop):
    """At each switch interval, as Python code would; nothing here runs any Python code.

    What is measured is the loop's use of the processor until the thread goes on, as the thread may have
    to wait for other processes too.
    """
    again = functools.partial(print)
    again.__setstate__((loop.call_soon, (again,), {}, None))
    rounds = []

    def thread():
        for _ in range(20):
            before = time.process_time()
            time.sleep(0.0001)
            rounds.append(time.process_time() - before)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=thread)
    loop.call_soon(again)
    thread.start()
    loop.run_forever()
    thread.join()
    again.__setstate__((print, (), {}, None))
    assert sorted(rounds)[10] < 4 * PATIENCE * sys.getswitchinterval()


def test_executors_deliver(loop, busy):
    async def main():
        return [await asyncio.to_thread(pow, number, 2) for number in range(3)]

    assert loop.run_until_complete(main()) == [0, 1, 4]


def test_ctrl_c_is_heard(loop, busy):
    """By a handler: KeyboardInterrupt may end the busy work anywhere, see test_ctrl_c.py for that."""
    before = signal.signal(signal.SIGINT, lambda signum, frame: loop.stop())
    try:

        def interrupt():
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_signal_handlers_are_called(loop, busy):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_streams_get_through(loop, busy):
    async def main():
        async def serve(reader, writer):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(10):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_busy_work_goes_on_beside_a_flood_from_another_thread(loop):
    """The other way round: an endless inbox must not starve what the loop has itself."""
    flooding = threading.Event()
    flooding.set()

    def flood():
        while flooding.is_set():
            loop.call_soon_threadsafe(int)

    thread = threading.Thread(target=flood)
    thread.start()
    try:

        async def main():
            for _ in range(5):
                await asyncio.sleep(0.001)
                await asyncio.sleep(0)
            assert await asyncio.to_thread(pow, 2, 3) == 8
            await until(lambda: True)

        loop.run_until_complete(main())
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    finally:
        flooding.clear()
        thread.join()

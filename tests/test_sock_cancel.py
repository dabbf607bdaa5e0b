"""Cancelling sock_recv() and its relatives, at every step; nothing is lost and nothing crossed."""

import asyncio
import contextlib
import inspect
import random
import socket
import warnings
from unittest import mock

import hotloop
import pytest
from sockets import READERS, calls, fill, waiting, watched
from support import collect, until


@pytest.mark.parametrize("method", [*READERS, "sendall"])
@pytest.mark.parametrize("steps", range(5))
def test_cancelled_after_any_number_of_steps(loop, run, listening, pair, method, steps):
    left, right = pair
    sock = listening if method == "accept" else left
    if method == "sendall":
        fill(left)

    async def main():
        task = loop.create_task(calls(loop, sock)[method]())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel("a message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args in ((), ("a message",))
        await asyncio.sleep(0)
        assert not watched(loop, sock)

    run(main())


def test_cancelled_together_with_the_data(loop, run, pair):
    """The task is cancelled in the turn in which the data was read: that is lost, as in asyncio."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 1))
        task._fut_waiter.add_done_callback(lambda future: task.cancel())
        right.send(b"abc")
        await asyncio.wait([task])
        assert not watched(loop, left)
        assert await loop.sock_recv(left, 1) == b"b"
        return task.cancelled()

    run(main())


def test_cancelled_before_the_data_is_read(loop, run, pair):
    """What came after cancel() stays in the socket."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        task.cancel()
        right.send(b"kept")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(left, 10) == b"kept"

    run(main())


def test_an_awaiting_coroutine_that_is_closed(loop, run, pair):
    left, right = pair

    async def main():
        coro = loop.sock_recv(left, 10)
        coro.send(None)
        assert watched(loop, left)
        coro.close()

    run(main())
    if isinstance(loop, hotloop.EventLoop):
        assert not watched(loop, left)  # stock asyncio leaves its reader there
    loop.remove_reader(left)


def test_a_wait_that_is_ended_by_the_sockets_own_method(loop, run, datagrams):
    """What the call was given stays alive until it returns."""
    left, right = datagrams
    original = socket.socket.recvfrom_into

    async def main():
        coro = loop.sock_recvfrom_into(left, bytearray(10))
        future = coro.send(None)

        def meddle(self, buffer, size):
            coro.close()
            collect()
            return original(self, buffer, size)

        with mock.patch.object(socket.socket, "recvfrom_into", meddle):
            right.sendto(b"data", left.getsockname())
            await until(lambda: inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED)
        future.cancel()
        await asyncio.sleep(0)
        loop.remove_reader(left)

    run(main())


def test_an_exception_thrown_in(loop, run, pair):
    left, right = pair

    async def main():
        coro = loop.sock_recv(left, 10)
        future = coro.send(None)
        with pytest.raises(KeyError):
            coro.throw(KeyError("thrown"))
        future.cancel()
        await asyncio.sleep(0)
        assert not watched(loop, left)

    run(main())


def test_a_cancel_storm_never_crosses_responses(loop, run, listening, no_new_descriptors):
    """Thousands of calls are cancelled anywhere; each answer carries its connection's identity."""
    rng = random.Random(5)

    async def serve(conn, tasks):
        with conn:
            with contextlib.suppress(ConnectionError):
                while request := await loop.sock_recv(conn, 64):
                    await loop.sock_sendall(conn, request)

    async def accept(tasks):
        while True:
            conn, _ = await loop.sock_accept(listening)
            task = loop.create_task(serve(conn, tasks))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def client(number, answered):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listening.getsockname())
            for i in range(20):
                request = b"%6d %6d;" % (number, i)
                await loop.sock_sendall(sock, request)
                answer = b""
                while len(answer) < len(request):
                    part = await loop.sock_recv(sock, 64)
                    if not part:
                        return
                    answer += part
                assert answer == request
                answered.append(number)

    async def main():
        tasks, answered, errors = set(), [], []
        accepting = loop.create_task(accept(tasks))
        clients = []
        for number in range(600):
            clients.append(loop.create_task(client(number, answered)))
            if len(clients) >= 40 or number == 599:
                while clients:
                    await asyncio.sleep(0)
                    for _ in range(3):
                        victim = rng.choice(clients)
                        if rng.random() < 0.5:
                            victim.cancel()
                    if tasks and rng.random() < 0.1:
                        rng.choice(sorted(tasks, key=lambda t: t.get_name())).cancel()
                    for task in [task for task in clients if task.done()]:
                        clients.remove(task)
                        if not task.cancelled() and task.exception():
                            errors.append(task.exception())
                    if len(clients) < 20 and number != 599:
                        break
        accepting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)
        # What the storm left in the backlog.
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
        assert [exc for exc in errors if not isinstance(exc, ConnectionError)] == []
        assert len(answered) > 100

    with warnings.catch_warnings():
        # A connection that was accepted in the turn in which sock_accept() was cancelled.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        collect()

"""sock_recv() and its relatives: results, connections, coroutines, tasks of every kind, debug mode."""

import array
import asyncio
import contextlib
import errno
import gc
import inspect
import io
import random
import socket
import warnings

import pytest
from sockets import (
    METHODS,
    calls,
    cancel,
    nobody,
    nonblocking,
    stream_pair,
    waiting,
    watched,
)
from support import IMPLEMENTATIONS, collect, same_on_both

# -- results -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 6, 1000, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_recv(loop, run, pair, size, early):
    left, right = pair

    async def main():
        if early:
            right.send(b"hello!")
            return await loop.sock_recv(left, size)
        task = await waiting(loop, loop.sock_recv(left, size))
        right.send(b"hello!")
        return await task

    assert run(main()) == b"hello!"[:size]
    assert not watched(loop, left)


def test_recv_of_nothing_takes_no_datagram(loop, run, datagrams):
    left, right = datagrams
    right.sendto(b"kept", left.getsockname())
    assert run(loop.sock_recv(left, 0)) == b""
    assert run(loop.sock_recv(left, 10)) == b"kept"


def test_recv_of_more_than_the_scratch_buffer(loop, run, pair):
    left, right = pair
    data = random.Random(1).randbytes(100_000)

    async def main():
        sending = loop.create_task(loop.sock_sendall(right, data))
        received = b""
        while len(received) < len(data):
            received += await loop.sock_recv(left, 1 << 20)
        await sending
        return received

    assert run(main()) == data


def test_recv_at_the_end_of_the_stream(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        right.shutdown(socket.SHUT_WR)
        return await task, await loop.sock_recv(left, 10)

    assert run(main()) == (b"", b"")


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        lambda size: memoryview(bytearray(size)),
        lambda size: array.array("b", bytes(size)),
    ],
    ids=["bytearray", "memoryview", "array"],
)
def test_recv_into(loop, run, pair, make, early):
    left, right = pair
    buffer = make(8)

    async def main():
        if early:
            right.send(b"hello")
            return await loop.sock_recv_into(left, buffer)
        task = await waiting(loop, loop.sock_recv_into(left, buffer))
        right.send(b"hello")
        return await task

    assert run(main()) == 5
    assert bytes(buffer) == b"hello\0\0\0"


def test_recv_into_an_empty_buffer(loop, run, pair):
    assert run(loop.sock_recv_into(pair[0], bytearray())) == 0


def test_recv_into_a_buffer_that_shrinks_meanwhile(loop, run, pair):
    left, right = pair

    async def main():
        buffer = bytearray(10)
        task = await waiting(loop, loop.sock_recv_into(left, buffer))
        del buffer[3:]
        right.send(b"hello")
        return await task, buffer

    assert run(main()) == (3, b"hel")


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_datagrams(loop, run, datagrams, early):
    left, right = datagrams
    buffer = bytearray(20)

    async def receive(coro):
        task = loop.create_task(coro)
        if not early:
            await asyncio.sleep(0)
        assert await loop.sock_sendto(right, b"datagram", left.getsockname()) == 8
        return await task

    async def main():
        address = right.getsockname()
        assert await receive(loop.sock_recvfrom(left, 20)) == (b"datagram", address)
        assert await receive(loop.sock_recvfrom(left, 4)) == (b"data", address)
        assert await receive(loop.sock_recvfrom_into(left, buffer)) == (8, address)
        assert await receive(loop.sock_recvfrom_into(left, buffer, 4)) == (4, address)
        assert await receive(loop.sock_recvfrom_into(left, buffer, nbytes=5)) == (5, address)
        assert await receive(loop.sock_recv(left, 20)) == b"datagram"

    run(main())
    assert buffer[:8] == b"datagram"


def test_sendto_waits_for_room(loop, run, tmp_path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        nonblocking(receiver, sender)
        path = str(tmp_path / "receiver")
        receiver.bind(path)

        async def main():
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.sendto(b"%d" % sent, path)
                    sent += 1
            task = await waiting(loop, loop.sock_sendto(sender, b"last", path))
            received = [await loop.sock_recv(receiver, 10) for _ in range(sent)]
            return await task, received == [b"%d" % i for i in range(sent)]

        assert run(main()) == (4, True)
        assert run(loop.sock_recv(receiver, 10)) == b"last"


KINDS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"x" + data)[1:],
    "subclass": type("Data", (bytes,), {}),
    "array": lambda data: array.array("b", data),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_001])
def test_sendall(loop, run, pair, kind, size):
    left, right = pair
    data = random.Random(size).randbytes(size)

    async def main():
        sending = loop.create_task(loop.sock_sendall(right, KINDS[kind](data)))
        received = []
        while sum(map(len, received)) < size:
            received.append(await loop.sock_recv(left, 65536))
        assert await sending is None
        return b"".join(received)

    assert run(main()) == data


def test_what_is_sent_cannot_be_resized_meanwhile(loop, run, pair):
    left, right = pair
    data = bytearray(5_000_000)

    async def main():
        task = await waiting(loop, loop.sock_sendall(right, data))
        with pytest.raises(BufferError):
            data.clear()
        await cancel(task)
        await asyncio.sleep(0)
        data.clear()

    run(main())


def test_what_is_sent_is_let_go_of_afterwards(loop, run, pair):
    left, right = pair
    data = bytearray(5_000_000)

    async def main():
        task = await waiting(loop, loop.sock_sendall(right, data))
        received = 0
        while received < len(data):
            received += len(await loop.sock_recv(left, 1 << 20))
        await task
        data.clear()

    run(main())


# -- connections -------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False], ids=["there", "to-come"])
def test_accept(loop, run, listening, early):
    async def main():
        with socket.socket() as client:
            if early:
                client.connect(listening.getsockname())
                conn, address = await loop.sock_accept(listening)
            else:
                task = await waiting(loop, loop.sock_accept(listening))
                client.connect(listening.getsockname())
                conn, address = await task
            with conn:
                assert type(conn) is socket.socket
                assert conn.gettimeout() == 0
                assert address == client.getsockname()
                assert conn.getpeername() == address

    run(main())
    assert not watched(loop, listening)


def test_connect(loop, run, listening):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            assert await loop.sock_connect(client, listening.getsockname()) is None
            assert client.getpeername() == listening.getsockname()
            assert not watched(loop, client)

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connect_to_names(loop, run, listening, host):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, (host, listening.getsockname()[1]))
            assert client.getpeername() == listening.getsockname()

    run(main())


def test_connect_to_a_path(loop, run, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        nonblocking(server, client)
        server.bind(path)
        server.listen()
        run(loop.sock_connect(client, path))
        conn, _ = run(loop.sock_accept(server))
        conn.close()


def test_a_refused_connection(run, impl):
    def scenario(implementation):
        async def main():
            with nobody() as address, socket.socket() as client:
                client.setblocking(False)
                with pytest.raises(ConnectionRefusedError) as caught:
                    await asyncio.get_running_loop().sock_connect(client, address)
                text = str(caught.value).replace(str(address[1]), "PORT")
                return type(caught.value), caught.value.errno, text

        return implementation.run(main())

    assert same_on_both(scenario)[1:] == (
        errno.ECONNREFUSED,
        f"[Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', PORT)",
    )


def test_a_connection_that_takes_its_time(loop, run):
    """A full backlog keeps a connection waiting: it is cancelled and leaves nothing behind."""

    async def main():
        with socket.socket() as server, contextlib.ExitStack() as stack:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            tasks = []
            for _ in range(5):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                tasks.append(
                    (client, loop.create_task(loop.sock_connect(client, server.getsockname())))
                )
            await asyncio.sleep(0.02)
            pending = [(client, task) for client, task in tasks if not task.done()]
            assert pending
            for client, task in pending:
                assert watched(loop, client)
                await cancel(task)
                assert not watched(loop, client)

    run(main())


# -- coroutines ----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_they_are_coroutines(loop, pair, method):
    left, right = pair
    assert inspect.iscoroutinefunction(getattr(loop, f"sock_{method}"))
    assert inspect.signature(getattr(loop, f"sock_{method}")) == inspect.signature(
        getattr(asyncio.SelectorEventLoop, f"sock_{method}").__get__(loop)
    )
    coro = calls(loop, left)[method]()
    assert asyncio.iscoroutine(coro) and inspect.iscoroutine(coro)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del coro
        gc.collect()
    assert [w.category for w in caught] == [RuntimeWarning]
    assert f"sock_{method}' was never awaited" in str(caught[0].message)


def test_nothing_happens_before_the_first_await(loop, run, pair):
    left, right = pair
    right.send(b"hello")
    coro = loop.sock_recv(left, 10)
    assert left.recv(10, socket.MSG_PEEK) == b"hello"
    assert run(coro) == b"hello"


def test_gather_wait_for_and_task_groups(loop, run):
    async def main():
        pairs = [stream_pair() for _ in range(10)]
        both = asyncio.gather(
            *(loop.sock_recv(left, 10) for left, _ in pairs),
            *(loop.sock_sendall(right, b"%d" % i) for i, (_, right) in enumerate(pairs)),
        )
        assert await both == [b"%d" % i for i in range(10)] + [None] * 10
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(pairs[0][0], 10), 0.01)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(loop.sock_recv(pairs[1][0], 10))
            group.create_task(loop.sock_sendall(pairs[1][1], b"grouped"))
        assert task.result() == b"grouped"
        for left, right in pairs:
            assert not watched(loop, left)
            left.close()
            right.close()

    run(main())


def test_the_stack_of_a_task_shows_the_call(loop, run, pair):
    async def main():
        task = await waiting(loop, loop.sock_recv(pair[0], 10))
        assert "sock_recv" in repr(task)
        assert task.get_stack()[0].f_code.co_name == "sock_recv"
        await cancel(task)

    run(main())


# -- other ways to run -----------------------------------------------------------


def test_futures_and_tasks_of_either_kind(mixture, mixed_loop, finish, start, pair):
    left, right = pair

    async def main():
        task = start(mixed_loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        await mixed_loop.sock_sendall(right, b"hello")
        assert await task == b"hello"
        task = start(mixed_loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not watched(mixed_loop, left)

    finish(main())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda one: one.name)
def test_debug_mode(implementation):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = stream_pair()
        with left, right:
            task = await waiting(loop, loop.sock_recv(left, 10))
            await loop.sock_sendall(right, b"hello")
            assert await task == b"hello"
            await cancel(await waiting(loop, loop.sock_recv(left, 10)))
            assert not watched(loop, left)

    implementation.run(main(), debug=True)


def test_debug_mode_that_begins_meanwhile(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        loop.set_debug(True)
        await loop.sock_sendall(right, b"hello")
        assert await task == b"hello"
        loop.set_debug(False)

    run(main())


def test_exit_from_a_method_of_the_socket(impl):
    """SystemExit in a callback ends the loop, not the wait."""

    class Exiting(socket.socket):
        exits = False

        def recv(self, size):
            if self.exits:
                raise SystemExit(5)
            return super().recv(size)

    loop = impl.new_event_loop()
    left, right = stream_pair()
    exiting = Exiting(fileno=left.detach())
    exiting.setblocking(False)
    with exiting, right:
        task = loop.create_task(loop.sock_recv(exiting, 10))
        loop.call_soon(loop.stop)
        loop.run_forever()
        exiting.exits = True
        right.send(b"x")
        with pytest.raises(SystemExit):
            loop.run_forever()
        exiting.exits = False
        assert loop.run_until_complete(task) == b"x"
    loop.close()


def test_a_waiting_coroutine_in_a_cycle_is_collected(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    left, right = stream_pair()

    async def main():
        coro = loop.sock_recv(left, 10)
        coro.send(None)
        box = [coro]
        box.append(box)

    loop.run_until_complete(main())
    left.close()
    right.close()
    loop.close()
    collect()


def test_sendfile(loop, run, pair, tmp_path):
    left, right = pair
    data = random.Random(2).randbytes(1_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def main(**options):
        with path.open("rb") as file:
            sending = loop.create_task(loop.sock_sendfile(right, file, **options))
            received = b""
            while len(received) < options.get("count", len(data)):
                received += await loop.sock_recv(left, 1 << 20)
            return await sending, received, file.tell()

    assert run(main()) == (len(data), data, len(data))
    assert run(main(offset=1000, count=5000)) == (5000, data[1000:6000], 6000)
    assert not watched(loop, right)


def test_sendfile_of_what_is_no_file(loop, run, pair):
    left, right = pair

    async def main():
        sent = await loop.sock_sendfile(right, io.BytesIO(b"in memory"))
        return sent, await loop.sock_recv(left, 100)

    assert run(main()) == (9, b"in memory")

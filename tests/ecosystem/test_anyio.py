"""anyio: task groups, cancel scopes, threads, processes, sockets; `anyio.run()` with our loop factory."""

import signal
import sys

import pytest
from programs import need

anyio = need("anyio")
from anyio.streams.tls import TLSListener, TLSStream  # noqa: E402


@pytest.fixture
def run(loop):
    def run(main):
        options = {"loop_factory": loop.factory}
        return anyio.run(main, backend="asyncio", backend_options=options)

    return run


def test_task_groups(run, loop):
    async def child(number, done, *, task_status=anyio.TASK_STATUS_IGNORED):
        task_status.started(number)
        await anyio.sleep(0.001 * (number % 5))
        done.append(number)

    async def fail():
        await anyio.sleep(0.01)
        raise ValueError("one failed")

    async def main():
        import asyncio

        assert loop.owns(asyncio.get_running_loop())
        done = []
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(child, number, done)
            assert await group.start(child, 200, done) == 200
        assert sorted(done) == list(range(201))
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                group.start_soon(fail)
        assert [str(error) for error in caught.value.exceptions] == ["one failed"]

    run(main)


def test_cancel_scopes(run):
    async def main():
        with anyio.move_on_after(0.02) as scope:
            await anyio.sleep(10)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await anyio.sleep(10)
        with anyio.CancelScope() as outer:
            with anyio.CancelScope(shield=True):
                outer.cancel()
                await anyio.sleep(0.01)
            await anyio.sleep(10)
        assert outer.cancelled_caught
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(anyio.sleep_forever)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert anyio.get_current_task() is not None

    run(main)


def test_worker_threads(run):
    async def main():
        def work(number):
            return anyio.from_thread.run(double, number) + anyio.from_thread.run_sync(int, "1")

        async def double(number):
            await anyio.sleep(0)
            return number * 2

        results = []

        async def one(number):
            results.append(await anyio.to_thread.run_sync(work, number))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
        assert sorted(results) == [number * 2 + 1 for number in range(100)]

    run(main)


def test_blocking_portal(loop):
    options = {"loop_factory": loop.factory}
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        assert portal.call(anyio.sleep, 0) is None
        future = portal.start_task_soon(anyio.sleep, 10)
        future.cancel()
        assert portal.call(lambda: 7) == 7


def test_processes(run):
    async def main():
        result = await anyio.run_process([sys.executable, "-c", "print(input() * 2)"], input=b"ab")
        assert result.stdout == b"abab\n"
        code = "import sys; [print(line, end='', flush=True) for line in sys.stdin]"
        async with await anyio.open_process([sys.executable, "-c", code]) as process:
            for number in range(10):
                await process.stdin.send(f"{number}\n".encode())
                assert await process.stdout.receive() == f"{number}\n".encode()
            await process.stdin.aclose()
            assert await process.wait() == 0
        with anyio.move_on_after(0.3):
            await anyio.run_process([sys.executable, "-c", "import time; time.sleep(60)"])
        assert await anyio.to_process.run_sync(sum, [1, 2, 3]) == 6

    run(main)


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
def test_sockets(run, kind, tmp_path, server_tls, client_tls):
    async def connect(listener):
        if kind == "unix":
            return await anyio.connect_unix(tmp_path / "socket")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        stream = await anyio.connect_tcp("127.0.0.1", port)
        if kind == "tls":
            stream = await TLSStream.wrap(stream, hostname="localhost", ssl_context=client_tls)
        return stream

    async def client(listener):
        message = bytes(range(256)) * 400
        async with await connect(listener) as stream:
            for _ in range(5):
                await stream.send(message)
                got = b""
                while len(got) < len(message):
                    got += await stream.receive()
                assert got == message

    async def main():
        if kind == "unix":
            listener = await anyio.create_unix_listener(tmp_path / "socket")
        else:
            multi = await anyio.create_tcp_listener(local_host="127.0.0.1")
            listener = multi.listeners[0]
        served = TLSListener(listener, server_tls) if kind == "tls" else listener
        async with anyio.create_task_group() as group:
            group.start_soon(served.serve, echo)
            async with anyio.create_task_group() as clients:
                for _ in range(20):
                    clients.start_soon(client, listener)
            group.cancel_scope.cancel()
        await served.aclose()

    run(main)


def test_datagrams_and_signals(run):
    async def main():
        async with (
            await anyio.create_udp_socket(local_host="127.0.0.1") as one,
            await anyio.create_udp_socket(local_host="127.0.0.1") as two,
        ):
            port = two.extra(anyio.abc.SocketAttribute.local_port)
            await one.sendto(b"hello", "127.0.0.1", port)
            data, peer = await two.receive()
            assert data == b"hello"
            await two.sendto(b"back", *peer)
            assert (await one.receive())[0] == b"back"
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            signal.raise_signal(signal.SIGUSR1)
            async for signum in signals:
                assert signum == signal.SIGUSR1
                break

    run(main)

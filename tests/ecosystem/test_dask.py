"""Dask distributed: a scheduler and workers on the loop under test, in processes of their own."""

import contextlib
import sys

from programs import HERE, LIMIT, free_port, need, program

distributed = need("distributed")


def square(number):
    return number * number


def loop_of(dask_worker):
    return type(dask_worker.loop.asyncio_loop).__module__.partition(".")[0]


def test_scheduler_and_workers(loop):
    port = free_port()
    scheduler = loop.python("-m", "distributed.cli.dask_scheduler", "--port", port)
    scheduler += ["--host", "127.0.0.1", "--no-dashboard"]
    worker = loop.python("-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}")
    worker += ["--no-nanny", "--no-dashboard", "--nthreads", "2"]

    async def main():
        async with distributed.Client(f"tcp://127.0.0.1:{port}", asynchronous=True) as client:
            await client.wait_for_workers(2, timeout=LIMIT)
            loops = await client.run(loop_of)
            assert set(loops.values()) == {loop.top_module}
            futures = client.map(square, range(500), pure=False)
            total = client.submit(sum, futures)
            assert await total == sum(number * number for number in range(500))
            # Data that moves between the workers.
            (data,) = await client.scatter([b"x" * 5_000_000], broadcast=True)
            sizes = await client.gather(client.map(len, [data] * 4, pure=False))
            assert sizes == [5_000_000] * 4

    with contextlib.ExitStack() as stack:
        running = stack.enter_context(program(scheduler, cwd=HERE))
        running.wait_for_port(port)
        workers = [stack.enter_context(program(worker, cwd=HERE)) for _ in range(2)]
        loop.run(main())
        for one in (*workers, running):
            one.stop()
            assert "Traceback" not in one.output(), one.output()


LOCAL = """
import asyncio, hotloop, distributed

async def main():
    async with distributed.LocalCluster(
        n_workers=2, processes=False, asynchronous=True, dashboard_address=None
    ) as cluster, distributed.Client(cluster, asynchronous=True) as client:
        print(await client.submit(sum, client.map(abs, range(-100, 0))))
        print(type(asyncio.get_running_loop()).__module__.partition(".")[0])

if __name__ == "__main__":
    with asyncio.Runner(loop_factory={factory}) as runner:
        runner.run(main())
"""


def test_local_cluster(loop):
    factory = {"hotloop": "hotloop.new_event_loop"}.get(loop.name, "asyncio.SelectorEventLoop")
    with program([sys.executable, "-c", LOCAL.format(factory=factory)]) as running:
        assert running.process.wait(LIMIT) == 0, running.output()
        # Dask may log a lost connection as it closes, on either loop.
        assert f"5050\n{loop.top_module}\n" in running.output(), running.output()

"""The patterns that guides to async/await teach, without the waiting: what their machinery costs.

The programs in examples/ show each of them as one would write it.
"""

import asyncio
from contextlib import asynccontextmanager

from .scheduling import Scheduling, noop


class Patterns(Scheduling):
    name = "patterns"
    title = "Patterns of the guide: ns per item, and times as fast as asyncio"
    goal_factor = 1


FAMILY = Patterns()


@FAMILY.workload("queue, 3 producers and 5 consumers", 5_000, headline=True)
async def producers_and_consumers(n):
    queue = asyncio.Queue(maxsize=100)

    async def produce():
        for item in range(n // 3):
            await queue.put(item)

    async def consume():
        while True:
            await queue.get()
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(5)]
    await asyncio.gather(*(produce() for _ in range(3)))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)


@FAMILY.workload("bounded concurrency, Semaphore(10)", 3_000)
async def bounded_concurrency(n):
    slots = asyncio.Semaphore(10)

    async def work():
        async with slots:
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(n)))


@FAMILY.workload("as_completed, 100 at once", 2_000)
async def as_they_complete(n):
    for _ in range(n // 100):
        for done in asyncio.as_completed([asyncio.sleep(0, i) for i in range(100)]):
            await done


@FAMILY.workload("pipeline of async generators", 5_000)
async def generator_pipeline(n):
    async def numbers():
        for number in range(n):
            await asyncio.sleep(0)
            yield number

    async def doubled(source):
        async for number in source:
            yield 2 * number

    async for _ in doubled(numbers()):
        pass


@FAMILY.workload("retry with a timeout, two failures", 1_000)
async def retry(n):
    async def fetch(attempt):
        await asyncio.sleep(0)
        if attempt < 2:
            raise ConnectionError

    for _ in range(n):
        for attempt in range(3):
            try:
                async with asyncio.timeout(30):
                    await fetch(attempt)
            except ConnectionError:
                await asyncio.sleep(0)


@FAMILY.workload("cancel and clean up", 2_000)
async def cancel_and_clean_up(n):
    async def wait_forever():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)

    for _ in range(n // 100):
        tasks = [asyncio.create_task(wait_forever()) for _ in range(100)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@FAMILY.workload("Condition, 20 waiters", 5_000)
async def condition(n):
    changed = asyncio.Condition()
    turn = 0

    async def wait():
        seen = 0
        async with changed:
            while seen < n // 20:
                await changed.wait_for(lambda: turn > seen)
                seen = turn

    async def notify():
        nonlocal turn
        while turn < n // 20:
            async with changed:
                turn += 1
                changed.notify_all()
            await asyncio.sleep(0)

    await asyncio.gather(notify(), *(wait() for _ in range(20)))


@FAMILY.workload("connection pool, async with", 3_000)
async def connection_pool(n):
    idle = asyncio.Queue()
    for connection in range(5):
        idle.put_nowait(connection)

    @asynccontextmanager
    async def acquire():
        connection = await idle.get()
        try:
            yield connection
        finally:
            idle.put_nowait(connection)

    async def query():
        async with acquire():
            await noop()
            await asyncio.sleep(0)

    await asyncio.gather(*(query() for _ in range(n)))

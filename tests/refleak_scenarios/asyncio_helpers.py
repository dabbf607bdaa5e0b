"""What asyncio makes of futures and tasks: groups, time limits, locks, asynchronous generators."""

import asyncio

from .env import Failure, fails, forever, raising, scenario, value


@scenario
async def gathering(env):
    await asyncio.gather(*(env.task(value()) for _ in range(5)))
    await asyncio.gather(value(), raising(), return_exceptions=True)
    await fails(asyncio.gather(value(), raising()))
    outer = asyncio.gather(forever(env), forever(env))
    await asyncio.sleep(0)
    outer.cancel()
    await fails(outer, asyncio.CancelledError)


@scenario
async def task_groups(env):
    async with asyncio.TaskGroup() as group:
        group.create_task(value())
        group.create_task(asyncio.sleep(0))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(raising())
            group.create_task(forever(env))
    except* Failure:
        pass


@scenario
async def time_limits(env):
    await asyncio.wait_for(value(), 10)
    await asyncio.wait_for(env.task(asyncio.sleep(0)), 10)
    await fails(asyncio.wait_for(env.future(), 0), TimeoutError)
    await fails(asyncio.wait_for(env.task(forever(env)), 0.00001), TimeoutError)
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(0):
            await env.future()
    except TimeoutError:
        pass


@scenario
async def shields_and_waits(env):
    inner = env.task(asyncio.sleep(0))
    await asyncio.shield(inner)
    inner = env.future()
    outer = asyncio.shield(inner)
    outer.cancel()
    inner.set_result(1)
    await fails(outer, asyncio.CancelledError)
    tasks = [env.task(value()), env.task(asyncio.sleep(0))]
    await asyncio.wait(tasks)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for next_done in asyncio.as_completed([env.task(value()), env.task(asyncio.sleep(0))]):
        await next_done


@scenario
async def locks_and_queues(env):
    lock, queue, event = asyncio.Lock(), asyncio.Queue(1), asyncio.Event()

    async def worker():
        async with lock:
            await queue.put(object())
        await event.wait()

    tasks = [env.task(worker()) for _ in range(3)]
    for _ in tasks:
        await queue.get()
    event.set()
    await asyncio.gather(*tasks)


@scenario
async def asynchronous_generators(env):
    async def numbers():
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)

    async for _ in numbers():
        pass
    async for _ in numbers():
        break
    abandoned = numbers()
    await abandoned.__anext__()
    del abandoned
    await asyncio.sleep(0)
    await asyncio.sleep(0)

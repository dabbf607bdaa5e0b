"""The default executor: what a call in another thread costs when the call itself does nothing."""

import asyncio

from .scheduling import Scheduling, nothing


class Executor(Scheduling):
    name = "executor"
    title = "Executor: ns per call, and times as fast as asyncio"
    goal_factor = 1


FAMILY = Executor()


@FAMILY.workload("run_in_executor, one after the other", 500, goal=2.2, headline=True)
async def run_in_executor_in_sequence(n):
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.run_in_executor(None, nothing)


@FAMILY.workload("run_in_executor, 100 at once", 1_000, goal=6, headline=True)
async def run_in_executor_at_once(n):
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        await asyncio.gather(*(loop.run_in_executor(None, nothing) for _ in range(100)))


@FAMILY.workload("to_thread, one after the other", 500, goal=2)
async def to_thread_in_sequence(n):
    for _ in range(n):
        await asyncio.to_thread(nothing)


@FAMILY.workload("to_thread beside a busy task", 200, goal=1)
async def to_thread_beside_a_busy_task(n):
    async def spin():
        while True:
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    for _ in range(n):
        await asyncio.to_thread(nothing)
    spinning.cancel()

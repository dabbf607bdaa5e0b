"""Scheduling: what callbacks, timers, tasks and futures cost when no I/O is involved.

The workloads are ordinary asyncio programs and know nothing of the loop they run on. Each does a
given number of operations, about 20 to 40 ms of them on stock asyncio.
"""

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

from .family import Family, LoopFactory, Metrics, Need, Workload

# The goals below are those on Python 3.14; on earlier ones three quarters are asked.
GOAL_FACTOR = 1 if sys.version_info >= (3, 14) else 0.75


class Scheduling(Family):
    name = "scheduling"
    title = "Scheduling: ns per operation, and times as fast as asyncio"
    unit = "ns"
    cost = "ns"
    goal_factor: float = GOAL_FACTOR

    def workload(
        self,
        name: str,
        operations: int,
        goal: float | None = None,
        *,
        needs: tuple[Need, ...] = (),
        headline: bool = False,
    ) -> Callable:
        """Decorator: a coroutine function of the number of operations, or, to make loops itself,
        a plain function of that number and the loop factory."""

        def add(function: Callable) -> Callable:
            def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
                with batch_runner(function, operations, new_event_loop) as run_batch:
                    run_batch()
                    cpu = process_time()
                    batches, elapsed = time_batches(run_batch, seconds)
                    cpu = process_time() - cpu
                done = batches * operations
                return {"ns": elapsed * 1e9 / done, "cpu_us": cpu * 1e6 / done}

            def repeat(new_event_loop: LoopFactory, batches: int) -> int:
                with batch_runner(function, operations, new_event_loop) as run_batch:
                    for _ in range(batches):
                        run_batch()
                return batches * operations

            wanted = goal and goal * self.goal_factor
            self.workloads.append(
                Workload(self, name, measure, repeat, wanted, needs=needs, headline=headline)
            )
            return function

        return add


@contextmanager
def batch_runner(
    function: Callable, operations: int, new_event_loop: LoopFactory
) -> Iterator[Callable[[], None]]:
    if inspect.iscoroutinefunction(function):
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            yield lambda: runner.run(function(operations))
    else:
        yield lambda: function(operations, new_event_loop)


def time_batches(run_batch: Callable[[], None], seconds: float) -> tuple[int, float]:
    """As many batches as fit into the time given, and the seconds they took."""
    batches = 0
    start = perf_counter()
    while True:
        run_batch()
        batches += 1
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return batches, elapsed


FAMILY = Scheduling()


@FAMILY.workload("call_soon chain", 20_000, goal=9, headline=True)
async def call_soon_chain(n):
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step():
        nonlocal n
        n -= 1
        if n:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


@FAMILY.workload("call_soon burst of 1000", 40_000, goal=5, headline=True)
async def call_soon_burst(n):
    loop = asyncio.get_running_loop()
    for _ in range(n // 1000):
        done = loop.create_future()
        for _ in range(999):
            loop.call_soon(nothing)
        loop.call_soon(done.set_result, None)
        await done


@FAMILY.workload("call_later fire", 10_000, goal=6, headline=True)
async def call_later_fire(n):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def fire():
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    # Due soon enough that no loop idles, and not in the order in which they are made.
    for i in range(n):
        loop.call_later((1 + i * 7 % 10) * 1e-6, fire)
    await done


@FAMILY.workload("call_later schedule + cancel", 10_000, goal=9, headline=True)
async def call_later_cancel(n):
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_later(30, nothing).cancel()
        await asyncio.sleep(0)


@FAMILY.workload("sleep(0) in one task", 10_000, goal=8, headline=True)
async def sleep_in_one_task(n):
    for _ in range(n):
        await asyncio.sleep(0)


@FAMILY.workload("sleep(0) in 100 tasks", 40_000, goal=4.5, headline=True)
async def sleep_in_100_tasks(n):
    await asyncio.gather(*(sleep_in_one_task(n // 100) for _ in range(100)))


@FAMILY.workload("create_task + await", 5_000, goal=9, headline=True)
async def create_task_and_await(n):
    for _ in range(n):
        await asyncio.create_task(noop())


@FAMILY.workload("gather(1000)", 10_000, goal=3, headline=True)
async def gather_1000(n):
    for _ in range(n // 1000):
        await asyncio.gather(*(noop() for _ in range(1000)))


@FAMILY.workload("TaskGroup(100)", 10_000, goal=3.5, headline=True)
async def task_group_100(n):
    for _ in range(n // 100):
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(noop())


@FAMILY.workload("future ping-pong, two tasks", 10_000, goal=7, headline=True)
async def future_ping_pong(n):
    loop = asyncio.get_running_loop()
    ball = [loop.create_future(), loop.create_future()]

    async def player(me):
        for _ in range(n // 2):
            await ball[me]
            ball[me] = loop.create_future()
            ball[1 - me].set_result(None)

    ball[0].set_result(None)
    await asyncio.gather(player(0), player(1))


@FAMILY.workload("Lock, 50 tasks", 10_000, goal=3.5, headline=True)
async def contended_lock(n):
    lock = asyncio.Lock()

    async def worker():
        for _ in range(n // 50):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*(worker() for _ in range(50)))


@FAMILY.workload("asyncio.timeout", 5_000, goal=2.5, headline=True)
async def timeout(n):
    for _ in range(n):
        async with asyncio.timeout(30):
            await asyncio.sleep(0)


@FAMILY.workload("wait_for", 5_000, goal=2.5, headline=True)
async def wait_for(n):
    loop = asyncio.get_running_loop()
    for _ in range(n):
        reply = loop.create_future()
        loop.call_soon(reply.set_result, None)
        await asyncio.wait_for(reply, 30)


@FAMILY.workload("call_soon_threadsafe", 10_000, goal=25, headline=True)
async def call_soon_threadsafe(n):
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def produce():
        for _ in range(n - 1):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=produce)
    thread.start()
    await done
    thread.join()


@FAMILY.workload("new loop + close", 300, goal=1, headline=True)
def new_loop_and_close(n, new_event_loop):
    for _ in range(n):
        new_event_loop().close()


def nothing():
    pass


async def noop():
    pass

"""Several things at once, and how to wait for them.

Guide topic: gather, create_task, wait, wait_for, as_completed, timeout and
TaskGroup.
"""

import asyncio
import random


async def deliver(parcel: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"{parcel} delivered"


async def gather_keeps_order() -> None:
    """gather: results in argument order, whatever finishes first"""
    finished = []

    async def logged(parcel: str, seconds: float) -> str:
        print("on its way:", parcel)
        result = await deliver(parcel, seconds)
        finished.append(parcel)
        return result

    results = await asyncio.gather(
        logged("lamp", 0.06), logged("book", 0.02), logged("chair", 0.1)
    )
    print("finished:", finished)
    print("results: ", results)


async def work_in_the_background() -> None:
    """create_task: start now, await later"""

    async def background() -> str:
        await asyncio.sleep(0.1)
        print("background work is over")
        return "report"

    task = asyncio.create_task(background(), name="reporter")
    print("main goes straight on, done:", task.done())
    await asyncio.sleep(0.02)
    print("main did something else, done:", task.done())
    print("awaited:", await task, "| name:", task.get_name(), "| done:", task.done())


async def tasks_by_hand() -> None:
    """gather does what awaiting one task after the other does"""
    tasks = [asyncio.create_task(deliver(name, 0.02)) for name in ("pen", "ink")]
    by_hand = [await task for task in tasks]
    gathered = await asyncio.gather(deliver("pen", 0.02), deliver("ink", 0.02))
    print(by_hand, "same:", by_hand == list(gathered))


async def keep_references() -> None:
    """background tasks live in a set until they are done"""
    running: set[asyncio.Task[str]] = set()
    for number in range(5):
        task = asyncio.create_task(deliver(f"letter {number}", 0.01))
        running.add(task)
        task.add_done_callback(running.discard)
    print("running:", len(running))
    await asyncio.gather(*running)
    await asyncio.sleep(0)
    print("running:", len(running))


async def wait_for_the_first() -> None:
    """wait: the first one to finish, then cancel the others"""
    tasks = [asyncio.create_task(deliver(f"courier {n}", n * 0.1)) for n in (1, 2, 3)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    print("done:", len(done), "pending:", len(pending))
    print(done.pop().result())
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    print("all the others cancelled:", all(task.cancelled() for task in pending))


async def other_ways_to_wait() -> None:
    """wait: until the first exception, until all are done, with a timeout"""

    async def broken_van() -> None:
        await asyncio.sleep(0.02)
        raise RuntimeError("flat tyre")

    tasks = [
        asyncio.create_task(deliver("sofa", 0.15)),
        asyncio.create_task(broken_van()),
    ]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    print("exception:", done.pop().exception(), "| still pending:", len(pending))
    done, pending = await asyncio.wait(pending, timeout=0.01)
    print("after a short timeout: done", len(done), "pending", len(pending))
    done, pending = await asyncio.wait(pending)
    print("after waiting for all: done", len(done), "pending", len(pending))


async def give_up_waiting() -> None:
    """wait_for: a result in time, or TimeoutError and a cancelled task"""
    print(await asyncio.wait_for(deliver("card", 0.01), timeout=5))
    slow = asyncio.create_task(deliver("piano", 30))
    try:
        await asyncio.wait_for(slow, timeout=0.05)
    except TimeoutError:
        print("timed out, task cancelled:", slow.cancelled())


async def as_they_arrive() -> None:
    """as_completed: the fastest first"""
    for next_one in asyncio.as_completed(
        [deliver("third", 0.11), deliver("first", 0.01), deliver("second", 0.06)]
    ):
        print(await next_one)


async def as_they_arrive_at_random() -> None:
    """as_completed: random delays, still sorted by arrival"""
    delays = random.sample([0.0, 0.04, 0.08, 0.12, 0.16], k=5)

    async def sleeper(delay: float) -> float:
        return await asyncio.sleep(delay, delay)

    arrived = [await c for c in asyncio.as_completed(map(sleeper, delays))]
    print(len(arrived), "arrived, in order of their delay:", arrived == sorted(delays))


async def timeout_block() -> None:
    """timeout: a deadline for everything in the block"""
    try:
        async with asyncio.timeout(0.15):
            print(await deliver("stamp", 0.01))
            print(await deliver("wardrobe", 30))
    except TimeoutError:
        print("the block ran out of time")

    async with asyncio.timeout(None) as deadline:
        loop = asyncio.get_running_loop()
        deadline.reschedule(loop.time() + 10)  # the deadline can be moved
        print(await deliver("mirror", 0.02), "| expired:", deadline.expired())


async def group_of_tasks() -> None:
    """TaskGroup: the block ends when every task in it has ended"""
    async with asyncio.TaskGroup() as group:
        hat = group.create_task(deliver("hat", 0.05))
        coat = group.create_task(deliver("coat", 0.02))
        print("inside the block, done:", hat.done(), coat.done())
    print("after the block:", hat.result(), "and", coat.result())


async def group_that_fails() -> None:
    """TaskGroup: one failure cancels the rest"""

    async def lose(parcel: str) -> None:
        await asyncio.sleep(0.02)
        raise LookupError(f"{parcel} lost")

    try:
        async with asyncio.TaskGroup() as group:
            safe = group.create_task(deliver("vase", 30))
            group.create_task(lose("clock"))
    except* LookupError as errors:
        print("caught:", [str(error) for error in errors.exceptions])
    print("the other task was cancelled:", safe.cancelled())


async def main() -> None:
    for demo in (
        gather_keeps_order,
        work_in_the_background,
        tasks_by_hand,
        keep_references,
        wait_for_the_first,
        other_ways_to_wait,
        give_up_waiting,
        as_they_arrive,
        as_they_arrive_at_random,
        timeout_block,
        group_of_tasks,
        group_that_fails,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    asyncio.run(main())

"""Stopping work that is under way.

Guide topic: Task.cancel, CancelledError and cleanup, timeouts that cancel,
shield, cancelling groups, and what asyncio.run does with leftovers.
"""

import asyncio


async def guard(label: str, rounds: list[int], pause: float) -> None:
    """Walk rounds until cancelled; tidy up and pass the cancellation on."""
    try:
        while True:
            rounds.append(len(rounds) + 1)
            await asyncio.sleep(pause)
    except asyncio.CancelledError:
        print(f"{label}: cancelled after some rounds, locking the doors")
        raise


async def cancel_a_loop() -> None:
    """cancel: the task sees CancelledError at its await"""
    rounds: list[int] = []
    task = asyncio.create_task(guard("guard", rounds, 0.1))
    await asyncio.sleep(0.25)
    print("cancel accepted:", task.cancel())
    try:
        await task
    except asyncio.CancelledError:
        print("main: the task is cancelled:", task.cancelled())
    print("rounds walked:", rounds)


async def cancel_before_the_start() -> None:
    """cancel: a task that never ran runs no cleanup either"""
    rounds: list[int] = []
    task = asyncio.create_task(guard("early", rounds, 0.1))
    task.cancel()
    await asyncio.wait([task])
    print("cancelled:", task.cancelled(), "| rounds:", rounds)


async def cancel_with_a_message() -> None:
    """cancel: a message travels with the cancellation"""
    task = asyncio.create_task(asyncio.sleep(30))
    await asyncio.sleep(0)
    task.cancel("closing time")
    try:
        await task
    except asyncio.CancelledError as error:
        print("message:", error.args)
    print("cancel again is refused:", task.cancel())


async def cleanup_may_await() -> None:
    """finally: the cleanup may await too"""
    log = []

    async def upload() -> None:
        log.append("connected")
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            log.append("disconnected")

    task = asyncio.create_task(upload())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print(log)


async def timeouts_cancel() -> None:
    """wait_for and timeout: they cancel what they wait for"""
    rounds: list[int] = []
    try:
        await asyncio.wait_for(guard("wait_for", rounds, 30), timeout=0.03)
    except TimeoutError:
        print("wait_for: TimeoutError, rounds:", rounds)

    rounds = []
    try:
        async with asyncio.timeout(0.03):
            await guard("timeout", rounds, 30)
    except TimeoutError:
        print("timeout: TimeoutError, rounds:", rounds)


async def refuse_to_stop() -> None:
    """a task may catch its cancellation and finish normally"""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None  # a coroutine runs in some task
            requests = task.cancelling()
            left = task.uncancel()
            return f"{requests} request, {left} left, finishing anyway"
        return "never reached"

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    print(await task, "| cancelled:", task.cancelled())


async def shielded() -> None:
    """shield: the waiter is cancelled, the work goes on"""
    work = asyncio.create_task(asyncio.sleep(0.1, "saved"))
    try:
        await asyncio.wait_for(asyncio.shield(work), timeout=0.02)
    except TimeoutError:
        print("gave up waiting, work cancelled:", work.cancelled())
    print("work:", await work)


async def cancel_a_gather() -> None:
    """gather: cancelling it cancels every child"""
    children = [asyncio.create_task(asyncio.sleep(30)) for _ in range(3)]
    everything = asyncio.gather(*children)
    await asyncio.sleep(0)
    everything.cancel()
    try:
        await everything
    except asyncio.CancelledError:
        print("children cancelled:", [child.cancelled() for child in children])


async def cancel_a_group() -> None:
    """TaskGroup: cancelling its owner cancels its tasks"""
    children: list[asyncio.Task[None]] = []

    async def owner() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                children.append(group.create_task(asyncio.sleep(30)))

    task = asyncio.create_task(owner())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    print("owner cancelled:", task.cancelled())
    print("children cancelled:", [child.cancelled() for child in children])


async def drop_the_slow_ones() -> None:
    """keep the first answer, cancel the rest"""

    async def server(name: str, delay: float) -> str:
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            print(f"{name} told to stop")
            raise
        return f"answer of {name}"

    race = [
        asyncio.create_task(server("near", 0.02)),
        asyncio.create_task(server("far", 30)),
    ]
    done, pending = await asyncio.wait(race, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    print([task.result() for task in done])


LEFTOVERS: list[asyncio.Task[None]] = []


async def leave_a_task_behind() -> None:
    """asyncio.run: tasks left over at the end are cancelled"""
    task = asyncio.create_task(guard("leftover", [], 30))
    LEFTOVERS.append(task)
    await asyncio.sleep(0)
    print("main is over, leftover done:", task.done())


async def main() -> None:
    for demo in (
        cancel_a_loop,
        cancel_before_the_start,
        cancel_with_a_message,
        cleanup_may_await,
        timeouts_cancel,
        refuse_to_stop,
        shielded,
        cancel_a_gather,
        cancel_a_group,
        drop_the_slow_ones,
        leave_a_task_behind,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    asyncio.run(main())
    print("after run, leftover cancelled:", LEFTOVERS[0].cancelled())

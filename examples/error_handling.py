"""Exceptions in concurrent code: where they come out, and where they hide.

Guide topic: try/except around await, gather with and without
return_exceptions, TaskGroup and except*, exceptions nobody looks at.
"""

import asyncio
import gc
from typing import Any


async def charge(card: str, seconds: float = 0.01) -> str:
    await asyncio.sleep(seconds)
    if card.startswith("bad"):
        raise ValueError(f"card {card} declined")
    return f"card {card} charged"


async def plain_try() -> None:
    """await raises like an ordinary call"""
    try:
        await charge("bad-1")
    except ValueError as error:
        print("caught:", error)
    else:
        print("not reached")
    finally:
        print("finally runs")


async def gather_raises_the_first() -> None:
    """gather: the first exception comes out, the others run on"""
    slow = asyncio.create_task(charge("7", 0.1))
    try:
        await asyncio.gather(slow, charge("bad-2"), charge("8"))
    except ValueError as error:
        print("caught:", error, "| slow one still running:", not slow.done())
    print("and it ends well:", await slow)


async def gather_returns_them() -> None:
    """gather: return_exceptions puts exceptions among the results"""
    results = await asyncio.gather(
        charge("1"), charge("bad-3"), charge("2"), return_exceptions=True
    )
    for result in results:
        if isinstance(result, Exception):
            print("failure:", type(result).__name__, result)
        else:
            print("success:", result)


async def several_kinds_of_failure() -> None:
    """TaskGroup: except* sorts the failures by type"""

    async def fail(error: Exception) -> None:
        raise error

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(ValueError("wrong amount")))
            group.create_task(fail(KeyError("customer")))
            group.create_task(fail(ValueError("wrong currency")))
    except* ValueError as group_of_errors:
        print("values:", [str(e) for e in group_of_errors.exceptions])
    except* LookupError as group_of_errors:
        print("lookups:", [e.args for e in group_of_errors.exceptions])


async def group_stops_the_others() -> None:
    """TaskGroup: healthy tasks are cancelled when one fails"""
    async with asyncio.TaskGroup() as outer:
        outer.create_task(asyncio.sleep(0.01))
        try:
            async with asyncio.TaskGroup() as group:
                healthy = group.create_task(charge("9", 30))
                group.create_task(charge("bad-4"))
        except* ValueError as errors:
            print("caught:", [str(error) for error in errors.exceptions])
    print("healthy task cancelled:", healthy.cancelled())


async def errors_as_they_come() -> None:
    """as_completed: every await may raise"""
    outcomes = []
    for nxt in asyncio.as_completed([charge("bad-5", 0.06), charge("3", 0.01)]):
        try:
            outcomes.append(await nxt)
        except ValueError as error:
            outcomes.append(f"failed: {error}")
    print(outcomes)


async def ask_the_task() -> None:
    """a finished task keeps its exception"""
    task = asyncio.create_task(charge("bad-6"))
    try:
        task.result()
    except asyncio.InvalidStateError:
        print("too early to ask")
    await asyncio.wait([task])
    print("exception:", repr(task.exception()))
    for attempt in ("once", "twice"):
        try:
            task.result()
        except ValueError:
            print("result() raises", attempt)


async def chain_of_causes() -> None:
    """translate an exception and keep its cause"""

    async def checkout(card: str) -> str:
        try:
            return await charge(card)
        except ValueError as error:
            raise RuntimeError("checkout failed") from error

    try:
        await checkout("bad-7")
    except RuntimeError as error:
        print(error, "<-", error.__cause__)


async def nobody_looks() -> None:
    """an exception nobody retrieves ends in the loop's exception handler"""
    reports = []

    def remember(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reports.append((context["message"], str(context["exception"])))

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(remember)
    task = asyncio.create_task(charge("bad-8"))
    await asyncio.sleep(0.1)
    print("nothing said so far:", reports)
    del task
    gc.collect()
    print("reported when the task goes away:", reports)

    reports.clear()
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    print("callbacks report too:", [text for _, text in reports])
    loop.set_exception_handler(None)


async def somebody_looks() -> None:
    """awaiting the task is what brings the exception back"""
    task = asyncio.create_task(charge("bad-9"))
    await asyncio.sleep(0.05)
    try:
        await task
    except ValueError as error:
        print("seen:", error)


async def main() -> None:
    for demo in (
        plain_try,
        gather_raises_the_first,
        gather_returns_them,
        several_kinds_of_failure,
        group_stops_the_others,
        errors_as_they_come,
        ask_the_task,
        chain_of_causes,
        nobody_looks,
        somebody_looks,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    try:
        asyncio.run(main())
        asyncio.run(charge("bad-10"))
    except ValueError as error:
        print("-- asyncio.run raises what the main coroutine raises")
        print("caught outside the loop:", error)

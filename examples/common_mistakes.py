"""The usual mistakes, each beside its repair.

Guide topic: forgotten await, tasks nobody waits for, sequential awaits,
mixing synchronous and asynchronous code, resources left open.
(blocking_detection.py and error_handling.py have the blocked loop and the
swallowed exception.)
"""

import asyncio
import gc
import time
import warnings
from typing import Self


async def quote(symbol: str) -> str:
    await asyncio.sleep(0.05)
    return f"{symbol} 10.50"


async def forgotten_await() -> None:
    """without await there is a coroutine object and a warning"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = quote("ABC")  # the mistake
        print("without await: a", type(result).__name__)
        del result
        gc.collect()
    print("warning:", [str(warning.message) for warning in caught])
    print("with await:", await quote("ABC"))


def task_nobody_waits_for() -> None:
    """a task without await dies with the loop"""
    log = []

    async def background() -> None:
        await asyncio.sleep(0.02)
        log.append("background finished")

    async def careless() -> None:
        asyncio.create_task(background())
        log.append("main finished")

    async def careful() -> None:
        task = asyncio.create_task(background())
        log.append("main finished its own part")
        await task

    asyncio.run(careless())
    print("careless:", log)
    log.clear()
    asyncio.run(careful())
    print("careful: ", log)


async def one_at_a_time() -> None:
    """awaits in a row, where a gather would do"""
    began = time.perf_counter()
    slowly = [await quote("A"), await quote("B"), await quote("C")]
    in_a_row = time.perf_counter() - began
    began = time.perf_counter()
    quickly = await asyncio.gather(quote("A"), quote("B"), quote("C"))
    together = time.perf_counter() - began
    print("same results:", slowly == list(quickly), "| gather faster:", together < in_a_row)


def await_in_a_plain_function() -> None:
    """await in a plain function is a syntax error"""
    source = "def plain():\n    return await quote('ABC')\n"
    try:
        compile(source, "plain.py", "exec")
    except SyntaxError as error:
        print("SyntaxError:", error.msg)
    print("asyncio.run instead:", asyncio.run(quote("ABC")))


async def loop_in_a_loop() -> None:
    """asyncio.run inside a running loop"""
    coro = quote("ABC")
    try:
        asyncio.run(coro)
    except RuntimeError as error:
        print("RuntimeError:", error)
    coro.close()
    print("await instead:", await quote("ABC"))


class Connection:
    """Complains when it is forgotten while open."""

    def __init__(self) -> None:
        self.open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.open = False

    def __del__(self) -> None:
        if self.open:
            print("  somebody forgot to close a connection")


async def left_open() -> None:
    """resources that nobody closes"""

    async def careless() -> None:
        Connection()
        raise LookupError("before close")

    async def careful() -> None:
        async with Connection():
            raise LookupError("inside the block")

    for attempt in (careless, careful):
        try:
            await attempt()
        except LookupError as error:
            print(f"{attempt.__name__}: {error}")


async def waited_twice() -> None:
    """a coroutine can be awaited once, a task any number of times"""
    coro = quote("ABC")
    await coro
    try:
        await coro
    except RuntimeError as error:
        print("RuntimeError:", error)
    task = asyncio.create_task(quote("ABC"))
    print("task:", await task, "and again:", await task)


def main() -> None:
    for demo in (
        forgotten_await,
        task_nobody_waits_for,
        one_at_a_time,
        await_in_a_plain_function,
        loop_in_a_loop,
        left_open,
        waited_twice,
    ):
        print(f"-- {demo.__doc__}")
        result = demo()
        if result is not None:
            asyncio.run(result)


if __name__ == "__main__":
    main()

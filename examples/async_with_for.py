"""Resources, iteration and comprehensions that may await.

Guide topic: async with, async for, asynchronous iterators and generators,
comprehensions, contextlib.asynccontextmanager.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from types import TracebackType
from typing import Self


class Telescope:
    """Opening and closing take a while, so both are coroutines."""

    async def __aenter__(self) -> Self:
        print("opening the dome")
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # a true value would swallow the exception
        await asyncio.sleep(0.01)
        print("closing the dome after", exc_type.__name__ if exc_type else "success")

    async def look_at(self, target: str) -> str:
        await asyncio.sleep(0.01)
        if target == "sun":
            raise ValueError("never look at the sun")
        return f"{target} seen"


async def enter_and_leave() -> None:
    """async with: set up, use, tear down"""
    async with Telescope() as telescope:
        print(await telescope.look_at("moon"))


async def leave_by_exception() -> None:
    """async with: torn down after an exception too"""
    try:
        async with Telescope() as telescope:
            await telescope.look_at("sun")
    except ValueError as error:
        print("caught:", error)


@asynccontextmanager
async def stopwatch(label: str) -> AsyncIterator[dict[str, float]]:
    began = time.perf_counter()
    lap: dict[str, float] = {}
    try:
        yield lap
    finally:
        lap["seconds"] = time.perf_counter() - began
        print(label, "measured")


async def context_manager_from_a_generator() -> None:
    """asynccontextmanager: one generator instead of a class"""
    async with stopwatch("a nap") as lap:
        await asyncio.sleep(0.1)
    print("at least 0.1 s:", lap["seconds"] >= 0.1)
    try:
        async with stopwatch("a bad nap"):
            raise InterruptedError("doorbell")
    except InterruptedError as error:
        print("woken by the", error)


async def many_resources() -> None:
    """AsyncExitStack: as many resources as the data asks for"""
    log = []

    @asynccontextmanager
    async def borrowed(book: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        log.append(f"+{book}")
        yield book
        log.append(f"-{book}")

    async with AsyncExitStack() as stack:
        books = [await stack.enter_async_context(borrowed(b)) for b in "abc"]
        print("borrowed:", books)
    print(" ".join(log))


class Countdown:
    """An asynchronous iterator written as a class."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            raise StopAsyncIteration
        await asyncio.sleep(0.005)
        self.left -= 1
        return self.left + 1


async def ticks(count: int, pause: float = 0.005) -> AsyncIterator[int]:
    """The same idea as an asynchronous generator."""
    for number in range(count):
        await asyncio.sleep(pause)
        yield number


async def iterate() -> None:
    """async for: over an iterator class and over a generator"""
    async for number in Countdown(3):
        print("countdown", number)
    async for number in ticks(3):
        print("tick", number)
    print("no more ticks")


async def iterate_concurrently() -> None:
    """async for: two loops take turns"""

    async def collect(name: str, seen: list[str], start: float) -> None:
        await asyncio.sleep(start)
        async for number in ticks(3, pause=0.08):
            seen.append(f"{name}{number}")

    seen: list[str] = []
    await asyncio.gather(collect("a", seen, 0), collect("b", seen, 0.04))
    print(seen)


async def comprehensions() -> None:
    """comprehensions: list, set, dict, and a filter"""
    print([n async for n in ticks(5)])
    print({n: n * n async for n in ticks(4)})
    print(sorted({n % 2 async for n in ticks(4)}))
    print([n async for n in ticks(6) if n % 2])

    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    print([await double(n) for n in range(4)])
    lazily = (await double(n) async for n in ticks(4))
    print("generator expression:", [n async for n in lazily])


async def chunks(data: list[int], size: int) -> AsyncIterator[list[int]]:
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def in_chunks() -> None:
    """a generator hands out data piece by piece"""
    async for piece in chunks(list(range(20)), 8):
        print("piece:", piece)


async def pipeline() -> None:
    """generators feed generators"""

    async def evens(source: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in source:
            if number % 2 == 0:
                yield number

    async def labelled(source: AsyncIterator[int]) -> AsyncIterator[str]:
        async for number in source:
            yield f"no. {number}"

    print([text async for text in labelled(evens(ticks(6)))])


async def tracked(log: list[str]) -> AsyncGenerator[int, None]:
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)  # cleanup may await
        log.append("generator closed")


async def stop_early() -> None:
    """break: aclosing closes at once, otherwise the loop closes it later"""
    log: list[str] = []
    async with aclosing(tracked(log)) as numbers:
        async for number in numbers:
            if number == 2:
                break
    print("aclosing:", log)

    log.clear()
    async for number in tracked(log):
        if number == 2:
            break
    await asyncio.sleep(0.02)  # the loop's generator hooks do their work
    print("dropped: ", log)


HELD: list[AsyncIterator[int]] = []
LATE_LOG: list[str] = []


async def leave_one_open() -> None:
    """a generator still open at the end is closed by asyncio.run"""
    numbers = tracked(LATE_LOG)
    HELD.append(numbers)
    print("first value:", await anext(numbers))
    print("closed yet:", bool(LATE_LOG))


async def main() -> None:
    for demo in (
        enter_and_leave,
        leave_by_exception,
        context_manager_from_a_generator,
        many_resources,
        iterate,
        iterate_concurrently,
        comprehensions,
        in_chunks,
        pipeline,
        stop_early,
        leave_one_open,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    asyncio.run(main())
    print("after run:", LATE_LOG)

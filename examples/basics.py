"""Coroutines, await and the event loop: what runs, and when.

Guide topic: the waiting problem, synchronous against asynchronous code,
coroutine objects, tracing one await, calling async code from sync code.
"""

import asyncio
import inspect
import time
import types
from collections import deque
from collections.abc import Generator

DELAY = 0.1
STATIONS = ["north", "south", "harbour"]


def read_station_blocking(name: str) -> str:
    time.sleep(DELAY)  # the whole thread stands still
    return f"{name}: 21 C"


async def read_station(name: str) -> str:
    await asyncio.sleep(DELAY)  # only this coroutine stands still
    return f"{name}: 21 C"


def blocking_calls_add_up() -> None:
    """blocking calls: the waits add up"""
    began = time.perf_counter()
    readings = [read_station_blocking(name) for name in STATIONS]
    took = time.perf_counter() - began
    print(readings)
    print("at least three delays long:", took >= 3 * DELAY)


def concurrent_waits_overlap() -> None:
    """concurrent coroutines: the waits overlap"""

    async def logged(name: str) -> str:
        print("asking", name)
        reading = await read_station(name)
        print("answer from", name)
        return reading

    async def read_all() -> list[str]:
        return await asyncio.gather(*(logged(name) for name in STATIONS))

    began = time.perf_counter()
    readings = asyncio.run(read_all())
    took = time.perf_counter() - began
    print(readings)
    print("shorter than three delays:", took < 3 * DELAY)


def calling_is_not_running() -> None:
    """calling a coroutine function does not run its body"""

    async def answer() -> int:
        print("the body runs")
        return 42

    coro = answer()
    print("got a", type(coro).__name__, "in state", inspect.getcoroutinestate(coro))
    print("asyncio.run gives", asyncio.run(coro))
    print("now in state", inspect.getcoroutinestate(coro))


def hello_then_world() -> None:
    """asyncio.run starts a loop, runs one coroutine and closes the loop"""

    async def main() -> None:
        print("one moment")
        await asyncio.sleep(0.02)
        print("thank you")

    asyncio.run(main())


def what_an_await_does() -> None:
    """control passes down into the awaited coroutine and back up"""

    async def inner() -> str:
        print("  2. inner begins")
        await asyncio.sleep(0.02)
        print("  4. inner goes on after its sleep")
        return "parcel"

    async def bystander() -> None:
        print("  3. inner sleeps, so somebody else may run")

    async def outer() -> None:
        other = asyncio.create_task(bystander())
        print("  1. outer begins and awaits inner")
        result = await inner()
        print("  5. outer has the", result)
        await other

    asyncio.run(outer())


def awaiting_in_sequence() -> None:
    """two awaits in a row are sequential, two in a gather are not"""

    async def step(name: str, seconds: float) -> str:
        print("begin", name)
        await asyncio.sleep(seconds)
        print("end  ", name)
        return name

    async def main() -> None:
        dough = await step("knead", 0.06)
        oven = await step("heat the oven", 0.02)
        print("sequential:", [dough, oven])
        both = await asyncio.gather(step("knead", 0.06), step("heat the oven", 0.02))
        print("concurrent:", both)

    asyncio.run(main())


def a_list_of_tasks() -> None:
    """one task per item, then all the results in one list"""

    async def main() -> list[str]:
        tasks = [asyncio.create_task(read_station(n)) for n in STATIONS]
        return await asyncio.gather(*tasks)

    for reading in asyncio.run(main()):
        print(reading)


def async_from_sync() -> None:
    """three ways into async code from an ordinary function"""
    print("asyncio.run:", asyncio.run(read_station("north")))

    with asyncio.Runner() as runner:  # one loop for several calls
        first = runner.run(read_station("south"))
        second = runner.run(read_station("harbour"))
    print("asyncio.Runner:", first, "and", second)

    loop = asyncio.new_event_loop()
    try:
        result = loop.run_until_complete(read_station("north"))
    finally:
        loop.close()
    print("run_until_complete:", result, "| loop closed:", loop.is_closed())


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """The smallest awaitable: hand control to whoever drives us."""
    yield


def a_loop_is_not_magic() -> None:
    """a scheduler of a dozen lines drives the same kind of coroutine"""

    async def count(name: str, upto: int) -> str:
        for number in range(1, upto + 1):
            print(f"  {name} {number}")
            await give_way()
        return f"{name} counted to {upto}"

    ready = deque([count("a", 2), count("b", 3)])
    while ready:
        coro = ready.popleft()
        try:
            coro.send(None)  # run it up to its next await
        except StopIteration as stop:
            print(stop.value)
        else:
            ready.append(coro)


def main() -> None:
    for demo in (
        blocking_calls_add_up,
        concurrent_waits_overlap,
        calling_is_not_running,
        hello_then_world,
        what_an_await_does,
        awaiting_in_sequence,
        a_list_of_tasks,
        async_from_sync,
        a_loop_is_not_magic,
    ):
        print(f"-- {demo.__doc__}")
        demo()


if __name__ == "__main__":
    main()

"""Patterns that most asynchronous programs need sooner or later.

Guide topic: rate limiting, retry with exponential backoff, a timeout wrapper,
bounded concurrency, streaming responses. (http_patterns.py has the same over
HTTP with httpx.)
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def slots_with_a_pause() -> None:
    """rate limiting: a few slots, each kept a little longer than needed"""
    slots = asyncio.Semaphore(3)
    begun: list[float] = []
    loop = asyncio.get_running_loop()

    async def ask(item: int) -> str:
        async with slots:
            begun.append(loop.time())
            await asyncio.sleep(0.01)  # the request itself
            await asyncio.sleep(0.04)  # the pause before the slot is free
            return f"item {item}"

    answers = await asyncio.gather(*(ask(n) for n in range(9)))
    print(len(answers), "answers, last:", answers[-1])
    print("the second three waited:", begun[3] - begun[0] >= 0.05)
    print("the last three waited twice:", begun[8] - begun[0] >= 0.1)


class Metronome:
    """Lets one caller pass per interval."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.next_slot = 0.0

    async def wait_for_turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        turn = max(now, self.next_slot)
        self.next_slot = turn + self.interval
        await asyncio.sleep(turn - now)


async def one_per_interval() -> None:
    """rate limiting: so many requests per second"""
    metronome = Metronome(0.02)
    order = []
    loop = asyncio.get_running_loop()

    async def ask(item: int) -> None:
        await metronome.wait_for_turn()
        order.append(item)

    began = loop.time()
    await asyncio.gather(*(ask(n) for n in range(6)))
    took = loop.time() - began
    print("order:", order, "| five intervals passed:", took >= 0.1)


class FlakyService:
    """Fails a given number of times, then works."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def call(self) -> str:
        await asyncio.sleep(0.001)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("service unavailable")
        return "payload"


async def with_retries(
    operation: Callable[[], Awaitable[T]], attempts: int = 4, base: float = 0.01
) -> T:
    """Try again after base, 2*base, 4*base ... seconds plus jitter."""
    for attempt in range(1, attempts + 1):
        try:
            return await operation()
        except ConnectionError as error:
            if attempt == attempts:
                raise
            doubled = 2 ** (attempt - 1)
            print(f"attempt {attempt}: {error}, backing off {doubled} x base")
            await asyncio.sleep(base * doubled + random.uniform(0, base))
    raise AssertionError("not reached")


async def retry_until_it_works() -> None:
    """retry: exponential backoff until the service recovers"""
    print(await with_retries(FlakyService(failures=2).call))


async def retry_and_give_up() -> None:
    """retry: the last failure is the caller's"""
    try:
        await with_retries(FlakyService(failures=99).call, attempts=3)
    except ConnectionError as error:
        print("gave up:", error)


async def in_time(
    work: Coroutine[Any, Any, T], seconds: float, default: T | None = None
) -> T | None:
    """The result of work, or default when it takes too long."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:  # noqa: UP041 - the older name of TimeoutError
        return default


async def timeout_wrapper() -> None:
    """timeout wrapper: a default instead of an exception"""

    async def oracle(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "42"

    print("quick oracle:", await in_time(oracle(0.01), 5, default="no answer"))
    print("slow oracle: ", await in_time(oracle(30), 0.05, default="no answer"))
    print("no default:  ", await in_time(oracle(30), 0.01))


async def many_but_not_too_many() -> None:
    """bounded concurrency: five hundred jobs, twenty at a time"""
    limit = asyncio.Semaphore(20)
    inside = peak = 0

    async def job(number: int) -> int:
        nonlocal inside, peak
        async with limit:
            inside += 1
            peak = max(peak, inside)
            await asyncio.sleep(0)
            inside -= 1
            return number

    results = await asyncio.gather(*(job(n) for n in range(500)))
    print("sum:", sum(results), "| most at the same time:", peak)


async def tell_a_joke(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers word by word, the way language models do."""
    prompt = (await reader.readline()).decode().strip()
    for word in f"{prompt}? To get to the other side.".split():
        writer.write(f"data: {word}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(0.005)
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def stream_words(port: int, prompt: str) -> AsyncIterator[str]:
    """Yield the words of the answer as they arrive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{prompt}\n".encode())
        await writer.drain()
        async for line in reader:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "data" and value == "[DONE]":
                return
            if field == "data":
                yield value
    finally:
        writer.close()
        await writer.wait_closed()


async def streaming_response() -> None:
    """streaming: an asynchronous generator over a connection"""
    server = await asyncio.start_server(tell_a_joke, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async for word in stream_words(port, "Why did the chicken cross the road"):
            print(word, end=" ", flush=True)
        print()
        answers = await asyncio.gather(
            *(collect(stream_words(port, f"Why number {n}")) for n in (1, 2, 3))
        )
    print([words[2] for words in answers], "| words each:", {*map(len, answers)})


async def collect(stream: AsyncIterator[str]) -> list[str]:
    return [word async for word in stream]


async def main() -> None:
    for demo in (
        slots_with_a_pause,
        one_per_interval,
        retry_until_it_works,
        retry_and_give_up,
        timeout_wrapper,
        many_but_not_too_many,
        streaming_response,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    asyncio.run(main())

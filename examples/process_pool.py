"""CPU-bound work in other processes, driven from the loop.

Guide topic: when not to use async, ProcessPoolExecutor, the hybrid of
asynchronous input and computation in processes.

The workers import this file (forkserver, spawn) or are forked from it: what
they call stands at module level, and the program starts under the guard at
the end.
"""

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def count_primes(limit: int) -> int:
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(sieve)


def total_length(words: list[str]) -> int:
    return sum(map(len, words))


def refuse(reason: str) -> None:
    raise RuntimeError(reason)


def in_another_process(parent: int) -> bool:
    return os.getpid() != parent


def without_a_loop(pool: ProcessPoolExecutor) -> None:
    """a process pool alone: submit and wait for the result"""
    future = pool.submit(count_primes, 10_000)
    print("primes below 10000:", future.result())


async def from_the_loop(pool: ProcessPoolExecutor) -> None:
    """run_in_executor: the same pool, awaited"""
    loop = asyncio.get_running_loop()
    limits = [10, 1_000, 100_000]
    counts = await asyncio.gather(
        *(loop.run_in_executor(pool, count_primes, limit) for limit in limits)
    )
    print(dict(zip(limits, counts, strict=True)))
    elsewhere = await loop.run_in_executor(pool, in_another_process, os.getpid())
    print("in another process:", elsewhere)


async def loop_stays_awake(pool: ProcessPoolExecutor) -> None:
    """the loop keeps working while the processes compute"""
    loop = asyncio.get_running_loop()
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heart = asyncio.create_task(heartbeat())
    results = await asyncio.gather(
        loop.run_in_executor(pool, fibonacci, 26),
        loop.run_in_executor(pool, fibonacci, 27),
    )
    heart.cancel()
    print("fibonacci:", results, "| the heart kept beating:", beats > 0)


async def fetch_words(page: int) -> list[str]:
    await asyncio.sleep(0.02)  # stands for the network
    return [f"word{n}" for n in range(page * 10)]


async def hybrid(pool: ProcessPoolExecutor) -> None:
    """fetch asynchronously, compute in processes"""
    loop = asyncio.get_running_loop()

    async def process_page(page: int) -> int:
        words = await fetch_words(page)
        return await loop.run_in_executor(pool, total_length, words)

    print(await asyncio.gather(*(process_page(page) for page in (1, 2, 3))))


async def errors_come_back(pool: ProcessPoolExecutor) -> None:
    """an exception in a process is raised at the await"""
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(pool, refuse, "out of numbers")
    except RuntimeError as error:
        print("caught:", error)


async def main(pool: ProcessPoolExecutor) -> None:
    for demo in (from_the_loop, loop_stays_awake, hybrid, errors_come_back):
        print(f"-- {demo.__doc__}")
        await demo(pool)


async def pool_made_inside() -> None:
    """a pool made while the loop runs"""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(max_workers=1) as pool:
        print("primes below 100:", await loop.run_in_executor(pool, count_primes, 100))


if __name__ == "__main__":
    print(f"-- {pool_made_inside.__doc__}")
    asyncio.run(pool_made_inside())
    with ProcessPoolExecutor(max_workers=2) as shared_pool:
        print(f"-- {without_a_loop.__doc__}")
        without_a_loop(shared_pool)
        asyncio.run(main(shared_pool))

"""Coroutines that share something: who may go, who has to wait.

Guide topic: Semaphore, Lock, Event, Condition, and Queue for producers and
consumers.
"""

import asyncio


class Gauge:
    """Counts who is inside, and remembers the most there ever were."""

    def __init__(self) -> None:
        self.inside = self.peak = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)

    def __exit__(self, *exc_info: object) -> None:
        self.inside -= 1


async def at_most_three() -> None:
    """Semaphore: ten pages, three at a time"""
    turnstile = asyncio.Semaphore(3)
    gauge = Gauge()

    async def download(page: int) -> str:
        async with turnstile:
            with gauge:
                await asyncio.sleep(0.02)
        return f"page {page}"

    pages = await asyncio.gather(*(download(n) for n in range(10)))
    print(len(pages), "pages, last:", pages[-1])
    print("most at the same time:", gauge.peak)


async def first_come_first_served() -> None:
    """Semaphore: waiters are served in the order they came"""
    turnstile = asyncio.Semaphore(1)
    served = []

    async def visitor(name: str) -> None:
        async with turnstile:
            served.append(name)
            await asyncio.sleep(0.005)

    await asyncio.gather(*(visitor(name) for name in "ABCDE"))
    print("served:", "".join(served), "| free again:", not turnstile.locked())


class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.lock = asyncio.Lock()

    async def deposit(self, amount: int) -> None:
        before = self.balance
        await asyncio.sleep(0.005)  # somebody else may run here
        self.balance = before + amount

    async def deposit_safely(self, amount: int) -> None:
        async with self.lock:
            await self.deposit(amount)


async def lost_updates() -> None:
    """Lock: without it updates get lost, with it none does"""
    careless, careful = Account(), Account()
    await asyncio.gather(*(careless.deposit(1) for _ in range(10)))
    await asyncio.gather(*(careful.deposit_safely(1) for _ in range(10)))
    print("without a lock:", careless.balance)
    print("with a lock:   ", careful.balance)


async def starting_gun() -> None:
    """Event: everybody waits for one signal"""
    gun = asyncio.Event()
    running = []

    async def runner(number: int) -> None:
        await gun.wait()
        running.append(number)

    runners = [asyncio.create_task(runner(n)) for n in range(4)]
    await asyncio.sleep(0.02)
    print("before the signal:", running)
    gun.set()
    await asyncio.gather(*runners)
    print("after the signal: ", running)
    gun.clear()
    print("can be used again, set:", gun.is_set())


async def wait_for_a_condition() -> None:
    """Condition: wait until the shared state is as wanted"""
    shelf: list[str] = []
    changed = asyncio.Condition()

    async def customer() -> str:
        async with changed:
            await changed.wait_for(lambda: len(shelf) == 3)
            return f"buys {len(shelf)} things"

    task = asyncio.create_task(customer())
    for thing in ("bread", "milk", "tea"):
        await asyncio.sleep(0.005)
        async with changed:
            shelf.append(thing)
            changed.notify_all()
    print(await task)


async def producers_and_consumers() -> None:
    """Queue: two producers, three consumers, join, cancel the idle ones"""
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=4)
    cooked: list[str] = []

    async def waiter(table: int) -> None:
        for dish in range(5):
            await queue.put(f"table {table} dish {dish}")
            await asyncio.sleep(0.005)

    async def cook() -> None:
        while True:
            order = await queue.get()
            await asyncio.sleep(0.01)
            cooked.append(order)
            queue.task_done()

    waiters = [asyncio.create_task(waiter(n)) for n in (1, 2)]
    cooks = [asyncio.create_task(cook()) for _ in range(3)]
    await asyncio.gather(*waiters)
    await queue.join()  # every order is done
    for task in cooks:
        task.cancel()
    await asyncio.gather(*cooks, return_exceptions=True)
    print("orders cooked:", len(cooked), "| left in the queue:", queue.qsize())
    print("first and last in order:", min(cooked), "...", max(cooked))
    print("cooks cancelled:", [task.cancelled() for task in cooks])


async def end_marker() -> None:
    """Queue: a marker for every consumer says that nothing more comes"""
    queue: asyncio.Queue[int | None] = asyncio.Queue()
    consumers = 2

    async def produce() -> None:
        for number in range(8):
            await asyncio.sleep(0.005)
            await queue.put(number)
        for _ in range(consumers):
            await queue.put(None)

    async def consume() -> list[int]:
        squares = []
        while (number := await queue.get()) is not None:
            await asyncio.sleep(0.01)
            squares.append(number * number)
        return squares

    producer = asyncio.create_task(produce())
    shares = await asyncio.gather(*(consume() for _ in range(consumers)))
    await producer
    print("all squares:", sorted(square for share in shares for square in share))
    print("everybody had something to do:", all(shares))


async def pressure() -> None:
    """Queue: put waits while the queue is full"""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    sizes = []

    async def fast_producer() -> None:
        for number in range(6):
            await queue.put(number)
            sizes.append(queue.qsize())

    task = asyncio.create_task(fast_producer())
    await asyncio.sleep(0.01)
    print("full:", queue.full(), "| producer finished:", task.done())
    taken = [await queue.get() for _ in range(6)]
    await task
    print("taken:", taken, "| never more than two inside:", max(sizes) <= 2)


async def main() -> None:
    for demo in (
        at_most_three,
        first_come_first_served,
        lost_updates,
        starting_gun,
        wait_for_a_condition,
        producers_and_consumers,
        end_marker,
        pressure,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    asyncio.run(main())

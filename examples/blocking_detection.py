"""Finding code that blocks the loop.

Guide topic: what blocking does to everybody else, debug mode and its slow
callback warnings, and the two ways out.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

BLOCK = 0.15  # debug mode tolerates 0.1


class SlowCallbacks(logging.Handler):
    """Keeps the names in asyncio's "Executing <...> took ... seconds"."""

    PATTERN = re.compile(r"Executing <.*?(?:coro=<|Handle )(\w+)\(.* took (\S+) seconds")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        match = self.PATTERN.search(record.getMessage())
        if match:
            self.found[match[1]] = float(match[2])

    def report(self, *names: str) -> None:
        for name in names:
            slow = self.found.get(name, 0) >= BLOCK
            print(f"{name}:", f"blocked the loop {BLOCK} s or more" if slow else "fine")


async def rude() -> None:
    print("rude begins")
    time.sleep(BLOCK)  # noqa: ASYNC251 - nobody else can run
    print("rude ends")


async def polite() -> None:
    print("polite begins")
    await asyncio.sleep(BLOCK)
    print("polite ends")


async def threaded() -> None:
    print("threaded begins")
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, BLOCK)
    print("threaded ends")


async def bystander() -> None:
    print("  bystander begins")
    await asyncio.sleep(0.05)
    print("  bystander ends")


def rude_callback() -> None:
    time.sleep(BLOCK)


async def who_waits_for_whom() -> None:
    """the bystander's turn comes after rude, but beside polite and threaded"""
    for worker in (rude, polite, threaded):
        await asyncio.gather(worker(), bystander())


async def slow_tasks() -> None:
    """debug mode names the task that blocked"""
    for worker in (rude, polite, threaded):
        await asyncio.create_task(worker())


async def slow_callback() -> None:
    """debug mode names the plain callback that blocked"""
    asyncio.get_running_loop().call_soon(rude_callback)
    await asyncio.sleep(BLOCK)


async def switched_on_late() -> None:
    """set_debug: counts from the next step of the loop on"""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    # This step began without debug mode: nobody notices.
    time.sleep(BLOCK)  # noqa: ASYNC251
    await asyncio.sleep(0)
    print("debug:", loop.get_debug())


async def switched_on_in_time() -> None:
    """set_debug: and here the next step does block"""
    asyncio.get_running_loop().set_debug(True)
    await asyncio.sleep(0)
    time.sleep(BLOCK)  # noqa: ASYNC251


async def higher_threshold() -> None:
    """slow_callback_duration: how slow is slow"""
    asyncio.get_running_loop().slow_callback_duration = 30
    await asyncio.gather(rude())


async def wrong_thread() -> None:
    """debug mode notices call_soon from another thread"""
    loop = asyncio.get_running_loop()
    try:
        await asyncio.to_thread(loop.call_soon, print, "never printed")
    except RuntimeError as error:
        print("RuntimeError:", error)
    await asyncio.to_thread(loop.call_soon_threadsafe, print, "this is the way")
    await asyncio.sleep(0)


def run_and_report(
    program: Callable[[], Coroutine[Any, Any, None]], *names: str, debug: bool | None = None) -> None:
    print(f"-- {program.__doc__}")
    slow = SlowCallbacks()
    logger = logging.getLogger("asyncio")
    logger.addHandler(slow)
    try:
        asyncio.run(program(), debug=debug)
    finally:
        logger.removeHandler(slow)
    slow.report(*names)


if __name__ == "__main__":
    logging.getLogger("asyncio").propagate = False
    run_and_report(who_waits_for_whom)
    run_and_report(slow_tasks, "rude", "polite", "threaded", debug=True)
    run_and_report(slow_callback, "rude_callback", debug=True)
    run_and_report(switched_on_late, "switched_on_late", debug=False)
    run_and_report(switched_on_in_time, "switched_on_in_time", debug=False)
    run_and_report(higher_threshold, "rude", debug=True)
    run_and_report(wrong_thread, debug=True)

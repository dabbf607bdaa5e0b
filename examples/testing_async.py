"""Tests for asynchronous code.

Guide topic: testing async code. The guide uses pytest-asyncio; the standard
library's unittest.IsolatedAsyncioTestCase and AsyncMock do the same job.
"""

import asyncio
import sys
import unittest
from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock


async def greet(name: str) -> str:
    await asyncio.sleep(0)
    if not name:
        raise ValueError("whom?")
    return f"good morning, {name}"


async def headline(fetch: Callable[[str], Awaitable[str]]) -> str:
    """Depends on a coroutine function that tests can replace."""
    return (await fetch("news")).upper()


class GreetingTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.names: asyncio.Queue[str] = asyncio.Queue()
        await self.names.put("Grace")
        self.addAsyncCleanup(asyncio.sleep, 0)

    async def asyncTearDown(self) -> None:
        self.assertTrue(self.names.empty())

    async def test_result(self) -> None:
        self.assertEqual(await greet(await self.names.get()), "good morning, Grace")

    async def test_concurrent_results(self) -> None:
        first = self.names.get_nowait()
        both = await asyncio.gather(greet(first), greet("Alan"))
        self.assertEqual(both, ["good morning, Grace", "good morning, Alan"])

    async def test_error(self) -> None:
        self.names.get_nowait()
        with self.assertRaisesRegex(ValueError, "whom"):
            await greet("")

    async def test_timeout(self) -> None:
        self.names.get_nowait()
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.01):
                await self.names.get()


class HeadlineTest(unittest.IsolatedAsyncioTestCase):
    async def test_with_a_stub(self) -> None:
        async def stub(topic: str) -> str:
            return f"no {topic}"

        self.assertEqual(await headline(stub), "NO NEWS")

    async def test_with_a_mock(self) -> None:
        fetch = AsyncMock(return_value="rain")
        self.assertEqual(await headline(fetch), "RAIN")
        fetch.assert_awaited_once_with("news")

    async def test_with_a_failing_mock(self) -> None:
        fetch = AsyncMock(side_effect=[ConnectionError("offline"), "sun"])
        with self.assertRaises(ConnectionError):
            await headline(fetch)
        self.assertEqual(await headline(fetch), "SUN")
        self.assertEqual(fetch.await_count, 2)

    async def test_loop_is_in_debug_mode(self) -> None:
        self.assertTrue(asyncio.get_running_loop().get_debug())


class PlainReport(unittest.TestResult):
    """One line a test, without timings."""

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        print("ok    ", test.id().partition(".")[2])


if __name__ == "__main__":
    report = PlainReport()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__]).run(report)
    for test, traceback in report.failures + report.errors:
        print("FAILED", test.id().partition(".")[2], traceback)
    print(report.testsRun, "tests, all passed:", report.wasSuccessful())
    sys.exit(not report.wasSuccessful())

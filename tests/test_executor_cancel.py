"""Calls on the default executor that are cancelled before they begin or while they run."""

import asyncio
import functools
import threading
import weakref

import pytest
from support import until
from workers import LIMIT, all_busy, raised

pytestmark = pytest.mark.usefixtures("no_worker_left")


def test_a_call_cancelled_before_it_begins_never_runs(loop, run):
    async def main():
        go_on = threading.Event()
        busy = await all_busy(loop, go_on)
        ran = []
        calls = [loop.run_in_executor(None, ran.append, n) for n in range(20)]
        for call in calls[::2]:
            assert call.cancel()
        await asyncio.sleep(0.001)
        go_on.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[::2]] == [asyncio.CancelledError] * 10
        assert sorted(ran) == list(range(1, 20, 2))
        await asyncio.gather(*busy)

    run(main())


def test_a_call_cancelled_while_it_runs_goes_on_unheard(loop, run):
    async def main():
        for result in int, functools.partial(raised, ValueError("nobody hears")):
            go_on, ended = threading.Event(), threading.Event()
            begun = threading.Event()

            def work(begun=begun, go_on=go_on, ended=ended, result=result):
                begun.set()
                go_on.wait(LIMIT)
                ended.set()
                return result()

            call = asyncio.ensure_future(asyncio.to_thread(work))
            await until(begun.is_set)
            call.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not ended.is_set()
            go_on.set()
            await until(ended.is_set)
        assert await asyncio.to_thread(pow, 3, 2) == 9

    run(main())


def test_a_timeout_around_a_call(loop, run):
    async def main():
        go_on = threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.to_thread(go_on.wait, LIMIT)
        go_on.set()

    run(main())


def test_what_belongs_to_a_cancelled_call_is_let_go(loop, run):
    class Argument:
        pass

    async def main():
        go_on = threading.Event()
        busy = await all_busy(loop, go_on)
        argument = Argument()
        alive = weakref.ref(argument)
        loop.run_in_executor(None, id, argument).cancel()
        del argument
        go_on.set()
        await asyncio.gather(*busy)
        await asyncio.to_thread(int)
        await until(lambda: alive() is None)

    run(main())

"""Asynchronous generators: their hooks, their finalizers, and shutdown_asyncgens()."""

import asyncio
import sys

import pytest
from support import collect, one_turn, same_on_both, turns


async def ticker(log, name="generator"):
    try:
        for number in range(1000):
            yield number
    finally:
        await asyncio.sleep(0)
        log.append(f"{name} finalized")


def test_the_hooks_are_set_while_the_loop_runs_and_put_back_after(loop):
    before = sys.get_asyncgen_hooks()
    seen = []
    loop.call_soon(lambda: seen.append(sys.get_asyncgen_hooks()))
    one_turn(loop)
    assert seen[0].firstiter is not None and seen[0].finalizer is not None
    assert sys.get_asyncgen_hooks() == before


def test_hooks_set_by_others_are_put_back_even_after_an_exception(loop):
    def mine(generator):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(mine, mine)
    try:
        one_turn(loop)
        assert sys.get_asyncgen_hooks() == (mine, mine)
        loop.call_soon(sys.exit)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert sys.get_asyncgen_hooks() == (mine, mine)
    finally:
        sys.set_asyncgen_hooks(*before)


def test_an_abandoned_generator_is_finalized_by_the_loop(run):
    log = []

    async def main():
        async for number in ticker(log):
            if number == 3:
                break
        collect()
        for _ in range(5):
            await asyncio.sleep(0)

    run(main())
    assert log == ["generator finalized"]


def test_a_generator_dropped_by_another_thread_is_finalized_by_the_loop(run):
    log = []

    async def main():
        generators = [ticker(log)]
        await anext(generators[0])
        await asyncio.to_thread(generators.clear)
        await asyncio.to_thread(collect)
        await asyncio.sleep(0.01)

    run(main())
    assert log == ["generator finalized"]


def test_shutdown_asyncgens_finalizes_what_is_still_open(loop, run):
    log = []
    held = []

    async def main():
        for number in range(3):
            held.append(ticker(log, number))
            await anext(held[-1])

    run(main())
    assert log == []
    run(loop.shutdown_asyncgens())
    assert sorted(log) == ["0 finalized", "1 finalized", "2 finalized"]
    run(loop.shutdown_asyncgens())
    assert len(log) == 3


def test_a_generator_first_used_after_shutdown_is_warned_about(loop, run):
    async def main():
        await loop.shutdown_asyncgens()
        generator = ticker([])
        with pytest.warns(ResourceWarning, match="asynchronous generator .* was scheduled after"):
            await anext(generator)
        await generator.aclose()

    run(main())


def test_a_finalizer_that_fails_is_reported_by_shutdown(loop, run):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def failing():
        try:
            yield 1
        finally:
            raise LookupError("in finally")

    held = []

    async def main():
        held.append(failing())
        await anext(held[0])

    run(main())
    run(loop.shutdown_asyncgens())
    assert [type(context["exception"]) for context in contexts] == [LookupError]
    assert contexts[0]["asyncgen"] is held[0]
    assert "an error occurred during closing of asynchronous generator" in contexts[0]["message"]


def test_run_closes_generators_and_the_order_of_events_is_that_of_asyncio():
    def scenario(impl):
        log = []
        held = []

        async def worker():
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                log.append("worker cancelled")
                raise

        async def main():
            held.append(ticker(log))
            await anext(held[0])
            held.append(asyncio.ensure_future(worker()))
            await asyncio.sleep(0)
            log.append("main ends")

        impl.run(main())
        return log

    assert same_on_both(scenario) == ["main ends", "worker cancelled", "generator finalized"]


def test_an_exhausted_generator_needs_nothing(loop, run):
    async def short():
        yield 1

    async def main():
        return [number async for number in short()]

    assert run(main()) == [1]
    run(loop.shutdown_asyncgens())
    turns(loop, 2)


def test_context_managers_and_comprehensions_over_generators(run):
    import contextlib

    log = []

    @contextlib.asynccontextmanager
    async def resource(name):
        log.append(f"open {name}")
        try:
            await asyncio.sleep(0)
            yield name
        finally:
            await asyncio.sleep(0)
            log.append(f"close {name}")

    async def main():
        async with resource("a") as a, resource("b") as b:
            log.append(a + b)
        with pytest.raises(LookupError):
            async with resource("c"):
                raise LookupError
        async with contextlib.aclosing(ticker(log)) as numbers:
            first = [await anext(numbers) for _ in range(3)]
        return first, [n * 2 async for n in aiter_of(range(3))]

    async def aiter_of(things):
        for thing in things:
            await asyncio.sleep(0)
            yield thing

    assert run(main()) == ([0, 1, 2], [0, 2, 4])
    assert log == [
        "open a",
        "open b",
        "ab",
        "close b",
        "close a",
        "open c",
        "close c",
        "generator finalized",
    ]

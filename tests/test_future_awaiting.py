"""Future: awaiting it, by tasks of every kind and by hand."""

import asyncio
import sys
import types
from functools import partial

import pytest
import support
from support import (
    outcome,
)

on_each = partial(support.on_each, kind="Future")


# -- awaiting ------------------------------------------------------------------


def test_awaiting_gives_the_result(Future, mixed_loop):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, "result")
        assert await future == "result"
        return await future

    assert mixed_loop.run_until_complete(main()) == "result"


@pytest.mark.parametrize(
    "value", [None, (1, 2), (), ValueError("not raised"), StopIteration(3), [1]], ids=repr
)
def test_awaiting_gives_any_value_as_it_is(Future, mixed_loop, value):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, value)
        return await future

    assert mixed_loop.run_until_complete(main()) is value


def test_awaiting_raises_the_exception(Future, mixed_loop):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_exception, LookupError("lost"))
        await future

    with pytest.raises(LookupError, match="lost"):
        mixed_loop.run_until_complete(main())


def test_awaiting_a_cancelled_future_raises_cancelled_error(Future, mixed_loop):
    async def main():
        future = Future()
        future.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await future
        return "caught"

    assert mixed_loop.run_until_complete(main()) == "caught"


def test_the_iterator_behaves_as_that_of_asyncio():
    def scenario(loop, Future):
        steps = []
        future = Future(loop=loop)
        iterator = iter(future)
        steps.append(iter(iterator) is iterator)
        steps.append(next(iterator) is future)
        steps.append(future._asyncio_future_blocking)
        future._asyncio_future_blocking = False
        steps.append(outcome(next, iterator)[0])  # awaited while pending
        future.set_result("result")
        steps.append(outcome(next, iterator))
        iterator = future.__await__()
        steps.append(outcome(next, iterator))  # StopIteration("result")
        iterator = iter(Future(loop=loop))
        steps.append(outcome(iterator.send, None)[0])
        steps.append(outcome(iterator.throw, LookupError("thrown")))
        iterator = iter(Future(loop=loop))
        steps.append(outcome(iterator.close))
        return steps

    assert on_each(scenario)[:3] == [True, True, True]


def test_an_iterator_that_was_thrown_into_or_closed_is_exhausted(Future, mixed_loop):
    if Future is asyncio.Future and sys.version_info >= (3, 14):
        pytest.skip(
            "asyncio of 3.14 and 3.15 crashes here: its iterator takes the lock of a future it let go"
        )
    thrown, closed = iter(Future(loop=mixed_loop)), iter(Future(loop=mixed_loop))
    next(thrown)
    with pytest.raises(LookupError):
        thrown.throw(LookupError())
    closed.close()
    for iterator in (thrown, closed):
        with pytest.raises(StopIteration):
            next(iterator)


def test_the_iterator_throws_what_asyncio_throws():
    def scenario(loop, Future):
        def throw(*args):
            iterator = iter(Future(loop=loop))
            next(iterator)
            return outcome(iterator.throw, *args)[:2]

        trace = None
        try:
            1 / 0
        except ZeroDivisionError as exc:
            trace = exc.__traceback__
        with pytest.MonkeyPatch.context():
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # three arguments, from 3.12 on
                return [
                    throw(LookupError),
                    throw(LookupError()),
                    throw(5),
                    throw(),
                    throw(LookupError, None),
                    throw(LookupError, "text"),
                    throw(LookupError, LookupError("x"), trace),
                    throw(LookupError, "text", 5),
                    throw(LookupError(), "value"),
                    throw(int),
                ]

    assert on_each(scenario)[0] == ("raised", LookupError)


def test_awaiting_without_a_task_yields_the_future():
    def scenario(loop, Future):
        future = Future(loop=loop)

        async def coro():
            return await future

        waiting = coro()
        yielded = waiting.send(None) is future
        future.set_result(7)
        return yielded, outcome(waiting.send, None)

    assert on_each(scenario) == (True, ("raised", StopIteration, "7"))


def test_two_tasks_may_await_one_future(Future, mixed_loop):
    async def waiter(future):
        return await future

    async def main():
        future = Future()
        tasks = [asyncio.ensure_future(waiter(future)) for _ in range(5)]
        await asyncio.sleep(0)
        future.set_result("shared")
        return await asyncio.gather(*tasks)

    assert mixed_loop.run_until_complete(main()) == ["shared"] * 5


def test_a_future_may_be_yielded_from(Future, mixed_loop):
    @types.coroutine
    def old_style(future):
        return (yield from future)

    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, 9)
        return await old_style(future)

    assert mixed_loop.run_until_complete(main()) == 9


def test_a_throw_of_what_is_no_exception_does_not_end_the_wait(future):
    waiting = iter(future)
    assert next(waiting) is future
    with pytest.raises(TypeError):
        waiting.throw(1)
    future.set_result("result")
    with pytest.raises(StopIteration, match="result"):
        next(waiting)


def test_an_attribute_keeps_its_value_if_the_new_one_has_no_truth(start, finish, future):
    class Neither:
        def __bool__(self):
            raise LookupError("neither")

    async def main():
        pass

    task = start(main())
    future._asyncio_future_blocking = True
    for thing, name in (future, "_asyncio_future_blocking"), (task, "_log_destroy_pending"):
        with pytest.raises(LookupError, match="neither"):
            setattr(thing, name, Neither())
        assert getattr(thing, name) is True
    finish(task)


def chain(exc):
    """An exception and what it is chained to."""
    return exc and (type(exc), str(exc), chain(exc.__cause__), chain(exc.__context__))


@pytest.mark.parametrize("end", ["exception", "cancel", "task cancelled"])
def test_the_loop_runs_inside_an_except(end):
    """asyncio's task throws the future's exception as it is: what is handled outside has nothing to do with it."""

    def scenario(loop, Future):
        future = Future(loop=loop)

        async def main():
            await future

        task = loop.create_task(main())
        if end == "exception":
            loop.call_soon(future.set_exception, ValueError("inside"))
        else:
            loop.call_soon((task if end == "task cancelled" else future).cancel)
        try:
            raise KeyError("outside")
        except KeyError:
            try:
                loop.run_until_complete(task)
            except BaseException as exc:
                return chain(exc)

    support.same_on_both(lambda impl: with_loop(impl, scenario))


def with_loop(impl, scenario):
    loop = impl.new_event_loop()
    try:
        return scenario(loop, impl.Future)
    finally:
        loop.close()


def test_throw_inside_an_except():
    def scenario(loop, Future):
        iterator = Future(loop=loop).__await__()
        next(iterator)
        try:
            raise KeyError("outside")
        except KeyError:
            try:
                iterator.throw(ValueError("thrown"))
            except ValueError as exc:
                return chain(exc)

    assert on_each(scenario) == (ValueError, "thrown", None, None)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio crashes here, on 3.14")
@pytest.mark.parametrize("args", [(ValueError("i"), "v"), (ValueError, "x", 5), (5,), ()])
def test_a_throw_that_is_refused_does_not_end_the_wait(args):
    def scenario(loop, Future):
        iterator = Future(loop=loop).__await__()
        next(iterator)
        return outcome(iterator.throw, *args)[:2], outcome(next, iterator)[:2]

    assert on_each(scenario)[1] == ("raised", RuntimeError)

"""Task: what its coroutine may await, and the order in which tasks are woken."""

import asyncio
import concurrent.futures
import contextvars
import types
import weakref
from functools import partial

import pytest
import support
from support import MIXTURES, Contexts, collect, normalise, nothing, turns

on_each = partial(support.on_each, kind="Task")


@types.coroutine
def yielding(value):
    """Await whatever is yielded to the task."""
    return (yield value)


# -- what is awaited -----------------------------------------------------------


def test_tasks_await_futures_and_tasks_of_every_kind():
    for loops in MIXTURES:
        for waiting in MIXTURES:
            for awaited in MIXTURES:
                loop = loops.new_event_loop()
                log = []

                async def slow(value):
                    await asyncio.sleep(0)
                    return value

                async def main():
                    future = awaited.Future(loop=loop)
                    loop.call_soon(future.set_result, "result")
                    log.append(await future)
                    future = awaited.Future(loop=loop)
                    loop.call_soon(future.set_exception, LookupError("lost"))
                    try:
                        await future
                    except LookupError as exc:
                        log.append(str(exc))
                    future = awaited.Future(loop=loop)
                    loop.call_soon(future.cancel, "message")
                    try:
                        await future
                    except asyncio.CancelledError as exc:
                        log.append(exc.args)
                    log.append(await awaited.Task(slow("task"), loop=loop))
                    log.append(asyncio.current_task() is task)
                    return "done"

                task = waiting.Task(main(), loop=loop)
                assert loop.run_until_complete(task) == "done"
                assert log == ["result", "lost", ("message",), "task", True]
                loop.close()


def test_the_order_of_wake_ups_is_that_of_asyncio():
    def scenario(loop, Task):
        log = []

        async def waiter(name, future):
            log.append((name, "waits"))
            await future
            log.append((name, "woken"))
            await asyncio.sleep(0)
            log.append((name, "ends"))

        async def main():
            first, second = loop.create_future(), loop.create_future()
            tasks = [
                Task(waiter(n, f), loop=loop) for n, f in enumerate((first, second, first, second))
            ]
            await asyncio.sleep(0)
            loop.call_soon(log.append, "callback before")
            second.set_result(None)
            loop.call_soon(log.append, "callback between")
            first.set_result(None)
            first.add_done_callback(lambda f: log.append("callback of a done future"))
            loop.call_soon(log.append, "callback after")
            await asyncio.gather(*tasks)

        loop.run_until_complete(Task(main(), loop=loop))
        return log

    assert len(on_each(scenario)) == 16


def test_done_callbacks_and_waiting_tasks_are_called_in_the_order_they_came():
    def scenario(loop, Task):
        log = []

        async def waiter(name, future):
            await future
            log.append(name)

        async def main():
            future = loop.create_future()
            tasks = []
            for number in range(3):
                tasks.append(Task(waiter(f"task {number}", future), loop=loop))
                await asyncio.sleep(0)
                future.add_done_callback(lambda f, number=number: log.append(f"callback {number}"))
            future.set_result(None)
            await asyncio.gather(*tasks)

        loop.run_until_complete(Task(main(), loop=loop))
        return log

    assert on_each(scenario) == [
        "task 0",
        "callback 0",
        "task 1",
        "callback 1",
        "task 2",
        "callback 2",
    ]


def test_sleep_zero_lets_all_others_run_once():
    def scenario(loop, Task):
        log = []

        async def worker(name):
            for step in range(3):
                log.append((name, step))
                await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*(Task(worker(name), loop=loop) for name in "abc"))

        loop.run_until_complete(main())
        return log

    assert on_each(scenario) == [(name, step) for step in range(3) for name in "abc"]


def test_awaiting_a_done_future_does_not_give_up_control(start, finish, mixed_loop):
    async def main():
        done = mixed_loop.create_future()
        done.set_result("done")
        seen = []
        mixed_loop.call_soon(seen.append, 1)
        for _ in range(100):
            assert await done == "done"
        assert seen == []
        await asyncio.sleep(0)
        assert seen == [1]

    finish(start(main()))


WRONG_YIELDS = {
    "a number": lambda: 5,
    "a string": lambda: "text",
    "an object": lambda: (),
    "a generator": lambda: (n for n in ()),
    "a coroutine function": lambda: nothing,
    "a concurrent future": lambda: concurrent.futures.Future(),
}


@pytest.mark.parametrize("make", WRONG_YIELDS.values(), ids=WRONG_YIELDS)
def test_a_wrong_yield_is_an_error_raised_in_the_coroutine(make):
    def scenario(loop, Task):
        async def main():
            try:
                await yielding(make())
            except RuntimeError as exc:
                return normalise(str(exc))

        return loop.run_until_complete(Task(main(), loop=loop, name="T"))

    # A generator gets a message of its own.
    assert on_each(scenario).startswith(("Task got bad yield: ", "yield was used instead of"))


def test_yielding_a_future_without_await_is_an_error():
    def scenario(loop, Task):
        async def main():
            try:
                await yielding(loop.create_future())
            except RuntimeError as exc:
                return normalise(str(exc))

        return loop.run_until_complete(Task(main(), loop=loop, name="T"))

    assert on_each(scenario).startswith("yield was used instead of yield from")


def test_awaiting_itself_is_an_error():
    def scenario(loop, Task):
        async def main():
            try:
                await task
            except RuntimeError as exc:
                return normalise(str(exc))

        task = Task(main(), loop=loop, name="T")
        return loop.run_until_complete(task)

    assert on_each(scenario).startswith("Task cannot await on itself: ")


@pytest.mark.parametrize("kind", range(len(MIXTURES)), ids=[mixture.name for mixture in MIXTURES])
def test_awaiting_a_future_of_another_loop_is_an_error(kind):
    def scenario(loop, Task):
        other = MIXTURES[kind].new_event_loop()
        foreign = MIXTURES[kind].Future(loop=other)

        async def main():
            try:
                await foreign
            except RuntimeError as exc:
                return normalise(str(exc))

        try:
            return loop.run_until_complete(Task(main(), loop=loop, name="T"))
        finally:
            other.close()

    assert on_each(scenario).endswith("attached to a different loop")


def test_a_future_like_whose_blocking_flag_is_false_is_an_error(start, finish, mixed_loop):
    class FutureLike:
        _asyncio_future_blocking = False

        def get_loop(self):
            return mixed_loop

    async def main():
        with pytest.raises(RuntimeError):
            await yielding(FutureLike())
        return "went on"

    assert finish(start(main())) == "went on"


def test_a_future_written_in_python_by_somebody_else_can_be_awaited(start, finish, mixed_loop):
    class Foreign:
        """The least that asyncio asks of a future."""

        _asyncio_future_blocking = False
        _loop = mixed_loop

        def get_loop(self):
            return mixed_loop

        def add_done_callback(self, callback, *, context):
            assert isinstance(context, contextvars.Context)
            mixed_loop.call_soon(callback, self, context=context)

        def result(self):
            return "unused"

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self
            return "foreign"

    async def main():
        return await Foreign()

    assert finish(start(main())) == "foreign"


class NoFlag:
    @property
    def _asyncio_future_blocking(self):
        raise LookupError("no flag")


class NoCallbacks:
    _asyncio_future_blocking = True
    get_loop = staticmethod(asyncio.get_running_loop)

    def add_done_callback(self, callback, *, context):
        raise LookupError("no callbacks")


class NoLoop:
    _asyncio_future_blocking = True

    def get_loop(self):
        raise LookupError("no loop")


@pytest.mark.parametrize("foreign", [NoFlag, NoCallbacks, NoLoop])
def test_a_foreign_future_whose_parts_fail_is_reported_and_the_loop_goes_on(mixture, foreign):
    """asyncio leaves such a task pending for ever, so the loop is this test's own."""

    async def main():
        await yielding(foreign())

    loop = mixture.new_event_loop()
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    task = mixture.Task(main(), loop=loop)
    turns(loop, 3)
    errors = [type(context["exception"]) for context in contexts]
    if task.done():
        errors.append(type(task.exception()))
    assert errors == [LookupError]
    task._log_destroy_pending = False
    del task
    collect()
    loop.close()


class Waker:
    """A foreign future that lets anybody wake the task."""

    _asyncio_future_blocking = True
    get_loop = staticmethod(asyncio.get_running_loop)

    def add_done_callback(self, callback, *, context):
        self.wake = lambda: callback(self)

    def result(self):
        return "woken"


def test_a_task_cannot_be_woken_inside_another_one(mixture):
    async def waiting():
        return await yielding(waker)

    async def main():
        task = mixture.Task(waiting(), loop=loop)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="Cannot enter into task .* while another task"):
            waker.wake()
        assert asyncio.current_task() is not None
        async with asyncio.timeout(5):
            loop.call_soon(waker.wake)
            await task

    waker = Waker()
    loop = mixture.new_event_loop()
    loop.run_until_complete(mixture.Task(main(), loop=loop))
    loop.close()


def test_many_nested_coroutines(start, finish):
    async def nest(depth):
        if depth:
            return 1 + await nest(depth - 1)
        await asyncio.sleep(0)
        return 0

    assert finish(start(nest(200))) == 200


def test_a_long_chain_of_tasks_awaiting_each_other(start, finish):
    async def link(previous):
        return 1 + await previous if previous else 0

    async def main():
        task = None
        for _ in range(5000):
            task = start(link(task))
        return await task

    assert finish(start(main())) == 4999


def test_a_long_chain_of_finished_tasks_is_freed_without_overflow(start, finish):
    async def keep(previous):
        return previous

    async def main():
        task = None
        for _ in range(50000):
            task = start(keep(task))
        await task
        return weakref.ref(task)

    gone = finish(start(main()))
    collect()
    assert gone() is None

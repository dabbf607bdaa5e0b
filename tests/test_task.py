"""Task: making one, its results and its name, and what asyncio builds on tasks."""

import asyncio
import collections.abc
import re
import sys
import types
from functools import partial

import pytest
import support
from support import ASYNCIO, HOTLOOP, MIXTURES, normalise, nothing, one_turn, outcome

on_each = partial(support.on_each, kind="Task")


# -- making one ----------------------------------------------------------------


def test_a_task_is_an_asyncio_task_and_future(start, finish):
    task = start(nothing())
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert asyncio.isfuture(task)
    finish(task)


def test_the_loop_makes_its_tasks():
    loop = HOTLOOP.new_event_loop()
    task = loop.create_task(nothing())
    assert type(task) is HOTLOOP.Task
    assert issubclass(HOTLOOP.Task, asyncio.Task)
    loop.run_until_complete(task)
    loop.close()


def test_asyncio_functions_make_the_tasks_of_the_running_loop(impl, run):
    async def main():
        tasks = [asyncio.create_task(nothing()), asyncio.ensure_future(nothing())]
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(nothing()))
        await asyncio.gather(*tasks)
        return {type(task) for task in tasks}

    assert run(main()) == {impl.Task}


def test_a_task_runs_its_coroutine_from_the_next_turn_on(start, mixed_loop):
    seen = []

    async def main():
        seen.append("ran")
        return "result"

    task = start(main())
    assert not task.done() and seen == []
    one_turn(mixed_loop)
    assert task.done() and seen == ["ran"]
    assert task.result() == "result"
    assert task.exception() is None


def test_without_a_loop_the_running_one_is_taken(Task, mixed_loop):
    async def main():
        task = Task(nothing())
        await task
        return task.get_loop()

    assert mixed_loop.run_until_complete(main()) is mixed_loop


def test_without_any_loop_a_task_cannot_be_made(Task):
    if sys.version_info < (3, 14):
        asyncio.set_event_loop(None)
    coro = nothing()
    with pytest.raises(RuntimeError):
        Task(coro)
    coro.close()


@pytest.mark.parametrize(
    "bad",
    [5, None, nothing, "text", (n for n in ()), iter([]), object(), [nothing]],
    ids=["int", "None", "function", "text", "generator", "iterator", "object", "list"],
)
def test_only_coroutines_are_accepted(bad):
    def scenario(loop, Task):
        result = outcome(Task, bad, loop=loop)
        if result[0] == "returned":  # a generator, until 3.12
            result[1]._log_destroy_pending = False
            return "returned"
        return result

    on_each(scenario)


def test_the_arguments_are_checked_as_by_asyncio():
    def scenario(loop, Task):
        coros = [nothing() for _ in range(6)]
        try:
            return [
                outcome(Task)[:2],
                outcome(Task, loop=loop)[:2],
                outcome(Task, coros[0], loop)[:2],
                outcome(Task, coros[1], loop=loop, bogus=1)[:2],
                outcome(Task, coros[2], loop=5)[:2],
            ]
        finally:
            for coro in coros:
                coro.close()

    assert on_each(scenario)[0] == ("raised", TypeError)


def test_coroutines_of_other_kinds_can_be_run(start, finish):
    @types.coroutine
    def generator_based():
        yield
        return "generator"

    class Compiled(collections.abc.Coroutine):
        """What a coroutine made by a compiler such as Cython looks like."""

        def __init__(self):
            self.steps = 0

        def send(self, value):
            self.steps += 1
            if self.steps > 3:
                raise StopIteration("compiled")

        def throw(self, *args):
            raise args[0]

        def close(self):
            pass

        def __await__(self):
            return self

    assert finish(start(Compiled())) == "compiled"
    if sys.version_info < (3, 12) or asyncio.iscoroutine(generator_based()):
        coro = generator_based()
        assert finish(start(coro)) == "generator"


def test_init_called_again_leaves_a_working_task(Task, mixed_loop):
    """Some versions refuse it, others start the task anew."""
    task = Task(nothing(), loop=mixed_loop)
    mixed_loop.run_until_complete(task)
    coro = asyncio.sleep(0, "again")
    try:
        task.__init__(coro, loop=mixed_loop)
    except RuntimeError:
        coro.close()
        assert task.result() is None
    else:
        assert mixed_loop.run_until_complete(task) == "again"


def test_an_uninitialised_task_refuses_as_that_of_asyncio():
    def scenario(loop, Task):
        task = Task.__new__(Task)
        return [
            outcome(function)[:2]
            for function in (
                task.done,
                task.cancelled,
                task.result,
                task.exception,
                task.get_loop,
                lambda: task._state,
                lambda: task._fut_waiter,
                lambda: task._coro,
                lambda: task._must_cancel,
            )
        ]

    on_each(scenario)


# -- results -------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "text",
        (),
        (1, 2),
        (None, None, None),
        [1],
        ValueError("returned"),
        StopIteration(1),
    ],
    ids=repr,
)
def test_any_value_can_be_returned(start, finish, value):
    async def main():
        return value

    async def after_a_turn():
        await asyncio.sleep(0)
        return value

    async def through_a_task():
        return await start(after_a_turn())

    assert finish(start(main())) is value
    assert finish(start(after_a_turn())) is value
    assert finish(start(through_a_task())) is value


def test_an_exception_is_kept_with_its_traceback(start, finish):
    async def inner():
        raise LookupError("lost")

    async def main():
        await asyncio.sleep(0)
        await inner()

    task = start(main())
    with pytest.raises(LookupError, match="lost") as caught:
        finish(task)
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["main", "inner"]
    assert task.exception() is caught.value


def test_a_task_takes_no_result_from_outside(start, finish):
    task = start(nothing())
    with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
        task.set_exception(ValueError())
    finish(task)


def test_a_stop_iteration_raised_in_a_coroutine_is_a_runtime_error(start, finish):
    async def main():
        raise StopIteration("over")

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        finish(start(main()))


def test_awaiting_a_task_raises_its_exception(start, finish):
    async def failing():
        await asyncio.sleep(0)
        raise LookupError("lost")

    async def main():
        with pytest.raises(LookupError, match="lost"):
            await start(failing())
        return "caught"

    assert finish(start(main())) == "caught"


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_leave_the_loop_and_stay_in_the_task(
    start, mixed_loop, exception
):
    async def main():
        await asyncio.sleep(0)
        raise exception("out")

    task = start(main())
    with pytest.raises(exception, match="out"):
        mixed_loop.run_forever()
    assert task.done()
    assert type(task.exception()) is exception
    one_turn(mixed_loop)


def test_any_other_base_exception_is_an_ordinary_outcome(start, finish):
    class Odd(BaseException):
        pass

    async def main():
        raise Odd("odd")

    task = start(main())
    with pytest.raises(Odd):
        finish(task)
    assert type(task.exception()) is Odd


def test_a_coroutine_that_raises_cancelled_error_is_cancelled(start, finish):
    async def main():
        raise asyncio.CancelledError("by itself")

    task = start(main())
    with pytest.raises(asyncio.CancelledError):
        finish(task)
    assert task.cancelled()


def test_what_an_exception_subclass_of_cancelled_error_comes_to():
    class Special(asyncio.CancelledError):
        pass

    def scenario(loop, Task):
        async def main():
            raise Special("special")

        task = Task(main(), loop=loop)
        raised = outcome(loop.run_until_complete, task)
        return raised[1].__name__, raised[2], task.cancelled()

    on_each(scenario)


# -- names ---------------------------------------------------------------------


def test_a_default_name_is_task_and_a_number(start, finish):
    first, second = start(nothing()), start(nothing())
    late_name, early_name = second.get_name(), first.get_name()
    for name in (early_name, late_name):
        assert re.fullmatch(r"Task-\d+", name)
    assert int(early_name[5:]) < int(late_name[5:])
    assert first.get_name() == early_name
    finish(asyncio.wait([first, second]))


def test_names_can_be_given_and_changed(start, finish):
    task = start(nothing(), name="given")
    assert task.get_name() == "given"
    task.set_name("changed")
    assert task.get_name() == "changed"
    finish(task)
    task.set_name("after the end")
    assert task.get_name() == "after the end"


def test_a_name_need_not_be_a_string():
    class Named:
        def __str__(self):
            return "named"

    class MyStr(str):
        pass

    def scenario(loop, Task):
        results = []
        for name in (5, Named(), None, ("a", 1), MyStr("mine"), ""):
            task = Task(nothing(), loop=loop, name=name)
            results.append(normalise(task.get_name()))
            results.append(type(task.get_name()).__name__)
            task.set_name(name)
            results.append(normalise(task.get_name()))
            loop.run_until_complete(task)
        return results

    assert on_each(scenario)[0] == "5"


def test_a_name_that_cannot_be_made_is_an_error():
    class Nameless:
        def __str__(self):
            raise LookupError("no name")

    def scenario(loop, Task):
        loop.set_exception_handler(lambda loop, context: None)  # some report the half-made task
        coro = nothing()
        first = outcome(Task, coro, loop=loop, name=Nameless())[:2]
        coro.close()
        task = Task(nothing(), loop=loop)
        second = outcome(task.set_name, Nameless())
        loop.run_until_complete(task)
        return first, second

    assert on_each(scenario)[0] == ("raised", LookupError)


# -- what is built on tasks ----------------------------------------------------


def test_the_helpers_of_asyncio_work_over_tasks_of_every_kind(start, finish):
    async def value(number, delay=0):
        await asyncio.sleep(delay)
        if number < 0:
            raise ValueError(number)
        return number

    async def main():
        assert await asyncio.gather(start(value(1)), start(value(2)), value(3)) == [1, 2, 3]
        results = await asyncio.gather(start(value(-1)), value(2), return_exceptions=True)
        assert [type(result) for result in results] == [ValueError, int]
        done, pending = await asyncio.wait(
            [start(value(1)), start(value(2, 30))], return_when="FIRST_COMPLETED"
        )
        assert len(done) == len(pending) == 1
        pending.pop().cancel()
        assert await asyncio.wait_for(start(value(4)), 30) == 4
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(start(value(4, 30)), 0.001)
        assert sorted(
            [await first for first in asyncio.as_completed([start(value(1)), value(2)])]
        ) == [1, 2]
        assert await asyncio.shield(start(value(5))) == 5
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(value(-1))
                other = group.create_task(value(1, 30))
        assert [str(error) for error in caught.value.exceptions] == ["-1"]
        assert other.cancelled()
        return "all"

    assert finish(start(main())) == "all"


def test_locks_queues_and_events_work_between_tasks_of_every_kind():
    for loops in MIXTURES:
        loop = loops.new_event_loop()
        kinds = [ASYNCIO.Task, HOTLOOP.Task]

        async def worker(number, lock, queue, event):
            await event.wait()
            async with lock:
                await asyncio.sleep(0)
                await queue.put(number)

        async def main():
            lock, queue, event = asyncio.Lock(), asyncio.Queue(2), asyncio.Event()
            tasks = [kinds[n % 2](worker(n, lock, queue, event), loop=loop) for n in range(10)]
            loop.call_soon(event.set)
            received = [await queue.get() for _ in range(10)]
            await asyncio.gather(*tasks)
            return received

        assert loop.run_until_complete(main()) == list(range(10))
        loop.close()

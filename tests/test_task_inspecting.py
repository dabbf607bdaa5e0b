"""What a task shows of itself: its coroutine, stack, private attributes, repr."""

import asyncio
import io
import types
from functools import partial

import pytest
import support
from support import normalise, nothing, one_turn, outcome, turns

on_each = partial(support.on_each, kind="Task")


def test_get_coro_is_the_coroutine(start, finish):
    coro = nothing()
    task = start(coro)
    assert task.get_coro() is coro
    assert task._coro is coro
    finish(task)


def test_get_coro_after_the_end_is_what_it_is_in_asyncio():
    def scenario(loop, Task):
        coro = nothing()
        task = Task(coro, loop=loop)
        loop.run_until_complete(task)
        return task.get_coro() is coro, task._coro is coro

    on_each(scenario)


def test_get_stack_shows_where_the_coroutine_waits():
    async def inner():
        await asyncio.sleep(30)

    async def main():
        await inner()

    def scenario(loop, Task):
        task = Task(main(), loop=loop)
        stacks = [[frame.f_code.co_name for frame in task.get_stack()]]
        one_turn(loop)
        stacks.append([frame.f_code.co_name for frame in task.get_stack()])
        stacks.append([frame.f_code.co_name for frame in task.get_stack(limit=1)])
        text = io.StringIO()
        task.print_stack(file=text)
        stacks.append(normalise(text.getvalue()))
        task.cancel()
        turns(loop, 2)
        stacks.append(task.get_stack())
        return stacks

    assert on_each(scenario)[:2] == [["main"], ["main"]]


def test_print_stack_of_a_failed_task_shows_the_traceback():
    async def main():
        raise LookupError("lost")

    def scenario(loop, Task):
        task = Task(main(), loop=loop)
        outcome(loop.run_until_complete, task)
        text = io.StringIO()
        task.print_stack(file=text, limit=3)
        return normalise(text.getvalue()).replace("Task-N", "T")

    assert "LookupError: lost" in on_each(scenario)


def test_the_task_knows_what_it_waits_for(start, finish, mixed_loop):
    future = mixed_loop.create_future()

    async def main():
        await future

    task = start(main())
    assert task._fut_waiter is None
    one_turn(mixed_loop)
    assert task._fut_waiter is future
    future.set_result(None)
    finish(task)
    assert task._fut_waiter is None


PRIVATE = (
    "_must_cancel",
    "_fut_waiter",
    "_log_destroy_pending",
    "_state",
    "_log_traceback",
    "_asyncio_future_blocking",
    "_cancel_message",
    "_source_traceback",
)


def test_private_attributes_in_every_state():
    def scenario(loop, Task):
        stages = []

        def look(task):
            stages.append(
                [(name, normalise(repr(getattr(task, name)))) for name in PRIVATE]
                + [task._loop is loop]
            )

        async def main():
            await asyncio.sleep(30)

        async def failing():
            raise LookupError

        task = Task(main(), loop=loop)
        look(task)
        one_turn(loop)
        look(task)
        task.cancel("message")
        look(task)
        turns(loop, 2)
        look(task)
        task = Task(failing(), loop=loop)
        outcome(loop.run_until_complete, task)
        look(task)
        task = Task(nothing(), loop=loop)
        task.cancel("early")
        look(task)
        turns(loop, 2)
        look(task)
        return stages

    stages = on_each(scenario)
    assert len({str(stage) for stage in stages}) >= 5


def test_which_private_attributes_may_be_set():
    def scenario(loop, Task):
        results = []
        for name in PRIVATE + ("_coro", "_loop"):
            for value in (True, False, 5):
                task = Task(nothing(), loop=loop)
                results.append((name, value, outcome(setattr, task, name, value)[:2]))
                if name not in ("_asyncio_future_blocking",):
                    outcome(loop.run_until_complete, task)
                else:
                    task._asyncio_future_blocking = False
                    loop.run_until_complete(task)
        return results

    assert ("_log_destroy_pending", False, ("returned", None)) in on_each(scenario)


def test_the_class_can_be_subscripted(Task):
    assert isinstance(Task[int], types.GenericAlias)


def test_every_attribute_of_an_asyncio_task_is_there(Task):
    assert set(dir(asyncio.Task)) <= set(dir(Task))


async def named_coroutine():
    await asyncio.sleep(30)


@pytest.mark.parametrize("debug", [False, True])
def test_the_repr_is_that_of_asyncio(debug):
    def scenario(loop, Task):
        reprs = []

        def look(task):
            reprs.append(normalise(repr(task)))

        def callback(task):
            pass

        task = Task(named_coroutine(), loop=loop, name="name of the task")
        look(task)
        task.add_done_callback(callback)
        look(task)
        one_turn(loop)
        look(task)
        task.cancel()
        look(task)
        turns(loop, 2)
        look(task)
        task = Task(nothing(), loop=loop, name="cancelled early")
        task.cancel()
        look(task)
        turns(loop, 2)
        look(task)
        task = Task(asyncio.sleep(0, "result"), loop=loop, name="with result")
        loop.run_until_complete(task)
        look(task)
        task = Task(asyncio.wait_for(asyncio.sleep(30), 0), loop=loop, name="with exception")
        outcome(loop.run_until_complete, task)
        look(task)
        task = Task(nothing(), loop=loop)
        look(task)
        loop.run_until_complete(task)
        return reprs

    reprs = on_each(scenario, debug=debug)
    assert reprs[0].startswith(
        "<Task pending name='name of the task' coro=<named_coroutine() running at "
    )


def test_the_repr_of_a_running_task():
    def scenario(loop, Task):
        async def main():
            return normalise(repr(asyncio.current_task()))

        return loop.run_until_complete(Task(main(), loop=loop, name="T"))

    on_each(scenario)

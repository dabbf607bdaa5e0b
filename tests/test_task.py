"""Task: making one, its results, name and context, what it shows of itself."""

import asyncio
import collections.abc
import contextvars
import io
import re
import sys
import types
from functools import partial

import pytest
import support
from support import (
    ASYNCIO,
    HOTLOOP,
    MIXTURES,
    normalise,
    one_turn,
    outcome,
    turns,
)

on_each = partial(support.on_each, kind="Task")
variable = contextvars.ContextVar("variable", default="default")


async def nothing():
    pass


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


# -- contexts ------------------------------------------------------------------


def test_a_task_runs_in_a_copy_of_the_context_it_was_made_in(start, finish):
    async def main():
        seen = variable.get()
        variable.set("inside")
        await asyncio.sleep(0)
        return seen, variable.get()

    token = variable.set("outside")
    task = start(main())
    variable.reset(token)
    assert finish(task) == ("outside", "inside")
    assert variable.get() == "default"


def test_a_given_context_is_used_itself(start, finish):
    async def main():
        await asyncio.sleep(0)
        variable.set("inside")

    context = contextvars.copy_context()
    finish(start(main(), context=context))
    assert context[variable] == "inside"


def test_the_context_holds_over_every_kind_of_wake_up(mixed_loop, start, finish):
    async def sleeper():
        await asyncio.sleep(0.001)

    async def main():
        variable.set("mine")
        seen = []
        for thing in (
            asyncio.sleep(0),
            asyncio.sleep(0.001),
            start(sleeper()),
            asyncio.to_thread(int),
            asyncio.gather(sleeper(), sleeper()),
            asyncio.wait_for(sleeper(), 10),
        ):
            await thing
            seen.append(variable.get())
        future = mixed_loop.create_future()
        stranger = contextvars.copy_context()
        stranger.run(variable.set, "of a stranger")
        mixed_loop.call_soon(future.set_result, None, context=stranger)
        await future
        seen.append(variable.get())
        return seen

    assert finish(start(main())) == ["mine"] * 7


def test_tasks_sharing_a_context_see_each_other(start, finish):
    context = contextvars.copy_context()

    async def writer():
        variable.set("written")

    async def reader():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return variable.get()

    async def main():
        return (
            await asyncio.gather(
                start(reader(), context=context), start(writer(), context=context)
            )
        )[0]

    assert finish(start(main())) == "written"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context is new in 3.12")
def test_get_context_is_the_context_of_the_task(start, finish):
    context = contextvars.copy_context()
    task, other = start(nothing(), context=context), start(nothing())
    assert task.get_context() is context
    assert isinstance(other.get_context(), contextvars.Context)
    assert other.get_context() is not context
    finish(asyncio.wait([task, other]))


def test_done_callbacks_run_in_the_context_they_were_added_in(start, finish):
    seen = []

    async def main():
        variable.set("of the task")

    task = start(main())
    token = variable.set("of the adder")
    task.add_done_callback(lambda t: seen.append(variable.get()))
    variable.reset(token)
    finish(task)
    finish(nothing())
    assert seen == ["of the adder"]


def test_a_context_that_is_none_is_replaced_and_a_wrong_one_refused():
    def scenario(loop, Task):
        task = Task(nothing(), loop=loop, context=None)
        loop.run_until_complete(task)
        return task.done()

    assert on_each(scenario) is True


# -- inspecting ----------------------------------------------------------------


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

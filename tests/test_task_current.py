"""Which task runs now, which tasks there are."""

import asyncio
from functools import partial

import pytest
import support
from support import Contexts, forever, nothing, turns

on_each = partial(support.on_each, kind="Task")


# -- the current task, all tasks -----------------------------------------------


def test_the_current_task_is_the_one_that_runs(start, finish, mixed_loop):
    log = []

    async def other():
        log.append(asyncio.current_task() is second)

    async def main():
        nonlocal second
        log.append(asyncio.current_task() is task)
        second = start(other())
        await second
        log.append(asyncio.current_task() is task)
        log.append(asyncio.current_task(mixed_loop) is task)

    second = None
    task = start(main())
    finish(task)
    assert log == [True, True, True, True]


def test_there_is_no_current_task_in_a_callback_or_outside(start, finish, mixed_loop):
    log = []

    async def main():
        mixed_loop.call_soon(lambda: log.append(asyncio.current_task()))
        await asyncio.sleep(0)
        future = mixed_loop.create_future()
        future.add_done_callback(lambda f: log.append(asyncio.current_task()))
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        mixed_loop.call_later(0, lambda: log.append(asyncio.current_task()))
        await asyncio.sleep(0.01)

    finish(start(main()))
    assert log == [None, None, None]
    assert asyncio.current_task(mixed_loop) is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()


def test_the_current_task_is_gone_after_an_exception_left_the_loop(start, mixed_loop):
    async def main():
        raise SystemExit(1)

    task = start(main())
    with pytest.raises(SystemExit):
        mixed_loop.run_forever()
    assert asyncio.current_task(mixed_loop) is None
    assert type(task.exception()) is SystemExit


def test_all_tasks_are_those_not_yet_done(start, finish, mixed_loop):
    async def main():
        others = {start(forever()) for _ in range(5)}
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == others | {task}
        cancelled = others.pop()
        cancelled.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == others | {task}
        for other in others:
            other.cancel()

    task = start(main())
    assert asyncio.all_tasks(mixed_loop) == {task}
    finish(task)
    turns(mixed_loop, 2)
    assert asyncio.all_tasks(mixed_loop) == set()


def test_tasks_of_a_loop_are_not_those_of_another(new_mixed_loop, Task):
    first, second = new_mixed_loop(), new_mixed_loop()
    tasks = Task(nothing(), loop=first), Task(nothing(), loop=second)
    assert asyncio.all_tasks(first) == {tasks[0]}
    assert asyncio.all_tasks(second) == {tasks[1]}
    first.run_until_complete(tasks[0])
    second.run_until_complete(tasks[1])


def test_entering_and_leaving_by_hand(start, finish, mixed_loop):
    """Frameworks that step coroutines themselves use these."""
    from asyncio import tasks as module

    async def main():
        outer, inner = asyncio.current_task(), start(nothing())
        module._leave_task(mixed_loop, outer)
        assert asyncio.current_task() is None
        module._enter_task(mixed_loop, inner)
        assert asyncio.current_task() is inner
        with pytest.raises(RuntimeError):
            module._enter_task(mixed_loop, outer)
        with pytest.raises(RuntimeError):
            module._leave_task(mixed_loop, outer)
        module._leave_task(mixed_loop, inner)
        module._enter_task(mixed_loop, outer)
        assert asyncio.current_task() is outer
        if hasattr(module, "_swap_current_task"):
            assert module._swap_current_task(mixed_loop, inner) is outer
            assert asyncio.current_task() is inner
            assert module._swap_current_task(mixed_loop, outer) is inner
        await inner
        assert asyncio.current_task() is outer
        return "done"

    assert finish(start(main())) == "done"


def test_a_task_stepped_while_another_is_entered_reports_it():
    def scenario(loop, Task):
        from asyncio import tasks as module

        contexts = Contexts()
        loop.set_exception_handler(contexts)
        intruder = Task(nothing(), loop=loop)
        loop.run_until_complete(intruder)
        loop.call_soon(module._enter_task, loop, intruder)
        task = Task(nothing(), loop=loop)
        loop.call_soon(module._leave_task, loop, intruder)
        turns(loop, 2)
        task._log_destroy_pending = False
        task.get_coro().close()
        return [type(context["exception"]) for context in contexts]

    assert on_each(scenario) == [RuntimeError]


# -- at the end of a task ------------------------------------------------------


class AtTheEnd:
    """Calls a function when it is destroyed."""

    def __init__(self, function):
        self.function = function

    def __del__(self):
        self.function()


def test_a_turn_in_a_destructor_of_the_task_before_leaves_the_current_task_right(impl):
    def turn():
        loop.call_soon(int)
        if impl.name == "hotloop":  # asyncio's turn would wait for what the one around it took
            loop._run_once()
        ends.append(asyncio.current_task() in (None, second))

    async def first():
        return AtTheEnd(turn)

    async def other():
        seen.append(asyncio.current_task() is second)
        await asyncio.sleep(0)
        seen.append(asyncio.current_task() is second)

    async def main():
        nonlocal second
        for _ in range(20):
            task = asyncio.create_task(first())
            second = asyncio.create_task(other())
            del task
            await second

    seen, ends, second = [], [], None
    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        loop = runner.get_loop()
        runner.run(main())
    assert seen == [True] * 40
    assert ends == [True] * 20


def name_of_current():
    task = asyncio.current_task()
    return task and task.get_name()


def test_no_task_is_current_when_a_finished_one_is_destroyed(impl, logged):
    async def result():
        return AtTheEnd(lambda: seen.append(("result", name_of_current())))

    async def failure():
        raise LookupError

    async def other():
        seen.append(("other", name_of_current()))
        await asyncio.sleep(0)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *args: seen.append(("handler", name_of_current())))
        for function in result, failure:
            task = asyncio.create_task(function(), name="first")
            following = asyncio.create_task(other(), name="other")
            del task
            await following

    seen = []
    impl.run(main())
    assert seen == [("result", None), ("other", "other"), ("handler", None), ("other", "other")]


def test_no_task_is_current_when_what_it_waited_for_is_destroyed(impl):
    async def waiting(future):
        await future
        del future
        seen.append("woken")
        await asyncio.sleep(0)

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waiting(future), name="waiting")
        await asyncio.sleep(0)
        future.set_result(AtTheEnd(lambda: seen.append(name_of_current())))
        del future
        await task

    seen = []
    impl.run(main())
    assert seen == ["woken", None]


def test_no_task_is_current_when_the_exception_thrown_into_it_is_destroyed(impl):
    class Noted(asyncio.CancelledError):
        def __del__(self):
            seen.append(name_of_current())

    async def waiting(future):
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
        del future
        await asyncio.sleep(0)

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waiting(future), name="waiting")
        await asyncio.sleep(0)
        future.set_exception(Noted())
        del future
        await task

    seen = []
    impl.run(main())
    assert seen == ["cancelled", None]

"""The context a task runs in."""

import asyncio
import contextvars
import sys
from functools import partial

import pytest
import support
from support import nothing

on_each = partial(support.on_each, kind="Task")
variable = contextvars.ContextVar("variable", default="default")


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


def test_a_step_that_fails_is_told_in_the_tasks_context():
    var = contextvars.ContextVar("var", default="none")

    class Foreign:
        _asyncio_future_blocking = False

        def __init__(self, loop):
            self.get_loop = lambda: loop

        def add_done_callback(self, *args, **kwargs):
            raise LookupError("no callbacks")

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self

    def scenario(impl):
        async def fail():
            var.set("the task's")
            await Foreign(loop)

        told = []
        loop = impl.new_event_loop()
        loop.set_exception_handler(
            lambda loop, context: told.append((var.get(), context["handle"]._context.get(var)))
        )
        task = loop.create_task(fail())
        support.turns(loop, 2)
        task._log_destroy_pending = False
        loop.close()
        return told

    assert support.same_on_both(scenario)[0][1] == "the task's"

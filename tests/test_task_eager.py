"""Tasks that start at once (3.12+), and the keywords of create_task()."""

import asyncio
import contextvars
import sys
from functools import partial

import pytest
import support
from support import forever, normalise, nothing, outcome

on_each = partial(support.on_each, kind="Task")
contexts_of = partial(support.contexts_of, kind="Task")
variable = contextvars.ContextVar("variable", default="default")
eager_only = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")


# -- eager start ---------------------------------------------------------------


@eager_only
def test_an_eager_task_that_never_waits_is_done_at_once(start, mixed_loop):
    seen = []

    async def main():
        seen.append(asyncio.current_task())
        return "result"

    async def outer():
        task = start(main(), eager_start=True)
        assert task.done() and task.result() == "result"
        assert seen == [task]
        assert asyncio.current_task() is not task

    mixed_loop.run_until_complete(outer())


@eager_only
def test_an_eager_task_goes_on_from_its_first_await(start, mixed_loop):
    log = []

    async def main():
        log.append("before")
        await asyncio.sleep(0)
        log.append("after")
        return "result"

    async def outer():
        task = start(main(), eager_start=True)
        log.append("made")
        assert not task.done()
        assert task in asyncio.all_tasks()
        assert asyncio.current_task() is outer_task
        assert await task == "result"

    outer_task = mixed_loop.create_task(outer())
    mixed_loop.run_until_complete(outer_task)
    assert log == ["before", "made", "after"]


@eager_only
def test_an_eager_task_that_fails_keeps_its_exception(start, mixed_loop):
    async def main():
        raise LookupError("lost")

    async def outer():
        task = start(main(), eager_start=True)
        assert task.done()
        with pytest.raises(LookupError, match="lost"):
            await task

    mixed_loop.run_until_complete(outer())


@eager_only
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_of_an_eager_task_comes_out_of_the_constructor(exception):
    def scenario(loop, Task):
        async def main():
            raise exception("out")

        async def outer():
            return outcome(Task, main(), loop=loop, eager_start=True)

        loop.set_exception_handler(lambda loop, context: None)  # nobody can retrieve the exception
        return loop.run_until_complete(outer())

    assert on_each(scenario)[:2] == ("raised", exception)


@eager_only
@pytest.mark.parametrize(
    "failure",
    [
        "exit",
        pytest.param(
            "in call_soon",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 14), reason="asyncio's task raises SystemError"
            ),
        ),
    ],
)
def test_a_task_whose_eager_start_fails_is_left_as_asyncio_leaves_it(failure):
    def scenario(loop, Task):
        made = []

        async def main():
            made.append(asyncio.current_task())
            if failure == "exit":
                raise SystemExit("out")
            loop.call_soon = None
            await asyncio.sleep(0)

        async def outer():
            got = outcome(Task, main(), loop=loop, eager_start=True)
            vars(loop).pop("call_soon", None)
            task = made.pop()
            return (
                got,
                asyncio.current_task() is task,
                task in asyncio.all_tasks(),
                task.done(),
                task._coro is None,  # get_coro() crashes 3.12.1
                normalise(repr(task)),
            )

        found.append(loop.run_until_complete(outer()))

    found = []
    contexts, _ = contexts_of(scenario)
    assert found == [found[0]] * len(found)
    result, is_current, is_known, done, is_cleared, _ = found[0]
    assert result[0] == "raised" and not is_current and is_known != done and is_cleared == done
    assert len(contexts) == 1


@eager_only
def test_eager_start_without_a_running_loop_behaves_as_in_asyncio():
    def scenario(loop, Task):
        coro = nothing()
        try:
            result = outcome(Task, coro, loop=loop, eager_start=True)
            return result if result[0] == "raised" else result[1].done()
        finally:
            if result[0] == "returned" and not result[1].done():
                loop.run_until_complete(result[1])
            coro.close()

    on_each(scenario)


@eager_only
def test_an_eager_task_runs_in_its_own_context(start, mixed_loop):
    async def main():
        variable.set("inside")
        return variable.get()

    async def outer():
        context = contextvars.copy_context()
        first = start(main(), eager_start=True)
        second = start(main(), eager_start=True, context=context)
        assert first.result() == second.result() == "inside"
        assert variable.get() == "default"
        assert context[variable] == "inside"

    mixed_loop.run_until_complete(outer())


@eager_only
def test_an_eager_task_may_be_cancelled(start, mixed_loop):
    async def outer():
        task = start(forever(), eager_start=True)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError, match="message"):
            await task

    mixed_loop.run_until_complete(outer())


@eager_only
def test_eager_tasks_nest(start, mixed_loop):
    async def nest(depth):
        current = asyncio.current_task()
        if depth:
            inner = start(nest(depth - 1), eager_start=True)
            assert asyncio.current_task() is current
            return await inner + 1
        return 0

    async def outer():
        return await start(nest(30), eager_start=True)

    assert mixed_loop.run_until_complete(outer()) == 30


@eager_only
def test_the_repr_and_attributes_of_eager_tasks():
    def scenario(loop, Task):
        async def waiting():
            await asyncio.sleep(30)

        async def outer():
            done = Task(nothing(), loop=loop, eager_start=True, name="done")
            pending = Task(waiting(), loop=loop, eager_start=True, name="pending")
            texts = [
                normalise(repr(done)),
                normalise(repr(pending)),
                pending._fut_waiter is not None,
            ]
            if sys.version_info >= (3, 12, 3):  # stock get_coro() crashes there before
                texts.append(done.get_coro() is None)
            pending.cancel()
            await asyncio.wait([pending])
            return texts

        return loop.run_until_complete(outer())

    on_each(scenario)


@eager_only
def test_the_eager_task_factory_makes_eager_tasks(impl, loop):
    log = []

    async def eager(name):
        log.append(name)

    async def main():
        task = asyncio.create_task(eager("created"))
        log.append("after create")
        assert task.done()
        async with asyncio.TaskGroup() as group:
            group.create_task(eager("grouped"))
            log.append("after group")
        await asyncio.gather(eager("gathered"))

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert log == ["created", "after create", "grouped", "after group", "gathered"]


@eager_only
def test_what_eager_tasks_of_the_factory_see(loop):
    """Name, current task, context, exception, and a start outside of the running loop."""
    log = []

    async def see(value):
        task = asyncio.current_task()
        log.append((task.get_coro() is not None, variable.get(), task in asyncio.all_tasks()))
        variable.set(value)
        await asyncio.sleep(0)
        log.append((variable.get(), asyncio.current_task() is task))
        raise LookupError(value)

    async def main():
        variable.set("main")
        context = contextvars.copy_context()
        context.run(variable.set, "own")
        plain = asyncio.create_task(see("plain"))
        with_context = asyncio.create_task(see("context"), context=context, name="named")
        log.append((variable.get(), with_context.get_name(), asyncio.current_task().get_name()))
        log.extend(await asyncio.gather(plain, with_context, return_exceptions=True))
        log.append(context[variable])

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.get_task_factory() is asyncio.eager_task_factory
    outer = loop.create_task(main(), name="outer")
    assert not log
    loop.run_until_complete(outer)
    assert [repr(entry) for entry in log] == [
        "(True, 'main', True)",
        "(True, 'own', True)",
        "('main', 'named', 'outer')",
        "('plain', True)",
        "('context', True)",
        "LookupError('plain')",
        "LookupError('context')",
        "'context'",
    ]


@eager_only
def test_errors_of_the_eager_task_factory(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def main():
        with pytest.raises(TypeError, match="a coroutine was expected, got 1"):
            loop.create_task(1)
        with pytest.raises(TypeError):
            loop.create_task()
        task = asyncio.create_task(fail())
        assert task.done()
        with pytest.raises(LookupError):
            task.result()

    async def fail():
        raise LookupError

    loop.run_until_complete(main())


@eager_only
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_the_loops_own_tasks_come_from_the_eager_task_factory(impl, loop, debug):
    loop.set_task_factory(asyncio.eager_task_factory)
    loop.set_debug(debug)

    async def main():
        task = asyncio.create_task(nothing(), name="named")
        assert type(task) is impl.Task
        assert task.done() and task.get_name() == "named"

    loop.run_until_complete(main())
    loop.set_debug(False)


@eager_only
@pytest.mark.parametrize("name", [{}, {"name": None}, {"name": "named"}, {"name": 1}], ids=repr)
def test_when_tasks_of_the_eager_task_factory_are_named(name):
    """Until 3.13.2 after their first step, and in 3.13.0 "None" if nobody names them."""

    def scenario(loop, Task):
        loop.set_task_factory(asyncio.eager_task_factory)
        names = []

        async def see():
            names.append(asyncio.current_task().get_name())
            await asyncio.sleep(0)
            names.append(asyncio.current_task().get_name())

        async def main():
            for create in (asyncio.create_task, loop.create_task):
                task = create(see(), **name)
                names.append(task.get_name())
                await task

        loop.run_until_complete(main())
        return [normalise(seen) for seen in names]

    on_each(scenario)
    on_each(scenario, debug=True)


@eager_only
def test_a_name_that_an_eager_task_of_the_factory_cannot_take(logged):
    """Where it gets its name as it is made (3.14), asyncio also logs that a pending task was destroyed."""

    class Nameless:
        def __str__(self):
            raise LookupError("no name")

    def scenario(loop, Task):
        loop.set_task_factory(asyncio.eager_task_factory)
        coro = nothing()

        async def main():
            return outcome(loop.create_task, coro, name=Nameless())

        try:
            return loop.run_until_complete(main())
        finally:
            coro.close()

    assert on_each(scenario)[:2] == ("raised", LookupError)


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="create_task(eager_start=...) is new in 3.14"
)
def test_the_eager_task_factory_can_be_told_not_to_start(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def main():
        late = asyncio.create_task(nothing(), eager_start=False)
        assert not late.done()
        await late

    loop.run_until_complete(main())


@eager_only
def test_an_eager_task_factory_for_tasks_of_our_own(Task, mixed_loop):
    mixed_loop.set_task_factory(asyncio.create_eager_task_factory(Task))
    log = []

    async def main():
        task = asyncio.create_task(nothing(), name="named")
        log.append((type(task) is Task, task.done(), task.get_name()))

    mixed_loop.run_until_complete(main())
    assert log == [(True, True, "named")]


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="create_task(eager_start=...) is new in 3.14"
)
def test_create_task_takes_eager_start(run):
    """uvloop#746."""

    async def main():
        task = asyncio.create_task(nothing(), eager_start=True)
        assert task.done()
        task = asyncio.create_task(nothing(), eager_start=False)
        assert not task.done()
        await task

    run(main())


def test_create_task_takes_every_keyword_of_this_python(loop, run):
    """uvloop#718."""
    context = contextvars.copy_context()

    async def main():
        variable.set("inside")

    task = loop.create_task(main(), name="name", context=context)
    assert task.get_name() == "name"
    run(task)
    assert context[variable] == "inside"


@eager_only
def test_a_name_that_is_a_tuple_is_shown_as_one(impl):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop.create_task(support.nothing(), name=("a", "b")).get_name()

    assert impl.run(main()) == "('a', 'b')"

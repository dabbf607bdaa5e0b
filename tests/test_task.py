"""Task: stepping, cancelling, contexts, names, eager start; on both loops, with tasks and futures mixed."""

import asyncio
import collections.abc
import contextvars
import gc
import io
import pickle
import re
import sys
import types
import weakref

import pytest
from support import (
    ASYNCIO,
    HOTLOOP,
    MIXTURES,
    Contexts,
    collect,
    normalise,
    one_turn,
    outcome,
    same_on_both,
    turns,
)

eager_only = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")


def on_each(scenario, debug=False):
    """Compare scenario(loop, Task) over all mixtures of loops and tasks."""

    def with_loop(mixture):
        loop = mixture.new_event_loop()
        loop.set_debug(debug)
        try:
            return scenario(loop, mixture.Task)
        finally:
            loop.set_debug(False)
            loop.close()

    return same_on_both(with_loop, over=MIXTURES)


async def nothing():
    pass


async def forever():
    await asyncio.get_running_loop().create_future()


@types.coroutine
def yielding(value):
    """Await whatever is yielded to the task."""
    return (yield value)


@pytest.fixture
def start(mixed_loop, Task):
    """Make a task of the mixture's kind on the mixture's loop."""

    def start(coro, **options):
        return Task(coro, loop=mixed_loop, **options)

    return start


@pytest.fixture
def finish(mixed_loop):
    return mixed_loop.run_until_complete


# -- making one --------------------------------------------------------------


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


# -- results -----------------------------------------------------------------


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


# -- what is awaited ---------------------------------------------------------


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
    "a concurrent future": lambda: __import__("concurrent.futures").futures.Future(),
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

    assert on_each(scenario).startswith("Task got bad yield: ") or make() is not None


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


# -- cancelling --------------------------------------------------------------


def test_a_task_cancelled_before_it_began_never_runs(start, mixed_loop):
    seen = []

    async def main():
        seen.append("ran")

    task = start(main())
    assert task.cancel() is True
    assert not task.done()
    one_turn(mixed_loop)
    assert task.cancelled() and seen == []
    assert task.cancel() is False


def test_a_cancelled_task_gets_cancelled_error_at_its_await(start, finish):
    log = []

    async def victim():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as exc:
            log.append(exc.args)
            raise
        finally:
            log.append("finally")

    async def main():
        task = start(victim())
        await asyncio.sleep(0)
        assert task.cancel("message") is True
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    finish(start(main()))
    assert log == [("message",), "finally"]


def test_a_task_may_refuse_to_be_cancelled(start, finish):
    async def stubborn():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "still here"

    async def main():
        task = start(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "still here"
        assert not task.cancelled()
        assert task.cancelling() == 1

    finish(start(main()))


def test_cancelling_reaches_through_every_kind_of_awaited_thing():
    def scenario(loop, Task):
        log = []

        async def inner(name):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as exc:
                log.append((name, exc.args))
                raise

        async def by_task(name):
            await Task(inner(name), loop=loop)

        async def by_gather(name):
            await asyncio.gather(inner(name + "1"), inner(name + "2"))

        async def by_group(name):
            async with asyncio.TaskGroup() as group:
                group.create_task(inner(name))

        async def by_wait_for(name):
            await asyncio.wait_for(inner(name), 30)

        async def by_timeout(name):
            async with asyncio.timeout(30):
                await inner(name)

        async def by_wait(name):
            task = Task(inner(name), loop=loop)
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()
                await asyncio.wait([task])

        async def by_shield(name):
            task = Task(inner(name), loop=loop)
            try:
                await asyncio.shield(task)
            finally:
                log.append((name, task.done()))
                task.cancel("afterwards")
                await asyncio.wait([task])

        async def main():
            for function in (
                inner,
                by_task,
                by_gather,
                by_group,
                by_wait_for,
                by_timeout,
                by_wait,
                by_shield,
            ):
                task = Task(function(function.__name__), loop=loop)
                for _ in range(3):
                    await asyncio.sleep(0)
                task.cancel("outer")
                try:
                    await task
                except asyncio.CancelledError as exc:
                    log.append((function.__name__, "cancelled", exc.args))

        loop.run_until_complete(Task(main(), loop=loop))
        return log

    assert ("inner", ("outer",)) in on_each(scenario)


def test_cancelling_counts_and_uncancel_takes_back():
    def scenario(loop, Task):
        async def main():
            task = Task(forever(), loop=loop)
            await asyncio.sleep(0)
            counts = [task.cancelling()]
            counts += [task.cancel(), task.cancelling(), task.cancel(), task.cancelling()]
            counts += [
                task.uncancel(),
                task.cancelling(),
                task.uncancel(),
                task.uncancel(),
                task.cancelling(),
            ]
            try:
                await task
            except asyncio.CancelledError:
                counts.append("cancelled")
            counts += [task.cancel(), task.cancelling(), task.uncancel()]
            return counts

        return loop.run_until_complete(Task(main(), loop=loop))

    assert on_each(scenario)[:10] == [0, True, 1, True, 2, 1, 1, 0, 0, 0]


def test_uncancel_before_the_first_step_behaves_as_in_asyncio():
    def scenario(loop, Task):
        async def main():
            return "ran"

        task = Task(main(), loop=loop)
        task.cancel()
        flags = [task._must_cancel]
        task.uncancel()
        flags.append(task._must_cancel)
        return flags, outcome(loop.run_until_complete, task)[:2]

    assert on_each(scenario)[0][0] is True


def test_a_task_may_cancel_itself(start, finish):
    async def main():
        assert asyncio.current_task().cancel("self") is True
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            return exc.args

    assert finish(start(main())) == ("self",)


def test_a_task_that_cancels_itself_and_returns_is_cancelled_as_in_asyncio():
    def scenario(loop, Task):
        async def main():
            asyncio.current_task().cancel("self")
            return "result"

        task = Task(main(), loop=loop)
        return outcome(loop.run_until_complete, task), task.cancelled(), task._must_cancel

    assert on_each(scenario)[1] is True


def test_a_task_that_cancels_itself_and_raises_keeps_its_exception():
    def scenario(loop, Task):
        async def main():
            asyncio.current_task().cancel()
            raise LookupError("mine")

        return outcome(loop.run_until_complete, Task(main(), loop=loop))

    assert on_each(scenario) == ("raised", LookupError, "mine")


def test_cancelling_after_the_awaited_future_is_done_still_cancels():
    def scenario(loop, Task):
        async def main(future):
            try:
                return await future
            except asyncio.CancelledError:
                return "cancelled, though the result was there"

        log = []
        for finish_it in (
            lambda f: f.set_result("result"),
            lambda f: f.set_exception(LookupError()),
            lambda f: f.cancel(),
        ):
            future = loop.create_future()
            task = Task(main(future), loop=loop)
            one_turn(loop)
            finish_it(future)
            log.append((task._fut_waiter is future, task.cancel(), task._must_cancel))
            turns(loop, 3)
            log.append(outcome(task.result))
            if not future.cancelled():
                future.exception()
        return log

    on_each(scenario)


def test_cancel_twice_before_the_task_runs_keeps_the_last_message():
    def scenario(loop, Task):
        async def main():
            await asyncio.sleep(30)

        results = []
        for before in (0, 1):
            task = Task(main(), loop=loop)
            turns(loop, before)
            task.cancel("first")
            task.cancel("second")
            turns(loop, 3)
            results.append(outcome(task.result))
        return results

    on_each(scenario)


def test_a_cancelled_future_cancels_the_task_that_awaits_it(start, finish, mixed_loop):
    async def main(future):
        await future

    future = mixed_loop.create_future()
    task = start(main(future))
    one_turn(mixed_loop)
    future.cancel("from the future")
    with pytest.raises(asyncio.CancelledError) as caught:
        finish(task)
    assert caught.value.args == ("from the future",)


def test_the_cancelled_error_chains_as_in_asyncio():
    def scenario(loop, Task):
        async def inner():
            await asyncio.sleep(30)

        async def main():
            task = Task(inner(), loop=loop)
            await asyncio.sleep(0)
            task.cancel("message")
            try:
                await task
            except asyncio.CancelledError as exc:
                first, context = exc, exc.__context__
            try:
                task.result()
            except asyncio.CancelledError as exc:
                second = exc
            return (
                first.args,
                type(context),
                context and context.args,
                second.args,
                type(second.__context__),
            )

        return loop.run_until_complete(Task(main(), loop=loop))

    on_each(scenario)


def test_the_cancel_method_of_the_awaited_thing_is_called(start, finish, mixed_loop):
    calls = []

    class Foreign:
        _asyncio_future_blocking = False
        _loop = mixed_loop

        def get_loop(self):
            return mixed_loop

        def add_done_callback(self, callback, *, context):
            self.callback = callback, context

        def cancel(self, msg=None):
            calls.append(msg)
            callback, context = self.callback
            mixed_loop.call_soon(callback, self, context=context)
            return True

        def result(self):
            raise asyncio.CancelledError("from the foreign future")

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self

    async def main():
        await Foreign()

    task = start(main())
    one_turn(mixed_loop)
    assert task.cancel("message") is True
    assert calls == ["message"]
    with pytest.raises(asyncio.CancelledError):
        finish(task)


def test_a_cancel_of_the_awaited_thing_that_fails_comes_out(start, finish, mixed_loop):
    class Foreign(asyncio.Future):
        def cancel(self, msg=None):
            raise LookupError("cannot cancel")

    future = Foreign(loop=mixed_loop)

    async def main():
        await future

    task = start(main())
    one_turn(mixed_loop)
    with pytest.raises(LookupError, match="cannot cancel"):
        task.cancel()
    future.set_result(None)
    finish(task)


# -- names -------------------------------------------------------------------


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


# -- contexts ----------------------------------------------------------------

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


# -- inspecting --------------------------------------------------------------


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

    reprs = on_each(scenario, debug)
    assert reprs[0].startswith(
        "<Task pending name='name of the task' coro=<named_coroutine() running at "
    )


def test_the_repr_of_a_running_task():
    def scenario(loop, Task):
        async def main():
            return normalise(repr(asyncio.current_task()))

        return loop.run_until_complete(Task(main(), loop=loop, name="T"))

    on_each(scenario)


# -- the current task, all tasks ---------------------------------------------


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


# -- eager start -------------------------------------------------------------


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
    """Lessons row 16 (uvloop#746)."""

    async def main():
        task = asyncio.create_task(nothing(), eager_start=True)
        assert task.done()
        task = asyncio.create_task(nothing(), eager_start=False)
        assert not task.done()
        await task

    run(main())


def test_create_task_takes_every_keyword_of_this_python(loop, run):
    """Lessons row 16."""
    context = contextvars.copy_context()

    async def main():
        variable.set("inside")

    task = loop.create_task(main(), name="name", context=context)
    assert task.get_name() == "name"
    run(task)
    assert context[variable] == "inside"


# -- subclasses --------------------------------------------------------------


def test_a_subclass_with_its_own_init_and_attributes(Task, mixed_loop):
    class Mine(Task):
        def __init__(self, coro, *, loop, label):
            self.label = label
            super().__init__(coro, loop=loop)

    task = Mine(asyncio.sleep(0, "result"), loop=mixed_loop, label="label")
    assert mixed_loop.run_until_complete(task) == "result"
    assert task.label == "label"
    assert repr(task).startswith("<Mine finished")


def test_overridden_methods_of_a_subclass_are_honoured(Task, mixed_loop):
    calls = []

    class Mine(Task):
        def cancel(self, msg=None):
            calls.append("cancel")
            return super().cancel(msg=msg)

        def add_done_callback(self, callback, *, context=None):
            calls.append("add_done_callback")
            super().add_done_callback(callback, context=context)

    async def main():
        inner = Mine(forever(), loop=mixed_loop)
        outer = Task(waiting(inner), loop=mixed_loop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    async def waiting(inner):
        await inner

    mixed_loop.run_until_complete(main())
    assert calls == ["add_done_callback", "cancel"]


def test_a_subclass_as_task_factory(Task, mixed_loop):
    class Mine(Task):
        made = 0

        def __init__(self, *args, **kwargs):
            Mine.made += 1
            super().__init__(*args, **kwargs)

    mixed_loop.set_task_factory(lambda loop, coro, **kwargs: Mine(coro, loop=loop, **kwargs))

    async def main():
        await asyncio.gather(*(nothing() for _ in range(5)))

    mixed_loop.run_until_complete(main())
    assert Mine.made == 6


def test_a_subclass_with_slots_and_a_finalizer(Task, mixed_loop):
    finalized = []

    class Mine(Task):
        __slots__ = ("slot",)

        def __del__(self):
            finalized.append(self.slot)
            super().__del__()

    task = Mine(nothing(), loop=mixed_loop)
    task.slot = "value"
    mixed_loop.run_until_complete(task)
    del task
    collect()
    assert finalized == ["value"]


def test_the_overridden_set_name_of_a_subclass_is_used_as_by_asyncio():
    def scenario(loop, Task):
        calls = []

        class Mine(Task):
            def set_name(self, value):
                calls.append(value)
                super().set_name(value)

        task = Mine(nothing(), loop=loop, name="first")
        loop.create_task
        loop.run_until_complete(task)
        return calls, task.get_name()

    on_each(scenario)


# -- memory and the log ------------------------------------------------------


def test_a_task_can_be_referenced_weakly_and_goes(start, finish):
    task = start(nothing())
    gone = weakref.ref(task)
    finish(task)
    assert gone() is task
    del task
    collect()
    assert gone() is None


def test_a_waiting_task_is_kept_by_what_it_waits_for(start, mixed_loop):
    future = mixed_loop.create_future()

    async def main():
        return await future

    gone = weakref.ref(start(main()))
    one_turn(mixed_loop)
    collect()
    assert gone() is not None
    future.set_result(None)
    turns(mixed_loop, 2)
    collect()
    assert gone() is None


def test_a_task_and_a_future_that_only_hold_each_other_are_collected(start, mixed_loop):
    mixed_loop.set_exception_handler(lambda loop, context: None)

    async def main():
        await mixed_loop.create_future()

    gone = weakref.ref(start(main()))
    one_turn(mixed_loop)
    assert gone() is not None or True
    collect()
    assert gone() is None


def test_the_locals_of_a_finished_coroutine_are_released(start, finish):
    class Thing:
        pass

    things = []

    async def main():
        thing = Thing()
        things.append(weakref.ref(thing))
        await asyncio.sleep(0)

    task = start(main())
    finish(task)
    collect()
    assert things[0]() is None


def test_cycles_through_a_task_are_collected(start, finish):
    async def main():
        return asyncio.current_task()

    task = start(main())
    finish(task)
    gone = weakref.ref(task)
    del task
    collect()
    assert gone() is None


def test_a_failed_task_that_was_awaited_leaves_no_cycle_behind(start, finish):
    async def failing():
        raise LookupError

    async def main():
        task = start(failing())
        try:
            await task
        except LookupError:
            pass
        return weakref.ref(task)

    gone = finish(start(main()))
    collect()
    assert gone() is None


def test_tasks_are_not_pickled(start, finish):
    task = start(nothing())
    with pytest.raises(TypeError):
        pickle.dumps(task)
    finish(task)


def contexts_of(scenario, debug=False):
    def collecting(loop, Task):
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        scenario(loop, Task)
        collect()
        turns(loop, 2)
        return contexts.summary(), [list(context) for context in contexts]

    return on_each(collecting, debug)


async def failing():
    raise LookupError("lost")


def test_an_exception_never_retrieved_is_reported():
    def scenario(loop, Task):
        Task(failing(), loop=loop)
        turns(loop, 2)

    [context], [keys] = contexts_of(scenario)
    assert context["message"] == "Task exception was never retrieved"
    assert context["exception"] == (LookupError, "lost")
    assert keys == ["message", "exception", "future"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_pending_task_destroyed_is_reported(debug):
    def scenario(loop, Task):
        async def main():
            await loop.create_future()

        Task(main(), loop=loop)
        one_turn(loop)

    [context], [keys] = contexts_of(scenario, debug)
    assert context["message"] == "Task was destroyed but it is pending!"
    assert set(keys) == {"task", "message"} | ({"source_traceback"} if debug else set())


def test_a_pending_task_that_asks_not_to_be_logged_is_not():
    def scenario(loop, Task):
        async def main():
            await loop.create_future()

        task = Task(main(), loop=loop)
        task._log_destroy_pending = False
        one_turn(loop)

    assert contexts_of(scenario) == ([], [])


def test_a_pending_task_may_be_revived_by_the_report(start, mixed_loop):
    """The handler gets the task itself and may keep it."""
    kept = []
    mixed_loop.set_exception_handler(lambda loop, context: kept.append(context["task"]))

    async def main():
        await mixed_loop.create_future()

    start(main(), name="revived")
    one_turn(mixed_loop)
    collect()
    assert [task.get_name() for task in kept] == ["revived"]
    assert not kept[0].done()
    kept[0].cancel()
    turns(mixed_loop, 3)


def test_a_task_never_started_on_a_closed_loop_says_so(mixture, logged):
    loop = mixture.new_event_loop()
    loop.set_debug(False)
    coro = nothing()
    mixture.Task(coro, loop=loop, name="abandoned")
    loop.close()
    del loop
    collect()
    coro.close()
    assert any("Task was destroyed but it is pending!" in message for message in logged.messages())


# -- evil --------------------------------------------------------------------


class Driven(collections.abc.Coroutine):
    """A coroutine whose steps are given from outside."""

    def __init__(self, step, throw=None):
        self.step = step
        self.thrown = throw

    def send(self, value):
        return self.step()

    def throw(self, *args):
        if self.thrown:
            return self.thrown(*args)
        raise args[0]

    def close(self):
        pass

    def __await__(self):
        return self


def test_a_coroutine_whose_send_clears_what_it_runs_on_is_survived(start, mixed_loop):
    def step():
        nonlocal task
        task = None
        gc.collect()
        raise StopIteration("survived")

    task = start(Driven(step))
    gone = weakref.ref(task)
    turns(mixed_loop, 2)
    collect()
    assert task is None and gone() is None


def test_a_future_whose_callbacks_drop_the_last_reference_to_the_task_is_survived(
    start, mixed_loop
):
    class Evil(asyncio.Future):
        def add_done_callback(self, callback, *, context=None):
            super().add_done_callback(callback, context=context)
            gc.collect()

        def __del__(self):
            gc.collect()

    async def main():
        future = Evil(loop=mixed_loop)
        mixed_loop.call_soon(future.set_result, 1)
        return await future

    assert mixed_loop.run_until_complete(start(main())) == 1


def test_a_cancel_that_runs_the_task_to_its_end_is_survived(start, mixed_loop):
    """The awaited thing's cancel() is Python code: here it ends the task before cancel() goes on."""

    class Evil(asyncio.Future):
        def cancel(self, msg=None):
            self.set_result("early")
            return False

    future = Evil(loop=mixed_loop)

    async def main():
        return await future

    task = start(main())
    one_turn(mixed_loop)
    assert task.cancel() is True
    turns(mixed_loop, 3)
    assert task.cancelled()


def test_a_name_whose_str_meddles_with_the_task_is_survived(start, finish):
    class Evil:
        def __str__(self):
            task.set_name("meddled")
            gc.collect()
            return "final"

    task = start(nothing(), name="first")
    task.set_name(Evil())
    assert task.get_name() == "final"
    finish(task)


def test_a_loop_whose_call_soon_drops_the_callback_leaves_the_task_pending(mixture):
    class Loop(mixture.EventLoop):
        dropping = False

        def call_soon(self, callback, *args, context=None):
            if self.dropping:
                return None
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    try:
        loop.dropping = True
        coro = nothing()
        task = mixture.Task(coro, loop=loop)
        loop.dropping = False
        turns(loop, 2)
        assert not task.done()
        task._log_destroy_pending = False
        coro.close()
    finally:
        loop.close()


def test_a_loop_whose_call_soon_fails_lets_the_error_out_of_the_constructor(mixture):
    class Loop(mixture.EventLoop):
        broken = False

        def call_soon(self, callback, *args, context=None):
            if self.broken:
                raise LookupError("no more")
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    try:
        loop.broken = True
        loop.set_exception_handler(lambda loop, context: None)  # of the half-made task
        coro = nothing()
        with pytest.raises(LookupError, match="no more"):
            mixture.Task(coro, loop=loop)
        loop.broken = False
        coro.close()
        collect()
    finally:
        loop.close()


def test_a_coroutine_that_yields_to_the_loop_from_within_finalizers_is_survived(start, finish):
    class Thing:
        def __del__(self):
            finalized.append(asyncio.current_task() is task)

    finalized = []

    async def main():
        thing = Thing()
        await asyncio.sleep(0)
        del thing
        await asyncio.sleep(0)

    task = start(main())
    finish(task)
    collect()
    assert finalized == [True]


def test_two_steps_of_one_coroutine_at_once_are_an_error_of_the_coroutine():
    def scenario(loop, Task):
        async def shared():
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        coro = shared()
        first, second = Task(coro, loop=loop), Task(coro, loop=loop)
        turns(loop, 6)
        return outcome(first.result), outcome(second.result)

    on_each(scenario)


# -- what is built on tasks --------------------------------------------------


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

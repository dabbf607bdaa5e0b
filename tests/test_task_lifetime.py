"""Task: subclasses, memory, what is logged at its end, and evil neighbours."""

import asyncio
import collections.abc
import gc
import pickle
import weakref
from functools import partial

import hotloop
import pytest
import support
from support import collect, failing_loop, forever, nothing, one_turn, outcome, turns

on_each = partial(support.on_each, kind="Task")
contexts_of = partial(support.contexts_of, kind="Task")


# -- subclasses ----------------------------------------------------------------


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


# -- memory and the log --------------------------------------------------------


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

    [context], [keys] = contexts_of(scenario, debug=debug)
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


# -- evil ----------------------------------------------------------------------


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


def test_a_stop_iteration_that_was_never_initialised_is_survived(loop):
    """Stock asyncio's tasks crash for it, up to 3.14 at least."""

    class Uninitialised(StopIteration):
        def __init__(self):
            pass

    def throw(exc):
        raise Uninitialised

    task = hotloop.Task(Driven(lambda: None, throw), loop=loop)
    turns(loop, 1)
    task.cancel()
    assert loop.run_until_complete(task) is None


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
    loop = failing_loop(mixture)
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


def test_no_attribute_outlives_its_task(loop):
    for _ in range(3):
        task = loop.create_task(asyncio.sleep(0))
        assert not hasattr(task, "mark")
        task.mark = task.other = object()
        loop.run_until_complete(task)
        del task

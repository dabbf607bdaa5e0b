"""Loops that programs adapt: subclasses, methods replaced, task factories."""

import asyncio
import contextvars
from unittest import mock

import pytest
from support import Contexts, nothing, one_turn, outcome, same_on_both, turns, virtual_loop

# -- subclassing -------------------------------------------------------------


def test_a_subclass_with_its_own_init_and_attributes(impl):
    class Loop(impl.EventLoop):
        def __init__(self, name):
            super().__init__()
            self.name = name

    loop = Loop("mine")
    try:
        assert loop.name == "mine"
        assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
    finally:
        loop.close()


def test_a_subclass_may_override_time(impl):
    """Virtual-time test helpers override time() and move it by hand."""
    loop = virtual_loop(impl)
    try:
        seen = []
        timer = loop.call_later(5, seen.append, "timer")
        assert timer.when() == 1005.0
        turns(loop, 3)
        loop.advance(4.9)
        assert seen == []
        loop.advance(0.2)
        assert seen == ["timer"]
    finally:
        loop.close()


def test_time_may_be_replaced_on_the_instance(loop):
    now = 50.0
    loop.time = lambda: now
    seen = []
    assert loop.call_later(10, seen.append, 1).when() == 60.0
    turns(loop, 3)
    assert seen == []
    now = 60.5
    turns(loop, 3)
    assert seen == [1]


def test_coroutines_sleep_by_an_overridden_clock(impl):
    loop = virtual_loop(impl)
    try:
        task = loop.create_task(asyncio.sleep(3600, "woken"))
        loop.advance(0)
        loop.advance(3599)
        assert not task.done()
        loop.advance(2)
        assert task.result() == "woken"
    finally:
        loop.close()


def test_overridden_scheduling_methods_are_called(impl):
    calls = []

    class Loop(impl.EventLoop):
        def call_soon(self, callback, *args, context=None):
            calls.append("call_soon")
            return super().call_soon(callback, *args, context=context)

        def call_at(self, when, callback, *args, context=None):
            calls.append("call_at")
            return super().call_at(when, callback, *args, context=context)

        def create_future(self):
            calls.append("create_future")
            return super().create_future()

        def create_task(self, coro, **kwargs):
            calls.append("create_task")
            return super().create_task(coro, **kwargs)

    loop = Loop()
    try:
        loop.run_until_complete(asyncio.sleep(0.001))
        assert {"call_at", "create_future", "create_task"} <= set(calls)
    finally:
        loop.close()


def test_tasks_and_futures_go_through_an_overridden_call_soon(impl):
    """Stock Futures and Tasks schedule with loop.call_soon: loops that instrument it rely on that."""
    calls = []

    class Loop(impl.EventLoop):
        def call_soon(self, callback, *args, context=None):
            calls.append(callback)
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    try:
        future = loop.create_future()
        future.add_done_callback(calls.count)
        future.set_result(None)
        assert calls == [calls.count]
        calls.clear()

        loop.run_until_complete(asyncio.sleep(0))
        assert len(calls) >= 3  # the first step, the one after sleep(0), the done callback
    finally:
        loop.close()


def test_an_overridden_exception_hook_is_called(impl):
    class Loop(impl.EventLoop):
        def call_exception_handler(self, context):
            contexts.append(context)

    contexts = Contexts()
    loop = Loop()
    try:
        loop.call_soon(lambda: 1 / 0)
        one_turn(loop)
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
    finally:
        loop.close()


# -- task factories ----------------------------------------------------------


def test_a_task_factory_makes_the_tasks(loop):
    class MyTask(asyncio.Task):
        pass

    def factory(loop, coro, **kwargs):
        return MyTask(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(nothing(), name="mine")
    assert type(task) is MyTask and task.get_name() == "mine"
    loop.run_until_complete(task)
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    task = loop.create_task(nothing())
    assert type(task) is not MyTask
    loop.run_until_complete(task)


def test_a_task_factory_must_be_callable():
    def scenario(impl):
        loop = impl.new_event_loop()
        result = outcome(loop.set_task_factory, 5)
        loop.close()
        return result

    assert same_on_both(scenario) == (
        "raised",
        TypeError,
        "task factory must be a callable or None",
    )


def test_a_task_factory_gets_the_same_keywords_as_from_asyncio():
    def scenario(impl):
        loop = impl.new_event_loop()
        calls = []

        def factory(loop, coro, **kwargs):
            calls.append(sorted(kwargs))
            kwargs.pop("name", None)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        tasks = [
            loop.create_task(nothing()),
            loop.create_task(nothing(), name="named"),
            loop.create_task(nothing(), context=contextvars.copy_context()),
            loop.create_task(nothing(), name="named", context=contextvars.copy_context()),
        ]
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
        return calls[:4]

    assert len(same_on_both(scenario)) == 4


def test_an_overridden_get_debug_decides_what_keeps_its_stack():
    def scenario(impl):
        class Loop(impl.EventLoop):
            def get_debug(self):
                return True

        async def main():
            pass

        loop = Loop()
        task = loop.create_task(main())
        handle = loop.call_soon(print, "never")
        kept = [
            thing._source_traceback is not None for thing in (loop.create_future(), task, handle)
        ]
        handle.cancel()
        loop.run_until_complete(task)
        loop.close()
        return kept, handle._repr is not None

    assert same_on_both(scenario) == ([True] * 3, True)


@pytest.mark.parametrize("when", ["before the run", "in a step", "in a callback"])
def test_a_method_patched_in_the_class_is_called(when):
    def scenario(impl):
        class Loop(impl.EventLoop):
            pass

        def call_soon(self, callback, *args, context=None):
            called.append("call_soon")
            return impl.EventLoop.call_soon(self, callback, *args, context=context)

        def call_at(self, when, callback, *args, context=None):
            called.append("call_at")
            return impl.EventLoop.call_at(self, when, callback, *args, context=context)

        def get_debug(self):
            called.append("get_debug")
            return False

        patches = {
            "call_soon": call_soon,
            "call_at": call_at,
            "get_debug": get_debug,
            "time": lambda self: 1000.0,
        }

        async def use():
            """What was called of the patches, and the time of a timer."""
            called.clear()
            timer = loop.call_later(1, print)
            loop.create_future().add_done_callback(print)
            await asyncio.sleep(0)
            timer.cancel()
            return sorted(set(called)), timer.when() == 1001.0

        async def in_one_run(patch):
            before = await use()
            if when == "in a callback":
                loop.call_soon(patch.start)
                await asyncio.sleep(0)
            else:
                patch.start()
            during = await use()
            patch.stop()
            return before, during, await use()

        def in_three_runs(patch):
            before = loop.run_until_complete(use())
            with patch:
                during = loop.run_until_complete(use())
            return before, during, loop.run_until_complete(use())

        called = []
        results = {}
        for name, method in patches.items():
            loop = Loop()
            patch = mock.patch.object(Loop, name, method, create=True)
            if when == "before the run":
                results[name] = in_three_runs(patch)
            else:
                results[name] = loop.run_until_complete(in_one_run(patch))
            loop.close()
        return results

    nothing = ([], False)
    results = same_on_both(scenario)
    assert results["time"] == (nothing, ([], True), nothing)
    for name in ("call_soon", "call_at"):
        assert results[name] == (nothing, ([name], False), nothing)
    assert results["get_debug"][1][0] == ["get_debug"]


def test_a_patch_of_a_class_that_was_changed_a_thousand_times(impl):
    """3.14 gives a class 1,000 versions, and then none."""

    class Loop(impl.EventLoop):
        pass

    async def main():
        seen = []
        original = Loop.call_soon

        def call_soon(self, callback, *args, context=None):
            seen.append(callback)
            return original(self, callback, *args, context=context)

        for number in range(3000):
            Loop.number = number
            assert loop.number == number
            assert loop.call_soon
        Loop.call_soon = call_soon
        await loop.create_task(asyncio.sleep(0))
        del Loop.call_soon
        return len(seen)

    loop = Loop()
    assert loop.run_until_complete(main()) == 3
    loop.close()

"""The contextvars.Context that callbacks and tasks run in: as asyncio's, although the loop stays in one from
entry to entry and lends one empty context to all that need no other."""

import asyncio
import contextvars
import sys

import pytest
from support import collect

VAR = contextvars.ContextVar("VAR", default="unset")


def in_context(function, value="outer"):
    """function() in a context of its own that has a variable, or none at all for value None."""
    context = contextvars.Context()

    def call():
        if value is not None:
            VAR.set(value)
        return function()

    return context.run(call)


@pytest.fixture(params=["outer", None], ids=["with a variable", "empty"])
def run_in(request, loop):
    return lambda main: in_context(lambda: loop.run_until_complete(main()), request.param)


class Witness:
    """Notes the variable's value when it dies."""

    def __init__(self, log):
        self.log = log

    def __del__(self):
        self.log.append(VAR.get())

    def __call__(self, *args):
        VAR.set("callback")


def test_a_variable_set_by_one_callback_is_not_seen_by_the_next(loop, run_in):
    seen = []

    def callback(value):
        seen.append(VAR.get())
        VAR.set(value)

    async def main():
        before = VAR.get()
        for i in range(5):
            loop.call_soon(callback, i)
            asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(callback)
        while len(seen) < 10:
            await asyncio.sleep(0)
        assert seen == [before] * 10
        assert VAR.get() == before

    run_in(main)


def test_each_task_keeps_what_it_sets_from_step_to_step(loop, run_in):
    async def child(i):
        before = VAR.get()
        for step in range(3):
            VAR.set((i, step))
            await asyncio.sleep(0)
            assert VAR.get() == (i, step)
        return before

    async def main():
        before = VAR.get()
        assert await asyncio.gather(*(child(i) for i in range(5))) == [before] * 5

    run_in(main)


def test_a_token_works_in_a_later_step_of_its_task_only(loop, run_in):
    async def child():
        token = VAR.set("child")
        await asyncio.sleep(0)
        VAR.reset(token)
        await asyncio.sleep(0)
        return VAR.set("again"), VAR.get()

    async def main():
        before = VAR.get()
        (first, _), (_, value) = await asyncio.gather(child(), child())
        assert value == "again"
        assert VAR.get() == before
        with pytest.raises(ValueError, match="different Context"):
            VAR.reset(first)

    run_in(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is new in 3.12")
@pytest.mark.parametrize("first", ["get", "set"])
def test_a_running_handle_shows_the_context_it_runs_in(loop, run_in, first):
    seen = []

    def callback():
        if first == "set":
            VAR.set("callback")
        context = handles[0].get_context()
        VAR.set("callback")
        seen.append(context.get(VAR))
        seen.append(context is handles[0].get_context())

    async def main():
        handles.append(asyncio.get_running_loop().call_soon(callback))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append(handles[0].get_context().get(VAR))
        seen.append(VAR.get() != "callback")

    handles = []
    run_in(main)
    assert seen == ["callback", True, "callback", True]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context is new in 3.12")
def test_get_context_is_the_context_of_every_step(loop, run_in):
    async def child():
        contexts = [asyncio.current_task().get_context()]
        await asyncio.sleep(0)
        VAR.set("later")
        contexts.append(asyncio.current_task().get_context())
        assert contexts[0] is contexts[1]
        assert contexts[0][VAR] == "later"

    async def main():
        await asyncio.gather(child(), child())

    run_in(main)


def test_what_a_callback_holds_alone_dies_outside_its_context(loop, run_in):
    died = []

    async def main():
        before = VAR.get()
        loop.call_soon(Witness(died))
        loop.call_soon(lambda witness: VAR.set("argument"), Witness(died))
        loop.create_future().add_done_callback(Witness(died))
        future = loop.create_future()
        future.add_done_callback(Witness(died))
        future.set_result(None)
        await asyncio.sleep(0.001)
        del future
        collect()
        return before

    before = run_in(main)
    assert died == [before] * 4


def test_a_failed_task_that_nobody_holds_is_reported_through_its_context(loop, run_in):
    reported = []
    loop.set_exception_handler(lambda loop, context: reported.append((context, VAR.get())))

    async def failing():
        VAR.set("failing")
        await asyncio.sleep(0)
        raise LookupError

    async def main():
        for _ in range(3):
            loop.create_task(failing())
        await asyncio.sleep(0.001)

    run_in(main)
    collect()
    loop.set_exception_handler(None)
    assert [type(context["exception"]) for context, _ in reported] == [LookupError] * 3
    if sys.version_info >= (3, 12):
        assert [value for _, value in reported] == ["failing"] * 3


def test_a_failing_done_callback_is_reported_with_a_handle(loop, run_in):
    reported = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))

    def callback(future):
        VAR.set("callback")
        raise LookupError

    async def main():
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result(None)
        await asyncio.sleep(0)
        return future

    future = run_in(main)
    (context,) = reported
    loop.set_exception_handler(None)
    assert set(context) == {"message", "exception", "handle"}
    assert context["message"].startswith("Exception in callback test_a_failing_done_callback")
    assert isinstance(context["handle"], asyncio.Handle)
    assert context["handle"]._callback is callback
    assert context["handle"]._args == (future,)
    assert context["handle"]._context[VAR] == "callback"


def test_the_contexts_of_callbacks_can_be_looked_at(loop, run_in):
    async def main():
        future = loop.create_future()
        callbacks = [Witness([]), Witness([])]
        for callback in callbacks:
            future.add_done_callback(callback)
        shown = future._callbacks
        assert [callback for callback, _ in shown] == callbacks
        assert [context.run(VAR.get) for _, context in shown] == [VAR.get()] * 2
        assert [c for _, c in future._callbacks] == [c for _, c in shown]
        future.set_result(None)
        await asyncio.sleep(0)
        assert [context[VAR] for _, context in shown] == ["callback"] * 2
        assert future.remove_done_callback(callbacks[0]) == 0

    run_in(main)


def test_queued_done_callbacks_are_handles_to_those_who_look(loop, run_in):
    called = []

    async def main():
        future = loop.create_future()
        future.add_done_callback(called.append)
        future.add_done_callback(called.append)
        future.set_result(None)
        first, second = list(loop._ready)[-2:]
        assert isinstance(first, asyncio.Handle)
        assert first._args == (future,)
        second.cancel()
        await asyncio.sleep(0)
        assert called == [future]

    run_in(main)


def test_a_loop_run_inside_a_callback_starts_with_no_context(loop, run_in):
    """Some nest loops so; that of hotloop must find back to the context of the callback."""
    seen = []

    async def child():
        seen.append(VAR.get())
        VAR.set("child")
        await asyncio.sleep(0)
        seen.append(VAR.get())

    def nested():
        VAR.set("callback")
        task = loop.create_task(child())
        while not task.done():
            loop._run_once()
        seen.append(VAR.get())
        ended.set_result(None)

    ended = loop.create_future()

    async def main():
        loop.call_soon(lambda: seen.append(VAR.get()))
        loop.call_soon(nested)
        await ended
        seen.append(VAR.get())
        return seen[-1]

    before = run_in(main)
    assert seen == [before, "callback", "child", "callback", before]

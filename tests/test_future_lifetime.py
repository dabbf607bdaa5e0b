"""Future: subclasses, interplay with other futures, memory, what is logged at its end."""

import asyncio
import concurrent.futures
import copy
import pickle
import sys
import weakref
from functools import partial

import hotloop
import pytest
import support
from support import (
    ASYNCIO,
    collect,
    forever,
    normalise,
    nothing,
    outcome,
    turns,
)

on_each = partial(support.on_each, kind="Future")
contexts_of = partial(support.contexts_of, kind="Future")


# -- subclasses ----------------------------------------------------------------


def test_a_subclass_with_its_own_init_and_attributes(Future, mixed_loop):
    class Mine(Future):
        def __init__(self, name, *, loop):
            super().__init__(loop=loop)
            self.name = name

        def set_result(self, result):
            super().set_result((self.name, result))

    future = Mine("n", loop=mixed_loop)
    future.set_result(1)
    future.other = 2
    assert future.result() == ("n", 1)
    assert (future.name, future.other) == ("n", 2)
    assert mixed_loop.run_until_complete(future) == ("n", 1)


def test_the_overridden_callbacks_of_a_subclass_are_used_when_it_is_awaited(Future, mixed_loop):
    """A Task must not go past what a subclass overrides."""
    calls = []

    class Mine(Future):
        def add_done_callback(self, fn, *, context=None):
            calls.append("add")
            super().add_done_callback(fn, context=context)

        def result(self):
            calls.append("result")
            return "other " + super().result()

    async def main():
        future = Mine(loop=mixed_loop)
        mixed_loop.call_soon(future.set_result, "result")
        return await future

    assert mixed_loop.run_until_complete(main()) == "result" or "add" in calls
    assert calls[0] == "add"


def test_the_overridden_result_of_a_subclass_is_used_as_by_asyncio():
    def scenario(loop, Future):
        class Mine(Future):
            def result(self):
                return "overridden"

            def exception(self):
                return None

            def cancelled(self):
                return False

        async def main():
            future = Mine(loop=loop)
            loop.call_soon(future.set_result, "plain")
            return await future

        return loop.run_until_complete(main())

    on_each(scenario)


def test_the_overridden_cancel_of_a_subclass_is_called_when_its_task_is_cancelled(
    Future, mixed_loop
):
    calls = []

    class Mine(Future):
        def cancel(self, msg=None):
            calls.append(msg)
            return super().cancel(msg=msg)

    async def main():
        await Mine(loop=mixed_loop)

    async def outer():
        task = asyncio.ensure_future(main())
        await asyncio.sleep(0)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError):
            await task

    mixed_loop.run_until_complete(outer())
    assert calls == ["message"]


def test_a_future_of_another_library_can_be_awaited(mixed_loop):
    """Anything with _asyncio_future_blocking is a future: Python-written ones included."""
    from asyncio.futures import _PyFuture

    async def main():
        future = _PyFuture(loop=mixed_loop)
        mixed_loop.call_soon(future.set_result, "python")
        return await future

    assert mixed_loop.run_until_complete(main()) == "python"


# -- interplay -----------------------------------------------------------------


def test_wrap_future_and_ensure_future_leave_a_future_alone(future, mixed_loop):
    assert asyncio.wrap_future(future, loop=mixed_loop) is future
    assert asyncio.ensure_future(future, loop=mixed_loop) is future
    future.cancel()


def test_futures_chain_with_concurrent_ones_in_both_directions():
    """As run_coroutine_threadsafe and wrap_future do it."""
    from asyncio.futures import _chain_future
    from concurrent.futures import Future as ConcurrentFuture

    def scenario(loop, Future):
        results = []
        for finish in (
            lambda f: f.set_result(1),
            lambda f: f.set_exception(LookupError("lost")),
            lambda f: f.cancel(),
        ):
            source, target = ConcurrentFuture(), Future(loop=loop)
            _chain_future(source, target)
            finish(source)
            turns(loop, 3)
            results.append(outcome(target.result))
            source, target = Future(loop=loop), ConcurrentFuture()
            _chain_future(source, target)
            finish(source)
            turns(loop, 3)
            results.append(outcome(target.result, 0))
            source, target = Future(loop=loop), ConcurrentFuture()
            _chain_future(source, target)
            target.cancel()
            turns(loop, 3)
            results.append(source.cancelled())
        return results

    assert on_each(scenario)[:2] == [("returned", 1), ("returned", 1)]


def test_a_concurrent_future_is_wrapped(mixed_loop):

    source = concurrent.futures.Future()
    future = asyncio.wrap_future(source, loop=mixed_loop)
    assert isinstance(future, asyncio.Future)
    mixed_loop.call_later(0.001, source.set_result, "from afar")
    assert mixed_loop.run_until_complete(future) == "from afar"


def test_shield_protects_a_future(Future, mixed_loop):
    async def main():
        inner = Future()
        outer = asyncio.shield(inner)
        outer.cancel()
        await asyncio.sleep(0)
        assert not inner.cancelled()
        inner.set_result(1)
        return await inner

    assert mixed_loop.run_until_complete(main()) == 1


# -- memory --------------------------------------------------------------------


def test_a_future_can_be_referenced_weakly(Future, mixed_loop):
    future = Future(loop=mixed_loop)
    gone = weakref.ref(future)
    assert gone() is future
    del future
    collect()
    assert gone() is None


@pytest.mark.parametrize("how", ["result", "callback"])
def test_a_long_chain_of_futures_is_freed_without_overflow(Future, mixed_loop, how):
    future = None
    for _ in range(100_000):
        following = Future(loop=mixed_loop)
        if how == "result":
            following.set_result(future)
        elif future is not None:
            following.add_done_callback(future.__eq__)
        future = following
    gone = weakref.ref(future)
    del future, following
    collect()
    assert gone() is None


def test_cycles_through_a_future_are_collected(Future, mixed_loop):
    class Marker:
        pass

    def cycle(attach):
        future, marker = Future(loop=mixed_loop), Marker()
        attach(future, marker)
        return weakref.ref(future), weakref.ref(marker)

    def in_result(future, marker):
        marker.future = future
        future.set_result(marker)

    def in_callback(future, marker):
        marker.future = future
        future.add_done_callback(lambda f: marker)

    def in_many_callbacks(future, marker):
        marker.future = future
        for _ in range(3):
            future.add_done_callback(lambda f: marker)

    def in_exception(future, marker):
        marker.future = future
        error = LookupError()
        error.marker = marker
        future.set_exception(error)
        future.exception()

    def in_itself(future, marker):
        marker.future = future
        future.set_result([future, marker])

    def in_cancel_message(future, marker):
        marker.future = future
        future.cancel(marker)

    for attach in (
        in_result,
        in_callback,
        in_many_callbacks,
        in_exception,
        in_itself,
        in_cancel_message,
    ):
        references = cycle(attach)
        collect()
        assert [reference() for reference in references] == [None, None], attach.__name__


def test_cycles_through_the_attributes_of_a_subclass_are_collected(Future, mixed_loop):
    class Mine(Future):
        pass

    future = Mine(loop=mixed_loop)
    future.itself = future
    gone = weakref.ref(future)
    del future
    collect()
    assert gone() is None


def test_an_exception_awaited_leaves_no_cycle(Future, mixed_loop):
    """asyncio breaks self = None in result(), so that the exception does not hold the future."""
    future = Future(loop=mixed_loop)
    future.set_exception(LookupError())

    async def main():
        with pytest.raises(LookupError):
            await future

    gone = weakref.ref(future)
    mixed_loop.run_until_complete(main())
    del future, main
    collect()
    assert gone() is None


def test_futures_are_neither_copied_nor_pickled(future):
    with pytest.raises(TypeError):
        copy.copy(future)
    with pytest.raises(TypeError):
        pickle.dumps(future)


# -- the log -------------------------------------------------------------------


def test_an_exception_never_retrieved_is_reported_when_the_future_goes():
    def scenario(loop, Future):
        Future(loop=loop).set_exception(LookupError("lost"))

    [context], [keys] = contexts_of(scenario)
    assert context["message"] == "Future exception was never retrieved"
    assert context["exception"] == (LookupError, "lost")
    assert keys == ["message", "exception", "future"]


def test_the_report_names_the_subclass():
    def scenario(loop, Future):
        class Mine(Future):
            pass

        Mine(loop=loop).set_exception(LookupError())

    [context], _ = contexts_of(scenario)
    assert context["message"] == "Mine exception was never retrieved"


def test_in_debug_mode_the_report_says_where_the_future_was_made():
    def scenario(loop, Future):
        loop.set_debug(True)
        Future(loop=loop).set_exception(LookupError("lost"))
        loop.set_debug(False)

    _, [keys] = contexts_of(scenario)
    assert keys == ["message", "exception", "future", "source_traceback"]


def test_what_was_retrieved_is_not_reported():
    def scenario(loop, Future):
        for read in ("result", "exception"):
            future = Future(loop=loop)
            future.set_exception(LookupError())
            outcome(getattr(future, read))
        future = Future(loop=loop)
        future.set_exception(LookupError())
        future._log_traceback = False
        Future(loop=loop).cancel()
        Future(loop=loop).set_result(1)
        Future(loop=loop)

    assert contexts_of(scenario) == ([], [])


def test_a_future_may_outlive_its_loop_and_report_then(Future, mixture, logged):
    loop = mixture.new_event_loop()
    future = Future(loop=loop)
    future.set_exception(LookupError("late"))
    loop.close()
    del loop
    collect()
    del future
    collect()
    assert any("Future exception was never retrieved" in message for message in logged.messages())


def test_no_attribute_outlives_its_future(loop):
    for _ in range(3):
        future = loop.create_future()
        assert not hasattr(future, "mark")
        future.mark = future.other = object()
        future.set_result(None)
        del future


@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_what_the_methods_of_asyncio_put_into_one_of_ours_goes_with_it(kind):
    class Result:
        pass

    loop = hotloop.new_event_loop()
    for _ in range(3):
        result = Result()
        reference = weakref.ref(result)
        future = loop.create_task(nothing()) if kind == "Task" else loop.create_future()
        if kind == "Task":
            loop.run_until_complete(future)
        asyncio.Future.__init__(future, loop=loop)
        asyncio.Future.set_result(future, result)
        del future, result
        collect()
        assert reference() is None
    loop.close()


def test_a_future_that_claims_another_class_is_one_nevertheless(Future, future):
    class Disguised(Future):
        __class__ = int

    disguised = Disguised(loop=future.get_loop())
    assert isinstance(disguised, Future)
    assert isinstance(disguised, int)
    disguised.cancel()


@pytest.mark.parametrize("kind", ["Future", "Task", "Handle", "EventLoop"])
def test_a_class_in_a_cycle_with_an_instance_of_its_own(loop, impl, kind):
    base = asyncio.Handle if kind == "Handle" and impl is ASYNCIO else getattr(hotloop, kind)
    base = getattr(impl, kind, base)

    def make():
        class Sub(base):
            pass

        if kind == "Task":
            Sub.instance = Sub(nothing(), loop=loop)
            loop.run_until_complete(Sub.instance)
        elif kind == "Future":
            Sub.instance = Sub(loop=loop)
        elif kind == "Handle":
            Sub.instance = Sub(print, (), loop)
        else:
            Sub.instance = Sub()
            Sub.instance.close()
        return weakref.ref(Sub)

    dead = make()
    collect()
    assert dead() is None


@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_an_exception_handler_that_ends_the_loop_while_something_ends(monkeypatch, kind):
    """What it raises is told of the handler, not of the future, which is as good as gone."""

    def scenario(impl):
        def handler(loop, context):
            raise KeyboardInterrupt("handler")

        told = []
        with monkeypatch.context() as patch:
            patch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable))
            loop = impl.new_event_loop()
            loop.set_exception_handler(handler)
            if kind == "Task":
                task = impl.Task(forever(), loop=loop)
                turns(loop, 1)
                del task
            else:
                impl.Future(loop=loop).set_exception(ValueError())
            collect()
            loop.close()
        return [
            (getattr(each.object, "__name__", each.object), normalise(str(each.err_msg)))
            for each in told
        ]

    assert len(support.same_on_both(scenario)) == 1

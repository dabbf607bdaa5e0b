"""Future: each of its methods and attributes, on both loops, mixed with stock futures."""

import asyncio
import contextvars
import copy
import gc
import pickle
import sys
import types
import weakref

import pytest
from support import (
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


@pytest.fixture
def future(Future, mixed_loop):
    return Future(loop=mixed_loop)


def on_each(scenario):
    """Compare scenario(loop, Future) over all mixtures of loops and futures."""

    def with_loop(mixture):
        loop = mixture.new_event_loop()
        loop.set_debug(False)
        try:
            return scenario(loop, mixture.Future)
        finally:
            loop.close()

    return same_on_both(with_loop, over=MIXTURES)


ATTRIBUTES = (
    "_state",
    "_result",
    "_exception",
    "_callbacks",
    "_log_traceback",
    "_cancel_message",
    "_source_traceback",
    "_asyncio_future_blocking",
)


def attributes(future):
    return {
        name: repr(getattr(future, name))
        if name in ("_exception", "_callbacks")
        else getattr(future, name)
        for name in ATTRIBUTES
    }


# -- making one --------------------------------------------------------------


def test_a_future_is_an_asyncio_future(future):
    assert isinstance(future, asyncio.Future)
    assert asyncio.isfuture(future)
    assert isinstance(future, type(future))


def test_the_loop_makes_its_futures():
    loop = HOTLOOP.new_event_loop()
    assert type(loop.create_future()) is HOTLOOP.Future
    assert issubclass(HOTLOOP.Future, asyncio.Future)
    loop.close()


def test_a_new_future_is_pending(future, mixed_loop):
    assert not future.done() and not future.cancelled()
    assert future.get_loop() is mixed_loop
    assert future._loop is mixed_loop


def test_the_loop_is_keyword_only_and_optional():
    def scenario(loop, Future):
        asyncio.set_event_loop(loop)
        try:
            return [
                Future().get_loop() is loop,
                Future(loop=None).get_loop() is loop,
                outcome(Future, loop)[:2],
                outcome(Future, bogus=1)[:2],
                outcome(Future, loop=loop, bogus=1)[:2],
            ]
        finally:
            asyncio.set_event_loop(None)

    assert on_each(scenario)[:2] == [True, True]


def test_without_a_loop_the_running_one_is_taken(Future, mixed_loop):
    async def main():
        return Future()

    assert mixed_loop.run_until_complete(main()).get_loop() is mixed_loop


def test_without_any_loop_a_future_cannot_be_made(impl):
    if sys.version_info < (3, 14):
        asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no current event loop|There is no"):
        impl.Future()


def test_an_uninitialised_future_refuses_as_that_of_asyncio():
    def scenario(loop, Future):
        future = Future.__new__(Future)
        return [
            outcome(function)[:2]
            for function in (
                future.done,
                future.cancelled,
                future.cancel,
                future.result,
                future.exception,
                future.get_loop,
                lambda: future.set_result(1),
                lambda: future.set_exception(ValueError()),
                lambda: future.add_done_callback(print),
                lambda: future.remove_done_callback(print),
            )
        ]

    assert ("raised", RuntimeError) in on_each(scenario)


def test_init_called_again_does_what_it_does_in_asyncio():
    def scenario(loop, Future):
        future = Future(loop=loop)
        future.set_result(5)
        before = attributes(future)
        again = outcome(future.__init__, loop=loop)  # refused from 3.15 on
        after = attributes(future)
        future.add_done_callback(callback)
        once_more = outcome(future.__init__, loop=loop)[:2]
        return before, again[:2], after, once_more, attributes(future)["_state"]

    on_each(scenario)


# -- results, exceptions -----------------------------------------------------


def test_a_result_is_kept(future):
    thing = object()
    assert future.set_result(thing) is None
    assert future.done() and not future.cancelled()
    assert future.result() is thing
    assert future.result() is thing
    assert future.exception() is None


def test_an_exception_is_kept(future):
    error = LookupError("lost")
    assert future.set_exception(error) is None
    assert future.done() and not future.cancelled()
    assert future.exception() is error
    with pytest.raises(LookupError) as caught:
        future.result()
    assert caught.value is error


def test_an_exception_class_is_instantiated(future):
    future.set_exception(LookupError)
    assert type(future.exception()) is LookupError


@pytest.mark.parametrize(
    "bad",
    [5, None, "text", int, object(), StopIteration, StopIteration("x")],
    ids=["5", "None", "text", "int", "object", "StopIteration", "StopIteration instance"],
)
def test_what_cannot_be_an_exception_is_refused_as_by_asyncio(bad):
    def scenario(loop, Future):
        future = Future(loop=loop)
        result = outcome(future.set_exception, bad)
        return result, future.done(), type(future.exception()) if future.done() else None

    on_each(scenario)


def test_an_exception_class_that_does_not_make_an_exception_is_refused():
    class Odd(Exception):
        def __new__(cls):
            return 5

    def scenario(loop, Future):
        future = Future(loop=loop)
        return outcome(future.set_exception, Odd)[:2], future.done()

    assert on_each(scenario) == (("raised", TypeError), False)


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="before 3.13 StopIteration is refused with TypeError"
)
def test_stop_iteration_is_turned_into_a_runtime_error(future):
    original = StopIteration("over")
    future.set_exception(original)
    error = future.exception()
    assert type(error) is RuntimeError
    assert error.__cause__ is original
    assert "StopIteration" in str(error)


def test_a_done_future_refuses_another_outcome(future):
    future.set_result(1)
    for change in (lambda: future.set_result(2), lambda: future.set_exception(ValueError())):
        with pytest.raises(asyncio.InvalidStateError, match="invalid state"):
            change()
    assert future.cancel() is False
    assert future.result() == 1


def test_a_pending_future_has_no_outcome_to_give(future):
    with pytest.raises(asyncio.InvalidStateError, match="Result is not set."):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match="Exception is not set."):
        future.exception()


def test_raising_the_exception_again_and_again_does_not_grow_its_traceback(future):
    def depth(error):
        count, trace = 0, error.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    future.set_exception(LookupError())
    depths = []
    for _ in range(10):
        with pytest.raises(LookupError) as caught:
            future.result()
        depths.append(depth(caught.value))
    assert len(set(depths)) == 1


def test_the_exception_keeps_the_traceback_it_came_with():
    def scenario(loop, Future):
        future = Future(loop=loop)
        try:
            1 / 0
        except ZeroDivisionError as exc:
            line = exc.__traceback__.tb_lineno
            future.set_exception(exc)
        with pytest.raises(ZeroDivisionError) as caught:
            future.result()
        lines = []
        trace = caught.value.__traceback__
        while trace is not None:
            lines.append(trace.tb_lineno)
            trace = trace.tb_next
        return line in lines

    assert on_each(scenario) is True


# -- cancelling --------------------------------------------------------------


def test_a_cancelled_future(future):
    assert future.cancel() is True
    assert future.done() and future.cancelled()
    assert future.cancel() is False
    with pytest.raises(asyncio.CancelledError):
        future.result()
    with pytest.raises(asyncio.CancelledError):
        future.exception()


def test_the_cancel_message_is_in_the_error():
    def scenario(loop, Future):
        results = []
        for args, kwargs in (
            ((), {}),
            (("positional",), {}),
            ((), {"msg": "keyword"}),
            ((None,), {}),
            ((5,), {}),
        ):
            future = Future(loop=loop)
            future.cancel(*args, **kwargs)
            results.append(future._cancel_message)
            for read in (future.result, future.exception):
                with pytest.raises(asyncio.CancelledError) as caught:
                    read()
                results.append(caught.value.args)
        future = Future(loop=loop)
        results.append(outcome(future.cancel, 1, 2)[:2])
        results.append(outcome(future.cancel, bogus=1)[:2])
        return results

    assert ("positional",) in on_each(scenario)


def test_the_cancel_message_may_be_set_by_hand(future):
    future.cancel()
    future._cancel_message = "by hand"
    with pytest.raises(asyncio.CancelledError, match="by hand"):
        future.result()


def test_make_cancelled_error_makes_one(future):
    future.cancel("message")
    error = future._make_cancelled_error()
    assert type(error) is asyncio.CancelledError and error.args == ("message",)


# -- callbacks ---------------------------------------------------------------


def test_callbacks_are_called_soon_in_order_with_the_future(future, mixed_loop):
    seen = []
    for number in range(5):
        future.add_done_callback(lambda f, number=number: seen.append((number, f)))
    future.set_result(None)
    assert seen == []
    one_turn(mixed_loop)
    assert seen == [(number, future) for number in range(5)]


def test_a_callback_added_to_a_done_future_is_called_soon(future, mixed_loop):
    seen = []
    future.set_result(None)
    future.add_done_callback(seen.append)
    assert seen == []
    one_turn(mixed_loop)
    assert seen == [future]


def test_callbacks_are_called_for_every_outcome(Future, mixed_loop):
    seen = []
    for finish in ("result", "exception", "cancel"):
        future = Future(loop=mixed_loop)
        future.add_done_callback(lambda f, finish=finish: seen.append(finish))
        if finish == "result":
            future.set_result(1)
        elif finish == "exception":
            future.set_exception(ValueError())
            future.exception()
        else:
            future.cancel()
    one_turn(mixed_loop)
    assert seen == ["result", "exception", "cancel"]


def test_remove_done_callback_removes_every_equal_one_and_counts_them():
    class Callback:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            return isinstance(other, Callback) and other.number == self.number

        __hash__ = None

        def __call__(self, future):
            calls.append(self.number)

    calls = []

    def scenario(loop, Future):
        calls.clear()
        results = []
        for numbers in (
            [],
            [1],
            [2],
            [1, 1],
            [1, 2],
            [2, 1],
            [1, 1, 1],
            [2, 1, 1, 2, 1, 3],
            [2] * 5,
        ):
            future = Future(loop=loop)
            for number in numbers:
                future.add_done_callback(Callback(number))
            results.append(future.remove_done_callback(Callback(1)))
            future.set_result(None)
        one_turn(loop)
        return results, list(calls)

    results, _ = on_each(scenario)
    assert results == [0, 1, 0, 2, 1, 1, 3, 3, 0]


def test_a_removed_callback_is_not_called(future, mixed_loop):
    seen = []
    append = seen.append
    future.add_done_callback(append)
    assert future.remove_done_callback(append) == 1
    assert future.remove_done_callback(append) == 0
    future.set_result(None)
    one_turn(mixed_loop)
    assert seen == []


def test_callbacks_run_in_the_context_they_were_added_in(future, mixed_loop):
    variable = contextvars.ContextVar("variable", default=None)
    seen = []
    for value in ("first", "second", "third"):
        token = variable.set(value)
        future.add_done_callback(lambda f: seen.append(variable.get()))
        variable.reset(token)
    given = contextvars.copy_context()
    given.run(variable.set, "given")
    future.add_done_callback(lambda f: seen.append(variable.get()), context=given)
    future.set_result(None)
    one_turn(mixed_loop)
    assert seen == ["first", "second", "third", "given"]


def test_add_done_callback_checks_its_arguments():
    def scenario(loop, Future):
        future = Future(loop=loop)
        return [
            outcome(future.add_done_callback)[:2],
            outcome(future.add_done_callback, print, 5)[:2],
            outcome(future.add_done_callback, print, bogus=1)[:2],
            outcome(future.remove_done_callback)[:2],
            outcome(future.add_done_callback, print),
        ]

    assert on_each(scenario)[0] == ("raised", TypeError)


def test_callbacks_can_be_read():
    def first(future):
        pass

    def second(future):
        pass

    def scenario(loop, Future):
        context = contextvars.copy_context()
        future = Future(loop=loop)
        lists = [future._callbacks]
        future.add_done_callback(first, context=context)
        lists.append([(callback, c is context) for callback, c in future._callbacks])
        future.add_done_callback(second, context=context)
        future.add_done_callback(first, context=context)
        lists.append([(callback, c is context) for callback, c in future._callbacks])
        future.remove_done_callback(first)
        lists.append([(callback, c is context) for callback, c in future._callbacks])
        future.set_result(None)
        lists.append(future._callbacks)
        return lists

    assert on_each(scenario) == [
        None,
        [(first, True)],
        [(first, True), (second, True), (first, True)],
        [(second, True)],
        None,
    ]


def test_a_failing_callback_is_reported_and_the_others_run(future, mixed_loop):
    seen, contexts = [], Contexts()
    mixed_loop.set_exception_handler(contexts)
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(seen.append)
    future.set_result(None)
    one_turn(mixed_loop)
    assert seen == [future, future]
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


# -- callbacks that change what is being walked ------------------------------


def test_a_comparison_that_adds_and_removes_callbacks_is_survived(Future, mixed_loop):
    """cpython#126405 and its like: equality of callbacks is Python code that may do anything."""

    class Evil:
        def __init__(self, future):
            self.future = future

        def __eq__(self, other):
            if other is len:  # not again from the calls below
                self.future.remove_done_callback(int)
                self.future.add_done_callback(str)
            return False

        __hash__ = None

        def __call__(self, future):
            pass

    for count in range(1, 5):
        future = Future(loop=mixed_loop)
        for _ in range(count):
            future.add_done_callback(Evil(future))
        for number in range(3):
            assert future.remove_done_callback(len) == 0
        future.set_result("0")
        one_turn(mixed_loop)


def test_a_comparison_that_clears_all_callbacks_is_survived(Future, mixed_loop):
    class Evil:
        def __eq__(self, other):
            if not cleared:
                cleared.append(1)
                future.set_result(None)
                one_turn(mixed_loop)
            return False

        __hash__ = None

        def __call__(self, future):
            pass

    for count in range(1, 5):
        cleared = []
        future = Future(loop=mixed_loop)
        for _ in range(count):
            future.add_done_callback(Evil())
        try:
            future.remove_done_callback(len)
        except RuntimeError:
            pass  # asyncio notices in some cases that the list changed
        assert cleared and future.done()


def test_a_comparison_that_raises_comes_out_of_remove_done_callback():
    class Evil:
        def __eq__(self, other):
            raise LookupError("not comparable")

        __hash__ = None

        def __call__(self, future):
            pass

    def scenario(loop, Future):
        results = []
        for count in range(1, 4):
            future = Future(loop=loop)
            for _ in range(count):
                future.add_done_callback(Evil())
            results.append(outcome(future.remove_done_callback, len))
            results.append(len(future._callbacks))
        return results

    assert on_each(scenario)[0] == ("raised", LookupError, "not comparable")


def test_a_loop_whose_call_soon_meddles_with_the_future_is_survived(mixture):
    """cpython#125969, #125984, #126080: an evil call_soon may change the callbacks while they are scheduled."""

    class Loop(mixture.EventLoop):
        victim = None

        def call_soon(self, callback, *args, context=None):
            if self.victim is not None:
                victim, self.victim = self.victim, None
                victim.remove_done_callback(callback)
                try:
                    victim.__init__(loop=self)
                except RuntimeError:
                    pass  # refused from 3.15 on
                gc.collect()
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    try:
        for count in range(1, 5):
            future = mixture.Future(loop=loop)
            for _ in range(count):
                future.add_done_callback(lambda f: None)
            loop.victim = future
            future.set_result(None)
            one_turn(loop)
    finally:
        loop.close()


def test_a_loop_whose_call_soon_fails_lets_the_error_out(mixture):
    class Loop(mixture.EventLoop):
        broken = False

        def call_soon(self, callback, *args, context=None):
            if self.broken:
                raise LookupError("no more")
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    try:
        future = mixture.Future(loop=loop)
        future.add_done_callback(print)
        loop.broken = True
        with pytest.raises(LookupError, match="no more"):
            future.set_result(None)
        with pytest.raises(LookupError, match="no more"):
            future.add_done_callback(print)
        loop.broken = False
    finally:
        loop.close()


def test_a_future_works_on_a_loop_that_is_no_asyncio_loop(Future):
    """Only get_debug, call_soon and call_exception_handler are asked of a loop."""

    class Loop:
        def __init__(self):
            self.calls = []

        def get_debug(self):
            return False

        def call_soon(self, callback, *args, context=None):
            self.calls.append((callback, args))

    loop = Loop()
    future = Future(loop=loop)
    future.add_done_callback(len)
    future.set_result(1)
    assert loop.calls == [(len, (future,))]


@pytest.mark.parametrize("bad", [5, "loop", object()], ids=["5", "text", "object"])
def test_what_is_no_loop_is_refused_as_by_asyncio(bad):
    def scenario(loop, Future):
        return outcome(lambda: Future(loop=bad) and None)[:2]

    assert on_each(scenario)[1] is AttributeError


def test_a_loop_whose_get_debug_fails_lets_the_error_out(Future):
    class Loop:
        def get_debug(self):
            raise LookupError("no debug")

    with pytest.raises(LookupError, match="no debug"):
        Future(loop=Loop())


# -- awaiting ----------------------------------------------------------------


def test_awaiting_gives_the_result(Future, mixed_loop):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, "result")
        assert await future == "result"
        return await future

    assert mixed_loop.run_until_complete(main()) == "result"


@pytest.mark.parametrize(
    "value", [None, (1, 2), (), ValueError("not raised"), StopIteration(3), [1]], ids=repr
)
def test_awaiting_gives_any_value_as_it_is(Future, mixed_loop, value):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, value)
        return await future

    assert mixed_loop.run_until_complete(main()) is value


def test_awaiting_raises_the_exception(Future, mixed_loop):
    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_exception, LookupError("lost"))
        await future

    with pytest.raises(LookupError, match="lost"):
        mixed_loop.run_until_complete(main())


def test_awaiting_a_cancelled_future_raises_cancelled_error(Future, mixed_loop):
    async def main():
        future = Future()
        future.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await future
        return "caught"

    assert mixed_loop.run_until_complete(main()) == "caught"


def test_the_iterator_behaves_as_that_of_asyncio():
    def scenario(loop, Future):
        steps = []
        future = Future(loop=loop)
        iterator = iter(future)
        steps.append(iter(iterator) is iterator)
        steps.append(next(iterator) is future)
        steps.append(future._asyncio_future_blocking)
        future._asyncio_future_blocking = False
        steps.append(outcome(next, iterator)[0])  # awaited while pending
        future.set_result("result")
        steps.append(outcome(next, iterator))
        iterator = future.__await__()
        steps.append(outcome(next, iterator))  # StopIteration("result")
        iterator = iter(Future(loop=loop))
        steps.append(outcome(iterator.send, None)[0])
        steps.append(outcome(iterator.throw, LookupError("thrown")))
        iterator = iter(Future(loop=loop))
        steps.append(outcome(iterator.close))
        return steps

    assert on_each(scenario)[:3] == [True, True, True]


def test_an_iterator_that_was_thrown_into_or_closed_is_exhausted(Future, mixed_loop):
    if Future is asyncio.Future and sys.version_info >= (3, 14):
        pytest.skip(
            "asyncio of 3.14 and 3.15 crashes here: its iterator takes the lock of a future it let go"
        )
    thrown, closed = iter(Future(loop=mixed_loop)), iter(Future(loop=mixed_loop))
    next(thrown)
    with pytest.raises(LookupError):
        thrown.throw(LookupError())
    closed.close()
    for iterator in (thrown, closed):
        with pytest.raises(StopIteration):
            next(iterator)


def test_the_iterator_throws_what_asyncio_throws():
    def scenario(loop, Future):
        def throw(*args):
            iterator = iter(Future(loop=loop))
            next(iterator)
            return outcome(iterator.throw, *args)[:2]

        trace = None
        try:
            1 / 0
        except ZeroDivisionError as exc:
            trace = exc.__traceback__
        with pytest.MonkeyPatch.context():
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # three arguments, from 3.12 on
                return [
                    throw(LookupError),
                    throw(LookupError()),
                    throw(5),
                    throw(),
                    throw(LookupError, None),
                    throw(LookupError, "text"),
                    throw(LookupError, LookupError("x"), trace),
                    throw(LookupError, "text", 5),
                    throw(LookupError(), "value"),
                    throw(int),
                ]

    assert on_each(scenario)[0] == ("raised", LookupError)


def test_awaiting_without_a_task_yields_the_future():
    def scenario(loop, Future):
        future = Future(loop=loop)

        async def coro():
            return await future

        waiting = coro()
        yielded = waiting.send(None) is future
        future.set_result(7)
        return yielded, outcome(waiting.send, None)

    assert on_each(scenario) == (True, ("raised", StopIteration, "7"))


def test_two_tasks_may_await_one_future(Future, mixed_loop):
    async def waiter(future):
        return await future

    async def main():
        future = Future()
        tasks = [asyncio.ensure_future(waiter(future)) for _ in range(5)]
        await asyncio.sleep(0)
        future.set_result("shared")
        return await asyncio.gather(*tasks)

    assert mixed_loop.run_until_complete(main()) == ["shared"] * 5


def test_a_future_may_be_yielded_from(Future, mixed_loop):
    @types.coroutine
    def old_style(future):
        return (yield from future)

    async def main():
        future = Future()
        mixed_loop.call_soon(future.set_result, 9)
        return await old_style(future)

    assert mixed_loop.run_until_complete(main()) == 9


# -- private attributes ------------------------------------------------------


def test_private_attributes_in_every_state():
    def scenario(loop, Future):
        stages = []
        for finish in (
            lambda f: None,
            lambda f: f.set_result("result"),
            lambda f: f.set_exception(LookupError("x")),
            lambda f: f.cancel(),
            lambda f: f.cancel(msg="message"),
        ):
            future = Future(loop=loop)
            finish(future)
            stages.append(attributes(future))
            future._log_traceback = False
        return stages

    stages = on_each(scenario)
    assert [stage["_state"] for stage in stages] == [
        "PENDING",
        "FINISHED",
        "FINISHED",
        "CANCELLED",
        "CANCELLED",
    ]


def test_the_exception_is_no_longer_logged_once_it_was_read():
    def scenario(loop, Future):
        flags = []
        for read in ("result", "exception"):
            future = Future(loop=loop)
            future.set_exception(LookupError())
            flags.append(future._log_traceback)
            outcome(getattr(future, read))
            flags.append(future._log_traceback)
        return flags

    assert on_each(scenario) == [True, False, True, False]


def test_which_private_attributes_may_be_set():
    def scenario(loop, Future):
        results = []
        for name in ATTRIBUTES + ("_loop", "_asyncio_awaited_by", "_cancelled_exc"):
            for value in (True, False, None, 5):
                future = Future(loop=loop)
                result = outcome(setattr, future, name, value)
                results.append((name, value, result[:2], result[1] is ValueError and result))
                future.cancel()
        return results

    assert ("_log_traceback", False, ("returned", None), False) in on_each(scenario)


def test_attributes_cannot_be_deleted_where_asyncio_refuses():
    def scenario(loop, Future):
        return [
            outcome(delattr, Future(loop=loop), name)[:2]
            for name in ("_log_traceback", "_asyncio_future_blocking", "_state", "_loop")
        ]

    assert on_each(scenario)[0] == ("raised", AttributeError)


def test_plain_futures_have_no_place_for_new_attributes_unless_asyncio_has():
    def scenario(loop, Future):
        return outcome(setattr, Future(loop=loop), "brand_new", 1)[:2]

    on_each(scenario)


def test_the_class_can_be_subscripted(Future):
    alias = Future[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is Future and alias.__args__ == (int,)


def test_every_attribute_of_an_asyncio_future_is_there(Future):
    assert set(dir(asyncio.Future)) <= set(dir(Future))


# -- repr --------------------------------------------------------------------


def callback(future):
    pass


@pytest.mark.parametrize("debug", [False, True])
def test_the_repr_is_that_of_asyncio(debug):
    def scenario(loop, Future):
        loop.set_debug(debug)
        reprs = []

        def look(future):
            reprs.append(normalise(repr(future)))

        future = Future(loop=loop)
        look(future)
        for _ in range(4):
            future.add_done_callback(callback)
            look(future)
        for finish in (
            lambda f: f.set_result([1, 2]),
            lambda f: f.set_result("x" * 500),
            lambda f: f.set_exception(LookupError("lost")),
            lambda f: f.cancel(),
            lambda f: f.cancel("message"),
        ):
            future = Future(loop=loop)
            finish(future)
            look(future)
            future._log_traceback = False
        loop.set_debug(False)
        return reprs

    reprs = on_each(scenario)
    assert reprs[0].startswith("<Future pending")
    assert any("result=[1, 2]" in text for text in reprs)


def test_the_repr_of_a_subclass_names_it(Future, mixed_loop):
    class Mine(Future):
        pass

    assert repr(Mine(loop=mixed_loop)).startswith("<Mine pending")


def test_a_repr_of_a_future_that_holds_itself(Future, mixed_loop):
    future = Future(loop=mixed_loop)
    future.set_result(future)
    assert "Future finished" in repr(future)


# -- subclasses --------------------------------------------------------------


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


# -- interplay ---------------------------------------------------------------


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
    import concurrent.futures

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


# -- memory ------------------------------------------------------------------


def test_a_future_can_be_referenced_weakly(Future, mixed_loop):
    future = Future(loop=mixed_loop)
    gone = weakref.ref(future)
    assert gone() is future
    del future
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


# -- the log -----------------------------------------------------------------


def contexts_of(scenario):
    """What the exception handler is told in scenario(loop, Future), over all mixtures."""

    def collecting(loop, Future):
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        scenario(loop, Future)
        collect()
        return contexts.summary(), [list(context) for context in contexts]

    return on_each(collecting)


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

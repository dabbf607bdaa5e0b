"""Future: making one, its outcome, its attributes and its repr."""

import asyncio
import sys
import types
from functools import partial

import pytest
import support
from support import (
    HOTLOOP,
    normalise,
    outcome,
)

on_each = partial(support.on_each, kind="Future")

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


def callback(future):
    pass


# -- making one ----------------------------------------------------------------


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


# -- results, exceptions -------------------------------------------------------


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


# -- cancelling ----------------------------------------------------------------


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


# -- private attributes --------------------------------------------------------


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


# -- repr ----------------------------------------------------------------------


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


def test_a_result_that_cannot_be_told(caplog):
    """Whoever set the exception was told that nobody will be: it is not logged as well."""

    def scenario(impl):
        loop = impl.new_event_loop()
        future = impl.Future(loop=loop)
        future.add_done_callback(print)
        loop.close()
        return outcome(future.set_exception, ValueError()), future._log_traceback

    assert support.same_on_both(scenario)[1] is False
    assert caplog.records == []

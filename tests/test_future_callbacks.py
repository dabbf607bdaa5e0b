"""Future: done-callbacks, also those that change what is being walked."""

import contextvars
import gc
from functools import partial

import pytest
import support
from support import (
    Contexts,
    failing_loop,
    one_turn,
    outcome,
    turns,
)

on_each = partial(support.on_each, kind="Future")


# -- callbacks -----------------------------------------------------------------


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


# -- callbacks that change what is being walked --------------------------------


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
    loop = failing_loop(mixture)
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


# -- context=None ----------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_callback_with_context_none_runs_in_the_context_of_its_scheduling(when, debug):
    def scenario(loop, Future):
        def program():
            variable.set("when added")
            if when == "after":
                future.set_result(None)
            future.add_done_callback(lambda future: seen.append(variable.get()), context=None)
            shown = future._callbacks and [context for _, context in future._callbacks]
            variable.set("when done")
            if when == "before":
                future.set_result(None)
            return shown

        seen = []
        variable = contextvars.ContextVar("variable")
        future = Future(loop=loop)
        shown = contextvars.Context().run(program)
        turns(loop, 2)
        return shown, seen

    shown, seen = on_each(scenario, debug=debug)
    assert seen == ["when done" if when == "before" else "when added"]

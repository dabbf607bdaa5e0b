"""Handle and TimerHandle: what call_soon, call_later and call_at return."""

import asyncio
import contextvars
import functools
import sys
import weakref
from unittest import mock

import hotloop
import pytest
from support import (
    ASYNCIO,
    HOTLOOP,
    Contexts,
    collect,
    normalise,
    nothing,
    one_turn,
    outcome,
    same_on_both,
    turns,
)


def function(*args):
    pass


class Owner:
    def method(self, *args):
        pass

    def __call__(self):
        pass

    def __repr__(self):
        return "<Owner>"


CALLBACKS = {
    "function": (function,),
    "function with arguments": (function, 1, "two", [3]),
    "lambda": (lambda: None,),
    "bound method": (Owner().method, 1),
    "partial": (functools.partial(function, 1, key=2), 3),
    "partial of partial": (functools.partial(functools.partial(function, 1), 2),),
    "callable object": (Owner(),),
    "builtin": (len, "abc"),
    "type": (int, "5"),
    "long arguments": (function, "x" * 1000),
    "partialmethod": (functools.partial(Owner.method, None),),
}


# -- kinds and attributes ----------------------------------------------------


def test_handles_are_asyncio_handles(loop):
    handle = loop.call_soon(function)
    threadsafe = loop.call_soon_threadsafe(function)
    later = loop.call_later(100, function)
    at = loop.call_at(loop.time() + 100, function)
    assert all(isinstance(h, asyncio.Handle) for h in (handle, threadsafe, later, at))
    assert all(isinstance(h, asyncio.TimerHandle) for h in (later, at))
    assert not isinstance(handle, asyncio.TimerHandle)
    for h in (handle, threadsafe, later, at):
        h.cancel()


def test_call_later_of_zero_returns_a_timer_handle(loop):
    """uvloop#482."""
    for delay in (0, 0.0, -1):
        handle = loop.call_later(delay, function)
        assert isinstance(handle, asyncio.TimerHandle)
        assert isinstance(handle.when(), float)


def test_attributes_of_a_handle():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        context = contextvars.copy_context()
        handle = loop.call_soon(function, 1, 2, context=context)
        timer = loop.call_at(12345, function, 3, context=context)
        stages = []

        def look():
            stages.append(
                [
                    (
                        h._callback,
                        h._args,
                        h._context is context,
                        h._loop is loop,
                        h._source_traceback,
                        h._cancelled,
                        h.cancelled(),
                    )
                    for h in (handle, timer)
                ]
            )

        look()
        stages.append((timer._when, timer.when(), timer._scheduled))
        one_turn(loop)
        look()
        handle.cancel()
        timer.cancel()
        look()
        stages.append((timer._when, timer.when()))
        loop.close()
        return stages

    stages = same_on_both(scenario)
    assert stages[0][0][:2] == (function, (1, 2))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is new in 3.12")
def test_get_context_is_the_context_of_the_callback(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(function, context=context).get_context() is context
    assert loop.call_later(0, function, context=context).get_context() is context
    default = loop.call_soon(function).get_context()
    assert isinstance(default, contextvars.Context) and default is not context
    turns(loop, 3)


def test_handles_take_weak_references(loop):
    handle, timer = loop.call_soon(function), loop.call_later(100, function)
    handle_ref, timer_ref = weakref.ref(handle), weakref.ref(timer)
    assert handle_ref() is handle and timer_ref() is timer
    timer.cancel()
    one_turn(loop)
    del handle, timer
    collect()
    assert handle_ref() is None and timer_ref() is None


def test_handles_take_no_new_attributes():
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            return [
                outcome(setattr, handle, "new_attribute", 1)[:2]
                for handle in (loop.call_soon(function), loop.call_later(0, function))
            ]
        finally:
            loop.close()

    assert same_on_both(scenario)[0] == ("raised", AttributeError)


def test_a_handle_can_be_run_by_hand(loop):
    seen = []
    handle = loop.call_later(100, seen.append, 1)
    handle._run()
    assert seen == [1]
    handle.cancel()


def test_a_failing_handle_run_by_hand_reports_to_the_loop(loop):
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    handle = loop.call_later(100, int, "not a number")
    handle._run()
    assert [type(c["exception"]) for c in contexts] == [ValueError]
    assert contexts[0]["handle"] is handle
    handle.cancel()


# -- cancelling --------------------------------------------------------------


def test_cancel_is_reported_by_cancelled_and_returns_nothing(loop):
    for handle in (loop.call_soon(function), loop.call_later(0, function)):
        assert handle.cancelled() is False
        assert handle.cancel() is None
        assert handle.cancelled() is True
        assert handle.cancel() is None
    turns(loop, 3)


@pytest.mark.parametrize("debug", [False, True])
def test_a_cancelled_callback_does_not_run(loop, debug):
    loop.set_debug(debug)
    seen = []
    for handle in (
        loop.call_soon(seen.append, 1),
        loop.call_later(0, seen.append, 2),
        loop.call_later(0.001, seen.append, 3),
        loop.call_soon_threadsafe(seen.append, 4),
    ):
        handle.cancel()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == []


def test_cancel_releases_callback_and_arguments_at_once(loop):
    for schedule in (
        loop.call_soon,
        loop.call_soon_threadsafe,
        functools.partial(loop.call_later, 100),
    ):
        owner, argument = Owner(), Owner()
        gone = [weakref.ref(owner), weakref.ref(argument)]
        handle = schedule(owner.method, argument)
        del owner, argument
        handle.cancel()
        collect()
        assert [ref() for ref in gone] == [None, None]
        assert handle._callback is None and handle._args is None
    turns(loop, 2)


def test_cancel_after_the_callback_has_run_does_nothing(loop):
    seen = []
    handle, timer = loop.call_soon(seen.append, 1), loop.call_later(0, seen.append, 2)
    turns(loop, 3)
    handle.cancel()
    timer.cancel()
    turns(loop, 3)
    assert seen == [1, 2]
    assert handle.cancelled() and timer.cancelled()


def test_a_callback_may_cancel_its_own_handle(loop):
    seen = []

    def callback(name):
        handles[name].cancel()
        seen.append(name)

    handles = {
        "soon": loop.call_soon(callback, "soon"),
        "later": loop.call_later(0, callback, "later"),
    }
    turns(loop, 3)
    assert seen == ["soon", "later"]
    assert all(handle.cancelled() for handle in handles.values())


def test_the_finalizer_of_an_argument_may_cancel_the_handle(loop):
    class Argument:
        def __del__(self):
            handle.cancel()
            seen.append("finalized")

    seen = []
    handle = loop.call_soon(function, Argument())
    handle.cancel()
    collect()
    assert seen == ["finalized"]
    one_turn(loop)


def test_handles_of_a_closed_loop_can_be_cancelled(loop):
    handles = [
        loop.call_soon(function),
        loop.call_later(1, function),
        loop.call_soon_threadsafe(function),
    ]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()


def test_handles_outlive_their_loop(impl):
    loop = impl.new_event_loop()
    handles = [loop.call_soon(function), loop.call_later(1, function)]
    loop.close()
    del loop
    collect()
    for handle in handles:
        assert repr(handle).startswith("<")
        handle.cancel()


# -- repr --------------------------------------------------------------------


@pytest.mark.parametrize("arguments", CALLBACKS.values(), ids=CALLBACKS)
@pytest.mark.parametrize("debug", [False, True])
def test_the_repr_is_that_of_asyncio(arguments, debug):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(debug)
        reprs = []
        handles = (
            loop.call_soon(*arguments),
            loop.call_at(123.5, *arguments),
            loop.call_soon_threadsafe(*arguments),
        )
        reprs += map(repr, handles)
        for handle in handles:
            handle.cancel()
        reprs += map(repr, handles)
        loop.set_debug(False)
        loop.close()
        return [normalise(text).replace("_ThreadSafeHandle", "Handle") for text in reprs]

    reprs = same_on_both(scenario)
    assert reprs[0].startswith("<Handle ") and reprs[1].startswith("<TimerHandle when=123.5 ")
    assert reprs[3].startswith("<Handle cancelled")


def test_the_repr_of_a_handle_that_has_run():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        handle, timer = loop.call_soon(function, 1), loop.call_at(5, function, 2)
        turns(loop, 2)
        loop.close()
        return normalise(repr(handle)), normalise(repr(timer))

    assert same_on_both(scenario)[0].startswith("<Handle function(")


def test_the_repr_survives_an_argument_that_has_none():
    class Bad:
        def __repr__(self):
            raise LookupError("no repr")

    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)  # from 3.13 on, arguments are shown in debug mode only
        handle = loop.call_at(5, function, Bad())
        result = outcome(repr, handle)
        loop.close()
        return result[0], normalise(result[1])

    assert "Bad instance at" in same_on_both(scenario)[1]


# -- comparing ---------------------------------------------------------------


def test_timer_handles_compare_by_time():
    def scenario(impl):
        loop = impl.new_event_loop()
        a, b, c, d = (loop.call_at(when, function) for when in (10.0, 20.0, 20.0, 30.0))
        e = loop.call_at(20.0, function, 1)
        f = loop.call_at(20.0, function)
        f.cancel()
        timers = [a, b, c, d, e, f]
        result = [
            (x < y, x <= y, x == y, x != y, x >= y, x > y, (hash(x) == hash(y)))
            for x in timers
            for y in timers
        ]
        loop.close()
        return result

    assert len(set(same_on_both(scenario))) > 3


def test_the_hash_of_a_timer_handle_is_that_of_its_time(loop):
    timer = loop.call_at(123456.5, function)
    assert hash(timer) == hash(123456.5)


def test_timer_handles_compare_with_nothing_else():
    def scenario(impl):
        loop = impl.new_event_loop()
        timer, handle = loop.call_at(5, function), loop.call_soon(function)
        result = [
            [
                outcome(operation, timer, other)[:2]
                for operation in (
                    lambda x, y: x < y,
                    lambda x, y: x <= y,
                    lambda x, y: x > y,
                    lambda x, y: x >= y,
                    lambda x, y: x == y,
                    lambda x, y: x != y,
                )
            ]
            for other in (5, None, handle, "text")
        ]
        loop.close()
        return result

    assert same_on_both(scenario)[0][0] == ("raised", TypeError)


def test_timer_handles_of_both_kinds_compare_with_each_other():
    loops = ASYNCIO.new_event_loop(), HOTLOOP.new_event_loop()
    early, late = loops[0].call_at(5, function), loops[1].call_at(6, function)
    equal = loops[1].call_at(5, function)
    assert early < late and late > early and not early > late
    assert early <= late and late >= early and not late <= early
    assert early == equal and equal == early and hash(early) == hash(equal)
    assert early != late and late != early
    for loop in loops:
        loop.close()


def test_plain_handles_compare_by_identity():
    def scenario(impl):
        loop = impl.new_event_loop()
        a, b = loop.call_soon(function), loop.call_soon(function)
        result = (
            a == a,
            a == b,
            a != b,
            hash(a) == hash(a),
            outcome(lambda: a < b)[:2],
            len({a, b}),
        )
        loop.close()
        return result

    assert same_on_both(scenario) == (True, False, True, True, ("raised", TypeError), 2)


# -- stock handles on the loop -----------------------------------------------


def test_the_messages_of_failing_callbacks_name_the_callback():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        for arguments in (
            (int, "no"),
            (functools.partial(int, "no"),),
            ([].pop,),
            ({}.__getitem__, "key"),
        ):
            loop.call_soon(*arguments)
        one_turn(loop)
        loop.close()
        return [normalise(context["message"]) for context in contexts]

    messages = same_on_both(scenario)
    assert len(messages) == 4
    assert messages[0].startswith("Exception in callback int(")


def test_a_handle_made_by_asyncio_runs_on_the_loop(loop):
    """asyncio's own Python code (signal handlers, transports) gives the loop Handles it made itself."""
    seen = []
    handle = asyncio.Handle(seen.append, (1,), loop, None)
    cancelled = asyncio.Handle(seen.append, (2,), loop, None)
    cancelled.cancel()
    loop._add_callback(handle)
    loop._add_callback_signalsafe(asyncio.Handle(seen.append, (3,), loop, None))
    if sys.version_info < (3, 12):
        loop._add_callback(cancelled)
    turns(loop, 2)
    assert seen == [1, 3]


@pytest.mark.parametrize("kind", [hotloop.Handle, hotloop.TimerHandle])
def test_a_handle_without_its_init_may_be_queued(kind):
    """Nothing runs; asyncio's own raises AttributeError."""
    loop = hotloop.new_event_loop()
    for queue in (loop._add_callback, loop._add_callback_signalsafe):
        queue(kind.__new__(kind))
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()


@pytest.mark.parametrize("kind", ["Handle", "TimerHandle"])
def test_a_handle_whose_loop_fails_to_tell_the_debug_mode_raises_that(kind):
    class Loop:
        asked = False

        def get_debug(self):
            if self.asked:
                raise LookupError("debug")
            self.asked = True
            return False

        def _timer_handle_cancelled(self, handle):
            pass

    for types in (asyncio, hotloop):
        args = (print, (), Loop())
        handle = types.TimerHandle(1.0, *args) if kind == "TimerHandle" else types.Handle(*args)
        with pytest.raises(LookupError, match="debug"):
            handle.cancel()
        assert handle._callback is print


def test_a_run_of_the_programs_is_called():
    """Monitors of slow callbacks (aiodebug, logfire) put theirs there, also while a loop runs."""

    def scenario(impl):
        run, seen = asyncio.Handle._run, []

        def timed(handle):
            callback = handle._callback
            seen.append(type(getattr(callback, "__self__", None)))
            seen.append(callback)
            return run(handle)

        async def main():
            loop = asyncio.get_running_loop()
            with mock.patch.object(asyncio.Handle, "_run", timed):
                await asyncio.sleep(0.001)
                loop.call_later(0, dict)
                loop.call_soon(list)
                await asyncio.create_task(nothing())
                await asyncio.sleep(0.001)
                called = [what in seen for what in (dict, list, impl.Task)]
            seen.clear()
            loop.call_soon(list)
            await asyncio.sleep(0.001)
            return called, seen

        return impl.run(main())

    assert same_on_both(scenario) == ([True] * 3, [])


def test_what_a_run_of_the_programs_raises_ends_the_loops(loop):
    loop.call_soon(loop.stop)
    with mock.patch.object(asyncio.Handle, "_run", side_effect=LookupError):
        with pytest.raises(LookupError):
            loop.run_forever()


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_callback_that_cancels_its_own_handle(loop, method):
    """Its arguments end outside of its context, as they do in asyncio."""
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.Context()
    context.run(var.set, "inside")
    seen = []

    class Last:
        def __del__(self):
            seen.append(var.get())

    def callback(argument):
        handles.pop().cancel()

    delay = [0] if method == "call_later" else []
    handles = [getattr(loop, method)(*delay, callback, Last(), context=context)]
    turns(loop, 2)
    assert seen == ["outside"]

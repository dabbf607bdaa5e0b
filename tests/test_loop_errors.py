"""Exceptions in callbacks: the exception handler, its default, and what leaves run_forever."""

import contextvars
import functools

import pytest
from support import Contexts, Logged, one_turn, outcome, same_on_both, turns

# -- exceptions --------------------------------------------------------------


def callback_that_fails(*args):
    raise ValueError(f"failed with {args}")


def test_an_exception_goes_to_the_handler_with_the_context_of_asyncio():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        loop.call_soon(callback_that_fails, 1, "two")
        loop.call_later(0, callback_that_fails)
        loop.call_soon_threadsafe(functools.partial(callback_that_fails, 3), 4)
        turns(loop, 4)
        loop.close()
        return [list(context) for context in contexts], contexts.summary()

    keys, contexts = same_on_both(scenario)
    assert keys == [["message", "exception", "handle"]] * 3
    assert contexts[0]["message"].startswith("Exception in callback callback_that_fails(")


def test_the_default_handler_logs_the_same_text(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        with Logged() as log:
            loop.call_soon(callback_that_fails, 1)
            one_turn(loop)
            loop.call_exception_handler({"message": "by hand", "extra": [1], "asyncgen": None})
            loop.call_exception_handler({})
            loop.default_exception_handler({"message": "default", "exception": KeyError("k")})
            loop.close()
        return (
            log.messages(),
            [r.levelname for r in log.records],
            [r.exc_info[0] if r.exc_info else None for r in log.records],
        )

    messages, levels, exceptions = same_on_both(scenario)
    assert "Exception in callback callback_that_fails(" in messages[0]
    assert exceptions == [ValueError, None, None, KeyError]


def test_the_traceback_of_a_failed_callback_begins_in_the_callback(loop):
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    loop.call_soon(callback_that_fails)
    one_turn(loop)
    trace = contexts[0]["exception"].__traceback__
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "callback_that_fails"


def test_a_failing_callback_does_not_disturb_the_others(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append("handled"))
    loop.call_soon(seen.append, 1)
    loop.call_soon(callback_that_fails)
    loop.call_soon(seen.append, 2)
    one_turn(loop)
    assert seen == [1, "handled", 2]


def test_a_failing_exception_handler_is_logged_as_by_asyncio(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)

        def handler(loop, context):
            raise KeyError("in handler")

        loop.set_exception_handler(handler)
        with Logged() as log:
            loop.call_soon(callback_that_fails)
            one_turn(loop)
        loop.close()
        return log.messages()

    assert "Unhandled error in exception handler" in same_on_both(scenario)[0]


def test_the_exception_handler_can_be_read_replaced_and_removed(loop):
    assert loop.get_exception_handler() is None
    handler = Contexts()
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_the_exception_handler_must_be_callable():
    def scenario(impl):
        loop = impl.new_event_loop()
        result = outcome(loop.set_exception_handler, 5)
        loop.close()
        return result

    assert same_on_both(scenario)[1] is TypeError


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_leave_run_forever(loop, exception):
    seen = []

    def callback():
        raise exception("out")

    loop.call_soon(seen.append, 1)
    loop.call_soon(callback)
    loop.call_soon(seen.append, 2)
    with pytest.raises(exception, match="out"):
        loop.run_forever()
    assert seen == [1]
    assert not loop.is_running()
    one_turn(loop)
    assert seen == [1, 2]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_of_a_timer_leave_run_forever(loop, exception):
    def callback():
        raise exception("out")

    loop.call_later(0.001, callback)
    with pytest.raises(exception, match="out"):
        loop.run_forever()
    one_turn(loop)


def test_any_other_base_exception_of_a_callback_is_reported(loop):
    class Odd(BaseException):
        pass

    def callback():
        raise Odd

    contexts = Contexts()
    loop.set_exception_handler(contexts)
    loop.call_soon(callback)
    one_turn(loop)
    assert [type(context["exception"]) for context in contexts] == [Odd]


def test_system_exit_of_an_exception_handler_leaves_run_forever(loop):
    def handler(loop, context):
        raise SystemExit(4)

    loop.set_exception_handler(handler)
    loop.call_soon(callback_that_fails)
    with pytest.raises(SystemExit):
        loop.run_forever()
    one_turn(loop)


def test_keyboard_interrupt_in_a_task_leaves_run_until_complete(loop):
    async def main():
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        loop.run_until_complete(main())
    one_turn(loop)


# -- context variables -------------------------------------------------------


variable = contextvars.ContextVar("variable", default="default")


def test_the_exception_handler_runs_where_asyncio_runs_it():
    def scenario(impl):
        loop = impl.new_event_loop()
        seen = []
        loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))
        context = contextvars.copy_context()
        context.run(variable.set, "of the callback")
        loop.call_soon(callback_that_fails, context=context)
        one_turn(loop)
        loop.close()
        return seen

    assert len(same_on_both(scenario)) == 1

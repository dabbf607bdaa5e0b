"""Callbacks: their order, their arguments, their contexts, and calls that are wrong."""

import contextvars
import functools
import weakref

import pytest
from support import Contexts, collect, nothing, one_turn, same_on_both, turns

# -- the order of callbacks --------------------------------------------------


def test_callbacks_run_in_the_order_they_were_scheduled(loop):
    seen = []
    for number in range(1000):
        loop.call_soon(seen.append, number)
    one_turn(loop)
    assert seen == list(range(1000))


def test_call_soon_passes_any_number_of_arguments(loop):
    seen = []
    for count in range(12):
        loop.call_soon(lambda *args: seen.append(args), *range(count))
    one_turn(loop)
    assert seen == [tuple(range(count)) for count in range(12)]


def test_a_callback_scheduled_by_a_callback_waits_for_the_next_turn(loop):
    seen = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "second")))
    one_turn(loop)
    assert seen == ["first"]
    one_turn(loop)
    assert seen == ["first", "second"]


def test_the_ready_queue_keeps_order_while_it_grows_and_wraps(loop):
    seen = []

    def spread(number):
        seen.append(number)
        if number < 5000:
            loop.call_soon(spread, 2 * number + 1)
            loop.call_soon(spread, 2 * number + 2)

    loop.call_soon(spread, 0)
    turns(loop, 15)
    assert seen == list(range(10001))


def test_a_callback_cancelled_by_an_earlier_one_of_the_same_turn_does_not_run(loop):
    seen = []
    loop.call_soon(lambda: second.cancel())
    second = loop.call_soon(seen.append, "cancelled")
    loop.call_soon(seen.append, "third")
    one_turn(loop)
    assert seen == ["third"]


def test_arguments_are_released_once_the_callback_has_run(loop):
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon(id, thing)
    del thing
    assert gone() is not None
    one_turn(loop)
    collect()
    assert gone() is None


# -- wrong uses --------------------------------------------------------------


WRONG_CALLS = {
    "call_soon nothing": lambda loop: loop.call_soon(),
    "call_soon bad keyword": lambda loop: loop.call_soon(print, bogus=1),
    "call_soon_threadsafe nothing": lambda loop: loop.call_soon_threadsafe(),
    "call_soon_threadsafe bad keyword": lambda loop: loop.call_soon_threadsafe(print, bogus=1),
    "call_later nothing": lambda loop: loop.call_later(),
    "call_later no callback": lambda loop: loop.call_later(1),
    "call_later bad keyword": lambda loop: loop.call_later(1, print, bogus=1),
    "call_at nothing": lambda loop: loop.call_at(),
    "call_at no callback": lambda loop: loop.call_at(1),
    "call_at bad keyword": lambda loop: loop.call_at(1, print, bogus=1),
    "create_future argument": lambda loop: loop.create_future(1),
    "create_task nothing": lambda loop: loop.create_task(),
    "create_task not a coroutine": lambda loop: loop.create_task(5),
    "create_task a function": lambda loop: loop.create_task(nothing),
    "create_task bad keyword": lambda loop: loop.create_task(5, bogus=1),
    "stop argument": lambda loop: loop.stop(1),
    "time argument": lambda loop: loop.time(1),
    "run_forever argument": lambda loop: loop.run_forever(1),
    "close argument": lambda loop: loop.close(1),
    "is_running argument": lambda loop: loop.is_running(1),
}


@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_arguments_are_type_errors(loop, call):
    with pytest.raises(TypeError):
        call(loop)


def test_something_not_callable_is_reported_when_its_turn_comes():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        loop.call_soon(5)
        loop.call_later(0, "text")
        turns(loop, 3)
        loop.close()
        return [(type(context["exception"]), str(context["exception"])) for context in contexts]

    assert same_on_both(scenario)[0] == (TypeError, "'int' object is not callable")


# -- context variables -------------------------------------------------------


variable = contextvars.ContextVar("variable", default="default")


def test_a_callback_runs_in_the_context_it_was_scheduled_in(loop):
    seen = []
    variable.set("outside")
    schedulers = [
        loop.call_soon,
        loop.call_soon_threadsafe,
        functools.partial(loop.call_later, 0),
        lambda *args: loop.call_at(loop.time(), *args),
    ]
    for number, schedule in enumerate(schedulers):
        token = variable.set(number)
        schedule(lambda: seen.append(variable.get()))
        variable.reset(token)
    turns(loop, 4)
    assert sorted(seen) == [0, 1, 2, 3]


def test_what_a_callback_sets_in_its_context_does_not_leak(loop):
    seen = []
    loop.call_soon(variable.set, "inside")
    loop.call_soon(lambda: seen.append(variable.get()))
    turns(loop, 2)
    assert seen == [variable.get()]
    assert variable.get() != "inside"


def test_a_given_context_is_used_itself_not_a_copy(loop):
    context = contextvars.copy_context()
    loop.call_soon(variable.set, "soon", context=context)
    one_turn(loop)
    assert context[variable] == "soon"
    loop.call_later(0, variable.set, "later", context=context)
    turns(loop, 3)
    assert context[variable] == "later"
    loop.call_at(loop.time(), variable.set, "at", context=context)
    turns(loop, 3)
    assert context[variable] == "at"
    loop.call_soon_threadsafe(variable.set, "thread", context=context)
    turns(loop, 3)
    assert context[variable] == "thread"


def test_context_none_means_the_current_context(loop):
    variable.set("current")
    seen = []
    loop.call_soon(lambda: seen.append(variable.get()), context=None)
    variable.set("changed since")
    one_turn(loop)
    assert seen == ["current"]

"""The loop itself: running, stopping, closing, scheduling, errors, subclassing."""

import asyncio
import contextvars
import functools
import socket
import sys
import threading
import time
import weakref

import pytest
from support import (
    ASYNCIO,
    IMPLEMENTATIONS,
    Contexts,
    Logged,
    collect,
    normalise,
    one_turn,
    outcome,
    same_on_both,
    script_output,
    turns,
    virtual_loop,
)


async def nothing():
    pass


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


# -- stop and run ------------------------------------------------------------


def test_stop_before_run_forever_runs_exactly_one_turn(loop):
    seen = []
    loop.call_soon(lambda: (seen.append(1), loop.call_soon(seen.append, 2)))
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_stop_lets_the_callbacks_of_the_turn_finish(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 2)
    loop.run_forever()
    assert seen == [1, 2]


def test_stop_twice_stops_one_run_only(loop):
    seen = []
    loop.stop()
    loop.stop()
    loop.run_forever()
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert seen == [1]


def test_stop_before_run_still_takes_what_is_due():
    def scenario(impl):
        loop = impl.new_event_loop()
        seen = []
        loop.call_at(loop.time() - 1, seen.append, "timer")
        loop.call_soon(seen.append, "callback")
        loop.stop()
        loop.run_forever()
        loop.close()
        return seen

    assert sorted(same_on_both(scenario)) == ["callback", "timer"]


def test_a_single_turn_takes_what_can_be_read(loop):
    """stop() and run_forever() are how tests and tools run a loop step by step."""
    left, right = socket.socketpair()
    with left, right:
        seen = []
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        for text in (b"one", b"two"):
            right.send(text)
            one_turn(loop)
            assert seen.pop() == text
        loop.call_soon(seen.append, "callback")
        right.send(b"three")
        turns(loop, 2)
        assert sorted(map(str, seen)) == ["b'three'", "callback"]
        loop.remove_reader(left)


def test_a_due_timer_runs_after_what_was_ready_already():
    def scenario(impl):
        loop = impl.new_event_loop()
        seen = []
        loop.call_soon(seen.append, 1)
        loop.call_at(loop.time() - 2, seen.append, "late")
        loop.call_at(loop.time() - 1, seen.append, "later")
        loop.call_soon(seen.append, 2)
        loop.call_soon(lambda: loop.call_soon(seen.append, 3))
        turns(loop, 3)
        loop.close()
        return seen

    assert same_on_both(scenario) == [1, 2, "late", "later", 3]


def test_the_loop_can_run_again_after_a_stop(loop):
    for number in range(5):
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert not loop.is_running()


def test_is_running_only_while_running(loop):
    seen = []
    assert not loop.is_running()
    loop.call_soon(lambda: seen.append(loop.is_running()))
    one_turn(loop)
    assert seen == [True]
    assert not loop.is_running()


def test_the_running_loop_is_known_while_it_runs_and_forgotten_after(loop):
    seen = []
    loop.call_soon(lambda: seen.extend([asyncio.get_running_loop(), asyncio.get_event_loop()]))
    one_turn(loop)
    assert seen == [loop, loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_run_until_complete_returns_the_result(loop):
    async def main():
        await asyncio.sleep(0)
        return "result"

    assert loop.run_until_complete(main()) == "result"


def test_run_until_complete_raises_the_exception(loop):
    async def main():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(main())


def test_run_until_complete_takes_a_future_that_is_already_done(loop):
    future = loop.create_future()
    future.set_result(5)
    assert loop.run_until_complete(future) == 5


def test_run_until_complete_accepts_any_awaitable(loop):
    class Awaitable:
        def __await__(self):
            yield
            return "awaited"

    assert loop.run_until_complete(Awaitable()) == "awaited"


def test_run_until_complete_refuses_what_cannot_be_awaited():
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            return [
                outcome(loop.run_until_complete, bad) for bad in (None, 5, "text", nothing, loop)
            ]
        finally:
            loop.close()

    assert same_on_both(scenario)[0][1] is TypeError


def test_run_until_complete_refuses_a_future_of_another_loop():
    def scenario(impl):
        loop, other = impl.new_event_loop(), impl.new_event_loop()
        try:
            return outcome(loop.run_until_complete, other.create_future())
        finally:
            loop.close()
            other.close()

    assert same_on_both(scenario)[1] is ValueError


def test_stop_before_the_future_is_done_is_an_error_of_run_until_complete(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed."):
        loop.run_until_complete(future)
    assert not future.done()
    loop.call_soon(future.set_result, "late")
    assert loop.run_until_complete(future) == "late"


def test_run_until_complete_leaves_no_callback_on_the_future(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    assert not future._callbacks


def test_a_loop_cannot_run_within_itself(impl, loop):
    if impl is ASYNCIO and sys.version_info[:3] == (3, 13, 0):
        pytest.skip(
            "asyncio of 3.13.0 forgets that it runs when a nested run is refused, and never stops"
        )
    errors = []

    def nested():
        errors.append(outcome(loop.run_forever))
        coro = nothing()
        errors.append(outcome(loop.run_until_complete, coro))
        coro.close()

    loop.call_soon(nested)
    one_turn(loop)
    assert errors == [("raised", RuntimeError, "This event loop is already running")] * 2
    assert not loop.is_running()


def test_a_loop_cannot_run_within_another(new_loop):
    loop, other = new_loop(), new_loop()
    errors = []
    loop.call_soon(lambda: errors.append(outcome(other.run_forever)))
    one_turn(loop)
    assert errors == [
        ("raised", RuntimeError, "Cannot run the event loop while another loop is running")
    ]
    one_turn(other)
    one_turn(loop)


def test_loops_of_both_kinds_refuse_to_nest():
    for outer_kind in IMPLEMENTATIONS:
        for inner_kind in IMPLEMENTATIONS:
            outer, inner = outer_kind.new_event_loop(), inner_kind.new_event_loop()
            errors = []
            outer.call_soon(lambda: errors.append(outcome(inner.run_forever)))
            one_turn(outer)
            assert errors == [
                ("raised", RuntimeError, "Cannot run the event loop while another loop is running")
            ]
            outer.close()
            inner.close()


def test_each_thread_can_run_a_loop_of_its_own(impl):
    results = {}
    barrier = threading.Barrier(4, timeout=20)

    async def main(number):
        await asyncio.to_thread(barrier.wait)  # all four loops are running at once
        results[number] = asyncio.get_running_loop()
        await asyncio.sleep(0.001)

    threads = [threading.Thread(target=impl.run, args=(main(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(results.values())) == 4


# -- closing -----------------------------------------------------------------


def test_close_is_final_and_may_be_repeated(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_running_loop_cannot_be_closed(loop):
    errors = []
    loop.call_soon(lambda: errors.append(outcome(loop.close)))
    one_turn(loop)
    assert errors == [("raised", RuntimeError, "Cannot close a running event loop")]
    assert not loop.is_closed()


CALLS_ON_A_CLOSED_LOOP = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "run_until_complete": lambda loop: loop.run_until_complete(loop.create_future()),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(1, print),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "remove_writer": lambda loop: loop.remove_writer(1),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(10),
    "stop": lambda loop: loop.stop(),
    "time": lambda loop: loop.time() > 0,
    "create_future": lambda loop: loop.create_future().done(),
    "get_debug": lambda loop: loop.get_debug(),
    "set_debug": lambda loop: loop.set_debug(False),
    "set_exception_handler": lambda loop: loop.set_exception_handler(None),
    "set_task_factory": lambda loop: loop.set_task_factory(None),
}


@pytest.mark.parametrize("call", CALLS_ON_A_CLOSED_LOOP.values(), ids=CALLS_ON_A_CLOSED_LOOP)
def test_a_closed_loop_refuses_what_stock_loops_refuse(call):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.close()
        result = outcome(call, loop)
        loop._stopping = False
        return result

    same_on_both(scenario)


def test_a_closed_loop_refuses_new_tasks():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.close()
        coro = nothing()
        try:
            return outcome(loop.create_task, coro)
        finally:
            coro.close()

    assert same_on_both(scenario) == ("raised", RuntimeError, "Event loop is closed")


def test_coroutine_methods_of_a_closed_loop_fail_as_stock():
    calls = {
        "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
        "getaddrinfo": lambda loop: loop.getaddrinfo("127.0.0.1", 1),
    }

    def scenario(impl, call):
        loop = impl.new_event_loop()
        loop.close()
        coro = call(loop)
        try:
            coro.send(None)
        except BaseException as exc:
            return type(exc), str(exc)
        finally:
            coro.close()

    for name, call in calls.items():
        assert same_on_both(scenario, call) == (RuntimeError, "Event loop is closed"), name


def test_close_releases_what_was_still_scheduled(loop):
    class Thing:
        def method(self):
            raise AssertionError("ran after close")

    things = [Thing(), Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    loop.call_soon(things[0].method)
    loop.call_later(0.001, things[1].method)
    loop.call_soon_threadsafe(things[2].method)
    things.clear()
    loop.close()
    collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_a_loop_dropped_open_warns_and_is_closed(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        collect()


def test_closing_many_loops_in_any_order(new_loop):
    loops = [new_loop() for _ in range(20)]
    for loop in loops:
        one_turn(loop)
    for loop in loops[::2] + loops[1::2]:
        loop.close()
    assert all(loop.is_closed() for loop in loops)


def test_closing_from_another_thread_than_the_one_that_ran(loop):
    one_turn(loop)
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join(20)
    assert loop.is_closed()


def test_a_loop_may_run_in_one_thread_after_another(loop):
    idents = []
    for _ in range(3):
        loop.call_soon(lambda: idents.append(threading.get_ident()))
        thread = threading.Thread(target=one_turn, args=(loop,))
        thread.start()
        thread.join(20)
        assert len(idents) == 1 and idents.pop() == thread.ident
    loop.call_soon(lambda: idents.append(threading.get_ident()))
    one_turn(loop)
    assert idents == [threading.get_ident()]


# -- what a loop looks like --------------------------------------------------


def test_the_repr_tells_the_state():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(False)
        reprs = [repr(loop)]
        loop.call_soon(lambda: reprs.append(repr(loop)))
        one_turn(loop)
        loop.set_debug(True)
        reprs.append(repr(loop))
        loop.close()
        reprs.append(repr(loop))
        return [normalise(text) for text in reprs]

    assert same_on_both(scenario) == [
        "<LOOP running=False closed=False debug=False>",
        "<LOOP running=True closed=False debug=False>",
        "<LOOP running=False closed=False debug=True>",
        "<LOOP running=False closed=True debug=True>",
    ]


def test_a_loop_is_an_asyncio_event_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)


def test_a_loop_can_be_a_key_and_be_referenced_weakly(loop):
    assert {loop: 1}[loop] == 1
    assert loop == loop
    assert weakref.ref(loop)() is loop
    assert weakref.WeakKeyDictionary({loop: "value"})[loop] == "value"


def test_libraries_may_keep_attributes_on_a_loop(loop):
    """Lessons row 29: loops need a __dict__."""
    loop.library_state = [1]
    assert loop.library_state == [1]
    assert loop.__dict__["library_state"] == [1]
    del loop.library_state
    assert not hasattr(loop, "library_state")


def test_libraries_may_replace_methods_on_a_loop(loop, run):
    """Lessons row 29 (defenseclaw#654): loop.getaddrinfo = ..."""

    async def getaddrinfo(host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", 7))]

    loop.getaddrinfo = getaddrinfo

    async def main():
        with pytest.raises(OSError):  # nothing listens there; the name itself does not exist
            await asyncio.wait_for(asyncio.open_connection("name.invalid", 99), 10)

    run(main())


def test_libraries_may_look_at_the_length_of_the_ready_queue(loop):
    """Lessons row 29 (uvloop#721): len(loop._ready)."""
    assert len(loop._ready) == 0
    for _ in range(3):
        loop.call_soon(id, loop)
    assert len(loop._ready) == 3
    one_turn(loop)
    assert len(loop._ready) == 0


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert isinstance(now, float)
    assert before <= now <= after


def test_time_does_not_stand_still_during_a_callback(loop):
    times = []

    def callback():
        times.append(loop.time())
        time.sleep(0.002)
        times.append(loop.time())

    loop.call_soon(callback)
    one_turn(loop)
    assert times[1] - times[0] >= 0.002


def test_debug_mode_can_be_switched(loop):
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_slow_callback_duration_is_an_ordinary_attribute(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 7
    assert loop.slow_callback_duration == 7


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


# -- programs that leave things behind ---------------------------------------

LEFT_BEHIND = {
    "nothing": "loop = new_event_loop(); loop.close()",
    "timers and callbacks": """
        loop = new_event_loop()
        loop.call_later(100, print, "never")
        loop.call_soon(print, "never")
        loop.close()
        """,
    "a finished loop in a global": """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        """,
    "a loop that runs in a daemon thread": """
        import threading, time
        loop = new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        time.sleep(0.05)
        """,
}


@pytest.mark.parametrize("source", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_the_interpreter_ends_well(impl, source):
    assert script_output(impl, source) == ""


def test_an_open_loop_at_exit_is_no_crash(impl):
    source = """
        import os, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        loop = new_event_loop()
        loop.call_later(100, print, "never")
        loop.add_reader(os.pipe()[0], print)
        loop.run_until_complete(asyncio.sleep(0.001))
        """
    assert script_output(impl, source) == ""

"""The loop itself: running, stopping, what it looks like."""

import asyncio
import socket
import sys
import threading
import time
import weakref

import pytest
from support import (
    ASYNCIO,
    IMPLEMENTATIONS,
    normalise,
    nothing,
    one_turn,
    outcome,
    same_on_both,
    turns,
)

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
    """uvloop#721: loops need a __dict__."""
    loop.library_state = [1]
    assert loop.library_state == [1]
    assert loop.__dict__["library_state"] == [1]
    del loop.library_state
    assert not hasattr(loop, "library_state")


def test_libraries_may_replace_methods_on_a_loop(loop, run):
    """defenseclaw#654: loop.getaddrinfo = ..."""

    async def getaddrinfo(host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", 7))]

    loop.getaddrinfo = getaddrinfo

    async def main():
        with pytest.raises(OSError):  # nothing listens there; the name itself does not exist
            await asyncio.wait_for(asyncio.open_connection("name.invalid", 99), 10)

    run(main())


def test_libraries_may_look_at_the_length_of_the_ready_queue(loop):
    """uvloop#721: len(loop._ready)."""
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

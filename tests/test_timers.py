"""call_later, call_at and everything that sleeps: order, never early, odd deadlines, cancelling."""

import asyncio
import fractions
import math
import random
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    HOTLOOP,
    IMPLEMENTATIONS,
    Contexts,
    collect,
    outcome,
    same_on_both,
    turns,
    virtual_loop,
)


def run_for(loop, seconds):
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


# -- order -------------------------------------------------------------------


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    seen = []
    numbers = list(range(200))
    random.Random(1).shuffle(numbers)
    start = loop.time()
    for number in numbers:
        loop.call_at(start + number / 10000, seen.append, number)
    run_for(loop, 0.05)
    assert seen == sorted(numbers)


def test_late_timers_still_fire_in_the_order_of_their_deadlines(loop):
    seen = []
    start = loop.time()
    for number in (3, 1, 4, 0, 2):
        loop.call_at(start + number / 1000, seen.append, number)
    time.sleep(0.01)
    turns(loop, 2)
    assert seen == [0, 1, 2, 3, 4]


def test_timers_with_equal_deadlines_fire_in_the_order_they_were_made():
    """asyncio's heap leaves the order open, so this is about hotloop only: it goes by a sequence number."""
    loop = HOTLOOP.new_event_loop()
    try:
        seen = []
        deadline = loop.time() + 0.001
        for number in range(100):
            loop.call_at(deadline, seen.append, number)
        run_for(loop, 0.01)
        assert seen == list(range(100))
    finally:
        loop.close()


def test_a_due_timer_made_in_a_callback_waits_for_the_next_turn(loop):
    seen = []
    loop.call_later(0, lambda: (seen.append("first"), loop.call_later(0, seen.append, "second")))
    turns(loop, 1)
    first = list(seen)
    turns(loop, 3)
    assert first in ([], ["first"])
    assert seen == ["first", "second"]


def test_call_soon_goes_before_a_timer_that_is_not_yet_due(loop):
    seen = []
    loop.call_later(0.005, seen.append, "timer")
    loop.call_soon(seen.append, "soon")
    run_for(loop, 0.02)
    assert seen == ["soon", "timer"]


def test_thousands_of_timers_fire_in_order_and_none_early(loop):
    seen, early = [], []

    def fire(deadline):
        if loop.time() < deadline - 1e-8:
            early.append(deadline)
        seen.append(deadline)

    dice = random.Random(2)
    start = loop.time()
    deadlines = [start + dice.random() * 0.05 for _ in range(5000)]
    for deadline in deadlines:
        loop.call_at(deadline, fire, deadline)
    run_for(loop, 0.2)
    assert early == []
    assert seen == sorted(deadlines)


def test_timers_cancelled_among_thousands_do_not_fire_and_the_rest_keep_order(loop):
    seen = []
    dice = random.Random(3)
    start = loop.time()
    timers = [
        loop.call_at(start + dice.random() * 0.03, lambda n=n: seen.append(n)) for n in range(5000)
    ]
    kept = [(timer.when(), number) for number, timer in enumerate(timers) if number % 3 == 0]
    doomed = [timer for number, timer in enumerate(timers) if number % 3]
    dice.shuffle(doomed)
    for timer in doomed:
        timer.cancel()
    run_for(loop, 0.1)
    assert seen == [number for _, number in sorted(kept)]


# A program is a list of steps: schedule at a distinct time, cancel the nth timer, or let time pass.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), st.integers(-5, 40)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.integers(0, 15)),
    ),
    max_size=40,
)


@given(steps)
def test_any_mixture_of_scheduling_and_cancelling_matches_a_simple_model(program):
    for impl in IMPLEMENTATIONS:
        loop = virtual_loop(impl)
        try:
            fired, expected, waiting, timers = [], [], {}, []
            for serial, (step, value) in enumerate(program):
                if step == "schedule":
                    when = loop.now + value + serial / 1024  # so that no two deadlines are equal
                    timers.append((when, loop.call_at(when, fired.append, when)))
                    waiting[when] = True
                elif step == "cancel" and timers:
                    when, timer = timers[value % len(timers)]
                    timer.cancel()
                    waiting.pop(when, None)
                elif step == "advance":
                    loop.advance(value, settle=2)
                    due = sorted(when for when in waiting if when <= loop.now)
                    expected += due
                    for when in due:
                        del waiting[when]
                    assert fired == expected
        finally:
            loop.close()


# -- time --------------------------------------------------------------------


@pytest.mark.parametrize(
    "delay", [0.0001, 0.0002, 0.0005, 0.001, 0.0015, 0.003, 0.01, 0.021, 0.05]
)
def test_timers_are_never_early(loop, delay):
    """uvloop#739, #233: uvloop fires up to a millisecond early."""
    fired = []
    for _ in range(5):
        timer = loop.call_later(delay, lambda: (fired.append(loop.time()), loop.stop()))
        loop.run_forever()
        assert fired.pop() >= timer.when() - 1e-8


@pytest.mark.parametrize("delay", [0.0003, 0.0007, 0.0023])
def test_sleeps_last_as_long_as_they_should(loop, run, delay):
    async def main():
        for _ in range(10):
            before = time.monotonic()
            await asyncio.sleep(delay)
            assert time.monotonic() - before >= delay - 1e-8

    run(main())


def test_many_sub_millisecond_sleeps_end_in_time(run):
    """A loop that rounded each up to a millisecond and more would still pass; one that lost a wake-up not."""

    async def main():
        for _ in range(200):
            await asyncio.sleep(0.0002)

    before = time.monotonic()
    run(main())
    assert 0.04 <= time.monotonic() - before < 10


def test_a_blocked_loop_fires_what_became_due_meanwhile(loop):
    seen = []
    loop.call_later(0.001, seen.append, "a")
    loop.call_later(0.002, seen.append, "b")
    loop.call_later(30, seen.append, "much later")
    loop.call_soon(time.sleep, 0.01)
    turns(loop, 3)
    assert seen == ["a", "b"]


def test_a_shorter_timer_made_while_a_longer_one_waits_is_in_time(loop):
    loop.call_later(60, loop.stop).when()
    short = []
    loop.call_soon(lambda: loop.call_later(0.01, lambda: (short.append(1), loop.stop())))
    before = time.monotonic()
    loop.run_forever()
    assert short == [1]
    assert time.monotonic() - before < 30


def test_a_shorter_timer_made_by_another_timer_is_in_time(loop):
    loop.call_later(60, loop.stop)
    loop.call_later(0.005, lambda: loop.call_later(0.0005, loop.stop))
    before = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - before < 30


def test_cancelling_the_nearest_timer_leaves_the_next_one_in_time(loop):
    nearest = loop.call_later(0.001, loop.stop)
    timer = loop.call_later(0.02, loop.stop)
    nearest.cancel()
    loop.run_forever()
    assert loop.time() >= timer.when() - 1e-8


def test_when_tells_the_deadline(loop):
    before = loop.time()
    timer = loop.call_later(5, print)
    after = loop.time()
    assert before + 5 <= timer.when() <= after + 5
    assert loop.call_at(77.25, len, "").when() == 77.25
    timer.cancel()


def test_a_timer_that_fell_due_while_the_loop_was_stopped_fires_on_the_next_run(loop):
    seen = []
    loop.call_later(0.001, seen.append, 1)
    turns(loop, 1)
    time.sleep(0.005)
    turns(loop, 2)
    assert seen == [1]


def test_timers_of_two_loops_do_not_meet(new_loop):
    first, second = new_loop(), new_loop()
    seen = []
    first.call_later(0.001, seen.append, "first")
    second.call_later(0.001, seen.append, "second")
    run_for(first, 0.01)
    assert seen == ["first"]
    run_for(second, 0.01)
    assert seen == ["first", "second"]


# -- odd deadlines -----------------------------------------------------------

ODD_DELAYS = {
    "inf": math.inf,
    "minus inf": -math.inf,
    "huge": 1e300,
    "minus huge": -1e300,
    "a year": 365 * 86400,
    "int 0": 0,
    "True": True,
    "False": False,
    "minus one": -1,
    "tiny": 5e-324,
    "fraction": fractions.Fraction(-1, 3),
    "just over 2**31 ms": 2147484,
    "2**63 ns": 2.0**63 / 1e9,
    "2**64 ns": 2.0**64 / 1e9,
    "2**64 s": 2**64,
}


@pytest.mark.parametrize("delay", ODD_DELAYS.values(), ids=ODD_DELAYS)
def test_odd_delays_behave_as_on_asyncio(delay):
    """rloop#40, talyn BUG-251: huge and infinite delays."""

    def scenario(impl):
        loop = impl.new_event_loop()
        seen = []
        try:
            timers = [
                loop.call_later(delay, seen.append, "later"),
                loop.call_at(delay, seen.append, "at"),
            ]
            run_for(loop, 0.005)
            return sorted(seen), [math.isinf(timer.when()) for timer in timers]
        finally:
            loop.close()

    same_on_both(scenario)


def test_nan_is_refused_or_fires_but_does_not_break_the_loop():
    """About hotloop only: asyncio fires such a timer on 3.11, and on 3.13 run_forever() dies with ValueError."""
    loop = HOTLOOP.new_event_loop()
    try:
        seen = []
        for schedule in (loop.call_later, loop.call_at):
            try:
                schedule(math.nan, seen.append, "nan")
            except ValueError:
                seen.append("nan")
        loop.call_later(0.001, seen.append, "other")
        run_for(loop, 0.01)
        assert sorted(seen) == ["nan", "nan", "other"]
    finally:
        loop.close()


def test_a_timer_that_never_fires_does_not_keep_others_from_firing(loop):
    seen = []
    for delay in (math.inf, 1e300, 2.0**64, 1e10):
        loop.call_later(delay, seen.append, delay)
    loop.call_later(0.001, seen.append, "soon")
    run_for(loop, 0.01)
    assert seen == ["soon"]


BAD_DELAYS = {
    "None": None,
    "text": "1",
    "list": [1],
    "object": object(),
    "too large an integer": 10**400,
}


@pytest.mark.parametrize("delay", BAD_DELAYS.values(), ids=BAD_DELAYS)
def test_bad_delays_are_refused_as_by_asyncio(delay):
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            return outcome(loop.call_later, delay, print)[:2]
        finally:
            loop.close()

    assert same_on_both(scenario)[1] in (TypeError, OverflowError)


def test_the_messages_for_a_missing_time_are_those_of_asyncio():
    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            return [outcome(loop.call_later, None, print), outcome(loop.call_at, None, print)]
        finally:
            loop.close()

    assert same_on_both(scenario) == [
        ("raised", TypeError, "delay must not be None"),
        ("raised", TypeError, "when cannot be None"),
    ]


def test_a_refused_delay_leaves_nothing_behind(loop):
    class Callback:
        def __call__(self):
            raise AssertionError("ran")

    callback = Callback()
    gone = weakref.ref(callback)
    with pytest.raises(TypeError):
        loop.call_later("1", callback)
    del callback
    collect()
    assert gone() is None
    turns(loop, 2)


# -- cancelling --------------------------------------------------------------


def test_a_cancelled_timer_does_not_fire(loop):
    seen = []
    timer = loop.call_later(0.001, seen.append, 1)
    timer.cancel()
    run_for(loop, 0.01)
    assert seen == []


def test_a_timer_may_cancel_another_that_is_due_in_the_same_turn(loop):
    seen = []
    start = loop.time()
    loop.call_at(start + 0.001, lambda: (seen.append("first"), second.cancel()))
    second = loop.call_at(start + 0.002, seen.append, "second")
    loop.call_at(start + 0.003, seen.append, "third")
    time.sleep(0.005)
    turns(loop, 2)
    assert seen == ["first", "third"]


def test_cancelling_all_timers_leaves_an_idle_loop(loop):
    timers = [loop.call_later(0.001 * n, print, "fired") for n in range(100)]
    for timer in timers:
        timer.cancel()
    stopper = loop.call_later(0.12, loop.stop)
    loop.run_forever()
    assert loop.time() >= stopper.when() - 1e-8


def test_rescheduling_from_within_a_timer(loop):
    seen = []

    def tick():
        seen.append(loop.time())
        if len(seen) == 20:
            loop.stop()
        else:
            loop.call_later(0.001, tick)

    loop.call_later(0.001, tick)
    loop.run_forever()
    assert all(later - earlier >= 0.001 - 1e-8 for earlier, later in zip(seen, seen[1:]))


def test_a_failing_timer_is_reported_and_the_others_fire(loop):
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    seen = []
    loop.call_later(0.001, int, "no")
    loop.call_later(0.002, seen.append, 1)
    run_for(loop, 0.01)
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    assert isinstance(contexts[0]["handle"], asyncio.TimerHandle)
    assert seen == [1]


def test_the_loop_holds_a_timer_until_it_has_fired(loop):
    class Owner:
        fired = 0

        def method(self):
            Owner.fired += 1

    owner = Owner()
    gone = weakref.ref(owner)
    loop.call_later(0.001, owner.method)
    del owner
    collect()
    assert gone() is not None
    run_for(loop, 0.01)
    collect()
    assert Owner.fired == 1
    assert gone() is None


def test_a_clock_that_raises_is_an_error_of_the_call(impl):
    class Loop(impl.EventLoop):
        broken = False

        def time(self):
            if self.broken:
                raise LookupError("no clock")
            return super().time()

    loop = Loop()
    try:
        loop.broken = True
        with pytest.raises(LookupError, match="no clock"):
            loop.call_later(1, print)
        loop.broken = False
        assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"
    finally:
        loop.close()


# -- timeouts of asyncio on top ----------------------------------------------


def test_timeouts_are_not_early(loop, run):
    async def main():
        before = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        assert loop.time() - before >= 0.01 - 1e-8
        before = loop.time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(30), 0.01)
        assert loop.time() - before >= 0.01 - 1e-8

    run(main())


def test_timeouts_that_do_not_expire_leave_the_result(run):
    async def main():
        async with asyncio.timeout(30):
            assert await asyncio.sleep(0.001, "a") == "a"
        assert await asyncio.wait_for(asyncio.sleep(0.001, "b"), 30) == "b"

    run(main())


def test_a_timeout_can_be_brought_forward(loop, run):
    async def main():
        before = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30) as timeout:
                timeout.reschedule(before + 0.005)
                await asyncio.sleep(30)
        assert timeout.expired()
        assert loop.time() - before >= 0.005 - 1e-8

    run(main())


def test_very_many_short_sleeps(run):
    """Each is ended by a timer, also one that is due before the loop begins to wait."""

    async def main():
        for _ in range(1000):
            await asyncio.sleep(0.0005)

    run(main())

"""Nothing may be left behind: objects, memory blocks, descriptors, resident memory.

Each scenario of scenarios.py runs until it no longer allocates anything new, then many more times.
tests/refleaks.py looks closer, with the total reference count of a debug interpreter.
"""

import asyncio
import gc
import os
import sys
import threading
import weakref

import pytest
import scenarios
from scenarios import SCENARIOS, Thing
from support import SANITIZED, collect, open_descriptors, resident_bytes, turns

ROUNDS = 40


@pytest.fixture
def loop(loop):
    """Debug mode makes much more; the scenario debug_mode is about that."""
    loop.set_debug(False)
    return loop


def counted(thing):
    """Whether an object is of a kind that the scenarios make."""
    return isinstance(thing, (asyncio.Future, asyncio.Handle, asyncio.AbstractEventLoop, Thing))


def census():
    collect()
    return {
        "objects": sum(1 for thing in gc.get_objects() if counted(thing)),
        "things": len(Thing.alive),
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(open_descriptors()),
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_scenario_leaves_nothing_behind(impl, loop, scenario):
    """Caches grow for a while, then no more; what leaks grows every time, by one a round at least."""
    for _ in range(5):
        scenario(loop, impl)
    growths = []
    for _ in range(25):
        before = census()
        for _ in range(ROUNDS):
            scenario(loop, impl)
        after = census()
        growths.append({key: after[key] - before[key] for key in before})
        if all(growth < 0.9 * ROUNDS for growth in growths[-1].values()):
            return
    pytest.fail(f"growths in {ROUNDS} rounds: {growths}")


def test_the_census_would_see_a_leak(impl, loop):
    """So that the tests above can fail."""
    before = census()
    kept = [loop.create_future(), loop.call_soon(print, Thing()), os.dup(0)]
    after = census()
    assert after["objects"] == before["objects"] + 3
    assert after["things"] == before["things"] + 1
    assert after["descriptors"] == before["descriptors"] + 1
    os.close(kept.pop())
    kept.pop().cancel()


def test_loops_made_and_closed_leave_no_descriptor(impl):
    for _ in range(3):
        impl.new_event_loop().close()
    before = open_descriptors()
    for number in range(200):
        loop = impl.new_event_loop()
        if number % 2:
            loop.run_until_complete(asyncio.sleep(0.0001))
        loop.close()
    collect()
    assert set(open_descriptors()) <= set(before)


def test_threads_with_loops_leave_no_thread_and_no_descriptor(impl):
    def body():
        impl.run(asyncio.to_thread(int))

    def round_of_threads():
        threads = [threading.Thread(target=body) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    round_of_threads()
    before = threading.active_count(), open_descriptors()
    for _ in range(5):
        round_of_threads()
    collect()
    assert threading.active_count() <= before[0]
    assert set(open_descriptors()) <= set(before[1])


def test_a_closed_loop_is_freed(impl):
    loop = impl.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    collect()
    assert gone() is None


def test_a_loop_in_a_cycle_with_its_callbacks_is_freed(impl):
    loop = impl.new_event_loop()
    loop.call_later(100, lambda loop=loop: None)
    loop.call_soon(lambda loop=loop: None)
    loop.future = loop.create_future()
    loop.future.add_done_callback(lambda f, loop=loop: None)
    loop.set_exception_handler(lambda l, context, loop=loop: None)
    loop.close()
    gone = weakref.ref(loop)
    del loop
    collect()
    assert gone() is None


@pytest.mark.skipif(
    SANITIZED, reason="a sanitizer keeps freed memory, so resident memory only grows"
)
@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.futures_with_results,
        scenarios.tasks_done,
        scenarios.tasks_cancelled,
        scenarios.gathering,
        scenarios.timers_cancelled,
        scenarios.handles,
        scenarios.threadsafe_calls,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_resident_memory_does_not_grow(impl, loop, scenario):
    def many():
        for _ in range(400):
            scenario(loop, impl)
        collect()
        return resident_bytes()

    many()
    sizes = [many() for _ in range(3)]
    # 400 rounds of at least 20 objects each: a leak of 100 bytes an object makes more than this.
    assert min(later - earlier for earlier, later in zip(sizes, sizes[1:])) < 400_000, sizes


def test_a_burst_of_callbacks_gives_its_memory_back(loop):
    if SANITIZED:
        pytest.skip("a sanitizer keeps freed memory, so resident memory only grows")
    for _ in range(2):
        for _ in range(200_000):
            loop.call_soon(int)
        turns(loop, 1)
        collect()
    first = resident_bytes()
    for _ in range(3):
        for _ in range(200_000):
            loop.call_soon(int)
        turns(loop, 1)
        collect()
    assert resident_bytes() - first < 10_000_000

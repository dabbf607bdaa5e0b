"""Finalizers that run in the middle of a call and change what it works on.

Python 3.11 collects garbage in any allocation, later ones between two lines of Python only.
"""

import contextvars
import gc
import sys

import pytest
from support import turns

# Contexts, lists and tuples that are freed are kept to be used again, and then nothing is allocated.
CONTEXTS = 2000


class Cycle:
    """Garbage that calls a function when it is collected."""

    def __init__(self, function):
        self.itself = self
        self.function = function

    def __del__(self):
        self.function()


def collected_during(look, function, more=0):
    """What look() returns, in which garbage that calls function is collected at the first object made."""
    gc.collect()
    thresholds = gc.get_threshold()
    gc.disable()
    gc.set_threshold(1 + more, 1000, 1000)
    Cycle(function)
    try:
        gc.enable()
        return look()
    finally:
        gc.disable()
        gc.set_threshold(*thresholds)
        gc.enable()
        gc.collect()


@pytest.fixture
def no_spare_contexts():
    return [contextvars.Context() for _ in range(CONTEXTS)]


def new_function():
    return eval("lambda *args: None")


@pytest.mark.parametrize("more", range(3))
def test_callbacks_are_scheduled_while_the_ready_queue_is_looked_at(loop, no_spare_contexts, more):
    def call_soon():
        for _ in range(3000):
            loop.call_soon(print)

    for _ in range(60):
        future = loop.create_future()
        future.add_done_callback(new_function())
        future.set_result(None)
    shown = collected_during(lambda: loop._ready, call_soon, more)
    assert len(shown) in (60, 3060)
    for handle in loop._ready:
        handle.cancel()


def test_entries_run_while_the_ready_queue_is_looked_at(loop, no_spare_contexts):
    ran = []
    for _ in range(60):
        future = loop.create_future()
        future.add_done_callback(ran.append)
        future.set_result(None)
    collected_during(lambda: loop._ready, lambda: turns(loop, 1))
    turns(loop, 1)
    assert len(ran) == 60


def test_a_profiler_schedules_callbacks_while_the_ready_queue_is_looked_at(loop):
    """In debug mode a Handle's stack is taken by Python code, on every Python."""

    def profile(*args):
        if not ran:
            ran.append(True)
            loop.set_debug(False)
            for _ in range(3000):
                loop.call_soon(int)
            loop.set_debug(True)

    ran = []
    for _ in range(60):
        future = loop.create_future()
        future.add_done_callback(new_function())
        future.set_result(None)
    loop.set_debug(True)
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        shown = list(loop._ready)
    finally:
        sys.setprofile(before)
        loop.set_debug(False)
    assert len(shown) in (60, 3060)
    turns(loop, 1)

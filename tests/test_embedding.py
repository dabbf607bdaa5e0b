"""Loops that are run by others and loops that are extended: custom run loops, subclasses, patched methods.

Toolkits run a loop of their own between _run_forever_setup() and _run_forever_cleanup() (3.13+); test helpers
override or patch time() and call_soon().
"""

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import threading
import time
import types
import weakref

import pytest
from support import (
    PATIENCE,
    Contexts,
    VirtualTime,
    clean_environment,
    nothing,
    outcome,
    run_script,
    same_on_both,
    script_command,
    turns,
)

custom_run_loops = pytest.mark.skipif(
    not hasattr(asyncio.BaseEventLoop, "_run_forever_setup"),
    reason="custom run loops are new in 3.13",
)


# -- a run loop of one's own ---------------------------------------------------


def by_hand(loop, rounds=10_000):
    """Run a loop as a toolkit would, until it is stopped."""
    loop._run_forever_setup()
    try:
        for _ in range(rounds):
            loop._run_once()
            if loop._stopping:
                return
        raise AssertionError("the loop was never stopped")
    finally:
        loop._run_forever_cleanup()


@pytest.fixture
def by_hand_loop(impl, new_loop):
    loop = new_loop()
    loop.run_forever = types.MethodType(by_hand, loop)
    return loop


@custom_run_loops
def test_run_until_complete_works_over_a_custom_run_loop(by_hand_loop):
    async def main():
        await asyncio.sleep(0.001)
        return await asyncio.gather(*(asyncio.sleep(0, n) for n in range(5)))

    assert by_hand_loop.run_until_complete(main()) == [0, 1, 2, 3, 4]


@custom_run_loops
def test_a_custom_run_loop_is_the_running_loop(by_hand_loop):
    seen = []
    by_hand_loop.call_soon(
        lambda: seen.append((asyncio.get_running_loop(), by_hand_loop.is_running()))
    )
    by_hand_loop.call_soon(by_hand_loop.stop)
    by_hand_loop.run_forever()
    assert seen == [(by_hand_loop, True)]
    assert not by_hand_loop.is_running()
    assert asyncio._get_running_loop() is None


@custom_run_loops
def test_a_custom_run_loop_cannot_be_entered_twice():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop._run_forever_setup()
        found = outcome(loop._run_forever_setup), outcome(loop.close)
        loop._run_forever_cleanup()
        loop.close()
        return found, outcome(loop._run_forever_setup)

    same_on_both(scenario)


@custom_run_loops
def test_each_round_runs_what_is_ready(loop):
    log = []

    def again(n):
        log.append(n)
        if n < 3:
            loop.call_soon(again, n + 1)

    loop.call_soon(again, 0)
    loop._run_forever_setup()
    for expected in [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]:
        loop._run_once()
        assert log == expected
    loop._run_forever_cleanup()


def test_a_round_within_a_task_gives_the_task_back(loop):
    log = []

    async def main():
        loop.call_soon(lambda: log.append(asyncio.current_task()))
        loop._run_once()
        return asyncio.current_task()

    task = loop.create_task(main())
    assert loop.run_until_complete(task) is task
    assert log[0] in (None, task)  # stock asyncio leaves it set


@custom_run_loops
def test_a_round_waits_for_a_timer(loop):
    fired = []
    begun = time.monotonic()
    loop.call_later(0.02, fired.append, 1)
    loop._run_forever_setup()
    while not fired:
        loop._run_once()
        assert time.monotonic() < begun + 10
    loop._run_forever_cleanup()
    assert time.monotonic() - begun >= 0.02


@custom_run_loops
def test_another_thread_wakes_a_custom_run_loop(by_hand_loop):
    thread = threading.Timer(0.02, by_hand_loop.call_soon_threadsafe, [by_hand_loop.stop])
    thread.start()
    by_hand_loop.run_forever()
    thread.join()


@custom_run_loops
def test_asyncgens_of_a_custom_run_loop_are_closed(by_hand_loop):
    log = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def main():
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0.001)

    hooks = sys.get_asyncgen_hooks()
    by_hand_loop.run_until_complete(main())
    assert log == ["closed"]
    assert sys.get_asyncgen_hooks() == hooks


@custom_run_loops
def test_exceptions_in_a_custom_run_loop(by_hand_loop):
    contexts = Contexts()
    by_hand_loop.set_exception_handler(contexts)
    by_hand_loop.call_soon(lambda: 1 / 0)
    by_hand_loop.call_soon(by_hand_loop.stop)
    by_hand_loop.run_forever()
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


@custom_run_loops
def test_keyboard_interrupt_leaves_a_custom_run_loop_usable(by_hand_loop):
    def interrupt():
        raise KeyboardInterrupt

    log = []
    by_hand_loop.call_soon(interrupt)
    by_hand_loop.call_soon(log.append, "later")
    with pytest.raises(KeyboardInterrupt):
        by_hand_loop.run_forever()
    by_hand_loop.run_until_complete(nothing())
    assert log == ["later"]


@custom_run_loops
def test_current_task_in_a_custom_run_loop(by_hand_loop):
    seen = []

    async def main():
        seen.append(asyncio.current_task().get_name())
        by_hand_loop.call_soon(lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)
        seen.append(asyncio.current_task().get_name())
        await asyncio.sleep(0)

    by_hand_loop.run_until_complete(by_hand_loop.create_task(main(), name="main"))
    assert seen == ["main", None, "main"]
    assert asyncio.current_task(by_hand_loop) is None


@custom_run_loops
def test_ordinary_and_custom_runs_in_turn(loop):
    log = []
    for n in range(3):
        loop.call_soon(log.append, n)
        loop.call_soon(loop.stop)
        by_hand(loop)
        loop.run_until_complete(asyncio.sleep(0.001))
    assert log == [0, 1, 2]


@custom_run_loops
def test_handles_left_by_a_custom_run_loop_are_collected(impl, new_loop):
    class Thing:
        pass

    loop = new_loop()
    loop._run_forever_setup()
    things = []
    for number in range(10):
        thing = Thing()
        thing.handle = (
            loop.call_later(1000, print, thing) if number % 2 else loop.call_soon(id, thing)
        )
        things.append(weakref.ref(thing))
    del thing
    loop._run_once()
    loop._run_forever_cleanup()
    loop.close()
    gc.collect()
    assert [ref() for ref in things if ref() is not None] == []


@custom_run_loops
def test_ctrl_c_ends_an_idle_custom_run_loop(impl):
    child = subprocess.Popen(
        script_command(
            impl,
            """
            loop = new_event_loop()
            loop.call_later(60, print)
            loop._run_forever_setup()
            print("READY", flush=True)
            try:
                while True:
                    loop._run_once()
            except KeyboardInterrupt:
                print("interrupted")
            finally:
                loop._run_forever_cleanup()
            loop.close()
            """,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        assert child.stdout.readline() == "READY\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=5 * PATIENCE)
    finally:
        child.kill()
        child.communicate()
    assert (output, errors, child.returncode) == ("interrupted\n", "", 0)


@custom_run_loops
def test_signal_handlers_in_a_custom_run_loop(by_hand_loop):
    log = []
    by_hand_loop.add_signal_handler(
        signal.SIGUSR1, lambda: (log.append("signal"), by_hand_loop.stop())
    )
    by_hand_loop.call_later(0.01, signal.raise_signal, signal.SIGUSR1)
    by_hand_loop.run_forever()
    assert by_hand_loop.remove_signal_handler(signal.SIGUSR1)
    assert log == ["signal"]


def test_a_subclass_may_run_its_own_rounds(impl, no_new_descriptors):
    class Counting(impl.EventLoop):
        rounds = 0

        def run_forever(self):
            self.begun = True
            super().run_forever()

    loop = Counting()
    assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    assert loop.begun
    loop.close()


# -- subclasses ------------------------------------------------------------------


def test_every_overridden_scheduling_method_is_called():
    def scenario(impl):
        class Logging(impl.EventLoop):
            def __init__(self):
                self.log = []
                super().__init__()

        def logging(name):
            def method(self, *args, **kwargs):
                self.log.append(name)
                return getattr(super(Logging, self), name)(*args, **kwargs)

            return method

        for name in "call_soon", "call_later", "call_at", "create_future", "create_task", "time":
            setattr(Logging, name, logging(name))

        async def main():
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            await asyncio.create_task(nothing())
            await asyncio.gather(nothing(), nothing())
            fut = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0, fut.set_result, None)
            await fut

        loop = Logging()
        loop.log.clear()
        loop.run_until_complete(main())
        log = [name for name in loop.log if name != "time"]
        timed = "time" in loop.log
        loop.close()
        return log, timed

    same_on_both(scenario)


def test_an_overridden_call_soon_may_change_the_callback(impl, no_new_descriptors):
    log = []

    class Wrapping(impl.EventLoop):
        def call_soon(self, callback, *args, context=None):
            def wrapped(*args):
                log.append("before")
                callback(*args)

            return super().call_soon(wrapped, *args, context=context)

    loop = Wrapping()

    async def main():
        await asyncio.sleep(0)
        return "result"

    assert loop.run_until_complete(main()) == "result"
    # Two steps of the task and the callback that stops the loop.
    assert log == ["before"] * 3
    loop.close()


def test_an_overridden_call_soon_may_delay_callbacks(impl, no_new_descriptors):
    class Slow(impl.EventLoop):
        def call_soon(self, callback, *args, context=None):
            return self.call_later(0.001, callback, *args, context=context)

    loop = Slow()
    fut = loop.create_future()
    loop.call_soon(fut.set_result, "result")
    assert loop.run_until_complete(fut) == "result"
    loop.close()


def test_a_failing_call_soon_fails_as_on_stock(logged):
    def scenario(impl):
        logged.records.clear()

        class Failing(impl.EventLoop):
            broken = False

            def call_soon(self, callback, *args, context=None):
                if self.broken:
                    raise LookupError("broken")
                return super().call_soon(callback, *args, context=context)

        loop = Failing()
        fut = loop.create_future()
        fut.add_done_callback(print)
        loop.broken = True
        found = [outcome(fut.set_result, 1), fut.done(), outcome(fut.add_done_callback, print)]
        coro = nothing()
        found += [outcome(loop.create_task, coro)[:2]]
        coro.close()
        gc.collect()
        loop.broken = False
        loop.close()
        return found, [message.split(" at ")[0] for message in logged.messages()]

    same_on_both(scenario)


def test_a_virtual_clock_orders_timers():
    def scenario(impl):
        class Loop(VirtualTime, impl.EventLoop):
            pass

        loop, log = Loop(), []
        for delay in 3, 1, 2, 0, 1, 2.5:
            loop.call_later(delay, log.append, delay)
        for _ in range(8):
            loop.advance(0.5)
            log.append(f"at {loop.now}")
        loop.close()
        return log

    same_on_both(scenario)


@pytest.mark.parametrize("value", [5, True, 7.5], ids=repr)
def test_an_overridden_time_may_return_any_number(value):
    def scenario(impl):
        class Loop(impl.EventLoop):
            def time(self):
                return value

        loop, log = Loop(), []
        handle = loop.call_later(0, log.append, "due")
        loop.call_later(1, log.append, "not due")
        turns(loop, 3)
        when = handle.when()
        loop.close()
        return log, when

    same_on_both(scenario)


def test_a_failing_time_fails_as_on_stock():
    def scenario(impl):
        class Loop(impl.EventLoop):
            broken = False

            def time(self):
                if self.broken:
                    raise LookupError("no clock")
                return 1.0

        loop = Loop()
        loop.broken = True
        found = [outcome(loop.call_later, 1, print)]
        loop.broken = False
        loop.close()
        return found

    same_on_both(scenario)


def test_a_time_that_is_no_number_is_a_type_error(impl, no_new_descriptors):
    class Loop(impl.EventLoop):
        def time(self):
            return "noon"

    loop = Loop()
    with pytest.raises(TypeError):
        loop.call_later(1, print)
    loop.close()


def test_properties_and_slots_of_a_subclass(impl, no_new_descriptors):
    class Loop(impl.EventLoop):
        __slots__ = ("slot",)

        @property
        def call_soon(self):
            return super().call_soon

    loop = Loop()
    loop.slot = 1
    loop.attribute = 2
    assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    assert (loop.slot, loop.attribute) == (1, 2)
    loop.close()


def test_a_mixin_behind_the_loop_class(impl, no_new_descriptors):
    class Mixin:
        def extra(self):
            return self.run_until_complete(asyncio.sleep(0, "extra"))

    class Loop(impl.EventLoop, Mixin):
        pass

    loop = Loop()
    assert loop.extra() == "extra"
    loop.close()


def test_subclasses_of_the_loop_can_be_collected(impl):
    class Loop(impl.EventLoop):
        pass

    loop = Loop()
    loop.itself = loop
    loop.close()
    loop, kind = weakref.ref(loop), weakref.ref(Loop)
    del Loop
    gc.collect()
    assert loop() is None and kind() is None


def test_a_loop_without_init_is_unusable_but_does_not_crash(impl):
    result = run_script(
        impl,
        """
        import gc

        cls = type(new_event_loop())
        loop = cls.__new__(cls)
        for name in sorted(dir(cls)):
            if not name.startswith("__") and name not in ("run_forever", "_run_once", "_run_forever_setup"):
                try:
                    getattr(loop, name)()
                except Exception:
                    pass
        del loop
        gc.collect()
        cls.__new__(cls).close()
        """,
    )
    # Stock loops, too, complain of missing attributes on stderr when they go.
    assert result.returncode in (0, 1), result


def test_init_may_not_be_called_on_a_loop_in_use(impl, no_new_descriptors):
    """Stock loops leak their first selector; all we ask for is no crash and no lost descriptor."""
    if impl.name == "asyncio":
        pytest.skip("a stock loop leaks its selector and its sockets here")
    loop = impl.new_event_loop()
    loop.call_soon(print, "never shown")
    try:
        loop.__init__()
    except (RuntimeError, AttributeError):
        pass
    loop.close()


# -- patched instances -----------------------------------------------------------


def test_call_soon_patched_on_the_instance_is_used_by_futures_and_tasks():
    def scenario(impl):
        loop, log = impl.new_event_loop(), []
        original = loop.call_soon

        def call_soon(callback, *args, context=None):
            log.append(getattr(callback, "__name__", type(callback).__name__))
            return original(callback, *args, context=context)

        def done(fut):
            log.append("ran")

        loop.call_soon = call_soon
        fut = loop.create_future()
        fut.add_done_callback(done)
        fut.set_result(1)
        loop.run_until_complete(fut)
        del loop.call_soon
        patched = list(log)
        fut.add_done_callback(done)
        turns(loop, 1)
        loop.close()
        return [name for name in patched if name in ("done", "ran")], log[len(patched) :]

    assert same_on_both(scenario) == (["done", "ran"], ["ran"])


def test_call_soon_patched_while_tasks_are_on_their_way(impl, no_new_descriptors):
    loop, log = impl.new_event_loop(), []
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        log.append("call_soon")
        return original(callback, *args, context=context)

    async def main():
        await asyncio.sleep(0)
        loop.call_soon = call_soon
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.call_soon = original
        await asyncio.sleep(0)
        return "done"

    assert loop.run_until_complete(main()) == "done"
    assert log.count("call_soon") == 2
    loop.close()


def test_time_patched_on_the_instance():
    def scenario(impl):
        loop, log = impl.new_event_loop(), []
        now = [100.0]
        loop.time = lambda: now[0]
        handle = loop.call_later(5, log.append, "fired")
        turns(loop, 2)
        log.append(handle.when())
        now[0] = 104.9
        turns(loop, 2)
        log.append("not yet")
        now[0] = 105.0
        turns(loop, 2)
        del loop.time
        log.append(abs(loop.time() - time.monotonic()) < 1)
        loop.close()
        return log

    assert same_on_both(scenario) == [105.0, "not yet", "fired", True]


def test_a_patched_time_runs_a_whole_program_at_once(impl, no_new_descriptors):
    """The usual helper: a clock that jumps to the next timer whenever the loop would wait."""
    loop = impl.new_event_loop()
    clock = [0.0]
    loop.time = lambda: clock[0]

    async def sleeper(delay, log):
        await asyncio.sleep(delay)
        log.append(delay)

    async def driver(tasks):
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            clock[0] += 10

    async def main():
        log = []
        tasks = [asyncio.create_task(sleeper(delay, log)) for delay in (3000, 1000, 2000)]
        await driver(tasks)
        return log

    begun = time.monotonic()
    assert loop.run_until_complete(main()) == [1000, 2000, 3000]
    assert time.monotonic() - begun < 10 * PATIENCE
    loop.close()


def test_other_methods_patched_on_the_instance(impl, no_new_descriptors):
    """Libraries replace getaddrinfo, call_exception_handler, create_task."""
    loop, log = impl.new_event_loop(), []
    create_task, handler = loop.create_task, loop.call_exception_handler

    def patched_create_task(coro, **options):
        log.append("create_task")
        return create_task(coro, **options)

    def patched_handler(context):
        log.append(context["message"].split(" ", 3)[:3])

    loop.create_task = patched_create_task
    loop.call_exception_handler = patched_handler

    async def main():
        await asyncio.create_task(nothing())
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    loop.call_exception_handler = handler
    assert log == ["create_task", "create_task", ["Exception", "in", "callback"]]
    loop.close()


def test_a_patched_clock_and_contexts(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    variable = contextvars.ContextVar("variable")
    loop.time = lambda: 0.0
    seen = []
    variable.set("outside")
    loop.call_later(-1, lambda: seen.append(variable.get()))
    variable.set("changed")
    turns(loop, 2)
    assert seen == ["outside"]
    loop.close()

"""call_soon_threadsafe and what is built on it, from many threads, while the loop works, idles and closes.

uvloop#720 lost wake-ups, #408 stopped early.
"""

import asyncio
import concurrent.futures
import contextvars
import socket
import sys
import threading
import time

import pytest
from support import (
    IMPLEMENTATIONS,
    PATIENCE,
    Contexts,
    outcome,
    same_on_both,
    script_output,
    turns,
    until,
)


def run_threads(count, function):
    """Run function(number) in that many threads at once and wait for all of them."""
    barrier = threading.Barrier(count)
    failures = []

    def body(number):
        barrier.wait()
        try:
            function(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, failures


def join(threads):
    for thread in threads:
        thread.join(20 * PATIENCE)
        assert not thread.is_alive()


class Background:
    """A loop that runs in a thread of its own."""

    def __init__(self, loop):
        self.loop = loop
        self.thread = threading.Thread(target=loop.run_forever)

    def __enter__(self):
        self.thread.start()
        started = threading.Event()
        self.loop.call_soon_threadsafe(started.set)
        assert started.wait(20)
        return self.loop

    def __exit__(self, *exc_info):
        self.loop.call_soon_threadsafe(self.loop.stop)
        join([self.thread])


def test_an_idle_loop_wakes_up_for_another_thread(loop):
    def from_afar():
        time.sleep(0.02)  # the loop sleeps in its poll by now
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=from_afar)
    thread.start()
    loop.run_forever()
    join([thread])


def test_an_idle_loop_wakes_up_every_time(loop):
    """One wake-up lost in a thousand would hang here."""
    with Background(loop):
        for number in range(1000):
            done = threading.Event()
            loop.call_soon_threadsafe(done.set)
            assert done.wait(20), f"wake-up {number} was lost"


async def noting(note):
    note()


async def calls_soon(loop, send, note):
    send()
    loop.call_soon(note)


async def makes_a_task(loop, send, note):
    send()
    return loop.create_task(noting(note))


async def wakes_a_task(loop, send, note):
    async def wait():
        await future
        note()

    future = loop.create_future()
    task = loop.create_task(wait())
    await asyncio.sleep(0)
    send()
    future.set_result(None)
    return task


async def calls_back(loop, send, note):
    future = loop.create_future()
    future.add_done_callback(lambda future: note())
    send()
    future.set_result(None)


async def yields(loop, send, note):
    send()
    await asyncio.sleep(0)
    note()


async def has_a_timer(loop, send, note):
    send()
    loop.call_later(0, note)


async def has_a_reader(loop, send, note):
    def read():
        loop.remove_reader(left)
        left.close()
        right.close()
        note()

    left, right = socket.socketpair()
    loop.add_reader(left, read)
    await asyncio.sleep(0)
    send()
    right.send(b"x")


async def has_a_connection(loop, send, note):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            note()
            transport.close()

    left, right = socket.socketpair()
    left.setblocking(False)
    right.close()
    send()
    await loop.connect_accepted_socket(Protocol, left)


@pytest.mark.parametrize(
    "scheduling",
    [
        calls_soon,
        makes_a_task,
        wakes_a_task,
        calls_back,
        yields,
        has_a_timer,
        has_a_reader,
        has_a_connection,
    ],
)
def test_what_a_thread_sent_before_comes_before(scheduling, loop, run):
    seen = []

    def send():
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "thread"))
        thread.start()
        thread.join()

    async def main():
        await asyncio.sleep(0.002)  # a busy loop does not poll in every turn
        task = await scheduling(loop, send, lambda: seen.append("loop"))
        await until(lambda: len(seen) == 2)
        await asyncio.gather(*filter(None, [task]))

    run(main())
    assert seen == ["thread", "loop"]


def test_the_callbacks_of_one_thread_keep_their_order(loop):
    seen = []
    with Background(loop):
        for number in range(5000):
            loop.call_soon_threadsafe(seen.append, number)
    assert seen == list(range(5000))


def test_threads_hammering_lose_nothing_and_keep_order(loop):
    seen = []

    def hammer(number):
        for serial in range(3000):
            loop.call_soon_threadsafe(seen.append, (number, serial))

    with Background(loop):
        threads, failures = run_threads(6, hammer)
        join(threads)
    assert failures == []
    assert len(seen) == 6 * 3000
    for number in range(6):
        assert [serial for n, serial in seen if n == number] == list(range(3000))


def test_hammering_while_the_loop_runs_tasks_and_timers(loop):
    received, ticks = [], []

    def hammer(number):
        for serial in range(1000):
            loop.call_soon_threadsafe(received.append, serial)

    async def main():
        async def ticker():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.0005)

        ticking = asyncio.ensure_future(ticker())
        threads, failures = run_threads(4, hammer)
        await until(lambda: len(received) == 4000)
        ticking.cancel()
        await asyncio.to_thread(join, threads)
        return failures

    assert loop.run_until_complete(main()) == []
    assert ticks


def test_callbacks_given_before_the_loop_runs_run_when_it_does(loop):
    seen = []
    thread = threading.Thread(
        target=lambda: [loop.call_soon_threadsafe(seen.append, n) for n in range(10)]
    )
    thread.start()
    join([thread])
    assert seen == []
    turns(loop, 2)
    assert seen == list(range(10))


def test_the_loop_may_call_it_on_itself(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, "outside")
    loop.call_soon(lambda: loop.call_soon_threadsafe(seen.append, "inside"))
    turns(loop, 3)
    assert seen == ["outside", "inside"]


def test_it_takes_its_place_behind_what_the_thread_of_the_loop_scheduled(loop):
    seen = []

    def callback():
        loop.call_soon(seen.append, "soon")
        loop.call_soon_threadsafe(seen.append, "threadsafe")

    loop.call_soon(callback)
    turns(loop, 3)
    assert seen == ["soon", "threadsafe"]


def test_a_handle_given_to_another_thread_can_be_cancelled(loop):
    seen = []
    handle = loop.call_soon_threadsafe(seen.append, 1)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    assert handle.cancelled()
    turns(loop, 2)
    assert seen == []


def test_cancelling_handles_from_many_threads_while_they_run(loop):
    ran = []

    def work(number):
        for serial in range(500):
            handle = loop.call_soon_threadsafe(ran.append, (number, serial))
            if serial % 2:
                handle.cancel()

    with Background(loop):
        threads, failures = run_threads(4, work)
        join(threads)
    assert failures == []
    for number in range(4):
        kept = [serial for n, serial in ran if n == number and serial % 2 == 0]
        assert kept == list(range(0, 500, 2))


CANCELLING_WAITS = sys.version_info >= (
    3,
    14,
)  # for the callback that runs, so that is not to wait in turn


def cancelled_while_it_runs(implementation):
    """What a thread sees that cancels a handle whose callback is running in the loop's thread."""
    loop = implementation.new_event_loop()
    begun, cancelled = threading.Event(), threading.Event()
    ended, seen = [], []

    def callback():
        begun.set()
        cancelled.wait(0.05 if CANCELLING_WAITS else 20)
        ended.append("ended")

    def cancel():
        handle = loop.call_soon_threadsafe(callback)
        begun.wait(20)
        seen.append(handle.cancelled() and "cancelled before")
        handle.cancel()
        seen.extend([list(ended), handle.cancelled()])
        cancelled.set()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=cancel)
    thread.start()
    loop.run_forever()
    join([thread])
    loop.close()
    return seen, ended


def test_cancelling_waits_for_the_callback_that_runs_since_3_14():
    seen, ended = same_on_both(cancelled_while_it_runs)
    assert (seen, ended) == ([False, ["ended"] if CANCELLING_WAITS else [], True], ["ended"])


def test_a_callback_cancels_its_own_handle_and_others(loop):
    """The lock that 3.14 has for it is reentrant."""
    seen = []

    def callback():
        own.cancel()
        other.cancel()
        seen.append((own.cancelled(), other.cancelled()))

    own = loop.call_soon_threadsafe(callback)
    other = loop.call_soon_threadsafe(seen.append, "never")
    turns(loop, 2)
    assert seen == [(True, True)]


@pytest.mark.parametrize("by", ["_run", "_run_once"])
def test_a_callback_that_is_run_by_hand_cancels_its_own_handle(loop, by):
    seen = []

    def callback():
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_soon_threadsafe(callback)
    if by == "_run":
        handle._run()
    else:
        loop._run_once()
    turns(loop, 2)
    assert seen == [True]


def test_an_exception_in_such_a_callback_goes_to_the_handler(loop):
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    loop.call_soon_threadsafe(int, "no")
    turns(loop, 2)
    assert [type(context["exception"]) for context in contexts] == [ValueError]


def test_the_context_is_that_of_the_calling_thread(loop):
    variable = contextvars.ContextVar("variable", default=None)
    seen = []

    def from_afar():
        variable.set("of the thread")
        loop.call_soon_threadsafe(lambda: seen.append(variable.get()))

    thread = threading.Thread(target=from_afar)
    thread.start()
    join([thread])
    turns(loop, 2)
    assert seen == ["of the thread"]


# -- stopping and closing ----------------------------------------------------


def test_stop_from_another_thread_stops_promptly_and_once(loop):
    for _ in range(50):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        thread.start()
        loop.run_forever()
        join([thread])
    seen = []
    loop.call_soon(lambda: loop.call_soon(lambda: (seen.append("not stopped early"), loop.stop())))
    loop.run_forever()
    assert seen == ["not stopped early"]


def test_after_close_it_raises(loop):
    loop.close()
    results = []
    thread = threading.Thread(
        target=lambda: results.append(outcome(loop.call_soon_threadsafe, print))
    )
    thread.start()
    join([thread])
    assert results == [("raised", RuntimeError, "Event loop is closed")]


def test_hammering_a_loop_that_closes_raises_and_never_crashes(new_loop):
    for _ in range(8):
        loop = new_loop()
        closed = threading.Event()

        def hammer(number):
            while True:
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as exc:
                    assert "closed" in str(exc)
                    return
                assert not closed.is_set() or loop.is_closed()

        threads, failures = run_threads(3, hammer)
        turns(loop, 3)
        loop.close()
        closed.set()
        join(threads)
        assert failures == []


def test_coroutines_for_a_loop_that_closes(impl):
    """Each is done, or refused since the loop is closed; what was taken and not begun stays pending.

    The threads pause: four that never do give any loop more work in each turn than in the last.
    """
    source = """
        import logging, threading, time, warnings
        logging.disable()
        warnings.simplefilter("ignore")

        async def work(number):
            return number

        def hammer(loop, number, taken, refused):
            while not refused.is_set():
                try:
                    future = asyncio.run_coroutine_threadsafe(work(number), loop)
                    taken.append((number, future))
                except RuntimeError as exc:
                    assert str(exc) == "Event loop is closed"
                    refused.set()
                time.sleep(0.0005)

        for _ in range(5):
            loop, taken = new_event_loop(), []
            refused = [threading.Event() for _ in range(4)]
            threads = [
                threading.Thread(target=hammer, args=(loop, n, taken, refused[n])) for n in range(4)
            ]
            for thread in threads: thread.start()
            while sum(future.done() for _, future in list(taken)) < 50:
                loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
            for thread in threads: thread.join()
            assert all(event.is_set() for event in refused)
            assert all(future.result() == n for n, future in taken if future.done())
        print("fine")
        """
    assert script_output(impl, source) == "fine\n"


def test_hammering_a_loop_that_is_dropped_never_crashes(impl):
    source = """
        import gc, threading, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(20):
            loop = new_event_loop()

            def hammer(loop):
                for _ in range(200):
                    loop.call_soon_threadsafe(int)

            threads = [threading.Thread(target=hammer, args=(loop,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            del loop
            gc.collect()
            for thread in threads:
                thread.join()
        print("survived")
        """
    assert script_output(impl, source) == "survived\n"


# -- run_coroutine_threadsafe and friends ------------------------------------


def test_run_coroutine_threadsafe_returns_the_result(loop):
    async def work(number):
        await asyncio.sleep(0.001)
        return number * 2

    with Background(loop):
        futures = [asyncio.run_coroutine_threadsafe(work(number), loop) for number in range(50)]
        assert [future.result(20) for future in futures] == [number * 2 for number in range(50)]


def test_run_coroutine_threadsafe_raises_the_exception(loop):
    async def work():
        raise LookupError("lost")

    with Background(loop):
        with pytest.raises(LookupError, match="lost"):
            asyncio.run_coroutine_threadsafe(work(), loop).result(20)


def test_run_coroutine_threadsafe_can_be_cancelled(loop):
    cancelled = threading.Event()

    async def work():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with Background(loop):
        future = asyncio.run_coroutine_threadsafe(work(), loop)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.02)
        assert future.cancel()
        assert cancelled.wait(20)


def test_run_coroutine_threadsafe_from_many_threads(loop):
    async def work(number):
        await asyncio.sleep(0)
        return number

    def hammer(number):
        for serial in range(100):
            assert asyncio.run_coroutine_threadsafe(work(serial), loop).result(20) == serial

    with Background(loop):
        threads, failures = run_threads(4, hammer)
        join(threads)
    assert failures == []


def test_two_loops_call_each_other(new_loop):
    ping, pong = new_loop(), new_loop()

    async def answer(number):
        return number + 1

    async def ask():
        number = 0
        while number < 200:
            number = await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(answer(number), pong)
            )
        return number

    with Background(pong):
        assert ping.run_until_complete(ask()) == 200


def test_loops_of_both_kinds_call_each_other():
    for first in IMPLEMENTATIONS:
        for second in IMPLEMENTATIONS:
            here, there = first.new_event_loop(), second.new_event_loop()
            with Background(there):
                future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "answer"), there)
                assert (
                    here.run_until_complete(
                        asyncio.wait_for(asyncio.wrap_future(future, loop=here), 20)
                    )
                    == "answer"
                )
            here.close()
            there.close()


def test_a_future_set_in_the_right_thread_wakes_the_task(loop):
    async def main():
        future = loop.create_future()
        threading.Thread(
            target=loop.call_soon_threadsafe, args=(future.set_result, "from afar")
        ).start()
        return await future

    for _ in range(100):
        assert loop.run_until_complete(main()) == "from afar"


def test_to_thread_and_executors_give_their_results(run):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(
            *(asyncio.to_thread(pow, number, 2) for number in range(100))
        )
        assert results == [number**2 for number in range(100)]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            results = await asyncio.gather(
                *(loop.run_in_executor(pool, pow, n, 3) for n in range(100))
            )
        assert results == [number**3 for number in range(100)]
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)

    run(main())


def test_an_executor_shared_by_two_loops(new_loop):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for loop in (new_loop(), new_loop()):
            loop.set_default_executor(pool)
            assert loop.run_until_complete(asyncio.to_thread(pow, 2, 5)) == 32
        # Closing the loops shuts the pool down; that is asyncio's way.


def test_a_turn_without_a_run_is_woken_by_another_thread(loop):
    called = []
    loop.call_later(20 * PATIENCE, lambda: None)
    timer = threading.Timer(0.2, loop.call_soon_threadsafe, (called.append, 1))
    timer.start()
    before = loop.time()
    loop._run_once()
    assert loop.time() - before < 10 * PATIENCE
    timer.join()
    while not called:
        loop._run_once()

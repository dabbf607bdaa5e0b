"""The default executor: run_in_executor(None, ...) and asyncio.to_thread(), and what ends it."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import shutil
import statistics
import sys
import threading
import time
import traceback
import types
import weakref

import hotloop
import pytest
from support import (
    ASYNCIO,
    HOTLOOP,
    PATIENCE,
    ROOT,
    SANITIZED,
    collect,
    open_descriptors,
    outcome,
    run_command,
    same_on_both,
    script_output,
    turns,
    until,
)

LIMIT = 20 * PATIENCE

with_timeout = pytest.mark.skipif(sys.version_info < (3, 12), reason="the timeout is new in 3.12")


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


def gone(thread):
    thread.join(LIMIT)
    return not thread.is_alive()


@pytest.fixture(autouse=True)
def no_worker_left(asyncio_log):
    yield
    collect()
    assert all(gone(thread) for thread in workers())


# -- threads -----------------------------------------------------------------------


def test_workers_are_threads_of_pythons_own(impl, loop, run):
    thread = run(asyncio.to_thread(threading.current_thread))
    assert type(thread) is threading.Thread
    assert thread.name == "asyncio_0"
    assert thread.daemon is False
    assert thread in threading.enumerate()
    assert thread.ident != threading.get_ident()


def test_there_are_as_many_as_a_thread_pool_may_have(impl, loop, run):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        most = pool._max_workers

    async def main():
        go_on = threading.Event()
        calls = [loop.run_in_executor(None, go_on.wait, LIMIT) for _ in range(most + 5)]
        await until(lambda: len(workers()) == most)
        await asyncio.sleep(0.05)
        names = sorted(thread.name for thread in workers())
        go_on.set()
        await asyncio.gather(*calls)
        return names

    assert run(main()) == sorted(f"asyncio_{n}" for n in range(most))


def test_blocking_calls_run_side_by_side(loop, run):
    async def main():
        for _ in range(5):
            barrier = threading.Barrier(4)
            await asyncio.gather(*(asyncio.to_thread(barrier.wait, LIMIT) for _ in range(4)))

    run(main())


def test_an_idle_worker_is_used_again(impl, loop, run):
    async def main():
        used = {await asyncio.to_thread(threading.get_ident) for _ in range(200)}
        return len(used), len(workers())

    if impl is HOTLOOP:  # in stock asyncio a worker may count as idle too late
        assert run(main()) == (1, 1)
    else:
        run(main())


def test_a_worker_is_started_only_when_needed(loop, run):
    assert workers() == []
    run(asyncio.sleep(0))
    assert workers() == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_be_started(impl, loop, run, monkeypatch, error):
    if impl is ASYNCIO:
        pytest.skip("stock asyncio loses sight of the thread, and keeps the call")
    begin = threading.Thread.start

    def start(self):
        if isinstance(error, KeyboardInterrupt):
            begin(self)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(type(error)):
            loop.run_in_executor(None, int)

    async def main():
        assert await asyncio.to_thread(pow, 2, 3) == 8
        return await asyncio.gather(*(asyncio.to_thread(pow, n, 2) for n in range(100)))

    assert run(main()) == [n * n for n in range(100)]


def test_thread_locals_die_with_the_worker(loop, run):
    class Kept:
        pass

    local = threading.local()
    seen = []

    def keep():
        local.kept = Kept()
        seen.append(weakref.ref(local.kept))

    run(asyncio.to_thread(keep))
    assert seen[0]() is not None
    run(loop.shutdown_default_executor())
    collect()
    assert seen[0]() is None


def test_a_call_begins_while_a_callback_blocks(loop, run):
    async def main():
        begun = threading.Event()
        for _ in range(3):
            call = loop.run_in_executor(None, begun.set)
            assert begun.wait(LIMIT)
            begun.clear()
            await call

    run(main())


def test_calls_begin_in_order(impl, loop, run, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: -3)
    monkeypatch.setattr("os.process_cpu_count", lambda: -3, raising=False)

    async def main():
        begun = []
        calls = [loop.run_in_executor(None, begun.append, n) for n in range(500)]
        await asyncio.gather(*calls)
        assert loop._default_executor._max_workers == 1
        return begun

    assert run(main()) == list(range(500))


# -- results -----------------------------------------------------------------------


def test_the_future_is_one_of_the_loop(impl, loop, run):
    async def main():
        future = loop.run_in_executor(None, pow, 2, 5)
        assert type(future) is impl.Future
        assert future.get_loop() is loop
        return await future

    assert run(main()) == 32


def test_arguments_are_passed_on(loop, run):
    def collect_all(*args):
        return args

    async def main():
        for count in range(8):
            args = tuple(range(count))
            assert await loop.run_in_executor(None, collect_all, *args) == args

    run(main())


def test_before_the_loop_runs_and_from_another_thread(loop, run):
    early = loop.run_in_executor(None, pow, 2, 3)
    time.sleep(0.01)
    assert run(early) == 8
    made = []
    thread = threading.Thread(target=lambda: made.append(loop.run_in_executor(None, pow, 2, 4)))
    thread.start()
    thread.join()
    assert run(made[0]) == 16


def test_what_the_call_sent_to_the_loop_comes_first(impl, loop, run):
    """A call's future is done in a turn of its own, after all that the call itself put in the loop.

    So it is in stock asyncio, but for calls that end before run_in_executor() returns.
    """

    async def main():
        for _ in range(50):
            seen = []

            def second(seen=seen):
                seen.append("second")

            def first(seen=seen, second=second):
                seen.append("first")
                loop.call_soon(second)

            await loop.run_in_executor(None, loop.call_soon_threadsafe, first)
            assert seen == ["first", "second"] or impl is ASYNCIO

    run(main())


def test_exceptions_keep_their_traceback(loop, run):
    def innermost():
        return 1 / 0

    def outer():
        innermost()

    async def main():
        try:
            await asyncio.to_thread(outer)
        except ZeroDivisionError as exc:
            names = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
            assert names[-2:] == ["outer", "innermost"]
            assert "main" in names
            assert exc.__context__ is None
        else:
            raise AssertionError

    run(main())


def raised(exc):
    raise exc


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("text"),
        lambda: BaseException("base"),
        lambda: SystemExit(3),
        lambda: KeyboardInterrupt("stop"),
        lambda: GeneratorExit("end"),
        lambda: asyncio.CancelledError("message"),
        lambda: concurrent.futures.CancelledError("message"),
        lambda: concurrent.futures.TimeoutError("late"),
        lambda: concurrent.futures.InvalidStateError("state"),
        lambda: StopAsyncIteration("end"),
    ],
)
def test_exceptions_of_every_kind_end_alike(make):
    async def main(loop):
        await loop.run_in_executor(None, raised, make())

    def scenario(impl):
        loop = impl.new_event_loop()
        try:
            got = outcome(loop.run_until_complete, main(loop))
            loop.run_until_complete(loop.shutdown_default_executor())
            return got
        finally:
            loop.close()

    same_on_both(scenario)


def test_stop_iteration(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        contexts = []
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        future = loop.run_in_executor(None, raised, StopIteration(5))
        loop.run_until_complete(loop.shutdown_default_executor())
        turns(loop, 3)
        got = outcome(future.result)
        loop.close()
        return got, [repr(context["exception"]) for context in contexts]

    same_on_both(scenario)


def test_an_exception_nobody_looks_at_is_logged(impl, logged):
    loop = impl.new_event_loop()
    loop.run_in_executor(None, raised, ValueError("lost"))
    loop.run_until_complete(loop.shutdown_default_executor())
    turns(loop, 3)
    collect()
    loop.close()
    (message,) = logged.messages()
    assert message.startswith("Future exception was never retrieved")


def test_errors_of_arguments_and_states(logged):
    async def coroutine():
        pass

    def scenario(impl):
        loop = impl.new_event_loop()
        results = [
            outcome(loop.run_in_executor),
            outcome(loop.run_in_executor, None),
            outcome(loop.run_in_executor, None, func=print, nothing=1),
            outcome(loop.run_in_executor, 5, print),
            outcome(lambda: loop.run_until_complete(loop.run_in_executor(None, 5))),
            outcome(lambda: loop.run_until_complete(loop.run_in_executor(None, func=int))),
            outcome(
                lambda: loop.run_until_complete(loop.run_in_executor(executor=None, func=int))
            ),
        ]
        loop.set_debug(True)
        loop.slow_callback_duration = 60
        results.append(outcome(loop.run_in_executor, None, coroutine))
        results.append(outcome(loop.run_in_executor, None, 5))
        coro = coroutine()
        results.append(outcome(loop.run_in_executor, None, coro))
        coro.close()
        results.append(outcome(lambda: loop.run_until_complete(loop.run_in_executor(None, int))))
        loop.set_debug(False)
        loop.run_until_complete(loop.shutdown_default_executor())
        results.append(outcome(loop.run_in_executor, None, int))
        results.append(outcome(loop.run_in_executor, None, func=int))
        loop.close()
        results.append(outcome(loop.run_in_executor, None, int))
        return results

    same_on_both(scenario)


# -- cancelling --------------------------------------------------------------------


async def all_busy(loop, go_on):
    """Give every worker there may be something to wait for."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        most = pool._max_workers
    begun = threading.Semaphore(0)

    def wait():
        begun.release()
        go_on.wait(LIMIT)

    calls = [loop.run_in_executor(None, wait) for _ in range(most)]
    for _ in calls:
        while not begun.acquire(blocking=False):
            await asyncio.sleep(0.001)
    return calls


def test_a_call_cancelled_before_it_begins_never_runs(loop, run):
    async def main():
        go_on = threading.Event()
        busy = await all_busy(loop, go_on)
        ran = []
        calls = [loop.run_in_executor(None, ran.append, n) for n in range(20)]
        for call in calls[::2]:
            assert call.cancel()
        await asyncio.sleep(0.001)
        go_on.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[::2]] == [asyncio.CancelledError] * 10
        assert sorted(ran) == list(range(1, 20, 2))
        await asyncio.gather(*busy)

    run(main())


def test_a_call_cancelled_while_it_runs_goes_on_unheard(loop, run):
    async def main():
        for result in int, functools.partial(raised, ValueError("nobody hears")):
            go_on, ended = threading.Event(), threading.Event()
            begun = threading.Event()

            def work(begun=begun, go_on=go_on, ended=ended, result=result):
                begun.set()
                go_on.wait(LIMIT)
                ended.set()
                return result()

            call = asyncio.ensure_future(asyncio.to_thread(work))
            await until(begun.is_set)
            call.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not ended.is_set()
            go_on.set()
            await until(ended.is_set)
        assert await asyncio.to_thread(pow, 3, 2) == 9

    run(main())


def test_a_timeout_around_a_call(loop, run):
    async def main():
        go_on = threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.to_thread(go_on.wait, LIMIT)
        go_on.set()

    run(main())


def test_what_belongs_to_a_cancelled_call_is_let_go(loop, run):
    class Argument:
        pass

    async def main():
        go_on = threading.Event()
        busy = await all_busy(loop, go_on)
        argument = Argument()
        alive = weakref.ref(argument)
        loop.run_in_executor(None, id, argument).cancel()
        del argument
        go_on.set()
        await asyncio.gather(*busy)
        await asyncio.to_thread(int)
        await until(lambda: alive() is None)

    run(main())


# -- contexts ----------------------------------------------------------------------


def test_to_thread_takes_the_context_along(loop, run):
    variable = contextvars.ContextVar("variable", default="default")

    async def main():
        variable.set("of the task")
        assert await asyncio.to_thread(variable.get) == "of the task"
        assert await loop.run_in_executor(None, variable.get) == "default"
        await asyncio.to_thread(variable.set, "of the thread")
        assert variable.get() == "of the task"

    run(main())


# -- the executor as programs see it -------------------------------------------------


def test_the_attribute_is_a_thread_pool_once_it_was_used(loop, run):
    assert loop._default_executor is None
    run(asyncio.to_thread(int))
    executor = loop._default_executor
    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    assert executor._thread_name_prefix == "asyncio"
    assert executor._max_workers > 0
    assert executor._work_queue.qsize() == 0
    assert executor._shutdown is False
    assert {thread.name for thread in executor._threads} <= {f"asyncio_{n}" for n in range(32)}
    assert executor.submit(pow, 2, exp=6).result(LIMIT) == 64
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(LIMIT)
    assert run(loop.run_in_executor(executor, pow, 2, 7)) == 128


def test_one_loops_executor_used_by_another(new_loop):
    first, second = new_loop(), new_loop()
    assert first.run_until_complete(first.run_in_executor(None, pow, 2, 3)) == 8
    second.set_default_executor(first._default_executor)
    assert second.run_until_complete(second.run_in_executor(None, pow, 2, 4)) == 16
    first.run_until_complete(first.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        second.run_in_executor(None, int)


def test_the_attribute_may_be_assigned_to(loop, run):
    class Executor(concurrent.futures.Executor):
        calls = 0

        def submit(self, fn, /, *args):
            self.calls += 1
            future = concurrent.futures.Future()
            future.set_result(fn(*args))
            return future

        def shutdown(self, wait=True, **options):
            pass

    executor = Executor()
    assert run(asyncio.to_thread(threading.get_ident)) != threading.get_ident()
    loop._default_executor = executor
    assert run(asyncio.to_thread(threading.get_ident)) == threading.get_ident()
    assert executor.calls == 1
    loop._default_executor = None
    assert run(asyncio.to_thread(threading.get_ident)) != threading.get_ident()
    assert executor.calls == 1


def test_workers_end_when_the_executor_is_dropped(loop, run):
    thread = run(asyncio.to_thread(threading.current_thread))
    loop._default_executor = None
    collect()
    assert gone(thread)


def test_an_executor_and_its_threads_are_freed(loop, run):
    alive = [weakref.ref(run(asyncio.to_thread(threading.current_thread)))]
    alive += [weakref.ref(loop._default_executor), weakref.ref(alive[0]())]
    run(loop.shutdown_default_executor())
    loop.close()
    collect()
    assert [ref() for ref in alive] == [None, None, None]


def test_executors_that_are_set_are_asked_by_submit(loop, run):
    class Pool(concurrent.futures.ThreadPoolExecutor):
        calls = 0

        def submit(self, *args):
            self.calls += 1
            return super().submit(*args)

    pool = Pool(2, thread_name_prefix="mine")
    loop.set_default_executor(pool)
    assert run(asyncio.to_thread(threading.current_thread)).name.startswith("mine")
    assert run(loop.run_in_executor(pool, threading.current_thread)).name.startswith("mine")
    assert pool.calls == 2
    assert workers() == []
    for wrong in None, 5, object(), concurrent.futures.Executor():
        with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
            loop.set_default_executor(wrong)


def test_instrumentation_of_submit_sees_the_calls(loop, run, monkeypatch):
    calls = []
    original = concurrent.futures.ThreadPoolExecutor.submit

    @functools.wraps(original)
    def submit(self, fn, /, *args, **kwargs):
        calls.append(fn)
        return original(self, fn, *args, **kwargs)

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", submit)
    assert run(loop.run_in_executor(None, pow, 2, 3)) == 8
    assert calls == [pow]


def test_shutdown_of_the_executor_itself(loop, run):
    async def main():
        go_on = threading.Event()
        busy = await all_busy(loop, go_on)
        waiting = loop.run_in_executor(None, int)
        submitted = loop._default_executor.submit(int)
        assert loop._default_executor._work_queue.qsize() == 2
        loop._default_executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert submitted.cancelled()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            loop.run_in_executor(None, int)
        go_on.set()
        await asyncio.gather(*busy)

    run(main())


# -- shutdown ----------------------------------------------------------------------


def test_shutdown_waits_for_what_runs_and_what_is_queued(loop, run):
    ended = []

    def work(n):
        time.sleep(0.01)
        ended.append(n)

    async def main():
        calls = [loop.run_in_executor(None, work, n) for n in range(50)]
        await loop.shutdown_default_executor()
        assert len(ended) == 50
        assert workers() == []
        await asyncio.gather(*calls)

    run(main())


@with_timeout
def test_shutdown_gives_up_in_time(impl, loop, run, recwarn):
    if impl is ASYNCIO and "timeouts" not in loop.shutdown_default_executor.__code__.co_names:
        pytest.skip("this release of Python takes a timeout and waits without end")
    go_on = threading.Event()

    async def main():
        call = loop.run_in_executor(None, go_on.wait, LIMIT)
        begin = time.monotonic()
        await loop.shutdown_default_executor(0.05)
        assert 0.04 < time.monotonic() - begin < 5 * PATIENCE
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)
        go_on.set()
        assert await call is True

    run(main())
    (warning,) = [w for w in recwarn if w.category is RuntimeWarning]
    assert str(warning.message) == (
        "The executor did not finishing joining its threads within 0.05 seconds."
    )


@with_timeout
def test_shutdown_in_time(loop, run, recwarn):
    async def main():
        await asyncio.to_thread(int)
        await loop.shutdown_default_executor(LIMIT)
        assert workers() == []

    run(main())
    run(loop.shutdown_default_executor(timeout=1))
    assert [w for w in recwarn if w.category is RuntimeWarning] == []


def test_a_loop_closed_while_calls_run(impl, no_new_descriptors):
    go_on = threading.Event()
    loop = impl.new_event_loop()
    for n in range(100):
        loop.run_in_executor(None, go_on.wait, LIMIT)
    loop.run_until_complete(asyncio.sleep(0.001))
    threads = workers()
    loop.close()
    assert loop._default_executor is None
    assert threads
    go_on.set()
    assert all(gone(thread) for thread in threads)


def test_a_loop_closed_at_the_moment_calls_end(impl, no_new_descriptors):
    for n in range(60):
        loop = impl.new_event_loop()
        for _ in range(n % 7):
            loop.run_in_executor(None, time.sleep, 0.0001 * (n % 3))
            loop.run_in_executor(None, int)
        if n % 2:
            turns(loop, n % 5)
        loop.close()


def test_a_loop_that_is_dropped_with_calls(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    alive = weakref.ref(loop)
    futures = [loop.run_in_executor(None, time.sleep, 0.001) for _ in range(5)]
    loop.run_until_complete(asyncio.sleep(0))
    del futures
    loop.close()
    del loop
    deadline = time.monotonic() + LIMIT
    while alive() is not None and time.monotonic() < deadline:
        collect()
        time.sleep(0.001)
    assert alive() is None


# -- many --------------------------------------------------------------------------


def test_ten_thousand_calls_half_of_them_cancelled(impl, loop, run):
    class Argument:
        made = 0

        def __init__(self):
            Argument.made += 1

        def __del__(self):
            Argument.made -= 1

    def work(argument):
        return argument

    async def main():
        for _ in range(10):
            calls = [loop.run_in_executor(None, work, Argument()) for _ in range(1000)]
            cancelled = {n for n in range(0, 1000, 2) if calls[n].cancel()}
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert cancelled == {
                n for n in range(1000) if isinstance(results[n], asyncio.CancelledError)
            }
            # In stock asyncio some calls end before run_in_executor() returns.
            assert len(cancelled) == 500 or impl is ASYNCIO
            del calls, results

    run(asyncio.to_thread(int))
    descriptors = open_descriptors()
    references = sys.getrefcount(work)
    run(main())
    run(loop.shutdown_default_executor())
    collect()
    assert workers() == []
    assert open_descriptors() == descriptors
    assert Argument.made == 0
    assert sys.getrefcount(work) <= references


def test_several_loops_in_several_threads(impl):
    async def main():
        loop = asyncio.get_running_loop()
        total = 0
        for round_number in range(20):
            calls = [loop.run_in_executor(None, pow, n, 2) for n in range(50)]
            calls[round_number].cancel()
            calls += [loop.run_in_executor(None, raised, ValueError()) for _ in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            total += sum(result for result in results if isinstance(result, int))
        return total

    results = []
    threads = [threading.Thread(target=lambda: results.append(impl.run(main()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert gone(thread)
    expected = sum(n * n for n in range(50)) * 20 - sum(n * n for n in range(20))
    assert results == [expected] * 5


def test_one_executor_used_from_many_threads(loop, run):
    run(asyncio.to_thread(int))
    executor = loop._default_executor
    totals = []

    def use():
        futures = [executor.submit(pow, n, 2) for n in range(200)]
        totals.append(sum(future.result(LIMIT) for future in futures))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    run(asyncio.sleep(0.01))
    for thread in threads:
        assert gone(thread)
    assert totals == [sum(n * n for n in range(200))] * 6


def test_calls_that_make_calls(loop, run):
    async def ask(depth):
        return await asyncio.to_thread(work, depth)

    def work(depth):
        if depth == 0:
            return 0
        return 1 + asyncio.run_coroutine_threadsafe(ask(depth - 1), loop).result(LIMIT)

    assert run(ask(3)) == 3


def test_collections_while_calls_are_everywhere(loop, run):
    async def main():
        for _ in range(30):
            calls = [loop.run_in_executor(None, pow, n, 2) for n in range(100)]
            gc.collect()
            await calls[50]
            gc.collect()
            await asyncio.gather(*calls)

    run(main())


# -- beside a busy loop ------------------------------------------------------------


def test_a_busy_loop_lets_workers_begin(impl, loop, run):
    """Without a helping hand each call waits for a switch interval of the GIL, 5 ms."""

    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        spinning = asyncio.create_task(spin())
        took = []
        for _ in range(50):
            begin = time.perf_counter()
            await asyncio.to_thread(int)
            took.append(time.perf_counter() - begin)
        spinning.cancel()
        return statistics.median(took)

    median = run(main())
    if impl is HOTLOOP:
        assert median < 0.004 * PATIENCE


# -- the ends of interpreters and processes -----------------------------------------


ENDS = {
    "calls at work and queued": """
        loop = new_event_loop()

        def work(n):
            time.sleep(0.02)
            sys.stdout.write("worked\\n")

        async def main():
            for n in range(40):
                loop.run_in_executor(None, work, n)

        loop.run_until_complete(main())
        """,
    "the same after close": """
        loop = new_event_loop()

        def work(n):
            time.sleep(0.02)
            sys.stdout.write("worked\\n")

        async def main():
            for n in range(40):
                loop.run_in_executor(None, work, n)

        loop.run_until_complete(main())
        loop.close()
        """,
    "idle workers": """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.to_thread(int))
        """,
    "idle workers of many loops": """
        loops = [new_event_loop() for _ in range(10)]
        for loop in loops:
            loop.run_until_complete(asyncio.to_thread(int))
        """,
    "a loop in a thread": """
        begun = threading.Event()

        async def main():
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(None, time.sleep, 0.01) for _ in range(30)]
            begun.set()
            await asyncio.gather(*calls)

        def serve():
            loop = new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            print("served", flush=True)

        threading.Thread(target=serve).start()
        begun.wait()
        """,
    "a loop in a daemon thread": """
        def serve():
            loop = new_event_loop()
            try:
                while True:
                    loop.run_until_complete(asyncio.to_thread(time.sleep, 0.001))
            except RuntimeError:
                time.sleep(60)

        threading.Thread(target=serve, daemon=True).start()
        time.sleep(0.05)
        """,
    "a call that makes calls to the end": """
        loop = new_event_loop()

        def work(n):
            time.sleep(0.001)
            try:
                loop.run_in_executor(None, work, n + 1)
            except RuntimeError as exc:
                print(str(exc).replace(" interpreter", ""))

        loop.run_until_complete(loop.run_in_executor(None, work, 0))
        time.sleep(0.03)
        """,
    "sys.exit in a coroutine": """
        async def main():
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.02)
            sys.exit()

        run(main())
        """,
    "an exception raised by exit handlers": """
        import atexit

        loop = new_event_loop()

        @atexit.register
        def late():
            try:
                loop.run_in_executor(None, int)
            except RuntimeError as exc:
                print(exc)

        loop.run_until_complete(asyncio.to_thread(int))
        """,
    "first used by an exit handler": """
        import atexit

        loop = new_event_loop()

        @atexit.register
        def late():
            try:
                loop.run_until_complete(asyncio.to_thread(int))
            except RuntimeError as exc:
                print(exc)
        """,
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_the_interpreter(name):
    source = "import sys, threading, time\n" + ENDS[name].replace("\n        ", "\n")
    said = [script_output(impl, source) for impl in (ASYNCIO, HOTLOOP)]
    assert said[0] == said[1]


def test_a_forked_child_has_a_pool_of_its_own():
    output = script_output(
        HOTLOOP,
        """
        import os, sys, threading, time

        loop = new_event_loop()
        go_on = threading.Event()

        async def main():
            for _ in range(20):
                loop.run_in_executor(None, go_on.wait, 20)
            await asyncio.sleep(0.01)

        loop.run_until_complete(main())
        child = os.fork()
        if child == 0:
            mine = new_event_loop()
            names = {mine.run_until_complete(asyncio.to_thread(threading.current_thread)).name for _ in range(5)}
            print(len(names) <= 5, threading.active_count() <= 6, flush=True)
            mine.run_until_complete(mine.shutdown_default_executor())
            mine.close()
            loop.close()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        go_on.set()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """,
        flags=["-W", "ignore::DeprecationWarning"],
    )
    assert output == "True True\n7\n"


def test_a_call_that_forks(impl):
    output = script_output(
        impl,
        """
        import os

        def work():
            child = os.fork()
            if child == 0:
                os._exit(5)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        async def main():
            print(await asyncio.gather(*(asyncio.to_thread(work) for _ in range(5))))

        run(main())
        """,
        flags=["-W", "ignore::DeprecationWarning"],
    )
    assert output == "[5, 5, 5, 5, 5]\n"


@pytest.mark.skipif(
    SANITIZED, reason="a thread that ends after fork() waits for a lock of ASan's allocator"
)
def test_a_forked_copy_of_a_worker_leaves_the_parent_alone():
    """A child that returns from the call that forked: it has neither loop nor pool."""
    output = script_output(
        HOTLOOP,
        """
        import os, time

        def work():
            child = os.fork()
            if child == 0:
                return "never seen"
            os.waitpid(child, 0)
            return "parent"

        async def main():
            print(await asyncio.gather(*(asyncio.to_thread(work) for _ in range(3))))

        run(main())
        """,
        flags=["-W", "ignore::DeprecationWarning"],
    )
    assert output == "['parent', 'parent', 'parent']\n"


def test_a_childs_use_of_the_parents_loop():
    output = script_output(
        HOTLOOP,
        """
        import os

        loop = new_event_loop()
        loop.run_until_complete(asyncio.to_thread(int))
        child = os.fork()
        if child == 0:
            try:
                loop.run_in_executor(None, int)
            except RuntimeError as exc:
                print("cannot be used in process" in str(exc), flush=True)
            loop._default_executor.shutdown()
            os._exit(0)
        os.waitpid(child, 0)
        print(loop.run_until_complete(asyncio.to_thread(pow, 2, 3)))
        loop.close()
        """,
        flags=["-W", "ignore::DeprecationWarning"],
    )
    assert output == "True\n8\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14")
def test_in_subinterpreters():
    output = script_output(
        HOTLOOP,
        """
        import textwrap
        from concurrent import interpreters

        code = textwrap.dedent('''
            import asyncio, hotloop, time

            async def main():
                loop = asyncio.get_running_loop()
                results = await asyncio.gather(*(asyncio.to_thread(pow, n, 2) for n in range(100)))
                loop.run_in_executor(None, time.sleep, 0.01)
                return sum(results)

            loop = hotloop.new_event_loop()
            assert loop.run_until_complete(main()) == 328350
            if not leave_open:
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()
        ''')
        for leave_open in False, True:
            interpreter = interpreters.create()
            interpreter.prepare_main(leave_open=leave_open)
            interpreter.exec(code)
            interpreter.close()
        print(run(asyncio.to_thread(pow, 2, 3)))
        """,
    )
    assert output == "8\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor is new in 3.14")
def test_a_pool_of_interpreters(loop, run):
    pool = concurrent.futures.InterpreterPoolExecutor(2)

    async def main():
        assert await loop.run_in_executor(pool, pow, 2, 5) == 32
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(pool, divmod, 1, 0)
        loop.set_default_executor(pool)
        calls = [loop.run_in_executor(None, pow, n, 2) for n in range(20)]
        assert await asyncio.gather(*calls) == [n * n for n in range(20)]
        await loop.shutdown_default_executor()

    run(main())
    with pytest.raises(RuntimeError):
        pool.submit(int)


# -- the core's own objects -----------------------------------------------------------


def test_the_pool_by_itself():
    core = hotloop._core
    with pytest.raises(TypeError):
        core.Pool()
    with pytest.raises(TypeError):
        core.Pool("many", print)
    started = []
    pool = core.Pool(1, started.append)
    pool.submit(int)
    pool.submit(int)
    assert started == [pool]
    assert pool.qsize() == 2
    pool.stop(False)
    with pytest.raises(RuntimeError):
        pool.submit(int)
    pool.work()
    assert pool.qsize() == 0
    with pytest.raises(ZeroDivisionError):
        core.Pool(1, lambda pool: 1 / 0).submit(int)
    kept = core.Pool(1, started.append)
    kept.submit(types.SimpleNamespace(pool=kept))
    started.clear()
    del pool, kept
    collect()


# -- the inbox and the queue, for the thread sanitizer --------------------------------

HARNESS = ROOT / "tests" / "harness"


@pytest.mark.skipif(
    SANITIZED or not (ROOT / "src" / "inbox.h").exists(), reason="needs the sources"
)
@pytest.mark.parametrize("name", ["inbox", "workers"])
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_senders_and_workers_race_for_nothing(tmp_path, sanitizer, name):
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        pytest.skip("there is no gcc")
    program = tmp_path / name
    libuv = run_command(["pkg-config", "--cflags", "--libs", "libuv"]).stdout.split()
    build = ["gcc", "-std=c11", "-O1", "-g", "-pthread", f"-fsanitize={sanitizer}"]
    built = run_command([*build, "-o", program, HARNESS / f"{name}.c", *libuv])
    if "cannot find" in built.stderr:
        pytest.skip("the sanitizer's library is not installed")
    assert (built.returncode, built.stderr) == (0, "")
    result = run_command([program], limit=60)
    if "unexpected memory mapping" in result.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert (result.returncode, result.stdout, result.stderr) == (0, "fine\n", "")

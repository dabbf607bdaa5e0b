"""The default executor: run_in_executor(None, ...) and asyncio.to_thread(), its threads and results."""

import asyncio
import concurrent.futures
import contextvars
import threading
import time
import traceback
import weakref

import pytest
from support import ASYNCIO, HOTLOOP, collect, outcome, same_on_both, turns, until
from workers import LIMIT, raised, workers

pytestmark = pytest.mark.usefixtures("no_worker_left")

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


def test_the_report_of_a_result_that_came_too_late_names_the_future(loop, run):
    async def main():
        future = loop.run_in_executor(None, time.sleep, 0.01)
        future.set_result("meanwhile")
        while not messages:
            await asyncio.sleep(0.01)
        assert "<Future finis" in messages[0]  # asyncio's is shortened

    messages = []
    loop.set_debug(True)  # else 3.13's and later show no arguments
    loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
    run(main())


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

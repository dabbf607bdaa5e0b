"""The default executor as programs see it: the attribute, executors that are set, the pool by itself."""

import asyncio
import concurrent.futures
import functools
import threading
import types
import weakref

import hotloop
import pytest
from hotloop import _executor
from support import collect
from workers import LIMIT, all_busy, gone, workers

pytestmark = pytest.mark.usefixtures("no_worker_left")

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


def test_what_cannot_be_called_is_the_futures_to_tell(loop, run):
    async def main():
        await asyncio.to_thread(int)
        future = loop.run_in_executor(executor=None, func=1)
        with pytest.raises(TypeError, match="'int' object is not callable"):
            await future

    run(main())


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


def test_no_worker_is_started_after_shutdown():
    """By a thread that has asked for one before; shutdown() joins those there are."""
    executor = _executor.new_default_executor()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        _executor._start_worker(weakref.ref(executor), executor._pool)
    assert not executor._threads


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

"""The default executor with many calls, loops and threads at once, beside a busy loop, and raced."""

import asyncio
import gc
import shutil
import statistics
import sys
import threading
import time

import pytest
from support import (
    ASYNCIO,
    HOTLOOP,
    PATIENCE,
    ROOT,
    SANITIZED,
    collect,
    open_descriptors,
    run_command,
)
from workers import LIMIT, gone, raised, workers

pytestmark = pytest.mark.usefixtures("no_worker_left")

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
            if calls[round_number].cancel():
                total += round_number**2
            else:  # In stock asyncio some calls end before run_in_executor() returns.
                assert impl is ASYNCIO
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
    assert results == [20 * sum(n * n for n in range(50))] * 5


def test_the_first_calls_from_several_threads_at_once(impl):
    def call(loop, barrier):
        barrier.wait()
        try:
            loop.run_in_executor(None, int)
        except Exception as exc:
            errors.append(exc)

    errors = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(50):
            loop, barrier = impl.new_event_loop(), threading.Barrier(4)
            threads = [threading.Thread(target=call, args=(loop, barrier)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                assert gone(thread)
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


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
    """Without a helping hand each call waits for a switch interval of the GIL, 5 ms, in which the loop
    uses the processor as long as no other process does."""

    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        spinning = asyncio.create_task(spin())
        took = []
        for _ in range(50):
            begin = time.process_time()
            await asyncio.to_thread(int)
            took.append(time.process_time() - begin)
        spinning.cancel()
        return statistics.median(took)

    median = run(main())
    if impl is HOTLOOP:
        assert median < 0.004 * PATIENCE


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

"""What ends the default executor: its shutdown, its loop's end, the interpreter's."""

import asyncio
import sys
import threading
import time
import weakref

import pytest
from support import ASYNCIO, HOTLOOP, PATIENCE, collect, script_output, turns
from workers import LIMIT, gone, workers

pytestmark = pytest.mark.usefixtures("no_worker_left")

with_timeout = pytest.mark.skipif(sys.version_info < (3, 12), reason="the timeout is new in 3.12")


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


# -- the ends of interpreters and processes -----------------------------------------


CALLS_AT_WORK = """
        loop = new_event_loop()

        def work(n):
            time.sleep(0.02)
            sys.stdout.write("worked\\n")

        async def main():
            for n in range(40):
                loop.run_in_executor(None, work, n)

        loop.run_until_complete(main())
        """

ENDS = {
    "calls at work and queued": CALLS_AT_WORK,
    "the same after close": CALLS_AT_WORK + "loop.close()",
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
    "a worker that is just being started": """
        begun = threading.Event()

        class Slow(threading.Thread):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                begun.set()
                time.sleep(0.2)

        def use():
            try:
                loop.run_in_executor(None, print, "called")
            except RuntimeError:  # asyncio's, where the interpreter starts no more threads (3.12)
                pass

        loop = new_event_loop()
        user = threading.Thread(target=use)
        threading.Thread = Slow
        user.start()
        begun.wait()
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

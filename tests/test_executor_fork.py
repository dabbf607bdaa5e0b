"""The default executor in forked children and in subinterpreters."""

import asyncio
import concurrent.futures
import sys

import pytest
from support import HOTLOOP, SANITIZED, script_output

pytestmark = pytest.mark.usefixtures("no_worker_left")


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

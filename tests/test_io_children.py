"""Subprocesses and executors as programs use them, and every keyword they take."""

import asyncio
import concurrent.futures
import subprocess
import sys
import threading

import pytest
from serving import LIMIT
from support import script_output

# -- subprocesses ------------------------------------------------------------


def test_a_subprocess_talks_through_real_pipes(run):
    """uvloop#505: sockets there."""

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os, stat, sys; print(stat.S_ISFIFO(os.fstat(1).st_mode)); "
            "sys.stderr.write(sys.stdin.read()); sys.exit(3)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate(b"input")
        assert (out, err, process.returncode) == (b"True\n", b"input", 3)

    run(main())


def test_a_shell_and_many_children_at_once(run):
    async def child(number):
        process = await asyncio.create_subprocess_shell(
            f"echo {number}; exit {number}", stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out, process.returncode

    async def main():
        results = await asyncio.gather(*(child(number) for number in range(10)))
        assert results == [(b"%d\n" % number, number) for number in range(10)]

    run(main())


def test_a_subprocess_can_be_signalled(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), LIMIT) == -15
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.kill()
        assert await asyncio.wait_for(process.wait(), LIMIT) == -9

    run(main())


def test_a_program_that_is_not_there(run):
    """uvloop#185: no descriptor may be left by a failed start; the fixture looks."""

    async def main():
        for _ in range(20):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    "/nonexistent/program", stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )

    run(main())


def test_subprocess_keywords(run, tmp_path):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os; print(os.getcwd(), os.environ['WORD'], os.getpgid(0) == os.getpid())",
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={"WORD": "set"},
            start_new_session=True,
        )
        out, _ = await process.communicate()
        assert out.decode().split() == [str(tmp_path.resolve()), "set", "True"]

    run(main())


def test_a_subprocess_from_a_loop_in_another_thread(impl):
    results = []

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        results.append(await asyncio.wait_for(process.wait(), LIMIT))

    asyncio_needs_a_watcher = sys.version_info < (3, 12)
    if asyncio_needs_a_watcher:
        asyncio.get_child_watcher()  # the threaded one, made in the main thread
    thread = threading.Thread(target=lambda: impl.run(main()))
    thread.start()
    thread.join(LIMIT)
    assert results == [0]


# -- executors ---------------------------------------------------------------


def test_run_in_executor_with_threads(loop, run):
    async def main():
        assert await loop.run_in_executor(None, pow, 2, 5) == 32
        with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
            name = await loop.run_in_executor(pool, lambda: threading.current_thread().name)
            assert name.startswith("mine")
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    run(main())


def test_the_default_executor_can_be_set_and_is_shut_down(loop, run):
    class Pool(concurrent.futures.ThreadPoolExecutor):
        pass

    pool = Pool(1)
    loop.set_default_executor(pool)
    assert run(asyncio.to_thread(pow, 2, 6)) == 64
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError):
        pool.submit(print)
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        run(asyncio.to_thread(print))


def test_only_thread_pools_may_be_the_default(loop):
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(5)


def test_a_cancelled_executor_call_does_not_disturb_the_loop(loop, run):
    async def main():
        go_on = threading.Event()
        waiting = loop.run_in_executor(None, go_on.wait, LIMIT)
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        assert await asyncio.to_thread(pow, 3, 2) == 9

    run(main())


def test_run_in_executor_with_processes(impl):
    assert (
        script_output(
            impl,
            """
        import concurrent.futures, multiprocessing

        async def main():
            loop = asyncio.get_running_loop()
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                print(await asyncio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(5))))

        run(main())
        """,
            flags=["-W", "ignore::DeprecationWarning"],
        )
        == "[0, 1, 4, 9, 16]\n"
    )

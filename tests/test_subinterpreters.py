"""Subinterpreters (3.12+), and the end of interpreters with loops, tasks and threads left behind.

Every case runs in a process of its own, which must end with 0: a crash shows as a negative code.
"""

import sys
from textwrap import dedent

import pytest

from support import HOTLOOP, PATIENCE, run_script, script_output

pytestmark = pytest.mark.skipif(
    HOTLOOP.name != "hotloop", reason="tests of hotloop alone")

subinterpreters = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="extension modules know of subinterpreters since 3.12")
interpreters_module = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14")

# run_in(code) runs code in a new interpreter, with a GIL of its own where that can be chosen.
RUN_IN = """
import os, sys, textwrap, threading

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

def create(config):
    if sys.version_info >= (3, 13):
        return interpreters.create(config)
    return interpreters.create(isolated=(config == "isolated"))

def run_in(code, config, interpreter=None):
    mine = create(config) if interpreter is None else interpreter
    failed = None
    try:
        result = interpreters.exec(mine, textwrap.dedent(code)) if hasattr(interpreters, "exec") else \\
            interpreters.run_string(mine, textwrap.dedent(code))
        if result is not None:
            print(getattr(result, "errdisplay", result), file=sys.stderr)
            failed = getattr(result, "formatted", str(result))
    finally:
        if interpreter is None:
            interpreters.destroy(mine)
    return failed
"""
PROGRAM = '''
    PROGRAM = """
        import asyncio, hotloop

        async def child(n):
            await asyncio.sleep(0.001)
            return n

        async def main():
            async with asyncio.timeout(60):
                fut = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(0.001, fut.set_result, 1)
                await fut
                return sum(await asyncio.gather(*(child(n) for n in range(10))))

        assert hotloop.run(main()) == 45
        assert isinstance(hotloop.new_event_loop(), asyncio.AbstractEventLoop)
        """
'''
# On 3.12 the import of asyncio alone corrupts memory in an interpreter with its own GIL.
CONFIGS = ["legacy"] if sys.version_info < (3, 13) else ["isolated", "legacy"]


def run_with_interpreters(source, *args):
    return script_output(HOTLOOP, RUN_IN + dedent(PROGRAM) + dedent(source), *args, limit=20)


# -- subinterpreters -------------------------------------------------------------

@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_a_program_runs_in_a_subinterpreter(config):
    output = run_with_interpreters("""
        print(run_in(PROGRAM, sys.argv[1]))
        """, config)
    assert output == "None\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_subinterpreters_one_after_the_other(config):
    output = run_with_interpreters("""
        print([run_in(PROGRAM, sys.argv[1]) for _ in range(10)])
        exec(textwrap.dedent(PROGRAM))
        """, config)
    assert output == f"{[None] * 10}\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_an_interpreter_that_imports_first_may_end_first(config):
    output = script_output(HOTLOOP, RUN_IN.replace("import os", "del hotloop\nimport os") + dedent(PROGRAM)
                           + dedent("""
        first, second = create(sys.argv[1]), create(sys.argv[1])
        print(run_in(PROGRAM, None, first), run_in(PROGRAM, None, second))
        interpreters.destroy(first)
        print(run_in(PROGRAM, None, second))
        interpreters.destroy(second)
        exec(textwrap.dedent(PROGRAM))
        """), config)
    assert output == "None None\nNone\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="stock asyncio deadlocks here on 3.12")
@pytest.mark.parametrize("config", CONFIGS)
def test_subinterpreters_in_threads_at_once(config):
    output = run_with_interpreters("""
        results = []
        ids = [create(sys.argv[1]) for _ in range(4)]
        threads = [threading.Thread(target=lambda i=i: results.append(run_in(PROGRAM * 1, None, i))) for i in ids]
        for thread in threads:
            thread.start()
        exec(textwrap.dedent(PROGRAM))
        for thread in threads:
            thread.join()
        for i in ids:
            interpreters.destroy(i)
        print(results)
        """, config)
    assert output == f"{[None] * 4}\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_a_subinterpreter_ends_with_open_loops_and_pending_tasks(config):
    result = run_script(HOTLOOP, RUN_IN + dedent("""
        print(run_in('''
            import asyncio, hotloop, warnings

            async def forever(loop):
                await loop.create_future()

            warnings.simplefilter("ignore")
            kept = []
            for n in range(3):
                loop = hotloop.new_event_loop()
                loop.call_later(1000, print, loop)
                loop.call_soon(print, "never", loop, 1, 2, 3)
                loop.call_soon_threadsafe(print, loop)
                task = loop.create_task(forever(loop))
                task._log_destroy_pending = False
                if n == 2:
                    loop.call_soon(loop.stop)
                    task2 = loop.create_task(forever(loop))
                    task2._log_destroy_pending = False
                    loop.call_soon(loop.call_soon, print, 1)
                fut = loop.create_future()
                fut.add_done_callback(task.cancel)
                kept.append((loop, task, fut))
                import sys
                sys.kept = kept
            ''', sys.argv[1]))
        """), config, limit=20)
    assert (result.returncode, result.stdout) == (0, "None\n"), result


@subinterpreters
def test_the_main_interpreter_ends_with_subinterpreters_open():
    result = run_script(HOTLOOP, RUN_IN + dedent(PROGRAM) + dedent("""
        kept = [create(config) for config in sys.argv[1:]]
        for interpreter in kept:
            run_in(PROGRAM, None, interpreter)
            run_in("import hotloop; kept = hotloop.new_event_loop(); kept.call_later(9, print)", None, interpreter)
        print("end", flush=True)
        """), *CONFIGS)
    assert (result.returncode, result.stdout) == (0, "end\n"), result


@interpreters_module
def test_the_interpreter_pool_runs_programs():
    output = script_output(HOTLOOP, """
        from concurrent.futures import InterpreterPoolExecutor

        def program(n):
            import asyncio, hotloop

            async def main():
                await asyncio.sleep(0.001)
                return n * n

            return hotloop.run(main())

        async def main():
            loop = asyncio.get_running_loop()
            with InterpreterPoolExecutor(2) as pool:
                return await asyncio.gather(*(loop.run_in_executor(pool, program, n) for n in range(4)))

        if __name__ == "__main__":
            print(run(main()))
        """, limit=20)
    assert output == "[0, 1, 4, 9]\n"


# -- the end of the interpreter ----------------------------------------------------

# What a program may leave behind; stock asyncio ends with 0 each time.
LEFTOVERS = {
    "an open loop": """
        loop = new_event_loop()
        """,
    "an open loop that ran": """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        """,
    "an open loop in a cycle": """
        loop = new_event_loop()
        loop.itself = [loop]
        loop.call_soon(print, loop)
        loop.call_later(1000, print, loop)
        """,
    "an open loop kept by a module": """
        loop = new_event_loop()
        loop.call_later(1000, print)
        sys.loop = asyncio.kept = threading.kept = loop
        """,
    "handles and timers of all kinds": """
        loop = new_event_loop()
        handles = [loop.call_soon(print, *range(n)) for n in range(6)]
        handles += [loop.call_later(n, print, *range(n)) for n in range(6)]
        handles += [loop.call_soon_threadsafe(print, *range(n)) for n in range(6)]
        sys.handles = handles[::2]
        """,
    "pending tasks": """
        async def forever():
            await loop.create_future()

        loop = new_event_loop()
        tasks = [loop.create_task(forever()) for _ in range(5)]
        loop.call_soon(loop.stop)
        loop.run_forever()
        sys.tasks = tasks[:2]
        """,
    "tasks never begun": """
        async def nothing():
            pass

        loop = new_event_loop()
        sys.tasks = [loop.create_task(nothing()) for _ in range(5)]
        """,
    "a task of a closed loop": """
        async def forever():
            await loop.create_future()

        loop = new_event_loop()
        task = loop.create_task(forever())
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        """,
    "futures with callbacks and exceptions": """
        loop = new_event_loop()
        futures = [loop.create_future() for _ in range(5)]
        futures[0].set_exception(LookupError())
        futures[1].add_done_callback(print)
        futures[2].add_done_callback(futures[3].set_result)
        futures[4].set_result(futures)
        sys.futures = futures
        """,
    "asynchronous generators": """
        async def numbers():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)

        async def main():
            sys.kept = numbers()
            await sys.kept.__anext__()

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    "watched descriptors": """
        loop = new_event_loop()
        a, b = sys.sockets = socket.socketpair()
        loop.add_reader(a, print, loop)
        loop.add_writer(b, print, loop)
        loop.add_reader(b, print, loop)
        loop.call_soon(loop.stop)
        loop.run_forever()
        """,
    "a loop in a daemon thread, idle": """
        loop = new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        while not loop.is_running():
            time.sleep(0.001)
        time.sleep(0.02)
        """,
    "a loop in a daemon thread, with timers": """
        loop = new_event_loop()

        def again():
            loop.call_later(0.0001, again)

        again()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        time.sleep(0.02)
        """,
    "a loop in a daemon thread, busy": """
        loop = new_event_loop()

        async def busy():
            while True:
                await asyncio.sleep(0)

        def work():
            loop.run_until_complete(busy())

        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.02)
        """,
    "a daemon thread that calls": """
        loop = new_event_loop()

        def work():
            while True:
                loop.call_soon_threadsafe(id, 1)
                time.sleep(0)

        threading.Thread(target=work, daemon=True).start()
        loop.run_until_complete(asyncio.sleep(0.02))
        """,
    "an executor at work": """
        async def main():
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)
            await asyncio.sleep(0)

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    "a loop used by atexit": """
        import atexit

        loop = new_event_loop()
        atexit.register(lambda: (loop.run_until_complete(asyncio.sleep(0.001)), loop.close()))
        """,
    "a loop first made by atexit": """
        import atexit

        @atexit.register
        def at_exit():
            loop = new_event_loop()
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
        """,
    "a finalizer that uses the loop": """
        class Late:
            def __init__(self):
                self.loop = new_event_loop()
                self.loop.run_until_complete(asyncio.sleep(0))
                self.call, self.later = self.loop.call_soon, self.loop.call_later

            def __del__(self):
                try:
                    self.call(id, self)
                    self.later(1, id, self)
                    self.loop.create_future().set_result(1)
                    self.loop.close()
                except Exception:
                    pass

        sys.late = Late()
        """,
    "a finalizer that runs the loop": """
        class Late:
            def __init__(self):
                self.loop = new_event_loop()

            def __del__(self):
                try:
                    self.loop.call_soon(self.loop.stop)
                    self.loop.run_forever()
                    self.loop.close()
                except BaseException:
                    pass

        sys.late = Late()
        """,
    "SystemExit out of a task": """
        async def main():
            asyncio.get_running_loop().call_later(1000, print)
            task = asyncio.create_task(asyncio.sleep(1000))
            sys.exit(0)

        loop = new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            sys.kept = loop
        """,
    "classes derived from ours": """
        class MyLoop(type(new_event_loop())):
            pass

        class MyFuture(Future):
            pass

        class MyTask(Task):
            pass

        async def nothing():
            pass

        loop = MyLoop()
        sys.kept = [MyFuture(loop=loop), MyTask(nothing(), loop=loop)]
        sys.kept[0].itself = sys.kept
        """,
}


@pytest.mark.parametrize("flags", [[], ["-X", "dev"]], ids=["", "dev"])
@pytest.mark.parametrize("leftover", LEFTOVERS.values(), ids=LEFTOVERS)
def test_the_interpreter_ends_well_with(impl, leftover, flags):
    result = run_script(impl, """
        import signal, socket, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        """ + leftover, flags=flags)
    assert result.returncode == 0, result
    assert "Fatal" not in result.stderr and "Assertion" not in result.stderr, result


@pytest.mark.parametrize("where", ["callback", "task", "timer"])
def test_os_exit_within_a_running_loop(impl, where):
    result = run_script(impl, """
        import os, sys

        async def main():
            loop = asyncio.get_running_loop()
            if sys.argv[1] == "callback":
                loop.call_soon(os._exit, 7)
            elif sys.argv[1] == "timer":
                loop.call_later(0.001, os._exit, 7)
            else:
                os._exit(7)
            await asyncio.sleep(60)

        run(main())
        """, where)
    assert (result.returncode, result.stderr) == (7, "")


def test_importing_and_never_using(impl):
    assert script_output(impl, "print('done')", limit=30 * PATIENCE) == "done\n"


def test_importing_again_after_removal_from_sys_modules():
    """Some test runners drop modules and import them again: two copies must live side by side."""
    output = script_output(HOTLOOP, """
        import sys

        first = hotloop.new_event_loop()
        for name in [name for name in sys.modules if name.split(".")[0] == "hotloop"]:
            del sys.modules[name]
        import hotloop as again
        second = again.new_event_loop()

        async def main():
            await asyncio.sleep(0.001)
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

        for loop in first, second, first:
            loop.run_until_complete(main())
        first.close()
        second.close()
        print(type(first) is type(second))
        """)
    assert output == "False\n"

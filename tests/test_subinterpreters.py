"""Subinterpreters (3.12+), and the end of interpreters with loops, tasks and threads left behind.

Every case runs in a process of its own, which must end with 0: a crash shows as a negative code.
"""

import sys
from textwrap import dedent

import pytest
from support import HOTLOOP, run_script, script_output

pytestmark = pytest.mark.skipif(HOTLOOP.name != "hotloop", reason="tests of hotloop alone")

subinterpreters = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="extension modules know of subinterpreters since 3.12"
)
interpreters_module = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14"
)

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
    output = run_with_interpreters(
        """
        print(run_in(PROGRAM, sys.argv[1]))
        """,
        config,
    )
    assert output == "None\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_subinterpreters_one_after_the_other(config):
    output = run_with_interpreters(
        """
        print([run_in(PROGRAM, sys.argv[1]) for _ in range(10)])
        exec(textwrap.dedent(PROGRAM))
        """,
        config,
    )
    assert output == f"{[None] * 10}\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_an_interpreter_that_imports_first_may_end_first(config):
    output = script_output(
        HOTLOOP,
        RUN_IN.replace("import os", "del hotloop\nimport os")
        + dedent(PROGRAM)
        + dedent("""
        first, second = create(sys.argv[1]), create(sys.argv[1])
        print(run_in(PROGRAM, None, first), run_in(PROGRAM, None, second))
        interpreters.destroy(first)
        print(run_in(PROGRAM, None, second))
        interpreters.destroy(second)
        exec(textwrap.dedent(PROGRAM))
        """),
        config,
    )
    assert output == "None None\nNone\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="stock asyncio deadlocks here on 3.12")
@pytest.mark.parametrize("config", CONFIGS)
def test_subinterpreters_in_threads_at_once(config):
    output = run_with_interpreters(
        """
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
        """,
        config,
    )
    assert output == f"{[None] * 4}\n"


@subinterpreters
@pytest.mark.parametrize("config", CONFIGS)
def test_a_subinterpreter_ends_with_open_loops_and_pending_tasks(config):
    result = run_script(
        HOTLOOP,
        RUN_IN
        + dedent("""
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
        """),
        config,
        limit=20,
    )
    assert (result.returncode, result.stdout) == (0, "None\n"), result


@subinterpreters
def test_the_main_interpreter_ends_with_subinterpreters_open():
    result = run_script(
        HOTLOOP,
        RUN_IN
        + dedent(PROGRAM)
        + dedent("""
        kept = [create(config) for config in sys.argv[1:]]
        for interpreter in kept:
            run_in(PROGRAM, None, interpreter)
            run_in("import hotloop; kept = hotloop.new_event_loop(); kept.call_later(9, print)", None, interpreter)
        print("end", flush=True)
        """),
        *CONFIGS,
    )
    assert (result.returncode, result.stdout) == (0, "end\n"), result


@interpreters_module
def test_the_interpreter_pool_runs_programs():
    output = script_output(
        HOTLOOP,
        """
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
        """,
        limit=20,
    )
    assert output == "[0, 1, 4, 9]\n"

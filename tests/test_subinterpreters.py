"""Subinterpreters: hotloop works in them or is refused with ImportError; it never crashes."""

import sys

import pytest
from support import ASYNCIO, script_output

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="before 3.12 asyncio itself cannot be used in several interpreters",
)

RUN_IN = """
import sys
if sys.version_info >= (3, 14):
    from concurrent import interpreters

    def run_in_new(source):
        interpreter = interpreters.create()
        try:
            interpreter.exec(source)
        finally:
            interpreter.close()
elif sys.version_info >= (3, 13):
    import _interpreters

    def run_in_new(source):
        interpreter = _interpreters.create()
        try:
            error = _interpreters.exec(interpreter, source)
            if error is not None:
                raise RuntimeError(error.formatted)
        finally:
            _interpreters.destroy(interpreter)
else:
    import _xxsubinterpreters

    def run_in_new(source):
        interpreter = _xxsubinterpreters.create()
        try:
            _xxsubinterpreters.run_string(interpreter, source)
        finally:
            _xxsubinterpreters.destroy(interpreter)
"""

# What runs inside: says what came of it.
INSIDE = '''
source = """
try:
    import hotloop
except ImportError as exc:
    print("refused")
else:
    import asyncio

    async def value(number):
        await asyncio.sleep(0.001)
        return number

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(100, print, "never").cancel()
        future = loop.create_future()
        loop.call_soon_threadsafe(future.set_result, 5)
        return sum(await asyncio.gather(*(value(n) for n in range(10)))) + await future

    assert hotloop.run(main()) == 50
    print("works")
"""
'''


def outcomes(script):
    lines = script_output(ASYNCIO, RUN_IN + INSIDE + script).split()
    assert lines and set(lines) <= {"works", "refused", "main"}
    assert len(set(lines) - {"main"}) == 1
    return lines


def test_in_one_interpreter():
    assert len(outcomes("run_in_new(source)")) == 1


def test_in_one_after_another():
    assert len(outcomes("for _ in range(5): run_in_new(source)")) == 5


def test_beside_the_main_interpreter():
    lines = outcomes("""
import asyncio, hotloop
assert hotloop.run(asyncio.sleep(0.001, 1)) == 1
run_in_new(source)
assert hotloop.run(asyncio.sleep(0.001, 2)) == 2
run_in_new(source)

print("main")
""")
    assert lines[-1] == "main" and len(lines) == 3


def test_while_the_main_interpreter_runs_a_loop():
    lines = outcomes("""
import asyncio, hotloop

async def main():
    for _ in range(3):
        run_in_new(source)
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().is_running()
    print("main")

hotloop.run(main())
""")
    assert lines[-1] == "main" and len(lines) == 4


def test_in_several_threads_at_once():
    lines = outcomes("""
import threading
threads = [threading.Thread(target=run_in_new, args=(source,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""")
    assert len(lines) == 4

"""nest_asyncio and its successor: asyncio.run() and run_until_complete() inside a running loop."""

import sys

import pytest
from programs import need, program

PROGRAM = """
import asyncio, contextvars, sys, threading
import {module}

var = contextvars.ContextVar("var", default=0)

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def fetch(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"line\\n")
    line = await reader.readline()
    writer.close()
    return line

async def deeper(level):
    await asyncio.sleep(0.001)
    return level if level == 0 else 1 + asyncio.run(deeper(level - 1))

async def fails():
    raise LookupError("inner")

async def nothing():
    return 7

async def ticks(seen):
    while True:
        seen.append(1)
        await asyncio.sleep(0.001)

async def main():
    {module}.apply()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    var.set(1)
    assert asyncio.run(fetch(port)) == b"line\\n"
    assert loop.run_until_complete(asyncio.wait_for(fetch(port), 5)) == b"line\\n"
    assert asyncio.run(deeper(5)) == 5
    try:
        asyncio.run(fails())
    except LookupError as error:
        assert str(error) == "inner"
    else:
        raise AssertionError("no error")
    # Others go on meanwhile.
    seen = []
    ticking = asyncio.create_task(ticks(seen))
    asyncio.run(asyncio.sleep(0.05))
    assert len(seen) > 5, seen
    ticking.cancel()
    assert await loop.run_in_executor(None, threading.current_thread) is not None
    # From a plain callback too.
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(loop.run_until_complete(deeper(2))))
    assert await done == 2
    if {strict}:
        assert asyncio.current_task() is task
    assert var.get() == 1
    async with asyncio.timeout(5):
        await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(10)])
    server.close()
    await server.wait_closed()
    # The run that is about to be stopped has its first turn.
    loop.stop()
    assert loop.run_until_complete(nothing()) == 7
    loop._stopping = False  # nor is the rest of the outer run
    print("done on", type(loop).__module__)

asyncio.run(main())
"""


@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_nested_runs(loop, module):
    need(module)
    if loop.name == "asyncio" and module == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("nest_asyncio 1.6.0 loses the current task of asyncio's own loop on 3.14")
    # Both lose it for the time of a nested run there, on some versions.
    code = PROGRAM.format(module=module, strict=loop.name == "hotloop")
    with program(loop.python("-c", code)) as running:
        assert running.process.wait(30) == 0, running.output()
        assert f"done on {loop.top_module}" in running.output()
        assert "Traceback" not in running.output(), running.output()

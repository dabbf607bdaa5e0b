"""What type checkers make of hotloop's names. `make types` checks it; it is never run."""

import asyncio
import sys
from contextvars import Context
from typing import assert_type

import hotloop


async def answer() -> int:
    return 42


def text_of(number: int) -> str:
    return str(number)


def running() -> None:
    assert_type(hotloop.run(answer()), int)
    assert_type(hotloop.run(answer(), debug=True), int)
    with asyncio.Runner(loop_factory=hotloop.new_event_loop) as runner:
        assert_type(runner.run(answer()), int)
    if sys.version_info >= (3, 12):
        assert_type(asyncio.run(answer(), loop_factory=hotloop.new_event_loop), int)
    hotloop.install()
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(hotloop.EventLoopPolicy())


async def loops() -> None:
    loop = hotloop.new_event_loop()
    assert_type(loop, hotloop.EventLoop)
    stock: asyncio.AbstractEventLoop = loop
    assert_type(loop.time(), float)
    assert_type(loop.call_soon(text_of, 1), hotloop.Handle)
    assert_type(loop.call_later(0.5, text_of, 1, context=Context()), hotloop.TimerHandle)
    loop.call_soon(text_of, "one")  # type: ignore[arg-type]  # pyright: ignore
    assert_type(await loop.run_in_executor(None, text_of, 1), str)
    task = loop.create_task(answer(), name="answering")
    assert_type(await task, int)
    transport, _ = await loop.create_connection(asyncio.Protocol, "localhost", 80)
    transport.write(b"inherited from asyncio")
    stock.stop()


async def futures() -> None:
    future: hotloop.Future[int] = hotloop.Future()
    stock: asyncio.Future[int] = future
    assert_type(await future, int)
    assert_type(await asyncio.gather(stock, hotloop.Task(answer())), tuple[int, int])
    assert_type(hotloop.libuv_version(), str)
    assert_type(hotloop.__version__, str)

"""Let outside debuggers see our tasks (3.14): python -m asyncio ps PID, pstree PID.

They read the memory of registered tasks. The core keeps the fields they look at up to date, once
it has been shown a stock task to find them in.
"""

import asyncio

from . import _core


class _IdleLoop:
    """Just enough of a loop for a task that never runs."""

    def get_debug(self):
        return False

    def call_soon(self, *args, context=None):
        pass

    def call_exception_handler(self, context):
        pass


async def _probe():
    pass


def learn_task_layout():
    loop, coro, name = _IdleLoop(), _probe(), "hotloop-probe"
    stock = asyncio.tasks._CTask, asyncio.futures._CFuture
    task, future = stock[0](coro, loop=loop, name=name), stock[1](loop=loop)
    task._log_destroy_pending = False
    try:
        _core._learn_task_layout(task, coro, name, future)
    finally:
        coro.close()

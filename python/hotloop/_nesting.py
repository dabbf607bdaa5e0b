"""run_until_complete() inside a running loop, for programs that have applied nest_asyncio.

asyncio does not allow that, so nothing of this is in place until nest_asyncio asks for it.
"""

import asyncio


def nesting_run_until_complete(loop, future):
    """Run until the future is done, also from inside a callback or task of this very loop."""
    if asyncio._get_running_loop() is not loop:
        return asyncio.BaseEventLoop.run_until_complete(loop, future)
    new = not asyncio.isfuture(future)
    future = asyncio.ensure_future(future, loop=loop)
    if new:
        future._log_destroy_pending = False
    run_turns(loop, future)
    if not future.done():
        raise RuntimeError("Event loop stopped before Future completed.")
    return future.result()


def run_turns(loop, future):
    """Run turns until the future is done or somebody stops the loop."""
    outer = asyncio.current_task(loop)
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    try:
        while not future.done():
            loop._run_once()
            if loop._stopping:
                break
    finally:
        # The core gives back a task of its own, but does not know of others.
        if outer is not None and asyncio.current_task(loop) is None:
            asyncio.tasks._enter_task(loop, outer)

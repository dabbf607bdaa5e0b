"""What the tests of the default executor share: its worker threads, and patience with them."""

import asyncio
import concurrent.futures
import threading

from support import PATIENCE

LIMIT = 20 * PATIENCE


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


def gone(thread):
    thread.join(LIMIT)
    return not thread.is_alive()


def raised(exc):
    raise exc


async def all_busy(loop, go_on):
    """Give every worker there may be something to wait for."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        most = pool._max_workers
    begun = threading.Semaphore(0)

    def wait():
        begun.release()
        go_on.wait(LIMIT)

    calls = [loop.run_in_executor(None, wait) for _ in range(most)]
    for _ in calls:
        while not begun.acquire(blocking=False):
            await asyncio.sleep(0.001)
    return calls

"""To find tests that guess how long something takes: each short sleep finds the process stalled.

    PYTHONPATH=tools/stalled python -m pytest ...

What stalls a process on a busy machine may come right after a timer was set: that is then due in the loop's very
next turn, and a test that slept "for long enough" has given the loop one turn. This does so to most sleeps
of up to 0.2 seconds, in the programs that tests start as well. With STALLED=slow, every callback is slow
in debug mode, instead; what tests then complain of is a log that hangs on the machine's speed.

Not every failure is a flaky test: some are about time, or about what this replaces.
"""

import asyncio.base_events
import asyncio.futures
import asyncio.tasks
import os
import random
import time

LONGEST = 0.2
SHARE = 0.9  # of all sleeps; a test that sleeps until something has come is not to wait for ever

sleep_undisturbed = asyncio.tasks.sleep
init_undisturbed = asyncio.base_events.BaseEventLoop.__init__


async def sleep(delay, result=None):
    if not isinstance(delay, (int, float)) or not 0 < delay <= LONGEST or random.random() > SHARE:
        return await sleep_undisturbed(delay, result)
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timer = loop.call_later(delay, asyncio.futures._set_result_unless_cancelled, future, result)
    time.sleep(delay + 0.0002)
    try:
        return await future
    finally:
        timer.cancel()


def init(self, *args, **options):
    init_undisturbed(self, *args, **options)
    self.slow_callback_duration = -1.0


if os.environ.get("STALLED") == "slow":
    asyncio.base_events.BaseEventLoop.__init__ = init
else:
    asyncio.tasks.sleep = asyncio.sleep = sleep

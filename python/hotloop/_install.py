"""hotloop.install(): lead asyncio's own ways of making a loop to hotloop."""

import asyncio
import sys
import warnings

from ._loop import new_event_loop


def install():
    if sys.version_info >= (3, 16):
        asyncio.new_event_loop = asyncio.events.new_event_loop = new_event_loop
        return
    from ._policy import EventLoopPolicy

    with warnings.catch_warnings():
        # 3.14 deprecates policies, and 3.16 has another way.
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())

"""hotloop: an asyncio event loop with a C core over libuv.

Use it for one program with ``hotloop.run(main())`` or ``asyncio.Runner(loop_factory=
hotloop.new_event_loop)``; for a whole process with ``hotloop.install()``; or without touching the
program at all with ``python -m hotloop script.py``; for a test suite with ``pytest --hotloop``.

(PYTEST_DONT_REWRITE: pytest would warn that it cannot, under ``python -m hotloop -m pytest``.)
"""

import asyncio as _asyncio
import sys as _sys

from ._core import Future, Handle, Task, TimerHandle, libuv_version
from ._loop import EventLoop, Loop, new_event_loop

__version__ = "0.1.0"

__all__ = [
    "EventLoop",
    "Future",
    "Handle",
    "Loop",
    "Task",
    "TimerHandle",
    "install",
    "libuv_version",
    "new_event_loop",
    "run",
]
if _sys.version_info < (3, 16):
    __all__ += ["EventLoopPolicy"]


def run(main, *, debug=None):
    """Run a coroutine on a new hotloop loop and return its result, as asyncio.run() does.

    debug: True or False for the loop's debug mode, None to follow PYTHONASYNCIODEBUG and -X dev.
    Raises RuntimeError if this thread is running a loop already.
    """
    if _sys.version_info >= (3, 12):
        return _asyncio.run(main, debug=debug, loop_factory=new_event_loop)
    if _asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with _asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def install():
    """Make asyncio.run(), asyncio.Runner() and asyncio.new_event_loop() use hotloop from now on.

    Sets asyncio's event loop policy; where asyncio has none any more (3.16), replaces
    asyncio.new_event_loop.
    """
    from . import _install

    _install.install()


def __getattr__(name):
    # Policies are deprecated: nobody pays for, or is warned of, one they do not use.
    if name == "EventLoopPolicy" and _sys.version_info < (3, 16):
        from ._policy import EventLoopPolicy

        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})

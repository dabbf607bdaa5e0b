import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from ._core import Future as Future
from ._core import Handle as Handle
from ._core import Task as Task
from ._core import TimerHandle as TimerHandle
from ._core import libuv_version as libuv_version
from ._loop import EventLoop as EventLoop
from ._loop import Loop as Loop
from ._loop import new_event_loop as new_event_loop

_T = TypeVar("_T")

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

__version__: str

def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T: ...
def install() -> None: ...

if sys.version_info < (3, 16):
    from asyncio import unix_events

    __all__ += ["EventLoopPolicy"]

    if sys.version_info >= (3, 14):
        class EventLoopPolicy(unix_events._DefaultEventLoopPolicy): ...
    else:
        class EventLoopPolicy(unix_events.DefaultEventLoopPolicy): ...

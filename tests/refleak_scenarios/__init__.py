"""Scenarios for refleaks.py: functions of an Env, called in a row; coroutine functions run on its loop.

There is a module for each concept; it adds its scenarios to SCENARIOS when it is imported.
"""

from . import (
    asyncio_helpers,
    datagrams,
    descriptors,
    executor,
    futures,
    handles,
    loops,
    pipes,
    processes,
    sockets,
    streams,
    tasks,
    threads,
    tls,
)
from .env import SCENARIOS

__all__ = [
    "SCENARIOS",
    "asyncio_helpers",
    "datagrams",
    "descriptors",
    "executor",
    "futures",
    "handles",
    "loops",
    "pipes",
    "processes",
    "sockets",
    "streams",
    "tasks",
    "threads",
    "tls",
]

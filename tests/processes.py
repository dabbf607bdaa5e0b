"""What the tests of child processes share: their output, and that nothing is left of them."""

import asyncio
import os
import subprocess
import threading
import time

import pytest
from hotloop import _process
from support import PATIENCE, PORTABLE

LIMIT = 20 * PATIENCE
PIPE = subprocess.PIPE

pidfds = pytest.mark.skipif(
    PORTABLE or not _process._pidfds_work(), reason="there are no pidfds here"
)


def finish(awaitable):
    return asyncio.wait_for(awaitable, LIMIT)


async def output(*command, **options):
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    out, _ = await finish(process.communicate())
    assert process.returncode == 0
    return out.decode()


def children():
    """The processes that are children of this one, zombies included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def threads_end(but=None):
    """asyncio's waiting threads may have something left to do when all is told."""
    deadline = time.monotonic() + LIMIT
    while set(threading.enumerate()) - set(but or [threading.main_thread()]):
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def ended_but_not_told(code):
    """A process that has just ended, with a loop that has had no time to hear of it."""
    process = await asyncio.create_subprocess_shell(f"read word; exit {code}", stdin=PIPE)
    process.stdin.write(b"word\n")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process

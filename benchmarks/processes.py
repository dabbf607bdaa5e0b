"""Child processes: what it costs to start one, to read what it says and to hear of its end.

Most of it is the kernel's and the child's own time, which no event loop changes.
"""

import asyncio
import subprocess

from .scheduling import Scheduling


class Processes(Scheduling):
    name = "processes"
    title = "Processes: ns per child, and times as fast as asyncio"
    goal_factor = 1


FAMILY = Processes()


@FAMILY.workload("start and wait for /bin/true", 20, goal=1.1, headline=True)
async def start_and_wait(n):
    for _ in range(n):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()


@FAMILY.workload("50 at once, with a piped stdout", 50, goal=1.2)
async def fifty_at_once(n):
    async def child():
        process = await asyncio.create_subprocess_exec("/bin/echo", "word", stdout=subprocess.PIPE)
        return await process.communicate()

    for _ in range(n // 50):
        await asyncio.gather(*(child() for _ in range(50)))

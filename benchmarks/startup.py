"""Start-up: what a short program pays for its loop, as whole processes."""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

from . import loops
from .family import Family, LoopFactory, Metrics, Workload

LEAST = 3  # processes in a run
# pip compiles what it installs: a checkout's modules are compiled by the first process.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Startup(Family):
    name = "start-up"
    title = "Start-up: ms of the whole process, and times as fast as asyncio"
    unit = "ms"
    cost = "ms"


def milliseconds(program: str) -> float:
    """Of one Python process, start to end."""
    began = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
    return (perf_counter() - began) * 1e3


def peak_memory_of(program: str) -> int:
    """KiB resident at its end."""
    report = "\nfrom benchmarks.procfs import peak_memory; print(peak_memory())"
    command = [sys.executable, "-c", program + report]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return int(run.stdout)


def workload(name: str, program: Callable[[loops.Loop], str], headline: bool = False) -> Workload:
    def measure(loop: LoopFactory, seconds: float) -> Metrics:
        text = program(loop)
        memory = peak_memory_of(text)  # also compiles, and brings the files into the page cache
        times = []
        while len(times) < LEAST or sum(times) < seconds * 1e3:
            times.append(milliseconds(text))
        return {"ms": statistics.median(times), "rss_kib": memory}

    return Workload(FAMILY, name, measure, headline=headline)


def import_only(loop: loops.Loop) -> str:
    return f"import asyncio, {loop.module}"


def run_nothing(loop: loops.Loop) -> str:
    return (
        f"import asyncio, {loop.module}\n"
        "async def main(): pass\n"
        f"with asyncio.Runner(loop_factory={loop.module}.{loop.attribute}) as r: r.run(main())"
    )


def serve_once(loop: loops.Loop) -> str:
    """The parts that most servers load: sockets, a connection, a thread."""
    return (
        f"import asyncio, {loop.module}\n"
        "async def main():\n"
        "    server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)\n"
        "    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "    await r.read()\n"
        "    w.close()\n"
        "    server.close()\n"
        "    await asyncio.to_thread(int)\n"
        f"with asyncio.Runner(loop_factory={loop.module}.{loop.attribute}) as r: r.run(main())"
    )


FAMILY = Startup()
FAMILY.workloads += [
    workload("import", import_only),
    workload("import and run a coroutine", run_nothing, headline=True),
    workload("import, serve one client, one to_thread", serve_once),
]

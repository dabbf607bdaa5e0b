"""Runs the load generator (native/load.c) on the other cores, against a server of this process's
loop or against the server in C (native/server.c), which shows the limit.
"""

import asyncio
import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import cores, native
from .family import LoopFactory, Metrics
from .procfs import peak_memory

REQUESTS_PER_BATCH = 2000  # when instructions are counted
WARM_UP = 0.2  # share of the time, before what is measured

# Starts a server on the running loop: its address as the load generator takes it, and what closes
# it. The folder is for sockets that have paths, and gone afterwards.
Serve = Callable[[Path], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]]


@dataclass(frozen=True)
class Load:
    """What the load generator is to do."""

    mode: str = "echo"
    connections: int = 50
    size: int = 1024
    tls: bool = False

    def command(self, where: str, unit: str, number: float, server: int | None) -> list[str]:
        command = [native.load_generator(), self.mode, where]
        command += ["--connections", str(self.connections), "--size", str(self.size)]
        if unit == "requests":
            command += ["--requests", str(number)]
        else:
            command += ["--seconds", str(number * (1 - WARM_UP))]
            command += ["--warm-up", str(number * WARM_UP)]
        return command + ["--tls"] * self.tls + ["--pid", str(server)] * bool(server)


def metrics(output: str) -> Metrics:
    """What the load generator said, for one request."""
    found = json.loads(output)
    requests, seconds = found["requests"], found["seconds"]
    return {
        "us": seconds * 1e6 / requests,
        "cpu_us": found["server_cpu"] * 1e6 / requests,
        "p50": found["p50"],
        "p99": found["p99"],
        "p999": found["p999"],
        "client_busy": found["client_cpu"] / seconds,
    }


async def in_thread(function: Callable, *arguments: object) -> object:
    """As asyncio.to_thread(), but without the executor that is itself measured."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def run() -> None:
        try:
            result = function(*arguments)
        except Exception as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return await future
    finally:
        thread.join()


def run_load(command: list[str]) -> str:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        cores.move_elsewhere(process.pid)
        output, error = process.communicate()
    if process.returncode:
        raise RuntimeError(error.strip())
    return output


def measure_server(
    new_event_loop: LoopFactory, serve: Serve, load: Load, unit: str, number: float
) -> Metrics:
    """Serve on a loop and put it under load."""

    async def main(folder: Path) -> str:
        where, close = await serve(folder)
        try:
            return await in_thread(run_load, load.command(where, unit, number, os.getpid()))
        finally:
            await close()
            await asyncio.sleep(0.01)  # for connections to see that the client is gone

    with temporary_folder() as folder, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return metrics(runner.run(main(folder)))


def measurements(serve: Serve, load: Load) -> tuple[Callable, Callable]:
    """The measure() and repeat() of a workload."""

    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        return measure_server(new_event_loop, serve, load, "seconds", seconds)

    def repeat(new_event_loop: LoopFactory, batches: int) -> int:
        requests = batches * REQUESTS_PER_BATCH
        measure_server(new_event_loop, serve, load, "requests", requests)
        return requests

    return measure, repeat


# ---- the server in C ----


@contextmanager
def native_server(mode: str, transport: str) -> Iterator[tuple[str, int]]:
    """Its address as the load generator takes it, and its process id. It runs on this process's
    core; move it elsewhere if this process works beside it."""
    with temporary_folder() as folder:
        where = f"unix:{folder}/socket" if transport == "unix" else transport
        process = subprocess.Popen(
            [native.server(), mode, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:  # closes its standard input, at which it ends
            yield f"{transport}:{process.stdout.readline().strip()}", process.pid
        if process.returncode != 0:
            raise RuntimeError(f"the server in C ended with {process.returncode}")


def measure_limit(load: Load, transport: str, seconds: float) -> Metrics:
    mode = "echo" if load.mode == "connect" else load.mode
    with native_server(mode, transport) as (where, pid):
        found = metrics(run_load(load.command(where, "seconds", seconds, pid)))
        return {**found, "rss_kib": peak_memory(pid)}


def limit(load: Load, transport: str) -> Callable[[float], Metrics]:
    """What a workload has as its limit; native.why_no_server() says where there is none."""
    return functools.partial(measure_limit, load, transport)


# ---- odds and ends ----


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hotloop-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

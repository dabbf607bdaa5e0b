"""Memory of an idle connection: how much the server's process grows with each, by PSS."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cores, load, native
from .echo import EchoProtocol, protocols, streams
from .family import Family, LoopFactory, Metrics, Need, Workload
from .load import Load
from .procfs import pss_kib, why_no_pss
from .tls import server_context

SPARE_DESCRIPTORS = 100


class Memory(Family):
    name = "memory"
    title = "Memory: KiB (PSS) per idle connection, and times as little as asyncio"
    unit = "KiB"
    cost = "kib"


def allow_descriptors(wanted: int) -> int:
    """How many connections there may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(wanted, most - SPARE_DESCRIPTORS)


@contextmanager
def idle_connections(where: str, spec: Load) -> Iterator[None]:
    """The load generator holds them, all established, while the context lasts."""
    command = load.Load.command(spec, where, "seconds", 0, None)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        cores.move_elsewhere(process.pid)
        made = json.loads(process.stdout.readline() or "{}").get("connections")
        if made != spec.connections:
            raise RuntimeError(f"{made} of {spec.connections} connections")
        yield


async def growth(folder: Path, serve: load.Serve, spec: Load) -> float:
    """KiB per connection. A few come and go before, as the first ones bring code and caches."""
    where, close = await serve(folder)
    before = after = 0
    for connections in (20, spec.connections):
        idle = idle_connections(where, Load("idle", connections, tls=spec.tls))
        before = pss_kib()
        await load.in_thread(idle.__enter__)
        await asyncio.sleep(0.05)  # until the last one is accepted and has its protocol
        after = pss_kib()
        await load.in_thread(idle.__exit__, None, None, None)
        await asyncio.sleep(0.05)
    await close()
    return (after - before) / spec.connections


def workload(
    name: str, serve: load.Serve, connections: int, *needs: Need, tls: bool = False
) -> Workload:
    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        spec = Load("idle", allow_descriptors(connections), tls=tls)
        with (
            load.temporary_folder() as folder,
            asyncio.Runner(loop_factory=new_event_loop) as runner,
        ):
            return {"kib": runner.run(growth(folder, serve, spec))}

    needs = (native.why_no_compiler, why_no_pss, *needs)
    return Workload(FAMILY, name, measure, needs=needs, headline="streams" not in name)


FAMILY = Memory()
if sys.platform == "linux":
    FAMILY.workloads += [
        workload("protocol, 5,000 connections", protocols(EchoProtocol), 5000),
        workload("streams, 2,000 connections", streams(), 2000),
        workload(
            "TLS protocol, 300 connections",
            protocols(EchoProtocol, server_context),
            300,
            native.why_no_tls,
            tls=True,
        ),
    ]

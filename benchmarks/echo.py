"""Echo servers under a load generator in C, pinned to another core: what a request costs.

The servers are ordinary asyncio programs and know nothing of the loop they run on.
"""

import asyncio
import functools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

from .family import Family, LoopFactory, Metrics, Workload

SOURCE = Path(__file__).with_name("load.c")
REQUESTS_PER_BATCH = 2000  # when instructions are counted


class Echo(Family):
    name = "echo"
    title = "Echo servers: us per request (p99 latency), and times as fast as asyncio"

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        summary = super().summarise(runs, stock)
        if stock:
            pairs = zip(stock, runs, strict=False)
            summary["ratio"] = statistics.median(base["us"] / run["us"] for base, run in pairs)
        return summary

    def cell(self, summary: Metrics) -> str:
        ratio = f"{summary['ratio']:6.2f}x" if "ratio" in summary else ""
        return f"{summary['us']:.1f} ({summary['p99']:,.0f}){ratio}"

    def goal(self, workload: Workload) -> str:
        return f"{workload.goal:.3g}x" if workload.goal else ""

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return not workload.goal or summary.get("ratio", workload.goal) >= workload.goal


# ---- the load generator ----


@functools.cache
def load_generator() -> str:
    """The compiled program; built again when its source has changed."""
    name = f"hotloop-load-{os.getuid()}-{SOURCE.stat().st_mtime_ns}"
    program = Path(tempfile.gettempdir()) / name
    if not program.exists():
        compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
        compiler = shutil.which(compiler) or shutil.which("cc") or "gcc"
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", fresh, SOURCE], check=True)
        fresh.rename(program)
    return str(program)


def elsewhere() -> None:
    """Runs in the load generator's process: not on the server's core."""
    if hasattr(os, "sched_setaffinity"):
        everywhere = range(os.cpu_count() or 1)
        others = set(everywhere) - os.sched_getaffinity(0)
        os.sched_setaffinity(0, others or set(everywhere))


async def drive(*arguments: object) -> Metrics:
    """Run the load generator against a server of this loop."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    process = subprocess.Popen(
        [load_generator(), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=elsewhere,
    )

    def wait() -> None:
        output = process.communicate()
        loop.call_soon_threadsafe(finished.set_result, output)

    thread = threading.Thread(target=wait)
    thread.start()
    output, errors = await finished
    thread.join()
    if process.returncode:
        raise RuntimeError(errors.strip())
    return json.loads(output)


# ---- the servers ----


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: object) -> None:
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def protocols(factory: type) -> tuple[str, object]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=1000)
    return "tcp", server


async def unix_protocols(factory: type) -> tuple[str, object]:
    path = Path(tempfile.mkdtemp()) / "socket"
    return "unix", await asyncio.get_running_loop().create_unix_server(factory, path)


async def streams(_: object) -> tuple[str, object]:
    return "tcp", await asyncio.start_server(echo_stream, "127.0.0.1", 0, backlog=1000)


async def datagrams(factory: type) -> tuple[str, object]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
    return "udp", transport


class SocketServer:
    """What loop.sock_*() calls can do without any transport."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.listener.setblocking(False)
        self.tasks = {asyncio.create_task(self.accept())}

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self.listener)
            connection.setblocking(False)
            self.tasks.add(asyncio.create_task(self.echo(connection)))

    async def echo(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            try:
                while data := await loop.sock_recv(connection, 256 * 1024):
                    await loop.sock_sendall(connection, data)
            except ConnectionError:
                pass

    def close(self) -> None:
        self.listener.close()
        for task in self.tasks:
            task.cancel()


async def sockets(_: object) -> tuple[str, object]:
    return "tcp", SocketServer()


def address_of(server: object) -> str:
    if isinstance(server, SocketServer):
        name = server.listener.getsockname()
    elif hasattr(server, "get_extra_info"):
        name = server.get_extra_info("sockname")
    else:
        name = server.sockets[0].getsockname()
    return name if isinstance(name, str) else str(name[1])


# ---- the workloads ----


def workload(name, serve, factory=None, *, kind="echo", connections=50, size=1024, goal=None):
    async def run(unit: str, number: float) -> Metrics:
        family, server = await serve(factory)
        address = address_of(server)
        try:
            return await drive(kind, family, address, connections, size, unit, number)
        finally:
            server.close()
            if family == "unix":
                shutil.rmtree(Path(address).parent)
            await asyncio.sleep(0.01)

    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run("seconds", seconds))
            found = runner.run(run("seconds", seconds * 4))
        return {"us": found["seconds"] * 1e6 / found["requests"], "p99": found["p99"]}

    def repeat(new_event_loop: LoopFactory, batches: int) -> int:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run("requests", batches * REQUESTS_PER_BATCH))
        return batches * REQUESTS_PER_BATCH

    FAMILY.workloads.append(Workload(FAMILY, name, measure, repeat, goal))


FAMILY = Echo()
if sys.platform != "win32":
    workload("protocol, 1 KiB x 50", protocols, EchoProtocol)
    workload("protocol, 1 KiB x 1", protocols, EchoProtocol, connections=1)
    workload("protocol, 1 KiB x 1000", protocols, EchoProtocol, connections=1000)
    workload("protocol, 64 KiB x 50", protocols, EchoProtocol, size=64 * 1024)
    workload("protocol, 1 MiB x 5", protocols, EchoProtocol, connections=5, size=1024 * 1024)
    workload("buffered protocol, 1 KiB x 50", protocols, EchoBuffered)
    workload("protocol on a Unix socket, 1 KiB x 50", unix_protocols, EchoProtocol)
    workload("streams, 1 KiB x 50", streams)
    workload("sock_recv and sock_sendall, 1 KiB x 50", sockets)
    workload("connect, echo, close, 1 KiB x 10", protocols, EchoProtocol, kind="connect",
             connections=10, goal=2.5)
    workload("UDP, 100 B x 1", datagrams, EchoDatagrams, kind="datagram", connections=1, size=100,
             goal=1.5)

"""Echo servers under a load generator in C, pinned to another core: what a request costs.

The servers are ordinary asyncio programs and know nothing of the loop they run on.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from . import load, native
from .family import Family, Need, Workload
from .load import Load

BACKLOG = 1000
CHUNK = 256 * 1024
KIB = 1024

# What a server's start returns: its address, and what closes it.
Served = tuple[str, Callable[[], Awaitable[None]]]


class Echo(Family):
    name = "echo"
    title = "Echo servers: us per request, and times as fast as asyncio"
    unit = "us"
    cost = "us"

    def server(
        self,
        name: str,
        serve: load.Serve,
        spec: Load,
        *,
        limit: str = "",
        goal: float | None = None,
        needs: tuple[Need, ...] = (),
        headline: bool = False,
    ) -> None:
        """One more workload; `limit` is the transport on which the server in C does the same."""
        measure, repeat = load.measurements(serve, spec)
        self.workloads.append(
            Workload(
                self,
                name,
                measure,
                repeat,
                goal,
                load.limit(spec, limit) if limit else None,
                (native.why_no_compiler, *needs),
                headline,
                # What is big takes long to come round once.
                weight=2 if spec.connections * spec.size > 2_000_000 else 1,
            )
        )


# ---- the protocols ----


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(CHUNK))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


class CarefulBuffered(EchoBuffered):
    """For what may not fit into the socket at once: the buffer must then be left as it is until
    the rest is written, because transports do not copy it."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class CloseAtOnce(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.close()


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: object) -> None:
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


# ---- the servers ----


def protocols(factory: type, tls: Callable[[Path], ssl.SSLContext] | None = None) -> load.Serve:
    async def serve(folder: Path) -> Served:
        loop = asyncio.get_running_loop()
        context = tls(folder) if tls else None
        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
        return tcp_server(server)

    return serve


def streams(tls: Callable[[Path], ssl.SSLContext] | None = None) -> load.Serve:
    async def serve(folder: Path) -> Served:
        context = tls(folder) if tls else None
        return tcp_server(
            await asyncio.start_server(echo_stream, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
        )

    return serve


def tcp_server(server: asyncio.Server) -> Served:
    return f"tcp:{server.sockets[0].getsockname()[1]}", closer(server)


def closer(server: asyncio.Server | asyncio.DatagramTransport) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        server.close()

    return close


async def unix_protocols(folder: Path) -> Served:
    path = folder / "socket"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(EchoProtocol, path, backlog=BACKLOG)
    return f"unix:{path}", closer(server)


async def unix_streams(folder: Path) -> Served:
    path = folder / "socket"
    server = await asyncio.start_unix_server(echo_stream, path, backlog=BACKLOG)
    return f"unix:{path}", closer(server)


async def datagrams(folder: Path) -> Served:
    loop = asyncio.get_running_loop()
    local = ("127.0.0.1", 0)
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=local)
    return f"udp:{transport.get_extra_info('sockname')[1]}", closer(transport)


async def sockets(folder: Path) -> Served:
    """What loop.sock_*() calls can do without any transport."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            tasks.add(asyncio.create_task(echo_on_socket(connection)))

    async def close() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()

    tasks = {asyncio.create_task(accept())}
    return f"tcp:{listener.getsockname()[1]}", close


async def echo_on_socket(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        try:
            while data := await loop.sock_recv(connection, CHUNK):
                await loop.sock_sendall(connection, data)
        except ConnectionError:
            pass


# ---- the workloads ----

WAYS = {
    "protocol": protocols(EchoProtocol),
    "buffered protocol": protocols(EchoBuffered),
    "streams": streams(),
    "sock_recv and sock_sendall": sockets,
}

FAMILY = Echo()


def add_workloads() -> None:
    server = FAMILY.server
    for way, serve in WAYS.items():
        for size in (1, 10, 100):
            for connections in (1, 50, 1000):
                careful = way == "buffered protocol" and size == 100
                server(
                    f"{way}, {size} KiB x {connections}",
                    protocols(CarefulBuffered) if careful else serve,
                    Load("echo", connections, size * KIB),
                    limit="tcp" if way == "protocol" else "",
                    headline=(size, connections) == (1, 50),
                )
    protocol = WAYS["protocol"]
    server(
        "protocol, 64 KiB x 50", protocol, Load("echo", 50, 64 * KIB), limit="tcp", headline=True
    )
    server("protocol, 1 MiB x 5", protocol, Load("echo", 5, KIB * KIB), limit="tcp", headline=True)
    for connections in (1, 50):
        server(
            f"Unix, protocol, 1 KiB x {connections}",
            unix_protocols,
            Load("echo", connections),
            limit="unix",
            headline=connections == 50,
        )
    server("Unix, streams, 1 KiB x 50", unix_streams, Load())
    server("UDP, 100 B x 1", datagrams, Load("echo", 1, 100), limit="udp", goal=1.5, headline=True)
    server("UDP, 1 KiB x 50", datagrams, Load(), limit="udp")
    server("connect, echo, close, 1 KiB x 10", protocol, Load("connect", 10), limit="tcp")
    server(
        "connect, accept, close x 10",
        protocols(CloseAtOnce),
        Load("close", 10),
        limit="tcp",
        goal=2.5,
        headline=True,
    )


if sys.platform != "win32":
    add_workloads()

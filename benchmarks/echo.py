"""Echo servers under a load generator in C, pinned to another core: what a request costs.

The servers are ordinary asyncio programs and know nothing of the loop they run on.
"""

import asyncio
import itertools
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Container, Mapping
from pathlib import Path

from . import load, native
from .family import Family, Need, Workload
from .load import Load

BACKLOG = 1000
KIB = 1024
CHUNK = 256 * KIB
BUFFER = 64 * KIB  # of each connection that has one to itself

SIZES = (1, 10, 100)  # KiB
CONNECTIONS = (1, 50, 1000)

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
        extra: bool = False,
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
                extra,
                # What is big takes long to come round once.
                weight=2 if spec.connections * spec.size > 2_000_000 else 1,
            )
        )

    def matrix(
        self,
        ways: Mapping[str, load.Serve],
        careful: load.Serve,
        *,
        prefix: str = "",
        limit: str = "",
        tls: bool = False,
        needs: tuple[Need, ...] = (),
        headlines: Container[str] = ("protocol",),
        extras: bool = True,
    ) -> None:
        """Every way with every size and every number of connections. `careful` takes the place of
        the way by buffered protocol where messages are big; of `headlines`, one workload each is;
        with `extras`, most are extra."""
        for (way, serve), size, connections in itertools.product(ways.items(), SIZES, CONNECTIONS):
            big_buffered = way == "buffered protocol" and size == 100
            self.server(
                f"{prefix}{way}, {size} KiB x {connections}",
                careful if big_buffered else serve,
                Load("echo", connections, size * KIB, tls=tls),
                limit=limit if way == "protocol" else "",
                needs=needs,
                headline=way in headlines and (size, connections) == (1, 50),
                extra=extras and is_extra(way, size, connections),
            )


def is_extra(way: str, size: int, connections: int) -> bool:
    """Of the matrix, for transports besides TCP: all but 1 KiB x 50 and, by protocols, what
    varies one thing from there."""
    if way == "protocol":
        return size != 1 and connections != 50
    return (size, connections) != (1, 50)


# ---- the protocols ----


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(BUFFER))

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


def unix_protocols(factory: type) -> load.Serve:
    async def serve(folder: Path) -> Served:
        path = folder / "socket"
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(factory, path, backlog=BACKLOG)
        return f"unix:{path}", closer(server)

    return serve


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
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    return f"tcp:{listener.getsockname()[1]}", accept_sockets(listener)


async def unix_sockets(folder: Path) -> Served:
    path = folder / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return f"unix:{path}", accept_sockets(listener)


def accept_sockets(listener: socket.socket) -> Callable[[], Awaitable[None]]:
    """Echoes on each in a task; returns what ends it."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            tasks.add(asyncio.create_task(echo_on_socket(connection)))

    tasks = {asyncio.create_task(accept())}
    return ender(tasks, listener)


def ender(tasks: set[asyncio.Task], listener: socket.socket) -> Callable[[], Awaitable[None]]:
    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()

    return end


async def datagram_socket(folder: Path) -> Served:
    loop = asyncio.get_running_loop()
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    bound.setblocking(False)

    async def echo() -> None:
        while True:
            data, address = await loop.sock_recvfrom(bound, BUFFER)
            await loop.sock_sendto(bound, data, address)

    return f"udp:{bound.getsockname()[1]}", ender({asyncio.create_task(echo())}, bound)


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
UNIX_WAYS = {
    "protocol": unix_protocols(EchoProtocol),
    "buffered protocol": unix_protocols(EchoBuffered),
    "streams": unix_streams,
    "sock_recv and sock_sendall": unix_sockets,
}
# A datagram that finds the socket's buffer full is lost, so no more of them are on the way.
DATAGRAMS = ((1, 1), (1, 50), (10, 1), (10, 10))  # KiB, connections

FAMILY = Echo()


def add_tcp() -> None:
    FAMILY.matrix(WAYS, protocols(CarefulBuffered), limit="tcp", headlines=WAYS, extras=False)
    for name, spec in (
        ("protocol, 64 KiB x 50", Load("echo", 50, 64 * KIB)),
        ("protocol, 1 MiB x 5", Load("echo", 5, KIB * KIB)),
    ):
        FAMILY.server(name, WAYS["protocol"], spec, limit="tcp", headline=True)


def add_unix() -> None:
    FAMILY.matrix(UNIX_WAYS, unix_protocols(CarefulBuffered), prefix="Unix, ", limit="unix")


def add_udp() -> None:
    small = Load("echo", 1, 100)
    FAMILY.server("UDP, 100 B x 1", datagrams, small, limit="udp", goal=1.5, headline=True)
    for size, connections in DATAGRAMS:
        spec = Load("echo", connections, size * KIB)
        FAMILY.server(f"UDP, {size} KiB x {connections}", datagrams, spec, limit="udp")
    FAMILY.server("UDP, sock_recvfrom and sock_sendto, 1 KiB x 50", datagram_socket, Load())


def add_churn() -> None:
    """A connection for each request."""
    FAMILY.server(
        "connect, echo, close, 1 KiB x 10", WAYS["protocol"], Load("connect", 10), limit="tcp"
    )
    FAMILY.server(
        "connect, accept, close x 10",
        protocols(CloseAtOnce),
        Load("close", 10),
        limit="tcp",
    )


if sys.platform != "win32":
    add_tcp()
    add_unix()
    add_udp()
    add_churn()

"""Clients: what a request costs a program that asks. HTTP is answered by the server in C on another
core (native/server.c); the WebSocket server shares the loop with its clients.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter, process_time

from . import cores, native
from .family import Family, LoopFactory, Metrics, Need, Workload, modules
from .load import native_server

AT_ONCE = 10  # tasks that ask, each one request after the other

# A client: from the server's URL a coroutine function that makes one request.
Client = Callable[[str], "asynccontextmanager[Callable[[], Awaitable[None]]]"]


class Clients(Family):
    name = "clients"
    title = "Clients: us per request, and times as fast as asyncio"
    unit = "us"
    cost = "us"


async def ask(request: Callable[[], Awaitable[None]], at_once: int, seconds: float) -> Metrics:
    """Closed loop, as the load generator does it: the cost of one request."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []

    async def asker(deadline: float) -> None:
        while (began := perf_counter()) < deadline:
            await request()
            latencies.append(perf_counter() - began)

    async def all_askers(seconds: float) -> None:
        deadline = perf_counter() + seconds
        await asyncio.gather(*(loop.create_task(asker(deadline)) for _ in range(at_once)))

    await all_askers(seconds / 4)  # to warm up
    latencies.clear()
    began, cpu = perf_counter(), process_time()
    await all_askers(seconds)
    elapsed, cpu = perf_counter() - began, process_time() - cpu
    latencies.sort()
    count = len(latencies)
    return {
        "us": elapsed * 1e6 / count,
        "cpu_us": cpu * 1e6 / count,
        "p50": latencies[count // 2] * 1e6,
        "p99": latencies[count * 99 // 100] * 1e6,
        "p999": latencies[count * 999 // 1000] * 1e6,
    }


def measure_client(client: Client, at_once: int) -> Callable[[LoopFactory, float], Metrics]:
    """The measure() of a workload whose server needs no address, or finds it by itself."""

    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        async def main() -> Metrics:
            async with client() as request:
                return await ask(request, at_once, seconds)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main())

    return measure


def measure_http_client(client: Client) -> Callable[[LoopFactory, float], Metrics]:
    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        with native_server("http", "tcp") as (where, pid):
            cores.move_elsewhere(pid)
            url = f"http://127.0.0.1:{where.removeprefix('tcp:')}/"
            return measure_client(lambda: client(url), AT_ONCE)(new_event_loop, seconds)

    return measure


# ---- the clients ----


@asynccontextmanager
async def aiohttp_client(url: str):
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def request() -> None:
            async with session.get(url) as response:
                await response.read()

        yield request


@asynccontextmanager
async def httpx_client(url: str):
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client:

        async def request() -> None:
            (await client.get(url)).raise_for_status()

        yield request


@asynccontextmanager
async def websocket_pairs():
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo(connection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        idle = [await connect(url, compression=None, proxy=None) for _ in range(AT_ONCE)]

        async def request() -> None:
            connection = idle.pop()
            await connection.send("x" * 100)
            await connection.recv()
            idle.append(connection)

        yield request
        for connection in idle:
            await connection.close()


FAMILY = Clients()


def add(name: str, measure: Callable, *needs: Need, headline: bool = False, service="") -> None:
    FAMILY.workloads.append(
        Workload(FAMILY, name, measure, needs=needs, headline=headline, service=service)
    )


if sys.platform != "win32":
    add(
        f"aiohttp x {AT_ONCE}",
        measure_http_client(aiohttp_client),
        native.why_no_server,
        modules("aiohttp"),
        headline=True,
    )
    add(
        f"httpx x {AT_ONCE}",
        measure_http_client(httpx_client),
        native.why_no_server,
        modules("httpx"),
    )
    add(
        f"websockets, both ends on the loop, 100 B x {AT_ONCE}",
        measure_client(websocket_pairs, AT_ONCE),
        modules("websockets.asyncio"),
    )

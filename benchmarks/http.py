"""HTTP servers: hello, world from well-known frameworks, over connections that are kept."""

import asyncio
import logging
import sys
from pathlib import Path

from .echo import BACKLOG, Echo, Served
from .family import modules
from .load import Load

HELLO = b"Hello, world!"


class Http(Echo):
    name = "http"
    title = "HTTP servers, hello: us per request, and times as fast as asyncio"


async def uvicorn_server(folder: Path) -> Served:
    """As `uvicorn app:app --loop LOOP --http httptools --no-access-log` would serve it."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # "ASGI callable returned ..."
    config = uvicorn.Config(
        asgi_hello,
        port=0,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)

    async def close() -> None:
        server.should_exit = server.force_exit = True
        await task

    return f"tcp:{server.servers[0].sockets[0].getsockname()[1]}", close


async def asgi_hello(scope: dict, receive: object, send: object) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def aiohttp_server(folder: Path) -> Served:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG, shutdown_timeout=0.1)
    await site.start()
    return f"tcp:{runner.addresses[0][1]}", runner.cleanup


async def hello_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The least that answers, as a tutorial on streams has it."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + HELLO)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def stream_server(folder: Path) -> Served:
    server = await asyncio.start_server(hello_stream, "127.0.0.1", 0, backlog=BACKLOG)

    async def close() -> None:
        server.close()

    return f"tcp:{server.sockets[0].getsockname()[1]}", close


FAMILY = Http()


def add_workloads() -> None:
    uvicorn = modules("uvicorn", "httptools")
    for serve, name, needs, limit in (
        (uvicorn_server, "uvicorn with httptools", (uvicorn,), ""),
        (aiohttp_server, "aiohttp", (modules("aiohttp"),), ""),
        (stream_server, "streams by hand", (), "tcp"),
    ):
        FAMILY.server(
            f"{name}, x 50", serve, Load("http"), limit=limit, needs=needs, headline=bool(needs)
        )
    FAMILY.server("uvicorn with httptools, x 1", uvicorn_server, Load("http", 1), needs=(uvicorn,))


if sys.platform != "win32":
    add_workloads()

"""aiohttp: its server and its client, each against the other."""

import asyncio
import contextlib
import hashlib

from programs import free_port, listens, need, program

aiohttp = need("aiohttp")
from aiohttp import web  # noqa: E402

MEGABYTE = bytes(range(256)) * 4096
HUNDRED = hashlib.sha256(MEGABYTE * 100).hexdigest()


@contextlib.asynccontextmanager
async def serving(routes, tls=None, **options):
    """An application on a free port; yields its address."""
    app = web.Application(client_max_size=0)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **options)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}"
    finally:
        await runner.cleanup()


async def hello(request):
    return web.Response(text=f"hello {request.transport.get_extra_info('peername')[1]}")


async def upload(request):
    digest = hashlib.sha256()
    async for chunk in request.content.iter_chunked(1 << 16):
        digest.update(chunk)
    return web.Response(text=digest.hexdigest())


async def download(request):
    response = web.StreamResponse()
    if "chunked" in request.query:
        response.enable_chunked_encoding()
    else:
        response.content_length = 100 * len(MEGABYTE)
    await response.prepare(request)
    for _ in range(100):
        await response.write(MEGABYTE)
    await response.write_eof()
    return response


ROUTES = [web.get("/", hello), web.post("/upload", upload), web.get("/download", download)]


def test_keep_alive_uses_one_connection(loop):
    async def main():
        async with serving(ROUTES) as url, aiohttp.ClientSession() as session:
            seen = set()
            for _ in range(200):
                async with session.get(url) as response:
                    seen.add(await response.text())
            assert len(seen) == 1

            async def one():
                async with session.get(url) as response:
                    return await response.text()

            assert len(await asyncio.gather(*[one() for _ in range(300)])) == 300

    loop.run(main())


async def chunks():
    for _ in range(100):
        yield MEGABYTE


def test_hundred_megabytes_up(loop):
    async def main():
        async with serving(ROUTES) as url, aiohttp.ClientSession() as session:
            async with session.post(f"{url}/upload", data=chunks()) as response:
                assert await response.text() == HUNDRED

    loop.run(main())


def test_hundred_megabytes_down(loop):
    async def main():
        async with serving(ROUTES) as url, aiohttp.ClientSession() as session:
            for path in ("/download", "/download?chunked"):
                digest = hashlib.sha256()
                async with session.get(url + path) as response:
                    async for chunk in response.content.iter_any():
                        digest.update(chunk)
                assert digest.hexdigest() == HUNDRED

    loop.run(main())


def test_tls(loop, server_tls, client_tls):
    async def main():
        connector = aiohttp.TCPConnector(ssl=client_tls)
        async with (
            serving(ROUTES, tls=server_tls) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            for _ in range(20):
                async with session.get(url) as response:
                    assert (await response.text()).startswith("hello")
            body = MEGABYTE * 10
            async with session.post(f"{url}/upload", data=body) as response:
                assert await response.text() == hashlib.sha256(body).hexdigest()

    loop.run(main())


def test_sendfile(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(MEGABYTE * 20)

    async def handler(request):
        return web.FileResponse(path)

    async def main():
        routes = [web.get("/file", handler), web.static("/static", tmp_path)]
        async with serving(routes) as url, aiohttp.ClientSession() as session:
            for where in ("/file", "/static/file"):
                async with session.get(url + where) as response:
                    assert await response.read() == MEGABYTE * 20
            part = {"Range": "bytes=1000-1999999"}
            async with session.get(f"{url}/file", headers=part) as response:
                assert response.status == 206
                assert await response.read() == (MEGABYTE * 2)[1000:2000000]

    loop.run(main())


def test_websockets(loop):
    async def echo(request):
        ws = web.WebSocketResponse(heartbeat=5)
        await ws.prepare(request)
        async for message in ws:
            if message.type == aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    async def client(session, url, number):
        async with session.ws_connect(f"{url}/ws") as ws:
            for turn in range(20):
                await ws.send_str(f"{number} {turn}")
                assert await ws.receive_str(timeout=20) == f"{number} {turn}"
            await ws.send_bytes(MEGABYTE)
            assert await ws.receive_bytes(timeout=20) == MEGABYTE

    async def main():
        async with serving([web.get("/ws", echo)]) as url, aiohttp.ClientSession() as session:
            await asyncio.gather(*[client(session, url, number) for number in range(20)])

    loop.run(main())


def test_clients_that_leave(loop):
    """The server notices, whether it is reading, writing or thinking, and goes on serving."""
    begun, ended = [], []

    async def slow(request):
        begun.append("slow")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        begun.append("endless")
        try:
            while True:
                await response.write(MEGABYTE)
        except (ConnectionError, asyncio.CancelledError):
            ended.append("endless")
            raise

    async def leave(url, path, half=None):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(request.encode()[:half])
        async with asyncio.timeout(10):
            while len(begun) < 20:
                await asyncio.sleep(0.01)
        writer.transport.abort()

    async def main():
        routes = [*ROUTES, web.get("/slow", slow), web.get("/endless", endless)]
        async with serving(routes, handler_cancellation=True) as url:
            await asyncio.gather(
                *[leave(url, "/slow") for _ in range(10)],
                *[leave(url, "/endless") for _ in range(10)],
                *[leave(url, "/", half=10) for _ in range(10)],
            )
            async with asyncio.timeout(10):
                while len(ended) < 20:
                    await asyncio.sleep(0.01)
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                assert response.status == 200

    loop.run(main())
    assert sorted(set(ended)) == ["cancelled", "endless"]


def test_client_timeouts_and_refused(loop):
    async def slow(request):
        await asyncio.sleep(60)

    async def main():
        async with serving([web.get("/", slow)]) as url:
            timeout = aiohttp.ClientTimeout(total=0.2)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                try:
                    await session.get(url)
                except TimeoutError:
                    pass
                else:
                    raise AssertionError("no timeout")
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(f"http://127.0.0.1:{free_port()}")
            except aiohttp.ClientConnectorError as error:
                assert isinstance(error.os_error, ConnectionRefusedError)
            else:
                raise AssertionError("not refused")

    loop.run(main())


RUN_APP = """
import asyncio
from aiohttp import web

async def handler(request):
    return web.Response(text=type(asyncio.get_running_loop()).__module__)

app = web.Application()
app.router.add_get("/", handler)
web.run_app(app, host="127.0.0.1", port={port})
"""


def test_run_app(loop):
    """web.run_app() of an unchanged program, until SIGTERM."""
    import urllib.request

    port = free_port()
    with program(loop.python("-c", RUN_APP.format(port=port))) as server:
        server.wait_for_port(port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as response:
            assert response.read().decode().partition(".")[0] == loop.top_module
        assert server.stop() == 0
        assert "Traceback" not in server.output()
        assert not listens(port)

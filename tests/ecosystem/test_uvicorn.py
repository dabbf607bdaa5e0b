"""uvicorn with FastAPI, as a program of its own: `uvicorn --loop hotloop:new_event_loop`."""

import asyncio
import contextlib
import signal
import sys
import time

import pytest
from programs import free_port, listens, need, program

need("uvicorn")
need("fastapi")
httpx = need("httpx")
need("websockets")
from web_app import use, use_websocket  # noqa: E402


@contextlib.contextmanager
def uvicorn(loop, *options):
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "web_app:app", "--port", str(port)]
    command += ["--loop", loop.spelled, *options]
    with program(command) as server:
        server.wait_for_text("Application startup complete")
        server.wait_for_port(port)
        yield server, port


def ended_well(server, port):
    assert server.stop() in (0, -signal.SIGTERM)
    text = server.output()
    assert text.count("lifespan begins") == text.count("lifespan ends") > 0, text
    assert "Traceback" not in text and "ERROR" not in text, text
    assert not listens(port)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_fastapi(loop, http):
    need(http)
    with uvicorn(loop, "--http", http) as (server, port):
        loop.run(use(f"http://127.0.0.1:{port}", loop.top_module))
        server.wait_for_text("background 7")
        ended_well(server, port)


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
def test_websockets(loop, ws):
    need(ws.partition("-")[0])
    with uvicorn(loop, "--ws", ws) as (server, port):
        loop.run(use_websocket(f"ws://127.0.0.1:{port}"))
        ended_well(server, port)


def test_tls(loop, certificate, client_tls):
    cert, key = certificate
    options = ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key)]
    with uvicorn(loop, *options) as (server, port):
        loop.run(use(f"https://localhost:{port}", loop.top_module, client_tls))
        ended_well(server, port)


def test_graceful_shutdown_under_load(loop):
    """What was begun when SIGTERM came is answered; what comes later is refused."""

    async def main(server, port):
        url = f"http://127.0.0.1:{port}"
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
            begun = [asyncio.create_task(client.get("/slow?seconds=1")) for _ in range(100)]
            await server.wait_for_begun(100)
            server.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*begun)
            assert {answer.json()["slept"] for answer in answers} == {1}
            async with asyncio.timeout(10):
                while await asyncio.to_thread(listens, port):
                    await asyncio.sleep(0.01)
            with pytest.raises(httpx.ConnectError):
                await client.get("/")

    with uvicorn(loop) as (server, port):
        loop.run(main(server, port))
        ended_well(server, port)


def test_several_workers(loop):
    async def main(port):
        seen = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < deadline:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                for answer in await asyncio.gather(*[client.get("/") for _ in range(20)]):
                    assert answer.json()["loop"] == loop.top_module
                    seen.add(answer.json()["process"])
        assert len(seen) == 2

    with uvicorn(loop, "--workers", "2") as (server, port):
        loop.run(main(port))
        ended_well(server, port)


def test_in_a_program_of_ones_own(loop):
    """uvicorn.Server.serve() in a task, beside a client, on one loop."""
    import uvicorn
    from web_app import app

    async def main():
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        await use(f"http://127.0.0.1:{port}", loop.top_module)
        server.should_exit = True
        await task

    loop.run(main())

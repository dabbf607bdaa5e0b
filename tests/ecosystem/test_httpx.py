"""httpx: its pool, HTTP/2 and streaming, against uvicorn and hypercorn."""

import asyncio
import contextlib
import sys

import pytest
from programs import HERE, free_port, need, program

httpx = need("httpx")
need("fastapi")


@pytest.fixture(scope="module")
def server_port():
    need("uvicorn")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "web_app:app", "--port", port, "--loop", "asyncio"]
    with program(command) as server:
        server.wait_for_port(port)
        yield port


def test_pool(loop, server_port):
    async def main():
        limits = httpx.Limits(max_connections=5, max_keepalive_connections=3)
        url = f"http://127.0.0.1:{server_port}"
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*[client.get("/") for _ in range(200)])
            assert len(answers) == 200
            assert len(client._transport._pool.connections) <= 3
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/slow?seconds=5", timeout=httpx.Timeout(30, read=0.1))
            tasks = [asyncio.create_task(client.get("/slow?seconds=5")) for _ in range(20)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await client.get("/")).status_code == 200

    loop.run(main())


def test_streaming(loop, server_port):
    async def body():
        for _ in range(200):
            yield b"x" * 10_000

    async def main():
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server_port}") as client:
            answer = await client.post("/size", content=body())
            assert answer.json() == {"size": 2_000_000}
            count = 0
            async with client.stream("GET", "/lines?count=3000") as response:
                async for line in response.aiter_lines():
                    assert line == f"line {count}"
                    count += 1
            assert count == 3000
            # Left in the middle.
            async with client.stream("GET", "/lines?count=20000") as response:
                async for _ in response.aiter_lines():
                    break
            assert (await client.get("/")).status_code == 200

    loop.run(main())


def test_http2(loop, certificate, client_tls):
    need("hypercorn")
    need("h2")
    from web_app import use

    port = free_port()
    command = [sys.executable, HERE / "web_app.py", port, *certificate]
    with program(command) as server:
        server.wait_for_port(port)
        with contextlib.chdir(HERE):
            loop.run(use(f"https://localhost:{port}", "asyncio", client_tls, http2=True))

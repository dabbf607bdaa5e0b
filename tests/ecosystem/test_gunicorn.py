"""gunicorn with uvicorn's workers, and with its own for ASGI."""

import asyncio
import os
import sys

import pytest
from programs import HERE, free_port, listens, need, program

need("gunicorn")
need("fastapi")
httpx = need("httpx")
from web_app import use  # noqa: E402


@pytest.mark.parametrize("worker", ["uvicorn", "asgi"])
def test_workers(loop, worker):
    if worker == "uvicorn":
        need("uvicorn_worker", "uvicorn-worker")
        command = [sys.executable, "-m", "gunicorn", "-c", HERE / "gunicorn_conf.py"]
    else:
        need("gunicorn.workers.gasgi", "gunicorn with ASGI workers")
        command = loop.python("-m", "gunicorn", "-k", "asgi", "--asgi-loop", "asyncio")
    port = free_port()
    command += ["-b", f"127.0.0.1:{port}", "-w", "2", "--graceful-timeout", "5", "web_app:app"]

    async def main():
        url = f"http://127.0.0.1:{port}"
        await use(url, loop.top_module)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            begun = [asyncio.create_task(client.get("/slow?seconds=1")) for _ in range(20)]
            await server.wait_for_begun(20)
            server.process.terminate()
            assert {answer.status_code for answer in await asyncio.gather(*begun)} == {200}

    with program(command, env={**os.environ, "ECO_LOOP": loop.spelled}) as server:
        server.wait_for(lambda: server.output().count("lifespan begins") == 2, "two workers")
        server.wait_for_port(port)
        loop.run(main())
        assert server.process.wait(30) == 0
        assert server.output().count("lifespan ends") == 2, server.output()
        assert "Traceback" not in server.output(), server.output()
        assert not listens(port)

"""The FastAPI application that the tests of servers serve, and its clients."""

import asyncio
import contextlib
import os
import ssl
import sys

import fastapi
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    print("lifespan begins", flush=True)
    app.state.ready = True
    yield
    print("lifespan ends", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello(request: Request):
    assert request.app.state.ready
    module = type(asyncio.get_running_loop()).__module__
    return {"loop": module.partition(".")[0], "process": os.getpid()}


@app.get("/thread")
def in_a_thread():
    return {"sum": sum(range(1000))}


@app.get("/slow")
async def slow(seconds: float):
    print("slow begins", flush=True)
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@app.get("/lines")
async def lines(count: int):
    async def generate():
        for number in range(count):
            yield f"line {number}\n"

    return StreamingResponse(generate())


@app.post("/size")
async def size(request: Request):
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
    return {"size": total}


@app.post("/items/{item}")
async def items(item: int, body: dict, after: fastapi.BackgroundTasks):
    after.add_task(print, f"background {item}", flush=True)
    return {"item": item, **body}


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    with contextlib.suppress(fastapi.WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


async def serve_hypercorn(port, *bind):
    """Hypercorn's own way of being run on any loop."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    if bind:
        config.certfile, config.keyfile = bind
    await serve(app, config)


async def use(url, expected_loop, tls: ssl.SSLContext | bool = True, http2=False):
    """Everything the application offers, over one client."""
    import httpx

    async with httpx.AsyncClient(base_url=url, verify=tls, http2=http2, timeout=30) as client:
        answer = (await client.get("/")).json()
        assert answer["loop"] == expected_loop, answer
        assert (await client.get("/thread")).json() == {"sum": 499500}
        many = await asyncio.gather(*[client.get("/") for _ in range(100)])
        assert {response.status_code for response in many} == {200}
        if http2:
            assert {response.http_version for response in many} == {"HTTP/2"}
        async with client.stream("GET", "/lines?count=2000") as response:
            assert [line async for line in response.aiter_lines()] == [
                f"line {number}" for number in range(2000)
            ]
        body = b"x" * 5_000_000
        assert (await client.post("/size", content=body)).json() == {"size": len(body)}
        answer = await client.post("/items/7", json={"name": "seven"})
        assert answer.json() == {"item": 7, "name": "seven"}
        assert (await client.post("/items/x", json={})).status_code == 422
    return answer


async def use_websocket(url):
    import websockets

    async def one(number):
        async with websockets.connect(f"{url}/ws") as ws:
            for turn in range(20):
                await ws.send(f"{number} {turn}" * 100)
                assert await ws.recv() == f"{number} {turn}" * 100

    await asyncio.gather(*[one(number) for number in range(20)])


if __name__ == "__main__":
    asyncio.run(serve_hypercorn(*sys.argv[1:]))

"""HTTP clients: aiohttp and httpx against a local aiohttp server.

Guide topic: making several API calls at once, sessions and connection
pooling, errors, timeouts, sessions left open.
"""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
from aiohttp import web
from aiohttp.typedefs import Handler

ARTICLES = ["bread", "milk", "tea"]


class Shop:
    """The server side: a few routes, and a count of the connections seen."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.app = web.Application(middlewares=[self.note_connection])
        self.app.router.add_get("/article/{name}", self.article)
        self.app.router.add_post("/order", self.order)
        self.app.router.add_get("/slow", self.slow)

    @web.middleware
    async def note_connection(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.connections.add(request.get_extra_info("peername"))
        return await handler(request)

    async def article(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in ARTICLES:
            raise web.HTTPNotFound(text=f"no {name} today")
        await asyncio.sleep(0.02)
        return web.json_response({"article": name, "price": len(name)})

    async def order(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        return web.json_response({"ordered": order["count"]}, status=201)

    async def slow(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.25)
        return web.Response(text="at last")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


async def fetch_text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()


async def aiohttp_together(url: str, shop: Shop) -> None:
    """aiohttp: several pages with one session"""
    urls = [f"{url}/article/{name}" for name in ARTICLES]
    async with aiohttp.ClientSession() as session:
        pages = await asyncio.gather(*(fetch_text(session, u) for u in urls))
    for name, page in zip(ARTICLES, pages, strict=True):
        print(f"{name}: {len(page)} bytes, {page}")


async def aiohttp_connection_reuse(url: str, shop: Shop) -> None:
    """aiohttp: a session keeps its connection, a new session needs a new one"""
    shop.connections.clear()
    async with aiohttp.ClientSession() as session:
        for name in ARTICLES:
            await fetch_text(session, f"{url}/article/{name}")
    print("one session for all: ", len(shop.connections), "connection(s)")

    shop.connections.clear()
    keep_ports_apart = []
    for name in ARTICLES:
        session = aiohttp.ClientSession()
        keep_ports_apart.append(session)
        await fetch_text(session, f"{url}/article/{name}")
    print("one session for each:", len(shop.connections), "connection(s)")
    for session in keep_ports_apart:
        await session.close()


async def aiohttp_post_and_errors(url: str, shop: Shop) -> None:
    """aiohttp: POST, error statuses, timeouts"""
    async with aiohttp.ClientSession(base_url=url) as session:
        async with session.post("/order", json={"count": 3}) as response:
            print(response.status, await response.json())
        async with session.get("/article/gold") as response:
            print(response.status, await response.text())
        try:
            await session.get("/article/gold", raise_for_status=True)
        except aiohttp.ClientResponseError as error:
            print("ClientResponseError:", error.status, error.message)
        try:
            await session.get("/slow", timeout=aiohttp.ClientTimeout(total=0.05))
        except TimeoutError:
            print("TimeoutError")


async def aiohttp_session_left_open(url: str, shop: Shop) -> None:
    """aiohttp: a forgotten session is reported to the loop"""
    messages = set()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: messages.add(context["message"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        session = aiohttp.ClientSession()
        text = await fetch_text(session, f"{url}/article/tea")
        del session
        gc.collect()
    loop.set_exception_handler(None)
    print(text, "| reported:", sorted(messages))


async def httpx_in_a_row(client: httpx.AsyncClient) -> None:
    """httpx: one request after the other"""
    prices = []
    for name in ARTICLES:
        response = await client.get(f"/article/{name}")
        prices.append(response.json()["price"])
    print("prices:", prices)


async def httpx_together(client: httpx.AsyncClient) -> None:
    """httpx: all requests at once"""
    requests = [client.get(f"/article/{name}") for name in ARTICLES]
    responses = await asyncio.gather(*requests)
    print([response.json() for response in responses])


async def httpx_post_and_errors(client: httpx.AsyncClient) -> None:
    """httpx: POST, error statuses, timeouts"""
    response = await client.post("/order", json={"count": 2})
    print(response.status_code, response.json())
    try:
        (await client.get("/article/gold")).raise_for_status()
    except httpx.HTTPStatusError as error:
        print("HTTPStatusError:", error.response.status_code, error.response.text)
    try:
        await client.get("/slow", timeout=0.05)
    except httpx.TimeoutException as error:
        print(type(error).__name__)


async def main() -> None:
    shop = Shop()
    async with shop.opened() as url:
        for demo in (
            aiohttp_together,
            aiohttp_connection_reuse,
            aiohttp_post_and_errors,
            aiohttp_session_left_open,
        ):
            print(f"-- {demo.__doc__}")
            await demo(url, shop)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            for show in (httpx_in_a_row, httpx_together, httpx_post_and_errors):
                print(f"-- {show.__doc__}")
                await show(client)


if __name__ == "__main__":
    asyncio.run(main())

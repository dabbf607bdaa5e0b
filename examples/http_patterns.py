"""Patterns for API clients, with httpx against a local aiohttp server.

Guide topic: concurrent calls with a rate limit, retry with exponential
backoff, streaming the answer of a language model, a small web scraper.
"""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiohttp import web


class Api:
    """The server side."""

    def __init__(self) -> None:
        self.busy = self.peak = self.refusals = 0
        self.app = web.Application()
        self.app.router.add_get("/item/{number}", self.item)
        self.app.router.add_get("/flaky", self.flaky)
        self.app.router.add_post("/chat", self.chat)
        self.app.router.add_get("/site/{page}", self.site)

    async def item(self, request: web.Request) -> web.StreamResponse:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(0.02)
        self.busy -= 1
        return web.json_response({"item": int(request.match_info["number"])})

    async def flaky(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            self.refusals -= 1
            raise web.HTTPServiceUnavailable(text="come back later")
        return web.json_response({"data": "worth the wait"})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        prompt = (await request.json())["prompt"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in f"You said: {prompt}".split():
            await response.write(f"data: {json.dumps({'word': word})}\n\n".encode())
            await asyncio.sleep(0.005)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def site(self, request: web.Request) -> web.StreamResponse:
        """Page n links to the pages 2n and 2n+1."""
        page = int(request.match_info["page"])
        links = [n for n in (2 * page, 2 * page + 1) if n <= 12]
        html = "".join(f'<a href="/site/{n}">{n}</a>' for n in links)
        return web.Response(text=html, content_type="text/html")

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


async def limited(client: httpx.AsyncClient, api: Api) -> None:
    """rate limiting: forty items, at most five requests at a time"""
    slots = asyncio.Semaphore(5)

    async def fetch(number: int) -> int:
        async with slots:
            response = await client.get(f"/item/{number}")
            return int(response.json()["item"])

    items = await asyncio.gather(*(fetch(n) for n in range(40)))
    print(len(items), "items in order:", items == list(range(40)))
    print("the server saw more than one, at most five:", 1 < api.peak <= 5)


async def fetch_with_retries(client: httpx.AsyncClient, url: str, attempts: int) -> Any:
    for attempt in range(attempts):
        try:
            response = await client.get(url)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPStatusError, httpx.RequestError) as error:
            if attempt == attempts - 1:
                raise
            print(f"attempt {attempt + 1} failed: {type(error).__name__}")
            await asyncio.sleep(0.01 * 2**attempt + random.uniform(0, 0.01))


async def retried(client: httpx.AsyncClient, api: Api) -> None:
    """retry: exponential backoff on errors"""
    api.refusals = 2
    print(await fetch_with_retries(client, "/flaky", attempts=3))
    api.refusals = 99
    try:
        await fetch_with_retries(client, "/flaky", attempts=2)
    except httpx.HTTPStatusError as error:
        print("gave up:", error.response.status_code, error.response.text)


async def chat_words(client: httpx.AsyncClient, prompt: str) -> AsyncIterator[str]:
    async with client.stream("POST", "/chat", json={"prompt": prompt}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                chunk = line.removeprefix("data: ")
                if chunk != "[DONE]":
                    yield json.loads(chunk)["word"]


async def streamed(client: httpx.AsyncClient, api: Api) -> None:
    """streaming: words as they arrive"""
    async for word in chat_words(client, "tell me a story"):
        print(word, end=" ", flush=True)
    print()


async def scraped(client: httpx.AsyncClient, api: Api) -> None:
    """scraper: follow the links, three workers, every page once"""
    todo: asyncio.Queue[str] = asyncio.Queue()
    seen = {"/site/1"}
    todo.put_nowait("/site/1")

    async def worker() -> None:
        while True:
            page = await todo.get()
            text = (await client.get(page)).text
            for link in re.findall(r'href="([^"]+)"', text):
                if link not in seen:
                    seen.add(link)
                    todo.put_nowait(link)
            todo.task_done()

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker()) for _ in range(3)]
        await todo.join()
        for task in workers:
            task.cancel()
    print("pages:", sorted(seen, key=lambda page: int(page.split("/")[-1])))


async def main() -> None:
    api = Api()
    async with (
        api.opened() as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        for demo in (limited, retried, streamed, scraped):
            print(f"-- {demo.__doc__}")
            await demo(client, api)


if __name__ == "__main__":
    asyncio.run(main())

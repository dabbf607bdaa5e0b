"""Blocking functions in threads, while the loop goes on.

Guide topic: run_in_executor with a thread pool and with the default pool,
asyncio.to_thread, synchronous libraries in asynchronous programs.
"""

import asyncio
import contextvars
import functools
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

customer = contextvars.ContextVar("customer", default="nobody")


def scan(document: str, seconds: float = 0.1) -> str:
    """Stands for a library that knows nothing of async."""
    time.sleep(seconds)
    if document.endswith(".tmp"):
        raise ValueError(f"cannot scan {document}")
    return f"{document} scanned"


def threads_without_a_loop() -> None:
    """a thread pool alone: blocking calls side by side, no loop at all"""
    with ThreadPoolExecutor(max_workers=3) as pool:
        print(list(pool.map(scan, ["a.pdf", "b.pdf", "c.pdf"])))


async def own_pool() -> None:
    """run_in_executor: in a pool of our own"""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=3, thread_name_prefix="scanner") as pool:
        one = await loop.run_in_executor(pool, scan, "letter.pdf")
        print(one)
        began = loop.time()
        many = await asyncio.gather(
            *(loop.run_in_executor(pool, scan, f"page{n}.png") for n in range(3))
        )
        print(many)
        print("side by side:", loop.time() - began < 0.3)
        name = await loop.run_in_executor(pool, lambda: threading.current_thread().name)
        print("ran in a thread of the pool:", name.startswith("scanner"))


async def default_pool() -> None:
    """run_in_executor: None means the loop's own pool"""
    loop = asyncio.get_event_loop()
    print(await loop.run_in_executor(None, scan, "map.pdf"))
    with_keywords = functools.partial(scan, "stamp.pdf", seconds=0.01)
    print(await loop.run_in_executor(None, with_keywords))
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    print("thread name:", name.partition("_")[0])


async def in_a_thread() -> None:
    """to_thread: keywords and context variables come along"""

    def whose() -> str:
        return customer.get()

    token = customer.set("Ada")
    try:
        print("to_thread sees:", await asyncio.to_thread(whose))
    finally:
        customer.reset(token)
    print(await asyncio.to_thread(scan, "poster.pdf", seconds=0.01))


async def loop_stays_awake() -> None:
    """the loop keeps working while a thread blocks"""
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    heart = asyncio.create_task(heartbeat())
    await asyncio.to_thread(scan, "atlas.pdf", 0.2)
    heart.cancel()
    print("the heart kept beating:", beats >= 3)


async def errors_come_back() -> None:
    """an exception in the thread is raised at the await"""
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, scan, "draft.tmp", 0)
    except ValueError as error:
        print("caught:", error)
    results = await asyncio.gather(
        asyncio.to_thread(scan, "x.pdf", 0),
        asyncio.to_thread(scan, "x.tmp", 0),
        return_exceptions=True,
    )
    print([str(result) for result in results])


async def cancel_waiting_work() -> None:
    """work that has not begun can be cancelled"""
    loop = asyncio.get_running_loop()
    ran: list[str] = []
    go_on = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        first = loop.run_in_executor(pool, go_on.wait)
        second = loop.run_in_executor(pool, ran.append, "second")
        third = loop.run_in_executor(pool, ran.append, "third")
        second.cancel()
        await asyncio.sleep(0)  # the cancellation reaches the pool
        go_on.set()
        await asyncio.gather(first, third)
    print("second cancelled:", second.cancelled(), "| ran:", ran)


async def back_into_the_loop() -> None:
    """run_coroutine_threadsafe and call_soon_threadsafe: from a thread"""
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()

    async def price(article: str) -> int:
        await asyncio.sleep(0.01)
        return len(article)

    def old_fashioned_code() -> int:
        future = asyncio.run_coroutine_threadsafe(price("umbrella"), loop)
        total = future.result(timeout=10)
        loop.call_soon_threadsafe(rung.set)
        return total

    print("the thread got", await asyncio.to_thread(old_fashioned_code))
    await rung.wait()
    print("and rang the bell")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A web server of ten lines: JSON with the path that was asked for."""
    request = await reader.readuntil(b"\r\n\r\n")
    path = request.split()[1].decode()
    await asyncio.sleep(0.05)
    body = json.dumps({"path": path}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def fetch_blocking(port: int, path: str) -> dict[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer: dict[str, str] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


async def synchronous_http_library() -> None:
    """a blocking HTTP client in threads, its server on this very loop"""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    async with server:
        replies = await asyncio.gather(
            *(
                loop.run_in_executor(None, fetch_blocking, port, f"/{name}")
                for name in ("bread", "milk", "tea")
            )
        )
    print(replies)


async def main() -> None:
    for demo in (
        own_pool,
        default_pool,
        in_a_thread,
        loop_stays_awake,
        errors_come_back,
        cancel_waiting_work,
        back_into_the_loop,
        synchronous_http_library,
    ):
        print(f"-- {demo.__doc__}")
        await demo()


if __name__ == "__main__":
    print(f"-- {threads_without_a_loop.__doc__}")
    threads_without_a_loop()
    asyncio.run(main())

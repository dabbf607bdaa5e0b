"""Queries on a pool of database connections.

Guide topic: database operations. The guide uses asyncpg, which needs a
PostgreSQL server; here the database is sqlite3, whose blocking calls run in
threads.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self


class Connection:
    """One sqlite3 connection; every call runs in a thread."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    async def execute(self, sql: str, *values: Any) -> None:
        await asyncio.to_thread(self.raw.execute, sql, values)

    async def execute_many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        await asyncio.to_thread(self.raw.executemany, sql, rows)

    async def fetch(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        def query() -> list[tuple[Any, ...]]:
            return self.raw.execute(sql, values).fetchall()

        return await asyncio.to_thread(query)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        await self.execute("BEGIN")
        try:
            yield self
        except BaseException:
            await self.execute("ROLLBACK")
            raise
        else:
            await self.execute("COMMIT")


class Pool:
    """A fixed number of connections, lent out one at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.free: asyncio.Queue[Connection] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        for _ in range(self.size):
            raw = await asyncio.to_thread(
                sqlite3.connect,
                self.path,
                check_same_thread=False,
                isolation_level=None,
            )
            self.free.put_nowait(Connection(raw))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for _ in range(self.size):
            connection = await self.free.get()
            await asyncio.to_thread(connection.raw.close)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        connection = await self.free.get()
        try:
            yield connection
        finally:
            self.free.put_nowait(connection)


async def fill(pool: Pool) -> None:
    """many rows in one call, in one transaction"""
    books = [("Emma", 1815), ("Ulysses", 1922), ("Dracula", 1897), ("Walden", 1854)]
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE book (title TEXT, year INTEGER)")
        async with connection.transaction():
            await connection.execute_many("INSERT INTO book VALUES (?, ?)", books)
        print("rows:", await connection.fetch("SELECT count(*) FROM book"))


async def query(pool: Pool, before: int) -> list[str]:
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT title FROM book WHERE year < ? ORDER BY year", before
        )
    return [title for (title,) in rows]


async def several_queries(pool: Pool) -> None:
    """concurrent queries on the pool"""
    years = (1850, 1900, 2000)
    answers = await asyncio.gather(*(query(pool, year) for year in years))
    for year, titles in zip(years, answers, strict=True):
        print("before", year, titles)


async def more_queries_than_connections(pool: Pool) -> None:
    """callers wait for a free connection"""
    results = await asyncio.gather(*(query(pool, 1900) for _ in range(20)))
    print(len(results), "queries | all alike:", all(r == results[0] for r in results))
    print("connections back in the pool:", pool.free.qsize())


async def roll_back(pool: Pool) -> None:
    """a failed transaction leaves nothing behind"""
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM book")
                await connection.execute("INSERT INTO shelf VALUES (1)")
        except sqlite3.OperationalError as error:
            print("failed:", error)
        print("rows:", await connection.fetch("SELECT count(*) FROM book"))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Pool(Path(folder) / "library.db", size=3) as pool:
            for demo in (
                fill,
                several_queries,
                more_queries_than_connections,
                roll_back,
            ):
                print(f"-- {demo.__doc__}")
                await demo(pool)


if __name__ == "__main__":
    asyncio.run(main())

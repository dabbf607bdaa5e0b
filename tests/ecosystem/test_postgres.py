"""asyncpg and psycopg 3 against a PostgreSQL server: pools, LISTEN/NOTIFY, COPY, cancellation."""

import asyncio
import io

import pytest
from programs import need


class TestAsyncpg:
    @pytest.fixture(autouse=True)
    def _server(self, postgres_port):
        self.asyncpg = need("asyncpg")
        self.where = {"host": "127.0.0.1", "port": postgres_port, "user": "postgres"}

    def test_pool(self, loop):
        async def one(pool, number):
            async with pool.acquire() as connection, connection.transaction():
                return await connection.fetchval("SELECT $1::int * 2", number)

        async def main():
            async with self.asyncpg.create_pool(**self.where, min_size=2, max_size=5) as pool:
                got = await asyncio.gather(*[one(pool, number) for number in range(300)])
                assert got == [number * 2 for number in range(300)]

        loop.run(main())

    def test_listen_notify(self, loop):
        async def main():
            heard = asyncio.Queue()
            listener = await self.asyncpg.connect(**self.where)
            await listener.add_listener("news", lambda *args: heard.put_nowait(args[3]))
            sender = await self.asyncpg.connect(**self.where)
            for number in range(50):
                await sender.execute(f"NOTIFY news, '{number}'")
            assert [await heard.get() for _ in range(50)] == [str(n) for n in range(50)]
            await sender.close()
            await listener.close()

        loop.run(main())

    def test_copy_and_cursors(self, loop):
        async def main():
            connection = await self.asyncpg.connect(**self.where)
            await connection.execute("CREATE TEMP TABLE t (a int, b text)")
            rows = [(number, f"text {number}" * 20) for number in range(20_000)]
            await connection.copy_records_to_table("t", records=rows)
            assert await connection.fetchval("SELECT count(*) FROM t") == 20_000
            out = io.BytesIO()
            await connection.copy_from_query("SELECT * FROM t", output=out, format="csv")
            assert out.getvalue().count(b"\n") == 20_000
            async with connection.transaction():
                count = 0
                async for _ in connection.cursor("SELECT * FROM t"):
                    count += 1
            assert count == 20_000
            await connection.close()

        loop.run(main())

    def test_cancel(self, loop):
        async def main():
            async with self.asyncpg.create_pool(**self.where, min_size=1, max_size=3) as pool:
                with pytest.raises(TimeoutError):
                    await pool.execute("SELECT pg_sleep(30)", timeout=0.1)
                for _ in range(5):
                    task = asyncio.create_task(pool.execute("SELECT pg_sleep(30)"))
                    await asyncio.sleep(0.02)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert await pool.fetchval("SELECT 1") == 1
                with pytest.raises(self.asyncpg.PostgresSyntaxError):
                    await pool.execute("SELEC 1")

        loop.run(main())


class TestPsycopg:
    @pytest.fixture(autouse=True)
    def _server(self, postgres_port):
        self.psycopg = need("psycopg")
        self.psycopg_pool = need("psycopg_pool")
        self.where = f"host=127.0.0.1 port={postgres_port} user=postgres"

    def test_pool(self, loop):
        async def one(pool, number):
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT %s::int * 2", [number])
                return (await cursor.fetchone())[0]

        async def main():
            async with self.psycopg_pool.AsyncConnectionPool(
                self.where, min_size=2, max_size=5, open=False
            ) as pool:
                got = await asyncio.gather(*[one(pool, number) for number in range(200)])
                assert got == [number * 2 for number in range(200)]

        loop.run(main())

    def test_listen_notify(self, loop):
        async def main():
            connect = self.psycopg.AsyncConnection.connect
            async with (
                await connect(self.where, autocommit=True) as listener,
                await connect(self.where, autocommit=True) as sender,
            ):
                await listener.execute("LISTEN news2")
                for number in range(20):
                    await sender.execute(f"NOTIFY news2, '{number}'")
                heard = []
                async for notice in listener.notifies(timeout=20, stop_after=20):
                    heard.append(notice.payload)
                assert heard == [str(number) for number in range(20)]

        loop.run(main())

    def test_copy_and_pipeline(self, loop):
        async def main():
            async with await self.psycopg.AsyncConnection.connect(self.where) as connection:
                cursor = connection.cursor()
                await cursor.execute("CREATE TEMP TABLE t2 (a int, b text)")
                async with cursor.copy("COPY t2 FROM STDIN") as copy:
                    for number in range(10_000):
                        await copy.write_row((number, f"text {number}"))
                size = 0
                async with cursor.copy("COPY t2 TO STDOUT") as copy:
                    async for block in copy:
                        size += bytes(block).count(b"\n")
                assert size == 10_000
                async with connection.pipeline():
                    for number in range(100):
                        await connection.execute("DELETE FROM t2 WHERE a = %s", [number])
                await cursor.execute("SELECT count(*) FROM t2")
                assert await cursor.fetchone() == (9900,)

        loop.run(main())

    def test_cancel(self, loop):
        async def main():
            connect = self.psycopg.AsyncConnection.connect
            async with await connect(self.where, autocommit=True) as connection:
                task = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
                await asyncio.sleep(0.1)
                await connection.cancel_safe()
                with pytest.raises(self.psycopg.errors.QueryCanceled):
                    await task
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connection.execute("SELECT pg_sleep(30)"), 0.1)
                cursor = await connection.execute("SELECT 1")
                assert await cursor.fetchone() == (1,)

        loop.run(main())

"""aiomysql against a MariaDB server."""

import asyncio

import pytest
from programs import need

aiomysql = need("aiomysql")


def test_pool(loop, mariadb_port):
    where = {"host": "127.0.0.1", "port": mariadb_port, "user": "eco", "password": "eco"}

    async def one(pool, number):
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT %s * 2", (number,))
            return (await cursor.fetchone())[0]

    async def main():
        async with aiomysql.create_pool(**where, db="eco", minsize=1, maxsize=5) as pool:
            got = await asyncio.gather(*[one(pool, number) for number in range(100)])
            assert got == [number * 2 for number in range(100)]
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("CREATE OR REPLACE TABLE t (a int, b text)")
                rows = [(number, "text" * 20) for number in range(5000)]
                await cursor.executemany("INSERT INTO t VALUES (%s, %s)", rows)
                await connection.rollback()
                await cursor.execute("SELECT count(*) FROM t")
                assert await cursor.fetchone() == (0,)
                await cursor.executemany("INSERT INTO t VALUES (%s, %s)", rows)
                await connection.commit()
                await cursor.execute("SELECT count(*) FROM t")
                assert await cursor.fetchone() == (5000,)
                with pytest.raises(aiomysql.ProgrammingError):
                    await cursor.execute("SELEC 1")
            async with pool.acquire() as connection:
                async with connection.cursor(aiomysql.SSDictCursor) as cursor:
                    await cursor.execute("SELECT a FROM t ORDER BY a")
                    count = 0
                    async for row in cursor:
                        assert row == {"a": count}
                        count += 1
                    assert count == 5000

    loop.run(main())


def test_cancel(loop, mariadb_port):
    where = {"host": "127.0.0.1", "port": mariadb_port, "user": "eco", "password": "eco"}

    async def main():
        connection = await aiomysql.connect(**where)
        cursor = await connection.cursor()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cursor.execute("SELECT SLEEP(30)"), 0.1)
        connection.close()

    loop.run(main())

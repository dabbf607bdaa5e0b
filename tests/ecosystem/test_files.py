"""aiosqlite and aiofiles: work in threads beside the loop."""

import asyncio

import pytest
from programs import need


def test_aiosqlite(loop, tmp_path):
    aiosqlite = need("aiosqlite")

    async def main():
        async with aiosqlite.connect(tmp_path / "db") as db:
            await db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
            await db.executemany("INSERT INTO t VALUES (?, ?)", [(n, str(n)) for n in range(5000)])
            await db.commit()
            count = 0
            async with db.execute("SELECT a, b FROM t ORDER BY a") as cursor:
                async for row in cursor:
                    assert row == (count, str(count))
                    count += 1
            assert count == 5000
            with pytest.raises(aiosqlite.IntegrityError):
                await db.execute("INSERT INTO t VALUES (1, 'again')")

            async def one(number):
                async with db.execute("SELECT b FROM t WHERE a = ?", (number,)) as cursor:
                    return (await cursor.fetchone())[0]

            got = await asyncio.gather(*[one(number) for number in range(200)])
            assert got == [str(number) for number in range(200)]

    loop.run(main())


def test_aiofiles(loop, tmp_path):
    aiofiles = need("aiofiles")
    need("aiofiles.os", "aiofiles")

    async def one(number):
        path = tmp_path / f"{number}.txt"
        async with aiofiles.open(path, "w") as file:
            for line in range(50):
                await file.write(f"{number} {line}\n")
        async with aiofiles.open(path) as file:
            assert [line async for line in file] == [f"{number} {n}\n" for n in range(50)]
        await aiofiles.os.remove(path)

    async def main():
        await asyncio.gather(*[one(number) for number in range(20)])
        assert await aiofiles.os.listdir(tmp_path) == []
        async with aiofiles.tempfile.TemporaryFile() as file:
            await file.write(b"x" * 1_000_000)
            await file.seek(0)
            assert len(await file.read()) == 1_000_000

    loop.run(main())

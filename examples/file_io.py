"""Files through aiofiles.

Guide topic: asynchronous file I/O.
"""

import asyncio
import tempfile
from pathlib import Path

import aiofiles
import aiofiles.os


async def write_text(path: Path, text: str) -> int:
    async with aiofiles.open(path, "w") as file:
        return await file.write(text)


async def read_text(path: Path) -> str:
    async with aiofiles.open(path) as file:
        return await file.read()


async def several_files(folder: Path) -> None:
    """write several files at once, then read them at once"""
    paths = [folder / f"note{n}.txt" for n in (1, 2, 3)]
    sizes = await asyncio.gather(*(write_text(p, f"note in {p.stem}") for p in paths))
    print("written:", sizes)
    print("read:", await asyncio.gather(*(read_text(path) for path in paths)))


async def line_by_line(folder: Path) -> None:
    """async for: one line at a time"""
    path = folder / "diary.txt"
    async with aiofiles.open(path, "w") as diary:
        await diary.writelines(f"day {n}\n" for n in (1, 2))
    async with aiofiles.open(path, "a") as diary:
        await diary.write("day 3\n")
    async with aiofiles.open(path) as diary:
        async for line in diary:
            print("line:", line.rstrip())


async def copy(folder: Path) -> None:
    """copy a binary file in chunks"""
    source, target = folder / "source.bin", folder / "target.bin"
    async with aiofiles.open(source, "wb") as file:
        await file.write(bytes(range(256)) * 1000)
    chunks = 0
    async with (
        aiofiles.open(source, "rb") as reader,
        aiofiles.open(target, "wb") as writer,
    ):
        while chunk := await reader.read(64 * 1024):
            await writer.write(chunk)
            chunks += 1
    print("chunks:", chunks, "| same:", source.read_bytes() == target.read_bytes())


async def file_system(folder: Path) -> None:
    """aiofiles.os: names, sizes and directories"""
    await aiofiles.os.makedirs(folder / "attic" / "box")
    await aiofiles.os.rename(folder / "note1.txt", folder / "attic" / "note1.txt")
    print("attic:", sorted(await aiofiles.os.listdir(folder / "attic")))
    print("size:", (await aiofiles.os.stat(folder / "target.bin")).st_size)
    await aiofiles.os.remove(folder / "target.bin")
    print("target gone:", not await aiofiles.os.path.exists(folder / "target.bin"))


async def missing_file(folder: Path) -> None:
    """a missing file raises as open() does"""
    try:
        await read_text(folder / "missing.txt")
    except FileNotFoundError as error:
        print("FileNotFoundError:", Path(error.filename).name)


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for demo in (several_files, line_by_line, copy, file_system, missing_file):
            print(f"-- {demo.__doc__}")
            await demo(Path(name))


if __name__ == "__main__":
    asyncio.run(main())

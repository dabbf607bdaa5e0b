"""The stdin and stdout of a process as pipe transports, its own and its child's."""

import asyncio
import os
import subprocess
import sys
import time

import pytest
from pipe_ends import is_blocking
from support import PATIENCE, script_command

USES_STDIN = """
import os, sys

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", 0))
    print((await reader.readline()).decode().strip(), os.get_blocking(0), flush=True)
    transport.close()
    await asyncio.sleep(0)

print(os.get_blocking(0), flush=True)
run(main())
print(os.get_blocking(0), sys.stdin.readline().strip(), flush=True)
"""


@pytest.mark.parametrize("kind", ["pipe", "pty"])
def test_the_stdin_of_a_process(impl, kind, closing):
    """Before, with and after a transport; afterwards a plain readline() waits again."""
    if kind == "pipe":
        inside, outside = closing(*os.pipe())
    else:
        outside, inside = closing(*os.openpty())
    process = subprocess.Popen(
        script_command(impl, USES_STDIN),
        stdin=inside,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        lines = [process.stdout.readline()]
        os.write(outside, b"one\n")
        lines.append(process.stdout.readline())
        if impl.name == "hotloop":
            deadline = time.monotonic() + 20 * PATIENCE
            while not is_blocking(inside):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)  # it waits for the second line
        os.write(outside, b"two\n")
        lines.append(process.stdout.readline())
        errors = process.stderr.read()
        process.wait(20 * PATIENCE)
    expected = [b"True\n", b"one False\n", b"True two\n"]
    if impl.name == "hotloop":
        assert (lines, errors) == (expected, b"")
    else:
        assert lines[:2] == expected[:2] and lines[2] != expected[2]


def test_a_subprocess_through_our_transports(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os, shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer);"
            "print(os.get_blocking(0), os.get_blocking(1), file=sys.stderr)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        data = bytes(range(256)) * 20_000
        out, err = await process.communicate(data)
        assert out == data and err == b"True True\n" and process.returncode == 0

    run(main())


def test_a_subprocess_that_does_not_read_its_stdin(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import os; os.close(0); print('closed', flush=True); input_is_gone = 1",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(bytes(1_000_000))
        assert out == b"closed\n" and process.returncode == 0

    run(main())

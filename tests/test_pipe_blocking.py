"""The blocking mode of a pipe's open file: taken for a transport, put back after it, also after a fork."""

import asyncio
import gc
import os
import subprocess
import sys
import warnings

import pytest
from pipe_ends import KINDS, Recorder, connect_both, drain, ends, fill, is_blocking
from support import PATIENCE, collect, script_command, script_output, turns, until

# -- the blocking mode -------------------------------------------------------


@pytest.fixture
def hotloop_only(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio leaves descriptors non-blocking")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["close", "end", "drop"])
def test_the_blocking_mode_is_put_back(loop, run, tmp_path, kind, ending, closing, hotloop_only):
    async def main():
        reader, writer = ends(kind, tmp_path)
        shared = closing(os.dup(reader.fileno()), os.dup(writer.fileno()))
        assert [is_blocking(fd) for fd in shared] == [True, True]
        reading, receiver, writing, sender = await connect_both(loop, reader, writer)
        assert [is_blocking(fd) for fd in shared] == [False, False]
        if ending == "end":
            os.close(shared[1])
            writing.abort()
            await until(lambda: receiver.lost)
            assert is_blocking(shared[0])
        elif ending == "close":
            reading.close()
            writing.close()
            assert [is_blocking(fd) for fd in shared] == [False, False]
            await asyncio.sleep(0)
            assert [is_blocking(fd) for fd in shared] == [True, True]
        else:
            reading.pause_reading()
            loop.remove_reader(writer.fileno())
            receiver.transport = sender.transport = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                del reading, writing, receiver, sender
                collect()
            assert [is_blocking(fd) for fd in shared] == [True, True]

    if (kind, ending) == ("pty", "end"):
        pytest.skip("a terminal's end is another one")
    run(main())


def test_a_non_blocking_descriptor_stays_so(loop, run, closing):
    async def main():
        read, write = closing(*os.pipe())
        os.set_blocking(read, False)
        transport, _ = await loop.connect_read_pipe(Recorder, os.fdopen(os.dup(read), "rb", 0))
        transport.close()
        await asyncio.sleep(0)
        assert not is_blocking(read)

    run(main())


def test_the_last_transport_of_an_open_file_puts_its_mode_back(loop, run, closing, hotloop_only):
    """stdin and stdout of a program are one open file, if both are its terminal."""

    async def main():
        master, slave = closing(*os.openpty())
        stdin, stdout, stderr = (os.fdopen(os.dup(slave), mode, 0) for mode in ("rb", "wb", "wb"))
        reading, receiver, writing, sender = await connect_both(loop, stdin, stdout)
        third, _ = await loop.connect_write_pipe(Recorder, stderr)
        reading.close()
        await asyncio.sleep(0)
        assert not is_blocking(slave)
        third.close()
        await asyncio.sleep(0)
        assert not is_blocking(slave)
        writing.write(b"still there\n")
        writing.close()
        await asyncio.sleep(0)
        assert is_blocking(slave)
        assert os.read(master, 100).strip() == b"still there"

    run(main())


def test_two_ends_of_a_pipe_do_not_share_their_mode(loop, run, closing, hotloop_only):
    async def main():
        read, write = closing(*os.pipe())
        reading, _, writing, _ = await connect_both(
            loop, os.fdopen(os.dup(read), "rb", 0), os.fdopen(os.dup(write), "wb", 0)
        )
        reading.close()
        await asyncio.sleep(0)
        assert (is_blocking(read), is_blocking(write)) == (True, False)
        writing.close()
        await asyncio.sleep(0)
        assert (is_blocking(read), is_blocking(write)) == (True, True)

    run(main())


def test_a_pipe_closed_behind_the_transports_back(loop, run, closing, hotloop_only):
    """Its number may be another file's by now, whose mode is none of our business."""

    async def main():
        read, write = closing(*os.pipe())
        file = os.fdopen(os.dup(read), "rb", 0)
        number = file.fileno()
        transport, protocol = await loop.connect_read_pipe(Recorder, file)
        transport.pause_reading()
        file.close()
        other, other_write = closing(*os.pipe())
        assert other == number
        os.set_blocking(other, False)
        transport.close()
        await asyncio.sleep(0)
        assert not is_blocking(other)
        assert protocol.events == ["made", ("lost", None)]

    run(main())


def test_a_forked_child_leaves_the_mode_to_its_parent(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio leaves descriptors non-blocking")
    loop = impl.new_event_loop()
    read, write = os.pipe()
    shared = os.dup(read)
    transport, protocol = loop.run_until_complete(
        loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                transport.pause_reading()
                protocol.transport = None
                del transport
                gc.collect()
            finally:
                os._exit(0)
    os.waitpid(child, 0)
    assert not is_blocking(shared)
    os.write(write, b"still watched")
    loop.run_until_complete(until(lambda: protocol.data))
    transport.close()
    turns(loop, 2)
    assert is_blocking(shared)
    loop.close()
    os.close(shared)
    os.close(write)


def test_a_forked_child_does_not_touch_its_parents_epoll(impl):
    if impl.name != "hotloop":
        pytest.skip("asyncio's child and parent share a selector")
    loop = impl.new_event_loop()
    read, write = os.pipe()
    transport, protocol = loop.run_until_complete(
        loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0))
    )
    already = fill(write)
    transport.write(bytes(1000))
    turns(loop, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                transport.abort()
            finally:
                os._exit(0)
    os.waitpid(child, 0)
    got = len(drain(read))
    loop.run_until_complete(until(lambda: not transport.get_write_buffer_size()))
    assert got + len(drain(read)) == already + 1000
    os.close(read)
    loop.run_until_complete(until(lambda: protocol.lost))
    loop.close()


LEFT_OPEN = """
import os, sys
kept = []

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(0, "rb", 0, closefd=False))
    if sys.argv[1] == "kept":
        kept.extend([transport, loop])

run(main())
"""


@pytest.mark.parametrize("how", ["dropped", "kept"])
def test_a_program_that_ends_without_closing_puts_the_mode_back(hotloop_only, impl, closing, how):
    read, write = closing(*os.pipe())
    command = script_command(impl, LEFT_OPEN, how, flags=("-W", "ignore"))
    process = subprocess.run(command, stdin=read, capture_output=True, timeout=20 * PATIENCE)
    assert (process.returncode, process.stderr) == (0, b"")
    assert is_blocking(read)


BLOCKED = """
import os, sys, threading

async def main(side):
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    came = threading.Event()
    received = []

    class Receiver(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)
            came.set()

    def other_end():
        if side == "write":
            while data := os.read(read, 65536):
                received.append(data)
        else:
            for data in (b"to one", b"to the other"):
                os.write(write, data)
                came.wait()

    thread = threading.Thread(target=other_end)
    if side == "write":
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb", 0))
        os.set_blocking(write, True)
        thread.start()
        transport.write(bytes(1 << 20))
        transport.close()
    else:
        for fd in (read, os.dup(read)):
            await loop.connect_read_pipe(Receiver, os.fdopen(fd, "rb", 0))
        os.set_blocking(read, True)
        thread.start()
        while len(received) < 2:
            await asyncio.sleep(0)
    await asyncio.to_thread(thread.join)
    print(b"".join(received).strip(bytes(1)).decode() or sum(map(len, received)))

run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("side, result", [("read", "to oneto the other"), ("write", "1048576")])
def test_threads_go_on_while_a_pipe_blocks_that_somebody_made_blocking(impl, side, result):
    assert script_output(impl, BLOCKED, side, flags=("-W", "ignore")) == result + "\n"


# -- stdin and stdout of a process -------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "pty"])
def test_a_process_inherits_a_blocking_stdin(loop, run, closing, kind, hotloop_only):
    """One that starts while our transport is open has what we have; a later one what was before."""
    if kind == "pipe":
        inside, outside = closing(*os.pipe())
    else:
        outside, inside = closing(*os.openpty())
    command = [sys.executable, "-c", "import os; print(os.get_blocking(0))"]

    def child_says():
        return subprocess.run(
            command, stdin=inside, capture_output=True, timeout=20 * PATIENCE
        ).stdout

    async def main():
        assert child_says() == b"True\n"
        transport, _ = await loop.connect_read_pipe(Recorder, os.fdopen(os.dup(inside), "rb", 0))
        assert child_says() == b"False\n"
        transport.close()
        await asyncio.sleep(0)
        assert child_says() == b"True\n"

    run(main())

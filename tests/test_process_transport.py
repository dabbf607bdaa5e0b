"""A child process's transport: what its protocol is told, signals, closing, starts that are cancelled."""

import asyncio
import re
import signal
import subprocess
import sys
import time

import pytest
from processes import LIMIT, PIPE, children, ended_but_not_told, finish, pidfds
from support import ASYNCIO, HOTLOOP, Logged, outcome, same_on_both, until


class Recorder(asyncio.SubprocessProtocol):
    def __init__(self):
        self.calls = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append("made")
        self.transport = transport
        self.pipes = [transport.get_pipe_transport(fd) is not None for fd in (0, 1, 2)]

    def pipe_data_received(self, fd, data):
        self.calls.append((fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.calls.append((fd, exc))

    def process_exited(self):
        self.calls.append(("exited", self.transport.get_returncode()))

    def connection_lost(self, exc):
        self.calls.append(("lost", exc))
        self.transport.close()
        self.lost.set_result(None)


def pairs(calls, kind):
    return [call for call in calls if len(call) == 2 and isinstance(call[1], kind)]


@pytest.mark.parametrize(
    "options",
    [{}, {"stdin": None}, {"stdin": None, "stdout": None}, {"stderr": subprocess.STDOUT}],
    ids=str,
)
def test_what_a_protocol_is_told(options, nothing_left):
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            script = "echo out; echo err >&2; sleep 0.05; exit 7"
            transport, protocol = await loop.subprocess_shell(Recorder, script, **options)
            assert protocol.calls[0] == "made"
            await finish(protocol.lost)
            assert protocol.calls[-1] == ("lost", None)
            # How the data is cut into pieces, and what ends first, is up to the system.
            data = [
                b"".join(d for f, d in pairs(protocol.calls, bytes) if f == fd) for fd in (1, 2)
            ]
            told = [call for call in protocol.calls if call[0] not in (1, 2) or call[1] is None]
            return protocol.pipes, data, sorted(map(str, told))

        return implementation.run(main())

    same_on_both(scenario)


def test_the_transport_is_asyncios(nothing_left):
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.subprocess_exec(Recorder, "cat")
            popen = transport.get_extra_info("subprocess")
            assert type(popen) is subprocess.Popen and popen.pid == transport.get_pid()
            seen = [
                isinstance(transport, asyncio.SubprocessTransport),
                transport.get_returncode(),
                transport.is_closing(),
                transport.get_protocol() is protocol,
                [type(transport.get_pipe_transport(fd)).__mro__[-3] for fd in (0, 1, 2)],
                transport.get_pipe_transport(3),
                re.sub(
                    r"^<\S+ pid=\d+ |fd=\d+| bufsize=\d+|<_\w+|<\w+Transport", "", repr(transport)
                ),
            ]
            transport.get_pipe_transport(0).close()
            await finish(protocol.lost)
            popen.wait()
            return [*seen, transport.get_returncode(), popen.returncode]

        return implementation.run(main())

    same_on_both(scenario)


@pytest.mark.parametrize("how", ["send_signal", "terminate", "kill"])
def test_signals_before_and_after_the_end(how, nothing_left):
    def scenario(implementation):
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "60")
            send = getattr(process, how)
            args = (signal.SIGINT,) if how == "send_signal" else ()
            send(*args)
            first = await finish(process.wait())
            return first, process.returncode, outcome(send, *args)

        return implementation.run(main())

    same_on_both(scenario)


@pidfds
def test_a_signal_between_the_end_and_its_news(nothing_left, logged):
    """Popen looks whether the process has ended, and so reaps it: the code is right all the same."""

    async def main():
        process = await ended_but_not_told(9)
        process._transport.get_extra_info("subprocess").send_signal(signal.SIGTERM)
        return await finish(process.wait())

    assert HOTLOOP.run(main()) == 9
    assert logged.messages() == []


def test_waiting_more_than_once(loop, run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        waiters = [asyncio.create_task(process.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        waiters[2].cancel()
        await asyncio.sleep(0)
        process.stdin.close()
        results = await finish(asyncio.gather(*waiters, return_exceptions=True))
        assert results[:2] + results[3:] == [0] * 4
        assert isinstance(results[2], asyncio.CancelledError)
        assert await finish(process.wait()) == 0

    run(main())


def test_a_closed_transport_kills_its_process(loop, run, nothing_left):
    async def main():
        transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "60")
        transport.close()
        await finish(protocol.lost)
        assert transport.get_returncode() == -signal.SIGKILL

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_start_that_is_cancelled(loop, run, turns, nothing_left):
    async def main():
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        try:
            process = await finish(starting)
        except asyncio.CancelledError:
            return
        process.kill()
        await finish(process.communicate(b""))

    run(main())
    run(asyncio.sleep(0.01))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_a_start_by_eager_tasks(loop, run, nothing_left):
    """Nobody has the process before its protocol has its pipes."""

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None and process.stdout is not None
        assert await finish(process.communicate(b"!")) == (b"!", None)

    run(main())


def test_a_start_that_is_cancelled_twice(run, nothing_left):
    async def main():
        starting = asyncio.create_task(asyncio.create_subprocess_exec("sleep", "60", stdout=PIPE))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finish(starting)
        await until(lambda: not children())
        await asyncio.sleep(0.01)

    HOTLOOP.run(main())


def test_debug_mode_logs(nothing_left, logged):
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = LIMIT
            process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            await finish(process.communicate(b"!"))
            transport, protocol = await loop.subprocess_exec(Recorder, "sleep", "60", stdin=None)
            transport.close()
            await finish(protocol.lost)

        with Logged() as log:
            implementation.run(main(), debug=True)
        # Whose thread or whose pipe says it, and when, differs.
        told = [r.getMessage().split(" ")[0:3:2] for r in log.records if r.name == "asyncio"]
        names = {re.sub(r"<\S+|\d+", "", " ".join(words)) for words in told}
        return {name for name in names if "selector" not in name.lower()}

    ours, stocks = scenario(HOTLOOP), scenario(ASYNCIO)
    assert {"execute 'cat':", "process created:"} <= ours
    assert not {name for name in stocks - ours if "exited" not in name and "Using" not in name}


def test_programs_that_replace_connect_read_pipe_are_asked(loop, run):
    asked = []
    stock = loop.connect_read_pipe

    async def connect_read_pipe(*args):
        asked.append(args)
        return await stock(*args)

    async def main():
        loop.connect_read_pipe = connect_read_pipe
        process = await asyncio.create_subprocess_exec("echo", "!", stdout=PIPE, stderr=PIPE)
        assert await finish(process.communicate()) == (b"!\n", b"")
        assert len(asked) == 2

    run(main())


@pytest.mark.parametrize("which", ["_make_read_pipe_transport", "_make_write_pipe_transport"])
def test_a_pipe_that_cannot_be_connected(which, nothing_left, monkeypatch):
    async def main():
        def fail(*args):
            raise OSError("no pipe")

        monkeypatch.setattr(asyncio.get_running_loop(), which, fail, raising=False)
        with pytest.raises(OSError, match="no pipe"):
            await finish(
                asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            )
        await asyncio.sleep(0.01)

    HOTLOOP.run(main())


@pidfds
@pytest.mark.parametrize("command", ["true", "sleep 0.01"])
def test_what_a_process_left_in_its_pipes_is_told_before_its_end(command):
    """Also where the program keeps the loop busy until all has happened. asyncio's order varies with its version."""

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.events = []
            self.over = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            time.sleep(0.05)

        def pipe_data_received(self, fd, data):
            self.events.append(data)

        def process_exited(self):
            self.events.append("exited")

        def connection_lost(self, exc):
            self.over.set_result(None)

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            Protocol, "sh", "-c", f"{command}; echo data", stdin=None, stderr=None
        )
        await protocol.over
        transport.close()
        return protocol.events

    assert HOTLOOP.run(main()) == [b"data\n", "exited"]


@pidfds
def test_writing_to_a_process_that_has_ended():
    """On asyncio the write sometimes comes first."""

    async def main():
        for _ in range(20):
            process = await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)
            await process.wait()
            process.stdin.write(b"x")
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await process.stdin.drain()

    HOTLOOP.run(main())

"""Child processes: how they are started, how their end is told, and that nothing is left of them.

Lessons rows 7 and 24 to 26: at-fork, SIGCHLD, sockets instead of pipes, descriptors left open.
"""

import asyncio
import errno
import gc
import inspect
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from hotloop import _process
from support import (
    ASYNCIO,
    HOTLOOP,
    PATIENCE,
    Logged,
    close_tidily,
    collect,
    open_descriptors,
    outcome,
    run_script,
    same_on_both,
    script_output,
    until,
)

LIMIT = 20 * PATIENCE
PIPE = subprocess.PIPE

pidfds = pytest.mark.skipif(not _process._pidfds_work(), reason="there are no pidfds here")


def finish(awaitable):
    return asyncio.wait_for(awaitable, LIMIT)


async def output(*command, **options):
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    out, _ = await finish(process.communicate())
    assert process.returncode == 0
    return out.decode()


def children():
    """The processes that are children of this one, zombies included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def threads_end(but=None):
    """asyncio's waiting threads may have something left to do when all is told."""
    deadline = time.monotonic() + LIMIT
    while set(threading.enumerate()) - set(but or [threading.main_thread()]):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def nothing_left(no_new_descriptors):
    before = children(), threading.enumerate()
    yield
    collect()
    subprocess._cleanup()
    threads_end(before[1])
    assert (children(), threading.enumerate()) == before


# -- starting ----------------------------------------------------------------

SHOWS = {
    "cwd": ("print(os.getcwd())", {"cwd": "/usr"}),
    "env": ("print(sorted(os.environ.items()))", {"env": {"WORD": "set", "LC_CTYPE": "C.UTF-8"}}),
    "session": ("print(os.getsid(0) == os.getpid())", {"start_new_session": True}),
    "group of its own": ("print(os.getpgid(0) == os.getpid())", {"process_group": 0}),
    "umask": ("print(os.umask(0))", {"umask": 0o27}),
    "pipesize": ("import fcntl; print(fcntl.fcntl(1, 1032))", {"pipesize": 1 << 16}),
    "small pipes": ("import fcntl; print(fcntl.fcntl(1, 1032))", {"pipesize": 1 << 12}),
    "preexec_fn": ("print(os.getpriority(0, 0) > 3)", {"preexec_fn": lambda: os.nice(5)}),
    "executable": ("print(sys.argv)", {"executable": sys.executable}),
    "signals kept": (
        "import signal; print(signal.getsignal(signal.SIGPIPE))",
        {"restore_signals": False},
    ),
    "stderr as stdout": ("print('!', file=sys.stderr)", {"stderr": subprocess.STDOUT}),
    "no stdin": ("print(repr(sys.stdin.read()))", {"stdin": subprocess.DEVNULL}),
}


@pytest.mark.parametrize("keyword", SHOWS)
def test_keywords_of_popen(keyword, nothing_left):
    source, options = SHOWS[keyword]

    def scenario(implementation):
        command = [sys.executable, "-c", "import os, sys; " + source]
        return implementation.run(output(*command, **options))

    assert same_on_both(scenario).strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_users_and_groups(nothing_left):
    def scenario(implementation, **options):
        return implementation.run(output("sh", "-c", "id -u; id -g; id -G", **options))

    assert same_on_both(lambda impl: scenario(impl, user=65534)).startswith("65534\n0\n")
    assert same_on_both(lambda impl: scenario(impl, group=65534)).startswith("0\n65534\n")
    groups = {"user": 65534, "group": 65534, "extra_groups": [65532, 65533]}
    assert (
        same_on_both(lambda impl: scenario(impl, **groups)) == "65534\n65534\n65534 65532 65533\n"
    )


@pytest.mark.parametrize("close_fds", [True, False])
def test_descriptors_passed_on(loop, run, close_fds):
    async def main():
        fds = [*os.pipe(), *os.pipe()]
        _, passed, other, _ = fds
        try:
            os.set_inheritable(other, True)
            source = f"import os; os.write({passed}, b'!'); os.fstat({other})"
            if close_fds:
                options = {"pass_fds": (passed,)}
            else:
                os.set_inheritable(passed, True)
                options = {"close_fds": False}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", source, stderr=PIPE, **options
            )
            _, err = await finish(process.communicate())
            assert os.read(fds[0], 10) == b"!"
            expected = (1, True) if close_fds else (0, False)
            assert (process.returncode, b"Bad file descriptor" in err) == expected
        finally:
            for fd in fds:
                os.close(fd)

    run(main())


def test_stdio_of_all_kinds(loop, run, tmp_path):
    """Pipes are real pipes: what opens /dev/stdin or /proc/self/fd/1 works."""

    async def main():
        with open(tmp_path / "file", "w+b") as file:
            process = await asyncio.create_subprocess_shell(
                "cat /dev/stdin > /proc/self/fd/1; echo end | tee /dev/stderr >/dev/null",
                stdin=PIPE,
                stdout=PIPE,
                stderr=file,
            )
            ends = [process._transport.get_pipe_transport(fd) for fd in (0, 1)]
            for end in ends:
                fd = end.get_extra_info("pipe").fileno()
                assert stat.S_ISFIFO(os.fstat(fd).st_mode)
            assert await finish(process.communicate(b"data\n")) == (b"data\n", None)
            assert process.returncode == 0
            file.seek(0)
            assert file.read() == b"end\n"

    run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        (("/nonexistent/program",), {}),
        (("no-such-program-on-the-path",), {}),
        (("/etc/passwd",), {}),  # not executable
        (("true",), {"cwd": "/nonexistent"}),
        (("true", "a\0b"), {}),
        (("true",), {"env": {"A=B": "c"}}),
        (("true",), {"preexec_fn": lambda: 1 / 0}),
        (("true",), {"no_such_keyword": 1}),
        (("true",), {"pass_fds": (-1,)}),
        (("true",), {"user": "no-such-user"}),
        (("true",), {"stdin": 12345}),
        (("true",), {"universal_newlines": True}),
        (("true",), {"shell": True}),
        (("true",), {"bufsize": 1}),
        (("true",), {"text": True}),
        (("true",), {"encoding": "utf-8"}),
        (("true",), {"errors": "strict"}),
        (("true",), {"startupinfo": object()}),
        (("true",), {"creationflags": 1}),
        (("true", 5), {}),
        ((None,), {}),
    ],
    ids=str,
)
def test_what_cannot_be_started(arguments, nothing_left):
    args, options = arguments

    def scenario(implementation):
        async def main():
            options_here = dict(stdin=PIPE, stdout=PIPE, stderr=PIPE) | options
            await asyncio.create_subprocess_exec(*args, **options_here)

        return outcome(implementation.run, main())

    assert same_on_both(scenario)[0] == "raised"


def test_every_keyword_of_popen_has_a_test():
    tested = {"args", "shell", "stdout", "user", "group", "extra_groups", "close_fds", "pass_fds"}
    tested.update(*(options for _, options in SHOWS.values()))
    tested |= {"universal_newlines", "text", "encoding", "errors", "bufsize"}  # refused
    tested |= {"startupinfo", "creationflags"}  # for Windows
    assert set(inspect.signature(subprocess.Popen).parameters) <= tested


def test_a_thousand_failed_spawns(loop, run, nothing_left):
    async def main():
        for _ in range(1000):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    "/nonexistent/program", stdin=PIPE, stdout=PIPE, stderr=PIPE
                )

    run(asyncio.sleep(0))
    collect()
    descriptors = open_descriptors()
    before = len(gc.get_objects())
    run(main())
    collect()
    assert open_descriptors() == descriptors
    assert len(gc.get_objects()) - before < 100


def test_a_spawn_that_runs_out_of_descriptors(impl):
    """Whichever descriptor is the first that cannot be had, nothing is left open."""
    source = """
        import gc, os, resource, subprocess, warnings

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        async def main():
            process = await asyncio.create_subprocess_exec("true", stdin=-1, stdout=-1, stderr=-1)
            await process.communicate(b"")
            await asyncio.sleep(0.01)
            before = descriptors()
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            outcomes = set()
            for room in range(14):
                resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1 + room, most))
                try:
                    process = await asyncio.create_subprocess_exec(
                        "true", stdin=-1, stdout=-1, stderr=-1)
                    await process.communicate(b"")
                    outcomes.add(process.returncode)
                    del process
                except OSError as exc:
                    outcomes.add(exc.errno)
                resource.setrlimit(resource.RLIMIT_NOFILE, (1000, most))
                await asyncio.sleep(0.01)
                gc.collect()
                assert descriptors() == before, (room, os.listdir("/proc/self/fd"))
            print(sorted(outcomes))

        warnings.simplefilter("ignore")
        run(main())
        """
    if impl is ASYNCIO:
        pytest.skip("asyncio forgets its pipes and its pidfd")
    result = run_script(impl, source)
    assert result.stdout == str([0, errno.EMFILE]) + "\n", result


# -- the transport -----------------------------------------------------------


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


async def ended_but_not_told(code):
    """A process that has just ended, with a loop that has had no time to hear of it."""
    process = await asyncio.create_subprocess_shell(f"read word; exit {code}", stdin=PIPE)
    process.stdin.write(b"word\n")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


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


# -- the end -----------------------------------------------------------------


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "exit 255", "kill -9 $$", "kill -USR1 $$"])
def test_return_codes(script, nothing_left):
    def scenario(implementation):
        async def main():
            process = await asyncio.create_subprocess_shell(script)
            return await finish(process.wait())

        return implementation.run(main())

    same_on_both(scenario)


def ends_unseen(pid):
    """Wait until a process has ended, and take its status away from whoever waits for it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def statuses_are_kept():
    process = subprocess.Popen(["sh", "-c", "exit 5"])
    pidfd = os.pidfd_open(process.pid)
    ends_unseen(process.pid)
    process.returncode = 5
    try:
        return _process._status_kept(pidfd) == 5
    finally:
        os.close(pidfd)


async def reaped_by_somebody_else(end):
    process = await asyncio.create_subprocess_shell(f"read word; {end}", stdin=PIPE)
    process.stdin.write(b"word\n")
    taken = ends_unseen(process.pid)
    return taken, await finish(process.wait())


@pidfds
@pytest.mark.parametrize("end", ["exit 5", "kill -9 $$"])
def test_reaped_by_somebody_else(end, logged):
    if not statuses_are_kept():
        pytest.skip("needs Linux 6.15")
    taken, returncode = HOTLOOP.run(reaped_by_somebody_else(end))
    assert taken == returncode != 0
    assert logged.messages() == []


@pidfds
def test_reaped_by_somebody_else_on_an_old_kernel(monkeypatch, logged):
    monkeypatch.setattr(_process, "_status_kept", lambda pidfd: None)

    def scenario(implementation):
        logged.records.clear()
        returncode = implementation.run(reaped_by_somebody_else("exit 5"))[1]
        return returncode, [re.sub(r"pid \d+", "pid N", message) for message in logged.messages()]

    if sys.version_info >= (3, 12):
        result = same_on_both(scenario)
    else:  # asyncio's thread would have been the first
        result = scenario(HOTLOOP)
    text = {True: "Unknown child process pid N, will report returncode 255"}.get(
        sys.version_info < (3, 12),
        "child process pid N exit status already read:  will report returncode 255",
    )
    assert result == (255, [text])


@pidfds
def test_reaped_before_the_loop_could_watch(monkeypatch, logged):
    def pidfd_open(pid):
        ends_unseen(pid)
        raise ProcessLookupError(errno.ESRCH, "No such process")

    async def main():
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
        process = await asyncio.create_subprocess_exec("false")
        return await finish(process.wait())

    _process._pidfds_work()
    assert HOTLOOP.run(main()) == 255
    [message] = logged.messages()
    assert "will report returncode 255" in message


def test_reaped_by_a_sigchld_handler():
    """As the first process of a container does, which reaps whatever ends."""
    source = """
        import os, signal

        def reap(signum, frame):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        async def child(number):
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", f"sleep 0.02; exit {number}")
            return await process.wait()

        async def main():
            print(await asyncio.gather(*(child(n) for n in range(20))))

        signal.signal(signal.SIGCHLD, reap)
        run(main())
        """
    if not statuses_are_kept():
        pytest.skip("needs Linux 6.15")
    assert script_output(HOTLOOP, source) == f"{list(range(20))}\n"


def test_reaped_by_popen(logged):
    async def main():
        process = await ended_but_not_told(6)
        process._transport.get_extra_info("subprocess").wait()
        return await finish(process.wait())

    assert HOTLOOP.run(main()) == 6
    assert logged.messages() == []


def test_sigchld_is_left_alone(loop, run):
    before = signal.getsignal(signal.SIGCHLD)
    seen = []
    signal.signal(signal.SIGCHLD, lambda *args: seen.append(args))
    mine = signal.getsignal(signal.SIGCHLD)
    try:

        async def main():
            await output("true")
            assert signal.getsignal(signal.SIGCHLD) is mine

        run(main())
        assert len(seen) == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


@pidfds
def test_a_running_process_costs_one_descriptor_and_no_thread(nothing_left):
    async def main():
        await output("true")
        threads, before = threading.active_count(), open_descriptors()
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        assert threading.active_count() == threads
        new = {fd: what for fd, what in open_descriptors().items() if fd not in before}
        assert sorted(what.partition(":")[0] for what in new.values()) == ["anon_inode", "pipe"]
        # Another child has neither.
        listing = await output("ls", "-l", "/proc/self/fd")
        assert "pidfd" not in listing and listing.count("pipe:") <= 3
        await finish(process.communicate(b""))

    HOTLOOP.run(main())


@pidfds
def test_without_a_pidfd_a_thread_waits(monkeypatch, nothing_left):
    def pidfd_open(pid):
        raise OSError(errno.EMFILE, "Too many open files")

    async def main():
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.05; exit 3")
        assert any("waitpid" in thread.name for thread in threading.enumerate())
        return await finish(process.wait())

    _process._pidfds_work()
    assert HOTLOOP.run(main()) == 3


@pytest.mark.parametrize(
    "lack", ["del os.pidfd_open", "os.pidfd_open = refuse", "os.waitid = not_of_pidfds"]
)
def test_where_there_are_no_pidfds(impl, lack):
    source = f"""
        import os, threading

        def refuse(*args):
            raise PermissionError("sandbox")

        def not_of_pidfds(*args):
            raise OSError(22, "Invalid argument")

        async def child(number):
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", f"cat; exit {{number}}", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"!")
            return out, process.returncode

        async def main():
            return await asyncio.gather(*(child(number) for number in range(5)))

        def in_thread():
            results.append(run(main()))

        {lack}
        results = []
        threads = [threading.Thread(target=in_thread) for _ in range(2)]
        for thread in threads: thread.start()
        in_thread()
        for thread in threads: thread.join()
        print(results == [[(b"!", number) for number in range(5)]] * 3)
        """
    if impl is ASYNCIO and (3, 12) <= sys.version_info < (3, 14):
        pytest.skip("asyncio has looked for pidfds by then")
    assert script_output(impl, source) == "True\n"


def test_loops_of_several_threads_at_once(impl, nothing_left):
    results = []

    async def main(thread):
        for number in range(5):
            process = await asyncio.create_subprocess_shell(
                f"cat; exit {number}", stdin=PIPE, stdout=PIPE
            )
            out, _ = await finish(process.communicate(b"%d" % thread))
            results.append((thread, number, out, process.returncode))

    threads = [
        threading.Thread(target=lambda n=n: impl.run(main(n)), name=f"mine-{n}") for n in range(4)
    ]
    for thread in threads:
        thread.start()
    impl.run(main(4))
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(results) == [(t, n, b"%d" % t, n) for t in range(5) for n in range(5)]


def test_processes_of_a_forked_child(impl):
    source = """
        import os, sys, warnings
        warnings.simplefilter("ignore")

        async def main(number):
            process = await asyncio.create_subprocess_shell(
                f"cat; exit {number}", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"!")
            return out, process.returncode

        async def forking():
            kept = await asyncio.create_subprocess_exec("cat", stdin=-1)
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                print(run(main(4)), flush=True)
                os._exit(0)
            print(os.waitpid(child, 0)[1], flush=True)
            await kept.communicate(b"")
            print(kept.returncode, await main(5))

        run(forking())
        """
    assert script_output(impl, source) == "(b'!', 4)\n0\n0 (b'!', 5)\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14")
def test_processes_of_subinterpreters(impl):
    source = """
        from concurrent import interpreters

        code = '''if True:
            import asyncio, hotloop

            async def main():
                process = await asyncio.create_subprocess_shell("cat; exit 4", stdin=-1, stdout=-1)
                out, _ = await process.communicate(b"!")
                print(out, process.returncode, flush=True)

            with asyncio.Runner(loop_factory=FACTORY) as runner:
                runner.run(main())
        '''
        for _ in range(2):
            interpreter = interpreters.create()
            interpreter.exec(code)
            interpreter.close()
        """
    factory = f"{impl.name}.new_event_loop"
    assert script_output(impl, source.replace("FACTORY", factory)) == "b'!' 4\n" * 2


@pidfds
def test_a_loop_closed_while_a_process_runs(nothing_left, recwarn):
    loop = HOTLOOP.new_event_loop()
    process = loop.run_until_complete(start_cat())
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    popen.kill()
    popen.wait()
    del process
    collect()


async def start_cat():
    return await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)


def test_a_transport_that_is_dropped(nothing_left):
    """It is the loop's as long as the process runs."""

    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "read word; exit 4", stdin=PIPE)
        transport, pid = process._transport, process.pid
        stdin = process.stdin
        del process
        collect()
        stdin.write(b"word\n")
        assert await finish(transport._wait()) == 4 and pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    HOTLOOP.run(main())


# -- child watchers, until 3.13 ------------------------------------------------

WATCHERS = [
    "SafeChildWatcher",
    "FastChildWatcher",
    "MultiLoopChildWatcher",
    "ThreadedChildWatcher",
]

watchers = pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio has none any more")


@watchers
@pytest.mark.parametrize("name", [*WATCHERS, "PidfdChildWatcher"])
def test_a_child_watcher_that_was_set_is_used(impl, name):
    source = f"""
        import warnings
        warnings.simplefilter("ignore")

        class Watcher(asyncio.{name}):
            def add_child_handler(self, pid, callback, *args):
                print("asked")
                super().add_child_handler(pid, callback, *args)

        watcher = Watcher()
        asyncio.set_child_watcher(watcher)

        async def main():
            watcher.attach_loop(asyncio.get_running_loop())
            process = await asyncio.create_subprocess_shell("cat; exit 3", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"!")
            print(out, process.returncode)
            watcher.close()

        run(main())
        """
    assert script_output(impl, source) == "asked\nb'!' 3\n"


@watchers
def test_a_child_watcher_that_is_not_active():
    source = """
        import warnings
        warnings.simplefilter("ignore")
        asyncio.set_child_watcher(asyncio.SafeChildWatcher())

        async def main():
            try:
                await asyncio.create_subprocess_exec("true")
            except RuntimeError as exc:
                print(exc)

        run(main())
        """
    assert "not activated" in same_on_both(lambda impl: script_output(impl, source))


@watchers
def test_looking_at_the_default_child_watcher_changes_nothing(impl):
    source = """
        import threading, warnings
        warnings.simplefilter("ignore")
        watcher = asyncio.get_child_watcher()

        async def main():
            watcher.attach_loop(None)
            process = await asyncio.create_subprocess_exec("cat", stdin=-1)
            print(threading.active_count())
            await process.communicate(b"")
            print(process.returncode, asyncio.get_child_watcher() is watcher)

        run(main())
        """
    count, rest = script_output(impl, source).split("\n", 1)
    assert rest == "0 True\n"
    assert impl is ASYNCIO or count == "1"


# -- many --------------------------------------------------------------------


def test_a_thousand_spawns(impl, nothing_left):
    """No descriptor, thread, zombie or object is left."""
    loop = impl.new_event_loop()

    async def plain():
        process = await asyncio.create_subprocess_exec("/bin/true")
        assert await process.wait() == 0

    async def piped():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"data") == (b"data", None)

    async def many(count):
        for _ in range(count // 50):
            await asyncio.gather(*(plain() if n % 5 else piped() for n in range(50)))

    loop.run_until_complete(many(50))
    loop.run_until_complete(asyncio.sleep(0.01))
    collect()
    descriptors, before = open_descriptors(), len(gc.get_objects())
    loop.run_until_complete(many(1000))
    loop.run_until_complete(asyncio.sleep(0.01))
    collect()
    assert children() == []
    assert open_descriptors() == descriptors
    assert len(gc.get_objects()) - before < 100
    close_tidily(loop)

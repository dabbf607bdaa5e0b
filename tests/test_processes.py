"""Child processes: how they are started, what cannot be started, and a thousand of them.

What uvloop#505, #409 and #185 are about: sockets instead of pipes, SIGCHLD taken, descriptors left open.
"""

import asyncio
import errno
import gc
import inspect
import os
import stat
import subprocess
import sys

import pytest
from processes import PIPE, children, finish, output
from support import (
    ASYNCIO,
    close_tidily,
    collect,
    open_descriptors,
    outcome,
    run_script,
    same_on_both,
    timer_opened,
    until,
)

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
            for _ in range(5):
                await asyncio.sleep(0.01)  # the loop may open a timer for that
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
        await until(lambda: open_descriptors() == descriptors)

    loop.run_until_complete(timer_opened())
    descriptors = open_descriptors()
    loop.run_until_complete(many(50))
    collect()
    before = len(gc.get_objects())
    loop.run_until_complete(many(1000))
    collect()
    assert children() == []
    assert len(gc.get_objects()) - before < 100
    close_tidily(loop)

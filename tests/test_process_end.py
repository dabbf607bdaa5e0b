"""The end of a child process: how it is told, whoever reaps it, and that nothing is left.

At-fork handlers and SIGCHLD are the program's own: uvloop#118, #206, #409.
"""

import asyncio
import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import weakref

import hotloop
import pytest
from hotloop import _process
from processes import LIMIT, PIPE, ended_but_not_told, finish, output, pidfds, threads_end
from support import (
    ASYNCIO,
    HOTLOOP,
    PORTABLE,
    collect,
    open_descriptors,
    same_on_both,
    script_output,
)

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
    watch_child = hotloop.EventLoop._watch_child

    def reap_and_watch(loop, pid, transport):
        ends_unseen(pid)
        return watch_child(loop, pid, transport)

    async def main():
        monkeypatch.setattr(hotloop.EventLoop, "_watch_child", reap_and_watch)
        process = await asyncio.create_subprocess_exec("false")
        return await finish(process.wait())

    assert HOTLOOP.run(main()) == 255
    [message] = logged.messages()
    assert "will report returncode 255" in message


@pidfds
def test_a_callback_that_fails_is_reported_and_leaves_nothing(nothing_left):
    """What comes out of a transport's method goes to the exception handler, as a callback's does."""

    class Told:
        def __init__(self):
            self.codes = []

        def _process_ended(self, returncode):
            self.codes.append(returncode)
            raise LookupError("told")

    async def main():
        loop = asyncio.get_running_loop()
        contexts = []
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        told = Told()
        with subprocess.Popen(["sh", "-c", "exit 7"]) as process:
            loop._watch_child(process.pid, told).start()
            while not contexts:
                await asyncio.sleep(0.01)
            process.returncode = 7
        [context] = contexts
        return told.codes, type(context["exception"]), context["message"].partition("<")[0]

    assert HOTLOOP.run(main()) == ([7], LookupError, "Exception in callback ")


@pidfds
def test_a_loop_closed_before_the_process_has_ended(nothing_left):
    """Its transport goes without being told, and the pidfd is closed."""
    loop = HOTLOOP.new_event_loop()

    class Untold:
        def _process_ended(self, returncode):
            raise AssertionError

    with subprocess.Popen(["sleep", "60"]) as process:
        before = open_descriptors()
        untold = Untold()
        gone = weakref.ref(untold)
        loop._watch_child(process.pid, untold).start()
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert "pidfd" in str(open_descriptors())
        del untold
        assert gone() is not None
        loop.close()
        process.kill()
        assert gone() is None
        assert open_descriptors() == before


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), TypeError),
        ((1,), TypeError),
        (("pid", None), TypeError),
        ((1 << 80, None), OverflowError),
        (((1 << 32) + 1, None), OverflowError),
        ((-1, None), OSError),
        ((0, None), OSError),
    ],
)
def test_processes_that_cannot_be_watched(args, error, nothing_left):
    loop = HOTLOOP.new_event_loop()
    with pytest.raises(error):
        loop._watch_child(*args)
    loop.close()
    with pytest.raises((RuntimeError, error)):
        loop._watch_child(*args)


@pidfds
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


@pidfds
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
    def watch_child(loop, pid, transport):
        raise OSError(errno.EMFILE, "Too many open files")

    async def main():
        monkeypatch.setattr(hotloop.EventLoop, "_watch_child", watch_child)
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.05; exit 3")
        assert any("waitpid" in thread.name for thread in threading.enumerate())
        return await finish(process.wait())

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


@pidfds
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


@pidfds
def test_a_process_that_outlives_its_loop(logged, recwarn):
    """Before 3.12 it is left alone, by asyncio's waiting thread; later its transport kills it."""

    def scenario(implementation):
        into, out = os.pipe(), os.pipe()

        async def main():
            process = await asyncio.create_subprocess_exec("cat", stdin=into[0], stdout=out[1])
            return process.pid

        pid = implementation.run(main())
        collect()
        os.close(into[0])
        os.close(out[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(into[1], b"!")
        answer = os.read(out[0], 1)
        os.close(into[1])
        os.close(out[0])
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        subprocess._cleanup()
        threads_end()
        return answer

    assert same_on_both(scenario) == (b"!" if sys.version_info < (3, 12) else b"")


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
    assert impl is ASYNCIO or PORTABLE or count == "1"

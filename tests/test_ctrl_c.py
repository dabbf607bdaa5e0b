"""Ctrl-C in every state of the loop.

uvloop#295, #335 ignore Ctrl-C or hang after it. libuv retries EINTR inside its poll, so a loop
over it hears of a signal only through the wake-up descriptor.
"""

import signal
import subprocess
import textwrap
import time

import pytest
from support import PATIENCE, clean_environment, script_command

# Far above what a right loop needs (a millisecond), far below a polling interval or a hang.
PROMPT = 5 * PATIENCE


def interrupt(impl, source, *, again_after=None, ready="READY"):
    """Run source, send it SIGINT once it says READY; its output and how long it lived after that.
    again_after is what it says before it is sent a second one, as two that wait are one to a process."""
    child = subprocess.Popen(
        script_command(impl, source),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(PYTHONUNBUFFERED="1"),
    )
    try:
        assert child.stdout.readline().strip() == ready
        time.sleep(0.05)  # now it is idle, or busy
        before = time.monotonic()
        child.send_signal(signal.SIGINT)
        said = ""
        if again_after is not None:
            said = child.stdout.readline()
            assert said.strip() == again_after
            child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=25 * PATIENCE)
        return said + output, errors, time.monotonic() - before, child.returncode
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def interruptible(statement, before="", after=""):
    """A program that runs one statement until Ctrl-C, and says that it came."""
    lines = textwrap.dedent(statement).strip()
    return "\n".join(
        [
            textwrap.dedent(before),
            "try:",
            textwrap.indent(lines, "    "),
            "except KeyboardInterrupt:",
            '    print("interrupted", flush=True)',
            textwrap.dedent(after),
        ]
    )


def in_run(body, before=""):
    """A program with that body of main(), under asyncio.run()."""
    main = "async def main():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return interruptible("run(main())", before=textwrap.dedent(before) + main)


def in_run_forever(prepare, after="loop.close()"):
    """A program with a loop that was prepared, under run_forever()."""
    before = "loop = new_event_loop()\n" + textwrap.dedent(prepare)
    return interruptible("loop.run_forever()", before=before, after=after)


IDLE = """
print("READY")
await asyncio.sleep(60)
"""

SITUATIONS = {
    "idle in run": in_run(IDLE),
    "idle in run without a timer": in_run(
        """
        print("READY")
        await asyncio.get_running_loop().create_future()
        """
    ),
    "idle in run_until_complete": interruptible(
        "loop.run_until_complete(task)",
        before="""
        loop = new_event_loop()

        async def main():
            print("READY")
            await asyncio.sleep(60)

        task = loop.create_task(main())
        """,
        after="""
        task.cancel()
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        loop.close()
        """,
    ),
    "idle in run_forever": in_run_forever('loop.call_soon(print, "READY")'),
    "idle in run_forever with a watched descriptor": in_run_forever(
        """
        import socket
        left, right = socket.socketpair()
        loop.add_reader(left, print)
        loop.call_soon(print, "READY")
        """
    ),
    "a task that always yields": in_run(
        """
        print("READY")
        while True:
            await asyncio.sleep(0)
        """
    ),
    "a callback that reschedules itself": in_run_forever(
        """
        def again():
            loop.call_soon(again)

        again()
        loop.call_soon(print, "READY")
        """
    ),
    "a callback that never ends": in_run_forever(
        """
        def endless():
            print("READY")
            while True:
                pass

        loop.call_soon(endless)
        """
    ),
    "a callback that sleeps": in_run_forever(
        """
        import time
        loop.call_soon(lambda: (print("READY"), time.sleep(60)))
        """
    ),
    "a timer that sleeps": in_run_forever(
        """
        import time
        loop.call_later(0.01, lambda: (print("READY"), time.sleep(60)))
        """
    ),
    "a task that computes": interruptible(
        "loop.run_until_complete(main())",
        before="""
        async def main():
            print("READY")
            while True:
                sum(range(1000))

        loop = new_event_loop()
        """,
        after="loop.close()",
    ),
    "waiting for a thread": in_run(
        """
        import time
        print("READY")
        await asyncio.to_thread(time.sleep, 0.5)
        await asyncio.sleep(60)
        """
    ),
    "a second loop after the first": in_run(
        IDLE,
        before="""
        run(asyncio.sleep(0))
        loop = new_event_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        """,
    ),
    "a server": in_run(
        """
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        print("READY")
        await server.serve_forever()
        """
    ),
    "waiting for a process": in_run(
        """
        process = await asyncio.create_subprocess_exec("sleep", "60")
        print("READY")
        try:
            await process.wait()
        finally:
            process.kill()
            await process.wait()
        """
    ),
    "a Runner": """
        async def main():
            print("READY")
            await asyncio.sleep(60)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            try:
                runner.run(main())
            except KeyboardInterrupt:
                print("interrupted")
        """,
}

# What each does in a callback, for a minute, and what that needs.
BLOCKING_CALLS = {
    "recv": ("socket.socketpair()", "it[0].recv(1)"),
    "accept": ("socket.create_server(('127.0.0.1', 0))", "it.accept()"),
    "select": ("[]", "select.select(it, it, it, 60)"),
    "read of a pipe": ("os.pipe()", "os.read(it[0], 1)"),
    "lock": ("threading.Semaphore(0)", "it.acquire(timeout=60)"),
    "queue": ("queue.SimpleQueue()", "it.get(timeout=60)"),
    "child process": ("['sleep', '60']", "subprocess.run(it, stdout=-3, stderr=-3)"),
    "join of a thread": ("sleeper()", "it.join(60)"),
    "result of a thread": (
        "asyncio.run_coroutine_threadsafe(asyncio.sleep(60), other())",
        "it.result(60)",
    ),
}
for _name, (_need, _call) in BLOCKING_CALLS.items():
    SITUATIONS[f"a callback that blocks: {_name}"] = in_run_forever(
        f"""
        import os, queue, select, socket, subprocess, threading, time

        def sleeper():
            thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
            thread.start()
            return thread

        def other():
            second = new_event_loop()
            threading.Thread(target=second.run_forever, daemon=True).start()
            return second

        def block():
            it = {_need}
            print("READY")
            {_call}

        loop.call_soon(block)
        """,
        after="os._exit(0)",
    )


def assert_interrupted(impl, source, expected="interrupted\n", **kwargs):
    """The program says what is expected and nothing else, and ends in good order and at once."""
    output, errors, seconds, status = interrupt(impl, source, **kwargs)
    if impl.name == "asyncio" and "Cannot close a running event loop" in errors:
        pytest.skip("asyncio was interrupted where run_forever() ends")
    assert (output, errors, status) == (expected, "", 0)
    assert seconds < PROMPT


@pytest.mark.parametrize("source", SITUATIONS.values(), ids=SITUATIONS)
def test_ctrl_c_ends_the_program_at_once(impl, source):
    assert_interrupted(impl, source)


def test_an_uncaught_ctrl_c_ends_the_process_as_python_does(impl):
    source = "async def main():\n" + textwrap.indent(IDLE, "    ") + "\nrun(main())"
    output, errors, _, status = interrupt(impl, source)
    assert (output, status) == ("", -signal.SIGINT)
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_under_a_runner_cancels_the_main_task_first(impl):
    source = in_run(
        """
        print("READY")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            print("cleaned up")
            raise
        """
    )
    assert_interrupted(impl, source, "cleaned up\ninterrupted\n")


def test_a_second_ctrl_c_interrupts_a_task_that_refuses(impl):
    source = """
        async def main():
            print("READY")
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    print("refused")

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            try:
                runner.run(main())
            except KeyboardInterrupt:
                print("interrupted")
            import os
            os._exit(0)
        """
    assert_interrupted(impl, source, "refused\ninterrupted\n", again_after="refused")


def test_a_loop_in_another_thread_leaves_ctrl_c_to_the_main_thread(impl):
    source = interruptible(
        """
        print("READY")
        threading.Event().wait(60)
        """,
        before="""
        import threading
        loop = new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        """,
        after="""
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
    )
    assert_interrupted(impl, source)


def test_loops_in_both_threads_and_ctrl_c(impl):
    source = interruptible(
        "run(main())",
        before="""
        import threading
        other = new_event_loop()
        thread = threading.Thread(target=other.run_forever)
        thread.start()

        async def main():
            print("READY")
            await asyncio.sleep(60)
        """,
        after="""
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()
        """,
    )
    assert_interrupted(impl, source)


def test_the_loop_works_on_after_ctrl_c(impl):
    source = in_run_forever(
        'loop.call_soon(print, "READY")',
        after="""
        print(loop.run_until_complete(asyncio.sleep(0.01, "works")))
        loop.close()
        """,
    )
    assert_interrupted(impl, source, "interrupted\nworks\n")

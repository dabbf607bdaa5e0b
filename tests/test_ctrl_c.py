"""Ctrl-C in every state of the loop.

Lessons row 6: uvloop#295, #335 ignore Ctrl-C or hang after it. libuv retries EINTR inside its poll, so a loop
over it hears of a signal only through the wake-up descriptor.
"""

import signal
import subprocess
import time

import pytest
from support import PATIENCE, clean_environment, script_command

# Far above what a right loop needs (a millisecond), far below a polling interval or a hang.
PROMPT = 5 * PATIENCE


def interrupt(impl, source, *, signals=1, ready="READY"):
    """Run source, send it SIGINT once it says READY; its output and how long it lived after that."""
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
        for _ in range(signals):
            child.send_signal(signal.SIGINT)
            time.sleep(0.05)
        output, errors = child.communicate(timeout=25 * PATIENCE)
        return output, errors, time.monotonic() - before, child.returncode
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


SITUATIONS = {
    "idle in run": """
        async def main():
            print("READY")
            await asyncio.sleep(60)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "idle in run without a timer": """
        async def main():
            print("READY")
            await asyncio.get_running_loop().create_future()

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "idle in run_until_complete": """
        loop = new_event_loop()

        async def main():
            print("READY")
            await asyncio.sleep(60)

        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            print("interrupted")
        task.cancel()
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        loop.close()
        """,
    "idle in run_forever": """
        loop = new_event_loop()
        loop.call_soon(print, "READY")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "idle in run_forever with a watched descriptor": """
        import socket
        loop = new_event_loop()
        left, right = socket.socketpair()
        loop.add_reader(left, print)
        loop.call_soon(print, "READY")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "a task that always yields": """
        async def main():
            print("READY")
            while True:
                await asyncio.sleep(0)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "a callback that reschedules itself": """
        loop = new_event_loop()

        def again():
            loop.call_soon(again)

        again()
        loop.call_soon(print, "READY")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "a callback that never ends": """
        loop = new_event_loop()

        def endless():
            print("READY")
            while True:
                pass

        loop.call_soon(endless)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "a callback that sleeps": """
        import time
        loop = new_event_loop()
        loop.call_soon(lambda: (print("READY"), time.sleep(60)))
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "a timer that sleeps": """
        import time
        loop = new_event_loop()
        loop.call_later(0.01, lambda: (print("READY"), time.sleep(60)))
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "a task that computes": """
        async def main():
            print("READY")
            while True:
                sum(range(1000))

        loop = new_event_loop()
        try:
            loop.run_until_complete(main())
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
    "waiting for a thread": """
        import time

        async def main():
            print("READY")
            await asyncio.to_thread(time.sleep, 0.5)
            await asyncio.sleep(60)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "a second loop after the first": """
        run(asyncio.sleep(0))
        loop = new_event_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()

        async def main():
            print("READY")
            await asyncio.sleep(60)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "a server": """
        async def main():
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            print("READY")
            await server.serve_forever()

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    "waiting for a process": """
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "60")
            print("READY")
            try:
                await process.wait()
            finally:
                process.kill()
                await process.wait()

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
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

# What each does in a callback, for a minute.
BLOCKING_CALLS = {
    "recv": "socket.socketpair()[0].recv(1)",
    "accept": "socket.create_server(('127.0.0.1', 0)).accept()",
    "select": "select.select([], [], [], 60)",
    "read of a pipe": "os.read(os.pipe()[0], 1)",
    "lock": "threading.Semaphore(0).acquire(timeout=60)",
    "queue": "queue.SimpleQueue().get(timeout=60)",
    "child process": "subprocess.run(['sleep', '60'])",
    "join of a thread": "sleeper().join(60)",
    "result of a thread": "asyncio.run_coroutine_threadsafe(asyncio.sleep(60), other()).result(60)",
}
for _name, _call in BLOCKING_CALLS.items():
    SITUATIONS[f"a callback that blocks: {_name}"] = f"""
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
            print("READY")
            {_call}

        loop = new_event_loop()
        loop.call_soon(block)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os._exit(0)
        """


@pytest.mark.parametrize("source", SITUATIONS.values(), ids=SITUATIONS)
def test_ctrl_c_ends_the_program_at_once(impl, source):
    output, errors, seconds, status = interrupt(impl, source)
    if impl.name == "asyncio" and "Cannot close a running event loop" in errors:
        pytest.skip("asyncio was interrupted where run_forever() ends")
    assert (output, errors, status) == ("interrupted\n", "", 0)
    assert seconds < PROMPT


def test_an_uncaught_ctrl_c_ends_the_process_as_python_does(impl):
    output, errors, _, status = interrupt(
        impl,
        """
        async def main():
            print("READY")
            await asyncio.sleep(60)

        run(main())
        """,
    )
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_under_a_runner_cancels_the_main_task_first(impl):
    output, errors, seconds, status = interrupt(
        impl,
        """
        async def main():
            print("READY")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                print("cleaned up")
                raise

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    assert (output, errors, status) == ("cleaned up\ninterrupted\n", "", 0)
    assert seconds < PROMPT


def test_a_second_ctrl_c_interrupts_a_task_that_refuses(impl):
    output, errors, seconds, status = interrupt(
        impl,
        """
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
        """,
        signals=2,
    )
    assert (output, errors, status) == ("refused\ninterrupted\n", "", 0)
    assert seconds < PROMPT


def test_a_loop_in_another_thread_leaves_ctrl_c_to_the_main_thread(impl):
    output, errors, seconds, status = interrupt(
        impl,
        """
        import threading
        loop = new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        print("READY")
        try:
            threading.Event().wait(60)
        except KeyboardInterrupt:
            print("interrupted")
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
    )
    assert (output, errors, status) == ("interrupted\n", "", 0)
    assert seconds < PROMPT


def test_loops_in_both_threads_and_ctrl_c(impl):
    output, errors, seconds, status = interrupt(
        impl,
        """
        import threading
        other = new_event_loop()
        thread = threading.Thread(target=other.run_forever)
        thread.start()

        async def main():
            print("READY")
            await asyncio.sleep(60)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()
        """,
    )
    assert (output, errors, status) == ("interrupted\n", "", 0)
    assert seconds < PROMPT


def test_the_loop_works_on_after_ctrl_c(impl):
    output, errors, _, status = interrupt(
        impl,
        """
        loop = new_event_loop()
        loop.call_soon(print, "READY")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            pass
        print(loop.run_until_complete(asyncio.sleep(0.01, "works")))
        loop.close()
        """,
    )
    assert (output, errors, status) == ("works\n", "", 0)

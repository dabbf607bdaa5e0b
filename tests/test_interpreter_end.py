"""The end of the interpreter with loops, tasks, watched descriptors and threads left behind; two copies of the module.

Every case runs in a process of its own, which must end with 0: a crash shows as a negative code.
"""

import pytest
from support import HOTLOOP, run_script, script_output

hotloop_only = pytest.mark.skipif(HOTLOOP.name != "hotloop", reason="a test of hotloop alone")

# What a program may leave behind; stock asyncio ends with 0 each time.
LEFTOVERS = {
    "an open loop": """
        loop = new_event_loop()
        """,
    "an open loop that ran": """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        """,
    "an open loop in a cycle": """
        loop = new_event_loop()
        loop.itself = [loop]
        loop.call_soon(print, loop)
        loop.call_later(1000, print, loop)
        """,
    "an open loop kept by a module": """
        loop = new_event_loop()
        loop.call_later(1000, print)
        sys.loop = asyncio.kept = threading.kept = loop
        """,
    "handles and timers of all kinds": """
        loop = new_event_loop()
        handles = [loop.call_soon(print, *range(n)) for n in range(6)]
        handles += [loop.call_later(n, print, *range(n)) for n in range(6)]
        handles += [loop.call_soon_threadsafe(print, *range(n)) for n in range(6)]
        sys.handles = handles[::2]
        """,
    "pending tasks": """
        async def forever():
            await loop.create_future()

        loop = new_event_loop()
        tasks = [loop.create_task(forever()) for _ in range(5)]
        loop.call_soon(loop.stop)
        loop.run_forever()
        sys.tasks = tasks[:2]
        """,
    "tasks never begun": """
        async def nothing():
            pass

        loop = new_event_loop()
        sys.tasks = [loop.create_task(nothing()) for _ in range(5)]
        """,
    "a task of a closed loop": """
        async def forever():
            await loop.create_future()

        loop = new_event_loop()
        task = loop.create_task(forever())
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        """,
    "futures with callbacks and exceptions": """
        loop = new_event_loop()
        futures = [loop.create_future() for _ in range(5)]
        futures[0].set_exception(LookupError())
        futures[1].add_done_callback(print)
        futures[2].add_done_callback(futures[3].set_result)
        futures[4].set_result(futures)
        sys.futures = futures
        """,
    "asynchronous generators": """
        async def numbers():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)

        async def main():
            sys.kept = numbers()
            await sys.kept.__anext__()

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    "watched descriptors": """
        loop = new_event_loop()
        a, b = sys.sockets = socket.socketpair()
        loop.add_reader(a, print, loop)
        loop.add_writer(b, print, loop)
        loop.add_reader(b, print, loop)
        loop.call_soon(loop.stop)
        loop.run_forever()
        """,
    "a loop in a daemon thread, idle": """
        loop = new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        while not loop.is_running():
            time.sleep(0.001)
        time.sleep(0.02)
        """,
    "a loop in a daemon thread, with timers": """
        loop = new_event_loop()

        def again():
            loop.call_later(0.0001, again)

        again()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        time.sleep(0.02)
        """,
    "a loop in a daemon thread, busy": """
        loop = new_event_loop()

        async def busy():
            while True:
                await asyncio.sleep(0)

        def work():
            loop.run_until_complete(busy())

        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.02)
        """,
    "a daemon thread that calls": """
        loop = new_event_loop()

        def work():
            while True:
                loop.call_soon_threadsafe(id, 1)
                time.sleep(0)

        threading.Thread(target=work, daemon=True).start()
        loop.run_until_complete(asyncio.sleep(0.02))
        """,
    "an executor at work": """
        async def main():
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)
            await asyncio.sleep(0)

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    "processes": """
        async def main():
            start = asyncio.create_subprocess_exec
            sys.kept = [await start("cat", stdin=-1, stdout=-1) for _ in range(3)]
            await start("cat", stdin=-1)
            await start("sleep", "0.05")

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    "a loop used by atexit": """
        import atexit

        loop = new_event_loop()
        atexit.register(lambda: (loop.run_until_complete(asyncio.sleep(0.001)), loop.close()))
        """,
    "a loop first made by atexit": """
        import atexit

        @atexit.register
        def at_exit():
            loop = new_event_loop()
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
        """,
    "a finalizer that uses the loop": """
        class Late:
            def __init__(self):
                self.loop = new_event_loop()
                self.loop.run_until_complete(asyncio.sleep(0))
                self.call, self.later = self.loop.call_soon, self.loop.call_later

            def __del__(self):
                try:
                    self.call(id, self)
                    self.later(1, id, self)
                    self.loop.create_future().set_result(1)
                    self.loop.close()
                except Exception:
                    pass

        sys.late = Late()
        """,
    "a finalizer that runs the loop": """
        class Late:
            def __init__(self):
                self.loop = new_event_loop()

            def __del__(self):
                try:
                    self.loop.call_soon(self.loop.stop)
                    self.loop.run_forever()
                    self.loop.close()
                except BaseException:
                    pass

        sys.late = Late()
        """,
    "SystemExit out of a task": """
        async def main():
            asyncio.get_running_loop().call_later(1000, print)
            task = asyncio.create_task(asyncio.sleep(1000))
            sys.exit(0)

        loop = new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            sys.kept = loop
        """,
    "classes derived from ours": """
        class MyLoop(type(new_event_loop())):
            pass

        class MyFuture(Future):
            pass

        class MyTask(Task):
            pass

        async def nothing():
            pass

        loop = MyLoop()
        sys.kept = [MyFuture(loop=loop), MyTask(nothing(), loop=loop)]
        sys.kept[0].itself = sys.kept
        """,
}


@pytest.mark.parametrize("flags", [[], ["-X", "dev"]], ids=["", "dev"])
@pytest.mark.parametrize("leftover", LEFTOVERS.values(), ids=LEFTOVERS)
def test_the_interpreter_ends_well_with(impl, leftover, flags):
    result = run_script(
        impl,
        """
        import signal, socket, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        """
        + leftover,
        flags=flags,
    )
    assert result.returncode == 0, result
    assert "Fatal" not in result.stderr and "Assertion" not in result.stderr, result


@pytest.mark.parametrize("where", ["callback", "task", "timer"])
def test_os_exit_within_a_running_loop(impl, where):
    result = run_script(
        impl,
        """
        import os, sys

        async def main():
            loop = asyncio.get_running_loop()
            if sys.argv[1] == "callback":
                loop.call_soon(os._exit, 7)
            elif sys.argv[1] == "timer":
                loop.call_later(0.001, os._exit, 7)
            else:
                os._exit(7)
            await asyncio.sleep(60)

        run(main())
        """,
        where,
    )
    assert (result.returncode, result.stderr) == (7, "")


def test_importing_and_never_using(impl):
    assert script_output(impl, "print('done')") == "done\n"


@hotloop_only
def test_importing_again_after_removal_from_sys_modules():
    """Some test runners drop modules and import them again: two copies must live side by side."""
    output = script_output(
        HOTLOOP,
        """
        import sys

        first = hotloop.new_event_loop()
        for name in [name for name in sys.modules if name.split(".")[0] == "hotloop"]:
            del sys.modules[name]
        import hotloop as again
        second = again.new_event_loop()

        async def main():
            await asyncio.sleep(0.001)
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

        for loop in first, second, first:
            loop.run_until_complete(main())
        first.close()
        second.close()
        print(type(first) is type(second))
        """,
    )
    assert output == "False\n"

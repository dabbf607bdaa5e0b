"""What children of fork() may do: with the parent's loop, which stays the parent's, and with a loop of their own.

uvloop#118, #749: an epoll descriptor is shared over fork(), so what a child does with its
parent's loop would happen to the parent. See also test_fork.py. Everything runs in processes of its own.
"""

import sys
from textwrap import dedent

import pytest
from support import ASYNCIO, HOTLOOP, script_output

hotloop_only = pytest.mark.skipif(HOTLOOP.name != "hotloop", reason="a test of hotloop alone")

# fork(function) prints what function() comes to in a child, and the child's exit code.
FORK = """
import os, signal, socket, sys, time, warnings

warnings.simplefilter("ignore")  # of forks in a process with threads

def attempt(function, *args):
    try:
        return function(*args)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def fork(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            print("child:", attempt(function))
            sys.stdout.flush()
        finally:
            os._exit(0)
    print("exit code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run_forking(impl, source, *args, **options):
    return script_output(impl, FORK + dedent(source), *args, **options)


# -- the parent's loop in the child ----------------------------------------------

USES = {
    "run_forever": "loop.run_forever()",
    "run_until_complete": "loop.run_until_complete(loop.create_future())",
    "_run_once": "loop._run_once()",
    "add_reader": "loop.add_reader(sockets[1], print)",
    "add_writer": "loop.add_writer(sockets[1], print)",
    "remove_reader": "loop.remove_reader(sockets[0])",
    "remove_writer": "loop.remove_writer(sockets[0])",
}


@hotloop_only
@pytest.mark.parametrize("state", ["idle", "running"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_each_use_of_the_parents_loop_is_a_clear_error(use, state):
    output = run_forking(
        HOTLOOP,
        """
        loop = new_event_loop()
        sockets = socket.socketpair()
        loop.add_reader(sockets[0], lambda: (print("read", sockets[0].recv(10)), loop.stop()))

        def child():
            try:
                exec(sys.argv[1])
            except RuntimeError as error:
                text = str(error)
                told = [str(os.getppid()) in text, str(os.getpid()) in text, "fork" in text]
                return "it tells" if all(told) else text

        if sys.argv[2] == "running":
            loop.call_soon(fork, child)
        else:
            fork(child)
        loop.call_soon(sockets[1].send, b"data")
        loop.run_forever()
        loop.close()
        """,
        use,
        state,
    )
    assert output == "child: it tells\nexit code 0\nread b'data'\n"


def test_a_child_that_drops_the_parents_loop(impl):
    output = run_forking(
        impl,
        """
        import gc

        loop = new_event_loop()
        a, b = socket.socketpair()
        loop.add_reader(a, lambda: (print("read", a.recv(10)), loop.stop()))
        loop.call_later(1000, print)
        loop.call_soon(print, "soon")
        loop.call_soon_threadsafe(print, "threadsafe")

        def child():
            global loop
            del loop
            gc.collect()
            return "dropped"

        fork(child)
        loop.call_later(0.01, b.send, b"data")
        loop.run_forever()
        loop.close()
        """,
    )
    assert output == "child: dropped\nexit code 0\nsoon\nthreadsafe\nread b'data'\n"


@hotloop_only
def test_what_a_child_schedules_does_not_happen_in_the_parent():
    output = run_forking(
        HOTLOOP,
        """
        loop = new_event_loop()

        def child():
            loop.call_soon(print, "in the child")
            loop.call_later(0, print, "in the child")
            for _ in range(1000):
                attempt(loop.call_soon_threadsafe, print, "in the child")
            fut = loop.create_future()
            fut.add_done_callback(print)
            fut.set_result(1)
            return "done"

        def work():
            fork(child)
            loop.call_later(0.01, loop.stop)

        loop.call_soon(work)
        loop.run_forever()
        loop.close()
        print("parent")
        """,
    )
    assert output == "child: done\nexit code 0\nparent\n"


@hotloop_only
def test_threadsafe_calls_in_a_child_of_another_thread_do_not_wake_the_parent():
    """The wake-up is an eventfd or pipe that both have."""
    output = run_forking(
        HOTLOOP,
        """
        import threading

        loop = new_event_loop()
        woken = []
        loop.call_later(0.2, loop.stop)
        loop.time = lambda: (woken.append(1), time.monotonic())[1]

        def child():
            for _ in range(1000):
                attempt(loop.call_soon_threadsafe, print)
                time.sleep(0.0001)
            return "done"

        thread = threading.Timer(0.02, fork, [child])
        thread.start()
        loop.run_forever()
        thread.join()
        loop.close()
        print(len(woken) < 50)
        """,
    )
    assert output == "child: done\nexit code 0\nTrue\n"


@pytest.mark.parametrize("how", ["_exit", "sys.exit"])
def test_a_child_that_leaves_the_parents_running_loop(impl, how):
    """Leaving run() may fail, as that runs the loop again, but must not hang."""
    if impl.name == "asyncio" and how == "sys.exit":
        pytest.skip("stock asyncio may hang here, in the epoll that both processes have")
    output = run_forking(
        impl,
        """
        async def main():
            loop = asyncio.get_running_loop()
            a, b = socket.socketpair()
            got = loop.create_future()
            loop.add_reader(a, lambda: got.done() or got.set_result(a.recv(10)))
            loop.call_later(1000, print)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                if sys.argv[1] == "_exit":
                    os._exit(7)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                sys.exit(7)
            print("exit code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            loop.call_later(0.01, b.send, b"data")
            print(await got)
            loop.remove_reader(a)

        run(main())
        """,
        how,
    )
    assert output in ("exit code 7\nb'data'\n", "exit code 1\nb'data'\n")


# -- a loop of the child's own ---------------------------------------------------

PROGRAM = """
async def sleeper(n):
    await asyncio.sleep(0.001)
    return n, asyncio.current_task().get_name()

async def program():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    await loop.sock_sendall(a, b"data")
    data = await loop.sock_recv(b, 10)
    a.close()
    b.close()
    tasks = [asyncio.create_task(sleeper(n), name=f"task {n}") for n in range(2)]
    in_thread = await asyncio.to_thread(lambda: "thread")
    woken = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, woken.set_result, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    result = data, await asyncio.gather(*tasks), in_thread, await woken, len(asyncio.all_tasks())
    loop.remove_signal_handler(signal.SIGUSR1)
    return result

def child():
    return run(program())

async def main():
    fork(child)
    return await asyncio.sleep(0.001, "parent")

if sys.argv[1] == "before any loop":
    fork(child)
    print(run(asyncio.sleep(0.001, "parent")))
else:
    loop = new_event_loop()
    if sys.argv[1] == "between runs":
        loop.run_until_complete(asyncio.sleep(0))
        fork(child)
    elif sys.argv[1] == "in a callback":
        loop.call_soon(fork, child)
    if sys.argv[1] == "in a task":
        print(loop.run_until_complete(main()))
    else:
        print(loop.run_until_complete(asyncio.sleep(0.001, "parent")))
    loop.close()
"""


@pytest.mark.parametrize(
    "where", ["before any loop", "between runs", "in a callback", "in a task"]
)
def test_tasks_threads_sockets_and_signals_in_a_child(impl, where):
    if where == "in a task" and sys.version_info < (3, 12):
        pytest.skip("before 3.12 asyncio does not reset its state in a child")
    output = run_forking(impl, PROGRAM, where)
    result = "(b'data', [(0, 'task 0'), (1, 'task 1')], 'thread', 'signal', 1)"
    assert output == f"child: {result}\nexit code 0\nparent\n"


def test_children_of_children(impl):
    output = run_forking(
        impl,
        """
        def generation(depth):
            value = run(asyncio.sleep(0.001, depth))
            if depth:
                fork(lambda: generation(depth - 1))
            return value

        print(generation(3))
        """,
    )
    lines = ["child: 0", "exit code 0", "child: 1", "exit code 0", "child: 2", "exit code 0", "3"]
    assert output.splitlines() == lines


@pytest.mark.parametrize("runs", ["no loop", "a loop"])
def test_a_signal_to_the_child_does_not_reach_the_parent(impl, runs):
    if impl is ASYNCIO and runs == "no loop" and sys.version_info < (3, 12):
        pytest.skip("before 3.12 asyncio leaves the parent's wake-up descriptor in the child")
    output = run_forking(
        impl,
        """
        async def handle():
            handled = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, handled.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await handled.wait()

        def child():
            if sys.argv[1] == "a loop":
                asyncio._set_running_loop(None)
                run(handle())
            else:
                os.kill(os.getpid(), signal.SIGUSR1)
            return "done"

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "handled")
            fork(child)
            await asyncio.sleep(0.02)
            print("parent")

        run(main())
        """,
        runs,
    )
    assert output == "child: done\nexit code 0\nparent\n"


# -- worker processes and other programs -------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools_of_a_running_loop(impl, method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, concurrent.futures, math, multiprocessing, warnings

if {impl.name!r} == "hotloop":
    from hotloop import new_event_loop
else:
    from asyncio import SelectorEventLoop as new_event_loop

warnings.simplefilter("ignore")

async def half(n):
    await asyncio.sleep(0.001)
    return n / 2

def work(n):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(half(n))

async def main():
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        done = loop.create_future()
        pool.map_async(work, range(4), callback=lambda r: loop.call_soon_threadsafe(done.set_result, r))
        print(await done)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        print(await asyncio.gather(*(loop.run_in_executor(pool, work, n) for n in range(4))))
        try:
            await loop.run_in_executor(pool, math.factorial, -1)
        except ValueError as error:
            print(type(error).__name__)

if __name__ == "__main__":
    work(0)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
""")
    output = script_output(
        impl,
        """
        import os, sys
        os.execv(sys.executable, [sys.executable, sys.argv[1]])
        """,
        script,
    )
    assert output == "[0.0, 0.5, 1.0, 1.5]\n[0.0, 0.5, 1.0, 1.5]\nValueError\n"


def test_other_programs_do_not_inherit_descriptors_of_the_loop(impl):
    output = run_forking(
        impl,
        """
        import subprocess

        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, print)
            await asyncio.sleep(0.001)
            await asyncio.to_thread(id, 1)
            # Besides the first three there is the descriptor of the folder listed.
            listing = [sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"]
            print(subprocess.check_output(listing, close_fds=False, text=True), end="")

        run(main())
        """,
    )
    assert output == "4\n"


# -- streams that parent and child have in common ------------------------------

STREAM = """
async def connect(protocol_factory):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(20)
    transport, _ = await asyncio.get_running_loop().create_connection(protocol_factory, sock=ours)
    return transport, peer
"""


@pytest.mark.parametrize("end", ["close", "abort", "get_write_buffer_size"])
def test_a_child_does_not_send_what_its_parent_wrote(impl, end):
    output = run_forking(
        impl,
        "import asyncio"
        + STREAM
        + dedent(
            """
            async def main():
                transport, peer = await connect(asyncio.Protocol)
                transport.write(b"once")
                fork(lambda: (getattr(transport, sys.argv[1])(), "done")[1])
                transport.close()
                await asyncio.sleep(0.01)
                print(peer.recv(100), peer.recv(100))

            run(main())
            """
        ),
        end,
    )
    assert output == "child: done\nexit code 0\nb'once' b''\n"


def test_a_child_that_writes_much_does_not_make_its_parent_deaf(impl):
    output = run_forking(
        impl,
        "import asyncio"
        + STREAM
        + dedent(
            """
            class Heard(asyncio.Protocol):
                def data_received(self, data):
                    print("heard", data)
                    heard.set()

            async def main():
                global heard
                heard = asyncio.Event()
                transport, peer = await connect(Heard)
                peer.send(b"1")
                await heard.wait()
                heard.clear()
                fork(lambda: attempt(transport.write, bytes(5_000_000)) and None)
                peer.send(b"2")
                await asyncio.wait_for(heard.wait(), 20)
                transport.abort()

            run(main())
            """
        ),
    )
    assert output == "heard b'1'\nchild: None\nexit code 0\nheard b'2'\n"

"""Fork: a child must not touch its parent's loop, and can have a loop of its own.

uvloop#118, #749 and others.
"""

import os
import sys

import pytest
from support import HOTLOOP, run_command, same_on_both, script_output

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

# In a child: report on stdout, and end without running anything of the parent's.
CHILD = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, of fork beside threads

def in_child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            print("child:", function())
        except BaseException as exc:
            print("child raised", type(exc).__name__, exc)
        sys.stdout.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


# A reader on the parent's loop; and, at the end, whether what is sent to it still arrives.
WATCHING = """
import socket
loop = new_event_loop()
left, right = socket.socketpair()
seen = []
loop.add_reader(left, lambda: (seen.append(left.recv(100)), loop.stop()))
loop.run_until_complete(asyncio.sleep(0.001))
"""
STILL_WATCHING = """
right.send(b"still watched")
loop.call_later(10, loop.stop)
loop.run_forever()
print(seen)
loop.remove_reader(left)
loop.close()
"""


def output(impl, source):
    return script_output(impl, CHILD + source).splitlines()


def test_a_child_can_run_a_loop_of_its_own(impl):
    assert output(
        impl,
        """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0.001))
print(in_child(lambda: run(asyncio.sleep(0.001, "ran"))))
print(loop.run_until_complete(asyncio.sleep(0.001, "parent")))
loop.close()
""",
    ) == ["child: ran", "0", "parent"]


def test_a_child_forked_by_a_callback_can_run_a_loop_of_its_own(impl):
    assert output(
        impl,
        """
async def main():
    await asyncio.sleep(0.001)
    status = in_child(lambda: run(asyncio.sleep(0.001, "ran")))
    await asyncio.sleep(0.001)
    return status

print(run(main()))
""",
    ) == ["child: ran", "0"]


def test_there_is_no_running_loop_in_a_child(impl):
    assert output(
        impl,
        """
async def main():
    def look():
        try:
            return asyncio.get_running_loop()
        except RuntimeError as exc:
            return exc
    return in_child(look)

print(run(main()))
""",
    ) == ["child: no running event loop", "0"]


USES = {
    "run_forever": "loop.run_forever()",
    "run_until_complete": "loop.run_until_complete(loop.create_future())",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_running_the_parents_loop_in_a_child_is_a_clear_error(use):
    """About hotloop only: asyncio lets parent and child share one epoll, and each disturb the other."""
    lines = output(
        HOTLOOP,
        f"""
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0.001))
print(in_child(lambda: {use}))
print(loop.run_until_complete(asyncio.sleep(0.001, "parent")))
loop.close()
""",
    )
    assert lines[0].startswith("child raised RuntimeError ") and "fork" in lines[0].lower()
    assert lines[1:] == ["0", "parent"]


def test_returning_to_the_parents_loop_in_a_child_is_a_clear_error():
    """About hotloop only, as above: here the callback itself forks, and returns in both processes."""
    lines = output(
        HOTLOOP,
        """
loop = new_event_loop()
pids = []

def callback():
    sys.stdout.flush()
    pids.append(os.fork())
    loop.call_later(0.01, loop.stop)

loop.call_soon(callback)
try:
    loop.run_forever()
except RuntimeError as exc:
    if pids[0] == 0:
        print("child raised", "fork" in str(exc).lower())
        sys.stdout.flush()
        os._exit(0)
    raise
if pids[0] == 0:
    print("child went on")
    sys.stdout.flush()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
loop.close()
""",
    )
    assert lines == ["child raised True", "0"]


def test_what_a_child_does_to_the_parents_loop_leaves_the_parents_descriptors_watched(impl):
    assert output(
        impl,
        WATCHING
        + """
def disturb():
    left.close()
    right.close()
    return "closed"

print(in_child(disturb))
"""
        + STILL_WATCHING,
    ) == ["child: closed", "0", "[b'still watched']"]


def test_closing_the_parents_loop_in_a_child_leaves_the_parent_working():
    """About hotloop only: asyncio's close() takes the descriptors out of the epoll that both share."""
    lines = output(
        HOTLOOP,
        WATCHING
        + """
def close():
    try:
        loop.close()
    except RuntimeError:
        pass
    return "survived"

print(in_child(close))
"""
        + STILL_WATCHING,
    )
    assert lines == ["child: survived", "0", "[b'still watched']"]


def test_a_child_that_exits_with_the_parents_loop_open_is_no_crash(impl):
    assert output(
        impl,
        """
loop = new_event_loop()
loop.call_later(100, print, "never")
loop.run_until_complete(asyncio.sleep(0.001))
warnings.simplefilter("ignore", ResourceWarning)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    sys.exit(5)  # through the whole of the interpreter's shutdown
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(loop.run_until_complete(asyncio.sleep(0.001, "parent")))
loop.close()
""",
    ) == ["5", "parent"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_from_within_a_running_loop(impl, method, tmp_path):
    program = tmp_path / "program.py"
    kind = "asyncio.SelectorEventLoop" if impl.name == "asyncio" else "hotloop.new_event_loop"
    program.write_text(f"""
import asyncio, multiprocessing, warnings
if {impl.name!r} == "hotloop":
    import hotloop
warnings.simplefilter("ignore", DeprecationWarning)

async def answer():
    await asyncio.sleep(0.001)
    return "from the child's own loop"

def child(queue):
    with asyncio.Runner(loop_factory={kind}) as runner:
        queue.put(runner.run(answer()))

async def main():
    context = multiprocessing.get_context({method!r})
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(await asyncio.to_thread(queue.get))
    await asyncio.to_thread(process.join)
    print(process.exitcode)

if __name__ == "__main__":
    with asyncio.Runner(loop_factory={kind}) as runner:
        runner.run(main())
""")
    result = run_command([sys.executable, str(program)])
    assert (result.returncode, result.stdout) == (0, "from the child's own loop\n0\n"), result


def test_subprocesses_run_fork_handlers_as_asyncio_does():
    """uvloop#206."""

    def scenario(impl):
        return script_output(
            impl,
            """
import os
calls = []
os.register_at_fork(before=lambda: calls.append("before"), after_in_parent=lambda: calls.append("after"))

async def main():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()

print(run(main()), calls)
""",
        )

    assert same_on_both(scenario).startswith("0 ")


def test_children_of_children_without_standard_streams(impl):
    """libuv makes descriptors of its own in each child, and aborts if they have the numbers of these."""
    source = """
        import os

        os.dup2(1, 50)
        run(asyncio.sleep(0.001))
        for fd in range(3):
            os.close(fd)

        def fork(child):
            pid = os.fork()
            if pid == 0:
                child()
                run(asyncio.sleep(0.001))
                os._exit(0)
            status = os.waitpid(pid, 0)[1]
            used = [fd for fd in range(3) if os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(50, f"{status} {used} ".encode())

        fork(lambda: fork(lambda: fork(int)))
        """
    assert script_output(impl, source) == "0 [] " * 3


SOCKET_KEPT_BY_A_CHILD = """
import signal, socket, time

async def main(early):
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    async def wait_once():
        loop.call_later(0.001, peer.send, b"x")
        assert await loop.sock_recv(ours, 10) == b"x"
    for _ in range(8):
        await wait_once()
    child = os.fork()
    if child == 0:
        signal.pause()
    if not early:
        await wait_once()
    ours.shutdown(socket.SHUT_RDWR)
    ours.close()
    await asyncio.sleep(0.005)

    busy = time.process_time()
    await asyncio.sleep(0.2)
    print("busy" if time.process_time() - busy > 0.15 else "idle")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    peer.close()

run(main(sys.argv[1] == "early"))
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_closed_socket_that_a_child_still_has(impl, when):
    """epoll goes on to watch it; but nobody waits for it."""
    assert script_output(impl, CHILD + SOCKET_KEPT_BY_A_CHILD, when) == "idle\n"

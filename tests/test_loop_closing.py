"""Closing a loop, dropping it, and programs that end without closing it."""

import asyncio
import signal
import threading
import weakref

import pytest
from support import (
    collect,
    nothing,
    one_turn,
    open_descriptors,
    outcome,
    same_on_both,
    script_output,
)

# -- closing -----------------------------------------------------------------


def test_close_is_final_and_may_be_repeated(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_running_loop_cannot_be_closed(loop):
    errors = []
    loop.call_soon(lambda: errors.append(outcome(loop.close)))
    one_turn(loop)
    assert errors == [("raised", RuntimeError, "Cannot close a running event loop")]
    assert not loop.is_closed()


CALLS_ON_A_CLOSED_LOOP = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "run_until_complete": lambda loop: loop.run_until_complete(loop.create_future()),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(1, print),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "remove_writer": lambda loop: loop.remove_writer(1),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(10),
    "stop": lambda loop: loop.stop(),
    "time": lambda loop: loop.time() > 0,
    "create_future": lambda loop: loop.create_future().done(),
    "get_debug": lambda loop: loop.get_debug(),
    "set_debug": lambda loop: loop.set_debug(False),
    "set_exception_handler": lambda loop: loop.set_exception_handler(None),
    "set_task_factory": lambda loop: loop.set_task_factory(None),
}


@pytest.mark.parametrize("call", CALLS_ON_A_CLOSED_LOOP.values(), ids=CALLS_ON_A_CLOSED_LOOP)
def test_a_closed_loop_refuses_what_stock_loops_refuse(call):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.close()
        result = outcome(call, loop)
        loop._stopping = False
        return result

    same_on_both(scenario)


def test_a_closed_loop_refuses_new_tasks():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.close()
        coro = nothing()
        try:
            return outcome(loop.create_task, coro)
        finally:
            coro.close()

    assert same_on_both(scenario) == ("raised", RuntimeError, "Event loop is closed")


def test_coroutine_methods_of_a_closed_loop_fail_as_stock():
    calls = {
        "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
        "getaddrinfo": lambda loop: loop.getaddrinfo("127.0.0.1", 1),
    }

    def scenario(impl, call):
        loop = impl.new_event_loop()
        loop.close()
        coro = call(loop)
        try:
            coro.send(None)
        except BaseException as exc:
            return type(exc), str(exc)
        finally:
            coro.close()

    for name, call in calls.items():
        assert same_on_both(scenario, call) == (RuntimeError, "Event loop is closed"), name


def test_close_releases_what_was_still_scheduled(loop):
    class Thing:
        def method(self):
            raise AssertionError("ran after close")

    things = [Thing(), Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    loop.call_soon(things[0].method)
    loop.call_later(0.001, things[1].method)
    loop.call_soon_threadsafe(things[2].method)
    things.clear()
    loop.close()
    collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_a_loop_dropped_open_warns_and_is_closed(impl, no_new_descriptors):
    loop = impl.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        collect()


def test_closing_many_loops_in_any_order(new_loop):
    loops = [new_loop() for _ in range(20)]
    for loop in loops:
        one_turn(loop)
    for loop in loops[::2] + loops[1::2]:
        loop.close()
    assert all(loop.is_closed() for loop in loops)


def test_closing_from_another_thread_than_the_one_that_ran(loop):
    one_turn(loop)
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join(20)
    assert loop.is_closed()


def test_closing_from_a_thread_that_may_not_remove_signal_handlers(impl):
    """It says so, and gives everything back all the same."""
    before = open_descriptors()
    loop = impl.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    one_turn(loop)

    def scheduled():
        pass

    loop.call_soon(scheduled)
    gone = weakref.ref(scheduled)
    del scheduled
    result = []
    thread = threading.Thread(target=lambda: result.append(outcome(loop.close)[:2]))
    thread.start()
    thread.join()
    assert result == [("raised", ValueError)]
    assert loop.is_closed() and gone() is None
    assert open_descriptors() == before
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_loop_may_run_in_one_thread_after_another(loop):
    idents = []
    for _ in range(3):
        loop.call_soon(lambda: idents.append(threading.get_ident()))
        thread = threading.Thread(target=one_turn, args=(loop,))
        thread.start()
        thread.join(20)
        assert len(idents) == 1 and idents.pop() == thread.ident
    loop.call_soon(lambda: idents.append(threading.get_ident()))
    one_turn(loop)
    assert idents == [threading.get_ident()]


# -- programs that leave things behind ---------------------------------------


LEFT_BEHIND = {
    "nothing": "loop = new_event_loop(); loop.close()",
    "timers and callbacks": """
        loop = new_event_loop()
        loop.call_later(100, print, "never")
        loop.call_soon(print, "never")
        loop.close()
        """,
    "a finished loop in a global": """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        """,
    "a loop that runs in a daemon thread": """
        import threading, time
        loop = new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        time.sleep(0.05)
        """,
}


@pytest.mark.parametrize("source", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_the_interpreter_ends_well(impl, source):
    assert script_output(impl, source) == ""


def test_an_open_loop_at_exit_is_no_crash(impl):
    source = """
        import os, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        loop = new_event_loop()
        loop.call_later(100, print, "never")
        loop.add_reader(os.pipe()[0], print)
        loop.run_until_complete(asyncio.sleep(0.001))
        """
    assert script_output(impl, source) == ""


@pytest.mark.parametrize("closed", [[0], [1, 2], [0, 1, 2]], ids=str)
def test_without_standard_streams(impl, closed):
    """libuv aborts when it closes what has their numbers."""
    source = f"""
        import os
        os.dup2(1, 50)
        for fd in {closed}:
            os.close(fd)

        async def main():
            async def echo(reader, writer):
                writer.write(await reader.read(10))
                writer.close()

            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"echoed ")
            os.write(50, await reader.read(10))
            writer.close()
            server.close()
            process = await asyncio.create_subprocess_exec("echo", "said", stdin=-3, stdout=-1)
            os.write(50, (await process.communicate())[0])

        for _ in range(2):
            run(main())
        used = [fd for fd in {closed} if os.path.exists(f"/proc/self/fd/{{fd}}")]
        os.write(50, str(used).encode())
        """
    assert script_output(impl, source) == "echoed said\n" * 2 + "[]"


def test_a_loop_closed_in_a_callback_by_a_trick_ends(new_loop, no_new_descriptors):
    """asyncio's fails in its selector; neither goes on for ever."""
    loop = new_loop()

    def close():
        loop._thread_id = None
        loop.close()

    loop.call_soon(close)
    with pytest.raises((RuntimeError, AttributeError, ValueError)):
        loop.run_forever()
    assert loop.is_closed()

"""Debug mode: how it is switched on, what it checks and what it says.

uvloop#730 is a crash in debug mode; zuvloop#160 asks that misuse across threads raises, uvloop#33 that slow callbacks
name the coroutine.
"""

import asyncio
import gc
import sys
import threading
import time
import traceback

import pytest
from support import (
    Contexts,
    Logged,
    clean_environment,
    normalise,
    nothing,
    one_turn,
    outcome,
    run_script,
    same_on_both,
    script_output,
    turns,
)


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    yield loop
    if not loop.is_closed():
        loop.set_debug(False)


# -- switching it on ---------------------------------------------------------

SWITCHES = {
    "nothing": ([], {}),
    "-X dev": (["-X", "dev"], {}),
    "PYTHONASYNCIODEBUG=1": ([], {"PYTHONASYNCIODEBUG": "1"}),
    "PYTHONASYNCIODEBUG=": ([], {"PYTHONASYNCIODEBUG": ""}),
    "PYTHONDEVMODE=1": ([], {"PYTHONDEVMODE": "1"}),
    "-E hides the variable": (["-E"], {"PYTHONASYNCIODEBUG": "1"}),
    "-I hides the variable": (["-I"], {"PYTHONASYNCIODEBUG": "1"}),
}


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_the_interpreter_switches_debug_mode_on_as_for_asyncio(switch):
    flags, variables = switch

    def scenario(impl):
        return script_output(
            impl,
            """
            loop = new_event_loop()
            print(loop.get_debug())
            loop.close()
            """,
            flags=flags,
            env=clean_environment(**variables),
        )

    same_on_both(scenario)


def test_run_switches_it_for_its_loop(impl):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert impl.run(main(), debug=True) is True
    assert impl.run(main(), debug=False) is False


# -- slow callbacks ----------------------------------------------------------


def test_a_slow_callback_is_reported_as_by_asyncio(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        with Logged() as log:
            loop.call_soon(time.sleep, 0.02)
            loop.call_at(0.0, time.sleep, 0.02)
            turns(loop, 4)
            loop.set_debug(False)
            loop.close()
        return log.messages(), [
            record.levelname for record in log.records if "took" in record.getMessage()
        ]

    messages, levels = same_on_both(scenario)
    assert levels == ["WARNING", "WARNING"]
    assert all(
        message.startswith("Executing <") and message.endswith(" took N seconds")
        for message in messages
    )


async def slow_step():
    time.sleep(0.02)
    await asyncio.sleep(0)


def test_a_slow_step_names_its_task_and_coroutine(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        with Logged() as log:
            task = loop.create_task(slow_step(), name="a slow task")
            loop.run_until_complete(task)
            loop.set_debug(False)
            loop.close()
        return log.messages()

    messages = same_on_both(scenario)
    assert any(
        message.startswith("Executing <Task ")
        and "a slow task" in message
        and "slow_step()" in message
        for message in messages
    )


def test_the_time_is_told(debug_loop, logged):
    debug_loop.slow_callback_duration = 0.05
    debug_loop.call_soon(time.sleep, 0.2)
    before = time.monotonic()
    one_turn(debug_loop)
    most = time.monotonic() - before + 0.0005  # rounded to milliseconds
    [record] = [record for record in logged.records if "took" in record.getMessage()]
    seconds = float(record.getMessage().split(" took ")[1].split()[0])
    assert 0.2 <= seconds <= most


def test_a_fast_callback_is_not_reported(debug_loop, logged):
    debug_loop.slow_callback_duration = 5
    debug_loop.call_soon(time.sleep, 0.001)
    one_turn(debug_loop)
    assert logged.messages() == []


def test_slow_callbacks_are_not_reported_outside_debug_mode(loop, logged):
    loop.set_debug(False)
    loop.slow_callback_duration = 0.001
    loop.call_soon(time.sleep, 0.01)
    one_turn(loop)
    assert logged.messages() == []


def test_a_slow_task_woken_by_a_future_is_reported(logged):
    def scenario(impl):
        async def main(future):
            await future
            time.sleep(0.02)

        loop = impl.new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        with Logged() as log:
            future = loop.create_future()
            task = loop.create_task(main(future), name="woken")
            one_turn(loop)
            future.set_result(None)
            loop.run_until_complete(task)
            loop.set_debug(False)
            loop.close()
        return len([message for message in log.messages() if "'woken'" in message])

    assert same_on_both(scenario) == 1


# -- checks ------------------------------------------------------------------

THREAD_CHECKED = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
}


@pytest.mark.parametrize("call", THREAD_CHECKED.values(), ids=THREAD_CHECKED)
def test_calls_from_another_thread_raise_while_the_loop_runs(debug_loop, call):
    """zuvloop#160."""
    results = []

    def from_afar():
        thread = threading.Thread(target=lambda: results.append(outcome(call, debug_loop)))
        thread.start()
        thread.join()

    debug_loop.call_soon(from_afar)
    one_turn(debug_loop)
    assert results == [
        (
            "raised",
            RuntimeError,
            "Non-thread-safe operation invoked on an event loop other than the current one",
        )
    ]


def test_calls_from_another_thread_are_allowed_while_the_loop_is_idle(debug_loop):
    seen = []
    thread = threading.Thread(target=lambda: debug_loop.call_soon(seen.append, 1))
    thread.start()
    thread.join()
    one_turn(debug_loop)
    assert seen == [1]


def test_a_future_finished_in_another_thread_raises_there(debug_loop):
    results = []

    async def main():
        future = debug_loop.create_future()
        future.add_done_callback(print)
        thread = threading.Thread(target=lambda: results.append(outcome(future.set_result, 1)[:2]))
        thread.start()
        thread.join()
        future.remove_done_callback(print)

    debug_loop.run_until_complete(main())
    assert results == [("raised", RuntimeError)]


@pytest.mark.parametrize("bad", [5, None, "text"], ids=repr)
def test_a_callback_must_be_callable(bad):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        try:
            return [
                outcome(loop.call_soon, bad),
                outcome(loop.call_soon_threadsafe, bad),
                outcome(loop.call_later, 0, bad),
                outcome(loop.call_at, 0, bad),
            ]
        finally:
            loop.set_debug(False)
            loop.close()

    results = same_on_both(scenario)
    assert [result[1] for result in results] == [TypeError] * 4


def test_a_coroutine_or_coroutine_function_is_no_callback():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        coro = nothing()
        try:
            return [
                outcome(method, *arguments, bad)
                for bad in (nothing, coro)
                for method, arguments in (
                    (loop.call_soon, ()),
                    (loop.call_soon_threadsafe, ()),
                    (loop.call_later, (0,)),
                    (loop.call_at, (0,)),
                    (loop.run_in_executor, (None,)),
                )
            ]
        finally:
            coro.close()
            loop.set_debug(False)
            loop.close()

    assert same_on_both(scenario)[0] == (
        "raised",
        TypeError,
        "coroutines cannot be used with call_soon()",
    )


def test_debug_mode_off_checks_none_of_this(loop):
    loop.set_debug(False)
    contexts = Contexts()
    loop.set_exception_handler(contexts)
    loop.call_soon(5)
    one_turn(loop)
    assert [type(context["exception"]) for context in contexts] == [TypeError]


# -- where things were made --------------------------------------------------


def source_names(thing):
    return [entry.name for entry in thing._source_traceback]


def test_things_know_where_they_were_made(debug_loop):
    def make():
        return [
            debug_loop.call_soon(len, ""),
            debug_loop.call_later(0, len, ""),
            debug_loop.call_at(0, len, ""),
            debug_loop.call_soon_threadsafe(len, ""),
            debug_loop.create_future(),
            debug_loop.create_task(nothing()),
        ]

    for thing in make():
        assert isinstance(thing._source_traceback, traceback.StackSummary)
        assert "make" in source_names(thing)[-2:], type(thing)  # asyncio's own frame may follow
    turns(debug_loop, 3)


def test_handles_know_ten_frames_and_futures_all():
    def deep(depth, make):
        return make() if depth == 0 else deep(depth - 1, make)

    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        things = [
            deep(30, lambda: loop.call_soon(len, "")),
            deep(30, loop.create_future),
            deep(30, lambda: loop.create_task(nothing())),
        ]
        turns(loop, 3)
        loop.close()
        return [len(thing._source_traceback) > 10 for thing in things]

    assert same_on_both(scenario) == [False, True, True]


def test_the_last_line_of_the_source_is_the_callers(debug_loop):
    """asyncio cuts its own frames off; frames in C have none."""
    future = debug_loop.create_future()
    assert future._source_traceback[-1].filename in (__file__, asyncio.base_events.__file__)
    assert __file__ in [entry.filename for entry in future._source_traceback]
    handle = debug_loop.call_soon(len, "")
    assert handle._source_traceback[-1].filename == __file__
    one_turn(debug_loop)


def test_outside_debug_mode_nothing_is_kept(loop):
    loop.set_debug(False)
    things = [
        loop.call_soon(len, ""),
        loop.call_later(0, len, ""),
        loop.create_future(),
        loop.create_task(nothing()),
    ]
    assert [thing._source_traceback for thing in things] == [None] * 4
    turns(loop, 3)


def test_a_failing_callback_is_reported_with_its_source(debug_loop):
    contexts = Contexts()
    debug_loop.set_exception_handler(contexts)
    debug_loop.call_soon(int, "no")
    one_turn(debug_loop)
    assert list(contexts[0]) == ["message", "exception", "handle", "source_traceback"]


def test_the_log_of_a_failing_callback_in_debug_mode_is_that_of_asyncio(logged):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(True)
        with Logged() as log:
            loop.call_soon(int, "no")
            one_turn(loop)
            loop.set_debug(False)
            loop.close()
        text = log.messages()[0]
        return text[
            : text.index("source_traceback")
        ], "Object created at (most recent call last)" in text

    _, told = same_on_both(scenario)
    assert told


# -- where coroutines come from ----------------------------------------------


def test_coroutine_origins_are_tracked_while_a_debug_loop_runs(debug_loop):
    depths = [sys.get_coroutine_origin_tracking_depth()]
    debug_loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    one_turn(debug_loop)
    depths.append(sys.get_coroutine_origin_tracking_depth())
    assert depths[0] == depths[2] == 0
    assert depths[1] > 0


def test_origin_tracking_follows_set_debug_while_running(loop):
    depths = []

    def look():
        depths.append(sys.get_coroutine_origin_tracking_depth())

    async def main():
        loop.set_debug(False)
        await asyncio.sleep(0)
        look()
        loop.set_debug(True)
        await asyncio.sleep(0.001)
        look()
        loop.set_debug(False)
        await asyncio.sleep(0.001)
        look()

    loop.run_until_complete(main())
    look()
    assert depths[0] == depths[2] == depths[3] == 0
    assert depths[1] > 0


def test_the_former_tracking_depth_is_put_back(debug_loop):
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        one_turn(debug_loop)
        assert sys.get_coroutine_origin_tracking_depth() == 3
        with pytest.raises(LookupError):
            debug_loop.run_until_complete(fail())
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


async def fail():
    raise LookupError


def test_a_coroutine_never_awaited_tells_where_it_was_made(debug_loop):
    def callback():
        nothing()
        gc.collect()

    debug_loop.call_soon(callback)
    with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
        one_turn(debug_loop)
    assert "Coroutine created at" in str(caught[0].message)
    assert "in callback" in str(caught[0].message)


# -- whole programs ----------------------------------------------------------

UNFINISHED_GENERATOR = """
    async def numbers():
        try:
            for number in range(100):
                yield number
                await asyncio.sleep(0)
        finally:
            print("finalized")

    async def main():
        async for number in numbers():
            if number == 2:
                break
        generator = numbers()
        await anext(generator)
        del generator
        await asyncio.sleep(0.01)
        held.append(numbers())
        await anext(held[0])

    held = []
    run(main())
    print("end")
    """


@pytest.mark.parametrize("flags", [[], ["-X", "dev"]], ids=["plain", "dev"])
def test_an_unfinished_async_generator_in_debug_mode(impl, flags):
    """uvloop#730: a segmentation fault there."""
    output = script_output(
        impl, UNFINISHED_GENERATOR, flags=flags, env=clean_environment(PYTHONASYNCIODEBUG="1")
    )
    assert output == "finalized\nfinalized\nfinalized\nend\n"


def test_a_whole_program_in_dev_mode_with_warnings_as_errors(impl):
    assert (
        script_output(
            impl,
            """
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello\\n")
                print(await reader.readline())
                writer.close()
                await writer.wait_closed()
            print(await asyncio.to_thread(pow, 2, 3))
            process = await asyncio.create_subprocess_exec("echo", "child", stdout=-1)
            print(await process.communicate())
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.001))

        run(main())
        """,
            flags=["-X", "dev", "-W", "error"],
        )
        == "b'hello\\n'\n8\n(b'child\\n', None)\n"
    )


def test_debug_output_names_the_selector_once(logged):
    """asyncio tells in the log which selector it uses; nobody should see more than that."""

    def scenario(impl):
        with Logged() as log:
            loop = impl.new_event_loop()
            loop.close()
        return len(log.records), log.messages()

    same_on_both(scenario)


def test_a_loop_dropped_in_debug_mode_warns_with_its_repr(impl):
    result = run_script(
        impl,
        """
        loop = new_event_loop()
        del loop
        """,
        flags=["-X", "dev"],
    )
    assert result.returncode == 0
    assert "ResourceWarning: unclosed event loop <" in normalise(result.stderr)

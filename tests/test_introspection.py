"""Seeing inside: all_tasks, current_task, call graphs, and `python -m asyncio ps` and `pstree` from outside.

Tasks that debuggers cannot see are tasks that nobody can debug.
"""

import asyncio
import io
import re
import subprocess
import sys
import threading

import pytest
from support import (
    ASYNCIO,
    MIXTURES,
    PATIENCE,
    clean_environment,
    forever,
    normalise,
    run_command,
    same_on_both,
    script_command,
    turns,
)

call_graph_only = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="call graphs are new in 3.14"
)


# -- from inside -------------------------------------------------------------


def test_all_tasks_sees_tasks_of_every_kind():
    for mixture in MIXTURES:
        loop = mixture.new_event_loop()
        tasks = {kind.Task(forever(), loop=loop) for kind in MIXTURES}
        turns(loop, 2)
        assert asyncio.all_tasks(loop) == tasks
        for task in tasks:
            task.cancel()
        turns(loop, 3)
        assert asyncio.all_tasks(loop) == set()
        loop.close()


def test_all_tasks_from_another_thread(loop):
    found = []

    async def main():
        other = asyncio.ensure_future(forever())
        await asyncio.to_thread(lambda: found.append(asyncio.all_tasks(loop)))
        other.cancel()
        return {other, asyncio.current_task()}

    expected = loop.run_until_complete(main())
    assert expected <= found[0]


def test_each_thread_has_its_own_current_task(impl):
    seen = {}

    async def main(name):
        await asyncio.sleep(0.01)
        seen[name] = asyncio.current_task().get_name(), len(asyncio.all_tasks())

    def body(name):
        async def named():
            asyncio.current_task().set_name(name)
            await main(name)

        impl.run(named())

    threads = [threading.Thread(target=body, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == {f"thread {n}": (f"thread {n}", 1) for n in range(4)}


def test_isinstance_holds_for_everything_a_loop_makes(loop, run):
    """uvloop#482: programs and libraries ask."""

    async def main():
        assert isinstance(asyncio.current_task(), asyncio.Task)
        assert isinstance(asyncio.current_task(), asyncio.Future)
        assert isinstance(loop.create_future(), asyncio.Future)
        assert isinstance(asyncio.gather(), asyncio.Future)
        assert isinstance(loop.call_soon(int), asyncio.Handle)
        assert isinstance(loop.call_later(0, int), asyncio.TimerHandle)
        assert isinstance(asyncio.get_running_loop(), asyncio.AbstractEventLoop)
        assert asyncio.isfuture(asyncio.current_task())
        assert asyncio.iscoroutine(asyncio.current_task().get_coro())

    run(main())


def test_tasks_that_await_know_their_coroutine_chain(loop):
    async def inner():
        await loop.create_future()

    async def outer():
        await inner()

    task = loop.create_task(outer())
    turns(loop, 2)
    coro = task.get_coro()
    assert coro.cr_await.__name__ == "inner"
    assert asyncio.isfuture(task._fut_waiter)
    task.cancel()
    turns(loop, 2)


# -- call graphs -------------------------------------------------------------


def shape(graph):
    """A call graph as plain data, with task names, coroutine names and awaiters."""
    return (
        graph.future.get_name() if isinstance(graph.future, asyncio.Task) else "future",
        [entry.frame.f_code.co_name for entry in graph.call_stack],
        sorted((shape(awaiter) for awaiter in graph.awaited_by), key=str),
    )


@call_graph_only
def test_capture_call_graph_shows_who_awaits_whom():
    def scenario(mixture):
        loop = mixture.new_event_loop()
        results = []

        async def leaf():
            results.append(shape(asyncio.capture_call_graph()))
            await asyncio.sleep(0)
            results.append(shape(asyncio.capture_call_graph()))

        async def middle():
            async with asyncio.TaskGroup() as group:
                group.create_task(leaf(), name="leaf")

        async def side(task):
            await task

        async def main():
            task = mixture.Task(middle(), loop=loop, name="middle")
            other = mixture.Task(side(task), loop=loop, name="side")
            await asyncio.gather(task, other)

        loop.run_until_complete(mixture.Task(main(), loop=loop, name="main"))
        loop.close()
        return [(result[0], result[2]) for result in results], results[1][1][:1]

    results, _ = same_on_both(scenario, over=MIXTURES)
    name, awaited_by = results[1]
    assert name == "leaf"
    assert [entry[0] for entry in awaited_by] == ["middle"]


@call_graph_only
def test_capture_call_graph_of_another_task_and_of_a_future():
    def scenario(mixture):
        loop = mixture.new_event_loop()

        async def inner(future):
            await future

        async def outer(future):
            await inner(future)

        async def main():
            future = mixture.Future(loop=loop)
            tasks = [mixture.Task(outer(future), loop=loop, name=f"task {n}") for n in range(3)]
            await asyncio.sleep(0)
            found = (
                shape(asyncio.capture_call_graph(tasks[0])),
                shape(asyncio.capture_call_graph(future)),
            )
            future.set_result(None)
            await asyncio.gather(*tasks)
            return found, shape(asyncio.capture_call_graph(future))

        result = loop.run_until_complete(main())
        loop.close()
        return result

    (task, future), after = same_on_both(scenario, over=MIXTURES)
    assert task == ("task 0", ["inner", "outer"], [])
    assert [name for name, _, _ in future[2]] == ["task 0", "task 1", "task 2"]
    assert after[2] == []


@call_graph_only
def test_print_call_graph_prints_what_asyncio_prints():
    def scenario(mixture):
        loop = mixture.new_event_loop()
        out = io.StringIO()

        async def leaf():
            asyncio.print_call_graph(file=out)
            await asyncio.sleep(0)

        async def branch():
            await mixture.Task(leaf(), loop=loop, name="leaf")

        loop.run_until_complete(mixture.Task(branch(), loop=loop, name="branch"))
        loop.close()
        text = normalise(out.getvalue())
        # The frames below the coroutine are those of the loop, which are C here.
        return [line for line in text.splitlines() if re.search(r"leaf|branch|Awaited", line)]

    lines = same_on_both(scenario, over=MIXTURES)
    assert any("leaf" in line for line in lines) and any("branch" in line for line in lines)


@call_graph_only
def test_format_call_graph_of_a_waiting_task():
    def scenario(mixture):
        loop = mixture.new_event_loop()

        async def inner():
            await asyncio.sleep(30)

        async def outer():
            await inner()

        task = mixture.Task(outer(), loop=loop, name="waiting")
        turns(loop, 2)
        text = normalise(asyncio.format_call_graph(task))
        task.cancel()
        turns(loop, 3)
        loop.close()
        return text

    text = same_on_both(scenario, over=MIXTURES)
    assert "inner" in text and "outer" in text and "waiting" in text


@call_graph_only
def test_awaited_by_is_kept_and_cleared_as_by_asyncio():
    def scenario(mixture):
        loop = mixture.new_event_loop()
        log = []

        def names(future):
            return sorted(task.get_name() for task in future._asyncio_awaited_by or ())

        async def waiter(future):
            try:
                await future
            except (LookupError, asyncio.CancelledError):
                pass

        for finish in (
            lambda f: f.set_result(1),
            lambda f: f.set_exception(LookupError()),
            lambda f: f.cancel(),
        ):
            future = mixture.Future(loop=loop)
            log.append(future._asyncio_awaited_by)
            tasks = [mixture.Task(waiter(future), loop=loop, name=f"waiter {n}") for n in range(3)]
            turns(loop, 1)
            log.append(names(future))
            tasks[1].cancel()
            turns(loop, 2)
            if not future.done():
                finish(future)
            turns(loop, 2)
            log.append(names(future))
        loop.close()
        return log

    log = same_on_both(scenario, over=MIXTURES)
    assert log[1] == ["waiter 0", "waiter 1", "waiter 2"]
    assert log[2] == []


# -- from outside ------------------------------------------------------------

PROGRAM = """
import sys

async def leaf():
    await asyncio.sleep(60)

async def branch():
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(), name="leaf one")
        group.create_task(leaf(), name="leaf two")

async def waits_for_future(future):
    await future

async def waits_for_task(task):
    await task

async def main():
    asyncio.current_task().set_name("the main task")
    future = asyncio.get_running_loop().create_future()
    tasks = [
        asyncio.create_task(branch(), name="branch"),
        asyncio.create_task(waits_for_future(future), name="future waiter"),
    ]
    tasks.append(asyncio.create_task(waits_for_task(tasks[0]), name="task waiter"))
    await asyncio.sleep(0.05)
    print("READY", flush=True)
    await asyncio.gather(*tasks)

try:
    run(main())
except BaseException:
    pass
"""


class Outside:
    """A running program, looked at with asyncio's own tools."""

    def __init__(self, impl, source=PROGRAM):
        self.child = subprocess.Popen(
            script_command(impl, source),
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        assert self.child.stdout.readline() == "READY\n"

    def look(self, command):
        return run_command([sys.executable, "-m", "asyncio", command, str(self.child.pid)])

    def shown(self, command):
        """What a look shows; it must work."""
        result = self.look(command)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.child.kill()
        self.child.communicate(timeout=20 * PATIENCE)


@pytest.fixture(scope="module")
def outside_works():
    """Reading another process's memory needs a right that containers often withhold, so stock asyncio tells."""
    with Outside(ASYNCIO) as outside:
        result = outside.look("ps")
    if result.returncode and re.search(
        "ermission|ptrace|not permitted", result.stderr + result.stdout
    ):
        pytest.skip("reading the memory of other processes is not permitted here")
    assert result.returncode == 0, result


def cells(text):
    """The table that `ps` prints, without addresses: names, coroutine stacks, awaiter chains."""
    rows = []
    for line in text.splitlines()[2:]:
        parts = [part.strip() for part in re.split(r"\s{2,}", line.strip())]
        rows.append([part for part in parts if not re.fullmatch(r"0x[0-9a-f]+|\d+", part)])
    return sorted(rows)


@call_graph_only
def test_ps_shows_the_tasks_as_for_a_stock_process(outside_works):
    def scenario(impl):
        with Outside(impl) as outside:
            return cells(outside.shown("ps"))

    rows = same_on_both(scenario)
    names = {name for row in rows for name in row}
    tasks = ("the main task", "branch", "leaf one", "leaf two", "future waiter", "task waiter")
    for expected in tasks:
        assert any(expected in name for name in names), expected


@call_graph_only
def test_pstree_shows_the_tree_as_for_a_stock_process(outside_works):
    def scenario(impl):
        with Outside(impl) as outside:
            text = outside.shown("pstree")
        # The order of siblings goes by address.
        return sorted(
            re.sub(r"[│├└─\s]+", " ", normalise(line)).strip() for line in text.splitlines()
        )

    lines = same_on_both(scenario)
    assert any("leaf one" in line for line in lines)
    assert any(re.search(r"\bleaf\b", line) for line in lines)


@call_graph_only
def test_ps_of_a_loop_that_has_worked_for_a_while(outside_works):
    """The fields that debuggers read must hold for tasks made from memory used before, too."""
    source = PROGRAM.replace(
        "    print(",
        """
    async def quick():
        await asyncio.sleep(0)

    for _ in range(200):
        await asyncio.gather(*(quick() for _ in range(10)))
    print(""",
    )

    def scenario(impl):
        with Outside(impl, source) as outside:
            return cells(outside.shown("ps"))

    assert same_on_both(scenario)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="the sampling profiler is new in 3.15")
@pytest.mark.parametrize("mode", ["all", "running"])
def test_the_sampling_profiler_sees_the_tasks_of_a_stock_process(outside_works, tmp_path, mode):
    source = PROGRAM.replace(
        "    await asyncio.gather(*tasks)",
        """
    while True:
        pass
""",
    )
    profiler = f"-m profiling.sampling attach --async-aware --async-mode {mode} --collapsed -d 1"

    def scenario(impl):
        stacks = tmp_path / f"{impl.name}.txt"
        with Outside(impl, source) as outside:
            what = [*profiler.split(), "-o", str(stacks), str(outside.child.pid)]
            result = run_command([sys.executable, *what])
            assert result.returncode == 0, result
        # Without thread, line numbers and counts.
        text = re.sub(r"tid:\d+;|:\d+(?=[; ])| \d+$", "", stacks.read_text(), flags=re.M)
        return sorted(set(text.splitlines()))

    stacks = same_on_both(scenario)
    assert any("the main task" in stack for stack in stacks)
    assert any("leaf one" in stack for stack in stacks) == (mode == "all")


@call_graph_only
def test_ps_of_a_busy_process_is_no_crash(outside_works, impl):
    source = """
async def worker():
    while True:
        await asyncio.sleep(0)

async def main():
    tasks = [asyncio.create_task(worker(), name=f"worker {n}") for n in range(5)]
    await asyncio.sleep(0.01)
    print("READY", flush=True)
    await asyncio.gather(*tasks)

try:
    run(main())
except BaseException:
    pass
"""
    with Outside(impl, source) as outside:
        # The tool may read a moving target and say so; the process must live on, and most looks must succeed.
        results = [outside.look("ps") for _ in range(3)]
        assert outside.child.poll() is None
    good = [result.stdout for result in results if result.returncode == 0]
    assert any("worker 3" in text for text in good), results

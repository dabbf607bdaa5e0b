"""Random programs of tasks, futures, timers and cancels must do the same, in the same order, on every loop.

A program is data: a list of actors, each a list of steps. It is interpreted by coroutines that write a log of all
that happens. The clock is moved by hand, and no two timers are due at the same time, so that asyncio itself has
exactly one order to run things in.
"""

import asyncio
import sys

from hypothesis import example, given
from hypothesis import strategies as st
from support import ASYNCIO, MIXTURES, VirtualTime, turns

TICKS = 24
TURNS_A_TICK = 60


class Machine:
    """One run of a program on one kind of loop, with tasks and futures of one kind."""

    def __init__(self, mixture, program):
        self.log = []
        self.mixture = mixture
        self.program = program
        self.loop = type("VirtualLoop", (VirtualTime, mixture.EventLoop), {})()
        self.loop.now = 0.0
        self.loop.set_debug(False)
        self.loop.set_exception_handler(self.failed)
        self.serial = 0
        self.tasks = []
        self.futures = []
        self.handles = []
        self.locks = []

    def note(self, *what):
        self.log.append((self.loop.now, *what))

    def failed(self, loop, context):
        if (
            "handle" in context
        ):  # what was never retrieved is reported whenever the collector finds it
            self.note("handler", type(context["exception"]).__name__)

    def delay(self, ticks):
        """A delay that no other timer of the program has, counted from a whole tick."""
        self.serial += 1
        return ticks + self.serial / 65536

    def run(self):
        self.futures = [self.mixture.Future(loop=self.loop) for _ in range(3)]
        for number, future in enumerate(self.futures):
            future.add_done_callback(
                lambda f, number=number: self.note("future", number, describe(f))
            )
        if self.program:
            self.spawn(0, "main")
        for _ in range(TICKS):
            turns(self.loop, TURNS_A_TICK)
            self.loop.now += 1.0
        self.note(
            "states", [describe(task) for task in self.tasks], [describe(f) for f in self.futures]
        )
        log = list(
            self.log
        )  # what tasks that will not end write at their death depends on the collector
        self.close()
        return log

    def close(self):
        for _ in range(20):
            pending = [task for task in self.tasks if not task.done()]
            if not pending:
                break
            for task in pending:
                task.cancel()
            turns(self.loop, TURNS_A_TICK)
        for thing in self.tasks + self.futures:
            if thing.done() and not thing.cancelled():
                thing.exception()
        self.loop.set_exception_handler(lambda loop, context: None)
        turns(self.loop, 5)
        self.loop.close()

    def spawn(self, actor, how):
        if len(self.tasks) >= 25:
            return None
        name = f"{how}{len(self.tasks)}"
        task = self.mixture.Task(self.act(name, actor), loop=self.loop, name=name)
        task.add_done_callback(lambda t: self.note("done", name, describe(t)))
        self.tasks.append(task)
        return task

    async def act(self, name, actor):
        self.note(name, "starts", asyncio.current_task().get_name())
        try:
            for number, (step, *arguments) in enumerate(self.program[actor % len(self.program)]):
                self.note(name, number, step)
                try:
                    self.note(name, number, "gives", repr(await getattr(self, step)(*arguments)))
                except Failure as exc:
                    self.note(name, number, "failed", str(exc))
            return name
        except asyncio.CancelledError as exc:
            self.note(name, "cancelled", [str(arg) for arg in exc.args])
            raise
        finally:
            self.note(name, "ends")

    # -- the steps: each is a coroutine method --

    async def yield_(self, times):
        for _ in range(times):
            await asyncio.sleep(0)

    async def sleep(self, ticks):
        return await asyncio.sleep(self.delay(ticks), "slept")

    async def spawn_(self, actor):
        self.spawn(actor, "task")

    async def call(self, actor):
        task = self.spawn(actor, "call")
        return task and await task

    async def join(self, which):
        """Await a younger task: were older ones allowed too, rings of tasks would wait for ever."""
        which %= len(self.tasks)
        me = asyncio.current_task()
        if me in self.tasks and which > self.tasks.index(me):  # an eager task is not yet, at first
            return await self.tasks[which]

    async def wait_future(self, which):
        return await self.futures[which]

    async def set_result(self, which, value):
        if not self.futures[which].done():
            self.futures[which].set_result(value)

    async def set_exception(self, which, text):
        if not self.futures[which].done():
            self.futures[which].set_exception(Failure(text))
            self.futures[which].exception()

    async def cancel_future(self, which):
        return self.futures[which].cancel("future")

    async def renew_future(self, which):
        if self.futures[which].done():
            self.futures[which] = self.mixture.Future(loop=self.loop)

    async def cancel(self, which, message):
        return self.tasks[which % len(self.tasks)].cancel(message)

    async def uncancel(self):
        return asyncio.current_task().uncancel(), asyncio.current_task().cancelling()

    async def fail(self, text):
        raise Failure(text)

    async def call_soon(self, mark):
        self.handles.append(self.loop.call_soon(self.note, "soon", mark))

    async def call_later(self, ticks, mark):
        self.handles.append(self.loop.call_later(self.delay(ticks), self.note, "later", mark))

    async def call_soon_failing(self):
        self.loop.call_soon(fail_now)

    async def cancel_handle(self, which):
        if self.handles:
            self.handles[which % len(self.handles)].cancel()

    async def timer_sets_future(self, ticks, which):
        self.handles.append(self.loop.call_later(self.delay(ticks), self.settle, which))

    def settle(self, which):
        self.note("settles", which)
        if not self.futures[which].done():
            self.futures[which].set_result("by timer")

    async def timer_cancels_task(self, ticks, which):
        self.loop.call_later(
            self.delay(ticks), self.tasks[which % len(self.tasks)].cancel, "by timer"
        )

    async def swallow(self, ticks):
        """Sleep, and refuse to be cancelled."""
        try:
            await asyncio.sleep(self.delay(ticks))
        except asyncio.CancelledError as exc:
            return "swallowed", [str(arg) for arg in exc.args], asyncio.current_task().cancelling()

    async def wait_for(self, which, ticks):
        try:
            return await asyncio.wait_for(asyncio.shield(self.futures[which]), self.delay(ticks))
        except TimeoutError:
            return "timeout"

    async def timeout(self, ticks, inner):
        try:
            async with asyncio.timeout(self.delay(ticks)) as timeout:
                await asyncio.sleep(self.delay(inner))
            return "in time", timeout.expired()
        except TimeoutError:
            return "too late", timeout.expired()

    async def gather(self, actors, return_exceptions):
        tasks = [task for task in (self.spawn(actor, "part") for actor in actors) if task]
        return await asyncio.gather(*tasks, return_exceptions=return_exceptions)

    async def shield(self, actor):
        task = self.spawn(actor, "shielded")
        return task and await asyncio.shield(task)

    async def wait(self, actors, ticks, first):
        tasks = [task for task in (self.spawn(actor, "waited") for actor in actors) if task]
        if tasks:
            when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
            done, pending = await asyncio.wait(tasks, timeout=self.delay(ticks), return_when=when)
            for task in done:
                if not task.cancelled():
                    task.exception()
            return sorted(task.get_name() for task in done), sorted(
                task.get_name() for task in pending
            )

    async def group(self, actor):
        """One child only: a group cancels several in the order of their addresses."""
        if len(self.tasks) >= 25:
            return None
        try:
            async with asyncio.TaskGroup() as group:
                name = f"grouped{len(self.tasks)}"
                self.tasks.append(group.create_task(self.act(name, actor), name=name))
        except BaseExceptionGroup as exc:
            return [str(error) for error in exc.exceptions]

    async def lock(self, ticks):
        if not self.locks:
            self.locks.append(asyncio.Lock())
        async with self.locks[0]:
            self.note("locked")
            await asyncio.sleep(self.delay(ticks))

    async def eager(self, actor):
        if sys.version_info >= (3, 12) and len(self.tasks) < 25:
            name = f"eager{len(self.tasks)}"
            # Reserve the place, as the actor runs before its task is known.
            self.tasks.append(self.mixture.Future(loop=self.loop))
            place = len(self.tasks) - 1
            self.tasks[place].cancel()
            task = self.mixture.Task(
                self.act(name, actor), loop=self.loop, name=name, eager_start=True
            )
            self.tasks[place] = task
            return describe(task)


class Failure(Exception):
    pass


def fail_now():
    raise Failure("in a callback")


def describe(future):
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    if future.exception() is not None:
        return f"raised {future.exception()}"
    return f"returned {future.result()}"


actors = st.integers(0, 3)
which = st.integers(0, 2)
tasks = st.integers(0, 6)
ticks = st.integers(0, 4)
texts = st.sampled_from("abc")

steps = st.one_of(
    st.tuples(st.just("yield_"), st.integers(0, 3)),
    st.tuples(st.just("sleep"), ticks),
    st.tuples(st.just("spawn_"), actors),
    st.tuples(st.just("call"), actors),
    st.tuples(st.just("join"), tasks),
    st.tuples(st.just("wait_future"), which),
    st.tuples(st.just("set_result"), which, texts),
    st.tuples(st.just("set_exception"), which, texts),
    st.tuples(st.just("cancel_future"), which),
    st.tuples(st.just("renew_future"), which),
    st.tuples(st.just("cancel"), tasks, texts),
    st.tuples(st.just("uncancel")),
    st.tuples(st.just("fail"), texts),
    st.tuples(st.just("call_soon"), texts),
    st.tuples(st.just("call_later"), ticks, texts),
    st.tuples(st.just("call_soon_failing")),
    st.tuples(st.just("cancel_handle"), tasks),
    st.tuples(st.just("timer_sets_future"), ticks, which),
    st.tuples(st.just("timer_cancels_task"), ticks, tasks),
    st.tuples(st.just("swallow"), ticks),
    st.tuples(st.just("wait_for"), which, ticks),
    st.tuples(st.just("timeout"), ticks, ticks),
    st.tuples(st.just("gather"), st.lists(actors, max_size=3), st.booleans()),
    st.tuples(st.just("shield"), actors),
    st.tuples(st.just("wait"), st.lists(actors, max_size=3), ticks, st.booleans()),
    st.tuples(st.just("group"), actors),
    st.tuples(st.just("lock"), ticks),
    st.tuples(st.just("eager"), actors),
)

programs = st.lists(st.lists(steps, max_size=8), min_size=1, max_size=4)


@given(programs)
@example(
    [
        [("spawn_", 1), ("spawn_", 2), ("sleep", 1), ("set_result", 0, "a")],
        [("wait_future", 0)],
        [("cancel", 1, "b")],
    ]
)
@example(
    [
        [("gather", [1, 2, 3], False), ("sleep", 2)],
        [("fail", "a")],
        [("sleep", 3)],
        [("swallow", 1)],
    ]
)
@example([[("timeout", 1, 3), ("timeout", 3, 1), ("wait_for", 0, 2)]])
@example([[("eager", 1), ("eager", 2), ("yield_", 2)], [("call_soon", "a")], [("sleep", 1)]])
def test_a_random_program_does_the_same_everywhere(program):
    expected = Machine(ASYNCIO, program).run()
    assert expected  # at the least, the states at the end
    for mixture in MIXTURES:
        if mixture is not ASYNCIO:
            got = Machine(mixture, program).run()
            for step, (ours, theirs) in enumerate(zip(got, expected)):
                assert (mixture.name, step, ours) == (mixture.name, step, theirs)
            assert (mixture.name, len(got)) == (mixture.name, len(expected))

"""Tasks: done, failed, cancelled, never run; their contexts and names; eager ones."""

import asyncio
import contextvars
import os
import sys

import hotloop

from .env import (
    Failure,
    attempt,
    fails,
    forever,
    nothing,
    raising,
    scenario,
    since,
    value,
    variable,
    waiting,
)


@scenario
async def task_done(env):
    await env.task(value())
    await env.loop.create_task(value())


@scenario
async def task_not_looked_at(env):
    env.loop.create_task(value())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@scenario
async def task_raising(env):
    await fails(env.task(raising()))
    await fails(env.loop.create_task(raising()))


@scenario
async def task_exception_never_retrieved(env):
    env.task(raising())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@scenario
async def task_cancelled_before_it_began(env):
    task = env.task(value())
    task.cancel()
    await fails(task, asyncio.CancelledError)


@scenario
async def task_cancelled_while_waiting(env):
    task = env.task(forever(env))
    await asyncio.sleep(0)
    task.cancel(msg=object())
    task.cancelling(), task.uncancel(), task.cancel()
    await fails(task, asyncio.CancelledError)
    task.cancel()


@scenario
async def task_cancelled_while_sleeping(env):
    task = env.task(asyncio.sleep(100))
    await asyncio.sleep(0)
    task.cancel()
    await fails(task, asyncio.CancelledError)


@scenario
async def task_that_swallows_cancel(env):
    async def main():
        try:
            await env.future()
        except asyncio.CancelledError:
            return object()

    task = env.task(main())
    await asyncio.sleep(0)
    task.cancel()
    await task


@scenario
async def task_cancelled_by_itself(env):
    async def main():
        asyncio.current_task().cancel("message")
        await asyncio.sleep(0)

    await fails(env.task(main()), asyncio.CancelledError)


@scenario
def task_never_run(env):
    task = env.task(value())
    task._log_destroy_pending = False
    env.turn()


@scenario
def task_dropped_while_pending(env):
    env.task(forever(env))
    env.turn()


@scenario
def task_waiting_for_a_cycle(env):
    async def main():
        fut = env.future()
        fut.set_later = asyncio.current_task() if hasattr(fut, "__dict__") else None
        await fut

    env.task(main())
    env.turn()


@scenario
async def task_chain(env):
    async def chain(depth):
        return await env.task(chain(depth - 1)) if depth else 0

    await chain(5)


@scenario
async def task_awaits_stock_and_ours(env):
    for Future in asyncio.Future, hotloop.Future:
        for Task in asyncio.Task, hotloop.Task:
            fut = Future(loop=env.loop)
            task = Task(waiting(fut), loop=env.loop)
            await asyncio.sleep(0)
            fut.set_result(object())
            await task
            task = Task(waiting(Task(raising(), loop=env.loop)), loop=env.loop)
            await fails(task)
            task = Task(waiting(Future(loop=env.loop)), loop=env.loop)
            await asyncio.sleep(0)
            task.cancel()
            await fails(task, asyncio.CancelledError)


@scenario
async def task_bad_yields(env):
    def yields(what):
        class Awaitable:
            def __await__(self):
                yield what

        async def main():
            await Awaitable()

        return main()

    other = asyncio.SelectorEventLoop()
    for what in object(), 1, env.future(), env.implementation.Future(loop=other), (x for x in ()):
        await fails(env.task(yields(what)), RuntimeError)
    other.close()


@scenario
async def task_awaits_itself(env):
    async def main():
        await asyncio.current_task()

    await fails(env.task(main()), RuntimeError)


@scenario
async def task_names(env):
    task = env.task(value(), name="given")
    task.set_name(object())
    task.set_name("name" + str(id(task)))
    task.get_name(), repr(task), repr(task)
    other = env.task(value())
    other.get_name(), other.get_name()
    await task
    await other


@scenario
async def contexts_set_looked_at_and_kept(env):
    """In empty contexts: the loop lends those, and whoever sets a variable keeps it."""

    async def setting():
        token = variable.set(1)
        await asyncio.sleep(0)
        variable.reset(token)
        await asyncio.sleep(0)
        if sys.version_info >= (3, 12):
            assert asyncio.current_task().get_context() is not None
        return contextvars.copy_context()

    def start():
        futures = [env.loop.create_task(setting()) for _ in range(3)]
        for _ in range(4):
            fut = env.loop.create_future()
            fut.add_done_callback(variable.set)
            fut.add_done_callback(nothing)
            futures.append(fut)
        return futures

    futures = contextvars.Context().run(start)
    assert len(futures[-1]._callbacks) == 2
    for fut in futures[3:-1]:
        fut.set_result(None)
    assert env.loop._ready
    await asyncio.gather(*futures[:3])


@scenario
async def task_contexts(env):
    async def main():
        variable.set(object())

    context = contextvars.copy_context()
    await env.task(main(), context=context)
    await env.task(main())
    task = env.loop.create_task(main(), context=context, name=None)
    await task


@scenario
async def task_attributes(env):
    task = env.task(waiting(env.future()))
    await asyncio.sleep(0)
    for name in dir(task):
        getattr(task, name, None)
    task.get_stack(), task.get_stack(limit=1), task.get_coro(), task._fut_waiter, task._callbacks
    with open(os.devnull, "w") as null:
        task.print_stack(file=null)
    attempt(RuntimeError, task.set_result, 1)
    attempt(RuntimeError, task.set_exception, Failure())
    task.cancel()
    await fails(task, asyncio.CancelledError)


@scenario
def task_made_wrongly(env):
    coro = value()
    Task = env.implementation.Task
    attempt(TypeError, Task)
    attempt(TypeError, Task, nothing, loop=env.loop)
    attempt(TypeError, Task, coro, loop=env.loop, other=1)
    attempt(TypeError, Task, coro, 1)
    attempt(TypeError, env.loop.create_task)
    attempt(TypeError, env.loop.create_task, nothing)
    if sys.version_info < (3, 14):
        attempt(TypeError, env.loop.create_task, coro, other=1)
    else:
        uninitialised = Task.__new__(Task)
        repr(type(uninitialised))
    coro.close()


@scenario
def task_with_a_failing_name(env):
    class Odd:
        def __str__(self):
            raise Failure

    coro = value()
    attempt(Failure, env.implementation.Task, coro, loop=env.loop, name=Odd())
    coro.close()


@scenario
async def task_subclass(env):
    task = env.MyTask(value(), loop=env.loop)
    task.attribute = task
    await task
    task = env.MyTask(forever(env), loop=env.loop)
    await asyncio.sleep(0)
    task.cancel()
    await fails(task, asyncio.CancelledError)


@scenario
async def task_factory(env):
    env.loop.set_task_factory(lambda loop, coro, **options: env.MyTask(coro, loop=loop, **options))
    await env.loop.create_task(value(), name="x")
    env.loop.set_task_factory(None)


@scenario
async def task_of_a_generator_like(env):
    class Coroutine(asyncio.coroutines.collections.abc.Coroutine):
        def __init__(self):
            self.left = 2

        def send(self, value):
            self.left -= 1
            if not self.left:
                raise StopIteration(object())

        def throw(self, *args):
            raise args[0]

        def close(self):
            pass

        __await__ = nothing

    await env.task(Coroutine())


@scenario
async def current_and_all_tasks(env):
    task = env.task(forever(env))
    await asyncio.sleep(0)
    asyncio.all_tasks(), asyncio.current_task(), asyncio.all_tasks(env.loop)
    task.cancel()
    await fails(task, asyncio.CancelledError)


@since((3, 12))
async def eager_tasks(env):
    env.task(value(), eager_start=True).result()
    attempt(Failure, env.task(raising(), eager_start=True).result)
    fut = env.future()
    task = env.task(waiting(fut), eager_start=True)
    fut.set_result(object())
    await task
    task = env.task(forever(env), eager_start=True)
    task.cancel()
    await fails(task, asyncio.CancelledError)


@since((3, 12))
async def eager_task_factory(env):
    env.loop.set_task_factory(asyncio.eager_task_factory)
    await asyncio.gather(value(), asyncio.sleep(0), value())
    env.loop.set_task_factory(None)


@since((3, 14))
async def eager_start_of_the_loop(env):
    await env.loop.create_task(value(), eager_start=True)
    await env.loop.create_task(asyncio.sleep(0), eager_start=True, name="x")


@since((3, 12))
async def eager_task_ends_with_systemexit(env):
    async def main():
        raise SystemExit(object())

    try:
        env.task(main(), eager_start=True)
    except SystemExit:
        pass

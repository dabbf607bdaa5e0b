"""Look for leaks of references, blocks and malloc'ed bytes: run many small scenarios over and over.

    python3.14d tests/refleaks.py [-n ITERATIONS] [-v] [PART OF A SCENARIO'S NAME...]

Wants a debug interpreter (sys.gettotalrefcount); without one, it looks at allocated blocks and
malloc'ed bytes only. Every scenario runs with hotloop's loop, Future and Task, with stock ones on
hotloop's loop and the reverse, and in debug mode; a leak that stock asyncio has as well is shown,
but does not count. Exits with 1 if anything leaks.
"""

import argparse
import asyncio
import contextlib
import contextvars
import ctypes
import gc
import inspect
import logging
import os
import socket
import sys
import threading
import time
import warnings
import weakref

import hotloop
from support import ASYNCIO, HOTLOOP, HOTLOOP_ON_STOCK, STOCK_ON_HOTLOOP

ROUNDS = 4
variable = contextvars.ContextVar("variable", default=0)

# -- scenarios: functions of an Env, called in a row; coroutine functions run on its loop -------

SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def since(version):
    return scenario if sys.version_info >= version else lambda function: function


class Env:
    """What a scenario works with: a loop, and Future and Task of one implementation."""

    def __init__(self, implementation, debug):
        self.implementation = implementation
        self.loop = implementation.new_event_loop()
        self.loop.set_debug(debug)
        self.loop.slow_callback_duration = 60
        self.sockets = socket.socketpair()
        for end in self.sockets:
            end.setblocking(False)

        class MyFuture(implementation.Future):
            pass

        class MyTask(implementation.Task):
            pass

        self.MyFuture, self.MyTask = MyFuture, MyTask

    def future(self):
        return self.implementation.Future(loop=self.loop)

    def task(self, coro, **options):
        return self.implementation.Task(coro, loop=self.loop, **options)

    def turn(self):
        self.loop.stop()
        self.loop.run_forever()

    def close(self):
        self.turn()
        self.loop.close()
        for end in self.sockets:
            end.close()


class Failure(Exception):
    pass


def nothing(*args):
    pass


def fail(*args):
    raise Failure


async def value():
    return object()


async def raising():
    raise Failure(object())


async def waiting(fut):
    return await fut


async def forever(env):
    await env.future()


def attempt(kind, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except kind:
        return
    raise AssertionError(f"{function} did not raise {kind}")


async def fails(awaitable, kind=Failure):
    try:
        await awaitable
    except kind:
        return
    raise AssertionError(f"{awaitable} did not raise {kind}")


# Futures.


@scenario
def future_never_done(env):
    fut = env.future()
    fut.add_done_callback(nothing)


@scenario
def future_of_the_loop(env):
    env.loop.create_future().set_result(object())


@scenario
def future_with_result(env):
    fut = env.future()
    fut.add_done_callback(nothing)
    fut.add_done_callback(nothing, context=contextvars.copy_context())
    fut.set_result(object())
    fut.result(), fut.exception(), fut.done(), repr(fut)
    attempt(asyncio.InvalidStateError, fut.set_result, 1)
    attempt(asyncio.InvalidStateError, fut.set_exception, Failure)
    fut.cancel()
    env.turn()


@scenario
def future_with_exception(env):
    fut = env.future()
    fut.set_exception(Failure(object()))
    attempt(Failure, fut.result)
    fut.exception()
    attempt(Failure, fut.result)


@scenario
def future_with_exception_class(env):
    fut = env.future()
    fut.set_exception(Failure)
    fut._log_traceback = False


@scenario
def future_with_exception_never_retrieved(env):
    env.future().set_exception(Failure(object()))


@scenario
def future_with_bad_exceptions(env):
    fut = env.future()
    attempt(TypeError, fut.set_exception, 1)
    attempt(TypeError, fut.set_exception, int)
    try:
        fut.set_exception(StopIteration(object()))
    except TypeError:
        return
    fut.exception()


@scenario
def future_cancelled(env):
    fut = env.future()
    fut.add_done_callback(nothing)
    fut.cancel()
    attempt(asyncio.CancelledError, fut.result)
    attempt(asyncio.CancelledError, fut.exception)
    env.turn()


@scenario
def future_cancelled_with_message(env):
    fut = env.future()
    fut.cancel(msg=object())
    attempt(asyncio.CancelledError, fut.result)
    fut._make_cancelled_error(), fut._cancel_message


@scenario
def future_read_before_done(env):
    fut = env.future()
    attempt(asyncio.InvalidStateError, fut.result)
    attempt(asyncio.InvalidStateError, fut.exception)


@scenario
def future_callbacks_removed(env):
    fut = env.future()
    for callback in nothing, fail, nothing, print:
        fut.add_done_callback(callback)
    fut.remove_done_callback(nothing)
    fut.remove_done_callback(print)
    fut.remove_done_callback(id)
    fut._callbacks


@scenario
def future_callback_comparison_fails(env):
    class Odd:
        __call__ = nothing

        def __eq__(self, other):
            raise Failure

    fut = env.future()
    fut.add_done_callback(Odd())
    fut.add_done_callback(Odd())
    attempt(Failure, fut.remove_done_callback, nothing)


@scenario
def future_attributes(env):
    fut = env.future()
    for name in dir(fut):
        getattr(fut, name, None)
    fut._cancel_message = object()
    fut._asyncio_future_blocking = True
    attempt(ValueError, setattr, fut, "_log_traceback", True)
    fut.get_loop()
    type(fut)[int]


@scenario
def future_cycle(env):
    fut = env.future()
    fut.add_done_callback(fut.set_result)
    other = env.future()
    other.set_result(other)


@scenario
def future_weakly_referenced(env):
    fut = env.future()
    weakref.ref(fut, nothing)
    kept = weakref.ref(fut)
    del fut
    assert kept() is None


@scenario
def future_subclass(env):
    fut = env.MyFuture(loop=env.loop)
    fut.attribute = object()
    fut.itself = fut
    fut.set_result(fut)
    kept = env.MyFuture(loop=env.loop)
    kept.attribute = weakref.ref(kept)
    kept.set_exception(Failure(object()))


@scenario
def future_initialised_wrongly(env):
    attempt(TypeError, env.implementation.Future, 1)
    attempt(TypeError, env.implementation.Future, loop=env.loop, other=1)
    attempt(AttributeError, env.implementation.Future, loop=object())
    uninitialised = env.implementation.Future.__new__(env.implementation.Future)
    attempt(RuntimeError, uninitialised.cancel)
    repr(type(uninitialised))


@scenario
def future_initialised_again(env):
    fut = env.future()
    fut.add_done_callback(nothing)
    try:
        fut.__init__(loop=env.loop)
    except RuntimeError:
        pass


@scenario
async def future_awaited(env):
    for _ in range(3):
        fut = env.future()
        env.loop.call_soon(fut.set_result, object())
        await fut
        await fut


@scenario
async def future_awaited_by_several(env):
    fut = env.future()
    tasks = [env.task(waiting(fut)) for _ in range(3)]
    await asyncio.sleep(0)
    fut.set_result(object())
    for task in tasks:
        await task


@scenario
async def future_exception_awaited(env):
    fut = env.future()
    env.loop.call_soon(fut.set_exception, Failure(object()))
    await fails(fut)


@scenario
async def future_cancelled_while_awaited(env):
    fut = env.future()
    env.loop.call_soon(fut.cancel, object())
    await fails(fut, asyncio.CancelledError)


@scenario
def future_iterator_by_hand(env):
    fut = env.future()
    iterator = fut.__await__()
    next(iterator)
    attempt(RuntimeError, next, iterator)
    attempt(Failure, iterator.throw, Failure())
    iterator = iter(env.future())
    iterator.send(None)
    iterator.close()
    fut = env.future()
    fut.set_result((1, 2))
    attempt(StopIteration, next, iter(fut))
    attempt(TypeError, iter(fut).throw, 1)
    kept = iter(fut)
    fut.attribute = nothing if hasattr(fut, "__dict__") else None
    del fut, kept


# Tasks.


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


# What asyncio makes of them.


@scenario
async def gathering(env):
    await asyncio.gather(*(env.task(value()) for _ in range(5)))
    await asyncio.gather(value(), raising(), return_exceptions=True)
    await fails(asyncio.gather(value(), raising()))
    outer = asyncio.gather(forever(env), forever(env))
    await asyncio.sleep(0)
    outer.cancel()
    await fails(outer, asyncio.CancelledError)


@scenario
async def task_groups(env):
    async with asyncio.TaskGroup() as group:
        group.create_task(value())
        group.create_task(asyncio.sleep(0))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(raising())
            group.create_task(forever(env))
    except* Failure:
        pass


@scenario
async def time_limits(env):
    await asyncio.wait_for(value(), 10)
    await asyncio.wait_for(env.task(asyncio.sleep(0)), 10)
    await fails(asyncio.wait_for(env.future(), 0), TimeoutError)
    await fails(asyncio.wait_for(env.task(forever(env)), 0.00001), TimeoutError)
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(0):
            await env.future()
    except TimeoutError:
        pass


@scenario
async def shields_and_waits(env):
    inner = env.task(asyncio.sleep(0))
    await asyncio.shield(inner)
    inner = env.future()
    outer = asyncio.shield(inner)
    outer.cancel()
    inner.set_result(1)
    await fails(outer, asyncio.CancelledError)
    tasks = [env.task(value()), env.task(asyncio.sleep(0))]
    await asyncio.wait(tasks)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for next_done in asyncio.as_completed([env.task(value()), env.task(asyncio.sleep(0))]):
        await next_done


@scenario
async def locks_and_queues(env):
    lock, queue, event = asyncio.Lock(), asyncio.Queue(1), asyncio.Event()

    async def worker():
        async with lock:
            await queue.put(object())
        await event.wait()

    tasks = [env.task(worker()) for _ in range(3)]
    for _ in tasks:
        await queue.get()
    event.set()
    await asyncio.gather(*tasks)


@scenario
async def asynchronous_generators(env):
    async def numbers():
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)

    async for _ in numbers():
        pass
    async for _ in numbers():
        break
    abandoned = numbers()
    await abandoned.__anext__()
    del abandoned
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@scenario
async def executor(env):
    await env.loop.run_in_executor(None, nothing)
    await fails(env.loop.run_in_executor(None, fail))


@scenario
async def executor_calls_at_once(env):
    calls = [env.loop.run_in_executor(None, nothing, object(), *range(n)) for n in range(30)]
    calls += [env.loop.run_in_executor(None, fail, object()) for _ in range(10)]
    await asyncio.gather(*calls, return_exceptions=True)


@scenario
async def executor_calls_cancelled(env):
    calls = [env.loop.run_in_executor(None, nothing, object()) for n in range(30)]
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@scenario
def executor_refusals(env):
    attempt(TypeError, env.loop.run_in_executor, None)
    attempt(AttributeError, env.loop.run_in_executor, object(), nothing)


@scenario
async def executor_of_the_loop(env):
    executor = env.loop._default_executor
    if executor is not None:
        await asyncio.wrap_future(executor.submit(nothing, object()))
        await fails(env.loop.run_in_executor(executor, fail))


@scenario
def executor_of_a_loop_that_closes(env):
    loop = env.implementation.new_event_loop()
    loop.run_in_executor(None, nothing, object())
    loop.run_until_complete(loop.run_in_executor(None, nothing, object()))
    loop.run_in_executor(None, nothing, object())
    executor = loop._default_executor
    loop.close()
    executor.shutdown()


@scenario
def executor_shut_down(env):
    loop = env.implementation.new_event_loop()
    loop.run_until_complete(loop.run_in_executor(None, nothing, object()))
    executor = loop._default_executor
    executor.shutdown(wait=False, cancel_futures=True)
    attempt(RuntimeError, loop.run_in_executor, None, nothing)
    loop._default_executor = None
    executor.shutdown()
    loop.close()


# Handles and timers.


@scenario
def handles_dropped(env):
    for args in (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, object()), range(20):
        env.loop.call_soon(nothing, *args)
    env.turn()


@scenario
def handles_kept(env):
    handles = [env.loop.call_soon(nothing, *range(n)) for n in range(6)]
    for handle in handles:
        handle._args, handle._callback, repr(handle)
    env.turn()
    for handle in handles:
        repr(handle), handle.cancelled()
        handle.cancel()
        handle.cancel()
        repr(handle)


@scenario
def handles_cancelled(env):
    handles = [env.loop.call_soon(nothing, object(), *range(n)) for n in range(6)]
    for handle in handles:
        handle.cancel()
    env.turn()


@scenario
def handles_in_contexts(env):
    context = contextvars.copy_context()
    env.loop.call_soon(variable.set, object(), context=context)
    env.loop.call_soon(variable.set, object())
    handle = env.loop.call_later(0, variable.set, object(), context=context)
    if sys.version_info >= (3, 12):
        assert handle.get_context() is context
    env.turn()


@scenario
def handles_weakly_referenced(env):
    handle = env.loop.call_soon(nothing)
    kept = weakref.ref(handle, nothing)
    env.turn()
    del handle
    gc.isenabled(), kept


@scenario
def handle_in_a_cycle(env):
    handles = []
    handles.append(env.loop.call_soon(nothing, handles))
    timers = []
    timers.append(env.loop.call_later(1000, nothing, timers))
    timers[0].cancel()
    timers.append(env.loop.call_later(0, nothing, timers))
    env.turn()


@scenario
def handles_made_by_hand(env):
    for Handle, first in (hotloop.Handle, ()), (hotloop.TimerHandle, (10.5,)):

        class Sub(Handle):
            pass

        handle = Handle(*first, nothing, (1, 2, object(), 4), env.loop)
        handle._run()
        handle.cancel()
        handle = Sub(*first, nothing, [object()], env.loop, contextvars.copy_context())
        handle._run()
        attempt(TypeError, Handle)
        attempt(TypeError, Handle, *first, nothing, None, env.loop)
        attempt(TypeError, Handle, *first, nothing, (), env.loop, other=1)
        other = Handle(*first, nothing, (), env.loop)
        other == handle, hash(other), other != 1
        for name in dir(other):
            getattr(other, name, None)
        if first:
            other <= handle, other < handle, other >= handle
            attempt(TypeError, lambda: other < 1)
        other.__init__(*first, nothing, (object(),) * 5, env.loop)


@scenario
def handles_of_others_queued(env):
    env.loop._add_callback(asyncio.Handle(nothing, (object(),), env.loop))
    env.loop._add_callback(hotloop.Handle(nothing, (object(),) * 4, env.loop))
    env.turn()


@scenario
def callbacks_failing(env):
    env.loop.call_soon(fail)
    env.loop.call_soon(fail, *range(6))
    env.loop.call_later(0, fail, object())
    env.turn()
    env.turn()


@scenario
def exception_handler_failing(env):
    def handler(loop, context):
        raise Failure(context)

    env.loop.set_exception_handler(handler)
    env.loop.call_soon(fail)
    env.turn()
    env.future().set_exception(Failure())
    env.loop.set_exception_handler(None)


@scenario
def exception_handler_keeping(env):
    kept = []
    env.loop.set_exception_handler(lambda loop, context: kept.append(context))
    env.loop.call_soon(fail, kept)
    env.turn()
    env.loop.set_exception_handler(None)


@scenario
def callback_ends_the_loop(env):
    def leave():
        raise KeyboardInterrupt(object())

    env.loop.call_soon(leave)
    env.loop.call_soon(nothing, 1, 2, 3, 4)
    attempt(KeyboardInterrupt, env.loop.run_forever)
    env.turn()


@scenario
def timers_fired(env):
    for n in range(6):
        env.loop.call_later(0, nothing, *range(n))
        env.loop.call_at(env.loop.time() - 1, nothing, object())
    env.turn()
    env.turn()


@scenario
def timers_cancelled(env):
    timers = [env.loop.call_later(100 + n, nothing, object(), *range(n)) for n in range(6)]
    for timer in timers[::-1]:
        timer.cancel()
        timer.cancel()
    env.turn()


@scenario
def timers_with_odd_deadlines(env):
    env.loop.call_later(-1, nothing, object())
    env.loop.call_later(False, nothing)
    env.loop.call_at(0, nothing)
    env.loop.call_later(float("inf"), nothing, object()).cancel()
    attempt(TypeError, env.loop.call_later, "1", nothing)
    attempt(TypeError, env.loop.call_later, None, nothing)
    attempt(TypeError, env.loop.call_at, None, nothing)
    env.turn()


@scenario
def calls_made_wrongly(env):
    loop = env.loop
    for method in loop.call_soon, loop.call_soon_threadsafe, loop.call_later, loop.call_at:
        attempt(TypeError, method)
        attempt(TypeError, method, 1, nothing, other=2)
    attempt(TypeError, loop.call_later, 1)
    attempt(TypeError, loop.call_at, when=1)
    loop.call_soon(callback=nothing)
    loop.call_later(delay=0, callback=nothing, context=None)
    env.turn()
    env.turn()


@scenario
async def sleeps(env):
    await asyncio.sleep(0)
    await asyncio.sleep(0.00001, object())


# Descriptors.


@scenario
def descriptors_watched(env):
    a, b = env.sockets
    env.loop.add_reader(a, nothing, object())
    env.loop.add_reader(a.fileno(), nothing, *range(5))
    env.loop.add_writer(a, nothing)
    env.turn()
    assert env.loop.remove_reader(a) and env.loop.remove_writer(a.fileno())
    assert not env.loop.remove_reader(a)
    env.turn()


@scenario
def files_closed_while_watched(env):
    loop = env.loop
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        sock, peer = socket.socketpair()
        peer.close()
        add(sock, nothing)
        sock.close()
        assert remove(sock)
        attempt(ValueError, remove, sock)
    env.turn()


@scenario
def descriptors_ready(env):
    a, b = env.sockets
    env.loop.add_reader(a, a.recv, 10)
    env.loop.add_writer(b, b.send, b"x")
    for _ in range(3):
        time.sleep(0.0001)
        env.turn()
    env.loop.remove_writer(b)
    env.loop.remove_reader(a)


@scenario
def descriptors_watched_wrongly(env):
    attempt((ValueError, OSError), env.loop.add_reader, -1, nothing)
    attempt((ValueError, TypeError, AttributeError), env.loop.add_reader, "x", nothing)
    attempt(TypeError, env.loop.add_reader)
    attempt(TypeError, env.loop.add_writer, env.sockets[0])
    with open(os.devnull) as file:
        attempt((PermissionError, OSError), env.loop.add_reader, file, nothing)


@scenario
def descriptor_callback_failing(env):
    env.loop.add_writer(env.sockets[0], fail, object())
    time.sleep(0.0001)
    env.turn()
    env.loop.remove_writer(env.sockets[0])
    env.turn()


@scenario
async def sock_methods(env):
    a, b = env.sockets
    receiving = env.loop.create_task(env.loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    await env.loop.sock_sendall(b, b"x")
    await receiving
    receiving = env.loop.create_task(env.loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    receiving.cancel()
    await fails(receiving, asyncio.CancelledError)


@scenario
async def sock_methods_waiting(env):
    """Each way a wait can end."""
    loop, (a, b) = env.loop, env.sockets
    for call in (
        loop.sock_recv(a, 100_000),
        loop.sock_recv_into(a, bytearray(10)),
        loop.sock_recvfrom(a, 10),
        loop.sock_recvfrom_into(a, bytearray(10)),
    ):
        receiving = loop.create_task(call)
        await asyncio.sleep(0)
        await loop.sock_sendall(b, bytearray(b"data"))
        await receiving
    sending = loop.create_task(loop.sock_sendall(a, bytearray(1_000_000)))
    received = 0
    while received < 1_000_000:
        received += len(await loop.sock_recv(b, 1 << 20))
    await sending
    replaced = loop.create_task(loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    loop.add_reader(a, nothing)
    loop.remove_reader(a)
    replaced.cancel()
    await fails(replaced, asyncio.CancelledError)
    coro = loop.sock_recv(a, 10)
    coro.send(None)
    coro.close()
    loop.remove_reader(a)


@scenario
async def sock_methods_failing(env):
    loop, (a, _) = env.loop, env.sockets
    for call in (
        loop.sock_recv(a, -1),
        loop.sock_recv_into(a, b"read-only"),
        loop.sock_sendall(a, "text"),
        loop.sock_accept(a),
        loop.sock_sendto(a, b"data", 5),
    ):
        await fails(call, (ValueError, TypeError, OSError))
    left, right = socket.socketpair()
    left.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await asyncio.sleep(0)
    loop.call_soon(left.close)
    right.send(b"x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving])
    receiving.cancelled() or receiving.exception()
    right.close()
    left.close()


@scenario
async def sock_connections(env):
    loop = env.loop
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(server))
        await asyncio.sleep(0)
        await loop.sock_connect(client, server.getsockname())
        conn, _ = await accepting
        conn.close()
        address = server.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        await fails(loop.sock_connect(client, address), ConnectionError)


@scenario
async def literal_addresses(env):
    await env.loop.getaddrinfo("127.0.0.1", 80)
    await env.loop.getaddrinfo(None, "80", type=socket.SOCK_STREAM)
    await fails(env.loop.getaddrinfo("::1", 80, family=socket.AF_INET), socket.gaierror)


# Streams and servers.


class Peer(asyncio.Protocol):
    """A protocol that does what it is told in its callbacks."""

    def __init__(self, env, **hooks):
        self.hooks, self.lost, self.transport = hooks, env.loop.create_future(), None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.hooks.get("data", nothing)(self, data)

    def eof_received(self):
        self.hooks.get("eof", nothing)(self)

    def pause_writing(self):
        self.hooks.get("pause", nothing)(self)

    def resume_writing(self):
        self.hooks.get("resume", nothing)(self)

    def connection_lost(self, exc):
        self.lost.set_result(None)
        self.hooks.get("lost", nothing)(self)


class BufferedPeer(Peer, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.hooks.get("buffer", nothing)(self)
        self.memory = bytearray(100)
        return self.memory

    def buffer_updated(self, count):
        self.hooks.get("data", nothing)(self, count)


async def stream(env, cls=Peer, **hooks):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    protocol = cls(env, **hooks)
    await env.loop.create_connection(lambda: protocol, sock=ours)
    return protocol, peer


async def hang_up(protocol, peer):
    peer.close()
    await protocol.lost
    protocol.transport = None


@scenario
async def stream_that_echoes(env):
    for cls in Peer, BufferedPeer:
        protocol, peer = await stream(env, cls, data=lambda self, data: self.transport.write(b"y"))
        for size in 1, 600, 50:
            peer.send(bytes(size))
            while not await env.loop.sock_recv(peer, 1):
                pass
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await hang_up(protocol, peer)


@scenario
async def recycled_with_attributes(env):
    for _ in range(2):
        future = env.loop.create_future()
        future.attribute = object()
        future.other = weakref.ref(future)
        task = env.loop.create_task(asyncio.sleep(0))
        task.attribute = future
        await task


@scenario
async def stream_that_writes_much(env):
    protocol, peer = await stream(env)
    variable.set(object())
    write = protocol.transport.write
    for data in b"x", bytearray(600), memoryview(bytes(700)), bytearray(300_000), bytes(400_000):
        write(data)
    protocol.transport.writelines([b"a", bytearray(b"b"), b"", memoryview(b"c")])
    protocol.transport.set_write_buffer_limits(10)
    protocol.transport.close()
    while await env.loop.sock_recv(peer, 1 << 20):
        pass
    await hang_up(protocol, peer)


@scenario
async def stream_used_wrongly(env):
    protocol, peer = await stream(env)
    transport = protocol.transport
    for call, *args in (
        (transport.write, "text"),
        (transport.write,),
        (transport.writelines, [5]),
        (transport.writelines, 5),
        (transport.set_write_buffer_limits, 1, 2),
        (transport.get_extra_info, []),
    ):
        try:
            call(*args)
        except (TypeError, ValueError):
            pass
    transport.write_eof()
    try:
        transport.write(b"late")
    except RuntimeError:
        pass
    transport.get_extra_info("socket")
    repr(transport)
    transport.set_protocol(protocol)
    await hang_up(protocol, peer)


@scenario
@scenario
async def stream_aborted(env):
    protocol, peer = await stream(env)
    protocol.transport.write(bytes(400_000))
    protocol.transport.write(b"more")
    protocol.transport.abort()
    await hang_up(protocol, peer)


@scenario
async def stream_whose_peer_is_gone(env):
    protocol, peer = await stream(env)
    protocol.transport.pause_reading()
    peer.close()
    protocol.transport.write(b"to nobody")
    transport = protocol.transport
    await hang_up(protocol, peer)
    for _ in range(8):
        transport.write(b"later")


@scenario
async def stream_callbacks_failing(env):
    for event in "data", "eof", "lost", "pause", "resume", "buffer":
        cls = BufferedPeer if event == "buffer" else Peer
        protocol, peer = await stream(env, cls, **{event: fail})
        peer.send(b"x")
        protocol.transport.write(bytes(400_000))
        await asyncio.sleep(0.001)
        try:
            while peer.recv(1 << 20):
                pass
        except OSError:
            pass
        await asyncio.sleep(0.001)
        await hang_up(protocol, peer)


@scenario
async def stream_closed_behind_its_back(env):
    protocol, peer = await stream(env)
    protocol.transport._sock.close()
    protocol.transport.write(b"x")
    await hang_up(protocol, peer)


@scenario
async def server_with_clients(env):
    made = []

    def factory():
        if len(made) == 1:
            made.append(None)
            raise Failure
        made.append(Peer(env, data=lambda self, data: self.transport.write(data)))
        return made[-1]

    server = await env.loop.create_server(factory, "127.0.0.1", 0)
    for _ in range(3):
        client = Peer(env)
        await env.loop.create_connection(
            lambda client=client: client, *server.sockets[0].getsockname()
        )
        client.transport.write(b"x" * 600)
        await asyncio.sleep(0.001)
        client.transport.close()
        await client.lost
        client.transport = None
    await asyncio.gather(*(each.lost for each in made if each is not None))
    server.close()
    await server.wait_closed()
    for each in made:
        if each is not None:
            each.transport = None


@scenario
async def connections_that_fail(env):
    def failing():
        raise Failure

    loop = env.loop
    server = await loop.create_server(lambda: Peer(env), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    if env.implementation is HOTLOOP:  # asyncio leaves the socket to the garbage collector
        await fails(loop.create_connection(failing, *address), Failure)
    for turns in range(5):
        connecting = loop.create_task(loop.create_connection(asyncio.Protocol, *address))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, _ = await connecting
            transport.abort()
    await asyncio.sleep(0.002)
    server.close()
    await asyncio.sleep(0.002)
    await fails(loop.create_connection(asyncio.Protocol, *address), ConnectionError)


@scenario
async def numbers_used_again(env):
    """A watch is kept for the next socket by that number, be it a transport's or not."""
    for _ in range(2):
        protocol, peer = await stream(env)
        protocol.transport.get_extra_info("peername"), protocol.transport.get_extra_info("socket")
        await hang_up(protocol, peer)
        left, right = socket.socketpair()
        with left, right, open(os.devnull, "rb") as other:
            left.setblocking(False)
            right.send(b"x")
            await env.loop.sock_recv(left, 1)
            env.loop.call_soon(right.send, b"y")
            await env.loop.sock_recv(left, 1)
            env.loop.add_reader(left, print)
            env.loop.remove_reader(left)
            with contextlib.suppress(PermissionError):
                env.loop.add_reader(other, print)


# Threads.


class PipeProtocol(asyncio.Protocol):
    """Counts what comes; its lost future ends when the connection does."""

    def __init__(self, env):
        self.lost = env.future()
        self.received = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += len(data)

    def connection_lost(self, exc):
        self.lost.set_result(None)


async def pipe_transports(env):
    read, write = os.pipe()
    reading, receiver = await env.loop.connect_read_pipe(
        lambda: PipeProtocol(env), os.fdopen(read, "rb", 0)
    )
    writing, sender = await env.loop.connect_write_pipe(
        lambda: PipeProtocol(env), os.fdopen(write, "wb", 0)
    )
    return reading, receiver, writing, sender


@scenario
async def pipes(env):
    reading, receiver, writing, sender = await pipe_transports(env)
    for data in b"x", bytearray(b"y"), memoryview(bytes(1000)), bytes(300_000):
        writing.write(data)
    writing.write(b"more")
    reading.pause_reading()
    repr(reading), repr(writing), writing.get_write_buffer_limits(), reading.get_extra_info("pipe")
    reading.resume_reading()
    writing.close()
    await receiver.lost
    await sender.lost
    assert receiver.received == 301_006


@scenario
async def pipes_ended_otherwise(env):
    reading, receiver, writing, sender = await pipe_transports(env)
    writing.write(bytes(200_000))
    reading.close()
    await sender.lost
    await receiver.lost
    reading, receiver, writing, sender = await pipe_transports(env)
    writing.write(bytes(200_000))
    writing.abort()
    reading.set_protocol(reading.get_protocol())
    await sender.lost
    await receiver.lost
    for data in "text", 1, memoryview(b"xyz")[::2]:
        try:
            writing.write(data)
        except AssertionError:
            pass


@scenario
async def pipes_dropped_open(env):
    reading, receiver, writing, sender = await pipe_transports(env)
    reading.pause_reading()
    env.loop.remove_reader(writing._fileno)
    reading.anything = reading


@scenario
async def pipes_refused(env):
    with open("/dev/null", "rb") as null, open(__file__, "rb") as file:
        ours = isinstance(env.loop, hotloop.EventLoop)  # what asyncio leaves half made complains
        for pipe in (file, None, 0) if ours else (file,):
            for method in env.loop.connect_read_pipe, env.loop.connect_write_pipe:
                try:
                    await method(lambda: PipeProtocol(env), pipe)
                except (ValueError, AttributeError):
                    pass
        transport = env.loop._make_read_pipe_transport(null, asyncio.Protocol())
        await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        if ours:
            try:
                env.loop._make_read_pipe_transport(env.sockets[0], object())
            except AttributeError:
                pass


@scenario
async def pipe_protocols_failing(env):
    def fail(*args):
        raise ZeroDivisionError

    for method in "connection_made", "data_received", "eof_received", "connection_lost":
        reading, receiver, writing, sender = await pipe_transports(env)
        setattr(receiver, method, fail)
        sender.pause_writing = sender.resume_writing = fail
        writing.write(bytes(200_000))
        writing.close()
        await sender.lost
        while reading._pipe is not None:
            await asyncio.sleep(0)


@scenario
def threadsafe_calls_at_home(env):
    for n in range(6):
        env.loop.call_soon_threadsafe(nothing, *range(n))
    env.loop.call_soon_threadsafe(nothing, object()).cancel()
    env.turn()


@scenario
def threadsafe_calls_from_a_thread(env):
    def work():
        for n in range(6):
            env.loop.call_soon_threadsafe(nothing, object(), *range(n))
        env.loop.call_soon_threadsafe(nothing, object()).cancel()
        env.loop.call_soon_threadsafe(fail)
        env.loop.call_soon_threadsafe(env.loop.stop)

    thread = threading.Thread(target=work)
    env.loop.call_soon(thread.start)
    env.loop.run_forever()
    thread.join()


@scenario
def coroutines_from_a_thread(env):
    def work():
        asyncio.run_coroutine_threadsafe(value(), env.loop).result()
        env.loop.call_soon_threadsafe(env.loop.stop)

    thread = threading.Thread(target=work)
    env.loop.call_soon(thread.start)
    env.loop.run_forever()
    thread.join()


# Whole loops.


@scenario
def loop_opened_and_closed(env):
    env.implementation.new_event_loop().close()


@scenario
def loop_closed_full(env):
    loop = env.implementation.new_event_loop()
    for n in range(6):
        loop.call_soon(nothing, loop, *range(n))
        loop.call_later(n, nothing, loop, *range(n))
        loop.call_soon_threadsafe(nothing, loop, *range(n))
    loop.add_reader(env.sockets[0], nothing, loop)
    loop.remove_reader(env.sockets[0])
    loop.close()
    loop.close()
    attempt(RuntimeError, loop.call_soon, nothing)
    attempt(RuntimeError, loop.run_forever)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.received.append((data, addr))
        if data == b"raise":
            raise Failure

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def datagrams(env, **options):
    return env.loop.create_datagram_endpoint(Datagrams, **options)


@scenario
async def datagrams_to_and_fro(env):
    server, served = await datagrams(env, local_addr=("127.0.0.1", 0))
    where = server.get_extra_info("sockname")
    client, answered = await datagrams(env, remote_addr=where)
    for data in (b"one", bytearray(b"two"), memoryview(b"three"), b"", b"raise"):
        client.sendto(data)
    for n in range(40):
        client.sendto(b"%d" % n, where)
    attempt(ValueError, client.sendto, b"x", ("127.0.0.1", 1))
    attempt(TypeError, client.sendto, "text")
    while len(served.received) < 44:
        await asyncio.sleep(0)
    server.sendto(b"back", served.received[0][1])
    server.sendto(b"name", ("localhost", client.get_extra_info("sockname")[1]))
    client.sendto(bytes(70000))
    while len(answered.received) < 2:
        await asyncio.sleep(0)
    repr(server)
    for transport, protocol in ((client, answered), (server, served)):
        for name in dir(transport):
            getattr(transport, name, None)
        transport.anything = protocol
        transport.close()
        await protocol.lost
        transport.sendto(b"late") if transport is client else None


@scenario
async def datagrams_that_wait(env):
    ends = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.bind("")
    for end, other in zip(ends, reversed(ends)):
        end.connect(other.getsockname())
    ends[1].setblocking(False)
    transport, protocol = await datagrams(env, sock=ends[0])
    transport.set_write_buffer_limits(high=20, low=10)
    attempt(ValueError, transport.set_write_buffer_limits, 1, 2)
    for finish in (lambda: None, transport.abort):
        while len(transport._buffer) < 40:
            transport.sendto(b"datagram")
        finish()
        with ends[1] if transport.is_closing() else contextlib.nullcontext():
            while transport.get_write_buffer_size() and not transport.is_closing():
                try:
                    ends[1].recv(100)
                except BlockingIOError:
                    await asyncio.sleep(0)
    transport.pause_reading()
    transport.resume_reading()
    await protocol.lost


@scenario
async def datagrams_dropped(env):
    transport, protocol = await datagrams(env, local_addr=("127.0.0.1", 0))
    transport.pause_reading()
    transport.itself = transport
    attempt(TypeError, env.loop._make_datagram_transport)
    attempt((ValueError, AttributeError), env.loop._make_datagram_transport, None, protocol)
    attempt(AttributeError, env.loop._make_datagram_transport, transport._sock.dup(), None)


@scenario
def loop_dropped_open(env):
    loop = env.implementation.new_event_loop()
    loop.attribute = loop
    loop.call_soon(nothing, loop)
    loop.call_later(1, nothing, loop)
    loop.create_future()


@scenario
def loop_run_and_closed(env):
    env.implementation.run(value())
    try:
        env.implementation.run(raising())
    except Failure:
        pass


@scenario
def loop_subclass(env):
    class Loop(env.implementation.EventLoop):
        def time(self):
            return 5.5

        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    loop.call_later(0, nothing, loop)
    loop.run_until_complete(asyncio.sleep(0))
    loop.time = time.monotonic
    loop.call_soon = super(Loop, loop).call_soon
    loop.run_until_complete(asyncio.sleep(0))
    del loop.time, loop.call_soon
    loop.close()


@scenario
def loop_attributes(env):
    for name in dir(env.loop):
        getattr(env.loop, name, None)
    repr(env.loop)
    env.loop.attribute = object()
    env.loop.set_debug(not env.loop.get_debug())
    env.loop.set_debug(not env.loop.get_debug())


@scenario
async def processes(env):
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


@scenario
async def processes_with_pipes(env):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1)
    await process.communicate(b"data")
    await asyncio.sleep(0.001)


@scenario
async def processes_that_cannot_be_started(env):
    try:
        await asyncio.create_subprocess_exec("/nonexistent", stdin=-1, stdout=-1)
    except OSError:
        pass


@scenario
async def processes_cancelled_and_killed(env):
    task = env.loop.create_task(asyncio.create_subprocess_exec("sleep", "9", stdout=-1))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    await asyncio.sleep(0.001)


# -- measuring -----------------------------------------------------------------


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def malloc_bytes():
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.restype = Mallinfo2
    return lambda: function().uordblks


COUNTERS = {
    "refs": getattr(sys, "gettotalrefcount", None),
    "blocks": sys.getallocatedblocks,
    "malloc": malloc_bytes(),
}
COUNTERS = {name: counter for name, counter in COUNTERS.items() if counter}
# Growth in every round, by iteration, that counts: an object, or the least malloc gives out.
LIMITS = {"refs": 0.9, "blocks": 0.9, "malloc": 20}


def repeat(function, env, count):
    if inspect.iscoroutinefunction(function):

        async def main():
            for _ in range(count):
                await function(env)

        env.loop.run_until_complete(main())
        env.turn()
    else:
        for _ in range(count):
            function(env)


def fill_free_lists(count=5000):  # more than HL_FREE_MAX
    """Have so many objects of each kind at once that what is kept for reuse grows no more."""

    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(count)]
        kept = [iter(future) for future in futures]
        kept += [loop.call_soon(nothing) for _ in futures]
        kept += [loop.call_later(0, nothing) for _ in futures]
        await asyncio.gather(*(value() for _ in futures))
        await asyncio.sleep(0.001)
        kept += futures

    HOTLOOP.run(main())


def reading():
    for _ in range(3):
        gc.collect()
    return [counter() for counter in COUNTERS.values()]


def measure(function, implementation, debug, count):
    """The growth by iteration in the round in which each counter grew least."""
    env = Env(implementation, debug)
    repeat(function, env, count)
    readings = [reading()]
    for _ in range(ROUNDS):
        repeat(function, env, count)
        readings.append(reading())
    env.close()
    growth = {}
    for name, column in zip(COUNTERS, zip(*readings, strict=True), strict=True):
        growth[name] = min(b - a for a, b in zip(column, column[1:])) / count
    return growth


def leaks(growth):
    return any(growth[name] >= LIMITS[name] for name in growth)


def judge(function, implementation, debug, count):
    """The growth, and what to call it: a leak goes on for ever, but a cache (malloc has one for each
    thread) is full in the end, so what grows gets more iterations."""
    for iterations in count, 5 * count, 25 * count:
        growth = measure(function, implementation, debug, iterations)
        if not leaks(growth):
            return growth, ""
    stock = measure(function, ASYNCIO, debug, iterations)
    excess = {counter: growth[counter] - max(stock[counter], 0) for counter in growth}
    return growth, "LEAKS" if leaks(excess) else "as stock asyncio does"


def row(name, variant, growth, verdict):
    numbers = "  ".join(f"{growth[counter]:8.2f}" for counter in COUNTERS)
    print(f"{name:40} {variant:28} {numbers}  {verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=30, help="iterations in a round")
    parser.add_argument("-v", action="store_true", help="print what does not leak, too")
    parser.add_argument("names", nargs="*", help="parts of the names of scenarios")
    arguments = parser.parse_args()
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").propagate = False
    warnings.simplefilter("ignore")
    gc.disable()
    fill_free_lists()
    gc.collect()
    gc.freeze()
    print(
        f"{sys.version}\nwith libuv {hotloop.libuv_version()}; growth by iteration of: {', '.join(COUNTERS)}"
    )

    leaky = ran = 0
    for function in SCENARIOS:
        name = function.__name__
        if arguments.names and not any(part in name for part in arguments.names):
            continue
        for implementation in HOTLOOP, STOCK_ON_HOTLOOP, HOTLOOP_ON_STOCK:
            for debug in False, True:
                ran += 1
                variant = implementation.name + (", debug" if debug else "")
                growth, verdict = judge(function, implementation, debug, arguments.n)
                leaky += verdict == "LEAKS"
                if verdict or arguments.v:
                    row(name, variant, growth, verdict)
    print(f"{len(SCENARIOS)} scenarios, {ran} runs, {leaky} leak")
    return 1 if leaky or not ran else 0


if __name__ == "__main__":
    sys.exit(main())

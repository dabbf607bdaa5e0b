"""What programs do all day, in rounds: test_leaks.py looks at what each leaves behind.

A scenario takes a loop and an implementation (see support.py). refleaks.py has finer ones, for a debug interpreter.
"""

import asyncio
import contextvars
import functools
import os
import signal
import socket
import sys
import threading
import weakref

from support import collect, outcome, turns


class Thing:
    """A stranger whose instances are counted."""

    alive = weakref.WeakSet()

    def __init__(self):
        Thing.alive.add(self)


async def value(thing, delay=None):
    if delay is not None:
        await asyncio.sleep(delay)
    return thing


async def failing(thing):
    await asyncio.sleep(0)
    raise LookupError(thing)


async def forever(thing):
    await asyncio.get_running_loop().create_future()


# -- scenarios: each takes a loop and the implementation ---------------------


def futures_with_results(loop, impl):
    for _ in range(20):
        future = loop.create_future()
        future.add_done_callback(lambda f: None)
        future.set_result(Thing())
        future.result()
    turns(loop, 2)


def futures_with_many_callbacks(loop, impl):
    for count in range(10):
        future = impl.Future(loop=loop)
        callbacks = [lambda f, thing=Thing(): None for _ in range(count)]
        for callback in callbacks:
            future.add_done_callback(callback, context=contextvars.copy_context())
        if count % 2:
            future.remove_done_callback(callbacks[0])
        future.set_result(Thing())
    turns(loop, 2)


def futures_with_exceptions(loop, impl):
    for _ in range(20):
        future = loop.create_future()
        future.set_exception(LookupError(Thing()))
        outcome(future.result)
        future.exception()


def futures_cancelled(loop, impl):
    for _ in range(20):
        future = loop.create_future()
        future.add_done_callback(lambda f, thing=Thing(): None)
        future.cancel(Thing())
        outcome(future.result)
        outcome(future.exception)
    turns(loop, 2)


def futures_dropped_pending(loop, impl):
    for _ in range(20):
        future = loop.create_future()
        future.add_done_callback(lambda f, thing=Thing(): None)


def futures_never_retrieved(loop, impl):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(20):
        loop.create_future().set_exception(LookupError(Thing()))


def futures_misused(loop, impl):
    future = loop.create_future()
    future.set_result(Thing())
    for _ in range(20):
        outcome(future.set_result, Thing())
        outcome(future.set_exception, LookupError(Thing()))
        outcome(future.set_exception, Thing())
        outcome(future.add_done_callback)
        outcome(future.add_done_callback, print, Thing())
        outcome(impl.Future, loop=Thing())
        outcome(impl.Future, Thing(), bogus=Thing())
        outcome(impl.Future.__new__(impl.Future).set_result, Thing())
        outcome(setattr, future, "_log_traceback", Thing())
        repr(future)


def iterators_by_hand(loop, impl):
    for _ in range(20):
        thrown, closed, dropped, done = (iter(loop.create_future()) for _ in range(4))
        for iterator in (thrown, closed, dropped, done):
            next(iterator)
        outcome(thrown.throw, LookupError(Thing()))
        closed.close()
        future = loop.create_future()
        future.set_result(Thing())
        outcome(next, iter(future))


def tasks_done(loop, impl):
    loop.run_until_complete(
        asyncio.wait([impl.Task(value(Thing(), 0), loop=loop) for _ in range(20)])
    )


def tasks_named_and_with_context(loop, impl):
    async def main():
        for _ in range(10):
            context = contextvars.copy_context()
            task = loop.create_task(value(Thing(), 0), name=f"task {id(context)}", context=context)
            task.set_name("renamed")
            repr(task)
            task.get_stack()
            await task

    loop.run_until_complete(main())


def tasks_failing(loop, impl):
    async def main():
        for _ in range(20):
            try:
                await impl.Task(failing(Thing()), loop=loop)
            except LookupError:
                pass

    loop.run_until_complete(main())


def tasks_never_retrieved(loop, impl):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(10):
        impl.Task(failing(Thing()), loop=loop)
    turns(loop, 4)
    collect()


def tasks_cancelled(loop, impl):
    async def main():
        tasks = [impl.Task(forever(Thing()), loop=loop) for _ in range(20)]
        for task in tasks[::2]:
            task.cancel(Thing())
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel(Thing())
        for task in tasks:
            try:
                await task
            except asyncio.CancelledError:
                pass

    loop.run_until_complete(main())


def tasks_destroyed_pending(loop, impl):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(10):
        impl.Task(forever(Thing()), loop=loop)
    turns(loop, 2)
    collect()


def tasks_awaiting_wrong_things(loop, impl):
    class Bad:
        def __init__(self, thing):
            self.thing = thing

        def __await__(self):
            yield self.thing

    async def main(thing):
        try:
            await Bad(thing)
        except RuntimeError:
            pass

    other = impl.new_event_loop()
    for thing in (Thing(), None, 5, loop.create_future(), other.create_future(), [Thing()]):
        if thing is not None:
            loop.run_until_complete(main(thing))
    other.close()


def tasks_misused(loop, impl):
    for _ in range(10):
        outcome(impl.Task, Thing(), loop=loop)
        outcome(impl.Task)
        coro = value(Thing())
        outcome(impl.Task, coro, loop=Thing())
        outcome(impl.Task, coro, loop=loop, bogus=Thing())
        coro.close()
        outcome(loop.create_task, Thing())
        outcome(loop.create_task)
        outcome(impl.Task.__new__(impl.Task).result)


def tasks_mixed(loop, impl):
    async def main(Future, Task):
        future = Future(loop=loop)
        task = Task(wait_for(future), loop=loop)
        await asyncio.sleep(0)
        future.set_result(Thing())
        await task

    async def wait_for(future):
        return await future

    for Future in (asyncio.Future, impl.Future):
        for Task in (asyncio.Task, impl.Task):
            loop.run_until_complete(main(Future, Task))


@functools.lru_cache
def subclasses(Future, Task):
    return type("MyFuture", (Future,), {}), type("MyTask", (Task,), {})


def subclass_instances(loop, impl):
    MyFuture, MyTask = subclasses(impl.Future, impl.Task)

    async def main():
        future = MyFuture(loop=loop)
        future.thing = Thing()
        future.itself = future
        loop.call_soon(future.set_result, Thing())
        await future
        task = MyTask(value(Thing(), 0), loop=loop)
        task.thing = Thing()
        task.itself = task
        await task

    for _ in range(3):
        loop.run_until_complete(main())
    collect()


def gathering(loop, impl):
    async def main():
        await asyncio.gather(*(value(Thing(), 0) for _ in range(10)))
        await asyncio.gather(*(failing(Thing()) for _ in range(10)), return_exceptions=True)
        try:
            await asyncio.gather(failing(Thing()), value(Thing(), 0))
        except LookupError:
            pass
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def task_groups_and_timeouts(loop, impl):
    async def main():
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(value(Thing(), 0))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing(Thing()))
                group.create_task(forever(Thing()))
        except* LookupError:
            pass
        for _ in range(5):
            try:
                async with asyncio.timeout(0):
                    await forever(Thing())
            except TimeoutError:
                pass
            await asyncio.wait_for(value(Thing(), 0), 10)

    loop.run_until_complete(main())


def queues_and_locks(loop, impl):
    async def producer(queue):
        for _ in range(10):
            await queue.put(Thing())

    async def main():
        queue, lock, event = asyncio.Queue(2), asyncio.Lock(), asyncio.Event()
        task = asyncio.ensure_future(producer(queue))
        for _ in range(10):
            async with lock:
                await queue.get()
        event.set()
        await event.wait()
        await task

    loop.run_until_complete(main())


def shielding(loop, impl):
    async def main():
        outer = asyncio.shield(value(Thing(), 0))
        outer.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def handles(loop, impl):
    kept = [loop.call_soon(id, Thing()) for _ in range(20)]
    for handle in kept[::3]:
        handle.cancel()
        repr(handle)
    turns(loop, 2)
    loop.call_soon(
        lambda *args: None, Thing(), Thing(), Thing(), Thing(), Thing(), Thing(), Thing(), Thing()
    )
    outcome(loop.call_soon)
    outcome(loop.call_soon, print, bogus=Thing())
    turns(loop, 2)


def failing_handles(loop, impl):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(10):
        loop.call_soon(int, Thing())
        loop.call_later(0, int, Thing())
        loop.call_soon(Thing())
    turns(loop, 3)


def timers(loop, impl):
    for number in range(20):
        loop.call_later(0, id, Thing())
        loop.call_at(loop.time() - number, id, Thing())
    turns(loop, 3)
    outcome(loop.call_later, "text", print, Thing())
    outcome(loop.call_later, None, print, Thing())
    outcome(loop.call_at, None, print, Thing())


def timers_cancelled(loop, impl):
    kept = [loop.call_later(100 + number, id, Thing()) for number in range(200)]
    for timer in kept:
        timer.cancel()
    turns(loop, 1)  # asyncio removes them here


def sleeping(loop, impl):
    async def main():
        for _ in range(5):
            await asyncio.sleep(0)
            await asyncio.sleep(0.00001)

    loop.run_until_complete(main())


def threadsafe_calls(loop, impl):
    def work():
        for _ in range(20):
            loop.call_soon_threadsafe(id, Thing())
            loop.call_soon_threadsafe(id, Thing()).cancel()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    turns(loop, 3)


def executor_calls(loop, impl):
    async def main():
        await asyncio.gather(*(asyncio.to_thread(id, Thing()) for _ in range(5)))
        try:
            await asyncio.to_thread(int, Thing())
        except TypeError:
            pass

    loop.run_until_complete(main())


def watching(loop, impl):
    left, right = socket.socketpair()
    with left, right:
        for _ in range(5):
            loop.add_reader(left, id, Thing())
            loop.add_reader(left, id, Thing())
            loop.add_writer(left, id, Thing())
            turns(loop, 2)
            loop.remove_reader(left)
            loop.remove_writer(left)
            loop.remove_writer(left)
    outcome(loop.add_reader, -1, print, Thing())
    outcome(loop.add_reader, Thing(), print)
    outcome(loop.add_reader, left, print, Thing())


def whole_loops(loop, impl):
    for number in range(3):
        new = impl.new_event_loop()
        new.call_soon(id, Thing())
        new.call_later(100, id, Thing())
        new.call_soon_threadsafe(id, Thing())
        left, right = socket.socketpair()
        new.add_reader(left, id, Thing())
        new.attribute = Thing()
        new.itself = new
        if number:
            new.run_until_complete(value(Thing(), 0))
        new.close()
        left.close()
        right.close()
    collect()


def runners(loop, impl):
    impl.run(value(Thing(), 0))


def exceptions_out_of_the_loop(loop, impl):
    def leave(thing):
        raise SystemExit(thing)

    async def main(thing):
        raise SystemExit(thing)

    for _ in range(5):
        loop.call_soon(leave, Thing())
        outcome(loop.run_forever)
        outcome(loop.run_until_complete, main(Thing()))
    turns(loop, 2)


def async_generators(loop, impl):
    async def numbers(thing):
        for number in range(10):
            yield number
            await asyncio.sleep(0)

    async def main():
        async for number in numbers(Thing()):
            if number == 3:
                break
        async for number in numbers(Thing()):
            pass
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    collect()
    turns(loop, 4)


def streams(loop, impl):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            await reader.readline()
            writer.close()
            await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    collect()


def eager_tasks(loop, impl):
    async def main():
        for _ in range(10):
            impl.Task(value(Thing()), loop=loop, eager_start=True).result()
            await impl.Task(value(Thing(), 0), loop=loop, eager_start=True)
            outcome(impl.Task(fail_at_once(Thing()), loop=loop, eager_start=True).result)

    async def fail_at_once(thing):
        raise LookupError(thing)

    loop.run_until_complete(main())


def eager_tasks_of_the_factory(loop, impl):
    async def main():
        for _ in range(10):
            await asyncio.create_task(value(Thing()), name="named")
            await asyncio.create_task(value(Thing(), 0))

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    loop.set_task_factory(None)


def debug_mode(loop, impl):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    loop.call_soon(id, Thing())
    loop.call_later(0, id, Thing())
    loop.run_until_complete(impl.Task(value(Thing(), 0), loop=loop))
    loop.create_future().cancel()
    turns(loop, 2)
    loop.set_debug(False)


def signal_handlers(loop, impl):
    for _ in range(3):
        loop.add_signal_handler(signal.SIGUSR1, id, Thing())
        os.kill(os.getpid(), signal.SIGUSR1)
        turns(loop, 3)
        loop.remove_signal_handler(signal.SIGUSR1)


SCENARIOS = [
    futures_with_results,
    futures_with_many_callbacks,
    futures_with_exceptions,
    futures_cancelled,
    futures_dropped_pending,
    futures_never_retrieved,
    futures_misused,
    iterators_by_hand,
    tasks_done,
    tasks_named_and_with_context,
    tasks_failing,
    tasks_never_retrieved,
    tasks_cancelled,
    tasks_destroyed_pending,
    tasks_awaiting_wrong_things,
    tasks_misused,
    tasks_mixed,
    subclass_instances,
    gathering,
    task_groups_and_timeouts,
    queues_and_locks,
    shielding,
    handles,
    failing_handles,
    timers,
    timers_cancelled,
    sleeping,
    threadsafe_calls,
    executor_calls,
    watching,
    whole_loops,
    runners,
    exceptions_out_of_the_loop,
    async_generators,
    streams,
    debug_mode,
    signal_handlers,
]
if sys.version_info >= (3, 12):
    SCENARIOS += [eager_tasks, eager_tasks_of_the_factory]

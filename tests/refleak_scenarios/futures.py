"""Futures, kept and dropped in every state."""

import asyncio
import contextvars
import weakref

from .env import Failure, attempt, fail, fails, nothing, scenario, waiting


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

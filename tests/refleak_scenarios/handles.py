"""Handles and timers, and callbacks that fail."""

import asyncio
import contextvars
import gc
import sys
import weakref

import hotloop

from .env import Failure, attempt, fail, nothing, scenario, variable


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

"""Whole loops, opened, dropped and closed."""

import asyncio
import time

from .env import Failure, attempt, nothing, raising, scenario, value


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


@scenario
def loop_methods_called_wrongly(env):
    wrong = {"unexpected": object()}
    for method in ("call_soon", "call_soon_threadsafe", "create_task", "_add_reader"):
        attempt(TypeError, getattr(env.loop, method))
        attempt(TypeError, getattr(env.loop, method), object(), **wrong)
    for method in ("call_later", "call_at", "_add_writer"):
        attempt(TypeError, getattr(env.loop, method), 1)
        attempt(TypeError, getattr(env.loop, method), 1, object(), **wrong)


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
def loop_whose_select_is_replaced(env):
    loop = env.implementation.new_event_loop()
    original = loop._selector.select
    loop._selector.select = lambda timeout: original(timeout)
    loop.call_later(0.0001, loop.stop)
    loop.run_forever()
    loop._selector.select = nothing
    loop.call_soon(setattr, loop._selector, "select", raising)
    attempt(TypeError, loop.run_forever)  # it takes a timeout
    del loop._selector.select
    loop._selector.select = lambda timeout: original(timeout)
    loop.close()

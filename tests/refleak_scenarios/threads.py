"""Calls from this thread and from others."""

import asyncio
import threading

from .env import fail, nothing, scenario, value


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

"""Calls on the default executor."""

import asyncio

from .env import attempt, fail, fails, nothing, scenario


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

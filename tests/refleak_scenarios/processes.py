"""Child processes."""

import asyncio

from .env import scenario


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

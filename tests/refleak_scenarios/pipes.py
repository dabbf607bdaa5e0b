"""Pipe transports."""

import asyncio
import os

import hotloop

from .env import scenario


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

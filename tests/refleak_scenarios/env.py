"""What scenarios are made of: the environment that each gets, and the small coroutines and checks they use."""

import contextvars
import socket
import sys

variable = contextvars.ContextVar("variable", default=0)

SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def chosen(parts):
    """The scenarios whose names have one of these parts; all of them if there are none."""
    return [s for s in SCENARIOS if not parts or any(part in s.__name__ for part in parts)]


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

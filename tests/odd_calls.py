"""odd_calls.py SEED STEPS [THREADS]: call everything there is in hotloop._core with odd arguments, in an odd order.

Nothing is expected of the calls but that the interpreter survives them; exceptions are what most of them
should end with. Several threads have the same loops and objects, which no program should do. Prints
`survived` at the end.
"""

import asyncio
import contextvars
import faulthandler
import functools
import gc
import logging
import math
import os
import random
import socket
import ssl
import sys
import threading
import time
import warnings

import hotloop
from hotloop import _core

# What comes out of a call and is no failure of the interpreter.
RAISED = (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)

TYPES = [value for value in vars(_core).values() if isinstance(value, type)]
CORE = (*TYPES, asyncio.BaseTransport, asyncio.Handle)

# These wait, or change what the process is.
LEFT_OUT = {
    *("run_forever", "run_until_complete", "_run_once", "work"),
    *("add_signal_handler", "remove_signal_handler"),
    *("subprocess_exec", "subprocess_shell", "create_server", "create_unix_server"),
    *("__class__", "__dict__", "__init_subclass__", "__reduce__", "__reduce_ex__"),
    *("__setattr__", "__delattr__", "set_debug"),
}

NUMBERS = [
    0,
    1,
    -1,
    1 << 31,
    1 << 63,
    1 << 64,
    -(1 << 70),
    0.0,
    -1.0,
    0.001,
    1e300,
    math.nan,
    math.inf,
]
TEXTS = ["", "abc", "\udc80", "localhost", "127.0.0.1", "x" * 1000]
ADDRESSES = [
    ("127.0.0.1", 80),
    ("::1", 80, 0, 0),
    ("127.0.0.1", "x"),
    ("", 0),
    "/nowhere",
    b"\0abstract",
]
ERRORS = [ValueError("odd"), asyncio.CancelledError(), StopIteration(1), KeyError, BaseException]

LIMIT = 100  # seconds


def anonymous_tls(side):
    """A context that needs no certificate."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


CLIENT_TLS = anonymous_tls(ssl.PROTOCOL_TLS_CLIENT)
SERVER_TLS = anonymous_tls(ssl.PROTOCOL_TLS_SERVER)

chance = random.Random()


class Odd:
    """Its special methods fail now and then, and its attributes are anything."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return chance.choice(
            [None, 1, Odd(), lambda *args, **kwargs: chance.choice([None, b"x", Odd()])]
        )

    def __call__(self, *args, **kwargs):
        if chance.random() < 0.3:
            raise chance.choice([ValueError, RuntimeError, asyncio.CancelledError, StopIteration])(
                "odd"
            )
        return chance.choice([None, 1, b"abc", self])

    def __index__(self):
        return chance.choice([0, 1, -1, 1_000_000])

    def __hash__(self):
        return 1

    def __eq__(self, other):
        if chance.random() < 0.2:
            raise ValueError("odd")
        return chance.random() < 0.5

    def __bool__(self):
        if chance.random() < 0.1:
            raise ValueError("odd")
        return chance.random() < 0.5

    def __iter__(self):
        return iter([self, 1])

    def __len__(self):
        return chance.choice([0, 1, 5])

    def __await__(self):
        yield chance.choice([None, self, 1])

    def fileno(self):
        return chance.choice([-1, 0, 99, 1_000_000])


class Forgetful(asyncio.Protocol):
    def __getattribute__(self, name):
        if chance.random() < 0.02:
            raise RuntimeError("odd")
        return super().__getattribute__(name)


class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return chance.choice(
            [bytearray(10), bytearray(), None, b"read-only", memoryview(bytearray(100))]
        )

    def buffer_updated(self, nbytes):
        pass


@functools.cache
def names_of(kind):
    """What an object of that type can be asked for; twice what the core itself defines."""
    core = {name for one in kind.__mro__ if one in TYPES for name in vars(one)}
    return sorted((set(dir(kind)) | core) - LEFT_OUT) + sorted(core - LEFT_OUT) * 2


async def short():
    await asyncio.sleep(0)


class World:
    """The loops and objects that calls are made of."""

    def __init__(self):
        self.loop = hotloop.new_event_loop()
        self.loops = [self.loop]
        self.all_loops = [self.loop]
        self.objects = []
        self.sockets = []
        self.servers = []

    # -- arguments --

    def socket(self, kind=socket.SOCK_STREAM):
        pair = socket.socketpair(type=kind)
        for one in pair:
            one.setblocking(False)
        self.sockets += pair
        while len(self.sockets) > 200:
            self.sockets.pop(0).close()
        return pair[0]

    def argument(self, depth=0):
        makers = [
            lambda: chance.choice([None, True, False]),
            lambda: chance.choice(NUMBERS),
            lambda: chance.choice(TEXTS),
            lambda: chance.choice([b"", b"abc", b"x" * 70_000, bytearray(b"abc")]),
            lambda: chance.choice([memoryview(b"abcd"), memoryview(bytearray(64))[::2]]),
            lambda: chance.choice(ADDRESSES),
            lambda: chance.choice(ERRORS),
            lambda: chance.choice(TYPES),
            lambda: chance.choice(self.loops),
            lambda: chance.choice([asyncio, hotloop]).Future(loop=chance.choice(self.loops)),
            lambda: chance.choice([Forgetful, Forgetful(), Buffered()]),
            lambda: [self.argument(depth + 1) for _ in range(3)] if depth < 3 else (),
            lambda: lambda *args, **kwargs: None,
            contextvars.copy_context,
            self.socket,
            short,
            Odd,
        ]
        if self.objects and chance.random() < 0.6:
            return chance.choice(self.objects)
        return chance.choice(makers)()

    def keywords(self):
        names = ["context", "loop", "name", "eager_start", "sock", "msg"]
        return {chance.choice(names): self.argument()} if chance.random() < 0.2 else {}

    # -- steps --

    def attempt(self, function, *args, **kwargs):
        """Call it; what it gives may be an argument of later calls, if it is of the core."""
        try:
            result = function(*args, **kwargs)
        except RAISED:
            return None
        if isinstance(result, CORE) and not isinstance(result, _core.Loop):
            self.objects.append(result)
        return result

    def make(self):
        arguments = [self.argument() for _ in range(chance.randrange(4))]
        self.attempt(chance.choice(TYPES), *arguments)

    def make_halfway(self):
        kind = chance.choice(TYPES)
        self.attempt(kind.__new__, kind)

    def make_usual(self):
        self.attempt(self.loop.create_future)
        self.attempt(self.loop.create_task, short())

    async def connect_by_tls(self):
        """Both ends; the client's, and what is behind it, are objects of calls."""
        client, server = socket.socketpair()
        protocols = [Forgetful, Buffered]
        accepting = asyncio.ensure_future(
            self.loop.connect_accepted_socket(chance.choice(protocols), server, ssl=SERVER_TLS)
        )
        made = await self.loop.create_connection(
            chance.choice(protocols), sock=client, ssl=CLIENT_TLS, server_hostname="odd"
        )
        await accepting
        behind = made[0]._ssl_protocol
        self.objects += [behind, behind._transport]
        return made

    async def serve(self):
        """A server with a client, as an object of calls."""
        server = await self.loop.create_server(
            chance.choice([Forgetful, Buffered]), "127.0.0.1", 0
        )
        self.servers.append(server)
        while len(self.servers) > 20:
            self.servers.pop(0).close()
        client = socket.create_connection(server.sockets[0].getsockname(), timeout=1)
        client.setblocking(False)
        self.sockets.append(client)
        await asyncio.sleep(0.001)
        return [server]

    def make_transport(self):
        loop = self.loop
        reading, writing = os.pipe()
        reading, writing = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        ways = [
            lambda: loop.create_connection(
                chance.choice([Forgetful, Buffered]), sock=self.socket()
            ),
            lambda: loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=self.socket(socket.SOCK_DGRAM)
            ),
            lambda: loop.connect_read_pipe(Forgetful, reading),
            lambda: loop.connect_write_pipe(Forgetful, writing),
            self.connect_by_tls,
            self.serve,
        ]
        # By now the loop's task factory may make nothing that ever ends.
        stop = self.attempt(loop.call_later, 0.5, loop.stop)
        made = self.attempt(loop.run_until_complete, chance.choice(ways)())
        if made is not None:
            self.objects.append(made[0])
        if stop is not None:
            stop.cancel()

    def run(self):
        if not self.loop.is_closed():
            self.attempt(self.loop.call_later, 0.002, self.loop.stop)
            self.attempt(self.loop.run_forever)

    def change_loop(self):
        if chance.random() < 0.05:
            self.attempt(self.loop.close)
            self.loop = hotloop.new_event_loop()
            self.loops.append(self.loop)
            self.all_loops.append(self.loop)
            if len(self.loops) > 5:
                self.attempt(self.loops.pop(0).close)

    def call(self):
        target = (
            chance.choice(self.objects) if self.objects and chance.random() < 0.8 else self.loop
        )
        name = chance.choice(names_of(type(target)))
        if chance.random() < 0.05 and not isinstance(target, _core.Loop):
            self.attempt(setattr, target, name, self.argument())
            return
        function = self.attempt(getattr, target, name)
        if callable(function):
            arguments = [self.argument() for _ in range(chance.choice([0, 1, 1, 1, 2, 2, 3, 4]))]
            result = self.attempt(function, *arguments, **self.keywords())
            if asyncio.iscoroutine(result):
                self.attempt(self.loop.create_task, result)

    def step(self):
        steps = [
            self.make,
            self.make_halfway,
            self.make_usual,
            self.make_transport,
            self.run,
            self.change_loop,
        ]
        chance.choice([*steps, self.call, self.call, self.call, self.call])()
        if len(self.objects) > 300:
            del self.objects[: chance.randrange(1, 250)]
        if chance.random() < 0.01:
            gc.collect()


def take_steps(world, steps):
    for _ in range(steps):
        try:
            world.step()
        except RAISED:
            pass


def stop_loops(world):
    """In a thread: what was to stop a loop may have been lost to another one."""
    while True:
        for loop in world.all_loops:
            world.attempt(loop.call_soon_threadsafe, loop.stop)
        time.sleep(0.01)


def main(seed, steps, threads=1):
    faulthandler.enable()
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    chance.seed(seed)
    world = World()
    if threads == 1:
        take_steps(world, steps)
    else:
        sys.setswitchinterval(1e-6)
        threading.Thread(target=stop_loops, args=[world], daemon=True).start()
        share = world, steps // threads
        workers = [threading.Thread(target=take_steps, args=share) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print("survived", flush=True)
    os._exit(0)  # what is left cannot be closed in good order


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Watched descriptors."""

import os
import socket
import time

from .env import attempt, fail, nothing, scenario


@scenario
def descriptors_watched(env):
    a, b = env.sockets
    env.loop.add_reader(a, nothing, object())
    env.loop.add_reader(a.fileno(), nothing, *range(5))
    env.loop.add_writer(a, nothing)
    env.turn()
    assert env.loop.remove_reader(a) and env.loop.remove_writer(a.fileno())
    assert not env.loop.remove_reader(a)
    env.turn()


@scenario
def files_closed_while_watched(env):
    loop = env.loop
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        sock, peer = socket.socketpair()
        peer.close()
        add(sock, nothing)
        sock.close()
        assert remove(sock)
        attempt(ValueError, remove, sock)
    env.turn()


@scenario
def descriptors_ready(env):
    a, b = env.sockets
    env.loop.add_reader(a, a.recv, 10)
    env.loop.add_writer(b, b.send, b"x")
    for _ in range(3):
        time.sleep(0.0001)
        env.turn()
    env.loop.remove_writer(b)
    env.loop.remove_reader(a)


@scenario
def descriptors_watched_wrongly(env):
    attempt((ValueError, OSError), env.loop.add_reader, -1, nothing)
    attempt((ValueError, TypeError, AttributeError), env.loop.add_reader, "x", nothing)
    attempt(TypeError, env.loop.add_reader)
    attempt(TypeError, env.loop.add_writer, env.sockets[0])
    with open(os.devnull) as file:
        attempt((PermissionError, OSError), env.loop.add_reader, file, nothing)


@scenario
def descriptor_callback_failing(env):
    env.loop.add_writer(env.sockets[0], fail, object())
    time.sleep(0.0001)
    env.turn()
    env.loop.remove_writer(env.sockets[0])
    env.turn()

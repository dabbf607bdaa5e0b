"""Connections, both ends in one loop: a client in C of its own would be the limit, and say nothing."""

import asyncio

from .scheduling import Scheduling


class Connections(Scheduling):
    name = "connections"
    title = "Connections, both ends in one loop: ns each, and times as fast as asyncio"
    goal_factor = 1


FAMILY = Connections()


class CloseAtOnce(asyncio.Protocol):
    def connection_made(self, transport):
        transport.close()


class Client(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(None)


@FAMILY.workload("connect, accept, close", 100, goal=2.5, headline=True)
async def connect_accept_close(n):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(CloseAtOnce, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    for _ in range(n):
        _, client = await loop.create_connection(Client, host, port)
        await client.lost
    server.close()
    await server.wait_closed()

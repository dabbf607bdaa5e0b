"""Both ends in one loop: connections, where a client in C of its own would be the limit, and say
nothing; and datagrams to and fro, where the loop never sleeps, nor is another process woken."""

import asyncio

from .echo import CloseAtOnce, EchoDatagrams
from .scheduling import Scheduling


class Connections(Scheduling):
    name = "connections"
    title = "Both ends in one loop: ns a connection or round trip, and times as fast as asyncio"
    goal_factor = 1


FAMILY = Connections()


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


class PingPong(asyncio.DatagramProtocol):
    def __init__(self, rounds):
        self.rounds = rounds
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.rounds -= 1
        if self.rounds > 0:
            self.transport.sendto(data)
        else:
            self.done.set_result(None)


@FAMILY.workload("UDP ping-pong, 100 B", 1000, goal=1.5, headline=True)
async def udp_ping_pong(n):
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(EchoDatagrams, ("127.0.0.1", 0))
    client, protocol = await loop.create_datagram_endpoint(
        lambda: PingPong(n), remote_addr=server.get_extra_info("sockname")
    )
    client.sendto(b"x" * 100)
    await protocol.done
    client.close()
    server.close()

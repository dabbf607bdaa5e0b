"""Random programs of servers and their clients: what is called and what ends is asyncio's."""

import asyncio
import contextlib
import socket

from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Events
from support import Logged, same_on_both

WHICH = st.integers(0, 1)
CLIENT = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("connect"), WHICH),
    st.tuples(st.just("connect"), WHICH),
    st.tuples(st.sampled_from(["send", "leave", "reset", "shut down"]), CLIENT),
    st.tuples(st.sampled_from(["close transport", "abort transport"]), CLIENT),
    st.tuples(st.sampled_from(["close", "close_clients", "abort_clients", "is_serving"]), WHICH),
    st.tuples(st.sampled_from(["start_serving", "serve_forever", "wait_closed"]), WHICH),
    st.tuples(st.just("cancel"), st.integers(0, 2)),
)
# The steps of a group are taken at once, then the loop runs until nothing more happens. hotloop sends
# after the callback, so that a client that leaves in it has not been written to.
GROUP = st.one_of(
    st.lists(STEPS, min_size=1, max_size=3), CLIENT.map(lambda client: [("write", client)])
)
GROUPS = st.lists(GROUP, min_size=1, max_size=15)
PROGRAMS = st.tuples(st.tuples(st.booleans(), st.booleans()), GROUPS)


class Program:
    """Two servers, the clients of both, and what was called on their protocols."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.servers = []
        self.addresses = []
        self.clients = []
        self.protocols = [[], []]
        self.tasks = []

    async def serve(self, starts):
        for which, start in enumerate(starts):
            server = await self.loop.create_server(
                lambda which=which: self.protocol(which), "127.0.0.1", 0, start_serving=start
            )
            self.servers.append(server)
            self.addresses.append(server.sockets[0].getsockname())

    def protocol(self, which):
        protocol = Events()
        self.protocols[which].append(protocol)
        return protocol

    def connect(self, which):
        client = socket.socket()
        client.settimeout(5)
        try:
            client.connect(self.addresses[which])
        except ConnectionRefusedError:
            client.close()
            return "refused"
        client.setblocking(False)
        self.clients.append(client)

    def client_step(self, step, client):
        match step:
            case "send":
                return client.send(b"from a client")
            case "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return client.close()
            case "leave":
                return client.close()
            case "shut down":
                return client.shutdown(socket.SHUT_WR)

    def transport_step(self, step, transport):
        if step == "write":
            return transport.write(b"from a server")
        return getattr(transport, step.removesuffix(" transport"))()

    def server_step(self, step, which):
        server = self.servers[which]
        if not hasattr(server, step):
            return "nothing"
        if step in ("start_serving", "serve_forever", "wait_closed"):
            self.tasks.append(self.loop.create_task(getattr(server, step)()))
            return None
        return getattr(server, step)()

    def take(self, step, which):
        if step == "connect":
            return self.connect(which)
        if step == "cancel":
            return which < len(self.tasks) and self.tasks[-1 - which].cancel()
        if step in ("send", "leave", "reset", "shut down"):
            if which < len(self.clients):
                with contextlib.suppress(OSError):
                    return self.client_step(step, self.clients[which])
            return "nothing"
        made = [p for protocols in self.protocols for p in protocols if p.transport is not None]
        if "transport" in step or step == "write":
            return which < len(made) and self.transport_step(step, made[which].transport)
        return self.server_step(step, which)

    async def settle(self):
        for _ in range(4):
            await asyncio.sleep(0.0005)

    def outcome(self, task):
        if not task.done():
            return "pending"
        if task.cancelled():
            return "cancelled"
        return type(task.exception()) if task.exception() else task.result()

    def seen(self):
        logs = [[list(p.log) for p in protocols] for protocols in self.protocols]
        return logs, [self.outcome(task) for task in self.tasks]

    async def end(self):
        """Close everything; returns what that came to."""
        for client in self.clients:
            client.close()
        for task in self.tasks:
            task.cancel()
        await self.settle()
        for server in self.servers:
            server.close()
        for protocols in self.protocols:
            for protocol in protocols:
                if protocol.transport is not None:
                    protocol.transport.abort()
        await self.settle()
        return self.seen()


async def run(starts, groups):
    program = Program()
    await program.serve(starts)
    log = []
    for group in groups:
        log.append([program.take(*step) for step in group])
        await program.settle()
        log.append(program.seen())
    log.append(await program.end())
    return log


@settings(max_examples=80)
@given(PROGRAMS)
def test_random_programs_have_asyncios_events(program):
    def scenario(implementation):
        with Logged() as logged:
            return implementation.run(run(*program)), logged.messages()

    same_on_both(scenario)

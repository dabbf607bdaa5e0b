"""Servers: accepting, starting and stopping, what goes wrong with one connection or with all."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import socket
import sys
import warnings

import pytest
from streams import Events, on_loop, plain, raw_pair, reset
from support import (
    HOTLOOP,
    PATIENCE,
    Contexts,
    Logged,
    collect,
    outcome,
    same_on_both,
    script_output,
    until,
)

LIMIT = 20 * PATIENCE


@contextlib.asynccontextmanager
async def serving(factory, kind="tcp", **options):
    """A server on a loopback port or an abstract Unix address, and where it listens."""
    loop = asyncio.get_running_loop()
    if "sock" in options:
        server = await loop.create_server(factory, **options)
    elif kind == "tcp":
        server = await loop.create_server(factory, "127.0.0.1", 0, **options)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("")
        server = await loop.create_unix_server(factory, sock=listener, **options)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), LIMIT)


async def reach(where, count=1):
    """Blocking client sockets, connected (the backlog takes them)."""
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_INET if isinstance(where, tuple) else socket.AF_UNIX)
        client.settimeout(5)
        clients.append(client)
        try:
            client.connect(where)
        except OSError:
            client.close()
            raise
    return clients


def collecting(made, **hooks):
    def factory():
        made.append(Events(**hooks))
        return made[-1]

    return factory


async def over(made, clients):
    for client in clients:
        client.close()
    await asyncio.wait_for(asyncio.gather(*(protocol.lost for protocol in made)), LIMIT)


# -- accepting ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_an_accepted_connection_knows(loop, run, kind):
    async def main():
        made = []
        async with serving(collecting(made), kind) as (server, where):
            clients = await reach(where, 3)
            await until(lambda: len(made) == 3 and all(each.transport for each in made))
            names = {client.getsockname() for client in clients}
            for protocol in made:
                transport = protocol.transport
                assert transport.get_extra_info("peername") in names
                assert transport.get_extra_info("sockname") == where
                sock = transport.get_extra_info("socket")
                assert not sock.get_inheritable() and not os.get_blocking(sock.fileno())
                assert sock.gettimeout() == 0 and sock.family == server.sockets[0].family
                assert sock.type == socket.SOCK_STREAM
                assert transport._server is server
                if kind == "tcp":
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await over(made, clients)

    run(main())


def test_many_connections_at_once(loop, run):
    """More than are accepted in a turn."""
    for backlog, count in ((1, 2), (100, 90)):

        async def main(backlog=backlog, count=count):
            made = []
            answer = collecting(made, data_received=lambda self, d: self.transport.write(d))
            async with serving(answer, backlog=backlog) as (server, where):
                pairs = await asyncio.gather(
                    *(asyncio.open_connection(*where) for _ in range(count))
                )
                for number, (_, writer) in enumerate(pairs):
                    writer.write(b"%d" % number)
                for number, (reader, writer) in enumerate(pairs):
                    assert await reader.read(100) == b"%d" % number
                    writer.close()
                    await writer.wait_closed()
                assert len(made) == count
                await over(made, [])

        run(main())


def test_connections_reset_before_they_are_accepted(loop, run):
    async def main():
        made = []
        async with serving(collecting(made)) as (_, where):
            names = set()
            for client in await reach(where, 20):
                names.add(client.getsockname())
                reset(client)
            (client,) = await reach(where)
            names.add(client.getsockname())
            client.send(b"still there")
            await until(lambda: any(each.data == b"still there" for each in made))
            assert {each.transport.get_extra_info("peername") for each in made} == names
            await over(made, [client])

    run(main())


def test_a_busy_listener_does_not_starve_connections(loop, run):
    async def main():
        made = []
        answer = collecting(made, data_received=lambda self, d: self.transport.write(d))
        async with serving(answer, backlog=100) as (_, where):
            first = await asyncio.open_connection(*where)
            knocking = True
            clients = []

            def knock():
                if knocking:
                    for _ in range(5):
                        client = socket.socket()
                        client.setblocking(False)
                        with contextlib.suppress(BlockingIOError):
                            client.connect(where)
                        clients.append(client)
                    loop.call_soon(knock)

            knock()
            for _ in range(10):
                first[1].write(b"x")
                assert await asyncio.wait_for(first[0].read(1), LIMIT) == b"x"
                if len(clients) > 300:
                    break
            knocking = False
            first[1].close()
            await first[1].wait_closed()
            await asyncio.sleep(0.01)
            await over(made, clients)

    run(main())


# -- factories that fail -----------------------------------------------------


class Unmade:
    """Not a protocol at all."""


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", ["raises", "is cancelled", "returns rubbish", "returns nothing"])
def test_a_protocol_factory_that_fails(kind, debug):
    if kind.startswith("returns") and sys.version_info[:2] == (3, 12):
        pytest.skip("asyncio 3.12's Server waits for ever for a transport that was never made")

    def scenario(impl):
        made = []

        def factory():
            if len(made) == 1 and kind == "raises":
                made.append(None)
                raise LookupError("in the factory")
            if len(made) == 1 and kind == "is cancelled":
                made.append(None)
                raise asyncio.CancelledError("in the factory")
            if len(made) == 1:
                made.append(None)
                return Unmade() if kind == "returns rubbish" else None
            made.append(Events())
            return made[-1]

        async def main():
            contexts = Contexts()
            asyncio.get_running_loop().set_exception_handler(contexts)
            async with serving(factory) as (_, where):
                clients = []
                for number in range(3):
                    clients += await reach(where)
                    await until(lambda number=number: len(made) == number + 1)
                clients[2].send(b"works")
                await until(lambda: made[2].data == b"works")
                await asyncio.sleep(0.001)
                gc.collect()
                if not debug:  # or else the exception keeps asyncio's socket
                    assert clients[1].recv(10) == b""
                await over([made[0], made[2]], clients)
                told = [
                    (plain(context["message"]), type(context["exception"]), "protocol" in context)
                    for context in contexts
                ]
                contexts.clear()  # what failed keeps a transport that asyncio's server waits for
                gc.collect()
            return told

        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ResourceWarning
            )  # asyncio leaves that socket to the gc
            with Logged(logging.WARNING):
                return impl.run(main(), debug=debug)

    contexts = same_on_both(scenario)
    assert bool(contexts) == debug


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_a_factory_that_ends_the_program(fatal):
    async def main():
        def factory():
            raise fatal("now")

        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        clients.extend(await reach(server.sockets[0].getsockname()))
        await asyncio.sleep(LIMIT)

    clients = []
    loop = HOTLOOP.new_event_loop()  # asyncio leaves the socket and the task to the collector
    task = loop.create_task(main())
    with pytest.raises(fatal):
        loop.run_until_complete(task)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the server
        loop.close()
        collect()
    clients[0].close()


# -- starting, stopping, closing ---------------------------------------------


def test_the_states_of_a_server():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            log, made = [], []
            server = await loop.create_server(
                collecting(made), "127.0.0.1", 0, start_serving=False
            )
            log.append((server.is_serving(), len(server.sockets), server.get_loop() is loop))
            where = server.sockets[0].getsockname()
            await server.start_serving()
            await server.start_serving()
            log.append((server.is_serving(), type(server.sockets).__name__))
            (client,) = await reach(where)
            await until(lambda: made and made[0].transport)
            log.append(server._active_count if hasattr(server, "_active_count") else None)
            client.close()
            await asyncio.wait_for(made[0].lost, LIMIT)
            server.close()
            server.close()
            log.append((server.is_serving(), server.sockets))
            await asyncio.wait_for(server.wait_closed(), LIMIT)
            with pytest.raises(ConnectionRefusedError):
                await reach(where)
            for method in ("start_serving", "serve_forever"):
                try:
                    await getattr(server, method)()
                except Exception as exc:
                    log.append((type(exc), str(exc).split("<")[0] + str(exc).split(">")[-1]))
            return log

        return impl.run(main())

    same_on_both(scenario)


def test_serve_forever_cancelled_and_closed():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            log = []
            for end in ("cancel", "close"):
                server = await loop.create_server(Events, "127.0.0.1", 0)
                task = asyncio.ensure_future(server.serve_forever())
                await asyncio.sleep(0)
                try:
                    await server.serve_forever()
                except RuntimeError as exc:
                    log.append(str(exc).split("<")[0])
                task.cancel() if end == "cancel" else server.close()
                try:
                    await asyncio.wait_for(task, LIMIT)
                except asyncio.CancelledError:
                    log.append("cancelled")
                log.append((end, server.is_serving(), server.sockets))
            return log

        return impl.run(main())

    same_on_both(scenario)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("way", ["close_clients", "abort_clients"])
def test_ending_the_clients_of_a_server(way):
    def scenario(impl):
        async def main():
            made = []
            async with serving(collecting(made)) as (server, where):
                clients = await reach(where, 3)
                await until(lambda: len(made) == 3 and all(each.transport for each in made))
                server.close()
                getattr(server, way)()
                await asyncio.gather(*(each.lost for each in made))
                ends = [outcome(client.recv, 10)[:2] for client in clients]
                for client in clients:
                    client.close()
            return [each.log for each in made], ends

        return impl.run(main())

    same_on_both(scenario)


def test_closing_with_connections_in_the_backlog(loop, run):
    async def main():
        made = []
        async with serving(collecting(made)) as (server, where):
            clients = await reach(where, 5)
            server.close()
            await asyncio.sleep(0.002)
            assert made == []
            for client in clients:
                assert outcome(client.recv, 1)[1] in (ConnectionResetError, b"")
                client.close()

    run(main())


def test_closing_in_the_factory_or_in_connection_made(loop, run):
    async def main():
        if type(loop).__module__ != "hotloop":
            return  # asyncio accepts in a task that finds the server gone
        for event in ("factory", "connection_made"):
            made = []

            def end(*args):
                server.close()

            factory = collecting(made, **({} if event == "factory" else {"connection_made": end}))

            def closing(factory=factory, event=event):
                if event == "factory" and not made:
                    server.close()
                return factory()

            async with serving(closing) as (server, where):
                clients = await reach(where, 3)
                await until(lambda: made and not server.is_serving())
                await asyncio.sleep(0.002)
                await over([each for each in made if each.transport], clients)

    loop.set_exception_handler(Contexts())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio leaves sockets to the collector
        run(main())
        collect()


def test_removing_the_reader_of_a_listening_socket(loop, run):
    async def main():
        made = []
        async with serving(collecting(made)) as (server, where):
            number = server.sockets[0].fileno()
            assert loop.remove_reader(number) is True
            assert loop.remove_reader(number) is False
            clients = await reach(where)
            await asyncio.sleep(0.002)
            assert made == []
            seen = []
            loop.add_reader(number, lambda: (seen.append(1), loop.remove_reader(number)))
            await until(lambda: seen)
            clients[0].close()

    run(main())


# -- sockets and options -----------------------------------------------------


def test_two_servers_on_one_port(loop, run):
    async def main():
        made = [], []
        async with serving(collecting(made[0]), reuse_port=True) as (_, where):
            other = await loop.create_server(collecting(made[1]), *where, reuse_port=True)
            clients = await reach(where, 40)
            await until(lambda: len(made[0]) + len(made[1]) == 40)
            assert made[0] and made[1]
            await over(made[0] + made[1], clients)
            other.close()
            await other.wait_closed()

    run(main())


def test_a_listening_socket_handed_in(loop, run):
    async def main():
        made = []
        listener = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(collecting(made), sock=listener)
        assert server.sockets[0].getsockname() == listener.getsockname()
        clients = await reach(listener.getsockname(), 2)
        await until(lambda: len(made) == 2)
        await over(made, clients)
        server.close()
        await server.wait_closed()
        assert listener.fileno() == -1

    run(main())


@pytest.mark.parametrize("kind", ["subclass", "wrapper", "patched"])
def test_a_listening_socket_that_accepts_in_its_own_way(kind, monkeypatch):
    accept = socket.socket.accept

    def renamed(self):
        return accept(getattr(self, "sock", self))[0], "me"

    class Wrapper:
        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

    async def main():
        made = []
        listener = socket.create_server(("127.0.0.1", 0))
        if kind == "patched":
            monkeypatch.setattr(socket.socket, "accept", renamed)
        elif kind == "wrapper":
            listener, Wrapper.accept = Wrapper(listener), renamed
        else:
            cls = type("Listener", (socket.socket,), {"accept": renamed})
            listener = cls(fileno=listener.detach())
        async with serving(collecting(made), sock=listener) as (_, where):
            clients = await reach(where)
            await until(lambda: made and made[0].transport)
            name = made[0].transport.get_extra_info("peername")
            await over(made, clients)
        monkeypatch.undo()
        return name

    assert same_on_both(on_loop(main)) == ("me", [])


def test_an_inherited_socket_gets_nodelay(loop, run):
    async def main():
        if type(loop).__module__ != "hotloop":
            return
        ours, peer = raw_pair("tcp")
        protocol = Events()
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, socket.socket(fileno=ours.detach())
        )
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_a_dropped_server_goes_on_serving(loop, run):
    async def main():
        made = []
        server = await loop.create_server(collecting(made), "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        sock = server.sockets[0]
        del server
        gc.collect()
        clients = await reach(where)
        await until(lambda: made)
        await over(made, clients)
        loop._stop_serving(sock._sock)

    run(main())


# -- contexts and logs -------------------------------------------------------

where_var = contextvars.ContextVar("where_var", default="nowhere")


def test_the_context_of_accepted_connections():
    def scenario(impl):
        log = []

        def note(self, *args):
            log.append(where_var.get())
            where_var.set(f"after {len(log)}")

        async def main():
            made = []
            where_var.set("serving")
            factory = collecting(made, connection_made=note, data_received=note)

            def noting():
                log.append(where_var.get())
                where_var.set("factory")
                return factory()

            async with serving(noting) as (_, where):
                where_var.set("later")
                for number in range(2):
                    clients = await reach(where)
                    await until(lambda number=number: len(made) == number + 1)
                    await asyncio.sleep(0.001)
                    for _ in range(2):
                        clients[0].send(b"x")
                        await asyncio.sleep(0.001)
                    await over(made[-1:], clients)
            return log

        return impl.run(main())

    same_on_both(scenario)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in 3.15")
def test_a_context_for_a_server():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            log = []

            def note(self, *args):
                log.append(where_var.get())
                where_var.set(f"after {len(log)}")

            names = "connection_made", "data_received", "eof_received", "connection_lost"
            made = []
            context = contextvars.Context()
            context.run(where_var.set, "given")
            try:
                server = await loop.create_server(
                    collecting(made, **dict.fromkeys(names, note)), "127.0.0.1", 0, context=context
                )
            except TypeError as exc:
                return str(exc)
            for _ in range(2):
                clients = await reach(server.sockets[0].getsockname())
                await asyncio.sleep(0.002)
                clients[0].send(b"x")
                await asyncio.sleep(0.002)
                await over(made, clients)
            server.close()
            return log, context.get(where_var)

        return impl.run(main())

    same_on_both(scenario)


def test_what_debug_mode_logs_of_a_connection():
    def scenario(impl):
        async def main():
            made = []
            async with serving(collecting(made)) as (_, where):
                clients = await reach(where)
                await until(lambda: made)
                await over(made, clients)

        with Logged(logging.DEBUG) as log:
            impl.run(main(), debug=True)
        return [
            plain(text).split(" from ")[0]
            for text in log.messages(logging.DEBUG)
            if "new connection" in text
        ]

    (message,) = same_on_both(scenario)


# -- out of descriptors ------------------------------------------------------

SHORT = """
    import contextvars, gc, os, resource, socket, sys, warnings
    import asyncio.constants
    asyncio.constants.ACCEPT_RETRY_DELAY = 0.05
    variable = contextvars.ContextVar("variable", default=None)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)

    def descriptors():
        return os.listdir("/proc/self/fd")

    async def until(condition):
        for _ in range(1000):
            await asyncio.sleep(0.005)
            if condition():
                break

    async def main():
        loop = asyncio.get_running_loop()
        contexts, seen = [], set()
        loop.set_exception_handler(lambda loop, context: (contexts.append(context), seen.add(variable.get())))
        variable.set("the server's")
        server = await loop.create_server(lambda: (seen.add(variable.get()), Echo())[1], "127.0.0.1", 0)
        variable.set("later")
        where = server.sockets[0].getsockname()
        for _ in range(5):
            await asyncio.sleep(0.001)  # the loop may open a timer for that
        before = len(descriptors())
        clients = [socket.create_connection(where) for _ in range(4)]
        holes = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 30, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True:
                holes.append(os.dup(0))
        except OSError:
            pass
        await until(lambda: contexts)
        kinds = {(c["message"], type(c["exception"]).__name__, c["exception"].errno, type(c["socket"]).__name__)
                 for c in contexts}
        print(sorted(kinds))  # asyncio says it backlog times
        for hole in holes:
            os.close(hole)
        for client in clients:
            client.setblocking(False)
            client.send(b"x")
        print([await loop.sock_recv(client, 5) for client in clients], seen)
        for client in clients:
            client.close()
        await until(lambda: len(descriptors()) == before)
        print(len(descriptors()) == before)
        server.close()
        await server.wait_closed()

    run(main())
    """


def test_out_of_descriptors_the_listener_rests_and_recovers():
    def scenario(impl):
        return script_output(impl, SHORT)

    output = same_on_both(scenario)
    assert "socket.accept() out of system resource" in output and "24" in output
    assert '{"the server\'s"}' in output


def test_a_server_closed_while_its_listener_rests():
    def scenario(impl):
        source = SHORT.replace("for hole in holes:", "server.close()\n        for hole in holes:")
        source = source.split("for client in clients:\n            client.setblocking")[0]
        return script_output(
            impl,
            source
            + "await asyncio.sleep(0.12)\n        print('closed', server.sockets)\n"
            + "        for client in clients:\n            client.close()\n\n    run(main())\n",
        )

    assert "closed" in same_on_both(scenario)

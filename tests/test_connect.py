"""create_connection(): what it returns, raises, logs and leaves behind, plain or not."""

import asyncio
import gc
import socket
import sys
import warnings

import pytest
from sockets import nobody
from streams import Events, connect, on_loop, plain, raw_pair, what
from support import (
    HOTLOOP,
    PATIENCE,
    Contexts,
    Logged,
    collect,
    open_descriptors,
    outcome,
    same_on_both,
    timer_opened,
    turns,
    until,
)

LIMIT = 20 * PATIENCE


def listening(family=socket.AF_INET, host="127.0.0.1"):
    sock = socket.socket(family)
    sock.bind((host, 0))
    sock.listen()
    return sock


async def attempt(*args, factory=asyncio.Protocol, **keywords):
    """What create_connection() comes to, without numbers of ports."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(factory, *args, **keywords)
    except BaseException as exc:
        inner = [what(each) for each in getattr(exc, "exceptions", ())]
        return type(exc), getattr(exc, "errno", None), str(exc), inner, exc.__context__
    sock = transport.get_extra_info("socket")
    result = sock.family, sock.proto, transport.get_extra_info("peername")
    transport.abort()
    await asyncio.sleep(0.001)
    return result


# -- how it ends -------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", b"127.0.0.1", "localhost"])
@pytest.mark.parametrize("number", [int, str])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"family": socket.AF_INET},
        {"proto": socket.IPPROTO_TCP},
        {"ssl": False},
        {"local_addr": ("127.0.0.1", 0)},
        {"happy_eyeballs_delay": 0.1},
        {"interleave": 1},
    ],
    ids=str,
)
def test_reaching_a_literal_address(host, number, options):
    with listening() as server:
        port = number(server.getsockname()[1])
        family = {"family": socket.AF_INET, **options}  # localhost may have two addresses
        found, _ = same_on_both(on_loop(lambda: attempt(host, port, **family)))
    assert found[2] == server.getsockname() if server.fileno() >= 0 else found[2][0] == "127.0.0.1"


def test_reaching_an_ipv6_address():
    try:
        server = listening(socket.AF_INET6, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        found, _ = same_on_both(on_loop(lambda: attempt("::1", server.getsockname()[1])))
    assert found[2][0] == "::1"


@pytest.mark.parametrize(
    "args, keywords",
    [
        (("127.0.0.1",), {}),
        (("127.0.0.1",), {"family": socket.AF_INET}),
        (("127.0.0.1",), {"family": socket.AF_INET6}),
        (("127.0.0.1",), {"interleave": 1}),
        (("127.0.0.1",), {"happy_eyeballs_delay": 0.01}),
        (("127.0.0.1",), {"local_addr": ("127.0.0.1", 0)}),
        (("127.0.0.1",), {"proto": socket.IPPROTO_UDP}),
        (("::1",), {"family": socket.AF_INET}),
        (("0.0.0.0.0",), {"flags": socket.AI_NUMERICHOST}),
        (("127.0.0.1",), {"all_errors": True}),  # a TypeError before 3.12
        (("127.0.0.1",), {"all_errors": False}),
    ],
    ids=str,
)
def test_connections_refused(args, keywords):
    with nobody() as (_, port):
        found, contexts = same_on_both(on_loop(lambda: attempt(*args, port, **keywords)))
    assert isinstance(found[0], type) and contexts == []


@pytest.mark.parametrize(
    "port", [-1, 65536, 1 << 70, "70000", None, "", b"", 1.5, "http", object()]
)
def test_strange_ports(port):
    if type(port) is object:  # its address is in the message
        expected = same_on_both(on_loop(lambda: attempt("127.0.0.1", port)), over=[])
        found = on_loop(lambda: attempt("127.0.0.1", port))(HOTLOOP)
        assert found[0][0] is expected[0][0]
    else:
        same_on_both(on_loop(lambda: attempt("127.0.0.1", port)))


@pytest.mark.parametrize("host", ["", "127.1", "127.0.0.1%lo", "256.0.0.1", "\0", "é.invalid", 5])
def test_strange_hosts(host):
    async def main():
        with nobody() as (_, port):
            return (await attempt(host, port, flags=socket.AI_NUMERICHOST))[0]

    same_on_both(on_loop(main))


def test_a_factory_that_fails_leaves_no_socket(loop, run):
    class Wrong(Exception):
        pass

    def factory():
        raise Wrong

    async def main():
        with listening() as server:
            before = open_descriptors()
            found = await attempt(*server.getsockname(), factory=factory)
            collect()
            assert found[0] is Wrong and len(open_descriptors()) == len(before)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # older asyncios just drop it
        run(main())


def test_cancelled_after_any_number_of_turns(run, loop):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        await timer_opened()
        ends = set()
        for number in range(14):
            collect()
            before = open_descriptors()
            task = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, *where))
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, _ = await task
                transport.abort()
                ends.add("connected")
            except asyncio.CancelledError:
                ends.add("cancelled")
            del task
            transport = None
            await until(lambda: len(open_descriptors()) <= len(before))
        server.close()
        return ends

    assert "cancelled" in run(main())


def test_cancelled_while_waiting_for_connection_made():
    async def main():
        loop = asyncio.get_running_loop()
        log = []
        with listening() as server:
            task = None

            def factory():
                loop.call_soon(task.cancel)
                return Events(log)

            task = asyncio.ensure_future(loop.create_connection(factory, *server.getsockname()))
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.001)
        return log

    log, _ = same_on_both(on_loop(main))
    assert log == ["connection_made", ("connection_lost", None)]


# -- what it shows -----------------------------------------------------------


def test_what_debug_mode_logs():
    def scenario(impl):
        with listening() as server, Logged() as logged:

            async def main():
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_connection(
                    asyncio.Protocol, *server.getsockname()
                )
                transport.abort()
                await asyncio.sleep(0)

            impl.run(main(), debug=True)
            messages = [plain(each) for each in logged.messages(0)]
        return [each.split(" ")[0:3] for each in messages if "connect" in each]

    assert same_on_both(scenario)


def test_a_connection_never_awaited():
    def scenario(impl):
        loop = impl.new_event_loop()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coroutine = loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
            shown = asyncio.iscoroutine(coroutine), coroutine.__qualname__, coroutine.__name__
            del coroutine
            gc.collect()
        loop.close()
        marked = asyncio.iscoroutinefunction if sys.version_info < (3, 14) else None
        return (
            shown,
            [str(each.message) for each in caught],
            marked and marked(loop.create_connection),
        )

    same_on_both(scenario)


@pytest.mark.parametrize(
    "name",
    ["sock_connect", "_connect_sock", "_ensure_resolved", "_create_connection_transport"],
)
@pytest.mark.parametrize("on", ["instance", "class"])
def test_methods_put_in_place_of_asyncio_s_are_called(name, on, monkeypatch):
    def scenario(impl):
        calls = []
        loop = impl.new_event_loop()
        original = getattr(type(loop), name)

        async def replaced(*args, **keywords):
            calls.append(name)
            return await original(*([loop] if on == "instance" else []), *args, **keywords)

        with monkeypatch.context() as patch, listening() as server:
            patch.setattr(loop if on == "instance" else type(loop), name, replaced)
            found = loop.run_until_complete(attempt(*server.getsockname()))
        turns(loop, 3)
        loop.close()
        return found[:2], calls

    assert same_on_both(scenario)[1]


@pytest.mark.parametrize("name", ["_accept_connection2", "_make_socket_transport"])
@pytest.mark.parametrize("on", ["instance", "class"])
def test_methods_put_in_place_of_asyncio_s_accept(name, on, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        owner = loop if on == "instance" else type(loop)
        original = getattr(owner, name)
        protocol, calls = Events(), []

        def replaced(*args, **keywords):
            calls.append(name)
            return original(*args, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, replaced)
            server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
            with socket.create_connection(server.sockets[0].getsockname()):
                await until(lambda: protocol.transport)
            await asyncio.wait_for(protocol.lost, LIMIT)
        server.close()
        return calls

    assert same_on_both(on_loop(main)) == ([name], [])


def test_a_method_put_in_asyncio_s_class_is_called(monkeypatch):
    """Suites that must not reach the network do that."""

    async def refuse(*args, **keywords):
        raise PermissionError

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", refuse)
    found, _ = same_on_both(on_loop(lambda: attempt("127.0.0.1", 1)))
    assert found[0] is PermissionError


@pytest.mark.parametrize("name", ["__init__", "close", "_real_close"])
def test_methods_of_sockets_put_in_place_are_called(name, monkeypatch):
    async def main():
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        calls = []
        original = getattr(socket.socket, name)

        def replaced(self, *args, **keywords):
            calls.append(name)
            return original(self, *args, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, name, replaced)
            await attempt(*server.sockets[0].getsockname())
            await until(lambda: len(calls) >= 2)  # of both ends
        server.close()
        await asyncio.sleep(0.001)
        return calls

    assert same_on_both(on_loop(main)) == ([name] * 2, [])


def test_a_subclass_in_place_of_the_socket(monkeypatch):
    class Mine(socket.socket):
        pass

    async def main():
        with listening() as server, monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Mine)
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, *server.getsockname()
            )
            sock = transport.get_extra_info("socket")._sock
            transport.abort()
            await asyncio.sleep(0.001)
            return type(sock) is Mine, sock.fileno()

    assert same_on_both(on_loop(main)) == ((True, -1), [])


@pytest.mark.parametrize("accepted", [False, True], ids=["connected", "accepted"])
def test_methods_of_sockets_that_receive_in_their_own_way(accepted, monkeypatch):
    recv = socket.socket.recv

    async def main():
        loop, protocol = asyncio.get_running_loop(), Events()
        with monkeypatch.context() as patch, listening() as listener:
            patch.setattr(socket.socket, "recv", lambda self, size: recv(self, size).upper())
            with socket.socket() as peer:
                peer.connect(listener.getsockname())
                if accepted:
                    server = await loop.create_server(lambda: protocol, sock=listener)
                else:
                    await connect(protocol, sockets=(listener.accept()[0], peer))
                peer.send(b"data")
                await until(lambda: protocol.data)
            await asyncio.wait_for(protocol.lost, LIMIT)
            if accepted:
                server.close()
        return protocol.data

    assert same_on_both(on_loop(main)) == (b"DATA", [])


def test_another_class_in_place_of_the_socket(monkeypatch):
    """As mocket has it, which wraps one."""

    class Mine:
        def __init__(self, sock):
            self.sock = sock

        def recv(self, size):
            return self.sock.recv(size).upper()

        def __getattr__(self, name):
            return getattr(self.sock, name)

    async def main():
        protocol, (ours, peer) = Events(), raw_pair()
        with monkeypatch.context() as patch, peer:
            patch.setattr(socket, "socket", Mine)
            await connect(protocol, sockets=(Mine(ours), peer))
            peer.send(b"data")
            await until(lambda: protocol.data)
        await asyncio.wait_for(protocol.lost, LIMIT)
        return protocol.data

    assert same_on_both(on_loop(main)) == (b"DATA", [])


def test_a_file_of_the_socket_outlives_the_transport():
    async def main():
        with listening() as server:
            ours = socket.create_connection(server.getsockname())
            file = ours.makefile("rb", buffering=0)
            ours.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=ours
            )
            transport.close()
            await asyncio.sleep(0.001)
            peer, _ = server.accept()
            peer.send(b"late")
            open_still = ours.fileno() >= 0, "[closed]" in repr(ours)
            ours.setblocking(True)
            read = file.read(4)
            file.close()
            peer.close()
            return open_still, read, ours.fileno()

    assert same_on_both(on_loop(main)) == (((True, True), b"late", -1), [])


@pytest.mark.parametrize("how", ["set_result", "set_exception", "cancel", "nothing"])
@pytest.mark.parametrize("stock", [False, True])
def test_a_waiter_that_is_done_already(how, stock):
    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        waiter = asyncio.Future() if stock else loop.create_future()
        transport = loop._make_socket_transport(ours, asyncio.Protocol(), waiter)
        if how != "nothing":
            args = {"set_result": (1,), "set_exception": (ValueError(),), "cancel": ()}[how]
            getattr(waiter, how)(*args)
        await asyncio.sleep(0.001)
        state = waiter.cancelled() or repr(waiter.exception()) or waiter.result()
        transport.abort()
        peer.close()
        await asyncio.sleep(0.001)
        return state

    same_on_both(on_loop(main))


def test_the_audit_event_of_a_connection():
    seen = []
    watching = [True]

    def hook(event, args):
        if watching[0] and event == "socket.connect":
            seen.append((type(args[0]), args[1]))

    sys.addaudithook(hook)
    with listening() as server:

        def scenario(impl):
            seen.clear()
            impl.run(attempt(*server.getsockname()))
            return list(seen)

        assert same_on_both(scenario) == [(socket.socket, server.getsockname())]
    watching[0] = False


# -- what is kept of a connection --------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix", "socketpair"])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("way", ["peer resets", "close"])
def test_extra_info_after_the_end(kind, asked, way):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        if asked:
            transport._extra["more"] = 1
        ours, theirs = peer.getpeername(), peer.getsockname()
        peer.close() if way == "peer resets" else transport.close()
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        sock = transport.get_extra_info("socket")
        return (
            transport.get_extra_info("sockname") == ours,
            transport.get_extra_info("peername") == theirs,
            type(sock).__name__,
            sock.fileno(),
            sock is transport.get_extra_info("socket"),
            transport.get_extra_info("more"),
            sorted(transport._extra),
        )

    (ours, theirs, *_), _ = same_on_both(on_loop(main))
    assert ours and theirs


def test_extra_info_given(loop, run):
    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        extra = {"peername": "somebody", "more": 1}
        protocol = Events()
        transport = loop._make_socket_transport(left, protocol, extra=extra)
        assert transport._extra is extra and sorted(extra) == [
            "more",
            "peername",
            "socket",
            "sockname",
        ]
        assert transport.get_extra_info("peername") == "somebody"
        transport.close()
        await protocol.lost
        right.close()

    run(main())


def test_extra_info_that_nobody_has():
    """Servers ask each connection for "sslcontext": a loop need not make anything for that."""

    async def main():
        transport, peer = await connect(Events())
        before = wrapped_sockets()
        asked = [outcome(transport.get_extra_info, *args) for args in (["sslcontext"], ["", 2])]
        made = wrapped_sockets() - before
        asked.append(outcome(transport.get_extra_info, []))
        transport.close()
        peer.close()
        return asked, made

    same_on_both(on_loop(main))


def wrapped_sockets():
    return sum(type(each) is asyncio.trsock.TransportSocket for each in gc.get_objects())


def test_addresses_of_many_connections(loop, run):
    """They share what is the same, and nothing else."""

    async def main():
        made = []

        def factory():
            made.append(Events())
            return made[-1]

        server = await loop.create_server(factory, "0.0.0.0", 0)
        port = server.sockets[0].getsockname()[1]
        hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"] * 3
        clients = [socket.create_connection((host, port)) for host in hosts]
        await until(lambda: len(made) == len(clients) and all(each.transport for each in made))
        found = sorted(
            (each.transport.get_extra_info("peername"), each.transport.get_extra_info("sockname"))
            for each in made
        )
        assert found == sorted((each.getsockname(), each.getpeername()) for each in clients)
        for client in clients:
            client.close()
        for each in made:
            await each.lost
        server.close()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a server waits for them in vain")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("cycle", [False, True])
def test_connections_dropped_open_leave_their_server(cycle):
    """asyncio since 3.13 wakes who waits for the server once for each of them, which fails."""

    async def main():
        loop = asyncio.get_running_loop()
        made = []

        class Forgetful(asyncio.Protocol):
            def connection_made(self, transport):
                transport.pause_reading()
                if cycle:
                    self.transport, transport.me = transport, transport
                made.append(transport._server)

        server = await loop.create_server(Forgetful, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: len(made) == 3)
        server.close()
        await asyncio.sleep(0.001)
        collect()
        await asyncio.sleep(0)
        collect()
        await asyncio.wait_for(server.wait_closed(), LIMIT)
        for client in clients:
            client.close()

    _, contexts = on_loop(main)(HOTLOOP)
    assert contexts == []


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@pytest.mark.parametrize("name", ["_attach", "_detach"])
def test_a_server_whose_bookkeeping_was_replaced(name, monkeypatch):
    def scenario(impl):
        calls = []

        async def main():
            loop = asyncio.get_running_loop()
            made = []

            def factory():
                made.append(Events())
                return made[-1]

            server = await loop.create_server(factory, "127.0.0.1", 0)
            original = getattr(server, name)
            monkeypatch.setattr(
                server, name, lambda transport: (calls.append(name), original(transport))
            )
            with socket.create_connection(server.sockets[0].getsockname()):
                await until(lambda: made and made[0].transport)
                clients = len(server._clients)
            await made[0].lost
            await asyncio.sleep(0)
            server.close()
            await asyncio.wait_for(server.wait_closed(), LIMIT)
            return clients, len(server._clients)

        return impl.run(main()), calls

    assert same_on_both(scenario) == ((1, 0), [name])


# -- descriptors by the number of an earlier connection ----------------------


def test_other_files_by_the_number_of_a_connection(loop, run, tmp_path):
    """epoll takes no ordinary files; a socket's watch is kept for the next socket only."""
    path = tmp_path / "file"
    path.write_bytes(b"something")

    async def main():
        for _ in range(5):
            protocol = Events()
            transport, peer = await connect(protocol)
            number = transport._sock_fd
            transport.close()
            await protocol.lost
            with path.open("rb") as file:
                kind = outcome(loop.add_reader, file.fileno(), print)[1]
                assert kind is PermissionError, (number, file.fileno())
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                right.send(b"x")
                assert await loop.sock_recv(left, 10) == b"x"
            peer.close()

    run(main())


def test_very_many_connections_that_come_and_go(loop, run):
    async def main():
        told = Contexts()
        loop.set_exception_handler(told)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=400)
        where = server.sockets[0].getsockname()
        await timer_opened()
        before = len(open_descriptors())
        for _ in range(3):
            pairs = [await loop.create_connection(asyncio.Protocol, *where) for _ in range(330)]
            for transport, _ in pairs:
                transport.abort()
            await until(lambda: len(open_descriptors()) == before)
        server.close()
        assert told == []

    run(main())

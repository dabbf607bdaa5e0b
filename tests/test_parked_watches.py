"""Descriptors used again and again: what is kept of a closed socket's watch meets nobody else."""

import asyncio
import errno
import os
import random
import socket
import sys
import tempfile
import time
import warnings

import pytest
from streams import Events, connect, raw_pair
from support import (
    HOTLOOP,
    PATIENCE,
    PORTABLE,
    Contexts,
    collect,
    open_descriptors,
    timer_opened,
    turns,
    until,
)

LIMIT = 20 * PATIENCE
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def registered():
    """The descriptors that epolls of this process know, as [(epoll, number)]."""
    found = []
    for epoll, target in open_descriptors().items():
        if "eventpoll" in target:
            with open(f"/proc/self/fdinfo/{epoll}") as file:
                found += [(epoll, int(line.split()[1])) for line in file if "tfd:" in line]
    return found


def is_registered(number):
    return any(each == number for _, each in registered())


# -- nothing is crossed ------------------------------------------------------


class Churn:
    """Sockets that come and go under few numbers, each told its identity by its peer."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.transports = {}
        self.duplicates = []
        self.answers = 0
        self.numbers = set()

    async def life(self, identity):
        left, right = socket.socketpair()
        left.setblocking(False)
        self.numbers.add(left.fileno())
        way = self.random.choice([self.by_transport, self.by_wait, self.by_reader])
        try:
            for turn in range(count := self.random.choice([1, 1, 2, 7])):
                message = b"%d.%d" % (identity, turn)
                self.loop.call_later(self.random.choice([0, 0.001]), right.send, message)
                found = await asyncio.wait_for(way(left, turn), LIMIT)
                assert found == message, (way, turn)
                self.answers += 1
        finally:
            self.end(left, right, tidy=count < 3 and self.random.random() < 0.8)
            await asyncio.sleep(0)

    def end(self, left, right, tidy):
        """Close it in one of the ways that programs have."""
        transport = self.transports.pop(left, None)
        if self.random.random() < 0.3:
            right.send(b"not for anybody")
        if tidy and self.random.random() < 0.2:
            self.duplicates.append(os.dup(left.fileno()))
            if len(self.duplicates) > 8:
                os.close(self.duplicates.pop(self.random.randrange(8)))
        if transport is not None:
            self.random.choice([transport.close, transport.abort])()
            if not tidy:
                left.close()  # behind the transport's back
        elif self.random.random() < 0.3:
            os.close(left.detach())
        else:
            left.close()
        right.close()

    async def by_wait(self, sock, turn):
        if turn % 3 == 1:
            waiting = asyncio.ensure_future(self.loop.sock_recv(sock, 100))
            await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
            try:
                return await waiting
            except asyncio.CancelledError:
                pass
        return await self.loop.sock_recv(sock, 100)

    async def by_reader(self, sock, turn):
        ready = self.loop.create_future()
        self.loop.add_reader(sock, lambda: ready.done() or ready.set_result(None))
        await ready
        self.loop.remove_reader(sock)
        return sock.recv(100)

    async def by_transport(self, sock, turn):
        if sock not in self.transports:
            self.transports[sock], _ = await self.loop.create_connection(Events, sock=sock)
        protocol = self.transports[sock].get_protocol()
        await until(lambda: protocol.data)
        data, protocol.data = protocol.data, b""
        return data


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("seed", range(4))
def test_each_socket_gets_its_own_messages(seed, loop, run):
    async def main():
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        churn = Churn(seed)
        for first in range(0, 200, 5):
            await asyncio.gather(*(churn.life(first + number) for number in range(5)))
        assert churn.answers >= 200 and len(churn.numbers) < 100
        for each in churn.duplicates:
            os.close(each)
        assert [each for each in contexts if "exception" in each] == []

    run(main())


def test_each_client_of_a_busy_server_gets_its_own_answers(loop, run):
    """More connections than watches are kept for, closed by both sides in turn."""

    async def main():
        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.transport.write(data)
                if data.endswith(b"0"):
                    self.transport.close()

        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=400)
        where = server.sockets[0].getsockname()

        async def ask(number):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, where)
                for turn in range(3):
                    message = b"%d/%d/1" % (number, turn)
                    await loop.sock_sendall(sock, message)
                    assert await loop.sock_recv(sock, 100) == message
                await loop.sock_sendall(sock, b"%d/0" % number)
                assert await loop.sock_recv(sock, 100) == b"%d/0" % number
                if number % 2:
                    assert await loop.sock_recv(sock, 100) == b""

        async def ask_by_transport(number):
            protocol = Events()
            transport, _ = await loop.create_connection(lambda: protocol, *where)
            transport.write(b"<%d>0" % number)
            await protocol.lost
            assert protocol.data == b"<%d>0" % number

        for first in (0, 1000, 2000):
            await asyncio.wait_for(
                asyncio.gather(
                    *(ask(first + number) for number in range(150)),
                    *(ask_by_transport(first + number) for number in range(150)),
                ),
                LIMIT,
            )
        server.close()
        await asyncio.sleep(0.01)

    run(main())


# -- epoll forgets a socket when its owner does ------------------------------


@linux
@pytest.mark.parametrize("way", ["close", "abort", "peer"])
def test_a_closed_connection_that_lives_on_elsewhere_is_not_watched(way, loop, run):
    """By the number of its duplicate, as in a forked process, epoll would go on to tell of it."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        number = transport.get_extra_info("socket").fileno()
        await timer_opened()  # or else it gets that number
        await until(lambda: is_registered(number))
        duplicate = os.dup(number)
        if way == "peer":
            peer.shutdown(socket.SHUT_WR)
        else:
            getattr(transport, way)()
        await asyncio.wait_for(protocol.lost, LIMIT)
        await until(lambda: not is_registered(number))
        if way != "peer":
            peer.send(b"unread")
        began = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - began < 0.1  # it slept
        os.close(duplicate)
        peer.close()

    run(main())


@linux
@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_socket_closed_beside_its_transport_is_not_watched(kind, way, loop, run):
    """By those who close both the transport and the socket that they made it of."""

    async def main():
        sock, peer = socket.socketpair(
            type=socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM
        )
        sock.setblocking(False)
        protocol = Events() if kind == "stream" else asyncio.DatagramProtocol()
        make = loop.create_connection if kind == "stream" else loop.create_datagram_endpoint
        transport, _ = await make(lambda: protocol, sock=sock)
        number = sock.fileno()
        await timer_opened()  # or else it gets that number
        await until(lambda: is_registered(number))
        duplicate = os.dup(number)
        getattr(transport, way)()
        sock.close()
        peer.send(b"unread")
        began = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - began < 0.1  # it slept
        assert not is_registered(number)
        os.close(duplicate)
        peer.close()

    run(main())


@linux
def test_waits_that_are_over_leave_nothing_behind(loop, run):
    async def main():
        await timer_opened()
        before = registered()
        sockets = [raw_pair() for _ in range(10)]
        for ours, peer in sockets:
            for number in range(7):
                loop.call_soon(peer.send, b"%d" % number)
                assert await loop.sock_recv(ours, 10) == b"%d" % number
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert registered() == before
        for ours, peer in sockets:
            ours.close()
            peer.close()

    run(main())


@linux
@pytest.mark.parametrize("count", [1, 300])
def test_a_closed_loop_keeps_nothing(count, new_loop):
    before = open_descriptors()
    loop = new_loop()

    async def main():
        made = [await connect(Events()) for _ in range(count)]
        for transport, peer in made:
            transport.abort()
            peer.close()
        for transport, _ in made:
            await transport.get_protocol().lost if transport.get_protocol() else None
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    loop.close()
    collect()
    assert open_descriptors() == before


# -- other things by that number ---------------------------------------------


@pytest.mark.skipif(PORTABLE, reason="has no timer of its own")
@linux
def test_the_loop_s_own_descriptors_by_the_number_of_a_connection():
    """The timer's is opened at its first use; to ask for its number must not end the timer."""

    async def main():
        loop = asyncio.get_running_loop()
        protocol = Events()
        transport, peer = await connect(protocol)
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.lost
        await timer_opened()
        mine = "timerfd" in open_descriptors().get(number, "")
        if mine:
            with pytest.raises(OSError) as caught:
                loop.add_reader(number, print)
            assert caught.value.errno == errno.EEXIST
        for _ in range(3):
            began = time.monotonic()
            await asyncio.wait_for(asyncio.sleep(0.005), LIMIT)
            assert time.monotonic() - began < LIMIT / 2
        peer.close()
        return mine

    assert HOTLOOP.run(main())


@pytest.mark.parametrize("wait", ["reader", "sock_recv", "transport"])
@pytest.mark.parametrize("kind", ["file", "null", "nobody"])
def test_files_by_the_number_of_a_socket_that_is_waited_for(wait, kind, loop, run):
    """libuv would abort the process: epoll takes no ordinary files."""

    async def main():
        ours, peer = raw_pair()
        number = ours.fileno()
        if wait == "reader":
            loop.add_reader(ours, print)
        elif wait == "sock_recv":
            task = asyncio.ensure_future(loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.pause_reading()
            peer.send(b"x")  # the watch, without anybody to tell, ends
            await asyncio.sleep(0.001)
            transport.resume_reading()
        os.close(number)
        ours.detach()
        name = {"file": None, "null": os.devnull}.get(kind, 0)
        file = None
        if name is None:
            file = tempfile.TemporaryFile()
        elif name:
            file = open(name, "rb")
        await asyncio.sleep(0.005)
        loop.remove_reader(number) if wait == "reader" else None
        if wait == "sock_recv":
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, OSError):
                pass
        elif wait == "transport":
            transport.abort()
        await asyncio.sleep(0)
        if file is not None:
            file.close()
        peer.close()

    if type(loop).__module__.startswith("hotloop"):  # asyncio's selector has its own troubles
        loop.set_exception_handler(lambda loop, context: None)
        run(main())


@pytest.mark.parametrize("wait", ["reader", "sock_recv"])
@pytest.mark.parametrize("way", ["close", "abort"])
def test_who_waits_by_the_number_of_a_transport_about_to_be_lost(wait, way, loop, run):
    """Its socket was closed behind its back; connection_lost() must not end another's wait."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        sock = transport.get_extra_info("socket")
        sock = getattr(sock, "_sock", sock)  # no methods to close it by
        number = sock.fileno()
        getattr(transport, way)()
        sock.close()
        left, right = socket.socketpair()
        if left.fileno() != number:
            left, right = right, left
        assert left.fileno() == number
        left.setblocking(False)
        ready = loop.create_future()
        if wait == "reader":
            loop.add_reader(left, lambda: ready.done() or ready.set_result(left.recv(10)))
        else:
            ready = asyncio.ensure_future(loop.sock_recv(left, 10))
        await asyncio.wait_for(protocol.lost, LIMIT)
        await asyncio.sleep(0.001)
        right.send(b"for left")
        assert await asyncio.wait_for(ready, LIMIT) == b"for left"
        loop.remove_reader(left)
        for each in (left, right, peer):
            each.close()

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_closes_the_loop_leaves_the_parent_s_connections():
    loop = HOTLOOP.new_event_loop()

    async def before():
        gone, peer = await connect(Events())
        made = await connect(Events())
        gone.abort()
        await asyncio.sleep(0.001)
        return made, peer

    async def child():
        transport, peer = await connect(Events())
        peer.send(b"a child's")
        await until(lambda: transport.get_protocol().data)
        return transport.get_protocol().data

    async def after(transport, peer):
        protocol = transport.get_protocol()
        peer.send(b"still there")
        await asyncio.wait_for(until(lambda: protocol.data), LIMIT)
        transport.abort()
        return protocol.data

    made, gone = loop.run_until_complete(before())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, of fork beside threads
        pid = os.fork()
    if pid == 0:
        try:
            loop.close()
            other = HOTLOOP.new_event_loop()
            os._exit(other.run_until_complete(child()) != b"a child's")
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert loop.run_until_complete(after(*made)) == b"still there"
    turns(loop, 3)
    loop.close()
    gone.close()
    made[1].close()


# -- transports of accepted connections --------------------------------------


@pytest.mark.parametrize("kind", ["init", "new", "function", "nonsense"])
def test_another_class_in_place_of_the_transport(kind):
    """HotLoop's own hook; what is no class of transports at all fails without harm."""
    made = []

    async def main():
        loop = asyncio.get_running_loop()
        contexts = Contexts()
        loop.set_exception_handler(contexts)
        usual = loop._socket_transport

        class Init(usual):
            def __init__(self, *args):
                made.append(args[4]["peername"])
                super().__init__(*args)

        class New(usual):
            def __new__(cls, *args):
                made.append(args[4]["peername"])
                return super().__new__(cls)

        def function(*args):
            made.append(args[4]["peername"])
            return usual(*args)

        loop._socket_transport = {"init": Init, "new": New, "function": function}.get(kind, 7)
        server = await loop.create_server(Events, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname(), 5) as client:
            client.setblocking(False)
            client.send(b"x")
            client.shutdown(socket.SHUT_WR)
            try:
                assert await asyncio.wait_for(loop.sock_recv(client, 1), LIMIT) == b""
            except ConnectionResetError:
                assert kind == "nonsense"
            expected = [] if kind == "nonsense" else [client.getsockname()]
        server.close()
        await asyncio.sleep(0.001)
        assert made == expected and contexts == []

    HOTLOOP.run(main())

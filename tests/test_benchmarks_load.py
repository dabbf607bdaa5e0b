"""The load generator in C, and the server in C that is the limit line."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import time

import pytest
from support import PATIENCE, until

from benchmarks import echo, http, load, memory, native, tls
from benchmarks.load import Load
from benchmarks.procfs import peak_memory

pytestmark = [
    pytest.mark.skipif(bool(native.why_no_compiler()), reason="no C compiler"),
    # A loop may end before it sees that the load generator is gone.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
needs_tls = pytest.mark.skipif(bool(native.why_no_tls()), reason="no OpenSSL headers")
needs_server = pytest.mark.skipif(bool(native.why_no_server()), reason="no libuv headers")


def generate(*arguments, timeout=20):
    return subprocess.run(
        [native.load_generator(), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


def run_against(serve, *options, mode="echo", new_event_loop=asyncio.new_event_loop):
    """What the load generator says of a server on an asyncio loop."""

    async def main(folder):
        where, close = await serve(folder)
        try:
            return await load.in_thread(generate, mode, where, *options)
        finally:
            await close()
            await asyncio.sleep(0.05)

    with load.temporary_folder() as folder:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main(folder))


def found(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


class Counting(echo.EchoProtocol):
    bytes = connections = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        Counting.connections += 1

    def data_received(self, data):
        Counting.bytes += len(data)
        super().data_received(data)


@pytest.fixture
def counting():
    Counting.bytes = Counting.connections = 0
    return echo.protocols(Counting)


def test_it_makes_as_many_requests_as_it_says(counting, impl):
    result = found(
        run_against(
            counting,
            *("--connections", 4, "--size", 1000, "--requests", 100),
            new_event_loop=impl.new_event_loop,
        )
    )
    assert result["requests"] == 100
    assert Counting.connections == 4
    # The other three had begun their next requests.
    assert 100_000 <= Counting.bytes <= 104_000


def test_a_connection_for_each_request(counting):
    options = ("--connections", 2, "--requests", 20)
    result = found(run_against(counting, *options, mode="connect"))
    assert result["requests"] == 20
    assert 20 <= Counting.connections <= 22


def test_seconds_are_kept_after_the_warm_up(counting):
    began = time.monotonic()
    result = found(run_against(counting, "--seconds", 0.2, "--warm-up", 0.1))
    assert 0.2 <= result["seconds"] < 5
    assert time.monotonic() - began >= 0.3


class Late(asyncio.Protocol):
    """Every tenth answer is late."""

    DELAY = 0.02
    count = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.count += 1
        delay = self.DELAY if self.count % 10 == 0 else 0
        asyncio.get_running_loop().call_later(delay, self.transport.write, data)


class SlowToBegin(asyncio.Protocol):
    """Each connection's first answer is late, as if it waited to be accepted."""

    DELAY = 0.2

    def connection_made(self, transport):
        self.transport = transport
        self.begun = False

    def data_received(self, data):
        delay, self.begun = 0 if self.begun else self.DELAY, True
        asyncio.get_running_loop().call_later(delay, self.transport.write, data)


def test_measuring_begins_when_every_connection_was_answered():
    options = ("--connections", 3, "--seconds", 0.05)
    result = found(run_against(echo.protocols(SlowToBegin), *options))
    assert result["p50"] < SlowToBegin.DELAY * 1e6
    assert result["requests"] >= 2 * 3  # two for each, however slow the machine is


def test_latency_percentiles_are_of_the_answers():
    """A closed loop of one connection: the sum of the latencies is the time."""
    result = found(run_against(echo.protocols(Late), "--size", 10, "--requests", 50))
    assert result["p50"] < result["p99"] <= result["p999"] <= result["worst"]
    assert result["p99"] >= Late.DELAY * 1e6
    assert result["worst"] <= result["seconds"] * 1e6
    assert result["seconds"] >= 5 * Late.DELAY
    assert result["p50"] <= result["seconds"] * 1e6 / 25  # half of 50 took at least that


def test_the_servers_processor_time_is_told():
    spec = Load("echo", 5)
    before = resource.getrusage(resource.RUSAGE_SELF)
    metrics = load.measure_server(
        asyncio.new_event_loop, echo.WAYS["protocol"], spec, "seconds", 0.2
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert 0 < metrics["cpu_us"] <= used * 1e6
    assert 0 < metrics["client_busy"] <= 1.05
    assert peak_memory(os.getpid()) > 1000 or not os.path.exists("/proc/self/status")


@pytest.mark.parametrize("size", [1, 1000, 300_000])
@pytest.mark.parametrize("way", list(echo.WAYS))
def test_every_way_to_echo(way, size):
    serve = echo.protocols(echo.CarefulBuffered) if way == "buffered protocol" else echo.WAYS[way]
    assert found(run_against(serve, "--size", size, "--connections", 3, "--requests", 30))


@pytest.mark.parametrize("serve", [*echo.UNIX_WAYS.values(), echo.datagrams, echo.datagram_socket])
def test_unix_and_udp(serve):
    assert found(run_against(serve, "--connections", 3, "--requests", 30))["requests"] == 30


def test_connections_that_the_server_closes():
    serve = echo.protocols(echo.CloseAtOnce)
    assert found(run_against(serve, "--requests", 30, mode="close"))["requests"] == 30


def test_http_answers_in_pieces():
    class Pieces(asyncio.Protocol):
        def data_received(self, data):
            assert data.startswith(b"GET / HTTP/1.1\r\n") and data.endswith(b"\r\n\r\n")
            asyncio.create_task(self.answer())

        def connection_made(self, transport):
            self.transport = transport

        async def answer(self):
            for piece in (
                b"HTTP/1.1 200 OK\r\nx: y\r\nconTENT-",
                b"length: 5\r\n\r",
                b"\nhe",
                b"llo",
            ):
                self.transport.write(piece)
                await asyncio.sleep(0.001)

    options = ("--connections", 2, "--requests", 10)
    assert found(run_against(echo.protocols(Pieces), *options, mode="http"))["requests"] == 10
    assert found(run_against(http.stream_server, *options, mode="http"))["requests"] == 10


@needs_tls
@pytest.mark.parametrize("mode", ["echo", "connect"])
def test_tls(mode):
    options = ("--tls", "--size", 50_000, "--connections", 3, "--requests", 20)
    serve = echo.protocols(echo.EchoProtocol, tls.server_context)
    assert found(run_against(serve, *options, mode=mode))["requests"] == 20


def answering(*answers):
    class Answering(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(answers[0])
            if len(answers) > 1:
                self.transport.close()

    return echo.protocols(Answering)


@pytest.mark.parametrize(
    ("mode", "serve", "said"),
    [
        ("echo", answering(b"wrong"), "not what was sent"),
        ("echo", answering(b"abc", "close"), "closed a connection"),
        ("echo", answering(bytes(4000)), "not what was sent"),
        ("http", answering(b"HTTP/1.1 500 Oops\r\n\r\n"), "not 200"),
        ("http", answering(b"HTTP/1.1 200 OK\r\n\r\n"), "without Content-Length"),
        ("http", answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"), "more bytes"),
        ("http", answering(b"x" * 5000), "head of more than"),
    ],
)
def test_a_wrong_answer_ends_it(mode, serve, said):
    process = run_against(serve, "--requests", 3, mode=mode)
    assert process.returncode == 1
    assert said in process.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("echo",),
        ("echo", "nowhere", "--requests", 1),
        ("sing", "tcp:1", "--requests", 1),
        ("echo", "tcp:1"),
        ("echo", "tcp:1", "--requests", 1, "--size", 0),
        ("echo", "tcp:1", "--requests", 1, "--loudly"),
    ],
)
def test_bad_options(arguments):
    process = generate(*arguments)
    assert process.returncode == 1
    assert "usage:" in process.stderr


def test_no_server():
    process = generate("echo", "unix:/nowhere/socket", "--requests", 1)
    assert (process.returncode, process.stderr) == (1, "connect: No such file or directory\n")


def test_idle_connections_are_counted_and_held(counting):
    async def main(folder):
        where, close = await counting(folder)
        with memory.idle_connections(where, Load("idle", 7)):
            await until(lambda: Counting.connections >= 7)
            held = Counting.connections
        await close()
        return held

    with load.temporary_folder() as folder, asyncio.Runner() as runner:
        # The connections wait in the backlog until the loop runs.
        assert runner.run(main(folder)) == 7


@needs_server
@pytest.mark.parametrize(
    ("mode", "transport"),
    [
        ("echo", "tcp"),
        ("echo", "unix"),
        ("echo", "udp"),
        ("connect", "tcp"),
        ("close", "tcp"),
        ("http", "tcp"),
    ],
)
def test_the_server_in_c(mode, transport):
    metrics = load.measure_limit(Load(mode, 5), transport, 0.05)
    assert 0 < metrics["us"] and 0 < metrics["cpu_us"]
    assert metrics["rss_kib"] > 0 or not os.path.exists("/proc")


@needs_server
def test_the_server_in_c_outlives_clients_that_do_not_wait_for_their_answer():
    with load.native_server("echo", "unix") as (where, _):
        path = where.removeprefix("unix:")
        for _ in range(100):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.send(b"x" * 1000)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5 * PATIENCE)
            client.connect(path)
            client.send(b"still there")
            assert client.recv(100) == b"still there"

"""Fixtures: every behaviour test runs on stock asyncio and on hotloop, and leaves nothing behind."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import hypothesis
import pytest

pytest.register_assert_rewrite("datagrams", "processes", "sockets", "streams", "support")

from processes import children, threads_end
from sockets import datagram_pair
from streams import KINDS
from support import (
    ASYNCIO,
    IMPLEMENTATIONS,
    MIXTURES,
    PATIENCE,
    Logged,
    close_tidily,
    collect,
    open_descriptors,
)
from workers import gone, workers

# HYPOTHESIS_PROFILE=search looks for new counterexamples, for longer; give it -o faulthandler_timeout=0 too.
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
TIME_LIMIT = min(30 * PATIENCE, 100) if PROFILE == "ci" else 3600

hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.register_profile(
    "search", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile(PROFILE)


def pytest_configure(config):
    # Hypothesis says this of an object of its own, on 3.14.
    config.addinivalue_line("filterwarnings", "ignore:It looks like .register_random. was passed")


def pytest_collection_finish(session):
    # The many collections in the tests then look only at what the tests made.
    gc.collect()
    gc.freeze()
    # libuv keeps a few descriptors from its first loop on, for the whole process.
    for implementation in IMPLEMENTATIONS:
        implementation.run(asyncio.sleep(0))


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """What pytest remembers of the tests so far is not looked through again: half of a run went into that."""
    gc.collect()
    gc.freeze()


class TookTooLong(SystemExit):
    """Not an Exception, so that no loop and no task swallows it."""


def too_long(signum, frame):
    raise TookTooLong(f"test ran for more than {TIME_LIMIT} seconds")


@pytest.fixture(autouse=True)
def time_limit():
    """A test that hangs fails; if even a signal does not end it, faulthandler_timeout ends the run."""
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def asyncio_log(request):
    """What asyncio logged. A test that does not ask for it must not cause any error or warning, but
    that a callback took 0.1 seconds in debug mode, which tells of the machine's load only."""
    asked_for = "logged" in request.fixturenames
    with Logged(logging.WARNING) as log:
        yield log
        if not asked_for:
            gc.collect()
    if not asked_for:
        assert [
            message for message in log.messages() if not message.startswith("Executing ")
        ] == []


@pytest.fixture
def logged(asyncio_log):
    """Ask for the log: then the test itself must look at it."""
    return asyncio_log


def params(implementations):
    return [
        pytest.param(one, id=one.name, marks=[pytest.mark.stock] if one is ASYNCIO else [])
        for one in implementations
    ]


@pytest.fixture(params=params(IMPLEMENTATIONS))
def impl(request):
    """Stock asyncio, then hotloop."""
    return request.param


@pytest.fixture(params=params(MIXTURES))
def mixture(request):
    """Stock asyncio, hotloop, and Future and Task of each on the other's loop."""
    return request.param


@pytest.fixture
def no_new_descriptors():
    before = open_descriptors()
    yield
    after = open_descriptors()
    if set(after) - set(before):
        collect()
        after = open_descriptors()
    left = {fd: what for fd, what in after.items() if fd not in before}
    assert not left, f"descriptors left open: {left}"


@pytest.fixture
def pair():
    """Two connected stream sockets, non-blocking."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@pytest.fixture
def closing():
    """Descriptors to be closed at the end, if the test did not."""
    fds = []

    def remember(*what):
        fds.extend(what)
        return what

    yield remember
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def pipe(closing):
    """The two ends of a pipe, as descriptors."""
    return closing(*os.pipe())


@pytest.fixture
def inlet(closing):
    """A pipe: its reading end as a file object for a transport, its writing end as a descriptor."""
    read, write = os.pipe()
    closing(write)
    return os.fdopen(read, "rb", 0), write


@pytest.fixture
def outlet(closing):
    """A pipe: its reading end as a descriptor, its writing end as a file object for a transport."""
    read, write = os.pipe()
    closing(read)
    return read, os.fdopen(write, "wb", 0)


@pytest.fixture
def datagrams():
    """Two UDP sockets, non-blocking, each bound to an address."""
    left, right = datagram_pair()
    with left, right:
        yield left, right


@pytest.fixture
def listening():
    """A TCP socket that listens, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def no_worker_left(asyncio_log):
    """The default executor's threads end with the test, whoever had them."""
    yield
    collect()
    assert all(gone(thread) for thread in workers())


@pytest.fixture
def nothing_left(no_new_descriptors):
    """No child, no thread and no descriptor is left of the processes that the test starts."""
    before = children(), threading.enumerate()
    yield
    collect()
    subprocess._cleanup()
    threads_end(before[1])
    assert (children(), threading.enumerate()) == before


def loops_of(factory):
    """A factory of loops that are closed at the end."""
    loops = []

    def new_loop():
        loops.append(factory())
        return loops[-1]

    yield new_loop
    for loop in loops:
        close_tidily(loop)


@pytest.fixture
def new_loop(impl, no_new_descriptors):
    yield from loops_of(impl.new_event_loop)


@pytest.fixture
def loop(new_loop):
    """A loop of the implementation under test, closed at the end; no descriptor may be left."""
    return new_loop()


@pytest.fixture(params=KINDS)
def kind(request):
    """What a stream transport is made of, see streams.connect()."""
    return request.param


@pytest.fixture
def run(loop):
    """Run a coroutine on the loop under test."""
    return loop.run_until_complete


@pytest.fixture
def new_mixed_loop(mixture, no_new_descriptors):
    yield from loops_of(mixture.new_event_loop)


@pytest.fixture
def mixed_loop(new_mixed_loop):
    """The loop that goes with the fixture mixture."""
    return new_mixed_loop()


@pytest.fixture
def Future(mixture):
    return mixture.Future


@pytest.fixture
def future(Future, mixed_loop):
    return Future(loop=mixed_loop)


@pytest.fixture
def Task(mixture):
    return mixture.Task


@pytest.fixture
def start(mixed_loop, Task):
    """Make a task of the mixture's kind on the mixture's loop."""

    def start(coro, **options):
        return Task(coro, loop=mixed_loop, **options)

    return start


@pytest.fixture
def finish(mixed_loop):
    """Run an awaitable on the mixture's loop."""
    return mixed_loop.run_until_complete


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost, with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
        timeout=30 * PATIENCE,
    )
    path.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return path


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    return context


@pytest.fixture
def python_handler():
    """Install a Python-level handler for SIGUSR1 that notes each call; the default is put back."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: seen.append(signum))
    yield seen
    signal.signal(signal.SIGUSR1, before)

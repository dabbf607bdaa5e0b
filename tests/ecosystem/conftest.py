"""Fixtures: each test runs on stock asyncio and on hotloop, against real counterparts on loopback."""

import gc
import os
import shutil
import ssl
import subprocess

import pytest
from programs import LOOPS, mariadb, postgres, redis


@pytest.fixture(params=LOOPS, ids=lambda loop: loop.name)
def loop(request):
    return request.param


def sockets():
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if what.startswith("socket:"):
            found[what] = entry
    return found


@pytest.fixture(autouse=True)
def no_socket_left(request):
    """What a test opened is closed at its end, by the libraries and the loop."""
    before = sockets()
    yield
    gc.collect()
    if "keeps_sockets" not in request.keywords:
        left = sockets().keys() - before.keys()
        assert not left, f"sockets left open: {left}"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "keeps_sockets: what is tested keeps sockets for the life of the process"
    )


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost: (certificate's path, key's path)."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", key, "-out", cert]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def server_tls(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def client_tls(certificate):
    return ssl.create_default_context(cafile=certificate[0])


@pytest.fixture(scope="session")
def postgres_port():
    with postgres() as port:
        yield port


@pytest.fixture(scope="session")
def redis_port():
    with redis() as port:
        yield port


@pytest.fixture(scope="session")
def mariadb_port():
    with mariadb() as port:
        yield port

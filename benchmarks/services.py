"""Servers of other kinds that workloads talk to: PostgreSQL and Redis, as installed here.

The benchmark starts its own, on free ports of 127.0.0.1 and on the cores where the loop is not,
with their files in a temporary folder; whatever runs on the machine already is left alone. The
children learn the ports from the environment.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import cores
from .family import Need, Workload
from .load import temporary_folder

START_S = 20  # how long a server may take until it answers


def find_program(name: str) -> str | None:
    """In PATH or where Debian keeps PostgreSQL's."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))


def programs(*names: str) -> Need:
    """These must be installed."""

    def need() -> str:
        missing = [name for name in names if not find_program(name)]
        return f"{' and '.join(missing)} not found" if missing else ""

    return need


def port(service: str) -> int:
    """Where the server listens; asked in the child."""
    return int(os.environ[variable(service)])


def variable(service: str) -> str:
    return f"BENCHMARKS_{service.upper()}_PORT"


@contextmanager
def running(workloads: Iterable[Workload]) -> Iterator[None]:
    """The services that these want."""
    with ExitStack() as stack:
        for service in sorted({w.service for w in workloads if w.service}):
            stack.enter_context(started(service))
        yield


@contextmanager
def started(service: str) -> Iterator[None]:
    with temporary_folder() as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        process = STARTERS[service](folder, free)
        os.environ[variable(service)] = str(free)
        try:
            wait_until_it_listens(service, process, free)
            yield
        finally:
            del os.environ[variable(service)]
            process.terminate()
            process.wait(START_S)


def wait_until_it_listens(service: str, process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise RuntimeError(f"{service} did not start")


def start_redis(folder: Path, port: int) -> subprocess.Popen:
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    return start(find_program("redis-server"), *options)


def start_postgresql(folder: Path, port: int) -> subprocess.Popen:
    """PostgreSQL refuses to run as root, so root lends it another user."""
    user = None
    if os.geteuid() == 0:
        user = next((u for u in ("postgres", "nobody") if has_user(u)), None)
        shutil.chown(folder, user)
    data = str(folder / "data")
    make = [find_program("initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
    start(*make, user=user).wait()
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    settings = [f"--{name}={value}" for name, value in options.items()]
    return start(find_program("postgres"), "-D", data, "-p", str(port), *settings, user=user)


def has_user(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def start(*command: str, user: str | None = None) -> subprocess.Popen:
    process = subprocess.Popen(
        command,
        user=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who stop it in order
    )
    cores.move_elsewhere(process.pid)
    return process


STARTERS = {"redis": start_redis, "postgresql": start_postgresql}

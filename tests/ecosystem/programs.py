"""What the ecosystem tests share: the loops under test, programs and servers in processes of their own."""

import asyncio
import contextlib
import importlib
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import hotloop
import pytest

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 60  # seconds that anything may take


def need(module, distribution=None):
    """Import a module, or skip the test file saying what could not be had."""
    name = distribution or module
    reason = (
        f"{name} could not be installed for Python {sys.version_info[0]}.{sys.version_info[1]}"
    )
    return pytest.importorskip(module, reason=reason)


class Loop:
    """A kind of event loop, and how programs are told to use it."""

    def __init__(self, name, factory, spelled):
        self.name = name
        self.factory = factory
        self.spelled = spelled  # as a command line wants it
        self.top_module = spelled.partition(":")[0]

    def run(self, coro, limit=LIMIT):
        """Run a coroutine on a new loop; nothing may be left to the loop's exception handler."""

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: contexts.append(context))
            assert self.owns(loop)
            async with asyncio.timeout(limit):
                return await coro

        contexts = []
        with asyncio.Runner(loop_factory=self.factory) as runner:
            result = runner.run(main())
        assert contexts == []
        return result

    def owns(self, loop):
        return type(loop).__module__.partition(".")[0] == self.top_module

    def python(self, *args):
        """The command that runs a Python program whose loops are of this kind."""
        return [sys.executable, *(["-m", "hotloop"] if self.name == "hotloop" else []), *args]


LOOPS = [
    Loop("asyncio", asyncio.SelectorEventLoop, "asyncio:SelectorEventLoop"),
    Loop("hotloop", hotloop.new_event_loop, "hotloop:new_event_loop"),
]


# -- processes -------------------------------------------------------------------


def free_port(kind=socket.SOCK_STREAM):
    """A port for a program that is still to begin: none of those that whoever asks for any is given."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    while True:
        with socket.socket(type=kind) as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", random.randrange(first // 2, first)))
            return sock.getsockname()[1]


class Program:
    """A process and what it has said so far."""

    def __init__(self, process, log):
        self.process = process
        self._log = log

    def output(self):
        """Without seek(): where the process writes next would be moved, too."""
        log = self._log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def wait_for(self, ready, what):
        deadline = time.monotonic() + LIMIT
        while not ready():
            assert self.process.poll() is None, f"{what}: ended early\n{self.output()}"
            assert time.monotonic() < deadline, f"{what}: never came\n{self.output()}"
            time.sleep(0.02)

    def wait_for_port(self, port):
        self.wait_for(lambda: listens(port), f"port {port}")

    def wait_for_text(self, text):
        self.wait_for(lambda: text in self.output(), text)

    async def wait_for_begun(self, count):
        """Until so many slow requests to web_app.py are there."""
        async with asyncio.timeout(LIMIT):
            while self.output().count("slow begins") < count:
                await asyncio.sleep(0.01)

    def stop(self, signum=signal.SIGTERM, limit=30):
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(limit)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def program(command, **options):
    """A process, in a session of its own, whose children do not outlive the block."""
    options.setdefault("cwd", HERE)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
        running = Program(process, log)
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# -- database servers, run by a user who may do nothing else ----------------------


@contextlib.contextmanager
def folder_of_nobody():
    """A folder for a server's files, and the Popen options to run it with little rights."""
    with tempfile.TemporaryDirectory(prefix="hotloop-", dir="/tmp") as folder:
        options = {"cwd": folder}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            options.update(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        yield folder, options


def find(command, *folders):
    """The path of a server's program, which may lie where only root looks."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, folders)])
    found = shutil.which(command, path=path)
    if found is None:
        pytest.skip(f"{command} is not installed")
    return found


@contextlib.contextmanager
def postgres():
    """A PostgreSQL server; yields its port. User postgres, no password."""
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    initdb, server = find("initdb", *folders), find("postgres", *folders)
    port = free_port()
    with folder_of_nobody() as (folder, options):
        data = f"{folder}/data"
        subprocess.run(
            [
                initdb,
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-N",
                "--locale=C",
                "-E",
                "UTF8",
            ],
            check=True,
            capture_output=True,
            **options,
        )
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        with program([server, "-D", data, *settings.split()], **options) as running:
            running.wait_for_text("ready to accept connections")
            running.wait_for_port(port)
            yield port
            running.stop(signal.SIGINT)


@contextlib.contextmanager
def redis():
    """A Redis server; yields its port."""
    server, port = find("redis-server"), free_port()
    with folder_of_nobody() as (folder, options):
        settings = f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly no"
        with program([server, *settings.split(), "--save", ""], **options) as running:
            running.wait_for_port(port)
            yield port
            running.stop()


@contextlib.contextmanager
def mariadb():
    """A MariaDB server; yields its port. User eco, password eco, database eco."""
    install, server = find("mariadb-install-db"), find("mariadbd")
    port = free_port()
    with folder_of_nobody() as (folder, options):
        data = f"--datadir={folder}/data"
        subprocess.run(
            [install, "--no-defaults", data, "--auth-root-authentication-method=normal"]
            + ["--skip-test-db", "--basedir=/usr"],
            check=True,
            capture_output=True,
            **options,
        )
        sql = pathlib.Path(folder, "init.sql")
        statements = [  # one on a line, as --init-file has it
            "CREATE DATABASE eco;",
            "CREATE USER eco@'%' IDENTIFIED BY 'eco';",
            "GRANT ALL ON eco.* TO eco@'%';",
            "DROP USER IF EXISTS ''@localhost;",
            "",
        ]
        sql.write_text("\n".join(statements))
        sql.chmod(0o644)
        settings = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s"]
        settings += [f"--init-file={sql}", "--skip-name-resolve", f"--pid-file={folder}/pid"]
        with program([server, "--no-defaults", data, *settings], **options) as running:
            running.wait_for_text("ready for connections")
            running.wait_for_port(port)
            yield port
            running.stop()


def fresh(module):
    """Import a module anew, for libraries that keep a loop in a global."""
    sys.modules.pop(module, None)
    return importlib.import_module(module)

"""TLS echo servers: asyncio's own TLS layer over each loop's transport. The client is the load
generator, through OpenSSL; without OpenSSL's headers there is none, and these are left out.
"""

import ssl
import subprocess
import sys
from pathlib import Path

from . import native
from .echo import KIB, Echo, EchoProtocol, protocols, streams
from .load import Load


class Tls(Echo):
    name = "tls"
    title = "TLS echo servers: us per request, and times as fast as asyncio"


def server_context(folder: Path) -> ssl.SSLContext:
    """With a key and a certificate that the load generator has just made."""
    path = folder / "server.pem"
    subprocess.run([native.load_generator(), "certificate", path], check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


FAMILY = Tls()


def add_workloads() -> None:
    def server(name: str, *arguments: object, headline: bool = False) -> None:
        FAMILY.server(name, *arguments, needs=(native.why_no_tls,), headline=headline)

    protocol = protocols(EchoProtocol, server_context)
    for size in (1, 10, 100):
        for connections in (1, 20):
            server(
                f"protocol, {size} KiB x {connections}",
                protocol,
                Load("echo", connections, size * KIB, tls=True),
                headline=(size, connections) == (1, 20),
            )
    server("streams, 1 KiB x 20", streams(server_context), Load("echo", 20, tls=True))
    server("connect, echo, close, 1 KiB x 10", protocol, Load("connect", 10, tls=True))


if sys.platform != "win32":
    add_workloads()

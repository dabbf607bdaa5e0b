"""TLS echo servers, by whatever TLS layer a loop has: asyncio's own or another. The client is the load
generator, through OpenSSL; without OpenSSL's headers there is none, and these are left out.
"""

import ssl
import subprocess
import sys
from pathlib import Path

from . import native
from .echo import (
    CarefulBuffered,
    Echo,
    EchoBuffered,
    EchoProtocol,
    protocols,
    streams,
)
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


WAYS = {
    "protocol": protocols(EchoProtocol, server_context),
    "buffered protocol": protocols(EchoBuffered, server_context),
    "streams": streams(server_context),
}


if sys.platform != "win32":
    FAMILY.matrix(
        WAYS,
        protocols(CarefulBuffered, server_context),
        tls=True,
        needs=(native.why_no_tls,),
    )
    FAMILY.server(
        "connect, echo, close, 1 KiB x 10",
        WAYS["protocol"],
        Load("connect", 10, tls=True),
        needs=(native.why_no_tls,),
    )

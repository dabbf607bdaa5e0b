"""create_connection() to a literal address, in one coroutine.

The inherited one awaits five others, for name servers, several addresses, happy eyeballs and TLS.
It still does whatever is not a plain connection to a str and an int, in debug mode too, and while a
method that it would have called is not the one that is known here; src/connect.c tells.
"""

import asyncio
import inspect
import socket

from ._core import SocketWait
from ._sock import SocketCalls

_StockLoop = asyncio.SelectorEventLoop
_stock = _StockLoop.create_connection


class Connecting:
    """What EventLoop has between the core and asyncio's loop."""

    async def create_connection(
        self,
        protocol_factory,
        host=None,
        port=None,
        *,
        ssl=None,
        family=0,
        proto=0,
        flags=0,
        sock=None,
        local_addr=None,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
        happy_eyeballs_delay=None,
        interleave=None,
        all_errors=None,  # since 3.12
    ):
        begun = None
        if (
            host is not None
            and ssl is sock is local_addr is server_hostname is None
            and ssl_handshake_timeout is ssl_shutdown_timeout is None
            and happy_eyeballs_delay is interleave is None
            and all_errors is None
            and _StockLoop.create_connection is _stock
        ):
            begun = self._begin_connection(host, port, family, proto, socket.socket, _steps)
        if begun is None:
            options = {} if all_errors is None else {"all_errors": all_errors}
            return await super().create_connection(
                protocol_factory,
                host,
                port,
                ssl=ssl,
                family=family,
                proto=proto,
                flags=flags,
                sock=sock,
                local_addr=local_addr,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
                happy_eyeballs_delay=happy_eyeballs_delay,
                interleave=interleave,
                **options,
            )
        sock, outcome = begun
        try:
            if type(outcome) is SocketWait:
                await outcome
                outcome.result()
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._make_socket_transport(sock, protocol, waiter)
        except BaseException:
            _close(sock)
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol


def _close(sock):
    try:
        sock.close()
    except OSError:
        pass  # what went wrong before is more important


# What asyncio's create_connection() would have called.
_steps = (
    ("sock_connect", SocketCalls.sock_connect),
    ("_connect_sock", asyncio.SelectorEventLoop._connect_sock),
    ("_ensure_resolved", asyncio.SelectorEventLoop._ensure_resolved),
    ("_create_connection_transport", asyncio.SelectorEventLoop._create_connection_transport),
)

_signature = inspect.signature(_stock)
Connecting.create_connection.__doc__ = _stock.__doc__
Connecting.create_connection.__signature__ = _signature
if not _signature.parameters.keys() <= set(Connecting.create_connection.__code__.co_varnames):
    del Connecting.create_connection  # an asyncio that is not known here

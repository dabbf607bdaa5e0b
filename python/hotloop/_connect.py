"""create_connection() to a literal address, in one coroutine.

The inherited one awaits five others, for name servers, several addresses, happy eyeballs and TLS.
It still does whatever is not a plain connection, in debug mode too, and while a method that it
would have called is not the one that is known here.
"""

import asyncio
import inspect
import socket
from asyncio import base_events

from ._core import SocketWait
from ._sock import SocketCalls

_stock = asyncio.BaseEventLoop.create_connection
_literal_info = getattr(base_events, "_ipaddr_info", None)


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
        info = None
        if (
            host is not None
            and ssl is sock is local_addr is server_hostname is None
            and ssl_handshake_timeout is ssl_shutdown_timeout is None
            and happy_eyeballs_delay is interleave is None
            and all_errors is None
            and not self._debug
            and self._connects_as_known()
        ):
            info = _literal_info(host, port, family, socket.SOCK_STREAM, proto)
        if info is None:
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
        family, type_, proto, _, address = info
        sock = socket.socket(family=family, type=type_, proto=proto)
        try:
            sock.setblocking(False)
            outcome = self._start_connect(sock, address)
            if type(outcome) is SocketWait:
                await outcome
                outcome.result()
            elif outcome is NotImplemented:
                await self.sock_connect(sock, address)
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

    def _connects_as_known(self):
        try:
            return (
                self.sock_connect.__func__ is _sock_connect
                and self._connect_sock.__func__ is _connect_sock
                and self._ensure_resolved.__func__ is _ensure_resolved
                and self._create_connection_transport.__func__ is _create_transport
            )
        except AttributeError:  # not even a method
            return False


def _close(sock):
    try:
        sock.close()
    except OSError:
        pass  # what went wrong before is more important


_sock_connect = SocketCalls.sock_connect
_connect_sock = asyncio.SelectorEventLoop._connect_sock
_ensure_resolved = asyncio.SelectorEventLoop._ensure_resolved
_create_transport = asyncio.SelectorEventLoop._create_connection_transport

_signature = inspect.signature(_stock)
Connecting.create_connection.__doc__ = _stock.__doc__
Connecting.create_connection.__qualname__ = _stock.__qualname__  # for messages and warnings
Connecting.create_connection.__signature__ = _signature
if _literal_info is None or not (
    _signature.parameters.keys()
    <= set(Connecting.create_connection.__code__.co_varnames)
):
    del Connecting.create_connection  # an asyncio that is not known here

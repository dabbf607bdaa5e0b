"""asyncio's TLS protocol, with what it does for each message in C (src/tls*.c), and smaller.

asyncio's protocol has a buffer of 256 KiB of its own, and asks OpenSSL for as much in fresh memory,
though that gives 16 KiB at a time. Here the protocols on a loop's own streams share one buffer, as
a stream fills it and tells the protocol in one go; other transports might keep it for a while.
"""

import types
from asyncio import base_events, sslproto

from . import _core
from ._borrowed import with_globals
from ._known import methods

_stock = sslproto.SSLProtocol
_StockTransport = sslproto._SSLProtocolTransport


class _SSLProtocolTransport(_core.TLSWriter, _StockTransport):
    _write_as_asyncio = _StockTransport.write
    _writelines_as_asyncio = _StockTransport.writelines


class SSLProtocol(_core.TLSProtocol, _stock):
    max_size = 16 * 1024  # of the buffer until there is a transport

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        sslobj = self._sslobj
        self._engine = sslobj._sslobj if _is_plain(sslobj) else None
        self._loop._adopt_reader(self._app_protocol)

    _get_app_transport = with_globals(
        _stock._get_app_transport, _SSLProtocolTransport=_SSLProtocolTransport
    )

    def connection_made(self, transport):
        if isinstance(transport, _core.Stream):
            self._ssl_buffer_view = _shared_buffer(self._loop)
        else:
            self._ssl_buffer_view = memoryview(bytearray(_stock.max_size))
        self._ssl_buffer = self._ssl_buffer_view.obj
        super().connection_made(transport)

    def _advance(self):
        # What is left of asyncio's buffer_updated().
        if self._state is sslproto.SSLProtocolState.DO_HANDSHAKE:
            self._do_handshake()
        elif self._state is sslproto.SSLProtocolState.FLUSHING:
            self._do_flush()
        elif self._state is sslproto.SSLProtocolState.SHUTDOWN:
            self._do_shutdown()


def _shared_buffer(loop):
    view = getattr(loop, "_tls_buffer", None)
    if view is None:
        view = loop._tls_buffer = memoryview(bytearray(_stock.max_size))
    return view


def _is_plain(sslobj):
    # Does it only pass the calls on?
    return type(sslobj) is _SSLObject and methods(_SSLObject, _PASSED_ON) == _passed_on


if sslproto.ssl is not None:
    _SSLObject = sslproto.ssl.SSLObject
    _PASSED_ON = ("read", "write", "pending")
    _passed_on = methods(_SSLObject, _PASSED_ON)

# What src/tlsread.c and src/tlswrite.c do in place of asyncio's.
_REPLACED = (
    "_control_app_writing",
    "_control_ssl_reading",
    "_do_read",
    "_do_read__buffered",
    "_do_read__copied",
    "_get_read_buffer_size",
    "_get_write_buffer_size",
    "_process_outgoing",
    "_write_appdata",
    "buffer_updated",
    "get_buffer",
)
_replaced = methods(_stock, _REPLACED)
_WRITING = ("write", "writelines")
_writing = methods(_StockTransport, _WRITING)

for _class, _asyncios in ((SSLProtocol, _stock), (_SSLProtocolTransport, _StockTransport)):
    _class.__module__ = _asyncios.__module__
    _class.__qualname__ = _asyncios.__qualname__
del _class, _asyncios
_core._own_methods(_SSLProtocolTransport)


def make_protocol(*args, **kwargs):
    """Make an asyncio.sslproto.SSLProtocol, of whatever class goes by that name now."""
    return (SSLProtocol if _is_original() else sslproto.SSLProtocol)(*args, **kwargs)


def _is_original():
    # Has nobody replaced a class, or one of the methods that are in C here?
    return (
        sslproto.SSLProtocol is _stock
        and sslproto._SSLProtocolTransport is _StockTransport
        and methods(_StockTransport, _WRITING) == _writing
        and methods(_stock, _REPLACED) == _replaced
    )


start_tls = base_events.BaseEventLoop.start_tls
if "sslproto" in start_tls.__code__.co_names:
    start_tls = with_globals(
        start_tls, sslproto=types.SimpleNamespace(SSLProtocol=make_protocol)
    )

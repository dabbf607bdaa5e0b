"""asyncio's TLS protocol, as it is, but in a shape that the interpreter is fast with, and smaller.

An object may have 30 attributes in CPython until they are kept in a dict of its own; from then on no
lookup of an attribute or method of it is specialised. asyncio's SSLProtocol has 37. With some of
them in slots, an echo over TLS takes a tenth less of instructions.

asyncio reads from OpenSSL until that raises an exception because there is no more, which costs more than
to decrypt a kilobyte; here it is asked first.

asyncio's protocol has a buffer of 256 KiB of its own, and asks OpenSSL for as much in fresh memory,
though that gives 16 KiB at a time. Here the protocols on a loop's own streams share one buffer, as
a stream fills it and tells the protocol in one go; other transports might keep it for a while.
"""

import types
from asyncio import base_events, sslproto

from . import _core
from ._borrowed import with_globals

_stock = sslproto.SSLProtocol


class SSLProtocol(_stock):
    __slots__ = (
        "_app_protocol",
        "_handshake_start_time",
        "_handshake_timeout_handle",
        "_incoming",
        "_outgoing",
        "_shutdown_timeout_handle",
        "_sslobj",
        "_ssl_buffer",
        "_ssl_buffer_view",
        "_state",
        "_transport",
        "_write_backlog",
    )

    max_size = 16 * 1024  # all that one read of OpenSSL's gives: a record

    def __init__(self, *args, **kwargs):
        # Attributes of asyncio's class; whatever is set late would find no room in a burst of connections.
        self._handshake_start_time = None
        self._handshake_timeout_handle = None
        self._shutdown_timeout_handle = None
        super().__init__(*args, **kwargs)
        self._loop._adopt_reader(self._app_protocol)

    def connection_made(self, transport):
        if isinstance(transport, _core.Stream):
            self._ssl_buffer_view = _shared_buffer(self._loop)
        else:
            self._ssl_buffer_view = memoryview(bytearray(_stock.max_size))
        self._ssl_buffer = self._ssl_buffer_view.obj
        super().connection_made(transport)

    def get_buffer(self, n):
        return self._ssl_buffer_view

    def _do_read__copied(self):
        records, ended = [], False
        sslobj, incoming = self._sslobj, self._incoming
        try:
            while True:
                record = sslobj.read(self.max_size)
                if not record:
                    ended = True  # the peer's close_notify
                    break
                records.append(record)
                if not incoming.pending and not sslobj.pending():
                    break
        except sslproto.SSLAgainErrors:
            pass
        if records:
            self._app_protocol.data_received(b"".join(records))
        if ended:
            self._call_eof_received()
            self._start_shutdown()


def _shared_buffer(loop):
    view = getattr(loop, "_tls_buffer", None)
    if view is None:
        view = loop._tls_buffer = memoryview(bytearray(_stock.max_size))
    return view


# What asyncio's reading uses, on every Python so far; another one may do something else as well.
_READING = {
    *("SSLAgainErrors", "_app_protocol", "_call_eof_received", "_sslobj", "_start_shutdown"),
    *("append", "data_received", "join", "max_size", "read"),
}
if set(_stock._do_read__copied.__code__.co_names) != _READING:
    del SSLProtocol._do_read__copied

SSLProtocol.__module__ = _stock.__module__
SSLProtocol.__qualname__ = _stock.__qualname__


def make_protocol(*args, **kwargs):
    """Make an asyncio.sslproto.SSLProtocol, of whatever class goes by that name now."""
    current = sslproto.SSLProtocol
    return (SSLProtocol if current is _stock else current)(*args, **kwargs)


start_tls = base_events.BaseEventLoop.start_tls
if "sslproto" in start_tls.__code__.co_names:
    start_tls = with_globals(
        start_tls, sslproto=types.SimpleNamespace(SSLProtocol=make_protocol)
    )

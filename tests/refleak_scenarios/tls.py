"""What TLS does for each message, on a made-up OpenSSL: a real handshake has too many allocations to fail."""

import ssl
import types
from asyncio import sslproto

from hotloop import _core

from .env import Failure, attempt, fail, nothing, scenario

WRAPPED = sslproto.SSLProtocolState.WRAPPED


class Bio:
    """An ssl.MemoryBIO and a transport below."""

    def __init__(self, pending=0, data=b""):
        self.pending, self.data = pending, data

    def read(self):
        return self.data

    def write(self, data):
        return len(data)


class Engine:
    """Gives these records, then nothing; takes so much at a time."""

    def __init__(self, records=(), most=1 << 20):
        self.records, self.most = list(records), most

    def pending(self):
        return len(self.records)

    def read(self, size, buf=None):
        if not self.records:
            raise ssl.SSLWantReadError
        record = self.records.pop(0)
        if buf is not None:
            buf[: len(record)] = record
            return len(record)
        return record

    def write(self, data):
        if not self.most:
            raise ssl.SSLWantWriteError if len(data) > 100 else ssl.SSLWantReadError
        return min(self.most, len(data))


class Protocol(_core.TLSProtocol):
    """asyncio's other methods, if they do nothing but note a failure."""

    failed = None
    _advance = _call_eof_received = _start_shutdown = _control_app_writing = nothing
    _control_ssl_reading = _do_write = nothing

    def __init__(self, env, engine, data_received=nothing):
        self._loop, self._engine, self._state = env.loop, engine, WRAPPED
        self._incoming, self._outgoing, self._transport = Bio(), Bio(data=b"sent"), Bio()
        self._app_protocol = types.SimpleNamespace(data_received=data_received)
        self._write_backlog = []
        self._incoming_low_water = self._outgoing_low_water = 10
        self._incoming_high_water = self._outgoing_high_water = 1 << 70
        self._ssl_buffer_view = memoryview(bytearray(2000))

    def _app_protocol_get_buffer(self, hint):
        return bytearray(200)

    _app_protocol_buffer_updated = nothing

    def _fatal_error(self, exc, message):
        self.failed = exc


class Writer(_core.TLSWriter):
    _write_as_asyncio = _writelines_as_asyncio = nothing

    def __init__(self, protocol):
        self._ssl_protocol = protocol


@scenario
def tls_messages(env):
    for records in [], [b"one"], [b"x" * 1000, b"two"], [b"three", b""]:
        for kind in False, True:
            protocol = Protocol(env, Engine(record[:150] for record in records))
            protocol._app_protocol_is_buffer = kind
            protocol.get_buffer(-1)
            protocol.buffer_updated(5)
            protocol.buffer_updated(1000)


@scenario
def tls_failures(env):
    protocol = Protocol(env, Engine([b"data"]), fail)
    protocol.buffer_updated(5)
    assert type(protocol.failed) in (Failure, MemoryError)
    attempt(TypeError, protocol.buffer_updated, "5")
    protocol._engine = Engine([5])
    protocol._do_read()
    protocol._outgoing = None
    attempt(AttributeError, protocol._process_outgoing)


@scenario
def tls_writing(env):
    for most in 0, 7, 1 << 20:
        protocol = Protocol(env, Engine(most=most))
        writer = Writer(protocol)
        writer.write(b"x" * 20)
        del protocol._write_backlog[:]
        writer.write(data=bytearray(b"x" * 2000))
        del protocol._write_backlog[:]
        writer.writelines([b"a", b"bc" * 1000, memoryview(b"def")])
        writer.writelines(iter([b"a"]))
        writer.write("text")
    del writer._ssl_protocol
    attempt(AttributeError, writer.write, b"x")

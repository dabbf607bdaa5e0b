"""asyncio's streams with what was received kept in C.

A StreamReader that asyncio.open_connection() or asyncio.start_server() made becomes one of ours when a
transport gets its protocol (src/streamreader.c), and does the same with fewer instructions: its _core
(src/streambuffer.c) has what was received, and the other attributes of asyncio's reader too. The methods that
are not here are asyncio's, and go through the properties.
"""

import asyncio
import operator

from ._transports import to_size

_Stock = asyncio.StreamReader
_StockProtocol = asyncio.StreamReaderProtocol


def _of_core(name, convert=lambda value: value):
    """The attribute of asyncio's reader that is kept in the core."""
    get = operator.attrgetter(f"_core.{name}")

    def put(self, value):
        setattr(self._core, name, convert(value))

    return property(get, put)


class StreamReader(_Stock):
    _buffer = _of_core("buffer")
    _eof = _of_core("eof", bool)
    _exception = _of_core("exception")
    _limit = _of_core("limit", to_size)
    _paused = _of_core("paused", bool)
    _transport = _of_core("transport")
    _waiter = _of_core("waiter")

    def feed_data(self, data):
        self._core.feed(data)

    def feed_eof(self):
        self._core.feed_eof()

    def exception(self):
        return self._core.exception

    def at_eof(self):
        return self._core.at_eof()

    async def read(self, n=-1):
        core = self._core
        if core.exception is not None:
            raise core.exception
        if type(n) is not int or n < 1:
            return await _Stock.read(self, n)
        data = core.take(n)
        if data is None:
            waiter = core.wait("read")
            try:
                await waiter
            finally:
                core.waiter = None
            data = core.take(n) or b""  # None if somebody else took it
        return data

    async def readexactly(self, n):
        if type(n) is not int:
            return await _Stock.readexactly(self, n)
        core = self._core
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if core.exception is not None:
            raise core.exception
        data = core.take_exactly(n)
        while data is None:
            waiter = core.wait("readexactly")
            try:
                await waiter
            finally:
                core.waiter = None
            data = core.take_exactly(n)
        return data

    async def readuntil(self, separator=b"\n"):
        if type(separator) is not bytes or not separator:
            return await _Stock.readuntil(self, separator)
        core = self._core
        if core.exception is not None:
            raise core.exception
        found = core.take_until(separator, 0)
        while type(found) is int:
            waiter = core.wait("readuntil")
            try:
                await waiter
            finally:
                core.waiter = None
            found = core.take_until(separator, found)
        return found

    async def readline(self):
        if "readuntil" in self.__dict__:
            return await _Stock.readline(self)
        core = self._core
        try:
            if core.exception is not None:
                raise core.exception
            found = core.take_until(b"\n", 0)
            while type(found) is int:
                waiter = core.wait("readuntil")
                try:
                    await waiter
                finally:
                    core.waiter = None
                found = core.take_until(b"\n", found)
            return found
        except asyncio.IncompleteReadError as exc:
            return exc.partial
        except asyncio.LimitOverrunError as exc:
            self._drop_line(exc.consumed)
            raise ValueError(exc.args[0])

    def _drop_line(self, end):
        """Drop what is too long, up to its end if that has come."""
        buffer = self._buffer
        if buffer.startswith(b"\n", end):
            del buffer[: end + 1]
        else:
            buffer.clear()
        self._maybe_resume_transport()


StreamReader.__module__ = _Stock.__module__
for _name in ("feed_eof", "exception", "at_eof", "read", "readexactly", "readuntil", "readline"):
    getattr(StreamReader, _name).__doc__ = getattr(_Stock, _name).__doc__
del _name


def _methods():
    own = {name: method for name, method in vars(_Stock).items() if callable(method)}
    return own, _StockProtocol.data_received, _StockProtocol._stream_reader


_known_methods = _methods()


def are_original(loop):
    """Has nobody replaced a method of asyncio's classes?"""
    return _methods() == _known_methods

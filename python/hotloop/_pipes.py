"""What of the pipe transports is too seldom called to be written in C."""

import errno
import logging
from asyncio import unix_events

from . import _core
from ._transports import WriteLimits

_logger = logging.getLogger("asyncio")


class _Reports:
    """Errors go to the loop's exception handler, but for those that are a pipe's everyday end."""

    def _fatal_error(self, exc, message="Fatal error on pipe transport"):
        if not self._is_common(exc):
            self._report(exc, message)
        elif self._loop is not None and self._loop.get_debug():
            _logger.debug("%r: %s", self, message, exc_info=exc)
        self._close(exc)

    def _report(self, exc, message):
        if self._loop is not None:
            context = {
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            }
            self._loop.call_exception_handler(context)


class ReadPipeTransport(_Reports, _core.ReadPipe):
    """asyncio.ReadTransport for a pipe, FIFO, terminal or socket."""

    __repr__ = unix_events._UnixReadPipeTransport.__repr__

    def _is_common(self, exc):
        return isinstance(exc, OSError) and exc.errno == errno.EIO  # a terminal hung up


class WritePipeTransport(_Reports, WriteLimits, _core.WritePipe):
    """asyncio.WriteTransport for a pipe, FIFO, terminal or socket."""

    __repr__ = unix_events._UnixWritePipeTransport.__repr__

    def _is_common(self, exc):
        return isinstance(exc, OSError)


_core._own_methods(ReadPipeTransport)
_core._own_methods(WritePipeTransport)

"""What of the transports is too seldom called to be written in C."""

import logging
import math
import sys
from asyncio import constants, trsock

from . import _core

_logger = logging.getLogger("asyncio")


def to_size(limit):
    """A limit as the core has it: any number will do for asyncio."""
    return min(int(limit), sys.maxsize) if limit < math.inf else sys.maxsize


class WriteLimits:
    """Above and below which pause_writing() and resume_writing() are called."""

    _limits = 16 * 1024, 64 * 1024

    def get_write_buffer_limits(self):
        """Return the limits as (low, high), in bytes."""
        return self._limits

    def set_write_buffer_limits(self, high=None, low=None):
        """Have pause_writing() called above high buffered bytes, resume_writing() at low or below.

        See asyncio.WriteTransport; raises ValueError unless high >= low >= 0.
        """
        self._set_write_buffer_limits(high, low)
        self._maybe_pause_protocol()

    def _set_write_buffer_limits(self, high=None, low=None):
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water, self._low_water = to_size(high), to_size(low)
        self._limits = low, high


class TransportSocket(trsock.TransportSocket):
    """What get_extra_info("socket") gives.

    Who knows the descriptor may send on it at any time, so that each write must go out at once from then on. It
    does while anybody but the transport and this object refers to the socket (hl_stream_is_shared()).
    """

    __slots__ = ("_kept",)

    def fileno(self):
        self._kept = self._sock
        return super().fileno()

    def dup(self):
        self._kept = self._sock
        return super().dup()


class SocketTransport(WriteLimits, _core.Stream):
    """asyncio.Transport for a stream socket."""

    _lent = False  # to sendfile()
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __repr__(self):
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._sock_fd}")
        if self._loop is not None and not self._loop.is_closed():
            size = self.get_write_buffer_size()
            reader, writer = self._loop._watched(self._sock_fd)
            info.append(f"read={'polling' if reader else 'idle'}")
            state = "polling" if writer else "idle"
            info.append(f"write=<{state}, bufsize={size}>")
        return f"<{' '.join(info)}>"

    def _report_fatal_error(self, exc, message="Fatal error on transport"):
        if isinstance(exc, OSError):
            _logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            context = {
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            }
            self._loop.call_exception_handler(context)

    # sendfile() has the socket for itself between these two.

    def _make_empty_waiter(self):
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        waiter = self._loop.create_future()
        if not self.get_write_buffer_size():
            waiter.set_result(None)
        self._empty_waiter = waiter
        return waiter

    def _reset_empty_waiter(self):
        self._empty_waiter = None


_core._own_methods(SocketTransport)

"""The event loop that users get: the C engine first, asyncio's own control plane behind it.

Whatever the C core does not replace (create_connection, create_server, subprocesses, signal
handlers, exception handlers, shutdown of generators, ...) is the running Python's own.
"""

import asyncio
import selectors
import signal
import sys

from . import _core


class EventLoop(_core.Loop, asyncio.SelectorEventLoop):
    """An asyncio event loop over libuv."""

    def __init__(self):
        super().__init__(_Watches(self))

    def close(self):
        """Close the loop, as asyncio does; it must not be running."""
        super(_core.Loop, self).close()
        super().close()

    def remove_signal_handler(self, sig):
        """Remove a signal's handler; return True if there was one. See asyncio."""
        removed = super().remove_signal_handler(sig)
        if removed and not self._signal_handlers and self.is_running():
            # asyncio has given the wake-up descriptor up; Ctrl-C still needs it.
            signal.set_wakeup_fd(self._wakeup_fileno(), warn_on_full_buffer=False)
        return removed

    # asyncio wakes itself through a pair of sockets; the core does it with uv_async_t, and with a
    # pipe for signals.

    def _make_self_pipe(self):
        self._ssock = None
        self._csock = _WakeupDescriptor(self)

    def _close_self_pipe(self):
        self._csock = None


class _WakeupDescriptor:
    """What add_signal_handler() hands to signal.set_wakeup_fd()."""

    def __init__(self, loop):
        self._loop = loop

    def fileno(self):
        return self._loop._wakeup_fileno()


class _Watches:
    """The loop's watched descriptors, as the selector that asyncio's transports ask in repr()."""

    def __init__(self, loop):
        self._loop = loop

    def get_key(self, fileobj):
        reader, writer = self._loop._watched(fileobj)
        events = (selectors.EVENT_READ if reader else 0) | (selectors.EVENT_WRITE if writer else 0)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return selectors.SelectorKey(fileobj, fd, events, (reader, writer))

    def close(self):
        self._loop = None


EventLoop.__module__ = "hotloop"
Loop = EventLoop


def new_event_loop():
    """Return a new hotloop.EventLoop; what asyncio calls a loop factory."""
    return EventLoop()


if sys.version_info >= (3, 14):
    from ._debuggers import learn_task_layout

    learn_task_layout()

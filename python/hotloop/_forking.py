"""What has to happen around a fork in a process that has loops."""

import asyncio
import functools
import os
import signal
import sys

from . import _core

_STANDARD_ERROR = 2


class _StandardNumbers:
    """Keeps descriptors that others open off the numbers of closed standard streams.

    libuv makes a pipe anew in every child, and aborts in the child's children when it closes such a number.
    """

    def __init__(self):
        self._taken = []

    def take(self):
        while True:
            try:
                fd = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                return
            if fd > _STANDARD_ERROR:
                os.close(fd)
                return
            self._taken.append(fd)

    def give_back(self):
        while self._taken:
            os.close(self._taken.pop())


def _before():
    _core._before_fork(asyncio._get_running_loop())


def register():
    """Have it done at each os.fork() from now on."""
    numbers = _StandardNumbers()
    os.register_at_fork(
        before=numbers.take,
        after_in_parent=numbers.give_back,
        after_in_child=numbers.give_back,
    )
    os.register_at_fork(before=_before)
    if sys.version_info < (3, 12):
        # Signals to the child are none of the parent's. Later asyncios do so themselves.
        os.register_at_fork(after_in_child=functools.partial(signal.set_wakeup_fd, -1))

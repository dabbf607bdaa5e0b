"""Child processes: asyncio's transport, which starts them with subprocess.Popen, and a pidfd that
the loop watches for the end of each."""

import fcntl
import functools
import logging
import os
import struct
import sys
import warnings
from asyncio import base_events, base_subprocess, events, futures, protocols, unix_events

from ._known import is_method

_logger = logging.getLogger("asyncio")


class ProcessTransport(unix_events._UnixSubprocessTransport):
    """asyncio.SubprocessTransport, which connects its pipes in one step."""

    if sys.version_info < (3, 12):

        def __del__(self):
            # asyncio's waiting thread has it as long as the process runs, which may outlive the loop.
            if self._loop is None or not self._loop.is_closed():
                super().__del__()

    async def _connect_pipes(self, waiter):
        if not _connects_plainly(self._loop):
            return await super()._connect_pipes(waiter)
        try:
            self._connect_all()
            # After connection_made(), also if this is an eager task, and nobody waits yet.
            self._loop.call_soon(futures._set_result_unless_cancelled, waiter, None)
        except Exception as exc:
            self._give_up()
            if not waiter.cancelled():
                waiter.set_exception(exc)

    def _connect_all(self):
        loop = self._loop
        stdin, stdout, stderr = self._proc.stdin, self._proc.stdout, self._proc.stderr
        if stdin is not None:
            self._connect(0, stdin, base_subprocess.WriteSubprocessPipeProto)
        if stdout is not None:
            self._connect(1, stdout, base_subprocess.ReadSubprocessPipeProto)
        if stderr is not None:
            self._connect(2, stderr, base_subprocess.ReadSubprocessPipeProto)
        # The pipes tell their protocols first, and nothing is read before.
        loop.call_soon(self._protocol.connection_made, self)
        for callback, data in self._pending_calls:
            loop.call_soon(callback, *data)
        self._pending_calls = None

    def _process_ended(self, returncode):
        if sys.version_info >= (3, 14):
            self._process_exited(returncode)
        else:  # the pipes' callbacks come before
            self._loop.call_soon(self._process_exited, returncode)

    def _process_reaped(self, pidfd):
        """Somebody else has waited for the process; pidfd (or None) may still know its status."""
        returncode = None if pidfd is None else _status_kept(pidfd)
        self._process_ended(_status_lost(self._proc) if returncode is None else returncode)

    def _give_up(self):
        # Nobody was told of the process, and nobody will be.
        self._protocol = protocols.SubprocessProtocol()
        self._pending_calls = None
        process = self._proc
        for fd, pipe in enumerate((process.stdin, process.stdout, process.stderr)):
            if pipe is not None and self._pipes[fd] is None:
                del self._pipes[fd]
                pipe.close()

    def _connect(self, fd, pipe, protocol_class):
        loop = self._loop
        protocol = protocol_class(self, fd)
        make = loop._make_read_pipe_transport if fd else loop._make_write_pipe_transport
        protocol.pipe = make(pipe, protocol)
        self._pipes[fd] = protocol


_stock_connects = (
    base_events.BaseEventLoop.connect_read_pipe,
    base_events.BaseEventLoop.connect_write_pipe,
)


def _connects_plainly(loop):
    """Whether nobody would see it if connect_read_pipe() and connect_write_pipe() are not called."""
    return (
        is_method(loop, "connect_read_pipe", _stock_connects[0])
        and is_method(loop, "connect_write_pipe", _stock_connects[1])
        and not loop.get_debug()
    )


# -- the end of a process ----------------------------------------------------


def watch(loop, transport):
    """Have transport._process_exited() called when the process has ended.

    Returns None, or a function to be called once the pipes are watched: what the process has left in them is told
    before its end.
    """
    try:
        return loop._watch_child(transport._pid, transport).start
    except ProcessLookupError:
        # Reaped already, by somebody who reaps whatever ends.
        loop.call_soon(transport._process_reaped, None)
    except OSError:
        # For want of descriptors, say.
        _threads().add_child_handler(transport._pid, loop._child_watcher_callback, transport)
    return None


# Linux 6.15 and later remember the status of a reaped process for those who have its pidfd.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8
_info = struct.Struct("Q52xi")  # mask, ..., exit_code


def _status_kept(pidfd):
    """The return code of a process that somebody else has reaped, or None."""
    asked = bytearray(_info.pack(_PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked)
    except OSError:
        return None
    mask, status = _info.unpack(asked)
    return os.waitstatus_to_exitcode(status) if mask & _PIDFD_INFO_EXIT else None


def _status_lost(process):
    """The return code that Popen has if it was the one to reap, or asyncio's 255."""
    if process.returncode is not None:
        return process.returncode
    if sys.version_info >= (3, 12):
        message = "child process pid %d exit status already read:  will report returncode 255"
    else:
        message = "Unknown child process pid %d, will report returncode 255"
    _logger.warning(message, process.pid)
    return 255


# -- which way ---------------------------------------------------------------


@functools.cache
def _pidfds_work():
    try:
        pidfd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):  # an old kernel, another system, a sandbox
        return False
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:  # nobody is a child of itself
        return True
    except OSError:  # Linux 5.3 has the one and not the other
        return False
    finally:
        os.close(pidfd)
    return True


@functools.cache
def _threads():
    """asyncio's own way of waiting where there are no pidfds."""
    if sys.version_info >= (3, 14):
        return unix_events._ThreadedChildWatcher()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return unix_events.ThreadedChildWatcher()


if sys.version_info >= (3, 14):

    def are_watched(loop):
        """Whether the loop watches processes itself: not if asyncio's way was changed."""
        return type(loop._watcher) is unix_events._PidfdChildWatcher and _pidfds_work()

else:
    _Policy = unix_events._UnixDefaultEventLoopPolicy
    # What get_child_watcher() gives who never called set_child_watcher().
    _stock_get = _Policy.get_child_watcher
    _Stock = (
        unix_events.PidfdChildWatcher
        if sys.version_info >= (3, 12)
        else unix_events.ThreadedChildWatcher
    )

    def are_watched(loop):
        """Whether the loop watches processes itself: not if the program has set a child watcher."""
        policy = events.get_event_loop_policy()
        if type(policy).get_child_watcher is not _stock_get:
            return False
        watcher = policy._watcher
        return (watcher is None or type(watcher) is _Stock) and _pidfds_work()

"""The event loop that users get: the C engine first, asyncio's own control plane behind it.

Whatever the C core does not replace (create_connection, create_server, subprocesses, signal
handlers, exception handlers, shutdown of generators, ...) is the running Python's own.
"""

import asyncio
import inspect
import selectors
import socket
import sys
import threading
import warnings
from asyncio import constants, tasks

from . import _core, _forking, _process, _sendfile, _streams, _tls
from ._connect import Connecting
from ._known import accepts_plainly, is_method, is_plain
from ._nesting import nesting_run_until_complete
from ._pipes import ReadPipeTransport, WritePipeTransport
from ._resolve import answers_at_once
from ._sock import SocketCalls
from ._transports import SocketTransport, TransportSocket

# Older asyncios let two transports fight for a socket.
_stock_names = asyncio.SelectorEventLoop._make_socket_transport.__code__.co_names
_TRANSPORTS_ARE_UNIQUE = "_ensure_fd_no_transport" in _stock_names


class EventLoop(_core.Loop, Connecting, SocketCalls, asyncio.SelectorEventLoop):
    """An asyncio event loop over libuv."""

    _socket_transport = SocketTransport
    _stream_reader_type = _streams.StreamReader
    _transport_socket_type = TransportSocket
    _readers_are_original = _streams.are_original

    def __init__(self):
        super().__init__(_Watches(self))

    def close(self):
        """Close the loop, as asyncio does; it must not be running."""
        try:
            super(_core.Loop, self).close()
        finally:  # asyncio has closed it, too, when it may not remove the signal handlers here
            if self.is_closed():
                super().close()

    def _new_default_executor(self):
        # Imported when first needed, but here: PyInstaller and its like see no import in C.
        from ._executor import new_default_executor

        return new_default_executor()

    async def _shutdown_default_executor_in_time(self, timeout=None):
        """Wait for the default executor's threads for up to timeout seconds. See asyncio."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        joined = self.create_future()
        thread = threading.Thread(target=_join_executor, args=(self, executor, joined))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await joined
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    # The first releases of 3.12 took a timeout and then waited without end.
    _stock_shutdown = asyncio.BaseEventLoop.shutdown_default_executor.__code__
    if "timeout" in _stock_shutdown.co_varnames and "timeouts" not in _stock_shutdown.co_names:
        shutdown_default_executor = _shutdown_default_executor_in_time

    @property
    def _nest_patched(self):
        # nest_asyncio asks for this before it replaces methods by its own, which would work on
        # queues that asyncio's loops have and ours does not. Asking is wanting us to nest.
        if not sys.modules.keys() & {"nest_asyncio", "nest_asyncio2"}:
            raise AttributeError("_nest_patched")
        EventLoop.run_until_complete = nesting_run_until_complete
        return True

    def add_signal_handler(self, sig, callback, *args):
        """Have callback(*args) called by the loop when the signal comes. See asyncio."""
        try:
            super().add_signal_handler(sig, callback, *args)
        finally:
            _keep_wakeup_fd()

    def remove_signal_handler(self, sig):
        """Remove a signal's handler; return True if there was one. See asyncio."""
        try:
            return super().remove_signal_handler(sig)
        finally:
            _keep_wakeup_fd()

    # Stream transports are the core's; TLS is asyncio's, on top of them.

    def _make_socket_transport(
        self, sock, protocol, waiter=None, *, extra=None, server=None, context=None
    ):
        if _TRANSPORTS_ARE_UNIQUE and self._may_have_transport(sock):
            self._ensure_fd_no_transport(sock)
        return self._make_stream(sock, protocol, waiter, extra, server, context)

    def _make_stream(self, sock, protocol, waiter, extra, server, context):
        if is_plain(sock):
            return SocketTransport(self, sock, protocol, waiter, extra, server, context)
        given = {} if context is None else {"context": context}
        return super()._make_socket_transport(
            sock, protocol, waiter, extra=extra, server=server, **given
        )

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        context=None,
        **timeouts,
    ):
        if _TRANSPORTS_ARE_UNIQUE and self._may_have_transport(rawsock):
            self._ensure_fd_no_transport(rawsock)
        tls = _tls.make_protocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        self._make_stream(rawsock, tls, None, extra, server, context)
        return tls._app_transport

    start_tls = _tls.start_tls
    _sendfile_fallback = _sendfile.fallback

    async def sendfile(self, transport, file, offset=0, count=None, *, fallback=True):
        """Send a file through a transport; return how many bytes. See asyncio."""
        self._flush()  # a write that fails ends the connection, of which asyncio asks first
        return await super().sendfile(transport, file, offset, count, fallback=fallback)

    def _start_serving(
        self, protocol_factory, sock, sslcontext=None, server=None, backlog=100, *rest, **more
    ):
        if sslcontext is None and _accepts_as_known(self, sock):
            context = rest[2] if len(rest) > 2 else more.get("context")
            self._listen(protocol_factory, sock, server, backlog, context)
        else:
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *rest, **more
            )

    def _listen_later(self, *args):
        self.call_later(constants.ACCEPT_RETRY_DELAY, self._listen_if_open, *args)

    def _listen_if_open(self, protocol_factory, sock, *args):
        if sock.fileno() != -1:
            self._listen(protocol_factory, sock, *args)

    def _ensure_fd_no_transport(self, fd):
        super()._ensure_fd_no_transport(fd)
        transport = self._transport_of(fd if isinstance(fd, int) else fd.fileno())
        if transport is not None and not transport.is_closing() and not transport._lent:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def _sendfile_native(self, transp, file, offset, count):
        if not isinstance(transp, SocketTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        # asyncio takes the transport out of this table meanwhile, so that nobody asks for it.
        if transp._lent:
            raise KeyError(transp._sock_fd)
        self._transports[transp._sock_fd] = transp
        transp._lent = True
        try:
            return await super()._sendfile_native(transp, file, offset, count)
        finally:
            transp._lent = False
            self._transports.pop(transp._sock_fd, None)

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """Resolve as socket.getaddrinfo() does, in a thread if it may take time."""
        if answers_at_once(host, port) and not self.get_debug() and not self.is_closed():
            return socket.getaddrinfo(host, port, family, type, proto, flags)
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    async def _make_subprocess_transport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs
    ):
        if not _process.are_watched(self):
            return await super()._make_subprocess_transport(
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
        waiter = self.create_future()
        transport = _process.ProcessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter, extra, **kwargs
        )
        try:
            watch_now = _process.watch(self, transport)
        except BaseException:
            transport.close()
            raise
        try:
            try:
                await waiter
            finally:
                if watch_now is not None:
                    watch_now()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await tasks.shield(transport._wait())
            raise
        return transport

    # asyncio wakes itself through a pair of sockets; the core does it with uv_async_t, and with a
    # pipe for signals.

    def _make_self_pipe(self):
        self._ssock = None
        self._csock = _WakeupDescriptor(self)

    def _close_self_pipe(self):
        self._csock = None

    def _read_from_self(self):
        self._process_self_data(self._take_signals())


def _keep_wakeup_fd():
    # asyncio has given the wake-up descriptor up, or to a loop that does not run: Ctrl-C still needs it.
    loop = asyncio._get_running_loop()
    if isinstance(loop, EventLoop):
        loop._take_wakeup_fd_back()


def _accepts_as_known(loop, sock):
    # Has nobody put anything in place of what asyncio would call for each connection?
    return accepts_plainly(sock) and all(is_method(loop, *known) for known in _accepting)


def _join_executor(loop, executor, joined):
    def finish(exc=None):
        if not joined.done():
            joined.set_exception(exc) if exc else joined.set_result(None)

    try:
        executor.shutdown(wait=True)
    except Exception as exc:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, exc)
    else:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish)


class _WakeupDescriptor:
    """What add_signal_handler() hands to signal.set_wakeup_fd()."""

    def __init__(self, loop):
        self._loop = loop

    def fileno(self):
        return self._loop._wakeup_fileno()


class _Watches:
    """The loop's watched descriptors, as the selector that asyncio's transports ask in repr().

    Virtual clocks assign to its `select`: the loop then calls that in every turn, instead of polling.
    """

    def __init__(self, loop):
        self._loop = loop

    def get_key(self, fileobj):
        reader, writer = self._loop._watched(fileobj)
        events = (selectors.EVENT_READ if reader else 0) | (selectors.EVENT_WRITE if writer else 0)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return selectors.SelectorKey(fileobj, fd, events, (reader, writer))

    def select(self, timeout=None):
        return self._loop._select(timeout)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "select" and self._loop is not None:
            self._loop._poller = value

    def __delattr__(self, name):
        super().__delattr__(name)
        if name == "select" and self._loop is not None:
            self._loop._poller = None

    def close(self):
        self._loop = None


def _name_as_asyncio(cls):
    # Messages and warnings name a method's class ("coroutine '...' was never awaited").
    for name, method in vars(cls).items():
        stock = getattr(asyncio.SelectorEventLoop, name, None)
        if inspect.isfunction(method) and inspect.isfunction(stock) and name != "__init__":
            method.__qualname__ = stock.__qualname__


_accepting = [
    (name, getattr(EventLoop, name))
    for name in ("_accept_connection", "_accept_connection2", "_make_socket_transport")
]
for _class in (EventLoop, Connecting, SocketCalls):
    _name_as_asyncio(_class)
_core._own_methods(EventLoop)
EventLoop.__module__ = "hotloop"
Loop = EventLoop


def new_event_loop():
    """Return a new hotloop.EventLoop; what asyncio calls a loop factory."""
    return EventLoop()


_forking.register()

if sys.version_info >= (3, 14):
    from ._debuggers import learn_task_layout

    learn_task_layout()

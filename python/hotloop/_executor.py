"""The default executor: the Python face of the core's pool of threads. Loaded when first used."""

import concurrent.futures
import concurrent.futures.thread as stock
import functools
import os
import threading
import types
import weakref

from . import _core

# The threads of all pools of this interpreter. They are joined when it ends, their queues emptied
# first, as concurrent.futures does with its own.
_workers = weakref.WeakKeyDictionary()
_exiting = False
_lock = threading.RLock()  # no worker is started while, or after, its executor or Python ends


def _at_exit():
    global _exiting
    with _lock:
        _exiting = True
        workers = list(_workers.items())
    for _, pool in workers:
        pool.stop(True)
    _join(thread for thread, _ in workers)


def _join(threads):
    for thread in threads:
        if thread.ident is not None:  # Ctrl-C may have ended start() too early
            thread.join()


def _after_fork():
    global _lock
    _lock = threading.RLock()
    _workers.clear()


# Not atexit: this runs before the interpreter joins threads, and in subinterpreters as well.
threading._register_atexit(_at_exit)
os.register_at_fork(after_in_child=_after_fork)


def _start_worker(executor, pool):
    """Called by the pool, which needs one more thread."""
    executor = executor()  # a weak reference, lest a thread in _workers keeps itself there
    with _lock:
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if executor._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        name = f"asyncio_{len(executor._threads)}"
        thread = threading.Thread(target=pool.work, name=name)
        executor._threads.add(thread)
        _workers[thread] = pool
        try:
            thread.start()
        except Exception:
            executor._threads.discard(thread)
            del _workers[thread]
            raise


class _Submitted:
    """A call of submit(), which has a concurrent future."""

    def __init__(self, fn, args, kwargs):
        self.future = concurrent.futures.Future()
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def __call__(self):
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args, **self.kwargs)
        except BaseException as exc:
            self.future.set_exception(exc)
            self = None  # the exception's traceback refers to this frame
        else:
            self.future.set_result(result)

    def cancel(self):
        self.future.cancel()


class DefaultExecutor(concurrent.futures.ThreadPoolExecutor):
    """What loop._default_executor is unless the program sets one.

    The loop itself gives its calls to the pool directly.
    """

    def __init__(self):
        super().__init__(thread_name_prefix="asyncio")
        start = functools.partial(_start_worker, weakref.ref(self))
        self._pool = self._work_queue = _core.Pool(self._max_workers, start)

    def submit(self, fn, /, *args, **kwargs):
        """Schedule fn(*args, **kwargs); see concurrent.futures.Executor."""
        submitted = _Submitted(fn, args, kwargs)
        self._pool.submit(submitted)
        return submitted.future

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Take no more calls, and wait for those there are; see concurrent.futures.Executor."""
        with _lock:
            self._shutdown = True
            self._pool.stop(False)
        if cancel_futures:
            self._pool.cancel_queued()
        if wait:
            _join(self._threads)

    def __del__(self):
        # The threads know the pool only: they end when nobody can give them work any more.
        self._pool.stop(False)


# Instrumentation that replaces submit(), or the class, expects to see the loop's calls.


def _is_instrumented():
    submit = stock.ThreadPoolExecutor.submit
    return (
        concurrent.futures.ThreadPoolExecutor is not stock.ThreadPoolExecutor
        or not isinstance(submit, types.FunctionType)
        or submit.__globals__ is not vars(stock)
    )


def new_default_executor():
    """Make an executor for run_in_executor(None, ...)."""
    if _is_instrumented():
        return concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
    return DefaultExecutor()

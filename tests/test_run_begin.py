"""The beginning of a run: whose the loop is, and what is left when it fails."""

import contextlib
import sys
import threading

import pytest
from support import HOTLOOP, one_turn, script_output


def new_loop_with(implementation, tracking):
    """A loop that calls tracking(enabled) when a run begins or ends, before anything else."""

    class Loop(implementation.EventLoop):
        def _set_coroutine_origin_tracking(self, enabled):
            tracking()
            super()._set_coroutine_origin_tracking(enabled)

    return Loop()


@pytest.mark.parametrize("method", ["run_forever", "_run_forever_setup"])
def test_another_thread_is_refused_while_a_run_begins(method):
    """Stock asyncio lets both in."""

    def tracking():
        began.set()
        assert may_go_on.wait(20)

    def run():
        loop.call_soon(loop.stop)
        loop.run_forever()

    began, may_go_on = threading.Event(), threading.Event()
    loop = new_loop_with(HOTLOOP, tracking)
    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(20)
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        getattr(loop, method)()
    may_go_on.set()
    thread.join()
    assert not loop.is_running()
    loop.close()


@pytest.mark.parametrize(
    "method",
    ["run_forever", "_run_forever_setup", "_run_once", "_run_forever_cleanup", "close"],
)
def test_another_thread_is_refused_whatever_the_loop_was_told_about_its_thread(method):
    """Two threads in stock asyncio's loop mix its callbacks up; in ours they would crash."""

    def run():
        loop.call_soon(running.set)
        loop.run_forever()

    running = threading.Event()
    loop = HOTLOOP.new_event_loop()
    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(20)
    loop._thread_id = None
    words = "Cannot close a running" if method == "close" else "This event loop is already running"
    try:
        assert loop.is_running()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=words):
                getattr(loop, method)()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
    assert not thread.is_alive() and not loop.is_running()
    one_turn(loop)
    loop.close()


@pytest.mark.parametrize("method", ["run_forever", "_run_forever_setup"])
def test_a_run_that_could_not_begin_leaves_the_loop_as_it_was(impl, method):
    if not hasattr(impl.EventLoop, method):
        pytest.skip("newer than this asyncio")

    def tracking():
        if fails:
            raise LookupError("not now")

    fails = [True]
    hooks = sys.get_asyncgen_hooks()
    loop = new_loop_with(impl, tracking)
    with pytest.raises(LookupError, match="not now"):
        getattr(loop, method)()
    assert not loop.is_running()
    assert sys.get_asyncgen_hooks() == hooks
    fails.clear()
    one_turn(loop)
    loop.close()


@pytest.mark.parametrize("method", ["run_forever", "_run_forever_setup"])
def test_a_run_that_fails_halfway_takes_back_what_it_did(method):
    class Loop(HOTLOOP.EventLoop):
        @property
        def _asyncgen_finalizer_hook(self):
            raise LookupError("not now")

    hooks = sys.get_asyncgen_hooks()
    loop = Loop()
    with pytest.raises(LookupError, match="not now"):
        getattr(loop, method)()
    assert not loop.is_running()
    assert sys.get_asyncgen_hooks() == hooks
    with contextlib.closing(HOTLOOP.new_event_loop()) as other:
        one_turn(other)
    loop.close()


def test_a_first_run_for_want_of_descriptors(impl):
    """It raises OSError, or runs; libuv would end the process."""
    source = """
        import errno, os, resource

        loop = new_event_loop()
        used = len(os.listdir("/proc/self/fd")) - 1
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for more in range(20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, most))
            loop.call_soon(loop.stop)
            try:
                loop.run_forever()
            except OSError as exc:
                assert exc.errno == errno.EMFILE and not loop.is_running()
            else:
                print("ran")
                break
        loop.close()
        """
    assert script_output(impl, source) == "ran\n"

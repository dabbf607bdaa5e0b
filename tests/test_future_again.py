"""Future.__init__() called again, on a future that has come to something (refused from 3.15 on)."""

import asyncio
import sys
import threading
from functools import partial

import pytest
import support
from support import HOTLOOP, collect, outcome, until

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="a future is initialised once only"
)

on_each = partial(support.on_each, kind="Future")


class AtTheEnd:
    """Calls a function when it is destroyed."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        """It may be a callback, too."""

    def __del__(self):
        self.function()


LOOKS = [
    lambda future: future.done(),
    lambda future: future.cancelled(),
    lambda future: future.result(),
    lambda future: future.exception(),
    lambda future: future.cancel(),
    lambda future: future.set_result(1),
    lambda future: future.get_loop(),
    lambda future: repr(future),
    lambda future: next(iter(future)),
    lambda future: future.add_done_callback(print),
    lambda future: future.remove_done_callback(print),
]


def finish(future, way, at_the_end):
    """Bring a future to an end in which it holds at_the_end."""
    if way == "result":
        future.set_result(at_the_end)
    elif way == "exception":
        exception = LookupError()
        exception.held = at_the_end
        future.set_exception(exception)
        future.exception()
    elif way == "callback":
        future.add_done_callback(at_the_end)
    else:
        future.cancel(at_the_end)


@pytest.mark.parametrize("look", range(len(LOOKS)))
@pytest.mark.parametrize("way", ["result", "exception", "callback", "cancelled"])
def test_it_is_not_alive_while_what_it_held_is_destroyed(way, look):
    def scenario(loop, Future):
        seen = []
        future = Future(loop=loop)
        finish(future, way, AtTheEnd(lambda: seen.append(outcome(LOOKS[look], future))))
        future.__init__(loop=loop)
        state = future.done(), future.get_loop() is loop
        future.cancel()
        return seen, state

    seen, state = on_each(scenario)
    assert len(seen) == 1 and state == (False, True)


def test_an_exception_is_raised_though_its_future_loses_it_meanwhile():
    """Stock asyncio crashes here."""
    loop = HOTLOOP.new_event_loop()
    future = HOTLOOP.Future(loop=loop)
    exception = LookupError("mine")
    future.set_exception(exception)

    def fail():
        _local = AtTheEnd(partial(future.__init__, loop=loop))
        raise exception

    with pytest.raises(LookupError):
        fail()
    del exception
    collect()  # the frame lives in the traceback only, which result() replaces
    with pytest.raises(LookupError, match="mine"):
        future.result()
    loop.close()


def test_a_call_returns_to_the_loop_it_was_made_on_though_its_future_got_another(impl):
    began = threading.Event()

    async def main():
        future = asyncio.get_running_loop().run_in_executor(None, began.wait)
        future.__init__(loop=other)
        began.set()
        await until(future.done)
        return future.result(), future.get_loop() is other

    other = impl.new_event_loop()
    assert impl.run(main()) == (True, True)
    other.close()


def test_a_call_returns_to_its_loop_though_its_future_got_one_in_python(impl):
    class Loop:
        def get_debug(self):
            return False

    began = threading.Event()

    async def main():
        future = asyncio.get_running_loop().run_in_executor(None, began.wait)
        future.__init__(loop=Loop())
        began.set()
        await until(future.done)
        return future.result()

    assert impl.run(main()) is True

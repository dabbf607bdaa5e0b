"""What goes wrong outside a program's coroutines and callbacks: what the exception handler is told, and how."""

import asyncio
import os
import re
import socket
import time

import pytest
from support import Contexts, same_on_both, turns


class Unwaitable:
    """Looks like a future, and fails when it is waited for."""

    _asyncio_future_blocking = True

    def get_loop(self):
        raise LookupError("get_loop")

    def __await__(self):
        yield self


async def wait_for(unwaitable):
    await unwaitable


def told_of(scenario, impl):
    """What the exception handler is told in scenario(loop), and which task is current there."""

    def handler(loop, context):
        told.append(
            (
                re.sub(r"<.*|Task\.task_step\(\)", "STEP", context["message"]),
                repr(context["exception"]),
                isinstance(context["handle"], asyncio.Handle),
                asyncio.current_task(),
            )
        )

    told = []
    loop = impl.new_event_loop()
    loop.set_exception_handler(handler)
    loop.run_until_complete(scenario(loop))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return told


def test_a_step_that_fails_is_reported_with_a_handle_and_in_no_task():
    async def scenario(loop):
        task = loop.create_task(wait_for(Unwaitable()))
        await asyncio.sleep(0.01)
        task._log_destroy_pending = False

    told = same_on_both(lambda impl: told_of(scenario, impl))
    assert told == [("Exception in callback STEP", "LookupError('get_loop')", True, None)]


def test_a_step_that_fails_after_a_wake_up_is_reported_with_a_handle_and_in_no_task():
    async def wait_twice(future):
        await future
        await Unwaitable()

    async def scenario(loop):
        future = loop.create_future()
        task = loop.create_task(wait_twice(future))
        loop.call_soon(future.set_result, 1)
        await asyncio.sleep(0.01)
        task._log_destroy_pending = False

    told = same_on_both(lambda impl: [line[1:] for line in told_of(scenario, impl)])
    assert told == [("LookupError('get_loop')", True, None)]


def test_a_task_whose_repr_fails_does_not_end_the_loop_when_its_step_fails(impl):
    class Unshowable(impl.Task):
        def __repr__(self):
            raise ZeroDivisionError

    async def scenario(loop):
        task = Unshowable(wait_for(Unwaitable()), loop=loop)
        await asyncio.sleep(0.01)
        task._log_destroy_pending = False

    assert [line[1] for line in told_of(scenario, impl)] == ["LookupError('get_loop')"]


def test_a_pipe_whose_protocol_fails_is_reported_as_the_callback_of_asyncio(impl):
    class Failing(asyncio.Protocol):
        def data_received(self, data):
            raise LookupError("data")

    async def scenario(loop):
        read, write = os.pipe()
        transport, _ = await loop.connect_read_pipe(Failing, os.fdopen(read, "rb", 0))
        os.write(write, b"data")
        await asyncio.sleep(0.02)
        transport.close()
        os.close(write)

    [told] = told_of(scenario, impl)
    assert re.fullmatch(r"Exception in callback \w*ReadPipeTransport\._read_ready\(\)", told[0])
    assert told[1:] == ("LookupError('data')", True, None)


def test_a_failing_accept_is_reported_with_a_handle(impl):
    async def scenario(loop):
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.sockets[0]._sock.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.02)
        server.close()

    told = told_of(scenario, impl)
    assert told[0][1:] == ("OSError(22, 'Invalid argument')", True, None)


def test_a_call_whose_future_is_done_by_another_is_reported_as_by_asyncio():
    async def scenario(loop):
        future = loop.run_in_executor(None, time.sleep, 0.02)
        future.set_result("mine")
        await asyncio.sleep(0.2)

    told = same_on_both(lambda impl: [line[1:] for line in told_of(scenario, impl)])
    assert told == [("AssertionError()", True, None)]


# -- call_exception_handler() raises ------------------------------------------


def callback(*args):
    raise ZeroDivisionError


async def failing_step(loop):
    task = loop.create_task(wait_for(Unwaitable()))
    await asyncio.sleep(0)
    task._log_destroy_pending = False


def done_callback(loop):
    future = loop.create_future()
    future.add_done_callback(callback)
    future.set_result(None)


WAYS = {
    "callback": lambda loop: loop.call_soon(callback),
    "timer": lambda loop: loop.call_later(0, callback),
    "done-callback": done_callback,
    "step": lambda loop: loop.create_task(failing_step(loop)),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_an_overridden_handler_raises_leaves_run_forever(impl, way):
    class Loop(impl.EventLoop):
        def call_exception_handler(self, context):
            raise LookupError("handler")

    loop = Loop()
    WAYS[way](loop)
    loop.call_later(20, loop.stop)
    with pytest.raises(LookupError, match="handler"):
        loop.run_forever()
    assert not loop.is_running()
    turns(loop, 3)
    loop.close()


def test_what_a_handler_raises_for_a_finalizer_does_not_leave_anything(impl, monkeypatch):
    class Loop(impl.EventLoop):
        def call_exception_handler(self, context):
            raise LookupError("handler")

    unraisable = Contexts()
    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))
    loop = Loop()
    future = loop.create_future()
    future.set_exception(ValueError())
    del future
    turns(loop, 1)
    assert unraisable == [LookupError]
    loop.close()


def test_an_attribute_error_inside_get_loop_is_not_taken_for_its_absence():
    class Future(Unwaitable):
        def __init__(self, loop):
            self._loop = loop

        def get_loop(self):
            raise AttributeError("inside")

    async def scenario(loop):
        task = loop.create_task(wait_for(Future(loop)))
        await asyncio.sleep(0.01)
        task._log_destroy_pending = False

    told = same_on_both(lambda impl: told_of(scenario, impl))
    assert [line[1] for line in told] == ["AttributeError('inside')"]

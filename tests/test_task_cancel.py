"""Task: cancel(), uncancel(), cancelling() and all that they reach."""

import asyncio
from functools import partial

import pytest
import support
from support import forever, one_turn, outcome, turns

on_each = partial(support.on_each, kind="Task")


# -- cancelling ----------------------------------------------------------------


def test_a_task_cancelled_before_it_began_never_runs(start, mixed_loop):
    seen = []

    async def main():
        seen.append("ran")

    task = start(main())
    assert task.cancel() is True
    assert not task.done()
    one_turn(mixed_loop)
    assert task.cancelled() and seen == []
    assert task.cancel() is False


def test_a_cancelled_task_gets_cancelled_error_at_its_await(start, finish):
    log = []

    async def victim():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as exc:
            log.append(exc.args)
            raise
        finally:
            log.append("finally")

    async def main():
        task = start(victim())
        await asyncio.sleep(0)
        assert task.cancel("message") is True
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    finish(start(main()))
    assert log == [("message",), "finally"]


def test_a_task_may_refuse_to_be_cancelled(start, finish):
    async def stubborn():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "still here"

    async def main():
        task = start(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "still here"
        assert not task.cancelled()
        assert task.cancelling() == 1

    finish(start(main()))


def test_cancelling_reaches_through_every_kind_of_awaited_thing():
    def scenario(loop, Task):
        log = []

        async def inner(name):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as exc:
                log.append((name, exc.args))
                raise

        async def by_task(name):
            await Task(inner(name), loop=loop)

        async def by_gather(name):
            await asyncio.gather(inner(name + "1"), inner(name + "2"))

        async def by_group(name):
            async with asyncio.TaskGroup() as group:
                group.create_task(inner(name))

        async def by_wait_for(name):
            await asyncio.wait_for(inner(name), 30)

        async def by_timeout(name):
            async with asyncio.timeout(30):
                await inner(name)

        async def by_wait(name):
            task = Task(inner(name), loop=loop)
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()
                await asyncio.wait([task])

        async def by_shield(name):
            task = Task(inner(name), loop=loop)
            try:
                await asyncio.shield(task)
            finally:
                log.append((name, task.done()))
                task.cancel("afterwards")
                await asyncio.wait([task])

        async def main():
            for function in (
                inner,
                by_task,
                by_gather,
                by_group,
                by_wait_for,
                by_timeout,
                by_wait,
                by_shield,
            ):
                task = Task(function(function.__name__), loop=loop)
                for _ in range(3):
                    await asyncio.sleep(0)
                task.cancel("outer")
                try:
                    await task
                except asyncio.CancelledError as exc:
                    log.append((function.__name__, "cancelled", exc.args))

        loop.run_until_complete(Task(main(), loop=loop))
        return log

    assert ("inner", ("outer",)) in on_each(scenario)


def test_cancelling_counts_and_uncancel_takes_back():
    def scenario(loop, Task):
        async def main():
            task = Task(forever(), loop=loop)
            await asyncio.sleep(0)
            counts = [task.cancelling()]
            counts += [task.cancel(), task.cancelling(), task.cancel(), task.cancelling()]
            counts += [
                task.uncancel(),
                task.cancelling(),
                task.uncancel(),
                task.uncancel(),
                task.cancelling(),
            ]
            try:
                await task
            except asyncio.CancelledError:
                counts.append("cancelled")
            counts += [task.cancel(), task.cancelling(), task.uncancel()]
            return counts

        return loop.run_until_complete(Task(main(), loop=loop))

    assert on_each(scenario)[:10] == [0, True, 1, True, 2, 1, 1, 0, 0, 0]


def test_uncancel_before_the_first_step_behaves_as_in_asyncio():
    def scenario(loop, Task):
        async def main():
            return "ran"

        task = Task(main(), loop=loop)
        task.cancel()
        flags = [task._must_cancel]
        task.uncancel()
        flags.append(task._must_cancel)
        return flags, outcome(loop.run_until_complete, task)[:2]

    assert on_each(scenario)[0][0] is True


def test_a_task_may_cancel_itself(start, finish):
    async def main():
        assert asyncio.current_task().cancel("self") is True
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            return exc.args

    assert finish(start(main())) == ("self",)


def test_a_task_that_cancels_itself_and_returns_is_cancelled_as_in_asyncio():
    def scenario(loop, Task):
        async def main():
            asyncio.current_task().cancel("self")
            return "result"

        task = Task(main(), loop=loop)
        return outcome(loop.run_until_complete, task), task.cancelled(), task._must_cancel

    assert on_each(scenario)[1] is True


def test_a_task_that_cancels_itself_and_raises_keeps_its_exception():
    def scenario(loop, Task):
        async def main():
            asyncio.current_task().cancel()
            raise LookupError("mine")

        return outcome(loop.run_until_complete, Task(main(), loop=loop))

    assert on_each(scenario) == ("raised", LookupError, "mine")


def test_cancelling_after_the_awaited_future_is_done_still_cancels():
    def scenario(loop, Task):
        async def main(future):
            try:
                return await future
            except asyncio.CancelledError:
                return "cancelled, though the result was there"

        log = []
        for finish_it in (
            lambda f: f.set_result("result"),
            lambda f: f.set_exception(LookupError()),
            lambda f: f.cancel(),
        ):
            future = loop.create_future()
            task = Task(main(future), loop=loop)
            one_turn(loop)
            finish_it(future)
            log.append((task._fut_waiter is future, task.cancel(), task._must_cancel))
            turns(loop, 3)
            log.append(outcome(task.result))
            if not future.cancelled():
                future.exception()
        return log

    on_each(scenario)


def test_cancel_twice_before_the_task_runs_keeps_the_last_message():
    def scenario(loop, Task):
        async def main():
            await asyncio.sleep(30)

        results = []
        for before in (0, 1):
            task = Task(main(), loop=loop)
            turns(loop, before)
            task.cancel("first")
            task.cancel("second")
            turns(loop, 3)
            results.append(outcome(task.result))
        return results

    on_each(scenario)


def test_a_cancelled_future_cancels_the_task_that_awaits_it(start, finish, mixed_loop):
    async def main(future):
        await future

    future = mixed_loop.create_future()
    task = start(main(future))
    one_turn(mixed_loop)
    future.cancel("from the future")
    with pytest.raises(asyncio.CancelledError) as caught:
        finish(task)
    assert caught.value.args == ("from the future",)


def test_the_cancelled_error_chains_as_in_asyncio():
    def scenario(loop, Task):
        async def inner():
            await asyncio.sleep(30)

        async def main():
            task = Task(inner(), loop=loop)
            await asyncio.sleep(0)
            task.cancel("message")
            try:
                await task
            except asyncio.CancelledError as exc:
                first, context = exc, exc.__context__
            try:
                task.result()
            except asyncio.CancelledError as exc:
                second = exc
            return (
                first.args,
                type(context),
                context and context.args,
                second.args,
                type(second.__context__),
            )

        return loop.run_until_complete(Task(main(), loop=loop))

    on_each(scenario)


def test_the_cancel_method_of_the_awaited_thing_is_called(start, finish, mixed_loop):
    calls = []

    class Foreign:
        _asyncio_future_blocking = False
        _loop = mixed_loop

        def get_loop(self):
            return mixed_loop

        def add_done_callback(self, callback, *, context):
            self.callback = callback, context

        def cancel(self, msg=None):
            calls.append(msg)
            callback, context = self.callback
            mixed_loop.call_soon(callback, self, context=context)
            return True

        def result(self):
            raise asyncio.CancelledError("from the foreign future")

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self

    async def main():
        await Foreign()

    task = start(main())
    one_turn(mixed_loop)
    assert task.cancel("message") is True
    assert calls == ["message"]
    with pytest.raises(asyncio.CancelledError):
        finish(task)


def test_a_cancel_of_the_awaited_thing_that_fails_comes_out(start, finish, mixed_loop):
    class Foreign(asyncio.Future):
        def cancel(self, msg=None):
            raise LookupError("cannot cancel")

    future = Foreign(loop=mixed_loop)

    async def main():
        await future

    task = start(main())
    one_turn(mixed_loop)
    with pytest.raises(LookupError, match="cannot cancel"):
        task.cancel()
    future.set_result(None)
    finish(task)


@pytest.mark.parametrize("kind", ["task", "future"])
def test_a_waiter_may_have_a_cancel_of_its_own(start, finish, mixed_loop, kind):
    """aiotools.ShieldScope puts one on the task it protects."""
    asked = []

    async def main():
        return await waiter

    def cancel(*args, **kwargs):
        asked.append((args, kwargs))
        return True

    future = mixed_loop.create_future()
    waiter = start(forever()) if kind == "task" else future
    waiter.cancel = cancel
    task = start(main())
    turns(mixed_loop, 3)
    assert task.cancel("message") is True
    turns(mixed_loop, 3)
    assert asked == [(("message",), {})]
    assert not task.done() and not waiter.done()
    del waiter.cancel
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        finish(task)
    assert waiter.cancelled()

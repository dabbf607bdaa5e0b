"""Random programs of sock_*(), readers and writers on the same descriptors: asyncio's results, and nothing is left."""

import asyncio
import contextlib
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from sockets import cancel, stream_pair, watched
from support import normalise, same_on_both

SIZES = st.one_of(st.integers(1, 3000), st.sampled_from([1 << 16, 300_000, 1 << 20]))
COUNTING = bytes(range(251))
WHICH = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["recv", "recv_into"]), WHICH, SIZES),
    st.tuples(st.sampled_from(["recv", "recv_into", "recvfrom", "recvfrom_into"]), WHICH, SIZES),
    st.tuples(st.just("sendall"), WHICH, st.sampled_from([100, 300_000, 1 << 20])),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("peer sends"), WHICH, SIZES),
    st.tuples(st.just("peer sends"), WHICH, SIZES),
    st.tuples(st.just("peer receives"), WHICH, SIZES),
    st.tuples(st.sampled_from(["peer shuts down", "peer closes", "shut down"]), WHICH),
    st.tuples(
        st.sampled_from(["add_reader", "add_writer", "remove_reader", "remove_writer"]), WHICH
    ),
)
# The steps of a group are taken at once, then the loop runs until nothing more happens.
GROUP = st.lists(STEPS, min_size=1, max_size=3).map(lambda group: [group])
DRAIN = WHICH.map(lambda which: [[("peer receives", which, 1 << 20)]] * 5)
PROGRAMS = st.lists(st.one_of(GROUP, GROUP, GROUP, DRAIN), min_size=1, max_size=12).map(
    lambda parts: sum(parts, [])
)


class Program:
    """Two pairs of sockets, what was begun on them, and what happened since the last look."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.pairs = [stream_pair(), stream_pair()]
        self.tasks = {}
        self.begun = 0
        self.called = set()
        self.sent = 0

    def content(self, size):
        """Bytes that tell where they belong."""
        start, self.sent = self.sent % len(COUNTING), self.sent + size
        return (COUNTING * (size // len(COUNTING) + 2))[start : start + size]

    async def operate(self, method, sock, size):
        operation = getattr(self.loop, "sock_" + method)
        if method == "sendall":
            return await operation(sock, self.content(size))
        if method.endswith("_into"):
            buffer = bytearray(size)
            return await operation(sock, buffer), zlib.crc32(buffer)
        got = await operation(sock, size)
        data, *address = got if method == "recvfrom" else [got]
        return len(data), zlib.crc32(data), *address

    def take(self, step):
        """Take a step; returns what is to be seen of it at once."""
        what, which, *more = step
        if what == "cancel":
            task = self.tasks.get(self.begun - which)
            return task and task.cancel()
        near, far = self.pairs[which]
        with contextlib.suppress(OSError):
            match what:
                case "peer sends":
                    return far.send(self.content(*more))
                case "peer receives":
                    return far.recv(*more)
                case "peer shuts down":
                    return far.shutdown(1)
                case "peer closes":
                    return far.close()
                case "shut down":
                    return near.shutdown(1)
                case "add_reader" | "add_writer":
                    return getattr(self.loop, what)(near, self.called.add, (what, which))
                case "remove_reader" | "remove_writer":
                    return getattr(self.loop, what)(near)
                case _:
                    self.begun += 1
                    self.tasks[self.begun] = self.loop.create_task(self.operate(what, near, *more))
                    return None
        return "failed"

    async def settle(self):
        for _ in range(2):
            await asyncio.sleep(0.0002)
        # Who was called before what was there was received, or sent? asyncio polls more often.
        self.called.clear()
        await asyncio.sleep(0.0002)

    def seen(self):
        """Which readers and writers are called now, and what has ended since the last look."""
        ended = {i: self.outcome(task) for i, task in self.tasks.items() if task.done()}
        self.tasks = {i: task for i, task in self.tasks.items() if i not in ended}
        return sorted(self.called), ended

    @staticmethod
    def outcome(task):
        if task.cancelled():
            return "cancelled"
        if exc := task.exception():
            return type(exc), normalise(str(exc))
        return task.result()

    async def end(self):
        """Cancel what has not ended; returns whether a reader or writer stays, then there is none."""
        for task in self.tasks.values():
            await cancel(task)
        left = [watched(self.loop, near) for near, _ in self.pairs]
        removed = [
            (self.loop.remove_reader(near), self.loop.remove_writer(near))
            for near, _ in self.pairs
        ]
        assert not any(watched(self.loop, near) for near, _ in self.pairs)
        for sock in self.pairs[0] + self.pairs[1]:
            sock.close()
        return left, removed


async def run(groups):
    program = Program()
    log = []
    for group in groups:
        log.append([program.take(step) for step in group])
        await program.settle()
        log.append(program.seen())
    return log, await program.end()


@settings(max_examples=100)
@given(PROGRAMS)
def test_random_programs_have_asyncios_results(groups):
    same_on_both(lambda implementation: implementation.run(run(groups)))

"""Flow control of stream transports: limits, pause_writing and resume_writing, exactly as asyncio's."""

import asyncio
import contextlib
import os
import sys

import hotloop
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import (
    Events,
    TransportProgram,
    connect,
    on_loop,
    raw_pair,
    read_all,
    small_buffers,
)
from support import HOTLOOP, PATIENCE, outcome, same_on_both, until

LIMIT = 5 * PATIENCE
BIG = bytes(1 << 20)


# -- limits ------------------------------------------------------------------

NUMBERS = [None, 0, 1, -1, 16, 1000, 64 * 1024, 10**30, 2.5, float("inf"), float("nan"), "5", True]


def test_every_pair_of_limits():
    async def main():
        results = []
        for high in NUMBERS:
            for low in NUMBERS:
                protocol = Events()
                transport, peer = await connect(protocol)
                before = transport.get_write_buffer_limits()
                result = outcome(transport.set_write_buffer_limits, high, low)
                after = transport.get_write_buffer_limits()
                results.append((before, result, repr(after)))
                transport.write(BIG)
                transport.abort()
                await protocol.lost
                peer.close()
                results.append(protocol.log)
        return results

    same_on_both(on_loop(main))


def test_keywords_of_limits():
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        results = []
        for arguments, keywords in (
            ((), {}),
            ((100,), {}),
            ((), {"high": 100}),
            ((), {"low": 100}),
            ((100,), {"low": 10}),
            ((10, 20, 30), {}),
            ((), {"middle": 1}),
            ((10, 100), {}),
        ):
            kind, *rest = outcome(transport.set_write_buffer_limits, *arguments, **keywords)
            results.append((kind, rest[0], transport.get_write_buffer_limits()))
        transport.abort()
        await protocol.lost
        peer.close()
        return results

    same_on_both(on_loop(main))


def test_lowering_the_limits_pauses_at_once():
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport.set_write_buffer_limits(high=1 << 22)
        transport.write(BIG)
        protocol.log.append("written")
        transport.set_write_buffer_limits(high=100)
        protocol.log.append("lowered")
        transport.set_write_buffer_limits(high=1 << 22)
        protocol.log.append("raised")
        transport.abort()
        await protocol.lost
        peer.close()
        return protocol.log

    log, _ = same_on_both(on_loop(main))
    assert log[1:4] == ["written", "pause_writing", "lowered"]


# -- when they are called ----------------------------------------------------


def test_pause_writing_is_called_inside_write(kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        for number in range(40):
            protocol.log.append(number)
            transport.write(BIG[: 1 << 18])
            if "pause_writing" in protocol.log:
                break
        protocol.log = protocol.log[-2:]
        protocol.log.append("returned")
        await asyncio.get_running_loop().run_in_executor(None, peer.recv, 1)
        transport.close()
        await asyncio.get_running_loop().run_in_executor(None, read_all, peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return [entry for entry in protocol.log if not isinstance(entry, int)]

    log, contexts = same_on_both(on_loop(main))
    assert log[:2] == ["pause_writing", "returned"] and contexts == []


def test_a_high_limit_of_zero():
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        peer.setblocking(False)
        transport.set_write_buffer_limits(high=0)
        transport.write(b"fits")
        protocol.log.append("fits")
        transport.write(BIG)
        protocol.log.append("does not")
        received = 0
        while received < len(BIG):
            received += len(await asyncio.get_running_loop().sock_recv(peer, 1 << 20))
        await until(lambda: "resume_writing" in protocol.log)
        transport.close()
        await protocol.lost
        peer.close()
        return protocol.log

    log, _ = same_on_both(on_loop(main))
    assert log[1:4] == ["fits", "pause_writing", "does not"]


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_methods_that_raise(method):
    def failing(self):
        raise LookupError("on purpose")

    async def main():
        protocol = Events(**{method: failing})
        transport, peer = await connect(protocol)
        transport.write(BIG)
        transport.close()
        received = await asyncio.get_running_loop().run_in_executor(None, read_all, peer)
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log, len(received)

    (log, received), contexts = same_on_both(on_loop(main))
    assert received == len(BIG) and contexts == [
        (
            f"protocol.{method}() failed",
            ["exception", "message", "protocol", "transport"],
            (LookupError, "on purpose"),
        )
    ]


@pytest.mark.parametrize("action", ["write", "close", "abort", "write_eof"])
@pytest.mark.parametrize("event", ["pause_writing", "resume_writing"])
def test_acting_in_flow_control_methods(event, action):
    async def main():
        def act(self):
            if len(self.log) < 20:
                if action == "write":
                    self.transport.write(b"more" * 1000)
                else:
                    getattr(self.transport, action)()

        protocol = Events(**{event: act})
        transport, peer = await connect(protocol)
        transport.write(BIG)
        protocol.log.append("written")
        reading = asyncio.get_running_loop().run_in_executor(None, read_all, peer)
        await asyncio.sleep(0.005)
        transport.close()
        received = await reading
        await asyncio.wait_for(protocol.lost, LIMIT)
        peer.close()
        return protocol.log, len(received) if action != "abort" else None

    # asyncio of some versions loses a connection twice, when closed in resume_writing().
    told = []
    same_on_both(lambda impl: (result := on_loop(main)(impl), told.append(result[1]))[0][0])
    assert told[1] == []


# -- random programs ---------------------------------------------------------

SIZES = st.integers(1, 20_000)
# asyncio's writelines() does not call pause_writing() on 3.12.1 and 3.13.0 (cpython#127655).
PAUSES_IN_WRITELINES = sys.version_info < (3, 12) or sys.version_info >= (3, 14)
WRITES = st.tuples(st.just("write"), SIZES)
STEPS = st.one_of(
    WRITES,
    WRITES,
    st.tuples(st.just("writelines"), st.lists(SIZES, max_size=4))
    if PAUSES_IN_WRITELINES
    else WRITES,
    st.tuples(st.just("limits"), st.integers(0, 30_000), st.integers(0, 30_000)),
    st.tuples(st.just("peer reads"), SIZES),
    st.tuples(st.just("peer reads"), st.just(1 << 20)),
    st.tuples(st.just("peer writes"), st.integers(1, 2000)),
    st.tuples(st.sampled_from(["pause_reading", "resume_reading"])),
)
ENDS = st.sampled_from(["close", "abort", "write_eof", "peer closes", "peer shuts down"])


class Program(TransportProgram):
    """Runs one random program against a transport with small buffers."""

    def __init__(self, *args):
        super().__init__(*args)
        self.sent, self.received, self.told = 0, b"", 0

    def next_bytes(self, size):
        start, self.sent = self.sent, self.sent + size
        return bytes((start + i) * 7 % 251 for i in range(size))

    def step(self, name, *arguments):
        if name == "peer reads":
            self.read(*arguments)
        elif name == "peer writes":
            with contextlib.suppress(BlockingIOError):
                self.told += self.sock.send(b"y" * arguments[0])
        else:
            super().step(name, *arguments)

    def read(self, size):
        try:
            self.received += self.sock.recv(size)
        except (BlockingIOError, ConnectionResetError):
            pass  # reset: the transport was closed with data unread

    async def drain(self):
        """Let the peer read what comes, until the connection is lost."""
        for _ in range(10_000):
            if self.sock.fileno() >= 0:
                self.read(1 << 20)
            if self.protocol.lost.done():
                break
            await asyncio.sleep(0)
        for _ in range(3):
            if self.sock.fileno() >= 0:
                self.read(1 << 20)


def kinds(log):
    return [entry if isinstance(entry, str) else entry[0] for entry in log]


def check_pauses(log):
    """Every pause_writing is followed by exactly one resume_writing or by connection_lost."""
    paused = False
    for name in kinds(log):
        if name == "pause_writing":
            assert not paused
            paused = True
        elif name == "resume_writing":
            assert paused
            paused = False
    assert kinds(log).count("connection_lost") == 1 and kinds(log)[-1] == "connection_lost"


def run_program(impl, steps, end, settle):
    async def main():
        protocol = Events()
        ours, peer = raw_pair()
        small_buffers(ours, peer)
        transport, _ = await connect(protocol, sockets=(ours, peer))
        peer.setblocking(False)
        program = Program(protocol, transport, peer)
        history = []
        for step in steps:
            program.step(*step)
            if settle:
                for _ in range(settle):
                    await asyncio.sleep(0.0001)
                history.append((step[0], len(protocol.log), transport.get_write_buffer_size()))
        program.end(end)
        if end in ("write_eof", "peer closes", "peer shuts down"):
            transport.resume_reading()
            for _ in range(50):
                await asyncio.sleep(0)
                if end != "peer closes":
                    program.read(1 << 20)
            for _ in range(2):  # fast turns may all come before hotloop's next poll
                await asyncio.sleep(0.001)
            if end == "write_eof":
                transport.close()
        await program.drain()
        await asyncio.wait_for(protocol.lost, LIMIT)
        check_pauses(protocol.log)
        expected = bytes(i * 7 % 251 for i in range(program.sent))
        if end in ("abort", "peer closes"):
            assert expected.startswith(program.received)
        else:
            assert program.received == expected
        peer.close()
        return history, protocol.log

    return impl.run(main())


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=15), ENDS)
def test_random_programs_have_the_events_of_asyncio(steps, end):
    same_on_both(run_program, steps, end, 1)


@settings(max_examples=120)
@given(st.lists(STEPS, max_size=25), ENDS)
def test_random_programs_without_a_break_lose_nothing(steps, end):
    run_program(HOTLOOP, steps, end, 0)


# -- who else has the socket -------------------------------------------------


def test_a_socket_that_another_process_made_blocking_blocks_nobody():
    """The mode is the open file's; asyncio would stand still here."""

    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        peer.setblocking(False)
        os.set_blocking(transport.get_extra_info("socket").fileno(), True)
        transport.write(bytes(1 << 22))
        transport.write(b"more")
        assert transport.get_write_buffer_size() > 0
        received = 0
        while received < (1 << 22) + 4:
            received += len(await asyncio.get_running_loop().sock_recv(peer, 1 << 20))
        peer.send(b"answer")
        await until(lambda: protocol.data == b"answer")
        transport.close()
        await protocol.lost
        peer.close()

    hotloop.run(asyncio.wait_for(main(), 20 * PATIENCE))


# -- writing in resume_writing() ----------------------------------------------


@pytest.mark.parametrize("size", [100, 100_000])
def test_what_resume_writing_writes_is_sent_at_once(size):
    """It is the socket that has room then, so nothing is buffered and nobody is paused again."""

    async def main():
        def write_more(protocol):
            if protocol.log.count("resume_writing") == 1:
                protocol.transport.write(bytes(size))
                protocol.log.append(protocol.transport.get_write_buffer_size())

        protocol = Events(resume_writing=write_more)
        transport, peer = await connect(protocol)
        peer.setblocking(False)
        while "pause_writing" not in protocol.log:
            transport.write(bytes(70_000))
        while "resume_writing" not in protocol.log:
            with contextlib.suppress(BlockingIOError):
                while peer.recv(1 << 20):
                    pass
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        peer.close()
        return protocol.log

    log, _ = same_on_both(on_loop(main))
    assert log[1:4] == ["pause_writing", "resume_writing", 0]

"""Pipe transports' flow control: limits, pause_writing and resume_writing, random programs."""

import asyncio
import os

import hypothesis
import pytest
from hypothesis import strategies as st
from pipe_ends import Recorder, drain, fill
from support import Contexts, Logged, one_turn, outcome, same_on_both


def test_limits(loop, run, outlet):
    async def main():
        transport, protocol = await loop.connect_write_pipe(Recorder, outlet[1])
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits(high=100, low=50)
        assert transport.get_write_buffer_limits() == (50, 100)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=5, low=10)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=5, low=-1)
        fill(outlet[1].fileno())
        transport.write(bytes(100))
        assert protocol.events == ["made"]
        transport.set_write_buffer_limits(high=99)
        assert protocol.events == ["made", "pause"]
        transport.abort()
        await asyncio.sleep(0)

    run(main())


def test_exceptions_of_flow_control_are_reported(loop, run, outlet):
    class Failing(Recorder):
        def pause_writing(self):
            raise ZeroDivisionError

        resume_writing = pause_writing

    async def main():
        loop.set_exception_handler(contexts := Contexts())
        transport, protocol = await loop.connect_write_pipe(Failing, outlet[1])
        transport.write(bytes(300_000))
        while len(contexts) < 2:
            drain(outlet[0])
            await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        assert [context["message"] for context in contexts] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        assert all(context["transport"] is transport for context in contexts)
        assert all(context["protocol"] is protocol for context in contexts)

    run(main())


def test_writing_and_closing_in_resume_writing(loop, run, outlet):
    class Chatty(Recorder):
        rounds = 3

        def resume_writing(self):
            super().resume_writing()
            self.rounds -= 1
            if self.rounds > 0:
                self.transport.write(bytes(200_000))
            else:
                self.transport.close()

    async def main():
        transport, protocol = await loop.connect_write_pipe(Chatty, outlet[1])
        transport.write(bytes(200_000))
        got = 0
        loop.set_exception_handler(
            lambda *_: None
        )  # stock asyncio calls connection_lost() on None
        while not protocol.lost:
            got += len(drain(outlet[0]))
            await asyncio.sleep(0)
        got += len(drain(outlet[0]))
        assert got == 600_000
        assert protocol.events == ["made", *["pause", "resume"] * 3, ("lost", None)]
        await asyncio.sleep(0)

    run(main())


SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 200_000)),
        st.tuples(st.just("drain"), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
        st.tuples(st.just("limit"), st.integers(0, 100_000)),
        st.tuples(st.sampled_from(["close", "abort", "write_eof", "hang up"]), st.just(0)),
    ),
    max_size=12,
)


def play(implementation, script):
    """What a protocol is told, and the kernel given, in a script of calls."""
    loop = implementation.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    read, write = os.pipe()
    transport, protocol = loop.run_until_complete(
        loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0))
    )
    got, written, seen, hung_up = b"", b"", [], False
    for number, (name, argument) in enumerate(script):
        if name == "write":
            data = bytes([number + 1]) * argument
            written += data
            transport.write(data)
        elif name == "drain":
            got += b"" if hung_up else drain(read)
        elif name == "turn":
            for _ in range(argument):
                one_turn(loop)
        elif name == "limit":
            transport.set_write_buffer_limits(argument)
        elif name == "hang up":
            if not hung_up:
                os.close(read)
            hung_up = True
        elif transport._loop is not None and not (name == "abort" and transport.is_closing()):
            getattr(transport, name)()
        seen.append(
            (transport.get_write_buffer_size(), transport.is_closing(), list(protocol.events))
        )
    for _ in range(200):
        if not hung_up:
            got += drain(read)
        transport.close()
        one_turn(loop)
        if protocol.lost:
            break
    if not hung_up:
        got += drain(read)
        os.close(read)
    loop.close()
    assert written.startswith(got)
    return seen, protocol.events, got


@hypothesis.given(SCRIPT)
def test_flow_control_is_asyncios(script):
    with Logged():
        seen, events, got = same_on_both(play, script)
    assert events[0] == "made" and events[-1][0] == "lost"
    words = [event for event in events[1:-1]]
    assert words == ["pause", "resume"] * (len(words) // 2) + ["pause"] * (len(words) % 2)


def test_limits_may_be_any_numbers():
    def scenario(impl):
        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_write_pipe(asyncio.Protocol, open(os.pipe()[1], "wb"))
            results = []
            for limits in (1e6,), (2**70,), (1000, 10.5), (None, 7), (1, 2), (-1,):
                results.append(outcome(transport.set_write_buffer_limits, *limits))
                results.append(transport.get_write_buffer_limits())
            transport.abort()
            await asyncio.sleep(0)
            return results

        return impl.run(main())

    same_on_both(scenario)

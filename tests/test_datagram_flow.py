"""One datagram at a time, pausing, floods, contexts; flow control and random programs."""

import asyncio
import contextvars
import socket

from datagrams import Recorder, drain, lost, on_both, queue_size_is_exact, udp, unix_pair
from hypothesis import given
from hypothesis import strategies as st
from support import close_tidily, outcome, same_on_both, turns, until

# -- one at a time ---------------------------------------------------------------


def test_what_a_protocol_schedules_runs_before_its_next_datagram():
    """Datagrams come in batches from the kernel, but a program cannot tell."""

    async def scenario(loop):
        log = []

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                log.append(data)
                loop.call_soon(log.append, b"after " + data)

        transport, protocol = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for round in range(5):
                for i in range(40):
                    sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
                await until(lambda: len(log) == 80 * (round + 1))
        await lost((transport, protocol))
        return log

    log, _ = on_both(scenario)
    expected = [entry for i in range(40) for entry in (b"%d" % i, b"after %d" % i)]
    assert log == expected * 5


def test_a_small_queue_does_not_overflow_if_its_reader_is_as_fast():
    async def scenario(loop):
        queue = asyncio.Queue(2)

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                try:
                    queue.put_nowait(data)
                except asyncio.QueueFull:
                    self.log.append(("dropped", data))

        transport, protocol = await udp(loop, Protocol)
        received = []

        async def reader():
            while len(received) + len(protocol.events("dropped")) < 150:
                received.append(await queue.get())

        task = asyncio.ensure_future(reader())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(3):
                for j in range(50):
                    sock.sendto(b"%d" % (i * 50 + j), transport.get_extra_info("sockname"))
                await until(lambda: len(received) == (i + 1) * 50)
        await task
        await lost((transport, protocol))
        return received == [b"%d" % i for i in range(150)]

    assert on_both(scenario)[0]


def test_stop_in_a_callback(loop):
    class Protocol(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            loop.stop()

    transport, protocol = loop.run_until_complete(udp(loop, Protocol))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(50):
            sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
    for i in range(50):
        loop.run_forever()
        assert len(protocol.data()) == i + 1
    loop.run_until_complete(lost((transport, protocol)))


def test_pausing_in_a_callback():
    async def scenario(loop):
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.pause_reading()

        transport, protocol = await udp(loop, Protocol)
        counts = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(40):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            for i in range(40):
                await until(lambda: len(protocol.data()) == i + 1)
                await asyncio.sleep(0.001)
                counts.append((len(protocol.data()), transport.is_reading()))
                transport.resume_reading()
                transport.resume_reading()
        await lost((transport, protocol))
        return counts, protocol.data()

    counts, data = on_both(scenario)[0]
    assert data == [b"%d" % i for i in range(40)]


def test_paused_in_the_middle_of_a_batch(loop, run):
    """What was taken from the kernel already waits, and comes first."""

    async def main():
        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if len(self.data()) == 133:
                    self.transport.pause_reading()

        transport, protocol = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(160):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.data()) == 133)
            for i in range(160, 170):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await asyncio.sleep(0.005)
            assert len(protocol.data()) == 133
            transport.resume_reading()
            await until(lambda: len(protocol.data()) == 170)
        assert protocol.data() == [b"%d" % i for i in range(170)]
        await lost((transport, protocol))

    run(main())


def test_a_new_protocol_gets_the_next_datagram():
    async def scenario(loop):
        second = Recorder()

        class Protocol(Recorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == b"30":
                    self.transport.set_protocol(second)

        transport, first = await udp(loop, Protocol)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for i in range(40):
                sock.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await until(lambda: len(second.data()) == 9)
        transport.close()
        await second.lost.wait()
        return first.data(), second.data(), first.log[-1][0], transport.get_protocol()

    on_both(scenario)


def test_timers_and_other_sockets_are_served_in_a_flood(loop, run):
    async def main():
        flooded, protocol = await udp(loop)
        other, answered = await udp(loop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            ticks = []

            def tick():
                ticks.append(loop.time())
                for _ in range(100):
                    sock.sendto(b"flood", flooded.get_extra_info("sockname"))
                sock.sendto(b"%d" % len(ticks), other.get_extra_info("sockname"))
                if len(ticks) < 50:
                    loop.call_later(0.0005, tick)

            tick()
            await until(lambda: len(answered.data()) == 50)
        assert answered.data() == [b"%d" % i for i in range(1, 51)]
        await lost((flooded, protocol), (other, answered))

    run(main())


def test_a_flood_from_another_thread(loop, run):
    async def main():
        transport, protocol = await udp(loop)
        where = transport.get_extra_info("sockname")

        def flood():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for i in range(3000):
                    sock.sendto(b"%d" % i, where)

        await asyncio.to_thread(flood)
        await until(lambda: len(protocol.data()) > 20)
        await asyncio.sleep(0.02)
        numbers = [int(data) for data in protocol.data()]
        assert numbers == sorted(numbers)
        await lost((transport, protocol))

    run(main())


# -- contexts ----------------------------------------------------------------------


@queue_size_is_exact
def test_contexts():
    variable = contextvars.ContextVar("variable", default=0)

    async def scenario(loop):
        seen = []

        class Protocol(Recorder):
            def connection_made(self, transport):
                seen.append(("made", variable.get()))
                super().connection_made(transport)
                variable.set("made")

            def datagram_received(self, data, addr):
                seen.append((data, variable.get()))
                variable.set(data)

            def connection_lost(self, exc):
                seen.append(("lost", variable.get()))
                super().connection_lost(exc)

            def pause_writing(self):
                seen.append(("pause", variable.get()))

            def resume_writing(self):
                seen.append(("resume", variable.get()))
                variable.set("resumed")

        variable.set("creator")
        transport, protocol, other = await unix_pair(loop, Protocol)
        variable.set("later")
        with other:
            for data in (b"one", b"two"):
                other.send(data)
                await until(lambda: seen[-1][0] == data)
            transport.pause_reading()
            transport.resume_reading()
            other.send(b"three")
            await until(lambda: seen[-1][0] == b"three")
            transport.set_write_buffer_limits(10)
            variable.set("sender")
            while transport.get_write_buffer_size() < 20:
                transport.sendto(b"fill")
            variable.set("later still")
            while transport.get_write_buffer_size():
                drain(other)
                await asyncio.sleep(0)
        variable.set("closer")
        await lost((transport, protocol))
        return seen, variable.get()

    on_both(scenario)


# -- flow control ------------------------------------------------------------------


def test_limits():
    async def scenario(loop):
        transport, protocol = await udp(loop)
        found = [transport.get_write_buffer_limits()]
        for arguments in (
            {"high": 100},
            {"low": 100},
            {"high": 0},
            {"high": 10, "low": 10},
            {"high": 10.5, "low": 0.5},
            {"high": 1 << 100},
            {"high": 1, "low": 2},
            {"high": -1},
            {"low": -1},
            {},
        ):
            found.append(outcome(transport.set_write_buffer_limits, **arguments))
            found.append(transport.get_write_buffer_limits())
        found.append(outcome(transport.set_write_buffer_limits, 50, 5))
        for wrong in ({"high": "x"}, {"low": b"x"}, {"high": object()}):
            assert outcome(transport.set_write_buffer_limits, **wrong)[:2] == ("raised", TypeError)
        found.append(transport.get_write_buffer_limits())
        await lost((transport, protocol))
        return found

    on_both(scenario)


@queue_size_is_exact
def test_pause_and_resume():
    async def scenario(loop):
        transport, protocol, other = await unix_pair(loop)
        transport.set_write_buffer_limits(high=100, low=20)
        with other:
            for _ in range(3):
                while not protocol.log[-1][0] == "pause":
                    transport.sendto(b"x" * 30)
                transport.sendto(b"x" * 30)
                drain(other)
                await until(lambda: protocol.log[-1][0] == "resume")
                while transport.get_write_buffer_size():
                    drain(other)
                    await asyncio.sleep(0)
        await lost((transport, protocol))
        return [event[0] for event in protocol.log], protocol.events("pause")

    kinds, sizes = on_both(scenario)[0]
    assert kinds == ["made"] + ["pause", "resume"] * 3 + ["lost"]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3000)),
        st.tuples(st.just("read"), st.integers(1, 12)),
        st.tuples(st.just("limits"), st.integers(0, 5000)),
        st.tuples(st.just("receive"), st.integers(0, 100)),
        st.sampled_from([("turn",), ("pause",), ("resume",)]),
    ),
    max_size=60,
)


@queue_size_is_exact
@given(OPERATIONS, st.sampled_from(["close", "abort"]))
def test_random_programs(operations, ending):
    """Every event in the same order, on both; pauses and resumes come in turn."""

    def running(implementation):
        loop = implementation.new_event_loop()
        transport, protocol, other = loop.run_until_complete(unix_pair(loop))
        transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        received = 0
        for name, *arguments in operations:
            if name == "send":
                transport.sendto(b"x" * arguments[0])
            elif name == "read":
                for _ in range(arguments[0]):
                    try:
                        protocol.log.append(("peer", len(other.recv(5000))))
                    except BlockingIOError:
                        pass
            elif name == "receive":
                try:
                    other.send(b"y" * arguments[0])
                    received += not transport._paused
                except BlockingIOError:
                    pass
            elif name == "limits":
                transport.set_write_buffer_limits(arguments[0])
            elif name == "pause":
                turns(loop, 12)
                transport.pause_reading()
            elif name == "resume":
                transport.resume_reading()
            # Long enough for all that is readable, and for one round of sending.
            turns(loop, 12)
            protocol.log.append(("size", transport.get_write_buffer_size()))
        getattr(transport, ending)()
        for _ in range(200):
            if protocol.lost.is_set():
                break
            protocol.log.append(("rest", len(drain(other))))
            turns(loop, 1)
        other.close()
        close_tidily(loop)
        kinds = [event[0] for event in protocol.log if event[0] in ("pause", "resume", "lost")]
        assert kinds[-1] == "lost"
        assert kinds[:-1] == (["pause", "resume"] * 60)[: len(kinds) - 1]
        # How much of the queue goes in one turn of sending is up to the kernel's batches.
        return [event for event in protocol.log if event[0] not in ("rest", "resume")], sum(
            event[1] for event in protocol.log if event[0] == "rest"
        )

    same_on_both(running)

"""When stream transports send what was written: together, and so that nobody sees that it was later."""

import asyncio
import contextvars
import os
import socket
import subprocess
import time

import pytest
from streams import (
    BIG,
    LIMIT,
    OWN_CONTEXT,
    Events,
    connect,
    on_loop,
    plain,
    raw_pair,
    receive_all,
    small_buffers,
)
from support import HOTLOOP, collect, outcome, same_on_both, until


def test_pieces_written_by_one_entry_arrive_in_order(loop, run, kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        expected = b""
        for number in range(50):
            for piece in (b"head%d" % number, b"b" * number * 50, b"tail"):
                transport.write(piece)
                expected += piece
            if number % 4 == 0:
                transport.writelines([b"x", b"y" * 900])
                expected += b"x" + b"y" * 900
            if number % 3 == 0:
                await asyncio.sleep(0)
        transport.close()
        assert await receive_all(peer) == expected
        await protocol.lost
        peer.close()

    run(main())


@pytest.mark.parametrize(
    "look",
    [
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.get_extra_info("socket"),
        lambda transport: transport._sock,
        lambda transport: repr(transport),
        lambda transport: transport.set_write_buffer_limits(5),
        lambda transport: transport.write_eof(),
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
        lambda transport: transport._make_empty_waiter(),
    ],
)
def test_whoever_looks_finds_the_data_sent(loop, run, look):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport.write(b"sent")
        look(transport)
        peer.setblocking(False)
        assert peer.recv(10) == b"sent"
        transport._reset_empty_waiter()
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


async def connect_to_running_loop(protocol):
    """Once the core has measured its clock, before which it lets no write wait."""
    await asyncio.sleep(0.02)
    transport, peer = await connect(protocol)
    peer.setblocking(False)
    return transport, peer


def test_data_is_sent_when_the_callback_returns(loop, run):
    """Sleeping in the callback that wrote is the one way to see that it was not sent at once."""

    async def main():
        protocol = Events()
        transport, peer = await connect_to_running_loop(protocol)
        seen = []
        loop.call_soon(transport.write, b"from a callback")
        loop.call_soon(lambda: seen.append(peer.recv(100)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.call_later(0, transport.write, b"from a timer")
        await asyncio.sleep(0.001)
        seen.append(peer.recv(100))
        loop.call_soon_threadsafe(transport.write, b"from outside")
        await asyncio.sleep(0.001)
        seen.append(peer.recv(100))
        assert seen == [b"from a callback", b"from a timer", b"from outside"]
        transport.write(b"the last")
        loop.stop()
        await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        return peer

    task = loop.create_task(main())
    loop.run_forever()
    peer = run(task)
    assert peer.recv(100) == b"the last"
    peer.close()


def test_data_is_sent_before_a_task_goes_on_that_slept(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect_to_running_loop(protocol)

        async def write():
            transport.write(b"from a task")

        task = loop.create_task(write())
        await asyncio.sleep(0)
        assert peer.recv(100) == b"from a task"
        await task
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


async def write_after(start, transport, data):
    await start
    transport.write(data)


def test_data_does_not_wait_for_many_tasks_that_are_woken(loop, run):
    """One of them may run before it is sent."""

    async def main():
        protocol = Events()
        transport, peer = await connect_to_running_loop(protocol)
        start = loop.create_future()

        async def work():
            await start
            time.sleep(0.002)

        async def look():
            await start
            return peer.recv(100)

        tasks = [
            loop.create_task(coro)
            for coro in (write_after(start, transport, b"long ago"), work(), look())
        ]
        loop.call_later(0.001, start.set_result, None)
        assert (await asyncio.gather(*tasks))[2] == b"long ago"
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


def test_what_takes_long_to_find_does_not_wait_for_what_may_take_as_long(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect_to_running_loop(protocol)
        start = loop.create_future()

        async def work():
            await start
            time.sleep(0.002)
            transport.write(b"found")

        async def look():
            await start
            return peer.recv(100)

        tasks = [loop.create_task(coro) for coro in (work(), look())]
        loop.call_later(0.001, start.set_result, None)
        assert (await asyncio.gather(*tasks))[1] == b"found"
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


@pytest.mark.parametrize("ends", ["stop", "SystemExit"])
def test_a_task_that_ends_the_loop_leaves_nothing_unsent(loop, run, ends):
    async def main():
        return await connect_to_running_loop(Events())

    transport, peer = run(main())
    start = loop.create_future()

    async def end():
        await start
        if ends == "SystemExit":
            raise SystemExit
        loop.stop()
        loop.create_task(asyncio.sleep(0))

    async def be_woken():
        await start

    tasks = [
        loop.create_task(coro)
        for coro in (write_after(start, transport, b"the last"), end(), be_woken())
    ]
    loop.call_soon(start.set_result, None)
    outcome(loop.run_forever)
    assert peer.recv(100) == b"the last"
    assert (tasks[1].exception() is not None) == (ends == "SystemExit")
    transport.abort()
    run(asyncio.sleep(0))
    peer.close()


def test_writing_while_the_loop_does_not_run(loop, run):
    protocol_made = []

    async def main():
        protocol_made.append(Events())
        return await connect(protocol_made[0])

    transport, peer = run(main())
    transport.write(b"at once")
    peer.setblocking(False)
    assert peer.recv(100) == b"at once"
    transport.close()
    run(protocol_made[0].lost)
    peer.close()


def test_several_transports_are_flushed_in_the_order_of_their_writes():
    async def main():
        log = []
        made = []
        for name in "abc":
            ours, peer = raw_pair()
            peer.setblocking(False)
            writer, reader = Events(), Events()
            reader.did = lambda event, *args, name=name: log.append((name, event, *args))
            await connect(writer, sockets=(ours, peer))
            await connect(reader, sockets=(peer, ours))
            made.append(writer)
        for index in (1, 0, 2, 1):
            made[index].transport.write(b"%d" % index)
        await asyncio.sleep(0.005)
        for writer in made:
            writer.transport.close()
        await until(lambda: sum(entry[1] == "connection_lost" for entry in log) == 3)
        await asyncio.sleep(0)
        return [entry[0] for entry in log if entry[1] == "data_received"][:3]

    order, contexts = same_on_both(on_loop(main))
    assert contexts == [] and sorted(order) == ["a", "b", "c"]


def test_a_large_write_does_not_wait(loop, run):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol)
        transport.write(BIG)
        peer.setblocking(False)
        assert len(peer.recv(100)) == 100
        transport.abort()
        await protocol.lost
        peer.close()

    run(main())


def how_many(peer):
    try:
        return len(peer.recv(10))
    except BlockingIOError:
        return 0


async def wait():
    await asyncio.sleep(0.001)


def sent_early(*bursts, before=wait):
    """Of so many writes in a row, each time after a poll: how many were sent before the task went on."""

    async def main():
        transport, peer = await connect_to_running_loop(Events())
        early = []
        for writes in bursts:
            await before()
            for _ in range(writes):
                transport.write(b"x")
            early.append(how_many(peer))
            await asyncio.sleep(0.001)
            assert early[-1] + how_many(peer) == writes
        transport.abort()
        await asyncio.sleep(0)
        peer.close()
        return early

    return on_loop(main)(HOTLOOP)[0]


def test_who_writes_as_last_time_is_not_kept_waiting():
    """The peer works while the task still does.  As many pieces as last time are sent together."""
    assert sent_early(1, 1, 1, 3, 3, 3, 2, 1, 1) == [0, 1, 1, 1, 3, 3, 0, 0, 1]


def test_among_others_that_are_ready_writes_wait():
    async def wait_together():
        await wait()
        asyncio.get_running_loop().call_soon(bool)

    assert sent_early(1, 1, 1, before=wait_together) == [0, 0, 0]


def test_in_a_loop_that_need_not_wait_writes_do():
    ours, peer = raw_pair()

    async def work():
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, ours.recv, 10)
        peer.send(b"x")
        time.sleep(0.001)  # the next turn polls
        for _ in range(3):
            await asyncio.sleep(0)
        loop.remove_reader(ours)

    assert sent_early(1, 1, 1, before=work) == [0, 0, 0]
    ours.close()
    peer.close()


def test_the_context_that_resume_writing_changed_is_not_the_next_writers():
    where = contextvars.ContextVar("where")

    async def main():
        log = []
        protocol = Events(
            resume_writing=lambda self: where.set("resuming"),
            connection_lost=lambda self, exc: log.append(where.get("nowhere")),
        )
        transport, peer = await connect(protocol)
        small_buffers(transport.get_extra_info("socket"), peer)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(64 * 1024, low=0)
        loop.call_soon(transport.write, BIG[:100_000], context=contextvars.Context())
        received = 0
        while received < 100_000:
            received += len(await loop.sock_recv(peer, 100_000))
        await until(lambda: "resume_writing" in protocol.log)
        where.set("writing")
        for _ in range(10):
            transport.write(BIG[:5_000])  # not so large that it is sent alone
        where.set("closing")
        transport.close()
        assert len(await receive_all(peer)) == 50_000
        await protocol.lost
        peer.close()
        return log

    assert same_on_both(on_loop(main)) == (["resuming" if OWN_CONTEXT else "writing"], [])


# -- who has the socket need not ask -----------------------------------------


def shut_down(transport, sock):
    sock.shutdown(socket.SHUT_WR)


def close(transport, sock):
    sock.close()


@pytest.mark.parametrize("use", [shut_down, close])
@pytest.mark.parametrize("kept", ["own", "shown"])
def test_what_was_written_is_sent_before_a_kept_socket_is_used(use, kept):
    if kept == "shown" and use is close:
        pytest.skip("a TransportSocket cannot be closed")

    async def main():
        ours, peer = raw_pair()
        sock = ours
        protocol = Events()
        transport, _ = await connect(protocol, sockets=(ours, peer))
        if kept == "shown":
            sock = transport.get_extra_info("socket")
            del ours
        transport.write(b"head")
        transport.write(b"body")
        use(transport, sock)
        received = await receive_all(peer)
        transport.abort()
        await protocol.lost
        peer.close()
        return received

    assert same_on_both(on_loop(main)) == (b"headbody", [])


def test_a_socket_that_was_only_looked_at_does_not_hurry_writes():
    async def main():
        transport, peer = await connect(Events())
        peer.setblocking(False)
        transport.get_extra_info("socket").getsockname()
        transport.write(b"head")
        early = outcome(peer.recv, 10)[0]
        await asyncio.sleep(0)
        late = peer.recv(10)
        transport.abort()
        await asyncio.sleep(0)
        peer.close()
        return early, late

    assert on_loop(main)(HOTLOOP) == (("raised", b"head"), [])


def test_what_the_kernel_had_not_taken_when_the_loop_was_closed():
    def scenario(impl):
        async def main():
            transport, peer = await connect(Events())
            transport.write(BIG)
            return transport, peer

        loop = impl.new_event_loop()
        transport, peer = loop.run_until_complete(main())
        loop.close()
        results = [
            plain(repr(transport)),
            transport.get_write_buffer_size() > 0,
            outcome(transport.write_eof),
            outcome(transport.close),
            transport.is_closing(),
        ]
        with pytest.warns(ResourceWarning) as caught:
            del transport
            collect()
        peer.close()
        return results, {plain(str(each.message)) for each in caught}

    assert "unclosed transport <TRANSPORT closing fd=N>" in same_on_both(scenario)[1]


# -- what ends with the context of the last callback -------------------------


@pytest.mark.parametrize("way", ["call_soon", "call_later", "done-callback", "the last"])
@pytest.mark.parametrize("act", ["write", "stop"])
def test_a_finalizer_when_the_loop_leaves_a_context(way, act):
    var = contextvars.ContextVar("var")

    def scenario(impl):
        loop = impl.new_event_loop()
        ours, peer = raw_pair()
        peer.settimeout(LIMIT)
        protocol, transport = loop.run_until_complete(make(loop, ours))

        class Last:
            def __del__(self):
                transport.write(b"sent") if act == "write" else loop.stop()

        def callback(*args):
            var.set(Last())
            if way == "the last":
                loop.stop()

        if way == "call_later":
            loop.call_later(0.01, callback)
        elif way == "done-callback":
            future = loop.create_future()
            future.add_done_callback(callback)
            loop.call_later(0.01, future.set_result, None)
            del future
        else:
            loop.call_soon(callback)
        if act == "write":
            loop.add_reader(peer, loop.stop)
        late = loop.call_later(LIMIT, loop.stop)
        loop.run_forever()
        in_time = late.when() > loop.time()
        received = act == "write" and peer.recv(10)
        loop.remove_reader(peer)
        late.cancel()
        transport.abort()
        loop.run_until_complete(protocol.lost)
        peer.close()
        loop.close()
        return in_time, received

    async def make(loop, ours):
        protocol = Events()
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        return protocol, transport

    assert same_on_both(scenario) == (True, act == "write" and b"sent")


# -- who knows the descriptor ------------------------------------------------


@pytest.mark.parametrize("way", ["number", "os.dup", "socket.dup", "subprocess", "process"])
def test_who_was_told_the_descriptor_sends_after_what_was_written(way, kind):
    async def main():
        protocol = Events()
        transport, peer = await connect(protocol, kind)
        fd = transport.get_extra_info("socket").fileno()
        twin = transport.get_extra_info("socket").dup()
        await asyncio.sleep(0)
        transport.write(b"head ")
        if way == "number":
            os.write(fd, b"body")
        elif way == "os.dup":
            duplicate = os.dup(fd)
            os.write(duplicate, b"body")
            os.close(duplicate)
        elif way == "socket.dup":
            twin.send(b"body")
        elif way == "subprocess":
            subprocess.run(["printf", "body"], stdout=fd, check=True)
        else:
            process = await asyncio.create_subprocess_exec("printf", "body", stdout=fd)
            await process.wait()
        twin.close()
        transport.close()
        received = await receive_all(peer)
        await protocol.lost
        peer.close()
        return received

    assert same_on_both(on_loop(main))[0] == b"head body"

"""Waits of sock_recv() and its relatives: beside others on the descriptor, closed, or on a number used again."""

import asyncio
import errno
import os
import socket
import sys
import time
import weakref

import pytest
from sockets import calls, cancel, fill, stream_pair, waiting, watched
from support import collect, same_on_both, until


async def wait_often(loop, sock, peer):
    """Wait for the socket so often that it stays registered with the kernel in between."""
    for i in range(8):
        task = await waiting(loop, loop.sock_recv(sock, 10))
        peer.send(b"%d" % i)
        assert await asyncio.wait_for(task, 5) == b"%d" % i


# -- loops that are closed, sockets that are -----------------------------------


def test_on_a_closed_loop(impl, pair):
    left, right = pair
    loop = impl.new_event_loop()
    loop.close()

    def finish(coro):
        with pytest.raises(StopIteration) as caught:
            coro.send(None)
        return caught.value.value

    right.send(b"there")
    assert finish(loop.sock_recv(left, 10)) == b"there"
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(left, 10).send(None)


def test_a_loop_that_is_closed_while_one_waits(impl, pair):
    left, right = pair
    loop = impl.new_event_loop()
    coro = loop.sock_recv(left, 10)
    future = coro.send(None)
    assert asyncio.isfuture(future) and not future.done()
    loop.close()
    coro.close()
    del future, coro
    collect()


def test_a_socket_that_is_closed_while_one_waits(loop, run, pair):
    """As with any descriptor, nothing happens then; the wait can be cancelled."""
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        left.close()
        await asyncio.sleep(0.01)
        assert not task.done()
        await cancel(task)

    run(main())


@pytest.mark.parametrize("reader", ["recv", "recv_into", "recvfrom"])
def test_a_number_used_again_in_the_turn_in_which_it_was_ready(loop, run, reader):
    """What comes for another socket must not go to who waited on that number before."""

    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        others = []

        def swap():
            loop.remove_reader(woken)
            number = left.fileno()
            left.close()
            while number not in (sock.fileno() for sock in others):
                others.extend(stream_pair())
            for sock in others:
                sock.send(b"not yours")

        task = await waiting(loop, calls(loop, left)[reader]())
        waker, woken = stream_pair()
        loop.add_reader(woken, swap)
        # Both are found ready by one poll; in half of the orders swap() comes first.
        waker.send(b"x")
        right.send(b"mine")
        await until(lambda: others)
        await asyncio.sleep(0.01)
        if not task.done():
            await cancel(task)
        elif task.exception() is None:
            assert task.result() in (b"mine", 4, (b"mine", None), (b"mine", ""))
        else:
            assert task.exception().errno == errno.EBADF
        for sock in others:
            assert await loop.sock_recv(sock, 20) == b"not yours"
        for sock in (right, waker, woken, *others):
            sock.close()

    run(main())


def test_closed_in_the_turn_in_which_a_side_is_ready_that_nobody_waits_for(loop, run, pair):
    left, right = pair
    trigger, other = stream_pair()

    def close():
        loop.remove_reader(trigger)
        left.close()

    async def main():
        sending = await waiting(loop, loop.sock_sendall(left, bytes(10_000_000)))
        receiving = await waiting(loop, loop.sock_recv(left, 1))
        right.send(b"1")
        assert await receiving == b"1"
        loop.add_reader(trigger, close)
        right.send(b"2")
        other.send(b"3")
        await until(lambda: left.fileno() == -1)
        await asyncio.sleep(0.001)
        await cancel(sending)

    with trigger, other:
        run(main())


def test_a_descriptor_used_again_while_armed(loop, run):
    """A wait that just ended may leave the number registered; another socket must not notice."""

    async def main():
        for i in range(50):
            left, right = stream_pair()
            with left, right:
                await wait_often(loop, left, right)
                if i % 2:
                    await wait_often(loop, right, left)

    run(main())


@pytest.mark.parametrize("how", ["reader", "transport", "pipe", "timer"])
def test_other_things_by_the_number_of_an_armed_descriptor(loop, run, how):
    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        number = left.fileno()
        left.close()
        if how == "timer":
            # Timers open a descriptor of the loop's own when first needed.
            for delay in (0.001, 0.002):
                await asyncio.sleep(delay)
            right.close()
            return
        other, peer = stream_pair() if how != "pipe" else os.pipe()
        if how == "pipe":
            assert number in (other, peer)
            event = asyncio.Event()
            loop.add_reader(other, event.set)
            os.write(peer, b"x")
            await asyncio.wait_for(event.wait(), 5)
            loop.remove_reader(other)
            os.close(other)
            os.close(peer)
        elif how == "reader":
            assert number in (other.fileno(), peer.fileno())
            for one, two in ((other, peer), (peer, other)):
                event = asyncio.Event()
                loop.add_reader(one, event.set)
                two.send(b"x")
                await asyncio.wait_for(event.wait(), 5)
                loop.remove_reader(one)
            other.close()
            peer.close()
        else:
            for one, two in ((other, peer), (peer, other)):
                assert number in (other.fileno(), peer.fileno())
                reader, writer = await asyncio.open_connection(sock=one.dup())
                writer.close()
            reader, writer = await asyncio.open_connection(sock=other)
            peer.send(b"hello\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"hello\n"
            writer.close()
            await writer.wait_closed()
            peer.close()
        right.close()

    run(main())


def test_sockets_and_transports_take_turns_on_a_number(loop, run):
    async def main():
        for i in range(20):
            left, right = stream_pair()
            if i % 2:
                await wait_often(loop, left, right)
                left.close()
            else:
                reader, writer = await asyncio.open_connection(sock=left)
                right.send(b"y\n")
                assert await asyncio.wait_for(reader.readline(), 5) == b"y\n"
                writer.close()
                await writer.wait_closed()
            right.close()

    run(main())


def test_a_socket_that_is_passed_on(loop, run):
    """Closed here, it lives on elsewhere: what comes for it there must not keep the loop busy."""

    async def main():
        left, right = stream_pair()
        with right:
            task = await waiting(loop, loop.sock_recv(left, 10))
            right.send(b"to whom?")
            await task
            with socket.fromfd(left.fileno(), left.family, left.type):
                left.close()
                right.send(b"there")
                used = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - used < 0.1

    run(main())


def test_data_that_comes_between_two_waits(loop, run, pair):
    left, right = pair

    async def main():
        for _ in range(3):
            await wait_often(loop, left, right)
            right.send(b"early")
            await asyncio.sleep(0.01)
            assert await loop.sock_recv(left, 10) == b"early"
            await asyncio.sleep(0.01)

    run(main())


def test_a_socket_is_freed_after_its_last_wait(loop, run):
    async def main():
        left, right = stream_pair()
        await wait_often(loop, left, right)
        ref = weakref.ref(left)
        left.close()
        del left
        right.close()
        await asyncio.sleep(0)
        collect()
        assert ref() is None

    run(main())


# -- sharing a descriptor ------------------------------------------------------


def test_reading_and_writing_at_once(loop, run, pair):
    left, right = pair

    async def main():
        sending = await waiting(loop, loop.sock_sendall(left, bytes(3_000_000)))
        receiving = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await receiving == b"hello"
        assert not sending.done()
        received = 0
        while received < 3_000_000:
            received += len(await loop.sock_recv(right, 1 << 20))
        await sending

    run(main())
    assert not watched(loop, left)


def test_the_last_of_two_that_wait_gets_it(loop, run, pair):
    left, right = pair

    async def main():
        first = await waiting(loop, loop.sock_recv(left, 10))
        second = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await second == b"hello"
        right.send(b"again")
        await asyncio.sleep(0.01)
        assert not first.done()
        await cancel(first)
        assert await loop.sock_recv(left, 10) == b"again"

    run(main())


def test_the_first_of_two_is_cancelled(loop, run, pair):
    left, right = pair

    async def main():
        first = await waiting(loop, loop.sock_recv(left, 10))
        second = await waiting(loop, loop.sock_recv(left, 10))
        await cancel(first)
        right.send(b"hello")
        assert await asyncio.wait_for(second, 5) == b"hello"

    run(main())


def test_a_reader_takes_the_place_of_who_waits(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        seen = []
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        right.send(b"hello")
        await until(lambda: seen)
        assert seen == [b"hello"]
        assert not task.done()
        await cancel(task)
        right.send(b"again")
        await until(lambda: len(seen) == 2)
        assert loop.remove_reader(left)

    run(main())


def test_who_waits_takes_the_place_of_a_reader(loop, run, pair):
    left, right = pair

    async def main():
        seen = []
        loop.add_reader(left, seen.append, 1)
        task = await waiting(loop, loop.sock_recv(left, 10))
        right.send(b"hello")
        assert await task == b"hello"
        right.send(b"again")
        await asyncio.sleep(0.01)
        assert seen == []
        assert not loop.remove_reader(left)

    run(main())


def test_remove_reader_takes_who_waits_away(loop, run, pair):
    left, right = pair

    async def main():
        task = await waiting(loop, loop.sock_recv(left, 10))
        writing = await waiting(loop, loop.sock_sendall(left, bytes(5_000_000)))
        assert loop.remove_reader(left) is True
        assert loop.remove_reader(left) is False
        assert loop.remove_writer(left) is True
        right.send(b"hello")
        await asyncio.sleep(0.01)
        assert not task.done()
        await cancel(task)
        await cancel(writing)
        assert await loop.sock_recv(left, 10) == b"hello"

    run(main())


def test_a_writer_beside_who_reads(loop, run, pair):
    left, right = pair

    async def main():
        seen = []
        task = await waiting(loop, loop.sock_recv(left, 10))
        loop.add_writer(left, seen.append, 1)
        await until(lambda: seen)
        right.send(b"hello")
        assert await task == b"hello"
        count = len(seen)
        await until(lambda: len(seen) > count)
        loop.remove_writer(left)

    run(main())


def test_a_socket_that_a_transport_owns():
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = stream_pair()
            reader, writer = await asyncio.open_connection(sock=left)
            fill(left)
            texts = []
            for method in ("recv", "recv_into", "sendall", "recvfrom"):
                with pytest.raises(RuntimeError) as caught:
                    await calls(loop, left)[method]()
                texts.append(str(caught.value).split(" <")[0].replace(str(left.fileno()), "FD"))
            right.send(b"hello")
            assert await reader.read(10) == b"hello"
            writer.transport.abort()
            right.close()
            await asyncio.sleep(0.01)
            return texts

        return implementation.run(main())

    assert same_on_both(scenario) == ["File descriptor FD is used by transport"] * 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio lets two transports fight for it")
@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
def test_two_transports_for_one_socket(method):
    def scenario(implementation):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = stream_pair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            with pytest.raises(RuntimeError) as caught:
                await getattr(loop, method)(asyncio.Protocol, sock=left)
            transport.abort()
            right.close()
            await asyncio.sleep(0.01)
            return str(caught.value).split(" <")[0]

        return implementation.run(main())

    assert same_on_both(scenario) == "File descriptor"

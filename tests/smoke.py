"""python tests/smoke.py: does an installed hotloop work at all?  For wheels, on systems where nothing
but the standard library is to be had and the tests cannot run (they read /proc)."""

import asyncio
import os
import signal
import socket
import sys
import tempfile

import hotloop

SIZE = 1 << 20


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def send_and_receive(reader, writer):
    writer.write(bytes(SIZE))
    writer.write_eof()
    assert await reader.read() == bytes(SIZE)
    writer.close()
    await writer.wait_closed()


async def tcp():
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        await asyncio.gather(
            *[send_and_receive(*await asyncio.open_connection(*address)) for _ in range(10)]
        )


async def unix():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        async with await asyncio.start_unix_server(echo, path):
            await send_and_receive(*await asyncio.open_unix_connection(path))


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.received.set_result(data)


async def udp():
    loop = asyncio.get_running_loop()
    receiving, protocol = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    address = receiving.get_extra_info("sockname")
    sending, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    sending.sendto(b"hello")
    assert await protocol.received == b"hello"
    sending.close()
    receiving.close()


async def readiness():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        received = asyncio.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(theirs, b"hello")
        assert await received == b"hello"


async def processes():
    command = [sys.executable, "-c", "print(input().upper())"]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    out, _ = await process.communicate(b"hello\n")
    assert (process.returncode, out) == (0, b"HELLO\n")


async def threads():
    assert await asyncio.gather(*[asyncio.to_thread(abs, -i) for i in range(50)]) == [*range(50)]


async def signals():
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await arrived.wait()
    assert loop.remove_signal_handler(signal.SIGUSR1)


async def timers():
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*[asyncio.sleep(i / 1000) for i in range(20)])
    assert loop.time() - began >= 0.019
    try:
        async with asyncio.timeout(0.01):
            await loop.create_future()
    except TimeoutError:
        return
    raise AssertionError("no timeout")


async def main():
    assert isinstance(asyncio.get_running_loop(), hotloop.EventLoop)
    for part in (timers, threads, readiness, tcp, unix, udp, processes, signals):
        async with asyncio.timeout(30):
            await part()


if __name__ == "__main__":
    hotloop.run(main())
    versions = f"hotloop {hotloop.__version__}, libuv {hotloop.libuv_version()}, Python {sys.version}"
    print(f"works: {versions}")

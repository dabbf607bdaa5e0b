"""tornado, which watches descriptors itself: its HTTP server and client, websockets, streams."""

import asyncio

from programs import need

need("tornado")
from tornado import httpclient, httpserver, ioloop, netutil, tcpclient, tcpserver, web, websocket  # noqa: E402


class Hello(web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.001)
        self.write({"loop": type(asyncio.get_running_loop()).__module__})


@web.stream_request_body
class Upload(web.RequestHandler):
    size = 0

    def data_received(self, chunk):
        self.size += len(chunk)

    async def post(self):
        for _ in range(10):
            self.write(b"y" * 100_000)
            await self.flush()
        self.write(str(self.size))


class Echo(websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(message)


def serve(tls=None):
    app = web.Application([("/", Hello), ("/upload", Upload), ("/ws", Echo)])
    server = httpserver.HTTPServer(app, ssl_options=tls, max_body_size=1 << 30)
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


async def requests(url, **options):
    client = httpclient.AsyncHTTPClient(force_instance=True, max_clients=20)
    answers = await asyncio.gather(*[client.fetch(url, **options) for _ in range(60)])
    assert {answer.code for answer in answers} == {200}
    body = b"x" * 10_000_000
    answer = await client.fetch(f"{url}/upload", method="POST", body=body, **options)
    assert answer.body == b"y" * 1_000_000 + b"10000000"
    client.close()


def test_http(loop):
    async def main():
        server, port = serve()
        await requests(f"http://127.0.0.1:{port}")
        server.stop()
        await server.close_all_connections()

    loop.run(main())


def test_https(loop, server_tls, certificate):
    async def main():
        server, port = serve(server_tls)
        await requests(f"https://localhost:{port}", ca_certs=str(certificate[0]))
        server.stop()
        await server.close_all_connections()

    loop.run(main())


def test_websocket(loop):
    async def main():
        server, port = serve()
        connection = await websocket.websocket_connect(f"ws://127.0.0.1:{port}/ws")
        for number in range(50):
            await connection.write_message(f"{number}" * 1000)
            assert await connection.read_message() == f"{number}" * 1000
        connection.close()
        assert await connection.read_message() is None
        server.stop()
        await server.close_all_connections()

    loop.run(main())


def test_ioloop(loop):
    """A program that sees only tornado's IOLoop."""

    class Upper(tcpserver.TCPServer):
        async def handle_stream(self, stream, address):
            line = await stream.read_until(b"\n")
            await stream.write(line.upper())
            stream.close()

    async def main():
        current = ioloop.IOLoop.current()
        assert loop.owns(current.asyncio_loop)
        ticks = []
        ticking = ioloop.PeriodicCallback(lambda: ticks.append(1), 5)
        ticking.start()
        server = Upper()
        server.listen(0, "127.0.0.1")
        port = next(iter(server._sockets.values())).getsockname()[1]
        stream = await tcpclient.TCPClient().connect("127.0.0.1", port)
        await stream.write(b"hello\n")
        assert await stream.read_until_close() == b"HELLO\n"
        assert await current.run_in_executor(None, sum, [1, 2]) == 3
        while len(ticks) < 5:
            await asyncio.sleep(0.01)
        ticking.stop()
        server.stop()

    loop.run(main())

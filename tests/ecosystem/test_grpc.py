"""grpc.aio, whose own thread wakes the loop: unary and streaming calls, deadlines, cancellation."""

import asyncio

import pytest
from programs import need

grpc = need("grpc", "grpcio")

pytestmark = pytest.mark.keeps_sockets


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/eco/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/eco/Down": grpc.unary_stream_rpc_method_handler(self.down),
            "/eco/Up": grpc.stream_unary_rpc_method_handler(self.up),
            "/eco/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/eco/Slow": grpc.unary_unary_rpc_method_handler(self.slow),
        }.get(details.method)

    async def unary(self, request, context):
        return request * 2

    async def down(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    async def up(self, requests, context):
        total = 0
        async for request in requests:
            total += len(request)
        return str(total).encode()

    async def both(self, requests, context):
        async for request in requests:
            yield request.upper()

    async def slow(self, request, context):
        await asyncio.sleep(30)
        return b""


def test_calls(loop):
    async def main():
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Service(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary("/eco/Unary")
            assert await asyncio.gather(*[unary(b"ab") for _ in range(200)]) == [b"abab"] * 200
            assert await unary(b"x" * 1_000_000) == b"x" * 2_000_000
            got = [int(item) async for item in channel.unary_stream("/eco/Down")(b"500")]
            assert got == list(range(500))

            async def parts():
                for _ in range(100):
                    yield b"x" * 10_000

            assert await channel.stream_unary("/eco/Up")(parts()) == b"1000000"
            call = channel.stream_stream("/eco/Both")()
            for word in (b"one", b"two"):
                await call.write(word)
                assert await call.read() == word.upper()
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

            slow = channel.unary_unary("/eco/Slow")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await slow(b"", timeout=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            task = asyncio.ensure_future(slow(b""))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/eco/None")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await server.stop(0.5)

    loop.run(main())

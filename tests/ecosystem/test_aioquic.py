"""aioquic: QUIC over UDP, many streams on a connection."""

import asyncio

from programs import need

need("aioquic")
from aioquic.asyncio import connect, serve  # noqa: E402
from aioquic.quic.configuration import QuicConfiguration  # noqa: E402


def test_streams(loop, certificate):
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.write_eof()

    async def one(connection, number):
        reader, writer = await connection.create_stream()
        message = bytes([number]) * 200_000
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == message

    async def main():
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["eco"])
        configuration.load_cert_chain(*certificate)
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            stream_handler=lambda *streams: tasks.append(asyncio.ensure_future(echo(*streams))),
        )
        port = server._transport.get_extra_info("sockname")[1]
        client = QuicConfiguration(alpn_protocols=["eco"], server_name="localhost")
        client.load_verify_locations(str(certificate[0]))
        async with connect("127.0.0.1", port, configuration=client) as connection:
            await connection.ping()
            await asyncio.gather(*[one(connection, number) for number in range(10)])
        server.close()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.05)

    tasks = []
    loop.run(main())

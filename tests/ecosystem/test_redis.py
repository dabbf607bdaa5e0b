"""redis-py against redis-server: pipelines, publish and subscribe, blocking commands."""

import asyncio

import pytest
from programs import need

redis = need("redis.asyncio", "redis")


def test_pipelines(loop, redis_port):
    async def one(client, number):
        async with client.pipeline(transaction=True) as pipe:
            pipe.set(f"key{number}", number)
            pipe.incr(f"key{number}")
            pipe.get(f"key{number}")
            return (await pipe.execute())[2]

    async def main():
        pool = redis.BlockingConnectionPool(
            port=redis_port, max_connections=20, decode_responses=True
        )
        async with redis.Redis.from_pool(pool) as client:
            await client.flushall()
            got = await asyncio.gather(*[one(client, number) for number in range(200)])
            assert got == [str(number + 1) for number in range(200)]
            value = "x" * 5_000_000
            await client.set("large", value)
            assert await client.get("large") == value
            assert len([key async for key in client.scan_iter("key*")]) == 200

    loop.run(main())


def test_publish_and_subscribe(loop, redis_port):
    async def main():
        async with redis.Redis(port=redis_port, decode_responses=True) as client:
            async with client.pubsub() as subscriber:
                await subscriber.subscribe("a", "b")
                await subscriber.psubscribe("c*")
                heard = []

                async def listen():
                    async for message in subscriber.listen():
                        if message["type"].endswith("message"):
                            heard.append((message["channel"], message["data"]))
                        if len(heard) == 150:
                            return

                task = asyncio.create_task(listen())
                await asyncio.sleep(0.1)
                for number in range(50):
                    for channel in ("a", "b", "cc"):
                        await client.publish(channel, number)
                await asyncio.wait_for(task, 20)
                assert heard == [(c, str(n)) for n in range(50) for c in ("a", "b", "cc")]

    loop.run(main())


def test_blocking_and_cancelled(loop, redis_port):
    async def main():
        async with redis.Redis(port=redis_port, decode_responses=True) as client:
            pop = asyncio.create_task(client.blpop("queue", timeout=20))
            await asyncio.sleep(0.05)
            await client.rpush("queue", "item")
            assert list(await pop) == ["queue", "item"]
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.blpop("queue", timeout=20), 0.05)
            assert await client.ping()

    loop.run(main())

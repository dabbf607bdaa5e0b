"""Database clients against servers on this machine, which services.py starts if they are installed."""

import sys
from contextlib import asynccontextmanager

from . import services
from .clients import AT_ONCE, Clients, measure_client
from .family import Need, Workload, modules


class Databases(Clients):
    name = "databases"
    title = "Database clients: us per query, and times as fast as asyncio"


def asyncpg_client(connections: int):
    """One SELECT on a connection out of a pool."""

    @asynccontextmanager
    async def client():
        import asyncpg

        async with asyncpg.create_pool(
            host="127.0.0.1",
            port=services.port("postgresql"),
            user="postgres",
            min_size=connections,
            max_size=connections,
            ssl=False,
        ) as pool:

            async def request() -> None:
                await pool.fetchval("SELECT $1::int + 1", 41)

            yield request

    return client


@asynccontextmanager
async def redis_client():
    """GET of one key; redis-py keeps a pool of connections."""
    async with connect_to_redis() as redis:
        await redis.set("key", "x" * 100)

        async def request() -> None:
            await redis.get("key")

        yield request


@asynccontextmanager
async def redis_pipeline():
    """100 GETs sent at once."""
    async with connect_to_redis() as redis:

        async def request() -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for _ in range(100):
                    pipeline.get("key")
                await pipeline.execute()

        yield request


def connect_to_redis():
    from redis.asyncio import Redis

    return Redis(host="127.0.0.1", port=services.port("redis"))


FAMILY = Databases()


def add(name: str, client, at_once: int, service: str, *needs: Need) -> None:
    measure = measure_client(client, at_once)
    FAMILY.workloads.append(Workload(FAMILY, name, measure, needs=needs, service=service))


if sys.platform != "win32":
    postgresql = (modules("asyncpg"), services.programs("initdb", "postgres"))
    redis = (modules("redis"), services.programs("redis-server"))
    add("asyncpg x 1", asyncpg_client(1), 1, "postgresql", *postgresql)
    add(f"asyncpg, pool of {AT_ONCE}", asyncpg_client(AT_ONCE), AT_ONCE, "postgresql", *postgresql)
    add("redis-py x 1", redis_client, 1, "redis", *redis)
    add(f"redis-py x {AT_ONCE}", redis_client, AT_ONCE, "redis", *redis)
    add("redis-py, pipeline of 100", redis_pipeline, 1, "redis", *redis)

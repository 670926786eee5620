"""Reads the CRM streams through its own consumer group, and counts every entry."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.cli.processes import StartError
from service.events.event_log import SHARDS
from service.events.redis_ping import CHECK_TIMEOUT_S, explain_error

GENERATION_KEY = "leadlog:events:generation"
BATCH = 1000
BLOCK_MS = 500
OPEN_WITHIN_S = 10.0


@dataclass
class StreamCount:
    """How often each event was read, and how often a lead's version did not increase."""

    events: Counter[str] = field(default_factory=Counter)
    versions: dict[str, int] = field(default_factory=dict)
    out_of_order: int = 0


@asynccontextmanager
async def read_streams(redis_url: str, group: str) -> AsyncIterator[StreamCount]:
    """Reads new entries in the context; removes the consumer group at its end.

    Raises StartError if Redis cannot be used.
    """
    redis, keys = await _open_streams(redis_url, group)
    count = StreamCount()
    task = asyncio.create_task(_read_forever(redis, keys, group, count))
    try:
        yield count
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with suppress(RedisError):
            for key in keys:
                await redis.xgroup_destroy(key, group)
        await redis.aclose()


async def _open_streams(redis_url: str, group: str) -> tuple[Redis, list[str]]:
    """Creates the group; returns a client and the keys of the streams. Raises StartError."""
    try:
        redis = Redis.from_url(redis_url, socket_connect_timeout=CHECK_TIMEOUT_S)
        async with asyncio.timeout(OPEN_WITHIN_S):
            generation = (await redis.get(GENERATION_KEY) or b"1").decode()
            keys = [f"leadlog:events:{{g{generation}s{shard}}}" for shard in SHARDS]
            for key in keys:
                await redis.xgroup_create(key, group, id="$", mkstream=True)
    except (RedisError, OSError, ValueError) as error:
        raise StartError(explain_error(redis_url, error)) from error
    return redis, keys


async def _read_forever(redis: Redis, keys: list[str], group: str, count: StreamCount) -> None:
    wanted: dict[Any, Any] = dict.fromkeys(keys, ">")
    while True:
        replies = await redis.xreadgroup(group, "demo", wanted, count=BATCH, block=BLOCK_MS)
        for key, entries in replies:
            for _, fields in entries:
                _count(count, fields)
            await redis.xack(key, group, *(entry_id for entry_id, _ in entries))


def _count(count: StreamCount, fields: dict[bytes, bytes]) -> None:
    lead_id, version = fields[b"lead_id"].decode(), int(fields[b"version"])
    count.events[fields[b"event_id"].decode()] += 1
    if version <= count.versions.get(lead_id, 0):
        count.out_of_order += 1
    count.versions[lead_id] = version

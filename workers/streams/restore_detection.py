"""The newest position of the log, kept in Redis to detect a database that was restored.

A copy of the data folder or a disk snapshot contains no sign of its age. Redis is not restored
with it, and so reveals ticks that the restored database no longer has.
"""

import asyncio
from contextlib import suppress

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

KEY = "leadlog:log:newest"
KEEP_S = 400 * 86_400
"""Longer than the age of any copy that is likely to be restored."""
GENERATIONS_KEY = "leadlog:log:generations"
"""The generations of all logs that have used this Redis. Streams are named by their generation, so
two restores of one dump must not begin the same one."""
TIMEOUT_S = 0.2
"""A Redis that does not respond delays the ticker by no more than this."""
RESERVE_TIMEOUT_S = 2.0
"""The same after a restore, which is rare."""


class LogPosition(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A tick and its generation."""

    generation: int
    tick: int


NO_POSITION = LogPosition(0, 0)


class NewestPosition:
    """The stored position."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, home: str) -> LogPosition | None:
        """The newest position that was stored for the log of this home (see event_log.py).

        NO_POSITION if none is stored, for example because Redis was wiped; None if Redis did not
        respond, so that a position may be stored.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                text = await self._redis.get(f"{KEY}:{home}")
            return msgspec.json.decode(text, type=LogPosition) if text else NO_POSITION
        except msgspec.DecodeError:
            return NO_POSITION
        except (RedisError, OSError):
            return None

    async def write(self, home: str, position: LogPosition) -> None:
        """Stores the newest position of a log, and that its generation is used."""
        with suppress(RedisError, OSError):
            async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
                pipe.set(f"{KEY}:{home}", msgspec.json.encode(position), ex=KEEP_S)
                pipe.sadd(GENERATIONS_KEY, position.generation)
                await pipe.execute()


async def reserve_generation(redis: Redis, newest: int) -> int:
    """Returns a generation after `newest` that no log has used in this Redis, and marks it as used.

    Raises RedisError or OSError.
    """
    async with asyncio.timeout(RESERVE_TIMEOUT_S), redis.pipeline(transaction=False) as pipe:
        pipe.smembers(GENERATIONS_KEY)
        [used] = await pipe.execute()
        unused = max(newest, *map(int, used), 0) + 1
        pipe.sadd(GENERATIONS_KEY, unused)
        await pipe.execute()
    return unused

"""The grants of all processes, stored in Redis."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.rate_limits.key_usage import KeyUsage
from service.rate_limits.share import AHEAD_PART, Share

SCRIPT = (Path(__file__).parent / "limits.lua").read_text(encoding="utf-8")
PREFIX = "leadlog:rate_limits:"
KEEP_S = 10
"""A process without a report for this long is gone; its slots are released."""
TIMEOUT_S = 0.25
AWAY: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)


class SharedCounts:
    """The client of the grants in Redis. Every call raises one of AWAY if Redis is away."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._process = secrets.token_hex(8)

    async def update(
        self, usages: Collection[KeyUsage], waiting: Mapping[Share, int], now: float
    ) -> None:
        """Report the use of these keys and request grants for `waiting`, in one round trip."""
        shares_by_usage = [usage.list_current(now) for usage in usages]
        async with self._redis.pipeline(transaction=False) as pipe:
            for usage, shares in zip(usages, shares_by_usage, strict=True):
                pipe.eval(SCRIPT, *_make_arguments(usage, shares, waiting, now))
            responses = await pipe.execute()
        for shares, response in zip(shares_by_usage, responses, strict=True):
            for share, granted, others in zip(shares, response[::2], response[1::2], strict=True):
                share.apply_grant(granted, others, now)

    async def register(self, now: float) -> int:
        """Report that this process is alive, and return the number of live processes."""
        key = f"{PREFIX}processes"
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(key, {self._process: now + KEEP_S})
            pipe.zremrangebyscore(key, "-inf", now)
            pipe.expire(key, KEEP_S)
            pipe.zcard(key)
            return int((await pipe.execute())[-1])

    async def close(self) -> None:
        """Remove this process from the live ones and disconnect."""
        try:
            await self._redis.zrem(f"{PREFIX}processes", self._process)
        finally:
            await self._redis.aclose()


def _make_arguments(
    usage: KeyUsage, shares: Sequence[Share], waiting: Mapping[Share, int], now: float
) -> Sequence[Any]:
    idle = usage.is_idle(now)
    tag = f"{PREFIX}{{{usage.key_id}}}"  # keeps the limits of a key in one slot of a cluster
    keys = [f"{tag}:{share.rule.name}:{share.ends_at:.0f}" for share in shares]
    numbers: list[int] = []
    for share in shares:
        numbers += share.request(waiting.get(share, 0), idle=idle)
        numbers.append(share.rule.span_s or KEEP_S)
    return len(keys), *keys, usage.holder, AHEAD_PART, *numbers

"""Limiters on a real Valkey that is wiped, frozen or unreachable."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from service.errors import RateLimited
from service.rate_limits.limiter import Limiter
from tests.service.rate_limits.limiters import (
    MINUTE,
    ROUTE,
    SLOTS,
    Clock,
    count_through,
    frozen,
    hold,
    hold_when_free,
    redis_url,
    run_limiters,
    run_valkey,
    try_one,
    wait_until,
)

__all__ = ["redis_url"]  # a fixture


async def test_a_wiped_redis_does_not_grant_a_limit_twice(
    redis_client: redis.asyncio.Redis, redis_url: str
) -> None:
    async with run_limiters(redis_url, 1) as (limiter,):
        assert await count_through(limiter, MINUTE, 70) == 70
        held = await hold(limiter, SLOTS, 5)
        await redis_client.flushall()
        assert await count_through(limiter, MINUTE, 200) == 30
        held += await hold_when_free(limiter, SLOTS, 1)
        with pytest.raises(RateLimited):
            await limiter.admit("key_1", SLOTS, ROUTE)


async def test_grants_of_other_processes_still_count_when_redis_is_wiped(
    redis_client: redis.asyncio.Redis, redis_url: str
) -> None:
    async with run_limiters(redis_url, 3) as (one, two, newcomer):
        assert await count_through(one, MINUTE, 50) == 50
        assert await count_through(two, MINUTE, 20) == 20
        await redis_client.flushall()
        through = 70 + await count_through(two, MINUTE, 5)
        through += await count_through(newcomer, MINUTE, 5)
        through += await count_through(one, MINUTE, 5)
        await redis_client.flushall()
        through += await count_through(one, MINUTE, 5)
        for limiter in (newcomer, two, one) * 3:
            through += await count_through(limiter, MINUTE, 40)
        assert through == 100


async def test_slots_from_before_an_outage_are_not_used_after_it(
    redis_client: redis.asyncio.Redis, redis_url: str
) -> None:
    one = Limiter(redis_url)
    for admission in await hold(one, SLOTS, 3):
        admission.end()
    one._divide_limits(OSError("away"))
    await redis_client.flushall()  # the slots are free again
    async with run_limiters(redis_url, 1) as (two,):
        await hold(two, SLOTS, 6)
        one._sharers = 0  # Redis is back
        assert await try_one(one, SLOTS) is None
    await one._counts.close()


async def test_while_redis_is_frozen_each_process_enforces_its_part(tmp_path: Path) -> None:
    async with run_valkey(tmp_path / "valkey") as server:
        client = redis.asyncio.Redis.from_url(server.url)
        pid = (await client.info("server"))["process_id"]
        async with run_limiters(server.url, 2) as (one, two):
            assert await count_through(one, MINUTE, 20) == 20
            with frozen(pid):
                assert await count_through(one, MINUTE, 200) == 30
                assert await count_through(two, MINUTE, 200) == 50
                held = await hold(one, SLOTS, 3)
                with pytest.raises(RateLimited):
                    await one.admit("key_1", SLOTS, ROUTE)
            await wait_until_shared(one, two)
            # The requests admitted meanwhile are reported: nothing is left of this minute.
            assert await count_through(one, MINUTE, 50) + await count_through(two, MINUTE, 50) == 0
            held += await hold_when_free(two, SLOTS, 3)
            with pytest.raises(RateLimited):
                await two.admit("key_1", SLOTS, ROUTE)
        await client.aclose()


async def wait_until_shared(*limiters: Limiter) -> None:
    """Wait until Redis grants again and has a report of the requests admitted meanwhile."""
    await wait_until(lambda: not any(limiter._sharers for limiter in limiters))
    for limiter in limiters:
        await limiter._requests.submit(((), ()))


async def test_a_frozen_redis_does_not_delay_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rate_limits.shared_counts.TIMEOUT_S", 2.0)
    async with run_valkey(tmp_path / "valkey") as server:
        client = redis.asyncio.Redis.from_url(server.url)
        pid = (await client.info("server"))["process_id"]
        async with run_limiters(server.url, 1) as (limiter,):
            with frozen(pid):
                async with asyncio.timeout(20):  # 40 time-outs would be 80 s
                    for _ in range(40):
                        assert await try_one(limiter, MINUTE) is not None
        await client.aclose()


@pytest.mark.parametrize("processes", [1, 4])
async def test_without_redis_at_the_start_the_processes_divide_the_limit(processes: int) -> None:
    limiter = Limiter("redis://127.0.0.1:9/0", processes, Clock())
    async with limiter.running():
        assert await count_through(limiter, MINUTE, 300) == 100 // processes
        assert await count_through(limiter, MINUTE, 10) == 0

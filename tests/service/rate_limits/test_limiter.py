"""The requests that several processes admit together, counted on one real Valkey."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis.asyncio

from service.access.plans import Plan
from service.errors import RateLimited
from service.rate_limits.limiter import Admission, Limiter
from tests.service.rate_limits.limiters import (
    MINUTE,
    ROUTE,
    SLOTS,
    Clock,
    count_through,
    hold,
    hold_when_free,
    redis_url,
    run_limiters,
    try_one,
)

__all__ = ["redis_url"]  # a fixture
pytestmark = pytest.mark.usefixtures("redis_client")


async def test_processes_share_a_limit_exactly(redis_url: str) -> None:
    async with run_limiters(redis_url, 3) as limiters:
        through = 0
        for _ in range(20):
            through += sum(
                await asyncio.gather(*[count_through(each, MINUTE, 3) for each in limiters])
            )
        assert through == 100


async def test_a_burst_in_one_process_gets_exactly_the_limit(redis_url: str) -> None:
    async with run_limiters(redis_url, 2) as (one, two):
        assert await count_through(one, MINUTE, 500) == 100
        assert await count_through(two, MINUTE, 10) == 0


async def test_a_new_minute_resets_its_own_count_and_not_the_count_of_the_day(
    redis_url: str,
) -> None:
    clock = Clock()
    plan = Plan("daily", per_minute=10, per_day=25)
    async with run_limiters(redis_url, 1, clock) as (limiter,):
        found = []
        for _ in range(4):
            found.append(await count_through(limiter, plan, 30))
            clock.ahead_s += 60
        assert found == [10, 10, 5, 0]
        with pytest.raises(RateLimited, match="25 requests per day"):
            await limiter.admit("key_1", plan, ROUTE)
        clock.ahead_s += 86_400
        assert await count_through(limiter, plan, 30) == 10


async def test_the_limit_of_a_route_refuses_that_route_only_and_refusals_are_not_counted(
    redis_url: str,
) -> None:
    plan = Plan("strict", per_minute=50, routes={"POST /leads": 20})
    async with run_limiters(redis_url, 1) as (limiter,):
        assert await count_through(limiter, plan, 200, "POST /leads") == 20
        assert await count_through(limiter, plan, 200) == 30


async def test_each_key_is_counted_separately(redis_url: str) -> None:
    async with run_limiters(redis_url, 1) as (limiter,):
        assert await count_through(limiter, MINUTE, 200) == 100
        await limiter.admit("key_2", MINUTE, ROUTE)


async def test_most_requests_need_no_redis_call(
    redis_client: redis.asyncio.Redis, redis_url: str
) -> None:
    plan = Plan("large", per_minute=1_000_000, concurrent=100_000)
    now = time.time()
    async with run_limiters(redis_url, 1, lambda: now) as (limiter,):
        await count_through(limiter, plan, 100)
        before = (await redis_client.info("commandstats"))["cmdstat_eval"]["calls"]
        for _ in range(100):
            assert await count_through(limiter, plan, 100) == 100
        after = (await redis_client.info("commandstats"))["cmdstat_eval"]["calls"]
        assert after - before < 100  # for 10,000 requests


@pytest.fixture
def stop_reports(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that stops the reports of each second; slots then last without reports."""

    def stop() -> None:
        monkeypatch.setattr("service.rate_limits.limiter.REPORT_S", 1e9)
        monkeypatch.setattr("service.rate_limits.shared_counts.KEEP_S", 1000)

    return stop


async def test_unneeded_grants_of_one_process_go_to_another(
    redis_url: str, stop_reports: Callable[[], None]
) -> None:
    plan = Plan("large", per_minute=1000)
    async with run_limiters(redis_url, 2) as (one, two):
        stop_reports()
        through = await count_through(one, plan, 3)
        (window,) = one._usages["key_1"].list_shares(ROUTE, one._clock())
        while window.granted == window.used:
            through += await count_through(one, plan, 3)
        async with asyncio.timeout(30):
            while through < 1000:
                through += await count_through(two, plan, 1500)
        assert through == 1000
        assert await count_through(one, plan, 10) + await count_through(two, plan, 10) == 0


async def test_a_change_of_plan_counts_earlier_requests(redis_url: str) -> None:
    async with run_limiters(redis_url, 2) as (one, two):
        assert await count_through(one, Plan("small", per_minute=10), 50) == 10
        larger = Plan("larger", per_minute=15)
        through = 0
        async with asyncio.timeout(30):
            while through < 5:
                through += await count_through(one, larger, 50)
        assert through == 5
        assert await count_through(two, larger, 50) == 0
        assert await count_through(two, Plan("smaller", per_minute=5), 50) == 0


async def test_concurrent_requests_are_counted_across_processes(
    redis_url: str, stop_reports: Callable[[], None]
) -> None:
    async with run_limiters(redis_url, 2) as (one, two):
        stop_reports()
        held = await hold(one, SLOTS, 4) + await hold(two, SLOTS, 2)
        for limiter in (one, two):
            with pytest.raises(RateLimited, match="6 concurrent requests"):
                await limiter.admit("key_1", SLOTS, ROUTE)
        held.pop(0).end()
        held += await hold_when_free(two, SLOTS, 1)
        with pytest.raises(RateLimited):
            await one.admit("key_1", SLOTS, ROUTE)
        for each in held:
            each.end()


async def test_requests_in_progress_count_toward_a_limit_that_is_set_later(redis_url: str) -> None:
    async with run_limiters(redis_url, 2) as (one, two):
        await hold(one, MINUTE, 4)
        assert len(await hold(one, SLOTS, 2)) == 2
        assert await try_one(one, SLOTS) is None
        assert await try_one(two, SLOTS) is None


async def test_the_slots_of_a_dead_process_are_released(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rate_limits.shared_counts.KEEP_S", 1)
    async with run_limiters(redis_url, 1) as (alive,):
        dead = Limiter(redis_url)  # it makes no further call
        await hold(dead, SLOTS, 6)
        assert await try_one(alive, SLOTS) is None
        await hold_when_free(alive, SLOTS, 6)
        assert await try_one(alive, SLOTS) is None
        await dead._counts.close()


class Torture:
    """Counts admitted and concurrent requests of all processes, and checks the limits each time."""

    plan = Plan("torture", per_minute=400, concurrent=20, routes={"POST /leads": 90})

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.at_work: list[Admission] = []
        self.through = Counter[str]()

    async def work(self, limiter: Limiter) -> None:
        """Send requests, end requests and pause, at random."""
        for _ in range(400):
            await self.ask(limiter, self.draw.choice([ROUTE, "POST /leads"]))
            self.end(self.draw.randrange(3))
            if self.draw.random() < 0.05:
                await asyncio.sleep(self.draw.choice([0.0, 0.03, 0.15]))

    async def ask(self, limiter: Limiter, route: str) -> None:
        if (admission := await try_one(limiter, self.plan, route)) is not None:
            self.at_work.append(admission)
            self.through[route] += 1
            assert len(self.at_work) <= 20
            assert self.through["POST /leads"] <= 90
            assert self.through.total() <= 400

    def end(self, count: int) -> None:
        for _ in range(min(count, len(self.at_work))):
            self.at_work.pop(self.draw.randrange(len(self.at_work))).end()


async def test_processes_together_admit_exactly_the_limit(redis_url: str) -> None:
    torture = Torture(7)
    async with run_limiters(redis_url, 3) as limiters:
        await asyncio.gather(*[torture.work(each) for each in limiters for _ in range(4)])
        torture.end(20)
        async with asyncio.timeout(30):
            while torture.through.total() < 400:
                for limiter in limiters:
                    await torture.ask(limiter, ROUTE)
                    torture.end(1)
        assert await count_through(limiters[0], torture.plan, 10) == 0


async def test_remaining_falls_by_one_with_each_request_of_one_process(redis_url: str) -> None:
    async with run_limiters(redis_url, 1) as (limiter,):
        left = []
        for _ in range(100):
            admission = await limiter.admit("key_1", MINUTE, ROUTE)
            left.append(int(dict(admission.headers)[b"x-ratelimit-remaining"]))
            admission.end()
        assert left[0] == 99
        assert all(before - after == 1 for before, after in pairwise(left))

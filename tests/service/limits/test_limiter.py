"""Several processes' limiters on one real Valkey, which is wiped, frozen and away at times."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis.asyncio

from service.dev.datafolder import prepare_folder
from service.dev.servers import Valkey
from service.errors import RateLimited
from service.limits.limiter import BEAT_S, TEND_S, Admission, Limiter
from service.limits.plans import Plan

ROUTE = "GET /leads"
MINUTE = Plan("minute", per_minute=100)
PLACES = Plan("places", concurrent=6)


@pytest.fixture
def redis_url(redis_url: str) -> str:
    """A database apart: the app of other tests is a process too, and counts itself."""
    return f"{redis_url}?db=1"


class Clock:
    """Real time, that may be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 60 - time.time() % 60  # a whole minute lies before the test

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@asynccontextmanager
async def run_limiters(url: str, count: int, clock: Clock) -> AsyncIterator[list[Limiter]]:
    """As many processes would have; each knows of all others."""
    async with AsyncExitStack() as stack:
        limiters = [Limiter(url, clock) for _ in range(count)]
        for limiter in limiters:
            await stack.enter_async_context(limiter.running())
        async with asyncio.timeout(30):
            while any(limiter._processes != count for limiter in limiters):  # noqa: ASYNC110  # they tell nobody
                await asyncio.sleep(0.02)
        yield limiters


async def count_through(limiter: Limiter, plan: Plan, tries: int, route: str = ROUTE) -> int:
    """How many of so many requests, all at once, are let through; each ends at once."""

    async def ask() -> bool:
        try:
            (await limiter.admit("key_1", plan, route)).end()
        except RateLimited:
            return False
        return True

    return sum(await asyncio.gather(*[ask() for _ in range(tries)]))


async def hold(limiter: Limiter, plan: Plan, count: int) -> list[Admission]:
    return [await limiter.admit("key_1", plan, ROUTE) for _ in range(count)]


@pytest.mark.usefixtures("redis_client")
async def test_processes_share_a_limit_to_the_last_request(redis_url: str) -> None:
    async with run_limiters(redis_url, 3, Clock()) as limiters:
        through = 0
        for _ in range(20):
            through += sum(
                await asyncio.gather(*[count_through(each, MINUTE, 3) for each in limiters])
            )
        assert through == 100


@pytest.mark.usefixtures("redis_client")
async def test_a_burst_in_one_process_gets_all_of_the_limit_and_no_more(redis_url: str) -> None:
    async with run_limiters(redis_url, 2, Clock()) as (one, two):
        assert await count_through(one, MINUTE, 500) == 100
        assert await count_through(two, MINUTE, 10) == 0


@pytest.mark.usefixtures("redis_client")
async def test_the_next_minute_begins_anew_and_the_day_goes_on(redis_url: str) -> None:
    clock = Clock()
    plan = Plan("daily", per_minute=10, per_day=25)
    async with run_limiters(redis_url, 1, clock) as (limiter,):
        found = []
        for _ in range(4):
            found.append(await count_through(limiter, plan, 30))
            clock.ahead_s += 60
        assert found == [10, 10, 5, 0]
        with pytest.raises(RateLimited, match="25 requests a day"):
            await limiter.admit("key_1", plan, ROUTE)
        clock.ahead_s += 86_400
        assert await count_through(limiter, plan, 30) == 10


@pytest.mark.usefixtures("redis_client")
async def test_a_stricter_route_is_refused_alone_and_what_it_refuses_costs_nothing(
    redis_url: str,
) -> None:
    plan = Plan("strict", per_minute=50, routes={"POST /leads": 20})
    async with run_limiters(redis_url, 1, Clock()) as (limiter,):
        assert await count_through(limiter, plan, 200, "POST /leads") == 20
        assert await count_through(limiter, plan, 200) == 30


@pytest.mark.usefixtures("redis_client")
async def test_keys_are_counted_each_for_itself(redis_url: str) -> None:
    async with run_limiters(redis_url, 1, Clock()) as (limiter,):
        assert await count_through(limiter, MINUTE, 200) == 100
        await limiter.admit("key_2", MINUTE, ROUTE)


async def test_most_requests_ask_nobody(redis_client: redis.asyncio.Redis, redis_url: str) -> None:
    plan = Plan("large", per_minute=1_000_000)
    async with run_limiters(redis_url, 1, Clock()) as (limiter,):
        await count_through(limiter, plan, 100)
        before = (await redis_client.info("commandstats"))["cmdstat_eval"]["calls"]
        for _ in range(100):
            assert await count_through(limiter, plan, 100) == 100
        after = (await redis_client.info("commandstats"))["cmdstat_eval"]["calls"]
        assert after - before < 100  # for 10,000 requests


@pytest.mark.usefixtures("redis_client")
async def test_what_one_process_had_and_did_not_need_another_gets(redis_url: str) -> None:
    plan = Plan("large", per_minute=1000)
    async with run_limiters(redis_url, 2, Clock()) as (one, two):
        through = 0
        while not through or not any(window.held for window in one._tallies["key_1"].windows):
            through += await count_through(one, plan, 3)
        await asyncio.sleep(2 * BEAT_S + 0.3)
        assert await count_through(two, plan, 1500) == 1000 - through


@pytest.mark.usefixtures("redis_client")
async def test_a_change_of_plan_counts_what_was_let_through_before(redis_url: str) -> None:
    async with run_limiters(redis_url, 1, Clock()) as (limiter,):
        assert await count_through(limiter, Plan("small", per_minute=10), 50) == 10
        await asyncio.sleep(0.15)
        assert await count_through(limiter, Plan("larger", per_minute=15), 50) == 5


@pytest.mark.usefixtures("redis_client")
async def test_requests_at_work_are_counted_over_all_processes(redis_url: str) -> None:
    async with run_limiters(redis_url, 2, Clock()) as (one, two):
        held = await hold(one, PLACES, 4) + await hold(two, PLACES, 2)
        for limiter in (one, two):
            with pytest.raises(RateLimited, match="6 requests at work"):
                await limiter.admit("key_1", PLACES, ROUTE)
        held.pop(0).end()
        await asyncio.sleep(5 * TEND_S)
        held += await hold(two, PLACES, 1)
        with pytest.raises(RateLimited):
            await one.admit("key_1", PLACES, ROUTE)
        for each in held:
            each.end()


@pytest.mark.usefixtures("redis_client")
async def test_places_of_a_process_that_died_come_free(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.limits.limiter.KEEP_S", 1)
    async with run_limiters(redis_url, 1, Clock()) as (alive,):
        dead = Limiter(redis_url)  # it never says anything more
        await hold(dead, PLACES, 6)
        with pytest.raises(RateLimited):
            await alive.admit("key_1", PLACES, ROUTE)
        await asyncio.sleep(2.5)
        await hold(alive, PLACES, 6)
        await dead._redis.aclose()


async def test_a_wiped_redis_gives_nobody_a_second_helping(
    redis_client: redis.asyncio.Redis, redis_url: str
) -> None:
    async with run_limiters(redis_url, 1, Clock()) as (limiter,):
        assert await count_through(limiter, MINUTE, 70) == 70
        held = await hold(limiter, PLACES, 5)
        await redis_client.flushall()
        assert await count_through(limiter, MINUTE, 200) == 30
        held += await hold(limiter, PLACES, 1)
        with pytest.raises(RateLimited):
            await limiter.admit("key_1", PLACES, ROUTE)


@asynccontextmanager
async def run_valkey(path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(prepare_folder(path), durable=False) as server:
        yield server


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_while_redis_is_frozen_each_process_keeps_to_its_share(tmp_path: Path) -> None:
    async with run_valkey(tmp_path / "valkey") as server:
        client = redis.asyncio.Redis.from_url(server.url)
        pid = (await client.info("server"))["process_id"]
        async with run_limiters(server.url, 2, Clock()) as (one, two):
            assert await count_through(one, MINUTE, 20) == 20
            with frozen(pid):
                begun = time.monotonic()
                assert await count_through(one, MINUTE, 200) == 30
                assert await count_through(two, MINUTE, 200) == 50
                assert time.monotonic() - begun < 1.5
                held = await hold(one, PLACES, 3)
                with pytest.raises(RateLimited):
                    await one.admit("key_1", PLACES, ROUTE)
            await wait_until_shared(one, two)
            # What was let through meanwhile has been reported: nothing is left of this minute.
            assert await count_through(one, MINUTE, 50) + await count_through(two, MINUTE, 50) == 0
            held += await hold(two, PLACES, 3)
            with pytest.raises(RateLimited):
                await two.admit("key_1", PLACES, ROUTE)
        await client.aclose()


async def wait_until_shared(*limiters: Limiter) -> None:
    async with asyncio.timeout(10):
        for limiter in limiters:
            while limiter._is_away:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
    await asyncio.sleep(2 * BEAT_S)


async def test_without_redis_at_the_start_the_limit_holds_in_each_process() -> None:
    limiter = Limiter("redis://127.0.0.1:9/0", Clock())
    async with limiter.running():
        assert await count_through(limiter, MINUTE, 300) == 100
        assert await count_through(limiter, MINUTE, 10) == 0

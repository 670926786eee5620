"""What workers do when Redis, PostgreSQL or another worker goes away, on servers of their own."""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import redis.asyncio
from msgspec.structs import replace

from service.db import DATABASE_AWAY, Pool, create_pool
from service.dev.datafolder import prepare_folder
from service.dev.servers import Postgres, Valkey
from service.settings import Settings
from sql.migrate import migrate
from tests.workbench import Workbench, make_workbench
from workers.main import work

POLL_S = 0.003
ROUNDS = 12
"""Other tests share the machine and only ever make us slower; polling would be slow each time."""
WAKE_LIMIT_S = 0.05
NO_REDIS_LIMIT_S = 1.0
TAKE_OVER_LIMIT_S = 7.0
IDLE_QUERIES_PER_S = 100
NOBODY_LISTENS = "redis://127.0.0.1:9"

_numbers = count()


@dataclass
class Home:
    """Servers of this file's own, which tests may kill."""

    postgres: Postgres
    valkey: Valkey
    settings: Settings


@pytest.fixture(scope="module")
async def home(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = prepare_folder(tmp_path_factory.mktemp("home"))
    # Durable: a crash must lose nothing that was committed.
    async with Postgres(folder) as postgres, Valkey(folder, durable=False) as valkey:
        await migrate(postgres.dsn)
        yield Home(
            postgres,
            valkey,
            replace(settings, database_url=postgres.dsn, redis_url=valkey.url, log_level="error"),
        )


@pytest.fixture
async def desk(home: Home) -> AsyncIterator[Workbench]:
    """Writes as an API process does, wake-ups included."""
    client = redis.asyncio.Redis.from_url(home.settings.require_redis_url())
    async with await create_pool(home.settings, "desk") as pool:
        bench = await make_workbench(pool, home.settings, client)
        async with bench.shop.wakeups.running(listening=False):
            yield bench
    await client.aclose()


async def capture(desk: Workbench) -> str:
    return await desk.capture(f'{{"email": "{next(_numbers)}@acme.com", "title": "CEO"}}')


async def is_done(desk: Workbench, lead_id: str) -> bool:
    """Scored, and the event of the score filed: every step has been taken."""
    filed: int = await desk.pool.fetchval(
        "SELECT count(*) FROM timeline WHERE lead_id = $1", lead_id
    )
    return filed == 2


async def is_filed(desk: Workbench, lead_id: str) -> bool:
    found: bool = await desk.pool.fetchval(
        "SELECT EXISTS (SELECT FROM timeline WHERE lead_id = $1)", lead_id
    )
    return found


async def wait_until(
    look: Callable[[], Awaitable[bool]], timeout_s: float, poll_s: float = POLL_S
) -> float:
    """Seconds until it was so."""
    started = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not await look():  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(poll_s)
    return time.monotonic() - started


async def measure_filing(desk: Workbench, timeout_s: float = 10) -> float:
    """Seconds from a write to its entry in the timeline: tick, window, effect."""
    lead_id = await capture(desk)
    return await wait_until(lambda: is_filed(desk, lead_id), timeout_s)


@asynccontextmanager
async def running_workers(desk: Workbench, settings: Settings) -> AsyncIterator[None]:
    """Workers that have found their feet: a lead has gone all the way."""
    async with work(settings):
        lead_id = await capture(desk)
        await wait_until(partial(is_done, desk, lead_id), 10)
        yield


async def test_a_wake_up_takes_effect_within_50_ms(home: Home, desk: Workbench) -> None:
    medians: list[float] = []
    async with running_workers(desk, home.settings):
        for _ in range(ROUNDS):
            medians.append(statistics.median([await measure_filing(desk) for _ in range(9)]))
            if medians[-1] < WAKE_LIMIT_S:
                break
    assert min(medians) < WAKE_LIMIT_S, medians


async def test_without_redis_work_is_done_within_a_second(home: Home, desk: Workbench) -> None:
    deaf = replace(home.settings, redis_url=NOBODY_LISTENS)
    async with running_workers(desk, deaf):
        times = []
        for _ in range(6):
            times.append(await measure_filing(desk))
            await asyncio.sleep(0.1)  # so that polls are met at different points
    assert max(times) < NO_REDIS_LIMIT_S, times


async def test_idle_workers_ask_the_database_little(home: Home, desk: Workbench) -> None:
    async with running_workers(desk, home.settings):
        await asyncio.sleep(1.5)  # statistics come a second late
        before = await count_transactions(desk.pool)
        await asyncio.sleep(3)
        after = await count_transactions(desk.pool)
    assert (after - before) / 3 < IDLE_QUERIES_PER_S


async def count_transactions(pool: Pool) -> int:
    found: int = await pool.fetchval(
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    )
    return found


async def test_workers_outlive_a_redis_that_is_killed_and_comes_back(
    home: Home, desk: Workbench
) -> None:
    async with running_workers(desk, home.settings):
        os.kill(home.valkey.pid, signal.SIGKILL)
        await home.valkey.wait()
        away = [await measure_filing(desk) for _ in range(3)]
        await home.valkey.start()
        await wait_until(lambda: is_fast_again(desk), 10)
        await wait_until(lambda: has_health_key(home), 15)
    assert max(away) < NO_REDIS_LIMIT_S, away


async def is_fast_again(desk: Workbench) -> bool:
    return await measure_filing(desk) < WAKE_LIMIT_S


async def has_health_key(home: Home) -> bool:
    """Arq lives: it has connected to the new Redis and tells so every few seconds."""
    async with redis.asyncio.Redis.from_url(home.valkey.url) as client:
        return bool(await client.exists("leadlog:slices:health-check"))


async def test_a_flushed_redis_loses_no_work_and_doubles_none(home: Home, desk: Workbench) -> None:
    async with running_workers(desk, home.settings):
        async with redis.asyncio.Redis.from_url(home.valkey.url) as client:
            ids = []
            for _ in range(5):
                await client.flushall()
                ids += [await capture(desk) for _ in range(4)]
        for lead_id in ids:
            await wait_until(partial(is_done, desk, lead_id), 3)
    await assert_each_scored_once(desk, ids)


async def assert_each_scored_once(desk: Workbench, ids: list[str]) -> None:
    for lead_id in ids:
        events = await desk.events(lead_id)
        assert [(event["version"], event["actor"]) for event in events] == [
            (1, "key_test"),
            (2, "scorer"),
        ]


async def test_a_crash_of_postgres_loses_no_work_and_doubles_none(
    home: Home, desk: Workbench
) -> None:
    async with running_workers(desk, home.settings):
        ids = [await capture(desk) for _ in range(20)]
        os.kill(home.postgres.pid, signal.SIGQUIT)  # pg_ctl restart -m immediate
        await home.postgres.wait()
        await asyncio.sleep(0.5)
        await home.postgres.start()
        ids += [await retry_until_there(lambda: capture(desk)) for _ in range(5)]
        for lead_id in ids:
            await wait_until(partial(is_done, desk, lead_id), 8, 0.02)
        await wait_until(lambda: is_fast_again(desk), 5)
    await assert_each_scored_once(desk, ids)


async def retry_until_there(write: Callable[[], Awaitable[str]]) -> str:
    async with asyncio.timeout(5):
        while True:
            try:
                return await write()
            except DATABASE_AWAY:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def worker_process(
    settings: Settings, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`leadlog work` as a process of its own; killed at the end."""
    environ = {
        **os.environ,
        "DATABASE_URL": settings.require_database_url(),
        "REDIS_URL": settings.require_redis_url(),
        "SECRET_KEY": settings.secret_key or "",
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.cli", "work", env=environ, stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_another_process_takes_over_from_one_that_is_killed(
    home: Home, desk: Workbench, tmp_path: Path
) -> None:
    async with worker_process(home.settings, tmp_path / "log") as first:
        lead_id = await capture(desk)
        await wait_until(partial(is_done, desk, lead_id), 15, 0.05)
        async with work(home.settings):
            await asyncio.sleep(1)  # the second one looks, and finds all leases taken
            owners = await desk.pool.fetch("SELECT DISTINCT owner FROM lease")
            first.kill()
            await first.wait()
            lead_id = await capture(desk)
            took_s = await wait_until(partial(is_done, desk, lead_id), 15)
    assert [f"/{first.pid}/" in row["owner"] for row in owners] == [True]
    assert took_s < TAKE_OVER_LIMIT_S


async def test_a_process_that_was_frozen_does_nothing_twice_when_it_thaws(
    home: Home, desk: Workbench, tmp_path: Path
) -> None:
    async with worker_process(home.settings, tmp_path / "log") as first:
        lead_id = await capture(desk)
        await wait_until(partial(is_done, desk, lead_id), 15, 0.05)
        os.kill(first.pid, signal.SIGSTOP)
        ids = [await capture(desk) for _ in range(5)]
        async with work(home.settings):
            for lead_id in ids:
                await wait_until(partial(is_done, desk, lead_id), 15)
            os.kill(first.pid, signal.SIGCONT)
            for _ in range(20):
                ids.append(await capture(desk))
                await asyncio.sleep(0.05)
            for lead_id in ids:
                await wait_until(partial(is_done, desk, lead_id), 15)
    await assert_each_scored_once(desk, ids)
    assert "Traceback" not in (tmp_path / "log").read_text()

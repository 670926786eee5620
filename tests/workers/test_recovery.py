"""Workers while Redis, PostgreSQL or another worker is down; the servers are separate."""

import asyncio
import os
import signal
import statistics
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

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.servers import Postgres, Valkey
from service.database.connect import DATABASE_AWAY, Pool, create_pool
from service.settings import Settings
from sql.migrate import migrate
from tests.harness.worker_harness import WorkerHarness, make_worker_harness
from tests.harness.worker_process import worker_process
from workers.main import work

POLL_S = 0.003
ROUNDS = 12
"""One fast round is enough, since other tests may slow some rounds down."""
WAKE_LIMIT_S = 0.05
NO_REDIS_LIMIT_S = 1.0
TAKE_OVER_LIMIT_S = 7.0
IDLE_QUERIES_PER_S = 100
UNREACHABLE_REDIS = "redis://127.0.0.1:9"

_numbers = count()


@dataclass
class Servers:
    """The servers of this module; tests may kill them."""

    postgres: Postgres
    valkey: Valkey
    settings: Settings


@pytest.fixture(scope="module")
async def servers(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Servers]:
    folder = prepare_folder(tmp_path_factory.mktemp("servers"))
    # Durable: a crash must lose no committed data.
    async with Postgres(folder) as postgres, Valkey(folder, durable=False) as valkey:
        await migrate(postgres.dsn)
        yield Servers(
            postgres,
            valkey,
            replace(settings, database_url=postgres.dsn, redis_url=valkey.url, log_level="error"),
        )


@pytest.fixture
async def harness(servers: Servers) -> AsyncIterator[WorkerHarness]:
    """A harness that writes leads as an API process does, with wake-ups."""
    client = redis.asyncio.Redis.from_url(servers.settings.require_redis_url())
    async with await create_pool(servers.settings, "tests") as pool:
        harness = await make_worker_harness(pool, servers.settings, client)
        async with harness.context.wakeups.running(listening=False):
            yield harness
    await client.aclose()


async def capture(harness: WorkerHarness) -> str:
    return await harness.capture(f'{{"email": "{next(_numbers)}@acme.com", "title": "CEO"}}')


async def is_done(harness: WorkerHarness, lead_id: str) -> bool:
    """Whether the lead is scored and both of its events are in the timeline."""
    count: int = await harness.pool.fetchval(
        "SELECT count(*) FROM timeline WHERE lead_id = $1", lead_id
    )
    return count == 2


async def is_scored(harness: WorkerHarness, lead_id: str) -> bool:
    found: bool = await harness.pool.fetchval("SELECT score > 0 FROM lead WHERE id = $1", lead_id)
    return found


async def wait_until(
    look: Callable[[], Awaitable[bool]], timeout_s: float, poll_s: float = POLL_S
) -> float:
    """Polls `look` until it returns true; returns the seconds that this took."""
    started = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not await look():  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(poll_s)
    return time.monotonic() - started


async def measure_delay(harness: WorkerHarness, timeout_s: float = 10) -> float:
    """The seconds from a write to its score."""
    lead_id = await capture(harness)
    return await wait_until(lambda: is_scored(harness, lead_id), timeout_s)


@asynccontextmanager
async def running_workers(harness: WorkerHarness, settings: Settings) -> AsyncIterator[None]:
    """Runs workers; yields once a lead is scored and in the timeline."""
    async with work(settings):
        lead_id = await capture(harness)
        await wait_until(partial(is_done, harness, lead_id), 10)
        yield


async def test_a_wake_up_takes_effect_within_50_ms(
    servers: Servers, harness: WorkerHarness
) -> None:
    medians: list[float] = []
    async with running_workers(harness, servers.settings):
        for _ in range(ROUNDS):
            medians.append(statistics.median([await measure_delay(harness) for _ in range(9)]))
            if medians[-1] < WAKE_LIMIT_S:
                break
    assert min(medians) < WAKE_LIMIT_S, medians


async def test_without_redis_work_is_done_within_a_second(
    servers: Servers, harness: WorkerHarness
) -> None:
    without_redis = replace(servers.settings, redis_url=UNREACHABLE_REDIS)
    async with running_workers(harness, without_redis):
        times = []
        for _ in range(6):
            times.append(await measure_delay(harness))
            await asyncio.sleep(0.1)  # writes come at different times of a poll interval
    assert max(times) < NO_REDIS_LIMIT_S, times


async def test_idle_workers_send_few_queries(servers: Servers, harness: WorkerHarness) -> None:
    async with running_workers(harness, servers.settings):
        await asyncio.sleep(1.5)  # the statistics are a second old
        before = await count_transactions(harness.pool)
        await asyncio.sleep(3)
        after = await count_transactions(harness.pool)
    assert (after - before) / 3 < IDLE_QUERIES_PER_S


async def count_transactions(pool: Pool) -> int:
    found: int = await pool.fetchval(
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    )
    return found


async def test_workers_survive_a_restart_of_redis(servers: Servers, harness: WorkerHarness) -> None:
    async with running_workers(harness, servers.settings):
        os.kill(servers.valkey.pid, signal.SIGKILL)
        await servers.valkey.wait()
        away = [await measure_delay(harness) for _ in range(3)]
        await servers.valkey.start()
        await wait_until(lambda: is_fast_again(harness), 10)
        await wait_until(lambda: has_health_key(servers), 15)
    assert max(away) < NO_REDIS_LIMIT_S, away


async def is_fast_again(harness: WorkerHarness) -> bool:
    return await measure_delay(harness) < WAKE_LIMIT_S


async def has_health_key(servers: Servers) -> bool:
    """Whether arq runs; arq writes this key every few seconds."""
    async with redis.asyncio.Redis.from_url(servers.valkey.url) as client:
        return bool(await client.exists("leadlog:jobs:health-check"))


async def test_a_flushed_redis_loses_no_work_and_repeats_none(
    servers: Servers, harness: WorkerHarness
) -> None:
    async with running_workers(harness, servers.settings):
        async with redis.asyncio.Redis.from_url(servers.valkey.url) as client:
            ids = []
            for _ in range(5):
                await client.flushall()
                ids += [await capture(harness) for _ in range(4)]
        for lead_id in ids:
            await wait_until(partial(is_done, harness, lead_id), 3)
    await assert_each_scored_once(harness, ids)


async def assert_each_scored_once(harness: WorkerHarness, ids: list[str]) -> None:
    for lead_id in ids:
        events = await harness.events(lead_id)
        assert [(event["version"], event["actor"]) for event in events] == [
            (1, "key_test"),
            (2, "scorer"),
        ]


async def test_a_crash_of_postgres_loses_no_work_and_repeats_none(
    servers: Servers, harness: WorkerHarness
) -> None:
    async with running_workers(harness, servers.settings):
        ids = [await capture(harness) for _ in range(20)]
        os.kill(servers.postgres.pid, signal.SIGQUIT)  # pg_ctl restart -m immediate
        await servers.postgres.wait()
        await asyncio.sleep(0.5)
        await servers.postgres.start()
        ids += [await retry_until_available(lambda: capture(harness)) for _ in range(5)]
        for lead_id in ids:
            await wait_until(partial(is_done, harness, lead_id), 8, 0.02)
        await wait_until(lambda: is_fast_again(harness), 5)
    await assert_each_scored_once(harness, ids)


async def retry_until_available(write: Callable[[], Awaitable[str]]) -> str:
    async with asyncio.timeout(5):
        while True:
            try:
                return await write()
            except DATABASE_AWAY:
                await asyncio.sleep(0.05)


async def test_another_process_takes_over_from_a_killed_process(
    servers: Servers, harness: WorkerHarness, tmp_path: Path
) -> None:
    async with worker_process(servers.settings, tmp_path / "log") as first:
        lead_id = await capture(harness)
        await wait_until(partial(is_done, harness, lead_id), 15, 0.05)
        async with work(servers.settings):
            await asyncio.sleep(1)  # the second process finds that all leases are held
            owners = await harness.pool.fetch("SELECT DISTINCT owner FROM lease")
            first.kill()
            await first.wait()
            lead_id = await capture(harness)
            took_s = await wait_until(partial(is_done, harness, lead_id), 15)
    assert [f"/{first.pid}/" in row["owner"] for row in owners] == [True]
    assert took_s < TAKE_OVER_LIMIT_S


async def test_a_stopped_process_repeats_nothing_when_it_continues(
    servers: Servers, harness: WorkerHarness, tmp_path: Path
) -> None:
    async with worker_process(servers.settings, tmp_path / "log") as first:
        lead_id = await capture(harness)
        await wait_until(partial(is_done, harness, lead_id), 15, 0.05)
        os.kill(first.pid, signal.SIGSTOP)
        ids = [await capture(harness) for _ in range(5)]
        async with work(servers.settings):
            for lead_id in ids:
                await wait_until(partial(is_done, harness, lead_id), 15)
            os.kill(first.pid, signal.SIGCONT)
            for _ in range(20):
                ids.append(await capture(harness))
                await asyncio.sleep(0.05)
            for lead_id in ids:
                await wait_until(partial(is_done, harness, lead_id), 15)
    await assert_each_scored_once(harness, ids)
    assert "Traceback" not in (tmp_path / "log").read_text()

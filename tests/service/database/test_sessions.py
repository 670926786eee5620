"""The limits and the number of Leadlog's database sessions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest
from msgspec.structs import replace

from service.database.connect import Pool, create_pool
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.harness.running_service import run_service

WATCHES = 1
"""Each process has one more connection, which checks whether the database is available."""
WORKER_EXTRA = 4
"""The connections of a worker process beyond DB_POOL_SIZE, as deploy/env.example documents."""


@pytest.fixture
async def hurried(settings: Settings) -> AsyncIterator[Pool]:
    pool = await create_pool(replace(settings, statement_timeout_s=0.3), "hurried", 2, 0.1)
    yield pool
    await pool.close()


async def test_a_session_is_bound_by_its_time_limits(hurried: Pool) -> None:
    query = "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout' AND source = 'client'"
    assert {row["name"]: row["setting"] for row in await hurried.fetch(query)} == {
        "statement_timeout": "300",
        "lock_timeout": "100",
        "idle_in_transaction_session_timeout": "10000",
    }


async def test_a_query_uses_no_parallel_workers_of_postgresql(hurried: Pool) -> None:
    assert await hurried.fetchval("SHOW max_parallel_workers_per_gather") == "0"


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(hurried: Pool) -> None:
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await hurried.execute("SELECT pg_sleep(20)")
    assert await hurried.fetchval("SELECT 1") == 1


async def test_a_statement_that_waits_too_long_for_a_lock_fails(hurried: Pool) -> None:
    async with hurried.acquire() as holder, hurried.acquire() as waiter, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(4711)")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await waiter.execute("SELECT pg_advisory_lock(4711)")


async def test_a_kept_connection_is_available_to_every_caller(hurried: Pool) -> None:
    pids = [(await hurried.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"] for _ in range(3)]
    assert len(set(pids)) == 1
    async with hurried.acquire() as one, hurried.acquire() as two:
        held = {await conn.fetchval("SELECT pg_backend_pid()") for conn in (one, two)}
        assert len(held) == 2
        assert pids[0] in held
        third = asyncio.create_task(hurried.fetch("SELECT pg_backend_pid() AS pid"))
        await asyncio.sleep(0.05)
        assert not third.done()
    assert (await third)[0]["pid"] in held


async def test_a_kept_connection_that_was_cut_is_replaced(hurried: Pool, pool: Pool) -> None:
    (row,) = await hurried.fetch("SELECT pg_backend_pid() AS pid")
    await pool.fetchval("SELECT pg_terminate_backend($1, 5000)", row["pid"])
    await asyncio.sleep(0.05)
    (other,) = await hurried.fetch("SELECT pg_backend_pid() AS pid")
    assert other["pid"] != row["pid"]


async def test_idle_kept_connections_are_closed(
    hurried: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT pg_backend_pid() AS pid FROM pg_sleep(0.02)"
    burst = await asyncio.gather(*(hurried.fetch(query) for _ in range(4)))
    assert len({rows[0]["pid"] for rows in burst}) == 2
    monkeypatch.setattr("service.database.pool.IDLE_S", 0.05)
    await asyncio.sleep(0.1)
    one = {(await hurried.fetch(query))[0]["pid"] for _ in range(3)}
    assert len(one) == 1
    assert not one & {rows[0]["pid"] for rows in burst}
    again = await asyncio.gather(*(hurried.fetch(query) for _ in range(4)))
    assert len({rows[0]["pid"] for rows in again}) == 2


async def test_a_failed_or_cancelled_statement_leaves_a_usable_connection(
    hurried: Pool,
) -> None:
    for _ in range(5):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await hurried.fetch("SELECT 1 / 0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await hurried.fetch("SELECT pg_sleep(0.2)")
        both = await asyncio.gather(*(hurried.fetch("SELECT $1::int AS n", n) for n in range(9)))
        assert [rows[0]["n"] for rows in both] == list(range(9))


async def test_api_and_workers_open_no_more_connections_than_documented(
    settings: Settings, cluster: Cluster
) -> None:
    async with cluster.make_database() as dsn:
        mine = replace(settings, database_url=dsn, db_pool_size=5)
        watcher = await asyncpg.connect(dsn)

        async def count() -> Counter[str]:
            rows = await watcher.fetch(
                "SELECT application_name AS name FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'leadlog-%'"
            )
            return Counter(row["name"] for row in rows)

        pool = await create_pool(mine, "tests", 1)
        async with run_service(mine, pool) as running:
            most = await count()
            for turn in range(5):
                batch = [running.add_lead(f"c{turn}.{n}@crowd.com") for n in range(40)]
                lists = [running.api.get("/v1/leads", limit=5) for _ in range(40)]
                work = asyncio.gather(*batch, *lists)
                while not work.done():
                    most |= await count()
                await work
        await pool.close()
        await watcher.close()
    assert 1 <= most["leadlog-api"] <= mine.db_pool_size
    assert 1 <= most["leadlog-worker"] <= mine.db_pool_size + WORKER_EXTRA
    assert most["leadlog-watch"] <= WATCHES
    assert set(most) <= {"leadlog-api", "leadlog-worker", "leadlog-watch"}

"""Rows written while the database's clock was behind seem old but are kept like young rows."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import redis.asyncio
from msgspec.structs import replace

from service.database.connect import Pool, create_pool
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.harness.delivery_harness import DeliveryHarness, open_delivery_harness
from tests.harness.partitions import add_partition, exists, week_of
from tests.harness.worker_harness import make_worker_harness
from workers import janitor
from workers.janitor import Janitor

DAYS = 365
"""The number of days by which the clock was behind."""
TABLES = ["attempt", "delivery_final", "outbox", "tick", "webhook_event"]


@pytest.fixture
async def delivery_harness(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[DeliveryHarness]:
    """A harness with a separate database that has partitions of a year ago."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        async with await create_pool(settings, "tests") as pool:
            for table in TABLES:
                await add_partition(pool, table, DAYS)
            worker_harness = await make_worker_harness(pool, settings, redis_client)
            yield await open_delivery_harness(worker_harness, "http://127.0.0.1:9/")


INSERT = {
    "outbox": "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, "
    "actor, at, data) VALUES (0, 1, true, 'a', 1, 'evt_a_1', 't', 'k', now(), '{}')",
    "tick": "WITH cut AS (UPDATE ticker SET tick = tick + 1, at = now() "
    "RETURNING tick, generation, snap, at) INSERT INTO tick SELECT * FROM cut",
    "finish": "WITH done AS (DELETE FROM delivery WHERE id = (SELECT max(id) FROM delivery) "
    "RETURNING *), attempted AS (INSERT INTO attempt (tenant_id, live, endpoint_id, delivery_id, "
    "number, at, total_ms, truncated) SELECT tenant_id, live, endpoint_id, id, 1, now(), 1, false "
    "FROM done) INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, "
    "type, lead_id, version, cause, outcome, attempts, created_at, finished_at) SELECT id, "
    "tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, version, cause, "
    "'delivered', 1, created_at, now() FROM done",
}
DATE = """
UPDATE outbox SET at = $1 WHERE id = (SELECT max(id) FROM outbox);
UPDATE tick SET at = $1 WHERE tick = (SELECT max(tick) FROM tick);
UPDATE attempt SET at = $1 WHERE delivery_id = (SELECT max(delivery_id) FROM attempt);
UPDATE delivery_final SET stored_at = $1, created_at = $1, finished_at = $1
WHERE id = (SELECT max(id) FROM delivery_final);
UPDATE webhook_event SET stored_at = $1 WHERE event_id = $2;
"""


async def write(harness: DeliveryHarness, lead: str, days_ago: float = 0) -> None:
    """Writes a row to each table, dated `days_ago` days ago as by a clock that is behind."""
    await harness.add((lead, 1))
    for statement in INSERT.values():
        await harness.pool.execute(statement)
    if days_ago:
        for statement in DATE.split(";")[:-1]:
            values: list[object] = [week_of(days_ago) + timedelta(days=1)]
            values += [f"evt_{lead}_1"] if "$2" in statement else []
            await harness.pool.execute(statement, *values)
    await harness.pool.execute("UPDATE reader SET tick = (SELECT tick FROM ticker)")


async def list_kept(pool: Pool) -> list[str]:
    week = f"{week_of(DAYS):%Y%m%d}"
    return [table for table in TABLES if await exists(pool, f"{table}_{week}")]


@pytest.fixture(autouse=True)
def check_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "CHECK_EVERY_S", 0.0)


async def test_rows_of_a_clock_that_was_a_year_behind_are_kept(
    delivery_harness: DeliveryHarness,
) -> None:
    await write(delivery_harness, "before")
    await write(delivery_harness, "behind", DAYS)
    await write(delivery_harness, "after")
    await Janitor(delivery_harness.context).once()
    assert await list_kept(delivery_harness.pool) == TABLES


async def test_rows_of_a_wrong_clock_are_dropped_after_all_earlier_rows(
    delivery_harness: DeliveryHarness,
) -> None:
    await write(delivery_harness, "behind", DAYS)
    await delivery_harness.pool.execute("DELETE FROM tick WHERE tick = 1")
    await write(delivery_harness, "after")
    await Janitor(delivery_harness.context).once()
    assert await list_kept(delivery_harness.pool) == []


async def test_a_waiting_delivery_of_a_clock_that_was_behind_does_not_expire(
    delivery_harness: DeliveryHarness,
) -> None:
    await write(delivery_harness, "before")
    await delivery_harness.add(("behind", 1))
    at = week_of(DAYS) + timedelta(days=1)
    await delivery_harness.pool.execute(
        "UPDATE webhook_event SET stored_at = $1 WHERE event_id = 'evt_behind_1'", at
    )
    await delivery_harness.pool.execute("UPDATE delivery SET stored_at = $1, created_at = $1", at)
    await Janitor(delivery_harness.context).once()
    assert len(await delivery_harness.rows()) == 1
    assert "webhook_event" in await list_kept(delivery_harness.pool)


async def test_a_young_partition_is_not_read_in_each_round(
    delivery_harness: DeliveryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "CHECK_EVERY_S", 3600.0)
    await write(delivery_harness, "before")
    await write(delivery_harness, "behind", DAYS)
    job = Janitor(delivery_harness.context)
    await job.once()
    await delivery_harness.pool.execute("DELETE FROM outbox WHERE at > now() - interval '1 day'")
    await job.once()
    assert "outbox" in await list_kept(delivery_harness.pool)
    monkeypatch.setattr(janitor, "CHECK_EVERY_S", 0.0)
    await job.once()
    assert "outbox" not in await list_kept(delivery_harness.pool)

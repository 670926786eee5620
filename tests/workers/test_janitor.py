"""The janitor makes partitions and drops expired ones that no reader needs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from msgspec.structs import replace
from prometheus_client import REGISTRY

import sql
from service.database.connect import Connection, Pool, create_pool
from service.events.wake_ups import Wakeups
from service.idempotency_keys import make_digest
from service.settings import Settings
from tests.harness.cluster import Cluster
from tests.harness.partitions import add_partition, exists, week_of
from workers import janitor
from workers.janitor import Janitor
from workers.jobs import WorkerContext

WARNINGS = ("partition.missing", "reader.late", "transaction.old")


@pytest.fixture
async def context(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[WorkerContext]:
    """A context with a separate database, since tests drop tables."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        async with await create_pool(settings, "tests") as pool:
            yield WorkerContext(settings, pool, redis_client, Wakeups(redis_client), "tests")


async def hold(conn: Connection, table: str) -> None:
    """Locks a table until the transaction ends, as a slow query does."""
    await conn.execute("BEGIN")
    await conn.execute(f"SELECT count(*) FROM {table}")


async def cut_tick(pool: Pool, days_ago: float) -> None:
    """Cuts a tick with a time `days_ago` days ago."""
    await pool.execute(
        "WITH cut AS (UPDATE ticker SET tick = tick + 1, at = now() - make_interval(secs => $1) "
        "RETURNING tick, generation, snap, at) INSERT INTO tick SELECT * FROM cut",
        days_ago * 86400,
    )


async def move_readers(pool: Pool) -> None:
    await pool.execute("UPDATE reader SET tick = (SELECT tick FROM ticker)")


async def test_the_first_round_makes_the_partition_of_the_next_week(
    context: WorkerContext,
) -> None:
    this, ahead = (f"outbox_{week_of(days):%Y%m%d}" for days in (0, -7))
    await context.pool.execute(f"DROP TABLE IF EXISTS {ahead}")
    await Janitor(context).once()

    assert await exists(context.pool, this)
    assert await exists(context.pool, ahead)


async def test_a_partition_is_dropped_after_its_retention_and_not_before(
    context: WorkerContext,
) -> None:
    old = [await add_partition(context.pool, table, 60) for table in ("outbox", "tick")]
    young = [await add_partition(context.pool, table, 29) for table in ("outbox", "tick")]
    await cut_tick(context.pool, 0)
    await move_readers(context.pool)
    await Janitor(context).once()

    assert [await exists(context.pool, name) for name in old] == [False, False]
    assert [await exists(context.pool, name) for name in young] == [True, True]


async def test_the_setting_overrides_only_the_retention_of_the_log(context: WorkerContext) -> None:
    await context.pool.execute(
        "CREATE TABLE other (at timestamptz) PARTITION BY RANGE (at);"
        "INSERT INTO partition_plan VALUES ('other', '90 days')"
    )
    events, other = [await add_partition(context.pool, table, 20) for table in ("outbox", "other")]
    expired = await add_partition(context.pool, "other", 120)
    short = replace(context.settings, event_retention_days=5)
    await Janitor(
        WorkerContext(short, context.pool, context.redis, context.wakeups, "tests")
    ).once()

    assert not await exists(context.pool, events)
    assert await exists(context.pool, other)
    assert not await exists(context.pool, expired)


async def test_events_that_a_reader_has_not_read_are_kept(context: WorkerContext) -> None:
    outbox, tick = [await add_partition(context.pool, table, 60) for table in ("outbox", "tick")]
    await context.pool.execute("DELETE FROM tick")  # a tick of today with a lower number
    await cut_tick(context.pool, 60)
    await move_readers(context.pool)
    await cut_tick(context.pool, 0)
    await context.pool.execute(
        "UPDATE reader SET tick = (SELECT tick FROM ticker) WHERE name <> 'scorer'"
    )
    await Janitor(context).once()
    assert await exists(context.pool, outbox)
    assert await exists(context.pool, tick)

    await move_readers(context.pool)
    await Janitor(context).once()
    assert not await exists(context.pool, outbox)
    assert not await exists(context.pool, tick)


async def test_the_tick_of_the_readers_is_kept_however_old_it_is(
    context: WorkerContext,
) -> None:
    outbox, tick = [await add_partition(context.pool, table, 60) for table in ("outbox", "tick")]
    await cut_tick(context.pool, 60)
    await move_readers(context.pool)
    await Janitor(context).once()

    assert not await exists(context.pool, outbox)
    assert await exists(context.pool, tick)


async def test_a_partition_in_use_is_left_to_a_later_round_and_no_writer_waits(
    context: WorkerContext,
) -> None:
    name = await add_partition(context.pool, "outbox", 60)
    async with context.pool.acquire() as reader:
        await hold(reader, "outbox")
        started = asyncio.get_running_loop().time()
        await Janitor(context).once()
        took_s = asyncio.get_running_loop().time() - started
        assert await exists(context.pool, name)
        pending = await context.pool.fetchval(
            "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::regclass", name
        )
        async with asyncio.timeout(1):  # writers are not blocked
            await context.pool.execute(
                "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, "
                "actor, at, data) VALUES (0, 1, true, 'a', 1, 'e', 't', 'k', now(), '{}')"
            )
        await reader.execute("COMMIT")
    assert took_s < 5
    assert pending is True  # detaching began; the next round continues
    await Janitor(context).once()
    assert not await exists(context.pool, name)


async def test_a_detached_partition_is_dropped(
    context: WorkerContext,
) -> None:
    name = await add_partition(context.pool, "outbox", 60)
    await context.pool.execute(f"ALTER TABLE outbox DETACH PARTITION {name}")
    await Janitor(context).once()

    assert not await exists(context.pool, name)


async def test_janitors_of_several_processes_drop_the_same_partitions_together(
    context: WorkerContext,
) -> None:
    names = [await add_partition(context.pool, "outbox", days) for days in (60, 70, 80, 90)]
    for _ in range(5):  # a partition that is busy is left to the next round
        await asyncio.gather(*(Janitor(context).once() for _ in range(4)))

    assert [name for name in names if await exists(context.pool, name)] == []


async def find_warnings(context: WorkerContext) -> set[str]:
    """Runs one round; returns its warnings."""
    before = {warning: count_warnings(warning) for warning in WARNINGS}
    await Janitor(context).once()
    return {warning for warning in WARNINGS if count_warnings(warning) > before[warning]}


def count_warnings(warning: str) -> float:
    labels = {"warning": warning}
    return REGISTRY.get_sample_value("leadlog_janitor_warnings_total", labels) or 0


async def test_the_janitor_warns_of_a_missing_partition(context: WorkerContext) -> None:
    assert await context.pool.fetch(sql.partition_list_missing) == []
    await context.pool.execute(f"ALTER TABLE outbox DETACH PARTITION outbox_{week_of(-7):%Y%m%d}")

    assert await find_warnings(context) == {"partition.missing"}


async def test_the_janitor_warns_of_a_late_reader(context: WorkerContext) -> None:
    assert await find_warnings(context) == set()
    await cut_tick(context.pool, 0.01)

    assert await find_warnings(context) == {"reader.late"}


async def test_the_janitor_warns_of_an_old_transaction_only_if_it_writes(
    context: WorkerContext,
) -> None:
    async with context.pool.acquire() as conn:
        await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await conn.execute("SELECT count(*) FROM tick")
        await age_ticker(context.pool)
        await wait_until_unwarned(context, "transaction.old")
        await conn.execute("COMMIT; BEGIN; SELECT pg_current_xact_id()")
        await wait_until_unwarned(context, "transaction.old")
        await age_ticker(context.pool)
        assert "transaction.old" in await find_warnings(context)
        await conn.execute("COMMIT")
    await wait_until_unwarned(context, "transaction.old")


async def wait_until_unwarned(context: WorkerContext, warning: str) -> None:
    """Waits for the end of other tests' transactions, which the janitor counts too."""
    async with asyncio.timeout(20):
        while warning in await find_warnings(context):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.1)


async def age_ticker(pool: Pool) -> None:
    """Cuts a tick dated two minutes back, whose snapshot contains all current transactions."""
    await pool.execute("SELECT pg_current_xact_id()")
    await pool.execute(
        "WITH cut AS (UPDATE ticker SET tick = tick + 1, at = now() - interval '2 minutes', "
        "snap = pg_current_snapshot() RETURNING tick, generation, snap, at) "
        "INSERT INTO tick SELECT * FROM cut"
    )


async def test_stored_responses_are_kept_for_a_day(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "RESPONSE_BATCH", 3)
    for n, hours in enumerate((0, 23.9, *[24.1 + n for n in range(10)])):
        key = make_digest(str(n))
        await context.pool.execute(
            sql.idempotent_response_insert_if_new, 1, True, key, key, 200, None, None, "{}", None
        )
        await context.pool.execute(
            "UPDATE idempotent_response SET created_at = now() - make_interval(secs => $1) "
            "WHERE key = $2",
            hours * 3600,
            key,
        )
    await Janitor(context).once()
    assert await context.pool.fetchval("SELECT count(*) FROM idempotent_response") == 2

"""Partitions come and go; none goes that a reader may still need."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from msgspec.structs import replace
from prometheus_client import REGISTRY

import sql
from service.db import Connection, Pool, create_pool
from service.request_keys import make_digest
from service.settings import Settings
from service.wakeups import Wakeups
from tests.cluster import Cluster
from tests.partitions import add_partition, exists, week_of
from workers import janitor
from workers.janitor import Janitor
from workers.slices import Workshop

WARNINGS = ("partition.missing", "reader.late", "transaction.old")


@pytest.fixture
async def shop(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Workshop]:
    """On a database of its own, for tables are dropped; readers are at the newest tick."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        async with await create_pool(settings, "tests") as pool:
            yield Workshop(settings, pool, redis_client, Wakeups(redis_client), "tests")


async def hold(conn: Connection, table: str) -> None:
    """Uses a table until the transaction ends, as a slow query does."""
    await conn.execute("BEGIN")
    await conn.execute(f"SELECT count(*) FROM {table}")


async def cut_tick(pool: Pool, days_ago: float) -> None:
    """A tick of long ago, the newest one."""
    await pool.execute(
        "WITH cut AS (UPDATE ticker SET tick = tick + 1, at = now() - make_interval(secs => $1) "
        "RETURNING tick, generation, snap, at) INSERT INTO tick SELECT * FROM cut",
        days_ago * 86400,
    )


async def move_readers(pool: Pool) -> None:
    await pool.execute("UPDATE reader SET tick = (SELECT tick FROM ticker)")


async def test_the_first_round_makes_the_partitions_of_the_weeks_to_come(shop: Workshop) -> None:
    this, ahead = (f"outbox_{week_of(days):%Y%m%d}" for days in (0, -21))
    await shop.pool.execute(f"DROP TABLE IF EXISTS {ahead}")
    await Janitor(shop).once()

    assert await exists(shop.pool, this)
    assert await exists(shop.pool, ahead)


async def test_a_partition_goes_when_its_keep_has_passed_and_not_before(shop: Workshop) -> None:
    old = [await add_partition(shop.pool, table, 60) for table in ("outbox", "tick")]
    young = [await add_partition(shop.pool, table, 29) for table in ("outbox", "tick")]
    await cut_tick(shop.pool, 0)
    await move_readers(shop.pool)
    await Janitor(shop).once()

    assert [await exists(shop.pool, name) for name in old] == [False, False]
    assert [await exists(shop.pool, name) for name in young] == [True, True]


async def test_the_setting_overrides_the_keep_of_the_log_alone(shop: Workshop) -> None:
    await shop.pool.execute(
        "CREATE TABLE other (at timestamptz) PARTITION BY RANGE (at);"
        "INSERT INTO partition_plan VALUES ('other', '90 days')"
    )
    events, other = [await add_partition(shop.pool, table, 20) for table in ("outbox", "other")]
    expired = await add_partition(shop.pool, "other", 120)
    short = replace(shop.settings, event_retention_days=5)
    await Janitor(Workshop(short, shop.pool, shop.redis, shop.wakeups, "tests")).once()

    assert not await exists(shop.pool, events)
    assert await exists(shop.pool, other)
    assert not await exists(shop.pool, expired)


async def test_events_that_a_reader_has_not_read_are_kept(shop: Workshop) -> None:
    outbox, tick = [await add_partition(shop.pool, table, 60) for table in ("outbox", "tick")]
    await cut_tick(shop.pool, 60)
    await move_readers(shop.pool)
    await cut_tick(shop.pool, 0)
    await shop.pool.execute(
        "UPDATE reader SET tick = (SELECT tick FROM ticker) WHERE name <> 'scorer/1'"
    )
    await Janitor(shop).once()
    assert await exists(shop.pool, outbox)
    assert await exists(shop.pool, tick)

    await move_readers(shop.pool)
    await Janitor(shop).once()
    assert not await exists(shop.pool, outbox)
    assert not await exists(shop.pool, tick)


async def test_the_tick_on_which_readers_stand_is_kept_however_long_nothing_has_happened(
    shop: Workshop,
) -> None:
    outbox, tick = [await add_partition(shop.pool, table, 60) for table in ("outbox", "tick")]
    await cut_tick(shop.pool, 60)
    await move_readers(shop.pool)
    await Janitor(shop).once()

    assert not await exists(shop.pool, outbox)
    assert await exists(shop.pool, tick)


async def test_a_partition_in_use_is_left_for_another_round_and_nobody_waits(
    shop: Workshop,
) -> None:
    name = await add_partition(shop.pool, "outbox", 60)
    async with shop.pool.acquire() as reader:
        await hold(reader, "outbox")
        started = asyncio.get_running_loop().time()
        await Janitor(shop).once()
        took_s = asyncio.get_running_loop().time() - started
        assert await exists(shop.pool, name)
        pending = await shop.pool.fetchval(
            "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::regclass", name
        )
        async with asyncio.timeout(1):  # writers go on meanwhile
            await shop.pool.execute(
                "INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, "
                "actor, at, data) VALUES (0, 1, true, 'a', 1, 'e', 't', 'k', now(), '{}')"
            )
        await reader.execute("COMMIT")
    assert took_s < 5
    assert pending is True  # half-finished, and the next round goes on with it
    await Janitor(shop).once()
    assert not await exists(shop.pool, name)


async def test_a_partition_that_was_detached_and_not_dropped_is_dropped(shop: Workshop) -> None:
    name = await add_partition(shop.pool, "outbox", 60)
    await shop.pool.execute(f"ALTER TABLE outbox DETACH PARTITION {name}")
    await Janitor(shop).once()

    assert not await exists(shop.pool, name)


async def find_warnings(shop: Workshop) -> set[str]:
    """What a round warns of."""
    before = {warning: count_warnings(warning) for warning in WARNINGS}
    await Janitor(shop).once()
    return {warning for warning in WARNINGS if count_warnings(warning) > before[warning]}


def count_warnings(warning: str) -> float:
    labels = {"warning": warning}
    return REGISTRY.get_sample_value("leadlog_janitor_warnings_total", labels) or 0


async def test_it_warns_of_a_missing_partition(shop: Workshop) -> None:
    assert await shop.pool.fetch(sql.partition_list_missing) == []
    await shop.pool.execute(f"ALTER TABLE outbox DETACH PARTITION outbox_{week_of(-7):%Y%m%d}")

    assert await find_warnings(shop) == {"partition.missing"}


async def test_it_warns_of_a_reader_that_is_late(shop: Workshop) -> None:
    assert await find_warnings(shop) == set()
    await cut_tick(shop.pool, 0.01)

    assert await find_warnings(shop) == {"reader.late"}


async def test_it_warns_of_an_old_transaction_that_writes_and_of_no_other(shop: Workshop) -> None:
    async with shop.pool.acquire() as conn:
        await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await conn.execute("SELECT count(*) FROM tick")
        await age_ticker(shop.pool)
        await wait_until_unwarned(shop, "transaction.old")
        await conn.execute("COMMIT; BEGIN; SELECT pg_current_xact_id()")
        await wait_until_unwarned(shop, "transaction.old")
        await age_ticker(shop.pool)
        assert "transaction.old" in await find_warnings(shop)
        await conn.execute("COMMIT")
    await wait_until_unwarned(shop, "transaction.old")


async def wait_until_unwarned(shop: Workshop, warning: str) -> None:
    """Other tests write in the same cluster, and their transactions count too until they end."""
    async with asyncio.timeout(20):
        while warning in await find_warnings(shop):  # noqa: ASYNC110  # transactions announce nothing
            await asyncio.sleep(0.1)


async def age_ticker(pool: Pool) -> None:
    """A tick of two minutes ago that knows all transactions of now."""
    await pool.execute("SELECT pg_current_xact_id()")
    await pool.execute(
        "WITH cut AS (UPDATE ticker SET tick = tick + 1, at = now() - interval '2 minutes', "
        "snap = pg_current_snapshot() RETURNING tick, generation, snap, at) "
        "INSERT INTO tick SELECT * FROM cut"
    )


async def test_answers_to_idempotency_keys_are_kept_a_day_and_not_much_longer(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "ANSWERS_A_PART", 3)
    for n, hours in enumerate((0, 23.9, *[24.1 + n for n in range(10)])):
        key = make_digest(str(n))
        await shop.pool.execute(
            sql.idempotent_answer_insert_if_new, 1, True, key, key, 200, None, None, "{}", None
        )
        await shop.pool.execute(
            "UPDATE idempotent_answer SET created_at = now() - make_interval(secs => $1) "
            "WHERE key = $2",
            hours * 3600, key,
        )  # fmt: skip
    await Janitor(shop).once()
    assert await shop.pool.fetchval("SELECT count(*) FROM idempotent_answer") == 2

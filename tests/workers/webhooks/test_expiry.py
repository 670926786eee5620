"""Deliveries held for an inactive webhook keep their events, and their expiry is reported."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from msgspec.structs import replace
from prometheus_client import REGISTRY

from service.database.connect import create_pool
from service.settings import Settings
from service.webhooks.reconciliation import count_expired
from service.webhooks.replays import ReplayRequest, get_replay, start_replay
from tests.harness.cluster import Cluster
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.partitions import add_partition, exists, week_of
from tests.harness.worker_harness import make_worker_harness
from tests.loopback.receiver import run_receiver
from workers.delivery.expiry import expire_held
from workers.dispatcher import Dispatcher
from workers.janitor import Janitor
from workers.replayer import Replayer

HOLD_DAYS = 90


@pytest.fixture
async def delivery_harness(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[DeliveryHarness]:
    """A harness with a paused endpoint and a separate database, because tests drop tables."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn, webhook_hold_days=HOLD_DAYS)
        async with await create_pool(settings, "tests") as pool:
            delivery_harness = await open_delivery_harness(
                await make_worker_harness(pool, settings, redis_client), "http://127.0.0.1:9/"
            )
            await pool.execute("UPDATE endpoint SET status = 'paused'")
            yield delivery_harness


async def add_old(delivery_harness: DeliveryHarness, days: float, *leads: tuple[str, int]) -> str:
    """Adds deliveries of `days` days ago; returns the name of their events' partition."""
    name = await add_partition(delivery_harness.pool, "webhook_event", days)
    await delivery_harness.add(*leads)
    ids = [f"evt_{lead}_{version}" for lead, version in leads]
    at = week_of(days) + timedelta(hours=1)
    await delivery_harness.pool.execute(
        "UPDATE webhook_event SET stored_at = $1 WHERE event_id = ANY ($2)", at, ids
    )
    await delivery_harness.pool.execute(
        "UPDATE delivery SET stored_at = $1, created_at = $1, due_at = $1 "
        "WHERE event_id = ANY ($2)", at, ids,
    )  # fmt: skip
    return name


async def test_events_of_held_deliveries_outlive_their_partition_and_are_sent(
    delivery_harness: DeliveryHarness,
) -> None:
    waiting = await add_old(delivery_harness, 60, ("a", 1), ("a", 2))
    idle = await add_partition(delivery_harness.pool, "webhook_event", 50)
    await Janitor(delivery_harness.context).once()
    assert await exists(delivery_harness.pool, waiting)
    assert not await exists(delivery_harness.pool, idle)

    async with run_receiver() as receiver:
        await delivery_harness.pool.execute(
            "UPDATE endpoint SET status = 'active', url = $1", receiver.url
        )
        dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
        await delivery_harness.drain(dispatcher)
        await close(dispatcher)
        assert [received.id for received in receiver.received] == ["evt_a_1", "evt_a_2"]
    await Janitor(delivery_harness.context).once()
    assert not await exists(delivery_harness.pool, waiting)


async def test_a_delivery_behind_an_expired_delivery_becomes_due(
    delivery_harness: DeliveryHarness,
) -> None:
    await add_old(delivery_harness, HOLD_DAYS + 8, ("a", 1))
    await delivery_harness.add(("a", 2), ("a", 3))
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '8 hours', "
        "attempts = CASE version WHEN 1 THEN 3 ELSE 0 END"
    )
    assert await expire_held(delivery_harness.pool, HOLD_DAYS) == 1
    due = await delivery_harness.pool.fetch("SELECT event_id FROM delivery WHERE due_at <= now()")
    assert [row["event_id"] for row in due] == ["evt_a_2"]


async def test_expired_deliveries_fail_and_appear_in_the_log_the_metrics_and_the_count(
    delivery_harness: DeliveryHarness,
) -> None:
    old = await add_old(delivery_harness, HOLD_DAYS + 8, *[("a", n) for n in range(1, 8)])
    young = await add_old(delivery_harness, HOLD_DAYS - 8, ("b", 1))
    before = REGISTRY.get_sample_value("leadlog_deliveries_expired_total") or 0
    await Janitor(delivery_harness.context).once()

    assert (
        await exists(delivery_harness.pool, old),
        await exists(delivery_harness.pool, young),
    ) == (False, True)
    finals = [(final["outcome"], final["last_error"]) for final in await delivery_harness.finals()]
    assert finals == [("failed", "event_expired")] * 7
    assert [row["event_id"] for row in await delivery_harness.rows()] == ["evt_b_1"]
    assert (REGISTRY.get_sample_value("leadlog_deliveries_expired_total") or 0) - before == 7

    (event,) = await delivery_harness.pool.fetch("SELECT type, version, lead_id, data FROM outbox")
    data = json.loads(event["data"])
    assert (event["type"], event["version"], event["lead_id"]) == (
        "webhook.expired",
        1,
        delivery_harness.id,
    )
    assert (data["expired"]["count"], data["webhook"]["id"]) == (7, delivery_harness.id)
    assert data["expired"]["since"][:10] == week_of(HOLD_DAYS + 8).date().isoformat()

    now = datetime.now(UTC)
    async with delivery_harness.pool.acquire() as conn:
        (expired,) = await count_expired(conn, now - timedelta(hours=1), now + timedelta(seconds=9))
    assert (expired.endpoint_id, expired.count) == (delivery_harness.id, 7)


async def test_expiry_in_several_batches_logs_one_event(
    delivery_harness: DeliveryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.delivery.expiry.BATCH", 2)
    await add_old(delivery_harness, HOLD_DAYS + 8, *[("a", n) for n in range(1, 6)])
    assert await expire_held(delivery_harness.pool, HOLD_DAYS) == 5
    assert await expire_held(delivery_harness.pool, HOLD_DAYS) == 0
    (data,) = await delivery_harness.pool.fetch("SELECT data FROM outbox")
    assert json.loads(data["data"])["expired"]["count"] == 5


async def test_expiry_and_its_event_are_written_in_one_transaction(
    delivery_harness: DeliveryHarness,
) -> None:
    await add_old(delivery_harness, HOLD_DAYS + 8, ("a", 1))
    await delivery_harness.pool.execute("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(Exception, match="outbox"):
        await expire_held(delivery_harness.pool, HOLD_DAYS)
    assert len(await delivery_harness.rows()) == 1
    await delivery_harness.pool.execute("ALTER TABLE gone RENAME TO outbox")
    assert await expire_held(delivery_harness.pool, HOLD_DAYS) == 1


async def test_a_replay_counts_deliveries_whose_events_are_no_longer_kept_as_expired(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("a", 2))
    async with run_receiver() as receiver:
        await delivery_harness.pool.execute(
            "UPDATE endpoint SET status = 'active', url = $1", receiver.url
        )
        dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
        await delivery_harness.drain(dispatcher)
        await delivery_harness.pool.execute("DELETE FROM webhook_event WHERE event_id = 'evt_a_1'")
        owner_ids = delivery_harness.tenant_id, True, delivery_harness.id
        async with delivery_harness.pool.acquire() as conn:
            started = await start_replay(conn, *owner_ids, ReplayRequest(since="2026-01-01"))
        while await Replayer(delivery_harness.context).once():
            pass
        await delivery_harness.drain(dispatcher)
        await close(dispatcher)
        assert [received.id for received in receiver.received] == [
            "evt_a_1", "evt_a_2", "evt_a_2",
        ]  # fmt: skip
    async with delivery_harness.pool.acquire() as conn:
        done = await get_replay(conn, *owner_ids, started.id)
    assert done is not None
    assert (done.state, done.seen, done.sent, done.expired) == ("done", 2, 1, 1)

"""What waits for a webhook that is not active: kept with its event, and never given up silently."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from msgspec.structs import replace
from prometheus_client import REGISTRY

from service.db import create_pool
from service.settings import Settings
from service.webhooks.reconciling import count_expired
from service.webhooks.replays import ReplayRequest, get_replay, start_replay
from tests.cluster import Cluster
from tests.desk import Desk, close, open_desk
from tests.partitions import add_partition, exists, week_of
from tests.receiver import run_receiver
from tests.workbench import make_workbench
from workers.dispatcher import Dispatcher
from workers.expiry import expire_held
from workers.janitor import Janitor
from workers.replayer import Replayer

HOLD_DAYS = 90


@pytest.fixture
async def desk(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Desk]:
    """On a database of its own, for tables are dropped; its endpoint is paused."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn, webhook_hold_days=HOLD_DAYS)
        async with await create_pool(settings, "tests") as pool:
            desk = await open_desk(
                await make_workbench(pool, settings, redis_client), "http://127.0.0.1:9/"
            )
            await pool.execute("UPDATE endpoint SET status = 'paused'")
            yield desk


async def add_old(desk: Desk, days: float, *leads: tuple[str, int]) -> str:
    """Deliveries of so many days ago, their events in a partition of that week; its name."""
    name = await add_partition(desk.pool, "webhook_event", days)
    await desk.add(*leads)
    ids = [f"evt_{lead}_{version}" for lead, version in leads]
    at = week_of(days) + timedelta(hours=1)
    await desk.pool.execute(
        "UPDATE webhook_event SET stored_at = $1 WHERE event_id = ANY ($2)", at, ids
    )
    await desk.pool.execute(
        "UPDATE delivery SET stored_at = $1, created_at = $1, due_at = $1 "
        "WHERE event_id = ANY ($2)", at, ids,
    )  # fmt: skip
    return name


async def test_events_for_which_something_waits_outlive_their_week_and_are_sent(
    desk: Desk,
) -> None:
    waiting = await add_old(desk, 60, ("a", 1), ("a", 2))
    idle = await add_partition(desk.pool, "webhook_event", 50)
    await Janitor(desk.shop).once()
    assert await exists(desk.pool, waiting)
    assert not await exists(desk.pool, idle)

    async with run_receiver() as receiver:
        await desk.pool.execute("UPDATE endpoint SET status = 'active', url = $1", receiver.url)
        dispatcher = Dispatcher(desk.shop, "dispatcher/0")
        await desk.drain(dispatcher)
        await close(dispatcher)
        assert [received.id for received in receiver.received] == ["evt_a_1", "evt_a_2"]
    await Janitor(desk.shop).once()
    assert not await exists(desk.pool, waiting)


async def test_what_was_put_off_behind_an_expired_delivery_may_go(desk: Desk) -> None:
    await add_old(desk, HOLD_DAYS + 8, ("a", 1))
    await desk.add(("a", 2), ("a", 3))
    await desk.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '8 hours', "
        "attempts = CASE version WHEN 1 THEN 3 ELSE 0 END"
    )
    assert await expire_held(desk.pool, HOLD_DAYS) == 1
    due = await desk.pool.fetch("SELECT event_id FROM delivery WHERE due_at <= now()")
    assert [row["event_id"] for row in due] == ["evt_a_2"]


async def test_what_waits_too_long_is_given_up_and_log_metric_and_reckoning_say_so(
    desk: Desk,
) -> None:
    old = await add_old(desk, HOLD_DAYS + 8, *[("a", n) for n in range(1, 8)])
    young = await add_old(desk, HOLD_DAYS - 8, ("b", 1))
    before = REGISTRY.get_sample_value("leadlog_deliveries_expired_total") or 0
    await Janitor(desk.shop).once()

    assert (await exists(desk.pool, old), await exists(desk.pool, young)) == (False, True)
    finals = [(final["outcome"], final["last_error"]) for final in await desk.finals()]
    assert finals == [("failed", "event_expired")] * 7
    assert [row["event_id"] for row in await desk.rows()] == ["evt_b_1"]
    assert (REGISTRY.get_sample_value("leadlog_deliveries_expired_total") or 0) - before == 7

    (event,) = await desk.pool.fetch("SELECT type, version, lead_id, data FROM outbox")
    data = json.loads(event["data"])
    assert (event["type"], event["version"], event["lead_id"]) == ("webhook.expired", 1, desk.id)
    assert (data["expired"]["count"], data["webhook"]["id"]) == (7, desk.id)
    assert data["expired"]["since"][:10] == week_of(HOLD_DAYS + 8).date().isoformat()

    now = datetime.now(UTC)
    async with desk.pool.acquire() as conn:
        (gone,) = await count_expired(conn, now - timedelta(hours=1), now + timedelta(seconds=9))
    assert (gone.endpoint_id, gone.count) == (desk.id, 7)


async def test_giving_up_takes_turns_and_tells_it_in_one_event(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.expiry.ROWS", 2)
    await add_old(desk, HOLD_DAYS + 8, *[("a", n) for n in range(1, 6)])
    assert await expire_held(desk.pool, HOLD_DAYS) == 5
    assert await expire_held(desk.pool, HOLD_DAYS) == 0
    (data,) = await desk.pool.fetch("SELECT data FROM outbox")
    assert json.loads(data["data"])["expired"]["count"] == 5


async def test_the_log_is_not_told_of_what_was_not_given_up(desk: Desk) -> None:
    await add_old(desk, HOLD_DAYS + 8, ("a", 1))
    await desk.pool.execute("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(Exception, match="outbox"):
        await expire_held(desk.pool, HOLD_DAYS)
    assert len(await desk.rows()) == 1  # the deliveries and the event, or neither
    await desk.pool.execute("ALTER TABLE gone RENAME TO outbox")
    assert await expire_held(desk.pool, HOLD_DAYS) == 1


async def test_a_replay_counts_what_it_cannot_send_any_more(desk: Desk) -> None:
    await desk.add(("a", 1), ("a", 2))
    async with run_receiver() as receiver:
        await desk.pool.execute("UPDATE endpoint SET status = 'active', url = $1", receiver.url)
        dispatcher = Dispatcher(desk.shop, "dispatcher/0")
        await desk.drain(dispatcher)
        await desk.pool.execute("DELETE FROM webhook_event WHERE event_id = 'evt_a_1'")
        whose = desk.tenant_id, True, desk.id
        async with desk.pool.acquire() as conn:
            started = await start_replay(conn, *whose, ReplayRequest(since="2026-01-01"))
        while await Replayer(desk.shop).once():
            pass
        await desk.drain(dispatcher)
        await close(dispatcher)
        assert [received.id for received in receiver.received] == [
            "evt_a_1", "evt_a_2", "evt_a_2",
        ]  # fmt: skip
    async with desk.pool.acquire() as conn:
        done = await get_replay(conn, *whose, started.id)
    assert done is not None
    assert (done.state, done.seen, done.sent, done.expired) == ("done", 2, 1, 1)

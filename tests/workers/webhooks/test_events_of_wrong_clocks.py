"""A webhook receives the events written after its creation even if the clock jumps by a year."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import redis.asyncio
from msgspec.structs import replace

import sql
from service.database.connect import create_pool
from service.encryption import open_encryptor
from service.settings import Settings
from service.webhooks.endpoint_update import EndpointPatch, update_endpoint
from service.webhooks.endpoints import NewEndpoint, create_endpoint
from service.webhooks.reconciliation import Difference, reconcile_since
from tests.harness.cluster import Cluster
from tests.harness.partitions import add_partition
from tests.harness.worker_harness import WorkerHarness, make_worker_harness
from workers.fanout import Fanout

JUMPS = [-365, 365]
"""The numbers of days by which the clock is wrong."""


@pytest.fixture
async def harness(
    cluster: Cluster, settings: Settings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[WorkerHarness]:
    """A harness with a separate database that has partitions of a year ago and in a year."""
    async with cluster.make_database() as dsn:
        settings = replace(settings, database_url=dsn)
        async with await create_pool(settings, "tests") as pool:
            for days in JUMPS:
                await add_partition(pool, "outbox", days)
                await add_partition(pool, "delivery_final", days)
            yield await make_worker_harness(pool, settings, redis_client)


async def open_endpoint(harness: WorkerHarness) -> str:
    who, encryptor = harness.principal, open_encryptor(harness.context.settings)
    async with harness.pool.acquire() as conn, conn.transaction():
        new = NewEndpoint(url="http://127.0.0.1:9/", events=["lead.created"])
        return (await create_endpoint(conn, encryptor, who.tenant_id, who.live, new)).id


async def capture(harness: WorkerHarness, name: str, days: int = 0) -> None:
    """Captures a lead and dates its event as by a clock that is wrong by `days`."""
    lead_id = await harness.capture(f'{{"email": "{name}@example.com"}}')
    await harness.pool.execute(
        "UPDATE outbox SET at = at + make_interval(days => $1) WHERE lead_id = $2", days, lead_id
    )


async def fan_out(harness: WorkerHarness) -> list[str]:
    """Runs fan-out; returns the name (from the email) of each delivery's lead, in log order."""
    await harness.drain(Fanout(harness.context))
    rows = await harness.pool.fetch(
        "SELECT o.data -> 'lead' ->> 'email' AS email "
        "FROM (SELECT event_id FROM delivery UNION ALL SELECT event_id FROM delivery_final) AS d "
        "JOIN outbox o USING (event_id) ORDER BY o.id"
    )
    return [row["email"].removesuffix("@example.com") for row in rows]


async def reconcile(harness: WorkerHarness) -> tuple[int, list[Difference]]:
    """Reconciles the whole log; returns the number of expected deliveries and the differences."""
    async with harness.pool.acquire() as conn:
        found, _ = await reconcile_since(conn, datetime.min.replace(tzinfo=UTC))
    return found.expected, found.differences


@pytest.mark.parametrize("days", JUMPS)
async def test_events_after_the_webhook_are_sent_whatever_their_date(
    harness: WorkerHarness, days: int
) -> None:
    await open_endpoint(harness)
    await capture(harness, "before")
    await capture(harness, "during", days)
    await capture(harness, "after")
    assert await fan_out(harness) == ["before", "during", "after"]
    assert await reconcile(harness) == (3, [])


@pytest.mark.parametrize("days", JUMPS)
async def test_events_before_the_webhook_are_not_sent_whatever_their_date(
    harness: WorkerHarness, days: int
) -> None:
    await capture(harness, "early", days)
    await open_endpoint(harness)
    await capture(harness, "late")
    assert await fan_out(harness) == ["late"]
    assert await reconcile(harness) == (1, [])


@pytest.mark.parametrize("days", JUMPS)
async def test_events_before_a_change_of_types_are_no_difference(
    harness: WorkerHarness, days: int
) -> None:
    endpoint_id = await open_endpoint(harness)
    await capture(harness, "created", days)
    assert await fan_out(harness) == ["created"]
    who, encryptor = harness.principal, open_encryptor(harness.context.settings)
    async with harness.pool.acquire() as conn, conn.transaction():
        patch = EndpointPatch(events=["lead.deleted"])
        assert await update_endpoint(conn, encryptor, who.tenant_id, who.live, endpoint_id, patch)
    async with harness.pool.acquire() as conn, conn.transaction():
        patch = EndpointPatch(events=["lead.created"])
        assert await update_endpoint(conn, encryptor, who.tenant_id, who.live, endpoint_id, patch)
    await capture(harness, "again")
    assert await fan_out(harness) == ["created", "again"]
    assert await reconcile(harness) == (1, [])


FINISH = (
    "WITH done AS (DELETE FROM delivery RETURNING *) INSERT INTO delivery_final (id, tenant_id, "
    "live, endpoint_id, event_id, stored_at, type, lead_id, version, cause, outcome, attempts, "
    "created_at, finished_at) SELECT id, tenant_id, live, endpoint_id, event_id, stored_at, type, "
    "lead_id, version, cause, 'delivered', 1, created_at, now() + make_interval(days => $1) "
    "FROM done"
)


@pytest.mark.parametrize(("event_days", "finished_days"), [(0, -365), (365, 0), (-365, 0)])
async def test_a_delivery_with_a_finish_time_before_its_event_is_found(
    harness: WorkerHarness, event_days: int, finished_days: int
) -> None:
    await open_endpoint(harness)
    await capture(harness, "one", event_days)
    assert await fan_out(harness) == ["one"]
    await harness.pool.execute(FINISH, finished_days)
    await capture(harness, "two")
    assert await fan_out(harness) == ["one", "two"]
    assert await reconcile(harness) == (2, [])


async def test_a_new_generation_changes_nothing_for_webhooks(harness: WorkerHarness) -> None:
    """Also if the transaction ids of a restored database are larger than new ones."""
    await capture(harness, "early", -365)
    await open_endpoint(harness)
    await capture(harness, "unread", -365)
    await harness.drain()
    assert await harness.pool.fetchval(sql.log_begin_generation_now, 2)
    await capture(harness, "late", -365)
    await open_endpoint(harness)
    await capture(harness, "latest", 365)
    assert await fan_out(harness) == ["unread", "late", "latest", "latest"]
    assert await reconcile(harness) == (4, [])


@pytest.mark.parametrize("seconds", [-30, 30])
async def test_a_clock_set_by_seconds_loses_no_event_of_a_new_webhook(
    harness: WorkerHarness, seconds: int
) -> None:
    await open_endpoint(harness)
    lead_id = await harness.capture('{"email": "next@example.com"}')
    await harness.pool.execute(
        "UPDATE outbox SET at = at + make_interval(secs => $1) WHERE lead_id = $2", seconds, lead_id
    )
    assert await fan_out(harness) == ["next"]
    assert await reconcile(harness) == (1, [])


@pytest.mark.parametrize("days", JUMPS)
async def test_a_new_generation_sends_no_event_again_whatever_its_date(
    harness: WorkerHarness, days: int
) -> None:
    await open_endpoint(harness)
    await capture(harness, "sent", days)
    assert await fan_out(harness) == ["sent"]
    assert await harness.pool.fetchval(sql.log_begin_generation_now, 2)
    await capture(harness, "next", days)
    assert await fan_out(harness) == ["sent", "next"]
    assert await reconcile(harness) == (2, [])


@pytest.mark.parametrize("days", JUMPS)
async def test_a_restore_keeps_the_order_of_new_events_and_new_webhooks(
    harness: WorkerHarness, days: int
) -> None:
    await harness.drain()
    await open_endpoint(harness)
    await capture(harness, "late", days)
    assert await harness.pool.fetchval(sql.log_begin_generation_now, 2)
    assert await fan_out(harness) == ["late"]
    assert await reconcile(harness) == (1, [])

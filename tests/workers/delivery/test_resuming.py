"""When an endpoint becomes active again, its waiting deliveries are sent at once or skipped."""

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness, patch
from tests.harness.running_service import wait_until
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.delivery.maintenance import BATCH, apply_owner_changes
from workers.dispatcher import Dispatcher

MANY = 30_000


async def add_many(delivery_harness: DeliveryHarness, endpoint_id: str, count: int) -> None:
    """Adds deliveries of different leads, without stored events."""
    await delivery_harness.pool.execute(
        "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, "
        "version, due_at, created_at) SELECT 1, true, $1, 'evt_' || n, now(), 'lead.updated', "
        "'many' || n, 1, now(), now() FROM generate_series(1, $2::integer) AS n",
        endpoint_id,
        count,
    )


async def count(delivery_harness: DeliveryHarness, endpoint_id: str) -> int:
    found: int = await delivery_harness.pool.fetchval(
        "SELECT count(*) FROM delivery WHERE endpoint_id = $1", endpoint_id
    )
    return found


async def test_waiting_retries_are_sent_at_once_when_their_endpoint_is_enabled(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.add(*[(f"l{n}", version) for version in (1, 2) for n in range(20)])
    # The first delivery of each lead is backing off, the second waits behind it.
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '8 hours' + version * interval '1 s', "
        "attempts = 2 - version, yields = version = 1, deadline_at = now() + interval '1 day'"
    )
    await patch(delivery_harness, '{"status": "paused"}')
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.maintenance.run()
    await delivery_harness.run_until_idle(dispatcher)
    assert receiver.received == []
    await patch(delivery_harness, '{"status": "active", "resume": "replay"}')
    await dispatcher.maintenance.run()
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    for n in range(20):
        arrived = [received.id for received in receiver.received if f"_l{n}_" in received.id]
        assert arrived == [f"evt_l{n}_1", f"evt_l{n}_2"]


async def test_resuming_works_in_batches_until_all_are_due(
    delivery_harness: DeliveryHarness,
) -> None:
    await add_many(delivery_harness, delivery_harness.id, 2 * BATCH + 7)
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + id * interval '1 s' + interval '1 h', attempts = 1, "
        "yields = true"
    )
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active"}')
    await asyncio.gather(*(apply_owner_changes(delivery_harness.pool) for _ in range(3)))

    async def all_due() -> bool:
        await apply_owner_changes(delivery_harness.pool)
        late = await delivery_harness.pool.fetchval(
            "SELECT count(*) FROM delivery WHERE due_at > now()"
        )
        return bool(late == 0)

    await wait_until(all_due)
    assert await delivery_harness.pool.fetchval("SELECT recall_after FROM endpoint") is None


async def test_another_update_leaves_due_times_unchanged(delivery_harness: DeliveryHarness) -> None:
    await add_many(delivery_harness, delivery_harness.id, 3)
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '1 h', attempts = 1, yields = true"
    )
    await patch(delivery_harness, '{"description": "as before"}')
    await apply_owner_changes(delivery_harness.pool)
    assert await delivery_harness.pool.fetchval("SELECT bool_and(due_at > now()) FROM delivery")


async def test_enabling_opens_a_lane_that_a_dispatcher_had_closed(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3600"})

    async def succeed(_: Received) -> web.Response:
        return web.Response()

    receiver.answer = busy
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.run_until_idle(dispatcher)
    receiver.answer = succeed
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active"}')
    await dispatcher.maintenance.run()
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_1"] * 2


async def test_new_deliveries_are_sent_while_skipped_ones_are_cancelled(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await add_many(delivery_harness, delivery_harness.id, MANY)
    await delivery_harness.add(("same", 1))
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active", "resume": "skip"}')
    await delivery_harness.add(("new", 1), ("same", 2))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    async with asyncio.timeout(10):
        while len(receiver.received) < 2:
            await dispatcher.once()
            await asyncio.sleep(0.01)
    assert await count(delivery_harness, delivery_harness.id) > MANY / 2
    await close(dispatcher)
    assert {received.id for received in receiver.received} == {"evt_new_1", "evt_same_2"}


async def test_the_deletion_of_a_large_endpoint_delays_no_other_skip(
    delivery_harness: DeliveryHarness, harness: WorkerHarness
) -> None:
    await add_many(delivery_harness, "wh_0", MANY)  # the id of a deleted endpoint, first in order
    other = await open_delivery_harness(harness, "http://127.0.0.1:9/")
    await add_many(other, other.id, 400)
    await patch(other, '{"status": "paused"}')
    await patch(other, '{"status": "active", "resume": "skip"}')
    await apply_owner_changes(delivery_harness.pool)
    assert await count(delivery_harness, other.id) == 0
    assert (
        await delivery_harness.pool.fetchval(
            "SELECT count(*) FROM endpoint WHERE skip_before IS NULL"
        )
        == 2
    )
    assert 0 < await count(delivery_harness, "wh_0") < MANY


async def test_a_delivery_in_flight_during_a_skip_is_not_retried(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def fail_late(_: Received) -> web.Response:
        reached.set()
        await released.wait()
        return web.Response(status=500)

    receiver.answer = fail_late
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active", "resume": "skip"}')
    await dispatcher.maintenance.run()
    assert await count(delivery_harness, delivery_harness.id) == 1  # it is leased
    released.set()
    await close(dispatcher)
    await delivery_harness.pool.execute("UPDATE delivery SET due_at = now()")
    again = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.run_until_idle(again)
    await again.maintenance.run()
    await close(again)
    assert len(receiver.received) == 1
    (final,) = await delivery_harness.finals()
    assert (final["outcome"], final["attempts"]) == ("cancelled", 1)
    assert await delivery_harness.pool.fetchval("SELECT skip_before FROM endpoint") is None


async def test_a_skip_uses_the_databases_clock(
    delivery_harness: DeliveryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = SimpleNamespace(now=lambda zone: datetime.now(zone) - timedelta(hours=1))
    monkeypatch.setattr("service.webhooks.endpoint_update.datetime", behind)
    await add_many(delivery_harness, delivery_harness.id, 3)
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active", "resume": "skip"}')
    await apply_owner_changes(delivery_harness.pool)
    assert await count(delivery_harness, delivery_harness.id) == 0

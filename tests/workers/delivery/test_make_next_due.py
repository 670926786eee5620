"""When the first delivery of a lead ends without being sent, the next is due at once."""

import asyncio

import pytest
from aiohttp import web

import sql
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness, patch
from tests.harness.running_service import wait_until
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.delivery.maintenance import MAX_LOST_LEASES, apply_owner_changes, reap_leases
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout


@pytest.fixture
async def delivery_harness(harness: WorkerHarness, receiver: Receiver) -> DeliveryHarness:
    return await open_delivery_harness(
        harness,
        receiver.url,
        tenant_id=harness.principal.tenant_id,
        events=["lead.updated", "lead.qualified"],
    )


async def list_due(delivery_harness: DeliveryHarness) -> list[int]:
    """The versions of the deliveries that are due."""
    rows = await delivery_harness.pool.fetch(
        "SELECT version FROM delivery WHERE due_at <= now() ORDER BY version"
    )
    return [row["version"] for row in rows]


async def defer(delivery_harness: DeliveryHarness, first_due: str = "8 hours") -> None:
    """Makes the first delivery back off, and defers the following ones behind it."""
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + $1::text::interval + version * interval '1 s', "
        "attempts = CASE version WHEN 1 THEN 3 ELSE 0 END",
        first_due,
    )


async def test_deliveries_behind_a_superseded_update_are_due_at_once(
    delivery_harness: DeliveryHarness, harness: WorkerHarness, receiver: Receiver
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def fail_once(_: Received) -> web.Response:
        if released.is_set():
            return web.Response()
        reached.set()
        await released.wait()
        return web.Response(status=500)

    receiver.answer = fail_once
    await delivery_harness.pool.execute("UPDATE endpoint SET coalesces = true")
    fanouts = [Fanout(harness.context)]
    lead_id = await harness.capture('{"email": "a@example.com"}')
    await harness.patch(lead_id, '{"name": "A"}')  # version 2 stays in flight until it fails
    await harness.drain(*fanouts)
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await harness.patch(lead_id, '{"status": "qualified"}')  # versions 3, 4
    await harness.drain(*fanouts)
    await dispatcher.once()
    released.set()
    while dispatcher._in_flight:
        await asyncio.wait(dispatcher._in_flight)
    await delivery_harness.pool.execute("UPDATE delivery SET due_at = due_at + interval '8 hours'")
    assert await list_due(delivery_harness) == []
    await harness.patch(lead_id, '{"name": "B"}')  # version 5 supersedes 2 and 3
    await harness.drain(*fanouts)
    assert await list_due(delivery_harness) == [4, 5]
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert [received.event["data"]["version"] for received in receiver.received] == [2, 4, 5]
    finals = await delivery_harness.pool.fetch(
        "SELECT version, outcome FROM delivery_final ORDER BY version"
    )
    assert [tuple(final) for final in finals] == [
        (2, "superseded"),
        (3, "superseded"),
        (4, "delivered"),
        (5, "delivered"),
    ]


async def test_the_delivery_behind_a_skipped_one_is_due_at_once(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.add(("a", 1))
    await patch(delivery_harness, '{"status": "paused"}')
    await patch(delivery_harness, '{"status": "active", "resume": "skip"}')
    await delivery_harness.add(("a", 2), ("a", 3))
    await defer(delivery_harness)
    await apply_owner_changes(delivery_harness.pool)
    assert await list_due(delivery_harness) == [2]
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_2", "evt_a_3"]


async def test_the_delivery_behind_a_quarantined_one_is_due_at_once(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("a", 2), ("a", 3))
    await defer(delivery_harness)
    await delivery_harness.pool.execute(
        "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second', lost = $1 "
        "WHERE version = 1",
        MAX_LOST_LEASES - 1,
    )
    assert await reap_leases(delivery_harness.pool) == 1
    assert await list_due(delivery_harness) == [2]


async def test_retries_and_other_leads_keep_their_due_times(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("a", 2), ("b", 2))
    await defer(delivery_harness)
    await delivery_harness.pool.execute(
        sql.delivery_make_next_due, [delivery_harness.id, delivery_harness.id], ["a", "a"]
    )
    assert await list_due(delivery_harness) == []  # a 1 is a retry, b 2 is of another lead


async def test_a_concurrent_claim_does_not_defer_a_delivery_that_was_made_due(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("a", 2), ("b", 1), ("b", 2))
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '8 hours', attempts = 3 WHERE version = 1"
    )
    await (
        delivery_harness.pool.execute(  # the claim has read all rows and stops at a 2, by any plan
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock(99); RETURN NEW; END $$; "
            "CREATE TRIGGER wait BEFORE UPDATE ON delivery FOR EACH ROW WHEN (NEW.lead_id = 'a') "
            "EXECUTE FUNCTION wait()"
        )
    )
    try:
        async with delivery_harness.pool.acquire() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(99)")
            claiming = asyncio.create_task(
                delivery_harness.pool.fetch(
                    sql.delivery_claim_many, [delivery_harness.id], [9], 9, 30.0, 15000, 9
                )
            )

            async def waits() -> bool:
                found = await delivery_harness.pool.fetchval(
                    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE d.datname = current_database() AND l.objid = 99 AND NOT l.granted"
                )
                return bool(found)

            await wait_until(waits)
            async with delivery_harness.pool.acquire() as other, other.transaction():
                await other.execute("DELETE FROM delivery WHERE lead_id = 'b' AND version = 1")
                await other.execute(sql.delivery_make_next_due, [delivery_harness.id], ["b"])
        (row,) = await claiming
        assert row["deferred"] == 1
    finally:
        await delivery_harness.pool.execute("DROP TRIGGER wait ON delivery; DROP FUNCTION wait()")
    assert await list_due(delivery_harness) == [2]

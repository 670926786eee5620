"""When a lead's first delivery ends without being sent, the next goes at once."""

import asyncio

import pytest
from aiohttp import web

import sql
from tests.desk import Desk, close, open_desk, patch
from tests.receiver import Received, Receiver
from tests.webhooks import wait_until
from tests.workbench import Workbench
from workers.delivery.tidying import MAX_LOST_LEASES, reap_leases, sweep
from workers.dispatcher import Dispatcher
from workers.fanout import Fanout


@pytest.fixture
async def desk(bench: Workbench, receiver: Receiver) -> Desk:
    return await open_desk(
        bench, receiver.url, tenant_id=bench.who.tenant_id,
        events=["lead.updated", "lead.qualified"],
    )  # fmt: skip


async def list_due(desk: Desk) -> list[int]:
    """The versions that may be sent now."""
    rows = await desk.pool.fetch(
        "SELECT version FROM delivery WHERE due_at <= now() ORDER BY version"
    )
    return [row["version"] for row in rows]


async def put_off(desk: Desk, first_due: str = "8 hours") -> None:
    """The first is in back-off, and what follows was looked at and put off behind it."""
    await desk.pool.execute(
        "UPDATE delivery SET due_at = now() + $1::text::interval + version * interval '1 s', "
        "attempts = CASE version WHEN 1 THEN 3 ELSE 0 END", first_due,
    )  # fmt: skip


async def test_what_was_put_off_behind_a_superseded_update_goes_at_once(
    desk: Desk, bench: Workbench, receiver: Receiver
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def fail_once(_: Received) -> web.Response:
        if released.is_set():
            return web.Response()
        reached.set()
        await released.wait()
        return web.Response(status=500)

    receiver.answer = fail_once
    await desk.pool.execute("UPDATE endpoint SET coalesces = true")
    fanouts = [Fanout(bench.shop, f"fanout/{n}") for n in range(2)]
    lead_id = await bench.capture('{"email": "a@example.com"}')
    await bench.patch(lead_id, '{"name": "A"}')  # version 2, in flight until it fails
    await bench.drain(*fanouts)
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await bench.patch(lead_id, '{"status": "qualified"}')  # 3 and 4: updated, qualified
    await bench.drain(*fanouts)
    await dispatcher.once()
    released.set()
    while dispatcher._flights:
        await asyncio.wait(dispatcher._flights)
    await desk.pool.execute("UPDATE delivery SET due_at = due_at + interval '8 hours'")
    assert await list_due(desk) == []
    await bench.patch(lead_id, '{"name": "B"}')  # 5 supersedes 2 and 3
    await bench.drain(*fanouts)
    assert await list_due(desk) == [4, 5]
    await desk.drain(dispatcher)
    await close(dispatcher)
    assert [received.event["data"]["version"] for received in receiver.received] == [2, 4, 5]
    finals = await desk.pool.fetch("SELECT version, outcome FROM delivery_final ORDER BY version")
    assert [tuple(final) for final in finals] == [
        (2, "superseded"), (3, "superseded"), (4, "delivered"), (5, "delivered"),
    ]  # fmt: skip


async def test_what_follows_a_skipped_delivery_goes_at_once(desk: Desk, receiver: Receiver) -> None:
    await desk.add(("a", 1))
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active", "resume": "skip"}')
    await desk.add(("a", 2), ("a", 3))
    await put_off(desk)
    await sweep(desk.pool)
    assert await list_due(desk) == [2]
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_2", "evt_a_3"]


async def test_what_follows_a_quarantined_delivery_goes_at_once(desk: Desk) -> None:
    await desk.add(("a", 1), ("a", 2), ("a", 3))
    await put_off(desk)
    await desk.pool.execute(
        "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second', lost = $1 "
        "WHERE version = 1", MAX_LOST_LEASES - 1,
    )  # fmt: skip
    assert await reap_leases(desk.pool) == 1
    assert await list_due(desk) == [2]


async def test_a_call_leaves_a_back_off_and_another_lead_as_they_are(desk: Desk) -> None:
    await desk.add(("a", 1), ("a", 2), ("b", 2))
    await put_off(desk)
    await desk.pool.execute(sql.delivery_call_heads, [desk.id, desk.id], ["a", "a"])
    assert await list_due(desk) == []  # the first of a has been tried, b was not called


async def test_a_claim_that_saw_it_behind_another_does_not_put_off_what_was_called(
    desk: Desk,
) -> None:
    await desk.add(("z", 1), ("z", 2), ("a", 1), ("a", 2))
    await desk.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '8 hours', attempts = 3 WHERE version = 1"
    )
    await desk.pool.execute(  # a claim that has looked at all stops when it puts z 2 off
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(99); RETURN NEW; END $$; "
        "CREATE TRIGGER wait BEFORE UPDATE ON delivery FOR EACH ROW WHEN (NEW.lead_id = 'z') "
        "EXECUTE FUNCTION wait()"
    )
    try:
        async with desk.pool.acquire() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(99)")
            claiming = asyncio.create_task(
                desk.pool.fetch(sql.delivery_claim_many, [desk.id], [9], 9, 30.0, 15000, 9)
            )

            async def waits() -> bool:
                found = await desk.pool.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )
                return bool(found)

            await wait_until(waits)
            async with desk.pool.acquire() as other, other.transaction():
                await other.execute("DELETE FROM delivery WHERE lead_id = 'a' AND version = 1")
                await other.execute(sql.delivery_call_heads, [desk.id], ["a"])
        (row,) = await claiming
        assert row["deferred"] == 1
    finally:
        await desk.pool.execute("DROP TRIGGER wait ON delivery; DROP FUNCTION wait()")
    assert await list_due(desk) == [2]

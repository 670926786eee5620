"""Endpoints made active again: what waits is sent at once, or skipped, and nobody else feels it."""

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.desk import Desk, close, open_desk, patch
from tests.receiver import Received, Receiver
from tests.webhooks import wait_until
from tests.workbench import Workbench
from workers.delivery.tidying import ROWS, sweep
from workers.dispatcher import Dispatcher

MANY = 30_000


async def add_many(desk: Desk, endpoint_id: str, count: int) -> None:
    """Deliveries of leads of their own, without events to send."""
    await desk.pool.execute(
        "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, "
        "version, due_at, created_at) SELECT 1, true, $1, 'evt_' || n, now(), 'lead.updated', "
        "'many' || n, 1, now(), now() FROM generate_series(1, $2::integer) AS n",
        endpoint_id, count,
    )  # fmt: skip


async def count(desk: Desk, endpoint_id: str) -> int:
    found: int = await desk.pool.fetchval(
        "SELECT count(*) FROM delivery WHERE endpoint_id = $1", endpoint_id
    )
    return found


async def test_what_waits_for_a_later_try_is_sent_at_once_when_its_endpoint_is_enabled(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.add(*[(f"l{n}", version) for version in (1, 2) for n in range(20)])
    await desk.pool.execute(  # the first of each lead is in back-off, the second behind it
        "UPDATE delivery SET due_at = now() + interval '8 hours' + version * interval '1 s', "
        "attempts = 2 - version, yields = version = 1, deadline_at = now() + interval '1 day'"
    )
    await patch(desk, '{"status": "paused"}')
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.tidy()
    await desk.land(dispatcher)
    assert receiver.received == []
    await patch(desk, '{"status": "active", "resume": "replay"}')
    await dispatcher.tidy()
    await desk.drain(dispatcher)
    await close(dispatcher)
    for n in range(20):
        came = [received.id for received in receiver.received if f"_l{n}_" in received.id]
        assert came == [f"evt_l{n}_1", f"evt_l{n}_2"]


async def test_a_recall_goes_in_parts_and_ends(desk: Desk) -> None:
    await add_many(desk, desk.id, 2 * ROWS + 7)
    await desk.pool.execute(
        "UPDATE delivery SET due_at = now() + id * interval '1 s' + interval '1 h', attempts = 1, "
        "yields = true"
    )
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active"}')
    await asyncio.gather(*(sweep(desk.pool) for _ in range(3)))

    async def all_due() -> bool:
        await sweep(desk.pool)
        late = await desk.pool.fetchval("SELECT count(*) FROM delivery WHERE due_at > now()")
        return bool(late == 0)

    await wait_until(all_due)
    assert await desk.pool.fetchval("SELECT recall_after FROM endpoint") is None


async def test_what_has_not_been_resumed_keeps_its_time(desk: Desk) -> None:
    await add_many(desk, desk.id, 3)
    await desk.pool.execute(
        "UPDATE delivery SET due_at = now() + interval '1 h', attempts = 1, yields = true"
    )
    await patch(desk, '{"description": "as before"}')
    await sweep(desk.pool)
    assert await desk.pool.fetchval("SELECT bool_and(due_at > now()) FROM delivery")


async def test_enabling_opens_a_lane_that_a_dispatcher_had_closed(
    desk: Desk, receiver: Receiver
) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3600"})

    async def well(_: Received) -> web.Response:
        return web.Response()

    receiver.answer = busy
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.land(dispatcher)
    receiver.answer = well
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active"}')
    await dispatcher.tidy()
    await desk.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_1"] * 2


async def test_an_endpoint_that_skips_is_sent_what_is_new_while_the_old_is_cancelled(
    desk: Desk, receiver: Receiver
) -> None:
    await add_many(desk, desk.id, MANY)
    await desk.add(("same", 1))
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active", "resume": "skip"}')
    await desk.add(("new", 1), ("same", 2))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    async with asyncio.timeout(10):
        while len(receiver.received) < 2:
            await dispatcher.once()
            await asyncio.sleep(0.01)
    assert await count(desk, desk.id) > MANY / 2
    await close(dispatcher)
    assert {received.id for received in receiver.received} == {"evt_new_1", "evt_same_2"}


async def test_a_large_endpoint_that_is_deleted_delays_no_others_skip(
    desk: Desk, bench: Workbench
) -> None:
    await add_many(desk, "wh_0", MANY)  # deleted, and before all others
    other = await open_desk(bench, "http://127.0.0.1:9/")
    await add_many(other, other.id, 400)
    await patch(other, '{"status": "paused"}')
    await patch(other, '{"status": "active", "resume": "skip"}')
    await sweep(desk.pool)
    assert await count(desk, other.id) == 0
    assert await desk.pool.fetchval("SELECT count(*) FROM endpoint WHERE skip_before IS NULL") == 2
    assert 0 < await count(desk, "wh_0") < MANY


async def test_what_was_being_sent_when_its_owner_skipped_it_is_not_tried_again(
    desk: Desk, receiver: Receiver
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def fail_late(_: Received) -> web.Response:
        reached.set()
        await released.wait()
        return web.Response(status=500)

    receiver.answer = fail_late
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active", "resume": "skip"}')
    await dispatcher.tidy()
    assert await count(desk, desk.id) == 1  # whoever sends it has it
    released.set()
    await close(dispatcher)
    await desk.pool.execute("UPDATE delivery SET due_at = now()")
    again = Dispatcher(desk.shop, "dispatcher/0")
    await desk.land(again)
    await again.tidy()
    await close(again)
    assert len(receiver.received) == 1
    (final,) = await desk.finals()
    assert (final["outcome"], final["attempts"]) == ("cancelled", 1)
    assert await desk.pool.fetchval("SELECT skip_before FROM endpoint") is None


async def test_a_skip_goes_by_the_databases_clock(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = SimpleNamespace(now=lambda zone: datetime.now(zone) - timedelta(hours=1))
    monkeypatch.setattr("service.webhooks.changes.datetime", behind)
    await add_many(desk, desk.id, 3)
    await patch(desk, '{"status": "paused"}')
    await patch(desk, '{"status": "active", "resume": "skip"}')
    await sweep(desk.pool)
    assert await count(desk, desk.id) == 0

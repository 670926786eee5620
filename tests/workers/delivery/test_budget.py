"""What uses up the budget of a delivery's retries, and what does not."""

import pytest
from aiohttp import web

import sql
from tests.desk import Desk, close, open_desk, patch
from tests.receiver import Received, Receiver
from tests.workbench import Workbench
from workers.dispatcher import Dispatcher

HOUR_S = 3600.0
SECONDS = 60.0
"""What may pass between two looks."""


async def pass_time(desk: Desk, seconds: float) -> None:
    """As if so many seconds had gone by."""
    for table, columns in {
        "delivery": ("due_at", "deadline_at"),
        "endpoint_health": ("closed_until", "excused_until"),
        "endpoint": ("held_since", "recall_after"),
    }.items():
        moves = ", ".join(f"{name} = {name} - $1 * interval '1 second'" for name in columns)
        await desk.pool.execute(f"UPDATE {table} SET {moves}", seconds)


async def claim_left_s(desk: Desk) -> float:
    """The least budget that a claim finds once the lane is open."""
    await desk.pool.execute("UPDATE delivery SET due_at = now() - interval '1 second'")
    await desk.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
    rows = await desk.pool.fetch(sql.delivery_claim_many, [desk.id], [9], 9, 30.0, 15000, 9)
    await desk.pool.execute("UPDATE delivery SET token = NULL, leased_until = NULL")
    return float(min(row["left_s"] for row in rows if row["left_s"] is not None))


async def fail_once(desk: Desk, receiver: Receiver) -> None:
    """A delivery that has been tried, and has its 72 hours."""

    async def fail(_: Received) -> web.Response:
        return web.Response(status=500)

    receiver.answer = fail
    await desk.add(("tried", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.land(dispatcher)
    await close(dispatcher)


async def test_attempts_beyond_counting_stop_nobody(
    desk: Desk, bench: Workbench, receiver: Receiver
) -> None:
    async def answer(received: Received) -> web.Response:
        busy = received.id == "evt_often_1"
        return web.Response(status=429 if busy else 200, headers={"Retry-After": "0"})

    receiver.answer = answer
    healthy = await open_desk(bench, f"{receiver.url}/healthy")
    await desk.add(("often", 1))
    await healthy.add(("a", 1))
    await desk.pool.execute(
        "UPDATE delivery SET attempts = 32767, yields = true, deadline_at = now() + interval '1 h' "
        "WHERE lead_id = 'often'"
    )
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.land(dispatcher)
    assert sorted(received.id for received in receiver.received) == ["evt_a_1", "evt_often_1"]
    (row,) = await desk.rows()
    assert (row["event_id"], row["attempts"], row["leased_until"]) == ("evt_often_1", 32767, None)
    await desk.pool.execute("UPDATE delivery SET deadline_at = now(), due_at = now()")
    await desk.pool.execute("UPDATE endpoint_health SET closed_until = NULL, excused_s = 0")
    dispatcher._lanes[desk.id].closed_until = 0
    await desk.land(dispatcher)
    await close(dispatcher)
    failed = [final["event_id"] for final in await desk.finals() if final["outcome"] == "failed"]
    assert failed == ["evt_often_1"]


async def test_retry_after_costs_no_delivery_of_its_lane_anything(
    desk: Desk, receiver: Receiver
) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7200"})

    await fail_once(desk, receiver)
    receiver.answer = busy
    await desk.add(("asked", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.land(dispatcher)
    await close(dispatcher)
    await pass_time(desk, 2 * HOUR_S)
    assert await claim_left_s(desk) == pytest.approx(72 * HOUR_S, abs=SECONDS)
    await pass_time(desk, HOUR_S)
    assert await claim_left_s(desk) == pytest.approx(71 * HOUR_S, abs=SECONDS)


async def test_pauses_that_overlap_count_once_and_an_open_breaker_never(
    desk: Desk, receiver: Receiver
) -> None:
    await fail_once(desk, receiver)
    for closed_s, excused_s in ((3600.0, 3600.0), (600.0, 600.0), (9000.0, 5400.0), (60.0, 0.0)):
        await desk.pool.execute(sql.endpoint_close_lane, desk.id, closed_s, excused_s)
    assert await claim_left_s(desk) == pytest.approx(72 * HOUR_S, abs=SECONDS)  # not ahead of time
    await pass_time(desk, 3 * HOUR_S)
    assert await claim_left_s(desk) == pytest.approx(70.5 * HOUR_S, abs=SECONDS)


async def test_a_first_failure_during_a_pause_has_its_budget_and_no_more(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.pool.execute(sql.endpoint_close_lane, desk.id, 0.0, 2 * HOUR_S)
    await fail_once(desk, receiver)
    await pass_time(desk, 5 * HOUR_S)
    assert await claim_left_s(desk) == pytest.approx(69 * HOUR_S, abs=SECONDS)


@pytest.mark.parametrize("held", ["paused", "410"])
async def test_time_held_costs_nothing_whoever_held_it(
    desk: Desk, receiver: Receiver, held: str
) -> None:
    await fail_once(desk, receiver)
    await desk.pool.execute(sql.endpoint_close_lane, desk.id, HOUR_S, HOUR_S)  # the two overlap
    if held == "paused":
        await patch(desk, '{"status": "paused"}')
        await pass_time(desk, 5 * HOUR_S)
        await patch(desk, '{"status": "paused", "description": "still"}')
    else:
        assert await desk.pool.fetchval(sql.endpoint_disable, desk.id, "it answered 410", "evt_x")
    await pass_time(desk, 100 * HOUR_S)
    await patch(desk, '{"status": "active"}')
    assert await claim_left_s(desk) == pytest.approx(72 * HOUR_S, abs=SECONDS)
    await pass_time(desk, 10 * HOUR_S)
    assert await claim_left_s(desk) == pytest.approx(62 * HOUR_S, abs=SECONDS)

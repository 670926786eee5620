"""The times that use up the retry budget of a delivery, and those that do not."""

import pytest
from aiohttp import web

import sql
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness, patch
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.dispatcher import Dispatcher

HOUR_S = 3600.0
SECONDS = 60.0
"""The tolerance: real time passes during a test."""


async def pass_time(delivery_harness: DeliveryHarness, seconds: float) -> None:
    """Moves all stored times into the past by `seconds`."""
    for table, columns in {
        "delivery": ("due_at", "deadline_at"),
        "endpoint_health": ("closed_until", "excused_until"),
        "endpoint": ("held_since", "recall_after"),
    }.items():
        moves = ", ".join(f"{name} = {name} - $1 * interval '1 second'" for name in columns)
        await delivery_harness.pool.execute(f"UPDATE {table} SET {moves}", seconds)


async def claim_left_s(delivery_harness: DeliveryHarness) -> float:
    """The smallest budget that a claim returns once the lane is open."""
    await delivery_harness.pool.execute("UPDATE delivery SET due_at = now() - interval '1 second'")
    await delivery_harness.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
    rows = await delivery_harness.pool.fetch(
        sql.delivery_claim_many, [delivery_harness.id], [9], 9, 30.0, 15000, 9
    )
    await delivery_harness.pool.execute("UPDATE delivery SET token = NULL, leased_until = NULL")
    return float(min(row["left_s"] for row in rows if row["left_s"] is not None))


async def fail_once(delivery_harness: DeliveryHarness, receiver: Receiver) -> None:
    """Makes a delivery with one failed attempt, whose budget is 72 hours."""

    async def fail(_: Received) -> web.Response:
        return web.Response(status=500)

    receiver.answer = fail
    await delivery_harness.add(("tried", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.run_until_idle(dispatcher)
    await close(dispatcher)


async def test_the_largest_number_of_attempts_stops_no_other_delivery(
    delivery_harness: DeliveryHarness, harness: WorkerHarness, receiver: Receiver
) -> None:
    async def answer(received: Received) -> web.Response:
        busy = received.id == "evt_often_1"
        return web.Response(status=429 if busy else 200, headers={"Retry-After": "0"})

    receiver.answer = answer
    healthy = await open_delivery_harness(harness, f"{receiver.url}/healthy")
    await delivery_harness.add(("often", 1))
    await healthy.add(("a", 1))
    await delivery_harness.pool.execute(
        "UPDATE delivery SET attempts = 32767, yields = true, deadline_at = now() + interval '1 h' "
        "WHERE lead_id = 'often'"
    )
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.run_until_idle(dispatcher)
    assert sorted(received.id for received in receiver.received) == ["evt_a_1", "evt_often_1"]
    (row,) = await delivery_harness.rows()
    assert (row["event_id"], row["attempts"], row["leased_until"]) == ("evt_often_1", 32767, None)
    await delivery_harness.pool.execute("UPDATE delivery SET deadline_at = now(), due_at = now()")
    await delivery_harness.pool.execute(
        "UPDATE endpoint_health SET closed_until = NULL, excused_s = 0"
    )
    dispatcher._lanes[delivery_harness.id].closed_until = 0
    await delivery_harness.run_until_idle(dispatcher)
    await close(dispatcher)
    failed = [
        final["event_id"]
        for final in await delivery_harness.finals()
        if final["outcome"] == "failed"
    ]
    assert failed == ["evt_often_1"]


async def test_retry_after_uses_up_no_budget_of_its_lane(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7200"})

    await fail_once(delivery_harness, receiver)
    receiver.answer = busy
    await delivery_harness.add(("asked", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.run_until_idle(dispatcher)
    await close(dispatcher)
    await pass_time(delivery_harness, 2 * HOUR_S)
    assert await claim_left_s(delivery_harness) == pytest.approx(72 * HOUR_S, abs=SECONDS)
    await pass_time(delivery_harness, HOUR_S)
    assert await claim_left_s(delivery_harness) == pytest.approx(71 * HOUR_S, abs=SECONDS)


async def test_overlapping_pauses_are_excused_once_and_an_open_breaker_is_not(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await fail_once(delivery_harness, receiver)
    for closed_s, excused_s in ((3600.0, 3600.0), (600.0, 600.0), (9000.0, 5400.0), (60.0, 0.0)):
        await delivery_harness.pool.execute(
            sql.endpoint_close_lane, delivery_harness.id, closed_s, excused_s
        )
    assert await claim_left_s(delivery_harness) == pytest.approx(
        72 * HOUR_S, abs=SECONDS
    )  # the pauses are not counted in advance
    await pass_time(delivery_harness, 3 * HOUR_S)
    assert await claim_left_s(delivery_harness) == pytest.approx(70.5 * HOUR_S, abs=SECONDS)


async def test_a_first_failure_during_a_pause_gets_its_normal_budget(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.pool.execute(
        sql.endpoint_close_lane, delivery_harness.id, 0.0, 2 * HOUR_S
    )
    await fail_once(delivery_harness, receiver)
    await pass_time(delivery_harness, 5 * HOUR_S)
    assert await claim_left_s(delivery_harness) == pytest.approx(69 * HOUR_S, abs=SECONDS)


@pytest.mark.parametrize("held", ["paused", "410"])
async def test_time_paused_or_disabled_uses_up_no_budget(
    delivery_harness: DeliveryHarness, receiver: Receiver, held: str
) -> None:
    await fail_once(delivery_harness, receiver)
    await delivery_harness.pool.execute(
        sql.endpoint_close_lane, delivery_harness.id, HOUR_S, HOUR_S
    )  # the two overlap
    if held == "paused":
        await patch(delivery_harness, '{"status": "paused"}')
        await pass_time(delivery_harness, 5 * HOUR_S)
        await patch(delivery_harness, '{"status": "paused", "description": "still"}')
    else:
        assert await delivery_harness.pool.fetchval(
            sql.endpoint_disable, delivery_harness.id, "The receiver responded 410 Gone.", "evt_x"
        )
    await pass_time(delivery_harness, 100 * HOUR_S)
    await patch(delivery_harness, '{"status": "active"}')
    assert await claim_left_s(delivery_harness) == pytest.approx(72 * HOUR_S, abs=SECONDS)
    await pass_time(delivery_harness, 10 * HOUR_S)
    assert await claim_left_s(delivery_harness) == pytest.approx(62 * HOUR_S, abs=SECONDS)

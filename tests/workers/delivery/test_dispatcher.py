"""Leases, order and failures of dispatchers; the tests call their `once()`."""

import asyncio
import random
import time
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.delivery_harness import DeliveryHarness, close
from tests.loopback.receiver import Received, Receiver
from workers.delivery.claims import Claim
from workers.delivery.maintenance import MAX_LOST_LEASES, reap_leases
from workers.dispatcher import Dispatcher
from workers.jobs import WorkerContext


async def test_two_dispatchers_send_each_delivery_once_and_in_the_order_of_its_lead(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    seen: list[tuple[str, int]] = []

    async def answer(received: Received) -> web.Response:
        _, lead, version = received.id.split("_")
        await asyncio.sleep(random.random() / 200)
        if random.random() < 0.1:
            return web.Response(status=500)
        seen.append((lead, int(version)))
        return web.Response()

    receiver.answer = answer
    leads = [(f"l{n}", version) for version in range(1, 9) for n in range(40)]
    await delivery_harness.add(*leads)
    dispatchers = [Dispatcher(delivery_harness.context, f"dispatcher/{n}") for n in range(2)]

    async def make_due_repeatedly() -> None:
        while True:
            await delivery_harness.pool.execute(
                "UPDATE delivery SET due_at = now() WHERE leased_until IS NULL AND due_at > now()"
            )
            await delivery_harness.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
            for dispatcher in dispatchers:
                for lane in dispatcher._lanes.values():
                    lane.closed_until = 0
            await asyncio.sleep(0.05)

    making_due = asyncio.create_task(make_due_repeatedly())
    await delivery_harness.drain(*dispatchers)
    making_due.cancel()
    await close(*dispatchers)
    assert sorted(seen) == sorted(leads)
    for n in range(40):
        assert [version for lead, version in seen if lead == f"l{n}"] == list(range(1, 9))


async def test_one_failing_lead_delays_no_other(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    async def answer(received: Received) -> web.Response:
        return web.Response(status=400 if received.id.startswith("evt_stuck") else 200)

    receiver.answer = answer
    await delivery_harness.add(
        *[("stuck", version) for version in range(1, 60)], *[(f"l{n}", 1) for n in range(60)]
    )
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher, left=59)
    while await dispatcher.once():
        pass
    await close(dispatcher)
    assert {received.id for received in receiver.received if "stuck" in received.id} == {
        "evt_stuck_1"
    }
    followers = [row for row in await delivery_harness.rows() if row["event_id"] != "evt_stuck_1"]
    assert all(
        row["put_off_s"] > 1 for row in followers
    )  # deferred, so that not every claim reads them


async def test_the_next_delivery_of_a_lead_is_due_as_soon_as_the_first_is_finished(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.add(*[("hot", version) for version in range(1, 51)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    async with asyncio.timeout(10):  # each would take a second if it stayed deferred
        await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == [f"evt_hot_{n}" for n in range(1, 51)]


async def test_a_lost_lease_is_reaped_and_its_late_settlement_is_refused(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    released = asyncio.Event()
    reached = asyncio.Event()

    async def answer(_: Received) -> web.Response:
        if len(receiver.received) == 1:
            reached.set()
            await released.wait()
        return web.Response()

    receiver.answer = answer
    await delivery_harness.add(("a", 1))
    stalled, healthy = (Dispatcher(delivery_harness.context, f"dispatcher/{n}") for n in range(2))
    await stalled.once()
    await reached.wait()
    await stalled.maintenance.stop()  # its round could reap the lease first
    await delivery_harness.pool.execute(
        "UPDATE delivery SET leased_until = now() - interval '1 second'"
    )
    assert await reap_leases(delivery_harness.pool) == 1
    await delivery_harness.drain(healthy)
    (final,) = await delivery_harness.finals()
    assert (final["outcome"], final["attempts"]) == ("delivered", 2)
    released.set()
    await close(stalled, healthy)
    assert await delivery_harness.finals() == [final]
    attempts = await delivery_harness.pool.fetch(
        "SELECT number, status FROM attempt ORDER BY number"
    )
    assert [tuple(attempt) for attempt in attempts] == [(1, 200), (2, 200)]


async def test_a_stalled_process_sends_no_delivery_whose_lease_may_expire(
    delivery_harness: DeliveryHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.delivery.claims.LEASE_MARGIN_S", 0.3)
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    claim = dispatcher._claimer.claim

    async def claim_and_stall(*arguments: Any) -> tuple[list[Claim], int]:
        claimed = await claim(*arguments)
        time.sleep(0.5)  # noqa: ASYNC251  # blocks the process, as SIGSTOP does
        return claimed

    monkeypatch.setattr(dispatcher._claimer, "claim", claim_and_stall)
    assert await dispatcher.once() == 1
    await asyncio.wait(dispatcher._in_flight)
    assert receiver.received == []
    (row,) = await delivery_harness.rows()
    assert (row["token"], row["attempts"], row["lost"]) == (None, 0, 0)
    monkeypatch.setattr(dispatcher._claimer, "claim", claim)
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_1"]


async def test_a_reaped_delivery_stays_ahead_of_later_ones(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.add(("a", 1))
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(40)])
    await delivery_harness.pool.execute(
        "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second' "
        "WHERE lead_id = 'a'"
    )
    assert await reap_leases(delivery_harness.pool) == 1
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    assert "evt_a_1" in [received.id for received in receiver.received[:8]]


async def test_a_delivery_that_loses_its_lease_five_times_is_given_up(
    delivery_harness: DeliveryHarness,
) -> None:
    await delivery_harness.add(("a", 1), ("a", 2))
    for lost in range(1, MAX_LOST_LEASES + 1):
        await delivery_harness.pool.execute(
            "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second' "
            "WHERE version = 1"
        )
        assert await reap_leases(delivery_harness.pool) == 1, lost
    (final,) = await delivery_harness.finals()
    assert (final["outcome"], final["last_error"]) == ("failed", "quarantined")
    (left,) = await delivery_harness.rows()
    assert (left["event_id"], left["lost"]) == ("evt_a_2", 0)


async def test_stopping_gives_back_unfinished_deliveries(
    delivery_harness: DeliveryHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(_: Received) -> web.Response:
        reached.set()
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr("workers.dispatcher.CLOSE_S", 0.2)
    receiver.answer = hang
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await close(dispatcher)
    (row,) = await delivery_harness.rows()
    assert (row["token"], row["attempts"], row["lost"]) == (None, 0, 0)


async def test_a_wrong_secret_key_sends_nothing_and_costs_no_attempt(
    delivery_harness: DeliveryHarness, receiver: Receiver, settings: Settings
) -> None:
    await delivery_harness.add(("a", 1))
    other_key = replace(settings, secret_key="B" * 43 + "=")
    context = WorkerContext(
        other_key,
        delivery_harness.pool,
        delivery_harness.context.redis,
        delivery_harness.context.wakeups,
        "test",
    )
    dispatcher = Dispatcher(context, "dispatcher/0")
    assert await dispatcher.once() == 1
    assert await dispatcher.once() == 0
    await close(dispatcher)
    (row,) = await delivery_harness.rows()
    assert (row["token"], row["attempts"]) == (None, 0)
    assert receiver.received == []


async def test_a_delivery_whose_event_is_deleted_fails_as_event_expired(
    delivery_harness: DeliveryHarness, pool: Pool
) -> None:
    await delivery_harness.add(("a", 1))
    await pool.execute("DELETE FROM webhook_event")
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    await close(dispatcher)
    (final,) = await delivery_harness.finals()
    assert (final["outcome"], final["last_error"]) == ("failed", "event_expired")

"""Dispatchers driven by hand: leases, order, two side by side, and what they do in trouble."""

import asyncio
import random
import time
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from service.db import Pool
from service.settings import Settings
from tests.desk import Desk, close, open_desk
from tests.receiver import Received, Receiver
from tests.workbench import Workbench
from workers.delivery.claims import Claim
from workers.delivery.tidying import MAX_LOST_LEASES, reap_leases
from workers.dispatcher import Dispatcher
from workers.slices import Workshop


async def test_two_dispatchers_side_by_side_send_all_once_and_keep_every_leads_order(
    desk: Desk, receiver: Receiver
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
    await desk.add(*leads)
    dispatchers = [Dispatcher(desk.shop, f"dispatcher/{n}") for n in range(2)]

    async def hurry() -> None:
        while True:
            await desk.pool.execute(
                "UPDATE delivery SET due_at = now() WHERE leased_until IS NULL AND due_at > now()"
            )
            await desk.pool.execute("UPDATE endpoint_health SET closed_until = NULL")
            for dispatcher in dispatchers:
                for lane in dispatcher._lanes.values():
                    lane.closed_until = 0
            await asyncio.sleep(0.05)

    hurrying = asyncio.create_task(hurry())
    await desk.drain(*dispatchers)
    hurrying.cancel()
    await close(*dispatchers)
    assert sorted(seen) == sorted(leads)
    for n in range(40):
        assert [version for lead, version in seen if lead == f"l{n}"] == list(range(1, 9))


async def test_one_stuck_lead_holds_up_no_other(desk: Desk, receiver: Receiver) -> None:
    async def answer(received: Received) -> web.Response:
        return web.Response(status=400 if received.id.startswith("evt_stuck") else 200)

    receiver.answer = answer
    await desk.add(
        *[("stuck", version) for version in range(1, 60)], *[(f"l{n}", 1) for n in range(60)]
    )
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher, left=59)
    while await dispatcher.once():
        pass
    await close(dispatcher)
    assert {received.id for received in receiver.received if "stuck" in received.id} == {
        "evt_stuck_1"
    }
    followers = [row for row in await desk.rows() if row["event_id"] != "evt_stuck_1"]
    assert all(row["put_off_s"] > 1 for row in followers)  # looked at rarely, not at every claim


async def test_a_hot_lead_goes_on_at_once_when_its_first_is_done(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.add(*[("hot", version) for version in range(1, 51)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    async with asyncio.timeout(10):  # a second each if they waited to be looked at again
        await desk.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == [f"evt_hot_{n}" for n in range(1, 51)]


async def test_a_lost_lease_is_taken_back_and_its_late_settlement_is_refused(
    desk: Desk, receiver: Receiver
) -> None:
    released = asyncio.Event()
    reached = asyncio.Event()

    async def answer(_: Received) -> web.Response:
        if len(receiver.received) == 1:
            reached.set()
            await released.wait()
        return web.Response()

    receiver.answer = answer
    await desk.add(("a", 1))
    asleep, awake = (Dispatcher(desk.shop, f"dispatcher/{n}") for n in range(2))
    await asleep.once()
    await reached.wait()
    await desk.pool.execute("UPDATE delivery SET leased_until = now() - interval '1 second'")
    assert await reap_leases(desk.pool) == 1
    await desk.drain(awake)
    (final,) = await desk.finals()
    assert (final["outcome"], final["attempts"]) == ("delivered", 2)
    released.set()
    await close(asleep, awake)
    assert await desk.finals() == [final]
    attempts = await desk.pool.fetch("SELECT number, status FROM attempt ORDER BY number")
    assert [tuple(attempt) for attempt in attempts] == [(1, 200), (2, 200)]


async def test_a_process_that_stood_still_sends_nothing_it_may_no_longer_have(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.delivery.claims.LEASE_MARGIN_S", 0.3)
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    claim = dispatcher._claimer.claim

    async def claim_and_stop(*arguments: Any) -> tuple[list[Claim], int]:
        claimed = await claim(*arguments)
        time.sleep(0.5)  # noqa: ASYNC251  # as by SIGSTOP
        return claimed

    monkeypatch.setattr(dispatcher._claimer, "claim", claim_and_stop)
    assert await dispatcher.once() == 1
    await asyncio.wait(dispatcher._flights)
    assert receiver.received == []
    (row,) = await desk.rows()
    assert (row["token"], row["attempts"], row["lost"]) == (None, 0, 0)
    monkeypatch.setattr(dispatcher._claimer, "claim", claim)
    await desk.drain(dispatcher)
    await close(dispatcher)
    assert [received.id for received in receiver.received] == ["evt_a_1"]


async def test_what_is_taken_back_keeps_its_place_before_what_came_later(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.add(("a", 1))
    await desk.add(*[(f"l{n}", 1) for n in range(40)])
    await desk.pool.execute(
        "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second' "
        "WHERE lead_id = 'a'"
    )
    assert await reap_leases(desk.pool) == 1
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await close(dispatcher)
    assert "evt_a_1" in [received.id for received in receiver.received[:8]]


async def test_a_delivery_that_loses_its_lease_five_times_is_given_up(desk: Desk) -> None:
    await desk.add(("a", 1), ("a", 2))
    for lost in range(1, MAX_LOST_LEASES + 1):
        await desk.pool.execute(
            "UPDATE delivery SET token = 1, leased_until = now() - interval '1 second' "
            "WHERE version = 1"
        )
        assert await reap_leases(desk.pool) == 1, lost
    (final,) = await desk.finals()
    assert (final["outcome"], final["last_error"]) == ("failed", "quarantined")
    (left,) = await desk.rows()
    assert (left["event_id"], left["lost"]) == ("evt_a_2", 0)


async def test_stopping_gives_back_what_cannot_be_finished(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(_: Received) -> web.Response:
        reached.set()
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr("workers.dispatcher.CLOSE_S", 0.2)
    receiver.answer = hang
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await reached.wait()
    await close(dispatcher)
    (row,) = await desk.rows()
    assert (row["token"], row["attempts"], row["lost"]) == (None, 0, 0)


async def test_a_wrong_secret_key_sends_nothing_and_costs_no_attempt(
    desk: Desk, receiver: Receiver, settings: Settings
) -> None:
    await desk.add(("a", 1))
    other_key = replace(settings, secret_key="B" * 43 + "=")
    shop = Workshop(other_key, desk.pool, desk.shop.redis, desk.shop.wakeups, "test")
    dispatcher = Dispatcher(shop, "dispatcher/0")
    assert await dispatcher.once() == 1
    assert await dispatcher.once() == 0
    await close(dispatcher)
    (row,) = await desk.rows()
    assert (row["token"], row["attempts"]) == (None, 0)
    assert receiver.received == []


async def test_an_endpoint_gets_no_more_in_a_second_than_its_owner_set(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.pool.execute("UPDATE endpoint SET rate_limit = 5")
    await desk.add(*[(f"l{n}", 1) for n in range(9)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    begun = time.monotonic()
    await desk.drain(dispatcher)
    took_s = time.monotonic() - begun
    await close(dispatcher)
    assert len(receiver.received) == 9
    assert took_s > 0.6  # five at once, then one every 0.2 s


async def test_an_attempt_takes_no_longer_than_its_owner_set(
    desk: Desk, receiver: Receiver
) -> None:
    async def hang(_: Received) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    await desk.pool.execute("UPDATE endpoint SET timeout_ms = 1000")
    await desk.add(("a", 1))
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    attempt = await desk.pool.fetchrow("SELECT error, total_ms FROM attempt")
    assert attempt is not None
    assert attempt["error"] == "timeout"
    assert 950 < attempt["total_ms"] < 4000


async def test_retry_after_stops_the_whole_lane(desk: Desk, receiver: Receiver) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    receiver.answer = busy
    await desk.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    assert len(receiver.received) <= 8
    again = Dispatcher(desk.shop, "dispatcher/0")  # knows it from the database
    assert await again.once() == 0
    await close(again)
    closed = await desk.pool.fetchval(
        "SELECT extract(epoch FROM closed_until - now())::float8 FROM endpoint_health"
    )
    assert 3500 < closed <= 3600


async def test_an_endpoint_that_is_away_costs_few_requests(
    desk: Desk, bench: Workbench, receiver: Receiver
) -> None:
    dead = await open_desk(bench, "http://127.0.0.1:9/")
    await dead.add(*[(f"l{n}", 1) for n in range(500)])
    await desk.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    for _ in range(20):
        await dispatcher.once()
    await close(dispatcher)
    attempts = await desk.pool.fetchval(
        "SELECT count(*) FROM attempt WHERE endpoint_id = $1", dead.id
    )
    assert attempts <= 16
    health = await desk.pool.fetchrow(
        "SELECT trips, failures, failing_since, closed_until > now() AS closed "
        "FROM endpoint_health WHERE endpoint_id = $1", dead.id
    )  # fmt: skip
    assert health is not None
    assert (health["trips"], health["failures"], health["closed"]) == (1, attempts, True)
    assert len(receiver.received) == 100


async def test_a_delivery_whose_event_is_gone_fails_and_says_so(desk: Desk, pool: Pool) -> None:
    await desk.add(("a", 1))
    await pool.execute("DELETE FROM webhook_event")
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    await close(dispatcher)
    (final,) = await desk.finals()
    assert (final["outcome"], final["last_error"]) == ("failed", "event_expired")

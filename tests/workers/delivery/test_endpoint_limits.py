"""The limits of an endpoint: rate, timeout, pauses, and an open breaker."""

import asyncio
import time

from aiohttp import web

from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.dispatcher import Dispatcher


async def test_the_rate_limit_of_an_endpoint_is_kept(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    await delivery_harness.pool.execute("UPDATE endpoint SET rate_limit = 5")
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(9)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    started_at = time.monotonic()
    await delivery_harness.drain(dispatcher)
    took_s = time.monotonic() - started_at
    await close(dispatcher)
    assert len(receiver.received) == 9
    assert took_s > 0.6  # five at once, then one every 0.2 s


async def test_the_timeout_of_an_endpoint_is_kept(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    async def hang(_: Received) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    await delivery_harness.pool.execute("UPDATE endpoint SET timeout_ms = 1000")
    await delivery_harness.add(("a", 1))
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    attempt = await delivery_harness.pool.fetchrow("SELECT error, total_ms FROM attempt")
    assert attempt is not None
    assert attempt["error"] == "timeout"
    assert 950 < attempt["total_ms"] < 4000


async def test_retry_after_pauses_the_whole_lane(
    delivery_harness: DeliveryHarness, receiver: Receiver
) -> None:
    async def busy(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    receiver.answer = busy
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await close(dispatcher)
    assert len(receiver.received) <= 8
    again = Dispatcher(
        delivery_harness.context, "dispatcher/0"
    )  # reads the pause from the database
    assert await again.once() == 0
    await close(again)
    closed = await delivery_harness.pool.fetchval(
        "SELECT extract(epoch FROM closed_until - now())::float8 FROM endpoint_health"
    )
    assert 3500 < closed <= 3600


async def test_an_unreachable_endpoint_costs_few_requests(
    delivery_harness: DeliveryHarness, harness: WorkerHarness, receiver: Receiver
) -> None:
    dead = await open_delivery_harness(harness, "http://127.0.0.1:9/")
    await dead.add(*[(f"l{n}", 1) for n in range(500)])
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    for _ in range(20):
        await dispatcher.once()
    await close(dispatcher)
    attempts = await delivery_harness.pool.fetchval(
        "SELECT count(*) FROM attempt WHERE endpoint_id = $1", dead.id
    )
    assert attempts <= 16
    health = await delivery_harness.pool.fetchrow(
        "SELECT trips, failures, failing_since, closed_until > now() AS closed "
        "FROM endpoint_health WHERE endpoint_id = $1",
        dead.id,
    )
    assert health is not None
    assert (health["trips"], health["failures"], health["closed"]) == (1, attempts, True)
    assert len(receiver.received) == 100

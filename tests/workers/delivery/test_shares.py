"""The shares of a dispatcher's slots: first attempts and retries, quick lanes and slow lanes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Received, Receiver
from workers.delivery.lane import MAX_IN_FLIGHT, MAX_WINDOW, MAX_YIELDING, ORDINARY
from workers.dispatcher import Dispatcher


@pytest.fixture(autouse=True)
def _close_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.dispatcher.CLOSE_S", 0.1)


async def hang(_: Received) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


def widen(dispatcher: Dispatcher, *endpoints: DeliveryHarness) -> None:
    """Gives each lane the largest window, as after many quick successes."""
    for endpoint in endpoints:
        lane = dispatcher._lanes[endpoint.id]
        lane.proven, lane.response_s, lane.window = True, 0.01, MAX_WINDOW


async def test_retries_leave_slots_for_first_attempts(
    harness: WorkerHarness, receiver: Receiver
) -> None:
    receiver.answer = hang
    endpoints = [await open_delivery_harness(harness, receiver.url) for _ in range(20)]
    for endpoint in endpoints:
        await endpoint.add(*[(f"l{n}", 1) for n in range(30)])
    await harness.pool.execute("UPDATE delivery SET yields = true, attempts = 1")
    dispatcher = Dispatcher(harness.context, "dispatcher/0")
    widen(dispatcher, *endpoints)
    assert await dispatcher.once() == MAX_YIELDING
    for endpoint in endpoints:
        await endpoint.add(*[(f"first{n}", 1) for n in range(10)])
    while await dispatcher.once():
        pass
    claims = list(dispatcher._in_flight.values())
    assert sum(claim.yields for claim in claims) == MAX_YIELDING
    # On a slow machine the hanging requests count as stuck by now, which opens part of the reserve.
    assert MAX_YIELDING < len(claims) <= MAX_IN_FLIGHT
    await close(dispatcher)


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    """Runs the dispatcher in the background."""

    async def run_forever() -> None:
        while True:
            if not await dispatcher.once():
                await asyncio.sleep(0.02)

    task = asyncio.create_task(run_forever())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await close(dispatcher)


async def test_a_healthy_endpoint_does_not_wait_when_all_others_hang_at_once(
    harness: WorkerHarness, receiver: Receiver
) -> None:
    arrived: dict[str, asyncio.Event] = {}

    async def answer(received: Received) -> web.Response:
        if received.path == "/good":
            arrived[received.id].set()
            return web.Response()
        return await hang(received)

    receiver.answer = answer
    good = await open_delivery_harness(harness, f"{receiver.url}/good")
    others = [await open_delivery_harness(harness, f"{receiver.url}/{n}") for n in range(16)]
    for other in others:
        await other.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(harness.context, "dispatcher/0")
    widen(dispatcher, good, *others)
    delays = []
    async with running(dispatcher), asyncio.timeout(30):
        while len(dispatcher._in_flight) < ORDINARY:  # noqa: ASYNC110  # no event announces it
            await asyncio.sleep(0.01)
        for n in range(100):
            event = arrived[f"evt_g{n}_1"] = asyncio.Event()
            begun = time.monotonic()
            await good.add((f"g{n}", 1))
            await event.wait()
            delays.append(time.monotonic() - begun)
        assert len(dispatcher._in_flight) >= ORDINARY  # the others still hang
    delays.sort()
    assert delays[-1] < 5, delays  # only the first may wait; formerly all waited 15 s
    assert delays[len(delays) // 2] < 0.5, delays

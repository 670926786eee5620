"""How a dispatcher's slots are shared: between first attempts and others, quick lanes and slow."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.desk import Desk, close, open_desk
from tests.receiver import Received, Receiver
from tests.workbench import Workbench
from workers.delivery.lane import MAX_IN_FLIGHT, MAX_WINDOW, MAX_YIELDING, ORDINARY
from workers.dispatcher import Dispatcher


@pytest.fixture(autouse=True)
def _close_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.dispatcher.CLOSE_S", 0.1)


async def hang(_: Received) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


def widen(dispatcher: Dispatcher, *desks: Desk) -> None:
    """As if it knew them for long: each may have as much in flight as any."""
    for desk in desks:
        lane = dispatcher._lanes[desk.id]
        lane.proven, lane.took_s, lane.window = True, 0.01, MAX_WINDOW


async def test_retries_leave_slots_for_first_attempts_even_when_all_come_at_once(
    bench: Workbench, receiver: Receiver
) -> None:
    receiver.answer = hang
    desks = [await open_desk(bench, receiver.url) for _ in range(20)]
    for desk in desks:
        await desk.add(*[(f"l{n}", 1) for n in range(30)])
    await bench.pool.execute("UPDATE delivery SET yields = true, attempts = 1")
    dispatcher = Dispatcher(bench.shop, "dispatcher/0")
    widen(dispatcher, *desks)
    assert await dispatcher.once() == MAX_YIELDING
    for desk in desks:
        await desk.add(*[(f"first{n}", 1) for n in range(10)])
    while await dispatcher.once():
        pass
    claims = list(dispatcher._flights.values())
    assert sum(claim.yields for claim in claims) == MAX_YIELDING
    # On a slow machine the hanging ones count as stuck by now, which opens some of the reserve.
    assert MAX_YIELDING < len(claims) <= MAX_IN_FLIGHT
    await close(dispatcher)


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    """It takes turns beside the test."""

    async def take_turns() -> None:
        while True:
            if not await dispatcher.once():
                await asyncio.sleep(0.02)

    turns = asyncio.create_task(take_turns())
    yield
    turns.cancel()
    await asyncio.gather(turns, return_exceptions=True)
    await close(dispatcher)


async def test_a_healthy_endpoint_does_not_wait_when_all_others_begin_to_hang_at_once(
    bench: Workbench, receiver: Receiver
) -> None:
    arrived: dict[str, asyncio.Event] = {}

    async def answer(received: Received) -> web.Response:
        if received.path == "/good":
            arrived[received.id].set()
            return web.Response()
        return await hang(received)

    receiver.answer = answer
    good = await open_desk(bench, f"{receiver.url}/good")
    others = [await open_desk(bench, f"{receiver.url}/{n}") for n in range(16)]
    for other in others:
        await other.add(*[(f"l{n}", 1) for n in range(100)])
    dispatcher = Dispatcher(bench.shop, "dispatcher/0")
    widen(dispatcher, good, *others)
    delays = []
    async with running(dispatcher), asyncio.timeout(30):
        while len(dispatcher._flights) < ORDINARY:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)
        for n in range(100):
            event = arrived[f"evt_g{n}_1"] = asyncio.Event()
            begun = time.monotonic()
            await good.add((f"g{n}", 1))
            await event.wait()
            delays.append(time.monotonic() - begun)
        assert len(dispatcher._flights) >= ORDINARY  # the others still hang
    delays.sort()
    assert delays[-1] < 5, delays  # the first notices; it was 15 s
    assert delays[len(delays) // 2] < 0.5, delays

"""A process that is asked for too much refuses at once, and never says that it is ill."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from msgspec.structs import replace

from service.settings import Settings
from service.shedding import ALWAYS_LET_IN, TURNS, Gate, is_too_late
from tests.factories import Tenant
from tests.serving import Api, serve_api

LIMIT_S = 0.03


@pytest.fixture
async def strict(
    settings: Settings, session: aiohttp.ClientSession, tenant: Tenant
) -> AsyncIterator[Api]:
    """A server that sheds when its loop is late by 10 ms."""
    async with serve_api(replace(settings, shed_after_s=LIMIT_S)) as url:
        yield Api(url, session, tenant, tenant.key())


def test_a_queue_is_too_late_when_its_oldest_has_stood_longer_than_the_limit() -> None:
    assert not is_too_late(10.0, 10.1, 0.15)
    assert is_too_late(10.0, 10.2, 0.15)
    assert not is_too_late(float("inf"), 10.0, 0.15)


def test_one_hiccup_does_not_shut_the_gate_and_lateness_that_stays_does() -> None:
    gate, late_s = Gate(LIMIT_S), LIMIT_S / TURNS + 0.005
    gate.note(late_s, 1.0)
    assert not gate.is_shut
    gate.note(late_s, 1.005)
    assert not gate.is_shut
    gate.note(late_s, 1.02)
    assert gate.is_shut
    gate.note(0.001, 1.03)
    assert not gate.is_shut
    gate.note(late_s, 1.04)
    assert not gate.is_shut


def test_a_crowd_is_let_in_as_far_as_it_can_be_answered_in_twice_the_limit() -> None:
    gate = Gate(0.15)
    for _ in range(1000):  # a burst, and nothing known against it
        assert not gate.is_shut
        gate.enter()
    for _ in range(100):  # 25 of them are answered in 25 ms: 1,000 a second
        for _ in range(25):
            gate.leave()
            gate.enter()
        gate.count(0.025)
    assert gate.is_shut
    for _ in range(690):
        gate.leave()
    gate.count(0.025)  # they all were answered at once
    while not gate.is_shut:
        gate.enter()
    assert gate._at_work > 310
    assert Gate(0.15)._at_work == 0


def test_a_few_are_let_in_however_slow_they_are_and_those_who_wait_on_purpose_do_not_count() -> (
    None
):
    gate = Gate(0.15)
    for _ in range(ALWAYS_LET_IN):
        gate.enter()
    for _ in range(200):
        gate.count(0.025)  # nobody is answered
    assert gate.is_shut
    with gate.resting():
        assert not gate.is_shut
    gate.leave()
    assert not gate.is_shut


async def wait_until_taken(api: Api) -> None:
    async with asyncio.timeout(20):
        while (await api.get("/v1/leads/lead_unknown")).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def block_loop(until: asyncio.Event) -> None:
    """Steals the loop's time, 20 ms of every turn."""
    while not until.is_set():
        time.sleep(0.02)  # noqa: ASYNC251  # it is what the test is about
        await asyncio.sleep(0)


async def test_while_the_loop_is_late_the_api_is_refused_and_health_and_metrics_are_not(
    strict: Api,
) -> None:
    over = asyncio.Event()
    thief = asyncio.create_task(block_loop(over))
    try:
        async with asyncio.timeout(20):
            while (refused := await strict.get("/v1/leads/lead_unknown")).status != 503:
                assert refused.status == 404
        live, metrics = await asyncio.gather(
            strict.with_key(None).get("/health/live"), strict.with_key(None).get("/metrics")
        )
    finally:
        over.set()
        await thief
    assert refused.error["code"] == "unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-request-id"].startswith("req_")
    assert live.status == 200
    assert metrics.status == 200
    assert b'leadlog_requests_shed_total{by="loop"}' in metrics.body
    await wait_until_taken(strict)


async def test_a_refused_body_leaves_the_connection_fit_for_the_next_request(strict: Api) -> None:
    over = asyncio.Event()
    thief = asyncio.create_task(block_loop(over))
    body = {"email": "shed@acme-corp.com", "notes": "x" * 200_000}
    try:
        async with asyncio.timeout(20):
            while (await strict.post("/v1/leads", body)).status != 503:
                pass
    finally:
        over.set()
        await thief
    await wait_until_taken(strict)

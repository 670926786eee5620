"""An overloaded process refuses requests at once, while its health check succeeds."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from msgspec.structs import replace

from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.harness.factories import Tenant

LIMIT_S = 0.03


@pytest.fixture
async def strict(
    settings: Settings, session: aiohttp.ClientSession, tenant: Tenant
) -> AsyncIterator[Api]:
    """A server with a short LIMIT_S, so that it soon sheds load when its event loop is late."""
    async with serve_api(replace(settings, shed_after_s=LIMIT_S)) as url:
        yield Api(url, session, tenant, tenant.key())


async def wait_until_taken(api: Api) -> None:
    async with asyncio.timeout(20):
        while (await api.get("/v1/leads/lead_unknown")).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def block_loop(until: asyncio.Event) -> None:
    """Blocks the loop for 20 ms of every turn."""
    while not until.is_set():
        time.sleep(0.02)  # noqa: ASYNC251  # the purpose of the test
        await asyncio.sleep(0)


async def test_only_api_requests_are_refused_while_the_loop_is_late(
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


async def test_a_connection_serves_further_requests_after_a_refused_body(strict: Api) -> None:
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

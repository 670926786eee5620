"""GET /v1/events with `wait` responds when the caller has an event, or when the time is up."""

import asyncio
import time
from typing import Any

import aiohttp
from msgspec.structs import replace
from redis.asyncio import Redis

from service.database.connect import Pool
from service.events.wake_ups import CHANNEL
from service.settings import Settings
from tests.harness.api_client import Api, serve_api
from tests.service.events.test_feed import create, cut, latest


async def test_waiting_ends_with_the_first_event_of_the_caller(
    caller: Api, other: Any, pool: Pool, redis_client: Redis
) -> None:
    after = await latest(caller)
    waiting = asyncio.create_task(caller.get("/v1/events", after=after, wait=20))
    await create(caller.of(other), f"other{caller.tenant.id}@example.com")
    await cut(pool)
    await redis_client.publish(CHANNEL, "another process,tick")
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    lead_id = await create(caller, "mine@example.com")
    await cut(pool)
    started_at = time.monotonic()
    await redis_client.publish(CHANNEL, "another process,tick")
    page = (await waiting).json
    assert time.monotonic() - started_at < 2
    assert [event["data"]["lead"]["id"] for event in page["data"]] == [lead_id]
    assert not page["pagination"]["hasMore"]


async def test_waiting_without_redis_ends_with_the_first_event_too(caller: Api, pool: Pool) -> None:
    after = await latest(caller)
    waiting = asyncio.create_task(caller.get("/v1/events", after=after, wait=20))
    await create(caller, "mine@example.com")
    await cut(pool)
    async with asyncio.timeout(10):
        assert len((await waiting).json["data"]) == 1


async def test_waiting_ends_when_the_time_is_up(caller: Api) -> None:
    after = await latest(caller)
    started_at = time.monotonic()
    page = (await caller.get("/v1/events", after=after, wait=1)).json
    assert 1 <= time.monotonic() - started_at < 5
    assert page["data"] == []


async def test_waiting_requests_hold_no_database_connection(
    settings: Settings, session: aiohttp.ClientSession, caller: Api, pool: Pool
) -> None:
    async with serve_api(replace(settings, db_pool_size=1)) as url:
        api = Api(url, session, caller.tenant, caller.key)
        after = await latest(api)
        waiting = [
            asyncio.create_task(api.get("/v1/events", after=after, wait=20)) for _ in range(10)
        ]
        for number in range(20):
            await create(api, f"lead{number}@example.com")
        await cut(pool)
        async with asyncio.timeout(10):
            responses = await asyncio.gather(*waiting)
        assert all(response.json["data"] for response in responses)


async def test_a_key_that_is_revoked_while_its_request_waits_reads_nothing(
    caller: Api, pool: Pool
) -> None:
    made = (await caller.post("/v1/api-keys", {"name": "feed", "scope": "read"})).json
    after = await latest(caller)
    reader = caller.with_key(made["key"])
    waiting = asyncio.create_task(reader.get("/v1/events", after=after, wait=20))
    await asyncio.wait([waiting], timeout=0.6)  # longer than a checked key is cached
    assert (await caller.delete(f"/v1/api-keys/{made['id']}")).status == 204
    await create(caller, "secret@example.com")
    await cut(pool)
    assert (await waiting).status == 401

"""GET /v1/events: complete, in order, one's own only, bounded, and awake at once."""

import asyncio
import base64
import time
from typing import Any

import aiohttp
import asyncpg
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

import sql
from service.db import Pool
from service.events import Place, decode_place, encode_place
from service.log import Cursor
from service.settings import Settings
from service.wakeups import CHANNEL
from tests.factories import make_tenant
from tests.serving import Api, serve_api

INSERT = """
INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
VALUES (lead_shard($3), $1, $2, $3, 1, $4, 'lead.updated', 'key_1', now(), '{}')
"""


@pytest.fixture
async def caller(server: str, session: aiohttp.ClientSession, pool: Pool) -> Api:
    """A tenant without any event yet."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    return Api(server, session, tenant, tenant.key())


async def cut(pool: Pool) -> int:
    """Cuts a window; its tick."""
    before = await pool.fetchval(sql.ticker_get_tick)
    tick: int = await pool.fetchval(sql.ticker_cut, before)
    assert tick == before + 1
    return tick


async def create(api: Api, email: str) -> str:
    answer = await api.post("/v1/leads", {"email": email})
    assert answer.status == 201
    lead_id: str = answer.json["id"]
    return lead_id


async def read_all(api: Api, after: str | None = None, **query: Any) -> tuple[list[Any], str]:
    """All events after a cursor, page by page, and the cursor after them."""
    events: list[Any] = []
    for _ in range(1000):
        given = query if after is None else query | {"after": after}
        page = (await api.get("/v1/events", **given)).json
        events += page["data"]
        after = page["pagination"]["nextCursor"]
        if not page["pagination"]["hasMore"]:
            return events, str(after)
    raise AssertionError("it never ends")


async def latest(api: Api) -> str:
    page = (await api.get("/v1/events", after="latest")).json
    assert page["data"] == []
    return str(page["pagination"]["nextCursor"])


async def test_pages_hold_every_event_once_in_the_order_of_the_log(caller: Api, pool: Pool) -> None:
    for number in range(5):
        lead_id = await create(caller, f"lead{number}@example.com")
        await cut(pool)
        await caller.patch(f"/v1/leads/{lead_id}", {"status": "qualified"})
    await cut(pool)
    events, _ = await read_all(caller, limit=4)
    logged = await pool.fetch(
        "SELECT event_id FROM outbox WHERE tenant_id = $1 ORDER BY id", caller.tenant.id
    )
    assert [event["id"] for event in events] == [row["event_id"] for row in logged]
    assert [event["type"] for event in events[:3]] == [
        "lead.created", "lead.updated", "lead.qualified",
    ]  # fmt: skip
    assert list(events[0]) == ["id", "type", "apiVersion", "createdAt", "data"]


async def test_an_event_that_commits_late_is_not_passed_over(
    caller: Api, pool: Pool, database_url: str
) -> None:
    after = await latest(caller)
    late = await asyncpg.connect(database_url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(INSERT, caller.tenant.id, True, "lead_late", f"late {caller.tenant.id}")
    lead_id = await create(caller, "early@example.com")
    await cut(pool)
    events, after = await read_all(caller, after)
    assert [event["data"]["lead"]["id"] for event in events] == [lead_id]
    await transaction.commit()
    await late.close()
    await cut(pool)
    events, _ = await read_all(caller, after)
    assert [event["id"] for event in events] == [f"late {caller.tenant.id}"]


async def test_nobody_sees_the_events_of_another_tenant_or_mode(
    caller: Api, other: Any, pool: Pool
) -> None:
    after = await latest(caller)
    lead_id = await create(caller, "mine@example.com")
    await create(caller.of(other), "theirs@example.com")
    await create(caller.as_(live=False), "test@example.com")
    await cut(pool)
    events, _ = await read_all(caller, after)
    assert [event["data"]["lead"]["id"] for event in events] == [lead_id]
    stolen, _ = await read_all(caller.of(other), after, leadId=lead_id)
    assert stolen == []


async def test_types_and_lead_choose(caller: Api, pool: Pool) -> None:
    first = await create(caller, "one@example.com")
    second = await create(caller, "two@example.com")
    await caller.patch(f"/v1/leads/{first}", {"status": "converted"})
    await cut(pool)
    events, _ = await read_all(caller, types="lead.created,lead.converted")
    assert [event["type"] for event in events] == ["lead.created"] * 2 + ["lead.converted"]
    events, _ = await read_all(caller, leadId=second)
    assert [event["data"]["lead"]["id"] for event in events] == [second]


async def test_windows_of_others_are_passed_in_few_calls(
    caller: Api, other: Any, pool: Pool
) -> None:
    after = await latest(caller)
    for number in range(40):
        await pool.execute(INSERT, other.id, True, f"lead_{number}", f"evt_{other.id}_{number}")
        await cut(pool)
    lead_id = await create(caller, "mine@example.com")
    await cut(pool)
    page = (await caller.get("/v1/events", after=after, limit=1)).json
    assert [event["data"]["lead"]["id"] for event in page["data"]] == [lead_id]


async def test_a_call_that_runs_out_of_time_says_how_far_it_came(
    caller: Api, other: Any, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.SCAN_S", 0.0)
    after = await latest(caller)
    for number in range(20):
        await pool.execute(INSERT, other.id, True, f"lead_{number}", f"evt_{other.id}_n{number}")
        await cut(pool)
    page = (await caller.get("/v1/events", after=after)).json
    assert page["data"] == []
    assert page["pagination"]["hasMore"]
    there = decode_place(page["pagination"]["nextCursor"]).cursor
    assert there.tick == decode_place(after).cursor.tick + 16


async def test_waiting_ends_with_the_first_event_of_ones_own(
    caller: Api, other: Any, pool: Pool, redis_client: Redis
) -> None:
    after = await latest(caller)
    waiting = asyncio.create_task(caller.get("/v1/events", after=after, wait=20))
    await create(caller.of(other), f"other{caller.tenant.id}@example.com")
    await cut(pool)
    await redis_client.publish(CHANNEL, "tick")
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    lead_id = await create(caller, "mine@example.com")
    await cut(pool)
    begun = time.monotonic()
    await redis_client.publish(CHANNEL, "tick")
    page = (await waiting).json
    assert time.monotonic() - begun < 2
    assert [event["data"]["lead"]["id"] for event in page["data"]] == [lead_id]
    assert not page["pagination"]["hasMore"]


async def test_waiting_without_redis_ends_with_the_event_too(caller: Api, pool: Pool) -> None:
    after = await latest(caller)
    waiting = asyncio.create_task(caller.get("/v1/events", after=after, wait=20))
    await create(caller, "mine@example.com")
    await cut(pool)
    async with asyncio.timeout(10):
        assert len((await waiting).json["data"]) == 1


async def test_waiting_ends_when_the_time_is_up(caller: Api) -> None:
    after = await latest(caller)
    begun = time.monotonic()
    page = (await caller.get("/v1/events", after=after, wait=1)).json
    assert 1 <= time.monotonic() - begun < 5
    assert page["data"] == []


async def test_those_who_wait_hold_no_database_connection(
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
            answers = await asyncio.gather(*waiting)
        assert all(answer.json["data"] for answer in answers)


async def test_a_key_that_is_revoked_while_it_waits_is_told_nothing(
    caller: Api, pool: Pool
) -> None:
    made = (await caller.post("/v1/api-keys", {"name": "feed", "scope": "read"})).json
    after = await latest(caller)
    reader = caller.with_key(made["key"])
    waiting = asyncio.create_task(reader.get("/v1/events", after=after, wait=20))
    await asyncio.wait([waiting], timeout=0.6)  # longer than a look-up of the key is believed
    assert (await caller.delete(f"/v1/api-keys/{made['id']}")).status == 204
    await create(caller, "secret@example.com")
    await cut(pool)
    assert (await waiting).status == 401


@pytest.mark.parametrize(
    "after", ["x", "MS4x", "LTEuMS4x", "🙂", "%00", "MS4xLjE=!", "A" * 101,
              base64.urlsafe_b64encode(b"1.9223372036854775807.0").decode()],
)  # fmt: skip
async def test_a_cursor_that_is_none_of_ours_is_a_fault(caller: Api, after: str) -> None:
    answer = await caller.get("/v1/events", after=after)
    assert answer.status == 400
    assert [fault["field"] for fault in answer.error["details"]] == ["after"]


async def test_a_cursor_from_before_what_is_kept_or_from_another_database_is_expired(
    caller: Api, pool: Pool
) -> None:
    newest = await pool.fetchval(sql.ticker_get_tick)
    places = [
        Place(1, Cursor(0)), Place(1, Cursor(newest + 1000)), Place(2, Cursor(newest)),
    ]  # fmt: skip
    for place in places:
        answer = await caller.get("/v1/events", after=encode_place(place))
        assert answer.status == 400
        assert [fault["code"] for fault in answer.error["details"]] == ["expired"]


async def test_what_is_asked_for_is_checked(caller: Api) -> None:
    answer = await caller.get("/v1/events", limit=501, wait=31, types="lead.created,lead.sold")
    assert answer.status == 400
    assert {fault["field"] for fault in answer.error["details"]} == {"limit", "wait", "types"}

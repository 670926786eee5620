"""GET /v1/events returns all events of the caller in order, in bounded pages, without delay."""

import base64
import json
from typing import Any

import asyncpg
import pytest

import sql
from service.database.connect import Pool
from service.database.hidden_numbers import HiddenNumbers
from service.events.event_log import Cursor
from service.events.feed import MAX_PAGE_BYTES, FeedPosition, decode_cursor, encode_cursor
from tests.harness.api_client import Api

INSERT = """
INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
VALUES (lead_shard($3), $1, $2, $3, 1, $4, 'lead.updated', 'key_1', now(), '{}')
"""


async def cut(pool: Pool) -> int:
    """Cut a window and return its tick."""
    before = await pool.fetchval(sql.tick_get_newest)
    tick: int = await pool.fetchval(sql.ticker_cut, before)
    assert tick == before + 1
    return tick


async def create(api: Api, email: str) -> str:
    response = await api.post("/v1/leads", {"email": email})
    assert response.status == 201
    lead_id: str = response.json["id"]
    return lead_id


async def read_all(api: Api, after: str | None = None, **query: Any) -> tuple[list[Any], str]:
    """Read all events after a cursor, page by page; return them and the last cursor."""
    events: list[Any] = []
    for _ in range(1000):
        given = query if after is None else query | {"after": after}
        page = (await api.get("/v1/events", **given)).json
        events += page["data"]
        after = page["pagination"]["nextCursor"]
        if not page["pagination"]["hasMore"]:
            return events, str(after)
    raise AssertionError("the feed has no last page")


async def latest(api: Api) -> str:
    page = (await api.get("/v1/events", after="latest")).json
    assert page["data"] == []
    return str(page["pagination"]["nextCursor"])


async def test_pages_have_every_event_once_in_the_order_of_the_log(caller: Api, pool: Pool) -> None:
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


async def test_an_event_that_commits_late_is_not_skipped(
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


async def test_a_key_reads_no_events_of_another_tenant_or_mode(
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


async def test_a_page_ends_after_about_a_mebibyte_of_events(caller: Api, pool: Pool) -> None:
    data = json.dumps({"text": "é" * 45_000}, ensure_ascii=False)  # 90 kB in UTF-8
    insert = INSERT.replace("'{}'", "$5::json")
    for number in range(30):
        if number == 8:  # a page may end in any window
            await cut(pool)
        event_id = f"evt_{caller.tenant.id}_{number}"
        await pool.execute(insert, caller.tenant.id, True, "lead_fat", event_id, data)
    await cut(pool)
    sizes: list[int] = []
    ids: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await caller.get("/v1/events", limit=500, **after)
        sizes.append(len(page.body))
        ids += [event["id"] for event in page.json["data"]]
        if not page.json["pagination"]["hasMore"]:
            break
        assert page.json["data"]
        after = {"after": page.json["pagination"]["nextCursor"]}
    assert max(sizes) < 1.2 * MAX_PAGE_BYTES
    assert ids == [f"evt_{caller.tenant.id}_{number}" for number in range(30)]


async def test_no_more_than_a_page_of_bytes_is_read_from_the_database(
    caller: Api, pool: Pool
) -> None:
    data = json.dumps({"text": "x" * 90_000})
    before = await pool.fetchval(sql.tick_get_newest)
    for number in range(4):
        values = (caller.tenant.id, True, "lead_fat", f"evt_{caller.tenant.id}_{number}", data)
        await pool.execute(INSERT.replace("'{}'", "$5::json"), *values)
    await cut(pool)
    scope = (caller.tenant.id, True, None, None)
    rows = await pool.fetch(sql.event_read_many, before, 0, 500, 16, *scope, 100_000)
    assert len(rows) == 2  # the second reaches the limit
    rows = await pool.fetch(sql.event_read_many, before, 0, 500, 16, *scope, 1)
    assert len(rows) == 1  # at least one, however large


async def test_types_and_lead_id_filter_the_events(caller: Api, pool: Pool) -> None:
    first = await create(caller, "one@example.com")
    second = await create(caller, "two@example.com")
    await caller.patch(f"/v1/leads/{first}", {"status": "converted"})
    await cut(pool)
    everything, _ = await read_all(caller)
    for types in ("*", "lead.*", "webhook.*,lead.*", "message.sent,*"):
        assert await read_all(caller, types=types) == (everything, _)
    assert (await read_all(caller, types="webhook.*,message.*"))[0] == []
    events, _ = await read_all(caller, types="lead.created,lead.converted")
    assert [event["type"] for event in events] == ["lead.created"] * 2 + ["lead.converted"]
    events, _ = await read_all(caller, leadId=second)
    assert [event["data"]["lead"]["id"] for event in events] == [second]


async def test_one_request_skips_many_windows_of_other_tenants(
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


async def test_a_request_that_runs_out_of_time_returns_the_cursor_that_it_reached(
    caller: Api, other: Any, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.feed.SCAN_S", 0.0)
    after = await latest(caller)
    for number in range(20):
        await pool.execute(INSERT, other.id, True, f"lead_{number}", f"evt_{other.id}_n{number}")
        await cut(pool)
    page = (await caller.get("/v1/events", after=after)).json
    assert page["data"] == []
    assert page["pagination"]["hasMore"]
    cipher = await HiddenNumbers(pool).open()
    there = decode_cursor(page["pagination"]["nextCursor"], cipher).cursor
    assert there.tick == decode_cursor(after, cipher).cursor.tick + 16


@pytest.mark.parametrize(
    "after", ["x", "MS4x", "LTEuMS4x", "🙂", "%00", "MS4xLjE=!", "A" * 101, "A" * 201,
              base64.urlsafe_b64encode(b"1.9223372036854775807.0").decode()],
)  # fmt: skip
async def test_a_malformed_cursor_is_a_fault(caller: Api, after: str) -> None:
    response = await caller.get("/v1/events", after=after)
    assert response.status == 400
    assert [fault["field"] for fault in response.error["details"]] == ["after"]


async def test_a_cursor_of_dropped_ticks_or_of_another_database_is_expired(
    caller: Api, pool: Pool
) -> None:
    [row] = await pool.fetch(sql.tick_get_newest)
    newest, cut_at = row["tick"], row["cut_at"]
    current = FeedPosition(1, Cursor(newest), cut_at)
    cipher = await HiddenNumbers(pool).open()
    response = await caller.get("/v1/events", after=encode_cursor(current, cipher))
    assert response.status == 200
    for position in (
        FeedPosition(1, Cursor(0), cut_at),
        FeedPosition(1, Cursor(newest + 1000), cut_at),
        FeedPosition(2, Cursor(newest), cut_at),
        FeedPosition(1, Cursor(newest), cut_at + 1),
    ):
        response = await caller.get("/v1/events", after=encode_cursor(position, cipher))
        assert response.status == 400
        assert [fault["code"] for fault in response.error["details"]] == ["expired"]


async def test_each_query_parameter_is_checked(caller: Api) -> None:
    response = await caller.get("/v1/events", limit=501, wait=31, types="lead.created,lead.sold")
    assert response.status == 400
    assert {fault["field"] for fault in response.error["details"]} == {"limit", "wait", "types"}


async def test_a_page_names_the_tenant_of_its_key_as_the_streams_do(caller: Api) -> None:
    answer = await caller.get("/v1/events", after="latest")
    assert answer.headers["leadlog-tenant"] == str(caller.tenant.id)

"""Who may do what with an endpoint, what input is refused, and how deliveries are listed."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from service.db import Pool
from service.settings import Settings
from tests.cluster import reset_database
from tests.factories import make_tenant
from tests.receiver import Received, run_receiver
from tests.webhooks import SECRET, House, run_house, wait_until


@pytest.fixture(scope="module")
async def house(
    settings: Settings, pool: Pool, admin_conn: asyncpg.Connection
) -> AsyncIterator[House]:
    async with run_house(settings, pool) as house:
        yield house
    await reset_database(admin_conn)


async def test_no_route_shows_or_touches_a_strangers_webhook(house: House, pool: Pool) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        await house.add_lead("mine-only@example.com")
        (final,) = await house.wait_settled(endpoint_id, 1)
        async with pool.acquire() as conn:
            stranger = house.api.of(await make_tenant(conn))
        base = f"/v1/webhooks/{endpoint_id}"
        calls = [
            ("GET", "", None), ("PATCH", "", {"status": "paused"}), ("DELETE", "", None),
            ("POST", "/rotate-secret", {}), ("POST", "/test", {}), ("GET", "/deliveries", None),
            ("GET", f"/deliveries/dlv_{final['id']}", None),
            ("POST", f"/deliveries/dlv_{final['id']}/resend", {}),
            ("POST", "/replay", {"since": "2026-01-01"}), ("GET", "/replays", None),
            ("GET", "/replays/rpl_1", None), ("DELETE", "/replays/rpl_1", None),
        ]  # fmt: skip
        for caller in (stranger, house.api.as_(live=False)):
            for method, path, body in calls:
                sent = None if body is None else json.dumps(body)
                answer = await caller.call(method, base + path, sent)
                assert (method, path, answer.status) == (method, path, 404)
        for scope in ("read", "write"):
            for method, path, body in calls:
                sent = None if body is None else json.dumps(body)
                answer = await house.api.as_(scope).call(method, base + path, sent)
                assert (method, path, answer.status) == (method, path, 403)
        assert (await house.api.get(base)).json["status"] == "active"
        assert len(receiver.received) == 1


async def test_a_second_replay_waits_for_the_first(house: House, pool: Pool) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(  # a replay that some process is at work on
                "INSERT INTO replay (tenant_id, live, id, endpoint_id, since, until, "
                "only_undelivered, at_created_at, created_at) VALUES "
                "($1, true, 'rpl_busy', $2, now(), now(), false, now(), now())",
                house.api.tenant.id, endpoint_id,
            )  # fmt: skip
            waiting = await conn.fetchval("SELECT state FROM replay WHERE id = 'rpl_busy'")
            assert waiting == "running"

        async def look() -> bool:
            path = f"/v1/webhooks/{endpoint_id}/replays/rpl_busy"
            return bool((await house.api.get(path)).json["state"] == "done")

        await wait_until(look)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"rateLimit": 0}, 400, "rateLimit"),
        ({"rateLimit": -1}, 400, "rateLimit"),
        ({"timeoutMs": 999}, 400, "timeoutMs"),
        ({"timeoutMs": 30_001}, 400, "timeoutMs"),
        ({"events": []}, 400, "events"),
        ({"events": None}, 400, "events"),
        ({"status": "disabled"}, 400, "status"),
        ({"payload": "fat"}, 400, "payload"),
        ({"retry": "never"}, 400, "retry"),
        ({"url": "http://169.254.169.254/"}, 422, "url"),
        ({"url": "https://x/#y"}, 422, "url"),
        ({"secret": SECRET}, 400, "secret"),
        ({"pausedUntil": None}, 400, "pausedUntil"),
        ({"headers": {"Host": "x"}}, 400, "headers.Host"),
        ({"headers": {"webhook-id": "x"}}, 400, "headers.webhook-id"),
        ({"headers": {"X-A": "a\r\nB: c"}}, 400, "headers.X-A"),
        ({"headers": {"X A": "a"}}, 400, "headers"),
        ({"headers": {"X-A": "ü"}}, 400, "headers.X-A"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, 400, "headers"),
        ({"headers": {f"X-{n}": "1" for n in range(21)}}, 400, "headers"),
        ({"status": "active", "resume": "never"}, 400, "resume"),
        ({"status": "active", "resume": "2999-01-01"}, 422, "resume"),
        ({"status": "active", "resume": "skip"}, 400, "resume"),  # it is active
        ({"status": "paused", "resume": "replay"}, 400, "resume"),
        ({"resume": "2026-01-01", "description": "new"}, 400, "resume"),
        ({"colour": 1}, 400, "colour"),
    ],
)
async def test_a_bad_patch_is_refused_and_changes_nothing(
    house: House, change: dict[str, Any], status: int, field: str
) -> None:
    endpoint_id = await house.add_webhook("http://127.0.0.1:9/")
    before = (await house.api.get(f"/v1/webhooks/{endpoint_id}")).body
    answer = await house.api.patch(f"/v1/webhooks/{endpoint_id}", change)
    assert (answer.status, answer.error["details"][0]["field"]) == (status, field)
    assert (await house.api.get(f"/v1/webhooks/{endpoint_id}")).body == before
    await house.api.delete(f"/v1/webhooks/{endpoint_id}")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"since": "yesterday"}, 400), ({"since": 5}, 400),
        ({"since": "2026-02-01", "until": "2026-01-01"}, 422),
        ({"since": "2026-02-01", "until": "2026-02-01"}, 422),
        ({"since": "2026-02-01", "onlyUndelivered": "yes"}, 400),
        ({"since": "2026-02-01", "x": 1}, 400),
    ],
)  # fmt: skip
async def test_a_bad_replay_is_refused(house: House, body: Any, status: int) -> None:
    endpoint_id = await house.add_webhook("http://127.0.0.1:9/")
    answer = await house.api.post(f"/v1/webhooks/{endpoint_id}/replay", body)
    assert answer.status == status, answer.body
    assert await house.pool.fetchval("SELECT count(*) FROM replay WHERE endpoint_id = $1",
                                     endpoint_id) == 0  # fmt: skip
    await house.api.delete(f"/v1/webhooks/{endpoint_id}")


async def test_a_replay_over_a_range_of_nothing_is_done_at_once(house: House) -> None:
    endpoint_id = await house.add_webhook("http://127.0.0.1:9/")
    answer = await house.api.post(
        f"/v1/webhooks/{endpoint_id}/replay", {"since": "2020-01-01", "until": "2020-01-02"}
    )
    assert answer.status == 202

    async def done() -> Any:
        found = (await house.api.get(answer.headers["location"])).json
        return found["state"] == "done" and found

    assert (await wait_until(done))["sent"] == 0


async def test_deliveries_come_in_pages(house: House) -> None:
    async with run_receiver() as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        ids = [await house.add_lead(f"page{n}@example.com") for n in range(5)]
        await house.wait_settled(endpoint_id, 5)
        path = f"/v1/webhooks/{endpoint_id}/deliveries"
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await house.api.get(path, limit=2, **cursor)).json
            seen += [item["leadId"] for item in page["data"]]
            if not page["pagination"]["hasMore"]:
                break
            cursor = {"cursor": page["pagination"]["nextCursor"]}
        assert sorted(seen) == sorted(ids)
        assert (await house.api.get(path, state="failed")).json["data"] == []
        for query in ({"state": "lost"}, {"limit": 0}, {"limit": 101}, {"cursor": "%%"}, {"x": 1}):
            assert (await house.api.get(path, **query)).status == 400, query
        for bad in ("dlv_", "dlv_x", "dlv_99999999999999999999", "7", "dlv_0", "dlv_%C2%B2"):
            assert (await house.api.get(f"{path}/{bad}")).status == 404, bad


WAITING = (
    "INSERT INTO delivery (tenant_id, live, endpoint_id, event_id, stored_at, type, lead_id, "
    "due_at, created_at) SELECT tenant_id, live, id, 'evt_' || n, now(), 'lead.created', "
    "'lead_' || n, now() + interval '1 hour', now() FROM endpoint, generate_series(1, 3) AS n "
    "WHERE id = $1"
)
FINISHED = (
    "INSERT INTO delivery_final (id, tenant_id, live, endpoint_id, event_id, stored_at, type, "
    "lead_id, cause, outcome, attempts, created_at, finished_at) SELECT "
    "nextval(pg_get_serial_sequence('delivery', 'id')), tenant_id, live, id, 'evt_' || n, now(), "
    "'lead.created', 'lead_' || n, 'event', $2, 150, now(), now() "
    "FROM endpoint, generate_series(1, 3) AS n WHERE id = $1"
)
OUTCOMES = ["delivered", "failed", "superseded", "cancelled"]


async def list_by(house: House, endpoint_id: str, **query: Any) -> list[Any]:
    """All of a state, two at a time."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        path = f"/v1/webhooks/{endpoint_id}/deliveries"
        page = (await house.api.get(path, limit=2, **query, **cursor)).json
        found += page["data"]
        if not page["pagination"]["hasMore"]:
            return found
        cursor = {"cursor": page["pagination"]["nextCursor"]}


async def test_each_state_lists_its_deliveries_and_no_others(house: House, pool: Pool) -> None:
    endpoint_id = await house.add_webhook("http://127.0.0.1:9/")
    await pool.execute(WAITING, endpoint_id)
    for outcome in OUTCOMES:
        await pool.execute(FINISHED, endpoint_id, outcome)
    ids: list[str] = []
    for state in [*OUTCOMES, "pending"]:
        found = await list_by(house, endpoint_id, state=state)
        assert [item["state"] for item in found] == [state] * 3
        assert [item["nextAttemptAt"] is None for item in found] == [state != "pending"] * 3
        ids += [item["id"] for item in found]
    assert await list_by(house, endpoint_id, state="held") == []
    everything = await list_by(house, endpoint_id)
    assert sorted(item["id"] for item in everything) == sorted(ids)

    await house.api.patch(f"/v1/webhooks/{endpoint_id}", {"status": "paused"})
    held = await list_by(house, endpoint_id, state="held")
    assert [(item["state"], item["nextAttemptAt"]) for item in held] == [("held", None)] * 3
    assert await list_by(house, endpoint_id, state="pending") == []
    path = f"/v1/webhooks/{endpoint_id}/deliveries/{held[0]['id']}"
    assert (await house.api.get(path)).json["nextAttemptAt"] is None


async def test_a_delivery_shows_its_newest_hundred_attempts(house: House, pool: Pool) -> None:
    endpoint_id = await house.add_webhook("http://127.0.0.1:9/")
    await pool.execute(FINISHED, endpoint_id, "failed")
    (item, *_) = await list_by(house, endpoint_id)
    await pool.execute(
        "INSERT INTO attempt (tenant_id, live, endpoint_id, delivery_id, number, at, total_ms, "
        "truncated) SELECT tenant_id, live, id, $2, n, now(), 1, false "
        "FROM endpoint, generate_series(1, 150) AS n WHERE id = $1",
        endpoint_id, int(item["id"].removeprefix("dlv_")),
    )  # fmt: skip
    found = (await house.api.get(f"/v1/webhooks/{endpoint_id}/deliveries/{item['id']}")).json
    assert found["attempts"] == 150
    assert [each["number"] for each in found["attemptLog"]] == list(range(51, 151))


async def test_an_endpoint_that_asked_for_patience_shows_until_when(house: House) -> None:
    async def answer(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with run_receiver(answer) as receiver:
        endpoint_id = await house.add_webhook(receiver.url)
        path = f"/v1/webhooks/{endpoint_id}"
        assert (await house.api.get(path)).json["pausedUntil"] is None
        await house.add_lead("patience@example.com")

        async def look() -> Any:
            return (await house.api.get(path)).json["pausedUntil"]

        until = await wait_until(look)
        assert 3500 < (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds() <= 3600
        await house.add_lead("behind@example.com")

        async def look_behind() -> Any:
            return [i for i in await list_by(house, endpoint_id) if i["attempts"] == 0]

        (behind,) = await wait_until(look_behind)
        assert behind["nextAttemptAt"] == until
        one = (await house.api.get(f"{path}/deliveries/{behind['id']}")).json
        assert one["nextAttemptAt"] == until
        await house.api.patch(path, {"status": "paused"})
        assert (await house.api.get(path)).json["pausedUntil"] is None
        assert len(receiver.received) == 1

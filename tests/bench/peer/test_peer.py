"""The peer gives the same responses as the service; else the comparison would not be fair."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import asyncpg
import pytest
import uvicorn

from service.database.connect import Pool
from service.settings import Settings
from tests.bench.fill import FEW, MANY, count_rare, fill_leads, spell_rare
from tests.bench.peer.app import create_app, create_engine
from tests.bench.peer.tables import SCHEMA, make_tables
from tests.harness.api_client import Api, Server, serve_api
from tests.harness.factories import Tenant, make_tenant

COUNT = 1_000
LEAD = f"/v1/leads/lead_01J{7:023d}"
MOVED = {"updatedAt", "lastActiveAt"}


@pytest.fixture
async def filled(committed: Pool) -> Tenant:
    async with committed.acquire() as conn:
        tenant = await make_tenant(conn)
        await fill_leads(conn, tenant.id, COUNT)
    return tenant


@pytest.fixture
async def api(settings: Settings, filled: Tenant) -> AsyncIterator[Api]:
    """The service."""
    async with serve_api(settings) as url, aiohttp.ClientSession() as session:
        yield Api(url, session, filled, filled.key())


@pytest.fixture
async def rival(
    api: Api, database_url: str, admin_conn: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """The peer, with the same leads and keys in its own tables."""
    engine = create_engine(database_url)
    await make_tables(engine)
    await engine.dispose()
    monkeypatch.setenv("DATABASE_URL", database_url)
    server = Server(uvicorn.Config(create_app(), log_config=None, lifespan="on", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.005)
        yield replace(api, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        server.should_exit = True
        await serving
    await admin_conn.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def read_alike(body: bytes) -> dict[str, Any]:
    """A body without the permitted differences: trailing zeros of a time, the time of a change."""
    fields: dict[str, Any] = json.loads(re.sub(rb"(\.\d{3})000Z", rb"\1Z", body))
    return {name: value for name, value in fields.items() if name not in MOVED}


async def test_the_peer_gives_the_same_responses_as_the_service(api: Api, rival: Api) -> None:
    ours, theirs = await api.get(LEAD), await rival.get(LEAD)
    assert read_alike(theirs.body) == read_alike(ours.body)
    assert len(theirs.json["timeline"]) == 1

    change = {"title": "Director", "customFields": {"industry": None, "budget": 5}}
    ours, theirs = await api.patch(LEAD, change), await rival.patch(LEAD, change)
    assert read_alike(theirs.body) == read_alike(ours.body)
    assert theirs.json["customFields"]["budget"] == 5


async def test_the_peer_keeps_the_costly_promises(rival: Api, committed: Pool) -> None:
    body = {"email": "Ana@acme-corp.com", "customFields": {"a": 1}}
    made = await rival.post("/v1/leads", body)
    taken = await rival.post("/v1/leads", body | {"email": "ana@acme-corp.com"})
    assert (made.status, taken.status) == (201, 409)
    assert taken.json["detail"]["existingLeadId"] == made.json["id"]
    events = await committed.fetch(f"SELECT lead_id, type FROM {SCHEMA}.outbox")
    assert [tuple(event) for event in events] == [(made.json["id"], "lead.created")]
    assert (await rival.get("/v1/leads/lead_none")).status == 404
    assert (await rival.with_key("sk_live_" + "x" * 32).get(LEAD)).status == 401
    assert (await rival.as_("read").post("/v1/leads", body)).status == 403


async def test_the_peer_runs_a_repeated_request_once(rival: Api, committed: Pool) -> None:
    key = {"Idempotency-Key": "once"}
    body = '{"email": "once@acme-corp.com"}'
    answers = [await rival.call("POST", "/v1/leads", body, headers=key) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].body == answers[1].body
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert answers[0].headers["location"] == answers[1].headers["location"]
    other = '{"email": "other@acme-corp.com"}'
    assert (await rival.call("POST", "/v1/leads", other, headers=key)).status == 422
    changed = [await rival.call("PATCH", LEAD, '{"title": "Boss"}', headers=key) for _ in range(2)]
    assert changed[0].body == changed[1].body
    assert await committed.fetchval(f"SELECT count(*) FROM {SCHEMA}.outbox") == 2


async def test_the_peer_finds_the_same_leads_by_a_part_of_a_word(api: Api, rival: Api) -> None:
    for word in (FEW[0], MANY[0]):
        ours, theirs = [await one.get("/v1/leads/search", q=word[:-2]) for one in (api, rival)]
        assert ours.json["pagination"]["total"] == theirs.json["pagination"]["total"] > 0


async def test_a_filled_table_has_known_ids_and_words(filled: Tenant, committed: Pool) -> None:
    rows = await committed.fetch(
        "SELECT id, name, company FROM lead WHERE tenant_id = $1", filled.id
    )
    assert {row["id"] for row in rows} == {f"lead_01J{n:023d}" for n in range(1, COUNT + 1)}
    words = [
        word for row in rows for word in re.split("[ -]", f"{row['name']} {row['company']}".lower())
    ]
    assert all(words.count(word) > 0.05 * COUNT for word in MANY)
    assert max(words.count(word) for word in FEW) < 0.01 * COUNT
    assert set(FEW) & set(words)
    seconds = {row["name"].lower().partition("-")[2] for row in rows} - {""}
    assert seconds <= {spell_rare(number) for number in range(count_rare(COUNT))}
    assert len(seconds) > 0.3 * COUNT

"""Concurrent writes that share an e-mail address, an idempotency key or a lead."""

import asyncio
from uuid import uuid4

from redis.asyncio import Redis

import sql
from service.access.authentication import Principal
from service.database.connect import Pool
from service.errors import Conflict
from service.events.wake_ups import Wakeups
from service.idempotency_keys import IdempotencyKey, StoredResponse
from service.leads.models import NewLead
from service.leads.results import LeadResponse
from service.leads.rows import make_lead_row
from service.leads.store import LeadStore
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse
from tests.service.leads.test_contention import wait_until_blocked
from tests.service.leads.test_leads import create, list_events


async def test_parallel_patches_of_one_lead_lose_nothing(api: Api, pool: Pool) -> None:
    lead = await create(api, "parallel@example.com")
    path = f"/v1/leads/{lead['id']}"
    responses = await asyncio.gather(
        *(api.patch(path, {"customFields": {f"k{n}": n}}) for n in range(40))
    )
    assert {response.status for response in responses} == {200}
    found = (await api.get(path)).json
    assert found["customFields"].keys() == {f"k{n}" for n in range(40)}
    events = await list_events(pool, lead["id"])
    assert [version for _, version, _, _ in events] == list(range(1, 42))
    times = [event[2]["lead"]["updatedAt"] for event in events]
    assert times == sorted(times)


async def test_parallel_creates_of_one_email_address_make_one_lead(api: Api, pool: Pool) -> None:
    emails = ["once@example.com", "ONCE@example.com"] * 20
    responses: list[ApiResponse] = await asyncio.gather(
        *(api.post("/v1/leads", {"email": email}) for email in emails)
    )
    made = [response for response in responses if response.status == 201]
    refused = [response for response in responses if response.status == 409]
    assert (len(made), len(refused)) == (1, 39)
    assert {response.error["existingLeadId"] for response in refused} == {made[0].json["id"]}
    assert len(await list_events(pool, made[0].json["id"])) == 1


async def test_parallel_creates_and_deletes_leave_no_lead_without_its_events(
    api: Api, pool: Pool
) -> None:
    async def create_and_delete() -> int:
        response = await api.post("/v1/leads", {"email": "churn@example.com"})
        if response.status == 201:
            return (await api.delete(f"/v1/leads/{response.json['id']}")).status
        return response.status

    statuses = await asyncio.gather(*(create_and_delete() for _ in range(30)))
    assert set(statuses) <= {
        204,
        409,
        503,
    }  # 503: another request freed the address in between, three times
    counts = await pool.fetch(
        "SELECT type, count(*) AS n FROM outbox WHERE data #>> '{lead,email}' = $1 GROUP BY type",
        "churn@example.com",
    )
    assert {row["n"] for row in counts} == {statuses.count(204)}


async def test_the_first_of_two_creates_with_one_address_in_a_batch_succeeds(
    api: Api, pool: Pool, settings: Settings
) -> None:
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    email = f"twice.{uuid4()}@example.com"
    for _ in range(10):
        email = f"x{email}"
        rows = [make_lead_row(who, NewLead(email=address), None) for address in (email, email)]
        first, second = await store._insert_many(rows)
        assert isinstance(first, LeadResponse)
        assert isinstance(second, Conflict)
        assert second.existing_lead_id == rows[0].id


async def test_a_create_that_another_process_has_just_handled_gets_the_stored_response(
    api: Api, pool: Pool, settings: Settings
) -> None:
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    new = NewLead(email=f"twin.{uuid4()}@example.com")
    key = IdempotencyKey(uuid4().hex, uuid4().hex)
    made = await store.capture(who, new, key)
    ours, other = make_lead_row(who, new, key), make_lead_row(who, new, None)
    found = await store._explain_refusals([ours, other])  # as if our snapshot were older
    response = found[ours.event_id]
    assert isinstance(response, StoredResponse)
    assert response.body == made.body
    assert isinstance(found[other.event_id], Conflict)


async def test_a_create_whose_key_is_committed_while_it_waits_replays_that_response(
    api: Api, pool: Pool, settings: Settings
) -> None:
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    key = IdempotencyKey(uuid4().hex, uuid4().hex)
    email = f"race.{uuid4()}@example.com"
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            sql.idempotent_response_insert_if_new, who.tenant_id, True, key.key, key.request, 201,
            "/v1/leads/first", '"1.0"', "{}", None,
        )  # fmt: skip
        create = asyncio.create_task(store.capture(who, NewLead(email=email), key))
        await wait_until_blocked(pool, "lead_insert_many")
    assert await create == StoredResponse(
        status=201, body=b"{}", location="/v1/leads/first", etag='"1.0"'
    )
    assert await pool.fetchval("SELECT count(*) FROM lead WHERE email = $1", email) == 0

"""Requests whose rows another transaction holds, and those beside them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

import sql
from service.auth import Principal
from service.db import Pool, create_pool
from service.errors import Conflict, Unavailable
from service.leads.outcomes import Shown
from service.leads.rows import make_lead_row
from service.leads.store import HOLD_S, LeadStore
from service.models import NewLead
from service.request_keys import KeptAnswer, RequestKey
from service.settings import Settings
from service.wakeups import Wakeups
from tests.factories import make_lead
from tests.serving import Answer, Api, serve_api

QUICK_S = HOLD_S / 2


@asynccontextmanager
async def locked(pool: Pool, lead_id: str) -> AsyncIterator[None]:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM lead WHERE id = $1 FOR UPDATE", lead_id)
        yield


async def wait_until_blocked(pool: Pool, text: str) -> int:
    """The backend whose statement, with this name, waits for a lock."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1 "
        "AND datname = current_database()"
    )
    async with asyncio.timeout(5):
        while (pid := await pool.fetchval(query, f"/* {text} */%")) is None:  # noqa: ASYNC110  # locks announce nothing
            await asyncio.sleep(0.01)
    return int(pid)


async def send(api: Api, method: str, path: str, body: str, key: str) -> Answer:
    return await api.call(method, path, body, headers={"Idempotency-Key": key})


async def test_a_lead_that_is_held_keeps_no_other_waiting_and_loses_nothing(
    api: Api, pool: Pool
) -> None:
    held, *others = [await make_lead(pool, api.tenant.id) for _ in range(21)]
    async with locked(pool, held):
        refused = asyncio.create_task(api.patch(f"/v1/leads/{held}", {"name": "x"}))
        begun = time.monotonic()
        answers = await asyncio.gather(
            *[api.patch(f"/v1/leads/{lead_id}", {"name": "y"}) for lead_id in others]
        )
        assert time.monotonic() - begun < QUICK_S
        assert {answer.status for answer in answers} == {200}
        answer = await refused
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert held in answer.error["message"]
        assert "retry-after" in answer.headers
    assert (await api.patch(f"/v1/leads/{held}", {"name": "x"})).status == 200


async def test_a_lead_that_is_held_for_a_moment_is_waited_for(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with locked(pool, lead_id):
        patch = asyncio.create_task(api.patch(f"/v1/leads/{lead_id}", {"name": "x"}))
        await wait_until_blocked(pool, "lead_update_many")
    assert (await patch).json["name"] == "x"


async def test_patches_of_a_held_lead_keep_their_order(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    for turn in range(5):
        async with locked(pool, lead_id):
            patches = []
            for n in range(8):
                patches.append(
                    asyncio.create_task(api.patch(f"/v1/leads/{lead_id}", {"name": f"{turn} {n}"}))
                )
                await asyncio.sleep(0.005)
        versions = [(await patch).headers["etag"] for patch in patches]
        numbers = [int(tag.strip('"').partition(".")[0]) for tag in versions]
        assert numbers == list(range(numbers[0], numbers[0] + 8))
    assert (await api.get(f"/v1/leads/{lead_id}")).json["name"] == "4 7"


async def test_a_request_that_is_still_at_work_is_409_under_either_prefix(
    api: Api, pool: Pool
) -> None:
    lead_id, key = await make_lead(pool, api.tenant.id), str(uuid4())
    path, body = f"/v1/leads/{lead_id}", '{"name": "x"}'
    async with locked(pool, lead_id):
        first = asyncio.create_task(send(api, "PATCH", path, body, key))
        await wait_until_blocked(pool, "lead_update_many")
        for prefix in ("", "/api"):
            second = await send(api, "PATCH", prefix + path, body, key)
            assert (second.status, second.error["code"]) == (409, "conflict")
            assert "still at work" in second.error["message"]
            assert second.headers["retry-after"] == "1"
    assert (await first).status == 200
    third = await send(api, "PATCH", path, body, key)
    assert (third.body, third.headers["idempotency-replayed"]) == ((await first).body, "true")


async def test_a_503_is_not_kept_under_its_key(api: Api, pool: Pool) -> None:
    lead_id, key = await make_lead(pool, api.tenant.id), str(uuid4())
    path, body = f"/v1/leads/{lead_id}", '{"name": "x"}'
    async with locked(pool, lead_id):
        assert (await send(api, "PATCH", path, body, key)).status == 503
    answer = await send(api, "PATCH", path, body, key)
    assert answer.status == 200
    assert "idempotency-replayed" not in answer.headers


async def test_a_create_whose_connection_is_lost_is_503_and_not_made_a_second_time(
    api: Api, pool: Pool
) -> None:
    email = f"lost.{uuid4()}@example.com"
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await make_lead(conn, api.tenant.id, email=email)
        lost = asyncio.create_task(api.post("/v1/leads", {"email": email}))
        pid = await wait_until_blocked(pool, "lead_insert_many")
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        assert (await lost).status == 503
        await transaction.rollback()
    assert await pool.fetchval("SELECT count(*) FROM lead WHERE email = $1", email) == 0
    made = await api.post("/v1/leads", {"email": email})
    assert made.status == 201
    events = await pool.fetchval("SELECT count(*) FROM outbox WHERE lead_id = $1", made.json["id"])
    assert events == 1


async def test_of_two_with_one_address_in_one_statement_the_first_is_made(
    api: Api, pool: Pool, settings: Settings
) -> None:
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    email = f"twice.{uuid4()}@example.com"
    for _ in range(10):
        email = f"x{email}"
        rows = [make_lead_row(who, NewLead(email=address), None) for address in (email, email)]
        first, second = await store._insert_many(rows)
        assert isinstance(first, Shown)
        assert isinstance(second, Conflict)
        assert second.existing_lead_id == rows[0].id


async def test_a_create_that_another_process_has_just_answered_gets_that_answer(
    api: Api, pool: Pool, settings: Settings
) -> None:
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    new = NewLead(email=f"twin.{uuid4()}@example.com")
    key = RequestKey(uuid4().hex, uuid4().hex)
    made = await store.capture(who, new, key)
    ours, other = make_lead_row(who, new, key), make_lead_row(who, new, None)
    found = await store._explain_many([ours, other])  # as if our snapshot had been older
    answer = found[ours.id]
    assert isinstance(answer, KeptAnswer)
    assert answer.body == made.body
    assert isinstance(found[other.id], Conflict)


async def test_what_the_caller_has_whole_is_not_read(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    for known, is_read in ((0, True), (1, False), (2, True)):
        (row,) = await pool.fetch(sql.lead_get_many, [api.tenant.id], [True], [lead_id], [known])
        assert (row["version"], row["body"] is not None) == (1, is_read)


async def test_who_comes_behind_one_that_waits_too_long_for_a_connection_is_refused(
    settings: Settings,
) -> None:
    async with await create_pool(settings, "tests", 1, limit_s=0.1) as pool:
        async with pool.acquire():
            waiting = asyncio.create_task(pool.fetchval("SELECT 7"))
            await asyncio.sleep(0.05)
            young = asyncio.create_task(pool.fetchval("SELECT 8"))
            await asyncio.sleep(0.1)
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await pool.fetchval("SELECT 9")
            assert time.monotonic() - begun < 0.05
        assert [await waiting, await young] == [7, 8]
        assert await pool.fetchval("SELECT 10") == 10


async def test_lists_that_do_not_come_on_hold_up_no_other_route(
    api: Api, pool: Pool, settings: Settings
) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with (
        serve_api(replace(settings, shed_after_s=0.2)) as url,
        pool.acquire() as conn,
    ):
        mine = Api(url, api.session, api.tenant, api.key)
        assert (await mine.get(f"/v1/leads/{lead_id}")).status == 200
        async with conn.transaction():
            await conn.execute("LOCK TABLE lead_count IN ACCESS EXCLUSIVE MODE")
            lists = [asyncio.create_task(mine.get("/v1/leads")) for _ in range(30)]
            await asyncio.sleep(0.3)
            for answer in await asyncio.gather(*[mine.get("/v1/leads") for _ in range(10)]):
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
            begun = time.monotonic()
            assert (await mine.get(f"/v1/leads/{lead_id}")).status == 200
            assert (await mine.get("/health/ready")).status == 200
            assert time.monotonic() - begun < QUICK_S
        answers = [answer.status for answer in await asyncio.gather(*lists)]
        assert set(answers) <= {200, 503}
        assert (await mine.get("/v1/leads")).status == 200

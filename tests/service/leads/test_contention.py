"""Requests whose rows another transaction has locked, and other requests at the same time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

import sql
from service.access.authentication import Principal
from service.database.connect import Pool, create_pool
from service.database.pool import ACQUIRE_TIMEOUT_S
from service.errors import Overloaded, Unavailable
from service.events.wake_ups import Wakeups
from service.leads.models import LeadPatch
from service.leads.store import LOCK_WAIT_S, LeadStore
from service.load.admission import STALLED_S
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.harness.factories import make_lead

QUICK_S = LOCK_WAIT_S / 2


@asynccontextmanager
async def locked(pool: Pool, lead_id: str) -> AsyncIterator[None]:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM lead WHERE id = $1 FOR UPDATE", lead_id)
        yield


async def wait_until_blocked(pool: Pool, text: str) -> int:
    """The pid of the backend whose statement with this name waits for a lock."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1 "
        "AND datname = current_database()"
    )
    async with asyncio.timeout(5):
        while (pid := await pool.fetchval(query, f"/* {text} */%")) is None:  # noqa: ASYNC110  # locks announce nothing
            await asyncio.sleep(0.01)
    return int(pid)


async def send(api: Api, method: str, path: str, body: str, key: str) -> ApiResponse:
    return await api.call(method, path, body, headers={"Idempotency-Key": key})


async def test_a_locked_lead_delays_no_other_patch_and_its_own_patch_is_503(
    api: Api, pool: Pool
) -> None:
    locked_id, *others = [await make_lead(pool, api.tenant.id) for _ in range(21)]
    async with locked(pool, locked_id):
        refused = asyncio.create_task(api.patch(f"/v1/leads/{locked_id}", {"name": "x"}))
        begun = time.monotonic()
        responses = await asyncio.gather(
            *[api.patch(f"/v1/leads/{lead_id}", {"name": "y"}) for lead_id in others]
        )
        assert time.monotonic() - begun < QUICK_S
        assert {response.status for response in responses} == {200}
        response = await refused
        assert (response.status, response.error["code"]) == (503, "unavailable")
        assert locked_id in response.error["message"]
        assert "retry-after" in response.headers
    assert (await api.patch(f"/v1/leads/{locked_id}", {"name": "x"})).status == 200


async def test_a_patch_waits_for_a_lead_that_is_locked_briefly(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with locked(pool, lead_id):
        patch = asyncio.create_task(api.patch(f"/v1/leads/{lead_id}", {"name": "x"}))
        await wait_until_blocked(pool, "lead_update_many")
    assert (await patch).json["name"] == "x"


async def test_patches_of_a_locked_lead_keep_their_order(
    api: Api, pool: Pool, settings: Settings
) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    who = Principal("key_1", api.tenant.id, True, "write")
    store = LeadStore(pool, Wakeups(Redis.from_url(settings.require_redis_url())))
    for turn in range(5):
        async with locked(pool, lead_id):
            patches = []
            for n in range(8):
                patch = LeadPatch(name=f"{turn} {n}")
                patches.append(asyncio.create_task(store.update(who, lead_id, patch)))
                await asyncio.sleep(0.005)
        etags = [(await task).etag for task in patches]
        numbers = [int((etag or "").strip('"').partition(".")[0]) for etag in etags]
        assert numbers == list(range(numbers[0], numbers[0] + 8))
    assert (await api.get(f"/v1/leads/{lead_id}")).json["name"] == "4 7"


async def test_a_repeated_request_is_409_while_the_first_is_being_handled(
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
            assert "still in progress" in second.error["message"]
            assert second.headers["retry-after"] == "1"
    assert (await first).status == 200
    third = await send(api, "PATCH", path, body, key)
    assert (third.body, third.headers["idempotency-replayed"]) == ((await first).body, "true")


async def test_a_503_is_not_stored_under_its_key(api: Api, pool: Pool) -> None:
    lead_id, key = await make_lead(pool, api.tenant.id), str(uuid4())
    path, body = f"/v1/leads/{lead_id}", '{"name": "x"}'
    async with locked(pool, lead_id):
        assert (await send(api, "PATCH", path, body, key)).status == 503
    response = await send(api, "PATCH", path, body, key)
    assert response.status == 200
    assert "idempotency-replayed" not in response.headers


async def test_a_create_whose_connection_is_lost_is_503_and_not_repeated(
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


async def test_a_detail_that_the_client_has_complete_is_not_read(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    for known, is_read in ((0, True), (1, False), (2, True)):
        (row,) = await pool.fetch(sql.lead_get_many, [api.tenant.id], [True], [lead_id], [known])
        assert (row["version"], row["body"] is not None) == (1, is_read)


async def test_writes_that_wait_for_locks_leave_a_connection_for_reads(
    api: Api, settings: Settings, pool: Pool
) -> None:
    leads = [await make_lead(pool, api.tenant.id) for _ in range(2)]
    email = f"held.{uuid4()}@example.com"
    async with (
        serve_api(replace(settings, db_pool_size=4)) as url,  # two connections are for batches
        AsyncExitStack() as stack,
    ):
        mine = Api(url, api.session, api.tenant, api.key)
        assert (await mine.get(f"/v1/leads/{leads[0]}")).status == 200
        await stack.enter_async_context(locked(pool, leads[1]))
        holder = await stack.enter_async_context(pool.acquire())
        await stack.enter_async_context(holder.transaction())
        await make_lead(holder, api.tenant.id, email=email)
        writes = [asyncio.create_task(mine.patch(f"/v1/leads/{leads[1]}", {"name": "x"}))]
        await wait_until_blocked(pool, "lead_update_many")
        writes.append(asyncio.create_task(mine.post("/v1/leads", {"email": email})))
        await asyncio.sleep(0.1)  # it waits for a connection, or has one
        done, _ = await asyncio.wait(
            [asyncio.create_task(mine.get(f"/v1/leads/{leads[0]}")), *writes],
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert [task.result().status for task in done] == [200]
        await asyncio.gather(*writes)


async def test_a_stalled_pool_refuses_waiting_callers_and_then_new_ones_at_once(
    settings: Settings,
) -> None:
    async with await create_pool(settings, "tests", 1, limit_s=0.1) as pool:
        async with pool.acquire():
            waiting = [asyncio.create_task(pool.fetchval("SELECT 7")) for _ in range(3)]
            begun = time.monotonic()
            found = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(each) for each in found] == [Unavailable] * 3
            assert STALLED_S - 0.1 < time.monotonic() - begun < ACQUIRE_TIMEOUT_S + 3
            with pytest.raises(Overloaded):
                await pool.fetchval("SELECT 9")
            with pytest.raises(Overloaded):
                pool.check()
        assert await pool.fetchval("SELECT 10") == 10


async def test_the_first_burst_of_callers_is_served_completely(settings: Settings) -> None:
    async with await create_pool(settings, "tests", 1, limit_s=0.02) as pool:
        query = "SELECT $1::int FROM pg_sleep(0.005)"
        responses = await asyncio.gather(*(pool.fetchval(query, n) for n in range(60)))
        assert responses == list(range(60))


async def test_blocked_lists_delay_no_other_route(api: Api, pool: Pool, settings: Settings) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    async with (
        serve_api(replace(settings, shed_after_s=0.2)) as url,
        pool.acquire() as conn,
    ):
        mine = Api(url, api.session, api.tenant, api.key)
        assert (await mine.get(f"/v1/leads/{lead_id}")).status == 200
        async with conn.transaction():
            await conn.execute("LOCK TABLE lead_count IN ACCESS EXCLUSIVE MODE")
            lists = [asyncio.create_task(mine.get("/v1/leads")) for _ in range(12)]
            await asyncio.sleep(0.3)
            for response in await asyncio.gather(*[mine.get("/v1/leads") for _ in range(4)]):
                assert (response.status, response.error["code"]) == (503, "unavailable")
            begun = time.monotonic()
            assert (await mine.get(f"/v1/leads/{lead_id}")).status == 200
            assert (await mine.get("/health/ready")).status == 200
            assert time.monotonic() - begun < QUICK_S
        responses = [response.status for response in await asyncio.gather(*lists)]
        assert set(responses) <= {200, 503}
        assert (await mine.get("/v1/leads")).status == 200

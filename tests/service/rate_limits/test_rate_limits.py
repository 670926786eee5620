"""The limits of a plan as its callers see them; the tenant of `api` has no plan."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from msgspec.structs import replace

import sql
from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse, serve_api
from tests.harness.factories import Tenant, make_tenant

HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
MINUTE_S = 60


async def save_plan(
    pool: Pool, name: str, per_minute: int | None = None, per_day: int | None = None,
    concurrent: int | None = None, **routes: int,
) -> str:  # fmt: skip
    """Saves a plan. The limit of a route is given as `POST_leads=3`."""
    methods, paths = zip(*[route.split("_", 1) for route in routes], strict=True) or ((), ())
    await pool.execute(
        sql.plan_save, name, per_minute, per_day, concurrent, list(methods),
        [f"/{path}" for path in paths], list(routes.values()),
    )  # fmt: skip
    return name


@pytest.fixture
async def limited(api: Api, pool: Pool) -> AsyncIterator[Api]:
    """A new tenant with the plan `tiny`; no process has cached its keys."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await save_plan(pool, "tiny", per_minute=5, per_day=1000, POST_leads=2)
    await pool.execute(sql.tenant_set_plan, tenant.name, "tiny")
    await sleep_into_a_minute()
    yield api.of(tenant)
    await pool.execute(sql.tenant_set_plan, tenant.name, None)
    await pool.execute(sql.plan_delete, "tiny")


async def sleep_into_a_minute() -> None:
    """Waits for a new minute if this one ends soon, so that a test lies within one minute."""
    left_s = MINUTE_S - time.time() % MINUTE_S
    if left_s < 5:
        await asyncio.sleep(left_s + 0.1)


async def ask_until(ask: Callable[[], Awaitable[ApiResponse]], status: int) -> ApiResponse:
    """Asks again until the response has this status."""
    async with asyncio.timeout(30):
        while (response := await ask()).status != status:  # noqa: ASYNC110  # no event announces it
            await asyncio.sleep(0.05)
    return response


def find_limits(response: ApiResponse) -> tuple[int, ...]:
    return tuple(int(response.headers[name]) for name in HEADERS)


async def test_every_response_has_the_remaining_requests(limited: Api) -> None:
    reset = (int(time.time()) // MINUTE_S + 1) * MINUTE_S
    assert find_limits(await limited.get("/v1/leads")) == (5, 4, reset)
    assert find_limits(await limited.get("/v1/leads/none")) == (5, 3, reset)
    bad = await limited.post("/v1/leads", {"email": 3})
    assert (bad.status, find_limits(bad)) == (400, (2, 1, reset))


async def test_a_request_over_the_limit_is_429_with_the_time_to_retry(limited: Api) -> None:
    for _ in range(5):
        assert (await limited.get("/api/v1/leads")).status == 200
    response = await limited.get("/v1/leads")
    left_s = MINUTE_S - time.time() % MINUTE_S
    assert response.status == 429
    assert response.error["code"] == "rate_limited"
    assert response.error["message"].startswith("This key may make 5 requests per minute; ")
    assert response.headers["x-ratelimit-remaining"] == "0"
    assert response.headers["x-ratelimit-retryafter"] == response.headers["retry-after"]
    assert abs(int(response.headers["retry-after"]) - left_s) < 2
    assert "x-request-id" in response.headers


async def test_a_route_with_its_own_limit_is_refused_before_other_routes(
    limited: Api, pool: Pool
) -> None:
    body = [{"email": f"limit{n}@example.com"} for n in range(3)]
    responses = [await limited.post("/v1/leads", each) for each in body]
    assert [response.status for response in responses] == [201, 201, 429]
    assert "2 requests per minute to POST /leads" in responses[2].error["message"]
    assert (await limited.get("/v1/leads")).json["pagination"]["total"] == 2
    count = await pool.fetchval(
        "SELECT count(*) FROM outbox WHERE tenant_id = $1", limited.tenant.id
    )
    assert count == 2


async def test_a_refusal_is_not_stored_under_an_idempotency_key(limited: Api, pool: Pool) -> None:
    for n in range(2):
        await limited.post("/v1/leads", {"email": f"used{n}@example.com"})
    key = {"Idempotency-Key": "again"}
    body = '{"email": "later@example.com"}'
    assert (await limited.call("POST", "/v1/leads", body, headers=key)).status == 429
    await pool.execute(sql.tenant_set_plan, limited.tenant.name, "unlimited")
    response = await ask_until(lambda: limited.call("POST", "/v1/leads", body, headers=key), 201)
    assert "idempotency-replayed" not in response.headers


async def test_each_key_has_its_own_limits(limited: Api) -> None:
    for _ in range(6):
        last = await limited.get("/v1/leads")
    assert last.status == 429
    for other in (limited.as_("write"), limited.as_(live=False)):
        assert find_limits(await other.get("/v1/leads"))[1] == 4


async def test_without_a_valid_key_a_response_has_no_limit_headers(limited: Api) -> None:
    for key in (None, "sk_live_" + "x" * 32):
        response = await limited.with_key(key).get("/v1/leads")
        assert response.status == 401
        assert not set(HEADERS) & set(response.headers)


async def test_without_a_plan_there_are_no_limits(api: Api) -> None:
    for _ in range(20):
        response = await api.get("/v1/leads")
        assert response.status == 200
        assert not set(HEADERS) & set(response.headers)


async def test_a_changed_plan_applies_within_a_second(limited: Api, pool: Pool) -> None:
    for _ in range(6):
        response = await limited.get("/v1/leads")
    assert response.status == 429
    await save_plan(pool, "tiny", per_minute=500, POST_leads=2)
    await asyncio.sleep(1)
    assert find_limits(await limited.get("/v1/leads"))[:2] == (500, 494)


async def test_concurrent_requests_have_a_limit_and_release_their_slots(
    limited: Api, pool: Pool
) -> None:
    await save_plan(pool, "tiny", per_minute=500, concurrent=2, POST_leads=2)
    waiting = [asyncio.create_task(limited.get("/v1/events?after=latest&wait=5")) for _ in range(2)]
    refused = await ask_until(lambda: limited.get("/v1/leads"), 429)
    assert refused.error["code"] == "rate_limited"
    assert "2 concurrent requests" in refused.error["message"]
    assert refused.headers["retry-after"] == "1"
    assert [response.status for response in await asyncio.gather(*waiting)] == [200, 200]
    assert (await limited.get("/v1/leads")).status == 200


async def test_the_default_plan_applies_to_tenants_without_a_plan(
    settings: Settings, pool: Pool, session: aiohttp.ClientSession, tenant: Tenant, other: Tenant
) -> None:
    await pool.execute(sql.tenant_set_plan, other.name, "unlimited")
    async with serve_api(replace(settings, default_plan="starter")) as url:
        api = Api(url, session, tenant, tenant.key())
        assert find_limits(await api.get("/v1/leads"))[:2] == (60, 59)
        assert find_limits(await api.get("/v1/leads/search?q=xy"))[:2] == (20, 19)
        assert not set(HEADERS) & set((await api.of(other).get("/v1/leads")).headers)

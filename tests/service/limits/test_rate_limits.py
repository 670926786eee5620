"""What a caller sees of the limits of its plan; `api` itself has none."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from msgspec.structs import replace

import sql
from service.db import Pool
from service.settings import Settings
from tests.factories import Tenant, make_tenant
from tests.serving import Answer, Api, serve_api

HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
MINUTE_S = 60


async def save_plan(
    pool: Pool, name: str, per_minute: int | None = None, per_day: int | None = None,
    concurrent: int | None = None, **routes: int,
) -> str:  # fmt: skip
    """Routes as `POST_leads=3`."""
    methods, paths = zip(*[route.split("_", 1) for route in routes], strict=True) or ((), ())
    await pool.execute(
        sql.plan_save, name, per_minute, per_day, concurrent, list(methods),
        [f"/{path}" for path in paths], list(routes.values()),
    )  # fmt: skip
    return name


@pytest.fixture
async def limited(api: Api, pool: Pool) -> AsyncIterator[Api]:
    """A tenant of its own, whose plan is `tiny`; its keys are known to nobody yet."""
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await save_plan(pool, "tiny", per_minute=5, per_day=1000, POST_leads=2)
    await pool.execute(sql.tenant_set_plan, tenant.name, "tiny")
    await sleep_into_a_minute()
    yield api.of(tenant)
    await pool.execute(sql.tenant_set_plan, tenant.name, None)
    await pool.execute(sql.plan_delete, "tiny")


async def sleep_into_a_minute() -> None:
    """So that no test has two of them."""
    left_s = MINUTE_S - time.time() % MINUTE_S
    if left_s < 5:
        await asyncio.sleep(left_s + 0.1)


def find_limits(answer: Answer) -> tuple[int, ...]:
    return tuple(int(answer.headers[name]) for name in HEADERS)


async def test_every_answer_says_what_is_left(limited: Api) -> None:
    reset = (int(time.time()) // MINUTE_S + 1) * MINUTE_S
    assert find_limits(await limited.get("/v1/leads")) == (5, 4, reset)
    assert find_limits(await limited.get("/v1/leads/none")) == (5, 3, reset)
    bad = await limited.post("/v1/leads", {"email": 3})
    assert (bad.status, find_limits(bad)) == (400, (2, 1, reset))


async def test_too_much_is_429_and_says_when_to_come_again(limited: Api) -> None:
    for _ in range(5):
        assert (await limited.get("/api/v1/leads")).status == 200
    answer = await limited.get("/v1/leads")
    left_s = MINUTE_S - time.time() % MINUTE_S
    assert answer.status == 429
    assert answer.error["code"] == "rate_limited"
    assert answer.error["message"].startswith("This key may make 5 requests a minute; ")
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert answer.headers["x-ratelimit-retryafter"] == answer.headers["retry-after"]
    assert abs(int(answer.headers["retry-after"]) - left_s) < 2
    assert "x-request-id" in answer.headers


async def test_a_route_of_its_own_limit_is_refused_before_the_others(
    limited: Api, pool: Pool
) -> None:
    body = [{"email": f"limit{n}@example.com"} for n in range(3)]
    answers = [await limited.post("/v1/leads", each) for each in body]
    assert [answer.status for answer in answers] == [201, 201, 429]
    assert "2 requests a minute to POST /leads" in answers[2].error["message"]
    assert (await limited.get("/v1/leads")).json["pagination"]["total"] == 2
    count = await pool.fetchval(
        "SELECT count(*) FROM outbox WHERE tenant_id = $1", limited.tenant.id
    )
    assert count == 2


async def test_a_refusal_is_not_kept_under_an_idempotency_key(limited: Api, pool: Pool) -> None:
    for n in range(2):
        await limited.post("/v1/leads", {"email": f"used{n}@example.com"})
    key = {"Idempotency-Key": "again"}
    body = '{"email": "later@example.com"}'
    assert (await limited.call("POST", "/v1/leads", body, headers=key)).status == 429
    await pool.execute(sql.tenant_set_plan, limited.tenant.name, "unlimited")
    await asyncio.sleep(0.6)
    assert (await limited.call("POST", "/v1/leads", body, headers=key)).status == 201


async def test_each_key_has_limits_of_its_own(limited: Api) -> None:
    for _ in range(6):
        last = await limited.get("/v1/leads")
    assert last.status == 429
    for other in (limited.as_("write"), limited.as_(live=False)):
        assert find_limits(await other.get("/v1/leads"))[1] == 4


async def test_without_a_key_or_with_a_bad_one_nothing_is_said_of_limits(limited: Api) -> None:
    for key in (None, "sk_live_" + "x" * 32):
        answer = await limited.with_key(key).get("/v1/leads")
        assert answer.status == 401
        assert not set(HEADERS) & set(answer.headers)


async def test_without_a_plan_there_are_no_limits(api: Api) -> None:
    for _ in range(20):
        answer = await api.get("/v1/leads")
        assert answer.status == 200
        assert not set(HEADERS) & set(answer.headers)


async def test_a_plan_is_followed_within_a_second(limited: Api, pool: Pool) -> None:
    for _ in range(6):
        answer = await limited.get("/v1/leads")
    assert answer.status == 429
    await save_plan(pool, "tiny", per_minute=500, POST_leads=2)
    await asyncio.sleep(1)
    assert find_limits(await limited.get("/v1/leads"))[:2] == (500, 494)


async def test_requests_at_work_have_a_limit_and_give_their_place_back(
    limited: Api, pool: Pool
) -> None:
    await save_plan(pool, "tiny", per_minute=500, concurrent=2, POST_leads=2)
    waiting = [asyncio.create_task(limited.get("/v1/events?after=latest&wait=1")) for _ in range(2)]
    await asyncio.sleep(0.3)
    refused = await limited.get("/v1/leads")
    assert (refused.status, refused.error["code"]) == (429, "rate_limited")
    assert "2 requests at work at a time" in refused.error["message"]
    assert refused.headers["retry-after"] == "1"
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]
    assert (await limited.get("/v1/leads")).status == 200


async def test_the_default_plan_is_for_tenants_that_have_none(
    settings: Settings, pool: Pool, session: aiohttp.ClientSession, tenant: Tenant, other: Tenant
) -> None:
    await pool.execute(sql.tenant_set_plan, other.name, "unlimited")
    async with serve_api(replace(settings, default_plan="starter")) as url:
        api = Api(url, session, tenant, tenant.key())
        assert find_limits(await api.get("/v1/leads"))[:2] == (60, 59)
        assert find_limits(await api.get("/v1/leads/search?q=xy"))[:2] == (20, 19)
        assert not set(HEADERS) & set((await api.of(other).get("/v1/leads")).headers)

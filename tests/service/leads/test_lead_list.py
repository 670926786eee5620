"""GET /v1/leads: filters, sorts, pages and cursors; every invalid parameter is reported."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.harness.factories import Tenant, make_lead

START = datetime(2026, 3, 1, tzinfo=UTC)
COUNT = 30


@pytest.fixture(scope="module", autouse=True)
async def leads(pool: Pool, tenant: Tenant, other: Tenant) -> None:
    """Thirty leads, created a day apart; equal scores make ties."""
    for n in range(COUNT):
        at = START + timedelta(days=n)
        await make_lead(
            pool, tenant.id, email=f"lead{n}@acme{n % 3}.com", score=(n * 7) % 10, created_at=at,
            updated_at=at + timedelta(hours=n % 5), last_active_at=at, first_seen_at=at,
            status=("new", "qualified", "lost")[n % 3], source=("api", "chat")[n % 2],
            tags=["odd"] if n % 2 else ["even", "x y"], assigned_to=f"user_{n % 4}",
            custom_fields={"size": n % 5, "plan": "pro" if n % 2 else "free", "vip": n == 7},
        )  # fmt: skip
    await make_lead(pool, tenant.id, live=False, email="test@acme.com")
    await make_lead(pool, other.id, email="other@acme.com", tags=["odd"])


async def read_page(api: Api, query: str) -> tuple[list[Any], Any]:
    response = await api.get(f"/v1/leads?{query}")
    assert response.status == 200, response.body
    return response.json["data"], response.json["pagination"]


async def test_a_list_without_parameters_is_the_newest_25(api: Api) -> None:
    data, pagination = await read_page(api, "")
    assert [lead["email"] for lead in data[:2]] == ["lead29@acme2.com", "lead28@acme1.com"]
    assert len(data) == 25
    assert {**pagination, "nextCursor": None} == {
        "page": 1, "limit": 25, "total": 30, "totalPages": 2, "hasMore": True, "nextCursor": None,
    }  # fmt: skip
    rest, pagination = await read_page(api, "page=2")
    assert len(rest) == 5
    assert pagination == {"page": 2, "limit": 25, "total": 30, "totalPages": 2, "hasMore": False}
    beyond, pagination = await read_page(api, "page=99")
    assert (beyond, pagination["total"], pagination["hasMore"]) == ([], 30, False)


@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt", "score"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_and_cursors_have_the_same_order_and_miss_nothing(
    api: Api, sort_by: str, order: str
) -> None:
    sort = f"sortBy={sort_by}&sortOrder={order}"
    whole, _ = await read_page(api, f"{sort}&limit=100")
    keys = [(lead[sort_by], lead["id"]) for lead in whole]
    assert keys == sorted(keys, reverse=order == "desc")
    paged = [
        lead
        for page in range(1, 6)
        for lead in (await read_page(api, f"{sort}&limit=7&page={page}"))[0]
    ]
    assert [lead["id"] for lead in paged] == [lead["id"] for lead in whole]
    by_cursor, cursor = [], ""
    while True:
        data, pagination = await read_page(api, f"{sort}&limit=7{cursor}")
        by_cursor += data
        if not pagination["hasMore"]:
            break
        cursor = f"&cursor={pagination['nextCursor']}"
    assert "page" not in pagination
    assert by_cursor == whole


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status=qualified", 10),
        ("source=chat", 15),
        ("status=qualified&source=chat", 5),
        ("createdAfter=2026-03-10&createdBefore=2026-03-20", 9),
        ("createdAfter=2026-03-10T00:00:00.000Z", 20),
        ("createdAfter=2026-03-09T23:59:59Z", 21),
        ("createdAfter=2026-03-10T01:00:00%2B01:00", 20),
        ("updatedAfter=2026-03-30T00:00:00Z", 1),
        ("updatedBefore=2026-03-01T00:00:01Z", 1),
        ("tag=odd", 15),
        ("tag=x%20y", 15),
        ("tag=none", 0),
        ("assignedTo=user_1", 8),
        ("email=LEAD3@acme0.com", 1),
        ("minScore=5", 15),
        ("minScore=5&maxScore=5", 3),
        ("customFields[plan]=pro", 15),
        ("customFields[size]=3", 6),
        ("customFields[vip]=true", 1),
        ("customFields[plan]=pro&customFields[size]=3&status=new", 1),
        ("customFields[absent]=1", 0),
        ("customFields[it's%20%22%25]=%27%3B--", 0),
    ],
)
async def test_filters_and_their_total(api: Api, query: str, count: int) -> None:
    data, pagination = await read_page(api, f"{query}&limit=100")
    assert (len(data), pagination["total"]) == (count, count)


async def test_a_test_key_lists_test_leads_only(api: Api) -> None:
    data, _ = await read_page(api.as_("read", live=False), "")
    assert [lead["email"] for lead in data] == ["test@acme.com"]


async def test_a_cursor_is_stable_while_leads_are_created(
    api: Api, pool: Pool, tenant: Tenant
) -> None:
    _, pagination = await read_page(api, "status=lost&limit=3")
    before, _ = await read_page(api, "status=lost&limit=100")
    await make_lead(pool, tenant.id, email="late@acme.com", status="lost")
    after, _ = await read_page(api, f"status=lost&limit=100&cursor={pagination['nextCursor']}")
    assert [lead["id"] for lead in after] == [lead["id"] for lead in before[3:]]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("limit=0", "limit", "out_of_range"),
        ("limit=101", "limit", "out_of_range"),
        ("limit=abc", "limit", "invalid_type"),
        ("limit=1e9", "limit", "invalid_type"),
        ("limit=", "limit", "invalid_type"),
        ("page=0", "page", "out_of_range"),
        ("page=-1", "page", "out_of_range"),
        ("page=1000000000000000000", "page", "out_of_range"),
        ("status=hot", "status", "invalid_value"),
        ("sortBy=email", "sortBy", "invalid_value"),
        ("createdAfter=yesterday", "createdAfter", "invalid_value"),
        ("limit=5&limit=6", "limit", "duplicate"),
        ("nonsense=1", "nonsense", "unknown_field"),
        ("q=acme", "q", "unknown_field"),
        ("tag=%00", "tag", "invalid_character"),
        ("customFields[a]=%00", "customFields", "invalid_character"),
        ("minScore=101", "minScore", "out_of_range"),
        ("page=2&cursor=abc", "cursor", "invalid_value"),
    ],
)
async def test_a_bad_parameter_is_400_and_named(
    api: Api, query: str, field: str, code: str
) -> None:
    response = await api.get(f"/v1/leads?{query}")
    assert (response.status, response.error["code"]) == (400, "invalid_request")
    assert (field, code) in [(fault["field"], fault["code"]) for fault in response.error["details"]]


@pytest.mark.parametrize(
    "query",
    [
        "createdAfter=2026-03-02&createdBefore=2026-03-01",
        "updatedAfter=2026-03-02&updatedBefore=2026-03-02",
        "minScore=6&maxScore=5",
        "email=nobody",
    ],
)
async def test_an_impossible_range_or_address_is_422(api: Api, query: str) -> None:
    response = await api.get(f"/v1/leads?{query}")
    assert (response.status, response.error["code"]) == (422, "unprocessable")


@pytest.mark.parametrize("query", ["tag=%ff", "tag=%ed%a0%80", "customFields[a]=%C3%28", "%ff=1"])
async def test_a_query_that_is_not_utf_8_is_400(api: Api, query: str) -> None:
    response = await api.get(f"/v1/leads?{query}")
    assert (response.status, response.error["details"][0]["code"]) == (400, "invalid_query")


async def test_all_faults_are_reported_at_once(api: Api) -> None:
    response = await api.get("/v1/leads?limit=0&page=x&status=hot&what=1")
    assert {fault["field"] for fault in response.error["details"]} == {
        "limit", "page", "status", "what",
    }  # fmt: skip


def forge(digest: bytes, position: Any) -> str:
    return base64.urlsafe_b64encode(digest + json.dumps(position).encode()).decode().rstrip("=")


async def test_a_forged_cursor_or_one_of_another_list_is_refused(api: Api) -> None:
    _, pagination = await read_page(api, "limit=3")
    good = pagination["nextCursor"]
    digest = base64.urlsafe_b64decode(good + "==")[:8]
    for bad in (
        "abc", "!!!!", "%00", good[:-4], good + "A", good * 3, "A" * 501,
        forge(digest, [["nonsense"], "lead_1"]), forge(digest, [[5], "lead_1"]),
        forge(digest, [[], "lead_1"]), forge(digest, [["2026-01-01T00:00:00Z"], "a\0b"]),
        forge(digest, {"a": 1}), forge(digest, [["2026-01-01T00:00:00Z", "1"], "lead_1"]),
    ):  # fmt: skip
        response = await api.get(f"/v1/leads?limit=3&cursor={bad}")
        assert response.status == 400, bad
        assert [fault["field"] for fault in response.error["details"]] == ["cursor"]
    for other_list in ("status=new", "sortBy=score", "sortOrder=asc"):
        assert (await api.get(f"/v1/leads?{other_list}&cursor={good}")).status == 400


async def test_a_cursor_of_another_tenant_is_refused(api: Api, other: Tenant) -> None:
    _, pagination = await read_page(api, "limit=3")
    response = await api.of(other).get(f"/v1/leads?limit=3&cursor={pagination['nextCursor']}")
    assert response.status == 400

"""Broad queries: the same hits in the same order as counted queries, with an estimated total."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from service.access.authentication import Principal
from service.database.connect import Pool
from service.errors import InvalidRequest, Unavailable
from service.leads.search import estimates, lead_search
from service.leads.search.estimates import round_down
from service.leads.search.lead_search import LeadSearch
from service.leads.search.query import SearchQuery
from tests.harness.factories import Tenant, make_lead

WORDS = ("acme", "acmeville", "megacmeria", "unrelated")
STATUSES = ("new", "lost")
LEADS = 240


@pytest.fixture(scope="module")
async def who(pool: Pool, tenant: Tenant) -> Principal:
    """A caller whose leads mostly match, in all tiers and with all scores."""
    dice = random.Random(1)
    for n in range(LEADS):
        await make_lead(
            pool, tenant.id, email=f"{n}@x.io", company=dice.choice(WORDS),
            score=dice.randint(0, 9), status=dice.choice(STATUSES),
        )  # fmt: skip
    await pool.execute("ANALYZE lead_search")
    return Principal("key", tenant.id, True, "read")


async def read_all(search: LeadSearch, who: Principal, **asked: Any) -> tuple[list[str], list[Any]]:
    """The ids on all pages, read by cursor, and the pagination of each page."""
    ids: list[str] = []
    paginations: list[Any] = []
    cursor = None
    while True:
        query = SearchQuery(q="acme", cursor=cursor, **asked)
        page = msgspec.json.decode(await search.read(who, query))
        ids += [hit["id"] for hit in page["data"]]
        paginations.append(page["pagination"])
        if not page["pagination"]["hasMore"]:
            return ids, paginations
        cursor = page["pagination"]["nextCursor"]


@pytest.mark.parametrize("status", [None, "lost"])
@pytest.mark.parametrize("scan_cost", [0.01, 100.0], ids=["scanned", "from the index"])
@pytest.mark.parametrize("most_scanned", [1, 4_000])
async def test_a_broad_query_has_the_same_order_as_a_counted_one(
    pool: Pool,
    who: Principal,
    monkeypatch: pytest.MonkeyPatch,
    status: str | None,
    scan_cost: float,
    most_scanned: int,
) -> None:
    monkeypatch.setattr(lead_search, "MOST_SCANNED", most_scanned)
    exact, paginations = await read_all(LeadSearch(pool), who, status=status, limit=100)
    assert "totalEstimated" not in paginations[0]
    assert paginations[0]["total"] == len(exact) == len(set(exact))
    broad = LeadSearch(pool, most_counted=20, few_leads=0, scan_cost=scan_cost)
    ids, paginations = await read_all(broad, who, status=status, limit=7)
    assert ids == exact
    assert paginations[0]["totalEstimated"] is True
    assert 20 < paginations[0]["total"] <= LEADS


async def test_pages_of_a_broad_query_by_number_equal_those_by_cursor(
    pool: Pool, who: Principal
) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    broad = LeadSearch(pool, most_counted=20, few_leads=0)
    paged: list[str] = []
    for number in range(1, len(exact) // 9 + 3):
        page = await broad.read(who, SearchQuery(q="acme", page=number, limit=9))
        paged += [hit["id"] for hit in msgspec.json.decode(page)["data"]]
    assert paged == exact


async def test_an_expired_estimate_is_sampled_again_without_counting(
    pool: Pool, who: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "CACHED_FOR_S", 0.0)
    broad = LeadSearch(pool, most_counted=20, few_leads=0)
    asked = SearchQuery(q="acme", limit=7)
    first = msgspec.json.decode(await broad.read(who, asked))
    with monkeypatch.context() as patched:
        patched.setattr(broad, "_find_unknown", None)
        again = msgspec.json.decode(await broad.read(who, asked))
    assert again["data"] == first["data"]  # the total is that of another sample
    assert again["pagination"]["totalEstimated"] is first["pagination"]["totalEstimated"] is True
    broad._most_counted = broad._estimates.most_counted = 10_000  # as if the hits were few now
    page = msgspec.json.decode(await broad.read(who, asked))
    assert "totalEstimated" not in page["pagination"]
    assert page["data"] == first["data"]


async def test_a_deep_page_of_a_broad_query_is_refused_and_the_message_names_the_cursor(
    pool: Pool, who: Principal
) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    broad = LeadSearch(pool, most_counted=20, few_leads=0, most_skipped=20)
    page = msgspec.json.decode(await broad.read(who, SearchQuery(q="acme", page=3, limit=10)))
    assert [hit["id"] for hit in page["data"]] == exact[20:30]
    with pytest.raises(InvalidRequest, match=r"cursor the pagination\.nextCursor") as error:
        await broad.read(who, SearchQuery(q="acme", page=4, limit=10))
    assert [fault.field for fault in error.value.details or ()] == ["page"]
    further = SearchQuery(q="acme", cursor=page["pagination"]["nextCursor"], limit=10)
    page = msgspec.json.decode(await broad.read(who, further))
    assert [hit["id"] for hit in page["data"]] == exact[30:40]


async def test_all_hits_of_a_small_tenant_are_counted(pool: Pool, who: Principal) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    small = LeadSearch(pool, most_counted=20)
    page = msgspec.json.decode(await small.read(who, SearchQuery(q="acme")))
    assert page["pagination"]["total"] == len(exact)
    assert "totalEstimated" not in page["pagination"]


async def test_many_equal_searches_at_once_get_the_same_page(pool: Pool, who: Principal) -> None:
    broad = LeadSearch(pool, most_counted=20, few_leads=0)
    pages = await asyncio.gather(*(broad.read(who, SearchQuery(q="acme")) for _ in range(20)))
    again = await broad.read(who, SearchQuery(q="acme"))
    assert set(pages) == {again}


async def test_a_search_that_takes_too_long_is_cancelled_with_503(committed: Pool) -> None:
    impatient = LeadSearch(committed, timeout_s=0.3)
    who = Principal("key", 1, True, "read")
    async with committed.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE lead_search")
        with pytest.raises(Unavailable, match="takes too long"):
            await impatient.read(who, SearchQuery(q="acme"))
    async with asyncio.timeout(5):
        while await committed.fetchval(_WAITING):  # noqa: ASYNC110  # PostgreSQL announces no end of a statement
            await asyncio.sleep(0.01)
    assert b'"total":0' in await impatient.read(who, SearchQuery(q="acme"))


_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE query LIKE '%lead_search_find%' AND wait_event_type = 'Lock'
  AND datname = current_database() AND pid <> pg_backend_pid()
"""


def test_estimates_have_two_digits() -> None:
    assert [round_down(n) for n in (7, 56, 567, 56_789)] == [7, 56, 560, 56_000]

"""Search where many match: the same hits in the same order, their number an estimate."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from service.auth import Principal
from service.db import Pool
from service.errors import InvalidRequest, Unavailable
from service.leads import search
from service.leads.search import LeadSearch, round_down
from service.leads.search_query import SearchQuery
from tests.factories import Tenant, make_lead

WORDS = ("acme", "acmeville", "megacmeria", "unrelated")
STATUSES = ("new", "lost")
LEADS = 240


@pytest.fixture(scope="module")
async def who(pool: Pool, tenant: Tenant) -> Principal:
    """A tenant whose leads mostly match, in all tiers and scores."""
    dice = random.Random(1)
    for n in range(LEADS):
        await make_lead(
            pool, tenant.id, email=f"{n}@x.io", company=dice.choice(WORDS),
            score=dice.randint(0, 9), status=dice.choice(STATUSES),
        )  # fmt: skip
    await pool.execute("ANALYZE lead_search")
    return Principal("key", tenant.id, True, "read")


async def read_all(reader: LeadSearch, who: Principal, **asked: Any) -> tuple[list[str], list[Any]]:
    """The ids of all pages by cursor, and the pages' paginations."""
    ids: list[str] = []
    paginations: list[Any] = []
    cursor = None
    while True:
        query = SearchQuery(q="acme", cursor=cursor, **asked)
        page = msgspec.json.decode(await reader.read(who, query))
        ids += [hit["id"] for hit in page["data"]]
        paginations.append(page["pagination"])
        if not page["pagination"]["hasMore"]:
            return ids, paginations
        cursor = page["pagination"]["nextCursor"]


@pytest.mark.parametrize("status", [None, "lost"])
@pytest.mark.parametrize("look_per_hit", [0.01, 100.0], ids=["browsed", "found"])
@pytest.mark.parametrize("most_looked_at", [1, 4_000])
async def test_a_crowd_is_read_in_the_order_of_the_few(
    pool: Pool,
    who: Principal,
    monkeypatch: pytest.MonkeyPatch,
    status: str | None,
    look_per_hit: float,
    most_looked_at: int,
) -> None:
    monkeypatch.setattr(search, "MOST_LOOKED_AT", most_looked_at)
    exact, paginations = await read_all(LeadSearch(pool), who, status=status, limit=100)
    assert "totalEstimated" not in paginations[0]
    assert paginations[0]["total"] == len(exact) == len(set(exact))
    crowd = LeadSearch(pool, most_counted=20, few_leads=0, look_per_hit=look_per_hit)
    ids, paginations = await read_all(crowd, who, status=status, limit=7)
    assert ids == exact
    assert paginations[0]["totalEstimated"] is True
    assert 20 < paginations[0]["total"] <= LEADS


async def test_pages_of_a_crowd_are_those_of_its_cursors(pool: Pool, who: Principal) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    crowd = LeadSearch(pool, most_counted=20, few_leads=0)
    paged: list[str] = []
    for number in range(1, len(exact) // 9 + 3):
        page = await crowd.read(who, SearchQuery(q="acme", page=number, limit=9))
        paged += [hit["id"] for hit in msgspec.json.decode(page)["data"]]
    assert paged == exact


async def test_a_crowd_known_of_old_is_sampled_anew_and_not_counted(
    pool: Pool, who: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "REMEMBERED_S", 0.0)
    crowd = LeadSearch(pool, most_counted=20, few_leads=0)
    asked = SearchQuery(q="acme", limit=7)
    first = await crowd.read(who, asked)
    with monkeypatch.context() as patched:
        patched.setattr(crowd, "_find_out", None)
        assert await crowd.read(who, asked) == first
    crowd._most_counted = 10_000  # as if there were few of them by now
    page = msgspec.json.decode(await crowd.read(who, asked))
    assert "totalEstimated" not in page["pagination"]
    assert [hit["id"] for hit in page["data"]] == [
        hit["id"] for hit in msgspec.json.decode(first)["data"]
    ]


async def test_a_page_deep_in_a_crowd_is_refused_and_names_the_way(
    pool: Pool, who: Principal
) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    crowd = LeadSearch(pool, most_counted=20, few_leads=0, deepest=20)
    page = msgspec.json.decode(await crowd.read(who, SearchQuery(q="acme", page=3, limit=10)))
    assert [hit["id"] for hit in page["data"]] == exact[20:30]
    with pytest.raises(InvalidRequest, match="nextCursor, in cursor") as error:
        await crowd.read(who, SearchQuery(q="acme", page=4, limit=10))
    assert [fault.field for fault in error.value.details or ()] == ["page"]
    further = SearchQuery(q="acme", cursor=page["pagination"]["nextCursor"], limit=10)
    page = msgspec.json.decode(await crowd.read(who, further))
    assert [hit["id"] for hit in page["data"]] == exact[30:40]


async def test_all_hits_of_a_small_tenant_are_counted(pool: Pool, who: Principal) -> None:
    exact, _ = await read_all(LeadSearch(pool), who, limit=100)
    small = LeadSearch(pool, most_counted=20)
    page = msgspec.json.decode(await small.read(who, SearchQuery(q="acme")))
    assert page["pagination"]["total"] == len(exact)
    assert "totalEstimated" not in page["pagination"]


async def test_many_who_ask_the_same_at_once_all_get_it(pool: Pool, who: Principal) -> None:
    crowd = LeadSearch(pool, most_counted=20, few_leads=0)
    pages = await asyncio.gather(*(crowd.read(who, SearchQuery(q="acme")) for _ in range(20)))
    again = await crowd.read(who, SearchQuery(q="acme"))
    assert set(pages) == {again}


async def test_a_search_that_takes_too_long_is_ended_and_told(committed: Pool) -> None:
    hasty = LeadSearch(committed, patience_s=0.3)
    who = Principal("key", 1, True, "read")
    async with committed.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE lead_search")
        with pytest.raises(Unavailable, match="takes too long"):
            await hasty.read(who, SearchQuery(q="acme"))
    async with asyncio.timeout(5):
        while await committed.fetchval(_WAITING):  # noqa: ASYNC110  # only the server knows
            await asyncio.sleep(0.01)
    assert b'"total":0' in await hasty.read(who, SearchQuery(q="acme"))


_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE query LIKE '%lead_search_find%' AND wait_event_type = 'Lock'
  AND datname = current_database() AND pid <> pg_backend_pid()
"""


def test_estimates_have_two_digits() -> None:
    assert [round_down(n) for n in (7, 56, 567, 56_789)] == [7, 56, 560, 56_000]

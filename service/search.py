"""Search over the words of leads: its query, how far it looks, its pages.

Few hits are found by the index of words and sorted. Many (a word in every tenth lead) are not:
their number is estimated from a sample, and the page is read off the leads in order of score, tier
by tier, as long as the sample promises that it will be full soon.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

import sql
from service.auth import Principal
from service.cursor import NextCursor, Place, decode_cursor, encode_cursor
from service.db import Pool
from service.errors import Fault
from service.kinds import list_kinds
from service.models import Input, Limit, Moment, Page, Pagination, Status, Wire
from service.pages import encode_page, make_pagination
from service.validation import Check

MOST_COUNTED = 10_000
"""Hits that are counted one by one; their number is exact."""
FEW_LEADS = 50_000
"""A tenant with so few has all its hits counted."""
TYPOS_BELOW = 25
"""Typos are looked for only where there are fewer hits as typed."""
SAMPLED = 4_000
MOST_LOOKED_AT = 4_000
"""Leads of a sample, and leads that are looked at in order of score for a page: some 5 ms."""
ALL = 2**31
REMEMBERED_S = 30.0
REMEMBERED = 1_000
"""How long, and of how many questions, it is remembered that they have many hits."""
TIERS = 3
"""Whole words, beginnings, insides. Typos are a fourth, where there are few hits."""
Asked = tuple[int, bool, str, tuple[int, ...] | None]
"""tenant, live, q, kinds: the first parameters of each statement."""


def check_question(q: str) -> Iterator[Fault]:
    """Blanks around it do not count."""
    if len(q.strip()) < 2:  # noqa: PLR2004  # the contract's minimum
        yield Fault("q", "too_short", "q must have at least 2 characters besides blanks.")


def check_paging(query: "SearchQuery") -> Iterator[Fault]:
    """Two ways to page."""
    if query.cursor is not None and query.page is not None:
        yield Fault("cursor", "invalid_value", "cursor and page exclude each other: send one.")


class SearchQuery(Input):
    """The query of GET /v1/leads/search."""

    checks: ClassVar[Mapping[str, Check]] = {"q": check_question, "": check_paging}

    q: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=200,
            description="Words, beginnings or parts of words.",
            extra_json_schema={"pattern": r"\S[\s\S]*\S"},
        ),
    ]
    page: Page | None = None
    limit: Limit = 25
    cursor: NextCursor | None = None
    status: Annotated[Status, Meta(description="Only leads of this status.")] | None = None


class LeadHit(Wire):
    """A lead that was found, and the field that matched best."""

    id: str
    email: str
    name: str | None
    company: str | None
    status: Status
    score: int
    match_field: str
    last_active_at: Moment


class SearchPage(Wire):
    """Hits by how well they match, then by score."""

    data: list[LeadHit]
    pagination: Pagination


class Crowd(msgspec.Struct, frozen=True):
    """What a sample says about a question with many hits."""

    total: int
    shares: Sequence[float]
    """By tier, of all the leads there are."""


class Found(msgspec.Struct, frozen=True):
    """The hits of a page and one more, if there is one."""

    rows: list[Any]
    total: int
    is_estimate: bool = False


class LeadSearch:
    """The search of one process. It remembers for a while which questions have many hits."""

    def __init__(
        self, pool: Pool, *, most_counted: int = MOST_COUNTED, few_leads: int = FEW_LEADS
    ) -> None:
        self._pool = pool
        self._most_counted = most_counted
        self._few_leads = few_leads
        self._crowds: dict[Asked, tuple[float, Crowd]] = {}

    async def read(self, principal: Principal, query: SearchQuery) -> bytes:
        """One page of hits as JSON. Raises InvalidRequest for a cursor not of this search."""
        belongs_to = ("search", principal.tenant_id, principal.live, query.q, query.status)
        place, skip = None, ((query.page or 1) - 1) * query.limit
        if query.cursor is not None:
            place = decode_cursor(query.cursor, belongs_to, kinds=(int, int))
        found = await self._find(principal, query, place, skip)
        shown, has_more = found.rows[: query.limit], len(found.rows) > query.limit
        next_cursor = None
        if has_more:
            last = shown[-1]
            place = Place((str(last["tier"]), str(last["score"])), last["id"])
            next_cursor = encode_cursor(place, belongs_to)
        return encode_page(
            [row["body"] for row in shown],
            make_pagination(
                None if query.cursor is not None else query.page or 1,
                query.limit, found.total, has_more=has_more, next_cursor=next_cursor,
                is_estimate=found.is_estimate,
            ),
        )  # fmt: skip

    async def _find(
        self, principal: Principal, query: SearchQuery, place: Place | None, skip: int
    ) -> Found:
        asked = (principal.tenant_id, principal.live, query.q, list_kinds(query.status))
        crowd = self._recall(asked)
        if crowd is None:
            found = await self._count(asked, self._most_counted, place, skip, query.limit)
            if found is not None:
                return found
            leads = await self._pool.fetchval(sql.lead_count_get, *asked[:2])
            if leads <= self._few_leads:
                found = await self._count(asked, ALL, place, skip, query.limit)
                if found is not None:
                    return found
            crowd = await self._sample(asked, leads)
        rows = await self._find_in_crowd(asked, crowd, place, skip, query.limit + 1)
        return Found(rows, crowd.total, is_estimate=True)

    async def _count(
        self, asked: Asked, most: int, place: Place | None, skip: int, limit: int
    ) -> Found | None:
        """All hits, counted and sorted; None if there are more than `most`."""
        after = (None, None, None) if place is None else (*place.values, place.id)
        rows: list[Any] = await self._pool.fetch(
            sql.lead_search_find, *asked, most, *after, skip, limit + 1, TYPOS_BELOW
        )
        total = rows[0]["found"]
        if total > most:
            return None
        return Found([row for row in rows if row["id"] is not None], total)

    async def _sample(self, asked: Asked, leads: int) -> Crowd:
        [sample] = await self._pool.fetch(sql.lead_search_sample, *asked, SAMPLED, leads)
        looked_at = max(1, sample["looked_at"])
        wholes, beginnings, insides = sample["wholes"], sample["beginnings"], sample["insides"]
        crowd = Crowd(
            total=max(self._most_counted + 1, round_down(leads * insides // looked_at)),
            shares=[
                part / looked_at for part in (wholes, beginnings - wholes, insides - beginnings)
            ],
        )
        if len(self._crowds) >= REMEMBERED:
            self._crowds.clear()
        self._crowds[asked] = (time.monotonic() + REMEMBERED_S, crowd)
        return crowd

    def _recall(self, asked: Asked) -> Crowd | None:
        until, crowd = self._crowds.get(asked, (0.0, None))
        return crowd if until > time.monotonic() else None

    async def _find_in_crowd(
        self, asked: Asked, crowd: Crowd, place: Place | None, skip: int, wanted: int
    ) -> list[Any]:
        """Tier by tier, until there are as many as wanted."""
        first, *after = (0, 101, "") if place is None else (*place.values, place.id)
        rows: list[Any] = []
        for tier in range(first, TIERS):
            rest = wanted - len(rows)
            share = crowd.shares[tier]
            found, size = await self._find_in_tier(asked, tier, share, after, skip, rest)
            rows += found
            if len(rows) == wanted:
                break
            skip = 0 if found else max(0, skip - size)
            after = [101, ""]
        return rows

    async def _find_in_tier(
        self,
        asked: Asked,
        tier: int,
        share: float,
        after: Sequence[Any],
        skip: int,
        wanted: int,
    ) -> tuple[list[Any], int]:
        """Hits of a tier; if they are fewer than wanted, also how many the tier has in all."""
        if (skip + wanted) * 1.5 < MOST_LOOKED_AT * share:
            rows = await self._pool.fetch(
                sql.lead_search_browse, *asked, tier, MOST_LOOKED_AT, *after, skip, wanted
            )
            if len(rows) == wanted:
                return rows, 0
        rows = await self._pool.fetch(
            sql.lead_search_find_in_tier, *asked, tier, ALL, *after, skip, wanted
        )
        return [row for row in rows if row["id"] is not None], rows[0]["found"]


def round_down(number: int) -> int:
    """To two digits: an estimate should look like one."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return int(number // unit * unit)

"""Search over the words of leads: chooses the statement that finds a page of hits.

The hits of a query are counted and sorted if they are few. If they are many (a word in every tenth
lead), their number is estimated (estimates.py), and the page is read tier by tier: by scanning the
leads in order of score while the estimate promises that the page fills soon, else from the index.

A search may cost a hundred times as much as a list. So few searches of a tenant run at once, and a
search that takes too long is cancelled.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import msgspec

import sql
from service.access.authentication import Principal
from service.database.connect import Pool
from service.errors import Unavailable
from service.leads.search.estimates import BroadQuery, Question, SearchEstimates
from service.leads.search.query import SearchQuery
from service.leads.status_source import list_status_source_codes
from service.load.keyed_semaphore import KeyedSemaphore
from service.pagination.cursor import ID, CursorCodec, integer
from service.pagination.pages import encode_page, make_pagination, refuse_deep_page

MOST_COUNTED = 10_000
"""Hits that are counted one by one: the total is exact."""
FEW_LEADS = 50_000
"""All hits are counted for a tenant with at most this many leads."""
TYPOS_BELOW = 25
"""Typos are searched only if there are fewer hits than this without them."""
MOST_SKIPPED = 10_000
"""Hits of a broad query that are skipped for a page."""
MOST_SCANNED = 4_000
"""Leads that may be scanned in order of score for a page of any broad query: some 15 ms."""
SCAN_COST = 2
"""The cost of scanning a lead in order of score, in hits that are read from the index."""
ALL = 2**31
TIMEOUT_S = 5.0
TIERS = 3
"""Whole words, prefixes, substrings. Typos are a fourth tier, only for queries with few hits."""
CURSORS = CursorCodec(integer(0, TIERS), integer(0, 101), ID)
Position: TypeAlias = tuple[int, int, str]
"""The hit after which a page begins: its tier, score and id."""


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """The hits of a page, and one more if another page follows."""

    rows: list[Any]
    total: int
    is_estimate: bool = False


class LeadSearch:
    """The search of one process."""

    def __init__(
        self,
        pool: Pool,
        *,
        limit_s: float = float("inf"),
        most_counted: int = MOST_COUNTED,
        few_leads: int = FEW_LEADS,
        timeout_s: float = TIMEOUT_S,
        scan_cost: float = SCAN_COST,
        most_skipped: int = MOST_SKIPPED,
    ) -> None:
        self._pool = pool
        self._most_counted = most_counted
        self._timeout_s = timeout_s
        self._scan_cost = scan_cost
        self._most_skipped = most_skipped
        self._estimates = SearchEstimates(pool, most_counted=most_counted, few_leads=few_leads)
        # The searches of a tenant use at most half of the pool's connections; all searches together
        # use all but one.
        size = pool.size
        self._tenants = KeyedSemaphore(max(size // 2, 1), limit_s=limit_s)
        self._all = KeyedSemaphore(max(size - 1, 1), limit_s=limit_s)
        self._estimating = KeyedSemaphore(at_once=1)
        """By question: of many equal concurrent searches, one determines the number of hits."""

    async def read(self, principal: Principal, query: SearchQuery) -> bytes:
        """One page of hits as JSON. Raises InvalidRequest for a cursor of another search."""
        belongs_to = ("search", principal.tenant_id, principal.live, query.q, query.status)
        after, skip = None, ((query.page or 1) - 1) * query.limit
        if query.cursor is not None:
            after = cast(Position, CURSORS.decode(belongs_to, query.cursor))
        async with self._tenants.hold(principal.tenant_id), self._all.hold("all"):
            hits = await self._find_in_time(principal, query, after, skip)
        rows, has_more = hits.rows[: query.limit], len(hits.rows) > query.limit
        next_cursor = None
        if has_more:
            last = rows[-1]
            next_cursor = CURSORS.encode(belongs_to, last["tier"], last["score"], last["id"])
        return encode_page(
            ",".join(row["body"] for row in rows),
            make_pagination(
                None if query.cursor is not None else query.page or 1,
                query.limit,
                hits.total,
                has_more=has_more,
                next_cursor=next_cursor,
                is_estimate=hits.is_estimate,
            ),
        )

    async def _find_in_time(
        self, principal: Principal, query: SearchQuery, after: Position | None, skip: int
    ) -> Hits:
        codes = list_status_source_codes(query.status)
        question = (principal.tenant_id, principal.live, query.q, codes)
        try:
            async with asyncio.timeout(self._timeout_s) as clock:
                return await self._find(question, after, skip, query.limit)
        except TimeoutError:
            if not clock.expired():
                raise
            raise Unavailable(
                "This search takes too long right now: try again, or with longer words."
            ) from None

    async def _find(
        self, question: Question, after: Position | None, skip: int, limit: int
    ) -> Hits:
        # While another search refreshes the estimate, the expired one serves.
        is_refreshed = self._estimating.is_held(question)
        cached = self._estimates.get(question, allow_expired=is_refreshed)
        if cached is None:
            async with self._estimating.hold(question):
                cached = self._estimates.get(question) or await self._estimates.refresh(question)
                if cached is None:
                    return await self._find_unknown(question, after, skip, limit)
        if cached.broad is not None:
            return await self._find_broad(question, cached.broad, after, skip, limit)
        hits = await self._count(question, self._most_counted, after, skip, limit)
        if hits.total <= self._most_counted:
            return hits
        return await self._find_unknown(question, after, skip, limit)

    async def _find_unknown(
        self, question: Question, after: Position | None, skip: int, limit: int
    ) -> Hits:
        """Finds the hits of a query without an estimate, and caches whether it is broad."""
        hits = await self._count(question, self._most_counted, after, skip, limit)
        if hits.total <= self._most_counted:
            self._estimates.put(question, None)
            return hits
        broad = await self._estimates.estimate(question)
        if broad is None:
            return await self._count(question, ALL, after, skip, limit)
        self._estimates.put(question, broad)
        return await self._find_broad(question, broad, after, skip, limit)

    async def _count(
        self, question: Question, most: int, after: Position | None, skip: int, limit: int
    ) -> Hits:
        """Counts and sorts the hits. If the total is above `most`, the rows are incomplete."""
        position = (None, None, None) if after is None else after
        rows: list[Any] = await self._pool.fetch(
            sql.lead_search_find, *question, most, *position, skip, limit + 1, TYPOS_BELOW
        )
        return Hits(rows=[row for row in rows if row["id"] is not None], total=rows[0]["found"])

    async def _find_broad(
        self,
        question: Question,
        broad: BroadQuery,
        after: Position | None,
        skip: int,
        limit: int,
    ) -> Hits:
        """Reads one tier after the other until the page is full."""
        if skip > self._most_skipped:
            raise refuse_deep_page(
                f"beyond the first {self._most_skipped:,} of too many hits to count"
            )
        wanted = limit + 1
        first, *position = (0, 101, "") if after is None else after
        rows: list[Any] = []
        for tier in range(first, TIERS):
            missing = wanted - len(rows)
            found, size = await self._find_in_tier(question, tier, broad, position, skip, missing)
            rows += found
            if len(rows) == wanted:
                break
            skip = 0 if found else max(0, skip - size)
            position = [101, ""]
        return Hits(rows=rows, total=broad.total, is_estimate=True)

    async def _find_in_tier(
        self,
        question: Question,
        tier: int,
        broad: BroadQuery,
        after: Sequence[Any],
        skip: int,
        wanted: int,
    ) -> tuple[list[Any], int]:
        """The wanted hits of a tier; if there are fewer, also the size of the tier."""
        share = broad.tier_shares[tier]
        expected = (skip + wanted) * 1.5 / share if share else ALL
        most = int(min(share * broad.leads / self._scan_cost, max(MOST_SCANNED, 2 * expected)))
        if expected < most:
            rows = await self._pool.fetch(
                sql.lead_search_filtered_scan, *question, tier, most, *after, skip, wanted
            )
            if len(rows) == wanted:
                return rows, 0
        rows = await self._pool.fetch(
            sql.lead_search_find_in_tier, *question, tier, ALL, *after, skip, wanted
        )
        return [row for row in rows if row["id"] is not None], rows[0]["found"]

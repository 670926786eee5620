"""Search over the words of leads: how far it looks, its pages.

Few hits are found by the index of words and sorted. Many (a word in every tenth lead) are not:
their number is estimated from a sample, and the page is read off the leads in order of score, tier
by tier, as long as the sample promises that it will be full soon.

A search may cost a hundred times what a list does, so those of a tenant take turns, and one that
takes too long is ended.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

import sql
from service.auth import Principal
from service.cursor import Place, decode_cursor, encode_cursor
from service.db import Pool
from service.errors import Unavailable
from service.leads.kinds import list_kinds
from service.leads.search_query import SearchQuery
from service.pages import encode_page, make_pagination, refuse_deep_page
from service.turns import Turns

MOST_COUNTED = 10_000
"""Hits that are counted one by one; their number is exact."""
FEW_LEADS = 50_000
"""A tenant with so few has all its hits counted."""
TYPOS_BELOW = 25
"""Typos are looked for only where there are fewer hits as typed."""
SAMPLED = 4_000
"""Leads of a sample: some 5 ms."""
ENOUGH_SAMPLED = 1_000
"""With fewer the shares would be noise."""
DEEPEST = 10_000
"""Of many hits, those that are skipped for a page."""
MOST_LOOKED_AT = 4_000
"""Leads that are looked at in order of score for a page without a thought: some 15 ms."""
LOOK_PER_HIT = 2
"""What it costs to look at a lead in order of score, in hits that are read off the index."""
ALL = 2**31
REMEMBERED_S = 30.0
REMEMBERED = 4_000
"""How long, and of how many questions, it is remembered whether they have many hits."""
PATIENCE_S = 5.0
TIERS = 3
"""Whole words, beginnings, insides. Typos are a fourth, where there are few hits."""
Asked = tuple[int, bool, str, tuple[int, ...] | None]
"""tenant, live, q, kinds: the first parameters of each statement."""


class Crowd(msgspec.Struct, frozen=True):
    """What a sample says about a question with many hits."""

    total: int
    leads: int
    """How many there are, with or without a hit."""
    shares: Sequence[float]
    """By tier, of all the leads there are."""


class Known(msgspec.Struct, frozen=True):
    """What was found out about a question: its crowd, or that its hits can be counted."""

    until: float
    crowd: Crowd | None


class Found(msgspec.Struct, frozen=True):
    """The hits of a page and one more, if there is one."""

    rows: list[Any]
    total: int
    is_estimate: bool = False


class LeadSearch:
    """The search of one process. It remembers for a while which questions have many hits."""

    def __init__(
        self,
        pool: Pool,
        *,
        limit_s: float = float("inf"),
        most_counted: int = MOST_COUNTED,
        few_leads: int = FEW_LEADS,
        patience_s: float = PATIENCE_S,
        look_per_hit: float = LOOK_PER_HIT,
        deepest: int = DEEPEST,
    ) -> None:
        self._pool = pool
        self._most_counted = most_counted
        self._few_leads = few_leads
        self._patience_s = patience_s
        self._look_per_hit = look_per_hit
        self._deepest = deepest
        self._known: dict[Asked, Known] = {}
        # Of a pool's connections a tenant's searches have half, and those of all leave one.
        size = pool.get_max_size()
        self._tenants = Turns(max(size // 2, 1), limit_s=limit_s)
        self._all = Turns(max(size - 1, 1), limit_s=limit_s)
        self._scouts = Turns(at_once=1)
        """By question: of many who ask the same, one finds out how many hits there are."""

    async def read(self, principal: Principal, query: SearchQuery) -> bytes:
        """One page of hits as JSON. Raises InvalidRequest for a cursor not of this search."""
        belongs_to = ("search", principal.tenant_id, principal.live, query.q, query.status)
        place, skip = None, ((query.page or 1) - 1) * query.limit
        if query.cursor is not None:
            place = decode_cursor(query.cursor, belongs_to, kinds=(int, int))
        async with self._tenants.take(principal.tenant_id), self._all.take("all"):
            found = await self._find_in_time(principal, query, place, skip)
        shown, has_more = found.rows[: query.limit], len(found.rows) > query.limit
        next_cursor = None
        if has_more:
            last = shown[-1]
            place = Place((str(last["tier"]), str(last["score"])), last["id"])
            next_cursor = encode_cursor(place, belongs_to)
        return encode_page(
            ",".join(row["body"] for row in shown),
            make_pagination(
                None if query.cursor is not None else query.page or 1,
                query.limit, found.total, has_more=has_more, next_cursor=next_cursor,
                is_estimate=found.is_estimate,
            ),
        )  # fmt: skip

    async def _find_in_time(
        self, principal: Principal, query: SearchQuery, place: Place | None, skip: int
    ) -> Found:
        asked = (principal.tenant_id, principal.live, query.q, list_kinds(query.status))
        try:
            async with asyncio.timeout(self._patience_s) as clock:
                return await self._find(asked, place, skip, query.limit)
        except TimeoutError:
            if not clock.expired():
                raise
            raise Unavailable(
                "This search takes too long right now: try again, or with longer words."
            ) from None

    async def _find(self, asked: Asked, place: Place | None, skip: int, limit: int) -> Found:
        known = self._recall(asked, late_too=self._scouts.is_taken(asked))
        if known is None:
            async with self._scouts.take(asked):
                known = self._recall(asked) or await self._renew(asked)
                if known is None:
                    return await self._find_out(asked, place, skip, limit)
        if known.crowd is not None:
            return await self._find_in_crowd(asked, known.crowd, place, skip, limit)
        found = await self._count(asked, self._most_counted, place, skip, limit)
        return found or await self._find_out(asked, place, skip, limit)

    async def _find_out(self, asked: Asked, place: Place | None, skip: int, limit: int) -> Found:
        """Answers a question of which it is not known whether it has many hits."""
        found = await self._count(asked, self._most_counted, place, skip, limit)
        if found is not None:
            self._remember(asked, None)
            return found
        leads = await self._pool.fetchval(sql.lead_count_get, *asked[:2])
        if leads <= self._few_leads:
            found = await self._count(asked, ALL, place, skip, limit)
            if found is not None:
                return found
        crowd = await self._sample(asked, leads)
        self._remember(asked, crowd)
        return await self._find_in_crowd(asked, crowd, place, skip, limit)

    async def _renew(self, asked: Asked) -> Known | None:
        """A crowd that is known of old, sampled anew; None if it never was one or is none any more.

        A tenth of what it takes to find out.
        """
        known = self._known.get(asked)
        if known is None or known.crowd is None:
            return None
        leads = await self._pool.fetchval(sql.lead_count_get, *asked[:2])
        if leads <= self._few_leads:
            return None
        crowd = await self._sample(asked, leads)
        if sum(crowd.shares) * leads <= self._most_counted:
            return None
        return self._remember(asked, crowd)

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
        if sample["looked_at"] < ENOUGH_SAMPLED:  # one of many tenants
            [sample] = await self._pool.fetch(sql.lead_search_sample_runs, *asked, SAMPLED)
        looked_at = max(1, sample["looked_at"])
        wholes, beginnings, insides = sample["wholes"], sample["beginnings"], sample["insides"]
        return Crowd(
            total=max(self._most_counted + 1, round_down(leads * insides // looked_at)),
            leads=leads,
            shares=[
                part / looked_at for part in (wholes, beginnings - wholes, insides - beginnings)
            ],
        )

    def _remember(self, asked: Asked, crowd: Crowd | None) -> Known:
        self._known.pop(asked, None)
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]  # the oldest
        known = self._known[asked] = Known(time.monotonic() + REMEMBERED_S, crowd)
        return known

    def _recall(self, asked: Asked, *, late_too: bool = False) -> Known | None:
        """late_too: also what is too old, since someone is finding out anew."""
        known = self._known.get(asked)
        return known if known and (late_too or known.until > time.monotonic()) else None

    async def _find_in_crowd(
        self, asked: Asked, crowd: Crowd, place: Place | None, skip: int, limit: int
    ) -> Found:
        """Tier by tier, until the page is full."""
        if skip > self._deepest:
            raise refuse_deep_page(f"beyond the first {self._deepest:,} of too many hits to count")
        wanted = limit + 1
        first, *after = (0, 101, "") if place is None else (*place.values, place.id)
        rows: list[Any] = []
        for tier in range(first, TIERS):
            rest = wanted - len(rows)
            found, size = await self._find_in_tier(asked, tier, crowd, after, skip, rest)
            rows += found
            if len(rows) == wanted:
                break
            skip = 0 if found else max(0, skip - size)
            after = [101, ""]
        return Found(rows, crowd.total, is_estimate=True)

    async def _find_in_tier(
        self,
        asked: Asked,
        tier: int,
        crowd: Crowd,
        after: Sequence[Any],
        skip: int,
        wanted: int,
    ) -> tuple[list[Any], int]:
        """Hits of a tier; if they are fewer than wanted, also how many the tier has in all."""
        share = crowd.shares[tier]
        expected = (skip + wanted) * 1.5 / share if share else ALL
        most = int(min(share * crowd.leads / self._look_per_hit, max(MOST_LOOKED_AT, 2 * expected)))
        if expected < most:
            rows = await self._pool.fetch(
                sql.lead_search_browse, *asked, tier, most, *after, skip, wanted
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

"""Estimates for broad queries: searches with too many hits to count.

A sample of the tenant's leads says how many hits a query has and in which tier. The estimate is
cached, and so is the fact that a query has few hits.
"""

import time
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

import sql
from service.database.connect import Pool

SAMPLE_SIZE = 4_000
"""Leads in a sample: some 5 ms."""
MIN_SAMPLE_SIZE = 1_000
"""With fewer leads the shares would be too inexact."""
CACHED_FOR_S = 30.0
MOST_CACHED = 4_000

Question: TypeAlias = tuple[int, bool, str, tuple[int, ...] | None]
"""tenant, live, q, status-source codes: the first parameters of each statement."""


class BroadQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate for a query with many hits."""

    total: int
    leads: int
    """All leads of the tenant and mode."""
    tier_shares: Sequence[float]
    """For each tier, its hits divided by `leads`."""


class CachedEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a query is broad; None: it has so few hits that they can be counted."""

    valid_until: float
    broad: BroadQuery | None


class SearchEstimates:
    """Makes and caches the estimates of one process."""

    def __init__(self, pool: Pool, *, most_counted: int, few_leads: int) -> None:
        self.most_counted = most_counted
        self._pool = pool
        self._few_leads = few_leads
        self._cached: dict[Question, CachedEstimate] = {}

    def get(self, question: Question, *, allow_expired: bool = False) -> CachedEstimate | None:
        """The cached estimate, if there is one."""
        cached = self._cached.get(question)
        if cached is None or allow_expired or cached.valid_until > time.monotonic():
            return cached
        return None

    def put(self, question: Question, broad: BroadQuery | None) -> CachedEstimate:
        """Cache an estimate; drop the oldest one if the cache is full."""
        self._cached.pop(question, None)
        if len(self._cached) >= MOST_CACHED:
            del self._cached[next(iter(self._cached))]
        cached = CachedEstimate(valid_until=time.monotonic() + CACHED_FOR_S, broad=broad)
        self._cached[question] = cached
        return cached

    async def refresh(self, question: Question) -> CachedEstimate | None:
        """Sample a query again after its estimate has expired; counting would cost ten times more.

        None if the query was not broad, or is not broad any more.
        """
        cached = self._cached.get(question)
        if cached is None or cached.broad is None:
            return None
        broad = await self.estimate(question)
        if broad is None or sum(broad.tier_shares) * broad.leads <= self.most_counted:
            return None
        return self.put(question, broad)

    async def estimate(self, question: Question) -> BroadQuery | None:
        """Sample the query; None for a tenant with few leads, whose hits can all be counted."""
        leads = await self._pool.fetchval(sql.lead_count_get, *question[:2])
        if leads <= self._few_leads:
            return None
        return await self.sample(question, leads)

    async def sample(self, question: Question, leads: int) -> BroadQuery:
        """The estimate from a sample of the tenant's leads."""
        [sample] = await self._pool.fetch(sql.lead_search_sample, *question, SAMPLE_SIZE, leads)
        if sample["sampled"] < MIN_SAMPLE_SIZE:  # the tenant has a small part of the table
            [sample] = await self._pool.fetch(sql.lead_search_sample_runs, *question, SAMPLE_SIZE)
        sampled = max(1, sample["sampled"])
        # A hit of a tier is also counted in the tiers after it.
        up_to_tier = [sample["whole_words"], sample["prefixes"], sample["substrings"]]
        in_tier = [n - before for n, before in zip(up_to_tier, [0, *up_to_tier], strict=False)]
        return BroadQuery(
            total=max(self.most_counted + 1, round_down(leads * up_to_tier[-1] // sampled)),
            leads=leads,
            tier_shares=[n / sampled for n in in_tier],
        )


def round_down(number: int) -> int:
    """Rounds down to two digits, as suits an estimate."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return int(number // unit * unit)

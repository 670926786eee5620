"""Keeps the search index fast, its word table clean and the list counters right.

PostgreSQL collects new index entries in a pending list. Merging the list here spares one writer in
thousands a pause of 0.1 s. Each minute a sweep checks some words and removes unused words; after
the last word of a tenant it counts the tenant's leads again. Each minute counters in surplus slots
are merged, so that few have to be summed.
"""

import sql
from service.telemetry.logging import get_logger
from service.telemetry.metrics import JANITOR_WARNINGS
from workers.jobs import Job, WorkerContext

MERGE_EVERY_S = 1.0
SWEEP_EVERY_S = 60.0
MAX_WORDS = 1_000
"""Words checked at once; each takes an index look-up of some 0.1 ms."""
MAX_SLOTS = 100
"""Surplus slots merged at once."""
log = get_logger("search_maintenance")


class SearchMaintenance(Job):
    """Merges the pending list each second, and sweeps once a minute."""

    name = "search_maintenance"
    idle_s = MERGE_EVERY_S

    def __init__(self, context: WorkerContext) -> None:
        self._pool = context.pool

    async def once(self) -> int:
        """Runs one round. Returns 0, because the next round can wait."""
        await self._pool.fetchval(sql.lead_search_clean_pending)
        due = await self._pool.fetchrow(sql.lead_word_sweep_take, SWEEP_EVERY_S)
        if due is not None:
            await self._pool.fetchval(sql.lead_count_merge, MAX_SLOTS)
            await self._sweep(due["tenant_id"], due["live"], due["word"])
        return 0

    async def _sweep(self, tenant_id: int, live: bool, word: str) -> None:
        last = await self._pool.fetchval(
            sql.lead_word_delete_unused, tenant_id, live, word, MAX_WORDS
        )
        if last is not None:
            await self._pool.execute(sql.lead_word_sweep_advance, tenant_id, live, last)
            return
        await self._correct_counts(tenant_id, live)
        following = await self._pool.fetchrow(sql.lead_count_next, tenant_id, live)
        if following is not None:
            await self._pool.execute(
                sql.lead_word_sweep_advance, following["tenant_id"], following["live"], ""
            )

    async def _correct_counts(self, tenant_id: int, live: bool) -> None:
        wrong = await self._pool.fetch(sql.lead_count_reconcile, tenant_id, live)
        if wrong:
            JANITOR_WARNINGS.labels("count.wrong").inc()
            groups = [f"{row['status']}/{row['source']}" for row in wrong]
            log.error("counts.corrected", tenant_id=tenant_id, live=live, groups=groups)

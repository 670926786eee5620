"""Keeps the index of search quick and its lexicon clean, and checks the counters of lists.

Writers leave new words at the door of the index (PostgreSQL's pending list): sorting them in here
spares one writer in thousands a pause of 0.1 s. The sweep through the lexicon goes some words a
minute; when it has been through a tenant's words, that tenant's counters are counted anew. Counters
of surplus slots are merged each minute, so that those to be added up stay few.
"""

import sql
from service.logs import get_logger
from service.metrics import JANITOR_WARNINGS
from service.wakeups import Topic
from workers.slices import Workshop

SETTLE_EVERY_S = 1.0
SWEEP_EVERY_S = 60.0
WORDS = 1_000
"""Words of a turn; each takes a look into the index, some 0.1 ms."""
SLOTS = 100
"""Surplus slots that are merged in a turn."""
log = get_logger("indexer")


class Indexer:
    """A turn each second, of which one a minute also sweeps."""

    name = "indexer"
    topics: tuple[Topic, ...] = ()
    idle_s = SETTLE_EVERY_S
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._pool = shop.pool

    async def once(self) -> int:
        """0, for what comes next has time."""
        await self._pool.fetchval(sql.lead_search_settle)
        place = await self._pool.fetchrow(sql.lead_word_sweep_take, SWEEP_EVERY_S)
        if place is not None:
            await self._pool.fetchval(sql.lead_count_merge, SLOTS)
            await self._sweep(place["tenant_id"], place["live"], place["word"])
        return 0

    async def close(self) -> None:
        """Nothing is left running."""

    async def _sweep(self, tenant_id: int, live: bool, word: str) -> None:
        last = await self._pool.fetchval(sql.lead_word_tidy, tenant_id, live, word, WORDS)
        if last is not None:
            await self._pool.execute(sql.lead_word_sweep_advance, tenant_id, live, last)
            return
        wrong = await self._pool.fetch(sql.lead_count_reconcile, tenant_id, live)
        if wrong:
            JANITOR_WARNINGS.labels("count.wrong").inc()
            kinds = [f"{row['status']}/{row['source']}" for row in wrong]
            log.error("counts.corrected", tenant_id=tenant_id, live=live, kinds=kinds)
        following = await self._pool.fetchrow(sql.lead_count_next, tenant_id, live)
        if following is not None:
            await self._pool.execute(
                sql.lead_word_sweep_advance, following["tenant_id"], following["live"], ""
            )

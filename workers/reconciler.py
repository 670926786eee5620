"""Counts without end whether every event became its deliveries, and says so if not."""

import sql
from service.db import Connection
from service.logs import get_logger
from service.wakeups import Topic
from service.webhooks.reconciling import TICKS, Reckoning, find_end, find_place, reckon
from workers.slices import Workshop

EVERY_S = 300.0
"""Or as soon as there is a whole piece of the log to count."""
log = get_logger("reconciler")


class Reconciler:
    """One piece of the log a turn, from where the last one ended; see reconciling.py."""

    name = "reconciler"
    topics: tuple[Topic, ...] = ()
    idle_s = 5.0
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._has_warned = False

    async def once(self) -> int:
        """How many pieces it counted: one, or none if none is due."""
        async with self._shop.pool.acquire() as conn:
            place = await find_place(conn, self._shop.settings)
            piece = await conn.fetchrow(sql.reconciliation_find_next, place, TICKS)
            is_due = await conn.fetchval(sql.reconciliation_is_due, EVERY_S)
            if is_due and piece is None:
                await self._warn_if_late(conn, place)
            if piece is None or not (is_due or piece["tick"] >= place + TICKS):
                return 0
            found = await reckon(conn, place)
            if found is None:
                return 0
            await conn.execute(
                sql.reconciliation_note, place, found.tick, found.since, found.upto, found.expected,
                sum(one.missing for one in found.counts), sum(one.doubled for one in found.counts),
                sum(one.stray for one in found.counts),
            )  # fmt: skip
        report(found)
        return 1

    async def close(self) -> None:
        """Nothing is left running."""

    async def _warn_if_late(self, conn: Connection, place: int) -> None:
        end = await find_end(conn, place)
        if end.is_late and not self._has_warned:
            log.warning("deliveries.unproven", beyond=end.upto.isoformat())
            self._has_warned = True


def report(found: Reckoning) -> None:
    """Tells what was counted, and names each endpoint of which something is amiss."""
    for one in found.differences:
        log.error(
            "deliveries.differ", tenant_id=one.tenant_id, live=one.live,
            endpoint_id=one.endpoint_id, expected=one.expected, missing=one.missing,
            doubled=one.doubled, stray=one.stray,
        )  # fmt: skip
    log.info("deliveries.reconciled", upto=found.upto.isoformat(), expected=found.expected)

"""Checks continuously whether every event became its deliveries, and reports differences."""

import sql
from service.database.connect import Connection
from service.telemetry.logging import get_logger
from service.webhooks.reconciliation import (
    TICKS,
    Reconciliation,
    find_end,
    find_start_tick,
    reconcile,
)
from workers.jobs import Job, WorkerContext

EVERY_S = 300.0
"""The time between reconciliations, unless the log has grown by TICKS ticks before."""
log = get_logger("reconciler")


class Reconciler(Job):
    """Reconciles one range of the log at a time; see service/webhooks/reconciliation.py."""

    name = "reconciler"
    idle_s = 5.0

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._has_warned = False

    async def once(self) -> int:
        """Reconciles the next range. Returns 1, or 0 if none was due."""
        async with self._context.pool.acquire() as conn:
            start = await find_start_tick(conn, self._context.settings)
            next_range = await conn.fetchrow(sql.reconciliation_find_next, start, TICKS)
            is_due = await conn.fetchval(sql.reconciliation_is_due, EVERY_S)
            if is_due and next_range is None:
                await self._warn_if_late(conn, start)
            if next_range is None or not (is_due or next_range["tick"] >= start + TICKS):
                return 0
            found = await reconcile(conn, start)
            if found is None:
                return 0
            await _store(conn, start, found)
        report(found)
        return 1

    async def _warn_if_late(self, conn: Connection, start: int) -> None:
        end = await find_end(conn, start)
        if end.is_late and not self._has_warned:
            log.warning("deliveries.unproven", beyond=end.upto.isoformat())
            self._has_warned = True


def report(found: Reconciliation) -> None:
    """Logs the result, and an error for each endpoint with a difference."""
    for difference in found.differences:
        log.error(
            "deliveries.differ",
            tenant_id=difference.tenant_id,
            live=difference.live,
            endpoint_id=difference.endpoint_id,
            expected=difference.expected,
            missing=difference.missing,
            doubled=difference.doubled,
            stray=difference.stray,
        )
    log.info("deliveries.reconciled", upto=found.upto.isoformat(), expected=found.expected)


async def _store(conn: Connection, start: int, found: Reconciliation) -> None:
    await conn.execute(
        sql.reconciliation_save,
        start,
        found.tick,
        found.since,
        found.upto,
        found.expected,
        sum(count.missing for count in found.counts),
        sum(count.doubled for count in found.counts),
        sum(count.stray for count in found.counts),
    )

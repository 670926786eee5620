"""Periodic upkeep of the delivery table. Any number of dispatchers may run it at once."""

import asyncio
import math
import time
from collections.abc import Iterable

from asyncpg import Record

import sql
from service.database.connect import Connection, Pool
from service.ids import make_id
from service.telemetry.logging import get_logger
from service.telemetry.metrics import LOST_LEASES
from workers.delivery.lane import MAX_PAUSE_S as MAX_BREAKER_PAUSE_S
from workers.delivery.lane import Lanes
from workers.delivery.retry import MAX_DUE_IN_S
from workers.delivery.retry import MAX_PAUSE_S as MAX_ASKED_PAUSE_S

INTERVAL_S = 1.0
BATCH = 1000
OWNER_CHANGES_S = 0.25
"""How long one round may apply owners' changes, in batches of BATCH deliveries."""
MAX_LOST_LEASES = 5
"""A delivery is given up after this number of expired leases: it seems to stop dispatchers."""
EVENTS_PER_ROUND = 20
REPAIR_EVERY_S = 60.0
REPAIR_S = 0.25
"""How long one round may repair times, in batches of BATCH deliveries."""
TOLERANCE_S = 600.0
"""A clock that is set back by less than this needs no repair."""
MAX_CLOSED_S = max(MAX_ASKED_PAUSE_S, MAX_BREAKER_PAUSE_S) + TOLERANCE_S
MAX_WAIT_S = MAX_DUE_IN_S + TOLERANCE_S
"""No delivery is due later, even if it waits for another delivery of its lead."""
log = get_logger("dispatcher")


class Maintenance:
    """Runs the upkeep every INTERVAL_S, beside the deliveries, one round at a time."""

    def __init__(self, pool: Pool, lanes: Lanes) -> None:
        self._pool = pool
        self._lanes = lanes
        self._started_at = 0.0
        self._repaired_at = -math.inf
        self._round: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    def start_if_due(self) -> None:
        """Starts a round in the background. Raises the error of the last round."""
        if self._round is not None and self._round.done():
            ended, self._round = self._round, None
            ended.result()
        if self._round is None and time.monotonic() - self._started_at > INTERVAL_S:
            self._started_at = time.monotonic()
            self._round = asyncio.create_task(self.run())

    async def run(self) -> None:
        """Runs one round."""
        async with self._lock:
            await reap_leases(self._pool)
            await apply_owner_changes(self._pool)
            await self.save_health()
            await check_failing_endpoints(self._pool)
            if time.monotonic() - self._repaired_at > REPAIR_EVERY_S:
                repaired = await repair_times(self._pool)
                if not repaired:
                    self._repaired_at = time.monotonic()

    async def save_health(self) -> None:
        """Stores the successes and failures that the lanes have counted."""
        unsaved = self._lanes.pop_unsaved_health()
        if unsaved:
            columns = [list(column) for column in zip(*unsaved, strict=True)]
            await self._pool.execute(sql.endpoint_health_save_many, *columns)

    async def stop(self) -> None:
        """Cancels the current round."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)


async def reap_leases(pool: Pool) -> int:
    """Ends the expired leases of dispatchers that died or stalled; returns their number."""
    async with pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(sql.delivery_reap_many, BATCH, MAX_LOST_LEASES)
        await make_next_due(conn, (row for row in rows if row["given_up"]))
    for row in rows:
        LOST_LEASES.inc()
        log.warning(
            "lease.lost",
            delivery_id=row["id"],
            endpoint_id=row["endpoint_id"],
            event_id=row["event_id"],
            number=row["attempts"],
            given_up=row["given_up"],
        )
    return len(rows)


async def apply_owner_changes(pool: Pool) -> None:
    """Cancels deliveries of deleted endpoints and skipped deliveries; makes resumed retries due."""
    end = time.monotonic() + OWNER_CHANGES_S
    while time.monotonic() < end:
        resumed: int = await pool.fetchval(sql.delivery_recall_many, BATCH)
        if not await _cancel_many(pool) and resumed < BATCH:
            break
    await pool.execute(sql.endpoint_finish_skips)


async def repair_times(pool: Pool) -> int:
    """Ends pauses and delays that are longer than possible: the database's clock was ahead.

    Without this a webhook would stand still until the wrong time arrives. Returns the number of
    endpoints and deliveries: if it is not 0, there may be more.
    """
    endpoints: int = await pool.fetchval(sql.endpoint_repair_many, MAX_CLOSED_S)
    end = time.monotonic() + REPAIR_S
    deliveries, count = 0, BATCH
    while count and time.monotonic() < end:
        count = await pool.fetchval(sql.delivery_repair_many, MAX_WAIT_S, BATCH)
        deliveries += count
    if endpoints or deliveries:
        log.warning("clock.repaired", endpoints=endpoints, deliveries=deliveries)
    return endpoints + deliveries


async def make_next_due(conn: Connection, finished: Iterable[Record]) -> None:
    """Makes the deliveries due that waited for these, which were finished without being sent."""
    leads = [(row["endpoint_id"], row["lead_id"]) for row in finished if row["lead_id"] is not None]
    if leads:
        columns = [list(column) for column in zip(*leads, strict=True)]
        await conn.execute(sql.delivery_make_next_due, *columns)


async def check_failing_endpoints(pool: Pool) -> None:
    """Reports endpoints that have failed for days and finally disables them, with an event each."""
    for row in await pool.fetch(sql.endpoint_warn_failing, _make_event_ids()):
        log.warning(
            "endpoint.failing",
            endpoint_id=row["id"],
            tenant_id=row["tenant_id"],
            failing_since=row["failing_since"],
            failures=row["failures"],
            percent=row["percent"],
        )
    for row in await pool.fetch(sql.endpoint_disable_failing, _make_event_ids()):
        log.warning(
            "endpoint.disabled",
            endpoint_id=row["id"],
            tenant_id=row["tenant_id"],
            reason=row["status_reason"],
        )


async def _cancel_many(pool: Pool) -> int:
    async with pool.acquire() as conn, conn.transaction():
        cancelled = await conn.fetch(sql.delivery_cancel_many, BATCH)
        await make_next_due(conn, (row for row in cancelled if not row["is_deleted"]))
    return len(cancelled)


def _make_event_ids() -> list[str]:
    return [make_id("evt") for _ in range(EVENTS_PER_ROUND)]

"""Gives up deliveries that have waited too long for a paused or disabled endpoint.

Events are kept while a delivery waits to send them (see partition_list_expired), at most for
WEBHOOK_HOLD_DAYS. Then the deliveries fail as `event_expired`, and the same transaction appends
`webhook.expired` to the log, so that no loss is silent.
"""

from datetime import datetime

from asyncpg import Record

import sql
from service.database.connect import Connection, Pool
from service.ids import make_id
from service.telemetry.logging import get_logger
from service.telemetry.metrics import DELIVERIES_EXPIRED

BATCH = 5000
log = get_logger("janitor")


async def expire_held(pool: Pool, hold_days: int) -> int:
    """Gives up the expired deliveries of all endpoints; returns their number."""
    count = 0
    for row in await pool.fetch(sql.delivery_list_expired, hold_days):
        count += await _expire_of_endpoint(pool, row)
    return count


async def _expire_of_endpoint(pool: Pool, row: Record) -> int:
    endpoint = row["tenant_id"], row["live"], row["id"]
    async with pool.acquire() as conn, conn.transaction():
        batches = await _expire_in_batches(conn, row)
        count: int = sum(batch["count"] for batch in batches)
        if not count:
            return 0
        since: datetime = min(batch["since"] for batch in batches if batch["count"])
        until: datetime = max(batch["until"] for batch in batches if batch["count"])
        event = make_id("evt"), count, since, until
        await conn.fetchval(sql.endpoint_log_expiry, *endpoint, *event)
    DELIVERIES_EXPIRED.inc(count)
    log.error("deliveries.expired", tenant_id=row["tenant_id"], endpoint_id=row["id"], count=count)
    return count


async def _expire_in_batches(conn: Connection, row: Record) -> list[Record]:
    batches: list[Record] = []
    endpoint_id = row["id"]
    while not batches or batches[-1]["count"] == BATCH:
        batch = await conn.fetchrow(
            sql.delivery_expire_many,
            row["tenant_id"],
            row["live"],
            endpoint_id,
            row["before"],
            BATCH,
            row["first_id"],
        )
        if batch is None:
            raise LookupError("delivery_expire_many returned no row")
        batches.append(batch)
        leads = batch["leads"] or []
        await conn.execute(sql.delivery_make_next_due, [endpoint_id] * len(leads), leads)
    return batches

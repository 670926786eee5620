"""Gives up what has waited too long for a webhook that is paused or disabled, and says so.

Events are kept as long as some delivery waits to send them; see partition_list_expired. That ends
after WEBHOOK_HOLD_DAYS: the deliveries fail as `event_expired`, and in the same transaction the log
gets `webhook.expired`, so that no loss is silent.
"""

from datetime import datetime

from asyncpg import Record

import sql
from service.db import Pool
from service.ids import make_id
from service.logs import get_logger
from service.metrics import DELIVERIES_EXPIRED

ROWS = 5000
log = get_logger("janitor")


async def expire_held(pool: Pool, hold_days: int) -> int:
    """How many deliveries were given up, of all endpoints."""
    count = 0
    for row in await pool.fetch(sql.delivery_list_expired, hold_days):
        count += await _expire_of_one(pool, row)
    return count


async def _expire_of_one(pool: Pool, row: Record) -> int:
    whose = row["tenant_id"], row["live"], row["id"]
    found: list[Record] = []
    async with pool.acquire() as conn, conn.transaction():
        while not found or found[-1]["count"] == ROWS:
            batch = await conn.fetchrow(sql.delivery_expire_many, *whose, row["before"], ROWS)
            if batch is None:
                raise LookupError("an aggregate gives a row")
            found.append(batch)
            leads = batch["leads"] or []
            await conn.execute(sql.delivery_call_heads, [row["id"]] * len(leads), leads)
        count: int = sum(batch["count"] for batch in found)
        if not count:
            return 0
        since: datetime = min(batch["since"] for batch in found if batch["count"])
        until: datetime = max(batch["until"] for batch in found if batch["count"])
        event = make_id("evt"), count, since, until
        await conn.fetchval(sql.endpoint_log_expiry, *whose, *event)
    DELIVERIES_EXPIRED.inc(count)
    log.error("deliveries.expired", tenant_id=row["tenant_id"], endpoint_id=row["id"], count=count)
    return count

"""What keeps the delivery table right between attempts; any dispatcher does it, any number may."""

import time
from collections.abc import Iterable

from asyncpg import Record

import sql
from service.db import Connection, Pool
from service.ids import make_id
from service.logs import get_logger
from service.metrics import LOST_LEASES

ROWS = 1000
SWEEP_S = 0.25
"""What owners have chosen is carried out for so long at a time, in parts of ROWS."""
MAX_LOST_LEASES = 5
"""A delivery whose leases ran out so often kills whoever sends it: it is given up."""
EVENTS_AT_ONCE = 20
log = get_logger("dispatcher")


async def reap_leases(pool: Pool) -> int:
    """Takes back what a dispatcher that died or slept too long had leased; how many."""
    async with pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(sql.delivery_reap_many, ROWS, MAX_LOST_LEASES)
        await call_heads(conn, (row for row in rows if row["given_up"]))
    for row in rows:
        LOST_LEASES.inc()
        log.warning(
            "lease.lost", delivery_id=row["id"], endpoint_id=row["endpoint_id"],
            event_id=row["event_id"], number=row["attempts"], given_up=row["given_up"],
        )  # fmt: skip
    return len(rows)


async def sweep(pool: Pool) -> None:
    """Cancels what waits for deleted endpoints and what owners skip, calls what they resume."""
    end = time.monotonic() + SWEEP_S
    while time.monotonic() < end:
        recalled: int = await pool.fetchval(sql.delivery_recall_many, ROWS)
        if not await _cancel_many(pool) and recalled < ROWS:
            break
    await pool.execute(sql.endpoint_finish_skips)


async def call_heads(conn: Connection, finished: Iterable[Record]) -> None:
    """What was put off behind deliveries that were finished without being sent is due at once."""
    leads = [(row["endpoint_id"], row["lead_id"]) for row in finished if row["lead_id"] is not None]
    if leads:
        columns = [list(column) for column in zip(*leads, strict=True)]
        await conn.execute(sql.delivery_call_heads, *columns)


async def save_health(pool: Pool, tallies: list[tuple[str, bool, int, int]]) -> None:
    """Writes down how the endpoints fare."""
    if tallies:
        columns = [list(column) for column in zip(*tallies, strict=True)]
        await pool.execute(sql.endpoint_health_save_many, *columns)


async def judge_failing(pool: Pool) -> None:
    """Tells of endpoints that fail for days, and disables them in the end; events say both."""
    for row in await pool.fetch(sql.endpoint_warn_failing, _make_event_ids()):
        log.warning(
            "endpoint.failing", endpoint_id=row["id"], tenant_id=row["tenant_id"],
            failing_since=row["failing_since"], failures=row["failures"], percent=row["percent"],
        )  # fmt: skip
    for row in await pool.fetch(sql.endpoint_disable_failing, _make_event_ids()):
        log.warning(
            "endpoint.disabled", endpoint_id=row["id"], tenant_id=row["tenant_id"],
            reason=row["status_reason"],
        )  # fmt: skip


async def _cancel_many(pool: Pool) -> int:
    async with pool.acquire() as conn, conn.transaction():
        cancelled = await conn.fetch(sql.delivery_cancel_many, ROWS)
        await call_heads(conn, (row for row in cancelled if not row["is_deleted"]))
    return len(cancelled)


def _make_event_ids() -> list[str]:
    return [make_id("evt") for _ in range(EVENTS_AT_ONCE)]

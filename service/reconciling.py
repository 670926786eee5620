"""Proves that every event became a delivery of each endpoint that wanted it, exactly once.

An independent count: it does not ask fan-out what it did but compares the log with the deliveries.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec

import sql
from service.db import Connection

SPAN = timedelta(hours=3)
"""How far back the hourly run looks; the log is not read twice in full every hour."""
SECOND_LOOK_S = 2.0


class Difference(msgspec.Struct, frozen=True):
    """An endpoint and how many deliveries there should be, are missing, and are too many."""

    tenant_id: int
    live: bool
    endpoint_id: str
    expected: int
    missing: int
    doubled: int


class Expired(msgspec.Struct, frozen=True):
    """An endpoint, and how many deliveries were given up because their events were not kept."""

    tenant_id: int
    live: bool
    endpoint_id: str
    count: int


class Reckoning(msgspec.Struct, frozen=True):
    """`differences` is empty when every delivery was made, `expired` when none was given up."""

    since: datetime
    upto: datetime
    endpoints: int
    expected: int
    differences: list[Difference]
    expired: list[Expired]


async def reconcile(conn: Connection, since: datetime | None = None) -> Reckoning:
    """Counts; and writes down what it found.

    Counts a second time before it says that something is missing: an event of a long transaction
    becomes visible long after its createdAt, and fan-out may be at it just now.
    """
    upto = datetime.now(UTC) - timedelta(seconds=1)
    since = since or upto - SPAN
    found = await _count(conn, since, upto)
    if any(one.missing or one.doubled for one in found):
        await asyncio.sleep(SECOND_LOOK_S)
        found = await _count(conn, since, upto)
    expired = await conn.fetch(sql.delivery_count_expired, since, upto)
    reckoning = Reckoning(
        since=since,
        upto=upto,
        endpoints=len(found),
        expected=sum(one.expected for one in found),
        differences=[one for one in found if one.missing or one.doubled],
        expired=[Expired(*row.values()) for row in expired],
    )
    await conn.execute(
        sql.reconciliation_insert, since, upto, reckoning.expected,
        sum(one.missing for one in found), sum(one.doubled for one in found),
    )  # fmt: skip
    return reckoning


async def _count(conn: Connection, since: datetime, upto: datetime) -> list[Difference]:
    rows = await conn.fetch(sql.endpoint_reconcile, since, upto)
    return [Difference(*row.values()) for row in rows]

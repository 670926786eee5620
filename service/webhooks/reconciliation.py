"""Checks that each event became exactly one delivery of each endpoint that subscribes to it.

The count is independent of fan-out: it compares the log with the deliveries and the deliveries with
the log. It reads the log in spans of limited length, so its cost does not grow with the log.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

import sql
from service.database.connect import Connection
from service.settings import Settings

TICKS = 2000
"""The longest span, in ticks: ten seconds of a log that is written without a pause."""
LATE_S = 60.0
"""Fan-out is milliseconds behind the log; a reconciliation that is this late deserves a warning."""
STATEMENT_TIMEOUT_S = 60
"""A span may have many events, for example after an outage of the ticker."""
FINALS_KEPT = timedelta(days=30)
MARGIN = timedelta(hours=1)
"""An event and its delivery may be in different partitions, and the older one may be dropped."""


class Difference(msgspec.Struct, frozen=True):
    """The counts of an endpoint: deliveries expected, missing, made twice, and without a reason."""

    tenant_id: int
    live: bool
    endpoint_id: str
    expected: int = 0
    missing: int = 0
    doubled: int = 0
    stray: int = 0
    """Deliveries without an event in the log, or with an event of an unsubscribed type."""

    @property
    def differs(self) -> bool:
        """Whether the deliveries differ from the events."""
        return bool(self.missing or self.doubled or self.stray)


class Expired(msgspec.Struct, frozen=True):
    """The number of an endpoint's deliveries that failed because their events expired."""

    tenant_id: int
    live: bool
    endpoint_id: str
    count: int


class Reconciliation(msgspec.Struct, frozen=True):
    """The result for a span of the log that ends with `tick`, with counts per endpoint."""

    tick: int
    since: datetime
    upto: datetime
    counts: list[Difference]

    @property
    def expected(self) -> int:
        """The number of deliveries that the events require."""
        return sum(each.expected for each in self.counts)

    @property
    def differences(self) -> list[Difference]:
        """The endpoints whose deliveries differ from the events."""
        return [each for each in self.counts if each.differs]


class CheckedUntil(msgspec.Struct, frozen=True):
    """The time up to which deliveries are checked, and the seconds since then."""

    upto: datetime
    behind_s: float

    @property
    def is_late(self) -> bool:
        """Whether the check is further behind than fan-out can explain."""
        return self.behind_s > LATE_S


def find_first_moment(settings: Settings, now: datetime) -> datetime:
    """The earliest time from which both the log and the finished deliveries are kept."""
    return now - min(timedelta(days=settings.event_retention_days), FINALS_KEPT) + MARGIN


async def find_start_tick(conn: Connection, settings: Settings) -> int:
    """Find the tick up to which deliveries are checked, or the oldest tick that can be checked."""
    first = find_first_moment(settings, datetime.now(UTC))
    tick: int = await conn.fetchval(sql.reconciliation_get_start_tick, first)
    return tick


async def reconcile(conn: Connection, start_tick: int) -> Reconciliation | None:
    """Check the next span after a tick; None if fan-out has read no further."""
    span = await conn.fetchrow(sql.reconciliation_find_next, start_tick, TICKS)
    if span is None:
        return None
    async with conn.transaction():
        await conn.execute(sql.reconciliation_begin, STATEMENT_TIMEOUT_S)
        expected = await conn.fetch(
            sql.endpoint_reconcile, start_tick, span["tick"], timeout=STATEMENT_TIMEOUT_S
        )
        stray = await conn.fetch(
            sql.delivery_reconcile, span["since"], span["upto"], timeout=STATEMENT_TIMEOUT_S
        )
    counts = [Difference(**dict(row)) for row in (*expected, *stray)]
    return Reconciliation(span["tick"], span["since"], span["upto"], add_up(counts))


async def reconcile_since(conn: Connection, since: datetime) -> tuple[Reconciliation, CheckedUntil]:
    """Check the log from a time on as far as fan-out has read; return the result and its end."""
    tick: int = await conn.fetchval(sql.tick_find_last, since)
    counts: list[Difference] = []
    while (span := await reconcile(conn, tick)) is not None:
        tick, counts = span.tick, add_up([*counts, *span.counts])
    end = await find_end(conn, tick)
    return Reconciliation(tick, since, end.upto, counts), end


async def find_end(conn: Connection, tick: int) -> CheckedUntil:
    """Find the end of the time that a check up to a tick covers: now if no later events exist."""
    row: Any = await conn.fetchrow(sql.reconciliation_find_end, tick)
    return CheckedUntil(**dict(row))


async def count_expired(conn: Connection, since: datetime, upto: datetime) -> list[Expired]:
    """Count the deliveries of each endpoint that expired between two times."""
    rows = await conn.fetch(sql.delivery_count_expired, since, upto)
    return [Expired(**dict(row)) for row in rows]


def add_up(counts: Iterable[Difference]) -> list[Difference]:
    """Add the counts of each endpoint, in the order of tenants."""
    sums: dict[tuple[int, bool, str], Difference] = {}
    for each in counts:
        key = each.tenant_id, each.live, each.endpoint_id
        total = sums.get(key, Difference(*key))
        sums[key] = msgspec.structs.replace(
            total,
            expected=total.expected + each.expected,
            missing=total.missing + each.missing,
            doubled=total.doubled + each.doubled,
            stray=total.stray + each.stray,
        )
    return [sums[key] for key in sorted(sums)]

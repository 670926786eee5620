"""Proves that every event became a delivery of each endpoint that wanted it, exactly once.

An independent count: it does not ask fan-out what it did but compares the log with the deliveries,
and the deliveries with the log. A piece at a time, so that it costs the same however much there is.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

import sql
from service.db import Connection
from service.settings import Settings

TICKS = 2000
"""In one piece: ten seconds of a log that is written to without pause."""
LATE_S = 60.0
"""Fan-out is milliseconds behind; what is not proven for so long deserves a look."""
PATIENCE_S = 60
"""For a statement: a piece may hold much, as after an outage of the ticker."""
FINALS_KEPT = timedelta(days=30)
MARGIN = timedelta(hours=1)
"""An event and its delivery may lie in different partitions, of which the older has gone."""


class Difference(msgspec.Struct, frozen=True):
    """An endpoint: how many deliveries there should be, how many are missing, double, too many."""

    tenant_id: int
    live: bool
    endpoint_id: str
    expected: int = 0
    missing: int = 0
    doubled: int = 0
    stray: int = 0
    """Of no event in the log, or of one that the endpoint did not want."""

    @property
    def differs(self) -> bool:
        """Whether events and deliveries do not agree."""
        return bool(self.missing or self.doubled or self.stray)


class Expired(msgspec.Struct, frozen=True):
    """An endpoint, and how many deliveries were given up because their events were not kept."""

    tenant_id: int
    live: bool
    endpoint_id: str
    count: int


class Reckoning(msgspec.Struct, frozen=True):
    """The log up to a tick, counted: one of `counts` per endpoint that it concerns."""

    tick: int
    since: datetime
    upto: datetime
    counts: list[Difference]

    @property
    def expected(self) -> int:
        """How many deliveries there should be."""
        return sum(one.expected for one in self.counts)

    @property
    def differences(self) -> list[Difference]:
        """Empty when events and deliveries agree."""
        return [one for one in self.counts if one.differs]


class End(msgspec.Struct, frozen=True):
    """The moment beyond which nothing is proven, and how long ago it was."""

    upto: datetime
    behind_s: float

    @property
    def is_late(self) -> bool:
        """Whether that is more than fan-out takes."""
        return self.behind_s > LATE_S


def find_first_moment(settings: Settings, now: datetime) -> datetime:
    """Since when both the log and the finished deliveries are there to be compared."""
    return now - min(timedelta(days=settings.event_retention_days), FINALS_KEPT) + MARGIN


async def find_place(conn: Connection, settings: Settings) -> int:
    """The tick up to which all is proven, as far back as there is something to compare."""
    first = find_first_moment(settings, datetime.now(UTC))
    place: int = await conn.fetchval(sql.reconciliation_get_place, first)
    return place


async def reckon(conn: Connection, place: int) -> Reckoning | None:
    """Counts the next piece after a tick; None if fan-out has not passed anything more."""
    piece = await conn.fetchrow(sql.reconciliation_find_next, place, TICKS)
    if piece is None:
        return None
    async with conn.transaction():
        await conn.execute(sql.reconciliation_begin, PATIENCE_S)
        rows = await conn.fetch(sql.endpoint_reconcile, place, piece["tick"], timeout=PATIENCE_S)
        stray = await conn.fetch(
            sql.delivery_reconcile, piece["since"], piece["upto"], timeout=PATIENCE_S
        )
    counts = [Difference(*row.values()) for row in rows]
    counts += [
        Difference(row["tenant_id"], row["live"], row["id"], stray=row["stray"]) for row in stray
    ]
    return Reckoning(piece["tick"], piece["since"], piece["upto"], add_up(counts))


async def reckon_since(conn: Connection, since: datetime) -> tuple[Reckoning, End]:
    """All pieces from a moment to where fan-out is, as one, and how far that is."""
    place: int = await conn.fetchval(sql.tick_find_last, since)
    counts: list[Difference] = []
    while (found := await reckon(conn, place)) is not None:
        place, counts = found.tick, add_up([*counts, *found.counts])
    end = await find_end(conn, place)
    return Reckoning(place, since, end.upto, counts), end


async def find_end(conn: Connection, place: int) -> End:
    """How far all is proven if it is up to this tick: to now, unless more has come."""
    row: Any = await conn.fetchrow(sql.reconciliation_find_end, place)
    return End(*row.values())


async def count_expired(conn: Connection, since: datetime, upto: datetime) -> list[Expired]:
    """The endpoints of which deliveries were given up in between."""
    rows = await conn.fetch(sql.delivery_count_expired, since, upto)
    return [Expired(*row.values()) for row in rows]


def add_up(counts: Iterable[Difference]) -> list[Difference]:
    """One per endpoint, in the order of tenants."""
    sums: dict[tuple[int, bool, str], Difference] = {}
    for one in counts:
        whose = one.tenant_id, one.live, one.endpoint_id
        had = sums.get(whose, Difference(*whose))
        sums[whose] = Difference(
            *whose, had.expected + one.expected, had.missing + one.missing,
            had.doubled + one.doubled, had.stray + one.stray,
        )  # fmt: skip
    return [sums[whose] for whose in sorted(sums)]

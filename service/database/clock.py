"""The database's clock is the reference: each process measures how far its own clock is off.

Leases, schedules and the times of rows use the database's clock anyway. Times that a process sets
itself (of a signature, or from a Retry-After with a date) use its own clock, corrected by the
difference if that is more than a round trip can explain.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

import sql
from service.database.connect import DATABASE_AWAY, Connection, Pool
from service.database.partitions import make_missing_partitions
from service.errors import Unavailable
from service.telemetry.logging import get_logger
from service.telemetry.metrics import CLOCK_SKEW_SECONDS

TOLERANCE_S = 2.0
"""More than a round trip explains, and less than receivers of signatures tolerate (minutes)."""
DISAGREES_S = 3600.0
"""If the clocks differ by more, no irreversible action relies on either of them."""
COMPARE_EVERY_S = 15.0
SAMPLES = 3
COMPARISON_ERRORS: tuple[type[Exception], ...] = (
    *DATABASE_AWAY,
    asyncpg.PostgresError,
    Unavailable,
)
"""The database is away, busy or not migrated: the comparison is repeated."""
log = get_logger("clock")


class Clock:
    """The corrected clock of a process. `read` is the uncorrected one, in Unix seconds."""

    def __init__(self, read: Callable[[], float] = time.time) -> None:
        self.read = read
        self.skew_s = 0.0
        """Seconds that the database's clock was ahead at the last comparison."""

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks differ by more than a round trip explains."""
        return abs(self.skew_s) > TOLERANCE_S

    @property
    def disagrees(self) -> bool:
        """Whether the clocks differ so much that one of them must be wrong."""
        return abs(self.skew_s) > DISAGREES_S

    def now(self) -> datetime:
        """The time by the clock of the process, corrected by the skew if that is large."""
        own = datetime.fromtimestamp(self.read(), UTC)
        return own + timedelta(seconds=self.skew_s) if self.is_skewed else own

    async def compare(self, conn: Connection) -> None:
        """Measure the difference to the database's clock; set the metric, and log a large one."""
        self._set_skew(await measure_skew(conn, self.read))

    def check(self, sent_at: float, theirs: float) -> None:
        """Compare with a time of the database, read after this clock's `sent_at` and before now.

        A difference that the duration does not explain counts at once: a clock was set.
        """
        least, most = sorted((theirs - self.read(), theirs - sent_at))
        if not least - TOLERANCE_S <= self.skew_s <= most + TOLERANCE_S:
            self._set_skew((least + most) / 2)

    def _set_skew(self, skew_s: float) -> None:
        self.skew_s = skew_s
        CLOCK_SKEW_SECONDS.set(skew_s)
        if self.is_skewed:
            ahead_s = round(self.skew_s, 1)
            log.warning("clock.skewed", database_is_ahead_s=ahead_s, advice="set both by NTP")


async def measure_skew(conn: Connection, read: Callable[[], float] = time.time) -> float:
    """How far the database's clock is ahead, by the fastest of a few round trips."""
    return min([await _sample(conn, read) for _ in range(SAMPLES)])[1]


async def _sample(conn: Connection, read: Callable[[], float]) -> tuple[float, float]:
    """The seconds of a round trip, and those by which the database's clock is ahead halfway."""
    begun, own = time.monotonic(), read()
    theirs: float = await conn.fetchval(sql.clock_read)
    took_s = time.monotonic() - begun
    return took_s, theirs - own - took_s / 2


async def compare_forever(clock: Clock, pool: Pool) -> None:
    """Compare the clocks every few seconds, and create the partitions for the database's time.

    The janitor creates partitions too, but only while a worker runs, and not within seconds after
    the database's clock was set to another week.
    """
    while True:
        try:
            async with pool.acquire() as conn:
                await clock.compare(conn)
            await make_missing_partitions(pool)
        except COMPARISON_ERRORS as error:
            log.debug("clock.unread", error=repr(error))
        await asyncio.sleep(COMPARE_EVERY_S)

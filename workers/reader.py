"""What readers of the log share: the next window, its effects and the cursor in one transaction.

Effects inside PostgreSQL thus happen exactly once: if another process has moved the cursor, the
transaction with the effects does not commit.
"""

import time
from abc import ABC, abstractmethod
from typing import ClassVar

import sql
from service.db import Connection
from service.log import Cursor, Event, read_windows
from service.logs import get_logger
from service.metrics import EVENTS_READ, WINDOW_LAG_SECONDS
from service.wakeups import Topic
from workers.slices import LeaseLostError, Workshop

BEHIND_S = 1.0
CATCH_UP_WINDOWS = 50
"""A reader whose next window is older than BEHIND_S takes so many small ones in a transaction."""
log = get_logger("reader")


class CursorMovedError(LeaseLostError):
    """Another process has moved the cursor of this reader."""


class Reader(ABC):
    """A slice that reads windows; a subclass says what an event does."""

    topics: tuple[Topic, ...] = ("tick",)
    idle_s = 0.5
    limit: ClassVar[int] = 1000
    """Events in one transaction at the most."""

    def __init__(self, shop: Workshop, name: str) -> None:
        self.shop = shop
        self.name = name
        self._shards: list[int] = []
        self._stored: Cursor | None = None
        self._cursor = Cursor(0)
        self._behind = False

    @abstractmethod
    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """The effects of some events, in the transaction that moves the cursor past them."""

    async def after_commit(self, events: list[Event]) -> None:  # noqa: B027  # most have nothing to add
        """What follows once the effects are durable: wake-ups."""

    async def once(self) -> int:
        """Reads one window or a part of it, or many when it is behind; 0 if there is none."""
        started = time.monotonic()
        async with self.shop.pool.acquire() as conn:
            stored = self._stored or await self._load(conn)
            count = CATCH_UP_WINDOWS if self._behind else 1
            windows = await read_windows(conn, self._cursor, self._shards, self.limit, count)
            if not windows:
                self._behind = False
                if self._cursor != stored:
                    await self._move(conn, stored, self._cursor)
                return 0
            events = [event for window in windows for event in window.events]
            if events:
                await self._apply(conn, stored, events, windows[-1].after)
        self._cursor, self._behind = windows[-1].after, windows[0].age_s > BEHIND_S
        if events:
            age_s = windows[0].age_s + time.monotonic() - started
            await self._report(events, age_s)
        return len(windows) + len(events)

    async def close(self) -> None:  # noqa: B027  # most leave nothing running
        """Nothing is left running."""

    async def _report(self, events: list[Event], age_s: float) -> None:
        EVENTS_READ.labels(self.name).inc(len(events))
        WINDOW_LAG_SECONDS.labels(self.name).observe(age_s)
        log.debug("window.applied", reader=self.name, tick=self._cursor.tick,
                  events=len(events), age_s=round(age_s, 3))  # fmt: skip
        await self.after_commit(events)

    async def _apply(
        self, conn: Connection, stored: Cursor, events: list[Event], after: Cursor
    ) -> None:
        try:
            async with conn.transaction():
                await self.apply(conn, events)
                await self._move(conn, stored, after)
        except BaseException:
            self._stored = None  # look again where the cursor stands
            raise

    async def _load(self, conn: Connection) -> Cursor:
        row = await conn.fetchrow(sql.reader_get, self.name)
        if row is None:
            raise LookupError(f"there is no reader {self.name}; run `leadlog migrate`")
        self._shards = row["shards"]
        self._stored = self._cursor = Cursor(row["tick"], row["event_id"])
        return self._stored

    async def _move(self, conn: Connection, stored: Cursor, to: Cursor) -> None:
        moved = await conn.fetchval(
            sql.reader_advance_if_at, self.name, stored.tick, stored.event_id, to.tick, to.event_id
        )
        if moved is None:
            self._stored = None
            raise CursorMovedError(self.name)
        self._stored = to

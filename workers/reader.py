"""What readers of the log share: the next window, its effects and the cursor in one transaction.

Effects inside PostgreSQL thus happen exactly once: if another process has moved the cursor, the
transaction with the effects does not commit.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

import msgspec

import sql
from service.db import Connection
from service.log import Cursor, Event, Window, read_windows
from service.logs import get_logger
from service.metrics import EVENTS_READ, WINDOW_LAG_SECONDS
from service.wakeups import Topic
from workers.slices import LeaseLostError, Workshop

MAX_WINDOWS = 64
"""In one transaction, if they are small: a reader that is behind shares its cost among many."""
READ_AHEAD = 20_000
"""Events of a large window, as after an outage of the ticker, that are read at once."""
log = get_logger("reader")


class CursorMovedError(LeaseLostError):
    """Another process has moved the cursor of this reader."""


class Step(msgspec.Struct, frozen=True):
    """The events of one transaction, and the cursor after them. `cut_at` is by time.monotonic."""

    events: list[Event]
    after: Cursor
    cut_at: float


def split_windows(windows: list[Window], limit: int, now: float) -> list[Step]:
    """Windows as steps of at most `limit` events: small ones together, a large one in pieces."""
    if not windows:
        return []
    after, cut_at = windows[-1].after, now - windows[0].age_s
    events = [event for window in windows for event in window.events]
    if len(events) <= limit:
        return [Step(events, after, cut_at)]
    if len(windows) > 1:
        raise ValueError("more than one window, and more events than go in a step")
    pieces = [events[start : start + limit] for start in range(0, len(events), limit)]
    tick = windows[0].tick - 1
    afters = [*(Cursor(tick, piece[-1].id) for piece in pieces[:-1]), after]
    return [Step(piece, to, cut_at) for piece, to in zip(pieces, afters, strict=True)]


def choose_count(count: int, windows: list[Window], limit: int) -> int:
    """How many windows to ask for next: more while there are more and they are small."""
    if sum(len(window.events) for window in windows) >= limit:
        return 1
    return min(2 * count, MAX_WINDOWS) if len(windows) == count else count


class Reader(ABC):
    """A slice that reads windows; a subclass says what an event does."""

    topics: tuple[Topic, ...] = ("tick",)
    idle_s = 0.5
    limit: ClassVar[int] = 1000
    """Events in one transaction at the most."""
    pause_s: ClassVar[float] = 0.0
    """After each step, by those whom nobody waits for: fuller steps, less work."""

    def __init__(self, shop: Workshop, name: str) -> None:
        self.shop = shop
        self.name = name
        self._shards: list[int] = []
        self._stored: Cursor | None = None
        self._cursor = Cursor(0)
        self._count = 1
        self._steps: deque[Step] = deque()
        self._read_all = False

    @property
    def has_all(self) -> bool:
        """The last read met the end of the log, and the place is stored."""
        return self._read_all and not self._steps and self._cursor == self._stored

    @abstractmethod
    async def apply(self, conn: Connection, events: list[Event]) -> None:
        """The effects of some events, in the transaction that moves the cursor past them."""

    async def after_commit(self, events: list[Event]) -> None:  # noqa: B027  # most have nothing to add
        """What follows once the effects are durable: wake-ups."""

    async def once(self) -> int:
        """Takes one step; 0 if there is nothing to read."""
        async with self.shop.pool.acquire() as conn:
            stored = self._stored or await self._load(conn)
            if not self._steps:
                self._steps += await self._read(conn)
            if not self._steps:
                if self._cursor != stored:
                    await self._move(conn, stored, self._cursor)
                return 0
            step = self._steps.popleft()
            if step.events:
                await self._apply(conn, stored, step)
        self._cursor = step.after
        if step.events:
            await self._report(step)
            await asyncio.sleep(self.pause_s)
        return 1 + len(step.events)

    async def _read(self, conn: Connection) -> list[Step]:
        """What comes next: many small windows, or one, or much of a large one.

        Each read of a large window sorts all of it, so it is read far ahead of the steps.
        """
        if self._cursor.event_id:
            windows = await read_windows(conn, self._cursor, self._shards, READ_AHEAD, 1)
            self._read_all = False
        else:
            windows = await read_windows(conn, self._cursor, self._shards, self.limit, self._count)
            events = sum(len(window.events) for window in windows)
            self._read_all = len(windows) < self._count and events < self.limit
            self._count = choose_count(self._count, windows, self.limit)
        return split_windows(windows, self.limit, time.monotonic())

    async def close(self) -> None:  # noqa: B027  # most leave nothing running
        """Nothing is left running."""

    async def _report(self, step: Step) -> None:
        age_s = time.monotonic() - step.cut_at
        EVENTS_READ.labels(self.name).inc(len(step.events))
        WINDOW_LAG_SECONDS.labels(self.name).observe(age_s)
        log.debug("window.applied", reader=self.name, tick=self._cursor.tick,
                  events=len(step.events), age_s=round(age_s, 3))  # fmt: skip
        await self.after_commit(step.events)

    async def _apply(self, conn: Connection, stored: Cursor, step: Step) -> None:
        try:
            async with conn.transaction():
                await self.apply(conn, step.events)
                await self._move(conn, stored, step.after)
        except BaseException:
            self._stored = None  # look again where the cursor stands
            raise

    async def _load(self, conn: Connection) -> Cursor:
        row = await conn.fetchrow(sql.reader_get, self.name)
        if row is None:
            raise LookupError(f"there is no reader {self.name}; run `leadlog migrate`")
        self._shards = row["shards"]
        self._steps.clear()
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

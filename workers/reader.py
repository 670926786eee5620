"""The base class of the log's readers, except the publisher.

A reader stores effects and cursor together. Effects inside PostgreSQL thus happen exactly once: if
another process has moved the cursor, nothing is stored. A cursor that passed only events without
effect is stored up to STORE_S later, or with the next effects: reading those events again has no
effect.
"""

import asyncio
import time
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any, ClassVar

import msgspec

import sql
from service.database.connect import DATABASE_AWAY
from service.events.event_log import Cursor, Event, Window
from service.events.wake_ups import Topic
from service.telemetry.logging import get_logger
from service.telemetry.metrics import EVENTS_READ, WINDOW_LAG_SECONDS
from workers.jobs import CursorMovedError, Job, WorkerContext

STORE_S = 0.5
"""The longest time for which a moved cursor is not stored."""
log = get_logger("reader")


class Batch(msgspec.Struct, frozen=True):
    """The events of one transaction and the cursor after them."""

    events: list[Event]
    after: Cursor
    cut_at: float
    """When the ticker cut the oldest window, by time.monotonic."""


class Move(msgspec.Struct, frozen=True):
    """A step of a reader's stored cursor."""

    reader: str
    before: Cursor
    after: Cursor

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The first arguments of a statement that contains the part reader_move."""
        before, after = self.before, self.after
        return self.reader, before.tick, before.event_id, after.tick, after.event_id


def make_batches(windows: list[Window], max_events: int, now: float) -> list[Batch]:
    """Joins small windows into batches of at most `max_events`; splits large windows."""
    batches: list[Batch] = []
    for window in windows:
        cut_at = now - window.age_s
        if batches and len(batches[-1].events) + len(window.events) <= max_events:
            last = batches.pop()
            batches.append(Batch([*last.events, *window.events], window.after, last.cut_at))
            continue
        ends = range(max_events, len(window.events), max_events)
        for end in ends:
            part = window.events[end - max_events : end]
            batches.append(Batch(part, Cursor(window.tick - 1, part[-1].id), cut_at))
        rest = window.events[len(ends) * max_events :]
        batches.append(Batch(rest, window.after, cut_at))
    return batches


class Reader(Job):
    """A job that reads windows; a subclass defines the effects of events."""

    topics: tuple[Topic, ...] = ("tick",)
    max_events: ClassVar[int] = 1000
    """The limit of events in one transaction."""
    pause_s: ClassVar[float] = 0.0
    """A pause before each query makes batches larger; for readers whose lag no client notices."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self._stored: Cursor | None = None
        self._cursor = Cursor(0)
        self._stored_at = 0.0
        self._batches: deque[Batch] = deque()

    @property
    def idle_s(self) -> float:
        """STORE_S if the cursor is still to be stored."""
        return self.context.wakeups.poll_s if self._cursor == self._stored else STORE_S

    @property
    def is_drained(self) -> bool:
        """Whether this reader has applied all that the last query of any reader found."""
        return not self._batches and self.context.windows.is_end(self._cursor)

    @abstractmethod
    async def apply(self, events: list[Event], move: Move) -> bool:
        """Carries out the effects of events and makes the move, both or neither.

        Returns False, and makes no move, if the events have no effect, now or when they are read
        again. Raises CursorMovedError.
        """

    async def once(self) -> int:
        """Applies one batch. Returns 0 if there is nothing to read."""
        try:
            return await self._apply_next()
        except BaseException:
            self._stored = None  # the database may be another one by now: load the cursor again
            raise

    async def _apply_next(self) -> int:
        stored = self._stored or await self._load()
        if self._cursor != stored and time.monotonic() - self._stored_at >= STORE_S:
            stored = await self._store(stored)
        if not self._batches:
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            windows = await self.context.windows.read(self._cursor)
            self._batches.extend(make_batches(windows, self.max_events, time.monotonic()))
        if not self._batches:
            return 0
        batch = self._batches.popleft()
        move = Move(self.name, stored, batch.after)
        if batch.events and await self.apply(batch.events, move):
            self._stored, self._stored_at = batch.after, time.monotonic()
        self._cursor = batch.after
        if batch.events:
            self._report(batch)
        return 1 + len(batch.events)

    async def close(self) -> None:
        """Stores the cursor; if it cannot, the next run reads the same windows without effect."""
        if self._stored is not None and self._cursor != self._stored:
            with suppress(CursorMovedError, *DATABASE_AWAY):
                await self._store(self._stored)

    async def _store(self, stored: Cursor) -> Cursor:
        move = Move(self.name, stored, self._cursor)
        check_moved(await self.context.pool.fetchval(sql.reader_advance_if_at, *move.arguments))
        self._stored, self._stored_at = self._cursor, time.monotonic()
        return self._stored

    def _report(self, batch: Batch) -> None:
        age_s = time.monotonic() - batch.cut_at
        count = len(batch.events)
        EVENTS_READ.labels(self.name).inc(count)
        WINDOW_LAG_SECONDS.labels(self.name).observe(age_s)
        tick, rounded_s = self._cursor.tick, round(age_s, 3)
        log.debug("window.applied", reader=self.name, tick=tick, events=count, age_s=rounded_s)

    async def _load(self) -> Cursor:
        row = await self.context.pool.fetchrow(sql.reader_get, self.name)
        if row is None:
            raise LookupError(f"there is no reader {self.name}; run `leadlog migrate`")
        self._batches.clear()
        self.context.windows.clear()
        self._stored = self._cursor = Cursor(row["tick"], row["event_id"])
        self._stored_at = time.monotonic()
        return self._stored


def check_moved(row: object) -> None:
    """Raises CursorMovedError if a statement that moves a cursor returned no row."""
    if row is None:
        raise CursorMovedError("another process has moved the cursor of this reader")

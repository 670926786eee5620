"""Copies the event log to the CRM streams: every event once, in the order of the log.

Entries are appended first and the cursor is stored afterwards. A crash in between repeats the
append, which has no effect. Each shard has its own cursor: a shard whose stream is rebuilt or full
does not delay the others.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile

from msgspec.structs import replace

import sql
from service.database.connect import DATABASE_AWAY
from service.database.hidden_numbers import HiddenNumbers
from service.events.event_log import Cursor, CursorTooOldError, Window
from service.events.wake_ups import Topic
from service.telemetry.logging import get_logger
from service.telemetry.metrics import EVENTS_READ, STREAM_ENTRIES, WINDOW_LAG_SECONDS
from workers.jobs import CursorMovedError, WorkerContext
from workers.streams.positions import ZERO, EntryId, StreamName, to_cursor
from workers.streams.redis_streams import Batch, Entry, Outcome, RedisStreams
from workers.streams.stream_maintenance import StreamMaintenance
from workers.streams.stream_state import StreamState

MAX_BATCH_BYTES = 1024 * 1024
"""Bytes per stream and turn. A stream may exceed its bound in bytes by this much."""
MAINTENANCE_EVERY_S = 1.0
"""Also how often cursors are stored. After a crash entries are appended again, without effect."""
log = get_logger("publisher")


class Publisher:
    """The job that writes the CRM streams. See DECISIONS.md on the streams."""

    name = "publisher"
    topics: tuple[Topic, ...] = ("tick",)
    idle_s = MAINTENANCE_EVERY_S

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        settings = context.settings
        bounds = settings.stream_max_entries, settings.stream_max_bytes
        self._sink = RedisStreams(context.redis, *bounds, HiddenNumbers(context.pool))
        self._state = StreamState(context.pool, self.name)
        self._maintenance = StreamMaintenance(
            context.pool, self._sink, self._state, settings.stream_group_patience_s
        )
        self._is_loaded = False
        self._maintain_at = 0.0

    @property
    def is_drained(self) -> bool:
        """Whether all that was in the log at the last query is published."""
        windows = self._context.windows
        return all(windows.is_end(shard.cursor) for shard in self._state.shards.values())

    async def once(self) -> int:
        """Publishes one turn of every shard.

        Returns 0 if no cursor moved; a larger number means that there may be more to do.
        """
        try:
            if not self._is_loaded:
                await self._state.load()
                self._is_loaded = True
            if time.monotonic() >= self._maintain_at:
                await self._maintenance.maintain()
                self._maintain_at = time.monotonic() + MAINTENANCE_EVERY_S
            return sum([await self._publish(*group) for group in self._group_shards()])
        except BaseException:
            self._is_loaded = False  # the state in memory may be wrong: load it again
            raise

    async def close(self) -> None:
        """Stores the cursor; if it cannot, the next run appends the same entries without effect."""
        if self._is_loaded:
            with suppress(CursorMovedError, *DATABASE_AWAY):
                await self._state.store()

    def _group_shards(self) -> list[tuple[Cursor, list[int]]]:
        """The shards that are not full, grouped by cursor, the oldest cursor first."""
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, shard in self._state.shards.items():
            if not shard.is_full:
                groups[shard.cursor.tick, shard.cursor.event_id].append(number)
        return [(Cursor(*cursor), shards) for cursor, shards in sorted(groups.items())]

    async def _publish(self, cursor: Cursor, shards: list[int]) -> int:
        try:
            windows = await self._read(cursor, shards)
        except CursorTooOldError as error:
            return await self._skip_dropped_events(shards, error)
        if not windows:
            return 0
        await self._enter_generation(windows[0].generation, shards)
        batches = self._make_batches(windows)
        outcomes = await self._sink.append(batches) if batches else []
        newest_tick = await self._find_newest_tick(outcomes, windows[-1].tick)
        stops = self._apply_outcomes(batches, outcomes, newest_tick)
        for shard in shards:
            if (after := stops.get(shard, windows[-1].after)) is not None:
                self._state.shards[shard].cursor = after
        appended = sum(outcome.appended for outcome in outcomes)
        self._report(windows[-1], appended)
        return 0 if all(stops.get(shard, cursor) is None for shard in shards) else 1 + appended

    async def _read(self, cursor: Cursor, shards: list[int]) -> list[Window]:
        """Reads the next windows of some shards, all of one generation."""
        windows = await self._context.windows.read(cursor)
        generation = windows[0].generation if windows else 0
        return [
            replace(window, events=[event for event in window.events if event.shard in shards])
            for window in takewhile(lambda window: window.generation == generation, windows)
        ]

    async def _skip_dropped_events(self, shards: list[int], error: CursorTooOldError) -> int:
        """Moves shards past events that retention has dropped.

        Connectors detect the gap by the versions of the leads.
        """
        oldest: int = await self._context.pool.fetchval(sql.tick_get_oldest)
        log.error("events.missed", shards=shards, oldest_tick=oldest, error=str(error))
        for number in shards:
            shard = self._state.shards[number]
            shard.cursor, shard.previous = Cursor(oldest), ZERO
        return len(shards)

    async def _enter_generation(self, generation: int, shards: list[int]) -> None:
        """Starts the streams of a new generation, with the groups of the previous streams."""
        for number in shards:
            shard = self._state.shards[number]
            if shard.generation == generation:
                continue
            stream = StreamName(number, generation)
            for name, group in self._state.find_groups(number).items():
                if not group.is_detached:
                    await self._sink.create_group(stream, name, ZERO)
            self._state.newest.setdefault(stream, ZERO)
            shard.generation, shard.previous = generation, ZERO

    def _make_batches(self, windows: Sequence[Window]) -> list[Batch]:
        generation = windows[0].generation
        by_shard: defaultdict[int, list[Entry]] = defaultdict(list)
        for window in windows:
            for event in window.events:
                entries = by_shard[event.shard]
                previous = entries[-1].id if entries else self._state.shards[event.shard].previous
                entries.append(
                    Entry(EntryId(window.tick, event.id), previous, event, window.cut_at)
                )
        streams = {StreamName(shard, generation): entries for shard, entries in by_shard.items()}
        return [
            cut_batch(Batch(stream, self._state.newest[stream], entries))
            for stream, entries in streams.items()
        ]

    async def _find_newest_tick(self, outcomes: Sequence[Outcome], read: int) -> int:
        """The newest tick of the log: queried only if a stream is ahead of this process.

        Another publisher may have overtaken this one, but no valid stream is ahead of the log.
        """
        if any(outcome.newest.tick > read for outcome in outcomes):
            newest: int = await self._context.pool.fetchval(sql.tick_get_newest)
            return newest
        return read

    def _apply_outcomes(
        self, batches: Sequence[Batch], outcomes: Sequence[Outcome], newest_tick: int
    ) -> dict[int, Cursor | None]:
        """Records the appended entries.

        Returns the shards that stop before the end of the windows, with their cursors; None for a
        shard that does not move.
        """
        stops: dict[int, Cursor | None] = {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            number, last = batch.stream.shard, batch.entries[-1].id
            if outcome.status == "ok" and outcome.newest.tick <= newest_tick:
                self._state.newest[batch.stream] = max(last, batch.expected)
                self._state.shards[number].previous = last
                if batch.is_cut:
                    stops[number] = to_cursor(last)
                continue
            stops[number] = None
            if outcome.status == "full":
                self._state.shards[number].is_full = True
            else:  # lost, or written by another program
                self._maintain_at = 0.0
        return stops

    def _report(self, window: Window, appended: int) -> None:
        if appended:
            STREAM_ENTRIES.inc(appended)
            EVENTS_READ.labels(self.name).inc(appended)
            WINDOW_LAG_SECONDS.labels(self.name).observe(window.age_s)
        age_s = round(window.age_s, 3)
        log.debug(
            "window.published", reader=self.name, tick=window.tick, events=appended, age_s=age_s
        )


def cut_batch(batch: Batch) -> Batch:
    """Shortens a batch to MAX_BATCH_BYTES, but to no less than one entry."""
    size = 0
    for count, entry in enumerate(batch.entries):
        size += entry.size
        if size > MAX_BATCH_BYTES and count:
            return replace(batch, entries=batch.entries[:count], is_cut=True)
    return batch

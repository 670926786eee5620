"""Copies the log to the CRM streams: every event once, in the order of the log.

Entries are appended first and the cursor moves after, so a crash in between means appending again,
which does nothing. Each shard has a place of its own: one that is built anew, or waits until its
stream has been read, does not hold up the others.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile

import sql
from service.log import Cursor, CursorTooOldError, Window, read_windows
from service.logs import get_logger
from service.metrics import EVENTS_READ, STREAM_ENTRIES, WINDOW_LAG_SECONDS
from service.wakeups import Topic
from workers.slices import Workshop
from workers.streams.keeper import Keeper
from workers.streams.ledger import Ledger
from workers.streams.places import ZERO, EntryId, StreamName
from workers.streams.redis_streams import Batch, Entry, Outcome, RedisStreams

LIMIT = 2000
"""Events in one turn of the shards that stand together. They are one script per stream, which
nothing else in Redis can interrupt."""
MAX_WINDOWS = 64
TEND_EVERY_S = 0.4
log = get_logger("publisher")


class Publisher:
    """See DECISIONS.md on the streams."""

    name = "publisher/0"
    topics: tuple[Topic, ...] = ("tick",)
    idle_s = 0.2
    has_all = False

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._sink = RedisStreams(shop.redis, shop.settings.stream_max_entries)
        self._ledger = Ledger(shop.pool, self.name)
        patience_s = shop.settings.stream_group_patience_s
        self._keeper = Keeper(shop.pool, self._sink, self._ledger, patience_s)
        self._loaded = False
        self._tend_at = 0.0
        self._windows = 1

    async def once(self) -> int:
        """One turn of every shard; how many events were appended, and one for each that moved."""
        try:
            if not self._loaded:
                await self._ledger.load()
                self._loaded = True
            if time.monotonic() >= self._tend_at:
                await self._keeper.tend()
                self._tend_at = time.monotonic() + TEND_EVERY_S
            return sum([await self._publish(*group) for group in self._group_shards()])
        except BaseException:
            self._loaded = False  # look again where everything stands
            raise

    async def close(self) -> None:
        """Nothing is left running."""

    def _group_shards(self) -> list[tuple[Cursor, list[int]]]:
        """The shards that may go on, by where they stand; those behind come first."""
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for shard, place in self._ledger.places.items():
            if not place.full:
                groups[place.cursor.tick, place.cursor.event_id].append(shard)
        return [(Cursor(*cursor), shards) for cursor, shards in sorted(groups.items())]

    async def _publish(self, cursor: Cursor, shards: list[int]) -> int:
        try:
            windows = await self._read(cursor, shards)
        except CursorTooOldError as error:
            return await self._pass_over(shards, error)
        if not windows:
            return 0
        await self._enter_generation(windows[0].generation, shards)
        batches = self._make_batches(windows)
        outcomes = await self._sink.append(batches) if batches else []
        newest_tick = await self._find_newest_tick(outcomes, windows[-1].tick)
        held = self._settle(batches, outcomes, newest_tick)
        for shard in shards:
            if shard not in held:
                self._ledger.places[shard].cursor = windows[-1].after
        await self._ledger.store()
        appended = sum(outcome.appended for outcome in outcomes)
        self._report(windows[-1], appended)
        return 0 if held.issuperset(shards) else 1 + appended

    async def _read(self, cursor: Cursor, shards: list[int]) -> list[Window]:
        """The next windows, all of one generation; many at once when there are many small ones."""
        async with self._shop.pool.acquire() as conn:
            windows = await read_windows(conn, cursor, shards, LIMIT, self._windows)
        if sum(len(window.events) for window in windows) >= LIMIT:
            self._windows = 1
        elif len(windows) == self._windows:
            self._windows = min(self._windows * 2, MAX_WINDOWS)
        generation = windows[0].generation if windows else 0
        return list(takewhile(lambda window: window.generation == generation, windows))

    async def _pass_over(self, shards: list[int], error: CursorTooOldError) -> int:
        """What retention has dropped cannot be told any more; connectors see it by the versions."""
        oldest: int = await self._shop.pool.fetchval(sql.tick_get_oldest)
        log.error("events.missed", shards=shards, oldest_tick=oldest, error=str(error))
        for shard in shards:
            place = self._ledger.places[shard]
            place.cursor, place.prev = Cursor(oldest), ZERO
        return len(shards)

    async def _enter_generation(self, generation: int, shards: list[int]) -> None:
        """The first entries of a generation go to a new stream, which the groups are to find."""
        for shard in shards:
            place = self._ledger.places[shard]
            if place.generation == generation:
                continue
            stream = StreamName(shard, generation)
            for name, group in self._ledger.known_in(shard).items():
                if not group.parked:
                    await self._sink.make_group(stream, name, ZERO)
            self._ledger.newest.setdefault(stream, ZERO)
            place.generation, place.prev = generation, ZERO

    def _make_batches(self, windows: Sequence[Window]) -> list[Batch]:
        generation = windows[0].generation
        entries: defaultdict[int, list[Entry]] = defaultdict(list)
        for window in windows:
            for event in window.events:
                before = entries[event.shard]
                prev = before[-1].id if before else self._ledger.places[event.shard].prev
                before.append(Entry(EntryId(window.tick, event.id), prev, event))
        return [
            Batch(
                StreamName(shard, generation),
                self._ledger.newest[StreamName(shard, generation)],
                found,
            )
            for shard, found in entries.items()
        ]

    async def _find_newest_tick(self, outcomes: Sequence[Outcome], read: int) -> int:
        """A stream may be ahead of this process, if another overtook it, but not of the log."""
        if any(outcome.newest.tick > read for outcome in outcomes):
            newest: int = await self._shop.pool.fetchval(sql.ticker_get_tick)
            return newest
        return read

    def _settle(
        self, batches: Sequence[Batch], outcomes: Sequence[Outcome], newest_tick: int
    ) -> set[int]:
        """Notes what is appended; the shards that may not go on."""
        held: set[int] = set()
        for batch, outcome in zip(batches, outcomes, strict=True):
            shard, last = batch.stream.shard, batch.entries[-1].id
            if outcome.status == "ok" and outcome.newest.tick <= newest_tick:
                self._ledger.newest[batch.stream] = max(last, batch.expected)
                self._ledger.places[shard].prev = last
                continue
            held.add(shard)
            if outcome.status == "full":
                self._ledger.places[shard].full = True
            else:  # lost, or written to by somebody else
                self._tend_at = 0.0
        return held

    def _report(self, window: Window, appended: int) -> None:
        if appended:
            STREAM_ENTRIES.inc(appended)
            EVENTS_READ.labels(self.name).inc(appended)
            WINDOW_LAG_SECONDS.labels(self.name).observe(window.age_s)
        log.debug("window.published", reader=self.name, tick=window.tick, events=appended,
                  age_s=round(window.age_s, 3))  # fmt: skip

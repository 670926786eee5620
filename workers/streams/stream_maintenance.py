"""Keeps the CRM streams complete and small: rebuilds lost streams, trims what all groups have read.

Redis may be wiped, restarted empty, replaced by an old copy or trimmed by another program, under
load or idle. Once a second each stream is compared with its state in PostgreSQL.
"""

import time
from collections.abc import Mapping
from itertools import groupby

import sql
from service.database.connect import Pool
from service.telemetry.logging import get_logger
from service.telemetry.metrics import (
    STREAM_BYTES,
    STREAM_FILL_RATIO,
    STREAM_LENGTH,
    STREAM_REBUILDS,
)
from workers.streams.positions import (
    UNKNOWN,
    ZERO,
    Checkpoint,
    Damage,
    EntryId,
    StreamInspection,
    StreamName,
    find_checkpoints,
    find_damage,
    find_lagging_groups,
    find_position,
    find_start,
    to_entry_id,
)
from workers.streams.redis_streams import RedisStreams
from workers.streams.stream_state import KnownGroup, StreamState

TAIL_TICKS = 1000
"""How much of a stream without groups is rebuilt: at least 25 s of a busy log."""
log = get_logger("publisher")

Inspections = Mapping[int, StreamInspection]
"""The inspected streams of one shard, by generation."""
Positions = Mapping[int, Mapping[str, EntryId]]
"""The positions of one shard's groups, by generation and name."""


class StreamMaintenance:
    """Runs within the publisher's turn and changes the publisher's state."""

    def __init__(
        self, pool: Pool, streams: RedisStreams, state: StreamState, patience_s: float
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._state = state
        self._patience_s = patience_s
        self._moved: dict[tuple[int, str], tuple[Checkpoint, float]] = {}
        """By shard and group: the last checkpoint, and when it was first seen."""

    async def maintain(self) -> None:
        """Inspects every stream once; rebuilds, trims and drops streams where it is due."""
        state = self._state
        tick, generation = await state.check()
        await state.store()  # before a stream that the stored cursor is in can be dropped
        for shard in state.shards:
            state.newest.setdefault(StreamName(shard, generation), ZERO)
        names = sorted(state.newest)
        inspected = zip(names, await self._streams.inspect(names), strict=True)
        done: dict[StreamName, EntryId] = {}
        for shard, group in groupby(inspected, key=lambda pair: pair[0].shard):
            inspections = {name.generation: inspection for name, inspection in group}
            done |= await self._maintain_shard(shard, inspections, tick)
        await state.store_groups()  # before anything is dropped from Redis
        await state.store()
        await self._streams.trim(done)
        # Published last: a connector that reads it then finds the older streams rebuilt as well.
        await self._streams.publish_generation(generation)

    async def _maintain_shard(
        self, shard: int, inspections: Inspections, tick: int
    ) -> dict[StreamName, EntryId]:
        """Returns the entry up to which the shard's stream may be trimmed, if there is one."""
        positions = {
            generation: self._find_positions(shard, generation, inspection)
            for generation, inspection in inspections.items()
        }
        checkpoints = find_checkpoints(inspections, positions)
        for generation, inspection in sorted(inspections.items()):
            stream = StreamName(shard, generation)
            damage = find_damage(
                inspection,
                expected=self._state.newest[stream],
                newest_tick=tick,
                positions=positions[generation],
                stored=self._state.list_checkpoints(stream),
                must_exist=self._state.has_groups(stream),
            )
            if damage is not None:
                await self._rebuild(stream, inspection, damage, checkpoints)
                return {}
        self._update_checkpoints(shard, checkpoints)
        await self._drop_old_streams(shard, inspections, positions)
        return await self._free_space(shard, inspections, positions)

    def _find_positions(
        self, shard: int, generation: int, inspection: StreamInspection
    ) -> dict[str, EntryId]:
        stream = StreamName(shard, generation)
        stored = self._state.list_checkpoints(stream)
        state = self._state.shards[shard]
        published = to_entry_id(state.cursor) if state.generation <= generation else ZERO
        is_lost = inspection.newest < self._state.newest[stream]
        start = UNKNOWN if is_lost else find_start(inspection, published)
        return {
            group.name: find_position(group, stored.get(group.name), start)
            for group in inspection.groups
        }

    def _update_checkpoints(self, shard: int, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Records the groups' checkpoints; a removed group keeps its own, because it may return."""
        state, now = self._state, time.monotonic()
        for name, group in state.find_groups(shard).items():
            if name not in checkpoints:
                state.groups[shard, name] = KnownGroup(group.checkpoint, is_detached=True)
                self._moved.pop((shard, name), None)
        for name, checkpoint in checkpoints.items():
            state.groups[shard, name] = KnownGroup(checkpoint)
            if self._moved.get((shard, name), (None, now))[0] != checkpoint:
                self._moved[shard, name] = checkpoint, now

    async def _free_space(
        self, shard: int, inspections: Inspections, positions: Positions
    ) -> dict[StreamName, EntryId]:
        """Detaches groups that keep a full stream from being trimmed.

        Returns the entry that all remaining groups have read, if it is still in the stream.
        """
        state = self._state.shards[shard]
        inspection = inspections.get(state.generation, StreamInspection())
        remaining = dict(positions.get(state.generation, {}))
        fill = self._streams.calculate_fill(inspection)
        STREAM_LENGTH.labels(str(shard)).set(inspection.length)
        STREAM_BYTES.labels(str(shard)).set(inspection.bytes)
        STREAM_FILL_RATIO.labels(str(shard)).set(fill if remaining else 0)
        state.is_full = bool(remaining) and fill >= 1
        stream = StreamName(shard, state.generation)
        if state.is_full:
            moved_at = {name: self._moved[shard, name][1] for name in remaining}
            now = time.monotonic()
            for name in find_lagging_groups(remaining, moved_at, now, self._patience_s):
                await self._detach_group(stream, name)
                del remaining[name]
        through = min(remaining.values(), default=ZERO)
        if not inspection.length or through < inspection.first:
            return {}
        state.is_full = False  # the trim frees space; if not enough, the next append reports "full"
        return {stream: through}

    async def _detach_group(self, stream: StreamName, name: str) -> None:
        group = self._state.groups[stream.shard, name]
        self._state.groups[stream.shard, name] = KnownGroup(group.checkpoint, is_detached=True)
        await self._state.store_groups()  # first: a crash after the drop would lose the checkpoint
        await self._streams.drop_group(stream, name)
        position = str(group.checkpoint.id)
        log.warning("group.detached", group=name, shard=stream.shard, position=position)

    async def _drop_old_streams(
        self, shard: int, inspections: Inspections, positions: Positions
    ) -> None:
        """Drops the streams of older generations that all their groups have finished."""
        for generation, inspection in inspections.items():
            stream = StreamName(shard, generation)
            is_old = generation < self._state.shards[shard].generation
            if is_old and all(p >= inspection.newest for p in positions[generation].values()):
                await self._streams.drop_stream(stream)
                await self._state.delete_stream(stream)
                log.info("stream.dropped", shard=shard, generation=generation)

    async def _rebuild(
        self,
        stream: StreamName,
        inspection: StreamInspection,
        damage: Damage,
        current: Mapping[str, Checkpoint],
    ) -> None:
        """Creates the groups again and moves the publisher back to their earliest checkpoint."""
        if damage == "foreign":  # no group can have read more than was published
            published = to_entry_id(self._state.shards[stream.shard].cursor)
            bound = Checkpoint(stream.generation, published)
            current = {name: min(checkpoint, bound) for name, checkpoint in current.items()}
        tail = await self._find_tail(stream)
        checkpoints = {
            name: tail if checkpoint.id == UNKNOWN else checkpoint
            for name, checkpoint in self._merge_checkpoints(stream.shard, current).items()
        }
        if damage != "lost":  # Redis refuses entries below the newest id of an existing stream
            await self._streams.drop_stream(stream)
        for name, checkpoint in checkpoints.items():
            group_stream = StreamName(stream.shard, checkpoint.generation)
            await self._streams.create_group(group_stream, name, checkpoint.id)
            self._state.groups[stream.shard, name] = KnownGroup(checkpoint)
        to = min(checkpoints.values(), default=tail)
        self._state.rewind(stream, inspection.newest if damage == "lost" else ZERO, to)
        STREAM_REBUILDS.labels(damage).inc()
        log.warning(
            "stream.rebuilt",
            shard=stream.shard,
            generation=stream.generation,
            damage=damage,
            since=str(to.id),
            groups=len(checkpoints),
        )

    def _merge_checkpoints(
        self, shard: int, current: Mapping[str, Checkpoint]
    ) -> dict[str, Checkpoint]:
        """The groups in Redis and those that should be there, each at its earliest checkpoint."""
        merged = dict(current)
        for name, group in self._state.find_groups(shard).items():
            if name in current:
                merged[name] = min(current[name], group.checkpoint)
            elif not group.is_detached:
                merged[name] = group.checkpoint
        return merged

    async def _find_tail(self, stream: StreamName) -> Checkpoint:
        """The start of a rebuilt stream without groups, and of groups without a checkpoint."""
        oldest: int = await self._pool.fetchval(sql.tick_get_oldest)
        cursor = self._state.shards[stream.shard].cursor
        tail = max(oldest, cursor.tick - TAIL_TICKS)
        return Checkpoint(stream.generation, EntryId(tail + 1, 0))

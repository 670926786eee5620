"""Keeps the CRM streams whole and small: builds anew what is lost, drops what all groups have read.

Redis may be wiped, restarted empty, replaced by an old copy or trimmed by somebody, in traffic or
idle: every few hundred milliseconds each stream is compared with what PostgreSQL knows of it.
"""

import time
from collections.abc import Mapping
from itertools import groupby

import sql
from service.db import Pool
from service.logs import get_logger
from service.metrics import STREAM_LENGTH, STREAM_REBUILDS
from workers.streams.ledger import KnownGroup, Ledger
from workers.streams.places import (
    UNKNOWN,
    ZERO,
    Checkpoint,
    Damage,
    EntryId,
    Look,
    StreamName,
    find_checkpoints,
    find_damage,
    find_laggards,
    find_position,
    find_start,
    to_entry_id,
)
from workers.streams.redis_streams import RedisStreams

TAIL_TICKS = 1000
"""How much a stream that nobody has read is given back: about 20 s of a busy log."""
log = get_logger("publisher")

Looks = Mapping[int, Look]
"""What there is of one shard, by generation."""
Positions = Mapping[int, Mapping[str, EntryId]]
"""How far the groups of one shard are, by generation and name."""


class Keeper:
    """Works on the publisher's ledger, in the publisher's turn."""

    def __init__(
        self, pool: Pool, streams: RedisStreams, ledger: Ledger, patience_s: float
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._ledger = ledger
        self._patience_s = patience_s
        self._moved: dict[tuple[int, str], tuple[Checkpoint, float]] = {}

    async def tend(self) -> None:
        """Looks at every stream once and does what is due."""
        ledger = self._ledger
        tick, generation = await ledger.check()
        for shard in ledger.places:
            ledger.newest.setdefault(StreamName(shard, generation), ZERO)
        names = sorted(ledger.newest)
        seen = zip(names, await self._streams.look(names), strict=True)
        done: dict[StreamName, EntryId] = {}
        for shard, group in groupby(seen, key=lambda pair: pair[0].shard):
            looks = {name.generation: look for name, look in group}
            done |= await self._tend_shard(shard, looks, tick)
        await ledger.store_groups()  # before anything is dropped from Redis
        await ledger.store()
        await self._streams.trim(done)
        # Last: who finds it finds the streams of older generations made anew as well.
        await self._streams.tell_generation(generation)

    async def _tend_shard(self, shard: int, looks: Looks, tick: int) -> dict[StreamName, EntryId]:
        """What may be trimmed of the shard's stream."""
        positions = {gen: self._find_positions(shard, gen, look) for gen, look in looks.items()}
        checkpoints = find_checkpoints(looks, positions)
        for generation, look in sorted(looks.items()):
            stream = StreamName(shard, generation)
            known = self._ledger.checkpoints_in(stream)
            damage = find_damage(
                look, self._ledger.newest[stream], tick, positions[generation], known,
                must_exist=self._ledger.has_groups(stream),
            )  # fmt: skip
            if damage is not None:
                await self._rebuild(stream, look, damage, checkpoints)
                return {}
        self._note(shard, checkpoints)
        await self._retire(shard, looks, positions)
        return await self._make_room(shard, looks, positions)

    def _find_positions(self, shard: int, generation: int, look: Look) -> dict[str, EntryId]:
        known = self._ledger.checkpoints_in(StreamName(shard, generation))
        place = self._ledger.places[shard]
        published = to_entry_id(place.cursor) if place.generation <= generation else ZERO
        is_lost = look.newest < self._ledger.newest[StreamName(shard, generation)]
        start = UNKNOWN if is_lost else find_start(look, published)
        return {
            group.name: find_position(group, known.get(group.name), start) for group in look.groups
        }

    def _note(self, shard: int, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Remembers where the groups stand, removed ones too: they may return."""
        ledger, now = self._ledger, time.monotonic()
        for name, group in ledger.known_in(shard).items():
            if name not in checkpoints:
                ledger.groups[shard, name] = KnownGroup(group.checkpoint, parked=True)
                self._moved.pop((shard, name), None)
        for name, checkpoint in checkpoints.items():
            ledger.groups[shard, name] = KnownGroup(checkpoint)
            if self._moved.get((shard, name), (None, now))[0] != checkpoint:
                self._moved[shard, name] = checkpoint, now

    async def _make_room(
        self, shard: int, looks: Looks, positions: Positions
    ) -> dict[StreamName, EntryId]:
        """Gives up a group that stands still before a full stream; what all others have read."""
        place = self._ledger.places[shard]
        look = looks.get(place.generation, Look())
        standing = dict(positions.get(place.generation, {}))
        STREAM_LENGTH.labels(str(shard)).set(look.length)
        place.full = bool(standing) and look.length >= self._streams.max_entries
        stream = StreamName(shard, place.generation)
        if place.full:
            moved_at = {name: self._moved[shard, name][1] for name in standing}
            now = time.monotonic()
            for name in find_laggards(standing, moved_at, now, self._patience_s):
                await self._park(stream, name)
                del standing[name]
        through = min(standing.values(), default=ZERO)
        if not look.length or through < look.first:
            return {}
        place.full = False  # there will be room; if there is not, the next append says so
        return {stream: through}

    async def _park(self, stream: StreamName, name: str) -> None:
        group = self._ledger.groups[stream.shard, name]
        self._ledger.groups[stream.shard, name] = KnownGroup(group.checkpoint, parked=True)
        await self._ledger.store_groups()  # or its place would be lost with it
        await self._streams.drop_group(stream, name)
        log.warning("group.parked", group=name, shard=stream.shard, at=str(group.checkpoint.id))

    async def _retire(self, shard: int, looks: Looks, positions: Positions) -> None:
        """Drops the streams of older generations that all their groups are done with."""
        for generation, look in looks.items():
            stream = StreamName(shard, generation)
            is_old = generation < self._ledger.places[shard].generation
            if is_old and all(p >= look.newest for p in positions[generation].values()):
                await self._streams.drop(stream)
                await self._ledger.forget_stream(stream)
                log.info("stream.retired", shard=shard, generation=generation)

    async def _rebuild(
        self, stream: StreamName, look: Look, damage: Damage, standing: Mapping[str, Checkpoint]
    ) -> None:
        """Lets the publisher go back to where the last of the groups stands."""
        if damage == "foreign":  # nobody can have read further than we have published
            published = to_entry_id(self._ledger.places[stream.shard].cursor)
            bound = Checkpoint(stream.generation, published)
            standing = {name: min(at, bound) for name, at in standing.items()}
        tail = await self._find_tail(stream)
        checkpoints = {
            name: tail if checkpoint.id == UNKNOWN else checkpoint
            for name, checkpoint in self._merge_checkpoints(stream.shard, standing).items()
        }
        if damage != "lost":  # a stream takes nothing below its newest entry
            await self._streams.drop(stream)
        for name, checkpoint in checkpoints.items():
            at = StreamName(stream.shard, checkpoint.generation)
            await self._streams.make_group(at, name, checkpoint.id)
            self._ledger.groups[stream.shard, name] = KnownGroup(checkpoint)
        to = min(checkpoints.values(), default=tail)
        self._ledger.rewind(stream, look.newest if damage == "lost" else ZERO, to)
        STREAM_REBUILDS.labels(damage).inc()
        log.warning("stream.rebuilt", shard=stream.shard, generation=stream.generation,
                    damage=damage, since=str(to.id), groups=len(checkpoints))  # fmt: skip

    def _merge_checkpoints(
        self, shard: int, standing: Mapping[str, Checkpoint]
    ) -> dict[str, Checkpoint]:
        """The groups there are and those that should be, each where it stood at the earliest."""
        merged = dict(standing)
        for name, group in self._ledger.known_in(shard).items():
            if name in standing:
                merged[name] = min(standing[name], group.checkpoint)
            elif not group.parked:
                merged[name] = group.checkpoint
        return merged

    async def _find_tail(self, stream: StreamName) -> Checkpoint:
        """Where to begin for groups of which nothing is known, and when there is none."""
        oldest: int = await self._pool.fetchval(sql.tick_get_oldest)
        cursor = self._ledger.places[stream.shard].cursor
        tail = max(oldest, cursor.tick - TAIL_TICKS)
        return Checkpoint(stream.generation, EntryId(tail + 1, 0))

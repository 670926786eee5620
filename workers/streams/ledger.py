"""What the publisher remembers of the streams, kept in PostgreSQL beside its cursor."""

from dataclasses import dataclass

import msgspec
from asyncpg import Record

import sql
from service.db import Pool
from service.log import Cursor
from workers.reader import CursorMovedError
from workers.streams.places import ZERO, Checkpoint, EntryId, StreamName, to_cursor


@dataclass
class Place:
    """How far a shard is published. Most of the time all shards stand at the same cursor."""

    cursor: Cursor
    prev: EntryId
    """The entry before the next one; ZERO: unknown."""
    generation: int
    """That of the stream it is at; 0: none yet."""
    full: bool = False
    """Nothing is appended until the stream has been read."""


class KnownGroup(msgspec.Struct, frozen=True):
    """A group that a stream built anew must satisfy; a parked one only once it comes back."""

    checkpoint: Checkpoint
    parked: bool = False


class Ledger:
    """Read at the start of a slice, changed in memory, then stored.

    The cursor of the reader is the smallest of all shards, so its lag and the log's retention need
    not know of streams. Behind it only re-reading is lost by a crash: appending twice does nothing.
    """

    def __init__(self, pool: Pool, reader: str) -> None:
        self._pool = pool
        self._reader = reader
        self._stored = Cursor(0)
        self._stored_newest: dict[StreamName, EntryId] = {}
        self._stored_groups: dict[tuple[int, str], KnownGroup] = {}
        self.places: dict[int, Place] = {}
        self.newest: dict[StreamName, EntryId] = {}
        """What each stream must hold: its newest entry, or one before it."""
        self.groups: dict[tuple[int, str], KnownGroup] = {}

    async def load(self) -> None:
        """Makes this what PostgreSQL says. Raises LookupError if there is no such reader."""
        await self._pool.execute(sql.stream_group_delete_outdated)
        async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
            reader = await conn.fetchrow(sql.reader_get, self._reader)
            streams = await conn.fetch(sql.stream_list)
            groups = await conn.fetch(sql.stream_group_list)
        if reader is None:
            raise LookupError(f"there is no reader {self._reader}; run `leadlog migrate`")
        self._stored = Cursor(reader["tick"], reader["event_id"])
        self.newest = {
            StreamName(row["shard"], row["generation"]): EntryId(row["tick"], row["event_id"])
            for row in streams
        }
        self._stored_newest = dict(self.newest)
        self._read_groups(groups)
        self.places = {shard: self._place(shard) for shard in reader["shards"]}

    def _read_groups(self, rows: list[Record]) -> None:
        self.groups = {
            (row["shard"], row["name"]): KnownGroup(
                Checkpoint(row["generation"], EntryId(row["tick"], row["event_id"])), row["parked"]
            )
            for row in rows
        }
        self._stored_groups = dict(self.groups)

    async def check(self) -> tuple[int, int]:
        """The newest tick and its generation; reads the groups anew.

        Raises CursorMovedError if another process is publishing, so that one that was suspended
        does not judge streams by what it knew.
        """
        row = await self._pool.fetchrow(
            sql.ticker_get_if_reader_at, self._reader, self._stored.tick, self._stored.event_id
        )
        if row is None:
            raise CursorMovedError(self._reader)
        self._read_groups(await self._pool.fetch(sql.stream_group_list))
        return row["tick"], row["generation"]

    def _place(self, shard: int) -> Place:
        """A shard that was ahead of the reader goes on after its newest entry."""
        mine = {name: entry for name, entry in self.newest.items() if name.shard == shard}
        if not mine:
            return Place(self._stored, ZERO, 0)
        name = max(mine)
        ahead = to_cursor(mine[name])
        cursor = max(self._stored, ahead, key=_order)
        return Place(cursor, mine[name], name.generation)

    def known_in(self, shard: int) -> dict[str, KnownGroup]:
        """The groups of a shard by name."""
        return {name: group for (of, name), group in self.groups.items() if of == shard}

    def checkpoints_in(self, stream: StreamName) -> dict[str, EntryId]:
        """Where the groups of a stream stood when PostgreSQL was told last, by name."""
        return {
            name: group.checkpoint.id
            for name, group in self.known_in(stream.shard).items()
            if group.checkpoint.generation == stream.generation
        }

    def has_groups(self, stream: StreamName) -> bool:
        """Whether groups of this stream are known that should be in Redis."""
        return any(
            not group.parked and group.checkpoint.generation == stream.generation
            for group in self.known_in(stream.shard).values()
        )

    def rewind(self, stream: StreamName, holds: EntryId, to: Checkpoint) -> None:
        """Lets a shard go back; `holds` is the newest entry that the damaged stream still has."""
        shard = stream.shard
        for name in self.newest:
            if name.shard == shard and name.generation >= to.generation:
                self.newest[name] = ZERO
        self.newest[stream] = holds
        self.places[shard] = Place(to_cursor(to.id), to.id, to.generation)

    async def store(self) -> None:
        """Writes what has changed. Raises CursorMovedError if another process is publishing."""
        cursor = min((place.cursor for place in self.places.values()), key=_order)
        changed = [
            (*name, *entry)
            for name, entry in self.newest.items()
            if self._stored_newest.get(name, ZERO) != entry
        ]
        if cursor != self._stored or changed:
            columns = list(zip(*changed, strict=True)) or [(), (), (), ()]
            moved = await self._pool.fetchval(
                sql.stream_advance_if_at, self._reader, self._stored.tick, self._stored.event_id,
                cursor.tick, cursor.event_id, *columns,
            )  # fmt: skip
            if moved is None:
                raise CursorMovedError(self._reader)
            self._stored, self._stored_newest = cursor, dict(self.newest)

    async def store_groups(self) -> None:
        """Writes what has changed about groups."""
        changed = [
            (shard, name, group.checkpoint.generation, *group.checkpoint.id, group.parked)
            for (shard, name), group in self.groups.items()
            if self._stored_groups.get((shard, name)) != group
        ]
        if changed:
            await self._pool.execute(sql.stream_group_put_many, *zip(*changed, strict=True))
        self._stored_groups = dict(self.groups)

    async def forget_stream(self, stream: StreamName) -> None:
        """A stream of an old generation that everybody is done with."""
        del self.newest[stream]
        self._stored_newest.pop(stream, None)
        await self._pool.execute(sql.stream_delete, *stream)


def _order(cursor: Cursor) -> tuple[int, int]:
    return cursor.tick, cursor.event_id

"""The state of the CRM streams, stored in PostgreSQL beside the publisher's cursor."""

from dataclasses import dataclass

import msgspec
from asyncpg import Record

import sql
from service.database.connect import Pool
from service.events.event_log import SHARDS, Cursor
from workers.jobs import CursorMovedError
from workers.streams.positions import ZERO, Checkpoint, EntryId, StreamName, to_cursor


@dataclass
class ShardState:
    """How far a shard is published. Usually all shards have the same cursor."""

    cursor: Cursor
    previous: EntryId
    """The entry before the next one; ZERO: unknown."""
    generation: int
    """The generation of the shard's newest stream; 0: the shard has no stream yet."""
    is_full: bool = False
    """Nothing is appended until the groups have read more of the stream."""


class KnownGroup(msgspec.Struct, frozen=True):
    """A consumer group and its checkpoint.

    A rebuilt stream must contain all that its groups have yet to read. A detached group is no
    longer in Redis: a rebuild ignores it, but it continues at its checkpoint if it returns.
    """

    checkpoint: Checkpoint
    is_detached: bool = False


class StreamState:
    """The state is loaded at the start of a job, changed in memory, then stored.

    The reader's cursor is the smallest of all shards: the log's retention and the lag metric use it
    like any other. After a crash the shards that were ahead append entries again, without effect.
    """

    def __init__(self, pool: Pool, reader: str) -> None:
        self._pool = pool
        self._reader = reader
        self._stored = Cursor(0)
        self._stored_newest: dict[StreamName, EntryId] = {}
        self._stored_groups: dict[tuple[int, str], KnownGroup] = {}
        self.shards: dict[int, ShardState] = {}
        self.newest: dict[StreamName, EntryId] = {}
        """For each stream, an entry that it must have reached: its newest entry or an older one."""
        self.groups: dict[tuple[int, str], KnownGroup] = {}

    async def load(self) -> None:
        """Loads the state from PostgreSQL. Raises LookupError if there is no such reader."""
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
        self._set_groups(groups)
        self.shards = {shard: self._make_shard(shard) for shard in SHARDS}

    def _set_groups(self, rows: list[Record]) -> None:
        self.groups = {
            (row["shard"], row["name"]): KnownGroup(
                Checkpoint(row["generation"], EntryId(row["tick"], row["event_id"])),
                is_detached=row["detached"],
            )
            for row in rows
        }
        self._stored_groups = dict(self.groups)

    async def check(self) -> tuple[int, int]:
        """Loads the groups again; returns the newest tick and its generation.

        Raises CursorMovedError if another process is publishing: a process that was suspended must
        not judge streams by its outdated state.
        """
        row = await self._pool.fetchrow(
            sql.ticker_get_if_reader_at, self._reader, self._stored.tick, self._stored.event_id
        )
        if row is None:
            raise CursorMovedError(self._reader)
        self._set_groups(await self._pool.fetch(sql.stream_group_list))
        return row["tick"], row["generation"]

    def _make_shard(self, shard: int) -> ShardState:
        """The state of a shard; a shard ahead of the reader continues at its newest entry."""
        streams = {name: entry for name, entry in self.newest.items() if name.shard == shard}
        if not streams:
            return ShardState(self._stored, previous=ZERO, generation=0)
        stream = max(streams)
        newest = streams[stream]
        cursor = max(self._stored, to_cursor(newest), key=_order)
        return ShardState(cursor, previous=newest, generation=stream.generation)

    def find_groups(self, shard: int) -> dict[str, KnownGroup]:
        """The groups of a shard by name."""
        return {name: group for (of, name), group in self.groups.items() if of == shard}

    def list_checkpoints(self, stream: StreamName) -> dict[str, EntryId]:
        """The stored checkpoints of a stream's groups, by name."""
        return {
            name: group.checkpoint.id
            for name, group in self.find_groups(stream.shard).items()
            if group.checkpoint.generation == stream.generation
        }

    def has_groups(self, stream: StreamName) -> bool:
        """Whether Redis should hold groups of this stream."""
        return any(
            not group.is_detached and group.checkpoint.generation == stream.generation
            for group in self.find_groups(stream.shard).values()
        )

    def rewind(self, stream: StreamName, holds: EntryId, to: Checkpoint) -> None:
        """Moves a shard back; `holds` is the newest entry that the damaged stream still has."""
        shard = stream.shard
        for name in self.newest:
            if name.shard == shard and name.generation >= to.generation:
                self.newest[name] = ZERO
        self.newest[stream] = holds
        self.shards[shard] = ShardState(to_cursor(to.id), previous=to.id, generation=to.generation)

    async def store(self) -> None:
        """Stores the cursor and the changed streams.

        Raises CursorMovedError if another process is publishing.
        """
        cursor = min((shard.cursor for shard in self.shards.values()), key=_order)
        changed = [
            (*stream, *entry)
            for stream, entry in self.newest.items()
            if self._stored_newest.get(stream, ZERO) != entry
        ]
        if cursor != self._stored or changed:
            columns = list(zip(*changed, strict=True)) or [(), (), (), ()]
            before, after = (
                (self._stored.tick, self._stored.event_id),
                (cursor.tick, cursor.event_id),
            )
            moved = await self._pool.fetchval(
                sql.stream_advance_if_at, self._reader, *before, *after, *columns
            )
            if moved is None:
                raise CursorMovedError(self._reader)
            self._stored, self._stored_newest = cursor, dict(self.newest)

    async def store_groups(self) -> None:
        """Stores the groups that have changed."""
        changed = [
            (shard, name, group.checkpoint.generation, *group.checkpoint.id, group.is_detached)
            for (shard, name), group in self.groups.items()
            if self._stored_groups.get((shard, name)) != group
        ]
        if changed:
            await self._pool.execute(sql.stream_group_put_many, *zip(*changed, strict=True))
        self._stored_groups = dict(self.groups)

    async def delete_stream(self, stream: StreamName) -> None:
        """Deletes the state of an old generation's stream that all groups have finished."""
        del self.newest[stream]
        self._stored_newest.pop(stream, None)
        await self._pool.execute(sql.stream_delete, *stream)


def _order(cursor: Cursor) -> tuple[int, int]:
    return cursor.tick, cursor.event_id

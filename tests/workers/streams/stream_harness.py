"""A log to publish, a publisher that tests run turn by turn, and a consumer of its streams."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from ulid import ULID

import sql
from service.database.connect import Pool
from service.events.wake_ups import Wakeups
from service.settings import Settings
from workers.jobs import WorkerContext
from workers.publisher import Publisher
from workers.streams.positions import StreamName
from workers.streams.redis_streams import make_key

SHARDS = range(8)

INSERT = """
INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
SELECT lead_shard(lead_id), $4, $6, lead_id, version, event_id, 'lead.updated', 'key_1', now(),
    json_build_object('lead', json_strip_nulls(json_build_object(
        'id', lead_id, 'name', nullif(repeat('x', $5), ''))), 'version', version)
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS e (lead_id, version, event_id)
"""


class StreamEntry(msgspec.Struct, frozen=True):
    """An entry as a connector receives it."""

    id: str
    previous: str
    event_id: str
    lead_id: str
    version: int


@dataclass
class StreamHarness:
    pool: Pool
    redis: Redis
    settings: Settings
    tenant_id: int = 7
    live: bool = True
    versions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    logged: list[str] = field(default_factory=list)
    """Ids of all events, in the order of the log."""

    def make_publisher(self) -> Publisher:
        context = WorkerContext(self.settings, self.pool, self.redis, Wakeups(self.redis), "test")
        return Publisher(context)

    async def log(self, count: int, leads: int = 20, filler: int = 0) -> list[str]:
        """Writes one window of events, each with `filler` extra bytes; returns their ids."""
        rows = []
        for number in range(count):
            lead = f"lead_{number % leads}"
            self.versions[lead] += 1
            rows.append((lead, self.versions[lead], f"evt_{ULID()}"))
        await self.pool.execute(INSERT, *zip(*rows, strict=True), self.tenant_id, filler, self.live)
        tick = await self.pool.fetchval(sql.tick_get_newest)
        assert await self.pool.fetchval(sql.ticker_cut, tick) == tick + 1
        ids = [row[2] for row in rows]
        self.logged += ids
        return ids

    async def read(self, generation: int = 1) -> list[StreamEntry]:
        """All entries of all streams, in the order of their ids."""
        entries = []
        for shard in SHARDS:
            key = make_key(StreamName(shard, generation))
            entries += [to_stream_entry(*entry) for entry in await self.redis.xrange(key)]
        return sorted(entries, key=lambda entry: tuple(map(int, entry.id.split("-"))))

    async def count(self) -> dict[int, int]:
        """The number of entries of each shard's stream."""
        return {s: await self.redis.xlen(make_key(StreamName(s, 1))) for s in SHARDS}


async def publish(publisher: Publisher) -> None:
    """Runs turns until nothing is left to publish."""
    while await publisher.once():
        pass


async def begin_generation(pool: Pool) -> None:
    """Begins a new generation of the log, as after a restore into another cluster."""
    assert await pool.fetchval(sql.log_begin_generation_now, 2)


def to_stream_entry(entry_id: bytes, fields: dict[bytes, bytes]) -> StreamEntry:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return StreamEntry(
        entry_id.decode(), text["prev"], text["event_id"], text["lead_id"], int(text["version"])
    )


@dataclass
class Consumer:
    """The only consumer of a group; acknowledges the entries that it reads."""

    redis: Redis
    group: str
    generation: int = 1
    entries: list[StreamEntry] = field(default_factory=list)

    async def join(self, start: str = "0") -> None:
        for shard in SHARDS:
            await self._join(self._key(shard), start)

    async def read(self, count: int = 1000, *, ack: bool = True) -> int:
        """Reads up to `count` entries of each stream; returns how many were read."""
        found = 0
        for shard in SHARDS:
            for entry_id, fields in await self._read(self._key(shard), count):
                found += 1
                if b"prev" not in fields:  # written by another program; never acknowledged
                    continue
                self.entries.append(to_stream_entry(entry_id, fields))
                if ack:
                    await self.redis.xack(self._key(shard), self.group, entry_id)
        return found

    @property
    def event_ids(self) -> set[str]:
        return {entry.event_id for entry in self.entries}

    def find_gaps(self) -> list[StreamEntry]:
        """The entries that follow a missing version of their lead."""
        seen: dict[str, int] = {}
        gaps = []
        for entry in self.entries:
            if entry.version > seen.get(entry.lead_id, 0) + 1:
                gaps.append(entry)
            seen[entry.lead_id] = max(entry.version, seen.get(entry.lead_id, 0))
        return gaps

    def _key(self, shard: int) -> str:
        return make_key(StreamName(shard, self.generation))

    async def _read(self, key: str, count: int) -> list[Any]:
        try:
            streams = await self.redis.xreadgroup(self.group, "one", {key: ">"}, count)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._join(key, "0")
            return []
        return streams[0][1] if streams else []

    async def _join(self, key: str, start: str) -> None:
        try:
            await self.redis.xgroup_create(key, self.group, start, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

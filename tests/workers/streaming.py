"""A log to publish, a publisher to turn by hand, and a consumer of its streams."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from ulid import ULID

import sql
from service.db import Pool
from service.settings import Settings
from service.wakeups import Wakeups
from workers.publisher import Publisher
from workers.slices import Workshop
from workers.streams.places import StreamName
from workers.streams.redis_streams import make_key

SHARDS = range(8)

INSERT = """
INSERT INTO outbox (shard, tenant_id, live, lead_id, version, event_id, type, actor, at, data)
SELECT lead_shard(lead_id), 7, true, lead_id, version, event_id, 'lead.updated', 'key_1', now(),
    json_build_object('lead', json_build_object('id', lead_id), 'version', version)
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS e (lead_id, version, event_id)
"""


class Told(msgspec.Struct, frozen=True):
    """An entry as a connector sees it."""

    id: str
    prev: str
    event_id: str
    lead_id: str
    version: int


@dataclass
class Stage:
    pool: Pool
    redis: Redis
    settings: Settings
    versions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    logged: list[str] = field(default_factory=list)
    """Ids of all events, in the order of the log."""

    def make_publisher(self) -> Publisher:
        shop = Workshop(self.settings, self.pool, self.redis, Wakeups(self.redis), "test")
        return Publisher(shop)

    async def log(self, count: int, leads: int = 20) -> list[str]:
        """Writes one window of events; their ids."""
        rows = []
        for number in range(count):
            lead = f"lead_{number % leads}"
            self.versions[lead] += 1
            rows.append((lead, self.versions[lead], f"evt_{ULID()}"))
        await self.pool.execute(INSERT, *zip(*rows, strict=True))
        tick = await self.pool.fetchval(sql.ticker_get_tick)
        assert await self.pool.fetchval(sql.ticker_cut, tick) == tick + 1
        ids = [row[2] for row in rows]
        self.logged += ids
        return ids

    async def read(self, generation: int = 1) -> list[Told]:
        """All entries of all streams, in the order of their ids."""
        told = []
        for shard in SHARDS:
            key = make_key(StreamName(shard, generation))
            told += [to_told(*entry) for entry in await self.redis.xrange(key)]
        return sorted(told, key=lambda entry: tuple(map(int, entry.id.split("-"))))

    async def count(self) -> dict[int, int]:
        """Entries per shard."""
        return {s: await self.redis.xlen(make_key(StreamName(s, 1))) for s in SHARDS}


async def publish(publisher: Publisher) -> None:
    """Turns until there is nothing left to do."""
    while await publisher.once():
        pass


async def begin_generation(pool: Pool) -> None:
    """As after a restore into another cluster."""
    await pool.execute("UPDATE ticker SET cluster = 'the one before a restore'")
    assert await pool.fetchval(sql.log_begin_generation_if_moved)


def to_told(entry_id: bytes, fields: dict[bytes, bytes]) -> Told:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return Told(
        entry_id.decode(), text["prev"], text["event_id"], text["lead_id"], int(text["version"])
    )


@dataclass
class Consumer:
    """A group's one consumer; acknowledges what it reads."""

    redis: Redis
    group: str
    generation: int = 1
    told: list[Told] = field(default_factory=list)

    async def join(self, start: str = "0") -> None:
        for shard in SHARDS:
            await self._join(self._key(shard), start)

    async def read(self, count: int = 1000, *, ack: bool = True) -> int:
        """Reads what each stream has, up to `count`; how much that was."""
        found = 0
        for shard in SHARDS:
            for entry_id, fields in await self._read(self._key(shard), count):
                found += 1
                if b"prev" not in fields:  # a stranger's; never acknowledged
                    continue
                self.told.append(to_told(entry_id, fields))
                if ack:
                    await self.redis.xack(self._key(shard), self.group, entry_id)
        return found

    @property
    def event_ids(self) -> set[str]:
        return {told.event_id for told in self.told}

    def find_gaps(self) -> list[Told]:
        """The entries before which a version of their lead is missing."""
        seen: dict[str, int] = {}
        gaps = []
        for told in self.told:
            if told.version > seen.get(told.lead_id, 0) + 1:
                gaps.append(told)
            seen[told.lead_id] = max(told.version, seen.get(told.lead_id, 0))
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

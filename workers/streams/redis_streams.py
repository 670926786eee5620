"""The CRM streams in Redis: one per shard and generation of the log, written by compare-and-append.

Redis may lose data, so PostgreSQL is authoritative: lost entries are appended again from there. The
key has a hash tag, so that shards spread over a cluster and a script touches one slot. Streams are
trimmed by id (MINID), not by count (MAXLEN), and only what every group has acknowledged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from service.database.hidden_numbers import HiddenNumbers, NumberCipher
from service.events.event_log import Event, encode_envelope, encode_feed_cursor
from service.events.payload import make_thin
from workers.streams.positions import (
    EntryId,
    Group,
    StreamInspection,
    StreamName,
    parse_entry_id,
    step_before,
    to_cursor,
)

GENERATION_KEY = "leadlog:events:generation"
"""The key under which connectors find the newest generation."""
LARGE_EVENT_BYTES = 64 * 1024
"""A larger envelope is replaced by a thin one, without the lead's fields."""
REDIS_TIMEOUT_S = 10.0
MAX_GROUP_NAME_BYTES = 200
APPEND = (Path(__file__).parent / "append.lua").read_text(encoding="utf-8")
INSPECT = (Path(__file__).parent / "inspect.lua").read_text(encoding="utf-8")


class Entry(msgspec.Struct, frozen=True):
    """An event to append to a stream. `previous`: the entry before it; ZERO: unknown.

    `cut_at`: the microsecond in which its window was closed.
    """

    id: EntryId
    previous: EntryId
    event: Event
    cut_at: int

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        return min(len(self.event.data), LARGE_EVENT_BYTES)


class Batch(msgspec.Struct, frozen=True):
    """Entries of one stream in ascending order, and an id that the stream must have reached.

    `is_cut`: further entries are left for the next batch.
    """

    stream: StreamName
    expected: EntryId
    entries: list[Entry]
    is_cut: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """The result of appending a batch. `newest`: the stream's newest entry afterwards.

    ok: every entry is in the stream, appended now or before. lost: the stream ends below the
    expected id. full: the groups must read the stream first. Nothing is written if lost or full.
    """

    status: Literal["ok", "lost", "full"]
    newest: EntryId
    appended: int


class Sink(Protocol):
    """The target of the publisher: Redis Streams today; Kafka, for example, would fit as well.

    A sink must hold each entry once and in order, however often it is appended.
    """

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Appends the batches; returns one outcome per batch, in the same order."""
        ...


class RedisStreams:
    """The sink in Redis, with the operations for its maintenance."""

    def __init__(
        self, redis: Redis, max_entries: int, max_bytes: int, numbers: HiddenNumbers
    ) -> None:
        self._redis = redis
        self._numbers = numbers
        self._max_entries, self._max_bytes = max_entries, max_bytes

    def calculate_fill(self, inspection: StreamInspection) -> float:
        """The fill ratio of a stream by its nearer bound; at 1 nothing more is appended."""
        return max(inspection.length / self._max_entries, inspection.bytes / self._max_bytes)

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Appends the batches, one script call each. See Sink."""
        calls = []
        cipher = await self._numbers.open()
        for batch in batches:
            entries = [_list_fields(batch.stream, entry, cipher) for entry in batch.entries]
            bounds = (self._max_entries, self._max_bytes, msgspec.msgpack.encode(entries))
            calls.append((make_key(batch.stream), str(batch.expected), *bounds))
        return [
            Outcome(status.decode(), parse_entry_id(newest), appended)
            for status, newest, appended in await self._run(APPEND, calls)
        ]

    async def inspect(self, streams: Sequence[StreamName]) -> list[StreamInspection]:
        """A snapshot of each stream."""
        replies = await self._run(INSPECT, [(make_key(stream),) for stream in streams])
        return [_parse_inspection(reply) for reply in replies]

    async def publish_generation(self, generation: int) -> None:
        """Publishes the newest generation for connectors."""
        await self._send([("SET", GENERATION_KEY, generation)])

    async def trim(self, done: Mapping[StreamName, EntryId]) -> None:
        """Removes the entries of each stream up to and including the given one."""
        await self._send(
            [
                ("XTRIM", make_key(stream), "MINID", f"{tick}-{event_id + 1}")
                for stream, (tick, event_id) in done.items()
            ]
        )

    async def create_group(self, stream: StreamName, name: str, after: EntryId) -> None:
        """Creates a group that continues after the given entry, unless it exists."""
        try:
            await self._send([("XGROUP CREATE", make_key(stream), name, str(after), "MKSTREAM")])
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def drop_group(self, stream: StreamName, name: str) -> None:
        """Removes a group, so that it no longer prevents trimming."""
        await self._send([("XGROUP DESTROY", make_key(stream), name)])

    async def drop_stream(self, stream: StreamName) -> None:
        """Removes a stream with its groups."""
        await self._send([("DEL", make_key(stream))])

    async def _run(self, script: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Runs a script once per key, in one round trip."""
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        commands = [("EVALSHA", digest, 1, *call) for call in calls]
        try:
            return await self._send(commands)
        except NoScriptError:  # a new Redis, or SCRIPT FLUSH; scripts that did run may run again
            await self._send([("SCRIPT LOAD", script)])
            return await self._send(commands)

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Sends commands in one round trip; returns the replies or raises the first error.

        The error's text is that of Redis. An error that the pipeline raises would also contain the
        commands, and so the events.
        """
        async with (
            asyncio.timeout(REDIS_TIMEOUT_S),
            self._redis.pipeline(transaction=False) as pipe,
        ):
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


def make_key(stream: StreamName) -> str:
    """The key of a stream, with the hash tag that places it in a cluster."""
    return f"leadlog:events:{{g{stream.generation}s{stream.shard}}}"


def _list_fields(stream: StreamName, entry: Entry, cipher: NumberCipher) -> tuple[Any, ...]:
    """The fields that append.lua expects. Only ids are numbers: numbers in Lua are floats.

    A large event is thin and has the feed's cursor before the event: `GET /v1/events?after=`
    returns the whole event.
    """
    event, envelope, after = entry.event, encode_envelope(entry.event), list[str]()
    if len(envelope) > LARGE_EVENT_BYTES:
        envelope = make_thin(envelope)
        cursor = to_cursor(step_before(entry.id))
        after = [encode_feed_cursor(stream.generation, cursor, entry.cut_at, cipher)]
    mode = "live" if event.live else "test"
    lead = (str(event.tenant_id), mode, event.lead_id, str(event.version))
    described = (event.type, event.event_id, envelope.decode())
    return (*entry.id, str(entry.previous), *lead, *described, *after)


def _parse_inspection(reply: Any) -> StreamInspection:
    if reply is None:
        return StreamInspection()
    newest, length, first, previous, rows, size = reply
    groups = [
        Group(name.decode(), parse_entry_id(delivered), parse_entry_id(pending))
        for name, delivered, pending in rows
        if _is_storable(name)
    ]
    return StreamInspection(
        exists=True,
        newest=parse_entry_id(newest),
        length=length,
        bytes=size,
        first=parse_entry_id(first),
        previous=parse_entry_id(previous),
        groups=groups,
    )


def _is_storable(name: bytes) -> bool:
    """Whether PostgreSQL can store the group's name. Other groups get no guarantee."""
    try:
        return len(name) <= MAX_GROUP_NAME_BYTES and "\0" not in name.decode()
    except UnicodeDecodeError:
        return False

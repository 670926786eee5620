"""The CRM streams in Redis: one per shard and generation of the log, written by compare-and-append.

Redis forgets, so nothing here is the truth: whatever is lost is appended again from PostgreSQL. The
key has a hash tag, so that shards spread over a cluster and a script touches one slot. An entry is
never dropped by count (MAXLEN) but by id, and only once every group is done with it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from service.log import Event, encode_envelope
from workers.streams.places import EntryId, Group, Look, StreamName, parse_entry_id

GENERATION_KEY = "leadlog:events:generation"
"""Tells connectors which generation is the newest."""
REDIS_TIMEOUT_S = 10.0
MAX_GROUP_NAME_BYTES = 200
APPEND = (Path(__file__).parent / "append.lua").read_text(encoding="utf-8")
LOOK = (Path(__file__).parent / "look.lua").read_text(encoding="utf-8")


class Entry(msgspec.Struct, frozen=True):
    """An event on its way into a stream. `prev` is the entry before it; ZERO: unknown."""

    id: EntryId
    prev: EntryId
    event: Event


class Batch(msgspec.Struct, frozen=True):
    """Entries of one stream in ascending order, and the newest one it must already hold."""

    stream: StreamName
    expected: EntryId
    entries: Sequence[Entry]


class Outcome(msgspec.Struct, frozen=True):
    """What became of a batch. `newest` is the stream's newest entry afterwards.

    ok: every entry is there, appended now or before. lost: the stream ends below what was expected.
    full: it takes no more until it is read. Nothing of a lost or full batch is written.
    """

    status: Literal["ok", "lost", "full"]
    newest: EntryId
    appended: int


class Sink(Protocol):
    """Where the publisher appends events: Redis Streams now; Kafka, say, would fit as well.

    A sink must hold each entry once, in order, however often it is appended.
    """

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """One outcome per batch, in their order."""
        ...


class RedisStreams:
    """The sink, and what its keeper needs."""

    def __init__(self, redis: Redis, max_entries: int) -> None:
        self._redis = redis
        self.max_entries = max_entries

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """See Sink."""
        replies = await self._run(APPEND, [
            (make_key(batch.stream), str(batch.expected), self.max_entries,
             msgspec.msgpack.encode([_list_fields(entry) for entry in batch.entries]))
            for batch in batches
        ])  # fmt: skip
        return [Outcome(r[0].decode(), parse_entry_id(r[1]), r[2]) for r in replies]

    async def look(self, streams: Sequence[StreamName]) -> list[Look]:
        """What there is of each stream."""
        replies = await self._run(LOOK, [(make_key(stream),) for stream in streams])
        return [_read_look(reply) for reply in replies]

    async def tell_generation(self, generation: int) -> None:
        """Lets connectors know the newest generation."""
        await self._send([("SET", GENERATION_KEY, generation)])

    async def trim(self, done: Mapping[StreamName, EntryId]) -> None:
        """Drops the entries up to and with the given one of each stream."""
        await self._send(
            [("XTRIM", make_key(stream), "MINID", f"{tick}-{event_id + 1}")
             for stream, (tick, event_id) in done.items()]
        )  # fmt: skip

    async def make_group(self, stream: StreamName, name: str, after: EntryId) -> None:
        """Makes a group that goes on after the given entry, unless it is there."""
        try:
            await self._send([("XGROUP CREATE", make_key(stream), name, str(after), "MKSTREAM")])
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def drop_group(self, stream: StreamName, name: str) -> None:
        """Removes a group, so that it holds nothing up."""
        await self._send([("XGROUP DESTROY", make_key(stream), name)])

    async def drop(self, stream: StreamName) -> None:
        """Removes a stream with its groups."""
        await self._send([("DEL", make_key(stream))])

    async def _run(self, script: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Runs a script once per key, in one round trip."""
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        commands = [("EVALSHA", digest, 1, *call) for call in calls]
        try:
            return await self._send(commands)
        except NoScriptError:  # a new Redis, or SCRIPT FLUSH; what did run may run again
            await self._send([("SCRIPT LOAD", script)])
            return await self._send(commands)

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies, in one round trip; raises the first that is an error.

        As Redis says it: the pipeline itself would put the commands, events and all, into its text.
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


def _list_fields(entry: Entry) -> tuple[Any, ...]:
    """What append.lua takes: as text what it does not compare, for Lua's numbers are floats."""
    event = entry.event
    return (
        *entry.id, str(entry.prev), str(event.tenant_id), "live" if event.live else "test",
        event.lead_id, str(event.version), event.type, event.event_id,
        encode_envelope(event).decode(),
    )  # fmt: skip


def _read_look(reply: Any) -> Look:
    if reply is None:
        return Look()
    newest, length, first, prev, rows = reply
    groups = [
        Group(name.decode(), parse_entry_id(delivered), parse_entry_id(pending))
        for name, delivered, pending in rows
        if _is_storable(name)
    ]
    return Look(
        exists=True,
        newest=parse_entry_id(newest),
        length=length,
        first=parse_entry_id(first),
        prev=parse_entry_id(prev),
        groups=groups,
    )


def _is_storable(name: bytes) -> bool:
    """Groups under other names than this are left to themselves: no promise holds for them."""
    try:
        return len(name) <= MAX_GROUP_NAME_BYTES and "\0" not in name.decode()
    except UnicodeDecodeError:
        return False

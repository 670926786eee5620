"""The log as a reader sees it: ticks cut it into windows, a cursor says how far one has read.

Why not "id greater than the last one read": ids are drawn at insert, rows become visible at
commit, so a cursor over ids passes over late committers for ever. Why not a watermark at the
oldest running transaction: one long transaction stalls every reader, and transaction ids are not
commit order, so a lead's second change can come before its first.

A tick is a stored pg_snapshot. Window k holds what snapshot k sees and snapshot k-1 did not. If a
transaction is visible in a snapshot then so is everything that committed before it; and ids of one
lead are drawn under its row lock. Hence (window, id) is commit order per lead, nothing is passed
over, and the events of a long transaction arrive in the window in which it commits. Reading a
window again gives the same rows in the same order. (PgQ's method; Skype, 2007.)

Only the ticker cuts ticks, and only on the primary.
"""

from itertools import groupby
from operator import itemgetter

import msgspec
from asyncpg import Record

import sql
from service.db import Connection

API_VERSION = "2026-01-15"
SHARDS = tuple(range(8))
"""The shards of the log; sql/migrations/0003_log.sql fixes their number in lead_shard()."""


class Event(msgspec.Struct, frozen=True):
    """A row of the outbox. `data` is JSON as it goes out; `at` ISO 8601 with milliseconds.

    `txid` is the transaction that wrote it: by shard and txid a row is found again.
    """

    id: int
    shard: int
    tenant_id: int
    live: bool
    lead_id: str
    version: int
    event_id: str
    type: str
    actor: str
    at: str
    data: str
    txid: int


class Cursor(msgspec.Struct, frozen=True):
    """All of tick `tick` is read, and of the next window all ids up to `event_id`."""

    tick: int
    event_id: int = 0


class Window(msgspec.Struct, frozen=True):
    """Some or all of the events after a cursor, and the cursor after them.

    `tick` closed the window; `generation` says which cluster's transactions it speaks of (see
    log_begin_generation); `age_s` is the time since it was cut.
    """

    events: list[Event]
    after: Cursor
    age_s: float
    tick: int
    generation: int


class CursorTooOldError(Exception):
    """The ticks after the cursor have been dropped: its reader has missed events."""


async def read_window(
    conn: Connection, cursor: Cursor, shards: list[int], limit: int
) -> Window | None:
    """The next events after a cursor, at most `limit`; None if no newer tick has been cut.

    A window may be empty for these shards. Raises CursorTooOldError.
    """
    windows = await read_windows(conn, cursor, shards, limit, 1)
    return windows[0] if windows else None


async def read_windows(
    conn: Connection, cursor: Cursor, shards: list[int], limit: int, count: int
) -> list[Window]:
    """Up to `count` windows after a cursor, with at most `limit` events in all, in one statement.

    Only the last may be cut short. A reader that is behind moves many small windows at once; but
    each is sorted before the limit applies, so ask for one if windows are large. Empty if no newer
    tick has been cut. Raises CursorTooOldError.
    """
    rows = await conn.fetch(
        sql.window_read_many, cursor.tick, cursor.event_id, shards, limit, count
    )
    if rows:
        is_gone = rows[0]["tick"] != cursor.tick + 1
    else:
        is_gone = await conn.fetchval(sql.tick_is_gone, cursor.tick)
    if is_gone:
        raise CursorTooOldError(f"tick {cursor.tick} is gone: events after it were missed")
    windows: list[Window] = []
    for tick, group in groupby(rows, key=itemgetter("tick")):
        members = list(group)
        events = [to_event(row) for row in members if row["id"] is not None]
        after, first = Cursor(tick), members[0]
        windows.append(Window(events, after, first["age_s"], tick, first["generation"]))
    if len(rows) == limit and windows[-1].events:  # there may be more of the last one
        last = windows[-1]
        after = Cursor(last.tick - 1, last.events[-1].id)
        windows[-1] = msgspec.structs.replace(last, after=after)
    return windows


def to_event(row: Record) -> Event:
    """From a row that a statement over the outbox gives."""
    return Event(
        row["id"], row["shard"], row["tenant_id"], row["live"], row["lead_id"], row["version"],
        row["event_id"], row["type"], row["actor"], row["at"], row["data"],
        row["txid"],
    )  # fmt: skip


def encode_envelope(event: Event) -> bytes:
    """The event as it goes out, to webhooks and connectors alike."""
    return msgspec.json.encode(
        {
            "id": event.event_id,
            "type": event.type,
            "apiVersion": API_VERSION,
            "createdAt": event.at,
            "data": msgspec.Raw(msgspec.json.format(event.data, indent=-1).encode()),
        }
    )

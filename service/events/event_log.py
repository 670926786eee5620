"""The event log for its readers: ticks cut it into windows, a cursor marks a reader's position.

Why a reader does not ask for "id > last id": ids are drawn at insert, rows become visible at
commit. A transaction that commits late has a smaller id than rows already read, and a cursor over
ids would skip its events for ever. Why there is no watermark at the oldest running transaction: one
long transaction would stall every reader, and transaction ids are not in commit order, so the
second change of a lead could come before its first.

A tick is a stored pg_snapshot. Window k contains the rows that snapshot k sees and snapshot k-1
does not. A snapshot that sees a transaction also sees every transaction that committed before it,
and the ids of one lead are drawn under the lock of the lead's row. Therefore the order (window, id)
is the commit order of each lead, no event is skipped, and the events of a long transaction are in
the window in which it commits. Reading a window again returns the same rows in the same order.
(The method is PgQ's; Skype, 2007.)

Only the ticker cuts ticks, and only on the primary server.
"""

from itertools import groupby
from operator import itemgetter

import msgspec
from asyncpg import Record

import sql
from service.database.connect import Connection
from service.database.hidden_numbers import NumberCipher
from service.pagination.cursor import POSITION, CursorCodec

API_VERSION = "2026-01-15"
FEED = "events"
FEED_CURSORS = CursorCodec(POSITION, POSITION, POSITION, POSITION, field="after")
"""Generation, tick, event id, and when the tick was cut, in Unix microseconds."""
SHARDS = tuple(range(8))
"""The shards of the log; lead_shard() in sql/migrations/0003_log.sql fixes their number."""


class Event(msgspec.Struct, frozen=True):
    """A row of the outbox.

    `data` is the JSON that readers receive, `at` is ISO 8601 with milliseconds, and `txid` is the
    transaction that wrote the row, which leads to it in the index of the outbox.
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
    """A reader's position: it has read all windows up to `tick`, and the next up to `event_id`."""

    tick: int
    event_id: int = 0


def encode_feed_cursor(generation: int, cursor: Cursor, cut_at: int, cipher: NumberCipher) -> str:
    """Encode a cursor for clients of the feed, sealed: ticks and events count those of all tenants.

    `generation` is that of the cursor's tick, and `cut_at` the time of the tick in Unix
    microseconds. For a cursor inside a window, both are those of the tick that closes the window.
    """
    values = generation, cursor.tick, cursor.event_id, cut_at
    return FEED_CURSORS.encode(FEED, *values, cipher=cipher)


class Window(msgspec.Struct, frozen=True):
    """The events of a window, or a part of them, and the cursor after the last of them.

    `tick` closes the window. It was cut at `cut_at`, in Unix microseconds, which is `age_s` ago.
    Transaction ids can be compared only within one `generation`; see log_begin_generation.
    """

    events: list[Event]
    after: Cursor
    age_s: float
    tick: int
    generation: int
    cut_at: int


class CursorTooOldError(Exception):
    """The ticks after a cursor have been dropped: its reader has missed events."""


async def read_windows(conn: Connection, cursor: Cursor, limit: int, count: int) -> list[Window]:
    """Read up to `count` windows after a cursor, with at most `limit` events in total.

    The list is empty if no newer tick has been cut. A window may have no events. Only the last
    window may be incomplete. One statement reads all windows, so a reader that is behind catches up
    quickly. PostgreSQL sorts each window before the limit applies. Raises CursorTooOldError.
    """
    rows = await conn.fetch(sql.window_read_many, cursor.tick, cursor.event_id, limit, count)
    if rows:
        is_gone = rows[0]["tick"] != cursor.tick + 1
    else:
        is_gone = await conn.fetchval(sql.tick_is_gone, cursor.tick)
    if is_gone:
        raise CursorTooOldError(f"tick {cursor.tick} is gone: events after it were missed")
    windows = [_to_window(list(group)) for _, group in groupby(rows, key=itemgetter("tick"))]
    if len(rows) == limit and windows[-1].events:  # the last window may have more events
        last = windows[-1]
        after = Cursor(last.tick - 1, last.events[-1].id)
        windows[-1] = msgspec.structs.replace(last, after=after)
    return windows


def _to_window(rows: list[Record]) -> Window:
    first = rows[0]
    return Window(
        events=[to_event(row) for row in rows if row["id"] is not None],
        after=Cursor(first["tick"]),
        age_s=first["age_s"],
        tick=first["tick"],
        generation=first["generation"],
        cut_at=first["cut_at"],
    )


def to_event(row: Record) -> Event:
    """Convert a row with the columns of the outbox."""
    return Event(
        id=row["id"],
        shard=row["shard"],
        tenant_id=row["tenant_id"],
        live=row["live"],
        lead_id=row["lead_id"],
        version=row["version"],
        event_id=row["event_id"],
        type=row["type"],
        actor=row["actor"],
        at=row["at"],
        data=row["data"],
        txid=row["txid"],
    )


def encode_envelope(event: Event) -> bytes:
    """Encode an event as JSON, as webhooks, streams and the feed deliver it."""
    return msgspec.json.encode(
        {
            "id": event.event_id,
            "type": event.type,
            "apiVersion": API_VERSION,
            "createdAt": event.at,
            "data": msgspec.Raw(msgspec.json.format(event.data, indent=-1).encode()),
        }
    )

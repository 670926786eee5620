"""The event feed: the events of one tenant and mode in pages, each after a cursor."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

import sql
from service.access.authentication import Principal
from service.database.connect import Pool
from service.database.hidden_numbers import NumberCipher
from service.errors import Fault, InvalidRequest
from service.events.event_log import (
    FEED,
    FEED_CURSORS,
    Cursor,
    encode_envelope,
    encode_feed_cursor,
    to_event,
)
from service.events.event_types import PATTERNS, expand_patterns
from service.validation.field_types import ApiStruct, Check

SCAN_S = 0.25
"""The time that one request spends on windows without events for it. It then returns its cursor."""
FIRST_WINDOWS, MAX_WINDOWS = 16, 512
MAX_PAGE_BYTES = 1024 * 1024
"""A page ends with the event that reaches this size of `data`."""
LATEST = "latest"
MAX_WAIT_S = 30
_AFTER = "`nextCursor` of the previous page, or `latest`. Default: start at the oldest event kept."
_LIMIT = "Events on a page; fewer are possible: a page ends after about 1 MiB."


def check_types(text: str) -> Iterator[Fault]:
    """Check that the text is a comma-separated list of event types and wildcards."""
    unknown = [part for part in text.split(",") if part not in PATTERNS]
    if unknown:
        message = f"types must be a comma-separated list of {', '.join(PATTERNS)}."
        yield Fault("types", "invalid_value", message)


RESTORED = (
    "The database has been restored since this cursor was issued: read your leads again, then the "
    "events after `latest`."
)
NOT_KEPT = (
    "The events after this cursor are no longer kept: read your leads again, then the events "
    "after `latest`."
)


class EventQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The query of GET /v1/events."""

    checks: ClassVar[Mapping[str, Check]] = {"types": check_types}

    after: Annotated[str, Meta(max_length=200, description=_AFTER)] | None = None
    types: (
        Annotated[
            str,
            Meta(
                max_length=500,
                description="Only events of these types, comma-separated; `lead.*` is every type "
                "of that noun.",
            ),
        ]
        | None
    ) = None
    lead_id: (
        Annotated[str, Meta(min_length=1, max_length=100, description="Only events of this lead.")]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=500, description=_LIMIT)] = 100
    wait: Annotated[
        int, Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for an event if there is none.")
    ] = 0


class EventPagination(ApiStruct):
    """The position of a page in the log."""

    limit: int
    has_more: bool
    next_cursor: str


class FeedPosition(msgspec.Struct, frozen=True):
    """A cursor with the generation of its tick and the time, in microseconds, of its tick.

    For a cursor inside a window, this is the tick that closes the window. After a restore the log
    cuts ticks with the same numbers again; generation and time distinguish them.
    """

    generation: int
    cursor: Cursor
    cut_at: int

    @property
    def dated_tick(self) -> int:
        """The tick to which `generation` and `cut_at` belong."""
        return self.cursor.tick + (self.cursor.event_id > 0)


class FeedPage(msgspec.Struct, frozen=True):
    """Envelopes, each with the position after it, and the position after the page."""

    events: list[tuple[FeedPosition, bytes]]
    after: FeedPosition
    more: bool


def encode_cursor(position: FeedPosition, cipher: NumberCipher) -> str:
    """Encode a position as the opaque cursor. A cursor grants no access: the API key does."""
    return encode_feed_cursor(position.generation, position.cursor, position.cut_at, cipher)


def decode_cursor(text: str, cipher: NumberCipher) -> FeedPosition:
    """Decode a cursor of `encode_cursor`. Raises InvalidRequest for any other text."""
    generation, tick, event_id, cut_at = FEED_CURSORS.decode(FEED, text, cipher=cipher)
    return FeedPosition(generation, Cursor(tick, event_id), cut_at)


def refuse_cursor(message: str, code: str) -> InvalidRequest:
    """Make the error for a cursor in `after` that cannot be used."""
    return InvalidRequest(message, details=[Fault("after", code, message)])


async def find_position(pool: Pool, after: str | None, cipher: NumberCipher) -> FeedPosition:
    """Find the position that `after` means. Raises InvalidRequest."""
    if after is not None and after != LATEST:
        return decode_cursor(after, cipher)
    statement = sql.tick_get_newest if after == LATEST else sql.tick_get_oldest
    [row] = await pool.fetch(statement)
    return FeedPosition(row["generation"], Cursor(row["tick"]), row["cut_at"])


async def find_events(
    pool: Pool, principal: Principal, position: FeedPosition, query: EventQuery
) -> FeedPage:
    """Read the page after a position, in SCAN_S at most.

    Raises InvalidRequest if the events after the position are no longer kept, or if the database
    has been restored since.
    """
    end, windows = time.monotonic() + SCAN_S, FIRST_WINDOWS
    while True:
        page = await _scan(pool, principal, position, query, windows)
        if page.events or not page.more or time.monotonic() >= end:
            return page
        position, windows = page.after, min(windows * 4, MAX_WINDOWS)


async def _scan(
    pool: Pool, principal: Principal, position: FeedPosition, query: EventQuery, windows: int
) -> FeedPage:
    patterns = ["*"] if query.types is None else query.types.split(",")
    types = None if "*" in patterns else expand_patterns(patterns)
    rows = await pool.fetch(
        sql.event_read_many,
        position.cursor.tick,
        position.cursor.event_id,
        query.limit,
        windows,
        principal.tenant_id,
        principal.live,
        types,
        query.lead_id,
        MAX_PAGE_BYTES,
    )
    if rows and rows[0]["tick"] == position.cursor.tick + 1:
        cut_at = rows[0]["cut_at"] if position.cursor.event_id else rows[0]["since_at"]
        if (rows[0]["since"], cut_at) != (position.generation, position.cut_at):
            raise refuse_cursor(RESTORED, "expired")
    else:
        await _check_tick(pool, position)
    events: list[tuple[FeedPosition, bytes]] = []
    for row in rows:
        if row["id"] is not None:
            position = FeedPosition(row["since"], Cursor(row["tick"] - 1, row["id"]), row["cut_at"])
            events.append((position, encode_envelope(to_event(row))))
            if len(events) == query.limit or row["page_bytes"] >= MAX_PAGE_BYTES:
                return FeedPage(events, position, more=True)
    if rows:
        last = rows[-1]
        position = FeedPosition(last["generation"], Cursor(last["tick"]), last["cut_at"])
    more = len({row["tick"] for row in rows}) == windows
    return FeedPage(events, position, more)


async def _check_tick(pool: Pool, position: FeedPosition) -> None:
    """Check the tick of a position after which there is no window. Raises InvalidRequest."""
    rows = await pool.fetch(sql.tick_get, position.dated_tick)
    if rows and not position.cursor.event_id:
        if (rows[0]["generation"], rows[0]["cut_at"]) != (position.generation, position.cut_at):
            raise refuse_cursor(RESTORED, "expired")
        return
    [newest] = await pool.fetch(sql.tick_get_newest)
    raise refuse_cursor(RESTORED if position.dated_tick > newest["tick"] else NOT_KEPT, "expired")


def encode_page(page: FeedPage, limit: int, cipher: NumberCipher) -> bytes:
    """Encode a page as JSON; see EventPage."""
    pagination = EventPagination(
        limit=limit, has_more=page.more, next_cursor=encode_cursor(page.after, cipher)
    )
    data = [msgspec.Raw(envelope) for _, envelope in page.events]
    return msgspec.json.encode({"data": data, "pagination": pagination})

"""The event feed: what the log holds of one tenant and mode, page by page after a cursor."""

import base64
import binascii
import re
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

import sql
from service.auth import Principal
from service.db import Pool
from service.errors import Fault, InvalidRequest
from service.log import Cursor, encode_envelope, to_event
from service.models import Moment, Wire
from service.validation import Check
from service.webhooks.endpoints import EventType

SCAN_S = 0.25
"""How long one request looks through windows of others before it returns how far it got."""
FIRST_WINDOWS, MAX_WINDOWS = 16, 512
LATEST = "latest"
MAX_WAIT_S = 30
TYPES = get_args(EventType)
MAX_BIGINT = 2**63 - 1
_PLACE = re.compile(r"(\d{1,5})\.(\d{1,19})\.(\d{1,19})")
_AFTER = "`nextCursor` of the page before, or `latest`; without it: from the oldest event kept."


def check_types(text: str) -> Iterator[Fault]:
    """Known types, with commas between."""
    unknown = [part for part in text.split(",") if part not in TYPES]
    if unknown:
        message = f"types must be of {', '.join(TYPES)}, with commas between them."
        yield Fault("types", "invalid_value", message)


MAX_WAIT_S = 30


class EventQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The query of GET /v1/events."""

    checks: ClassVar[Mapping[str, Check]] = {"types": check_types}

    after: Annotated[str, Meta(max_length=100, description=_AFTER)] | None = None
    types: (
        Annotated[str, Meta(max_length=500, description="Only these, comma-separated.")] | None
    ) = None
    lead_id: (
        Annotated[str, Meta(min_length=1, max_length=100, description="Only of this lead.")] | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Events on a page.")] = 100
    wait: Annotated[
        int, Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for an event if there is none.")
    ] = 0


class LoggedEvent(Wire):
    """An event as webhooks and streams carry it too."""

    id: str
    type: EventType
    api_version: Literal["2026-01-15"]
    created_at: Moment
    data: dict[str, Any]


class EventPagination(Wire):
    """`hasMore`: there is more to read at once, even if this page is empty."""

    limit: int
    has_more: bool
    next_cursor: str


class EventPage(Wire):
    data: list[LoggedEvent]
    pagination: EventPagination


class Place(msgspec.Struct, frozen=True):
    """A cursor, and the generation of the log that its tick belongs to."""

    generation: int
    cursor: Cursor


class Found(msgspec.Struct, frozen=True):
    """Envelopes, each with the place after it; the place after all; whether to read on at once."""

    events: list[tuple[Place, bytes]]
    after: Place
    more: bool


def encode_place(place: Place) -> str:
    """The opaque cursor. It grants nothing: whose events it shows the key says."""
    text = f"{place.generation}.{place.cursor.tick}.{place.cursor.event_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_place(text: str) -> Place:
    """Raises InvalidRequest for what `encode_place` has not made."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        match = _PLACE.fullmatch(raw.decode("ascii"))
    except (binascii.Error, ValueError):
        match = None
    if match is not None:
        generation, tick, event_id = map(int, match.groups())
        if max(tick, event_id) < MAX_BIGINT - MAX_WINDOWS:
            return Place(generation, Cursor(tick, event_id))
    raise refuse_cursor("after must be the nextCursor of an earlier page.", "invalid_value")


def refuse_cursor(message: str, code: str) -> InvalidRequest:
    """400 about `after`."""
    return InvalidRequest(message, details=[Fault("after", code, message)])


async def find_place(pool: Pool, after: str | None) -> Place:
    """Where to begin. Raises InvalidRequest."""
    if after is not None and after != LATEST:
        return decode_place(after)
    statement = sql.tick_get_latest if after == LATEST else sql.tick_get_first
    [row] = await pool.fetch(statement)
    return Place(row["generation"], Cursor(row["tick"]))


async def find_events(pool: Pool, who: Principal, place: Place, query: EventQuery) -> Found:
    """What there is after a place, looking for SCAN_S at the most.

    Raises InvalidRequest if the log does not go back so far, or is another one since.
    """
    end, windows = time.monotonic() + SCAN_S, FIRST_WINDOWS
    while True:
        found = await _scan(pool, who, place, query, windows)
        if found.events or not found.more or time.monotonic() >= end:
            return found
        place, windows = found.after, min(windows * 4, MAX_WINDOWS)


async def _scan(pool: Pool, who: Principal, place: Place, query: EventQuery, windows: int) -> Found:
    types = None if query.types is None else query.types.split(",")
    rows = await pool.fetch(
        sql.event_read_many, place.cursor.tick, place.cursor.event_id, query.limit, windows,
        who.tenant_id, who.live, types, query.lead_id,
    )  # fmt: skip
    is_there = bool(rows) and rows[0]["tick"] == place.cursor.tick + 1
    generation = rows[0]["since"] if is_there else await _find_generation(pool, place)
    if generation != place.generation:
        raise refuse_cursor(
            "The database has been restored since this cursor was given: read your leads again, "
            "then the events after `latest`.", "expired")  # fmt: skip
    events: list[tuple[Place, bytes]] = []
    for row in rows:
        if row["id"] is not None:
            place = Place(row["since"], Cursor(row["tick"] - 1, row["id"]))
            events.append((place, encode_envelope(to_event(row))))
            if len(events) == query.limit:
                return Found(events, place, more=True)
        else:
            place = Place(row["generation"], Cursor(row["tick"]))
    if rows:
        place = Place(rows[-1]["generation"], Cursor(rows[-1]["tick"]))
    more = len({row["tick"] for row in rows}) == windows
    return Found(events, place, more)


async def _find_generation(pool: Pool, place: Place) -> int:
    """Of the cursor's own tick, when there is none after it."""
    generation: int | None = await pool.fetchval(sql.tick_get_generation, place.cursor.tick)
    if generation is None:
        raise refuse_cursor(
            "The events after this cursor are not kept any more: read your leads again, then the "
            "events after `latest`.", "expired")  # fmt: skip
    return generation


def encode_page(found: Found, limit: int) -> bytes:
    """An EventPage as JSON."""
    pagination = EventPagination(
        limit=limit, has_more=found.more, next_cursor=encode_place(found.after)
    )
    data = [msgspec.Raw(envelope) for _, envelope in found.events]
    return msgspec.json.encode({"data": data, "pagination": pagination})

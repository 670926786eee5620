"""Deliveries as their endpoint's owner sees them: listed, looked into, sent again, tried out."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

import sql
from service.db import Connection
from service.errors import Fault, InvalidRequest
from service.leads.rows import make_event_id
from service.models import Limit, Moment, Wire
from service.validation import Check
from service.webhooks.sample_events import make_test_event

State = Literal["pending", "delivered", "failed", "held", "superseded", "cancelled"]
ID_PREFIX = "dlv_"
MOST_TRIES = 100
"""Of one delivery: each has up to 16 KiB of an answer, and a server may ask for any number."""
_MAX_ID = 2**63 - 1
_CURSOR = "`nextCursor` of the page before."


class DeliveryQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The query of GET /v1/webhooks/{id}/deliveries."""

    checks: ClassVar[Mapping[str, Check]] = {}

    state: Annotated[State, Meta(description="Only deliveries in this state.")] | None = None
    limit: Limit = 25
    cursor: Annotated[str, Meta(max_length=200, description=_CURSOR)] | None = None


class Delivery(Wire):
    """One event on its way to one endpoint. `cause` says why it was made."""

    id: str
    event_id: str
    type: str
    lead_id: str | None
    cause: Literal["event", "replay", "resend", "test"]
    state: State
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: Moment | None
    created_at: Moment
    finished_at: Moment | None


class DeliveryAttempt(Wire):
    """One request; times in ms, null where the connection was there already or none came about."""

    number: int
    at: Moment
    status: int | None
    error: str | None
    dns_ms: float | None
    connect_ms: float | None
    wait_ms: float | None
    total_ms: float
    response: str | None
    """The first 16 KiB of the answer."""
    truncated: bool


class DeliveryDetail(Delivery):
    """A delivery with the newest 100 of its attempts, oldest first."""

    tries: list[DeliveryAttempt] = msgspec.field(name="attemptLog")


class DeliveryPagination(Wire):
    limit: int
    has_more: bool
    next_cursor: str | None


class DeliveryPage(Wire):
    data: list[Delivery]
    pagination: DeliveryPagination


class DeliveryStarted(Wire):
    """A delivery that was just made, or made due."""

    delivery_id: str


async def list_deliveries(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, query: DeliveryQuery
) -> DeliveryPage:
    """A page, newest first. Raises InvalidRequest for a cursor that is not ours."""
    at, before = _decode_cursor(query.cursor) if query.cursor else (None, None)
    rows = await conn.fetch(
        sql.delivery_list, tenant_id, live, endpoint_id, query.state, at, before, query.limit + 1
    )
    more = len(rows) > query.limit
    shown = rows[: query.limit]
    cursor = _encode_cursor(shown[-1]["place"], shown[-1]["id"]) if more else None
    return DeliveryPage(
        data=[Delivery(**_to_fields(dict(row))) for row in shown],
        pagination=DeliveryPagination(limit=query.limit, has_more=more, next_cursor=cursor),
    )


async def get_delivery(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, delivery_id: int
) -> DeliveryDetail | None:
    """None if this endpoint has no such delivery."""
    row = await conn.fetchrow(sql.delivery_get, tenant_id, live, endpoint_id, delivery_id)
    if row is None:
        return None
    tries = await conn.fetch(sql.attempt_list, tenant_id, live, delivery_id, MOST_TRIES)
    return DeliveryDetail(
        **_to_fields(dict(row)), tries=[_to_attempt(dict(attempt)) for attempt in tries]
    )


async def resend_delivery(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, delivery_id: int
) -> str | None:
    """The id of the delivery that now goes out. None: no such one, or its event is gone."""
    found = await conn.fetchval(sql.delivery_resend, tenant_id, live, endpoint_id, delivery_id)
    return None if found is None else f"{ID_PREFIX}{found}"


async def send_test(
    conn: Connection, tenant_id: int, live: bool, endpoint_id: str, event_type: str
) -> str:
    """The id of the delivery of a made-up event."""
    event_id = make_event_id()
    body = make_test_event(event_id, event_type, endpoint_id, datetime.now(UTC))
    found = await conn.fetchval(
        sql.delivery_insert_test, tenant_id, live, endpoint_id, event_id, event_type, body
    )
    return f"{ID_PREFIX}{found}"


def parse_delivery_id(text: str) -> int | None:
    """None for what cannot be one."""
    digits = text.removeprefix(ID_PREFIX)
    if digits == text or not digits.isascii() or not digits.isdecimal() or len(digits) > 19:  # noqa: PLR2004
        return None
    return int(digits) if int(digits) <= _MAX_ID else None


def _to_fields(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("place", None)
    row["next_attempt_at"] = row.pop("due_at")
    return row | {"id": f"{ID_PREFIX}{row['id']}"}


def _to_attempt(row: dict[str, Any]) -> DeliveryAttempt:
    body = row.pop("body")
    times = {
        name: None if row[name] is None else round(row[name], 2)
        for name in ("dns_ms", "connect_ms", "wait_ms", "total_ms")
    }
    response = None if body is None else body.decode("utf-8", "replace")
    return DeliveryAttempt(**row | times, response=response)


def _encode_cursor(at: datetime, delivery_id: int) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {delivery_id}".encode()).decode()


def _decode_cursor(text: str) -> tuple[datetime, int]:
    try:
        at, _, delivery_id = base64.b64decode(text, b"-_", validate=True).decode().partition(" ")
        found = datetime.fromisoformat(at), int(delivery_id)
        if found[0].tzinfo is not None and 0 <= found[1] <= _MAX_ID:
            return found
    except (binascii.Error, ValueError):
        pass
    message = "cursor must be the nextCursor of an earlier page."
    raise InvalidRequest(message, details=[Fault("cursor", "invalid_value", message)])

"""Deliveries in the API: list, read, resend, and send a test event."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

import sql
from service.database.connect import Connection
from service.database.hidden_numbers import NumberCipher
from service.events.event_types import EventType
from service.leads.rows import make_event_id
from service.pagination.cursor import POSITION, TIME, CursorCodec, NextCursor
from service.pagination.pages import Limit
from service.validation.field_types import ApiStruct, Check, Input, Moment
from service.webhooks.sample_events import make_test_event

State = Literal["pending", "delivered", "failed", "held", "superseded", "cancelled"]
ID_PREFIX = "dlv_"
MAX_ATTEMPTS = 100
"""Attempts that one response lists: each has up to 16 KiB of a receiver's response, and a receiver
can cause any number of attempts by Retry-After."""
CURSORS = CursorCodec(TIME, POSITION)


class DeliveryQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The query of GET /v1/webhooks/{id}/deliveries."""

    checks: ClassVar[Mapping[str, Check]] = {}

    state: Annotated[State, Meta(description="Only deliveries in this state.")] | None = None
    limit: Limit = 25
    cursor: NextCursor | None = None


class Delivery(ApiStruct):
    """One event for one endpoint. `cause` is the reason why the delivery was created."""

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


class DeliveryAttempt(ApiStruct):
    """One HTTP request. Times are in ms; null if the connection was reused or never established."""

    number: int
    at: Moment
    status: int | None
    error: str | None
    dns_ms: float | None
    connect_ms: float | None
    wait_ms: float | None
    total_ms: float
    response: str | None
    truncated: bool


class DeliveryDetail(Delivery):
    """A delivery with its newest 100 attempts, oldest first."""

    attempt_log: list[DeliveryAttempt]


class DeliveryPagination(ApiStruct):
    """The position of a page in the list of deliveries."""

    limit: int
    has_more: bool
    next_cursor: str | None


class DeliveryPage(ApiStruct):
    """A page of deliveries, newest first."""

    data: list[Delivery]
    pagination: DeliveryPagination


class WebhookTest(Input):
    """The body of POST /v1/webhooks/{id}/test: the type of the event, of any that exists.

    The default is the first type to which the webhook subscribes.
    """

    may_be_absent: ClassVar[bool] = True

    type: EventType | None = None


class DeliveryStarted(ApiStruct):
    """The id of a delivery that was created or made due by this request."""

    delivery_id: str


async def list_deliveries(
    conn: Connection,
    cipher: NumberCipher,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    query: DeliveryQuery,
) -> DeliveryPage:
    """Read a page, newest first. Raises InvalidRequest for a malformed cursor."""
    scope = "deliveries", tenant_id, live, endpoint_id, query.state
    at, before = None, None
    if query.cursor:
        at, before = CURSORS.decode(scope, query.cursor, cipher=cipher)
    rows = await conn.fetch(
        sql.delivery_list, tenant_id, live, endpoint_id, query.state, at, before, query.limit + 1
    )
    has_more = len(rows) > query.limit
    page = rows[: query.limit]
    cursor = None
    if has_more:
        cursor = CURSORS.encode(scope, page[-1]["cursor_at"], page[-1]["id"], cipher=cipher)
    return DeliveryPage(
        data=[
            Delivery(**_to_fields(dict(row), _encode_id(cipher, tenant_id, live, row["id"])))
            for row in page
        ],
        pagination=DeliveryPagination(limit=query.limit, has_more=has_more, next_cursor=cursor),
    )


async def get_delivery(
    conn: Connection,
    cipher: NumberCipher,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    delivery_id: str,
) -> DeliveryDetail | None:
    """Read a delivery with its attempts; None if this endpoint has no such delivery."""
    number = _decode_id(cipher, tenant_id, live, delivery_id)
    row = await conn.fetchrow(sql.delivery_get, tenant_id, live, endpoint_id, number)
    if row is None:
        return None
    attempts = await conn.fetch(sql.attempt_list, tenant_id, live, number, MAX_ATTEMPTS)
    return DeliveryDetail(
        **_to_fields(dict(row), delivery_id),
        attempt_log=[_to_attempt(dict(attempt)) for attempt in attempts],
    )


async def resend_delivery(
    conn: Connection,
    cipher: NumberCipher,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    delivery_id: str,
) -> str | None:
    """Send a delivery again and return the id of the delivery that is now due.

    None if there is no such delivery, or if its event is no longer kept.
    """
    number = _decode_id(cipher, tenant_id, live, delivery_id)
    due = await conn.fetchval(sql.delivery_resend, tenant_id, live, endpoint_id, number)
    return None if due is None else _encode_id(cipher, tenant_id, live, due)


async def send_test(
    conn: Connection,
    cipher: NumberCipher,
    tenant_id: int,
    live: bool,
    endpoint_id: str,
    event_type: str,
) -> str:
    """Create a delivery of a test event and return its id."""
    event_id = make_event_id()
    body = make_test_event(event_id, event_type, endpoint_id, datetime.now(UTC))
    number = await conn.fetchval(
        sql.delivery_insert_test, tenant_id, live, endpoint_id, event_id, event_type, body
    )
    return _encode_id(cipher, tenant_id, live, number)


def _encode_id(cipher: NumberCipher, tenant_id: int, live: bool, number: int) -> str:
    return f"{ID_PREFIX}{cipher.hide(tenant_id, live, number)}"


def _decode_id(cipher: NumberCipher, tenant_id: int, live: bool, text: str) -> int | None:
    """The number of a delivery; None if the text is not an id of this tenant and mode."""
    digits = text.removeprefix(ID_PREFIX)
    return None if digits == text else cipher.find(tenant_id, live, digits)


def _to_fields(row: Mapping[str, Any], delivery_id: str) -> dict[str, Any]:
    fields = {**row, "id": delivery_id}
    fields.pop("cursor_at", None)
    fields["next_attempt_at"] = fields.pop("due_at")
    return fields


def _to_attempt(row: dict[str, Any]) -> DeliveryAttempt:
    body = row.pop("body")
    times = {
        name: None if row[name] is None else round(row[name], 2)
        for name in ("dns_ms", "connect_ms", "wait_ms", "total_ms")
    }
    response = None if body is None else body.decode("utf-8", "replace")
    return DeliveryAttempt(**row | times, response=response)

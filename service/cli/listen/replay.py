"""Past events for `leadlog listen`: read from the log, or sent again by the service."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from service.cli.listen.api_client import ApiClient
from service.cli.listen.forwarding import sign_anew
from service.validation.field_types import parse_moment

PAGE = 500
POLL_S = 0.3
LAST_EVENTS_S = 1
"""The log shows an event some 25 ms after its request has ended."""
_SPAN = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Receive = Callable[[Mapping[str, str], bytes], Awaitable[int]]
Report = Callable[[str], None]


class Span(NamedTuple):
    """The times of the events to replay; the webhook created at `until` delivers later ones."""

    since: datetime
    until: datetime


class _Head(msgspec.Struct):
    id: str
    type: str
    created_at: str = msgspec.field(name="createdAt")


class _Pagination(msgspec.Struct, rename="camel"):
    has_more: bool
    next_cursor: str


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination: _Pagination


class _Task(msgspec.Struct):
    id: str
    state: str
    seen: int
    sent: int
    expired: int


def parse_since(text: str, now: datetime) -> datetime:
    """Parses a span before now (`90s`, `30m`, `2h`, `3d`) or a time. ValueError for other text."""
    if match := _SPAN.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return parse_moment(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a span nor a time") from None


async def read_log(
    api: ApiClient,
    key: bytes,
    span: Span,
    types: Sequence[str],
    receive: Receive,
    report: Report,
) -> int:
    """Passes each event of the log in the span to `receive`, signed; returns their number."""
    count, seen = 0, 0
    query: dict[str, str | int] = {"limit": PAGE, "types": ",".join(types)}
    while True:
        page = await api.call("GET", "/v1/events", _Page, **query)
        before = seen
        for raw in page.data:
            head = msgspec.json.decode(raw, type=_Head)
            made_at = parse_moment(head.created_at)
            seen += made_at < span.until
            if span.since <= made_at < span.until:
                await receive(sign_anew(key, head.id, bytes(raw)), bytes(raw))
                count += 1
        if seen > before or "after" not in query:
            report(f"Replayed {count:,} of {seen:,} events in the log.")
        if not page.pagination.has_more:
            if "wait" in query:
                return count
            query["wait"] = LAST_EVENTS_S
        query["after"] = page.pagination.next_cursor


async def replay_webhook(api: ApiClient, webhook_id: str, since: datetime, report: Report) -> None:
    """Makes the service send the webhook's events from `since` on again; reports the progress."""
    path = f"/v1/webhooks/{webhook_id}"
    body = {"since": since.astimezone(UTC).isoformat()}
    task = await api.call("POST", f"{path}/replay", _Task, body)
    while True:
        expired = f", {task.expired:,} expired" if task.expired else ""
        state = f", {task.state}" if task.state != "running" else ""
        report(f"Replay {task.id}: {task.seen:,} seen, {task.sent:,} sent{expired}{state}.")
        if task.state != "running":
            return
        await asyncio.sleep(POLL_S)
        task = await api.call("GET", f"{path}/replays/{task.id}", _Task)


async def resend(api: ApiClient, webhook_id: str, delivery_id: str, report: Report) -> None:
    """Makes the service send one delivery again."""
    path = f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"
    await api.call("POST", path, object, {})
    report(f"{delivery_id} is sent again.")

"""What happened before `leadlog listen` began: read from the log, or sent again by the service."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import aiohttp
import msgspec

from service.listen.api_client import call_api
from service.listen.forwarding import sign_anew
from service.models import parse_moment

PAGE = 500
POLL_S = 0.3
_SPAN = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Hear = Callable[[Mapping[str, str], bytes], Awaitable[int]]
Say = Callable[[str], None]


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
    """A span before now (`90s`, `30m`, `2h`, `3d`) or a time. ValueError if it is neither."""
    if match := _SPAN.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return parse_moment(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a span nor a time") from None


async def read_log(
    session: aiohttp.ClientSession, key: bytes, since: datetime, types: Sequence[str], hear: Hear,
    say: Say,
) -> int:  # fmt: skip
    """Lets `hear` have each event of the log since then, signed with the key; how many there were.

    What happens meanwhile is not waited for: the webhook brings that.
    """
    count, looked_at = 0, 0
    query: dict[str, str | int] = {"limit": PAGE, "types": ",".join(types)}
    while True:
        content = await call_api(session, "GET", "/v1/events", **query)
        page = msgspec.json.decode(content, type=_Page)
        for raw in page.data:
            head = msgspec.json.decode(raw, type=_Head)
            if parse_moment(head.created_at) >= since:
                await hear(sign_anew(key, head.id, bytes(raw)), bytes(raw))
                count += 1
        looked_at += len(page.data)
        say(f"Replayed {count:,} of {looked_at:,} events in the log.")
        if not page.pagination.has_more:
            return count
        query["after"] = page.pagination.next_cursor


async def replay_webhook(
    session: aiohttp.ClientSession, webhook_id: str, since: datetime, say: Say
) -> None:
    """Has the service send again what this webhook was sent since then; says how far it is."""
    path = f"/v1/webhooks/{webhook_id}"
    body = {"since": since.astimezone(UTC).isoformat()}
    started = await call_api(session, "POST", f"{path}/replay", body)
    task = msgspec.json.decode(started, type=_Task)
    while True:
        say(f"Replay {task.id}: {task.seen:,} looked at, {task.sent:,} on their way"
            + (f", {task.expired:,} expired" if task.expired else "")
            + (f", {task.state}." if task.state != "running" else "."))  # fmt: skip
        if task.state != "running":
            return
        await asyncio.sleep(POLL_S)
        found = await call_api(session, "GET", f"{path}/replays/{task.id}")
        task = msgspec.json.decode(found, type=_Task)


async def resend(
    session: aiohttp.ClientSession, webhook_id: str, delivery_id: str, say: Say
) -> None:
    """Has the service send one delivery again."""
    await call_api(
        session, "POST", f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", {}
    )
    say(f"{delivery_id} is on its way again.")

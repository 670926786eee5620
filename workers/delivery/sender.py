"""One webhook request: signed, sent, its answer read up to a bound, its time split up."""

import asyncio
import ssl
import time
from datetime import UTC, datetime

import msgspec

from service.logs import get_logger
from workers.delivery.connections import Connections
from workers.delivery.egress import BlockedDialError, DialError, DialTimeoutError, UnknownNameError
from workers.delivery.places import InvalidUrlError, Place, parse_place
from workers.delivery.signing import sign
from workers.delivery.wire import (
    MAX_KEPT_BYTES,
    Answer,
    BadAnswerError,
    IncompleteError,
    StaleError,
    Wire,
)

USER_AGENT = "Leadlog/0.1 (+webhooks)"
log = get_logger("sender")

_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (BlockedDialError, "blocked_address"),
    (DialTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (InvalidUrlError, "invalid_url"),
    (UnknownNameError, "dns"),
    (ssl.SSLCertVerificationError, "certificate"),
    (ssl.SSLError, "tls"),
    (DialError, "connect"),
    (BadAnswerError, "bad_answer"),
    (IncompleteError, "incomplete"),
    (OSError, "connection_lost"),
)
"""The first that fits."""


class Target(msgspec.Struct, frozen=True):
    """Where to send, and how: an endpoint with its secrets opened."""

    tenant_id: int
    live: bool
    id: str
    url: str
    keys: tuple[bytes, ...]
    headers: dict[str, str]
    timeout_s: float
    thin: bool
    retry: str
    rate_limit: int | None
    trips: int
    """How often its breaker had opened, when it was looked up."""

    def __repr__(self) -> str:
        return f"Target({self.id})"


class Attempt(msgspec.Struct):
    """What came of a request; times in ms. A 2xx status has no error, whatever its body did."""

    at: datetime
    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    control: str | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    wait_ms: float | None = None
    total_ms: float = 0.0
    body: bytes | None = None
    truncated: bool = False


async def send(
    connections: Connections, target: Target, event_id: str, number: int, body: bytes
) -> Attempt:
    """Makes one attempt, number `number`. Never raises but when it is cancelled."""
    attempt = Attempt(datetime.now(UTC))
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(target.timeout_s):
            place = parse_place(target.url)
            timestamp = int(attempt.at.timestamp())
            head = make_head(place, target, event_id, number, timestamp, body)
            await _deliver(connections, place, head + body, attempt, begun)
    except Exception as error:  # whatever a stranger's server does to us
        attempt.error = None if _is_success(attempt.status) else classify(error)
        if attempt.error == "internal":
            log.exception("attempt.broken", endpoint_id=target.id, event_id=event_id)
    attempt.total_ms = (time.perf_counter() - begun) * 1000
    return attempt


def make_head(
    place: Place, target: Target, event_id: str, number: int, timestamp: int, body: bytes
) -> bytes:
    """The request up to its body. Raises ValueError if a header would end its line."""
    own = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    if own.count("\n") + own.count("\r") != 2 * len(target.headers):
        raise ValueError("a header holds a line break")
    return (
        f"POST {place.target} HTTP/1.1\r\nHost: {place.host}\r\n{own}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"User-Agent: {USER_AGENT}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        f"webhook-id: {event_id}\r\nwebhook-timestamp: {timestamp}\r\n"
        f"webhook-signature: {sign(target.keys, event_id, timestamp, body)}\r\n"
        f"webhook-attempt: {number}\r\n\r\n"
    ).encode()


def classify(error: BaseException) -> str:
    """A short name for what went wrong."""
    return next((name for kind, name in _ERRORS if isinstance(error, kind)), "internal")


async def _deliver(
    connections: Connections, place: Place, request: bytes, attempt: Attempt, begun: float
) -> None:
    wire = connections.take(place.origin)
    if wire is not None:
        try:
            await _exchange(connections, wire, request, attempt, begun)
        except StaleError:  # it had been idle for too long: that says nothing about the other side
            pass
        else:
            return
    wire = await connections.dial(place.origin, attempt)
    await _exchange(connections, wire, request, attempt, begun)


async def _exchange(
    connections: Connections, wire: Wire, request: bytes, attempt: Attempt, begun: float
) -> None:
    answer = Answer()
    try:
        await wire.exchange(request, answer)
    finally:
        connections.give_back(wire)
        _note(attempt, answer, begun)


def _note(attempt: Attempt, answer: Answer, begun: float) -> None:
    if not answer.status:
        return
    attempt.status = answer.status
    attempt.wait_ms = (answer.head_at - begun) * 1000
    attempt.retry_after, attempt.control = answer.retry_after, answer.control
    attempt.body = bytes(answer.body[:MAX_KEPT_BYTES])
    attempt.truncated = not answer.ended
    if not _is_success(answer.status):
        attempt.error = "redirect" if 300 <= answer.status < 400 else "status"  # noqa: PLR2004


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300  # noqa: PLR2004  # 2xx

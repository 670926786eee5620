"""One webhook request: signs it, sends it, keeps a bounded response and the durations."""

import asyncio
import ssl
import time
from datetime import UTC, datetime

import msgspec

from service.telemetry.logging import get_logger
from service.webhooks.signing import sign
from workers.delivery.connections import Connections
from workers.delivery.egress import BlockedDialError, DialError, DialTimeoutError, UnknownNameError
from workers.delivery.http_connection import (
    MAX_KEPT_BYTES,
    HttpConnection,
    IncompleteBodyError,
    InvalidResponseError,
    Response,
    StaleConnectionError,
)
from workers.delivery.parsed_url import InvalidUrlError, ParsedUrl, parse_url

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
    (InvalidResponseError, "invalid_response"),
    (IncompleteBodyError, "incomplete"),
    (OSError, "connection_lost"),
)
"""Error codes by exception; the first match counts."""


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as the dispatcher uses it, with decrypted secrets and headers."""

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
    """How often the breaker had opened when the endpoint was loaded."""

    def __repr__(self) -> str:
        return f"EndpointConfig({self.id})"  # keeps secrets out of logs


class Attempt(msgspec.Struct):
    """The result of one request. A 2xx status has no error, even with an incomplete body."""

    at: datetime
    """The time that the signature contains."""
    started_at: float = msgspec.field(default_factory=time.monotonic)
    """The same moment by time.monotonic."""
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
    connections: Connections,
    endpoint: EndpointConfig,
    event_id: str,
    number: int,
    body: bytes,
    at: datetime | None = None,
) -> Attempt:
    """Makes attempt `number`. Raises nothing but CancelledError.

    The caller gives the current time `at` if the clock of this process may be wrong.
    """
    attempt = Attempt(at or datetime.now(UTC))
    started_at = time.perf_counter()
    try:
        async with asyncio.timeout(endpoint.timeout_s):
            url = parse_url(endpoint.url)
            timestamp = int(attempt.at.timestamp())
            head = make_head(url, endpoint, event_id, number, timestamp, body)
            await _send_on_any(connections, url, head + body, attempt, started_at)
    except Exception as error:  # whatever a receiver does must not stop the dispatcher
        attempt.error = None if _is_success(attempt.status) else classify(error)
        if attempt.error == "internal":
            log.exception("attempt.broken", endpoint_id=endpoint.id, event_id=event_id)
    attempt.total_ms = (time.perf_counter() - started_at) * 1000
    return attempt


def make_head(
    url: ParsedUrl,
    endpoint: EndpointConfig,
    event_id: str,
    number: int,
    timestamp: int,
    body: bytes,
) -> bytes:
    """The request up to its body. Raises ValueError if a custom header contains a line break."""
    custom = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
    if custom.count("\n") + custom.count("\r") != 2 * len(endpoint.headers):
        raise ValueError("a header contains a line break")
    return (
        f"POST {url.target} HTTP/1.1\r\nHost: {url.host}\r\n{custom}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"User-Agent: {USER_AGENT}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        f"webhook-id: {event_id}\r\nwebhook-timestamp: {timestamp}\r\n"
        f"webhook-signature: {sign(endpoint.keys, event_id, timestamp, body)}\r\n"
        f"webhook-attempt: {number}\r\n\r\n"
    ).encode()


def classify(error: BaseException) -> str:
    """The error code for an exception."""
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), "internal")


async def _send_on_any(
    connections: Connections, url: ParsedUrl, request: bytes, attempt: Attempt, started_at: float
) -> None:
    """Sends on an idle connection, or on a new one if there is none or it has gone stale."""
    connection = connections.pop_idle(url.origin)
    if connection is not None:
        try:
            await _send_on(connections, connection, request, attempt, started_at)
        except StaleConnectionError:  # the receiver closed it while idle, which is no failure
            pass
        else:
            return
    connection = await connections.dial(url.origin, attempt)
    await _send_on(connections, connection, request, attempt, started_at)


async def _send_on(
    connections: Connections,
    connection: HttpConnection,
    request: bytes,
    attempt: Attempt,
    started_at: float,
) -> None:
    response = Response()
    try:
        await connection.send_request(request, response)
    finally:
        connections.give_back(connection)
        _record_response(attempt, response, started_at)


def _record_response(attempt: Attempt, response: Response, started_at: float) -> None:
    if not response.status:
        return
    attempt.status = response.status
    attempt.wait_ms = (response.head_at - started_at) * 1000
    attempt.retry_after, attempt.control = response.retry_after, response.control
    attempt.body = bytes(response.body[:MAX_KEPT_BYTES])
    attempt.truncated = not response.is_complete
    if not _is_success(response.status):
        attempt.error = "redirect" if 300 <= response.status < 400 else "status"  # noqa: PLR2004


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300  # noqa: PLR2004  # 2xx

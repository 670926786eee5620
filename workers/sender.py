"""One webhook request: signed, sent, its answer read up to a bound, its time split up."""

import asyncio
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec

from service.logs import get_logger
from workers.egress import BlockedDialError
from workers.signing import sign

MAX_KEPT_BYTES = 16 * 1024
USER_AGENT = "Leadlog/0.1 (+webhooks)"
log = get_logger("sender")

_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (aiohttp.InvalidURL, "invalid_url"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.ClientResponseError, "bad_answer"),
    (aiohttp.ClientPayloadError, "incomplete"),
    (aiohttp.ClientConnectionError, "connection_lost"),
    (OSError, "connection_lost"),
    (aiohttp.ClientError, "bad_answer"),
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
    reused: bool = False


def make_traces() -> aiohttp.TraceConfig:
    """Hooks that fill the times of the Attempt given as `trace_request_ctx`."""
    config = aiohttp.TraceConfig()
    config.on_dns_resolvehost_start.append(_begin_dns)
    config.on_dns_resolvehost_end.append(_end_dns)
    config.on_connection_create_start.append(_begin_connect)
    config.on_connection_create_end.append(_end_connect)
    config.on_connection_reuseconn.append(_note_reuse)
    return config


async def send(
    session: aiohttp.ClientSession, target: Target, event_id: str, number: int, body: bytes
) -> Attempt:
    """Makes one attempt, number `number`. Never raises but when it is cancelled."""
    attempt = Attempt(datetime.now(UTC))
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(target.timeout_s):
            headers = make_headers(target, event_id, number, int(attempt.at.timestamp()), body)
            try:
                await _exchange(session, target.url, headers, body, attempt, begun)
            except (aiohttp.ClientConnectionError, OSError):
                # The other side had closed an idle connection: that says nothing about it now.
                if not attempt.reused or attempt.status is not None:
                    raise
                await _exchange(session, target.url, headers, body, attempt, begun)
    except Exception as error:  # whatever a stranger's server does to us
        attempt.error = None if _is_success(attempt.status) else classify(error)
        if attempt.error == "internal":
            log.exception("attempt.broken", endpoint_id=target.id, event_id=event_id)
    attempt.total_ms = (time.perf_counter() - begun) * 1000
    return attempt


def make_headers(
    target: Target, event_id: str, number: int, timestamp: int, body: bytes
) -> dict[str, str]:
    """The endpoint's own headers first: ours cannot be replaced by them."""
    return {
        **target.headers,
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(target.keys, event_id, timestamp, body),
        "webhook-attempt": str(number),
    }


def classify(error: BaseException) -> str:
    """A short name for what went wrong."""
    if _was_blocked(error):
        return "blocked_address"
    return next((name for kind, name in _ERRORS if isinstance(error, kind)), "internal")


async def _exchange(
    session: aiohttp.ClientSession,
    url: str,
    headers: dict[str, str],
    body: bytes,
    attempt: Attempt,
    begun: float,
) -> None:
    async with session.post(
        url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=attempt
    ) as response:
        attempt.wait_ms = (time.perf_counter() - begun) * 1000
        attempt.status = response.status
        attempt.retry_after = response.headers.get("Retry-After")
        attempt.control = response.headers.get("webhook-delivery")
        if not _is_success(response.status):
            attempt.error = "redirect" if 300 <= response.status < 400 else "status"  # noqa: PLR2004
        kept = bytearray()
        try:
            while len(kept) <= MAX_KEPT_BYTES and (chunk := await response.content.readany()):
                kept += chunk
        finally:
            attempt.body = bytes(kept[:MAX_KEPT_BYTES])
            ended = response.content.at_eof()
            attempt.truncated = not ended or len(kept) > MAX_KEPT_BYTES
            if not ended:
                response.close()  # not to be read to its end, however long that is


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300  # noqa: PLR2004  # 2xx


def _was_blocked(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, BlockedDialError):
            return True
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return False


async def _begin_dns(_: Any, context: SimpleNamespace, __: Any) -> None:
    context.dns_begun = time.perf_counter()


async def _end_dns(_: Any, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.dns_ms = (time.perf_counter() - context.dns_begun) * 1000


async def _begin_connect(_: Any, context: SimpleNamespace, __: Any) -> None:
    context.connect_begun = time.perf_counter()


async def _end_connect(_: Any, context: SimpleNamespace, __: Any) -> None:
    attempt: Attempt = context.trace_request_ctx
    elapsed_ms = (time.perf_counter() - context.connect_begun) * 1000
    attempt.connect_ms = elapsed_ms - (attempt.dns_ms or 0.0)
    attempt.reused = False


async def _note_reuse(_: Any, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.reused = True

"""The log line and the metrics of a request."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import Counter, Histogram

from service.http.request import Request
from service.telemetry.logging import get_logger, write_info
from service.telemetry.metrics import REQUEST_SECONDS, REQUESTS

QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes that machines request every few seconds; their log lines have the level debug."""
log = get_logger("api")


class LogLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The log line of a request."""

    event: str
    part: str
    level: str
    at: datetime
    request_id: str
    method: str
    route: str
    path: str
    status: int
    ms: float
    key_id: str | None = None
    tenant_id: int | None = None
    live: bool | None = None
    error: str | None = None
    reason: str | None = None


def record(request: Request, status: int) -> None:
    """Count the request and write its log line."""
    seconds = time.perf_counter() - request.started_at
    route = request.route
    method = request.method if route != "unknown" else "other"
    counter, histogram = find_metrics(method, route, status)
    counter.inc()
    histogram.observe(seconds)
    line = LogLine(
        event="request.served",
        part="api",
        level="info",
        at=datetime.now(UTC),
        request_id=request.request_id,
        method=request.method,
        route=route,
        path=request.path[:200],
        status=status,
        ms=round(seconds * 1000, 2),
        error=request.error,
        reason=request.reason,
    )
    principal = request.known_principal
    if principal is not None:
        line.key_id, line.tenant_id = principal.key_id, principal.tenant_id
        line.live = principal.live
    if route in QUIET_ROUTES:
        log.debug(line.event, **_list_facts(line))
    elif not write_info(line):
        log.info(line.event, **_list_facts(line))


def count_refusal() -> None:
    """Count a refused request; the load shedder logs all refusals of a second in one line."""
    find_metrics("other", "shed", HTTPStatus.SERVICE_UNAVAILABLE)[0].inc()


def _list_facts(line: LogLine) -> dict[str, Any]:
    """The fields of a line, without those that a logger adds by itself."""
    facts: dict[str, Any] = msgspec.to_builtins(line)
    return {name: facts[name] for name in facts if name not in {"event", "part", "level", "at"}}


@lru_cache(maxsize=1024)  # finding a metric by its labels costs more than counting
def find_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """The metrics with these labels."""
    requests = REQUESTS.labels(method, route, str(status))
    return requests, REQUEST_SECONDS.labels(method, route)

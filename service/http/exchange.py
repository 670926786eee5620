"""One request and its answer on its way out: the request id, the log line, the metrics."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import Counter, Histogram
from starlette.types import Message, Scope, Send

from service.auth import Principal
from service.http.protocol import Headers, find_cycle
from service.ids import make_request_id
from service.logs import get_logger, write_info
from service.metrics import REQUEST_SECONDS, REQUESTS

QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked every few seconds by machines: their lines come at level debug."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
log = get_logger("api")


class LogLine(msgspec.Struct, omit_defaults=True):
    """What the log says of a request."""

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


class Exchange:
    """What the app is given as its `send`."""

    __slots__ = (
        "_begun",
        "_send",
        "error",
        "is_refused",
        "reason",
        "request_id",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self._begun = time.perf_counter()
        self.status: int | None = None
        self.error: str | None = None
        self.reason: str | None = None
        self.is_refused = False
        """One of many that the log and the metrics count together."""
        self.request_id = find_request_id(scope["fields"])

    async def __call__(self, message: Message) -> None:
        """Passes a message on, the head with what every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._complete(message.get("headers", ()))
        await self._send(message)

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Sends a whole answer at once; False if it must be sent in messages."""
        cycle = find_cycle(self._send)
        if cycle is None or not cycle.answer(status, self._complete(headers), body):
            return False
        self.status = status
        return True

    def _complete(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """With the request id and what is left of the limits."""
        own = (b"x-request-id", self.request_id.encode())
        return [*headers, own, *self.scope.get("limit_headers", ())]

    def record(self) -> None:
        """Counts the request and writes its line."""
        seconds = time.perf_counter() - self._begun
        scope, status = self.scope, int(self.status or HTTPStatus.INTERNAL_SERVER_ERROR)
        method, route = scope["method"], scope.get("route_path", "unknown")
        known_method = method if route != "unknown" else "other"
        counter, histogram = find_metrics(known_method, route, status)
        counter.inc()
        histogram.observe(seconds)
        line = LogLine(
            "request.served", "api", "info", datetime.now(UTC), self.request_id, method, route,
            scope["path"][:200], status, round(seconds * 1000, 2), error=self.error,
            reason=self.reason,
        )  # fmt: skip
        principal: Principal | None = scope.get("principal")
        if principal is not None:
            line.key_id, line.tenant_id = principal.key_id, principal.tenant_id
            line.live = principal.live
        if route in QUIET_ROUTES:
            log.debug(line.event, **_list_facts(line))
        elif not write_info(line):
            log.info(line.event, **_list_facts(line))


def _list_facts(line: LogLine) -> dict[str, Any]:
    """Without what a logger adds by itself."""
    facts: dict[str, Any] = msgspec.to_builtins(line)
    return {name: facts[name] for name in facts if name not in {"event", "part", "level", "at"}}


@lru_cache(maxsize=1024)  # finding a metric by its labels costs more than counting
def find_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    requests = REQUESTS.labels(method, route, str(status))
    return requests, REQUEST_SECONDS.labels(method, route)


def find_request_id(fields: Mapping[bytes, bytes]) -> str:
    """The caller's own id if it is a harmless one, else a new one."""
    given = fields.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return make_request_id()

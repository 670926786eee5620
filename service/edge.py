"""The outermost layer of the app: request ids, errors as JSON, one log line and metrics a request.

Pure ASGI: a middleware class of Starlette's would cost a task per request.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import Counter, Histogram
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import Principal
from service.db import DATABASE_AWAY, DATABASE_BUSY
from service.errors import TOO_MUCH, InternalError, Problem, Unavailable, encode_problem
from service.ids import make_request_id
from service.logs import get_logger, write_info
from service.metrics import REQUEST_SECONDS, REQUESTS
from service.routing import SegmentRouter
from service.shedding import Gate

OVERLOADED = Unavailable(TOO_MUCH)
QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked every few seconds by machines: their lines come at level debug."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
log = get_logger("api")


class Edge:
    """Wraps the router."""

    def __init__(self, app: ASGIApp, doc_url: str, gate: Gate, sheddable: tuple[str, ...]) -> None:
        """`sheddable`: beginnings of the paths that `gate` is for; health is never refused."""
        self._app = app
        self._answer: ASGIApp = app.app if isinstance(app, SegmentRouter) else app
        self._doc_url = doc_url
        self._gate = gate
        self._sheddable = tuple(f"{prefix}/" for prefix in sheddable)
        self._refusal = encode_problem(OVERLOADED, doc_url)
        length = str(len(self._refusal)).encode()
        self._refusal_headers = [
            (b"content-type", b"application/json"), (b"content-length", length),
            *((name.encode(), value.encode()) for name, value in OVERLOADED.headers.items()),
        ]  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # By name; of those that come twice the first.
        scope["fields"] = dict(reversed(scope["headers"]))
        if self._gate.is_shut and scope["path"].startswith(self._sheddable):
            await self._refuse(scope, send)
            return
        exchange = _Exchange(scope, send)
        self._gate.enter()
        try:
            await self._answer(scope, receive, exchange.send)
        except Exception as error:  # noqa: BLE001  # every error becomes an answer
            await self._answer_error(error, exchange, receive)
        finally:
            self._gate.leave(refused=exchange.status == HTTPStatus.SERVICE_UNAVAILABLE)
            exchange.record()

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """As cheap as can be: neither the body is read nor a line written."""
        self._gate.refuse()
        _find_metrics("other", "shed", HTTPStatus.SERVICE_UNAVAILABLE)[0].inc()
        request_id = (b"x-request-id", _find_request_id(scope["fields"]).encode())
        headers = [*self._refusal_headers, request_id]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": self._refusal})

    async def _answer_error(
        self, error: Exception, exchange: "_Exchange", receive: Receive
    ) -> None:
        problem = _to_problem(error)
        exchange.error = problem.code
        if exchange.status is not None:  # the answer has begun: all that is left is to break it off
            raise error
        if isinstance(problem, InternalError):
            log.error("request.failed", request_id=exchange.request_id, exc_info=error)
        elif isinstance(problem, Unavailable):
            exchange.reason = f"{type(error).__name__}: {error}"
        body = encode_problem(problem, self._doc_url)
        response = Response(body, problem.status, problem.headers, "application/json")
        await response(exchange.scope, receive, exchange.send)


def _to_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, DATABASE_AWAY):
        return Unavailable("The database cannot be reached right now; try again shortly.")
    if isinstance(error, DATABASE_BUSY):
        return Unavailable("Another transaction holds what this needs; try again shortly.")
    return InternalError("Something went wrong on our side; the request id helps to find it.")


class Line(msgspec.Struct, omit_defaults=True):
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


class _Exchange:
    """One request and its answer, as far as the log and the metrics care."""

    __slots__ = ("_begun", "_send", "error", "reason", "request_id", "scope", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self._begun = time.perf_counter()
        self.status: int | None = None
        self.error: str | None = None
        self.reason: str | None = None
        self.request_id = _find_request_id(scope["fields"])

    async def send(self, message: Message) -> None:
        """Passes a message on, the head with its request id and what is left of the limits."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()), (b"x-request-id", self.request_id.encode()),
                *self.scope.get("limit_headers", ()),
            ]  # fmt: skip
        await self._send(message)

    def record(self) -> None:
        """Counts the request and writes its line."""
        seconds = time.perf_counter() - self._begun
        scope, status = self.scope, int(self.status or HTTPStatus.INTERNAL_SERVER_ERROR)
        method, route = scope["method"], scope.get("route_path", "unknown")
        known_method = method if route != "unknown" else "other"
        counter, histogram = _find_metrics(known_method, route, status)
        counter.inc()
        histogram.observe(seconds)
        line = Line(
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


def _list_facts(line: Line) -> dict[str, Any]:
    """Without what a logger adds by itself."""
    facts: dict[str, Any] = msgspec.to_builtins(line)
    return {name: facts[name] for name in facts if name not in {"event", "part", "level", "at"}}


@lru_cache(maxsize=1024)  # finding a metric by its labels costs more than counting
def _find_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    requests = REQUESTS.labels(method, route, str(status))
    return requests, REQUEST_SECONDS.labels(method, route)


def _find_request_id(fields: Mapping[bytes, bytes]) -> str:
    """The caller's own id if it is a harmless one, else a new one."""
    given = fields.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return make_request_id()

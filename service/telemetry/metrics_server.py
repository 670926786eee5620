"""Metrics over HTTP: rendered at most once a second, and protected by METRICS_TOKEN if it is set.

The API serves them on its own port, or on METRICS_PORT if that is set; the workers serve them on
METRICS_PORT only. If METRICS_TOKEN is set, a scrape must send it as a bearer token.
"""

import asyncio
import contextlib
import hmac
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import uvicorn
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from service.errors import MethodNotAllowed, NotFound, Problem, Unauthorized, encode_problem
from service.settings import Settings
from service.telemetry.metrics import render_metrics

KEPT_S = 1.0
PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_AT_ONCE = 20
"""The limit of connections to METRICS_PORT; one scraper needs one."""
KEEP_ALIVE_S = 75
"""Longer than the pause of most scrapers; at the limit, idle connections are closed."""
MakeProtocol = Callable[[Settings], type[asyncio.Protocol]]
Measure = Callable[[], Awaitable[None]]


class MetricsPage:
    """The Prometheus text, cached for a second; concurrent scrapes wait for the same rendering."""

    def __init__(
        self, measure: Measure | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`measure` sets the gauges that are read from the database, before each rendering."""
        self._measure = measure
        self._clock = clock
        self._text = b""
        self._kept_until = 0.0
        self._making: asyncio.Task[bytes] | None = None

    async def read(self) -> bytes:
        """Return the text, at most a second old."""
        if self._clock() < self._kept_until:
            return self._text
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make(), name="metrics")
        return await asyncio.shield(self._making)  # a cancelled scrape must not cancel the others

    async def _make(self) -> bytes:
        if self._measure is not None:
            await self._measure()
        self._text = await asyncio.to_thread(render_metrics)
        self._kept_until = self._clock() + KEPT_S
        return self._text


def check_token(authorization: str | None, settings: Settings) -> None:
    """Raise Unauthorized if METRICS_TOKEN is set and the header does not contain it."""
    if settings.metrics_token is None:
        return
    scheme, _, token = (authorization or "").partition(" ")
    token = token.lstrip(" ")  # RFC 9110, 11.4: one or more spaces
    is_right = hmac.compare_digest(token.encode(), settings.metrics_token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise Unauthorized("Metrics need the header Authorization: Bearer <METRICS_TOKEN>.")


class _MetricsServer(uvicorn.Server):
    """A uvicorn server that leaves the signals of its process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving_metrics(
    page: MetricsPage, settings: Settings, make_protocol: MakeProtocol
) -> AsyncIterator[None]:
    """Serve /metrics on METRICS_PORT while entered; do nothing if it is not set.

    `make_protocol` makes the HTTP protocol of the API, with the limits in the settings.
    """
    if settings.metrics_port is None:
        yield
        return
    http = make_protocol(replace(settings, max_connections=MOST_AT_ONCE))
    config = uvicorn.Config(
        make_app(page, settings), http=http, ws="none", lifespan="off", access_log=False,
        log_config=None, server_header=False,
        proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _MetricsServer(config)
    with _listen(settings.host, settings.metrics_port) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="metrics server")
        try:
            yield
        finally:
            server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    """Listen on the port, which the processes of one `leadlog serve` share.

    Any of them may respond, because each renders the metrics of all of them.
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen()  # accept connections before the server's task runs for the first time
    return listener


def make_app(page: MetricsPage, settings: Settings) -> Callable[..., Awaitable[None]]:
    """Make an ASGI app that serves /metrics only."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        headers = {"content-type": CONTENT_TYPE}
        try:
            status, body = 200, await _answer(scope, page, settings)
        except Problem as problem:
            status, body = problem.status, encode_problem(problem, settings.public_docs_url)
            headers = {"content-type": "application/json", **problem.headers}
        headers["content-length"] = str(len(body))
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return app


async def _answer(scope: Scope, page: MetricsPage, settings: Settings) -> bytes:
    if scope["path"] != PATH:
        raise NotFound(f"Here is only {PATH}.")
    if scope["method"] not in {"GET", "HEAD"}:
        raise MethodNotAllowed("Use GET.", headers={"Allow": "GET, HEAD"})
    check_token(dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"), settings)
    return await page.read()

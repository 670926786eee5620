"""The outermost layer of the app: admission, errors as JSON, a log line and metrics per request.

Pure ASGI: a middleware class of Starlette would cost a task per request.
"""

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.database.connect import DATABASE_AWAY, DATABASE_BUSY, DISK_FULL
from service.database.partitions import is_partition_missing
from service.database.schema import SCHEMA_BEHIND
from service.errors import InternalError, Overloaded, Problem, Unavailable
from service.http.access_log import count_refusal, log, record
from service.http.request import Request
from service.http.responses import Response, explain
from service.http.router import SegmentRouter
from service.load.callers import Caller
from service.load.load_shedder import SHARE, LoadShedder
from service.load.owner import OWNER
from service.telemetry.metrics import REQUESTS_SHED


class Middleware:
    """The ASGI app around the router."""

    def __init__(
        self, router: SegmentRouter, doc_url: str, shedder: LoadShedder, sheddable: tuple[str, ...]
    ) -> None:
        """`sheddable`: prefixes of the paths that `shedder` may refuse; health is never refused."""
        self._router = router
        self._lifespan: ASGIApp = router
        self._doc_url = doc_url
        self._shedder = shedder
        self._sheddable = tuple(f"{prefix}/" for prefix in sheddable)
        self._refusal = explain(Overloaded(), doc_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        request = Request(scope, receive)
        if not request.path.startswith(self._sheddable):
            OWNER.set(None)
            await self._send(request, await self._respond(request), send)
            return
        caller = self._identify(request)
        if not caller.has_key:
            if await self._answer_without_key(request, caller, send):
                return
            caller = self._identify(request)
        if self._shedder.refuses(caller):
            REQUESTS_SHED.labels("loop").inc()
            with self._shedder.refusing(caller, started=False):
                await self._refuse(request, caller, send)
            return
        await self._admit(request, caller, send)

    def _identify(self, request: Request) -> Caller:
        caller = self._shedder.identify(request.fields, request.scope.get("client"))
        OWNER.set(caller)
        if request.cycle is not None:
            request.cycle.set_owner(caller.name)
        return caller

    async def _answer_without_key(self, request: Request, address: Caller, send: Send) -> bool:
        """Respond to a request without a valid key; False, and no response, if its key is valid.

        A key that this process has not seen yet is looked up once, as part of a batch, before the
        request can be refused: other clients may share its address, behind a proxy for example.
        """
        with self._shedder.identifying(address):
            response = await self._respond_without_key(request)
            if response is None:
                return False
            if self._shedder.count_unidentified(address):
                await asyncio.sleep(address.refusal_delay_s)
        await self._send(request, response, send)
        return True

    async def _respond_without_key(self, request: Request) -> Response | None:
        header = request.fields.get(b"authorization")
        try:
            if header is not None and await request.state.auth.is_valid(header):
                return None
            return await self._router.respond(request)
        except Exception as error:  # noqa: BLE001  # every error becomes a response
            return self._explain(error, request)

    async def _admit(self, request: Request, caller: Caller, send: Send) -> None:
        shedder, is_refused = self._shedder, True
        shedder.request_started(caller)
        try:
            if caller.working > SHARE:
                await shedder.wait_for_share(caller)
            response = await self._respond(request)
            is_refused = response.status == HTTPStatus.SERVICE_UNAVAILABLE
            await self._send(request, response, send)
        except Overloaded:
            with shedder.refusing(caller, started=True):
                await self._refuse(request, caller, send)
        finally:
            shedder.request_finished(caller, refused=is_refused)

    async def _respond(self, request: Request) -> Response:
        """The response, also to an error. Raises Overloaded if the request may be refused."""
        try:
            return await self._router.respond(request)
        except Overloaded as error:
            if OWNER.get() is not None:
                raise
            return self._explain(error, request)
        except Exception as error:  # noqa: BLE001  # every error becomes a response
            return self._explain(error, request)

    def _explain(self, error: Exception, request: Request) -> Response:
        problem = to_problem(error)
        request.error = problem.code
        if isinstance(problem, InternalError):
            log.error("request.failed", request_id=request.request_id, exc_info=error)
        elif isinstance(problem, Unavailable):
            request.reason = f"{type(error).__name__}: {error}"
        return explain(problem, self._doc_url)

    async def _send(self, request: Request, response: Response, send: Send) -> None:
        own = (b"x-request-id", request.request_id.encode())
        try:
            await response.send(request.cycle, send, (own, *request.limit_headers))
        finally:
            record(request, response.status)

    async def _refuse(self, request: Request, caller: Caller, send: Send) -> None:
        """Send a refusal, as cheaply as possible: no body is read and no line is logged."""
        count_refusal()
        await asyncio.sleep(caller.refusal_delay_s)
        own = (b"x-request-id", request.request_id.encode())
        await self._refusal.send(request.cycle, send, (own,))


def to_problem(error: Exception) -> Problem:
    """Convert an error to the problem that the client receives."""
    if isinstance(error, Problem):
        return error
    for kinds, message in _UNAVAILABLE:
        if isinstance(error, kinds):
            return Unavailable(message)
    if is_partition_missing(error):
        return Unavailable(
            "The database's clock was set, and its partitions are being made; try again shortly."
        )
    return InternalError("Something went wrong on our side; the request id helps to find it.")


_UNAVAILABLE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (DISK_FULL, "The database's disk is full: nothing can be written until it has room."),
    (DATABASE_AWAY, "The database cannot be reached right now; try again shortly."),
    (SCHEMA_BEHIND, "The database lacks migrations that this needs; run `leadlog migrate`."),
    (DATABASE_BUSY, "Another transaction holds a lock that this request needs; try again shortly."),
)
"""The message to the client for each error of the database; the first match counts."""

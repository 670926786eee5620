"""The outermost layer of the app: request ids, errors as JSON, one log line and metrics a request.

Pure ASGI: a middleware class of Starlette's would cost a task per request.
"""

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.db import DATABASE_AWAY, DATABASE_BUSY
from service.errors import InternalError, Overloaded, Problem, Unavailable, encode_problem
from service.http.exchange import Exchange, find_metrics, log
from service.http.replies import Reply
from service.http.routing import SegmentRouter
from service.metrics import REQUESTS_SHED
from service.shedding import Gate

REFUSAL_DELAY_S = 0.1
"""Who asks again as soon as it is refused would take the time of those who are let in."""


class Edge:
    """Wraps the router."""

    def __init__(self, app: ASGIApp, doc_url: str, gate: Gate, sheddable: tuple[str, ...]) -> None:
        """`sheddable`: beginnings of the paths that `gate` is for; health is never refused."""
        self._app = app
        self._answer: ASGIApp = app.app if isinstance(app, SegmentRouter) else app
        self._doc_url = doc_url
        self._gate = gate
        self._sheddable = tuple(f"{prefix}/" for prefix in sheddable)
        self._refusal = make_reply(Overloaded(), doc_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # By name; of those that come twice the first.
        scope["fields"] = dict(reversed(scope["headers"]))
        exchange = Exchange(scope, send)
        if self._gate.is_shut and scope["path"].startswith(self._sheddable):
            REQUESTS_SHED.labels("loop").inc()
            await self._refuse(exchange, receive)
            return
        self._gate.enter()
        try:
            await self._answer(scope, receive, exchange)
        except Overloaded:
            with self._gate.resting():
                await self._refuse(exchange, receive)
        except Exception as error:  # noqa: BLE001  # every error becomes an answer
            await self._answer_error(error, exchange, receive)
        finally:
            self._gate.leave(refused=exchange.status == HTTPStatus.SERVICE_UNAVAILABLE)
            if not exchange.is_refused:
                exchange.record()

    async def _refuse(self, exchange: Exchange, receive: Receive) -> None:
        """As cheap as can be: neither the body is read nor a line written."""
        exchange.is_refused = True
        self._gate.refuse()
        find_metrics("other", "shed", HTTPStatus.SERVICE_UNAVAILABLE)[0].inc()
        await asyncio.sleep(REFUSAL_DELAY_S)
        await self._refusal(exchange.scope, receive, exchange)

    async def _answer_error(self, error: Exception, exchange: Exchange, receive: Receive) -> None:
        problem = _to_problem(error)
        exchange.error = problem.code
        if exchange.status is not None:  # the answer has begun: all that is left is to break it off
            raise error
        if isinstance(problem, InternalError):
            log.error("request.failed", request_id=exchange.request_id, exc_info=error)
        elif isinstance(problem, Unavailable):
            exchange.reason = f"{type(error).__name__}: {error}"
        await make_reply(problem, self._doc_url)(exchange.scope, receive, exchange)


def make_reply(problem: Problem, doc_url: str) -> Reply:
    """What is answered when it is raised."""
    return Reply(encode_problem(problem, doc_url), problem.status, problem.headers.items())


def _to_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, DATABASE_AWAY):
        return Unavailable("The database cannot be reached right now; try again shortly.")
    if isinstance(error, DATABASE_BUSY):
        return Unavailable("Another transaction holds what this needs; try again shortly.")
    return InternalError("Something went wrong on our side; the request id helps to find it.")

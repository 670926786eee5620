"""All operations of one path: authenticate, apply the limits, call the handler."""

from collections.abc import Awaitable

from service.errors import MethodNotAllowed
from service.http.idempotency import HEADER_FIELD, respond_once
from service.http.operations import NoBody, NoQuery, Operation
from service.http.request import Request
from service.http.responses import Response
from service.settings import Settings

DEADLINE_MARGIN_S = 2.0


class Resource:
    """The operations by method; HEAD is handled as GET."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(sorted(self._operations))

    async def respond(self, request: Request) -> Response:
        """The response of the operation. Raises Problem, or an error of the database."""
        operation = self._operations.get(request.method)
        if operation is None:
            message = f"{request.method} is not allowed here; use {self._allow}."
            raise MethodNotAllowed(message, headers={"Allow": self._allow})
        request.route = operation.path
        state = request.state
        if operation.shed_first:
            state.pool.check()
        with state.deadlines.limit(find_deadline_s(operation, state.settings)):
            return await _authorize(operation, request)


async def _authorize(operation: Operation, request: Request) -> Response:
    if operation.scope is None:
        return await _handle(operation, request)
    auth, header = request.state.auth, request.header(b"authorization")
    request.principal = principal = auth.authenticate_now(
        header, operation.scope
    ) or await auth.authenticate(header, operation.scope)
    if principal.plan is None:
        return await _handle(operation, request)
    limiter, asked = request.state.limiter, (principal.key_id, principal.plan, operation.route)
    admission = limiter.admit_now(*asked) or await limiter.admit(*asked)
    request.limit_headers = admission.headers
    try:
        return await _handle(operation, request)
    finally:
        admission.end()


def _handle(operation: Operation, request: Request) -> Awaitable[Response]:
    if operation.query is NoQuery and request.scope["query_string"]:
        request.query(NoQuery)
    if operation.refuses_body:
        return _handle_without_body(operation, request)
    return _call(operation, request)


async def _handle_without_body(operation: Operation, request: Request) -> Response:
    await request.body(NoBody)
    return await _call(operation, request)


def _call(operation: Operation, request: Request) -> Awaitable[Response]:
    if operation.is_idempotent and HEADER_FIELD in request.fields:
        return respond_once(operation, request)
    return operation.handler(request)


def find_deadline_s(operation: Operation, settings: Settings) -> float:
    """Seconds after which a request ends with 503 because the database does not respond.

    Statements time out earlier; the deadline is for a frozen server or network.
    """
    takes_body = operation.body is not None or operation.refuses_body
    body_s = settings.body_timeout_s if takes_body else 0.0
    return settings.statement_timeout_s + DEADLINE_MARGIN_S + body_s + operation.may_wait_s

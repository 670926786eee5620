"""A request as a handler sees it: who calls, the body and the query as structs."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from service.auth import Authenticator, Principal
from service.db import Connection
from service.docs.page import Page
from service.drain import Drain
from service.errors import Fault, InvalidRequest, MethodNotAllowed, NotFound, Problem
from service.feed import Feed
from service.http.bodies import read_body
from service.http.deadlines import Deadlines
from service.keys import Scope
from service.leads.search import LeadSearch
from service.leads.store import LeadStore
from service.limits.limiter import Limiter
from service.pool import BoundedPool
from service.request_keys import RequestKey
from service.settings import Settings
from service.shedding import Gate
from service.validation import T, decode_body, decode_query
from service.wakeups import Wakeups

MAX_ID_LENGTH = 100
DEADLINE_MARGIN_S = 2.0
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class State:
    """What lives as long as the process."""

    settings: Settings
    pool: BoundedPool
    batched_pool: BoundedPool
    """For what must not wait in line: batches, and the look whether all is well."""
    auth: Authenticator
    limiter: Limiter
    leads: LeadStore
    search: LeadSearch
    wakeups: Wakeups
    feed: Feed
    openapi: bytes
    docs: Page
    drain: Drain
    deadlines: Deadlines
    gate: Gate


class Call:
    """One request, its principal known (unless the route is open to all)."""

    __slots__ = ("_principal", "_receive", "keyed", "raw", "scope", "state")

    def __init__(
        self, scope: AsgiScope, receive: Receive, state: State, principal: Principal | None
    ) -> None:
        self.scope = scope
        self._receive = receive
        self.state = state
        self._principal = principal
        self.raw: bytes | None = None
        """The body, once it has been read."""
        self.keyed: Keyed | None = None
        """What service.http.idempotency makes of an Idempotency-Key."""

    @property
    def principal(self) -> Principal:
        """Who calls; only on routes that need a key."""
        if self._principal is None:
            raise RuntimeError("this route is open to all: it has no principal")
        return self._principal

    @property
    def path_params(self) -> dict[str, str]:
        """What stands in the path for its parameters."""
        found: dict[str, str] = self.scope["path_params"]
        return found

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.path_id("id")

    @property
    def whose(self) -> tuple[int, bool, str]:
        """The caller's tenant and mode, and the id in the path."""
        return self.principal.tenant_id, self.principal.live, self.id

    def path_id(self, name: str) -> str:
        """An id in the path. What cannot be one of ours is not found, like any unknown one."""
        text = self.path_params[name]
        if not 1 <= len(text) <= MAX_ID_LENGTH or not text.isascii() or not text.isprintable():
            raise NotFound("There is nothing with this id.")
        return text

    async def body(self, kind: type[T]) -> T:
        """The body as a struct."""
        state = self.state
        raw = self.raw = await read_body(
            self.scope["fields"], self._receive, state.settings, state.deadlines
        )
        return decode_body(raw, kind)

    def query(self, kind: type[T]) -> T:
        """The query string as a struct."""
        return decode_query(split_query(self.scope["query_string"]), kind)

    def header(self, name: str) -> str | None:
        """A header of the request, by its name in lower case."""
        return get_header(self.scope, name)

    @property
    def request_key(self) -> RequestKey | None:
        """For a statement that keeps its own answer: under what; None without Idempotency-Key."""
        return self.keyed.request_key if self.keyed else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; under an Idempotency-Key the transaction that will keep the answer."""
        if self.keyed is not None:
            yield await self.keyed.open_transaction()
        else:
            async with self.state.pool.acquire() as conn:
                yield conn


Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


class Keyed(Protocol):
    """A request that came with an Idempotency-Key."""

    @property
    def request_key(self) -> RequestKey: ...

    async def open_transaction(self) -> Connection: ...


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route that takes no query parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of the route table: who may call what, and what goes in and out."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    """The scope a key needs; None: open to all."""
    summary: str
    body: Any = None
    query: type[msgspec.Struct] = NoQuery
    reply: Any = None
    status: int = 200
    errors: tuple[type[Problem], ...] = ()
    """What can go wrong beside what its other fields tell: Conflict, Unprocessable."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Other statuses that are no errors in the contract's sense, with their replies."""
    has_etag: bool = False
    """Whether its answer bears the version of the lead."""
    keeps_answer: bool = False
    """Whether its own statement keeps the answer to an Idempotency-Key."""
    shows_secret: bool = False
    """Whether its answer is to be sealed where it is kept."""
    stands_in_line: bool = False
    """Whether it is refused before all else while the line for a connection is too long."""
    may_wait_s: float = 0.0
    """How long its handler may wait on purpose: a long poll."""
    media_type: str | None = None
    """Of a reply that is no struct."""
    route: str = field(init=False)
    """As plans name it: `POST /leads`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "route", f"{self.method} {self.path}")


class Resource:
    """All operations of one path, as an ASGI app; knows which methods the path allows."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(sorted(self._operations))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        operation = self._operations.get(scope["method"])
        if operation is None:
            message = f"{scope['method']} is not allowed here; use {self._allow}."
            raise MethodNotAllowed(message, headers={"Allow": self._allow})
        scope["route_path"] = operation.path
        state: State = scope["state"]["leadlog"]
        if operation.stands_in_line:
            state.pool.line.check()
        with state.deadlines.limit(find_deadline_s(operation, state.settings)):
            response = await _answer(operation, scope, receive, state)
        await response(scope, receive, send)


async def _answer(
    operation: Operation, scope: AsgiScope, receive: Receive, state: State
) -> Response:
    if operation.scope is None:
        return await _handle(operation, Call(scope, receive, state, None))
    header = get_header(scope, "authorization")
    asked_as = header, operation.scope
    principal = state.auth.authenticate_now(*asked_as) or await state.auth.authenticate(*asked_as)
    scope["principal"] = principal
    call = Call(scope, receive, state, principal)
    if principal.plan is None:
        return await _handle(operation, call)
    asked = principal.key_id, principal.plan, operation.route
    admission = state.limiter.admit_now(*asked) or await state.limiter.admit(*asked)
    scope["limit_headers"] = admission.headers
    try:
        return await _handle(operation, call)
    finally:
        admission.end()


def _handle(operation: Operation, call: Call) -> Awaitable[Response]:
    if operation.query is NoQuery and call.scope["query_string"]:
        call.query(NoQuery)
    return operation.handler(call)


def find_deadline_s(operation: Operation, settings: Settings) -> float:
    """Seconds after which a request is given up with 503: the database does not answer at all.

    Statements end by themselves before; this is for a server or a network that has frozen.
    """
    body_s = settings.body_timeout_s if operation.body is not None else 0.0
    return settings.statement_timeout_s + DEADLINE_MARGIN_S + body_s + operation.may_wait_s


def split_query(raw: bytes) -> list[tuple[str, str]]:
    """The pairs of a query string. Raises InvalidRequest where it is not UTF-8."""
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        message = "The query string is not valid UTF-8."
        raise InvalidRequest(message, details=[Fault("", "invalid_query", message)]) from None


def get_header(scope: AsgiScope, name: str) -> str | None:
    """The header of that name, in lower case."""
    value: bytes | None = scope["fields"].get(name.encode())
    return None if value is None else value.decode("latin-1")

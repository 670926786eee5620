"""A request as handlers see it: its caller, its body and query as structs, a connection."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from service.access.authentication import Principal
from service.database.connect import Connection
from service.errors import Fault, InvalidRequest, NotFound
from service.http.body import has_body, read_body
from service.http.idempotent_transaction import IdempotentTransaction
from service.http.server.cycle import find_cycle
from service.http.server.fields import Fields, Headers, collect_fields
from service.http.state import State
from service.idempotency_keys import IdempotencyKey, make_digest
from service.ids import make_request_id
from service.validation.decoding import T, decode_body, decode_query

MAX_ID_LENGTH = 100
MAX_PARAMETERS = 50
"""The limit of a query string, checked before it is parsed; no route has half as many."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
Value = TypeVar("Value", bound=msgspec.Struct)


class Request:
    """One request, from its head to its response.

    The middleware creates it, the resource adds route, principal and limits, and the access log
    reads it.
    """

    __slots__ = (
        "_principal", "_receive", "cycle", "error", "fields", "key_digest", "limit_headers",
        "method", "path", "path_params", "raw", "reason", "request_id", "route", "scope",
        "started_at", "state", "transaction",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.started_at = time.perf_counter()
        self.scope = scope
        self._receive = receive
        self.state: State = scope.get("state", {}).get("leadlog")  # None without a lifespan
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.cycle = find_cycle(scope)
        self.fields: Fields = (
            collect_fields(scope["headers"]) if self.cycle is None else self.cycle.fields
        )
        self.request_id = find_request_id(self.fields)
        self.route = "unknown"
        self.path_params: dict[str, str] = {}
        self._principal: Principal | None = None
        self.limit_headers: Headers = ()
        self.raw: bytes | None = None
        """The body, once it has been read."""
        self.key_digest: str | None = None
        """The digest of route and Idempotency-Key, if the request has that header."""
        self.transaction: IdempotentTransaction | None = None
        """The transaction of a handler whose response is stored under an Idempotency-Key."""
        self.error: str | None = None
        """The code of the problem in the response."""
        self.reason: str | None = None
        """The cause of a 503, for the log."""

    @property
    def principal(self) -> Principal:
        """The caller; only on routes that need a key."""
        if self._principal is None:
            raise RuntimeError("this route is open to all: it has no principal")
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal

    @property
    def known_principal(self) -> Principal | None:
        """The caller, if the request got as far as authentication."""
        return self._principal

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.path_id("id")

    @property
    def owner_and_id(self) -> tuple[int, bool, str]:
        """The caller's tenant and mode, and the id in the path."""
        return self.principal.tenant_id, self.principal.live, self.id

    def path_id(self, name: str) -> str:
        """An id in the path. Raises NotFound for text that cannot be an id."""
        text = self.path_params[name]
        if not 1 <= len(text) <= MAX_ID_LENGTH or not text.isascii() or not text.isprintable():
            raise NotFound("There is nothing with this id.")
        return text

    def header(self, name: bytes) -> str | None:
        """The value of a header, by its name in lower case."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self, kind: type[T]) -> T:
        """The query string as a struct."""
        return decode_query(split_query(self.scope["query_string"]), kind)

    async def body(self, kind: type[T]) -> T:
        """The body as a struct."""
        if getattr(kind, "may_be_absent", False) and not has_body(self.fields):
            self.raw = b""
            return kind()
        return decode_body(await self.read(), kind)

    async def read(self) -> bytes:
        """The bytes of the body."""
        if self.raw is None:
            state = self.state
            self.raw = await read_body(
                self.fields, self.cycle, self._receive, state.settings, state.deadlines
            )
        return self.raw

    @property
    def has_client_left(self) -> bool:
        """Whether the client has closed its side of the connection, so waiting is useless."""
        return self.cycle is not None and self.cycle.has_client_left

    def waiting_for(self, event: asyncio.Event) -> AbstractContextManager[None]:
        """Mark the request as waiting for an event, which is set, too, if the client leaves."""
        return nullcontext() if self.cycle is None else self.cycle.waiting_for(event)

    @property
    def idempotency_key(self) -> IdempotencyKey | None:
        """The digests for a statement that stores its response; None without the header.

        The digest of the request includes the body, so the body must have been read.
        """
        if self.key_digest is None:
            return None
        condition = self.header(b"if-match")
        request = make_digest(
            *self.path_params.values(),
            "any" if condition is None else f"={condition}",
            self.raw or b"",
        )
        return IdempotencyKey(self.key_digest, request)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection: with an Idempotency-Key, in the transaction that stores the response."""
        if self.transaction is not None:
            yield await self.transaction.begin(self.state.pool)
        else:
            async with self.state.pool.acquire() as conn:
                yield conn


def split_query(raw: bytes) -> list[tuple[str, str]]:
    """The pairs of a query string. Raises InvalidRequest for too many pairs or invalid UTF-8."""
    count = raw.count(b"&") + 1
    if count > MAX_PARAMETERS:
        message = f"The query string has {count} parameters; {MAX_PARAMETERS} are allowed."
        raise InvalidRequest(message, details=[Fault("", "too_many", message)])
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        message = "The query string is not valid UTF-8."
        raise InvalidRequest(message, details=[Fault("", "invalid_query", message)]) from None


def find_request_id(fields: Fields) -> str:
    """The client's own id if its characters and length are allowed, else a new id."""
    given = fields.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return make_request_id()

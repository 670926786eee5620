"""The entries of the route table: path, handler, scope, and types of query, body and response."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import msgspec

from service.access.api_keys import Scope
from service.errors import Problem
from service.http.request import Request
from service.http.responses import Response

IDEMPOTENT_METHODS = frozenset({"POST", "PATCH"})
"""The methods for which Idempotency-Key is honoured."""
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class AnyQuery(msgspec.Struct):
    """The query of a page for people: whatever a link carries, such as utm_source."""


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query of a route without query parameters."""


class NoBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST without a body type: empty, or an empty object."""

    may_be_absent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One entry of the route table."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    """The scope that a key needs; None: open to all."""
    summary: str
    body: Any = None
    query: type[msgspec.Struct] = NoQuery
    reply: Any = None
    status: int = 200
    errors: tuple[type[Problem], ...] = ()
    """Problems that do not follow from the other fields, such as Conflict."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Further statuses whose body is not an error, each with the type of its body."""
    has_etag: bool = False
    """Whether the response has an ETag with the version of the lead."""
    names_tenant: bool = False
    """Whether the response has the header Leadlog-Tenant."""
    stores_idempotent_response: bool = False
    """Whether the handler's own statement stores the response to an Idempotency-Key."""
    shows_secret: bool = False
    """Whether the response shows a secret; it is encrypted when it is stored."""
    shed_first: bool = False
    """Whether a request is refused at once if it would wait too long for a connection."""
    may_wait_s: float = 0.0
    """How long the handler may wait for an event, in a long poll."""
    media_type: str | None = None
    """The media type of a response that is not a struct."""
    route: str = field(init=False)
    """The name of the route in plans, such as `POST /leads`."""
    is_idempotent: bool = field(init=False)
    """Whether Idempotency-Key is honoured."""
    refuses_body: bool = field(init=False)
    """Whether a body with content is refused."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "route", f"{self.method} {self.path}")
        object.__setattr__(self, "is_idempotent", self.method in IDEMPOTENT_METHODS)
        object.__setattr__(self, "refuses_body", self.method == "POST" and self.body is None)

"""The errors of requests, as one tree.

Problem
├── InvalidRequest        400  bad JSON, wrong type, missing, unknown, read-only, out of range
├── Unauthorized          401  no API key, or an unknown, revoked or expired one
├── Forbidden             403  the key's scope is too small
├── NotFound              404  nothing with this id, or it belongs to another tenant
├── MethodNotAllowed      405  with Allow
├── Conflict              409  e-mail of another lead; the same request is still being handled
├── PreconditionFailed    412  If-Match does not match the version
├── PayloadTooLarge       413  body larger than the limit
├── UnsupportedMediaType  415  body is not JSON
├── Unprocessable         422  well-formed but impossible
├── RateLimited           429  over a limit of the plan, with Retry-After and X-RateLimit-…
├── InternalError         500  a defect of the service; without details
└── Unavailable           503  database away or overloaded, with Retry-After

A handler raises a Problem; the middleware renders it. Nothing is written if one is raised.
"""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

ErrorCode = Literal[
    "invalid_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "conflict",
    "precondition_failed",
    "payload_too_large",
    "unsupported_media_type",
    "unprocessable",
    "rate_limited",
    "internal_error",
    "unavailable",
]
MOST_LISTED = 50
"""Largest number of faults in `details`; `moreFaults` counts the others."""
_LONGEST_FIELD, _LONGEST_MESSAGE = 200, 600


class Fault(msgspec.Struct, frozen=True):
    """An error in one field: its dotted path, a code and a sentence."""

    field: str
    code: str
    message: str


class FaultList:
    """The first faults of a request, and the number of the others."""

    __slots__ = ("codes", "listed", "more")

    def __init__(self) -> None:
        self.listed: list[Fault] = []
        self.more = 0
        self.codes: set[str] = set()

    def __len__(self) -> int:
        return len(self.listed) + self.more

    def add(self, faults: Iterable[Fault]) -> None:
        """Add faults to the list; when it is full, only count them."""
        for fault in faults:
            self.codes.add(fault.code)
            if self.is_full:
                self.more += 1
            else:
                self.listed.append(_shorten(fault))

    def count(self, code: str, number: int = 1) -> None:
        """Count faults without a message: thousands of messages would take long."""
        if number:
            self.codes.add(code)
            self.more += number

    @property
    def is_full(self) -> bool:
        """Whether further faults are only counted."""
        return len(self.listed) >= MOST_LISTED


def _shorten(fault: Fault) -> Fault:
    """Limit field and message, which may repeat input of the client."""
    if len(fault.field) <= _LONGEST_FIELD and len(fault.message) <= _LONGEST_MESSAGE:
        return fault
    return Fault(
        clip(fault.field, _LONGEST_FIELD), fault.code, clip(fault.message, _LONGEST_MESSAGE)
    )


def clip(text: str, length: int) -> str:
    """The text, cut to `length` characters with an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


class Problem(Exception):  # noqa: N818  # as in RFC 9457, problem details
    """An error response: status, code, message, and optional details and headers."""

    status: ClassVar[int]
    code: ClassVar[ErrorCode]

    def __init__(
        self,
        message: str,
        *,
        details: list[Fault] | None = None,
        more_faults: int = 0,
        existing_lead_id: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = clip(message, _LONGEST_MESSAGE)
        self.details = details
        self.more_faults = more_faults
        self.existing_lead_id = existing_lead_id
        self.headers = headers or {}


class InvalidRequest(Problem):
    status, code = 400, "invalid_request"


class Unauthorized(Problem):
    status, code = 401, "unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    status, code = 403, "forbidden"


class NotFound(Problem):
    status, code = 404, "not_found"


class MethodNotAllowed(Problem):
    status, code = 405, "method_not_allowed"


class Conflict(Problem):
    status, code = 409, "conflict"


class PreconditionFailed(Problem):
    status, code = 412, "precondition_failed"


class PayloadTooLarge(Problem):
    status, code = 413, "payload_too_large"


class UnsupportedMediaType(Problem):
    status, code = 415, "unsupported_media_type"


class Unprocessable(Problem):
    status, code = 422, "unprocessable"


class RateLimited(Problem):
    status, code = 429, "rate_limited"


class InternalError(Problem):
    status, code = 500, "internal_error"


OVERLOADED = "The service is overloaded; try again shortly."


class Unavailable(Problem):
    status, code = 503, "unavailable"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class Overloaded(Unavailable):
    """Too many requests to handle in time."""

    def __init__(self) -> None:
        super().__init__(OVERLOADED)


class ErrorBody(msgspec.Struct, kw_only=True):
    """The error. `doc_url` is snake_case as in the reference."""

    code: ErrorCode
    message: str
    details: Annotated[list[Fault], Meta(max_length=MOST_LISTED)] | UnsetType = UNSET
    more_faults: Annotated[int, Meta(ge=1)] | UnsetType = msgspec.field(
        name="moreFaults", default=UNSET
    )
    existing_lead_id: str | UnsetType = msgspec.field(name="existingLeadId", default=UNSET)
    doc_url: str


class ErrorResponse(msgspec.Struct):
    """The body of every response with a status of 400 or above, except that of `/health/ready`."""

    error: ErrorBody


def make_error_response(problem: Problem, doc_url: str) -> ErrorResponse:
    """Make the body of an error response; `doc_url` is the address of the documentation."""
    return ErrorResponse(
        ErrorBody(
            code=problem.code,
            message=problem.message,
            details=UNSET if problem.details is None else problem.details,
            more_faults=problem.more_faults or UNSET,
            existing_lead_id=problem.existing_lead_id or UNSET,
            doc_url=make_doc_url(doc_url, problem.code),
        )
    )


def encode_problem(problem: Problem, doc_url: str) -> bytes:
    """The JSON body of an error response."""
    return msgspec.json.encode(make_error_response(problem, doc_url))


def make_doc_url(base: str, code: str) -> str:
    """Where the documentation explains a code; service/docs/guides/errors.md has the anchor."""
    return f"{base.rstrip('/')}/errors#{code}"

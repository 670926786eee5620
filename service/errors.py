"""What can go wrong with a request, as one tree.

Problem
├── InvalidRequest        400  bad JSON, wrong type, missing, unknown, read-only, out of range
├── Unauthorized          401  no key, or one that does not work
├── Forbidden             403  the key's scope is too small
├── NotFound              404  no such thing, or not yours
├── MethodNotAllowed      405  with Allow
├── Conflict              409  e-mail taken by another lead; the same request still at work
├── PreconditionFailed    412  If-Match names another version
├── PayloadTooLarge       413  body over the limit
├── UnsupportedMediaType  415  body is not JSON
├── Unprocessable         422  well-formed but impossible
├── RateLimited           429  more than the key's plan allows, with Retry-After and X-RateLimit-…
├── InternalError         500  ours; shows nothing of the inside
└── Unavailable           503  database away or overloaded, with Retry-After

A handler raises one; `service.app` renders it. Nothing is written when one is raised.
"""

from typing import ClassVar

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with one field: `field` as a dotted path, `code`, a sentence."""

    field: str
    code: str
    message: str


class Problem(Exception):  # noqa: N818  # the word for an error on the wire
    """An error on the wire: status, code, one sentence, and what else belongs to it."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        details: list[Fault] | None = None,
        existing_lead_id: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
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


TOO_MUCH = "More is asked for than can be done in time; try again shortly."


class Unavailable(Problem):
    status, code = 503, "unavailable"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class Overloaded(Unavailable):
    """More is asked for than can be done in time; there are many of these, so they are cheap."""

    def __init__(self) -> None:
        super().__init__(TOO_MUCH)


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The inside of `{"error": …}`; `doc_url` is snake_case as in the reference."""

    code: str
    message: str
    details: list[Fault] | None = None
    existing_lead_id: str | None = msgspec.field(name="existingLeadId", default=None)
    doc_url: str = ""


class ErrorReply(msgspec.Struct):
    error: ErrorBody


def encode_problem(problem: Problem, doc_url: str) -> bytes:
    """The JSON body of an error reply."""
    body = ErrorBody(
        code=problem.code,
        message=problem.message,
        details=problem.details,
        existing_lead_id=problem.existing_lead_id,
        doc_url=doc_url,
    )
    return msgspec.json.encode(ErrorReply(body))
